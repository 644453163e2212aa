//! Errors, by what the caller can do about them.

use crate::protocol::{Contradiction, Place, RecordStage, State};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) mod advice;
pub(crate) mod denied;
#[cfg(test)]
mod texts;

/// Why a call did not do what was asked. Every message says what, where and what next, in one
/// lower-case sentence, and none holds the content of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing was changed. A failed call on a handle gives the handle back.
    #[error(transparent)]
    Refused(Cause),
    /// Something was done and the rest was not; the next start, or the same call, goes on.
    #[error("stopped part-way and nothing is lost; could not {step}: {cause}")]
    Interrupted {
        /// What was being done.
        step: &'static str,
        /// Why it stopped.
        #[source]
        cause: Cause,
    },
    /// A durable step may or may not have happened; opening again finds out.
    #[error("it is not known whether it could {step}, and the next run finds out: {cause}")]
    OutcomeUnknown {
        /// What was being done.
        step: &'static str,
        /// What the engine said.
        #[source]
        cause: Cause,
    },
    /// What is on disk fits no state; a person decides.
    #[error(transparent)]
    Contradiction(Box<Contradicted>),
    /// What was read back is not what was written; the commit point has not passed.
    #[error(transparent)]
    Verification(Box<Mismatch>),
    /// Going on would lose something, so it needs an operator's word.
    #[error("the plan is in state {state}: {why}; {next}")]
    NeedsApproval {
        /// The state's name.
        state: &'static str,
        /// What would be lost.
        why: String,
        /// How to give the word.
        next: String,
    },
}

/// What to do about a plan that has changed: once the database is live, and before.
pub(crate) const BEGUN_WITH: &str = "use the plan that it was begun with";
pub(crate) const BEGUN_WITH_OR_ABORT: &str = "use the plan that it was begun with, or abort first";

/// A contradiction, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {next}")]
#[non_exhaustive]
pub struct Contradicted {
    /// The typed contradiction.
    pub contradiction: Contradiction,
    /// What was seen, and where.
    pub what: String,
    /// What a person can do.
    pub next: String,
}

/// A keyspace whose rows in the target are not its pairs in the source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "keyspace '{}' of source '{source_name}' does not match its rows in {side}: \
     {expected_pairs} pairs expected and {found_pairs} found{}; {next}",
    .keyspace.escape_debug(),
    if expected_pairs == found_pairs { ", with other content" } else { "" }
)]
#[non_exhaustive]
pub struct Mismatch {
    /// The source's name.
    pub source_name: String,
    /// The keyspace's name.
    pub keyspace: String,
    /// Where it was read from.
    pub side: String,
    /// Pairs that were read from the source.
    pub expected_pairs: u64,
    /// Pairs that were found.
    pub found_pairs: u64,
    /// What a person can do.
    pub next: String,
}

/// A pair that a mapping refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, thiserror::Error)]
#[error("{}/{key}: {reason}", .keyspace.escape_debug())]
#[non_exhaustive]
pub struct RefusedPair {
    /// The keyspace's name.
    pub keyspace: String,
    /// The key's first bytes, in hex digits.
    pub key: String,
    /// The mapping's words, on one line, at most 200 bytes of them.
    pub reason: String,
}

