//! What was found: a table, and the same as JSON and as a chart.

use crate::arguments::Arguments;
use crate::chart::chart;
use crate::rounds::{Measured, Runs};
use crate::ways::Way;
use crate::work::Kind;
use serde_json::{Value, json};
use std::fs;

/// Writes `speed.json` and `speed.svg`.
pub fn write(arguments: &Arguments, measured: &Measured) {
    let text = serde_json::to_string_pretty(&to_json(arguments, measured)).expect("JSON");
    fs::create_dir_all(&arguments.out).expect("a folder");
    fs::write(arguments.out.join("speed.json"), text + "\n").expect("writes");
    fs::write(arguments.out.join("speed.svg"), chart(measured)).expect("writes");
}

/// How many times as long as cutover a way takes for each pair.
pub fn ratio(all: &[Runs], runs: &Runs) -> Option<f64> {
    let ours = all.iter().find(|one| one.way == Way::Cutover)?;
    Some(runs.pair_microseconds() / ours.pair_microseconds())
}

/// Prints the table.
pub fn print(arguments: &Arguments, measured: &Measured) {
    println!("| work | way | seconds | µs a pair | times cutover's | peak MiB |");
    println!("|---|---|---|---|---|---|");
    for (work, all) in &measured.works {
        for runs in all {
            println!(
                "| {} | {} | {:.3} | {:.3} | {:.2} | {} |",
                work.name,
                runs.way.name(),
                runs.median(),
                runs.pair_microseconds(),
                ratio(all, runs).unwrap_or(f64::NAN),
                runs.peak_kibibytes / 1024
            );
        }
    }
    if let Some(opening) = measured.opening {
        println!(
            "\nopening a migrated plan: {:.0} µs; a plain rusqlite open {:.0} µs, with its first read {:.0} µs\n\
             with all that is made durable: {:.0} µs; a plain rusqlite open with a commit {:.0} µs",
            opening.cutover,
            opening.rusqlite,
            opening.rusqlite_and_read,
            opening.sql,
            opening.rusqlite_and_commit
        );
    }
    println!("\nwritten to {}", arguments.out.display());
}

fn to_json(arguments: &Arguments, measured: &Measured) -> Value {
    let works: Vec<Value> = measured
        .works
        .iter()
        .map(|(work, all)| {
            let ways: Vec<Value> = all
                .iter()
                .map(|runs| {
                    json!({
                        "way": runs.way.name(),
                        "pairs": runs.pairs,
                        "seconds": runs.seconds,
                        "median_seconds": runs.median(),
                        "pair_microseconds": runs.pair_microseconds(),
                        "times_cutover": ratio(all, runs),
                        "peak_kibibytes": runs.peak_kibibytes,
                    })
                })
                .collect();
            let kind = match work.kind {
                Kind::Main => "main",
                Kind::Journal => "journal",
                Kind::Existing => "existing",
                Kind::Growth => "growth",
                Kind::Sweep => "sweep",
                Kind::Keyspaces => "keyspaces",
            };
            json!({
                "work": work.name,
                "kind": kind,
                "pairs": work.pairs,
                "value_bytes": work.value_bytes,
                "ways": ways,
            })
        })
        .collect();
    let opening = measured.opening.map(|opening| {
        json!({
            "cutover_microseconds": opening.cutover,
            "rusqlite_microseconds": opening.rusqlite,
            "rusqlite_and_read_microseconds": opening.rusqlite_and_read,
            "sql_microseconds": opening.sql,
            "rusqlite_and_commit_microseconds": opening.rusqlite_and_commit,
        })
    });
    json!({
        "quick": arguments.quick,
        "rounds": arguments.rounds,
        "works": works,
        "opening": opening,
    })
}
