//! A database beside the target that is thrown away: what a rehearsal writes into.

use super::connection::engine;
use super::target::Target;
use crate::disk;
use crate::disk::lock::{FileLock, holder_of};
use crate::disk::owner::Owner;
use crate::error::Cause;
use crate::fault;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder's name is the target's, with this added.
pub(super) const FOLDER_SUFFIX: &str = ".cutover-rehearsal";

/// The empty file which says that the folder is a rehearsal's, and may be removed.
const TAG: &str = "thrown-away";

const DATABASE: &str = "database.sqlite";

/// What SQLite puts beside a database, and the database itself.
const DATABASE_SUFFIXES: [&str; 4] = ["-journal", "-wal", "-shm", ""];

/// A folder of our own with a database in it; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Throwaway {
    folder: PathBuf,
    /// On the folder: another rehearsal must not take it for one that was killed.
    _lock: FileLock,
    /// The database, which may not exist yet.
    pub(crate) target: Target,
}

impl Throwaway {
    /// Makes the folder beside `target`, for `owner`, with a copy of all that `target` holds. What a killed
    /// rehearsal left there is removed first, and nothing else is (I-8). When it fails nothing of ours
    /// stays, unless the disk does not let it go.
    pub(crate) fn beside(target: &Target, owner: Option<&Owner>) -> Result<Self, Cause> {
        Self::remove_left_over(target)?;
        let folder = disk::with_suffix(&target.path, FOLDER_SUFFIX);
        // It holds what the stores hold, and is nobody else's to read.
        disk::create_folder(&folder, owner).map_err(|cause| match cause {
            Cause::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                locked(&folder)
            }
            other => other,
        })?;
        let lock = lock(&folder)?.ok_or_else(|| locked(&folder))?;
        let database = Target { path: folder.join(DATABASE) };
        let made = Self { folder, _lock: lock, target: database };
        fault::point("folder created").map_err(Cause::io("create", &made.folder))?;
        drop(disk::create(&made.folder.join(TAG), &[], owner)?);
        // Made here, so that the copy need not make it.
        drop(disk::create(&made.target.path, &[], owner)?);
        if disk::metadata(&target.path)?.is_some_and(|found| found.len() > 0) {
            let failed = engine("copy, for a rehearsal,", &target.path);
            let path = made.target.path.display().to_string();
            target.reader()?.execute("VACUUM INTO ?1", [path]).map_err(failed)?;
            fault::point("target copied").map_err(Cause::io("copy to", &made.folder))?;
        }
        Ok(made)
    }

    /// Removes what a killed rehearsal left beside `target`, if it did.
    pub(crate) fn remove_left_over(target: &Target) -> Result<(), Cause> {
        let folder = disk::with_suffix(&target.path, FOLDER_SUFFIX);
        match disk::metadata(&folder)? {
            None => Ok(()),
            Some(found) if !found.is_dir() => Err(Cause::InTheWay(folder)),
            Some(_) => {
                let lock = match lock(&folder) {
                    // Killed before it belonged to this user, who may not open it: it is empty then.
                    Err(denied @ Cause::Denied { .. }) => {
                        return disk::remove_folder(&folder).map_err(|_| denied);
                    }
                    lock => lock?,
                };
                if lock.is_some() { remove(&folder) } else { Ok(()) }
            }
        }
    }

    /// Does so too where no rehearsal follows; a failure is only reported.
    pub(crate) fn tidy(target: &Target) {
        if let Err(cause) = Self::remove_left_over(target) {
            tracing::warn!(%cause, "what a killed rehearsal may have left is not removed");
        }
    }

    /// Bytes of the database's file.
    pub(crate) fn bytes(&self) -> Result<u64, Cause> {
        Ok(disk::metadata(&self.target.path)?.map_or(0, |found| found.len()))
    }

    /// Removes it. What `Drop` does, and this reports where it fails.
    pub(crate) fn remove(&self) -> Result<(), Cause> {
        remove(&self.folder)
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        if let Err(cause) = self.remove() {
            tracing::warn!(%cause, "what was rehearsed is not thrown away; the next rehearsal does it");
        }
    }
}

fn locked(folder: &Path) -> Cause {
    Cause::Locked { path: folder.to_owned(), holder: holder_of(folder) }
}

