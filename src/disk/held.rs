//! Places that are tried before anything is changed: empty files of cutover's own hold them meanwhile.

use crate::disk;
use crate::error::Cause;
use std::path::{Path, PathBuf};

/// Empty files of our own that hold the places of what a migration is going to make, until this is
/// dropped. What somebody else has put in the place of one stays (I-8).
#[derive(Debug, Default)]
pub(crate) struct Held {
    files: Vec<PathBuf>,
}

impl Held {
    /// Makes an empty file. What a kill left of one is made anew; what is not empty is somebody
    /// else's.
    pub(crate) fn hold(&mut self, path: PathBuf) -> Result<(), Cause> {
        remove_empty(&path)?;
        disk::make_empty(&path)?;
        self.files.push(path);
        Ok(())
    }

    /// Removes one of them.
    pub(crate) fn let_go(&mut self, path: &Path) -> Result<(), Cause> {
        remove_empty(path)?;
        self.files.retain(|file| file != path);
        Ok(())
    }

    /// Takes over what another holds.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.files.append(&mut other.files);
    }

    /// Removes all of them. What `Drop` does, and this reports where it fails.
    pub(crate) fn remove(mut self) -> Result<(), Cause> {
        let mut removed = Ok(());
        for file in self.files.drain(..) {
            removed = remove_empty(&file).and(removed);
        }
        removed
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for file in &self.files {
            if let Err(cause) = remove_empty(file) {
                tracing::warn!(%cause, "a file that a place was tried with is not removed");
            }
        }
    }
}

/// Removes an empty file at `path`, if there is one; anything else that stands there is refused.
pub(crate) fn remove_empty(path: &Path) -> Result<(), Cause> {
    match disk::metadata(path)? {
        Some(metadata) if !metadata.is_file() || metadata.len() > 0 => {
            Err(Cause::ChangedUnderneath(path.to_owned()))
        }
        Some(_) => disk::remove_file(path),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn i8_what_holds_a_place_goes_and_what_somebody_puts_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().canonicalize().unwrap().join(name);
        // What a kill left of one is taken over; what is not empty, or no file, is somebody else's.
        fs::write(at("a"), "").unwrap();
        fs::write(at("theirs"), "it").unwrap();
        fs::create_dir(at("folder")).unwrap();
        let mut held = Held::default();
        for name in ["a", "b"] {
            held.hold(at(name)).unwrap();
            assert!(at(name).is_file());
        }
        for name in ["theirs", "folder"] {
            held.hold(at(name)).unwrap_err();
            remove_empty(&at(name)).unwrap_err();
            assert!(at(name).exists());
        }
        held.let_go(&at("a")).unwrap();
        assert!(!at("a").exists() && at("b").exists());
        // It is held no longer: what comes there is nobody's business.
        fs::write(at("a"), "").unwrap();
        let mut other = Held::default();
        other.hold(at("c")).unwrap();
        held.join(other);
        assert!(at("c").exists(), "it is held by this one now");
        drop(held);
        assert!(at("a").exists() && !at("b").exists() && !at("c").exists());
        let mut held = Held::default();
        for name in ["b", "c", "d"] {
            held.hold(at(name)).unwrap();
        }
        fs::write(at("b"), "theirs").unwrap();
        let Err(Cause::ChangedUnderneath(path)) = held.remove() else { panic!() };
        assert_eq!(path, at("b"));
        assert!(!at("c").exists() && !at("d").exists());
        assert_eq!(fs::read(at("b")).unwrap(), b"theirs");
        Held::default().remove().unwrap();
    }
}
