//! What the command advises, beside what comes of it.

use super::{Daemon, code, cutover, text};
use crate::common::copy_tree;
use crate::daemon::sqlite;
use std::fs;

/// Every verb that changes something, or needs a state.
const VERBS: [&str; 15] = [
    "plan",
    "migrate",
    "prepare",
    "finalize",
    "verify",
    "abort",
    "rerun",
    "restore-kv",
    "reclaim",
    "abort --even-if-changed",
    "reclaim --even-if-changed",
    "rerun --even-if-changed",
    "abort --target-lost",
    "rerun --target-lost",
    "restore-kv --target-lost",
];

/// Runs every verb on a copy of its own of what `daemon` has: one that `status` offers works, and one
/// that it does not offer refuses, or has nothing to do.
pub(super) fn offers_what_works(situation: &str, daemon: &Daemon, more: &[&str]) {
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
                ("finalize", "prepare"),
                ("migrate", "finalize"),
                ("verify", "migrate"),
                ("verify", "finalize"),
                ("verify", "reclaim"),
                ("verify", "reclaim --even-if-changed"),
                ("abort", "abort --target-lost"),
                ("abort", "abort --even-if-changed"),
                ("reclaim", "reclaim --even-if-changed"),
                ("rerun", "rerun --even-if-changed"),
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

/// Prepares a migration into tables that the command alone would not make, and says which plan file does.
fn prepared_into_tables_of_its_own(daemon: &Daemon) -> String {
    let file = daemon.path("plan.toml");
    let plan = "name = 'small'\ntarget = 'target.sqlite'\n\
                [[source]]\nname = 'accounts'\npath = 'accounts'\ntables = { first = 'people' }\n\
                [[source]]\nname = 'sessions'\npath = 'sessions'\n";
    fs::write(&file, plan).expect("writes");
    let named = file.to_str().expect("UTF-8").to_owned();
    assert_eq!(code(&cutover(&["prepare", "--yes", "--plan", &named])), 0);
    named
}

/// A migration of tables that only the daemon knows; the command would make others.
#[test]
fn status_offers_no_copy_that_only_the_program_itself_can_make() {
    let daemon = Daemon::opened_once();
    let named = &prepared_into_tables_of_its_own(&daemon);
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

/// It had neither what nor next, and `plan` listed steps that would be refused.
#[test]
fn a_plan_that_is_not_the_unfinished_copy_s_is_told_by_status_and_by_plan() {
    let daemon = Daemon::opened_once();
    let named = &prepared_into_tables_of_its_own(&daemon);
    let status = text(&daemon.ends("status", &[], 3).stdout);
    for words in
        ["plan 'small': Migrating", "what:  the plan is not the one", "next:  use the plan"]
    {
        assert!(status.contains(words), "no '{words}': {status}");
    }
    // How far it is, is told all the same.
    assert!(status.contains("copying, attempt 2, 4 of 4 keyspaces"), "{status}");
    let plan = daemon.ends("plan", &["--json"], 3);
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).expect("one object");
    assert!(plan["refused"][0].as_str().is_some_and(|why| why.contains("not the one")), "{plan}");
    assert_eq!(plan["steps"], serde_json::json!([]));
    assert_eq!(code(&cutover(&["status", "--plan", named])), 0);
    assert_eq!(code(&cutover(&["plan", "--plan", named])), 0);
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
        assert!(said.contains("No marker says that the SQL database ever went live"), "{said}");
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

/// The verb said nothing of it, and ended with 0: an older program would have begun anew there.
#[test]
fn a_marker_that_was_deleted_beside_a_live_database_is_told_and_migrate_puts_it_back() {
    let daemon = Daemon::opened_once();
    daemon.ends("migrate", &["--yes"], 0);
    fs::remove_file(daemon.path("sessions")).expect("removes");
    let said = text(&daemon.ends("status", &[], 0).stdout);
    let told = format!(
        "the marker of source 'sessions' is gone from {}",
        daemon.path("sessions").display()
    );
    assert!(said.contains(&told) && said.contains("run `cutover migrate`"), "{said}");
    let said = text(&daemon.ends("plan", &[], 0).stdout);
    assert!(said.contains("1. put the marker of source 'sessions' back at "), "{said}");
    offers_what_works("a marker is gone", &daemon, &[]);
    daemon.ends("migrate", &["--yes"], 0);
    assert!(daemon.path("sessions").is_file());
    assert!(!text(&daemon.ends("status", &[], 0).stdout).contains("what:"));
}

/// Runs the command that a piece of advice has in brackets.
pub(super) fn follow(advice: &str, before: &str) {
    let done = followed(advice, before);
    assert!(done.status.success(), "{advice}: {}", text(&done.stderr));
}

/// How that command ends.
fn followed(advice: &str, before: &str) -> std::process::Output {
    let command = advice.split(before).nth(1).and_then(|rest| rest.split(')').next());
    let command = command.unwrap_or_else(|| panic!("no '{before}': {advice}"));
    std::process::Command::new("sh").args(["-c", command]).output().expect("sh")
}

/// It told of one store alone, and what one did so led to the next contradiction, and back.
#[test]
fn what_is_advised_where_a_marker_is_gone_gives_every_store_back() {
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    fs::remove_file(daemon.target()).expect("removes");
    fs::remove_file(daemon.path("accounts")).expect("removes");
    let status = daemon.status();
    let next = status["next"].as_str().expect("what next").to_owned();
    assert!(next.contains("delete the marker of every other source"), "{next}");
    follow(&next, "move the store back (");
    // Half-way it still says the whole of it.
    let half = daemon.status()["next"].as_str().expect("what next").to_owned();
    assert!(half.contains("delete the marker of every other source"), "{half}");
    fs::remove_file(daemon.path("sessions")).expect("removes");
    follow(&next.replace("accounts", "sessions"), "move the store back (");
    assert_eq!(daemon.state(), "Fresh");
    daemon.is_whole_in_kv();
    // Beside an unfinished copy.
    let daemon = Daemon::left_at("Committed");
    fs::remove_file(daemon.path("accounts")).expect("removes");
    let status = daemon.status();
    let next = status["next"].as_str().expect("what next");
    follow(next, "move the store back (");
    for _ in 0..2 {
        assert!(daemon.status()["can"].to_string().contains("\"abort\""), "{}", daemon.status());
        daemon.ends("abort", &["--yes"], 0);
    }
    assert_eq!(daemon.state(), "Fresh");
    daemon.is_whole_in_kv();
}

/// "Move it back to": into the folder that stood there already.
#[test]
fn a_retired_store_is_never_moved_into_what_stands_at_its_name() {
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    fs::remove_file(daemon.path("accounts")).expect("removes");
    fs::rename(daemon.path("accounts.retired"), daemon.path("accounts")).expect("moves");
    let status = daemon.status();
    let next = status["next"].as_str().expect("what next").to_owned();
    let standing = daemon.path("accounts.retired");
    fs::create_dir_all(standing.join("other")).expect("a folder");
    let done = followed(&next, "move it back (");
    assert!(!done.status.success() && !standing.join("accounts").exists(), "{next}");
    fs::rename(&standing, daemon.path("moved")).expect("moves");
    follow(&next, "move it back (");
    daemon.ends("migrate", &["--yes"], 0);
    daemon.ends("verify", &[], 0);
}

/// An abort needs nothing of the target there, and it was told to give a word that it does not need.
#[test]
fn what_was_only_sealed_is_told_to_abort_and_not_to_give_the_target_up() {
    let daemon = Daemon::left_at_marker("sessions");
    fs::remove_file(daemon.path("target.sqlite.cutover")).expect("removes");
    for said in [
        daemon.status()["next"].as_str().expect("what next").to_owned(),
        text(&daemon.ends("migrate", &["--yes"], 4).stderr),
    ] {
        assert!(said.contains("`cutover abort`") && !said.contains("--target-lost"), "{said}");
    }
    daemon.ends("abort", &["--yes"], 0);
    daemon.is_whole_in_kv();
}

/// It was `Fresh`, `open`, could be migrated, and ended with 0.
#[test]
fn a_folder_that_is_no_store_is_told_by_status() {
    let daemon = Daemon::opened_once();
    fs::remove_dir_all(daemon.path("sessions")).expect("removes");
    fs::create_dir(daemon.path("sessions")).expect("creates");
    fs::write(daemon.path("sessions/hosts"), "127.0.0.1").expect("writes");
    let said = text(&daemon.ends("status", &[], 3).stdout);
    assert!(said.contains("is not a store that can be moved: it has no version file"), "{said}");
    assert!(!said.contains("can:"), "{said}");
    offers_what_works("one is no store", &daemon, &[]);
}

/// `can:`, the errors and the guide named three different lists.
#[test]
fn a_verb_that_does_not_fit_the_state_names_just_those_that_status_offers() {
    let daemon = Daemon::opened_once();
    let verbs = ["verify", "abort", "rerun", "restore-kv", "reclaim", "prepare", "finalize"];
    let mut refusals = 0;
    let mut refused = |daemon: &Daemon| {
        let status = daemon.status();
        let can: Vec<&str> = status["can"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|verb| verb["verb"].as_str().expect("a verb"))
            .collect();
        for verb in verbs.into_iter().filter(|verb| !can.contains(verb)) {
            let output = daemon.run(verb, if verb == "verify" { &[] } else { &["--yes"] });
            let said = text(&output.stderr);
            let Some((_, told)) = said.split_once("what can be done: ") else { continue };
            refusals += 1;
            assert_eq!(code(&output), 3, "{verb}: {said}");
            let told: Vec<&str> = told.split("`cutover ").skip(1).collect();
            let told: Vec<&str> = told.iter().filter_map(|t| t.split('`').next()).collect();
            assert_eq!(told, can, "{verb}: {said}");
        }
    };
    refused(&daemon);
    daemon.ends("prepare", &["--yes"], 0);
    refused(&daemon);
    daemon.ends("finalize", &["--yes"], 0);
    refused(&daemon);
    fs::remove_file(daemon.target()).expect("removes");
    refused(&daemon);
    assert!(refusals >= 12, "{refusals}");
}

/// It asked, and then refused.
#[test]
fn what_would_be_refused_is_found_before_anybody_is_asked() {
    let daemon = Daemon::opened_once();
    sqlite(
        &daemon.target(),
        "CREATE TABLE accounts_first (x); INSERT INTO accounts_first VALUES (1)",
    );
    for verb in ["migrate", "prepare"] {
        let output = daemon.ends(verb, &[], 3);
        assert!(text(&output.stderr).contains("table 'accounts_first'"), "{verb}");
        assert_eq!(text(&output.stdout), "", "{verb}");
    }
    fs::remove_file(daemon.target()).expect("removes");
    let named = &prepared_into_tables_of_its_own(&daemon);
    // Another plan than the copy was begun with.
    for verb in ["migrate", "prepare", "finalize"] {
        let output = daemon.ends(verb, &[], 3);
        assert!(text(&output.stderr).contains("not the one that the migration was begun with"));
        assert_eq!(text(&output.stdout), "", "{verb}");
    }
    assert_eq!(code(&cutover(&["finalize", "--yes", "--plan", named])), 0);
    fs::remove_file(daemon.target()).expect("removes");
    let output = daemon.ends("rerun", &[], 3);
    let said = text(&output.stderr);
    assert!(said.contains("let that program copy once more") && !said.contains("abort"), "{said}");
    assert_eq!(text(&output.stdout), "");
}
