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
    #[serde(default)]
    keyspaces_may_be_missing: Vec<String>,
    #[serde(default = "yes")]
    every_keyspace: bool,
    /// Pairs that may be refused.
    #[serde(default)]
    quarantine: u64,
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
        Stop::new(USAGE, format!("the plan file {path} can't be used: {reason}; fix it"))
    };
    let io = |error: std::io::Error| {
        let path = path.display();
        Stop::new(
            USAGE,
            format!("the plan file {path} can't be read: {error}; correct its path or its rights"),
        )
    };
    let absolute = std::fs::canonicalize(path).map_err(io)?;
    let mut bytes = Vec::new();
    let file = File::open(&absolute).map_err(io)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| wrong(format!("it is not UTF-8 after byte {}", error.valid_up_to())))?;
    let file: PlanFile = toml::from_str(text).map_err(|error| wrong(one_line(&error)))?;
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
            for keyspace in source.keyspaces_may_be_missing {
                builder = builder.keyspace_may_be_missing(keyspace);
            }
            if source.every_keyspace {
                builder = builder.every_keyspace();
            }
            builder = builder.quarantine(source.quarantine);
            if source.may_be_missing { builder.may_be_missing() } else { builder }
        });
    }
    plan.build().map_err(|error| Stop::usage(&error))
}

/// What is wrong, and in which line. A key of the file may be part of it, whatever it holds.
fn one_line(error: &toml::de::Error) -> String {
    let mut text = String::new();
    if error.span().is_some() {
        // After its first line it draws.
        text.extend(error.to_string().lines().next());
        text.push_str(": ");
    }
    for letter in in_words(error.message()).chars() {
        if letter.is_control() {
            text.extend(letter.escape_debug());
        } else {
            text.push(letter);
        }
    }
    text
}

/// What toml says that it expects, as somebody who writes a plan file knows it.
const EXPECTED: [(&str, &str); 9] = [
    ("usize", "a whole number from 1 up"),
    ("u64", "a whole number from 0 up"),
    ("a boolean", "true or false"),
    ("a string", "text in quotes"),
    ("path string", "a path in quotes"),
    ("a sequence", "a list: [...], or for sources [[source]]"),
    ("a map", "keyspaces with their tables: { KEYSPACE = \"TABLE\" }"),
    ("struct PlanFile", "the keys of a plan"),
    ("struct SourceInFile", "the keys of a source, under [[source]]"),
];

/// Its message ends in what it expects: whatever the file itself holds comes before.
fn in_words(message: &str) -> String {
    let named = EXPECTED.iter().find_map(|(theirs, ours)| {
        let found = message.trim_end().strip_suffix(theirs)?.strip_suffix(", expected ")?;
        Some(format!("{found}, expected {ours}"))
    });
    named.unwrap_or_else(|| message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message that a plan file is refused with, after the file's name.
    fn refusal(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plan.toml");
        std::fs::write(&file, bytes).unwrap();
        let message = read(&file).unwrap_err().message.unwrap();
        message.replace(&file.display().to_string(), "FILE")
    }

    /// A key that held ` | ` was taken for a part of toml's drawing: the place was named, and no
    /// reason.
    #[test]
    fn a_key_that_looks_like_a_drawing_is_still_told() {
        assert_eq!(
            refusal(b"target = 't'\n'a | b' = 1\n"),
            "the plan file FILE can't be used: TOML parse error at line 2, column 1: unknown field \
             `a | b`, expected one of `name`, `target`, `chunk_bytes`, `journal_mode`, `source`; \
             fix it"
        );
    }

    /// Escape sequences of a plan file reached the terminal.
    #[test]
    fn what_a_plan_file_holds_is_told_in_one_line_without_control_characters() {
        assert_eq!(
            refusal(b"journal_mode = \"a\\u001b\\nb\"\n"),
            "the plan file FILE can't be used: TOML parse error at line 1, column 16: unknown \
             variant `a\\u{1b}\\nb`, expected one of `keep`, `delete`, `wal`; fix it"
        );
    }

    /// It spoke of `usize`, `u64` and structs.
    #[test]
    fn what_a_key_needs_is_told_without_the_names_of_rust_s_types() {
        let source = "target = 't'\n[[source]]\nname = 'a'\npath = 'a'\n";
        for (file, words) in [
            (
                "target = 't'\nchunk_bytes = 'x'".to_owned(),
                "expected a whole number from 1 up; fix it",
            ),
            (
                "target = 't'\nchunk_bytes = -1".to_owned(),
                "expected a whole number from 1 up; fix it",
            ),
            (
                "target = 't'\nchunk_bytes = 1.5".to_owned(),
                "expected a whole number from 1 up; fix it",
            ),
            (format!("{source}quarantine = -1"), "expected a whole number from 0 up; fix it"),
            (format!("{source}may_be_missing = 1"), "expected true or false; fix it"),
            (
                format!("{source}leave_out = 'x'"),
                "expected a list: [...], or for sources [[source]]; fix it",
            ),
            (format!("{source}leave_out = [1]"), "expected text in quotes; fix it"),
            (
                format!("{source}tables = 1"),
                "expected keyspaces with their tables: { KEYSPACE = \"TABLE\" }; fix it",
            ),
            ("target = 1".to_owned(), "expected a path in quotes; fix it"),
            (
                "target = 't'\n[source]\nname = 'a'".to_owned(),
                "expected a list: [...], or for sources [[source]]; fix it",
            ),
            (
                "target = 't'\nsource = [1]".to_owned(),
                "expected the keys of a source, under [[source]]; fix it",
            ),
            ("target = 't'\njournal_mode = 1".to_owned(), "; fix it"),
            ("name = 1\ntarget = 't'".to_owned(), "expected text in quotes; fix it"),
        ] {
            let said = refusal(file.as_bytes());
            assert!(said.ends_with(words), "{file}: {said}");
            for theirs in ["usize", "u64", "struct", "sequence", "enum"] {
                assert!(!said.contains(theirs), "{file}: {said}");
            }
        }
    }

    #[test]
    fn a_file_that_is_no_text_is_refused_with_the_place() {
        assert_eq!(
            refusal(b"name = '\xff'\n"),
            "the plan file FILE can't be used: it is not UTF-8 after byte 8; fix it"
        );
    }
}
