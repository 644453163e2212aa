//! The copy's loop.

use super::ahead::{self, ChunkEnd, Queue, Rest};
use super::quarantine::{Counted, Quarantine, Written};
use super::{Digest, MappingError, Rows};
use crate::error::{Cause, on_one_line};
use crate::kv::Store;
use crate::observer::{Observer, Pace, Phase};
use crate::plan::Keyspace;
use crate::protocol::record::{KeyspaceRecorded, Record, quarantine_name};
use crate::sql::{Copying, StepError};
use std::thread;

/// A refused pair is named by so many bytes of its key.
const KEY_BYTES_SHOWN: usize = 32;

/// One keyspace to copy, and where from; no store where its source was missing.
pub(crate) struct Job<'a> {
    pub(crate) source: &'a str,
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) store: Option<&'a Store>,
    /// So many pairs of the source may go into quarantine.
    pub(crate) quarantine: u64,
    /// Where refused pairs are counted, and neither kept nor in the way.
    pub(crate) counted: Option<&'a Counted>,
}

/// A pair at about the middle of a keyspace: its key, and its number.
#[derive(Debug)]
pub(crate) struct Middle {
    pub(super) key: Vec<u8>,
    pub(super) pairs: u64,
}

/// Copies what is not copied yet, chunk by chunk; each is durable when the observer hears of it.
/// `jobs` are the record's keyspaces, in its order. Stores are read on a thread of their own; rows
/// are written, and mappings called, on this one. Returns the middle of each keyspace, where it was
/// among what this call copied.
pub(crate) fn copy(
    mut copying: Copying,
    jobs: &[Job<'_>],
    chunk_bytes: usize,
    observer: &mut dyn Observer,
) -> Result<Vec<Option<Middle>>, StepError> {
    let expected = expected(jobs)?;
    let done = |copying: &Copying| {
        let keyspaces = &copying.record().keyspaces;
        keyspaces.iter().fold((0, 0), |(pairs, bytes), k| (pairs + k.pairs, bytes + k.bytes))
    };
    let pace = Pace::new(Phase::Copying, done(&copying), Some(expected.iter().sum()));
    let mut middles: Vec<Option<Middle>> = jobs.iter().map(|_| None).collect();
    let queue = Queue::default();
    thread::scope(|scope| {
        let rests = rests(&copying, jobs);
        thread::Builder::new()
            .name("cutover reads".to_owned())
            .spawn_scoped(scope, || ahead::read(rests, chunk_bytes, &queue))
            .map_err(Cause::io("start a thread that reads for", copying.path()))?;
        // However this ends, the reader does too.
        let _end = queue.closed_when_dropped();
        let each = jobs.iter().zip(&expected).zip(&mut middles).enumerate();
        for (index, ((job, expected), middle)) in each {
            let tables = job.keyspace.mapping.tables();
            while is_unfinished(&copying, index) {
                if observer.cancelled() {
                    return Err(Cause::Cancelled.into());
                }
                let quarantine = Quarantine::of(job, copying.record());
                let mut full = None;
                let keeps = quarantine.as_ref().is_some_and(Quarantine::is_kept);
                copying = copying.chunk(index, &tables, keeps, |rows, keyspace| {
                    full = write_chunk(job, rows, keyspace, quarantine, &queue, |key, pairs| {
                        if middle.is_none() && pairs >= expected / 2 {
                            *middle = Some(Middle { key: key.to_vec(), pairs });
                        }
                    })?;
                    Ok(())
                })?;
                // What went into quarantine before it is durable and can be looked at.
                if let Some((key, reason)) = full {
                    return Err(quarantine_full(job, copying.record(), &key, &reason).into());
                }
                tracing::debug!(
                    source = job.source,
                    keyspace = job.keyspace.name,
                    "a chunk is durable"
                );
                observer.progress(&pace.at(job.source, &job.keyspace.name, done(&copying)));
            }
        }
        Ok(middles)
    })
}

fn is_unfinished(copying: &Copying, index: usize) -> bool {
    copying.record().keyspaces.get(index).is_some_and(|keyspace| !keyspace.done)
}

/// What the record says is missing of each job.
fn rests<'a>(copying: &Copying, jobs: &[Job<'a>]) -> Vec<Rest<'a>> {
    let keyspaces = copying.record().keyspaces.iter().zip(jobs);
    keyspaces
        .filter(|(recorded, _)| !recorded.done)
        .map(|(recorded, job)| Rest {
            store: job.store,
            keyspace: &job.keyspace.name,
            after: recorded.cursor.clone(),
        })
        .collect()
}

/// About how many pairs each of `jobs` has.
fn expected(jobs: &[Job<'_>]) -> Result<Vec<u64>, Cause> {
    let pairs = |job: &Job<'_>| {
        let found = job.store.map(|store| store.approximate_pairs(&job.keyspace.name)).transpose();
        found.map(|pairs| pairs.flatten().unwrap_or(0))
    };
    jobs.iter().map(pairs).collect()
}

/// Writes up to a chunk's end; or up to a pair that is refused and finds no room in quarantine, which
/// it returns with the reason.
fn write_chunk(
    job: &Job<'_>,
    rows: &Rows<'_>,
    keyspace: &mut KeyspaceRecorded,
    mut quarantine: Option<Quarantine<'_>>,
    queue: &Queue,
    mut passed: impl FnMut(&[u8], u64),
) -> Result<Option<(Vec<u8>, String)>, Cause> {
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
        let written = written.map_err(|(at, error)| refused(job, key_at(at), error))?;
        keyspace.quarantined += written.quarantined;
        if let Some(reason) = written.refused {
            for (key, value) in pairs.iter().take(written.pairs) {
                digest.add(key, value);
            }
            digest.record(keyspace);
            if let Some(last) = written.pairs.checked_sub(1) {
                keyspace.cursor = Some(key_at(last).to_vec());
            }
            return Ok(Some((key_at(written.pairs).to_vec(), reason)));
        }
        keyspace.cursor = pairs.last().map(|(key, _)| key.to_vec()).or(keyspace.cursor.take());
        digest.join(batch.digest);
        if let Some((key, _)) = pairs.last() {
            passed(key, digest.pairs);
        }
        let end = batch.end.take();
        queue.give_back(batch);
        let Some(end) = end else { continue };
        keyspace.done = end == ChunkEnd::Done;
        keyspace.cursor = match end {
            ChunkEnd::Behind(key) => Some(key),
            ChunkEnd::Done => None,
        };
        digest.record(keyspace);
        return Ok(None);
    }
}

/// The record was decoded, and decoding checks its digests.
pub(super) fn recorded(keyspace: &KeyspaceRecorded) -> Digest {
    Digest::recorded(keyspace).unwrap_or_default()
}

fn refused(job: &Job<'_>, key: &[u8], error: MappingError) -> Cause {
    match error {
        MappingError::Refused(reason) => Cause::PairRefused {
            name: job.source.to_owned(),
            keyspace: job.keyspace.name.clone(),
            key: shown(key),
            reason: on_one_line(&reason),
        },
        MappingError::Engine(message) => Cause::Engine {
            engine: "SQLite",
            what: "write a row into a table of",
            path: job
                .keyspace
                .mapping
                .tables()
                .first()
                .map_or_else(String::new, |t| t.name.clone())
                .into(),
            message,
            next: "look at the disk's free space and the system's log, and run this again",
        },
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
