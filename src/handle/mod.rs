//! The typed states: one handle for each, and a method for each legal move, which consumes it.

use crate::drive::{Driver, Freed, Skipped, stopped};
use crate::error::{Cause, Error, Failed};
use crate::look::{Loss, Places};
use crate::observer::Observer;
use crate::plan::Plan;
use crate::protocol::record::Record;
use crate::protocol::{Intent, State};
use crate::source::open_native;
use crate::verified::Verified;
use std::collections::BTreeMap;
use std::marker::PhantomData;

#[cfg(any(test, doctest))]
mod edges;

mod sealed {
    pub trait Stage {
        /// Whether a handle of this type may stand for a state.
        fn is(state: crate::protocol::State) -> bool;
    }
}

/// The state of a [`Handle`]. Sealed: the five are all there are.
pub trait Stage: sealed::Stage {}

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident: $state:pat,)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}
        impl sealed::Stage for $name {
            fn is(state: State) -> bool {
                matches!(state, $state)
            }
        }
        impl Stage for $name {}
    )*};
}

stages! {
    /// Every source is open and there is no record.
    Fresh: State::Fresh,
    /// Sources are being sealed or copied, or unsealed again.
    Migrating: State::Migrating { .. },
    /// The commit point has passed; tombstones are being set.
    Committed: State::Committed,
    /// The target is live and every source has its tombstone.
    Tombstoned: State::Tombstoned,
    /// There are tombstones, and the SQL database is gone.
    RerunAllowed: State::RerunAllowed,
}

/// A plan in state `S`, and the locks that keep it there: nobody else who asks for them looks or
/// acts until the handle is dropped.
///
/// A move that the state does not have does not compile; `src/handle/edges/mod.rs` tries each from each
/// state. The SQL database is not handed out before the tombstones stand:
///
/// ```compile_fail,E0599
/// fn too_early(handle: cutover::Handle<cutover::Committed>) {
///     let _ = handle.into_sql();
/// }
/// ```
/// ```
/// fn in_time(handle: cutover::Handle<cutover::Tombstoned>) {
///     let _ = handle.into_sql();
/// }
/// ```
///
/// The KV stores are not handed out while they are being copied:
///
/// ```compile_fail,E0599
/// fn both_at_once(handle: cutover::Handle<cutover::Migrating>) {
///     let _ = handle.into_kv();
/// }
/// ```
/// ```
/// fn one_at_a_time(handle: cutover::Handle<cutover::Fresh>) {
///     let _ = handle.into_kv();
/// }
/// ```
///
/// What loses something needs a ticket that says so:
///
/// ```compile_fail,E0061
/// fn silently(handle: cutover::Handle<cutover::RerunAllowed>) {
///     let _ = handle.rerun();
/// }
/// ```
/// ```
/// fn knowingly(handle: cutover::Handle<cutover::RerunAllowed>) {
///     let _ = handle.rerun(cutover::ticket::Rerun::losing_writes_made_in_sql());
/// }
/// ```
///
/// And a handle is used once:
///
/// ```compile_fail,E0382
/// fn twice(handle: cutover::Handle<cutover::Fresh>) {
///     let _ = handle.begin();
///     let _ = handle.into_kv();
/// }
/// ```
/// ```
/// fn once(handle: cutover::Handle<cutover::Fresh>) {
///     let _ = handle.begin();
/// }
/// ```
#[derive(Debug)]
pub struct Handle<S: Stage> {
    driver: Box<Driver>,
    state: State,
    stage: PhantomData<S>,
}

/// What opening a plan finds.
#[derive(Debug)]
pub enum Found {
    /// The KV stores are in use.
    Fresh(Handle<Fresh>),
    /// A migration has begun and not committed.
    Migrating(Handle<Migrating>),
    /// A migration has committed and is not live.
    Committed(Handle<Committed>),
    /// The SQL database is in use.
    Tombstoned(Handle<Tombstoned>),
    /// The SQL database is gone.
    RerunAllowed(Handle<RerunAllowed>),
}

/// Where an abort ends.
#[derive(Debug)]
pub enum Aborted {
    /// The sources are open again.
    Fresh(Handle<Fresh>),
    /// Tombstones stand, as they did before the attempt or since its commit point.
    RerunAllowed(Handle<RerunAllowed>),
}

/// The native stores of a plan that has not been migrated.
pub struct KvStores {
    stores: BTreeMap<String, fjall::Database>,
    rolled_back: bool,
}

