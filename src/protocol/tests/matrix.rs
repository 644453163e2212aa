//! The whole matrix: every observation that the alphabets below spell is one state or one
//! contradiction, as the table of states says, and the counts are pinned.

use crate::protocol::{
    AtPath, AtRetired, ClaimSeen, MarkerSeen, MigrationId, Observation, RecordSeen, RecordStage,
    Run, SecondLock, SourceSeen, Stage, State, TargetSeen, Was, classify,
};
use std::collections::BTreeMap;
use std::fmt::Write;

pub(crate) const ID: MigrationId = MigrationId(1);
const OTHER: MigrationId = MigrationId(2);
const STAGES: [Stage; 5] =
    [Stage::Sealed, Stage::Tombstone, Stage::Final, Stage::Restoring, Stage::Reclaimed];
const RECORD_STAGES: [RecordStage; 3] =
    [RecordStage::Copying, RecordStage::Committed, RecordStage::Live];

pub(super) const fn marker(stage: Stage, run: Run, was: Was) -> MarkerSeen {
    MarkerSeen { stage, run, was, plan: true, source: true, sources: true, target: true }
}

fn runs() -> impl Iterator<Item = Run> {
    [ID, OTHER].into_iter().flat_map(|id| [1, 2].map(|attempt| Run { id, attempt }))
}

fn markers() -> Vec<MarkerSeen> {
    STAGES
        .into_iter()
        .flat_map(|stage| runs().map(move |run| (stage, run)))
        .flat_map(|(stage, run)| [Was::Directory, Was::Nothing].map(|was| marker(stage, run, was)))
        .collect()
}

/// Everything that can stand at one source's two names, but for what no rule looks at.
fn sources_all() -> Vec<SourceSeen> {
    let mut paths = vec![AtPath::Nothing, AtPath::Damaged, AtPath::Foreign];
    let mut retired = vec![AtRetired::Nothing, AtRetired::Foreign];
    for version in [SecondLock::Native, SecondLock::Held] {
        paths.push(AtPath::Directory(version));
        retired.push(AtRetired::Directory(version));
    }
    for ours in markers() {
        let wrongs = [
            MarkerSeen { plan: false, ..ours },
            MarkerSeen { source: false, ..ours },
            MarkerSeen { sources: false, ..ours },
        ];
        paths.push(AtPath::Marker(ours));
        paths.extend(wrongs.map(AtPath::Marker));
        if ours.run.attempt == 1 && ours.was == Was::Directory {
            retired.push(AtRetired::Marker(ours));
            if ours.stage == Stage::Sealed {
                retired.extend(wrongs.map(AtRetired::Marker));
            }
        }
    }
    product(&paths, &retired)
}

/// What stands at one source's two names when others are looked at too.
fn sources_some() -> Vec<SourceSeen> {
    let left_over = marker(Stage::Sealed, Run { id: ID, attempt: 1 }, Was::Directory);
    let held = AtRetired::Directory(SecondLock::Held);
    let native = AtRetired::Directory(SecondLock::Native);
    let mut sources = product(
        &[AtPath::Directory(SecondLock::Native), AtPath::Nothing],
        &[AtRetired::Nothing, AtRetired::Marker(left_over), native],
    );
    sources.extend(product(&[AtPath::Damaged], &[native]));
    for ours in markers() {
        let retired: &[AtRetired] = match ours.was {
            Was::Directory => &[native, held, AtRetired::Nothing],
            Was::Nothing => &[AtRetired::Nothing],
        };
        sources.extend(product(&[AtPath::Marker(ours)], retired));
    }
    sources
}

/// What stands at one of three sources' names.
fn sources_few() -> Vec<SourceSeen> {
    let held = AtRetired::Directory(SecondLock::Held);
    let mut sources =
        product(&[AtPath::Directory(SecondLock::Native), AtPath::Nothing], &[AtRetired::Nothing]);
    sources.extend(product(&[AtPath::Nothing], &[held]));
    for ours in markers().into_iter().filter(|m| m.was == Was::Directory && m.run.id == ID) {
        sources.extend(product(&[AtPath::Marker(ours)], &[held]));
    }
    sources
}

