//! One fact on disk, and what a power cut could leave of it.

/// A fact, and all other values that a power cut could leave of it: each that it has had since it
/// was last made durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fact<T> {
    pub seen: T,
    /// Sorted: which of them is the newest tells nothing.
    older: Vec<T>,
}

impl<T: Copy + Ord> Fact<T> {
    pub fn new(value: T) -> Self {
        Self { seen: value, older: Vec::new() }
    }

    /// Changes it, and does not sync.
    pub fn change(&mut self, value: T) {
        self.older.retain(|other| *other != value);
        let before = std::mem::replace(&mut self.seen, value);
        self.add(before);
    }

    /// One more value that a power cut could leave.
    pub fn add(&mut self, value: T) {
        if value != self.seen
            && let Err(at) = self.older.binary_search(&value)
        {
            self.older.insert(at, value);
        }
    }

    pub fn sync(&mut self) {
        self.older.clear();
    }

    pub fn is_durable(&self) -> bool {
        self.older.is_empty()
    }

    pub fn possible(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::once(self.seen).chain(self.older.iter().copied())
    }

    /// Every value, to be numbered anew; `settle` puts them in order again.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.seen).chain(&mut self.older)
    }

    pub fn settle(&mut self) {
        self.older.sort_unstable();
    }
}
