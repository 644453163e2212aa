//! What somebody else does between a look and the step that was chosen upon it, on real files.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod everywhere;
mod named;

use crate::{Plan, PlanBuilder};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const SOURCES: [&str; 2] = ["a", "b"];
const MISSING: &str = "c";
/// What the other party's files begin with.
const THEIRS: &[u8] = b"theirs";

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys that lie as close after each other as keys can.
fn pairs(of: u8) -> Pairs {
    let keys = [&[1][..], &[1, 0], &[1, 0, 0], &[1, 1], &[2], &[2, 0]];
    keys.into_iter().map(|key| (key.to_vec(), vec![of; 3])).collect()
}

fn write_store(path: &Path, pairs: &Pairs) {
    let database = fjall::Database::builder(path).open().expect("a new store");
    let keyspace = database.keyspace("k", fjall::KeyspaceCreateOptions::default).expect("k");
    for (key, value) in pairs {
        keyspace.insert(key.as_slice(), value.as_slice()).expect("inserts");
    }
    database.persist(fjall::PersistMode::SyncAll).expect("persists");
}

fn read_table(folder: &Path, source: &str) -> Option<Pairs> {
    let connection = rusqlite::Connection::open(folder.join("t.sqlite")).expect("opens");
    let mut rows = connection.prepare(&format!("SELECT key, value FROM {source}_k")).ok()?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    Some(rows.map(|row| row.expect("a row")).collect())
}

fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a folder");
    for (of, source) in (1..).zip(SOURCES) {
        write_store(&folder.path().join(source), &pairs(of));
    }
    folder
}

/// Each pair is a chunk.
fn plan(folder: &Path) -> Plan {
    builder(folder).target(folder.join("t.sqlite")).chunk_bytes(1).build().expect("a plan")
}

fn builder(folder: &Path) -> PlanBuilder {
    SOURCES
        .into_iter()
        .fold(Plan::builder("p"), |plan, source| {
            plan.source(source, folder.join(source), crate::SourceBuilder::every_keyspace)
        })
        .source(MISSING, folder.join(MISSING), |s| s.may_be_missing().every_keyspace())
}

/// Stops the copy after some chunks.
struct StopAfter(usize);

impl crate::Observer for StopAfter {
    fn progress(&mut self, progress: &crate::Progress) {
        if progress.phase == crate::Phase::Copying {
            self.0 = self.0.saturating_sub(1);
        }
    }

    fn cancelled(&self) -> bool {
        self.0 == 0
    }
}

/// Moves what stands at `path` away, and puts another's store in its place.
fn swap(path: &Path) {
    let name = path.file_name().expect("a name").display().to_string();
    let aside = path.with_file_name(format!("aside-{name}"));
    fs::rename(path, aside).expect("moves");
    write_store(path, &pairs(9));
    fs::write(path.join("theirs"), THEIRS).expect("writes");
}
