//! Somebody else acts at every instant of every story: he swaps, removes, replaces or puts back one of
//! the facts. Then the run goes on, and one more start follows.
//!
//! After each: what he did stays as he left it until cutover has looked again; cutover lets no second
//! side be written (I-1); each store that he did not remove is whole somewhere, or in a live target
//! (I-3); what he put there is there (I-8); and every call ends with a typed error, or right.

use super::{MISSING, Pairs, SOURCES, StopAfter, THEIRS, pairs, write_store};
use crate::{Cause, Error, Found, Plan, fault, open, ticket};
use rusqlite::Connection;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

/// A sweep takes one of so many of its runs, unless `CUTOVER_SWEEP` asks for more. It is a prime, so
/// that over the stories every deed and every instant gets its turn.
const STRIDE: usize = 211;

/// What `CUTOVER_SWEEP` is where nobody says it, as in the other sweeps.
const SAMPLES: usize = 12;

/// Which side holds the data once a story has come to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Kv,
    Sql,
}

/// What is done before, what is done while somebody else acts, and what the next start does.
struct Story {
    before: &'static [&'static str],
    act: &'static str,
    then: &'static str,
    end: End,
    target: &'static str,
}

const TARGET: &str = "t.sqlite";
/// Another target, where the first is lost with its volume.
const OTHER: &str = "u.sqlite";

const fn story(
    before: &'static [&'static str],
    act: &'static str,
    then: &'static str,
    end: End,
) -> Story {
    Story { before, act, then, end, target: TARGET }
}

/// What somebody else does to a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Moves it away.
    Remove,
    /// Puts a file of his own in its place, or where nothing is.
    File,
    /// The same with a store.
    Store,
    /// The same with a database.
    Database,
    /// Puts back what stood there before it was last changed.
    Earlier,
    /// Moves what stands at the retired name back.
    MoveBack,
    /// Gives the store back the `version` file that fjall wrote.
    Native,
    /// Runs a statement; what it changed is read by the query.
    Sql(&'static str, &'static str),
}

const RECORD: &str = "SELECT plan || id || attempt || stage || body FROM cutover_record";
const FENCE: &str =
    "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'a_k'";

/// The facts, by their names in the folder: `<id>` is the migration's, `<store>` the path or retired
/// name of the first store, `<target>` the SQL file.
const DEEDS: [(&str, Deed); 44] = [
    ("a", Deed::Remove),
    ("a", Deed::File),
    ("a", Deed::Store),
    ("a", Deed::Earlier),
    ("a", Deed::MoveBack),
    ("b", Deed::Remove),
    ("b", Deed::Store),
    ("b", Deed::Earlier),
    ("b", Deed::MoveBack),
    ("c", Deed::Remove),
    ("c", Deed::File),
    ("c", Deed::Store),
    ("c", Deed::Earlier),
    ("a.retired", Deed::Remove),
    ("a.retired", Deed::File),
    ("a.retired", Deed::Store),
    ("b.retired", Deed::Store),
    ("c.retired", Deed::File),
    ("<store>/keyspaces", Deed::Remove),
    ("<store>/version", Deed::Remove),
    ("<store>/version", Deed::File),
    ("<store>/version", Deed::Native),
    ("a.cutover-<id>", Deed::Remove),
    ("a.cutover-probe", Deed::File),
    ("<target>.cutover", Deed::Remove),
    ("<target>.cutover", Deed::File),
    ("<target>.cutover", Deed::Earlier),
    ("<target>", Deed::Remove),
    ("<target>", Deed::File),
    ("<target>", Deed::Database),
    ("<target>", Deed::Earlier),
    ("<target>-journal", Deed::Remove),
    ("record", Deed::Sql("DELETE FROM cutover_record", RECORD)),
    ("record", Deed::Sql("DROP TABLE cutover_record", RECORD)),
    ("record", Deed::Sql("UPDATE cutover_record SET attempt = attempt + 1", RECORD)),
    ("record", Deed::Sql("UPDATE cutover_record SET body = body || ' '", RECORD)),
    ("record", Deed::Sql("UPDATE cutover_record SET stage = 'live'", RECORD)),
    (
        "record",
        Deed::Sql("UPDATE cutover_record SET id = '0123456789abcdef0123456789abcdef'", RECORD),
    ),
    (
        "fence",
        Deed::Sql(
            "DROP TRIGGER cutover_fence_insert_a_k; DROP TRIGGER cutover_fence_update_a_k; DROP TRIGGER cutover_fence_delete_a_k",
            FENCE,
        ),
    ),
    ("a table", Deed::Sql("DROP TABLE a_k", "SELECT count(*) FROM a_k")),
    ("a table", Deed::Sql("ALTER TABLE a_k RENAME TO away", "SELECT count(*) FROM away")),
    ("a row", Deed::Sql("DELETE FROM a_k WHERE key = x'01'", "SELECT count(*) FROM a_k")),
    ("a row", Deed::Sql("INSERT INTO b_k VALUES (x'99', x'99')", "SELECT count(*) FROM b_k")),
    (
        "their table",
        Deed::Sql("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)", "SELECT x FROM theirs"),
    ),
];

