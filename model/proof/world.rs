//! The world of the model: what stands on disk at one instant, what a power cut could leave of it,
//! and what each durable step changes, one change after the other.

use super::fact::Fact;
use cutover::protocol::{
    AtPath, AtRetired, Attempt, ClaimSeen, Intent, MarkerSeen, MigrationId, Observation,
    RecordSeen, RecordStage, Run, SecondLock, Session, SourceSeen, Stage, Step, TargetSeen, Was,
};
use std::collections::{BTreeSet, VecDeque};

/// A migration.
pub const ID: MigrationId = MigrationId(1);

/// Everything that may be wanted; the last two can go on from facts that are no state.
pub const INTENTS: [Intent; 13] = [
    Intent::UseKv,
    Intent::Begin(ID),
    Intent::Prepare,
    Intent::Copy,
    Intent::Finish,
    Intent::Abort,
    Intent::AbortCommitted,
    Intent::UseSql,
    Intent::Rerun,
    Intent::RestoreKv,
    Intent::Reclaim,
    Intent::ReplaceTarget,
    Intent::Discard,
];

/// What stands at one of a source's two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Thing {
    Nothing,
    Store(Store),
    Marker(Marker),
    /// A marker of which a part is lost.
    Damaged,
    /// Somebody else's file.
    Foreign,
}

/// A store's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Store {
    /// 1 once a stock program has written there.
    pub writes: u8,
    /// Whether the second lock is set.
    pub held: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Marker {
    pub stage: Stage,
    pub run: Run,
    pub was: Was,
    /// The source that it names.
    pub source: usize,
    /// The place of the target that it names.
    pub place: usize,
}

/// A source's two names. They are in one folder, so an exchange is one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Names {
    pub path: Thing,
    pub retired: Thing,
    /// Whether a temporary file of ours lies beside them.
    pub temporary: bool,
    /// Whether the marker that was written last is itself not synced: a power cut may tear it.
    pub torn: bool,
}

/// What is in the SQL file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target<const N: usize> {
    /// No file, or no record in it.
    None,
    Record(Record<N>),
    /// The record is there, and can't be seen now.
    Hidden(Hidden, Record<N>),
}

/// Why a record can't be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hidden {
    Unreadable,
    MainFileGone,
    /// Its folder is missing.
    Unreachable,
    /// Its volume is not mounted: nothing at all is seen, nor the claim.
    Unmounted,
    /// The record's own table was dropped: what it told of is there, and nothing fences it any better
    /// than it did.
    Dropped,
}

/// A record, and its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record<const N: usize> {
    pub stage: RecordStage,
    pub run: Run,
    pub copied: bool,
    /// Which content of each source the rows are; none where they are not copied.
    pub image: [Option<u8>; N],
    /// What stood at each source's path before.
    pub was: [Was; N],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Claim {
    None,
    Id(MigrationId),
    Unreadable,
}

/// What rows are that somebody or something has spoiled.
pub const SPOILED: u8 = 9;

/// Where the SQL file may be: where the plan says, and one more place.
pub const PLACES: usize = 2;

/// One process, at work. What it has found out is gone when it is killed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process<const N: usize> {
    pub intent: Intent,
    pub session: Session,
    /// The step that it is in the middle of, and the changes that are still to come.
    pub doing: Option<(Step, VecDeque<Change<N>>)>,
}

/// What an operator has put aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Aside<const N: usize> {
    /// A copy of the SQL file.
    pub sql: Option<Record<N>>,
    /// A marker, or a store.
    pub thing: Option<Thing>,
}

