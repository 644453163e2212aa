//! Somebody removes one fact alone, at every stage: what is seen then, and what a daemon gets that asks
//! for either side. Each is a state that is safe, or a contradiction with a way out (I-4).

use super::{
    MISSING, Place, QUARANTINE, SOURCES, StopEarly, plain_writes, plan, play, read_target,
    small_store, stock_writes, tables,
};
use crate::common::{copy_tree, folder_in_memory, read_store};
use cutover::{Error, Found, ticket};
use rusqlite::Connection;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The stages, each with what leads there.
const STAGES: [(&str, &[&str]); 10] = [
    ("fresh", &[]),
    ("sealed", &["begin"]),
    ("copying", &["part-way"]),
    ("prepared", &["prepare"]),
    ("committed", &["committed"]),
    ("one tombstone", &["half-set"]),
    ("live", &["sql"]),
    ("rerun, copying", &["sql", "lose", "rerun-part-way"]),
    ("rerun, aborted", &["sql", "lose", "rerun-abort"]),
    ("reclaimed", &["sql", "reclaim"]),
];

/// Removes a fact, and says whether it was there.
type Remove = fn(&Path) -> bool;

/// What can be removed; each says whether it was there.
const FACTS: [(&str, Remove); 13] = [
    ("the claim file", |folder| remove(&folder.join("target.sqlite.cutover"))),
    ("one marker", |folder| remove_marker(folder, "accounts")),
    ("all markers", |folder| {
        let removed = SOURCES.into_iter().chain([MISSING]).map(|at| remove_marker(folder, at));
        removed.filter(|one| *one).count() > 0
    }),
    ("one retired store", |folder| remove(&folder.join("accounts.retired"))),
    ("the second lock", |folder| {
        let version = folder.join("accounts.retired/version");
        let held = fs::read(&version).is_ok_and(|bytes| bytes != b"FJL\x03");
        held && fs::write(version, b"FJL\x03").is_ok()
    }),
    ("the record's row", |folder| sql(folder, &["DELETE FROM cutover_record"])),
    ("the record's table", |folder| sql(folder, &["DROP TABLE cutover_record"])),
    ("the record's table and the rows", |folder| {
        let drop = |table| format!("DROP TABLE \"{table}\"");
        sql(folder, &["DROP TABLE cutover_record"])
            && tables().map(drop).filter(|one| sql(folder, &[one])).count() > 0
            && sql(folder, &["CREATE TABLE others (x)"])
    }),
    ("the fence of one table", |folder| {
        let triggers = {
            let connection = open(folder);
            let mut found = connection
                .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'accounts_first'")
                .expect("reads");
            let names = found.query_map([], |row| row.get::<_, String>(0)).expect("reads");
            names
                .map(|name| format!("DROP TRIGGER \"{}\"", name.expect("reads")))
                .collect::<Vec<_>>()
        };
        !triggers.is_empty() && triggers.iter().all(|drop| sql(folder, &[drop]))
    }),
    ("one migrated table", |folder| sql(folder, &["DROP TABLE accounts_first"])),
    ("the quarantine's table", |folder| sql(folder, &[&format!("DROP TABLE {QUARANTINE}")])),
    ("the SQL file", |folder| remove(&folder.join("target.sqlite"))),
    ("the SQL file and the claim file", |folder| {
        remove(&folder.join("target.sqlite")) && remove(&folder.join("target.sqlite.cutover"))
    }),
];

fn remove(path: &Path) -> bool {
    if path.is_dir() { fs::remove_dir_all(path).is_ok() } else { fs::remove_file(path).is_ok() }
}

fn remove_marker(folder: &Path, source: &str) -> bool {
    let path = folder.join(source);
    path.is_file() && remove(&path)
}

fn open(folder: &Path) -> Connection {
    Connection::open(folder.join("target.sqlite")).expect("opens")
}

/// Runs statements, as a person does; whether all of them could be run.
fn sql(folder: &Path, statements: &[&str]) -> bool {
    folder.join("target.sqlite").exists()
        && statements.iter().all(|statement| open(folder).execute_batch(statement).is_ok())
}

fn lead(act: &str, folder: &Path) {
    let begun = |found| match found {
        Found::Fresh(fresh) => fresh.begin().expect("begins"),
        Found::RerunAllowed(handle) => {
            handle.rerun(ticket::Rerun::losing_writes_made_in_sql()).expect("reruns")
        }
        other => panic!("{other:?}"),
    };
    match act {
        "begin" => drop(begun(cutover::open(&plan(folder)).expect("a state"))),
        "rerun-part-way" => {
            let migrating = begun(cutover::open(&plan(folder)).expect("a state"));
            migrating.run(&mut StopEarly::default()).expect_err("it was cancelled");
        }
        act => play(act, folder).expect("the stage's beginning"),
    }
}

fn place(acts: &[&str]) -> Place {
    let root = folder_in_memory();
    let at = |name: &str| root.path().join(name);
    let place =
        Place { folder: at("work"), template: at("template"), scratch: at("scratch"), _root: root };
    fs::create_dir(&place.folder).expect("a folder");
    crate::common::small_daemon(&place.folder);
    for act in acts {
        lead(act, &place.folder);
    }
    copy_tree(&place.folder, &place.template);
    place
}

/// The state, or the contradiction, by its name.
fn seen(folder: &Path) -> String {
    match cutover::open(&plan(folder)) {
        Ok(found) => {
            let text = format!("{found:?}");
            text.split('(').next().expect("a name").to_owned()
        }
        Err(error) => said(&error),
    }
}

