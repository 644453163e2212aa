//! Every instant of a life, cut.

use super::check::check;
use super::life::{Act, Wish};
use super::log::{Left, Model, Op, cut, mix, sector_ends, undecided};
use super::place::Place;
use super::promise::Promise;
use super::tree::Tree;
use crate::common::samples;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How thoroughly a log is cut.
#[derive(Clone, Copy, Debug)]
pub struct Care {
    /// Every this many prefixes are cut.
    pub stride: usize,
    /// This many random subsets of what is not durable are left; all of them where they are fewer.
    pub subsets: u32,
}

#[derive(Debug, Default)]
pub struct Counts {
    pub prefixes: usize,
    /// Images that differ.
    pub images: usize,
    /// Starts that ended as they should.
    pub held: usize,
    /// Images in which fjall has lost something by itself, before cutover has touched them.
    pub engine: usize,
    /// Recoveries from a first cut, or restarts after a kill, that were cut.
    pub again: usize,
    pub failed: Vec<String>,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.prefixes += other.prefixes;
        self.images += other.images;
        self.held += other.held;
        self.engine += other.engine;
        self.again += other.again;
        self.failed.extend(other.failed);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefixes, images, held, engine, again: _, failed } = self;
        write!(
            f,
            "{prefixes} prefixes, {images} distinct images, {held} starts that ended well, {engine} images in which fjall had lost something by itself, {} failed",
            failed.len()
        )
    }
}

impl Counts {
    /// Prints them, and fails where anything did.
    pub fn conclude(&self, what: &str) {
        println!("{what}: {self}");
        assert!(self.failed.is_empty(), "{what}:\n{}", self.failed.join("\n"));
    }
}

/// What is left in the images that are made of each prefix.
fn every_left(log: &[Op], model: Model, care: Care) -> Vec<Left> {
    let mut every = vec![Left::None, Left::All, Left::Names, Left::Content];
    if let Some(Op::Write { at, bytes, .. }) = log.last() {
        every.extend((1..sector_ends(*at, bytes.len()).len() as u64).take(2).map(Left::Torn));
    }
    let undecided = undecided(log, model);
    // Of many, another few each time.
    every.extend(
        (0..undecided.min(3)).map(|at| Left::Except(((log.len() + at) % undecided) as u64)),
    );
    if undecided < 16 && 1 << undecided <= care.subsets {
        every.extend((0..1 << undecided).map(Left::Some));
    } else {
        let seed = |at: u32| mix(log.len() as u64 * u64::from(care.subsets) + u64::from(at));
        every.extend((0..care.subsets).map(|at| Left::Some(seed(at))));
    }
    every
}

/// Cuts a log that began on `base`, from its first mark `from` on, and looks at each image that is
/// left. `ours` gets each image, once, and tells whether what is in it is any business of ours.
pub fn sweep(
    place: &Place,
    base: &Tree,
    log: &[Op],
    mut promise: Promise,
    from: &str,
    care: Care,
    ours: &mut dyn FnMut(&Tree, &Promise) -> bool,
) -> Counts {
    let mut counts = Counts::default();
    let mut seen = BTreeSet::new();
    let mut marks = 0;
    let mut begun = false;
    for at in 0..=log.len() {
        if let Some(Op::Mark(text)) = at.checked_sub(1).map(|last| &log[last]) {
            promise.hear(text);
            marks += 1;
            begun |= text == from;
        }
        if !begun || at % care.stride != 0 {
            continue;
        }
        counts.prefixes += 1;
        let log = &log[..at];
        for model in [Model::Journaled, Model::Strict] {
            for left in every_left(log, model, care) {
                let image = cut(base, log, model, left);
                if !seen.insert((image.hash(), marks)) {
                    continue;
                }
                counts.images += 1;
                if !ours(&image, &promise) {
                    counts.engine += 1;
                    continue;
                }
                match check(place, &image, &promise) {
                    Ok(starts) => counts.held += starts,
                    Err(why) => counts.failed.push(format!(
                        "cut at {at} in {}, {model:?}, {left:?}: {why}",
                        promise.act
                    )),
                }
            }
        }
    }
    counts
}

/// A life: what happens before, and what is cut.
const LIVES: [(&[&str], &[&str]); 9] = [
    (&[], &["kv-writes", "sql", "sql-writes"]),
    (&["part-way"], &["sql"]),
    (&["committed"], &["sql"]),
    (&["part-way"], &["abort", "kv-writes", "sql"]),
    (&["committed"], &["take-back", "kv-writes"]),
    (&["sql", "sql-writes"], &["lose", "rerun", "sql-writes"]),
    (&["sql", "sql-writes"], &["lose", "restore", "kv-writes"]),
    (&["sql", "lose"], &["rerun-abort", "settle-kv"]),
    (&["sql"], &["reclaim", "sql-writes"]),
];

fn acts(before: &[&'static str], cut: &[&'static str]) -> Vec<Act> {
    before.iter().chain(cut).copied().map(Act::new).collect()
}

/// More threads than processors: who opens a fjall database waits for fjall's own threads, too.
const WORKERS: usize = 3;

/// Works on each item with its number, some at a time, and adds up.
pub fn add_up<T: Sync, C: AddAssign + Default + Send>(
    items: &[T],
    work: impl Fn(usize, &T) -> C + Sync,
) -> C {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut sum = C::default();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return sum };
            sum += work(at, item);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().fold(C::default(), |mut sum, worker| {
            sum += worker.join().expect("it has not failed");
            sum
        })
    })
}

/// A life on a disk of its own, and what it began with.
fn recorded(sources: usize, (before, cut): (&[&'static str], &[&'static str])) -> Life {
    let place = Place::new(sources);
    let (base, log) = place.record(acts(before, cut));
    Life { place, base, log, from: format!("begin {}", cut[0]) }
}

