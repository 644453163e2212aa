//! Looking before leaping: everything about a source that would stop a migration is found out
//! before anything is changed.

use super::site::Site;
use crate::disk;
use crate::disk::held::{Held, remove_empty};
use crate::error::Cause;
use crate::protocol::MigrationId;
use crate::source::inventory::{self, Tree};
use crate::source::{Store, second_lock};
use std::fs;
use std::path::Path;

/// Checks a store that stands open at its path, and makes all of it durable. Nothing is changed. As
/// long as what it returns is open, it has fjall's own lock.
pub(crate) fn preflight(site: &Site) -> Result<Store, Cause> {
    // Another cutover that has begun since the look may have put a marker there.
    if !disk::metadata(&site.path)?.is_some_and(|found| found.is_dir()) {
        return Err(Cause::ChangedUnderneath(site.path.clone()));
    }
    if disk::is_mount_root(&site.path)? {
        return Err(Cause::MountPoint { name: site.name.clone(), path: site.path.clone() });
    }
    second_lock::check_native(&site.name, &site.path)?;
    // Opening would follow a link, and no file beyond one is synced, locked or sealed.
    let before = inventory::tree(&site.path)?;
    check_in_one_place(site, &before)?;
    let versions = before.versions.clone();
    let mut store = Store::open(&site.name, &site.path, before)?;
    // What a killed daemon left in the page cache is read by the copy; it must not be taken back. What
    // is found meanwhile is what the seal will say was there: opening changes files.
    store.sync()?;
    let is_newer =
        |(id, version): (&String, &u64)| versions.get(id).is_none_or(|old| old < version);
    if store.tree().versions.iter().any(is_newer) {
        // Its journal clears a keyspace: the tables that this leaves over go at the next opening, and
        // must not be taken for a part of what is sealed.
        let tree = store.tree().clone();
        drop(store);
        store = Store::open(&site.name, &site.path, tree)?;
        store.sync()?;
    }
    check_in_one_place(site, store.tree())?;
    Ok(store)
}

fn check_in_one_place(site: &Site, tree: &Tree) -> Result<(), Cause> {
    let scattered = tree.scattered.as_ref().map(|(entry, what)| Cause::Scattered {
        name: site.name.clone(),
        path: site.path.join(entry),
        what,
    });
    scattered.map_or(Ok(()), Err)
}