fn product(paths: &[AtPath], retired: &[AtRetired]) -> Vec<SourceSeen> {
    let all = paths.iter().flat_map(|path| retired.iter().map(move |retired| (*path, *retired)));
    all.map(|(path, retired)| SourceSeen { path, retired, temporary: false }).collect()
}

fn records(sources: bool) -> impl Iterator<Item = TargetSeen> {
    let all = RECORD_STAGES.into_iter().flat_map(|stage| runs().map(move |run| (stage, run)));
    all.flat_map(move |(stage, run)| {
        let record = RecordSeen { stage, run, copied: true, sources, paths: true };
        // Only a copy that goes on looks whether it is at its end.
        let part =
            (stage == RecordStage::Copying).then_some(RecordSeen { copied: false, ..record });
        [Some(record), part].into_iter().flatten().map(TargetSeen::Record)
    })
}

/// Live records that name other paths: only beside a live target is a path looked at.
fn records_of_other_paths() -> impl Iterator<Item = TargetSeen> {
    let stage = RecordStage::Live;
    let record = move |run| RecordSeen { stage, run, copied: true, sources: true, paths: false };
    runs().map(record).map(TargetSeen::Record)
}

fn targets_all() -> Vec<TargetSeen> {
    let unknown = [TargetSeen::Unreadable, TargetSeen::Unreachable, TargetSeen::MainFileGone];
    [TargetSeen::None, TargetSeen::NoRecord]
        .into_iter()
        .chain(unknown)
        .chain(records(true))
        .chain(records(false))
        .chain(records_of_other_paths())
        .collect()
}

fn targets_some() -> Vec<TargetSeen> {
    [TargetSeen::None, TargetSeen::NoRecord].into_iter().chain(records(true)).collect()
}

const CLAIMS: [ClaimSeen; 4] =
    [ClaimSeen::None, ClaimSeen::Id(ID), ClaimSeen::Id(OTHER), ClaimSeen::Unreadable];

fn elsewheres() -> Vec<Vec<TargetSeen>> {
    let record = |stage| {
        TargetSeen::Record(RecordSeen {
            stage,
            run: Run { id: ID, attempt: 1 },
            copied: true,
            sources: true,
            paths: true,
        })
    };
    let mut all = vec![vec![]];
    let without = [TargetSeen::None, TargetSeen::NoRecord, TargetSeen::Unreachable];
    all.extend(without.map(|target| vec![target]));
    all.extend(RECORD_STAGES.map(|stage| vec![record(stage)]));
    all
}

/// Calls `visit` with every observation that the alphabets spell for `count` sources.
pub(crate) fn every_observation(count: usize, visit: &mut dyn FnMut(&Observation)) {
    let (alphabet, targets, elsewheres) = match count {
        1 => (sources_all(), targets_all(), elsewheres()),
        2 => (sources_some(), targets_some(), vec![vec![]]),
        _ => (sources_few(), targets_some(), vec![vec![]]),
    };
    let mut seen = Observation {
        sources: vec![alphabet[0]; count],
        target: TargetSeen::None,
        claim: ClaimSeen::None,
        elsewhere: Vec::new(),
    };
    for index in 0..alphabet.len().pow(u32::try_from(count).unwrap()) {
        let mut digits = index;
        for source in &mut seen.sources {
            *source = alphabet[digits % alphabet.len()];
            digits /= alphabet.len();
        }
        for target in &targets {
            seen.target = *target;
            for claim in CLAIMS {
                seen.claim = claim;
                for elsewhere in &elsewheres {
                    seen.elsewhere.clone_from(elsewhere);
                    visit(&seen);
                }
            }
        }
    }
}

/// A source in the words of the table of states.
#[derive(Clone, Copy, PartialEq)]
enum Is {
    Open(AtPath),
    /// Its marker, and whether its store is where the marker says.
    Marked(MarkerSeen, bool),
    /// Nothing at the path, a store at the retired name.
    Gone,
    Wrong,
}

