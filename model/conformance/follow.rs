//! The model's side of an act: every world that it may leave, and what its caller may be told.
//!
//! A kill or a failing call may stop a process between any two changes, so that there are many. The
//! steps that the real driver was about to take, one line for each, say which of them it can be.

use super::act::{Act, Script, Told};
use super::variants;
use crate::proof::invariants;
use crate::proof::life::Move;
use crate::proof::world::{Change, Names, Record, Store, Target, Thing};
use cutover::fault::Taken;
use cutover::protocol::{
    Contradiction, Intent, NotAllowed, Session, Stage, State, Step, classify, next,
};
use std::collections::VecDeque;

pub const SOURCES: usize = 2;

pub type World = crate::proof::world::World<SOURCES>;

/// What stops a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// SIGKILL at this fault point after this step was chosen.
    Kill { step: usize, point: usize },
    /// An I/O error there, once.
    Fail { step: usize, point: usize },
    /// The observer asks to stop after this many chunks: in the copy, or before the next step.
    Cancel { chunks: usize },
}

/// An act, and what stops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub act: Act,
    pub strike: Option<Strike>,
}

/// How a call may end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub world: World,
    pub end: End,
    /// Which invariant was broken on the way.
    pub broken: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its caller is told this.
    Told(Told),
    /// It was stopped in this step, or before the first.
    Stopped(Option<Step>),
    /// It gave up what it had begun, and nothing is changed.
    TakenBack,
}

/// A process on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Walk {
    world: World,
    intent: Intent,
    /// What is wanted after that.
    then: VecDeque<Intent>,
    session: Session,
    changed: bool,
    /// A failing seal is being taken back.
    taking_back: bool,
    broken: Option<String>,
}

/// Follows `call` from `before`. The table does not accept a trace that leads nowhere: the error says
/// what was expected. `trace` are the steps that the real driver was about to take; where
/// it is none, every way is followed.
pub fn follow(
    before: &World,
    call: Call,
    trace: Option<&[String]>,
) -> Result<Vec<Outcome>, String> {
    let (at, outcomes, expected) = (0, Vec::new(), Vec::new());
    let mut following = Following { call, trace, at, outcomes, expected };
    let seen = before.observe();
    let state = classify(&seen);
    let script = match call.act.script(state.ok(), before.unused_id()) {
        Some(script) => script,
        None => Script::Ends(match state {
            Err(contradiction) => contradicted(before, contradiction),
            Ok(state) => Told::NoSuchMove(state),
        }),
    };
    let mut then: VecDeque<Intent> = match script {
        Script::Intents(intents) => intents.into(),
        Script::Ends(told) => {
            following.end(before.clone(), End::Told(told), None);
            return following.ended();
        }
    };
    let Some(intent) = then.pop_front() else { return following.ended() };
    let walk = Walk {
        world: before.clone(),
        intent,
        then,
        session: Session::default(),
        changed: false,
        taking_back: false,
        broken: None,
    };
    let mut walks = vec![walk];
    if intent == Intent::ReplaceTarget {
        // Its ticket says that what can't be seen is gone for good.
        walks[0].world.forget_lost();
    }
    // Before it takes the first step, what copies tries the exchange with files of its own.
    if matches!(intent, Intent::Begin(_) | Intent::Rerun) {
        let tried = |world| Walk { world, ..walks[0].clone() };
        walks = variants::temporaries(before).into_iter().map(tried).collect();
        if !following.strikes(0) {
            let old = |walk: &Walk| {
                (0..SOURCES).all(|at| {
                    !walk.world.sources[at].seen.temporary || before.sources[at].seen.temporary
                })
            };
            walks.retain(old);
        }
    }
    if following.strikes(0) {
        for walk in &walks {
            following.end(walk.world.clone(), End::Stopped(None), None);
        }
    }
    while !walks.is_empty() {
        let mut after = Vec::new();
        for walk in walks {
            following.step(&walk, &mut after);
        }
        after.dedup();
        walks = after;
        following.at += 1;
    }
    following.ended()
}

struct Following<'a> {
    call: Call,
    trace: Option<&'a [String]>,
    /// How many steps were chosen before.
    at: usize,
    outcomes: Vec<Outcome>,
    /// The lines that could have come next, where another came.
    expected: Vec<String>,
}

