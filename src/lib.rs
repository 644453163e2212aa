#![doc = include_str!("../README.md")]

#[cfg(not(target_os = "linux"))]
compile_error!("cutover needs Linux: its fence is renameat2 with RENAME_EXCHANGE");

/// The programs in the guide for authors compile.
#[cfg(all(doctest, feature = "typed"))]
#[doc = include_str!("../docs/authors.md")]
mod authors {}
#[cfg(all(test, feature = "__faults"))]
mod between;
mod check;
mod copy;
mod disk;
mod drive;
pub mod error;
#[cfg(feature = "__faults")]
#[doc(hidden)]
pub mod fault;
#[cfg(not(feature = "__faults"))]
mod fault;
mod from_marker;
mod handle;
mod look;
mod mapping;
mod observer;
mod place;
mod plan;
pub mod protocol;
mod report;
mod source;
mod sql;
mod verified;

/// Its databases are handed out, so its version is a part of this crate's.
pub use fjall;
/// Its connections are handed out, so its version is a part of this crate's.
pub use rusqlite;

pub use drive::{Freed, Skipped};
pub use error::{Cause, Error, Failed, RefusedPair};
pub use from_marker::plan_from_marker;
pub use handle::{
    Aborted, Committed, Found, Fresh, Handle, KvStores, Migrating, RerunAllowed, Stage, Tombstoned,
    discard_record, forget_record, kv, open, replace_target, sql, ticket,
};
#[cfg(feature = "__faults")]
#[doc(hidden)]
pub use look::observe;
pub use look::{Loss, Verb};
pub use mapping::{Blobs, Mapping, MappingError, Part, Rows, Sizes, Split, Table, Visit, quote};
#[cfg(feature = "typed")]
pub use mapping::{Pair, Typed, codec, columns};
pub use observer::{Cancel, Observer, Phase, Progress};
pub use plan::{
    CHUNK_BYTES_DEFAULT, CHUNK_BYTES_MAX, NAME_BYTES_MAX, Plan, PlanBuilder, SourceBuilder,
};
pub use report::{Preview, PreviewKeyspace, PreviewStep, preview};
pub use report::{
    QuarantineStatus, QuarantinedKeyspace, SourceStatus, Status, TargetStatus, status,
};
pub use report::{Rehearsal, RehearsedKeyspace};
pub use sql::JournalMode;
pub use verified::{Compared, Verified, VerifiedKeyspace, VerifiedStore};
