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
