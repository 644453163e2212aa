//! The invariants, as predicates over physical facts: of a world as it stands, and of what a
//! process does to it.

use super::life::Move;
use super::world::{Names, PLACES, Target, Thing, World};
use cutover::protocol::{Intent, RecordStage, Stage, State, Step, classify};

/// What must hold in every world.
pub fn standing<const N: usize>(world: &World<N>) -> Option<String> {
    let live = world.is_live();
    // A source that was opened by hand: that alone is beyond any program.
    if live && (0..N).any(|at| world.is_open(at) && !world.opened[at]) {
        return Some("I-1: a source and the target are writable together".to_owned());
    }
    let record = world.record().filter(|record| record.stage == RecordStage::Live);
    if world.sql_in_use && !(0..PLACES).any(|place| world.is_live_at(place)) {
        return Some("I-3: the live target was in use, and nobody deleted it".to_owned());
    }
    let kept = |at: usize| {
        let Names { path, retired, .. } = world.sources[at].seen;
        let holds = |thing| matches!(thing, Thing::Store(store) if store.writes == 1);
        holds(path) || (matches!(path, Thing::Marker(_)) && holds(retired)) || record.is_some()
    };
    let lost = (0..N).any(|at| world.truth[at] == Some(1) && !kept(at));
    if lost && !world.tampered {
        return Some("I-3: an acknowledged write is nowhere".to_owned());
    }
    match classify(&world.observe()) {
        Ok(State::RerunAllowed | State::Fresh) => None,
        Ok(_)
            if record.is_some_and(|record| {
                let is_other = |at: usize| {
                    world.truth[at].is_some_and(|content| record.image[at] != Some(content))
                };
                (0..N).any(is_other)
            }) =>
        {
            Some("I-2: the live target is not the image of the sources".to_owned())
        }
        Ok(_) if world.overwritten => {
            Some("I-3: an older SQL file is taken for the one that was in use".to_owned())
        }
        Ok(_) => None,
        // Of what an operator has put where it does not belong, contradictions are told.
        Err(_) if world.tampered => None,
        Err(contradiction) => Some(format!("I-4: {contradiction:?}, and nobody did it")),
    }
}

/// What must hold of everything that happens.
pub fn transition<const N: usize>(
    before: &World<N>,
    happens: &Move,
    after: &World<N>,
) -> Option<String> {
    match happens {
        Move::Does(step, _) => does(before, *step, after),
        Move::Done(Intent::UseKv, _) => {
            let closed = (0..N).any(|at| !before.is_open(at));
            // Of what an operator has opened by hand, nothing tells any more.
            let by_hand = (0..N).all(|at| before.opened[at]);
            (closed || (before.is_live() && !by_hand))
                .then(|| "I-1: the KV stores are handed out beside a live target".to_owned())
        }
        Move::Done(Intent::UseSql | Intent::Reclaim, _) => {
            let open = (0..N).any(|at| before.is_open(at));
            let live = before.record().is_some_and(|record| record.stage == RecordStage::Live);
            (open || !live)
                .then(|| "I-1: the SQL database is handed out beside an open source".to_owned())
        }
        Move::Start(_)
        | Move::Done(..)
        | Move::Fails(_)
        | Move::Skips(_)
        | Move::Killed
        | Move::PowerCut
        | Move::StockWrite(_)
        | Move::Operator(_) => None,
    }
}

fn does<const N: usize>(before: &World<N>, step: Step, after: &World<N>) -> Option<String> {
    for at in 0..N {
        let (found, left) = (before.sources[at].seen, after.sources[at].seen);
        if let Thing::Marker(marker) = found.path
            && matches!(marker.stage, Stage::Tombstone | Stage::Final | Stage::Reclaimed)
            && after.is_open(at)
        {
            return Some("I-5: a source is opened from behind its tombstone".to_owned());
        }
        let restoring = |world: &World<N>| {
            world.marker(at).is_some_and(|marker| marker.stage == Stage::Restoring)
        };
        if restoring(after) && !restoring(before) && before.is_live() {
            return Some("I-5: a source is given back beside a live target".to_owned());
        }
        let final_marker = |thing| match thing {
            Thing::Marker(marker) => !matches!(marker.stage, Stage::Sealed | Stage::Restoring),
            Thing::Nothing | Thing::Store(_) | Thing::Damaged | Thing::Foreign => false,
        };
        let marker = |thing| matches!(thing, Thing::Marker(_));
        let removed = [found.path, found.retired].into_iter().any(final_marker)
            && ![left.path, left.retired].into_iter().any(marker);
        if removed {
            return Some("I-5: a tombstone is removed".to_owned());
        }
        let foreign = |names: Names| {
            [names.path, names.retired]
                .map(|thing| matches!(thing, Thing::Foreign | Thing::Damaged))
        };
        if foreign(found) != foreign(left) {
            return Some("I-8: another's file is touched".to_owned());
        }
        let stores = |names: Names| {
            let of = [names.path, names.retired];
            of.into_iter().filter(|thing| matches!(thing, Thing::Store(_))).count()
        };
        let freed = matches!(step, Step::DeleteRetired(_)) && stores(left) < stores(found);
        if stores(found) != stores(left) && !freed {
            return Some("I-8: a store is made or deleted".to_owned());
        }
    }
    let used_together = match step {
        Step::Copy | Step::Commit | Step::GoLive => true,
        Step::Mark { stage, .. } => {
            before.record().is_some() && matches!(stage, Stage::Tombstone | Stage::Final)
        }
        Step::Confirm { .. }
        | Step::Claim(_)
        | Step::Unclaim
        | Step::Seal { .. }
        | Step::PutBack { .. }
        | Step::Unseal { .. }
        | Step::HoldVersion(_)
        | Step::ReleaseVersion(_)
        | Step::DeleteRetired(_)
        | Step::Tidy(_)
        | Step::BeginCopy(_)
        | Step::Verify
        | Step::Prepare
        | Step::DropRecord
        | Step::GiveUp
        | Step::Done(_) => false,
        other => panic!("the model does not know {other:?}"),
    };
    let agree = |world: &World<N>| {
        world.record().is_some_and(|record| world.markers().all(|(_, m)| m.run == record.run))
    };
    if used_together && !agree(before) {
        return Some("I-6: a record is used with the markers of another run".to_owned());
    }
    let live_was_dropped = matches!(step, Step::DropRecord)
        && before.record().is_some_and(|record| record.stage == RecordStage::Live)
        && after.targets[after.place].seen == Target::None;
    live_was_dropped.then(|| "I-3: a live record is removed".to_owned())
}
