//! Connections and transactions: durable, stepped to their end, and closed after any error.

use crate::disk;
use crate::error::{Cause, advice};
use crate::fault;
use rusqlite::ffi::ErrorCode;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another connection's lock is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a durable step was not done, or may not have been.
#[derive(Debug)]
pub(crate) enum StepError {
    /// It was not done.
    Failed(Cause),
    /// It may have been done.
    Unknown(Cause),
    /// The rows are not the pairs; the commit point has not passed.
    Mismatch(Box<crate::error::Mismatch>),
}

impl From<Cause> for StepError {
    fn from(cause: Cause) -> Self {
        Self::Failed(cause)
    }
}

/// An SQLite error in our words.
pub(crate) fn engine(what: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> Cause + use<> {
    let path = path.to_owned();
    move |error| {
        let is_denied = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen)
        );
        if is_denied && let Some(denied) = denied(what, &path) {
            return denied;
        }
        Cause::Engine {
            engine: "SQLite",
            what,
            path: path.clone(),
            message: error.to_string(),
            next: advice::of_sqlite(&error, &path),
        }
    }
}

/// Which of a database's files is another user's.
fn denied(what: &'static str, path: &Path) -> Option<Cause> {
    let beside = ["-journal", "-wal", "-shm"].map(|suffix| disk::with_suffix(path, suffix));
    let beside = beside.iter().filter(|file| disk::metadata(file).is_ok_and(|m| m.is_some()));
    std::iter::once(path)
        .chain(beside.map(PathBuf::as_path))
        .find_map(|file| crate::error::denied::denied(what, file))
}

/// Opens an existing database, or a file that is empty, for durable transactions. None is created.
pub(crate) fn open(path: &Path) -> Result<Connection, Cause> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let failed = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            Cause::NotADatabase { path: path.to_owned(), reason: error.to_string() }
        }
        Some(_) | None => engine("open", path)(error),
    };
    let connection = Connection::open_with_flags(path, flags).map_err(&failed)?;
    connection.busy_timeout(fault::busy_timeout(BUSY_TIMEOUT)).map_err(&failed)?;
    // With DELETE and FULL a power cut may undo a commit that was acknowledged; EXTRA syncs the
    // folder too. In WAL it means FULL.
    let synchronous = if fault::mistaken("synchronous") { "NORMAL" } else { "EXTRA" };
    connection.pragma_update(None, "synchronous", synchronous).map_err(&failed)?;
    fault::limit_length(&connection).map_err(&failed)?;
    Ok(connection)
}

/// Opens an existing database so that nothing can be written by this connection: neither to it nor
/// to one that is attached.
pub(crate) fn open_read_only(path: &Path) -> Result<Connection, Cause> {
    let failed = engine("open", path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags).map_err(&failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(&failed)?;
    connection.pragma_update(None, "query_only", true).map_err(&failed)?;
    Ok(connection)
}

/// The journal mode, read back.
pub(crate) fn journal_mode(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_one("PRAGMA journal_mode", [], |row| row.get(0))
}

/// Asks for a journal mode and returns the one that is in force.
pub(crate) fn set_journal_mode(
    connection: &Connection,
    path: &Path,
    mode: &str,
) -> Result<String, Cause> {
    let what = "set the journal mode of";
    // SQLite answers with the old mode where another connection stands in the way.
    let set = connection.query_one(&format!("PRAGMA journal_mode = {mode}"), [], |row| row.get(0));
    let in_force = match set {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            journal_mode(connection)
        }
        result => result,
    };
    fault::point("journal mode set").map_err(Cause::io(what, path))?;
    in_force.map_err(engine(what, path))
}

/// Runs `work` in one durable transaction. After any error the connection must not be used again.
pub(crate) fn transact<T>(
    connection: &mut Connection,
    path: &Path,
    what: &'static str,
    work: impl FnOnce(&Connection) -> Result<T, Cause>,
) -> Result<T, StepError> {
    let failed = engine(what, path);
    let io = |error: std::io::Error| Cause::io(what, path)(error);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&failed)?;
    // An error drops the transaction, which rolls it back.
    let value = work(&transaction)?;
    fault::point("before a commit").map_err(io)?;
    match transaction.execute_batch("COMMIT") {
        Ok(()) => {}
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
            return Err(StepError::Failed(failed(error)));
        }
        Err(error) => return Err(StepError::Unknown(failed(error))),
    }
    drop(transaction);
    fault::point("after a commit").map_err(|error| StepError::Unknown(io(error)))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A database with an empty table, in `mode`, and a connection that waits for nobody.
    fn database(folder: &Path, mode: &str) -> (PathBuf, Connection) {
        let path = folder.canonicalize().unwrap().join("d.sqlite");
        let connection = Connection::open(&path).unwrap();
        connection.busy_timeout(Duration::ZERO).unwrap();
        connection.pragma_update(None, "journal_mode", mode).unwrap();
        connection.execute_batch("CREATE TABLE t (x)").unwrap();
        (path, connection)
    }

    #[test]
    fn a_database_is_not_opened_over_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = database(folder.path(), "delete");
        let link = path.with_file_name("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for opened in [open, open_read_only] {
            opened(&path).unwrap();
            opened(&link).unwrap_err();
        }
    }

    #[test]
    fn the_journal_mode_that_is_in_force_is_told_where_another_connection_stands_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let (path, connection) = database(folder.path(), "wal");
        assert_eq!(journal_mode(&connection).unwrap(), "wal");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        assert_eq!(set_journal_mode(&connection, &path, "delete").unwrap(), "wal");
        drop(other);
        assert_eq!(set_journal_mode(&connection, &path, "delete").unwrap(), "delete");
        drop(connection);
        fs::write(&path, [1; 4096]).unwrap();
        set_journal_mode(&Connection::open(&path).unwrap(), &path, "wal").unwrap_err();
    }

    #[test]
    fn i6_a_commit_that_another_s_look_stops_was_not_done_and_of_one_that_fails_it_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut connection) = database(folder.path(), "delete");
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
        let mut write = |sql: &str| {
            transact(&mut connection, &path, "write", |connection| {
                connection.execute_batch(sql).map_err(engine("write", &path))
            })
        };
        let stopped = write("INSERT INTO t VALUES (1)").unwrap_err();
        assert!(matches!(stopped, StepError::Failed(_)), "{stopped:?}");
        drop(reader);
        write("INSERT INTO t VALUES (1)").unwrap();
        let failed = write(
            "PRAGMA foreign_keys = ON; CREATE TABLE a (x PRIMARY KEY);
             CREATE TABLE b (y REFERENCES a (x) DEFERRABLE INITIALLY DEFERRED);
             PRAGMA defer_foreign_keys = ON; INSERT INTO b VALUES (1)",
        );
        assert!(matches!(failed.unwrap_err(), StepError::Unknown(_)));
    }
}
