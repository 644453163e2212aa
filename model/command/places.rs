//! Places that can't be written, which preflight finds out: `plan` says so, and `migrate` refuses with
//! nothing changed.

use super::{COMMAND, Daemon, code, text, unchanged};
use crate::common::{SOURCES, copy_tree, snapshot};
use crate::daemon::sqlite;
use crate::refusals::Mount;
use crate::refusals::places::Holder;
use cutover::fault::{BUSY_ENVIRONMENT, LENGTH_ENVIRONMENT};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
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
        self.command(verb).output().expect("the command")
    }

    fn command(&self, verb: &[&str]) -> Command {
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
        command
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
                assert!(said.contains(reason), "{verb:?}, no '{reason}': {said}");
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
        self.migrates_on();
    }

    fn migrates_on(&self) {
        self.ends(&["migrate", "--yes"], 0);
    }
}

/// A migration in a process that is killed where the environment says.
pub fn migrate(folder: &str, target: &str) {
    cutover::fault::arm_from_environment();
    let plan = SOURCES.iter().fold(cutover::Plan::builder("small"), |plan, name| {
        plan.source(*name, Path::new(folder).join(name), |source| source.every_keyspace())
    });
    let plan = plan.target(target).build().expect("a plan");
    cutover::sql(&plan, &mut ()).expect("SQL");
}

impl Placed {
    /// Kills a migration at the first fault point of the step with this number.
    fn killed_in_step(&self, step: usize) {
        self.killed_at(step, 1);
    }

    /// Kills a migration at this fault point of the step with this number.
    fn killed_at(&self, step: usize, point: usize) {
        let words = ["migrate", utf8(&self.daemon.folder), utf8(&self.target)];
        let output = crate::child::command(&words)
            .env(cutover::fault::ENVIRONMENT, format!("kill:{point}@{step}"))
            .output()
            .expect("a child process");
        assert_eq!(output.status.signal(), Some(crate::child::SIGKILL), "{step}");
    }

    /// Kills a migration when every source is sealed, and no marker is raised yet.
    fn killed_behind_the_seals(&self) {
        // It confirms, claims, seals each, confirms, and then raises the first.
        self.killed_in_step(SOURCES.len() + 4);
        let status = self.status();
        for source in status["sources"].as_array().expect("sources") {
            assert_eq!((&source["marker"], &source["attempt"]), (&json!("sealed"), &json!(1)));
        }
        assert_eq!(status["target"]["record"], "none");
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_slice(&self.run(&["status", "--json"]).stdout).expect("one JSON object")
    }

    /// Demands that, as things stand, the migration can't go on, an abort can, and every store opens.
    fn only_goes_back(&self, why: &str) {
        let said = self.ends_not(&["migrate", "--yes"]);
        assert!(said.contains(why), "no '{why}': {said}");
        let status = self.status();
        let can = status["can"].as_array().expect("verbs");
        assert!(can.iter().any(|verb| verb["verb"] == "abort"), "{status}");
        self.ends(&["abort", "--yes"], 0);
        self.daemon.is_whole_in_kv();
    }

    fn ends_not(&self, verb: &[&str]) -> String {
        let output = self.run(verb);
        assert_ne!(code(&output), 0, "{verb:?}");
        text(&output.stdout) + &text(&output.stderr)
    }
}

/// It was migrated to the seal, and then its disk was mounted for reading alone: `abort` failed too, so
/// that neither side opened.
#[test]
fn i4_what_was_only_sealed_comes_back_where_the_target_is_on_a_read_only_mount() {
    for placed in [Placed::new(), Placed::with_database("delete"), Placed::with_database("wal")] {
        placed.killed_behind_the_seals();
        let mount = Mount::read_only(placed.folder());
        placed.only_goes_back("mount its file system for writing");
        drop(mount);
        placed.migrates();
    }
}

#[test]
fn i4_what_was_only_sealed_comes_back_where_another_connection_holds_the_target() {
    for (mode, statements) in [
        ("delete", "BEGIN IMMEDIATE"),
        ("delete", "BEGIN EXCLUSIVE"),
        ("delete", "BEGIN; SELECT * FROM t"),
        ("wal", "BEGIN IMMEDIATE"),
    ] {
        let placed = Placed::with_database(mode);
        placed.killed_behind_the_seals();
        let holder = placed.holder(statements);
        placed.only_goes_back("database is locked");
        holder.let_go();
        placed.migrates();
    }
}