/// The folder of a story's runs, how it began, and where somebody else puts what he takes away.
struct Place {
    _root: tempfile::TempDir,
    folder: PathBuf,
    template: PathBuf,
    aside: PathBuf,
    /// A store of somebody else's.
    theirs: PathBuf,
    target: &'static str,
}

fn copy(from: &Path, to: &Path) {
    let mut cp = Command::new("cp");
    let cp = cp.args(["--archive", "--sparse=always", "--no-target-directory"]).arg(from).arg(to);
    assert!(cp.status().expect("cp runs").success(), "{} is copied", from.display());
}

impl Place {
    fn new(story: &Story) -> Self {
        let root = super::folder();
        let at = |name: &str| root.path().join(name);
        let (folder, template, aside, theirs) =
            (at("work"), at("template"), at("aside"), at("theirs"));
        fs::create_dir(&folder).expect("a folder");
        for source in SOURCES {
            fs::rename(at(source), folder.join(source)).expect("moves");
        }
        write_store(&theirs, &pairs(9));
        fs::write(theirs.join("theirs"), THEIRS).expect("writes");
        for act in story.before {
            play(act, &folder, story.target).expect("the story's beginning");
        }
        copy(&folder, &template);
        Self { _root: root, folder, template, aside, theirs, target: story.target }
    }

    fn reset(&self) {
        for folder in [&self.folder, &self.aside] {
            if folder.exists() {
                fs::remove_dir_all(folder).expect("removes");
            }
        }
        fs::create_dir(&self.aside).expect("a folder");
        copy(&self.template, &self.folder);
    }
}

fn plan_of(folder: &Path, target: &str) -> Plan {
    super::builder(folder).target(folder.join(target)).chunk_bytes(12).build().expect("a plan")
}

