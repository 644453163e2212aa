//! The daemon of `examples/litd.rs` as it was before it knew of cutover: an old build that an
//! operator still has.
//!
//! `cargo run --example litd-old -- FOLDER` shows it; `… FOLDER --database-backend kv` is the daemon itself.

#![allow(unreachable_pub, reason = "what the parts share is public among them")]

#[path = "litd/kv.rs"]
mod kv;
#[path = "litd/service.rs"]
mod service;

use kv::{Kv, STORES};
use service::{Answer, ask, serve, start};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Opens all three, or says of each that does not open why.
fn open(folder: &Path) -> Answer<Kv> {
    let (mut opened, mut refused) = (BTreeMap::new(), Vec::new());
    for name in STORES {
        match fjall::Database::builder(folder.join(name)).open() {
            Ok(store) => drop(opened.insert(name, store)),
            Err(error) => refused.push(format!("{name}: {error}")),
        }
    }
    if refused.is_empty() {
        Kv::new(|name| opened.remove(name).ok_or_else(|| "no such store".into()))
    } else {
        Err(refused.join("; ").into())
    }
}

fn demo(folder: &Path) -> Answer<()> {
    let (mut daemon, address) = start(folder, &["--database-backend", "kv"])?;
    let lines = ["account ada 100", "session ada phone", "rule 1 daily 20", "dump", "stop"];
    ask(address, &lines)?.iter().for_each(|answer| println!("{answer}"));
    daemon.wait()?;
    Ok(())
}

fn run() -> Answer<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let folder = PathBuf::from(words.first().ok_or("litd-old FOLDER [--database-backend kv]")?);
    std::fs::create_dir_all(&folder)?;
    if words.len() == 1 {
        return demo(&folder);
    }
    serve(&mut open(&folder)?)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("litd-old: {error}");
            ExitCode::FAILURE
        }
    }
}