fn said(error: &Error) -> String {
    match error {
        Error::Contradiction(told) => {
            assert!(!told.next.is_empty(), "a contradiction without a way out: {told:?}");
            let text = format!("{:?}", told.contradiction);
            format!("`{}`", text.split('(').next().expect("a name"))
        }
        Error::Refused(_) => "refused".to_owned(),
        Error::Interrupted { .. } => "stops".to_owned(),
        Error::NeedsApproval { .. } => "asks for a ticket".to_owned(),
        Error::Verification(_) => "does not verify".to_owned(),
        other => panic!("{other:?}"),
    }
}

/// I-1, on a copy: which sources a stock program can write, and whether a plain one can the target.
fn writers(place: &Place) -> (Vec<&'static str>, bool) {
    let copy = place.copy();
    let target = copy.join("target.sqlite");
    let sql = target.exists() && plain_writes(&target);
    let all = SOURCES.into_iter().chain([MISSING]);
    (all.filter(|source| stock_writes(&copy.join(source))).collect(), sql)
}

/// A name that a marker was taken from, beside a live target, is filled when SQL is asked for (L-1).
fn is_to_be_filled(left: &str) -> bool {
    left == "Tombstoned"
}

/// What a daemon that asks for `side` gets, and that the other side is shut then.
fn asked(place: &Place, side: &str, left: &str, what: &str) -> String {
    let folder = &place.folder;
    if let Err(error) = play(side, folder) {
        let told = said(&error);
        let (kv, sql) = writers(place);
        // Whatever it could not do, it has opened no second side.
        let reported = matches!(error, Error::Contradiction(_)) || is_to_be_filled(left);
        assert!(kv.is_empty() || !sql || reported, "{what}: {kv:?}, {error}");
        return told;
    }
    let (kv, sql) = writers(place);
    if side == "sql" {
        assert!(kv.is_empty(), "{what}: {kv:?} beside the SQL database");
        let target = folder.join("target.sqlite");
        let whole = (1..).zip(SOURCES).all(|(seed, source)| {
            let tables = ["first", "second"].map(|keyspace| format!("{source}_{keyspace}"));
            let there = |table: &String| {
                let name = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
                open(folder).query_one(name, [table], |row| row.get::<_, i64>(0)) == Ok(1)
            };
            tables.iter().all(there) && read_target(&target, source) == Ok(small_store(seed, 20))
        });
        return if whole { "all pairs" } else { "what is left" }.to_owned();
    }
    assert!(!sql, "{what}: the SQL database beside the KV stores");
    for (seed, source) in (1..).zip(SOURCES) {
        assert_eq!(read_store(&folder.join(source)), small_store(seed, 20), "{what}: {source}");
    }
    "all pairs".to_owned()
}

const HEADING: &str = "# What is seen when a person removes one fact alone

Written by `i1_i4_whatever_one_fact_is_removed_at_any_stage_one_side_is_shut_and_a_way_leads_out`, on
real files: of the small daemon's two stores and one that is missing, with a quarantine. `seen` is the state or the
contradiction, whose ways out `cutover status` says; the last two columns are what a daemon gets that asks for SQL or for
its KV stores. \"what is left\": the tables of a live target are the daemon's own, and cutover does not
look at them (`cutover verify` does). Where a live target has lost the record and a marker says nothing of it,
see L-43.

| stage | removed | seen | `sql` | `kv` |
|---|---|---|---|---|
";

#[test]
fn i1_i4_whatever_one_fact_is_removed_at_any_stage_one_side_is_shut_and_a_way_leads_out() {
    let mut text = HEADING.to_owned();
    for (stage, acts) in STAGES {
        let place = place(acts);
        for (fact, remove) in FACTS {
            place.reset();
            if !remove(&place.folder) {
                continue;
            }
            let what = format!("{stage}, without {fact}");
            let left = seen(&place.folder);
            let (kv, sql) = writers(&place);
            assert!(
                kv.is_empty() || !sql || is_to_be_filled(&left) || left.starts_with('`'),
                "{what} is {left}, and {kv:?} and the target can be written"
            );
            copy_tree(&place.folder, &place.scratch.with_extension("removed"));
            let got = ["sql", "kv"].map(|side| {
                let removed = place.scratch.with_extension("removed");
                crate::common::copy_tree_anew(&removed, &place.folder);
                asked(&place, side, &left, &what)
            });
            fs::remove_dir_all(place.scratch.with_extension("removed")).expect("removes");
            let [by_sql, by_kv] = got;
            writeln!(text, "| {stage} | {fact} | {left} | {by_sql} | {by_kv} |").expect("writes");
        }
    }
    crate::common::pinned("docs/removed.md", &text);
}

/// The last rows of a daemon that writes in WAL mode are in a file of their own. What is left without
/// it is an older state of the same database, and SQLite can't tell (L-2).
#[test]
fn i1_a_log_that_is_removed_beside_a_live_target_takes_the_last_rows_and_opens_no_store() {
    let place = place(&["sql"]);
    let writer = open(&place.folder);
    writer
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA wal_checkpoint; DELETE FROM sessions_first",
        )
        .expect("writes");
    // As a machine that stops leaves it.
    copy_tree(&place.folder, &place.scratch);
    drop(writer);
    crate::common::copy_tree_anew(&place.scratch, &place.folder);
    assert!(remove(&place.folder.join("target.sqlite-wal")));
    let _ = remove(&place.folder.join("target.sqlite-shm"));
    assert_eq!(seen(&place.folder), "Tombstoned");
    let rows = "SELECT count(*) FROM sessions_first";
    assert_eq!(open(&place.folder).query_one(rows, [], |row| row.get(0)), Ok(20_i64));
    assert_eq!(writers(&place), (Vec::new(), true));
}
