//! What must be so on disk before each step, written down once more from the physical rules and not
//! from the code: two people's mistakes seldom agree.

use RecordStage::{Committed, Copying, Live};
use Stage::{Final, Reclaimed, Restoring, Sealed, Tombstone};
use cutover::protocol::{
    AtPath, AtRetired, ClaimSeen, Intent, MarkerSeen, Observation, RecordSeen, RecordStage,
    SecondLock, Session, Stage, State, Step, TargetSeen, Was, classify,
};

/// The rule that `step` breaks, if it breaks one.
#[must_use]
pub fn broken(
    seen: &Observation,
    intent: Intent,
    session: &Session,
    step: Step,
) -> Option<&'static str> {
    let facts = Facts { seen, session };
    let acts = !matches!(step, Step::Confirm { .. } | Step::Done(_));
    if acts && !session.confirmed {
        return Some("what was found is made durable before anything is done");
    }
    // Only a person who was told of a contradiction goes on from one.
    let from_contradiction = matches!(intent, Intent::Discard | Intent::ReplaceTarget);
    if acts && !from_contradiction && classify(seen).is_err() {
        return Some("nothing is done where the facts are no state");
    }
    facts.rules(intent, step).into_iter().find(|(holds, _)| !holds).map(|(_, rule)| rule)
}

type Rule = (bool, &'static str);

struct Facts<'a> {
    seen: &'a Observation,
    session: &'a Session,
}

