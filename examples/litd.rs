//! A small daemon with three stores that refer to each other: accounts, sessions of accounts, rules
//! of sessions. It moves them from fjall into SQL when it is asked to, and asks back first.
//!
//! `cargo run --example litd -- FOLDER` shows it all in a minute;
//! `… FOLDER --database-backend kv|sqlite [--approve]` is the daemon itself. `examples/litd-old.rs` is the same daemon
//! before it was ported, and `examples/litd/port.rs` the port.

#![allow(unreachable_pub, reason = "what the parts share is public among them")]

#[path = "litd/kv.rs"]
mod kv;
#[path = "litd/port.rs"]
mod port;
#[path = "litd/service.rs"]
mod service;
#[path = "litd/sql.rs"]
mod sql;

use cutover::{Found, Plan, ticket};
use kv::Kv;
use service::{Answer, Ledger, ask, serve, start};
use sql::Sql;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn on_kv(folder: &Path, plan: &Plan) -> Answer<Kv> {
    let mut stores = match cutover::kv(plan) {
        Ok(stores) => stores,
        Err(error) => {
            // The store that an operator would look for first.
            let sources = cutover::status(plan)?.sources;
            let moved = sources.into_iter().find(|source| source.marker != "none");
            let moved = moved.map_or_else(String::new, |s| format!("{} at {}: ", s.name, s.path));
            return Err(format!("{moved}{error}").into());
        }
    };
    if stores.rolled_back() {
        eprintln!("litd: a migration that was not finished was taken back");
    }
    // A store that is not there yet the daemon makes itself, as it always did.
    let new = |name: &str| fjall::Database::builder(folder.join(name)).open();
    Kv::new(|name| Ok(stores.take(name).map_or_else(|| new(name), Ok)?))
}

fn on_sqlite(folder: &Path, plan: &Plan, approved: bool) -> Answer<Sql> {
    match cutover::open(plan)? {
        Found::Fresh(_) if !approved && kv::STORES.iter().any(|s| folder.join(s).exists()) => {
            return Err("this moves accounts, sessions and rules into SQL for good; \
                        an older litd will not start on them; say --approve"
                .into());
        }
        Found::RerunAllowed(_) if !approved => {
            return Err("the SQL database is gone; restore it, or say --approve to copy the \
                        old stores once more, without what was written since they were moved"
                .into());
        }
        Found::RerunAllowed(handle) => {
            drop(handle.rerun(ticket::Rerun::losing_writes_made_in_sql())?);
        }
        // What was approved once goes on by itself.
        Found::Fresh(_) | Found::Migrating(_) | Found::Committed(_) | Found::Tombstoned(_) => {}
    }
    Ok(Sql::new(cutover::sql(plan, &mut ())?))
}

fn demo(folder: &Path) -> Answer<()> {
    let dump = |words: &[&str], lines: &[&str]| -> Answer<Vec<String>> {
        println!("$ litd {}", words.join(" "));
        let (mut daemon, address) = start(folder, words)?;
        let lines = [lines, &["dump", "stop"]].concat();
        let answers = ask(address, &lines)?;
        daemon.wait()?;
        println!("  {}", answers.join("\n  "));
        Ok(answers)
    };
    let kv = ["--database-backend", "kv"];
    let seed = ["account ada 100", "account bob 50", "session ada phone", "rule 1 daily 20"];
    let before = dump(&kv, &seed)?;
    let after = dump(&["--database-backend", "sqlite", "--approve"], &[])?;
    if !before.ends_with(&after) {
        return Err("SQL has something else".into());
    }
    println!("$ litd {}", kv.join(" "));
    start(folder, &kv).err().ok_or("a start on kv must be refused")?;
    Ok(())
}

fn run() -> Answer<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [folder, words @ ..] = words.as_slice() else {
        return Err("litd FOLDER [--database-backend kv|sqlite [--approve]]".into());
    };
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    let mut ledger: Box<dyn Ledger> = match words {
        [] => return demo(&folder),
        ["--database-backend", "kv"] => Box::new(on_kv(&folder, &port::plan(&folder)?)?),
        ["--database-backend", "sqlite"] => {
            Box::new(on_sqlite(&folder, &port::plan(&folder)?, false)?)
        }
        ["--database-backend", "sqlite", "--approve"] => {
            Box::new(on_sqlite(&folder, &port::plan(&folder)?, true)?)
        }
        _ => return Err("--database-backend kv, or --database-backend sqlite [--approve]".into()),
    };
    serve(ledger.as_mut())
}

fn main() -> ExitCode {
    // The tests of this example make it fail and die at chosen instants.
    #[cfg(feature = "__faults")]
    cutover::fault::arm_from_environment();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("litd: {error}");
            ExitCode::FAILURE
        }
    }
}
