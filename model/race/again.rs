//! A migration that is given up and begun again while openers go on: what they write in between is
//! acknowledged, and has to arrive.

use super::counts::Counts;
use super::openers::{Openers, now};
use super::round::{SOURCES, Watch, begin, end, go_live, openers, plan};
use super::suspended::Suspended;
use crate::common::{samples, small_store, write_store};
use cutover::{Error, Found, Handle, Migrating, Plan};
use std::time::Duration;

/// Openers are suspended at instants that are less than this apart.
const INSTANTS: Duration = Duration::from_millis(40);

/// Migrations for each way to begin.
fn rounds() -> u64 {
    (samples() / 6).max(1) as u64
}

/// What is sealed, and perhaps copied in part, when it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// No store was there, unless an opener was quicker.
    Missing,
    Sealed,
    CopiedInPart,
}

/// Copies a chunk, or finds a store in use.
fn copy_in_part(migrating: Handle<Migrating>, plan: &Plan, watch: &mut Watch<'_>) {
    watch.cancel = true;
    let mut result = migrating.run(watch).map_err(Error::from).map(drop);
    loop {
        let error = result.expect_err("it is cancelled, or refused");
        if error.to_string().contains("cancelled on request") {
            break;
        }
        assert!(error.to_string().contains("in use by"), "{error:?}");
        result = cutover::sql(plan, watch).map(drop);
    }
    watch.cancel = false;
}

/// One migration that is given up once.
fn migrate_twice(begun: Begun, seed: u64) -> Counts {
    let (folder, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    let plan = plan(folder);
    let mut started = None;
    let mut start = || {
        if started.is_none() {
            started = Some(openers(folder, logs.path(), 2, 1));
        }
    };
    if begun != Begun::Missing {
        for name in SOURCES {
            write_store(&folder.join(name), &small_store(7, 20));
        }
        start();
    }
    let mut watch = Watch::new(folder, seed);
    let migrating = begin(&plan, &mut watch, &mut |_| {}, &mut |suspended| {
        start();
        suspended.random.sleep(INSTANTS);
    });
    let openers = started.expect("started");
    let mut suspend = |suspended: &mut Suspended| {
        for id in openers.iter().flat_map(Openers::processes) {
            suspended.random.sleep(INSTANTS);
            suspended.suspend(id);
        }
    };
    suspend(&mut watch.suspended);
    let first = watch.sealed.clone();
    if begun == Begun::CopiedInPart {
        copy_in_part(migrating, &plan, &mut watch);
    } else {
        drop(migrating);
    }
    let given_up = now();
    let Ok(Found::Migrating(migrating)) = cutover::open(&plan) else { panic!("not migrating") };
    drop(migrating.abort().expect("every source is unsealed"));
    watch.suspended.wake_early();
    for openers in &openers {
        openers.wait_until_writing_after(given_up);
    }
    let migrating = begin(&plan, &mut watch, &mut |_| {}, &mut suspend);
    go_live(migrating, &plan, &mut watch);
    end(&plan, &watch, openers, &|source, at| (first[source]..given_up).contains(&at))
}

#[test]
fn i1_i3_what_openers_write_between_two_seals_arrives_and_nothing_is_written_while_sealed() {
    for begun in [Begun::Missing, Begun::Sealed, Begun::CopiedInPart] {
        let mut counts = Counts::default();
        (0..rounds()).for_each(|seed| counts += migrate_twice(begun, seed));
        println!("{begun:?} and given up once: {counts}");
        assert!(counts.acknowledged > 0, "nobody wrote in between");
    }
}
