//! A disk that is full, and one that fills up half-way.

use super::*;
use crate::common::{read_table, small_daemon, small_plan, small_plan_builder};
use fjall::config::CompressionPolicy;

#[test]
fn a_disk_without_room_for_the_copy_is_refused_before_anything_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let _disk = Mount::memory(folder.path(), 4 * 1024);
    small_daemon(folder.path());
    settle(folder.path());
    let filler = "x".repeat(64 * 1024);
    let mut at = 0;
    while fs::write(folder.path().join(format!("filler-{at}")), &filler).is_ok() {
        at += 1;
    }
    fs::remove_file(folder.path().join("filler-0")).expect("removes");
    refused(
        folder.path(),
        &small_plan(folder.path()),
        |c| matches!(c, Cause::DiskFull { .. }),
        &["the copy needs about", "iB in", "are free; free some and run this again"],
    );
}

/// Stores on `disk`, and their plan: the first is far smaller than its rows are.
pub fn compressed_stores(folder: &Path) -> (BTreeMap<Vec<u8>, Vec<u8>>, Plan) {
    let pairs: BTreeMap<Vec<u8>, Vec<u8>> = (0..2000_u32)
        .map(|i| (i.to_be_bytes().to_vec(), vec![i.to_le_bytes()[0]; 8 * 1024]))
        .collect();
    {
        let accounts = folder.join("accounts");
        let database = fjall::Database::builder(accounts).open().expect("a new store");
        let compressed = || {
            let policy = CompressionPolicy::all(fjall::CompressionType::Lz4);
            fjall::KeyspaceCreateOptions::default().data_block_compression_policy(policy)
        };
        let keyspace = database.keyspace("k", compressed).expect("a keyspace");
        // Straight into compressed tables: the store is far smaller than its pairs are.
        let mut ingestion = keyspace.start_ingestion().expect("begins");
        for (key, value) in &pairs {
            ingestion.write(key.as_slice(), value.as_slice()).expect("writes");
        }
        ingestion.finish().expect("finishes");
        drop(keyspace);
        database.persist(fjall::PersistMode::SyncAll).expect("persists");
    }
    crate::common::write_store(&folder.join("sessions"), &crate::common::small_store(2, 20));
    // What a chunk that failed gives back is room for the journal of what removes it all.
    let plan = small_plan_builder(folder).chunk_bytes(512 * 1024).build().expect("a plan");
    (pairs, plan)
}

#[test]
fn a_disk_that_fills_up_half_way_leaves_a_state_that_goes_on_when_it_has_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Mount::memory(folder.path(), 4 * 1024);
    let (pairs, plan) = compressed_stores(folder.path());
    for _ in 0..2 {
        let error = cutover::sql(&plan, &mut ()).expect_err("the disk fills up");
        // SQLite finds it out while it writes a row, or only while it commits.
        let (Error::Interrupted { step: "copy", cause }
        | Error::OutcomeUnknown { step: "copy", cause }) = &error
        else {
            panic!("{error:?}")
        };
        assert!(matches!(cause, Cause::Engine { engine: "SQLite", .. }), "{cause:?}");
        says(&error, &["database or disk is full", "free", "again"]);
        let copied = read_table(&folder.path().join("target.sqlite"), "accounts_k");
        assert!(!copied.is_empty() && copied.len() < pairs.len());
        assert!(!crate::child::stock_fjall_writes(&folder.path().join("accounts")));
    }
    disk.grow(64 * 1024);
    drop(cutover::sql(&plan, &mut ()).expect("it has room now"));
    assert_eq!(read_table(&folder.path().join("target.sqlite"), "accounts_k"), pairs);
}

#[test]
fn a_disk_that_filled_up_can_be_left_by_going_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let _disk = Mount::memory(folder.path(), 4 * 1024);
    let (_, plan) = compressed_stores(folder.path());
    let before = crate::common::read_store(&folder.path().join("sessions"));
    cutover::sql(&plan, &mut ()).expect_err("the disk fills up");
    let stores = cutover::kv(&plan).expect("rolled back");
    assert!(stores.rolled_back());
    drop(stores);
    assert_eq!(crate::common::read_store(&folder.path().join("sessions")), before);
    assert!(!folder.path().join("target.sqlite.cutover").exists());
}
