//! The SQL side: the target, its claim file, the record, the fence, and the transactions that
//! change them.

mod claim;
mod connection;
mod copying;
mod fence;
mod index;
mod record;
mod target;
mod throwaway;
mod trial;
mod untouched;

pub(crate) use claim::ClaimFile;
pub(crate) use connection::StepError;
pub(crate) use copying::{Copying, Draft, DraftKeyspace, check_record};
pub use target::JournalMode;
pub(crate) use target::{Access, Target, TargetLook};
pub(crate) use throwaway::Throwaway;
