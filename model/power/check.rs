//! Whether what a power cut has left is as it was promised.

use super::life::{End, Wish, home, plan, settle, stores, target};
use super::place::Place;
use super::promise::{Promise, take};
use super::tree::Tree;
use crate::common::{KEYSPACES, Pairs, SOURCES, read_store, schema_entries};
use crate::crash::{MISSING, plain_writes, stock_writes};
use crate::picky::{adds_up, has_refused, read_target};
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

/// Looks at an image: at most one side can be written, what was handed out is still the daemon's,
/// and a start ends as it should, whatever is wished of it. Returns how many starts were tried.
///
/// # Errors
///
/// What does not hold.
pub fn check(place: &Place, image: &Tree, promise: &Promise) -> Result<usize, String> {
    let scratch = place.scratch();
    image.write_to(&scratch);
    let target = target(&scratch, place.sources);
    adds_up(&target)?;
    let sql = plain_writes(&target);
    let home = home(&scratch, place.sources);
    let missing = (place.sources > 2).then_some(MISSING);
    let sources: Vec<&str> = stores(place.sources).iter().copied().chain(missing).collect();
    let (kv, shut): (Vec<&str>, Vec<&str>) =
        sources.into_iter().partition(|name| stock_writes(&home.join(name)));
    if sql && !kv.is_empty() {
        return Err(format!("both the target and {kv:?} can be written"));
    }
    if let Some(name) = shut.iter().find(|name| home.join(name).is_dir()) {
        return Err(format!("no marker is in the place of {name}, and it does not open"));
    }
    // Step 8: what was handed out is not given back by itself, whatever becomes of the target.
    let is_final = |name: &&&str| {
        says_stage(&home.join(name), "final") || says_stage(&home.join(name), "reclaimed")
    };
    match promise.handed_out {
        Some(End::Sql) if !sql => return Err("the target was live, and is not".to_owned()),
        Some(End::Sql) if shut.iter().filter(is_final).count() != shut.len() => {
            return Err("a marker is not final beside a target that was handed out".to_owned());
        }
        Some(End::Kv) if !shut.is_empty() => {
            return Err(format!("the KV stores were open, and {shut:?} are not"));
        }
        Some(End::Kv | End::Sql) | None => {}
    }
    for &wish in promise.wishes() {
        image.write_to(&place.folder());
        start(place, promise, sql, wish).map_err(|why| format!("{wish:?}: {why}"))?;
    }
    Ok(promise.wishes().len())
}

fn says_stage(marker: &Path, stage: &str) -> bool {
    let text = fs::read_to_string(marker).unwrap_or_default();
    text.contains(&format!("\"stage\":\"{stage}\""))
}

/// A start after the cut; `sql`, whether the target could be written before it.
fn start(place: &Place, promise: &Promise, sql: bool, wish: Wish) -> Result<(), String> {
    let plan = plan(&place.folder(), place.sources);
    let (end, asked) = settle(&plan, wish, &|_| {}).map_err(|error| error.to_string())?;
    if asked && !promise.lost && !promise.restoring {
        return Err("somebody had to say yes".to_owned());
    }
    if end == End::Kv && (sql || wish != Wish::Kv && !promise.restoring) {
        return Err(format!("it has ended in the KV stores, and the target was live: {sql}"));
    }
    if end == End::Sql && wish == Wish::Kv && promise.handed_out == Some(End::Kv) {
        return Err("the KV stores were the daemon's, and are not".to_owned());
    }
    ended(place, promise, end)?;
    let marker = home(&place.folder(), place.sources).join(SOURCES[0]);
    if end == End::Sql && place.sources == 1 && says_stage(&marker, "final") {
        // I-3: what was retired is still whole.
        let target = target(&place.folder(), place.sources);
        for ending in ["", "-journal", "-wal", "-shm"] {
            let _ = fs::remove_file(target.with_file_name(format!("target.sqlite{ending}")));
        }
        let restored = settle(&plan, Wish::Kv, &|_| {}).map_err(|error| error.to_string())?;
        if restored != (End::Kv, true) {
            return Err(format!("with the target gone, it was {restored:?}"));
        }
        ended(place, promise, End::Kv)?;
    }
    Ok(())
}

/// Every pair exactly once on one side, in quarantine if it is refused, and the other side shut.
fn ended(place: &Place, promise: &Promise, end: End) -> Result<(), String> {
    let folder = place.folder();
    let target = target(&folder, place.sources);
    for (seed, source) in (1..).zip(stores(place.sources)) {
        let store = home(&folder, place.sources).join(source);
        let mut found = match end {
            End::Kv => read_store(&store),
            End::Sql => read_target(&target, source)?,
        };
        if end == End::Sql && stock_writes(&store) {
            return Err(format!("{source} opens beside a live target"));
        }
        if *source == SOURCES[0] {
            let sql = found.get_mut(KEYSPACES[0]).map(|pairs| take(pairs, 8)).unwrap_or_default();
            if !(if end == End::Sql { promise.sql.allow(&sql) } else { sql.is_empty() }) {
                return Err(format!("{:?} are there of {:?} in {end:?}", sql, promise.sql));
            }
        }
        if !promise.has(&found, seed, source) {
            return Err(format!("{source} has not its own pairs in {end:?}: {found:?}"));
        }
    }
    if end == End::Sql && place.sources > 2 {
        has_refused(&target)?;
    }
    if end == End::Kv && plain_writes(&target) {
        return Err("the target can be written beside KV stores".to_owned());
    }
    if end == End::Kv && schema_entries(&target) > 0 {
        return Err("something is left in the target".to_owned());
    }
    Ok(())
}

/// An image's stores that are not sealed and lack something, or can't be read, for a program that
/// knows nothing of cutover either: why. fjall has lost it by itself.
pub fn lost_by_fjall(place: &Place, image: &Tree, promise: &Promise) -> Vec<String> {
    let scratch = place.scratch();
    image.write_to(&scratch);
    let home = home(&scratch, place.sources);
    let mut lost = Vec::new();
    let untouched = stores(place.sources).iter().all(|name| !home.join(name).is_file());
    if untouched && target(&scratch, place.sources).parent().is_none_or(|folder| !folder.is_dir()) {
        lost.push("the target's folder, which nobody has synced yet".to_owned());
    }
    for (seed, name) in (1..).zip(stores(place.sources)) {
        let path = home.join(name);
        if path.is_file() {
            continue;
        }
        match try_read(&path) {
            Err(why) => lost.push(format!("{name}: {why}")),
            Ok(pairs) if !promise.has(&pairs, seed, name) => {
                lost.push(format!("{name}: pairs are gone"));
            }
            Ok(_) => {}
        }
    }
    lost
}

/// What a stock program reads, or why it can't.
fn try_read(path: &Path) -> Result<Pairs, String> {
    if !path.is_dir() {
        return Err("it is gone".to_owned());
    }
    let opened = catch_unwind(|| fjall::Database::builder(path).open().map(drop));
    match opened {
        Ok(Ok(())) => Ok(read_store(path)),
        Ok(Err(error)) => Err(format!("{error:?}")),
        Err(_) => Err("it panics".to_owned()),
    }
}
