//! Too little memory: an address space that may grow only so far, from the start of an act on, or
//! from any instant of a migration on. A process that gets no memory is told so, or aborts, or panics
//! inside an engine, between any two of its system calls.

use super::{Place, STORIES, Story, at_most_one_writer, ended, plan, play, story};
use crate::child;
use crate::common::samples;
use cutover::protocol::Contradiction;
use cutover::{Error, Observer, Progress};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

const SIGABRT: i32 = 6;

/// With one arena, and no reserve on top of it, every page is asked for when it is needed.
const ALLOCATOR: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_TOP_PAD_", "0"), ("MALLOC_TRIM_THRESHOLD_", "0")];

/// Rust's own library waits for itself for ever where a backtrace gets no memory: what says so asks for
/// the lock under which the backtrace is written.
const NO_BACKTRACE: (&str, &str) = ("RUST_BACKTRACE", "0");

/// What a process may get once nothing is left over.
const CRUMBS_BYTES: [u64; 4] = [0, 8 << 10, 64 << 10, 256 << 10];

/// How a run ended; the words are what the process says before it ends by itself.
const KINDS: [&str; 5] = ["refused", "unreachable", "part-way", "done", "died"];
const ENDED: &str = "ended: ";

/// How much address space a run took beyond what it began with, or how many instants it had.
const TOOK: &str = "took: ";

/// A number of bytes that the kernel tells of this process.
fn own_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a size");
    let kibibytes: u64 = line.trim_end_matches("kB").trim().parse().expect("a number of KiB");
    kibibytes << 10
}

/// Limits this process's address space, or lifts its limit.
fn limit(bytes: Option<u64>) {
    setrlimit(Resource::As, Rlimit { current: bytes, maximum: None }).expect("a soft limit");
}

/// A child's part: an act in an address space that may grow by this many bytes.
pub fn play_limited(act: &str, folder: &Path, bytes: &str) {
    let before = own_bytes("VmSize:");
    limit(bytes.parse().ok().map(|bytes: u64| before + bytes));
    let played = play(act, folder);
    limit(None);
    println!("{TOOK}{}", own_bytes("VmPeak:") - before);
    tell(&played);
}

/// A child's part: a migration that may take this many bytes from instant `at` on, with nothing left
/// over from before.
pub fn migrate_limited(folder: &Path, at: &str, bytes: &str) {
    let [at, bytes] = [at, bytes].map(|word| word.parse().expect("a number"));
    let mut observer = LimitAt { at, bytes, instants: 0, filled: Vec::with_capacity(BLOCKS_MAX) };
    let played = cutover::sql(&plan(folder), &mut observer).map(drop);
    limit(None);
    println!("{TOOK}{}", observer.instants);
    tell(&played);
}

fn tell(played: &Result<(), Error>) {
    let word = match played {
        Ok(()) => "done",
        Err(Error::Refused(_)) => "refused",
        Err(Error::Contradiction(found))
            if found.contradiction == Contradiction::TargetUnreachable =>
        {
            "unreachable"
        }
        Err(Error::Interrupted { .. } | Error::OutcomeUnknown { .. }) => "part-way",
        Err(other) => panic!("too little memory is told as: {other}"),
    };
    println!("{ENDED}{word}");
}

/// Stops the growth after a durable step, or a chunk.
struct LimitAt {
    at: u64,
    bytes: u64,
    instants: u64,
    filled: Vec<Vec<u8>>,
}

/// More than the allocator ever has left over.
const BLOCKS_MAX: usize = 1 << 16;

impl LimitAt {
    fn pass(&mut self) {
        self.instants += 1;
        if self.instants != self.at {
            return;
        }
        let now = own_bytes("VmSize:");
        limit(Some(now));
        let mut size = 1 << 20;
        while size >= 16 && self.filled.len() < BLOCKS_MAX {
            let mut block = Vec::new();
            match block.try_reserve_exact(size) {
                Ok(()) => self.filled.push(block),
                Err(_) => size /= 2,
            }
        }
        limit(Some(now + self.bytes));
    }
}

impl Observer for LimitAt {
    fn progress(&mut self, _: &Progress) {
        self.pass();
    }

    fn step(&mut self, _: &str, _: &str) {
        self.pass();
    }
}

