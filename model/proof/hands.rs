//! What an operator's hands do.

use super::life::Faults;
use super::world::{Change, Claim, Hidden, Marker, Names, Record, SPOILED, Target, Thing, World};
use cutover::protocol::{
    AtPath, AtRetired, ClaimSeen, MarkerSeen, MigrationId, Observation, RecordStage, Run, Stage,
    TargetSeen, Was,
};

/// The id of a migration that ended long ago.
const OLDER: MigrationId = MigrationId(99);

/// What callers see whose plan is not the one that was begun with: another plan's name, other
/// sources, another path for the first source, another target.
pub fn strangers(seen: &Observation) -> [Observation; 4] {
    let change = |change: &dyn Fn(&mut MarkerSeen)| {
        let mut seen = seen.clone();
        for source in &mut seen.sources {
            if let AtPath::Marker(marker) = &mut source.path {
                change(marker);
            }
        }
        seen
    };
    let mut of_another_plan = change(&|marker| marker.plan = false);
    of_another_plan.target = TargetSeen::None;
    of_another_plan.claim = ClaimSeen::None;
    let mut of_other_sources = change(&|marker| marker.sources = false);
    let mut mistyped = seen.clone();
    mistyped.sources[0].path = AtPath::Nothing;
    mistyped.sources[0].retired = AtRetired::Nothing;
    for seen in [&mut of_other_sources, &mut mistyped] {
        if let TargetSeen::Record(record) = &mut seen.target {
            record.paths = false;
        }
    }
    if let TargetSeen::Record(record) = &mut of_other_sources.target {
        record.sources = false;
    }
    let mut of_another_target = change(&|marker| marker.target = false);
    of_another_target.target = TargetSeen::None;
    of_another_target.elsewhere = vec![seen.target];
    [of_another_plan, of_other_sources, mistyped, of_another_target]
}

/// One thing that an operator does, or a disk to the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    DeletesSql,
    CopiesSql,
    PutsTheCopyBack,
    /// Moves the SQL file to the other place, with or without its claim.
    MovesSql {
        with_claim: bool,
    },
    /// Names the other place in the plan.
    NamesTheOtherPlace,
    DeletesTheClaim,
    DamagesTheClaim,
    /// Damages the SQL file, moves its main part away, unmounts its volume, or drops the record's
    /// own table.
    Hides(Hidden),
    SpoilsRows,
    Deletes(usize, Name),
    Moves(usize, Name),
    Copies(usize, Name),
    Puts(usize, Name),
    Damages(usize),
    /// Puts an older marker in the place of this one: of another migration, or of this one's seal.
    PutsAnOlderMarker(usize, MigrationId),
    /// Exchanges the markers, or stores, of two sources.
    MixesUp(usize, usize),
    /// Exchanges a source's two names once more.
    Exchanges(usize),
    PutsAnotherFile(usize, Name),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Path,
    Retired,
}

/// Every world that an operator may make of this one.
pub fn acts<const N: usize>(world: &World<N>, faults: Faults) -> Vec<(Act, World<N>)> {
    let idle = world.working.is_none();
    let mut after: Vec<(Act, World<N>)> = match faults {
        Faults::PowerCuts if idle => delete_sql(world).into_iter().collect(),
        Faults::OldCopies | Faults::OldCopiesAndCuts if idle => {
            let copy = copy_sql(world).filter(|_| world.aside.sql.is_none());
            delete_sql(world).into_iter().chain(copy).chain(put_sql(world)).collect()
        }
        Faults::Hands(most) | Faults::HandsAndCuts(most) if world.acts < most => {
            anything(world, faults)
        }
        Faults::PowerCuts
        | Faults::OldCopies
        | Faults::OldCopiesAndCuts
        | Faults::Hands(_)
        | Faults::HandsAndCuts(_) => Vec::new(),
    };
    for (_, after) in &mut after {
        if matches!(faults, Faults::Hands(_) | Faults::HandsAndCuts(_)) {
            after.acts += 1;
            after.tampered = true;
        }
        // A live target beside an open source, by hand, now or after a power cut.
        if after.may_be_live() {
            for at in 0..N {
                after.opened[at] |= after.may_be_open(at);
            }
        }
    }
    after
}

fn delete_sql<const N: usize>(world: &World<N>) -> Option<(Act, World<N>)> {
    world.record()?;
    // After a reclaim the only copy is in the SQL file.
    let reclaimed = world.markers().any(|(_, marker)| marker.stage == Stage::Reclaimed);
    (!reclaimed).then(|| (Act::DeletesSql, with_target(world, Target::None)))
}

fn copy_sql<const N: usize>(world: &World<N>) -> Option<(Act, World<N>)> {
    let mut after = world.clone();
    after.aside.sql = Some(world.record()?);
    Some((Act::CopiesSql, after))
}

fn put_sql<const N: usize>(world: &World<N>) -> Option<(Act, World<N>)> {
    let copy = world.aside.sql.filter(|copy| world.record() != Some(*copy))?;
    let in_use = world.sql_in_use && copy.stage != RecordStage::Live;
    let mut after = with_target(world, Target::Record(copy));
    // Whether it took the place of one in use is not left to a power cut.
    after.targets[world.place].sync();
    after.overwritten = world.overwritten || in_use;
    after.tampered = true;
    Some((Act::PutsTheCopyBack, after))
}

/// Another file at the plan's place; nothing syncs the folder.
fn with_target<const N: usize>(world: &World<N>, target: Target<N>) -> World<N> {
    let mut after = world.clone();
    after.targets[world.place].change(target);
    after.sql_in_use = false;
    after.overwritten = false;
    after
}

