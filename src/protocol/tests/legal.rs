//! Every step from every state is legal, whatever was asked for and whatever the session has done.

use super::closure::INTENTS;
use super::matrix::{ID, every_observation, marker, pinned};
use crate::protocol::{
    AtPath, AtRetired, ClaimSeen, Contradiction, Intent, MarkerSeen, MigrationId, NotAllowed,
    Observation, RecordSeen, RecordStage, Run, SecondLock, Session, SourceSeen, Stage, State, Step,
    TargetSeen, Was, classify, classify_with_target, next,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What may be wanted from facts that are no state.
const FROM_CONTRADICTIONS: [Intent; 2] = [Intent::ReplaceTarget, Intent::Discard];

/// A session that has done nothing, and those that have done more and more.
fn sessions() -> Vec<Session> {
    let confirmed = Session { confirmed: true, ..Session::default() };
    let mut sessions = vec![Session::default(), confirmed.clone()];
    for fresh in [2, 3] {
        sessions.push(Session { fresh: Some(fresh), ..confirmed.clone() });
    }
    let verified = Session { verified: true, ..confirmed.clone() };
    sessions.push(verified.clone());
    sessions.push(Session { prepared: true, ..verified });
    sessions.push(Session { failed: BTreeSet::from([0, 1, 2]), ..confirmed.clone() });
    for opened in [ID, MigrationId(2)] {
        sessions.push(Session { opened: Some(opened), ..confirmed.clone() });
    }
    let optional = [Step::Unclaim].into_iter().chain((0..3).map(Step::HoldVersion));
    sessions.push(Session { skipped: optional.collect(), ..confirmed });
    sessions
}

/// The facts that rules speak of.
struct Facts<'a> {
    seen: &'a Observation,
    markers: Vec<MarkerSeen>,
    record: Option<(RecordStage, Run, bool)>,
}

impl<'a> Facts<'a> {
    fn new(seen: &'a Observation) -> Self {
        let markers = seen.sources.iter().filter_map(|source| marker_at(source.path)).collect();
        let record = match seen.target {
            TargetSeen::Record(record) => Some((record.stage, record.run, record.copied)),
            TargetSeen::None
            | TargetSeen::NoRecord
            | TargetSeen::Unreadable
            | TargetSeen::Unreachable
            | TargetSeen::MainFileGone => None,
        };
        Self { seen, markers, record }
    }

    fn marker(&self, source: usize) -> MarkerSeen {
        marker_at(self.seen.sources[source].path).expect("the step is for a source with a marker")
    }

    fn is(&self, stage: RecordStage) -> bool {
        self.record.is_some_and(|(found, ..)| found == stage)
    }

    /// Every source has a marker at one of `stages`.
    fn all_at(&self, stages: &[Stage]) -> bool {
        self.markers.len() == self.seen.sources.len()
            && self.markers.iter().all(|m| stages.contains(&m.stage))
    }

    fn none_at(&self, stages: &[Stage]) -> bool {
        !self.markers.iter().any(|m| stages.contains(&m.stage))
    }

    /// I-8: nothing of ours is left where the KV stores are in use.
    fn is_untouched(&self, session: &Session) -> bool {
        let ours = |s: &SourceSeen| s.temporary || matches!(s.retired, AtRetired::Marker(_));
        self.record.is_none()
            && self.markers.is_empty()
            && !self.seen.sources.iter().any(ours)
            && match self.seen.claim {
                // What another migration put there after the seal is not ours.
                ClaimSeen::Id(id) => {
                    session.skipped.contains(&Step::Unclaim)
                        || session.opened.is_some_and(|opened| opened != id)
                }
                ClaimSeen::None | ClaimSeen::Unreadable => true,
            }
    }

    /// I-1, I-5: no source's name is free, and no marker, but for those at `stages` or reclaimed,
    /// could stand beside a record that is not live.
    fn is_handed_over(&self, stages: &[Stage], session: &Session) -> bool {
        let unlocked = AtRetired::Directory(SecondLock::Native);
        let skipped = |at| session.skipped.contains(&Step::HoldVersion(at));
        let holds = |(at, s): (usize, &SourceSeen)| match marker_at(s.path) {
            Some(m) if m.stage == Stage::Reclaimed => !s.temporary,
            Some(m) => {
                let is_locked = s.retired != unlocked || skipped(at);
                stages.contains(&m.stage) && is_locked && !s.temporary
            }
            None => false,
        };
        let claimed = |run: Run| match self.seen.claim {
            ClaimSeen::Id(id) => id == run.id,
            ClaimSeen::Unreadable => true,
            ClaimSeen::None => false,
        };
        self.is(RecordStage::Live)
            && self.record.is_some_and(|(_, run, _)| claimed(run))
            && self.seen.sources.iter().enumerate().all(holds)
    }

