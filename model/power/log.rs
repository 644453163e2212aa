//! What happened on the simulated disk, and what a power cut could have left of it.

use super::tree::{Ino, Kind, PAGE_BYTES, Tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Something that changes the disk, makes it durable, or is to be remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// A new file or folder under a name.
    Create {
        folder: Ino,
        name: String,
        ino: Ino,
        kind: Kind,
    },
    /// One more name for a file.
    Link {
        ino: Ino,
        folder: Ino,
        name: String,
    },
    /// A name goes: of a file, or of an empty folder.
    Remove {
        folder: Ino,
        name: String,
    },
    /// What stands at `to` goes, or gets the name `from`.
    Rename {
        from: (Ino, String),
        to: (Ino, String),
        exchange: bool,
        moved: [Ino; 2],
    },
    /// `extends`: the file was shorter.
    Write {
        ino: Ino,
        at: u64,
        bytes: Vec<u8>,
        extends: bool,
    },
    Resize {
        ino: Ino,
        length: u64,
    },
    /// `fsync` or `msync` of a file, or of a folder.
    Sync(Ino),
    /// `fdatasync` of a file.
    SyncData(Ino),
    /// A sync of a file that failed: the kernel forgets what it could not write, and no later sync
    /// makes that durable.
    SyncFailed(Ino),
    /// A word from outside.
    Mark(String),
    /// A call that was made to fail, and how.
    Failed(String),
}

/// How an operation is bound to others.
enum Touches<'a> {
    /// Names in folders; the numbers that they lead to.
    Names(Vec<(Ino, &'a str)>, Vec<Ino>),
    Content(Ino),
    Nothing,
}

impl Op {
    pub fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Create { folder, name, ino, .. } | Self::Link { ino, folder, name } => {
                tree.folder_mut(*folder).insert(name.clone(), *ino);
            }
            Self::Remove { folder, name } => drop(tree.folder_mut(*folder).remove(name)),
            Self::Rename { from, to, exchange, .. } => {
                let ino = tree.folder_mut(from.0).remove(&from.1).expect("a name to rename");
                let other = tree.folder_mut(to.0).insert(to.1.clone(), ino);
                if let (true, Some(other)) = (*exchange, other) {
                    tree.folder_mut(from.0).insert(from.1.clone(), other);
                }
            }
            Self::Write { ino, at, bytes, .. } => tree.file_mut(*ino).write(*at, bytes),
            Self::Resize { ino, length } => tree.file_mut(*ino).resize(*length),
            Self::Sync(_)
            | Self::SyncData(_)
            | Self::SyncFailed(_)
            | Self::Mark(_)
            | Self::Failed(_) => {}
        }
    }

    fn touches(&self) -> Touches<'_> {
        match self {
            Self::Create { folder, name, ino, .. } | Self::Link { ino, folder, name } => {
                Touches::Names(vec![(*folder, name)], vec![*ino])
            }
            Self::Remove { folder, name } => Touches::Names(vec![(*folder, name)], Vec::new()),
            Self::Rename { from, to, moved, .. } => {
                Touches::Names(vec![(from.0, &from.1), (to.0, &to.1)], moved.to_vec())
            }
            Self::Write { ino, .. } | Self::Resize { ino, .. } => Touches::Content(*ino),
            Self::Sync(_)
            | Self::SyncData(_)
            | Self::SyncFailed(_)
            | Self::Mark(_)
            | Self::Failed(_) => Touches::Nothing,
        }
    }

    /// Whether a power cut after it can leave more than one before it.
    pub const fn counts(&self) -> bool {
        !matches!(self, Self::SyncFailed(_) | Self::Mark(_) | Self::Failed(_))
    }
}

/// What is durable before it is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// As ext4 in ordered mode: names change in the order of the journal, and an `fsync` commits all
    /// of them up to the last one of its file or folder; a file grows in order. Content is written
    /// back at any time.
    Journaled,
    /// Only what POSIX promises: an `fsync` of a file keeps its content, one of a folder the names in
    /// it; everything else may be left in any order that does not contradict itself.
    Strict,
}

