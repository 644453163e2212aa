//! Mappings: how a pair becomes rows, and rows become the pair again.

use rusqlite::types::ToSql;
use rusqlite::{Connection, Params, Row};

/// Turns the pairs of one keyspace into rows of one or more tables, and back.
///
/// Every row of every table that it names must come from a pair, and [`Mapping::read_back`] must
/// visit them all: verification knows of nothing else. It must write no other table. Tables belong
/// to one keyspace alone.
pub trait Mapping: Send + Sync + 'static {
    /// What it is, kept in the record: a copy is only resumed by a mapping of the same name.
    fn name(&self) -> &str;

    /// The tables that it writes.
    fn tables(&self) -> Vec<Table>;

    /// Writes the rows of one pair. Pairs come in the order of their keys. Rows of keyspaces that
    /// the plan names earlier are there already and can be looked up.
    ///
    /// # Errors
    ///
    /// [`MappingError::Refused`] where the pair can't be mapped.
    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError>;

    /// Reads every row of its tables back and visits each pair once, in any order.
    ///
    /// # Errors
    ///
    /// [`MappingError::Refused`] where rows do not make a pair.
    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError>;
}

/// What visits the pairs that are read back: the key, then the value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), MappingError> + 'a;

/// A table that a mapping writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The one statement that creates it, where it does not exist yet.
    pub create: String,
}

/// Why a mapping did not write or read a pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// The pair, or the row, is not what the mapping takes.
    #[error("{0}")]
    Refused(String),
    /// SQLite failed; the pair is not to blame.
    #[error("{0}")]
    Engine(String),
    /// The visitor asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl From<rusqlite::Error> for MappingError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ffi::ErrorCode;
        let text = error.to_string();
        match error.sqlite_error_code() {
            // `Unknown` is SQLite's word for a statement that it can't compile or run; without a
            // code it is rusqlite that refuses a statement, its parameters or a column.
            Some(
                ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::TooBig
                | ErrorCode::ParameterOutOfRange
                | ErrorCode::Unknown,
            )
            | None => Self::Refused(text),
            Some(_) => Self::Engine(text),
        }
    }
}

/// The target, as a mapping may use it: statements, but no transactions of its own.
#[derive(Debug)]
pub struct Rows<'a> {
    connection: &'a Connection,
}

impl<'a> Rows<'a> {
    pub(crate) const fn new(connection: &'a Connection) -> Self {
        Self { connection }
    }

    /// Runs one statement that returns no rows; returns how many it changed. Prepared once.
    ///
    /// # Errors
    ///
    /// Where SQLite refuses or fails.
    pub fn execute<P: Params>(&self, sql: &str, parameters: P) -> Result<usize, MappingError> {
        Ok(self.connection.prepare_cached(sql)?.execute(parameters)?)
    }

    /// The first row that a query returns, or none. Prepared once.
    ///
    /// # Errors
    ///
    /// Where SQLite refuses or fails, or `read` does.
    pub fn query_one<T, P: Params>(
        &self,
        sql: &str,
        parameters: P,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, MappingError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        Ok(rows.next()?.map(read).transpose()?)
    }

    /// Visits every row that a query returns.
    ///
    /// # Errors
    ///
    /// Where SQLite refuses or fails, or `visit` does.
    pub fn query_each<P: Params>(
        &self,
        sql: &str,
        parameters: P,
        mut visit: impl FnMut(&Row<'_>) -> Result<(), MappingError>,
    ) -> Result<(), MappingError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            visit(row)?;
        }
        Ok(())
    }
}

/// A name as SQL takes it, whatever characters it has.
#[must_use]
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The built-in mapping: one row a pair, keys and values as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blobs {
    table: String,
    insert: String,
    select: String,
}

impl Blobs {
    /// A blob table of this name: `key BLOB PRIMARY KEY, value BLOB NOT NULL`.
    #[must_use]
    pub fn new(table: impl Into<String>) -> Self {
        let table = table.into();
        let quoted = quote(&table);
        Self {
            insert: format!("INSERT INTO {quoted} (key, value) VALUES (?1, ?2)"),
            select: format!("SELECT key, value FROM {quoted}"),
            table,
        }
    }
}

impl Mapping for Blobs {
    fn name(&self) -> &'static str {
        "blobs"
    }

    fn tables(&self) -> Vec<Table> {
        let create = format!(
            "CREATE TABLE {} (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
            quote(&self.table)
        );
        vec![Table { name: self.table.clone(), create }]
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        rows.execute(&self.insert, [&key as &dyn ToSql, &value])?;
        Ok(())
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        rows.query_each(&self.select, [], |row| {
            let blob = |column| {
                row.get_ref(column)?.as_blob().map_err(|error| {
                    MappingError::Refused(format!(
                        "a row of '{}' holds no blob: {error}",
                        self.table
                    ))
                })
            };
            visit(blob(0)?, blob(1)?)
        })
    }
}
