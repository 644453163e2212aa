//! Breadth-first search, exact: every world is kept whole, and every trace is a shortest one.

use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;
use std::fmt::Debug;
use std::hash::Hash;

/// Something that moves from world to world.
pub trait System {
    type World: Clone + Eq + Hash;
    type Move: Clone + Debug;

    fn starts(&self) -> Vec<Self::World>;

    /// Every world that one move leads to.
    fn moves(&mut self, world: &Self::World) -> Vec<(Self::Move, Self::World)>;

    /// What must never be: the invariant's id, and what is wrong.
    fn violation(
        &mut self,
        before: &Self::World,
        step: &Self::Move,
        after: &Self::World,
    ) -> Option<String>;

    /// Called once for each world that is met; what must never be, as above.
    fn visit(&mut self, world: &Self::World) -> Option<String>;
}

/// How a search ended.
#[derive(Clone, Debug)]
pub struct Explored {
    pub worlds: usize,
    pub moves: usize,
    /// Whether there are no others.
    pub whole: bool,
    /// The invariant, and the shortest way to break it.
    pub broken: Option<(String, Vec<String>)>,
}

/// Walks every world that can be reached, until something is broken, or there are more than
/// `worlds_max`.
pub fn explore<S: System>(system: &mut S, worlds_max: usize) -> Explored {
    let mut found: FxHashMap<S::World, u32> = FxHashMap::default();
    let mut came_from: Vec<Option<(u32, S::Move)>> = Vec::new();
    let mut queue: VecDeque<(u32, S::World)> = VecDeque::new();
    let mut moves = 0;
    for world in system.starts() {
        let number = u32::try_from(came_from.len()).expect("fits");
        came_from.push(None);
        queue.push_back((number, world.clone()));
        found.insert(world, number);
    }
    while found.len() <= worlds_max
        && let Some((number, world)) = queue.pop_front()
    {
        if let Some(broken) = system.visit(&world) {
            let broken = Some((broken, trace(&came_from, number, None)));
            return Explored { worlds: found.len(), moves, whole: false, broken };
        }
        for (step, after) in system.moves(&world) {
            moves += 1;
            if let Some(broken) = system.violation(&world, &step, &after) {
                let broken = Some((broken, trace(&came_from, number, Some(&step))));
                return Explored { worlds: found.len(), moves, whole: false, broken };
            }
            if let Entry::Vacant(vacant) = found.entry(after) {
                let next = u32::try_from(came_from.len()).expect("fewer worlds");
                came_from.push(Some((number, step)));
                queue.push_back((next, vacant.key().clone()));
                vacant.insert(next);
            }
        }
    }
    Explored { worlds: found.len(), moves, whole: queue.is_empty(), broken: None }
}

fn trace<M: Debug>(came_from: &[Option<(u32, M)>], number: u32, last: Option<&M>) -> Vec<String> {
    let mut trace: Vec<String> = last.iter().map(|step| format!("{step:?}")).collect();
    let mut at = number;
    while let Some((before, step)) = &came_from[at as usize] {
        trace.push(format!("{step:?}"));
        at = *before;
    }
    trace.reverse();
    trace
}
