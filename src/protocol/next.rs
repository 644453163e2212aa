//! What comes next: the one durable step that an observation and an intent call for.

use super::classify::{ATTEMPT_OF_A_SEAL, Marked, Sources, refuse_recordless, refuse_records};
use super::{
    AtRetired, Attempt, ClaimSeen, Contradiction, MigrationId, Observation, RecordSeen,
    RecordStage, Run, SecondLock, Stage, State, TargetSeen, Was, classify, classify_with_target,
};
use std::collections::BTreeSet;

/// What the caller wants. Those that lose something are only ever asked for with a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Intent {
    /// Hand out the KV stores.
    UseKv,
    /// Seal every source, as this migration where none has begun.
    Begin(MigrationId),
    /// Copy, verify and lay the tombstones ready, and stop before the commit point.
    Prepare,
    /// Copy, verify and commit.
    Copy,
    /// Set the tombstones and make the target live.
    Finish,
    /// Go back to where an attempt that has not committed began.
    Abort,
    /// Go back from a commit point that has passed.
    AbortCommitted,
    /// Hand out the SQL database.
    UseSql,
    /// Copy once more from the retired stores.
    Rerun,
    /// Give the KV stores back from behind their tombstones.
    RestoreKv,
    /// Free the retired bytes.
    Reclaim,
    /// Go on with the caller's target as it is, since the one that the markers name is lost, or its
    /// record of this migration.
    ReplaceTarget,
    /// Remove from the target an unfinished copy that the markers contradict.
    Discard,
}

/// What a process has done since it took its locks. A restart begins with an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Session {
    /// Whether all that was found has been made durable.
    pub confirmed: bool,
    /// The attempt that this session raises every marker to.
    pub fresh: Option<Attempt>,
    /// Whether the target was re-read and found whole.
    pub verified: bool,
    /// Whether the tombstones lie ready beside the markers.
    pub prepared: bool,
    /// The migration of the last source that this session unsealed.
    pub opened: Option<MigrationId>,
    /// The sources whose tombstone failed; they are tried again by the next session.
    pub failed: BTreeSet<usize>,
    /// The steps that failed and that no invariant leans on; they are tried again by the next session.
    pub skipped: BTreeSet<Step>,
}

/// One durable step. It is done when it returns, or it may not have happened at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Step {
    /// Make durable what was found: markers and their folders, the claim file, and, if asked, the
    /// target's record or its absence. Where that is not asked, nothing leans on the claim file either.
    Confirm {
        /// Whether the target too.
        record: bool,
    },
    /// Write this migration's entry into the claim file.
    Claim(MigrationId),
    /// Remove this plan's entry from the claim file.
    Unclaim,
    /// Put a marker at an open source's path.
    Seal {
        /// The source.
        source: usize,
        /// The marker's run.
        run: Run,
    },
    /// Replace a source's marker.
    Mark {
        /// The source.
        source: usize,
        /// The new stage.
        stage: Stage,
        /// The new attempt.
        attempt: Attempt,
    },
    /// Put a tombstone where a source's path was found empty beside a live target.
    PutBack {
        /// The source.
        source: usize,
        /// The marker's run.
        run: Run,
    },
    /// Give a source its path back.
    Unseal {
        /// The source.
        source: usize,
        /// The marker's migration.
        id: MigrationId,
    },
    /// Set the second lock inside a retired store.
    HoldVersion(usize),
    /// Lift the second lock inside a retired store.
    ReleaseVersion(usize),
    /// Delete a retired store's bytes.
    DeleteRetired(usize),
    /// Remove a temporary file or a marker that sealing or unsealing left over.
    Tidy(usize),
    /// Create the record, the tables and the fence.
    BeginCopy(Run),
    /// Copy the chunks that are missing.
    Copy,
    /// Re-read the target and compare.
    Verify,
    /// Write the tombstones beside the markers.
    Prepare,
    /// The commit point.
    Commit,
    /// Check the tombstones and drop the fence.
    GoLive,
    /// Remove the record and what it says that the migration created.
    DropRecord,
    /// Every source that could get its tombstone has it; these could not.
    GiveUp,
    /// Nothing: this is the state that was wanted.
    Done(State),
}

