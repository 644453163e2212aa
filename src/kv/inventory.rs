//! The files below a store's folder: which are the engine's own, and which are not. Both are decided
//! here alone. Every folder is entered by its descriptor, and no link is followed.

use super::store::Store;
use crate::error::Cause;
use crate::fault;
use crate::protocol::marker::Inventory;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// fjall's own folders are 3 deep. Each folder on the way takes a descriptor and a part of the stack.
const FOLDERS_DEEP_MAX: usize = 64;

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
    /// What is neither the engine's nor cutover's: the path below the store's folder, a folder with
    /// `/` at its end and without what is in it.
    pub(crate) foreign: Vec<String>,
    /// The newest version file of each keyspace's folder.
    pub(crate) versions: BTreeMap<String, u64>,
    /// The first that is not simply a part of the folder, and what it is instead.
    pub(crate) scattered: Option<(String, &'static str)>,
}

/// What was deleted of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
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

/// Looks at everything below the store's `folder`, which stands at `path`. What vanishes meanwhile is
/// left out.
pub(crate) fn tree(folder: &impl AsFd, path: &Path) -> Result<Tree, Cause> {
    let mut tree = Tree::default();
    let device =
        device(&look_at(folder, OsStr::new("")).map_err(Cause::io_rustix("look at", path))?);
    tree.visit(folder, path, &[], true, device)?;
    tree.foreign.sort();
    Ok(tree)
}

/// The same of the store's folder at `path`.
pub(crate) fn tree_at(path: &Path) -> Result<Tree, Cause> {
    tree(&crate::disk::open(path).map_err(Cause::io("open", path))?, path)
}

impl Tree {
    fn note_version(&mut self, path: &[&str]) {
        if let ["keyspaces", id, name] = path
            && let Some(number) = name.strip_prefix('v').and_then(|number| number.parse().ok())
        {
            let newest = self.versions.entry((*id).to_owned()).or_insert(number);
            *newest = number.max(*newest);
        }
    }

    fn visit(
        &mut self,
        folder: &impl AsFd,
        path: &Path,
        above: &[&str],
        is_own: bool,
        own_device: (u32, u32),
    ) -> Result<(), Cause> {
        for name in names(folder, path)? {
            let place = path.join(OsStr::from_bytes(&name));
            let found = match look_at(folder, OsStr::from_bytes(&name)) {
                Err(Errno::NOENT) => continue,
                found => found.map_err(Cause::io_rustix("look at", &place))?,
            };
            let lossy = String::from_utf8_lossy(&name);
            let mut at = above.to_vec();
            at.push(&lossy);
            let relative = at.join("/");
            let kind = FileType::from_raw_mode(found.stx_mode.into());
            let what = scattered(&found, kind, own_device);
            if let Some(what) = what {
                self.scattered.get_or_insert_with(|| (relative.clone(), what));
            }
            if kind != FileType::Directory {
                match owner(&at) {
                    Owner::Lasting if what.is_none() => {
                        self.lasting.insert(relative, found.stx_size);
                    }
                    Owner::Passing if what.is_none() => self.note_version(&at),
                    Owner::Lasting | Owner::Passing | Owner::Foreign if is_own => {
                        self.foreign.push(relative);
                    }
                    Owner::Lasting | Owner::Passing | Owner::Foreign => {}
                }
                continue;
            }
            let is_own_below = is_own && what.is_none() && is_own_folder(&at);
            if is_own && !is_own_below {
                self.foreign.push(format!("{relative}/"));
            }
            if what.is_some() {
                continue;
            }
            if at.len() >= FOLDERS_DEEP_MAX {
                self.scattered.get_or_insert((relative, "a folder that is too deep to look into"));
                continue;
            }
            match enter(folder, &name) {
                // Gone, or something else by now.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                below => {
                    let below = below.map_err(Cause::io_rustix("open", &place))?;
                    self.visit(&below, &place, &at, is_own_below, own_device)?;
                }
            }
        }
        Ok(())
    }
}

/// What the open store holds, whose `folder` stands at `path`. Its journals are read.
pub(crate) fn take(store: &Store, folder: &impl AsFd, path: &Path) -> Result<Inventory, Cause> {
    let files = tree(folder, path)?.lasting;
    let journals = digest_journals(folder, path, &files)?;
    Ok(Inventory { folders: store.folders()?, files, journals })
}

