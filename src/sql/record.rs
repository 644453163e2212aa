//! The record's row, and its compare-and-set.

use crate::error::Cause;
use crate::protocol::record::{RECORD_BYTES_MAX, Record};
use rusqlite::{Connection, OptionalExtension};
use std::path::Path;

/// The table's one definition, as SQLite's schema keeps it.
const CREATE: &str = "CREATE TABLE cutover_record (plan TEXT NOT NULL PRIMARY KEY, id TEXT NOT NULL, attempt INTEGER NOT NULL, stage TEXT NOT NULL, body TEXT NOT NULL) STRICT";

/// What reading the row gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    None,
    Record(Box<Record>),
    /// Not one of ours, or damaged; and why.
    Unreadable(String),
}

fn table(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection
        .query_row(
            "SELECT coalesce(sql, type) FROM sqlite_schema WHERE name = 'cutover_record' COLLATE NOCASE",
            [],
            |row| row.get(0),
        )
        .optional()
}

/// Reads the record of `plan`.
pub(super) fn read(connection: &Connection, plan: &str) -> rusqlite::Result<Row> {
    match table(connection)? {
        None => return Ok(Row::None),
        Some(sql) if sql == CREATE => {}
        Some(_) => {
            return Ok(Row::Unreadable("its table cutover_record is not cutover's own".to_owned()));
        }
    }
    let row = connection
        .query_row(
            // A database in UTF-16 has twice as many bytes; the text that it gives is UTF-8.
            "SELECT id, attempt, stage, body, length(CAST(body AS BLOB)) <= 2 * ?2
             FROM cutover_record WHERE plan = ?1",
            (plan, i64::try_from(RECORD_BYTES_MAX).unwrap_or(i64::MAX)),
            |row| {
                let fits: bool = row.get(4)?;
                let body = if fits { row.get_ref(3)?.as_bytes()?.to_vec() } else { Vec::new() };
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, String>(2)?,
                    body,
                ))
            },
        )
        .optional()?;
    let Some((id, attempt, stage, body)) = row else { return Ok(Row::None) };
    Ok(match Record::decode(&body) {
        Err(error) => Row::Unreadable(format!("its record is damaged: {error}")),
        Ok(record)
            if record.plan == plan
                && record.id.to_string() == id
                && i64::from(record.attempt) == attempt
                && record.stage.word() == stage =>
        {
            Row::Record(Box::new(record))
        }
        Ok(_) => Row::Unreadable("its record's columns are not what its body says".to_owned()),
    })
}

