//! Mappings: how a pair becomes rows, and rows become the pair again.

#[cfg(feature = "typed")]
pub mod codec;
#[cfg(feature = "typed")]
pub mod columns;
#[cfg(feature = "typed")]
mod orphan;
#[cfg(feature = "typed")]
mod typed;

#[cfg(feature = "typed")]
pub use typed::{Pair, Typed};

use crate::error::{Cause, advice};
use crate::protocol::record::quarantine_name;
#[cfg(feature = "typed")]
use rusqlite::CachedStatement;
use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, Params, Row};
use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

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

    /// The same tables, where the sizes of what they will hold are known: their definitions may differ
    /// from those of [`Mapping::tables`]; their names, their order and their indexes may not.
    fn tables_for(&self, sizes: Sizes) -> Vec<Table> {
        let _ = sizes;
        self.tables()
    }

    /// Looks whether what it writes fits its tables, before anything is changed: they stand empty in a
    /// database in memory, beside those of the target, which is thrown away.
    ///
    /// # Errors
    ///
    /// [`MappingError::Refused`] with all that does not fit.
    fn try_out(&self, rows: &Rows<'_>) -> Result<(), MappingError> {
        let _ = rows;
        Ok(())
    }

    /// Writes the rows of one pair. Pairs come in the order of their keys. Rows of keyspaces that
    /// the plan names earlier are there already and can be looked up.
    ///
    /// Where the plan allows a quarantine, pairs may be written once more after their rows were taken
    /// back, since another pair among them was refused; and nothing stays of the rows of one that is.
    ///
    /// # Errors
    ///
    /// [`MappingError::Refused`] where the pair can't be mapped.
    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError>;

    /// Writes the rows of several pairs, in the order of their keys: as [`Mapping::write`] would, one
    /// after the other, which it does unless a mapping knows a faster way.
    ///
    /// # Errors
    ///
    /// As [`Mapping::write`], with the place among `pairs` of the one that could not be written.
    fn write_many(
        &self,
        rows: &Rows<'_>,
        pairs: &[(&[u8], &[u8])],
    ) -> Result<(), (usize, MappingError)> {
        let mut pairs = pairs.iter().enumerate();
        pairs.try_for_each(|(at, (key, value))| {
            self.write(rows, key, value).map_err(|error| (at, error))
        })
    }

    /// Reads every row of its tables back and visits each pair once, in any order.
    ///
    /// # Errors
    ///
    /// [`MappingError::Refused`] where rows do not make a pair.
    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError>;

    /// Reads one part of what [`Mapping::read_back`] reads, where it knows how, and says whether it
    /// did. Both parts are read at the same time, over a connection each; every row must be in just
    /// one of them, also a row that nobody expects there.
    ///
    /// # Errors
    ///
    /// As [`Mapping::read_back`].
    fn read_back_part(
        &self,
        rows: &Rows<'_>,
        part: Part<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<bool, MappingError> {
        let _ = (rows, part, visit);
        Ok(false)
    }
}

/// One of the two parts of a keyspace's rows.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// The rows of the pairs up to this one, and this one's.
    Through(Split<'a>),
    /// All others.
    Behind(Split<'a>),
}

/// The pair after which a keyspace is divided, somewhere about its middle.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Split<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// How many pairs there are up to it, itself among them.
    pub pairs: u64,
}

impl<'a> Split<'a> {
    pub(crate) const fn new(key: &'a [u8], pairs: u64) -> Self {
        Self { key, pairs }
    }
}

/// What visits the pairs that are read back: the key, then the value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), MappingError> + 'a;

/// What is known of a keyspace and of the target before its tables are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sizes {
    /// Bytes of key and value that a pair has, on average of the keyspace's first ones.
    pub pair_bytes: usize,
    /// Bytes of a page of the target.
    pub page_bytes: usize,
}

impl Sizes {
    pub(crate) const fn new(pair_bytes: usize, page_bytes: usize) -> Self {
        Self { pair_bytes, page_bytes }
    }

