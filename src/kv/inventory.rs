//! The files below a store's folder: which are the engine's own, and which are not. Both are decided
//! here alone.

use super::store::Store;
use crate::disk::Folder;
use crate::disk::walk::{Entry, Removed, Syncs, Visitor, syncing, walk};
use crate::error::Cause;
use crate::protocol::marker::Inventory;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

/// Differences that are listed; the others are counted.
const DIFFERENCES_MAX: usize = 3;

/// What is read of a journal at once.
const READ_BYTES: usize = 256 * 1024;

/// What lies below a store's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The engine's own files that hold the data: the path below the store's folder, and the bytes. No
    /// opening makes one, changes its length or removes it, once the first has replayed the journals.
    pub(crate) lasting: BTreeMap<String, u64>,
    /// The bytes that the disk holds for these.
    pub(crate) held_bytes: u64,
    /// What is neither the engine's nor cutover's: the path below the store's folder, a folder with
    /// `/` at its end and without what is in it.
    pub(crate) foreign: Vec<String>,
    /// The newest version file of each keyspace's folder.
    pub(crate) versions: BTreeMap<String, u64>,
    /// The first that is not simply a part of the folder, and what it is instead.
    pub(crate) scattered: Option<(String, &'static str)>,
}

/// What was deleted of a store.
#[derive(Debug)]
pub(crate) struct Deleted {
    /// Whether nothing is deleted, and it is only counted what would be.
    is_trial: bool,
    /// Files and folders that were deleted.
    removed: usize,
    /// Bytes that the disk held for the files that were deleted.
    pub(crate) bytes: u64,
    /// What is left, as [`Tree::foreign`] has it.
    pub(crate) rest: Vec<String>,
}

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The engine's: what holds the data. It stays as it is while nobody writes.
    Lasting,
    /// The engine's, or cutover's: an opening may make it, write it anew or remove it.
    Passing,
    Foreign,
}

/// Whose the file at `path` is, by the names of fjall 3. An opening of a store whose journal has a
/// cleared keyspace writes a new version file (`v7`) each time, and fjall writes `current` anew by a
/// temporary file (`.tmpAbC123`). `version.cutover` is ours.
fn owner(path: &[&str]) -> Owner {
    match path {
        [name] if is_journal(name) => Owner::Lasting,
        ["lock" | "version" | "version.cutover"] => Owner::Passing,
        ["keyspaces", id, "current"] if is_number(id) => Owner::Lasting,
        ["keyspaces", id, "tables" | "blobs", file] if is_number(id) && is_number(file) => {
            Owner::Lasting
        }
        ["keyspaces", id, name] if is_number(id) => {
            let version = name.strip_prefix('v').is_some_and(is_number);
            let temporary = name.strip_prefix(".tmp").is_some_and(|end| {
                !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_alphanumeric())
            });
            if version || temporary { Owner::Passing } else { Owner::Foreign }
        }
        _ => Owner::Foreign,
    }
}

/// Whether the engine's own file at `path` is a journal.
pub(crate) fn is_journal(path: &str) -> bool {
    path.strip_suffix(".jnl").is_some_and(is_number)
}

/// Whether the folder at `path` is the engine's own.
fn is_own_folder(path: &[&str]) -> bool {
    match path {
        ["keyspaces"] => true,
        ["keyspaces", id] | ["keyspaces", id, "tables" | "blobs"] => is_number(id),
        _ => false,
    }
}

/// As fjall writes them: `+7` and what is too large are none.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok()
}

/// Looks at everything below the store's folder at `path`. What vanishes meanwhile is left out.
pub(crate) fn tree(path: &Path) -> Result<Tree, Cause> {
    let mut tree = Tree::default();
    walk(&Folder::open(path)?, &mut tree)?;
    Ok(tree)
}

/// The same, and makes the store durable: the content of every file that is the engine's own, and every
/// folder's names. fjall leaves the folder of its keyspaces unsynced, and a killed daemon leaves its
/// last writes so. When it fails, any of it may not be durable.
pub(crate) fn sync(path: &Path) -> Result<Tree, Cause> {
    let folder = Folder::open(path)?;
    syncing(path, |syncs| {
        let mut synced = Synced { tree: Tree::default(), syncs };
        walk(&folder, &mut synced)?;
        Ok(synced.tree)
    })
}

struct Synced<'a> {
    tree: Tree,
    syncs: &'a Syncs,
}

