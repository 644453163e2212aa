//! A table that numbers its rows with AUTOINCREMENT, for which SQLite keeps a table of its own.

use crate::common::small_store;
use crate::daemon::{Daemon, StopAfter, fresh_handle, migrating_handle};
use cutover::{Found, Mapping, MappingError, Plan, Rows, Table, Visit, ticket};
use rusqlite::Connection;
use std::fs;

/// Blobs, and the number of each.
struct Numbered;

impl Mapping for Numbered {
    fn name(&self) -> &'static str {
        "numbered"
    }
    fn tables(&self) -> Vec<Table> {
        let create = "CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT, key, value)";
        vec![Table::new("numbered", create).index("CREATE UNIQUE INDEX by_key ON numbered (key)")]
    }
    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        let insert = "INSERT INTO numbered (key, value) VALUES (?1, ?2)";
        rows.execute(insert, (key, value)).map(drop)
    }
    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        rows.query_each("SELECT key, value FROM numbered", [], |row| {
            visit(&row.get::<_, Vec<u8>>(0)?, &row.get::<_, Vec<u8>>(1)?)
        })
    }
}

fn numbered(daemon: &Daemon) -> Plan {
    let plan = Plan::builder("small").source("accounts", daemon.at("accounts"), |s| {
        s.table("first", Numbered).leave_out("second")
    });
    plan.target(daemon.at("target.sqlite")).chunk_bytes(60).build().expect("a plan")
}

/// What SQLite has noted as the last number of each table; none where it keeps no such table.
fn last_numbers(connection: &Connection) -> Option<Vec<(String, i64)>> {
    let mut statement =
        connection.prepare("SELECT name, seq FROM sqlite_sequence ORDER BY name").ok()?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    Some(rows.collect::<Result<_, _>>().expect("reads"))
}

#[test]
fn a_table_with_autoincrement_is_rehearsed_migrated_taken_back_migrated_and_rerun() {
    let other = "CREATE TABLE other (id INTEGER PRIMARY KEY AUTOINCREMENT, x);
                 INSERT INTO other (x) VALUES (1), (2)";
    let once = "CREATE TABLE other (id INTEGER PRIMARY KEY AUTOINCREMENT); DROP TABLE other";
    let own = "CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT, key, value)";
    for (before, others) in [("", 0), (other, 1), (once, 0), (own, 0)] {
        let daemon = Daemon::fresh();
        if !before.is_empty() {
            daemon.sqlite(before);
        }
        let plan = numbered(&daemon);
        let open = || Connection::open(daemon.at("target.sqlite")).expect("opens");
        let count =
            |sql: &str| -> i64 { open().query_one(sql, [], |row| row.get(0)).expect("counts") };
        plan.rehearse(&mut ()).expect(before);
        drop(fresh_handle(&plan).begin().expect(before));
        migrating_handle(&plan).run(&mut StopAfter { chunks: 2 }).expect_err("stops");
        drop(migrating_handle(&plan).abort().expect("aborts"));
        let left = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%cutover%'
                    OR name IN ('numbered', 'by_key')";
        assert_eq!(count(left), i64::from(before == own), "{before}");
        if before == own {
            assert_eq!(count("SELECT count(*) FROM numbered"), 0);
        } else {
            // A target that has nothing else is made anew, which takes SQLite's own table away.
            let numbers = last_numbers(&open()).map(|numbers| numbers.len());
            assert_eq!(numbers, (others > 0).then_some(others), "{before}");
        }
        if before.is_empty() {
            assert_eq!(count("PRAGMA freelist_count"), 0, "the space is given back");
        }

        let connection = cutover::sql(&plan, &mut ()).expect(before);
        let numbers = last_numbers(&connection).expect("there are numbers");
        assert_eq!(numbers.len(), 1 + others, "{before}");
        let (rows, first, last): (i64, i64, i64) = connection
            .query_one("SELECT count(*), min(id), max(id) FROM numbered", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .expect("counts");
        let pairs = i64::try_from(small_store(1, 20)["first"].len()).expect("few");
        assert_eq!((rows, last - first + 1), (pairs, pairs), "{before}");
        // The daemon's next row has the next number.
        connection
            .execute("INSERT INTO numbered (key, value) VALUES (x'99', x'')", [])
            .expect("live");
        assert_eq!(connection.last_insert_rowid(), last + 1);
        drop(connection);

        fs::remove_file(daemon.at("target.sqlite")).expect("removes");
        let Found::RerunAllowed(handle) = cutover::open(&plan).expect("opens") else {
            panic!("not gone")
        };
        drop(handle.rerun(ticket::Rerun::losing_writes_made_in_sql()).expect("begins"));
        drop(cutover::sql(&plan, &mut ()).expect("SQL"));
        assert_eq!(count("SELECT count(*) FROM numbered"), pairs);
    }
}
