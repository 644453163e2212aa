//! The files below a store's folder: which are the engine's own, and which are not. Both are decided
//! here alone.

use super::second_lock;
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
    /// Whether its file `version` is there, or kept in the second lock: without it fjall takes the folder
    /// for a new store's.
    pub(crate) has_version: bool,
    /// The newest version file of each keyspace's folder.
    pub(crate) versions: BTreeMap<String, u64>,
    /// Of each user to whom something of the engine's own in it belongs, the first.
    pub(crate) owners: BTreeMap<u32, String>,
    /// The first of the engine's own folders in it that others than their owner may write.
    pub(crate) shared: Option<String>,
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
    tree.has_version = second_lock::original(path)?.is_some();
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
        synced.tree.has_version = second_lock::original(path)?.is_some();
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
        if is_own {
            self.owners.entry(entry.uid()).or_insert_with(|| entry.relative());
            if entry.is_folder() && entry.is_shared() {
                self.shared.get_or_insert_with(|| entry.relative());
            }
        }
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
    differences_in_lengths(found, sealed, false)
}

/// How what is left of a store that is being freed differs from what was sealed.
pub(crate) fn difference_of_the_rest(found: &Tree, sealed: &Inventory) -> Option<String> {
    differences_in_lengths(found, sealed, true)
}

