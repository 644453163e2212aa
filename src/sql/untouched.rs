//! Looking into a target without touching it, also while another process writes it.

use super::target::Target;
use crate::disk;
use crate::error::Cause;
use rusqlite::ffi::ErrorCode;
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A look that another process's writing may have torn is repeated this many times.
const LOOKS_MAX: usize = 5;

/// The time between two of them: longer than a small transaction takes.
const LOOKS_APART: Duration = Duration::from_millis(40);

/// How long a writer that is just committing is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_millis(500);

/// The part of a journal's or log's header that differs from one transaction, or round, to the next.
const HEADER_BYTES: usize = 32;

/// A file's inode, length and time of the last change.
type Stamp = (u64, u64, i64, i64);

/// How a look went.
enum Looked<T> {
    Whole(Result<T, Cause>),
    /// Somebody wrote meanwhile: what was read may be of two minds.
    Torn,
}

impl Target {
    /// Reads with `read`, which may be called more than once. Nothing on disk is changed or created,
    /// but for a copy in a temporary folder where an interrupted transaction would have to be rolled
    /// back first.
    ///
    /// The main file is only ever opened by SQLite itself where another connection of this process
    /// may have it open: closing any other handle would drop that connection's locks.
    pub(super) fn look_only<T>(
        &self,
        read: &dyn Fn(&Connection) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        for look in 0..LOOKS_MAX {
            if look > 0 {
                std::thread::sleep(LOOKS_APART);
            }
            match self.look_once(read)? {
                Looked::Whole(result) => return result,
                Looked::Torn => {}
            }
        }
        Err(Cause::Engine {
            engine: "SQLite",
            what: "look into",
            path: self.path.clone(),
            message: "another process is writing it".to_owned(),
            next: "wait until it is less busy and run this again",
        })
    }

    fn look_once<T>(
        &self,
        read: &dyn Fn(&Connection) -> Result<T, Cause>,
    ) -> Result<Looked<T>, Cause> {
        let present = |suffix: &str| {
            let path = self.beside(suffix);
            Ok::<_, Cause>(disk::metadata(&path)?.is_some_and(|found| found.len() > 0))
        };
        let (journal, log) = (present("-journal")?, present("-wal")?);
        if !journal && !log {
            return self.look_immutable(read);
        }
        // SQLite is asked first, also where no `-shm` file is there: a connection in WAL whose locking
        // mode is exclusive has none, and copying its file in its own process would drop its lock.
        if disk::metadata(&self.path)?.is_some_and(|found| found.len() > 0) {
            let query = if log { "mode=ro&readonly_shm=1" } else { "mode=ro" };
            match self.look_along(query, read) {
                Ok(Some(value)) => return Ok(Looked::Whole(Ok(value))),
                Ok(None) => return Ok(Looked::Torn),
                Err(Along::Failed(cause)) => return Ok(Looked::Whole(Err(cause))),
                Err(Along::NeedsRecovery) => {}
            }
        }
        self.look_into_copy(read)
    }

    /// No journal is there, so the main file is all there is; no lock is taken.
    fn look_immutable<T>(
        &self,
        read: &dyn Fn(&Connection) -> Result<T, Cause>,
    ) -> Result<Looked<T>, Cause> {
        let before = self.stamps()?;
        let result = self.open("immutable=1").and_then(|connection| read(&connection));
        if self.stamps()? == before { Ok(Looked::Whole(result)) } else { Ok(Looked::Torn) }
    }