impl Following<'_> {
    fn ended(self) -> Result<Vec<Outcome>, String> {
        if self.outcomes.is_empty() { Err(self.expected.join("\n")) } else { Ok(self.outcomes) }
    }

    /// Whether the process may be stopped after the step with this number was chosen.
    fn strikes(&self, number: usize) -> bool {
        match self.call.strike {
            Some(Strike::Kill { step, .. } | Strike::Fail { step, .. }) => step <= number,
            Some(Strike::Cancel { .. }) | None => false,
        }
    }

    fn fails(&self) -> bool {
        matches!(self.call.strike, Some(Strike::Fail { .. }))
    }

    /// The walks that the next line of the trace may be of, and what they are about to do.
    fn chosen(&mut self, walk: &Walk) -> Vec<(Walk, Result<Step, NotAllowed>)> {
        let choose = |walk: Walk| {
            let step = next(&walk.world.observe(), walk.intent, &walk.session);
            (walk, step)
        };
        let Some(trace) = self.trace else { return vec![choose(walk.clone())] };
        // A store that is read has its second lock lifted meanwhile.
        let worlds = if matches!(walk.intent, Intent::Prepare | Intent::Copy | Intent::Rerun) {
            variants::locks(&walk.world)
        } else {
            vec![walk.world.clone()]
        };
        let mut chosen = Vec::new();
        for world in worlds {
            let (walk, step) = choose(Walk { world, ..walk.clone() });
            let expected = step.map_or_else(
                |refusal| format!("nothing: {refusal}"),
                |step| {
                    let (intent, session) = (walk.intent, walk.session.clone());
                    format!("{:?}", Taken { seen: walk.world.observe(), intent, session, step })
                },
            );
            let told = match (&step, trace.get(self.at)) {
                (Ok(_), Some(line)) => *line == expected,
                (Err(_), None) => true,
                (Ok(_), None) | (Err(_), Some(_)) => false,
            };
            if told {
                chosen.push((walk, step));
            } else {
                self.expected.push(format!("step {}: {expected}", self.at + 1));
            }
        }
        chosen
    }

    fn step(&mut self, walk: &Walk, after: &mut Vec<Walk>) {
        for (walk, chosen) in self.chosen(walk) {
            match chosen {
                Err(refusal) => self.refused(walk, refusal),
                Ok(Step::Done(state)) => self.done(walk, state, after),
                Ok(Step::GiveUp) => self.stop(&walk, walk.world.clone(), Step::GiveUp),
                Ok(step) => self.take(walk, step, after),
            }
        }
    }

    fn refused(&mut self, walk: Walk, refusal: NotAllowed) {
        let told = match refusal {
            NotAllowed::Contradiction(contradiction) => contradicted(&walk.world, contradiction),
            _ if walk.changed => Told::Interrupted,
            _ => Told::Refused,
        };
        self.end(walk.world, End::Told(told), walk.broken.as_ref());
    }

    fn done(&mut self, mut walk: Walk, state: State, after: &mut Vec<Walk>) {
        if walk.intent == Intent::UseSql && state == State::Tombstoned {
            walk.world.sql_in_use = true;
        }
        let handed_out = Move::Done(walk.intent, state);
        let broken = invariants::transition(&walk.world, &handed_out, &walk.world);
        walk.broken = walk.broken.or(broken);
        // Stores are closed, and a connection is opened, behind the last step.
        if self.strikes(self.at + 1) {
            self.stop(&walk, walk.world.clone(), Step::Done(state));
        }
        if walk.taking_back {
            self.end(walk.world, End::TakenBack, walk.broken.as_ref());
        } else if let Some(intent) = walk.then.pop_front() {
            if self.call.act == Act::Kv && state != State::Fresh {
                self.end(walk.world, End::Told(Told::Refused), walk.broken.as_ref());
            } else {
                let session = Session::default();
                after.push(Walk { intent, session, changed: false, ..walk });
            }
        } else {
            let told = match classify(&walk.world.observe()) {
                Err(contradiction) if self.call.act.opens_again() => {
                    contradicted(&walk.world, contradiction)
                }
                Ok(_) | Err(_) => Told::Done(state),
            };
            self.end(walk.world, End::Told(told), walk.broken.as_ref());
        }
    }

    fn take(&mut self, mut walk: Walk, step: Step, after: &mut Vec<Walk>) {
        let Some(changes) = walk.world.changes(step) else {
            walk.broken = walk.broken.or(Some(format!("the model can't do {step:?}")));
            self.stop(&walk, walk.world.clone(), step);
            return;
        };
        let cancels = matches!(self.call.strike, Some(Strike::Cancel { .. }));
        let strikes = self.strikes(self.at + 1) || (cancels && step == Step::Copy);
        let asks = matches!(walk.intent, Intent::Begin(_) | Intent::Prepare | Intent::Copy);
        if strikes || (cancels && asks) {
            self.struck(&walk, step, after);
        }
        for change in changes {
            // A file that is there is removed before it is written anew.
            if let (true, Change::Write(at) | Change::SyncFile(at)) = (strikes, change)
                && !matches!(step, Step::Confirm { .. })
                && walk.world.sources[at].seen.temporary
            {
                let names = Names { temporary: false, ..walk.world.sources[at].seen };
                let world = variants::with_names(&walk.world, at, names);
                self.struck(&Walk { world, ..walk.clone() }, step, after);
            }
            if !make(&mut walk, step, change) {
                self.end(walk.world, End::Told(Told::Verification), walk.broken.as_ref());
                return;
            }
            if strikes {
                self.struck(&walk, step, after);
            }
        }
        walk.changed |= !matches!(step, Step::Confirm { .. } | Step::Verify);
        walk.session.done(step);
        if matches!(step, Step::Claim(_)) {
            // A temporary file is known by the migration that the claim names.
            let known = variants::temporaries(&walk.world).into_iter();
            after.extend(known.map(|world| Walk { world, ..walk.clone() }));
        } else {
            after.push(walk);
        }
    }

    /// The process is stopped here, or goes on in spite of an error.
    fn struck(&mut self, walk: &Walk, step: Step, after: &mut Vec<Walk>) {
        let mut worlds = vec![walk.world.clone()];
        if let Step::DeleteRetired(at) = step
            && matches!(walk.world.sources[at].seen.retired, Thing::Store(_))
        {
            worlds = variants::ruined(&walk.world, at);
        }
        for world in worlds {
            self.stop(walk, world, step);
        }
        // Every tombstone is tried.
        if self.fails()
            && let (Step::Mark { source, stage: Stage::Tombstone, .. }, Intent::Finish) =
                (step, walk.intent)
        {
            let mut skipped = walk.clone();
            skipped.session.failed.insert(source);
            after.push(skipped);
        }
        if self.fails() && step.is_optional() {
            let mut skipped = walk.clone();
            skipped.session.skipped.insert(step);
            after.push(skipped);
        }
        // A migration that can't begin, or is not to, is taken back.
        let is_killed = matches!(self.call.strike, Some(Strike::Kill { .. }));
        if matches!(walk.intent, Intent::Begin(_)) && !is_killed {
            let session = Session::default();
            let intent = Intent::Abort;
            after.push(Walk { intent, session, taking_back: true, ..walk.clone() });
        }
    }

    fn stop(&mut self, walk: &Walk, world: World, step: Step) {
        self.end(world, End::Stopped(Some(step)), walk.broken.as_ref());
    }

    fn end(&mut self, world: World, end: End, broken: Option<&String>) {
        let lines = match end {
            End::Stopped(Some(_)) | End::TakenBack | End::Told(Told::Done(_)) => self.at + 1,
            End::Stopped(None) => 0,
            End::Told(_) => self.trace.map_or(0, <[String]>::len),
        };
        if self.trace.is_some_and(|trace| trace.len() != lines) {
            return;
        }
        let reads = matches!(self.call.act, Act::Prepare | Act::Run | Act::Sql | Act::Rerun);
        let worlds = if reads { variants::locks(&world) } else { vec![world] };
        for world in worlds {
            let outcome = Outcome { world, end, broken: broken.cloned() };
            if !self.outcomes.contains(&outcome) {
                self.outcomes.push(outcome);
            }
        }
    }
}

