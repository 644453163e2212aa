//! What the model leaves open, because no proof leans on it.

use super::follow::{SOURCES, World, store_of};
use crate::proof::world::{Names, Store, Thing};
use cutover::protocol::Stage;

/// What a store holds of which a part was deleted.
pub const RUINED: u8 = 8;

/// The same world, with every set of temporary files: which of them are seen depends on the
/// migration that markers and claim name, and the model gives them no id.
pub fn temporaries(world: &World) -> Vec<World> {
    let with = |temporary| move |names: Names| Some(Names { temporary, ..names });
    spread(world, &[&with(false), &with(true)])
}

/// The same world, with the second lock of every retired store set or not: it is lifted while the
/// store is read.
pub fn locks(world: &World) -> Vec<World> {
    let with = |held| {
        move |names: Names| {
            let Thing::Marker(marker) = names.path else { return None };
            let retired = Thing::Store(Store { held, ..store_of(names.retired)? });
            matches!(marker.stage, Stage::Tombstone | Stage::Final)
                .then_some(Names { retired, ..names })
        }
    };
    spread(world, &[&with(false), &with(true)])
}

/// The same world, with a part of this source's retired store deleted.
pub fn ruined(world: &World, at: usize) -> Vec<World> {
    let ruined = |held| {
        let retired = Thing::Store(Store { writes: RUINED, held });
        with_names(world, at, Names { retired, ..world.sources[at].seen })
    };
    vec![ruined(true), ruined(false)]
}

/// Every world that the changes make at each source, the world itself first.
fn spread(world: &World, changes: &[&dyn Fn(Names) -> Option<Names>]) -> Vec<World> {
    let mut worlds = vec![world.clone()];
    for at in 0..SOURCES {
        for found in worlds.clone() {
            for change in changes {
                if let Some(names) = change(found.sources[at].seen) {
                    let other = with_names(&found, at, names);
                    if !worlds.contains(&other) {
                        worlds.push(other);
                    }
                }
            }
        }
    }
    worlds
}

pub fn with_names(world: &World, at: usize, names: Names) -> World {
    let mut world = world.clone();
    world.sources[at].change(names);
    world.sources[at].sync();
    world
}

/// Whether a thing can be handled: what is left of a store that was being deleted tells nothing.
pub fn is_whole(thing: Thing) -> bool {
    store_of(thing).is_none_or(|store| store.writes != RUINED)
}
