//! I-4: from every world the ways that its state promises lead where they say, without a fault.

use super::mutants::Mutant;
use super::world::{ID, World};
use cutover::protocol::{Intent, Session, Stage, State, Step, classify};

/// More steps than any way has.
const STEPS_MAX: usize = 200;

/// A whole migration.
pub const TO_SQL: [Intent; 4] = [Intent::Begin(ID), Intent::Copy, Intent::Finish, Intent::UseSql];

/// Where `intents`, one after the other and without a fault, lead; none where one is not possible.
pub fn follow<const N: usize>(
    world: &World<N>,
    intents: &[Intent],
    mutant: Mutant,
) -> Option<World<N>> {
    let mut world = World { working: None, ..world.clone() };
    for &intent in intents {
        let mut session = Session::default();
        let mut steps = 0;
        loop {
            let (step, changes) = mutant.choose(&world, intent, &session)?;
            if let Step::Done(_) = step {
                break;
            }
            steps += 1;
            if steps > STEPS_MAX {
                return None;
            }
            for change in changes {
                world.apply(change)?;
            }
            session.done(step);
        }
    }
    Some(world)
}

/// Which promise is broken.
pub fn broken<const N: usize>(world: &World<N>, mutant: Mutant) -> Option<String> {
    use Intent::{
        Abort, AbortCommitted, Begin, Copy, Finish, Prepare, Reclaim, Rerun, RestoreKv, UseKv,
        UseSql,
    };
    let fresh = &[State::Fresh][..];
    let tombstoned = &[State::Tombstoned][..];
    let begin = Begin(world.unused_id());
    let state = classify(&world.observe()).ok()?;
    let promises: Vec<(Vec<Intent>, &[State])> = match state {
        State::Fresh => {
            vec![(vec![UseKv], fresh), (vec![begin, Copy, Finish, UseSql], tombstoned)]
        }
        State::Migrating { rerun } => {
            let back = if rerun { &[State::RerunAllowed] } else { fresh };
            vec![
                (vec![Copy, Finish, UseSql], tombstoned),
                (vec![Abort], back),
                (vec![Prepare, Copy, Finish, UseSql], tombstoned),
                (vec![Prepare, Abort], back),
            ]
        }
        State::Committed => vec![
            (vec![Finish, UseSql], tombstoned),
            (vec![AbortCommitted], &[State::Fresh, State::RerunAllowed]),
        ],
        State::Tombstoned => vec![(vec![UseSql], tombstoned), (vec![Reclaim], tombstoned)],
        State::RerunAllowed => {
            let restoring = world.markers().any(|(_, marker)| marker.stage == Stage::Restoring);
            let rerun = (vec![Rerun, Copy, Finish, UseSql], tombstoned);
            let restore = (vec![RestoreKv], fresh);
            if restoring { vec![restore] } else { vec![restore, rerun] }
        }
    };
    promises.into_iter().find_map(|(intents, ends)| {
        let end = follow(world, &intents, mutant);
        // I-7: once more from the end changes nothing that anybody reads.
        let again =
            end.as_ref().and_then(|end| follow(end, intents.get(intents.len() - 1..)?, mutant));
        let reached = end.as_ref().and_then(|end| classify(&end.observe()).ok());
        if !reached.is_some_and(|state| ends.contains(&state)) {
            return Some(format!("I-4: {intents:?} leads to {reached:?}"));
        }
        let rows = |world: &World<N>| world.record().map(|record| record.image);
        (again.is_some_and(|again| Some(rows(&again)) != end.as_ref().map(rows)))
            .then(|| format!("I-7: {intents:?} once more changes the rows"))
    })
}
