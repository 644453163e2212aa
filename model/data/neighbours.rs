//! What else is in the target stays as it is.

use crate::common::{SOURCES, read_table, rows_of, small_plan_builder, small_store};
use crate::daemon::{Daemon, fresh_handle, migrating_handle, sqlite};
use cutover::{Cause, Error, Found, Plan};
use rusqlite::{Connection, types::Value};
use std::path::Path;

const FOREIGN: &str = "
    PRAGMA page_size = 4096;
    PRAGMA journal_mode = WAL;
    PRAGMA user_version = 77;
    PRAGMA application_id = 0x1234567;
    CREATE TABLE invoices (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT, amount REAL);
    CREATE INDEX by_amount ON invoices (amount) WHERE amount > 0;
    CREATE TABLE log (text);
    CREATE TRIGGER logs AFTER INSERT ON invoices BEGIN INSERT INTO log VALUES (NEW.text); END;
    CREATE VIEW large AS SELECT * FROM invoices WHERE amount > 10;
    INSERT INTO invoices (text, amount) VALUES ('one', 1.5), ('two', NULL), ('three', 30);
";

/// Everything in the database that is not this migration's, as a plain connection sees it.
fn foreign(target: &Path) -> Vec<Vec<Value>> {
    let queries = [
        "SELECT type, name, tbl_name, sql FROM sqlite_schema
         WHERE tbl_name NOT LIKE 'accounts%' AND tbl_name NOT LIKE 'sessions%'
         AND tbl_name <> 'cutover_record' ORDER BY name",
        "SELECT rowid, * FROM invoices",
        "SELECT rowid, * FROM log",
        "SELECT * FROM large",
        "SELECT * FROM sqlite_sequence",
        "PRAGMA user_version",
        "PRAGMA application_id",
        "PRAGMA journal_mode",
        "PRAGMA page_size",
        "PRAGMA encoding",
        "PRAGMA integrity_check",
    ];
    rows_of(target, &queries)
}

#[test]
fn i8_other_tables_rows_and_settings_of_the_target_stay_as_they_are() {
    let daemon = Daemon::fresh();
    let target = daemon.at("target.sqlite");
    sqlite(&target, FOREIGN);
    let before = foreign(&target);

    fresh_handle(&daemon.plan()).begin().expect("begins");
    daemon.copy_some_chunks();
    drop(migrating_handle(&daemon.plan()).abort().expect("aborts"));
    assert_eq!(foreign(&target), before, "after an abort");
    let left: i64 = Connection::open(&target)
        .expect("opens")
        .query_one("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%cutover%' OR name LIKE 'accounts%'", [], |row| row.get(0))
        .expect("counts");
    assert_eq!(left, 0, "nothing of the migration is left");

    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
    assert_eq!(foreign(&target), before, "after it went live");
    assert_eq!(read_table(&target, "sessions_second"), small_store(2, 20)["second"]);
}

#[test]
fn a_table_that_is_there_and_empty_is_used_and_its_own_triggers_fire() {
    let daemon = Daemon::fresh();
    let target = daemon.at("target.sqlite");
    sqlite(
        &target,
        "CREATE TABLE accounts_first (key BLOB PRIMARY KEY, value BLOB NOT NULL, at TEXT DEFAULT 'now');
         CREATE TABLE counted (at INTEGER PRIMARY KEY AUTOINCREMENT, key);
         CREATE TRIGGER counts AFTER INSERT ON accounts_first
         BEGIN INSERT INTO counted (key) VALUES (NEW.key); END;",
    );
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
    let expected = &small_store(1, 20)["first"];
    assert_eq!(read_table(&target, "accounts_first"), *expected);
    let connection = Connection::open(&target).expect("opens");
    let counted: (i64, i64, i64) = connection
        .query_one("SELECT count(*), count(DISTINCT key), max(at) FROM counted", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .expect("counts");
    assert_eq!(counted, (20, 20, 20), "each pair was inserted once");
    connection
        .execute("INSERT INTO accounts_first (key, value) VALUES (x'99', x'')", [])
        .expect("live");
}

#[test]
fn a_table_that_was_there_and_empty_is_there_and_empty_after_an_abort() {
    let daemon = Daemon::fresh();
    let target = daemon.at("target.sqlite");
    sqlite(&target, "CREATE TABLE accounts_first (key BLOB PRIMARY KEY, value BLOB NOT NULL)");
    fresh_handle(&daemon.plan()).begin().expect("begins");
    daemon.copy_some_chunks();
    drop(migrating_handle(&daemon.plan()).abort().expect("aborts"));
    assert!(read_table(&target, "accounts_first").is_empty());
    sqlite(&target, "INSERT INTO accounts_first VALUES (x'99', x'')");
}

fn plan_for(daemon: &Daemon, source: &str) -> Plan {
    Plan::builder(format!("release of {source}"))
        .source(source, daemon.at(source), |s| s.every_keyspace())
        .target(daemon.at("target.sqlite"))
        .build()
        .expect("a plan")
}

#[test]
fn two_plans_in_one_target_do_not_see_each_other() {
    let daemon = Daemon::fresh();
    let [first, second] = SOURCES.map(|source| plan_for(&daemon, source));
    drop(cutover::sql(&first, &mut ()).expect("SQL"));
    sqlite(&daemon.at("target.sqlite"), "INSERT INTO accounts_first VALUES (x'99', x'00')");

    // The second is aborted, and committed, beside the live first.
    drop(fresh_handle(&second).begin().expect("begins").abort().expect("aborts"));
    let committed = fresh_handle(&second).begin().expect("begins").run(&mut ()).expect("runs");
    drop(committed);
    sqlite(&daemon.at("target.sqlite"), "INSERT INTO accounts_first VALUES (x'98', x'00')");
    assert!(matches!(cutover::open(&first).expect("opens"), Found::Tombstoned(_)));
    let ticket = cutover::ticket::AbortCommitted::losing_the_committed_copy();
    let Found::Committed(committed) = cutover::open(&second).expect("opens") else {
        panic!("not committed")
    };
    drop(committed.abort(ticket).expect("aborts"));

    drop(cutover::sql(&second, &mut ()).expect("SQL"));
    for plan in [&first, &second] {
        drop(cutover::sql(plan, &mut ()).expect("both are live"));
    }
    let rows = read_table(&daemon.at("target.sqlite"), "accounts_first");
    assert_eq!(rows.len(), 22, "the daemon's own rows are there");
    assert_eq!(
        read_table(&daemon.at("target.sqlite"), "sessions_first"),
        small_store(2, 20)["first"]
    );
}

#[test]
fn a_table_that_one_plan_has_migrated_into_is_refused_to_another() {
    let daemon = Daemon::fresh();
    drop(cutover::sql(&plan_for(&daemon, "accounts"), &mut ()).expect("SQL"));
    let greedy = |table: &'static str| {
        Plan::builder("greedy")
            .source("sessions", daemon.at("sessions"), |s| {
                s.table("first", cutover::Blobs::new(table)).every_keyspace()
            })
            .target(daemon.at("target.sqlite"))
            .build()
            .expect("a plan")
    };
    sqlite(&daemon.at("target.sqlite"), "DELETE FROM accounts_first");
    let error = cutover::sql(&greedy("ACCOUNTS_first"), &mut ()).expect_err("it is refused");
    assert!(matches!(error, Error::Refused(Cause::Table { .. })), "{error:?}");
    let words = "the plan 'release of accounts' has migrated into it";
    assert!(error.to_string().contains(words), "{error}");
    cutover::sql(&greedy("a_table_of_its_own"), &mut ()).expect("SQL");
}