/// An operator's words, where going on loses something. Each constructor names what is lost.
pub mod ticket {
    /// To go back from a commit point that has passed.
    #[derive(Debug)]
    pub struct AbortCommitted(());

    impl AbortCommitted {
        /// The verified copy in the SQL database is thrown away; the retired stores hold the data.
        #[must_use]
        pub const fn losing_the_committed_copy() -> Self {
            Self(())
        }
    }

    /// To copy once more from the retired stores.
    #[derive(Debug)]
    pub struct Rerun(pub(super) bool);

    impl Rerun {
        /// Writes made in the SQL database since it went live are lost.
        #[must_use]
        pub const fn losing_writes_made_in_sql() -> Self {
            Self(false)
        }

        /// The same, and what a retired store has lost since it was sealed, where nothing says what that was:
        /// its marker was deleted, and the one that was put back does not know.
        #[must_use]
        pub const fn losing_also_what_a_store_has_lost() -> Self {
            Self(true)
        }
    }

    /// To give the KV stores back from behind their tombstones.
    #[derive(Debug)]
    pub struct RestoreKv(());

    impl RestoreKv {
        /// Writes made in the SQL database since it went live are lost.
        #[must_use]
        pub const fn losing_writes_made_in_sql() -> Self {
            Self(())
        }
    }

    /// To free the retired bytes.
    #[derive(Debug)]
    pub struct Reclaim(pub(super) bool);

    impl Reclaim {
        /// No rerun and no way back to the KV stores is possible any more.
        #[must_use]
        pub const fn losing_the_way_back() -> Self {
            Self(false)
        }

        /// The same, and data that may be nowhere else: also where a retired store is not what was sealed, or
        /// is not known to be, and where a table that was migrated is gone.
        #[must_use]
        pub const fn losing_also_what_may_be_nowhere_else() -> Self {
            Self(true)
        }
    }

    /// To remove an unfinished copy that the markers contradict.
    #[derive(Debug)]
    pub struct DiscardRecord(());

    impl DiscardRecord {
        /// The tables that the unfinished migration filled in the target are thrown away; they were
        /// never in use.
        #[must_use]
        pub const fn losing_the_unfinished_copy() -> Self {
            Self(())
        }
    }

    /// To go on without the record of a SQL database that was live.
    #[derive(Debug)]
    pub struct ForgetRecord(());

    impl ForgetRecord {
        /// Writes made in the SQL database since it went live are lost.
        #[must_use]
        pub const fn losing_writes_made_in_sql() -> Self {
            Self(())
        }
    }

    /// To go on without the SQL database that the markers name.
    #[derive(Debug)]
    pub struct ReplaceTarget(());

    impl ReplaceTarget {
        /// The SQL database that the markers name is gone for good, and so are the writes in it.
        #[must_use]
        pub const fn losing_the_database_for_good() -> Self {
            Self(())
        }
    }
}

/// Takes the locks of `plan`, looks, and returns the state as a handle. Nothing is changed.
///
/// # Errors
///
/// [`Error::Refused`] where a path is wrong or another cutover holds a lock;
/// [`Error::Contradiction`] where what is on disk fits no state.
pub fn open(plan: &Plan) -> Result<Found, Error> {
    let driver = Box::new(Driver::new(plan)?);
    let (state, _) = driver.look()?;
    Ok(match state {
        State::Fresh => Found::Fresh(Handle::new(driver, state)?),
        State::Migrating { .. } => Found::Migrating(Handle::new(driver, state)?),
        State::Committed => Found::Committed(Handle::new(driver, state)?),
        State::Tombstoned => Found::Tombstoned(Handle::new(driver, state)?),
        State::RerunAllowed => Found::RerunAllowed(Handle::new(driver, state)?),
    })
}

/// Points every marker at the plan's target, because the one that they name is lost: its volume,
/// with the claim file, is gone. Refused where a target of this migration is found at any place
/// that a marker names.
///
/// # Errors
///
/// As [`open`]; and [`Error::Refused`] where the state has a record, or no marker.
pub fn replace_target(plan: &Plan, _ticket: ticket::ReplaceTarget) -> Result<Found, Error> {
    let mut driver = Driver::new(plan)?;
    driver.replace_target()?;
    drop(driver);
    open(plan).map_err(Error::part_way)
}

