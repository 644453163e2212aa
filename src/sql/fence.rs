//! The fence: triggers that abort every insert, update and delete in a migrated table. The schema is
//! part of the transaction, so at every commit before the target is live the fence stands.
//!
//! A statement that makes or drops a trigger reads the whole schema, so that fences one by one would
//! cost the square of the number of tables. Their rows are written into the schema at once, as SQLite
//! itself writes them: a trigger is a row there and has no page of its own.

use crate::mapping::quote;
use crate::protocol::record::{SchemaEntry, TableRecorded};
use rusqlite::Connection;
use std::collections::{BTreeSet, HashMap};

const EVENTS: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

fn name(event: &str, table: &str) -> String {
    format!("cutover_fence_{}_{table}", event.to_ascii_lowercase())
}

/// The statement that makes one, as SQLite's schema keeps it.
fn statement(event: &str, plan: &str, table: &str) -> String {
    let message =
        format!("cutover: table {table} is fenced until the migration '{plan}' is finished");
    format!(
        "CREATE TRIGGER {} BEFORE {event} ON {} BEGIN SELECT RAISE(ABORT, '{}'); END",
        quote(&name(event, table)),
        quote(table),
        message.replace('\'', "''")
    )
}

/// The triggers of fences that stand, in lower case, with their rows: a name is one whatever its case.
fn standing(connection: &Connection) -> rusqlite::Result<HashMap<String, i64>> {
    let mut triggers = connection.prepare_cached(
        "SELECT name, rowid FROM sqlite_schema
         WHERE type = 'trigger' AND name LIKE 'cutover\\_fence\\_%' ESCAPE '\\'",
    )?;
    let triggers = triggers.query_map([], |row| {
        let name: String = row.get(0)?;
        Ok((name.to_ascii_lowercase(), row.get(1)?))
    })?;
    triggers.collect()
}