    /// Whether a row that holds a pair as it is fits into a page of a table without row ids. SQLite
    /// keeps at least four rows in each, and moves what is longer to a page of its own.
    const fn fit_without_rowid(self) -> bool {
        let row_bytes_max = (self.page_bytes.saturating_sub(12) * 64 / 255).saturating_sub(23);
        self.pair_bytes + ROW_HEADER_BYTES <= row_bytes_max
    }
}

/// The most that SQLite puts before the columns of a pair that fits.
const ROW_HEADER_BYTES: usize = 7;

/// A table that a mapping writes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The one statement that creates it, where it does not exist yet.
    pub create: String,
    /// The statements of which each creates one index on it, where `create` made it.
    pub indexes: Vec<String>,
}

impl Table {
    /// A table of this name, and the statement that creates it.
    #[must_use]
    pub fn new(name: impl Into<String>, create: impl Into<String>) -> Self {
        Self { name: name.into(), create: create.into(), indexes: Vec::new() }
    }

    /// Adds the statement of one index, which is made when the table has all its rows: before those of
    /// keyspaces that the plan names later are looked at. A table that was there before keeps the
    /// indexes that it has, and gets none.
    #[must_use]
    pub fn index(mut self, create: impl Into<String>) -> Self {
        self.indexes.push(create.into());
        self
    }
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
        let text = match error.sqlite_error_code() {
            // In SQLite's own words it may be anything.
            Some(rusqlite::ffi::ErrorCode::TooBig) => {
                format!(
                    "its row is longer than SQLite takes, which is 1,000,000,000 bytes: {error}"
                )
            }
            Some(_) | None => error.to_string(),
        };
        if is_refusal(&error) { Self::Refused(text) } else { Self::Engine(text) }
    }
}

/// Whether what SQLite was asked to do is to blame, and not SQLite or the disk.
fn is_refusal(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::ErrorCode;
    // `Unknown` is SQLite's word for a statement that it can't compile or run, `ApiMisuse` for an empty
    // one; without a code it is rusqlite that refuses a statement, its parameters or a column.
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::ConstraintViolation
                | ErrorCode::TypeMismatch
                | ErrorCode::TooBig
                | ErrorCode::ParameterOutOfRange
                | ErrorCode::Unknown
                | ErrorCode::ApiMisuse,
        ) | None
    )
}

impl From<String> for MappingError {
    fn from(reason: String) -> Self {
        Self::Refused(reason)
    }
}

/// The target, as a mapping may use it: statements, but no transactions of its own.
#[derive(Debug)]
pub struct Rows<'a> {
    connection: &'a Connection,
    /// What SQLite or the disk failed at.
    failure: RefCell<Option<Failure>>,
}

/// An error of SQLite's, in words and with its code.
#[derive(Clone, Debug)]
struct Failure {
    text: String,
    code: Option<rusqlite::ffi::Error>,
}

impl<'a> Rows<'a> {
    pub(crate) const fn new(connection: &'a Connection) -> Self {
        Self { connection, failure: RefCell::new(None) }
    }

    /// As [`Rows::execute`], with SQLite's own error.
    pub(super) fn execute_raw<P: Params>(
        &self,
        sql: &str,
        parameters: P,
    ) -> rusqlite::Result<usize> {
        let run = || self.connection.prepare_cached(sql)?.execute(parameters);
        run().inspect_err(|error| self.note(error))
    }

