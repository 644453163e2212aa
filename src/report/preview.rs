//! The dry run: what a migration would do, and everything that it would be refused for.

use crate::drive::{Survey, survey};
use crate::error::{Cause, Error, shown_files, size};
use crate::look::{Places, Seen};
use crate::mapping::Keyspace;
use crate::observer::{Observer, Pace, Phase};
use crate::place::{Look, Site, Standing};
use crate::plan::Plan;
use crate::protocol::record::KeyspaceRecorded;
use crate::protocol::{Intent, SecondLock, Stage, State};
use crate::report::status::{CONTRADICTION, UNKNOWN, worker};
use crate::source::{Store, inventory};
use crate::sql::{Access, Target};
use serde::Serialize;
use std::collections::BTreeSet;

/// Pairs between two looks at the observer while a store is read.
const SCAN_PAIRS: u64 = 50_000;

/// What a migration would do from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Preview {
    /// The state, as [`Status::state`](crate::Status::state) has it.
    pub state: &'static str,
    /// The plan's name.
    pub plan: String,
    /// The target's path.
    pub target: String,
    /// What remains to be done, in order; nothing where it would be refused.
    pub steps: Vec<PreviewStep>,
    /// What lies in the stores' folders and is not theirs, a sentence for each source: it goes along, and
    /// is never deleted.
    pub foreign: Vec<String>,
    /// The keyspaces, in the order of copying.
    pub keyspaces: Vec<PreviewKeyspace>,
    /// Bytes that the copy needs beside the target, estimated; none once it has begun.
    pub needed_bytes: Option<u64>,
    /// Bytes free there.
    pub available_bytes: Option<u64>,
    /// Everything that would be refused, each with what a person can do.
    pub refused: Vec<String>,
}

/// One step, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PreviewStep {
    /// What is done.
    pub text: String,
    /// Whether it is the commit point: nothing goes back automatically after it.
    pub irreversible: bool,
}

/// One keyspace, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PreviewKeyspace {
    /// The source's name.
    pub source: String,
    /// The keyspace's name.
    pub keyspace: String,
    /// What the mapping says it is.
    pub mapping: String,
    /// The tables that it is copied into.
    pub tables: Vec<String>,
    /// Pairs: counted in the store, or, once it is copied, as the record has them.
    pub pairs: Option<u64>,
    /// Bytes of keys and values.
    pub bytes: Option<u64>,
    /// Pairs, of those copied so far, that are in quarantine.
    pub quarantined: u64,
    /// Whether it is copied whole.
    pub copied: bool,
}

/// Tells what a migration would do from here on. Each store that can be opened is read to its end,
/// so it must not be open elsewhere. Nothing on disk is changed that lasts: empty files of our own try
/// each place and are removed, the target's write lock is taken and given back, and fjall itself may
/// cut a torn tail off a journal, as every open does.
///
/// # Errors
///
/// [`Error::Refused`] with [`Cause::Cancelled`] where `observer` asks to stop, or where a store
/// fails while it is read.
pub fn preview(plan: &Plan, observer: &mut dyn Observer) -> Result<Preview, Error> {
    let mut preview = Preview {
        state: UNKNOWN,
        plan: plan.name().to_owned(),
        target: plan.target().display().to_string(),
        steps: Vec::new(),
        foreign: Vec::new(),
        keyspaces: Vec::new(),
        needed_bytes: None,
        available_bytes: None,
        refused: Vec::new(),
    };
    let places = match Places::new(plan, Access::LookOnly) {
        Ok(places) => places,
        Err(cause) => {
            preview.refused = wrong_places(plan, &cause);
            return Ok(preview);
        }
    };
    preview.target = places.target.path.display().to_string();
    let seen = places.observe().map_err(Error::Refused)?;
    preview.available_bytes = crate::disk::available_bytes(places.target.folder()).ok();
    match places.classify_with_target(&seen) {
        Ok(state) => preview.tell(state, &places, &seen, observer)?,
        Err(error) => {
            preview.refused.push(error.to_string());
            if matches!(error, Error::Contradiction(_)) {
                preview.state = CONTRADICTION;
            } else {
                // No migration has begun: the target is only one of the things that may be wrong.
                preview.survey(&places)?;
            }
        }
    }
    if !preview.refused.is_empty() {
        // What would not come to be is not told as if it did.
        preview.steps.clear();
    }
    if !preview.refused.is_empty()
        && let Some((path, holder)) = worker(&places)
    {
        // What is in its way is that other one's, and goes with it.
        preview.refused = vec![Cause::Locked { path, holder }.to_string()];
        if preview.state == CONTRADICTION {
            preview.state = UNKNOWN;
        }
    }
    Ok(preview)
}

