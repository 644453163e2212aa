//! Markers, targets and stores that are damaged: what is told of them, and what comes of the advice.

use super::advice::{follow, offers_what_works};
use super::verifying::{NOBODY, as_nobody};
use super::{COMMAND, Daemon, code, cutover, said, text, unchanged};
use crate::common::{copy_tree, snapshot};
use crate::owners::give;
use cutover::fault::BUSY_ENVIRONMENT;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn next(daemon: &Daemon) -> String {
    daemon.status()["next"].as_str().expect("what next").to_owned()
}

fn cut(file: &Path) {
    let whole = fs::read(file).expect("reads");
    fs::write(file, &whole[..whole.len() / 2]).expect("writes");
}

/// The error asked for a backup; that to move it away is enough stood in the guide alone.
#[test]
fn what_stands_in_a_marker_s_place_beside_a_live_database_is_moved_away_as_the_error_says() {
    let daemon = Daemon::live();
    let both = ["accounts", "sessions"];
    let is_live_again = |daemon: &Daemon| {
        daemon.ends("migrate", &["--yes"], 0);
        assert_eq!(daemon.state(), "Tombstoned");
        assert!(both.iter().all(|name| daemon.path(name).is_file()));
        daemon.is_whole_in_sql();
    };
    for name in both {
        cut(&daemon.path(name));
    }
    let error = text(&daemon.ends("migrate", &["--yes"], 4).stderr);
    assert!(error.contains("which writes it anew") && !error.contains("backup"), "{error}");
    for _ in both {
        follow(&next(&daemon), "move the marker away (");
    }
    is_live_again(&daemon);
    // Something else there.
    fs::write(daemon.path("accounts"), "dear reader").expect("writes");
    assert!(next(&daemon).contains("move it away and at once run `cutover migrate`"));
    fs::rename(daemon.path("accounts"), daemon.path("letter")).expect("moves");
    is_live_again(&daemon);
    // A store from a backup, beside the retired one and alone.
    let backup = daemon.path("backup");
    copy_tree(&daemon.path("accounts.retired"), &backup);
    fs::write(backup.join("version"), "FJL\x03").expect("writes");
    for is_reclaimed in [false, true] {
        if is_reclaimed {
            // The markers were written anew, so nothing says what was sealed.
            daemon.ends("reclaim", &["--yes", "--even-if-changed"], 0);
        }
        fs::remove_file(daemon.path("accounts")).expect("removes");
        fs::rename(&backup, daemon.path("accounts")).expect("moves");
        let told = next(&daemon);
        assert!(
            told.contains("`cutover migrate`") && told.contains("puts the marker back"),
            "{told}"
        );
        fs::rename(daemon.path("accounts"), &backup).expect("moves");
        is_live_again(&daemon);
    }
}

/// Nothing writes it anew there, and an empty path fences nothing.
#[test]
fn a_damaged_marker_beside_a_database_that_is_not_live_is_put_back_from_a_backup() {
    let daemon = Daemon::opened_once();
    daemon.ends("prepare", &["--yes"], 0);
    let whole = fs::read(daemon.path("accounts")).expect("reads");
    cut(&daemon.path("accounts"));
    let told = next(&daemon);
    assert!(told.starts_with("put it back from a backup; only if there is none"), "{told}");
    fs::write(daemon.path("accounts"), whole).expect("writes");
    daemon.ends("finalize", &["--yes"], 0);
}

/// "Give the path of one, or of a file that does not exist yet", and "restore it", in one message; and
/// nothing that one could do then was in `can`.
#[test]
fn garbage_at_the_target_gets_one_piece_of_advice_and_it_works() {
    let garbage = |daemon: &Daemon| {
        fs::write(daemon.target(), "this is a text file, longer than a header").expect("writes");
        let told = text(&daemon.ends("status", &[], 4).stdout);
        for word in ["does not exist yet", "--target-lost", "give the path"] {
            assert!(!told.contains(word), "{word}: {told}");
        }
        assert!(
            told.contains("restore ") && told.contains("move it away, with its -wal"),
            "{told}"
        );
        fs::rename(daemon.target(), daemon.path("garbage")).expect("moves");
        daemon.status()["can"].to_string()
    };
    let daemon = Daemon::opened_once();
    daemon.ends("prepare", &["--yes"], 0);
    assert!(garbage(&daemon).contains("\"abort\""));
    daemon.ends("abort", &["--yes"], 0);
    daemon.is_whole_in_kv();
    let daemon = Daemon::live();
    assert!(garbage(&daemon).contains("\"rerun\""));
    daemon.ends("rerun", &["--yes"], 0);
    daemon.is_whole_in_sql();
}

