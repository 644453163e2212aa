//! The driver: observe, ask the protocol for one step, make it durable, observe again. It decides
//! nothing about order.

use crate::copy::{Job, Mapping, copy, digest_source, verify};
use crate::disk;
use crate::error::{Cause, Error, not_from};
use crate::kv::{FileLock, MarkerText, Store, preflight};
use crate::look::{Places, Seen};
use crate::observer::Observer;
use crate::plan::{Keyspace, Plan, check_distinct};
use crate::preflight::{TARGET_BYTES_BESIDES, survey, survey_target};
use crate::protocol::marker::{Hints, Marker};
use crate::protocol::record::{KeyspaceRecorded, Record, SourceRecorded};
use crate::protocol::{
    Attempt, Intent, MigrationId, NotAllowed, RecordStage, Run, Session, Stage, State, Step,
    VersionFile, Was, next,
};
use crate::sql::{Access, Draft, DraftKeyspace, StepError};
use std::time::SystemTime;

/// More steps than any run of the protocol takes, so that a mistake can't loop for ever.
const STEPS_MAX: usize = 100_000;

/// Holds the locks and drives a plan through its steps.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) places: Places,
    /// fjall's own locks, held from preflight until each source is sealed.
    fjall: Vec<Option<FileLock>>,
    /// The retired stores, while they are read: opening one may replay a long journal.
    opened: Option<Vec<Opened>>,
    /// Whether a second lock may be lifted.
    released: bool,
}

/// A source's store, where it has one, and where its keyspaces go.
#[derive(Debug)]
struct Opened {
    store: Option<Store>,
    keyspaces: Vec<Keyspace>,
}

impl Driver {
    /// Takes the locks of `plan`.
    pub(crate) fn new(plan: &Plan) -> Result<Self, Error> {
        let places = Places::new(plan, Access::Locked).map_err(Error::Refused)?;
        let fjall = places.sites.iter().map(|_| None).collect();
        Ok(Self { places, fjall, opened: None, released: false })
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
        let driven = self.steps(intent, observer);
        self.close_stores();
        driven
    }

