//! Trying, before anything is sealed, what the copy will do to the target: what is written is rolled
//! back, and nothing of it stays.

use super::connection::{self, engine};
use super::target::Target;
use super::throwaway;
use crate::disk;
use crate::disk::held::{Held, remove_empty};
use crate::error::Cause;
use crate::protocol::MigrationId;
use crate::protocol::claim::CLAIM_SUFFIX;
use rusqlite::config::DbConfig;
use std::io::Read;

/// An empty file that holds the claim's place.
const CLAIM_PROBE: &str = ".cutover-probe";

/// An empty database, where the target does not exist yet; else it holds the place of what SQLite puts
/// beside it.
const DATABASE_PROBE: &str = ".cutover-probe-2";

/// Holds the place of what SQLite puts beside it.
const JOURNAL_PROBE: &str = ".cutover-probe-3";

/// What SQLite puts beside a database.
const JOURNAL: &str = "-journal";
const LOG: &str = "-wal";
const INDEX: &str = "-shm";

/// The head of a journal, without the padding to a sector: first its magic number and its count of
/// records, which are written when the journal is synced, then the sizes that it is of.
const JOURNAL_HEAD_BYTES: usize = 28;
const JOURNAL_BEGUN_BYTES: usize = 12;

impl Target {
    /// Tries whether the target can be written as a copy will write it: takes its write lock, waits
    /// for those who read where a commit would have to, and writes a page that is rolled back. Where
    /// there is no target yet, that is done in a file of our own beside it. What is returned holds the
    /// places of the claim and the database.
    ///
    /// No byte of the target is changed. Where a killed program has left a journal that has to be
    /// played back first, the target is not tried, since that changes it.
    pub(crate) fn try_out(&self) -> Result<Held, Cause> {
        self.check_names()?;
        disk::check_changeable(self.folder())?;
        self.tidy_trial()?;
        let mut held = Held::default();
        let database = Self { path: self.beside(DATABASE_PROBE) };
        held.hold(self.beside(CLAIM_PROBE))?;
        held.hold(database.path.clone())?;
        // A place that SQLite does not get is better explained by its own error.
        held.hold(self.beside(JOURNAL_PROBE))?;
        held.let_go(&self.beside(JOURNAL_PROBE))?;
        if disk::metadata(&self.path)?.is_some() {
            disk::check_changeable(&self.path)?;
            held.let_go(&database.path)?;
            if !self.has_to_be_played_back()? {
                self.try_write()?;
            }
        } else {
            database.try_write()?;
        }
        Ok(held)
    }

    /// Removes what a killed trial has left. Somebody else's file may have such a name: ours are empty.
    pub(crate) fn tidy_trial(&self) -> Result<(), Cause> {
        let database = self.beside(DATABASE_PROBE);
        if disk::metadata(&database)?.is_some_and(|found| found.is_file() && found.len() == 0) {
            // SQLite has no use for a journal beside an empty file.
            disk::remove_file(&disk::with_suffix(&database, JOURNAL))?;
        }
        let [claim, journal] = [CLAIM_PROBE, JOURNAL_PROBE].map(|probe| self.beside(probe));
        [database, claim, journal].iter().try_for_each(|file| remove_empty(file))
    }

    /// Looks for each name that will stand beside the target: one that is too long is found out now.
    fn check_names(&self) -> Result<(), Cause> {
        let claim = format!("{CLAIM_SUFFIX}-{}", MigrationId(0));
        for suffix in [JOURNAL, LOG, INDEX, CLAIM_SUFFIX, &claim, throwaway::FOLDER_SUFFIX] {
            disk::metadata(&self.beside(suffix))?;
        }
        Ok(())
    }

    /// Whether a connection that writes would first play back what a killed program has left.
    pub(super) fn has_to_be_played_back(&self) -> Result<bool, Cause> {
        Ok((self.holds(LOG)? && disk::metadata(&self.beside(INDEX))?.is_none())
            || (self.holds(JOURNAL)? && self.is_hot()))
    }

    fn holds(&self, suffix: &str) -> Result<bool, Cause> {
        Ok(disk::metadata(&self.beside(suffix))?.is_some_and(|found| found.len() > 0))
    }

    /// Whether the journal beside the database is what a killed transaction, or a trial, has left before
    /// it wrote to the database. SQLite makes its head whole only then, and one that is kept for the next
    /// transaction has a head of zeros.
    fn has_left_over(&self) -> bool {
        disk::open(&self.beside(JOURNAL)).is_ok_and(|mut journal| {
            let mut head = [0; JOURNAL_HEAD_BYTES];
            let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
            let (begun, sizes) = head.split_at_mut(JOURNAL_BEGUN_BYTES);
            journal.read_exact(begun).and_then(|()| journal.read_exact(sizes)).is_ok()
                && is_zero(begun)
                && !is_zero(sizes)
        })
    }