impl Step {
    /// Whether the rest goes on without it where it fails: no invariant leans on it.
    #[must_use]
    pub const fn is_optional(self) -> bool {
        match self {
            // The second lock is only a second one. A claim that is left says nothing where no source
            // has a marker, and the next migration writes its own over it.
            Self::HoldVersion(_) | Self::Unclaim => true,
            // A store whose second lock stays set does not open.
            Self::ReleaseVersion(_)
            | Self::Confirm { .. }
            | Self::Claim(_)
            | Self::Seal { .. }
            | Self::Mark { .. }
            | Self::PutBack { .. }
            | Self::Unseal { .. }
            | Self::DeleteRetired(_)
            | Self::Tidy(_)
            | Self::BeginCopy(_)
            | Self::Copy
            | Self::Verify
            | Self::Prepare
            | Self::Commit
            | Self::GoLive
            | Self::DropRecord
            | Self::GiveUp
            | Self::Done(_) => false,
        }
    }
}

/// The intent does not fit the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAllowed {
    /// The facts are no state at all.
    #[error("the facts contradict each other")]
    Contradiction(Contradiction),
    /// The table has no edge for the intent from this state.
    #[error("that is not possible from state {}", .0.name())]
    State(State),
    /// A source that is being given back can't be copied again.
    #[error("the KV stores are being given back already; only that can go on")]
    Restoring,
    /// The attempt counter has reached its end.
    #[error("the attempt counter has reached its end")]
    AttemptsExhausted,
}

impl Session {
    /// Remembers that `step` was done.
    pub fn done(&mut self, step: Step) {
        match step {
            Step::Confirm { .. } => self.confirmed = true,
            Step::Mark { attempt, .. } => self.fresh = Some(attempt),
            Step::Verify => self.verified = true,
            Step::Prepare => self.prepared = true,
            Step::Unseal { id, .. } => self.opened = Some(id),
            // What comes after belongs to another attempt.
            Step::DropRecord => *self = Self { confirmed: self.confirmed, ..Self::default() },
            Step::Claim(_)
            | Step::Unclaim
            | Step::Seal { .. }
            | Step::PutBack { .. }
            | Step::HoldVersion(_)
            | Step::ReleaseVersion(_)
            | Step::DeleteRetired(_)
            | Step::Tidy(_)
            | Step::BeginCopy(_)
            | Step::Copy
            | Step::Commit
            | Step::GoLive
            | Step::GiveUp
            | Step::Done(_) => {}
        }
    }
}

