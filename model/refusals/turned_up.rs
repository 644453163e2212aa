//! Files that somebody restored, removed or put back.

use super::*;
use crate::common::{read_table, small_store};

#[test]
fn a_store_that_came_back_beside_a_live_target_is_refused() {
    let daemon = Daemon::fresh();
    let backup = daemon.keep("accounts");
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
    fs::remove_file(daemon.at("accounts")).expect("removes");
    backup.put_back(&daemon.at("accounts"));
    // The retired store is still there, so there are two.
    let words = ["source 'accounts' has a store at", "and another at", "accounts.retired"];
    contradicted(daemon.path(), &daemon.plan(), Contradiction::TwoStores(0), &words);
    fs::remove_dir_all(daemon.at("accounts.retired")).expect("removes");
    let words = ["beside the live SQL database", "stop every program that uses it at once"];
    contradicted(daemon.path(), &daemon.plan(), Contradiction::ReturnedStore(0), &words);
}

#[test]
fn a_retired_store_that_was_moved_back_is_refused() {
    let daemon = Daemon::live();
    fs::remove_file(daemon.at("accounts")).expect("removes");
    fs::rename(daemon.at("accounts.retired"), daemon.at("accounts")).expect("renames");
    let words = ["the retired store of source 'accounts' stands at", "move it back (mv -T "];
    contradicted(daemon.path(), &daemon.plan(), Contradiction::HeldStoreAtPath(0), &words);
    assert!(!crate::child::stock_fjall_writes(&daemon.at("accounts")), "the second lock holds");
}

#[test]
fn a_marker_that_was_deleted_beside_a_live_target_is_put_back() {
    let daemon = Daemon::live();
    let marker = fs::read(daemon.at("accounts")).expect("reads");
    fs::remove_file(daemon.at("accounts")).expect("removes");
    let connection = cutover::sql(&daemon.plan(), &mut ()).expect("SQL");
    drop(connection);
    let back = fs::read(daemon.at("accounts")).expect("it is there again");
    // All but the time and what follows from it.
    let lines = |bytes: &[u8]| -> Vec<String> {
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let timeless =
            |line: &&str| !["when:", "{", "checksum"].iter().any(|s| line.starts_with(s));
        text.lines().filter(timeless).map(str::to_owned).collect()
    };
    assert_eq!(lines(&back), lines(&marker));
    assert!(!crate::child::stock_fjall_writes(&daemon.at("accounts")));
    let pairs = small_store(1, 20);
    assert_eq!(read_table(&daemon.at("target.sqlite"), "accounts_first"), pairs["first"]);
}

/// The store was once left without it: only beside a marker was it set again.
#[test]
fn the_second_lock_is_set_again_after_a_verification_whose_marker_was_deleted() {
    let daemon = Daemon::live();
    let version = daemon.at("accounts.retired/version");
    let before = fs::read(&version).expect("reads");
    let cutover::Found::Tombstoned(mut handle) = cutover::open(&daemon.plan()).expect("opens")
    else {
        panic!("not live")
    };
    fs::remove_file(daemon.at("accounts")).expect("removes");
    crate::daemon::is_whole(&mut handle, &mut ());
    assert_eq!(fs::read(&version).expect("reads"), before);
}

#[test]
fn an_sql_file_from_an_earlier_migration_is_refused() {
    let daemon = Daemon::copying();
    let old = daemon.keep("target.sqlite");
    let aborted = migrating_handle(&daemon.plan()).abort().expect("aborts");
    drop(aborted);
    old.put_back(&daemon.at("target.sqlite"));
    let words =
        ["an unfinished migration although no source has a marker", "`cutover abort` removes"];
    contradicted(daemon.path(), &daemon.plan(), Contradiction::RecordWithoutMarkers, &words);
    fs::remove_file(daemon.at("target.sqlite")).expect("removes");

    fresh_handle(&daemon.plan()).begin().expect("begins");
    daemon.copy_some_chunks();
    old.put_back(&daemon.at("target.sqlite"));
    let words = ["belongs to another migration than the markers", "`cutover abort` removes"];
    contradicted(daemon.path(), &daemon.plan(), Contradiction::RecordOfAnotherMigration, &words);
}

