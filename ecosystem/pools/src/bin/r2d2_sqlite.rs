//! r2d2_sqlite, in one program with cutover.

use daemon::{BALANCES, Daemon, EXTRA, FIRST, SETTINGS, WRITTEN};
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::OpenFlags;

fn main() {
    let daemon = Daemon::on_fjall();
    let target = daemon.moved();
    let manager = SqliteConnectionManager::file(target)
        // It creates no file: a database that is lost is for cutover to find.
        .with_flags(OpenFlags::default() - OpenFlags::SQLITE_OPEN_CREATE)
        .with_init(|connection| connection.execute_batch(SETTINGS));
    let pool = r2d2::Pool::builder().max_size(4).build(manager).expect("a pool");
    let connection = pool.get().expect("a connection");
    let count = "SELECT count(*) FROM accounts_balances";
    let read = "SELECT value FROM accounts_balances WHERE key = ?1";
    assert_eq!(connection.query_row(count, [], |row| row.get(0)), Ok(BALANCES));
    assert_eq!(connection.query_row(read, [FIRST.0], |row| row.get(0)), Ok(FIRST.1.to_vec()));
    assert_eq!(connection.query_row("PRAGMA synchronous", [], |row| row.get(0)), Ok(EXTRA));
    connection
        .execute("INSERT INTO accounts_balances VALUES (?1, ?2)", [WRITTEN.0, WRITTEN.1])
        .expect("inserts");
    daemon.still_opens();
    let other = pool.get().expect("another connection");
    assert_eq!(other.query_row(read, [WRITTEN.0], |row| row.get(0)), Ok(WRITTEN.1.to_vec()));
    daemon::says("r2d2_sqlite", rusqlite::version());
}
