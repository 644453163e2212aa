//! The verification: rows are read back, and compared with what was read from the stores.

use super::Digest;
use super::quarantine::Kept;
use super::run::{Middle, recorded};
use crate::error::{Cause, Mismatch, on_one_line};
use crate::mapping::{Mapping, MappingError, Part, Rows, Split};
use crate::observer::{Observer, Pace, Phase};
use crate::protocol::record::KeyspaceRecorded;
use crate::source::Store;
use crate::sql::{StepError, Target};
use crate::verified::Compared;
use rusqlite::Connection;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

/// Pairs between two looks at the observer.
const VERIFY_PAIRS: u64 = 50_000;

/// Where a mismatch was found.
const QUARANTINE: &str = "the quarantine of the SQL database";
const DATABASE: &str = "the SQL database";

/// What is smaller is read back on one thread.
const PARTS_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// A keyspace that is copied, and what reads its rows back.
pub(crate) struct Copied<'a> {
    pub(crate) keyspace: &'a KeyspaceRecorded,
    pub(crate) mapping: &'a dyn Mapping,
    pub(crate) middle: Option<&'a Middle>,
}

impl Copied<'_> {
    /// Where the verification divides it, if that is worth a second connection.
    fn split(&self) -> Option<Split<'_>> {
        let middle = self.middle.filter(|_| self.keyspace.bytes >= PARTS_BYTES_MIN)?;
        Some(Split::new(&middle.key, middle.pairs))
    }
}