#[test]
fn an_sql_file_from_an_earlier_attempt_is_refused_as_stale() {
    let daemon = Daemon::copying();
    let old = daemon.keep("target.sqlite");
    fs::remove_file(daemon.at("target.sqlite")).expect("removes");
    daemon.copy_some_chunks();
    let newer = daemon.keep("target.sqlite");
    old.put_back(&daemon.at("target.sqlite"));
    let words = ["is of another attempt than the markers", "an older file turned up"];
    contradicted(daemon.path(), &daemon.plan(), Contradiction::StaleTarget, &words);
    newer.put_back(&daemon.at("target.sqlite"));
    cutover::sql(&daemon.plan(), &mut ()).expect("the right one goes on");
}

#[test]
fn an_older_copy_of_a_live_target_is_refused() {
    for daemon in [Daemon::copying(), Daemon::committed()] {
        let old = daemon.keep("target.sqlite");
        drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
        let live = daemon.keep("target.sqlite");
        old.put_back(&daemon.at("target.sqlite"));
        let words = ["the markers say that it was live", "restore the live"];
        contradicted(daemon.path(), &daemon.plan(), Contradiction::OlderTarget, &words);
        live.put_back(&daemon.at("target.sqlite"));
        cutover::sql(&daemon.plan(), &mut ()).expect("the right one opens");
    }
}

/// A file that holds another plan's live tables can't be moved away: what the left-over migration
/// put there goes, and nothing else.
#[test]
fn what_an_unfinished_migration_left_in_a_shared_file_can_be_discarded_alone() {
    let discard = || cutover::ticket::DiscardRecord::losing_the_unfinished_copy();
    let tables = |daemon: &Daemon| -> Vec<String> {
        let connection = rusqlite::Connection::open(daemon.at("target.sqlite")).expect("opens");
        let mut names =
            connection.prepare("SELECT name FROM sqlite_schema ORDER BY 1").expect("reads");
        let names = names.query_map([], |row| row.get(0)).expect("reads");
        names.collect::<Result<_, _>>().expect("reads")
    };
    let other = "CREATE TABLE others (x); INSERT INTO others VALUES (1)";

    let daemon = Daemon::copying();
    daemon.sqlite(other);
    let old = daemon.keep("target.sqlite");
    drop(migrating_handle(&daemon.plan()).abort().expect("aborts"));
    old.put_back(&daemon.at("target.sqlite"));
    let found = cutover::discard_record(&daemon.plan(), discard()).expect("discards");
    assert!(matches!(found, Found::Fresh(_)), "{found:?}");
    drop(found);
    assert_eq!(tables(&daemon), ["others"]);
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));

    old.put_back(&daemon.at("target.sqlite"));
    // What is left is a file with another's tables, and no word of the live one.
    let told = cutover::discard_record(&daemon.plan(), discard()).expect_err("it was live");
    says(&told, &["without its record", "--record-lost"]);
    let forget = cutover::ticket::ForgetRecord::losing_writes_made_in_sql();
    let found = cutover::forget_record(&daemon.plan(), forget).expect("forgets");
    assert!(matches!(found, Found::RerunAllowed(_)), "{found:?}");
    drop(found);
    assert_eq!(tables(&daemon), ["others"]);

    let daemon = Daemon::live();
    let changed = daemon.keep("accounts");
    fs::remove_file(daemon.at("target.sqlite")).expect("removes");
    let Found::RerunAllowed(handle) = cutover::open(&daemon.plan()).expect("opens") else {
        panic!("the SQL file is gone")
    };
    drop(handle.rerun(cutover::ticket::Rerun::losing_writes_made_in_sql()).expect("reruns"));
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
    changed.put_back(&daemon.at("accounts"));
    let before = tables(&daemon);
    cutover::discard_record(&daemon.plan(), discard()).expect_err("what is live stays");
    assert_eq!(tables(&daemon), before);
}

