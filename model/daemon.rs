//! The small daemon, brought to each state.

use crate::common::{SOURCES, copy_tree, small_daemon, small_plan};
use cutover::{Found, Handle, Observer, Plan, Progress};
use std::fs;
use std::path::{Path, PathBuf};

/// The small daemon's stores in a folder of their own, brought to some state.
pub struct Daemon {
    folder: tempfile::TempDir,
}

impl Daemon {
    pub fn fresh() -> Self {
        let daemon = Self { folder: tempfile::tempdir().expect("a folder") };
        small_daemon(daemon.path());
        settle(daemon.path());
        daemon
    }

    /// Sealed, and nothing copied.
    pub fn sealed() -> Self {
        let daemon = Self::fresh();
        fresh_handle(&daemon.plan()).begin().expect("begins");
        daemon
    }

    /// Some chunks copied.
    pub fn copying() -> Self {
        let daemon = Self::sealed();
        daemon.copy_some_chunks();
        daemon
    }

    pub fn committed() -> Self {
        let daemon = Self::sealed();
        migrating_handle(&daemon.plan()).run(&mut ()).expect("runs");
        daemon
    }

    pub fn live() -> Self {
        let daemon = Self::fresh();
        cutover::sql(&daemon.plan(), &mut ()).expect("SQL");
        daemon
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn plan(&self) -> Plan {
        small_plan(self.path())
    }

    pub fn copy_some_chunks(&self) {
        let mut observer = StopAfter { chunks: 2 };
        let failed = migrating_handle(&self.plan()).run(&mut observer).expect_err("stops");
        assert_eq!(failed.error.to_string(), CANCELLED);
    }

    /// Opens the SQL database and runs statements, as somebody who knows nothing of cutover.
    pub fn sqlite(&self, statements: &str) {
        sqlite(&self.at("target.sqlite"), statements);
    }

    /// Copies a file or folder to a place outside the daemon's folder and returns the copy.
    pub fn keep(&self, name: &str) -> Kept {
        let kept = Kept { folder: tempfile::tempdir().expect("a folder") };
        put(&self.at(name), &kept.path());
        kept
    }
}

pub const CANCELLED: &str = "stopped part-way and nothing is lost; could not copy: cancelled on request; run this again to go on";

/// A copy of a file or a folder.
pub struct Kept {
    folder: tempfile::TempDir,
}

impl Kept {
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("kept")
    }

    /// Puts it where nothing stands, or over a file.
    pub fn put_back(&self, to: &Path) {
        put(&self.path(), to);
    }
}

pub fn put(from: &Path, to: &Path) {
    if from.is_dir() {
        copy_tree(from, to);
    } else {
        fs::copy(from, to).expect("copies");
    }
}

/// Opens the stores once more: fjall's first open after the one that made a store cuts its journal to
/// length and removes old lists of tables. Later opens change nothing, so a snapshot shows what we do.
pub fn settle(folder: &Path) {
    for name in SOURCES {
        crate::common::read_store(&folder.join(name));
    }
}

/// Stops after this many chunks.
pub struct StopAfter {
    pub chunks: usize,
}

impl Observer for StopAfter {
    fn progress(&mut self, _: &Progress) {
        self.chunks = self.chunks.saturating_sub(1);
    }

    fn cancelled(&self) -> bool {
        self.chunks == 0
    }
}

pub fn fresh_handle(plan: &Plan) -> Handle<cutover::Fresh> {
    match cutover::open(plan).expect("opens") {
        Found::Fresh(handle) => handle,
        other => panic!("not fresh: {other:?}"),
    }
}

/// Compares a live target, and its retired stores, with what was copied.
pub fn verify(plan: &Plan) -> Result<(), cutover::Verified> {
    match cutover::open(plan).expect("opens") {
        Found::Tombstoned(mut handle) => {
            let verified = handle.verify(&mut ()).expect("verifies");
            if verified.is_whole() { Ok(()) } else { Err(verified) }
        }
        other => panic!("not live: {other:?}"),
    }
}

/// Demands that both sides are as they were copied.
pub fn is_whole(handle: &mut Handle<cutover::Tombstoned>, observer: &mut dyn Observer) {
    let verified = handle.verify(observer).expect("verifies");
    assert!(verified.is_whole(), "{verified:?}");
}

pub fn migrating_handle(plan: &Plan) -> Handle<cutover::Migrating> {
    match cutover::open(plan).expect("opens") {
        Found::Migrating(handle) => handle,
        other => panic!("not migrating: {other:?}"),
    }
}

pub fn sqlite(path: &Path, statements: &str) {
    let connection = rusqlite::Connection::open(path).expect("opens");
    connection.execute_batch(statements).expect("runs");
}
