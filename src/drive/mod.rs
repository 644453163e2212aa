//! The driver: observe, ask the protocol for one step, make it durable, observe again. It decides
//! nothing about order.

mod hints;
mod outcome;
mod preflight;
mod steps;
mod stores;

#[cfg(test)]
pub(crate) use hints::hints;
pub use outcome::{Freed, Skipped};
pub(crate) use preflight::{Survey, survey};
pub(crate) use stores::Opened;

use crate::copy::Middle;
use crate::error::{Cause, Error, not_from};
use crate::fault;
use crate::look::{Places, Seen, copy_of};
use crate::mapping::{Keyspace, Table, quarantine_table};
use crate::observer::Observer;
use crate::place::{Look, Standing};
use crate::plan::Plan;
use crate::protocol::{
    Contradiction, Intent, MigrationId, NotAllowed, Session, Stage, State, Step, Was, classify,
    next,
};
use crate::source::{Store, inventory};
use crate::sql::{Access, StepError, TargetLook, Throwaway};
use preflight::{TARGET_BYTES_BESIDES, survey_target, try_places, try_target};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// More steps than any run of the protocol takes, so that a mistake can't loop for ever.
const STEPS_MAX: usize = 100_000;

/// Holds the locks and drives a plan through its steps.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) places: Places,
    /// The stores that preflight opened, with fjall's own locks, which are held until each source is
    /// sealed; then the copy reads them, or they are closed.
    pub(crate) kept: Vec<Option<Store>>,
    /// The retired stores, while they are read: opening one may replay a long journal.
    pub(crate) opened: Option<Vec<Opened>>,
    /// Where this session's copy divided each keyspace of the record, for the verification.
    pub(crate) middles: Vec<Option<Middle>>,
    /// The retired stores whose second lock was set when they were opened; none where no store was.
    pub(crate) lifted: Option<BTreeSet<PathBuf>>,
    /// What this session has freed.
    pub(crate) freed: Vec<Freed>,
    /// The steps that failed, and that the rest went on without.
    pub(crate) skipped: Vec<Skipped>,
    /// Whether the last intent has changed anything.
    pub(crate) changed: bool,
}

impl Driver {
    /// Takes the locks of `plan`.
    pub(crate) fn new(plan: &Plan) -> Result<Self, Error> {
        let places = Places::new(plan, Access::Locked).map_err(Error::Refused)?;
        let kept = places.sites.iter().map(|_| None).collect();
        Ok(Self {
            places,
            kept,
            opened: None,
            middles: Vec::new(),
            lifted: None,
            freed: Vec::new(),
            skipped: Vec::new(),
            changed: false,
        })
    }

    /// Looks at everything, and says which state it is.
    pub(crate) fn look(&self) -> Result<(State, Seen), Error> {
        let seen = self.places.observe().map_err(Error::Refused)?;
        Ok((self.places.classify(&seen)?, seen))
    }

    /// Does step after step until the state that `intent` wants.
    ///
    /// [`Error::Refused`] means that nothing was changed; what an earlier call changed stays.
    pub(crate) fn drive(
        &mut self,
        intent: Intent,
        observer: &mut dyn Observer,
    ) -> Result<State, Error> {
        self.skipped.clear();
        self.changed = false;
        let begins = matches!(intent, Intent::Begin(_));
        if intent == Intent::UseKv
            && let Err(cause) = self.places.target.tidy_trial()
        {
            tracing::warn!(%cause, "what a killed trial may have left is not removed");
        }
        if !begins && !matches!(intent, Intent::Prepare | Intent::Copy) {
            self.close_kept();
        }
        let driven = self.steps(intent, observer);
        self.close_stores();
        if !begins || driven.is_err() {
            self.close_kept();
        }
        driven
    }