/// The step that comes next on the way to what `intent` wants.
///
/// # Errors
///
/// When the observation is a contradiction, or its state has no edge for the intent.
pub fn next(seen: &Observation, intent: Intent, session: &Session) -> Result<Step, NotAllowed> {
    if intent == Intent::ReplaceTarget {
        return replace_target(seen, session);
    }
    if intent == Intent::Discard {
        return discard(seen, session);
    }
    let view = View::new(seen, session)?;
    let classified = match intent {
        Intent::Abort | Intent::AbortCommitted if view.has_opened_all() => {
            return Ok(Step::Done(State::Fresh));
        }
        // What was only sealed needs nothing of the target on its way back.
        Intent::Abort | Intent::AbortCommitted => classify(seen),
        Intent::UseKv
        | Intent::Begin(_)
        | Intent::Prepare
        | Intent::Copy
        | Intent::Finish
        | Intent::UseSql
        | Intent::Rerun
        | Intent::RestoreKv
        | Intent::Reclaim
        | Intent::ReplaceTarget
        | Intent::Discard => classify_with_target(seen),
    };
    let state = classified.map_err(NotAllowed::Contradiction)?;
    let not_allowed = Err(NotAllowed::State(state));
    match (state, intent) {
        (
            State::Fresh,
            Intent::UseKv | Intent::Abort | Intent::AbortCommitted | Intent::RestoreKv,
        ) => Ok(view.go_fresh()),
        (State::Fresh, Intent::Begin(id)) => Ok(view.begin(Run { id, attempt: ATTEMPT_OF_A_SEAL })),
        (State::Migrating { .. }, Intent::Begin(_)) => match (view.sources.id(), view.record) {
            (Some(id), None) => Ok(view.begin(Run { id, attempt: view.attempt_max() })),
            (_, Some(_)) | (None, None) => Ok(Step::Done(state)),
        },
        (State::Migrating { .. }, Intent::Prepare) => {
            let step = view.copy()?;
            Ok(if step == Step::Commit { Step::Done(state) } else { step })
        }
        (State::Migrating { .. }, Intent::Copy) => view.copy(),
        (State::Committed, Intent::Finish) => Ok(view.finish()),
        (State::Tombstoned, Intent::Finish | Intent::UseSql) => view.use_sql(),
        (State::Migrating { .. }, Intent::Abort | Intent::AbortCommitted)
        | (State::Committed, Intent::AbortCommitted) => view.abort(),
        (State::RerunAllowed, Intent::Rerun) => view.rerun(),
        (State::RerunAllowed, Intent::RestoreKv) => view.restore(),
        (State::Tombstoned, Intent::Reclaim) => view.reclaim(),
        // Aborted back to the tombstones, which stay.
        (State::RerunAllowed, Intent::Abort | Intent::AbortCommitted) => {
            let lock = view.confirm().or_else(|| view.hold());
            Ok(lock.unwrap_or(Step::Done(state)))
        }
        // The end of the way: committed, or begun again.
        (State::Committed | State::Tombstoned, Intent::Copy)
        | (State::Migrating { rerun: true }, Intent::Rerun) => Ok(Step::Done(state)),
        (
            State::Fresh,
            Intent::Prepare
            | Intent::Copy
            | Intent::Finish
            | Intent::UseSql
            | Intent::Rerun
            | Intent::Reclaim
            | Intent::ReplaceTarget
            | Intent::Discard,
        )
        | (
            State::Migrating { rerun: false | true },
            Intent::UseKv
            | Intent::Finish
            | Intent::UseSql
            | Intent::Rerun
            | Intent::RestoreKv
            | Intent::Reclaim
            | Intent::ReplaceTarget
            | Intent::Discard,
        )
        | (
            State::Committed,
            Intent::UseKv
            | Intent::Begin(_)
            | Intent::Prepare
            | Intent::Abort
            | Intent::UseSql
            | Intent::Rerun
            | Intent::RestoreKv
            | Intent::Reclaim
            | Intent::ReplaceTarget
            | Intent::Discard,
        )
        | (
            State::Tombstoned,
            Intent::UseKv
            | Intent::Begin(_)
            | Intent::Prepare
            | Intent::Abort
            | Intent::AbortCommitted
            | Intent::Rerun
            | Intent::RestoreKv
            | Intent::ReplaceTarget
            | Intent::Discard,
        )
        | (
            State::RerunAllowed,
            Intent::UseKv
            | Intent::Begin(_)
            | Intent::Prepare
            | Intent::Copy
            | Intent::Finish
            | Intent::UseSql
            | Intent::Reclaim
            | Intent::ReplaceTarget
            | Intent::Discard,
        ) => not_allowed,
    }
}

/// An observation that is a state, as the steps look at it.
struct View<'a> {
    seen: &'a Observation,
    session: &'a Session,
    sources: Sources,
    record: Option<RecordSeen>,
}

impl<'a> View<'a> {
    fn new(seen: &'a Observation, session: &'a Session) -> Result<Self, NotAllowed> {
        let sources = Sources::sort(seen).map_err(NotAllowed::Contradiction)?;
        let record = match seen.target {
            TargetSeen::Record(record) => Some(record),
            TargetSeen::None
            | TargetSeen::NoRecord
            | TargetSeen::Unreadable
            | TargetSeen::Unreachable
            | TargetSeen::MainFileGone => None,
        };
        Ok(Self { seen, session, sources, record })
    }

    /// Before the protocol acts on a fact that it found, it makes the fact durable: what a killed
    /// process left in the page cache may be taken back by a power cut.
    fn confirm(&self) -> Option<Step> {
        let marked = &self.sources.marked;
        let everything_open = marked.is_empty() && self.record.is_none();
        // `Final` is only ever written after `Live` was durable, and a marker that is removed was
        // removed after the record was.
        let live = self.record.is_some_and(|record| record.stage == RecordStage::Live);
        let handed_out_before = live
            && marked.len() == self.seen.sources.len()
            && marked.iter().all(|m| matches!(m.marker.stage, Stage::Final | Stage::Reclaimed));
        (!self.session.confirmed)
            .then_some(Step::Confirm { record: !(everything_open || handed_out_before) })
    }

    fn attempt_max(&self) -> Attempt {
        self.sources.marked.iter().map(|m| m.marker.run.attempt).max().unwrap_or(1)
    }

    /// Fresh, with nothing of ours left lying about.
    fn go_fresh(&self) -> Step {
        self.confirm()
            .or_else(|| self.tidy())
            .or_else(|| self.unclaim())
            .unwrap_or(Step::Done(State::Fresh))
    }

