//! Ctrl-C and its like: it stops where nothing is done twice, and says how to go on.

use super::{COMMAND, Daemon, code, text};
use crate::child;
use crate::common::{Pairs, read_store, read_table, write_store};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Enough chunks for a person to press a key.
const PAIRS: u32 = 6_000;

/// A daemon with one store, whose copy takes a while: its chunks are tiny, and each is durable.
struct Slow {
    _temporary: tempfile::TempDir,
    folder: PathBuf,
}

impl Slow {
    fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().to_owned();
        let slow = Self { _temporary: temporary, folder };
        write_store(&slow.path("accounts"), &pairs(PAIRS));
        let plan = "target = 'target.sqlite'\nchunk_bytes = 60\n[[source]]\nname = 'accounts'\npath = 'accounts'\n";
        fs::write(slow.path("plan.toml"), plan).expect("writes");
        slow
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn command(&self, verb: &[&str]) -> Command {
        let mut command = at_a_terminal(COMMAND);
        command.args(verb).arg("--plan").arg(self.path("plan.toml")).stdin(Stdio::null());
        command
    }

    /// Runs a verb to its end, which must be with this exit code, and returns what it said.
    fn ends(&self, verb: &[&str], expected: i32) -> String {
        let output = self.command(verb).output().expect("the command");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(code(&output), expected, "{verb:?}: {said}");
        said
    }

    fn sqlite(&self, statements: &str) {
        crate::daemon::sqlite(&self.path("target.sqlite"), statements);
    }
}

/// A program as a person starts it: anyone who started the tests may ignore signals, as nohup does, and
/// programs inherit that.
fn at_a_terminal(program: &str) -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal=INT,TERM,HUP", program]);
    command
}

fn pairs(count: u32) -> Pairs {
    let pairs = (0..count).map(|i| (i.to_be_bytes().to_vec(), i.to_le_bytes().to_vec())).collect();
    Pairs::from([("first".to_owned(), pairs)])
}

fn send(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).expect("signals");
}

/// Waits until the process has taken over what this signal does.
fn wait_for_handler(process: &Child, signal: Signal) {
    let status = format!("/proc/{}/status", process.id());
    let is_caught = || {
        let status = fs::read_to_string(&status).expect("a process");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
        let mask = u64::from_str_radix(mask.trim(), 16).expect("a number");
        mask >> (signal.as_raw() - 1) & 1 == 1
    };
    let begun = Instant::now();
    while !is_caught() {
        assert!(begun.elapsed() < Duration::from_mins(1), "it never handles {signal:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads what the process says until a line has `word`, which it returns with all before it.
fn read_until(lines: &mut impl BufRead, word: &str) -> String {
    let mut said = String::new();
    while !said.lines().last().is_some_and(|line| line.contains(word)) {
        assert_ne!(lines.read_line(&mut said).expect("reads"), 0, "no '{word}' in: {said}");
    }
    said
}

/// A pipe that is full: anyone who writes into it waits until it is read.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let flags = rustix::fs::fcntl_getfl(&writer).expect("flags");
    let set = |flags| rustix::fs::fcntl_setfl(&writer, flags).expect("sets");
    set(flags | rustix::fs::OFlags::NONBLOCK);
    let junk = [b'\n'; 512];
    while (&writer).write(&junk).is_ok() {}
    while (&writer).write(&junk[..1]).is_ok() {}
    set(flags);
    writer.flush().expect("flushes");
    (reader, writer)
}

#[test]
fn i7_a_signal_stops_a_migration_at_a_chunk_s_end_and_no_pair_is_written_twice() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let slow = Slow::new();
        slow.sqlite(
            "CREATE TABLE accounts_first (key BLOB PRIMARY KEY, value BLOB NOT NULL);
             CREATE TABLE counted (at INTEGER PRIMARY KEY AUTOINCREMENT);
             CREATE TRIGGER counts AFTER INSERT ON accounts_first
             BEGIN INSERT INTO counted VALUES (NULL); END;",
        );
        let mut process =
            slow.command(&["migrate", "--yes"]).stderr(Stdio::piped()).spawn().expect("starts");
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe"));
        read_until(&mut lines, "copying accounts/first: ");
        send(&process, signal);
        let mut said = String::new();
        lines.read_to_string(&mut said).expect("reads");
        assert_eq!(process.wait().expect("ends").code(), Some(130), "{said}");
        let (asked, stopped) = (said.find("asked to stop: "), said.find("stopped as asked"));
        assert!(asked.is_some() && asked < stopped, "{said}");
        for words in ["nothing is lost", "`cutover migrate`", "`cutover abort`"] {
            assert!(said.contains(words), "{said}");
        }
        assert!(slow.ends(&["status"], 0).contains("Migrating"));
        let written = read_table(&slow.path("target.sqlite"), "accounts_first").len();
        assert!(written > 0 && written < PAIRS as usize, "{written}");
        assert!(!child::stock_fjall_writes(&slow.path("accounts")));
        assert!(!child::plain_sqlite_writes(&slow.path("target.sqlite"), "accounts_first"));
        let said = slow.ends(&["migrate", "--yes"], 0);
        assert!(said.contains("pairs/s") && said.contains("/s, about"), "{said}");
        assert_eq!(
            read_table(&slow.path("target.sqlite"), "accounts_first"),
            pairs(PAIRS)["first"]
        );
        let counted: (u32, u32) = rusqlite::Connection::open(slow.path("target.sqlite"))
            .expect("opens")
            .query_one("SELECT count(*), max(at) FROM counted", [], |r| Ok((r.get(0)?, r.get(1)?)))
            .expect("counts");
        assert_eq!(counted, (PAIRS, PAIRS));
    }
}

