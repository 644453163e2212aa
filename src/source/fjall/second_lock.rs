//! The second lock: fjall's `version` file inside a retired store, replaced by ours, so that the
//! store refuses to open wherever it is moved. Defence in depth; no proof leans on it.

use crate::disk;
use crate::disk::owner::Owner;
use crate::error::Cause;
use crate::protocol::SecondLock;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a store of fjall 3 holds in its `version` file.
pub(crate) const NATIVE: &[u8] = b"FJL\x03";

/// How our replacement begins: fjall reads it and answers `InvalidVersion(None)`.
const HELD: &str =
    "cutover: this store was retired; read the marker at its old path. Original version file: ";

/// In the place of the digits, where a store had no `version` file.
const NONE: &str = "none";

/// Longer than any `version` file.
const VERSION_BYTES_MAX: usize = 4096;

fn path(store: &Path) -> PathBuf {
    store.join("version")
}

fn temporary(store: &Path) -> PathBuf {
    store.join("version.cutover")
}

/// The bytes of a store's `version` file; none where there is no such file. What is not a regular file
/// is not opened: a FIFO would be waited for.
pub(crate) fn read(store: &Path) -> Result<Option<Vec<u8>>, Cause> {
    if !disk::metadata(&path(store))?.is_some_and(|metadata| metadata.is_file()) {
        return Ok(None);
    }
    match disk::read_bounded(&path(store), VERSION_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Cause::io("read", &path(store))(error)),
    }
}

/// Whose it is.
pub(crate) fn look(store: &Path) -> Result<SecondLock, Cause> {
    let held = read(store)?.is_some_and(|bytes| bytes.starts_with(HELD.as_bytes()));
    Ok(if held { SecondLock::Held } else { SecondLock::Native })
}

/// The store's own bytes, whether or not the second lock is set; none where it had no such file.
pub(crate) fn original(store: &Path) -> Result<Option<Vec<u8>>, Cause> {
    Ok(read(store)?.and_then(original_of))
}

fn original_of(found: Vec<u8>) -> Option<Vec<u8>> {
    let Some(kept) = found.strip_prefix(HELD.as_bytes()) else { return Some(found) };
    let kept = std::str::from_utf8(kept).unwrap_or_default().trim_end();
    (kept != NONE).then(|| hex::decode(kept).unwrap_or_else(|_| NATIVE.to_vec()))
}

/// Sets the second lock; durable when it returns.
pub(crate) fn hold(store: &Path) -> Result<(), Cause> {
    match look(store)? {
        SecondLock::Held => Ok(()),
        SecondLock::Native => {
            let found = read(store)?;
            let original = found.as_ref().map_or_else(|| NONE.to_owned(), hex::encode);
            let text = format!("{HELD}{original}\n");
            replace(store, found.as_deref(), text.as_bytes())
        }
    }
}

/// Lifts the second lock; durable when it returns.
pub(crate) fn release(store: &Path) -> Result<(), Cause> {
    let found = read(store)?.filter(|bytes| bytes.starts_with(HELD.as_bytes()));
    let Some(found) = found else { return Ok(()) };
    if let Some(bytes) = original_of(found.clone()) {
        return replace(store, Some(&found), &bytes);
    }
    disk::remove_file(&path(store))?;
    disk::sync_folder(store)
}

/// Tries what setting the second lock will need. Nothing that lasts is changed.
pub(crate) fn try_replace(store: &Path) -> Result<(), Cause> {
    if disk::metadata(&path(store))?.is_some() {
        disk::check_changeable(&path(store))?;
    }
    let temporary = temporary(store);
    disk::remove_file(&temporary)?;
    disk::make_empty(&temporary)?;
    disk::remove_file(&temporary)
}

/// Puts `bytes` in the place of `found`, which must still be there: what anybody wrote there since is
/// kept nowhere else (I-8).
fn replace(store: &Path, found: Option<&[u8]>, bytes: &[u8]) -> Result<(), Cause> {
    let temporary = temporary(store);
    let folder = disk::metadata(store)?;
    let replaced = disk::metadata(&path(store))?;
    let owner = folder.and_then(|folder| {
        // The way back must not need an owner that this user can't give.
        Owner::inside(store, &folder, replaced.as_ref()).if_given()
    });
    disk::remove_file(&temporary)?;
    disk::create(&temporary, bytes, owner.as_ref())?;
    if read(store)?.as_deref() != found {
        disk::remove_file(&temporary)?;
        return Err(Cause::ChangedUnderneath(path(store)));
    }
    disk::rename_over(&temporary, &path(store)).inspect_err(|_| {
        // Beside a file that nobody may change, nothing of ours stays.
        let _ = disk::remove_file(&temporary);
    })?;
    disk::sync_folder(store)
}

/// Whether the store may be opened by fjall 3.
pub(crate) fn check_native(name: &str, store: &Path) -> Result<(), Cause> {
    let refuse = |reason: String| {
        Err(Cause::NotAStore { name: name.to_owned(), path: store.to_owned(), reason })
    };
    if disk::metadata(&path(store))?.is_some_and(|metadata| !metadata.is_file()) {
        return refuse("its version file is not a regular file; correct the path".to_owned());
    }
    match read(store)?.as_deref() {
        Some(NATIVE) => Ok(()),
        Some([b'F', b'J', b'L', older @ 1..3]) => refuse(format!(
            "it has fjall's older format {older}; bring it to format 3 with fjall's own tool first"
        )),
        Some([b'F', b'J', b'L', newer]) => refuse(format!(
            "it has fjall's format {newer}, which is newer than this cutover; use a newer one"
        )),
        Some([]) => refuse(
            "its version file is empty, as after a crash while it was created; restore it from a backup, or open it once with the program that it belongs to".to_owned(),
        ),
        Some(_) => refuse("its version file is not fjall's; correct the path".to_owned()),
        None => {
            let empty = fs::read_dir(store)
                .map_err(Cause::io("list", store))?
                .next()
                .is_none();
            refuse(if empty {
                "it is an empty folder; correct the path, or mount the volume that belongs there".to_owned()
            } else {
                "it has no version file; correct the path, or, if it is a store whose creation was interrupted, open it once with the program that it belongs to".to_owned()
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_is_tried_where_it_will_be_made_and_nothing_of_the_trial_stays() {
        let folder = tempfile::tempdir().unwrap();
        try_replace(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::create_dir(temporary(folder.path())).unwrap();
        try_replace(folder.path()).unwrap_err();
    }

    #[test]
    fn what_a_store_had_comes_back_when_the_second_lock_is_lifted() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path();
        for original in [Some(NATIVE), Some(b"another's".as_slice()), Some(b"".as_slice()), None] {
            match original {
                Some(bytes) => fs::write(path(store), bytes).unwrap(),
                None => fs::remove_file(path(store)).unwrap(),
            }
            hold(store).unwrap();
            assert_eq!(look(store).unwrap(), SecondLock::Held);
            assert_eq!(super::original(store).unwrap().as_deref(), original);
            release(store).unwrap();
            assert_eq!(super::original(store).unwrap().as_deref(), original);
            assert_eq!(read(store).unwrap().as_deref(), original);
        }
    }
}
