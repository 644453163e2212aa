//! Closure: a world of facts alone, in which every intent is followed with a kill between and
//! inside any two steps (I-7). Breadth-first and exact.

use super::matrix::{ID, marker, pinned};
use crate::protocol::{
    AtPath, AtRetired, Attempt, ClaimSeen, Intent, MarkerSeen, Observation, RecordSeen,
    RecordStage, Run, SecondLock, Session, SourceSeen, Stage, State, Step, TargetSeen, Was,
    classify, next,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Write;

/// What may be wanted from a state: what a method of a handle drives to. The two other intents are
/// functions of a plan.
pub(crate) const INTENTS: [Intent; 11] = [
    Intent::UseKv,
    Intent::Begin(ID),
    Intent::Prepare,
    Intent::Copy,
    Intent::Finish,
    Intent::Abort,
    Intent::AbortCommitted,
    Intent::UseSql,
    Intent::Rerun,
    Intent::RestoreKv,
    Intent::Reclaim,
];

const NATIVE: SecondLock = SecondLock::Native;

/// Somewhere on the way: what is on disk, and who is at work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    disk: Observation,
    working: Option<(Intent, Session)>,
}

/// What a step leaves on disk when it is done, first, and then all that a kill inside may leave.
fn outcomes(before: &Observation, step: Step) -> Vec<Observation> {
    let source = |at: usize, path: AtPath, retired: AtRetired, temporary: bool| {
        let mut after = before.clone();
        after.sources[at] = SourceSeen { path, retired, temporary };
        after
    };
    let record = |change: &dyn Fn(&mut RecordSeen)| {
        let mut after = before.clone();
        let TargetSeen::Record(record) = &mut after.target else { panic!("{step:?}, no record") };
        change(record);
        vec![after]
    };
    let found = |at: usize| match before.sources[at].path {
        AtPath::Marker(marker) => marker,
        AtPath::Nothing | AtPath::Directory(_) | AtPath::Damaged | AtPath::Foreign => {
            panic!("{step:?} without a marker")
        }
    };
    let mut after = before.clone();
    match step {
        Step::Confirm { .. } | Step::Verify | Step::GiveUp | Step::Done(_) => vec![after],
        Step::Claim(id) => {
            after.claim = ClaimSeen::Id(id);
            vec![after]
        }
        Step::Unclaim => {
            after.claim = ClaimSeen::None;
            vec![after]
        }
        Step::Seal { source: at, run } => {
            let SourceSeen { path, retired, .. } = before.sources[at];
            assert_eq!(retired, AtRetired::Nothing, "{step:?} needs the retired name");
            let was = if path == AtPath::Nothing { Was::Nothing } else { Was::Directory };
            let new = marker(Stage::Sealed, run, was);
            let mut all = vec![source(at, path, retired, true)];
            match was {
                Was::Directory => {
                    all.insert(
                        0,
                        source(at, AtPath::Marker(new), AtRetired::Directory(NATIVE), false),
                    );
                    all.push(source(at, path, AtRetired::Marker(new), false));
                }
                Was::Nothing => all.insert(0, source(at, AtPath::Marker(new), retired, false)),
            }
            all
        }
        Step::Mark { source: at, stage, attempt } => {
            let old = found(at);
            let new = MarkerSeen { stage, run: Run { attempt, ..old.run }, ..old };
            let SourceSeen { path, retired, .. } = before.sources[at];
            vec![source(at, AtPath::Marker(new), retired, false), source(at, path, retired, true)]
        }
        Step::PutBack { source: at, run } => {
            let was = match before.sources[at].retired {
                AtRetired::Directory(_) => Was::Directory,
                AtRetired::Nothing | AtRetired::Marker(_) | AtRetired::Foreign => Was::Nothing,
            };
            let new = marker(Stage::Tombstone, run, was);
            let retired = before.sources[at].retired;
            vec![
                source(at, AtPath::Marker(new), retired, false),
                source(at, AtPath::Nothing, retired, true),
            ]
        }
        Step::Unseal { source: at, .. } => {
            let old = found(at);
            let temporary = before.sources[at].temporary;
            match old.was {
                Was::Directory => {
                    let open = AtPath::Directory(NATIVE);
                    vec![
                        source(at, open, AtRetired::Nothing, temporary),
                        source(at, open, AtRetired::Marker(old), temporary),
                    ]
                }
                Was::Nothing => vec![source(at, AtPath::Nothing, AtRetired::Nothing, temporary)],
            }
        }
        Step::HoldVersion(at) | Step::ReleaseVersion(at) => {
            let held = if step == Step::HoldVersion(at) { SecondLock::Held } else { NATIVE };
            let SourceSeen { path, temporary, .. } = before.sources[at];
            vec![source(at, path, AtRetired::Directory(held), temporary)]
        }
        Step::DeleteRetired(at) => {
            let SourceSeen { path, temporary, .. } = before.sources[at];
            // Its `version` file may be the first or the last to go.
            vec![
                source(at, path, AtRetired::Nothing, temporary),
                source(at, path, AtRetired::Directory(NATIVE), temporary),
            ]
        }
        Step::Tidy(at) => {
            let SourceSeen { path, retired, .. } = before.sources[at];
            let tidy = match retired {
                AtRetired::Marker(_) => AtRetired::Nothing,
                AtRetired::Nothing | AtRetired::Directory(_) | AtRetired::Foreign => retired,
            };
            vec![source(at, path, tidy, false), source(at, path, retired, false)]
        }
        Step::BeginCopy(run) => {
            let stage = RecordStage::Copying;
            after.target = TargetSeen::Record(RecordSeen {
                stage,
                run,
                copied: false,
                sources: true,
                paths: true,
            });
            vec![after]
        }
        Step::Copy => record(&|record| record.copied = true),
        Step::Prepare => {
            for source in &mut after.sources {
                source.temporary = true;
            }
            vec![after]
        }
        Step::Commit => record(&|record| record.stage = RecordStage::Committed),
        Step::GoLive => record(&|record| record.stage = RecordStage::Live),
        // Somebody else's tables may be there.
        Step::DropRecord => {
            after.target = TargetSeen::None;
            vec![after.clone(), Observation { target: TargetSeen::NoRecord, ..after }]
        }
    }
}

