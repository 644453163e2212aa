//! Any observation and session, spelled by the input: few ids and attempts, so that they often
//! agree, and flags that are mostly as the protocol likes them.

use arbitrary::{Result, Unstructured};
use cutover::protocol::{
    AtPath, AtRetired, Attempt, ClaimSeen, Intent, MarkerSeen, MigrationId, Observation,
    RecordSeen, RecordStage, Run, SecondLock, Session, SourceSeen, Stage, Step, TargetSeen, Was,
};
use std::collections::BTreeSet;

/// More sources than any rule tells apart.
pub const SOURCES: usize = 5;

/// What stands at up to [`SOURCES`] sources, the target, the claim and elsewhere.
///
/// # Errors
///
/// When there is too little input left.
pub fn observation(u: &mut Unstructured<'_>) -> Result<Observation> {
    let count = u.int_in_range(0..=SOURCES)?;
    Ok(Observation {
        target: target(u)?,
        claim: claim(u)?,
        elsewhere: match u.int_in_range(0..=7u8)? {
            0 => vec![target(u)?],
            1 => vec![target(u)?, target(u)?],
            _ => Vec::new(),
        },
        sources: (0..count).map(|_| source(u)).collect::<Result<_>>()?,
    })
}

/// A session that has done anything, or that nobody can have had.
///
/// # Errors
///
/// When there is too little input left.
pub fn session(u: &mut Unstructured<'_>) -> Result<Session> {
    let failed = u.arbitrary::<u8>()?;
    Ok(Session {
        confirmed: u.ratio(3, 4)?,
        fresh: if u.arbitrary()? { Some(attempt(u)?) } else { None },
        verified: u.arbitrary()?,
        prepared: u.arbitrary()?,
        opened: if u.arbitrary()? { Some(id(u)?) } else { None },
        failed: (0..=SOURCES).filter(|at| failed >> at & 1 == 1).collect::<BTreeSet<_>>(),
        skipped: if u.arbitrary()? { BTreeSet::from([Step::Unclaim]) } else { BTreeSet::new() },
    })
}

/// Everything that can be wanted.
#[must_use]
pub fn intents(id: MigrationId) -> [Intent; 13] {
    [
        Intent::UseKv,
        Intent::Begin(id),
        Intent::Prepare,
        Intent::Copy,
        Intent::Finish,
        Intent::Abort,
        Intent::AbortCommitted,
        Intent::UseSql,
        Intent::Rerun,
        Intent::RestoreKv,
        Intent::Reclaim,
        Intent::ReplaceTarget,
        Intent::Discard,
    ]
}

/// One of two ids.
///
/// # Errors
///
/// When there is too little input left.
pub fn id(u: &mut Unstructured<'_>) -> Result<MigrationId> {
    Ok(MigrationId(if mostly(u)? { 1 } else { 2 }))
}

fn attempt(u: &mut Unstructured<'_>) -> Result<Attempt> {
    u.choose(&[1, 1, 1, 2, 2, 3, 0, Attempt::MAX]).copied()
}

fn run(u: &mut Unstructured<'_>) -> Result<Run> {
    Ok(Run { id: id(u)?, attempt: attempt(u)? })
}

fn mostly(u: &mut Unstructured<'_>) -> Result<bool> {
    u.ratio(15, 16)
}

fn target(u: &mut Unstructured<'_>) -> Result<TargetSeen> {
    Ok(match u.int_in_range(0..=15u8)? {
        0..=3 => TargetSeen::None,
        4 => TargetSeen::NoRecord,
        5 => TargetSeen::Unreadable,
        6 => TargetSeen::Unreachable,
        7 => TargetSeen::MainFileGone,
        _ => TargetSeen::Record(RecordSeen {
            stage: *u.choose(&[RecordStage::Copying, RecordStage::Committed, RecordStage::Live])?,
            run: run(u)?,
            copied: u.arbitrary()?,
            sources: mostly(u)?,
            paths: mostly(u)?,
        }),
    })
}

fn claim(u: &mut Unstructured<'_>) -> Result<ClaimSeen> {
    Ok(match u.int_in_range(0..=7u8)? {
        0 => ClaimSeen::None,
        1 => ClaimSeen::Unreadable,
        _ => ClaimSeen::Id(id(u)?),
    })
}

fn source(u: &mut Unstructured<'_>) -> Result<SourceSeen> {
    let path = match u.int_in_range(0..=15u8)? {
        0 | 1 => AtPath::Nothing,
        2..=4 => AtPath::Directory(SecondLock::Native),
        5 => AtPath::Directory(SecondLock::Held),
        6 => AtPath::Damaged,
        7 => AtPath::Foreign,
        _ => AtPath::Marker(marker(u)?),
    };
    let retired = match u.int_in_range(0..=15u8)? {
        0..=4 => AtRetired::Nothing,
        5..=8 => AtRetired::Directory(SecondLock::Native),
        9..=12 => AtRetired::Directory(SecondLock::Held),
        13 => AtRetired::Foreign,
        _ => AtRetired::Marker(marker(u)?),
    };
    Ok(SourceSeen { path, retired, temporary: !mostly(u)? })
}

fn marker(u: &mut Unstructured<'_>) -> Result<MarkerSeen> {
    use Stage::{Final, Reclaimed, Restoring, Sealed, Tombstone};
    Ok(MarkerSeen {
        stage: *u.choose(&[Sealed, Tombstone, Final, Restoring, Reclaimed])?,
        run: run(u)?,
        was: if u.ratio(3, 4)? { Was::Directory } else { Was::Nothing },
        plan: mostly(u)?,
        source: mostly(u)?,
        sources: mostly(u)?,
        target: mostly(u)?,
    })
}
