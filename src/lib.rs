#![doc = include_str!("../README.md")]

#[cfg(not(target_os = "linux"))]
compile_error!("cutover needs Linux: its fence is renameat2 with RENAME_EXCHANGE");

/// The programs in the guide for authors compile.
#[cfg(all(doctest, feature = "typed"))]
#[doc = include_str!("../docs/authors.md")]
mod authors {}
mod allowed;
#[cfg(all(test, feature = "__faults"))]
mod between;
mod check;
mod copy;
mod disk;
mod driver;
pub mod error;
#[cfg(feature = "__faults")]
#[doc(hidden)]
pub mod fault;
#[cfg(not(feature = "__faults"))]
mod fault;
mod from_marker;
mod handle;
mod hints;
mod kv;
mod look;
mod observer;
mod owner;
mod plan;
mod preflight;
mod preview;
pub mod protocol;
mod rehearse;
mod sql;
mod status;
mod steps;
mod stores;
mod verified;

/// Its databases are handed out, so its version is a part of this crate's.
pub use fjall;
/// Its connections are handed out, so its version is a part of this crate's.
pub use rusqlite;

pub use copy::{Blobs, Mapping, MappingError, Part, Rows, Sizes, Split, Table, Visit, quote};
#[cfg(feature = "typed")]
pub use copy::{Pair, Typed, codec, columns};
pub use error::{Cause, Error, Failed, RefusedPair};
pub use from_marker::plan_from_marker;
pub use handle::{
    Aborted, Committed, Found, Freed, Fresh, Handle, KvStores, Loss, Migrating, RerunAllowed,
    Skipped, Stage, Tombstoned, discard_record, forget_record, kv, open, replace_target, sql,
    ticket,
};
pub use observer::{Cancel, Observer, Phase, Progress};
pub use plan::{
    CHUNK_BYTES_DEFAULT, CHUNK_BYTES_MAX, JournalMode, NAME_BYTES_MAX, Plan, PlanBuilder,
    SourceBuilder,
};
pub use preview::{Preview, PreviewKeyspace, PreviewStep, preview};
pub use rehearse::{Rehearsal, RehearsedKeyspace};
pub use status::{
    QuarantineStatus, QuarantinedKeyspace, SourceStatus, Status, TargetStatus, Verb, status,
};
pub use verified::{Compared, Verified, VerifiedKeyspace, VerifiedStore};
