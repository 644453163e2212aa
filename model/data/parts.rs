//! A keyspace that is read back in two parts at once, over two connections.

use crate::common::{Pairs, write_store};
use cutover::{
    Blobs, Error, Mapping, MappingError, Observer, Part, Plan, Progress, Rows, Sizes, Table, Visit,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blobs, and how often they were read back in parts.
struct Counted(Blobs, Arc<AtomicUsize>);

impl Mapping for Counted {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn tables(&self) -> Vec<Table> {
        self.0.tables()
    }
    fn tables_for(&self, sizes: Sizes) -> Vec<Table> {
        self.0.tables_for(sizes)
    }
    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        self.0.write(rows, key, value)
    }
    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        self.0.read_back(rows, visit)
    }
    fn read_back_part(
        &self,
        rows: &Rows<'_>,
        part: Part<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<bool, MappingError> {
        let known = self.0.read_back_part(rows, part, visit)?;
        self.1.fetch_add(usize::from(known), Ordering::Relaxed);
        Ok(known)
    }
}

/// Changes the table once it is copied, behind its fence, which stands again afterwards.
struct Tamper {
    target: PathBuf,
    statement: String,
    pairs_told: Vec<u64>,
    stop: bool,
}

impl Observer for Tamper {
    fn step(&mut self, name: &str, _: &str) {
        if name != "copy" {
            return;
        }
        let connection = rusqlite::Connection::open(&self.target).expect("opens");
        let fence = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'";
        let triggers: Vec<(String, String)> = connection
            .prepare(fence)
            .and_then(|mut found| found.query_map([], |row| <_>::try_from(row))?.collect())
            .expect("reads");
        assert!(!triggers.is_empty());
        for (name, _) in &triggers {
            connection.execute(&format!("DROP TRIGGER \"{name}\""), []).expect("drops");
        }
        connection.execute_batch(&self.statement).expect("changes");
        for (_, sql) in &triggers {
            connection.execute(sql, []).expect("stands again");
        }
    }

    fn progress(&mut self, progress: &Progress) {
        if progress.phase == cutover::Phase::Verifying {
            self.pairs_told.push(progress.pairs);
        }
    }

    fn cancelled(&self) -> bool {
        self.stop && !self.pairs_told.is_empty()
    }
}

struct Store {
    folder: tempfile::TempDir,
    plan: Plan,
    parts: Arc<AtomicUsize>,
}

/// As many pairs as are worth two connections; wide ones go into a table with row ids.
fn store(pairs: u32, value_bytes: usize) -> Store {
    let folder = tempfile::tempdir().expect("a folder");
    let all = (0..pairs).map(|i| (i.to_be_bytes().to_vec(), vec![7; value_bytes]));
    let keyspaces: Pairs = [("k".to_owned(), all.collect())].into();
    write_store(&folder.path().join("store"), &keyspaces);
    let parts = Arc::new(AtomicUsize::new(0));
    let mapping = Counted(Blobs::new("t"), parts.clone());
    let plan = Plan::builder("parts")
        .source("store", folder.path().join("store"), |s| s.table("k", mapping))
        .target(folder.path().join("target.sqlite"))
        .build()
        .expect("a plan");
    Store { folder, plan, parts }
}

fn tamper(folder: &Path, statement: &str) -> Tamper {
    let target = folder.join("target.sqlite");
    Tamper { target, statement: statement.to_owned(), pairs_told: Vec::new(), stop: false }
}

const NARROW: (u32, usize) = (120_000, 50);
const WIDE: (u32, usize) = (1_500, 5_000);

#[test]
fn both_parts_are_read_and_told_as_one() {
    for (pairs, value_bytes) in [NARROW, WIDE] {
        let store = store(pairs, value_bytes);
        let mut watch = tamper(store.folder.path(), "");
        drop(cutover::sql(&store.plan, &mut watch).expect("it is whole"));
        assert_eq!(store.parts.load(Ordering::Relaxed), 2, "read in parts");
        assert_eq!(watch.pairs_told.last(), Some(&u64::from(pairs)));
        assert!(watch.pairs_told.is_sorted(), "{:?}", watch.pairs_told);
    }
}

/// Wherever the row is: at either end, in the middle, and where none should be.
#[test]
fn i2_a_row_that_changes_between_copy_and_verification_is_found_in_either_part() {
    for ((pairs, value_bytes), at) in [(NARROW, 0), (NARROW, 60_000), (WIDE, 1_499)] {
        let key = format!("x'{at:08x}'");
        for (statement, found) in [
            (format!("UPDATE t SET value = x'00' WHERE key = {key}"), 0),
            (format!("DELETE FROM t WHERE key = {key}"), -1),
            (format!("INSERT INTO t VALUES (x'', {key})"), 1),
            (format!("INSERT INTO t VALUES (x'ffff', {key})"), 1),
        ] {
            let store = store(pairs, value_bytes);
            let mut watch = tamper(store.folder.path(), &statement);
            let error = cutover::sql(&store.plan, &mut watch).expect_err("it shows");
            let Error::Verification(mismatch) = &error else { panic!("{statement}: {error:?}") };
            assert_eq!(mismatch.found_pairs, u64::from(pairs).saturating_add_signed(found));
            assert_eq!(store.parts.load(Ordering::Relaxed), 2, "read in parts");
        }
    }
}

#[test]
fn a_verification_in_parts_can_be_cancelled_and_done_again() {
    let store = store(NARROW.0, NARROW.1);
    let mut watch = tamper(store.folder.path(), "");
    watch.stop = true;
    let error = cutover::sql(&store.plan, &mut watch).expect_err("it stops").to_string();
    assert!(error.contains("cancelled"), "{error}");
    drop(cutover::sql(&store.plan, &mut ()).expect("it goes on"));
}
