//! Values that SQLite, or a struct, does not give back as they were: found at their pair, in a run as in a
//! rehearsal, and never by the verification.

use crate::common::{Pairs, read_store, snapshot, write_store};
use crate::daemon::{sqlite, verify};
use cutover::codec::{from_json, to_json};
use cutover::{Cause, Error, Plan, Typed};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

#[derive(Clone, Serialize, Deserialize)]
struct Row<V> {
    id: u32,
    v: V,
}

trait Field: Serialize + DeserializeOwned + Clone + 'static {}

impl<V: Serialize + DeserializeOwned + Clone + 'static> Field for V {}

fn key(id: u32) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

fn typed<V: Field>(column: &str, json: bool) -> Typed<Row<V>> {
    Typed::<Row<V>>::new(
        "t",
        format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v {column}, raw BLOB) STRICT"),
        move |_, value| {
            if json {
                return from_json(value);
            }
            postcard::from_bytes(value).map_err(|error| error.to_string())
        },
        move |row| {
            let postcard = || postcard::to_stdvec(row).map_err(|error| error.to_string());
            Ok((key(row.id), if json { to_json(row)? } else { postcard()? }))
        },
    )
    .keep_raw("raw")
}

fn plan<V: Field>(folder: &Path, typed: Typed<Row<V>>, quarantine: u64) -> Plan {
    Plan::builder("values")
        .source("source", folder.join("s"), |s| s.table("k", typed).quarantine(quarantine))
        .target(folder.join("target.sqlite"))
        .build()
        .expect("a plan")
}

/// Two hundred pairs, of which number 77 is the one that does not come back.
fn refused_once<V: Field>(column: &str, json: bool, good: &V, bad: &V, words: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let value = |id| {
        let row = Row { id, v: if id == 77 { bad.clone() } else { good.clone() } };
        if json { to_json(&row) } else { Ok(postcard::to_stdvec(&row).expect("encodes")) }
    };
    let pairs = (0..200).map(|id| (key(id), value(id).expect("encodes"))).collect();
    write_store(&folder.path().join("s"), &Pairs::from([("k".to_owned(), pairs)]));

    // What fjall's first open changes is changed before.
    read_store(&folder.path().join("s"));
    let before = snapshot(folder.path());
    let strict = plan(folder.path(), typed::<V>(column, json), 0);
    let rehearsed = strict.rehearse(&mut ()).expect_err("it is refused");
    assert_eq!(snapshot(folder.path()), before);
    let stopped = cutover::sql(&strict, &mut ()).expect_err("it is refused");
    let Error::Interrupted { cause: Cause::PairRefused { name, keyspace, key, reason }, .. } =
        &stopped
    else {
        panic!("{stopped:?}")
    };
    assert_eq!([name, keyspace, key], ["source", "k", "0000004d"]);
    assert!(reason.contains("its field 'v'") && reason.contains(words), "{reason}");
    assert!(rehearsed.to_string().contains(reason.as_str()), "{rehearsed}");

    // With a budget it goes into quarantine, the copy verifies, and again afterwards.
    let kept = plan(folder.path(), typed::<V>(column, json), 1);
    let connection = cutover::sql(&kept, &mut ()).expect("SQL");
    let found: (i64, Vec<u8>, String) = connection
        .query_one(
            "SELECT (SELECT count(*) FROM t), key, reason FROM cutover_quarantine_values",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .expect("one is kept");
    assert_eq!((found.0, found.1.as_slice(), &found.2), (199, &77_u32.to_be_bytes()[..], reason));
    drop(connection);
    verify(&kept).expect("verifies");
}

#[test]
fn i2_values_that_do_not_come_back_are_refused_at_their_pair_or_go_into_quarantine() {
    refused_once("ANY", false, &1.5, &f64::NAN, "it is NaN");
    refused_once("ANY", false, &Some(1.5), &Some(f64::NAN), "it is NaN");
    refused_once("REAL", true, &0.0, &-0.0, "is a negative zero");
    refused_once("REAL", false, &0.0, &-0.0, "is a negative zero");
    refused_once("INTEGER", true, &1, &u64::MAX, "it is an integer beyond");
    refused_once(
        "ANY",
        false,
        &Vec::new(),
        &vec![300_u16],
        "it is a list of something else than bytes",
    );
}

/// A store of 15,000 numbers of any bits, as JSON.
#[test]
fn i2_json_numbers_of_any_bits_arrive_and_verify() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
    let mut pairs = Vec::new();
    for id in 0..15_000 {
        bits = bits.rotate_left(13).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(1);
        let v = Some(f64::from_bits(bits)).filter(|v| v.is_finite()).unwrap_or(0.1);
        pairs.push((key(id), to_json(&Row { id, v }).expect("encodes")));
    }
    let pairs = Pairs::from([("k".to_owned(), pairs.into_iter().collect())]);
    write_store(&folder.path().join("s"), &pairs);
    let plan = plan(folder.path(), typed::<f64>("REAL", true), 0);
    let connection = cutover::sql(&plan, &mut ()).expect("SQL");
    let kept = "SELECT count(*) - count(raw) FROM t";
    assert_eq!(connection.query_one(kept, [], |row| row.get::<_, i64>(0)).expect("counts"), 15_000);
    drop(connection);
    verify(&plan).expect("verifies");
}