/// What a daemon, or its operator, does at a start.
fn play(act: &str, folder: &Path, target: &str) -> Result<(), Error> {
    let plan = &plan_of(folder, target);
    let remove = |name: &str| {
        let path = folder.join(name);
        fs::remove_file(path).expect("removes");
        Ok(())
    };
    match act {
        "sql" => drop(crate::sql(plan, &mut ())?),
        "kv" => drop(crate::kv(plan)?),
        "part-way" => {
            crate::sql(&plan_of(folder, TARGET), &mut StopAfter(3)).expect_err("it was cancelled");
        }
        "migrated" => drop(crate::sql(&plan_of(folder, TARGET), &mut ())?),
        "lose" => return remove(TARGET),
        "lose the volume" => {
            remove(TARGET)?;
            return remove("t.sqlite.cutover");
        }
        "lose the record" => {
            let sql = "DROP TABLE cutover_record; DROP TABLE a_k; DROP TABLE b_k; CREATE TABLE others (x)";
            let connection = Connection::open(folder.join(TARGET)).expect("opens");
            connection.execute_batch(sql).expect("drops");
        }
        "prepare" => match open(plan)? {
            Found::Fresh(fresh) => drop(fresh.begin()?.prepare(&mut ())?),
            Found::Migrating(handle) => drop(handle.prepare(&mut ())?),
            other => drop(other),
        },
        "committed" => {
            let Found::Fresh(fresh) = open(plan)? else { panic!("it is fresh") };
            drop(fresh.begin()?.run(&mut ())?);
        }
        "abort" => loop {
            match open(plan)? {
                Found::Fresh(fresh) => {
                    drop(fresh.into_kv()?);
                    break;
                }
                Found::Migrating(handle) => drop(handle.abort()?),
                Found::Committed(handle) => {
                    drop(handle.abort(ticket::AbortCommitted::losing_the_committed_copy())?);
                }
                other => {
                    drop(other);
                    return play("restore", folder, target);
                }
            }
        },
        "rerun" => match open(plan)? {
            Found::RerunAllowed(handle) => {
                let rerun = handle.rerun(ticket::Rerun::losing_writes_made_in_sql())?;
                drop(rerun.run(&mut ())?.finish()?.into_sql()?);
            }
            other => {
                drop(other);
                return play("sql", folder, target);
            }
        },
        "rerun-abort" => match open(plan)? {
            Found::RerunAllowed(handle) => {
                drop(handle.rerun(ticket::Rerun::losing_writes_made_in_sql())?.abort()?);
            }
            other => drop(other),
        },
        "restore" => loop {
            match open(plan)? {
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
                Found::Committed(_) | Found::Tombstoned(_) => return Err(wrong("restore")),
            }
        },
        "reclaim" => match open(plan)? {
            Found::Tombstoned(handle) => {
                drop(handle.reclaim(ticket::Reclaim::losing_the_way_back())?.into_sql()?);
            }
            _ => return Err(wrong("reclaim")),
        },
        "replace" => {
            drop(crate::replace_target(
                plan,
                ticket::ReplaceTarget::losing_the_database_for_good(),
            )?);
            return play("rerun", folder, target);
        }
        "forget" => {
            drop(crate::forget_record(plan, ticket::ForgetRecord::losing_writes_made_in_sql())?);
            return play("restore", folder, target);
        }
        other => panic!("no such act: {other}"),
    }
    Ok(())
}

/// What the story does is not possible from what somebody else has made of it.
fn wrong(act: &str) -> Error {
    Error::Refused(Cause::Plan(format!("no {act} from there")))
}

/// What stands at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Print {
    Nothing,
    File(Vec<u8>),
    Inode(u64),
    /// What a query returned; none where it could not be run.
    Rows(Option<Vec<String>>),
}

fn print(path: &Path) -> Print {
    match fs::symlink_metadata(path) {
        Err(_) => Print::Nothing,
        Ok(metadata) if metadata.is_file() && metadata.len() < 8192 => {
            Print::File(fs::read(path).expect("reads"))
        }
        Ok(metadata) => Print::Inode(metadata.ino()),
    }
}

/// Runs a query; nothing where the file is no database.
fn rows(target: &Path, query: &str) -> Option<Vec<String>> {
    if !target.is_file() {
        return None;
    }
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(target, flags).ok()?;
    let mut statement = connection.prepare(query).ok()?;
    let rows = statement.query_map([], |row| {
        let value: rusqlite::types::Value = row.get(0)?;
        Ok(format!("{value:?}"))
    });
    rows.ok()?.collect::<Result<_, _>>().ok()
}

/// Which sides can be written, physically: a store by a program that knows nothing of cutover, or a
/// migrated table that no fence stands around.
fn sides(folder: &Path, target: &str) -> (Vec<&'static str>, bool) {
    let is_open = |source: &&str| {
        let path = folder.join(source);
        match fs::symlink_metadata(&path) {
            Err(_) => true,
            Ok(metadata) if metadata.is_dir() => {
                fs::read(path.join("version")).is_ok_and(|bytes| bytes == b"FJL\x03")
            }
            Ok(_) => false,
        }
    };
    let open = SOURCES.into_iter().chain([MISSING]).filter(is_open).collect();
    let unfenced =
        "SELECT name FROM sqlite_schema AS t WHERE type = 'table' AND name IN ('a_k', 'b_k')
         AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = t.name)";
    (open, rows(&folder.join(target), unfenced).is_some_and(|found| !found.is_empty()))
}

