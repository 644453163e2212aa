//! The claim: the small file beside a target which says that migrations have used it.
//!
//! It tells a SQL file that was deleted from a volume that is not mounted, and it is the file that
//! two cutover processes on one target meet at.

use super::{DecodeError, MigrationId, envelope};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The claim of `x.sqlite` is `x.sqlite.cutover`.
pub const CLAIM_SUFFIX: &str = ".cutover";

/// A longer file is not a claim of ours. Room for [`PLANS_MAX`] names of 1 KiB each.
pub const CLAIM_BYTES_MAX: usize = 256 * 1024;

/// More plans than one target ever holds.
pub const PLANS_MAX: usize = 128;

const FORMAT: u32 = 1;
const HEADING: &str =
    "This is a cutover claim file. It belongs to the SQL database beside it; keep both together.\n";

/// What a claim says: which migration each plan's markers belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    format: u32,
    /// By the plan's name.
    pub plans: BTreeMap<String, MigrationId>,
}

impl Default for Claim {
    fn default() -> Self {
        Self { format: FORMAT, plans: BTreeMap::new() }
    }
}

impl Claim {
    /// The bytes of the file.
    ///
    /// # Errors
    ///
    /// When there are more than [`PLANS_MAX`] plans, or their names are too long.
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        let bytes = envelope::seal(HEADING, self)?.into_bytes();
        Self::decode(&bytes)?;
        Ok(bytes)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    ///
    /// When they are not a whole claim of this version's format.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if !bytes.starts_with(HEADING.as_bytes()) {
            return Err(DecodeError::new("it is not a cutover claim file"));
        }
        let claim: Self = envelope::unseal(bytes, CLAIM_BYTES_MAX, FORMAT)?;
        if claim.plans.len() > PLANS_MAX {
            return Err(DecodeError::new(format!("it names more than {PLANS_MAX} plans")));
        }
        Ok(claim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_claim_reads_back_and_every_changed_or_cut_byte_is_noticed() {
        let mut claim = Claim::default();
        claim.plans.insert("litd".into(), MigrationId(5));
        let bytes = claim.encode().unwrap();
        assert_eq!(Claim::decode(&bytes).unwrap(), claim);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            Claim::decode(&changed).unwrap_err();
            Claim::decode(&bytes[..at]).unwrap_err();
        }
    }

    #[test]
    fn a_claim_has_room_for_128_plans_with_names_of_1_kib_and_for_no_more() {
        let mut claim = Claim::default();
        for plan in 0..PLANS_MAX {
            claim.plans.insert(format!("{plan:01024}"), MigrationId(0));
        }
        assert_eq!(claim.plans.len(), 128);
        assert_eq!(Claim::decode(&claim.encode().unwrap()).unwrap(), claim);
        claim.plans.insert("one more".into(), MigrationId(0));
        assert_eq!(claim.encode().unwrap_err().to_string(), "it names more than 128 plans");
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Claim::decode(&bytes);
            let mut ours = HEADING.as_bytes().to_vec();
            ours.extend(bytes);
            let _ = Claim::decode(&ours);
        }
    }
}
