//! Steps at which a second look, or a sync, is all that stands between them and what another party
//! has done meanwhile. Each of these tests fails where that is left out.

use super::{StopAfter, THEIRS, folder, pairs, plan, read_table, swap};
use crate::protocol::marker::{Hints, Marker};
use crate::protocol::record::Record;
use crate::protocol::{RecordStage, Was};
use crate::{Cause, Error, Found, Handle, Migrating, Plan, fault, ticket};
use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

fn begun(plan: &Plan) -> Handle<Migrating> {
    match crate::open(plan).expect("opens") {
        Found::Fresh(handle) => handle.begin().expect("begins"),
        Found::Migrating(handle) => handle,
        other => panic!("{other:?}"),
    }
}

/// Has somebody else act once, at the first instant of the name `then` after one whose name begins with
/// `step`; the step itself, where they are the same. Says afterwards whether it came to that.
fn when(step: &'static str, then: &'static str, act: impl Fn() + 'static) -> Rc<Cell<bool>> {
    let done = Rc::new(Cell::new(false));
    let (mut seen, told) = (false, Rc::clone(&done));
    fault::arm_act(move |name| {
        let is_it = (step == then || seen) && name.starts_with(then);
        seen |= name.starts_with(step);
        if is_it && !told.replace(true) {
            act();
        }
    });
    done
}

fn changed<T>(result: Result<T, Error>, done: &Cell<bool>, at: &Path) {
    fault::arm(None);
    assert!(done.get(), "nobody acted");
    match result.map(drop) {
        Err(
            Error::Refused(Cause::ChangedUnderneath(path))
            | Error::Interrupted { cause: Cause::ChangedUnderneath(path), .. },
        ) => {
            assert_eq!(path, at);
        }
        other => panic!("{other:?}"),
    }
}

fn stage(folder: &Path) -> String {
    let connection = rusqlite::Connection::open(folder.join("t.sqlite")).expect("opens");
    let stage = "SELECT stage FROM cutover_record";
    connection.query_one(stage, [], |row| row.get(0)).expect("a record")
}

/// A marker that is gone, and one of another stage.
#[test]
fn i1_the_target_does_not_go_live_beside_a_tombstone_that_has_changed_since_the_look() {
    for removed in [true, false] {
        let root = folder();
        let plan = plan(root.path());
        let handle = begun(&plan).run(&mut ()).expect("runs");
        let (path, aside) = (root.path().join("b"), root.path().join("aside"));
        // The marker as it was before it was a tombstone.
        fs::copy(&path, &aside).expect("copies");
        let at = path.clone();
        let done = when("GoLive", "GoLive", move || {
            if removed {
                fs::remove_file(&path).expect("removes");
            } else {
                fs::copy(&aside, &path).expect("copies");
            }
        });
        changed(handle.finish().map_err(|failed| failed.error), &done, &at);
        assert_eq!(stage(root.path()), "committed");
    }
}

/// fjall's lock is held from preflight on, so that nobody writes a store before it is sealed; and no longer
/// than the migration that has just begun.
#[test]
fn i4_a_daemon_that_aborts_what_it_has_begun_opens_its_stores_in_the_same_process() {
    let root = folder();
    let plan = plan(root.path());
    let aborted = begun(&plan).abort().expect("aborts");
    let crate::Aborted::Fresh(fresh) = aborted else { panic!("{aborted:?}") };
    drop(fresh.into_kv().expect("the stores are open again"));
}

fn marker(folder: &Path, source: &str) -> Marker {
    let bytes = fs::read(folder.join(source)).expect("a marker");
    Marker::decode(&bytes).expect("a marker")
}

