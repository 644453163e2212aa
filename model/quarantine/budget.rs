//! How many pairs are let into quarantine, and what becomes of one more.

use super::{
    BAD, DAMAGED, ENOUGH, IN_QUARANTINE, TABLES, count, is_refused, migrate, plan, rows, session,
    stores,
};
use crate::child;
use crate::daemon::{StopAfter, fresh_handle, migrating_handle, sqlite};
use cutover::{Aborted, Cause, Error, Found, fault};

/// Key, value and reason, as the quarantine has them.
type Kept = (String, String, Vec<u8>, Vec<u8>, String);

#[test]
fn without_a_budget_the_first_pair_that_is_refused_stops_the_run() {
    for (budget, key) in [([0, 99], "key 00000003"), ([2, 0], "key ee03")] {
        let folder = tempfile::tempdir().expect("a folder");
        stores(folder.path());
        let error = cutover::sql(&plan(folder.path(), budget), &mut ()).expect_err("it stops");
        let Error::Interrupted { cause: Cause::PairRefused { .. }, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(error.to_string().contains(key), "{error}");
        assert_eq!(count(folder.path(), TABLES) > 0, budget == [2, 0]);
        // The plan is fixed, and goes on.
        drop(cutover::sql(&plan(folder.path(), ENOUGH), &mut ()).expect("SQL"));
        assert_eq!(count(folder.path(), IN_QUARANTINE), 11);
    }
}

#[test]
fn i2_refused_pairs_are_kept_as_they_are_with_the_reason_and_nothing_of_them_is_left_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path());
    migrate(folder.path());
    let connection =
        rusqlite::Connection::open(folder.path().join("target.sqlite")).expect("opens");
    let mut statement = connection
        .prepare("SELECT * FROM cutover_quarantine_kept ORDER BY source, keyspace, key")
        .expect("a table");
    let kept = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
    let kept: Vec<Kept> = kept.expect("rows").collect::<Result<_, _>>().expect("reads");
    let (accounts, sessions) = kept.split_at(2);
    for ((source, keyspace, key, value, reason), id) in accounts.iter().zip(DAMAGED) {
        assert_eq!((source.as_str(), keyspace.as_str()), ("accounts", "a"));
        assert_eq!(
            (key.as_slice(), value.as_slice()),
            (&id.to_be_bytes()[..], &b"{\"secret\":1}"[..])
        );
        assert!(reason.starts_with("JSON: missing field `id`"), "{reason}");
    }
    let refused: Vec<u8> = (0..40).filter(|i| is_refused(*i)).collect();
    assert_eq!((refused.len(), sessions.len()), (9, 9));
    for ((source, keyspace, key, value, reason), i) in sessions.iter().zip(refused) {
        assert_eq!((source.as_str(), keyspace.as_str()), ("sessions", "s"));
        assert_eq!((key.clone(), value.clone()), session(i));
        if [30, 31].contains(&i) {
            assert!(reason.starts_with("a bad line, ßßß"), "{reason}");
            assert_eq!(reason.len(), 1024, "a letter that does not fit whole is left out");
        } else {
            assert_eq!(reason, "its account is not there");
        }
    }
    let of_refused = "SELECT (SELECT count(*) FROM session WHERE token IN (SELECT key FROM
        cutover_quarantine_kept)) + (SELECT count(*) FROM line WHERE token NOT IN (SELECT token FROM session))";
    assert_eq!(count(folder.path(), of_refused), 0);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM session"), 31);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM line"), 62);
}

#[test]
fn i2_one_more_than_the_budget_stops_the_run_behind_those_that_are_kept_and_a_larger_one_goes_on() {
    let whole = tempfile::tempdir().expect("a folder");
    stores(whole.path());
    migrate(whole.path());
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path());
    drop(fresh_handle(&plan(folder.path(), ENOUGH)).begin().expect("begins"));
    let refused: Vec<u8> = (0..40).filter(|i| is_refused(*i)).collect();
    for (budget, next) in (1_u64..9).zip(&refused[1..]) {
        let small = plan(folder.path(), [2, budget]);
        let error = migrating_handle(&small).run(&mut ()).expect_err("it stops").error;
        let Error::Interrupted { cause, .. } = &error else { panic!("{error:?}") };
        let Cause::QuarantineFull { name, keyspace, key, quarantined, table, .. } = cause else {
            panic!("{cause:?}")
        };
        assert_eq!((name.as_str(), keyspace.as_str()), ("sessions", "s"));
        assert_eq!((key.clone(), *quarantined), (format!("ee{next:02x}"), budget));
        assert_eq!(table, "cutover_quarantine_kept");
        let text = error.to_string();
        assert!(!text.contains(BAD) && text.ends_with("or abort"), "{text}");
        // They can be looked at now.
        assert_eq!(count(folder.path(), IN_QUARANTINE).unsigned_abs(), 2 + budget);
        // Once more nothing is done, and that is told; a smaller budget takes nothing back.
        for budget in [budget, 1] {
            let again = plan(folder.path(), [0, budget]);
            let failed = migrating_handle(&again).run(&mut ()).expect_err("it stops");
            let Error::Refused(Cause::QuarantineFull { .. }) = &failed.error else {
                panic!("{:?}", failed.error)
            };
        }
    }
    drop(cutover::sql(&plan(folder.path(), ENOUGH), &mut ()).expect("SQL"));
    assert_eq!(rows(folder.path()), rows(whole.path()));
}

