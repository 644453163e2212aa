//! The record: the row inside the target which says how far a plan's migration is.

use super::{Attempt, DecodeError, MigrationId, RecordStage, Run, Was, envelope, hex_bytes};
use serde::{Deserialize, Serialize};

/// A longer body is not a record of ours: room for [`KEYSPACES_MAX`] keyspaces with their tables'
/// definitions, and one cursor as long as the longest key.
pub const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// More keyspaces than a plan may have. A record of as many, with tables of their names, has room to
/// spare; and what SQLite needs to create that many tables, which grows with their square, is seconds.
pub const KEYSPACES_MAX: usize = 10_000;

/// More of a mapping's reason, which may have any length, is not kept in quarantine.
pub const REASON_BYTES_MAX: usize = 1024;

const FORMAT: u32 = 1;

/// The name of the table that a plan's refused pairs go into.
#[must_use]
pub fn quarantine_name(plan: &str) -> String {
    format!("cutover_quarantine_{plan}")
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// The plan's name.
    pub plan: String,
    /// The migration.
    pub id: MigrationId,
    /// Its attempt.
    pub attempt: Attempt,
    /// How far it is.
    pub stage: RecordStage,
    /// The plan's sources, in its order.
    pub sources: Vec<SourceRecorded>,
    /// Every keyspace that is copied, in the order of copying.
    pub keyspaces: Vec<KeyspaceRecorded>,
    /// Every table that is migrated.
    pub tables: Vec<TableRecorded>,
    /// Whether this migration made the target's file. Left out where it did not, as in a record of an
    /// earlier version, which the next change of the record compares byte by byte.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    /// The journal mode that the target had when the copy began, as SQLite names it.
    pub journal_mode: String,
    /// When the copy began, the commit point passed and the target went live: RFC 3339, UTC.
    pub times: Times,
}

/// When each stage of a record began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Copying.
    pub copying: String,
    /// Committed.
    pub committed: Option<String>,
    /// Live.
    pub live: Option<String>,
}

/// A source as the record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecorded {
    /// Its name in the plan.
    pub name: String,
    /// Its absolute path.
    pub path: String,
    /// What stood at its path.
    pub was: Was,
}

/// One keyspace's copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyspaceRecorded {
    /// The source's name.
    pub source: String,
    /// The keyspace's name.
    pub keyspace: String,
    /// What the mapping says it is.
    pub mapping: String,
    /// The tables that it writes.
    pub tables: Vec<String>,
    /// The last key copied, while there may be more.
    #[serde(with = "hex_bytes")]
    pub cursor: Option<Vec<u8>>,
    /// Whether every pair is copied.
    pub done: bool,
    /// Pairs read.
    pub pairs: u64,
    /// Bytes of the keys and values read.
    pub bytes: u64,
    /// The digest of the pairs read: 32 hex digits.
    pub digest: String,
    /// Pairs, of those read, that the mapping refused and that are in quarantine.
    pub quarantined: u64,
}

/// One migrated table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecorded {
    /// Its name.
    pub name: String,
    /// Whether this migration created it.
    pub created: bool,
    /// Everything that SQLite's schema holds for it, fence included, as the last commit left it.
    pub schema: Vec<SchemaEntry>,
}

/// A row of SQLite's schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SchemaEntry {
    /// `table`, `index`, `trigger` or `view`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The statement that made it; none for SQLite's own indexes.
    pub sql: Option<String>,
}

impl Record {
    /// A record in this version's format, at stage `Copying`, of a file that was there.
    #[must_use]
    pub fn new(
        plan: &str,
        run: Run,
        sources: Vec<SourceRecorded>,
        keyspaces: Vec<KeyspaceRecorded>,
        tables: Vec<TableRecorded>,
        journal_mode: String,
        time: String,
    ) -> Self {
        Self {
            format: FORMAT,
            plan: plan.to_owned(),
            id: run.id,
            attempt: run.attempt,
            stage: RecordStage::Copying,
            sources,
            keyspaces,
            tables,
            created: false,
            journal_mode,
            times: Times { copying: time, committed: None, live: None },
        }
    }