#[test]
fn a_mistyped_source_beside_a_live_target_gets_no_tombstone() {
    let daemon = Daemon::live();
    let mistyped = Plan::builder("small")
        .source("accounts", daemon.at("acounts"), |s| s.every_keyspace())
        .source("sessions", daemon.at("sessions"), |s| s.every_keyspace())
        .target(daemon.at("target.sqlite"))
        .build()
        .expect("a plan");
    let words = ["nothing stands at", "acounts", "correct the path"];
    contradicted(daemon.path(), &mistyped, Contradiction::SourceElsewhere(0), &words);
}

/// Once the record was gone, nothing said any more that the target was the right one, and no step led
/// out.
#[test]
fn an_abort_ends_though_the_claim_was_deleted_or_the_whole_folder_moved() {
    let ends = |folder: &Path| {
        let plan = crate::common::small_plan(folder);
        let aborted = migrating_handle(&plan).abort().expect("aborts");
        assert!(matches!(aborted, cutover::Aborted::Fresh(_)), "{aborted:?}");
        drop(aborted);
        for (seed, name) in (1..).zip(crate::common::SOURCES) {
            assert_eq!(crate::common::read_store(&folder.join(name)), small_store(seed, 20));
        }
    };
    let daemon = Daemon::copying();
    fs::remove_file(daemon.at("target.sqlite.cutover")).expect("removes");
    ends(daemon.path());

    let daemon = Daemon::copying();
    let moved = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(daemon.path()).expect("lists") {
        let entry = entry.expect("lists");
        fs::rename(entry.path(), moved.path().join(entry.file_name())).expect("moves");
    }
    ends(moved.path());
}

#[test]
fn a_lost_target_is_not_made_anew() {
    let daemon = Daemon::live();
    fs::remove_file(daemon.at("target.sqlite")).expect("removes");
    let error = refusal(daemon.path(), &daemon.plan());
    assert!(matches!(error, Error::NeedsApproval { state: "RerunAllowed", .. }), "{error:?}");
    says(&error, &["the SQL database is gone", "restore it from a backup", "cutover rerun"]);
}

/// A pool that creates what is not there hides that the database is lost, once it has put a table into it.
#[test]
fn i1_a_lost_target_that_a_pool_made_anew_before_sql_is_refused_and_no_store_comes_back() {
    let table = "CREATE TABLE schema_history (version INTEGER)";
    let in_wal = format!("PRAGMA journal_mode = WAL; {table}");
    for (made, is_lost) in [
        ("SELECT count(*) FROM sqlite_schema", true),
        ("PRAGMA journal_mode = WAL", true),
        (table, false),
        (&in_wal, false),
    ] {
        let daemon = Daemon::live();
        fs::remove_file(daemon.at("target.sqlite")).expect("removes");
        let pool = rusqlite::Connection::open(daemon.at("target.sqlite")).expect("opens");
        pool.execute_batch(made).expect("runs");
        for pool in [Some(pool), None] {
            match cutover::sql(&daemon.plan(), &mut ()).expect_err("it is refused") {
                Error::NeedsApproval { state: "RerunAllowed", .. } => assert!(is_lost, "{made}"),
                Error::Contradiction(told) => {
                    assert_eq!(told.contradiction, Contradiction::RecordGone, "{made}");
                    assert!(!is_lost, "{made}");
                }
                other => panic!("{made}: {other:?}"),
            }
            cutover::kv(&daemon.plan()).map(drop).expect_err("it is refused");
            for name in crate::common::SOURCES {
                assert!(!crate::child::stock_fjall_writes(&daemon.at(name)), "{made}");
            }
            drop(pool);
        }
    }
}

