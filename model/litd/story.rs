//! What an operator goes through, in order.

use super::{APPROVED, KV, Litd, SQLITE, STORES};
use super::{built, dumped, dumped_by_sql, litd, markers, refused, seed, sql_writes, started};
use crate::child::stock_fjall_writes;
use crate::common::{copy_tree, snapshot};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Demands that a start on kv is refused, and that the first store it names is this one.
fn refused_on_kv(folder: &Path, store: &str) {
    let said = refused(folder, &KV);
    let begin = format!("litd: {store} at {}: ", folder.join(store).display());
    assert!(said.starts_with(&begin) && said.contains("is in the SQL database"), "{said}");
}

fn old_build(folder: &Path) -> String {
    let mut command = Command::new(built("litd-old"));
    Litd::start(command.arg(folder).args(KV)).err().expect("the old build is refused")
}

fn remove_target(folder: &Path) {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let path = folder.join(format!("litd.sqlite{suffix}"));
        if path.exists() {
            fs::remove_file(path).expect("removes");
        }
    }
}

#[test]
fn i1_i5_a_daemon_moves_when_it_is_approved_and_never_starts_on_its_old_stores_again() {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = temporary.path();
    let before = seed(folder);

    let said = refused(folder, &SQLITE);
    assert!(said.contains("say --approve"), "{said}");
    assert_eq!(dumped(folder, &KV), before, "without a word nothing is moved");

    assert_eq!(dumped(folder, &APPROVED), before);
    assert_eq!(dumped_by_sql(folder), before);
    assert_eq!(dumped(folder, &SQLITE), before, "a word is needed once");
    refused_on_kv(folder, "accounts");

    let said = old_build(folder);
    for store in STORES {
        assert!(said.contains(&format!("{store}: ")), "{store} does not refuse: {said}");
    }
    assert_eq!(said.matches("NotADirectory").count(), STORES.len(), "{said}");

    let daemon = started(folder, &SQLITE);
    assert_eq!(daemon.ask(&["account late 1", "pay 1 1"]), ["ok 7", "ok 999"]);
    daemon.stop();
    remove_target(folder);
    let held = snapshot(folder);
    let said = refused(folder, &SQLITE);
    assert!(said.contains("the SQL database is gone") && said.contains("--approve"), "{said}");
    refused_on_kv(folder, "accounts");
    assert!(snapshot(folder) == held, "a refusal changes nothing");
    // What was written since is lost, as the ticket says.
    assert_eq!(dumped(folder, &APPROVED), before);
    assert_eq!(dumped_by_sql(folder), before);
}

#[test]
fn an_option_that_is_mistyped_is_refused_and_starts_nothing() {
    let temporary = tempfile::tempdir().expect("a folder");
    for backend in ["kv", "sqlite"] {
        for words in [&["--aprove"][..], &["--approve", "--approve"], &["--approve", "now"]] {
            let words = [&["--database-backend", backend][..], words].concat();
            let said = refused(temporary.path(), &words);
            let usage = "litd: --database-backend kv, or --database-backend sqlite [--approve]";
            assert!(said.starts_with(usage), "{words:?}: {said}");
        }
    }
    assert!(snapshot(temporary.path()).is_empty());
}

#[test]
fn i5_each_store_refuses_by_itself_when_the_markers_before_it_were_removed() {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = temporary.path();
    let before = seed(folder);
    assert_eq!(dumped(folder, &APPROVED), before);
    refused_on_kv(folder, "accounts");
    fs::remove_file(folder.join("accounts")).expect("removes a marker");
    refused_on_kv(folder, "sessions");
    fs::remove_file(folder.join("sessions")).expect("removes a marker");
    refused_on_kv(folder, "rules");
    for store in ["accounts", "sessions"] {
        assert!(!folder.join(store).exists(), "a refused start made {store}");
    }

    // A start on SQL puts them back.
    assert_eq!(dumped(folder, &SQLITE), before);
    refused_on_kv(folder, "accounts");
    assert_eq!(markers(folder), ["final"; 3]);
}

/// The physical limit: the name is free then, until a start puts the marker back.
#[test]
fn i1_an_old_build_that_got_in_behind_a_removed_marker_is_reported() {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = temporary.path();
    seed(folder);
    dumped(folder, &APPROVED);
    fs::remove_file(folder.join("accounts")).expect("removes a marker");
    let said = old_build(folder);
    assert!(said.contains("sessions: ") && said.contains("rules: "), "{said}");
    assert!(folder.join("accounts").is_dir(), "a stock open makes an empty store");
    for words in [KV.as_slice(), &SQLITE, &APPROVED] {
        let said = refused(folder, words);
        assert!(said.contains(&folder.join("accounts").display().to_string()), "{said}");
    }
}

/// Lightning-terminal's worst: the commit is done, one tombstone is not, and both sides are open.
#[test]
fn i1_i4_a_tombstone_that_fails_on_the_second_store_is_completed_at_the_next_start() {
    let temporary = tempfile::tempdir().expect("a folder");
    let whole = temporary.path().join("whole");
    fs::create_dir(&whole).expect("a folder");
    let before = seed(&whole);
    let folder = temporary.path().join("failing");
    copy_tree(&whole, &folder);

    let trace = temporary.path().join("trace");
    let mut traced = litd(&whole, &APPROVED);
    Litd::start(traced.env(cutover::fault::TRACE_ENVIRONMENT, &trace)).expect("it starts").stop();
    let trace = fs::read_to_string(trace)
        .expect("a trace; without one litd has no faults: cargo build --examples --all-features");
    let of_second = "step: Mark { source: 1, stage: Tombstone";
    let step = 1 + trace.lines().position(|line| line.contains(of_second)).expect("such a step");

    let mut failing = litd(&folder, &APPROVED);
    failing.env(cutover::fault::ENVIRONMENT, format!("fail:1@{step}"));
    let said = Litd::start(&mut failing).err().expect("it fails");
    assert!(said.contains("injected") && said.contains("nothing is lost"), "{said}");
    assert_eq!(markers(&folder), ["tombstone", "sealed", "tombstone"], "all are tried");
    let copy = temporary.path().join("copy");
    copy_tree(&folder, &copy);
    assert!(!sql_writes(&copy));
    assert!(STORES.iter().all(|store| !stock_fjall_writes(&copy.join(store))));
    refused_on_kv(&folder, "accounts");

    assert_eq!(dumped(&folder, &SQLITE), before, "without a word from anyone");
    assert_eq!(dumped_by_sql(&folder), before);
    assert_eq!(markers(&folder), ["final"; 3]);
}
