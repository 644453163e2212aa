//! Locks: `flock` on an open file or folder, which goes when its holder does.

use crate::error::Cause;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A child that another thread has just forked holds a copy of every lock, also of one that was let
/// go, until it runs its own program. So a lock is tried for 200 ms, as long as fjall tries its own.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// An exclusive `flock`. On a store's own folder it follows the exchange, and does not collide with
/// fjall's, which is on the file `lock` inside.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Locks what stands at `path`; none where another holds it.
    pub(crate) fn try_new(path: &Path) -> Result<Option<Self>, Cause> {
        let file = File::open(path).map_err(Cause::io("open", path))?;
        Self::try_on(file, path)
    }

    /// Locks an open file; none where another holds it.
    pub(crate) fn try_on(file: File, path: &Path) -> Result<Option<Self>, Cause> {
        for _ in 0..TRIES {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { file, path: path.to_owned() })),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(BETWEEN_TRIES),
                Err(errno) => return Err(Cause::io_rustix("lock", path)(errno)),
            }
        }
        Ok(None)
    }

    /// Whether what is locked is what stands at `path` now.
    pub(crate) fn is_at(&self, path: &Path) -> Result<bool, Cause> {
        let held = self.file.metadata().map_err(Cause::io("look at", &self.path))?;
        Ok(crate::disk::metadata(path)?
            .is_some_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino())))
    }
}

/// Who holds a `flock` on what stands at `path`, in words, so far as the kernel tells.
pub(crate) fn holder_of(path: &Path) -> String {
    let unknown = || "another process".to_owned();
    let Ok(metadata) = fs::metadata(path) else { return unknown() };
    let device = metadata.dev();
    let inode = format!(
        "{:02x}:{:02x}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device),
        metadata.ino()
    );
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let holder = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        // A waiter's line has `->` in its second field, and so is one longer.
        match fields.as_slice() {
            [_, "FLOCK", _, _, holder, at, ..] if *at == inode => Some((*holder).to_owned()),
            _ => None,
        }
    });
    let Some(holder) = holder else { return unknown() };
    if holder == std::process::id().to_string() {
        return format!("this process itself ({holder})");
    }
    let name = fs::read_to_string(format!("/proc/{holder}/comm")).unwrap_or_default();
    format!("process {holder} ({})", name.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_let_go_in_a_moment_is_waited_for_and_one_that_stays_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let held = FileLock::try_new(folder.path()).unwrap().unwrap();
        assert!(FileLock::try_new(folder.path()).unwrap().is_none());
        let soon = std::thread::spawn(move || {
            std::thread::sleep(BETWEEN_TRIES * 3);
            drop(held);
        });
        assert!(FileLock::try_new(folder.path()).unwrap().is_some());
        soon.join().unwrap();
    }
}
