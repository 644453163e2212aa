//! Orphans: SQLite says of a row only that it breaks some foreign key; this says which.

use super::typed::Name;
use super::{MappingError, Rows, quote};
use rusqlite::params_from_iter;
use rusqlite::types::Value;

/// A foreign key: its columns, the conditions on the table that it leads to, and the row's values.
struct Reference<'a> {
    id: i64,
    table: String,
    columns: Vec<String>,
    conditions: Vec<String>,
    values: Vec<&'a Value>,
}

/// A key that names no column of the other table means its primary key.
const REFERENCES: &str = r#"
    SELECT r.id, r."table", r."from",
        coalesce(r."to", (SELECT name FROM pragma_table_info(r."table") WHERE pk = r.seq + 1), '')
    FROM pragma_foreign_key_list(?1) AS r ORDER BY r.id, r.seq"#;

/// Whether an insert broke a foreign key.
pub(super) fn is_one(error: &rusqlite::Error) -> bool {
    error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
}

/// Why a row with these columns is an orphan in `table`.
pub(super) fn reason(
    rows: &Rows<'_>,
    table: &str,
    row: &[(Name, Value)],
) -> Result<String, MappingError> {
    for reference in references(rows, table, row)? {
        let Reference { table, columns, conditions, values, .. } = reference;
        // A column that the struct does not fill has its default, which may lead somewhere.
        let filled = values.len() == columns.len();
        let conditions = conditions.join(" AND ");
        // Where a value is NULL the key is not looked at.
        let nulls = vec!["?"; values.len()].join(" IS NULL OR ");
        let sql = format!(
            "SELECT 1 WHERE {nulls} IS NULL OR EXISTS (SELECT 1 FROM {} WHERE {conditions})",
            quote(&table)
        );
        let twice = values.iter().chain(&values);
        if filled && rows.query_one(&sql, params_from_iter(twice), |_| Ok(()))?.is_none() {
            let columns = columns.join(", ");
            return Ok(format!("its {columns} refers to no row of table '{table}'"));
        }
    }
    Ok("it refers to a row that is not there".to_owned())
}

fn references<'a>(
    rows: &Rows<'_>,
    table: &str,
    row: &'a [(Name, Value)],
) -> Result<Vec<Reference<'a>>, MappingError> {
    let mut references: Vec<Reference<'a>> = Vec::new();
    rows.query_each(REFERENCES, [table], |found| {
        let (id, table): (i64, String) = (found.get(0)?, found.get(1)?);
        let (from, to): (String, String) = (found.get(2)?, found.get(3)?);
        if references.last().is_none_or(|reference| reference.id != id) {
            references.push(Reference {
                id,
                table,
                columns: Vec::new(),
                conditions: Vec::new(),
                values: Vec::new(),
            });
        }
        if let Some(reference) = references.last_mut() {
            let value = row.iter().find(|(name, _)| name.eq_ignore_ascii_case(&from));
            reference.values.extend(value.map(|(_, value)| value));
            reference.conditions.push(format!("{} = ?", quote(&to)));
            reference.columns.push(from);
        }
        Ok(())
    })?;
    Ok(references)
}
