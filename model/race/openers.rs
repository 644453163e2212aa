//! Programs that know nothing of cutover and open, write and close a store over and over.

use crate::child;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

/// The keyspace that they write.
pub const KEYSPACE: &str = "stock";

/// A child that is never told to stop ends by itself.
const LIFETIME: Duration = Duration::from_mins(1);

/// Nanoseconds since 1970: one clock for all processes.
pub fn now() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_nanos()
}

/// One try to open and write.
#[derive(Clone, Debug)]
pub struct Try {
    pub began: u128,
    /// When the write was acknowledged, its store still locked; or when the try had failed.
    pub ended: u128,
    /// The key that was acknowledged as durable.
    pub key: Option<String>,
    /// What fjall said instead.
    pub error: String,
}

impl Try {
    fn to_line(&self) -> String {
        let key = self.key.as_deref().unwrap_or("-");
        format!("{} {} {key} {}\n", self.began, self.ended, self.error)
    }

    fn from_line(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let mut number = || words.next()?.parse().ok();
        let (began, ended) = (number()?, number()?);
        let key = words.next().filter(|key| *key != "-").map(str::to_owned);
        Some(Self { began, ended, key, error: words.next()?.to_owned() })
    }
}

/// Opens the store as any program does, writes one pair, and waits until it is durable.
fn write(path: &Path, key: &str) -> Try {
    let began = now();
    let write = || -> fjall::Result<u128> {
        let database = fjall::Database::builder(path).open()?;
        let keyspace = database.keyspace(KEYSPACE, fjall::KeyspaceCreateOptions::default)?;
        keyspace.insert(key, began.to_be_bytes())?;
        database.persist(fjall::PersistMode::SyncAll)?;
        // The store is still locked.
        Ok(now())
    };
    match write() {
        Ok(ended) => Try { began, ended, key: Some(key.to_owned()), error: String::new() },
        Err(error) => {
            let error = format!("{error:?}").replace('\n', " ");
            Try { began, ended: now(), key: None, error }
        }
    }
}

fn write_until(path: &Path, tag: &str, mut told: impl FnMut(Try), stop: impl Fn() -> bool) {
    for number in 0_u64.. {
        if stop() {
            return;
        }
        told(write(path, &format!("{tag}-{number}")));
        // Leaves the lock to others for a while, each time for another.
        thread::sleep(Duration::from_millis(3 + number * 7 % 17));
    }
}

/// A child's part.
pub fn write_until_stopped(path: &str, tag: &str, log: &str) {
    let begun = Instant::now();
    let mut file = OpenOptions::new().create(true).append(true).open(log).expect("a log");
    let stop = stop_file(Path::new(log));
    write_until(
        Path::new(path),
        tag,
        |tried| file.write_all(tried.to_line().as_bytes()).expect("writes"),
        || stop.exists() || begun.elapsed() > LIFETIME,
    );
}

fn stop_file(log: &Path) -> PathBuf {
    log.with_extension("stop")
}

/// Threads and processes at one store.
pub struct Openers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Try>>>,
    children: Vec<(Child, PathBuf)>,
}

impl Openers {
    /// Starts `threads` threads and `children` processes; the processes' logs go to `logs`.
    pub fn start(path: &Path, logs: &Path, threads: usize, children: usize) -> Self {
        let source = path.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = |at: usize| {
            let (path, stop, tag) = (path.to_owned(), Arc::clone(&stop), format!("thread-{at}"));
            thread::spawn(move || {
                let mut tries = Vec::new();
                write_until(
                    &path,
                    &tag,
                    |tried| tries.push(tried),
                    || stop.load(Ordering::Relaxed),
                );
                tries
            })
        };
        let child = |at: usize| {
            let log = logs.join(format!("{source}-{at}.log"));
            let (path, log_word) = (path.to_str().expect("UTF-8"), log.to_str().expect("UTF-8"));
            let child =
                child::command(&["write-until-stopped", path, &format!("child-{at}"), log_word])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("a child process");
            (child, log)
        };
        Self {
            threads: (0..threads).map(thread).collect(),
            children: (0..children).map(child).collect(),
            stop,
        }
    }

    /// Waits until every process has written.
    pub fn wait_until_writing(&self) {
        self.wait_until_writing_after(0);
    }

    /// Waits until every process has written in a try that it began after `then`.
    pub fn wait_until_writing_after(&self, then: u128) {
        let begun = Instant::now();
        for (_, log) in &self.children {
            while !read_log(log).iter().any(|tried| tried.key.is_some() && tried.began > then) {
                assert!(begun.elapsed() < LIFETIME, "{} does not write", log.display());
                thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// The processes among them.
    pub fn processes(&self) -> impl Iterator<Item = rustix::process::Pid> {
        self.children.iter().map(|(child, _)| rustix::process::Pid::from_child(child))
    }

    /// Stops them all and returns every try.
    pub fn stop(mut self) -> Vec<Try> {
        self.stop.store(true, Ordering::Relaxed);
        let mut tries = Vec::new();
        for (_, log) in &self.children {
            fs::write(stop_file(log), "").expect("writes");
        }
        for thread in self.threads.drain(..) {
            tries.extend(thread.join().expect("fjall fails and does not panic"));
        }
        for (mut child, log) in self.children.drain(..) {
            assert!(child.wait().expect("ends").success(), "fjall fails and does not panic");
            tries.extend(read_log(&log));
        }
        tries
    }
}

/// Nothing that was started outlives a test that fails.
impl Drop for Openers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (child, _) in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn read_log(log: &Path) -> Vec<Try> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(Try::from_line).collect()
}
