//! What is done again after a kill, and what is not done at all once the data has moved.

use crate::child;
use crate::common::{read_table, small_store};
use crate::daemon::{Daemon, settle};
use cutover::fault;
use cutover::{Found, Observer, Phase, Progress};
use std::collections::BTreeSet;
use std::fs;

/// Notes how many pairs are durable after each chunk.
#[derive(Default)]
struct Chunks(Vec<u64>);

impl Observer for Chunks {
    fn progress(&mut self, progress: &Progress) {
        if progress.phase == Phase::Copying {
            self.0.push(progress.pairs);
        }
    }
}

/// Pairs that the record says are copied.
fn durable_pairs(daemon: &Daemon) -> u64 {
    let body: String = rusqlite::Connection::open(daemon.at("target.sqlite"))
        .expect("opens")
        .query_one("SELECT body FROM cutover_record", [], |row| row.get(0))
        .expect("a record");
    // A line with its checksum comes behind it.
    let json = body.lines().next().expect("a line");
    let record: serde_json::Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(record["stage"], "copying");
    let keyspaces = record["keyspaces"].as_array().expect("keyspaces");
    keyspaces.iter().map(|keyspace| keyspace["pairs"].as_u64().expect("a count")).sum()
}

#[test]
fn i2_a_kill_in_the_copy_costs_one_chunk_at_most() {
    let (mut whole, daemon) = (Chunks::default(), Daemon::fresh());
    fault::arm(None);
    drop(cutover::sql(&daemon.plan(), &mut whole).expect("SQL"));
    let whole = whole.0;
    let points = fault::passed();
    let is_commit = |name: &str| name == "before a commit" || name == "after a commit";
    // The copy begins when it has set the journal mode; a chunk is a transaction.
    let copy = points.iter().position(|name| *name == "journal mode set").expect("a copy");
    let commits = points.iter().enumerate().skip(copy).filter(|(_, name)| is_commit(name));
    let in_the_copy = commits.map(|(at, _)| at + 1).take(2 * whole.len());

    let mut seen = BTreeSet::new();
    for (at, number) in in_the_copy.enumerate() {
        let daemon = Daemon::fresh();
        assert!(child::killed(&["sql", daemon.path().to_str().expect("UTF-8")], number));
        // The chunk whose commit it was killed before is lost, and no other.
        let durable = durable_pairs(&daemon);
        let chunks = at.div_ceil(2);
        assert_eq!(durable, chunks.checked_sub(1).map_or(0, |last| whole[last]));
        let mut rest = Chunks::default();
        drop(cutover::sql(&daemon.plan(), &mut rest).expect("SQL"));
        assert_eq!(rest.0, whole[chunks..], "killed at {number}");
        seen.insert(durable);
    }
    assert_eq!(seen.len(), whole.iter().collect::<BTreeSet<_>>().len() + 1);
}

/// A daemon pays for each start what opening costs.
#[test]
fn opening_a_migrated_plan_opens_no_kv_store() {
    let daemon = Daemon::live();
    for source in crate::common::SOURCES {
        let retired = daemon.at(&format!("{source}.retired"));
        fs::remove_dir_all(retired.join("keyspaces")).expect("removes");
        fs::create_dir(retired.join("9.jnl")).expect("a folder");
    }
    for _ in 0..2 {
        let Found::Tombstoned(handle) = cutover::open(&daemon.plan()).expect("opens") else {
            panic!("it is tombstoned")
        };
        drop(handle.into_sql().expect("SQL"));
    }
    let rows = read_table(&daemon.at("target.sqlite"), "accounts_first");
    assert_eq!(rows, small_store(1, 20)["first"]);
    // What does open the stores fails.
    let Found::Tombstoned(mut handle) = cutover::open(&daemon.plan()).expect("opens") else {
        panic!("it is tombstoned")
    };
    let verified = handle.verify(&mut ()).expect("verifies");
    for keyspace in verified.keyspaces {
        let cutover::Compared::Differs { how } = keyspace.store else { panic!("{keyspace:?}") };
        assert!(how.contains("is not what was sealed"), "{how}");
        assert_eq!(keyspace.target, cutover::Compared::Same);
    }
}

/// Pages of 4 KiB hold no row of 1 KiB in a table without row ids.
#[test]
fn rows_that_are_wide_for_the_pages_that_are_there_get_a_table_with_row_ids() {
    let daemon = Daemon::fresh();
    let wide: crate::common::Pairs =
        [("wide".to_owned(), (0..200_u8).map(|i| (vec![i; 24], vec![i; 1024])).collect())].into();
    crate::common::write_store(&daemon.at("accounts"), &wide);
    settle(daemon.path());
    daemon.sqlite("PRAGMA page_size = 4096; CREATE TABLE theirs (a);");
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
    let connection = rusqlite::Connection::open(daemon.at("target.sqlite")).expect("opens");
    let is_without_rowid = |table: &str| -> bool {
        connection
            .query_one("SELECT wr FROM pragma_table_list WHERE name = ?1", [table], |r| r.get(0))
            .expect("a table")
    };
    assert!(!is_without_rowid("accounts_wide"));
    assert!(is_without_rowid("accounts_first"));
    let rows = read_table(&daemon.at("target.sqlite"), "accounts_wide");
    assert_eq!(rows, wide["wide"]);
    let pages: i64 =
        connection.query_one("PRAGMA page_count", [], |r| r.get(0)).expect("counts pages");
    assert!(pages < 200, "{pages} pages for 200 rows");
}
