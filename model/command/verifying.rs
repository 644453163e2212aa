//! `verify` and `reclaim`: what differs, what could not be looked at, and what the last bytes of the old
//! stores are deleted for.

use super::{COMMAND, Daemon, code, cutover, said, unchanged};
use crate::common::{SOURCES, snapshot};
use crate::daemon::sqlite;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// As the shell has it.
pub(super) const NOBODY: u32 = 65534;

fn live() -> Daemon {
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    daemon
}

/// Runs a verb as a user who owns nothing of the daemon's.
pub(super) fn as_nobody(daemon: &Daemon, verb: &str, more: &[&str]) -> Output {
    let outside = daemon.folder.parent().expect("a folder");
    fs::set_permissions(outside, fs::Permissions::from_mode(0o755)).expect("lets in");
    // The folder of the tests' own build may be closed.
    let command = outside.join("cutover");
    if !command.exists() {
        fs::copy(COMMAND, &command).expect("copies");
    }
    let id = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    let mut process = Command::new("setpriv");
    process.args(&id).args(["--clear-groups", "--"]).arg(command);
    process.args(daemon.words(verb, more)).output().expect("setpriv(1)")
}

/// It said that the stores do not hold what was copied, and ended with 6.
#[test]
fn verify_that_could_not_look_does_not_say_that_anything_differs() {
    let daemon = live();
    let closed = daemon.path("sessions.retired");
    // A look at the whole is refused at once.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("closes");
    let output = as_nobody(&daemon, "verify", &[]);
    assert_eq!(code(&output), 3, "{}", said(&output));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("opens");
    let output = as_nobody(&daemon, "verify", &[]);
    assert_eq!(code(&output), 3, "{}", said(&output));
    let words = said(&output);
    assert!(words.contains("retired store: NOT COMPARED (can't "), "{words}");
    assert!(words.contains("the retired stores were NOT all compared"), "{words}");
    assert!(!words.contains("do NOT hold"), "{words}");

    // Neither of the two names of a source shows anything: the volume that they are on is not mounted.
    let volume = daemon.path("volume");
    fs::create_dir(&volume).expect("a folder");
    for name in ["sessions", "sessions.retired"] {
        fs::rename(daemon.path(name), volume.join(name)).expect("moves");
    }
    let words = said(&daemon.ends("verify", &[], 3));
    assert!(words.contains("neither its marker nor its retired store is at "), "{words}");
    // What differs weighs more.
    fs::remove_dir_all(daemon.path("accounts.retired/keyspaces")).expect("removes");
    let words = said(&daemon.ends("verify", &[], 6));
    assert!(words.contains("retired store: DIFFERS (it is not what was sealed: "), "{words}");
    assert!(words.contains("do NOT hold what was copied"), "{words}");
}

/// It ended with 6 as well, and said that one could abort.
#[test]
fn verify_with_another_plan_than_the_migration_s_says_so_and_compares_the_stores() {
    let daemon = live();
    let file = daemon.path("plan.toml");
    let plan = "name = 'small'\ntarget = 'target.sqlite'\n\
                [[source]]\nname = 'accounts'\npath = 'accounts'\ntables = { first = 'people' }\n\
                [[source]]\nname = 'sessions'\npath = 'sessions'\n";
    fs::write(&file, plan).expect("writes");
    let output = cutover(&["verify", "--plan", file.to_str().expect("UTF-8")]);
    let words = said(&output);
    assert_eq!(code(&output), 3, "{words}");
    let line = words.lines().find(|line| line.starts_with("accounts/first: ")).expect("a line");
    assert!(line.contains("retired store: as copied; SQL database: NOT COMPARED"), "{line}");
    assert!(line.contains("not the one that the migration was begun with"), "{line}");
    assert!(line.contains("; use the plan that it was begun with)"), "{line}");
    assert!(words.contains("the SQL database was NOT all compared"), "{words}");
    assert!(!words.contains("abort"), "{words}");
}

