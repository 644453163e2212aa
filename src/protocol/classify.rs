//! What an observation means: one of the five states, or a typed contradiction. Total: every
//! observation has exactly one answer.

use super::{
    AtPath, AtRetired, Attempt, ClaimSeen, MarkerSeen, MigrationId, Observation, RecordSeen,
    RecordStage, Run, SecondLock, SourceSeen, Stage, TargetSeen, Was,
};

/// The attempt of the markers that seal the sources of a new migration.
pub(super) const ATTEMPT_OF_A_SEAL: Attempt = 1;

/// The five states of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Every source is open and there is no record: the KV stores are in use.
    Fresh,
    /// Sources are being sealed or copied, or unsealed again.
    Migrating {
        /// Whether it copies from the retired stores of a migration that was live once.
        rerun: bool,
    },
    /// The commit point has passed; tombstones are being set.
    Committed,
    /// The target is live and every source has its tombstone.
    Tombstoned,
    /// There are tombstones, and no record: the SQL database is gone.
    RerunAllowed,
}

impl State {
    /// The state's name, as `status` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "Fresh",
            Self::Migrating { .. } => "Migrating",
            Self::Committed => "Committed",
            Self::Tombstoned => "Tombstoned",
            Self::RerunAllowed => "RerunAllowed",
        }
    }
}

/// Facts that no run of the protocol leaves behind: somebody else changed something. A person
/// decides. Sources are given by their place in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Contradiction {
    /// The marker at this source's path can't be read whole.
    DamagedMarker(usize),
    /// Something that is neither a directory nor a marker stands at this source's path.
    ForeignAtPath(usize),
    /// Something that this migration did not put there stands at this source's retired name.
    ForeignAtRetired(usize),
    /// The marker is another plan's.
    OtherPlan(usize),
    /// The marker names another source than the one at whose path it stands.
    OtherSource(usize),
    /// The marker's list of sources is not the plan's.
    OtherSources(usize),
    /// Two markers belong to different migrations.
    MigrationsDiffer(usize, usize),
    /// The retired store is there, and nothing stands at the path: the marker was deleted.
    MarkerGone(usize),
    /// There is a directory at the path and another at the retired name.
    TwoStores(usize),
    /// A directory stands at the path of a source that was tombstoned, its marker at the retired name.
    SwappedBack(usize),
    /// A retired store, its second lock still set, stands at the source's own path.
    HeldStoreAtPath(usize),
    /// The store that this marker stands for is not at its retired name.
    RetiredGone(usize),
    /// A store stands at this source's path beside a live target.
    ReturnedStore(usize),
    /// This source is open while the record says that all are sealed.
    OpenBesideRecord(usize),
    /// This source is open while another has a tombstone.
    OpenBesideTombstone(usize),
    /// This source's marker can't stand beside the others' and this record.
    MixedStages(usize),
    /// Restoring had begun here, and yet there is a record.
    RestoringBesideRecord(usize),
    /// The target is live, and this source can still be unsealed.
    LiveBesideSealed(usize),
    /// The target is live, nothing stands at this source's path, and the record names another path.
    SourceElsewhere(usize),
    /// The retired bytes were freed, and the target that replaced them has no record.
    ReclaimedWithoutTarget(usize),
    /// The record is unfinished though no source has a marker.
    RecordWithoutMarkers,
    /// The record belongs to another migration than the markers.
    RecordOfAnotherMigration,
    /// The record names other sources than the plan.
    RecordOfOtherSources,
    /// The record is of another attempt than the markers: the SQL file is an older one.
    StaleTarget,
    /// The record is unfinished though the markers say that the target was live: an older copy.
    OlderTarget,
    /// There are markers, and neither a record nor the claim file that belongs beside the target.
    ClaimMissing,
    /// The claim beside the target is of another migration than the markers.
    ClaimOfAnotherMigration,
    /// The file at the claim's place can't be read as one.
    ClaimUnreadable,
    /// A live target of this plan stands where a marker says, and it is not the caller's.
    LiveElsewhere,
    /// An unfinished target of this plan stands where a marker says, and it is not the caller's.
    RecordElsewhere,
    /// The markers name another target, and the caller's has no record of this migration.
    TargetElsewhere,
    /// The markers say that the target was live, and its database, which is there, has no record.
    RecordGone,
    /// The same, of a target that the markers name and that is not the caller's.
    RecordGoneElsewhere,
    /// The target is not an SQLite database, or its record can't be read whole.
    TargetUnreadable,
    /// It can't be known what the target holds.
    TargetUnreachable,
    /// The target's main file is gone while its `-wal` or `-journal` is there.
    TargetMainFileGone,
}

