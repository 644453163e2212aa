//! What is on disk, read without locks and without a change: for a person, or for a script.

use crate::disk::lock::held_by;
use crate::error::{Cause, Error, in_two};
use crate::from_marker::plan_from_marker;
use crate::look::{Places, Seen, Verb, verbs, without_target};
use crate::place::{Look, Site, Standing};
use crate::plan::Plan;
use crate::protocol::record::{Record, Times, quarantine_name};
use crate::protocol::{
    Attempt, ClaimSeen, Contradiction, Intent, MigrationId, SecondLock, State, Was,
};
use crate::source::inventory;
use crate::sql::{Access, TargetLook};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A look that shows no state, or something wrong, is repeated this many times: another process may have been at work
/// between its parts.
const LOOKS_MAX: usize = 4;

/// The time between two looks: longer than most single steps take.
const LOOKS_APART: Duration = Duration::from_millis(100);

/// The word for facts that are no state.
pub(crate) const CONTRADICTION: &str = "Contradiction";

/// The word for places of which one can't be looked at, where no migration is known to have begun.
pub(crate) const UNKNOWN: &str = "Unknown";

/// What one look at a plan's places shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// `Fresh`, `Migrating`, `Committed`, `Tombstoned`, `RerunAllowed` or `Contradiction`; `Unknown` where
    /// a place can't be looked at and no migration is known to have begun.
    pub state: &'static str,
    /// Whether it copies from the retired stores of a migration that was live once.
    pub rerun: bool,
    /// What does not fit, is missing or lost, or could not be looked at, where that is so.
    pub what: Option<String>,
    /// What a person can do about it.
    pub next: Option<String>,
    /// The plan's name.
    pub plan: String,
    /// The plan's sources, in its order.
    pub sources: Vec<SourceStatus>,
    /// The target.
    pub target: TargetStatus,
    /// Since when the SQL database may have been written: when it went live, RFC 3339, UTC. Once it is
    /// gone, the markers say it; none where nothing says that it ever was live.
    pub live_since: Option<String>,
    /// The process that works on the plan at this moment, so far as the system says.
    pub worked_on_by: Option<String>,
    /// What can be done next.
    pub can: Vec<Verb>,
}

/// What stands at a source's two names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SourceStatus {
    /// Its name in the plan.
    pub name: String,
    /// Its path.
    pub path: String,
    /// The marker at its path: `none`, `sealed`, `tombstone`, `final`, `restoring`, `reclaimed`,
    /// `damaged`, `foreign` for something else, or `unknown` where it can't be looked at.
    pub marker: &'static str,
    /// Whether a directory stands at its path.
    pub directory: bool,
    /// Where its retired store stands, if it does.
    pub retired: Option<String>,
    /// Whether the second lock is set in the retired store.
    pub second_lock: bool,
    /// What stood at the path before the marker: `directory` or `nothing`.
    pub was: Option<Was>,
    /// The marker's migration.
    pub id: Option<MigrationId>,
    /// The marker's attempt.
    pub attempt: Option<Attempt>,
    /// What lies in the store's folder, open or retired, and is not the engine's own: paths below it, a
    /// folder with `/` at its end and without what is in it. It stays when the store is freed.
    pub foreign: Vec<String>,
    /// How the retired store differs from what was sealed, or that it is gone: its files by their
    /// lengths. None where it does not, and where there is nothing to compare it with.
    pub retired_differs: Option<String>,
    /// Whether the retired store could be compared with what was sealed. Where one stands that could not,
    /// and nothing says why, its marker is gone or was put back, so that nothing says what was sealed.
    pub retired_compared: bool,
    /// Why the retired store could not be compared, and what a person can do, where looking failed: it is
    /// not known whether it differs.
    pub retired_unread: Option<String>,
    /// Files beside the store that a killed run left, and that the next one removes.
    pub left_over: Vec<String>,
    /// The process that has the store open, so far as the system says.
    pub in_use_by: Option<String>,
    /// Why something could not be read.
    pub detail: Option<String>,
}