    /// I-1: the markers say that the target was live, and its database is there without the record.
    fn may_be_live(&self) -> bool {
        self.seen.target == TargetSeen::NoRecord && !self.none_at(&[Stage::Final])
    }

    /// No record of this migration was ever begun: every marker is as it was sealed.
    fn is_never_begun(&self) -> bool {
        let as_sealed = |m: &MarkerSeen| m.stage == Stage::Sealed && m.run.attempt == 1;
        self.record.is_none() && !self.markers.is_empty() && self.markers.iter().all(as_sealed)
    }

    /// It can't be known what the target holds, and no source has a marker.
    fn is_open_beside_unknown(&self) -> bool {
        let known = matches!(
            self.seen.target,
            TargetSeen::None | TargetSeen::NoRecord | TargetSeen::Record(_)
        );
        let is_open = |s: &SourceSeen| {
            matches!(s.path, AtPath::Directory(SecondLock::Native) | AtPath::Nothing)
                && !matches!(s.retired, AtRetired::Directory(_))
        };
        !known && self.seen.sources.iter().all(is_open)
    }

    /// I-6: this session has raised every marker.
    fn all_raised(&self, session: &Session) -> bool {
        session.fresh.is_some_and(|fresh| self.markers.iter().all(|m| m.run.attempt == fresh))
    }
}

const fn marker_at(path: AtPath) -> Option<MarkerSeen> {
    match path {
        AtPath::Marker(marker) => Some(marker),
        AtPath::Nothing | AtPath::Directory(_) | AtPath::Damaged | AtPath::Foreign => None,
    }
}

