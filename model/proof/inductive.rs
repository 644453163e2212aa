//! I-1 by induction. Not over the worlds that can be reached, but over every world in which the
//! hypothesis holds, whatever led there: no change of any step, no kill, no power cut and no stock
//! writer leads out of it. It holds at the beginning, so it holds always. What an operator does by
//! hand is not part of it.

use super::fact::Fact;
use super::mutants::{Eye, Mutant};
use super::world::{
    Claim, Hidden, INTENTS, Marker, Names, PLACES, Process, Record, Store, Target, Thing, World,
};
use crate::common::pins;
use cutover::protocol::{
    Intent, MigrationId, RecordStage, Run, Session, Stage, Step, Was, classify,
};
use std::collections::BTreeSet;

/// No combination of what a power cut could leave has a record beside an open source; and where a
/// process has confirmed what it found, nothing of it is left to a power cut that could bring a
/// record or an open source back. Nor is there one beside a marker that is as it was sealed. That is
/// more than I-1, which speaks of live records alone.
fn hypothesis<const N: usize>(world: &World<N>) -> bool {
    let record_may_be = world.may_have_a_record();
    let is_as_sealed = |names: Names| match names.path {
        Thing::Marker(Marker { stage, run, .. }) => stage == Stage::Sealed && run.attempt == 1,
        Thing::Nothing | Thing::Store(_) | Thing::Damaged | Thing::Foreign => false,
    };
    let as_sealed = world.sources.iter().flat_map(Fact::possible).any(is_as_sealed);
    let one_side = !(record_may_be && (as_sealed || (0..N).any(|at| world.may_be_open(at))));
    let confirmed = world.working.as_ref().is_some_and(|process| process.session.confirmed);
    let durable = world.sources.iter().all(Fact::is_durable)
        && (world.targets.iter().all(Fact::is_durable) || !record_may_be || is_handed_out(world));
    one_side && (!confirmed || durable)
}

/// A live target beside markers that were only ever written after it was durable.
fn is_handed_out<const N: usize>(world: &World<N>) -> bool {
    let is_final =
        |(_, marker): (usize, Marker)| matches!(marker.stage, Stage::Final | Stage::Reclaimed);
    world.record().is_some_and(|record| record.stage == RecordStage::Live)
        && world.markers().count() == N
        && world.markers().all(is_final)
}

/// How much is enumerated.
struct Alphabet {
    ids: &'static [u128],
    attempts: &'static [u32],
    was: &'static [Was],
    temporary: &'static [bool],
}

const WHOLE: Alphabet = Alphabet {
    ids: &[1, 2],
    attempts: &[1, 2],
    was: &[Was::Directory, Was::Nothing],
    temporary: &[false, true],
};

const SMALL: Alphabet =
    Alphabet { ids: &[1], attempts: &[1, 2], was: &[Was::Directory], temporary: &[false] };

const STAGES: [Stage; 5] =
    [Stage::Sealed, Stage::Tombstone, Stage::Final, Stage::Restoring, Stage::Reclaimed];