    /// The run it belongs to.
    #[must_use]
    pub const fn run(&self) -> Run {
        Run { id: self.id, attempt: self.attempt }
    }

    /// Whether every keyspace is copied.
    #[must_use]
    pub fn copied(&self) -> bool {
        self.keyspaces.iter().all(|keyspace| keyspace.done)
    }

    /// The table that refused pairs went into, where the copy made one.
    #[must_use]
    pub fn quarantine(&self) -> Option<&TableRecorded> {
        let name = quarantine_name(&self.plan);
        self.tables.iter().find(|table| table.name == name)
    }

    /// Pairs of a source that are in quarantine.
    #[must_use]
    pub fn quarantined(&self, source: &str) -> u64 {
        let of_source = self.keyspaces.iter().filter(|keyspace| keyspace.source == source);
        of_source.fold(0, |pairs, keyspace| pairs.saturating_add(keyspace.quarantined))
    }

    /// The text of the row's `body`.
    ///
    /// # Errors
    ///
    /// When it is larger than [`RECORD_BYTES_MAX`].
    pub fn encode(&self) -> Result<String, DecodeError> {
        let text = envelope::seal("", self)?;
        if text.len() > RECORD_BYTES_MAX {
            return Err(DecodeError::new(format!(
                "the record would have {} bytes, more than {RECORD_BYTES_MAX}",
                text.len()
            )));
        }
        Ok(text)
    }

    /// Reads the text of a row's `body`.
    ///
    /// # Errors
    ///
    /// When it is not a whole record of this version's format.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let record: Self = envelope::unseal(body, RECORD_BYTES_MAX, FORMAT)?;
        if record.keyspaces.len() > KEYSPACES_MAX {
            return Err(DecodeError::new(format!("it names more than {KEYSPACES_MAX} keyspaces")));
        }
        let has_quarantine = record.quarantine().is_some();
        for keyspace in &record.keyspaces {
            if super::hex_u128(&keyspace.digest).is_none() {
                return Err(DecodeError::new("a digest is not 32 lower-case hex digits"));
            }
            if keyspace.quarantined > keyspace.pairs {
                return Err(DecodeError::new("more pairs are in quarantine than were read"));
            }
            if keyspace.quarantined > 0 && !has_quarantine {
                return Err(DecodeError::new("pairs are in quarantine, and no table for them"));
            }
        }
        let sum = |count: fn(&KeyspaceRecorded) -> u64| {
            record.keyspaces.iter().map(count).try_fold(0_u64, u64::checked_add)
        };
        if sum(|keyspace| keyspace.pairs).and(sum(|keyspace| keyspace.bytes)).is_none() {
            return Err(DecodeError::new(
                "its keyspaces have more pairs or bytes than there can be",
            ));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Record {
        Record::new(
            "litd",
            Run { id: MigrationId(7), attempt: 2 },
            vec![SourceRecorded {
                name: "accounts".into(),
                path: "/data/accounts".into(),
                was: Was::Directory,
            }],
            vec![KeyspaceRecorded {
                source: "accounts".into(),
                keyspace: "users".into(),
                mapping: "blobs".into(),
                tables: vec!["accounts_users".into()],
                cursor: Some(vec![0, 255]),
                done: false,
                pairs: 3,
                bytes: 30,
                digest: format!("{:032x}", 9),
                quarantined: 0,
            }],
            vec![],
            "wal".into(),
            "2026-01-02T03:04:05Z".into(),
        )
    }

    #[test]
    fn a_record_reads_back_and_every_changed_or_cut_byte_is_noticed() {
        let text = sample().encode().unwrap();
        assert_eq!(Record::decode(text.as_bytes()).unwrap(), sample());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            Record::decode(&changed).unwrap_err();
            Record::decode(&text.as_bytes()[..at]).unwrap_err();
        }
    }

    #[test]
    fn a_digest_that_is_no_number_is_refused_though_the_checksum_is_right() {
        let mut record = sample();
        record.keyspaces[0].digest = "zz".into();
        Record::decode(record.encode().unwrap().as_bytes()).unwrap_err();
    }

