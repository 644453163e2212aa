//! The daemon killed at random instants: while it moves, and while it serves.

use super::{APPROVED, KV, Litd, STORES};
use super::{ask, dumped, dumped_by_sql, litd, markers, seed, sql_writes, started};
use crate::child::stock_fjall_writes;
use crate::common::{copy_tree, samples};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Spreads instants evenly over a time, in an order that repeats nothing: the fractions of the
/// multiples of the golden ratio.
fn instant(sample: usize, within: Duration) -> Duration {
    let sample = u32::try_from(sample).expect("a small number");
    within.mul_f64((f64::from(sample) * 0.618_033_988_749_895).fract())
}

/// A seeded daemon's folder, to be copied for each kill.
struct Seeded {
    temporary: tempfile::TempDir,
    dump: String,
}

impl Seeded {
    fn new() -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = temporary.path().join("seeded");
        fs::create_dir(&folder).expect("a folder");
        let dump = seed(&folder);
        Self { temporary, dump }
    }

    fn copy(&self, name: &str) -> PathBuf {
        let to = self.temporary.path().join(name);
        if to.exists() {
            fs::remove_dir_all(&to).expect("removes");
        }
        copy_tree(&self.temporary.path().join("seeded"), &to);
        to
    }

    /// How long a daemon takes to move, until it serves.
    fn takes(&self) -> Duration {
        let folder = self.copy("timed");
        let begin = Instant::now();
        let daemon = started(&folder, &APPROVED);
        let taken = begin.elapsed();
        daemon.stop();
        taken
    }

    /// Whether a plain program can write the tables, and how many of the stores, tried on a copy.
    fn writers(&self, folder: &Path) -> (bool, usize) {
        let copy = self.temporary.path().join("looked-at");
        if copy.exists() {
            fs::remove_dir_all(&copy).expect("removes");
        }
        copy_tree(folder, &copy);
        let kv = STORES.iter().filter(|store| stock_fjall_writes(&copy.join(store))).count();
        (sql_writes(&copy), kv)
    }
}

/// A migration of so few rows has few instants; these find most of them.
const KILLS_MIN: usize = 100;

fn killed_after(folder: &Path, delay: Duration) {
    let mut command = litd(folder, &APPROVED);
    let mut daemon =
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process");
    sleep(delay);
    daemon.kill().expect("kills");
    daemon.wait().expect("it ends");
}

#[test]
fn i1_i2_i4_a_daemon_that_is_killed_at_random_while_it_moves_goes_on_with_every_row() {
    let seeded = Seeded::new();
    let within = seeded.takes().mul_f64(1.1);
    let (mut met, mut back) = (BTreeMap::new(), 0);
    for sample in 0..samples().max(KILLS_MIN) {
        let delay = instant(sample, within);
        let folder = seeded.copy("killed");
        killed_after(&folder, delay);
        let after = format!("a kill after {delay:?}, sample {sample}");
        *met.entry(markers(&folder)).or_insert(0) += 1;
        let (sql, kv) = seeded.writers(&folder);
        assert!(!sql || kv == 0, "{after}: both sides can be written");
        if sample % 3 == 2 {
            // The operator thinks again: the stores come back whole, or say where the data is.
            match Litd::start(&mut litd(&folder, &KV)) {
                Ok(daemon) => {
                    back += 1;
                    assert_eq!(daemon.dump(), seeded.dump, "{after}, then kv");
                    daemon.stop();
                }
                Err(said) => {
                    assert!(said.contains("in the SQL database"), "{after}, then kv: {said}");
                }
            }
        }
        assert_eq!(dumped(&folder, &APPROVED), seeded.dump, "{after}");
        assert_eq!(dumped_by_sql(&folder), seeded.dump, "{after}");
        assert_eq!(markers(&folder), ["final"; 3], "{after}");
    }
    println!("killed within {within:?}, {back} came back to kv; markers met: {met:?}");
    assert!(met.len() > 1, "every kill met the same: {met:?}");
}

/// Adds accounts until the daemon is killed, and returns how many it acknowledged.
fn add_until_killed(mut daemon: Litd, name: &str, delay: Duration) -> usize {
    let (process, address) = (&mut daemon.process, daemon.address);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            sleep(delay);
            process.kill().expect("kills");
        });
        let lines: Vec<String> = (0..100_000).map(|i| format!("account {name}{i} {i}")).collect();
        let acknowledged = ask(address, &lines).len();
        assert!(acknowledged < lines.len(), "it was killed in time");
        acknowledged
    })
}

/// Demands every acknowledged account, and at most one more: the one that was asked for last.
fn has_all(dump: &str, name: &str, acknowledged: usize) {
    for i in 0..acknowledged {
        assert!(dump.contains(&format!(" {name}{i} {i}\n")), "{name}{i} of {acknowledged} is lost");
    }
    let more = dump.matches(&format!(" {name}")).count() - acknowledged;
    assert!(more <= 1, "{more} accounts that nobody asked for");
}

#[test]
fn i3_a_daemon_that_is_killed_at_random_while_it_serves_has_every_write_that_it_acknowledged() {
    let seeded = Seeded::new();
    let mut total = [0, 0];
    for sample in 0..samples() {
        let delay = instant(sample, Duration::from_millis(100));
        let folder = seeded.copy("killed");
        let kv = add_until_killed(started(&folder, &KV), "first", delay);
        // The store moves with what the kill left in its journal.
        let dump = dumped(&folder, &APPROVED);
        has_all(&dump, "first", kv);
        let sql = add_until_killed(started(&folder, &APPROVED), "then", delay);
        let dump = dumped(&folder, &APPROVED);
        has_all(&dump, "first", kv);
        has_all(&dump, "then", sql);
        total[0] += kv;
        total[1] += sql;
    }
    println!("acknowledged and kept: {} on kv, {} on SQL", total[0], total[1]);
    assert!(total[0] > 0 && total[1] > 0);
}