    fn steps(&mut self, intent: Intent, observer: &mut dyn Observer) -> Result<State, Error> {
        let mut session = Session::default();
        let mut changed = false;
        let mut failures = Vec::new();
        for _ in 0..STEPS_MAX {
            let looked = self.places.claim.lock().and_then(|()| self.places.observe());
            let seen = looked.map_err(|cause| stopped(changed, "look", cause))?;
            let step = next(&seen.observation, intent, &session)
                .map_err(|refusal| self.not_allowed(&seen, refusal, changed))?;
            if let Step::Done(state) = step {
                return Ok(state);
            }
            if step == Step::GiveUp {
                let cause = several(failures);
                return Err(Error::Interrupted { step: Self::name(step), cause });
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
            changed |= !matches!(step, Step::Confirm { .. } | Step::Verify);
            session.done(step);
        }
        Err(stopped(changed, "come to an end", Cause::Plan("it took too many steps".to_owned())))
    }

    /// Seals every source as a new migration; on a failure those sealed are unsealed again.
    pub(crate) fn begin(&mut self, observer: &mut dyn Observer) -> Result<State, Error> {
        let begun = self
            .preflight()
            .and_then(|()| new_id())
            .map_err(Error::Refused)
            .and_then(|id| self.drive(Intent::Begin(id), observer));
        self.fjall.fill_with(|| None);
        match begun {
            // Without the claim nothing was sealed, and what stands there is not ours to undo.
            Err(Error::Interrupted { cause, .. }) if !self.places.claim.is_locked() => {
                Err(Error::Refused(cause))
            }
            Err(Error::Interrupted { step, cause }) => match self.drive(Intent::Abort, observer) {
                Ok(State::Fresh) => Err(Error::Refused(cause)),
                Ok(_) | Err(_) => Err(Error::Interrupted { step, cause }),
            },
            result => result,
        }
    }

    /// Begins to copy from the retired stores, once everything that would stop it was looked at.
    pub(crate) fn rerun(&mut self, observer: &mut dyn Observer) -> Result<State, Error> {
        self.preflight_rerun().map_err(Error::Refused)?;
        self.drive(Intent::Rerun, observer)
    }

    fn preflight_rerun(&mut self) -> Result<(), Cause> {
        let mut bytes = TARGET_BYTES_BESIDES;
        for site in &self.places.sites {
            if disk::metadata(&site.retired)?.is_some() {
                bytes += disk::tree_bytes(&site.retired)?;
            }
        }
        let opened = self.open_stores();
        self.close_stores();
        let resolved: Vec<Vec<Keyspace>> = opened?.into_iter().map(|o| o.keyspaces).collect();
        survey_target(&self.places, &resolved, bytes, &mut Err)
    }

    /// Finds out everything that would stop the migration before anything is changed, and keeps
    /// fjall's own locks on the stores that stand open.
    fn preflight(&mut self) -> Result<(), Cause> {
        self.fjall = survey(&self.places, &mut Err)?.fjall;
        Ok(())
    }

    fn execute(
        &mut self,
        step: Step,
        seen: &Seen,
        observer: &mut dyn Observer,
    ) -> Result<(), StepError> {
        match step {
            Step::Confirm { record } => {
                for site in &self.places.sites {
                    site.confirm()?;
                }
                if record { self.places.target.confirm() } else { Ok(()) }
            }
            Step::Claim(id) => Ok(self.claim(seen, Some(id))?),
            Step::Unclaim => Ok(self.claim(seen, None)?),
            Step::Seal { source, run } => Ok(self.seal(source, run)?),
            Step::Mark { source, stage, attempt } => Ok(self.mark(source, stage, attempt, seen)?),
            Step::PutBack { source, run } => Ok(self.put_back(source, run, seen)?),
            Step::Unseal(source) => Ok(self.unseal(source, seen)?),
            Step::HoldVersion(source) => Ok(self.site(source)?.hold_version()?),
            Step::ReleaseVersion(source) => Ok(self.site(source)?.release_version()?),
            Step::DeleteRetired(source) => {
                let own = self.places.own.get(source).and_then(Option::as_ref);
                Ok(self.site(source)?.delete_retired(own)?)
            }
            Step::Tidy(source) => Ok(self.site(source)?.tidy(claimed(seen))?),
            Step::BeginCopy(run) => self.begin_copy(run),
            Step::Copy => self.copy(seen, observer),
            Step::Verify => self.verify_target(seen, observer),
            Step::Prepare => Ok(self.prepare(seen)?),
            Step::Commit => {
                let run = self.record(seen)?.run();
                self.places.target.commit(self.places.plan.name(), run, now())
            }
            Step::GoLive => self.go_live(seen),
            Step::DropRecord => {
                let run = self.record(seen)?.run();
                self.places.target.drop_record(self.places.plan.name(), run)
            }
            Step::GiveUp | Step::Done(_) => Ok(()),
        }
    }

    fn claim(&mut self, seen: &Seen, entry: Option<MigrationId>) -> Result<(), Cause> {
        let name = self.places.plan.name().to_owned();
        self.places.claim.set(&name, seen.observation.claim, entry)
    }

    fn seal(&mut self, source: usize, run: Run) -> Result<(), Cause> {
        let site = self.site(source)?;
        let exists = disk::metadata(&site.path)?.is_some();
        if !exists && !self.may_be_missing(source) {
            return Err(Cause::SourceMissing { name: site.name.clone(), path: site.path.clone() });
        }
        let was = if exists { Was::Directory } else { Was::Nothing };
        let text = self.text(source, Stage::Sealed, run, was, site.version()?)?;
        if !exists {
            return site.seal_missing(&text);
        }
        // One that opened again since preflight is looked at like the first time.
        let fjall = match self.fjall.get_mut(source).and_then(Option::take) {
            Some(lock) => lock,
            None => preflight(self.site(source)?)?.fjall,
        };
        let site = self.site(source)?;
        let changed = || Cause::ChangedUnderneath(site.path.clone());
        let own = self.places.own.get(source).and_then(Option::as_ref).ok_or_else(changed)?;
        site.seal(&text, own, Some(fjall))
    }

    fn mark(
        &self,
        source: usize,
        stage: Stage,
        attempt: Attempt,
        seen: &Seen,
    ) -> Result<(), Cause> {
        let found = self.marker(source, seen)?;
        let run = Run { id: found.id, attempt };
        let text = self.text(source, stage, run, found.was, found.version.clone())?;
        self.site(source)?.mark(&text, found.run())
    }

    fn put_back(&self, source: usize, run: Run, seen: &Seen) -> Result<(), Cause> {
        let site = self.site(source)?;
        let recorded =
            self.record(seen)?.sources.iter().find(|recorded| recorded.name == site.name);
        let was = recorded.map_or(Was::Nothing, |recorded| recorded.was);
        let text = self.text(source, Stage::Tombstone, run, was, site.version()?)?;
        tracing::warn!(source = site.name, "the tombstone was gone and is put back");
        site.seal_missing(&text)
    }

    fn unseal(&self, source: usize, seen: &Seen) -> Result<(), Cause> {
        let found = self.marker(source, seen)?;
        let own = self.places.own.get(source).and_then(Option::as_ref);
        self.site(source)?.unseal(found.was, found.run(), own)
    }

    fn prepare(&self, seen: &Seen) -> Result<(), Cause> {
        for source in 0..self.places.sites.len() {
            let found = self.marker(source, seen)?;
            if found.stage == Stage::Sealed {
                let version = found.version.clone();
                let text = self.text(source, Stage::Tombstone, found.run(), found.was, version)?;
                self.site(source)?.prepare(&text)?;
            }
        }
        Ok(())
    }

    fn begin_copy(&mut self, run: Run) -> Result<(), StepError> {
        let opened = self.open_stores()?;
        let keyspaces: Vec<Vec<Keyspace>> = opened.iter().map(|o| o.keyspaces.clone()).collect();
        check_distinct(self.places.with_sources(&keyspaces))?;
        let named = self.places.with_sources(&keyspaces).map(|(source, keyspace)| DraftKeyspace {
            source: source.to_owned(),
            keyspace: keyspace.name.clone(),
            mapping: keyspace.mapping.name().to_owned(),
            tables: keyspace.mapping.tables(),
        });
        let mut sources = Vec::new();
        for (site, opened) in self.places.sites.iter().zip(&opened) {
            let was = if opened.store.is_some() { Was::Directory } else { Was::Nothing };
            sources.push(SourceRecorded { name: site.name.clone(), was });
        }
        let draft = Draft {
            plan: self.places.plan.name(),
            run,
            sources,
            keyspaces: named.collect(),
            time: now(),
        };
        self.places.target.begin_copy(draft)?;
        self.opened = Some(opened);
        Ok(())
    }

    fn copy(&mut self, seen: &Seen, observer: &mut dyn Observer) -> Result<(), StepError> {
        let record = self.record(seen)?;
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.open_stores()?,
        };
        let chunk_bytes = self.places.plan.inner.chunk_bytes;
        let copied = self.jobs(&opened, record).map_err(StepError::from).and_then(|jobs| {
            let target = &self.places.target;
            let copying = target.copying(&record.plan, record.run(), chunk_bytes)?;
            copy(copying, &jobs, chunk_bytes, observer)
        });
        drop(opened);
        self.close_stores();
        copied
    }

