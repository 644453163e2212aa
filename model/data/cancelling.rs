//! Stopping half-way on request.

use crate::common::{read_table, small_store};
use crate::daemon::{Daemon, StopAfter, fresh_handle, migrating_handle};
use cutover::{Cause, Error, Observer, Phase, Progress};

/// Notes the pairs after each chunk.
#[derive(Default)]
struct Chunks {
    pairs: Vec<u64>,
    stop_after: Option<usize>,
}

impl Observer for Chunks {
    fn progress(&mut self, progress: &Progress) {
        if progress.phase == Phase::Copying {
            self.pairs.push(progress.pairs);
        }
    }

    fn cancelled(&self) -> bool {
        self.stop_after.is_some_and(|chunks| self.pairs.len() >= chunks)
    }
}

#[test]
fn cancelling_stops_at_a_chunk_s_end_and_no_chunk_is_copied_twice() {
    let mut whole = Chunks::default();
    let daemon = Daemon::fresh();
    drop(cutover::sql(&daemon.plan(), &mut whole).expect("SQL"));
    assert!(whole.pairs.len() > 8 && whole.pairs.is_sorted(), "{:?}", whole.pairs);

    for stop_after in 1..whole.pairs.len() {
        let daemon = Daemon::fresh();
        // Each row is counted as it is inserted.
        daemon.sqlite(
            "CREATE TABLE sessions_second (key BLOB PRIMARY KEY, value BLOB NOT NULL);
             CREATE TABLE counted (at INTEGER PRIMARY KEY AUTOINCREMENT);
             CREATE TRIGGER counts AFTER INSERT ON sessions_second
             BEGIN INSERT INTO counted VALUES (NULL); END;",
        );
        let mut first = Chunks { stop_after: Some(stop_after), ..Chunks::default() };
        let migrating = fresh_handle(&daemon.plan()).begin().expect("begins");
        let failed = migrating.run(&mut first).expect_err("stops");
        assert!(matches!(
            failed.error,
            Error::Interrupted { step: "copy", cause: Cause::Cancelled }
        ));
        assert!(failed.handle.is_none());
        let mut rest = Chunks::default();
        drop(cutover::sql(&daemon.plan(), &mut rest).expect("SQL"));
        assert_eq!([first.pairs, rest.pairs].concat(), whole.pairs);
        let rows = read_table(&daemon.at("target.sqlite"), "sessions_second");
        assert_eq!(rows, small_store(2, 20)["second"]);
        let counted: (i64, i64) = rusqlite::Connection::open(daemon.at("target.sqlite"))
            .expect("opens")
            .query_one("SELECT count(*), max(at) FROM counted", [], |r| Ok((r.get(0)?, r.get(1)?)))
            .expect("counts");
        assert_eq!(counted, (20, 20));
    }
}

#[test]
fn cancelling_before_the_first_chunk_leaves_the_state_that_was_there() {
    let daemon = Daemon::sealed();
    let mut observer = StopAfter { chunks: 0 };
    for _ in 0..2 {
        let failed = migrating_handle(&daemon.plan()).run(&mut observer).expect_err("stops");
        assert!(matches!(failed.error, Error::Interrupted { cause: Cause::Cancelled, .. }));
    }
    drop(migrating_handle(&daemon.plan()).abort().expect("aborts"));
    assert!(crate::child::stock_fjall_writes(&daemon.at("accounts")));
}

/// Asks to stop once it has heard of a step.
struct StopBehind {
    step: &'static str,
    heard: bool,
}

impl Observer for StopBehind {
    fn step(&mut self, name: &str, _: &str) {
        self.heard |= name == self.step;
    }

    fn cancelled(&self) -> bool {
        self.heard
    }
}

/// Anyone who asked while the target was verified once found that the commit point had passed.
#[test]
fn cancelling_is_heard_between_steps_and_for_the_last_time_before_the_commit_point() {
    for step in ["sync what was found", "copy", "verify", "prepare the tombstones"] {
        let daemon = Daemon::sealed();
        let mut observer = StopBehind { step, heard: false };
        let failed = migrating_handle(&daemon.plan()).run(&mut observer).expect_err(step);
        assert!(matches!(failed.error, Error::Interrupted { cause: Cause::Cancelled, .. }));
        drop(failed);
        drop(migrating_handle(&daemon.plan()).abort().expect("the commit point was not passed"));
    }
    let daemon = Daemon::fresh();
    let mut observer = StopBehind { step: "pass the commit point", heard: false };
    drop(cutover::sql(&daemon.plan(), &mut observer).expect("nothing stops it then"));
    assert!(observer.heard);
}

#[test]
fn cancelling_while_sources_are_sealed_gives_them_back() {
    for step in ["write the claim file", "seal a source"] {
        let daemon = Daemon::fresh();
        let mut observer = StopBehind { step, heard: false };
        let failed = fresh_handle(&daemon.plan()).begin_observed(&mut observer).expect_err(step);
        assert!(matches!(failed.error, Error::Refused(Cause::Cancelled)), "{}", failed.error);
        drop(failed);
        assert!(!daemon.at("target.sqlite.cutover").exists());
        drop(fresh_handle(&daemon.plan()));
        assert!(crate::child::stock_fjall_writes(&daemon.at("accounts")));
    }
}

/// The last of each phase.
#[derive(Default)]
struct Last(Vec<Progress>);

impl Observer for Last {
    fn progress(&mut self, progress: &Progress) {
        self.0.retain(|last| last.phase != progress.phase);
        self.0.push(progress.clone());
    }
}

#[test]
fn a_run_that_goes_on_counts_only_its_own_pairs_as_its_speed() {
    let daemon = Daemon::copying();
    let copied = read_table(&daemon.at("target.sqlite"), "accounts_first").len() as u64;
    let mut last = Last::default();
    let live = migrating_handle(&daemon.plan()).run(&mut last).expect("runs").finish();
    crate::daemon::is_whole(&mut live.expect("finishes"), &mut last);
    let phases: Vec<Phase> = last.0.iter().map(|progress| progress.phase).collect();
    assert_eq!(phases, [Phase::Copying, Phase::Verifying, Phase::Rereading]);
    for progress in last.0 {
        let before = if progress.phase == Phase::Copying { copied } else { 0 };
        assert_eq!((progress.pairs, progress.pairs_here), (80, 80 - before));
        assert_eq!((progress.bytes, progress.bytes_here), (480, (80 - before) * 6));
        assert_eq!(progress.pairs_expected, Some(80));
        assert!(progress.pairs_per_second() > Some(0), "{progress:?}");
        assert_eq!(progress.time_left(), Some(std::time::Duration::ZERO));
    }
}
