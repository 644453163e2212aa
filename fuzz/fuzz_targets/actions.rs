//! Whole lives of a migration in the model's world: whatever is wanted, killed, failed, cut, lost and
//! put back, in any order and number, the invariants hold, and a start that nothing disturbs comes
//! to an end. The model walks every world of up to two sources, with power cuts or with old SQL
//! files; this samples three sources, with both at once.

#![no_main]

#[path = "../../model/power/world.rs"]
#[expect(dead_code, reason = "a search needs more of it than one life")]
mod world;

use arbitrary::Arbitrary;
use cutover::protocol::{
    Intent, NotAllowed, RecordStage, Session, Stage, State, Step, classify, next,
};
use cutover_fuzz::{facts, rules};
use libfuzzer_sys::fuzz_target;
use world::{Change, Fact};

const SOURCES: usize = 3;
/// More steps than a session takes for [`SOURCES`] sources.
const STEPS_MAX: usize = 64;
/// Longer lives only repeat themselves.
const ACTS_MAX: usize = 200;

type World = world::World<SOURCES>;

/// One thing that happens.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Act {
    /// A process begins to work for an intent.
    Start(u8),
    /// It takes one step.
    Step,
    /// It takes steps until it has no more.
    Run,
    /// It is killed, behind some changes of its next step.
    Kill(u8),
    /// Its next step fails behind some changes.
    Fail(u8),
    /// The power fails: each fact is left as it was at some time since its last sync.
    Cut([u8; SOURCES + 2]),
    /// A stock program opens or creates the store at a source's path, and writes.
    Write(u8),
    /// The operator deletes the SQL file.
    Lose,
    /// The operator copies the SQL file.
    Copy,
    /// The operator puts the copy in its place.
    PutBack,
}

#[derive(Arbitrary, Debug)]
struct Life {
    missing: u8,
    acts: Vec<Act>,
}

fuzz_target!(|life: Life| {
    let mut world = World::fresh(usize::from(life.missing) % (SOURCES + 1));
    for act in life.acts.iter().take(ACTS_MAX) {
        happen(&mut world, *act);
        check(&world);
    }
    world.working = None;
    come_to_an_end(&mut world);
});

fn happen(world: &mut World, act: Act) {
    let idle = world.working.is_none();
    match act {
        Act::Start(number) if idle => {
            let intents = facts::intents(world.unused_id());
            let intent = intents[usize::from(number) % intents.len()];
            world.working = Some((intent, Session::default()));
        }
        Act::Step => {
            step(world, None);
        }
        Act::Run => run(world),
        Act::Kill(behind) => {
            step(world, Some(behind));
            world.working = None;
        }
        Act::Fail(behind) => fail(world, behind),
        Act::Cut(choices) => cut(world, choices),
        Act::Write(at) => {
            let at = usize::from(at) % SOURCES;
            if world.is_open(at) {
                world.write_kv(at);
            }
        }
        Act::Lose if idle && !is_reclaimed(world) && world.record.seen.is_some() => {
            world.lose_target();
        }
        Act::Copy if idle && world.record.seen.is_some() => world.backup = world.record.seen,
        Act::PutBack if idle && world.backup.is_some() => {
            world.put_back();
            world.record.sync();
        }
        Act::Start(_) | Act::Lose | Act::Copy | Act::PutBack => {}
    }
}

/// Whether the bytes are in the target alone: who deletes it then deletes them.
fn is_reclaimed(world: &World) -> bool {
    (0..SOURCES).any(|at| world.marker(at).is_some_and(|m| m.stage == Stage::Reclaimed))
}