/// What somebody else does, and what is seen behind it.
struct Watch {
    folder: PathBuf,
    aside: PathBuf,
    theirs: PathBuf,
    target: &'static str,
    fact: &'static str,
    deed: Deed,
    /// The instant that he acts at, and how many have passed.
    at: usize,
    passed: usize,
    /// The step that is being taken.
    step: String,
    /// By its name, once he has acted.
    done: Option<String>,
    /// What the fact was at the last two instants that it differed.
    history: Vec<(Print, Option<PathBuf>)>,
    path: PathBuf,
    /// As he left it.
    left: Option<Print>,
    has_looked: bool,
    /// Whether nothing was deleted before he acted: what he took away then is his to keep.
    is_intact: bool,
    both: bool,
    /// Whether the target could be written, or the stores, when he acted.
    before: (Vec<&'static str>, bool),
    wrong: Vec<String>,
}

impl Watch {
    fn fact(&self) -> Option<PathBuf> {
        let mut name = self.fact.replace("<target>", self.target);
        if name.contains("<id>") {
            let claim = fs::read_to_string(self.folder.join(format!("{}.cutover", self.target)));
            let claim = claim.ok()?;
            let id = claim.split('"').find(|word| {
                word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
            })?;
            name = name.replace("<id>", id);
        }
        if name.contains("<store>") {
            let store = ["a", "a.retired"].into_iter().find(|at| self.folder.join(at).is_dir())?;
            name = name.replace("<store>", store);
        }
        Some(self.folder.join(name))
    }

    fn print(&self) -> Print {
        match self.deed {
            Deed::Sql(_, query) => Print::Rows(rows(&self.folder.join(self.target), query)),
            // What is in a store is given another name with it.
            _ if self.fact.starts_with("<store>") => {
                self.fact().map_or(Print::Nothing, |path| print(&path))
            }
            _ => print(&self.path),
        }
    }

    /// Keeps what the fact was, so that it can be put back.
    fn remember(&mut self) {
        if self.deed != Deed::Earlier {
            return;
        }
        let Some(path) = self.fact() else { return };
        let found = print(&path);
        let same = match (&found, self.history.last()) {
            (Print::Inode(_), Some((Print::Inode(_), Some(kept)))) if path.is_file() => {
                fs::read(&path).ok() == fs::read(kept).ok()
            }
            (found, Some((last, _))) => found == last,
            (_, None) => false,
        };
        if !same {
            let kept = self.aside.join(format!("kept-{}", self.passed));
            let kept =
                path.is_file().then(|| fs::copy(&path, &kept).map(|_| kept).expect("copies"));
            self.history.push((found, kept));
        }
    }

    fn take_away(&self) {
        if self.path.symlink_metadata().is_ok() {
            let name = self.path.file_name().expect("a name");
            fs::rename(&self.path, self.aside.join(name)).expect("moves");
        }
    }

    /// Does it, if it can be done.
    fn act(&mut self) -> bool {
        let Some(path) = self.fact() else { return false };
        self.path = path;
        let exists = self.path.symlink_metadata().is_ok();
        // In a folder that is not there nothing can be put.
        if !self.path.parent().is_some_and(Path::is_dir) {
            return false;
        }
        match self.deed {
            Deed::Remove if exists => self.take_away(),
            Deed::Remove => return false,
            Deed::File => {
                self.take_away();
                fs::write(&self.path, THEIRS).expect("writes");
            }
            Deed::Store => {
                self.take_away();
                copy(&self.theirs, &self.path);
            }
            Deed::Database => {
                self.take_away();
                let connection = Connection::open(&self.path).expect("opens");
                let sql = "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)";
                connection.execute_batch(sql).expect("writes");
            }
            Deed::Earlier => {
                let Some((_, Some(kept))) = self.history.iter().rev().nth(1).cloned() else {
                    return false;
                };
                self.take_away();
                fs::copy(kept, &self.path).expect("copies");
            }
            Deed::MoveBack => {
                let mut retired = self.path.as_os_str().to_owned();
                retired.push(".retired");
                if !Path::new(&retired).is_dir() {
                    return false;
                }
                self.take_away();
                fs::rename(retired, &self.path).expect("moves");
            }
            Deed::Native => {
                if !exists || fs::read(&self.path).is_ok_and(|bytes| bytes == b"FJL\x03") {
                    return false;
                }
                fs::write(&self.path, b"FJL\x03").expect("writes");
            }
            Deed::Sql(statement, _) => {
                let target = self.folder.join(self.target);
                if !target.is_file() {
                    return false;
                }
                let Ok(connection) = Connection::open(target) else { return false };
                let before = self.print();
                let run = connection.busy_timeout(std::time::Duration::ZERO).is_ok()
                    && connection.execute_batch(&format!("BEGIN; {statement}; COMMIT")).is_ok();
                drop(connection);
                return run && self.print() != before;
            }
        }
        true
    }

