//! The copy's loop and the verification's.

use super::{Digest, Mapping, MappingError, Rows};
use crate::error::{Cause, Mismatch};
use crate::kv::Store;
use crate::observer::{Observer, Phase, Progress};
use crate::plan::Keyspace;
use crate::protocol::record::KeyspaceRecorded;
use crate::sql::{Copying, StepError, Target};

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
/// `jobs` are the record's keyspaces, in its order.
pub(crate) fn copy(
    mut copying: Copying,
    jobs: &[Job<'_>],
    chunk_bytes: usize,
    observer: &mut dyn Observer,
) -> Result<(), StepError> {
    let pairs_expected = expected(jobs)?;
    for (index, job) in jobs.iter().enumerate() {
        while copying.record().keyspaces.get(index).is_some_and(|keyspace| !keyspace.done) {
            if observer.cancelled() {
                return Err(Cause::Cancelled.into());
            }
            copying = copying
                .chunk(index, |rows, keyspace| write_chunk(job, rows, keyspace, chunk_bytes))?;
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
    chunk_bytes: usize,
) -> Result<(), Cause> {
    let Some(store) = job.store else {
        keyspace.done = true;
        return Ok(());
    };
    let mut digest = recorded(keyspace);
    let mut chunk = 0;
    let mut last = keyspace.cursor.take();
    let after = last.clone();
    let mapping = &job.keyspace.mapping;
    let end = store.visit(&job.keyspace.name, after.as_deref(), &mut |key, value| {
        mapping.write(rows, key, value).map_err(|error| refused(job, key, error))?;
        digest.add(key, value);
        chunk += key.len() + value.len();
        let more = chunk < chunk_bytes;
        if !more {
            last = Some(key.to_vec());
        }
        Ok(more)
    })?;
    keyspace.cursor = if end { None } else { last };
    keyspace.done = end;
    digest.record(keyspace);
    Ok(())
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
        total.pairs += found.pairs;
        total.bytes += found.bytes;
        total.sum = total.sum.wrapping_add(found.sum);
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
