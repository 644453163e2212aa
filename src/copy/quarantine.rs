//! Quarantine: pairs that a mapping refuses are kept as they are, with the reason, as far as the plan
//! allows it; read = written + quarantined (I-2).

use super::run::{Job, shown};
use crate::error::{RefusedPair, on_one_line};
use crate::mapping::{Mapping, MappingError, Rows, Visit, quote};
use crate::protocol::record::{KeyspaceRecorded, REASON_BYTES_MAX, quarantine_name};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// This many refused pairs are listed; the others are counted.
pub(crate) const REFUSED_TOLD_MAX: usize = 20;

/// A refused pair's reason is cut to this many bytes.
const REASON_BYTES_TOLD: usize = 200;

/// Refused pairs that are counted instead of kept: how many of each source, and the first of them.
#[derive(Debug, Default)]
pub(crate) struct Counted(RefCell<BTreeMap<String, (u64, Vec<RefusedPair>)>>);

impl Counted {
    /// What was counted of a source.
    pub(crate) fn of(&self, source: &str) -> (u64, Vec<RefusedPair>) {
        self.0.borrow().get(source).cloned().unwrap_or_default()
    }

    fn add(&self, job: &Job<'_>, key: &[u8], reason: &str) {
        let mut counted = self.0.borrow_mut();
        let (pairs, first) = counted.entry(job.source.to_owned()).or_default();
        *pairs += 1;
        if first.len() < REFUSED_TOLD_MAX {
            first.push(told(&job.keyspace.name, key, reason));
        }
    }
}

/// The first pairs of a keyspace in quarantine, by their keys.
pub(crate) fn first_refused(
    rows: &Rows<'_>,
    table: &str,
    keyspace: &KeyspaceRecorded,
) -> Result<Vec<RefusedPair>, MappingError> {
    let select = format!(
        "SELECT key, reason FROM {} WHERE source = ?1 AND keyspace = ?2
         ORDER BY key LIMIT {REFUSED_TOLD_MAX}",
        quote(table)
    );
    let mut first = Vec::new();
    rows.query_each(&select, [&keyspace.source, &keyspace.keyspace], |row| {
        let (key, reason): (Vec<u8>, String) = (row.get(0)?, row.get(1)?);
        first.push(told(&keyspace.keyspace, &key, &reason));
        Ok(())
    })?;
    Ok(first)
}

/// A refused pair in words, on one line.
fn told(keyspace: &str, key: &[u8], reason: &str) -> RefusedPair {
    let start = reason.get(..reason.floor_char_boundary(REASON_BYTES_TOLD)).unwrap_or(reason);
    RefusedPair { keyspace: keyspace.to_owned(), key: shown(key), reason: on_one_line(start) }
}

/// Where refused pairs go.
#[derive(Debug)]
pub(super) enum Quarantine<'a> {
    /// Into the table, and this many more may.
    Kept { table: String, room: u64 },
    /// Nowhere.
    Counted(&'a Counted),
}

/// What became of pairs that were to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// This many of them, from the first on, are rows now, or in quarantine.
    pub(super) pairs: usize,
    /// This many of these are in quarantine.
    pub(super) quarantined: u64,
    /// Why the next one is refused, for which there is no room.
    pub(super) refused: Option<String>,
}

impl Written {
    pub(super) fn all(pairs: &[(&[u8], &[u8])]) -> Self {
        Self { pairs: pairs.len(), ..Self::default() }
    }
}

impl<'a> Quarantine<'a> {
    /// The quarantine of a job, where the plan allows one; `taken` of the source's pairs are in it.
    pub(super) fn of(job: &Job<'a>, plan: &str, taken: u64) -> Option<Self> {
        if let Some(counted) = job.counted {
            return Some(Self::Counted(counted));
        }
        let room = job.quarantine.saturating_sub(taken);
        job.keeps().then(|| Self::Kept { table: quarantine_name(plan), room })
    }

    /// Writes pairs. Nothing is left of what a mapping had written of one that it then refused. The
    /// error has the place of the pair that stops the copy, whose transaction must come to nothing.
    pub(super) fn write(
        &mut self,
        job: &Job<'_>,
        rows: &Rows<'_>,
        pairs: &[(&[u8], &[u8])],
    ) -> Result<Written, (usize, MappingError)> {
        let first = |error| (0, error);
        rows.run("SAVEPOINT cutover_pairs").map_err(first)?;
        let all = job.keyspace.mapping.write_many(rows, pairs);
        if let Err((at, error)) = all.clone() {
            refusal(rows, error).map_err(|error| (at, error))?;
            rows.run("ROLLBACK TO cutover_pairs").map_err(first)?;
        }
        rows.run("RELEASE cutover_pairs").map_err(first)?;
        if all.is_ok() { Ok(Written::all(pairs)) } else { self.write_each(job, rows, pairs) }
    }

