//! Durable file operations: each says what is on disk when it returns.
//!
//! Another user may be able to write the folders that cutover works in. So nothing is made, opened,
//! given an owner, synced, renamed or removed through a symbolic link: every operation opens the
//! folder component by component, follows none, and works on the last name by the folder's descriptor.

pub(crate) mod held;
pub(crate) mod lock;
pub(crate) mod owner;
pub(crate) mod walk;

use crate::error::Cause;
use crate::fault;
use owner::Owner;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// A path with `suffix` added to its last name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The folder that holds `path`, an absolute path below the root.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// An open folder: what is done in it is done there, whatever stands at its path by then.
#[derive(Debug)]
pub(crate) struct Folder {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder at `path`, which is absolute. A symbolic link is followed nowhere on the way.
    pub(crate) fn open(path: &Path) -> Result<Self, Cause> {
        Self::walk(path).map_err(Cause::io("open", path))
    }

    /// An open folder that stands at `path`.
    pub(crate) fn of(open: &impl AsFd, path: &Path) -> Result<Self, Cause> {
        let descriptor = rustix::fs::openat(open, ".", FOLDER, Mode::empty());
        let descriptor = descriptor.map_err(Cause::io_rustix("open", path))?;
        Ok(Self { descriptor, path: path.to_owned() })
    }

    fn walk(path: &Path) -> io::Result<Self> {
        let root = rustix::fs::open("/", FOLDER, Mode::empty())?;
        let mut folder = Self { descriptor: root, path: PathBuf::from("/") };
        for component in path.components() {
            match component {
                Component::RootDir => {}
                Component::Normal(name) => folder = folder.enter(name)?,
                Component::Prefix(_) | Component::CurDir | Component::ParentDir => {
                    return Err(Errno::INVAL.into());
                }
            }
        }
        Ok(folder)
    }

    fn enter(&self, name: &OsStr) -> io::Result<Self> {
        let descriptor = rustix::fs::openat(&self.descriptor, name, FOLDER, Mode::empty());
        let descriptor = descriptor.map_err(|errno| match self.kind(name) {
            Ok(FileType::Symlink) => Errno::LOOP,
            Ok(_) | Err(_) => errno,
        })?;
        Ok(Self { descriptor, path: self.path.join(name) })
    }

    fn kind(&self, name: &OsStr) -> io::Result<FileType> {
        let stat = rustix::fs::statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    /// Where it stood when it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, sorted.
    fn names(&self) -> Result<Vec<OsString>, Cause> {
        let list = || -> io::Result<Vec<OsString>> {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::new(self.readable()?)? {
                let entry = entry?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(OsString::from_vec(name.to_vec()));
                }
            }
            names.sort();
            Ok(names)
        };
        list().map_err(Cause::io("list", &self.path))
    }

    fn readable(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.descriptor, ".", flags, Mode::empty())?)
    }

    /// Opens the file or folder `name` for reading. What is neither is not opened: a link is not
    /// followed, a FIFO is not waited for, a device is not touched.
    pub(crate) fn read(&self, name: &OsStr) -> io::Result<File> {
        let check = |kind| match kind {
            FileType::RegularFile | FileType::Directory => Ok(()),
            FileType::Symlink => Err(io::Error::from(Errno::LOOP)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        };
        check(self.kind(name)?)?;
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.descriptor, name, flags, Mode::empty())?;
        check(FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode))?;
        Ok(File::from(file))
    }

    /// Makes the names in it durable.
    pub(crate) fn sync(&self) -> Result<(), Cause> {
        if fault::mistaken("folder") {
            return Ok(());
        }
        self.readable()
            .and_then(|folder| Ok(rustix::fs::fsync(folder)?))
            .and_then(|()| fault::point("folder synced"))
            .map_err(Cause::io("sync the folder", &self.path))
    }

    /// Makes the content of the file `name` durable, if there is one.
    pub(crate) fn sync_file(&self, name: &OsStr) -> Result<(), Cause> {
        let path = self.path.join(name);
        match self.read(name) {
            Ok(file) => file
                .sync_all()
                .and_then(|()| fault::point("file synced"))
                .map_err(Cause::io("sync", &path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Cause::io("open", &path)(error)),
        }
    }

    /// Removes the file `name`, if there is one; of a link, the link.
    pub(crate) fn remove_file(&self, name: &OsStr) -> Result<(), Cause> {
        match rustix::fs::unlinkat(&self.descriptor, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            result => result
                .map_err(io::Error::from)
                .and_then(|()| fault::point("removed"))
                .map_err(Cause::io("remove", &self.path.join(name))),
        }
    }

    /// Removes the folder `name`, which must be empty.
    pub(crate) fn remove_folder(&self, name: &OsStr) -> Result<(), Cause> {
        rustix::fs::unlinkat(&self.descriptor, name, AtFlags::REMOVEDIR)
            .map_err(io::Error::from)
            .and_then(|()| fault::point("folder removed"))
            .map_err(Cause::io("remove", &self.path.join(name)))
    }
}