/// Every place that can't even be looked at.
fn wrong_places(plan: &Plan, cause: &Cause) -> Vec<String> {
    let sources = plan.inner.sources.iter().filter_map(|source| {
        Site::new(&source.name, &source.path).err().map(|cause| {
            let name = &source.name;
            format!("source '{name}': {cause}")
        })
    });
    let target = Target::new(plan.target()).err().map(|cause| format!("target: {cause}"));
    let found: Vec<String> = sources.chain(target).collect();
    if found.is_empty() { vec![cause.to_string()] } else { found }
}

impl Preview {
    fn tell(
        &mut self,
        state: State,
        places: &Places,
        seen: &Seen,
        observer: &mut dyn Observer,
    ) -> Result<(), Error> {
        self.state = state.name();
        if let Some(record) = seen.record() {
            self.keyspaces = record.keyspaces.iter().map(PreviewKeyspace::from).collect();
        }
        match state {
            State::Fresh => {
                let survey = self.survey(places)?;
                self.foreign = foreign(places, &survey);
                self.steps = from_the_start(places, seen);
                let expected = expected(&survey);
                let keyspaces = survey.keyspaces;
                // Reading takes fjall's own locks again.
                drop(survey.stores);
                self.scan(places, &keyspaces, expected, observer).map_err(Error::Refused)?;
            }
            State::Migrating { .. } => {
                if let Err(cause) = places.check_intent(seen, Intent::Copy) {
                    self.refused.push(cause.to_string());
                }
                match seen.record() {
                    Some(record) => self.steps = from_the_copy(places, Some(record.copied())),
                    None => self.steps = from_the_start(places, seen),
                }
            }
            State::Committed => self.steps = from_the_commit(places),
            State::Tombstoned => {
                let settled = |look: &Look| {
                    look.path
                        .marker()
                        .is_some_and(|m| matches!(m.stage, Stage::Final | Stage::Reclaimed))
                };
                for (site, look) in places.sites.iter().zip(&seen.looks) {
                    if look.path == Standing::Nothing {
                        self.steps.push(step(format!(
                            "put the marker of source '{}' back at {}",
                            site.name,
                            site.path.display()
                        )));
                    }
                }
                let has_marker = |look: &&Look| look.path.marker().is_some();
                if !seen.looks.iter().filter(has_marker).all(settled) {
                    self.steps.push(step("make every tombstone final"));
                }
            }
            State::RerunAllowed => {
                self.steps.push(step(
                    "nothing without an operator's word: `cutover rerun` copies the retired stores once more, `cutover restore-kv` gives them back; both lose what was written in SQL",
                ));
            }
        }
        Ok(())
    }

    /// Collects every refusal.
    fn survey(&mut self, places: &Places) -> Result<Survey, Error> {
        let mut refused = Vec::new();
        let surveyed = survey(places, &mut |cause| {
            refused.push(cause.to_string());
            Ok(())
        });
        let mut told: BTreeSet<String> = self.refused.iter().cloned().collect();
        self.refused.extend(refused.into_iter().filter(|reason| told.insert(reason.clone())));
        let survey = surveyed.map_err(Error::Refused)?;
        self.needed_bytes = Some(survey.needed_bytes);
        Ok(survey)
    }

    /// Counts what each open store holds.
    fn scan(
        &mut self,
        places: &Places,
        keyspaces: &[Vec<Keyspace>],
        expected: Option<u64>,
        observer: &mut dyn Observer,
    ) -> Result<(), Cause> {
        let mut total = (0, 0);
        for (site, keyspaces) in places.sites.iter().zip(keyspaces) {
            // One that was refused has no keyspaces.
            let is_open = Standing::at(&site.path)? == Standing::Directory(SecondLock::Native);
            let open = || Store::open(&site.name, &site.path, inventory::tree(&site.path)?);
            let store = (is_open && !keyspaces.is_empty()).then(open).transpose()?;
            // Opening it may replay a long journal, which is not counting.
            let pace = Pace::new(Phase::Counting, total, expected);
            for keyspace in keyspaces {
                let counted = match &store {
                    Some(store) => count(store, site, &keyspace.name, (total, &pace), observer)?,
                    None => (0, 0),
                };
                total = (total.0 + counted.0, total.1 + counted.1);
                self.keyspaces.push(PreviewKeyspace {
                    source: site.name.clone(),
                    keyspace: keyspace.name.clone(),
                    mapping: keyspace.mapping.name().to_owned(),
                    tables: keyspace.mapping.tables().into_iter().map(|t| t.name).collect(),
                    pairs: Some(counted.0),
                    bytes: Some(counted.1),
                    quarantined: 0,
                    copied: false,
                });
            }
        }
        Ok(())
    }
}

