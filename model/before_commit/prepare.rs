//! A migration that stops before the commit point, so that somebody can look, and then goes on or
//! goes back.

use crate::child;
use crate::command::{self, text};
use crate::common::{SOURCES, read_store, read_table, small_store};
use crate::daemon::{CANCELLED, Daemon, StopAfter, fresh_handle, migrating_handle};
use cutover::protocol::State;
use cutover::{Aborted, Error, Found, Handle, Migrating, Observer};
use std::fs;

/// Remembers the steps that were done.
#[derive(Default)]
struct Steps(Vec<String>);

impl Observer for Steps {
    fn step(&mut self, name: &str, _: &str) {
        self.0.push(name.to_owned());
    }
}

fn prepared(daemon: &Daemon) -> Handle<Migrating> {
    fresh_handle(&daemon.plan()).begin().expect("begins").prepare(&mut ()).expect("prepares")
}

fn stage(daemon: &Daemon) -> String {
    let connection = rusqlite::Connection::open(daemon.at("target.sqlite")).expect("opens");
    connection.query_one("SELECT stage FROM cutover_record", [], |row| row.get(0)).expect("a stage")
}

fn is_whole_in_sql(daemon: &Daemon) {
    for (seed, name) in (1..).zip(SOURCES) {
        for (keyspace, pairs) in small_store(seed, 20) {
            let table = format!("{name}_{keyspace}");
            assert_eq!(read_table(&daemon.at("target.sqlite"), &table), pairs);
        }
    }
}

fn is_whole_in_kv(daemon: &Daemon) {
    for (seed, name) in (1..).zip(SOURCES) {
        assert_eq!(read_store(&daemon.at(name)), small_store(seed, 20));
    }
}

/// Nobody writes what is only prepared; both are tried on copies.
fn nobody_writes(daemon: &Daemon) {
    let kept = daemon.keep(".");
    let target = kept.path().join("target.sqlite");
    assert!(!child::plain_sqlite_writes(&target, "accounts_first"));
    assert!(!child::stock_fjall_writes(&kept.path().join("accounts")));
}

#[test]
fn i1_what_is_prepared_is_whole_can_be_looked_at_and_is_written_by_nobody() {
    let daemon = Daemon::fresh();
    let begun = fresh_handle(&daemon.plan()).begin().expect("begins");
    assert!(!begun.is_copied().expect("looks"));
    let mut steps = Steps::default();
    let handle = begun.prepare(&mut steps).expect("prepares");
    assert!(handle.is_copied().expect("looks"));
    assert_eq!(handle.state(), State::Migrating { rerun: false });
    assert_eq!(steps.0[steps.0.len() - 3..], ["copy", "verify", "prepare the tombstones"]);
    assert_eq!(stage(&daemon), "copying");
    is_whole_in_sql(&daemon);
    nobody_writes(&daemon);
    let committed = handle.run(&mut ()).expect("goes on");
    assert_eq!(stage(&daemon), "committed");
    drop(committed.finish().expect("finishes").into_sql().expect("SQL"));
    is_whole_in_sql(&daemon);
}

