//! What is printed: by people to be read, or one JSON object.

use crate::exit::{CHANGED_SINCE, CONTRADICTION, INTERRUPTED, REFUSED, Stop, VERIFICATION};
use crate::progress::Shown;
use cutover::{
    Compared, Freed, Plan, Preview, QuarantineStatus, QuarantinedKeyspace, Skipped, SourceStatus,
    Status, Verified, VerifiedKeyspace,
};
use indicatif::HumanBytes;
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;

/// The first line of standard output that could not be printed, and why.
static UNPRINTED: OnceLock<std::io::Error> = OnceLock::new();

/// A line on standard output. One that can't be printed stops nothing that is at work; [`printed`]
/// tells of it at the end.
pub(crate) fn say(line: &str) {
    if let Err(error) = writeln!(std::io::stdout(), "{line}") {
        let _ = UNPRINTED.set(error);
    }
}

/// Whether everything that was said could be printed. A reader that has gone has read enough.
pub(crate) fn printed() -> Result<(), Stop> {
    match UNPRINTED.get() {
        Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(cant_print(error)),
        Some(_) | None => Ok(()),
    }
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1024 { format!("{bytes} bytes") } else { HumanBytes(bytes).to_string() }
}

/// A line on standard error.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub(crate) fn say_json(value: &impl Serialize) -> Result<(), Stop> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Stop::new(INTERRUPTED, format!("it can't be printed as JSON: {error}; leave out --json"))
    })?;
    print(format!("{text}\n").as_bytes())
}

/// What a program reads from standard output: it must not take a part for the whole.
pub(crate) fn print(text: &[u8]) -> Result<(), Stop> {
    let mut output = std::io::stdout();
    output.write_all(text).and_then(|()| output.flush()).map_err(|error| cant_print(&error))
}

pub(crate) fn cant_print(error: &std::io::Error) -> Stop {
    Stop::new(INTERRUPTED, format!("can't print: {error}; give it another output"))
}

/// The state's name where what is on disk fits none.
const CONTRADICTION_STATE: &str = "Contradiction";

/// `cutover status`.
pub(crate) fn status(plan: &Plan, json: bool) -> Result<(), Stop> {
    let status = cutover::status(plan)?;
    if json {
        say_json(&status)?;
    } else {
        tell_status(&status);
    }
    // Everything that there is to say has been printed.
    match &status.what {
        None => Ok(()),
        Some(_) if status.state == CONTRADICTION_STATE => Err(Stop::silent(CONTRADICTION)),
        // It is a state, and all that it says is how to go on from there.
        Some(_) if ["Tombstoned", "RerunAllowed"].contains(&status.state) => Ok(()),
        // A migration would be refused.
        Some(_) => Err(Stop::silent(REFUSED)),
    }
}

fn tell_status(status: &Status) {
    let rerun = if status.rerun { " (a rerun)" } else { "" };
    say(&format!("plan '{}': {}{rerun}", status.plan, status.state));
    if let Some(what) = &status.what {
        say(&format!("  what:  {what}"));
    }
    if let Some(next) = &status.next {
        say(&format!("  next:  {next}"));
    }
    if let Some(process) = &status.worked_on_by {
        say(&format!("  {process} works on it at this moment"));
    }
    for source in &status.sources {
        say(&format!("  source '{}' at {}: {}", source.name, source.path, standing(source)));
    }
    let target = &status.target;
    say(&format!("  target {}: {}", target.path, of_target(status)));
    if let Some(times) = &target.times {
        let later = [("committed", &times.committed), ("live", &times.live)];
        let later = later
            .iter()
            .filter_map(|(word, time)| time.as_ref().map(|time| format!(", {word} since {time}")));
        say(&format!("    copying since {}{}", times.copying, later.collect::<String>()));
    }
    if let Some(quarantine) = &target.quarantine {
        tell_quarantine(quarantine);
    }
    for verb in &status.can {
        say(&format!("  can:   cutover {:<12} {}", verb.verb, verb.does));
    }
}

/// Where pairs went that their mappings refused, if any did.
pub(crate) fn quarantine(plan: &Plan) -> Result<(), Stop> {
    if let Some(quarantine) = &cutover::status(plan)?.target.quarantine {
        tell_quarantine(quarantine);
    }
    Ok(())
}

