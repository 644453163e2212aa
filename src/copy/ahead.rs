//! Reading ahead: the stores are read, decoded and hashed on a thread of their own, while the rows
//! of what was read before are written.

use super::Digest;
use crate::error::Cause;
use crate::source::Store;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};

/// What is handed over at once: enough that handing over costs nothing.
const BATCH_BYTES: usize = 512 * 1024;

/// What may wait to be written, besides one pair that is larger: as much as is read while a chunk is
/// synced.
const AHEAD_BYTES: usize = 16 * 1024 * 1024;

/// A keyspace that is not copied to its end.
pub(super) struct Rest<'a> {
    /// Where it was missing, there are no pairs.
    pub(super) store: Option<&'a Store>,
    pub(super) keyspace: &'a str,
    /// The last key that is copied.
    pub(super) after: Option<Vec<u8>>,
    /// Whether no chunk goes on after it.
    pub(super) ends_group: bool,
}

/// Pairs in the order of their keys, one after the other in one buffer.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// For each pair, where its key and where its value ends.
    ends: Vec<(usize, usize)>,
    /// Of these pairs alone.
    pub(super) digest: Digest,
    /// What ends after these pairs.
    pub(super) end: Option<End>,
}

/// What ends after a pair.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A chunk; the keyspace goes on.
    Chunk,
    /// The keyspace, and with it a chunk or not.
    Keyspace { chunk: bool },
}

impl Batch {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.digest.add(key, value);
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
    }

    /// The pairs: key and value.
    pub(super) fn pairs(&self) -> Vec<(&[u8], &[u8])> {
        let mut start = 0;
        let pair = |&(key_end, end): &(usize, usize)| {
            let key = self.bytes.get(start..key_end).unwrap_or_default();
            start = end;
            (key, self.bytes.get(key_end..end).unwrap_or_default())
        };
        self.ends.iter().map(pair).collect()
    }
}

/// Reads each of `rests` to its end into `queue`, in chunks of `chunk_bytes`, until the queue is
/// closed; a keyspace's end counts `keyspace_bytes`. What fails is the last thing in the queue.
pub(super) fn read(rests: &[Rest<'_>], chunk_bytes: usize, keyspace_bytes: usize, queue: &Queue) {
    let _end = queue.closed_when_dropped();
    let mut chunk = Chunk { bytes: 0, bytes_max: chunk_bytes };
    for rest in rests {
        if let Err(cause) = read_keyspace(rest, &mut chunk, keyspace_bytes, queue) {
            queue.push(Err(cause));
            return;
        }
    }
}

/// How full a chunk is.
struct Chunk {
    bytes: usize,
    bytes_max: usize,
}

impl Chunk {
    /// Adds to it, and says whether it ends there.
    const fn add(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        let ends = self.bytes >= self.bytes_max;
        if ends {
            self.bytes = 0;
        }
        ends
    }
}

/// Counts the pairs of each of `rests` by a walk that knows of no cursor and no batch, into `counts`, in
/// their order, until `stopped`: what was read is compared with it (I-2).
pub(super) fn count(
    rests: &[Rest<'_>],
    counts: &mpsc::Sender<Result<u64, Cause>>,
    stopped: &AtomicBool,
) {
    let is_stopped = || stopped.load(Ordering::Relaxed);
    for rest in rests {
        if is_stopped() {
            return;
        }
        let counted =
            rest.store.map_or(Ok(Some(0)), |store| store.count(rest.keyspace, &is_stopped));
        let Some(counted) = counted.transpose() else { return };
        if counts.send(counted).is_err() {
            return;
        }
    }
}

/// Stops who counts when the writer ends, however it does. A queue is closed when its reader ends, too.
#[derive(Debug)]
pub(super) struct StoppedWhenDropped<'a>(pub(super) &'a AtomicBool);

impl Drop for StoppedWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn read_keyspace(
    rest: &Rest<'_>,
    chunk: &mut Chunk,
    keyspace_bytes: usize,
    queue: &Queue,
) -> Result<(), Cause> {
    let mut batch = queue.empty();
    let mut is_closed = false;
    if let Some(store) = rest.store {
        store.visit(rest.keyspace, rest.after.as_deref(), &mut |key, value| {
            batch.add(key, value);
            if chunk.add(key.len() + value.len()) {
                batch.end = Some(End::Chunk);
            } else if batch.bytes.len() < BATCH_BYTES {
                return Ok(true);
            }
            let full = std::mem::replace(&mut batch, queue.empty());
            is_closed = !queue.push(Ok(full));
            Ok(!is_closed)
        })?;
    }
    if !is_closed {
        let is_full = chunk.add(keyspace_bytes);
        batch.end = Some(End::Keyspace { chunk: is_full || rest.ends_group });
        if rest.ends_group {
            chunk.bytes = 0;
        }
        queue.push(Ok(batch));
    }
    Ok(())
}

/// Batches on their way from the reader to the writer; bounded by their bytes.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Result<Batch, Cause>>,
    bytes: usize,
    /// Buffers to be used again.
    spare: Vec<Batch>,
    closed: bool,
}

