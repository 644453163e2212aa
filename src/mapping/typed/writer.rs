//! Writing rows, each of which is read back as soon as it is written: what verification would refuse
//! is refused here, where the pair and its fields are at hand.

use super::layout::{Layout, taken};
use super::row::{Name, from_row, to_row};
use super::{Pair, Typed};
use crate::mapping::orphan;
use crate::mapping::{MappingError, Rows, quote};
use rusqlite::ffi::ErrorCode;
use rusqlite::types::{ToSql, Value, ValueRef};
use rusqlite::{CachedStatement, params_from_iter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::atomic::Ordering;

/// A struct that encodes to other bytes each time, as one with a `HashMap` does, may by chance encode
/// to the same twice; so the first pairs of a mapping are encoded many times over.
const PAIRS_TRIED: u32 = 256;

/// How many times: two entries of a map come in the same order so often once in 65,000 tries.
const TRIES: u32 = 16;

/// What writes pairs into a table as it stands in one database.
pub(super) struct Writer<'r, 'c, T> {
    mapping: &'r Typed<T>,
    rows: &'r Rows<'c>,
    layout: Layout,
    /// Those that the struct reads.
    columns: Vec<String>,
    /// For the fields of the pair before: a struct may skip some.
    statements: Option<Statements<'c>>,
}

struct Statements<'c> {
    fields: Vec<Name>,
    insert: CachedStatement<'c>,
    select: CachedStatement<'c>,
    /// The fields that find the row again; without them its number does.
    places: Option<Vec<usize>>,
}

