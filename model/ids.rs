//! The gate of the documents: every id, test, file and heading that they name is real, and every
//! invariant is named where it is enforced, tested and modelled.

mod formats;
mod teeth;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
pub use text::quoted;
use text::{Link, Test, anchors, claims, code_words, ids_in, links, resolve, tests_in};

/// Where the ids of each letter are declared, each once: assumptions, invariants, limits, proofs.
const HOMES: [(char, &str); 4] = [
    ('A', "docs/assumptions.md"),
    ('I', "docs/invariants.md"),
    ('L', "docs/limits.md"),
    ('P', "docs/proofs.md"),
];

/// Which document to read when.
const ORDER: &str = "docs/README.md";

/// Ids that were given once and are no longer: they must not come back with another meaning.
const RETIRED: [&str; 0] = [];

/// What is written of an assumption that no test can show.
const UNTESTABLE: &str = "Can't be tested:";

/// What is written of an invariant that a model of facts can't speak of.
const UNMODELLED: &str = "Not modelled:";

/// How the files begin that follow the pure protocol, besides the tests inside it.
const MODELS: [&str; 1] = ["model/proof/"];

/// How the names of the files end that are read.
const READ: [&str; 2] = [".rs", ".md"];

/// Where the gate itself is, whose tests are full of ids that nothing declares.
const OWN: &str = "model/ids";

/// The files that are read, by their paths, and the paths of all files and folders.
#[derive(Clone, Debug, Default)]
pub struct Repository {
    pub texts: BTreeMap<String, String>,
    paths: BTreeSet<String>,
}

impl Repository {
    pub fn of_this_project() -> Self {
        let mut repository = Self::default();
        repository.add(Path::new(env!("CARGO_MANIFEST_DIR")), "");
        repository
    }

    fn add(&mut self, root: &Path, folder: &str) {
        for entry in fs::read_dir(root.join(folder)).expect("lists") {
            let entry = entry.expect("lists");
            let name = entry.file_name().into_string().expect("UTF-8");
            if [".git", "target", "cutover-demo"].contains(&name.as_str()) {
                continue;
            }
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if entry.file_type().expect("a kind").is_dir() {
                self.add(root, &path);
            } else if READ.iter().any(|ending| path.ends_with(ending)) {
                self.texts.insert(path.clone(), fs::read_to_string(entry.path()).expect("UTF-8"));
            }
            self.paths.insert(path);
        }
    }

    fn ending(&self, ending: &str) -> impl Iterator<Item = (&String, &String)> {
        self.texts.iter().filter(move |(path, _)| path.ends_with(ending))
    }

    fn documents(&self) -> impl Iterator<Item = (&String, &String)> {
        self.ending(".md")
    }

    pub fn sources(&self) -> impl Iterator<Item = (&String, &String)> {
        self.ending(".rs")
    }

    fn tests(&self) -> Vec<Test> {
        self.sources().flat_map(|(_, text)| tests_in(text)).collect()
    }

    /// The blocks of a home, each from the line that declares an id on.
    fn blocks(&self, letter: char, home: &str) -> Vec<(String, String)> {
        let mut blocks: Vec<(String, String)> = Vec::new();
        for line in self.texts.get(home).map_or("", String::as_str).lines() {
            match text::declared(line).filter(|id| id.starts_with(letter)) {
                Some(id) => blocks.push((id, format!("{line}\n"))),
                None => {
                    if let Some((_, block)) = blocks.last_mut() {
                        block.push_str(line);
                        block.push('\n');
                    }
                }
            }
        }
        blocks
    }

    /// Whether a file is compiled for tests alone: its parent says so.
    fn is_test_only(&self, path: &str) -> bool {
        let Some((folder, name)) = path.trim_end_matches(".rs").rsplit_once('/') else {
            return false;
        };
        let declared = format!("#[cfg(test)]\nmod {name};");
        let parents = [format!("{folder}/mod.rs"), format!("{folder}/lib.rs")];
        parents.iter().any(|p| self.texts.get(p).is_some_and(|text| text.contains(&declared)))
    }

    /// The comments of what is shipped.
    fn comments(&self) -> String {
        let shipped =
            self.sources().filter(|(path, _)| path.starts_with("src/") && !self.is_test_only(path));
        let comments: Vec<&str> = shipped
            .filter_map(|(_, text)| text.split("\n#[cfg(test)]\nmod tests").next())
            .flat_map(|code| code.lines().filter_map(|line| line.split_once("//")))
            .map(|(_, comment)| comment)
            .collect();
        comments.join("\n")
    }