    /// Whether a copy that stopped had made some chunks durable; what can't be looked at may have
    /// changed.
    fn has_copied(&self, seen: &Seen) -> bool {
        self.places.observe().map_or(true, |now| now.record() != seen.record())
    }

    fn verify_target(&self, seen: &Seen, observer: &mut dyn Observer) -> Result<(), StepError> {
        let record = self.record(seen)?;
        let mappings = self.mappings(record)?;
        let pairs: Vec<(&KeyspaceRecorded, &dyn Mapping)> = record
            .keyspaces
            .iter()
            .zip(&mappings)
            .map(|(keyspace, mapped)| (keyspace, mapped.mapping.as_ref()))
            .collect();
        let total = verify(&self.places.target, &pairs, observer)?;
        tracing::info!(
            pairs = total.pairs,
            bytes = total.bytes,
            "the target was re-read and is whole"
        );
        Ok(())
    }

    fn go_live(&self, seen: &Seen) -> Result<(), StepError> {
        let run = self.record(seen)?.run();
        let target = &self.places.target;
        target.go_live(self.places.plan.name(), run, now(), || {
            // I-1: looked at again inside the transaction that takes the fence down.
            for site in &self.places.sites {
                let look = site.look(None)?;
                let marker = look.path.marker();
                if marker.is_none_or(|m| m.stage != Stage::Tombstone || m.run() != run) {
                    return Err(Cause::ChangedUnderneath(site.path.clone()));
                }
            }
            Ok(())
        })
    }

