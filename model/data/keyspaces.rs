//! Many small keyspaces: several go in one chunk, and what they cost grows as their number does.

use crate::child;
use crate::common::{Pairs, read_table, write_store};
use cutover::{Observer, Phase, Plan, Progress, fault};
use std::fs;
use std::path::Path;

fn store(keyspaces: u8) -> Pairs {
    let pairs = |number: u8| (0..number % 4).map(|key| (vec![key], vec![number, key])).collect();
    (0..keyspaces).map(|number| (format!("k{number:03}"), pairs(number))).collect()
}

fn plan(folder: &Path) -> Plan {
    Plan::builder("many")
        .source("s", folder.join("s"), |s| s.every_keyspace())
        .target(folder.join("target.sqlite"))
        .chunk_bytes(CHUNK_BYTES)
        .build()
        .expect("a plan")
}

/// Room for three keyspaces, each of which counts for 16 KiB.
const CHUNK_BYTES: usize = 3 * 16 * 1024;

/// As a daemon that is told to use SQL; fault points are armed by the environment.
pub fn migrate(folder: &Path) {
    fault::arm_from_environment();
    drop(cutover::sql(&plan(folder), &mut ()).expect("SQL"));
}

/// Each keyspace's rows, as a plain connection finds them.
fn rows(folder: &Path, of: &Pairs) -> Pairs {
    let target = folder.join("target.sqlite");
    of.keys().map(|name| (name.clone(), read_table(&target, &format!("s_{name}")))).collect()
}

/// Whether a plain connection can insert into any of the tables.
fn is_written(folder: &Path, of: &Pairs) -> bool {
    let Ok(connection) = rusqlite::Connection::open(folder.join("target.sqlite")) else {
        return false;
    };
    of.keys().any(|name| {
        connection.execute(&format!("INSERT INTO s_{name} VALUES (x'ff', x'00')"), []).is_ok()
    })
}

/// The keyspaces that the record says are done.
fn done(folder: &Path) -> usize {
    let Ok(connection) = rusqlite::Connection::open(folder.join("target.sqlite")) else { return 0 };
    let body = connection.query_one("SELECT body FROM cutover_record", [], |row| row.get(0));
    let Ok(body): rusqlite::Result<String> = body else { return 0 };
    body.matches("\"done\":true").count()
}

/// Notes which keyspaces it hears of, and how many were durable then.
struct Heard<'a>(&'a Path, Vec<(String, usize)>);

impl Observer for Heard<'_> {
    fn progress(&mut self, progress: &Progress) {
        if progress.phase == Phase::Copying {
            self.1.push((progress.keyspace.clone(), done(self.0)));
        }
    }
}

#[test]
fn i1_i2_i7_a_kill_at_any_commit_of_a_copy_of_small_keyspaces_costs_one_chunk_of_several() {
    let store = store(8);
    let whole = tempfile::tempdir().expect("a folder");
    write_store(&whole.path().join("s"), &store);
    let mut heard = Heard(whole.path(), Vec::new());
    fault::arm(None);
    drop(cutover::sql(&plan(whole.path()), &mut heard).expect("SQL"));
    let points = fault::passed();
    fault::arm(None);
    // Each is told of by its own name, once all of its chunk is durable.
    let names: Vec<&String> = heard.1.iter().map(|(name, _)| name).collect();
    assert_eq!(names, store.keys().collect::<Vec<_>>());
    let durable: Vec<usize> = heard.1.iter().map(|(_, done)| *done).collect();
    assert_eq!(durable, [3, 3, 3, 6, 6, 6, 8, 8]);
    let commits = (1..).zip(&points).filter(|(_, name)| name.ends_with("a commit"));
    let mut seen = std::collections::BTreeSet::new();
    for (number, _) in commits {
        let folder = tempfile::tempdir().expect("a folder");
        write_store(&folder.path().join("s"), &store);
        assert!(child::killed(&["keyspaces", folder.path().to_str().expect("UTF-8")], number));
        let live = fs::read(folder.path().join("target.sqlite"))
            .is_ok_and(|bytes| bytes.windows(14).any(|w| w == b"\"stage\":\"live\""));
        let copy = tempfile::tempdir().expect("a folder");
        for name in ["target.sqlite", "target.sqlite-journal"] {
            let _ = fs::copy(folder.path().join(name), copy.path().join(name));
        }
        seen.insert(done(copy.path()));
        let written = is_written(copy.path(), &store);
        assert!(!written || live, "the fence is down behind a kill at {number}");
        migrate(folder.path());
        assert_eq!(rows(folder.path(), &store), store, "killed at {number}");
        assert!(is_written(folder.path(), &store));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 3, 6, 8]);
}

/// A sync, a commit and a write of the record for each keyspace made 1,000 of them take 89 seconds.
#[test]
fn twice_the_keyspaces_pass_at_most_twice_the_fault_points_and_no_more_commits_than_their_chunks() {
    let counted = |keyspaces: u8| {
        let folder = tempfile::tempdir().expect("a folder");
        write_store(&folder.path().join("s"), &store(keyspaces));
        fault::arm(None);
        drop(cutover::sql(&plan(folder.path()), &mut ()).expect("SQL"));
        let points = fault::passed();
        fault::arm(None);
        (points.len(), points.iter().filter(|name| **name == "before a commit").count())
    };
    let ((few, few_commits), (many, many_commits)) = (counted(30), counted(60));
    assert!(many <= 2 * few, "{few} fault points for 30 keyspaces, {many} for 60");
    assert_eq!(many_commits - few_commits, 10, "commits for 30 keyspaces in chunks of three");
}
