//! A daemon of one function: it counts its starts, on the KV store or in SQL.
//!
//! `cargo run --example daemon -- FOLDER` starts it twice on fjall and twice on SQLite, as an operator would who
//! changes its configuration in between.

use cutover::Plan;
use std::error::Error;
use std::path::{Path, PathBuf};

fn plan(folder: &Path) -> Result<Plan, cutover::Error> {
    Plan::builder("counter")
        .source("state", folder.join("state"), |s| s.blobs("counters").may_be_missing())
        .target(folder.join("counter.sqlite"))
        .build()
}

fn start_on_kv(folder: &Path) -> Result<u64, Box<dyn Error>> {
    let store = match cutover::kv(&plan(folder)?)?.take("state") {
        Some(store) => store,
        // The first start ever: the daemon makes its store itself, as it always did.
        None => fjall::Database::builder(folder.join("state")).open()?,
    };
    let counters = store.keyspace("counters", fjall::KeyspaceCreateOptions::default)?;
    let starts = counters.get("starts")?.map_or(0, |value| number(&value)) + 1;
    counters.insert("starts", starts.to_be_bytes())?;
    store.persist(fjall::PersistMode::SyncAll)?;
    Ok(starts)
}

fn start_on_sql(folder: &Path) -> Result<u64, Box<dyn Error>> {
    let connection = cutover::sql(&plan(folder)?, &mut ())?;
    let read = "SELECT value FROM state_counters WHERE key = CAST('starts' AS BLOB)";
    let starts = connection.query_one(read, [], |row| row.get(0).map(|v: Vec<u8>| number(&v)))? + 1;
    let write = "UPDATE state_counters SET value = ?1 WHERE key = CAST('starts' AS BLOB)";
    connection.execute(write, [starts.to_be_bytes().as_slice()])?;
    Ok(starts)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map(u64::from_be_bytes).unwrap_or_default()
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("give it a folder")?;
    std::fs::create_dir_all(&folder)?;
    for _ in 0..2 {
        println!("start {} on fjall", start_on_kv(&folder)?);
    }
    for _ in 0..2 {
        println!("start {} on SQLite", start_on_sql(&folder)?);
    }
    let refused = start_on_kv(&folder).err().ok_or("a start on fjall must be refused now")?;
    println!("a start on fjall: {refused}");
    Ok(())
}
