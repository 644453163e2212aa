//! Indexes that a plan asks for: tried out in memory before anything is changed, made once a table has
//! all its rows.

use super::fence::{self, Made};
use crate::error::Cause;
use crate::mapping::{MappingError, Table};
use crate::protocol::record::SchemaEntry;
use rusqlite::Connection;
use std::path::Path;

/// Each index that is asked for: its table, and what the schema will hold for it, or why it can't be
/// made.
type Wanted<'a> = Vec<(&'a Table, Result<SchemaEntry, MappingError>)>;

/// Tries the definitions in an empty database, so that one that is wrong is known before a source is
/// sealed. One whose table can't be made without the target's others is left to the copy.
pub(super) fn try_out(tables: &[Table]) -> Wanted<'_> {
    let Some(first) = tables.iter().find(|table| !table.indexes.is_empty()) else {
        return Vec::new();
    };
    let empty = match Connection::open_in_memory() {
        Ok(empty) => empty,
        Err(error) => return vec![(first, Err(error.into()))],
    };
    let made: Vec<&Table> =
        tables.iter().filter(|table| empty.execute(&table.create, []).is_ok()).collect();
    let mut wanted = Vec::new();
    for table in made {
        for statement in &table.indexes {
            let index = or_nothing(&empty, || create(&empty, &table.name, statement));
            wanted.push((table, index));
        }
    }
    wanted
}

/// Does `change` in a database in memory; where it fails nothing of it stays.
pub(super) fn or_nothing<T, E>(
    connection: &Connection,
    change: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let _ = connection.execute_batch("SAVEPOINT before");
    let changed = change();
    // What failed may have been a COMMIT, which ends the savepoint too and has made nothing.
    let _ = connection.execute_batch(match changed {
        Ok(_) => "RELEASE before",
        Err(_) => "ROLLBACK TO before; RELEASE before",
    });
    changed
}

/// Makes one index on `table` and returns what the schema holds for it. After an error the transaction
/// must come to nothing.
pub(super) fn create(
    connection: &Connection,
    table: &str,
    statement: &str,
) -> Result<SchemaEntry, MappingError> {
    let made = fence::make(connection, statement)?;
    let is_index =
        |made: &Made| made.entry.kind == "index" && made.table.eq_ignore_ascii_case(table);
    match made.filter(is_index).map(|made| made.entry) {
        Some(index) if index.name.to_ascii_lowercase().starts_with("cutover_") => {
            Err(format!("the name '{}' is reserved", index.name).into())
        }
        Some(index) => Ok(index),
        None => Err("its statement makes something else".to_owned().into()),
    }
}

/// Why there is no index of `table`, in the target at `path`.
pub(super) fn refused(path: &Path, table: &str, error: MappingError) -> Cause {
    let path = path.to_owned();
    match error {
        MappingError::Refused(reason) => Cause::Index { path, table: table.to_owned(), reason },
        MappingError::Engine(message) => Cause::Engine {
            engine: "SQLite",
            what: "make an index in",
            path,
            message,
            next: "look at the free space, also of the folder for temporary files, and run this again",
        },
        MappingError::Cancelled => Cause::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(statements: &[&str]) -> Result<Vec<String>, String> {
        let table = Table::new("t", "CREATE TABLE t (a, b)");
        let table = statements.iter().fold(table, |table, sql| table.index(*sql));
        let other =
            Table::new("other", "CREATE TABLE other (a)").index("CREATE INDEX o ON other (a)");
        let tables = [other, table];
        let mut wanted = try_out(&tables).into_iter();
        assert!(wanted.next().is_some_and(|(table, o)| table.name == "other" && o.is_ok()));
        let names = wanted.map(|(table, index)| match index {
            Ok(index) => Ok(index.name),
            Err(MappingError::Refused(reason)) if table.name == "t" => Err(reason),
            Err(other) => panic!("{other:?}"),
        });
        names.collect()
    }

    #[test]
    fn a_statement_makes_one_index_on_its_own_table_or_is_refused() {
        let good = ["CREATE INDEX x ON t (a)", "CREATE UNIQUE INDEX \"y z\" ON T (b) WHERE a > 1"];
        assert_eq!(tried(&good).unwrap(), ["x", "y z"]);
        let something_else = "its statement makes something else";
        for (statement, reason) in [
            ("CREATE INDEX x ON other (a)", something_else),
            ("CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", something_else),
            ("CREATE TABLE x (a)", something_else),
            ("CREATE TEMP TABLE x (a)", something_else),
            ("INSERT INTO t VALUES (1, 2)", something_else),
            ("SELECT 1", "Execute returned results"),
            // In rusqlite's words, which are others in each version.
            ("", ""),
            ("CREATE INDEX x ON t (c)", "no such column: c"),
            ("CREATE INDEX Cutover_x ON t (a)", "the name 'Cutover_x' is reserved"),
            ("CREATE INDEX x ON t (a); CREATE INDEX y ON t (a)", "Multiple statements provided"),
        ] {
            let refused = tried(&[statement]).unwrap_err();
            assert!(refused.contains(reason), "{statement}: {refused}");
        }
        // What is refused leaves nothing.
        let tables = [Table::new("t", "CREATE TABLE t (a)")
            .index("CREATE TABLE x (a)")
            .index("CREATE INDEX x ON t (a)")];
        let wanted: Vec<bool> = try_out(&tables).iter().map(|(_, index)| index.is_ok()).collect();
        assert_eq!(wanted, [false, true]);
        let twice = tried(&["CREATE INDEX x ON t (a)", "CREATE INDEX X ON t (b)"]).unwrap_err();
        assert!(twice.contains("index X already exists"), "{twice}");
        let again = "CREATE INDEX IF NOT EXISTS x ON t (b)";
        assert_eq!(tried(&["CREATE INDEX x ON t (a)", again]).unwrap_err(), something_else);
    }
}
