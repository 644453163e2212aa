//! The pure protocol: what can be seen on disk, what it means, and what comes next.
//!
//! Nothing in here does I/O, reads a clock or draws a random number, so a model checker can run
//! these very functions. [`classify`] says which [`State`] an [`Observation`] is, or which
//! [`Contradiction`]; [`next`] says the one [`Step`] that comes next. They are the only place where
//! the order of durable steps is decided. The file formats ([`marker`], [`record`], [`claim`]) are
//! the bytes that the facts are kept in: everything stored is input from a stranger, so decoding is
//! total and every size is bounded.
//!
//! The module is public for reviewers. Its types have all their fields and variants in the
//! open, so that a checker which does not know a new one does not compile: it is outside of what
//! semantic versioning promises, but for what the rest of the library hands out ([`State`],
//! [`Contradiction`], [`Stage`], [`MigrationId`]).

#![deny(clippy::wildcard_enum_match_arm)]

pub mod claim;
mod classify;
mod envelope;
pub mod marker;
mod next;
pub mod record;
mod seen;
#[cfg(test)]
pub(crate) mod tests;

pub use classify::{Contradiction, Place, State, classify, classify_with_target};
pub use next::{Intent, NotAllowed, Session, Step, next};
pub use seen::{
    AtPath, AtRetired, ClaimSeen, MarkerSeen, Observation, RecordSeen, SecondLock, SourceSeen,
    TargetSeen,
};

use serde::{Deserialize, Serialize};
use std::fmt;

/// Which side of the attempt counter something stands on; starts at 1 and only ever grows.
pub type Attempt = u32;

/// Names one migration, from its first seal to its end: 128 random bits, shown as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MigrationId(pub u128);

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<MigrationId> for String {
    fn from(id: MigrationId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for MigrationId {
    type Error = DecodeError;

    fn try_from(text: String) -> Result<Self, DecodeError> {
        hex_u128(&text)
            .map(Self)
            .ok_or_else(|| DecodeError::new("the migration id is not 32 lower-case hex digits"))
    }
}

/// One attempt of one migration. A marker and a record that do not carry the same run are never
/// used together (I-6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Run {
    /// The migration.
    pub id: MigrationId,
    /// Its attempt.
    pub attempt: Attempt,
}

/// How final a marker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The source may still be unsealed.
    Sealed,
    /// The commit point has passed: nothing goes back automatically.
    Tombstone,
    /// The target was live when this was written.
    Final,
    /// An operator asked for the KV stores back; only restoring goes on.
    Restoring,
    /// The retired bytes are gone, or going.
    Reclaimed,
}

impl Stage {
    /// The word used in files, logs and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Tombstone => "tombstone",
            Self::Final => "final",
            Self::Restoring => "restoring",
            Self::Reclaimed => "reclaimed",
        }
    }
}

/// What stood at a source's path before its marker did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Was {
    /// A store's directory; it stands at the retired name now.
    Directory,
    /// Nothing: the source was missing, and was allowed to be.
    Nothing,
}

/// How far the target's record says the migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStage {
    /// Rows are arriving behind the fence.
    Copying,
    /// The commit point has passed; the fence still stands.
    Committed,
    /// The fence is down; the daemon may write.
    Live,
}

impl RecordStage {
    /// The word used in the record's row, logs and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Copying => "copying",
            Self::Committed => "committed",
            Self::Live => "live",
        }
    }
}

/// Why stored bytes are not a marker, record or claim that this version can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DecodeError {
    reason: String,
}

impl DecodeError {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Parses exactly 32 lower-case hex digits.
pub(crate) fn hex_u128(text: &str) -> Option<u128> {
    let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

/// Bytes that may be absent, as hex digits in JSON.
pub(crate) mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(crate) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => serializer.serialize_some(&hex::encode(bytes)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| hex::decode(text).map_err(D::Error::custom))
            .transpose()
    }
}
