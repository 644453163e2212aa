//! Copying and verifying: pairs become rows, rows are read back, and both sides' digests must agree.

mod ahead;
mod digest;
mod mapping;
mod run;

pub(crate) use digest::Digest;
pub use mapping::{Blobs, Mapping, MappingError, Rows, Sizes, Table, Visit, quote};
pub(crate) use run::{Job, copy, digest_source, verify};