    /// A statement, prepared once.
    #[cfg(feature = "typed")]
    pub(super) fn prepare(&self, sql: &str) -> Result<CachedStatement<'a>, MappingError> {
        Ok(self.noted(self.connection.prepare_cached(sql))?)
    }

    /// Notes what SQLite or the disk failed at, if that is what it did.
    #[cfg(feature = "typed")]
    pub(super) fn noted<T>(&self, result: rusqlite::Result<T>) -> rusqlite::Result<T> {
        result.inspect_err(|error| self.note(error))
    }

    /// The number of the row that was inserted last.
    #[cfg(feature = "typed")]
    pub(super) fn last_row_id(&self) -> i64 {
        self.connection.last_insert_rowid()
    }

    /// Runs one statement of our own; that it fails is not the fault of a pair.
    pub(super) fn run(&self, sql: &str) -> Result<(), MappingError> {
        let run = self.execute_raw(sql, []);
        run.map(drop).map_err(|error| MappingError::Engine(error.to_string()))
    }

    /// Whether the transaction is still there: SQLite rolls it back by itself at some errors, and what
    /// is written after that is committed by itself.
    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    /// What SQLite or the disk failed at since these rows were handed out, whatever a mapping made of it.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.borrow().as_ref().map(|failure| failure.text.clone())
    }

    /// That SQLite failed to do `what`, with `message`.
    pub(super) fn failed(&self, what: &'static str, message: String) -> Cause {
        let path = PathBuf::from(self.connection.path().unwrap_or_default());
        let code = self.failure.borrow().as_ref().and_then(|failure| failure.code);
        let next = code.map_or(
            "look at the disk's free space and the system's log and run this again",
            |code| advice::of_code(code, &path),
        );
        Cause::Engine { engine: "SQLite", what, path, message, next }
    }

    fn note(&self, error: &rusqlite::Error) {
        if !is_refusal(error) {
            let (text, code) = (error.to_string(), error.sqlite_error().copied());
            self.failure.replace(Some(Failure { text, code }));
        }
    }

    /// Runs one statement that returns no rows; returns how many it changed. Prepared once.
    ///
    /// # Errors
    ///
    /// Where SQLite refuses or fails.
    pub fn execute<P: Params>(&self, sql: &str, parameters: P) -> Result<usize, MappingError> {
        Ok(self.execute_raw(sql, parameters)?)
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
        let query = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query(parameters)?;
            rows.next()?.map(read).transpose()
        };
        Ok(query().inspect_err(|error| self.note(error))?)
    }

    /// The first column of the first row that a query returns: what a pair refers to, in a table
    /// that was filled before. Without a row the pair is refused, and `missing` is the reason.
    ///
    /// # Errors
    ///
    /// [`MappingError::Refused`] without a row; where SQLite refuses or fails.
    pub fn look_up<T: FromSql, P: Params>(
        &self,
        sql: &str,
        parameters: P,
        missing: impl FnOnce() -> String,
    ) -> Result<T, MappingError> {
        self.query_one(sql, parameters, |row| row.get(0))?
            .ok_or_else(|| MappingError::Refused(missing()))
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
        let noted = |error: &rusqlite::Error| self.note(error);
        let mut statement = self.connection.prepare_cached(sql).inspect_err(noted)?;
        let mut rows = statement.query(parameters).inspect_err(noted)?;
        while let Some(row) = rows.next().inspect_err(noted)? {
            visit(row)?;
        }
        Ok(())
    }
}

/// The table for the pairs of a plan that its mappings refuse.
pub(crate) fn quarantine_table(plan: &str) -> Table {
    let name = quarantine_name(plan);
    let create = format!(
        "CREATE TABLE {} (source TEXT NOT NULL, keyspace TEXT NOT NULL, key BLOB NOT NULL, \
         value BLOB NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (source, keyspace, key)) STRICT",
        quote(&name)
    );
    Table::new(name, create)
}

/// A name as SQL takes it, whatever characters it has.
#[must_use]
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// One keyspace of a source, and where it goes.
#[derive(Clone)]
pub(crate) struct Keyspace {
    pub(crate) name: String,
    pub(crate) mapping: Arc<dyn Mapping>,
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace")
            .field("name", &self.name)
            .field("mapping", &self.mapping.name())
            .finish()
    }
}

/// The built-in mapping: one row a pair, keys and values as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blobs {
    table: String,
    insert: String,
    /// Of [`ROWS`] pairs. It keeps the rows before one that fails, so that SQLite need not be able to
    /// take them back: it then copies no page before it changes it.
    insert_many: String,
}

/// Rows that one statement inserts: its cursor stays at the end of the table for all of them.
const ROWS: usize = 64;

const WITHOUT_ROWID: &str = ", WITHOUT ROWID";

impl Blobs {
    /// A blob table of this name: `key BLOB PRIMARY KEY, value BLOB NOT NULL`; without row ids where its
    /// rows fit into the target's pages.
    #[must_use]
    pub fn new(table: impl Into<String>) -> Self {
        let table = table.into();
        let quoted = quote(&table);
        Self {
            insert: format!("INSERT INTO {quoted} (key, value) VALUES (?1, ?2)"),
            insert_many: format!(
                "INSERT OR FAIL INTO {quoted} (key, value) VALUES {}",
                ["(?, ?)"; ROWS].join(", ")
            ),
            table,
        }
    }