/// Everything, at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World<const N: usize> {
    pub sources: [Fact<Names>; N],
    pub targets: [Fact<Target<N>>; PLACES],
    pub claims: [Fact<Claim>; PLACES],
    /// The place that the plan names.
    pub place: usize,
    pub working: Option<Process<N>>,
    /// Whether the daemon has had a write acknowledged by the live target, which nobody deleted.
    pub sql_in_use: bool,
    /// What each source holds of the writes that it acknowledged; none where an operator has laid
    /// hands on its store.
    pub truth: [Option<u8>; N],
    /// The sources that an operator, and not cutover, has opened.
    pub opened: [bool; N],
    pub aside: Aside<N>,
    /// Whether somebody put something where it does not belong: facts may contradict each other.
    pub tampered: bool,
    /// Whether an unfinished copy of the SQL file took the place of one that was in use.
    pub overwritten: bool,
    /// How often something else than a process has laid hands on it.
    pub acts: u8,
}

/// One change on disk, one sync, or one comparison without which no more is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change<const N: usize> {
    /// A temporary file is written, and not synced.
    Write(usize),
    /// The temporary file, or the marker that it became, is synced.
    SyncFile(usize),
    /// What stands at a source's names, and whether a temporary file lies there; none stays.
    Names(usize, Option<Thing>, Option<Thing>, Option<bool>),
    /// The marker that stands at a name is synced, and no temporary file.
    SyncStanding(usize),
    /// The folders of the other targets that markers name are synced.
    SyncElsewhere,
    /// The two names exchange what stands there.
    Exchange(usize),
    /// The temporary file gets the source's path, and replaces nothing.
    Create(usize, Thing),
    /// The second lock of the retired store is set, or lifted.
    Hold(usize, bool),
    /// The retired store is deleted.
    FreeRetired(usize),
    /// A file goes from a source's path, or from its retired name; a directory does not.
    UnlinkPath(usize),
    UnlinkRetired(usize),
    /// The folder that a source's names are in is synced.
    SyncFolder(usize),
    Target(Target<N>),
    SyncTarget,
    Claim(Claim),
    SyncClaim,
    /// The rows are compared with what was read.
    Compare,
}

impl<const N: usize> World<N> {
    /// Every source is open, and the first `missing` are missing.
    pub fn fresh(missing: usize) -> Self {
        let store = Thing::Store(Store { writes: 0, held: false });
        let names = |at: usize| Names {
            path: if at < missing { Thing::Nothing } else { store },
            retired: Thing::Nothing,
            temporary: false,
            torn: false,
        };
        Self {
            sources: std::array::from_fn(|at| Fact::new(names(at))),
            targets: std::array::from_fn(|_| Fact::new(Target::None)),
            claims: std::array::from_fn(|_| Fact::new(Claim::None)),
            place: 0,
            working: None,
            sql_in_use: false,
            truth: [Some(0); N],
            opened: [false; N],
            aside: Aside::default(),
            tampered: false,
            overwritten: false,
            acts: 0,
        }
    }

    /// What one look shows to a caller whose plan names the target's place here.
    pub fn observe(&self) -> Observation {
        let sources = (0..N).map(|at| {
            let names = self.sources[at].seen;
            SourceSeen {
                path: match names.path {
                    Thing::Nothing => AtPath::Nothing,
                    Thing::Store(store) => AtPath::Directory(version(store)),
                    Thing::Marker(marker) => AtPath::Marker(self.marker_seen(at, marker)),
                    Thing::Damaged => AtPath::Damaged,
                    Thing::Foreign => AtPath::Foreign,
                },
                retired: match names.retired {
                    Thing::Nothing => AtRetired::Nothing,
                    Thing::Store(store) => AtRetired::Directory(version(store)),
                    Thing::Marker(marker) => AtRetired::Marker(self.marker_seen(at, marker)),
                    Thing::Damaged | Thing::Foreign => AtRetired::Foreign,
                },
                temporary: names.temporary,
            }
        });
        let named: BTreeSet<usize> =
            self.markers().map(|(_, m)| m.place).filter(|place| *place != self.place).collect();
        Observation {
            sources: sources.collect(),
            target: self.target_seen(self.place),
            claim: match self.claims[self.place].seen {
                Claim::None => ClaimSeen::None,
                Claim::Id(id) => ClaimSeen::Id(id),
                Claim::Unreadable => ClaimSeen::Unreadable,
            },
            elsewhere: named.into_iter().map(|place| self.target_seen(place)).collect(),
        }
    }

