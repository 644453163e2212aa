//! How much an author writes.

use super::STORES;
use std::fs;
use std::path::Path;

/// Lines for each store that are not blank, with its line in the plan.
const LINES_MAX: usize = 40;

fn example(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path);
    fs::read_to_string(path).expect("a part of the example")
}

#[test]
fn the_port_of_each_store_takes_an_author_at_most_forty_lines() {
    let port = example("litd/port.rs");
    for store in STORES {
        let begin = format!("// port: {store}\n");
        let body = port.split(&begin).nth(1).and_then(|rest| rest.split("// port: end").next());
        let lines = body.expect("two markers").lines().filter(|line| !line.trim().is_empty());
        let lines = lines.count() + 1;
        println!("{store}: {lines} lines");
        assert!((10..=LINES_MAX).contains(&lines), "{store} takes {lines} lines");
    }
}

/// What no store has for itself, too: the plan, and opening on either backend.
#[test]
fn the_whole_port_takes_at_most_forty_lines_for_each_store() {
    let daemon = example("litd.rs");
    let opening = daemon.split("fn on_kv").nth(1).and_then(|rest| rest.split("fn demo").next());
    let opening = opening.expect("the two functions").to_owned();
    assert!(opening.contains("cutover::kv(") && opening.contains("cutover::sql("));
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let count = |text: &str| text.lines().filter(is_code).count();
    let lines = count(&example("litd/port.rs")) + count(&opening);
    println!("{lines} lines for {} stores", STORES.len());
    assert!((60..=LINES_MAX * STORES.len()).contains(&lines), "it takes {lines} lines");
}

#[test]
fn the_old_build_and_both_backends_know_nothing_of_cutover() {
    for part in ["litd-old.rs", "litd/kv.rs", "litd/sql.rs", "litd/service.rs"] {
        let text = example(part);
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        assert!(code.clone().count() > 20, "{part} is short");
        assert!(!code.collect::<String>().contains("cutover"), "{part} knows of cutover");
    }
}
