//! The steps: how each is made durable.

use super::Driver;
use super::Freed;
use super::hints::hints;
use crate::disk::{self, Folder};
use crate::error::Cause;
use crate::fault;
use crate::look::Seen;
use crate::observer::Observer;
use crate::place::{MarkerText, Site, preflight};
use crate::protocol::marker::Marker;
use crate::protocol::record::Record;
use crate::protocol::{Attempt, MigrationId, Run, Stage, Step, Was};
use crate::source::inventory;
use crate::sql::StepError;
use std::collections::BTreeSet;
use std::time::SystemTime;

impl Driver {
    pub(crate) fn execute(
        &mut self,
        step: Step,
        seen: &Seen,
        observer: &mut dyn Observer,
    ) -> Result<(), StepError> {
        match step {
            Step::Confirm { .. } if fault::mistaken("trusting") => Ok(()),
            Step::Confirm { record } => {
                for site in &self.places.sites {
                    site.confirm()?;
                }
                let claim = self.places.claim.confirm();
                if !record {
                    // What is asked of no target asks nothing of what is beside it.
                    if let Err(cause) = claim {
                        tracing::warn!(%cause, "the claim file is not made durable");
                    }
                    return Ok(());
                }
                claim?;
                // I-1: a target that a marker names, and that is gone, must not come back.
                for (path, _) in &seen.elsewhere {
                    let folder = disk::parent(path);
                    if disk::metadata(folder)?.is_some_and(|metadata| metadata.is_dir()) {
                        disk::sync_folder(folder)?;
                    }
                }
                self.places.target.confirm()
            }
            Step::Claim(id) => Ok(self.claim(seen, Some(id))?),
            Step::Unclaim => Ok(self.claim(seen, None)?),
            Step::Seal { source, run } => Ok(self.seal(source, run)?),
            Step::Mark { source, stage, attempt } => Ok(self.mark(source, stage, attempt, seen)?),
            Step::PutBack { source, run } => Ok(self.put_back(source, run, seen)?),
            Step::Unseal { source, .. } => Ok(self.unseal(source, seen)?),
            Step::HoldVersion(source) => Ok(self.site(source)?.hold_version()?),
            Step::ReleaseVersion(source) => Ok(self.site(source)?.release_version()?),
            Step::DeleteRetired(source) => {
                let own = self.places.own.get(source).and_then(Option::as_ref);
                let site = self.site(source)?;
                let deleted = site.delete_retired(own)?;
                self.freed.push(Freed {
                    source: site.name.clone(),
                    retired: site.retired.clone(),
                    stood: true,
                    bytes: deleted.bytes,
                    rest: deleted.rest,
                });
                Ok(())
            }
            Step::Tidy(source) => Ok(self.site(source)?.tidy(&seen.migrations())?),
            Step::BeginCopy(run) => self.begin_copy(run),
            Step::Copy => self.copy(seen, observer),
            Step::Verify => {
                self.verify_target(seen, observer)?;
                match &self.places.plan.inner.check {
                    Some(check) => Ok(check.ask(&self.places.target)?),
                    None => Ok(()),
                }
            }
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
        if entry.is_some() && !fault::mistaken("ancestors") {
            // I-1: a folder that was made just now takes its markers with it, or the target.
            let target = self.places.target.folder();
            let folders = self.places.sites.iter().map(Site::folder).chain([target]);
            for folder in folders.collect::<BTreeSet<_>>() {
                disk::sync_ancestors(folder)?;
            }
        }
        let name = self.places.plan.name().to_owned();
        let owner = if entry.is_some() { self.places.claim_owner()? } else { None };
        self.places.claim.set(&name, seen.observation.claim, entry, owner.as_ref())
    }

    fn seal(&mut self, source: usize, run: Run) -> Result<(), Cause> {
        let site = self.site(source)?;
        let exists = disk::metadata(&site.path)?.is_some();
        if !exists && !self.may_be_missing(source) {
            return Err(Cause::SourceMissing { name: site.name.clone(), path: site.path.clone() });
        }
        let was = if exists { Was::Directory } else { Was::Nothing };
        let marker = self.new_marker(source, Stage::Sealed, run, was)?;
        if !exists {
            return site.seal_missing(&self.text(marker)?);
        }
        // One that opened again since preflight is looked at like the first time.
        let store = match self.kept.get_mut(source).and_then(Option::take) {
            Some(store) => store,
            None => preflight(self.site(source)?)?,
        };
        let site = self.site(source)?;
        let changed = || Cause::ChangedUnderneath(site.path.clone());
        let own = self.places.own.get(source).and_then(Option::as_ref).ok_or_else(changed)?;
        // fjall's lock is held: from here on nothing changes but by somebody who passes it by.
        let store_sealed = inventory::take(&store, &Folder::of(own.file(), &site.path)?)?;
        let text = self.text(Marker { store: Some(store_sealed), ..marker })?;
        site.seal(&text, own, &store)?;
        if let Some(kept) = self.kept.get_mut(source) {
            *kept = Some(store);
        }
        Ok(())
    }

    fn mark(
        &self,
        source: usize,
        stage: Stage,
        attempt: Attempt,
        seen: &Seen,
    ) -> Result<(), Cause> {
        let found = self.marker(source, seen)?;
        let text = self.text(self.next_marker(found, stage, attempt))?;
        self.site(source)?.mark(&text, found)
    }

    fn put_back(&self, source: usize, run: Run, seen: &Seen) -> Result<(), Cause> {
        let site = self.site(source)?;
        let recorded =
            self.record(seen)?.sources.iter().find(|recorded| recorded.name == site.name);
        let was = recorded.map_or(Was::Nothing, |recorded| recorded.was);
        let text = self.text(self.new_marker(source, Stage::Tombstone, run, was)?)?;
        tracing::warn!(source = site.name, "the tombstone was gone and is put back");
        if seen.looks.get(source).is_some_and(|look| look.is_out_of_sight(Some(was))) {
            tracing::warn!(
                source = site.name,
                "its retired store is gone too: is its volume mounted?"
            );
        }
        site.seal_missing(&text)
    }

    fn unseal(&self, source: usize, seen: &Seen) -> Result<(), Cause> {
        let found = self.marker(source, seen)?;
        let own = self.places.own.get(source).and_then(Option::as_ref);
        self.site(source)?.unseal(found, own)
    }

    fn prepare(&self, seen: &Seen) -> Result<(), Cause> {
        for source in 0..self.places.sites.len() {
            let found = self.marker(source, seen)?;
            if found.stage == Stage::Sealed {
                let text = self.text(self.next_marker(found, Stage::Tombstone, found.attempt))?;
                self.site(source)?.prepare(&text)?;
            }
        }
        Ok(())
    }

    fn go_live(&self, seen: &Seen) -> Result<(), StepError> {
        let run = self.record(seen)?.run();
        let target = &self.places.target;
        target.go_live(self.places.plan.name(), run, now(), || {
            // I-1: looked at again inside the transaction that takes the fence down.
            for site in &self.places.sites {
                let look = site.look(&[])?;
                let marker = look.path.marker();
                let stands = marker.is_some_and(|m| m.stage == Stage::Tombstone && m.run() == run);
                if !stands && !fault::mistaken("live-first") {
                    return Err(Cause::ChangedUnderneath(site.path.clone()));
                }
            }
            Ok(())
        })
    }

    fn site(&self, source: usize) -> Result<&Site, Cause> {
        self.places
            .sites
            .get(source)
            .ok_or_else(|| Cause::Bug("the plan has no such source".to_owned()))
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

    pub(crate) fn record<'a>(&self, seen: &'a Seen) -> Result<&'a Record, Cause> {
        seen.record().ok_or_else(|| Cause::RecordChanged(self.places.target.path.clone()))
    }