    fn marker_seen(&self, at: usize, marker: Marker) -> MarkerSeen {
        MarkerSeen {
            stage: marker.stage,
            run: marker.run,
            was: marker.was,
            plan: true,
            source: marker.source == at,
            sources: true,
            target: marker.place == self.place,
        }
    }

    fn target_seen(&self, place: usize) -> TargetSeen {
        match self.targets[place].seen {
            Target::None | Target::Hidden(Hidden::Unmounted, _) => TargetSeen::None,
            Target::Record(Record { stage, run, copied, .. }) => {
                TargetSeen::Record(RecordSeen { stage, run, copied, sources: true, paths: true })
            }
            Target::Hidden(Hidden::Unreadable, _) => TargetSeen::Unreadable,
            Target::Hidden(Hidden::MainFileGone, _) => TargetSeen::MainFileGone,
            Target::Hidden(Hidden::Unreachable, _) => TargetSeen::Unreachable,
            Target::Hidden(Hidden::Dropped, _) => TargetSeen::NoRecord,
        }
    }

    /// The markers at the sources' paths.
    pub fn markers(&self) -> impl Iterator<Item = (usize, Marker)> + '_ {
        (0..N).filter_map(|at| self.marker(at).map(|marker| (at, marker)))
    }

    pub fn marker(&self, at: usize) -> Option<Marker> {
        match self.sources[at].seen.path {
            Thing::Marker(marker) => Some(marker),
            Thing::Nothing | Thing::Store(_) | Thing::Damaged | Thing::Foreign => None,
        }
    }

    /// The record at the plan's own place.
    pub fn record(&self) -> Option<Record<N>> {
        self.record_at(self.place)
    }

    pub fn record_at(&self, place: usize) -> Option<Record<N>> {
        match self.targets[place].seen {
            Target::Record(record) => Some(record),
            Target::None | Target::Hidden(..) => None,
        }
    }

    /// Whether a target can be written that the plan or a marker names. What is hidden may be seen
    /// again at any time.
    pub fn is_live(&self) -> bool {
        self.is_live_at(self.place)
            || self.markers().any(|(_, marker)| self.is_live_at(marker.place))
    }

    /// Whether there is a record anywhere, or a power cut could leave one.
    pub fn may_have_a_record(&self) -> bool {
        self.targets.iter().flat_map(Fact::possible).any(|target| target != Target::None)
    }

    /// Whether a target is live, or a power cut could leave one that is.
    pub fn may_be_live(&self) -> bool {
        self.targets.iter().flat_map(Fact::possible).any(|target| match target {
            Target::Record(record) | Target::Hidden(_, record) => record.stage == RecordStage::Live,
            Target::None => false,
        })
    }

    pub fn is_hidden(&self) -> bool {
        self.targets.iter().any(|target| matches!(target.seen, Target::Hidden(..)))
    }

    pub fn is_live_at(&self, place: usize) -> bool {
        match self.targets[place].seen {
            Target::Record(record) | Target::Hidden(_, record) => record.stage == RecordStage::Live,
            Target::None => false,
        }
    }

    /// Whether a stock program can open or create a store at this source's path.
    pub fn is_open(&self, at: usize) -> bool {
        is_open(self.sources[at].seen.path)
    }

    /// Whether this source is open, or a power cut could leave it open.
    pub fn may_be_open(&self, at: usize) -> bool {
        self.sources[at].possible().any(|names| is_open(names.path))
    }

    /// The store behind a source, wherever it stands.
    pub fn store(&self, at: usize) -> Option<Store> {
        let Names { path, retired, .. } = self.sources[at].seen;
        [path, retired].into_iter().find_map(|thing| match thing {
            Thing::Store(store) => Some(store),
            Thing::Nothing | Thing::Marker(_) | Thing::Damaged | Thing::Foreign => None,
        })
    }

    /// What is in a source: a missing one holds nothing.
    pub fn content(&self, at: usize) -> u8 {
        self.store(at).map_or(0, |store| store.writes)
    }

    /// What was on a volume that is not mounted is lost; what a record told of that was dropped was
    /// dropped too, as the operator was asked to.
    pub fn forget_lost(&mut self) {
        for (place, target) in self.targets.iter_mut().enumerate() {
            let lost = match target.seen {
                Target::Hidden(Hidden::Unmounted, _) => true,
                Target::Hidden(Hidden::Dropped, _) => place == self.place,
                Target::None | Target::Record(_) | Target::Hidden(..) => false,
            };
            if lost {
                *target = Fact::new(Target::None);
            }
        }
    }

    /// Whether a process holds fjall's own lock on this source's store.
    pub fn is_locked(&self, at: usize) -> bool {
        let doing = self.working.as_ref().and_then(|process| process.doing.as_ref());
        let sealing =
            |(step, _): &(Step, _)| matches!(step, Step::Seal { source, .. } if *source == at);
        doing.is_some_and(sealing) && self.store(at).is_some()
    }

    /// A stock program opens or creates the store at this source's path, and writes durably.
    pub fn write_kv(&mut self, at: usize) {
        let written = Thing::Store(Store { writes: 1, held: false });
        let created = self.sources[at].seen.path == Thing::Nothing;
        let change = |names: &mut Names| {
            if created || matches!(names.path, Thing::Store(_)) {
                names.path = written;
            } else if matches!(names.retired, Thing::Store(_)) {
                names.retired = written;
            }
        };
        // The bytes are in the directory, whichever of its names a power cut leaves.
        self.sources[at].values_mut().for_each(change);
        if created {
            self.sources[at].sync();
        }
        self.sources[at].settle();
        self.truth[at] = self.truth[at].map(|_| 1);
    }

    /// The changes that a step makes, in order: a kill may come behind each. None where the facts
    /// are not those that the step is for.
    pub fn changes(&self, step: Step) -> Option<VecDeque<Change<N>>> {
        let names = |at: usize| self.sources[at].seen;
        let renamed = |at, thing| Change::Names(at, Some(thing), None, Some(false));
        let changes = match step {
            Step::Confirm { record } => {
                let sources =
                    (0..N).flat_map(|at| [Change::SyncStanding(at), Change::SyncFolder(at)]);
                let targets = [Change::SyncElsewhere, Change::SyncTarget];
                let targets = targets.into_iter().filter(|_| record);
                sources.chain([Change::SyncClaim]).chain(targets).collect()
            }
            Step::Claim(id) => vec![Change::Claim(Claim::Id(id)), Change::SyncClaim],
            Step::Unclaim => vec![Change::Claim(Claim::None), Change::SyncClaim],
            Step::Seal { source: at, run } => {
                let store = names(at).path;
                let was = match store {
                    Thing::Store(_) => Was::Directory,
                    Thing::Nothing => Was::Nothing,
                    Thing::Marker(_) | Thing::Damaged | Thing::Foreign => return None,
                };
                let marker = Thing::Marker(self.marker_of(at, Stage::Sealed, run, was));
                let mut changes = vec![Change::Write(at), Change::SyncFile(at)];
                match was {
                    Was::Directory => changes.extend([
                        Change::Names(at, None, Some(marker), Some(false)),
                        Change::SyncFolder(at),
                        Change::Exchange(at),
                    ]),
                    Was::Nothing => changes.push(Change::Create(at, marker)),
                }
                changes.push(Change::SyncFolder(at));
                changes
            }
            Step::Mark { source: at, stage, attempt } => {
                let found = self.marker(at)?;
                let run = Run { attempt, ..found.run };
                let marker = Thing::Marker(self.marker_of(at, stage, run, found.was));
                let mut changes = vec![Change::Write(at), Change::SyncFile(at)];
                // What was prepared beside it is synced once more.
                if names(at).temporary && stage == Stage::Tombstone && self.record().is_some() {
                    changes.remove(0);
                }
                changes.extend([renamed(at, marker), Change::SyncFolder(at)]);
                changes
            }
            Step::PutBack { source: at, run } => {
                let was = self.record()?.was[at];
                let marker = Thing::Marker(self.marker_of(at, Stage::Tombstone, run, was));
                vec![
                    Change::Write(at),
                    Change::SyncFile(at),
                    Change::Create(at, marker),
                    Change::SyncFolder(at),
                ]
            }
            Step::Unseal { source: at, .. } => {
                let found = self.marker(at)?;
                match found.was {
                    Was::Directory => vec![
                        Change::Exchange(at),
                        Change::SyncFolder(at),
                        Change::UnlinkRetired(at),
                        Change::SyncFolder(at),
                    ],
                    Was::Nothing => vec![Change::UnlinkPath(at), Change::SyncFolder(at)],
                }
            }
            Step::HoldVersion(at) | Step::ReleaseVersion(at) => {
                let held = matches!(step, Step::HoldVersion(_));
                vec![Change::Hold(at, held), Change::SyncFolder(at)]
            }
            Step::DeleteRetired(at) => vec![Change::FreeRetired(at), Change::SyncFolder(at)],
            Step::Tidy(at) => {
                let mut changes = vec![Change::Names(at, None, None, Some(false))];
                if let (Thing::Nothing | Thing::Store(_), Thing::Marker(_)) =
                    (names(at).path, names(at).retired)
                {
                    changes.push(Change::UnlinkRetired(at));
                }
                changes.push(Change::SyncFolder(at));
                changes
            }
            Step::BeginCopy(run) => {
                let (stage, image) = (RecordStage::Copying, [None; N]);
                let was = |at| self.marker(at).map_or(Was::Nothing, |marker| marker.was);
                let was = std::array::from_fn(was);
                commit(Target::Record(Record { stage, run, copied: false, image, was }))
            }
            Step::Copy => {
                let mut record = self.record()?;
                let chunk = |at: usize| {
                    // A chunk that is there is not copied again.
                    record.image[at] = record.image[at].or(Some(self.content(at)));
                    record.copied = at + 1 == N;
                    commit(Target::Record(record))
                };
                (0..N).flat_map(chunk).collect()
            }
            Step::Prepare => {
                let sealed = self.markers().filter(|(_, marker)| marker.stage == Stage::Sealed);
                let ready = |(at, _)| [Change::Write(at), Change::SyncFile(at)];
                sealed.flat_map(ready).collect()
            }
            Step::Commit => commit(self.with_stage(RecordStage::Committed)?),
            Step::GoLive => commit(self.with_stage(RecordStage::Live)?),
            Step::DropRecord => commit(Target::None),
            Step::Verify => vec![Change::Compare],
            other => {
                assert!(
                    matches!(other, Step::GiveUp | Step::Done(_)),
                    "the model does not know {other:?}"
                );
                Vec::new()
            }
        };
        Some(changes.into())
    }

    fn marker_of(&self, source: usize, stage: Stage, run: Run, was: Was) -> Marker {
        Marker { stage, run, was, source, place: self.place }
    }

    fn with_stage(&self, stage: RecordStage) -> Option<Target<N>> {
        self.record().map(|record| Target::Record(Record { stage, ..record }))
    }

    /// Makes one change. None where a comparison fails: no more is changed then.
    pub fn apply(&mut self, change: Change<N>) -> Option<()> {
        match change {
            Change::Write(at) => {
                let seen = self.sources[at].seen;
                self.sources[at].change(Names { temporary: true, torn: true, ..seen });
            }
            Change::SyncStanding(at) if self.sources[at].seen.temporary => {}
            Change::SyncElsewhere => {
                let named: BTreeSet<usize> = self.markers().map(|(_, m)| m.place).collect();
                for place in named.into_iter().filter(|place| *place != self.place) {
                    self.targets[place].sync();
                }
            }
            Change::SyncFile(at) | Change::SyncStanding(at) => {
                // What the file is called is the folder's.
                let mut names: BTreeSet<Names> = self.sources[at].possible().collect();
                names.retain(|names| !names.is_damaged());
                let seen = Names { torn: false, ..self.sources[at].seen };
                let mut synced = Fact::new(seen);
                for names in names {
                    synced.add(Names { torn: false, ..names });
                }
                self.sources[at] = synced;
            }
            Change::Names(at, path, retired, temporary) => {
                let seen = self.sources[at].seen;
                self.sources[at].change(Names {
                    path: path.unwrap_or(seen.path),
                    retired: retired.unwrap_or(seen.retired),
                    temporary: temporary.unwrap_or(seen.temporary),
                    // It goes with a temporary file that is removed, and stays with a marker.
                    torn: seen.torn && (path.is_some() || retired.is_some() || temporary.is_none()),
                });
                self.tear(at);
            }
            Change::UnlinkPath(at) | Change::UnlinkRetired(at) => {
                let mut names = self.sources[at].seen;
                let thing = match change {
                    Change::UnlinkPath(_) => &mut names.path,
                    _ => &mut names.retired,
                };
                if matches!(thing, Thing::Store(_)) {
                    return None;
                }
                *thing = Thing::Nothing;
                self.sources[at].change(names);
            }
            Change::Hold(at, _) | Change::FreeRetired(at) => {
                let seen = self.sources[at].seen;
                let Thing::Store(store) = seen.retired else { return None };
                let retired = match change {
                    Change::Hold(_, held) => Thing::Store(Store { held, ..store }),
                    _ => Thing::Nothing,
                };
                self.sources[at].change(Names { retired, ..seen });
            }
            Change::Exchange(at) => {
                let seen = self.sources[at].seen;
                let (path, retired) = (seen.retired, seen.path);
                self.sources[at].change(Names { path, retired, ..seen });
                self.tear(at);
            }
            Change::Create(at, path) => {
                let seen = self.sources[at].seen;
                if seen.path != Thing::Nothing {
                    return None;
                }
                self.sources[at].change(Names { path, temporary: false, ..seen });
                self.tear(at);
            }
            Change::SyncFolder(at) => {
                self.sources[at].sync();
                self.tear(at);
            }
            Change::Target(target) => self.targets[self.place].change(target),
            // The claim's folder is the target's.
            Change::SyncTarget => {
                self.targets[self.place].sync();
                self.claims[self.place].sync();
            }
            Change::Claim(claim) => self.claims[self.place].change(claim),
            Change::SyncClaim => self.claims[self.place].sync(),
            Change::Compare => {
                let rows = self.record()?.image;
                return (0..N).all(|at| rows[at] == Some(self.content(at))).then_some(());
            }
        }
        Some(())
    }

    /// A marker that was never synced may lose its bytes, whatever its name.
    fn tear(&mut self, at: usize) {
        let seen = self.sources[at].seen;
        if seen.torn && !seen.temporary {
            let damaged = |thing: Thing| match thing {
                Thing::Marker(_) => Thing::Damaged,
                other => other,
            };
            let (path, retired) = (damaged(seen.path), damaged(seen.retired));
            self.sources[at].add(Names { path, retired, ..seen });
        }
    }

    /// An id that no fact carries, nor what a power cut could leave, nor what was put aside.
    pub fn unused_id(&self) -> MigrationId {
        let mut used = BTreeSet::new();
        let things = self.sources.iter().flat_map(Fact::possible).flat_map(|n| [n.path, n.retired]);
        for thing in things.chain(self.aside.thing) {
            if let Thing::Marker(marker) = thing {
                used.insert(marker.run.id);
            }
        }
        used.extend(self.aside.sql.map(|record| record.run.id));
        for target in self.targets.iter().flat_map(Fact::possible) {
            if let Target::Record(record) | Target::Hidden(_, record) = target {
                used.insert(record.run.id);
            }
        }
        for claim in self.claims.iter().flat_map(Fact::possible) {
            if let Claim::Id(id) = claim {
                used.insert(id);
            }
        }
        let ids = (1..u128::MAX).map(MigrationId);
        ids.into_iter().find(|id| !used.contains(id)).expect("there is always one more")
    }

    /// Every world that a power cut could leave: each fact by itself, in any combination.
    pub fn cuts(&self) -> Vec<Self> {
        let mut worlds = vec![Self { working: None, ..self.clone() }];
        for at in 0..N {
            worlds = spread(worlds, |world| &mut world.sources[at]);
        }
        for place in 0..PLACES {
            worlds = spread(worlds, |world| &mut world.targets[place]);
            worlds = spread(worlds, |world| &mut world.claims[place]);
        }
        worlds
    }

    pub fn is_durable(&self) -> bool {
        self.sources.iter().all(Fact::is_durable)
            && self.targets.iter().all(Fact::is_durable)
            && self.claims.iter().all(Fact::is_durable)
    }

    /// Everything is durable at once: a world without power cuts is much smaller.
    pub fn sync(&mut self) {
        for source in &mut self.sources {
            source.sync();
            source.change(Names { torn: false, ..source.seen });
            source.sync();
        }
        self.targets.iter_mut().for_each(Fact::sync);
        self.claims.iter_mut().for_each(Fact::sync);
    }

    /// Attempts are only ever compared: numbered anew from 1 on, there are finitely many worlds.
    pub fn renumber(&mut self) {
        renumber(self, |world, each| world.each_attempt(each));
        self.settle();
    }

    pub fn settle(&mut self) {
        self.sources.iter_mut().for_each(Fact::settle);
        self.targets.iter_mut().for_each(Fact::settle);
    }

    pub fn each_attempt(&mut self, each: &mut dyn FnMut(&mut Attempt)) {
        for names in self.sources.iter_mut().flat_map(Fact::values_mut) {
            names.path.each_attempt(each);
            names.retired.each_attempt(each);
        }
        for target in self.targets.iter_mut().flat_map(Fact::values_mut) {
            target.each_attempt(each);
        }
        self.aside.thing.iter_mut().for_each(|thing| thing.each_attempt(each));
        self.aside.sql.iter_mut().for_each(|record| each(&mut record.run.attempt));
        self.working.iter_mut().for_each(|process| process.each_attempt(each));
    }
}

