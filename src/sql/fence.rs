//! The fence: triggers that abort every insert, update and delete in a migrated table. DDL is part
//! of the transaction, so at every commit before the target is live the fence stands.

use crate::copy::quote;
use crate::protocol::record::SchemaEntry;
use rusqlite::Connection;

const EVENTS: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

fn name(event: &str, table: &str) -> String {
    format!("cutover_fence_{}_{table}", event.to_ascii_lowercase())
}

fn trigger(event: &str, table: &str) -> String {
    quote(&name(event, table))
}

/// Whether a part of the fence stands, be it around a table that was given another name.
pub(super) fn stands(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    connection.query_one(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND name IN (?1, ?2, ?3))",
        EVENTS.map(|event| name(event, table)),
        |row| row.get(0),
    )
}

/// Puts the fence around a table.
pub(super) fn raise(connection: &Connection, plan: &str, table: &str) -> rusqlite::Result<()> {
    let message =
        format!("cutover: table {table} is fenced until the migration '{plan}' is finished");
    let message = message.replace('\'', "''");
    for event in EVENTS {
        connection.execute(
            &format!(
                "CREATE TRIGGER {} BEFORE {event} ON {} BEGIN SELECT RAISE(ABORT, '{message}'); END",
                trigger(event, table),
                quote(table)
            ),
            [],
        )?;
    }
    Ok(())
}

/// Takes the fence down.
pub(super) fn drop(connection: &Connection, table: &str) -> rusqlite::Result<()> {
    for event in EVENTS {
        connection.execute(&format!("DROP TRIGGER IF EXISTS {}", trigger(event, table)), [])?;
    }
    Ok(())
}

/// Everything that the schema holds for a table; nothing where it does not exist.
pub(super) fn schema(connection: &Connection, table: &str) -> rusqlite::Result<Vec<SchemaEntry>> {
    let mut statement = connection.prepare_cached(
        "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name = ?1 COLLATE NOCASE",
    )?;
    let entries = statement.query_map([table], |row| {
        Ok(SchemaEntry { kind: row.get(0)?, name: row.get(1)?, sql: row.get(2)? })
    })?;
    // In an order that does not depend on the database's encoding.
    let mut entries = entries.collect::<rusqlite::Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

/// All that a database holds, without what SQLite itself puts there: the first AUTOINCREMENT makes
/// `sqlite_sequence`, and only a VACUUM takes it away.
pub(super) fn count_objects(connection: &Connection) -> rusqlite::Result<i64> {
    let own = "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    connection.query_one(own, [], |row| row.get(0))
}
