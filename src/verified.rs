//! The report of a verification: what the retired stores and the SQL database hold now, beside what
//! was copied.

use crate::protocol::MigrationId;
use serde::Serialize;

/// What a verification found: every keyspace, at both of its places.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verified {
    /// The migration.
    pub id: MigrationId,
    /// Every keyspace that was copied, in the order of copying.
    pub keyspaces: Vec<VerifiedKeyspace>,
    /// Every source's retired store as such, also one of which no keyspace was copied.
    pub stores: Vec<VerifiedStore>,
}

/// A retired store, compared with what was sealed: its files' names and lengths, its journals, and the
/// names of its keyspaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifiedStore {
    /// The source's name.
    pub source: String,
    /// What is there now; it is never `Changed`, since what is not as it was sealed is not read.
    pub store: Compared,
}

/// One keyspace, at both of its places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifiedKeyspace {
    /// The source's name.
    pub source: String,
    /// The keyspace's name.
    pub keyspace: String,
    /// Pairs that were copied.
    pub pairs: u64,
    /// Bytes of keys and values that were copied.
    pub bytes: u64,
    /// What the retired store holds now.
    pub store: Compared,
    /// What the SQL database holds now.
    pub target: Compared,
}

/// What a place holds now, compared with what was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Compared {
    /// The very pairs that were copied.
    Same,
    /// Other pairs.
    Changed {
        /// How many.
        pairs: u64,
        /// Bytes of their keys and values.
        bytes: u64,
    },
    /// Something else, and it was not read to its end: a store is not what was sealed, or a row can't be
    /// made a pair again.
    Differs {
        /// How.
        how: String,
    },
    /// Nothing: its bytes were freed by reclaim.
    Freed,
    /// Nothing: there was no store to copy from.
    NeverThere,
    /// Nothing, though it should be there.
    Missing,
    /// It could not be looked at, so it is not known whether it differs.
    Unread {
        /// Why, and what a person can do.
        reason: String,
    },
}

impl Verified {
    /// Whether both sides are whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.stores_are_whole() && self.target_is_whole()
    }

    /// Whether every retired store that was not freed is what was sealed, was read, and holds just what
    /// was copied.
    #[must_use]
    pub fn stores_are_whole(&self) -> bool {
        self.stores.iter().all(|store| store.store.is_whole())
            && self.keyspaces.iter().all(|keyspace| keyspace.store.is_whole())
    }

    /// Whether everything could be looked at. What could not be is neither whole nor different.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let is_read = |found: &Compared| !matches!(found, Compared::Unread { .. });
        self.stores.iter().all(|store| is_read(&store.store))
            && self.keyspaces.iter().all(|k| is_read(&k.store) && is_read(&k.target))
    }

    /// Whether a retired store, so far as it could be looked at, is missing, is not what was sealed, or
    /// holds something else than was copied.
    #[must_use]
    pub fn stores_differ(&self) -> bool {
        self.stores.iter().any(|store| store.store.differs())
            || self.keyspaces.iter().any(|keyspace| keyspace.store.differs())
    }

    /// Pairs that were copied, of all keyspaces.
    #[must_use]
    pub fn pairs(&self) -> u64 {
        self.keyspaces.iter().map(|keyspace| keyspace.pairs).sum()
    }

    /// Whether every keyspace was read back from the SQL database just as it was copied. After the
    /// daemon's first write it need not be.
    #[must_use]
    pub fn target_is_whole(&self) -> bool {
        self.keyspaces.iter().all(|keyspace| keyspace.target.is_whole())
    }
}

impl Compared {
    const fn is_whole(&self) -> bool {
        match self {
            Self::Same | Self::Freed | Self::NeverThere => true,
            Self::Changed { .. } | Self::Differs { .. } | Self::Missing | Self::Unread { .. } => {
                false
            }
        }
    }

    const fn differs(&self) -> bool {
        match self {
            Self::Changed { .. } | Self::Differs { .. } | Self::Missing => true,
            Self::Same | Self::Freed | Self::NeverThere | Self::Unread { .. } => false,
        }
    }
}
