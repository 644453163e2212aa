//! The orders that other projects use, each as the durable writes that it makes one after the other,
//! and what a restart makes of what it finds. Each is broken by the invariant named beside it; the
//! same writes in our order are not.

use super::search::{System, explore};

/// What is on disk.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Disk {
    /// The old store is fenced for those who know the fence.
    tombstone: bool,
    /// The old store's name is free.
    name_is_free: bool,
    /// A stock program has created a store there, or written to the old one, since the copy.
    kv_written: bool,
    /// How many of the two rows are in SQL.
    rows: u8,
    /// SQL says of itself that it is whole and may be used.
    done: bool,
}

/// A write that is durable when it returns, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Write {
    Tombstone,
    FreeName,
    Row,
    /// The rows and `done`, in one transaction whose commit the next write waits for.
    RowsAndDone,
    Done,
}

/// Who does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rival {
    name: &'static str,
    order: &'static [Write],
    /// Whether a write that fails is only logged.
    goes_on_after_a_failure: bool,
    /// Whether the next start goes on where the last one stopped.
    resumes: bool,
    /// Whether a start that finds a tombstone, and nothing that is done, refuses for good.
    refuses_half_done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    disk: Disk,
    /// How many of the writes are done; none while no process is at work.
    at: Option<usize>,
    refused: bool,
}

impl World {
    /// At work, a process has the store's lock: nobody else opens it.
    fn kv_is_open(&self) -> bool {
        (!self.disk.tombstone && self.at.is_none()) || self.disk.name_is_free
    }
}

impl Disk {
    fn with(self, write: Write) -> Self {
        match write {
            Write::Tombstone => Self { tombstone: true, ..self },
            Write::FreeName => Self { name_is_free: true, ..self },
            Write::Row => Self { rows: 2.min(self.rows + 1), ..self },
            Write::RowsAndDone => Self { rows: 2, done: true, ..self },
            Write::Done => Self { done: true, ..self },
        }
    }
}

impl Rival {
    /// Where a start goes on: none where it uses one side, or refuses.
    fn start(self, disk: Disk) -> Option<usize> {
        if disk.done || (disk.tombstone && self.refuses_half_done) {
            return None;
        }
        let is_done = |write: &Write| match write {
            Write::Tombstone => disk.tombstone,
            Write::FreeName => disk.name_is_free,
            Write::Row | Write::RowsAndDone => disk.rows == 2,
            Write::Done => disk.done,
        };
        let waiting = self.order.iter().position(|write| !is_done(write));
        if self.resumes { waiting } else { Some(0) }
    }
}

impl System for Rival {
    type World = World;
    type Move = String;

    fn starts(&self) -> Vec<World> {
        vec![World { disk: Disk::default(), at: None, refused: false }]
    }

    fn moves(&mut self, world: &World) -> Vec<(String, World)> {
        let mut moves = Vec::new();
        if world.kv_is_open() && (world.disk.rows > 0 || world.disk.name_is_free) {
            let disk = Disk { kv_written: true, ..world.disk };
            moves.push(("an old program writes".to_owned(), World { disk, ..world.clone() }));
        }
        let Some(at) = world.at else {
            let refused = world.disk.tombstone && !world.disk.done && self.refuses_half_done;
            let started = World { at: self.start(world.disk), refused, ..world.clone() };
            moves.push(("a start".to_owned(), started));
            return moves;
        };
        moves.push(("a kill".to_owned(), World { at: None, ..world.clone() }));
        if let Some(write) = self.order.get(at) {
            let next = World { at: Some(at + 1), ..world.clone() };
            let disk = world.disk.with(*write);
            moves.push((format!("{write:?}"), World { disk, ..next.clone() }));
            if self.goes_on_after_a_failure {
                moves.push((format!("{write:?} fails, and is logged"), next));
            }
        }
        moves
    }

    fn violation(&mut self, _: &World, _: &String, _: &World) -> Option<String> {
        None
    }

    fn visit(&mut self, world: &World) -> Option<String> {
        let Disk { kv_written, rows, done, .. } = world.disk;
        if done && rows < 2 {
            return Some("I-2: the target is in use, and rows are missing".to_owned());
        }
        if done && world.kv_is_open() {
            return Some("I-1: both sides can be written".to_owned());
        }
        if kv_written && done {
            return Some("I-3: an acknowledged write is not in the target".to_owned());
        }
        world.refused.then(|| "I-4: neither side can be used, and no start changes it".to_owned())
    }
}

use Write::{Done, FreeName, Row, RowsAndDone, Tombstone};

const CAREFUL: Rival = Rival {
    name: "ours: tombstone before done, and every start goes on",
    order: &[Tombstone, Row, Row, Done],
    goes_on_after_a_failure: false,
    resumes: true,
    refuses_half_done: false,
};

/// What each does, and what breaks it.
const RIVALS: [(Rival, &str); 5] = [
    (
        Rival {
            name: "lightning-terminal: the tombstone after the commit, its failure only logged",
            order: &[RowsAndDone, Tombstone],
            goes_on_after_a_failure: true,
            ..CAREFUL
        },
        "I-1",
    ),
    (
        Rival {
            name: "lnd: the tombstone inside the SQL transaction, before its commit is durable",
            order: &[Tombstone, RowsAndDone],
            refuses_half_done: true,
            ..CAREFUL
        },
        "I-4",
    ),
    (
        Rival {
            name: "lndinit: the tombstone, and then the marker on the other side",
            order: &[Row, Row, Tombstone, Done],
            refuses_half_done: true,
            ..CAREFUL
        },
        "I-4",
    ),
    (
        Rival {
            name: "podman: the old store is renamed away at the end, which frees its name",
            order: &[Row, Row, Tombstone, FreeName, Done],
            ..CAREFUL
        },
        "I-1",
    ),
    (
        Rival {
            name: "glean: done is written on the path of an error as well",
            order: &[Tombstone, Row, Row, Done],
            goes_on_after_a_failure: true,
            ..CAREFUL
        },
        "I-2",
    ),
];

#[test]
fn the_orders_of_other_projects_are_each_broken_by_the_invariant_named() {
    for (mut rival, invariant) in RIVALS {
        let explored = explore(&mut rival, usize::MAX);
        let (broken, trace) = explored.broken.unwrap_or_else(|| panic!("{}", rival.name));
        println!("{}\n  {broken}: {}", rival.name, trace.join(", "));
        assert!(broken.starts_with(invariant), "{}: {broken}", rival.name);
    }
    let ours = explore(&mut { CAREFUL }, usize::MAX);
    assert_eq!(ours.broken, None, "{}", CAREFUL.name);
}