/// Whether a database holds nothing but the record's table and what a migration has made of these
/// tables, and as it made them (I-8).
pub(super) fn is_nothing_but(
    connection: &Connection,
    tables: &[TableRecorded],
) -> rusqlite::Result<bool> {
    let number = |pragma: &str| connection.query_one(pragma, [], |row| row.get::<_, i64>(0));
    if number("PRAGMA user_version")? != 0 || number("PRAGMA application_id")? != 0 {
        return Ok(false);
    }
    let made = tables.iter().filter(|table| table.created).flat_map(|table| &table.schema);
    let made: BTreeSet<&SchemaEntry> = made.collect();
    let mut statement = connection.prepare(
        "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )?;
    let entries = statement.query_map([], |row| {
        Ok(SchemaEntry { kind: row.get(0)?, name: row.get(1)?, sql: row.get(2)? })
    })?;
    for entry in entries {
        let entry = entry?;
        if entry.name != "cutover_record" && !made.contains(&entry) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The tables, of these, around which a part of a fence stands, be it that they have other names now.
pub(super) fn fenced<'a>(
    connection: &Connection,
    tables: &[&'a str],
) -> rusqlite::Result<BTreeSet<&'a str>> {
    let standing = standing(connection)?;
    let stands = |table: &&str| {
        EVENTS.iter().any(|event| standing.contains_key(&name(event, table).to_ascii_lowercase()))
    };
    Ok(tables.iter().copied().filter(stands).collect())
}

/// The triggers of a table's fence, as the schema holds them.
pub(super) fn triggers(plan: &str, table: &str) -> [SchemaEntry; 3] {
    EVENTS.map(|event| SchemaEntry {
        kind: "trigger".to_owned(),
        name: name(event, table),
        sql: Some(statement(event, plan, table)),
    })
}

/// Puts fences around tables of which none has a part of one.
pub(super) fn raise(connection: &Connection, plan: &str, tables: &[&str]) -> rusqlite::Result<()> {
    change_schema(connection, || {
        let mut insert = connection.prepare_cached(
            "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql)
             VALUES (?1, ?2, ?3, 0, ?4)",
        )?;
        for table in tables {
            for SchemaEntry { kind, name, sql } in triggers(plan, table) {
                insert.execute((kind, name, table, sql))?;
            }
        }
        Ok(())
    })
}

/// Takes the fences of tables down, as far as they stand.
pub(super) fn drop(connection: &Connection, tables: &[&str]) -> rusqlite::Result<()> {
    let standing = standing(connection)?;
    change_schema(connection, || {
        let mut delete = connection.prepare_cached("DELETE FROM sqlite_schema WHERE rowid = ?1")?;
        for table in tables {
            for event in EVENTS {
                if let Some(row) = standing.get(&name(event, table).to_ascii_lowercase()) {
                    delete.execute([row])?;
                }
            }
        }
        Ok(())
    })
}

/// Changes rows of the schema, which this connection and every other one then read anew.
fn change_schema(
    connection: &Connection,
    change: impl FnOnce() -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    connection.pragma_update(None, "writable_schema", true)?;
    change()?;
    let version: i32 = connection.query_one("PRAGMA schema_version", [], |row| row.get(0))?;
    connection.pragma_update(None, "schema_version", version.wrapping_add(1))?;
    connection.pragma_update(None, "writable_schema", "RESET")
}

/// Everything that the schema holds for some tables.
#[derive(Debug)]
pub(super) struct Schemas(HashMap<String, Vec<SchemaEntry>>);

impl Schemas {
    /// Reads the schema once, whatever the number of tables.
    pub(super) fn read<'a>(
        connection: &Connection,
        tables: impl IntoIterator<Item = &'a str>,
    ) -> rusqlite::Result<Self> {
        let lower = |table: &str| table.to_ascii_lowercase();
        let mut found: HashMap<String, Vec<SchemaEntry>> =
            tables.into_iter().map(|table| (lower(table), Vec::new())).collect();
        let mut statement =
            connection.prepare_cached("SELECT tbl_name, type, name, sql FROM sqlite_schema")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let Ok(table) = row.get_ref(0)?.as_str() else { continue };
            if let Some(entries) = found.get_mut(&lower(table)) {
                let entry = SchemaEntry { kind: row.get(1)?, name: row.get(2)?, sql: row.get(3)? };
                entries.push(entry);
            }
        }
        // In an order that does not depend on the database's encoding.
        for entries in found.values_mut() {
            entries.sort();
        }
        Ok(Self(found))
    }

    /// What it holds for one of them; nothing where it does not exist.
    pub(super) fn of(&self, table: &str) -> &[SchemaEntry] {
        self.0.get(&table.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }
}

/// What a statement has put into the schema.
#[derive(Debug)]
pub(super) struct Made {
    /// The table that it is of.
    pub(super) table: String,
    pub(super) entry: SchemaEntry,
    /// Whether it has pages of its own: a view has none, nor has a virtual table.
    pub(super) is_stored: bool,
}

/// Runs a statement and returns the one thing that it has put into the schema; none where that is
/// nothing or several. SQLite adds rows after the last one, so that no others need be read. What
/// SQLite itself adds is not counted: the first AUTOINCREMENT makes `sqlite_sequence`, and only a
/// VACUUM takes it away.
pub(super) fn make(connection: &Connection, statement: &str) -> rusqlite::Result<Option<Made>> {
    let last: i64 =
        connection
            .query_one("SELECT coalesce(max(rowid), 0) FROM sqlite_schema", [], |row| row.get(0))?;
    connection.execute(statement, [])?;
    let mut made = connection.prepare(&format!(
        "SELECT tbl_name, type, name, sql, rootpage > 0 FROM sqlite_schema
         WHERE rowid > ?1 AND {NOT_SQLITE_S_OWN}"
    ))?;
    let made = made.query_map([last], |row| {
        let entry = SchemaEntry { kind: row.get(1)?, name: row.get(2)?, sql: row.get(3)? };
        Ok(Made { table: row.get(0)?, entry, is_stored: row.get(4)? })
    })?;
    let mut made = made.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(made.pop().filter(|_| made.is_empty()))
}

const NOT_SQLITE_S_OWN: &str = "name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";

/// Whether a database holds nothing but what SQLite itself puts there.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let any = format!("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE {NOT_SQLITE_S_OWN})");
    connection.query_one(&any, [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: [&str; 5] = ["t", "Wide \"name\"", "it's", "\u{e9}t\u{e9}", "100%_"];

    fn rows(connection: &Connection) -> Vec<(String, String, String, i64, Option<String>)> {
        let query = "SELECT type, name, tbl_name, rootpage > 0, sql FROM sqlite_schema ORDER BY 2";
        let mut statement = connection.prepare(query).unwrap();
        let row = |row: &rusqlite::Row<'_>| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        };
        statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn with_tables(encoding: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "encoding", encoding).unwrap();
        for table in TABLES {
            connection.execute(&format!("CREATE TABLE {} (a)", quote(table)), []).unwrap();
        }
        connection
    }

    /// The rows are ours, and what SQLite makes of them must not differ from what it would have made.
    #[test]
    fn the_fence_in_the_schema_is_what_sqlite_s_own_statements_make() {
        for encoding in ["UTF-8", "UTF-16"] {
            let (ours, theirs) = (with_tables(encoding), with_tables(encoding));
            let before = rows(&ours);
            raise(&ours, "it's a plan", &TABLES).unwrap();
            for table in TABLES {
                for event in EVENTS {
                    theirs.execute(&statement(event, "it's a plan", table), []).unwrap();
                }
            }
            assert_eq!(rows(&ours), rows(&theirs));
            let whole: String =
                ours.query_one("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
            assert_eq!(whole, "ok");
            for table in TABLES {
                let insert = format!("INSERT INTO {} VALUES (1)", quote(table));
                let error = ours.execute(&insert, []).unwrap_err().to_string();
                let told = format!("table {table} is fenced until the migration 'it's a plan'");
                assert!(error.contains(&told), "{error}");
            }
            assert_eq!(fenced(&ours, &TABLES).unwrap(), TABLES.into());
            // What SQLite made is taken down as well, and SQLite drops what we made.
            drop(&theirs, &TABLES[1..]).unwrap();
            assert_eq!(fenced(&theirs, &TABLES).unwrap(), [TABLES[0]].into());
            for table in TABLES {
                for event in EVENTS {
                    let drop = format!("DROP TRIGGER {}", quote(&name(event, table)));
                    ours.execute(&drop, []).unwrap();
                }
                ours.execute(&format!("INSERT INTO {} VALUES (1)", quote(table)), []).unwrap();
            }
            assert_eq!(rows(&ours), before);
        }
    }

    /// Connections keep the schema in memory: what they know of it must not outlive a commit.
    #[test]
    fn a_connection_that_knew_the_schema_before_meets_the_fence_and_its_end() {
        for mode in ["delete", "wal"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("d.sqlite");
            let ours = Connection::open(&path).unwrap();
            ours.pragma_update(None, "journal_mode", mode).unwrap();
            ours.execute_batch("CREATE TABLE t (a); CREATE TABLE u (a)").unwrap();
            let other = Connection::open(&path).unwrap();
            let mut insert = other.prepare("INSERT INTO t VALUES (1)").unwrap();
            insert.execute([]).unwrap();
            ours.execute_batch("BEGIN IMMEDIATE").unwrap();
            raise(&ours, "p", &["t"]).unwrap();
            ours.execute_batch("COMMIT").unwrap();
            let error = insert.execute([]).unwrap_err().to_string();
            assert!(error.contains("is fenced"), "{mode}: {error}");
            other.execute("INSERT INTO u VALUES (1)", []).unwrap();
            // What is rolled back has not happened, for its own connection neither.
            ours.execute_batch("BEGIN IMMEDIATE").unwrap();
            drop(&ours, &["T"]).unwrap();
            ours.execute("INSERT INTO t VALUES (2)", []).unwrap();
            ours.execute_batch("ROLLBACK").unwrap();
            for connection in [&ours, &other] {
                let error = connection.execute("DELETE FROM t", []).unwrap_err().to_string();
                assert!(error.contains("is fenced"), "{mode}: {error}");
            }
            drop(&ours, &["t"]).unwrap();
            insert.execute([]).unwrap();
        }
    }
}
