//! Whole stores, written by a program that knows nothing of cutover, with everything that fjall
//! allows in them.

use crate::common::{Pairs, read_store, read_table};
use crate::daemon::{Daemon, sqlite};
use cutover::{Compared, Found, Handle, Plan, Tombstoned};
use fjall::{KeyspaceCreateOptions, KvSeparationOptions};
use std::collections::BTreeMap;
use std::path::Path;

type Keyspace = BTreeMap<Vec<u8>, Vec<u8>>;

const SOURCES: [&str; 3] = ["accounts", "sessions", "blobs"];

/// As long as fjall's keys can be, in bytes.
const KEY_BYTES_MAX: usize = 65_535;

/// Some bytes that look like nothing in particular.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn many(tag: u64, pairs: u64, value_bytes: usize) -> Keyspace {
    (0..pairs)
        .map(|i| {
            let mut key = noise(tag * 1_000_000 + i, 16);
            key.extend(i.to_be_bytes());
            (key, noise(i, value_bytes))
        })
        .collect()
}

/// The neighbours of the empty key, the largest keys, empty and large values.
fn extremes() -> Keyspace {
    let mut pairs = BTreeMap::new();
    for key in [vec![0], vec![0, 0], vec![0, 0, 0], vec![0, 1], vec![255], vec![255; 300]] {
        pairs.insert(key.clone(), key);
    }
    pairs.insert(b"empty".to_vec(), Vec::new());
    pairs.insert(b"'; DROP TABLE cutover_record; --".to_vec(), b"\0NUL\0".to_vec());
    pairs.insert(vec![0xff; KEY_BYTES_MAX], b"a long key".to_vec());
    pairs.insert(vec![0x00; KEY_BYTES_MAX], noise(5, KEY_BYTES_MAX));
    for i in 0..4 {
        pairs.insert(format!("large {i}").into_bytes(), noise(i, 1024 * 1024));
    }
    pairs
}

/// What each source is to hold.
fn contents() -> BTreeMap<&'static str, Pairs> {
    let keyspaces = |named: Vec<(&str, Keyspace)>| {
        named.into_iter().map(|(name, pairs)| (name.to_owned(), pairs)).collect()
    };
    let accounts = keyspaces(vec![
        ("plain", many(1, 40_000, 100)),
        ("a\"b", many(2, 1_000, 10)),
        ("it's", many(3, 1_000, 10)),
        ("two words; -- and a comment", many(4, 1_000, 10)),
        ("naïve ☃ \u{202e}", many(5, 1_000, 10)),
        ("nothing in it", BTreeMap::new()),
    ]);
    let sessions =
        keyspaces(vec![("a line\nbreak", many(6, 26_000, 30)), ("%_[a-z]*?", many(7, 10_000, 0))]);
    let mut separated = many(8, 20_000, 40);
    separated.extend(extremes());
    let blobs = keyspaces(vec![("extremes", extremes()), ("separated", separated)]);
    BTreeMap::from([("accounts", accounts), ("sessions", sessions), ("blobs", blobs)])
}

/// Writes a store the long way round: values that are overwritten, pairs that are deleted, and,
/// where `flushed`, tables on disk with a journal on top of them.
fn write_long_way_round(path: &Path, pairs: &Pairs, flushed: bool) {
    let database = fjall::Database::builder(path).open().expect("a new store");
    for (name, pairs) in pairs {
        let options = || {
            let separation = KvSeparationOptions::default().separation_threshold(64);
            let separate = (name == "separated").then_some(separation);
            KeyspaceCreateOptions::default().with_kv_separation(separate)
        };
        let keyspace = database.keyspace(name, options).expect("a keyspace");
        for (key, _) in pairs.iter().step_by(3) {
            keyspace.insert(key.as_slice(), "an older value").expect("inserts");
        }
        for i in 0..500_u16 {
            keyspace
                .insert([b"gone ".as_slice(), &i.to_be_bytes()].concat(), "x")
                .expect("inserts");
        }
        if flushed {
            keyspace.rotate_memtable_and_wait().expect("flushes");
        }
        for (at, (key, value)) in pairs.iter().enumerate() {
            keyspace.insert(key.as_slice(), value.as_slice()).expect("inserts");
            if flushed && at == pairs.len() / 2 {
                keyspace.rotate_memtable_and_wait().expect("flushes");
            }
        }
        for i in 0..500_u16 {
            keyspace.remove([b"gone ".as_slice(), &i.to_be_bytes()].concat()).expect("removes");
        }
    }
    database.persist(fjall::PersistMode::SyncAll).expect("persists");
}

fn tombstoned(plan: &Plan) -> Handle<Tombstoned> {
    match cutover::open(plan).expect("opens") {
        Found::Tombstoned(handle) => handle,
        other => panic!("not tombstoned: {other:?}"),
    }
}

