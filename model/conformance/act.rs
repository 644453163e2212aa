//! What a daemon or its operator asks for through the public API, and how it is told what became of
//! it.

use cutover::protocol::{Contradiction, Intent, MigrationId, State};
use cutover::{Aborted, Error, Found, Observer, Plan, Progress, ticket};
use std::cell::Cell;

/// One call, or the few that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Kv,
    Begin,
    Prepare,
    Run,
    Finish,
    Abort,
    Sql,
    IntoSql,
    Rerun,
    RestoreKv,
    Reclaim,
    ReplaceTarget,
    Discard,
}

pub const ACTS: [Act; 13] = [
    Act::Kv,
    Act::Begin,
    Act::Prepare,
    Act::Run,
    Act::Finish,
    Act::Abort,
    Act::Sql,
    Act::IntoSql,
    Act::Rerun,
    Act::RestoreKv,
    Act::Reclaim,
    Act::ReplaceTarget,
    Act::Discard,
];

/// What a caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was done, and this is the state.
    Done(State),
    /// The state has no such move: it does not compile.
    NoSuchMove(State),
    Refused,
    Interrupted,
    OutcomeUnknown,
    Contradiction(Contradiction),
    Verification,
    NeedsApproval,
    /// Nothing: the process was killed.
    Killed,
}

/// What an act is in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// The driver is asked for these, one after the other.
    Intents(Vec<Intent>),
    /// The call ends before the driver is asked for anything.
    Ends(Told),
}

impl Act {
    /// What it is in `state`; none where there is no state. A migration that begins gets `id`.
    pub fn script(self, state: Option<State>, id: MigrationId) -> Option<Script> {
        let begin = Intent::Begin(id);
        let intents = |intents: &[Intent]| Some(Script::Intents(intents.to_vec()));
        // These look for themselves.
        match self {
            Self::ReplaceTarget => return intents(&[Intent::ReplaceTarget]),
            Self::Discard => return intents(&[Intent::Discard]),
            Self::Kv
            | Self::Begin
            | Self::Prepare
            | Self::Run
            | Self::Finish
            | Self::Abort
            | Self::Sql
            | Self::IntoSql
            | Self::Rerun
            | Self::RestoreKv
            | Self::Reclaim => {}
        }
        let state = state?;
        match (self, state) {
            (Self::Kv, State::Fresh) => intents(&[Intent::UseKv]),
            (Self::Kv, State::Migrating { rerun: false }) => {
                intents(&[Intent::Abort, Intent::UseKv])
            }
            (Self::Kv, _) => Some(Script::Ends(Told::Refused)),
            (Self::Begin, State::Fresh) => intents(&[begin]),
            (Self::Prepare, State::Migrating { .. }) => intents(&[Intent::Prepare]),
            (Self::Run, State::Migrating { .. }) => intents(&[Intent::Copy]),
            (Self::Finish, State::Committed) => intents(&[Intent::Finish]),
            (Self::Abort, State::Migrating { .. }) => intents(&[Intent::Abort]),
            (Self::Abort, State::Committed) => intents(&[Intent::AbortCommitted]),
            (Self::Sql, State::Fresh) => {
                intents(&[begin, Intent::Copy, Intent::Finish, Intent::UseSql])
            }
            (Self::Sql, State::Migrating { .. }) => {
                intents(&[Intent::Copy, Intent::Finish, Intent::UseSql])
            }
            (Self::Sql, State::Committed) => intents(&[Intent::Finish, Intent::UseSql]),
            (Self::Sql | Self::IntoSql, State::Tombstoned) => intents(&[Intent::UseSql]),
            (Self::Sql, State::RerunAllowed) => Some(Script::Ends(Told::NeedsApproval)),
            (Self::Rerun, State::RerunAllowed) => intents(&[Intent::Rerun]),
            (Self::RestoreKv, State::RerunAllowed) => intents(&[Intent::RestoreKv]),
            (Self::Reclaim, State::Tombstoned) => intents(&[Intent::Reclaim]),
            _ => Some(Script::Ends(Told::NoSuchMove(state))),
        }
    }

    /// Whether it opens the plan once more when it has come to its end.
    pub const fn opens_again(self) -> bool {
        matches!(self, Self::ReplaceTarget | Self::Discard)
    }