/// Which of the unsynced operations are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    None,
    All,
    Names,
    Content,
    /// All, and of the last write what is before one of the sectors that it reaches into.
    Torn(u64),
    /// All but one, and what can't be without it.
    Except(u64),
    /// Those whose bits are set; from the 64th on, by a mixture of the bits.
    Some(u64),
}

const SECTOR_BYTES: u64 = 512;

/// Whether each operation is durable when the power goes after the last one of `log`.
fn durable(log: &[Op], model: Model) -> Vec<bool> {
    let mut durable = vec![false; log.len()];
    let mut synced: BTreeSet<Ino> = BTreeSet::new();
    let mut synced_content: BTreeSet<Ino> = BTreeSet::new();
    let mut needed: BTreeSet<(Ino, &str)> = BTreeSet::new();
    let mut journal = false;
    for (at, op) in log.iter().enumerate().rev() {
        match (op, op.touches()) {
            (Op::Sync(ino), _) => drop((synced.insert(*ino), synced_content.insert(*ino))),
            (Op::SyncData(ino), _) => drop(synced_content.insert(*ino)),
            (Op::SyncFailed(ino), _) => drop(synced_content.remove(ino)),
            (_, Touches::Names(names, inos)) => {
                journal |= model == Model::Journaled && inos.iter().any(|ino| synced.contains(ino));
                durable[at] = journal
                    || names.iter().any(|(ino, _)| synced.contains(ino))
                    || names.iter().any(|name| needed.contains(name));
                if durable[at] {
                    journal |= model == Model::Journaled;
                    // A rename between two folders is one operation, and what it moved was there.
                    needed.extend(names);
                }
            }
            (_, Touches::Content(ino)) => durable[at] = synced_content.contains(&ino),
            (_, Touches::Nothing) => {}
        }
    }
    durable
}

/// How many operations of `log` a power cut may or may not leave.
pub fn undecided(log: &[Op], model: Model) -> usize {
    let durable = durable(log, model);
    log.iter().zip(durable).filter(|(op, durable)| !durable && is_change(op)).count()
}

const fn is_change(op: &Op) -> bool {
    op.counts() && !matches!(op, Op::Sync(_) | Op::SyncData(_))
}

/// What a power cut after the last operation of `log` leaves of it on `base`.
pub fn cut(base: &Tree, log: &[Op], model: Model, left: Left) -> Tree {
    let durable = durable(log, model);
    let last_write = log
        .iter()
        .zip(&durable)
        .rposition(|(op, durable)| matches!(op, Op::Write { .. }) && !durable);
    let mut tree = base.clone();
    let mut lost = Lost::default();
    let mut number = 0;
    for (at, op) in log.iter().enumerate() {
        if let Op::Create { ino, kind, .. } = op {
            // It may have no name, and so be lost.
            tree.make(*ino, *kind);
        }
        if durable[at] || !is_change(op) {
            op.apply(&mut tree);
            continue;
        }
        let wanted = match (left, op.touches()) {
            (Left::None, _) => false,
            (Left::All | Left::Torn(_), _) => true,
            (Left::Except(one), _) => number != one,
            (Left::Names, touches) => matches!(touches, Touches::Names(..)),
            (Left::Content, touches) => matches!(touches, Touches::Content(_)),
            (Left::Some(bits), _) => bit(bits, number),
        };
        number += 1;
        if !wanted || lost.forbids(op, model) {
            lost.add(op, model);
            continue;
        }
        match (left, op) {
            (Left::Torn(sectors), Op::Write { ino, at: from, bytes, .. })
                if Some(at) == last_write =>
            {
                let ends = sector_ends(*from, bytes.len());
                let end = ends[usize::try_from(sectors).expect("fits") % ends.len()];
                tree.file_mut(*ino).write(*from, &bytes[..end]);
            }
            (_, op) => op.apply(&mut tree),
        }
    }
    tree
}

