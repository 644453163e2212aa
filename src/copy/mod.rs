//! Copying and verifying: pairs become rows, rows are read back, and both sides' digests must agree.

mod ahead;
#[cfg(feature = "typed")]
pub mod codec;
#[cfg(feature = "typed")]
pub mod columns;
mod digest;
mod mapping;
#[cfg(feature = "typed")]
mod orphan;
mod quarantine;
mod run;
#[cfg(feature = "typed")]
mod typed;
mod verify;

pub(crate) use digest::Digest;
pub use mapping::{Blobs, Mapping, MappingError, Part, Rows, Sizes, Split, Table, Visit, quote};
pub(crate) use quarantine::{Counted, REFUSED_TOLD_MAX, first_refused, table as quarantine_table};
pub(crate) use run::{Job, Middle, copy};
#[cfg(feature = "typed")]
pub use typed::{Pair, Typed};
pub(crate) use verify::{Copied, compare_target, digest_source, unread, verify};
