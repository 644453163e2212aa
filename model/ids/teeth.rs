//! The gate refuses each kind of mistake: a small whole repository passes, and each change to it is
//! found, and nothing else.

use super::{Repository, complaints};

const INVARIANTS: &str = "# Invariants\n\n### I-1 One writer\n\nTested by: `i1_one_writer`.\n";
const ASSUMPTIONS: &str = "# Assumptions\n\n### A-1 A rename is one step\n\n\
    Tested by: `i1_one_writer`,\n`what_is_renamed_is_there`; leaned upon in `src/disk.rs`.\n\n\
    ### A-2 A sync is kept\n\nCan't be tested: the disk decides.\n";
const LIMITS: &str =
    "# Limits\n\n- **L-1 Mounts.** See [the words](invariants.md#i-1-one-writer).\n";
const ORDER: &str = "[1](invariants.md), [2](assumptions.md), [3](limits.md), [4](decisions/)\n";
const DISK: &str = "// I-1: the name is never free.\npub fn exchange() {}\n";
const TESTS: &str = "/// The story.\n#[test]\nfn i1_one_writer() {}\n\n\
    #[test]\n#[ignore]\nfn what_is_renamed_is_there() {}\n\nfn a_helper_of_them() {}\n";

fn whole() -> Repository {
    let mut repository = Repository::default();
    for (path, text) in [
        ("docs/invariants.md", INVARIANTS),
        ("docs/assumptions.md", ASSUMPTIONS),
        ("docs/limits.md", LIMITS),
        ("docs/README.md", ORDER),
        ("docs/decisions/1.md", "# Why\n"),
        ("src/disk.rs", DISK),
        ("src/protocol/mod.rs", "#[cfg(test)]\nmod closure;\n"),
        ("src/protocol/closure.rs", "// I-1 in every world\n"),
        ("model/crash.rs", TESTS),
    ] {
        repository.texts.insert(path.to_owned(), text.to_owned());
        repository.paths.insert(path.to_owned());
    }
    repository.paths.insert("docs/decisions".to_owned());
    repository
}

/// What is found once `from` is `to` in the file at `path`.
fn found(path: &str, from: &str, to: &str) -> Vec<String> {
    let mut repository = whole();
    let text = repository.texts.get_mut(path).expect("a file");
    assert!(text.contains(from), "{path} has no {from}");
    *text = text.replace(from, to);
    complaints(&repository, &[])
}

#[test]
fn a_whole_repository_is_passed() {
    assert_eq!(complaints(&whole(), &[]), [""; 0]);
}

#[test]
fn an_id_that_nothing_declares_is_refused_wherever_it_is_used() {
    let words = "uses A-3, which nothing declares";
    for (path, from, to) in [
        ("src/disk.rs", "free.", "free (A-3)."),
        ("model/crash.rs", "The story.", "The story of A-3's end."),
        ("docs/limits.md", "Mounts.", "Mounts, A-3."),
        ("docs/invariants.md", "# Invariants", "# Invariants\n\n```text\nA-3\n```"),
    ] {
        assert_eq!(found(path, from, to), [format!("{path} {words}")]);
    }
}

#[test]
fn an_id_that_is_declared_twice_is_refused_in_whatever_form() {
    for again in ["### L-1 Again", "| L-1 | again |", "- L-1: again"] {
        assert_eq!(found("docs/limits.md", "# Limits", again), ["L-1 is declared twice"]);
    }
}

#[test]
fn an_id_that_was_retired_is_refused_when_it_comes_back() {
    let words = ["docs/limits.md uses L-1, which was retired"];
    assert_eq!(complaints(&whole(), &["L-1"]), words);
}

#[test]
fn an_invariant_must_be_named_where_it_is_enforced_by_a_test_and_in_a_model() {
    let enforced = ["no comment in src/ says where I-1 is enforced"];
    assert_eq!(found("src/disk.rs", "// I-1: the", "// The"), enforced);
    // Neither code nor the tests inside a file are where a rule is enforced.
    assert_eq!(found("src/disk.rs", "// I-1: the", "const S: &str = \"I-1\"; // The"), enforced);
    let inside = "#[cfg(test)]\nmod tests {\n// I-1: the";
    assert_eq!(found("src/disk.rs", "// I-1: the", &format!("\n{inside}")), enforced);
    let unmodelled = ["no model names I-1, and nothing says why"];
    assert_eq!(found("src/protocol/closure.rs", "I-1", "all"), unmodelled);

    let mut repository = whole();
    for text in repository.texts.values_mut() {
        *text = text.replace("i1_one_writer", "one_writer");
    }
    assert_eq!(complaints(&repository, &[]), ["no test names I-1"]);
    let tests = repository.texts.get_mut("model/crash.rs").expect("a file");
    *tests = tests.replace("The story.", "The story of I-1.");
    assert_eq!(complaints(&repository, &[]), [""; 0]);
    let tests = repository.texts.get_mut("model/crash.rs").expect("a file");
    *tests = tests.replace("fn one_writer", "fn i0_to_i2_one_writer");
    let lost = "names the test one_writer, and there is none";
    let documents = ["docs/assumptions.md", "docs/invariants.md"];
    assert_eq!(complaints(&repository, &[]), documents.map(|path| format!("{path} {lost}")));
}

