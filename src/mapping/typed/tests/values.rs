//! Every kind of field in every kind of column: a pair comes back as it was, or is refused where it is
//! written, with its field's name.

use super::*;
use crate::mapping::columns;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct One<V> {
    id: u32,
    v: V,
}

/// Each kind of column, and whether its table is strict.
const COLUMNS: [(&str, &str); 11] = [
    ("INTEGER", "STRICT"),
    ("REAL", "STRICT"),
    ("TEXT", "STRICT"),
    ("BLOB", "STRICT"),
    ("ANY", "STRICT"),
    ("INTEGER", ""),
    ("REAL", ""),
    ("TEXT", ""),
    ("BLOB", ""),
    ("NUMERIC", ""),
    ("", ""),
];

#[derive(Clone, Copy, Debug)]
enum Codec {
    Json,
    Postcard,
}

impl Codec {
    fn encode<V: Serialize>(self, value: &V) -> Result<Vec<u8>, String> {
        match self {
            Self::Json => to_json(value),
            Self::Postcard => postcard::to_stdvec(value).map_err(|error| error.to_string()),
        }
    }

    fn decode<V: serde::de::DeserializeOwned>(self, bytes: &[u8]) -> Result<V, String> {
        match self {
            Self::Json => from_json(bytes),
            Self::Postcard => postcard::from_bytes(bytes).map_err(|error| error.to_string()),
        }
    }
}

trait Field: Serialize + serde::de::DeserializeOwned + 'static {}

impl<V: Serialize + serde::de::DeserializeOwned + 'static> Field for V {}

/// The mapping alone: key and value are the struct's own.
fn mapping<V: Field>(codec: Codec, (kind, strict): (&str, &str), keyed: bool) -> Typed<One<V>> {
    let strict = match (strict, keyed) {
        ("", false) => "",
        ("", true) => "WITHOUT ROWID",
        (_, false) => "STRICT",
        (_, true) => "STRICT, WITHOUT ROWID",
    };
    Typed::<One<V>>::new(
        "one",
        format!("CREATE TABLE one (id INTEGER PRIMARY KEY, v {kind}, raw BLOB) {strict}"),
        move |_, value| codec.decode(value),
        move |row| Ok((row.id.to_be_bytes().to_vec(), codec.encode(row)?)),
    )
}