    fn unclaim(&self) -> Option<Step> {
        let is_left = match self.seen.claim {
            // What another migration has put there since the seal stays.
            ClaimSeen::Id(claimed) => self.session.opened.is_none_or(|opened| opened == claimed),
            ClaimSeen::None | ClaimSeen::Unreadable => false,
        };
        let is_skipped = self.session.skipped.contains(&Step::Unclaim);
        (is_left && !is_skipped).then_some(Step::Unclaim)
    }

    fn tidy(&self) -> Option<Step> {
        let left_over =
            |at: &super::SourceSeen| at.temporary || matches!(at.retired, AtRetired::Marker(_));
        self.seen.sources.iter().position(left_over).map(Step::Tidy)
    }

    /// The claim stands before the first seal, so that a missing claim says something.
    fn claim(&self, id: MigrationId) -> Option<Step> {
        match self.seen.claim {
            ClaimSeen::Id(claimed) if claimed == id => None,
            ClaimSeen::Id(_) | ClaimSeen::None => Some(Step::Claim(id)),
            // Not ours to replace; beside a record it is not needed.
            ClaimSeen::Unreadable => None,
        }
    }

    fn seal(&self, run: Run) -> Option<Step> {
        let open = self.sources.directories.iter().chain(&self.sources.missing).min();
        open.map(|&source| Step::Seal { source, run })
    }

    /// I-3: every source is sealed before the first byte is copied.
    fn begin(&self, run: Run) -> Step {
        self.confirm()
            .or_else(|| self.tidy())
            .or_else(|| self.claim(run.id))
            .or_else(|| self.seal(run))
            .unwrap_or(Step::Done(State::Migrating { rerun: false }))
    }

    /// The attempt that this session raises markers to: higher than any that was ever written.
    fn fresh(&self) -> Result<Attempt, NotAllowed> {
        match self.session.fresh {
            Some(fresh) => Ok(fresh),
            None => self.attempt_max().checked_add(1).ok_or(NotAllowed::AttemptsExhausted),
        }
    }

    /// Raises every marker, as `stage_of` says, to an attempt that no record can carry yet.
    fn raise(&self, stage_of: impl Fn(Stage) -> Stage) -> Result<Option<Step>, NotAllowed> {
        let fresh = self.fresh()?;
        let lower = |m: &&Marked| {
            m.marker.run.attempt != fresh || m.marker.stage != stage_of(m.marker.stage)
        };
        Ok(self.sources.marked.iter().find(lower).map(|m| Step::Mark {
            source: m.source,
            stage: stage_of(m.marker.stage),
            attempt: fresh,
        }))
    }

    fn copy(&self) -> Result<Step, NotAllowed> {
        if let Some(step) = self.confirm() {
            return Ok(step);
        }
        let Some(record) = self.record else {
            let Some(id) = self.sources.id() else {
                return Err(NotAllowed::State(State::Fresh));
            };
            let run = Run { id, attempt: self.attempt_max() };
            // I-4: sealing needs the retired name, where a seal that was killed leaves its marker.
            let step = self.claim(id).or_else(|| self.tidy()).or_else(|| self.seal(run));
            if let Some(step) = step {
                return Ok(step);
            }
            // I-6: an older SQL file that turns up must not pass for this attempt's.
            return Ok(self.raise(|stage| stage)?.unwrap_or(Step::BeginCopy(run)));
        };
        Ok(self.claim(record.run.id).unwrap_or(
            match (record.copied, self.session.verified, self.session.prepared) {
                (false, _, _) => Step::Copy,
                (true, false, _) => Step::Verify,
                (true, true, false) => Step::Prepare,
                (true, true, true) => Step::Commit,
            },
        ))
    }

    fn finish(&self) -> Step {
        if let Some(step) = self.confirm() {
            return step;
        }
        let sealed = |m: &&Marked| m.marker.stage == Stage::Sealed;
        let mut waiting = self.sources.marked.iter().filter(sealed);
        match waiting.find(|m| !self.session.failed.contains(&m.source)) {
            Some(m) => Step::Mark {
                source: m.source,
                stage: Stage::Tombstone,
                attempt: m.marker.run.attempt,
            },
            None if self.session.failed.is_empty() => Step::GoLive,
            // I-4: one that stands although it failed may not be durable.
            None => Step::GiveUp,
        }
    }