/// Tries what sealing, marking and setting the second lock will need beside a source and inside its
/// store, which stands at `store` where there is one. Nothing that lasts is changed. Two files of our
/// own are held: as many as will stand there at once.
pub(crate) fn try_place(site: &Site, store: Option<&Path>) -> Result<Held, Cause> {
    // The longest name that is ever put beside the source: one that is too long is found out now,
    // because every later look asks for it.
    disk::metadata(&site.temporary(MigrationId(0)))?;
    disk::check_changeable(site.folder())?;
    if let Some(store) = store {
        disk::check_changeable(store)?;
        disk::check_may_rename(site.folder(), store)?;
        second_lock::try_replace(store)?;
    }
    let [a, b] = site.probes();
    for probe in [&a, &b] {
        remove_empty(probe)?;
    }
    let mut held = Held::default();
    let tried = held
        .hold(a.clone())
        .and_then(|()| held.hold(b.clone()))
        .and_then(|()| disk::exchange(&a, &b))
        .and_then(|()| store.map_or(Ok(()), |store| try_move(site, store)));
    match tried {
        Ok(()) => Ok(held),
        // They were there just now: another that begins beside a missing source has tidied them up.
        Err(Cause::Io { source, path, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Err(Cause::ChangedUnderneath(path))
        }
        // Both are removed: what fails for one may work for the other, and nothing may stay.
        Err(cause) => Err(exchange_refused(cause, site.folder())),
    }
}

/// On an overlay, a folder that is in a lower layer can't be given another name, though files can. It
/// is asked to take the place of a folder that is not empty: that fails too, but later.
fn try_move(site: &Site, store: &Path) -> Result<(), Cause> {
    use rustix::io::Errno;
    if !disk::is_overlay(store)? {
        return Ok(());
    }
    let taken = site.taken();
    remove_taken(&taken)?;
    let owner = site.owner()?;
    let made = disk::create_folder(&taken, owner.as_ref())
        .and_then(|()| disk::make_empty(&taken.join(INSIDE)));
    let moved = made.and_then(|()| disk::rename_over(store, &taken));
    let cleaned = remove_taken(&taken);
    match moved {
        Err(Cause::Io { source, .. })
            if [Errno::NOTEMPTY, Errno::EXIST]
                .iter()
                .any(|e| source.raw_os_error() == Some(e.raw_os_error())) =>
        {
            cleaned
        }
        Err(cause) => Err(cause),
        Ok(()) => Err(Cause::ChangedUnderneath(taken)),
    }
}

/// What is in the folder whose place a store can't take.
const INSIDE: &str = "taken";

/// Whether a folder at `taken` is one that a move was tried with: nothing else is in it.
pub(super) fn is_taken(taken: &Path) -> Result<bool, Cause> {
    if !disk::metadata(taken)?.is_some_and(|metadata| metadata.is_dir()) {
        return Ok(false);
    }
    for entry in fs::read_dir(taken).map_err(Cause::io("list", taken))? {
        let entry = entry.map_err(Cause::io("list", taken))?;
        let metadata = entry.metadata().map_err(Cause::io("look at", &entry.path()))?;
        if entry.file_name() != INSIDE || !metadata.is_file() || metadata.len() > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the folder that a move was tried with, if there is one.
pub(super) fn remove_taken(taken: &Path) -> Result<(), Cause> {
    if !is_taken(taken)? {
        return Ok(());
    }
    disk::remove_file(&taken.join(INSIDE))?;
    disk::remove_folder(taken)
}

/// Names the file system where it is the reason.
pub(crate) fn exchange_refused(cause: Cause, folder: &Path) -> Cause {
    use rustix::io::Errno;
    let cannot = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::XDEV];
    match cause {
        Cause::Io { source, .. }
            if cannot.iter().any(|e| source.raw_os_error() == Some(e.raw_os_error())) =>
        {
            Cause::NoExchange {
                path: folder.to_owned(),
                filesystem: disk::filesystem_kind(folder),
                source,
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn the_places_beside_a_source_are_held_until_the_trial_is_over() {
        let root = tempfile::tempdir().unwrap();
        let site = Site::new("s", &root.path().join("s")).unwrap();
        fs::create_dir(&site.path).unwrap();
        let held = try_place(&site, Some(&site.path)).unwrap();
        assert!(site.probes().iter().all(|probe| probe.is_file()));
        held.remove().unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[test]
    fn i8_the_folder_of_a_trial_is_known_by_all_that_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let place = root.join("place");
        let as_found = |files: &[(&str, &str)]| {
            fs::create_dir(&place).unwrap();
            for (name, content) in files {
                fs::write(place.join(name), content).unwrap();
            }
            let is = is_taken(&place).unwrap();
            remove_taken(&place).unwrap();
            assert_eq!(place.exists(), !is, "{files:?}");
            if !is {
                fs::remove_dir_all(&place).unwrap();
            }
            is
        };
        assert!(as_found(&[]));
        assert!(as_found(&[(INSIDE, "")]));
        assert!(!as_found(&[(INSIDE, "it")]));
        assert!(!as_found(&[("other", "")]));
        assert!(!as_found(&[(INSIDE, ""), ("other", "")]));
        fs::create_dir_all(place.join(INSIDE)).unwrap();
        assert!(!is_taken(&place).unwrap(), "a folder is inside");
        fs::remove_dir_all(&place).unwrap();
        assert!(!is_taken(&place).unwrap());
        remove_taken(&place).unwrap();
        fs::write(&place, "").unwrap();
        assert!(!is_taken(&place).unwrap());
        remove_taken(&place).unwrap();
        assert!(place.exists());
    }

    /// It was said that a part of the path is a file.
    #[test]
    fn a_marker_that_came_since_the_look_is_a_change_and_no_store_with_a_wrong_path() {
        let root = tempfile::tempdir().unwrap();
        let site = Site::new("s", &root.path().join("s")).unwrap();
        for is_there in [false, true] {
            if is_there {
                fs::write(&site.path, "a marker").unwrap();
            }
            let refused = preflight(&site).unwrap_err();
            assert!(
                matches!(&refused, Cause::ChangedUnderneath(path) if *path == site.path),
                "{refused}"
            );
        }
    }

    #[test]
    fn the_file_system_is_named_where_it_knows_no_exchange_and_nowhere_else() {
        let folder = Path::new("/proc");
        let refused =
            |errno| exchange_refused(Cause::io_rustix("rename to", folder)(errno), folder);
        for errno in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::XDEV] {
            let Cause::NoExchange { path, filesystem, source } = refused(errno) else { panic!() };
            assert_eq!((path.as_path(), filesystem.as_str()), (folder, "proc"));
            assert_eq!(source.raw_os_error(), Some(errno.raw_os_error()));
        }
        for errno in [Errno::NOSPC, Errno::IO, Errno::ACCESS] {
            assert!(!matches!(refused(errno), Cause::NoExchange { .. }), "{errno}");
        }
    }
}
