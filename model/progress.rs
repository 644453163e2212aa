//! Progress (`docs/proofs.md`, P-9): from every observation of two sources that an intent can begin
//! at, each fault-free step lowers the tuple of the intent, so that every session ends.

use crate::proof::world::{ID, INTENTS};
use cutover::protocol::{
    AtPath, AtRetired, ClaimSeen, Intent, MarkerSeen, MigrationId, Observation, RecordSeen,
    RecordStage, Run, SecondLock, Session, SourceSeen, Stage, Step, TargetSeen, Was, next,
};

const OTHER: MigrationId = MigrationId(2);
const STAGES: [Stage; 5] =
    [Stage::Sealed, Stage::Tombstone, Stage::Final, Stage::Restoring, Stage::Reclaimed];
const NATIVE: AtRetired = AtRetired::Directory(SecondLock::Native);
const HELD: AtRetired = AtRetired::Directory(SecondLock::Held);

const fn marker(stage: Stage, attempt: u32, was: Was, target: bool) -> MarkerSeen {
    let run = Run { id: ID, attempt };
    MarkerSeen { stage, run, was, plan: true, source: true, sources: true, target }
}

/// What two sources can be, left-overs, set and lifted locks, and markers of another target included.
fn sources() -> Vec<SourceSeen> {
    let left_over = AtRetired::Marker(marker(Stage::Sealed, 1, Was::Directory, true));
    let mut all = Vec::new();
    let mut add = |path, retired| {
        all.extend([false, true].map(|temporary| SourceSeen { path, retired, temporary }));
    };
    for path in [AtPath::Directory(SecondLock::Native), AtPath::Nothing] {
        add(path, AtRetired::Nothing);
        add(path, left_over);
    }
    add(AtPath::Nothing, NATIVE);
    for stage in STAGES {
        for (attempt, target) in [(1, true), (2, true), (1, false)] {
            let found = |was| AtPath::Marker(marker(stage, attempt, was, target));
            add(found(Was::Directory), NATIVE);
            add(found(Was::Directory), HELD);
            add(found(Was::Nothing), AtRetired::Nothing);
        }
    }
    all
}

fn targets() -> Vec<TargetSeen> {
    let record = |stage, attempt, copied| {
        let run = Run { id: ID, attempt };
        TargetSeen::Record(RecordSeen { stage, run, copied, sources: true, paths: true })
    };
    let mut all =
        vec![TargetSeen::None, TargetSeen::NoRecord, record(RecordStage::Copying, 1, false)];
    for attempt in [1, 2] {
        let stages = [RecordStage::Copying, RecordStage::Committed, RecordStage::Live];
        all.extend(stages.map(|stage| record(stage, attempt, true)));
    }
    all
}

fn marked(seen: &Observation) -> impl Iterator<Item = (MarkerSeen, AtRetired)> + '_ {
    seen.sources.iter().filter_map(|source| match source.path {
        AtPath::Marker(marker) => Some((marker, source.retired)),
        AtPath::Nothing | AtPath::Directory(_) | AtPath::Damaged | AtPath::Foreign => None,
    })
}

const fn record(seen: &Observation) -> Option<RecordSeen> {
    match seen.target {
        TargetSeen::Record(record) => Some(record),
        TargetSeen::None
        | TargetSeen::NoRecord
        | TargetSeen::Unreadable
        | TargetSeen::Unreachable
        | TargetSeen::MainFileGone => None,
    }
}

/// The places of other targets follow from the markers.
fn settle(seen: &mut Observation) {
    let other = marked(seen).any(|(marker, _)| !marker.target);
    seen.elsewhere = if other { vec![TargetSeen::None] } else { Vec::new() };
}

