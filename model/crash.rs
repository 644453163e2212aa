//! `kill -9` and I/O errors between any two durable steps, on real files. Each story is driven once
//! for each of its fault points: after every one at most one side can be written, and what a daemon
//! does at its next start ends with every pair exactly once.

mod fail;
pub mod kill;
pub mod memory;
mod removed;

use crate::common::{
    KEYSPACES, SOURCES, copy_tree, copy_tree_anew, folder_in_memory, read_store, small_daemon,
    small_plan_with, small_store,
};
use crate::picky::{self, QUARANTINE, adds_up, has_refused, quarantined, read_target};
use cutover::{Error, Found, Observer, Plan, PlanBuilder, Progress, ticket};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Which side holds the data once everything has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kv,
    Sql,
}

/// What is done before, what is done while faults strike, and what a later start does.
#[derive(Clone, Copy, Debug)]
struct Story {
    before: &'static [&'static str],
    act: &'static str,
    recover: &'static str,
    end: End,
}

const STORIES: [(&str, Story); 11] = [
    ("sql", Story { before: &[], act: "sql", recover: "sql", end: End::Sql }),
    ("prepare", Story { before: &[], act: "prepare", recover: "kv", end: End::Kv }),
    ("prepared", Story { before: &["prepare"], act: "sql", recover: "sql", end: End::Sql }),
    ("begun", Story { before: &["part-way"], act: "abort", recover: "kv", end: End::Kv }),
    ("turned", Story { before: &["part-way"], act: "abort", recover: "sql", end: End::Sql }),
    (
        "committed",
        Story { before: &["committed"], act: "take-back", recover: "take-back", end: End::Kv },
    ),
    ("half", Story { before: &["half-set"], act: "take-back", recover: "take-back", end: End::Kv }),
    ("rerun", Story { before: &["sql", "lose"], act: "rerun", recover: "rerun", end: End::Sql }),
    (
        "rerun-left",
        Story { before: &["sql", "lose"], act: "rerun-abort", recover: "restore", end: End::Kv },
    ),
    (
        "restore",
        Story { before: &["sql", "lose"], act: "restore", recover: "restore", end: End::Kv },
    ),
    ("reclaim", Story { before: &["sql"], act: "reclaim", recover: "reclaim", end: End::Sql }),
];

fn story(name: &str) -> Story {
    STORIES.iter().find(|(found, _)| *found == name).expect("a story").1
}

/// A source that may be missing, and is.
pub const MISSING: &str = "absent";

/// The small daemon's plan, with a quarantine, indexes, and a source more.
fn plan(folder: &Path) -> Plan {
    let plan = small_plan_with(&SOURCES, folder, picky::define);
    with_missing(plan, folder).build().expect("a plan")
}

/// Adds the source that is missing.
pub fn with_missing(plan: PlanBuilder, folder: &Path) -> PlanBuilder {
    plan.source(MISSING, folder.join(MISSING), |s| s.may_be_missing().every_keyspace())
}

/// How the name of a claim that was not finished begins.
const CLAIM_LEFT_OVER: &str = "target.sqlite.cutover-";

/// A folder at one path for all of a story's runs, since markers name it, and how it began.
struct Place {
    _root: tempfile::TempDir,
    folder: PathBuf,
    template: PathBuf,
    scratch: PathBuf,
}

impl Place {
    fn new(story: Story) -> Self {
        let root = folder_in_memory();
        let at = |name: &str| root.path().join(name);
        let place = Self {
            folder: at("work"),
            template: at("template"),
            scratch: at("scratch"),
            _root: root,
        };
        fs::create_dir(&place.folder).expect("a folder");
        small_daemon(&place.folder);
        for act in story.before {
            play(act, &place.folder).expect("the story's beginning");
        }
        copy_tree(&place.folder, &place.template);
        place
    }

    fn reset(&self) {
        copy_tree_anew(&self.template, &self.folder);
    }

    /// A copy that may be written.
    fn copy(&self) -> &Path {
        copy_tree_anew(&self.folder, &self.scratch);
        &self.scratch
    }
}

/// Stops the copy after a few chunks.
#[derive(Default)]
struct StopEarly(Cell<u32>);

impl Observer for StopEarly {
    fn progress(&mut self, _: &Progress) {
        self.0.set(self.0.get() + 1);
    }

    fn cancelled(&self) -> bool {
        self.0.get() >= 3
    }
}

/// What the daemon of the stories, or its operator, does at a start.
pub fn play(act: &str, folder: &Path) -> Result<(), Error> {
    match act {
        "half-set" => {
            play("committed", folder)?;
            half_set(folder);
            Ok(())
        }
        act => play_plan(act, &plan(folder)),
    }
}

