//! Retired stores that are not what was sealed: a part of one must never pass for all of it.

use super::*;
use crate::common::{SOURCES, copy_tree_anew, read_store, small_plan_with};
use crate::daemon::put;
use cutover::{Blobs, Compared, ticket};

/// What is done to the retired store of the sessions, and how it is told.
type Ruin = (fn(&Path), &'static str);

fn only_journal(store: &Path) -> PathBuf {
    let entries = fs::read_dir(store).expect("lists").map(|entry| entry.expect("lists").path());
    let mut journals = entries.filter(|path| path.extension().is_some_and(|end| end == "jnl"));
    journals.next().expect("a journal")
}

/// All that was found by reading what fjall makes anew, deletes, cuts or passes over when it opens.
const RUINS: [Ruin; 9] = [
    // A volume that was mounted there, and is not after a reboot.
    (
        |store| {
            fs::remove_dir_all(store.join("keyspaces")).expect("removes");
            fs::create_dir(store.join("keyspaces")).expect("creates");
        },
        "keyspaces/0/current is gone",
    ),
    (|store| fs::remove_file(only_journal(store)).expect("removes"), ".jnl is gone"),
    (
        |store| {
            let journal = fs::File::options().write(true).open(only_journal(store)).expect("opens");
            let length = journal.metadata().expect("looks").len();
            journal.set_len(length / 2).expect("cuts");
        },
        ".jnl has ",
    ),
    // A copy that took every byte for a hole.
    (
        |store| {
            let journal = fs::File::options().write(true).open(only_journal(store)).expect("opens");
            let length = journal.metadata().expect("looks").len();
            journal.set_len(0).and_then(|()| journal.set_len(length)).expect("cuts");
        },
        "its journals hold something else",
    ),
    (
        |store| fs::remove_file(store.join("keyspaces/1/current")).expect("removes"),
        "keyspaces/1/current of keyspace '",
    ),
    (
        |store| {
            fs::rename(store.join("keyspaces/2"), store.join("keyspaces/9")).expect("renames");
        },
        "keyspaces/2/current of keyspace '",
    ),
    (
        |store| {
            let table = store.join("keyspaces/3/tables/0");
            fs::remove_file(&table).expect("it has a table");
        },
        "keyspaces/3/tables/0 of keyspace 'third' is gone",
    ),
    (
        |store| fs::write(store.join("keyspaces/1/tables/77"), "more").expect("writes"),
        "keyspaces/1/tables/77 was not there",
    ),
    // Another store in its place.
    (
        |store| {
            for entry in fs::read_dir(store).expect("lists") {
                let path = entry.expect("lists").path();
                if path.is_dir() {
                    fs::remove_dir_all(path).expect("removes");
                } else {
                    fs::remove_file(path).expect("removes");
                }
            }
            put(&store.with_file_name("accounts.retired"), store);
        },
        "keyspaces/3/current of keyspace 'third' is gone",
    ),
];

/// The small daemon, and a keyspace whose pairs are in a table.
fn with_a_table() -> Daemon {
    let daemon = Daemon::fresh();
    let database = fjall::Database::builder(daemon.at("sessions")).open().expect("opens");
    let third = database.keyspace("third", fjall::KeyspaceCreateOptions::default).expect("made");
    let mut ingestion = third.start_ingestion().expect("begins");
    (0..50_u8).for_each(|key| ingestion.write([key], [key; 9]).expect("writes"));
    ingestion.finish().expect("ends");
    drop((third, database));
    settle(daemon.path());
    daemon
}

/// What is told of the sessions' store, whether or not a step was done before.
fn changed(error: &Error, words: &str) {
    let cause = match error {
        Error::Refused(cause) | Error::Interrupted { cause, .. } => cause,
        other => panic!("{other:?}"),
    };
    assert!(matches!(cause, Cause::RetiredChanged { name, .. } if name == "sessions"), "{error:?}");
    says(error, &["the retired store of source 'sessions' at", words, "put it back as it was"]);
}

/// 50 pairs were on a volume that was not mounted any more: none were copied, and it was done.
#[test]
fn i2_a_first_copy_from_a_store_that_is_not_what_was_sealed_is_refused_and_can_go_back() {
    for (ruin, words) in RUINS {
        let daemon = with_a_table();
        fresh_handle(&daemon.plan()).begin().expect("begins");
        let kept = daemon.keep("sessions.retired");
        ruin(&daemon.at("sessions.retired"));
        let ruined = snapshot(&daemon.at("sessions.retired"));
        changed(&cutover::sql(&daemon.plan(), &mut ()).expect_err("it is refused"), words);
        assert_eq!(snapshot(&daemon.at("sessions.retired")), ruined, "it is left alone");
        assert!(!daemon.at("target.sqlite").exists());
        // Put back, it is copied.
        fs::remove_dir_all(daemon.at("sessions.retired")).expect("removes");
        kept.put_back(&daemon.at("sessions.retired"));
        drop(cutover::sql(&daemon.plan(), &mut ()).expect("it is all there"));
        assert_eq!(
            crate::common::read_table(&daemon.at("target.sqlite"), "sessions_third").len(),
            50
        );

        // The way back needs nothing of it.
        let daemon = with_a_table();
        fresh_handle(&daemon.plan()).begin().expect("begins");
        ruin(&daemon.at("sessions.retired"));
        let ruined = snapshot(&daemon.at("sessions.retired"));
        migrating_handle(&daemon.plan()).abort().expect("goes back");
        assert_eq!(snapshot(&daemon.at("sessions")).len(), ruined.len());
        assert!(daemon.at("accounts/version").is_file());
    }
}

#[test]
fn i2_the_copy_of_the_session_that_sealed_it_compares_it_too() {
    let daemon = with_a_table();
    let migrating = fresh_handle(&daemon.plan()).begin().expect("begins");
    RUINS[6].0(&daemon.at("sessions.retired"));
    let failed = migrating.run(&mut ()).expect_err("it is refused");
    changed(&failed.error, RUINS[6].1);
}

#[test]
fn i2_a_rerun_from_a_store_that_is_not_what_was_sealed_changes_nothing_and_restore_kv_works() {
    for (ruin, words) in RUINS {
        let daemon = with_a_table();
        drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
        fs::remove_file(daemon.at("target.sqlite")).expect("removes");
        ruin(&daemon.at("sessions.retired"));
        let before = snapshot(daemon.path());
        let Found::RerunAllowed(handle) = cutover::open(&daemon.plan()).expect("opens") else {
            panic!("no rerun")
        };
        let failed = handle.rerun(ticket::Rerun::losing_writes_made_in_sql()).expect_err("refused");
        changed(&failed.error, words);
        assert_eq!(changes(&before, &snapshot(daemon.path())), Vec::<String>::new());
        let handle = failed.handle.expect("nothing has changed");
        handle.restore_kv(ticket::RestoreKv::losing_writes_made_in_sql()).expect("gives it back");
        assert!(!read_store(&daemon.at("accounts")).is_empty());
    }
}

#[test]
fn i2_a_verification_says_of_a_store_that_is_not_what_was_sealed_what_is_missing() {
    let daemon = with_a_table();
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
    RUINS[1].0(&daemon.at("sessions.retired"));
    let Found::Tombstoned(mut handle) = cutover::open(&daemon.plan()).expect("opens") else {
        panic!("not live")
    };
    let verified = handle.verify(&mut ()).expect("it tells");
    for keyspace in &verified.keyspaces {
        match (keyspace.source.as_str(), &keyspace.store) {
            ("accounts", Compared::Same) => {}
            ("sessions", Compared::Differs { how }) => assert!(how.contains(RUINS[1].1)),
            other => panic!("{other:?}"),
        }
    }
}

/// fjall clears such a keyspace at each opening anew, writes a new version file, and deletes tables at
/// the one after it.
#[test]
fn a_store_whose_journal_clears_a_keyspace_is_what_was_sealed_after_every_opening() {
    let daemon = with_a_table();
    let database = fjall::Database::builder(daemon.at("sessions")).open().expect("opens");
    // A kill between the journal and the keyspace's own files: opening the store clears it.
    let (keyspaces, before) = (daemon.at("sessions/keyspaces"), daemon.at("before"));
    copy_tree_anew(&keyspaces, &before);
    let third = database.keyspace("third", fjall::KeyspaceCreateOptions::default).expect("there");
    third.clear().expect("clears");
    third.insert("after", "it").expect("inserts");
    database.persist(fjall::PersistMode::SyncAll).expect("persists");
    drop((third, database));
    fs::remove_dir_all(&keyspaces).expect("removes");
    fs::rename(&before, &keyspaces).expect("renames");
    fresh_handle(&daemon.plan()).begin().expect("begins");
    for _ in 0..3 {
        // Each opens the retired stores anew.
        let mut observer = crate::daemon::StopAfter { chunks: 1 };
        drop(migrating_handle(&daemon.plan()).run(&mut observer).expect_err("stops"));
    }
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
    crate::daemon::verify(&daemon.plan()).expect("verifies");
    assert_eq!(crate::common::read_table(&daemon.at("target.sqlite"), "sessions_third").len(), 1);
}

/// All keyspaces of the source would be looked for in another one.
#[test]
fn a_keyspace_that_the_plan_still_maps_is_verified_beside_one_that_it_does_not() {
    let daemon = Daemon::fresh();
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
    let plan = small_plan_with(&SOURCES, daemon.path(), |name, source| {
        source.table("second", Blobs::new(format!("{name}_second")))
    });
    let verified = crate::daemon::verify(&plan.build().expect("a plan")).expect_err("not all");
    for keyspace in verified.keyspaces {
        if keyspace.keyspace == "second" {
            assert_eq!(keyspace.target, Compared::Same, "{keyspace:?}");
            continue;
        }
        let Compared::Unread { reason } = &keyspace.target else { panic!("{keyspace:?}") };
        assert!(reason.contains(&format!("'{}'", keyspace.keyspace)), "{reason}");
    }
}
