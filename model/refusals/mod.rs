//! What must be refused is refused: with a typed error that says what, where and what next, and
//! with nothing changed or created.

pub mod disk_space;
mod foreign;
mod markers;
mod parts;
pub mod places;
mod retired;
mod stores;
mod targets;
mod turned_up;

use crate::common::snapshot;
use crate::daemon::{Daemon, fresh_handle, migrating_handle, settle, sqlite};
use cutover::protocol::Contradiction;
use cutover::{Cause, Error, Found, Plan};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Asks for SQL, which must fail and leave every name and every byte below `folder` as it was.
fn refusal(folder: &Path, plan: &Plan) -> Error {
    let before = snapshot(folder);
    let error = cutover::sql(plan, &mut ()).expect_err("it is refused");
    let kv = cutover::open(plan).map(drop);
    assert_eq!(changes(&before, &snapshot(folder)), Vec::<String>::new(), "{error}, {kv:?}");
    error
}

/// The names that are not as they were.
fn changes(
    before: &BTreeMap<String, Option<Vec<u8>>>,
    after: &BTreeMap<String, Option<Vec<u8>>>,
) -> Vec<String> {
    let names =
        before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name));
    names.cloned().collect()
}

/// Whether the message has each of `words`, and is one lower-case sentence.
fn says(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
    assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
}

/// Asks for SQL, which must be refused for a cause that `is` knows, in these words.
fn refused(folder: &Path, plan: &Plan, is: fn(&Cause) -> bool, words: &[&str]) {
    let error = refusal(folder, plan);
    assert!(matches!(&error, Error::Refused(cause) if is(cause)), "{error:?}");
    says(&error, words);
}

/// Asks for SQL, which must meet this contradiction, told in these words.
fn contradicted(folder: &Path, plan: &Plan, contradiction: Contradiction, words: &[&str]) {
    let error = refusal(folder, plan);
    match &error {
        Error::Contradiction(told) => assert_eq!(told.contradiction, contradiction, "{error}"),
        other => panic!("no contradiction: {other:?}"),
    }
    says(&error, words);
}

/// A mount, for as long as this lives. It needs root.
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// An empty file system of `kibibytes` in memory.
    pub fn memory(at: &Path, kibibytes: usize) -> Self {
        Self::run(at, &["-t", "tmpfs", "-o", &format!("size={kibibytes}k"), "tmpfs"])
    }

    /// The same folder under a second name.
    pub fn bind(from: &Path, at: &Path) -> Self {
        Self::run(at, &["--bind", from.to_str().expect("UTF-8")])
    }

    /// The same file or folder once more on top of itself, for reading alone.
    pub fn read_only(at: &Path) -> Self {
        let mount = Self::bind(at, at);
        mount_at(at, &["-o", "remount,bind,ro"]);
        mount
    }

    pub fn run(at: &Path, words: &[&str]) -> Self {
        mount_at(at, words);
        Self { at: at.to_owned() }
    }

    pub fn grow(&self, kibibytes: usize) {
        mount_at(&self.at, &["-o", &format!("remount,size={kibibytes}k")]);
    }
}

fn mount_at(at: &Path, words: &[&str]) {
    let status = Command::new("mount").args(words).arg(at).status().expect("mount(8)");
    assert!(status.success(), "this test must be able to mount: run it as root");
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.at).status();
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
    }
}
