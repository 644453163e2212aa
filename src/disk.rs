//! Durable file operations: each says what is on disk when it returns.

use crate::error::Cause;
use crate::fault;
use rustix::fs::{AtFlags, CWD, RenameFlags, StatxAttributes, StatxFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

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

/// Makes the names in `folder` durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Cause> {
    if fault::mistaken("folder") {
        return Ok(());
    }
    File::open(folder)
        .and_then(|opened| opened.sync_all())
        .and_then(|()| fault::point("folder synced"))
        .map_err(Cause::io("sync the folder", folder))
}

/// Makes the names of `folder` and of all the folders that it is in durable, as far up as its file
/// system goes and this user may look: whoever made them need not have.
pub(crate) fn sync_ancestors(folder: &Path) -> Result<(), Cause> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
    let own = device(folder).map_err(Cause::io("look at", folder))?;
    for above in folder.ancestors().skip(1) {
        if !device(above).is_ok_and(|device| device == own) {
            break;
        }
        match sync_folder(above) {
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
    match File::open(path) {
        Ok(file) => file
            .sync_all()
            .and_then(|()| fault::point("file synced"))
            .map_err(Cause::io("sync", path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Cause::io("open", path)(error)),
    }
}

/// Creates `path`, which must not exist, with `bytes`; the content is durable when it returns, the
/// name is not. When it fails, a part of the file may be left.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<File, Cause> {
    let write = || {
        let mut file = OpenOptions::new().write(true).read(true).create_new(true).open(path)?;
        fault::point("file created")?;
        file.write_all(bytes)?;
        fault::point("file written")?;
        file.sync_all()?;
        fault::point("file synced")?;
        Ok(file)
    };
    write().map_err(Cause::io("write", path))
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

fn rename(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Cause> {
    rustix::fs::renameat_with(CWD, from, CWD, to, flags)
        .map_err(io::Error::from)
        .and_then(|()| fault::point("renamed"))
        .map_err(Cause::io("rename to", to))
}

/// Removes a file, if there is one.
pub(crate) fn remove_file(path: &Path) -> Result<(), Cause> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.and_then(|()| fault::point("removed")).map_err(Cause::io("remove", path)),
    }
}

/// Removes a folder with all that is in it. When it fails, or is killed, a part may be left.
pub(crate) fn remove_tree(folder: &Path) -> Result<(), Cause> {
    for entry in fs::read_dir(folder).map_err(Cause::io("list", folder))? {
        let entry = entry.map_err(Cause::io("list", folder))?;
        let path = entry.path();
        if entry.file_type().map_err(Cause::io("look at", &path))?.is_dir() {
            // It follows no link that somebody puts in its way.
            fs::remove_dir_all(&path)
                .and_then(|()| fault::point("folder removed"))
                .map_err(Cause::io("remove", &path))?;
        } else {
            remove_file(&path)?;
        }
    }
    fs::remove_dir(folder)
        .and_then(|()| fault::point("folder removed"))
        .map_err(Cause::io("remove", folder))
}

/// What is read at once of a file that may be longer: all that cutover's own files hold, mostly.
const READ_BYTES: usize = 4096;

/// The first `bytes_max` + 1 bytes of a regular file; the one more shows that it is too long.
pub(crate) fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(bytes_max.min(READ_BYTES));
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The metadata of what stands at `path`, links not followed; none where nothing does.
pub(crate) fn metadata(path: &Path) -> Result<Option<fs::Metadata>, Cause> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Cause::io("look at", path)(error)),
    }
}

/// Makes everything below `folder` durable: every file's content and every folder's names. fjall
/// leaves the folder of its keyspaces unsynced, and a killed daemon leaves its last writes so.
pub(crate) fn sync_tree(folder: &Path) -> Result<(), Cause> {
    for entry in fs::read_dir(folder).map_err(Cause::io("list", folder))? {
        let entry = entry.map_err(Cause::io("list", folder))?;
        let kind = entry.file_type().map_err(Cause::io("look at", &entry.path()))?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            sync_file(&entry.path())?;
        }
    }
    sync_folder(folder)
}

/// Bytes that the disk holds for everything below `folder`.
pub(crate) fn tree_bytes(folder: &Path) -> Result<u64, Cause> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(Cause::io("list", folder))? {
        let entry = entry.map_err(Cause::io("list", folder))?;
        let metadata = entry.metadata().map_err(Cause::io("look at", &entry.path()))?;
        bytes += if metadata.is_dir() {
            tree_bytes(&entry.path())?
        } else {
            // `st_blocks` counts 512 bytes whatever the file system's block is.
            metadata.len().min(metadata.blocks() * 512)
        };
    }
    Ok(bytes)
}

/// Bytes that an ordinary user can still write to the file system of `folder`.
pub(crate) fn available_bytes(folder: &Path) -> Result<u64, Cause> {
    let stat = rustix::fs::statvfs(folder).map_err(Cause::io_rustix("look at", folder))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Refuses to do `what` in a folder whose file system is mounted for reading alone.
pub(crate) fn check_not_read_only(what: &'static str, folder: &Path) -> Result<(), Cause> {
    let stat = rustix::fs::statvfs(folder).map_err(Cause::io_rustix("look at", folder))?;
    if stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
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

/// The absolute path that `path` means, links resolved: also a link whose end does not exist, since
/// that end is where a marker or a database would be created.
///
/// # Errors
///
/// When the folder is missing, links lead in a circle, or the path is not UTF-8.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, Cause> {
    let mut named = std::path::absolute(path).map_err(Cause::io("find", path))?;
    let resolved = loop {
        match fs::canonicalize(&named) {
            Ok(resolved) => break resolved,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Cause::io("find", &named)(error)),
        }
        let folder = parent(&named);
        let folder = fs::canonicalize(folder).map_err(Cause::io("find the folder", folder))?;
        // The kernel has followed this chain to its end, so it is no circle.
        if let Ok(end) = fs::read_link(&named) {
            named = folder.join(end);
            continue;
        }
        let name = named
            .file_name()
            .ok_or_else(|| Cause::Plan(format!("{} names no file", named.display())))?;
        break folder.join(name);
    };
    if resolved.to_str().is_none() {
        return Err(Cause::NotUtf8(resolved));
    }
    Ok(resolved)
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
    }
}
