//! The claim file beside the target, and the lock on it.

use super::target::{GIVEN_UP, is_given_up};
use crate::disk;
use crate::disk::lock::{FileLock, held_by, holder_of};
use crate::disk::owner::Owner;
use crate::error::Cause;
use crate::protocol::claim::{CLAIM_BYTES_MAX, CLAIM_SUFFIX, Claim};
use crate::protocol::{ClaimSeen, MigrationId, hex_u128};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The claim file of a target.
#[derive(Debug)]
pub(crate) struct ClaimFile {
    path: PathBuf,
    lock: Option<FileLock>,
}

impl ClaimFile {
    /// The claim file beside `target`, unlocked.
    pub(crate) fn beside(target: &Path) -> Self {
        Self { path: disk::with_suffix(target, CLAIM_SUFFIX), lock: None }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Locks the file where there is one. One that turned up, or was replaced, since the last call
    /// is locked now.
    pub(crate) fn lock(&mut self) -> Result<(), Cause> {
        if let Some(lock) = &self.lock
            && lock.is_at(&self.path)?
        {
            return Ok(());
        }
        self.lock = None;
        if disk::metadata(&self.path)?.is_none_or(|m| !m.is_file()) {
            return Ok(());
        }
        let lock = FileLock::take(&self.path)?;
        if !lock.is_at(&self.path)? {
            return Err(Cause::ChangedUnderneath(self.path.clone()));
        }
        self.lock = Some(lock);
        Ok(())
    }

    /// Whether this process holds the lock.
    pub(crate) const fn is_locked(&self) -> bool {
        self.lock.is_some()
    }

    /// Makes durable what it says, or that there is none. What killed processes left goes.
    pub(crate) fn confirm(&self) -> Result<(), Cause> {
        if self.is_locked() {
            self.remove_left_over()?;
        }
        if disk::metadata(&self.path)?.is_some_and(|metadata| metadata.is_file()) {
            disk::sync_file(&self.path)?;
        }
        let folder = disk::parent(&self.path);
        if disk::metadata(folder)?.is_some() { disk::sync_folder(folder) } else { Ok(()) }
    }

    /// What it says of `plan`; and, where it can't be read, why.
    pub(crate) fn look(&self, plan: &str) -> (ClaimSeen, Option<String>) {
        match self.read() {
            Ok(Ok(claim)) => {
                (claim.plans.get(plan).map_or(ClaimSeen::None, |id| ClaimSeen::Id(*id)), None)
            }
            Ok(Err(reason)) => (ClaimSeen::Unreadable, Some(reason)),
            Err(cause) => (ClaimSeen::Unreadable, Some(cause.to_string())),
        }
    }

    /// Sets or removes the entry of `plan`, which must be `found` now; durable when it returns, as far
    /// as the folder's own name is. The file goes with its last entry; a new one belongs to `owner`.
    pub(crate) fn set(
        &mut self,
        plan: &str,
        found: ClaimSeen,
        entry: Option<MigrationId>,
        owner: Option<&Owner>,
    ) -> Result<(), Cause> {
        self.lock()?;
        let changed = || Cause::ChangedUnderneath(self.path.clone());
        if self.look(plan).0 != found || found == ClaimSeen::Unreadable {
            return Err(changed());
        }
        let mut claim = self.read()?.map_err(|_| changed())?;
        let id = match (entry, found) {
            (Some(id), _) | (None, ClaimSeen::Id(id)) => id,
            (None, ClaimSeen::None | ClaimSeen::Unreadable) => return Ok(()),
        };
        match entry {
            Some(id) => claim.plans.insert(plan.to_owned(), id),
            None => claim.plans.remove(plan),
        };
        if claim.plans.is_empty() {
            self.remove_left_over()?;
            disk::remove_file(&self.path)?;
            self.lock = None;
        } else {
            self.write(&claim, id, owner)?;
        }
        disk::sync_folder(disk::parent(&self.path))
    }

    /// The new file is locked before it gets its name, so that no other process can slip in. Its
    /// temporary name holds the migration's id, so that two that begin at once do not meet there.
    fn write(
        &mut self,
        claim: &Claim,
        id: MigrationId,
        owner: Option<&Owner>,
    ) -> Result<(), Cause> {
        let text = claim.encode().map_err(|error| Cause::Claims {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        // Another one's temporary file is not locked at its very beginning.
        let _alone = FileLock::wait(disk::parent(&self.path))?;
        // One that came meanwhile is another's, who may be making a database of a name like ours.
        let replaced = disk::metadata(&self.path)?;
        if self.lock.is_none() && replaced.is_some() {
            return Err(Cause::Locked { path: self.path.clone(), holder: holder_of(&self.path) });
        }
        self.remove_left_over()?;
        let temporary = disk::with_suffix(&self.path, &format!("-{id}"));
        disk::remove_file(&temporary)?;
        let replaced = replaced.and_then(|found| Owner::of_file(&self.path, &found).if_given());
        let file =
            disk::create(&temporary, &text, replaced.as_ref().or(owner)).inspect_err(|_| {
                // On a full disk nothing of ours may stay.
                let _ = disk::remove_file(&temporary);
            })?;
        let lock = FileLock::try_on(file, &temporary)?.ok_or_else(|| Cause::Locked {
            path: self.path.clone(),
            holder: holder_of(&temporary),
        })?;
        let renamed = if self.lock.is_some() {
            disk::rename_over(&temporary, &self.path)
        } else {
            disk::rename_new(&temporary, &self.path)
        };
        // Also where the rename says that it failed: what stands there decides whose the claim is.
        if lock.is_at(&self.path)? {
            self.lock = Some(lock);
        } else {
            let _ = disk::remove_file(&temporary);
        }
        renamed.map_err(|cause| match cause {
            // Of two that began at once this one came second.
            Cause::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists => {
                Cause::Locked { path: self.path.clone(), holder: holder_of(&self.path) }
            }
            other => other,
        })
    }

    /// Removes what killed processes left of their temporary files: nobody has them locked, and who
    /// has the claim's lock knows that nobody makes a database of such a name.
    fn remove_left_over(&self) -> Result<(), Cause> {
        let folder = disk::parent(&self.path);
        for entry in fs::read_dir(folder).map_err(Cause::io("list", folder))? {
            let path = entry.map_err(Cause::io("list", folder))?.path();
            let end = path.as_os_str().as_bytes().strip_prefix(self.path.as_os_str().as_bytes());
            let end = end.and_then(|end| std::str::from_utf8(end).ok()).unwrap_or_default();
            let ours = match (end.strip_prefix('-'), end.strip_prefix(GIVEN_UP)) {
                (Some(id), _) => hex_u128(id).is_some(),
                (None, Some(id)) => hex_u128(id).is_some() && is_given_up(&path, id),
                (None, None) => false,
            };
            let found = disk::metadata(&path)?.filter(|found| ours && found.is_file());
            let Some(found) = found else { continue };
            // Killed before it belonged to this user, who may not open it: ours are empty then.
            let unlocked = match FileLock::try_new(&path) {
                Err(Cause::Denied { .. }) => found.len() == 0 && held_by(&path).is_none(),
                lock => lock?.is_some(),
            };
            if unlocked {
                disk::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn read(&self) -> Result<Result<Claim, String>, Cause> {
        match disk::metadata(&self.path)? {
            None => return Ok(Ok(Claim::default())),
            Some(metadata) if !metadata.is_file() => return Ok(Err("it is not a file".to_owned())),
            Some(_) => {}
        }
        match disk::read_bounded(&self.path, CLAIM_BYTES_MAX) {
            Ok(bytes) => Ok(Claim::decode(&bytes).map_err(|error| error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ok(Claim::default())),
            Err(error) => Err(Cause::io("read", &self.path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: MigrationId = MigrationId(1);
    const SECOND: MigrationId = MigrationId(2);

    fn place() -> (tempfile::TempDir, ClaimFile) {
        let root = tempfile::tempdir().unwrap();
        let claim = ClaimFile::beside(&root.path().canonicalize().unwrap().join("t.sqlite"));
        (root, claim)
    }

    fn seen(claim: &ClaimFile, plan: &str) -> ClaimSeen {
        claim.look(plan).0
    }

    #[test]
    fn i6_an_entry_is_set_or_removed_just_where_the_claim_says_what_was_found() {
        let (_root, mut claim) = place();
        let (path, other) =
            (claim.path.clone(), ClaimFile { path: claim.path.clone(), lock: None });
        // Nothing is found, and nothing is wanted.
        claim.set("p", ClaimSeen::None, None, None).unwrap();
        assert!(!path.exists() && !claim.is_locked());
        claim.set("p", ClaimSeen::None, Some(FIRST), None).unwrap();
        assert!(claim.is_locked());
        let mut rival = ClaimFile { path: path.clone(), lock: None };
        assert!(matches!(rival.lock(), Err(Cause::Locked { .. })));
        let before = fs::read(&path).unwrap();
        for (found, entry) in [
            (ClaimSeen::None, Some(SECOND)),
            (ClaimSeen::None, None),
            (ClaimSeen::Id(SECOND), Some(SECOND)),
            (ClaimSeen::Id(SECOND), None),
            (ClaimSeen::Unreadable, None),
        ] {
            let refused = claim.set("p", found, entry, None).unwrap_err();
            assert!(matches!(&refused, Cause::ChangedUnderneath(at) if *at == path), "{refused}");
            assert_eq!(fs::read(&path).unwrap(), before);
        }
        claim.set("q", ClaimSeen::None, Some(SECOND), None).unwrap();
        let both = [ClaimSeen::Id(FIRST), ClaimSeen::Id(SECOND), ClaimSeen::None];
        assert_eq!(["p", "q", "r"].map(|plan| seen(&other, plan)), both);
        claim.set("p", ClaimSeen::Id(FIRST), None, None).unwrap();
        assert_eq!([seen(&other, "p"), seen(&other, "q")], [ClaimSeen::None, both[1]]);
        claim.set("q", ClaimSeen::Id(SECOND), None, None).unwrap();
        assert!(!path.exists() && !claim.is_locked());
    }

    #[test]
    fn what_is_no_claim_is_unreadable_with_its_reason_and_stays() {
        for (is_folder, reason) in [(true, "it is not a file"), (false, "")] {
            let (_root, mut claim) = place();
            if is_folder {
                fs::create_dir(&claim.path).unwrap();
            } else {
                fs::write(&claim.path, "theirs").unwrap();
            }
            let (found, why) = claim.look("p");
            assert_eq!(found, ClaimSeen::Unreadable);
            let why = why.unwrap();
            assert!(if is_folder { why == reason } else { !why.is_empty() }, "{why}");
            for found in [ClaimSeen::Unreadable, ClaimSeen::None] {
                let refused = claim.set("p", found, Some(FIRST), None).unwrap_err();
                assert!(matches!(refused, Cause::ChangedUnderneath(_)), "{refused}");
            }
            assert!(claim.path.exists());
        }
    }

    /// Between the look at the place and the rename.
    #[cfg(feature = "__faults")]
    #[test]
    fn of_two_that_begin_at_once_the_second_is_told_that_the_claim_is_locked() {
        use crate::fault;
        let set = |act: fn(&Path)| {
            let (root, mut claim) = place();
            let path = claim.path.clone();
            fault::arm_act(move |name| {
                if name == "file synced" {
                    act(&path);
                }
            });
            let set = claim.set("p", ClaimSeen::None, Some(FIRST), None);
            fault::arm(None);
            (root, claim, set.unwrap_err())
        };
        let (root, claim, refused) = set(|path| fs::write(path, "theirs").unwrap());
        assert!(matches!(&refused, Cause::Locked { path, .. } if *path == claim.path), "{refused}");
        assert_eq!(fs::read(&claim.path).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing of ours is left");
        assert!(!claim.is_locked());
        // That the rename fails for another reason means nothing of the kind.
        let (_root, _, refused) = set(|path| {
            fs::remove_file(disk::with_suffix(path, &format!("-{FIRST}"))).unwrap();
        });
        assert!(matches!(&refused, Cause::Io { what: "rename to", .. }), "{refused}");
    }
}
