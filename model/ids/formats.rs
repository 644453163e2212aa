//! The examples of `docs/formats.md` are bytes that the shipped code reads, and its tables name
//! every field and bound.

use crate::daemon::Daemon;
use cutover::protocol::claim::{CLAIM_BYTES_MAX, Claim, PLANS_MAX};
use cutover::protocol::marker::{Hints, MARKER_BYTES_MAX, Marker, SOURCES_MAX};
use cutover::protocol::record::{
    KEYSPACES_MAX, REASON_BYTES_MAX, RECORD_BYTES_MAX, Record, SchemaEntry,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Read at run time, so that a change of its words compiles nothing.
fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/formats.md");
    std::fs::read_to_string(path).expect("UTF-8")
}

/// The fenced block of this kind.
fn example(kind: &str) -> String {
    let begin = format!("```text {kind}\n");
    let document = document();
    let block = document.split(&begin).nth(1).expect("an example");
    block.split("```").next().expect("its end").to_owned()
}

/// The first column of the table under a heading, without its own heading.
fn column(heading: &str) -> BTreeSet<String> {
    let document = document();
    let section = document.split(&format!("\n## {heading}\n")).nth(1).expect("a section");
    let section = section.split("\n#").next().expect("its end");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

/// The names of all that an object holds, those inside a list behind `[].`.
fn fields(value: &Value, before: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            let dot = if before.is_empty() { "" } else { "." };
            for (name, value) in object {
                // The names of plans, keyspaces and files are no fields.
                let named = ["plans", "folders", "files"].contains(&name.as_str());
                let inner = if named { &Value::Null } else { value };
                fields(inner, &format!("{before}{dot}{name}"), found);
            }
        }
        Value::Array(list) => match list.first() {
            Some(first) => fields(first, &format!("{before}[]"), found),
            None => drop(found.insert(format!("{before}[]"))),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(before.to_owned());
        }
    }
}

fn fields_of(text: &str) -> BTreeSet<String> {
    let json = text.lines().find(|line| line.starts_with('{')).expect("a line of JSON");
    let mut found = BTreeSet::new();
    fields(&serde_json::from_str(json).expect("JSON"), "", &mut found);
    found
}

/// The record that a running copy keeps.
fn real_record(daemon: &Daemon) -> String {
    let connection = rusqlite::Connection::open(daemon.at("target.sqlite")).expect("opens");
    connection.query_one("SELECT body FROM cutover_record", [], |row| row.get(0)).expect("a record")
}

#[test]
fn the_marker_in_the_documents_reads_and_is_what_is_written() {
    let text = example("marker");
    let marker = Marker::decode(text.as_bytes()).expect("a marker");
    let line = |label: &str| {
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(label)).expect("such a line");
        found.trim_start().to_owned()
    };
    let hints = Hints { go_on: line("to go on:"), go_back: line("to go back:") };
    let written = String::from_utf8(marker.encode(&hints).expect("encodes")).expect("UTF-8");
    assert_eq!(written, text);
    assert_eq!(column("Marker"), fields_of(&text));
}

#[test]
fn the_claim_in_the_documents_reads_and_is_what_is_written() {
    let text = example("claim");
    let claim = Claim::decode(text.as_bytes()).expect("a claim");
    assert_eq!(String::from_utf8(claim.encode().expect("encodes")).expect("UTF-8"), text);
    assert_eq!(column("Claim"), fields_of(&text));
}

#[test]
fn the_record_in_the_documents_reads_and_has_the_fields_and_the_fence_of_a_real_one() {
    let text = example("record");
    let record = Record::decode(text.as_bytes()).expect("a record");
    assert_eq!(record.encode().expect("encodes"), text);
    let real = real_record(&Daemon::copying());
    assert_eq!(column("Record"), fields_of(&text));
    assert_eq!(column("Record"), fields_of(&real));

    let in_example = |words: &str| {
        let words = words.replace("accounts_first", "accounts_users");
        words.replace("'small'", "'litd'")
    };
    let real = Record::decode(real.as_bytes()).expect("a record");
    let schema: Vec<SchemaEntry> = (real.tables[0].schema.iter().cloned())
        .map(|entry| SchemaEntry {
            name: in_example(&entry.name),
            sql: entry.sql.as_deref().map(in_example),
            ..entry
        })
        .collect();
    assert_eq!(record.tables[0].schema, schema);
}

/// A frame around a line of JSON, with its checksum.
fn frame(heading: &str, json: &str) -> Vec<u8> {
    let text = format!("{heading}{json}\n");
    let sum = xxhash_rust::xxh3::xxh3_128(text.as_bytes());
    format!("{text}checksum xxh3-128 {sum:032x}\n").into_bytes()
}