/// What must be so on disk before each step, for every intent (I-1, I-3, I-5, I-6).
fn is_legal(f: &Facts<'_>, intent: Intent, session: &Session, step: Step) -> bool {
    let no_record = f.record.is_none();
    let live = f.is(RecordStage::Live);
    let at = |source: usize| f.seen.sources[source];
    match step {
        // Only two look at no record, or did before: KV stores with nothing beside them, and a daemon
        // on a target that was handed out before. What is freed is nowhere but in the target.
        Step::Confirm { record } => {
            let kv_in_use = no_record && f.markers.is_empty();
            let sql_in_use = live && f.all_at(&[Stage::Final, Stage::Reclaimed]);
            let seen_before = (kv_in_use || sql_in_use) && intent != Intent::Reclaim;
            // Or what nothing is asked of: the way back of what was only sealed.
            // But for a file that is gone: it may have been an older migration's (I-1).
            let only_sealed = is_abort(intent)
                && f.is_never_begun()
                && (f.seen.target != TargetSeen::None || f.seen.claim == ClaimSeen::Unreadable);
            !session.confirmed && record != (seen_before || only_sealed)
        }
        Step::Claim(id) => {
            let ours = f.markers.first().map(|m| m.run.id);
            matches!(f.seen.claim, ClaimSeen::None | ClaimSeen::Id(_))
                && f.seen.claim != ClaimSeen::Id(id)
                && ours.is_none_or(|ours| ours == id)
        }
        Step::Unclaim => {
            let ours = |id| session.opened.is_none_or(|opened| opened == id);
            no_record
                && f.markers.is_empty()
                && matches!(f.seen.claim, ClaimSeen::Id(id) if ours(id))
        }
        Step::Seal { source, run } => {
            no_record
                && matches!(
                    at(source).path,
                    AtPath::Directory(SecondLock::Native) | AtPath::Nothing
                )
                && at(source).retired == AtRetired::Nothing
                && f.seen.claim == ClaimSeen::Id(run.id)
                && f.markers.iter().all(|m| m.run.id == run.id && m.stage == Stage::Sealed)
        }
        Step::Mark { source, stage, attempt } => {
            let found = f.marker(source);
            let raised = attempt > found.run.attempt || session.fresh == Some(attempt);
            match stage {
                Stage::Sealed => no_record && found.stage == Stage::Sealed && raised,
                Stage::Tombstone
                    if found.stage == Stage::Sealed && f.is(RecordStage::Committed) =>
                {
                    f.record.is_some_and(|(_, run, _)| run == found.run)
                        && attempt == found.run.attempt
                }
                // A rerun takes every marker to a tombstone of a new attempt; so does the word that
                // what was live is lost.
                Stage::Tombstone => {
                    let given_up = intent == Intent::ReplaceTarget
                        && matches!(found.stage, Stage::Tombstone | Stage::Final);
                    let begun = f.none_at(&[Stage::Restoring]) && !f.may_be_live();
                    no_record && raised && (given_up || begun)
                }
                Stage::Final => {
                    live && attempt == found.run.attempt
                        && f.all_at(&[Stage::Tombstone, Stage::Final, Stage::Reclaimed])
                }
                Stage::Restoring => {
                    let stays = intent == Intent::ReplaceTarget && found.stage == Stage::Restoring;
                    no_record && (stays || !f.may_be_live())
                }
                Stage::Reclaimed => live && f.all_at(&[Stage::Final, Stage::Reclaimed]),
            }
        }
        Step::PutBack { source, run } => {
            live && at(source).path == AtPath::Nothing
                && !matches!(at(source).retired, AtRetired::Marker(_))
                && f.record.is_some_and(|(_, recorded, _)| recorded == run)
        }
        Step::Unseal { source, id } => {
            let given_back = f.markers.iter().all(|m| m.stage == Stage::Restoring);
            let aborted = f.markers.iter().all(|m| m.stage == Stage::Sealed);
            let only_back = is_abort(intent) && f.is_never_begun();
            no_record
                && f.marker(source).run.id == id
                && at(source).retired != AtRetired::Directory(SecondLock::Held)
                && (given_back || (aborted && f.all_raised(session)) || only_back)
        }
        Step::HoldVersion(source) => {
            // Beside a live target, and where an aborted rerun left it lifted.
            (live || no_record)
                && matches!(
                    at(source).path,
                    AtPath::Marker(m) if matches!(m.stage, Stage::Tombstone | Stage::Final)
                )
                && at(source).retired == AtRetired::Directory(SecondLock::Native)
        }
        Step::ReleaseVersion(source) => {
            no_record && at(source).retired == AtRetired::Directory(SecondLock::Held)
        }
        Step::DeleteRetired(source) => {
            live && f.all_at(&[Stage::Reclaimed])
                && matches!(at(source).retired, AtRetired::Directory(_))
        }
        Step::Tidy(source) => {
            at(source).temporary || matches!(at(source).retired, AtRetired::Marker(_))
        }
        Step::BeginCopy(run) => {
            no_record
                && (f.all_at(&[Stage::Sealed]) || f.all_at(&[Stage::Tombstone]))
                && f.all_raised(session)
                && f.markers.iter().all(|m| m.run == run)
        }
        Step::Copy => matches!(f.record, Some((RecordStage::Copying, _, false))),
        Step::Verify => matches!(f.record, Some((RecordStage::Copying, _, true))),
        Step::Prepare => f.is(RecordStage::Copying) && session.verified,
        Step::Commit => {
            intent == Intent::Copy
                && matches!(f.record, Some((RecordStage::Copying, _, true)))
                && f.all_at(&[Stage::Sealed, Stage::Tombstone])
                && session.verified
                && session.prepared
        }
        Step::GoLive => {
            f.is(RecordStage::Committed)
                && f.all_at(&[Stage::Tombstone])
                && session.failed.is_empty()
        }
        Step::DropRecord => match intent {
            Intent::Abort => f.is(RecordStage::Copying),
            Intent::AbortCommitted => !live,
            Intent::UseKv
            | Intent::Begin(_)
            | Intent::Prepare
            | Intent::Copy
            | Intent::Finish
            | Intent::UseSql
            | Intent::Rerun
            | Intent::RestoreKv
            | Intent::Reclaim
            | Intent::ReplaceTarget => false,
            // Only ever where the facts are no state, and a source is not as the record needs it: open,
            // of another run, or past what the record knows of.
            Intent::Discard => {
                let unlike = |m: &MarkerSeen| {
                    f.record.is_none_or(|(_, run, _)| run != m.run)
                        || matches!(m.stage, Stage::Final | Stage::Restoring | Stage::Reclaimed)
                };
                let unmarked = f.markers.len() < f.seen.sources.len();
                classify_with_target(f.seen).is_err()
                    && !live
                    && (unmarked || f.markers.iter().any(unlike))
            }
        },
        Step::GiveUp => intent == Intent::Finish && !session.failed.is_empty(),
        Step::Done(state) => match intent {
            // What is handed out was made durable before, and is as it will be found.
            Intent::UseKv => state == State::Fresh && session.confirmed && f.is_untouched(session),
            Intent::UseSql => {
                state == State::Tombstoned
                    && session.confirmed
                    && f.is_handed_over(&[Stage::Final], session)
            }
            Intent::Reclaim => {
                let freed = |s: &SourceSeen| !matches!(s.retired, AtRetired::Directory(_));
                state == State::Tombstoned
                    && session.confirmed
                    && f.is_handed_over(&[], session)
                    && f.seen.sources.iter().all(freed)
            }
            // All is done but the commit.
            Intent::Prepare => {
                classify(f.seen) == Ok(state)
                    && matches!(f.record, Some((RecordStage::Copying, _, true)))
                    && session.verified
                    && session.prepared
            }
            Intent::Abort | Intent::AbortCommitted => {
                classify(f.seen) == Ok(state)
                    || (state == State::Fresh && f.is_open_beside_unknown())
            }
            Intent::Begin(_)
            | Intent::Copy
            | Intent::Finish
            | Intent::Rerun
            | Intent::RestoreKv
            | Intent::ReplaceTarget
            | Intent::Discard => intent == Intent::ReplaceTarget || classify(f.seen) == Ok(state),
        },
    }
}

