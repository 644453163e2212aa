//! `status` and `plan`: what they tell, and that they leave everything alone.

use super::{COMMAND, Daemon, code, cutover, text, unchanged};
use crate::child;
use crate::common::snapshot;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn status_tells_one_object_and_changes_nothing_while_a_daemon_holds_its_store() {
    let daemon = Daemon::opened_once();
    let held = daemon.path("accounts");
    let mut holder = child::command(&["fjall-hold", held.to_str().expect("UTF-8")])
        // It lets go where its input ends.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child process");
    let mut lines = BufReader::new(holder.stdout.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.expect("reads").contains("holding")));
    let before = snapshot(&daemon.folder);
    let status = daemon.status();
    assert_eq!(status["state"], "Fresh");
    assert_eq!(status["sources"][0]["marker"], "none");
    assert_eq!(status["sources"][0]["directory"], true);
    let user = status["sources"][0]["in_use_by"].as_str().expect("a process");
    assert!(user.contains(&holder.id().to_string()), "{user}");
    assert_eq!(status["sources"][1]["in_use_by"], Value::Null);
    assert_eq!(status["can"][1]["verb"], "migrate");
    // A migration, and its dry run, need the store for themselves.
    let refused = daemon.ends("plan", &["--json"], 3);
    let preview: Value = serde_json::from_slice(&refused.stdout).expect("one JSON object");
    let reason = preview["refused"][0].as_str().expect("a reason");
    assert!(reason.contains("'accounts'") && reason.contains("in use by process"), "{reason}");
    assert!(text(&daemon.ends("migrate", &["--yes"], 3).stderr).contains("in use by process"));
    unchanged(&daemon.folder, &before);
    holder.kill().expect("kills");
    holder.wait().expect("ends");
}

#[test]
fn plan_counts_every_pair_marks_the_commit_point_and_changes_nothing() {
    let daemon = Daemon::opened_once();
    let before = snapshot(&daemon.folder);
    let output = daemon.ends("plan", &["--json"], 0);
    unchanged(&daemon.folder, &before);
    let preview: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let keyspaces = preview["keyspaces"].as_array().expect("keyspaces");
    assert_eq!(keyspaces.len(), 4);
    for keyspace in keyspaces {
        assert_eq!(keyspace["pairs"], 20);
        assert_eq!(keyspace["bytes"], 120);
    }
    assert_eq!(keyspaces[0]["tables"][0], "accounts_first");
    let steps = preview["steps"].as_array().expect("steps");
    let marked: Vec<usize> =
        (0..steps.len()).filter(|&at| steps[at]["irreversible"] == true).collect();
    assert_eq!(marked.len(), 1);
    assert!(marked[0] > 3 && marked[0] < steps.len() - 1);
    assert_eq!(preview["refused"], Value::Array(vec![]));
    let said = text(&daemon.ends("plan", &[], 0).stdout);
    assert!(said.contains("accounts/first as blobs into accounts_first: 20 pairs, 120 bytes"));
    assert!(said.contains("the commit point: nothing goes back automatically"), "{said}");
}

#[test]
fn an_object_that_can_not_be_printed_is_an_error() {
    let daemon = Daemon::opened_once();
    for verb in [&["status", "--json"][..], &["plan", "--json"], &["plan", "--full", "--json"]] {
        let full = fs::File::options().write(true).open("/dev/full").expect("opens");
        let words = daemon.words(verb[0], &verb[1..]);
        let output = Command::new(COMMAND).args(&words).stdout(full).output().expect("the command");
        assert_eq!(code(&output), 7, "{verb:?}");
        let said = text(&output.stderr);
        assert!(said.contains("can't print: No space left on device"), "{verb:?}: {said}");
    }
}