#[test]
fn what_breaks_a_rule_of_the_frame_is_refused() {
    type Reads = fn(&[u8]) -> bool;
    let kinds: [(&str, Reads); 3] = [
        ("marker", |bytes| Marker::decode(bytes).is_ok()),
        ("claim", |bytes| Claim::decode(bytes).is_ok()),
        ("record", |bytes| Record::decode(bytes).is_ok()),
    ];
    for (kind, reads) in kinds {
        let text = example(kind);
        let json = text.lines().find(|line| line.starts_with('{')).expect("a line of JSON");
        let heading = text.split(json).next().expect("what is before it");
        assert_eq!(frame(heading, json), text.as_bytes(), "{kind}");

        let value: Value = serde_json::from_str(json).expect("JSON");
        let with = |change: &dyn Fn(&mut Value)| {
            let mut changed = value.clone();
            change(&mut changed);
            frame(heading, &changed.to_string())
        };
        assert!(reads(&with(&|value| value["more"] = "passed over".into())), "{kind}");
        assert!(!reads(&with(&|value| value["format"] = 2.into())), "{kind}");
        assert!(!reads(&frame(heading, &json.replacen('{', "{\"format\":1,", 1))), "{kind}");
        assert!(!reads(&text.replace('\n', "\r\n").into_bytes()), "{kind}");
        assert!(!reads(&[text.as_bytes(), b"\n"].concat()), "{kind}");
        assert!(!reads(&frame(&format!("{heading}\u{fffd}"), json)[1..]), "{kind}");
        for field in fields_of(&text) {
            // Of a list, its first element's; of a list of texts, the list itself.
            let pointer = field.trim_end_matches("[]").replace("[].", ".0.").replace('.', "/");
            let (parent, name) = match pointer.rsplit_once('/') {
                Some((parent, name)) => (format!("/{parent}"), name),
                None => (String::new(), pointer.as_str()),
            };
            let without = with(&|value| {
                let parent = value.pointer_mut(&parent).and_then(Value::as_object_mut);
                parent.and_then(|parent| parent.remove(name)).expect("a field");
            });
            let may_go = ["created", "times.committed", "times.live", "tables[].schema[].sql"];
            assert_eq!(reads(&without), may_go.contains(&field.as_str()), "{kind}: {field}");
            let other = with(&|value| {
                *value.pointer_mut(&format!("/{pointer}")).expect("a field") = 1.5.into();
            });
            assert!(!reads(&other), "{kind}: {field} of another type");
        }
    }
}

#[test]
fn the_quarantine_in_the_documents_is_the_one_that_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    crate::quarantine::stores(folder.path());
    crate::quarantine::migrate(folder.path());
    let target = rusqlite::Connection::open(folder.path().join("target.sqlite")).expect("opens");
    let names = |query: &str| -> Vec<String> {
        let mut statement = target.prepare(query).expect(query);
        let rows = statement.query_map([], |row| row.get(0)).expect(query);
        rows.collect::<Result<_, _>>().expect(query)
    };
    let made = "SELECT sql FROM sqlite_schema WHERE name = 'cutover_quarantine_kept'";
    let made = names(made).remove(0).replace("quarantine_kept", "quarantine_litd");
    assert_eq!(example("quarantine"), format!("{made}\n"));
    let columns = names("SELECT name FROM pragma_table_info('cutover_quarantine_kept')");
    assert_eq!(column("Quarantine"), columns.into_iter().collect());
}

#[test]
fn the_version_file_in_the_documents_is_what_a_retired_store_holds() {
    let held = std::fs::read_to_string(Daemon::live().at("accounts.retired/version"));
    assert_eq!(example("version"), held.expect("UTF-8"));
}

#[test]
fn the_bounds_in_the_documents_are_those_of_the_code() {
    let bounds = [
        ("MARKER_BYTES_MAX", MARKER_BYTES_MAX),
        ("SOURCES_MAX", SOURCES_MAX),
        ("CLAIM_BYTES_MAX", CLAIM_BYTES_MAX),
        ("PLANS_MAX", PLANS_MAX),
        ("RECORD_BYTES_MAX", RECORD_BYTES_MAX),
        ("KEYSPACES_MAX", KEYSPACES_MAX),
        ("REASON_BYTES_MAX", REASON_BYTES_MAX),
        ("NAME_BYTES_MAX", cutover::NAME_BYTES_MAX),
        ("CHUNK_BYTES_MAX", cutover::CHUNK_BYTES_MAX),
    ];
    assert_eq!(column("Bounds"), bounds.map(|(name, _)| name.to_owned()).into());
    let document = document();
    for (name, value) in bounds {
        assert!(document.contains(&format!("| `{name}` | {value} |")), "{name} is {value}");
    }
}
