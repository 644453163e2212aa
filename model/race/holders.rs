//! Who has a store's files open, as the kernel tells it to anyone who asks from outside.

use std::fs;
use std::path::{Path, PathBuf};

/// A file inside a folder that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub process: String,
    /// What the file is called by now: the kernel follows it through renames.
    pub file: PathBuf,
    pub writable: bool,
    /// Whether a `flock` is on it.
    pub locked: bool,
}

impl Held {
    /// The lock file is opened by anyone who only waits for it.
    pub fn is_lock(&self) -> bool {
        self.file.file_name().is_some_and(|name| name == "lock")
    }
}

/// What `process`, a number or `self`, has open inside the folders in `folder`.
pub fn held_by(process: &str, folder: &Path) -> Vec<Held> {
    let of = Path::new("/proc").join(process);
    // It may have ended, or closed the file.
    let Ok(entries) = fs::read_dir(of.join("fd")) else { return Vec::new() };
    let held = entries.flatten().filter_map(|entry| {
        let file = fs::read_link(entry.path()).ok()?;
        // The folders themselves are locked by cutover.
        let inside = file.strip_prefix(folder).ok()?;
        if inside.components().count() < 2 {
            return None;
        }
        let told = fs::read_to_string(of.join("fdinfo").join(entry.file_name())).ok()?;
        let flags = told.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
        let locked = told.lines().any(|line| line.starts_with("lock:") && line.contains("FLOCK"));
        // The last two bits are 0 for reading alone.
        Some(Held { process: process.to_owned(), file, writable: flags & 3 != 0, locked })
    });
    held.collect()
}

/// What any process has open inside the folders in `folder`.
pub fn held(folder: &Path) -> Vec<Held> {
    let entries = fs::read_dir("/proc").expect("Linux").flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let processes = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    processes.flat_map(|process| held_by(&process, folder)).collect()
}

/// What is open for writing in `folder` by a process that has fjall's lock on that store, as anyone who
/// has a database open. Without the lock it is a child of this process that has not come to its
/// `exec`, and has open what cutover had when it was forked.
pub fn written(folder: &Path) -> Vec<Held> {
    let held = held(folder);
    let store = |held: &Held| -> Option<PathBuf> {
        let inside = held.file.strip_prefix(folder).ok()?;
        Some(inside.components().next()?.as_os_str().into())
    };
    let has_lock = |of: &Held| {
        held.iter().any(|held| {
            held.is_lock() && held.locked && held.process == of.process && store(held) == store(of)
        })
    };
    let is_written = |held: &&Held| held.writable && !held.is_lock() && has_lock(held);
    held.iter().filter(is_written).cloned().collect()
}

/// I-1, from outside: no process, this one included, has a store in `folder` open for writing,
/// whatever the store is called by now.
pub fn assert_nobody_writes(folder: &Path) {
    assert_eq!(written(folder), [], "a KV store is open for writing beside a live target");
}

mod teeth {
    use super::{Held, assert_nobody_writes, held, written};
    use crate::child;
    use crate::common::{small_store, write_store};
    use std::fs;
    use std::io::Read;
    use std::process::Stdio;

    fn written_by(folder: &std::path::Path, process: u32) -> bool {
        written(folder).iter().any(|held| held.process == process.to_string())
    }

    #[test]
    fn whoever_has_a_store_open_is_noticed_from_outside_under_whatever_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let store = folder.join("accounts");
        write_store(&store, &small_store(7, 20));
        assert_nobody_writes(folder);
        let mut child = child::command(&["fjall-hold", store.to_str().expect("UTF-8")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let mut said = String::new();
        while !said.contains("holding") {
            let mut byte = [0];
            child.stdout.as_mut().expect("piped").read_exact(&mut byte).expect("it says so");
            said.push(char::from(byte[0]));
        }
        assert!(written_by(folder, child.id()), "{:?}", held(folder));
        fs::rename(&store, folder.join("accounts.retired")).expect("renames");
        assert!(written_by(folder, child.id()), "{:?}", held(folder));
        let locked: Vec<Held> = held(folder).into_iter().filter(|held| held.locked).collect();
        assert!(locked.len() == 1 && locked[0].is_lock(), "{locked:?}");
        drop(child.stdin.take());
        assert!(child.wait().expect("ends").success());
        assert_nobody_writes(folder);
    }

    #[test]
    fn a_thread_that_has_a_store_open_is_noticed_and_one_that_waits_for_the_lock_does_not_write() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let store = folder.join("accounts");
        let database = fjall::Database::builder(&store).open().expect("a new store");
        assert!(written_by(folder, std::process::id()), "{:?}", held(folder));
        drop(database);
        let waits = fs::OpenOptions::new().write(true).open(store.join("lock")).expect("opens");
        assert_eq!(held(folder).len(), 1);
        assert_nobody_writes(folder);
        drop(waits);
    }
}