/// What went wrong, without regard to how far the call had come.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// A file operation failed.
    #[error("can't {what} {}: {source}; {next}", .path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What a person can do.
        next: &'static str,
    },
    /// A file or folder is another user's, and this one may not use it.
    #[error("can't {what} {}: {} belongs to {owner} with mode {mode:o}, and this is {user}, who may not use it; {next}", .path.display(), .place.display())]
    Denied {
        /// The operation.
        what: &'static str,
        /// What it was done with.
        path: PathBuf,
        /// What is in its way: that file or folder, or one on the way to it.
        place: PathBuf,
        /// Whose it is.
        owner: String,
        /// Its mode.
        mode: u32,
        /// Who asked.
        user: String,
        /// What a person can do.
        next: String,
    },
    /// Nobody to whom the stores belong may write the target that is there, or make files beside it.
    #[error("{what} {} belongs to {owner} with mode {mode:o}, and {user}, who owns the stores, may not write to it; change its owner or its mode, and run this again", .path.display())]
    TargetLocksOut {
        /// The target, or its folder.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Its mode.
        mode: u32,
        /// Whose the stores are.
        user: String,
    },
    /// Others may write in a store of root's, which root has to open as root.
    #[error("{} {reason}, so that root can't open the store of source '{name}' at {} safely; {next}", .place.display(), .path.display())]
    StoreShared {
        /// The source.
        name: String,
        /// The store.
        path: PathBuf,
        /// What is in the way: the store's folder, or a file or folder in it.
        place: PathBuf,
        /// Why.
        reason: String,
        /// What a person can do.
        next: String,
    },
    /// The target is a file of a user who owns no store, and could read what is put into it.
    #[error("{} belongs to {owner}, who owns none of the stores and could read what is put into it; give it to {user}, who owns them, or move it away, and run this again", .path.display())]
    TargetOfAnother {
        /// The target, or a file that SQLite has beside it.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who owns the stores.
        user: String,
    },
    /// What cutover would make must belong to another user, to whom this one can't give it.
    #[error("{} belongs to {owner}, as must what is made in its place or beside it, and {user} can't give a file to another user; run this as {owner} or as root", .path.display())]
    Owner {
        /// What it takes its owner from.
        path: PathBuf,
        /// Whose that is.
        owner: String,
        /// Who asked.
        user: String,
    },
    /// The stores belong to several users, and the target can belong to one.
    #[error("the target {} would hold what belongs to several users: {}; create an empty file there first, as the user who should own it, and run this again", .path.display(), .owners.join(", "))]
    Owners {
        /// The target.
        path: PathBuf,
        /// Each store, and whose it is.
        owners: Vec<String>,
    },
    /// fjall or SQLite failed.
    #[error("{engine} failed to {what} {}: {message}; {next}", .path.display())]
    Engine {
        /// `fjall` or `SQLite`.
        engine: &'static str,
        /// The operation.
        what: &'static str,
        /// The store or database.
        path: PathBuf,
        /// What the engine said.
        message: String,
        /// What a person can do.
        next: &'static str,
    },
    /// fjall has met something in a store's own files that no store holds.
    #[error("the store {} is damaged: fjall failed to {what} it, since {reason}; open it with the program that wrote it, or restore it from a backup", .path.display())]
    StoreDamaged {
        /// The operation.
        what: &'static str,
        /// The store.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The plan can't be used as it is written.
    #[error("the plan can't be used: {0}; change the plan")]
    Plan(String),
    /// cutover itself made a mistake.
    #[error(
        "this is a bug in cutover: {0}; report it, with this message and what `cutover status` says"
    )]
    Bug(String),
    /// The plan is not the one that the copy was begun with.
    #[error("the plan is not the one that the migration was begun with: {how}; {next}")]
    PlanChanged {
        /// How it differs.
        how: String,
        /// What a person can do.
        next: &'static str,
    },
    /// A path is not UTF-8, so a marker could not name it.
    #[error("the path {} is not UTF-8, and a marker must name it; use a path that is", .0.display())]
    NotUtf8(PathBuf),
    /// A marker stands elsewhere than it was written.
    #[error("the marker at {} was written at {}: its folder was moved or copied, and the paths in it are the old ones; name the sources and the SQL database by their new paths", .path.display(), .written_at.display())]
    MarkerMoved {
        /// Where it stands.
        path: PathBuf,
        /// Where it was written.
        written_at: PathBuf,
    },
    /// A source is not there.
    #[error("source '{name}' is missing at {}; correct the path, or declare that it may be missing", .path.display())]
    SourceMissing {
        /// The source's name.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A directory is not a fjall store that this version can move.
    #[error("source '{name}' at {} is not a store that can be moved: {reason}", .path.display())]
    NotAStore {
        /// The source's name.
        name: String,
        /// Its path.
        path: PathBuf,
        /// Why, and what next.
        reason: String,
    },
    /// A store is open in another process, or in this one.
    #[error("source '{name}' at {} is in use by {holder}; stop it and run this again", .path.display())]
    SourceBusy {
        /// The source's name.
        name: String,
        /// Its path.
        path: PathBuf,
        /// The process, as far as it is known.
        holder: String,
    },
    /// Another cutover works on the same source or target.
    #[error("{} is being worked on by another cutover ({holder}); wait until it ends and run this again", .path.display())]
    Locked {
        /// The source or claim file.
        path: PathBuf,
        /// The process, as far as it is known.
        holder: String,
    },
    /// A file or folder that has to be replaced, or to get another name, can't be.
    #[error("{} can't be changed: {why}; {next}", .path.display())]
    Unchangeable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        why: &'static str,
        /// What a person can do.
        next: &'static str,
    },
    /// A source is a mount point, which can't be exchanged.
    #[error("source '{name}' at {} is a mount point and can't be replaced by a marker; mount its parent there instead and keep the store in a folder below", .path.display())]
    MountPoint {
        /// The source's name.
        name: String,
        /// Its path.
        path: PathBuf,
    },
    /// A part of a store is not simply in its folder: what is beyond a link or on a mount of its own
    /// would be neither synced nor sealed with it.
    #[error("source '{name}' is not all in its own folder: {} is {what}; put the files themselves in its place, or move it away if it is not part of the store, and run this again", .path.display())]
    Scattered {
        /// The source's name.
        name: String,
        /// The first such entry.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A retired store is not all that was sealed, or more than that: nothing is copied from it.
    #[error("the retired store of source '{name}' at {} is not what was sealed: {difference}; put it back as it was, or mount its volume, and run this again, or go back with abort, or with restore-kv where there is a tombstone, which give back the store as it is", .path.display())]
    RetiredChanged {
        /// The source's name.
        name: String,
        /// The retired store.
        path: PathBuf,
        /// The first differences.
        difference: String,
    },
    /// The file system can't exchange two names.
    #[error("the {filesystem} file system of {} can't exchange two names ({source}); move the stores to one that can (ext4, xfs, btrfs, tmpfs)", .path.display())]
    NoExchange {
        /// The folder.
        path: PathBuf,
        /// The file system's kind.
        filesystem: String,
        /// What the system said.
        source: io::Error,
    },
    /// A symbolic link of another user's leads to something that is not that user's.
    #[error("the symbolic link {} leads to {}, which is not owned by the user who made the link; give the plan the path that is meant, or make the link as the user who runs this", .path.display(), .end.display())]
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        end: PathBuf,
    },
    /// Two names of the plan lead to one directory, or one lies inside the other.
    #[error("{first} and {second} overlap at {}; give each a place of its own", .path.display())]
    Overlap {
        /// One of the two.
        first: String,
        /// The other.
        second: String,
        /// Where.
        path: PathBuf,
    },
    /// A keyspace is neither mapped nor left out.
    #[error(
        "keyspace '{}' of source '{name}' is neither mapped nor left out; map it, or leave it out explicitly",
        .keyspace.escape_debug()
    )]
    KeyspaceUnmapped {
        /// The source's name.
        name: String,
        /// The keyspace's name.
        keyspace: String,
    },
    /// The plan names a keyspace that the store does not have.
    #[error(
        "keyspace '{}' of source '{name}' is named in the plan, but its store has {}; correct the name, or declare that it may be missing",
        .keyspace.escape_debug(), keyspaces_listed(.found)
    )]
    KeyspaceMissing {
        /// The source's name.
        name: String,
        /// The keyspace's name.
        keyspace: String,
        /// The keyspaces that the store has.
        found: Vec<String>,
    },
    /// The target's folder is not there.
    #[error("the folder of the target {} is missing; create it, or mount the volume that it is on", .0.display())]
    TargetFolderMissing(PathBuf),
    /// The target is not an SQLite database.
    #[error("the target {} is not an SQLite database: {reason}; give the path of one, or of a file that does not exist yet", .path.display())]
    NotADatabase {
        /// The target.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// A table that the plan would write can't be written.
    #[error("table '{table}' in {} can't be used: {reason}; give the keyspace another table, or rename or drop the one that is there", .path.display())]
    Table {
        /// The target.
        path: PathBuf,
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// Tables that this migration had filled, or that bear their names, and no record speaks of them.
    #[error("{} has no record of this migration, and holds rows in {}: nothing fences them, so they could be written beside the KV stores; save elsewhere what you need of them, then rename or drop these tables, or move the whole file away, and run this again", .path.display(), .tables.join(", "))]
    RowsLeft {
        /// The target.
        path: PathBuf,
        /// The tables.
        tables: Vec<String>,
    },
    /// A table can't be created from its definition, or that makes something else.
    #[error("table '{table}' in {} can't be created from its definition: {reason}; fix the mapping's CREATE TABLE and run this again, or abort", .path.display())]
    Definition {
        /// The target.
        path: PathBuf,
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// What a mapping writes does not fit its table.
    #[error("what keyspace '{keyspace}' of source '{name}' becomes does not fit table '{table}' in {}: {reason}; change the mapping or the table and run this again", .path.display())]
    Misfit {
        /// The source.
        name: String,
        /// The keyspace.
        keyspace: String,
        /// The target.
        path: PathBuf,
        /// The table.
        table: String,
        /// All that does not fit.
        reason: String,
    },
    /// An index that the plan asks for can't be made.
    #[error("an index of table '{table}' in {} can't be created: {reason}; change the plan and run this again, or abort", .path.display())]
    Index {
        /// The target.
        path: PathBuf,
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// The claim file of the target can't take one more plan.
    #[error("the claim file {} can't be written: {reason}; give this plan another target", .path.display())]
    Claims {
        /// The claim file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is not enough space for the rows.
    #[error("the copy needs about {} in {}, where {} are free; free some and run this again", size(*.needed_bytes), .path.display(), size(*.available_bytes))]
    DiskFull {
        /// The target's folder.
        path: PathBuf,
        /// Bytes needed, estimated.
        needed_bytes: u64,
        /// Bytes free.
        available_bytes: u64,
    },
    /// Something stands where a rehearsal would put its database.
    #[error("{} was not made by a rehearsal; move it away and run this again", .0.display())]
    InTheWay(PathBuf),
    /// A mapping refused a pair.
    #[error(
        "the pair with key {key} in keyspace '{}' of source '{name}' can't be mapped: {reason}; fix the pair or the mapping, then run this again, or abort",
        .keyspace.escape_debug()
    )]
    PairRefused {
        /// The source's name.
        name: String,
        /// The keyspace's name.
        keyspace: String,
        /// The key's first bytes, in hex digits.
        key: String,
        /// The mapping's words.
        reason: String,
    },
    /// A mapping can't make a pair again of a row.
    #[error(
        "a row of keyspace '{}' of source '{name}' in {} can't be read back: {reason}; fix the mapping or the row, then run this again, or before the commit point abort",
        .keyspace.escape_debug(), .path.display()
    )]
    RowRefused {
        /// The source's name.
        name: String,
        /// The keyspace's name.
        keyspace: String,
        /// The target.
        path: PathBuf,
        /// The mapping's words.
        reason: String,
    },
    /// The daemon's own check of what was copied said no.
    #[error("the daemon's own check of {} says: {reason}; fix what it found, or the check, then run this again, or abort", .path.display())]
    CheckRefused {
        /// The target.
        path: PathBuf,
        /// The check's words.
        reason: String,
    },
    /// A mapping refused a pair, and the plan lets no more into quarantine.
    #[error(
        "the pair with key {key} in keyspace '{}' of source '{name}' can't be mapped: {reason}; {quarantined} pairs of the source are in quarantine already, in table '{table}', and the plan allows no more; look at them, fix the mapping or allow more, then run this again, or abort",
        .keyspace.escape_debug()
    )]
    QuarantineFull {
        /// The source's name.
        name: String,
        /// The keyspace's name.
        keyspace: String,
        /// The key's first bytes, in hex digits.
        key: String,
        /// The mapping's words.
        reason: String,
        /// Pairs of the source that are in quarantine.
        quarantined: u64,
        /// The table that they are in.
        table: String,
    },
    /// A rehearsal tried every pair, and mappings refused more than the plan lets into quarantine.
    #[error(
        "{refused} {} of source '{name}' can't be mapped, and the plan allows {budget} in quarantine: {}; fix them or the mapping, or allow more, then rehearse again",
        if *refused == 1 { "pair" } else { "pairs" }, shown_first(.first, *.refused)
    )]
    PairsRefused {
        /// The source's name.
        name: String,
        /// Pairs of the source that were refused.
        refused: u64,
        /// Pairs of it that the plan lets into quarantine.
        budget: u64,
        /// The first of them, at most 20.
        first: Vec<RefusedPair>,
    },
    /// The target's tables or fence are not as the migration left them.
    #[error("table '{table}' in {} was changed by somebody else during the migration; {next}", .path.display())]
    TargetAltered {
        /// The target.
        path: PathBuf,
        /// The table.
        table: String,
        /// What a person can do.
        next: &'static str,
    },
    /// Something moved between looking and acting.
    #[error("{} changed while cutover worked on it; find out who changed it and run this again", .0.display())]
    ChangedUnderneath(PathBuf),
    /// The record changed between looking and acting.
    #[error("the record in {} is not the one that was read before; run this again", .0.display())]
    RecordChanged(PathBuf),
    /// The observer asked to stop.
    #[error("cancelled on request; run this again to go on")]
    Cancelled,
    /// The KV stores were asked for, and their data is in SQL, or on its way there for good.
    #[error(
        "the plan is in state {state}: the data of {} is in the SQL database {}, or on its way there for good; {next}",
        listed(.sources), .target.display()
    )]
    Moved {
        /// The state's name.
        state: &'static str,
        /// Each source's name, and its path, where a marker stands now.
        sources: Vec<(String, PathBuf)>,
        /// The SQL database.
        target: PathBuf,
        /// What fits.
        next: &'static str,
    },
    /// What was asked for does not fit the state.
    #[error("the plan is in state {state}: {why}; {next}")]
    State {
        /// The state's name.
        state: &'static str,
        /// Why it does not fit.
        why: &'static str,
        /// What fits.
        next: &'static str,
    },
    /// More than one thing went wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; and "))]
    Several(Vec<Cause>),
}