    /// Reads under SQLite's own shared lock, for as long as the read takes. A read-only connection
    /// never rolls back and never writes a log's index. None where a writer is just committing.
    fn look_along<T>(
        &self,
        query: &str,
        read: &dyn Fn(&Connection) -> Result<T, Cause>,
    ) -> Result<Option<T>, Along> {
        let connection = self.open(query).map_err(Along::Failed)?;
        let begin = || {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.execute_batch("BEGIN")?;
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        };
        match begin().map_err(|error| (error.sqlite_error_code(), error)) {
            Ok(()) => read(&connection).map(Some).map_err(Along::Failed),
            Err((Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _)) => Ok(None),
            Err((Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen), _)) => {
                Err(Along::NeedsRecovery)
            }
            Err((_, error)) => Err(Along::Failed(self.classify(&error))),
        }
    }

    /// Copies the main file and then its journals, and lets SQLite recover the copy. A journal that
    /// is the same before and after covers whatever was written to the main file meanwhile.
    fn look_into_copy<T>(
        &self,
        read: &dyn Fn(&Connection) -> Result<T, Cause>,
    ) -> Result<Looked<T>, Cause> {
        let suffixes = ["-journal", "-wal"];
        let headers = || suffixes.map(|suffix| header(&self.beside(suffix)));
        let temporary = std::env::temp_dir();
        self.check_room(&temporary)?;
        let folder = tempfile::tempdir().map_err(Cause::io("create a folder in", &temporary))?;
        let copy = folder.path().join("copy");
        let before = headers();
        for suffix in ["", "-journal", "-wal"] {
            let (from, to) = (self.beside(suffix), disk::with_suffix(&copy, suffix));
            let copied = disk::open(&from)
                .and_then(|mut from| std::io::copy(&mut from, &mut File::create_new(&to)?));
            match copied {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Cause::io("copy", &from)(error)),
            }
        }
        if before != headers() {
            return Ok(Looked::Torn);
        }
        let connection = Connection::open(&copy).map_err(|error| self.classify(&error))?;
        Ok(Looked::Whole(read(&connection)))
    }

    fn check_room(&self, temporary: &Path) -> Result<(), Cause> {
        let sizes = ["", "-journal", "-wal"]
            .map(|suffix| fs::metadata(self.beside(suffix)).map_or(0, |found| found.len()));
        let (needed_bytes, available_bytes) =
            (sizes.iter().sum(), disk::available_bytes(temporary)?);
        if needed_bytes > available_bytes {
            return Err(Cause::DiskFull {
                path: temporary.to_owned(),
                needed_bytes,
                available_bytes,
            });
        }
        Ok(())
    }

    /// Whether the journal beside it is of a transaction that was interrupted, so that the next
    /// connection that writes rolls it back.
    pub(super) fn is_hot(&self) -> bool {
        matches!(self.look_along("mode=ro", &|_| Ok(())), Err(Along::NeedsRecovery))
    }

    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        disk::with_suffix(&self.path, suffix)
    }

    /// What changes when somebody writes.
    fn stamps(&self) -> Result<[Option<Stamp>; 3], Cause> {
        let stamp = |suffix: &str| {
            let found = disk::metadata(&self.beside(suffix))?.filter(|found| found.len() > 0);
            Ok(found.map(|found| (found.ino(), found.len(), found.mtime(), found.mtime_nsec())))
        };
        Ok([stamp("")?, stamp("-journal")?, stamp("-wal")?])
    }

    fn open(&self, query: &str) -> Result<Connection, Cause> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let uri = format!("file:{}?{query}", percent_encode(&self.path));
        Connection::open_with_flags(uri, flags).map_err(|error| self.classify(&error))
    }
}

/// Why SQLite could not read along.
enum Along {
    Failed(Cause),
    /// Nobody has it open, and a journal has to be played back first.
    NeedsRecovery,
}

/// The first bytes of a journal, and which file it is; its count of records may grow meanwhile.
fn header(path: &Path) -> Option<(u64, Vec<u8>)> {
    let file = disk::open(path).ok()?;
    let inode = file.metadata().ok()?.ino();
    let mut bytes = Vec::new();
    file.take(HEADER_BYTES as u64).read_to_end(&mut bytes).ok()?;
    let is_journal = path.extension().is_none_or(|end| !end.as_encoded_bytes().ends_with(b"-wal"));
    if is_journal {
        // Magic and count are filled in when the records are synced; the nonce stands from the start.
        bytes.drain(..bytes.len().min(12));
    }
    Some((inode, bytes))
}