#[test]
fn i4_what_was_only_sealed_comes_back_whatever_became_of_the_target_and_its_claim() {
    // Somebody else's bytes; its volume is not mounted; its folder is gone.
    let placed = Placed::with_database("delete");
    placed.killed_behind_the_seals();
    let kept = fs::read(&placed.target).expect("reads");
    fs::write(&placed.target, "no database at all, but longer than its head").expect("writes");
    placed.only_goes_back("not a database");
    fs::write(&placed.target, kept).expect("writes");
    placed.migrates();

    let placed = Placed::new();
    placed.killed_behind_the_seals();
    let mount = Mount::memory(placed.folder(), 64);
    placed.only_goes_back("is no claim file");
    drop(mount);
    // The claim that was left there says nothing where no source has a marker.
    placed.migrates();

    let placed = Placed::new();
    placed.killed_behind_the_seals();
    let away = placed.daemon.folder.join("away");
    fs::rename(placed.folder(), &away).expect("moves");
    placed.only_goes_back("the folder");
    fs::rename(&away, placed.folder()).expect("moves back");
    placed.migrates();
}

/// Two deployments have one plan name and one target, and the second took the claim over after the first
/// had sealed its stores: the first was locked out, until the second's claim was moved away.
#[test]
fn i4_what_was_only_sealed_comes_back_beside_another_deployment_s_claim_which_stays() {
    let (first, mut second) = (Placed::new(), Placed::new());
    second.target.clone_from(&first.target);
    first.killed_behind_the_seals();
    second.killed_behind_the_seals();
    let theirs = snapshot(first.folder());
    first.only_goes_back("claim file beside");
    unchanged(first.folder(), &theirs);
    second.migrates_on();
}

/// The same, once the second has begun its copy: the first can't tell that record from one of its own
/// stores. It is thrown away first, and the second copies once more.
#[test]
fn i4_what_was_only_sealed_comes_back_beside_another_deployment_s_copy_once_that_is_thrown_away() {
    let (first, mut second) = (Placed::new(), Placed::new());
    second.target.clone_from(&first.target);
    first.killed_behind_the_seals();
    second.killed_in_step(SOURCES.len() + 8);
    first.ends(&["abort", "--yes"], 4);
    first.only_goes_back("claim file beside");
    second.migrates_on();
}

/// The marker that a killed seal was writing is found by the migration's id; the claim that says it is
/// gone, and so is the first marker once its source is open.
#[test]
fn i8_an_abort_without_a_claim_leaves_nothing_of_a_seal_that_was_killed() {
    let placed = Placed::new();
    let (folder, claim) =
        (placed.daemon.folder.clone(), placed.folder().join("target.sqlite.cutover"));
    let before = snapshot(&folder);
    let left_over = || {
        let names = fs::read_dir(&folder).expect("lists").map(|entry| entry.expect("an entry"));
        let mut names = names.map(|entry| entry.file_name().into_string().expect("UTF-8"));
        names.any(|name| name.contains(".cutover-"))
    };
    // Confirm, claim, a seal; then the second seal, to where the marker has no name of its own yet.
    let points = (1..20).find(|point| {
        placed.killed_at(4, *point);
        let is_left = left_over();
        if !is_left {
            placed.ends(&["abort", "--yes"], 0);
        }
        is_left
    });
    assert!(points.is_some(), "a seal writes its marker beside the source first");
    fs::remove_file(claim).expect("removes the claim");
    placed.ends(&["abort", "--yes"], 0);
    unchanged(&folder, &before);
}

/// Root migrated, and the daemon's own user is to go back.
#[test]
fn i4_what_was_only_sealed_comes_back_for_a_user_who_may_not_look_at_the_target() {
    let mut placed = Placed::with_database("delete");
    let (outside, data) =
        (placed.daemon.folder.parent().expect("a folder").to_owned(), placed.daemon.folder.clone());
    placed.killed_behind_the_seals();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o755)).expect("lets in");
    let command = outside.join("cutover");
    fs::copy(COMMAND, &command).expect("copies");
    shell(&["chown", "-R", "65534:65534", utf8(&data)]);
    shell(&["chown", "-R", "0:0", utf8(placed.folder())]);
    fs::set_permissions(placed.folder(), fs::Permissions::from_mode(0o700)).expect("shuts");
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    placed.run_by = user.map(ToOwned::to_owned).to_vec();
    placed.command = command;
    placed.only_goes_back("who may not use it");
    shell(&["chown", "-R", "65534:65534", utf8(placed.folder())]);
    placed.migrates();
}

/// The target is tried once more before a marker is raised: until then nothing is asked of it.
#[test]
fn a_target_that_can_t_be_written_any_more_raises_no_marker() {
    let placed = Placed::with_database("delete");
    placed.killed_behind_the_seals();
    let holder = placed.holder("BEGIN IMMEDIATE");
    for _ in 0..2 {
        placed.ends_not(&["migrate", "--yes"]);
        for source in placed.status()["sources"].as_array().expect("sources") {
            assert_eq!(source["attempt"], 1, "{source}");
        }
    }
    holder.let_go();
    placed.migrates_on();
}