/// Makes a change, durable at once: what a power cut leaves is not asked here. False where a
/// comparison fails.
fn make(walk: &mut Walk, step: Step, change: Change<SOURCES>) -> bool {
    let before = walk.world.clone();
    if walk.world.apply(change).is_none() {
        return false;
    }
    // Where there is no keyspace, there is nothing to copy.
    if matches!((step, change), (Step::BeginCopy(_), Change::Target(_)))
        && (0..SOURCES).all(|at| walk.world.content(at) == 0)
        && let Some(record) = walk.world.record()
    {
        let copied = Record { copied: true, image: [Some(0); SOURCES], ..record };
        walk.world.targets[walk.world.place].change(Target::Record(copied));
    }
    walk.world.sync();
    for at in 0..SOURCES {
        walk.world.opened[at] &= walk.world.may_be_open(at);
    }
    walk.world.overwritten &= walk.world.record().is_some();
    let does = Move::Does(step, change.name());
    let broken =
        invariants::transition(&before, &does, &walk.world).or_else(|| broken(&walk.world));
    if walk.broken.is_none() {
        walk.broken = broken.map(|broken| format!("{broken}, after {step:?} {}", change.name()));
    }
    true
}

/// Which invariant is broken in `world`, where an operator has done no more than the model is
/// searched for: anyone who deletes every marker and names another target is beyond any program.
pub fn broken(world: &World) -> Option<String> {
    (world.acts <= 1).then(|| invariants::standing(world)).flatten()
}

/// What a caller is told of a contradiction: where nothing has begun, a target that can't be used
/// is only a wrong path.
fn contradicted(world: &World, contradiction: Contradiction) -> Told {
    let unmarked = world.markers().next().is_none();
    let target = [Contradiction::TargetUnreadable, Contradiction::TargetUnreachable];
    if unmarked && target.contains(&contradiction) {
        Told::Refused
    } else {
        Told::Contradiction(contradiction)
    }
}

/// The store at a name, where there is one.
pub const fn store_of(thing: Thing) -> Option<Store> {
    match thing {
        Thing::Store(store) => Some(store),
        Thing::Nothing | Thing::Marker(_) | Thing::Damaged | Thing::Foreign => None,
    }
}
