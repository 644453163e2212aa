//! Whatever is refused: read = written + quarantined, in every chunk and at the end. And what is no
//! pair's fault is never in quarantine.

use crate::common::{Pairs, write_store};
use crate::daemon::{StopAfter, fresh_handle, migrating_handle, sqlite};
use cutover::protocol::record::Record;
use cutover::{Blobs, Cause, Error, Found, Mapping, MappingError, Plan, Rows, Table, Visit};
use proptest::prelude::*;
use std::path::Path;

/// Blobs, and a row beside each; a value that begins with an odd byte is refused between the two.
struct Odd(Blobs);

impl Odd {
    fn new() -> Self {
        Self(Blobs::new("even"))
    }
}

impl Mapping for Odd {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn tables(&self) -> Vec<Table> {
        let mut tables = self.0.tables();
        tables.push(Table::new("beside", "CREATE TABLE beside (key BLOB NOT NULL)"));
        tables
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        rows.execute("INSERT INTO beside VALUES (?1)", [key])?;
        if value.first().is_some_and(|first| first % 2 == 1) {
            return Err("it is odd".to_owned().into());
        }
        self.0.write(rows, key, value)
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        self.0.read_back(rows, visit)
    }
}

fn plan(folder: &Path, mapping: impl Mapping, budget: u64, chunk_bytes: usize) -> Plan {
    Plan::builder("p")
        .source("s", folder.join("s"), |s| s.table("k", mapping).quarantine(budget))
        .target(folder.join("target.sqlite"))
        .chunk_bytes(chunk_bytes)
        .build()
        .expect("a plan")
}

/// Pairs read and quarantined as the record has them, and the rows that are there.
fn counts(folder: &Path) -> [u64; 4] {
    let connection = rusqlite::Connection::open(folder.join("target.sqlite")).expect("opens");
    let body: String = connection
        .query_one("SELECT body FROM cutover_record", [], |row| row.get(0))
        .expect("a record");
    let record = Record::decode(body.as_bytes()).expect("decodes");
    let rows = |table: &str| -> u64 {
        let count = format!("SELECT count(*) FROM {table}");
        let count: i64 = connection.query_one(&count, [], |row| row.get(0)).expect("a table");
        count.unsigned_abs()
    };
    let kept = record.quarantine().map_or(0, |table| rows(&table.name));
    assert_eq!((record.keyspaces[0].quarantined, rows("beside")), (kept, rows("even")));
    [record.keyspaces[0].pairs, kept, rows("even"), kept + rows("even")]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn i2_read_is_written_and_quarantined_whatever_is_refused_and_wherever_it_stops(
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..120),
        budget in 0_u64..80,
        chunk_bytes in prop_oneof![1_usize..300, Just(1 << 20)],
        chunks in 1_usize..5,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let odd = values.iter().filter(|v| v.first().is_some_and(|first| first % 2 == 1)).count();
        let pairs = (0_u16..).zip(&values).map(|(i, v)| (i.to_be_bytes().to_vec(), v.clone()));
        write_store(&folder.path().join("s"), &Pairs::from([("k".to_owned(), pairs.collect())]));
        let of = |budget| plan(folder.path(), Odd::new(), budget, chunk_bytes);
        drop(fresh_handle(&of(budget)).begin().expect("begins"));
        let stops: [&mut dyn cutover::Observer; 2] = [&mut StopAfter { chunks }, &mut ()];
        let mut fits = false;
        for stop in stops {
            let Found::Migrating(handle) = cutover::open(&of(budget)).expect("opens") else { continue };
            fits = handle.run(stop).is_ok();
            let [read, kept, _, both] = counts(folder.path());
            prop_assert_eq!(read, both);
            prop_assert!(kept <= budget);
        }
        prop_assert_eq!(fits || odd == 0, odd as u64 <= budget);
        drop(cutover::sql(&of(120), &mut ()).expect("SQL"));
        let [read, kept, even, _] = counts(folder.path());
        prop_assert_eq!((read, kept, even), (values.len() as u64, odd as u64, (values.len() - odd) as u64));
    }
}

/// Makes of whatever goes wrong that the pair is refused.
struct Blaming(Blobs);

impl Mapping for Blaming {
    fn name(&self) -> &'static str {
        "blaming"
    }

    fn tables(&self) -> Vec<Table> {
        self.0.tables()
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        if value == b"large" {
            // The database may not grow.
            rows.query_one("PRAGMA max_page_count = 1", [], |_| Ok(()))?;
            let zeros = "INSERT INTO even VALUES (?1, zeroblob(1000000))";
            return rows.execute(zeros, [key]).map(drop).map_err(|_| "no idea".to_owned().into());
        }
        self.0.write(rows, key, value)
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        self.0.read_back(rows, visit)
    }
}

fn one_store(folder: &Path, second: &[u8]) {
    let pairs = (0..9_u8).map(|i| (vec![i], if i == 2 { second.to_vec() } else { vec![i; 5] }));
    write_store(&folder.join("s"), &Pairs::from([("k".to_owned(), pairs.collect())]));
}

#[test]
fn a_full_disk_puts_no_pair_into_quarantine_whatever_the_mapping_says() {
    let folder = tempfile::tempdir().expect("a folder");
    one_store(folder.path(), b"large");
    let blaming = plan(folder.path(), Blaming(Blobs::new("even")), 9, 1 << 20);
    drop(fresh_handle(&blaming).begin().expect("begins"));
    let failed = migrating_handle(&blaming).run(&mut ()).expect_err("it stops");
    let Error::Interrupted { cause: Cause::Engine { message, .. }, .. } = &failed.error else {
        panic!("{:?}", failed.error)
    };
    assert!(message.contains("full"), "{message}");
}

/// What was written after that would be committed by itself.
#[test]
fn a_pair_that_ends_the_transaction_is_not_put_into_quarantine() {
    let folder = tempfile::tempdir().expect("a folder");
    one_store(folder.path(), b"ends it");
    let target = folder.path().join("target.sqlite");
    sqlite(
        &target,
        "CREATE TABLE even (key BLOB PRIMARY KEY, value BLOB NOT NULL);
         CREATE TRIGGER ends BEFORE INSERT ON even WHEN new.value = CAST('ends it' AS BLOB)
         BEGIN SELECT RAISE(ROLLBACK, 'not this one'); END",
    );
    let plan = plan(folder.path(), Blobs::new("even"), 9, 1 << 20);
    let error = cutover::sql(&plan, &mut ()).expect_err("it stops");
    let Error::Interrupted { cause: Cause::PairRefused { key, reason, .. }, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((key.as_str(), reason.as_str()), ("02", "not this one"));
    let connection = rusqlite::Connection::open(&target).expect("opens");
    let rows: i64 =
        connection.query_one("SELECT count(*) FROM even", [], |row| row.get(0)).expect("counts");
    assert_eq!(rows, 0);
}
