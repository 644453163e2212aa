//! The typed mapping: one row a pair, one column a field of a struct.

use super::mapping::{Mapping, MappingError, Rows, Table, Visit, quote};
use super::orphan;
use rusqlite::types::ToSql;
use rusqlite::{Row, params_from_iter};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

type Decode<T> = dyn Fn(&Rows<'_>, &[u8], &[u8]) -> Result<T, MappingError> + Send + Sync;
type Encode<T> = dyn Fn(&Rows<'_>, &T) -> Result<Pair, MappingError> + Send + Sync;

/// A table with one row a pair, and one column for each field of the struct `T`.
///
/// `decode` makes the struct of a pair, `encode` makes the pair again. What a pair's struct does not
/// encode to byte by byte is refused before its row is written; [`Typed::keep_raw`] keeps the bytes
/// of such values beside their columns instead. The rows are read back, encoded and compared with
/// the store before the commit point, as those of every mapping.
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
        Self { table, raw: None, decode: Box::new(decode), encode: Box::new(encode) }
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

    /// The bytes to keep beside the columns, where the struct does not encode to them.
    fn raw<'v>(
        &self,
        rows: &Rows<'_>,
        row: &T,
        key: &[u8],
        value: &'v [u8],
    ) -> Result<Option<&'v [u8]>, MappingError> {
        let (key_again, value_again) = (self.encode)(rows, row)?;
        if key_again != key {
            return Err(not_canonical("key", key, &key_again));
        }
        if value_again == value {
            Ok(None)
        } else if self.raw.is_some() {
            Ok(Some(value))
        } else {
            Err(not_canonical("value", value, &value_again))
        }
    }

    fn insert(&self, rows: &Rows<'_>, columns: &[(&str, &dyn ToSql)]) -> Result<(), MappingError> {
        let names: Vec<String> = columns.iter().map(|(name, _)| quote(name)).collect();
        let sql = format!(
            "INSERT INTO {} ({}) VALUES (?{})",
            quote(&self.table.name),
            names.join(", "),
            ", ?".repeat(names.len().saturating_sub(1)),
        );
        let values = params_from_iter(columns.iter().map(|(_, value)| value));
        match rows.execute_raw(&sql, values) {
            Ok(_) => Ok(()),
            Err(error) if orphan::is_one(&error) => {
                Err(orphan::reason(rows, &self.table.name, columns)?.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// All columns of the table but the one that keeps bytes, which is none of the struct's and may be
    /// refused by it.
    fn columns(&self, rows: &Rows<'_>) -> Result<Vec<String>, MappingError> {
        let mut columns: Vec<String> = Vec::new();
        let names = "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid";
        rows.query_each(names, [&self.table.name], |row| {
            columns.push(row.get(0)?);
            Ok(())
        })?;
        columns.retain(|name| self.raw.as_ref().is_none_or(|raw| !raw.eq_ignore_ascii_case(name)));
        Ok(columns)
    }

    /// `columns` are the row's first.
    fn pair(
        &self,
        rows: &Rows<'_>,
        row: &Row<'_>,
        columns: &[String],
        visit: &mut Visit<'_>,
    ) -> Result<(), MappingError> {
        let read = serde_rusqlite::from_row_with_columns::<T>(row, columns)
            .map_err(|error| self.unread(error))?;
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

    /// serde's own text quotes the value.
    fn unread(&self, error: serde_rusqlite::Error) -> MappingError {
        use serde_rusqlite::Error;
        let column = match error {
            Error::Rusqlite(error) => return error.into(),
            Error::Deserialization { column: Some(column), .. } => format!("column '{column}'"),
            Error::Deserialization { column: None, message }
                if message.starts_with("missing field") =>
            {
                message
            }
            Error::Deserialization { column: None, .. }
            | Error::Unsupported(_)
            | Error::ValueTooLarge(_)
            | Error::Serialization(_)
            | Error::ColumnNamesNotAvailable => "a column".to_owned(),
        };
        MappingError::Refused(format!(
            "a row of '{}' does not read back as its struct: {column}",
            self.table.name
        ))
    }
}

impl<T: Serialize + DeserializeOwned + 'static> Mapping for Typed<T> {
    fn name(&self) -> &'static str {
        "typed"
    }

    fn tables(&self) -> Vec<Table> {
        vec![self.table.clone()]
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        let row = (self.decode)(rows, key, value)?;
        let raw = self.raw(rows, &row, key, value)?;
        let fields = serde_rusqlite::to_params_named(&row).map_err(unfit)?;
        let mut columns: Vec<(&str, &dyn ToSql)> = Vec::with_capacity(fields.len() + 1);
        for (name, value) in fields.iter() {
            columns.push((name.trim_start_matches(':'), value.as_ref()));
        }
        if let Some(column) = &self.raw {
            if columns.iter().any(|(name, _)| name.eq_ignore_ascii_case(column)) {
                return Err(format!("'{column}' is a field and can't keep its bytes, too").into());
            }
            columns.push((column, &raw));
        }
        self.insert(rows, &columns)
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        let columns = self.columns(rows)?;
        let names: Vec<String> = columns.iter().chain(&self.raw).map(|name| quote(name)).collect();
        // A table that is gone has no columns, and SQLite says so.
        let names = if names.is_empty() { "*".to_owned() } else { names.join(", ") };
        let select = format!("SELECT {names} FROM {}", quote(&self.table.name));
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

fn unfit(error: serde_rusqlite::Error) -> MappingError {
    use serde_rusqlite::Error;
    MappingError::Refused(match error {
        // Its text ends with the value.
        Error::ValueTooLarge(_) => "a number is too large for a column".to_owned(),
        other => format!("a field fits no column: {other}"),
    })
}

fn not_canonical(what: &str, found: &[u8], again: &[u8]) -> MappingError {
    let at = found.iter().zip(again).take_while(|(a, b)| a == b).count();
    MappingError::Refused(format!(
        "its {what} of {} bytes is not what its struct encodes to, which has {} bytes and differs from byte {at} on",
        found.len(),
        again.len()
    ))
}

#[cfg(test)]
mod tests;
