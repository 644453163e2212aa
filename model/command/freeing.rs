//! What may be nowhere else: a store on a volume that is not mounted, one that can't be compared with
//! anything, and one whose table is gone. None is freed, or copied from, unasked.

use super::advice::offers_what_works;
use super::{Daemon, code, cutover, said, unchanged};
use crate::child;
use crate::common::{SOURCES, copy_tree, copy_tree_anew, small_plan, snapshot};
use crate::daemon::sqlite;
use crate::refusals::Mount;
use cutover::{Error, Found, Plan, open, ticket};
use std::fs;
use std::path::Path;

/// Frees the small daemon's stores in a process that may be killed.
pub fn reclaim(folder: &Path) {
    cutover::fault::arm_from_environment();
    let Found::Tombstoned(handle) = open(&small_plan(folder)).expect("opens") else {
        panic!("not live")
    };
    drop(handle.reclaim(ticket::Reclaim::losing_the_way_back()).expect("reclaims"));
}

/// Demands that the library's plain ticket frees nothing, and gives the handle back.
fn plain_ticket_frees_nothing(plan: &Plan, why: &str) {
    let Found::Tombstoned(handle) = open(plan).expect("opens") else { panic!("not live") };
    let failed = handle.reclaim(ticket::Reclaim::losing_the_way_back()).expect_err("refused");
    assert!(matches!(failed.error, Error::NeedsApproval { .. }), "{}", failed.error);
    assert!(failed.error.to_string().contains(why), "{}", failed.error);
    let mut handle = failed.handle.expect("nothing was changed");
    handle.check().expect_err("refused");
}

/// It freed the other store, put a marker that says 'reclaimed' into the empty mount point, and ended with 0.
#[test]
fn i8_reclaim_frees_nothing_while_the_volume_of_a_store_and_its_marker_is_not_mounted() {
    let daemon = Daemon::opened_once();
    let (volume, disk) = (daemon.path("volume"), daemon.path("disk"));
    fs::create_dir(&volume).expect("a folder");
    fs::create_dir(&disk).expect("a folder");
    fs::rename(daemon.path("accounts"), disk.join("accounts")).expect("moves");
    let sources = [volume.join("accounts"), daemon.path("sessions")];
    let run = |verb: &str, more: &[&str], expected: i32| {
        let named = SOURCES.iter().zip(&sources).map(|(n, p)| format!("{n}={}", p.display()));
        let named: Vec<String> = named.collect();
        let target = daemon.target().display().to_string();
        let mut words = vec![verb, "--name", "small", "--target", &target];
        words.extend(named.iter().flat_map(|named| ["--source", named]));
        words.extend(more);
        let output = cutover(&words);
        assert_eq!(code(&output), expected, "{verb} {more:?}: {}", said(&output));
        said(&output)
    };
    let mount = Mount::bind(&disk, &volume);
    run("migrate", &["--yes"], 0);
    drop(mount);
    let is_told = |what: &str| {
        let status = run("status", &[], 0);
        for words in [what, "mount the volume", "can:   cutover reclaim --even-if-changed"] {
            assert!(status.contains(words), "no '{words}': {status}");
        }
        assert!(!status.contains("can:   cutover reclaim  "), "{status}");
        let before = snapshot(&daemon.folder);
        for yes in [&["--yes"][..], &[]] {
            let refused = run("reclaim", yes, 5);
            assert!(refused.contains("accounts.retired: it is gone"), "{refused}");
        }
        unchanged(&daemon.folder, &before);
    };
    is_told("and its retired store too, so a program");
    let plan = SOURCES.iter().zip(&sources);
    let plan = plan.fold(Plan::builder("small").target(daemon.target()), |plan, (name, path)| {
        plan.source(*name, path, cutover::SourceBuilder::every_keyspace)
    });
    let plan = plan.build().expect("a plan");
    plain_ticket_frees_nothing(&plan, "their volume may not be mounted");

    // The empty mount point gets its marker, which keeps a stock opener out, and that is told.
    let migrated = run("migrate", &["--yes"], 0);
    assert!(migrated.contains("the retired store of source 'accounts' is gone"), "{migrated}");
    assert!(volume.join("accounts").is_file());
    is_told("the retired store of source 'accounts' is gone from");

    let mount = Mount::bind(&disk, &volume);
    assert!(!run("status", &[], 0).contains("what:"));
    run("reclaim", &["--yes"], 0);
    assert!(!volume.join("accounts.retired").exists());
    assert!(!daemon.path("sessions.retired").exists());
    run("verify", &[], 0);
    drop(mount);
}