impl Alphabet {
    fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let run = |id: u128| {
            self.attempts.iter().map(move |attempt| Run { id: MigrationId(id), attempt: *attempt })
        };
        self.ids.iter().flat_map(move |id| run(*id))
    }

    /// Everything that can stand at a source's two names, with what a power cut could leave of it:
    /// nothing else, another closed source, or an open one.
    fn sources(&self, source: usize) -> Vec<Fact<Names>> {
        let stores = [false, true].map(|held| Thing::Store(Store { writes: 0, held }));
        let markers = self.runs().flat_map(|run| {
            STAGES.into_iter().flat_map(move |stage| {
                self.was.iter().map(move |was| {
                    Thing::Marker(Marker { stage, run, was: *was, source, place: 0 })
                })
            })
        });
        let others = [Thing::Nothing, Thing::Damaged, Thing::Foreign];
        let paths: Vec<Thing> = markers.chain(stores).chain(others).collect();
        let left_over = paths[0];
        let run = Run { id: MigrationId(1), attempt: 2 };
        let (stage, was) = (Stage::Sealed, Was::Directory);
        let raised = Thing::Marker(Marker { stage, run, was, source, place: 0 });
        let retired = stores.into_iter().chain([Thing::Nothing, left_over, Thing::Foreign]);
        let mut facts = Vec::new();
        for retired in retired {
            for (path, temporary) in
                paths.iter().flat_map(|path| self.temporary.iter().map(move |is| (*path, *is)))
            {
                let names = Names { path, retired, temporary, torn: false };
                let durable = Fact::new(names);
                // What a power cut could leave besides is closed, or open: nothing asks for more.
                let closed = Names { path: raised, retired: stores[0], ..names };
                let open = Names { path: stores[0], retired: Thing::Nothing, ..names };
                for besides in [closed, open] {
                    let mut left = durable.clone();
                    left.add(besides);
                    facts.push(left);
                }
                facts.push(durable);
            }
        }
        facts
    }

    fn targets<const N: usize>(&self) -> Vec<Fact<Target<N>>> {
        let stages = [RecordStage::Copying, RecordStage::Committed, RecordStage::Live];
        let record = |run: Run, stage, copied| {
            Target::Record(Record {
                stage,
                run,
                copied,
                image: [Some(0); N],
                was: [Was::Directory; N],
            })
        };
        let mut facts = Vec::new();
        let mut seen = vec![Target::None];
        for run in self.runs() {
            let live = Record {
                stage: RecordStage::Live,
                run,
                copied: true,
                image: [Some(0); N],
                was: [Was::Directory; N],
            };
            let hidden = [Hidden::Unreadable, Hidden::MainFileGone];
            seen.extend(hidden.map(|hidden| Target::Hidden(hidden, live)));
            seen.extend(stages.map(|stage| record(run, stage, true)));
            seen.push(record(run, RecordStage::Copying, false));
        }
        for target in seen {
            let durable = Fact::new(target);
            for run in self.runs().take(1) {
                let mut left = durable.clone();
                left.add(record(run, RecordStage::Live, true));
                facts.push(left);
                let mut left = durable.clone();
                left.add(Target::None);
                facts.push(left);
            }
            facts.push(durable);
        }
        facts
    }

    fn claims(&self) -> Vec<Claim> {
        let ids = self.ids.iter().map(|id| Claim::Id(MigrationId(*id)));
        ids.chain([Claim::None, Claim::Unreadable]).collect()
    }
}

/// What a session may have done.
fn sessions() -> Vec<Session> {
    let confirmed = Session { confirmed: true, ..Session::default() };
    let mut sessions = vec![Session::default(), confirmed.clone()];
    for fresh in [2, 3] {
        sessions.push(Session { fresh: Some(fresh), ..confirmed.clone() });
    }
    let prepared = Session { verified: true, prepared: true, ..confirmed.clone() };
    sessions.push(prepared);
    sessions.push(Session { failed: BTreeSet::from([0]), ..confirmed.clone() });
    // Of the marker that a world has; another's is what a person leads to.
    sessions.push(Session { opened: Some(MigrationId(1)), ..confirmed.clone() });
    let skipped = BTreeSet::from([Step::Unclaim, Step::HoldVersion(0)]);
    sessions.push(Session { skipped, ..confirmed });
    sessions
}

/// What was gone through.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    worlds: usize,
    changes: usize,
}

/// Every world of the alphabet in which the hypothesis holds, one source after the other.
fn enumerate<const N: usize>(alphabet: &Alphabet, mutant: Mutant) -> (Count, Option<String>) {
    let mut count = Count::default();
    let mut broken = None;
    let sessions = sessions();
    let sources: Vec<Vec<Fact<Names>>> = (0..N).map(|at| alphabet.sources(at)).collect();
    let (targets, claims) = (alphabet.targets::<N>(), alphabet.claims());
    let mut world = World::<N>::fresh(0);
    each(&mut world, 0, &sources, &mut |world| {
        for target in &targets {
            world.targets = std::array::from_fn(|at| match at {
                0 => target.clone(),
                1..PLACES => Fact::new(Target::None),
                other => unreachable!("{other}"),
            });
            if !hypothesis(world) {
                continue;
            }
            for claim in &claims {
                if broken.is_some() {
                    return;
                }
                world.claims[0] = Fact::new(*claim);
                count.worlds += 1;
                broken = leaves(world, &sessions, mutant, &mut count);
            }
        }
    });
    (count, broken)
}

