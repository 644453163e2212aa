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
