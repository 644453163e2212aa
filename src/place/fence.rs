//! The fence of a source: its directory and a marker file exchange their names. The name is never
//! free in between.

use super::site::{Site, Standing};
use crate::disk::lock::FileLock;
use crate::disk::owner::Owner;
use crate::disk::{self, Folder};
use crate::error::Cause;
use crate::protocol::marker::Marker;
use crate::protocol::{MigrationId, Stage, Was};
use crate::source::inventory::{self, Deleted};
use crate::source::{Store, second_lock};
use std::path::Path;

/// A marker, and the bytes of its file.
#[derive(Clone, Debug)]
pub(crate) struct MarkerText {
    pub(crate) marker: Marker,
    pub(crate) bytes: Vec<u8>,
}

impl Site {
    /// The `version` bytes that the source's store has, or had before its second lock.
    pub(crate) fn version(&self) -> Result<Option<Vec<u8>>, Cause> {
        for place in [&self.path, &self.retired] {
            if matches!(Standing::at(place)?, Standing::Directory(_)) {
                return second_lock::original(place);
            }
        }
        Ok(None)
    }

    /// Puts a marker in the place of the store's directory, which `own` holds; durable when it
    /// returns. When it fails, either nothing has changed but a marker left over at the retired
    /// name, or the source is sealed. `_locked`, the open store, has fjall's own lock until then.
    pub(crate) fn seal(
        &self,
        text: &MarkerText,
        own: &FileLock,
        _locked: &Store,
    ) -> Result<(), Cause> {
        self.write_marker(text)?;
        disk::rename_new(&self.temporary(text.marker.id), &self.retired)?;
        // The marker must be whole on disk before it can stand at the path.
        disk::sync_folder(self.folder())?;
        expect(&self.retired, &text.marker)?;
        if !own.is_at(&self.path)? {
            return Err(Cause::ChangedUnderneath(self.path.clone()));
        }
        self.exchange()?;
        expect(&self.path, &text.marker)
    }

    /// Puts a marker where nothing stands, without replacing anything; durable when it returns.
    pub(crate) fn seal_missing(&self, text: &MarkerText) -> Result<(), Cause> {
        self.write_marker(text)?;
        disk::rename_new(&self.temporary(text.marker.id), &self.path)?;
        disk::sync_folder(self.folder())?;
        expect(&self.path, &text.marker)
    }

    /// Writes a marker beside the one that stands, so that a full disk is found out now; its
    /// content is durable when it returns.
    pub(crate) fn prepare(&self, text: &MarkerText) -> Result<(), Cause> {
        self.write_marker(text)?;
        disk::sync_folder(self.folder())
    }

    /// Replaces the marker `found` at the path in one step; durable when it returns. When it fails, the
    /// old one or the new one stands there.
    pub(crate) fn mark(&self, text: &MarkerText, found: &Marker) -> Result<(), Cause> {
        let temporary = self.temporary(text.marker.id);
        let prepared = Standing::at(&temporary)?;
        let ready = prepared.marker().is_some_and(|marker| {
            // All but the time that it was prepared at.
            let mut marker = marker.clone();
            marker.time.clone_from(&text.marker.time);
            marker == text.marker
        });
        if ready {
            // What an earlier process left here may be in the page cache alone.
            disk::sync_file(&temporary)?;
        } else {
            self.write_marker(text)?;
        }
        expect(&self.path, found)?;
        disk::rename_over(&temporary, &self.path)?;
        disk::sync_folder(self.folder())
    }

    /// Gives the source, at whose path the marker `found` stands, its path back; durable when it
    /// returns. When it fails, the marker stands at the path, or only a marker left over at the retired
    /// name.
    pub(crate) fn unseal(&self, found: &Marker, own: Option<&FileLock>) -> Result<(), Cause> {
        let changed = || Cause::ChangedUnderneath(self.path.clone());
        expect(&self.path, found)?;
        if !matches!(found.stage, Stage::Sealed | Stage::Restoring) {
            return Err(changed());
        }
        match found.was {
            Was::Directory => {
                if !own.ok_or_else(changed)?.is_at(&self.retired)? {
                    return Err(changed());
                }
                self.exchange()?;
                expect(&self.retired, found)?;
                disk::remove_file(&self.retired)?;
            }
            Was::Nothing => disk::remove_file(&self.path)?,
        }
        disk::sync_folder(self.folder())
    }

