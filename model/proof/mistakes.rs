//! Every mistake is found: each sync that can be left out, each two changes and each two steps that
//! can change places, each step that can be skipped, and each check that can be left out. Where one
//! breaks nothing, there is a reason.

use super::life::{Faults, Life, Met};
use super::mutants::{EYES, Eye, Kind, Mutant};
use super::search::explore;
use super::ways_out::follow;
use super::world::{ID, World};
use crate::common::{pinned, samples};
use cutover::protocol::Intent;
use std::fmt::Write;

/// The steps that can be taken for done although they are not.
const SKIPPED: [Kind; 14] = [
    "Confirm",
    "Confirm the record",
    "Claim",
    "Raise",
    "Raise before BeginCopy",
    "Raise before Unseal",
    "Verify",
    "Prepare",
    "Tombstone",
    "Final",
    "PutBack",
    "HoldVersion",
    "Restoring",
    "Reclaimed",
];

/// What is not found in this many worlds of one kind is looked for in the next.
const WORLDS_MAX: usize = 300_000;

type Search = fn(Mutant) -> Option<Found>;

/// The kinds of worlds that are searched, the smallest first.
const SEARCHES: [(&str, Search); 7] = [
    ("1, power cuts", |mutant| search::<1>(mutant, Faults::PowerCuts)),
    ("2, power cuts", |mutant| search::<2>(mutant, Faults::PowerCuts)),
    ("1, older SQL files", |mutant| search::<1>(mutant, Faults::OldCopies)),
    ("1, an operator's hands", |mutant| search::<1>(mutant, Faults::Hands(1))),
    ("1, older SQL files and power cuts", |mutant| search::<1>(mutant, Faults::OldCopiesAndCuts)),
    ("2, older SQL files", |mutant| search::<2>(mutant, Faults::OldCopies)),
    ("2 that are sealed, an operator's hands", |mutant| {
        let begin = [Intent::Begin(ID)];
        let sealed = follow(&World::fresh(0), &begin, Mutant::Shipped)?;
        look_for(Life::<2>::new(Faults::Hands(1), mutant).starting_from(sealed))
    }),
];

/// What is broken, and the shortest way to it.
struct Found {
    broken: String,
    trace: Vec<String>,
}

fn search<const N: usize>(mutant: Mutant, faults: Faults) -> Option<Found> {
    look_for(Life::<N>::new(faults, mutant))
}

fn look_for<const N: usize>(mut life: Life<N>) -> Option<Found> {
    let (broken, trace) = explore(&mut life, WORLDS_MAX).broken?;
    Some(Found { broken, trace })
}

/// Every mistake that the steps of the shipped protocol leave room for.
fn all(met: &Met) -> Vec<Mutant> {
    let mut mutants = Vec::new();
    for (kind, changes) in &met.steps {
        let is_sync = |name: &str| name.starts_with("syncs");
        for (at, name) in changes.iter().enumerate() {
            if is_sync(name) || *name == "compares" {
                let number = changes.iter().take(at).filter(|before| *before == name).count();
                mutants.push(Mutant::Drops(kind, name, number));
            }
            if let Some(next) = changes.get(at + 1)
                && !(is_sync(name) && is_sync(next))
            {
                mutants.push(Mutant::Swaps(kind, at, [name, next]));
            }
        }
    }
    let changes = |kind: &str| met.steps.get(kind).is_some_and(|changes| !changes.is_empty());
    let pairs = met.neighbours.iter().filter(|(_, then)| changes(then));
    mutants.extend(pairs.map(|(first, then)| Mutant::Hurries(first, then)));
    mutants.extend(SKIPPED.map(Mutant::Skips));
    mutants.extend(EYES.map(Mutant::Blind));
    mutants
}

