//! What was done, went wrong, or is lost, besides the state.

use serde::Serialize;
use std::path::PathBuf;

/// What a reclaim did to a source's retired store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Freed {
    /// The source's name.
    pub source: String,
    /// Where the retired store stood.
    pub retired: PathBuf,
    /// Whether it stood there; else nothing was freed now.
    pub stood: bool,
    /// Bytes that the disk held for the files that were deleted.
    pub bytes: u64,
    /// What is not the store's own and keeps its folder there: paths below it, a folder with `/` at its
    /// end and without what is in it.
    pub rest: Vec<String>,
}

/// A step that failed and that no invariant leans on: what was asked for went on without it, and the
/// next call tries it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("could not {step} ({subject}), and went on without it: {why}")]
#[non_exhaustive]
pub struct Skipped {
    /// What the step does.
    pub step: &'static str,
    /// What it was done to.
    pub subject: String,
    /// Why it failed, and what a person can do.
    pub why: String,
}