    fn definition(&self, without_rowid: &str) -> Table {
        let columns = "key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL";
        let create =
            format!("CREATE TABLE {} ({columns}) STRICT{without_rowid}", quote(&self.table));
        Table::new(&self.table, create)
    }

    /// Visits the rows for which `condition` is true.
    fn visit<P: Params>(
        &self,
        rows: &Rows<'_>,
        condition: &str,
        parameters: P,
        visit: &mut Visit<'_>,
    ) -> Result<(), MappingError> {
        let select = format!("SELECT key, value FROM {}{condition}", quote(&self.table));
        rows.query_each(&select, parameters, |row| {
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

    /// Inserts just [`ROWS`] pairs.
    fn insert_many(&self, rows: &Rows<'_>, pairs: &[(&[u8], &[u8])]) -> rusqlite::Result<()> {
        let mut insert = rows.connection.prepare_cached(&self.insert_many)?;
        for (at, (key, value)) in pairs.iter().enumerate() {
            insert.raw_bind_parameter(2 * at + 1, key)?;
            insert.raw_bind_parameter(2 * at + 2, value)?;
        }
        insert.raw_execute().map(drop)
    }

    /// Finds the pair that made [`Blobs::insert_many`] fail: it is the first that is refused by itself.
    /// The transaction comes to nothing, whatever is found.
    fn culprit(
        &self,
        rows: &Rows<'_>,
        pairs: &[(&[u8], &[u8])],
        error: MappingError,
    ) -> (usize, MappingError) {
        // Rows before the one that failed are still there, unless SQLite took them all back.
        let written = usize::try_from(rows.connection.changes()).unwrap_or(0).min(pairs.len() - 1);
        if !rows.in_transaction() || !matches!(error, MappingError::Refused(_)) {
            return (written, error);
        }
        let mut rest = pairs.iter().enumerate().skip(written);
        rest.find_map(|(at, (key, value))| Some((at, self.write(rows, key, value).err()?)))
            .unwrap_or((written, error))
    }
}

impl Mapping for Blobs {
    fn name(&self) -> &'static str {
        "blobs"
    }

    fn tables(&self) -> Vec<Table> {
        vec![self.definition(WITHOUT_ROWID)]
    }

    /// Rows that don't fit into a page of a table without row ids would each take a page more; so they
    /// go into one with row ids, and SQLite keeps an index of the keys beside it.
    fn tables_for(&self, sizes: Sizes) -> Vec<Table> {
        vec![self.definition(if sizes.fit_without_rowid() { WITHOUT_ROWID } else { "" })]
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        rows.execute(&self.insert, [&key as &dyn ToSql, &value])?;
        Ok(())
    }

    fn write_many(
        &self,
        rows: &Rows<'_>,
        pairs: &[(&[u8], &[u8])],
    ) -> Result<(), (usize, MappingError)> {
        let mut done = 0;
        for group in pairs.chunks(ROWS) {
            let written = if group.len() == ROWS {
                self.insert_many(rows, group)
                    .map_err(|error| self.culprit(rows, group, error.into()))
            } else {
                let mut group = group.iter().enumerate();
                group.try_for_each(|(at, (key, value))| {
                    self.write(rows, key, value).map_err(|error| (at, error))
                })
            };
            written.map_err(|(at, error)| (done + at, error))?;
            done += group.len();
        }
        Ok(())
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        self.visit(rows, "", [], visit)
    }

    /// By the tables' own order. Of a table that somebody else made, nothing is known of its rows' order
    /// and of what may be NULL in it.
    fn read_back_part(
        &self,
        rows: &Rows<'_>,
        part: Part<'_>,
        visit: &mut Visit<'_>,
    ) -> Result<bool, MappingError> {
        let definition = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let found: Option<String> =
            rows.query_one(definition, [&self.table], |row| row.get(0))?.flatten();
        let is = |without_rowid| {
            found.as_ref().is_some_and(|found| *found == self.definition(without_rowid).create)
        };
        let (compare, split) = match part {
            Part::Through(split) => ("<=", split),
            Part::Behind(split) => (">", split),
        };
        if is(WITHOUT_ROWID) {
            self.visit(rows, &format!(" WHERE key {compare} ?1"), [split.key], visit)?;
        } else if is("") {
            let pairs = i64::try_from(split.pairs).unwrap_or(i64::MAX);
            self.visit(rows, &format!(" WHERE rowid {compare} ?1"), [pairs], visit)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        (0..count).map(|i| (format!("key {i:03}").into_bytes(), vec![7; i])).collect()
    }

    fn write(connection: &Connection, count: usize) -> Result<(), (usize, MappingError)> {
        let pairs = pairs(count);
        let pairs: Vec<(&[u8], &[u8])> =
            pairs.iter().map(|(key, value)| (key.as_slice(), value.as_slice())).collect();
        Blobs::new("t").write_many(&Rows::new(connection), &pairs)
    }

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute(&Blobs::new("t").tables()[0].create, []).unwrap();
        connection.execute_batch("BEGIN").unwrap();
        connection
    }

    /// A copy that was begun by an earlier version is gone on with under this name.
    #[test]
    fn the_name_in_the_record_stays_what_it_is() {
        assert_eq!(Blobs::new("t").name(), "blobs");
    }

    struct Plain;

    impl Mapping for Plain {
        fn name(&self) -> &'static str {
            "plain"
        }

        fn tables(&self) -> Vec<Table> {
            Vec::new()
        }

        fn write(&self, _: &Rows<'_>, _: &[u8], _: &[u8]) -> Result<(), MappingError> {
            Ok(())
        }

        fn read_back(&self, _: &Rows<'_>, _: &mut Visit<'_>) -> Result<(), MappingError> {
            Ok(())
        }
    }

    /// I-2: else no row of it would be looked at.
    #[test]
    fn what_does_not_know_how_to_read_a_part_does_not_say_that_it_did() {
        let connection = Connection::open_in_memory().unwrap();
        let split = Split { key: b"k", pairs: 1 };
        let part = Part::Through(split);
        let read = Plain.read_back_part(&Rows::new(&connection), part, &mut |_, _| Ok(()));
        assert!(!read.unwrap());
    }

    #[test]
    fn many_pairs_are_written_as_one_after_the_other_would_be() {
        for count in [0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 5] {
            let connection = database();
            write(&connection, count).unwrap();
            let mut found = Vec::new();
            let mut visit = |key: &[u8], value: &[u8]| {
                found.push((key.to_vec(), value.to_vec()));
                Ok(())
            };
            Blobs::new("t").read_back(&Rows::new(&connection), &mut visit).unwrap();
            assert_eq!(found, pairs(count));
        }
    }

    /// I-2: wherever the split is, also beside all rows, and whatever the rows' ids are.
    #[test]
    fn the_two_parts_of_a_table_are_all_its_rows_once() {
        let blobs = Blobs::new("t");
        for sizes in [Sizes::new(10, 4096), Sizes::new(4096, 4096)] {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute(&blobs.tables_for(sizes)[0].create, []).unwrap();
            write(&connection, 100).unwrap();
            // One that verification must find, wherever it stands.
            let extra = "INSERT INTO t VALUES (x'', x'01')";
            connection.execute(extra, []).unwrap();
            let rows = Rows::new(&connection);
            for (key, count) in
                [("", 0), ("key 0", 1), ("key 049", 50), ("key 099", 100), ("z", 999)]
            {
                let split = Split::new(key.as_bytes(), count);
                let mut found = Vec::new();
                let mut visit = |key: &[u8], value: &[u8]| {
                    found.push((key.to_vec(), value.to_vec()));
                    Ok(())
                };
                for part in [Part::Through(split), Part::Behind(split)] {
                    assert!(blobs.read_back_part(&rows, part, &mut visit).unwrap());
                }
                found.sort();
                let mut expected = pairs(100);
                expected.insert(0, (Vec::new(), vec![1]));
                assert_eq!(found, expected, "{key}");
            }
        }
    }

    #[test]
    fn a_table_of_somebody_else_s_is_not_read_in_parts() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (key BLOB, value BLOB, rowid INTEGER)").unwrap();
        let part = Part::Through(Split::new(b"k", 1));
        let mut visit = |_: &[u8], _: &[u8]| panic!("no row is visited");
        assert!(
            !Blobs::new("t").read_back_part(&Rows::new(&connection), part, &mut visit).unwrap()
        );
    }

