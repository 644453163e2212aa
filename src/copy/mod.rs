//! Copying and verifying: pairs become rows, rows are read back, and both sides' digests must agree.

mod ahead;
mod digest;
mod quarantine;
mod run;
mod verify;

pub(crate) use digest::Digest;
pub(crate) use quarantine::{Counted, REFUSED_TOLD_MAX, first_refused};
pub(crate) use run::{Job, Middle, copy};
pub(crate) use verify::{Copied, compare_target, digest_source, unread, verify};
