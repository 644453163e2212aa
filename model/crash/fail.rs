//! An I/O error at every fault point, once and for good.

use super::{Place, STORIES, Story, at_most_one_writer, ended, names, plan, play};
use crate::common::samples;
use cutover::Error;
use cutover::fault::{Fault, arm, passed};
use std::collections::BTreeMap;

/// What a refusal must leave as it was: names, markers and the state.
fn lasting(place: &Place) -> (BTreeMap<String, Vec<u8>>, String) {
    let found = cutover::open(&plan(&place.folder));
    let state = match found {
        Ok(cutover::Found::Fresh(handle)) => handle.state(),
        Ok(cutover::Found::Migrating(handle)) => handle.state(),
        Ok(cutover::Found::Committed(handle)) => handle.state(),
        Ok(cutover::Found::Tombstoned(handle)) => handle.state(),
        Ok(cutover::Found::RerunAllowed(handle)) => handle.state(),
        Err(error) => panic!("no state: {error}"),
    };
    (names(&place.folder), format!("{state:?}"))
}

/// Fails every fault point of a story, or every so many, and lets a later start go on.
fn sweep(name: &str, story: Story, fault: fn(usize) -> Fault, stride: usize) -> [usize; 3] {
    let Story { act, recover, end, .. } = story;
    let place = Place::new(story);
    let before = lasting(&place);
    let mut counts = [0; 3];
    for at in (1..).step_by(stride) {
        place.reset();
        arm(Some(fault(at)));
        let played = play(act, &place.folder);
        let points = passed();
        arm(None);
        let Some(point) = points.get(at - 1) else {
            played.expect("no fault was met");
            println!("{name}: {counts:?} refused, part-way, done of {}", points.len());
            return counts;
        };
        let after = format!("{name}: {:?} at '{point}'", fault(at));
        at_most_one_writer(&place, &after);
        match played {
            Err(Error::Refused(cause)) => {
                counts[0] += 1;
                assert_eq!(lasting(&place), before, "{after} was refused: {cause}");
            }
            Err(Error::Interrupted { .. } | Error::OutcomeUnknown { .. }) => counts[1] += 1,
            Err(other) => panic!("{after}: {other}"),
            // What failed was not needed, or was tried again.
            Ok(()) => counts[2] += 1,
        }
        play(recover, &place.folder).unwrap_or_else(|error| panic!("{after}: {error}"));
        ended(&place, end, &after);
    }
    counts
}

#[test]
fn i1_i7_an_error_at_any_point_is_told_and_the_next_start_ends_it() {
    for (name, story) in STORIES {
        let [_, part_way, _] = sweep(name, story, Fault::Fail, 1);
        assert!(part_way > 0, "{name} never stopped part-way");
    }
}

#[test]
fn i1_i7_a_disk_that_fails_for_good_from_any_point_on_is_told_and_the_next_start_ends_it() {
    // The first error alone decides nearly everything, so that a part of them does here.
    let stride = (48 / samples().max(1)).max(1);
    for (name, story) in STORIES {
        sweep(name, story, Fault::FailFrom, stride);
    }
}
