//! SIGKILL at every fault point, and again at fault points of the start that recovers.

use super::{
    CLAIM_LEFT_OVER, End, Place, SOURCES, Story, at_most_one_writer, ended, names, play, story,
};
use crate::child;
use crate::common::samples;
use cutover::fault::{arm, passed};
use cutover::{Cause, Error};
use std::path::Path;

/// Plays `act` in a process of its own, which is killed at fault point `at`.
pub fn killed(act: &str, folder: &Path, at: usize) -> bool {
    child::killed(&["act", act, folder.to_str().expect("UTF-8")], at)
}

/// The fault points that `act` passes when nothing goes wrong.
fn points(act: &str, folder: &Path) -> Vec<&'static str> {
    arm(None);
    play(act, folder).expect("nothing goes wrong");
    let points = passed();
    arm(None);
    points
}

/// Kills at each fault point of a story once, and recovers.
fn sweep(name: &str) -> Vec<&'static str> {
    let Story { act, recover, end, .. } = story(name);
    let place = Place::new(story(name));
    let points = points(act, &place.folder);
    for (at, point) in (1..).zip(&points) {
        let after = format!("{name}: a kill at {at} of {}, '{point}'", points.len());
        place.reset();
        assert!(killed(act, &place.folder, at), "{after} did not happen");
        at_most_one_writer(&place, &after);
        play(recover, &place.folder).unwrap_or_else(|error| panic!("{after}: {error}"));
        ended(&place, end, &after);
    }
    place.reset();
    assert!(!killed(act, &place.folder, points.len() + 1));
    println!("{name}: killed at each of {} points", points.len());
    points
}

/// Kills at a fault point, and once more in the start that recovers, for evenly spread pairs.
fn sweep_twice(name: &str, samples: usize) {
    let Story { act, recover, end, .. } = story(name);
    let place = Place::new(story(name));
    let first = points(act, &place.folder).len();
    let mut kills = 0;
    for sample in 0..samples {
        let at = 1 + sample * first / samples;
        place.reset();
        assert!(killed(act, &place.folder, at));
        let copy = place.copy().to_owned();
        let second = points(recover, &place.folder).len().max(1);
        std::fs::remove_dir_all(&place.folder).expect("removes");
        std::fs::rename(copy, &place.folder).expect("renames");
        // A stride that shares no factor with most lengths spreads the pairs over the square.
        let again = 1 + (sample * 37 + sample / 3) % second;
        let after = format!("{name}: kills at {at} of {first}, then at {again} of {second}");
        kills += usize::from(killed(recover, &place.folder, again));
        at_most_one_writer(&place, &after);
        play(recover, &place.folder).unwrap_or_else(|error| panic!("{after}: {error}"));
        ended(&place, end, &after);
    }
    println!("{name}: killed twice {kills} times");
}

fn assert_passes(points: &[&str], important: &[&str]) {
    for name in important {
        assert!(points.contains(name), "'{name}' is not among the fault points: {points:?}");
    }
}

#[test]
fn i1_i2_i7_a_kill_at_any_point_of_a_migration_leaves_one_writer_and_the_next_start_ends_it() {
    let points = sweep("sql");
    assert_passes(
        &points,
        &[
            "file created",
            "file written",
            "file synced",
            "renamed",
            "folder synced",
            "before a commit",
            "after a commit",
        ],
    );
}

