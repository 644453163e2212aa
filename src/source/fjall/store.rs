//! Reading a store through fjall, writing as little as fjall allows.

use super::errors;
use super::inventory::{self, Tree};
use crate::disk::lock::holder_of;
use crate::disk::owner::as_owner_of;
use crate::disk::walk::SHARED;
use crate::error::denied::{denied_within, own_uid, user};
use crate::error::{Cause, advice};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A store that is open for reading alone: nothing is flushed or compacted.
pub(crate) struct Store {
    // First, so that it is closed while its folder is still open.
    database: Database,
    path: PathBuf,
    folder: File,
    /// Where it is not, it was opened by its name.
    is_opened_by_folder: bool,
    /// What lay in its folder.
    tree: Tree,
}

/// A pair is written, and its place in a B-tree is chosen, by what the first ones of its keyspace
/// are like.
const SAMPLE_PAIRS: usize = 1_000;
const SAMPLE_BYTES: usize = 1024 * 1024;

/// Keys that are counted between two questions whether to stop: some milliseconds.
const COUNTED_AT_ONCE: u64 = 4_096;

/// Pairs, and bytes of them, that are read before they are visited.
const READ_AT_ONCE: usize = 128;
const READ_BYTES_AT_ONCE: usize = 256 * 1024;

/// What visits the pairs of a keyspace.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, Cause> + 'a;

impl Store {
    /// Opens the store of source `name` at `path`, in whose folder `tree` was found just now. It is
    /// never created. It is opened by its folder and not by the folder's name: when the folder is given
    /// another name, the store is read on, and its journals, which may be long, need not be replayed
    /// once more.
    ///
    /// fjall itself may cut a torn tail off a journal, as every open does.
    pub(crate) fn open(name: &str, path: &Path, tree: Tree) -> Result<Self, Cause> {
        let folder = crate::disk::open(path).map_err(Cause::io("open", path))?;
        super::second_lock::check_native(name, path)?;
        check_layout(name, path)?;
        check_whole(name, path, &tree)?;
        check_owners(name, path, &folder, &tree)?;
        // Where /proc is not mounted it is opened by its name, and can't be read on.
        let by_folder = by_descriptor(&folder);
        let is_opened_by_folder = is_same(&by_folder, &folder);
        let opened = if is_opened_by_folder { &by_folder } else { path };
        // Without workers nothing is flushed or compacted: reading leaves the store's files alone.
        let open = || Database::builder(opened).worker_threads_unchecked(0).open();
        let database = as_owner_of(&folder, path, || guarded("open", path, open))?
            .map_err(|cause| busy_or(cause, name, path))?;
        Ok(Self { database, path: path.to_owned(), folder, is_opened_by_folder, tree })
    }

    /// What lay in its folder when it was opened; in one that preflight returns, what was made durable
    /// there.
    pub(crate) const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Makes all of it durable, as [`inventory::sync`] does, and remembers what that is.
    pub(crate) fn sync(&mut self) -> Result<(), Cause> {
        self.tree = inventory::sync(&self.path)?;
        Ok(())
    }

