//! Observing: the facts on disk, gathered under our locks or from outside.

mod allowed;
mod retired;
mod verbs;

pub use allowed::Loss;
pub(crate) use allowed::{changed_plan, is_mapped_as};
pub use verbs::Verb;
pub(crate) use verbs::{verbs, without_target};

use crate::disk;
use crate::disk::lock::FileLock;
use crate::disk::owner::Owner;
use crate::error::{Cause, Contradicted, Error, Words, denied};
use crate::place::{Look, Site, Standing};
use crate::plan::Plan;
use crate::protocol::claim::CLAIM_SUFFIX;
use crate::protocol::marker::{Marker, SourceNamed};
use crate::protocol::record::{Record, SourceRecorded};
use crate::protocol::{
    AtPath, AtRetired, ClaimSeen, Contradiction, MarkerSeen, MigrationId, Observation, Place,
    RecordSeen, SecondLock, SourceSeen, Stage, State, TargetSeen, classify, classify_with_target,
};
use crate::sql::{Access, ClaimFile, Target, TargetLook};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The places that a plan names, and the locks on them.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) plan: Plan,
    pub(crate) sites: Vec<Site>,
    pub(crate) target: Target,
    pub(crate) claim: ClaimFile,
    /// The lock on each source's own folder, where there is one.
    pub(crate) own: Vec<Option<FileLock>>,
    access: Access,
}

/// What one look showed.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) observation: Observation,
    pub(crate) looks: Vec<Look>,
    pub(crate) target: TargetLook,
    claim_detail: Option<String>,
    pub(crate) elsewhere: Vec<(PathBuf, TargetLook)>,
    /// The first retired store that is not what was sealed, and how it differs, once somebody asked.
    pub(crate) changed: OnceCell<Option<(Site, String)>>,
}

impl Seen {
    /// The migrations that the claim and the markers name.
    pub(crate) fn migrations(&self) -> Vec<MigrationId> {
        migrations(self.observation.claim, &self.looks)
    }
}

fn migrations(claim: ClaimSeen, looks: &[Look]) -> Vec<MigrationId> {
    let claimed = match claim {
        ClaimSeen::Id(id) => Some(id),
        ClaimSeen::None | ClaimSeen::Unreadable => None,
    };
    let markers = looks.iter().filter_map(|look| look.path.marker().map(|marker| marker.id));
    let all: BTreeSet<MigrationId> = claimed.into_iter().chain(markers).collect();
    all.into_iter().collect()
}

impl Places {
    /// Finds the places of `plan`. With [`Access::Locked`], nobody else who asks for the locks
    /// looks or acts until they are dropped.
    pub(crate) fn new(plan: &Plan, access: Access) -> Result<Self, Cause> {
        let mut sites = Vec::new();
        for source in &plan.inner.sources {
            sites.push(Site::new(&source.name, &source.path).map_err(|cause| match cause {
                Cause::Io { source: error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
                    Cause::SourceMissing { name: source.name.clone(), path: source.path.clone() }
                }
                other => other,
            })?);
        }
        let target = Target::new(&plan.inner.target)?;
        check_overlap(&sites, &target)?;
        let claim = ClaimFile::beside(&target.path);
        let own = sites.iter().map(|_| None).collect();
        let mut places = Self { plan: plan.clone(), sites, target, claim, own, access };
        if access == Access::Locked {
            places.lock()?;
        }
        Ok(places)
    }

    fn lock(&mut self) -> Result<(), Cause> {
        let mut order: Vec<usize> = (0..self.sites.len()).collect();
        order.sort_by_key(|&at| self.sites.get(at).map(|site| site.name.clone()));
        for at in order {
            if let (Some(site), Some(own)) = (self.sites.get(at), self.own.get_mut(at)) {
                *own = lock_folder(site)?;
            }
        }
        match self.claim.lock() {
            // What needs it asks for it again, step by step; and the sources' own locks keep two that
            // work on this plan apart.
            Err(cause) if cause.is_of_the_system() && self.own.iter().any(Option::is_some) => {
                Ok(())
            }
            locked => locked,
        }
    }

