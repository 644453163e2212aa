//! The works: how many pairs of which size, and who does them.

use crate::arguments::Arguments;
use crate::ways::Way;

pub const KEY_BYTES: usize = 24;

/// What a work is there to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Against everybody.
    Main,
    /// A store as a daemon leaves it, with a journal that every open replays.
    Journal,
    /// Into a database that is there already: in WAL, with pages of 4 KiB, and other tables in it.
    Existing,
    /// The same pairs, ever more of them.
    Growth,
    /// About the same bytes, in pairs of ever larger values.
    Sweep,
    /// One pair in each of many keyspaces.
    Keyspaces,
}

/// This many pairs of one size.
#[derive(Clone, Debug)]
pub struct Work {
    pub name: String,
    pub kind: Kind,
    pub pairs: u64,
    pub value_bytes: usize,
    pub ways: Vec<Way>,
}

const MAIN: [(u64, usize); 3] = [(1_000_000, 150), (300_000, 1024), (100_000, 16 * 1024)];
const JOURNAL: [(u64, usize); 2] = [(1_000_000, 150), (300_000, 1024)];
const EXISTING: [(u64, usize); 2] = [(1_000_000, 150), (300_000, 1024)];
const GROWTH: [u64; 5] = [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000];
const GROWTH_VALUE_BYTES: usize = 64;
const SWEEP_VALUES_BYTES: [usize; 7] = [16, 64, 256, 1024, 4096, 16 * 1024, 64 * 1024];
const KEYSPACES: [u64; 5] = [125, 500, 1_000, 2_000, 10_000];
const KEYSPACES_VALUE_BYTES: usize = 64;
const SWEEP_BYTES: usize = 128 * 1024 * 1024;
const SWEEP_PAIRS_MAX: usize = 500_000;
/// A quick run's pairs are the full run's, divided.
const QUICK: u64 = 500;

/// The works that `arguments` ask for.
pub fn works(arguments: &Arguments) -> Vec<Work> {
    let main_ways = [Way::Cutover, Way::Hour, Way::Lndinit, Way::Floor, Way::FloorMany, Way::Plain];
    let mut works = Vec::new();
    let mut add = |kind: Kind, pairs: u64, value_bytes: usize, ways: &[Way]| {
        let pairs = if arguments.quick { (pairs / QUICK).max(100) } else { pairs };
        let name = format!("{kind:?} {pairs} of {KEY_BYTES}+{value_bytes}").to_lowercase();
        works.push(Work { name, kind, pairs, value_bytes, ways: ways.to_vec() });
    };
    for (pairs, value_bytes) in MAIN {
        add(Kind::Main, pairs, value_bytes, &main_ways);
    }
    for (pairs, value_bytes) in JOURNAL {
        add(Kind::Journal, pairs, value_bytes, &[Way::Cutover, Way::Hour, Way::Lndinit]);
    }
    for (pairs, value_bytes) in EXISTING {
        let ways = [Way::Cutover, Way::Hour, Way::FloorMany, Way::FloorIds];
        add(Kind::Existing, pairs, value_bytes, &ways);
    }
    for value_bytes in SWEEP_VALUES_BYTES {
        let pairs = (SWEEP_BYTES / (KEY_BYTES + value_bytes)).min(SWEEP_PAIRS_MAX) as u64;
        add(Kind::Sweep, pairs, value_bytes, &[Way::Cutover, Way::Hour]);
    }
    for pairs in GROWTH {
        add(Kind::Growth, pairs, GROWTH_VALUE_BYTES, &[Way::Cutover]);
    }
    for keyspaces in KEYSPACES {
        add(Kind::Keyspaces, keyspaces, KEYSPACES_VALUE_BYTES, &[Way::Cutover, Way::Hour]);
    }
    works.retain(|work| arguments.only.as_ref().is_none_or(|only| work.name.contains(only)));
    works
}