struct Life {
    place: Place,
    base: Tree,
    log: Vec<Op>,
    /// The first mark of what is cut.
    from: String,
}

impl Life {
    fn sweep(&self, care: Care, ours: &mut dyn FnMut(&Tree, &Promise) -> bool) -> Counts {
        sweep(&self.place, &self.base, &self.log, Promise::new(), &self.from, care, ours)
    }
}

/// This many times fewer than with the default number of samples, and at least every one.
fn stride(by_default: usize) -> usize {
    (by_default * 12 / samples().max(1)).max(1)
}

fn every_instant(sources: usize) {
    let subsets = u32::try_from(samples() * 2 / 3).expect("few");
    // Of the longer logs every other prefix, in short runs.
    let care = Care { stride: if sources == 1 { 1 } else { stride(2) }, subsets };
    let counts = add_up(&LIVES, |_, &(before, cut)| {
        let counts = recorded(sources, (before, cut)).sweep(care, &mut |_, _| true);
        println!("{before:?}, then {cut:?}: {counts}");
        counts
    });
    counts.conclude(&format!("power cuts, {sources} sources"));
}

#[test]
fn i1_i2_i3_i4_a_power_cut_at_any_instant_of_the_life_of_one_source() {
    every_instant(1);
}

/// the daemon's database is in WAL once it is live.
#[test]
fn i1_i2_i3_i4_a_power_cut_at_any_instant_of_a_life_in_wal() {
    let care = Care { stride: 1, subsets: 4 };
    let acts: [&[&str]; 2] = [&["kv-writes", "sql", "sql-writes"], &["reclaim", "sql-writes"]];
    let counts = add_up(&acts, |_, cut| {
        let before: &[&str] = if cut[0] == "reclaim" { &["sql"] } else { &[] };
        recorded(2, (before, cut)).sweep(care, &mut |_, _| true)
    });
    counts.conclude("power cuts in WAL");
}

#[test]
fn i1_i2_i3_i4_a_power_cut_at_any_instant_of_the_life_of_three_sources() {
    every_instant(3);
}

/// What is cut of the start that recovers from the image that a first cut left.
fn cut_again(place: &Place, image: &Tree, promise: &Promise, wish: Wish) -> Counts {
    image.write_to(&place.base());
    let (base, log) = place.record([Act::new(wish.word())]);
    let from = format!("begin {}", wish.word());
    let care = Care { stride: stride(10), subsets: 2 };
    let counts = sweep(place, &base, &log, promise.clone(), &from, care, &mut |_, _| true);
    Counts { again: 1, ..counts }
}

#[test]
fn i1_i2_i3_i4_a_second_power_cut_during_the_recovery_from_the_first() {
    let counts = add_up(&LIVES, |number, &life| {
        let life = recorded(if number.is_multiple_of(2) { 1 } else { 3 }, life);
        let mut first = Vec::new();
        let few = Care { stride: stride(24), subsets: 1 };
        let mut counts = life.sweep(few, &mut |image, promise| {
            first.push((image.clone(), promise.clone()));
            true
        });
        let every = (first.len() / (samples() / 2).max(1)).max(1);
        for (at, (image, promise)) in first.into_iter().step_by(every).enumerate() {
            let wishes = promise.wishes();
            counts += cut_again(&life.place, &image, &promise, wishes[at % wishes.len()]);
        }
        counts
    });
    counts.conclude(&format!("power cuts during {} recoveries from a power cut", counts.again));
}

/// What is killed, after what.
const KILLED: [(&[&str], &str); 9] = [
    (&["kv-writes"], "sql"),
    (&["part-way"], "sql"),
    (&["committed"], "sql"),
    (&["part-way"], "abort"),
    (&["committed"], "take-back"),
    (&["sql", "sql-writes", "lose"], "rerun"),
    (&["sql", "lose"], "rerun-abort"),
    (&["sql", "sql-writes", "lose"], "restore"),
    (&["sql", "sql-writes"], "reclaim"),
];

/// Records acts, the last of which is killed after this many operations, and the start after it, which
/// is cut.
pub fn kill_and_restart(
    place: &Place,
    (before, killed): (&[&'static str], &'static str),
    at: usize,
    wish: usize,
    mistake: &'static str,
    care: Care,
) -> Counts {
    let mut promise = Promise::new();
    for act in before {
        promise.hear(&format!("begin {act}"));
        promise.hear(&format!("end {act}"));
    }
    promise.hear(&format!("begin {killed}"));
    let wishes = promise.wishes();
    let restart = wishes[wish % wishes.len()].word();
    let mut acts = acts(before, &[]);
    acts.push(Act { killed_at: Some(at), ..Act::new(killed) });
    acts.push(Act { mistake, ..Act::new(restart) });
    let (base, log) = place.record(acts);
    sweep(place, &base, &log, Promise::new(), &format!("begin {restart}"), care, &mut |_, _| true)
}

/// A restart sees in the kernel's memory what was never durable.
#[test]
fn i1_i2_i3_i4_a_power_cut_after_a_kill_and_a_restart() {
    let counts = add_up(&KILLED, |number, &(before, killed)| {
        let place = Place::new(if number.is_multiple_of(2) { 3 } else { 1 });
        let operations = place.operations(before, killed).len();
        let kills = (samples() / 3).clamp(1, operations);
        let care = Care { stride: stride(8), subsets: 2 };
        let mut counts = Counts::default();
        for kill in 0..kills {
            let at = 1 + kill * operations / kills;
            counts += kill_and_restart(&place, (before, killed), at, kill, "", care);
        }
        Counts { again: kills, ..counts }
    });
    counts.conclude(&format!("power cuts after {} kills and restarts", counts.again));
}
