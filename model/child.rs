//! Other processes. The test binary runs itself again, as a program that knows nothing of cutover,
//! or as one that is killed at a fault point.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Tells the binary which part it plays: words divided by the unit separator.
const ENVIRONMENT: &str = "CUTOVER_TEST_CHILD";
const SEPARATOR: &str = "\u{1f}";

/// What ended a process that was killed at a fault point, or by the disk.
pub const SIGKILL: i32 = 9;

/// A command that plays the part that `words` name.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test's own path"));
    command
        .args(["child::plays_its_part", "--exact", "--ignored", "--nocapture"])
        .env(ENVIRONMENT, words.join(SEPARATOR))
        .stdin(Stdio::null());
    command
}

/// Runs a part to its end.
pub fn run(words: &[&str]) -> Output {
    command(words).output().expect("a child process")
}

/// Runs a part that is to be killed at a fault point; whether it was.
pub fn killed(words: &[&str], at: usize) -> bool {
    let output = command(words)
        .env(cutover::fault::ENVIRONMENT, format!("kill:{at}"))
        .output()
        .expect("a child process");
    let killed = output.status.signal() == Some(SIGKILL);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(killed || output.status.success(), "{words:?} killed at {at}: {text}");
    killed
}

/// Whether a stock fjall program, in a process of its own, can open or create a database at `path`
/// and insert. It changes what is there: give it a copy.
pub fn stock_fjall_writes(path: &Path) -> bool {
    run(&["fjall-write", path.to_str().expect("UTF-8")]).status.success()
}

/// Whether a plain SQLite program, in a process of its own, can insert into `table`. It changes
/// what is there: give it a copy.
pub fn plain_sqlite_writes(path: &Path, table: &str) -> bool {
    path.exists() && run(&["sqlite-write", path.to_str().expect("UTF-8"), table]).status.success()
}

#[test]
#[ignore = "other tests run it as a process of its own"]
fn plays_its_part() {
    let words = std::env::var(ENVIRONMENT).expect("a part to play");
    let words: Vec<&str> = words.split(SEPARATOR).collect();
    match words.as_slice() {
        ["fjall-write", path] => fjall_write(path),
        ["sqlite-write", path, table] => sqlite_write(path, table),
        ["fjall-hold", path] => fjall_hold(path),
        ["sqlite-hold", path, statements] => sqlite_hold(path, statements),
        ["cutover-hold", folder] => cutover_hold(Path::new(folder)),
        ["migrate-and-tell-memory", folder] => {
            crate::data::memory::migrate_and_tell_memory(Path::new(folder));
        }
        ["write-until-stopped", path, tag, log] => {
            crate::race::openers::write_until_stopped(path, tag, log);
        }
        ["owned-daemon", side, folder] => crate::owners::daemon(side, Path::new(folder)),
        ["swap", folder, victim] => crate::owners::swap(Path::new(folder), victim),
        ["quarantine", folder] => crate::quarantine::migrate(Path::new(folder)),
        ["indexes", folder] => crate::data::indexes::migrate(Path::new(folder)),
        ["keyspaces", folder] => crate::data::keyspaces::migrate(Path::new(folder)),
        ["sql", folder] => crate::common::drive_to_sql(Path::new(folder)),
        ["reclaim", folder] => crate::command::freeing::reclaim(Path::new(folder)),
        ["migrate", folder, target] => crate::command::places::migrate(folder, target),
        ["act", act, folder] => {
            cutover::fault::arm_from_environment();
            crate::crash::play(act, Path::new(folder)).expect("it ends");
        }
        ["disk", base, at, log, fault] => crate::power::serve(base, at, log, fault),
        ["power", act, folder, sources, killed_at] => {
            cutover::fault::arm_from_environment();
            let sources = sources.parse().expect("a number");
            crate::power::act(act, Path::new(folder), sources, killed_at).expect("it ends");
        }
        ["power-try", act, folder, sources] => {
            crate::power::try_act(act, Path::new(folder), sources.parse().expect("a number"));
        }
        ["act-limited", act, folder, bytes] => {
            crate::crash::memory::play_limited(act, Path::new(folder), bytes);
        }
        ["migrate-limited", folder, at, bytes] => {
            crate::crash::memory::migrate_limited(Path::new(folder), at, bytes);
        }
        ["conform", act, folder, place] => {
            cutover::fault::arm_from_environment();
            crate::conformance::disk::play(act, Path::new(folder), place);
        }
        other => panic!("no such part: {other:?}"),
    }
}

/// What an unaware program does at its start: open or create, and write.
fn fjall_write(path: &str) {
    let database = fjall::Database::builder(path).open().expect("opens");
    let keyspace =
        database.keyspace("stock", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    keyspace.insert("written by", "a stock program").expect("inserts");
    database.persist(fjall::PersistMode::SyncAll).expect("persists");
}

/// Holds a store open until its standard input ends.
fn fjall_hold(path: &str) {
    let database = fjall::Database::builder(path).open().expect("opens");
    hold();
    drop(database);
}

/// Holds a transaction open until its standard input ends.
fn sqlite_hold(path: &str, statements: &str) {
    let connection = rusqlite::Connection::open(path).expect("opens");
    connection.execute_batch(statements).expect("begins");
    hold();
    drop(connection);
}

/// Holds the small daemon's plan open until its standard input ends.
fn cutover_hold(folder: &Path) {
    let found = cutover::open(&crate::common::small_plan(folder)).expect("opens");
    hold();
    drop(found);
}

fn hold() {
    println!("holding");
    let mut end = String::new();
    std::io::stdin().read_line(&mut end).expect("standard input");
}

fn sqlite_write(path: &str, table: &str) {
    let connection = rusqlite::Connection::open(path).expect("opens");
    let inserted = connection
        .execute(&format!("INSERT INTO \"{table}\" (key, value) VALUES (x'ff00ff00ff', x'01')"), [])
        .expect("inserts");
    assert_eq!(inserted, 1);
}