/// A path as a URI takes it.
fn percent_encode(path: &Path) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
    use std::os::unix::ffi::OsStrExt;
    const ENCODED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
    percent_encode(path.as_os_str().as_bytes(), ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(target: &Target) -> Result<i64, Cause> {
        target.look_only(&|connection| {
            connection
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .map_err(|error| target.classify(&error))
        })
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A database with one committed row, in `mode`, and the connection that has it open.
    fn database(folder: &Path, mode: &str) -> (Target, Connection) {
        let target = Target::new(&folder.join("d.sqlite")).unwrap();
        let connection = Connection::open(&target.path).unwrap();
        connection.pragma_update(None, "journal_mode", mode).unwrap();
        connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
        (target, connection)
    }

    #[test]
    fn a_look_reads_along_with_a_writer_in_every_journal_mode_and_leaves_it_alone() {
        for mode in ["delete", "persist", "truncate", "wal"] {
            let folder = tempfile::tempdir().unwrap();
            let (target, writer) = database(folder.path(), mode);
            assert_eq!(rows(&target).unwrap(), 1, "{mode}");
            writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (2)").unwrap();
            let before = names(folder.path());
            assert_eq!(rows(&target).unwrap(), 1, "{mode}");
            assert_eq!(names(folder.path()), before, "{mode}");
            writer.execute_batch("COMMIT").unwrap();
            assert_eq!(rows(&target).unwrap(), 2, "{mode}");
        }
    }

    #[test]
    fn a_closed_database_in_wal_is_read_without_a_log_or_index_coming_into_being() {
        let folder = tempfile::tempdir().unwrap();
        let (target, writer) = database(folder.path(), "wal");
        drop(writer);
        assert_eq!(rows(&target).unwrap(), 1);
        assert_eq!(names(folder.path()), ["d.sqlite"]);
    }

    #[test]
    fn a_copied_log_without_its_index_and_a_hot_journal_are_played_back_in_a_copy() {
        for (mode, suffix, expected) in [("wal", "-wal", 2), ("delete", "-journal", 1)] {
            let folder = tempfile::tempdir().unwrap();
            let (target, writer) = database(folder.path(), mode);
            if mode == "wal" {
                writer.execute_batch("INSERT INTO t VALUES (2)").unwrap();
            } else {
                // So small a cache spills, so that the main file is changed before the commit.
                writer
                    .execute_batch(
                        "PRAGMA cache_size = 1; BEGIN IMMEDIATE;
                         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 9999)
                         INSERT INTO t SELECT randomblob(100) FROM n",
                    )
                    .unwrap();
            }
            let left = folder.path().join("left");
            fs::create_dir(&left).unwrap();
            let torn = Target::new(&left.join("d.sqlite")).unwrap();
            for end in ["", suffix] {
                fs::copy(target.beside(end), torn.beside(end)).unwrap();
            }
            let before = (names(&left), fs::read(&torn.path).unwrap());
            assert!(torn.has_to_be_played_back().unwrap(), "{mode}");
            assert_eq!(rows(&torn).unwrap(), expected, "{mode}");
            assert_eq!((names(&left), fs::read(&torn.path).unwrap()), before, "{mode}");
            drop(writer);
        }
    }

    #[test]
    fn a_look_beside_an_exclusive_log_of_the_same_process_leaves_its_lock_alone() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::new(&folder.path().join("d.sqlite")).unwrap();
        let holder = Connection::open(&target.path).unwrap();
        holder
            .execute_batch(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;
                 CREATE TABLE t (x); INSERT INTO t VALUES (1)",
            )
            .unwrap();
        assert_eq!(names(folder.path()), ["d.sqlite", "d.sqlite-wal"]);
        let own = format!(" {} ", std::process::id());
        let inode = format!(":{} ", fs::metadata(&target.path).unwrap().ino());
        let listed = || {
            let locks = fs::read_to_string("/proc/locks").unwrap();
            let ours = locks.lines().filter(|l| l.contains(&own) && l.contains(&inode));
            ours.filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
        };
        // While others lock and unlock, a reading of that list may leave some out or have them twice.
        let locks = || {
            let read = std::iter::repeat_with(listed).take(50);
            read.map(|found: std::collections::BTreeSet<String>| found.len()).max().unwrap()
        };
        let before = locks();
        assert!(before > 0);
        assert!(rows(&target).unwrap_err().to_string().contains("writing it"));
        assert_eq!(locks(), before);
        drop(holder);
        assert_eq!(rows(&target).unwrap(), 1);
    }

    #[test]
    fn a_look_beside_an_endless_writer_is_never_told_that_the_database_is_damaged() {
        for mode in ["delete", "wal"] {
            let folder = tempfile::tempdir().unwrap();
            let (target, writer) = database(folder.path(), mode);
            let path = target.path.clone();
            drop(writer);
            let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let stopped = std::sync::Arc::clone(&stop);
            let thread = std::thread::spawn(move || {
                let writer = Connection::open(path).unwrap();
                writer.busy_timeout(Duration::from_secs(5)).unwrap();
                while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                    writer
                        .execute_batch("BEGIN; INSERT INTO t VALUES (randomblob(9000)); INSERT INTO t VALUES (2); COMMIT")
                        .unwrap();
                }
            });
            for _ in 0..60 {
                match rows(&target) {
                    Ok(rows) => assert_eq!(rows % 2, 1, "{mode}"),
                    Err(cause) => assert!(cause.to_string().contains("writing it"), "{cause}"),
                }
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            thread.join().unwrap();
        }
    }

    #[test]
    fn what_changes_when_somebody_writes_is_seen_at_each_of_the_files() {
        for (mode, suffix) in [("delete", ""), ("persist", "-journal"), ("wal", "-wal")] {
            let folder = tempfile::tempdir().unwrap();
            let (target, writer) = database(folder.path(), mode);
            let before = target.stamps().unwrap();
            assert_eq!(target.stamps().unwrap(), before, "{mode}");
            std::thread::sleep(LOOKS_APART);
            writer.execute_batch("INSERT INTO t VALUES (randomblob(9000))").unwrap();
            let at = ["", "-journal", "-wal"].iter().position(|end| *end == suffix).unwrap();
            assert_ne!(target.stamps().unwrap()[at], before[at], "{mode}");
        }
        // An empty journal is as good as none.
        let folder = tempfile::tempdir().unwrap();
        let (target, _writer) = database(folder.path(), "delete");
        let before = target.stamps().unwrap();
        fs::write(target.beside("-journal"), "").unwrap();
        assert_eq!(target.stamps().unwrap(), before);
    }

    #[test]
    fn a_journal_is_the_same_while_its_records_grow_and_another_in_the_next_transaction() {
        let folder = tempfile::tempdir().unwrap();
        for (name, counted) in [("d.sqlite-journal", false), ("d.sqlite-wal", true)] {
            let path = folder.path().join(name);
            assert_eq!(header(&path), None);
            fs::write(&path, [0; 40]).unwrap();
            let before = header(&path).unwrap();
            let changed = |at: usize| {
                let mut bytes = [0; 40];
                bytes[at] = 1;
                fs::write(&path, bytes).unwrap();
                header(&path).unwrap() != before
            };
            assert_eq!([changed(0), changed(11)], [counted, counted], "{name}");
            assert_eq!([changed(12), changed(31), changed(32)], [true, true, false], "{name}");
            fs::rename(&path, folder.path().join("old")).unwrap();
            fs::write(&path, [0; 40]).unwrap();
            assert_ne!(header(&path).unwrap(), before, "{name}");
        }
    }

    #[test]
    fn a_copy_is_made_just_where_it_has_room() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::new(&folder.path().join("d.sqlite")).unwrap();
        target.check_room(folder.path()).unwrap();
        let file = File::create(&target.path).unwrap();
        file.set_len(1).unwrap();
        target.check_room(folder.path()).unwrap();
        // It takes no room itself.
        let available = disk::available_bytes(folder.path()).unwrap();
        file.set_len(available + (1 << 40)).unwrap();
        let refused = target.check_room(folder.path()).unwrap_err();
        assert!(matches!(refused, Cause::DiskFull { .. }), "{refused}");
    }

    #[test]
    fn a_log_that_can_t_be_copied_is_not_left_out_of_the_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (target, writer) = database(folder.path(), "wal");
        drop(writer);
        fs::write(folder.path().join("elsewhere"), [1; 40]).unwrap();
        std::os::unix::fs::symlink("elsewhere", target.beside("-wal")).unwrap();
        let read = |connection: &Connection| {
            connection
                .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
                .map_err(|error| target.classify(&error))
        };
        let looked: Result<Looked<i64>, Cause> = target.look_into_copy(&read);
        assert!(matches!(looked, Err(Cause::Io { what: "copy", .. })));
    }
}