/// A mistake, in words.
fn told(mutant: Mutant) -> String {
    match mutant {
        Mutant::Shipped => "none".to_owned(),
        Mutant::Drops(kind, name, number) => {
            format!("{kind} leaves out, for the {} time: {name}", ORDINALS[number])
        }
        Mutant::Swaps(kind, at, [first, then]) => {
            format!("{kind}, change {}: {first}, only after: {then}", at + 1)
        }
        Mutant::Hurries(first, then) => format!("{then} is done before {first}"),
        Mutant::Skips(kind) => format!("{kind} is skipped"),
        Mutant::Blind(eye) => format!("nobody looks at: {eye:?}"),
    }
}

const ORDINALS: [&str; 4] = ["first", "second", "third", "fourth"];

#[test]
fn every_mistake_is_found_or_there_is_a_reason_why_it_is_none() {
    const DOCUMENT: &str = "docs/mistakes.md";
    let mut shipped = Life::<2>::new(Faults::PowerCuts, Mutant::Shipped);
    explore(&mut shipped, usize::MAX);
    let mutants = all(&shipped.met);
    let written = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    let everywhere = samples() >= 100;
    let (mut found, mut none) = (Vec::new(), Vec::new());
    for mutant in &mutants {
        let what = told(*mutant);
        let row = written.lines().find(|line| line.starts_with(&format!("| {what} |")));
        // Where it was found before, and what breaks nothing in the smallest worlds alone.
        let worlds = SEARCHES.iter().enumerate().filter(|(number, (name, _))| {
            let is_here = row.is_none_or(|row| row.ends_with(&format!("| {name} |")));
            match reason(*mutant) {
                Some(_) => everywhere || *number == 0,
                None => everywhere || is_here,
            }
        });
        let mut searched =
            worlds.filter_map(|(_, (name, search))| search(*mutant).map(|found| (found, name)));
        match (searched.next(), reason(*mutant)) {
            (Some((Found { broken, trace }, name)), None) => {
                println!("{what}: {broken}\n  {}", trace.join("\n  "));
                found.push(format!("| {what} | {broken} | {} | {name} |", trace.len()));
            }
            (None, Some(reason)) => none.push(format!("| {what} | {reason} |")),
            (Some((Found { broken, .. }, _)), Some(reason)) => {
                found.push(format!("| {what} | {broken}, though: {reason} |"));
            }
            (None, None) => found.push(format!("| {what} | SURVIVES |")),
        }
    }
    let stuck = found.iter().filter(|row| row.contains("| I-4: [")).count();
    let mut text = format!(
        "# Mistakes in the order\n\n\
         {} mistakes: {} of them break an invariant, {stuck} of these by getting stuck, and {} break \
         nothing, with the reason.\n\
         Written by `CUTOVER_PIN=1 cargo test --all-features --test model every_mistake`; with \
         `-- --nocapture` it prints the\nshortest way to each. What breaks nothing is looked \
         for in worlds of\none source and power cuts, and with `CUTOVER_SWEEP=100` in all of them, {WORLDS_MAX} \
         of each kind at most.\n\n\
         ## Found\n\n\
         The table gives the length of the shortest way to it in moves, and the number of sources of the worlds where the named \
         things go wrong.\n\n\
         | mistake | breaks | moves | sources, worlds |\n|---|---|---|---|\n",
        mutants.len(),
        found.len(),
        none.len(),
    );
    for row in &found {
        writeln!(text, "{row}").unwrap();
    }
    text.push_str(
        "\n## None\n\nWhat is made durable, or done, more often or earlier than these invariants \
         need.\n\n| mistake | why it breaks nothing |\n|---|---|\n",
    );
    for row in &none {
        writeln!(text, "{row}").unwrap();
    }
    pinned(DOCUMENT, &text);
    assert!(!text.contains("SURVIVES") && !text.contains(", though: "), "{text}");
}

