//! What `status`, the preview and the command say of a quarantine.

use super::{ENOUGH, migrate, plan, stores};
use crate::common::{Pairs, write_store};
use crate::daemon::{StopAfter, fresh_handle, migrating_handle, sqlite};
use std::fs;
use std::process::{Command, Output, Stdio};

#[test]
fn status_and_preview_count_what_is_in_quarantine_and_status_names_the_table() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path());
    let plan = plan(folder.path(), ENOUGH);
    assert_eq!(cutover::status(&plan).expect("looks").target.quarantine, None);
    drop(fresh_handle(&plan).begin().expect("begins"));
    let failed = migrating_handle(&plan).run(&mut StopAfter { chunks: 4 }).expect_err("stops");
    drop(failed);
    let told = || cutover::status(&plan).expect("looks").target.quarantine.expect("some are kept");
    assert!((1..11).contains(&told().pairs));
    migrate(folder.path());
    let told = told();
    assert_eq!((told.table.as_str(), told.pairs), ("cutover_quarantine_kept", 11));
    let of_each: Vec<_> =
        told.keyspaces.iter().map(|k| (k.source.as_str(), k.keyspace.as_str(), k.pairs)).collect();
    assert_eq!(of_each, [("accounts", "a", 2), ("sessions", "s", 9)]);
    let preview = cutover::preview(&plan, &mut ()).expect("looks");
    let of_each: Vec<_> = preview.keyspaces.iter().map(|k| (k.pairs, k.quarantined)).collect();
    assert_eq!(of_each, [(Some(12), 2), (Some(40), 9), (Some(10), 0)]);
}

fn command(words: &[&str]) -> Output {
    let command = env!("CARGO_BIN_EXE_cutover");
    Command::new(command).args(words).stdin(Stdio::null()).output().expect("the command")
}

#[test]
fn the_command_takes_a_budget_from_the_plan_file_and_tells_where_to_look() {
    let folder = tempfile::tempdir().expect("a folder");
    let pairs = |length: usize| (0..9_u8).map(|i| (vec![i], vec![i; length])).collect();
    let store = Pairs::from([("first".to_owned(), pairs(2)), ("second".to_owned(), pairs(1))]);
    write_store(&folder.path().join("accounts"), &store);
    let strict =
        "CREATE TABLE {t} (key BLOB PRIMARY KEY, value BLOB NOT NULL CHECK (value > x'04'))";
    for table in ["accounts_first", "accounts_second"] {
        sqlite(&folder.path().join("t.sqlite"), &strict.replace("{t}", table));
    }
    let file = folder.path().join("plan.toml");
    let file_of = |budget: &str| {
        let text = format!(
            "name = 'small'\ntarget = 't.sqlite'\n[[source]]\nname = 'accounts'\npath = 'accounts'\n{budget}\n"
        );
        fs::write(&file, text).expect("writes");
    };
    let named = file.to_str().expect("UTF-8");
    let run = |verb: &str, more: &[&str], code: i32| {
        let output = command(&[&[verb, "--plan", named], more].concat());
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(code), "{verb}: {text}");
        text
    };
    file_of("quarantine = -1");
    assert!(run("status", &[], 2).contains("line 6"));
    file_of("quarantine = 5");
    let said = run("migrate", &["--yes"], 7);
    assert!(said.contains("5 pairs of the source are in quarantine already"), "{said}");
    let said = run("plan", &[], 0);
    assert!(said.contains("accounts_first: 9 pairs, 27 bytes, 4 in quarantine, copied"), "{said}");
    assert!(said.contains("accounts_second: not counted, 1 in quarantine"), "{said}");
    file_of("quarantine = 9");
    for said in [run("migrate", &["--yes"], 0), run("verify", &[], 0), run("status", &[], 0)] {
        let told = "in quarantine: 9 pairs, with the reasons, in table 'cutover_quarantine_small'\n      \
                    accounts/first: 4\n      accounts/second: 5\n";
        assert!(said.contains(told), "{said}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&run("status", &["--json"], 0)).expect("one object");
    assert_eq!(json["target"]["quarantine"]["table"], "cutover_quarantine_small");
    assert_eq!(json["target"]["quarantine"]["keyspaces"][1]["pairs"], 5);
}
