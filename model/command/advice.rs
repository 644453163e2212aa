//! What the command advises, beside what comes of it.

use super::{Daemon, code, cutover, text};
use crate::common::copy_tree;
use std::fs;

/// Every verb that changes something, or needs a state.
const VERBS: [&str; 12] = [
    "plan",
    "migrate",
    "prepare",
    "finalize",
    "verify",
    "abort",
    "rerun",
    "restore-kv",
    "reclaim",
    "abort --target-lost",
    "rerun --target-lost",
    "restore-kv --target-lost",
];

/// Runs every verb on a copy of its own of what `daemon` has: one that `status` offers works, and one
/// that it does not offer refuses, or has nothing to do.
fn offers_what_works(situation: &str, daemon: &Daemon, more: &[&str]) {
    let status = daemon.run("status", &[&["--json"], more].concat());
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("one object");
    let can: Vec<&str> = status["can"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|verb| verb["verb"].as_str().expect("a verb"))
        .collect();
    let kept = tempfile::tempdir().expect("a folder");
    let kept = kept.path().join("kept");
    copy_tree(&daemon.folder, &kept);
    for verb in VERBS {
        let mut words: Vec<&str> = verb.split(' ').collect();
        let first = words.remove(0);
        if !matches!(first, "plan" | "verify") {
            words.push("--yes");
        }
        let output = daemon.run(first, &[&words, more].concat());
        let said = text(&output.stdout) + &text(&output.stderr);
        let succeeds = match code(&output) {
            0 => !said.contains("nothing to ") && !said.contains("nothing remains"),
            // What the daemon has written is not a refusal.
            8 => true,
            2..=5 => false,
            other => panic!("{situation}: {verb} ended with {other}: {said}"),
        };
        let offered = can.contains(&verb);
        if offered {
            assert!(succeeds, "{situation}: {verb} is offered: {said}");
        } else if succeeds && verb != "plan" {
            // It changes nothing, and tells of every state what comes next.
            // What goes on where nothing is left to choose may be said by one of its names.
            let same = [
                ("finalize", "migrate"),
                ("finalize", "prepare"),
                ("migrate", "finalize"),
                ("verify", "migrate"),
                ("verify", "finalize"),
                ("verify", "reclaim"),
                ("abort", "abort --target-lost"),
                ("rerun", "rerun --target-lost"),
                ("restore-kv", "restore-kv --target-lost"),
            ];
            let named = same.iter().any(|(told, also)| can.contains(told) && *also == verb);
            assert!(named, "{situation}: {verb} works and is not offered, but {can:?}: {said}");
        }
        fs::remove_dir_all(&daemon.folder).expect("removes");
        copy_tree(&kept, &daemon.folder);
    }
}

#[test]
fn status_offers_just_the_verbs_that_work_in_every_state() {
    let fresh = Daemon::opened_once();
    offers_what_works("fresh", &fresh, &[]);
    fs::rename(fresh.path("accounts"), fresh.path("elsewhere")).expect("renames");
    offers_what_works("a source is missing", &fresh, &[]);
    fs::rename(fresh.path("elsewhere"), fresh.path("accounts")).expect("renames");
    offers_what_works("sealed", &Daemon::left_at_marker("accounts"), &[]);
    offers_what_works("committed", &Daemon::left_at("Committed"), &[]);
    fresh.ends("prepare", &["--yes"], 0);
    offers_what_works("prepared", &fresh, &[]);
    fresh.ends("finalize", &["--yes"], 0);
    offers_what_works("live", &fresh, &[]);
    let live = tempfile::tempdir().expect("a folder");
    copy_tree(&fresh.folder, &live.path().join("live"));
    fresh.ends("reclaim", &["--yes"], 0);
    offers_what_works("reclaimed", &fresh, &[]);
    fs::remove_dir_all(&fresh.folder).expect("removes");
    copy_tree(&live.path().join("live"), &fresh.folder);
    fs::remove_file(fresh.target()).expect("removes");
    offers_what_works("the SQL file is gone", &fresh, &[]);
    fs::remove_file(fresh.path("target.sqlite.cutover")).expect("removes");
    offers_what_works("its claim too", &fresh, &[]);
}

/// A migration of tables that only the daemon knows; the command would make others.
#[test]
fn status_offers_no_copy_that_only_the_program_itself_can_make() {
    let daemon = Daemon::opened_once();
    let file = daemon.path("plan.toml");
    let plan = "name = 'small'\ntarget = 'target.sqlite'\n\
                [[source]]\nname = 'accounts'\npath = 'accounts'\ntables = { first = 'people' }\n\
                [[source]]\nname = 'sessions'\npath = 'sessions'\n";
    fs::write(&file, plan).expect("writes");
    let named = file.to_str().expect("UTF-8");
    assert_eq!(code(&cutover(&["prepare", "--yes", "--plan", named])), 0);
    offers_what_works("another's copy", &daemon, &[]);
    assert_eq!(code(&cutover(&["finalize", "--yes", "--plan", named])), 0);
    fs::remove_file(daemon.target()).expect("removes");
    offers_what_works("another's copy is lost", &daemon, &[]);
    let status = daemon.status();
    let can = status["can"].as_array().expect("a list");
    assert_eq!(can.len(), 1, "{can:?}");
    assert_eq!(can[0]["verb"], "restore-kv");
    // And no error sends anybody there.
    let said = text(&daemon.ends("migrate", &["--yes"], 5).stderr);
    assert!(!said.contains("cutover rerun") && said.contains("`cutover restore-kv`"), "{said}");
}