/// Re-reads the target over new connections, its quarantine too, and compares every keyspace with what
/// was read from its source (I-2). Mappings may be called from two threads at once.
pub(crate) fn verify(
    target: &Target,
    quarantine: Option<&str>,
    copied: &[Copied<'_>],
    observer: &mut dyn Observer,
) -> Result<Digest, StepError> {
    let mut reading = Reading::new(target, quarantine, copied)?;
    let known: Vec<_> = copied.iter().map(|copied| copied.keyspace).collect();
    if let Some((source, keyspace, pairs)) = reading.kept.strangers(&known).next() {
        return Err(mismatch(source, keyspace, QUARANTINE, 0, pairs));
    }
    for copied in copied {
        let found = reading.keyspace(copied, observer)?;
        let keyspace = copied.keyspace;
        let (expected, in_quarantine) = (keyspace.quarantined, reading.kept.of(keyspace));
        if in_quarantine != expected {
            let (source, keyspace) = (&keyspace.source, &keyspace.keyspace);
            return Err(mismatch(source, keyspace, QUARANTINE, expected, in_quarantine));
        }
        let expected = recorded(keyspace);
        if found != expected {
            let (source, keyspace) = (&keyspace.source, &keyspace.keyspace);
            return Err(mismatch(source, keyspace, DATABASE, expected.pairs, found.pairs));
        }
    }
    Ok(reading.total)
}

/// Re-reads a target that is live, and says of every keyspace whether it still is what was copied; and
/// names, with its pairs, each keyspace in quarantine that is none of those.
///
/// # Errors
///
/// [`Cause::Cancelled`] alone.
#[expect(clippy::type_complexity, reason = "two lists, each used once")]
pub(crate) fn compare_target(
    target: &Target,
    quarantine: Option<&str>,
    copied: &[Copied<'_>],
    observer: &mut dyn Observer,
) -> Result<(Vec<Compared>, Vec<(String, String, u64)>), Cause> {
    let unread = |error: StepError| match error {
        StepError::Failed(Cause::Cancelled) => Err(Cause::Cancelled),
        StepError::Failed(Cause::RowRefused { reason, .. }) => {
            Ok(Compared::Differs { how: format!("a row can't be read back: {reason}") })
        }
        // What goes before the commit point is no advice here.
        StepError::Failed(Cause::Engine { message, .. }) => Ok(Compared::Unread {
            reason: format!(
                "SQLite failed to read back the rows: {message}; look at the disk and the table's definition and run this again"
            ),
        }),
        StepError::Failed(cause) | StepError::Unknown(cause) => {
            Ok(Compared::Unread { reason: cause.to_string() })
        }
        StepError::Mismatch(mismatch) => Ok(Compared::Differs { how: mismatch.to_string() }),
    };
    let reading = target.reader().map_err(StepError::from).and_then(|connection| {
        // Without its table none is in quarantine any more, and each keyspace that had some says so.
        let quarantine = quarantine.filter(|table| has_table(&connection, table));
        Reading::new(target, quarantine, copied)
    });
    let mut reading = match reading {
        Ok(reading) => reading,
        Err(error) => return Ok((vec![unread(error)?; copied.len()], Vec::new())),
    };
    let mut compared = Vec::new();
    for copied in copied {
        if !copied.keyspace.tables.iter().all(|table| has_table(&reading.first, table)) {
            compared.push(Compared::Missing);
            continue;
        }
        compared.push(match reading.keyspace(copied, observer) {
            Ok(found) if reading.kept.of(copied.keyspace) == copied.keyspace.quarantined => {
                compare(copied.keyspace, found)
            }
            Ok(found) => Compared::Changed { pairs: found.pairs, bytes: found.bytes },
            Err(error) => unread(error)?,
        });
    }
    let known: Vec<_> = copied.iter().map(|copied| copied.keyspace).collect();
    let strangers = reading.kept.strangers(&known);
    let strangers =
        strangers.map(|(source, keyspace, pairs)| (source.into(), keyspace.into(), pairs));
    Ok((compared, strangers.collect()))
}

/// Reads back what a target holds, keyspace after keyspace.
struct Reading<'a> {
    target: &'a Target,
    first: Connection,
    second: Option<Connection>,
    kept: Kept<'a>,
    pace: Pace,
    total: Digest,
}

impl<'a> Reading<'a> {
    fn new(
        target: &'a Target,
        quarantine: Option<&'a str>,
        copied: &[Copied<'_>],
    ) -> Result<Self, StepError> {
        let first = target.reader()?;
        let in_parts = copied.iter().any(|copied| copied.split().is_some());
        let second = if in_parts { Some(target.reader()?) } else { None };
        let rows = Rows::new(&first);
        let kept = quarantine.map(|table| Kept::look(&rows, table)).transpose();
        let kept = kept.map_err(|error| unread(target, None, error))?.unwrap_or_default();
        let pairs_expected = copied.iter().map(|copied| copied.keyspace.pairs).sum();
        let pace = Pace::new(Phase::Verifying, (0, 0), Some(pairs_expected));
        Ok(Self { target, first, second, kept, pace, total: Digest::default() })
    }

    /// The digest of a keyspace's rows, with those that are in quarantine.
    fn keyspace(
        &mut self,
        copied: &Copied<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Digest, StepError> {
        let Self { target, first, second, kept, pace, total } = self;
        let keyspace = copied.keyspace;
        let mut tell = teller(keyspace, (total.pairs, total.bytes), pace, observer);
        let found = read_back(copied, first, second.as_mut(), &mut tell)
            .and_then(|mut found| {
                kept.read_back(&Rows::new(first), keyspace, &mut |key, value| {
                    found.add(key, value);
                    Ok(())
                })?;
                Ok(found)
            })
            .map_err(|error| unread(target, Some(keyspace), error))?;
        tell(&found);
        total.join(found);
        Ok(found)
    }
}

/// Whether a table is there; what can't be looked at fails where it is read.
fn has_table(connection: &Connection, table: &str) -> bool {
    connection.table_exists(None, table).unwrap_or(true)
}

/// Tells how much of a keyspace is found, after what was found `before` it, and asks whether to stop.
fn teller<'a>(
    keyspace: &'a KeyspaceRecorded,
    before: (u64, u64),
    pace: &'a Pace,
    observer: &'a mut dyn Observer,
) -> impl FnMut(&Digest) -> bool + 'a {
    let mut tell = pace.teller(&keyspace.source, &keyspace.keyspace, before, observer);
    move |found| tell(found.pairs, found.bytes)
}

/// Reads a keyspace's rows back, in two parts at once where that can be.
fn read_back(
    copied: &Copied<'_>,
    first: &Connection,
    second: Option<&mut Connection>,
    tell: &mut dyn FnMut(&Digest) -> bool,
) -> Result<Digest, MappingError> {
    if let (Some(split), Some(second)) = (copied.split(), second)
        && let Some(found) = read_parts(copied.mapping, split, first, second, tell)?
    {
        return Ok(found);
    }
    let mut found = Digest::default();
    copied.mapping.read_back(&Rows::new(first), &mut |key, value| {
        found.add(key, value);
        if found.pairs.is_multiple_of(VERIFY_PAIRS) && tell(&found) {
            return Err(MappingError::Cancelled);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The digest of both parts; none where the mapping can't read its rows in parts.
fn read_parts(
    mapping: &dyn Mapping,
    split: Split<'_>,
    first: &Connection,
    second: &mut Connection,
    tell: &mut dyn FnMut(&Digest) -> bool,
) -> Result<Option<Digest>, MappingError> {
    let stop = &AtomicBool::new(false);
    let (sender, behind_so_far) = mpsc::channel();
    let read_behind = move || {
        let second: &mut Connection = second;
        let mut found = Digest::default();
        let read = mapping.read_back_part(
            &Rows::new(second),
            Part::Behind(split),
            &mut |key, value| {
                found.add(key, value);
                if found.pairs.is_multiple_of(VERIFY_PAIRS) {
                    let _ = sender.send(found);
                    if stop.load(Ordering::Relaxed) {
                        return Err(MappingError::Cancelled);
                    }
                }
                Ok(())
            },
        )?;
        Ok(read.then_some(found))
    };
    thread::scope(|scope| {
        let reader = thread::Builder::new().name("cutover verifies".to_owned());
        // Where there is no room for a thread, this one reads it all.
        let Ok(reader) = reader.spawn_scoped(scope, read_behind) else { return Ok(None) };
        let mut through = Digest::default();
        let mut behind = Digest::default();
        let mut cancelled = |through: &Digest, behind: &Digest| {
            let mut both = *through;
            both.join(*behind);
            let cancelled = tell(&both);
            stop.fetch_or(cancelled, Ordering::Relaxed);
            cancelled
        };
        let read =
            mapping.read_back_part(&Rows::new(first), Part::Through(split), &mut |key, value| {
                through.add(key, value);
                if through.pairs.is_multiple_of(VERIFY_PAIRS) {
                    behind = behind_so_far.try_iter().last().unwrap_or(behind);
                    if cancelled(&through, &behind) {
                        return Err(MappingError::Cancelled);
                    }
                }
                Ok(())
            });
        stop.fetch_or(!matches!(read, Ok(true)), Ordering::Relaxed);
        for behind in &behind_so_far {
            cancelled(&through, &behind);
        }
        let behind: Result<Option<Digest>, MappingError> =
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if !read? {
            return Ok(None);
        }
        Ok(behind?.map(|behind| {
            through.join(behind);
            through
        }))
    })
}

/// Re-reads a keyspace of a store and compares it with what was read from it before.
pub(crate) fn digest_source(
    store: &Store,
    keyspace: &KeyspaceRecorded,
    (before, pace): ((u64, u64), &Pace),
    observer: &mut dyn Observer,
) -> Result<Compared, Cause> {
    let mut found = Digest::default();
    let mut tell = teller(keyspace, before, pace, observer);
    store.visit(&keyspace.keyspace, None, &mut |key, value| {
        found.add(key, value);
        if found.pairs.is_multiple_of(VERIFY_PAIRS) && tell(&found) {
            return Err(Cause::Cancelled);
        }
        Ok(true)
    })?;
    tell(&found);
    Ok(compare(keyspace, found))
}

fn compare(keyspace: &KeyspaceRecorded, found: Digest) -> Compared {
    if found == recorded(keyspace) {
        Compared::Same
    } else {
        Compared::Changed { pairs: found.pairs, bytes: found.bytes }
    }
}

fn mismatch(source: &str, keyspace: &str, side: &str, expected: u64, found: u64) -> StepError {
    StepError::Mismatch(Box::new(Mismatch {
        source_name: source.to_owned(),
        keyspace: keyspace.to_owned(),
        side: side.to_owned(),
        expected_pairs: expected,
        found_pairs: found,
        next:
            "the commit point has not passed; find out what changed it and run this again, or abort"
                .to_owned(),
    }))
}

/// Why rows, of `keyspace` where it is one's, can't be read back.
pub(crate) fn unread(
    target: &Target,
    keyspace: Option<&KeyspaceRecorded>,
    error: MappingError,
) -> StepError {
    let (message, next) = match (error, keyspace) {
        (MappingError::Refused(reason), Some(keyspace)) => {
            return Cause::RowRefused {
                name: keyspace.source.clone(),
                keyspace: keyspace.keyspace.clone(),
                path: target.path.clone(),
                reason: on_one_line(&reason),
            }
            .into();
        }
        (MappingError::Refused(reason), None) => (reason, "abort, or restore the table"),
        (MappingError::Engine(reason), _) => {
            (reason, "abort, or look at the disk and run this again")
        }
        (MappingError::Cancelled, _) => return Cause::Cancelled.into(),
    };
    let (what, path) = ("read back the rows in", target.path.clone());
    Cause::Engine { engine: "SQLite", what, path, message, next }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Table;

    /// Pairs of the part up to the split and of the other, and how the first ends; none has no end.
    struct Numbers {
        through: Option<u64>,
        ends: Result<bool, MappingError>,
        behind: Option<u64>,
    }

    /// A part without an end is stopped long before this.
    const NOBODY_STOPS: u64 = 4_000 * VERIFY_PAIRS;

    impl Mapping for Numbers {
        fn name(&self) -> &'static str {
            "numbers"
        }

        fn tables(&self) -> Vec<Table> {
            Vec::new()
        }

        fn write(&self, _: &Rows<'_>, _: &[u8], _: &[u8]) -> Result<(), MappingError> {
            Ok(())
        }

        fn read_back(
            &self,
            _: &Rows<'_>,
            _: &mut crate::mapping::Visit<'_>,
        ) -> Result<(), MappingError> {
            Ok(())
        }

        fn read_back_part(
            &self,
            _: &Rows<'_>,
            part: Part<'_>,
            visit: &mut crate::mapping::Visit<'_>,
        ) -> Result<bool, MappingError> {
            let (pairs, ends) = match part {
                Part::Through(_) => (self.through, self.ends.clone()),
                Part::Behind(_) => (self.behind, Ok(true)),
            };
            for number in 0..pairs.unwrap_or(u64::MAX) {
                assert!(number < NOBODY_STOPS, "nobody stopped it");
                visit(&number.to_be_bytes(), &[])?;
            }
            ends
        }
    }

    fn read(
        numbers: &Numbers,
        tell: &mut dyn FnMut(&Digest) -> bool,
    ) -> Result<Option<Digest>, MappingError> {
        let first = Connection::open_in_memory().unwrap();
        let mut second = Connection::open_in_memory().unwrap();
        read_parts(numbers, Split::new(b"", 0), &first, &mut second, tell)
    }

    #[test]
    fn i2_the_part_that_takes_longer_is_read_to_its_end_and_both_are_told_of() {
        let many = 30 * VERIFY_PAIRS;
        for (through, behind) in [(1, many), (many, 1), (2 * VERIFY_PAIRS, 3 * VERIFY_PAIRS)] {
            let numbers = Numbers { through: Some(through), ends: Ok(true), behind: Some(behind) };
            let mut last = 0;
            let found = read(&numbers, &mut |found| {
                assert!(found.pairs >= last, "it goes back");
                last = found.pairs;
                false
            });
            let found = found.unwrap().unwrap();
            let mut expected = Digest::default();
            for part in [through, behind] {
                (0..part).for_each(|number| expected.add(&number.to_be_bytes(), &[]));
            }
            assert_eq!(found, expected);
            assert!(last + 2 * VERIFY_PAIRS > through + behind, "{last}");
        }
    }

    /// Nobody waits for the rest of what is of no use any more.
    #[test]
    fn a_part_is_stopped_where_the_other_fails_can_t_be_read_or_is_told_to_stop() {
        let refused = MappingError::Refused("this row".to_owned());
        let with = |through, ends| Numbers { through, ends, behind: None };
        let go_on = &mut |_: &Digest| false;
        assert_eq!(read(&with(Some(3), Err(refused.clone())), go_on), Err(refused));
        assert_eq!(read(&with(Some(0), Ok(false)), go_on), Ok(None));
        for numbers in [with(None, Ok(true)), with(Some(3), Ok(true))] {
            let mut asked = 0;
            let stopped = read(&numbers, &mut |_| {
                asked += 1;
                true
            });
            assert_eq!(stopped, Err(MappingError::Cancelled));
            assert!(asked > 0);
        }
    }
}