    fn instant(&mut self, name: &str) {
        self.passed += 1;
        let is_step = name.starts_with(|first: char| first.is_ascii_uppercase());
        if is_step {
            name.clone_into(&mut self.step);
        }
        self.remember();
        if self.done.is_none() {
            if self.passed == self.at {
                self.before = sides(&self.folder, self.target);
                self.is_intact = is_step || !self.step.starts_with("DeleteRetired");
                if self.act() {
                    let is_last = name == "before a commit" && self.step.starts_with("GoLive");
                    let last = if is_last { GO_LIVE_COMMITS } else { name };
                    self.done = Some(last.to_owned());
                    // SQLite looks by itself: each transaction reads what it finds.
                    let reads = self.fact == "<target>" && self.deed == Deed::Earlier;
                    self.left = (!reads).then(|| self.print());
                    let (kv, sql) = sides(&self.folder, self.target);
                    self.both = sql && !kv.is_empty();
                }
            }
            return;
        }
        // A step's own name comes behind the look that it was chosen upon.
        self.has_looked |= is_step;
        self.check(name);
    }

    fn check(&mut self, name: &str) {
        if self.done.is_none() {
            return;
        }
        // What a store has of its own goes with it, whoever wrote it.
        let is_freed = self.fact.starts_with("<store>") && self.step.starts_with("DeleteRetired");
        // A marker that lay ready and is gone is written anew, under a name that nobody else uses.
        let is_rewritten = self.fact.ends_with(".cutover-<id>") && self.deed == Deed::Remove;
        if !self.has_looked
            && !is_freed
            && !is_rewritten
            && let Some(left) = &self.left
        {
            let found = self.print();
            // A database that is being written can't be read.
            if found != *left && found != Print::Rows(None) && !is_in_the_lock(left, &found) {
                let of = self.fact;
                self.wrong.push(format!("{of} changed before a look, by what ended at '{name}'"));
                self.has_looked = true;
            }
        }
        if !self.both {
            let (kv, sql) = sides(&self.folder, self.target);
            // The look and the commit are two operations, of two file systems perhaps (L-44).
            let is_last = self.done.as_deref() == Some(GO_LIVE_COMMITS);
            if sql && !kv.is_empty() && is_last {
                self.both = true;
            } else if sql && !kv.is_empty() {
                self.wrong.push(format!("I-1: at '{name}' {kv:?} and the target can be written"));
                self.both = true;
            }
        }
    }
}

/// Whether `found` is a second lock that keeps what he `left`: setting the lock again, after a store was
/// read, is a look of its own at the `version` file that stands there.
fn is_in_the_lock(left: &Print, found: &Print) -> bool {
    let original = match left {
        Print::File(bytes) => hex::encode(bytes),
        Print::Nothing => "none".to_owned(),
        Print::Inode(_) | Print::Rows(_) => return false,
    };
    let end = format!("Original version file: {original}\n");
    matches!(found, Print::File(lock) if lock.ends_with(end.as_bytes()))
}

/// The instant behind the last look at the tombstones, and before the target is live.
const GO_LIVE_COMMITS: &str = "before the commit of GoLive";

/// How a run ended.
enum Ended {
    /// It came to no such instant.
    Over,
    /// What he wanted to do was not possible then.
    Not,
    /// The call's end and the next start's: with an error or not.
    So(bool, bool),
}

fn told(error: &Error) -> Option<String> {
    let text = error.to_string();
    let is_bug = matches!(
        error,
        Error::Refused(Cause::Bug(_)) | Error::Interrupted { cause: Cause::Bug(_), .. }
    );
    (is_bug || text.is_empty()).then_some(text)
}

/// The pairs of a store, by a program that knows nothing of cutover.
fn read_store(path: &Path) -> Option<Pairs> {
    fs::write(path.join("version"), b"FJL\x03").ok()?;
    let read = || -> fjall::Result<Pairs> {
        let database = fjall::Database::builder(path).worker_threads_unchecked(0).open()?;
        if !database.keyspace_exists("k") {
            return Ok(Pairs::new());
        }
        let keyspace = database.keyspace("k", fjall::KeyspaceCreateOptions::default)?;
        let pairs = keyspace.iter().map(fjall::Guard::into_inner);
        pairs.map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
    };
    catch_unwind(AssertUnwindSafe(read)).ok()?.ok()
}

fn inodes(folder: &Path) -> BTreeMap<&'static str, u64> {
    let inode = |source: &'static str| {
        let places = [source.to_owned(), format!("{source}.retired")];
        let metadata = places
            .iter()
            .find_map(|at| fs::symlink_metadata(folder.join(at)).ok().filter(fs::Metadata::is_dir));
        Some((source, metadata?.ino()))
    };
    SOURCES.into_iter().filter_map(inode).collect()
}