const fn is_abort(intent: Intent) -> bool {
    matches!(intent, Intent::Abort | Intent::AbortCommitted)
}

const fn word(step: Step) -> &'static str {
    match step {
        Step::Confirm { .. } => "Confirm",
        Step::Claim(_) => "Claim",
        Step::Unclaim => "Unclaim",
        Step::Seal { .. } => "Seal",
        Step::Mark { stage, .. } => stage.word(),
        Step::PutBack { .. } => "PutBack",
        Step::Unseal { .. } => "Unseal",
        Step::HoldVersion(_) => "HoldVersion",
        Step::ReleaseVersion(_) => "ReleaseVersion",
        Step::DeleteRetired(_) => "DeleteRetired",
        Step::Tidy(_) => "Tidy",
        Step::BeginCopy(_) => "BeginCopy",
        Step::Copy => "Copy",
        Step::Verify => "Verify",
        Step::Prepare => "Prepare",
        Step::Commit => "Commit",
        Step::GoLive => "GoLive",
        Step::DropRecord => "DropRecord",
        Step::GiveUp => "GiveUp",
        Step::Done(_) => "Done",
    }
}

/// Asks for every step from every observation of `count` sources; returns the table of how often
/// each was the answer.
fn count_steps(count: usize) -> String {
    let mut answers: BTreeMap<(&str, String, &str), u32> = BTreeMap::new();
    let sessions = sessions();
    every_observation(count, &mut |seen| {
        let state = classify(seen);
        let facts = Facts::new(seen);
        for intent in INTENTS.into_iter().chain(FROM_CONTRADICTIONS) {
            // Two intents can go on from a contradiction, and an abort may come to its end in one; what
            // the session did changes little.
            let sessions = match (state, intent) {
                (Ok(_), _) => &sessions[..],
                (
                    Err(_),
                    Intent::ReplaceTarget
                    | Intent::Discard
                    | Intent::Abort
                    | Intent::AbortCommitted,
                ) => &sessions[1..2],
                (Err(_), _) => &[],
            };
            for session in sessions {
                let answer = match next(seen, intent, session) {
                    Ok(step) => {
                        assert!(
                            is_legal(&facts, intent, session, step),
                            "{step:?} for {intent:?} in {session:?} from {seen:?}"
                        );
                        let acts = !matches!(step, Step::Confirm { .. } | Step::Done(_));
                        assert!(session.confirmed || !acts, "{step:?} before a confirmation");
                        word(step)
                    }
                    Err(NotAllowed::Contradiction(contradiction)) => {
                        // What was only sealed goes back, whatever is known of the target.
                        let only_back = facts.is_never_begun()
                            && !is_abort(intent)
                            && classify_with_target(seen) == Err(contradiction);
                        assert!(
                            state.is_err() || only_back || FROM_CONTRADICTIONS.contains(&intent)
                        );
                        "contradiction"
                    }
                    Err(NotAllowed::State(_)) => "no such edge",
                    Err(NotAllowed::Restoring) => "restoring",
                    Err(NotAllowed::AttemptsExhausted) => "exhausted",
                };
                let from = state.map_or("a contradiction", State::name);
                *answers.entry((from, name(intent), answer)).or_default() += 1;
            }
        }
    });
    answers.into_iter().fold(String::new(), |mut text, ((from, intent, answer), times)| {
        writeln!(text, "{from} + {intent}: {answer} {times}").unwrap();
        text
    })
}

fn name(intent: Intent) -> String {
    let text = format!("{intent:?}");
    text.split('(').next().unwrap().to_owned()
}

#[test]
fn every_step_from_one_source_is_legal() {
    pinned("steps-1.txt", &count_steps(1), include_str!("matrix/steps-1.txt"));
}

#[test]
fn every_step_from_two_sources_is_legal() {
    pinned("steps-2.txt", &count_steps(2), include_str!("matrix/steps-2.txt"));
}

#[test]
fn every_step_from_three_sources_is_legal() {
    pinned("steps-3.txt", &count_steps(3), include_str!("matrix/steps-3.txt"));
}

