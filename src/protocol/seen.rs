//! What an observer sees on disk: the physical facts, and nothing that was concluded from them.

use super::{MigrationId, RecordStage, Run, Stage, Was};

/// Everything that one look shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Observation {
    /// Each source, in the plan's order.
    pub sources: Vec<SourceSeen>,
    /// The target at the caller's locator.
    pub target: TargetSeen,
    /// The claim beside it.
    pub claim: ClaimSeen,
    /// The targets at all other locators that the markers name.
    pub elsewhere: Vec<TargetSeen>,
}

/// What stands at a source's two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceSeen {
    /// At the source's path.
    pub path: AtPath,
    /// At the retired name beside it.
    pub retired: AtRetired,
    /// Whether a temporary file of ours is left beside it.
    pub temporary: bool,
}

/// What stands at a source's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtPath {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory(SecondLock),
    /// A whole marker of ours.
    Marker(MarkerSeen),
    /// A marker of ours that can't be read whole.
    Damaged,
    /// Anything else: another file, a socket, a link that leads nowhere.
    Foreign,
}

/// What stands at a source's retired name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtRetired {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory(SecondLock),
    /// A whole marker of ours.
    Marker(MarkerSeen),
    /// Anything else, a damaged marker among it.
    Foreign,
}

/// Whether the second lock inside a store's directory is set: its `version` file is ours then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecondLock {
    /// It is not: the file is fjall's own, another program's, or there is none.
    Native,
    /// It is.
    Held,
}

/// What a marker says, so far as the protocol looks at it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MarkerSeen {
    /// How final it is.
    pub stage: Stage,
    /// The run it belongs to.
    pub run: Run,
    /// What stood at the path before.
    pub was: Was,
    /// Whether it names the caller's plan.
    pub plan: bool,
    /// Whether it names the source at whose path it stands.
    pub source: bool,
    /// Whether it names just the caller's sources.
    pub sources: bool,
    /// Whether it names the caller's target.
    pub target: bool,
}

/// What a look into a target shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetSeen {
    /// No file, or a database in which nothing is.
    None,
    /// A database that holds something, and no record of this plan.
    NoRecord,
    /// A whole record of this plan.
    Record(RecordSeen),
    /// A file that is not a database, or a record that can't be read whole.
    Unreadable,
    /// It is not known: its folder is missing or can't be read, or the database is busy.
    Unreachable,
    /// The main file is gone while its `-wal` or `-journal` is there.
    MainFileGone,
}

/// What a record says, so far as the protocol looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordSeen {
    /// How far the migration is.
    pub stage: RecordStage,
    /// The run it belongs to.
    pub run: Run,
    /// Whether every keyspace is copied.
    pub copied: bool,
    /// Whether it names just the caller's sources.
    pub sources: bool,
    /// Whether it names the caller's path for every source that has nothing at both of its names.
    pub paths: bool,
}

/// What the claim file beside a target says of this plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClaimSeen {
    /// No file, or no entry for this plan.
    None,
    /// An entry for this plan.
    Id(MigrationId),
    /// A file that can't be read whole.
    Unreadable,
}
