//! The digest: an order-independent 128-bit sum of hashes over length-prefixed pairs.

use crate::protocol::DecodeError;
use crate::protocol::record::KeyspaceRecorded;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Pairs, counted and summed. Two digests are equal when the pairs are the same, in any order; a
/// pair that is missing, extra, changed, or whose value was swapped with another's, shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) pairs: u64,
    pub(crate) bytes: u64,
    pub(crate) sum: u128,
}

/// Pairs up to this size are hashed from one buffer on the stack, which is faster.
const SMALL_BYTES: usize = 512;

impl Digest {
    /// Adds one pair.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.pairs = self.pairs.saturating_add(1);
        self.bytes = self.bytes.saturating_add((key.len() + value.len()) as u64);
        self.sum = self.sum.wrapping_add(hash(key, value));
    }

    /// Adds the pairs of another.
    pub(crate) const fn join(&mut self, other: Self) {
        self.pairs = self.pairs.saturating_add(other.pairs);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// The digest that a record holds.
    pub(crate) fn recorded(keyspace: &KeyspaceRecorded) -> Result<Self, DecodeError> {
        let sum = crate::protocol::hex_u128(&keyspace.digest)
            .ok_or_else(|| DecodeError::new("a digest is not 32 lower-case hex digits"))?;
        Ok(Self { pairs: keyspace.pairs, bytes: keyspace.bytes, sum })
    }

    /// Puts it into a record.
    pub(crate) fn record(self, keyspace: &mut KeyspaceRecorded) {
        keyspace.pairs = self.pairs;
        keyspace.bytes = self.bytes;
        keyspace.digest = format!("{:032x}", self.sum);
    }
}

/// The key's length comes first, so that bytes can't move from the key to the value unseen.
fn hash(key: &[u8], value: &[u8]) -> u128 {
    let length = (key.len() as u64).to_le_bytes();
    let total = length.len() + key.len() + value.len();
    if total <= SMALL_BYTES {
        let mut buffer = [0; SMALL_BYTES];
        let mut at = 0;
        for part in [length.as_slice(), key, value] {
            if let Some(room) = buffer.get_mut(at..at + part.len()) {
                room.copy_from_slice(part);
            }
            at += part.len();
        }
        return xxh3_128(buffer.get(..total).unwrap_or_default());
    }
    let mut state = Xxh3::new();
    for part in [length.as_slice(), key, value] {
        state.update(part);
    }
    state.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(pairs: &[(&[u8], &[u8])]) -> Digest {
        let mut digest = Digest::default();
        for (key, value) in pairs {
            digest.add(key, value);
        }
        digest
    }

    #[test]
    fn swaps_moves_losses_and_copies_all_show() {
        let whole = of(&[(b"a", b"1"), (b"b", b"2")]);
        assert_eq!(whole, of(&[(b"b", b"2"), (b"a", b"1")]));
        let mut joined = of(&[(b"b", b"2")]);
        joined.join(of(&[(b"a", b"1")]));
        assert_eq!(whole, joined);
        for other in [
            of(&[(b"a", b"2"), (b"b", b"1")]),
            of(&[(b"a1", b""), (b"b", b"2")]),
            of(&[(b"a", b"1")]),
            of(&[(b"a", b"1"), (b"b", b"2"), (b"b", b"2")]),
            of(&[(b"", b"a1"), (b"b", b"2")]),
        ] {
            assert_ne!(whole, other);
        }
    }

    proptest! {
        #[test]
        fn both_ways_of_hashing_are_one_function(
            key in proptest::collection::vec(any::<u8>(), 0..600),
            value in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut whole = (key.len() as u64).to_le_bytes().to_vec();
            whole.extend(&key);
            whole.extend(&value);
            prop_assert_eq!(hash(&key, &value), xxh3_128(&whole));
        }
    }
}
