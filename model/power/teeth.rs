//! That the harness bites: with each of these mistakes made on purpose, it finds images that do not
//! hold, and none without.

use super::cuts::{Care, Counts, kill_and_restart, sweep};
use super::life::Act;
use super::log::Op;
use super::place::Place;
use super::promise::Promise;

/// A migration, cut at every instant, by processes that make a mistake.
fn migrated_with(mistake: &'static str) -> Counts {
    let place = Place::new(1);
    let acts = ["kv-writes", "sql", "sql-writes"].map(|name| Act { mistake, ..Act::new(name) });
    cut(&place, acts, "begin sql")
}

/// The same where the folders that the stores and the target are in were made just before.
fn made_and_migrated_with(mistake: &'static str) -> Counts {
    let place = Place::empty(1);
    let acts = ["create", "sql", "sql-writes"].map(|name| Act { mistake, ..Act::new(name) });
    // What fjall and the maker of the folders have not made durable may be lost until the seal.
    cut(&place, acts, "end sql")
}

fn cut(place: &Place, acts: [Act; 3], from: &str) -> Counts {
    let (base, log) = place.record(acts);
    let care = Care { stride: 1, subsets: 4 };
    sweep(place, &base, &log, Promise::new(), from, care, &mut |_, _| true)
}

/// Migrations that are killed as soon as SQLite has removed a journal, which is when a commit shows
/// and need not be durable; their restarts make a mistake and are cut at every instant.
fn restarted_with(mistake: &'static str) -> Counts {
    let place = Place::new(1);
    let care = Care { stride: 1, subsets: 0 };
    let operations = place.operations(&[], "sql");
    let committed = (1..)
        .zip(&operations)
        .filter(|(_, op)| matches!(op, Op::Remove { name, .. } if name.ends_with("-journal")));
    let mut counts = Counts::default();
    for (at, _) in committed {
        counts += kill_and_restart(&place, (&[], "sql"), at, 0, mistake, care);
    }
    counts
}

fn bites(counts: &Counts, what: &str) {
    println!("{what}: {counts}, {}", counts.failed.first().map_or("", String::as_str));
    assert!(!counts.failed.is_empty(), "{what} is not noticed");
}

#[test]
fn without_a_mistake_nothing_is_found() {
    migrated_with("").conclude("no mistake");
    restarted_with("").conclude("a restart without a mistake");
}

#[test]
fn commits_that_are_not_waited_for_are_found() {
    bites(&migrated_with("synchronous"), "synchronous=NORMAL");
}

#[test]
fn folders_that_are_not_synced_are_found() {
    bites(&migrated_with("folder"), "no fsync of folders");
}

#[test]
fn the_folders_above_that_are_not_synced_are_found() {
    made_and_migrated_with("").conclude("folders that were just made");
    bites(&made_and_migrated_with("ancestors"), "no fsync of the folders above");
}

#[test]
fn tombstones_before_the_commit_are_found() {
    bites(&migrated_with("tombstones-first"), "tombstones before the commit");
}

#[test]
fn a_target_that_is_live_before_the_tombstones_is_found() {
    bites(&migrated_with("live-first"), "live before the tombstones");
}

#[test]
fn a_restart_that_trusts_what_it_reads_is_found() {
    bites(&restarted_with("trusting"), "a restart that trusts what it reads");
    // A single cut does not show it.
    migrated_with("trusting").conclude("trusting, without a kill");
}
