//! Directories that are no stores that can be moved.

use super::*;
use std::os::unix::fs::symlink;

fn no_store(daemon: &Daemon, words: &[&str]) {
    let mut all = vec!["source 'sessions' at", "is not a store that can be moved"];
    all.extend(words);
    refused(daemon.path(), &daemon.plan(), |c| matches!(c, Cause::NotAStore { .. }), &all);
}

#[test]
fn a_store_whose_version_file_is_not_of_this_format_is_refused() {
    for (bytes, words) in [
        (b"FJL\x02".as_slice(), "older format 2; bring it to format 3"),
        (b"FJL\x04", "format 4, which is newer"),
        (b"", "its version file is empty"),
        (b"FJ", "its version file is not fjall's"),
    ] {
        let daemon = Daemon::fresh();
        fs::write(daemon.at("sessions/version"), bytes).expect("writes");
        no_store(&daemon, &[words]);
    }
}

/// A look at a FIFO once waited for a writer for ever.
#[test]
fn a_store_whose_version_file_is_no_regular_file_is_refused_at_once() {
    let daemon = Daemon::fresh();
    let version = daemon.at("sessions/version");
    fs::rename(&version, daemon.at("version")).expect("renames");
    symlink(daemon.at("version"), &version).expect("links");
    no_store(&daemon, &["its version file is not a regular file"]);
    fs::remove_file(&version).expect("removes");
    let made = Command::new("mkfifo").arg(&version).status().expect("mkfifo(1)");
    assert!(made.success());
    // No snapshot: it would read the FIFO.
    let plan = daemon.plan();
    let (done, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(cutover::sql(&plan, &mut ()).map(drop)));
    let result = result.recv_timeout(std::time::Duration::from_secs(20)).expect("no hang");
    says(&result.expect_err("it is refused"), &["its version file is not a regular file"]);
}

#[test]
fn a_folder_that_is_no_store_is_refused() {
    let daemon = Daemon::fresh();
    let sessions = daemon.at("sessions");
    fs::remove_dir_all(&sessions).expect("removes");
    fs::create_dir(&sessions).expect("creates");
    no_store(&daemon, &["it is an empty folder; correct the path"]);
    fs::write(sessions.join("letter.txt"), "dear reader").expect("writes");
    no_store(&daemon, &["it has no version file"]);
    fs::write(sessions.join("version"), "FJL\u{3}").expect("writes");
    no_store(&daemon, &["it has no folder 'keyspaces'"]);
}

#[test]
fn a_store_whose_journal_is_a_link_is_refused() {
    let daemon = Daemon::fresh();
    let sessions = daemon.at("sessions");
    let journal = fs::read_dir(&sessions)
        .expect("lists")
        .map(|entry| entry.expect("lists").path())
        .find(|path| path.extension().is_some_and(|ending| ending == "jnl"))
        .expect("a journal");
    fs::rename(&journal, daemon.at("journal")).expect("renames");
    symlink(daemon.at("journal"), &journal).expect("links");
    refused(
        daemon.path(),
        &daemon.plan(),
        |c| matches!(c, Cause::Scattered { .. }),
        &["source 'sessions' is not all in its own folder", ".jnl is a symbolic link"],
    );
}

#[test]
fn a_keyspace_that_is_neither_mapped_nor_left_out_is_refused() {
    let daemon = Daemon::fresh();
    let plan = |leave_out: bool| {
        Plan::builder("small")
            .source("accounts", daemon.at("accounts"), |s| s.every_keyspace())
            .source("sessions", daemon.at("sessions"), |s| {
                if leave_out { s.blobs("first").leave_out("second") } else { s.blobs("first") }
            })
            .target(daemon.at("target.sqlite"))
            .build()
            .expect("a plan")
    };
    refused(
        daemon.path(),
        &plan(false),
        |c| matches!(c, Cause::KeyspaceUnmapped { .. }),
        &["keyspace 'second' of source 'sessions'", "map it, or leave it out explicitly"],
    );
    cutover::sql(&plan(true), &mut ()).expect("left out is said");
}

/// It once named no store, and not where the data is.
#[test]
fn i5_the_kv_stores_are_refused_by_name_once_their_data_has_moved() {
    for daemon in [Daemon::committed(), Daemon::live()] {
        let before = snapshot(daemon.path());
        let error = cutover::kv(&daemon.plan()).expect_err("it is refused");
        assert_eq!(changes(&before, &snapshot(daemon.path())), Vec::<String>::new());
        assert!(matches!(error, Error::Refused(Cause::Moved { .. })), "{error:?}");
        let at = |name: &str| daemon.at(name).display().to_string();
        let accounts = format!("source 'accounts' at {}", at("accounts"));
        let sessions = format!("source 'sessions' at {}", at("sessions"));
        let target = format!("in the SQL database {}", at("target.sqlite"));
        says(&error, &[&accounts, &sessions, &target, "start with the SQL database"]);
    }
}
