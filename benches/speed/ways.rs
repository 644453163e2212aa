//! The ways to move a store: ours, and everybody else's. Each is a child process, which tells its
//! seconds and its peak memory.

use crate::store::sorted;
use cutover::Plan;
use rusqlite::{Connection, params};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

/// The first word of a child's.
pub const CHILD: &str = "child";

/// Who does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// This library: seal, copy, verify by re-reading, commit, tombstones, live.
    Cutover,
    /// One transaction in WAL, an `INSERT` for each pair into a WITHOUT ROWID table; no check.
    Hour,
    /// Chunks; an `INSERT` for each pair, and a `SELECT` for each pair afterwards, through kvdb's table.
    Lndinit,
    /// The pairs in memory, into SQLite without journal or sync, row by row; one fsync at the end.
    Floor,
    /// The same, with 64 rows in each statement.
    FloorMany,
    /// The same, into a table with row ids, as cutover makes one where a row is wide for its page.
    FloorIds,
    /// The pairs in memory, written one after the other into a file; one fsync at the end.
    Plain,
    /// LDK's `migrate_kv_store_data`, a program of its own.
    Ldk,
}

impl Way {
    const ALL: [Self; 8] = [
        Self::Cutover,
        Self::Hour,
        Self::Lndinit,
        Self::Floor,
        Self::FloorMany,
        Self::FloorIds,
        Self::Plain,
        Self::Ldk,
    ];

    /// Its name, in tables and as a child's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cutover => "cutover",
            Self::Hour => "the hour's work",
            Self::Lndinit => "the lndinit way",
            Self::Floor => "SQLite floor",
            Self::FloorMany => "SQLite floor, 64 rows a statement",
            Self::FloorIds => "SQLite floor, 64 rows a statement, with row ids",
            Self::Plain => "plain write",
            Self::Ldk => "LDK",
        }
    }

    /// Whether it needs no store: its pairs are made in memory, before its time begins.
    pub const fn is_floor(self) -> bool {
        match self {
            Self::Floor | Self::FloorMany | Self::FloorIds | Self::Plain => true,
            Self::Cutover | Self::Hour | Self::Lndinit | Self::Ldk => false,
        }
    }
}

/// A child's part: `WAY FOLDER PAIRS VALUE_BYTES`. Prints seconds and the peak memory in KiB.
pub fn play(words: &[String]) {
    if let [part, folder] = words
        && part == "open"
    {
        return crate::opening::play(Path::new(folder));
    }
    let [way, folder, pairs, value_bytes] = words else { panic!("four words") };
    let way = Way::ALL.into_iter().find(|one| one.name() == way).expect("a way");
    let folder = Path::new(folder);
    let (store, target) = (folder.join("store"), folder.join("target.sqlite"));
    let pairs: u64 = pairs.parse().expect("pairs");
    let sorted = if way.is_floor() {
        sorted(pairs, value_bytes.parse().expect("bytes"))
    } else {
        Vec::new()
    };
    let begun = Instant::now();
    match way {
        Way::Cutover => migrate(&store, &target),
        Way::Hour => hour(&store, &target),
        Way::Lndinit => lndinit(&store, &target),
        Way::Floor => floor(&sorted, &target, BLOBS, 1),
        Way::FloorMany => floor(&sorted, &target, BLOBS, 64),
        Way::FloorIds => floor(&sorted, &target, BLOBS_WITH_IDS, 64),
        Way::Plain => plain(&sorted, &target),
        Way::Ldk => panic!("LDK is a program of its own"),
    }
    let seconds = begun.elapsed().as_secs_f64();
    if way != Way::Plain {
        check(&target, pairs);
    }
    println!("{seconds} {}", peak_kibibytes());
}

/// The most memory that this process had.
fn peak_kibibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