    fn write_each(
        &mut self,
        job: &Job<'_>,
        rows: &Rows<'_>,
        pairs: &[(&[u8], &[u8])],
    ) -> Result<Written, (usize, MappingError)> {
        let mapping = job.keyspace.mapping.as_ref();
        let mut written = Written::default();
        for (key, value) in pairs {
            let here = |error| (written.pairs, error);
            if let Some(reason) = write_one(mapping, rows, key, value).map_err(here)? {
                match self {
                    Self::Counted(counted) => counted.add(job, key, &reason),
                    Self::Kept { room: 0, .. } => {
                        written.refused = Some(reason);
                        break;
                    }
                    Self::Kept { table, room } => {
                        keep(table, job, rows, (key, value), reason).map_err(here)?;
                        *room -= 1;
                    }
                }
                written.quarantined += 1;
            }
            written.pairs += 1;
        }
        Ok(written)
    }
}

/// Puts a refused pair into quarantine.
fn keep(
    table: &str,
    job: &Job<'_>,
    rows: &Rows<'_>,
    (key, value): (&[u8], &[u8]),
    mut reason: String,
) -> Result<(), MappingError> {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    let insert = format!("INSERT INTO {} VALUES (?1, ?2, ?3, ?4, ?5)", quote(table));
    let row = (job.source, &job.keyspace.name, key, value, &reason);
    match rows.execute(&insert, row) {
        Ok(_) => Ok(()),
        // Longer than SQLite keeps.
        Err(MappingError::Refused(why)) => {
            Err(format!("{reason}, and it can't go into quarantine: {why}").into())
        }
        Err(error) => Err(error),
    }
}

/// Writes one pair, or nothing of it: then why it is refused.
fn write_one(
    mapping: &dyn Mapping,
    rows: &Rows<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<Option<String>, MappingError> {
    rows.run("SAVEPOINT cutover_pair")?;
    let refused = match mapping.write(rows, key, value) {
        Ok(()) => None,
        Err(error) => {
            let reason = refusal(rows, error)?;
            rows.run("ROLLBACK TO cutover_pair")?;
            Some(reason)
        }
    };
    rows.run("RELEASE cutover_pair")?;
    Ok(refused)
}

/// The reason, where the pair is to blame and the transaction is still there.
fn refusal(rows: &Rows<'_>, error: MappingError) -> Result<String, MappingError> {
    match (error, rows.failure()) {
        // Whatever the mapping made of it.
        (MappingError::Refused(_), Some(failure)) => Err(MappingError::Engine(failure)),
        (MappingError::Refused(reason), None) if rows.in_transaction() => Ok(reason),
        (error, _) => Err(error),
    }
}

/// What the quarantine of a target holds.
#[derive(Debug, Default)]
pub(super) struct Kept<'a> {
    table: &'a str,
    /// Pairs of each source's keyspace.
    counts: BTreeMap<(String, String), u64>,
}

impl<'a> Kept<'a> {
    /// Looks into the table. Once the target is live somebody may have dropped it: then it holds nothing.
    pub(super) fn look(rows: &Rows<'_>, table: &'a str) -> Result<Self, MappingError> {
        let mut counts = BTreeMap::new();
        let exists = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        if rows.query_one(exists, [table], |_| Ok(()))?.is_some() {
            let count =
                format!("SELECT source, keyspace, count(*) FROM {} GROUP BY 1, 2", quote(table));
            rows.query_each(&count, [], |row| {
                let pairs: i64 = row.get(2)?;
                counts.insert((row.get(0)?, row.get(1)?), pairs.unsigned_abs());
                Ok(())
            })?;
        }
        Ok(Self { table, counts })
    }

    /// Pairs of a keyspace.
    pub(super) fn of(&self, keyspace: &KeyspaceRecorded) -> u64 {
        let place = (keyspace.source.clone(), keyspace.keyspace.clone());
        self.counts.get(&place).copied().unwrap_or(0)
    }

    /// Every source and keyspace that has pairs here, but for those `known`.
    pub(super) fn strangers(
        &self,
        known: &[&KeyspaceRecorded],
    ) -> impl Iterator<Item = (&str, &str, u64)> {
        let known: BTreeSet<(&str, &str)> =
            known.iter().map(|known| (known.source.as_str(), known.keyspace.as_str())).collect();
        self.counts
            .iter()
            .filter(move |((source, keyspace), _)| !known.contains(&(source, keyspace)))
            .map(|((source, keyspace), pairs)| (source.as_str(), keyspace.as_str(), *pairs))
    }

    /// Visits the pairs of a keyspace.
    pub(super) fn read_back(
        &self,
        rows: &Rows<'_>,
        keyspace: &KeyspaceRecorded,
        visit: &mut Visit<'_>,
    ) -> Result<(), MappingError> {
        if self.of(keyspace) == 0 {
            return Ok(());
        }
        let pairs = format!(
            "SELECT key, value FROM {} WHERE source = ?1 AND keyspace = ?2",
            quote(self.table)
        );
        rows.query_each(&pairs, [&keyspace.source, &keyspace.keyspace], |row| {
            let (key, value): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
            visit(&key, &value)
        })
    }
}
