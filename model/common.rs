//! What the tests share: a small daemon's stores, its plan, and looking at what is on disk.

use cutover::{Plan, PlanBuilder, SourceBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The pairs of a store: by keyspace, then by key.
pub type Pairs = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Writes `pairs` as a program that knows nothing of cutover does.
pub fn write_store(path: &Path, pairs: &Pairs) {
    let database = fjall::Database::builder(path).open().expect("a new store");
    for (name, pairs) in pairs {
        let keyspace =
            database.keyspace(name, fjall::KeyspaceCreateOptions::default).expect("a keyspace");
        for (key, value) in pairs {
            keyspace.insert(key.as_slice(), value.as_slice()).expect("inserts");
        }
    }
    database.persist(fjall::PersistMode::SyncAll).expect("persists");
}

/// What a stock program reads from a store.
pub fn read_store(path: &Path) -> Pairs {
    let database = fjall::Database::builder(path).open().expect("opens");
    let mut pairs = Pairs::new();
    for name in database.list_keyspace_names() {
        let keyspace =
            database.keyspace(&name, fjall::KeyspaceCreateOptions::default).expect("a keyspace");
        let read = keyspace.iter().map(|pair| {
            let (key, value) = pair.into_inner().expect("reads");
            (key.to_vec(), value.to_vec())
        });
        pairs.insert(name.to_string(), read.collect());
    }
    pairs
}

/// What a plain connection reads from a blob table.
pub fn read_table(target: &Path, table: &str) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let connection = rusqlite::Connection::open(target).expect("opens");
    let mut statement =
        connection.prepare(&format!("SELECT key, value FROM \"{table}\"")).expect("a table");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("reads")
}

/// All that `queries` return, one after the other.
pub fn rows_of(target: &Path, queries: &[&str]) -> Vec<Vec<rusqlite::types::Value>> {
    let connection = rusqlite::Connection::open(target).expect("opens");
    let mut all = Vec::new();
    for query in queries {
        let mut statement = connection.prepare(query).expect(query);
        let columns = statement.column_count();
        let rows = statement
            .query_map([], |row| (0..columns).map(|column| row.get(column)).collect())
            .expect(query);
        all.extend(rows.map(|row| row.expect(query)));
    }
    all
}

/// How many entries the schema of an SQL database has; none where there is no such file.
pub fn schema_entries(target: &Path) -> i64 {
    if !target.exists() {
        return 0;
    }
    let connection = rusqlite::Connection::open(target).expect("opens");
    connection.query_one("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("reads")
}

/// The small stores of a small daemon: `pairs_each` pairs in each of two keyspaces.
pub fn small_store(seed: u8, pairs_each: u8) -> Pairs {
    let keyspace = |tag: u8| {
        (0..pairs_each).map(|i| (vec![tag, i], vec![seed, tag, i, i.wrapping_mul(31)])).collect()
    };
    Pairs::from([("first".to_owned(), keyspace(1)), ("second".to_owned(), keyspace(2))])
}

/// The sources of the small daemon, all in one folder.
pub const SOURCES: [&str; 2] = ["accounts", "sessions"];

/// The keyspaces of each.
pub const KEYSPACES: [&str; 2] = ["first", "second"];

/// Makes the small daemon's stores in `folder`.
pub fn small_daemon(folder: &Path) {
    for (seed, name) in (1..).zip(SOURCES) {
        write_store(&folder.join(name), &small_store(seed, 20));
    }
}

/// The small daemon's plan, before it is built.
pub fn small_plan_builder(folder: &Path) -> PlanBuilder {
    small_plan_of(&SOURCES, folder)
}

/// The plan of some of the small daemon's stores, before it is built.
pub fn small_plan_of(sources: &[&str], folder: &Path) -> PlanBuilder {
    small_plan_with(sources, folder, |_, source| source.every_keyspace())
}

/// The same of sources that `define` defines.
pub fn small_plan_with(
    sources: &[&str],
    folder: &Path,
    define: impl Fn(&str, SourceBuilder) -> SourceBuilder,
) -> PlanBuilder {
    sources
        .iter()
        .fold(Plan::builder("small"), |plan, name| {
            plan.source(*name, folder.join(name), |source| define(name, source))
        })
        .target(folder.join("target.sqlite"))
        // Several chunks for each keyspace.
        .chunk_bytes(60)
}

/// The small daemon's plan.
pub fn small_plan(folder: &Path) -> Plan {
    small_plan_builder(folder).build().expect("a plan")
}

/// As a daemon that is told to use SQL; fault points are armed by the environment.
pub fn drive_to_sql(folder: &Path) {
    cutover::fault::arm_from_environment();
    cutover::sql(&small_plan(folder), &mut ()).expect("SQL");
}

/// A folder in memory, where there is one: a kill leaves the page cache alone, and looking needs no
/// durability.
pub fn folder_in_memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.expect("a folder")
}

