//! Migrations under openers that never stop trying.

use super::openers::{KEYSPACE, Openers, Try, now};
use crate::child;
use crate::common::{read_table, small_store, write_store};
use crate::daemon::{Daemon, fresh_handle};
use cutover::{Error, Found, Handle, Migrating, Observer, Plan};
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SOURCES: [&str; 2] = ["accounts", "sessions"];

/// Migrations for each way of opening.
const ROUNDS: usize = 8;

/// How long fjall's locks are held before the first seal: long enough that every opener waits for
/// one, shorter than fjall's patience.
const HELD: Duration = Duration::from_millis(80);

/// Long enough for every opener that waits to have tried again.
const AFTERWARDS: Duration = Duration::from_millis(250);

/// A store that is always busy is migrated within this time.
const PATIENCE: Duration = Duration::from_mins(1);

fn plan(folder: &Path) -> Plan {
    SOURCES
        .iter()
        .fold(Plan::builder("race"), |plan, name| {
            plan.source(*name, folder.join(name), |s| s.every_keyspace().may_be_missing())
        })
        .target(folder.join("target.sqlite"))
        .chunk_bytes(1000)
        .build()
        .expect("a plan")
}

/// Calls `act` while cutover holds fjall's locks and no source is sealed yet.
struct WhileLocked<'a> {
    act: &'a mut dyn FnMut(),
}

impl Observer for WhileLocked<'_> {
    fn step(&mut self, name: &str, _: &str) {
        if name == "write the claim file" {
            (self.act)();
        }
    }
}

