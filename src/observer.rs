//! What a migration tells while it works, and how it is asked to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a migration is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The pairs of the stores are being counted, for a preview.
    Counting,
    /// Rows are being written to the target.
    Copying,
    /// The target is being re-read.
    Verifying,
    /// The retired stores are being re-read, when a live target is verified.
    Rereading,
}

/// How far a phase is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// The source's name.
    pub source: String,
    /// The keyspace's name.
    pub keyspace: String,
    /// Pairs done in this phase, over all keyspaces, earlier attempts' chunks included.
    pub pairs: u64,
    /// Bytes of keys and values done in this phase.
    pub bytes: u64,
    /// All pairs: fjall's own estimate while counting and copying, exact afterwards.
    pub pairs_expected: Option<u64>,
    /// How long this call has been at this phase.
    pub elapsed: Duration,
    /// Of the pairs, those that this call did; the others were there when it went on.
    pub pairs_here: u64,
    /// Of the bytes, those that this call did.
    pub bytes_here: u64,
}

impl Progress {
    /// The speed of this call since the phase began; none before any time has passed.
    #[must_use]
    pub fn pairs_per_second(&self) -> Option<u64> {
        per_second(self.pairs_here, self.elapsed)
    }

    /// As [`Progress::pairs_per_second`], in bytes of keys and values.
    #[must_use]
    pub fn bytes_per_second(&self) -> Option<u64> {
        per_second(self.bytes_here, self.elapsed)
    }

    /// How long the rest of the phase takes at this call's speed. None where it is not known: there
    /// is no estimate, or there are more pairs than it said, or this call has done none.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let left = self.pairs_expected?.checked_sub(self.pairs)?;
        let nanos = self.elapsed.as_nanos().checked_mul(u128::from(left))?;
        let nanos = nanos.checked_div(u128::from(self.pairs_here))?;
        u64::try_from(nanos).ok().map(Duration::from_nanos)
    }
}

fn per_second(count: u64, elapsed: Duration) -> Option<u64> {
    // At most 2^64 times 10^9, which is less than 2^94.
    let rate = (u128::from(count) * 1_000_000_000).checked_div(elapsed.as_nanos())?;
    u64::try_from(rate).ok()
}

/// When a phase began, and what was done of it before.
#[derive(Debug)]
pub(crate) struct Pace {
    phase: Phase,
    began: Instant,
    pairs_before: u64,
    bytes_before: u64,
    pairs_expected: Option<u64>,
}

impl Pace {
    /// A phase begins now; this many pairs and bytes of it were done by earlier calls.
    pub(crate) fn new(phase: Phase, before: (u64, u64), pairs_expected: Option<u64>) -> Self {
        let (pairs_before, bytes_before) = before;
        Self { phase, began: Instant::now(), pairs_before, bytes_before, pairs_expected }
    }

    /// How far it is; `done` counts what was done before, too.
    pub(crate) fn at(&self, source: &str, keyspace: &str, done: (u64, u64)) -> Progress {
        let (pairs, bytes) = done;
        Progress {
            phase: self.phase,
            source: source.to_owned(),
            keyspace: keyspace.to_owned(),
            pairs,
            bytes,
            pairs_expected: self.pairs_expected,
            elapsed: self.began.elapsed(),
            pairs_here: pairs.saturating_sub(self.pairs_before),
            bytes_here: bytes.saturating_sub(self.bytes_before),
        }
    }

    /// Tells how many pairs and bytes of a keyspace are done, after what was done `before` it, and asks
    /// whether to stop. The end may have been reported already.
    pub(crate) fn teller<'a>(
        &'a self,
        source: &'a str,
        keyspace: &'a str,
        before: (u64, u64),
        observer: &'a mut dyn Observer,
    ) -> impl FnMut(u64, u64) -> bool + 'a {
        let mut told = None;
        move |pairs, bytes| {
            let done = (before.0 + pairs, before.1 + bytes);
            if told.replace(done) != Some(done) {
                observer.progress(&self.at(source, keyspace, done));
            }
            observer.cancelled()
        }
    }
}

/// Called for each durable step and each chunk; asked whether to stop. All methods have a default.
///
/// Two observers in a tuple are one: both are called, and either may stop it. `()` watches nothing.
pub trait Observer {
    /// A chunk is durable, which is reported once for each keyspace that it holds a part of; or a part of the
    /// target has been re-read.
    fn progress(&mut self, progress: &Progress) {
        let _ = progress;
    }

    /// A durable step was done: its name, and what it was done to.
    fn step(&mut self, name: &str, subject: &str) {
        let _ = (name, subject);
    }