    /// Does it to the real thing.
    pub fn play(self, plan: &Plan, observer: &mut dyn Observer) -> Told {
        self.call(plan, observer).unwrap_or_else(|error| told(&error))
    }

    fn call(self, plan: &Plan, observer: &mut dyn Observer) -> Result<Told, Error> {
        match self {
            Self::Kv => {
                drop(cutover::kv(plan)?);
                return Ok(Told::Done(State::Fresh));
            }
            Self::Sql => {
                drop(cutover::sql(plan, observer)?);
                return Ok(Told::Done(State::Tombstoned));
            }
            Self::ReplaceTarget => {
                let recordless = matches!(
                    cutover::open(plan),
                    Err(Error::Contradiction(told)) if told.contradiction == Contradiction::RecordGone
                );
                let found = if recordless {
                    let ticket = ticket::ForgetRecord::losing_writes_made_in_sql();
                    cutover::forget_record(plan, ticket)?
                } else {
                    let ticket = ticket::ReplaceTarget::losing_the_database_for_good();
                    cutover::replace_target(plan, ticket)?
                };
                return Ok(Told::Done(state(&found)));
            }
            Self::Discard => {
                let ticket = ticket::DiscardRecord::losing_the_unfinished_copy();
                return Ok(Told::Done(state(&cutover::discard_record(plan, ticket)?)));
            }
            _ => {}
        }
        let found = cutover::open(plan)?;
        Ok(Told::Done(match (self, found) {
            (Self::Begin, Found::Fresh(handle)) => handle.begin()?.state(),
            (Self::Prepare, Found::Migrating(handle)) => handle.prepare(observer)?.state(),
            (Self::Run, Found::Migrating(handle)) => handle.run(observer)?.state(),
            (Self::Finish, Found::Committed(handle)) => handle.finish()?.state(),
            (Self::Abort, Found::Migrating(handle)) => aborted(&handle.abort()?),
            (Self::Abort, Found::Committed(handle)) => {
                aborted(&handle.abort(ticket::AbortCommitted::losing_the_committed_copy())?)
            }
            (Self::IntoSql, Found::Tombstoned(handle)) => {
                drop(handle.into_sql()?);
                State::Tombstoned
            }
            (Self::Rerun, Found::RerunAllowed(handle)) => {
                handle.rerun(ticket::Rerun::losing_also_what_a_store_has_lost())?.state()
            }
            (Self::RestoreKv, Found::RerunAllowed(handle)) => {
                handle.restore_kv(ticket::RestoreKv::losing_writes_made_in_sql())?.state()
            }
            (Self::Reclaim, Found::Tombstoned(handle)) => {
                handle.reclaim(ticket::Reclaim::losing_also_what_may_be_nowhere_else())?.state()
            }
            (_, found) => return Ok(Told::NoSuchMove(state(&found))),
        }))
    }
}

fn state(found: &Found) -> State {
    match found {
        Found::Fresh(handle) => handle.state(),
        Found::Migrating(handle) => handle.state(),
        Found::Committed(handle) => handle.state(),
        Found::Tombstoned(handle) => handle.state(),
        Found::RerunAllowed(handle) => handle.state(),
    }
}

fn aborted(aborted: &Aborted) -> State {
    match aborted {
        Aborted::Fresh(handle) => handle.state(),
        Aborted::RerunAllowed(handle) => handle.state(),
    }
}

fn told(error: &Error) -> Told {
    match error {
        Error::Refused(_) => Told::Refused,
        Error::Interrupted { .. } => Told::Interrupted,
        Error::OutcomeUnknown { .. } => Told::OutcomeUnknown,
        Error::Contradiction(told) => Told::Contradiction(told.contradiction),
        Error::Verification(_) => Told::Verification,
        Error::NeedsApproval { .. } => Told::NeedsApproval,
        other => panic!("no class is known for: {other}"),
    }
}

/// Stops the copy after this many chunks.
pub struct StopAfter(pub usize, pub Cell<usize>);

impl Observer for StopAfter {
    fn progress(&mut self, _: &Progress) {
        self.1.set(self.1.get() + 1);
    }

    fn cancelled(&self) -> bool {
        self.1.get() >= self.0
    }
}