/// Anyone who is fast because he left rows out is found here.
fn check(target: &Path, pairs: u64) {
    let connection = Connection::open(target).expect("opens");
    let tables = "SELECT name FROM sqlite_schema
         WHERE type = 'table' AND (name LIKE 'store_pairs%' OR name = 'kv')";
    let mut statement = connection.prepare(tables).expect("prepares");
    let tables = statement.query_map([], |row| row.get(0)).expect("queries");
    let rows = |table: String| -> i64 {
        let count = format!("SELECT count(value) FROM {table}");
        connection.query_row(&count, [], |row| row.get(0)).expect("counts")
    };
    let rows: i64 = tables.map(|table| rows(table.expect("a table"))).sum();
    assert_eq!(u64::try_from(rows).expect("a count"), pairs);
}

/// The plan that all of it is about.
pub fn plan(store: &Path, target: &Path) -> Plan {
    Plan::builder("speed")
        .source("store", store, |s| s.every_keyspace())
        .target(target)
        .build()
        .expect("a plan")
}

fn migrate(store: &Path, target: &Path) {
    let mut watch = Watch { last: Instant::now(), tell: std::env::var_os("SPEED_STEPS").is_some() };
    drop(cutover::sql(&plan(store, target), &mut watch).expect("SQL"));
    watch.tell("end");
}

/// Tells how long each step took, where the environment asks for it.
struct Watch {
    last: Instant,
    tell: bool,
}

impl Watch {
    fn tell(&mut self, name: &str) {
        if self.tell {
            eprintln!("{:8.1} ms {name}", self.last.elapsed().as_secs_f64() * 1e3);
            self.last = Instant::now();
        }
    }
}

impl cutover::Observer for Watch {
    fn step(&mut self, name: &str, _: &str) {
        self.tell(name);
    }
}

/// The store, as a program that reads it opens it.
fn opened(store: &Path) -> fjall::Database {
    fjall::Database::builder(store).open().expect("opens")
}

/// Each keyspace of a store, and its name.
fn keyspaces(database: &fjall::Database) -> Vec<(String, fjall::Keyspace)> {
    let names = database.list_keyspace_names();
    let names = names.iter().map(ToString::to_string);
    let options = fjall::KeyspaceCreateOptions::default;
    names
        .map(|name| {
            let keyspace = database.keyspace(&name, options).expect("a keyspace");
            (name, keyspace)
        })
        .collect()
}

/// Each pair of a keyspace, as a program that reads it gets it.
fn each_pair(keyspace: &fjall::Keyspace, mut visit: impl FnMut(&[u8], &[u8])) {
    for pair in keyspace.iter() {
        let (key, value) = pair.into_inner().expect("reads");
        visit(&key, &value);
    }
}

const BLOBS: &str =
    "CREATE TABLE store_pairs (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID";

const BLOBS_WITH_IDS: &str = "CREATE TABLE store_pairs (key BLOB PRIMARY KEY, value BLOB NOT NULL)";

fn hour(store: &Path, target: &Path) {
    let mut connection = Connection::open(target).expect("opens");
    connection.pragma_update(None, "journal_mode", "WAL").expect("WAL");
    let transaction = connection.transaction().expect("begins");
    let database = opened(store);
    for (name, keyspace) in keyspaces(&database) {
        let create = BLOBS.replace("store_pairs", &format!("store_{name}"));
        transaction.execute(&create, []).expect("a table");
        let mut insert = transaction
            .prepare(&format!("INSERT INTO store_{name} VALUES (?1, ?2)"))
            .expect("prepares");
        each_pair(&keyspace, |key, value| {
            insert.execute(params![key, value]).expect("inserts");
        });
    }
    transaction.commit().expect("commits");
    drop(connection);
}

