//! What must be refused is refused: with a typed error that says what, where and what next, and
//! with nothing changed or created.

mod disk_space;
mod markers;
mod places;
mod stores;
mod targets;
mod turned_up;

use crate::common::{SOURCES, copy_tree, small_daemon, small_plan, snapshot};
use cutover::protocol::Contradiction;
use cutover::{Cause, Error, Found, Handle, Observer, Plan, Progress};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The small daemon's stores in a folder of their own, brought to some state.
struct Daemon {
    folder: tempfile::TempDir,
}

impl Daemon {
    fn fresh() -> Self {
        let daemon = Self { folder: tempfile::tempdir().expect("a folder") };
        small_daemon(daemon.path());
        settle(daemon.path());
        daemon
    }

    /// Sealed, and nothing copied.
    fn sealed() -> Self {
        let daemon = Self::fresh();
        fresh_handle(&daemon.plan()).begin().expect("begins");
        daemon
    }

    /// Some chunks copied.
    fn copying() -> Self {
        let daemon = Self::sealed();
        daemon.copy_some_chunks();
        daemon
    }

    fn committed() -> Self {
        let daemon = Self::sealed();
        migrating_handle(&daemon.plan()).run(&mut ()).expect("runs");
        daemon
    }

    fn live() -> Self {
        let daemon = Self::fresh();
        cutover::sql(&daemon.plan(), &mut ()).expect("SQL");
        daemon
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn plan(&self) -> Plan {
        small_plan(self.path())
    }

    fn copy_some_chunks(&self) {
        let mut observer = StopAfter { chunks: 2 };
        let failed = migrating_handle(&self.plan()).run(&mut observer).expect_err("stops");
        assert_eq!(failed.error.to_string(), CANCELLED);
    }

    /// Opens the SQL database and runs statements, as somebody who knows nothing of cutover.
    fn sqlite(&self, statements: &str) {
        sqlite(&self.at("target.sqlite"), statements);
    }

    /// Copies a file or folder to a place outside the daemon's folder and returns the copy.
    fn keep(&self, name: &str) -> Kept {
        let kept = Kept { folder: tempfile::tempdir().expect("a folder") };
        put(&self.at(name), &kept.path());
        kept
    }
}

const CANCELLED: &str = "stopped part-way while it wanted to copy, and nothing is lost: cancelled on request; then run it again";

/// A copy of a file or a folder.
struct Kept {
    folder: tempfile::TempDir,
}

impl Kept {
    fn path(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    /// Puts it where nothing stands, or over a file.
    fn put_back(&self, to: &Path) {
        put(&self.path(), to);
    }
}

fn put(from: &Path, to: &Path) {
    if from.is_dir() {
        copy_tree(from, to);
    } else {
        fs::copy(from, to).expect("copies");
    }
}

/// Opens the stores once more: fjall's first open after the one that made a store cuts its journal to
/// length and removes old lists of tables. Later opens change nothing, so a snapshot shows what we do.
fn settle(folder: &Path) {
    for name in SOURCES {
        crate::common::read_store(&folder.join(name));
    }
}

/// Stops after so many chunks.
struct StopAfter {
    chunks: usize,
}

impl Observer for StopAfter {
    fn progress(&mut self, _: &Progress) {
        self.chunks = self.chunks.saturating_sub(1);
    }

    fn cancelled(&self) -> bool {
        self.chunks == 0
    }
}

fn fresh_handle(plan: &Plan) -> Handle<cutover::Fresh> {
    match cutover::open(plan).expect("opens") {
        Found::Fresh(handle) => handle,
        other => panic!("not fresh: {other:?}"),
    }
}

fn migrating_handle(plan: &Plan) -> Handle<cutover::Migrating> {
    match cutover::open(plan).expect("opens") {
        Found::Migrating(handle) => handle,
        other => panic!("not migrating: {other:?}"),
    }
}

fn sqlite(path: &Path, statements: &str) {
    let connection = rusqlite::Connection::open(path).expect("opens");
    connection.execute_batch(statements).expect("runs");
}

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
struct Mount {
    at: PathBuf,
}

impl Mount {
    /// An empty file system of `kibibytes` in memory.
    fn memory(at: &Path, kibibytes: usize) -> Self {
        Self::run(at, &["-t", "tmpfs", "-o", &format!("size={kibibytes}k"), "tmpfs"])
    }

    /// The same folder under a second name.
    fn bind(from: &Path, at: &Path) -> Self {
        Self::run(at, &["--bind", from.to_str().expect("UTF-8")])
    }

    fn run(at: &Path, words: &[&str]) -> Self {
        mount(at, words);
        Self { at: at.to_owned() }
    }

    fn grow(&self, kibibytes: usize) {
        mount(&self.at, &["-o", &format!("remount,size={kibibytes}k")]);
    }
}

fn mount(at: &Path, words: &[&str]) {
    let status = Command::new("mount").args(words).arg(at).status().expect("mount(8)");
    assert!(status.success(), "this test must be able to mount: run it as root");
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(&self.at).status();
        assert!(std::thread::panicking() || unmounted.is_ok_and(|status| status.success()));
    }
}