/// What the target holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TargetStatus {
    /// Its path.
    pub path: String,
    /// The plan's record: `none`, `copying`, `committed`, `live`, `unreadable`, `unreachable`, or
    /// `main file gone` where only its journal is left.
    pub record: &'static str,
    /// The record's migration.
    pub id: Option<MigrationId>,
    /// The record's attempt.
    pub attempt: Option<Attempt>,
    /// The migration that the claim file beside the target names for this plan.
    pub claim: Option<MigrationId>,
    /// Keyspaces that are copied whole.
    pub keyspaces_done: usize,
    /// Keyspaces to copy.
    pub keyspaces: usize,
    /// Pairs copied.
    pub pairs: u64,
    /// Bytes of keys and values copied.
    pub bytes: u64,
    /// Pairs that are in quarantine; none where no pair is.
    pub quarantine: Option<QuarantineStatus>,
    /// Tables that the migration filled and that are gone, where a retired store may be all that there is of
    /// them.
    pub tables_missing: Vec<String>,
    /// When each stage began, RFC 3339, UTC.
    pub times: Option<Times>,
    /// Why it could not be read.
    pub detail: Option<String>,
}

/// Pairs that their mappings refused, and that the plan let into quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QuarantineStatus {
    /// The table of the target that they are in.
    pub table: String,
    /// How many there are.
    pub pairs: u64,
    /// How many of them each keyspace has; those without any are left out.
    pub keyspaces: Vec<QuarantinedKeyspace>,
}

/// What a keyspace has in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QuarantinedKeyspace {
    /// The source's name.
    pub source: String,
    /// The keyspace's name.
    pub keyspace: String,
    /// Its pairs there.
    pub pairs: u64,
}

/// Looks at a plan's places without locks. Nothing is changed or created, and nobody is kept
/// waiting: it works while a daemon has the stores or the SQL database open, and while a migration
/// runs.
///
/// # Errors
///
/// None at present: what fits no state, or can't be looked at, is in the status itself.
pub fn status(plan: &Plan) -> Result<Status, Error> {
    let (mut last, mut is_settled) = look(plan);
    for _ in 1..LOOKS_MAX {
        if is_settled {
            return Ok(last);
        }
        std::thread::sleep(LOOKS_APART);
        let (again, is_settled_now) = look(plan);
        is_settled = is_settled_now || again == last;
        last = again;
    }
    if !is_settled && let Some(process) = &last.worked_on_by {
        // It moves from step to step between the parts of one look.
        last.what = Some(format!("{process} works on it, so no two looks show the same"));
        last.next = Some("wait until it ends and look again".to_owned());
        last.can = Vec::new();
    }
    Ok(last)
}

/// One look, and whether it need not be repeated: it is a state, and nothing is wrong with it that another
/// process at work may show for an instant.
fn look(plan: &Plan) -> (Status, bool) {
    let looked = Places::new(plan, Access::LookOnly)
        .and_then(|places| places.observe().map(|seen| (places, seen)));
    let (places, seen) = match looked {
        Ok(looked) => looked,
        Err(cause) => return (blind(plan, &cause), false),
    };
    let mut is_lasting = false;
    let known = seen.migrations();
    let classified = places.classify(&seen);
    let sources = places.sites.iter().zip(&seen.looks);
    let mut status = Status {
        state: CONTRADICTION,
        rerun: classified.as_ref().is_ok_and(|s| *s == State::Migrating { rerun: true }),
        what: None,
        next: None,
        plan: plan.name().to_owned(),
        sources: sources
            .map(|(site, look)| source(site, look, seen.was(site, look), &known))
            .collect(),
        target: target(&places, &seen),
        live_since: seen.live_since().map(str::to_owned),
        worked_on_by: worker(&places).map(|(_, process)| process),
        can: Vec::new(),
    };
    match classified {
        Ok(state) => {
            status.state = state.name();
            status.can = verbs(state, &places, &seen);
            if state == State::Tombstoned {
                match places.tables_missing(&seen) {
                    Ok(missing) => status.target.tables_missing = missing,
                    Err(cause) => status.target.detail = Some(cause.to_string()),
                }
            }
            status.where_stores_changed(seen.record().is_some());
            // Where what was only sealed is to be given back, the target need not be known.
            if let Err(Error::Contradiction(told)) = places.classify_with_target(&seen) {
                (status.what, status.next) = (Some(told.what), Some(told.next));
            }
            match state {
                State::Fresh => {
                    let checked =
                        places.check_missing(&seen).and_then(|()| places.check_native(&seen));
                    if let Err(cause) = checked {
                        status.tell(&cause.to_string());
                    }
                }
                State::Tombstoned => {
                    if let Some((what, next)) = amiss(&places, &seen, &status) {
                        (status.what, status.next) = (Some(what), Some(next.to_owned()));
                    }
                }
                State::RerunAllowed => {
                    let loss = places.loss(&seen);
                    (status.what, status.next) = (Some(loss.what), Some(loss.next));
                }
                State::Migrating { .. } => {
                    if status.what.is_none()
                        && let Err(cause) = places.check_intent(&seen, Intent::Copy)
                    {
                        status.tell(&cause.to_string());
                        is_lasting = matches!(cause, Cause::PlanChanged { .. });
                    }
                }
                State::Committed => {}
            }
        }
        Err(Error::Contradiction(told)) => {
            status.can = ways_out(&places, &seen, told.contradiction);
            (status.what, status.next) = (Some(told.what), Some(told.next));
        }
        Err(error) => {
            status.state = UNKNOWN;
            status.tell(&error.to_string());
        }
    }
    let is_settled = status.is_settled() || is_lasting;
    (status, is_settled)
}