impl<'r, 'c, T: Serialize + DeserializeOwned + 'static> Writer<'r, 'c, T> {
    pub(super) fn new(mapping: &'r Typed<T>, rows: &'r Rows<'c>) -> Result<Self, MappingError> {
        let layout = Layout::look(rows, &mapping.table.name)?;
        let columns = layout.columns(mapping.raw.as_deref());
        Ok(Self { mapping, rows, layout, columns, statements: None })
    }

    /// Writes a pair. When it fails its row may be there.
    pub(super) fn write(&mut self, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        let row = (self.mapping.decode)(self.rows, key, value)?;
        if self.mapping.tried.load(Ordering::Relaxed) < PAIRS_TRIED {
            self.mapping.tried.fetch_add(1, Ordering::Relaxed);
            if let Some(reason) = self.unstable(&row, key, value)? {
                return Err(reason.into());
            }
        }
        let fields = to_row(&row).map_err(|unfit| unfit.to_string())?;
        let raw = self.raw(&row, key, value)?;
        self.insert(&fields, raw)?;
        match self.read_again(&fields, key, value) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let reason = "its struct has something that is in no column".to_owned();
                Err(self.lost(&row, &fields, (key, value), reason)?.into())
            }
            Err(MappingError::Refused(reason)) => {
                Err(self.lost(&row, &fields, (key, value), reason)?.into())
            }
            Err(error) => Err(error),
        }
    }

    fn encode(&self, row: &T) -> Result<Pair, MappingError> {
        (self.mapping.encode)(self.rows, row)
    }

    /// The bytes to keep beside the columns, where they are kept and the struct does not encode to them.
    fn raw<'v>(
        &self,
        row: &T,
        key: &[u8],
        value: &'v [u8],
    ) -> Result<Option<&'v [u8]>, MappingError> {
        if self.mapping.raw.is_none() {
            return Ok(None);
        }
        let (key_again, value_again) = self.encode(row)?;
        if key_again != key {
            return Err(not_canonical("key", key, &key_again).into());
        }
        Ok((value_again != value).then_some(value))
    }

    fn insert(&mut self, fields: &[(Name, Value)], raw: Option<&[u8]>) -> Result<(), MappingError> {
        let keeps = self.mapping.raw.is_some();
        let insert = &mut self.statements(fields)?.insert;
        let mut run = || {
            for (at, (_, value)) in fields.iter().enumerate() {
                insert.raw_bind_parameter(at + 1, value)?;
            }
            if keeps {
                insert.raw_bind_parameter(fields.len() + 1, raw)?;
            }
            insert.raw_execute()
        };
        let inserted = run();
        match self.rows.noted(inserted) {
            Ok(1) => Ok(()),
            Ok(_) => Err("a trigger of its table leaves its row out".to_owned().into()),
            Err(error) if orphan::is_one(&error) => {
                Err(orphan::reason(self.rows, &self.mapping.table.name, fields)?.into())
            }
            Err(error) => Err(self.named(fields, error)),
        }
    }

    /// SQLite's own text names the column of most that it refuses.
    fn named(&self, fields: &[(Name, Value)], error: rusqlite::Error) -> MappingError {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::TooBig) => {
                let longest = fields.iter().max_by_key(|(_, value)| bytes(value));
                let name = longest.map_or("", |(name, _)| name.as_ref());
                MappingError::Refused(format!("{text}: its longest field is '{name}'"))
            }
            Some(ErrorCode::TypeMismatch) => match self.layout.integer_key() {
                Some(column) => MappingError::Refused(format!("{text}: column '{column}'")),
                None => error.into(),
            },
            _ => error.into(),
        }
    }

    /// The statements for a struct with these fields.
    fn statements(
        &mut self,
        fields: &[(Name, Value)],
    ) -> Result<&mut Statements<'c>, MappingError> {
        let names = || fields.iter().map(|(name, _)| name);
        let known = self.statements.take().filter(|known| known.fields.iter().eq(names()));
        let statements = match known {
            Some(known) => known,
            None => self.prepare(fields)?,
        };
        Ok(self.statements.insert(statements))
    }

    fn prepare(&self, fields: &[(Name, Value)]) -> Result<Statements<'c>, MappingError> {
        let Typed { table, raw, .. } = self.mapping;
        let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_ref()).collect();
        if let Some(raw) = raw {
            if names.iter().any(|name| name.eq_ignore_ascii_case(raw)) {
                return Err(taken(raw).into());
            }
            names.push(raw);
        }
        // A table may say that a row takes another's place, or gives way to it: a pair would be lost.
        let insert = format!(
            "INSERT OR ABORT INTO {} ({}) VALUES ({})",
            quote(&table.name),
            names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", "),
            vec!["?"; names.len()].join(", "),
        );
        let (condition, places) = self.layout.find(fields)?;
        let select = format!("{} WHERE {condition}", self.mapping.select(&self.columns));
        Ok(Statements {
            fields: fields.iter().map(|(name, _)| name.clone()).collect(),
            insert: self.rows.prepare(&insert)?,
            select: self.rows.prepare(&select)?,
            places,
        })
    }

    /// Does with the row that was inserted last what verification will do: whether it is the pair.
    fn read_again(
        &mut self,
        fields: &[(Name, Value)],
        key: &[u8],
        value: &[u8],
    ) -> Result<bool, MappingError> {
        let Self { mapping, rows, columns, statements, .. } = self;
        let Some(statements) = statements else { return Ok(false) };
        let mut same = false;
        each(rows, statements, fields, |row| {
            mapping.pair(rows, row, columns, &mut |found_key, found_value| {
                same = found_key == key && found_value == value;
                Ok(())
            })
        })?;
        Ok(same)
    }

    /// Why the row that was inserted last is not the pair: `reason`, unless there is a better one.
    fn lost(
        &mut self,
        row: &T,
        fields: &[(Name, Value)],
        (key, value): (&[u8], &[u8]),
        reason: String,
    ) -> Result<String, MappingError> {
        if let Some(reason) = self.unstable(row, key, value)? {
            return Ok(reason);
        }
        let (key_again, value_again) = self.encode(row)?;
        if key_again != key {
            return Ok(not_canonical("key", key, &key_again));
        }
        if self.mapping.raw.is_none() && value_again != value {
            return Ok(not_canonical("value", value, &value_again));
        }
        let found = self.found(fields)?;
        for (name, written) in fields {
            let at = self.columns.iter().position(|column| column.eq_ignore_ascii_case(name));
            let Some(found) = at.and_then(|at| found.get(at)) else { continue };
            if !is_same(written, found) {
                return Ok(changed(name, written, found));
            }
        }
        let found: Vec<ValueRef<'_>> = found.iter().map(ValueRef::from).collect();
        let again = from_row::<T>(&self.columns, &found).and_then(|again| to_row(&again));
        let name = again.ok().and_then(|again| differing(fields, &again));
        Ok(name.map_or(reason, |name| {
            format!("its field '{name}' is read from its column as something else")
        }))
    }

    /// The columns of the row that was inserted last.
    fn found(&mut self, fields: &[(Name, Value)]) -> Result<Vec<Value>, MappingError> {
        let Self { rows, columns, statements, .. } = self;
        let mut found = Vec::new();
        if let Some(statements) = statements {
            each(rows, statements, fields, |row| {
                found = (0..columns.len()).map(|at| row.get(at)).collect::<Result<_, _>>()?;
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Why a pair's struct, made anew, encodes to something else, if it was seen to.
    fn unstable(&self, row: &T, key: &[u8], value: &[u8]) -> Result<Option<String>, MappingError> {
        let encoded = self.encode(row)?;
        for _ in 0..TRIES {
            let again = (self.mapping.decode)(self.rows, key, value)?;
            if self.encode(&again)? == encoded {
                continue;
            }
            let fields = to_row(row).and_then(|fields| Ok((fields, to_row(&again)?)));
            let name = fields.ok().and_then(|(fields, again)| differing(&fields, &again));
            let what =
                name.map_or_else(|| "its value".to_owned(), |name| format!("its field '{name}'"));
            return Ok(Some(format!(
                "{what} is encoded otherwise each time, as the order of a HashMap is; make it a BTreeMap, or give it `#[serde(serialize_with = \"cutover::columns::sorted\")]`"
            )));
        }
        Ok(None)
    }
}

/// Visits the row that was inserted last, with `fields`.
fn each(
    rows: &Rows<'_>,
    statements: &mut Statements<'_>,
    fields: &[(Name, Value)],
    visit: impl FnOnce(&rusqlite::Row<'_>) -> Result<(), MappingError>,
) -> Result<(), MappingError> {
    let row_id = rows.last_row_id();
    let found = match &statements.places {
        Some(places) => {
            let values = places.iter().filter_map(|&at| fields.get(at));
            statements.select.query(params_from_iter(values.map(|(_, value)| value)))
        }
        None => statements.select.query([&row_id as &dyn ToSql]),
    };
    let mut found = rows.noted(found)?;
    match rows.noted(found.next())? {
        Some(row) => visit(row),
        None => Err("its row can't be found again".to_owned().into()),
    }
}

/// The name of the first field that is not the same in both.
fn differing(one: &[(Name, Value)], other: &[(Name, Value)]) -> Option<Name> {
    let differs = |(one, other): &(&(Name, Value), &(Name, Value))| {
        one.0 != other.0 || !is_same(&one.1, &other.1)
    };
    let first = one.iter().zip(other).find(differs).map(|(one, _)| one);
    let more = || one.get(other.len()).or_else(|| other.get(one.len()));
    first.or_else(more).map(|(name, _)| name.clone())
}

/// Whether two values are the same to the last bit.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Real(one), Value::Real(other)) => one.to_bits() == other.to_bits(),
        _ => one == other,
    }
}

/// How a column changed a field.
fn changed(name: &str, written: &Value, found: &Value) -> String {
    let (written, found) = (described(written), described(found));
    let found = if written == found { "another one" } else { found };
    format!("its field '{name}' is {written}, and its column makes {found} of it")
}

fn described(value: &Value) -> &'static str {
    match value {
        Value::Null => "NULL",
        Value::Integer(_) => "an integer",
        Value::Real(value) if *value == 0.0 && value.is_sign_negative() => "a negative zero",
        Value::Real(_) => "a real",
        Value::Text(_) => "a text",
        Value::Blob(_) => "a blob",
    }
}

fn bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Integer(_) | Value::Real(_) => 0,
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
    }
}

fn not_canonical(what: &str, found: &[u8], again: &[u8]) -> String {
    let at = found.iter().zip(again).take_while(|(a, b)| a == b).count();
    format!(
        "its {what} of {} bytes is not what its struct encodes to, which has {} bytes and differs from byte {at} on",
        found.len(),
        again.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_field_is_the_text_or_blob_of_most_bytes() {
        assert_eq!(bytes(&Value::Text("long".to_owned())), 4);
        assert_eq!(bytes(&Value::Blob(vec![0; 3])), 3);
        assert_eq!(bytes(&Value::Integer(i64::MAX)), 0);
    }
}