    /// Whether it was opened by the folder that stands at `path` now.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        self.is_opened_by_folder && is_same(path, &self.folder)
    }

    /// Has fjall do something with the store, with the rights of the store's owner: it opens files when
    /// it first reads them, and keeps them open.
    fn guarded<T>(
        &self,
        what: &'static str,
        call: impl FnOnce() -> fjall::Result<T>,
    ) -> Result<T, Cause> {
        as_owner_of(&self.folder, &self.path, || guarded(what, &self.path, call))?
    }

    /// The names of its keyspaces, sorted.
    pub(crate) fn keyspaces(&self) -> Vec<String> {
        let names = self.database.list_keyspace_names();
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    /// Its keyspaces, each with the number of its folder.
    pub(crate) fn folders(&self) -> Result<BTreeMap<String, u64>, Cause> {
        let mut folders = BTreeMap::new();
        for name in self.keyspaces() {
            let Some(keyspace) = self.keyspace(&name)? else { continue };
            let number =
                keyspace.path().file_name().and_then(|folder| folder.to_str()?.parse().ok());
            let number = number.ok_or_else(|| Cause::NotAStore {
                name: name.clone(),
                path: self.path.clone(),
                reason: format!(
                    "the folder of a keyspace, {}, has no number; move it away",
                    keyspace.path().display()
                ),
            })?;
            folders.insert(name, number);
        }
        Ok(folders)
    }

    /// fjall's estimate of the pairs in a keyspace; none where there is no such keyspace.
    pub(crate) fn approximate_pairs(&self, keyspace: &str) -> Result<Option<u64>, Cause> {
        let Some(keyspace) = self.keyspace(keyspace)? else { return Ok(None) };
        self.guarded("count", || Ok(Some(keyspace.approximate_len() as u64)))
    }

    /// How many bytes of key and value a pair of a keyspace has, by its first ones; none where there is
    /// none.
    pub(crate) fn sampled_pair_bytes(&self, keyspace: &str) -> Result<Option<usize>, Cause> {
        let (mut pairs, mut bytes) = (0, 0);
        self.visit(keyspace, None, &mut |key, value| {
            pairs += 1;
            bytes += key.len() + value.len();
            Ok(pairs < SAMPLE_PAIRS && bytes < SAMPLE_BYTES)
        })?;
        Ok(bytes.checked_div(pairs))
    }

    /// Visits the pairs of a keyspace in the order of their keys, from after `after` on, until
    /// `visit` returns false. Returns whether it came to the end; a keyspace that does not exist
    /// has none.
    pub(crate) fn visit(
        &self,
        keyspace: &str,
        after: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<bool, Cause> {
        use std::ops::Bound;
        let Some(keyspace) = self.keyspace(keyspace)? else { return Ok(true) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut pairs =
            self.guarded("read", || Ok(keyspace.range::<&[u8], _>((from, Bound::Unbounded))))?;
        loop {
            // Taking another user's rights for each pair would take longer than reading it.
            let (read, is_end) = self.guarded("read", || {
                let (mut read, mut bytes) = (Vec::new(), 0);
                while read.len() < READ_AT_ONCE && bytes < READ_BYTES_AT_ONCE {
                    let Some(pair) = pairs.next() else { return Ok((read, true)) };
                    let (key, value) = pair.into_inner()?;
                    bytes += key.len() + value.len();
                    read.push((key, value));
                }
                Ok((read, false))
            })?;
            for (key, value) in &read {
                if !visit(key, value)? {
                    return Ok(false);
                }
            }
            if is_end {
                return Ok(true);
            }
        }
    }

    /// How many pairs a keyspace has: by a walk of its own over all keys, from the first on. None once
    /// `stop` says so; a keyspace that does not exist has no pairs.
    pub(crate) fn count(
        &self,
        keyspace: &str,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<u64>, Cause> {
        let Some(keyspace) = self.keyspace(keyspace)? else { return Ok(Some(0)) };
        let mut keys = self.guarded("count", || Ok(keyspace.iter()))?;
        let mut counted = 0_u64;
        loop {
            let walked = self.guarded("count", || {
                for walked in 0..COUNTED_AT_ONCE {
                    match keys.next() {
                        Some(key) => drop(key.key()?),
                        None => return Ok(walked),
                    }
                }
                Ok(COUNTED_AT_ONCE)
            })?;
            counted = counted.saturating_add(walked);
            if walked < COUNTED_AT_ONCE {
                return Ok(Some(counted));
            }
            if stop() {
                return Ok(None);
            }
        }
    }

    /// A keyspace that exists: fjall would create any other (I-8).
    fn keyspace(&self, name: &str) -> Result<Option<Keyspace>, Cause> {
        if !self.database.keyspace_exists(name) {
            return Ok(None);
        }
        self.guarded("open a keyspace of", || {
            self.database.keyspace(name, KeyspaceCreateOptions::default).map(Some)
        })
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

fn by_descriptor(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

fn is_same(path: &Path, folder: &File) -> bool {
    let inode = |metadata: std::io::Result<fs::Metadata>| {
        metadata.ok().map(|metadata| (metadata.dev(), metadata.ino()))
    };
    let found = inode(fs::metadata(path));
    found.is_some() && found == inode(folder.metadata())
}

/// Refuses, where root opens it as root, a store in which others could put a link in the way of fjall,
/// which opens by path.
fn check_owners(name: &str, path: &Path, folder: &File, tree: &Tree) -> Result<(), Cause> {
    let found = folder.metadata().map_err(Cause::io("look at", path))?;
    if own_uid() != 0 || found.uid() != 0 {
        return Ok(());
    }
    let refused = |place: PathBuf, reason: String, next: String| {
        Err(Cause::StoreShared {
            name: name.to_owned(),
            path: path.to_owned(),
            place,
            reason,
            next,
        })
    };
    let give = "give all of it to the user who runs the daemon (chown -R)";
    if let Some((uid, place)) = tree.owners.iter().find(|(uid, _)| **uid != 0) {
        let reason = format!("belongs to {}, and the store's folder to {}", user(*uid), user(0));
        return refused(path.join(place), reason, give.to_owned());
    }
    let shared = (found.mode() & SHARED != 0).then(|| path.to_owned());
    match shared.or_else(|| tree.shared.as_ref().map(|place| path.join(place))) {
        Some(place) => {
            let next = format!("take that right away (chmod -R go-w), or {give}");
            refused(place, "is root's, and others may write it".to_owned(), next)
        }
        None => Ok(()),
    }
}

/// Opens a store as a daemon does. It is never created.
pub(crate) fn open_native(name: &str, path: &Path) -> Result<Database, Cause> {
    super::second_lock::check_native(name, path)?;
    check_layout(name, path)?;
    guarded("open", path, || Database::builder(path).open())
        .map_err(|cause| busy_or(cause, name, path))
}

/// fjall panics where it does not expect what it finds; that is no reason for us to.
fn guarded<T>(
    what: &'static str,
    path: &Path,
    call: impl FnOnce() -> fjall::Result<T>,
) -> Result<T, Cause> {
    let failed = |message: String, next| Cause::Engine {
        engine: "fjall",
        what,
        path: path.to_owned(),
        message,
        next,
    };
    let damaged = |reason| Cause::StoreDamaged { what, path: path.to_owned(), reason };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(fjall::Error::Locked)) => Err(failed(LOCKED.to_owned(), "")),
        Ok(Err(error))
            if advice::io_within(&error).is_some_and(|io| io.kind() == ErrorKind::PermissionDenied)
                && let Some(denied) = denied_within(what, path) =>
        {
            Err(denied)
        }
        Ok(Err(error)) => Err(match (errors::damage(&error), advice::io_within(&error)) {
            (Some(reason), _) => {
                tracing::warn!(path = %path.display(), %error, "a damaged store");
                damaged(reason)
            }
            (None, Some(io)) => failed(
                io.to_string(),
                advice::within(&error, path).unwrap_or("the store itself does not open or read; open it with the program that wrote it, or restore it from a backup"),
            ),
            (None, None) => failed(
                errors::told(&error),
                "open it with the program that wrote it, and run this again",
            ),
        }),
        Err(_) => Err(damaged("its files are not as it expects them".to_owned())),
    }
}

const LOCKED: &str = "it is locked";

fn busy_or(cause: Cause, name: &str, path: &Path) -> Cause {
    match cause {
        Cause::Engine { message, .. } if message == LOCKED => Cause::SourceBusy {
            name: name.to_owned(),
            path: path.to_owned(),
            holder: holder_of(&path.join("lock")),
        },
        other => other,
    }
}

/// Refuses what fjall is known to panic at: journals that are no regular files, and folders of
/// keyspaces that have no number.
fn check_layout(name: &str, path: &Path) -> Result<(), Cause> {
    let refuse = |entry: &Path| {
        Err(Cause::NotAStore {
            name: name.to_owned(),
            path: path.to_owned(),
            reason: format!(
                "{} does not belong in a store; correct the path, or find out what it is and keep it elsewhere",
                entry.display()
            ),
        })
    };
    let list = |folder: &Path| -> Result<Vec<fs::DirEntry>, Cause> {
        fs::read_dir(folder).and_then(Iterator::collect).map_err(Cause::io("list", folder))
    };
    for entry in list(path)? {
        let is_journal = entry.path().extension().is_some_and(|ending| ending == "jnl");
        let kind = entry.file_type().map_err(Cause::io("look at", &entry.path()))?;
        if is_journal && !kind.is_file() {
            return refuse(&entry.path());
        }
    }
    let keyspaces = path.join("keyspaces");
    if crate::disk::metadata(&keyspaces)?.is_none() {
        return Err(Cause::NotAStore {
            name: name.to_owned(),
            path: path.to_owned(),
            reason: "it has no folder 'keyspaces'; restore it from a backup".to_owned(),
        });
    }
    for entry in list(&keyspaces)? {
        let kind = entry.file_type().map_err(Cause::io("look at", &entry.path()))?;
        let numbered = entry.file_name().to_str().is_some_and(|name| name.parse::<u64>().is_ok());
        if !kind.is_file() && !numbered {
            return refuse(&entry.path());
        }
    }
    Ok(())
}

/// Refuses a store that lacks what every store has and fjall makes anew without a word: it creates a
/// journal where there is none, and deletes each keyspace whose `current` is gone, or which a new
/// `keyspaces/0` does not name.
fn check_whole(name: &str, path: &Path, tree: &Tree) -> Result<(), Cause> {
    let lacks = |what: String| {
        Err(Cause::NotAStore {
            name: name.to_owned(),
            path: path.to_owned(),
            reason: format!(
                "{what}, so a part of it is missing; restore it from a backup that is whole"
            ),
        })
    };
    if !tree.lasting.keys().any(|file| inventory::is_journal(file)) {
        return lacks("it has no journal (a file 1.jnl or the like)".to_owned());
    }
    if !tree.lasting.contains_key("keyspaces/0/current") {
        return lacks("it has no file keyspaces/0/current".to_owned());
    }
    for file in tree.lasting.keys() {
        if let ["keyspaces", id, "tables" | "blobs", _] = file.split('/').collect::<Vec<_>>()[..] {
            let current = format!("keyspaces/{id}/current");
            if !tree.lasting.contains_key(&current) {
                return lacks(format!("it has {file} and no file {current}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};

    const EVE: u32 = 1999;

    fn give(path: &Path, uid: u32) {
        chown(path, Some(uid), Some(uid)).expect("these tests need root");
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                give(&entry.unwrap().path(), uid);
            }
        }
    }

    /// A store at `path` whose keyspace `k` has a table and nothing in its journal.
    fn with_a_table(path: &Path) {
        let database = Database::builder(path).open().unwrap();
        let keyspace = database.keyspace("k", KeyspaceCreateOptions::default).unwrap();
        let mut ingestion = keyspace.start_ingestion().unwrap();
        (0..200_u8).for_each(|number| ingestion.write([number], [7; 96]).unwrap());
        ingestion.finish().unwrap();
    }

    /// Root sampled a keyspace before it was copied, and the table that it opened was then read on.
    #[test]
    fn root_reads_no_file_of_another_user_s_store_that_this_user_may_not_read() {
        type Read = fn(&Store) -> Result<(), Cause>;
        let read: [(&str, Read); 3] = [
            ("sample", |store| store.sampled_pair_bytes("k").map(drop)),
            ("visit", |store| store.visit("k", None, &mut |_, _| Ok(true)).map(drop)),
            ("count", |store| store.count("k", &|| false).map(drop)),
        ];
        for (name, read) in read {
            let root = tempfile::tempdir().unwrap();
            fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
            let path = root.path().canonicalize().unwrap().join("s");
            with_a_table(&path);
            give(&path, EVE);
            let store = Store::open("s", &path, inventory::tree(&path).unwrap()).unwrap();
            let tables = path.join("keyspaces/1/tables");
            let table = fs::read_dir(tables).unwrap().next().unwrap().unwrap().path();
            let moved = root.path().join("moved");
            fs::rename(&table, &moved).unwrap();
            chown(&moved, Some(0), Some(0)).unwrap();
            fs::set_permissions(&moved, fs::Permissions::from_mode(0o600)).unwrap();
            std::os::unix::fs::symlink(&moved, &table).unwrap();
            let refused = read(&store).expect_err(name);
            assert!(matches!(refused, Cause::Denied { .. } | Cause::Engine { .. }), "{refused:?}");
        }
    }

    #[test]
    fn root_opens_no_store_in_which_others_may_put_a_link_in_its_way() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().canonicalize().unwrap().join("s");
        with_a_table(&path);
        let open = || Store::open("s", &path, inventory::tree(&path).unwrap()).map(drop);
        open().unwrap();
        let refused = |place: &Path, words: &str| {
            let Err(Cause::StoreShared { place: found, reason, .. }) = open() else { panic!() };
            assert_eq!(found, *place);
            assert!(reason.contains(words), "{reason}");
        };
        for shared in [path.clone(), path.join("keyspaces/1/tables")] {
            fs::set_permissions(&shared, fs::Permissions::from_mode(0o775)).unwrap();
            refused(&shared, "others may write it");
            fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // The folder is root's, and what is in it another's.
        chown(path.join("lock"), Some(EVE), Some(EVE)).unwrap();
        refused(
            &path.join("lock"),
            "belongs to user 1999, and the store's folder to user 0 (root)",
        );
        // A folder of the user's is opened as that user.
        give(&path, EVE);
        chown(path.join("version"), Some(0), Some(0)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o775)).unwrap();
        open().unwrap();
    }

    /// The tables of a store are opened when they are read, by their paths.
    #[test]
    fn a_store_that_was_opened_by_its_folder_is_read_on_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let database = Database::builder(&old).open().unwrap();
        let keyspace = database.keyspace("k", KeyspaceCreateOptions::default).unwrap();
        let mut ingestion = keyspace.start_ingestion().unwrap();
        for number in 0..2_000_u32 {
            ingestion.write(number.to_be_bytes(), [7; 96]).unwrap();
        }
        ingestion.finish().unwrap();
        drop((keyspace, database));

        let store = Store::open("s", &old, inventory::tree(&old).unwrap()).unwrap();
        assert!(store.is_at(&old) && !store.is_at(&new));
        fs::rename(&old, &new).unwrap();
        fs::write(&old, "a marker").unwrap();
        assert!(store.is_at(&new) && !store.is_at(&old));
        assert_eq!(store.sampled_pair_bytes("k").unwrap(), Some(100));
        assert_eq!(store.sampled_pair_bytes("no such").unwrap(), None);
        let mut pairs = 0;
        store
            .visit("k", None, &mut |_, _| {
                pairs += 1;
                Ok(true)
            })
            .unwrap();
        assert_eq!(pairs, 2_000);
        // It has fjall's own lock as long as it is open.
        let open = || Store::open("s", &new, inventory::tree(&new).unwrap());
        assert!(matches!(open(), Err(Cause::SourceBusy { .. })));
        drop(store);
        open().unwrap();
    }

    fn store_of(pairs: u32, value_bytes: usize) -> (tempfile::TempDir, PathBuf) {
        store_with(pairs, &|_| value_bytes)
    }

    fn store_with(pairs: u32, bytes: &dyn Fn(u32) -> usize) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("s");
        let database = Database::builder(&path).open().unwrap();
        let keyspace = database.keyspace("k", KeyspaceCreateOptions::default).unwrap();
        let mut ingestion = keyspace.start_ingestion().unwrap();
        for number in 0..pairs {
            ingestion.write(number.to_be_bytes(), vec![7; bytes(number)]).unwrap();
        }
        ingestion.finish().unwrap();
        (folder, path)
    }

    fn opened(path: &Path) -> Result<Store, Cause> {
        Store::open("s", path, inventory::tree(path).unwrap())
    }

    #[test]
    fn i2_the_keys_are_counted_over_the_whole_of_a_keyspace_whatever_is_counted_at_once() {
        let at_once = u32::try_from(COUNTED_AT_ONCE).unwrap();
        for pairs in [1, at_once - 1, at_once, at_once + 1, 2 * at_once, 2 * at_once + 1] {
            let (_folder, path) = store_of(pairs, 0);
            let store = opened(&path).unwrap();
            assert_eq!(store.count("k", &|| false).unwrap(), Some(u64::from(pairs)));
            assert_eq!(store.approximate_pairs("k").unwrap(), Some(u64::from(pairs)));
            let stopped = store.count("k", &|| true).unwrap();
            assert_eq!(stopped, (pairs < at_once).then(|| u64::from(pairs)), "{pairs}");
        }
        let (_folder, path) = store_of(1, 0);
        let store = opened(&path).unwrap();
        assert_eq!(store.count("no such", &|| true).unwrap(), Some(0));
        assert_eq!(store.approximate_pairs("no such").unwrap(), None);
        assert_eq!(store.keyspaces(), ["k"]);
        assert_eq!(store.folders().unwrap(), [("k".to_owned(), 1)].into());
    }

    /// A keyspace whose later pairs are like none of its first ones must not be read to its end.
    #[test]
    fn the_sample_ends_with_so_many_pairs_or_so_many_bytes() {
        let large = SAMPLE_BYTES / 8 - 4;
        for (first, value, then, sampled) in [
            (3, 96, 96, 100),
            (1, 96, 6, 19),
            (u32::try_from(SAMPLE_PAIRS).unwrap(), 6, 100_000, 10),
            (8, large, 6, SAMPLE_BYTES / 8),
        ] {
            let bytes = |number: u32| if number < first { value } else { then };
            let (_folder, path) = store_with(first + 9, &bytes);
            assert_eq!(opened(&path).unwrap().sampled_pair_bytes("k").unwrap(), Some(sampled));
        }
    }

    #[test]
    fn i2_i3_a_store_that_lacks_what_fjall_makes_anew_or_has_what_it_panics_at_is_refused() {
        type Change = fn(&Path);
        let changes: [(Change, &str); 8] = [
            (
                |path| fs::remove_dir_all(path.join("keyspaces")).unwrap(),
                "it has no folder 'keyspaces'",
            ),
            (
                |path| {
                    for entry in fs::read_dir(path).unwrap() {
                        let entry = entry.unwrap().path();
                        if entry.extension().is_some_and(|end| end == "jnl") {
                            fs::remove_file(entry).unwrap();
                        }
                    }
                },
                "it has no journal",
            ),
            (
                |path| fs::remove_file(path.join("keyspaces/0/current")).unwrap(),
                "it has no file keyspaces/0/current",
            ),
            (
                |path| fs::remove_file(path.join("keyspaces/1/current")).unwrap(),
                "and no file keyspaces/1/current",
            ),
            (
                |path| fs::create_dir(path.join("99.jnl")).unwrap(),
                "99.jnl does not belong in a store",
            ),
            (
                |path| fs::create_dir(path.join("keyspaces/mine")).unwrap(),
                "keyspaces/mine does not belong in a store",
            ),
            (|path| fs::write(path.join("version"), "FJL\x02").unwrap(), "fjall's older format 2"),
            (|path| fs::write(path.join("version"), "").unwrap(), "its version file is empty"),
        ];
        for (change, words) in changes {
            let (_folder, path) = store_of(3, 3);
            change(&path);
            let Err(refused) = opened(&path) else { panic!("{words}") };
            assert!(matches!(refused, Cause::NotAStore { .. }), "{refused}");
            assert!(refused.to_string().contains(words), "{refused}");
        }
        // A file among the keyspaces' folders is foreign, and no reason.
        let (_folder, path) = store_of(3, 3);
        fs::write(path.join("keyspaces/mine"), "it").unwrap();
        fs::write(path.join("mine.jnl.bak"), "it").unwrap();
        opened(&path).unwrap();
    }

    #[test]
    fn a_store_that_is_open_is_busy_and_one_that_is_broken_is_not() {
        let (_folder, path) = store_of(3, 3);
        let daemon = open_native("s", &path).unwrap();
        assert!(matches!(opened(&path), Err(Cause::SourceBusy { .. })));
        drop(daemon);
        fs::write(path.join("keyspaces/1/current"), "no such thing").unwrap();
        let Err(broken) = opened(&path) else { panic!("it opened") };
        assert!(matches!(broken, Cause::Engine { .. }), "{broken}");
    }
}
