//! From three sources to any number (`docs/proofs.md`, P-10): what four sources are follows from what
//! any three of them are, and the step that is for one source does not depend on the others.

use crate::proof::world::{ID, INTENTS};
use cutover::protocol::{
    AtPath, AtRetired, ClaimSeen, Contradiction, MarkerSeen, MigrationId, Observation, RecordSeen,
    RecordStage, Run, SecondLock, Session, SourceSeen, Stage, State, Step, TargetSeen, Was,
    classify, next,
};

const STORE: AtRetired = AtRetired::Directory(SecondLock::Native);

/// What a seal that was killed leaves at the retired name.
const LEFT_OVER: AtRetired = AtRetired::Marker(MarkerSeen {
    stage: Stage::Sealed,
    run: Run { id: ID, attempt: 1 },
    was: Was::Directory,
    plan: true,
    source: true,
    sources: true,
    target: true,
});

const OPEN: SourceSeen = at(AtPath::Directory(SecondLock::Native), AtRetired::Nothing);

const fn at(path: AtPath, retired: AtRetired) -> SourceSeen {
    SourceSeen { path, retired, temporary: false }
}

const fn marked(stage: Stage, id: MigrationId, attempt: u32, retired: AtRetired) -> SourceSeen {
    let (run, was) = (Run { id, attempt }, Was::Directory);
    let marker =
        MarkerSeen { stage, run, was, plan: true, source: true, sources: true, target: true };
    at(AtPath::Marker(marker), retired)
}

/// Everything that a source can be to the classifier, but for what refuses it by itself.
fn sources() -> Vec<SourceSeen> {
    let mut all = vec![
        OPEN,
        at(AtPath::Nothing, AtRetired::Nothing),
        at(AtPath::Nothing, STORE),
        marked(Stage::Sealed, MigrationId(2), 1, STORE),
        marked(Stage::Tombstone, ID, 1, AtRetired::Nothing),
    ];
    for stage in [Stage::Sealed, Stage::Tombstone, Stage::Final, Stage::Restoring, Stage::Reclaimed]
    {
        all.extend([1, 2].map(|attempt| marked(stage, ID, attempt, STORE)));
    }
    all
}

fn targets() -> Vec<TargetSeen> {
    let record = |stage| {
        let run = Run { id: ID, attempt: 1 };
        TargetSeen::Record(RecordSeen { stage, run, copied: true, sources: true, paths: true })
    };
    let stages = [RecordStage::Copying, RecordStage::Committed, RecordStage::Live];
    [TargetSeen::None, TargetSeen::NoRecord].into_iter().chain(stages.map(record)).collect()
}

/// How far a state is from Fresh where there is no record.
const fn distance(state: State) -> u8 {
    match state {
        State::Fresh => 0,
        State::Migrating { .. } => 1,
        State::Committed | State::Tombstoned => 2,
        State::RerunAllowed => 3,
    }
}

fn seen(sources: &[SourceSeen], target: TargetSeen) -> Observation {
    let (sources, claim) = (sources.to_vec(), ClaimSeen::Id(ID));
    Observation { sources, target, claim, elsewhere: Vec::new() }
}

fn answer(sources: &[SourceSeen], target: TargetSeen) -> Result<State, Contradiction> {
    classify(&seen(sources, target))
}

/// Each list that is left when one source is left out.
fn with_one_less(sources: &[SourceSeen]) -> Vec<Vec<SourceSeen>> {
    let without = |left_out| {
        let kept = sources.iter().enumerate().filter(|(place, _)| *place != left_out);
        kept.map(|(_, source)| *source).collect()
    };
    (0..sources.len()).map(without).collect()
}

#[test]
fn i1_i4_four_sources_are_a_state_just_if_any_three_are_and_it_is_the_furthest_of_theirs() {
    let sources = sources();
    let mut states = 0;
    for target in targets() {
        for index in 0..sources.len().pow(4) {
            let four =
                [0, 1, 2, 3].map(|place| sources[index / sources.len().pow(place) % sources.len()]);
            let threes: Vec<_> =
                with_one_less(&four).iter().map(|three| answer(three, target)).collect();
            let found = answer(&four, target);
            assert_eq!(found.is_ok(), threes.iter().all(Result::is_ok), "{four:?} {target:?}");
            let Ok(state) = found else { continue };
            states += 1;
            let furthest = threes.into_iter().flatten().max_by_key(|state| distance(*state));
            assert_eq!(Some(state), furthest, "{four:?} {target:?}");
        }
    }
    assert!(states > 1000, "{states} states show little");
}

#[test]
fn two_sources_would_not_be_enough_to_stand_for_any_number() {
    let three = [OPEN, marked(Stage::Sealed, ID, 1, STORE), marked(Stage::Restoring, ID, 1, STORE)];
    answer(&three, TargetSeen::None).expect_err("a store is given back before its time");
    for two in with_one_less(&three) {
        answer(&two, TargetSeen::None).expect("a state");
    }
}

