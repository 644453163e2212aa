//! What fjall loses or refuses by itself, with nothing of cutover near; and that cutover says so,
//! leaves it alone, and makes durable what it seals.

use super::check::lost_by_fjall;
use super::cuts::{Care, sweep};
use super::life::{Act, home, plan};
use super::log::{Left, Model, Op, cut, mix};
use super::place::Place;
use super::promise::Promise;
use super::tree::Tree;
use crate::common::snapshot;
use cutover::Error;
use std::collections::BTreeMap;
use std::fs;

/// What programs that know nothing of cutover find after power cuts while a store is created, and
/// after they were told that it is durable: how often.
fn found_by_stock_programs(model: Model) -> [BTreeMap<String, usize>; 2] {
    let place = Place::empty(1);
    let (base, log) = place.record(["create", "kv-writes"].map(Act::new));
    let mut found = [BTreeMap::new(), BTreeMap::new()];
    let mut promise = Promise::new();
    let mut acknowledged = false;
    for at in 1..=log.len() {
        if let Op::Mark(text) = &log[at - 1] {
            promise.hear(text);
            acknowledged |= text == "end create";
        }
        let subsets = (0..4).map(|seed| Left::Some(mix(at as u64 * 4 + seed)));
        for left in [Left::None, Left::All, Left::Names, Left::Content].into_iter().chain(subsets) {
            let lost = lost_by_fjall(&place, &cut(&base, &log[..at], model, left), &promise);
            let what = lost.first().map_or("whole", |why| why.split('{').next().unwrap_or(why));
            *found[usize::from(acknowledged)].entry(what.to_owned()).or_default() += 1;
        }
    }
    found
}

/// A-11, and where it ends.
#[test]
fn fjall_keeps_what_it_acknowledged_on_a_journaled_disk_and_not_on_a_strict_one() {
    for model in [Model::Journaled, Model::Strict] {
        let [creating, acknowledged] = found_by_stock_programs(model);
        println!("fjall by itself, {model:?}: created {creating:?}, acknowledged {acknowledged:?}");
        let refused = creating.keys().any(|what| what.contains("Io(") || what.contains("Version"));
        assert!(refused, "a store whose creation was cut is not refused any more");
        let whole = acknowledged.keys().all(|what| what == "whole");
        assert_eq!(whole, model == Model::Journaled, "{acknowledged:?}");
    }
}

#[test]
fn i2_i3_a_store_that_was_created_just_before_is_durable_once_it_is_sealed() {
    for sources in [1, 3] {
        let place = Place::empty(sources);
        let acts = ["create", "kv-writes", "sql", "sql-writes"];
        let (base, log) = place.record(acts.map(Act::new));
        let care = Care { stride: 1, subsets: 4 };
        let mut ours =
            |image: &Tree, promise: &Promise| lost_by_fjall(&place, image, promise).is_empty();
        let begin = "begin kv-writes";
        let counts = sweep(&place, &base, &log, Promise::new(), begin, care, &mut ours);
        assert!(counts.engine > 0, "nothing was lost before the seal: this shows nothing");
        counts.conclude(&format!("stores of {sources} sources that were just created"));
    }
}

/// Images that power cuts have left, by what was lost: fjall does not open them, or as if there had
/// never been anything. cutover says so and changes nothing.
#[test]
fn i8_stores_that_a_power_cut_has_damaged_are_told_and_left_alone() {
    for (what, by_fjall) in [
        ("the name of the version file", "AlreadyExists"),
        ("the content of the version file", "InvalidVersion"),
        ("the folder of the keyspaces", "Ok([])"),
    ] {
        let place = Place::new(1);
        let store = home(&place.base(), 1).join("accounts");
        let version = store.join("version");
        match what {
            "the name of the version file" => fs::remove_file(version).expect("removes"),
            "the content of the version file" => fs::write(version, "").expect("writes"),
            _ => fs::remove_dir_all(store.join("keyspaces")).expect("removes"),
        }
        let before = snapshot(&place.base());
        let told = match cutover::sql(&plan(&place.base(), 1), &mut ()) {
            Err(Error::Refused(cause)) => cause.to_string(),
            other => panic!("{what}: {other:?}"),
        };
        assert!(told.contains("accounts") && told.contains("; "), "{what}: {told}");
        assert!(snapshot(&place.base()) == before, "{what}: something has changed");
        let opened = fjall::Database::builder(&store).open();
        let opened = format!("{:?}", opened.map(|database| database.list_keyspace_names()));
        assert!(opened.contains(by_fjall), "{what}: {opened}");
    }
}
