//! The world of the model: what a look would see, what a power cut could leave of it, and how each
//! step, kill, cut and operator changes both.

use cutover::protocol::{
    AtPath, AtRetired, Attempt, ClaimSeen, Intent, MarkerSeen, MigrationId, Observation,
    RecordSeen, RecordStage, Run, Session, SourceSeen, Stage, Step, TargetSeen, VersionFile, Was,
};
use std::collections::{BTreeMap, BTreeSet};

/// A fact, and all that a power cut could leave of it: each value that it had since it was last made
/// durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fact<T> {
    pub seen: T,
    pub possible: Vec<T>,
}

impl<T: Copy + PartialEq> Fact<T> {
    pub fn new(value: T) -> Self {
        Self { seen: value, possible: vec![value] }
    }

    /// Changes it, and does not sync.
    pub fn change(&mut self, value: T) {
        self.seen = value;
        // What it had before may be what is durable; the order of the values tells nothing more.
        self.possible.retain(|other| *other != value);
        self.possible.push(value);
    }

    pub fn sync(&mut self) {
        self.possible = vec![self.seen];
    }
}

/// A record, and which content of each source its rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Record<const N: usize> {
    pub seen: RecordSeen,
    pub image: [Option<u8>; N],
}

/// Everything, at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World<const N: usize> {
    pub sources: [Fact<SourceSeen>; N],
    /// What is in each store: 1 once a stock opener has written there since the beginning.
    pub content: [u8; N],
    pub record: Fact<Option<Record<N>>>,
    pub claim: Fact<ClaimSeen>,
    /// Whether the daemon has had a write acknowledged by the live target, which nobody deleted.
    pub sql_in_use: bool,
    /// Whether an unfinished copy of the SQL file took the place of one that was in use.
    pub overwritten: bool,
    /// The SQL file as the operator has copied it.
    pub backup: Option<Record<N>>,
    /// Whether the operator has put that copy back: facts may contradict each other then.
    pub tampered: bool,
    pub working: Option<(Intent, Session)>,
}

impl<const N: usize> World<N> {
    /// Every source is open; the first `missing` are missing.
    pub fn fresh(missing: usize) -> Self {
        let source = |at: usize| {
            let path =
                if at < missing { AtPath::Nothing } else { AtPath::Directory(VersionFile::Native) };
            Fact::new(SourceSeen { path, retired: AtRetired::Nothing, temporary: false })
        };
        Self {
            sources: std::array::from_fn(source),
            content: [0; N],
            record: Fact::new(None),
            claim: Fact::new(ClaimSeen::None),
            sql_in_use: false,
            overwritten: false,
            backup: None,
            tampered: false,
            working: None,
        }
    }

    pub fn observe(&self) -> Observation {
        Observation {
            sources: self.sources.iter().map(|source| source.seen).collect(),
            target: self
                .record
                .seen
                .map_or(TargetSeen::None, |record| TargetSeen::Record(record.seen)),
            claim: self.claim.seen,
            elsewhere: Vec::new(),
        }
    }

    pub fn is_live(&self) -> bool {
        self.record.seen.is_some_and(|record| record.seen.stage == RecordStage::Live)
    }

    /// Whether a stock opener can open or create a store at this source's path.
    pub fn is_open(&self, at: usize) -> bool {
        matches!(self.sources[at].seen.path, AtPath::Directory(_) | AtPath::Nothing)
    }

    pub fn is_empty(&self, at: usize) -> bool {
        self.sources[at].seen.path == AtPath::Nothing
    }

    /// A stock program opens or creates the store at this source's path, and writes durably.
    pub fn write_kv(&mut self, at: usize) {
        self.content[at] = 1;
        if self.is_empty(at) {
            let path = AtPath::Directory(VersionFile::Native);
            let created = SourceSeen { path, ..self.sources[at].seen };
            self.sources[at].change(created);
            self.sources[at].sync();
        }
    }

    pub fn marker(&self, at: usize) -> Option<MarkerSeen> {
        match self.sources[at].seen.path {
            AtPath::Marker(marker) => Some(marker),
            AtPath::Nothing | AtPath::Directory(_) | AtPath::Damaged | AtPath::Foreign => None,
        }
    }

    fn found(&self, at: usize) -> MarkerSeen {
        self.marker(at).expect("the step is for a source with a marker")
    }

