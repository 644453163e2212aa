//! refinery, in one program with cutover, on the connection that `sql()` hands out.

use daemon::{BALANCES, CHANGE, Daemon, WRITTEN};
use refinery::{Migration, Runner};

fn main() {
    let daemon = Daemon::on_fjall();
    let mut connection = daemon.sql();
    let change = Migration::unapplied("V1__audit", CHANGE).expect("a migration");
    Runner::new(&[change]).run(&mut connection).expect("migrates");
    let one = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    assert_eq!(one("SELECT count(*) FROM accounts_balances WHERE note IS NULL"), Ok(BALANCES));
    connection
        .execute("INSERT INTO accounts_balances VALUES (?1, ?2, 'new')", [WRITTEN.0, WRITTEN.1])
        .expect("inserts");
    daemon.still_opens();
    assert_eq!(one("SELECT count(*) FROM refinery_schema_history"), Ok(1));
    daemon::says("refinery", rusqlite::version());
}
