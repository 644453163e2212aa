//! A daemon's whole life, act by act.

use super::disk::{VICTIM, mark};
use crate::common::{KEYSPACES, SOURCES, small_plan_of, small_plan_with, small_store, write_store};
use crate::crash::{play_plan, with_missing};
use crate::picky;
use cutover::{Aborted, Error, Found, JournalMode, Plan, ticket};
use std::fs;
use std::path::{Path, PathBuf};

/// The stores that are there: of one source, of two, or of three, one of which is missing.
pub fn stores(sources: usize) -> &'static [&'static str] {
    if sources == 1 { &SOURCES[..1] } else { &SOURCES }
}

/// Where the stores are: one is far from the target, others share its folder. Where names are in one
/// folder, a sync of it for one of them is one for all.
pub fn home(folder: &Path, sources: usize) -> PathBuf {
    if sources == 1 { folder.join("data/kv") } else { folder.to_owned() }
}

pub fn target(folder: &Path, sources: usize) -> PathBuf {
    if sources == 1 {
        folder.join("data/db/sql/target.sqlite")
    } else {
        folder.join("target.sqlite")
    }
}

/// Of three sources also with a quarantine and indexes.
pub fn plan(folder: &Path, sources: usize) -> Plan {
    let home = home(folder, sources);
    let stores = stores(sources);
    let plan = match sources {
        1 => small_plan_of(stores, &home),
        2 => small_plan_of(stores, &home).journal_mode(JournalMode::Wal),
        _ => with_missing(small_plan_with(stores, &home, picky::define), &home),
    };
    plan.target(target(folder, sources)).build().expect("a plan")
}

/// What a person wants of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Kv,
    Sql,
    Reclaim,
}

impl Wish {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kv => "settle-kv",
            Self::Sql => "settle-sql",
            Self::Reclaim => "settle-reclaim",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Kv,
    Sql,
}

/// Opens, and takes the plain next step, until the state is final. With the end: whether it was
/// found to wait for a person, or an abort before the commit point came to that. `say` hears what a
/// person must have said: "rerun", or that the stores are to be given "back".
pub fn settle(plan: &Plan, wish: Wish, say: &dyn Fn(&str)) -> Result<(End, bool), Error> {
    let mut found = cutover::open(plan)?;
    let mut asked = matches!(found, Found::RerunAllowed(_));
    loop {
        match (found, wish) {
            (Found::Fresh(handle), Wish::Kv) => {
                drop(handle.into_kv()?);
                return Ok((End::Kv, asked));
            }
            (Found::Fresh(handle), Wish::Sql | Wish::Reclaim) => drop(handle.begin()?),
            (Found::Migrating(handle), Wish::Kv) => match handle.abort()? {
                Aborted::Fresh(handle) => drop(handle),
                Aborted::RerunAllowed(handle) => {
                    asked = true;
                    drop(handle);
                }
            },
            (Found::Migrating(handle), Wish::Sql | Wish::Reclaim) => drop(handle.run(&mut ())?),
            (Found::Committed(handle), Wish::Kv) => {
                say("back");
                drop(handle.abort(ticket::AbortCommitted::losing_the_committed_copy())?);
            }
            (Found::Committed(handle), Wish::Sql | Wish::Reclaim) => drop(handle.finish()?),
            (Found::Tombstoned(handle), Wish::Reclaim) => {
                let ticket = ticket::Reclaim::losing_the_way_back();
                drop(handle.reclaim(ticket)?.into_sql()?);
                return Ok((End::Sql, asked));
            }
            (Found::Tombstoned(handle), Wish::Kv | Wish::Sql) => {
                drop(handle.into_sql()?);
                return Ok((End::Sql, asked));
            }
            (Found::RerunAllowed(handle), Wish::Kv) => {
                say("back");
                drop(handle.restore_kv(ticket::RestoreKv::losing_writes_made_in_sql())?);
            }
            (Found::RerunAllowed(handle), Wish::Sql | Wish::Reclaim) => {
                say("rerun");
                match handle.rerun(ticket::Rerun::losing_writes_made_in_sql()) {
                    Ok(handle) => drop(handle),
                    // What is being given back is given back, whatever is wished.
                    Err(failed) if failed.error.to_string().contains("being given back") => {
                        drop(failed);
                        return settle(plan, Wish::Kv, say);
                    }
                    Err(failed) => return Err(failed.into()),
                }
            }
        }
        found = cutover::open(plan)?;
    }
}