/// A folder is opened so: it need not be readable, and a link is none.
const FOLDER: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The folder that holds `path`, and the last name.
fn place(path: &Path) -> io::Result<(Folder, &OsStr)> {
    let name = path.file_name().ok_or(Errno::INVAL)?;
    Ok((Folder::walk(parent(path))?, name))
}

/// A file, whatever its name: its device and its inode.
pub(crate) type Identity = (u64, u64);

/// Which file or folder stands at `path`, if one does.
pub(crate) fn identity(path: &Path) -> Result<Option<Identity>, Cause> {
    Ok(metadata(path)?.map(|found| (found.dev(), found.ino())))
}

/// Opens the file or folder at `path` for reading, and nothing else; see [`Folder::read`].
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let (folder, name) = place(path)?;
    folder.read(name)
}

/// Makes the names in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Cause> {
    Folder::walk(folder).map_err(Cause::io("sync the folder", folder))?.sync()
}

/// Makes the names of `folder` and of all the folders that it is in durable, as far up as its file
/// system goes and this user may look: their maker need not have.
pub(crate) fn sync_ancestors(folder: &Path) -> Result<(), Cause> {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    let own = device(folder).map_err(Cause::io("look at", folder))?;
    for above in folder.ancestors().skip(1) {
        if !device(above).is_ok_and(|device| device == own) {
            break;
        }
        match sync_folder(above) {
            Err(Cause::Denied { .. }) => break,
            Err(Cause::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                break;
            }
            result => result?,
        }
    }
    Ok(())
}

/// Makes the content of the file at `path` durable, if there is one.
pub(crate) fn sync_file(path: &Path) -> Result<(), Cause> {
    let (folder, name) = place(path).map_err(Cause::io("open", path))?;
    folder.sync_file(name)
}

/// Creates `path`, which must not exist, with `bytes`, for `owner`; the content and whose it is are
/// durable when it returns, the name is not. When it fails, a part of the file may be left.
pub(crate) fn create(path: &Path, bytes: &[u8], owner: Option<&Owner>) -> Result<File, Cause> {
    let make = || {
        let (folder, name) = place(path)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Owner::first_mode(owner);
        let file = File::from(rustix::fs::openat(&folder.descriptor, name, flags, mode)?);
        fault::point("file created")?;
        Ok(file)
    };
    let mut file = make().map_err(Cause::io("write", path))?;
    if let Some(owner) = owner {
        owner.give(&file)?;
    }
    let write = || {
        fault::point("owner given")?;
        file.write_all(bytes)?;
        fault::point("file written")?;
        file.sync_all()?;
        fault::point("file synced")?;
        Ok(file)
    };
    write().map_err(Cause::io("write", path))
}

