//! The daemon's own check, on a connection that can't write.

use crate::common::{
    SOURCES, read_store, read_table, small_plan, small_plan_builder, small_store, snapshot,
};
use crate::daemon::{CANCELLED, Daemon, StopAfter, fresh_handle, migrating_handle, sqlite};
use cutover::{Cause, Error, Found, Plan, ticket};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The small daemon's plan with a check, and how often it was asked.
fn checked(
    folder: &Path,
    check: impl Fn(&Connection) -> Result<(), String> + Send + Sync + 'static,
) -> (Plan, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let plan = small_plan_builder(folder).check(move |connection| {
        count.fetch_add(1, Ordering::Relaxed);
        check(connection)
    });
    (plan.build().expect("a plan"), asked)
}

fn times(asked: &AtomicUsize) -> usize {
    asked.load(Ordering::Relaxed)
}

/// Says no until it was asked this many times.
fn no_until(asked: usize) -> impl Fn(&Connection) -> Result<(), String> {
    let count = AtomicUsize::new(0);
    move |_| {
        if count.fetch_add(1, Ordering::Relaxed) < asked {
            Err("session 7 has\nno account".to_owned())
        } else {
            Ok(())
        }
    }
}

fn is_whole_in_kv(daemon: &Daemon) {
    for (seed, name) in (1..).zip(SOURCES) {
        assert_eq!(read_store(&daemon.at(name)), small_store(seed, 20));
    }
}

#[test]
fn the_check_sees_every_row_while_nothing_is_committed_and_is_asked_once() {
    let daemon = Daemon::fresh();
    let (plan, asked) = checked(daemon.path(), |connection| {
        let count = |sql: &str| connection.query_one(sql, [], |row| row.get::<_, i64>(0));
        for name in SOURCES {
            for keyspace in ["first", "second"] {
                let rows = count(&format!("SELECT count(*) FROM {name}_{keyspace}"));
                assert_eq!(rows.expect("counts"), 20);
            }
        }
        let copying = "SELECT count(*) FROM cutover_record WHERE stage = 'copying'";
        assert_eq!(count(copying).expect("counts"), 1);
        Ok(())
    });
    // A copy that stops has nothing to check.
    let failed = fresh_handle(&plan).begin().expect("begins").run(&mut StopAfter { chunks: 2 });
    assert_eq!(failed.expect_err("stops").error.to_string(), CANCELLED);
    assert_eq!(times(&asked), 0);
    let committed = migrating_handle(&plan).run(&mut ()).expect("runs");
    assert_eq!(times(&asked), 1);
    // Behind the commit point it is not asked any more.
    drop(committed);
    let Found::Committed(committed) = cutover::open(&plan).expect("opens") else {
        panic!("not committed")
    };
    let mut live = committed.finish().expect("finishes");
    crate::daemon::is_whole(&mut live, &mut ());
    drop(live);
    drop(cutover::sql(&plan, &mut ()).expect("SQL"));
    assert_eq!(times(&asked), 1);
}

#[test]
fn a_check_that_says_no_stops_before_the_commit_point_and_is_asked_at_each_run() {
    let daemon = Daemon::fresh();
    let (plan, asked) = checked(daemon.path(), no_until(2));
    let error = cutover::sql(&plan, &mut ()).expect_err("it says no");
    let Error::Interrupted { step: "verify", cause: Cause::CheckRefused { .. } } = &error else {
        panic!("{error:?}")
    };
    let target = daemon.at("target.sqlite").canonicalize().expect("the target");
    assert_eq!(
        error.to_string(),
        format!(
            "stopped part-way and nothing is lost; could not verify: the daemon's own check of {} says: \
             session 7 has no account; fix what it found, or the check, then run this again, or abort",
            target.display()
        )
    );
    // A run that finds the copy at its end has changed nothing, so the handle comes back.
    let failed = migrating_handle(&plan).run(&mut ()).expect_err("it says no");
    assert!(matches!(failed.error, Error::Refused(Cause::CheckRefused { .. })), "{failed}");
    assert_eq!(times(&asked), 2);
    let committed = failed.handle.expect("the handle").run(&mut ()).expect("it says yes");
    assert_eq!(times(&asked), 3);
    drop(committed.finish().expect("finishes"));
    assert_eq!(
        read_table(&daemon.at("target.sqlite"), "accounts_first"),
        small_store(1, 20)["first"]
    );
}

#[test]
fn a_check_that_says_no_leaves_the_way_back() {
    let daemon = Daemon::fresh();
    let (plan, _) = checked(daemon.path(), no_until(usize::MAX));
    cutover::sql(&plan, &mut ()).expect_err("it says no");
    let stores = cutover::kv(&plan).expect("rolled back");
    assert!(stores.rolled_back());
    drop(stores);
    is_whole_in_kv(&daemon);
}

#[test]
fn a_rerun_asks_the_check_too() {
    let daemon = Daemon::live();
    std::fs::remove_file(daemon.at("target.sqlite")).expect("removes");
    let (plan, asked) = checked(daemon.path(), no_until(1));
    let Found::RerunAllowed(handle) = cutover::open(&plan).expect("opens") else {
        panic!("no rerun is allowed")
    };
    let rerun = handle.rerun(ticket::Rerun::losing_writes_made_in_sql()).expect("begins");
    let failed = rerun.run(&mut ()).expect_err("it says no");
    assert!(
        matches!(failed.error, Error::Interrupted { cause: Cause::CheckRefused { .. }, .. }),
        "{failed}"
    );
    drop(failed);
    assert!(migrating_handle(&plan).is_rerun());
    drop(cutover::sql(&plan, &mut ()).expect("SQL"));
    assert_eq!(times(&asked), 2);
}