/// A whole keyspace was gone: `reclaim` deleted the rest, and `rerun` said that it was done.
#[test]
fn i2_a_store_whose_marker_was_put_back_is_neither_freed_nor_copied_from_unasked() {
    let daemon = Daemon::live();
    let kept = daemon.folder.with_file_name("kept");
    copy_tree(&daemon.folder, &kept);
    fs::remove_file(daemon.path("accounts")).expect("removes");
    let refused = |verb: &str, more: &[&str]| {
        let before = snapshot(&daemon.folder);
        let words = said(&daemon.ends(verb, &[&["--yes"], more].concat(), 5));
        assert!(words.contains("source 'accounts' at "), "{words}");
        assert!(words.contains("give --even-if-changed"), "{words}");
        unchanged(&daemon.folder, &before);
    };
    let can = || daemon.status()["can"].to_string();
    // While it is gone, and once it is put back.
    refused("reclaim", &[]);
    daemon.ends("migrate", &["--yes"], 0);
    let status = said(&daemon.ends("status", &[], 0));
    assert!(status.contains("nothing says what was sealed"), "{status}");
    assert!(!status.contains("what:"), "{status}");
    refused("reclaim", &[]);
    plain_ticket_frees_nothing(&small_plan(&daemon.folder), "nothing says what was sealed");
    offers_what_works("a marker was put back", &daemon, &[]);

    fs::remove_dir_all(daemon.path("accounts.retired/keyspaces/1")).expect("removes");
    daemon.ends("verify", &[], 6);
    refused("reclaim", &[]);
    fs::remove_file(daemon.target()).expect("removes");
    refused("rerun", &[]);
    assert!(can().contains("\"rerun --even-if-changed\"") && !can().contains("\"rerun\""));
    let Ok(Found::RerunAllowed(handle)) = open(&small_plan(&daemon.folder)) else {
        panic!("no rerun");
    };
    let plain = ticket::Rerun::losing_writes_made_in_sql();
    let failed = handle.rerun(plain).expect_err("refused");
    assert!(matches!(failed.error, Error::NeedsApproval { .. }), "{}", failed.error);
    drop(failed.handle.expect("nothing was changed"));
    let claim = daemon.path("target.sqlite.cutover");
    let claimed = fs::read(&claim).expect("reads");
    fs::remove_file(&claim).expect("removes");
    refused("rerun", &["--target-lost"]);
    fs::write(&claim, claimed).expect("writes");

    // With the keyspace as it was, it is copied whole, once that is asked for.
    copy_tree(
        &kept.join("accounts.retired/keyspaces/1"),
        &daemon.path("accounts.retired/keyspaces/1"),
    );
    offers_what_works("the SQL file is gone too", &daemon, &[]);
    daemon.ends("rerun", &["--yes", "--even-if-changed"], 0);
    daemon.is_whole_in_sql();
    daemon.ends("verify", &[], 0);
    daemon.ends("reclaim", &["--yes", "--even-if-changed"], 0);
    assert!(!daemon.path("accounts.retired").exists());
}

/// The only copy was deleted after a `verify` that had said MISSING.
#[test]
fn i8_reclaim_frees_nothing_while_a_table_that_was_migrated_is_gone() {
    let daemon = Daemon::live();
    sqlite(&daemon.target(), "DELETE FROM accounts_first");
    sqlite(&daemon.target(), "ALTER TABLE sessions_first ADD COLUMN note TEXT");
    sqlite(&daemon.target(), "DROP TABLE accounts_second");
    let status = said(&daemon.ends("status", &[], 0));
    let what =
        "the migration filled table 'accounts_second', and that is gone from the SQL database";
    assert!(status.contains(what), "{status}");
    assert_eq!(daemon.status()["target"]["tables_missing"][0], "accounts_second");
    let can = daemon.status()["can"].to_string();
    assert!(can.contains("\"reclaim --even-if-changed\"") && !can.contains("\"reclaim\""), "{can}");
    let before = snapshot(&daemon.folder);
    let words = said(&daemon.ends("reclaim", &["--yes"], 5));
    assert!(words.contains("table 'accounts_second' is gone from "), "{words}");
    unchanged(&daemon.folder, &before);
    plain_ticket_frees_nothing(&small_plan(&daemon.folder), "table 'accounts_second' is gone");
    // What the daemon puts in its place by its name is its own business, as are the rows.
    sqlite(&daemon.target(), "CREATE VIEW accounts_second AS SELECT 1");
    daemon.ends("reclaim", &["--yes"], 0);
    // Nothing is left to be freed.
    sqlite(&daemon.target(), "DROP VIEW accounts_second");
    daemon.ends("reclaim", &["--yes"], 0);
    assert!(!said(&daemon.ends("status", &[], 0)).contains("what:"));
}

/// `verify` said "freed" of all stores, and ended with 0; `status` said nothing.
#[test]
fn a_reclaim_that_was_cut_short_is_told_by_status_and_by_verify() {
    let daemon = Daemon::live();
    let kept = daemon.folder.with_file_name("kept");
    copy_tree(&daemon.folder, &kept);
    // The first kill after which one store is freed. More fault points than a reclaim passes.
    let (mut before, mut at) = (0, 1024);
    while at - before > 1 {
        let point = usize::midpoint(before, at);
        copy_tree_anew(&kept, &daemon.folder);
        child::killed(&["reclaim", daemon.folder.to_str().expect("UTF-8")], point);
        let is_freed = !daemon.path("accounts.retired").exists();
        *(if is_freed { &mut at } else { &mut before }) = point;
    }
    copy_tree_anew(&kept, &daemon.folder);
    assert!(child::killed(&["reclaim", daemon.folder.to_str().expect("UTF-8")], at));
    assert!(!daemon.path("accounts.retired").exists());
    assert!(daemon.path("sessions.retired").exists());
    let status = said(&daemon.ends("status", &[], 0));
    let what =
        "the retired store of source 'sessions' was to be freed, and stands in part or whole";
    assert!(status.contains(what) && status.contains("run `cutover reclaim` again"), "{status}");
    let verified = said(&daemon.ends("verify", &[], 3));
    assert!(
        verified.contains("accounts/first: 20 pairs copied; retired store: freed"),
        "{verified}"
    );
    assert!(verified.contains("NOT COMPARED (it is marked to be freed"), "{verified}");
    daemon.ends("reclaim", &["--yes"], 0);
    assert!(!said(&daemon.ends("status", &[], 0)).contains("what:"));
    daemon.ends("verify", &[], 0);
}
