//! A source's place on disk: its path, the retired name beside it, and what stands at both.

use super::preflight::is_taken;
use crate::disk;
use crate::disk::owner::Owner;
use crate::error::Cause;
use crate::protocol::marker::{MARKER_BYTES_MAX, Marker, RETIRED_SUFFIX};
use crate::protocol::{MigrationId, SecondLock, Stage};
use crate::source::{inventory, second_lock};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A source's two names.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) name: String,
    /// Absolute, links resolved.
    pub(crate) path: PathBuf,
    pub(crate) retired: PathBuf,
}

/// What stands at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Nothing,
    Directory(SecondLock),
    Marker(Box<Marker>),
    /// A marker of ours, and why it can't be read.
    Damaged(String),
    /// Something else, and what.
    Foreign(String),
}

/// What stands at a source's two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) path: Standing,
    pub(crate) retired: Standing,
    /// Whether the folder at the retired name is what a reclaim has left of it: it holds nothing of the
    /// store's own any more.
    pub(crate) freed: bool,
    pub(crate) temporary: bool,
}

impl Site {
    /// The place of the source `name` at `path`, which need not exist. Its folder must.
    pub(crate) fn new(name: &str, path: &Path) -> Result<Self, Cause> {
        let path = disk::resolve(path)?;
        if path.parent().is_none() {
            return Err(Cause::MountPoint { name: name.to_owned(), path });
        }
        let retired = disk::with_suffix(&path, RETIRED_SUFFIX);
        Ok(Self { name: name.to_owned(), path, retired })
    }

    /// Refuses a store that another migration has retired: its marker stands at the name without the
    /// ending.
    pub(crate) fn check_not_retired(&self) -> Result<(), Cause> {
        let whole = self.path.as_os_str().as_encoded_bytes();
        let Some(before) = whole.strip_suffix(RETIRED_SUFFIX.as_bytes()) else { return Ok(()) };
        let marker = PathBuf::from(OsStr::from_bytes(before));
        match Standing::at(&marker)? {
            Standing::Marker(_) | Standing::Damaged(_) => Err(Cause::NotAStore {
                name: self.name.clone(),
                path: self.path.clone(),
                reason: format!(
                    "it is the retired store of the migration whose marker stands at {}; read that marker",
                    marker.display()
                ),
            }),
            Standing::Nothing | Standing::Directory(_) | Standing::Foreign(_) => Ok(()),
        }
    }

    /// The folder that holds both names.
    pub(crate) fn folder(&self) -> &Path {
        disk::parent(&self.path)
    }

    /// The folder of its store, at its path or retired, where there is one.
    pub(crate) fn store(&self) -> Result<Option<&Path>, Cause> {
        Ok(self.found_store()?.map(|(store, _)| store))
    }

    fn found_store(&self) -> Result<Option<(&Path, Metadata)>, Cause> {
        for place in [&self.path, &self.retired] {
            if let Some(found) = disk::metadata(place)?.filter(Metadata::is_dir) {
                return Ok(Some((place, found)));
            }
        }
        Ok(None)
    }

    /// Looks at both names. `known` are the migrations whose temporary files may be left over.
    pub(crate) fn look(&self, known: &[MigrationId]) -> Result<Look, Cause> {
        let path = Standing::at(&self.path)?;
        let retired = Standing::at(&self.retired)?;
        let temporary = !self.left_over(known, [&path, &retired])?.is_empty();
        let is_reclaimed = path.marker().is_some_and(|marker| marker.stage == Stage::Reclaimed);
        let freed = is_reclaimed
            && matches!(retired, Standing::Directory(_))
            // What can't be looked through may still be the store.
            && inventory::is_freed(&self.retired).unwrap_or(false);
        Ok(Look { path, retired, freed, temporary })
    }

    /// Whose a marker is that stands, or is going to stand, at the path: the store's owner's. Where there
    /// is no store, it takes that of the marker there, as far as this user can give it, or of the folder.
    pub(crate) fn owner(&self) -> Result<Option<Owner>, Cause> {
        if let Some((store, found)) = self.found_store()? {
            return Ok(Some(Owner::of_folder(store, &found)));
        }
        let marker = disk::metadata(&self.path)?.filter(Metadata::is_file);
        match marker.and_then(|found| Owner::of_file(&self.path, &found).if_given()) {
            Some(owner) => Ok(Some(owner)),
            None => Owner::beside(self.folder()),
        }
    }

