//! What can be done next, as the command names it.

use super::{Places, Seen};
use crate::place::{Look, Standing};
use crate::protocol::record::Record;
use crate::protocol::{Contradiction, Intent, MigrationId, Observation, State};
use serde::Serialize;

/// Something that can be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Verb {
    /// The command's verb.
    pub verb: &'static str,
    /// What it does.
    pub does: &'static str,
}

impl Verb {
    pub(crate) const PLAN: Self = Self { verb: "plan", does: "say what a migration would do" };
    pub(crate) const MIGRATE: Self = Self { verb: "migrate", does: "move the stores into SQL" };
    pub(crate) const RESUME: Self = Self { verb: "migrate", does: "go on from where it stopped" };
    pub(crate) const RESUME_COPIED: Self =
        Self { verb: "migrate", does: "go on from where it stopped: all is copied" };
    pub(crate) const PREPARE: Self =
        Self { verb: "prepare", does: "copy, and stop before the commit point to look" };
    pub(crate) const FINALIZE: Self =
        Self { verb: "finalize", does: "read the whole copy back once more, commit, and finish" };
    pub(crate) const FINISH: Self =
        Self { verb: "migrate", does: "set the tombstones and make the SQL database live" };
    pub(crate) const ABORT: Self =
        Self { verb: "abort", does: "give the stores back as they were" };
    pub(crate) const ABORT_RERUN: Self =
        Self { verb: "abort", does: "throw the new copy away; the tombstones stay" };
    pub(crate) const ABORT_COMMITTED: Self = Self {
        verb: "abort",
        does: "throw the verified copy away; the stores go back unless a tombstone stands",
    };
    pub(crate) const ABORT_CHANGED: Self = Self {
        verb: "abort --even-if-changed",
        does: "throw the copy away, though a retired store may have lost what is in it",
    };
    pub(crate) const VERIFY: Self =
        Self { verb: "verify", does: "compare both sides with what was copied" };
    pub(crate) const PUT_BACK: Self =
        Self { verb: "migrate", does: "put back the marker that is gone" };
    pub(crate) const RECLAIM: Self =
        Self { verb: "reclaim", does: "free the retired stores' bytes; no way back after that" };
    pub(crate) const RECLAIM_CHANGED: Self = Self {
        verb: "reclaim --even-if-changed",
        does: "free the retired stores' bytes, though some are not as they were sealed",
    };
    pub(crate) const RERUN: Self = Self {
        verb: "rerun",
        does: "copy the retired stores once more; writes made in SQL are lost",
    };
    pub(crate) const RERUN_CHANGED: Self = Self {
        verb: "rerun --even-if-changed",
        does: "copy the retired stores as they are now, though nothing says what was sealed",
    };
    pub(crate) const RESTORE: Self = Self {
        verb: "restore-kv",
        does: "give the stores back as they were sealed; writes made in SQL are lost",
    };
    pub(crate) const DISCARD: Self = Self {
        verb: "abort",
        does: "remove what an unfinished migration left in the SQL file, and nothing else",
    };
    pub(crate) const RERUN_LOST: Self = Self {
        verb: "rerun --target-lost",
        does: "copy once more, if the SQL database is gone for good",
    };
    pub(crate) const RERUN_LOST_CHANGED: Self = Self {
        verb: "rerun --target-lost --even-if-changed",
        does: "copy the retired stores as they are now, if the SQL database is gone for good",
    };
    pub(crate) const RESTORE_LOST: Self = Self {
        verb: "restore-kv --target-lost",
        does: "give the stores back, if the SQL database is gone for good",
    };
    pub(crate) const RERUN_RECORDLESS: Self = Self {
        verb: "rerun --record-lost",
        does: "copy once more, without the writes made in SQL",
    };
    pub(crate) const RERUN_RECORDLESS_CHANGED: Self = Self {
        verb: "rerun --record-lost --even-if-changed",
        does: "copy the retired stores as they are now, without the writes made in SQL",
    };
    pub(crate) const RESTORE_RECORDLESS: Self = Self {
        verb: "restore-kv --record-lost",
        does: "give the stores back, without the writes made in SQL",
    };
    pub(crate) const ABORT_LOST: Self = Self {
        verb: "abort --target-lost",
        does: "abort a migration that has not committed, if its SQL file is gone for good",
    };