    /// Compares the target, and every retired store that is still there, with what was recorded
    /// while they were copied.
    pub(crate) fn verify(&mut self, observer: &mut dyn Observer) -> Result<Record, Error> {
        let mut session = || -> Result<Record, StepError> {
            let seen = self.places.observe()?;
            let record = self.record(&seen)?.clone();
            if record.stage == RecordStage::Copying {
                return Err(Cause::State {
                    state: "Migrating",
                    why: "the copy has not come to its end, so there is nothing whole to compare",
                    next: "run migrate",
                }
                .into());
            }
            self.verify_target(&seen, observer)?;
            let stores = self.open_stores()?;
            let compared = record.keyspaces.iter().try_for_each(|keyspace| {
                let at = self.places.sites.iter().position(|site| site.name == keyspace.source);
                let store = at.and_then(|at| stores.get(at)).and_then(|o| o.store.as_ref());
                let reclaimed = at.and_then(|at| seen.looks.get(at)).is_none_or(|look| {
                    look.path.marker().is_some_and(|m| m.was == Was::Directory) && store.is_none()
                });
                if reclaimed { Ok(()) } else { digest_source(store, keyspace, observer) }
            });
            compared.map(|()| record)
        };
        let verified = session();
        self.close_stores();
        verified.map_err(|error| match error {
            StepError::Failed(cause) => stopped(false, "verify", cause),
            StepError::Unknown(cause) => Error::OutcomeUnknown { step: "verify", cause },
            StepError::Mismatch(mismatch) => Error::Verification(mismatch),
        })
    }

    /// Opens the retired stores for reading; the second lock is lifted as long as that takes.
    fn open_stores(&mut self) -> Result<Vec<Opened>, Cause> {
        self.released = true;
        let mut opened = Vec::new();
        for (site, source) in self.places.sites.iter().zip(&self.places.plan.inner.sources) {
            let exists = disk::metadata(&site.retired)?.is_some_and(|metadata| metadata.is_dir());
            let reclaimed = crate::kv::Standing::at(&site.path)?
                .marker()
                .is_some_and(|marker| marker.stage == Stage::Reclaimed);
            let store = if exists && !reclaimed {
                site.release_version()?;
                Some(Store::open(&site.name, &site.retired)?)
            } else {
                None
            };
            let found = store.as_ref().map(Store::keyspaces).unwrap_or_default();
            opened.push(Opened { store, keyspaces: source.resolve(&found)? });
        }
        Ok(opened)
    }

    /// Closes the stores that are open, and sets their second locks again. Where that fails, the
    /// next open does it: no proof leans on it.
    fn close_stores(&mut self) {
        self.opened = None;
        if std::mem::take(&mut self.released)
            && let Err(cause) = self.hold_tombstoned()
        {
            tracing::warn!(%cause, "the second lock was not set again");
        }
    }

    /// Sets the second lock again in every tombstoned store that was read.
    fn hold_tombstoned(&self) -> Result<(), Cause> {
        for site in &self.places.sites {
            let look = site.look(None)?;
            let tombstoned = look
                .path
                .marker()
                .is_some_and(|m| matches!(m.stage, Stage::Tombstone | Stage::Final));
            if tombstoned && look.retired == crate::kv::Standing::Directory(VersionFile::Native) {
                site.hold_version()?;
            }
        }
        Ok(())
    }