    /// The second lock of a retired store where it is found missing.
    fn hold(&self) -> Option<Step> {
        let lifted = |m: &&Marked| {
            matches!(m.marker.stage, Stage::Tombstone | Stage::Final)
                && m.retired == Some(SecondLock::Native)
                && !self.session.skipped.contains(&Step::HoldVersion(m.source))
        };
        self.sources.marked.iter().find(lifted).map(|m| Step::HoldVersion(m.source))
    }

    fn use_sql(&self) -> Result<Step, NotAllowed> {
        let Some(record) = self.record else {
            return Err(NotAllowed::State(State::RerunAllowed));
        };
        let empty = || {
            let source = *self.sources.gone.iter().chain(&self.sources.missing).min()?;
            let left_over = self.seen.sources.get(source).map(|at| at.retired);
            // Beside a marker at the path it would be nobody's.
            Some(match left_over {
                Some(AtRetired::Marker(_)) => Step::Tidy(source),
                Some(AtRetired::Nothing | AtRetired::Directory(_) | AtRetired::Foreign) | None => {
                    Step::PutBack { source, run: record.run }
                }
            })
        };
        let marked = &self.sources.marked;
        Ok(self
            .confirm()
            // I-1: before anything else, no stock opener may create a store here.
            .or_else(empty)
            .or_else(|| self.claim(record.run.id))
            .or_else(|| self.hold())
            .or_else(|| {
                marked.iter().find(|m| m.marker.stage == Stage::Tombstone).map(|m| Step::Mark {
                    source: m.source,
                    stage: Stage::Final,
                    attempt: m.marker.run.attempt,
                })
            })
            .or_else(|| self.tidy())
            .unwrap_or(Step::Done(State::Tombstoned)))
    }

    /// Whether no source has a marker, and it can't be known what the target holds: an abort that needed
    /// nothing of it has come to its end. What it left beside them is removed once the target is seen.
    fn has_opened_all(&self) -> bool {
        let is_unknown = match self.seen.target {
            TargetSeen::Unreadable | TargetSeen::Unreachable | TargetSeen::MainFileGone => true,
            TargetSeen::None | TargetSeen::NoRecord | TargetSeen::Record(_) => false,
        };
        is_unknown && self.sources.marked.is_empty() && self.sources.gone.is_empty()
    }

    fn abort(&self) -> Result<Step, NotAllowed> {
        if self.sources.need_no_target(self.seen.target) {
            // I-4: no record was ever begun, so that the way back needs less than the way there. What
            // the seals left goes while the markers say of which migration it is.
            // A file that was deleted may have been an older migration's: where one can look, its end is
            // made durable (I-1).
            let record =
                self.seen.target == TargetSeen::None && self.seen.claim != ClaimSeen::Unreadable;
            let confirm = (!self.session.confirmed).then_some(Step::Confirm { record });
            let step = confirm.or_else(|| self.tidy()).or_else(|| self.unseal());
            return Ok(step.unwrap_or(Step::Done(State::Fresh)));
        }
        if let Some(step) = self.confirm() {
            return Ok(step);
        }
        if let Some(record) = self.record {
            // Once the record is gone, only the claim and the markers say that this target is theirs.
            let moved = || {
                self.sources.marked.iter().find(|m| !m.marker.target).map(|m| Step::Mark {
                    source: m.source,
                    stage: m.marker.stage,
                    attempt: m.marker.run.attempt,
                })
            };
            return Ok(self.claim(record.run.id).or_else(moved).unwrap_or(Step::DropRecord));
        }
        // I-6: raised before the first source opens.
        Ok(self.raise(|stage| stage)?.or_else(|| self.unseal()).unwrap_or(Step::Done(State::Fresh)))
    }

    /// The last marked source's way back, its second lock lifted first.
    fn unseal(&self) -> Option<Step> {
        self.sources.marked.last().map(|m| match m.retired {
            Some(SecondLock::Held) => Step::ReleaseVersion(m.source),
            Some(SecondLock::Native) | None => {
                Step::Unseal { source: m.source, id: m.marker.run.id }
            }
        })
    }

    fn rerun(&self) -> Result<Step, NotAllowed> {
        if self.sources.marked.iter().any(|m| m.marker.stage == Stage::Restoring) {
            return Err(NotAllowed::Restoring);
        }
        let Some(id) = self.sources.id() else {
            return Err(NotAllowed::State(State::Fresh));
        };
        if let Some(step) = self.confirm() {
            return Ok(step);
        }
        // I-6: `Final` goes back with the attempt raised, so that the old file is known as stale.
        let run = Run { id, attempt: self.attempt_max() };
        Ok(self.raise(|_| Stage::Tombstone)?.unwrap_or(Step::BeginCopy(run)))
    }