/// What is not as it should be beside a live database, and what a person can do.
fn amiss(places: &Places, seen: &Seen, status: &Status) -> Option<(String, &'static str)> {
    let both = || places.sites.iter().zip(&seen.looks);
    let is_out_of_sight = |site: &Site, look: &Look| look.is_out_of_sight(seen.was(site, look));
    let is_gone = |look: &Look| look.path == Standing::Nothing;
    let is_begun_anew =
        "so a program that does not know of the SQL database would begin there with an empty store";
    if let Some((site, _)) = both().find(|(site, look)| is_out_of_sight(site, look)) {
        return Some((
            format!(
                "the marker of source '{}' is gone from {}, and its retired store too, {is_begun_anew}",
                site.name,
                site.path.display()
            ),
            "mount the volume that they are on; only if they are gone for good, run `cutover migrate`, or start the daemon on SQL: either puts the marker back",
        ));
    }
    if let Some((site, _)) = both().find(|(_, look)| is_gone(look)) {
        return Some((
            format!(
                "the marker of source '{}' is gone from {}, {is_begun_anew}",
                site.name,
                site.path.display()
            ),
            "run `cutover migrate`, or start the daemon on SQL: either puts the marker back",
        ));
    }
    let mut sources = both().zip(&status.sources);
    let is_lost =
        |source: &SourceStatus| source.retired.is_none() && source.retired_differs.is_some();
    if let Some(((site, _), _)) = sources.find(|(_, source)| is_lost(source)) {
        return Some((
            format!(
                "the retired store of source '{}' is gone from {}",
                site.name,
                site.retired.display()
            ),
            "mount the volume that it is on, or put it back; only if it is gone for good, nothing more can be done, and nothing in the SQL database is changed by that",
        ));
    }
    if let Some((site, _)) = both().find(|(_, look)| look.is_half_freed()) {
        return Some((
            format!(
                "the retired store of source '{}' was to be freed, and stands in part or whole at {}",
                site.name,
                site.retired.display()
            ),
            "run `cutover reclaim` again, which goes on",
        ));
    }
    let missing = &status.target.tables_missing;
    (!missing.is_empty()).then(|| {
        (
            format!(
                "the migration filled {}, and that is gone from the SQL database",
                named(missing)
            ),
            "run `cutover verify`, and keep the retired stores unless the daemon itself has dropped it",
        )
    })
}

/// Tables that are named in a line; the others are counted.
const TABLES_SHOWN: usize = 3;

