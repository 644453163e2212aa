//! Places that can't be written, which preflight finds out: `plan` says so, and `migrate` refuses with
//! nothing changed.

use super::{COMMAND, Daemon, code, text, unchanged};
use crate::common::{SOURCES, copy_tree, snapshot};
use crate::daemon::sqlite;
use crate::refusals::Mount;
use crate::refusals::places::Holder;
use cutover::fault::BUSY_ENVIRONMENT;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The small daemon's stores, and a target somewhere.
pub struct Placed {
    pub daemon: Daemon,
    pub target: PathBuf,
    command: PathBuf,
    /// What the command is run by, as another user.
    run_by: Vec<String>,
}

impl Placed {
    /// With a target that does not exist yet, in a folder of its own.
    pub fn new() -> Self {
        Self::of(Daemon::opened_once())
    }

    fn of(daemon: Daemon) -> Self {
        let folder = daemon.folder.join("sql");
        fs::create_dir(&folder).expect("a folder");
        let (target, command) = (folder.join("target.sqlite"), PathBuf::from(COMMAND));
        Self { target, daemon, command, run_by: Vec::new() }
    }

    /// With a target that holds a table of somebody else's, in this journal mode.
    fn with_database(mode: &str) -> Self {
        let placed = Self::new();
        sqlite(
            &placed.target,
            &format!("PRAGMA journal_mode = {mode}; CREATE TABLE t (x); INSERT INTO t VALUES (1)"),
        );
        placed
    }

    pub fn folder(&self) -> &Path {
        self.target.parent().expect("a folder")
    }

    pub fn run(&self, verb: &[&str]) -> Output {
        let mut words = self.run_by.clone();
        words.push(self.command.display().to_string());
        words.extend(verb.iter().map(ToString::to_string));
        words.extend(["--name".to_owned(), "small".to_owned()]);
        for name in SOURCES {
            words.push("--source".to_owned());
            words.push(format!("{name}={}", self.daemon.folder.join(name).display()));
        }
        words.extend(["--target".to_owned(), self.target.display().to_string()]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).env(BUSY_ENVIRONMENT, "50");
        command.output().expect("the command")
    }

    pub fn ends(&self, verb: &[&str], expected: i32) -> String {
        let output = self.run(verb);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(code(&output), expected, "{verb:?}: {said}");
        said
    }

    /// Demands that every verb that would go on refuses, says each of `reasons`, and leaves all below
    /// the folder as it is.
    fn is_refused(&self, reasons: &[&str]) {
        let before = snapshot(&self.daemon.folder);
        for verb in [&["plan"][..], &["plan", "--full"], &["migrate", "--yes"]] {
            let said = self.ends(verb, 3);
            for reason in reasons {
                // A database in WAL that can't be written can't even be opened as a migration does.
                let opens = verb[0] == "plan" || !said.contains("SQLite failed to open");
                assert!(!opens || said.contains(reason), "{verb:?}, no '{reason}': {said}");
            }
            if said.starts_with("plan '") {
                let second = said.lines().nth(1).expect("a second line");
                assert!(second.starts_with("  refused: "), "refusals come first: {said}");
            }
            unchanged(&self.daemon.folder, &before);
        }
    }

    /// Another process that holds the target: a process that reads a file of its own drops its locks.
    fn holder(&self, statements: &str) -> Holder {
        Holder::start(&["sqlite-hold", utf8(&self.target), statements])
    }

    /// Demands that nothing is in the way any more.
    fn migrates(&self) {
        self.ends(&["plan", "--full"], 0);
        self.ends(&["migrate", "--yes"], 0);
    }
}

fn shell(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().expect(words[0]);
    assert!(output.status.success(), "{words:?}, as root: {}", text(&output.stderr));
}