/// As it was when it was sealed, a missing one among stores; and its time says since when it has its stage.
#[test]
fn a_tombstone_that_is_put_back_says_of_its_source_what_the_first_one_said() {
    let root = folder();
    let plan = plan(root.path());
    let handle = begun(&plan);
    let sealed = |source: &str| {
        let marker = marker(root.path(), source);
        humantime::parse_rfc3339(&marker.time).expect("a time");
        (marker.was, marker.version)
    };
    let store = (Was::Directory, Some(b"FJL\x03".to_vec()));
    let expected = [store.clone(), store, (Was::Nothing, None)];
    let sources = ["a", "b", "c"];
    assert_eq!(sources.map(sealed), expected);
    let old = Marker { time: "2020-01-01T00:00:00Z".to_owned(), ..marker(root.path(), "b") };
    let hints = Hints { go_on: "go on".to_owned(), go_back: "go back".to_owned() };
    fs::write(root.path().join("b"), old.encode(&hints).expect("encodes")).expect("writes");
    drop(handle);
    drop(crate::sql(&plan, &mut ()).expect("SQL"));
    for source in sources {
        assert!(!marker(root.path(), source).time.starts_with("2020"), "{source}");
        fs::remove_file(root.path().join(source)).expect("removes");
        drop(crate::sql(&plan, &mut ()).expect("it is put back"));
    }
    assert_eq!(sources.map(sealed), expected);
}

/// Only a source that may be missing is taken for one that has nothing.
#[test]
fn i3_a_store_that_was_moved_away_under_the_seal_is_not_sealed_as_missing() {
    let root = folder();
    let Found::Fresh(handle) = crate::open(&plan(root.path())).expect("opens") else { panic!() };
    let (path, aside) = (root.path().join("b"), root.path().join("aside"));
    let (from, to) = (path.clone(), aside.clone());
    let done = when("Seal { source: 1", "Seal { source: 1", move || {
        fs::rename(&from, &to).expect("moves");
    });
    let failed = handle.begin().expect_err("a store is gone").error;
    fault::arm(None);
    assert!(done.get());
    let Error::Refused(Cause::SourceMissing { path: missing, .. }) = &failed else {
        panic!("{failed:?}")
    };
    assert_eq!(*missing, path);
    // What was sealed before it is given back.
    assert!(root.path().join("a").is_dir());
    assert!(!path.exists() && aside.is_dir());
}

/// Another store is put in the place of the one that preflight has looked at.
#[test]
fn i3_i8_a_store_that_was_swapped_under_the_seal_keeps_its_name() {
    let root = folder();
    let path = root.path().join("a");
    let Found::Fresh(handle) = crate::open(&plan(root.path())).expect("opens") else { panic!() };
    let at = path.clone();
    // After the marker at the retired name, and before the exchange.
    let seen = Rc::new(Cell::new(0));
    let done = Rc::new(Cell::new(false));
    let told = Rc::clone(&done);
    fault::arm_act(move |name| match (seen.get(), name) {
        (0, name) if name.starts_with("Seal") => seen.set(1),
        (1, "renamed") => seen.set(2),
        (2, "folder synced") => {
            seen.set(3);
            swap(&path);
            told.set(true);
        }
        _ => {}
    });
    changed(handle.begin().map_err(|failed| failed.error), &done, &at);
    assert_eq!(fs::read(at.join("theirs")).expect("their store stands where they put it"), THEIRS);
}

#[test]
fn i3_i8_a_store_that_was_swapped_under_the_unseal_is_not_given_back() {
    let root = folder();
    let plan = plan(root.path());
    let handle = begun(&plan);
    let (path, retired) = (root.path().join("b"), root.path().join("b.retired"));
    let theirs = retired.clone();
    let done = when("Unseal { source: 1", "Unseal { source: 1", move || swap(&retired));
    changed(handle.abort().map_err(|failed| failed.error), &done, &path);
    assert!(path.is_file(), "the marker stands");
    assert_eq!(fs::read(theirs.join("theirs")).expect("theirs"), THEIRS);
}