/// How the store's folder at `path` differs from what was sealed there, in words; none where it does
/// not. Without `journals` these are not read, and only their lengths are compared.
pub(crate) fn difference(
    path: &Path,
    sealed: &Inventory,
    journals: bool,
) -> Result<Option<String>, Cause> {
    let folder = crate::disk::open(path).map_err(Cause::io("open", path))?;
    let found = tree(&folder, path)?.lasting;
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
    if differences.is_empty()
        && journals
        && digest_journals(&folder, path, &found)? != sealed.journals
    {
        differences.push("its journals hold something else".to_owned());
    }
    Ok(listed(differences))
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
fn digest_journals(
    folder: &impl AsFd,
    path: &Path,
    files: &BTreeMap<String, u64>,
) -> Result<String, Cause> {
    let mut digest = xxhash_rust::xxh3::Xxh3Default::new();
    let mut buffer = vec![0; READ_BYTES];
    for name in files.keys().filter(|file| is_journal(file)) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(folder, name.as_str(), flags, Mode::empty());
        let mut journal = File::from(opened.map_err(Cause::io_rustix("open", &path.join(name)))?);
        loop {
            let length = journal.read(&mut buffer).map_err(Cause::io("read", &path.join(name)))?;
            let Some(read @ [_, ..]) = buffer.get(..length) else { break };
            digest.update(read);
        }
    }
    Ok(format!("{:032x}", digest.digest128()))
}

/// What an entry is, if a store can't be sealed with it: a mount does not go along with its folder
/// where that is mounted anew, and where a link leads nobody has synced or locked.
fn scattered(found: &Statx, kind: FileType, own_device: (u32, u32)) -> Option<&'static str> {
    match kind {
        FileType::Symlink => Some("a symbolic link"),
        FileType::Directory if device(found) != own_device => Some("on a device of its own"),
        // An overlay may show a file with the device of its layer.
        FileType::Directory | FileType::RegularFile => {
            is_mount_root(found).then_some("a mount of its own")
        }
        _ => Some("neither a file nor a folder"),
    }
}

/// Deletes the engine's own files below the store's `folder`, which stands at `path`, and then those
/// of its own folders that are empty, but not `folder` itself. It enters no mount and follows no
/// link. Nothing of it is durable before the folders are synced, which the caller does; when it fails,
/// or is killed, a part may be left.
pub(crate) fn delete(folder: &impl AsFd, path: &Path) -> Result<Deleted, Cause> {
    let mut deleted = Deleted::default();
    let own = device(&look_at(folder, OsStr::new("")).map_err(Cause::io_rustix("look at", path))?);
    deleted.visit(folder, path, &[], own)?;
    deleted.rest.sort();
    Ok(deleted)
}

impl Deleted {
    fn visit(
        &mut self,
        folder: &impl AsFd,
        path: &Path,
        above: &[&str],
        own_device: (u32, u32),
    ) -> Result<(), Cause> {
        for name in names(folder, path)? {
            let place = path.join(OsStr::from_bytes(&name));
            let found = match look_at(folder, OsStr::from_bytes(&name)) {
                Err(Errno::NOENT) => continue,
                found => found.map_err(Cause::io_rustix("look at", &place))?,
            };
            let lossy = String::from_utf8_lossy(&name);
            let mut at = above.to_vec();
            at.push(&lossy);
            let kind = FileType::from_raw_mode(found.stx_mode.into());
            let is_part = scattered(&found, kind, own_device).is_none();
            let is_folder = kind == FileType::Directory;
            let removed = if is_part && is_folder && is_own_folder(&at) {
                let below = enter(folder, &name).map_err(Cause::io_rustix("open", &place))?;
                let before = self.rest.len();
                self.visit(&below, &place, &at, own_device)?;
                if self.rest.len() > before {
                    // What is left says itself where it is.
                    continue;
                }
                rustix::fs::unlinkat(folder, name.as_slice(), AtFlags::REMOVEDIR)
            } else if is_part && !is_folder && owner(&at) != Owner::Foreign {
                // `st_blocks` counts 512 bytes whatever the file system's block is.
                let held = found.stx_size.min(found.stx_blocks * 512);
                let removed = rustix::fs::unlinkat(folder, name.as_slice(), AtFlags::empty());
                self.bytes += if removed.is_ok() { held } else { 0 };
                removed
            } else {
                self.rest.push(at.join("/") + if is_folder { "/" } else { "" });
                continue;
            };
            match removed {
                Err(Errno::NOENT) => {}
                // Somebody has put something into it just now.
                Err(Errno::NOTEMPTY) => self.rest.push(at.join("/") + "/"),
                removed => removed
                    .map_err(std::io::Error::from)
                    .and_then(|()| fault::point("removed"))
                    .map_err(Cause::io("remove", &place))?,
            }
        }
        Ok(())
    }
}

/// The names in a folder, in an order that does not depend on the file system.
fn names(folder: &impl AsFd, path: &Path) -> Result<Vec<Vec<u8>>, Cause> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder).map_err(Cause::io_rustix("list", path))? {
        let entry = entry.map_err(Cause::io_rustix("list", path))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

fn enter(folder: &impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// Without a name, the folder itself.
fn look_at(folder: &impl AsFd, name: &OsStr) -> Result<Statx, Errno> {
    let empty = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    let flags = AtFlags::SYMLINK_NOFOLLOW | empty;
    rustix::fs::statx(folder, name, flags, StatxFlags::BASIC_STATS)
}

const fn device(found: &Statx) -> (u32, u32) {
    (found.stx_dev_major, found.stx_dev_minor)
}

fn is_mount_root(found: &Statx) -> bool {
    found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        && found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
}