/// Where a contradiction shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// At this source.
    Source(usize),
    /// At the target.
    Target,
    /// At the target's claim file.
    Claim,
    /// At a target that markers name and the caller does not.
    Elsewhere,
}

impl Contradiction {
    /// Where it shows.
    #[must_use]
    pub const fn place(self) -> Place {
        match self {
            Self::DamagedMarker(source)
            | Self::ForeignAtPath(source)
            | Self::ForeignAtRetired(source)
            | Self::OtherPlan(source)
            | Self::OtherSource(source)
            | Self::OtherSources(source)
            | Self::MigrationsDiffer(source, _)
            | Self::MarkerGone(source)
            | Self::TwoStores(source)
            | Self::SwappedBack(source)
            | Self::HeldStoreAtPath(source)
            | Self::RetiredGone(source)
            | Self::ReturnedStore(source)
            | Self::OpenBesideRecord(source)
            | Self::OpenBesideTombstone(source)
            | Self::MixedStages(source)
            | Self::RestoringBesideRecord(source)
            | Self::LiveBesideSealed(source)
            | Self::SourceElsewhere(source)
            | Self::ReclaimedWithoutTarget(source) => Place::Source(source),
            Self::RecordWithoutMarkers
            | Self::RecordOfAnotherMigration
            | Self::RecordOfOtherSources
            | Self::StaleTarget
            | Self::OlderTarget
            | Self::RecordGone
            | Self::TargetUnreadable
            | Self::TargetUnreachable
            | Self::TargetMainFileGone => Place::Target,
            Self::ClaimMissing | Self::ClaimOfAnotherMigration | Self::ClaimUnreadable => {
                Place::Claim
            }
            Self::LiveElsewhere
            | Self::RecordElsewhere
            | Self::TargetElsewhere
            | Self::RecordGoneElsewhere => Place::Elsewhere,
        }
    }
}

impl Contradiction {
    /// Whether it may be an unfinished copy in the target that the markers contradict, which
    /// [`Intent::Discard`](super::Intent::Discard) removes if it was never live.
    #[must_use]
    pub const fn is_left_over(self) -> bool {
        matches!(
            self,
            Self::RecordWithoutMarkers
                | Self::RecordOfAnotherMigration
                | Self::StaleTarget
                | Self::OlderTarget
                | Self::OpenBesideRecord(_)
                | Self::RestoringBesideRecord(_)
        )
    }

    /// Whether it says only that the target can't be seen, or that the claim beside it can't, or is
    /// another migration's.
    const fn is_of_the_target_alone(self) -> bool {
        matches!(
            self,
            Self::TargetUnreadable
                | Self::TargetUnreachable
                | Self::TargetMainFileGone
                | Self::ClaimMissing
                | Self::ClaimUnreadable
                | Self::ClaimOfAnotherMigration
        )
    }
}

/// Says which state an observation is. Where every marker is as it was sealed, no record was ever
/// begun, and it is `Migrating` whatever is known of the target and its claim, unless the target holds a
/// record: only an abort can go on from there ([`classify_with_target`]).
///
/// # Errors
///
/// The contradiction, where it is none.
pub fn classify(seen: &Observation) -> Result<State, Contradiction> {
    let sources = Sources::sort(seen)?;
    match with_target(seen, &sources) {
        Err(found) if found.is_of_the_target_alone() && sources.need_no_target(seen.target) => {
            check_elsewhere(seen, &sources, None)
                .and_then(|()| without_record(&sources, TargetSeen::None))
                .map_err(|_| found)
        }
        known => known,
    }
}

/// Says which state an observation is, where the target and its claim have to be known.
///
/// # Errors
///
/// The contradiction, where it is none.
pub fn classify_with_target(seen: &Observation) -> Result<State, Contradiction> {
    with_target(seen, &Sources::sort(seen)?)
}