fn named(tables: &[String]) -> String {
    let shown: Vec<String> =
        tables.iter().take(TABLES_SHOWN).map(|table| format!("table '{table}'")).collect();
    let more = tables.len().saturating_sub(shown.len());
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// The status of places of which some can't even be looked at.
fn blind(plan: &Plan, cause: &Cause) -> Status {
    let sources = plan.sources().map(|(name, path)| {
        let looked = Site::new(name, path)
            .and_then(|site| site.look(&[]).map(|look| source(&site, &look, None, &[])));
        looked.unwrap_or_else(|cause| SourceStatus {
            marker: "unknown",
            detail: Some(cause.to_string()),
            ..SourceStatus::nothing(name, path)
        })
    });
    let mut status = Status {
        state: UNKNOWN,
        rerun: false,
        what: None,
        next: None,
        plan: plan.name().to_owned(),
        sources: sources.collect(),
        target: TargetStatus::of(plan.target(), "unknown"),
        live_since: None,
        worked_on_by: None,
        can: Vec::new(),
    };
    status.tell(&cause.to_string());
    status
}

/// `was` is what stood there, where that is known; `known` are the migrations whose temporary files may be
/// left over. A store that is being unsealed, freed or read may differ for an instant, like all that is said
/// here.
fn source(site: &Site, look: &Look, was: Option<Was>, known: &[MigrationId]) -> SourceStatus {
    let Look { path, retired, .. } = look;
    let marker = path.marker();
    let store = match (path, retired) {
        (Standing::Directory(_), _) => Some(&site.path),
        (_, Standing::Directory(_)) => Some(&site.retired),
        _ => None,
    };
    // Whatever folder a wrong path names is not looked through.
    let tree = store
        .filter(|store| marker.is_some() || store.join("version").is_file())
        .map(|store| inventory::tree(store));
    let is_comparable = matches!(retired, Standing::Directory(_)) && !look.is_unknown();
    let compared = is_comparable && matches!(&tree, Some(Ok(_)));
    let differs = look.retired_differs(was, tree.as_ref().and_then(|tree| tree.as_ref().ok()));
    let unread = match &tree {
        Some(Err(cause)) if is_comparable => Some(cause.to_string()),
        Some(_) | None => None,
    };
    let left_over = site.left_over(known, [path, retired]).unwrap_or_default();
    SourceStatus {
        marker: match path {
            Standing::Nothing | Standing::Directory(_) => "none",
            Standing::Marker(marker) => marker.stage.word(),
            Standing::Damaged(_) => "damaged",
            Standing::Foreign(_) => "foreign",
        },
        directory: matches!(path, Standing::Directory(_)),
        retired: matches!(retired, Standing::Directory(_))
            .then(|| site.retired.display().to_string()),
        second_lock: *retired == Standing::Directory(SecondLock::Held),
        was: marker.map(|marker| marker.was),
        id: marker.map(|marker| marker.id),
        attempt: marker.map(|marker| marker.attempt),
        retired_differs: differs,
        retired_compared: compared,
        retired_unread: unread,
        left_over: left_over.iter().map(|path| path.display().to_string()).collect(),
        foreign: tree.and_then(Result::ok).map(|tree| tree.foreign).unwrap_or_default(),
        in_use_by: store.and_then(|store| held_by(&store.join("lock"))),
        detail: path.detail().or(retired.detail()).map(str::to_owned),
        ..SourceStatus::nothing(&site.name, &site.path)
    }
}

fn target(places: &Places, seen: &Seen) -> TargetStatus {
    let of = |record| TargetStatus::of(&places.target.path, record);
    let found = match &seen.target {
        TargetLook::None | TargetLook::NoRecord => of("none"),
        TargetLook::Record(record) => of(record.stage.word()).with(record),
        TargetLook::Unreadable(cause) => {
            TargetStatus { detail: Some(cause.to_string()), ..of("unreadable") }
        }
        TargetLook::Unreachable(cause) => {
            TargetStatus { detail: Some(cause.to_string()), ..of("unreachable") }
        }
        TargetLook::MainFileGone => of("main file gone"),
    };
    let claim = match seen.observation.claim {
        ClaimSeen::Id(id) => Some(id),
        ClaimSeen::None | ClaimSeen::Unreadable => None,
    };
    TargetStatus { claim, ..found }
}

/// Who holds one of cutover's own locks, and on what.
pub(crate) fn worker(places: &Places) -> Option<(PathBuf, String)> {
    let folders = places.sites.iter().flat_map(|site| [&site.path, &site.retired]);
    let claim = places.claim.path();
    let mut all = folders.map(PathBuf::as_path).chain([claim]);
    all.find_map(|path| Some((path.to_owned(), held_by(path)?)))
}

/// The verbs that lead out of a contradiction, once an operator has said what it takes.
fn ways_out(places: &Places, seen: &Seen, contradiction: Contradiction) -> Vec<Verb> {
    if let Contradiction::OtherSources(source) = contradiction {
        // These work on the list of sources that the marker has.
        let marked = places.sites.get(source).map(|site| plan_from_marker(&site.path));
        let Some(Ok(marked)) = marked else { return Vec::new() };
        let mut can = look(&marked).0.can;
        can.retain(|verb| verb.verb.starts_with("abort") || verb.verb.starts_with("restore-kv"));
        return can;
    }
    if places.allows_discard(seen) {
        return vec![Verb::DISCARD];
    }
    without_target(places, seen, contradiction, Places::replaced(seen))
}

impl Status {
    /// Puts what needs one more word in the place of what throws away what a retired store may have lost.
    fn where_stores_changed(&mut self, has_copy: bool) {
        let is_unread = self.sources.iter().any(|source| source.retired_unread.is_some());
        let is_changed = self
            .sources
            .iter()
            .any(|source| source.retired_differs.is_some() || source.retired_is_unknown());
        let is_missing = !self.target.tables_missing.is_empty();
        if is_unread {
            self.can.retain(|verb| *verb != Verb::RECLAIM);
        }
        for verb in &mut self.can {
            if *verb == Verb::RECLAIM && (is_changed || is_missing) {
                *verb = Verb::RECLAIM_CHANGED;
            } else if verb.verb == "abort" && has_copy && (is_changed || is_unread) {
                *verb = Verb::ABORT_CHANGED;
            }
        }
    }

    /// Whether it need not be looked at again: it is a state, and nothing is wrong with it.
    fn is_settled(&self) -> bool {
        self.state != CONTRADICTION && self.state != UNKNOWN && self.what.is_none()
    }

    fn tell(&mut self, message: &str) {
        let (what, next) = in_two(message);
        (self.what, self.next) = (Some(what), Some(next));
    }
}

impl SourceStatus {
    /// Whether a retired store stands and nothing says what was sealed: its marker is gone, or was put back
    /// for one that was gone. Neither a rerun nor a reclaim trusts it unasked.
    #[must_use]
    pub const fn retired_is_unknown(&self) -> bool {
        self.retired.is_some() && !self.retired_compared && self.retired_unread.is_none()
    }

    fn nothing(name: &str, path: &Path) -> Self {
        Self {
            name: name.to_owned(),
            path: path.display().to_string(),
            marker: "none",
            directory: false,
            retired: None,
            second_lock: false,
            was: None,
            id: None,
            attempt: None,
            foreign: Vec::new(),
            retired_differs: None,
            retired_compared: false,
            retired_unread: None,
            left_over: Vec::new(),
            in_use_by: None,
            detail: None,
        }
    }
}

impl TargetStatus {
    fn of(path: &Path, record: &'static str) -> Self {
        Self {
            path: path.display().to_string(),
            record,
            id: None,
            attempt: None,
            claim: None,
            keyspaces_done: 0,
            keyspaces: 0,
            pairs: 0,
            bytes: 0,
            quarantine: None,
            tables_missing: Vec::new(),
            times: None,
            detail: None,
        }
    }

    fn with(self, record: &Record) -> Self {
        Self {
            id: Some(record.id),
            attempt: Some(record.attempt),
            keyspaces_done: record.keyspaces.iter().filter(|keyspace| keyspace.done).count(),
            keyspaces: record.keyspaces.len(),
            pairs: record.keyspaces.iter().map(|keyspace| keyspace.pairs).sum(),
            bytes: record.keyspaces.iter().map(|keyspace| keyspace.bytes).sum(),
            quarantine: QuarantineStatus::of(record),
            times: Some(record.times.clone()),
            ..self
        }
    }
}

impl QuarantineStatus {
    fn of(record: &Record) -> Option<Self> {
        let some = record.keyspaces.iter().filter(|keyspace| keyspace.quarantined > 0);
        let keyspaces: Vec<_> = some
            .map(|keyspace| QuarantinedKeyspace {
                source: keyspace.source.clone(),
                keyspace: keyspace.keyspace.clone(),
                pairs: keyspace.quarantined,
            })
            .collect();
        let pairs = keyspaces.iter().map(|keyspace| keyspace.pairs).sum();
        (pairs > 0).then(|| Self { table: quarantine_name(&record.plan), pairs, keyspaces })
    }
}