/// `rerun` was offered, and was refused; so was `migrate`, and a plain `abort` beside a copy.
#[test]
fn what_a_damaged_store_stands_in_the_way_of_is_not_offered() {
    let table = |daemon: &Daemon| daemon.path("accounts.retired/keyspaces/1/tables/77");
    let daemon = Daemon::live();
    fs::remove_file(daemon.target()).expect("removes");
    fs::write(table(&daemon), "new").expect("writes");
    offers_what_works("a damaged store, and no SQL file", &daemon, &[]);
    let told = next(&daemon);
    for words in ["77 was not there), and then `cutover rerun`", "`cutover restore-kv` gives"] {
        assert!(told.contains(words), "{told}");
    }
    let daemon = Daemon::left_at_marker("sessions");
    fs::write(table(&daemon), "new").expect("writes");
    offers_what_works("a damaged store, and no copy", &daemon, &[]);
    assert!(text(&daemon.ends("status", &[], 3).stdout).contains("or go back with abort"));
    let daemon = Daemon::opened_once();
    daemon.ends("prepare", &["--yes"], 0);
    fs::write(table(&daemon), "new").expect("writes");
    offers_what_works("a damaged store, and a whole copy", &daemon, &[]);
    let can = daemon.status()["can"].to_string();
    for verb in ["\"migrate\"", "\"finalize\"", "\"abort --even-if-changed\""] {
        assert!(can.contains(verb), "{can}");
    }
}