/// Attempts are only ever compared: numbered anew from 1 on, worlds that differ in nothing else
/// are one, and there are finitely many.
fn renumber(world: &mut World) {
    let mut attempts: Vec<&mut Attempt> = Vec::new();
    for source in &mut world.disk.sources {
        if let AtPath::Marker(marker) = &mut source.path {
            attempts.push(&mut marker.run.attempt);
        }
        if let AtRetired::Marker(marker) = &mut source.retired {
            attempts.push(&mut marker.run.attempt);
        }
    }
    if let TargetSeen::Record(record) = &mut world.disk.target {
        attempts.push(&mut record.run.attempt);
    }
    if let Some((_, Session { fresh: Some(fresh), .. })) = &mut world.working {
        attempts.push(fresh);
    }
    // The first is more than a number: no record was ever begun with it.
    let ordered: BTreeSet<Attempt> = attempts.iter().map(|a| **a).chain([1]).collect();
    let ranks: BTreeMap<Attempt, Attempt> = ordered.into_iter().zip(1..).collect();
    for attempt in attempts {
        *attempt = ranks[attempt];
    }
}

/// Every world that one move leads to.
fn moves(world: &World, lost_file: bool) -> Vec<World> {
    let idle = |disk| World { disk, working: None };
    let Some((intent, session)) = &world.working else {
        let mut begun: Vec<World> = INTENTS
            .into_iter()
            .map(|intent| World { working: Some((intent, Session::default())), ..world.clone() })
            .collect();
        let reclaimed =
            |s: &SourceSeen| matches!(s.path, AtPath::Marker(m) if m.stage == Stage::Reclaimed);
        if lost_file && !world.disk.sources.iter().any(reclaimed) {
            begun.push(idle(Observation { target: TargetSeen::None, ..world.disk.clone() }));
        }
        return begun;
    };
    let mut after = vec![idle(world.disk.clone())];
    let Ok(step) = next(&world.disk, *intent, session) else { return after };
    if matches!(step, Step::Done(_) | Step::GiveUp) {
        return after;
    }
    let mut outcomes = outcomes(&world.disk, step);
    let mut session_after = session.clone();
    session_after.done(step);
    after.push(World { disk: outcomes.remove(0), working: Some((*intent, session_after)) });
    after.extend(outcomes.into_iter().map(idle));
    if step.is_optional() {
        let mut skipped = session.clone();
        skipped.skipped.insert(step);
        after.push(World { disk: world.disk.clone(), working: Some((*intent, skipped)) });
    }
    // A tombstone that can't be written is left for the next session.
    if let (Step::Mark { source, stage: Stage::Tombstone, .. }, Intent::Finish) = (step, intent) {
        let mut failed = session.clone();
        failed.failed.insert(source);
        after.push(World { disk: world.disk.clone(), working: Some((*intent, failed)) });
    }
    after
}

/// Follows `intents`, without a fault, to a state; none where one is not possible.
fn follow(disk: &Observation, intents: &[Intent]) -> Option<State> {
    let mut disk = disk.clone();
    for intent in intents {
        let mut session = Session::default();
        for steps in 0.. {
            assert!(steps < 100, "{intent:?} from {disk:?} goes on for ever");
            let step = next(&disk, *intent, &session).ok()?;
            if matches!(step, Step::Done(_)) {
                break;
            }
            disk = outcomes(&disk, step).remove(0);
            session.done(step);
        }
    }
    classify(&disk).ok()
}

