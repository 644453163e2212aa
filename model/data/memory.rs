//! Memory is bounded by the chunk and the caches, whatever the stores' size.

use crate::child;
use cutover::Plan;
use std::path::Path;

/// How many pairs the large store has, unless the environment says otherwise.
const PAIRS_ENVIRONMENT: &str = "CUTOVER_PAIRS";
const PAIRS_DEFAULT: u32 = 1_000_000;

/// How much more a store that is ten times as large may cost.
const GROWTH_KIBIBYTES_MAX: u64 = 96 * 1024;

/// A store of `pairs` pairs of 24 and 150 bytes.
fn write_large_store(path: &Path, pairs: u32) {
    let database = fjall::Database::builder(path).open().expect("a new store");
    let keyspace =
        database.keyspace("k", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    let mut ingestion = keyspace.start_ingestion().expect("begins");
    for i in 0..pairs {
        let key = format!("a key with 24 b {i:08}");
        let value = [i.wrapping_mul(2_654_435_761).to_le_bytes(); 38].concat();
        ingestion.write(key.as_bytes(), &value[..150]).expect("writes");
    }
    ingestion.finish().expect("finishes");
    drop(keyspace);
    database.persist(fjall::PersistMode::SyncAll).expect("persists");
}

/// A child's part: migrates, and tells the most memory that it had.
pub fn migrate_and_tell_memory(folder: &Path) {
    let plan = Plan::builder("large")
        .source("large", folder.join("large"), |s| s.every_keyspace())
        .target(folder.join("target.sqlite"))
        .build()
        .expect("a plan");
    drop(cutover::sql(&plan, &mut ()).expect("SQL"));
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak"));
}

fn peak_kibibytes(pairs: u32) -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    write_large_store(&folder.path().join("large"), pairs);
    let output = child::run(&["migrate-and-tell-memory", folder.path().to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: i64 = rusqlite::Connection::open(folder.path().join("target.sqlite"))
        .expect("opens")
        .query_one("SELECT count(*) FROM large_k", [], |row| row.get(0))
        .expect("counts");
    assert_eq!(rows, i64::from(pairs));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (_, after) = text.split_once("VmHWM:").expect("a peak");
    after.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

#[test]
fn ten_times_the_pairs_do_not_take_ten_times_the_memory() {
    let pairs = std::env::var(PAIRS_ENVIRONMENT)
        .map_or(PAIRS_DEFAULT, |text| text.parse().expect("a number of pairs"));
    let small = peak_kibibytes(pairs / 10);
    let large = peak_kibibytes(pairs);
    println!("{small} KiB for {} pairs, {large} KiB for {pairs}", pairs / 10);
    assert!(large < small + GROWTH_KIBIBYTES_MAX, "{small} KiB, then {large} KiB");
}