    #[test]
    fn a_record_is_refused_whose_quarantine_does_not_add_up_though_the_checksum_is_right() {
        let decoded = |quarantined: u64, table: &str| {
            let mut record = sample();
            record.keyspaces[0].quarantined = quarantined;
            let (created, schema) = (true, vec![]);
            record.tables = vec![TableRecorded { name: table.into(), created, schema }];
            Record::decode(record.encode().unwrap().as_bytes()).map(|_| ())
        };
        let own = quarantine_name("litd");
        for (quarantined, table) in [(3, own.as_str()), (0, &own), (0, "other")] {
            decoded(quarantined, table).unwrap();
        }
        let error = decoded(4, &own).unwrap_err().to_string();
        assert_eq!(error, "more pairs are in quarantine than were read");
        let error = decoded(1, &quarantine_name("other")).unwrap_err().to_string();
        assert_eq!(error, "pairs are in quarantine, and no table for them");
    }

    /// Adding them up needs no care.
    #[test]
    fn a_record_is_refused_whose_sums_overflow_though_the_checksum_is_right() {
        for change in
            [(|keyspace| keyspace.pairs = u64::MAX) as fn(&mut KeyspaceRecorded), |keyspace| {
                keyspace.bytes = u64::MAX;
            }]
        {
            let mut record = sample();
            let mut large = record.keyspaces[0].clone();
            change(&mut large);
            record.keyspaces = vec![large];
            Record::decode(record.encode().unwrap().as_bytes()).unwrap();
            record.keyspaces.push(sample().keyspaces.remove(0));
            let error = Record::decode(record.encode().unwrap().as_bytes()).unwrap_err();
            assert!(error.to_string().contains("more pairs or bytes"), "{error}");
        }
    }

    #[test]
    fn a_record_has_room_for_10_000_keyspaces_and_for_no_more() {
        let mut record = sample();
        record.keyspaces = vec![record.keyspaces[0].clone(); 10_000];
        assert_eq!(Record::decode(record.encode().unwrap().as_bytes()).unwrap(), record);
        record.keyspaces.push(record.keyspaces[0].clone());
        let error = Record::decode(record.encode().unwrap().as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "it names more than 10000 keyspaces");
    }

    #[test]
    fn a_record_of_64_mib_is_written_and_read_and_one_of_a_byte_more_is_not_written() {
        let mut record = sample();
        let rest = record.encode().unwrap().len() - record.journal_mode.len();
        record.journal_mode = "x".repeat(64 * 1024 * 1024 - rest);
        let text = record.encode().unwrap();
        assert_eq!(text.len(), 67_108_864);
        assert!(Record::decode(text.as_bytes()).unwrap() == record);
        record.journal_mode.push('x');
        let error = record.encode().unwrap_err();
        assert_eq!(error.to_string(), "the record would have 67108865 bytes, more than 67108864");
    }

    #[test]
    fn a_record_is_copied_when_every_keyspace_is() {
        let mut record = sample();
        assert!(!record.copied());
        record.keyspaces[0].done = true;
        assert!(record.copied());
        record.keyspaces.push(KeyspaceRecorded { done: false, ..record.keyspaces[0].clone() });
        assert!(!record.copied());
        record.keyspaces.clear();
        assert!(record.copied(), "a plan without keyspaces has nothing to copy");
    }

    #[test]
    fn a_source_s_quarantined_pairs_are_those_of_all_its_keyspaces_and_of_no_other() {
        let mut record = sample();
        let keyspace = record.keyspaces[0].clone();
        let of = |source: &str, quarantined| KeyspaceRecorded {
            source: source.into(),
            quarantined,
            ..keyspace.clone()
        };
        record.keyspaces = vec![of("accounts", 2), of("sessions", 30), of("accounts", 3)];
        assert_eq!(record.quarantined("accounts"), 5);
        assert_eq!(record.quarantined("sessions"), 30);
        assert_eq!(record.quarantined("rules"), 0);
    }

    #[test]
    fn a_record_is_of_the_run_that_it_was_made_for() {
        assert_eq!(sample().run(), Run { id: MigrationId(7), attempt: 2 });
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Record::decode(&bytes);
        }
    }
}