    /// Whose the target is; where there is none, whose it will be: the stores' owner's, who is to use
    /// it. That is not its folder's owner: a user who can't replace the claim in a folder of root's, or
    /// one that others share, can't end a migration that was begun for that user.
    pub(crate) fn target_owner(&self) -> Result<Option<Owner>, Cause> {
        let path = &self.target.path;
        if let Some(found) = self.target_file()? {
            return Ok(Some(Owner::of_file(path, &found)));
        }
        let mut stores = self.store_owners()?.into_iter();
        let Some(first) = stores.next() else { return Owner::beside(self.target.folder()) };
        if !stores.as_slice().iter().all(|store| store.is_same_user(&first)) {
            let owners = std::iter::once(&first).chain(stores.as_slice()).map(Owner::words);
            return Err(Cause::Owners { path: path.clone(), owners: owners.collect() });
        }
        Ok(Some(stores.fold(first, |owner, other| owner.and(&other))))
    }

    /// Whose the claim is: the target's owner's. Where that is nobody, or this user can't give it, it is
    /// this user's own: before the first seal that is refused, and the way back must not need it.
    pub(crate) fn claim_owner(&self) -> Result<Option<Owner>, Cause> {
        match self.target_owner() {
            Err(Cause::Owners { .. }) => Ok(None),
            owner => Ok(owner?.and_then(Owner::if_given)),
        }
    }