fn tell_quarantine(quarantine: &QuarantineStatus) {
    let QuarantineStatus { table, pairs, keyspaces, .. } = quarantine;
    say(&format!("    in quarantine: {pairs} pairs, with the reasons, in table '{table}'"));
    for QuarantinedKeyspace { source, keyspace, pairs, .. } in keyspaces {
        say(&format!("      {source}/{}: {pairs}", keyspace.escape_debug()));
    }
}

/// `cutover verify`.
pub(crate) fn verified(plan: &Plan, verified: &Verified, json: bool) -> Result<(), Stop> {
    if json {
        say_json(verified)?;
    } else {
        tell_verified(verified);
        quarantine(plan)?;
    }
    let is_lost = |found: &VerifiedKeyspace| {
        matches!(found.target, Compared::Missing | Compared::Differs { .. })
    };
    if verified.is_whole() {
        Ok(())
    } else if verified.stores_differ() || verified.keyspaces.iter().any(is_lost) {
        Err(Stop::silent(VERIFICATION))
    } else if !verified.is_complete() {
        // Not to be able to look is no difference.
        Err(Stop::silent(REFUSED))
    } else {
        Err(Stop::silent(CHANGED_SINCE))
    }
}

fn tell_verified(verified: &Verified) {
    for found in &verified.keyspaces {
        say(&format!(
            "{}/{}: {} pairs copied; retired store: {}; SQL database: {}",
            found.source,
            found.keyspace.escape_debug(),
            found.pairs,
            compared(&found.store),
            compared(&found.target)
        ));
    }
    // Of one whose keyspaces are named, these say it.
    for store in &verified.stores {
        if !verified.keyspaces.iter().any(|found| found.source == store.source) {
            let is = match &store.store {
                Compared::Same => "as sealed".to_owned(),
                other => compared(other),
            };
            say(&format!("{}: no keyspace copied; retired store: {is}", store.source));
        }
    }
    let is_unread = |found: &VerifiedKeyspace| matches!(found.target, Compared::Unread { .. });
    let is_freed = |found: &VerifiedKeyspace| found.store == Compared::Freed;
    let has_copied = verified.pairs() > 0;
    say(if verified.stores_differ() {
        "the retired stores do NOT hold what was copied: keep them, and find out what changed them"
    } else if !verified.stores_are_whole() {
        "the retired stores were NOT all compared, so it is not known whether they hold what was \
         copied: see above what is in the way, and run verify again"
    } else if verified.keyspaces.iter().any(is_freed) {
        "the retired stores were freed by reclaim"
    } else if has_copied {
        "the retired stores hold what was copied"
    } else {
        "the retired stores are as they were sealed, and no pair was in what was copied of them"
    });
    say(if verified.target_is_whole() && has_copied {
        "the SQL database holds what was copied"
    } else if verified.target_is_whole() {
        "nothing was copied into the SQL database, and its tables hold nothing"
    } else if verified.keyspaces.iter().any(is_unread) {
        "the SQL database was NOT all compared, so it is not known whether it holds what was copied: \
         see above what is in the way, and run verify again"
    } else {
        "the SQL database does not hold what was copied any more; once the daemon has written to it, \
         differences there are its own writes"
    });
    say(&format!("this is migration {}", verified.id));
}

fn compared(found: &Compared) -> String {
    match found {
        Compared::Same => "as copied".to_owned(),
        Compared::Changed { pairs, .. } => format!("CHANGED, {pairs} pairs now"),
        Compared::Freed => "freed".to_owned(),
        Compared::NeverThere => "there was none".to_owned(),
        Compared::Missing => "MISSING".to_owned(),
        Compared::Differs { how } => format!("DIFFERS ({how})"),
        Compared::Unread { reason } => format!("NOT COMPARED ({reason})"),
        _ => "not known to this command".to_owned(),
    }
}