    /// The changes that a step makes, in order, each a thing that a kill may come behind. What is
    /// synced in between is.
    pub fn changes(&self, step: Step) -> Vec<Change<N>> {
        let at = |source: usize, seen: SourceSeen| Change::Source(source, seen);
        match step {
            Step::Confirm { record } => {
                let mut changes: Vec<Change<N>> = (0..N).map(Change::SyncSource).collect();
                changes.push(Change::SyncClaim);
                if record {
                    changes.push(Change::SyncTarget);
                }
                changes
            }
            Step::Claim(id) => vec![Change::Claim(ClaimSeen::Id(id)), Change::SyncClaim],
            Step::Unclaim => vec![Change::Claim(ClaimSeen::None), Change::SyncClaim],
            Step::Seal { source, run } => {
                let open = self.sources[source].seen;
                let was = if open.path == AtPath::Nothing { Was::Nothing } else { Was::Directory };
                let path = AtPath::Marker(marker(Stage::Sealed, run, was));
                let written = SourceSeen { temporary: true, ..open };
                let mut changes = vec![at(source, written)];
                if was == Was::Directory {
                    let prepared = AtRetired::Marker(marker(Stage::Sealed, run, was));
                    changes.push(at(source, SourceSeen { retired: prepared, ..open }));
                    changes.push(Change::SyncSource(source));
                    let retired = AtRetired::Directory(VersionFile::Native);
                    changes.push(at(source, SourceSeen { path, retired, temporary: false }));
                } else {
                    changes.push(at(source, SourceSeen { path, ..open }));
                }
                changes.push(Change::SyncSource(source));
                changes
            }
            Step::Mark { source, stage, attempt } => {
                let found = self.found(source);
                let marker = MarkerSeen { stage, run: Run { attempt, ..found.run }, ..found };
                let standing = self.sources[source].seen;
                let path = AtPath::Marker(marker);
                vec![
                    at(source, SourceSeen { temporary: true, ..standing }),
                    at(source, SourceSeen { path, temporary: false, ..standing }),
                    Change::SyncSource(source),
                ]
            }
            Step::PutBack { source, run } => {
                let standing = self.sources[source].seen;
                let was = match standing.retired {
                    AtRetired::Directory(_) => Was::Directory,
                    AtRetired::Nothing | AtRetired::Marker(_) | AtRetired::Foreign => Was::Nothing,
                };
                let path = AtPath::Marker(marker(Stage::Tombstone, run, was));
                vec![at(source, SourceSeen { path, ..standing }), Change::SyncSource(source)]
            }
            Step::Unseal(source) => {
                let found = self.found(source);
                let standing = self.sources[source].seen;
                let retired = AtRetired::Nothing;
                if found.was == Was::Nothing {
                    let path = AtPath::Nothing;
                    return vec![
                        at(source, SourceSeen { path, retired, ..standing }),
                        Change::SyncSource(source),
                    ];
                }
                let path = AtPath::Directory(VersionFile::Native);
                let left_over = AtRetired::Marker(found);
                vec![
                    at(source, SourceSeen { path, retired: left_over, ..standing }),
                    Change::SyncSource(source),
                    at(source, SourceSeen { path, retired, ..standing }),
                    Change::SyncSource(source),
                ]
            }
            Step::HoldVersion(source) | Step::ReleaseVersion(source) => {
                let held = matches!(step, Step::HoldVersion(_));
                let version = if held { VersionFile::Held } else { VersionFile::Native };
                let retired = AtRetired::Directory(version);
                let standing = self.sources[source].seen;
                vec![at(source, SourceSeen { retired, ..standing }), Change::SyncSource(source)]
            }
            Step::DeleteRetired(source) => {
                let retired = AtRetired::Nothing;
                let standing = self.sources[source].seen;
                vec![at(source, SourceSeen { retired, ..standing }), Change::SyncSource(source)]
            }
            Step::Tidy(source) => {
                let standing = self.sources[source].seen;
                let retired = match standing.retired {
                    AtRetired::Marker(_) => AtRetired::Nothing,
                    other @ (AtRetired::Nothing | AtRetired::Directory(_) | AtRetired::Foreign) => {
                        other
                    }
                };
                let temporary = false;
                vec![
                    at(source, SourceSeen { temporary, ..standing }),
                    at(source, SourceSeen { retired, temporary, ..standing }),
                    Change::SyncSource(source),
                ]
            }
            Step::BeginCopy(run) => {
                let stage = RecordStage::Copying;
                let seen = RecordSeen { stage, run, copied: false, sources: true, paths: true };
                self.commit(|_| Record { seen, image: [None; N] })
            }
            Step::Copy => {
                let mut changes = Vec::new();
                let mut record = self.record.seen.expect("a record");
                for source in 0..N {
                    // A chunk that is there is not copied again.
                    record.image[source] = record.image[source].or(Some(self.content[source]));
                    record.seen.copied = source + 1 == N;
                    changes.push(Change::Record(Some(record)));
                    changes.push(Change::SyncTarget);
                }
                changes
            }
            Step::Prepare => {
                let ready =
                    |source: usize| SourceSeen { temporary: true, ..self.sources[source].seen };
                (0..N).flat_map(|s| [at(s, ready(s)), Change::SyncSource(s)]).collect()
            }
            Step::Commit => self.commit(|found| with_stage(found, RecordStage::Committed)),
            Step::GoLive => self.commit(|found| with_stage(found, RecordStage::Live)),
            Step::DropRecord => vec![Change::Record(None), Change::SyncTarget],
            other => {
                assert!(
                    matches!(other, Step::Verify | Step::GiveUp | Step::Done(_)),
                    "the model does not know {other:?}"
                );
                Vec::new()
            }
        }
    }

    fn commit(&self, change: impl FnOnce(Option<Record<N>>) -> Record<N>) -> Vec<Change<N>> {
        vec![Change::Record(Some(change(self.record.seen))), Change::SyncTarget]
    }

