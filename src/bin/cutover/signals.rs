//! Signals: the first asks to stop where nothing is done twice, the second ends at once.

use crate::report::complain;
use cutover::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

/// The word of those who signal this process.
#[derive(Debug)]
pub(crate) struct Asked {
    cancel: Cancel,
    teller: Option<JoinHandle<()>>,
}

impl Asked {
    /// From here on Ctrl-C and its like ask to stop. Where that can't be had they kill, which is
    /// safe.
    pub(crate) fn by_signals() -> Self {
        let flag = Arc::new(AtomicBool::new(false));
        let teller = listen(&flag).ok();
        Self { cancel: Cancel::from(flag), teller }
    }

    pub(crate) fn to_stop(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// What is said of the signal comes before what is said of the end.
impl Drop for Asked {
    fn drop(&mut self) {
        if self.to_stop()
            && let Some(teller) = self.teller.take()
        {
            let _ = teller.join();
        }
    }
}

fn listen(flag: &Arc<AtomicBool>) -> io::Result<JoinHandle<()>> {
    let wanted = wanted();
    for &signal in &wanted {
        // In this order, so that only a second one finds it set.
        flag::register_conditional_default(signal, Arc::clone(flag))?;
        flag::register(signal, Arc::clone(flag))?;
    }
    let mut signals = Signals::new(wanted)?;
    std::thread::Builder::new().name("cutover tells of signals".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            complain(
                "asked to stop: this ends before the next chunk or step, unless the commit point has \
                 passed; a second signal ends it at once, and nothing is lost then either",
            );
        }
    })
}

/// The signals that ask a program to end, but for those that its parent wants ignored, as
/// `nohup` does.
fn wanted() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    [SIGHUP, SIGINT, SIGTERM]
        .into_iter()
        .filter(|signal| ignored >> (signal - 1) & 1 == 0)
        .collect()
}

/// The mask of the signals that are ignored; the lowest bit is signal 1.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