    /// The same with one more word, where it would copy from a retired store that may be a part alone.
    fn where_known(self, places: &Places, seen: &Seen) -> Self {
        let changed = [
            (Self::RERUN, Self::RERUN_CHANGED),
            (Self::RERUN_LOST, Self::RERUN_LOST_CHANGED),
            (Self::RERUN_RECORDLESS, Self::RERUN_RECORDLESS_CHANGED),
        ];
        let changed = changed.iter().find(|(known, _)| *known == self);
        match changed {
            Some((_, changed)) if places.unknown(seen).next().is_some() => *changed,
            Some(_) | None => self,
        }
    }
}

/// What the protocol, and the refusals before its first step, leave to be done, in the words that fit
/// the state.
pub(crate) fn verbs(state: State, places: &Places, seen: &Seen) -> Vec<Verb> {
    // Any id will do to ask.
    let begin = Intent::Begin(MigrationId(0));
    let asked = match state {
        State::Fresh => vec![(begin, Verb::PLAN), (begin, Verb::MIGRATE), (begin, Verb::PREPARE)],
        State::Migrating { rerun } => {
            let mut asked = if seen.record().is_some_and(Record::copied) {
                vec![(Intent::Copy, Verb::FINALIZE), (Intent::Copy, Verb::RESUME_COPIED)]
            } else {
                vec![(Intent::Copy, Verb::RESUME), (Intent::Prepare, Verb::PREPARE)]
            };
            asked.push((Intent::Abort, if rerun { Verb::ABORT_RERUN } else { Verb::ABORT }));
            asked
        }
        State::Committed => {
            vec![(Intent::Finish, Verb::FINISH), (Intent::AbortCommitted, Verb::ABORT_COMMITTED)]
        }
        State::Tombstoned => {
            let is_gone = |look: &Look| look.path == Standing::Nothing;
            let put_back =
                seen.looks.iter().any(is_gone).then_some((Intent::UseSql, Verb::PUT_BACK));
            put_back.into_iter().chain([(Intent::Reclaim, Verb::RECLAIM)]).collect()
        }
        State::RerunAllowed => {
            vec![(Intent::Rerun, Verb::RERUN), (Intent::RestoreKv, Verb::RESTORE)]
        }
    };
    let allowed = asked.into_iter().filter(|(intent, _)| places.allows(seen, *intent));
    let allowed = allowed.map(|(_, verb)| verb.where_known(places, seen));
    // It reads and reports, whatever there is.
    let verify = (state == State::Tombstoned).then_some(Verb::VERIFY);
    verify.into_iter().chain(allowed).collect()
}

/// The verbs by which an operator goes on without the target that the markers name, or without its
/// record; `replaced` is what would be seen once that was given up.
pub(crate) fn without_target(
    places: &Places,
    seen: &Seen,
    contradiction: Contradiction,
    replaced: Option<(State, Observation)>,
) -> Vec<Verb> {
    let Some((state, observation)) = replaced else { return Vec::new() };
    let asked: &[(Intent, Verb)] = match state {
        State::Migrating { .. } => &[(Intent::Abort, Verb::ABORT_LOST)],
        State::RerunAllowed if contradiction == Contradiction::RecordGone => &[
            (Intent::Rerun, Verb::RERUN_RECORDLESS),
            (Intent::RestoreKv, Verb::RESTORE_RECORDLESS),
        ],
        State::RerunAllowed => {
            &[(Intent::Rerun, Verb::RERUN_LOST), (Intent::RestoreKv, Verb::RESTORE_LOST)]
        }
        State::Fresh | State::Committed | State::Tombstoned => &[],
    };
    let allowed = asked.iter().filter(|(intent, _)| places.allows_at(&observation, seen, *intent));
    allowed.map(|(_, verb)| verb.where_known(places, seen)).collect()
}