fn each<const N: usize>(
    world: &mut World<N>,
    at: usize,
    sources: &[Vec<Fact<Names>>],
    then: &mut impl FnMut(&mut World<N>),
) {
    let Some(facts) = sources.get(at) else { return then(world) };
    for fact in facts {
        world.sources[at] = fact.clone();
        each(world, at + 1, sources, then);
    }
}

/// What leads from this world into one in which the hypothesis does not hold.
fn leaves<const N: usize>(
    world: &World<N>,
    sessions: &[Session],
    mutant: Mutant,
    count: &mut Count,
) -> Option<String> {
    if !world.cuts().iter().all(hypothesis) {
        return Some(format!("a power cut in {world:?}"));
    }
    for at in (0..N).filter(|at| world.is_open(*at)) {
        let mut written = world.clone();
        written.write_kv(at);
        if !hypothesis(&written) {
            return Some(format!("a stock writer in {world:?}"));
        }
    }
    let intents = if classify(&world.observe()).is_ok() { &INTENTS[..] } else { &INTENTS[11..] };
    for session in sessions {
        for &intent in intents {
            let process = Process { intent, session: session.clone(), doing: None };
            let working = World { working: Some(process), ..world.clone() };
            if !hypothesis(&working) {
                break;
            }
            let Some((step, changes)) = mutant.choose(world, intent, session) else { continue };
            if let Step::Done(_) = step {
                if is_handed_out_wrongly(world, intent) {
                    return Some(format!("{intent:?} is done in {world:?}"));
                }
                continue;
            }
            let mut after = world.clone();
            for change in changes {
                if after.apply(change).is_none() {
                    break;
                }
                count.changes += 1;
                if !hypothesis(&after) {
                    return Some(format!("{change:?} of {step:?} in {working:?}"));
                }
            }
            let mut session = session.clone();
            session.done(step);
            after.working = Some(Process { intent, session, doing: None });
            if !hypothesis(&after) {
                return Some(format!("{step:?} in {working:?}"));
            }
        }
    }
    None
}

/// What is handed out is the only side that can be written.
fn is_handed_out_wrongly<const N: usize>(world: &World<N>, intent: Intent) -> bool {
    let open = (0..N).any(|at| world.is_open(at));
    (intent == Intent::UseKv && world.is_live())
        || (matches!(intent, Intent::UseSql | Intent::Reclaim) && open)
}

#[test]
fn i1_is_inductive_over_every_world_in_which_it_holds() {
    assert!((0..=2).all(|missing| hypothesis(&World::<2>::fresh(missing))));
    let one = enumerate::<1>(&WHOLE, Mutant::Shipped);
    println!("1 source: {one:?}");
    assert!(pins() || one == (Count { worlds: 238_560, changes: 467_304 }, None), "{one:?}");
    assert_eq!(one.1, None);
    let two = enumerate::<2>(&SMALL, Mutant::Shipped);
    println!("2 sources: {two:?}");
    assert!(pins() || two == (Count { worlds: 1_902_150, changes: 1_829_228 }, None), "{two:?}");
    assert_eq!(two.1, None);
}

/// The induction is not an empty one: it breaks at once where the order does.
#[test]
fn i1_is_not_inductive_for_a_wrong_order() {
    for mutant in [
        Mutant::Skips("Confirm"),
        Mutant::Skips("Confirm the record"),
        Mutant::Drops("Seal", "syncs the folder", 1),
        Mutant::Drops("GoLive", "syncs the target", 0),
        Mutant::Blind(Eye::Record),
    ] {
        let (_, broken) = enumerate::<1>(&WHOLE, mutant);
        println!("{mutant:?}: {}", broken.unwrap_or_else(|| panic!("{mutant:?} is inductive")));
    }
}