/// The daemon's own writes in an act, each acknowledged before the next.
const WRITES: u8 = 2;

fn kv_key(number: u8) -> Vec<u8> {
    vec![7, number]
}

/// Longer than a sector, so that a write of it can be torn.
pub fn value(number: u8) -> Vec<u8> {
    vec![number; 1500]
}

fn sql_key(number: u8) -> Vec<u8> {
    vec![8, number]
}

/// A child's part: one act of a life in `folder`, whose disk kills it after this many operations.
pub fn act(act: &str, folder: &Path, sources: usize, killed_at: &str) -> Result<(), Error> {
    let plan = plan(folder, sources);
    if !killed_at.is_empty() {
        mark(folder, &format!("{VICTIM}{killed_at}"));
    }
    match act {
        "create" => {
            create(folder, sources);
            Ok(())
        }
        "kv-writes" => {
            let database = cutover::kv(&plan)?.take(SOURCES[0]).expect("a store");
            let options = fjall::KeyspaceCreateOptions::default;
            let keyspace = database.keyspace(KEYSPACES[0], options).expect("a keyspace");
            let written = keyspace.prefix([7]).count();
            for number in (u8::try_from(written).expect("few")..).take(WRITES.into()) {
                mark(folder, &format!("kv begun {number}"));
                keyspace.insert(kv_key(number), value(number)).expect("inserts");
                database.persist(fjall::PersistMode::SyncAll).expect("persists");
                mark(folder, &format!("kv acknowledged {number}"));
            }
            Ok(())
        }
        "sql-writes" => {
            let connection = cutover::sql(&plan, &mut ())?;
            let table = format!("{}_{}", SOURCES[0], KEYSPACES[0]);
            let count = format!("SELECT count(*) FROM {table} WHERE substr(key, 1, 1) = x'08'");
            let written: u8 = connection.query_one(&count, [], |row| row.get(0)).expect("reads");
            for number in (written..).take(WRITES.into()) {
                mark(folder, &format!("sql begun {number}"));
                connection
                    .execute(
                        &format!("INSERT INTO {table} VALUES (?1, ?2)"),
                        (sql_key(number), value(number)),
                    )
                    .expect("inserts");
                mark(folder, &format!("sql acknowledged {number}"));
            }
            Ok(())
        }
        "settle-kv" => settle_and_tell(&plan, Wish::Kv, folder),
        "settle-sql" => settle_and_tell(&plan, Wish::Sql, folder),
        "settle-reclaim" => settle_and_tell(&plan, Wish::Reclaim, folder),
        act => play_plan(act, &plan),
    }
}

fn settle_and_tell(plan: &Plan, wish: Wish, folder: &Path) -> Result<(), Error> {
    let (end, _) = settle(plan, wish, &|word| mark(folder, &format!("said {word}")))?;
    mark(folder, &format!("settled {end:?}"));
    Ok(())
}

/// What stock programs make: the stores, and the folders that they and the target are in.
pub fn create(folder: &Path, sources: usize) {
    let home = home(folder, sources);
    fs::create_dir_all(&home).expect("a folder");
    fs::create_dir_all(target(folder, sources).parent().expect("a folder")).expect("a folder");
    for (seed, name) in (1..).zip(stores(sources)) {
        write_store(&home.join(name), &small_store(seed, 20));
    }
}

/// One act of a life.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    pub name: &'static str,
    /// After this many operations that change or sync something.
    pub killed_at: Option<usize>,
    /// What the process does wrong on purpose.
    pub mistake: &'static str,
}

impl Act {
    pub const fn new(name: &'static str) -> Self {
        Self { name, killed_at: None, mistake: "" }
    }
}
