//! Indexes that a plan asks for: made once a table has its rows, and gone with it.

use crate::child;
use crate::common::{Pairs, write_store};
use crate::daemon::{StopAfter, fresh_handle, migrating_handle, sqlite, verify};
use cutover::codec::{from_json, to_json};
use cutover::{Cause, Error, Found, Observer, Plan, Progress, Typed, fault};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A visit: its number is the key; who came is looked up by name, and hence by the index.
#[derive(Serialize, Deserialize)]
struct Visit {
    id: u32,
    name: String,
}

const BY_NAME: &str = "CREATE INDEX by_name ON first (name, id)";
const OTHERS: [&str; 2] =
    ["CREATE INDEX \"second's\" ON second (name)", "CREATE UNIQUE INDEX once ON second (-id)"];

/// A keyspace of visits as a table of this name, with these indexes.
fn visits(table: &'static str, indexes: &[&str]) -> Typed<Visit> {
    let typed = Typed::<Visit>::new(
        table,
        format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT"),
        |_, value| from_json(value),
        |row| Ok((row.id.to_be_bytes().to_vec(), to_json(row)?)),
    );
    indexes.iter().fold(typed, |typed, index| typed.index(*index))
}

fn stores(folder: &Path) {
    for source in ["first", "second"] {
        let pair = |id: u32| {
            let visit = Visit { id, name: format!("{source} {}", id % 7) };
            (id.to_be_bytes().to_vec(), to_json(&visit).expect("encodes"))
        };
        let pairs = Pairs::from([("v".to_owned(), (0..20).map(pair).collect())]);
        write_store(&folder.join(source), &pairs);
    }
}

fn plan_with(folder: &Path, first: &[&str], second: &[&str]) -> Plan {
    Plan::builder("visits")
        .source("first", folder.join("first"), |s| s.table("v", visits("first", first)))
        .source("second", folder.join("second"), |s| s.table("v", visits("second", second)))
        .source("none", folder.join("none"), |s| {
            s.may_be_missing().table("v", visits("none", &["CREATE INDEX empty ON none (name)"]))
        })
        .target(folder.join("target.sqlite"))
        .chunk_bytes(100)
        .build()
        .expect("a plan")
}

fn plan(folder: &Path) -> Plan {
    plan_with(folder, &[BY_NAME], &OTHERS)
}

/// As a daemon that is told to use SQL; fault points are armed by the environment.
pub fn migrate(folder: &Path) {
    fault::arm_from_environment();
    cutover::sql(&plan(folder), &mut ()).expect("SQL");
}

/// The indexes of the target, but for SQLite's own.
fn indexes(folder: &Path) -> BTreeSet<String> {
    let connection = Connection::open(folder.join("target.sqlite")).expect("opens");
    let query = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL";
    let mut statement = connection.prepare(query).expect("a query");
    let names = statement.query_map([], |row| row.get(0)).expect("rows");
    names.collect::<Result<_, _>>().expect("reads")
}

fn all() -> BTreeSet<String> {
    ["by_name", "second's", "once", "empty"].map(str::to_owned).into()
}

fn rows(folder: &Path) -> Vec<(u32, String)> {
    let connection = Connection::open(folder.join("target.sqlite")).expect("opens");
    let mut statement = connection
        .prepare("SELECT id, name FROM first UNION ALL SELECT id, name FROM second ORDER BY 2, 1")
        .expect("tables");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("reads")
}

/// Notes after each chunk which table it was of, and which indexes are there.
struct Chunks {
    folder: PathBuf,
    seen: Vec<(String, BTreeSet<String>)>,
}

impl Observer for Chunks {
    fn progress(&mut self, progress: &Progress) {
        if progress.phase == cutover::Phase::Copying {
            self.seen.push((progress.source.clone(), indexes(&self.folder)));
        }
    }
}

#[test]
fn an_index_is_made_behind_its_table_s_last_row_and_before_the_next_table_is_filled() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path());
    let plan = plan(folder.path());
    let mut chunks = Chunks { folder: folder.path().to_owned(), seen: Vec::new() };
    let connection = cutover::sql(&plan, &mut chunks).expect("SQL");
    let of = |source: &str| -> Vec<_> {
        chunks.seen.iter().filter(|(of, _)| of == source).map(|(_, seen)| seen.len()).collect()
    };
    let (first, second) = (of("first"), of("second"));
    for (chunks, before, after) in [(&first, 0, 1), (&second, 1, 3)] {
        let (last, earlier) = chunks.split_last().expect("chunks");
        assert!(earlier.len() > 3 && earlier.iter().all(|seen| *seen == before), "{chunks:?}");
        assert_eq!(*last, after);
    }
    assert_eq!(of("none"), [4]);
    assert_eq!(indexes(folder.path()), all());
    let how: String = connection
        .query_one("EXPLAIN QUERY PLAN SELECT id FROM first WHERE name = 'x'", [], |row| row.get(3))
        .expect("a plan");
    assert!(how.contains("INDEX by_name "), "{how}");
    drop(connection);
    verify(&plan).expect("verifies");
    assert_eq!(cutover::status(&plan).expect("looks").state, "Tombstoned");
    // A lost file is copied with its indexes again.
    std::fs::remove_file(folder.path().join("target.sqlite")).expect("removes");
    let Found::RerunAllowed(handle) = cutover::open(&plan).expect("opens") else {
        panic!("the SQL file is gone")
    };
    let rerun = handle.rerun(cutover::ticket::Rerun::losing_writes_made_in_sql()).expect("reruns");
    drop(rerun.run(&mut ()).expect("runs").finish().expect("finishes"));
    assert_eq!(indexes(folder.path()), all());
}