    /// Whether to stop before the next step or at the next chunk's end. The state is left as it is;
    /// run it again to go on. Once the commit point has passed, it is not asked any more.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Watches nothing and never stops.
impl Observer for () {}

impl<A: Observer, B: Observer> Observer for (A, B) {
    fn progress(&mut self, progress: &Progress) {
        self.0.progress(progress);
        self.1.progress(progress);
    }

    fn step(&mut self, name: &str, subject: &str) {
        self.0.step(name, subject);
        self.1.step(name, subject);
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled() || self.1.cancelled()
    }
}

/// An observer that stops a migration when somebody else says so: keep one clone, and hand the other
/// in, alone or beside an observer of your own.
///
/// ```no_run
/// # fn example(plan: cutover::Plan) -> Result<(), cutover::Error> {
/// let cancel = cutover::Cancel::new();
/// let connection = cutover::sql(&plan, &mut cancel.clone())?;
/// // Meanwhile, elsewhere: cancel.cancel();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// One that has not been asked to stop.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop, for good.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A flag that is set elsewhere, as by a handler of signals.
impl From<Arc<AtomicBool>> for Cancel {
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
}

impl Observer for Cancel {
    fn cancelled(&self) -> bool {
        self.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(pairs: u64, expected: Option<u64>, here: u64, elapsed: Duration) -> Progress {
        Progress {
            phase: Phase::Copying,
            source: "accounts".into(),
            keyspace: "first".into(),
            pairs,
            bytes: pairs * 10,
            pairs_expected: expected,
            elapsed,
            pairs_here: here,
            bytes_here: here * 10,
        }
    }

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn the_rate_and_the_time_left_are_of_this_call_s_own_pairs() {
        // 900 pairs were there when it went on.
        let resumed = progress(1000, Some(1500), 100, TEN);
        assert_eq!(resumed.pairs_per_second(), Some(10));
        assert_eq!(resumed.bytes_per_second(), Some(100));
        assert_eq!(resumed.time_left(), Some(Duration::from_secs(50)));
    }

    #[test]
    fn before_any_time_has_passed_there_is_no_rate() {
        let begun = progress(5, Some(10), 5, Duration::ZERO);
        assert_eq!((begun.pairs_per_second(), begun.bytes_per_second()), (None, None));
        assert_eq!(begun.time_left(), Some(Duration::ZERO));
    }

    #[test]
    fn what_can_not_be_told_of_the_time_left_is_none() {
        assert_eq!(progress(5, None, 5, TEN).time_left(), None, "no estimate");
        assert_eq!(progress(11, Some(10), 11, TEN).time_left(), None, "more than was estimated");
        assert_eq!(progress(5, Some(10), 0, TEN).time_left(), None, "nothing done yet");
        assert_eq!(progress(10, Some(10), 5, TEN).time_left(), Some(Duration::ZERO), "at the end");
    }

    #[test]
    fn no_numbers_make_the_arithmetic_panic() {
        for pairs in [0, 1, u64::MAX / 10] {
            for here in [0, 1, u64::MAX / 10] {
                let [no_time, an_instant, ages] =
                    [Duration::ZERO, Duration::from_nanos(1), Duration::MAX]
                        .map(|elapsed| progress(pairs, Some(u64::MAX), here, elapsed));
                assert_eq!(no_time.pairs_per_second(), None);
                // A rate of more than 64 bits is none.
                assert_eq!(an_instant.pairs_per_second().is_none(), here > 1);
                assert!(ages.bytes_per_second().is_some());
                assert_eq!(an_instant.time_left().is_none(), here == 0);
            }
        }
    }

    #[test]
    fn a_pace_tells_what_was_there_before_from_what_was_done_since() {
        let pace = Pace::new(Phase::Copying, (900, 9000), Some(1500));
        let told = pace.at("accounts", "first", (1000, 10_000));
        assert_eq!((told.pairs, told.bytes), (1000, 10_000));
        assert_eq!((told.pairs_here, told.bytes_here), (100, 1000));
        assert_eq!(told.pairs_expected, Some(1500));
    }

    #[test]
    fn two_observers_are_both_told_and_either_stops() {
        #[derive(Default)]
        struct Counts(usize);
        impl Observer for Counts {
            fn progress(&mut self, _: &Progress) {
                self.0 += 1;
            }
            fn step(&mut self, _: &str, _: &str) {
                self.0 += 10;
            }
        }
        let cancel = Cancel::new();
        let mut both = (Counts::default(), (Counts::default(), cancel.clone()));
        both.progress(&progress(1, None, 1, TEN));
        both.step("seal a source", "accounts");
        assert_eq!((both.0.0, both.1.0.0), (11, 11));
        assert!(!both.cancelled());
        cancel.cancel();
        assert!(both.cancelled() && cancel.is_cancelled());
    }
}
