//! The proof that a machine can do: a model of everything that touches a migration, in which the
//! shipped `classify` and `next` are followed, and searches that go through all of it.

mod fact;
mod graph;
pub mod hands;
mod inductive;
pub mod invariants;
pub mod life;
mod mistakes;
mod mutants;
mod openers;
mod processes;
mod rivals;
mod search;
mod ways_out;
mod windows;
pub mod world;

use crate::common::pins;
use cutover::protocol::{Contradiction, Intent};
use life::{Faults, Life, Met};
use mutants::Mutant;
use search::explore;
use std::collections::BTreeSet;
use ways_out::TO_SQL;
use world::{Target, World};

/// The shipped protocol: nothing is broken, and the number of worlds is pinned; with `CUTOVER_PIN=1` it
/// is printed alone.
fn holds<const N: usize>(faults: Faults, worlds: usize) -> Met {
    let mut life = Life::<N>::new(faults, Mutant::Shipped);
    let explored = explore(&mut life, usize::MAX);
    if let Some((broken, trace)) = explored.broken {
        panic!("{broken}:\n  {}", trace.join("\n  "));
    }
    println!(
        "{N} sources, {faults:?}: {} worlds, {} moves, {:?}",
        explored.worlds, explored.moves, life.met.states
    );
    assert!(pins() || explored.worlds == worlds, "{N} sources, {faults:?}: not {worlds}");
    life.met
}

/// The largest worlds are walked where the sweeps are asked to be long.
fn is_long() -> bool {
    crate::common::samples() >= 100
}

#[test]
fn i1_to_i8_hold_in_every_world_that_kills_failures_and_power_cuts_lead_to() {
    holds::<1>(Faults::PowerCuts, 20_598);
    holds::<2>(Faults::PowerCuts, 371_047);
    if is_long() {
        holds::<3>(Faults::PowerCuts, 6_710_602);
    }
}

#[test]
fn i1_to_i8_hold_in_every_world_where_an_older_sql_file_turns_up() {
    holds::<1>(Faults::OldCopies, 278_542);
    if is_long() {
        holds::<1>(Faults::OldCopiesAndCuts, 2_157_282);
        holds::<2>(Faults::OldCopies, 7_274_678);
    }
}

#[test]
fn i1_to_i8_hold_in_every_world_where_an_operator_does_anything_to_any_file() {
    holds::<1>(Faults::Hands(1), 575_640);
    if is_long() {
        holds::<1>(Faults::HandsAndCuts(1), 5_040_885);
    }
}

/// The SQL file is deleted, and nothing has made that durable; the plan names another place, and the
/// old one is said to be gone for good. Who then gives the KV stores back makes sure that it is.
#[test]
fn i1_a_target_that_was_deleted_and_replaced_does_not_come_back_after_a_power_cut() {
    let way = [Intent::ReplaceTarget, Intent::RestoreKv];
    let mut lost = ways_out::follow(&World::<1>::fresh(0), &TO_SQL, Mutant::Shipped).expect("SQL");
    lost.targets[0].change(Target::None);
    lost.place = 1;
    let forgets = Mutant::Drops("Confirm", "syncs the other targets", 0);
    for (mutant, comes_back) in [(Mutant::Shipped, false), (forgets, true)] {
        let end = ways_out::follow(&lost, &way, mutant).expect("the KV stores");
        let both = end.cuts().iter().any(|cut| cut.may_be_live() && cut.is_open(0));
        assert_eq!(both, comes_back, "{mutant:?}");
    }
}

/// What is never met is shown by nothing.
#[test]
fn every_state_every_step_and_every_contradiction_is_met() {
    let mut met = vec![
        holds::<1>(Faults::PowerCuts, 20_598),
        holds::<1>(Faults::OldCopies, 278_542),
        holds::<1>(Faults::Hands(1), 575_640),
    ];
    // Two sources that are mixed up: the first worlds of a migration, and those of a rerun.
    let beginning = World::fresh(0);
    let live = ways_out::follow(&beginning, &TO_SQL, Mutant::Shipped).expect("a way to SQL");
    let lost = World { targets: beginning.targets.clone(), ..live };
    let rerun = ways_out::follow(&lost, &[Intent::Rerun], Mutant::Shipped).expect("a rerun");
    for start in [beginning, rerun] {
        let mut two = Life::<2>::new(Faults::Hands(1), Mutant::Shipped).starting_from(start);
        explore(&mut two, 100_000);
        met.push(two.met);
    }
    let all = |of: fn(&Met) -> Vec<String>| met.iter().flat_map(of).collect::<BTreeSet<String>>();
    let states = all(|met| met.states.keys().map(|state| format!("{state:?}")).collect());
    let steps = all(|met| met.steps.keys().map(|step| (*step).to_owned()).collect());
    let contradictions = all(|met| {
        let name = |told: &Contradiction| format!("{told:?}").split('(').next().map(str::to_owned);
        met.contradictions.iter().filter_map(name).collect()
    });
    println!("{states:?}\n{steps:?}\n{contradictions:?}");
    assert_eq!((states.len(), steps.len(), contradictions.len()), (6, 23, 36));
}