impl Error {
    /// What this error is to a caller for whom something was changed before: where the last call has
    /// refused, the whole has stopped part-way.
    #[must_use]
    pub fn part_way(self) -> Self {
        match self {
            Self::Refused(cause) => Self::Interrupted { step: "go on", cause },
            other => other,
        }
    }
}

/// A failed call on a handle: the error, and the handle where nothing was changed.
#[derive(Debug)]
pub struct Failed<H> {
    /// Why.
    pub error: Error,
    /// The handle, where the error is [`Error::Refused`].
    pub handle: Option<H>,
}

impl<H> From<Error> for Failed<H> {
    /// Without the handle: it is gone.
    fn from(error: Error) -> Self {
        Self { error, handle: None }
    }
}

impl<H> From<Failed<H>> for Error {
    fn from(failed: Failed<H>) -> Self {
        failed.error
    }
}

impl<H: std::fmt::Debug> std::error::Error for Failed<H> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<H> std::fmt::Display for Failed<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl Cause {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            let denied = || denied::denied(what, &path);
            let is_denied = source.kind() == io::ErrorKind::PermissionDenied;
            is_denied.then(denied).flatten().unwrap_or_else(|| {
                let next = advice::of_system(&source, &path);
                Self::Io { what, path, source, next }
            })
        }
    }

    pub(crate) fn io_rustix(
        what: &'static str,
        path: &Path,
    ) -> impl FnOnce(rustix::io::Errno) -> Self {
        let io = Self::io(what, path);
        move |errno| io(errno.into())
    }

    /// What is wrong, and what a person can do about it: the two parts of its message.
    pub(crate) fn in_two(&self) -> (String, String) {
        in_two(&self.to_string())
    }

    /// Whether the system refused something: what is there is not known.
    pub(crate) const fn is_of_the_system(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Denied { .. })
    }
}