/// Goes on without the record of a SQL database that was live: somebody dropped its table
/// `cutover_record`, and no backup of it is left. A rerun or a restore is possible then. The markers
/// do not say any more that the target was live, so a record that is put back later is known as
/// stale.
///
/// # Errors
///
/// [`Error::Contradiction`] where the facts contradict each other in another way;
/// [`Cause::RowsLeft`] where tables of the plan hold rows, which nothing fences: they are yours to
/// keep elsewhere, and to rename or drop. Which tables those are is known to the plan that filled them
/// alone.
pub fn forget_record(plan: &Plan, _ticket: ticket::ForgetRecord) -> Result<Found, Error> {
    let mut driver = Driver::new(plan)?;
    driver.forget_record()?;
    drop(driver);
    open(plan).map_err(Error::part_way)
}

/// Removes from the plan's target an unfinished migration that the markers contradict: a copy of an
/// older attempt turned up, or the markers are gone. Nothing that is live is ever removed, and
/// nothing but what that migration put there.
///
/// # Errors
///
/// [`Error::Contradiction`] where the facts contradict each other in another way, before or after.
pub fn discard_record(plan: &Plan, _ticket: ticket::DiscardRecord) -> Result<Found, Error> {
    let mut driver = Driver::new(plan)?;
    driver.drive(Intent::Discard, &mut ())?;
    drop(driver);
    open(plan).map_err(Error::part_way)
}

const USE_SQL: &str = "start with the SQL database";

/// The KV stores of a daemon that is not configured to use SQL. A first migration that has not
/// committed is rolled back, and [`KvStores::rolled_back`] says so.
///
/// # Errors
///
/// [`Error::Refused`] with [`Cause::Moved`] where the data has moved, or is moving for good, to
/// SQL; otherwise as [`open`] and [`Handle::into_kv`].
pub fn kv(plan: &Plan) -> Result<KvStores, Error> {
    match open(plan)? {
        Found::Fresh(handle) => Ok(handle.into_kv()?),
        Found::Migrating(handle) if handle.is_rerun() => moved(&handle, USE_SQL),
        Found::Migrating(handle) => match handle.abort()? {
            Aborted::Fresh(handle) => {
                tracing::warn!(plan = plan.name(), "an unfinished migration was rolled back");
                Ok(KvStores { rolled_back: true, ..later(handle.into_kv())? })
            }
            Aborted::RerunAllowed(handle) => moved(&handle, USE_SQL),
        },
        Found::Committed(handle) => moved(&handle, USE_SQL),
        Found::Tombstoned(handle) => moved(&handle, USE_SQL),
        Found::RerunAllowed(handle) => moved(
            &handle,
            "restore the SQL database, or, if it is lost, `cutover status` says what is possible",
        ),
    }
}

/// The refusal of the KV stores: which, and where their data is now.
fn moved<S: Stage>(handle: &Handle<S>, next: &'static str) -> Result<KvStores, Error> {
    let Places { sites, target, .. } = &handle.driver.places;
    Err(Error::Refused(Cause::Moved {
        state: handle.state.name(),
        sources: sites.iter().map(|site| (site.name.clone(), site.path.clone())).collect(),
        target: target.path.clone(),
        next,
    }))
}

/// The SQL database of a daemon that is configured to use it. Whatever is missing of the migration
/// is done first; a lost SQL database is never silently made anew.
///
/// # Errors
///
/// [`Error::NeedsApproval`] where the SQL database is lost; otherwise as the handles' methods.
pub fn sql(plan: &Plan, observer: &mut dyn Observer) -> Result<rusqlite::Connection, Error> {
    let tombstoned = match open(plan)? {
        Found::Fresh(handle) => {
            let migrating = handle.begin_observed(observer)?;
            later(later(migrating.run(observer))?.finish_observed(observer))?
        }
        Found::Migrating(handle) => later(handle.run(observer)?.finish_observed(observer))?,
        Found::Committed(handle) => handle.finish_observed(observer)?,
        Found::Tombstoned(handle) => return Ok(handle.into_sql()?),
        Found::RerunAllowed(handle) => {
            let Loss { what, next, .. } = handle.loss()?;
            return Err(Error::NeedsApproval { state: handle.state.name(), why: what, next });
        }
    };
    later(tombstoned.into_sql())
}

/// The result of a call that comes after others which have changed something.
fn later<T, H>(result: Result<T, Failed<H>>) -> Result<T, Error> {
    result.map_err(|failed| failed.error.part_way())
}

