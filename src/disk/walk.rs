//! The one walk through all that is below a folder: what looks at it, makes it durable or deletes from
//! it is a visitor of this. Every folder is entered by its descriptor, and no link is followed.

use super::Folder;
use crate::error::Cause;
use crate::fault;
use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// fjall's own folders are 3 deep. Each folder on the way takes a descriptor and a part of the stack.
const FOLDERS_DEEP_MAX: usize = 64;

/// Syncs that are under way at once: a disk takes many flushes for one.
const SYNCS_AT_ONCE: usize = 16;

/// The bits of a mode that let others than the owner write.
pub(crate) const SHARED: u32 = 0o022;

/// What goes along with a walk.
pub(crate) trait Visitor {
    /// Comes upon an entry of a folder. Returns whether to enter it, which is asked of folders alone.
    fn meet(&mut self, entry: &Entry<'_>) -> Result<bool, Cause>;

    /// Has been through a folder that was entered, or through the one that the walk began at, which has
    /// no `entry`.
    fn leave(&mut self, folder: &Folder, entry: Option<&Entry<'_>>) -> Result<(), Cause>;
}

/// What stands at a name.
pub(crate) struct Entry<'a> {
    folder: &'a Folder,
    name: &'a OsStr,
    /// The names below the folder that the walk began at, as far as they are UTF-8; its own is last.
    pub(crate) at: &'a [&'a str],
    found: Statx,
    device: (u32, u32),
}

/// Walks through what is below `folder`, each folder's names in their order. What vanishes meanwhile
/// is left out; what becomes something else in the instant before it is entered is an error.
pub(crate) fn walk(folder: &Folder, visitor: &mut impl Visitor) -> Result<(), Cause> {
    let found =
        look_at(folder, OsStr::new("")).map_err(Cause::io_rustix("look at", &folder.path))?;
    walk_below(folder, &[], device(&found), visitor)?;
    visitor.leave(folder, None)
}

fn walk_below(
    folder: &Folder,
    above: &[&str],
    device: (u32, u32),
    visitor: &mut impl Visitor,
) -> Result<(), Cause> {
    for name in folder.names()? {
        let found = match look_at(folder, &name) {
            Err(Errno::NOENT) => continue,
            found => found.map_err(Cause::io_rustix("look at", &folder.path.join(&name)))?,
        };
        let lossy = name.to_string_lossy();
        let mut at = above.to_vec();
        at.push(&lossy);
        let entry = Entry { folder, name: &name, at: &at, found, device };
        if !visitor.meet(&entry)? || !entry.is_folder() {
            continue;
        }
        match folder.enter(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            below => {
                let below = below.map_err(Cause::io("open", &entry.place()))?;
                walk_below(&below, &at, device, visitor)?;
                visitor.leave(&below, Some(&entry))?;
            }
        }
    }
    Ok(())
}

impl Entry<'_> {
    /// The path below the folder that the walk began at; a folder's ends with `/`.
    pub(crate) fn relative(&self) -> String {
        self.at.join("/") + if self.is_folder() { "/" } else { "" }
    }

    fn place(&self) -> PathBuf {
        self.folder.path.join(self.name)
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.found.stx_mode.into())
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Whose it is.
    pub(crate) const fn uid(&self) -> u32 {
        self.found.stx_uid
    }

    /// Whether others than its owner may write it.
    pub(crate) fn is_shared(&self) -> bool {
        u32::from(self.found.stx_mode) & SHARED != 0
    }

    /// Its length.
    pub(crate) const fn bytes(&self) -> u64 {
        self.found.stx_size
    }

    /// The bytes that the disk holds for it, at most its length.
    pub(crate) fn held_bytes(&self) -> u64 {
        // `stx_blocks` counts 512 bytes whatever the file system's block is.
        self.found.stx_size.min(self.found.stx_blocks.saturating_mul(512))
    }

    /// What it is instead, if it is not simply a file or a folder of the tree: a mount does not go
    /// along with its folder where that is mounted anew, and where a link leads nobody has synced or
    /// locked.
    pub(crate) fn scattered(&self) -> Option<&'static str> {
        match self.kind() {
            FileType::Symlink => Some("a symbolic link"),
            FileType::Directory if device(&self.found) != self.device => {
                Some("on a device of its own")
            }
            // An overlay may show a file with the device of its layer.
            FileType::Directory | FileType::RegularFile if self.is_mount_root() => {
                Some("a mount of its own")
            }
            FileType::Directory if self.at.len() >= FOLDERS_DEEP_MAX => {
                Some("a folder that is too deep to look into")
            }
            FileType::Directory | FileType::RegularFile => None,
            _ => Some("neither a file nor a folder"),
        }
    }

    fn is_mount_root(&self) -> bool {
        self.found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
            && self.found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    }

    /// Removes the file, or the folder if it is empty. Whether it was there, and is gone; not where
    /// somebody has put something into the folder. Nothing of it is durable.
    pub(crate) fn remove(&self) -> Result<Removed, Cause> {
        let flags = if self.is_folder() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(&self.folder.descriptor, self.name, flags) {
            Err(Errno::NOENT) => Ok(Removed::WasGone),
            Err(Errno::NOTEMPTY) => Ok(Removed::IsNotEmpty),
            removed => removed
                .map_err(io::Error::from)
                .and_then(|()| fault::point("removed"))
                .map(|()| Removed::Gone)
                .map_err(Cause::io("remove", &self.place())),
        }
    }
}

