//! LDK's `migrate_kv_store_data`, from its file-system store into ldk-node's SQLite store, as they
//! are published: `ldk fill|migrate FOLDER PAIRS VALUE_BYTES`.

use ldk_node::io::sqlite_store::SqliteStore;
use lightning::io::Error;
use lightning::util::persist::{KVStoreSync, MigratableKVStore, migrate_kv_store_data};
use lightning_persister::fs_store::FilesystemStore;
use std::fs;
use std::path::Path;
use std::time::Instant;

const NAMESPACE: &str = "pairs";

/// ldk-node's store with the one method more that the migration asks of a target, and never calls.
struct Target(SqliteStore);

impl KVStoreSync for Target {
    fn read(&self, primary: &str, secondary: &str, key: &str) -> Result<Vec<u8>, Error> {
        KVStoreSync::read(&self.0, primary, secondary, key)
    }

    fn write(
        &self,
        primary: &str,
        secondary: &str,
        key: &str,
        value: Vec<u8>,
    ) -> Result<(), Error> {
        KVStoreSync::write(&self.0, primary, secondary, key, value)
    }

    fn remove(&self, primary: &str, secondary: &str, key: &str, lazy: bool) -> Result<(), Error> {
        KVStoreSync::remove(&self.0, primary, secondary, key, lazy)
    }

    fn list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, Error> {
        KVStoreSync::list(&self.0, primary, secondary)
    }
}

impl MigratableKVStore for Target {
    fn list_all_keys(&self) -> Result<Vec<(String, String, String)>, Error> {
        let keys = KVStoreSync::list(&self.0, NAMESPACE, "")?;
        Ok(keys.into_iter().map(|key| (NAMESPACE.to_owned(), String::new(), key)).collect())
    }
}

/// The files as LDK's store lays them: `primary/key`. It would sync each; that is not measured.
fn fill(folder: &Path, pairs: u64, value_bytes: usize) {
    let files = folder.join("files").join(NAMESPACE);
    fs::create_dir_all(&files).expect("a folder");
    for number in 0..pairs {
        let value = [number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes(); 1].concat();
        let value: Vec<u8> = value.iter().copied().cycle().take(value_bytes).collect();
        fs::write(files.join(format!("key-{number:020}")), value).expect("writes");
    }
}

fn migrate(folder: &Path, pairs: u64) {
    let mut source = FilesystemStore::new(folder.join("files"));
    let begun = Instant::now();
    let store = SqliteStore::new(folder.join("sql"), None, None).expect("a store");
    let mut target = Target(store);
    migrate_kv_store_data(&mut source, &mut target).expect("migrates");
    let seconds = begun.elapsed().as_secs_f64();
    let found = target.list_all_keys().expect("lists").len();
    assert_eq!(u64::try_from(found).expect("a count"), pairs);
    println!("{seconds} {}", peak_kibibytes());
}

fn peak_kibibytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [part, folder, pairs, value_bytes] = words.as_slice() else { panic!("four words") };
    let (folder, pairs) = (Path::new(folder), pairs.parse().expect("pairs"));
    match part.as_str() {
        "fill" => fill(folder, pairs, value_bytes.parse().expect("bytes")),
        "migrate" => migrate(folder, pairs),
        other => panic!("no such part: {other}"),
    }
}