/// Numbers all the attempts that `walk` leads to anew, in their order, from 1 on.
pub fn renumber<T>(of: &mut T, walk: impl Fn(&mut T, &mut dyn FnMut(&mut Attempt))) {
    // The first is more than a number: no record was ever begun with it.
    let mut present = 1_u64 << 1;
    walk(of, &mut |attempt| present |= 1 << *attempt);
    // They are 1 to n already, as most often.
    if (present >> 1).trailing_ones() != present.count_ones() {
        walk(of, &mut |attempt| {
            *attempt = (present & ((1 << *attempt) - 1)).count_ones() + 1;
        });
    }
}

impl<const N: usize> Process<N> {
    pub fn each_attempt(&mut self, each: &mut dyn FnMut(&mut Attempt)) {
        self.session.fresh.iter_mut().for_each(&mut *each);
        let Some((step, changes)) = &mut self.doing else { return };
        match step {
            Step::Seal { run, .. } | Step::PutBack { run, .. } | Step::BeginCopy(run) => {
                each(&mut run.attempt);
            }
            Step::Mark { attempt, .. } => each(attempt),
            _ => {}
        }
        for change in changes {
            match change {
                Change::Names(_, path, retired, _) => {
                    path.iter_mut().chain(retired).for_each(|thing| thing.each_attempt(each));
                }
                Change::Create(_, thing) => thing.each_attempt(each),
                Change::Target(target) => target.each_attempt(each),
                _ => {}
            }
        }
    }
}

