//! From three sources to any number (`docs/proofs.md`, P-10): what four sources are follows from what
//! any three of them are.

use cutover::protocol::{
    AtPath, AtRetired, ClaimSeen, Contradiction, MarkerSeen, MigrationId, Observation, RecordSeen,
    RecordStage, Run, SourceSeen, Stage, State, TargetSeen, VersionFile, Was, classify,
};

const ID: MigrationId = MigrationId(1);

const STORE: AtRetired = AtRetired::Directory(VersionFile::Native);

const OPEN: SourceSeen = at(AtPath::Directory(VersionFile::Native), AtRetired::Nothing);

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
    [TargetSeen::None].into_iter().chain(stages.map(record)).collect()
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

fn answer(sources: &[SourceSeen], target: TargetSeen) -> Result<State, Contradiction> {
    let (sources, claim) = (sources.to_vec(), ClaimSeen::Id(ID));
    classify(&Observation { sources, target, claim, elsewhere: Vec::new() })
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
