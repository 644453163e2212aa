//! Records: whatever a target's row holds is read as what it is, or refused.

#![no_main]

use arbitrary::{Result, Unstructured};
use cutover::protocol::record::{
    KEYSPACES_MAX, KeyspaceRecorded, RECORD_BYTES_MAX, Record, SchemaEntry, SourceRecorded,
    TableRecorded, Times, quarantine_name,
};
use cutover::protocol::{MigrationId, RecordStage, Run, Was};
use cutover_fuzz::frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    stored(bytes);
    stored(&frame::sign("", bytes));
    // Too little input is not a finding.
    let _ = written(&mut Unstructured::new(bytes));
});

/// Any bytes: no panic, and what is read is written so that it reads the same.
fn stored(bytes: &[u8]) {
    let Ok(record) = Record::decode(bytes) else { return };
    assert!(bytes.len() <= RECORD_BYTES_MAX);
    assert!(record.keyspaces.len() <= KEYSPACES_MAX);
    let again = record.encode().expect("it is hardly longer than what was read");
    // What is absent and may be is written as `null`.
    assert!(again.len() <= 2 * bytes.len());
    assert_eq!(Record::decode(again.as_bytes()).as_ref(), Ok(&record));
    assert_eq!(record.copied(), !record.keyspaces.iter().any(|keyspace| !keyspace.done));
}

/// Any record: it reads back if its digests are digests, its quarantine adds up and its pairs and bytes can
/// be summed, and no damage passes for another.
fn written(u: &mut Unstructured<'_>) -> Result<()> {
    let record = record(u)?;
    let text = record.encode().expect("it is small");
    let is_digest = |digest: &str| {
        digest.len() == 32 && digest.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
    };
    let adds_up = |keyspace: &KeyspaceRecorded| {
        let (quarantined, has_table) = (keyspace.quarantined, record.quarantine().is_some());
        quarantined == 0 || quarantined <= keyspace.pairs && has_table
    };
    let is_right = |keyspace: &KeyspaceRecorded| adds_up(keyspace) && is_digest(&keyspace.digest);
    let sum = |count: fn(&KeyspaceRecorded) -> u64| {
        record.keyspaces.iter().map(count).try_fold(0_u64, u64::checked_add)
    };
    let has_sums = sum(|keyspace| keyspace.pairs).and(sum(|keyspace| keyspace.bytes)).is_some();
    let decoded = Record::decode(text.as_bytes());
    if has_sums && record.keyspaces.iter().all(is_right) {
        assert_eq!(decoded.as_ref(), Ok(&record));
    } else {
        decoded.unwrap_err();
    }
    frame::damage(u, text.as_bytes(), Record::decode)
}

fn record(u: &mut Unstructured<'_>) -> Result<Record> {
    let run = Run { id: MigrationId(u.arbitrary()?), attempt: u.arbitrary()? };
    let sources = list(u, source)?;
    let keyspaces = list(u, keyspace)?;
    let mut tables = list(u, table)?;
    let plan: &str = u.arbitrary()?;
    if let (Some(table), true) = (tables.first_mut(), u.arbitrary()?) {
        table.name = quarantine_name(plan);
    }
    let mut record =
        Record::new(plan, run, sources, keyspaces, tables, u.arbitrary()?, String::new());
    record.created = u.arbitrary()?;
    record.stage = *u.choose(&[RecordStage::Copying, RecordStage::Committed, RecordStage::Live])?;
    record.times =
        Times { copying: u.arbitrary()?, committed: u.arbitrary()?, live: u.arbitrary()? };
    Ok(record)
}

fn source(u: &mut Unstructured<'_>) -> Result<SourceRecorded> {
    Ok(SourceRecorded {
        name: u.arbitrary()?,
        path: u.arbitrary()?,
        was: *u.choose(&[Was::Directory, Was::Nothing])?,
    })
}

fn keyspace(u: &mut Unstructured<'_>) -> Result<KeyspaceRecorded> {
    Ok(KeyspaceRecorded {
        source: u.arbitrary()?,
        keyspace: u.arbitrary()?,
        mapping: u.arbitrary()?,
        tables: u.arbitrary()?,
        cursor: u.arbitrary()?,
        done: u.arbitrary()?,
        pairs: u.arbitrary()?,
        bytes: u.arbitrary()?,
        digest: if u.ratio(7, 8)? {
            format!("{:032x}", u.arbitrary::<u128>()?)
        } else {
            u.arbitrary()?
        },
        quarantined: if u.ratio(7, 8)? { 0 } else { u.int_in_range(0..=3)? },
    })
}

fn table(u: &mut Unstructured<'_>) -> Result<TableRecorded> {
    let entry = |u: &mut Unstructured<'_>| {
        Ok(SchemaEntry { kind: u.arbitrary()?, name: u.arbitrary()?, sql: u.arbitrary()? })
    };
    Ok(TableRecorded { name: u.arbitrary()?, created: u.arbitrary()?, schema: list(u, entry)? })
}

fn list<T>(
    u: &mut Unstructured<'_>,
    one: impl Fn(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..u.int_in_range(0..=4u8)?).map(|_| one(u)).collect()
}
