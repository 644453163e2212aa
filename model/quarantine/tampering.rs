//! What the verification says of a quarantine that somebody has changed; and two plans in one file.

use super::{ENOUGH, count, migrate, plan, stores};
use crate::common::{Pairs, write_store};
use crate::daemon::{sqlite, verify};
use cutover::{Blobs, Compared, Found, Plan};
use std::fs;
use std::path::Path;

#[test]
fn i2_a_quarantined_pair_that_was_changed_added_removed_or_moved_is_found_by_verify() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path());
    migrate(folder.path());
    let (plan, target) = (plan(folder.path(), ENOUGH), folder.path().join("target.sqlite"));
    verify(&plan).expect("it is whole");
    let whole = fs::read(&target).expect("reads");
    let mine = "cutover_quarantine_kept";
    for (change, place) in [
        (format!("UPDATE {mine} SET value = x'00' WHERE key = x'ee03'"), "sessions/s"),
        (format!("UPDATE {mine} SET key = x'ee99' WHERE key = x'ee03'"), "sessions/s"),
        (format!("DELETE FROM {mine} WHERE key = x'ee1e'"), "sessions/s"),
        (format!("INSERT INTO {mine} VALUES ('sessions', 't', x'', x'', '')"), "sessions/t"),
        (format!("INSERT INTO {mine} VALUES ('rules', 'r', x'', x'', '')"), "rules/r"),
        (format!("UPDATE {mine} SET keyspace = 't' WHERE keyspace = 's'"), "sessions/s"),
        // Every pair is there, and the digest is the same.
        (
            format!(
                "INSERT INTO {mine} SELECT 'sessions', 't', key, value, '' FROM sessions_t LIMIT 1;
                 DELETE FROM sessions_t WHERE key IN (SELECT key FROM {mine})"
            ),
            "sessions/t",
        ),
        (format!("DROP TABLE {mine}"), "accounts/a"),
    ] {
        sqlite(&target, &change);
        let verified = verify(&plan).expect_err(&change);
        assert!(verified.stores_are_whole(), "{change}: {verified:?}");
        let mut changed = verified.keyspaces.iter().filter(|k| k.target != Compared::Same);
        let changed = changed.next().expect("one that is changed");
        assert_eq!(format!("{}/{}", changed.source, changed.keyspace), place, "{change}");
        fs::write(&target, &whole).expect("writes");
    }
    // The reason is for people.
    sqlite(&target, &format!("UPDATE {mine} SET reason = 'looked at'"));
    verify(&plan).expect("it is whole");
}

#[test]
fn a_rerun_puts_the_same_pairs_into_quarantine_again() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path());
    migrate(folder.path());
    let before = super::rows(folder.path());
    let plan = plan(folder.path(), ENOUGH);
    fs::remove_file(folder.path().join("target.sqlite")).expect("removes");
    let Found::RerunAllowed(handle) = cutover::open(&plan).expect("opens") else {
        panic!("the SQL file is gone")
    };
    let ticket = cutover::ticket::Rerun::losing_writes_made_in_sql();
    let committed = handle.rerun(ticket).expect("reruns").run(&mut ()).expect("runs");
    drop(committed.finish().expect("finishes"));
    assert_eq!(super::rows(folder.path()), before);
    verify(&plan).expect("it is whole");
}

/// A table that refuses values of one byte.
const STRICT: &str =
    "CREATE TABLE {t} (key BLOB PRIMARY KEY, value BLOB NOT NULL CHECK (length(value) <> 1))";

fn one_of_two(folder: &Path, name: &str, lengths: &[usize]) -> Plan {
    let pairs = (0_u8..).zip(lengths).map(|(i, length)| (vec![i], vec![i; *length])).collect();
    write_store(&folder.join(name), &Pairs::from([("k".to_owned(), pairs)]));
    sqlite(&folder.join("target.sqlite"), &STRICT.replace("{t}", name));
    Plan::builder(format!("of {name}"))
        .source(name, folder.join(name), |s| s.table("k", Blobs::new(name)).quarantine(9))
        .target(folder.join("target.sqlite"))
        .build()
        .expect("a plan")
}

#[test]
fn two_plans_in_one_file_have_a_quarantine_each_and_an_abort_of_one_leaves_the_other_s() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = one_of_two(folder.path(), "first", &[1, 2, 1]);
    let second = one_of_two(folder.path(), "second", &[3, 1, 2, 5]);
    let kept = |name: &str| {
        count(folder.path(), &format!("SELECT count(*) FROM \"cutover_quarantine_of {name}\""))
    };
    drop(cutover::sql(&first, &mut ()).expect("SQL"));
    let begin = || crate::daemon::fresh_handle(&second).begin().expect("begins");
    drop(begin().run(&mut ()).expect("runs"));
    assert_eq!((kept("first"), kept("second")), (2, 1));
    let Found::Committed(handle) = cutover::open(&second).expect("opens") else {
        panic!("not committed")
    };
    let ticket = cutover::ticket::AbortCommitted::losing_the_committed_copy();
    drop(handle.abort(ticket).expect("aborts"));
    assert_eq!(count(folder.path(), super::TABLES), 2, "the first's, and its key");
    verify(&first).expect("the first is whole");
    drop(cutover::sql(&second, &mut ()).expect("SQL"));
    sqlite(&folder.path().join("target.sqlite"), "DELETE FROM \"cutover_quarantine_of first\"");
    verify(&second).expect("the second is whole");
    let first = verify(&first).expect_err("its rows are gone");
    assert!(first.stores_are_whole(), "{first:?}");
}
