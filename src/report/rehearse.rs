//! The rehearsal: all that a migration does before its commit point, into a database that is thrown
//! away.

use crate::copy::{Counted, Job, REFUSED_TOLD_MAX, copy, first_refused, unread};
use crate::disk;
use crate::drive::{Driver, Opened, Survey, new_id, several, survey};
use crate::error::{Cause, Error, Mismatch, RefusedPair, not_from};
use crate::mapping::Rows;
use crate::observer::{Observer, Phase, Progress};
use crate::plan::Plan;
use crate::protocol::record::Record;
use crate::protocol::{Run, State};
use crate::sql::{Access, StepError, Target, TargetLook, Throwaway};
use serde::Serialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What a rehearsal has found: a migration of the stores as they are would come to its commit point.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rehearsal {
    /// The plan's name.
    pub plan: String,
    /// Each keyspace, in the order of copying.
    pub keyspaces: Vec<RehearsedKeyspace>,
    /// Bytes of the database that was thrown away; what the target held before is among them.
    pub database_bytes: u64,
    /// Whether the plan has a check of its own, which said yes.
    pub checked: bool,
    /// Seconds from the first look to the end.
    pub seconds: f64,
}

/// A keyspace that was copied and read back.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RehearsedKeyspace {
    /// The source's name.
    pub source: String,
    /// The keyspace's name.
    pub keyspace: String,
    /// What the mapping says it is.
    pub mapping: String,
    /// The tables that it goes into.
    pub tables: Vec<String>,
    /// Pairs.
    pub pairs: u64,
    /// Pairs, of these, that the mapping refused, and that a migration would put into quarantine.
    pub quarantined: u64,
    /// The first of these, by their keys: at most 20.
    pub refused: Vec<RefusedPair>,
    /// Bytes of keys and values.
    pub bytes: u64,
    /// Seconds for copying it and reading it back.
    pub seconds: f64,
}

impl Plan {
    /// Does with all the real data what a migration does before its commit point, and changes neither
    /// side: every pair is decoded, mapped, written and read back, in a database of its own beside the
    /// target, with a copy of what the target holds; then the plan's own check is asked. That database
    /// is thrown away, also after an error; what a kill leaves of it, the next rehearsal removes.
    ///
    /// It needs the stores for itself, as a migration does, and as much space on the target's disk. As
    /// for [`preview`](crate::preview), fjall may cut a torn tail off a journal.
    ///
    /// # Errors
    ///
    /// The first that a migration would stop at: [`Error::Refused`] with the cause that it would have,
    /// [`Cause::CheckRefused`] among them, or [`Error::Verification`]. Where that is a pair, all others
    /// are tried too, as if each that is refused went into quarantine: [`Cause::PairsRefused`] for each
    /// source that has more of them than the plan lets into it. And [`Cause::State`] where a migration
    /// has begun.
    pub fn rehearse(&self, observer: &mut dyn Observer) -> Result<Rehearsal, Error> {
        let began = Instant::now();
        let driver = Driver::new(self)?;
        let (state, _) = driver.look()?;
        if state != State::Fresh {
            Throwaway::tidy(&driver.places.target);
            let next = "`cutover status` says what can be done";
            let why = "a migration is rehearsed before it begins";
            return Err(Error::Refused(not_from(state, why, next)));
        }
        let mut timed = Timed { observer, last: began, spent: HashMap::new() };
        let (Copied { record, refused, spent }, database_bytes) =
            driver.rehearse(&mut timed).map_err(|error| match error {
                // Whatever became of the throw-away database, neither side has changed.
                StepError::Failed(cause) | StepError::Unknown(cause) => Error::Refused(cause),
                StepError::Mismatch(mismatch) => Error::Verification(Box::new(Mismatch {
                    side: "the rehearsal's database".to_owned(),
                    next: "fix the mapping, and rehearse again".to_owned(),
                    ..*mismatch
                })),
            })?;
        let keyspaces = record.keyspaces.into_iter().zip(refused).zip(spent);
        let keyspaces = keyspaces.map(|((keyspace, refused), spent)| RehearsedKeyspace {
            seconds: (spent + timed.spent(&keyspace.source, &keyspace.keyspace)).as_secs_f64(),
            source: keyspace.source,
            keyspace: keyspace.keyspace,
            mapping: keyspace.mapping,
            tables: keyspace.tables,
            pairs: keyspace.pairs,
            quarantined: keyspace.quarantined,
            refused,
            bytes: keyspace.bytes,
        });
        Ok(Rehearsal {
            plan: self.name().to_owned(),
            keyspaces: keyspaces.collect(),
            database_bytes,
            checked: self.inner.check.is_some(),
            seconds: began.elapsed().as_secs_f64(),
        })
    }
}