/// The raise, the verification and the tombstones that lie ready are of the attempt that ended.
#[test]
fn i6_a_session_that_dropped_the_record_remembers_nothing_but_that_it_confirmed() {
    let all = Session {
        confirmed: true,
        fresh: Some(2),
        verified: true,
        prepared: true,
        opened: Some(ID),
        failed: BTreeSet::from([0]),
        skipped: BTreeSet::from([Step::Unclaim]),
    };
    for confirmed in [false, true] {
        let mut session = Session { confirmed, ..all.clone() };
        session.done(Step::DropRecord);
        assert_eq!(session, Session { confirmed, ..Session::default() });
    }
}

/// What `Prepare` wrote for a source that then got its tombstone in another way lies there still.
#[test]
fn i8_no_temporary_file_of_ours_is_left_where_a_side_is_handed_out() {
    let run = Run { id: ID, attempt: 1 };
    let (stage, copied, sources, paths) = (RecordStage::Live, true, true, true);
    let handed_over = TargetSeen::Record(RecordSeen { stage, run, copied, sources, paths });
    let marked = |stage, retired| SourceSeen {
        path: AtPath::Marker(marker(stage, run, Was::Directory)),
        retired,
        temporary: false,
    };
    let open = SourceSeen {
        path: AtPath::Directory(SecondLock::Native),
        retired: AtRetired::Nothing,
        temporary: false,
    };
    let held = AtRetired::Directory(SecondLock::Held);
    let session = Session { confirmed: true, ..Session::default() };
    for (intent, source, target, claim) in [
        (Intent::UseKv, open, TargetSeen::None, ClaimSeen::None),
        (Intent::Begin(ID), open, TargetSeen::None, ClaimSeen::None),
        (Intent::UseSql, marked(Stage::Final, held), handed_over, ClaimSeen::Id(ID)),
        (Intent::Finish, marked(Stage::Final, held), handed_over, ClaimSeen::Id(ID)),
        (
            Intent::Reclaim,
            marked(Stage::Reclaimed, AtRetired::Nothing),
            handed_over,
            ClaimSeen::Id(ID),
        ),
    ] {
        let left_over = SourceSeen { temporary: true, ..source };
        let sources = vec![source, left_over];
        let seen = Observation { sources, target, claim, elsewhere: Vec::new() };
        assert_eq!(next(&seen, intent, &session), Ok(Step::Tidy(1)), "{intent:?}");
    }
}

/// The volume with the SQL database and its claim is gone; an operator said so, with a new place.
#[test]
fn i4_i6_a_lost_target_is_replaced_once_and_every_marker_is_raised() {
    let old = Run { id: ID, attempt: 1 };
    let named = |stage, attempt, target| SourceSeen {
        path: AtPath::Marker(MarkerSeen {
            target,
            ..marker(stage, Run { attempt, ..old }, Was::Directory)
        }),
        retired: AtRetired::Directory(SecondLock::Held),
        temporary: false,
    };
    let mut seen = Observation {
        sources: vec![named(Stage::Final, 1, false); 2],
        target: TargetSeen::None,
        claim: ClaimSeen::None,
        elsewhere: vec![TargetSeen::Unreachable],
    };
    let raised = |source, attempt| Step::Mark { source, stage: Stage::Tombstone, attempt };
    let mut session = Session::default();
    let mut does = |seen: &Observation, step| {
        assert_eq!(next(seen, Intent::ReplaceTarget, &session), Ok(step));
        session.done(step);
    };
    does(&seen, Step::Confirm { record: true });
    does(&seen, Step::Claim(ID));
    seen.claim = ClaimSeen::Id(ID);
    does(&seen, raised(0, 2));
    seen.sources[0] = named(Stage::Tombstone, 2, true);
    does(&seen, raised(1, 2));
    seen.sources[1] = named(Stage::Tombstone, 2, true);
    seen.elsewhere.clear();
    does(&seen, Step::Done(State::RerunAllowed));
    // Asked once more, it has nothing to do.
    let confirmed = Session { confirmed: true, ..Session::default() };
    let asked = next(&seen, Intent::ReplaceTarget, &confirmed);
    assert_eq!(asked, Ok(Step::Done(State::RerunAllowed)));
    // A kill between the two markers: neither keeps an attempt that a record could carry.
    seen.sources[1] = named(Stage::Final, 1, false);
    seen.elsewhere = vec![TargetSeen::Unreachable];
    let asked = next(&seen, Intent::ReplaceTarget, &confirmed);
    assert_eq!(asked, Ok(raised(0, 3)));
}

