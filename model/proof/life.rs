//! The life of a plan: processes that follow the shipped protocol and are killed, power cuts, stock
//! programs that write, and operators.

use super::hands::{self, Act};
use super::mutants::{Kind, Mutant, after, kind};
use super::search::System;
use super::world::{Change, INTENTS, Process, World};
use cutover::protocol::{
    Contradiction, Intent, Observation, Session, Stage, State, Step, classify,
};
use rustc_hash::FxHashSet;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Everything that may be wanted; a migration that begins draws an id that nothing on any disk
/// carries.
pub fn intents<const N: usize>(world: &World<N>) -> impl Iterator<Item = Intent> {
    let begin = Intent::Begin(world.unused_id());
    let others = INTENTS.into_iter().filter(|intent| !matches!(intent, Intent::Begin(_)));
    std::iter::once(begin).chain(others)
}

/// What goes wrong besides kills and failing calls. All at once are too many worlds to walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// The power fails at any instant, and an operator deletes the SQL file any number of times.
    PowerCuts,
    /// An operator copies the SQL file at some instant, puts the copy in its place later, and
    /// deletes the file, each any number of times.
    OldCopies,
    /// The same, and the power fails at any instant.
    OldCopiesAndCuts,
    /// An operator does anything to any file, this often.
    Hands(u8),
    /// The same, and the power fails at any instant.
    HandsAndCuts(u8),
}

impl Faults {
    pub const fn cuts(self) -> bool {
        matches!(self, Self::PowerCuts | Self::OldCopiesAndCuts | Self::HandsAndCuts(_))
    }
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// A process takes the locks, and looks.
    Start(Intent),
    /// One change of a step, with the syncs that follow one another.
    Does(Step, &'static str),
    /// The process has what it wanted.
    Done(Intent, State),
    /// A call fails, and the process ends.
    Fails(Step),
    /// A tombstone can't be written, or what no invariant leans on fails; the process goes on.
    Skips(Step),
    Killed,
    PowerCut,
    /// A stock program opens or creates the store, and writes.
    StockWrite(usize),
    Operator(Act),
}

/// The system, and what was met in it.
#[derive(Debug)]
pub struct Life<const N: usize> {
    pub faults: Faults,
    pub mutant: Mutant,
    pub met: Met,
    starts: Vec<World<N>>,
    followed: FxHashSet<Observation>,
}

/// What was met: that which is never met is shown by nothing.
#[derive(Debug, Default)]
pub struct Met {
    pub states: BTreeMap<State, usize>,
    pub contradictions: BTreeSet<Contradiction>,
    /// The steps, and the longest list of changes that each made.
    pub steps: BTreeMap<Kind, Vec<&'static str>>,
    /// The steps that followed each other in one session.
    pub neighbours: BTreeSet<(Kind, Kind)>,
    /// The changes that led from one state to another, and what was wanted.
    pub edges: BTreeSet<(State, State, Kind, &'static str)>,
}

impl<const N: usize> Life<N> {
    pub fn new(faults: Faults, mutant: Mutant) -> Self {
        let starts = (0..=N).map(World::fresh).collect();
        Self { faults, mutant, met: Met::default(), starts, followed: FxHashSet::default() }
    }

    /// From somewhere in the middle.
    pub fn starting_from(self, world: World<N>) -> Self {
        Self { starts: vec![world], ..self }
    }

    fn met(
        &mut self,
        world: &World<N>,
        process: &Process<N>,
        step: Step,
        changes: &VecDeque<Change<N>>,
    ) {
        let kind = kind(world, step);
        let longest = self.met.steps.entry(kind).or_default();
        if longest.len() < changes.len() {
            *longest = changes.iter().map(|change| change.name()).collect();
        }
        if self.mutant == Mutant::Shipped
            && let Some((then, _)) = after(world, process.intent, &process.session, step)
        {
            self.met.neighbours.insert((kind, then));
        }
    }