/// What a daemon, or its operator, does at a start. Done once more, it goes on from where it was.
pub fn play_plan(act: &str, plan: &Plan) -> Result<(), Error> {
    match act {
        "sql" => drop(cutover::sql(plan, &mut ())?),
        "kv" => drop(cutover::kv(plan)?),
        "rehearse" => drop(plan.rehearse(&mut ())?),
        "lose" => fs::remove_file(plan.target()).expect("removes"),
        "part-way" => {
            let stopped =
                cutover::sql(plan, &mut StopEarly::default()).expect_err("it was cancelled");
            assert!(matches!(stopped, Error::Interrupted { .. }), "{stopped}");
        }
        "prepare" => match cutover::open(plan)? {
            Found::Fresh(fresh) => drop(fresh.begin()?.prepare(&mut ())?),
            other => panic!("nothing to prepare in {other:?}"),
        },
        "committed" => {
            let Found::Fresh(fresh) = cutover::open(plan)? else { panic!("it is fresh") };
            drop(fresh.begin()?.run(&mut ())?);
        }
        "abort" => match cutover::open(plan)? {
            Found::Migrating(handle) => drop(handle.abort()?),
            other => panic!("nothing to abort in {other:?}"),
        },
        "take-back" => loop {
            match cutover::open(plan)? {
                Found::Fresh(fresh) => {
                    drop(fresh.into_kv()?);
                    break;
                }
                Found::Migrating(handle) => drop(handle.abort()?),
                Found::Committed(handle) => {
                    drop(handle.abort(ticket::AbortCommitted::losing_the_committed_copy())?);
                }
                Found::RerunAllowed(handle) => {
                    drop(handle);
                    return play_plan("restore", plan);
                }
                Found::Tombstoned(handle) => panic!("{handle:?} can't be taken back"),
            }
        },
        "rerun" => match cutover::open(plan)? {
            Found::RerunAllowed(handle) => {
                let rerun = handle.rerun(ticket::Rerun::losing_writes_made_in_sql())?;
                drop(rerun.run(&mut ())?.finish()?.into_sql()?);
            }
            other => {
                drop(other);
                return play_plan("sql", plan);
            }
        },
        "rerun-abort" => match cutover::open(plan)? {
            Found::RerunAllowed(handle) => {
                drop(handle.rerun(ticket::Rerun::losing_writes_made_in_sql())?.abort()?);
            }
            other => panic!("no rerun from {other:?}"),
        },
        "restore" => loop {
            match cutover::open(plan)? {
                Found::RerunAllowed(handle) => {
                    let ticket = ticket::RestoreKv::losing_writes_made_in_sql();
                    drop(handle.restore_kv(ticket)?.into_kv()?);
                    break;
                }
                Found::Migrating(handle) => drop(handle.abort()?),
                Found::Fresh(fresh) => {
                    drop(fresh.into_kv()?);
                    break;
                }
                other => panic!("nothing to restore in {other:?}"),
            }
        },
        "reclaim" => match cutover::open(plan)? {
            Found::Tombstoned(handle) => {
                drop(handle.reclaim(ticket::Reclaim::losing_the_way_back())?.into_sql()?);
            }
            other => panic!("nothing to reclaim in {other:?}"),
        },
        other => panic!("no such act: {other}"),
    }
    Ok(())
}

/// Finishes, and is killed as soon as one of the tombstones stands.
fn half_set(folder: &Path) {
    let tombstones = || {
        let text = SOURCES.map(|name| fs::read_to_string(folder.join(name)).unwrap_or_default());
        text.iter().filter(|text| text.contains("\"stage\":\"tombstone\"")).count()
    };
    for at in 1.. {
        assert!(kill::killed("sql", folder, at), "no kill left one tombstone");
        match tombstones() {
            0 => {}
            1 => return,
            more => panic!("{more} tombstones after a kill at {at}"),
        }
    }
}

/// Whether a stock program, which is this very process here, can open or create a store and insert.
pub fn stock_writes(path: &Path) -> bool {
    let write = || -> fjall::Result<()> {
        let database = fjall::Database::builder(path).worker_threads_unchecked(0).open()?;
        let keyspace = database.keyspace("stock", fjall::KeyspaceCreateOptions::default)?;
        keyspace.insert("written by", "a stock program")?;
        database.persist(fjall::PersistMode::Buffer)
    };
    matches!(catch_unwind(AssertUnwindSafe(write)), Ok(Ok(())))
}