#[test]
fn a_target_whose_main_file_is_gone_beside_its_log_is_refused() {
    let daemon = Daemon::live();
    let target = daemon.at("target.sqlite");
    let connection = rusqlite::Connection::open(&target).expect("opens");
    connection
        .execute_batch("PRAGMA journal_mode = WAL; DELETE FROM accounts_first")
        .expect("runs");
    let log = daemon.keep("target.sqlite-wal");
    drop(connection);
    fs::remove_file(&target).expect("removes");
    log.put_back(&daemon.at("target.sqlite-wal"));
    let words =
        ["is gone while its -wal or -journal file is still there", "put the main file back"];
    contradicted(daemon.path(), &daemon.plan(), Contradiction::TargetMainFileGone, &words);
}

#[test]
fn markers_without_a_claim_file_beside_a_lost_target_are_refused() {
    for daemon in [Daemon::copying(), Daemon::committed(), Daemon::live()] {
        fs::remove_file(daemon.at("target.sqlite")).expect("removes");
        fs::remove_file(daemon.at("target.sqlite.cutover")).expect("removes");
        let words = ["no claim file", "its volume may not be mounted", "correct the path"];
        contradicted(daemon.path(), &daemon.plan(), Contradiction::ClaimMissing, &words);
    }
}

/// Takes the claim file from under a migration once the first source is sealed.
struct ClaimTaken<'a> {
    daemon: &'a Daemon,
    holder: Option<fs::File>,
}

impl cutover::Observer for ClaimTaken<'_> {
    fn step(&mut self, name: &str, _: &str) {
        if name == "seal a source" && self.holder.is_none() {
            let (claim, other) = (self.daemon.at("target.sqlite.cutover"), self.daemon.at("other"));
            fs::copy(&claim, &other).expect("copies");
            let file = fs::File::open(&other).expect("opens");
            file.try_lock().expect("locks");
            fs::rename(&other, &claim).expect("replaces it");
            self.holder = Some(file);
        }
    }
}

/// It was once told as refused, with nothing changed.
#[test]
fn a_claim_file_that_is_replaced_after_the_first_seal_interrupts_and_is_not_told_as_a_refusal() {
    let daemon = Daemon::fresh();
    let mut observer = ClaimTaken { daemon: &daemon, holder: None };
    let failed = fresh_handle(&daemon.plan()).begin_observed(&mut observer).expect_err("taken");
    assert!(observer.holder.is_some(), "a source was sealed");
    assert!(matches!(failed.error, Error::Interrupted { .. }), "{:?}", failed.error);
    assert!(failed.handle.is_none() && daemon.at("accounts").is_file());
    drop((failed, observer));
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("nobody is in the way any more"));
}

#[test]
fn a_claim_file_that_can_not_be_read_is_refused() {
    let daemon = Daemon::sealed();
    fs::write(daemon.at("target.sqlite.cutover"), "dear reader").expect("writes");
    let words = ["the claim file beside", "can't be read", "put it back from a backup"];
    contradicted(daemon.path(), &daemon.plan(), Contradiction::ClaimUnreadable, &words);
}

