//! What is assumed of SQLite and the kernel (`docs/assumptions.md`), where a short test can show it.

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use std::fs::{self, File};
use std::path::Path;

fn open(folder: &Path, mode: &str) -> Connection {
    let connection = Connection::open(folder.join("d.sqlite")).expect("opens");
    connection.pragma_update(None, "synchronous", "EXTRA").expect("a pragma");
    connection.pragma_update(None, "journal_mode", mode).expect("a mode");
    connection
}

/// What is in the database's files, the log's index left out.
fn bytes(folder: &Path) -> [Option<Vec<u8>>; 2] {
    ["d.sqlite", "d.sqlite-wal"].map(|name| fs::read(folder.join(name)).ok())
}

/// A-14, and why a record is confirmed in this way.
#[test]
fn an_empty_transaction_writes_nothing_and_setting_user_version_to_itself_does() {
    for mode in ["DELETE", "WAL"] {
        let folder = tempfile::tempdir().expect("a folder");
        let connection = open(folder.path(), mode);
        connection.execute_batch("PRAGMA user_version = 7; CREATE TABLE t (x)").expect("runs");
        let before = bytes(folder.path());
        connection.execute_batch("BEGIN IMMEDIATE; COMMIT").expect("commits");
        assert_eq!(bytes(folder.path()), before, "{mode}");
        connection
            .execute_batch("BEGIN IMMEDIATE; PRAGMA user_version = 7; COMMIT")
            .expect("commits");
        assert_ne!(bytes(folder.path()), before, "{mode}");
    }
}

/// the fence is down inside a transaction alone.
#[test]
fn a_fence_that_a_transaction_took_down_stands_again_after_its_rollback() {
    let folder = tempfile::tempdir().expect("a folder");
    let connection = open(folder.path(), "DELETE");
    let fence = "CREATE TRIGGER f BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'fenced'); END";
    connection.execute_batch(&format!("CREATE TABLE t (x); {fence}")).expect("runs");
    let inside = "BEGIN IMMEDIATE; DROP TRIGGER f; INSERT INTO t VALUES (1)";
    connection.execute_batch(inside).expect("the fence is down");
    drop(connection);
    let connection = open(folder.path(), "DELETE");
    connection.execute("INSERT INTO t VALUES (2)", []).expect_err("it stands");
    let rows: i64 =
        connection.query_one("SELECT count(*) FROM t", [], |row| row.get(0)).expect("counts");
    assert_eq!(rows, 0);
}

/// A-15, the end of what a fence of triggers can do.
#[test]
fn triggers_stop_no_definition_and_no_connection_that_turns_them_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let connection = open(folder.path(), "DELETE");
    let fence = "CREATE TRIGGER f BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'fenced'); END";
    connection.execute_batch(&format!("CREATE TABLE t (x); {fence}")).expect("runs");
    connection.execute("INSERT INTO t VALUES (1)", []).expect_err("it stands");
    connection.execute_batch("ALTER TABLE t ADD COLUMN y").expect("alters");
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).expect("off");
    connection.execute("INSERT INTO t (x) VALUES (1)", []).expect("inserts");
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true).expect("on");
    connection.execute_batch("DROP TABLE t").expect("drops");
}

/// anyone who asks at the new name meets the lock, and nobody does at the old one.
#[test]
fn a_lock_on_a_folder_follows_it_through_an_exchange() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, marker) = (folder.path().join("store"), folder.path().join("marker"));
    fs::create_dir(&store).expect("a folder");
    fs::write(&marker, "").expect("writes");
    let lock = |path: &Path| {
        let file = File::open(path).expect("opens");
        flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file)
    };
    let held = lock(&store).expect("free");
    renameat_with(CWD, &store, CWD, &marker, RenameFlags::EXCHANGE).expect("exchanges");
    assert!(marker.is_dir() && store.is_file());
    assert_eq!(lock(&marker).expect_err("held"), rustix::io::Errno::WOULDBLOCK);
    lock(&store).expect("the file is another");
    drop(held);
    lock(&marker).expect("free again");
}
