//! A disk that fails: each call in turn, once, and from it on for good.

use super::check::check;
use super::cuts::add_up;
use super::disk::{CALLS, Failure, Fault, mark};
use super::life::{Act, act};
use super::log::{Left, Model, Op, cut};
use super::place::Place;
use super::promise::Promise;
use super::tree::{Node, ROOT, Tree};
use crate::child;
use crate::common::{Snapshot, changed, samples};
use cutover::Error;
use std::collections::BTreeSet;
use std::ops::AddAssign;
use std::path::Path;

/// How a child tells an error: what it means for the caller, and the words.
const REFUSED: &str = "refused: ";
const PART_WAY: &str = "part-way: ";

/// A child's part: an act that may fail, and says how.
pub fn try_act(name: &str, folder: &Path, sources: usize) {
    match act(name, folder, sources, "") {
        Ok(()) => {}
        Err(error @ Error::Refused(_)) => println!("\n{REFUSED}{error}"),
        Err(error) => println!("\n{PART_WAY}{error}"),
    }
}

/// What a refusal must leave as it was: each name beside the stores and the target, and what is in
/// each file. Stores themselves are fjall's, which tidies them whenever they are opened; and making
/// durable what is in the target writes the number of a page anew.
fn standing(tree: &Tree) -> Snapshot {
    let mut standing = Snapshot::new();
    let mut folders = vec![(String::new(), ROOT)];
    while let Some((folder, ino)) = folders.pop() {
        for (path, ino) in tree.list(&folder, ino) {
            if ["data", "data/kv", "data/db", "data/db/sql"].contains(&path.as_str()) {
                folders.push((format!("{path}/"), ino));
                continue;
            }
            let content = match tree.node(ino) {
                Some(Node::File(data)) if !path.ends_with("target.sqlite") => {
                    Some(data.read(0, data.length()))
                }
                Some(Node::File(_) | Node::Folder(_)) | None => None,
            };
            // What the exchange was tried with can't be removed from a disk that fails for good.
            if !path.contains(".cutover-probe") {
                standing.insert(path, content);
            }
        }
    }
    standing
}

/// What is tried, after what.
const ACTS: [(&[&str], &str); 6] = [
    (&["kv-writes"], "sql"),
    (&["part-way"], "abort"),
    (&["committed"], "take-back"),
    (&["sql", "sql-writes", "lose"], "rerun"),
    (&["sql", "sql-writes", "lose"], "restore"),
    (&["sql", "sql-writes"], "reclaim"),
];

/// Those that are one call after an open: where one of several refuses, earlier ones have acted.
const ONE_CALL: [&str; 2] = ["sql", "abort"];

const FAILURES: [Failure; 5] =
    [Failure::Io, Failure::NoSpace, Failure::Quota, Failure::ReadOnly, Failure::ShortWrite];

#[derive(Debug, Default)]
struct Tally {
    runs: usize,
    refused: usize,
    part_way: usize,
    /// What failed was not needed, or was tried again.
    ended: usize,
    images: usize,
    /// The words of each error, without what differs from run to run.
    told: BTreeSet<String>,
    failed: Vec<String>,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.refused += other.refused;
        self.part_way += other.part_way;
        self.ended += other.ended;
        self.images += other.images;
        self.told.extend(other.told);
        self.failed.extend(other.failed);
    }
}

impl Tally {
    /// An error says what failed, where, and what to do next.
    fn hear(&mut self, folder: &Path, fault: Fault, told: &str) {
        // Where SQLite can't make a file, it says no more than that, and this disk has no files without
        // a name to find out more with.
        let is_named = told.contains("quota") || told.contains("unable to open database file");
        if fault.failure == Failure::Quota && !is_named {
            self.failed.push(format!("the quota is not named: {told}"));
        }
        let place = folder.to_string_lossy();
        let names = ["accounts", "sessions", "target.sqlite"];
        let says_where = told.contains(&*place) || names.iter().any(|name| told.contains(name));
        if !says_where || !told.contains("; ") {
            self.failed.push(format!("it is not said what, where and what next: {told}"));
        }
        self.told.insert(told.replace(&*place, ""));
    }
}