fn table(target: &Path, source: &str) -> Option<Pairs> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(target, flags).ok()?;
    let mut rows = connection.prepare(&format!("SELECT key, value FROM {source}_k")).ok()?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).ok()?;
    rows.collect::<Result<_, _>>().ok()
}

/// One run of a story in which somebody else acts at an instant.
fn run(
    place: &Place,
    story: &Story,
    at: usize,
    (fact, deed): (&'static str, Deed),
) -> Result<Ended, Vec<String>> {
    place.reset();
    let stores = inodes(&place.folder);
    let watch = Rc::new(RefCell::new(Watch {
        folder: place.folder.clone(),
        aside: place.aside.clone(),
        theirs: place.theirs.clone(),
        target: place.target,
        fact,
        deed,
        at,
        passed: 0,
        step: String::new(),
        done: None,
        history: Vec::new(),
        path: PathBuf::new(),
        left: None,
        has_looked: false,
        is_intact: false,
        both: false,
        before: (Vec::new(), false),
        wrong: Vec::new(),
    }));
    let hand = Rc::clone(&watch);
    fault::arm_act(move |name| hand.borrow_mut().instant(name));
    let call = |act: &str| {
        catch_unwind(AssertUnwindSafe(|| play(act, &place.folder, place.target)))
            .map_err(|_| vec![format!("{act} panicked")])
    };
    let first = call(story.act);
    fault::arm(None);
    let mut watch = watch.borrow_mut();
    let first = first?;
    if watch.done.is_none() {
        return Ok(if watch.passed < at { Ended::Over } else { Ended::Not });
    }
    watch.check("the end");
    watch.has_looked = true;
    let then = call(story.then)?;
    watch.check("the next start's end");
    let mut wrong = std::mem::take(&mut watch.wrong);
    wrong.extend([&first, &then].into_iter().filter_map(|ended| told(ended.as_ref().err()?)));
    let end = if then.is_ok() { Some(story.end) } else { None };
    wrong.extend(is_touched(&watch, story.act == "reclaim"));
    wrong.extend(is_lost(place, &watch, &stores, story.act == "reclaim"));
    wrong.extend(end.and_then(|end| is_not(place, &watch, end)));
    if wrong.is_empty() { Ok(Ended::So(first.is_ok(), then.is_ok())) } else { Err(wrong) }
}

/// I-3: a store that is nowhere, or not whole, and not in a target either.
fn is_lost(
    place: &Place,
    watch: &Watch,
    stores: &BTreeMap<&'static str, u64>,
    reclaims: bool,
) -> Vec<String> {
    let mut lost = Vec::new();
    let of_the_store = watch.fact.starts_with("<store>/keyspaces");
    for (of, source) in (1..).zip(SOURCES) {
        let Some(inode) = stores.get(source) else { continue };
        if of_the_store && source == "a" {
            continue;
        }
        let entries = [&place.folder, &place.aside].into_iter().flat_map(|folder| {
            let entries = fs::read_dir(folder).expect("lists");
            entries.map(|entry| entry.expect("lists").path()).collect::<Vec<_>>()
        });
        let found = entries
            .filter(|path| path.is_dir())
            .find(|path| fs::metadata(path).is_ok_and(|metadata| metadata.ino() == *inode));
        let is_taken_away = found.as_ref().is_some_and(|path| path.starts_with(&place.aside));
        let whole = match &found {
            Some(path) if !reclaims || is_taken_away && watch.is_intact => {
                read_store(path) == Some(pairs(of))
            }
            _ => {
                let sql = [&place.folder, &place.aside].map(|folder| folder.join(place.target));
                reclaims && sql.iter().any(|target| table(target, source) == Some(pairs(of)))
                    || found.as_ref().is_some_and(|path| read_store(path) == Some(pairs(of)))
                    || matches!(watch.deed, Deed::Sql(..))
            }
        };
        if !whole {
            lost.push(format!("I-3: the store of {source} is lost, or not whole: {found:?}"));
        }
    }
    lost
}

/// I-8: what he put there is gone, or is not what he put there.
fn is_touched(watch: &Watch, reclaims: bool) -> Option<String> {
    let is_theirs =
        |target: &Path| rows(target, "SELECT x FROM theirs").is_some_and(|rows| rows.len() == 1);
    let stands = match watch.deed {
        Deed::File if watch.fact == "<store>/version" && reclaims => true,
        // The second lock keeps the bytes that it finds.
        Deed::File if watch.fact == "<store>/version" => {
            ["a", "a.retired"].into_iter().any(|store| {
                let found = fs::read(watch.folder.join(store).join("version")).unwrap_or_default();
                found == THEIRS || String::from_utf8_lossy(&found).contains(&hex::encode(THEIRS))
            })
        }
        Deed::File => fs::read(&watch.path).is_ok_and(|bytes| bytes == THEIRS),
        // A later start takes what stands at a source's name for the source.
        Deed::Store => SOURCES.into_iter().chain([MISSING]).any(|source| {
            ["", ".retired"].into_iter().any(|end| {
                let theirs = watch.folder.join(format!("{source}{end}")).join("theirs");
                fs::read(theirs).is_ok_and(|bytes| bytes == THEIRS)
            })
        }),
        Deed::Database => is_theirs(&watch.path),
        _ if watch.fact == "their table" => is_theirs(&watch.folder.join(watch.target)),
        Deed::Remove | Deed::Earlier | Deed::MoveBack | Deed::Native | Deed::Sql(..) => true,
    };
    (!stands).then(|| format!("I-8: what was put at {} is gone", watch.fact))
}

/// What is not as it should be behind a start that ended well.
fn is_not(place: &Place, watch: &Watch, end: End) -> Option<String> {
    let (kv, sql) = sides(&place.folder, place.target);
    let target = place.folder.join(place.target);
    // Rows of a live target are the daemon's, and his to change; and so is a store that is open. A
    // store is given back without comparing it: another way back there is not.
    let his = matches!(watch.deed, Deed::Sql(..)) && watch.before.1
        || matches!(watch.deed, Deed::Store | Deed::Remove) && !watch.before.0.is_empty()
        || watch.deed == Deed::Store && watch.fact.ends_with(".retired") && end == End::Kv;
    for (of, source) in (1..).zip(SOURCES) {
        let found = match end {
            End::Sql if !kv.is_empty() || !sql => {
                return Some(format!("the end is not SQL: {kv:?} can be written, SQL: {sql}"));
            }
            End::Sql => table(&target, source),
            End::Kv if sql || !kv.contains(&source) => {
                return Some(format!("the end is not KV: {kv:?} can be written, SQL: {sql}"));
            }
            End::Kv => read_store(&place.folder.join(source)),
        };
        if found != Some(pairs(of)) && !his {
            return Some(format!("{source} holds {}", found.map_or(0, |pairs| pairs.len())));
        }
    }
    None
}

/// All runs of a story, or one of every so many.
fn sweep(name: &str, story: &Story) {
    let samples = std::env::var("CUTOVER_SWEEP").ok().and_then(|text| text.parse().ok());
    let stride = (STRIDE * SAMPLES / samples.unwrap_or(SAMPLES).max(1)).max(1);
    let place = Place::new(story);
    // The instants that it passes when nobody else acts.
    place.reset();
    fault::arm(None);
    play(story.act, &place.folder, place.target).expect("nobody else acts");
    let instants = fault::instants();
    fault::arm(None);
    let runs = instants.len() * DEEDS.len();
    let (mut done, mut not, mut ends) = (0, 0, [0; 4]);
    let mut wrong: BTreeMap<String, (usize, String)> = BTreeMap::new();
    // From run to run both the deed and the instant change.
    for number in (0..runs).step_by(stride) {
        let at = number % instants.len();
        let deed = *DEEDS.get(number / instants.len()).expect("a deed");
        match run(&place, story, at + 1, deed) {
            Ok(Ended::Over) => panic!("{name} came to no instant {at}"),
            Ok(Ended::Not) => not += 1,
            Ok(Ended::So(first, then)) => {
                done += 1;
                *ends.get_mut(usize::from(first) * 2 + usize::from(then)).expect("four") += 1;
            }
            Err(faults) => {
                done += 1;
                let instant = instants.get(at).map_or("", String::as_str);
                let before = instants
                    .iter()
                    .take(at)
                    .rev()
                    .find(|name| name.starts_with(|first: char| first.is_ascii_uppercase()));
                let before = before.map_or("", String::as_str);
                let key = format!("{name}: {deed:?}: {}", faults.join("; "));
                let entry =
                    wrong.entry(key).or_insert((0, format!("at {at} '{instant}' in {before}")));
                entry.0 += 1;
            }
        }
    }
    println!(
        "{name}: {} instants, {runs} runs, {done} made, {not} not possible; ended with errors both times {}, well by the next start {}, well and refused by the next start {}, well {}",
        instants.len(),
        ends[0],
        ends[1],
        ends[2],
        ends[3],
    );
    assert!(done > 0, "{name}: nobody acted");
    let wrong: Vec<String> = wrong
        .into_iter()
        .map(|(what, (times, first))| format!("{times} x {what} ({first})"))
        .collect();
    assert!(wrong.is_empty(), "{} kinds:\n{}", wrong.len(), wrong.join("\n"));
}

macro_rules! sweeps {
    ($($test:ident: $story:expr;)*) => {$(
        #[test]
        fn $test() {
            sweep(stringify!($test), &$story);
        }
    )*};
}

sweeps! {
    i1_i3_i8_whatever_somebody_else_does_during_a_migration_is_noticed_or_does_no_harm:
        story(&[], "sql", "sql", End::Sql);
    i1_i3_i8_whatever_somebody_else_does_while_a_copy_goes_on_is_noticed_or_does_no_harm:
        story(&["part-way"], "sql", "sql", End::Sql);
    i1_i3_i8_whatever_somebody_else_does_during_a_preparation_is_noticed_or_does_no_harm:
        story(&[], "prepare", "kv", End::Kv);
    i1_i3_i8_whatever_somebody_else_does_during_an_abort_is_noticed_or_does_no_harm:
        story(&["part-way"], "abort", "abort", End::Kv);
    i1_i3_i8_whatever_somebody_else_does_while_a_commit_is_taken_back_is_noticed_or_does_no_harm:
        story(&["committed"], "abort", "abort", End::Kv);
    i1_i3_i8_whatever_somebody_else_does_behind_the_commit_point_is_noticed_or_does_no_harm:
        story(&["committed"], "sql", "sql", End::Sql);
    i1_i3_i8_whatever_somebody_else_does_during_a_rerun_is_noticed_or_does_no_harm:
        story(&["migrated", "lose"], "rerun", "rerun", End::Sql);
    i1_i3_i8_whatever_somebody_else_does_while_a_rerun_is_left_is_noticed_or_does_no_harm:
        story(&["migrated", "lose"], "rerun-abort", "restore", End::Kv);
    i1_i3_i8_whatever_somebody_else_does_during_a_restore_is_noticed_or_does_no_harm:
        story(&["migrated", "lose"], "restore", "restore", End::Kv);
    i1_i3_i8_whatever_somebody_else_does_during_a_reclaim_is_noticed_or_does_no_harm:
        story(&["migrated"], "reclaim", "sql", End::Sql);
    i1_i3_i8_whatever_somebody_else_does_while_a_target_is_replaced_is_noticed_or_does_no_harm:
        Story { target: OTHER, ..story(&["migrated", "lose the volume"], "replace", "rerun", End::Sql) };
    i1_i3_i8_whatever_somebody_else_does_while_a_record_is_forgotten_is_noticed_or_does_no_harm:
        story(&["migrated", "lose the record"], "forget", "restore", End::Kv);
}