/// What is lost in the SQL database is no write of the daemon's.
#[test]
fn verify_says_of_a_table_that_is_gone_that_it_is_missing() {
    let daemon = live();
    sqlite(&daemon.target(), "DROP TABLE sessions_second");
    let words = said(&daemon.ends("verify", &[], 6));
    assert!(
        words.contains(
            "sessions/second: 20 pairs copied; retired store: as copied; SQL database: MISSING"
        ),
        "{words}"
    );
    assert!(
        words.contains(
            "sessions/first: 20 pairs copied; retired store: as copied; SQL database: as copied"
        ),
        "{words}"
    );
}

/// It deleted the last copy of the data without a word after a verification that had failed.
#[test]
fn reclaim_says_how_the_stores_stand_and_deletes_none_that_was_changed_unless_told() {
    let daemon = live();
    let words = said(&daemon.ends("reclaim", &[], 5));
    for expected in
        ["the last bytes of the old stores", "`cutover verify`", "No rerun and no way back"]
    {
        assert!(words.contains(expected), "no '{expected}': {words}");
    }
    for name in SOURCES {
        let retired = daemon.path(&format!("{name}.retired"));
        let line = format!("source '{name}' at {}: as it was sealed", retired.display());
        assert!(words.contains(&line), "no '{line}': {words}");
    }
    fs::write(daemon.path("sessions.retired/keyspaces/1/tables/77"), "new").expect("writes");
    daemon.ends("verify", &[], 6);
    let before = snapshot(&daemon.folder);
    for yes in [&[][..], &["--yes"]] {
        let words = said(&daemon.ends("reclaim", yes, 5));
        assert!(words.contains("sessions.retired: NOT as it was sealed: "), "{words}");
        assert!(words.contains("give --even-if-changed"), "{words}");
        unchanged(&daemon.folder, &before);
    }
    let can = daemon.status()["can"].to_string();
    assert!(can.contains("\"reclaim --even-if-changed\"") && !can.contains("\"reclaim\""), "{can}");
    daemon.ends("reclaim", &["--yes", "--even-if-changed"], 0);
    assert!(!daemon.path("sessions.retired").exists());
    daemon.is_whole_in_sql();
}

/// It said that it was gone, and burnt the way back of every other store all the same.
#[test]
fn reclaim_deletes_nothing_where_a_retired_store_is_gone_unless_told() {
    let daemon = live();
    let aside = daemon.path("aside");
    fs::rename(daemon.path("sessions.retired"), &aside).expect("moves");
    let before = snapshot(&daemon.folder);
    let words = said(&daemon.ends("reclaim", &["--yes"], 5));
    assert!(words.contains("sessions.retired: NOT as it was sealed: it is gone"), "{words}");
    unchanged(&daemon.folder, &before);
    let can = daemon.status()["can"].to_string();
    assert!(can.contains("\"reclaim --even-if-changed\"") && !can.contains("\"reclaim\""), "{can}");
    fs::rename(aside, daemon.path("sessions.retired")).expect("moves");
    daemon.ends("reclaim", &["--yes"], 0);
}

/// It freed what somebody had put there since, and said that it was freed in part already.
#[test]
fn reclaim_after_a_reclaim_deletes_nothing_that_was_not_sealed_unless_told() {
    let daemon = live();
    daemon.ends("reclaim", &["--yes"], 0);
    daemon.ends("reclaim", &["--yes"], 0);
    fs::create_dir_all(daemon.path("accounts.retired/keyspaces/1/tables")).expect("folders");
    fs::write(daemon.path("accounts.retired/keyspaces/1/tables/77"), "newer").expect("writes");
    let before = snapshot(&daemon.folder);
    let words = said(&daemon.ends("reclaim", &["--yes"], 5));
    assert!(words.contains("keyspaces/1/tables/77 was not there"), "{words}");
    unchanged(&daemon.folder, &before);
    daemon.ends("reclaim", &["--yes", "--even-if-changed"], 0);
    daemon.is_whole_in_sql();
}