/// Creates a folder that is for `owner` alone, or else for this user. Nothing of it is durable. When it
/// fails, the folder may be left.
pub(crate) fn create_folder(path: &Path, owner: Option<&Owner>) -> Result<(), Cause> {
    let make = || {
        let (folder, name) = place(path)?;
        rustix::fs::mkdirat(&folder.descriptor, name, Mode::RWXU)?;
        folder.read(name)
    };
    let opened = make().map_err(Cause::io("make", path))?;
    owner.map_or(Ok(()), |owner| owner.give_alone(&opened))
}

/// Makes an empty file at `path`, where nothing may stand: to see whether that can be done. Nothing of
/// it is durable. When it fails, nothing of ours is there.
pub(crate) fn make_empty(path: &Path) -> Result<(), Cause> {
    let make = || {
        let (folder, name) = place(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(&folder.descriptor, name, flags, Mode::from_raw_mode(0o600))?;
        fault::point("place tried").inspect_err(|_| drop(folder.remove_file(name)))
    };
    make().map_err(Cause::io("make", path))
}

/// Refuses a file or folder that an attribute (`chattr`) keeps from being changed, renamed or removed,
/// or from which nothing can be removed.
pub(crate) fn check_changeable(path: &Path) -> Result<(), Cause> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        .map_err(Cause::io_rustix("look at", path))?;
    let unchangeable = |why, next| Err(Cause::Unchangeable { path: path.to_owned(), why, next });
    if stat.stx_attributes.contains(StatxAttributes::IMMUTABLE) {
        unchangeable("it is immutable", "take that off it (chattr -i) and run this again")
    } else if stat.stx_attributes.contains(StatxAttributes::APPEND) {
        unchangeable(
            "it can only be appended to",
            "take that off it (chattr -a) and run this again",
        )
    } else {
        Ok(())
    }
}

/// Refuses something in `folder` whose name this user may not change though `folder` can be written:
/// of others' things in a sticky folder.
pub(crate) fn check_may_rename(folder: &Path, path: &Path) -> Result<(), Cause> {
    let looked = |path: &Path| fs::symlink_metadata(path).map_err(Cause::io("look at", path));
    let (around, inside) = (looked(folder)?, looked(path)?);
    if may_rename(rustix::process::geteuid().as_raw(), &around, &inside) {
        return Ok(());
    }
    Err(Cause::Unchangeable {
        path: path.to_owned(),
        why: "it is another user's, in a sticky folder",
        next: "run this as the user who owns it",
    })
}

fn may_rename(user: u32, around: &fs::Metadata, inside: &fs::Metadata) -> bool {
    let is_sticky = around.mode() & 0o1000 != 0;
    !is_sticky || user == 0 || user == around.uid() || user == inside.uid()
}

/// Whether `path` is on an overlay file system.
pub(crate) fn is_overlay(path: &Path) -> Result<bool, Cause> {
    /// `OVERLAYFS_SUPER_MAGIC` of `linux/magic.h`.
    const OVERLAY: rustix::fs::FsWord = 0x794c_7630;
    let stat = rustix::fs::statfs(path).map_err(Cause::io_rustix("look at", path))?;
    Ok(stat.f_type == OVERLAY)
}

/// Renames without replacing anything (I-3).
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<(), Cause> {
    rename(from, to, RenameFlags::NOREPLACE)
}

/// Renames over what stands at `to`, in one step.
pub(crate) fn rename_over(from: &Path, to: &Path) -> Result<(), Cause> {
    rename(from, to, RenameFlags::empty())
}

/// Swaps two names in one step.
pub(crate) fn exchange(a: &Path, b: &Path) -> Result<(), Cause> {
    rename(a, b, RenameFlags::EXCHANGE)
}

/// Both names are in one folder, as all of cutover's renames are.
fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Cause> {
    let rename = || {
        let (folder, new) = place(to)?;
        let old = from.file_name().filter(|_| parent(from) == folder.path).ok_or(Errno::XDEV)?;
        rustix::fs::renameat_with(&folder.descriptor, old, &folder.descriptor, new, flags)?;
        fault::point("renamed")
    };
    rename().map_err(Cause::io("rename to", to))
}