/// An immutable `version` file: that lock is only a second one, and no start ever came to its end.
#[test]
fn i4_a_second_lock_that_can_t_be_set_is_told_and_gone_on_without() {
    let placed = Placed::new();
    placed.killed_behind_the_seals();
    let version = placed.daemon.folder.join("accounts.retired/version");
    shell(&["chattr", "+i", utf8(&version)]);
    let said = placed.ends(&["migrate", "--yes"], 0);
    assert!(said.contains("warning: could not set the second lock (accounts)"), "{said}");
    let locks = |placed: &Placed| {
        let status = placed.status();
        assert_eq!(status["state"], "Tombstoned");
        let locks = |source: &serde_json::Value| source["second_lock"] == json!(true);
        status["sources"].as_array().expect("sources").iter().map(locks).collect::<Vec<_>>()
    };
    assert_eq!(locks(&placed).iter().filter(|set| !**set).count(), 1);
    let left = placed.daemon.folder.join("accounts.retired/version.cutover");
    assert!(!left.exists(), "nothing of ours stays");
    let said = placed.ends(&["migrate", "--yes"], 0);
    assert!(said.contains("warning: the second lock of source 'accounts' is not set"), "{said}");
    shell(&["chattr", "-i", utf8(&version)]);
    let said = placed.ends(&["migrate", "--yes"], 0);
    assert!(!said.contains("warning"), "{said}");
    assert!(locks(&placed).iter().all(|set| *set));
}

/// The way back must leave a store that opens: a second lock that can't be lifted is no warning.
#[test]
fn a_second_lock_that_can_t_be_lifted_stops_the_way_back_until_it_can() {
    let placed = Placed::new();
    placed.migrates();
    fs::rename(&placed.target, placed.folder().join("away")).expect("moves");
    let version = placed.daemon.folder.join("accounts.retired/version");
    shell(&["chattr", "+i", utf8(&version)]);
    let said = placed.ends(&["restore-kv", "--yes"], 7);
    assert!(said.contains("lift the second lock"), "{said}");
    shell(&["chattr", "-i", utf8(&version)]);
    placed.ends(&["restore-kv", "--yes"], 0);
    placed.daemon.is_whole_in_kv();
}

/// What a process that was killed in a transaction has left of its journal is no one's; what a database
/// in PERSIST keeps is.
#[test]
fn a_journal_that_a_kill_left_is_removed_without_a_trace_of_a_trial_and_a_kept_one_is_not() {
    let placed = Placed::with_database("delete");
    let journal = PathBuf::from(format!("{}-journal", placed.target.display()));
    placed.holder("BEGIN IMMEDIATE; PRAGMA user_version = 0").kill();
    assert!(journal.exists(), "the killed process left its journal");
    placed.ends(&["plan"], 0);
    assert!(!journal.exists());

    let placed = Placed::with_database("persist");
    let journal = PathBuf::from(format!("{}-journal", placed.target.display()));
    let before = fs::read(&journal).expect("it is kept");
    placed.ends(&["plan"], 0);
    assert_eq!(fs::read(&journal).expect("it is kept"), before);
}

/// The rehearsal writes every pair, so it finds one that is longer than SQLite takes.
#[test]
fn a_value_that_is_longer_than_sqlite_takes_is_named_before_anything_is_sealed() {
    let placed = Placed::new();
    let store =
        fjall::Database::builder(placed.daemon.folder.join("sessions")).open().expect("opens");
    let keyspace =
        store.keyspace("long", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
    keyspace.insert("short", [1; 10]).expect("inserts");
    keyspace.insert("wide", vec![7; 200_000]).expect("inserts");
    store.persist(fjall::PersistMode::SyncAll).expect("persists");
    drop((keyspace, store));
    placed.daemon.opens();
    let before = snapshot(&placed.daemon.folder);
    let told = |verb: &[&str]| {
        let output = placed.command(verb).env(LENGTH_ENVIRONMENT, "100000").output();
        let output = output.expect("the command");
        (code(&output), text(&output.stdout) + &text(&output.stderr))
    };
    let (ended, said) = told(&["plan"]);
    assert_eq!(ended, 0, "{said}");
    assert!(said.contains("not looked at: whether each pair fits its table"), "{said}");
    let (ended, said) = told(&["plan", "--full"]);
    assert_eq!(ended, 3, "{said}");
    let key = format!("long/{}", hex::encode("wide"));
    for words in ["source 'sessions'", &key, "its row is longer than SQLite takes"] {
        assert!(said.contains(words), "no '{words}': {said}");
    }
    unchanged(&placed.daemon.folder, &before);
    placed.migrates();
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
    placed.is_refused(&["belongs to user 0 (root) with mode 644", "run this as user 0 (root)"]);
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
            let said = placed.ends(&["plan"], 3);
            assert!(said.starts_with("plan 'small': "), "the other places are looked at: {said}");
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