    /// The record's keyspaces as jobs, in its order, once the plan is found to be the one it was
    /// begun with.
    fn jobs<'a>(&'a self, opened: &'a [Opened], record: &Record) -> Result<Vec<Job<'a>>, Cause> {
        let mut planned = Vec::new();
        for (site, opened) in self.places.sites.iter().zip(opened) {
            for keyspace in &opened.keyspaces {
                planned.push(Job { source: &site.name, keyspace, store: opened.store.as_ref() });
            }
        }
        let mut jobs = Vec::new();
        for recorded in &record.keyspaces {
            let is_it = |job: &Job<'_>| {
                recorded.source == job.source && is_mapped_as(recorded, job.keyspace)
            };
            let at = planned.iter().position(is_it).ok_or_else(|| changed_plan(record))?;
            jobs.push(planned.swap_remove(at));
        }
        if planned.is_empty() { Ok(jobs) } else { Err(changed_plan(record)) }
    }

    /// The mapping of each of the record's keyspaces.
    fn mappings(&self, record: &Record) -> Result<Vec<Keyspace>, Cause> {
        let mut mappings = Vec::new();
        for recorded in &record.keyspaces {
            let source = self.places.plan.inner.sources.iter().find(|s| s.name == recorded.source);
            let resolved = source
                .map(|source| source.resolve(std::slice::from_ref(&recorded.keyspace)))
                .transpose()?
                .unwrap_or_default();
            let found = resolved.into_iter().find(|keyspace| is_mapped_as(recorded, keyspace));
            mappings.push(found.ok_or_else(|| changed_plan(record))?);
        }
        Ok(mappings)
    }

    fn site(&self, source: usize) -> Result<&crate::kv::Site, Cause> {
        self.places.sites.get(source).ok_or_else(|| Cause::Plan("a source is not in it".to_owned()))
    }

    fn may_be_missing(&self, source: usize) -> bool {
        self.places.plan.inner.sources.get(source).is_some_and(|source| source.may_be_missing)
    }

    fn marker<'a>(&self, source: usize, seen: &'a Seen) -> Result<&'a Marker, Cause> {
        let changed = || {
            self.site(source)
                .map_or_else(|cause| cause, |site| Cause::ChangedUnderneath(site.path.clone()))
        };
        seen.looks.get(source).and_then(|look| look.path.marker()).ok_or_else(changed)
    }

    fn record<'a>(&self, seen: &'a Seen) -> Result<&'a Record, Cause> {
        seen.record().ok_or_else(|| Cause::RecordChanged(self.places.target.path.clone()))
    }

    fn text(
        &self,
        source: usize,
        stage: Stage,
        run: Run,
        was: Was,
        version: Option<Vec<u8>>,
    ) -> Result<MarkerText, Cause> {
        let site = self.site(source)?;
        let marker = Marker::new(
            stage,
            self.places.plan.name(),
            run,
            &site.name,
            was,
            self.places.named(),
            &self.places.target.path.display().to_string(),
            now(),
            version.filter(|_| was == Was::Directory),
        );
        let bytes = marker
            .encode(&hints(&self.places, stage))
            .map_err(|error| Cause::Plan(format!("its marker can't be written: {error}")))?;
        Ok(MarkerText { marker, bytes })
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

    fn subject(&self, step: Step) -> String {
        let source = match step {
            Step::Seal { source, .. }
            | Step::Mark { source, .. }
            | Step::PutBack { source, .. }
            | Step::Unseal(source)
            | Step::HoldVersion(source)
            | Step::ReleaseVersion(source)
            | Step::DeleteRetired(source)
            | Step::Tidy(source) => source,
            Step::Confirm { .. }
            | Step::Claim(_)
            | Step::Unclaim
            | Step::BeginCopy(_)
            | Step::Copy
            | Step::Verify
            | Step::Prepare
            | Step::Commit
            | Step::GoLive
            | Step::DropRecord
            | Step::GiveUp
            | Step::Done(_) => return self.places.target.path.display().to_string(),
        };
        self.places.sites.get(source).map(|site| site.name.clone()).unwrap_or_default()
    }

    /// What a step does, as logs and errors say it.
    const fn name(step: Step) -> &'static str {
        match step {
            Step::Confirm { .. } => "make durable what was found",
            Step::Claim(_) => "write the claim file",
            Step::Unclaim => "remove the claim",
            Step::Seal { .. } => "seal a source",
            Step::Mark { stage: Stage::Sealed, .. } => "raise the attempt",
            Step::Mark { stage: Stage::Tombstone, .. } => "set a tombstone",
            Step::Mark { stage: Stage::Final, .. } => "make a tombstone final",
            Step::Mark { stage: Stage::Restoring, .. } => "mark a source for restoring",
            Step::Mark { stage: Stage::Reclaimed, .. } => "mark a source as reclaimed",
            Step::PutBack { .. } => "put a tombstone back",
            Step::Unseal(_) => "unseal a source",
            Step::HoldVersion(_) => "set the second lock",
            Step::ReleaseVersion(_) => "lift the second lock",
            Step::DeleteRetired(_) => "free a retired store",
            Step::Tidy(_) => "tidy up",
            Step::BeginCopy(_) => "begin the copy",
            Step::Copy => "copy",
            Step::Verify => "verify",
            Step::Prepare => "prepare the tombstones",
            Step::Commit => "pass the commit point",
            Step::GoLive => "go live",
            Step::DropRecord => "remove the record",
            Step::GiveUp => "set every tombstone",
            Step::Done(_) => "end",
        }
    }
}

