//! The operator's command, end to end: its exit codes, its words, and what it leaves alone.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

mod advice;
mod damage;
pub mod freeing;
mod looking;
mod moving;
mod pages;
mod parts;
pub mod places;
mod stopping;
mod verifying;
mod wording;

use crate::child;
use crate::common::{
    SOURCES, Snapshot, changed, read_store, read_table, small_daemon, small_store, snapshot,
};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const COMMAND: &str = env!("CARGO_BIN_EXE_cutover");

fn cutover(words: &[&str]) -> Output {
    Command::new(COMMAND).args(words).stdin(Stdio::null()).output().expect("the command")
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All that a command has said.
pub fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// Demands that every file is as it was, and names those that are not.
pub fn unchanged(folder: &Path, before: &Snapshot) {
    let after = snapshot(folder);
    let changed = changed(before, &after);
    assert!(changed.is_empty(), "changed: {changed:?}");
}

/// The small daemon's stores, and the words that name them.
pub struct Daemon {
    _temporary: tempfile::TempDir,
    pub folder: PathBuf,
}

impl Daemon {
    pub fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join("data");
        fs::create_dir(&folder).expect("a folder");
        small_daemon(&folder);
        Self { _temporary: temporary, folder }
    }

    /// Opens every store once: fjall cuts the unused end off a new journal then, as at every open.
    pub fn opened_once() -> Self {
        let daemon = Self::new();
        daemon.is_whole_in_kv();
        daemon
    }

    /// The same, migrated.
    pub fn live() -> Self {
        let daemon = Self::opened_once();
        daemon.ends("migrate", &["--yes"], 0);
        daemon
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn target(&self) -> PathBuf {
        self.path("target.sqlite")
    }

    /// Where the next marker of a source is written: a folder that is not empty can't be removed.
    fn in_the_way_of(&self, source: &str) -> PathBuf {
        let marker = std::fs::read_to_string(self.path(source)).expect("a marker");
        let id = marker.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
        self.path(&format!("{source}.cutover-{}", id.expect("an id")))
    }

    fn words(&self, verb: &str, more: &[&str]) -> Vec<String> {
        let mut words = vec![verb.to_owned(), "--name".to_owned(), "small".to_owned()];
        for name in SOURCES {
            words.push("--source".to_owned());
            words.push(format!("{name}={}", self.path(name).display()));
        }
        words.push("--target".to_owned());
        words.push(self.target().display().to_string());
        words.extend(more.iter().map(ToString::to_string));
        words
    }

    fn run(&self, verb: &str, more: &[&str]) -> Output {
        let words = self.words(verb, more);
        cutover(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs and demands an exit code.
    pub fn ends(&self, verb: &str, more: &[&str], expected: i32) -> Output {
        let output = self.run(verb, more);
        assert_eq!(
            code(&output),
            expected,
            "{verb} {more:?}\n{}\n{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        output
    }

    pub fn state(&self) -> String {
        self.status()["state"].as_str().expect("a state").to_owned()
    }

    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.run("status", &["--json"]).stdout).expect("one JSON object")
    }

    /// Opens every store and closes it.
    fn opens(&self) {
        for name in SOURCES {
            drop(read_store(&self.path(name)));
        }
    }

    pub fn is_whole_in_kv(&self) {
        for (seed, name) in (1..).zip(SOURCES) {
            assert_eq!(read_store(&self.path(name)), small_store(seed, 20));
        }
    }

    pub fn is_whole_in_sql(&self) {
        for (seed, name) in (1..).zip(SOURCES) {
            for (keyspace, pairs) in small_store(seed, 20) {
                assert_eq!(read_table(&self.target(), &format!("{name}_{keyspace}")), pairs);
            }
        }
    }

    /// Runs `migrate` in a process that is killed at the fault point with this number.
    fn killed_at(&self, point: usize) {
        child::killed(&["sql", self.folder.to_str().expect("UTF-8")], point);
    }

    /// Kills a migration at its first point where the state is `wanted`.
    pub fn left_at(wanted: &str) -> Self {
        let order = ["Fresh", "Migrating", "Committed", "Tombstoned"];
        let rank = |state: &str| order.iter().position(|name| *name == state);
        let daemon = Self::left(|daemon| rank(&daemon.state()) >= rank(wanted));
        assert_eq!(daemon.state(), wanted);
        daemon
    }

    /// Kills a migration at its first point where this source has its marker.
    fn left_at_marker(source: &str) -> Self {
        Self::left(|daemon| daemon.path(source).is_file())
    }

    /// `reached` is false up to some fault point, and true from there on.
    fn left(reached: impl Fn(&Self) -> bool) -> Self {
        // More fault points than a migration of these stores passes.
        let (mut before, mut at) = (0, 1024);
        let mut left = None;
        while at - before > 1 {
            let point = usize::midpoint(before, at);
            let daemon = Self::new();
            daemon.killed_at(point);
            if reached(&daemon) {
                (at, left) = (point, Some(daemon));
            } else {
                before = point;
            }
        }
        left.expect("a kill that left it so")
    }
}