/// Explores all worlds, and returns how many there are and how often each state is one.
fn explore(count: usize, lost_file: bool) -> (usize, BTreeMap<State, usize>) {
    let mut seen: HashSet<World> = HashSet::new();
    let mut disks: HashMap<Observation, State> = HashMap::new();
    let mut queue = VecDeque::new();
    let nothing =
        SourceSeen { path: AtPath::Nothing, retired: AtRetired::Nothing, temporary: false };
    for missing in 0..=count {
        let mut sources = vec![SourceSeen { path: AtPath::Directory(NATIVE), ..nothing }; count];
        sources[..missing].fill(nothing);
        for target in [TargetSeen::None, TargetSeen::NoRecord] {
            let (claim, elsewhere) = (ClaimSeen::None, Vec::new());
            let disk = Observation { sources: sources.clone(), target, claim, elsewhere };
            queue.push_back(World { disk, working: None });
        }
    }
    while let Some(world) = queue.pop_front() {
        if !seen.insert(world.clone()) {
            continue;
        }
        let disk = &world.disk;
        if !disks.contains_key(disk) {
            let state = classify(disk).unwrap_or_else(|found| panic!("{found:?} from {disk:?}"));
            let open = |s: &SourceSeen| matches!(s.path, AtPath::Directory(_) | AtPath::Nothing);
            let live = matches!(disk.target, TargetSeen::Record(r) if r.stage == RecordStage::Live);
            assert!(!(live && disk.sources.iter().any(open)), "I-1: {disk:?}");
            ends(disk, state);
            disks.insert(disk.clone(), state);
        }
        for mut after in moves(&world, lost_file) {
            renumber(&mut after);
            queue.push_back(after);
        }
    }
    let mut states = BTreeMap::new();
    for state in disks.into_values() {
        *states.entry(state).or_default() += 1;
    }
    (seen.len(), states)
}

/// I-4: each way that a state promises leads where it says.
fn ends(disk: &Observation, state: State) {
    use Intent::{
        Abort, AbortCommitted, Begin, Copy, Finish, Prepare, Reclaim, Rerun, RestoreKv, UseKv,
        UseSql,
    };
    let fresh = Some(State::Fresh);
    let tombstoned = Some(State::Tombstoned);
    let leads = |intents: &[Intent], end| {
        assert_eq!(follow(disk, intents), end, "{intents:?} from {disk:?}");
    };
    match state {
        State::Fresh => {
            leads(&[UseKv], fresh);
            leads(&[Begin(ID), Copy, Finish, UseSql], tombstoned);
        }
        State::Migrating { rerun } => {
            leads(&[Copy, Finish, UseSql], tombstoned);
            let back = if rerun { Some(State::RerunAllowed) } else { fresh };
            leads(&[Abort], back);
            leads(&[Prepare], Some(state));
            leads(&[Prepare, Copy, Finish, UseSql], tombstoned);
            leads(&[Prepare, Abort], back);
        }
        State::Committed => {
            leads(&[Finish, UseSql], tombstoned);
            let back = follow(disk, &[AbortCommitted]);
            assert!(back == fresh || back == Some(State::RerunAllowed), "{back:?} from {disk:?}");
        }
        State::Tombstoned => {
            leads(&[UseSql], tombstoned);
            leads(&[Reclaim], tombstoned);
        }
        State::RerunAllowed => {
            leads(&[RestoreKv], fresh);
            let restoring =
                |s: &SourceSeen| matches!(s.path, AtPath::Marker(m) if m.stage == Stage::Restoring);
            let begun = disk.sources.iter().any(restoring);
            leads(&[Rerun, Copy, Finish, UseSql], if begun { None } else { tombstoned });
        }
    }
}

fn told(counts: &[usize], lost_file: bool) -> String {
    counts.iter().fold(String::new(), |mut text, &count| {
        let (worlds, states) = explore(count, lost_file);
        writeln!(text, "{count}: {worlds} worlds; on disk {states:?}").unwrap();
        text
    })
}

#[test]
fn i1_i4_no_kill_leads_to_a_contradiction_or_two_writers_and_every_state_has_its_ways_out() {
    pinned("closure.txt", &told(&[1, 2, 3], false), include_str!("matrix/closure.txt"));
}

#[test]
fn i1_i4_a_lost_sql_file_leads_to_no_contradiction_before_the_retired_bytes_are_freed() {
    pinned("closure-lost.txt", &told(&[1, 2, 3], true), include_str!("matrix/closure-lost.txt"));
}