fn utf8(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_target_that_is_another_user_s_is_refused_before_anything_is_sealed() {
    let mut placed = Placed::with_database("delete");
    let (outside, data) = (placed.daemon.folder.parent().expect("a folder"), &placed.daemon.folder);
    fs::set_permissions(outside, fs::Permissions::from_mode(0o755)).expect("lets in");
    // The command too must be where that user can run it.
    let command = outside.join("cutover");
    fs::copy(COMMAND, &command).expect("copies");
    shell(&["chown", "-R", "65534:65534", utf8(data)]);
    shell(&["chown", "0:0", utf8(&placed.target)]);
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    placed.run_by = user.map(ToOwned::to_owned).to_vec();
    placed.command = command;
    placed.is_refused(&["readonly database", "run this as the user who owns it"]);
    shell(&["chown", "65534:65534", utf8(&placed.target)]);
    placed.migrates();
}

#[test]
fn a_target_on_a_read_only_mount_is_refused_before_anything_is_sealed() {
    for placed in [Placed::new(), Placed::with_database("delete"), Placed::with_database("wal")] {
        let mount = Mount::read_only(placed.folder());
        placed.is_refused(&["Read-only file system", "mount its file system for writing"]);
        drop(mount);
        placed.migrates();
    }
}

#[test]
fn a_target_that_another_connection_is_writing_is_refused_before_anything_is_sealed() {
    for mode in ["delete", "wal"] {
        let placed = Placed::with_database(mode);
        let holder = placed.holder("BEGIN IMMEDIATE");
        placed.is_refused(&["database is locked", "end the program that has it open"]);
        holder.let_go();
        placed.migrates();
    }
}

/// A commit waits for those who read, but not where it goes into a log.
#[test]
fn a_target_that_is_read_for_longer_than_a_commit_waits_is_refused_unless_it_is_in_wal() {
    for mode in ["delete", "wal"] {
        let placed = Placed::with_database(mode);
        let reader = placed.holder("BEGIN; SELECT * FROM t");
        if mode == "delete" {
            placed.is_refused(&["database is locked", "end the program that has it open"]);
            reader.let_go();
            placed.migrates();
        } else {
            placed.migrates();
            reader.let_go();
        }
    }
}

/// Whatever is free: what `plan` has nothing against comes to its end.
#[test]
fn where_inodes_run_out_plan_says_so_and_what_it_lets_through_comes_to_its_end() {
    let placed = Placed::new();
    let kept = tempfile::tempdir().expect("a folder");
    copy_tree(&placed.daemon.folder, kept.path());
    let mut refused = 0;
    for free in 0.. {
        let mount = Mount::run(
            &placed.daemon.folder,
            &["-t", "tmpfs", "-o", "size=64m,nr_inodes=300", "tmpfs"],
        );
        copy_tree(kept.path(), &placed.daemon.folder);
        // More than there are inodes.
        let mut fillers: Vec<PathBuf> = (0..1_000)
            .map(|number| placed.daemon.folder.join(format!("filler-{number}")))
            .take_while(|filler| fs::write(filler, "").is_ok())
            .collect();
        for filler in fillers.drain(..free) {
            fs::remove_file(filler).expect("removes");
        }
        let has_room = code(&placed.run(&["plan"])) == 0;
        if has_room {
            placed.ends(&["migrate", "--yes"], 0);
        } else {
            placed.is_refused(&["No space left on device"]);
            refused += 1;
        }
        drop(mount);
        if has_room {
            break;
        }
    }
    println!("refused with up to {refused} inodes free");
    assert!(refused > 2);
}

/// Whatever the limit: it is named, and what is refused has changed nothing.
#[test]
fn where_open_files_run_out_the_limit_is_named_and_the_next_run_goes_on() {
    let (mut refused, mut part_way) = (0, 0);
    for limit in 5.. {
        let mut placed = Placed::new();
        let before = snapshot(&placed.daemon.folder);
        placed.run_by = vec!["prlimit".to_owned(), format!("--nofile={limit}:{limit}")];
        let output = placed.run(&["migrate", "--yes"]);
        let said = text(&output.stdout) + &text(&output.stderr);
        match code(&output) {
            0 => break,
            3 => {
                unchanged(&placed.daemon.folder, &before);
                refused += 1;
            }
            7 => part_way += 1,
            other => panic!("with {limit} files: {other}: {said}"),
        }
        assert!(said.contains("ulimit -n"), "with {limit} files: {said}");
        placed.run_by.clear();
        placed.ends(&["migrate", "--yes"], 0);
    }
    println!("{refused} refused, {part_way} part-way");
    assert!(refused > 2);
}

#[test]
fn where_a_name_beside_the_target_is_too_long_plan_says_so() {
    // The claim is written under a name with 41 bytes more.
    for length in [214, 215, 230, 255] {
        let mut placed = Placed::new();
        placed.target = placed.folder().join("t".repeat(length));
        if length > 214 {
            placed.is_refused(&["File name too long"]);
        } else {
            placed.migrates();
        }
    }
}

#[test]
fn a_store_in_a_lower_layer_of_an_overlay_is_refused_before_anything_is_sealed() {
    for moves in ["off", "on"] {
        let placed = Placed::new();
        let outside = placed.daemon.folder.parent().expect("a folder");
        let at = |name: &str| outside.join(name);
        fs::rename(&placed.daemon.folder, at("lower")).expect("moves");
        for name in ["data", "upper", "work"] {
            fs::create_dir(at(name)).expect("a folder");
        }
        let layers = format!(
            "redirect_dir={moves},lowerdir={},upperdir={},workdir={}",
            at("lower").display(),
            at("upper").display(),
            at("work").display()
        );
        let mount = Mount::run(&placed.daemon.folder, &["-t", "overlay", "-o", &layers, "overlay"]);
        if moves == "off" {
            placed.is_refused(&["the overlay file system", "can't exchange two names"]);
        } else {
            placed.migrates();
        }
        drop(mount);
    }
}

#[test]
fn what_chattr_keeps_from_being_changed_is_refused_before_anything_is_sealed() {
    for (attribute, place, reason) in [
        ("i", "accounts/version", "accounts/version can't be changed: it is immutable"),
        ("a", "accounts/version", "accounts/version can't be changed: it can only be appended to"),
        ("i", "sessions", "sessions can't be changed: it is immutable"),
        ("a", "sql", "sql can't be changed: it can only be appended to"),
        ("i", "sql/target.sqlite", "target.sqlite can't be changed: it is immutable"),
    ] {
        let placed = Placed::with_database("delete");
        let path = placed.daemon.folder.join(place);
        shell(&["chattr", &format!("+{attribute}"), utf8(&path)]);
        placed.is_refused(&[reason, &format!("chattr -{attribute}")]);
        shell(&["chattr", &format!("-{attribute}"), utf8(&path)]);
        placed.migrates();
    }
}

#[test]
fn a_version_file_that_something_is_mounted_over_is_refused_before_anything_is_sealed() {
    let placed = Placed::new();
    let version = placed.daemon.folder.join("accounts/version");
    let mount = Mount::read_only(&version);
    placed.is_refused(&["accounts/version is a mount of its own"]);
    drop(mount);
    placed.migrates();
}

/// What a kill in the middle of a trial leaves is removed by the next, and somebody else's is not.
#[test]
fn what_a_killed_trial_left_is_removed_and_somebody_else_s_file_is_not() {
    let placed = Placed::new();
    let beside = |end: &str| PathBuf::from(format!("{}{end}", placed.target.display()));
    let taken = placed.daemon.folder.join("accounts.cutover-probe-3");
    let ours = [".cutover-probe", ".cutover-probe-2", ".cutover-probe-2-journal"].map(beside);
    for file in &ours {
        fs::write(file, if file == &ours[2] { "a journal" } else { "" }).expect("writes");
    }
    fs::create_dir(&taken).expect("a folder");
    fs::write(taken.join("taken"), "").expect("writes");
    fs::write(placed.daemon.folder.join("accounts/version.cutover"), "").expect("writes");
    placed.ends(&["plan"], 0);
    let left: Vec<&PathBuf> = ours.iter().filter(|file| file.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!placed.daemon.folder.join("accounts/version.cutover").exists());
    fs::write(&ours[0], "dear reader").expect("writes");
    placed.is_refused(&["target.sqlite.cutover-probe changed while cutover worked on it"]);
    fs::remove_file(&ours[0]).expect("removes");
    // Of the stores' own, `Tidy` removes what is ours; a folder with something in it is not.
    fs::write(taken.join("letter"), "dear reader").expect("writes");
    placed.migrates();
    assert!(taken.join("letter").exists());
}