/// Runs a part in a process of its own: how it ended, and what it took where it told.
fn run(words: &[&str], after: &str) -> (&'static str, Option<u64>) {
    let environment = ALLOCATOR.into_iter().chain([NO_BACKTRACE]);
    let output = child::command(words).envs(environment).output().expect("a child process");
    let [said, errors] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    for own in ["panicked at src/", "panicked at model/"] {
        assert!(!errors.contains(own), "a panic of ours after {after}: {errors}");
    }
    let word = |name: &str| said.lines().find_map(|line| line.strip_prefix(name));
    let kind = match word(ENDED).and_then(|word| KINDS.into_iter().find(|kind| *kind == word)) {
        Some(kind) if output.status.success() => kind,
        _ => {
            // A test that panics ends so; it is an engine that did.
            let panicked = output.status.code() == Some(101) && errors.contains("panicked at");
            let aborted = output.status.signal() == Some(SIGABRT);
            assert!(aborted || panicked, "{:?} after {after}: {said}{errors}", output.status);
            "died"
        }
    };
    (kind, word(TOOK).and_then(|word| word.parse().ok()))
}

/// What holds after a run with too little memory, and what the next start makes of it.
fn recovers(place: &Place, story: Story, after: &str) {
    at_most_one_writer(place, after);
    play(story.recover, &place.folder).unwrap_or_else(|error| panic!("{after}: {error}"));
    ended(place, story.end, after);
}

#[derive(Debug, Default)]
struct Counts([usize; KINDS.len()]);

impl Counts {
    fn add(&mut self, kind: &str) {
        let at = KINDS.iter().position(|found| *found == kind).expect("a kind");
        self.0[at] += 1;
    }

    fn of(&self, kind: &str) -> usize {
        KINDS.iter().zip(self.0).find(|(found, _)| **found == kind).expect("a kind").1
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<String> =
            KINDS.iter().zip(self.0).map(|(kind, count)| format!("{count} {kind}")).collect();
        f.write_str(&words.join(", "))
    }
}

/// Fewer meet too few of the ways to end.
fn limits() -> u64 {
    samples().max(6) as u64
}

/// Raises the limit of a story's act until it comes to its end.
fn sweep(name: &str, counts: &mut Counts) {
    let story = story(name);
    let place = Place::new(story);
    let folder = place.folder.to_str().expect("UTF-8");
    let (_, took) = run(&["act-limited", story.act, folder, "none"], name);
    let took = took.expect("nothing went wrong");
    let samples = limits();
    for sample in 0.. {
        place.reset();
        // Most of what is opened is opened at the start.
        let bytes = took * sample * sample / samples / samples;
        let after = format!("{name}: growing by {bytes} bytes at most");
        let (kind, _) = run(&["act-limited", story.act, folder, &bytes.to_string()], &after);
        counts.add(kind);
        recovers(&place, story, &after);
        if kind == "done" {
            return;
        }
        assert!(sample < 2 * samples, "{name} needs more than {bytes} bytes");
    }
}

#[test]
fn i1_i3_i7_an_act_that_runs_out_of_memory_leaves_one_writer_and_the_next_start_ends_it() {
    let mut counts = Counts::default();
    for (name, _) in STORIES {
        sweep(name, &mut counts);
    }
    println!("too little memory from the start on: {counts}");
    assert_eq!(counts.of("done"), STORIES.len());
    for kind in ["refused", "unreachable", "part-way"] {
        assert!(counts.of(kind) > 0, "no run was {kind}: {counts}");
    }
}

#[test]
fn i1_i2_i7_a_migration_that_runs_out_of_memory_at_any_instant_is_ended_by_the_next_start() {
    let story = story("sql");
    let place = Place::new(story);
    let folder = place.folder.to_str().expect("UTF-8");
    let (_, instants) = run(&["migrate-limited", folder, "0", "0"], "nothing");
    let instants = instants.expect("nothing went wrong");
    let runs = 4 * limits();
    let mut counts = Counts::default();
    for (sample, bytes) in (0..runs).zip(CRUMBS_BYTES.into_iter().cycle()) {
        place.reset();
        let at = 1 + sample * instants / runs;
        let after = format!("{bytes} bytes more from instant {at} of {instants} on");
        let words = ["migrate-limited", folder, &at.to_string(), &bytes.to_string()];
        let (kind, _) = run(&words, &after);
        counts.add(kind);
        recovers(&place, story, &after);
    }
    println!("too little memory in {runs} runs, at {instants} instants: {counts}");
    for kind in ["part-way", "done", "died"] {
        assert!(counts.of(kind) > 0, "no run was {kind}: {counts}");
    }
}