    /// A marker for a source that has none.
    fn new_marker(&self, source: usize, stage: Stage, run: Run, was: Was) -> Result<Marker, Cause> {
        let site = self.site(source)?;
        Ok(Marker::new(
            stage,
            self.places.plan.name(),
            run,
            &site.name,
            was,
            self.places.named(),
            &self.places.target.path.display().to_string(),
            now(),
            site.version()?.filter(|_| was == Was::Directory),
            self.places.plan.is_plain(),
            None,
        ))
    }

    /// The marker that replaces `found`: of this stage and attempt, and of this plan's places. Its time
    /// is when it came to its stage: it says since when writes are lost.
    fn next_marker(&self, found: &Marker, stage: Stage, attempt: Attempt) -> Marker {
        Marker {
            stage,
            attempt,
            sources: self.places.named(),
            target: self.places.target.path.display().to_string(),
            time: if stage == found.stage { found.time.clone() } else { now() },
            ..found.clone()
        }
    }

    fn text(&self, marker: Marker) -> Result<MarkerText, Cause> {
        let bytes = marker
            .encode(&hints(&self.places, &marker))
            .map_err(|error| Cause::Plan(format!("a marker of it can't be written: {error}")))?;
        Ok(MarkerText { marker, bytes })
    }

    pub(crate) fn subject(&self, step: Step) -> String {
        let source = match step {
            Step::Seal { source, .. }
            | Step::Mark { source, .. }
            | Step::PutBack { source, .. }
            | Step::Unseal { source, .. }
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
    pub(crate) const fn name(step: Step) -> &'static str {
        match step {
            Step::Confirm { .. } => "sync what was found",
            Step::Claim(_) => "write the claim file",
            Step::Unclaim => "remove the claim",
            Step::Seal { .. } => "seal a source",
            Step::Mark { stage: Stage::Sealed, .. } => "raise the attempt",
            Step::Mark { stage: Stage::Tombstone, .. } => "set a tombstone",
            Step::Mark { stage: Stage::Final, .. } => "make a tombstone final",
            Step::Mark { stage: Stage::Restoring, .. } => "mark a source for restoring",
            Step::Mark { stage: Stage::Reclaimed, .. } => "mark a source as reclaimed",
            Step::PutBack { .. } => "put a tombstone back",
            Step::Unseal { .. } => "unseal a source",
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

pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, SourceBuilder};
    use crate::protocol::MigrationId;
    use std::path::Path;

    fn driver(root: &Path) -> Driver {
        let plan = Plan::builder("p")
            .target(root.join("t"))
            .source("s", root.join("s"), SourceBuilder::every_keyspace)
            .build()
            .unwrap();
        Driver::new(&plan).unwrap()
    }

    const RUN: Run = Run { id: MigrationId(7), attempt: 1 };

    #[test]
    fn a_store_that_is_gone_since_the_look_is_not_sealed_as_one_that_may_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        let mut driver = driver(folder.path());
        assert!(matches!(driver.seal(0, RUN), Err(Cause::SourceMissing { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_marker_says_since_when_it_is_at_its_stage() {
        let folder = tempfile::tempdir().unwrap();
        let driver = driver(folder.path());
        let mut found = driver.new_marker(0, Stage::Tombstone, RUN, Was::Nothing).unwrap();
        found.time = "2001-01-01T00:00:00Z".to_owned();
        assert_eq!(driver.next_marker(&found, Stage::Tombstone, 2).time, found.time);
        assert_ne!(driver.next_marker(&found, Stage::Final, 1).time, found.time);
    }

    #[test]
    fn a_step_is_told_with_its_source_or_else_with_the_target() {
        let folder = tempfile::tempdir().unwrap();
        let driver = driver(folder.path());
        assert_eq!(driver.subject(Step::Tidy(0)), "s");
        let target = driver.places.target.path.display().to_string();
        assert_eq!(driver.subject(Step::Commit), target);
    }
}