/// Removes a file, if there is one; of a link, the link.
pub(crate) fn remove_file(path: &Path) -> Result<(), Cause> {
    match place(path) {
        Ok((folder, name)) => folder.remove_file(name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Cause::io("remove", path)(error)),
    }
}

/// Removes a folder, which must be empty.
pub(crate) fn remove_folder(path: &Path) -> Result<(), Cause> {
    let (folder, name) = place(path).map_err(Cause::io("remove", path))?;
    folder.remove_folder(name)
}

/// What is read at once of a file that may be longer: all that cutover's own files hold, mostly.
const READ_BYTES: usize = 4096;

/// The first `bytes_max` + 1 bytes of a regular file; the one more shows that it is too long.
pub(crate) fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(bytes_max.min(READ_BYTES));
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The metadata of what stands at `path`, links not followed; none where nothing does. A look alone:
/// links on the way are followed.
pub(crate) fn metadata(path: &Path) -> Result<Option<fs::Metadata>, Cause> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Cause::io("look at", path)(error)),
    }
}

/// Bytes that an ordinary user can still write to the file system of `folder`.
pub(crate) fn available_bytes(folder: &Path) -> Result<u64, Cause> {
    let stat = rustix::fs::statvfs(folder).map_err(Cause::io_rustix("look at", folder))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether a folder's file system is known to be mounted for reading alone.
pub(crate) fn is_read_only(folder: &Path) -> bool {
    rustix::fs::statvfs(folder)
        .is_ok_and(|stat| stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Refuses to do `what` in a folder whose file system is mounted for reading alone.
pub(crate) fn check_not_read_only(what: &'static str, folder: &Path) -> Result<(), Cause> {
    if is_read_only(folder) {
        return Err(Cause::io_rustix(what, folder)(rustix::io::Errno::ROFS));
    }
    Ok(())
}

/// Whether `path` is the root of a mount, also a bind mount of the same device.
pub(crate) fn is_mount_root(path: &Path) -> Result<bool, Cause> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
        .map_err(Cause::io_rustix("look at", path))?;
    Ok(stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        && stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The kind of file system that `path` is on, as `/proc/self/mounts` names it.
pub(crate) fn filesystem_kind(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let at = fields.nth(1)?;
            let kind = fields.next()?;
            path.starts_with(at).then_some((at.len(), kind))
        })
        .max_by_key(|(length, _)| *length)
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind.to_owned())
}

/// More links than the kernel itself follows.
const LINKS_MAX: usize = 40;

/// The absolute path that `path` means, links resolved: also a link whose end does not exist, since
/// that end is where a marker or a database would be created.
///
/// A link that another user has put there is followed only to what is that user's own, as Linux does
/// in shared folders: who may write a folder may not choose which of our files we work on.
///
/// # Errors
///
/// When the folder is missing, links lead in a circle or are not to be followed, or the path is not
/// UTF-8.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, Cause> {
    let absolute = std::path::absolute(path).map_err(Cause::io("find", path))?;
    let names = |path: &Path| -> Vec<OsString> {
        path.components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some(OsString::from("..")),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
            })
            .collect()
    };
    let mut waiting = VecDeque::from(names(&absolute));
    let mut resolved = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = waiting.pop_front() {
        if name == ".." {
            resolved.pop();
            continue;
        }
        let at = resolved.join(&name);
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_symlink() => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Cause::io_rustix("find", &absolute)(Errno::LOOP));
                }
                let end = fs::read_link(&at).map_err(Cause::io("read the link", &at))?;
                check_link(&at, found.uid(), &resolved.join(&end))?;
                if end.is_absolute() {
                    resolved = PathBuf::from("/");
                }
                names(&end).into_iter().rev().for_each(|name| waiting.push_front(name));
            }
            Ok(found) if !waiting.is_empty() && !found.is_dir() => {
                return Err(Cause::io_rustix("find", &at)(Errno::NOTDIR));
            }
            Ok(_) => resolved = at,
            Err(error) if error.kind() == io::ErrorKind::NotFound && waiting.is_empty() => {
                resolved = at;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Cause::io("find the folder", &at)(error));
            }
            Err(error) => return Err(Cause::io("find", &at)(error)),
        }
    }
    if resolved.to_str().is_none() {
        return Err(Cause::NotUtf8(resolved));
    }
    Ok(resolved)
}