    /// What the models say.
    fn models(&self) -> String {
        let is_model = |path: &str| {
            MODELS.iter().any(|start| path.starts_with(start)) || self.is_test_only(path)
        };
        let models = self.sources().filter(|(path, _)| is_model(path));
        models.map(|(_, text)| text.as_str()).collect()
    }
}

/// Everything that is wrong, in words.
fn complaints(repository: &Repository, retired: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    check_ids(repository, retired, &mut found);
    check_places(repository, &mut found);
    check_names(repository, &mut found);
    check_links(repository, &mut found);
    found
}

/// Every id that is used is declared, once, in its home, and was never retired.
fn check_ids(repository: &Repository, retired: &[&str], found: &mut Vec<String>) {
    let mut declared = BTreeSet::new();
    for (letter, home) in HOMES {
        for (id, _) in repository.blocks(letter, home) {
            if !declared.insert(id.clone()) {
                found.push(format!("{id} is declared twice"));
            }
        }
    }
    for (path, text) in repository.texts.iter().filter(|(path, _)| !path.starts_with(OWN)) {
        let used: BTreeSet<String> = ids_in(text, &HOMES.map(|(letter, _)| letter)).collect();
        for id in used {
            if retired.contains(&id.as_str()) {
                found.push(format!("{path} uses {id}, which was retired"));
            } else if !declared.contains(&id) {
                found.push(format!("{path} uses {id}, which nothing declares"));
            }
        }
    }
}

/// Every invariant is named where it is enforced, by a test, and in a model; every assumption has a
/// test.
fn check_places(repository: &Repository, found: &mut Vec<String>) {
    let (comments, models, tests) =
        (repository.comments(), repository.models(), repository.tests());
    let names = |text: &str, id: &String| ids_in(text, &['I']).any(|other| other == *id);
    for (id, block) in repository.blocks('I', HOMES[1].1) {
        if !names(&comments, &id) {
            found.push(format!("no comment in src/ says where {id} is enforced"));
        }
        if !tests.iter().any(|test| test.ids.contains(&id)) {
            found.push(format!("no test names {id}"));
        }
        if !names(&models, &id) && !block.contains(UNMODELLED) {
            found.push(format!("no model names {id}, and nothing says why"));
        }
    }
    for (id, block) in repository.blocks('A', HOMES[0].1) {
        let words: Vec<&str> = block.split_whitespace().collect();
        if claims(&block).is_empty() && !words.join(" ").contains(UNTESTABLE) {
            found.push(format!("{id} has neither a test nor a reason why there is none"));
        }
    }
}

/// Every test that a document names is one, and every file is there.
fn check_names(repository: &Repository, found: &mut Vec<String>) {
    let tests: BTreeSet<String> = repository.tests().into_iter().map(|test| test.name).collect();
    for (path, text) in repository.documents() {
        for name in claims(text) {
            if !tests.contains(&name) {
                found.push(format!("{path} names the test {name}, and there is none"));
            }
        }
        for word in code_words(text) {
            let is_there = |from: &str| repository.paths.contains(&resolve(from, &word));
            let bare = format!("/{word}");
            let is_bare = || repository.paths.iter().any(|path| path.ends_with(&bare));
            if text::is_path(&word) && !is_there("") && !is_there(path) && !is_bare() {
                found.push(format!("{path} names the file {word}, and there is none"));
            }
        }
    }
}

/// Every link leads to a file, and to a heading in it; and one leads from the reading order to every
/// document.
fn check_links(repository: &Repository, found: &mut Vec<String>) {
    let order = repository.texts.get(ORDER).map_or("", String::as_str);
    let read: Vec<String> = links(order).iter().map(|link| resolve(ORDER, &link.to)).collect();
    for (path, _) in repository.documents() {
        let is_read = |read: &String| path == read || path.starts_with(&format!("{read}/"));
        if path.starts_with("docs/") && path != ORDER && !read.iter().any(is_read) {
            found.push(format!("{ORDER} does not link to {path}"));
        }
    }
    for (path, text) in repository.documents() {
        for Link { to, anchor } in links(text) {
            let to = if to.is_empty() { path.clone() } else { resolve(path, &to) };
            if !repository.paths.contains(&to) {
                found.push(format!("{path} links to {to}, and there is none"));
            } else if let (Some(anchor), Some(text)) = (anchor, repository.texts.get(&to))
                && !anchors(text).contains(&anchor)
            {
                found.push(format!(
                    "{path} links to #{anchor} in {to}, and there is no such heading"
                ));
            }
        }
    }
}

#[test]
fn every_id_test_file_and_heading_that_the_documents_name_is_real() {
    let found = complaints(&Repository::of_this_project(), &RETIRED);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