/// The two parts of a message of ours: every one ends in what a person can do.
pub(crate) fn in_two(message: &str) -> (String, String) {
    let (what, next) = message.rsplit_once("; ").unwrap_or((message, "run this again"));
    (what.to_owned(), next.to_owned())
}

/// What somebody's own code says, as a part of a message, which is one line.
pub(crate) fn on_one_line(words: &str) -> String {
    words.replace(char::is_control, " ")
}

fn shown_first(first: &[RefusedPair], refused: u64) -> String {
    let mut shown: Vec<String> = first.iter().map(ToString::to_string).collect();
    let more = refused.saturating_sub(u64::try_from(first.len()).unwrap_or(u64::MAX));
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join("; ")
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.iter().find(|(_, shift)| bytes >> shift > 0);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(unit, shift)| {
            let hundredths = (u128::from(bytes) * 100) >> shift;
            format!("{}.{:02} {unit}", hundredths / 100, hundredths % 100)
        },
    )
}

/// Names that are listed in a message; the others are counted.
const NAMES_SHOWN: usize = 20;

/// Names of files, on one line.
pub(crate) fn shown_files(files: &[String]) -> String {
    shown_names(files, |file| file.escape_debug().to_string()).join(", ")
}

fn shown_names(names: &[String], told: impl Fn(&String) -> String) -> Vec<String> {
    let mut shown: Vec<String> = names.iter().take(NAMES_SHOWN).map(told).collect();
    if names.len() > NAMES_SHOWN {
        shown.push(format!("{} more", names.len() - NAMES_SHOWN));
    }
    shown
}

