//! sqlx 0.8 beside cutover: its libsqlite3-sys is none that cutover takes, and a program has one. So the
//! command moves the stores before the daemon starts (systemd's `ExecStartPre`), and the daemon opens
//! the file by its path.

use daemon::{BALANCES, Daemon, EXTRA, FIRST, WRITTEN};
use sqlx::migrate::Migrator;
use sqlx::query_scalar;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};

#[tokio::main]
async fn main() {
    let daemon = Daemon::on_fjall();
    // Each time that the daemon starts: it goes on with what was cut short, and ends at once where all is
    // done. The daemon does not start where it fails.
    for _ in 0..2 {
        daemon.command("migrate", "--yes");
    }
    let options =
        SqliteConnectOptions::new().filename(daemon.target()).synchronous(SqliteSynchronous::Extra);
    let pool =
        SqlitePoolOptions::new().max_connections(4).connect_with(options).await.expect("a pool");
    daemon.change_at("migrations/1_audit.sql");
    let migrator = Migrator::new(daemon.at("migrations")).await.expect("migrations");
    migrator.run(&pool).await.expect("migrates");

    let one = |query: &'static str| query_scalar::<_, i64>(query).fetch_one(&pool);
    assert_eq!(one("SELECT count(*) FROM accounts_balances").await.expect("counts"), BALANCES);
    assert_eq!(one("PRAGMA synchronous").await.expect("reads"), EXTRA);
    let first: Vec<u8> = query_scalar("SELECT value FROM accounts_balances WHERE key = ?1")
        .bind(FIRST.0)
        .fetch_one(&pool)
        .await
        .expect("reads");
    assert_eq!(first, FIRST.1);
    sqlx::query("INSERT INTO accounts_balances VALUES (?1, ?2, 'new')")
        .bind(WRITTEN.0)
        .bind(WRITTEN.1)
        .execute(&pool)
        .await
        .expect("inserts");
    // While the pool is open, and as the next start does.
    daemon.command("migrate", "--yes");
    daemon.is_live_to_the_command();
    let version: String =
        query_scalar("SELECT sqlite_version()").fetch_one(&pool).await.expect("it says");
    daemon::says("sqlx 0.8, beside", &version);
}