/// Where a write may be torn: before each sector of the disk that it reaches into.
pub fn sector_ends(at: u64, length: usize) -> Vec<usize> {
    let first = usize::try_from(at.next_multiple_of(SECTOR_BYTES) - at).expect("fits");
    let sector = usize::try_from(SECTOR_BYTES).expect("fits");
    std::iter::once(0).chain((first..length).step_by(sector).filter(|end| *end > 0)).collect()
}

fn bit(bits: u64, number: u64) -> bool {
    let word = if number < 64 { bits } else { mix(bits ^ (number / 64)) };
    word >> (number % 64) & 1 == 1
}

/// A step of the generator that is called `SplitMix64`.
pub const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What was lost, and so what can't be left without it.
#[derive(Default)]
struct Lost<'a> {
    journal: bool,
    names: BTreeSet<(Ino, &'a str)>,
    pages: BTreeSet<(Ino, u64)>,
    sizes: BTreeSet<Ino>,
    growth: BTreeSet<Ino>,
}

impl<'a> Lost<'a> {
    fn add(&mut self, op: &'a Op, model: Model) {
        match op {
            Op::Write { ino, at, bytes, extends } => {
                self.pages.extend(pages(*at, bytes.len()).map(|page| (*ino, page)));
                if *extends && model == Model::Journaled {
                    self.growth.insert(*ino);
                }
            }
            Op::Resize { ino, .. } => drop(self.sizes.insert(*ino)),
            op => {
                self.journal |= model == Model::Journaled;
                if let Touches::Names(names, _) = op.touches() {
                    self.names.extend(names);
                }
            }
        }
    }

    fn forbids(&self, op: &Op, model: Model) -> bool {
        match (op, op.touches()) {
            (Op::Write { ino, at, bytes, extends }, _) => {
                self.sizes.contains(ino)
                    || (*extends && self.growth.contains(ino))
                    // The kernel has one copy of a page: what is written back has every change of it.
                    || pages(*at, bytes.len()).any(|page| self.pages.contains(&(*ino, page)))
            }
            (Op::Resize { ino, .. }, _) => self.sizes.contains(ino),
            (_, Touches::Names(names, _)) => {
                (model == Model::Journaled && self.journal)
                    || names.iter().any(|name| self.names.contains(name))
            }
            (_, Touches::Content(_) | Touches::Nothing) => false,
        }
    }
}