/// A daemon that is not told to use SQL any more: before the commit point it gets its stores back.
#[test]
fn i3_after_a_kill_at_any_point_of_a_migration_the_stores_come_back_or_are_refused_for_good() {
    let place = Place::new(story("sql"));
    let points = points("sql", &place.folder);
    let mut ends = [0, 0];
    for at in 1..=points.len() {
        let after = format!("a kill at {at} of {}, then kv", points.len());
        place.reset();
        assert!(killed("sql", &place.folder, at));
        let end = match play("kv", &place.folder) {
            Ok(()) => End::Kv,
            Err(Error::Refused(Cause::Moved { .. })) => {
                play("sql", &place.folder).unwrap_or_else(|error| panic!("{after}: {error}"));
                End::Sql
            }
            Err(other) => panic!("{after}: {other}"),
        };
        // Once the commit point has passed nothing goes back automatically.
        assert!(end == End::Sql || ends[1] == 0, "{after}");
        ends[usize::from(end == End::Sql)] += 1;
        ended(&place, end, &after);
        let unfinished = names(&place.folder).keys().any(|name| name.starts_with(CLAIM_LEFT_OVER));
        if end == End::Kv && (unfinished || at % 16 == 0) {
            play("sql", &place.folder).unwrap_or_else(|error| panic!("{after}, sql: {error}"));
            ended(&place, End::Sql, &format!("{after}, then sql"));
        }
    }
    println!("sql, then kv: {ends:?} ended in KV and in SQL");
    assert!(ends[0] > 0 && ends[1] > 0);
}

#[test]
fn i3_a_kill_at_any_point_of_a_preparation_gives_the_stores_back() {
    let points = sweep("prepare");
    assert_passes(&points, &["file created", "renamed", "before a commit", "after a commit"]);
}

#[test]
fn i1_i7_a_kill_at_any_point_of_going_on_from_what_was_prepared_ends_in_sql() {
    sweep("prepared");
}

#[test]
fn i3_a_kill_at_any_point_of_an_abort_gives_the_stores_back() {
    assert_passes(&sweep("begun"), &["removed", "renamed", "before a commit", "after a commit"]);
}

#[test]
fn i7_a_migration_goes_on_after_a_kill_at_any_point_of_an_abort() {
    sweep("turned");
}

#[test]
fn i1_i3_a_kill_at_any_point_of_a_way_back_from_the_commit_point_gives_the_stores_back() {
    sweep("committed");
}

#[test]
fn i1_i5_a_kill_on_the_way_back_when_half_of_the_tombstones_stand_gives_the_stores_back() {
    sweep("half");
}

#[test]
fn i1_i6_a_kill_at_any_point_of_a_rerun_ends_with_every_pair_once() {
    sweep("rerun");
}

#[test]
fn i5_a_kill_at_any_point_of_a_rerun_that_is_aborted_leaves_a_way_to_restore() {
    sweep("rerun-left");
}

#[test]
fn i5_a_kill_at_any_point_of_restoring_gives_the_stores_back() {
    sweep("restore");
}

#[test]
fn i1_i5_a_kill_at_any_point_of_reclaiming_keeps_the_names_taken() {
    assert_passes(&sweep("reclaim"), &["renamed", "removed", "folder removed"]);
}

#[test]
fn i7_a_second_kill_during_the_recovery_from_the_first_changes_nothing() {
    for (name, share) in [("sql", 1), ("begun", 2), ("half", 2), ("rerun", 2), ("restore", 2)] {
        sweep_twice(name, samples() / share);
    }
}

/// The sweep looks at its copies from inside its own process; a few are looked at from others.
#[test]
fn i1_programs_in_other_processes_agree_that_one_side_can_be_written() {
    let place = Place::new(story("sql"));
    let points = points("sql", &place.folder).len();
    let mut seen = [0; 3];
    for at in (1..=points + 1).step_by(points / 6) {
        place.reset();
        killed("sql", &place.folder, at);
        let copy = place.copy();
        let sql = child::plain_sqlite_writes(&copy.join("target.sqlite"), "accounts_first");
        let kv = SOURCES.iter().filter(|name| child::stock_fjall_writes(&copy.join(name))).count();
        assert!(!(sql && kv > 0), "both sides can be written after a kill at {at}");
        seen[if sql { 0 } else { kv.min(1) + 1 }] += 1;
    }
    play("sql", &place.folder).expect("ends");
    ended(&place, End::Sql, "the last kill");
    let copy = place.copy();
    assert!(child::plain_sqlite_writes(&copy.join("target.sqlite"), "accounts_first"));
    assert!(!child::stock_fjall_writes(&copy.join(SOURCES[0])));
    assert!(seen[1] > 0 && seen[2] > 0, "every kind of instant was met: {seen:?}");
}