/// What a step leaves when nothing goes wrong.
fn after(seen: &Observation, step: Step) -> Observation {
    let mut after = seen.clone();
    let set_stage = |target: &mut TargetSeen, stage| {
        let TargetSeen::Record(record) = target else { panic!("{step:?} without a record") };
        record.stage = stage;
    };
    match step {
        Step::Confirm { .. } | Step::Verify | Step::GiveUp | Step::Done(_) => {}
        Step::Claim(id) => after.claim = ClaimSeen::Id(id),
        Step::Unclaim => after.claim = ClaimSeen::None,
        Step::Seal { source: at, run } => {
            let directory = matches!(seen.sources[at].path, AtPath::Directory(_));
            let was = if directory { Was::Directory } else { Was::Nothing };
            let retired = if directory { NATIVE } else { AtRetired::Nothing };
            let sealed = MarkerSeen { run, ..marker(Stage::Sealed, run.attempt, was, true) };
            let path = AtPath::Marker(sealed);
            after.sources[at] = SourceSeen { path, retired, temporary: false };
        }
        Step::Mark { source: at, stage, attempt } => {
            let AtPath::Marker(old) = seen.sources[at].path else { panic!("{step:?}") };
            let run = Run { attempt, ..old.run };
            after.sources[at].path = AtPath::Marker(MarkerSeen { stage, run, target: true, ..old });
            after.sources[at].temporary = false;
        }
        Step::PutBack { source: at, run } => {
            let store = matches!(seen.sources[at].retired, AtRetired::Directory(_));
            let was = if store { Was::Directory } else { Was::Nothing };
            let back = MarkerSeen { run, ..marker(Stage::Tombstone, run.attempt, was, true) };
            after.sources[at].path = AtPath::Marker(back);
            after.sources[at].temporary = false;
        }
        Step::Unseal { source: at, .. } => {
            let AtPath::Marker(old) = seen.sources[at].path else { panic!("{step:?}") };
            after.sources[at].path = match old.was {
                Was::Directory => AtPath::Directory(SecondLock::Native),
                Was::Nothing => AtPath::Nothing,
            };
            after.sources[at].retired = AtRetired::Nothing;
        }
        Step::HoldVersion(at) => after.sources[at].retired = HELD,
        Step::ReleaseVersion(at) => after.sources[at].retired = NATIVE,
        Step::DeleteRetired(at) => after.sources[at].retired = AtRetired::Nothing,
        Step::Tidy(at) => {
            after.sources[at].temporary = false;
            if matches!(seen.sources[at].retired, AtRetired::Marker(_)) {
                after.sources[at].retired = AtRetired::Nothing;
            }
        }
        Step::BeginCopy(run) => {
            let (stage, copied) = (RecordStage::Copying, false);
            after.target =
                TargetSeen::Record(RecordSeen { stage, run, copied, sources: true, paths: true });
        }
        Step::Copy => {
            let TargetSeen::Record(record) = &mut after.target else { panic!("{step:?}") };
            record.copied = true;
        }
        Step::Prepare => after.sources.iter_mut().for_each(|source| source.temporary = true),
        Step::Commit => set_stage(&mut after.target, RecordStage::Committed),
        Step::GoLive => set_stage(&mut after.target, RecordStage::Live),
        Step::DropRecord => after.target = TargetSeen::None,
        other => panic!("{other:?} is new"),
    }
    settle(&mut after);
    after
}

