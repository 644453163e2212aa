//! What an observer is told while stores and rows are read.

use crate::common::{Pairs, small_plan_builder, small_store, write_store};
use cutover::{Found, Observer, Phase, Progress};

/// As many pairs as are read between two lines.
const BETWEEN: u32 = 50_000;

#[derive(Default)]
struct Told(Vec<Progress>);

impl Observer for Told {
    fn progress(&mut self, progress: &Progress) {
        self.0.push(progress.clone());
    }
}

impl Told {
    /// The pairs of each line of `phase`: all, and those since its pace began.
    fn pairs(&self, phase: Phase) -> Vec<(u64, u64)> {
        let of_phase = self.0.iter().filter(|progress| progress.phase == phase);
        of_phase.map(|progress| (progress.pairs, progress.pairs_here)).collect()
    }
}

#[test]
fn an_end_is_told_once_and_the_pace_of_counting_begins_where_a_store_is_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let pairs = (0..2 * BETWEEN).map(|i| (i.to_be_bytes().to_vec(), vec![7])).collect();
    write_store(&folder.path().join("accounts"), &Pairs::from([("first".to_owned(), pairs)]));
    write_store(&folder.path().join("sessions"), &small_store(2, 20));
    let all = [50_000, 100_000, 100_020, 100_040];

    // In few chunks.
    let plan = small_plan_builder(folder.path()).chunk_bytes(1 << 20).build().expect("a plan");
    let mut told = Told::default();
    cutover::preview(&plan, &mut told).expect("a preview");
    let since_open = [50_000, 100_000, 20, 40];
    let counted: Vec<(u64, u64)> = all.into_iter().zip(since_open).collect();
    assert_eq!(told.pairs(Phase::Counting), counted);

    let mut told = Told::default();
    drop(cutover::sql(&plan, &mut told).expect("SQL"));
    let found = all.map(|pairs| (pairs, pairs));
    assert_eq!(told.pairs(Phase::Verifying), found);
    let Found::Tombstoned(mut handle) = cutover::open(&plan).expect("opens") else {
        panic!("not live")
    };
    let mut told = Told::default();
    crate::daemon::is_whole(&mut handle, &mut told);
    assert_eq!(told.pairs(Phase::Verifying), found);
    assert_eq!(told.pairs(Phase::Rereading), found);
}