    fn steps(&mut self, intent: Intent, observer: &mut dyn Observer) -> Result<State, Error> {
        let mut session = Session::default();
        let mut changed = false;
        let mut failures = Vec::new();
        let aborts = matches!(intent, Intent::Abort | Intent::AbortCommitted);
        let mut out_of_reach: Option<Cause> = None;
        for _ in 0..STEPS_MAX {
            let (without_claim, locked) = match self.places.claim.lock() {
                Err(cause) if aborts && cause.is_of_the_system() => (Some(cause), Ok(())),
                locked => (None, locked),
            };
            let known = out_of_reach.as_ref().map(copy_of);
            let seen = locked
                .and_then(|()| self.places.observe_beside(known))
                .and_then(|seen| self.places.check_plain(&seen, intent).map(|()| seen))
                .map_err(|cause| stopped(changed, "look", cause))?;
            let step = next(&seen.observation, intent, &session)
                .map_err(|refusal| self.not_allowed(&seen, refusal, changed))?;
            if let TargetLook::Unreachable(cause) = &seen.target
                && aborts
            {
                out_of_reach = Some(copy_of(cause));
            }
            if let Some(cause) = without_claim
                && needs_claim(step)
            {
                return Err(stopped(changed, "look", cause));
            }
            fault::taking(&seen.observation, intent, &session, step);
            if let Step::Done(state) = step {
                return Ok(state);
            }
            let is_cancellable =
                matches!(intent, Intent::Begin(_) | Intent::Prepare | Intent::Copy);
            if is_cancellable && observer.cancelled() {
                return Err(stopped(changed, Self::name(step), Cause::Cancelled));
            }
            if step == Step::GiveUp {
                let cause = several(failures);
                return Err(Error::Interrupted { step: Self::name(step), cause });
            }
            if is_first_raise(step, intent, &session) {
                // From the raise on, a way back has to look whether a record was begun.
                self.places
                    .check_as_sealed(&seen)
                    .and_then(|()| try_target(&self.places))
                    .map_err(|cause| stopped(changed, "try the target", cause))?;
            }
            for early in fault::too_early(step, &seen.observation) {
                if self.execute(early, &seen, observer).is_ok() {
                    session.done(early);
                }
            }
            match self.execute(step, &seen, observer) {
                Ok(()) => {
                    let subject = self.subject(step);
                    tracing::info!(step = Self::name(step), subject, "durable");
                    observer.step(Self::name(step), &subject);
                }
                // Every tombstone is tried; what failed is tried again at the next start.
                Err(StepError::Failed(cause))
                    if let Step::Mark { source, stage: Stage::Tombstone, .. } = step
                        && intent == Intent::Finish =>
                {
                    session.failed.insert(source);
                    failures.push(cause);
                    continue;
                }
                Err(StepError::Failed(cause)) if step.is_optional() => {
                    let (step_name, subject) = (Self::name(step), self.subject(step));
                    tracing::warn!(step = step_name, subject, %cause, "failed; the rest goes on");
                    self.skipped.push(Skipped { step: step_name, subject, why: cause.to_string() });
                    session.skipped.insert(step);
                    continue;
                }
                Err(StepError::Failed(cause)) => {
                    // Chunks before the one that failed are durable.
                    changed |= step == Step::Copy && self.has_copied(&seen);
                    return Err(stopped(changed, Self::name(step), cause));
                }
                Err(StepError::Unknown(cause)) => {
                    return Err(Error::OutcomeUnknown { step: Self::name(step), cause });
                }
                Err(StepError::Mismatch(mismatch)) => return Err(Error::Verification(mismatch)),
            }
            // What is tidied up before a beginning is what nobody needs, or another one's that begins too.
            let is_change = match step {
                Step::Confirm { .. } | Step::Verify => false,
                Step::Tidy(_) => !matches!(intent, Intent::Begin(_)),
                _ => true,
            };
            changed |= is_change;
            self.changed = changed;
            session.done(step);
        }
        Err(stopped(
            changed,
            "come to an end",
            Cause::Bug("the plan took too many steps".to_owned()),
        ))
    }

    /// Seals every source as a new migration; on a failure those sealed are unsealed again.
    pub(crate) fn begin(&mut self, observer: &mut dyn Observer) -> Result<State, Error> {
        self.close_kept();
        let begun = self
            .preflight()
            .and_then(|()| new_id())
            .map_err(Error::Refused)
            .and_then(|id| self.drive(Intent::Begin(id), observer));
        match begun {
            // Without the claim, what stands there is not ours to undo; and unless it was lost after
            // a seal, nothing was sealed.
            Err(Error::Interrupted { step, cause }) if !self.places.claim.is_locked() => {
                if self.is_unmarked() {
                    Err(Error::Refused(cause))
                } else {
                    Err(Error::Interrupted { step, cause })
                }
            }
            Err(Error::Interrupted { step, cause }) => match self.drive(Intent::Abort, observer) {
                Ok(State::Fresh) => Err(Error::Refused(cause)),
                Ok(_) | Err(_) => Err(Error::Interrupted { step, cause }),
            },
            result => result,
        }
    }

