//! What a person can do about an error of the system, or about one that SQLite or an engine met there.
//! This is the one place that decides it.

use rusqlite::ffi::{self, ErrorCode};
use rustix::fs::{Access, Mode, OFlags, StatVfs, StatVfsMountFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::Path;

const SPACE: &str = "free some space on its file system and run this again";
const INODES: &str = "its file system has no inode left (`df -i` shows them), so move small files \
                      elsewhere and run this again";
const LOOK: &str = "look at the disk and the system's log and run this again";
const SQLITE_IO: &str = "look at the disk, the system's log and the owner's quota there, since the disk may \
                         be failing or the quota used up, and run this again";
const RIGHTS: &str = "run this as the user who owns it, or, if that is so already, look at the modes \
                      and attributes (lsattr) of it and its folder";
const BUSY: &str = "end the program that has it open and run this again";

/// About an error of the system that something at `path` met.
pub(crate) fn of_system(error: &io::Error, path: &Path) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(errno) => of_errno(errno, path),
        None => LOOK,
    }
}

fn of_errno(errno: Errno, path: &Path) -> &'static str {
    match errno {
        Errno::NOSPC if has_no_inode(path) => INODES,
        Errno::NOSPC => SPACE,
        Errno::DQUOT => {
            "free some of the owner's quota there, or have it raised, and run this again"
        }
        Errno::MFILE => "raise this program's limit on open files (`ulimit -n`) and run this again",
        Errno::NFILE => {
            "raise the system's limit on open files (fs.file-max), or end programs that have many \
             open, and run this again"
        }
        Errno::AGAIN => {
            "raise the limit on processes (`ulimit -u`), or end some, and run this again"
        }
        Errno::NAMETOOLONG => {
            "give it a shorter name or path: cutover needs room for names of its own beside it"
        }
        Errno::ACCESS | Errno::PERM => RIGHTS,
        Errno::NOMEM => "give this program more memory and run this again",
        Errno::ROFS => "mount its file system for writing and run this again",
        Errno::NOENT => "check that the path is right and its volume is mounted and run this again",
        Errno::NOTDIR => "correct the path: a part of it is a file, not a folder",
        Errno::ISDIR => "find out what the folder there is, move it elsewhere and run this again",
        Errno::EXIST | Errno::NOTEMPTY => "find out what is there already and run this again",
        Errno::LOOP => {
            "find out who put a symbolic link there, or whether the path's links lead in a circle, and \
             run this again"
        }
        Errno::TXTBSY | Errno::BUSY => {
            "end the program that uses it, or unmount what is mounted there, and run this again"
        }
        Errno::IO => {
            "look at the disk and the system's log, since the disk may be failing, and run this again"
        }
        _ => LOOK,
    }
}

/// About an error that SQLite met with the database at `path`.
pub(crate) fn of_sqlite(error: &rusqlite::Error, path: &Path) -> &'static str {
    error.sqlite_error().map_or(LOOK, |error| of_code(*error, path))
}

/// About an error of SQLite by its code. SQLite hides most errors of the system behind a few codes, so
/// the places that it needs are looked at.
pub(crate) fn of_code(error: ffi::Error, path: &Path) -> &'static str {
    match (error.code, error.extended_code) {
        (ErrorCode::DiskFull, _) => of_errno(Errno::NOSPC, path),
        (ErrorCode::OutOfMemory, _) | (_, ffi::SQLITE_IOERR_NOMEM) => of_errno(Errno::NOMEM, path),
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => BUSY,
        (ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt, _) => {
            "restore it from a backup, or correct the path"
        }
        (_, ffi::SQLITE_IOERR_GETTEMPPATH) => {
            "name a folder for temporary files that can be written (TMPDIR) and run this again"
        }
        (_, ffi::SQLITE_READONLY_DBMOVED) => {
            "its file was moved or replaced while it was open, so put it back and run this again"
        }
        (ErrorCode::SystemIoFailure, _) => {
            stands_in_the_way(path).map_or(SQLITE_IO, |errno| of_errno(errno, path))
        }
        (ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _) => {
            of_errno(stands_in_the_way(path).unwrap_or(Errno::ACCESS), path)
        }
        _ => LOOK,
    }
}

/// About an error of the system that an engine has met with the store at `path`, if it is one that the
/// engine's own files have no part in.
pub(crate) fn within(
    error: &(dyn std::error::Error + 'static),
    path: &Path,
) -> Option<&'static str> {
    let errno = Errno::from_raw_os_error(io_within(error)?.raw_os_error()?);
    let files = [Errno::NOENT, Errno::EXIST, Errno::NOTDIR, Errno::ISDIR];
    (!files.contains(&errno)).then(|| of_errno(errno, path))
}