#[test]
fn a_budget_that_is_lowered_behind_the_copy_is_refused_before_the_commit_point() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path());
    let begun = fresh_handle(&plan(folder.path(), ENOUGH)).begin().expect("begins");
    drop(begun.prepare(&mut ()).expect("prepares"));
    for (budget, words) in [
        ([1, 9], "2 pairs of source 'accounts' are in quarantine, and the plan allows 1 now"),
        ([2, 0], "9 pairs of source 'sessions' are in quarantine, and the plan allows 0 now"),
    ] {
        let error = cutover::sql(&plan(folder.path(), budget), &mut ()).expect_err("it stops");
        assert!(matches!(error, Error::Refused(Cause::PlanChanged { .. })), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(matches!(
            cutover::open(&plan(folder.path(), budget)).expect("opens"),
            Found::Migrating(_)
        ));
    }
    drop(cutover::sql(&plan(folder.path(), [2, 9]), &mut ()).expect("as many as there are"));
}

#[test]
fn i2_i7_a_kill_at_any_commit_of_a_copy_with_a_quarantine_ends_with_the_same_rows() {
    let whole = tempfile::tempdir().expect("a folder");
    stores(whole.path());
    fault::arm(None);
    migrate(whole.path());
    let points = fault::passed();
    fault::arm(None);
    let commits = (1..).zip(&points).filter(|(_, name)| name.ends_with("a commit"));
    let mut part_way = 0;
    for (number, _) in commits {
        let folder = tempfile::tempdir().expect("a folder");
        stores(folder.path());
        assert!(child::killed(&["quarantine", folder.path().to_str().expect("UTF-8")], number));
        if count(folder.path(), TABLES) > 0 {
            part_way += usize::from((1..11).contains(&count(folder.path(), IN_QUARANTINE)));
        }
        migrate(folder.path());
        assert_eq!(rows(folder.path()), rows(whole.path()), "killed at {number}");
    }
    assert!(part_way > 4, "{part_way} kills with a part of the quarantine");
}

#[test]
fn i1_i8_the_quarantine_is_fenced_until_the_target_is_live_and_an_abort_removes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path());
    let (plan, target) = (plan(folder.path(), ENOUGH), folder.path().join("target.sqlite"));
    let deletes = || {
        let connection = rusqlite::Connection::open(&target).expect("opens");
        connection.execute("DELETE FROM cutover_quarantine_kept WHERE keyspace = 'a'", [])
    };
    for chunks in [4, usize::MAX] {
        drop(fresh_handle(&plan).begin().expect("begins"));
        drop(migrating_handle(&plan).run(&mut StopAfter { chunks }));
        let error = deletes().expect_err("fenced").to_string();
        assert!(error.contains("is fenced until the migration 'kept' is finished"), "{error}");
        let fresh = match cutover::open(&plan).expect("opens") {
            Found::Migrating(handle) => handle.abort().expect("aborts"),
            Found::Committed(handle) => handle
                .abort(cutover::ticket::AbortCommitted::losing_the_committed_copy())
                .expect("aborts"),
            other => panic!("{other:?}"),
        };
        assert!(matches!(fresh, Aborted::Fresh(_)));
        assert_eq!(count(folder.path(), "SELECT count(*) FROM sqlite_schema"), 0);
    }
    // A table of that name that somebody else made is refused before anything is changed.
    sqlite(&target, "CREATE TABLE Cutover_quarantine_KEPT (x)");
    let error = cutover::sql(&plan, &mut ()).expect_err("the name is taken");
    assert!(matches!(error, Error::Refused(Cause::Table { .. })), "{error:?}");
    sqlite(&target, "DROP TABLE cutover_quarantine_kept");
    drop(cutover::sql(&plan, &mut ()).expect("SQL"));
    assert_eq!(deletes().expect("live"), 2);
}