fn with_target(seen: &Observation, sources: &Sources) -> Result<State, Contradiction> {
    let target = match seen.target {
        TargetSeen::None | TargetSeen::NoRecord => None,
        TargetSeen::Record(record) => Some(record),
        TargetSeen::Unreadable => return Err(Contradiction::TargetUnreadable),
        TargetSeen::Unreachable => return Err(Contradiction::TargetUnreachable),
        TargetSeen::MainFileGone => return Err(Contradiction::TargetMainFileGone),
    };
    check_elsewhere(seen, sources, target)?;
    if target.is_some_and(|record| !record.sources) {
        return Err(Contradiction::RecordOfOtherSources);
    }
    match target {
        None => {
            check_claim(seen.claim, sources)?;
            without_record(sources, seen.target)
        }
        Some(record) => with_record(sources, record),
    }
}

/// The sources, sorted by what stands at their two names.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// A marker stands at the path.
    pub(super) marked: Vec<Marked>,
    /// A directory stands at the path, nothing of worth at the retired name.
    pub(super) directories: Vec<usize>,
    /// Nothing stands at either name.
    pub(super) missing: Vec<usize>,
    /// Nothing stands at the path, and a directory at the retired name.
    pub(super) gone: Vec<usize>,
}

/// A source with a marker at its path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marked {
    pub(super) source: usize,
    pub(super) marker: MarkerSeen,
    /// The store's directory at the retired name.
    pub(super) retired: Option<SecondLock>,
}

impl Sources {
    pub(super) fn sort(seen: &Observation) -> Result<Self, Contradiction> {
        let mut sorted = Self::default();
        for (source, at) in seen.sources.iter().enumerate() {
            sorted.place(source, *at)?;
        }
        let mut marked = sorted.marked.iter();
        if let Some(first) = marked.next()
            && let Some(other) = marked.find(|other| other.marker.run.id != first.marker.run.id)
        {
            return Err(Contradiction::MigrationsDiffer(other.source, first.source));
        }
        Ok(sorted)
    }

    fn place(&mut self, source: usize, at: SourceSeen) -> Result<(), Contradiction> {
        match at.path {
            AtPath::Damaged => Err(Contradiction::DamagedMarker(source)),
            AtPath::Foreign => Err(Contradiction::ForeignAtPath(source)),
            AtPath::Directory(SecondLock::Held) => Err(Contradiction::HeldStoreAtPath(source)),
            AtPath::Directory(SecondLock::Native) => match at.retired {
                AtRetired::Nothing => {
                    self.directories.push(source);
                    Ok(())
                }
                AtRetired::Directory(_) => Err(Contradiction::TwoStores(source)),
                AtRetired::Marker(marker) => {
                    left_over(source, marker)?;
                    self.directories.push(source);
                    Ok(())
                }
                AtRetired::Foreign => Err(Contradiction::ForeignAtRetired(source)),
            },
            AtPath::Nothing => match at.retired {
                AtRetired::Nothing => {
                    self.missing.push(source);
                    Ok(())
                }
                AtRetired::Directory(_) => {
                    self.gone.push(source);
                    Ok(())
                }
                AtRetired::Marker(marker) => {
                    left_over(source, marker)?;
                    self.missing.push(source);
                    Ok(())
                }
                AtRetired::Foreign => Err(Contradiction::ForeignAtRetired(source)),
            },
            AtPath::Marker(marker) => {
                if !marker.plan {
                    return Err(Contradiction::OtherPlan(source));
                }
                if !marker.source {
                    return Err(Contradiction::OtherSource(source));
                }
                if !marker.sources {
                    return Err(Contradiction::OtherSources(source));
                }
                let retired = match (at.retired, marker.was) {
                    (AtRetired::Directory(version), Was::Directory) => Some(version),
                    (AtRetired::Nothing, Was::Directory | Was::Nothing) => None,
                    (AtRetired::Directory(_), Was::Nothing)
                    | (AtRetired::Marker(_) | AtRetired::Foreign, Was::Directory | Was::Nothing) => {
                        return Err(Contradiction::ForeignAtRetired(source));
                    }
                };
                self.marked.push(Marked { source, marker, retired });
                Ok(())
            }
        }
    }

    /// The migration that the markers belong to.
    pub(super) fn id(&self) -> Option<MigrationId> {
        self.marked.first().map(|marked| marked.marker.run.id)
    }

    /// The lowest source that can be written by a stock opener.
    fn open(&self) -> Option<usize> {
        self.directories.iter().chain(&self.missing).min().copied()
    }

    /// Whether a marker says that the target was live. It says so until a rerun or a restore, or the
    /// word that it is lost, gives up what is in it.
    pub(super) fn was_live(&self) -> bool {
        self.with(Stage::Final).is_some()
    }