/// Refuses a link of another user's that leads to what is not that user's.
fn check_link(link: &Path, owner: u32, end: &Path) -> Result<(), Cause> {
    let own = rustix::process::geteuid().as_raw();
    if owner == 0 || owner == own {
        return Ok(());
    }
    // Where there is nothing at its end, the folder there decides.
    let found = fs::metadata(end).or_else(|_| fs::metadata(parent(end)));
    match found {
        Ok(found) if found.uid() == owner => Ok(()),
        Ok(_) => Err(Cause::ForeignLink { path: link.to_owned(), end: end.to_owned() }),
        Err(error) => Err(Cause::io("find", end)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_resolved_to_its_end_whether_or_not_that_exists() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        fs::create_dir(at("there")).unwrap();
        for (link, end) in [("a", "there"), ("b", "a"), ("c", "missing"), ("d", "c")] {
            std::os::unix::fs::symlink(end, at(link)).unwrap();
        }
        let found = |name: &str| resolve(&folder.path().join(name)).unwrap();
        assert_eq!(
            [found("there"), found("a"), found("b")],
            [at("there"), at("there"), at("there")]
        );
        assert_eq!([found("missing"), found("d")], [at("missing"), at("missing")]);
        std::os::unix::fs::symlink("circle", at("circle")).unwrap();
        resolve(&at("circle")).unwrap_err();
        resolve(&at("no/where")).unwrap_err();
        assert_eq!(found("b/../missing"), at("missing"));
    }

    #[test]
    fn no_link_is_followed_where_something_is_made_opened_synced_renamed_or_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        let victim = at("victim");
        fs::create_dir_all(victim.join("below")).unwrap();
        fs::write(victim.join("file"), "the victim's").unwrap();
        let link = |end: &str, name: &str| std::os::unix::fs::symlink(end, at(name)).unwrap();
        // A folder on the way, a file, an end that does not exist, a folder.
        for (end, name) in
            [("victim", "way"), ("victim/file", "a"), ("victim/new", "b"), ("victim", "c")]
        {
            link(end, name);
        }
        fs::write(at("own"), "ours").unwrap();
        for name in ["way/new", "a", "b", "c"] {
            create(&at(name), b"ours", None).unwrap_err();
        }
        for name in ["way/file", "a"] {
            open(&at(name)).unwrap_err();
            read_bounded(&at(name), 9).unwrap_err();
            sync_file(&at(name)).unwrap_err();
        }
        sync_folder(&at("c")).unwrap_err();
        Folder::open(&at("c")).unwrap_err();
        remove_folder(&at("way/below")).unwrap_err();
        remove_file(&at("way/file")).unwrap_err();
        rename_over(&at("way/file"), &at("way/moved")).unwrap_err();
        rename_over(&at("own"), &at("a")).unwrap();
        assert_eq!(fs::read(at("a")).unwrap(), b"ours", "the link itself was replaced");
        remove_file(&at("b")).unwrap();
        assert!(fs::symlink_metadata(at("b")).is_err(), "the link itself was removed");
        assert_eq!(fs::read(victim.join("file")).unwrap(), b"the victim's");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 2);
    }

    #[test]
    fn what_is_neither_a_file_nor_a_folder_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().canonicalize().unwrap().join("fifo");
        rustix::fs::mkfifoat(CWD, &fifo, Mode::from_raw_mode(0o600)).unwrap();
        // Without a writer, an open for reading would wait.
        open(&fifo).unwrap_err();
        read_bounded(&fifo, 9).unwrap_err();
        open(Path::new("/dev/null")).unwrap_err();
    }

    #[test]
    fn a_link_of_another_user_is_followed_to_that_user_s_own_and_nowhere_else() {
        const EVE: u32 = 1999;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        for name in ["root", "eve"] {
            fs::create_dir(at(name)).unwrap();
            fs::create_dir(at(&format!("{name}/store"))).unwrap();
        }
        let eve = Some(rustix::fs::Uid::from_raw(EVE));
        for name in ["eve", "eve/store"] {
            rustix::fs::chown(at(name), eve, None).expect("these tests need root");
        }
        let link = |end: &str, name: &str| {
            std::os::unix::fs::symlink(end, at(name)).unwrap();
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(CWD, at(name), eve, None, flags).unwrap();
        };
        for (end, name) in [
            ("eve/store", "own"),
            ("eve/new", "own-new"),
            ("root/store", "foreign"),
            ("root/new", "foreign-new"),
            ("root", "foreign-way"),
            ("own-2", "chain"),
            ("root/store", "own-2"),
        ] {
            link(end, name);
        }
        assert_eq!(resolve(&at("own")).unwrap(), at("eve/store"));
        assert_eq!(resolve(&at("own-new")).unwrap(), at("eve/new"));
        for name in ["foreign", "foreign-new", "foreign-way/store", "chain"] {
            let refused = resolve(&at(name)).unwrap_err();
            assert!(matches!(refused, Cause::ForeignLink { .. }), "{name}: {refused}");
        }
        // Root's own link, or its owner's, leads anywhere.
        std::os::unix::fs::symlink("eve/store", at("roots")).unwrap();
        assert_eq!(resolve(&at("roots")).unwrap(), at("eve/store"));
    }

    #[test]
    fn what_is_not_there_needs_no_sync_and_no_removal_and_what_can_t_be_looked_at_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        sync_file(&at("missing")).unwrap();
        remove_file(&at("missing")).unwrap();
        remove_file(&at("no/where")).unwrap();
        assert!(metadata(&at("missing")).unwrap().is_none());
        fs::write(at("file"), "it").unwrap();
        // Its name has no place, which is another thing than that nothing stands there.
        metadata(&at("file/below")).unwrap_err();
        remove_file(&at("file/below")).unwrap_err();
        create_folder(&at("folder"), None).unwrap();
        assert_eq!(fs::metadata(at("folder")).unwrap().mode() & 0o7777, 0o700);
        create_folder(&at("folder"), None).unwrap_err();
        fs::write(at("folder/file"), "it").unwrap();
        remove_folder(&at("folder")).unwrap_err();
        fs::remove_file(at("folder/file")).unwrap();
        remove_folder(&at("folder")).unwrap();
        assert!(metadata(&at("folder")).unwrap().is_none());
    }

    /// I-8: also where another user has put it there an instant ago.
    #[test]
    fn i8_a_place_is_tried_where_nothing_stands_and_what_stands_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        make_empty(&at("new")).unwrap();
        assert_eq!(fs::metadata(at("new")).unwrap().mode() & 0o7777, 0o600);
        make_empty(&at("new")).unwrap_err();
        fs::write(at("file"), "it").unwrap();
        std::os::unix::fs::symlink("missing", at("link")).unwrap();
        for name in ["file", "link"] {
            make_empty(&at(name)).unwrap_err();
        }
        assert_eq!(fs::read(at("file")).unwrap(), b"it");
        assert!(metadata(&at("missing")).unwrap().is_none());
    }

    /// A child that another thread starts must not hold them open, and a name that becomes a link or a
    /// FIFO in the instant before it is opened is not followed, nor waited for.
    #[test]
    fn what_is_opened_ends_with_this_process_follows_no_link_and_waits_for_nobody() {
        use rustix::fs::fcntl_getfl;
        use rustix::io::{FdFlags, fcntl_getfd};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let made = create(&path.join("file"), b"it", None).unwrap();
        let opened = open(&path.join("file")).unwrap();
        let listed = Folder::open(&path).unwrap().readable().unwrap();
        let of = Folder::of(&opened, &path);
        of.unwrap_err();
        let again = Folder::of(&listed, &path).unwrap();
        let all = [made.as_fd(), opened.as_fd(), listed.as_fd(), again.descriptor.as_fd()];
        for descriptor in all {
            assert!(fcntl_getfd(descriptor).unwrap().contains(FdFlags::CLOEXEC));
        }
        let flags = fcntl_getfl(&opened).unwrap();
        assert!(flags.contains(OFlags::NOFOLLOW | OFlags::NONBLOCK), "{flags:?}");
        let flags = fcntl_getfl(&again.descriptor).unwrap();
        assert!(flags.contains(OFlags::NOFOLLOW | OFlags::PATH), "{flags:?}");
    }

    #[test]
    fn a_path_that_leads_nowhere_is_named_where_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        fs::write(at("file"), "it").unwrap();
        let refused = |name: &str| match resolve(&at(name)).unwrap_err() {
            Cause::Io { what, path, source, .. } => (what, path, source.raw_os_error()),
            other => panic!("{other}"),
        };
        let errno = |errno: Errno| Some(errno.raw_os_error());
        let missing = errno(Errno::NOENT);
        assert_eq!(refused("no/where"), ("find the folder", at("no"), missing));
        let not = errno(Errno::NOTDIR);
        assert_eq!(refused("file/below"), ("find", at("file"), not));
        let long = "n".repeat(256);
        assert_eq!(refused(&long), ("find", at(&long), errno(Errno::NAMETOOLONG)));
        // As many links as the bound lets, and one more.
        fs::create_dir(at("end")).unwrap();
        for link in 0..=LINKS_MAX {
            let end = if link == 0 { "end".to_owned() } else { (link - 1).to_string() };
            std::os::unix::fs::symlink(end, at(&link.to_string())).unwrap();
        }
        assert_eq!(resolve(&at(&(LINKS_MAX - 1).to_string())).unwrap(), at("end"));
        let last = LINKS_MAX.to_string();
        assert_eq!(refused(&last), ("find", at(&last), errno(Errno::LOOP)));
        // A link itself is no loop where it is merely not to be followed.
        assert_eq!(open(&at("0")).unwrap_err().raw_os_error(), errno(Errno::LOOP));
    }

    #[test]
    fn a_mount_and_the_kind_of_its_file_system_are_known() {
        assert!(is_mount_root(Path::new("/proc")).unwrap());
        assert!(!is_mount_root(Path::new("/proc/self")).unwrap());
        assert!(!is_overlay(Path::new("/proc")).unwrap());
        assert_eq!(filesystem_kind(Path::new("/proc")), "proc");
        assert_eq!(filesystem_kind(Path::new("/proc/self/fd")), "proc");
        assert_eq!(filesystem_kind(Path::new("relative")), "unknown");
    }

    #[test]
    fn in_a_sticky_folder_a_name_is_changed_by_its_owner_the_folder_s_or_root() {
        let root = tempfile::tempdir().unwrap();
        let with = |name: &str, owner: u32, mode: u32| {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            let owner = Some(rustix::fs::Uid::from_raw(owner));
            rustix::fs::chown(&path, owner, None).expect("these tests need root");
            rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).unwrap();
            check_may_rename(root.path(), &path).expect("root may");
            fs::metadata(&path).unwrap()
        };
        let (sticky, plain) = (with("sticky", 1, 0o1777), with("plain", 1, 0o777));
        let inside = with("inside", 2, 0o755);
        for (user, may) in [(0, true), (1, true), (2, true), (3, false)] {
            assert_eq!(may_rename(user, &sticky, &inside), may, "{user}");
            assert!(may_rename(user, &plain, &inside));
        }
    }
}
