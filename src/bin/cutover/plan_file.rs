//! The plan as a TOML file.

use crate::exit::{Stop, USAGE};
use cutover::{Blobs, CHUNK_BYTES_DEFAULT, JournalMode, Plan};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Room for a long list of keyspaces; a larger file is not a plan.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    #[serde(default = "default_name")]
    name: String,
    target: PathBuf,
    chunk_bytes: Option<usize>,
    #[serde(default)]
    journal_mode: Mode,
    #[serde(rename = "source")]
    sources: Vec<SourceInFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceInFile {
    name: String,
    path: PathBuf,
    #[serde(default)]
    may_be_missing: bool,
    /// Keyspace to table.
    #[serde(default)]
    tables: BTreeMap<String, String>,
    #[serde(default)]
    leave_out: Vec<String>,
    #[serde(default = "yes")]
    every_keyspace: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Keep,
    Delete,
    Wal,
}

fn default_name() -> String {
    "cutover".to_owned()
}

const fn yes() -> bool {
    true
}

/// The plan that the file at `path` holds. Its relative paths begin at its own folder, and markers
/// name the command with this file.
pub(crate) fn read(path: &Path) -> Result<Plan, Stop> {
    let wrong = |reason: String| {
        let path = path.display();
        Stop::new(USAGE, format!("the plan file {path} can't be used: {reason}; mend it"))
    };
    let io = |error: std::io::Error| {
        let path = path.display();
        Stop::new(
            USAGE,
            format!("the plan file {path} can't be read: {error}; correct its path or its rights"),
        )
    };
    let absolute = std::fs::canonicalize(path).map_err(io)?;
    let mut text = String::new();
    let file = File::open(&absolute).map_err(io)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let file: PlanFile = toml::from_str(&text).map_err(|error| wrong(one_line(&error)))?;
    let folder = absolute.parent().unwrap_or(&absolute).to_owned();
    let command = |verb: &str| {
        let path = absolute.display().to_string();
        format!("cutover {verb} --plan {}", shlex::try_quote(&path).unwrap_or_default())
    };
    let mut plan = Plan::builder(file.name)
        .target(folder.join(file.target))
        .chunk_bytes(file.chunk_bytes.unwrap_or(CHUNK_BYTES_DEFAULT))
        .journal_mode(match file.journal_mode {
            Mode::Keep => JournalMode::Keep,
            Mode::Delete => JournalMode::Delete,
            Mode::Wal => JournalMode::Wal,
        })
        .hints(command("migrate"), command("abort"));
    for source in file.sources {
        plan = plan.source(source.name, folder.join(source.path), |mut builder| {
            for (keyspace, table) in source.tables {
                builder = builder.table(keyspace, Blobs::new(table));
            }
            for keyspace in source.leave_out {
                builder = builder.leave_out(keyspace);
            }
            if source.every_keyspace {
                builder = builder.every_keyspace();
            }
            if source.may_be_missing { builder.may_be_missing() } else { builder }
        });
    }
    Ok(plan.build()?)
}

/// What is wrong, and in which line, without the drawing.
fn one_line(error: &toml::de::Error) -> String {
    error.to_string().lines().map(str::trim).filter(|line| !line.is_empty()).fold(
        String::new(),
        |text, line| {
            let drawing = line.starts_with('|') || line.contains(" | ");
            match (drawing, text.is_empty()) {
                (true, _) => text,
                (false, true) => line.to_owned(),
                (false, false) => format!("{text}: {line}"),
            }
        },
    )
}