impl<S: Stage> Handle<S> {
    /// The one way to a handle: its type is that of the state.
    fn new(driver: Box<Driver>, state: State) -> Result<Self, Error> {
        if S::is(state) {
            Ok(Self { driver, state, stage: PhantomData })
        } else {
            let cause = Cause::Bug(format!("the plan came to state {}", state.name()));
            Err(Error::Interrupted { step: "go on", cause })
        }
    }

    /// The state that was found.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The steps that failed on the way to this handle, and that it was got without: the second lock of a
    /// retired store, or the removal of the claim. The data is safe without them; tell the operator.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.driver.skipped
    }

    /// Does steps; where nothing was changed, the handle comes back with the error.
    fn drive(
        mut self,
        steps: impl FnOnce(&mut Driver) -> Result<State, Error>,
    ) -> Result<(Box<Driver>, State), Failed<Self>> {
        match steps(&mut self.driver) {
            Ok(state) => Ok((self.driver, state)),
            Err(error @ (Error::Refused(_) | Error::NeedsApproval { .. })) => {
                Err(Failed { error, handle: Some(self) })
            }
            Err(
                error @ (Error::Interrupted { .. }
                | Error::OutcomeUnknown { .. }
                | Error::Contradiction(_)
                | Error::Verification(_)),
            ) => Err(Failed { error, handle: None }),
        }
    }
}

impl Handle<Fresh> {
    /// Looks at everything that would stop [`Handle::begin`], and changes nothing: what to do before a
    /// person is asked. The stores stay open, with fjall's own locks, until the handle is used or dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], as `begin` would.
    pub fn check(&mut self) -> Result<(), Error> {
        self.driver.check_begin().map_err(Error::Refused)
    }

    /// The native stores, by their sources' names. A source that is missing, and may be, is not
    /// among them: nothing is created.
    ///
    /// # Errors
    ///
    /// [`Cause::SourceMissing`], [`Cause::SourceBusy`], [`Cause::NotAStore`], or what fjall says.
    pub fn into_kv(self) -> Result<KvStores, Failed<Self>> {
        let (driver, state) = self.drive(|driver| driver.drive(Intent::UseKv, &mut ()))?;
        let mut stores = BTreeMap::new();
        for (site, source) in driver.places.sites.iter().zip(&driver.places.plan.inner.sources) {
            let opened = if site.path.exists() {
                open_native(&site.name, &site.path).map(Some)
            } else if source.may_be_missing {
                Ok(None)
            } else {
                Err(Cause::SourceMissing { name: site.name.clone(), path: site.path.clone() })
            };
            match opened {
                Ok(Some(store)) => drop(stores.insert(site.name.clone(), store)),
                Ok(None) => {}
                Err(cause) => {
                    drop(stores);
                    let handle = Some(Self::new(driver, state)?);
                    return Err(Failed { error: Error::Refused(cause), handle });
                }
            }
        }
        Ok(KvStores { stores, rolled_back: false })
    }

    /// Seals every source: from here on nobody writes the KV stores. Everything that would stop the
    /// migration is looked at first; when a source can't be sealed, those that were are unsealed.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], with the handle, where nothing has changed.
    pub fn begin(self) -> Result<Handle<Migrating>, Failed<Self>> {
        self.begin_observed(&mut ())
    }

    /// As [`Handle::begin`], telling each step.
    ///
    /// # Errors
    ///
    /// As [`Handle::begin`].
    pub fn begin_observed(
        self,
        observer: &mut dyn Observer,
    ) -> Result<Handle<Migrating>, Failed<Self>> {
        let (driver, state) = self.drive(|driver| driver.begin(observer))?;
        Ok(Handle::new(driver, state)?)
    }
}

impl Handle<Migrating> {
    /// Looks whether the plan is the one that the copy was begun with: what to do before a person is
    /// asked.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], as [`Handle::run`] would.
    pub fn check(&mut self) -> Result<(), Error> {
        let (_, seen) = self.driver.look()?;
        self.driver.places.check_intent(&seen, Intent::Copy).map_err(Error::Refused)
    }

    /// Whether it copies from the retired stores of a migration that was live once.
    #[must_use]
    pub const fn is_rerun(&self) -> bool {
        matches!(self.state, State::Migrating { rerun: true })
    }

    /// Whether the copy has come to its end, so that what is left is to verify and to commit.
    ///
    /// # Errors
    ///
    /// As [`open`].
    pub fn is_copied(&self) -> Result<bool, Error> {
        let (_, seen) = self.driver.look()?;
        Ok(seen.record().is_some_and(Record::copied))
    }

