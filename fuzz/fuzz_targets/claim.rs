//! Claims: whatever stands beside a target under the claim's name is read as what it is, or refused.

#![no_main]

use arbitrary::{Result, Unstructured};
use cutover::protocol::MigrationId;
use cutover::protocol::claim::{CLAIM_BYTES_MAX, Claim, PLANS_MAX};
use cutover_fuzz::frame;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

const HEADING: &str =
    "This is a cutover claim file. It belongs to the SQL database beside it; keep both together.\n";

fuzz_target!(|bytes: &[u8]| {
    stored(bytes);
    stored(&frame::sign(HEADING, bytes));
    // Too little input is not a finding.
    let _ = written(&mut Unstructured::new(bytes));
});

/// Any bytes: no panic, and what is read is written so that it reads the same.
fn stored(bytes: &[u8]) {
    let Ok(claim) = Claim::decode(bytes) else { return };
    assert!(bytes.len() <= CLAIM_BYTES_MAX);
    assert!(claim.plans.len() <= PLANS_MAX);
    let again = claim.encode().expect("it is no longer than what was read");
    assert!(again.len() <= bytes.len() + HEADING.len());
    assert_eq!(Claim::decode(&again).as_ref(), Ok(&claim));
}

/// Any claim: it reads back if it is not too long, and no damage passes for another.
fn written(u: &mut Unstructured<'_>) -> Result<()> {
    let mut claim = Claim::default();
    // A few names that the input spells, and as many more as it asks for.
    for _ in 0..u.int_in_range(0..=4u8)? {
        claim.plans.insert(u.arbitrary()?, MigrationId(u.arbitrary()?));
    }
    let more = u.int_in_range(0..=PLANS_MAX + 1)?;
    claim.plans.extend(numbered(more));
    if claim.plans.len() > PLANS_MAX {
        claim.encode().unwrap_err();
        return Ok(());
    }
    let bytes = claim.encode().expect("it is small");
    assert!(bytes.starts_with(HEADING.as_bytes()));
    assert_eq!(Claim::decode(&bytes).as_ref(), Ok(&claim));
    frame::damage(u, &bytes, Claim::decode)
}

fn numbered(count: usize) -> BTreeMap<String, MigrationId> {
    (0..count).map(|number| (format!("plan {number}"), MigrationId(number as u128))).collect()
}
