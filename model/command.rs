//! The operator's command, end to end: its exit codes, its words, and what it leaves alone.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

use crate::child;
use crate::common::{
    Pairs, SOURCES, read_store, read_table, small_daemon, small_store, snapshot, write_store,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const COMMAND: &str = env!("CARGO_BIN_EXE_cutover");

fn cutover(words: &[&str]) -> Output {
    Command::new(COMMAND).args(words).stdin(Stdio::null()).output().expect("the command")
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Demands that every file is as it was, and names those that are not.
fn unchanged(folder: &Path, before: &BTreeMap<String, Option<Vec<u8>>>) {
    let after = snapshot(folder);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> =
        names.into_iter().filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
}

/// The small daemon's stores, and the words that name them.
struct Daemon {
    _temporary: tempfile::TempDir,
    folder: PathBuf,
}

impl Daemon {
    fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join("data");
        fs::create_dir(&folder).expect("a folder");
        small_daemon(&folder);
        Self { _temporary: temporary, folder }
    }

    /// Opens every store once: fjall cuts the unused end off a new journal then, as at every open.
    fn opened_once() -> Self {
        let daemon = Self::new();
        daemon.is_whole_in_kv();
        daemon
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn target(&self) -> PathBuf {
        self.path("target.sqlite")
    }

    fn words(&self, verb: &str, more: &[&str]) -> Vec<String> {
        let mut words = vec![verb.to_owned(), "--name".to_owned(), "small".to_owned()];
        for name in SOURCES {
            words.push("--source".to_owned());
            words.push(format!("{name}={}", self.path(name).display()));
        }
        words.push("--target".to_owned());
        words.push(self.target().display().to_string());
        words.extend(more.iter().map(ToString::to_string));
        words
    }

    fn run(&self, verb: &str, more: &[&str]) -> Output {
        let words = self.words(verb, more);
        cutover(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs and demands an exit code.
    fn ends(&self, verb: &str, more: &[&str], expected: i32) -> Output {
        let output = self.run(verb, more);
        assert_eq!(
            code(&output),
            expected,
            "{verb} {more:?}\n{}\n{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        output
    }

    fn state(&self) -> String {
        self.status()["state"].as_str().expect("a state").to_owned()
    }

    fn status(&self) -> Value {
        serde_json::from_slice(&self.run("status", &["--json"]).stdout).expect("one JSON object")
    }

    fn is_whole_in_kv(&self) {
        for (seed, name) in (1..).zip(SOURCES) {
            assert_eq!(read_store(&self.path(name)), small_store(seed, 20));
        }
    }

    fn is_whole_in_sql(&self) {
        for (seed, name) in (1..).zip(SOURCES) {
            for (keyspace, pairs) in small_store(seed, 20) {
                assert_eq!(read_table(&self.target(), &format!("{name}_{keyspace}")), pairs);
            }
        }
    }

    /// Runs `migrate` in a process that is killed at the fault point with this number.
    fn killed_at(&self, point: usize) {
        let mut part = child::command(&["sql", self.folder.to_str().expect("UTF-8")]);
        part.env("CUTOVER_FAULT", format!("kill:{point}")).output().expect("a child");
    }

    /// Kills a migration at its first point where the state is `wanted`.
    fn left_at(wanted: &str) -> Self {
        let order = ["Fresh", "Migrating", "Committed", "Tombstoned"];
        let rank = |state: &str| order.iter().position(|name| *name == state);
        let daemon = Self::left(|daemon| rank(&daemon.state()) >= rank(wanted));
        assert_eq!(daemon.state(), wanted);
        daemon
    }

    /// Kills a migration at its first point where this source has its marker.
    fn left_at_marker(source: &str) -> Self {
        Self::left(|daemon| daemon.path(source).is_file())
    }

    /// `reached` is false up to some fault point, and true from there on.
    fn left(reached: impl Fn(&Self) -> bool) -> Self {
        // More fault points than a migration of these stores passes.
        let (mut before, mut at) = (0, 1024);
        let mut left = None;
        while at - before > 1 {
            let point = usize::midpoint(before, at);
            let daemon = Self::new();
            daemon.killed_at(point);
            if reached(&daemon) {
                (at, left) = (point, Some(daemon));
            } else {
                before = point;
            }
        }
        left.expect("a kill that left it so")
    }
}

#[test]
fn the_help_of_the_command_and_of_every_verb_lists_the_exit_codes() {
    let all = cutover(&["--help"]);
    assert_eq!(code(&all), 0);
    for verb in
        ["status", "plan", "migrate", "verify", "abort", "rerun", "restore-kv", "reclaim", "demo"]
    {
        assert!(text(&all.stdout).contains(verb), "{verb}");
        if verb != "demo" {
            let help = text(&cutover(&[verb, "--help"]).stdout);
            for line in ["Exit codes:", "  4  contradiction", "  7  failed part-way"] {
                assert!(help.contains(line), "{verb}: {help}");
            }
        }
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("plan.toml");
    let named = file.to_str().expect("UTF-8");
    for (words, reason) in [
        (vec!["frobnicate"], "unrecognized subcommand"),
        (vec!["status"], "no target is given"),
        (vec!["status", "--target", "t"], "no source is given"),
        (vec!["status", "--target", "t", "--source", "a"], "it is not NAME=DIR"),
        (
            vec!["status", "--target", "t", "--source", "a=b", "--may-be-missing", "c"],
            "names no source",
        ),
        (
            vec!["status", "--target", "t", "--source", "a=b", "--source", "a=c"],
            "two sources are named 'a'",
        ),
        (vec!["status", "--plan", named], "can't be read"),
        (vec!["status", "--plan", named, "--target", "t"], "cannot be used with"),
    ] {
        let output = cutover(&words);
        assert_eq!(code(&output), 2, "{words:?}");
        assert!(text(&output.stderr).contains(reason), "{words:?}: {}", text(&output.stderr));
    }
    for (content, reason) in [
        ("target = 't'", "missing field `source`"),
        ("target = 't'\nsource = []\nfoo = 1", "unknown field `foo`"),
        ("target = 't'\n[[source]]\nname='a'\npath='a'\ntable={}", "unknown field `table`"),
        ("target = 't'\njournal_mode = 'off'\nsource = []", "unknown variant `off`"),
        ("target = 't'\nsource = []", "it has no source"),
        ("not toml", "line 1"),
    ] {
        fs::write(&file, content).expect("writes");
        let output = cutover(&["status", "--plan", named]);
        assert_eq!(code(&output), 2, "{content}");
        let said = text(&output.stderr);
        assert!(said.contains(reason) && said.lines().count() == 1, "{content}: {said}");
    }
    fs::write(&file, " ".repeat(1024 * 1024 + 1)).expect("writes");
    assert!(text(&cutover(&["status", "--plan", named]).stderr).contains("more than 1048576"));
}

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
    assert!(said.contains("no way back by itself after this"), "{said}");
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
    let refused = daemon.ends("migrate", &["--yes"], 3);
    assert!(text(&refused.stderr).contains("source 'sessions' is missing"));
    unchanged(&daemon.folder, &before);
}

#[test]
fn a_change_without_a_yes_and_without_a_terminal_ends_with_5_and_changes_nothing() {
    let fresh = Daemon::new();
    let before = snapshot(&fresh.folder);
    let said = fresh.ends("migrate", &[], 5);
    assert!(text(&said.stdout).contains("source 'accounts' at"), "it says what will happen");
    assert!(text(&said.stderr).contains("--yes"));
    unchanged(&fresh.folder, &before);
    for (state, verbs) in
        [("Migrating", vec!["abort", "migrate"]), ("Committed", vec!["abort", "migrate"])]
    {
        let daemon = Daemon::left_at(state);
        for verb in verbs {
            daemon.ends(verb, &[], 5);
            assert_eq!(daemon.state(), state);
        }
    }
    fresh.ends("migrate", &["--yes"], 0);
    fresh.ends("reclaim", &[], 5);
    fs::remove_file(fresh.target()).expect("removes");
    for verb in ["rerun", "restore-kv"] {
        fresh.ends(verb, &[], 5);
        assert_eq!(fresh.state(), "RerunAllowed");
    }
}

#[test]
fn a_whole_life_migrate_verify_lose_rerun_reclaim() {
    let daemon = Daemon::new();
    daemon.ends("verify", &[], 3);
    daemon.ends("rerun", &["--yes"], 3);
    daemon.ends("reclaim", &["--yes"], 3);
    assert_eq!(daemon.state(), "Fresh");
    daemon.ends("migrate", &["--yes"], 0);
    assert_eq!(daemon.state(), "Tombstoned");
    daemon.is_whole_in_sql();
    let said = text(&daemon.ends("verify", &[], 0).stdout);
    assert!(said.contains("sessions/second: 20 pairs"), "{said}");
    daemon.ends("migrate", &["--yes"], 0);
    daemon.ends("abort", &["--yes"], 3);
    daemon.ends("rerun", &["--yes"], 3);
    daemon.ends("restore-kv", &["--yes"], 3);
    fs::remove_file(daemon.target()).expect("removes");
    assert_eq!(daemon.state(), "RerunAllowed");
    let said = daemon.ends("migrate", &["--yes"], 5);
    assert!(text(&said.stderr).contains("cutover rerun"));
    daemon.ends("verify", &[], 3);
    daemon.ends("reclaim", &["--yes"], 3);
    daemon.ends("rerun", &["--yes"], 0);
    daemon.is_whole_in_sql();
    daemon.ends("reclaim", &["--yes"], 0);
    assert!(!daemon.path("accounts.retired").exists());
    assert_eq!(daemon.status()["sources"][0]["marker"], "reclaimed");
    daemon.ends("verify", &[], 0);
    daemon.is_whole_in_sql();
}

#[test]
fn the_stores_come_back_whole_from_every_state_that_has_a_way_back() {
    for state in ["Migrating", "Committed"] {
        let daemon = Daemon::left_at(state);
        daemon.ends("restore-kv", &["--yes"], 3);
        daemon.ends("abort", &["--yes"], 0);
        assert_eq!(daemon.state(), "Fresh");
        daemon.ends("abort", &["--yes"], 0);
        daemon.is_whole_in_kv();
    }
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    fs::remove_file(daemon.target()).expect("removes");
    daemon.ends("abort", &["--yes"], 3);
    daemon.ends("restore-kv", &["--yes"], 0);
    daemon.ends("restore-kv", &["--yes"], 0);
    daemon.is_whole_in_kv();
}

#[test]
fn migrate_goes_on_from_where_a_kill_left_it() {
    for state in ["Migrating", "Committed"] {
        let daemon = Daemon::left_at(state);
        // The killed process had another chunk size, which is no part of the plan's identity.
        daemon.ends("migrate", &["--yes"], 0);
        daemon.is_whole_in_sql();
    }
}

#[test]
fn a_difference_in_sql_ends_verify_with_6_and_names_the_daemons_own_writes() {
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    assert!(child::plain_sqlite_writes(&daemon.target(), "accounts_first"));
    let said = text(&daemon.ends("verify", &[], 6).stderr);
    assert!(said.contains("20 pairs expected and 21 found"), "{said}");
    assert!(said.contains("differences there are its own writes"), "{said}");
}

#[test]
fn a_contradiction_ends_with_4_and_status_shows_it_whole() {
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    write_store(&daemon.path("elsewhere"), &Pairs::new());
    fs::remove_file(daemon.path("accounts")).expect("removes");
    fs::rename(daemon.path("elsewhere"), daemon.path("accounts")).expect("renames");
    let before = snapshot(&daemon.folder);
    for verb in ["status", "plan", "verify"] {
        daemon.ends(verb, &[], 4);
    }
    for verb in ["migrate", "abort", "rerun", "restore-kv", "reclaim"] {
        daemon.ends(verb, &["--yes"], 4);
    }
    unchanged(&daemon.folder, &before);
    let status = daemon.status();
    assert_eq!(status["state"], "Contradiction");
    assert!(status["what"].as_str().expect("what").contains("accounts"));
    assert!(status["next"].as_str().is_some());
    assert_eq!(status["sources"][0]["directory"], true);
    assert_eq!(status["sources"][1]["marker"], "final");
}

#[test]
fn status_prints_one_object_when_a_place_can_not_even_be_looked_at() {
    let daemon = Daemon::new();
    fs::write(daemon.target(), "this is a text file, and longer than a header would be")
        .expect("writes");
    let status = daemon.status();
    assert_eq!(status["state"], "Contradiction");
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
    assert_eq!(code(&nowhere), 4);
    let status: Value = serde_json::from_slice(&nowhere.stdout).expect("one JSON object");
    assert_eq!(status["sources"][0]["marker"], "unknown");
    assert!(status["next"].as_str().is_some());
}

#[test]
fn abort_and_restore_work_on_the_markers_own_list_of_sources() {
    let other = |daemon: &Daemon, verb: &str, more: &[&str]| {
        let accounts = format!("accounts={}", daemon.path("accounts").display());
        let third = format!("third={}", daemon.path("third").display());
        let target = daemon.target().display().to_string();
        let mut words = vec![verb, "--name", "small", "--source", &accounts, "--source", &third];
        words.extend(["--may-be-missing", "third", "--target", &target]);
        words.extend(more);
        cutover(&words)
    };
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    fs::remove_file(daemon.target()).expect("removes");
    assert_eq!(code(&other(&daemon, "status", &[])), 4);
    assert_eq!(code(&other(&daemon, "migrate", &["--yes"])), 4);
    assert_eq!(code(&other(&daemon, "restore-kv", &[])), 5);
    let output = other(&daemon, "restore-kv", &["--yes"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("accounts, sessions"));
    assert_eq!(daemon.state(), "Fresh");
    daemon.is_whole_in_kv();
    assert!(!daemon.path("third").exists());
    // And before the commit point.
    let daemon = Daemon::left_at("Committed");
    assert_eq!(code(&other(&daemon, "abort", &["--yes"])), 0);
    daemon.is_whole_in_kv();
}

#[test]
fn a_target_that_is_lost_with_its_claim_is_replaced_only_when_the_operator_says_so() {
    for (verb, in_sql) in [("rerun", true), ("restore-kv", false)] {
        let daemon = Daemon::new();
        daemon.ends("migrate", &["--yes"], 0);
        fs::remove_file(daemon.target()).expect("removes");
        fs::remove_file(daemon.path("target.sqlite.cutover")).expect("removes");
        daemon.ends("status", &[], 4);
        let told = daemon.ends(verb, &["--yes"], 4);
        assert!(text(&told.stderr).contains("--target-lost"));
        daemon.ends(verb, &["--target-lost"], 5);
        daemon.ends(verb, &["--target-lost", "--yes"], 0);
        if in_sql { daemon.is_whole_in_sql() } else { daemon.is_whole_in_kv() }
    }
    let daemon = Daemon::left_at_marker("sessions");
    fs::remove_file(daemon.path("target.sqlite.cutover")).expect("removes");
    daemon.ends("abort", &["--yes"], 4);
    daemon.ends("abort", &["--target-lost", "--yes"], 0);
    daemon.is_whole_in_kv();
}

#[test]
fn a_step_that_fails_part_way_ends_with_7_and_the_next_run_finishes_it() {
    let daemon = Daemon::left_at("Committed");
    // A folder that is not empty, where the tombstone is to be written, can't be removed.
    let marker = fs::read_to_string(daemon.path("accounts")).expect("a marker");
    let id = marker.split("\"id\":\"").nth(1).expect("an id").split('"').next().expect("an id");
    let in_the_way = daemon.path(&format!("accounts.cutover-{id}"));
    let _ = fs::remove_file(&in_the_way);
    fs::create_dir_all(in_the_way.join("full")).expect("a folder");
    let output = daemon.ends("migrate", &["--yes"], 7);
    assert!(text(&output.stderr).contains("run it again"), "{}", text(&output.stderr));
    fs::remove_dir_all(&in_the_way).expect("removes");
    daemon.ends("migrate", &["--yes"], 0);
    daemon.is_whole_in_sql();
}

#[test]
fn a_plan_file_maps_leaves_out_and_is_named_in_the_markers() {
    let daemon = Daemon::new();
    let file = daemon.path("the plan.toml");
    let plan = "name = 'small'\ntarget = 'target.sqlite'\nchunk_bytes = 60\njournal_mode = 'wal'\n\
                [[source]]\nname = 'accounts'\npath = 'accounts'\n\
                tables = { first = 'people' }\nleave_out = ['second']\nevery_keyspace = false\n\
                [[source]]\nname = 'sessions'\npath = 'sessions'\n\
                [[source]]\nname = 'rules'\npath = 'rules'\nmay_be_missing = true\n";
    fs::write(&file, plan.replace("leave_out = ['second']\n", "")).expect("writes");
    let named = file.to_str().expect("UTF-8");
    let said = cutover(&["plan", "--plan", named]);
    assert_eq!(code(&said), 3);
    assert!(
        text(&said.stdout).contains("keyspace 'second' of source 'accounts' is neither mapped")
    );
    fs::write(&file, plan).expect("writes");
    let run = |words: &[&str], expected: i32| {
        let output = cutover(&[words, &["--plan", named]].concat());
        assert_eq!(code(&output), expected, "{}", text(&output.stderr));
    };
    run(&["migrate", "--yes"], 0);
    assert_eq!(read_table(&daemon.target(), "people"), small_store(1, 20)["first"]);
    assert_eq!(read_table(&daemon.target(), "sessions_second"), small_store(2, 20)["second"]);
    let connection = rusqlite::Connection::open(daemon.target()).expect("opens");
    let mode: String =
        connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("a mode");
    let tables: i64 = connection
        .query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%second%' AND type = 'table'",
            [],
            |row| row.get(0),
        )
        .expect("a count");
    assert_eq!((mode.as_str(), tables), ("wal", 1));
    drop(connection);
    run(&["status"], 0);
    run(&["verify"], 0);
    assert!(daemon.path("rules").is_file());
    fs::remove_file(daemon.target()).expect("removes");
    run(&["restore-kv", "--yes"], 0);
    daemon.is_whole_in_kv();
    assert!(!daemon.path("rules").exists());
}

#[test]
fn the_demo_shows_every_refusal_and_leaves_a_live_migration_behind() {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = temporary.path().join("demo");
    let named = folder.to_str().expect("UTF-8");
    let output = cutover(&["demo", named]);
    let said = text(&output.stdout);
    assert_eq!(code(&output), 0, "{said}{}", text(&output.stderr));
    assert_eq!(said.matches("NotADirectory").count(), 6, "{said}");
    assert!(said.contains("This is a cutover marker.") && said.contains("RerunAllowed"), "{said}");
    let file = folder.join("plan.toml");
    let named_file = file.to_str().expect("UTF-8");
    assert_eq!(code(&cutover(&["verify", "--plan", named_file])), 0);
    assert_eq!(read_table(&folder.join("daemon.sqlite"), "rules").len(), 40);
    let before = snapshot(&folder);
    let again = cutover(&["demo", named]);
    assert_eq!(code(&again), 3);
    unchanged(&folder, &before);
    assert!(!child::stock_fjall_writes(&folder.join("accounts")));
}

#[test]
fn a_marker_names_the_command_that_goes_back_and_it_works_as_it_stands() {
    let daemon = Daemon::new();
    let file = daemon.path("the plan.toml");
    let sources = SOURCES.map(|name| format!("[[source]]\nname = '{name}'\npath = '{name}'\n"));
    let plan = format!("name = 'small'\ntarget = 'target.sqlite'\n{}", sources.concat());
    fs::write(&file, plan).expect("writes");
    // The table is in the way of a rerun alone, so that it stops with its tombstones' hints.
    let named = file.to_str().expect("UTF-8");
    assert_eq!(code(&cutover(&["migrate", "--yes", "--plan", named])), 0);
    fs::remove_file(daemon.target()).expect("removes");
    let connection = rusqlite::Connection::open(daemon.target()).expect("opens");
    connection
        .execute_batch("CREATE TABLE sessions_first (x); INSERT INTO sessions_first VALUES (1)")
        .expect("a table with a row");
    drop(connection);
    assert_eq!(code(&cutover(&["rerun", "--yes", "--plan", named])), 7);
    let marker = fs::read_to_string(daemon.path("accounts")).expect("a marker");
    let hint = |label: &str| {
        let line = marker.lines().find_map(|line| line.strip_prefix(label)).expect("a hint");
        line.trim().to_owned()
    };
    let resolved = fs::canonicalize(&file).expect("a path");
    assert_eq!(hint("to go on:"), format!("cutover migrate --plan '{}'", resolved.display()));
    assert_eq!(hint("to go back:"), format!("cutover abort --plan '{}'", resolved.display()));
    // Without a file, the flags: a shell takes them as they stand.
    let daemon = Daemon::left_at("Committed");
    let marker = fs::read_to_string(daemon.path("accounts")).expect("a marker");
    let line = marker.lines().find_map(|line| line.strip_prefix("to go back:")).expect("a hint");
    let words = line.trim().strip_prefix("cutover").expect("the command");
    let shell = Command::new("sh")
        .args(["-c", &format!("{COMMAND} {words} --yes")])
        .output()
        .expect("a shell");
    assert_eq!(code(&shell), 0, "{}", text(&shell.stderr));
    daemon.is_whole_in_kv();
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
