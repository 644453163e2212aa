//! Completions and man pages.

use super::{code, cutover, text};
use std::fs;
use std::process::Command;

/// Every verb that the command lists in its help, but for the help itself.
fn verbs() -> Vec<String> {
    let help = text(&cutover(&["--help"]).stdout);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let verbs: Vec<String> = listed
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect();
    assert!(verbs.len() > 10 && verbs.contains(&"restore-kv".to_owned()), "{verbs:?}");
    verbs
}

#[test]
fn completions_for_every_shell_have_every_verb() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = cutover(&["completions", shell]);
        assert_eq!(code(&output), 0, "{shell}");
        let completions = text(&output.stdout);
        for verb in verbs() {
            assert!(completions.contains(&verb), "{shell}: {verb}");
        }
        assert!(completions.contains("may-be-missing"), "{shell}");
    }
    assert_eq!(code(&cutover(&["completions", "tcsh"])), 2);
}

#[test]
fn bash_takes_its_completions_and_completes_a_verb() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cutover.bash");
    fs::write(&file, cutover(&["completions", "bash"]).stdout).expect("writes");
    let script = format!(
        ". {} && COMP_WORDS=(cutover rest) COMP_CWORD=1 && _cutover cutover rest cutover && \
         echo \"${{COMPREPLY[@]}}\"",
        file.display()
    );
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash(1)");
    assert_eq!(text(&output.stdout), "restore-kv\n", "{}", text(&output.stderr));
}

#[test]
fn the_man_page_has_every_verb_and_each_verb_has_a_page_of_its_own() {
    let plain = |page: &[u8]| text(page).replace("\\-", "-");
    let output = cutover(&["man"]);
    assert_eq!(code(&output), 0);
    let folder = tempfile::tempdir().expect("a folder");
    let pages = folder.path().join("man1");
    assert_eq!(code(&cutover(&["man", pages.to_str().expect("UTF-8")])), 0);
    let page = |name: &str| fs::read(pages.join(name)).expect("a page");
    assert_eq!(text(&page("cutover.1")), text(&output.stdout));
    for verb in verbs() {
        assert!(plain(&output.stdout).contains(&format!("cutover-{verb}(1)")), "{verb}");
        let page = plain(&page(&format!("cutover-{verb}.1")));
        assert!(page.contains(".SH SYNOPSIS"), "{verb}: {page}");
    }
    let migrate = plain(&page("cutover-migrate.1"));
    assert!(migrate.contains("--may-be-missing") && migrate.contains("Exit codes:"), "{migrate}");
}
