//! Until the target is live, no plain connection writes a migrated table.

use crate::common::SOURCES;
use crate::daemon::Daemon;
use rusqlite::Connection;

/// Every kind of statement that writes rows. Each would change something in a table with rows.
const WRITES: [&str; 9] = [
    "INSERT INTO {t} VALUES (x'99', x'00')",
    "INSERT OR IGNORE INTO {t} VALUES (x'99', x'00')",
    "INSERT OR REPLACE INTO {t} SELECT key, x'00' FROM {t} LIMIT 1",
    "REPLACE INTO {t} VALUES (x'99', x'00')",
    "INSERT INTO {t} SELECT key, x'01' FROM {t} WHERE true ON CONFLICT (key) DO UPDATE SET value = x'01'",
    "UPDATE {t} SET value = x'02'",
    "UPDATE OR IGNORE {t} SET value = x'03'",
    "UPDATE OR REPLACE {t} SET value = x'04'",
    "DELETE FROM {t}",
];

fn tables() -> impl Iterator<Item = String> {
    SOURCES.iter().flat_map(|source| ["first", "second"].map(|name| format!("{source}_{name}")))
}

fn has_rows(connection: &Connection, table: &str) -> bool {
    connection
        .query_one(&format!("SELECT EXISTS (SELECT 1 FROM {table})"), [], |row| row.get(0))
        .expect("a table")
}

#[test]
fn i1_nobody_writes_a_migrated_table_before_the_target_is_live() {
    for (daemon, full) in [(Daemon::copying(), 1), (Daemon::committed(), 4)] {
        let connection = Connection::open(daemon.at("target.sqlite")).expect("opens");
        let mut seen_full = 0;
        for table in tables() {
            let rows = has_rows(&connection, &table);
            seen_full += usize::from(rows);
            for write in WRITES {
                let statement = write.replace("{t}", &table);
                match connection.execute(&statement, []) {
                    Err(error) => {
                        let message = error.to_string();
                        let fence = format!("cutover: table {table} is fenced until the migration");
                        assert!(message.contains(&fence), "{statement}: {message}");
                    }
                    // A table without rows has nothing to update.
                    Ok(changed) => assert!(!rows && changed == 0, "{statement}: {changed}"),
                }
            }
            assert_eq!(has_rows(&connection, &table), rows);
        }
        assert_eq!(seen_full, full);
        drop(connection);

        drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
        let connection = Connection::open(daemon.at("target.sqlite")).expect("opens");
        for table in tables() {
            for write in WRITES {
                let statement = write.replace("{t}", &table);
                let changed = connection.execute(&statement, []).expect("live");
                // The row that the first inserted is there already.
                assert_eq!(changed == 0, write.contains("OR IGNORE INTO"), "{statement}");
            }
        }
    }
}

/// It should not be: what it reads may still be taken back. But it endangers nothing.
#[test]
fn i1_a_pool_that_was_opened_before_the_migration_writes_no_migrated_table_until_it_is_live() {
    const FULL: i64 = 2;
    const EXTRA: i64 = 3;
    for mode in ["delete", "wal"] {
        let daemon = Daemon::fresh();
        let pool = [(); 2].map(|()| {
            let connection = Connection::open(daemon.at("target.sqlite")).expect("opens");
            connection.pragma_update(None, "journal_mode", mode).expect("a mode");
            connection.execute_batch("CREATE TABLE IF NOT EXISTS own (x)").expect("its own table");
            connection
        });
        let one = |connection: &Connection, query: &str| {
            connection.query_row(query, [], |row| row.get::<_, i64>(0)).expect("reads")
        };
        drop(crate::daemon::fresh_handle(&daemon.plan()).begin().expect("begins"));
        daemon.copy_some_chunks();
        for connection in &pool {
            let read: i64 = tables()
                .map(|table| one(connection, &format!("SELECT count(*) FROM {table}")))
                .sum();
            assert!((1..80).contains(&read), "{mode}: {read}");
            let fenced = connection.execute("DELETE FROM accounts_first", []).expect_err("fenced");
            assert!(fenced.to_string().contains("is fenced until"), "{fenced}");
            connection.execute("INSERT INTO own VALUES (1)", []).expect("its own table");
        }
        let handed_out = cutover::sql(&daemon.plan(), &mut ()).expect("SQL");
        // L-58: what a pool opens has SQLite's own settings.
        assert_eq!(one(&handed_out, "PRAGMA synchronous"), EXTRA);
        for connection in &pool {
            assert_eq!(one(connection, "SELECT count(*) FROM accounts_first"), 20);
            assert_eq!(one(connection, "PRAGMA synchronous"), FULL);
            let delete =
                "DELETE FROM accounts_first WHERE key = (SELECT max(key) FROM accounts_first)";
            assert_eq!(connection.execute(delete, []), Ok(1), "{mode}");
            connection
                .execute("INSERT INTO accounts_first VALUES (x'01ff', x'')", [])
                .expect("live");
        }
        assert_eq!(one(&handed_out, "SELECT count(*) FROM own"), 2);
    }
}