/// What became of an entry that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    Gone,
    WasGone,
    IsNotEmpty,
}

/// Without a name, the folder itself.
fn look_at(folder: &Folder, name: &OsStr) -> Result<Statx, Errno> {
    let empty = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::empty() };
    let flags = AtFlags::SYMLINK_NOFOLLOW | empty;
    rustix::fs::statx(&folder.descriptor, name, flags, StatxFlags::BASIC_STATS)
}

const fn device(found: &Statx) -> (u32, u32) {
    (found.stx_dev_major, found.stx_dev_minor)
}

/// Takes what is to be made durable.
#[derive(Debug)]
pub(crate) struct Syncs {
    queue: SyncSender<(OwnedFd, PathBuf)>,
}

impl Syncs {
    /// Hands a file over; what has vanished needs no sync.
    pub(crate) fn file(&self, entry: &Entry<'_>) -> Result<(), Cause> {
        match entry.folder.read(entry.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            file => {
                let file = file.map_err(Cause::io("open", &entry.place()))?;
                self.hand_over(file.into(), entry.place())
            }
        }
    }

    /// Hands a folder's names over.
    pub(crate) fn folder(&self, folder: &Folder) -> Result<(), Cause> {
        if fault::mistaken("folder") {
            return Ok(());
        }
        let readable = folder.readable().map_err(Cause::io("sync the folder", &folder.path))?;
        self.hand_over(readable, folder.path.clone())
    }

    fn hand_over(&self, descriptor: OwnedFd, path: PathBuf) -> Result<(), Cause> {
        fault::point("sync begun").map_err(Cause::io("sync", &path))?;
        let gone = |_| Cause::Bug("nobody takes what is to be synced".to_owned());
        self.queue.send((descriptor, path)).map_err(gone)
    }
}

/// Does `work` in the folder at `path`, and beside it the syncs that it hands over, several at once.
/// When it returns `Ok`, all of them are done; when it fails, any of them may not be.
pub(crate) fn syncing<T>(
    path: &Path,
    work: impl FnOnce(&Syncs) -> Result<T, Cause>,
) -> Result<T, Cause> {
    let (queue, waiting) = sync_channel(SYNCS_AT_ONCE);
    let (waiting, failed) = (Mutex::new(waiting), Mutex::new(None));
    let (taken_from, told_to) = (&waiting, &failed);
    let worked = thread::scope(move |scope| {
        for started in 0..SYNCS_AT_ONCE {
            let syncer = thread::Builder::new().name("cutover syncs".to_owned());
            match syncer.spawn_scoped(scope, || sync_each(taken_from, told_to)) {
                Err(error) if started == 0 => {
                    return Err(Cause::io("start a thread that syncs for", path)(error));
                }
                // Where there is no room for more of them, these do it all.
                Err(_) => break,
                Ok(_) => {}
            }
        }
        // The queue ends with the work, and with the queue the threads.
        work(&Syncs { queue })
    })?;
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(cause) => Err(cause),
        None => Ok(worked),
    }
}

