//! The copy's loop.

use super::Digest;
use super::ahead::{self, End, Queue, Rest, StoppedWhenDropped};
use super::quarantine::{Counted, Quarantine, Written};
use crate::error::{Cause, Mismatch, on_one_line};
use crate::mapping::{Keyspace, MappingError, Rows, Table};
use crate::observer::{Observer, Pace, Phase};
use crate::protocol::record::{KeyspaceRecorded, Record, quarantine_name};
use crate::source::Store;
use crate::sql::{Copying, StepError};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// While the count of a keyspace is waited for, the observer is asked this often whether to stop.
const CANCEL_ASKED: Duration = Duration::from_millis(100);

/// A refused pair is named by this many bytes of its key.
const KEY_BYTES_SHOWN: usize = 32;

/// One keyspace to copy, and where from; no store where its source was missing.
pub(crate) struct Job<'a> {
    pub(crate) source: &'a str,
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) store: Option<&'a Store>,
    /// This many pairs of the source may go into quarantine.
    pub(crate) quarantine: u64,
    /// Where refused pairs are counted, and neither kept nor in the way.
    pub(crate) counted: Option<&'a Counted>,
}

impl Job<'_> {
    /// Whether its refused pairs are kept.
    pub(super) const fn keeps(&self) -> bool {
        self.counted.is_none() && self.quarantine > 0
    }
}

/// A pair at about the middle of a keyspace: its key, and its number.
#[derive(Debug)]
pub(crate) struct Middle {
    pub(super) key: Vec<u8>,
    pub(super) pairs: u64,
}

/// What a call has copied of a keyspace.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// The middle of the keyspace, where it is among what was copied.
    pub(crate) middle: Option<Middle>,
    /// How long it took; a chunk's commit is shared by its keyspaces.
    pub(crate) spent: Duration,
}

/// A keyspace is taken for this many bytes when a chunk is filled, besides those of its pairs: its table
/// takes a page, and its fence is taken down and put up again. So a chunk of 64 MiB has at most 4,096
/// keyspaces, and a small one has one.
const KEYSPACE_BYTES: usize = 16 * 1024;

/// A pair that was not read yet is taken for this many bytes: few, since what it is taken for only decides
/// which fences are taken down together.
const PAIR_BYTES: u64 = 64;