#[test]
fn i3_i8_a_store_that_was_swapped_under_the_reclaim_is_not_deleted() {
    let root = folder();
    let plan = plan(root.path());
    drop(crate::sql(&plan, &mut ()).expect("SQL"));
    let Found::Tombstoned(handle) = crate::open(&plan).expect("opens") else { panic!() };
    let retired = root.path().join("a.retired");
    let at = retired.clone();
    let done = when("DeleteRetired(0)", "DeleteRetired(0)", move || swap(&retired));
    let ticket = ticket::Reclaim::losing_the_way_back();
    changed(handle.reclaim(ticket).map_err(|failed| failed.error), &done, &at);
    assert_eq!(fs::read(at.join("theirs")).expect("theirs"), THEIRS);
}

/// A file of somebody's own comes to the retired name between the look and the marker.
#[test]
fn i8_what_comes_to_the_retired_name_under_the_seal_is_not_replaced() {
    let root = folder();
    let Found::Fresh(handle) = crate::open(&plan(root.path())).expect("opens") else { panic!() };
    let retired = root.path().join("a.retired");
    let theirs = retired.clone();
    let done = when("Seal", "file synced", move || fs::write(&retired, THEIRS).expect("writes"));
    handle.begin().expect_err("something is in the way");
    fault::arm(None);
    assert!(done.get());
    assert_eq!(fs::read(&theirs).expect("it is there"), THEIRS);
    assert!(root.path().join("a").is_dir());
}

/// What an earlier process has prepared may be in the page cache alone.
#[test]
fn i1_a_tombstone_that_lies_ready_is_synced_before_it_gets_its_name() {
    let root = folder();
    let handle = begun(&plan(root.path())).run(&mut ()).expect("runs");
    fault::arm(None);
    handle.finish().expect("finishes");
    let instants = fault::instants();
    let sets = |name: &String| name.starts_with("Mark") && name.contains("Tombstone");
    let tombstones: Vec<usize> =
        (0..instants.len()).filter(|at| instants.get(*at).is_some_and(sets)).collect();
    assert_eq!(tombstones.len(), 3);
    for at in tombstones {
        let then = instants.get(at + 1..at + 4).expect("what it does");
        assert_eq!(then, ["file synced", "renamed", "folder synced"], "{instants:?}");
    }
}

/// What is read on after the last key is not compared with anything by the verification: both would
/// lack it.
#[test]
fn i2_a_copy_that_stops_behind_every_single_pair_goes_on_with_the_very_next_key() {
    let root = folder();
    let plan = plan(root.path());
    let mut stops = 0;
    let handle = loop {
        match begun(&plan).run(&mut StopAfter(1)) {
            Ok(committed) => break committed,
            Err(failed) => drop(failed),
        }
        stops += 1;
    };
    // It stops before each chunk but the first, and before what comes after the copy.
    assert!(stops >= 12, "{stops}");
    drop(handle.finish().expect("finishes"));
    for (of, source) in (1..).zip(super::SOURCES) {
        assert_eq!(read_table(root.path(), source), Some(pairs(of)), "{source}");
    }
}

/// The instants of the first step whose name begins so, but for its own.
fn of_step(instants: &[String], step: &str) -> Vec<String> {
    let steps = |name: &String| name.starts_with(|first: char| first.is_ascii_uppercase());
    let behind = instants.iter().skip_while(|name| !name.starts_with(step)).skip(1);
    behind.take_while(|name| !steps(name)).cloned().collect()
}

/// After a kill the page cache shows what a power cut would take back.
#[test]
fn i1_what_a_start_finds_is_synced_before_it_is_acted_upon() {
    let root = folder();
    let plan = plan(root.path());
    fault::arm(None);
    drop(begun(&plan).run(&mut StopAfter(2)).expect_err("it was cancelled"));
    // The folders above all of it are in the first claim.
    let claim = of_step(&fault::instants(), "Claim");
    assert_eq!(claim.first().map(String::as_str), Some("folder synced"), "{claim:?}");
    fault::arm(None);
    drop(begun(&plan).abort().expect("aborts"));
    let instants = fault::instants();
    fault::arm(None);
    let store = ["file synced", "folder synced", "folder synced"];
    let (missing, claim) = (["file synced", "folder synced"], ["file synced", "folder synced"]);
    let target = ["before a commit", "after a commit", "folder synced"];
    let expected = [&store[..], &store, &missing, &claim, &target].concat();
    assert_eq!(of_step(&instants, "Confirm { record: true }"), expected, "{instants:?}");
    assert_eq!(of_step(&instants, "Unclaim"), ["removed", "folder synced"]);
}

