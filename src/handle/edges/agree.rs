//! The table of the methods leaves none out, and agrees with the protocol.

use super::without_or_with_another_ticket::TICKETS;
use super::{ROWS, Row};
use crate::protocol::tests::closure::INTENTS;
use crate::protocol::tests::matrix::{ID, every_observation};
use crate::protocol::{Intent, NotAllowed, Session, State, Step, classify_with_target, next};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The columns of the table.
const STATES: [&str; 5] = ["Fresh", "Migrating", "Committed", "Tombstoned", "RerunAllowed"];

const FIRST: State = State::Migrating { rerun: false };
const RERUN: State = State::Migrating { rerun: true };

/// Edges of the protocol that no method of the state begins: a method that another state has goes
/// on over them. A move takes many steps, and the state changes on the way.
const GOES_ON: [(State, Intent, &str); 9] = [
    (FIRST, Intent::Begin(ID), "the first source is sealed, others are not yet"),
    (FIRST, Intent::AbortCommitted, "the record is gone, and sources are still sealed"),
    (RERUN, Intent::AbortCommitted, "as for Abort: the ticket allows more than is lost"),
    (State::Tombstoned, Intent::Finish, "the target is live, its markers are not final yet"),
    (State::Fresh, Intent::Abort, "the last source is open, leftovers are not tidied yet"),
    (State::Fresh, Intent::AbortCommitted, "as for Abort"),
    (State::Fresh, Intent::RestoreKv, "as for Abort"),
    (State::RerunAllowed, Intent::Abort, "the rerun's record is gone, a second lock is lifted"),
    (State::RerunAllowed, Intent::AbortCommitted, "as for Abort"),
];

/// Edges that lead nowhere: what the intent wants is reached, and no step is taken.
const REACHED: [(State, Intent); 4] = [
    (RERUN, Intent::Begin(ID)),
    (State::Committed, Intent::Copy),
    (State::Tombstoned, Intent::Copy),
    (RERUN, Intent::Rerun),
];

impl Row {
    fn method(&self) -> &str {
        self.call.split('(').next().unwrap()
    }

    fn is_of(&self, state: &str) -> bool {
        STATES.iter().zip(self.cells).any(|(column, cell)| *column == state && cell == "ok")
    }
}

/// Each method that the sources under `folder` give a handle: the state, its name, and whether it
/// takes the handle.
fn methods(folder: &Path, found: &mut BTreeSet<(String, String, &'static str)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            methods(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            // An indented block would not be read.
            let of_a_handle =
                |l: &&str| l.trim_start().starts_with("impl") && l.contains(" Handle<");
            assert!(text.lines().filter(of_a_handle).all(|line| line.starts_with("impl")));
            let blocks = text.split("\nimpl").skip(1).map(|rest| rest.split("\n}").next().unwrap());
            for block in blocks {
                methods_of(block, found);
            }
        }
    }
}