/// Copies what is not copied yet, chunk by chunk; each is durable when the observer hears of it.
/// `jobs` are the record's keyspaces, in its order. Stores are read on a thread of their own; rows
/// are written, and mappings called, on this one. On another thread their keys are counted, and a
/// keyspace is done once it has as many pairs as were read. Returns what it copied of each keyspace.
pub(crate) fn copy(
    mut copying: Copying,
    jobs: &[Job<'_>],
    chunk_bytes: usize,
    observer: &mut dyn Observer,
) -> Result<Vec<Part>, StepError> {
    let expected = expected(jobs)?;
    let keyspaces = &copying.record().keyspaces;
    let mut done =
        keyspaces.iter().fold((0, 0), |(pairs, bytes), k| (pairs + k.pairs, bytes + k.bytes));
    let mut quarantined: BTreeMap<&str, u64> = BTreeMap::new();
    for (job, keyspace) in jobs.iter().zip(keyspaces) {
        *quarantined.entry(job.source).or_default() += keyspace.quarantined;
    }
    let pace = Pace::new(Phase::Copying, done, Some(expected.iter().sum()));
    let mut parts: Vec<Part> = jobs.iter().map(|_| Part::default()).collect();
    let groups = groups(&copying, &expected, chunk_bytes);
    let (plan, target) = (copying.record().plan.clone(), copying.path().to_owned());
    let queue = Queue::default();
    let (counts, counted) = mpsc::channel();
    let stopped = AtomicBool::new(false);
    let rests = rests(&copying, jobs, &groups);
    thread::scope(|scope| {
        // However this ends, the reader does too, and who counts.
        let _ends = (queue.closed_when_dropped(), StoppedWhenDropped(&stopped));
        let (queue, rests, stopped) = (&queue, &rests, &stopped);
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        named("cutover reads")
            .spawn_scoped(scope, move || ahead::read(rests, chunk_bytes, KEYSPACE_BYTES, queue))
            .and_then(|_| {
                named("cutover counts")
                    .spawn_scoped(scope, move || ahead::count(rests, &counts, stopped))
            })
            .map_err(Cause::io("start a thread that reads for", copying.path()))?;
        for group in groups {
            let mut left: Vec<(usize, Vec<Table>)> = group
                .into_iter()
                .filter_map(|at| Some((at, jobs.get(at)?.keyspace.mapping.tables())))
                .collect();
            while !left.is_empty() {
                if observer.cancelled() {
                    return Err(Cause::Cancelled.into());
                }
                let keeps = left.iter().any(|(at, _)| jobs.get(*at).is_some_and(Job::keeps));
                let mut full = None;
                let mut miscounted = None;
                let mut written: Vec<(usize, u64, u64)> = Vec::new();
                let (began, mut busy) = (Instant::now(), Duration::ZERO);
                copying = copying
                    .chunk(&left, keeps, |rows, at, keyspace| {
                        let (Some(job), Some(part)) = (jobs.get(at), parts.get_mut(at)) else {
                            return Err(Cause::RecordChanged(target.clone()));
                        };
                        let began = Instant::now();
                        let before = (keyspace.pairs, keyspace.bytes, keyspace.quarantined);
                        let taken = quarantined.entry(job.source).or_default();
                        let quarantine = Quarantine::of(job, &plan, *taken);
                        let half = expected.get(at).copied().unwrap_or(0) / 2;
                        let end =
                            write_chunk(job, rows, keyspace, quarantine, queue, |key, pairs| {
                                if part.middle.is_none() && pairs >= half {
                                    part.middle = Some(Middle { key: key.to_vec(), pairs });
                                }
                            })?;
                        *taken += keyspace.quarantined - before.2;
                        written.push((at, keyspace.pairs - before.0, keyspace.bytes - before.1));
                        part.spent += began.elapsed();
                        busy += began.elapsed();
                        match end {
                            Stopped::Chunk if !keyspace.done => Ok(ControlFlow::Break(())),
                            Stopped::Chunk | Stopped::Keyspace => {
                                let counted = awaited(&counted, &|| observer.cancelled())
                                    .ok_or(Cause::Cancelled)??;
                                if keyspace.pairs != counted {
                                    miscounted = Some((job, counted, keyspace.pairs));
                                    // Nothing of this chunk stays.
                                    return Err(Cause::Cancelled);
                                }
                                Ok(match end {
                                    Stopped::Keyspace => ControlFlow::Continue(()),
                                    Stopped::Chunk | Stopped::Full(..) => ControlFlow::Break(()),
                                })
                            }
                            Stopped::Full(key, reason) => {
                                full = Some((job, key, reason));
                                Ok(ControlFlow::Break(()))
                            }
                        }
                    })
                    .map_err(|error| match miscounted.take() {
                        Some((job, counted, read)) => miscount(job, counted, read),
                        None => error,
                    })?;
                // What went into quarantine before it is durable and can be looked at.
                if let Some((job, key, reason)) = full {
                    return Err(quarantine_full(job, copying.record(), &key, &reason).into());
                }
                let shared = began.elapsed().saturating_sub(busy)
                    / written.len().try_into().unwrap_or(u32::MAX).max(1);
                for (at, pairs, bytes) in written {
                    done = (done.0 + pairs, done.1 + bytes);
                    if let (Some(job), Some(part)) = (jobs.get(at), parts.get_mut(at)) {
                        part.spent += shared;
                        let (source, keyspace) = (job.source, job.keyspace.name.as_str());
                        tracing::debug!(source, keyspace, "a chunk is durable");
                        observer.progress(&pace.at(source, keyspace, done));
                    }
                }
                left.retain(|(at, _)| is_unfinished(&copying, *at));
            }
        }
        Ok(parts)
    })
}

/// The next count, once it is there; none where the observer has `cancelled`. Who counts ends early where
/// it panics, which ends this thread, too.
fn awaited<T>(counted: &Receiver<T>, cancelled: &dyn Fn() -> bool) -> Option<T> {
    loop {
        match counted.recv_timeout(CANCEL_ASKED) {
            Ok(counted) => return Some(counted),
            Err(RecvTimeoutError::Timeout) if !cancelled() => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        }
    }
}

fn is_unfinished(copying: &Copying, at: usize) -> bool {
    copying.record().keyspaces.get(at).is_some_and(|keyspace| !keyspace.done)
}

/// The places of the keyspaces that are not copied to their ends, in groups of which one chunk may hold
/// all: the fences of a group are taken down together, so it must be known before its pairs are read.
fn groups(copying: &Copying, expected: &[u64], chunk_bytes: usize) -> Vec<Vec<usize>> {
    let chunk_bytes = chunk_bytes as u64;
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut bytes = 0_u64;
    for (at, pairs) in expected.iter().enumerate().filter(|(at, _)| is_unfinished(copying, *at)) {
        match groups.last_mut() {
            Some(group) if bytes < chunk_bytes => group.push(at),
            Some(_) | None => {
                bytes = 0;
                groups.push(vec![at]);
            }
        }
        bytes = bytes
            .saturating_add(KEYSPACE_BYTES as u64)
            .saturating_add(pairs.saturating_mul(PAIR_BYTES));
    }
    groups
}

/// What the record says is missing of each job.
fn rests<'a>(copying: &Copying, jobs: &[Job<'a>], groups: &[Vec<usize>]) -> Vec<Rest<'a>> {
    let keyspaces = &copying.record().keyspaces;
    let rests = groups.iter().flat_map(|group| {
        group.iter().filter_map(|&at| {
            let job = jobs.get(at)?;
            Some(Rest {
                store: job.store,
                keyspace: &job.keyspace.name,
                after: keyspaces.get(at)?.cursor.clone(),
                ends_group: group.last() == Some(&at),
            })
        })
    });
    rests.collect()
}