fn pages(at: u64, length: usize) -> impl Iterator<Item = u64> {
    let end = at + length as u64;
    at / PAGE_BYTES..end.div_ceil(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Node, ROOT};
    use super::*;

    fn empty() -> Tree {
        Tree::load(tempfile::tempdir().expect("a folder").path())
    }

    fn write(ino: Ino, at: u64, bytes: &[u8]) -> Op {
        Op::Write { ino, at, bytes: bytes.to_vec(), extends: true }
    }

    fn create(name: &str, ino: Ino) -> Op {
        Op::Create { folder: ROOT, name: name.to_owned(), ino, kind: Kind::File }
    }

    fn rename(from: &str, to: &str, moved: Ino) -> Op {
        let (from, to) = ((ROOT, from.to_owned()), (ROOT, to.to_owned()));
        Op::Rename { from, to, exchange: false, moved: [moved; 2] }
    }

    /// Every set of names and contents that a power cut can leave.
    fn every(log: &[Op], model: Model) -> BTreeSet<Vec<(String, Vec<u8>)>> {
        let base = empty();
        (0..1 << undecided(log, model))
            .map(|bits| {
                let tree = cut(&base, log, model, Left::Some(bits));
                let Some(Node::Folder(names)) = tree.node(ROOT) else { panic!("no root") };
                let content = |ino: &Ino| match tree.node(*ino) {
                    Some(Node::File(data)) => data.read(0, data.length()),
                    Some(Node::Folder(_)) | None => panic!("no file"),
                };
                names.iter().map(|(name, ino)| (name.clone(), content(ino))).collect()
            })
            .collect()
    }

    fn shown(log: &[Op], model: Model) -> Vec<String> {
        let texts = every(log, model).into_iter().map(|files| {
            let files = files
                .into_iter()
                .map(|(name, content)| format!("{name}={}", String::from_utf8_lossy(&content)));
            files.collect::<Vec<_>>().join(" ")
        });
        texts.collect()
    }

    #[test]
    fn an_unsynced_file_may_be_there_empty_or_not_at_all() {
        let log = [create("a", 2), write(2, 0, b"x")];
        for model in [Model::Journaled, Model::Strict] {
            assert_eq!(shown(&log, model), ["", "a=", "a=x"], "{model:?}");
        }
    }

    #[test]
    fn a_file_s_sync_keeps_its_name_only_in_a_journal() {
        let log = [create("a", 2), write(2, 0, b"x"), Op::Sync(2)];
        assert_eq!(shown(&log, Model::Journaled), ["a=x"]);
        assert_eq!(shown(&log, Model::Strict), ["", "a=x"]);
        let log = [create("a", 2), write(2, 0, b"x"), Op::Sync(2), Op::Sync(ROOT)];
        assert_eq!(shown(&log, Model::Strict), ["a=x"]);
    }

    #[test]
    fn names_change_in_order_in_a_journal_and_in_any_order_without() {
        let log = [create("a", 2), create("b", 3)];
        assert_eq!(shown(&log, Model::Journaled), ["", "a=", "a= b="]);
        assert_eq!(shown(&log, Model::Strict), ["", "a=", "a= b=", "b="]);
        // A folder's sync commits the journal up to its own last change.
        let log = [create("a", 2), rename("a", "b", 2), Op::Sync(2), create("c", 3)];
        assert_eq!(shown(&log, Model::Journaled), ["b=", "b= c="]);
    }

    #[test]
    fn what_is_renamed_over_a_name_keeps_one_of_both() {
        let log = [
            create("a", 2),
            write(2, 0, b"old"),
            create("t", 3),
            Op::Sync(2),
            Op::Sync(ROOT),
            write(3, 0, b"new"),
            rename("t", "a", 3),
        ];
        let left = ["a=", "a=new", "a=old t=", "a=old t=new"];
        assert_eq!(shown(&log, Model::Journaled), left);
        assert_eq!(shown(&log, Model::Strict), left);
    }

    #[test]
    fn one_page_is_written_back_as_a_whole_and_others_apart() {
        let far = PAGE_BYTES;
        let log = [create("a", 2), Op::Sync(ROOT), write(2, 0, b"x"), write(2, 1, b"y")];
        assert_eq!(shown(&log, Model::Strict), ["a=", "a=x", "a=xy"]);
        let log = [create("a", 2), Op::Sync(ROOT), write(2, 0, b"x"), write(2, far, b"y")];
        assert_eq!(every(&log, Model::Strict).len(), 4);
        assert_eq!(every(&log, Model::Journaled).len(), 3, "a file grows in order");
    }

    #[test]
    fn a_write_is_torn_where_a_sector_of_the_disk_begins() {
        assert_eq!(sector_ends(0, 1300), [0, 512, 1024]);
        assert_eq!(sector_ends(500, 40), [0, 12]);
        assert_eq!(sector_ends(512, 512), [0]);
    }

    #[test]
    fn a_torn_write_ends_at_a_sector() {
        let log = [create("a", 2), Op::Sync(ROOT), write(2, 0, &[7; 1300])];
        let lengths =
            |sectors| match cut(&empty(), &log, Model::Strict, Left::Torn(sectors)).node(2) {
                Some(Node::File(data)) => data.length(),
                Some(Node::Folder(_)) | None => panic!("no file"),
            };
        assert_eq!([0, 1, 2, 3].map(lengths), [0, 512, 1024, 0]);
    }
}
