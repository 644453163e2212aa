//! The pure protocol: any observation has one answer, and no step breaks a physical rule, whatever
//! was asked for and whatever the session has done.

#![no_main]

use arbitrary::{Result, Unstructured};
use cutover::protocol::{
    AtPath, AtRetired, ClaimSeen, Contradiction, Intent, MigrationId, NotAllowed, Observation,
    Place, TargetSeen, classify, classify_with_target, next,
};
use cutover_fuzz::{facts, rules};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Too little input is not a finding.
    let _ = look(&mut Unstructured::new(bytes));
});

fn look(u: &mut Unstructured<'_>) -> Result<()> {
    let seen = facts::observation(u)?;
    let session = facts::session(u)?;
    let begin = facts::id(u)?;
    let state = classify(&seen);
    assert_eq!(classify(&seen), state);
    assert_eq!(classify(&other_ids(&seen)), state, "ids are only ever compared");
    let backwards =
        Observation { sources: seen.sources.iter().rev().copied().collect(), ..seen.clone() };
    assert_eq!(classify(&backwards).ok(), state.ok(), "sources have no order");
    if let Err(contradiction) = state {
        placed(&seen, contradiction);
    }
    // What all but an abort need is the stricter of the two, and they name the same contradiction.
    let with_target = classify_with_target(&seen);
    assert!(with_target == state || (with_target.is_err() && state.is_ok()));
    for intent in facts::intents(begin) {
        let step = next(&seen, intent, &session);
        assert_eq!(next(&seen, intent, &session), step);
        match (step, state) {
            // No plan is without a source.
            (Ok(_), _) if seen.sources.is_empty() => {}
            (Ok(step), _) => {
                let broken = rules::broken(&seen, intent, &session, step);
                assert_eq!(broken, None, "{step:?} for {intent:?} in {session:?} from {seen:?}");
            }
            (Err(NotAllowed::Contradiction(told)), Err(found)) => {
                assert!(told == found || intent == Intent::ReplaceTarget);
                placed(&seen, told);
            }
            (Err(NotAllowed::Contradiction(told)), Ok(_)) => {
                // It looks at the facts as they would be without the other target.
                let strict = with_target == Err(told);
                assert!(strict || intent == Intent::ReplaceTarget, "{told:?}");
            }
            (Err(NotAllowed::State(_)), Err(found)) => {
                assert_eq!(intent, Intent::ReplaceTarget, "{found:?}");
            }
            (Err(refusal), _) => {
                assert!(!refusal.to_string().is_empty());
            }
        }
    }
    Ok(())
}

/// What a person is told to look at is there.
fn placed(seen: &Observation, contradiction: Contradiction) {
    match contradiction.place() {
        Place::Source(source) => assert!(source < seen.sources.len(), "{contradiction:?}"),
        Place::Target => assert_ne!(seen.target, TargetSeen::None, "{contradiction:?}"),
        Place::Elsewhere => assert!(!seen.elsewhere.is_empty(), "{contradiction:?}"),
        Place::Claim => {}
    }
}

/// The same facts, with every id another one.
fn other_ids(seen: &Observation) -> Observation {
    let other = |id: &mut MigrationId| id.0 ^= 3;
    let mut seen = seen.clone();
    for source in &mut seen.sources {
        if let AtPath::Marker(marker) = &mut source.path {
            other(&mut marker.run.id);
        }
        if let AtRetired::Marker(marker) = &mut source.retired {
            other(&mut marker.run.id);
        }
    }
    for target in seen.elsewhere.iter_mut().chain([&mut seen.target]) {
        if let TargetSeen::Record(record) = target {
            other(&mut record.run.id);
        }
    }
    if let ClaimSeen::Id(id) = &mut seen.claim {
        other(id);
    }
    seen
}
