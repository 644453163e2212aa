//! Mistakes in the order of durable steps. Each is made in every place where it can be, and the
//! search must find what it breaks.

use super::world::{Change, World};
use cutover::protocol::{
    AtPath, AtRetired, ClaimSeen, Intent, MarkerSeen, NotAllowed, Observation, SecondLock, Session,
    Stage, Step, TargetSeen, Was, next,
};
use std::collections::VecDeque;

/// The name of a step, as mutants know it: what is done to a marker is told by what for.
pub type Kind = &'static str;

/// What is wrong with the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Nothing: the protocol as it is shipped.
    Shipped,
    /// A step leaves out its change of this name, and of that name the one with this number.
    Drops(Kind, &'static str, usize),
    /// A step makes the first of these two changes, the one with this number, behind the second.
    Swaps(Kind, usize, [&'static str; 2]),
    /// The second step, which follows the first, is done before it.
    Hurries(Kind, Kind),
    /// A step is left out, and taken for done.
    Skips(Kind),
    /// A check is left out: what it would find is not seen.
    Blind(Eye),
}

/// What a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eye {
    Record,
    NoRecord,
    RecordAttempt,
    RecordId,
    MarkerIds,
    MarkerSource,
    Claim,
    Elsewhere,
    Final,
    Reclaimed,
    Restoring,
    RetiredGone,
    OpenBesideMarkers,
    TwoStores,
    SwappedBack,
    HeldAtPath,
    DamagedMarker,
    ForeignFile,
    MainFileGone,
    UnreadableTarget,
    UnreadableClaim,
}

/// Every check that can be left out.
pub const EYES: [Eye; 21] = [
    Eye::Record,
    Eye::NoRecord,
    Eye::RecordAttempt,
    Eye::RecordId,
    Eye::MarkerIds,
    Eye::MarkerSource,
    Eye::Claim,
    Eye::Elsewhere,
    Eye::Final,
    Eye::Reclaimed,
    Eye::Restoring,
    Eye::RetiredGone,
    Eye::OpenBesideMarkers,
    Eye::TwoStores,
    Eye::SwappedBack,
    Eye::HeldAtPath,
    Eye::DamagedMarker,
    Eye::ForeignFile,
    Eye::MainFileGone,
    Eye::UnreadableTarget,
    Eye::UnreadableClaim,
];

/// A step, and the changes that it makes, in order.
type Chosen<const N: usize> = Option<(Step, VecDeque<Change<N>>)>;

impl Mutant {
    /// The step that comes next; none where there is none.
    pub fn choose<const N: usize>(
        self,
        world: &World<N>,
        intent: Intent,
        session: &Session,
    ) -> Chosen<N> {
        match self {
            Self::Shipped => chosen(world, ask(world, intent, session)),
            Self::Drops(of, name, number) => {
                let (step, mut changes) = chosen(world, ask(world, intent, session))?;
                let mut named = changes.iter().enumerate().filter(|(_, it)| it.name() == name);
                let at = named.nth(number).map(|(at, _)| at);
                if kind(world, step) == of
                    && let Some(at) = at
                {
                    changes.remove(at);
                }
                Some((step, changes))
            }
            Self::Swaps(of, at, names) => {
                let (step, mut changes) = chosen(world, ask(world, intent, session))?;
                let found = changes.iter().skip(at).take(2).map(|change| change.name());
                if kind(world, step) == of && found.eq(names) {
                    changes.swap(at, at + 1);
                }
                Some((step, changes))
            }
            Self::Hurries(first, second) => {
                let (step, changes) = chosen(world, ask(world, intent, session))?;
                if kind(world, step) == first
                    && let Some((then, mut hurried)) = after(world, intent, session, step)
                    && then == second
                {
                    hurried.extend(changes);
                    return Some((step, hurried));
                }
                Some((step, changes))
            }
            Self::Skips(skipped @ ("Raise" | "Raise before BeginCopy" | "Raise before Unseal")) => {
                let mut session = session.clone();
                let aborts = matches!(intent, Intent::Abort | Intent::AbortCommitted);
                let is_kept = match skipped {
                    "Raise before BeginCopy" => aborts,
                    "Raise before Unseal" => !aborts,
                    _ => false,
                };
                if is_kept {
                    return chosen(world, ask(world, intent, &session));
                }
                let attempt = |(_, marker): (usize, super::world::Marker)| marker.run.attempt;
                let first = world.markers().map(attempt).next();
                if first.is_some() && world.markers().map(attempt).all(|other| Some(other) == first)
                {
                    session.fresh = session.fresh.or(first);
                }
                chosen(world, ask(world, intent, &session))
            }
            Self::Skips("Confirm the record") => {
                match chosen(world, ask(world, intent, session))? {
                    (Step::Confirm { .. }, _) => {
                        let step = Step::Confirm { record: false };
                        world.changes(step).map(|changes| (step, changes))
                    }
                    other => Some(other),
                }
            }
            Self::Skips(skipped) => {
                let (mut world, mut session) = (world.clone(), session.clone());
                loop {
                    let (step, changes) = chosen(&world, ask(&world, intent, &session))?;
                    if kind(&world, step) != skipped {
                        return Some((step, changes));
                    }
                    for change in changes {
                        // It is not even compared.
                        if change != Change::Compare {
                            world.apply(change)?;
                        }
                    }
                    session.done(step);
                }
            }
            Self::Blind(eye) => {
                let seen = eye.closed(world.observe());
                chosen(world, next(&seen, intent, session))
            }
        }
    }
}

fn ask<const N: usize>(
    world: &World<N>,
    intent: Intent,
    session: &Session,
) -> Result<Step, NotAllowed> {
    next(&world.observe(), intent, session)
}

fn chosen<const N: usize>(world: &World<N>, step: Result<Step, NotAllowed>) -> Chosen<N> {
    let step = step.ok()?;
    Some((step, world.changes(step)?))
}

/// The step that follows `step` in the same session, and its changes.
pub fn after<const N: usize>(
    world: &World<N>,
    intent: Intent,
    session: &Session,
    step: Step,
) -> Option<(Kind, VecDeque<Change<N>>)> {
    let (mut world, mut session) = (world.clone(), session.clone());
    for change in world.changes(step)? {
        world.apply(change)?;
    }
    session.done(step);
    let (then, changes) = chosen(&world, ask(&world, intent, &session))?;
    Some((kind(&world, then), changes))
}

/// The name of a step.
pub fn kind<const N: usize>(world: &World<N>, step: Step) -> Kind {
    match step {
        Step::Confirm { .. } => "Confirm",
        Step::Claim(_) => "Claim",
        Step::Unclaim => "Unclaim",
        Step::Seal { .. } => "Seal",
        Step::Mark { source, stage, .. } => match (world.marker(source).map(|m| m.stage), stage) {
            (Some(found), stage) if found == stage => "Raise",
            (Some(Stage::Sealed), Stage::Tombstone) => "Tombstone",
            (_, Stage::Tombstone) => "Take back",
            (_, Stage::Final) => "Final",
            (_, Stage::Restoring) => "Restoring",
            (_, Stage::Reclaimed) => "Reclaimed",
            (_, Stage::Sealed) => "Raise",
        },
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
        other => panic!("the model does not know {other:?}"),
    }
}

impl Eye {
    /// What is seen with this eye closed.
    fn closed(self, mut seen: Observation) -> Observation {
        let first = seen.sources.iter().find_map(|source| match source.path {
            AtPath::Marker(marker) => Some(marker),
            AtPath::Nothing | AtPath::Directory(_) | AtPath::Damaged | AtPath::Foreign => None,
        });
        match self {
            Self::RecordAttempt | Self::RecordId => {
                if let (TargetSeen::Record(record), Some(first)) = (&mut seen.target, first) {
                    match self {
                        Self::RecordId => record.run.id = first.run.id,
                        _ => record.run.attempt = first.run.attempt,
                    }
                }
            }
            Self::Claim => {
                if let Some(first) = first {
                    seen.claim = ClaimSeen::Id(first.run.id);
                }
            }
            Self::UnreadableClaim => {
                if seen.claim == ClaimSeen::Unreadable {
                    seen.claim = first.map_or(ClaimSeen::None, |first| ClaimSeen::Id(first.run.id));
                }
            }
            Self::Record => seen.target = TargetSeen::None,
            Self::NoRecord => {
                for target in seen.elsewhere.iter_mut().chain([&mut seen.target]) {
                    if *target == TargetSeen::NoRecord {
                        *target = TargetSeen::None;
                    }
                }
            }
            Self::Elsewhere => seen.elsewhere.clear(),
            Self::MainFileGone if seen.target == TargetSeen::MainFileGone => {
                seen.target = TargetSeen::None;
            }
            Self::UnreadableTarget if seen.target == TargetSeen::Unreadable => {
                seen.target = TargetSeen::None;
            }
            Self::MainFileGone | Self::UnreadableTarget => {}
            Self::MarkerIds
            | Self::MarkerSource
            | Self::Final
            | Self::Reclaimed
            | Self::Restoring
            | Self::RetiredGone
            | Self::OpenBesideMarkers
            | Self::TwoStores
            | Self::SwappedBack
            | Self::HeldAtPath
            | Self::DamagedMarker
            | Self::ForeignFile => {
                for source in &mut seen.sources {
                    self.close_at(source, first);
                }
            }
        }
        seen
    }

    fn close_at(self, source: &mut cutover::protocol::SourceSeen, first: Option<MarkerSeen>) {
        let held = AtRetired::Directory(SecondLock::Held);
        match (&mut source.path, self) {
            (AtPath::Marker(marker), Self::MarkerIds) => {
                marker.run.id = first.map_or(marker.run.id, |first| first.run.id);
            }
            (AtPath::Marker(marker), Self::MarkerSource) => marker.source = true,
            (AtPath::Marker(marker), Self::Final) if marker.stage == Stage::Final => {
                marker.stage = Stage::Tombstone;
            }
            (AtPath::Marker(marker), Self::Reclaimed) if marker.stage == Stage::Reclaimed => {
                marker.stage = Stage::Final;
            }
            (AtPath::Marker(marker), Self::Restoring) if marker.stage == Stage::Restoring => {
                marker.stage = Stage::Sealed;
            }
            (AtPath::Marker(marker), Self::RetiredGone)
                if marker.was == Was::Directory && source.retired == AtRetired::Nothing =>
            {
                source.retired = held;
            }
            (AtPath::Directory(_) | AtPath::Nothing, Self::OpenBesideMarkers) => {
                if let Some(first) = first {
                    source.path = AtPath::Marker(first);
                    source.retired = held;
                }
            }
            (AtPath::Directory(_), Self::TwoStores) => source.retired = AtRetired::Nothing,
            (AtPath::Directory(version), Self::HeldAtPath) => *version = SecondLock::Native,
            (AtPath::Damaged, Self::DamagedMarker) | (AtPath::Foreign, Self::ForeignFile) => {
                source.path = first.map_or(AtPath::Nothing, AtPath::Marker);
            }
            _ => {}
        }
        if let (AtRetired::Marker(marker), Self::SwappedBack) = (&mut source.retired, self) {
            marker.stage = Stage::Sealed;
        }
    }
}
