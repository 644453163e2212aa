//! Conformance: random sequences of the same actions against the model and against the real thing,
//! with real fjall, real SQLite, real files and killed processes.
//!
//! A kill or a failing call leaves one of several worlds, so the reference is the set of all worlds
//! that the model allows, and the real thing says which of them it is: by what is seen on disk, by
//! the rows, and by the steps that the driver tells before it takes them.

mod act;
mod by_hand;
mod compare;
pub mod disk;
mod follow;
mod real;
mod reference;
mod variants;

use crate::common::samples;
use crate::proof::hands::Act as Hand;
use crate::proof::life::Faults;
use act::{Act, Told};
use cutover::protocol::State;
use follow::{Call, Strike, follow};
use proptest::test_runner::{Config, TestError, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use real::{MET, Real};
use reference::{Happens, Reference, WRITTEN, start};

#[test]
fn i1_i2_i3_i6_i7_the_model_and_the_real_thing_agree_after_every_action() {
    let cases = u32::try_from(samples() * 20).expect("a small number");
    let config =
        Config { cases, max_shrink_iters: 60, source_file: Some(file!()), ..Config::default() };
    let mut runner = TestRunner::new(config.clone());
    let sequences = <Reference as ReferenceStateMachine>::sequential_strategy(1..13);
    let ran = runner.run(&sequences, |(start, happens, seen)| {
        <Reference as StateMachineTest>::test_sequential(config.clone(), start, happens, seen);
        Ok(())
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(reason, _) | TestError::Abort(reason)) => panic!("{reason}"),
    }
    MET.with_borrow(|met| {
        println!("{met:?}");
        assert!(met.killed > 0 && met.failed > 0 && met.hands > 0);
        assert_eq!(met.states.len(), 6, "every state was met, and contradictions");
    });
}

/// A story that was found once, told step by step.
fn agree(hands: Faults, story: &[Happens]) -> Real {
    let mut reference = Reference { worlds: vec![start(0)], hands, contents: WRITTEN };
    let mut real = <Reference as StateMachineTest>::init_test(&reference);
    for happens in story {
        reference = <Reference as ReferenceStateMachine>::apply(reference, happens);
        real = <Reference as StateMachineTest>::apply(real, &reference, happens.clone());
    }
    real
}

const fn call(act: Act, strike: Option<Strike>) -> Happens {
    Happens::Call(Call { act, strike })
}

/// A kill leaves every source marked for restoring, its second lock still set. A rerun is refused,
/// but looked into the stores first, and left their second locks lifted.
#[test]
fn i5_a_rerun_that_is_refused_puts_the_second_lock_back() {
    agree(
        Faults::PowerCuts,
        &[
            call(Act::Sql, None),
            Happens::Hand(Hand::DeletesSql),
            call(Act::RestoreKv, Some(Strike::Kill { step: 4, point: 1 })),
            call(Act::Rerun, None),
        ],
    );
}

/// It tries the places before its first step, and a kill leaves what it tried them with. The table once
/// knew of that in a first migration alone.
#[test]
fn i8_a_rerun_that_is_killed_while_it_tries_the_places_leaves_files_of_its_own_alone() {
    agree(
        Faults::PowerCuts,
        &[
            call(Act::Sql, None),
            Happens::Hand(Hand::DeletesSql),
            call(Act::Rerun, Some(Strike::Kill { step: 0, point: 1 })),
        ],
    );
}

/// Before its first step nothing is changed, and it is told so. The table once knew of no cancel there
/// but one that stops a process part-way.
#[test]
fn i7_a_migration_that_is_cancelled_before_its_first_step_is_refused() {
    agree(Faults::PowerCuts, &[call(Act::Sql, Some(Strike::Cancel { chunks: 0 }))]);
}

/// That the table accepts a trace says something: it accepts no other.
#[test]
fn a_trace_in_which_a_step_is_left_out_or_made_too_early_is_not_accepted() {
    let real = agree(Faults::PowerCuts, &[]);
    let call = Call { act: Act::Sql, strike: None };
    let (told, trace) = real.disk.play(call.act, &real.world, None);
    assert_eq!(told, format!("{:?}", Told::Done(State::Tombstoned)));
    let real_id = &trace[0].split_once("intent: Begin(").expect("it begins").1[..32];
    let model_id = real.world.unused_id().to_string();
    let trace: Vec<String> = trace.iter().map(|l| l.replace(real_id, &model_id)).collect();
    follow(&real.world, call, Some(&trace)).expect("as it was");
    for at in 0..trace.len() {
        let mut without = trace.clone();
        without.remove(at);
        let accepted = follow(&real.world, call, Some(&without));
        assert!(accepted.is_err(), "accepted without {}", trace[at]);
        let mut early = trace.clone();
        early.swap(at, (at + 1) % trace.len());
        let accepted = follow(&real.world, call, Some(&early));
        assert!(accepted.is_err(), "accepted too early: {}", trace[at]);
    }
}
