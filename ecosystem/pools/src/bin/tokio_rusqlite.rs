//! tokio-rusqlite, in one program with cutover: it takes the very connection that `sql()` hands out.

use daemon::{BALANCES, Daemon, EXTRA, FIRST, WRITTEN};
use tokio_rusqlite::Connection;

#[tokio::main]
async fn main() {
    let daemon = Daemon::on_fjall();
    let connection = Connection::from(daemon.sql());
    let used = connection.call(|connection| {
        let one = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
        assert_eq!(one("SELECT count(*) FROM accounts_balances")?, BALANCES);
        assert_eq!(one("PRAGMA synchronous")?, EXTRA);
        let read = "SELECT value FROM accounts_balances WHERE key = ?1";
        let first: Vec<u8> = connection.query_row(read, [FIRST.0], |row| row.get(0))?;
        assert_eq!(first, FIRST.1);
        let insert = "INSERT INTO accounts_balances VALUES (?1, ?2)";
        connection.execute(insert, [WRITTEN.0, WRITTEN.1])
    });
    used.await.expect("reads and writes");
    daemon.still_opens();
    connection.close().await.expect("closes");
    daemon::says("tokio-rusqlite", rusqlite::version());
}