/// Locks `folder`; none where it is gone.
fn lock(folder: &Path) -> Result<Option<FileLock>, Cause> {
    match FileLock::take(folder) {
        Err(Cause::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        taken => {
            let lock = taken?;
            // It may have been another, which its maker has removed.
            Ok(lock.is_at(folder)?.then_some(lock))
        }
    }
}

/// Removes what a rehearsal has put into `folder`, and the folder, if there is one. Killed anywhere,
/// it leaves a folder that it knows again.
fn remove(folder: &Path) -> Result<(), Cause> {
    if disk::metadata(folder)?.is_none() {
        return Ok(());
    }
    let database = folder.join(DATABASE);
    let files = DATABASE_SUFFIXES.map(|suffix| disk::with_suffix(&database, suffix));
    let tag = folder.join(TAG);
    let in_the_way = || Cause::InTheWay(folder.to_owned());
    let mut tagged = false;
    let mut others = false;
    for entry in fs::read_dir(folder).map_err(Cause::io("list", folder))? {
        let path = entry.map_err(Cause::io("list", folder))?.path();
        if path == tag {
            tagged = true;
        } else if files.contains(&path) {
            others = true;
        } else {
            return Err(in_the_way());
        }
    }
    // An empty folder is one that was killed before it had its tag, or after that.
    if others && !tagged {
        return Err(in_the_way());
    }
    // The tag is the last to go.
    for file in files.iter().chain([&tag]) {
        disk::remove_file(file)?;
    }
    disk::remove_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    fn target(folder: &Path) -> (Target, PathBuf) {
        let target = Target::new(&folder.join("d.sqlite")).unwrap();
        let beside = disk::with_suffix(&target.path, FOLDER_SUFFIX);
        (target, beside)
    }

    #[test]
    fn a_rehearsal_has_a_copy_of_the_target_for_itself_and_throws_it_away() {
        let folder = tempfile::tempdir().unwrap();
        let (target, beside) = target(folder.path());
        for is_there in [false, true] {
            if is_there {
                fs::write(&target.path, "").unwrap();
            }
            let made = Throwaway::beside(&target, None).unwrap();
            assert_eq!(made.bytes().unwrap(), 0);
            drop(made);
            assert!(!beside.exists());
        }
        let connection = Connection::open(&target.path).unwrap();
        connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        let made = Throwaway::beside(&target, None).unwrap();
        let copied = fs::metadata(&made.target.path).unwrap().len();
        assert_eq!(made.bytes().unwrap(), copied);
        let reader = made.target.reader().unwrap();
        let rows: i64 = reader.query_one("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
        drop(reader);
        let second = Throwaway::beside(&target, None).unwrap_err();
        assert!(matches!(&second, Cause::Locked { path, .. } if *path == beside), "{second}");
        Throwaway::tidy(&target);
        assert!(made.target.path.exists());
        made.remove().unwrap();
        assert!(!beside.exists());
        let missing = Target { path: folder.path().join("missing/d.sqlite") };
        let refused = Throwaway::beside(&missing, None).unwrap_err();
        assert!(!matches!(refused, Cause::Locked { .. }), "{refused}");
    }

    #[test]
    fn i8_what_a_killed_rehearsal_left_is_removed_and_what_somebody_has_put_there_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (target, beside) = target(folder.path());
        Throwaway::remove_left_over(&target).unwrap();
        for (files, is_ours) in [
            (&[][..], true),
            (&[TAG], true),
            (&[TAG, "database.sqlite", "database.sqlite-wal"], true),
            (&["database.sqlite"], false),
            (&[TAG, "notes"], false),
            (&["notes"], false),
        ] {
            fs::create_dir(&beside).unwrap();
            for file in files {
                fs::write(beside.join(file), "it").unwrap();
            }
            let removed = Throwaway::remove_left_over(&target);
            assert_eq!(beside.exists(), !is_ours, "{files:?}");
            if is_ours {
                removed.unwrap();
            } else {
                assert!(matches!(removed, Err(Cause::InTheWay(_))), "{files:?}");
                assert_eq!(fs::read_dir(&beside).unwrap().count(), files.len());
                fs::remove_dir_all(&beside).unwrap();
            }
        }
        fs::create_dir(&beside).unwrap();
        Throwaway::tidy(&target);
        assert!(!beside.exists());
        fs::write(&beside, "it").unwrap();
        let refused = Throwaway::remove_left_over(&target);
        assert!(matches!(refused, Err(Cause::InTheWay(_))));
        assert!(beside.is_file());
    }

    #[test]
    fn of_a_folder_that_is_gone_nothing_has_to_be_locked() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        assert!(lock(&folder.join("gone")).unwrap().is_none());
        fs::write(folder.join("file"), "it").unwrap();
        lock(&folder.join("file/below")).unwrap_err();
        assert!(lock(&folder).unwrap().is_some());
    }
}