/// The process's next step, or that many of its changes; it is idle where there is none.
fn step(world: &mut World, behind: Option<u8>) -> Option<(Intent, Session, Step)> {
    let (intent, session) = world.working.clone()?;
    let seen = world.observe();
    let step = match next(&seen, intent, &session) {
        Ok(step) => step,
        Err(_) => Step::GiveUp,
    };
    if let Step::Done(state) = step {
        world.working = None;
        if intent == Intent::UseSql && state == State::Tombstoned {
            world.use_sql();
        }
        return None;
    }
    if step == Step::GiveUp {
        world.working = None;
        return None;
    }
    assert_eq!(rules::broken(&seen, intent, &session, step), None, "{step:?} for {intent:?}");
    let changes = world.changes(step);
    let count = behind.map_or(changes.len(), |behind| usize::from(behind) % (changes.len() + 1));
    for change in changes.iter().take(count) {
        apply(world, change);
    }
    if behind.is_none() {
        let mut session = session.clone();
        session.done(step);
        world.working = Some((intent, session));
    }
    Some((intent, session, step))
}

fn apply(world: &mut World, change: &Change<SOURCES>) {
    world.apply(change);
    // The unfinished copy that took the place of a target in use went with its ticket.
    world.overwritten &= world.record.seen.is_some();
    check(world);
}

fn run(world: &mut World) {
    let steps = (0..STEPS_MAX).take_while(|_| step(world, None).is_some()).count();
    assert!(steps < STEPS_MAX, "it never ends");
}

/// As the driver has it: a tombstone that failed is left for later, and all else ends the process.
fn fail(world: &mut World, behind: u8) {
    let failed = step(world, Some(behind));
    world.working = None;
    if let Some((Intent::Finish, mut session, Step::Mark { source, .. })) = failed {
        session.failed.insert(source);
        world.working = Some((Intent::Finish, session));
    }
}

fn cut(world: &mut World, choices: [u8; SOURCES + 2]) {
    fn left<T: Copy + PartialEq>(fact: &mut Fact<T>, choice: u8) {
        *fact = Fact::new(fact.possible[usize::from(choice) % fact.possible.len()]);
    }
    world.working = None;
    for (source, choice) in world.sources.iter_mut().zip(choices) {
        left(source, choice);
    }
    left(&mut world.record, choices[SOURCES]);
    left(&mut world.claim, choices[SOURCES + 1]);
}

/// I-4: with nothing in its way, a daemon's start ends at Fresh or at the SQL database.
fn come_to_an_end(world: &mut World) {
    for _ in 0..8 {
        let Ok(state) = classify(&world.observe()) else {
            return;
        };
        let intent = match state {
            State::Fresh => return,
            State::Migrating { .. } => Intent::Copy,
            State::Committed => Intent::Finish,
            State::Tombstoned => Intent::UseSql,
            State::RerunAllowed => {
                match next(&world.observe(), Intent::Rerun, &Session::default()) {
                    Err(NotAllowed::Restoring) => Intent::RestoreKv,
                    Ok(_) | Err(_) => Intent::Rerun,
                }
            }
        };
        world.working = Some((intent, Session::default()));
        run(world);
        if intent == Intent::UseSql {
            assert!(world.sql_in_use, "the SQL database was not handed out");
            return;
        }
    }
    panic!("it goes round in circles");
}

/// What must never be seen. Where the operator has put an older SQL file back, what does not fit
/// may be told as a contradiction; what is taken for a state must hold all the same.
fn check(world: &World) {
    let state = match classify(&world.observe()) {
        Ok(state) => state,
        Err(contradiction) => {
            assert!(world.tampered, "I-4: {contradiction:?} without anybody's doing");
            return;
        }
    };
    let live = world.is_live();
    if world.overwritten {
        let told = matches!(state, State::RerunAllowed | State::Fresh);
        assert!(told, "I-3: an older SQL file is taken for the one that was in use");
    }
    for at in 0..SOURCES {
        let open = world.is_open(at) && !(world.tampered && world.is_empty(at));
        assert!(!(live && open), "I-1: a source and the target are writable together");
        let image = world
            .record
            .seen
            .filter(|record| record.seen.stage == RecordStage::Live)
            .map(|record| record.image[at]);
        let whole = image.is_none_or(|image| image == Some(world.content[at]));
        assert!(whole, "I-2: the live target is not the image of the sources");
    }
    assert!(live || !world.sql_in_use, "I-3: the target was in use, and nobody deleted it");
}