impl Facts<'_> {
    fn markers(&self) -> impl Iterator<Item = MarkerSeen> {
        self.seen.sources.iter().filter_map(|source| match source.path {
            AtPath::Marker(marker) => Some(marker),
            AtPath::Nothing | AtPath::Directory(_) | AtPath::Damaged | AtPath::Foreign => None,
        })
    }

    fn marker(&self, source: usize) -> Option<MarkerSeen> {
        match self.path(source) {
            AtPath::Marker(marker) => Some(marker),
            AtPath::Nothing | AtPath::Directory(_) | AtPath::Damaged | AtPath::Foreign => None,
        }
    }

    fn path(&self, source: usize) -> AtPath {
        self.seen.sources[source].path
    }

    fn retired(&self, source: usize) -> AtRetired {
        self.seen.sources[source].retired
    }

    fn record(&self) -> Option<RecordSeen> {
        match self.seen.target {
            TargetSeen::Record(record) => Some(record),
            TargetSeen::None
            | TargetSeen::NoRecord
            | TargetSeen::Unreadable
            | TargetSeen::Unreachable
            | TargetSeen::MainFileGone => None,
        }
    }

    fn record_is(&self, stages: &[RecordStage]) -> bool {
        self.record().is_some_and(|record| stages.contains(&record.stage))
    }

    /// It is known that there is no record.
    fn no_record(&self) -> bool {
        matches!(self.seen.target, TargetSeen::None | TargetSeen::NoRecord)
    }

    /// I-1: what was live may be live still, without a record.
    fn may_be_live(&self) -> bool {
        self.seen.target == TargetSeen::NoRecord && self.markers().any(|m| m.stage == Final)
    }

    /// No record was ever begun: every marker is as it was when it was sealed.
    fn never_begun(&self) -> bool {
        self.markers().count() > 0
            && self.markers().all(|marker| marker.stage == Sealed && marker.run.attempt == 1)
            && self.record().is_none()
    }

    /// Of the target nothing can be known, and nothing is asked: what was only sealed goes back.
    fn only_goes_back(&self, intent: Intent) -> bool {
        matches!(intent, Intent::Abort | Intent::AbortCommitted) && self.never_begun()
    }

    /// Whether the claim is not of the migration that this session gave back.
    fn claim_is_anothers(&self) -> bool {
        let opened = self.session.opened;
        matches!(self.seen.claim, ClaimSeen::Id(id) if opened.is_some_and(|opened| opened != id))
    }

    fn nothing_elsewhere(&self) -> bool {
        self.seen.elsewhere.is_empty()
    }

    /// Every marker that there is, is at one of `stages`.
    fn only(&self, stages: &[Stage]) -> bool {
        self.markers().all(|marker| stages.contains(&marker.stage))
    }

    /// Every source has a marker, at one of `stages`.
    fn all(&self, stages: &[Stage]) -> bool {
        self.only(stages) && self.markers().count() == self.seen.sources.len()
    }

    /// I-6: markers and record are of one migration and attempt.
    fn one_run(&self) -> bool {
        self.record().is_some_and(|record| self.markers().all(|marker| marker.run == record.run))
    }

    /// I-6: this session raised every marker, so no older record can pass for theirs.
    fn raised(&self) -> bool {
        self.markers().all(|marker| Some(marker.run.attempt) == self.session.fresh)
    }

    fn rules(&self, intent: Intent, step: Step) -> Vec<Rule> {
        let unfinished = self.record_is(&[Copying, Committed]);
        let live = self.record_is(&[Live]);
        match step {
            Step::Confirm { record } => vec![
                (!self.session.confirmed, "it is confirmed once"),
                (record || !unfinished, "an unfinished record is confirmed with the markers"),
                (record || intent != Intent::Reclaim, "what is freed is durable in the target"),
            ],
            Step::Claim(id) => vec![
                (self.seen.claim != ClaimSeen::Id(id), "the claim says so already"),
                (self.seen.claim != ClaimSeen::Unreadable, "what can't be read is not replaced"),
                (self.markers().all(|marker| marker.run.id == id), "the claim is the markers'"),
                (
                    self.record().is_none_or(|record| record.run.id == id),
                    "the claim is the record's",
                ),
            ],
            Step::Unclaim => vec![
                (self.no_record(), "a record needs its claim"),
                (self.markers().count() == 0, "markers need their claim"),
                (!self.claim_is_anothers(), "another migration's claim stays"),
            ],
            Step::Seal { source, run } => vec![
                (self.no_record(), "I-6: nothing is sealed beside a record"),
                (self.nothing_elsewhere(), "nothing is sealed while another target is named"),
                (
                    matches!(
                        self.path(source),
                        AtPath::Nothing | AtPath::Directory(SecondLock::Native)
                    ),
                    "what is sealed is a store, or nothing",
                ),
                (self.retired(source) == AtRetired::Nothing, "the retired name is free"),
                (
                    self.seen.claim == ClaimSeen::Id(run.id),
                    "the claim stands before the first seal",
                ),
                (self.only(&[Sealed]), "a source is sealed beside sealed ones alone"),
                (
                    self.markers().all(|marker| marker.run.id == run.id),
                    "seals are of one migration",
                ),
            ],
            Step::Mark { source, stage, attempt } => match self.marker(source) {
                Some(found) => self.mark(intent, found, stage, attempt),
                None => vec![(false, "a marker is replaced where one stands")],
            },
            Step::PutBack { source, run } => vec![
                (live, "a tombstone comes back beside a live target alone"),
                (self.path(source) == AtPath::Nothing, "it is put where nothing stands"),
                (
                    self.record().is_some_and(|record| record.run == run),
                    "it is of the record's run",
                ),
            ],
            Step::Unseal { source, id } => vec![
                (
                    self.no_record() || self.only_goes_back(intent),
                    "I-1: no source opens beside a record",
                ),
                (self.nothing_elsewhere(), "I-5: nor while another target is named"),
                (
                    self.marker(source).is_some_and(|marker| marker.run.id == id),
                    "what is unsealed is sealed, as of this migration",
                ),
                (
                    self.only(&[Restoring])
                        || (self.only(&[Sealed]) && self.raised())
                        || self.only_goes_back(intent),
                    "I-5: no source opens from behind a tombstone, nor before all are raised",
                ),
                (
                    self.retired(source) != AtRetired::Directory(SecondLock::Held),
                    "the second lock is lifted first",
                ),
            ],
            Step::HoldVersion(source) => vec![
                (
                    self.retired(source) == AtRetired::Directory(SecondLock::Native),
                    "it is set where it is missing",
                ),
                (
                    self.marker(source).is_some_and(|m| matches!(m.stage, Tombstone | Final)),
                    "the second lock is a tombstone's",
                ),
                (!unfinished, "it is not set while the store is read"),
            ],
            Step::ReleaseVersion(source) => vec![
                (
                    self.retired(source) == AtRetired::Directory(SecondLock::Held),
                    "it is lifted where it is set",
                ),
                (self.no_record() || self.only_goes_back(intent), "it is lifted for an unseal"),
                (self.only(&[Sealed, Restoring]), "it is not lifted from behind a tombstone"),
            ],
            Step::DeleteRetired(source) => vec![
                (live, "I-3: bytes are freed beside a live target alone"),
                (self.all(&[Reclaimed]), "every marker says so before the first byte goes"),
                (
                    matches!(self.retired(source), AtRetired::Directory(_)),
                    "there is a store to free",
                ),
                (intent == Intent::Reclaim, "somebody asked for it"),
            ],
            Step::Tidy(source) => vec![(
                self.seen.sources[source].temporary
                    || matches!(self.retired(source), AtRetired::Marker(_)),
                "only what was left over is tidied away",
            )],
            Step::BeginCopy(run) => vec![
                (self.no_record(), "there is no record yet"),
                (self.nothing_elsewhere(), "nor another target"),
                (
                    self.all(&[Sealed]) || self.all(&[Tombstone]),
                    "I-3: every source is sealed before the first byte is copied",
                ),
                (self.raised(), "I-6: every marker is raised first"),
                (self.markers().all(|marker| marker.run == run), "the record is the markers'"),
                (self.seen.claim == ClaimSeen::Id(run.id), "the claim stands"),
            ],
            Step::Copy | Step::Verify | Step::Prepare | Step::Commit => self.copying(intent, step),
            Step::GoLive => vec![
                (self.record_is(&[Committed]), "the commit point has passed"),
                (self.all(&[Tombstone]), "I-1: every source has its tombstone"),
                (self.session.failed.is_empty(), "I-4: a tombstone that failed may not be durable"),
                (self.one_run(), "I-6: all are of one run"),
            ],
            Step::DropRecord => vec![
                (unfinished, "I-3: a live record is never dropped"),
                (
                    match intent {
                        Intent::Abort => self.record_is(&[Copying]),
                        Intent::AbortCommitted => true,
                        Intent::Discard => classify(self.seen).is_err(),
                        _ => false,
                    },
                    "somebody asked for it",
                ),
            ],
            Step::GiveUp => vec![
                (intent == Intent::Finish, "tombstones are given up where they are set"),
                (
                    (0..self.seen.sources.len()).all(|source| {
                        self.marker(source).is_none_or(|marker| marker.stage != Sealed)
                            || self.session.failed.contains(&source)
                    }),
                    "every tombstone was tried",
                ),
                (!self.session.failed.is_empty(), "some tombstone failed"),
            ],
            Step::Done(state) => self.done(intent, state),
            _ => vec![(false, "a step that has no rule")],
        }
    }

    fn mark(&self, intent: Intent, found: MarkerSeen, to: Stage, attempt: u32) -> Vec<Rule> {
        let same_attempt = attempt == found.run.attempt;
        let raised = attempt > found.run.attempt || self.session.fresh == Some(attempt);
        // The marker names another target than the one whose record is dropped next.
        let moved = found.stage == to
            && !found.target
            && matches!(intent, Intent::Abort | Intent::AbortCommitted)
            && self.record_is(&[Copying, Committed]);
        if moved {
            return vec![(same_attempt, "a marker keeps the record's attempt")];
        }
        let replaced = intent == Intent::ReplaceTarget;
        let without_record = (self.no_record() && raised, "I-6: raised, and without a record");
        match (found.stage, to) {
            (Sealed | Tombstone | Final, Tombstone) if intent == Intent::Rerun => vec![
                without_record,
                (!self.may_be_live(), "I-1: what may be live is not copied anew"),
                (!self.markers().any(|m| m.stage == Restoring), "what is given back is not rerun"),
                (self.all(&[Sealed, Tombstone, Final]), "I-5: every source is fenced"),
            ],
            (Final, Tombstone) => {
                vec![without_record, (replaced, "somebody gave up what was live")]
            }
            (Sealed, Tombstone) => vec![
                (self.record_is(&[Committed]), "the commit point has passed"),
                (same_attempt && self.one_run(), "I-6: all are of one run"),
                (self.all(&[Sealed, Tombstone]), "every source is sealed"),
            ],
            (Tombstone, Final) => vec![
                (self.record_is(&[Live]), "the target is live"),
                (same_attempt && self.one_run(), "I-6: all are of one run"),
                (self.all(&[Tombstone, Final, Reclaimed]), "every source has its tombstone"),
            ],
            (Final, Reclaimed) => vec![
                (intent == Intent::Reclaim, "somebody asked for it"),
                (self.record_is(&[Live]), "the target is live"),
                (same_attempt && self.one_run(), "I-6: all are of one run"),
                (self.all(&[Final, Reclaimed]), "every marker is final"),
            ],
            (Sealed, Sealed) => vec![
                without_record,
                (self.only(&[Sealed]) || replaced, "no source is sealed beside a tombstone"),
            ],
            // An abort of a rerun ends at the tombstones, and they stay.
            (from, to) if from == to => {
                vec![
                    without_record,
                    (replaced || from == Tombstone, "a marker is raised for a reason"),
                ]
            }
            (Sealed | Tombstone | Final, Restoring) => vec![
                without_record,
                (!self.may_be_live(), "I-1: nothing is given back beside what may be live"),
                (intent == Intent::RestoreKv, "somebody asked for it"),
                (self.nothing_elsewhere(), "I-5: no other target is named"),
            ],
            _ => vec![(false, "a marker never goes that way")],
        }
    }

    fn copying(&self, intent: Intent, step: Step) -> Vec<Rule> {
        let copied = self.record().is_some_and(|record| record.copied);
        let Session { verified, prepared, .. } = *self.session;
        vec![
            (self.record_is(&[Copying]), "a copy is under way"),
            (self.all(&[Sealed]) || self.all(&[Tombstone]), "I-3: every source is sealed"),
            (self.one_run(), "I-6: all are of one run"),
            (copied != (step == Step::Copy), "what is copied is verified, and not copied again"),
            (!matches!(step, Step::Prepare | Step::Commit) || verified, "it is verified"),
            (step != Step::Commit || prepared, "the tombstones lie ready"),
            (step != Step::Commit || intent == Intent::Copy, "somebody asked for the commit"),
        ]
    }

    fn done(&self, intent: Intent, state: State) -> Vec<Rule> {
        let open = self.markers().count() == 0;
        // An abort that asked nothing of the target is at its end: every source is open.
        let given_back = matches!(intent, Intent::Abort | Intent::AbortCommitted)
            && open
            && state == State::Fresh
            && self.record().is_none();
        let mut rules = vec![(
            intent == Intent::ReplaceTarget || given_back || classify(self.seen) == Ok(state),
            "what is reported is the state",
        )];
        match intent {
            Intent::UseKv => rules.extend([
                (self.session.confirmed, "what is handed out was made durable"),
                (
                    self.no_record() && open && state == State::Fresh,
                    "I-1: the KV side is the only one",
                ),
                (self.nothing_elsewhere(), "I-5: no other target is named"),
                (
                    !matches!(self.seen.claim, ClaimSeen::Id(_))
                        || self.session.skipped.contains(&Step::Unclaim)
                        || self.claim_is_anothers(),
                    "no claim is left",
                ),
            ]),
            Intent::UseSql | Intent::Reclaim => rules.extend([
                (self.session.confirmed, "what is handed out was made durable"),
                (self.record_is(&[Live]), "the target is live"),
                (self.all(&[Final, Reclaimed]), "I-1: every marker is final"),
                (self.one_run(), "I-6: all are of one run"),
                (intent != Intent::Reclaim || self.freed(), "every byte is freed"),
            ]),
            Intent::Abort | Intent::AbortCommitted | Intent::RestoreKv => {
                rules.push((self.no_record() || given_back, "no record is left"));
            }
            Intent::Rerun => {
                rules.push((state == State::Migrating { rerun: true }, "a rerun is under way"));
            }
            Intent::Prepare => rules.extend([
                (self.record_is(&[Copying]), "nothing is committed"),
                (self.record().is_some_and(|record| record.copied), "every pair is copied"),
                (self.session.verified && self.session.prepared, "all is done but the commit"),
            ]),
            Intent::Begin(_)
            | Intent::Copy
            | Intent::Finish
            | Intent::ReplaceTarget
            | Intent::Discard => {}
        }
        rules
    }

    fn freed(&self) -> bool {
        self.only(&[Reclaimed])
            && (0..self.seen.sources.len()).all(|source| {
                self.marker(source).is_some_and(|m| m.was == Was::Nothing)
                    || self.retired(source) == AtRetired::Nothing
            })
    }
}
