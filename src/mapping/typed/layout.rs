//! The table as it stands in a database: what of it a struct fills and reads.

use super::row::{Fields, Name};
use crate::mapping::{MappingError, Rows, quote};
use rusqlite::types::Value;
use serde::de::DeserializeOwned;

/// Names for the number that SQLite gives a row, unless columns have them.
const ROW_IDS: [&str; 3] = ["rowid", "oid", "_rowid_"];

const NO_ROW_ID: &str = "its columns have all of SQLite's names for a row's number, 'rowid', 'oid' and '_rowid_'; rename one";

/// A column.
struct Column {
    name: String,
    /// A row must be given a value for it.
    must_be_filled: bool,
    is_generated: bool,
    is_in_key: bool,
}

/// The columns of a table, and how one row is found.
pub(super) struct Layout {
    columns: Vec<Column>,
    without_rowid: bool,
    /// The column that is the row's number, or a name that no column has.
    row_id: Option<String>,
    /// Whether that is a column.
    is_integer_key: bool,
}

impl Layout {
    /// Of a table that is not there it has no columns.
    pub(super) fn look(rows: &Rows<'_>, table: &str) -> Result<Self, MappingError> {
        let is_without = "SELECT wr FROM pragma_table_list(?1) WHERE schema = 'main'";
        let without_rowid = rows.query_one(is_without, [table], |row| row.get(0))?.unwrap_or(false);
        let (mut columns, mut names, mut integer_keys) = (Vec::new(), Vec::new(), Vec::new());
        let select = r#"SELECT name, "notnull" AND dflt_value IS NULL AND hidden = 0, hidden, pk,
                pk > 0 AND upper(type) = 'INTEGER'
            FROM pragma_table_xinfo(?1) ORDER BY cid"#;
        rows.query_each(select, [table], |row| {
            let (name, hidden): (String, i64) = (row.get(0)?, row.get(2)?);
            names.push(name.clone());
            if row.get(4)? {
                integer_keys.push(name.clone());
            }
            if hidden != 1 {
                columns.push(Column {
                    name,
                    must_be_filled: row.get(1)?,
                    is_generated: hidden != 0,
                    is_in_key: row.get::<_, i64>(3)? > 0,
                });
            }
            Ok(())
        })?;
        let keys = columns.iter().filter(|column| column.is_in_key).count();
        let integer_key = integer_keys.pop().filter(|_| keys == 1 && !without_rowid);
        let is_integer_key = integer_key.is_some();
        let is_free = |id: &&&str| !names.iter().any(|name| name.eq_ignore_ascii_case(id));
        let free = || ROW_IDS.iter().find(is_free).map(|id| (*id).to_owned());
        Ok(Self { columns, without_rowid, row_id: free().or(integer_key), is_integer_key })
    }

    /// All columns but the one that keeps bytes, which is none of the struct's and may be refused by it.
    pub(super) fn columns(&self, raw: Option<&str>) -> Vec<String> {
        let names = self.columns.iter().map(|column| &column.name);
        let is_raw = |name: &str| raw.is_some_and(|raw| raw.eq_ignore_ascii_case(name));
        names.filter(|name| !is_raw(name)).cloned().collect()
    }

    /// The column whose values are the numbers of the rows.
    pub(super) fn integer_key(&self) -> Option<&str> {
        let mut keys = self.columns.iter().filter(|column| column.is_in_key);
        keys.next().filter(|_| self.is_integer_key).map(|column| column.name.as_str())
    }

    /// The condition that finds the row which was inserted last with these fields, and its parameters:
    /// the places of fields, or none for the row's number.
    pub(super) fn find(
        &self,
        fields: &[(Name, Value)],
    ) -> Result<(String, Option<Vec<usize>>), MappingError> {
        if !self.without_rowid {
            let id = self.row_id.as_ref().ok_or_else(|| NO_ROW_ID.to_owned())?;
            return Ok((format!("{} = ?", quote(id)), None));
        }
        let (mut conditions, mut places) = (Vec::new(), Vec::new());
        for column in self.columns.iter().filter(|column| column.is_in_key) {
            let is_it = |(name, _): &(Name, Value)| name.eq_ignore_ascii_case(&column.name);
            // One that no field fills has its default in each row, and tells none from another.
            if let Some(place) = fields.iter().position(is_it) {
                conditions.push(format!("{} = ?", quote(&column.name)));
                places.push(place);
            }
        }
        if conditions.is_empty() {
            conditions.push("1".to_owned());
        }
        Ok((conditions.join(" AND "), Some(places)))
    }

    /// Why a struct with these fields can't be written here, or not be read back.
    pub(super) fn refusals<T: DeserializeOwned>(
        &self,
        fields: &Fields<T>,
        raw: Option<&str>,
    ) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.without_rowid && self.row_id.is_none() {
            reasons.push(NO_ROW_ID.to_owned());
        }
        let is = |name: &str, column: &Column| column.name == name;
        for names in &fields.names {
            let shown = names.join("' or '");
            let column = self.columns.iter().find(|c| names.iter().any(|name| is(name, c)));
            match column {
                None => reasons.push(format!(
                    "no column is named as the struct's field '{shown}'; add one, or give the field `#[serde(skip)]`"
                )),
                Some(column) if column.is_generated => reasons.push(format!(
                    "column '{}' is generated, and the struct has a field for it",
                    column.name
                )),
                Some(_) => {}
            }
        }
        let is_raw =
            |column: &Column| raw.is_some_and(|raw| raw.eq_ignore_ascii_case(&column.name));
        if let Some(raw) = raw {
            if fields.names.iter().flatten().any(|name| name.eq_ignore_ascii_case(raw)) {
                reasons.push(taken(raw));
            } else if !self.columns.iter().any(is_raw) {
                reasons.push(format!("no column is named '{raw}', which is to keep bytes"));
            }
        }
        for column in self.columns.iter().filter(|column| !is_raw(column)) {
            let name = &column.name;
            if fields.refuses(name) {
                reasons
                    .push(format!("the struct has no field for column '{name}', and refuses it"));
            } else if column.must_be_filled && !fields.has(name) && self.integer_key() != Some(name)
            {
                reasons.push(format!(
                    "column '{name}' may not be NULL, has no default, and no field of the struct fills it"
                ));
            }
        }
        if let Some(raw) =
            self.columns.iter().find(|column| is_raw(column) && column.must_be_filled)
        {
            reasons.push(format!(
                "column '{}' is to keep bytes and must be allowed to be NULL",
                raw.name
            ));
        }
        reasons
    }
}

/// Why a column can't keep bytes.
pub(super) fn taken(raw: &str) -> String {
    format!("'{raw}' is a field and can't keep its bytes, too")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn a_row_s_number_is_a_column_where_that_alone_is_an_integer_key_of_a_table_with_row_ids() {
        for (columns, is_integer_key) in [
            ("rowid INTEGER PRIMARY KEY, _rowid_, oid", true),
            ("rowid INTEGER, _rowid_, oid, PRIMARY KEY (rowid, oid)", false),
            ("rowid INTEGER PRIMARY KEY, _rowid_, oid) WITHOUT ROWID; CREATE TABLE u (x", false),
            ("rowid TEXT PRIMARY KEY, _rowid_, oid", false),
        ] {
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(&format!("CREATE TABLE t ({columns})")).unwrap();
            let layout = Layout::look(&Rows::new(&connection), "t").unwrap();
            assert_eq!(layout.is_integer_key, is_integer_key, "{columns}");
            let row_id = is_integer_key.then_some("rowid");
            assert_eq!(layout.row_id.as_deref(), row_id, "{columns}");
        }
    }
}