/// One run on a disk that fails, and what is left of it: as the kernel has it, and after a power cut.
fn run(
    place: &Place,
    name: &'static str,
    promise: &Promise,
    fault: Fault,
    tally: &mut Tally,
) -> Vec<Op> {
    let disk = place.mount(Some(fault));
    mark(&place.folder(), &format!("begin {name}"));
    let sources = place.sources.to_string();
    let folder = place.folder();
    let output = child::run(&["power-try", name, folder.to_str().expect("UTF-8"), &sources]);
    let log = disk.unmount();
    let met = log.iter().find_map(|op| match op {
        Op::Failed(what) => Some(what.clone()),
        _ => None,
    });
    let Some(met) = met else {
        assert!(output.status.success(), "{name} fails on a sound disk");
        return log;
    };
    tally.runs += 1;
    let what = format!("{name}, {fault:?}, {met}");
    let base = Tree::load(&place.base());
    let text = String::from_utf8_lossy(&output.stdout);
    let told = |prefix| text.lines().find_map(|line| line.strip_prefix(prefix));
    let mut promise = promise.clone();
    promise.hear(&format!("begin {name}"));
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        tally.failed.push(format!("{what}: {}: {text}", output.status));
    } else if let Some(told) = told(REFUSED) {
        tally.refused += 1;
        let left = cut(&base, &log, Model::Journaled, Left::All);
        let (before, after) = (standing(&base), standing(&left));
        let changed = changed(&before, &after);
        if ONE_CALL.contains(&name) && !changed.is_empty() {
            tally.failed.push(format!("{what} is refused, and {changed:?} have changed: {told}"));
        }
        tally.hear(&folder, fault, told);
    } else if let Some(told) = told(PART_WAY) {
        tally.part_way += 1;
        tally.hear(&folder, fault, told);
    } else {
        promise.hear(&format!("end {name}"));
        tally.ended += 1;
    }
    let mut seen = BTreeSet::new();
    for (model, left) in
        [(Model::Journaled, Left::All), (Model::Journaled, Left::None), (Model::Strict, Left::None)]
    {
        let image = cut(&base, &log, model, left);
        if !seen.insert(image.hash()) {
            continue;
        }
        tally.images += 1;
        if let Err(why) = check(place, &image, &promise) {
            tally.failed.push(format!("{what}, {model:?}, {left:?}: {why}"));
        }
    }
    log
}

/// Each kind of failure of one act, after others.
fn every_call(number: usize, before: &[&'static str], name: &'static str) -> Tally {
    let mut tally = Tally::default();
    let place = Place::new(if number.is_multiple_of(2) { 1 } else { 3 });
    let (base, log) = place.record(before.iter().copied().map(Act::new));
    let mut promise = Promise::new();
    for op in &log {
        if let Op::Mark(text) = op {
            promise.hear(text);
        }
    }
    cut(&base, &log, Model::Strict, Left::All).write_to(&place.base());
    for failure in FAILURES {
        for for_good in [false, true] {
            // What is over its quota stays so until a person acts.
            if failure == Failure::Quota && !for_good {
                continue;
            }
            let never = Fault { failure, at: usize::MAX, for_good };
            let log = run(&place, name, &promise, never, &mut tally);
            let Some(Op::Mark(text)) = log.last() else { panic!("no count") };
            let calls: usize =
                text.strip_prefix(CALLS).and_then(|n| n.parse().ok()).expect("a count");
            let stride = calls.div_ceil(samples()).max(1);
            // Each act begins elsewhere, so that calls that are alike are met at other places.
            for at in (1 + number % stride..=calls).step_by(stride) {
                run(&place, name, &promise, Fault { failure, at, for_good }, &mut tally);
            }
        }
    }
    tally
}

#[test]
fn i1_i2_i3_i4_every_call_in_turn_fails_once_and_for_good() {
    let tally = add_up(&ACTS, |number, &(before, name)| every_call(number, before, name));
    let Tally { runs, refused, part_way, ended, images, told, failed } = &tally;
    println!(
        "failing disks: {runs} faults met, {refused} refused, {part_way} stopped part-way, {ended} ended well, {} texts, {images} images, {} failed",
        told.len(),
        failed.len()
    );
    assert!(*refused > 0 && *part_way > 0 && *ended > 0, "every kind of end was met");
    assert!(tally.failed.is_empty(), "{}", tally.failed.join("\n"));
}
