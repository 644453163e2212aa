//! sqlx with its pool and its migrations, in one program with cutover.

use daemon::{BALANCES, Daemon, EXTRA, FIRST, WRITTEN};
use sqlx::migrate::Migrator;
use sqlx::query_scalar;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};

#[tokio::main]
async fn main() {
    let daemon = Daemon::on_fjall();
    let target = daemon.moved();
    // It creates no file, unless it is told to. It sets no journal mode either.
    let options =
        SqliteConnectOptions::new().filename(target).synchronous(SqliteSynchronous::Extra);
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
    daemon.still_opens();
    let mode: String = query_scalar("PRAGMA journal_mode").fetch_one(&pool).await.expect("reads");
    assert_eq!(mode, "delete", "as cutover left it");
    assert_eq!(one("SELECT count(*) FROM _sqlx_migrations").await.expect("counts"), 1);
    daemon::says("sqlx", rusqlite::version());
}
