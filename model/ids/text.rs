//! What the gate reads out of documents and sources.

use std::collections::BTreeSet;

/// A test: its name, and the invariants that the name or its comment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    pub name: String,
    pub ids: BTreeSet<String>,
}

/// Where a link leads; to the same document where `to` is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub to: String,
    pub anchor: Option<String>,
}

/// A word such as `X-1`, where X is one of `letters`.
fn is_id(word: &str, letters: &[char]) -> bool {
    word.split_once('-').is_some_and(|(letter, number)| {
        letter.len() == 1
            && letter.starts_with(letters)
            && !number.is_empty()
            && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

pub fn ids_in<'a>(text: &'a str, letters: &'a [char]) -> impl Iterator<Item = String> + 'a {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
    words.filter(|word| is_id(word, letters)).map(str::to_owned)
}

/// The id that a heading, a row of a table or an item of a list begins with.
pub fn declared(line: &str) -> Option<String> {
    let marked = line.trim_start_matches(['#', '|', '-', '*', ' ']);
    let word = marked.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next()?;
    let letters: Vec<char> = super::HOMES.iter().map(|(letter, _)| *letter).collect();
    (marked.len() < line.len() && is_id(word, &letters)).then(|| word.to_owned())
}

/// The text without its fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if !fenced && !fence {
            prose.push_str(line);
        }
        prose.push('\n');
    }
    prose
}

/// The words of a text that are set as code.
pub fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// Every word of a document that is set as code.
pub fn code_words(text: &str) -> Vec<String> {
    prose(text).split("\n\n").flat_map(|paragraph| quoted(paragraph).collect::<Vec<_>>()).collect()
}

/// Whether a word that is set as code is the path of a file or folder of this repository.
pub fn is_path(word: &str) -> bool {
    let folders = ["src/", "model/", "docs/", "examples/", "fuzz/", "benches/", ".ci/"];
    let endings = [".rs", ".md"];
    !word.contains([' ', '<', '*', '{', '…'])
        && (folders.iter().any(|folder| word.starts_with(folder))
            || endings.iter().any(|ending| word.ends_with(ending) && *ending != word))
}

/// This many `_` has the name of no function but a test's.
const SENTENCE: usize = 5;

/// What stands between "tested by" or "checked by" and the end of the sentence.
fn sentences(text: &str) -> Vec<&str> {
    let lower = text.to_ascii_lowercase();
    let found =
        ["tested by", "checked by"].into_iter().flat_map(|words| lower.match_indices(words));
    let behind = found.filter_map(|(at, _)| text.get(at..));
    behind.filter_map(|behind| behind.split(". ").next()).collect()
}

/// The names of tests that a document claims: what is set as code, and could be a function, in a
/// sentence behind "tested by" or "checked by", or in such a column; and whole sentences anywhere.
pub fn claims(text: &str) -> BTreeSet<String> {
    let mut claimed = Vec::new();
    let mut columns: Vec<bool> = Vec::new();
    let mut item = String::new();
    for line in prose(text).lines().chain([""]) {
        if line.is_empty() || line.starts_with(['|', '#', '-']) {
            claimed.extend(sentences(&item).into_iter().flat_map(quoted));
            item.clear();
        }
        if let Some(row) = line.strip_prefix('|') {
            let cells: Vec<&str> = row.split('|').collect();
            if columns.is_empty() {
                columns = cells.iter().map(|cell| !sentences(cell).is_empty()).collect();
            }
            let cells = cells.iter().zip(&columns).filter(|(_, is_claim)| **is_claim);
            claimed.extend(cells.flat_map(|(cell, _)| quoted(cell)));
        } else {
            columns.clear();
            item.push_str(line);
            item.push(' ');
        }
    }
    let is_sentence = |word: &String| word.matches('_').count() >= SENTENCE;
    claimed.extend(code_words(text).into_iter().filter(is_sentence));
    let is_name = |word: &String| {
        word.contains('_')
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    claimed.into_iter().filter(is_name).collect::<BTreeSet<_>>()
}

pub fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for part in prose(text).split("](").skip(1) {
        let target = part.split(')').next().unwrap_or_default();
        if target.contains("://") {
            continue;
        }
        let (to, anchor) = match target.split_once('#') {
            Some((to, anchor)) => (to, Some(anchor.to_owned())),
            None => (target, None),
        };
        links.push(Link { to: to.to_owned(), anchor });
    }
    links
}

/// The anchors of a document's headings, as GitHub makes them.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let words = heading.trim_start_matches('#').trim();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    headings.map(anchor).collect()
}

/// The path in the repository that `to` means in the document `from`.
pub fn resolve(from: &str, to: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

pub fn tests_in(source: &str) -> Vec<Test> {
    let mut tests = Vec::new();
    let (mut comment, mut is_test) = (String::new(), false);
    for line in source.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            comment.push_str(words);
        } else if line == "#[test]" {
            is_test = true;
        } else if !line.starts_with("#[") {
            if let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next())
                && is_test
            {
                let mut ids: BTreeSet<String> = ids_in(&comment, &['I']).collect();
                ids.extend(ids_of_name(name));
                tests.push(Test { name: name.to_owned(), ids });
            }
            (comment, is_test) = (String::new(), false);
        }
    }
    tests
}

/// The invariants that a name begins with: `i1_i3_…`, or `i1_to_i4_…`.
fn ids_of_name(name: &str) -> Vec<String> {
    let mut numbers: Vec<u32> = Vec::new();
    let mut range = false;
    for part in name.split('_') {
        let number = part.strip_prefix('i').and_then(|digits| digits.parse::<u32>().ok());
        match (number, numbers.last()) {
            (Some(number), Some(&last)) if range => numbers.extend(last + 1..=number),
            (Some(number), _) => numbers.push(number),
            (None, Some(_)) if part == "to" => {
                range = true;
                continue;
            }
            (None, _) => break,
        }
        range = false;
    }
    numbers.into_iter().map(|number| format!("I-{number}")).collect()
}