    /// Sets the second lock in the retired store; durable when it returns.
    pub(crate) fn hold_version(&self) -> Result<(), Cause> {
        second_lock::hold(&self.retired)
    }

    /// Lifts the second lock in the retired store; durable when it returns.
    pub(crate) fn release_version(&self) -> Result<(), Cause> {
        second_lock::release(&self.retired)
    }

    /// Deletes the retired store's own files, whose marker must say that they may go, and its folder,
    /// if nothing else is in it; durable when it returns. When it fails, a part of it may be left.
    pub(crate) fn delete_retired(&self, own: Option<&FileLock>) -> Result<Deleted, Cause> {
        let changed = || Cause::ChangedUnderneath(self.retired.clone());
        let stage = Standing::at(&self.path)?.marker().map(|marker| marker.stage);
        let own = own.ok_or_else(changed)?;
        if stage != Some(Stage::Reclaimed) || !own.is_at(&self.retired)? {
            return Err(changed());
        }
        let deleted = inventory::delete(&Folder::of(own.file(), &self.retired)?)?;
        if deleted.rest.is_empty() {
            disk::remove_folder(&self.retired)?;
        } else {
            disk::sync_folder(&self.retired)?;
        }
        disk::sync_folder(self.folder())?;
        Ok(deleted)
    }

    /// Removes what sealing and unsealing may leave over beside the source.
    pub(crate) fn tidy(&self, known: &[MigrationId]) -> Result<(), Cause> {
        let standing = Standing::at(&self.path)?;
        let retired = Standing::at(&self.retired)?;
        for left_over in self.left_over(known, [&standing, &retired])? {
            if left_over == self.taken() {
                super::preflight::remove_taken(&left_over)?;
            } else {
                disk::remove_file(&left_over)?;
            }
        }
        if standing.marker().is_none() && retired.marker().is_some() {
            disk::remove_file(&self.retired)?;
        }
        disk::sync_folder(self.folder())
    }

    /// Makes durable what stands at both names, and whether the second lock is set.
    pub(crate) fn confirm(&self) -> Result<(), Cause> {
        for place in [&self.path, &self.retired] {
            match disk::metadata(place)? {
                Some(metadata) if metadata.is_file() => disk::sync_file(place)?,
                Some(metadata) if metadata.is_dir() => disk::sync_folder(place)?,
                Some(_) | None => {}
            }
        }
        disk::sync_folder(self.folder())
    }

    fn write_marker(&self, text: &MarkerText) -> Result<(), Cause> {
        let temporary = self.temporary(text.marker.id);
        // I-7: the name holds our own random id, so what stands there is what a crash left.
        disk::remove_file(&temporary)?;
        // The way back must not need an owner that this user can't give.
        let owner = self.owner()?.and_then(Owner::if_given);
        let written = disk::create(&temporary, &text.bytes, owner.as_ref());
        if written.is_err() {
            // On a full disk nothing of ours may stay; the next attempt would remove it too.
            let _ = disk::remove_file(&temporary);
        }
        written?;
        expect(&temporary, &text.marker)
    }

    fn exchange(&self) -> Result<(), Cause> {
        disk::exchange(&self.path, &self.retired)
            .map_err(|cause| super::exchange_refused(cause, self.folder()))?;
        disk::sync_folder(self.folder())
    }
}

/// Checks twice: what was written is what is read back.
fn expect(place: &Path, marker: &Marker) -> Result<(), Cause> {
    if Standing::at(place)?.marker() == Some(marker) {
        Ok(())
    } else {
        Err(Cause::ChangedUnderneath(place.to_owned()))
    }
}