impl Visitor for Synced<'_> {
    fn meet(&mut self, entry: &Entry<'_>) -> Result<bool, Cause> {
        let is_file = !entry.is_folder() && entry.scattered().is_none();
        // Closing a file drops the locks that this process has on it, and others' may be SQLite's.
        if is_file && owner(entry.at) != Owner::Foreign {
            self.syncs.file(entry)?;
        }
        self.tree.meet(entry)
    }

    fn leave(&mut self, folder: &Folder, entry: Option<&Entry<'_>>) -> Result<(), Cause> {
        self.syncs.folder(folder)?;
        self.tree.leave(folder, entry)
    }
}

impl Visitor for Tree {
    fn meet(&mut self, entry: &Entry<'_>) -> Result<bool, Cause> {
        let what = entry.scattered();
        if let Some(what) = what {
            self.scattered.get_or_insert_with(|| (entry.at.join("/"), what));
        }
        let is_own = match (what, entry.is_folder()) {
            (Some(_), _) => false,
            (None, true) => is_own_folder(entry.at),
            (None, false) => self.note_file(entry),
        };
        // What is in a folder that is named already is not named again.
        let is_in_own = entry
            .at
            .split_last()
            .is_some_and(|(_, above)| above.is_empty() || is_own_folder(above));
        if !is_own && is_in_own {
            self.foreign.push(entry.relative());
        }
        Ok(what.is_none())
    }

    fn leave(&mut self, _: &Folder, _: Option<&Entry<'_>>) -> Result<(), Cause> {
        Ok(())
    }
}

impl Tree {
    /// Notes a file, and says whether it is not a foreign one.
    fn note_file(&mut self, entry: &Entry<'_>) -> bool {
        match owner(entry.at) {
            Owner::Lasting => {
                self.lasting.insert(entry.at.join("/"), entry.bytes());
                self.held_bytes += entry.held_bytes();
                true
            }
            Owner::Passing => {
                self.note_version(entry.at);
                true
            }
            Owner::Foreign => false,
        }
    }

    fn note_version(&mut self, path: &[&str]) {
        if let ["keyspaces", id, name] = path
            && let Some(number) = name.strip_prefix('v').and_then(|number| number.parse().ok())
        {
            let newest = self.versions.entry((*id).to_owned()).or_insert(number);
            *newest = number.max(*newest);
        }
    }
}

/// What the open store holds, whose `folder` it is: the files are those that preflight made durable
/// under fjall's lock, and not what somebody who passes that lock by has put there since. Its journals
/// are read.
pub(crate) fn take(store: &Store, folder: &Folder) -> Result<Inventory, Cause> {
    let files = store.tree().lasting.clone();
    let journals = digest_journals(folder, &files)?;
    Ok(Inventory { folders: store.folders()?, files, journals })
}

/// How the store's folder at `path`, where `found` lies, differs from what was sealed there, in words;
/// none where it does not. The journals are read where nothing else differs.
pub(crate) fn difference(
    path: &Path,
    found: &Tree,
    sealed: &Inventory,
) -> Result<Option<String>, Cause> {
    let differences = difference_in_lengths(found, sealed);
    if differences.is_none()
        && digest_journals(&Folder::open(path)?, &found.lasting)? != sealed.journals
    {
        return Ok(Some("its journals hold something else".to_owned()));
    }
    Ok(differences)
}

/// The same by names and lengths alone.
pub(crate) fn difference_in_lengths(found: &Tree, sealed: &Inventory) -> Option<String> {
    let found = &found.lasting;
    let mut differences: Vec<String> = Vec::new();
    for (file, bytes) in &sealed.files {
        match found.get(file) {
            None => differences.push(format!("{} is gone", named(file, sealed))),
            Some(now) if now != bytes => {
                let file = named(file, sealed);
                differences.push(format!("{file} has {now} bytes and had {bytes}"));
            }
            Some(_) => {}
        }
    }
    let new = found.keys().filter(|file| !sealed.files.contains_key(*file));
    differences.extend(new.map(|file| format!("{file} was not there")));
    listed(differences)
}

/// How the keyspaces of an open store differ from those that were sealed; none where they do not.
pub(crate) fn difference_opened(
    store: &Store,
    sealed: &Inventory,
) -> Result<Option<String>, Cause> {
    let found = store.folders()?;
    let name = |name: &String| format!("keyspace '{}'", name.escape_debug());
    let gone = sealed.folders.iter().filter(|(key, at)| found.get(*key) != Some(*at));
    let new = found.iter().filter(|(key, _)| !sealed.folders.contains_key(*key));
    let gone = gone.map(|(key, at)| format!("{} in folder {at} is gone", name(key)));
    Ok(listed(gone.chain(new.map(|(key, _)| format!("{} was not there", name(key)))).collect()))
}