#[test]
fn an_invariant_that_no_model_can_speak_of_says_why() {
    let mut repository = whole();
    repository.texts.remove("src/protocol/closure.rs");
    let words = repository.texts.get_mut("docs/invariants.md").expect("a file");
    words.push_str("\nNot modelled: it is about bytes.\n");
    assert_eq!(complaints(&repository, &[]), [""; 0]);
}

#[test]
fn an_assumption_without_a_test_or_a_reason_is_refused() {
    let words = ["A-2 has neither a test nor a reason why there is none"];
    assert_eq!(found("docs/assumptions.md", "Can't be tested: the", "The"), words);
}

#[test]
fn a_test_that_is_none_is_refused_in_prose_and_in_a_column() {
    let lost = |name: &str| [format!("docs/limits.md names the test {name}, and there is none")];
    let prose = "Mounts.\nChecked by\n  `no_such_test`";
    assert_eq!(found("docs/limits.md", "Mounts.", prose), lost("no_such_test"));
    let helper = "Mounts. Tested by `a_helper_of_them`.";
    assert_eq!(found("docs/limits.md", "Mounts.", helper), lost("a_helper_of_them"));
    let table = "| what | tested by |\n|---|---|\n| `not_a_claim` | `no_such_test` |\n\n# Limits";
    assert_eq!(found("docs/limits.md", "# Limits", table), lost("no_such_test"));
    let sentence = "Mounts, `a_name_that_only_a_test_has`.";
    assert_eq!(found("docs/limits.md", "Mounts.", sentence), lost("a_name_that_only_a_test_has"));
    let second = "Mounts, checked by `i1_one_writer`. Tested by `no_such_test`.";
    assert_eq!(found("docs/limits.md", "Mounts.", second), lost("no_such_test"));
    let after = "Mounts, checked by `i1_one_writer`. Then `not_a_claim`.";
    assert_eq!(found("docs/limits.md", "Mounts.", after), [""; 0]);
    let elsewhere = "Tested by nobody.\n\nThen `not_a_claim`.\n\n# Limits";
    assert_eq!(found("docs/limits.md", "# Limits", elsewhere), [""; 0]);
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let lost = |name: &str| [format!("docs/limits.md names the file {name}, and there is none")];
    for name in ["src/disks.rs", "lost.md", "model/lost"] {
        let words = format!("Mounts, `{name}`.");
        assert_eq!(found("docs/limits.md", "Mounts.", &words), lost(name));
    }
    for name in ["src/disk.rs", "disk.rs", "limits.md", "<dir>/version", "data/accounts"] {
        let words = format!("Mounts, `{name}`.");
        assert_eq!(found("docs/limits.md", "Mounts.", &words), [""; 0]);
    }
}

#[test]
fn a_link_that_leads_nowhere_is_refused() {
    let lost = ["docs/limits.md links to docs/invariant.md, and there is none"];
    assert_eq!(found("docs/limits.md", "invariants.md#", "invariant.md#"), lost);
    let lost =
        ["docs/limits.md links to #i-1-two in docs/invariants.md, and there is no such heading"];
    assert_eq!(found("docs/limits.md", "i-1-one-writer", "i-1-two"), lost);
    for there in ["#limits", "../src/disk.rs", "https://example.org/a#b"] {
        assert_eq!(found("docs/limits.md", "invariants.md#i-1-one-writer", there), [""; 0]);
    }
}

#[test]
fn a_document_that_the_reading_order_does_not_name_is_refused() {
    let lost = ["docs/README.md does not link to docs/limits.md"];
    assert_eq!(found("docs/README.md", "(limits.md)", "(invariants.md)"), lost);
    let lost = ["docs/README.md does not link to docs/decisions/1.md"];
    assert_eq!(found("docs/README.md", "(decisions/)", "(limits.md)"), lost);
}