fn keyspaces_listed(found: &[String]) -> String {
    let shown = shown_names(found, |name| format!("'{}'", name.escape_debug()));
    if shown.is_empty() { "no keyspace at all".to_owned() } else { shown.join(", ") }
}

fn listed(sources: &[(String, PathBuf)]) -> String {
    let sources =
        sources.iter().map(|(name, path)| format!("source '{name}' at {}", path.display()));
    sources.collect::<Vec<_>>().join(" and ")
}

/// The words of a contradiction: the paths are the caller's.
pub(crate) struct Words<'a> {
    pub(crate) source: &'a dyn Fn(usize) -> (String, PathBuf),
    pub(crate) target: &'a Path,
    pub(crate) elsewhere: Option<&'a Path>,
    /// Whether there is any trace of a migration of the plan.
    pub(crate) begun: bool,
    /// Whether an abort needs nothing of the target: the stores were only sealed.
    pub(crate) only_sealed: bool,
    /// The stage of the record in the target, where there is one.
    pub(crate) record: Option<RecordStage>,
    /// The plan's sources.
    pub(crate) sources: usize,
    /// Why something could not be read, where that is the contradiction.
    pub(crate) detail: Option<String>,
    /// What a person can do about that, where it is known more exactly.
    pub(crate) cure: Option<String>,
    /// Whether the next run puts the markers back, once what stands in their places was moved away.
    pub(crate) puts_back: bool,
    /// The commands by which an operator goes on without the SQL database, or without its record.
    pub(crate) lost: Option<String>,
}