/// About how many pairs each of `jobs` has.
fn expected(jobs: &[Job<'_>]) -> Result<Vec<u64>, Cause> {
    let pairs = |job: &Job<'_>| {
        let found = job.store.map(|store| store.approximate_pairs(&job.keyspace.name)).transpose();
        found.map(|pairs| pairs.flatten().unwrap_or(0))
    };
    jobs.iter().map(pairs).collect()
}

/// Where the writing of a keyspace stopped.
enum Stopped {
    /// At a chunk's end.
    Chunk,
    /// At its own end; the chunk goes on.
    Keyspace,
    /// At the pair with this key, which is refused for this reason and finds no room in quarantine.
    Full(Vec<u8>, String),
}

/// Writes up to a chunk's end, or the keyspace's.
fn write_chunk(
    job: &Job<'_>,
    rows: &Rows<'_>,
    keyspace: &mut KeyspaceRecorded,
    mut quarantine: Option<Quarantine<'_>>,
    queue: &Queue,
    mut passed: impl FnMut(&[u8], u64),
) -> Result<Stopped, Cause> {
    let mut digest = recorded(keyspace);
    loop {
        // A reader that ended before its keyspaces did has panicked, which ends this thread, too.
        let mut batch = queue.pop().unwrap_or(Err(Cause::Cancelled))?;
        let pairs = batch.pairs();
        let key_at = |at: usize| pairs.get(at).map_or(&[] as &[u8], |(key, _)| *key);
        let mapping = job.keyspace.mapping.as_ref();
        let written = match &mut quarantine {
            Some(quarantine) => quarantine.write(job, rows, &pairs),
            None => mapping.write_many(rows, &pairs).map(|()| Written::all(&pairs)),
        };
        let written = written.map_err(|(at, error)| refused(job, rows, key_at(at), error))?;
        keyspace.quarantined += written.quarantined;
        if let Some(reason) = written.refused {
            for (key, value) in pairs.iter().take(written.pairs) {
                digest.add(key, value);
            }
            digest.record(keyspace);
            if let Some(last) = written.pairs.checked_sub(1) {
                keyspace.cursor = Some(key_at(last).to_vec());
            }
            return Ok(Stopped::Full(key_at(written.pairs).to_vec(), reason));
        }
        keyspace.cursor = pairs.last().map(|(key, _)| key.to_vec()).or(keyspace.cursor.take());
        digest.join(batch.digest);
        if let Some((key, _)) = pairs.last() {
            passed(key, digest.pairs);
        }
        let end = batch.end.take();
        queue.give_back(batch);
        let Some(end) = end else { continue };
        digest.record(keyspace);
        (keyspace.done, keyspace.cursor) = match end {
            End::Chunk => (false, keyspace.cursor.take()),
            End::Keyspace { .. } => (true, None),
        };
        return Ok(match end {
            End::Chunk | End::Keyspace { chunk: true } => Stopped::Chunk,
            End::Keyspace { chunk: false } => Stopped::Keyspace,
        });
    }
}