#[test]
fn i8_a_database_that_comes_to_the_target_while_ours_is_made_stays_and_ours_leaves_nothing() {
    let root = folder();
    let plan = plan(root.path());
    let handle = begun(&plan);
    let target = root.path().join("t.sqlite");
    let theirs = target.clone();
    let done = when("BeginCopy", "after a commit", move || {
        fs::write(&theirs, THEIRS).expect("writes");
    });
    changed(handle.run(&mut ()).map_err(|failed| failed.error), &done, &target);
    assert_eq!(fs::read(target).expect("theirs"), THEIRS);
    let names = fs::read_dir(root.path()).expect("lists").map(|entry| entry.expect("an entry"));
    let names = names.map(|entry| entry.file_name().into_string().expect("UTF-8"));
    let left: Vec<String> = names.filter(|name| name.contains(".cutover-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Another cutover that begins too may hold names that this one takes for left over.
#[test]
fn a_beginning_that_has_only_tidied_up_is_refused_and_has_not_stopped_part_way() {
    let root = folder();
    let Found::Fresh(handle) = crate::open(&plan(root.path())).expect("opens") else { panic!() };
    let (probe, claim) =
        (root.path().join("a.cutover-probe"), root.path().join("t.sqlite.cutover"));
    let (at, tidied) = (claim.clone(), Rc::new(Cell::new(false)));
    let told = Rc::clone(&tidied);
    fault::arm_act(move |name| {
        if name.starts_with("Confirm") {
            fs::write(&probe, b"").expect("writes");
        } else if name.starts_with("Tidy") {
            told.set(true);
        } else if name.starts_with("Claim") {
            fs::write(&claim, THEIRS).expect("writes");
        }
    });
    let failed = handle.begin().expect_err("another one has claimed the target");
    fault::arm(None);
    assert!(tidied.get());
    let Error::Refused(Cause::ChangedUnderneath(path)) = failed.error else { panic!("{failed:?}") };
    assert_eq!(path, at);
    assert!(failed.handle.is_some(), "nothing was changed, so it may be tried again");
}

/// A marker that a kill has left there is removed, and nothing else.
#[test]
fn i8_what_comes_to_the_retired_name_under_a_tidying_stays() {
    let root = folder();
    let Found::Fresh(handle) = crate::open(&plan(root.path())).expect("opens") else { panic!() };
    let (probe, retired) = (root.path().join("a.cutover-probe"), root.path().join("a.retired"));
    let (at, tidied) = (retired.clone(), Rc::new(Cell::new(false)));
    let told = Rc::clone(&tidied);
    fault::arm_act(move |name| {
        if name.starts_with("Confirm") {
            fs::write(&probe, b"").expect("writes");
        } else if name == "Tidy(0)" && !told.replace(true) {
            fs::write(&retired, THEIRS).expect("writes");
        }
    });
    handle.begin().expect_err("something is in the way");
    fault::arm(None);
    assert!(tidied.get());
    assert_eq!(fs::read(at).expect("it is there"), THEIRS);
}

/// The verification compares rows with what was read, so it can't see what was passed over: the keys
/// are counted by a walk of its own.
#[test]
fn i2_a_copy_that_goes_on_behind_a_wrong_key_is_found_out_before_its_keyspace_is_done() {
    let root = folder();
    let plan = plan(root.path());
    drop(begun(&plan).run(&mut StopAfter(2)).expect_err("it was cancelled"));
    let connection = rusqlite::Connection::open(root.path().join("t.sqlite")).expect("opens");
    let body = "SELECT body FROM cutover_record";
    let body: String = connection.query_one(body, [], |row| row.get(0)).expect("a record");
    let mut record = Record::decode(body.as_bytes()).expect("a record");
    let keyspace = record.keyspaces.first_mut().expect("a keyspace");
    assert_eq!(keyspace.cursor.as_deref(), Some(&[1, 0][..]));
    // The very next key.
    keyspace.cursor = Some(vec![1, 0, 0]);
    let body = record.encode().expect("encodes");
    let update = "UPDATE cutover_record SET body = ?1";
    assert_eq!(connection.execute(update, [body]), Ok(1));
    drop(connection);
    for _ in 0..2 {
        let failed = begun(&plan).run(&mut ()).expect_err("a pair was passed over");
        let Error::Verification(mismatch) = failed.error else { panic!("{failed:?}") };
        assert_eq!((mismatch.expected_pairs, mismatch.found_pairs), (6, 5), "{mismatch}");
    }
    drop(begun(&plan).abort().expect("aborts"));
    drop(crate::sql(&plan, &mut ()).expect("a copy from the beginning"));
    assert_eq!(read_table(root.path(), "a"), Some(pairs(1)));
}

/// Whether a chunk is written beside a record that somebody has changed since the last one.
fn goes_on_beside(statement: &'static str) -> bool {
    let root = folder();
    let plan = plan(root.path());
    let handle = begun(&plan);
    let target: PathBuf = root.path().join("t.sqlite");
    let done = when("Copy", "after a commit", move || {
        let connection = rusqlite::Connection::open(&target).expect("opens");
        assert_eq!(connection.execute(statement, []), Ok(1), "{statement}");
    });
    let result = handle.run(&mut ());
    fault::arm(None);
    assert!(done.get(), "nobody acted");
    match result {
        Ok(_) => true,
        Err(failed) => {
            let text = failed.error.to_string();
            assert!(text.contains("record"), "{text}");
            false
        }
    }
}

#[test]
fn i6_a_chunk_is_not_written_beside_a_record_that_has_changed_since_the_last() {
    for statement in [
        "UPDATE cutover_record SET attempt = attempt + 1",
        "UPDATE cutover_record SET body = body || ' '",
        "UPDATE cutover_record SET id = '00000000000000000000000000000000'",
        "UPDATE cutover_record SET stage = 'live'",
        "DELETE FROM cutover_record",
    ] {
        assert!(!goes_on_beside(statement), "{statement}");
    }
}

/// Writes the record anew, as another cutover does.
fn rewrite(target: &Path, change: fn(&mut Record)) -> String {
    let connection = rusqlite::Connection::open(target).expect("opens");
    let body = "SELECT body FROM cutover_record";
    let body: String = connection.query_one(body, [], |row| row.get(0)).expect("a record");
    let mut record = Record::decode(body.as_bytes()).expect("a record");
    change(&mut record);
    let body = record.encode().expect("encodes");
    let update = "UPDATE cutover_record SET attempt = ?1, stage = ?2, body = ?3";
    let row = (record.attempt, record.stage.word(), &body);
    assert_eq!(connection.execute(update, row), Ok(1));
    body
}

fn next_attempt(record: &mut Record) {
    record.attempt += 1;
}

fn committed(record: &mut Record) {
    record.stage = RecordStage::Committed;
    record.times.committed = Some("2026-01-01T00:00:00Z".to_owned());
}

fn live(record: &mut Record) {
    committed(record);
    record.stage = RecordStage::Live;
    record.times.live = Some("2026-01-01T00:00:00Z".to_owned());
}

/// The record is whole, and is another run's, or of another stage than when the step was chosen. A live
/// one holds what the daemon has written since.
#[test]
fn i1_i6_no_step_is_taken_upon_a_record_that_another_has_written_since_the_look() {
    type Act = fn(&Plan) -> Result<(), Error>;
    type Change = fn(&mut Record);
    let run: Act = |plan| begun(plan).run(&mut ()).map(drop).map_err(|failed| failed.error);
    let finish: Act = |plan| match begun(plan).run(&mut ()) {
        Ok(handle) => handle.finish().map(drop).map_err(|failed| failed.error),
        Err(failed) => Err(failed.error),
    };
    let abort: Act = |plan| {
        let handle = begun(plan).run(&mut ()).expect("runs");
        let ticket = ticket::AbortCommitted::losing_the_committed_copy();
        handle.abort(ticket).map(drop).map_err(|failed| failed.error)
    };
    let cases: [(&str, Act, Change); 7] = [
        ("Copy", run, next_attempt),
        ("Commit", run, next_attempt),
        ("Commit", run, committed),
        ("GoLive", finish, next_attempt),
        ("GoLive", finish, live),
        ("DropRecord", abort, next_attempt),
        ("DropRecord", abort, live),
    ];
    for (step, act, change) in cases {
        // The file is the migration's own, or was there before.
        for is_there in [false, true] {
            let root = folder();
            let target = root.path().join("t.sqlite");
            if is_there {
                let connection = rusqlite::Connection::open(&target).expect("opens");
                connection.execute_batch("CREATE TABLE theirs (x)").expect("creates");
            }
            let left = Rc::new(RefCell::new(String::new()));
            let (at, body) = (target.clone(), Rc::clone(&left));
            let done = when(step, step, move || *body.borrow_mut() = rewrite(&at, change));
            let refused = act(&plan(root.path())).expect_err(step);
            fault::arm(None);
            assert!(done.get(), "{step}: nobody acted");
            let text = refused.to_string();
            assert!(text.contains("record"), "{step}: {text}");
            let connection = rusqlite::Connection::open(&target).expect("opens");
            let body = "SELECT body FROM cutover_record";
            let body: String = connection.query_one(body, [], |row| row.get(0)).expect("it stands");
            assert_eq!(body, *left.borrow(), "{step}");
            assert!(read_table(root.path(), "a").is_some(), "{step}");
        }
    }
}

/// What an abort was killed over is removed by its record alone: another file of that name stays.
#[test]
fn i8_what_stands_where_an_abort_moves_its_database_is_removed_by_its_record_alone() {
    let root = folder();
    let plan = plan(root.path());
    drop(begun(&plan).prepare(&mut ()).expect("prepares"));
    let target = root.path().join("t.sqlite");
    let id: String = rusqlite::Connection::open(&target)
        .and_then(|sql| sql.query_row("SELECT id FROM cutover_record", [], |row| row.get(0)))
        .expect("an id");
    let given_up = root.path().join(format!("t.sqlite.cutover~{id}"));
    let abort = || match crate::open(&plan).expect("it opens") {
        Found::Migrating(handle) => handle.abort().map(drop).map_err(|failed| failed.error),
        other => panic!("{other:?}"),
    };
    fs::write(&given_up, THEIRS).expect("writes");
    let refused = abort().expect_err("something stands there").to_string();
    assert!(refused.contains(&format!("cutover~{id}")), "{refused}");
    assert_eq!(fs::read(&given_up).expect("theirs"), THEIRS);
    // As a kill between the rename and the deletion leaves it.
    fs::rename(&target, &given_up).expect("renames");
    abort().expect("aborts");
    assert!(!given_up.exists() && !target.exists());
}

/// Another database is put in the place of the one that an abort has found to be the migration's own.
#[test]
fn i8_a_database_that_was_swapped_under_an_abort_is_not_deleted() {
    let root = folder();
    let plan = plan(root.path());
    let handle = begun(&plan).prepare(&mut ()).expect("prepares");
    let (path, aside) = (root.path().join("t.sqlite"), root.path().join("aside.sqlite"));
    let at = path.clone();
    let done = when("DropRecord", "target found ours", move || {
        fs::rename(&path, &aside).expect("renames");
        fs::write(&path, THEIRS).expect("writes");
    });
    changed(handle.abort().map_err(|failed| failed.error), &done, &at);
    assert_eq!(fs::read(&at).expect("theirs"), THEIRS);
}