    pub fn apply(&mut self, change: &Change<N>) {
        match *change {
            Change::Source(at, seen) => self.sources[at].change(seen),
            Change::Record(record) => self.record.change(record),
            Change::Claim(claim) => self.claim.change(claim),
            Change::SyncSource(at) => self.sources[at].sync(),
            Change::SyncClaim => self.claim.sync(),
            // The claim's folder is the target's.
            Change::SyncTarget => {
                self.record.sync();
                self.claim.sync();
            }
        }
    }

    /// An id that no fact carries, nor what a power cut could leave, nor the operator's copy.
    pub fn unused_id(&self) -> MigrationId {
        let mut used = BTreeSet::new();
        for seen in self.sources.iter().flat_map(|source| &source.possible) {
            if let AtPath::Marker(marker) = seen.path {
                used.insert(marker.run.id);
            }
            if let AtRetired::Marker(marker) = seen.retired {
                used.insert(marker.run.id);
            }
        }
        let records = self.record.possible.iter().chain([&self.backup]).flatten();
        used.extend(records.map(|record| record.seen.run.id));
        for claim in &self.claim.possible {
            if let ClaimSeen::Id(id) = claim {
                used.insert(*id);
            }
        }
        let mut ids = (1..).map(MigrationId);
        ids.find(|id| !used.contains(id)).expect("there is always one more")
    }

    /// Every world that a power cut could leave.
    pub fn cuts(&self) -> Vec<Self> {
        let mut worlds = vec![Self { working: None, ..self.clone() }];
        for at in 0..N {
            worlds = spread(worlds, |world| &mut world.sources[at]);
        }
        worlds = spread(worlds, |world| &mut world.record);
        spread(worlds, |world| &mut world.claim)
    }

    /// The operator deletes the SQL file, and nothing syncs the folder.
    pub fn lose_target(&mut self) {
        self.record.change(None);
        self.sql_in_use = false;
        self.overwritten = false;
    }

    /// The operator puts the copy in the SQL file's place, and nothing syncs the folder.
    pub fn put_back(&mut self) {
        self.record.change(self.backup);
        let unfinished = !self.is_live();
        self.overwritten |= self.sql_in_use && unfinished;
        self.sql_in_use = false;
        self.tampered = true;
    }

    /// The daemon writes to the live target; SQLite makes its own commits durable.
    pub fn use_sql(&mut self) {
        self.sql_in_use = true;
        self.record.sync();
    }

    /// Everything is durable at once: a world without power cuts is much smaller.
    pub fn sync(&mut self) {
        self.sources.iter_mut().for_each(Fact::sync);
        self.record.sync();
        self.claim.sync();
    }

    /// Attempts are only ever compared: numbered anew, there are finitely many worlds.
    pub fn renumber(&mut self) {
        let mut attempts: Vec<&mut Attempt> = Vec::new();
        for source in &mut self.sources {
            for seen in source.possible.iter_mut().chain([&mut source.seen]) {
                if let AtPath::Marker(marker) = &mut seen.path {
                    attempts.push(&mut marker.run.attempt);
                }
                if let AtRetired::Marker(marker) = &mut seen.retired {
                    attempts.push(&mut marker.run.attempt);
                }
            }
        }
        let records = self.record.possible.iter_mut();
        let records = records.chain([&mut self.record.seen, &mut self.backup]);
        attempts.extend(records.flatten().map(|record| &mut record.seen.run.attempt));
        if let Some((_, Session { fresh: Some(fresh), .. })) = &mut self.working {
            attempts.push(fresh);
        }
        let ordered: BTreeSet<Attempt> = attempts.iter().map(|attempt| **attempt).collect();
        let ranks: BTreeMap<Attempt, Attempt> = ordered.into_iter().zip(1..).collect();
        for attempt in attempts {
            *attempt = ranks[attempt];
        }
    }
}

/// One change on disk, or one sync.
#[derive(Clone, Debug)]
pub enum Change<const N: usize> {
    Source(usize, SourceSeen),
    Record(Option<Record<N>>),
    Claim(ClaimSeen),
    SyncSource(usize),
    SyncTarget,
    SyncClaim,
}

fn with_stage<const N: usize>(found: Option<Record<N>>, stage: RecordStage) -> Record<N> {
    let mut record = found.expect("a record");
    record.seen.stage = stage;
    record
}

fn marker(stage: Stage, run: Run, was: Was) -> MarkerSeen {
    MarkerSeen { stage, run, was, plan: true, source: true, sources: true, target: true }
}

/// Each world once for every value that the fact may be left with.
fn spread<const N: usize, T: Copy + PartialEq>(
    worlds: Vec<World<N>>,
    fact: impl Fn(&mut World<N>) -> &mut Fact<T>,
) -> Vec<World<N>> {
    let mut spread = Vec::new();
    for mut world in worlds {
        for value in fact(&mut world).possible.clone() {
            let mut left = world.clone();
            *fact(&mut left) = Fact::new(value);
            spread.push(left);
        }
    }
    spread
}