/// Somebody dropped the record of a live database. What tells that it was live goes with the last
/// marker, once an operator has given up what is in it; before, nothing else goes on.
#[test]
fn i1_i4_a_record_that_is_gone_is_given_up_marker_by_marker_and_nothing_else_goes_on_before() {
    let source = |stage, attempt| SourceSeen {
        path: AtPath::Marker(marker(stage, Run { id: ID, attempt }, Was::Directory)),
        retired: AtRetired::Directory(SecondLock::Held),
        temporary: false,
    };
    let mut seen = Observation {
        sources: vec![source(Stage::Final, 1); 2],
        target: TargetSeen::NoRecord,
        claim: ClaimSeen::Id(ID),
        elsewhere: Vec::new(),
    };
    let mut session = Session::default();
    for (at, stage) in [(0, Stage::Final), (1, Stage::Final)] {
        assert_eq!(seen.sources[at], source(stage, 1));
        for intent in INTENTS.into_iter().chain([Intent::Discard]) {
            let refused = next(&seen, intent, &Session::default());
            assert_eq!(refused, Err(NotAllowed::Contradiction(Contradiction::RecordGone)));
        }
        if at == 0 {
            let confirm = next(&seen, Intent::ReplaceTarget, &session);
            assert_eq!(confirm, Ok(Step::Confirm { record: true }));
            session.confirmed = true;
        }
        let step = Step::Mark { source: at, stage: Stage::Tombstone, attempt: 2 };
        assert_eq!(next(&seen, Intent::ReplaceTarget, &session), Ok(step));
        session.done(step);
        seen.sources[at] = source(Stage::Tombstone, 2);
    }
    let asked = next(&seen, Intent::ReplaceTarget, &session);
    assert_eq!(asked, Ok(Step::Done(State::RerunAllowed)));
    assert_eq!(classify(&seen), Ok(State::RerunAllowed));
    // An aborted rerun leaves just that, in a file with other tables: it stays as it was.
    seen.sources = vec![source(Stage::Tombstone, 1); 2];
    assert_eq!(classify(&seen), Ok(State::RerunAllowed));
    // A restore that had begun goes on when it is said.
    seen.sources = vec![source(Stage::Restoring, 2), source(Stage::Final, 1)];
    let confirmed = Session { confirmed: true, ..Session::default() };
    for (at, stage) in [(0, Stage::Restoring), (1, Stage::Tombstone)] {
        let refused = next(&seen, Intent::RestoreKv, &confirmed);
        assert_eq!(refused, Err(NotAllowed::Contradiction(Contradiction::RecordGone)));
        let step = Step::Mark { source: at, stage, attempt: 3 };
        let session = Session { fresh: (at > 0).then_some(3), ..confirmed.clone() };
        assert_eq!(next(&seen, Intent::ReplaceTarget, &session), Ok(step));
        seen.sources[at] = source(stage, 3);
    }
    assert_eq!(classify(&seen), Ok(State::RerunAllowed));
    // And a database elsewhere that the markers name is not given up unseen.
    seen.sources = vec![source(Stage::Final, 1); 2];
    seen.elsewhere = vec![TargetSeen::NoRecord];
    let refused = next(&seen, Intent::ReplaceTarget, &session);
    assert_eq!(refused, Err(NotAllowed::Contradiction(Contradiction::RecordGoneElsewhere)));
}

/// Each contradiction that says so in its text (`src/error/mod.rs`) has this way out, and no other has.
#[test]
fn i4_an_unfinished_copy_that_the_markers_contradict_can_be_discarded() {
    let confirmed = Session { confirmed: true, ..Session::default() };
    let mut discarded = BTreeSet::new();
    for count in [1, 2] {
        every_observation(count, &mut |seen| {
            if let (Err(found), Ok(step)) =
                (classify_with_target(seen), next(seen, Intent::Discard, &confirmed))
            {
                assert_eq!(step, Step::DropRecord);
                discarded.insert(format!("{found:?}").split('(').next().unwrap().to_owned());
            }
        });
    }
    let wanted = [
        "OlderTarget",
        "OpenBesideRecord",
        "RecordOfAnotherMigration",
        "RecordWithoutMarkers",
        "RestoringBesideRecord",
        "StaleTarget",
    ];
    assert!(discarded.iter().eq(wanted), "{discarded:?}");
}

/// A seal that was killed had left its marker at the retired name; the next start sealed again, and
/// the rename that replaces nothing failed for ever.
#[test]
fn i4_what_a_killed_seal_left_is_tidied_before_the_source_is_sealed_again() {
    let sealed = marker(Stage::Sealed, Run { id: ID, attempt: 1 }, Was::Directory);
    let native = SecondLock::Native;
    let source = |path, retired| SourceSeen { path, retired, temporary: false };
    let seen = Observation {
        sources: vec![
            source(AtPath::Marker(sealed), AtRetired::Directory(native)),
            source(AtPath::Directory(native), AtRetired::Marker(sealed)),
        ],
        target: TargetSeen::None,
        claim: ClaimSeen::Id(ID),
        elsewhere: Vec::new(),
    };
    let session = Session { confirmed: true, ..Session::default() };
    assert_eq!(next(&seen, Intent::Copy, &session), Ok(Step::Tidy(1)));
}