fn is(source: SourceSeen) -> Is {
    let left_over =
        |m: MarkerSeen| m.plan && m.source && matches!(m.stage, Stage::Sealed | Stage::Restoring);
    match (source.path, source.retired) {
        (AtPath::Directory(SecondLock::Native) | AtPath::Nothing, AtRetired::Nothing) => {
            Is::Open(source.path)
        }
        (AtPath::Directory(SecondLock::Native) | AtPath::Nothing, AtRetired::Marker(m))
            if left_over(m) =>
        {
            Is::Open(source.path)
        }
        (AtPath::Nothing, AtRetired::Directory(_)) => Is::Gone,
        (AtPath::Marker(m), retired) if m.plan && m.source && m.sources => match (m.was, retired) {
            (Was::Directory, AtRetired::Directory(_)) | (Was::Nothing, AtRetired::Nothing) => {
                Is::Marked(m, true)
            }
            (Was::Directory, AtRetired::Nothing) => Is::Marked(m, false),
            (Was::Directory | Was::Nothing, _) => Is::Wrong,
        },
        _ => Is::Wrong,
    }
}

/// The table of states, row by row. It shares no line with the classifier.
fn rows(seen: &Observation) -> Vec<State> {
    let sources: Vec<Is> = seen.sources.iter().map(|source| is(*source)).collect();
    let marked = || {
        sources.iter().filter_map(|source| match source {
            Is::Marked(marker, store) => Some((*marker, *store)),
            Is::Open(_) | Is::Gone | Is::Wrong => None,
        })
    };
    let all_marked = |ok: &dyn Fn(MarkerSeen, bool) -> bool| {
        marked().count() == sources.len() && marked().all(|(marker, store)| ok(marker, store))
    };
    let id = marked().next().map(|(marker, _)| marker.run.id);
    let one_migration = marked().all(|(marker, _)| Some(marker.run.id) == id);
    let here = matches!(seen.target, TargetSeen::Record(record) if Some(record.run.id) == id);
    let a_record_elsewhere = seen.elsewhere.iter().any(|t| matches!(t, TargetSeen::Record(_)));
    let right_target = seen.elsewhere.is_empty() || (here && !a_record_elsewhere);
    if sources.contains(&Is::Wrong) || !one_migration || !right_target {
        return Vec::new();
    }
    let mut rows = Vec::new();
    let only = |stages: &[Stage]| marked().all(|(m, _)| stages.contains(&m.stage));
    let whole = !sources.contains(&Is::Gone) && marked().all(|(_, store)| store);
    let claimed = id.is_some_and(|id| seen.claim == ClaimSeen::Id(id));
    // No record was ever begun: the target and its claim need not be known.
    let only_sealed = id.is_some() && only(&[Stage::Sealed]);
    let as_sealed = only_sealed && marked().all(|(m, _)| m.run.attempt == 1);
    let unknown = match seen.target {
        TargetSeen::Record(_) => false,
        TargetSeen::None | TargetSeen::NoRecord => !claimed,
        TargetSeen::Unreadable | TargetSeen::Unreachable | TargetSeen::MainFileGone => true,
    };
    if unknown && as_sealed && whole {
        rows.push(State::Migrating { rerun: false });
    }
    match seen.target {
        TargetSeen::None | TargetSeen::NoRecord => {
            let some = |stages: &[Stage]| marked().any(|(m, _)| stages.contains(&m.stage));
            if sources.iter().all(|source| matches!(source, Is::Open(_)))
                && seen.claim != ClaimSeen::Unreadable
            {
                rows.push(State::Fresh);
            }
            if whole && claimed && only_sealed {
                rows.push(State::Migrating { rerun: false });
            }
            let giving_back = only(&[Stage::Restoring]);
            let given_up = seen.target == TargetSeen::None || !some(&[Stage::Final]);
            if whole
                && claimed
                && given_up
                && some(&[Stage::Tombstone, Stage::Final, Stage::Restoring])
                && !some(&[Stage::Reclaimed])
                && (giving_back || marked().count() == sources.len())
            {
                rows.push(State::RerunAllowed);
            }
        }
        TargetSeen::Record(record) if record.sources => {
            let of =
                |m: MarkerSeen, stages: &[Stage]| m.run == record.run && stages.contains(&m.stage);
            let copying = record.stage == RecordStage::Copying;
            for (rerun, stage) in [(false, Stage::Sealed), (true, Stage::Tombstone)] {
                if copying && all_marked(&|m, store| store && of(m, &[stage])) {
                    rows.push(State::Migrating { rerun });
                }
            }
            if record.stage == RecordStage::Committed
                && all_marked(&|m, store| {
                    of(m, &[Stage::Tombstone]) || (store && of(m, &[Stage::Sealed]))
                })
            {
                rows.push(State::Committed);
            }
            let last = [Stage::Tombstone, Stage::Final, Stage::Reclaimed];
            if record.stage == RecordStage::Live
                && marked().all(|(m, _)| of(m, &last))
                && !sources.iter().any(|s| matches!(s, Is::Open(AtPath::Directory(_))))
                && (record.paths || !sources.contains(&Is::Open(AtPath::Nothing)))
            {
                rows.push(State::Tombstoned);
            }
        }
        TargetSeen::Record(_)
        | TargetSeen::Unreadable
        | TargetSeen::Unreachable
        | TargetSeen::MainFileGone => {}
    }
    rows
}

