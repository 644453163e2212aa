//! diesel with its pool and its migrations, in one program with cutover.

use daemon::{BALANCES, Daemon, FIRST, SETTINGS, WRITTEN};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error, Pool};
use diesel_migrations::{FileBasedMigrations, MigrationHarness};

diesel::table! {
    accounts_balances (key) {
        key -> Binary,
        value -> Binary,
        note -> Nullable<Text>,
    }
}

#[derive(Debug)]
struct Settings;

impl CustomizeConnection<SqliteConnection, Error> for Settings {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), Error> {
        // Which rusqlite's SQLite does by itself, and the system's does not.
        let keys = "PRAGMA foreign_keys = ON;";
        connection.batch_execute(&format!("{SETTINGS}{keys}")).map_err(Error::QueryError)
    }
}

fn main() {
    let daemon = Daemon::on_fjall();
    // It would create a file that is not there: `sql()` comes first.
    drop(daemon.moved());
    let manager = ConnectionManager::<SqliteConnection>::new(daemon.target_text());
    let pool = Pool::builder()
        .max_size(4)
        .connection_customizer(Box::new(Settings))
        .build(manager)
        .expect("a pool");
    let mut connection = pool.get().expect("a connection");
    daemon.change_at("migrations/1_audit/up.sql");
    let migrations = FileBasedMigrations::from_path(daemon.at("migrations")).expect("migrations");
    connection.run_pending_migrations(migrations).expect("migrates");

    use accounts_balances::{key, table, value};
    assert_eq!(table.count().get_result(&mut connection), Ok(BALANCES));
    let first = table.find(FIRST.0).select(value).first::<Vec<u8>>(&mut connection);
    assert_eq!(first, Ok(FIRST.1.to_vec()));
    diesel::insert_into(table)
        .values((key.eq(WRITTEN.0), value.eq(WRITTEN.1)))
        .execute(&mut connection)
        .expect("inserts");
    daemon.still_opens();
    daemon::says("diesel", rusqlite::version());
}