    fn restore(&self) -> Result<Step, NotAllowed> {
        if let Some(step) = self.confirm() {
            return Ok(step);
        }
        let waiting = |m: &&Marked| m.marker.stage != Stage::Restoring;
        if let Some(m) = self.sources.marked.iter().find(waiting) {
            let attempt = self.fresh()?;
            return Ok(Step::Mark { source: m.source, stage: Stage::Restoring, attempt });
        }
        Ok(self.unseal().unwrap_or(Step::Done(State::Fresh)))
    }

    fn reclaim(&self) -> Result<Step, NotAllowed> {
        // What is freed is nowhere but in the target from here on.
        if !self.session.confirmed {
            return Ok(Step::Confirm { record: true });
        }
        let step = self.use_sql()?;
        if step != Step::Done(State::Tombstoned) {
            return Ok(step);
        }
        let marked = &self.sources.marked;
        let unmarked = marked.iter().find(|m| m.marker.stage != Stage::Reclaimed);
        // Every marker says it before the first byte goes.
        Ok(unmarked
            .map(|m| Step::Mark {
                source: m.source,
                stage: Stage::Reclaimed,
                attempt: m.marker.run.attempt,
            })
            .or_else(|| {
                marked
                    .iter()
                    .find(|m| m.marker.was == Was::Directory && m.retired.is_some())
                    .map(|m| Step::DeleteRetired(m.source))
            })
            .unwrap_or(Step::Done(State::Tombstoned)))
    }
}

/// Points every marker at the caller's target, once an operator has said that the one they name, or
/// its record, is gone for good, and nothing live is found there. None says any more that the target
/// was live.
fn replace_target(seen: &Observation, session: &Session) -> Result<Step, NotAllowed> {
    refuse_records(&seen.elsewhere).map_err(NotAllowed::Contradiction)?;
    let sources = Sources::sort(seen).map_err(NotAllowed::Contradiction)?;
    refuse_recordless(&seen.elsewhere, &sources).map_err(NotAllowed::Contradiction)?;
    let Some(id) = sources.id() else {
        return Err(NotAllowed::State(State::Fresh));
    };
    let claim = match seen.claim {
        ClaimSeen::None | ClaimSeen::Id(_) => ClaimSeen::Id(id),
        ClaimSeen::Unreadable => ClaimSeen::Unreadable,
    };
    let target = match seen.target {
        TargetSeen::NoRecord => TargetSeen::None,
        TargetSeen::None
        | TargetSeen::Record(_)
        | TargetSeen::Unreadable
        | TargetSeen::Unreachable
        | TargetSeen::MainFileGone => seen.target,
    };
    let replaced = Observation { target, elsewhere: Vec::new(), claim, ..seen.clone() };
    let state = classify_with_target(&replaced).map_err(NotAllowed::Contradiction)?;
    let view = View::new(seen, session)?;
    if view.record.is_some() {
        return Err(NotAllowed::State(state));
    }
    match state {
        State::Migrating { .. } | State::RerunAllowed => {}
        State::Fresh | State::Committed | State::Tombstoned => {
            return Err(NotAllowed::State(state));
        }
    }
    if let Some(step) = view.confirm().or_else(|| view.claim(id)) {
        return Ok(step);
    }
    let settled = session.fresh.is_none() && classify_with_target(seen).is_ok();
    let given_up = |stage| if stage == Stage::Final { Stage::Tombstone } else { stage };
    match view.raise(given_up)? {
        Some(step) if !settled => Ok(step),
        Some(_) | None => Ok(Step::Done(state)),
    }
}

/// Removes an unfinished copy from the target, once an operator has said so, where the markers say
/// that it is not theirs. Its tables were never out of their fence, and nothing but them goes.
fn discard(seen: &Observation, session: &Session) -> Result<Step, NotAllowed> {
    let contradiction = match classify_with_target(seen) {
        Ok(state) => return Ok(Step::Done(state)),
        Err(contradiction) => contradiction,
    };
    let unfinished = matches!(
        seen.target,
        TargetSeen::Record(RecordSeen { stage: RecordStage::Copying | RecordStage::Committed, .. })
    );
    if !contradiction.is_left_over() || !unfinished {
        return Err(NotAllowed::Contradiction(contradiction));
    }
    Ok(if session.confirmed { Step::DropRecord } else { Step::Confirm { record: true } })
}
