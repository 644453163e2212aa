//! The rounds: each way once in each, one after the other, so that a slow minute hits them all.

use crate::arguments::Arguments;
use crate::ldk;
use crate::report;
use crate::store;
use crate::ways::{CHILD, Way};
use crate::work::{Kind, Work, works};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// What the rounds of one way gave.
#[derive(Clone, Debug)]
pub struct Runs {
    pub way: Way,
    /// LDK moves fewer pairs: each takes so long.
    pub pairs: u64,
    pub seconds: Vec<f64>,
    pub peak_kibibytes: u64,
}

impl Runs {
    /// The median of an odd number of rounds; of an even one, the upper of the two.
    pub fn median(&self) -> f64 {
        median(&self.seconds)
    }

    /// Microseconds for each pair.
    pub fn pair_microseconds(&self) -> f64 {
        self.median() * 1e6 / self.pairs as f64
    }
}

/// The median; of an even number, the upper of the two in the middle.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Everything that was measured: each work with what its ways took, and what opening takes.
#[derive(Clone, Debug)]
pub struct Measured {
    pub works: Vec<(Work, Vec<Runs>)>,
    pub opening: Option<Opening>,
}

/// What opening a migrated plan takes, in microseconds, beside what it is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    pub cutover: f64,
    pub rusqlite: f64,
    pub rusqlite_and_read: f64,
    /// What a daemon calls, which makes durable what it found.
    pub sql: f64,
    pub rusqlite_and_commit: f64,
}

/// Runs every work that is asked for; what is known so far is written after each.
pub fn measure(arguments: &Arguments) -> Measured {
    let _ = fs::remove_dir_all(&arguments.folder);
    fs::create_dir_all(&arguments.folder).expect("a folder");
    let is_ldk = arguments.ldk && ldk::build();
    let mut measured = Measured { works: Vec::new(), opening: None };
    for mut work in works(arguments) {
        if work.kind == Kind::Main && is_ldk {
            work.ways.push(Way::Ldk);
        }
        eprintln!("{}", work.name);
        let original = arguments.folder.join("original");
        store::write(&original, &work);
        let mut runs: Vec<Runs> = work
            .ways
            .iter()
            .map(|&way| Runs { way, pairs: work.pairs, seconds: Vec::new(), peak_kibibytes: 0 })
            .collect();
        for _ in 0..arguments.rounds {
            for runs in &mut runs {
                let folder = arguments.folder.join("run");
                let (seconds, peak) = if runs.way == Way::Ldk {
                    runs.pairs = ldk::pairs(&work);
                    ldk::run(&folder, &work)
                } else {
                    run(&folder, &original, &work, runs.way)
                };
                eprintln!("  {:>10.3} s {:>6} MiB {}", seconds, peak / 1024, runs.way.name());
                runs.seconds.push(seconds);
                runs.peak_kibibytes = runs.peak_kibibytes.max(peak);
                if runs.way == Way::Cutover && work.kind == Kind::Main && measured.opening.is_none()
                {
                    measured.opening = Some(open(&folder));
                }
                fs::remove_dir_all(&folder).expect("removes");
            }
        }
        fs::remove_dir_all(&original).expect("removes");
        measured.works.push((work, runs));
        report::write(arguments, &measured);
    }
    measured
}

/// One run, in a folder of its own: its seconds and its peak memory in KiB.
fn run(folder: &Path, original: &Path, work: &Work, way: Way) -> (f64, u64) {
    fs::create_dir(folder).expect("a folder");
    if !way.is_floor() {
        store::copy(original, &folder.join("store"));
    }
    if work.kind == Kind::Existing {
        store::write_existing_target(&folder.join("target.sqlite"));
    }
    store::sync();
    let words = [way.name(), &work.pairs.to_string(), &work.value_bytes.to_string()];
    let [way, pairs, value_bytes] = words;
    numbers(&child(&[CHILD, way, folder.to_str().expect("UTF-8"), pairs, value_bytes]))
}

/// Opens the plan that was migrated in `folder`.
fn open(folder: &Path) -> Opening {
    let output = child(&[CHILD, "open", folder.to_str().expect("UTF-8")]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let found: Vec<f64> =
        text.split_ascii_whitespace().map(|word| word.parse().expect("a number")).collect();
    let [cutover, rusqlite, rusqlite_and_read, sql, rusqlite_and_commit] = found[..] else {
        panic!("five numbers")
    };
    Opening { cutover, rusqlite, rusqlite_and_read, sql, rusqlite_and_commit }
}

fn child(words: &[&str]) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("its own path"));
    let output = command.args(words).stderr(std::process::Stdio::inherit()).output();
    let output = output.expect("a child");
    assert!(output.status.success(), "{words:?} failed");
    output
}

/// Seconds and KiB, as a child prints them.
pub fn numbers(output: &Output) -> (f64, u64) {
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_ascii_whitespace();
    let seconds = words.next().and_then(|word| word.parse().ok()).expect("seconds");
    (seconds, words.next().and_then(|word| word.parse().ok()).expect("a peak"))
}
