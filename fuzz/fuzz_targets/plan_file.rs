//! Plan files: any text is a plan that the markers can name, or an error that says where and why.

#![no_main]

#[path = "../../src/bin/cutover/exit.rs"]
#[expect(dead_code, reason = "the command has more ways to end than its plan file")]
mod exit;
#[path = "../../src/bin/cutover/plan_file.rs"]
mod plan_file;

use cutover::protocol::marker::SOURCES_MAX;
use cutover::{NAME_BYTES_MAX, Plan};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

fuzz_target!(|bytes: &[u8]| {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("it is small");
    match plan_file::read(file.path()) {
        Ok(plan) => usable(&plan),
        Err(stop) => {
            assert_eq!(stop.code, exit::USAGE);
            told(&stop.message.expect("a plan file is never refused silently"), file.path());
        }
    }
});

/// A plan has names that a marker's lines and the command can hold, and paths that do not depend on
/// where the command is run.
fn usable(plan: &Plan) {
    named(plan.name());
    assert!(plan.target().is_absolute());
    let names: Vec<&str> = plan
        .sources()
        .map(|(name, path)| {
            named(name);
            assert!(!name.contains('='));
            assert!(path.is_absolute());
            name
        })
        .collect();
    assert!((1..=SOURCES_MAX).contains(&names.len()));
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

fn named(name: &str) {
    assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "{name:?}");
    assert!(!name.starts_with('-') && !name.contains(char::is_control), "{name:?}");
}

/// One line for a person: the file and the place in it, or the name that is wrong; and a reason.
fn told(message: &str, file: &Path) {
    assert!(!message.contains(char::is_control), "{message:?}");
    let reason = if let Some(plan) = message.strip_prefix("the plan can't be used: ") {
        plan.strip_suffix("; change the plan")
    } else {
        let file = format!("the plan file {} can't be ", file.display());
        let said = message.strip_prefix(&file).unwrap_or_else(|| panic!("{message:?}"));
        said.strip_prefix("used: ").and_then(|why| why.strip_suffix("; fix it")).and_then(|why| {
            match why.strip_prefix("TOML parse error at line ") {
                Some(place) => Some(place.split_once(": ")?.1),
                None => Some(why),
            }
        })
    };
    assert!(reason.is_some_and(|reason| !reason.is_empty()), "{message:?}");
}