    /// Whose a file is that holds what the store holds; none where there is no store.
    pub(crate) fn store_owner(&self) -> Result<Option<Owner>, Cause> {
        let found = self.found_store()?;
        found.map(|(store, found)| Owner::of_store(store, &found)).transpose()
    }

    /// Where a marker of migration `id` is written before it gets its name.
    pub(super) fn temporary(&self, id: MigrationId) -> PathBuf {
        disk::with_suffix(&self.path, &format!(".cutover-{id}"))
    }

    /// The two names that the exchange is tried with.
    pub(super) fn probes(&self) -> [PathBuf; 2] {
        ["", "-2"].map(|end| disk::with_suffix(&self.path, &format!(".cutover-probe{end}")))
    }

    /// The folder that a store is asked to take the place of, and can't.
    pub(super) fn taken(&self) -> PathBuf {
        disk::with_suffix(&self.path, ".cutover-probe-3")
    }

    /// What sealing, unsealing and trying the exchange may leave beside the source. Somebody else's
    /// file or folder may have such a name: ours are regular files, and those of the exchange empty.
    pub(crate) fn left_over(
        &self,
        known: &[MigrationId],
        standing: [&Standing; 2],
    ) -> Result<Vec<PathBuf>, Cause> {
        let of_markers = standing.into_iter().filter_map(|at| at.marker().map(|marker| marker.id));
        let ids: BTreeSet<MigrationId> = known.iter().copied().chain(of_markers).collect();
        let markers = ids.into_iter().map(|id| (self.temporary(id), false));
        let probes = self.probes().map(|probe| (probe, true));
        let mut found = Vec::new();
        for (path, empty) in markers.chain(probes) {
            let metadata = disk::metadata(&path)?;
            if metadata.is_some_and(|m| m.is_file() && (m.len() == 0 || !empty)) {
                found.push(path);
            }
        }
        let taken = self.taken();
        if is_taken(&taken)? {
            found.push(taken);
        }
        Ok(found)
    }
}

impl Look {
    /// Whether nothing stands at either name.
    pub(crate) fn is_empty(&self) -> bool {
        self.path == Standing::Nothing && self.retired == Standing::Nothing
    }
}

impl Standing {
    pub(crate) fn at(path: &Path) -> Result<Self, Cause> {
        let Some(metadata) = disk::metadata(path)? else {
            return Ok(Self::Nothing);
        };
        if metadata.is_dir() {
            return Ok(Self::Directory(second_lock::look(path)?));
        }
        if !metadata.is_file() {
            let kind = if metadata.is_symlink() { "a symbolic link" } else { "a device or socket" };
            return Ok(Self::Foreign(format!("it is {kind}")));
        }
        let read = || disk::read_bounded(path, MARKER_BYTES_MAX).map_err(Cause::io("read", path));
        // What a kill left before it had an owner may not be read, and holds nothing.
        let bytes = if metadata.len() == 0 { Vec::new() } else { read()? };
        Ok(match Marker::decode(&bytes) {
            Ok(marker) => Self::Marker(Box::new(marker)),
            Err(error) if Marker::is_ours(&bytes) => Self::Damaged(error.to_string()),
            Err(error) => Self::Foreign(error.to_string()),
        })
    }

    /// The marker, where it is one.
    pub(crate) fn marker(&self) -> Option<&Marker> {
        match self {
            Self::Marker(marker) => Some(marker),
            Self::Nothing | Self::Directory(_) | Self::Damaged(_) | Self::Foreign(_) => None,
        }
    }