    /// Looks at everything that would stop [`Driver::begin`], and keeps the stores open.
    pub(crate) fn check_begin(&mut self) -> Result<(), Cause> {
        self.close_kept();
        self.preflight()
    }

    /// Whether it is known that no source has a marker.
    fn is_unmarked(&self) -> bool {
        let is_marker =
            |look: &Look| matches!(look.path, Standing::Marker(_) | Standing::Damaged(_));
        self.places.observe().is_ok_and(|seen| !seen.looks.iter().any(is_marker))
    }

    /// Refuses what would free, beside the retired stores, what may be nowhere else.
    pub(crate) fn check_reclaim(&self) -> Result<(), Error> {
        self.places.check_reclaim(&self.places.observe().map_err(Error::Refused)?)
    }

    /// Frees the retired stores; [`Driver::freed`] says what was done to each. Where it is not known that
    /// nothing else goes with them, only `even_if_changed`.
    pub(crate) fn reclaim(&mut self, even_if_changed: bool) -> Result<State, Error> {
        self.freed.clear();
        if !even_if_changed {
            self.check_reclaim()?;
        }
        let state = self.drive(Intent::Reclaim, &mut ())?;
        let seen = self.places.observe().map_err(|cause| stopped(true, "look", cause))?;
        for (site, look) in self.places.sites.iter().zip(&seen.looks) {
            let was = look.path.marker().map(|marker| marker.was);
            let is_told = self.freed.iter().any(|freed| freed.source == site.name);
            if was == Some(Was::Directory) && !is_told {
                let rest = if look.freed {
                    let tree = inventory::tree(&site.retired);
                    tree.map_err(|cause| stopped(true, "look", cause))?.foreign
                } else {
                    Vec::new()
                };
                self.freed.push(Freed {
                    source: site.name.clone(),
                    retired: site.retired.clone(),
                    stood: false,
                    bytes: 0,
                    rest,
                });
            }
        }
        Ok(state)
    }

    /// Begins to copy from the retired stores, once everything that would stop it was looked at.
    pub(crate) fn rerun(
        &mut self,
        even_if_changed: bool,
        observer: &mut dyn Observer,
    ) -> Result<State, Error> {
        self.check_rerun(even_if_changed)?;
        self.drive(Intent::Rerun, observer)
    }

    /// Looks at everything that would stop [`Driver::rerun`].
    pub(crate) fn check_rerun(&mut self, even_if_changed: bool) -> Result<(), Error> {
        // What can't be rerun is refused as that, and not as what is missing for it.
        let seen = self.places.observe().map_err(Error::Refused)?;
        if let Err(refusal) = next(&seen.observation, Intent::Rerun, &Session::default()) {
            return Err(self.not_allowed(&seen, refusal, false));
        }
        self.places.check_plain(&seen, Intent::Rerun).map_err(Error::Refused)?;
        if !even_if_changed {
            self.places.check_known(&seen)?;
        }
        self.preflight_rerun().map_err(Error::Refused)
    }

    fn preflight_rerun(&mut self) -> Result<(), Cause> {
        let opened = self.open_stores();
        self.close_stores();
        let opened = opened?;
        let stores = opened.iter().filter_map(|opened| opened.store.as_ref());
        let held_bytes: u64 = stores.map(|store| store.tree().held_bytes).sum();
        let bytes = TARGET_BYTES_BESIDES + held_bytes;
        let resolved: Vec<Vec<Keyspace>> = opened.into_iter().map(|o| o.keyspaces).collect();
        try_places(&self.places, &mut Err)?;
        survey_target(&self.places, &resolved, bytes, &mut Err)
    }

