//! One migration under openers that never stop trying, and what holds after it.

use super::counts::Counts;
use super::holders::assert_nobody_writes;
use super::openers::{KEYSPACE, Openers, Try, now};
use super::suspended::{Phase, Suspended};
use crate::child;
use crate::common::read_table;
use cutover::{Error, Found, Handle, Migrating, Observer, Plan, Progress};
use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

pub const SOURCES: [&str; 2] = ["accounts", "sessions"];

/// Long enough for every opener that waits to have tried again.
const AFTERWARDS: Duration = Duration::from_millis(250);

/// A store that is always busy is migrated within this time.
const PATIENCE: Duration = Duration::from_mins(1);

pub fn plan(folder: &Path) -> Plan {
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

/// Openers at each source.
pub fn openers(folder: &Path, logs: &Path, threads: usize, children: usize) -> [Openers; 2] {
    SOURCES.map(|name| Openers::start(&folder.join(name), logs, threads, children))
}

/// Watches a migration, and wakes suspended openers as it goes on.
pub struct Watch<'a> {
    folder: &'a Path,
    pub suspended: Suspended,
    /// When each source was last sealed.
    pub sealed: BTreeMap<String, u128>,
    pub refused: usize,
    /// Stops at the first chunk's end.
    pub cancel: bool,
    copied: bool,
    live: bool,
}

impl<'a> Watch<'a> {
    pub fn new(folder: &'a Path, seed: u64) -> Self {
        Self {
            folder,
            suspended: Suspended::new(folder, seed),
            sealed: BTreeMap::new(),
            refused: 0,
            cancel: false,
            copied: false,
            live: false,
        }
    }
}

impl Observer for Watch<'_> {
    fn progress(&mut self, progress: &Progress) {
        self.copied = true;
        if progress.phase == cutover::Phase::Copying {
            self.suspended.wake(Phase::Copying);
        }
    }

    fn step(&mut self, name: &str, subject: &str) {
        match name {
            "seal a source" => {
                self.sealed.insert(subject.to_owned(), now());
            }
            "pass the commit point" => self.suspended.wake(Phase::Committed),
            "go live" => {
                assert_nobody_writes(self.folder);
                self.live = true;
                self.suspended.wake(Phase::Live);
            }
            _ => {}
        }
    }

    fn cancelled(&self) -> bool {
        self.cancel && self.copied
    }
}

/// Calls `act` while cutover holds fjall's locks and no source is sealed yet.
struct WhileLocked<'a, 'b> {
    watch: &'a mut Watch<'b>,
    act: &'a mut dyn FnMut(&mut Suspended),
}

impl Observer for WhileLocked<'_, '_> {
    fn step(&mut self, name: &str, subject: &str) {
        if name == "write the claim file" {
            (self.act)(&mut self.watch.suspended);
        }
        self.watch.step(name, subject);
    }
}

/// Begins once no opener is in the way; each refusal leaves everything as it is.
pub fn begin(
    plan: &Plan,
    watch: &mut Watch<'_>,
    before: &mut dyn FnMut(&mut Suspended),
    act: &mut dyn FnMut(&mut Suspended),
) -> Handle<Migrating> {
    let begun = Instant::now();
    loop {
        before(&mut watch.suspended);
        let error = match cutover::open(plan) {
            Ok(Found::Fresh(handle)) => {
                match handle.begin_observed(&mut WhileLocked { watch: &mut *watch, act: &mut *act })
                {
                    Ok(migrating) => {
                        watch.suspended.wake(Phase::Sealed);
                        return migrating;
                    }
                    Err(failed) => failed.error,
                }
            }
            Ok(other) => panic!("not fresh: {other:?}"),
            Err(error) => error,
        };
        assert!(matches!(error, Error::Refused(_)), "{error:?}");
        assert!(begun.elapsed() < PATIENCE, "{error}");
        watch.refused += 1;
        watch.suspended.wake_early();
        thread::sleep(Duration::from_millis(2));
    }
}

/// Goes on until the target is live. An opener that got fjall's lock late has it for a moment.
pub fn go_live(migrating: Handle<Migrating>, plan: &Plan, watch: &mut Watch<'_>) {
    let mut result = migrating
        .run(watch)
        .map_err(Error::from)
        .and_then(|committed| Ok(committed.finish_observed(watch)?))
        .and_then(|live| Ok(live.into_sql()?));
    let begun = Instant::now();
    while let Err(error) = result {
        assert!(begun.elapsed() < PATIENCE && error.to_string().contains("in use by"), "{error:?}");
        watch.refused += 1;
        result = cutover::sql(plan, watch);
    }
}

/// Looks on while openers that were late wake up and fail; then stops them all, and checks that
/// nothing was acknowledged while a store was `closed`, by source, and that all else arrived.
pub fn end(
    plan: &Plan,
    watch: &Watch<'_>,
    openers: [Openers; 2],
    closed: &dyn Fn(&str, u128) -> bool,
) -> Counts {
    assert!(watch.live && watch.sealed.len() == SOURCES.len(), "it was watched");
    let live = Instant::now();
    while live.elapsed() < AFTERWARDS {
        assert_nobody_writes(watch.folder);
        thread::sleep(AFTERWARDS / 6);
    }
    let mut counts = Counts {
        migrations: 1,
        refused: watch.refused,
        places: watch.suspended.places,
        woken: watch.suspended.woken,
        ..Counts::default()
    };
    for (source, openers) in SOURCES.into_iter().zip(openers) {
        let tries = openers.stop();
        let sealed = watch.sealed[source];
        let is_closed = |at: u128| at >= sealed || closed(source, at);
        check(watch.folder, source, &tries, &is_closed);
        counts.tries += tries.len();
        counts.acknowledged += tries.iter().filter(|tried| tried.key.is_some()).count();
        counts.under_way += tries.iter().filter(|t| t.began < sealed && sealed < t.ended).count();
    }
    let Found::Tombstoned(mut live) = cutover::open(plan).expect("opens") else {
        panic!("not live")
    };
    crate::daemon::is_whole(&mut live, &mut ());
    counts
}

/// I-1 and I-3 for one source: nothing was acknowledged while it was closed, and the target has just
/// what was acknowledged.
fn check(folder: &Path, source: &str, tries: &[Try], closed: &dyn Fn(u128) -> bool) {
    for tried in tries.iter().filter(|tried| tried.key.is_some()) {
        assert!(!closed(tried.ended), "{source} was written while it was sealed: {tried:?}");
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