impl Thing {
    fn each_attempt(&mut self, each: &mut dyn FnMut(&mut Attempt)) {
        if let Self::Marker(marker) = self {
            each(&mut marker.run.attempt);
        }
    }
}

impl<const N: usize> Target<N> {
    pub fn each_attempt(&mut self, each: &mut dyn FnMut(&mut Attempt)) {
        if let Self::Record(record) | Self::Hidden(_, record) = self {
            each(&mut record.run.attempt);
        }
    }
}

impl<const N: usize> Change<N> {
    /// Whether it makes durable what is there, and nothing else.
    pub const fn is_sync(self) -> bool {
        match self {
            Self::SyncFile(_)
            | Self::SyncStanding(_)
            | Self::SyncFolder(_)
            | Self::SyncElsewhere
            | Self::SyncTarget
            | Self::SyncClaim => true,
            Self::Write(_)
            | Self::Names(..)
            | Self::Exchange(_)
            | Self::Create(..)
            | Self::Hold(..)
            | Self::FreeRetired(_)
            | Self::UnlinkPath(_)
            | Self::UnlinkRetired(_)
            | Self::Target(_)
            | Self::Claim(_)
            | Self::Compare => false,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Write(_) => "writes the temporary file",
            Self::SyncFile(_) => "syncs the file",
            Self::SyncStanding(_) => "syncs the marker",
            Self::SyncElsewhere => "syncs the other targets",
            Self::Names(..) => "changes the names",
            Self::Exchange(_) => "exchanges the names",
            Self::Hold(..) => "changes the second lock",
            Self::FreeRetired(_) => "deletes the store",
            Self::UnlinkPath(_) | Self::UnlinkRetired(_) => "removes the marker",
            Self::Create(..) => "creates the marker",
            Self::SyncFolder(_) => "syncs the folder",
            Self::Target(_) => "commits",
            Self::SyncTarget => "syncs the target",
            Self::Claim(_) => "writes the claim",
            Self::SyncClaim => "syncs the claim",
            Self::Compare => "compares",
        }
    }
}

