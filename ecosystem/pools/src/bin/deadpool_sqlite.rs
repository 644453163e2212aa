//! deadpool-sqlite, in one program with cutover.

use daemon::{BALANCES, Daemon, EXTRA, FIRST, SETTINGS, WRITTEN};
use deadpool_sqlite::{Config, Hook, HookError, Runtime};

#[tokio::main]
async fn main() {
    let daemon = Daemon::on_fjall();
    // It would create a file that is not there: `sql()` comes first.
    let target = daemon.moved();
    let set = Hook::async_fn(|connection, _| {
        Box::pin(async move {
            let set = connection.interact(|connection| connection.execute_batch(SETTINGS)).await;
            set.map_err(|error| HookError::message(error.to_string()))?.map_err(HookError::Backend)
        })
    });
    let pool = Config::new(target)
        .builder(Runtime::Tokio1)
        .expect("a builder")
        .post_create(set)
        .build()
        .expect("a pool");
    let connection = pool.get().await.expect("a connection");
    let used = connection.interact(|connection| {
        let one = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
        assert_eq!(one("SELECT count(*) FROM accounts_balances"), Ok(BALANCES));
        assert_eq!(one("PRAGMA synchronous"), Ok(EXTRA));
        let read = "SELECT value FROM accounts_balances WHERE key = ?1";
        assert_eq!(connection.query_row(read, [FIRST.0], |row| row.get(0)), Ok(FIRST.1.to_vec()));
        connection
            .execute("INSERT INTO accounts_balances VALUES (?1, ?2)", [WRITTEN.0, WRITTEN.1])
            .expect("inserts");
    });
    used.await.expect("it does not panic");
    daemon.still_opens();
    daemon::says("deadpool-sqlite", rusqlite::version());
}