/// What one process has verified, another does not take for verified.
#[test]
fn i2_what_was_prepared_is_read_back_once_more_before_the_commit() {
    let daemon = Daemon::fresh();
    drop(prepared(&daemon));
    let mut steps = Steps::default();
    drop(migrating_handle(&daemon.plan()).run(&mut steps).expect("goes on"));
    let wanted = ["verify", "prepare the tombstones", "pass the commit point"];
    assert_eq!(steps.0[steps.0.len() - 3..], wanted);
    assert!(!steps.0.contains(&"copy".to_owned()), "{:?}", steps.0);
    // Somebody takes the fence down, changes a row and puts the fence back.
    let daemon = Daemon::fresh();
    drop(prepared(&daemon));
    let connection = rusqlite::Connection::open(daemon.at("target.sqlite")).expect("opens");
    let fence: Vec<(String, String)> = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE tbl_name = 'accounts_first' AND type = 'trigger'")
        .and_then(|mut all| all.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
        .expect("the fence");
    assert_eq!(fence.len(), 3);
    for (name, _) in &fence {
        connection.execute_batch(&format!("DROP TRIGGER \"{name}\"")).expect("drops");
    }
    connection.execute_batch("UPDATE accounts_first SET value = x'00'").expect("changes");
    for (_, sql) in &fence {
        connection.execute_batch(sql).expect("creates");
    }
    drop(connection);
    let failed = migrating_handle(&daemon.plan()).run(&mut ()).expect_err("it is noticed");
    assert!(matches!(failed.error, Error::Verification(_)), "{failed}");
}

#[test]
fn i3_what_was_prepared_can_be_taken_back_whole() {
    let daemon = Daemon::fresh();
    let Aborted::Fresh(fresh) = prepared(&daemon).abort().expect("aborts") else {
        panic!("there were tombstones")
    };
    drop(fresh);
    is_whole_in_kv(&daemon);
    let mut names: Vec<_> = fs::read_dir(daemon.path())
        .expect("lists")
        .map(|entry| entry.expect("lists").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["accounts", "sessions"], "the file that the migration made is gone");
}

#[test]
fn a_start_on_kv_takes_back_what_was_prepared_and_one_on_sql_goes_on_with_it() {
    let daemon = Daemon::fresh();
    drop(prepared(&daemon));
    let stores = cutover::kv(&daemon.plan()).expect("KV");
    assert!(stores.rolled_back());
    drop(stores);
    is_whole_in_kv(&daemon);
    drop(prepared(&daemon));
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
    is_whole_in_sql(&daemon);
}

#[test]
fn a_preparation_that_was_stopped_goes_on_and_one_that_is_done_is_done_again() {
    let daemon = Daemon::fresh();
    let begun = fresh_handle(&daemon.plan()).begin().expect("begins");
    let failed = begun.prepare(&mut StopAfter { chunks: 2 }).expect_err("stops");
    assert_eq!(failed.error.to_string(), CANCELLED);
    drop(failed);
    for _ in 0..2 {
        let handle = migrating_handle(&daemon.plan()).prepare(&mut ()).expect("goes on");
        assert_eq!(handle.state(), State::Migrating { rerun: false });
    }
    nobody_writes(&daemon);
    is_whole_in_sql(&daemon);
}

#[test]
fn i5_what_was_prepared_of_a_rerun_goes_back_to_its_tombstones() {
    let daemon = Daemon::live();
    fs::remove_file(daemon.at("target.sqlite")).expect("removes");
    let Found::RerunAllowed(handle) = cutover::open(&daemon.plan()).expect("opens") else {
        panic!("no rerun is allowed")
    };
    let rerun = handle.rerun(cutover::ticket::Rerun::losing_writes_made_in_sql()).expect("begins");
    let handle = rerun.prepare(&mut ()).expect("prepares");
    assert_eq!(handle.state(), State::Migrating { rerun: true });
    nobody_writes(&daemon);
    let Aborted::RerunAllowed(_) = handle.abort().expect("aborts") else {
        panic!("the tombstones are gone")
    };
}

#[test]
fn the_command_prepares_says_what_to_look_at_and_finalizes() {
    let daemon = command::Daemon::new();
    daemon.ends("finalize", &["--yes"], 3);
    daemon.ends("prepare", &[], 5);
    assert_eq!(daemon.state(), "Fresh");
    let said = text(&daemon.ends("prepare", &["--yes"], 0).stdout);
    for words in ["sqlite3 -readonly", "cutover finalize", "cutover abort"] {
        assert!(said.contains(words), "{said}");
    }
    let status = daemon.status();
    let verbs: Vec<_> =
        status["can"].as_array().expect("verbs").iter().map(|v| &v["verb"]).collect();
    assert_eq!((&status["state"], verbs[0]), (&"Migrating".into(), &"finalize".into()));
    assert_eq!(status["target"]["keyspaces_done"], status["target"]["keyspaces"]);
    daemon.is_whole_in_sql();
    daemon.ends("prepare", &["--yes"], 0);
    daemon.ends("finalize", &[], 5);
    daemon.ends("finalize", &["--yes"], 0);
    assert_eq!(daemon.state(), "Tombstoned");
    daemon.is_whole_in_sql();
    // Once more, it has nothing to do; and there is nothing to prepare.
    daemon.ends("finalize", &["--yes"], 0);
    daemon.ends("prepare", &["--yes"], 3);
    fs::remove_file(daemon.target()).expect("removes");
    daemon.ends("prepare", &["--yes"], 5);
    daemon.ends("finalize", &["--yes"], 5);
}

#[test]
fn the_command_goes_back_from_what_it_prepared_and_finalizes_no_half_copy() {
    let daemon = command::Daemon::new();
    daemon.ends("prepare", &["--yes"], 0);
    daemon.ends("abort", &["--yes"], 0);
    daemon.is_whole_in_kv();
    let daemon = command::Daemon::left_at("Migrating");
    let said = text(&daemon.ends("finalize", &["--yes"], 3).stderr);
    assert!(said.contains("`cutover prepare` (copy"), "{said}");
    assert_eq!(daemon.state(), "Migrating");
    daemon.ends("prepare", &["--yes"], 0);
    daemon.ends("finalize", &["--yes"], 0);
    daemon.is_whole_in_sql();
    let daemon = command::Daemon::left_at("Committed");
    daemon.ends("prepare", &["--yes"], 3);
    daemon.ends("finalize", &["--yes"], 0);
    daemon.is_whole_in_sql();
}