/// Whether a plain connection can insert, update or delete in a migrated table.
pub fn plain_writes(target: &Path) -> bool {
    let Ok(connection) = rusqlite::Connection::open(target) else { return false };
    let changes = |sql: String| connection.execute(&sql, []).is_ok_and(|rows| rows > 0);
    tables().any(|table| {
        changes(format!("UPDATE \"{table}\" SET value = value"))
            || changes(format!("DELETE FROM \"{table}\""))
            || changes(format!("INSERT INTO \"{table}\" VALUES (x'ff00ff00ff', x'01')"))
    })
}

/// Each keyspace's table, and that of the refused pairs.
fn tables() -> impl Iterator<Item = String> {
    let of_source = |source| KEYSPACES.map(|keyspace| format!("{source}_{keyspace}"));
    SOURCES.into_iter().flat_map(of_source).chain([QUARANTINE.to_owned()])
}

/// The stage that a record in the target tells, where there is one.
fn recorded(target: &Path) -> Option<String> {
    let connection = rusqlite::Connection::open(target).ok()?;
    connection.query_row("SELECT stage FROM cutover_record", [], |row| row.get(0)).ok()
}

/// I-1, physically and on a copy; every marker keeps its name from a stock program, the fence stands
/// until the target is live, and the record is right about what is beside it. Returns whether the
/// target can be written.
fn at_most_one_writer(place: &Place, after: &str) -> bool {
    let copy = place.copy();
    let target = copy.join("target.sqlite");
    let live = target.exists() && recorded(&target).as_deref() == Some("live");
    assert_eq!(adds_up(&target), Ok(()), "after {after}");
    let sql = target.exists() && plain_writes(&target);
    assert_eq!(sql, live, "the target can be written without being live, or not, after {after}");
    for source in SOURCES.into_iter().chain([MISSING]) {
        let path = copy.join(source);
        let marker = path.is_file();
        let kv = stock_writes(&path);
        assert!(!(kv && sql), "both {source} and the target can be written after {after}");
        assert!(!(kv && marker), "the marker of {source} does not hold after {after}");
    }
    sql
}

/// What a start ends with: every pair once on one side, and the other side shut.
fn ended(place: &Place, end: End, after: &str) {
    let folder = &place.folder;
    let target = folder.join("target.sqlite");
    let sql = at_most_one_writer(place, after);
    assert_eq!(sql, end == End::Sql, "after {after}");
    let found = cutover::open(&plan(folder)).expect("a state");
    match end {
        End::Sql => {
            assert!(matches!(found, Found::Tombstoned(_)), "{found:?} after {after}");
            assert!(folder.join(MISSING).is_file(), "{MISSING} is free after {after}");
            assert_eq!(has_refused(&target), Ok(()), "after {after}");
            for (seed, source) in (1..).zip(SOURCES) {
                let pairs = read_target(&target, source);
                assert_eq!(pairs, Ok(small_store(seed, 20)), "{source} after {after}");
                assert!(!stock_writes(&folder.join(source)), "{source} opens after {after}");
            }
        }
        End::Kv => {
            assert!(matches!(found, Found::Fresh(_)), "{found:?} after {after}");
            drop(found);
            for (seed, source) in (1..).zip(SOURCES) {
                let pairs = read_store(&folder.join(source));
                assert_eq!(pairs, small_store(seed, 20), "{source} after {after}");
            }
            assert!(!target.exists(), "the SQL file that was made is left over after {after}");
        }
    }
    let retired = if end == End::Sql { "absent accounts.retired sessions.retired" } else { "" };
    let sql = if end == End::Sql { "target.sqlite target.sqlite.cutover" } else { "" };
    let known: BTreeSet<&str> = ["accounts", "sessions"]
        .into_iter()
        .chain(retired.split_whitespace())
        .chain(sql.split_whitespace())
        .collect();
    for name in names(folder).keys() {
        // A claim that was not finished is removed when the next migration claims the target.
        let claim = end == End::Kv && name.starts_with(CLAIM_LEFT_OVER);
        assert!(claim || known.contains(name.as_str()), "{name} is left over after {after}");
    }
}

/// What is in the folder itself: the content of the small files, and of anything else that it is
/// there.
fn names(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("lists").map(|entry| {
        let path = entry.expect("lists").path();
        let name = path.file_name().expect("a name").display().to_string();
        let content = if name.starts_with("target.sqlite") { None } else { fs::read(&path).ok() };
        (name, content.unwrap_or_default())
    });
    entries.collect()
}

/// Else pairs would be refused in one chunk alone, and no abort would have some to take back.
#[test]
fn the_stories_stop_part_way_through_the_pairs_that_are_refused() {
    let place = Place::new(story("begun"));
    let target = place.folder.join("target.sqlite");
    let part = quarantined(&target).len();
    play("sql", &place.folder).expect("SQL");
    let whole = quarantined(&target).len();
    assert!(0 < part && part < whole, "{part} of {whole} are in quarantine after a few chunks");
}