    /// Gives the KV stores back, once no rows of theirs are found beside them that nothing fences.
    pub(crate) fn restore(&mut self, observer: &mut dyn Observer) -> Result<State, Error> {
        let seen = self.places.observe().map_err(Error::Refused)?;
        let is_restoring =
            |look: &Look| look.path.marker().is_some_and(|m| m.stage == Stage::Restoring);
        // What has begun goes on: its stores may be open already.
        if !seen.looks.iter().any(is_restoring) {
            self.refuse_rows(&seen).map_err(Error::Refused)?;
        }
        self.drive(Intent::RestoreKv, observer)
    }

    /// Goes on without the target that the markers name. One that is there and has lost its record has
    /// a word of its own.
    pub(crate) fn replace_target(&mut self) -> Result<(), Error> {
        let seen = self.places.observe().map_err(Error::Refused)?;
        if classify(&seen.observation) == Err(Contradiction::RecordGone) {
            return Err(self.places.contradict(&seen, Contradiction::RecordGone));
        }
        self.drive(Intent::ReplaceTarget, &mut ()).map(drop)
    }

    /// Gives up a record that somebody dropped, and what was written beside it since it went live.
    pub(crate) fn forget_record(&mut self) -> Result<(), Error> {
        let seen = self.places.observe().map_err(Error::Refused)?;
        match classify(&seen.observation) {
            // Forgotten already, or put back.
            Ok(_) => return Ok(()),
            Err(Contradiction::RecordGone) => {}
            Err(contradiction) => return Err(self.places.contradict(&seen, contradiction)),
        }
        // While the markers still say that it was live: a record that is put back is taken then.
        self.refuse_rows(&seen).map_err(Error::Refused)?;
        self.drive(Intent::ReplaceTarget, &mut ()).map(drop)
    }

    /// I-1: refuses where the target has no record, and tables of the plan's hold rows. Which they
    /// are is not known of a daemon's own tables, to a plan that has none.
    fn refuse_rows(&mut self, seen: &Seen) -> Result<(), Cause> {
        let mut markers = seen.looks.iter().filter_map(|look| look.path.marker());
        let unknown = self.places.plan.is_plain() && markers.any(|marker| !marker.plain);
        if !matches!(seen.target, TargetLook::NoRecord) || unknown {
            return Ok(());
        }
        let opened = self.open_stores();
        self.close_stores();
        let opened = match opened {
            Ok(opened) => opened,
            // What can't be opened can't be written either.
            Err(cause) => {
                tracing::warn!(%cause, "which tables a store filled can't be known");
                return Ok(());
            }
        };
        let name = self.places.plan.name();
        let keyspaces = opened.iter().flat_map(|opened| &opened.keyspaces);
        let mut tables: Vec<Table> = keyspaces.flat_map(|k| k.mapping.tables()).collect();
        tables.push(quarantine_table(name));
        let tables = self.places.target.filled(name, &tables)?;
        let path = self.places.target.path.clone();
        if tables.is_empty() { Ok(()) } else { Err(Cause::RowsLeft { path, tables }) }
    }

    /// Finds out everything that would stop the migration before anything is changed, and keeps the
    /// stores that stand open, with fjall's own locks. No rehearsal comes after it, so what a killed
    /// one left is removed.
    fn preflight(&mut self) -> Result<(), Cause> {
        self.kept = survey(&self.places, &mut Err)?.stores;
        Throwaway::tidy(&self.places.target);
        Ok(())
    }

    fn not_allowed(&self, seen: &Seen, refusal: NotAllowed, changed: bool) -> Error {
        let cause = match refusal {
            NotAllowed::Contradiction(contradiction) => {
                return self.places.contradict(seen, contradiction);
            }
            NotAllowed::State(state) => {
                not_from(state, "that is not possible from there", "`cutover status` says what is")
            }
            NotAllowed::Restoring => not_from(
                State::RerunAllowed,
                "the KV stores are being given back already",
                "finish that with restore-kv",
            ),
            NotAllowed::AttemptsExhausted => not_from(
                State::Migrating { rerun: false },
                "its attempt counter has reached its end",
                "restore the markers from a backup",
            ),
        };
        stopped(changed, "go on", cause)
    }
}