/// It was said to differ, and the word for what differs was advised.
#[test]
fn a_store_that_could_not_be_compared_is_not_said_to_differ() {
    let closed = |daemon: &Daemon| {
        give(&daemon.folder, NOBODY);
        let closed = daemon.path("accounts.retired/keyspaces/1");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closes");
        let status = as_nobody(daemon, "status", &["--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("one object");
        let source = &status["sources"][0];
        assert_eq!(source["retired_differs"], serde_json::Value::Null);
        let unread = source["retired_unread"].as_str().expect("why");
        assert!(unread.starts_with("can't ") && unread.contains("change its mode"), "{unread}");
        let told = said(&as_nobody(daemon, "status", &[]));
        assert!(told.contains("could not be compared with what was sealed: can't "), "{told}");
        assert!(!told.contains("is not what was sealed"), "{told}");
        status["can"].to_string()
    };
    let daemon = Daemon::live();
    let can = closed(&daemon);
    assert!(can.contains("\"verify\"") && !can.contains("reclaim"), "{can}");
    let before = snapshot(&daemon.folder);
    let output = as_nobody(&daemon, "reclaim", &["--yes"]);
    let told = said(&output);
    assert_eq!(code(&output), 3, "{told}");
    assert!(told.contains("nothing was deleted: it is not known whether"), "{told}");
    assert!(!told.contains("--even-if-changed") && !told.contains("NOT as it was"), "{told}");
    unchanged(&daemon.folder, &before);

    let daemon = Daemon::opened_once();
    daemon.ends("prepare", &["--yes"], 0);
    let can = closed(&daemon);
    assert!(can.contains("abort --even-if-changed") && !can.contains("\"abort\""), "{can}");
    let output = as_nobody(&daemon, "abort", &["--yes"]);
    let told = said(&output);
    assert_eq!(code(&output), 3, "{told}");
    assert!(told.contains("although that is not known, give --even-if-changed"), "{told}");
    let output = as_nobody(&daemon, "abort", &["--yes", "--even-if-changed"]);
    assert_eq!(code(&output), 0, "{}", said(&output));
}

/// It removed another deployment's copy, ended with 4, and said nothing of what it had done.
#[test]
fn an_abort_that_removes_a_copy_says_so_also_where_what_is_left_fits_no_state() {
    let raised = |daemon: &Daemon| {
        let status = daemon.status();
        let mut sources = status["sources"].as_array().expect("sources").iter();
        sources.all(|source| source["attempt"].as_u64().is_some_and(|attempt| attempt > 1))
    };
    let first = Daemon::left(raised);
    for end in ["", ".cutover"] {
        let _ = fs::remove_file(first.path(&format!("target.sqlite{end}")));
    }
    let second = Daemon::opened_once();
    let mut words = second.words("prepare", &["--yes"]);
    let own = second.target().display().to_string();
    for word in words.iter_mut().filter(|word| **word == own) {
        *word = first.target().display().to_string();
    }
    let output = cutover(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code(&output), 0, "{}", said(&output));
    let told = text(&first.ends("abort", &["--yes"], 4).stderr);
    let gone = format!("had put into {} is gone now", first.target().display());
    assert!(told.contains(&gone) && told.contains("fits no state: "), "{told}");
    assert_eq!(first.status()["target"]["record"], "none");
}

/// A daemon of which one keyspace has a table file, and that file once it is retired.
fn with_a_table() -> (Daemon, PathBuf) {
    let daemon = Daemon::opened_once();
    let database = fjall::Database::builder(daemon.path("sessions")).open().expect("opens");
    let third = database.keyspace("third", fjall::KeyspaceCreateOptions::default).expect("made");
    let mut ingestion = third.start_ingestion().expect("begins");
    (0..250_u8).for_each(|key| ingestion.write([key], [key; 90]).expect("writes"));
    ingestion.finish().expect("ends");
    drop((third, database));
    daemon.ends("migrate", &["--yes"], 0);
    let table = daemon.path("sessions.retired/keyspaces/3/tables/0");
    (daemon, table)
}

/// A checksum that is wrong counted as a store that could not be looked at.
#[test]
fn damage_that_verify_finds_by_reading_is_a_difference_and_told_in_words() {
    let (daemon, table) = with_a_table();
    let whole = fs::read(&table).expect("reads");
    for at in [40, whole.len() / 2, whole.len() - 9] {
        let mut flipped = whole.clone();
        flipped[at] ^= 0xff;
        fs::write(&table, flipped).expect("writes");
        let told = said(&daemon.ends("verify", &[], 6));
        let line = told.lines().find(|line| line.starts_with("sessions/third: ")).expect("a line");
        assert!(line.contains("retired store: DIFFERS (it is damaged: "), "{at}: {line}");
        assert!(!told.contains("Error") && !told.contains("NOT COMPARED"), "{at}: {told}");
        assert!(told.contains("do NOT hold what was copied"), "{at}: {told}");
    }
    fs::write(&table, whole).expect("writes");
    daemon.ends("verify", &[], 0);
}

/// Nothing said so, and fjall would have begun a new store in that folder.
#[test]
fn a_version_file_that_is_gone_from_a_retired_store_is_a_difference() {
    let daemon = Daemon::live();
    fs::remove_file(daemon.path("accounts.retired/version")).expect("removes");
    for _ in 0..2 {
        let status = daemon.status();
        assert_eq!(status["sources"][0]["retired_differs"], "version is gone");
        let told = said(&daemon.ends("verify", &[], 6));
        assert!(told.contains("DIFFERS (it is not what was sealed: version is gone)"), "{told}");
        daemon.ends("reclaim", &["--yes"], 5);
        // This sets the second lock again, where nothing is that could be kept in it.
        daemon.ends("migrate", &["--yes"], 0);
    }
    fs::remove_file(daemon.path("accounts.retired/version")).expect("removes");
    fs::write(daemon.path("accounts.retired/version"), "FJL\x03").expect("writes");
    daemon.ends("verify", &[], 0);
}

/// `status` said Fresh, and nothing of the files that lay there.
#[test]
fn what_a_killed_run_left_beside_open_stores_is_named_by_status() {
    let daemon = Daemon::left(|daemon| daemon.path("target.sqlite.cutover").exists());
    let status = daemon.status();
    assert_eq!(status["state"], "Fresh");
    let id = status["target"]["claim"].as_str().expect("a claim").to_owned();
    let left = daemon.path(&format!("accounts.cutover-{id}"));
    fs::write(&left, "half a mark").expect("writes");
    let told = text(&daemon.ends("status", &[], 0).stdout);
    let named = format!("left by a killed run, and removed by the next: {}", left.display());
    assert!(told.contains(&named), "{told}");
    assert!(told.contains("its claim file is left by a killed run"), "{told}");
    daemon.ends("migrate", &["--yes"], 0);
    assert!(!left.exists());
}

/// It told of a database that is busy as of one that is lost.
#[test]
fn a_target_that_is_busy_gets_the_advice_of_what_is_in_the_way_alone() {
    let daemon = Daemon::opened_once();
    daemon.ends("prepare", &["--yes"], 0);
    let holder = crate::refusals::places::Holder::start(&[
        "sqlite-hold",
        daemon.target().to_str().expect("UTF-8"),
        "BEGIN EXCLUSIVE",
    ]);
    let mut command = std::process::Command::new(COMMAND);
    let command = command.args(daemon.words("abort", &["--yes"]));
    let output = command.env(BUSY_ENVIRONMENT, "50").output().expect("the command");
    let told = text(&output.stderr);
    assert_eq!(code(&output), 4, "{told}");
    let advice = "database is locked); end the program that has it open and run this again; if the SQL \
                  database is lost for good, give another target, and run `cutover abort --target-lost`";
    assert!(told.trim_end().ends_with(advice), "{told}");
    holder.let_go();
    daemon.ends("abort", &["--yes"], 0);
}
