//! The house: modules know only those below them, and the documents that describe it are right.

use crate::ids::{Repository, quoted};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const ARCHITECTURE: &str = "docs/architecture.md";
const AUDIT: &str = "docs/README.md";

/// Modules that only tests have: they may know everything.
const TESTS: [&str; 4] = ["between", "tests", "texts", "edges"];

/// A file's own code: without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let own = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = own.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The first names after `crate::`, also of a list in braces.
fn imports(code: &str) -> BTreeSet<String> {
    let word = |text: &str| {
        let end = text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len());
        text[..end].to_owned()
    };
    let mut found = BTreeSet::new();
    for path in code.split("crate::").skip(1) {
        let Some(list) = path.strip_prefix('{') else {
            found.insert(word(path));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && !c.is_whitespace() => {
                    found.insert(word(&list[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// Of each module in `src/`, whom it knows and in which file.
fn arrows(files: &[(String, String)]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut arrows: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (path, text) in files {
        let parts: Vec<&str> = path.split('/').collect();
        // The command is a crate of its own, above all of them.
        if ["lib", "bin"].contains(&parts[0]) || parts.iter().any(|part| TESTS.contains(part)) {
            continue;
        }
        let own = arrows.entry(parts[0].to_owned()).or_default();
        for name in imports(&code(text)) {
            if name != parts[0] {
                own.insert(name, path.clone());
            }
        }
    }
    arrows
}

/// What is wrong with the arrows between modules that stand in this order, from top to bottom.
fn wrong(order: &[String], arrows: &BTreeMap<String, BTreeMap<String, String>>) -> Vec<String> {
    let place = |name: &String| order.iter().position(|module| module == name);
    let mut wrong = Vec::new();
    for (module, known) in arrows {
        let Some(own) = place(module) else {
            wrong.push(format!("{module} is not in {ARCHITECTURE}"));
            continue;
        };
        for (name, file) in known {
            match place(name) {
                Some(other) if own < other => {}
                Some(_) => wrong.push(format!("src/{file}.rs: {module} knows {name}, above it")),
                None => wrong.push(format!("src/{file}.rs: crate::{name} is not a module")),
            }
        }
    }
    let gone = order.iter().filter(|module| !arrows.contains_key(*module));
    wrong.extend(gone.map(|module| format!("{ARCHITECTURE} has {module}, which is not there")));
    wrong
}

/// The first cell of each row of a table: the words in code style.
fn rows(document: &str) -> Vec<(Vec<String>, String)> {
    let cells = |line: &str, at: usize| line.split('|').nth(at).map(str::trim).map(str::to_owned);
    let lines = document.lines().filter(|line| line.starts_with('|'));
    lines.filter_map(|line| Some((quoted(line).collect(), cells(line, 3)?))).collect()
}

#[test]
fn modules_know_only_those_below_them() {
    let repository = Repository::of_this_project();
    let own = |(path, text): (&String, &String)| {
        let module = path.strip_prefix("src/")?.strip_suffix(".rs")?;
        Some((module.to_owned(), text.clone()))
    };
    let found: Vec<_> = repository.sources().filter_map(own).collect();
    assert!(found.len() > 70, "{}", found.len());
    let document = &repository.texts[ARCHITECTURE];
    let table = document.split("\n## ").find(|part| part.starts_with("The modules")).expect("it");
    let order: Vec<String> =
        rows(table).into_iter().filter_map(|(words, _)| words.into_iter().next()).collect();
    assert!(order.len() > 10, "{order:?}");
    let wrong = wrong(&order, &arrows(&found));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_arrow_that_points_up_and_a_module_that_nobody_names_are_found() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let order = ["top", "middle", "base"].map(str::to_owned);
    let good = [
        file("top", "use crate::middle::X;\nuse crate::{base::{a, b}, middle};"),
        file("middle/mod", "// crate::top\nuse crate::middle::own;"),
        file("middle/tests", "use crate::top;"),
        file("base", "#[cfg(test)]\nmod tests {\n use crate::top; }"),
    ];
    assert_eq!(wrong(&order, &arrows(&good)), Vec::<String>::new());
    for (path, text, expected) in [
        ("base", "fn f() { crate::middle::g() }", "src/base.rs: base knows middle, above it"),
        (
            "middle/deep/er",
            "use crate::{\n    base,\n    top::{x},\n};",
            "src/middle/deep/er.rs: middle knows top, above it",
        ),
        ("base", "use crate::Error;", "src/base.rs: crate::Error is not a module"),
        ("other", "", "other is not in docs/architecture.md"),
    ] {
        let files: Vec<_> = good.iter().cloned().chain([file(path, text)]).collect();
        assert_eq!(wrong(&order, &arrows(&files)), [expected]);
    }
    let gone = wrong(&order, &arrows(&good[..3]));
    assert_eq!(gone, ["docs/architecture.md has base, which is not there"]);
}

/// Thirteen of fifteen were wrong. `CUTOVER_PIN=1` writes them anew.
#[test]
fn the_files_to_audit_have_as_many_lines_as_their_table_says() {
    let repository = Repository::of_this_project();
    let mut document = repository.texts[AUDIT].clone();
    let mut wrong = Vec::new();
    let table = rows(&document);
    let sizes = table.iter().filter_map(|(words, lines)| Some((words, lines.parse().ok()?)));
    for (words, lines) in sizes.clone() {
        let files = words.iter().filter(|word| word.starts_with("src/")).cloned();
        let files: Vec<String> = files.collect();
        let own = |file: &String| code(&repository.texts[file]).lines().count();
        let found: usize = files.iter().map(own).sum();
        // Not every line that is added changes a document.
        if found.abs_diff(lines) > found / 10 {
            let row = |lines: usize| format!("`{}` | {lines} |", files.join("`, `"));
            wrong.push((row(lines), row(found / 10 * 10)));
        }
    }
    assert!(sizes.count() > 10, "{AUDIT}");
    if std::env::var_os("CUTOVER_PIN").is_some() {
        for (old, new) in &wrong {
            assert!(document.contains(old), "{old}");
            document = document.replace(old, new);
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(AUDIT);
        return fs::write(path, document).expect("writes");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
