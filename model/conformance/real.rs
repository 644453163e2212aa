//! The real thing, and which of the model's worlds it is.

use super::disk::Disk;
use super::follow::{self, Call, End, Outcome, SOURCES, Strike, World, follow};
use super::reference::{Happens, Reference, allowed, hands};
use crate::proof::life::Faults;
use crate::proof::world::{Store, Target, Thing};
use cutover::protocol::{RecordStage, Stage, State, Step, classify};
use proptest_state_machine::StateMachineTest;
use std::cell::RefCell;
use std::collections::HashSet;

/// The real thing, and which of the reference's worlds it is.
pub struct Real {
    pub disk: Disk,
    pub world: World,
    hands: Faults,
    /// The model's name for each migration's own id.
    ids: Vec<(String, String)>,
    /// What has happened, for a person to read.
    story: Vec<String>,
}

/// What was met, since what is never met is shown by nothing.
#[derive(Debug, Default)]
pub struct Met {
    pub killed: usize,
    pub failed: usize,
    pub steps: usize,
    pub hands: usize,
    pub states: HashSet<&'static str>,
}

thread_local! {
    pub static MET: RefCell<Met> = RefCell::default();
}

impl StateMachineTest for Reference {
    type SystemUnderTest = Real;
    type Reference = Self;

    fn init_test(reference: &Self) -> Real {
        let world = reference.worlds[0].clone();
        let (disk, hands) = (Disk::new(&world), reference.hands);
        Real { disk, world, hands, ids: Vec::new(), story: Vec::new() }
    }

    fn apply(mut real: Real, reference: &Self, happens: Happens) -> Real {
        real.happens(&happens);
        assert!(
            reference.worlds.contains(&real.world),
            "the reference does not allow {:?}{}",
            real.world,
            real.story()
        );
        real
    }
}

impl Real {
    fn story(&self) -> String {
        format!("\n  {}", self.story.join("\n  "))
    }

    /// Lets it happen, and finds out which world it has left.
    fn happens(&mut self, happens: &Happens) {
        self.story.push(format!("{happens:?}"));
        let before = self.world.clone();
        let outcomes = match happens {
            Happens::Call(call) => self.call(&before, *call),
            Happens::StockWrite { source, content } => {
                if before.is_open(*source) {
                    let found = follow::store_of(before.sources[*source].seen.path);
                    let found = found.map_or(0, |store| store.writes);
                    self.disk.write_kv(*source, found, *content);
                }
                self.outcomes(&before, happens)
            }
            Happens::DaemonWrite(row) => {
                if before.sql_in_use {
                    self.disk.write_sql(&before, *row);
                }
                self.outcomes(&before, happens)
            }
            Happens::Hand(hand) => {
                if hands(&before, self.hands).iter().any(|(act, _)| act == hand) {
                    self.disk.lay_hands(*hand, &before);
                    MET.with_borrow_mut(|met| met.hands += 1);
                }
                self.outcomes(&before, happens)
            }
        };
        self.settle(outcomes);
    }

    fn outcomes(&self, before: &World, happens: &Happens) -> Vec<Outcome> {
        let outcome = |world| Outcome { world, end: End::Stopped(None), broken: None };
        allowed(before, happens, self.hands).into_iter().map(outcome).collect()
    }

    /// Makes the call, and keeps the outcomes of which its caller is told just this.
    fn call(&mut self, before: &World, call: Call) -> Vec<Outcome> {
        let (told, trace) = self.disk.play(call.act, before, call.strike);
        let begun =
            trace.iter().find_map(|line| line.split_once("intent: Begin(")).map(|(_, id)| id);
        if let Some(id) = begun {
            let (real, model) = (id[..32].to_owned(), before.unused_id().to_string());
            self.ids.retain(|(_, other)| *other != model);
            self.ids.push((real, model));
        }
        let trace: Vec<String> = trace.iter().map(|line| self.renamed(line)).collect();
        self.story.push(format!("is told {told} after {} steps", trace.len()));
        MET.with_borrow_mut(|met| {
            met.steps += trace.len();
            met.killed += usize::from(told == "Killed");
            met.failed += usize::from(matches!(told.as_str(), "Interrupted" | "OutcomeUnknown"));
        });
        let mut outcomes = follow(before, call, Some(&trace)).unwrap_or_else(|expected| {
            let told = trace.iter().zip(1..).map(|(line, at)| format!("step {at}: {line}"));
            let told: Vec<String> = told.collect();
            let story = self.story();
            panic!("the table does not accept\n{}\nbut\n{expected}{story}", told.join("\n"))
        });
        let all = format!("{:?}", outcomes.iter().map(|o| o.end).collect::<Vec<_>>());
        outcomes.retain(|outcome| fits(before, call, outcome, &told));
        assert!(!outcomes.is_empty(), "{told} is told, and not one of {all}{}", self.story());
        outcomes
    }

