//! Paths that can't be used, and stores that somebody else is at.

use super::*;
use crate::child;
use crate::common::{SOURCES, small_plan_builder, write_store};
use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::fs::symlink;
use std::process::{Child, ChildStdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The small daemon's plan with its second source elsewhere.
fn plan_with_sessions_at(daemon: &Daemon, sessions: &Path) -> Plan {
    Plan::builder("small")
        .source("accounts", daemon.at("accounts"), |s| s.every_keyspace())
        .source("sessions", sessions, |s| s.every_keyspace())
        .target(daemon.at("target.sqlite"))
        .build()
        .expect("a plan")
}

fn plan_with_target_at(daemon: &Daemon, target: &Path) -> Plan {
    small_plan_builder(daemon.path()).target(target).build().expect("a plan")
}

/// A process that holds something until it is let go.
pub struct Holder {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    pub fn start(words: &[&str]) -> Self {
        let mut process = child::command(words)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("a child process");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        assert!(lines.any(|line| line.expect("reads").contains("holding")));
        Self { process, output: lines }
    }

    /// As errors name it.
    fn name(&self) -> String {
        format!("process {} (", self.process.id())
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.process.kill().expect("kills");
        self.process.wait().expect("ends");
    }

    pub fn let_go(mut self) {
        let mut input = self.process.stdin.take().expect("piped");
        input.write_all(b"\n").expect("writes");
        self.output.by_ref().for_each(drop);
        assert!(self.process.wait().expect("ends").success());
    }
}

#[test]
fn a_second_cutover_at_the_same_time_is_refused_and_the_first_is_named() {
    for daemon in [Daemon::fresh(), Daemon::copying(), Daemon::live()] {
        let folder = daemon.path().to_str().expect("UTF-8");
        let other = Holder::start(&["cutover-hold", folder]);
        let words = ["is being worked on by another cutover", &other.name(), "wait until it ends"];
        refused(daemon.path(), &daemon.plan(), |c| matches!(c, Cause::Locked { .. }), &words);
        other.let_go();

        let own = cutover::open(&daemon.plan()).expect("opens");
        let words = ["is being worked on by another cutover", "this process itself"];
        refused(daemon.path(), &daemon.plan(), |c| matches!(c, Cause::Locked { .. }), &words);
        drop(own);
        cutover::sql(&daemon.plan(), &mut ()).expect("nobody is in the way any more");
    }
}

/// Between fork and exec a child has every file of its parent open, and with it every lock that only
/// ends when the last copy is closed.
#[test]
fn a_lock_ends_with_its_handle_even_while_another_thread_starts_a_process() {
    let daemon = Daemon::sealed();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(Command::new("true").status().expect("true(1)").success());
                }
            });
        }
        let begun = Instant::now();
        let refused = std::iter::repeat_with(|| cutover::open(&daemon.plan()).map(drop))
            .take_while(|_| begun.elapsed() < Duration::from_secs(1))
            .find_map(Result::err);
        done.store(true, Ordering::Relaxed);
        assert!(refused.is_none(), "{refused:?}");
    });
}

#[test]
fn a_store_that_a_daemon_holds_open_is_refused_and_the_daemon_is_named() {
    for name in SOURCES {
        let daemon = Daemon::fresh();
        let store = daemon.at(name);
        let running = Holder::start(&["fjall-hold", store.to_str().expect("UTF-8")]);
        let source = format!("source '{name}' at {}", store.display());
        let words =
            [source.as_str(), "is in use by", &running.name(), "stop it and run this again"];
        refused(daemon.path(), &daemon.plan(), |c| matches!(c, Cause::SourceBusy { .. }), &words);
        running.let_go();

        let own = fjall::Database::builder(&store).open().expect("opens");
        let words = [source.as_str(), "is in use by this process itself"];
        refused(daemon.path(), &daemon.plan(), |c| matches!(c, Cause::SourceBusy { .. }), &words);
        drop(own);
        cutover::sql(&daemon.plan(), &mut ()).expect("nobody is in the way any more");
    }
}

/// Another plan took a store that this one had retired, and both went live with it.
#[test]
fn a_store_that_another_migration_has_retired_is_no_source() {
    let daemon = Daemon::copying();
    let retired = daemon.at("accounts.retired");
    let plan = Plan::builder("other")
        .source("accounts", &retired, |source| source.every_keyspace())
        .target(daemon.at("other.sqlite"))
        .build()
        .expect("a plan");
    let marker = daemon.at("accounts").display().to_string();
    let words = ["it is the retired store of the migration whose marker stands at", &marker];
    refused(daemon.path(), &plan, |c| matches!(c, Cause::NotAStore { .. }), &words);
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("goes on"));
}

#[test]
fn a_missing_folder_is_refused_and_not_created() {
    let daemon = Daemon::fresh();
    let nowhere = daemon.at("no/such/folder");
    refused(
        daemon.path(),
        &plan_with_sessions_at(&daemon, &nowhere),
        |c| matches!(c, Cause::SourceMissing { .. }),
        &["source 'sessions' is missing at", "no/such/folder", "correct the path"],
    );
    refused(
        daemon.path(),
        &plan_with_target_at(&daemon, &nowhere),
        |c| matches!(c, Cause::TargetFolderMissing(_)),
        &["the folder of the target", "no/such/folder", "mount the volume"],
    );
}