#[test]
fn a_database_in_wal_that_somebody_has_open_is_migrated_all_the_same() {
    let daemon = Daemon::fresh();
    let target = daemon.at("target.sqlite");
    sqlite(&target, FOREIGN);
    let other = Connection::open(&target).expect("opens");
    let count = || -> i64 {
        other.query_one("SELECT count(*) FROM invoices", [], |row| row.get(0)).expect("reads")
    };
    assert_eq!(count(), 3);
    let plan = small_plan_builder(daemon.path()).build().expect("a plan");
    drop(cutover::sql(&plan, &mut ()).expect("SQL"));
    assert_eq!(count(), 3);
    assert_eq!(read_table(&target, "sessions_second"), small_store(2, 20)["second"]);
}

#[test]
fn i8_rows_of_another_table_that_refer_to_ours_survive_an_abort() {
    for action in ["CASCADE", "RESTRICT", "NO ACTION"] {
        let daemon = Daemon::fresh();
        let target = daemon.at("target.sqlite");
        let connection = Connection::open(&target).expect("opens");
        connection
            .execute_batch(&format!(
                "PRAGMA foreign_keys = OFF;
                 CREATE TABLE notes (k BLOB REFERENCES accounts_first (key) ON DELETE {action}, t);
                 INSERT INTO notes VALUES (x'00', 'mine')"
            ))
            .expect("writes");
        drop(connection);
        fresh_handle(&daemon.plan()).begin().expect("begins");
        daemon.copy_some_chunks();
        let connection = Connection::open(&target).expect("opens");
        connection
            .execute_batch(
                "PRAGMA foreign_keys = OFF; INSERT INTO notes SELECT key, 'ours' FROM accounts_first LIMIT 1",
            )
            .expect("writes");
        drop(connection);
        drop(migrating_handle(&daemon.plan()).abort().expect(action));
        let connection = Connection::open(&target).expect("opens");
        let notes: i64 = connection
            .query_row("SELECT count(*) FROM notes", [], |row| row.get(0))
            .expect("counts");
        assert_eq!(notes, 2, "{action}");
    }
}

/// Its record has to be read as the text that it is, and not as the bytes that it is kept in.
#[test]
fn i4_a_target_in_utf_16_is_migrated_into_as_any_other() {
    for encoding in ["UTF-16le", "UTF-16be"] {
        let daemon = Daemon::fresh();
        daemon.sqlite(&format!("PRAGMA encoding = '{encoding}'; CREATE TABLE own (x)"));
        drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
        let Found::Tombstoned(mut handle) = cutover::open(&daemon.plan()).expect("opens") else {
            panic!("not live")
        };
        crate::daemon::is_whole(&mut handle, &mut ());
    }
}

#[test]
fn an_empty_file_is_filled_and_keeps_its_rights() {
    use std::os::unix::fs::PermissionsExt;
    let daemon = Daemon::fresh();
    let target = daemon.at("target.sqlite");
    let rights = || std::fs::metadata(&target).expect("a file").permissions().mode() & 0o777;
    std::fs::write(&target, "").expect("writes");
    std::fs::set_permissions(&target, PermissionsExt::from_mode(0o600)).expect("sets");
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
    assert_eq!(rights(), 0o600);
    assert_eq!(read_table(&target, "accounts_first").len(), 20);
}
