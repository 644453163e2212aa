//! The stores that are read, where their keyspaces go, and the steps that read them.

use super::steps::now;
use super::{Driver, stopped};
use crate::copy::{Copied, Job, Middle, compare_target, copy, digest_source, verify};
use crate::disk;
use crate::error::{BEGUN_WITH_OR_ABORT, Cause, Error};
use crate::look::{Places, Seen, changed_plan, is_mapped_as};
use crate::mapping::{Keyspace, Sizes, Table};
use crate::observer::{Observer, Pace, Phase};
use crate::place::{Look, Standing};
use crate::plan::check_distinct;
use crate::protocol::record::{KeyspaceRecorded, Record, SourceRecorded};
use crate::protocol::{RecordStage, Run, SecondLock, Stage, Was};
use crate::source::{Store, inventory};
use crate::sql::{Draft, DraftKeyspace, StepError, Target};
use crate::verified::{Compared, Verified, VerifiedKeyspace, VerifiedStore};
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

/// A source's store, where it has one, and where its keyspaces go.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Option<Store>,
    pub(crate) keyspaces: Vec<Keyspace>,
}

impl Driver {
    pub(crate) fn begin_copy(&mut self, run: Run) -> Result<(), StepError> {
        let opened = self.open_stores()?;
        let target = &self.places.target;
        target.begin_copy(self.draft(&opened, target, run)?)?;
        self.opened = Some(opened);
        Ok(())
    }