/// The file system reported an error, and yet the tombstone can be seen: what is seen may be in the
/// page cache alone. The power fails after `GoLive`, and a live target stands beside a seal.
#[test]
fn i4_a_tombstone_whose_sync_failed_is_not_gone_live_upon() {
    let run = Run { id: ID, attempt: 1 };
    let (stage, copied, sources, paths) = (RecordStage::Committed, true, true, true);
    let seen = Observation {
        sources: vec![SourceSeen {
            path: AtPath::Marker(marker(Stage::Tombstone, run, Was::Directory)),
            retired: AtRetired::Directory(SecondLock::Native),
            temporary: false,
        }],
        target: TargetSeen::Record(RecordSeen { stage, run, copied, sources, paths }),
        claim: ClaimSeen::Id(ID),
        elsewhere: Vec::new(),
    };
    let after_a_failure = |failed: &[usize]| {
        let failed = failed.iter().copied().collect();
        next(&seen, Intent::Finish, &Session { confirmed: true, failed, ..Session::default() })
    };
    assert_eq!(after_a_failure(&[0]), Ok(Step::GiveUp));
    assert_eq!(after_a_failure(&[]), Ok(Step::GoLive));
}

/// Every marker is final, so a start has no need to confirm the record; freeing the only other copy
/// has.
#[test]
fn i3_what_is_freed_is_durable_in_the_target_first() {
    let run = Run { id: ID, attempt: 1 };
    let (stage, copied, sources, paths) = (RecordStage::Live, true, true, true);
    let seen = Observation {
        sources: vec![SourceSeen {
            path: AtPath::Marker(marker(Stage::Final, run, Was::Directory)),
            retired: AtRetired::Directory(SecondLock::Held),
            temporary: false,
        }],
        target: TargetSeen::Record(RecordSeen { stage, run, copied, sources, paths }),
        claim: ClaimSeen::Id(ID),
        elsewhere: Vec::new(),
    };
    let asked = |intent| next(&seen, intent, &Session::default());
    assert_eq!(asked(Intent::UseSql), Ok(Step::Confirm { record: false }));
    assert_eq!(asked(Intent::Reclaim), Ok(Step::Confirm { record: true }));
}

/// The target was on a disk that is dead, or could not be written: neither side opened.
#[test]
fn i4_what_was_only_sealed_comes_back_whatever_can_be_known_of_the_target() {
    fn abort(seen: &Observation, session: &Session) -> Result<Step, NotAllowed> {
        next(seen, Intent::Abort, session)
    }
    let sealed = |attempt| SourceSeen {
        path: AtPath::Marker(marker(Stage::Sealed, Run { id: ID, attempt }, Was::Directory)),
        retired: AtRetired::Directory(SecondLock::Native),
        temporary: false,
    };
    let open = SourceSeen {
        path: AtPath::Directory(SecondLock::Native),
        retired: AtRetired::Nothing,
        temporary: false,
    };
    let confirmed = Session { confirmed: true, ..Session::default() };
    let unknown = [TargetSeen::Unreadable, TargetSeen::Unreachable, TargetSeen::MainFileGone];
    for target in [TargetSeen::None, TargetSeen::NoRecord].into_iter().chain(unknown) {
        for claim in [ClaimSeen::None, ClaimSeen::Id(ID), ClaimSeen::Unreadable] {
            let seen = |sources: [SourceSeen; 2]| Observation {
                sources: sources.to_vec(),
                target,
                claim,
                elsewhere: Vec::new(),
            };
            let whole = seen([sealed(1); 2]);
            assert_eq!(classify(&whole), Ok(State::Migrating { rerun: false }));
            let record = target == TargetSeen::None && claim != ClaimSeen::Unreadable;
            let confirm = Ok(Step::Confirm { record });
            assert_eq!(abort(&whole, &Session::default()), confirm);
            assert_eq!(abort(&whole, &confirmed), Ok(Step::Unseal { source: 1, id: ID }));
            assert_eq!(
                abort(&seen([sealed(1), open]), &confirmed),
                Ok(Step::Unseal { source: 0, id: ID })
            );
            if unknown.contains(&target) {
                // Nothing beside the target is touched.
                let done = Ok(Step::Done(State::Fresh));
                assert_eq!(abort(&seen([open; 2]), &confirmed), done);
                assert!(next(&seen([open; 2]), Intent::UseKv, &confirmed).is_err());
                // A marker that was raised may stand beside a record, so that one has to be looked for.
                for sources in [[sealed(2); 2], [sealed(1), sealed(2)]] {
                    assert!(abort(&seen(sources), &confirmed).is_err());
                }
            }
            let is_known = !unknown.contains(&target) && claim == ClaimSeen::Id(ID);
            for intent in [Intent::Begin(ID), Intent::Prepare, Intent::Copy] {
                assert_eq!(next(&whole, intent, &confirmed).is_ok(), is_known, "{whole:?}");
            }
        }
    }
}