fn methods_of(block: &str, found: &mut BTreeSet<(String, String, &'static str)>) {
    let head = block.lines().next().unwrap();
    let states = match head.split_once("Handle<") {
        Some(_) if head.contains(" for ") => panic!("a trait for a handle adds methods:{head}"),
        Some(("<S: Stage> ", "S> {")) => STATES.to_vec(),
        Some((" ", rest)) => vec![rest.strip_suffix("> {").unwrap()],
        Some(_) => panic!("a handle with methods of another form:{head}"),
        None => return,
    };
    let public = ["\n    pub fn ", "\n    pub const fn "];
    for method in public.iter().flat_map(|start| block.split(start).skip(1)) {
        let (name, rest) = method.split_once('(').unwrap();
        let kind = match rest.split([',', ')']).next().unwrap().trim() {
            "self" => "takes",
            "&self" | "&mut self" => "looks",
            other => panic!("{name}({other}): a handle comes from a look or a move alone"),
        };
        for state in &states {
            assert!(found.insert(((*state).to_owned(), name.to_owned(), kind)), "{state} {name}");
        }
    }
}

#[test]
fn every_method_that_a_handle_has_is_in_the_table_at_its_state_and_no_other_is() {
    let mut found = BTreeSet::new();
    methods(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let mut told = BTreeSet::new();
    for row in ROWS {
        for state in STATES.into_iter().filter(|state| row.is_of(state)) {
            let cell = (state.to_owned(), row.method().to_owned(), row.kind);
            assert!(told.insert(cell), "{} has two rows for {state}", row.method());
        }
    }
    assert_eq!(told, found);
    assert_eq!(told.len(), 32);
}

#[test]
fn what_stops_a_move_is_that_there_is_no_such_method_or_that_it_wants_other_arguments() {
    for row in ROWS {
        for (state, cell) in STATES.into_iter().zip(row.cells) {
            let same_name = |other: &&Row| other.method() == row.method() && other.is_of(state);
            let wanted = match ROWS.iter().find(same_name) {
                Some(other) if other.call == row.call => "ok",
                Some(_) => "E0061",
                None => "E0599",
            };
            assert_eq!(cell, wanted, "{} from {state}", row.call);
        }
    }
}

#[test]
fn every_ticket_is_for_one_method_and_is_tried_with_every_other() {
    let source = include_str!("../mod.rs");
    let after = |start: &str, end: &str| -> Vec<String> {
        let rest = source.split(start).skip(1);
        rest.map(|rest| rest.split(end).next().unwrap().to_owned()).collect()
    };
    let tickets = after("    pub struct ", "(");
    assert_eq!(tickets.len(), 7);
    let mut asked_for: Vec<String> = after("ticket: ticket::", ")");
    asked_for.sort();
    let mut sorted = tickets.clone();
    sorted.sort();
    assert_eq!(asked_for, sorted, "each ticket is one method's");
    let mut rows: Vec<&str> = TICKETS.iter().map(|(own, ..)| *own).collect();
    rows.sort_unstable();
    assert_eq!(rows, sorted);
    for (own, without, cells) in TICKETS {
        assert_eq!(*without, "E0061", "{own}");
        let mut columns: Vec<&str> = cells.iter().map(|(ticket, _)| *ticket).collect();
        columns.sort_unstable();
        assert_eq!(columns, sorted, "{own}");
        let wanted = |ticket: &str| if ticket == *own { "ok" } else { "E0308" };
        assert!(cells.iter().all(|(ticket, cell)| *cell == wanted(ticket)), "{own}");
    }
}

fn name(intent: Intent) -> String {
    format!("{intent:?}").split('(').next().unwrap().to_owned()
}

/// What `next` answers, over every observation of one and of two sources that is this state.
#[derive(Default)]
struct Answers {
    edges: u32,
    reached: u32,
    refused: u32,
}

fn answers() -> BTreeMap<(State, String), Answers> {
    let mut all: BTreeMap<(State, String), Answers> = BTreeMap::new();
    let confirmed = Session { confirmed: true, ..Session::default() };
    for count in [1, 2] {
        every_observation(count, &mut |seen| {
            let Ok(state) = classify_with_target(seen) else { return };
            for intent in INTENTS {
                let counted = all.entry((state, name(intent))).or_default();
                match next(seen, intent, &confirmed) {
                    Ok(Step::Done(end)) if end == state => counted.reached += 1,
                    Ok(_) | Err(NotAllowed::Restoring) => counted.edges += 1,
                    Err(NotAllowed::State(from)) => {
                        assert_eq!(from, state);
                        counted.refused += 1;
                    }
                    Err(other) => panic!("{other} for {intent:?} from {seen:?}"),
                }
            }
        });
    }
    all
}

#[test]
fn the_protocol_refuses_an_intent_just_where_no_handle_has_a_method_for_it() {
    let answers = answers();
    let states =
        [State::Fresh, FIRST, RERUN, State::Committed, State::Tombstoned, State::RerunAllowed];
    for state in states {
        for intent in INTENTS {
            let Answers { edges, reached, refused } = answers[&(state, name(intent))];
            let asks = |row: &&Row| row.intent == name(intent) && row.is_of(state.name());
            let goes_on =
                GOES_ON.iter().find(|(from, wanted, _)| (*from, *wanted) == (state, intent));
            let is_reached = REACHED.contains(&(state, intent));
            let case =
                format!("{intent:?} from {state:?}: {edges} {reached} {refused} {goes_on:?}");
            match (ROWS.iter().find(asks), goes_on, is_reached) {
                (Some(_), None, false) | (None, Some(_), false) => {
                    assert!(edges > 0 && refused == 0, "{case}");
                }
                (None, None, true) => assert!(edges == 0 && reached > 0 && refused == 0, "{case}"),
                (None, None, false) => assert!(edges == 0 && reached == 0 && refused > 0, "{case}"),
                (Some(_), Some(_), _) | (_, Some(_), true) | (Some(_), _, true) => {
                    panic!("listed twice: {case}");
                }
            }
        }
    }
}
