//! What a daemon pays at every start for ever after: opening a plan whose data has moved.

use crate::rounds::median;
use crate::ways::plan;
use rusqlite::Connection;
use std::path::Path;
use std::time::Instant;

const TIMES: usize = 501;
/// With syncs, each takes a thousand times as long.
const DURABLE_TIMES: usize = 51;

/// Opens what was migrated in `folder` in several ways, one after the other, and prints the medians
/// in microseconds: `cutover::open`, a plain open, and a plain open with its first read; then what a
/// daemon does with both, which makes durable what it found: `cutover::sql`, and a plain open with a
/// commit.
pub fn play(folder: &Path) {
    let target = folder.join("target.sqlite");
    let plan = plan(&folder.join("store"), &target);
    let mut took = [const { Vec::new() }; 5];
    for _ in 0..TIMES {
        took[0].push(microseconds(|| {
            let found = cutover::open(&plan).expect("opens");
            assert!(matches!(found, cutover::Found::Tombstoned(_)));
        }));
        took[1].push(microseconds(|| drop(Connection::open(&target).expect("opens"))));
        took[2].push(microseconds(|| {
            let connection = Connection::open(&target).expect("opens");
            let count: i64 = connection
                .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
                .expect("counts");
            assert!(count > 0);
        }));
    }
    for _ in 0..DURABLE_TIMES {
        took[3].push(microseconds(|| drop(cutover::sql(&plan, &mut ()).expect("SQL"))));
        took[4].push(microseconds(|| {
            let connection = Connection::open(&target).expect("opens");
            let version: i64 =
                connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("reads");
            connection.pragma_update(None, "user_version", version).expect("commits");
        }));
    }
    let [cutover, rusqlite, and_read, sql, and_commit] = took.map(|all| median(&all));
    println!("{cutover} {rusqlite} {and_read} {sql} {and_commit}");
}

fn microseconds(call: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    call();
    begun.elapsed().as_secs_f64() * 1e6
}