/// A migration that is done is done; a script must know all the same that it read nothing.
#[test]
fn no_verb_ends_with_0_where_what_it_says_can_not_be_printed() {
    let daemon = Daemon::opened_once();
    let ends_with_7 = |words: &[String]| {
        let full = fs::File::options().write(true).open("/dev/full").expect("opens");
        let output = Command::new(COMMAND).args(words).stdout(full).output().expect("the command");
        assert_eq!(code(&output), 7, "{words:?}: {}", text(&output.stderr));
    };
    for verb in ["status", "plan", "migrate", "verify", "migrate", "reclaim"] {
        let yes: &[&str] = if ["migrate", "reclaim"].contains(&verb) { &["--yes"] } else { &[] };
        ends_with_7(&daemon.words(verb, yes));
    }
    ends_with_7(&["--help".to_owned()]);
    ends_with_7(&["completions".to_owned(), "bash".to_owned()]);
    assert_eq!(daemon.state(), "Tombstoned");
    daemon.ends("abort", &["--yes"], 3);
    // A reader that has read enough is not such a case: `cutover status | head -1`.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let words = daemon.words("status", &[]);
    let output = Command::new(COMMAND).args(words).stdout(writer).output().expect("the command");
    assert_eq!(code(&output), 0);
}

#[test]
fn plan_lists_everything_that_would_be_refused_and_not_only_the_first() {
    let daemon = Daemon::opened_once();
    let connection = rusqlite::Connection::open(daemon.target()).expect("opens");
    for table in ["accounts_first", "accounts_second"] {
        let sql = format!("CREATE TABLE {table} (x); INSERT INTO {table} VALUES (1)");
        connection.execute_batch(&sql).expect("a table with a row");
    }
    drop(connection);
    fs::remove_dir_all(daemon.path("sessions")).expect("removes");
    let before = snapshot(&daemon.folder);
    let said = text(&daemon.ends("plan", &[], 3).stdout);
    for reason in
        ["source 'sessions' is missing", "table 'accounts_first'", "table 'accounts_second'"]
    {
        assert!(said.contains(reason), "{said}");
    }
    // What would not come to be is not told as if it did.
    assert!(!said.contains("  1. "), "{said}");
    let refused = daemon.ends("migrate", &["--yes"], 3);
    assert!(text(&refused.stderr).contains("source 'sessions' is missing"));
    unchanged(&daemon.folder, &before);
}

#[test]
fn status_prints_one_object_when_a_place_can_not_even_be_looked_at() {
    let daemon = Daemon::new();
    fs::write(daemon.target(), "this is a text file, and longer than a header would be")
        .expect("writes");
    let status = daemon.status();
    assert_eq!(status["state"], "Unknown");
    assert_eq!(status["target"]["record"], "unreadable");
    assert_eq!(status["sources"][0]["directory"], true);
    daemon.ends("plan", &[], 3);
    let nowhere = cutover(&[
        "status",
        "--json",
        "--source",
        "a=/nowhere/at/all/a",
        "--target",
        "/nowhere/at/all/t",
    ]);
    assert_eq!(code(&nowhere), 3);
    let status: Value = serde_json::from_slice(&nowhere.stdout).expect("one JSON object");
    assert_eq!(status["sources"][0]["marker"], "unknown");
    assert!(status["next"].as_str().is_some());
}

#[test]
fn status_beside_a_running_migration_disturbs_nothing_and_never_sees_a_damage() {
    let daemon = Daemon::new();
    let mut part = child::command(&["sql", daemon.folder.to_str().expect("UTF-8")]);
    let mut migration = part.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a child");
    let mut looks = 0;
    let ended = loop {
        let status = daemon.status();
        let what = status["what"].as_str().unwrap_or_default();
        assert!(what.is_empty() || what.contains("works on it"), "{status}");
        looks += 1;
        if let Some(ended) = migration.try_wait().expect("waits") {
            break ended;
        }
    };
    assert!(ended.success() && looks > 1, "{looks} looks");
    assert_eq!(daemon.state(), "Tombstoned");
    daemon.is_whole_in_sql();
}