    /// Whatever SQLite keeps of a statement that fails half-way.
    #[test]
    fn the_pair_that_is_refused_among_many_is_named() {
        let refuse = |how: &str, at: usize| {
            format!(
                "CREATE TRIGGER refuses BEFORE INSERT ON t WHEN new.key = CAST('key {at:03}' AS BLOB)
                 BEGIN SELECT RAISE({how}, 'not this one'); END"
            )
        };
        let insert = |at: usize| format!("INSERT INTO t VALUES (CAST('key {at:03}' AS BLOB), x'')");
        for at in [0, 1, ROWS - 1, ROWS, ROWS + 6, 2 * ROWS, 2 * ROWS + 3] {
            for (standing, reason) in [
                (insert(at), "UNIQUE constraint failed: t.key"),
                (refuse("ABORT", at), "not this one"),
                (refuse("FAIL", at), "not this one"),
            ] {
                let connection = database();
                connection.execute_batch(&standing).unwrap();
                let (found, error) = write(&connection, 2 * ROWS + 9).unwrap_err();
                assert_eq!(found, at, "{standing}");
                assert_eq!(error, MappingError::Refused(reason.to_owned()));
            }
        }
    }

    /// After that nothing is tried again: it would be committed by itself.
    #[test]
    fn a_transaction_that_is_gone_stays_gone() {
        let connection = database();
        connection
            .execute_batch(
                "CREATE TRIGGER refuses BEFORE INSERT ON t WHEN new.key = CAST('key 009' AS BLOB)
                 BEGIN SELECT RAISE(ROLLBACK, 'not this one'); END; COMMIT; BEGIN",
            )
            .unwrap();
        let (_, error) = write(&connection, 3 * ROWS).unwrap_err();
        assert_eq!(error, MappingError::Refused("not this one".to_owned()));
        assert!(connection.is_autocommit());
        let rows: i64 =
            connection.query_one("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0);
    }

    /// The bound is SQLite's own: a pair that is longer by what a header may take has a page of its own.
    #[test]
    fn a_table_without_row_ids_is_for_rows_that_fit_into_its_pages() {
        const PAIRS: usize = 64;
        for page_bytes in [1024, 4096, 16 * 1024, 64 * 1024] {
            let fits = |pair_bytes| Sizes::new(pair_bytes, page_bytes).fit_without_rowid();
            let longest = (0..page_bytes).take_while(|bytes| fits(*bytes)).last().unwrap();
            let pages = |pair_bytes: usize| -> usize {
                let connection = Connection::open_in_memory().unwrap();
                connection
                    .pragma_update(None, "page_size", i64::try_from(page_bytes).unwrap())
                    .unwrap();
                let create = &Blobs::new("t").tables()[0].create;
                connection.execute(create, []).unwrap();
                for i in 0..PAIRS {
                    connection
                        .execute(
                            "INSERT INTO t VALUES (CAST(? AS BLOB), zeroblob(?))",
                            (format!("{i:08}"), i64::try_from(pair_bytes - 8).unwrap()),
                        )
                        .unwrap();
                }
                let pages: u32 =
                    connection.query_one("PRAGMA page_count", [], |row| row.get(0)).unwrap();
                pages as usize
            };
            assert!(pages(longest) < PAIRS / 2, "{} pages of {page_bytes}", pages(longest));
            assert!(pages(longest + ROW_HEADER_BYTES) > PAIRS);
            let table = |bytes| Blobs::new("t").tables_for(Sizes::new(bytes, page_bytes)).remove(0);
            assert!(table(longest).create.contains("WITHOUT ROWID"));
            assert!(!table(longest + 1).create.contains("WITHOUT ROWID"));
        }
    }
}