/// The tables stay, and nothing fences them: it was once told as a SQL file that is lost, and the KV
/// stores were given back beside it.
#[test]
fn i1_a_live_database_that_lost_its_record_is_a_contradiction_and_is_left_by_a_backup_or_a_ticket()
{
    let rerun = || cutover::ticket::Rerun::losing_writes_made_in_sql();
    let restore = || cutover::ticket::RestoreKv::losing_writes_made_in_sql();
    let forget = || cutover::ticket::ForgetRecord::losing_writes_made_in_sql();
    let lost = || cutover::ticket::ReplaceTarget::losing_the_database_for_good();
    for dropped in ["DROP TABLE cutover_record", "DELETE FROM cutover_record"] {
        let daemon = Daemon::live();
        let plan = daemon.plan();
        daemon.sqlite("DELETE FROM accounts_first WHERE key = x'0100'");
        let backup = daemon.keep("target.sqlite");
        daemon.sqlite(dropped);
        let words =
            ["was live", "without its record", "table cutover_record", "--record-lost", "backup"];
        contradicted(daemon.path(), &plan, Contradiction::RecordGone, &words);
        // That the whole database is lost is another ticket's word, and not so.
        let refused = cutover::replace_target(&plan, lost()).expect_err("it is there");
        assert!(matches!(refused, Error::Contradiction(_)), "{refused}");

        // While the rows are there, the ticket changes nothing, so that a backup is taken still.
        let before = snapshot(daemon.path());
        let refused = cutover::forget_record(&plan, forget()).expect_err("rows are there");
        says(&refused, &["holds rows in accounts_first, ", "sessions_second", "rename or drop"]);
        assert_eq!(changes(&before, &snapshot(daemon.path())), Vec::<String>::new());
        let found = fs::read(daemon.at("target.sqlite")).expect("reads");
        backup.put_back(&daemon.at("target.sqlite"));
        drop(cutover::sql(&plan, &mut ()).expect("the record is back"));
        fs::write(daemon.at("target.sqlite"), found).expect("writes");

        for table in small_tables() {
            daemon.sqlite(&format!("ALTER TABLE {table} RENAME TO kept_{table}"));
        }
        let found = cutover::forget_record(&plan, forget()).expect("forgets");
        assert!(matches!(found, Found::RerunAllowed(_)), "{found:?}");
        drop(found);
        // A record that is put back now is known as another attempt's.
        let renamed = fs::read(daemon.at("target.sqlite")).expect("reads");
        backup.put_back(&daemon.at("target.sqlite"));
        let words = ["is of another attempt than the markers"];
        contradicted(daemon.path(), &plan, Contradiction::StaleTarget, &words);
        fs::write(daemon.at("target.sqlite"), renamed).expect("writes");

        let Found::RerunAllowed(handle) = cutover::open(&plan).expect("opens") else {
            panic!("not forgotten")
        };
        if dropped.starts_with("DROP") {
            drop(handle.rerun(rerun()).expect("reruns"));
            drop(cutover::sql(&plan, &mut ()).expect("SQL"));
            let pairs = small_store(1, 20);
            assert_eq!(read_table(&daemon.at("target.sqlite"), "accounts_first"), pairs["first"]);
        } else {
            drop(handle.restore_kv(restore()).expect("restores"));
            for (seed, name) in (1..).zip(crate::common::SOURCES) {
                assert_eq!(crate::common::read_store(&daemon.at(name)), small_store(seed, 20));
            }
        }
    }
}

fn small_tables() -> [&'static str; 4] {
    ["accounts_first", "accounts_second", "sessions_first", "sessions_second"]
}

/// Killed between the fence's end and the last tombstone, a target was live, and no marker says so: the
/// rows do.
#[test]
fn i1_the_stores_are_not_given_back_beside_rows_that_no_record_and_no_marker_speaks_of() {
    let daemon = Daemon::live();
    let plan = daemon.plan();
    fs::remove_file(daemon.at("target.sqlite")).expect("removes");
    let Found::RerunAllowed(handle) = cutover::open(&plan).expect("opens") else { panic!("lost") };
    let rerun = handle.rerun(cutover::ticket::Rerun::losing_writes_made_in_sql()).expect("reruns");
    drop(rerun.run(&mut ()).expect("runs"));
    daemon.sqlite("DROP TABLE cutover_record");
    for table in small_tables() {
        for does in ["insert", "update", "delete"] {
            daemon.sqlite(&format!("DROP TRIGGER cutover_fence_{does}_{table}"));
        }
    }
    let restore = || match cutover::open(&plan).expect("opens") {
        Found::RerunAllowed(handle) => {
            handle.restore_kv(cutover::ticket::RestoreKv::losing_writes_made_in_sql())
        }
        other => panic!("{other:?}"),
    };
    let before = snapshot(daemon.path());
    let refused = restore().expect_err("rows are there").error;
    assert!(matches!(&refused, Error::Refused(Cause::RowsLeft { .. })), "{refused:?}");
    assert_eq!(changes(&before, &snapshot(daemon.path())), Vec::<String>::new());
    // One of them is kept under another name; the others are not wanted.
    daemon.sqlite("ALTER TABLE accounts_first RENAME TO kept");
    for table in &small_tables()[1..] {
        daemon.sqlite(&format!("DROP TABLE {table}"));
    }
    drop(restore().expect("restores"));
    assert!(daemon.at("accounts").is_dir());
}

