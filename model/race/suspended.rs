//! Openers that are suspended wherever they are, and woken when a migration has come so far.

use super::holders::held_by;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// When a suspended opener is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Sealed,
    Copying,
    /// Between the commit point and the tombstones.
    Committed,
    Live,
}

const PHASES: [Phase; 4] = [Phase::Sealed, Phase::Copying, Phase::Committed, Phase::Live];

/// Where an opener was suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before or after its open, or in the part of it that comes before the lock.
    Outside,
    /// It has the lock's file open, and another has the lock.
    Waiting,
    Holding,
}

/// Numbers that follow from a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Sleeps for less than `end`.
    pub fn sleep(&mut self, end: Duration) {
        let micros = u64::try_from(end.as_micros()).expect("a short time").max(1);
        thread::sleep(Duration::from_micros(self.below(micros)));
    }
}

/// Processes that sleep until their phase.
pub struct Suspended {
    folder: PathBuf,
    asleep: Vec<(Pid, Phase)>,
    /// Whose phase comes next.
    next: usize,
    pub random: Random,
    /// How many were suspended at each place.
    pub places: [usize; 3],
    /// How many were woken at each phase.
    pub woken: [usize; 4],
}

impl Suspended {
    /// None yet, of those that open the stores in `folder`.
    pub fn new(folder: &Path, seed: u64) -> Self {
        let random = Random(seed);
        let next = usize::try_from(seed).expect("a small seed");
        Self {
            folder: folder.to_owned(),
            asleep: vec![],
            next,
            random,
            places: [0; 3],
            woken: [0; 4],
        }
    }

    /// Suspends `id`, if it is awake, until a phase that is another for each.
    pub fn suspend(&mut self, id: Pid) {
        if self.asleep.iter().any(|(asleep, _)| *asleep == id) {
            return;
        }
        kill_process(id, Signal::STOP).expect("our own child");
        while !is_stopped(id) {
            thread::yield_now();
        }
        let held = held_by(&id.to_string(), &self.folder);
        let place = match held.iter().find(|held| held.is_lock()) {
            None => Place::Outside,
            Some(held) if held.locked => Place::Holding,
            Some(_) => Place::Waiting,
        };
        self.places[place as usize] += 1;
        let phase = PHASES[self.next % PHASES.len()];
        self.next += 1;
        self.asleep.push((id, phase));
    }

    /// Wakes all whose phase has come.
    pub fn wake(&mut self, now: Phase) {
        let woken = self.asleep.extract_if(.., |(_, phase)| *phase <= now);
        for (id, _) in woken {
            kill_process(id, Signal::CONT).expect("our own child");
            self.woken[now as usize] += 1;
        }
    }

    /// Wakes all before their phases: one of them may be what a migration can't begin for.
    pub fn wake_early(&mut self) {
        for (id, _) in self.asleep.drain(..) {
            kill_process(id, Signal::CONT).expect("our own child");
        }
    }
}

/// A signal is on its way for a while.
fn is_stopped(id: Pid) -> bool {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).expect("our own child");
    // The name may have any character in it.
    text.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with(['T', 'Z']))
}
