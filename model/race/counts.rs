//! How much some migrations met, so that a test that met too little fails.

use std::fmt;
use std::ops::AddAssign;

/// What some migrations met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub migrations: usize,
    pub tries: usize,
    pub acknowledged: usize,
    /// Tries that had begun when their store was sealed, and had not ended.
    pub under_way: usize,
    /// Beginnings and copies that found a store in use, and were tried again.
    pub refused: usize,
    pub places: [usize; 3],
    pub woken: [usize; 4],
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.migrations += other.migrations;
        self.tries += other.tries;
        self.acknowledged += other.acknowledged;
        self.under_way += other.under_way;
        self.refused += other.refused;
        self.places.iter_mut().zip(other.places).for_each(|(all, one)| *all += one);
        self.woken.iter_mut().zip(other.woken).for_each(|(all, one)| *all += one);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { migrations, tries, acknowledged, under_way, refused, places, woken } = self;
        write!(
            f,
            "{migrations} migrations, refused {refused} times before; {tries} tries, \
             {acknowledged} acknowledged, {under_way} under way at the seal; suspended \
             {} outside, {} waiting for the lock, {} with the store open; woken {} once sealed, \
             {} while copying, {} once committed, {} once live",
            places[0], places[1], places[2], woken[0], woken[1], woken[2], woken[3]
        )
    }
}
