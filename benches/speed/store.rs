//! Making the stores: as a daemon writes them, in no order of their keys.

use crate::work::{KEY_BYTES, Kind, Work};
use std::path::Path;
use std::process::Command;

/// The keyspaces of a store with `work`'s pairs: each pair's own, or one for all.
fn keyspaces(work: &Work) -> Vec<String> {
    match work.kind {
        Kind::Keyspaces => (0..work.pairs).map(|number| format!("pairs_{number}")).collect(),
        Kind::Main | Kind::Journal | Kind::Existing | Kind::Growth | Kind::Sweep => {
            vec!["pairs".to_owned()]
        }
    }
}

/// The key with this number; their order is the numbers'.
fn key(number: u64) -> Vec<u8> {
    let key = format!("key {number:020}").into_bytes();
    assert_eq!(key.len(), KEY_BYTES);
    key
}

/// Bytes that nothing compresses, the same for the same number.
fn value(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Writes the pairs of `work` in an order that is not their keys', as a daemon does. What is left in
/// the journal then is only left there where the work is about it: replaying it takes as long,
/// anyone who opens the store.
pub fn write(path: &Path, work: &Work) {
    let database = fjall::Database::builder(path).open().expect("a new store");
    let keyspaces = keyspaces(work);
    let pairs = work.pairs / keyspaces.len() as u64;
    // A prime that divides no number of pairs here visits each number once.
    let stride = 1_000_003;
    assert!(!pairs.is_multiple_of(stride));
    for name in &keyspaces {
        let keyspace =
            database.keyspace(name, fjall::KeyspaceCreateOptions::default).expect("a keyspace");
        for i in 0..pairs {
            let number = i * stride % pairs;
            keyspace.insert(key(number), value(number, work.value_bytes)).expect("inserts");
        }
        if work.kind != Kind::Journal {
            keyspace.rotate_memtable_and_wait().expect("flushes");
        }
    }
    database.persist(fjall::PersistMode::SyncAll).expect("persists");
}

/// Every pair, in the order of the keys, in memory.
pub fn sorted(work_pairs: u64, value_bytes: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..work_pairs).map(|number| (key(number), value(number, value_bytes))).collect()
}

/// A database that somebody uses: in WAL, with pages of 4 KiB and rows in tables of its own.
pub fn write_existing_target(path: &Path) {
    let connection = rusqlite::Connection::open(path).expect("opens");
    connection
        .execute_batch(
            "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL;
             CREATE TABLE invoices (id INTEGER PRIMARY KEY, memo TEXT, amount INTEGER);
             CREATE INDEX by_amount ON invoices (amount);
             WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO invoices SELECT i, 'memo ' || i, i * 7919 % 10007 FROM n;",
        )
        .expect("tables");
}

/// Copies a tree with its holes, and makes the copy durable, so that nobody is charged for it.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .args(["-a", "--sparse=always"])
        .args([from, to])
        .status()
        .expect("cp runs");
    assert!(copied.success(), "cp failed");
    sync();
}

/// Makes everything durable that anybody has written.
pub fn sync() {
    assert!(Command::new("sync").status().expect("sync runs").success());
}