/// Why a mistake breaks nothing.
fn reason(mutant: Mutant) -> Option<&'static str> {
    const SECOND_LOCK: &str = "without an operator's hands nothing leans on the second lock";
    const SOURCES: &str = "the order among sources is free: each is marked before what follows";
    const LEFT_OVER: &str = "what is left over again is tidied up again";
    const CONFIRMED: &str = "who goes on from it confirms it first";
    Some(match mutant {
        Mutant::Drops("BeginCopy" | "Copy", ..) | Mutant::Swaps("BeginCopy" | "Copy", ..) => {
            "what a power cut takes back of a copy is copied again; its end is confirmed first"
        }
        Mutant::Drops("Commit", ..) | Mutant::Swaps("Commit", ..) => {
            "`Finish` confirms the commit first; this sync is for the caller, who hears of it"
        }
        Mutant::Swaps("Unseal", 0, _) => {
            "a folder's own changes are left in their order here: the sync is for where they are not"
        }
        Mutant::Drops("Confirm", "syncs the marker", _) => {
            "every marker is synced before it gets its name"
        }
        Mutant::Drops("Confirm", "syncs the claim", _) => {
            "it was synced before the first marker; one that is found alone is written anew"
        }
        Mutant::Drops("Confirm", "syncs the other targets", _) => {
            "it takes two acts of an operator, which a test of its own has"
        }
        Mutant::Drops("Seal", "syncs the folder", _) | Mutant::Swaps("Seal", 2.., _) => {
            "before a record begins, the raise syncs the same folder, and a new session confirms"
        }
        Mutant::Drops("HoldVersion" | "ReleaseVersion", ..)
        | Mutant::Swaps("HoldVersion" | "ReleaseVersion", ..)
        | Mutant::Skips("HoldVersion")
        | Mutant::Hurries("HoldVersion", _)
        | Mutant::Hurries(_, "HoldVersion" | "ReleaseVersion") => SECOND_LOCK,
        Mutant::Drops("Prepare", ..)
        | Mutant::Swaps("Prepare", ..)
        | Mutant::Skips("Prepare")
        | Mutant::Hurries("Verify", "Prepare")
        | Mutant::Hurries("Prepare", "Commit") => {
            "preparing finds a full disk before the commit point; a tombstone is synced once more"
        }
        Mutant::Drops("DeleteRetired", ..) | Mutant::Swaps("DeleteRetired", ..) => {
            "bytes that a power cut brings back are freed by the next reclaim"
        }
        Mutant::Drops("Reclaimed", "syncs the folder", _) | Mutant::Swaps("Reclaimed", 2, _) => {
            "a store that is gone is reported under a final marker too, in other words"
        }
        Mutant::Drops("Tidy" | "Unclaim", ..)
        | Mutant::Drops("Unseal", "syncs the folder", 1)
        | Mutant::Swaps("Tidy" | "Unclaim", ..)
        | Mutant::Swaps("Unseal", 1.., _)
        | Mutant::Hurries("Tidy", "Claim" | "Raise" | "Reclaimed" | "Unclaim" | "Unseal")
        | Mutant::Hurries("Confirm" | "Unseal", "Tidy") => LEFT_OVER,
        Mutant::Hurries(first, then) if first == then => SOURCES,
        Mutant::Hurries("Raise", "Take back" | "Tombstone")
        | Mutant::Hurries("Take back" | "Tombstone" | "Seal", "Raise") => SOURCES,
        Mutant::Hurries("BeginCopy", "Copy") => "the empty record is written last, and copied into",
        Mutant::Hurries("Confirm", "Copy" | "Verify" | "DropRecord" | "Reclaimed" | "Seal") => {
            CONFIRMED
        }
        Mutant::Blind(Eye::UnreadableClaim) => {
            "a claim file that is there shows that its volume is, whatever is in it"
        }
        Mutant::Blind(Eye::MarkerSource) => {
            "the run is compared anyway, and what a marker says stood there with what stands there"
        }
        _ => return None,
    })
}