/// The system's error that an engine has met, if there is one.
pub(crate) fn io_within<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = error.source();
    }
    None
}

/// What keeps SQLite from working with a database at `path`, so far as looking finds out. The file
/// itself is not opened: closing it would drop the locks that this process has on it.
fn stands_in_the_way(path: &Path) -> Option<Errno> {
    let mut longest = path.as_os_str().to_owned();
    longest.push("-journal");
    match rustix::fs::lstat(&longest) {
        Ok(_) | Err(Errno::NOENT) => {}
        Err(errno) => return Some(errno),
    }
    let folder = path.parent().unwrap_or(path);
    if let Err(error) = File::open(folder) {
        return Errno::from_io_error(&error);
    }
    let room = rustix::fs::statvfs(folder).ok()?;
    if room.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Some(Errno::ROFS);
    }
    let rights = rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .and_then(|()| rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK));
    match rights {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Some(errno),
    }
    if room.f_bavail == 0 || is_without_inode(&room) {
        return Some(Errno::NOSPC);
    }
    // A quota can't be looked at from here.
    let quota = try_to_write(folder).is_err_and(|errno| errno == Errno::DQUOT);
    quota.then_some(Errno::DQUOT)
}

/// Writes a block into a file that never gets a name, where the file system of `folder` has such.
fn try_to_write(folder: &Path) -> Result<(), Errno> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::io::write(&file, &[0; 4096]).map(drop)
}

/// Whether the file system of `path`, or of the closest folder above it that exists, has no inode left.
fn has_no_inode(path: &Path) -> bool {
    let room = path.ancestors().find_map(|place| rustix::fs::statvfs(place).ok());
    room.is_some_and(|room| is_without_inode(&room))
}

/// Some file systems make inodes as they need them, and count none.
const fn is_without_inode(room: &StatVfs) -> bool {
    room.f_files > 0 && room.f_favail == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_the_system_that_a_person_can_mend_has_an_advice_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let of = |errno: Errno| of_system(&io::Error::from(errno), folder.path());
        for (errno, words) in [
            (Errno::NOSPC, "free some space"),
            (Errno::DQUOT, "quota"),
            (Errno::MFILE, "`ulimit -n`"),
            (Errno::NFILE, "fs.file-max"),
            (Errno::NAMETOOLONG, "shorter name"),
            (Errno::ACCESS, "the user who owns it"),
            (Errno::PERM, "lsattr"),
            (Errno::ROFS, "for writing"),
            (Errno::NOENT, "mounted"),
            (Errno::IO, "failing"),
            (Errno::NOTDIR, "is a file"),
            (Errno::LOOP, "circle"),
            (Errno::TXTBSY, "end the program"),
            (Errno::BUSY, "unmount"),
            (Errno::NOMEM, "memory"),
            (Errno::AGAIN, "`ulimit -u`"),
        ] {
            assert!(of(errno).contains(words), "{errno:?}: {}", of(errno));
        }
        assert_eq!(of(Errno::BADF), LOOK);
        assert_eq!(of_system(&io::Error::other("no error of the system"), folder.path()), LOOK);
    }

    #[test]
    fn sqlite_s_few_codes_get_the_advice_of_what_stands_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let of = |extended: i32, path: &Path| of_code(ffi::Error::new(extended), path);
        let here = folder.path().join("app.sqlite");
        std::fs::write(&here, "").unwrap();
        assert_eq!(of(ffi::SQLITE_FULL, &here), SPACE);
        assert_eq!(of(ffi::SQLITE_BUSY, &here), BUSY);
        assert!(of(ffi::SQLITE_IOERR_WRITE, &here).contains("failing"));
        assert!(of(ffi::SQLITE_IOERR_NOMEM, &here).contains("memory"));
        assert!(of(ffi::SQLITE_IOERR_GETTEMPPATH, &here).contains("TMPDIR"));
        assert!(of(ffi::SQLITE_READONLY_DBMOVED, &here).contains("replaced"));
        assert_eq!(of(ffi::SQLITE_READONLY, &here), RIGHTS);
        let long = folder.path().join("x".repeat(250));
        assert!(of(ffi::SQLITE_CANTOPEN, &long).contains("shorter name"));
        assert!(of(ffi::SQLITE_CANTOPEN, &here.join("below")).contains("is a file"));
        assert!(of(ffi::SQLITE_CANTOPEN, &folder.path().join("no/where")).contains("mounted"));
    }
}
