//! The small daemon's plan with a mapping of its own for one source: some pairs are refused and go into
//! quarantine, and indexes are made behind the rows.

use crate::common::{KEYSPACES, Pairs, SOURCES, read_table, small_store};
use cutover::protocol::RecordStage;
use cutover::protocol::record::Record;
use cutover::{Blobs, Mapping, MappingError, Rows, SourceBuilder, Table, Visit};
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::path::Path;

pub const QUARANTINE: &str = "cutover_quarantine_small";

/// Of each keyspace one in the first chunk, and one in the second.
const fn is_refused(key: &[u8]) -> bool {
    matches!(key, [1 | 2, 3 | 15])
}

/// This many are refused, and this many may be.
const REFUSED: u64 = 4;

/// Blobs with an index of their values.
struct Picky {
    table: String,
    blobs: Blobs,
}

impl Picky {
    fn new(keyspace: &str) -> Self {
        let table = format!("{}_{keyspace}", SOURCES[0]);
        Self { blobs: Blobs::new(&table), table }
    }
}

const NAME: &str = "picky";

impl Mapping for Picky {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tables(&self) -> Vec<Table> {
        let index = format!("CREATE INDEX {} ON {} (value)", index_of(&self.table), self.table);
        self.blobs.tables().into_iter().map(|table| table.index(&index)).collect()
    }

    /// Finds out that a pair is refused when its row is written.
    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        self.blobs.write(rows, key, value)?;
        if is_refused(key) { Err("not this one".to_owned().into()) } else { Ok(()) }
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        self.blobs.read_back(rows, visit)
    }
}

fn index_of(table: &str) -> String {
    format!("{table}_by_value")
}

/// Defines a source of the small daemon: the first as above, others as plain blobs.
pub fn define(name: &str, source: SourceBuilder) -> SourceBuilder {
    if name == SOURCES[0] {
        let of = |source: SourceBuilder, keyspace| source.table(keyspace, Picky::new(keyspace));
        of(of(source, "first"), "second").quarantine(REFUSED)
    } else {
        source.every_keyspace()
    }
}

/// Source, keyspace, key and value.
type Kept = (String, String, Vec<u8>, Vec<u8>);

/// What is in quarantine; nothing where there is no such table.
pub fn quarantined(target: &Path) -> BTreeSet<Kept> {
    let connection = Connection::open(target).expect("opens");
    let select = format!("SELECT source, keyspace, key, value FROM {QUARANTINE}");
    let Ok(mut statement) = connection.prepare(&select) else { return BTreeSet::new() };
    let kept = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .expect("rows");
    kept.collect::<Result<_, _>>().expect("reads")
}

/// The pairs of a source that a target holds, as rows or in quarantine.
///
/// # Errors
///
/// One is both.
pub fn read_target(target: &Path, source: &str) -> Result<Pairs, String> {
    let table = |keyspace: &str| read_table(target, &format!("{source}_{keyspace}"));
    let mut pairs: Pairs = KEYSPACES.map(|name| (name.to_owned(), table(name))).into();
    for (_, keyspace, key, value) in quarantined(target).into_iter().filter(|kept| kept.0 == source)
    {
        if pairs.entry(keyspace).or_default().insert(key.clone(), value).is_some() {
            return Err(format!("{key:?} of {source} is in quarantine and beside it"));
        }
    }
    Ok(pairs)
}

/// Whether each refused pair is in quarantine, as it was in the store, and no other pair.
///
/// # Errors
///
/// What is there instead.
pub fn has_refused(target: &Path) -> Result<(), String> {
    let refused = small_store(1, 20).into_iter().flat_map(|(keyspace, pairs)| {
        let refused = pairs.into_iter().filter(|(key, _)| is_refused(key));
        refused.map(move |(key, value)| (SOURCES[0].to_owned(), keyspace.clone(), key, value))
    });
    let (found, refused) = (quarantined(target), refused.collect());
    if found == refused { Ok(()) } else { Err(format!("{found:?} are in quarantine")) }
}

/// Compares what the record in a target tells, if there is one, with what is beside it: pairs that were
/// read are rows or in quarantine (I-2), and indexes stand once a keyspace is done.
///
/// # Errors
///
/// What does not agree.
pub fn adds_up(target: &Path) -> Result<(), String> {
    if !target.exists() {
        return Ok(());
    }
    let connection = Connection::open(target).map_err(|error| error.to_string())?;
    let body = "SELECT body FROM cutover_record";
    let Ok(body) = connection.query_one(body, [], |row| row.get::<_, String>(0)) else {
        return Ok(());
    };
    let record = Record::decode(body.as_bytes()).map_err(|error| error.to_string())?;
    let count = |from: &str| -> Result<u64, String> {
        let counted = connection
            .query_one(&format!("SELECT count(*) FROM {from}"), [], |row| row.get::<_, i64>(0));
        counted.map(i64::unsigned_abs).map_err(|error| error.to_string())
    };
    for keyspace in &record.keyspaces {
        let table = &keyspace.tables[0];
        let written = count(table)?;
        let kept = record.quarantine().map_or(Ok(0), |_| {
            let (source, keyspace) = (&keyspace.source, &keyspace.keyspace);
            count(&format!("{QUARANTINE} WHERE source = '{source}' AND keyspace = '{keyspace}'"))
        })?;
        let indexes = count(&format!("sqlite_schema WHERE name = '{}'", index_of(table)))?;
        let wanted = u64::from(keyspace.done && keyspace.mapping == NAME);
        // Once it is live, rows are the daemon's.
        let read = record.stage == RecordStage::Live || keyspace.pairs == written + kept;
        if !read || keyspace.quarantined != kept || indexes != wanted {
            return Err(format!(
                "{written} rows, {kept} in quarantine and {indexes} indexes: {keyspace:?}"
            ));
        }
    }
    Ok(())
}
