//! Whole lives of a migration in the model's world: whatever is wanted, killed, failed and cut, and
//! whatever an operator does to any file, in any order and number, the invariants hold. The model
//! walks every world that it can; this samples lives of more sources, and of more acts of an
//! operator, than can be walked.

#![no_main]

#[path = "../../model/proof"]
#[expect(dead_code, reason = "a search needs more of it than one life")]
mod proof {
    pub(crate) mod fact;
    pub(crate) mod hands;
    pub(crate) mod invariants;
    pub(crate) mod life;
    pub(crate) mod mutants;
    pub(crate) mod search;
    pub(crate) mod ways_out;
    pub(crate) mod world;
}

use cutover::protocol::Step;
use cutover_fuzz::rules;
use libfuzzer_sys::fuzz_target;
use proof::life::{Faults, Life, Move};
use proof::mutants::Mutant;
use proof::search::System;
use proof::world::World;

/// Whole migrations of three sources, several times over.
const MOVES_MAX: usize = 400;

// The first two bytes choose the faults, the number of sources, and how many of them are missing.
// Then a byte below 128 says what is wanted, or how many moves the process makes undisturbed; from
// 128 on, with the next byte, it says what else happens. A finding is told move by move.
fuzz_target!(|life: &[u8]| {
    let mut bytes = life.iter().copied();
    let (kind, missing) = (bytes.next().unwrap_or(0), bytes.next().unwrap_or(0));
    let faults = match kind % 3 {
        0 => Faults::PowerCuts,
        1 => Faults::OldCopiesAndCuts,
        _ => Faults::HandsAndCuts(3),
    };
    match kind / 3 % 2 {
        0 => live::<2>(faults, missing, bytes),
        _ => live::<3>(faults, missing, bytes),
    }
});

fn live<const N: usize>(faults: Faults, missing: u8, mut bytes: impl Iterator<Item = u8>) {
    let missing = usize::from(missing) % (N + 1);
    let mut life = Life::<N>::new(faults, Mutant::Shipped);
    let mut world = World::fresh(missing);
    let mut lived: Vec<Move> = Vec::new();
    // What the process does before anything else can happen.
    let mut undisturbed = 0;
    while lived.len() < MOVES_MAX {
        let (own, others): (Vec<_>, Vec<_>) =
            life.moves(&world).into_iter().partition(|(happens, _)| is_own(happens));
        let goes_on = world.working.is_some() && !own.is_empty();
        let (mut moves, number) = if goes_on && undisturbed > 0 {
            undisturbed -= 1;
            (own, 0)
        } else {
            let Some(byte) = bytes.next() else { return };
            if (byte < 128 || others.is_empty()) && !own.is_empty() {
                undisturbed = if goes_on { byte } else { 0 };
                (own, usize::from(byte))
            } else {
                let next = bytes.next().unwrap_or(0);
                (others, usize::from(u16::from_be_bytes([byte % 128, next])))
            }
        };
        if moves.is_empty() {
            return;
        }
        let (happens, after) = moves.swap_remove(number % moves.len());
        let broken = rule(&world, &happens)
            .or_else(|| life.violation(&world, &happens, &after))
            .or_else(|| life.visit(&after));
        lived.push(happens);
        if let Some(broken) = broken {
            let lived: Vec<String> = lived.iter().map(|happens| format!("{happens:?}")).collect();
            let lived = lived.join("\n  ");
            panic!("{broken}: {N} sources, {missing} missing, {faults:?}\n  {lived}\n{after:#?}");
        }
        world = after;
    }
}

/// Whether it is what a process does that nothing disturbs.
fn is_own(happens: &Move) -> bool {
    match happens {
        Move::Start(_) | Move::Does(..) | Move::Done(..) => true,
        Move::Fails(_)
        | Move::Skips(_)
        | Move::Killed
        | Move::PowerCut
        | Move::StockWrite(_)
        | Move::Operator(_) => false,
    }
}

/// The rule that the process breaks with the step that it begins.
fn rule<const N: usize>(world: &World<N>, happens: &Move) -> Option<String> {
    let step = match *happens {
        Move::Does(step, _) => step,
        Move::Done(_, state) => Step::Done(state),
        _ => return None,
    };
    let process = world.working.as_ref().filter(|process| process.doing.is_none())?;
    let rule = rules::broken(&world.observe(), process.intent, &process.session, step)?;
    Some(format!("{rule}: {step:?} for {:?}", process.intent))
}
