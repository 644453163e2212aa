//! What is on disk, read without locks and without a change: for a person, or for a script.

use crate::disk::lock::held_by;
use crate::error::{Cause, Error, in_two};
use crate::from_marker::plan_from_marker;
use crate::look::{Places, Seen, Verb, verbs, without_target};
use crate::place::{Look, Site, Standing};
use crate::plan::Plan;
use crate::protocol::marker::Marker;
use crate::protocol::record::{Record, Times, quarantine_name};
use crate::protocol::{
    Attempt, ClaimSeen, Contradiction, Intent, MigrationId, SecondLock, Stage, State, Was,
};
use crate::source::inventory::{self, Tree};
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
    /// Whether the retired store could be compared with what was sealed.
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
        sources: sources.map(|(site, look)| source(site, look, &known)).collect(),
        target: target(&places, &seen),
        live_since: seen.live_since().map(str::to_owned),
        worked_on_by: worker(&places).map(|(_, process)| process),
        can: Vec::new(),
    };
    match classified {
        Ok(state) => {
            status.state = state.name();
            status.can = verbs(state, &places, &seen);
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
                    let is_gone = |look: &Look| look.path == Standing::Nothing;
                    let gone = places.sites.iter().zip(&seen.looks).find(|(_, look)| is_gone(look));
                    if let Some((site, _)) = gone {
                        status.what = Some(format!(
                            "the marker of source '{}' is gone from {}, so a program that does not know of the SQL database would begin there with an empty store",
                            site.name,
                            site.path.display()
                        ));
                        status.next = Some(
                            "run `cutover migrate`, or start the daemon on SQL: either puts the marker back"
                                .to_owned(),
                        );
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

/// The status of places of which some can't even be looked at.
fn blind(plan: &Plan, cause: &Cause) -> Status {
    let sources = plan.sources().map(|(name, path)| {
        let looked = Site::new(name, path)
            .and_then(|site| site.look(&[]).map(|look| source(&site, &look, &[])));
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

/// `known` are the migrations whose temporary files may be left over.
fn source(site: &Site, look: &Look, known: &[MigrationId]) -> SourceStatus {
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
    let compared = matches!(&tree, Some(Ok(_)))
        && matches!(retired, Standing::Directory(_))
        && marker.is_some_and(|m| m.stage != Stage::Reclaimed && m.store.is_some());
    let (differs, unread) =
        match marker.map(|marker| retired_differs(marker, retired, tree.as_ref())) {
            Some(Ok(differs)) => (differs, None),
            Some(Err(cause)) => (None, Some(cause.to_string())),
            None => (None, None),
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

/// A store that is being unsealed, freed or read may differ for an instant, like all that is said here.
/// `tree` is what lies in the retired store, where there is one.
fn retired_differs<'a>(
    marker: &Marker,
    retired: &Standing,
    tree: Option<&'a Result<Tree, Cause>>,
) -> Result<Option<String>, &'a Cause> {
    if marker.was == Was::Nothing {
        return Ok(None);
    }
    let is_freed = marker.stage == Stage::Reclaimed;
    match (retired, &marker.store) {
        (Standing::Directory(_), Some(sealed)) => {
            Ok(match tree.map(Result::as_ref).transpose()? {
                Some(tree) if is_freed => inventory::difference_of_the_rest(tree, sealed),
                Some(tree) => inventory::difference_in_lengths(tree, sealed),
                None => None,
            })
        }
        (Standing::Directory(_), None) => Ok(None),
        (
            Standing::Nothing | Standing::Marker(_) | Standing::Damaged(_) | Standing::Foreign(_),
            _,
        ) if is_freed => Ok(None),
        (
            Standing::Nothing | Standing::Marker(_) | Standing::Damaged(_) | Standing::Foreign(_),
            _,
        ) => Ok(Some("it is gone".to_owned())),
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
        let is_changed = self.sources.iter().any(|source| source.retired_differs.is_some());
        if is_unread {
            self.can.retain(|verb| *verb != Verb::RECLAIM);
        }
        for verb in &mut self.can {
            if *verb == Verb::RECLAIM && is_changed {
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