/// The record as the copy left it, and the first pairs in quarantine of each of its keyspaces.
struct Copied {
    record: Record,
    refused: Vec<Vec<RefusedPair>>,
    /// How long the copy of each took.
    spent: Vec<Duration>,
}

impl Driver {
    /// What was copied, and the bytes of its database, which is gone then.
    fn rehearse(&self, observer: &mut dyn Observer) -> Result<(Copied, u64), StepError> {
        let Survey { stores, keyspaces, needed_bytes } = survey(&self.places, &mut Err)?;
        self.check_room(needed_bytes)?;
        let opened = stores.into_iter().zip(keyspaces);
        let opened: Vec<Opened> =
            opened.map(|(store, keyspaces)| Opened { store, keyspaces }).collect();
        let throwaway =
            Throwaway::beside(&self.places.target, self.places.target_owner()?.as_ref())?;
        let copied = self.rehearse_into(&throwaway.target, &opened, observer)?;
        let bytes = throwaway.bytes()?;
        throwaway.remove()?;
        Ok((copied, bytes))
    }

    fn rehearse_into(
        &self,
        target: &Target,
        opened: &[Opened],
        observer: &mut dyn Observer,
    ) -> Result<Copied, StepError> {
        let plan = &self.places.plan;
        let run = Run { id: new_id()?, attempt: 1 };
        target.begin_copy(self.draft(opened, target, run)?)?;
        let record = record_in(target, plan)?;
        let jobs = self.jobs(opened, &record)?;
        let copying = target.copying(plan.name(), run)?;
        let parts = match copy(copying, &jobs, plan.inner.chunk_bytes, observer) {
            Err(StepError::Failed(
                Cause::PairRefused { name, keyspace, key, reason }
                | Cause::QuarantineFull { name, keyspace, key, reason, .. },
            )) => {
                let stopped = Cause::PairRefused { name, keyspace, key, reason };
                let causes = self.all_refused(target, run, jobs, stopped, observer)?;
                return Err(several(causes).into());
            }
            copied => copied?,
        };
        let (middles, spent): (Vec<_>, Vec<_>) =
            parts.into_iter().map(|part| (part.middle, part.spent)).unzip();
        let record = record_in(target, plan)?;
        self.verify_in(target, &record, &middles, observer)?;
        if let Some(check) = &plan.inner.check {
            check.ask(target)?;
        }
        let refused = refused_in(target, &record)?;
        Ok(Copied { record, refused, spent })
    }