#[test]
fn i8_an_abort_takes_the_indexes_with_their_tables_and_leaves_those_that_were_there() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path());
    let target = folder.path().join("target.sqlite");
    // Tables that are there keep what they have, and get nothing: not even a name is in the way.
    sqlite(&target, "CREATE TABLE first (id INTEGER PRIMARY KEY, name TEXT NOT NULL)");
    sqlite(&target, "CREATE INDEX own ON first (name); CREATE TABLE by_name (x)");
    let plan = plan(folder.path());
    drop(fresh_handle(&plan).begin().expect("begins").run(&mut ()).expect("runs"));
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(indexes(folder.path()), names(&["own", "second's", "once", "empty"]));
    let Found::Committed(handle) = cutover::open(&plan).expect("opens") else {
        panic!("not committed")
    };
    drop(
        handle.abort(cutover::ticket::AbortCommitted::losing_the_committed_copy()).expect("aborts"),
    );
    assert_eq!(indexes(folder.path()), names(&["own"]));
    drop(cutover::sql(&plan, &mut ()).expect("SQL"));
    assert_eq!(indexes(folder.path()), names(&["own", "second's", "once", "empty"]));
    verify(&plan).expect("verifies");
}

#[test]
fn i7_a_kill_at_any_commit_of_a_copy_with_indexes_ends_with_each_of_them_once() {
    let whole = tempfile::tempdir().expect("a folder");
    stores(whole.path());
    fault::arm(None);
    migrate(whole.path());
    let points = fault::passed();
    fault::arm(None);
    let commits = (1..).zip(&points).filter(|(_, name)| name.ends_with("a commit"));
    let commits: Vec<usize> = commits.map(|(number, _)| number).collect();
    let mut before_all = 0;
    for number in &commits {
        let folder = tempfile::tempdir().expect("a folder");
        stores(folder.path());
        assert!(child::killed(&["indexes", folder.path().to_str().expect("UTF-8")], *number));
        before_all += usize::from(indexes(folder.path()) != all());
        migrate(folder.path());
        assert_eq!(indexes(folder.path()), all(), "killed at {number}");
        assert_eq!(rows(folder.path()), rows(whole.path()), "killed at {number}");
    }
    assert!(before_all > 10 && before_all < commits.len(), "{before_all} of {}", commits.len());
}

#[test]
fn an_index_that_can_not_be_made_is_refused_before_anything_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path());
    sqlite(
        &folder.path().join("target.sqlite"),
        "CREATE TABLE other (x); CREATE VIEW v AS SELECT 1",
    );
    for (statement, reason) in [
        ("CREATE INDEX x ON second (name)", "its statement makes something else"),
        ("CREATE INDEX x ON other (x)", "no such table: main.other"),
        ("CREATE TABLE x (a)", "its statement makes something else"),
        ("CREATE INDEX x ON first (nobody)", "no such column: nobody"),
        ("CREATE INDEX OTHER ON first (name)", "the name 'OTHER' is taken"),
        ("CREATE INDEX v ON first (name)", "the name 'v' is taken"),
    ] {
        let plan = plan_with(folder.path(), &[statement], &[]);
        let error = cutover::sql(&plan, &mut ()).expect_err("it is refused");
        assert!(matches!(error, Error::Refused(Cause::Index { .. })), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains("index of table 'first'"), "{text}");
        let preview = cutover::preview(&plan, &mut ()).expect("looks");
        assert_eq!(preview.refused, [text]);
        drop(fresh_handle(&plan).into_kv().expect("nothing was changed"));
    }
}

/// A constraint of the table would have named the pair.
#[test]
fn i7_rows_that_a_unique_index_refuses_stop_the_run_and_a_mended_plan_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path());
    let strict = plan_with(folder.path(), &["CREATE UNIQUE INDEX once ON first (name)"], &[]);
    drop(fresh_handle(&strict).begin().expect("begins"));
    migrating_handle(&strict).run(&mut StopAfter { chunks: 1 }).expect_err("stops");
    let failed = migrating_handle(&strict).run(&mut ()).expect_err("it stops");
    let Error::Interrupted { cause: Cause::Index { .. }, .. } = &failed.error else {
        panic!("{:?}", failed.error)
    };
    let text = failed.error.to_string();
    assert!(text.contains("UNIQUE constraint failed: first.name"), "{text}");
    drop(failed);
    assert_eq!(indexes(folder.path()), BTreeSet::new());
    drop(cutover::sql(&plan(folder.path()), &mut ()).expect("the plan is fixed"));
    assert_eq!(indexes(folder.path()), all());
}