    /// What the process does next.
    fn work(&mut self, world: &World<N>, after: &mut Vec<(Move, World<N>)>) {
        let Some(process) = &world.working else { return };
        let idle = || World { working: None, ..world.clone() };
        after.push((Move::Killed, idle()));
        let mut process = process.clone();
        let (step, mut changes) = match process.doing.take() {
            Some(doing) => doing,
            None => match self.mutant.choose(world, process.intent, &process.session) {
                None | Some((Step::GiveUp, _)) => return,
                Some((Step::Done(state), _)) => {
                    let mut done = idle();
                    if process.intent == Intent::UseSql && state == State::Tombstoned {
                        // SQLite makes the daemon's own commits durable.
                        done.sql_in_use = true;
                        done.targets[done.place].sync();
                    }
                    after.push((Move::Done(process.intent, state), done));
                    return;
                }
                Some((step, changes)) => {
                    self.met(world, &process, step, &changes);
                    (step, changes)
                }
            },
        };
        if matches!(step, Step::Mark { stage: Stage::Tombstone, .. })
            && process.intent == Intent::Finish
        {
            let mut skipped = world.clone();
            let mut session = process.session.clone();
            if let Step::Mark { source, .. } = step {
                session.failed.insert(source);
            }
            skipped.working = Some(Process { session, ..process.clone() });
            after.push((Move::Skips(step), skipped));
        }
        if step.is_optional() {
            let mut skipped = world.clone();
            let mut session = process.session.clone();
            session.skipped.insert(step);
            skipped.working = Some(Process { session, ..process.clone() });
            after.push((Move::Skips(step), skipped));
        }
        let mut doing = world.clone();
        let mut name = "nothing";
        while let Some(change) = changes.pop_front() {
            name = change.name();
            if doing.apply(change).is_none() {
                after.push((Move::Fails(step), idle()));
                return;
            }
            // Nothing new can come of a kill between syncs: what is durable may be left anyhow.
            if !(change.is_sync() && changes.front().is_some_and(|next| next.is_sync())) {
                break;
            }
        }
        if changes.is_empty() {
            process.session.done(step);
        } else {
            process.doing = Some((step, changes));
        }
        if self.mutant == Mutant::Shipped
            && let Ok(before) = classify(&world.observe())
            && let Ok(state) = classify(&doing.observe())
            && before != state
        {
            let edge = (before, state, kind(world, step), wanted(process.intent));
            self.met.edges.insert(edge);
        }
        for at in 0..N {
            // Of a target that can't be seen, its marker alone told.
            doing.opened[at] &= doing.may_be_open(at) || doing.is_hidden();
        }
        // It went with its ticket.
        doing.overwritten &= doing.record().is_some();
        doing.working = Some(process);
        after.push((Move::Does(step, name), doing));
    }

    fn start(&self, world: &World<N>, after: &mut Vec<(Move, World<N>)>) {
        for intent in intents(world) {
            let session = Session::default();
            if self.mutant.choose(world, intent, &session).is_some() {
                let working = Some(Process { intent, session, doing: None });
                let mut started = World { working, ..world.clone() };
                if intent == Intent::ReplaceTarget {
                    // Its ticket says that what can't be seen is gone for good.
                    started.forget_lost();
                }
                after.push((Move::Start(intent), started));
            }
        }
    }
}

impl<const N: usize> System for Life<N> {
    type World = World<N>;
    type Move = Move;

    fn starts(&self) -> Vec<World<N>> {
        self.starts.clone()
    }

    fn moves(&mut self, world: &World<N>) -> Vec<(Move, World<N>)> {
        let mut after = Vec::new();
        if self.faults.cuts() && (world.working.is_some() || !world.is_durable()) {
            after.extend(world.cuts().into_iter().map(|cut| (Move::PowerCut, cut)));
        }
        let can_be_written = |at: &usize| world.is_open(*at) && !world.is_locked(*at);
        for at in (0..N).filter(can_be_written).filter(|at| world.content(*at) == 0) {
            let mut written = world.clone();
            written.write_kv(at);
            after.push((Move::StockWrite(at), written));
        }
        if world.working.is_some() {
            self.work(world, &mut after);
        } else {
            self.start(world, &mut after);
        }
        // Between two steps of a process, or while none is at work.
        if world.working.as_ref().is_none_or(|process| process.doing.is_none()) {
            let acts = hands::acts(world, self.faults).into_iter();
            after.extend(acts.map(|(act, world)| (Move::Operator(act), world)));
        }
        for (_, world) in &mut after {
            if !self.faults.cuts() {
                world.sync();
            }
            world.renumber();
        }
        after
    }

    fn violation(&mut self, before: &World<N>, step: &Move, after: &World<N>) -> Option<String> {
        super::invariants::transition(before, step, after)
    }

    fn visit(&mut self, world: &World<N>) -> Option<String> {
        let seen = world.observe();
        match classify(&seen) {
            Ok(state) => *self.met.states.entry(state).or_default() += 1,
            Err(contradiction) => {
                self.met.contradictions.insert(contradiction);
            }
        }
        if matches!(self.faults, Faults::Hands(_)) && world.working.is_none() {
            let strangers = hands::strangers(&seen);
            let told = strangers.iter().filter_map(|seen| classify(seen).err());
            self.met.contradictions.extend(told);
        }
        super::invariants::standing(world).or_else(|| {
            let idle = world.working.is_none() && !world.tampered;
            (idle && self.followed.insert(seen))
                .then(|| super::ways_out::broken(world, self.mutant))
                .flatten()
        })
    }
}

/// An intent, in words.
const fn wanted(intent: Intent) -> &'static str {
    match intent {
        Intent::UseKv => "use the KV stores",
        Intent::Begin(_) => "begin",
        Intent::Prepare => "prepare",
        Intent::Copy => "copy",
        Intent::Finish => "finish",
        Intent::Abort => "abort",
        Intent::AbortCommitted => "abort, with a ticket",
        Intent::UseSql => "use the SQL database",
        Intent::Rerun => "rerun, with a ticket",
        Intent::RestoreKv => "restore the KV stores, with a ticket",
        Intent::Reclaim => "reclaim, with a ticket",
        Intent::ReplaceTarget => "replace the target, with a ticket",
        Intent::Discard => "discard the record, with a ticket",
    }
}
