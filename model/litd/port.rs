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

#[test]
fn the_old_build_and_both_backends_know_nothing_of_cutover() {
    for part in ["litd-old.rs", "litd/kv.rs", "litd/sql.rs", "litd/service.rs"] {
        let text = example(part);
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        assert!(code.clone().count() > 20, "{part} is short");
        assert!(!code.collect::<String>().contains("cutover"), "{part} knows of cutover");
    }
}
