//! Copying and verifying: pairs become rows, rows are read back, and both sides' digests must agree.

mod ahead;
#[cfg(feature = "typed")]
pub mod codec;
mod digest;
mod mapping;
#[cfg(feature = "typed")]
mod orphan;
mod run;
#[cfg(feature = "typed")]
mod typed;

pub(crate) use digest::Digest;
pub use mapping::{Blobs, Mapping, MappingError, Rows, Sizes, Table, Visit, quote};
pub(crate) use run::{Job, copy, digest_source, verify};
#[cfg(feature = "typed")]
pub use typed::{Pair, Typed};
