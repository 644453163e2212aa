//! What may happen next, and every world that the model allows behind it.

use super::act::{ACTS, Act};
use super::follow::{Call, SOURCES, Strike, World, follow, store_of};
use super::variants::{is_whole, temporaries, with_names};
use crate::proof::hands::{self, Act as Hand, Name};
use crate::proof::life::Faults;
use crate::proof::world::{Hidden, SPOILED, Target, Thing};
use cutover::protocol::{RecordStage, State, classify};
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;
use std::collections::HashSet;

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happens {
    Call(Call),
    /// A stock fjall program writes, where it can; the store's content gets this number.
    StockWrite {
        source: usize,
        content: u8,
    },
    /// The daemon writes this row to the target, where it is live.
    DaemonWrite(u8),
    /// An operator does this, where it can be done.
    Hand(Hand),
}

/// Every world that the model allows.
#[derive(Clone)]
pub struct Reference {
    pub worlds: Vec<World>,
    /// What an operator does besides.
    pub hands: Faults,
    /// The number of the content that is written next.
    pub contents: u8,
}

/// The first number of a content that is written later.
pub const WRITTEN: u8 = 10;

/// Fresh, the first `missing` sources missing. Contents are told apart by number; 0 is nothing.
pub fn start(missing: usize) -> World {
    let mut world = World::fresh(missing);
    for (at, content) in (0..SOURCES).zip(1..).skip(missing) {
        world = written(&world, at, content);
    }
    world
}

fn written(world: &World, at: usize, content: u8) -> World {
    let mut world = world.clone();
    world.write_kv(at);
    let mut names = world.sources[at].seen;
    if let Thing::Store(store) = &mut names.path {
        store.writes = content;
    }
    world.truth[at] = world.truth[at].map(|_| content);
    with_names(&world, at, names)
}

/// What an operator can do here, and what the model can follow.
pub fn hands(world: &World, faults: Faults) -> Vec<(Hand, World)> {
    let mut acts = hands::acts(world, faults);
    let standing = |at: usize, name: Name| {
        let names = world.sources[at].seen;
        match name {
            Name::Path => names.path,
            Name::Retired => names.retired,
        }
    };
    let records = world.targets.iter().filter_map(|target| match target.seen {
        Target::Record(record) => Some(record),
        _ => None,
    });
    let copying: Vec<_> = records
        .chain(world.aside.sql)
        .filter(|record| record.stage == RecordStage::Copying)
        .collect();
    acts.retain(|(act, _)| match *act {
        Hand::Moves(at, name) | Hand::Copies(at, name) => is_whole(standing(at, name)),
        Hand::Exchanges(at) => is_whole(standing(at, Name::Retired)),
        // The model copies a source at once; real rows may be of two stores then.
        Hand::Puts(at, Name::Retired) => {
            let store = world.aside.thing.and_then(store_of);
            store.is_none_or(|store| copying.iter().all(|r| r.image[at] == Some(store.writes)))
        }
        Hand::SpoilsRows => world.record().is_some_and(|record| {
            record.image[0].is_some_and(|image| image != 0 && image != SPOILED)
        }),
        // The tables that stay beside a record that was dropped are not in the model;
        // `model/crash/removed.rs` drops real ones.
        Hand::Hides(hidden) => hidden != Hidden::Dropped,
        _ => true,
    });
    acts
}

/// Every world that the model allows behind it.
pub fn allowed(world: &World, happens: &Happens, faults: Faults) -> Vec<World> {
    match happens {
        Happens::Call(call) => {
            let outcomes = follow(world, *call, None).expect("there is always an end");
            outcomes.into_iter().map(|outcome| outcome.world).collect()
        }
        Happens::StockWrite { source, content } if world.is_open(*source) => {
            vec![written(world, *source, *content)]
        }
        Happens::StockWrite { .. } | Happens::DaemonWrite(_) => vec![world.clone()],
        Happens::Hand(hand) => {
            let found = hands(world, faults).into_iter().find(|(act, _)| act == hand);
            // Which temporary files are seen depends on what names their migration.
            found.map_or_else(
                || vec![world.clone()],
                |(_, mut after)| {
                    after.sync();
                    temporaries(&after)
                },
            )
        }
    }
}

impl std::fmt::Debug for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} worlds, {:?}", self.worlds.len(), self.hands)
    }
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Happens;

    fn init_state() -> BoxedStrategy<Self> {
        let hands = prop_oneof![
            3 => Just(Faults::PowerCuts),
            1 => Just(Faults::OldCopies),
            2 => Just(Faults::Hands(u8::MAX)),
        ];
        let missing = prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(2)];
        (missing, hands)
            .prop_map(|(missing, hands)| Self {
                worlds: vec![start(missing)],
                hands,
                contents: WRITTEN,
            })
            .boxed()
    }

    fn transitions(reference: &Self) -> BoxedStrategy<Happens> {
        let world = &reference.worlds[0];
        let likely = match classify(&world.observe()) {
            Ok(State::Fresh) => vec![Act::Sql, Act::Sql, Act::Begin, Act::Kv],
            Ok(State::Migrating { .. }) => {
                vec![Act::Prepare, Act::Run, Act::Run, Act::Sql, Act::Abort, Act::Kv]
            }
            Ok(State::Committed) => vec![Act::Finish, Act::Sql, Act::Abort],
            Ok(State::Tombstoned) => vec![Act::IntoSql, Act::Sql, Act::Reclaim],
            Ok(State::RerunAllowed) => vec![Act::Rerun, Act::Rerun, Act::RestoreKv],
            Err(_) => vec![Act::Discard, Act::ReplaceTarget, Act::Sql],
        };
        let act = prop_oneof![
            4 => prop::sample::select(likely),
            1 => prop::sample::select(ACTS.to_vec()),
        ];
        let steps = prop_oneof![2 => 0_usize..8, 1 => 8_usize..24];
        let place = (steps, 1_usize..8);
        let strike = prop_oneof![
            4 => Just(None),
            4 => place.clone().prop_map(|(step, point)| Some(Strike::Kill { step, point })),
            3 => place.prop_map(|(step, point)| Some(Strike::Fail { step, point })),
            1 => (0_usize..6).prop_map(|chunks| Some(Strike::Cancel { chunks })),
        ];
        let call = (act, strike).prop_map(|(act, strike)| Happens::Call(Call { act, strike }));
        let content = reference.contents;
        let write = (0..SOURCES).prop_map(move |source| Happens::StockWrite { source, content });
        let acts: Vec<Hand> =
            hands(world, reference.hands).into_iter().map(|(act, _)| act).collect();
        let daemon = Just(Happens::DaemonWrite(content));
        if acts.is_empty() {
            return prop_oneof![8 => call, 1 => write, 1 => daemon].boxed();
        }
        let hand = prop::sample::select(acts).prop_map(Happens::Hand);
        prop_oneof![8 => call, 1 => write, 1 => daemon, 3 => hand].boxed()
    }

    fn apply(reference: Self, happens: &Happens) -> Self {
        let mut worlds = Vec::new();
        let mut found = HashSet::new();
        for world in &reference.worlds {
            for after in allowed(world, happens, reference.hands) {
                if found.insert(after.clone()) {
                    worlds.push(after);
                }
            }
        }
        Self { worlds, contents: reference.contents + 1, ..reference }
    }
}