    /// Goes on after the pair that `stopped` the copy, and counts those that are refused; nothing is
    /// kept of them. Returns all that a person has to fix.
    fn all_refused(
        &self,
        target: &Target,
        run: Run,
        jobs: Vec<Job<'_>>,
        stopped: Cause,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Cause>, StepError> {
        let plan = &self.places.plan;
        let kept = record_in(target, plan)?;
        let first_kept = refused_in(target, &kept)?;
        let counted = Counted::default();
        let counting = |job| Job { counted: Some(&counted), ..job };
        let jobs: Vec<Job<'_>> = jobs.into_iter().map(counting).collect();
        let copied = target
            .copying(plan.name(), run)
            .map_err(StepError::from)
            .and_then(|copying| copy(copying, &jobs, plan.inner.chunk_bytes, observer));
        let mut causes = Vec::new();
        for source in &plan.inner.sources {
            let (pairs, more) = counted.of(&source.name);
            let refused = kept.quarantined(&source.name) + pairs;
            if refused > source.quarantine {
                let of_source =
                    kept.keyspaces.iter().zip(&first_kept).filter(|(k, _)| k.source == source.name);
                let first = of_source.flat_map(|(_, first)| first).cloned().chain(more);
                causes.push(Cause::PairsRefused {
                    name: source.name.clone(),
                    refused,
                    budget: source.quarantine,
                    first: first.take(REFUSED_TOLD_MAX).collect(),
                });
            }
        }
        match copied {
            // A copy compares nothing.
            Ok(_) | Err(StepError::Mismatch(_)) => {}
            Err(StepError::Failed(Cause::Cancelled)) => return Err(Cause::Cancelled.into()),
            Err(StepError::Failed(cause) | StepError::Unknown(cause)) => causes.push(cause),
        }
        // A mapping that refuses a pair once and takes it then.
        if causes.is_empty() {
            causes.push(stopped);
        }
        Ok(causes)
    }

    /// There must be room for a copy of what the target holds, too.
    fn check_room(&self, needed_bytes: u64) -> Result<(), Cause> {
        let target = &self.places.target;
        let held = disk::metadata(&target.path)?.map_or(0, |found| found.len());
        let needed_bytes = needed_bytes + held;
        let available_bytes = disk::available_bytes(target.folder())?;
        if available_bytes < needed_bytes {
            let path = target.folder().to_owned();
            return Err(Cause::DiskFull { path, needed_bytes, available_bytes });
        }
        Ok(())
    }
}

/// The first pairs in quarantine of each of the record's keyspaces.
fn refused_in(target: &Target, record: &Record) -> Result<Vec<Vec<RefusedPair>>, StepError> {
    let Some(table) = record.quarantine() else {
        return Ok(vec![Vec::new(); record.keyspaces.len()]);
    };
    let reader = target.reader()?;
    let rows = Rows::new(&reader);
    let each = record.keyspaces.iter().map(|keyspace| {
        first_refused(&rows, &table.name, keyspace)
            .map_err(|error| unread(target, Some(keyspace), error))
    });
    each.collect()
}

fn record_in(target: &Target, plan: &Plan) -> Result<Record, Cause> {
    match target.look(plan.name(), Access::Locked) {
        TargetLook::Record(record) => Ok(*record),
        TargetLook::Unreadable(cause) | TargetLook::Unreachable(cause) => Err(cause),
        TargetLook::None | TargetLook::NoRecord | TargetLook::MainFileGone => {
            Err(Cause::RecordChanged(target.path.clone()))
        }
    }
}

/// Notes how long each keyspace takes to be read back: it is called whenever a part of one is done.
struct Timed<'a> {
    observer: &'a mut dyn Observer,
    last: Instant,
    spent: HashMap<(String, String), Duration>,
}

impl Timed<'_> {
    fn spent(&self, source: &str, keyspace: &str) -> Duration {
        self.spent.get(&(source.to_owned(), keyspace.to_owned())).copied().unwrap_or_default()
    }
}

impl Observer for Timed<'_> {
    fn progress(&mut self, progress: &Progress) {
        let part = self.last.elapsed();
        self.last = Instant::now();
        // A chunk of a copy is reported at once for all its keyspaces.
        if progress.phase == Phase::Verifying {
            let keyspace = (progress.source.clone(), progress.keyspace.clone());
            *self.spent.entry(keyspace).or_default() += part;
        }
        self.observer.progress(progress);
    }

    fn step(&mut self, name: &str, subject: &str) {
        self.observer.step(name, subject);
    }

    fn cancelled(&self) -> bool {
        self.observer.cancelled()
    }
}