/// Compares the classifier with the table, and returns how often each answer was given.
fn count_answers(count: usize) -> String {
    let mut answers: BTreeMap<_, u32> = BTreeMap::new();
    let mut all = 0_u32;
    every_observation(count, &mut |seen| {
        let rows = rows(seen);
        assert!(rows.len() <= 1, "two rows of the table fit {seen:?}: {rows:?}");
        let answer = classify(seen);
        assert_eq!(answer.ok(), rows.first().copied(), "{seen:?} is {answer:?}");
        // I-1: a source that can be written beside a live target is never a state, but for a path
        // that was emptied, which is filled before anything else.
        if let (Ok(_), TargetSeen::Record(RecordSeen { stage: RecordStage::Live, .. })) =
            (answer, seen.target)
        {
            assert!(!seen.sources.iter().any(|s| matches!(s.path, AtPath::Directory(_))));
        }
        *answers.entry(answer).or_default() += 1;
        all += 1;
    });
    let mut text = format!("{all} observations\n");
    for (answer, times) in answers {
        match answer {
            Ok(state) => writeln!(text, "{state:?} {times}").unwrap(),
            Err(contradiction) => writeln!(text, "{contradiction:?} {times}").unwrap(),
        }
    }
    text
}

pub(super) fn pinned(name: &str, found: &str, committed: &str) {
    pinned_at(&format!("src/protocol/tests/matrix/{name}"), found, committed);
}

/// Compares with what is committed; `CUTOVER_PIN=1` commits what was found, to be read as a diff.
pub(crate) fn pinned_at(path: &str, found: &str, committed: &str) {
    if std::env::var_os("CUTOVER_PIN").is_some() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::write(root.join(path), found).unwrap();
    } else {
        assert_eq!(found, committed, "{path} has changed");
    }
}

#[test]
fn every_observation_of_one_source_has_the_answer_of_the_table() {
    pinned("1.txt", &count_answers(1), include_str!("matrix/1.txt"));
}

#[test]
fn every_observation_of_two_sources_has_the_answer_of_the_table() {
    pinned("2.txt", &count_answers(2), include_str!("matrix/2.txt"));
}

#[test]
fn every_observation_of_three_sources_has_the_answer_of_the_table() {
    pinned("3.txt", &count_answers(3), include_str!("matrix/3.txt"));
}

/// A variant that nothing leads to would be a superfluous one.
#[test]
fn every_contradiction_is_reached() {
    let source = include_str!("../classify.rs");
    let body = source.split("pub enum Contradiction {").nth(1).unwrap();
    let body = body.split("\n}").next().unwrap();
    let variants = body.lines().map(str::trim).filter(|line| line.starts_with(char::is_uppercase));
    let reached =
        [include_str!("matrix/1.txt"), include_str!("matrix/2.txt"), include_str!("matrix/3.txt")]
            .concat();
    let mut count = 0;
    for variant in variants {
        let name = variant.split(['(', ',']).next().unwrap();
        let is_this = |line: &str| line.split(['(', ' ']).next() == Some(name);
        assert!(reached.lines().any(is_this), "{name} is never the answer");
        count += 1;
    }
    assert_eq!(count, 36);
}