/// The plans that have a record here, whatever it says.
pub(super) fn plans(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    if table(connection)?.as_deref() != Some(CREATE) {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT plan FROM cutover_record ORDER BY plan")?;
    let plans = statement.query_map([], |row| row.get(0))?;
    plans.collect()
}

fn encode(record: &Record, path: &Path) -> Result<String, Cause> {
    record.encode().map_err(|error| Cause::Engine {
        engine: "SQLite",
        what: "keep the record in",
        path: path.to_owned(),
        message: error.to_string(),
        next: "divide the plan into smaller ones",
    })
}

/// Adds the record of a plan that has none.
pub(super) fn insert(connection: &Connection, path: &Path, record: &Record) -> Result<(), Cause> {
    let failed = super::connection::engine("write the record in", path);
    if table(connection).map_err(&failed)?.is_none() {
        connection.execute(CREATE, []).map_err(&failed)?;
    }
    let body = encode(record, path)?;
    let row = (&record.plan, record.id.to_string(), record.attempt, record.stage.word(), body);
    connection
        .execute(
            "INSERT INTO cutover_record (plan, id, attempt, stage, body) VALUES (?1, ?2, ?3, ?4, ?5)",
            row,
        )
        .map_err(&failed)?;
    Ok(())
}

/// Puts `to` in the place of `from`, which must be what is there.
pub(super) fn replace(
    connection: &Connection,
    path: &Path,
    from: &Record,
    to: &Record,
) -> Result<(), Cause> {
    let failed = super::connection::engine("write the record in", path);
    let changed = connection
        .prepare_cached(
            "UPDATE cutover_record SET id = ?1, attempt = ?2, stage = ?3, body = ?4
             WHERE plan = ?5 AND id = ?6 AND attempt = ?7 AND stage = ?8 AND body = ?9",
        )
        .and_then(|mut statement| {
            statement.execute(rusqlite::params![
                to.id.to_string(),
                to.attempt,
                to.stage.word(),
                encode(to, path).map_err(|cause| {
                    rusqlite::Error::ToSqlConversionFailure(cause.to_string().into())
                })?,
                from.plan,
                from.id.to_string(),
                from.attempt,
                from.stage.word(),
                encode(from, path).map_err(|cause| {
                    rusqlite::Error::ToSqlConversionFailure(cause.to_string().into())
                })?,
            ])
        })
        .map_err(&failed)?;
    one(changed, path)
}

/// Removes `record`, which must be what is there, and the table with the last one.
pub(super) fn remove(connection: &Connection, path: &Path, record: &Record) -> Result<(), Cause> {
    let failed = super::connection::engine("remove the record from", path);
    let removed = connection
        .execute(
            "DELETE FROM cutover_record
             WHERE plan = ?1 AND id = ?2 AND attempt = ?3 AND stage = ?4 AND body = ?5",
            (
                &record.plan,
                record.id.to_string(),
                record.attempt,
                record.stage.word(),
                encode(record, path)?,
            ),
        )
        .map_err(&failed)?;
    one(removed, path)?;
    if plans(connection).map_err(&failed)?.is_empty() {
        connection.execute("DROP TABLE cutover_record", []).map_err(&failed)?;
    }
    Ok(())
}

fn one(rows: usize, path: &Path) -> Result<(), Cause> {
    if rows == 1 { Ok(()) } else { Err(Cause::RecordChanged(path.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{MigrationId, Run};

    fn record(plan: &str) -> Record {
        let run = Run { id: MigrationId(7), attempt: 3 };
        let time = "2026-01-01T00:00:00Z".to_owned();
        Record::new(plan, run, Vec::new(), Vec::new(), Vec::new(), "delete".to_owned(), time)
    }

    /// A record of each of two plans.
    fn two() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for plan in ["p", "q"] {
            insert(&connection, Path::new("/t"), &record(plan)).unwrap();
        }
        connection
    }

    #[test]
    fn each_plan_has_a_record_of_its_own_and_the_table_goes_with_the_last() {
        let connection = two();
        assert_eq!(plans(&connection).unwrap(), ["p", "q"]);
        assert_eq!(read(&connection, "q").unwrap(), Row::Record(Box::new(record("q"))));
        assert_eq!(read(&connection, "r").unwrap(), Row::None);
        for (plan, left) in [("p", vec!["q"]), ("q", vec![])] {
            remove(&connection, Path::new("/t"), &record(plan)).unwrap();
            assert_eq!(plans(&connection).unwrap(), left);
            assert_eq!(table(&connection).unwrap().is_none(), left.is_empty());
        }
    }

    #[test]
    fn i6_a_record_that_its_columns_or_its_table_contradict_is_unreadable() {
        let other = record("q").encode().unwrap();
        for change in [
            "UPDATE cutover_record SET id = '00000000000000000000000000000008'",
            "UPDATE cutover_record SET attempt = 4",
            "UPDATE cutover_record SET stage = 'committed'",
            &format!("UPDATE cutover_record SET body = '{other}'"),
            "UPDATE cutover_record SET body = ''",
            "ALTER TABLE cutover_record ADD COLUMN more TEXT",
        ] {
            let connection = two();
            connection.execute_batch(change).unwrap();
            assert!(matches!(read(&connection, "p").unwrap(), Row::Unreadable(_)), "{change}");
        }
    }

    #[test]
    fn i6_a_record_is_replaced_or_removed_only_where_it_is_what_was_found() {
        for change in [
            "UPDATE cutover_record SET id = '00000000000000000000000000000008'",
            "UPDATE cutover_record SET attempt = 4",
            "UPDATE cutover_record SET stage = 'committed'",
            "UPDATE cutover_record SET body = body || ' '",
            "DELETE FROM cutover_record",
        ] {
            let connection = two();
            connection.execute_batch(change).unwrap();
            let (path, found) = (Path::new("/t"), record("p"));
            let replaced = replace(&connection, path, &found, &found);
            assert!(matches!(replaced, Err(Cause::RecordChanged(_))), "{change}");
            let removed = remove(&connection, path, &found);
            assert!(matches!(removed, Err(Cause::RecordChanged(_))), "{change}");
        }
    }
}