#[test]
fn a_mistyped_source_is_refused_unless_it_may_be_missing() {
    let daemon = Daemon::fresh();
    let words = ["source 'sessions' is missing at", "sesions", "declare that it may be missing"];
    let missing = |c: &Cause| matches!(c, Cause::SourceMissing { .. });
    let plan = plan_with_sessions_at(&daemon, &daemon.at("sesions"));
    refused(daemon.path(), &plan, missing, &words);

    let plan = Plan::builder("small")
        .source("sesions", daemon.at("sesions"), |s| s.blobs("first").may_be_missing())
        .target(daemon.at("target.sqlite"))
        .build()
        .expect("a plan");
    drop(cutover::sql(&plan, &mut ()).expect("SQL"));
    assert!(crate::common::read_table(&daemon.at("target.sqlite"), "sesions_first").is_empty());
    assert!(!child::stock_fjall_writes(&daemon.at("sesions")), "its name is taken by a marker");
}

#[test]
fn one_directory_under_two_names_is_refused() {
    let overlap = |c: &Cause| matches!(c, Cause::Overlap { .. });
    let words = ["source 'accounts' and source 'sessions' overlap at", "a place of its own"];
    let daemon = Daemon::fresh();
    let second = daemon.at("second");

    refused(
        daemon.path(),
        &plan_with_sessions_at(&daemon, &daemon.at("accounts")),
        overlap,
        &words,
    );
    let dotted = daemon.at("sessions/../accounts/.");
    refused(daemon.path(), &plan_with_sessions_at(&daemon, &dotted), overlap, &words);

    symlink(daemon.at("accounts"), &second).expect("links");
    refused(daemon.path(), &plan_with_sessions_at(&daemon, &second), overlap, &words);
    fs::remove_file(&second).expect("removes");

    fs::create_dir(&second).expect("creates");
    let bound = Mount::bind(&daemon.at("accounts"), &second);
    refused(daemon.path(), &plan_with_sessions_at(&daemon, &second), overlap, &words);
    drop(bound);

    let outside = tempfile::tempdir().expect("a folder");
    let bound = Mount::bind(daemon.path(), outside.path());
    let plan = plan_with_sessions_at(&daemon, &outside.path().join("accounts"));
    refused(daemon.path(), &plan, overlap, &words);
    drop(bound);
}

#[test]
fn sources_inside_each_other_and_a_target_inside_a_source_are_refused() {
    let overlap = |c: &Cause| matches!(c, Cause::Overlap { .. });
    let daemon = Daemon::fresh();
    let inner = daemon.at("accounts/inner");
    write_store(&inner, &crate::common::small_store(3, 2));
    let words = ["source 'accounts' and source 'sessions' overlap at", "a place of its own"];
    refused(daemon.path(), &plan_with_sessions_at(&daemon, &inner), overlap, &words);
    fs::remove_dir_all(&inner).expect("removes");
    for inside in ["accounts/t.sqlite", "accounts", "accounts.retired"] {
        let plan = plan_with_target_at(&daemon, &daemon.at(inside));
        let words = ["source 'accounts' and the target overlap at", "a place of its own"];
        refused(daemon.path(), &plan, overlap, &words);
    }
    // A store there was once told as a claim file that can't be read, to be moved away.
    for beside in [".cutover", "-journal", "-wal", "-shm"] {
        let sessions = daemon.at(&format!("target.sqlite{beside}"));
        write_store(&sessions, &crate::common::small_store(3, 2));
        let words = ["source 'sessions' and the target overlap at", "a place of its own"];
        refused(daemon.path(), &plan_with_sessions_at(&daemon, &sessions), overlap, &words);
        fs::remove_dir_all(&sessions).expect("removes");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_a_source_that_is_missing_and_a_target_that_does_not_exist_yet() {
    let daemon = Daemon::fresh();
    let (link, end) = (daemon.at("link"), daemon.at("nowhere"));
    symlink(&end, &link).expect("links");
    let missing = |c: &Cause| matches!(c, Cause::SourceMissing { .. });
    let words = ["source 'sessions' is missing at", "nowhere; correct the path"];
    refused(daemon.path(), &plan_with_sessions_at(&daemon, &link), missing, &words);
    drop(cutover::sql(&plan_with_target_at(&daemon, &link), &mut ()).expect("SQL"));
    assert!(end.is_file() && link.is_symlink());
}

#[test]
fn a_source_that_is_a_mount_point_is_refused() {
    for memory in [true, false] {
        let daemon = Daemon::fresh();
        let kept = daemon.keep("accounts");
        let at = daemon.at("accounts");
        let mount = if memory {
            let mount = Mount::memory(&at, 64 * 1024);
            kept.put_back(&at);
            mount
        } else {
            Mount::bind(&kept.path(), &at)
        };
        refused(
            daemon.path(),
            &daemon.plan(),
            |c| matches!(c, Cause::MountPoint { .. }),
            &["source 'accounts' at", "is a mount point", "mount its parent"],
        );
        drop(mount);
    }
}

#[test]
fn a_name_too_long_for_what_is_put_beside_it_is_refused_before_anything_changes() {
    let daemon = Daemon::fresh();
    // Room for `.retired`, and none for the temporary name of a marker.
    let sessions = daemon.at(&"s".repeat(220));
    std::fs::rename(daemon.at("sessions"), &sessions).expect("moves");
    let plan = plan_with_sessions_at(&daemon, &sessions);
    let error = fresh_handle(&plan).begin().expect_err("too long").error;
    assert!(matches!(error, Error::Refused(Cause::Io { .. })), "{error:?}");
    assert!(!daemon.at("target.sqlite.cutover").exists());
    drop(cutover::kv(&plan).expect("opens as before"));
}