    /// Whether the markers prove that no record of their migration was ever begun: all are as they were
    /// sealed, and one is begun only once every marker was raised.
    fn are_as_sealed(&self) -> bool {
        let is_as_sealed = |m: &Marked| {
            m.marker.stage == Stage::Sealed && m.marker.run.attempt == ATTEMPT_OF_A_SEAL
        };
        !self.marked.is_empty() && self.marked.iter().all(is_as_sealed)
    }

    /// Whether an abort needs nothing of `target`: all are as they were sealed, and no record is seen. One
    /// of another migration counts: the markers may have come back from a copy (I-1).
    pub(super) fn need_no_target(&self, target: TargetSeen) -> bool {
        let recordless = match target {
            TargetSeen::Record(_) => false,
            TargetSeen::None
            | TargetSeen::NoRecord
            | TargetSeen::Unreadable
            | TargetSeen::Unreachable
            | TargetSeen::MainFileGone => true,
        };
        recordless && self.are_as_sealed()
    }

    fn with(&self, stage: Stage) -> Option<usize> {
        self.marked.iter().find(|m| m.marker.stage == stage).map(|m| m.source)
    }

    /// The first marker whose store is not where the marker says.
    fn without_store(&self, stages: &[Stage]) -> Option<usize> {
        self.marked
            .iter()
            .find(|m| {
                stages.contains(&m.marker.stage)
                    && m.marker.was == Was::Directory
                    && m.retired.is_none()
            })
            .map(|m| m.source)
    }
}

/// A marker at the retired name of an open source: only sealing and unsealing leave one there.
fn left_over(source: usize, marker: MarkerSeen) -> Result<(), Contradiction> {
    match marker.stage {
        Stage::Sealed | Stage::Restoring if marker.plan && marker.source => Ok(()),
        Stage::Sealed | Stage::Restoring => Err(Contradiction::ForeignAtRetired(source)),
        Stage::Tombstone | Stage::Final | Stage::Reclaimed => {
            Err(Contradiction::SwappedBack(source))
        }
    }
}

fn refuse<T>(
    found: Option<T>,
    contradiction: impl FnOnce(T) -> Contradiction,
) -> Result<(), Contradiction> {
    found.map_or(Ok(()), |found| Err(contradiction(found)))
}

/// Refuses a record of this plan at any place that a marker names and the caller does not.
pub(super) fn refuse_records(elsewhere: &[TargetSeen]) -> Result<(), Contradiction> {
    for target in elsewhere {
        match target {
            TargetSeen::Record(RecordSeen { stage: RecordStage::Live, .. }) => {
                return Err(Contradiction::LiveElsewhere);
            }
            TargetSeen::Record(RecordSeen {
                stage: RecordStage::Copying | RecordStage::Committed,
                ..
            }) => return Err(Contradiction::RecordElsewhere),
            TargetSeen::None
            | TargetSeen::NoRecord
            | TargetSeen::Unreadable
            | TargetSeen::Unreachable
            | TargetSeen::MainFileGone => {}
        }
    }
    Ok(())
}

/// I-1: a database that the markers name and that has lost its record may be live: its tables are
/// there, and nothing fences them.
pub(super) fn refuse_recordless(
    elsewhere: &[TargetSeen],
    sources: &Sources,
) -> Result<(), Contradiction> {
    if sources.was_live() && elsewhere.contains(&TargetSeen::NoRecord) {
        return Err(Contradiction::RecordGoneElsewhere);
    }
    Ok(())
}

fn check_elsewhere(
    seen: &Observation,
    sources: &Sources,
    target: Option<RecordSeen>,
) -> Result<(), Contradiction> {
    refuse_records(&seen.elsewhere)?;
    // What can't be seen elsewhere may be live: only a record of this very migration at the
    // caller's own target shows that the caller means the right one.
    let here = target.is_some_and(|record| Some(record.run.id) == sources.id());
    if seen.elsewhere.is_empty() || here {
        return Ok(());
    }
    refuse_recordless(&seen.elsewhere, sources)?;
    Err(Contradiction::TargetElsewhere)
}