    /// What is going to be written into `target`.
    pub(crate) fn draft(
        &self,
        opened: &[Opened],
        target: &Target,
        run: Run,
    ) -> Result<Draft<'_>, Cause> {
        let keyspaces: Vec<Vec<Keyspace>> = opened.iter().map(|o| o.keyspaces.clone()).collect();
        check_distinct(self.places.with_sources(&keyspaces))?;
        let page_bytes = target.page_bytes()?;
        let mut sources = Vec::new();
        let mut drafted = Vec::new();
        for (site, opened) in self.places.sites.iter().zip(opened) {
            for keyspace in &opened.keyspaces {
                drafted.push(draft(&site.name, opened.store.as_ref(), keyspace, page_bytes)?);
            }
            let was = if opened.store.is_some() { Was::Directory } else { Was::Nothing };
            let path = site.path.display().to_string();
            sources.push(SourceRecorded { name: site.name.clone(), path, was });
        }
        Ok(Draft {
            plan: self.places.plan.name(),
            run,
            sources,
            keyspaces: drafted,
            time: now(),
            owner: self.places.target_owner()?,
            users: self.places.store_owners()?,
        })
    }

    pub(crate) fn copy(
        &mut self,
        seen: &Seen,
        observer: &mut dyn Observer,
    ) -> Result<(), StepError> {
        let record = self.record(seen)?;
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.open_stores()?,
        };
        let chunk_bytes = self.places.plan.inner.chunk_bytes;
        let copied = self.jobs(&opened, record).map_err(StepError::from).and_then(|jobs| {
            let target = &self.places.target;
            let copying = target.copying(&record.plan, record.run())?;
            copy(copying, &jobs, chunk_bytes, observer)
        });
        drop(opened);
        self.close_stores();
        self.middles = copied?.into_iter().map(|part| part.middle).collect();
        Ok(())
    }

    /// Whether a copy that stopped had made some chunks durable; what can't be looked at may have
    /// changed.
    pub(crate) fn has_copied(&self, seen: &Seen) -> bool {
        self.places.observe().map_or(true, |now| now.record() != seen.record())
    }

    pub(crate) fn verify_target(
        &self,
        seen: &Seen,
        observer: &mut dyn Observer,
    ) -> Result<(), StepError> {
        self.verify_in(&self.places.target, self.record(seen)?, &self.middles, observer)
    }

    /// Re-reads what the record says that `target` holds, and compares; in parts, where `middles`
    /// are known.
    pub(crate) fn verify_in(
        &self,
        target: &Target,
        record: &Record,
        middles: &[Option<Middle>],
        observer: &mut dyn Observer,
    ) -> Result<(), StepError> {
        let mappings =
            self.mappings(record).into_iter().collect::<Result<Vec<Keyspace>, Cause>>()?;
        if record.stage == RecordStage::Copying {
            let planned: Vec<Table> = mappings.iter().flat_map(|k| k.mapping.tables()).collect();
            target.check_made(record, &planned)?;
            self.check_budgets(record)?;
        }
        let middles = middles.iter().map(Option::as_ref).chain(std::iter::repeat(None));
        let copied: Vec<Copied<'_>> = record
            .keyspaces
            .iter()
            .zip(&mappings)
            .zip(middles)
            .map(|((keyspace, mapped), middle)| Copied {
                keyspace,
                mapping: mapped.mapping.as_ref(),
                middle,
            })
            .collect();
        let quarantine = record.quarantine().map(|table| table.name.as_str());
        let total = verify(target, quarantine, &copied, observer)?;
        tracing::info!(
            pairs = total.pairs,
            bytes = total.bytes,
            "the target was re-read and is whole"
        );
        Ok(())
    }

    /// Refuses more pairs in quarantine than the plan lets there: it may let fewer than it did when
    /// they were copied.
    fn check_budgets(&self, record: &Record) -> Result<(), Cause> {
        for source in &self.places.plan.inner.sources {
            let quarantined = record.quarantined(&source.name);
            if quarantined > source.quarantine {
                let how = format!(
                    "{quarantined} pairs of source '{}' are in quarantine, and the plan allows {} now",
                    source.name, source.quarantine
                );
                return Err(Cause::PlanChanged { how, next: BEGUN_WITH_OR_ABORT });
            }
        }
        Ok(())
    }

    /// Compares the target, and every retired store that is still there, with what was recorded
    /// while they were copied.
    pub(crate) fn verify(&mut self, observer: &mut dyn Observer) -> Result<Verified, Error> {
        let verified = self.compare(observer);
        self.close_stores();
        verified.map_err(|cause| stopped(false, "verify", cause))
    }

    fn compare(&mut self, observer: &mut dyn Observer) -> Result<Verified, Cause> {
        let seen = self.places.observe()?;
        let record = self.record(&seen)?.clone();
        if record.stage == RecordStage::Copying {
            return Err(Cause::State {
                state: "Migrating",
                why: "the copy has not come to its end, so there is nothing whole to compare",
                next: "run migrate",
            });
        }
        let (targets, strangers) = self.compare_target(&record, observer)?;
        let (kept, stores) = self.compare_stores(&seen, &record, observer)?;
        let both = record.keyspaces.iter().zip(kept).zip(targets);
        let keyspaces = both.map(|((keyspace, store), target)| VerifiedKeyspace {
            source: keyspace.source.clone(),
            keyspace: keyspace.keyspace.clone(),
            pairs: keyspace.pairs,
            bytes: keyspace.bytes,
            store,
            target,
        });
        let strangers = strangers.into_iter().map(|(source, keyspace, pairs)| VerifiedKeyspace {
            source,
            keyspace,
            pairs: 0,
            bytes: 0,
            store: Compared::NeverThere,
            target: Compared::Changed { pairs, bytes: 0 },
        });
        Ok(Verified { id: record.id, keyspaces: keyspaces.chain(strangers).collect(), stores })
    }

    /// Each of the record's keyspaces in the target, and whatever else is in its quarantine.
    #[expect(clippy::type_complexity, reason = "as what it calls")]
    fn compare_target(
        &self,
        record: &Record,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<Compared>, Vec<(String, String, u64)>), Cause> {
        let mappings = self.mappings(record);
        let copied: Vec<Copied<'_>> = record
            .keyspaces
            .iter()
            .zip(&mappings)
            .filter_map(|(keyspace, mapped)| {
                let mapping = mapped.as_ref().ok()?.mapping.as_ref();
                Some(Copied { keyspace, mapping, middle: None })
            })
            .collect();
        let quarantine = record.quarantine().map(|table| table.name.as_str());
        let (compared, strangers) =
            compare_target(&self.places.target, quarantine, &copied, observer)?;
        let mut compared = compared.into_iter();
        let all = mappings.iter().map(|mapped| match mapped {
            Ok(_) => compared.next().unwrap_or(Compared::Missing),
            // This plan doesn't know how its rows are read.
            Err(cause) => Compared::Unread { reason: cause.to_string() },
        });
        let all = all.collect();
        let known: BTreeSet<(&str, &str)> =
            record.keyspaces.iter().map(|k| (k.source.as_str(), k.keyspace.as_str())).collect();
        let is_known = |(source, keyspace, _): &(String, String, u64)| {
            known.contains(&(source.as_str(), keyspace.as_str()))
        };
        Ok((all, strangers.into_iter().filter(|stranger| !is_known(stranger)).collect()))
    }

    /// Each of the record's keyspaces in its retired store, and each retired store as such.
    fn compare_stores(
        &mut self,
        seen: &Seen,
        record: &Record,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<Compared>, Vec<VerifiedStore>), Cause> {
        let pairs_expected = record.keyspaces.iter().map(|keyspace| keyspace.pairs).sum();
        let pace = Pace::new(Phase::Rereading, (0, 0), Some(pairs_expected));
        let (mut compared, mut done) = (Vec::new(), (0, 0));
        let mut opened: Vec<Option<(Option<Store>, Compared)>> =
            self.places.sites.iter().map(|_| None).collect();
        for keyspace in &record.keyspaces {
            let at = self.places.sites.iter().position(|site| site.name == keyspace.source);
            let at = at.ok_or_else(|| changed_plan(record, Some(keyspace)))?;
            let found = opened
                .get_mut(at)
                .map(|found| found.get_or_insert_with(|| self.open_compared(at, seen)));
            compared.push(match found {
                Some((Some(store), _)) => {
                    match digest_source(store, keyspace, (done, &pace), observer) {
                        Err(Cause::Cancelled) => return Err(Cause::Cancelled),
                        Err(cause) => failed(&cause),
                        Ok(compared) => compared,
                    }
                }
                Some((None, compared)) => compared.clone(),
                None => Compared::Missing,
            });
            done = (done.0 + keyspace.pairs, done.1 + keyspace.bytes);
        }
        let mut stores = Vec::new();
        for (at, found) in opened.into_iter().enumerate() {
            // One of which no keyspace was copied is looked at all the same.
            let (_, store) = found.unwrap_or_else(|| self.open_compared(at, seen));
            let source = self.places.sites.get(at).map(|site| site.name.clone());
            stores.push(VerifiedStore { source: source.unwrap_or_default(), store });
        }
        Ok((compared, stores))
    }

    /// Opens a source's retired store, where it can be read, and compares it with what was sealed.
    fn open_compared(&mut self, at: usize, seen: &Seen) -> (Option<Store>, Compared) {
        let marker = seen.looks.get(at).and_then(|look| look.path.marker());
        let is_freed = marker.is_some_and(|marker| marker.stage == Stage::Reclaimed);
        if marker.is_some_and(|marker| marker.was == Was::Nothing) {
            return (None, Compared::NeverThere);
        } else if seen.looks.get(at).is_some_and(Look::is_half_freed) {
            let reason = "it is marked to be freed, and stands in part or whole; run reclaim again"
                .to_owned();
            return (None, Compared::Unread { reason });
        } else if is_freed {
            return (None, Compared::Freed);
        }
        match self.open_retired(at) {
            Ok(Some(store)) => (Some(store), Compared::Same),
            Ok(None) if marker.is_none() => {
                let path = self.places.sites.get(at).map(|site| site.path.display().to_string());
                let reason = format!(
                    "neither its marker nor its retired store is at {}; mount their volume, or put them back, and run this again",
                    path.unwrap_or_default()
                );
                (None, Compared::Unread { reason })
            }
            Ok(None) => (None, Compared::Missing),
            Err(cause) => (None, failed(&cause)),
        }
    }

    /// Opens the retired stores for reading; the second lock is lifted as long as that takes.
    pub(crate) fn open_stores(&mut self) -> Result<Vec<Opened>, Cause> {
        let mut opened = Vec::new();
        for at in 0..self.places.sites.len() {
            let store = self.open_retired(at)?;
            let found = store.as_ref().map(Store::keyspaces).unwrap_or_default();
            let source = self.places.plan.inner.sources.get(at);
            if let (Some(_), Some(source)) = (&store, source) {
                source.check_named(&found)?;
            }
            let keyspaces = source.map(|source| source.resolve(&found)).transpose()?;
            opened.push(Opened { store, keyspaces: keyspaces.unwrap_or_default() });
        }
        Ok(opened)
    }

    /// Opens a source's retired store for reading; none where there is none, or where it is freed.
    fn open_retired(&mut self, at: usize) -> Result<Option<Store>, Cause> {
        let lifted = self.lifted.get_or_insert_default();
        let Some(site) = self.places.sites.get(at) else { return Ok(None) };
        // One that is not read must be closed before it is opened again: it holds fjall's lock.
        let kept = self.kept.get_mut(at).and_then(Option::take);
        let kept = kept.filter(|store| store.is_at(&site.retired));
        let exists = disk::metadata(&site.retired)?.is_some_and(|metadata| metadata.is_dir());
        let standing = Standing::at(&site.path)?;
        let reclaimed = standing.marker().is_some_and(|marker| marker.stage == Stage::Reclaimed);
        if !exists || reclaimed {
            return Ok(None);
        }
        // I-2: a part of it must not pass for all of it. Opening makes anew what is missing, so it is
        // looked at before, and the keyspaces after it.
        let sealed = standing.marker().and_then(|marker| marker.store.as_ref());
        let check = |difference: Option<String>| match difference {
            Some(difference) => Err(Cause::RetiredChanged {
                name: site.name.clone(),
                path: site.retired.clone(),
                difference,
            }),
            None => Ok(()),
        };
        let tree = inventory::tree(&site.retired)?;
        if let Some(sealed) = sealed {
            check(inventory::difference(&site.retired, &tree, sealed)?)?;
        }
        // fjall locks a file of the store that it opens for writing.
        disk::check_not_read_only("open the retired store", &site.retired)?;
        if Standing::at(&site.retired)? == Standing::Directory(SecondLock::Held) {
            lifted.insert(site.retired.clone());
        }
        site.release_version()?;
        let store = match kept {
            Some(store) => store,
            None => Store::open(&site.name, &site.retired, tree)?,
        };
        if let Some(sealed) = sealed {
            check(inventory::difference_opened(&store, sealed)?)?;
        }
        Ok(Some(store))
    }

    /// Closes the stores that are open, and sets their second locks again. Where that fails, the
    /// next open does it: no proof leans on it.
    pub(crate) fn close_stores(&mut self) {
        self.opened = None;
        if let Some(lifted) = self.lifted.take()
            && let Err(cause) = self.hold_again(&lifted)
        {
            tracing::warn!(%cause, "the second lock was not set again");
        }
    }

    /// Closes the stores that preflight opened.
    pub(crate) fn close_kept(&mut self) {
        self.kept.fill_with(|| None);
    }

    /// Sets the second lock again in every tombstoned store that was read, and where it was lifted
    /// after a marker that is gone, or that says restoring.
    fn hold_again(&self, lifted: &BTreeSet<PathBuf>) -> Result<(), Cause> {
        for site in &self.places.sites {
            let look = site.look(&[])?;
            let held = match look.path.marker().map(|marker| marker.stage) {
                Some(Stage::Tombstone | Stage::Final) => true,
                Some(Stage::Sealed | Stage::Reclaimed) => false,
                Some(Stage::Restoring) | None => lifted.contains(&site.retired),
            };
            if held && look.retired == Standing::Directory(SecondLock::Native) {
                site.hold_version()?;
            }
        }
        Ok(())
    }

    /// The record's keyspaces as jobs, in its order, once the plan is found to be the one it was
    /// begun with.
    pub(crate) fn jobs<'a>(
        &'a self,
        opened: &'a [Opened],
        record: &Record,
    ) -> Result<Vec<Job<'a>>, Cause> {
        let mut planned = HashMap::new();
        let sources = self.places.sites.iter().zip(&self.places.plan.inner.sources);
        for ((site, source), opened) in sources.zip(opened) {
            for keyspace in &opened.keyspaces {
                let job = Job {
                    source: &site.name,
                    keyspace,
                    store: opened.store.as_ref(),
                    quarantine: source.quarantine,
                    counted: None,
                };
                planned.insert((job.source, keyspace.name.as_str()), job);
            }
        }
        let mut jobs = Vec::new();
        for recorded in &record.keyspaces {
            let job = planned.remove(&(recorded.source.as_str(), recorded.keyspace.as_str()));
            let job = job.filter(|job| is_mapped_as(recorded, job.keyspace));
            jobs.push(job.ok_or_else(|| changed_plan(record, Some(recorded)))?);
        }
        if planned.is_empty() { Ok(jobs) } else { Err(changed_plan(record, None)) }
    }

    /// The mapping of each of the record's keyspaces.
    fn mappings(&self, record: &Record) -> Vec<Result<Keyspace, Cause>> {
        let mut known = HashMap::new();
        for source in &self.places.plan.inner.sources {
            let own = record.keyspaces.iter().filter(|recorded| recorded.source == source.name);
            let names: Vec<String> = own.map(|recorded| recorded.keyspace.clone()).collect();
            // Where one of them makes it fail, each is looked at by itself.
            let resolved = source.resolve(&names).unwrap_or_default().into_iter();
            known.extend(resolved.map(|k| ((source.name.as_str(), k.name.clone()), k)));
        }
        let mapping = |recorded: &KeyspaceRecorded| {
            let found = known.get(&(recorded.source.as_str(), recorded.keyspace.clone()));
            match found.filter(|keyspace| is_mapped_as(recorded, keyspace)) {
                Some(keyspace) => Ok(keyspace.clone()),
                None => self.mapping(record, recorded),
            }
        };
        record.keyspaces.iter().map(mapping).collect()
    }

    /// The mapping of one of the record's keyspaces.
    fn mapping(&self, record: &Record, recorded: &KeyspaceRecorded) -> Result<Keyspace, Cause> {
        let source = self.places.plan.inner.sources.iter().find(|s| s.name == recorded.source);
        let resolved = source
            .map(|source| source.resolve(std::slice::from_ref(&recorded.keyspace)))
            .transpose()?
            .unwrap_or_default();
        let found = resolved.into_iter().find(|keyspace| is_mapped_as(recorded, keyspace));
        found.ok_or_else(|| changed_plan(record, Some(recorded)))
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
/// What a retired store is that could not be opened, or not be read to its end. Only what was found by
/// looking is a difference.
fn failed(cause: &Cause) -> Compared {
    match cause {
        Cause::RetiredChanged { difference, .. } => {
            Compared::Differs { how: format!("it is not what was sealed: {difference}") }
        }
        Cause::StoreDamaged { reason, .. } => {
            Compared::Differs { how: format!("it is damaged: {reason}") }
        }
        other => Compared::Unread { reason: other.to_string() },
    }
}

/// A keyspace, and tables that suit the sizes of its pairs.
fn draft(
    source: &str,
    store: Option<&Store>,
    keyspace: &Keyspace,
    page_bytes: usize,
) -> Result<DraftKeyspace, Cause> {
    let sampled = store.map(|store| store.sampled_pair_bytes(&keyspace.name)).transpose()?;
    let sizes = Sizes::new(sampled.flatten().unwrap_or(0), page_bytes);
    let tables = keyspace.mapping.tables_for(sizes);
    // Names and indexes were looked at before anything was changed.
    let names = |tables: Vec<Table>| tables.into_iter().map(|table| (table.name, table.indexes));
    if !names(tables.clone()).eq(names(keyspace.mapping.tables())) {
        return Err(Cause::Plan(format!(
            "the mapping of keyspace '{}' of source '{source}' names other tables or indexes once it knows the sizes",
            keyspace.name.escape_debug()
        )));
    }
    Ok(DraftKeyspace {
        source: source.to_owned(),
        keyspace: keyspace.name.clone(),
        mapping: keyspace.mapping.name().to_owned(),
        tables,
    })
}