    /// Refuses a target that this user can't make for whom it will belong to, and one that is there and
    /// that nobody to whom a store belongs may write: once it is live, the daemon is locked out.
    pub(crate) fn check_target_owner(&self) -> Result<(), Cause> {
        self.target_owner()?.as_ref().map_or(Ok(()), Owner::check)?;
        let stores = self.store_owners()?;
        let Some(first) = stores.first() else { return Ok(()) };
        let locks_out = |what, path: &Path, found: &std::fs::Metadata| Cause::TargetLocksOut {
            what,
            path: path.to_owned(),
            owner: denied::user_of(found),
            mode: denied::mode_of(found),
            user: first.user(),
        };
        // SQLite makes its journal beside the database.
        let folder = self.target.folder();
        if let Some(found) = disk::metadata(folder)?.filter(std::fs::Metadata::is_dir)
            && !stores.iter().any(|store| store.may_make_files_in(&found))
        {
            return Err(locks_out("the target's folder", folder, &found));
        }
        match self.target_file()? {
            Some(found) if !stores.iter().any(|store| store.may_write(&found)) => {
                Err(locks_out("the target", &self.target.path, &found))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn target_file(&self) -> Result<Option<std::fs::Metadata>, Cause> {
        Ok(disk::metadata(&self.target.path)?.filter(std::fs::Metadata::is_file))
    }

    /// Each store's owner: a target that is there belongs to one of them.
    pub(crate) fn store_owners(&self) -> Result<Vec<Owner>, Cause> {
        let owners = self.sites.iter().map(Site::store_owner).collect::<Result<Vec<_>, _>>()?;
        Ok(owners.into_iter().flatten().collect())
    }

    /// Looks at everything.
    pub(crate) fn observe(&self) -> Result<Seen, Cause> {
        self.observe_beside(None)
    }

    /// Looks at everything but a target that was found out of reach before: each look may wait long.
    pub(crate) fn observe_beside(&self, unreachable: Option<Cause>) -> Result<Seen, Cause> {
        let (claim, claim_detail) = self.claim.look(self.plan.name());
        let look = |known: &[MigrationId]| {
            self.sites.iter().map(|site| site.look(known)).collect::<Result<Vec<_>, _>>()
        };
        let claimed = migrations(claim, &[]);
        let mut looks = look(&claimed)?;
        let known = migrations(claim, &looks);
        // Where the claim is gone, the marker of one source says what a seal may have left at another.
        if known != claimed && looks.iter().any(|look| look.path.marker().is_none()) {
            looks = look(&known)?;
        }
        let target = unreachable.map_or_else(
            || self.target.look(self.plan.name(), self.access),
            TargetLook::Unreachable,
        );
        let mut elsewhere: Vec<(PathBuf, TargetLook)> = Vec::new();
        for marker in looks.iter().filter_map(|look| look.path.marker()) {
            let path = PathBuf::from(&marker.target);
            if !self.is_target(&path) && elsewhere.iter().all(|(other, _)| *other != path) {
                let look = match Target::new(&path) {
                    Ok(target) => target.look(&marker.plan, Access::LookOnly),
                    Err(cause) => TargetLook::Unreachable(cause),
                };
                elsewhere.push((path, look));
            }
        }
        let sources = self.sites.iter().zip(&looks).map(|(site, look)| self.source(site, look));
        let observation = Observation {
            sources: sources.collect(),
            target: self.target_seen(&target, &looks),
            claim,
            elsewhere: elsewhere.iter().map(|(_, look)| self.target_seen(look, &[])).collect(),
        };
        Ok(Seen { observation, looks, target, claim_detail, elsewhere, changed: OnceCell::new() })
    }

    fn is_target(&self, path: &Path) -> bool {
        path == self.target.path || disk::resolve(path).is_ok_and(|path| path == self.target.path)
    }

    fn source(&self, site: &Site, look: &Look) -> SourceSeen {
        let path = match &look.path {
            Standing::Nothing => AtPath::Nothing,
            Standing::Directory(version) => AtPath::Directory(*version),
            Standing::Marker(marker) => AtPath::Marker(self.marker(site, marker)),
            Standing::Damaged(_) => AtPath::Damaged,
            Standing::Foreign(_) => AtPath::Foreign,
        };
        let retired = match &look.retired {
            Standing::Nothing => AtRetired::Nothing,
            Standing::Directory(_) if look.freed => AtRetired::Nothing,
            Standing::Directory(version) => AtRetired::Directory(*version),
            Standing::Marker(marker) => AtRetired::Marker(self.marker(site, marker)),
            Standing::Damaged(_) | Standing::Foreign(_) => AtRetired::Foreign,
        };
        SourceSeen { path, retired, temporary: look.temporary }
    }

    fn marker(&self, site: &Site, marker: &Marker) -> MarkerSeen {
        MarkerSeen {
            stage: marker.stage,
            run: marker.run(),
            was: marker.was,
            plan: marker.plan == self.plan.name(),
            source: marker.source == site.name,
            sources: self.is_ours(marker.sources.iter().map(|named| named.name.as_str())),
            target: self.is_target(Path::new(&marker.target)),
        }
    }

    fn target_seen(&self, look: &TargetLook, sources: &[Look]) -> TargetSeen {
        match look {
            TargetLook::None => TargetSeen::None,
            TargetLook::NoRecord => TargetSeen::NoRecord,
            TargetLook::Record(record) => TargetSeen::Record(RecordSeen {
                stage: record.stage,
                run: record.run(),
                copied: record.copied(),
                sources: self.is_ours(record.sources.iter().map(|source| source.name.as_str())),
                paths: self
                    .sites
                    .iter()
                    .zip(sources)
                    .filter(|(_, look)| look.is_empty())
                    .all(|(site, _)| names(record, site)),
            }),
            TargetLook::Unreadable(_) => TargetSeen::Unreadable,
            TargetLook::Unreachable(_) => TargetSeen::Unreachable,
            TargetLook::MainFileGone => TargetSeen::MainFileGone,
        }
    }

    /// Whether the next run puts the markers back, once what stands in their places and is none was
    /// moved away: the target is live, and nothing else is wrong.
    fn puts_back(&self, seen: &Seen) -> bool {
        let mut cleared = seen.observation.clone();
        let mut paths = true;
        for (site, source) in self.sites.iter().zip(&mut cleared.sources) {
            if !matches!(source.path, AtPath::Marker(_)) {
                source.path = AtPath::Nothing;
                paths &= source.retired != AtRetired::Nothing
                    || seen.record().is_some_and(|record| names(record, site));
            }
        }
        if let TargetSeen::Record(record) = &mut cleared.target {
            record.paths = paths;
        }
        classify(&cleared) == Ok(State::Tombstoned)
    }

    /// Whether `names` are just the plan's sources, in any order.
    fn is_ours<'a>(&self, names: impl Iterator<Item = &'a str>) -> bool {
        let mut theirs: Vec<&str> = names.collect();
        let mut ours: Vec<&str> = self.sites.iter().map(|site| site.name.as_str()).collect();
        theirs.sort_unstable();
        ours.sort_unstable();
        theirs == ours
    }

    /// The sources as a marker names them.
    pub(crate) fn named(&self) -> Vec<SourceNamed> {
        let named = self.sites.iter().map(|site| SourceNamed {
            name: site.name.clone(),
            path: site.path.display().to_string(),
        });
        named.collect()
    }

    /// The state, or the error that the contradiction is to a caller.
    pub(crate) fn classify(&self, seen: &Seen) -> Result<State, Error> {
        classify(&seen.observation).map_err(|contradiction| self.contradict(seen, contradiction))
    }

    /// The same, for a migration that begins or goes on: it needs the target.
    pub(crate) fn classify_with_target(&self, seen: &Seen) -> Result<State, Error> {
        classify_with_target(&seen.observation)
            .map_err(|contradiction| self.contradict(seen, contradiction))
    }

    /// A contradiction, in words. Where no migration has begun, a target that can't be used is only
    /// a wrong path, and one that is another user's contradicts nothing.
    pub(crate) fn contradict(&self, seen: &Seen, contradiction: Contradiction) -> Error {
        let unmarked = seen.looks.iter().all(|look| look.path.marker().is_none());
        match (&seen.target, contradiction) {
            (TargetLook::Unreadable(cause), Contradiction::TargetUnreadable)
            | (TargetLook::Unreachable(cause), Contradiction::TargetUnreachable)
                if unmarked || matches!(cause, Cause::Denied { .. }) =>
            {
                Error::Refused(copy_of(cause))
            }
            _ => Error::Contradiction(Box::new(self.tell(seen, contradiction))),
        }
    }

    /// Where a marker stands at another path than it names for its own source, and this migration's
    /// claim beside the plan's target: the folder that holds it all was moved, or copied.
    fn moved(&self, seen: &Seen) -> Option<String> {
        self.sites.iter().zip(&seen.looks).find_map(|(site, look)| {
            let marker = look.path.marker()?;
            let named = marker.sources.iter().find(|named| named.name == marker.source)?;
            let claimed = seen.observation.claim == ClaimSeen::Id(marker.id);
            (claimed && Path::new(&named.path) != site.path).then(|| {
                format!(
                    "the marker at {} was written at {}, and the claim of its migration is here too",
                    site.path.display(),
                    named.path
                )
            })
        })
    }

    fn tell(&self, seen: &Seen, contradiction: Contradiction) -> Contradicted {
        let look = |source: usize| seen.looks.get(source);
        let detail = match contradiction.place() {
            Place::Source(source) => look(source).and_then(|look| match contradiction {
                Contradiction::OtherPlan(_) => {
                    look.path.marker().map(|marker| format!("it is of plan '{}'", marker.plan))
                }
                Contradiction::OtherSource(_) => {
                    look.path.marker().map(|marker| format!("it is of source '{}'", marker.source))
                }
                Contradiction::OtherSources(_) => look.path.marker().map(|marker| {
                    let names: Vec<&str> =
                        marker.sources.iter().map(|named| named.name.as_str()).collect();
                    format!("they are {}", names.join(", "))
                }),
                _ => look.path.detail().or(look.retired.detail()).map(str::to_owned),
            }),
            Place::Target => match &seen.target {
                TargetLook::Unreadable(Cause::NotADatabase { reason, .. }) => Some(reason.clone()),
                // Its advice does not know of the markers.
                TargetLook::Unreadable(cause) | TargetLook::Unreachable(cause) => {
                    Some(cause.in_two().0)
                }
                TargetLook::None
                | TargetLook::NoRecord
                | TargetLook::Record(_)
                | TargetLook::MainFileGone => None,
            },
            Place::Claim => seen.claim_detail.clone(),
            Place::Elsewhere => self.moved(seen),
        };
        let cure = match &seen.target {
            // A folder that is missing can't just be created: what belongs in it is elsewhere.
            TargetLook::Unreachable(cause) if !matches!(cause, Cause::TargetFolderMissing(_)) => {
                Some(cause.in_two().1)
            }
            TargetLook::None
            | TargetLook::NoRecord
            | TargetLook::Record(_)
            | TargetLook::Unreadable(_)
            | TargetLook::Unreachable(_)
            | TargetLook::MainFileGone => None,
        };
        let replaced = match contradiction {
            // With another target than the plan's.
            Contradiction::TargetUnreachable => Self::replaced_elsewhere(seen),
            _ => Self::replaced(seen),
        };
        // The one with a record, where there is one, is the one that is spoken of.
        let elsewhere = seen
            .elsewhere
            .iter()
            .find(|(_, look)| matches!(look, TargetLook::Record(_)))
            .or_else(|| seen.elsewhere.iter().find(|(_, l)| matches!(l, TargetLook::NoRecord)))
            .or(seen.elsewhere.first());
        let words = Words {
            source: &|source| {
                self.sites
                    .get(source)
                    .map(|site| (site.name.clone(), site.path.clone()))
                    .unwrap_or_default()
            },
            target: &self.target.path,
            elsewhere: elsewhere.map(|(path, _)| path.as_path()),
            begun: seen.has_begun(),
            only_sealed: classify(&seen.observation).is_ok(),
            record: seen.record().map(|record| record.stage),
            sources: self.sites.len(),
            detail,
            cure,
            puts_back: self.puts_back(seen),
            lost: commands(&without_target(self, seen, contradiction, replaced)),
        };
        words.tell(contradiction)
    }
}

/// Whether `record` has this source at its path.
fn names(record: &Record, site: &Site) -> bool {
    let is_it =
        |source: &SourceRecorded| source.name == site.name && Path::new(&source.path) == site.path;
    record.sources.iter().any(is_it)
}

/// Verbs, as a message names them.
fn commands(verbs: &[Verb]) -> Option<String> {
    let named: Vec<String> = verbs.iter().map(|verb| format!("`cutover {}`", verb.verb)).collect();
    (!named.is_empty()).then(|| named.join(" or "))
}

impl Seen {
    /// Whether there is any trace of a migration.
    fn has_begun(&self) -> bool {
        let is_ours = |standing: &Standing| match standing {
            Standing::Marker(_) | Standing::Damaged(_) => true,
            Standing::Directory(version) => *version == SecondLock::Held,
            Standing::Nothing | Standing::Foreign(_) => false,
        };
        self.looks.iter().any(|look| is_ours(&look.path) || is_ours(&look.retired))
            || self.observation.claim != ClaimSeen::None
            || self.record().is_some()
    }

    /// Since when the target may have been written, so far as it or the markers say. A marker is made
    /// final once the target is live, and before it is handed out.
    pub(crate) fn live_since(&self) -> Option<&str> {
        if let Some(record) = self.record() {
            return record.times.live.as_deref();
        }
        let markers = self.looks.iter().filter_map(|look| look.path.marker());
        markers.filter(|marker| marker.stage == Stage::Final).map(|m| m.time.as_str()).min()
    }

    /// Whether the stores are being given back.
    pub(crate) fn is_restoring(&self) -> bool {
        let mut markers = self.looks.iter().filter_map(|look| look.path.marker());
        markers.any(|marker| marker.stage == Stage::Restoring)
    }

    /// The record, where there is one.
    pub(crate) fn record(&self) -> Option<&Record> {
        match &self.target {
            TargetLook::Record(record) => Some(record),
            TargetLook::None
            | TargetLook::NoRecord
            | TargetLook::Unreadable(_)
            | TargetLook::Unreachable(_)
            | TargetLook::MainFileGone => None,
        }
    }
}

/// An error of a look, once more; I/O errors can't be cloned.
pub(crate) fn copy_of(cause: &Cause) -> Cause {
    match cause {
        Cause::NotADatabase { path, reason } => {
            Cause::NotADatabase { path: path.clone(), reason: reason.clone() }
        }
        Cause::TargetFolderMissing(path) => Cause::TargetFolderMissing(path.clone()),
        Cause::NotUtf8(path) => Cause::NotUtf8(path.clone()),
        Cause::DiskFull { path, needed_bytes, available_bytes } => Cause::DiskFull {
            path: path.clone(),
            needed_bytes: *needed_bytes,
            available_bytes: *available_bytes,
        },
        Cause::Engine { engine, what, path, message, next } => {
            Cause::Engine { engine, what, path: path.clone(), message: message.clone(), next }
        }
        Cause::Denied { what, path, place, owner, mode, user, next } => Cause::Denied {
            what,
            path: path.clone(),
            place: place.clone(),
            owner: owner.clone(),
            mode: *mode,
            user: user.clone(),
            next: next.clone(),
        },
        Cause::Io { what, path, source, next } => Cause::Io {
            what,
            path: path.clone(),
            source: source.raw_os_error().map_or_else(
                || std::io::Error::new(source.kind(), source.to_string()),
                std::io::Error::from_raw_os_error,
            ),
            next,
        },
        // No look at a target finds another.
        other => Cause::Bug(format!("a look at the target of the plan found: {other}")),
    }
}

/// What the next start sees at the plan's places, under its locks: for tests.
///
/// # Errors
///
/// As [`open`](crate::open), but for contradictions.
#[cfg(feature = "__faults")]
pub fn observe(plan: &Plan) -> Result<Observation, Error> {
    let places = Places::new(plan, Access::Locked).map_err(Error::Refused)?;
    Ok(places.observe().map_err(Error::Refused)?.observation)
}

/// Locks the folder that a source's store is in, where there is one: at its path, or retired.
fn lock_folder(site: &Site) -> Result<Option<FileLock>, Cause> {
    let Some(folder) = site.store()? else { return Ok(None) };
    let lock = FileLock::take(folder)?;
    if lock.is_at(folder)? {
        Ok(Some(lock))
    } else {
        Err(Cause::ChangedUnderneath(folder.to_owned()))
    }
}

/// Refuses two names of one directory, and places inside each other.
fn check_overlap(sites: &[Site], target: &Target) -> Result<(), Cause> {
    use std::os::unix::fs::MetadataExt;
    let overlap = |first: &Site, second: String, path: &Path| {
        Err(Cause::Overlap {
            first: format!("source '{}'", first.name),
            second,
            path: path.to_owned(),
        })
    };
    let inode = |path: &Path| -> Result<Option<(u64, u64)>, Cause> {
        Ok(disk::metadata(path)?.filter(std::fs::Metadata::is_dir).map(|m| (m.dev(), m.ino())))
    };
    // SQLite's files and ours beside the target are part of it.
    let files = ["", CLAIM_SUFFIX, "-journal", "-wal", "-shm"]
        .map(|suffix| disk::with_suffix(&target.path, suffix));
    for (at, site) in sites.iter().enumerate() {
        for place in [&site.path, &site.retired] {
            if files.iter().any(|file| file.starts_with(place)) {
                return overlap(site, "the target".to_owned(), &target.path);
            }
            for other in sites.iter().skip(at + 1) {
                for others in [&other.path, &other.retired] {
                    let same = inode(place)?.is_some() && inode(place)? == inode(others)?;
                    if same || place.starts_with(others) || others.starts_with(place) {
                        return overlap(site, format!("source '{}'", other.name), others);
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{MigrationId, Run, Was};

    fn marker(stage: Stage, time: &str) -> Standing {
        let run = Run { id: MigrationId(7), attempt: 1 };
        let (was, time) = (Was::Directory, time.to_owned());
        let marker =
            Marker::new(stage, "p", run, "s", was, Vec::new(), "/t", time, None, true, None);
        Standing::Marker(Box::new(marker))
    }

    fn seen(standing: Vec<[Standing; 2]>, claim: ClaimSeen, target: TargetLook) -> Seen {
        let looks = standing.into_iter();
        Seen {
            observation: Observation {
                sources: Vec::new(),
                target: TargetSeen::None,
                claim,
                elsewhere: Vec::new(),
            },
            looks: looks
                .map(|[path, retired]| Look { path, retired, freed: false, temporary: false })
                .collect(),
            target,
            claim_detail: None,
            elsewhere: Vec::new(),
            changed: OnceCell::new(),
        }
    }

    fn record(live: Option<&str>) -> TargetLook {
        let run = Run { id: MigrationId(7), attempt: 1 };
        let (mode, time) = ("delete".to_owned(), "2026".to_owned());
        let mut record = Record::new("p", run, Vec::new(), Vec::new(), Vec::new(), mode, time);
        record.times.live = live.map(str::to_owned);
        TargetLook::Record(Box::new(record))
    }

    #[test]
    fn a_migration_has_begun_where_anything_of_it_is_to_be_seen() {
        let begun = |path, retired, claim, target| {
            let at = vec![[Standing::Nothing, Standing::Nothing], [path, retired]];
            seen(at, claim, target).has_begun()
        };
        let (nothing, foreign) = (|| Standing::Nothing, || Standing::Foreign(String::new()));
        let (held, native) = (SecondLock::Held, SecondLock::Native);
        let (unclaimed, none) = (ClaimSeen::None, || TargetLook::None);
        assert!(!begun(nothing(), nothing(), unclaimed, none()));
        assert!(!begun(foreign(), foreign(), unclaimed, TargetLook::NoRecord));
        assert!(!begun(Standing::Directory(native), nothing(), unclaimed, none()));
        assert!(begun(marker(Stage::Sealed, ""), nothing(), unclaimed, none()));
        assert!(begun(nothing(), Standing::Directory(held), unclaimed, none()));
        assert!(begun(nothing(), nothing(), ClaimSeen::Id(MigrationId(7)), none()));
        assert!(begun(nothing(), nothing(), unclaimed, record(None)));
    }

    #[test]
    fn since_when_the_target_is_live_its_record_says_and_else_the_first_final_marker() {
        let markers = || {
            [(Stage::Sealed, "1"), (Stage::Final, "3"), (Stage::Final, "2")]
                .map(|(stage, time)| [marker(stage, time), Standing::Nothing])
                .to_vec()
        };
        let live = |standing, target| {
            seen(standing, ClaimSeen::None, target).live_since().map(str::to_owned)
        };
        assert_eq!(live(markers(), TargetLook::None).as_deref(), Some("2"));
        assert_eq!(live(markers(), record(Some("4"))).as_deref(), Some("4"));
        assert_eq!(live(markers(), record(None)), None);
        assert_eq!(live(Vec::new(), TargetLook::None), None);
        assert!(!seen(markers(), ClaimSeen::None, TargetLook::None).is_restoring());
        let restoring = vec![[marker(Stage::Restoring, "1"), Standing::Nothing]];
        assert!(seen(restoring, ClaimSeen::None, TargetLook::None).is_restoring());
    }

    #[test]
    fn a_folder_that_was_moved_is_known_by_its_markers_and_its_claim() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let plan = plan_of(&root, &["s"]);
        let places = Places::new(&plan, Access::LookOnly).unwrap();
        let moved = |source: &str, id: u128| {
            let named = ["other", "s"].map(|name| SourceNamed {
                name: name.to_owned(),
                path: if name == "s" { source.to_owned() } else { "/other".to_owned() },
            });
            let Standing::Marker(marker) = marker(Stage::Sealed, "1") else { panic!() };
            let marker = Marker { sources: named.to_vec(), ..*marker };
            let at = vec![[Standing::Marker(Box::new(marker)), Standing::Nothing]];
            places.moved(&seen(at, ClaimSeen::Id(MigrationId(id)), TargetLook::None))
        };
        let path = root.join("s").display().to_string();
        assert!(moved("/before/s", 7).unwrap().contains(" was written at /before/s,"));
        assert_eq!(moved("/before/s", 8), None);
        assert_eq!(moved(&path, 7), None);
        assert_eq!(moved(&path, 8), None);
        assert!(places.is_target(&root.join("t")));
        std::os::unix::fs::symlink(&root, root.join("link")).unwrap();
        assert!(places.is_target(&root.join("link/t")));
        assert!(!places.is_target(&root.join("u")));
    }

    fn plan_of(root: &Path, sources: &[&str]) -> Plan {
        use crate::plan::SourceBuilder;
        let plan = Plan::builder("p").target(root.join("t"));
        let add = |plan: crate::PlanBuilder, name: &&str| {
            plan.source(*name, root.join(name), SourceBuilder::every_keyspace)
        };
        sources.iter().fold(plan, add).build().unwrap()
    }

    #[test]
    fn i1_every_target_that_a_marker_names_elsewhere_is_looked_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let plan = plan_of(&root, &["a", "b", "c"]);
        let hints = crate::protocol::marker::Hints { go_on: "on".into(), go_back: "back".into() };
        for (source, target) in [("a", "u"), ("b", "v"), ("c", "v")] {
            let Standing::Marker(marker) = marker(Stage::Sealed, "1") else { panic!() };
            let sources = ["a", "b", "c"].map(|name| SourceNamed {
                name: name.to_owned(),
                path: root.join(name).display().to_string(),
            });
            let marker = Marker {
                source: source.to_owned(),
                was: Was::Nothing,
                sources: sources.to_vec(),
                target: root.join(target).display().to_string(),
                ..*marker
            };
            std::fs::write(root.join(source), marker.encode(&hints).unwrap()).unwrap();
        }
        let seen = Places::new(&plan, Access::LookOnly).unwrap().observe().unwrap();
        let elsewhere: Vec<&Path> = seen.elsewhere.iter().map(|(path, _)| path.as_path()).collect();
        assert_eq!(elsewhere, [root.join("u"), root.join("v")]);
    }

    #[test]
    fn i1_a_claim_that_another_has_locked_is_gone_on_beside_by_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let plan = plan_of(&root, &["s"]);
        let claim = disk::with_suffix(&root.join("t"), CLAIM_SUFFIX);
        std::fs::write(&claim, "").unwrap();
        let held = FileLock::take(&claim).unwrap();
        for has_store in [false, true] {
            if has_store {
                std::fs::create_dir(root.join("s")).unwrap();
            }
            let refused = Places::new(&plan, Access::Locked).unwrap_err();
            assert!(matches!(&refused, Cause::Locked { path, .. } if *path == claim), "{refused}");
        }
        drop(held);
        Places::new(&plan, Access::Locked).unwrap();
    }

    #[test]
    fn a_source_inside_another_is_refused_in_either_order() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        let site = |name: &str| Site::new(name, &folder.path().join(name)).unwrap();
        let target = |name: &str| Target::new(&folder.path().join(name)).unwrap();
        let overlap = |names: [&str; 2], at: &str| check_overlap(&names.map(site), &target(at));
        overlap(["a", "b"], "t").unwrap();
        overlap(["a", "a/b"], "t").unwrap_err();
        overlap(["a/b", "a"], "t").unwrap_err();
        overlap(["a", "b"], "a/t").unwrap_err();
    }
}