/// Two plans in one file: it was deleted, and the other plan has been copied into a new one.
#[test]
fn i1_a_file_that_another_plan_has_made_anew_is_left_with_the_same_ticket() {
    let daemon = Daemon::live();
    let plan = daemon.plan();
    fs::remove_file(daemon.at("target.sqlite")).expect("removes");
    // Nothing but an empty file: still lost.
    fs::write(daemon.at("target.sqlite"), "").expect("writes");
    assert!(matches!(cutover::open(&plan).expect("opens"), Found::RerunAllowed(_)));
    let third = daemon.at("third");
    crate::common::write_store(&third, &small_store(3, 20));
    let other = Plan::builder("other")
        .source("third", &third, |s| s.every_keyspace())
        .target(daemon.at("target.sqlite"))
        .build()
        .expect("a plan");
    drop(cutover::sql(&other, &mut ()).expect("SQL"));
    let words = ["was live", "without its record", "another file stands there"];
    contradicted(daemon.path(), &plan, Contradiction::RecordGone, &words);
    // Nothing of it is this plan's, so nothing has to be dropped.
    let forget = cutover::ticket::ForgetRecord::losing_writes_made_in_sql();
    let found = cutover::forget_record(&plan, forget).expect("forgets");
    let Found::RerunAllowed(handle) = found else { panic!("{found:?}") };
    drop(handle.rerun(cutover::ticket::Rerun::losing_writes_made_in_sql()).expect("reruns"));
    // A rerun that is aborted beside the other plan's tables stays one that may be begun.
    drop(migrating_handle(&plan).abort().expect("aborts"));
    let found = cutover::open(&plan).expect("opens");
    let Found::RerunAllowed(handle) = found else { panic!("{found:?}") };
    drop(handle.restore_kv(cutover::ticket::RestoreKv::losing_writes_made_in_sql()).expect("KV"));
    drop(cutover::sql(&other, &mut ()).expect("SQL"));
    assert_eq!(read_table(&daemon.at("target.sqlite"), "third_first"), small_store(3, 20)["first"]);
}

/// The plan names another target, and the database that the markers name has lost its record: that the
/// whole of it is lost is not so.
#[test]
fn i1_a_database_elsewhere_that_lost_its_record_is_not_given_up_unseen() {
    let daemon = Daemon::live();
    daemon.sqlite("DROP TABLE cutover_record");
    let plan = crate::common::small_plan_builder(daemon.path())
        .target(daemon.at("new.sqlite"))
        .build()
        .expect("a plan");
    let words = ["target.sqlite was live", "without its record", "in the plan"];
    contradicted(daemon.path(), &plan, Contradiction::RecordGoneElsewhere, &words);
    let lost = cutover::ticket::ReplaceTarget::losing_the_database_for_good();
    let refused = cutover::replace_target(&plan, lost).expect_err("it is there");
    let Error::Contradiction(told) = refused else { panic!("{refused}") };
    assert_eq!(told.contradiction, Contradiction::RecordGoneElsewhere);
}