impl From<&KeyspaceRecorded> for PreviewKeyspace {
    fn from(recorded: &KeyspaceRecorded) -> Self {
        Self {
            source: recorded.source.clone(),
            keyspace: recorded.keyspace.clone(),
            mapping: recorded.mapping.clone(),
            tables: recorded.tables.clone(),
            pairs: recorded.done.then_some(recorded.pairs),
            bytes: recorded.done.then_some(recorded.bytes),
            quarantined: recorded.quarantined,
            copied: recorded.done,
        }
    }
}

/// What is in the folders of the stores that could be opened, and not theirs.
fn foreign(places: &Places, survey: &Survey) -> Vec<String> {
    let told = places.sites.iter().zip(&survey.stores).filter_map(|(site, store)| {
        let foreign = &store.as_ref()?.tree().foreign;
        (!foreign.is_empty()).then(|| {
            format!(
                "the folder of source '{}' also holds what is not the store's own: {}; it moves along to {}, and reclaim leaves it there",
                site.name, shown_files(foreign), site.retired.display()
            )
        })
    });
    told.collect()
}

/// fjall's own estimate of all pairs; none where it has none.
fn expected(survey: &Survey) -> Option<u64> {
    let stores = survey.stores.iter().zip(&survey.keyspaces);
    let stores = stores.filter_map(|(store, keyspaces)| Some((store.as_ref()?, keyspaces)));
    let mut pairs = 0;
    for (store, keyspaces) in stores {
        for keyspace in keyspaces {
            pairs += store.approximate_pairs(&keyspace.name).ok().flatten()?;
        }
    }
    Some(pairs)
}

/// The pairs of a keyspace, and their bytes.
fn count(
    store: &Store,
    site: &Site,
    keyspace: &str,
    (before, pace): ((u64, u64), &Pace),
    observer: &mut dyn Observer,
) -> Result<(u64, u64), Cause> {
    let (mut pairs, mut bytes) = (0_u64, 0_u64);
    let mut tell = pace.teller(&site.name, keyspace, before, observer);
    store.visit(keyspace, None, &mut |key, value| {
        pairs += 1;
        bytes += (key.len() + value.len()) as u64;
        if pairs.is_multiple_of(SCAN_PAIRS) && tell(pairs, bytes) {
            return Err(Cause::Cancelled);
        }
        Ok(true)
    })?;
    tell(pairs, bytes);
    Ok((pairs, bytes))
}

fn step(text: impl Into<String>) -> PreviewStep {
    PreviewStep { text: text.into(), irreversible: false }
}

fn from_the_start(places: &Places, seen: &Seen) -> Vec<PreviewStep> {
    let mut steps = vec![step(format!("write the claim file {}", places.claim.path().display()))];
    for (site, look) in places.sites.iter().zip(&seen.looks) {
        let (name, path, retired) = (&site.name, site.path.display(), site.retired.display());
        match &look.path {
            Standing::Nothing => steps.push(step(format!(
                "seal source '{name}': nothing stands at {path}, so a marker is put there"
            ))),
            Standing::Directory(_) => steps.push(step(format!(
                "seal source '{name}': a marker takes the place of {path}, and the store stands at {retired}"
            ))),
            Standing::Marker(_) | Standing::Damaged(_) | Standing::Foreign(_) => {}
        }
    }
    steps.extend(from_the_copy(places, None));
    steps
}

/// `copied` says of a copy that has begun whether it has come to its end.
fn from_the_copy(places: &Places, copied: Option<bool>) -> Vec<PreviewStep> {
    let target = places.target.path.display();
    let mut steps = Vec::new();
    if copied.is_none() {
        steps.push(step(format!("create the tables in {target}, behind a fence")));
    }
    if copied != Some(true) {
        let chunk_bytes = places.plan.inner.chunk_bytes;
        steps.push(step(format!(
            "copy every pair, in transactions of {}",
            size(chunk_bytes as u64)
        )));
    }
    steps.push(step(format!("re-read {target} and compare it with what was copied")));
    steps.push(PreviewStep {
        text: format!(
            "commit in {target}; until here `cutover abort` gives the stores back as they were"
        ),
        irreversible: true,
    });
    steps.extend(from_the_commit(places));
    steps
}

fn from_the_commit(places: &Places) -> Vec<PreviewStep> {
    let names: Vec<&str> = places.sites.iter().map(|site| site.name.as_str()).collect();
    vec![
        step(format!("set a tombstone for {}", names.join(", "))),
        step(format!("take the fence down: {} is live", places.target.path.display())),
        step("make every tombstone final"),
    ]
}
