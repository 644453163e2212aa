//! Looking before leaping: everything about a source that would stop a migration is found out
//! before anything is changed.

use super::inventory;
use super::site::Site;
use super::store::Store;
use super::version;
use crate::disk;
use crate::error::Cause;
use std::path::Path;

/// Checks a store that stands open at its path, and makes all of it durable. Nothing is changed. As
/// long as what it returns is open, it has fjall's own lock.
pub(crate) fn preflight(site: &Site) -> Result<Store, Cause> {
    if disk::is_mount_root(&site.path)? {
        return Err(Cause::MountPoint { name: site.name.clone(), path: site.path.clone() });
    }
    version::check_native(&site.name, &site.path)?;
    // Opening would follow a link, and no file behind one is synced, locked or sealed.
    if let Some((entry, what)) = inventory::tree_at(&site.path)?.scattered {
        let path = site.path.join(entry);
        return Err(Cause::Scattered { name: site.name.clone(), path, what });
    }
    let store = Store::open_by_folder(&site.name, &site.path)?;
    // What a killed daemon left in the page cache is read by the copy; it must not be taken back.
    disk::sync_tree(&site.path)?;
    Ok(store)
}

/// Tries the exchange with two files of our own beside the source.
pub(crate) fn probe_exchange(site: &Site) -> Result<(), Cause> {
    // The longest name that is ever put beside the source: one that is too long is found out now,
    // because every later look asks for it.
    disk::metadata(&site.temporary(crate::protocol::MigrationId(0)))?;
    let [a, b] = site.probes();
    // Both are tried: what fails for one may work for the other, and nothing may stay.
    let clean = || {
        let removed = disk::remove_file(&a);
        disk::remove_file(&b).and(removed)
    };
    for probe in [&a, &b] {
        match disk::metadata(probe)? {
            Some(metadata) if !metadata.is_file() || metadata.len() > 0 => {
                return Err(Cause::ChangedUnderneath(probe.clone()));
            }
            Some(_) | None => {}
        }
    }
    clean()?;
    let tried = disk::create(&a, b"")
        .and_then(|_| disk::create(&b, b""))
        .and_then(|_| disk::exchange(&a, &b));
    let cleaned = clean();
    match tried {
        Ok(()) => cleaned,
        Err(cause) => Err(exchange_refused(cause, site.folder())),
    }
}

/// Names the file system where it is the reason.
pub(crate) fn exchange_refused(cause: Cause, folder: &Path) -> Cause {
    use rustix::io::Errno;
    let cannot = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::XDEV];
    match cause {
        Cause::Io { source, .. }
            if cannot.iter().any(|e| source.raw_os_error() == Some(e.raw_os_error())) =>
        {
            Cause::NoExchange {
                path: folder.to_owned(),
                filesystem: disk::filesystem_kind(folder),
                source,
            }
        }
        other => other,
    }
}