fn standing(source: &SourceStatus) -> String {
    let marker = match (source.marker, source.directory) {
        ("none", true) => "open".to_owned(),
        ("none", false) => "nothing is there".to_owned(),
        (marker, _) => format!("marker '{marker}'"),
    };
    let lock = if source.second_lock { " (second lock set)" } else { "" };
    let words = [
        Some(marker),
        source.attempt.map(|attempt| format!("attempt {attempt}")),
        source.retired.as_ref().map(|retired| format!("retired store at {retired}{lock}")),
        source.retired_differs.as_ref().map(|differs| {
            let retired = format!("{}.retired", source.path);
            let place = source.retired.as_ref().unwrap_or(&retired);
            format!("the retired store at {place} is not what was sealed: {differs}")
        }),
        source.retired_unread.as_ref().map(|reason| {
            format!("the retired store could not be compared with what was sealed: {reason}")
        }),
        source.retired_is_unknown().then(|| UNKNOWN.to_owned()),
        (!source.left_over.is_empty()).then(|| {
            format!("left by a killed run, and removed by the next: {}", shown(&source.left_over))
        }),
        (!source.foreign.is_empty())
            .then(|| format!("not the store's own: {}", shown(&source.foreign))),
        source.in_use_by.as_ref().map(|process| format!("in use by {process}")),
        source.detail.clone(),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Files that are named in a line; the others are counted.
const FILES_SHOWN: usize = 20;

/// Names of files on one line: nobody's cursor is moved by one.
fn shown(files: &[String]) -> String {
    let mut shown: Vec<String> =
        files.iter().take(FILES_SHOWN).map(|file| file.escape_debug().to_string()).collect();
    if files.len() > FILES_SHOWN {
        shown.push(format!("and {} more", files.len() - FILES_SHOWN));
    }
    shown.join(", ")
}

/// What lies in the stores' folders and is not theirs: it goes along and is never deleted.
pub(crate) fn foreign(plan: &Plan) -> Result<(), Stop> {
    for source in &cutover::status(plan)?.sources {
        if !source.foreign.is_empty() {
            say(&format!(
                "note: the folder of source '{}' also holds what is not the store's own: {}; it \
                 moves along to {}.retired, and reclaim leaves it there",
                source.name,
                shown(&source.foreign),
                source.path
            ));
        }
    }
    Ok(())
}

/// How a retired store stands of which nothing says what was sealed.
const UNKNOWN: &str =
    "nothing says what was sealed, since its marker is gone or was put back, so it is not compared";

/// The retired stores that are not known to be as they were sealed, each with how it stands.
#[derive(Default)]
pub(crate) struct Unlike {
    pub(crate) changed: Vec<String>,
    /// Those that could not be looked at.
    pub(crate) unread: Vec<String>,
}

impl Unlike {
    pub(crate) const fn is_none(&self) -> bool {
        self.changed.is_empty() && self.unread.is_empty()
    }
}

/// Says how each retired store stands beside what was sealed: `all` of them, or those alone that are not
/// known to be as they were.
pub(crate) fn retired(status: &Status, all: bool) -> Unlike {
    let mut unlike = Unlike::default();
    for source in &status.sources {
        let retired = match (&source.retired, &source.retired_differs) {
            (Some(retired), _) => retired.clone(),
            (None, Some(_)) => format!("{}.retired", source.path),
            (None, None) => continue,
        };
        let named = |how: &str| format!("'{}' at {retired}: {how}", source.name);
        let stands = match (&source.retired_differs, &source.retired_unread) {
            (Some(differs), _) => {
                unlike.changed.push(named(differs));
                format!("NOT as it was sealed: {differs}")
            }
            (None, Some(reason)) => {
                unlike.unread.push(named(reason));
                format!("NOT COMPARED with what was sealed: {reason}")
            }
            (None, None) if source.retired_is_unknown() => {
                unlike.changed.push(named(UNKNOWN));
                UNKNOWN.to_owned()
            }
            (None, None) if !all => continue,
            (None, None) if source.marker == "reclaimed" => {
                "marked to be freed, and what is left of it is as it was sealed".to_owned()
            }
            (None, None) => "as it was sealed, by its files' names and lengths".to_owned(),
        };
        say(&format!("  source '{}' at {retired}: {stands}", source.name));
    }
    unlike
}

/// What a reclaim did to each source.
pub(crate) fn freed(freed: &[Freed]) {
    for Freed { source, retired, stood, bytes, rest, .. } in freed {
        let retired = retired.display();
        say(&match (stood, rest.is_empty()) {
            (true, true) => format!("source '{source}': {} freed", size(*bytes)),
            (false, true) => {
                format!("source '{source}': nothing stood at {retired}, so nothing was freed")
            }
            (_, false) => format!(
                "source '{source}': {} freed; {retired} stays, with what is not the store's own: {}",
                size(*bytes),
                shown(rest)
            ),
        });
    }
    if freed.is_empty() {
        say("no source had a store, so nothing was freed");
    }
}

fn of_target(status: &Status) -> String {
    let target = &status.target;
    match (target.record, target.attempt) {
        ("none", _) if status.state == "Fresh" && target.claim.is_some() => {
            "no record of this plan; its claim file is left by a killed run, and the next removes it"
                .to_owned()
        }
        ("none", _) => "no record of this plan".to_owned(),
        (record, None) => record.to_owned(),
        (record, Some(attempt)) => format!(
            "{record}, attempt {attempt}, {} of {} keyspaces, {} pairs, {}",
            target.keyspaces_done,
            target.keyspaces,
            target.pairs,
            size(target.bytes)
        ),
    }
}

/// `cutover plan`.
pub(crate) fn preview(plan: &Plan, json: bool) -> Result<(), Stop> {
    let preview = cutover::preview(plan, &mut Shown::until_asked_to_stop())?;
    if json {
        say_json(&preview)?;
    } else {
        tell_preview(&preview);
        if preview.state == "Fresh" && preview.refused.is_empty() {
            say(
                "  not looked at: whether each pair fits its table; `cutover plan --full` tries them all",
            );
        }
    }
    if preview.refused.is_empty() { Ok(()) } else { Err(would_refuse(&preview)) }
}

/// Warns of what failed, and was gone on without.
pub(crate) fn skipped(skipped: &[Skipped]) {
    for skipped in skipped {
        complain(&format!("warning: {skipped}"));
    }
}

/// Warns of retired stores that are gone, or without their second lock.
pub(crate) fn stores_amiss(plan: &Plan) -> Result<(), Stop> {
    for source in cutover::status(plan)?.sources {
        if source.retired.is_none() && source.retired_differs.is_some() {
            complain(&format!(
                "warning: the retired store of source '{}' is gone from {}.retired; if it is on a volume that is not mounted, mount it: its own marker is there too, and reclaim needs both",
                source.name, source.path
            ));
        }
        if let (Some(retired), false) = (&source.retired, source.second_lock) {
            complain(&format!(
                "warning: the second lock of source '{}' is not set: its version file in {retired} could not be changed; a store that is moved back from there opens. Make the file changeable, and run migrate again",
                source.name
            ));
        }
    }
    Ok(())
}

/// How the command ends where a migration would be refused.
pub(crate) fn would_refuse(preview: &Preview) -> Stop {
    let contradicts = preview.state == CONTRADICTION_STATE;
    Stop::silent(if contradicts { CONTRADICTION } else { REFUSED })
}

pub(crate) fn tell_preview(preview: &Preview) {
    say(&format!("plan '{}': {}", preview.plan, preview.state));
    for reason in &preview.refused {
        say(&format!("  refused: {reason}"));
    }
    for foreign in &preview.foreign {
        say(&format!("  note: {foreign}"));
    }
    for keyspace in &preview.keyspaces {
        let count = match (keyspace.pairs, keyspace.bytes) {
            (Some(pairs), Some(bytes)) => format!("{pairs} pairs, {}", size(bytes)),
            _ => "not counted".to_owned(),
        };
        let quarantined = match keyspace.quarantined {
            0 => String::new(),
            pairs => format!(", {pairs} in quarantine"),
        };
        let copied = if keyspace.copied { ", copied" } else { "" };
        say(&format!(
            "  {}/{} as {} into {}: {count}{quarantined}{copied}",
            keyspace.source,
            keyspace.keyspace,
            keyspace.mapping,
            keyspace.tables.join(", ")
        ));
    }
    if let (Some(needed), Some(available)) = (preview.needed_bytes, preview.available_bytes) {
        say(&format!("  disk: about {} needed, {} free", size(needed), size(available)));
    }
    for (number, step) in (1..).zip(&preview.steps) {
        let mark = if step.irreversible {
            "  <-- the commit point: nothing goes back automatically after it"
        } else {
            ""
        };
        say(&format!("  {number}. {}{mark}", step.text));
    }
    if preview.steps.is_empty() && preview.refused.is_empty() {
        say("  nothing remains to be done");
    }
}