/// Another migration with this plan's name may have taken the target over since the seal.
#[test]
fn i4_what_was_only_sealed_comes_back_beside_another_migration_s_claim_which_stays() {
    let theirs = MigrationId(2);
    let confirmed = Session { confirmed: true, ..Session::default() };
    let record = |id, stage| {
        let run = Run { id, attempt: 2 };
        TargetSeen::Record(RecordSeen { stage, run, copied: true, sources: true, paths: true })
    };
    let seen = |(path, retired), target, claim| Observation {
        sources: vec![SourceSeen { path, retired, temporary: false }],
        target,
        claim,
        elsewhere: Vec::new(),
    };
    let sealed = (
        AtPath::Marker(marker(Stage::Sealed, Run { id: ID, attempt: 1 }, Was::Directory)),
        AtRetired::Directory(SecondLock::Native),
    );
    let open = (AtPath::Directory(SecondLock::Native), AtRetired::Nothing);
    let unseal = Step::Unseal { source: 0, id: ID };
    let mut session = confirmed.clone();
    session.done(unseal);
    assert_eq!(session, Session { opened: Some(ID), ..confirmed.clone() });
    for target in [TargetSeen::None, TargetSeen::NoRecord, TargetSeen::Unreachable] {
        for intent in [Intent::Abort, Intent::AbortCommitted] {
            let (before, after) = (
                seen(sealed, target, ClaimSeen::Id(theirs)),
                seen(open, target, ClaimSeen::Id(theirs)),
            );
            assert_eq!(classify(&before), Ok(State::Migrating { rerun: false }), "{before:?}");
            assert_eq!(next(&before, intent, &confirmed), Ok(unseal));
            assert_eq!(next(&after, intent, &session), Ok(Step::Done(State::Fresh)), "{after:?}");
            assert!(next(&before, Intent::Copy, &confirmed).is_err());
        }
    }
    // Our own claim goes, and theirs stays.
    let ours = seen(open, TargetSeen::None, ClaimSeen::Id(ID));
    assert_eq!(next(&ours, Intent::Abort, &session), Ok(Step::Unclaim));
    // A record is not passed over, whosever it is: the markers may have come back from a copy (I-1).
    for stage in [RecordStage::Copying, RecordStage::Committed, RecordStage::Live] {
        let other = seen(sealed, record(theirs, stage), ClaimSeen::Id(theirs));
        assert_eq!(classify(&other), Err(Contradiction::RecordOfAnotherMigration));
        assert!(next(&other, Intent::Abort, &confirmed).is_err());
    }
    let stale = seen(sealed, record(ID, RecordStage::Copying), ClaimSeen::Id(ID));
    assert_eq!(classify(&stale), Err(Contradiction::StaleTarget));
    assert!(next(&stale, Intent::Abort, &confirmed).is_err());
}

/// The second lock is only a second one, and a claim beside no marker says nothing.
#[test]
fn i4_what_no_invariant_leans_on_is_tried_once_and_gone_on_without() {
    let run = Run { id: ID, attempt: 1 };
    let (stage, copied, sources, paths) = (RecordStage::Live, true, true, true);
    let live = TargetSeen::Record(RecordSeen { stage, run, copied, sources, paths });
    let final_ = SourceSeen {
        path: AtPath::Marker(marker(Stage::Final, run, Was::Directory)),
        retired: AtRetired::Directory(SecondLock::Native),
        temporary: false,
    };
    let open = SourceSeen {
        path: AtPath::Directory(SecondLock::Native),
        retired: AtRetired::Nothing,
        temporary: false,
    };
    for (intent, source, target, step, end) in [
        (Intent::UseSql, final_, live, Step::HoldVersion(0), State::Tombstoned),
        (Intent::UseKv, open, TargetSeen::None, Step::Unclaim, State::Fresh),
        (Intent::Abort, open, TargetSeen::NoRecord, Step::Unclaim, State::Fresh),
    ] {
        let claim = ClaimSeen::Id(ID);
        let seen = Observation { sources: vec![source], target, claim, elsewhere: Vec::new() };
        let mut session = Session { confirmed: true, ..Session::default() };
        assert_eq!(next(&seen, intent, &session), Ok(step));
        assert!(step.is_optional());
        session.skipped.insert(step);
        assert_eq!(next(&seen, intent, &session), Ok(Step::Done(end)));
    }
    // A store whose second lock stays set opens for nobody.
    assert!(!Step::ReleaseVersion(0).is_optional());
}
