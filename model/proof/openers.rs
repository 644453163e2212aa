//! A stock opener that may be suspended anywhere inside its own open, against every way to fence a
//! store: why the fence is an exchange, under fjall's own lock.

use super::search::{System, explore};

/// How a store could be taken away from those who open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fence {
    /// What is shipped: a marker and the directory exchange their names, under fjall's own lock.
    Exchange,
    /// The same, without fjall's own lock.
    ExchangeUnlocked,
    /// A key inside the store says that it is retired.
    Key,
    /// The `version` file is replaced by one that fjall refuses.
    Version,
    /// The directory gets another name.
    Rename,
    /// The directory is renamed, and then a marker is put in its place.
    RenameThenMarker,
}

/// What stands at the store's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum AtPath {
    Store,
    Nothing,
    Marker,
    /// A store that the opener has created there.
    Another,
}

/// How far an opener is, and which store it has in its hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Opener {
    Idle,
    /// It has read a `version` file that it knows, and nothing else yet.
    SawVersion,
    /// It has found nothing, and means to create a store.
    SawNothing,
    /// It has the store's lock file open, and tries to lock it.
    Waits,
    /// It has the lock, and now resolves the journals by their path.
    Locked,
    /// It has the store open for writing.
    Open,
    /// It has a store open that it has created.
    OpenAnother,
}

/// How far the migration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Migration {
    Begins,
    /// It has fjall's lock, if it takes it at all.
    Locks,
    /// The first half of a fence of two changes.
    Half,
    Fenced,
    /// It has let fjall's lock go.
    Copies,
    Live,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    at_path: AtPath,
    version_is_native: bool,
    migration: Migration,
    openers: [Opener; 2],
    /// Whether something was written after the copy began.
    missed: bool,
}

struct Race(Fence);

impl World {
    /// Whether an opener holds the lock of the store that is migrated.
    fn is_held(self) -> bool {
        self.openers.iter().any(|opener| matches!(opener, Opener::Locked | Opener::Open))
    }

    /// Whether the migration holds it.
    fn is_locked(self, fence: Fence) -> bool {
        fence != Fence::ExchangeUnlocked
            && matches!(self.migration, Migration::Locks | Migration::Half | Migration::Fenced)
    }
}

impl Race {
    /// The migration's next change.
    fn migrate(&self, world: World) -> Option<World> {
        let mut after = world;
        after.migration = match world.migration {
            // Somebody has the store open: it is refused.
            Migration::Begins if self.0 != Fence::ExchangeUnlocked && world.is_held() => {
                return None;
            }
            Migration::Begins => Migration::Locks,
            Migration::Locks => {
                match self.0 {
                    Fence::Exchange | Fence::ExchangeUnlocked => after.at_path = AtPath::Marker,
                    Fence::Key => {}
                    Fence::Version => after.version_is_native = false,
                    Fence::Rename | Fence::RenameThenMarker => after.at_path = AtPath::Nothing,
                }
                if self.0 == Fence::RenameThenMarker { Migration::Half } else { Migration::Fenced }
            }
            // It replaces nothing.
            Migration::Half if world.at_path != AtPath::Nothing => return None,
            Migration::Half => {
                after.at_path = AtPath::Marker;
                Migration::Fenced
            }
            Migration::Fenced => Migration::Copies,
            Migration::Copies => Migration::Live,
            Migration::Live => return None,
        };
        Some(after)
    }

    /// What an opener may do next: go on, or give up.
    fn open(&self, world: World, opener: Opener) -> Vec<(Opener, AtPath)> {
        let at_path = world.at_path;
        let is_directory = matches!(at_path, AtPath::Store | AtPath::Another);
        let goes_on = match opener {
            Opener::Idle => match at_path {
                AtPath::Store if world.version_is_native => (Opener::SawVersion, at_path),
                AtPath::Nothing => (Opener::SawNothing, at_path),
                AtPath::Store | AtPath::Another | AtPath::Marker => return Vec::new(),
            },
            // A file that stands in the way is `NotADirectory`.
            Opener::SawVersion if is_directory => (Opener::Waits, at_path),
            Opener::SawNothing if at_path == AtPath::Nothing => {
                (Opener::OpenAnother, AtPath::Another)
            }
            // The lock is on the directory's own file, whatever its name is now.
            Opener::Waits if !world.is_locked(self.0) && !world.is_held() => {
                (Opener::Locked, at_path)
            }
            Opener::Waits => (Opener::Waits, at_path),
            Opener::Locked if is_directory => (Opener::Open, at_path),
            Opener::SawVersion | Opener::SawNothing | Opener::Locked => (Opener::Idle, at_path),
            Opener::Open | Opener::OpenAnother => (opener, at_path),
        };
        vec![goes_on, (Opener::Idle, at_path)]
    }
}

impl System for Race {
    type World = World;
    type Move = String;

    fn starts(&self) -> Vec<World> {
        vec![World {
            at_path: AtPath::Store,
            version_is_native: true,
            migration: Migration::Begins,
            openers: [Opener::Idle; 2],
            missed: false,
        }]
    }

    fn moves(&mut self, world: &World) -> Vec<(String, World)> {
        let mut moves = Vec::new();
        if let Some(after) = self.migrate(*world) {
            moves.push((format!("the migration: {:?}", after.migration), after));
        }
        for at in 0..world.openers.len() {
            for (opener, at_path) in self.open(*world, world.openers[at]) {
                let mut after = World { at_path, ..*world };
                after.openers[at] = opener;
                moves.push((format!("opener {at}: {opener:?}"), after));
            }
            let holds = matches!(world.openers[at], Opener::Open | Opener::OpenAnother);
            if holds && world.migration >= Migration::Fenced {
                moves.push((format!("opener {at} writes"), World { missed: true, ..*world }));
            }
        }
        moves
    }

    fn violation(&mut self, _: &World, _: &String, _: &World) -> Option<String> {
        None
    }

    fn visit(&mut self, world: &World) -> Option<String> {
        let holds = |opener: &Opener| matches!(opener, Opener::Open | Opener::OpenAnother);
        let live = world.migration == Migration::Live;
        if live && world.openers.iter().any(holds) {
            return Some("I-1: a store is held open beside a live target".to_owned());
        }
        if world.at_path == AtPath::Another {
            return Some("I-8: an empty store comes into being where one was".to_owned());
        }
        (live && world.missed).then(|| "I-3: what was acknowledged is not in the copy".to_owned())
    }
}

#[test]
fn i1_no_opener_that_is_suspended_in_its_open_gets_past_the_exchange() {
    let explored = explore(&mut Race(Fence::Exchange), usize::MAX);
    assert_eq!(explored.broken, None);
    println!("two openers: {} worlds", explored.worlds);
    assert!(explored.whole);
    assert_eq!(explored.worlds, 69);
}

#[test]
fn i1_every_other_fence_lets_an_opener_in() {
    for (fence, invariant) in [
        (Fence::ExchangeUnlocked, "I-1"),
        (Fence::Key, "I-1"),
        (Fence::Version, "I-1"),
        (Fence::Rename, "I-8"),
        (Fence::RenameThenMarker, "I-8"),
    ] {
        let (broken, trace) =
            explore(&mut Race(fence), usize::MAX).broken.unwrap_or_else(|| panic!("{fence:?}"));
        println!("{fence:?}, {broken}:\n  {}", trace.join("\n  "));
        assert!(broken.starts_with(invariant), "{fence:?} breaks {broken}");
    }
}
