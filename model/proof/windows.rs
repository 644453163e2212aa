//! The crash windows: a row for every instant between two changes on disk.

use super::graph::node;
use super::mutants::Mutant;
use super::ways_out::TO_SQL;
use super::world::{Claim, Names, Target, Thing, World};
use cutover::protocol::{Intent, Session, Step, classify, next};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A way through the states, and the tests that kill real processes on it.
struct Story {
    name: &'static str,
    /// What was wanted before it begins.
    before: &'static [Intent],
    /// Whether the SQL file is deleted then.
    lost: bool,
    wanted: &'static [Intent],
    /// How a start goes on that finds a state.
    goes_on: &'static [Intent],
    tests: &'static str,
}

const BEGIN: Intent = TO_SQL[0];

const STORIES: [Story; 7] = [
    Story {
        name: "A migration",
        before: &[],
        lost: false,
        wanted: &TO_SQL,
        goes_on: &[Intent::Copy, Intent::Finish, Intent::UseSql, BEGIN],
        tests: "i1_i2_i7_a_kill_at_any_point_of_a_migration_leaves_one_writer_and_the_next_start_ends_it",
    },
    Story {
        name: "Going on from what was prepared",
        before: &[BEGIN, Intent::Prepare],
        lost: false,
        wanted: &[Intent::Copy],
        goes_on: &[Intent::Copy, Intent::Finish],
        tests: "i1_i7_a_kill_at_any_point_of_going_on_from_what_was_prepared_ends_in_sql",
    },
    Story {
        name: "An abort",
        before: &[BEGIN],
        lost: false,
        wanted: &[Intent::Abort],
        goes_on: &[Intent::Abort, Intent::UseKv],
        tests: "i3_a_kill_at_any_point_of_an_abort_gives_the_stores_back",
    },
    Story {
        name: "A way back from the commit point",
        before: &[BEGIN, Intent::Copy],
        lost: false,
        wanted: &[Intent::AbortCommitted],
        goes_on: &[Intent::AbortCommitted, Intent::Abort, Intent::UseKv],
        tests: "i1_i3_a_kill_at_any_point_of_a_way_back_from_the_commit_point_gives_the_stores_back",
    },
    Story {
        name: "A rerun",
        before: &TO_SQL,
        lost: true,
        wanted: &[Intent::Rerun, Intent::Copy, Intent::Finish, Intent::UseSql],
        goes_on: &[Intent::Rerun, Intent::Copy, Intent::Finish, Intent::UseSql],
        tests: "i1_i6_a_kill_at_any_point_of_a_rerun_ends_with_every_pair_once",
    },
    Story {
        name: "Restoring the KV stores",
        before: &TO_SQL,
        lost: true,
        wanted: &[Intent::RestoreKv],
        goes_on: &[Intent::RestoreKv, Intent::UseKv],
        tests: "i5_a_kill_at_any_point_of_restoring_gives_the_stores_back",
    },
    Story {
        name: "A reclaim",
        before: &TO_SQL,
        lost: false,
        wanted: &[Intent::Reclaim],
        goes_on: &[Intent::Reclaim],
        tests: "i1_i5_a_kill_at_any_point_of_reclaiming_keeps_the_names_taken",
    },
];

fn thing(thing: Thing) -> String {
    match thing {
        Thing::Nothing => "–".to_owned(),
        Thing::Store(store) if store.held => "store, locked".to_owned(),
        Thing::Store(_) => "store".to_owned(),
        Thing::Marker(marker) => format!("{} {}", marker.stage.word(), marker.run.attempt),
        Thing::Damaged => "a torn marker".to_owned(),
        Thing::Foreign => "another file".to_owned(),
    }
}

fn disk(world: &World<1>) -> String {
    let Names { path, retired, temporary, .. } = world.sources[0].seen;
    let record = match world.targets[0].seen {
        Target::None => "–".to_owned(),
        Target::Record(record) => format!("{} {}", record.stage.word(), record.run.attempt),
        Target::Hidden(..) => "hidden".to_owned(),
    };
    let claim = match world.claims[0].seen {
        Claim::None => "–",
        Claim::Id(_) => "ours",
        Claim::Unreadable => "unreadable",
    };
    let temporary = if temporary { ", temporary" } else { "" };
    format!("{}{temporary} | {} | {record} | {claim}", thing(path), thing(retired))
}

/// What a start finds in a world, and the first thing that it does about it.
fn found(world: &World<1>, goes_on: &[Intent]) -> (String, String) {
    let seen = world.observe();
    let state = classify(&seen).map_or_else(|told| format!("{told:?}"), |state| node(state).into());
    let confirmed = Session { confirmed: true, ..Session::default() };
    let step = goes_on.iter().find_map(|intent| match next(&seen, *intent, &confirmed) {
        Ok(Step::Done(_)) | Err(_) => None,
        Ok(step) => Some(super::mutants::kind(world, step)),
    });
    (state, step.unwrap_or("nothing").to_owned())
}

/// Does what `intents` want, and tells of every change.
fn play(world: &mut World<1>, intents: &[Intent], tell: &mut dyn FnMut(&World<1>, String)) {
    for intent in intents {
        let mut session = Session::default();
        loop {
            let chosen = Mutant::Shipped.choose(world, *intent, &session);
            let (step, changes) = chosen.expect("a step");
            if let Step::Done(_) = step {
                break;
            }
            let kind = super::mutants::kind(world, step);
            let all = changes.len();
            for (number, change) in changes.into_iter().enumerate() {
                world.apply(change).expect("it is possible");
                // What is confirmed changes nothing that anybody sees.
                if number + 1 == all || !matches!(step, Step::Confirm { .. }) {
                    tell(world, format!("{kind}: {}", change.name()));
                }
            }
            session.done(step);
        }
    }
}

#[test]
fn the_crash_windows_are_those_that_are_written_down() {
    let mut text = String::new();
    let mut rows = 0;
    for story in STORIES {
        let mut world = World::<1>::fresh(0);
        play(&mut world, story.before, &mut |_, _| {});
        if story.lost {
            world.targets[0].change(Target::None);
            world.targets[0].sync();
        }
        writeln!(text, "\n## {}\n\nKilled at every one in `{}`.\n", story.name, story.tests)
            .unwrap();
        text.push_str(
            "| after | path | retired | record | claim | a kill leaves | and a power cut | the next start goes on with |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        let mut row = |world: &World<1>, behind: String| {
            rows += 1;
            let (state, step) = found(world, story.goes_on);
            let cuts: BTreeSet<String> =
                world.cuts().iter().map(|cut| found(cut, story.goes_on).0).collect();
            let others: Vec<String> = cuts.into_iter().filter(|cut| *cut != state).collect();
            let others = if others.is_empty() { "the same".to_owned() } else { others.join(", ") };
            let disk = disk(world);
            writeln!(text, "| {behind} | {disk} | {state} | {others} | {step} |").unwrap();
        };
        row(&world, "the beginning".to_owned());
        play(&mut world, story.wanted, &mut row);
    }
    let head = format!(
        "# Crash windows\n\n\
         Every instant between two changes on disk, {rows} of them, with one source: what stands \
         where, what a start finds\nafter a kill, what else it may find after a power cut, and what \
         it does first, once it has confirmed what it found.\nA number is an attempt. With more \
         sources, the rows of a source are repeated for each.\nWritten by \
         `CUTOVER_PIN=1 cargo test --all-features --test model the_crash_windows`.\n"
    );
    crate::common::pinned("docs/crash-windows.md", &(head + &text));
}
