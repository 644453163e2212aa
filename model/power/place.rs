//! Where lives are recorded and their images are looked at.

use super::disk::{Disk, Fault, mark};
use super::life::{Act, create};
use super::log::Op;
use super::tree::Tree;
use crate::child::{self, SIGKILL};
use crate::common::folder_in_memory;
use cutover::fault::MISTAKE_ENVIRONMENT;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

/// Where lives are recorded, and images of them are looked at: markers name paths, so that both are
/// at the same.
pub struct Place {
    root: tempfile::TempDir,
    pub sources: usize,
}

impl Place {
    /// With the daemon's stores, from of old, in [`base`](Self::base).
    pub fn new(sources: usize) -> Self {
        let place = Self { root: folder_in_memory(), sources };
        create(&place.base(), sources);
        place
    }

    /// Without any stores: a life begins with the act that creates them.
    pub fn empty(sources: usize) -> Self {
        let place = Self::new(sources);
        fs::remove_dir_all(place.base()).expect("removes");
        fs::create_dir(place.base()).expect("a folder");
        place
    }

    pub fn base(&self) -> PathBuf {
        self.root.path().join("base")
    }

    pub fn folder(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// Where an image may be written to by anybody.
    pub fn scratch(&self) -> PathBuf {
        self.root.path().join("scratch")
    }

    /// Mounts a disk at the folder that begins with what is in the base.
    pub fn mount(&self, fault: Option<Fault>) -> Disk {
        let folder = self.folder();
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("removes");
        }
        fs::create_dir(&folder).expect("a folder");
        Disk::mount(&self.base(), &folder, fault)
    }

    /// Plays acts one after the other, each in a process of its own, and returns what the disk began
    /// with, and what happened.
    pub fn record(&self, acts: impl IntoIterator<Item = Act>) -> (Tree, Vec<Op>) {
        let disk = self.mount(None);
        for act in acts {
            mark(&self.folder(), &format!("begin {}", act.name));
            if !self.play(act) {
                break;
            }
            if act.killed_at.is_none() {
                mark(&self.folder(), &format!("end {}", act.name));
            }
        }
        (Tree::load(&self.base()), disk.unmount())
    }

    /// The operations of an act that comes after others, those that change or sync something.
    pub fn operations(&self, before: &[&'static str], last: &'static str) -> Vec<Op> {
        let (_, log) = self.record(before.iter().copied().chain([last]).map(Act::new));
        let begin = Op::Mark(format!("begin {last}"));
        let first = log.iter().rposition(|op| *op == begin).expect("it was begun");
        log.into_iter().skip(first).filter(Op::counts).collect()
    }

    /// Returns whether it came to its end, or was killed as it should; a mistake may be noticed by
    /// the very process that makes it.
    fn play(&self, act: Act) -> bool {
        let folder = self.folder();
        let sources = self.sources.to_string();
        let killed_at = act.killed_at.map_or_else(String::new, |at| at.to_string());
        let words = ["power", act.name, folder.to_str().expect("UTF-8"), &sources, &killed_at];
        let output = child::command(&words).env(MISTAKE_ENVIRONMENT, act.mistake).output();
        let output = output.expect("a child process");
        let status = output.status;
        let ended = act.killed_at.map_or(status.success(), |_| status.signal() == Some(SIGKILL));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(ended || !act.mistake.is_empty(), "{act:?}: {status}: {text}");
        ended
    }
}