/// Copies a folder with all that is in it.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a kind").is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            copy_file(&entry.path(), &to);
        }
    }
}

/// The same, in the place of whatever folder is there.
pub fn copy_tree_anew(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).expect("removes");
    }
    copy_tree(from, to);
}

/// Copies a file and its holes: most of fjall's journal, 64 MiB long, is one.
fn copy_file(from: &Path, to: &Path) {
    use std::os::unix::fs::FileExt;
    let source = fs::File::open(from).expect("opens");
    let target = fs::File::create(to).expect("creates");
    target.set_len(source.metadata().expect("looks").len()).expect("grows");
    visit_data(&source, |at, bytes| target.write_all_at(bytes, at).expect("writes"));
}

/// Gives every part of a file that is not a hole to `visit`.
pub fn visit_data(file: &fs::File, mut visit: impl FnMut(u64, &[u8])) {
    use rustix::fs::{SeekFrom, seek};
    use std::os::unix::fs::FileExt;
    let length = file.metadata().expect("looks").len();
    let mut at = 0;
    while at < length {
        // No data behind here is an error.
        let Ok(data) = seek(file, SeekFrom::Data(at)) else { break };
        at = seek(file, SeekFrom::Hole(data)).expect("an end");
        let mut bytes = vec![0; usize::try_from(at - data).expect("fits")];
        file.read_exact_at(&mut bytes, data).expect("reads");
        visit(data, &bytes);
    }
}

/// The content of each file by its name; none of a folder.
pub type Snapshot = BTreeMap<String, Option<Vec<u8>>>;

/// The names that only one of the two has, or whose content differs.
pub fn changed<'a>(before: &'a Snapshot, after: &'a Snapshot) -> Vec<&'a String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).collect()
}

/// Every file below `folder` with its content, and every folder with none: to see that nothing was
/// changed or created.
pub fn snapshot(folder: &Path) -> Snapshot {
    let mut found = Snapshot::new();
    for entry in fs::read_dir(folder).expect("lists") {
        let path = entry.expect("lists").path();
        let name = path.display().to_string();
        if path.is_dir() {
            found.insert(name, None);
            found.extend(snapshot(&path));
        } else {
            found.insert(name, fs::read(&path).ok());
        }
    }
    found
}

/// How many of the double kills are tried for a migration; other sampled sweeps follow it.
pub fn samples() -> usize {
    std::env::var("CUTOVER_SWEEP").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// Whether what is found is committed, or printed to be, and not compared with what was.
pub fn pins() -> bool {
    std::env::var_os("CUTOVER_PIN").is_some()
}

/// Compares with the file at `path`, which is committed; `CUTOVER_PIN=1` commits what was found, to
/// be read as a diff.
pub fn pinned(path: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if pins() {
        fs::write(path, found).expect("writes");
    } else {
        let committed = fs::read_to_string(&path).expect("a committed file");
        assert_eq!(found, committed, "{} has changed", path.display());
    }
}