    /// Does all that [`Handle::run`] does before the commit point, and stops there: what is missing is
    /// copied, the target is re-read, the plan's check is asked, and the tombstones lie ready. Nothing
    /// is committed, and neither side can be written: look at the SQL database, then go on with `run`,
    /// which verifies once more, or go back with [`Handle::abort`]. What is prepared is an unfinished
    /// migration like any other: a later [`sql`] goes on with it, and a later [`kv`] takes it back.
    ///
    /// # Errors
    ///
    /// As [`Handle::run`].
    pub fn prepare(self, observer: &mut dyn Observer) -> Result<Self, Failed<Self>> {
        let (driver, state) = self.drive(|driver| driver.drive(Intent::Prepare, observer))?;
        Ok(Self::new(driver, state)?)
    }

    /// Seals what is still open, copies what is missing, re-reads the target, and commits. A kill
    /// at any instant leaves a state that this goes on from; at most one chunk is copied again.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] when it stops part-way; [`Error::Verification`] when the target does
    /// not hold what the sources do, and nothing is committed; [`Error::OutcomeUnknown`] when the
    /// commit may have been done.
    pub fn run(self, observer: &mut dyn Observer) -> Result<Handle<Committed>, Failed<Self>> {
        let (driver, state) = self.drive(|driver| driver.drive(Intent::Copy, observer))?;
        Ok(Handle::new(driver, state)?)
    }

    /// Goes back to where the attempt began: what it created in the target is removed, and, unless
    /// it is a rerun, every source is unsealed.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] when it stops part-way; opening again finds where.
    pub fn abort(self) -> Result<Aborted, Failed<Self>> {
        let (driver, state) = self.drive(|driver| driver.drive(Intent::Abort, &mut ()))?;
        Ok(Aborted::new(driver, state)?)
    }
}

impl Handle<Committed> {
    /// Sets every tombstone, makes the target live, and makes every tombstone final. All tombstones
    /// are tried; what failed is tried again at the next start.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] when it stops part-way; the data is in the target, behind its fence.
    pub fn finish(self) -> Result<Handle<Tombstoned>, Failed<Self>> {
        self.finish_observed(&mut ())
    }

    /// As [`Handle::finish`], telling each step.
    ///
    /// # Errors
    ///
    /// As [`Handle::finish`].
    pub fn finish_observed(
        self,
        observer: &mut dyn Observer,
    ) -> Result<Handle<Tombstoned>, Failed<Self>> {
        let (driver, state) = self.drive(|driver| driver.drive(Intent::Finish, observer))?;
        Ok(Handle::new(driver, state)?)
    }

    /// Goes back from the commit point. Where a tombstone stands already it stays, and the state is
    /// `RerunAllowed`.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] when it stops part-way; opening again finds where.
    pub fn abort(self, _ticket: ticket::AbortCommitted) -> Result<Aborted, Failed<Self>> {
        let (driver, state) = self.drive(|driver| driver.drive(Intent::AbortCommitted, &mut ()))?;
        Ok(Aborted::new(driver, state)?)
    }
}

impl Handle<Tombstoned> {
    /// The SQL database. Before it is handed out every tombstone is final, and one that somebody
    /// deleted is put back.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`] where a marker can't be written, or what SQLite says.
    pub fn into_sql(self) -> Result<rusqlite::Connection, Failed<Self>> {
        let (driver, _) = self.drive(|driver| driver.drive(Intent::UseSql, &mut ()))?;
        let settled = driver.look().and_then(|(_, seen)| {
            let found = seen.record().map(|record| record.journal_mode.clone()).unwrap_or_default();
            let wanted = driver.places.plan.inner.journal_mode;
            let step = "open the SQL database";
            let settled = driver.places.target.settle(wanted, &found);
            settled.map_err(|cause| stopped(driver.changed, step, cause))
        });
        settled.map_err(|error| Failed { error, handle: None })
    }

    /// Compares every keyspace, in the target and in its retired store, with the digests that were
    /// taken while they were copied. A difference is not an error: in the target it may be what the daemon
    /// has written since it went live, and [`Verified`] says of each side by itself whether it is whole.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] where `observer` asks to stop, or where the places can't be looked at.
    pub fn verify(&mut self, observer: &mut dyn Observer) -> Result<Verified, Error> {
        self.driver.verify(observer)
    }