/// The first differences; a marker may name a hundred thousand files.
fn listed(mut differences: Vec<String>) -> Option<String> {
    let more = differences.len().saturating_sub(DIFFERENCES_MAX);
    differences.truncate(DIFFERENCES_MAX);
    if more > 0 {
        differences.push(format!("and {more} more"));
    }
    (!differences.is_empty()).then(|| differences.join(", "))
}

/// A file, and the keyspace that it is of.
fn named(file: &str, sealed: &Inventory) -> String {
    let folder = file.strip_prefix("keyspaces/").and_then(|below| below.split('/').next());
    let number = folder.and_then(|number| number.parse().ok());
    let keyspace = sealed.folders.iter().find(|(_, at)| Some(**at) == number);
    match keyspace {
        Some((name, _)) => format!("{file} of keyspace '{}'", name.escape_debug()),
        None => file.to_owned(),
    }
}

/// XXH3-128 over the journals among `files`, one after the other.
fn digest_journals(folder: &Folder, files: &BTreeMap<String, u64>) -> Result<String, Cause> {
    let mut digest = xxhash_rust::xxh3::Xxh3Default::new();
    let mut buffer = vec![0; READ_BYTES];
    for name in files.keys().filter(|file| is_journal(file)) {
        let path = folder.path().join(name);
        let mut journal = folder.read(OsStr::new(name)).map_err(Cause::io("open", &path))?;
        loop {
            let length = journal.read(&mut buffer).map_err(Cause::io("read", &path))?;
            let Some(read @ [_, ..]) = buffer.get(..length) else { break };
            digest.update(read);
        }
    }
    Ok(format!("{:032x}", digest.digest128()))
}

/// Deletes the engine's own files below the store's `folder`, and then those of its own folders that
/// are empty, but not `folder` itself. It enters no mount and follows no link. Nothing of it is durable
/// before the folders are synced, which the caller does; when it fails, or is killed, a part may be
/// left.
pub(crate) fn delete(folder: &Folder) -> Result<Deleted, Cause> {
    Deleted::walk(folder, false)
}

/// Whether a reclaim has been through the retired store's folder at `path`, and has left it for what is
/// in it and not the engine's: there is nothing that [`delete`] would delete.
pub(crate) fn is_freed(path: &Path) -> Result<bool, Cause> {
    let deleted = Deleted::walk(&Folder::open(path)?, true)?;
    Ok(deleted.removed == 0 && !deleted.rest.is_empty())
}

impl Deleted {
    fn walk(folder: &Folder, is_trial: bool) -> Result<Self, Cause> {
        let mut deleted = Self { is_trial, removed: 0, bytes: 0, rest: Vec::new() };
        walk(folder, &mut deleted)?;
        Ok(deleted)
    }

    fn remove(&mut self, entry: &Entry<'_>) -> Result<Removed, Cause> {
        let removed = if self.is_trial { Removed::Gone } else { entry.remove()? };
        self.removed += usize::from(removed == Removed::Gone);
        Ok(removed)
    }
}

impl Visitor for Deleted {
    fn meet(&mut self, entry: &Entry<'_>) -> Result<bool, Cause> {
        let is_part = entry.scattered().is_none();
        if is_part && entry.is_folder() && is_own_folder(entry.at) {
            return Ok(true);
        }
        if is_part && !entry.is_folder() && owner(entry.at) != Owner::Foreign {
            if self.remove(entry)? == Removed::Gone {
                self.bytes += entry.held_bytes();
            }
        } else {
            self.rest.push(entry.relative());
        }
        Ok(false)
    }

    fn leave(&mut self, _: &Folder, entry: Option<&Entry<'_>>) -> Result<(), Cause> {
        let Some(entry) = entry else { return Ok(()) };
        let relative = entry.relative();
        // What is left below it, if anything, was named last.
        let is_left = self.rest.last().is_some_and(|rest| rest.starts_with(&relative));
        if !is_left && self.remove(entry)? == Removed::IsNotEmpty {
            // Somebody has put something into it just now.
            self.rest.push(relative);
        }
        Ok(())
    }
}