#[test]
fn a_check_that_panics_lets_the_locks_go_and_nothing_is_committed() {
    let daemon = Daemon::fresh();
    let (plan, _) = checked(daemon.path(), |_| panic!("a mistake in the daemon's check"));
    let handle = fresh_handle(&plan).begin().expect("begins");
    let run = std::panic::AssertUnwindSafe(|| handle.run(&mut ()).map(drop));
    std::panic::catch_unwind(run).expect_err("it panics");
    // A plan without the mistake, in the same process.
    drop(migrating_handle(&small_plan(daemon.path())).run(&mut ()).expect("runs"));
}

/// Runs the statements one by one on one connection and returns which of them went through.
fn gone_through(connection: &Connection, statements: &[String]) -> Vec<String> {
    let run = |sql: &&String| {
        connection.prepare(sql).and_then(|mut statement| {
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        })
    };
    statements.iter().filter(|sql| run(sql).is_ok()).cloned().collect()
}

/// What a check may try; the first two are not writes.
fn statements(other: &Path) -> Vec<String> {
    let other = other.display();
    [
        "SELECT count(*) FROM accounts_first",
        &format!("ATTACH '{other}' AS other"),
        "INSERT INTO accounts_first VALUES (x'ff', x'00')",
        "UPDATE accounts_first SET value = x''",
        "DELETE FROM accounts_first",
        "DROP TABLE accounts_first",
        "ALTER TABLE accounts_first RENAME TO mine",
        "CREATE TABLE mine (x)",
        "CREATE INDEX mine ON accounts_first (value)",
        "PRAGMA user_version = 7",
        "UPDATE cutover_record SET stage = 'live'",
        "VACUUM",
        "INSERT INTO other.t VALUES (2)",
        "CREATE TABLE other.mine (x)",
        &format!("ATTACH '{other}.new' AS new"),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn cannot_write(daemon: &Daemon, mode: &str) {
    let beside = tempfile::tempdir().expect("a folder");
    let other: PathBuf = beside.path().join("other.sqlite");
    sqlite(&other, "CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    let (folder, mode) = (daemon.path().to_owned(), mode.to_owned());
    let (plan, asked) = checked(daemon.path(), move |connection| {
        let found: String =
            connection.query_one("PRAGMA journal_mode", [], |row| row.get(0)).expect("a mode");
        assert_eq!(found, mode);
        let statements = statements(&other);
        let before = (snapshot(&folder), snapshot(other.parent().expect("a folder")));
        assert_eq!(gone_through(connection, &statements), &statements[..2]);
        connection.execute_batch("CREATE TEMP TABLE scratch (x)").expect_err("it is refused");
        // A check that lifts what keeps it from writing is kept from it all the same.
        connection.execute_batch("DETACH other; PRAGMA query_only = 0").expect("runs");
        assert_eq!(gone_through(connection, &statements), &statements[..2]);
        let after = (snapshot(&folder), snapshot(other.parent().expect("a folder")));
        assert!(before == after, "a check has changed a file");
        Ok(())
    });
    drop(fresh_handle(&plan).begin().expect("begins").run(&mut ()).expect("runs"));
    assert_eq!(times(&asked), 1);
}

#[test]
fn i1_a_check_can_not_write_whatever_it_tries() {
    cannot_write(&Daemon::fresh(), "delete");
}

#[test]
fn i1_a_check_can_not_write_in_wal_and_leaves_none_of_its_files() {
    let daemon = Daemon::fresh();
    sqlite(&daemon.at("target.sqlite"), "PRAGMA journal_mode = WAL; CREATE TABLE foreign_one (x)");
    // Somebody who has it open keeps it in WAL.
    let held = Connection::open(daemon.at("target.sqlite")).expect("opens");
    held.execute_batch("SELECT count(*) FROM foreign_one").expect("runs");
    cannot_write(&daemon, "wal");
    drop(held);
    for suffix in ["-wal", "-shm"] {
        assert!(!daemon.at(&format!("target.sqlite{suffix}")).exists(), "{suffix} is left");
    }
}

/// The mode is kept where nobody has it open but the check itself.
#[test]
fn i8_a_check_of_a_database_in_wal_that_nobody_else_has_open_leaves_no_file_behind() {
    let daemon = Daemon::fresh();
    let no = no_until(2);
    let (plan, _) = checked(daemon.path(), move |connection| {
        let count = "SELECT count(*) FROM accounts_first";
        connection.query_one(count, [], |row| row.get::<_, i64>(0)).expect("counts");
        no(connection)
    });
    cutover::sql(&plan, &mut ()).expect_err("it says no");
    sqlite(&daemon.at("target.sqlite"), "PRAGMA journal_mode = WAL");
    let before = snapshot(daemon.path());
    migrating_handle(&plan).run(&mut ()).expect_err("it says no");
    let names = |all: std::collections::BTreeMap<String, _>| all.into_keys().collect::<Vec<_>>();
    assert_eq!(names(snapshot(daemon.path())), names(before));
    drop(cutover::sql(&plan, &mut ()).expect("SQL"));
}