fn anything<const N: usize>(world: &World<N>, faults: Faults) -> Vec<(Act, World<N>)> {
    let mut after: Vec<(Act, World<N>)> = Vec::new();
    after.extend(copy_sql(world));
    after.extend(put_sql(world));
    after.push((Act::NamesTheOtherPlace, World { place: 1 - world.place, ..world.clone() }));
    if let Some(record) = world.record() {
        after.push((Act::DeletesSql, with_target(world, Target::None)));
        let folder = [Hidden::Unreachable, Hidden::Unmounted];
        for hidden in folder.into_iter().chain([Hidden::Unreadable, Hidden::MainFileGone]) {
            let mut gone = with_target(world, Target::Hidden(hidden, record));
            if folder.contains(&hidden) {
                gone.claims[world.place].change(Claim::None);
            }
            // Seen or not seen is nothing that a power cut changes.
            gone.targets[world.place].sync();
            gone.claims[world.place].sync();
            after.push((Act::Hides(hidden), gone));
        }
        // Before a marker says that the target was live, and goes on saying it after a power cut, one that
        // was is not known by anything (L-43).
        let is_final = |(_, marker): (usize, Marker)| marker.stage == Stage::Final;
        let says = |world: &World<N>| world.markers().any(is_final);
        let lasts = || !faults.cuts() || world.cuts().iter().all(says);
        if record.stage != RecordStage::Live || says(world) && lasts() {
            let mut dropped = with_target(world, Target::Hidden(Hidden::Dropped, record));
            dropped.targets[world.place].sync();
            after.push((Act::Hides(Hidden::Dropped), dropped));
        }
        for with_claim in [false, true] {
            let mut moved = with_target(world, Target::None);
            moved.targets[1 - world.place].change(Target::Record(record));
            if with_claim {
                let claim = world.claims[world.place].seen;
                moved.claims[world.place].change(Claim::None);
                moved.claims[1 - world.place].change(claim);
            }
            after.push((Act::MovesSql { with_claim }, moved));
        }
        // Before they are verified, which is the last look at them.
        let verified = world.working.as_ref().is_some_and(|process| process.session.verified);
        if record.stage == RecordStage::Copying && record.image[0].is_some() && !verified {
            let mut image = record.image;
            image[0] = Some(SPOILED);
            let spoiled = with_target(world, Target::Record(Record { image, ..record }));
            after.push((Act::SpoilsRows, spoiled));
        }
    }
    if world.claims[world.place].seen != Claim::None {
        for (act, claim) in
            [(Act::DeletesTheClaim, Claim::None), (Act::DamagesTheClaim, Claim::Unreadable)]
        {
            let mut changed = world.clone();
            changed.claims[world.place].change(claim);
            after.push((act, changed));
        }
    }
    for at in 0..N {
        for name in [Name::Path, Name::Retired] {
            let stands = standing(world, at, name);
            let with = |thing| with_thing(world, at, name, thing);
            match stands {
                Thing::Nothing => {
                    after.push((Act::PutsAnotherFile(at, name), with(Thing::Foreign)));
                    if let Some(thing) = world.aside.thing {
                        let mut put = with(thing);
                        put.aside.thing = None;
                        after.push((Act::Puts(at, name), put));
                    }
                }
                Thing::Store(_) | Thing::Marker(_) => {
                    after.push((Act::Deletes(at, name), with(Thing::Nothing)));
                    let mut moved = with(Thing::Nothing);
                    moved.aside.thing = Some(stands);
                    after.push((Act::Moves(at, name), moved));
                    let mut copied = world.clone();
                    copied.aside.thing = Some(stands);
                    after.push((Act::Copies(at, name), copied));
                }
                Thing::Damaged | Thing::Foreign => {
                    after.push((Act::Deletes(at, name), with(Thing::Nothing)));
                }
            }
        }
        if let Some(found) = world.marker(at) {
            let damaged = with_thing(world, at, Name::Path, Thing::Damaged);
            after.push((Act::Damages(at), damaged));
            for run in [found.run, Run { id: OLDER, attempt: 1 }] {
                let (stage, was, place) = (Stage::Sealed, Was::Directory, world.place);
                let older = Marker { stage, run, was, source: at, place };
                let put = with_thing(world, at, Name::Path, Thing::Marker(older));
                after.push((Act::PutsAnOlderMarker(at, run.id), put));
            }
            for other in at + 1..N {
                let mut mixed = world.clone();
                let [one, two] = [at, other].map(|at| world.sources[at].seen.path);
                mixed = with_thing(&mixed, at, Name::Path, two);
                mixed = with_thing(&mixed, other, Name::Path, one);
                after.push((Act::MixesUp(at, other), mixed));
            }
            let mut exchanged = world.clone();
            exchanged.apply(Change::Exchange(at));
            exchanged.truth[at] = None;
            after.push((Act::Exchanges(at), exchanged));
        }
    }
    after
}

fn standing<const N: usize>(world: &World<N>, at: usize, name: Name) -> Thing {
    match name {
        Name::Path => world.sources[at].seen.path,
        Name::Retired => world.sources[at].seen.retired,
    }
}

/// Another thing at one of a source's names; nothing syncs the folder.
fn with_thing<const N: usize>(world: &World<N>, at: usize, name: Name, thing: Thing) -> World<N> {
    let mut after = world.clone();
    let before = standing(world, at, name);
    let names = world.sources[at].seen;
    after.sources[at].change(match name {
        Name::Path => Names { path: thing, ..names },
        Name::Retired => Names { retired: thing, ..names },
    });
    // What is in a store that an operator has handled is the operator's to know, and so is where the
    // rows are of which a marker alone told.
    let store = |thing| matches!(thing, Thing::Store(_));
    let told = matches!(before, Thing::Marker(_)) && !store(names.retired);
    if store(before) || store(thing) || told {
        after.truth[at] = None;
    }
    after
}