/// Whether a step is taken under the claim's lock alone. An abort of what was only sealed needs nothing
/// that is beside the target.
const fn needs_claim(step: Step) -> bool {
    match step {
        Step::Confirm { record } => record,
        Step::Unseal { .. } | Step::ReleaseVersion(_) | Step::Tidy(_) | Step::Done(_) => false,
        Step::Claim(_)
        | Step::Unclaim
        | Step::Seal { .. }
        | Step::Mark { .. }
        | Step::PutBack { .. }
        | Step::HoldVersion(_)
        | Step::DeleteRetired(_)
        | Step::BeginCopy(_)
        | Step::Copy
        | Step::Verify
        | Step::Prepare
        | Step::Commit
        | Step::GoLive
        | Step::DropRecord
        | Step::GiveUp => true,
    }
}

/// Whether this is the first raise of a session that is going to begin a record.
fn is_first_raise(step: Step, intent: Intent, session: &Session) -> bool {
    matches!((step, intent), (Step::Mark { .. }, Intent::Prepare | Intent::Copy))
        && session.fresh.is_none()
}

/// All of `causes` as one.
pub(crate) fn several(mut causes: Vec<Cause>) -> Cause {
    match causes.pop() {
        Some(only) if causes.is_empty() => only,
        Some(last) => {
            causes.push(last);
            Cause::Several(causes)
        }
        None => Cause::Several(causes),
    }
}

/// Whether a call that stopped here has changed anything. Some causes are found by looking.
pub(crate) fn stopped(changed: bool, step: &'static str, cause: Cause) -> Error {
    let found_by_looking = match cause {
        Cause::Io { .. }
        | Cause::Engine { .. }
        | Cause::StoreDamaged { .. }
        | Cause::Several(_)
        | Cause::Cancelled
        | Cause::Bug(_) => false,
        Cause::Plan(_)
        | Cause::PlanChanged { .. }
        // Nobody comes so far that a right is missing for the rest, but for what was changed before.
        | Cause::Denied { .. }
        | Cause::NotUtf8(_)
        | Cause::MarkerMoved { .. }
        | Cause::SourceMissing { .. }
        | Cause::NotAStore { .. }
        | Cause::SourceBusy { .. }
        | Cause::Locked { .. }
        | Cause::Unchangeable { .. }
        | Cause::MountPoint { .. }
        | Cause::Scattered { .. }
        | Cause::RetiredChanged { .. }
        | Cause::NoExchange { .. }
        | Cause::ForeignLink { .. }
        | Cause::Owner { .. }
        | Cause::Owners { .. }
        | Cause::TargetLocksOut { .. }
        | Cause::StoreShared { .. }
        | Cause::TargetOfAnother { .. }
        | Cause::Overlap { .. }
        | Cause::KeyspaceUnmapped { .. }
        | Cause::KeyspaceMissing { .. }
        | Cause::TargetFolderMissing(_)
        | Cause::NotADatabase { .. }
        | Cause::Table { .. }
        | Cause::RowsLeft { .. }
        | Cause::Definition { .. }
        | Cause::Misfit { .. }
        | Cause::Index { .. }
        | Cause::Claims { .. }
        | Cause::DiskFull { .. }
        | Cause::InTheWay(_)
        | Cause::PairRefused { .. }
        | Cause::CheckRefused { .. }
        | Cause::QuarantineFull { .. }
        | Cause::PairsRefused { .. }
        | Cause::RowRefused { .. }
        | Cause::TargetAltered { .. }
        | Cause::ChangedUnderneath(_)
        | Cause::RecordChanged(_)
        | Cause::Moved { .. }
        | Cause::State { .. } => true,
    };
    if !changed && (found_by_looking || step == "look" || step == "verify") {
        Error::Refused(cause)
    } else {
        Error::Interrupted { step, cause }
    }
}

pub(crate) fn new_id() -> Result<MigrationId, Cause> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        let error = error.raw_os_error().map_or_else(
            || std::io::Error::other(error.to_string()),
            std::io::Error::from_raw_os_error,
        );
        Cause::io("draw random bytes from", Path::new("/dev/urandom"))(error)
    })?;
    Ok(MigrationId(u128::from_le_bytes(bytes)))
}