impl Words<'_> {
    /// `first`, and then the abort that needs nothing of the target, or else `other`.
    fn or_go_back(&self, first: &str, other: &str) -> String {
        if self.only_sealed {
            format!("{first}; or go back with `cutover abort`, which needs nothing of it")
        } else {
            format!("{first}; {other}")
        }
    }

    /// What to do where `what` is lost, and no backup is left of it.
    fn if_lost(&self, what: &str) -> String {
        match &self.lost {
            Some(commands) => format!("if {what} is lost for good, run {commands}"),
            None => format!("if {what} is lost, restore it from a backup"),
        }
    }

    /// What to do where the SQL database is lost and another place must do.
    fn if_lost_elsewhere(&self) -> String {
        match &self.lost {
            Some(commands) => {
                format!(
                    "if the SQL database is lost for good, give another target, and run {commands}"
                )
            }
            None => self.if_lost("the SQL database"),
        }
    }

    /// What to do where a retired store has no marker any more.
    fn without_marker(&self, path: &str, retired: &str) -> String {
        let back = format!("mv -T {retired} {path} && printf 'FJL\\003' > {path}/version");
        let target = self.target.display();
        if self.record.is_some() {
            return format!(
                "put the marker back from a backup; only if that migration is not wanted any more, move the store back ({back}), and `cutover status` says what comes next"
            );
        }
        let others = if self.sources > 1 {
            ", delete the marker of every other source of the plan, and move its store back in the same way"
        } else {
            ""
        };
        format!(
            "put the marker, or {target}, back from a backup and run this again; only if you want the KV stores back and no SQL database is in use, move the store back ({back}){others}"
        )
    }

    /// Tells what was seen and what a person can do (I-4).
    pub(crate) fn tell(&self, contradiction: Contradiction) -> Contradicted {
        use crate::protocol::marker::RETIRED_SUFFIX;
        let (name, path) = match contradiction.place() {
            Place::Source(source) => (self.source)(source),
            Place::Target | Place::Claim | Place::Elsewhere => (String::new(), PathBuf::new()),
        };
        let path = path.display();
        let retired = format!("{path}{RETIRED_SUFFIX}");
        let target = self.target.display();
        let elsewhere = self.elsewhere.map_or_else(String::new, |e| e.display().to_string());
        let detail = self.detail.as_deref().map_or_else(String::new, |d| format!(" ({d})"));
        let (what, next) = match contradiction {
            Contradiction::DamagedMarker(_) => (
                format!("the marker of source '{name}' at {path} is damaged{detail}"),
                if self.puts_back {
                    format!("nothing is lost, since {target} is live: move the marker away (mv {path} {path}.damaged) and at once run `cutover migrate`, which writes it anew")
                } else {
                    format!("put it back from a backup; only if there is none, and no program uses the store or {target}, move it away, and `cutover status` says how the store at {retired} comes back")
                },
            ),
            Contradiction::ForeignAtPath(_) => (
                format!("what is at {path}, the path of source '{name}', is neither a store nor a marker{detail}"),
                if self.puts_back {
                    format!("nothing is lost, since {target} is live: move it away and at once run `cutover migrate`, which puts the marker there again")
                } else {
                    "if a marker stood here, put it back from a backup; otherwise move it away, or correct the path".to_owned()
                },
            ),
            Contradiction::ForeignAtRetired(_) => (
                format!("{retired} was not put there by this migration{detail}"),
                "move it away and run this again".to_owned(),
            ),
            Contradiction::OtherPlan(_) => (
                format!("the marker at {path} belongs to another plan{detail}"),
                "use that plan's name, or correct the path".to_owned(),
            ),
            Contradiction::OtherSource(_) => (
                format!("the marker at {path} is another source's, not '{name}'{detail}"),
                "move each marker back to its own path, or correct the plan".to_owned(),
            ),
            Contradiction::OtherSources(_) => (
                format!("the marker at {path} names other sources than the plan{detail}"),
                "use the plan that it names; abort works on the marker's own list".to_owned(),
            ),
            Contradiction::MigrationsDiffer(_, other) => (
                format!(
                    "the markers of sources '{name}' at {path} and '{}' belong to different migrations",
                    (self.source)(other).0
                ),
                "find out which was restored from a backup or moved here, and put the right one back".to_owned(),
            ),
            Contradiction::MarkerGone(_) => (
                format!("source '{name}' has its retired store at {retired} and no marker at {path}"),
                self.without_marker(&path.to_string(), &retired),
            ),
            Contradiction::TwoStores(_) if !self.begun => (
                format!("there is a folder at {retired}, and cutover needs that name for the store of source '{name}' at {path}"),
                format!("move {retired} away"),
            ),
            Contradiction::TwoStores(_) if self.puts_back => (
                format!("source '{name}' has a store at {path} and another at {retired}, and {target} is live"),
                format!("stop every program that uses {path}, move that elsewhere, and at once run `cutover migrate`, which puts the marker back; leave {retired}, the migration's own store, where it is"),
            ),
            Contradiction::TwoStores(_) => (
                format!("source '{name}' has a store at {path} and another at {retired}"),
                format!("find out which is right; the migration's own is {retired}; move the other away"),
            ),
            Contradiction::SwappedBack(_) => (
                format!("a store stands at {path} although source '{name}' was retired, and its marker is at {retired}"),
                format!("exchange the two names again (mv --exchange {path} {retired})"),
            ),
            Contradiction::HeldStoreAtPath(_) => (
                format!("the retired store of source '{name}' stands at {path}, where its marker belongs"),
                format!("move it back (mv -T {path} {retired}) and run this again, and if something stands there already, move that elsewhere first"),
            ),
            Contradiction::RetiredGone(_) => (
                format!("the retired store of source '{name}' is not at {retired}"),
                "put it back; if it is lost, restore the store or the SQL database from a backup".to_owned(),
            ),
            Contradiction::ReturnedStore(_) => (
                format!("a store stands at {path} beside the live SQL database {target}, so both could be written"),
                if self.puts_back {
                    "stop every program that uses it at once; keep the one whose writes you need and move the other away; once the store is away, `cutover migrate` puts the marker back".to_owned()
                } else {
                    "stop every program that uses it at once; keep the one whose writes you need and move the other away".to_owned()
                },
            ),
            Contradiction::OpenBesideRecord(_) => (
                format!("source '{name}' at {path} is open although {target} says that it is sealed"),
                format!("if its marker was deleted, put it back from a backup; if that migration is not wanted any more, `cutover abort` removes what it put into {target}, and nothing else"),
            ),
            Contradiction::OpenBesideTombstone(_) => (
                format!("source '{name}' at {path} is open although another source of the plan has a tombstone"),
                format!("if that store came from a backup, move it elsewhere than {path} and put the marker back; only if you want the KV stores back and no SQL database is in use, delete the marker of every other source of the plan and move its store back: mv -T X.retired X && printf 'FJL\\003' > X/version"),
            ),
            Contradiction::MixedStages(_) => (
                format!("the marker of source '{name}' at {path} does not fit the other markers"),
                "find out which was restored from a backup, and put the right one back".to_owned(),
            ),
            Contradiction::RestoringBesideRecord(_) => (
                format!("source '{name}' at {path} is being given back although {target} holds a record"),
                "`cutover abort` removes what that migration put there, and nothing else; then run restore-kv again".to_owned(),
            ),
            Contradiction::SourceElsewhere(_) => (
                format!("nothing stands at {path}, and {target}, which is live, names another path for source '{name}'"),
                "correct the path; if the folder was moved, move its marker too".to_owned(),
            ),
            Contradiction::LiveBesideSealed(_) => (
                format!("{target} is live although source '{name}' at {path} is only sealed"),
                "find out whether an older marker was restored, and put the right one back".to_owned(),
            ),
            Contradiction::ReclaimedWithoutTarget(_) => (
                format!("the retired store of source '{name}' was freed, and {target} has no record of what replaced it"),
                format!("restore {target} from a backup"),
            ),
            Contradiction::RecordWithoutMarkers => (
                format!("{target} holds an unfinished migration although no source has a marker"),
                "it is left over from an earlier attempt: `cutover abort` removes what that put there, and nothing else".to_owned(),
            ),
            Contradiction::RecordOfAnotherMigration if self.record == Some(RecordStage::Live) => (
                format!("{target} is live, and belongs to another migration than the markers"),
                "use the SQL database that belongs to the markers; if this one is another deployment's, which needs a plan name of its own, stop its daemon, move the file and its claim file away, run `cutover abort`, and move them back".to_owned(),
            ),
            Contradiction::RecordOfAnotherMigration => (
                format!("{target} belongs to another migration than the markers"),
                "use the SQL database that belongs to the markers; `cutover abort` removes an unfinished migration from this one, and nothing else".to_owned(),
            ),
            Contradiction::RecordOfOtherSources => (
                format!("{target} names other sources than the plan{detail}"),
                "use the plan that the migration was begun with, or give this one a name of its own".to_owned(),
            ),
            Contradiction::StaleTarget => (
                format!("{target} is of another attempt than the markers: an older file turned up"),
                format!("put the right {target} back, or, if this one is unfinished, `cutover abort` removes what that attempt put there; then run this again"),
            ),
            Contradiction::OlderTarget => (
                format!("{target} is unfinished although the markers say that it was live: an older copy was restored"),
                format!("restore the live {target}; if it is lost, `cutover abort` removes the unfinished copy, and then rerun"),
            ),
            Contradiction::ClaimMissing => (
                format!("the stores have markers, and there is no claim file beside {target}: its volume may not be mounted, or the path is wrong"),
                self.or_go_back("mount the volume or correct the path", &self.if_lost("the SQL database")),
            ),
            Contradiction::ClaimOfAnotherMigration => (
                format!("the claim file beside {target} is of another migration than the markers"),
                self.or_go_back("correct the path", &self.if_lost("the SQL database")),
            ),
            Contradiction::ClaimUnreadable => (
                format!("the claim file beside {target} can't be read{detail}"),
                self.or_go_back("put it back from a backup, or move away what stands there", "run this again"),
            ),
            Contradiction::LiveElsewhere => (
                format!("a live SQL database of this plan is at {elsewhere}, and the plan says {target}"),
                format!("use {elsewhere}; if it was copied, move one of the two away"),
            ),
            Contradiction::RecordElsewhere => (
                format!("an unfinished migration of this plan is at {elsewhere}, and the plan says {target}"),
                format!("use {elsewhere}; if it was copied, move one of the two away"),
            ),
            // The detail is where the folder was moved from.
            Contradiction::TargetElsewhere if self.detail.is_some() => (
                format!("the markers name the SQL database {elsewhere}, and the plan says {target}: their folder was moved or copied{detail}"),
                format!(
                    "if it was copied, use the original; if it was moved and nothing is left at the old place, nothing more is lost than the SQL database: give every new path, and {}",
                    self.lost.as_ref().map_or_else(|| "restore that from a backup".to_owned(), |commands| format!("run {commands}"))
                ),
            ),
            Contradiction::TargetElsewhere => (
                format!("the markers name the SQL database {elsewhere}, and the plan says {target}"),
                format!("use {elsewhere}; {}", self.if_lost("it")),
            ),
            Contradiction::RecordGone => (
                format!("the markers say that {target} was live, and it is there without its record (table cutover_record): somebody dropped it, or another file stands there"),
                format!("put the record back from a backup of {target}; if another file stands there, move that away{}", self.lost.as_ref().map_or_else(String::new, |commands| format!("; only if you can do without the writes made in SQL, run {commands}"))),
            ),
            Contradiction::RecordGoneElsewhere => (
                format!("the markers say that {elsewhere} was live, and it is there without its record (table cutover_record), and the plan says {target}"),
                format!("name {elsewhere} in the plan, and `cutover status` says what can be done"),
            ),
            Contradiction::TargetUnreadable => (
                format!("the stores have markers, and {target} can't be read as their SQL database{detail}"),
                self.or_go_back(&format!("restore {target} from a backup, or, if it is not the right file, correct the path"), "only if you can do without what was written to it, stop every program that uses it, move it away, with its -wal and -journal, and `cutover status` says what can be done"),
            ),
            Contradiction::TargetUnreachable => (
                format!("it is not known what {target} holds{detail}"),
                self.or_go_back(self.cure.as_deref().unwrap_or("mount its volume or end what keeps it busy, and run this again"), &self.if_lost_elsewhere()),
            ),
            Contradiction::TargetMainFileGone => (
                format!("{target} is gone while its -wal or -journal file is still there"),
                self.or_go_back("put the main file back beside it", "only if it is lost for good, move the other away too"),
            ),
        };
        Contradicted { contradiction, what, next }
    }
}

/// The refusal of an intent that the state has no edge for.
pub(crate) fn not_from(state: State, why: &'static str, next: &'static str) -> Cause {
    Cause::State { state: state.name(), why, next }
}