fn differences_in_lengths(found: &Tree, sealed: &Inventory, may_be_gone: bool) -> Option<String> {
    let mut differences: Vec<String> = Vec::new();
    if !found.has_version && !may_be_gone {
        differences.push("version is gone".to_owned());
    }
    let found = &found.lasting;
    for (file, bytes) in &sealed.files {
        match found.get(file) {
            None if may_be_gone => {}
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

#[cfg(test)]
mod tests {
    use super::*;
    use fjall::{Database, KeyspaceCreateOptions};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn i8_a_name_is_the_engine_s_own_just_where_fjall_writes_one() {
        let of = |path: &str| owner(&path.split('/').collect::<Vec<_>>());
        for path in [
            "0.jnl",
            "17.jnl",
            "keyspaces/0/current",
            "keyspaces/3/tables/12",
            "keyspaces/3/blobs/0",
        ] {
            assert_eq!(of(path), Owner::Lasting, "{path}");
        }
        for path in
            ["lock", "version", "version.cutover", "keyspaces/3/v12", "keyspaces/3/.tmpAbC123"]
        {
            assert_eq!(of(path), Owner::Passing, "{path}");
        }
        for path in [
            "notes",
            ".jnl",
            "a.jnl",
            "+1.jnl",
            "18446744073709551616.jnl",
            "1.jnl.bak",
            "backup/1.jnl",
            "keyspaces/lock",
            "keyspaces/x/current",
            "keyspaces/3/old",
            "keyspaces/3/v",
            "keyspaces/3/vx",
            "keyspaces/x/v1",
            "keyspaces/3/.tmp",
            "keyspaces/3/.tmp-1",
            "keyspaces/x/tables/1",
            "keyspaces/3/tables/x",
            "keyspaces/3/other/1",
            "keyspaces/3/tables/1/1",
        ] {
            assert_eq!(of(path), Owner::Foreign, "{path}");
        }
        let own = |path: &str| is_own_folder(&path.split('/').collect::<Vec<_>>());
        for path in ["keyspaces", "keyspaces/3", "keyspaces/3/tables", "keyspaces/3/blobs"] {
            assert!(own(path), "{path}");
        }
        for path in ["notes", "keyspaces/x", "keyspaces/x/tables", "keyspaces/3/notes", "3"] {
            assert!(!own(path), "{path}");
        }
    }

    /// Files and empty folders by their names, a folder's with `/` at its end. Each holds `length` bytes
    /// of its own.
    fn lay(names: &[(&str, usize)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, length) in names {
            let path = root.path().join(name);
            if name.ends_with('/') {
                fs::create_dir_all(path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, vec![b'x'; *length]).unwrap();
            }
        }
        root
    }

    const LASTING: [(&str, usize); 4] = [
        ("1.jnl", 10),
        ("keyspaces/0/current", 20),
        ("keyspaces/1/tables/7", 40),
        ("keyspaces/1/current", 80),
    ];
    const PASSING: [(&str, usize); 6] = [
        ("lock", 1),
        ("version", 4),
        ("keyspaces/0/v3", 1),
        ("keyspaces/1/v10", 1),
        ("keyspaces/1/v9", 1),
        ("keyspaces/1/.tmpA", 1),
    ];
    const FOREIGN: [(&str, usize); 5] = [
        ("keyspaces/1/notes/", 0),
        ("keyspaces/1/tables/mine", 3),
        ("keyspaces/upload/1.jnl", 3),
        ("mine/", 0),
        ("wallet.key", 3),
    ];

    fn everything() -> tempfile::TempDir {
        lay(&[&LASTING[..], &PASSING, &FOREIGN].concat())
    }

    /// A file inside a folder that is not the engine's is not named once more.
    const FOREIGN_NAMED: [&str; 5] = [
        "keyspaces/1/notes/",
        "keyspaces/1/tables/mine",
        "keyspaces/upload/",
        "mine/",
        "wallet.key",
    ];

    fn lasting() -> BTreeMap<String, u64> {
        LASTING.iter().map(|(name, length)| ((*name).to_owned(), *length as u64)).collect()
    }

    #[test]
    fn i2_i8_a_look_and_a_sync_find_the_same_and_say_whose_each_file_is() {
        let root = everything();
        let found = tree(root.path()).unwrap();
        let versions = [("0".to_owned(), 3), ("1".to_owned(), 10)];
        let expected = Tree {
            lasting: lasting(),
            held_bytes: 150,
            foreign: FOREIGN_NAMED.map(str::to_owned).to_vec(),
            has_version: true,
            versions: versions.into(),
            owners: [(0, "1.jnl".to_owned())].into(),
            shared: None,
            scattered: None,
        };
        assert_eq!(found, expected);
        assert_eq!(sync(root.path()).unwrap(), expected);
        // Another user's, and what others may write, among what is the engine's own.
        let at = |name: &str| root.path().join(name);
        for name in ["keyspaces/1/tables/7", "wallet.key"] {
            std::os::unix::fs::chown(at(name), Some(1999), None).expect("these tests need root");
        }
        for name in ["mine", "keyspaces/1/tables"] {
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o775)).unwrap();
        }
        let found = tree(root.path()).unwrap();
        assert_eq!(found.owners.get(&1999).unwrap(), "keyspaces/1/tables/7");
        assert_eq!(found.shared.as_deref(), Some("keyspaces/1/tables/"));
        // What is written nowhere takes no room.
        fs::File::options()
            .write(true)
            .open(root.path().join("1.jnl"))
            .unwrap()
            .set_len(1 << 20)
            .unwrap();
        let found = tree(root.path()).unwrap();
        assert_eq!(found.lasting.get("1.jnl"), Some(&(1 << 20)));
        assert!((150..1 << 20).contains(&found.held_bytes), "{}", found.held_bytes);
        // A link is named, and not entered.
        std::os::unix::fs::symlink("1", root.path().join("keyspaces/2")).unwrap();
        let found = tree(root.path()).unwrap();
        assert_eq!(found.scattered, Some(("keyspaces/2".to_owned(), "a symbolic link")));
        assert!(found.foreign.contains(&"keyspaces/2".to_owned()));
        assert_eq!(found.lasting.len(), LASTING.len());
        // Of two such, the first.
        std::os::unix::fs::symlink("1", root.path().join("keyspaces/3")).unwrap();
        assert_eq!(tree(root.path()).unwrap().scattered, found.scattered);
        // One that has a file's name is not synced, wherever it leads.
        std::os::unix::fs::symlink("1.jnl", root.path().join("2.jnl")).unwrap();
        let found = sync(root.path()).unwrap();
        assert_eq!(found.scattered, Some(("2.jnl".to_owned(), "a symbolic link")));
    }

    #[test]
    fn i8_a_deletion_takes_the_engine_s_own_files_and_says_what_it_leaves() {
        let root = everything();
        let path = root.path().canonicalize().unwrap();
        let folder = Folder::open(&path).unwrap();
        assert!(!is_freed(&path).unwrap());
        let deleted = delete(&folder).unwrap();
        assert_eq!(deleted.rest, FOREIGN_NAMED);
        assert_eq!(deleted.bytes, 159, "the passing files hold some bytes too");
        let mut left = Vec::new();
        list(&path, &path, &mut left);
        assert_eq!(
            left,
            [
                "keyspaces",
                "keyspaces/1",
                "keyspaces/1/notes",
                "keyspaces/1/tables",
                "keyspaces/1/tables/mine",
                "keyspaces/upload",
                "keyspaces/upload/1.jnl",
                "mine",
                "wallet.key",
            ]
        );
        // There is nothing more to delete, and something is left.
        assert!(is_freed(&path).unwrap());
        let again = delete(&folder).unwrap();
        assert_eq!((again.bytes, again.rest.len()), (0, FOREIGN_NAMED.len()));
        fs::write(path.join("version"), "it").unwrap();
        assert!(!is_freed(&path).unwrap(), "a file of the engine's is there");
        fs::remove_file(path.join("version")).unwrap();
        // An empty folder of the engine's own is the store's too.
        fs::create_dir(path.join("keyspaces/5")).unwrap();
        assert!(!is_freed(&path).unwrap());

        let whole = lay(&[&LASTING[..], &PASSING].concat());
        let path = whole.path().canonicalize().unwrap();
        assert!(!is_freed(&path).unwrap(), "it is deleted by nobody yet");
        // A link is nobody's file, whatever its name.
        std::os::unix::fs::symlink("1.jnl", path.join("9.jnl")).unwrap();
        assert_eq!(delete(&Folder::open(&path).unwrap()).unwrap().rest, ["9.jnl"]);
        fs::remove_file(path.join("9.jnl")).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        assert!(!is_freed(&path).unwrap(), "an empty folder is left for nothing");
    }

    /// fjall leaves files unsynced, and a killed daemon leaves its last writes so. What is not the engine's
    /// own is not opened: closing it would drop the locks that this process has on it.
    #[cfg(feature = "__faults")]
    #[test]
    fn i3_a_sync_takes_every_file_of_the_engine_s_and_every_folder_and_no_other_file() {
        let syncs = |names: &[(&str, usize)]| {
            let root = lay(names);
            crate::fault::arm(None);
            sync(&root.path().canonicalize().unwrap()).unwrap();
            crate::fault::instants().iter().filter(|name| *name == "sync begun").count()
        };
        assert_eq!(syncs(&[]), 1, "its own names");
        assert_eq!(syncs(&[("1.jnl", 1)]), 2);
        assert_eq!(syncs(&[("version", 1)]), 2);
        assert_eq!(syncs(&[("wallet.key", 1)]), 1);
        assert_eq!(syncs(&[("mine/", 1)]), 2);
        let (files, folders) = (LASTING.len() + PASSING.len(), 8);
        assert_eq!(syncs(&[&LASTING[..], &PASSING, &FOREIGN].concat()), files + folders);
    }

    fn list(root: &Path, folder: &Path, found: &mut Vec<String>) {
        let mut entries: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() {
                list(root, &path, found);
            }
        }
    }

    #[test]
    fn i2_what_differs_from_the_sealed_files_is_named_with_its_keyspace() {
        let root = lay(&[&LASTING[..], &[("version", 4)]].concat());
        let path = root.path().canonicalize().unwrap();
        let journals = digest_journals(&Folder::open(&path).unwrap(), &lasting()).unwrap();
        let sealed =
            Inventory { folders: [("a'b".to_owned(), 1)].into(), files: lasting(), journals };
        let found = || difference(&path, &tree(&path).unwrap(), &sealed).unwrap();
        assert_eq!(found(), None);
        // The same length, and something else in it.
        fs::write(path.join("1.jnl"), "0123456789").unwrap();
        assert_eq!(found().as_deref(), Some("its journals hold something else"));
        assert_eq!(difference_in_lengths(&tree(&path).unwrap(), &sealed), None);
        // Without it fjall would begin a new store in the folder.
        fs::remove_file(path.join("version")).unwrap();
        assert_eq!(found().as_deref(), Some("version is gone"));
        assert_eq!(difference_of_the_rest(&tree(&path).unwrap(), &sealed), None);
        fs::write(path.join("version"), "FJL\x03").unwrap();
        assert_eq!(difference_in_lengths(&tree(&path).unwrap(), &sealed), None);
        fs::write(path.join("keyspaces/1/tables/7"), "").unwrap();
        assert_eq!(
            found().as_deref(),
            Some("keyspaces/1/tables/7 of keyspace 'a\\'b' has 0 bytes and had 40")
        );
        fs::remove_file(path.join("keyspaces/0/current")).unwrap();
        fs::write(path.join("2.jnl"), "").unwrap();
        assert_eq!(
            found().as_deref(),
            Some(
                "keyspaces/0/current is gone, keyspaces/1/tables/7 of keyspace 'a\\'b' has 0 bytes and had 40, 2.jnl was not there"
            )
        );
        fs::write(path.join("3.jnl"), "").unwrap();
        fs::write(path.join("4.jnl"), "").unwrap();
        let told = found().unwrap();
        assert!(told.ends_with(", 2.jnl was not there, and 2 more"), "{told}");
    }

    /// One after the other, whatever the size of what is read at once.
    #[test]
    fn i2_the_digest_of_the_journals_is_over_all_of_their_bytes() {
        let long = READ_BYTES + READ_BYTES / 2;
        let root = lay(&[("1.jnl", long), ("2.jnl", 3), ("keyspaces/0/current", 5)]);
        let path = root.path().canonicalize().unwrap();
        let digest = || {
            let found = tree(&path).unwrap();
            digest_journals(&Folder::open(&path).unwrap(), &found.lasting).unwrap()
        };
        let expected = xxhash_rust::xxh3::xxh3_128(&vec![b'x'; long + 3]);
        assert_eq!(digest(), format!("{expected:032x}"));
        for (file, at) in [("1.jnl", 0), ("1.jnl", READ_BYTES), ("1.jnl", long - 1), ("2.jnl", 2)] {
            let whole = fs::read(path.join(file)).unwrap();
            let mut changed = whole.clone();
            *changed.get_mut(at).unwrap() = b'y';
            fs::write(path.join(file), changed).unwrap();
            assert_ne!(digest(), format!("{expected:032x}"), "{file} at {at}");
            fs::write(path.join(file), whole).unwrap();
        }
    }

    #[test]
    fn i2_a_keyspace_that_is_gone_new_or_in_another_folder_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().canonicalize().unwrap().join("s");
        let database = Database::builder(&path).open().unwrap();
        for name in ["a", "b'"] {
            let keyspace = database.keyspace(name, KeyspaceCreateOptions::default).unwrap();
            keyspace.insert("key", "value").unwrap();
        }
        database.persist(fjall::PersistMode::SyncAll).unwrap();
        drop(database);
        let store = Store::open("s", &path, tree(&path).unwrap()).unwrap();
        let sealed = take(&store, &Folder::open(&path).unwrap()).unwrap();
        assert_eq!(sealed.files, store.tree().lasting);
        assert_eq!(sealed.folders, [("a".to_owned(), 1), ("b'".to_owned(), 2)].into());
        assert_eq!(difference_opened(&store, &sealed).unwrap(), None);
        let differs = |folders: &[(&str, u64)]| {
            let folders = folders.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
            difference_opened(&store, &Inventory { folders, ..sealed.clone() }).unwrap()
        };
        assert_eq!(
            differs(&[("a", 1), ("b'", 2), ("c'", 3)]).as_deref(),
            Some("keyspace 'c\\'' in folder 3 is gone")
        );
        assert_eq!(differs(&[("a", 1)]).as_deref(), Some("keyspace 'b\\'' was not there"));
        assert_eq!(
            differs(&[("a", 1), ("b'", 3)]).as_deref(),
            Some("keyspace 'b\\'' in folder 3 is gone")
        );
    }
}