/// It said Fresh, and that a migration can begin, and ended with 0.
#[test]
fn a_path_that_is_not_there_has_one_exit_code_in_every_verb() {
    let daemon = Daemon::opened_once();
    let every = |daemon: &Daemon, reason: &str| {
        for verb in ["status", "plan", "verify"] {
            let output = daemon.ends(verb, &[], 3);
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(said.contains(reason), "{verb}: {said}");
            assert!(!said.contains("can:"), "{verb}: {said}");
        }
        for verb in ["migrate", "prepare", "finalize", "abort", "rerun", "restore-kv", "reclaim"] {
            let said = text(&daemon.ends(verb, &["--yes"], 3).stderr);
            assert!(said.contains(reason), "{verb}: {said}");
        }
    };
    fs::rename(daemon.path("sessions"), daemon.path("elsewhere")).expect("renames");
    every(&daemon, "source 'sessions' is missing at ");
    fs::rename(daemon.path("elsewhere"), daemon.path("sessions")).expect("renames");
    // The folder of the target.
    let words = |verb: &str, more: &[&str]| {
        let mut words = daemon.words(verb, more);
        let at = words.iter().position(|word| word == "--target").expect("a target");
        words[at + 1] = daemon.path("no/where.sqlite").display().to_string();
        words
    };
    for verb in ["status", "plan", "migrate", "prepare", "verify", "abort", "reclaim"] {
        let yes: &[&str] =
            if ["status", "plan", "verify"].contains(&verb) { &[] } else { &["--yes"] };
        let words = words(verb, yes);
        let output = cutover(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(code(&output), 3, "{verb}: {said}");
        assert!(said.contains("no/where.sqlite is missing"), "{verb}: {said}");
        assert!(!said.contains("Contradiction"), "{verb}: {said}");
    }
}

/// One that has been live is told since when its writes are lost.
#[test]
fn rerun_and_restore_say_since_when_writes_are_lost() {
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    let live = daemon.status()["target"]["times"]["live"].as_str().expect("a time").to_owned();
    assert_eq!(daemon.status()["live_since"], live);
    fs::remove_file(daemon.target()).expect("removes");
    let since = daemon.status()["live_since"].as_str().expect("a time").to_owned();
    // The marker is made final just after.
    assert_eq!(since[..10], live[..10]);
    for verb in ["rerun", "restore-kv"] {
        let said = text(&daemon.ends(verb, &[], 5).stdout);
        let words = format!("since it went live, at {since}, is lost");
        assert!(said.contains(&words), "{verb}: {said}");
    }
    // Committed, and lost before it was ever live.
    let daemon = Daemon::left_at("Committed");
    let aborted = daemon.ends("abort", &["--yes"], 0);
    if text(&aborted.stdout).contains("tombstones stand") {
        let said = text(&daemon.ends("restore-kv", &[], 5).stdout);
        assert!(said.contains("if it ever went live"), "{said}");
    }
}

/// They tried the exchange with files of the same names, and each took the other's away.
#[test]
fn of_two_that_begin_at_once_on_a_missing_source_one_goes_on() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().expect("a folder");
        let source = format!("s={}", folder.path().join("s").display());
        let target = folder.path().join("t.sqlite").display().to_string();
        let words = ["migrate", "--yes", "--source", &source, "--may-be-missing", "s", "--target"];
        let begin = || {
            let mut command = std::process::Command::new(super::COMMAND);
            let command = command.args(words).arg(&target);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().expect("starts")
        };
        let both = [begin(), begin()].map(|child| child.wait_with_output().expect("ends"));
        assert!(both.iter().any(|output| code(output) == 0), "{both:?}");
        for output in both.iter().filter(|output| code(output) != 0) {
            let said = text(&output.stderr);
            // The last where the first had come to its end before.
            assert_eq!(code(output), 3, "{said}");
            let expected =
                ["by another cutover (", "changed while", "the plan is in state Tombstoned"];
            assert!(expected.iter().any(|words| said.contains(words)), "{said}");
        }
    }
}

/// The advice was to say that the database is lost.
#[test]
fn a_folder_that_was_moved_is_recognised_and_told() {
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    fs::remove_file(daemon.target()).expect("removes");
    let moved = daemon.folder.with_file_name("moved");
    fs::rename(&daemon.folder, &moved).expect("renames");
    let run = |verb: &str, more: &[&str]| {
        let words = daemon.words(verb, more);
        let (old, new) = (daemon.folder.display().to_string(), moved.display().to_string());
        let words: Vec<String> = words.iter().map(|word| word.replace(&old, &new)).collect();
        cutover(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let status = run("status", &[]);
    let said = text(&status.stdout);
    assert_eq!(code(&status), 4, "{said}");
    for words in
        ["their folder was moved or copied", "was written at ", "can:   cutover restore-kv"]
    {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(code(&run("restore-kv", &["--yes"])), 4);
    assert_eq!(code(&run("restore-kv", &["--yes", "--target-lost"])), 0);
    assert!(moved.join("accounts").is_dir() && moved.join("sessions").is_dir());
}
