//! Migrations under openers that never stop trying.

use super::counts::Counts;
use super::holders::held_by;
use super::openers::{Openers, now};
use super::round::{SOURCES, Watch, begin, end, go_live, openers, plan};
use super::suspended::Suspended;
use crate::common::{samples, small_store, write_store};
use crate::daemon::{Daemon, fresh_handle};
use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How long fjall's locks are held before the first seal: long enough that every opener waits for
/// one, shorter than fjall's patience.
const HELD: Duration = Duration::from_millis(80);

/// Migrations for each way of opening.
fn rounds() -> usize {
    (samples() * 2 / 3).max(1)
}

/// One migration of stores that are there. With a `seed`, processes are suspended: one at a time
/// between the tries to begin, and then each while it is known that it can't have the lock.
fn migrate_under_openers(seed: Option<u64>) -> Counts {
    let (folder, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    for name in SOURCES {
        write_store(&folder.join(name), &small_store(7, 20));
    }
    let openers = openers(folder, logs.path(), 2, 2);
    openers.iter().for_each(Openers::wait_until_writing);
    let plan = plan(folder);
    let mut watch = Watch::new(folder, seed.unwrap_or_default());
    let mut tries = 0;
    let mut between = |suspended: &mut Suspended| {
        tries += 1;
        if seed.is_some() && tries % 3 == 1 {
            suspended.random.sleep(HELD / 8);
            let id = suspended.random.below(4);
            let mut processes = openers.iter().flat_map(Openers::processes);
            suspended.suspend(processes.nth(usize::try_from(id).unwrap()).unwrap());
        }
    };
    let mut locked = |suspended: &mut Suspended| {
        if seed.is_none() {
            thread::sleep(HELD);
            return;
        }
        for id in openers.iter().flat_map(Openers::processes) {
            suspended.random.sleep(HELD / 2);
            suspended.suspend(id);
        }
    };
    let migrating = begin(&plan, &mut watch, &mut between, &mut locked);
    go_live(migrating, &plan, &mut watch);
    let counts = end(&plan, &watch, openers, &|_, _| false);
    assert!(counts.acknowledged > 0, "somebody wrote");
    counts
}

/// One migration of stores that are missing when it begins, and that openers create from `delay`
/// after the first step on, the seals from `head_start` on.
fn migrate_under_creators(delay: Duration, head_start: Duration) -> Counts {
    let (folder, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    let plan = plan(folder);
    let start = || {
        thread::sleep(delay);
        openers(folder, logs.path(), 2, 0)
    };
    thread::scope(|scope| {
        let mut starting = None;
        let mut watch = Watch::new(folder, 0);
        let migrating = begin(&plan, &mut watch, &mut |_| {}, &mut |_| {
            starting.get_or_insert_with(|| scope.spawn(start));
            thread::sleep(head_start);
        });
        go_live(migrating, &plan, &mut watch);
        let openers = starting.expect("begun").join().expect("starts");
        end(&plan, &watch, openers, &|_, _| false)
    })
}

#[test]
fn i1_i3_no_opener_that_was_inside_open_writes_after_the_seal_and_no_write_is_lost() {
    let mut counts = Counts::default();
    (0..rounds()).for_each(|_| counts += migrate_under_openers(None));
    println!("openers that run: {counts}");
    assert!(counts.under_way > counts.migrations, "too few were under way: this shows nothing");
}

#[test]
fn i1_i3_openers_that_were_suspended_inside_open_do_not_write_when_they_wake() {
    let mut counts = Counts::default();
    (0..rounds() as u64).for_each(|seed| counts += migrate_under_openers(Some(seed)));
    println!("openers that are suspended: {counts}");
    let [_, waiting, _] = counts.places;
    assert!(waiting > counts.migrations, "too few waited for the lock: this shows nothing");
    assert!(counts.woken.iter().all(|woken| *woken > 0), "every phase woke some");
    assert!(counts.under_way > counts.migrations, "too few were under way: this shows nothing");
}

#[test]
fn i1_i3_openers_that_create_a_missing_store_race_with_its_seal() {
    let (none, sure) = (Duration::ZERO, Duration::from_millis(300));
    let first = migrate_under_creators(none, sure);
    assert!(first.acknowledged > 0, "the openers came first");
    let last = migrate_under_creators(sure, none);
    assert_eq!(last.acknowledged, 0, "the seals came first");
    let mut counts = Counts::default();
    let delays = u32::try_from(samples() + 2).expect("a few");
    for delay in 0..delays {
        counts += migrate_under_creators(Duration::from_millis(28) * delay / delays, none);
    }
    println!("openers that create: {counts}");
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
    let waiting = || held_by("self", folder.path()).iter().filter(|held| held.is_lock()).count();
    while waiting() < 4 {
        thread::yield_now();
    }
    fs::write(store.join("version"), "poison").expect("writes");
    let poisoned = now();
    drop(lock);
    thread::sleep(Duration::from_millis(250));
    let tries = openers.stop();
    let written = tries.iter().filter(|t| t.key.is_some() && t.ended > poisoned).count();
    assert!(written > 0, "{tries:?}");
}
