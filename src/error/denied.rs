//! Whom a file or folder in the way belongs to, as messages name it.

use super::Cause;
use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// All bits of a mode.
const MODE: u32 = 0o7777;

pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whose a file is, as messages name a user.
pub(crate) fn user_of(file: &Metadata) -> String {
    user(file.uid())
}

/// The bits of a file's mode.
pub(crate) fn mode_of(file: &Metadata) -> u32 {
    file.mode() & MODE
}

/// A user as messages name one: the number, and the name where the system's list has it.
pub(crate) fn user(uid: u32) -> String {
    match listed(uid).as_deref().map(|fields| fields.split(':').next()) {
        Some(Some(name)) => format!("user {uid} ({name})"),
        Some(None) | None => format!("user {uid}"),
    }
}

/// The group that a user has without being in its list, where the system's list has the user.
pub(crate) fn primary_group(uid: u32) -> Option<u32> {
    listed(uid)?.split(':').nth(3)?.parse().ok()
}

/// A user's line in the system's list.
fn listed(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |line: &&str| line.split(':').nth(2).and_then(|found| found.parse().ok()) == Some(uid);
    users.lines().find(of).map(str::to_owned)
}

/// Whose file or folder it is that this user may not use on the way to `path`, if there is such a
/// one: what can't be read and written, the nearest first.
pub(crate) fn denied(what: &'static str, path: &Path) -> Option<Cause> {
    path.ancestors().enumerate().find_map(|(above, place)| {
        let found = fs::symlink_metadata(place).ok()?;
        // A folder further up must only be passed through.
        let using = if above < 2 { Access::READ_OK | Access::WRITE_OK } else { Access::empty() };
        let search = if found.is_dir() { Access::EXEC_OK } else { Access::empty() };
        let wanted = using | search;
        let denied = rustix::fs::accessat(CWD, place, wanted, AtFlags::EACCESS);
        (denied == Err(Errno::ACCESS)).then(|| Cause::Denied {
            what,
            path: path.to_owned(),
            place: place.to_owned(),
            owner: user(found.uid()),
            mode: mode_of(&found),
            user: user(own_uid()),
            next: next_of_denied(&found),
        })
    })
}

/// What a person can do about a file or folder that this user may not use.
fn next_of_denied(found: &Metadata) -> String {
    let own = own_uid();
    if found.uid() == own {
        "change its mode".to_owned()
    } else if rustix::process::getuid().is_root() {
        // Root has taken the rights of a store's owner, who must be able to use what is in it.
        format!("let {} use it", user(own))
    } else {
        format!("let {} use it, or run this as {}", user(own), user(found.uid()))
    }
}

/// As [`denied`], for the first of a folder and all that is in it.
pub(crate) fn denied_within(what: &'static str, folder: &Path) -> Option<Cause> {
    let below = || {
        fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let path = entry.path();
            if is_folder { denied_within(what, &path) } else { denied(what, &path) }
        })
    };
    denied(what, folder).or_else(below)
}
