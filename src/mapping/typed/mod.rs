//! The typed mapping: one row a pair, one column a field of a struct.

mod layout;
mod row;
mod writer;

use super::{Mapping, MappingError, Rows, Table, Visit, quote};
use layout::Layout;
pub(super) use row::Name;
use row::{fields, from_row};
use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::atomic::AtomicU32;
use writer::Writer;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

type Decode<T> = dyn Fn(&Rows<'_>, &[u8], &[u8]) -> Result<T, MappingError> + Send + Sync;
type Encode<T> = dyn Fn(&Rows<'_>, &T) -> Result<Pair, MappingError> + Send + Sync;

/// A table with one row a pair, and one column for each field of the struct `T`.
///
/// `decode` makes the struct of a pair, `encode` makes the pair again. Each row is read back as soon as
/// it is written, in the same transaction, and encoded: a pair that does not come back byte by byte is
/// refused there and then, and the reason names the field. [`Typed::keep_raw`] keeps the bytes of values
/// that their structs do not encode to beside their columns instead. All rows are read back and compared
/// with the store once more before the commit point, as those of every mapping.
///
/// ```
/// use cutover::{Plan, Typed, codec};
/// use serde::{Deserialize, Serialize};
///
/// /// What the store holds, as JSON.
/// #[derive(Serialize, Deserialize)]
/// struct Account {
///     name: String,
///     balance: i64,
/// }
///
/// /// The row: what the key says is a column, too.
/// #[derive(Serialize, Deserialize)]
/// struct AccountRow {
///     id: u32,
///     name: String,
///     balance: i64,
/// }
///
/// let accounts = Typed::new(
///     "account",
///     "CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, balance INTEGER NOT NULL) STRICT",
///     |key, value| {
///         let id = u32::from_be_bytes(key.try_into().map_err(|_| "no account number")?);
///         let Account { name, balance } = codec::from_json(value)?;
///         Ok(AccountRow { id, name, balance })
///     },
///     |row| {
///         let value = Account { name: row.name.clone(), balance: row.balance };
///         Ok((row.id.to_be_bytes().to_vec(), codec::to_json(&value)?))
///     },
/// );
/// let plan = Plan::builder("litd")
///     .source("accounts", "data/accounts", |s| s.table("balances", accounts))
///     .target("data/litd.sqlite")
///     .build()?;
/// # Ok::<(), cutover::Error>(())
/// ```
pub struct Typed<T> {
    table: Table,
    raw: Option<String>,
    decode: Box<Decode<T>>,
    encode: Box<Encode<T>>,
    /// Pairs that were encoded many times over.
    tried: AtomicU32,
}

impl<T: Serialize + DeserializeOwned + 'static> Typed<T> {
    /// A table named `table`, which `create` creates.
    #[must_use]
    pub fn new(
        table: impl Into<String>,
        create: impl Into<String>,
        decode: impl Fn(&[u8], &[u8]) -> Result<T, String> + Send + Sync + 'static,
        encode: impl Fn(&T) -> Result<Pair, String> + Send + Sync + 'static,
    ) -> Self {
        Self::looking_up(
            table,
            create,
            move |_, key, value| Ok(decode(key, value)?),
            move |_, row| Ok(encode(row)?),
        )
    }

    /// As [`Typed::new`], where a pair refers to rows of keyspaces that the plan names earlier:
    /// [`Rows::look_up`] finds them.
    #[must_use]
    pub fn looking_up(
        table: impl Into<String>,
        create: impl Into<String>,
        decode: impl Fn(&Rows<'_>, &[u8], &[u8]) -> Result<T, MappingError> + Send + Sync + 'static,
        encode: impl Fn(&Rows<'_>, &T) -> Result<Pair, MappingError> + Send + Sync + 'static,
    ) -> Self {
        let table = Table::new(table, create);
        let (decode, encode) = (Box::new(decode), Box::new(encode));
        Self { table, raw: None, decode, encode, tried: AtomicU32::new(0) }
    }

    /// Keeps, in the column `column` (`BLOB`, may be `NULL`), the bytes of each value that its
    /// struct does not encode to: JSON with blanks, say, or without a field that came later. It is
    /// `NULL` for every other. A field of `T` that has its name is refused.
    #[must_use]
    pub fn keep_raw(mut self, column: impl Into<String>) -> Self {
        self.raw = Some(column.into());
        self
    }

    /// Adds an index by its `CREATE INDEX` statement, as [`Table::index`] does.
    #[must_use]
    pub fn index(mut self, create: impl Into<String>) -> Self {
        self.table = self.table.index(create);
        self
    }

    /// `columns` are the row's first.
    fn pair(
        &self,
        rows: &Rows<'_>,
        row: &Row<'_>,
        columns: &[String],
        visit: &mut Visit<'_>,
    ) -> Result<(), MappingError> {
        let values = (0..columns.len()).map(|at| row.get_ref(at));
        let values = values.collect::<rusqlite::Result<Vec<ValueRef<'_>>>>()?;
        let read = from_row::<T>(columns, &values).map_err(|unfit| {
            let table = &self.table.name;
            format!("a row of '{table}' does not read back as its struct: {unfit}")
        })?;
        let (key, value) = (self.encode)(rows, &read)?;
        let raw: Option<Vec<u8>> = match &self.raw {
            Some(_) => row.get(columns.len())?,
            None => None,
        };
        let Some(raw) = raw else { return visit(&key, &value) };
        // The columns, too, must be the source's (I-2).
        let of_raw = (self.decode)(rows, &key, &raw)?;
        if (self.encode)(rows, &of_raw)? != (key.clone(), value) {
            return Err(MappingError::Refused(format!(
                "a row of '{}' has other columns than the bytes that it keeps",
                self.table.name
            )));
        }
        visit(&key, &raw)
    }

    /// Reads rows for [`Typed::pair`].
    fn select(&self, columns: &[String]) -> String {
        let names: Vec<String> = columns.iter().chain(&self.raw).map(|name| quote(name)).collect();
        // A table that is gone has no columns, and SQLite says so.
        let names = if names.is_empty() { "*".to_owned() } else { names.join(", ") };
        format!("SELECT {names} FROM {}", quote(&self.table.name))
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Mapping for Typed<T> {
    fn name(&self) -> &'static str {
        "typed"
    }

    fn tables(&self) -> Vec<Table> {
        vec![self.table.clone()]
    }

    fn try_out(&self, rows: &Rows<'_>) -> Result<(), MappingError> {
        let layout = Layout::look(rows, &self.table.name)?;
        if layout.columns(None).is_empty() {
            return Ok(());
        }
        let refusals = fields::<T>().map(|fields| layout.refusals(&fields, self.raw.as_deref()));
        match refusals.unwrap_or_default() {
            none if none.is_empty() => Ok(()),
            refusals => Err(refusals.join("; ").into()),
        }
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        Writer::new(self, rows)?.write(key, value)
    }

    fn write_many(
        &self,
        rows: &Rows<'_>,
        pairs: &[(&[u8], &[u8])],
    ) -> Result<(), (usize, MappingError)> {
        let mut writer = Writer::new(self, rows).map_err(|error| (0, error))?;
        let mut pairs = pairs.iter().enumerate();
        pairs.try_for_each(|(at, (key, value))| {
            writer.write(key, value).map_err(|error| (at, error))
        })
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        let columns = Layout::look(rows, &self.table.name)?.columns(self.raw.as_deref());
        let select = self.select(&columns);
        rows.query_each(&select, [], |row| self.pair(rows, row, &columns, visit))
    }
}

impl<T> std::fmt::Debug for Typed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Typed")
            .field("table", &self.table)
            .field("raw", &self.raw)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
