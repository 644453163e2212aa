//! rusqlite_migration, in one program with cutover, on the connection that `sql()` hands out.

use daemon::{BALANCES, CHANGE, Daemon, WRITTEN};
use rusqlite_migration::{M, Migrations};

fn main() {
    let daemon = Daemon::on_fjall();
    let mut connection = daemon.sql();
    let migrations = Migrations::new(vec![M::up(CHANGE)]);
    migrations.to_latest(&mut connection).expect("migrates");
    let one = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    assert_eq!(one("SELECT count(*) FROM accounts_balances WHERE note IS NULL"), Ok(BALANCES));
    connection
        .execute("INSERT INTO accounts_balances VALUES (?1, ?2, 'new')", [WRITTEN.0, WRITTEN.1])
        .expect("inserts");
    daemon.still_opens();
    // It counts in `user_version`, which cutover leaves as it is.
    assert_eq!(one("PRAGMA user_version"), Ok(1));
    daemon::says("rusqlite_migration", rusqlite::version());
}
