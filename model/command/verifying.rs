//! `verify` and `reclaim`: what differs, what could not be looked at, and what the last bytes of the old
//! stores are deleted for.

use super::{COMMAND, Daemon, code, cutover, text, unchanged};
use crate::common::{SOURCES, snapshot};
use crate::daemon::sqlite;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// As the shell has it.
const NOBODY: u32 = 65534;

fn live() -> Daemon {
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    daemon
}

fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
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

/// They ended with 7, as if something had been done.
#[test]
fn every_verb_of_a_user_without_the_rights_ends_with_3_and_says_whose_it_is() {
    let daemon = live();
    let before = snapshot(&daemon.folder);
    for verb in ["migrate", "finalize", "reclaim"] {
        let output = as_nobody(&daemon, verb, &["--yes"]);
        assert_eq!(code(&output), 3, "{verb}: {}", said(&output));
        assert!(said(&output).contains("; run this as user 0 (root)"), "{verb}: {}", said(&output));
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
