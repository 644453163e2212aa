//! What stock programs find on disk, beside what the model says.

use super::disk::{Disk, sql, with};
use super::follow::{SOURCES, World, store_of};
use super::variants::RUINED;
use crate::common::{self, copy_tree_anew, read_store, read_table, schema_entries};
use crate::crash;
use crate::proof::world::{PLACES, SPOILED, Target};
use cutover::protocol::RecordStage;
use std::fs;
use std::path::Path;

impl Disk {
    /// What differs between `world` and what stock programs find: on a copy, since they write.
    pub fn differs(&self, world: &World) -> Option<String> {
        let copy = self.root.path().join("copy");
        copy_tree_anew(&self.folder(), &copy);
        let stores = (0..SOURCES).find_map(|at| self.store_differs(world, at, &copy));
        stores.or_else(|| (0..PLACES).find_map(|place| self.sql_differs(world, place, &copy)))
    }

    fn store_differs(&self, world: &World, at: usize, copy: &Path) -> Option<String> {
        let name = common::SOURCES[at];
        let path = copy.join(name);
        let names = world.sources[at].seen;
        for (thing, place) in [(names.path, path.clone()), (names.retired, with(&path, ".retired"))]
        {
            let Some(store) = store_of(thing).filter(|store| store.writes != RUINED) else {
                continue;
            };
            if store.held {
                assert!(!crash::stock_writes(&place), "the second lock of {name} does not hold");
                fs::write(place.join("version"), b"FJL\x03").expect("lifts");
            }
            let found = read_store(&place);
            if found != self.contents[&store.writes] {
                return Some(format!("{name} holds {found:?}, not content {}", store.writes));
            }
            if store.held {
                fs::write(place.join("version"), b"held").expect("writes");
            }
        }
        let (real, model) = (crash::stock_writes(&path), world.is_open(at));
        (real != model).then(|| format!("a stock program writes {name}: {real}, and not {model}"))
    }

    fn sql_differs(&self, world: &World, place: usize, copy: &Path) -> Option<String> {
        let file = sql(copy, place);
        let record = match world.targets[place].seen {
            Target::Record(record) => record,
            Target::None => {
                let tables = schema_entries(&file) > 0;
                return tables.then(|| format!("the SQL file at {place} has tables left"));
            }
            Target::Hidden(..) => return None,
        };
        for at in 0..SOURCES {
            let image = record.image[at].filter(|image| *image != SPOILED);
            for (keyspace, pairs) in image.iter().flat_map(|image| &self.contents[image]) {
                let table = format!("{}_{keyspace}", common::SOURCES[at]);
                let mut rows = pairs.clone();
                rows.extend(self.rows[place].get(&table).cloned().unwrap_or_default());
                if read_table(&file, &table) != rows {
                    return Some(format!("the rows of {table} at {place} are not {image:?}"));
                }
            }
        }
        let filled = record.image.iter().any(|image| image.is_some_and(|image| image != 0));
        let live = record.stage == RecordStage::Live && filled;
        let real = crash::plain_writes(&file);
        (real != live).then(|| format!("a plain program writes SQL at {place}: {real}, not {live}"))
    }
}
