//! The command line, the plan file, the hints in markers, and the demo.

use super::{COMMAND, Daemon, code, cutover, text, unchanged};
use crate::child;
use crate::common::{Pairs, SOURCES, read_table, small_store, snapshot, write_store};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

#[test]
fn the_help_of_the_command_and_of_every_verb_lists_the_exit_codes() {
    let all = cutover(&["--help"]);
    assert_eq!(code(&all), 0);
    for verb in [
        "status",
        "plan",
        "migrate",
        "prepare",
        "finalize",
        "verify",
        "abort",
        "rerun",
        "restore-kv",
        "reclaim",
        "demo",
    ] {
        assert!(text(&all.stdout).contains(verb), "{verb}");
        if verb != "demo" {
            let help = text(&cutover(&[verb, "--help"]).stdout);
            for line in [
                "Exit codes:",
                "  4  contradiction",
                "  7  failed part-way",
                "  130  stopped as asked",
            ] {
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
    assert_eq!(code(&cutover(&["demo", "/proc/nowhere"])), 3);
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
    let named = file.to_str().expect("UTF-8");
    assert_eq!(code(&cutover(&["migrate", "--yes", "--plan", named])), 0);
    fs::remove_file(daemon.target()).expect("removes");
    // What is in the way of the second source's marker stops a rerun with the first one's in place.
    fs::create_dir_all(daemon.in_the_way_of("sessions").join("full")).expect("a folder");
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

/// The first block in this language of one of the guides.
fn block(guide: &str, language: &str) -> String {
    let path = format!("{}/docs/{guide}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).expect("the guide");
    let block = text.split(&format!("```{language}\n")).nth(1).expect("a block");
    block.split("```").next().expect("its end").to_owned()
}

#[test]
fn the_plan_file_of_the_guide_works_and_every_key_is_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let pair = |value: &str| BTreeMap::from([(b"k".to_vec(), value.as_bytes().to_vec())]);
    let pairs = ["balances", "names"].map(|name| (name.to_owned(), pair(name)));
    write_store(&at("accounts"), &Pairs::from(pairs));
    let example = block("operators.md", "toml");
    fs::write(at("plan.toml"), &example).expect("writes");
    let named = at("plan.toml").display().to_string();
    for verb in [&["plan"][..], &["migrate", "--yes"], &["verify"]] {
        let output = cutover(&[verb, &["--plan", &named]].concat());
        assert_eq!(code(&output), 0, "{verb:?}: {}", text(&output.stderr));
    }
    assert_eq!(read_table(&at("app.sqlite"), "account_balance"), pair("balances"));
    assert_eq!(read_table(&at("app.sqlite"), "accounts_names"), pair("names"));
    // The keys, as the command itself lists them.
    let guide = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operators.md"));
    let guide = guide.expect("the guide");
    for (file, keys) in [
        ("target = 't'\nnone = 1", 5),
        ("target = 't'\n[[source]]\nname='a'\npath='a'\nnone = 1", 8),
    ] {
        fs::write(at("plan.toml"), file).expect("writes");
        let said = text(&cutover(&["status", "--plan", &named]).stderr);
        let listed = said.split("expected one of ").nth(1).expect("a list");
        let listed: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
        assert_eq!(listed.len(), keys, "{said}");
        for key in listed {
            let is_used = example
                .lines()
                .any(|line| line.starts_with(&format!("{key} = ")) || line == format!("[[{key}]]"));
            assert!(is_used, "{key} is not in the example");
            assert!(guide.contains(&format!("| `{key}` |")), "{key} is not in the table");
        }
    }
}

#[test]
fn a_blob_table_is_what_the_guide_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let pairs = BTreeMap::from([(b"k".to_vec(), b"v".to_vec())]);
    write_store(&folder.path().join("accounts"), &Pairs::from([("balances".to_owned(), pairs)]));
    let source = format!("accounts={}", at("accounts"));
    let words = ["migrate", "--yes", "--source", &source, "--target", &at("t.sqlite")];
    assert_eq!(code(&cutover(&words)), 0);
    let connection = rusqlite::Connection::open(at("t.sqlite")).expect("opens");
    let made = "SELECT sql FROM sqlite_schema WHERE name = 'accounts_balances'";
    let made: String = connection.query_row(made, [], |row| row.get(0)).expect("a table");
    assert_eq!(block("authors.md", "sql").trim(), made);
}