#[test]
fn a_migration_that_was_stopped_can_be_taken_back() {
    let slow = Slow::new();
    let mut process =
        slow.command(&["migrate", "--yes"]).stderr(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(process.stderr.take().expect("a pipe"));
    read_until(&mut lines, "copying");
    send(&process, Signal::INT);
    lines.read_to_end(&mut Vec::new()).expect("reads");
    assert_eq!(process.wait().expect("ends").code(), Some(130));
    slow.ends(&["abort", "--yes"], 0);
    assert_eq!(read_store(&slow.path("accounts")), pairs(PAIRS));
}

#[test]
fn a_second_signal_ends_it_at_once_and_the_next_run_goes_on() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let slow = Slow::new();
        let (reader, writer) = full_pipe();
        let mut process =
            slow.command(&["migrate", "--yes"]).stderr(writer).spawn().expect("starts");
        wait_for_handler(&process, signal);
        // It waits for the pipe, so only what needs no more of it can end it.
        send(&process, Signal::INT);
        std::thread::sleep(Duration::from_millis(100));
        assert!(process.try_wait().expect("waits").is_none(), "the first asks, and no more");
        send(&process, signal);
        assert_eq!(process.wait().expect("ends").signal(), Some(signal.as_raw()));
        drop(reader);
        slow.ends(&["migrate", "--yes"], 0);
        assert_eq!(
            read_table(&slow.path("target.sqlite"), "accounts_first"),
            pairs(PAIRS)["first"]
        );
    }
}

/// So does `plan`. Both look at every 50,000th pair.
#[test]
fn a_verification_that_is_stopped_says_that_nothing_was_changed() {
    let slow = Slow::new();
    fs::remove_dir_all(slow.path("accounts")).expect("removes");
    write_store(&slow.path("accounts"), &pairs(50_001));
    let plan = fs::read_to_string(slow.path("plan.toml")).expect("reads");
    fs::write(slow.path("plan.toml"), plan.replace("chunk_bytes = 60\n", "")).expect("writes");
    let stopped = |verb: &str| {
        let (mut reader, writer) = full_pipe();
        let mut process = slow.command(&[verb]).stderr(writer).spawn().expect("starts");
        wait_for_handler(&process, Signal::INT);
        // It can't tell of the pair at which it looks before the pipe is read.
        send(&process, Signal::INT);
        let mut said = String::new();
        reader.read_to_string(&mut said).expect("reads");
        assert_eq!(process.wait().expect("ends").code(), Some(130), "{verb}: {said}");
        assert!(said.contains("stopped as asked, and nothing was changed"), "{verb}: {said}");
    };
    stopped("plan");
    slow.ends(&["migrate", "--yes"], 0);
    stopped("verify");
    assert!(slow.ends(&["verify"], 0).contains("re-reading accounts/first: 50001 pairs"));
}

#[test]
fn a_signal_that_its_starter_wants_ignored_does_not_stop_it() {
    let slow = Slow::new();
    let script = format!("trap '' HUP; exec {COMMAND} migrate --yes --plan plan.toml");
    let mut process = Command::new("sh")
        .args(["-c", &script])
        .current_dir(&slow.folder)
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(process.stderr.take().expect("a pipe"));
    read_until(&mut lines, "copying");
    send(&process, Signal::HUP);
    std::thread::sleep(Duration::from_millis(20));
    assert!(process.try_wait().expect("waits").is_none(), "it is still at work");
    lines.read_to_end(&mut Vec::new()).expect("reads");
    assert_eq!(process.wait().expect("ends").code(), Some(0));
}

/// The question waits for an answer, not for a chunk's end.
#[test]
fn a_signal_before_the_yes_ends_it_and_nothing_was_changed() {
    let daemon = Daemon::opened_once();
    let before = crate::common::snapshot(&daemon.folder);
    let words = daemon.words("migrate", &[]);
    // A terminal: script(1) gives it one.
    let line: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let line = format!("{COMMAND} {}", line.join(" "));
    let typescript = tempfile::NamedTempFile::new().expect("a file");
    let mut process = at_a_terminal("script")
        .args(["-qec", &line])
        .arg(typescript.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script(1)");
    let mut lines = BufReader::new(process.stdout.take().expect("a pipe"));
    read_until(&mut lines, "go on? [y/N]");
    // As the terminal has it when Ctrl-C is pressed.
    process.stdin.as_mut().expect("a pipe").write_all(b"\x03").expect("writes");
    lines.read_to_end(&mut Vec::new()).expect("reads");
    assert_eq!(process.wait().expect("ends").code(), Some(130), "128 and the signal's number");
    super::unchanged(&daemon.folder, &before);
    assert!(Path::new(&daemon.path("accounts")).is_dir());
}

/// The stores were open in the migration itself: "stop it".
#[test]
fn plan_beside_a_migration_says_that_another_cutover_works_there() {
    let slow = Slow::new();
    let (reader, writer) = full_pipe();
    let mut process = slow.command(&["migrate", "--yes"]).stderr(writer).spawn().expect("starts");
    let begun = Instant::now();
    let mut said = String::new();
    // It waits for the pipe with its locks held.
    while !said.contains("works on it") {
        assert!(begun.elapsed() < Duration::from_mins(1), "it never begins: {said}");
        let status = slow.command(&["status"]).output().expect("the command");
        said = text(&status.stdout);
    }
    let said = slow.ends(&["plan"], 3);
    assert!(said.contains("is being worked on by another cutover (process "), "{said}");
    assert!(!said.contains("stop it") && !said.contains("1. "), "{said}");
    process.kill().expect("kills");
    process.wait().expect("ends");
    drop(reader);
    slow.ends(&["migrate", "--yes"], 0);
}
