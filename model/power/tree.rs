//! A file system in memory: numbered files and folders, names that lead to them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// The number of a file or a folder.
pub type Ino = u64;

pub const ROOT: Ino = 1;

/// What the kernel writes back as one.
pub const PAGE_BYTES: u64 = 4096;

type Page = [u8; 4096];

/// The bytes of a file; a page that is missing holds zeros.
#[derive(Clone, Default)]
pub struct Data {
    length: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Data {
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Up to `size` bytes from `at` on; fewer where the file ends.
    pub fn read(&self, at: u64, size: u64) -> Vec<u8> {
        let end = at.saturating_add(size).min(self.length);
        let mut bytes = vec![0; to_usize(end.saturating_sub(at))];
        for (&page, content) in self.pages.range(at / PAGE_BYTES..=end / PAGE_BYTES) {
            let (from, to) = (at.max(page * PAGE_BYTES), end.min((page + 1) * PAGE_BYTES));
            if from < to {
                let within = |at: u64| to_usize(at - page * PAGE_BYTES);
                bytes[to_usize(from - at)..to_usize(to - at)]
                    .copy_from_slice(&content[within(from)..within(to)]);
            }
        }
        bytes
    }

    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        for page in at / PAGE_BYTES..=end.saturating_sub(1) / PAGE_BYTES {
            let (from, to) = (at.max(page * PAGE_BYTES), end.min((page + 1) * PAGE_BYTES));
            if from < to {
                let content = self.pages.entry(page).or_insert_with(|| Arc::new([0; 4096]));
                let within = |at: u64| to_usize(at - page * PAGE_BYTES);
                Arc::make_mut(content)[within(from)..within(to)]
                    .copy_from_slice(&bytes[to_usize(from - at)..to_usize(to - at)]);
            }
        }
        self.length = self.length.max(end);
    }

    pub fn resize(&mut self, length: u64) {
        if length < self.length {
            let (page, kept) = (length / PAGE_BYTES, to_usize(length % PAGE_BYTES));
            drop(self.pages.split_off(&(page + 1)));
            if let Some(content) = self.pages.get_mut(&page) {
                Arc::make_mut(content)[kept..].fill(0);
            }
        }
        self.length = length;
    }
}

#[derive(Clone)]
pub enum Node {
    Folder(BTreeMap<String, Ino>),
    File(Data),
}

/// What a new number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    Folder,
    File,
}

#[derive(Clone)]
pub struct Tree {
    nodes: BTreeMap<Ino, Node>,
}

impl Tree {
    /// What is in a real folder; two loads of one folder have the same numbers.
    pub fn load(folder: &Path) -> Self {
        let mut tree = Self { nodes: BTreeMap::from([(ROOT, Node::Folder(BTreeMap::new()))]) };
        tree.load_into(ROOT, folder);
        tree
    }

    fn load_into(&mut self, parent: Ino, folder: &Path) {
        let mut entries: Vec<_> = fs::read_dir(folder)
            .expect("lists")
            .map(|entry| entry.expect("lists").path())
            .collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
            let ino = self.next();
            if path.is_dir() {
                self.make(ino, Kind::Folder);
                self.load_into(ino, &path);
            } else {
                let mut data = Data::default();
                crate::common::visit_data(&fs::File::open(&path).expect("opens"), |at, bytes| {
                    data.write(at, bytes);
                });
                data.resize(fs::metadata(&path).expect("looks").len());
                self.nodes.insert(ino, Node::File(data));
            }
            self.folder_mut(parent).insert(name, ino);
        }
    }

    /// A number that is free.
    pub fn next(&self) -> Ino {
        self.nodes.last_key_value().map_or(ROOT, |(ino, _)| ino + 1)
    }

    pub fn make(&mut self, ino: Ino, kind: Kind) {
        let node = match kind {
            Kind::Folder => Node::Folder(BTreeMap::new()),
            Kind::File => Node::File(Data::default()),
        };
        self.nodes.insert(ino, node);
    }

    pub fn node(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    /// What `name` in `folder` leads to.
    pub fn find(&self, folder: Ino, name: &str) -> Option<Ino> {
        match self.nodes.get(&folder)? {
            Node::Folder(names) => names.get(name).copied(),
            Node::File(_) => None,
        }
    }

    /// The names in a folder, with `before` in front.
    pub fn list(&self, before: &str, folder: Ino) -> Vec<(String, Ino)> {
        match self.nodes.get(&folder) {
            Some(Node::Folder(names)) => {
                names.iter().map(|(name, ino)| (format!("{before}{name}"), *ino)).collect()
            }
            Some(Node::File(_)) | None => Vec::new(),
        }
    }

    pub fn folder_mut(&mut self, ino: Ino) -> &mut BTreeMap<String, Ino> {
        match self.nodes.get_mut(&ino) {
            Some(Node::Folder(names)) => names,
            Some(Node::File(_)) | None => panic!("{ino} is not a folder"),
        }
    }

    pub fn file_mut(&mut self, ino: Ino) -> &mut Data {
        match self.nodes.get_mut(&ino) {
            Some(Node::File(data)) => data,
            Some(Node::Folder(_)) | None => panic!("{ino} is not a file"),
        }
    }

    /// One number for all names and contents that can be reached.
    pub fn hash(&self) -> u128 {
        let mut hash = Xxh3::new();
        self.hash_into(ROOT, &mut hash);
        hash.digest128()
    }

    fn hash_into(&self, ino: Ino, hash: &mut Xxh3) {
        match self.node(ino) {
            Some(Node::Folder(names)) => {
                hash.update(&names.len().to_le_bytes());
                for (name, ino) in names {
                    hash.update(&name.len().to_le_bytes());
                    hash.update(name.as_bytes());
                    self.hash_into(*ino, hash);
                }
            }
            Some(Node::File(data)) => {
                hash.update(b"file");
                hash.update(&data.length.to_le_bytes());
                for (page, content) in &data.pages {
                    // A page of zeros is as good as none.
                    if content.iter().any(|byte| *byte != 0) {
                        hash.update(&page.to_le_bytes());
                        hash.update(content.as_slice());
                    }
                }
                hash.update(&u64::MAX.to_le_bytes());
            }
            None => panic!("{ino} does not exist"),
        }
    }

    /// Writes it into a real folder, which is emptied first; holes stay holes.
    pub fn write_to(&self, folder: &Path) {
        if folder.exists() {
            fs::remove_dir_all(folder).expect("removes");
        }
        fs::create_dir(folder).expect("a folder");
        self.write_names(ROOT, folder);
    }

    fn write_names(&self, ino: Ino, folder: &Path) {
        let Some(Node::Folder(names)) = self.node(ino) else { panic!("{ino} is not a folder") };
        for (name, ino) in names {
            let path = folder.join(name);
            match self.node(*ino) {
                Some(Node::Folder(_)) => {
                    fs::create_dir(&path).expect("a folder");
                    self.write_names(*ino, &path);
                }
                Some(Node::File(data)) => {
                    let file = fs::File::create(&path).expect("creates");
                    file.set_len(data.length).expect("grows");
                    let pages: Vec<u64> = data.pages.keys().copied().collect();
                    for run in pages.chunk_by(|page, next| page + 1 == *next) {
                        let at = run[0] * PAGE_BYTES;
                        let bytes = data.read(at, run.len() as u64 * PAGE_BYTES);
                        file.write_all_at(&bytes, at).expect("writes");
                    }
                }
                None => panic!("{ino} does not exist"),
            }
        }
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("fits")
}
