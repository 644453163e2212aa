//! What a migration tells while it works, and how it is asked to stop.

/// What a migration is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The pairs of the stores are being counted, for a preview.
    Counting,
    /// Rows are being written to the target.
    Copying,
    /// The target is being re-read.
    Verifying,
}

/// How far a phase is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The phase.
    pub phase: Phase,
    /// The source's name.
    pub source: String,
    /// The keyspace's name.
    pub keyspace: String,
    /// Pairs done in this phase, over all keyspaces, earlier attempts' chunks included.
    pub pairs: u64,
    /// Bytes of keys and values done in this phase.
    pub bytes: u64,
    /// An estimate of all pairs, where there is one: fjall's own while copying, exact afterwards.
    pub pairs_expected: Option<u64>,
}

/// Told about each durable step and each chunk; asked whether to stop. All methods have a default.
pub trait Observer {
    /// A chunk is durable, or a part of the target has been re-read.
    fn progress(&mut self, progress: &Progress) {
        let _ = progress;
    }

    /// A durable step was done: its name, and what it was done to.
    fn step(&mut self, name: &str, subject: &str) {
        let _ = (name, subject);
    }

    /// Whether to stop at the next chunk's end. The state is left as it is; run it again to go on.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Watches nothing and never stops.
impl Observer for () {}