/// Tries a pair in every column, as each codec writes it, and returns the columns that took it.
fn tried<V: Field + Clone + Debug>(v: &V) -> Vec<(Codec, &'static str, &'static str)> {
    let mut taken = Vec::new();
    for codec in [Codec::Json, Codec::Postcard] {
        let row = One { id: 7, v: v.clone() };
        let Ok(value) = codec.encode(&row) else { continue };
        // JSON has no NaN and writes `null`, which is none.
        if codec.decode::<One<V>>(&value).is_err() {
            continue;
        }
        for (kind, strict) in COLUMNS {
            for (keyed, keeps) in [(false, false), (true, false), (false, true)] {
                let mapping = mapping::<V>(codec, (kind, strict), keyed);
                let mapping = if keeps { mapping.keep_raw("raw") } else { mapping };
                let connection = database(&mapping);
                mapping.try_out(&Rows::new(&connection)).unwrap();
                let mut pair = (7_u32.to_be_bytes().to_vec(), value.clone());
                if keeps && matches!(codec, Codec::Json) {
                    pair.1.push(b' ');
                }
                match write(&connection, &mapping, &pair) {
                    Ok(()) => {
                        assert_eq!(read(&connection, &mapping), Ok(vec![pair]), "{v:?} in {kind}");
                        taken.push((codec, kind, strict));
                    }
                    Err(MappingError::Refused(reason)) => {
                        let is_named = reason.contains("'v'") || reason.contains("one.v");
                        assert!(is_named, "{v:?} in {kind}: {reason}");
                        assert_eq!(read(&connection, &mapping), Ok(Vec::new()));
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    }
    taken
}

/// So are values that a column is made for taken by it, whichever the codec.
fn is_taken<V: Field + Clone + Debug>(v: &V, kinds: &[&str]) {
    let taken = tried(v);
    for kind in kinds {
        for strict in ["STRICT", ""] {
            if COLUMNS.contains(&(kind, strict)) {
                let ways = taken.iter().filter(|way| (way.1, way.2) == (kind, strict)).count();
                assert_eq!(ways, 6, "{v:?} in {kind} {strict}: {taken:?}");
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct New(i64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wide {
    #[serde(with = "columns::big_endian")]
    number: u64,
    #[serde(with = "columns::big_endian")]
    maybe: Option<u128>,
    #[serde(with = "columns::big_endian")]
    real: f64,
    #[serde(with = "columns::bytes")]
    array: [u8; 40],
    #[serde(with = "columns::json")]
    map: BTreeMap<String, (u8, Option<String>)>,
}

fn wide() -> Typed<Wide> {
    Typed::<Wide>::new(
        "wide",
        "CREATE TABLE wide (number BLOB NOT NULL PRIMARY KEY, maybe BLOB, real BLOB NOT NULL,
            array BLOB NOT NULL, map TEXT NOT NULL) STRICT, WITHOUT ROWID",
        |_, value| postcard::from_bytes(value).map_err(|error| error.to_string()),
        |row| {
            let value = postcard::to_stdvec(row).map_err(|error| error.to_string())?;
            Ok((row.number.to_be_bytes().to_vec(), value))
        },
    )
}

/// Any 64 bits.
fn any_real() -> impl Strategy<Value = f64> {
    let odd = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::MIN, f64::MIN_POSITIVE, 2_f64.powi(53)];
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<i32>().prop_map(f64::from),
        proptest::sample::select(odd.to_vec())
    ]
}

/// Texts that a column without `STRICT` may take for a number.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[-+ ]?[0-9]{1,20}([.][0-9]{0,3})?(e[0-9])?", "0x[0-9a-f]{2}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn i2_a_field_of_any_kind_comes_back_from_any_column_or_is_refused_by_name(
        (flag, small, wide, signed) in (any::<bool>(), any::<u8>(), any::<u64>(), any::<i64>()),
        (real, single) in (any_real(), any::<u32>().prop_map(f32::from_bits)),
        (text, letter) in (any_text(), any::<char>()),
        (bytes, array) in (any::<Vec<u8>>(), any::<[u8; 32]>()),
        maybe in any::<Option<i32>>(),
    ) {
        is_taken(&flag, &["INTEGER", "ANY"]);
        is_taken(&small, &["INTEGER", "ANY"]);
        is_taken(&signed, &["INTEGER", "ANY"]);
        is_taken(&New(signed), &["INTEGER", "ANY"]);
        is_taken(&maybe, &["INTEGER", "ANY"]);
        is_taken(&letter, &["TEXT", "ANY"]);
        is_taken(&text, &["TEXT", "ANY"]);
        is_taken(&Some(text), &["TEXT", "ANY"]);
        is_taken(&Kind::Read, &["TEXT", "ANY"]);
        is_taken(&bytes, &["BLOB", "ANY"]);
        is_taken(&Some(bytes), &["BLOB", "ANY"]);
        is_taken(&array, &["BLOB", "ANY"]);
        is_taken(&(), &["INTEGER", "REAL", "TEXT", "BLOB", "ANY", "NUMERIC"]);
        tried(&wide);
        tried(&single);
        tried(&Some(real));
        tried(&vec![letter]);
        let taken = tried(&real);
        let takes = |kind| taken.iter().any(|way| way.1 == kind);
        prop_assert_eq!(takes("ANY"), !real.is_nan());
        prop_assert_eq!(takes("REAL"), !real.is_nan() && real.to_bits() != (-0.0_f64).to_bits());
    }

    #[test]
    fn i2_what_sqlite_has_no_column_for_comes_back_through_the_ready_made_help(
        (number, maybe, real) in (any::<u64>(), any::<Option<u128>>(), any_real()),
        (array, map) in (any::<[[u8; 20]; 2]>(), any::<BTreeMap<String, (u8, Option<String>)>>()),
    ) {
        let mut joined = [0; 40];
        joined.copy_from_slice(&array.concat());
        let row = Wide { number, maybe, real, array: joined, map };
        let mapping = wide();
        let connection = database(&mapping);
        mapping.try_out(&Rows::new(&connection)).unwrap();
        let pair = (number.to_be_bytes().to_vec(), postcard::to_stdvec(&row).unwrap());
        write(&connection, &mapping, &pair).unwrap();
        prop_assert_eq!(read(&connection, &mapping).unwrap(), vec![pair]);
    }

    #[test]
    fn numbers_kept_big_endian_sort_as_numbers(mut numbers in any::<Vec<u64>>()) {
        numbers.sort_unstable();
        numbers.dedup();
        let mapping = wide();
        let connection = database(&mapping);
        for &number in numbers.iter().rev() {
            let row = Wide { number, maybe: None, real: 0.0, array: [0; 40], map: BTreeMap::new() };
            let pair = (number.to_be_bytes().to_vec(), postcard::to_stdvec(&row).unwrap());
            write(&connection, &mapping, &pair).unwrap();
        }
        let mut statement = connection.prepare("SELECT number FROM wide ORDER BY number").unwrap();
        let found = statement.query_map([], |row| row.get(0)).unwrap();
        let found: Vec<u64> = found.map(|bytes| u64::from_be_bytes(bytes.unwrap())).collect();
        prop_assert_eq!(found, numbers);
    }
}

fn refused_in<V: Field>(codec: Codec, column: (&str, &str), v: V) -> String {
    let mapping = mapping::<V>(codec, column, false);
    let connection = database(&mapping);
    let value = codec.encode(&One { id: 7, v }).unwrap();
    refusal(write(&connection, &mapping, &(7_u32.to_be_bytes().to_vec(), value)))
}

#[test]
fn a_refusal_names_the_field_and_says_what_its_column_makes_of_it() {
    let strict = "STRICT";
    for (reason, words) in [
        (
            refused_in(Codec::Postcard, ("ANY", strict), f64::NAN),
            "its field 'v' fits no column: it is NaN",
        ),
        (
            refused_in(Codec::Postcard, ("REAL", ""), Some(f64::NAN)),
            "its field 'v' fits no column: it is NaN",
        ),
        (
            refused_in(Codec::Json, ("REAL", strict), -0.0),
            "its field 'v' is a negative zero, and its column makes a real of it",
        ),
        (
            refused_in(Codec::Json, ("INTEGER", ""), -0.0),
            "its field 'v' is a negative zero, and its column makes an integer of it",
        ),
        (
            refused_in(Codec::Json, ("INTEGER", ""), "007".to_owned()),
            "its field 'v' is a text, and its column makes an integer of it",
        ),
        (
            refused_in(Codec::Json, ("INTEGER", strict), "x".to_owned()),
            "cannot store TEXT value in INTEGER column one.v",
        ),
        (
            refused_in(Codec::Json, ("INTEGER", ""), u64::MAX),
            "its field 'v' fits no column: it is an integer beyond",
        ),
        (
            refused_in(Codec::Json, ("ANY", strict), vec![(1, 2)]),
            "its field 'v' fits no column: it is a list of something else than bytes",
        ),
        (
            refused_in(Codec::Json, ("ANY", strict), One { id: 1, v: 2 }),
            "its field 'v' fits no column: it is a struct or a map",
        ),
        (
            refused_in(Codec::Json, ("ANY", strict), Ok::<u8, u8>(2)),
            "its field 'v' fits no column: it is a variant with a value",
        ),
    ] {
        assert!(reason.contains(words), "{reason}");
    }
}

/// SQLite's own text does not say which.
#[test]
fn a_field_that_is_too_long_and_a_key_that_is_no_integer_are_named() {
    #[derive(Serialize, Deserialize)]
    struct Text {
        id: String,
    }
    let mapping = mapping::<String>(Codec::Json, ("TEXT", ""), false);
    let connection = database(&mapping);
    let too_big =
        "CREATE TRIGGER too_big BEFORE INSERT ON one BEGIN SELECT zeroblob(2000000000); END";
    connection.execute_batch(too_big).unwrap();
    let value = to_json(&One { id: 7, v: "x".repeat(30) }).unwrap();
    let reason = refusal(write(&connection, &mapping, &(7_u32.to_be_bytes().to_vec(), value)));
    assert!(reason.ends_with("its longest field is 'v'"), "{reason}");
    let text = Typed::<Text>::new(
        "text",
        "CREATE TABLE text (id INTEGER PRIMARY KEY)",
        |_, value| from_json(value),
        |row| Ok((Vec::new(), to_json(row)?)),
    );
    let pair = (Vec::new(), br#"{"id":"secret"}"#.to_vec());
    let reason = refusal(write(&database(&text), &text, &pair));
    assert_eq!(reason, "datatype mismatch: column 'id'");
}

#[derive(Serialize, Deserialize)]
struct Tagged {
    id: u32,
    #[serde(with = "columns::json")]
    tags: HashMap<String, u8>,
}

/// It comes in the same order once in a while: chance must not decide whether a copy can be verified.
#[test]
fn i2_a_map_without_an_order_is_refused_each_time_and_named() {
    for json in
        [r#"{"id":1,"tags":"{\"a\":1,\"b\":2}"}"#, r#"{"id":1,"tags":"{\"b\":1,\"a\":2}"} "#]
    {
        for _ in 0..50 {
            let tagged = Typed::<Tagged>::new(
                "tagged",
                "CREATE TABLE tagged (id INTEGER PRIMARY KEY, tags TEXT, raw BLOB) STRICT",
                |_, value| from_json(value),
                |row| Ok((row.id.to_be_bytes().to_vec(), to_json(row)?)),
            )
            .keep_raw("raw");
            let pair = (1_u32.to_be_bytes().to_vec(), json.as_bytes().to_vec());
            let reason = refusal(write(&database(&tagged), &tagged, &pair));
            assert!(
                reason.starts_with("its field 'tags' is encoded otherwise each time"),
                "{reason}"
            );
        }
    }
}

/// What the daemon's own struct has may stay a `HashMap`, if it is encoded in one order.
#[test]
fn i2_a_sorted_map_comes_back_with_or_without_its_bytes() {
    #[derive(Serialize, Deserialize)]
    struct Stored {
        #[serde(serialize_with = "columns::sorted")]
        tags: HashMap<String, u8>,
    }
    #[derive(Serialize, Deserialize)]
    struct Row {
        key: Vec<u8>,
        #[serde(with = "columns::json")]
        tags: BTreeMap<String, u8>,
    }
    let mapping = Typed::<Row>::new(
        "tagged",
        "CREATE TABLE tagged (key BLOB PRIMARY KEY, tags TEXT NOT NULL, raw BLOB) STRICT",
        |key, value| {
            let Stored { tags } = from_json(value)?;
            Ok(Row { key: key.to_vec(), tags: tags.into_iter().collect() })
        },
        |row| {
            let tags = row.tags.clone().into_iter().collect();
            Ok((row.key.clone(), to_json(&Stored { tags })?))
        },
    )
    .keep_raw("raw");
    let connection = database(&mapping);
    let pairs = [r#"{"tags":{"a":1,"b":2,"c":3}}"#, r#"{"tags":{"c":3,"b":2,"a":1}}"#];
    let pairs = (0..).zip(pairs).map(|(key, value)| (vec![key], value.into()));
    let pairs: Vec<Pair> = pairs.collect();
    for pair in &pairs {
        write(&connection, &mapping, pair).unwrap();
    }
    assert_eq!(read(&connection, &mapping).unwrap(), pairs);
    let kept = "SELECT key FROM tagged WHERE raw IS NOT NULL";
    assert_eq!(connection.query_one(kept, [], |row| row.get::<_, Vec<u8>>(0)).unwrap(), [1]);
}

/// A table may say what becomes of a row that another is in the way of; a pair would be lost.
#[test]
fn i2_a_row_that_a_table_would_leave_out_or_put_in_another_s_place_is_refused() {
    #[derive(Serialize, Deserialize)]
    struct Named {
        key: Vec<u8>,
        name: String,
    }
    for (create, words) in [
        ("name TEXT UNIQUE ON CONFLICT REPLACE", "UNIQUE constraint failed: named.name"),
        ("name TEXT UNIQUE ON CONFLICT IGNORE", "UNIQUE constraint failed: named.name"),
        ("name TEXT", "a trigger of its table leaves its row out"),
        ("name TEXT, rowid INT, oid INT, _rowid_ INT", "SQLite's names for a row's number"),
    ] {
        let mapping = Typed::<Named>::new(
            "named",
            format!("CREATE TABLE named (key BLOB PRIMARY KEY, {create})"),
            |key, value| Ok(Named { key: key.to_vec(), name: from_json(value)? }),
            |row| Ok((row.key.clone(), to_json(&row.name)?)),
        );
        let connection = database(&mapping);
        connection
            .execute_batch(
                "INSERT INTO named (key, name) VALUES (x'00', 'n');
                 CREATE TRIGGER leaves_out BEFORE INSERT ON named WHEN new.key = x'02'
                 BEGIN SELECT RAISE(IGNORE); END",
            )
            .unwrap();
        let key = if words.contains("trigger") { 2 } else { 1 };
        let reason = refusal(write(&connection, &mapping, &(vec![key], br#""n""#.to_vec())));
        assert!(reason.contains(words), "{create}: {reason}");
    }
}

fn misfits<T: Field>(create: &str, raw: Option<&str>) -> String {
    let mapping = Typed::<T>::new(
        "t",
        format!("CREATE TABLE t {create}"),
        |_, _| Err("nothing is read".to_owned()),
        |_| Err("nothing is written".to_owned()),
    );
    let mapping = match raw {
        Some(raw) => mapping.keep_raw(raw),
        None => mapping,
    };
    let connection = database(&mapping);
    match mapping.try_out(&Rows::new(&connection)) {
        Ok(()) => String::new(),
        Err(MappingError::Refused(reason)) => reason,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_struct_and_its_table_are_compared_without_a_row() {
    #[derive(Serialize, Deserialize)]
    struct Plain {
        id: u32,
        #[serde(alias = "title", alias = "called", default)]
        name: String,
        #[serde(skip)]
        #[expect(dead_code, reason = "it is not a column")]
        cache: u8,
    }
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        id: u32,
    }
    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Outer(Plain);
    #[derive(Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        plain: Plain,
    }
    let no_field = "may not be NULL, has no default, and no field of the struct fills it";
    for (create, raw, words) in [
        ("(id INTEGER PRIMARY KEY, name TEXT NOT NULL)", None, ""),
        (
            "(number INTEGER PRIMARY KEY, id INT, name TEXT, other TEXT NOT NULL DEFAULT 'x')",
            None,
            "",
        ),
        // Which of its names a field is written by, only a value can say.
        ("(id INTEGER PRIMARY KEY, title TEXT NOT NULL)", None, ""),
        ("(id INTEGER PRIMARY KEY, name TEXT, raw BLOB)", Some("RAW"), ""),
        (
            "(id INTEGER PRIMARY KEY)",
            None,
            "named as the struct's field 'called' or 'name' or 'title'",
        ),
        (
            "(id INTEGER PRIMARY KEY, Name TEXT)",
            None,
            "named as the struct's field 'called' or 'name' or 'title'",
        ),
        ("(id INT, name TEXT, since INT NOT NULL)", None, no_field),
        ("(a INT, b INT, id INT, name TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID", None, no_field),
        ("(id INT, name AS (id + 1))", None, "column 'name' is generated"),
        ("(id INT, name TEXT)", Some("raw"), "no column is named 'raw', which is to keep bytes"),
        ("(id INT, name TEXT)", Some("name"), "'name' is a field and can't keep its bytes, too"),
        ("(id INT, name TEXT, raw BLOB NOT NULL)", Some("raw"), "must be allowed to be NULL"),
        ("(id INT, name TEXT, rowid, oid, _rowid_)", None, "SQLite's names for a row's number"),
    ] {
        for reason in [misfits::<Plain>(create, raw), misfits::<Outer>(create, raw)] {
            assert_eq!(reason.is_empty(), words.is_empty(), "{create}: {reason}");
            assert!(reason.contains(words), "{create}: {reason}");
        }
        // Only its values can say.
        assert_eq!(misfits::<Flat>(create, raw), "");
    }
    assert_eq!(
        misfits::<Strict>("(id INT, name TEXT)", None),
        "the struct has no field for column 'name', and refuses it"
    );
    assert_eq!(misfits::<Strict>("(id INT, raw BLOB)", Some("raw")), "");
    let all = misfits::<Plain>("(x INT NOT NULL)", None);
    assert_eq!(all.matches("; ").count(), 4, "{all}");
}

/// By way of serde alone.
#[test]
fn uuids_and_times_of_other_crates_come_back_from_their_columns() {
    #[derive(Serialize, Deserialize)]
    struct Event {
        key: Vec<u8>,
        text: uuid::Uuid,
        #[serde(with = "columns::bytes")]
        bytes: uuid::Uuid,
        at: chrono::DateTime<chrono::Utc>,
        #[serde(with = "chrono::serde::ts_nanoseconds")]
        nanoseconds: chrono::DateTime<chrono::Utc>,
        #[serde(with = "time::serde::rfc3339")]
        other: time::OffsetDateTime,
        #[serde(with = "time::serde::timestamp::nanoseconds")]
        other_nanoseconds: time::OffsetDateTime,
    }
    let mapping = Typed::<Event>::new(
        "event",
        "CREATE TABLE event (key BLOB PRIMARY KEY, text TEXT NOT NULL, bytes BLOB NOT NULL, at TEXT NOT NULL,
            nanoseconds INTEGER NOT NULL, other TEXT NOT NULL, other_nanoseconds INTEGER NOT NULL) STRICT",
        |_, value| from_json(value),
        |row| Ok((row.key.clone(), to_json(row)?)),
    );
    let connection = database(&mapping);
    mapping.try_out(&Rows::new(&connection)).unwrap();
    let now = chrono::DateTime::from_timestamp(1_700_000_000, 123_456_789).unwrap();
    let other = time::OffsetDateTime::from_unix_timestamp_nanos(-1_234_567_890_123).unwrap();
    let event = |key, other_nanoseconds| Event {
        key: vec![key],
        text: uuid::Uuid::from_u128(7 << 100),
        bytes: uuid::Uuid::from_u128(9 << 100),
        at: now,
        nanoseconds: now,
        other: other.to_offset(time::macros::offset!(+2)),
        other_nanoseconds,
    };
    let event = |key, time| (vec![key], to_json(&event(key, time)).unwrap());
    write(&connection, &mapping, &event(1, other)).unwrap();
    assert_eq!(read(&connection, &mapping).unwrap(), [event(1, other)]);
    let types =
        "SELECT typeof(text) || typeof(bytes) || typeof(at) || typeof(nanoseconds) FROM event";
    let found: String = connection.query_one(types, [], |row| row.get(0)).unwrap();
    assert_eq!(found, "textblobtextinteger");
}