/// Begins once no opener is in the way; each refusal leaves everything as it is.
fn begin(plan: &Plan, act: &mut dyn FnMut()) -> Handle<Migrating> {
    let begun = Instant::now();
    loop {
        let error = match cutover::open(plan) {
            Ok(Found::Fresh(handle)) => {
                match handle.begin_observed(&mut WhileLocked { act: &mut *act }) {
                    Ok(migrating) => return migrating,
                    Err(failed) => failed.error,
                }
            }
            Ok(other) => panic!("not fresh: {other:?}"),
            Err(error) => error,
        };
        assert!(matches!(error, Error::Refused(_)), "{error:?}");
        assert!(begun.elapsed() < PATIENCE, "{error}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Goes on until the target is live. An opener that got fjall's lock late has it for a moment.
fn go_live(migrating: Handle<Migrating>, plan: &Plan) {
    let mut result = migrating
        .run(&mut ())
        .map_err(Error::from)
        .and_then(|committed| Ok(committed.finish()?))
        .and_then(|live| Ok(live.into_sql()?));
    let begun = Instant::now();
    while let Err(error) = result {
        assert!(begun.elapsed() < PATIENCE && error.to_string().contains("in use by"), "{error:?}");
        result = cutover::sql(plan, &mut ());
    }
}

/// I-1 and I-3 for one source: nothing was acknowledged after the seal, and the target has just
/// what was there and what was acknowledged.
fn check(folder: &Path, source: &str, tries: &[Try], sealed: u128) {
    for tried in tries.iter().filter(|tried| tried.key.is_some()) {
        assert!(tried.ended < sealed, "{source} was written after its seal: {tried:?}");
    }
    let mut acknowledged: Vec<Vec<u8>> =
        tries.iter().filter_map(|tried| tried.key.clone()).map(String::into_bytes).collect();
    acknowledged.sort();
    let target = folder.join("target.sqlite");
    let table = format!("{source}_{KEYSPACE}");
    let there: bool = rusqlite::Connection::open(&target)
        .expect("opens")
        .query_one("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)", [&table], |row| {
            row.get(0)
        })
        .expect("reads");
    let arrived: Vec<Vec<u8>> =
        if there { read_table(&target, &table).into_keys().collect() } else { Vec::new() };
    assert!(arrived == acknowledged, "{} arrived of {}", arrived.len(), acknowledged.len());
    assert!(!child::stock_fjall_writes(&folder.join(source)), "{source} is sealed for good");
}

/// One migration of stores that are there; returns how many tries were under way when `begin`
/// returned.
fn migrate_under_openers(suspend: bool) -> usize {
    let (folder, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for name in SOURCES {
        write_store(&folder.path().join(name), &small_store(7, 20));
    }
    let openers = SOURCES.map(|name| Openers::start(&folder.path().join(name), logs.path(), 2, 2));
    openers.iter().for_each(Openers::wait_until_writing);
    let plan = plan(folder.path());
    let migrating = begin(&plan, &mut || {
        thread::sleep(HELD);
        if suspend {
            openers.iter().for_each(Openers::suspend);
        }
    });
    let sealed = now();
    go_live(migrating, &plan);
    openers.iter().for_each(Openers::resume);
    thread::sleep(AFTERWARDS);
    let tries = openers.map(Openers::stop);
    assert!(tries.iter().flatten().any(|tried| tried.key.is_some()), "somebody wrote");
    check_all(folder.path(), &plan, &tries, sealed)
}

/// One migration of stores that are missing when it begins, and that openers create from `delay`
/// after the first step on, the seals from `head_start` on. Returns whether any store was created.
fn migrate_under_creators(delay: Duration, head_start: Duration) -> bool {
    let (folder, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plan = plan(folder.path());
    let start = || {
        thread::sleep(delay);
        SOURCES.map(|name| Openers::start(&folder.path().join(name), logs.path(), 2, 0))
    };
    thread::scope(|scope| {
        let mut starting = None;
        let migrating = begin(&plan, &mut || {
            starting.get_or_insert_with(|| scope.spawn(start));
            thread::sleep(head_start);
        });
        let sealed = now();
        go_live(migrating, &plan);
        let openers = starting.expect("begun").join().expect("starts");
        thread::sleep(AFTERWARDS);
        let tries = openers.map(Openers::stop);
        check_all(folder.path(), &plan, &tries, sealed);
        tries.iter().flatten().any(|tried| tried.key.is_some())
    })
}

fn check_all(folder: &Path, plan: &Plan, tries: &[Vec<Try>], sealed: u128) -> usize {
    for (source, tries) in SOURCES.iter().zip(tries) {
        check(folder, source, tries, sealed);
    }
    let Found::Tombstoned(mut live) = cutover::open(plan).expect("opens") else {
        panic!("not live")
    };
    live.verify(&mut ()).expect("the retired stores are as they were sealed");
    tries.iter().flatten().filter(|t| t.began < sealed && sealed < t.ended).count()
}

#[test]
fn i1_i3_no_opener_that_was_inside_open_writes_after_the_seal_and_no_write_is_lost() {
    let late: usize = (0..ROUNDS).map(|_| migrate_under_openers(false)).sum();
    assert!(late > ROUNDS, "only {late} openers were under way: this shows nothing");
}

#[test]
fn i1_i3_openers_that_were_suspended_inside_open_do_not_write_when_they_wake() {
    let late: usize = (0..ROUNDS).map(|_| migrate_under_openers(true)).sum();
    assert!(late > ROUNDS, "only {late} openers were under way: this shows nothing");
}

#[test]
fn i1_i3_openers_that_create_a_missing_store_race_with_its_seal() {
    let (none, sure) = (Duration::ZERO, Duration::from_millis(300));
    assert!(migrate_under_creators(none, sure), "the openers came first");
    for delay in 0..14 {
        migrate_under_creators(Duration::from_millis(2 * delay), none);
    }
    assert!(!migrate_under_creators(sure, none), "the seals came first");
}

/// A name that is free for an instant is enough: a stock open creates a store there.
#[test]
fn i1_a_source_s_name_is_never_free_while_it_is_sealed_and_unsealed() {
    let daemon = Daemon::fresh();
    let done = AtomicBool::new(false);
    let looks = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut looks = 0_u64;
            while !done.load(Ordering::Relaxed) {
                fs::symlink_metadata(daemon.at("accounts")).expect("something stands there");
                looks += 1;
            }
            looks
        });
        for _ in 0..60 {
            if watcher.is_finished() {
                break;
            }
            let sealed = fresh_handle(&daemon.plan()).begin().expect("begins");
            drop(sealed.abort().expect("aborts"));
        }
        done.store(true, Ordering::Relaxed);
        watcher.join().expect("the name was never free")
    });
    assert!(looks > 10_000, "{looks} looks show little");
}

/// Why the fence is not a poisoned version file: an opener reads that before it waits for the lock.
#[test]
fn a_poisoned_version_file_alone_lets_late_openers_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("accounts");
    write_store(&store, &small_store(7, 20));
    let lock = File::open(store.join("lock")).expect("opens");
    lock.try_lock().expect("nobody holds it");
    let openers = Openers::start(&store, folder.path(), 3, 0);
    thread::sleep(Duration::from_millis(50));
    fs::write(store.join("version"), "poison").expect("writes");
    let poisoned = now();
    drop(lock);
    thread::sleep(AFTERWARDS);
    let tries = openers.stop();
    let written = tries.iter().filter(|t| t.key.is_some() && t.ended > poisoned).count();
    assert!(written > 0, "{tries:?}");
}