/// The tuple of the intent, as the table of P-9 has it.
fn tuple(seen: &Observation, intent: Intent, session: &Session) -> Vec<usize> {
    let record = record(seen);
    let count = |is: &dyn Fn(MarkerSeen, AtRetired) -> bool| {
        marked(seen).filter(|(marker, retired)| is(*marker, *retired)).count()
    };
    let unconfirmed = usize::from(!session.confirmed);
    let is_left = |s: &&SourceSeen| s.temporary || matches!(s.retired, AtRetired::Marker(_));
    let left = seen.sources.iter().filter(is_left).count();
    let entry = usize::from(seen.claim != ClaimSeen::None);
    let claim = usize::from(seen.claim != ClaimSeen::Id(ID));
    let all = count(&|_, _| true);
    let open = seen.sources.len() - all;
    let raised = |marker: MarkerSeen| session.fresh == Some(marker.run.attempt);
    let not_raised = count(&|marker, _| !raised(marker));
    let lifted = count(&|m, retired| {
        matches!(m.stage, Stage::Tombstone | Stage::Final) && retired == NATIVE
    });
    let to_open = 2 * all + count(&|_, retired| retired == HELD);
    let use_sql = [open, claim, lifted, count(&|m, _| m.stage == Stage::Tombstone), left];
    match intent {
        Intent::UseKv => vec![unconfirmed, left, entry],
        Intent::Begin(_) => vec![unconfirmed, left, claim, open],
        Intent::Prepare | Intent::Copy => match record {
            None => vec![unconfirmed, 2, claim, left, open, not_raised],
            Some(RecordSeen { stage: RecordStage::Copying, copied, .. }) => {
                let done = [copied, session.verified, session.prepared];
                let done = done.into_iter().filter(|done| *done).count();
                vec![unconfirmed, 1, claim, 3 - done]
            }
            Some(_) => vec![unconfirmed, 0],
        },
        Intent::Finish => {
            let committed = record.is_some_and(|record| record.stage == RecordStage::Committed);
            let sealed = count(&|m, _| m.stage == Stage::Sealed);
            [vec![unconfirmed, usize::from(committed), sealed], use_sql.to_vec()].concat()
        }
        Intent::UseSql => [vec![unconfirmed], use_sql.to_vec()].concat(),
        Intent::Abort | Intent::AbortCommitted => {
            let elsewhere = count(&|marker, _| !marker.target);
            let dropped = usize::from(record.is_some());
            vec![unconfirmed, dropped, claim * dropped, elsewhere, not_raised, lifted]
                .into_iter()
                .chain([to_open, left, entry])
                .collect()
        }
        Intent::Rerun => {
            let wrong = count(&|m, _| !raised(m) || m.stage != Stage::Tombstone);
            vec![unconfirmed, usize::from(record.is_none()), wrong]
        }
        Intent::RestoreKv => {
            let waiting = count(&|m, _| m.stage != Stage::Restoring);
            vec![unconfirmed, waiting, to_open, left, entry]
        }
        Intent::Reclaim => {
            let waiting = count(&|m, _| m.stage != Stage::Reclaimed);
            let stores = count(&|_, retired| retired != AtRetired::Nothing);
            [vec![unconfirmed], use_sql.to_vec(), vec![waiting, stores]].concat()
        }
        Intent::ReplaceTarget => vec![unconfirmed, claim, not_raised],
        Intent::Discard => vec![unconfirmed, usize::from(record.is_some())],
    }
}

/// Does every step of the intent, and returns how many there were.
fn follow(begun: &Observation, intent: Intent) -> usize {
    let (mut seen, mut session) = (begun.clone(), Session::default());
    let mut before = tuple(&seen, intent, &session);
    for steps in 0.. {
        let step = match next(&seen, intent, &session) {
            Ok(Step::Done(_)) => return steps,
            Ok(step) => step,
            Err(_) => {
                let may_end = intent == Intent::Discard || steps == 0;
                assert!(may_end, "{intent:?} from {begun:?} ends at {seen:?}");
                return steps;
            }
        };
        seen = after(&seen, step);
        session.done(step);
        let now = tuple(&seen, intent, &session);
        assert!(now < before, "{step:?} for {intent:?} from {begun:?}: {before:?}, then {now:?}");
        before = now;
    }
    unreachable!("a tuple can't be lowered for ever")
}

#[test]
fn i4_every_fault_free_step_lowers_the_tuple_of_its_intent() {
    let mut most = [0; INTENTS.len()];
    let sources = sources();
    for target in targets() {
        for claim in [ClaimSeen::None, ClaimSeen::Id(ID), ClaimSeen::Id(OTHER)] {
            for first in &sources {
                for second in &sources {
                    let sources = vec![*first, *second];
                    let mut seen = Observation { sources, target, claim, elsewhere: Vec::new() };
                    settle(&mut seen);
                    for (most, intent) in most.iter_mut().zip(INTENTS) {
                        *most = (*most).max(follow(&seen, intent));
                    }
                }
            }
        }
    }
    // The longest way of each, so that none is passed over.
    assert_eq!(most, [4, 6, 10, 11, 9, 10, 10, 8, 4, 8, 12, 4, 2]);
}