/// It advised a backup that is refused then, beside stores of which one may be open already.
#[test]
fn a_backup_is_advised_where_it_is_taken_alone() {
    for (verb, words) in [("restore-kv", "put no backup"), ("rerun", "put back now is refused")] {
        let daemon = live();
        let backup = fs::read(daemon.target()).expect("reads");
        fs::remove_file(daemon.target()).expect("removes");
        let next = || daemon.status()["next"].to_string();
        assert!(next().contains("restore it from a backup"), "{}", next());
        // A folder that is not empty can't be removed.
        let in_the_way = daemon.in_the_way_of("sessions");
        fs::create_dir_all(in_the_way.join("full")).expect("a folder");
        daemon.ends(verb, &["--yes"], 7);
        assert_eq!(daemon.state(), "RerunAllowed");
        assert!(next().contains(words) && !next().contains("restore it"), "{verb}: {}", next());
        fs::write(daemon.target(), backup).expect("writes");
        assert_eq!(daemon.state(), "Contradiction");
        fs::remove_file(daemon.target()).expect("removes");
        fs::remove_dir_all(in_the_way).expect("removes");
        daemon.ends("restore-kv", &["--yes"], 0);
        daemon.is_whole_in_kv();
    }
}

/// An abort threw the verified copy away and said that every store was as it was sealed, where one had
/// lost half of its pairs.
#[test]
fn abort_keeps_the_copy_where_a_retired_store_is_not_what_was_sealed_unless_told() {
    let daemon = Daemon::opened_once();
    daemon.ends("prepare", &["--yes"], 0);
    let journal = daemon.path("accounts.retired/0.jnl");
    let whole = fs::read(&journal).expect("reads");
    fs::write(&journal, &whole[..whole.len() / 2]).expect("writes");
    let before = snapshot(&daemon.folder);
    for yes in [&[][..], &["--yes"]] {
        let words = said(&daemon.ends("abort", yes, 5));
        assert!(words.contains("give --even-if-changed"), "{words}");
        unchanged(&daemon.folder, &before);
    }
    fs::write(&journal, &whole).expect("writes");
    daemon.ends("abort", &["--yes"], 0);
    daemon.is_whole_in_kv();

    daemon.ends("prepare", &["--yes"], 0);
    fs::write(daemon.path("sessions.retired/keyspaces/1/tables/77"), "new").expect("writes");
    let words = said(&daemon.ends("abort", &["--even-if-changed"], 5));
    assert!(words.contains("gives every store back as it is now"), "{words}");
    daemon.ends("abort", &["--even-if-changed", "--yes"], 0);
    assert_eq!(daemon.state(), "Fresh");
}

/// It pointed the markers at another target, and then said that nothing was changed.
#[test]
fn a_verb_that_does_not_fit_gives_up_no_target_before_it_says_so() {
    let daemon = Daemon::opened_once();
    daemon.ends("prepare", &["--yes"], 0);
    for name in ["target.sqlite", "target.sqlite.cutover"] {
        fs::remove_file(daemon.path(name)).expect("removes");
    }
    let before = snapshot(&daemon.folder);
    for verb in ["rerun", "restore-kv"] {
        daemon.ends(verb, &["--yes", "--target-lost"], 3);
        unchanged(&daemon.folder, &before);
    }
    daemon.ends("abort", &["--yes", "--target-lost"], 0);
    daemon.is_whole_in_kv();
}

/// They ended with 7, as if something had been done.
#[test]
fn every_verb_of_a_user_without_the_rights_ends_with_3_and_says_whose_it_is() {
    let daemon = live();
    let before = snapshot(&daemon.folder);
    for verb in ["migrate", "finalize", "reclaim"] {
        let output = as_nobody(&daemon, verb, &["--yes"]);
        assert_eq!(code(&output), 3, "{verb}: {}", said(&output));
        assert!(
            said(&output).contains("use it, or run this as user 0 (root)"),
            "{verb}: {}",
            said(&output)
        );
        unchanged(&daemon.folder, &before);
    }
    let daemon = Daemon::left_at("Migrating");
    let before = snapshot(&daemon.folder);
    for verb in ["migrate", "prepare", "abort"] {
        let output = as_nobody(&daemon, verb, &["--yes"]);
        assert_eq!(code(&output), 3, "{verb}: {}", said(&output));
        unchanged(&daemon.folder, &before);
    }
}