impl Names {
    fn is_damaged(&self) -> bool {
        self.path == Thing::Damaged || self.retired == Thing::Damaged
    }
}

fn is_open(path: Thing) -> bool {
    match path {
        Thing::Nothing | Thing::Store(Store { held: false, .. }) => true,
        Thing::Store(Store { held: true, .. })
        | Thing::Marker(_)
        | Thing::Damaged
        | Thing::Foreign => false,
    }
}

fn version(store: Store) -> SecondLock {
    if store.held { SecondLock::Held } else { SecondLock::Native }
}

/// A transaction: it is seen as soon as it is done, and durable when it returns.
fn commit<const N: usize>(target: Target<N>) -> Vec<Change<N>> {
    vec![Change::Target(target), Change::SyncTarget]
}

/// Each world once for every value that the fact may be left with.
fn spread<const N: usize, T: Copy + Ord>(
    worlds: Vec<World<N>>,
    fact: impl Fn(&mut World<N>) -> &mut Fact<T>,
) -> Vec<World<N>> {
    let mut spread = Vec::new();
    for mut world in worlds {
        let values: Vec<T> = fact(&mut world).possible().collect();
        for value in values {
            let mut left = world.clone();
            *fact(&mut left) = Fact::new(value);
            spread.push(left);
        }
    }
    spread
}
