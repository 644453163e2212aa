//! The verbs that change something: each edge, each exit code, each ticket.

use super::{Daemon, code, cutover, text, unchanged};
use crate::child;
use crate::common::{Pairs, snapshot, write_store};
use crate::refusals::Mount;
use serde_json::Value;
use std::fs;

#[test]
fn a_change_without_a_yes_and_without_a_terminal_ends_with_5_and_changes_nothing() {
    // It looks first, and opening a new store cuts the unused end off its journal.
    let fresh = Daemon::opened_once();
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
        // The killed process had another chunk size, which is not part of the plan's identity.
        daemon.ends("migrate", &["--yes"], 0);
        daemon.is_whole_in_sql();
    }
}

/// It ended at the first keyspace that the daemon had written, and read no retired store.
#[test]
fn verify_tells_of_the_retired_stores_also_after_the_daemons_first_write() {
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    daemon.ends("verify", &[], 0);
    assert!(child::plain_sqlite_writes(&daemon.target(), "accounts_first"));
    let said = text(&daemon.ends("verify", &[], 8).stdout);
    for words in [
        "accounts/first: 20 pairs copied; retired store: as copied; SQL database: CHANGED, 21 pairs",
        "sessions/second: 20 pairs copied; retired store: as copied; SQL database: as copied",
        "the retired stores hold what was copied",
        "differences there are its own writes",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let json = daemon.ends("verify", &["--json"], 8).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).expect("one JSON object");
    assert_eq!(json["keyspaces"].as_array().expect("keyspaces").len(), 4);
    assert_eq!(json["keyspaces"][0]["store"]["is"], "same");
    assert_eq!(json["keyspaces"][0]["target"]["is"], "changed");
    assert_eq!(json["keyspaces"][0]["target"]["pairs"], 21);
    // A retired store that was lost or changed weighs more.
    fs::rename(daemon.path("sessions.retired"), daemon.path("elsewhere")).expect("renames");
    let lost = daemon.ends("verify", &["--json"], 6).stdout;
    let lost: serde_json::Value = serde_json::from_slice(&lost).expect("one JSON object");
    assert_eq!(lost["keyspaces"][1]["store"]["is"], "same");
    assert_eq!(lost["keyspaces"][2]["store"]["is"], "missing");
    let said = text(&daemon.ends("verify", &[], 6).stdout);
    assert!(said.contains("sessions/first: 20 pairs copied; retired store: MISSING"), "{said}");
    fs::rename(daemon.path("elsewhere"), daemon.path("sessions.retired")).expect("renames");
    daemon.ends("reclaim", &["--yes"], 0);
    let said = text(&daemon.ends("verify", &[], 8).stdout);
    assert!(said.contains("retired store: freed; SQL database: as copied"), "{said}");
}

/// It spoke of a file of cutover's own that was not there.
#[test]
fn verify_on_a_volume_that_is_mounted_read_only_says_so() {
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    let read_only = Mount::read_only(&daemon.path("sessions.retired"));
    let said = text(&daemon.ends("verify", &[], 3).stdout);
    let reason = "sessions.retired: Read-only file system (os error 30); mount";
    assert!(said.contains(reason), "{said}");
    assert!(said.contains("accounts/first: 20 pairs copied; retired store: as copied"), "{said}");
    assert!(!said.contains("version"), "{said}");
    drop(read_only);
    daemon.ends("verify", &[], 0);
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
        let said = text(&told.stderr);
        let lost = "run `cutover rerun --target-lost` or `cutover restore-kv --target-lost`";
        assert!(said.contains(lost), "{said}");
        let asked = daemon.ends(verb, &["--target-lost"], 5);
        assert!(text(&asked.stdout).contains("You say that it is lost"));
        let done = text(&daemon.ends(verb, &["--target-lost", "--yes"], 0).stdout);
        assert!(done.contains("since it went live, at 2"), "{done}");
        if in_sql { daemon.is_whole_in_sql() } else { daemon.is_whole_in_kv() }
    }
    // Until a marker is raised, nothing has begun that could be lost.
    let daemon = Daemon::left_at_marker("sessions");
    fs::remove_file(daemon.path("target.sqlite.cutover")).expect("removes");
    daemon.ends("abort", &["--yes"], 0);
    daemon.is_whole_in_kv();
    let is_raised = |source: &Value| source["attempt"].as_u64().is_some_and(|attempt| attempt > 1);
    let daemon = Daemon::left(|daemon| {
        daemon.status()["sources"].as_array().expect("sources").iter().all(is_raised)
    });
    fs::remove_file(daemon.path("target.sqlite.cutover")).expect("removes");
    let said = text(&daemon.ends("abort", &["--yes"], 4).stderr);
    assert!(said.contains("lost for good, run `cutover abort --target-lost`"), "{said}");
    daemon.ends("abort", &["--target-lost", "--yes"], 0);
    daemon.is_whole_in_kv();
}

/// Both verbs once succeeded at once, and both sides were written.
#[test]
fn i1_a_live_database_whose_record_was_dropped_is_given_up_only_when_the_operator_says_so() {
    for (verb, in_sql) in [("rerun", true), ("restore-kv", false)] {
        let daemon = Daemon::new();
        daemon.ends("migrate", &["--yes"], 0);
        let sql = |statements: &str| {
            let connection = rusqlite::Connection::open(daemon.target()).expect("opens");
            connection.execute_batch(statements).expect("runs");
        };
        sql("DROP TABLE cutover_record");
        let status = daemon.ends("status", &[], 4);
        for offered in ["--record-lost", "cutover_record"] {
            assert!(text(&status.stdout).contains(offered), "{}", text(&status.stdout));
        }
        let told = daemon.ends(verb, &["--yes"], 4);
        let lost = "run `cutover rerun --record-lost` or `cutover restore-kv --record-lost`";
        assert!(text(&told.stderr).contains(lost), "{}", text(&told.stderr));
        daemon.ends(verb, &["--target-lost", "--yes"], 4);
        let told = daemon.ends(verb, &["--record-lost"], 5);
        for word in ["Every write", "rename or drop the tables"] {
            assert!(text(&told.stdout).contains(word), "{}", text(&told.stdout));
        }
        let told = daemon.ends(verb, &["--record-lost", "--yes"], 3);
        assert!(text(&told.stderr).contains("holds rows in accounts_first"));
        for source in crate::common::SOURCES {
            sql(&format!("DROP TABLE {source}_first; DROP TABLE {source}_second"));
        }
        sql("CREATE TABLE others (x)");
        // The markers do not say it any more, once the record is given up.
        let done = text(&daemon.ends(verb, &["--record-lost", "--yes"], 0).stdout);
        assert!(done.contains("since it went live, at 2"), "{done}");
        if in_sql { daemon.is_whole_in_sql() } else { daemon.is_whole_in_kv() }
    }
}

#[test]
fn a_step_that_fails_part_way_ends_with_7_and_the_next_run_finishes_it() {
    let daemon = Daemon::left_at("Committed");
    let in_the_way = daemon.in_the_way_of("accounts");
    let _ = fs::remove_file(&in_the_way);
    fs::create_dir_all(in_the_way.join("full")).expect("a folder");
    let output = daemon.ends("migrate", &["--yes"], 7);
    assert!(text(&output.stderr).contains("run this again"), "{}", text(&output.stderr));
    fs::remove_dir_all(&in_the_way).expect("removes");
    daemon.ends("migrate", &["--yes"], 0);
    daemon.is_whole_in_sql();
}