    /// A journal that somebody keeps beside the database is left as it is.
    fn try_write(&self) -> Result<(), Cause> {
        let failed = engine("try to write", &self.path);
        let (has_log, has_journal) = (self.holds(LOG)?, self.holds(JOURNAL)?);
        let connection = connection::open(&self.path)?;
        if has_log {
            // The last to close a database would move its log into it.
            connection
                .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
                .map_err(&failed)?;
        }
        let mode = connection::journal_mode(&connection).map_err(&failed)?;
        // A commit into a rollback journal waits until nobody reads; one into a log does not.
        let begin = if mode == "wal" { "BEGIN IMMEDIATE" } else { "BEGIN EXCLUSIVE" };
        connection.execute_batch(begin).map_err(&failed)?;
        crate::fault::point("target locked").map_err(Cause::io("lock", &self.path))?;
        if !has_journal || self.has_left_over() {
            // As a commit that writes the first page: a journal is made for it.
            let version: i64 = connection
                .query_one("PRAGMA user_version", [], |row| row.get(0))
                .map_err(&failed)?;
            connection.pragma_update(None, "user_version", version).map_err(&failed)?;
            crate::fault::point("target tried").map_err(Cause::io("write", &self.path))?;
        }
        connection.execute_batch("ROLLBACK").map_err(&failed)?;
        connection.close().map_err(|(_, error)| failed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use std::fs;
    use std::path::Path;

    fn target(folder: &Path) -> Target {
        Target::new(&folder.join("d.sqlite")).unwrap()
    }

    fn stands(target: &Target, suffix: &str) -> bool {
        disk::metadata(&target.beside(suffix)).unwrap().is_some()
    }

    #[test]
    fn what_a_killed_transaction_left_is_known_by_the_head_of_its_journal() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path());
        let journal = target.beside(JOURNAL);
        assert!(!target.has_left_over());
        let left_over = |begun: [u8; JOURNAL_BEGUN_BYTES], sizes: &[u8]| {
            fs::write(&journal, [&begun, sizes].concat()).unwrap();
            target.has_left_over()
        };
        let (none, some) = ([0; JOURNAL_BEGUN_BYTES], [1; JOURNAL_BEGUN_BYTES]);
        let bytes = JOURNAL_HEAD_BYTES - JOURNAL_BEGUN_BYTES;
        assert!(left_over(none, &vec![1; bytes]));
        assert!(left_over(none, &[vec![0; bytes - 1], vec![1]].concat()));
        assert!(!left_over(none, &vec![0; bytes]));
        assert!(!left_over(some, &vec![1; bytes]));
        assert!(!left_over(some, &vec![0; bytes]));
        assert!(!left_over(none, &vec![1; bytes - 1]));
    }

    #[test]
    fn a_log_with_its_index_or_a_journal_that_is_kept_need_not_be_played_back() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path());
        let connection = Connection::open(&target.path).unwrap();
        let write = "CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES (1)";
        connection.execute_batch(write).unwrap();
        assert!(!target.has_to_be_played_back().unwrap());
        for (suffix, held) in [("", true), (JOURNAL, false), (LOG, false), (INDEX, false)] {
            assert_eq!(target.holds(suffix).unwrap(), held, "{suffix}");
        }
        fs::write(target.beside(JOURNAL), "").unwrap();
        assert!(!target.holds(JOURNAL).unwrap());
        fs::remove_file(target.beside(JOURNAL)).unwrap();
        for (mode, suffix) in [("persist", JOURNAL), ("wal", LOG)] {
            connection.pragma_update(None, "journal_mode", mode).unwrap();
            connection.execute_batch(write).unwrap();
            assert!(target.holds(suffix).unwrap(), "{mode}");
            assert!(!target.has_to_be_played_back().unwrap(), "{mode}");
        }
    }

    #[test]
    fn a_trial_holds_its_places_and_is_refused_where_no_database_stands() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path());
        let held = target.try_out().unwrap();
        assert!([CLAIM_PROBE, DATABASE_PROBE].iter().all(|probe| stands(&target, probe)));
        assert!(!stands(&target, JOURNAL_PROBE) && !stands(&target, ""));
        held.remove().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(&target.path, [1; 4096]).unwrap();
        target.try_out().unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let long = Target { path: folder.path().join("n".repeat(250)) };
        long.check_names().unwrap_err();
    }

    #[test]
    fn i8_what_a_killed_trial_left_goes_and_somebody_else_s_files_of_such_names_stay() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path());
        let journal = format!("{DATABASE_PROBE}{JOURNAL}");
        let all = [CLAIM_PROBE, DATABASE_PROBE, JOURNAL_PROBE, &journal];
        for probe in all {
            fs::write(target.beside(probe), "").unwrap();
        }
        target.tidy_trial().unwrap();
        assert!(!all.iter().any(|probe| stands(&target, probe)));
        for probe in [DATABASE_PROBE, &journal] {
            fs::write(target.beside(probe), "mine").unwrap();
        }
        target.tidy_trial().unwrap_err();
        assert!(stands(&target, DATABASE_PROBE) && stands(&target, &journal));
    }
}
