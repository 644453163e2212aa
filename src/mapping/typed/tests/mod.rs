mod values;

use super::*;
use crate::mapping::codec::{from_json, to_json};
use proptest::prelude::*;
use rusqlite::Connection;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Read,
    Write,
}

/// Every kind of field that fits a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct All {
    id: u64,
    signed: i64,
    small: i8,
    flag: bool,
    rate: f64,
    name: String,
    letter: char,
    bytes: Vec<u8>,
    kind: Kind,
    maybe: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    note: Option<String>,
    #[serde(rename = "odd name \"?1\"")]
    odd: u32,
}

const CREATE: &str = r#"CREATE TABLE "all" (
    id INTEGER PRIMARY KEY, signed INTEGER NOT NULL, small INTEGER NOT NULL, flag INTEGER NOT NULL,
    rate REAL, name TEXT NOT NULL, letter TEXT NOT NULL, bytes BLOB NOT NULL, kind TEXT NOT NULL,
    maybe INTEGER, note TEXT, "odd name ""?1""" INTEGER NOT NULL, raw BLOB) STRICT"#;

fn all() -> Typed<All> {
    Typed::<All>::new(
        "all",
        CREATE,
        |_, value| from_json(value),
        |row| Ok((row.id.to_be_bytes().to_vec(), to_json(row)?)),
    )
}

/// A copy that was begun by an earlier version is gone on with under this name.
#[test]
fn the_name_in_the_record_stays_what_it_is() {
    assert_eq!(all().name(), "typed");
}

fn one() -> All {
    All {
        id: 7,
        signed: -1,
        small: -128,
        flag: true,
        rate: 0.5,
        name: "n".into(),
        letter: 'ß',
        bytes: vec![0, 255],
        kind: Kind::Write,
        maybe: None,
        note: None,
        odd: 3,
    }
}

/// A database with the mapping's table.
fn database(mapping: &impl Mapping) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    for table in mapping.tables() {
        connection.execute(&table.create, []).unwrap();
    }
    connection
}

fn write(
    connection: &Connection,
    mapping: &impl Mapping,
    (key, value): &Pair,
) -> Result<(), MappingError> {
    // A refused pair's row may be there, and is taken back by the caller.
    connection.execute_batch("SAVEPOINT pair").unwrap();
    let written = mapping.write(&Rows::new(connection), key, value);
    let end = if written.is_ok() { "" } else { "ROLLBACK TO pair;" };
    connection.execute_batch(&format!("{end} RELEASE pair")).unwrap();
    written
}

fn read(connection: &Connection, mapping: &impl Mapping) -> Result<Vec<Pair>, MappingError> {
    let mut pairs = Vec::new();
    mapping.read_back(&Rows::new(connection), &mut |key, value| {
        pairs.push((key.to_vec(), value.to_vec()));
        Ok(())
    })?;
    Ok(pairs)
}

fn pair(row: &All) -> Pair {
    (row.id.to_be_bytes().to_vec(), to_json(row).unwrap())
}