/// The table, the statements and the chunks of lndinit's `migrate-db` into SQLite: its key-value
/// layer keeps all buckets in one table and prepares each statement anew, and its verification walks
/// the target with a `SELECT` for each next key.
fn lndinit(store: &Path, target: &Path) {
    const CHUNK_BYTES: usize = 20 * 1024 * 1024;
    let connection = Connection::open(target).expect("opens");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = on;
             CREATE TABLE kv (
                 key BLOB NOT NULL, value BLOB, parent_id BIGINT, id INTEGER PRIMARY KEY,
                 sequence BIGINT,
                 CONSTRAINT parent FOREIGN KEY (parent_id) REFERENCES kv (id) ON DELETE CASCADE);
             CREATE INDEX kv_p ON kv (parent_id);
             CREATE UNIQUE INDEX kv_up ON kv (parent_id, key) WHERE parent_id IS NOT NULL;
             CREATE UNIQUE INDEX kv_unp ON kv (key) WHERE parent_id IS NULL;
             INSERT INTO kv (key, id) VALUES (x'00', 1);
             BEGIN;",
        )
        .expect("a table");
    let mut chunk = 0;
    let database = opened(store);
    let [(_, keyspace)] = &keyspaces(&database)[..] else { panic!("one keyspace") };
    each_pair(keyspace, |key, value| {
        let mut insert = connection
            .prepare(
                "INSERT INTO kv (key, value, parent_id) VALUES (?1, ?2, 1)
                 ON CONFLICT (parent_id, key) WHERE parent_id IS NOT NULL
                 DO UPDATE SET value = ?2 WHERE kv.value IS NOT NULL",
            )
            .expect("prepares");
        insert.execute(params![key, value]).expect("inserts");
        chunk += key.len() + value.len();
        if chunk >= CHUNK_BYTES {
            connection.execute_batch("COMMIT; BEGIN").expect("commits");
            chunk = 0;
        }
    });
    connection.execute_batch("COMMIT").expect("commits");
    let mut last: Vec<u8> = Vec::new();
    loop {
        let mut next = connection
            .prepare(
                "SELECT key, value FROM kv WHERE parent_id = 1 AND key > ?1 ORDER BY key LIMIT 1",
            )
            .expect("prepares");
        let mut rows = next.query([&last]).expect("queries");
        let Some(row) = rows.next().expect("steps") else { break };
        last = row.get(0).expect("a key");
        let value: Vec<u8> = row.get(1).expect("a value");
        std::hint::black_box(value);
    }
}

/// Into a new file with pages of 16 KiB, or into the one that is there, with those that it has.
fn floor(pairs: &[(Vec<u8>, Vec<u8>)], target: &Path, create: &str, rows: usize) {
    let connection = Connection::open(target).expect("opens");
    connection
        .execute_batch(
            "PRAGMA page_size = 16384; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN",
        )
        .expect("prepares");
    connection.execute(create, []).expect("a table");
    let insert = |rows: usize| {
        let values = vec!["(?, ?)"; rows].join(", ");
        connection.prepare(&format!("INSERT INTO store_pairs VALUES {values}")).expect("prepares")
    };
    let mut many = insert(rows);
    let mut one = insert(1);
    let whole = pairs.chunks_exact(rows);
    let rest = whole.remainder();
    for chunk in whole {
        for (at, (key, value)) in chunk.iter().enumerate() {
            many.raw_bind_parameter(2 * at + 1, key.as_slice()).expect("binds");
            many.raw_bind_parameter(2 * at + 2, value.as_slice()).expect("binds");
        }
        many.raw_execute().expect("inserts");
    }
    for (key, value) in rest {
        one.execute(params![key, value]).expect("inserts");
    }
    connection.execute_batch("COMMIT").expect("commits");
    File::open(target).and_then(|file| file.sync_all()).expect("syncs");
}

fn plain(pairs: &[(Vec<u8>, Vec<u8>)], target: &Path) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(target).expect("creates"));
    for (key, value) in pairs {
        file.write_all(key).and_then(|()| file.write_all(value)).expect("writes");
    }
    let file = file.into_inner().expect("flushes");
    file.sync_all().expect("syncs");
}