impl Places {
    /// Each keyspace with its source's name.
    pub(crate) fn with_sources<'a>(
        &'a self,
        keyspaces: &'a [Vec<Keyspace>],
    ) -> impl Iterator<Item = (&'a str, &'a Keyspace)> {
        self.sites
            .iter()
            .zip(keyspaces)
            .flat_map(|(site, keyspaces)| keyspaces.iter().map(|k| (site.name.as_str(), k)))
    }
}

fn claimed(seen: &Seen) -> Option<MigrationId> {
    match seen.observation.claim {
        crate::protocol::ClaimSeen::Id(id) => Some(id),
        crate::protocol::ClaimSeen::None | crate::protocol::ClaimSeen::Unreadable => None,
    }
}

fn is_mapped_as(recorded: &KeyspaceRecorded, keyspace: &Keyspace) -> bool {
    recorded.keyspace == keyspace.name
        && recorded.mapping == keyspace.mapping.name()
        && keyspace.mapping.tables().iter().map(|table| &table.name).eq(&recorded.tables)
}

fn changed_plan(record: &Record) -> Cause {
    let names: Vec<String> = record
        .keyspaces
        .iter()
        .map(|k| {
            format!("{}/{} as {} into {}", k.source, k.keyspace, k.mapping, k.tables.join(", "))
        })
        .collect();
    Cause::PlanChanged(format!("the record has {}", names.join("; ")))
}

fn several(mut causes: Vec<Cause>) -> Cause {
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
fn stopped(changed: bool, step: &'static str, cause: Cause) -> Error {
    let found_by_looking = match cause {
        Cause::Io { .. } | Cause::Engine { .. } | Cause::Several(_) | Cause::Cancelled => false,
        Cause::Plan(_)
        | Cause::PlanChanged(_)
        | Cause::NotUtf8(_)
        | Cause::SourceMissing { .. }
        | Cause::NotAStore { .. }
        | Cause::SourceBusy { .. }
        | Cause::Locked { .. }
        | Cause::MountPoint { .. }
        | Cause::NoExchange { .. }
        | Cause::Overlap { .. }
        | Cause::KeyspaceUnmapped { .. }
        | Cause::TargetFolderMissing(_)
        | Cause::NotADatabase { .. }
        | Cause::Table { .. }
        | Cause::DiskFull { .. }
        | Cause::PairRefused { .. }
        | Cause::TargetAltered { .. }
        | Cause::ChangedUnderneath(_)
        | Cause::RecordChanged(_)
        | Cause::State { .. } => true,
    };
    if !changed && (found_by_looking || step == "look" || step == "verify") {
        Error::Refused(cause)
    } else {
        Error::Interrupted { step, cause }
    }
}

/// What the markers tell a person to do.
fn hints(places: &Places, stage: Stage) -> Hints {
    let command = |verb: &str| {
        let mut words = format!("cutover {verb} --name {}", shell_quote(places.plan.name()));
        for (site, source) in places.sites.iter().zip(&places.plan.inner.sources) {
            let named = format!("{}={}", site.name, site.path.display());
            words += &[" --source ", &shell_quote(&named)].concat();
            if source.may_be_missing {
                words += &[" --may-be-missing ", &shell_quote(&site.name)].concat();
            }
        }
        let target = places.target.path.display().to_string();
        words + " --target " + &shell_quote(&target)
    };
    let (go_on, go_back) = match stage {
        Stage::Sealed | Stage::Tombstone => {
            let own = places.plan.inner.hints.as_ref();
            (
                own.map_or_else(|| command("migrate"), |hints| hints.go_on.clone()),
                own.map_or_else(|| command("abort"), |hints| hints.go_back.clone()),
            )
        }
        Stage::Final => (
            "nothing: use the SQL database".to_owned(),
            format!(
                "not while the SQL database is there; if it is lost: {}",
                command("restore-kv")
            ),
        ),
        Stage::Restoring => (command("restore-kv"), "not any more".to_owned()),
        Stage::Reclaimed => ("nothing: use the SQL database".to_owned(), "not any more".to_owned()),
    };
    Hints { go_on, go_back }
}

/// A word as a shell takes it.
fn shell_quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn new_id() -> Result<MigrationId, Cause> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Cause::Engine {
        engine: "the system",
        what: "draw random bytes for",
        path: "the migration's id".into(),
        message: error.to_string(),
        next: "look at the system's log",
    })?;
    Ok(MigrationId(u128::from_le_bytes(bytes)))
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