fn refusal<V: std::fmt::Debug>(result: Result<V, MappingError>) -> String {
    match result {
        Err(MappingError::Refused(reason)) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

prop_compose! {
    fn any_row()(
        (id, signed, small, flag) in (0..=i64::MAX.unsigned_abs(), any::<i64>(), any::<i8>(), any::<bool>()),
        // A REAL column has no negative zero, and NaN is its NULL.
        rate in any::<i32>().prop_map(|rate| f64::from(rate) / 8.0),
        (name, letter, bytes) in (any::<String>(), any::<char>(), any::<Vec<u8>>()),
        kind in prop_oneof![Just(Kind::Read), Just(Kind::Write)],
        (maybe, note, odd) in (any::<Option<i32>>(), any::<Option<String>>(), any::<u32>()),
    ) -> All {
        All { id, signed, small, flag, rate, name, letter, bytes, kind, maybe, note, odd }
    }
}

proptest! {
    #[test]
    fn i2_whatever_fits_the_columns_comes_back_byte_by_byte(row in any_row(), blanks in any::<bool>()) {
        let mapping = all().keep_raw("raw");
        let connection = database(&mapping);
        let (key, mut value) = pair(&row);
        if blanks {
            value.push(b' ');
        }
        let stored = (key, value);
        write(&connection, &mapping, &stored).unwrap();
        prop_assert_eq!(read(&connection, &mapping).unwrap(), vec![stored]);
        let kept: bool = connection.query_one(r#"SELECT raw IS NOT NULL FROM "all""#, [], |r| r.get(0)).unwrap();
        prop_assert_eq!(kept, blanks);
    }
}

#[test]
fn i2_a_value_that_does_not_come_back_is_refused_and_what_differs_is_told() {
    let mapping = all();
    let connection = database(&mapping);
    let (key, value) = pair(&one());
    let mut spaced = value.clone();
    spaced.insert(1, b' ');
    assert_eq!(
        refusal(write(&connection, &mapping, &(key, spaced))),
        format!(
            "its value of {} bytes is not what its struct encodes to, which has {} bytes and differs from byte 1 on",
            value.len() + 1,
            value.len()
        )
    );
    let other_key = (vec![9; 8], value);
    for mapping in [all(), all().keep_raw("raw")] {
        let reason = refusal(write(&connection, &mapping, &other_key));
        assert!(reason.starts_with("its key of 8 bytes is not what"), "{reason}");
    }
}

#[test]
fn a_column_does_not_keep_bytes_and_a_field() {
    let mapping = all().keep_raw("Note");
    let connection = database(&mapping);
    let some = All { note: Some("n".into()), ..one() };
    assert_eq!(
        refusal(write(&connection, &mapping, &pair(&some))),
        "'Note' is a field and can't keep its bytes, too"
    );
}

#[test]
fn i2_columns_that_disagree_with_the_bytes_that_are_kept_are_found_out() {
    let mapping = all().keep_raw("raw");
    let connection = database(&mapping);
    let (key, mut value) = pair(&one());
    value.push(b'\n');
    write(&connection, &mapping, &(key, value)).unwrap();
    connection.execute(r#"UPDATE "all" SET signed = 5"#, []).unwrap();
    assert_eq!(
        refusal(read(&connection, &mapping)),
        "a row of 'all' has other columns than the bytes that it keeps"
    );
}

#[test]
fn i2_a_struct_that_refuses_unknown_fields_does_not_see_the_bytes_that_are_kept() {
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        id: u64,
        name: String,
    }
    let strict = Typed::<Strict>::new(
        "strict",
        "CREATE TABLE strict (id INTEGER PRIMARY KEY, Raw BLOB, name TEXT NOT NULL) STRICT",
        |_, value| from_json(value),
        |row| Ok((row.id.to_be_bytes().to_vec(), to_json(row)?)),
    )
    .keep_raw("raw");
    let connection = database(&strict);
    let pairs = [r#"{"id":0,"name":"n"}"#, r#"{ "name": "m", "id": 1 }"#];
    let pairs = (0_u64..).zip(pairs).map(|(id, value)| (id.to_be_bytes().to_vec(), value.into()));
    let pairs: Vec<Pair> = pairs.collect();
    for pair in &pairs {
        write(&connection, &strict, pair).unwrap();
    }
    assert_eq!(read(&connection, &strict).unwrap(), pairs);
    let kept = "SELECT count(*) FROM strict WHERE raw IS NOT NULL";
    assert_eq!(connection.query_one(kept, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[test]
fn a_row_that_is_no_struct_is_refused_by_its_column_and_not_by_its_content() {
    let mapping = all();
    let connection = database(&mapping);
    write(&connection, &mapping, &pair(&one())).unwrap();
    connection.execute(r#"UPDATE "all" SET kind = 'secret'"#, []).unwrap();
    assert_eq!(
        refusal(read(&connection, &mapping)),
        "a row of 'all' does not read back as its struct: column 'kind': it holds a text that names no variant"
    );
}

#[test]
fn a_table_that_is_gone_is_named() {
    for mapping in [all(), all().keep_raw("raw")] {
        let connection = Connection::open_in_memory().unwrap();
        let error = read(&connection, &mapping).unwrap_err();
        assert!(format!("{error:?}").contains("no such table: all"), "{error:?}");
    }
}

#[test]
fn what_fits_no_column_is_refused_with_the_reason() {
    #[derive(Serialize, Deserialize)]
    struct Nested {
        id: u64,
        list: Vec<String>,
    }
    let nested = Typed::<Nested>::new(
        "nested",
        "CREATE TABLE nested (id INTEGER PRIMARY KEY, list BLOB NOT NULL) STRICT",
        |_, value| from_json(value),
        |row| Ok((Vec::new(), to_json(row)?)),
    );
    let connection = database(&nested);
    let refused = |json: &str| {
        let pair = (Vec::new(), json.as_bytes().to_vec());
        refusal(write(&connection, &nested, &pair))
    };
    for (json, words) in [
        (r#"{"id":1,"list":["secret"]}"#, "its field 'list' fits no column: it is a list of"),
        (
            r#"{"id":18446744073709551615,"list":[]}"#,
            "its field 'id' fits no column: it is an integer",
        ),
    ] {
        let reason = refused(json);
        assert!(reason.starts_with(words) && !reason.contains("secret"), "{reason}");
    }
}

#[test]
fn a_column_that_is_missing_is_the_mapping_s_fault() {
    let mapping = Typed::<All>::new(
        "all",
        r#"CREATE TABLE "all" (id INTEGER PRIMARY KEY)"#,
        |_, value| from_json(value),
        |row| Ok(pair(row)),
    );
    let connection = database(&mapping);
    let reason = refusal(write(&connection, &mapping, &pair(&one())));
    assert!(reason.contains("has no column named signed"), "{reason}");
    connection.execute(r#"INSERT INTO "all" VALUES (1)"#, []).unwrap();
    let reason = refusal(read(&connection, &mapping));
    assert!(reason.ends_with("no column is named as its field 'signed'"), "{reason}");
}

#[test]
fn an_orphan_is_told_with_the_reference_that_leads_nowhere() {
    #[derive(Serialize, Deserialize)]
    struct Both {
        id: u64,
        first: Option<u64>,
        left: u64,
        right: Option<u64>,
    }
    let both = Typed::<Both>::new(
        "both",
        "CREATE TABLE both (id INTEGER PRIMARY KEY, first INTEGER REFERENCES one,
            left INTEGER, right INTEGER, FOREIGN KEY (left, right) REFERENCES two (l, r))",
        |_, value| from_json(value),
        |row| Ok((Vec::new(), to_json(row)?)),
    );
    let connection = database(&both);
    connection
        .execute_batch(
            "CREATE TABLE one (number INTEGER PRIMARY KEY);
             CREATE TABLE two (l INTEGER, r INTEGER, PRIMARY KEY (l, r));
             INSERT INTO one VALUES (1);
             INSERT INTO two VALUES (1, 2);",
        )
        .unwrap();
    for (json, reason) in [
        (r#"{"id":1,"first":2,"left":1,"right":2}"#, "its first refers to no row of table 'one'"),
        (
            r#"{"id":1,"first":1,"left":2,"right":2}"#,
            "its left, right refers to no row of table 'two'",
        ),
        (
            r#"{"id":1,"first":null,"left":2,"right":2}"#,
            "its left, right refers to no row of table 'two'",
        ),
    ] {
        let pair = (Vec::new(), json.as_bytes().to_vec());
        assert_eq!(refusal(write(&connection, &both, &pair)), reason);
    }
    for json in [
        r#"{"id":1,"first":1,"left":1,"right":2}"#,
        r#"{"id":2,"first":null,"left":9,"right":null}"#,
    ] {
        let pair = (Vec::new(), json.as_bytes().to_vec());
        write(&connection, &both, &pair).unwrap();
    }
}