/// Syncs what waits until nothing comes any more. The first that fails is reported.
fn sync_each(waiting: &Mutex<Receiver<(OwnedFd, PathBuf)>>, failed: &Mutex<Option<Cause>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((descriptor, path)) = next else { return };
        if let Err(cause) = rustix::fs::fsync(descriptor).map_err(Cause::io_rustix("sync", &path)) {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    /// Notes all that it comes upon and leaves, and enters each folder.
    #[derive(Default)]
    struct Noted(Vec<String>);

    impl Visitor for Noted {
        fn meet(&mut self, entry: &Entry<'_>) -> Result<bool, Cause> {
            self.0.push(entry.relative() + entry.scattered().unwrap_or_default());
            Ok(true)
        }

        fn leave(&mut self, _: &Folder, entry: Option<&Entry<'_>>) -> Result<(), Cause> {
            let left = entry.map_or_else(|| "the folder".to_owned(), Entry::relative);
            self.0.push(format!("left {left}"));
            Ok(())
        }
    }

    #[test]
    fn a_walk_comes_upon_each_name_once_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        fs::create_dir_all(at("tree/below/empty")).unwrap();
        fs::create_dir(at("victim")).unwrap();
        for file in ["tree/file", "tree/below/file", "victim/file"] {
            fs::write(at(file), "it").unwrap();
        }
        for (end, name) in [("../victim", "tree/link"), ("../../victim/file", "tree/below/link")] {
            std::os::unix::fs::symlink(end, at(name)).unwrap();
        }
        let mut noted = Noted::default();
        walk(&Folder::open(&at("tree")).unwrap(), &mut noted).unwrap();
        assert_eq!(
            noted.0,
            [
                "below/",
                "below/empty/",
                "left below/empty/",
                "below/file",
                "below/linka symbolic link",
                "left below/",
                "file",
                "linka symbolic link",
                "left the folder",
            ]
        );
    }

    #[test]
    fn i3_one_sync_that_fails_among_many_is_reported_once_all_are_done() {
        let folder = tempfile::tempdir().unwrap();
        let file = || OwnedFd::from(File::open(folder.path()).unwrap());
        let many = |bad: Option<usize>| {
            syncing(folder.path(), |syncs| {
                for number in 0..200 {
                    let (reader, _writer) = io::pipe().unwrap();
                    let descriptor = if bad == Some(number) { reader.into() } else { file() };
                    syncs.hand_over(descriptor, PathBuf::from(number.to_string()))?;
                }
                Ok(200)
            })
        };
        assert_eq!(many(None).unwrap(), 200);
        for bad in [0, 100, 199] {
            // A pipe can't be synced.
            let refused = many(Some(bad)).unwrap_err();
            let Cause::Io { path, source, .. } = &refused else { panic!("{refused}") };
            assert_eq!(*path, PathBuf::from(bad.to_string()));
            assert_eq!(source.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        }
        let stopped = syncing(folder.path(), |_| Err::<(), _>(Cause::Cancelled));
        assert!(matches!(stopped, Err(Cause::Cancelled)));
    }

    /// Puts something else in the place of what it comes upon, before that is entered or synced.
    struct Meanwhile<'a>(&'a Syncs, &'a dyn Fn(&Path));

    impl Visitor for Meanwhile<'_> {
        fn meet(&mut self, entry: &Entry<'_>) -> Result<bool, Cause> {
            (self.1)(&entry.place());
            if !entry.is_folder() {
                self.0.file(entry)?;
            }
            Ok(true)
        }

        fn leave(&mut self, _: &Folder, _: Option<&Entry<'_>>) -> Result<(), Cause> {
            Ok(())
        }
    }

    #[test]
    fn i3_what_vanishes_under_a_walk_is_left_out_and_what_is_swapped_stops_it() {
        let walked = |is_folder: bool, meanwhile: &dyn Fn(&Path)| {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().canonicalize().unwrap();
            let entry = path.join("entry");
            if is_folder {
                fs::create_dir(&entry).unwrap();
            } else {
                fs::write(&entry, "it").unwrap();
            }
            let folder = Folder::open(&path).unwrap();
            syncing(&path, |syncs| walk(&folder, &mut Meanwhile(syncs, meanwhile)))
        };
        let vanishes = |path: &Path| {
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        };
        let is_swapped = |path: &Path| {
            vanishes(path);
            std::os::unix::fs::symlink("/", path).unwrap();
        };
        for is_folder in [true, false] {
            walked(is_folder, &|_| {}).unwrap();
            walked(is_folder, &vanishes).unwrap();
            let refused = walked(is_folder, &is_swapped).unwrap_err();
            assert!(matches!(&refused, Cause::Io { what: "open", .. }), "{refused}");
        }
    }

    #[test]
    fn a_folder_as_deep_as_the_bound_is_not_looked_into() {
        let root = tempfile::tempdir().unwrap();
        let deep: PathBuf = std::iter::repeat_n("d", FOLDERS_DEEP_MAX).collect();
        fs::create_dir_all(root.path().join(deep)).unwrap();
        let mut noted = Noted::default();
        walk(&Folder::open(&root.path().canonicalize().unwrap()).unwrap(), &mut noted).unwrap();
        let (last, others) = noted.0.split_at(FOLDERS_DEEP_MAX);
        let (last, above) = last.split_last().unwrap();
        assert!(last.ends_with("d/a folder that is too deep to look into"), "{last}");
        assert!(above.iter().all(|noted| noted.ends_with("d/")), "{above:?}");
        assert!(others.iter().all(|noted| noted.starts_with("left ")));
    }
}