impl State {
    /// Whether a batch of so many bytes may wait, too.
    fn has_room(&self, bytes: usize) -> bool {
        self.waiting.is_empty() || self.bytes + bytes <= AHEAD_BYTES
    }
}

/// Closes the queue when either side ends, however it does.
#[derive(Debug)]
pub(super) struct ClosedWhenDropped<'a>(&'a Queue);

impl Drop for ClosedWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.changed.notify_all();
    }
}

impl Queue {
    pub(super) const fn closed_when_dropped(&self) -> ClosedWhenDropped<'_> {
        ClosedWhenDropped(self)
    }

    /// Adds a batch once there is room; false where nobody wants it any more.
    fn push(&self, batch: Result<Batch, Cause>) -> bool {
        let bytes = batch.as_ref().map_or(0, |batch| batch.bytes.len());
        let full = |state: &mut State| !state.closed && !state.has_room(bytes);
        let mut state =
            self.changed.wait_while(self.state(), full).unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return false;
        }
        state.bytes += bytes;
        state.waiting.push_back(batch);
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Takes the next batch; none where the reader has ended.
    pub(super) fn pop(&self) -> Option<Result<Batch, Cause>> {
        let empty = |state: &mut State| !state.closed && state.waiting.is_empty();
        let mut state =
            self.changed.wait_while(self.state(), empty).unwrap_or_else(PoisonError::into_inner);
        let batch = state.waiting.pop_front();
        let bytes = batch.as_ref().and_then(|batch| batch.as_ref().ok());
        state.bytes -= bytes.map_or(0, |batch| batch.bytes.len());
        drop(state);
        self.changed.notify_all();
        batch
    }

    /// Gives a batch back whose pairs are written. Larger buffers are let go, since they are rare.
    pub(super) fn give_back(&self, mut batch: Batch) {
        if batch.bytes.capacity() <= 2 * BATCH_BYTES {
            batch.bytes.clear();
            batch.ends.clear();
            let (bytes, ends) = (batch.bytes, batch.ends);
            self.state().spare.push(Batch { bytes, ends, ..Batch::default() });
        }
    }

    fn empty(&self) -> Batch {
        self.state().spare.pop().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: usize) -> Batch {
        let mut batch = Batch::default();
        batch.add(b"", &vec![7; bytes]);
        batch
    }

    #[test]
    fn a_batch_gives_the_pairs_back_that_were_added() {
        let pairs: [(&[u8], &[u8]); 4] = [(b"a", b"1"), (b"", b""), (b"bc", b""), (b"", b"xyz")];
        let mut batch = Batch::default();
        for (key, value) in pairs {
            batch.add(key, value);
        }
        assert_eq!(batch.pairs(), pairs);
        assert_eq!((batch.digest.pairs, batch.digest.bytes), (4, 7));
    }

    /// A value that is larger than all that may wait must still get through.
    #[test]
    fn a_batch_of_any_size_passes_and_no_more_waits_than_the_bound() {
        let queue = Queue::default();
        let sizes = [AHEAD_BYTES + 1, 1, AHEAD_BYTES / 2, AHEAD_BYTES / 2, AHEAD_BYTES / 2, 3];
        // How many wait when the first that is there has no room behind it for one more.
        let together = [1, 2, 2, 2, 2, 1];
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _end = queue.closed_when_dropped();
                for size in sizes {
                    assert!(queue.push(Ok(batch(size))));
                }
            });
            // Where this side fails, the other must not wait for it.
            let _end = queue.closed_when_dropped();
            for (size, together) in sizes.into_iter().zip(together) {
                let fewer = |state: &mut State| state.waiting.len() < together;
                let state = queue.changed.wait_while(queue.state(), fewer).unwrap();
                assert_eq!(state.waiting.len(), together);
                assert!(together == 1 || state.bytes <= AHEAD_BYTES);
                drop(state);
                assert_eq!(queue.pop().unwrap().unwrap().bytes.len(), size);
            }
            assert!(queue.pop().is_none());
        });
    }

    #[test]
    fn what_would_be_more_than_the_bound_has_no_room_but_where_nothing_waits() {
        let mut state = State::default();
        assert!(state.has_room(AHEAD_BYTES + 1));
        state.waiting.push_back(Ok(batch(1)));
        state.bytes = 1;
        assert!(state.has_room(AHEAD_BYTES - 1));
        assert!(!state.has_room(AHEAD_BYTES));
    }

    #[test]
    fn a_reader_ends_when_its_writer_has() {
        let queue = Queue::default();
        std::thread::scope(|scope| {
            let reader =
                scope.spawn(|| (0..3).map(|_| queue.push(Ok(batch(AHEAD_BYTES)))).collect());
            assert!(queue.pop().is_some());
            drop(queue.closed_when_dropped());
            let pushed: Vec<bool> = reader.join().unwrap();
            assert!(pushed[0] && !pushed[2]);
        });
    }

    /// Reads a store of `pairs` pairs of 4 + `value` bytes and says of each batch how many pairs it has,
    /// and what ends with it.
    fn read_all(
        rests: &[(u32, usize, bool)],
        chunk_bytes: usize,
        keyspace_bytes: usize,
    ) -> Vec<(usize, Option<End>)> {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().canonicalize().unwrap().join("s");
        let database = fjall::Database::builder(&path).open().unwrap();
        let names: Vec<String> = (0..rests.len()).map(|at| format!("k{at}")).collect();
        for (name, &(pairs, value, _)) in names.iter().zip(rests) {
            let options = fjall::KeyspaceCreateOptions::default;
            let keyspace = database.keyspace(name, options).unwrap();
            for number in 0..pairs {
                keyspace.insert(number.to_be_bytes(), vec![7; value]).unwrap();
            }
        }
        drop(database);
        let tree = crate::source::inventory::tree(&path).unwrap();
        let store = Store::open("s", &path, tree).unwrap();
        let rests: Vec<Rest<'_>> = names
            .iter()
            .zip(rests)
            .map(|(keyspace, rest)| Rest {
                store: Some(&store),
                keyspace,
                after: None,
                ends_group: rest.2,
            })
            .collect();
        let queue = Queue::default();
        read(&rests, chunk_bytes, keyspace_bytes, &queue);
        let batches = std::iter::from_fn(|| queue.pop());
        batches
            .map(|batch| {
                let batch = batch.unwrap();
                (batch.pairs().len(), batch.end)
            })
            .collect()
    }

    #[test]
    fn a_chunk_ends_where_it_is_full_and_where_its_keyspace_ends_its_group() {
        let goes_on = || Some(End::Keyspace { chunk: false });
        let ends = || Some(End::Keyspace { chunk: true });
        let chunk = || Some(End::Chunk);
        // Key and value count together: 10 bytes each.
        let read = read_all(&[(5, 6, false)], 20, 0);
        assert_eq!(read, [(2, chunk()), (2, chunk()), (1, goes_on())]);
        // The end of a keyspace counts, and the next one finds the chunk as full as it is.
        let read = read_all(&[(1, 6, false), (1, 6, false), (2, 6, false)], 30, 5);
        assert_eq!(read, [(1, goes_on()), (1, ends()), (2, goes_on())]);
        // After a group a chunk begins.
        let read = read_all(&[(1, 6, true), (2, 6, false)], 20, 5);
        assert_eq!(read, [(1, ends()), (2, chunk()), (0, goes_on())]);
        assert_eq!(read_all(&[(0, 0, true)], 20, 5), [(0, ends())]);
    }

    /// What is read is handed over as it comes, not all at its end.
    #[test]
    fn a_batch_is_handed_over_once_it_is_as_long_as_batches_are() {
        let value = BATCH_BYTES / 4 - 4;
        let read = read_all(&[(9, value, true)], usize::MAX, 0);
        let ends = Some(End::Keyspace { chunk: true });
        assert_eq!(read, [(4, None), (4, None), (1, ends)]);
    }

    #[test]
    fn a_buffer_is_used_again_unless_it_is_large() {
        let queue = Queue::default();
        let capacity = |bytes: usize| {
            queue.give_back(batch(bytes));
            let spare = queue.empty();
            assert_eq!((spare.pairs().len(), spare.digest.pairs, spare.end), (0, 0, None));
            spare.bytes.capacity()
        };
        assert!(capacity(BATCH_BYTES) >= BATCH_BYTES);
        assert_eq!(capacity(2 * BATCH_BYTES + 1), 0);
    }

    #[test]
    fn who_counts_is_stopped_when_the_writer_ends() {
        let stopped = AtomicBool::new(false);
        drop(StoppedWhenDropped(&stopped));
        assert!(stopped.load(Ordering::Relaxed));
        let (counts, counted) = mpsc::channel();
        let rest = || Rest { store: None, keyspace: "k", after: None, ends_group: true };
        count(&[rest()], &counts, &stopped);
        counted.try_recv().unwrap_err();
        count(&[rest(), rest()], &counts, &AtomicBool::new(false));
        assert_eq!(counted.try_iter().map(Result::unwrap).collect::<Vec<_>>(), [0, 0]);
    }
}