    /// With the model's ids.
    fn renamed(&self, text: &str) -> String {
        self.ids.iter().fold(text.to_owned(), |text, (real, model)| text.replace(real, model))
    }

    /// Finds the world that is on disk, and that nothing is broken in it.
    fn settle(&mut self, mut outcomes: Vec<Outcome>) {
        let plan = self.disk.plan(&outcomes[0].world);
        let seen = cutover::observe(&plan).expect("the next start looks");
        let text = self.renamed(&format!("{seen:?}"));
        let expected: Vec<String> =
            outcomes.iter().map(|o| format!("{:?}", o.world.observe())).collect();
        outcomes.retain(|outcome| format!("{:?}", outcome.world.observe()) == text);
        assert!(
            !outcomes.is_empty(),
            "seen: {text}\nallowed: {}{}",
            expected.join("\n  "),
            self.story()
        );
        // What is copied whole, and not yet said to be, is copied.
        let copied = |outcome: &Outcome| {
            outcome.world.record().map_or(0, |record| record.image.iter().flatten().count())
        };
        outcomes.sort_by_key(|outcome| std::cmp::Reverse(copied(outcome)));
        let mut differences = Vec::new();
        let found = outcomes.into_iter().find(|outcome| {
            let differs = self.disk.differs(&outcome.world);
            differences.extend(differs.clone());
            differs.is_none()
        });
        let Some(Outcome { world, broken, .. }) = found else {
            panic!("{}{}", differences.join("\n"), self.story());
        };
        let broken = broken.or_else(|| follow::broken(&world)).or_else(|| lost(&world));
        assert_eq!(broken, None, "{}", self.story());
        let state = classify(&world.observe());
        if let Ok(state) = state {
            let status = cutover::status(&plan).expect("a status");
            assert_eq!(status.state, state.name(), "a look without locks{}", self.story());
        }
        let name = state.map_or("Contradiction", State::name);
        MET.with_borrow_mut(|met| met.states.insert(name));
        self.story.push(format!("it is {state:?}"));
        self.world = world;
    }
}

/// Whether this may be told of a call that ended so.
fn fits(before: &World, call: Call, outcome: &Outcome, told: &str) -> bool {
    let transacts = |step| {
        matches!(
            step,
            Step::Confirm { record: true }
                | Step::BeginCopy(_)
                | Step::Copy
                | Step::Commit
                | Step::GoLive
                | Step::DropRecord
        )
    };
    let unchanged = || lasting(before) == lasting(&outcome.world);
    match (outcome.end, call.strike) {
        (End::Told(expected), _) => told == format!("{expected:?}"),
        (End::TakenBack, _) => told == "Refused" && unchanged(),
        (End::Stopped(_), Some(Strike::Kill { .. })) => told == "Killed",
        (End::Stopped(_), Some(Strike::Cancel { .. })) => {
            told == "Interrupted" || told == "Refused" && unchanged()
        }
        (End::Stopped(step), Some(Strike::Fail { .. })) => match told {
            "Interrupted" => step.is_some(),
            "OutcomeUnknown" => step.is_some_and(transacts),
            "Refused" => unchanged(),
            _ => false,
        },
        (End::Stopped(_), None) => false,
    }
}

/// What a refusal must leave as it was. A second lock that is found missing is set at every look into
/// a store, and what a killed process left over beside an open source is removed.
fn lasting(world: &World) -> (Vec<(Thing, Thing)>, Target<SOURCES>) {
    let names = world.sources.iter().map(|fact| {
        let retired = match (fact.seen.path, fact.seen.retired) {
            (_, Thing::Store(store)) => Thing::Store(Store { held: true, ..store }),
            (Thing::Nothing | Thing::Store(_), Thing::Marker(_)) => Thing::Nothing,
            (_, other) => other,
        };
        (fact.seen.path, retired)
    });
    (names.collect(), world.targets[world.place].seen)
}

/// I-3, for every content that was ever acknowledged.
fn lost(world: &World) -> Option<String> {
    let live = world.record().filter(|record| record.stage == RecordStage::Live);
    let kept = |at: usize, content: u8| {
        let names = world.sources[at].seen;
        let holds = |thing| follow::store_of(thing).is_some_and(|store| store.writes == content);
        let marked = matches!(names.path, Thing::Marker(_));
        content == 0
            || holds(names.path)
            || (marked && holds(names.retired))
            || live.is_some_and(|record| record.image[at] == Some(content))
    };
    let lost = |at: usize| world.truth[at].is_some_and(|content| !kept(at, content));
    let reclaimed = world.markers().any(|(_, m)| m.stage == Stage::Reclaimed);
    (!world.tampered && !reclaimed && (0..SOURCES).any(lost))
        .then(|| "I-3: what was acknowledged is nowhere".to_owned())
}