fn check_claim(claim: ClaimSeen, sources: &Sources) -> Result<(), Contradiction> {
    match (claim, sources.id()) {
        (ClaimSeen::Unreadable, _) => Err(Contradiction::ClaimUnreadable),
        (ClaimSeen::None, Some(_)) => Err(Contradiction::ClaimMissing),
        (ClaimSeen::Id(claimed), Some(id)) if claimed != id => {
            Err(Contradiction::ClaimOfAnotherMigration)
        }
        (ClaimSeen::Id(_), Some(_)) | (ClaimSeen::None | ClaimSeen::Id(_), None) => Ok(()),
    }
}

fn without_record(sources: &Sources, target: TargetSeen) -> Result<State, Contradiction> {
    refuse(sources.with(Stage::Reclaimed), Contradiction::ReclaimedWithoutTarget)?;
    // I-1: the tables may be there, and nothing fences them.
    if target == TargetSeen::NoRecord && sources.was_live() {
        return Err(Contradiction::RecordGone);
    }
    refuse(sources.gone.first().copied(), Contradiction::MarkerGone)?;
    refuse(
        sources.without_store(&[Stage::Sealed, Stage::Tombstone, Stage::Final, Stage::Restoring]),
        Contradiction::RetiredGone,
    )?;
    if sources.marked.is_empty() {
        return Ok(State::Fresh);
    }
    let restoring = sources.with(Stage::Restoring).is_some();
    let tombstone = sources.with(Stage::Tombstone).or(sources.with(Stage::Final));
    match (restoring, tombstone) {
        (false, None) => Ok(State::Migrating { rerun: false }),
        // I-5: giving back opens the first source only once every other is marked for it.
        (true, _) => {
            let other = tombstone.or(sources.with(Stage::Sealed));
            if other.is_some() {
                refuse(sources.open(), Contradiction::OpenBesideTombstone)?;
            }
            Ok(State::RerunAllowed)
        }
        (false, Some(_)) => {
            refuse(sources.open(), Contradiction::OpenBesideTombstone)?;
            Ok(State::RerunAllowed)
        }
    }
}

fn with_record(sources: &Sources, record: RecordSeen) -> Result<State, Contradiction> {
    if sources.id().is_some_and(|id| id != record.run.id) {
        return Err(Contradiction::RecordOfAnotherMigration);
    }
    match record.stage {
        RecordStage::Copying => {
            check_unfinished(sources, record.run)?;
            refuse(
                sources.without_store(&[Stage::Sealed, Stage::Tombstone]),
                Contradiction::RetiredGone,
            )?;
            match (sources.with(Stage::Sealed), sources.with(Stage::Tombstone)) {
                (Some(_), Some(tombstone)) => Err(Contradiction::MixedStages(tombstone)),
                (_, tombstone) => Ok(State::Migrating { rerun: tombstone.is_some() }),
            }
        }
        RecordStage::Committed => {
            check_unfinished(sources, record.run)?;
            refuse(sources.without_store(&[Stage::Sealed]), Contradiction::RetiredGone)?;
            Ok(State::Committed)
        }
        RecordStage::Live => {
            refuse(sources.with(Stage::Restoring), Contradiction::RestoringBesideRecord)?;
            refuse(sources.directories.first().copied(), Contradiction::ReturnedStore)?;
            refuse(sources.with(Stage::Sealed), Contradiction::LiveBesideSealed)?;
            check_attempts(sources, record.run)?;
            if !record.paths {
                refuse(sources.missing.first().copied(), Contradiction::SourceElsewhere)?;
            }
            // A source with nothing at its path gets its tombstone back before anything else.
            Ok(State::Tombstoned)
        }
    }
}

/// Beside a record at `Copying` or `Committed` every source has a marker, none says that the
/// target was ever live, and all are of the record's attempt.
fn check_unfinished(sources: &Sources, run: Run) -> Result<(), Contradiction> {
    if sources.marked.is_empty() && sources.gone.is_empty() {
        return Err(Contradiction::RecordWithoutMarkers);
    }
    refuse(sources.with(Stage::Restoring), Contradiction::RestoringBesideRecord)?;
    if sources.with(Stage::Final).or(sources.with(Stage::Reclaimed)).is_some() {
        return Err(Contradiction::OlderTarget);
    }
    refuse(sources.gone.first().copied(), Contradiction::MarkerGone)?;
    refuse(sources.open(), Contradiction::OpenBesideRecord)?;
    check_attempts(sources, run)
}

fn check_attempts(sources: &Sources, run: Run) -> Result<(), Contradiction> {
    if sources.marked.iter().all(|m| m.marker.run == run) {
        Ok(())
    } else {
        Err(Contradiction::StaleTarget)
    }
}
