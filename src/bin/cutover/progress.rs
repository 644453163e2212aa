//! Progress: bars on a terminal, plain lines elsewhere. All of it on standard error.

use crate::report::complain;
use crate::signals::Asked;
use cutover::{Observer, Phase, Progress};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

/// The time between two plain lines of one phase.
const LINES_APART: Duration = Duration::from_secs(5);

/// Shows how far a command is.
#[derive(Debug)]
pub(crate) struct Shown {
    terminal: bool,
    asked: Option<Asked>,
    bar: Option<(Phase, ProgressBar)>,
    line: Option<(Phase, Instant)>,
}

impl Shown {
    /// Shows alone: a signal kills.
    pub(crate) fn new() -> Self {
        Self { terminal: stderr().is_terminal(), asked: None, bar: None, line: None }
    }

    /// From here on a signal asks to stop, so nothing must be waited for that does not look.
    pub(crate) fn until_asked_to_stop() -> Self {
        let mut shown = Self::new();
        shown.asked = Some(Asked::by_signals());
        shown
    }

    fn draw(&mut self, progress: &Progress) {
        let same = self.bar.as_ref().is_some_and(|(phase, _)| *phase == progress.phase);
        if !same {
            self.clear();
            let bar =
                progress.pairs_expected.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template = if progress.pairs_expected.is_some() {
                "{prefix} {wide_bar} {pos}/{len} pairs{msg}"
            } else {
                "{prefix} {pos} pairs{msg}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            self.bar = Some((progress.phase, bar));
        }
        if let Some((_, bar)) = &self.bar {
            // fjall's number is an estimate; a bar never runs over its end.
            if let Some(expected) = progress.pairs_expected {
                bar.set_length(expected.max(progress.pairs));
            }
            bar.set_prefix(subject(progress));
            bar.set_message(pace(progress));
            bar.set_position(progress.pairs);
        }
    }

    fn print(&mut self, progress: &Progress) {
        let now = Instant::now();
        let last = progress.pairs_expected.is_some_and(|expected| progress.pairs == expected);
        let recent = self.line.is_some_and(|(phase, line)| {
            phase == progress.phase && now.duration_since(line) < LINES_APART
        });
        if recent && !last {
            return;
        }
        self.line = Some((progress.phase, now));
        let of = progress.pairs_expected.map_or_else(String::new, |n| format!(" of about {n}"));
        complain(&format!(
            "{}: {} pairs{of}, {}{}",
            subject(progress),
            progress.pairs,
            HumanBytes(progress.bytes),
            pace(progress)
        ));
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Observer for Shown {
    fn progress(&mut self, progress: &Progress) {
        if self.terminal {
            self.draw(progress);
        } else {
            self.print(progress);
        }
    }

    fn step(&mut self, name: &str, subject: &str) {
        self.clear();
        complain(&format!("done: {name} ({subject})"));
    }

    fn cancelled(&self) -> bool {
        self.asked.as_ref().is_some_and(Asked::to_stop)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.clear();
    }
}

fn subject(progress: &Progress) -> String {
    format!("{} {}/{}", word(progress.phase), progress.source, progress.keyspace)
}

/// The rate and the time left, as far as they are known.
fn pace(progress: &Progress) -> String {
    let pairs = progress.pairs_per_second().map(|rate| format!(", {rate} pairs/s"));
    let bytes = progress.bytes_per_second().map(|rate| format!(", {}/s", HumanBytes(rate)));
    let left = progress.time_left().map(|left| format!(", about {:#} left", HumanDuration(left)));
    [pairs, bytes, left].into_iter().flatten().collect()
}

const fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Counting => "counting",
        Phase::Copying => "copying",
        Phase::Verifying => "verifying",
        Phase::Rereading => "re-reading",
        _ => "working on",
    }
}