/// It is what `keep_raw` can't help with, and was found by the verification, without a key.
#[test]
fn i2_a_map_without_an_order_stops_at_its_pair_whose_field_is_named() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Tags(#[serde(with = "cutover::columns::json")] HashMap<String, u8>);
    let folder = tempfile::tempdir().expect("a folder");
    let pairs = (0..9_u32).map(|id| {
        let tags = if id < 5 { r#"{\"a\":1}"# } else { r#"{\"b\":1,\"a\":2}"# };
        (key(id), format!(r#"{{"id":{id},"v":"{tags}"}}"#).into_bytes())
    });
    write_store(&folder.path().join("s"), &Pairs::from([("k".to_owned(), pairs.collect())]));
    let plan = plan(folder.path(), typed::<Tags>("TEXT", true), 0);
    let error = cutover::sql(&plan, &mut ()).expect_err("it is refused").to_string();
    for words in ["key 00000005", "keyspace 'k'", "its field 'v' is encoded otherwise each time"] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_struct_that_does_not_fit_its_table_is_refused_before_anything_is_changed() {
    let columns = "id INTEGER PRIMARY KEY, v INTEGER, raw BLOB";
    for (create, words) in [
        ("id INTEGER PRIMARY KEY, raw BLOB", "named as the struct's field 'v'"),
        (
            "id INTEGER PRIMARY KEY, v INTEGER, raw BLOB, since INT NOT NULL",
            "column 'since' may not be NULL",
        ),
        ("id INTEGER PRIMARY KEY, v INTEGER", "no column is named 'raw'"),
    ] {
        // By the plan's definition, and by a table that the daemon has made.
        for stands in [false, true] {
            let folder = tempfile::tempdir().expect("a folder");
            let pairs = Pairs::from([("k".to_owned(), [(key(1), Vec::new())].into())]);
            write_store(&folder.path().join("s"), &pairs);
            read_store(&folder.path().join("s"));
            if stands {
                sqlite(&folder.path().join("target.sqlite"), &format!("CREATE TABLE t ({create})"));
            }
            let planned = if stands { columns } else { create };
            let typed = Typed::<Row<u8>>::new(
                "t",
                format!("CREATE TABLE t ({planned})"),
                |_, value| from_json(value),
                |row| Ok((key(row.id), to_json(row)?)),
            );
            let plan = plan(folder.path(), typed.keep_raw("raw"), 9);
            let before = snapshot(folder.path());
            let error = cutover::sql(&plan, &mut ()).expect_err("it is refused");
            let Error::Refused(Cause::Misfit { name, keyspace, table, reason, .. }) = &error else {
                panic!("{error:?}")
            };
            assert_eq!([name, keyspace, table], ["source", "k", "t"]);
            assert!(reason.contains(words), "{reason}");
            assert_eq!(snapshot(folder.path()), before);
            let preview = cutover::preview(&plan, &mut ()).expect("a preview");
            assert!(format!("{preview:?}").contains("does not fit table"), "{preview:?}");
        }
    }
}
