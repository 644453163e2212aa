//! The copy's loop and the verification's.

use super::ahead::{self, ChunkEnd, Queue, Rest};
use super::{Digest, Mapping, MappingError, Rows};
use crate::error::{Cause, Mismatch};
use crate::kv::Store;
use crate::observer::{Observer, Phase, Progress};
use crate::plan::Keyspace;
use crate::protocol::record::KeyspaceRecorded;
use crate::sql::{Copying, StepError, Target};
use std::thread;

/// Pairs between two looks at the observer while the target is re-read.
const VERIFY_PAIRS: u64 = 50_000;

/// A refused pair is named by so many bytes of its key.
const KEY_BYTES_SHOWN: usize = 32;

/// One keyspace to copy, and where from; no store where its source was missing.
pub(crate) struct Job<'a> {
    pub(crate) source: &'a str,
    pub(crate) keyspace: &'a Keyspace,
    pub(crate) store: Option<&'a Store>,
}

/// Copies what is not copied yet, chunk by chunk; each is durable when the observer hears of it.
/// `jobs` are the record's keyspaces, in its order. Stores are read on a thread of their own; rows
/// are written, and mappings called, on this one.
pub(crate) fn copy(
    mut copying: Copying,
    jobs: &[Job<'_>],
    chunk_bytes: usize,
    observer: &mut dyn Observer,
) -> Result<(), StepError> {
    let pairs_expected = expected(jobs)?;
    let queue = Queue::default();
    thread::scope(|scope| {
        let rests = rests(&copying, jobs);
        thread::Builder::new()
            .name("cutover reads".to_owned())
            .spawn_scoped(scope, || ahead::read(rests, chunk_bytes, &queue))
            .map_err(Cause::io("start a thread that reads for", copying.path()))?;
        // However this ends, the reader does too.
        let _end = queue.closed_when_dropped();
        for (index, job) in jobs.iter().enumerate() {
            while is_unfinished(&copying, index) {
                if observer.cancelled() {
                    return Err(Cause::Cancelled.into());
                }
                copying = copying
                    .chunk(index, |rows, keyspace| write_chunk(job, rows, keyspace, &queue))?;
                let done = &copying.record().keyspaces;
                tracing::debug!(
                    source = job.source,
                    keyspace = job.keyspace.name,
                    "a chunk is durable"
                );
                observer.progress(&Progress {
                    phase: Phase::Copying,
                    source: job.source.to_owned(),
                    keyspace: job.keyspace.name.clone(),
                    pairs: done.iter().map(|keyspace| keyspace.pairs).sum(),
                    bytes: done.iter().map(|keyspace| keyspace.bytes).sum(),
                    pairs_expected: Some(pairs_expected),
                });
            }
        }
        Ok(())
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

fn expected(jobs: &[Job<'_>]) -> Result<u64, Cause> {
    let mut pairs = 0;
    for job in jobs {
        if let Some(store) = job.store {
            pairs += store.approximate_pairs(&job.keyspace.name)?.unwrap_or(0);
        }
    }
    Ok(pairs)
}

fn write_chunk(
    job: &Job<'_>,
    rows: &Rows<'_>,
    keyspace: &mut KeyspaceRecorded,
    queue: &Queue,
) -> Result<(), Cause> {
    let mut digest = recorded(keyspace);
    loop {
        // A reader that ended before its keyspaces did has panicked, which ends this thread, too.
        let mut batch = queue.pop().unwrap_or(Err(Cause::Cancelled))?;
        let pairs = batch.pairs();
        job.keyspace.mapping.write_many(rows, &pairs).map_err(|(at, error)| {
            let key = pairs.get(at).map_or(&[] as &[u8], |(key, _)| *key);
            refused(job, key, error)
        })?;
        digest.join(batch.digest);
        let end = batch.end.take();
        queue.give_back(batch);
        let Some(end) = end else { continue };
        keyspace.done = end == ChunkEnd::Done;
        keyspace.cursor = match end {
            ChunkEnd::Behind(key) => Some(key),
            ChunkEnd::Done => None,
        };
        digest.record(keyspace);
        return Ok(());
    }
}

/// The record was decoded, and decoding checks its digests.
fn recorded(keyspace: &KeyspaceRecorded) -> Digest {
    Digest::recorded(keyspace).unwrap_or_default()
}

fn unread(target: &Target, message: String, next: &'static str) -> StepError {
    let (what, path) = ("read back the rows in", target.path.clone());
    Cause::Engine { engine: "SQLite", what, path, message, next }.into()
}

fn refused(job: &Job<'_>, key: &[u8], error: MappingError) -> Cause {
    match error {
        MappingError::Refused(reason) => Cause::PairRefused {
            name: job.source.to_owned(),
            keyspace: job.keyspace.name.clone(),
            key: shown(key),
            reason,
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

fn shown(key: &[u8]) -> String {
    match key.get(..KEY_BYTES_SHOWN) {
        Some(start) if key.len() > KEY_BYTES_SHOWN => {
            format!("{}... ({} bytes)", hex::encode(start), key.len())
        }
        Some(_) | None => hex::encode(key),
    }
}

/// Re-reads the target over a new connection and compares every keyspace with what was read from
/// its source (I-2).
pub(crate) fn verify(
    target: &Target,
    keyspaces: &[(&KeyspaceRecorded, &dyn Mapping)],
    observer: &mut dyn Observer,
) -> Result<Digest, StepError> {
    let connection = target.reader()?;
    let rows = Rows::new(&connection);
    let pairs_expected = keyspaces.iter().map(|(recorded, _)| recorded.pairs).sum();
    let mut total = Digest::default();
    for (keyspace, mapping) in keyspaces {
        let mut found = Digest::default();
        let tell = |observer: &mut dyn Observer, found: &Digest| {
            observer.progress(&Progress {
                phase: Phase::Verifying,
                source: keyspace.source.clone(),
                keyspace: keyspace.keyspace.clone(),
                pairs: total.pairs + found.pairs,
                bytes: total.bytes + found.bytes,
                pairs_expected: Some(pairs_expected),
            });
        };
        let read = mapping.read_back(&rows, &mut |key, value| {
            found.add(key, value);
            if found.pairs.is_multiple_of(VERIFY_PAIRS) {
                tell(observer, &found);
                if observer.cancelled() {
                    return Err(MappingError::Cancelled);
                }
            }
            Ok(())
        });
        match read {
            Ok(()) => compare(keyspace, found, "the SQL database")?,
            Err(MappingError::Cancelled) => return Err(Cause::Cancelled.into()),
            Err(MappingError::Refused(reason)) => {
                return Err(unread(
                    target,
                    reason,
                    "mend the mapping and run this again, or abort",
                ));
            }
            Err(MappingError::Engine(reason)) => {
                return Err(unread(
                    target,
                    reason,
                    "abort, or look at the disk and run this again",
                ));
            }
        }
        tell(observer, &found);
        total.join(found);
    }
    Ok(total)
}

/// Re-reads a keyspace of a source and compares it with what was read from it before.
pub(crate) fn digest_source(
    store: Option<&Store>,
    keyspace: &KeyspaceRecorded,
    observer: &dyn Observer,
) -> Result<(), StepError> {
    let mut found = Digest::default();
    if let Some(store) = store {
        store.visit(&keyspace.keyspace, None, &mut |key, value| {
            found.add(key, value);
            if found.pairs.is_multiple_of(VERIFY_PAIRS) && observer.cancelled() {
                return Err(Cause::Cancelled);
            }
            Ok(true)
        })?;
    }
    compare(keyspace, found, "the retired store")
}

fn compare(keyspace: &KeyspaceRecorded, found: Digest, side: &str) -> Result<(), StepError> {
    let expected = recorded(keyspace);
    if found == expected {
        return Ok(());
    }
    Err(StepError::Mismatch(Box::new(Mismatch {
        source_name: keyspace.source.clone(),
        keyspace: keyspace.keyspace.clone(),
        side: side.to_owned(),
        expected_pairs: expected.pairs,
        found_pairs: found.pairs,
        next: "before the commit point, abort; once the daemon has written to the SQL database, a difference there is its own writes".to_owned(),
    })))
}
