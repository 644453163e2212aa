//! Locks: `flock` on an open file or folder, which goes when its holder does.

use crate::error::Cause;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A lock that is only ever held for a few file operations is waited for in steps of this.
const WAIT: Duration = Duration::from_millis(20);

/// This many of them are far longer than the few operations take.
const WAITS_MAX: usize = 500;

/// The kernel gives `/proc/locks` out in parts, and a lock that ends in between hides another one: a holder
/// is looked for this often.
const LOOKS: usize = 8;

/// An exclusive `flock`. On a store's own folder it follows the exchange, and does not collide with
/// fjall's, which is on the file `lock` inside.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Locks what stands at `path`, or says who holds it.
    pub(crate) fn take(path: &Path) -> Result<Self, Cause> {
        let lock = Self::try_new(path)?;
        lock.ok_or_else(|| Cause::Locked { path: path.to_owned(), holder: holder_of(path) })
    }

    /// Locks what stands at `path`, once nobody else does; or says who does not let go.
    pub(crate) fn wait(path: &Path) -> Result<Self, Cause> {
        for _ in 1..WAITS_MAX {
            if let Some(lock) = Self::try_new(path)? {
                return Ok(lock);
            }
            std::thread::sleep(WAIT);
        }
        Self::take(path)
    }

    /// Locks what stands at `path`; none where another holds it.
    pub(crate) fn try_new(path: &Path) -> Result<Option<Self>, Cause> {
        let file = crate::disk::open(path).map_err(Cause::io("open", path))?;
        Self::try_on(file, path)
    }

    /// Locks an open file; none where another holds it.
    pub(crate) fn try_on(file: File, path: &Path) -> Result<Option<Self>, Cause> {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file, path: path.to_owned() })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(Cause::io_rustix("lock", path)(errno)),
        }
    }

    /// What is locked: a store's own folder, or a file.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// Whether what is locked is what stands at `path` now.
    pub(crate) fn is_at(&self, path: &Path) -> Result<bool, Cause> {
        let held = self.file.metadata().map_err(Cause::io("look at", &self.path))?;
        Ok(crate::disk::metadata(path)?
            .is_some_and(|found| (found.dev(), found.ino()) == (held.dev(), held.ino())))
    }
}

/// A child that another thread starts has this file open until its `exec`: only unlocking ends the lock
/// now, closing would end it then.
impl Drop for FileLock {
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(path = %self.path.display(), %error, "a lock was not released");
        }
    }
}

/// Who holds a `flock` on what stands at `path`, in words, so far as the kernel says.
pub(crate) fn holder_of(path: &Path) -> String {
    held_by(path).unwrap_or_else(|| "another process".to_owned())
}

/// Who holds a `flock` on what stands at `path`; none where nobody is known to. Takes no lock.
pub(crate) fn held_by(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let device = metadata.dev();
    let inode = format!(
        "{:02x}:{:02x}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device),
        metadata.ino()
    );
    let find = |_| {
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        locks.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            // A waiter's line has `->` in its second field, and so is one longer.
            match fields.as_slice() {
                [_, "FLOCK", _, _, holder, at, ..] if *at == inode => Some((*holder).to_owned()),
                _ => None,
            }
        })
    };
    let holder = (0..LOOKS).find_map(find)?;
    if holder == std::process::id().to_string() {
        return Some(format!("this process itself ({holder})"));
    }
    let name = fs::read_to_string(format!("/proc/{holder}/comm")).unwrap_or_default();
    Some(format!("process {holder} ({})", name.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_one_s_alone_names_its_holder_and_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        let (path, other) = (at("file"), at("other"));
        for file in [&path, &other] {
            fs::write(file, "").unwrap();
        }
        let lock = FileLock::try_new(&path).unwrap().expect("nobody has it");
        assert!(FileLock::try_new(&path).unwrap().is_none());
        let own = format!("this process itself ({})", std::process::id());
        assert_eq!(held_by(&path).as_ref(), Some(&own));
        let Err(Cause::Locked { path: named, holder }) = FileLock::take(&path) else { panic!() };
        assert_eq!((named, holder), (path.clone(), own));
        // The kernel names other locks too.
        assert_eq!(held_by(&other), None);
        assert_eq!(held_by(&at("missing")), None);
        assert_eq!(holder_of(&other), "another process");
        assert!(lock.is_at(&path).unwrap() && !lock.is_at(&other).unwrap());
        assert!(!lock.is_at(&at("missing")).unwrap());
        // A child that is just started has it open as well.
        let child_s = lock.file().try_clone().unwrap();
        drop(lock);
        let again = FileLock::wait(&path).unwrap();
        assert!(again.is_at(&path).unwrap());
        drop((child_s, again));
    }
}
