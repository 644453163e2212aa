//! Whole lives of a migration in the model's world: whatever is wanted, killed, failed, cut, lost and
//! put back, in any order and number, the invariants hold, and a start that nothing disturbs comes
//! to an end. The model walks every world of up to two sources, with power cuts or with old SQL
//! files; this samples three sources, with both at once.

#![no_main]

#[path = "../../model/power/world.rs"]
#[expect(dead_code, reason = "a search needs more of it than one life")]
mod world;

use cutover::protocol::{
    Intent, NotAllowed, RecordStage, Session, Stage, State, Step, classify, next,
};
use cutover_fuzz::rules;
use libfuzzer_sys::fuzz_target;
use world::{Change, Fact};

const SOURCES: usize = 3;
/// More steps than a session takes for [`SOURCES`] sources.
const STEPS_MAX: usize = 64;
/// Longer lives only repeat themselves.
const LIFE_BYTES_MAX: usize = 256;

type World = world::World<SOURCES>;

// A life is a text, so that a person can write one and read a finding: `1B!C!F..k2S!` begins with
// one missing source, seals, copies, and is killed in the middle of finishing.
fuzz_target!(|life: &[u8]| {
    let mut letters = life.iter().take(LIFE_BYTES_MAX).copied();
    let mut world = World::fresh(number(&mut letters) % (SOURCES + 1));
    while let Some(letter) = letters.next() {
        happen(&mut world, letter, &mut letters);
        check(&world);
    }
    world.working = None;
    come_to_an_end(&mut world);
});

fn number(letters: &mut impl Iterator<Item = u8>) -> usize {
    letters.next().map_or(0, |letter| usize::from(letter.wrapping_sub(b'0')))
}

/// What a letter stands for, with the numbers that follow it.
fn happen(world: &mut World, letter: u8, letters: &mut impl Iterator<Item = u8>) {
    match letter {
        // The process takes one step, or all that there are.
        b'.' => {
            step(world, None);
        }
        b'!' => run(world),
        // It is killed, or its next step fails, behind so many changes.
        b'k' => {
            step(world, Some(number(letters)));
            world.working = None;
        }
        b'f' => fail(world, number(letters)),
        // The power fails: each fact is left as it was at some time since its last sync.
        b'c' => cut(world, letters),
        // A stock program opens or creates the store at a source's path, and writes.
        b'w' => {
            let at = number(letters) % SOURCES;
            if world.is_open(at) {
                world.write_kv(at);
            }
        }
        // The operator deletes the SQL file, copies it, or puts the copy in its place.
        b'd' if !is_reclaimed(world) && world.record.seen.is_some() => {
            world.working = None;
            world.lose_target();
        }
        b'o' if world.record.seen.is_some() => world.backup = world.record.seen,
        b'p' if world.backup.is_some() => {
            world.working = None;
            world.put_back();
            world.record.sync();
        }
        _ => start(world, letter),
    }
}

/// A process begins to work; the one before it is killed.
fn start(world: &mut World, letter: u8) {
    let intent = match letter {
        b'U' => Intent::UseKv,
        b'B' => Intent::Begin(world.unused_id()),
        b'C' => Intent::Copy,
        b'F' => Intent::Finish,
        b'A' => Intent::Abort,
        b'X' => Intent::AbortCommitted,
        b'S' => Intent::UseSql,
        b'R' => Intent::Rerun,
        b'K' => Intent::RestoreKv,
        b'D' => Intent::Reclaim,
        b'T' => Intent::ReplaceTarget,
        b'Q' => Intent::Discard,
        _ => return,
    };
    world.working = Some((intent, Session::default()));
}

/// Whether the bytes are in the target alone: who deletes it then deletes them.
fn is_reclaimed(world: &World) -> bool {
    (0..SOURCES).any(|at| world.marker(at).is_some_and(|m| m.stage == Stage::Reclaimed))
}

/// The process's next step, or that many of its changes; it is idle where there is none.
fn step(world: &mut World, behind: Option<usize>) -> Option<(Intent, Session, Step)> {
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
    let count = behind.map_or(changes.len(), |behind| behind % (changes.len() + 1));
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
fn fail(world: &mut World, behind: usize) {
    let failed = step(world, Some(behind));
    world.working = None;
    if let Some((Intent::Finish, mut session, Step::Mark { source, .. })) = failed {
        session.failed.insert(source);
        world.working = Some((Intent::Finish, session));
    }
}

fn cut(world: &mut World, letters: &mut impl Iterator<Item = u8>) {
    fn left<T: Copy + PartialEq>(fact: &mut Fact<T>, number: usize) {
        *fact = Fact::new(fact.possible[number % fact.possible.len()]);
    }
    world.working = None;
    for source in &mut world.sources {
        left(source, number(letters));
    }
    left(&mut world.record, number(letters));
    left(&mut world.claim, number(letters));
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