    /// Why it could not be read, where it could not.
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            Self::Damaged(reason) | Self::Foreign(reason) => Some(reason),
            Self::Nothing | Self::Directory(_) | Self::Marker(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::marker::{FIRST_LINE, Hints, Inventory, SourceNamed};
    use crate::protocol::{Run, Was};
    use std::collections::BTreeMap;
    use std::fs;

    fn site(folder: &Path) -> Site {
        Site::new("s", &folder.join("s")).unwrap()
    }

    fn marker(stage: Stage, site: &Site) -> Vec<u8> {
        let path = site.path.display().to_string();
        let store = Inventory {
            folders: BTreeMap::new(),
            files: BTreeMap::new(),
            journals: format!("{:032x}", 9),
        };
        let run = Run { id: MigrationId(7), attempt: 1 };
        let sources = vec![SourceNamed { name: "s".into(), path }];
        let time = "2026-01-01T00:00:00Z".into();
        let version = Some(b"FJL\x03".to_vec());
        let (was, store) = (Was::Directory, Some(store));
        let marker = Marker::new(
            stage,
            "p",
            run,
            "s",
            was,
            sources,
            "/t.sqlite",
            time,
            version,
            true,
            store,
        );
        marker.encode(&Hints { go_on: "go on".into(), go_back: "go back".into() }).unwrap()
    }

    #[test]
    fn what_stands_at_a_name_is_ours_by_its_first_line_and_else_somebody_else_s() {
        let folder = tempfile::tempdir().unwrap();
        let site = site(folder.path());
        assert!(site.look(&[]).unwrap().is_empty());
        let whole = marker(Stage::Sealed, &site);
        fs::write(&site.path, &whole).unwrap();
        let standing = Standing::at(&site.path).unwrap();
        assert_eq!(standing.marker().unwrap().id, MigrationId(7));
        assert_eq!(standing.detail(), None);
        assert!(!site.look(&[]).unwrap().is_empty());
        fs::write(&site.path, &whole[..FIRST_LINE.len() + 9]).unwrap();
        let Standing::Damaged(reason) = Standing::at(&site.path).unwrap() else { panic!() };
        assert_eq!(Standing::Damaged(reason.clone()).detail(), Some(reason.as_str()));
        fs::write(&site.path, "somebody else's").unwrap();
        let Standing::Foreign(reason) = Standing::at(&site.path).unwrap() else { panic!() };
        assert_eq!(Standing::Foreign(reason.clone()).detail(), Some(reason.as_str()));
        fs::rename(&site.path, &site.retired).unwrap();
        assert!(!site.look(&[]).unwrap().is_empty());
    }

    #[test]
    fn i8_a_store_is_freed_just_where_its_marker_says_so_and_nothing_of_it_is_left() {
        for (stage, left, freed) in [
            (Stage::Reclaimed, "notes", true),
            (Stage::Reclaimed, "1.jnl", false),
            (Stage::Final, "notes", false),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let site = site(folder.path());
            fs::create_dir(&site.retired).unwrap();
            fs::write(site.retired.join(left), "it").unwrap();
            fs::write(&site.path, marker(stage, &site)).unwrap();
            assert_eq!(site.look(&[]).unwrap().freed, freed, "{stage:?} {left}");
        }
    }

    #[test]
    fn i8_what_may_be_left_beside_a_source_is_a_file_and_that_of_a_trial_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let site = site(folder.path());
        let id = MigrationId(7);
        let left_over = |known: &[MigrationId]| {
            site.left_over(known, [&Standing::Nothing, &Standing::Nothing]).unwrap()
        };
        assert_eq!(site.taken(), folder.path().canonicalize().unwrap().join("s.cutover-probe-3"));
        let [probe, other] = site.probes();
        for path in [&probe, &site.temporary(id)] {
            fs::write(path, "it").unwrap();
        }
        fs::write(&other, "").unwrap();
        fs::create_dir(site.temporary(MigrationId(8))).unwrap();
        assert_eq!(left_over(&[id, MigrationId(8)]), [site.temporary(id), other.clone()]);
        assert_eq!(left_over(&[]), [other]);
    }

    #[test]
    fn a_marker_and_what_holds_the_store_s_rows_belong_to_the_store_s_owner() {
        let folder = tempfile::tempdir().unwrap();
        let site = site(folder.path());
        assert_eq!(site.store_owner().unwrap(), None);
        let of_folder = site.owner().unwrap();
        assert!(of_folder.is_some());
        fs::create_dir(&site.retired).unwrap();
        let found = fs::metadata(&site.retired).unwrap();
        assert_eq!(site.owner().unwrap(), Some(Owner::of_folder(&site.retired, &found)));
        let of_store = Owner::of_store(&site.retired, &found).unwrap();
        assert_eq!(site.store_owner().unwrap(), Some(of_store));
    }
}