    /// Looks at everything that would stop [`Handle::reclaim`] with its plain ticket, and changes nothing: what
    /// to do before a person is asked.
    ///
    /// # Errors
    ///
    /// As `reclaim` would, before it changes anything.
    pub fn check(&mut self) -> Result<(), Error> {
        self.driver.check_reclaim()
    }

    /// Frees the retired bytes: the engine's own files go, and the stores' folders, where nothing else is
    /// in them. A folder with something else in it stays, and [`Freed::rest`] says what that is. The markers stay, and say so: the names are never free. [`Handle::freed`] says what was
    /// done.
    ///
    /// # Errors
    ///
    /// [`Error::NeedsApproval`], with the handle, where what is freed may be nowhere else and the ticket does
    /// not say that it may go: a retired store is not what was sealed, by its files' names and lengths, or
    /// nothing says what was sealed, or it is gone; or a table that was migrated is gone.
    /// [`Error::Refused`], with the handle, where one of these can't be looked at.
    /// [`Error::Interrupted`] when it stops part-way; asking again goes on.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used once")]
    pub fn reclaim(self, ticket: ticket::Reclaim) -> Result<Self, Failed<Self>> {
        let (driver, state) = self.drive(|driver| driver.reclaim(ticket.0))?;
        Ok(Self::new(driver, state)?)
    }

    /// What the reclaim that this handle comes from did to each source that had a store; empty before
    /// one.
    #[must_use]
    pub fn freed(&self) -> &[Freed] {
        &self.driver.freed
    }
}

impl Handle<RerunAllowed> {
    /// Looks at everything that would stop [`Handle::rerun`] with its plain ticket, and changes nothing: what
    /// to do before a person is asked.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] and [`Error::NeedsApproval`], as `rerun` would.
    pub fn check(&mut self) -> Result<(), Error> {
        self.driver.check_rerun(false)
    }

    /// What is lost by going on without the SQL database that is gone, and what a person can do.
    ///
    /// # Errors
    ///
    /// As [`open`].
    pub fn loss(&self) -> Result<Loss, Error> {
        let (_, seen) = self.driver.look()?;
        Ok(self.driver.places.loss(&seen))
    }

    /// Begins to copy once more from the retired stores. An older SQL file that turns up later is
    /// known as stale.
    ///
    /// # Errors
    ///
    /// [`Error::NeedsApproval`], with the handle, where a retired store's marker was deleted and put back, so
    /// that nothing says what was sealed, and the ticket does not say that it is copied as it is.
    /// [`Error::Refused`] where a retired store is gone or the target can't be used.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used once")]
    pub fn rerun(self, ticket: ticket::Rerun) -> Result<Handle<Migrating>, Failed<Self>> {
        let (driver, state) = self.drive(|driver| driver.rerun(ticket.0, &mut ()))?;
        Ok(Handle::new(driver, state)?)
    }

    /// Gives the KV stores back as they were sealed. Once the first is open, only this can go on.
    ///
    /// # Errors
    ///
    /// [`Cause::RowsLeft`] where the target has no record and tables of the plan hold rows: they
    /// could be written beside the stores.
    /// [`Error::Interrupted`] when it stops part-way; asking again goes on.
    pub fn restore_kv(self, _ticket: ticket::RestoreKv) -> Result<Handle<Fresh>, Failed<Self>> {
        let (driver, state) = self.drive(|driver| driver.restore(&mut ()))?;
        Ok(Handle::new(driver, state)?)
    }
}

impl Aborted {
    fn new(driver: Box<Driver>, state: State) -> Result<Self, Error> {
        if state == State::RerunAllowed {
            Handle::new(driver, state).map(Self::RerunAllowed)
        } else {
            Handle::new(driver, state).map(Self::Fresh)
        }
    }
}

impl KvStores {
    /// Takes a source's store out; none where the source is missing, or was taken.
    pub fn take(&mut self, source: &str) -> Option<fjall::Database> {
        self.stores.remove(source)
    }

    /// Whether an unfinished migration was rolled back to get here.
    #[must_use]
    pub const fn rolled_back(&self) -> bool {
        self.rolled_back
    }
}

impl std::fmt::Debug for KvStores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvStores")
            .field("stores", &self.stores.keys().collect::<Vec<_>>())
            .field("rolled_back", &self.rolled_back)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_handle_can_move_to_another_thread() {
        fn send<T: Send>() {}
        send::<Found>();
        send::<Aborted>();
        send::<KvStores>();
        send::<Error>();
    }
}
