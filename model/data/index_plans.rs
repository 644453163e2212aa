//! Plans whose indexes can't be made, or are others than those that were made.

use crate::common::{Pairs, write_store};
use crate::daemon::{fresh_handle, sqlite};
use cutover::codec::{from_json, to_json};
use cutover::{
    Blobs, Cause, Error, Found, Mapping, MappingError, Plan, Rows, Sizes, Table, Typed, Visit,
};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Serialize, Deserialize)]
struct Guest {
    id: u32,
    name: String,
}

fn guests(indexes: &[&str]) -> Typed<Guest> {
    let typed = Typed::<Guest>::new(
        "guest",
        "CREATE TABLE guest (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT",
        |_, value| from_json(value),
        |row| Ok((row.id.to_be_bytes().to_vec(), to_json(row)?)),
    );
    indexes.iter().fold(typed, |typed, index| typed.index(*index))
}

fn store(folder: &Path) {
    let pair = |id: u32| {
        let guest = Guest { id, name: format!("guest {}", id % 7) };
        (id.to_be_bytes().to_vec(), to_json(&guest).expect("encodes"))
    };
    let pairs: Pairs =
        ["a", "b"].map(|keyspace| (keyspace.to_owned(), (0..20).map(pair).collect())).into();
    write_store(&folder.join("s"), &pairs);
}

fn plan(folder: &Path, a: impl Mapping) -> Plan {
    Plan::builder("gaps")
        .source("s", folder.join("s"), |s| s.table("a", a).blobs("b"))
        .target(folder.join("target.sqlite"))
        .build()
        .expect("a plan")
}

fn indexes(folder: &Path) -> Vec<String> {
    let connection = Connection::open(folder.join("target.sqlite")).expect("opens");
    let query =
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL ORDER BY name";
    let mut statement = connection.prepare(query).expect("a query");
    let names = statement.query_map([], |row| row.get(0)).expect("rows");
    names.collect::<Result<_, _>>().expect("reads")
}

fn is_refused_before_anything(folder: &Path, plan: &Plan) {
    let preview = cutover::preview(plan, &mut ()).expect("looks");
    let error = cutover::sql(plan, &mut ()).expect_err("it can't be made");
    let sealed = folder.join("s").is_file();
    assert!(
        !preview.refused.is_empty()
            && matches!(error, Error::Refused(Cause::Index { .. }))
            && !sealed,
        "preview refuses {:?}; sealed: {sealed}; {error}",
        preview.refused
    );
}

#[test]
fn a_bad_index_is_refused_before_anything_is_changed_where_the_target_is_new() {
    let folder = tempfile::tempdir().expect("a folder");
    store(folder.path());
    let plan = plan(folder.path(), guests(&["CREATE INDEX x ON guest (nobody)"]));
    is_refused_before_anything(folder.path(), &plan);
}

#[test]
fn an_index_with_the_name_of_another_table_of_the_plan_is_refused_before_anything_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    store(folder.path());
    sqlite(&folder.path().join("target.sqlite"), "CREATE TABLE own (x)");
    let plan = plan(folder.path(), guests(&["CREATE INDEX s_b ON guest (name)"]));
    is_refused_before_anything(folder.path(), &plan);
}

/// Blobs with an index, once the sizes are known.
struct Sized(Blobs);

impl Mapping for Sized {
    fn name(&self) -> &'static str {
        "sized"
    }
    fn tables(&self) -> Vec<Table> {
        self.0.tables()
    }
    fn tables_for(&self, sizes: Sizes) -> Vec<Table> {
        let tables = self.0.tables_for(sizes).into_iter();
        tables.map(|t| t.index("CREATE INDEX by_size ON t (length(value))")).collect()
    }
    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        self.0.write(rows, key, value)
    }
    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        self.0.read_back(rows, visit)
    }
}

#[test]
fn an_index_of_the_definition_that_knows_the_sizes_alone_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    store(folder.path());
    let plan = plan(folder.path(), Sized(Blobs::new("t")));
    let error = cutover::sql(&plan, &mut ()).expect_err("nothing would make it").to_string();
    assert!(error.contains("names other tables or indexes"), "{error}");
    drop(cutover::kv(&plan).expect("it goes back"));
}

/// The last chunk has made them, and nothing else would: the new one can't be made of these rows, and
/// an old one would stay.
#[test]
fn a_plan_whose_indexes_change_behind_the_last_chunk_is_refused() {
    let old = "CREATE INDEX old ON guest (name)";
    let once = "CREATE UNIQUE INDEX once ON guest (name)";
    for (before, after) in [(&[][..], &[once][..]), (&[old], &[]), (&[old], &[once])] {
        let folder = tempfile::tempdir().expect("a folder");
        store(folder.path());
        let began = plan(folder.path(), guests(before));
        drop(fresh_handle(&began).begin().expect("begins").prepare(&mut ()).expect("prepares"));
        let error =
            cutover::sql(&plan(folder.path(), guests(after)), &mut ()).expect_err("changed");
        let words = "table 'guest' was given other indexes than the plan has now";
        assert!(error.to_string().contains(words), "{error}");
        drop(cutover::sql(&began, &mut ()).expect("the plan that it was begun with goes on"));
        let made: &[&str] = if before.is_empty() { &[] } else { &["old"] };
        assert_eq!(indexes(folder.path()), made);
    }
}

#[test]
fn i7_the_way_back_from_a_bad_index_is_open() {
    let folder = tempfile::tempdir().expect("a folder");
    store(folder.path());
    let bad = plan(folder.path(), guests(&["CREATE INDEX x ON guest (nobody)"]));
    cutover::sql(&bad, &mut ()).expect_err("it can't be made");
    drop(cutover::kv(&bad).expect("KV"));
    assert!(matches!(cutover::open(&bad).expect("opens"), Found::Fresh(_)));
    assert!(!folder.path().join("target.sqlite.cutover").exists());
}