/// What was read of a keyspace is not all that is in it, or more.
fn miscount(job: &Job<'_>, counted: u64, read: u64) -> StepError {
    StepError::Mismatch(Box::new(Mismatch {
        source_name: job.source.to_owned(),
        keyspace: job.keyspace.name.clone(),
        side: "what was read from the store".to_owned(),
        expected_pairs: counted,
        found_pairs: read,
        next: "its last chunk was not written; abort, and begin again".to_owned(),
    }))
}

/// The record was decoded, and decoding checks its digests.
pub(super) fn recorded(keyspace: &KeyspaceRecorded) -> Digest {
    Digest::recorded(keyspace).unwrap_or_default()
}

fn refused(job: &Job<'_>, rows: &Rows<'_>, key: &[u8], error: MappingError) -> Cause {
    match error {
        MappingError::Refused(reason) => Cause::PairRefused {
            name: job.source.to_owned(),
            keyspace: job.keyspace.name.clone(),
            key: shown(key),
            reason: on_one_line(&reason),
        },
        MappingError::Engine(message) => rows.failed("write a row into", message),
        MappingError::Cancelled => Cause::Cancelled,
    }
}

fn quarantine_full(job: &Job<'_>, record: &Record, key: &[u8], reason: &str) -> Cause {
    Cause::QuarantineFull {
        name: job.source.to_owned(),
        keyspace: job.keyspace.name.clone(),
        key: shown(key),
        reason: on_one_line(reason),
        quarantined: record.quarantined(job.source),
        table: quarantine_name(&record.plan),
    }
}

pub(super) fn shown(key: &[u8]) -> String {
    match key.get(..KEY_BYTES_SHOWN) {
        Some(start) if key.len() > KEY_BYTES_SHOWN => {
            format!("{}... ({} bytes)", hex::encode(start), key.len())
        }
        Some(_) | None => hex::encode(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_whole_unless_it_is_long() {
        assert_eq!(shown(&[]), "");
        assert_eq!(shown(&[0xab, 1]), "ab01");
        assert_eq!(shown(&[7; KEY_BYTES_SHOWN]), "07".repeat(KEY_BYTES_SHOWN));
        let long = format!("{}... (33 bytes)", "07".repeat(KEY_BYTES_SHOWN));
        assert_eq!(shown(&[7; KEY_BYTES_SHOWN + 1]), long);
    }

    #[test]
    fn a_count_is_waited_for_as_long_as_it_takes_and_nobody_stops() {
        let (counts, counted) = mpsc::channel();
        let late = thread::spawn(move || {
            thread::sleep(3 * CANCEL_ASKED);
            counts.send(7).unwrap();
            counts
        });
        assert_eq!(awaited(&counted, &|| false), Some(7));
        // It may come at any time, and is not waited for.
        let counts = late.join().unwrap();
        assert_eq!(awaited(&counted, &|| true), None);
        drop(counts);
        assert_eq!(awaited(&counted, &|| false), None, "who counts has ended");
    }
}