/// The source that a step is for; none where it is for the whole.
const fn source_of(step: Step) -> Option<usize> {
    match step {
        Step::Seal { source, .. }
        | Step::Mark { source, .. }
        | Step::PutBack { source, .. }
        | Step::Unseal { source, .. }
        | Step::HoldVersion(source)
        | Step::ReleaseVersion(source)
        | Step::DeleteRetired(source)
        | Step::Tidy(source) => Some(source),
        _ => None,
    }
}

/// A step as the proof compares it: attempts are compared by rank, so their numbers say nothing.
fn without_numbers(step: Step, kept: &[usize]) -> Step {
    let at = |source| kept.iter().position(|kept| *kept == source).expect("it is kept");
    let run = Run { id: ID, attempt: 0 };
    match step {
        Step::Seal { source, .. } => Step::Seal { source: at(source), run },
        Step::Mark { source, stage, .. } => Step::Mark { source: at(source), stage, attempt: 0 },
        Step::PutBack { source, .. } => Step::PutBack { source: at(source), run },
        Step::Unseal { source, id } => Step::Unseal { source: at(source), id },
        Step::HoldVersion(source) => Step::HoldVersion(at(source)),
        Step::ReleaseVersion(source) => Step::ReleaseVersion(at(source)),
        Step::DeleteRetired(source) => Step::DeleteRetired(at(source)),
        Step::Tidy(source) => Step::Tidy(at(source)),
        Step::BeginCopy(_) => Step::BeginCopy(run),
        whole => whole,
    }
}

/// The ways in which fewer sources may do more: to go live where one that is left out has failed; to
/// leave the record unconfirmed where all that are kept are final, or as they were sealed; and to tidy
/// up and open these without a raise.
fn may_differ(of_all: Step, of_kept: Step) -> bool {
    matches!(
        (of_all, of_kept),
        (Step::GiveUp, Step::GoLive)
            | (Step::Confirm { record: true }, Step::Confirm { record: false })
            | (Step::Mark { stage: Stage::Sealed, .. }, Step::Tidy(_) | Step::Unseal { .. })
    )
}

/// Sessions of any that are kept: what failed is counted among them.
fn sessions() -> Vec<Session> {
    let confirmed = Session { confirmed: true, ..Session::default() };
    let failed = |failed: &[usize]| Session {
        failed: failed.iter().copied().collect(),
        ..confirmed.clone()
    };
    let fresh = [1, 2, 3].map(|fresh| Session { fresh: Some(fresh), ..confirmed.clone() });
    let verified = Session { verified: true, prepared: true, ..confirmed.clone() };
    [
        Session::default(),
        failed(&[0]),
        failed(&[2]),
        failed(&[0, 1, 2]),
        confirmed.clone(),
        verified,
    ]
    .into_iter()
    .chain(fresh)
    .collect()
}

#[test]
fn i1_i4_the_step_that_three_sources_take_is_the_step_of_any_two_that_are_kept() {
    let mut sources = sources();
    sources.push(SourceSeen { temporary: true, ..OPEN });
    sources.push(at(AtPath::Directory(SecondLock::Native), LEFT_OVER));
    let held = AtRetired::Directory(SecondLock::Held);
    sources.extend([Stage::Final, Stage::Restoring].map(|stage| marked(stage, ID, 1, held)));
    let (mut steps, mut more) = (0, 0);
    for target in targets() {
        for index in 0..sources.len().pow(3) {
            let three =
                [0, 1, 2].map(|place| sources[index / sources.len().pow(place) % sources.len()]);
            let Ok(state) = answer(&three, target) else { continue };
            for kept in [[0, 1], [0, 2], [1, 2]] {
                let two = kept.map(|place| three[place]);
                if answer(&two, target) != Ok(state) {
                    continue;
                }
                for (intent, session) in
                    INTENTS.into_iter().flat_map(|i| sessions().into_iter().map(move |s| (i, s)))
                {
                    let Ok(of_three) = next(&seen(&three, target), intent, &session) else {
                        continue;
                    };
                    if source_of(of_three).is_some_and(|source| !kept.contains(&source)) {
                        continue;
                    }
                    let place = |place: &usize| kept.iter().position(|kept| kept == place);
                    let failed = session.failed.iter().filter_map(place).collect();
                    let of_two =
                        next(&seen(&two, target), intent, &Session { failed, ..session.clone() });
                    let of_two = of_two.expect("a step, as for all three");
                    steps += 1;
                    if may_differ(of_three, of_two) {
                        more += 1;
                        continue;
                    }
                    assert_eq!(
                        without_numbers(of_three, &kept),
                        without_numbers(of_two, &[0, 1]),
                        "{intent:?} {session:?} {three:?} {target:?}"
                    );
                }
            }
        }
    }
    assert!(steps > 10_000 && more > 0, "{steps} steps, {more} of them more");
    println!("{steps} steps, {more} of them more");
}
