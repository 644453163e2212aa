//! Progress: bars on a terminal, plain lines elsewhere. All of it on standard error.

use crate::report::complain;
use cutover::{Observer, Phase, Progress};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

/// The time between two plain lines of one phase.
const LINES_APART: Duration = Duration::from_secs(5);

/// Shows how far a command is.
#[derive(Debug)]
pub(crate) struct Shown {
    terminal: bool,
    bar: Option<(Phase, ProgressBar)>,
    phase: Option<(Phase, Instant)>,
    line: Option<Instant>,
}

impl Shown {
    pub(crate) fn new() -> Self {
        Self { terminal: stderr().is_terminal(), bar: None, phase: None, line: None }
    }

    fn draw(&mut self, progress: &Progress) {
        let same = self.bar.as_ref().is_some_and(|(phase, _)| *phase == progress.phase);
        if !same {
            self.clear();
            let bar =
                progress.pairs_expected.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
            let template = if progress.pairs_expected.is_some() {
                "{msg} {wide_bar} {pos}/{len} pairs, {per_sec}, {eta} left"
            } else {
                "{msg} {pos} pairs, {per_sec}"
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
            let name = word(progress.phase);
            bar.set_message(format!("{name} {}/{}", progress.source, progress.keyspace));
            bar.set_position(progress.pairs);
        }
    }

    fn print(&mut self, progress: &Progress) {
        let now = Instant::now();
        let began = match self.phase {
            Some((phase, began)) if phase == progress.phase => began,
            Some(_) | None => {
                self.phase = Some((progress.phase, now));
                self.line = None;
                now
            }
        };
        let last = progress.pairs_expected.is_some_and(|expected| progress.pairs == expected);
        if !last && self.line.is_some_and(|line| now.duration_since(line) < LINES_APART) {
            return;
        }
        self.line = Some(now);
        let seconds = now.duration_since(began).as_secs();
        let of = progress.pairs_expected.map_or_else(String::new, |n| format!(" of about {n}"));
        let rate = progress.pairs.checked_div(seconds);
        let rate = rate.map_or_else(String::new, |rate| format!(", {rate} pairs/s"));
        complain(&format!(
            "{} {}/{}: {} pairs{of}, {}{rate}",
            word(progress.phase),
            progress.source,
            progress.keyspace,
            progress.pairs,
            HumanBytes(progress.bytes)
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
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.clear();
    }
}

const fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Counting => "counting",
        Phase::Copying => "copying",
        Phase::Verifying => "verifying",
        _ => "working on",
    }
}