#[test]
fn a_hundred_thousand_pairs_of_every_kind_arrive_once_and_read_back_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let contents = contents();
    for (name, pairs) in &contents {
        write_long_way_round(&folder.path().join(name), pairs, *name != "sessions");
        assert!(read_store(&folder.path().join(name)) == *pairs, "the test wrote something else");
    }
    let target = folder.path().join("target.sqlite");
    let plan = SOURCES
        .iter()
        .fold(Plan::builder("whole"), |plan, name| {
            plan.source(*name, folder.path().join(name), |s| s.every_keyspace())
        })
        .target(&target)
        // Smaller than the largest values, and many chunks for the others.
        .chunk_bytes(256 * 1024)
        .build()
        .expect("a plan");

    drop(cutover::sql(&plan, &mut ()).expect("SQL"));

    let mut total = 0;
    for (source, keyspaces) in &contents {
        for (keyspace, pairs) in keyspaces {
            let table = format!("{source}_{keyspace}").replace('"', "\"\"");
            assert!(read_table(&target, &table) == *pairs, "{source}, {keyspace}");
            total += pairs.len() as u64;
        }
    }
    let verified = tombstoned(&plan).verify(&mut ()).expect("verifies");
    assert!(verified.is_whole());
    assert_eq!(verified.keyspaces.iter().map(|keyspace| keyspace.pairs).sum::<u64>(), total);
    assert!(total >= 100_000, "{total}");
    let tables: i64 = rusqlite::Connection::open(&target)
        .expect("opens")
        .query_one("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0))
        .expect("counts");
    assert_eq!(tables, 10 + 1, "one for each keyspace, and the record's");
}

#[test]
fn keyspaces_whose_tables_would_differ_in_case_alone_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let pairs: Pairs = ["Name", "name"].map(|name| (name.to_owned(), BTreeMap::new())).into();
    crate::common::write_store(&folder.path().join("accounts"), &pairs);
    let plan = Plan::builder("case")
        .source("accounts", folder.path().join("accounts"), |s| s.every_keyspace())
        .target(folder.path().join("target.sqlite"))
        .build()
        .expect("a plan");
    let error = cutover::sql(&plan, &mut ()).expect_err("SQLite's names have no case").to_string();
    assert!(
        error.contains("would write table 'accounts_name', which keyspace 'Name' of source"),
        "{error}"
    );
}

#[test]
fn verify_names_the_keyspace_of_a_row_that_was_changed_added_removed_or_swapped() {
    let swap =
        "UPDATE sessions_second SET value = (SELECT other.value FROM sessions_second AS other
                WHERE other.key = iif(sessions_second.key = x'0201', x'0202', x'0201'))
                WHERE key IN (x'0201', x'0202')";
    for (tampering, found) in [
        ("UPDATE sessions_second SET value = x'00' WHERE key = x'0201'", 20),
        ("UPDATE sessions_second SET key = x'99' WHERE key = x'0201'", 20),
        (swap, 20),
        ("INSERT INTO sessions_second VALUES (x'99', x'00')", 21),
        ("DELETE FROM sessions_second WHERE key = x'0201'", 19),
    ] {
        let daemon = Daemon::live();
        let before = tombstoned(&daemon.plan()).verify(&mut ()).expect("verifies");
        assert!(before.is_whole(), "{before:?}");
        sqlite(&daemon.at("target.sqlite"), tampering);
        let verified = tombstoned(&daemon.plan()).verify(&mut ()).expect("verifies");
        assert!(verified.stores_are_whole() && !verified.target_is_whole(), "{verified:?}");
        for keyspace in &verified.keyspaces {
            let is_it = (&*keyspace.source, &*keyspace.keyspace) == ("sessions", "second");
            let changed =
                matches!(keyspace.target, Compared::Changed { pairs, .. } if pairs == found);
            assert_eq!(changed, is_it, "{tampering}: {keyspace:?}");
            assert_eq!(keyspace.target == Compared::Same, !is_it, "{tampering}: {keyspace:?}");
        }
    }
}

#[test]
fn verify_notices_a_retired_store_that_was_changed() {
    let daemon = Daemon::live();
    let retired = daemon.at("accounts.retired");
    std::fs::write(retired.join("version"), "FJL\u{3}").expect("lifts the second lock");
    {
        let database = fjall::Database::builder(&retired).open().expect("opens");
        let keyspace = database.keyspace("first", KeyspaceCreateOptions::default).expect("one");
        keyspace.insert([1, 5], "other").expect("inserts");
        database.persist(fjall::PersistMode::SyncAll).expect("persists");
    }
    let verified = tombstoned(&daemon.plan()).verify(&mut ()).expect("verifies");
    assert!(!verified.stores_are_whole() && verified.target_is_whole(), "{verified:?}");
    // The store is not what was sealed, so none of it is read.
    for keyspace in &verified.keyspaces {
        match &keyspace.store {
            Compared::Differs { how } => {
                assert_eq!(keyspace.source, "accounts");
                assert!(how.contains("is not what was sealed"), "{how}");
            }
            other => assert_eq!((&*keyspace.source, other), ("sessions", &Compared::Same)),
        }
    }
}
