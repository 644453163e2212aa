//! The target: where it is, what it holds, and the transactions that are one step each.

use super::connection::{self, StepError, engine, transact};
use super::fence::{self, Schemas};
use super::index;
use super::record::{self, Row};
use crate::disk;
use crate::disk::owner::Owner;
use crate::error::denied::user_of;
use crate::error::{Cause, advice, on_one_line};
use crate::fault;
use crate::mapping::{Keyspace, MappingError, Rows, Table, quarantine_table, quote};
use crate::protocol::claim::CLAIM_SUFFIX;
use crate::protocol::record::{Record, SchemaEntry, TableRecorded};
use crate::protocol::{MigrationId, RecordStage, Run};
use rusqlite::Connection;
use rusqlite::ffi::ErrorCode;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The one SQL database.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Absolute, links resolved.
    pub(crate) path: PathBuf,
}

/// What a look into a target shows.
#[derive(Debug)]
pub(crate) enum TargetLook {
    /// No file, or a database in which nothing is.
    None,
    NoRecord,
    Record(Box<Record>),
    Unreadable(Cause),
    Unreachable(Cause),
    MainFileGone,
}

/// The journal mode that the SQL database is left in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum JournalMode {
    /// As it was found; a new file gets SQLite's own default, `DELETE`.
    #[default]
    Keep,
    /// A rollback journal that is deleted at each commit.
    Delete,
    /// A write-ahead log.
    Wal,
}

/// How a look may touch the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// As any connection does: an interrupted transaction is rolled back.
    Locked,
    /// Nothing on disk is changed or created.
    LookOnly,
}

/// What stands before the id in the name that a database has just before an abort deletes it. It is no
/// longer than the name that the database had before it was the target, which preflight has tried.
pub(super) const GIVEN_UP: char = '~';

/// Whether the file at `path` is a database that the migration `id` was about to delete: it has that
/// migration's record, and nobody has given it another.
pub(super) fn is_given_up(path: &Path, id: &str) -> bool {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY
        | rusqlite::OpenFlags::SQLITE_OPEN_NOFOLLOW
        | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let count = "SELECT count(*) = 1 AND min(id) = ?1 FROM cutover_record";
    Connection::open_with_flags(path, flags)
        .and_then(|connection| connection.query_row(count, [id], |row| row.get(0)))
        .unwrap_or(false)
}

/// Why a table of our own can't be made.
pub(super) const NOT_OURS: &str = "it is there already, and this migration did not make it";

impl Target {
    /// The target at `path`. Neither it nor its folder need exist.
    pub(crate) fn new(path: &Path) -> Result<Self, Cause> {
        let path = match disk::resolve(path) {
            // Its volume may not be mounted, or can't be read: a look finds that out.
            Err(cause) if cause.is_of_the_system() => {
                std::path::absolute(path).map_err(Cause::io("find", path))?
            }
            resolved => resolved?,
        };
        if path.to_str().is_none() {
            return Err(Cause::NotUtf8(path));
        }
        Ok(Self { path })
    }

    /// The folder that holds it.
    pub(crate) fn folder(&self) -> &Path {
        disk::parent(&self.path)
    }

    /// Looks for the record of `plan`.
    pub(crate) fn look(&self, plan: &str, access: Access) -> TargetLook {
        match self.exists() {
            Ok(true) => {}
            Ok(false) => return self.absent(),
            Err(cause @ Cause::NotADatabase { .. }) => return TargetLook::Unreadable(cause),
            Err(cause) => return TargetLook::Unreachable(cause),
        }
        let read = |connection: &Connection| {
            let row = record::read(connection, plan)?;
            Ok((row, fence::is_empty(connection)?))
        };
        let read = |connection: &Connection| read(connection).map_err(|e| self.classify(&e));
        let row = match access {
            Access::Locked => match self.connect().and_then(|connection| read(&connection)) {
                // In WAL, a connection that may write needs to: what a step needs is found out by it.
                Err(Cause::Engine { .. }) if disk::is_read_only(self.folder()) => {
                    self.look_only(&read)
                }
                row => row,
            },
            Access::LookOnly => self.look_only(&read),
        };
        match row {
            Ok((Row::None, true)) => TargetLook::None,
            Ok((Row::None, false)) => TargetLook::NoRecord,
            Ok((Row::Record(record), _)) => TargetLook::Record(record),
            Ok((Row::Unreadable(reason), _)) => TargetLook::Unreadable(self.no_database(reason)),
            Err(cause @ Cause::NotADatabase { .. }) => TargetLook::Unreadable(cause),
            Err(cause) => TargetLook::Unreachable(cause),
        }
    }

    /// Whether there is a file; an error where something else stands there.
    fn exists(&self) -> Result<bool, Cause> {
        match disk::metadata(&self.path)? {
            None => Ok(false),
            Some(metadata) if metadata.is_dir() => {
                Err(self.no_database("it is a folder".to_owned()))
            }
            Some(metadata) if !metadata.is_file() => {
                Err(self.no_database("it is not a regular file".to_owned()))
            }
            Some(_) => Ok(true),
        }
    }

    fn no_database(&self, reason: String) -> Cause {
        Cause::NotADatabase { path: self.path.clone(), reason }
    }

    fn absent(&self) -> TargetLook {
        if !self.folder().is_dir() {
            return TargetLook::Unreachable(Cause::TargetFolderMissing(self.path.clone()));
        }
        for suffix in ["-wal", "-journal"] {
            match disk::metadata(&disk::with_suffix(&self.path, suffix)) {
                Ok(Some(metadata)) if metadata.len() > 0 => return TargetLook::MainFileGone,
                Ok(_) => {}
                Err(cause) => return TargetLook::Unreachable(cause),
            }
        }
        TargetLook::None
    }

    pub(super) fn classify(&self, error: &rusqlite::Error) -> Cause {
        use rusqlite::Error as Sql;
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                self.no_database(error.to_string())
            }
            None if matches!(
                error,
                Sql::InvalidColumnType(..) | Sql::FromSqlConversionFailure(..)
            ) =>
            {
                self.no_database(format!("its record is damaged: {error}"))
            }
            Some(_) | None => Cause::Engine {
                engine: "SQLite",
                what: "read",
                path: self.path.clone(),
                message: error.to_string(),
                next: advice::of_sqlite(error, &self.path),
            },
        }
    }

    fn connect(&self) -> Result<Connection, Cause> {
        connection::open(&self.path)
    }

    /// Reads with `read` and changes nothing on disk; none where there is no file.
    pub(crate) fn peek<T>(
        &self,
        read: &dyn Fn(&Connection) -> Result<T, Cause>,
    ) -> Result<Option<T>, Cause> {
        if self.exists()? { self.look_only(read).map(Some) } else { Ok(None) }
    }

    /// A connection for reading back what was written.
    pub(crate) fn reader(&self) -> Result<Connection, Cause> {
        self.connect()
    }

    /// A connection that can't write the database, nor one that it attaches.
    pub(crate) fn read_only(&self) -> Result<Connection, Cause> {
        connection::open_read_only(&self.path)
    }

    /// Refuses a target that is there, or a file that SQLite has beside it, that belongs to none of the
    /// `users` who own the stores, to root or to this user: whoever put it there could read what is put
    /// into it, or has written what SQLite would take for its own.
    pub(crate) fn check_users(&self, users: &[Owner]) -> Result<(), Cause> {
        let Some(first) = users.first() else { return Ok(()) };
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let path = self.beside(suffix);
            let found = disk::metadata(&path)?.filter(std::fs::Metadata::is_file);
            if let Some(found) = found
                && users.iter().all(|user| user.is_stranger_to(&found))
            {
                let (owner, user) = (user_of(&found), first.user());
                return Err(Cause::TargetOfAnother { path, owner, user });
            }
        }
        Ok(())
    }

    /// Why tables that the plan writes can't be used: each must be absent, or empty, unclaimed and
    /// usable. And a database in memory, where all of them stand that can be made, beside the target's.
    pub(crate) fn check_tables(
        &self,
        plan: &str,
        tables: &[Table],
    ) -> Result<(Vec<Cause>, Connection), Cause> {
        let check = |connection: &Connection| check_tables(connection, &self.path, plan, tables);
        match self.peek(&check)? {
            Some(refused) => Ok(refused),
            // What the definitions do in a database that will be made.
            None => {
                check(&Connection::open_in_memory().map_err(engine("stand in for", &self.path))?)
            }
        }
    }

    /// Those of `tables` that hold rows, and that no other plan has migrated into.
    pub(crate) fn filled(&self, plan: &str, tables: &[Table]) -> Result<Vec<String>, Cause> {
        let read = |connection: &Connection| {
            let failed = engine("look at the tables of", &self.path);
            let claimed = claimed(connection, plan).map_err(&failed)?;
            let standing = Standing::look(connection).map_err(&failed)?;
            let mut filled = Vec::new();
            for Table { name, .. } in tables {
                if !claimed.contains_key(&name.to_ascii_lowercase())
                    && standing.of(name) == Some("table")
                    && !is_empty(connection, name).map_err(&failed)?
                {
                    filled.push(name.clone());
                }
            }
            Ok(filled)
        };
        Ok(self.peek(&read)?.unwrap_or_default())
    }

    /// Those of `tables` that are there no more; what a program has put in a table's place by its name is its
    /// own business.
    pub(crate) fn missing(&self, tables: &[TableRecorded]) -> Result<Vec<String>, Cause> {
        let read = |connection: &Connection| {
            let standing =
                Standing::look(connection).map_err(engine("look at the tables of", &self.path))?;
            let is_gone =
                |table: &&TableRecorded| matches!(standing.of(&table.name), None | Some("index"));
            Ok(tables.iter().filter(is_gone).map(|table| table.name.clone()).collect())
        };
        let all = || tables.iter().map(|table| table.name.clone()).collect();
        Ok(self.peek(&read)?.unwrap_or_else(all))
    }

    /// Why what the plan's keyspaces become, each with its source, does not fit their tables, as far as
    /// these could be made in `stand_in`. SQLite reads the whole schema for each table that it makes, so
    /// they are made there once.
    pub(crate) fn try_mappings<'a>(
        &self,
        stand_in: &Connection,
        keyspaces: &mut dyn Iterator<Item = (&'a str, &'a Keyspace)>,
    ) -> Result<Vec<Cause>, Cause> {
        let mut causes = Vec::new();
        for (source, keyspace) in keyspaces {
            match keyspace.mapping.try_out(&Rows::new(stand_in)) {
                Err(MappingError::Refused(reason)) => causes.push(Cause::Misfit {
                    name: source.to_owned(),
                    keyspace: keyspace.name.clone(),
                    path: self.path.clone(),
                    table: keyspace
                        .mapping
                        .tables()
                        .into_iter()
                        .next()
                        .map_or_else(String::new, |t| t.name),
                    reason: on_one_line(&reason),
                }),
                Err(MappingError::Engine(message)) => {
                    return Err(Cause::Engine {
                        engine: "SQLite",
                        what: "stand in for",
                        path: self.path.clone(),
                        message,
                        next: "look at the free memory and run this again",
                    });
                }
                Err(MappingError::Cancelled) => return Err(Cause::Cancelled),
                Ok(()) => {}
            }
        }
        Ok(causes)
    }

    /// Makes the record, or its absence, durable: a commit that writes a page.
    pub(crate) fn confirm(&self) -> Result<(), StepError> {
        if self.exists()? {
            let mut connection = self.connect()?;
            transact(&mut connection, &self.path, "confirm what is in", |connection| {
                let failed = engine("confirm what is in", &self.path);
                let version: i64 = connection
                    .query_one("PRAGMA user_version", [], |row| row.get(0))
                    .map_err(&failed)?;
                connection.pragma_update(None, "user_version", version).map_err(&failed)
            })?;
        }
        Ok(disk::sync_folder(self.folder())?)
    }

    /// The commit point; durable when it returns.
    pub(crate) fn commit(&self, plan: &str, run: Run, time: String) -> Result<(), StepError> {
        self.advance(plan, run, RecordStage::Copying, "pass the commit point in", |record, _| {
            record.stage = RecordStage::Committed;
            record.times.committed = Some(time);
            Ok(())
        })
    }

    /// Takes the fence down for good, once `check` has found every tombstone; durable when it
    /// returns.
    pub(crate) fn go_live(
        &self,
        plan: &str,
        run: Run,
        time: String,
        check: impl FnOnce() -> Result<(), Cause>,
    ) -> Result<(), StepError> {
        self.advance(plan, run, RecordStage::Committed, "go live in", |record, connection| {
            check()?;
            let failed = engine("take the fence down in", &self.path);
            fence::drop(connection, &names(&record.tables)).map_err(&failed)?;
            let schemas = Schemas::read(connection, names(&record.tables)).map_err(&failed)?;
            for table in &mut record.tables {
                table.schema = schemas.of(&table.name).to_vec();
            }
            record.stage = RecordStage::Live;
            record.times.live = Some(time);
            Ok(())
        })
    }

    /// Removes what the record says that the migration created, and the record; durable when it
    /// returns. Where it made the file, and nobody has put anything else into it, that is the file:
    /// in one step it loses its name, and the record with it.
    pub(crate) fn drop_record(&self, plan: &str, run: Run) -> Result<(), StepError> {
        let stood = disk::identity(&self.path)?;
        let mut connection = self.connect()?;
        let what = "remove the migration's tables from";
        let failed = engine(what, &self.path);
        // I-8: before the record goes, which alone knows the mode that was found.
        let found = self.record(&connection, plan)?;
        if found.created && self.remove(&connection, plan, run, stood)? {
            return Ok(());
        }
        self.set_mode(&connection, JournalMode::Keep, &found.journal_mode)?;
        // I-8: `DROP TABLE` deletes first where keys are enforced, so rows of other tables that refer
        // to ours would go with it, or forbid it.
        connection.pragma_update(None, "foreign_keys", false).map_err(&failed)?;
        transact(&mut connection, &self.path, what, |connection| {
            let record = self.record(connection, plan)?;
            if record.run() != run || record.stage == RecordStage::Live {
                return Err(Cause::RecordChanged(self.path.clone()));
            }
            self.remove_tables(connection, &record.tables)?;
            record::remove(connection, &self.path, &record)
        })?;
        if fence::is_empty(&connection).map_err(&failed)? {
            // Gives the space back; nothing depends on it.
            if let Err(error) = connection.execute_batch("VACUUM") {
                tracing::warn!(%error, "the emptied target was not made smaller");
            }
            fault::point("target made smaller")
                .map_err(|error| StepError::Unknown(Cause::io(what, &self.path)(error)))?;
        }
        Ok(())
    }

    /// Where this migration's database waits for its name. The claim's temporary file has that name too,
    /// at other times; see [`ClaimFile::remove_left_over`](super::ClaimFile::remove_left_over).
    pub(super) fn unnamed(&self, id: MigrationId) -> PathBuf {
        disk::with_suffix(&self.path, &format!("{CLAIM_SUFFIX}-{id}"))
    }

    /// Where this migration's database goes before it is deleted. What another program has put in its
    /// place goes there too, for an instant, so that a start removes it by its record alone.
    fn given_up(&self, id: MigrationId) -> PathBuf {
        disk::with_suffix(&self.path, &format!("{CLAIM_SUFFIX}{GIVEN_UP}{id}"))
    }

    /// Removes the file, which `run` made and which is the one that `stood` there when the connection
    /// was opened; whether it did. While it looks, and until the file is gone, nobody can write it.
    /// Another program that has it open in WAL, or something in it that is not the migration's, keeps
    /// it. The record is gone for good when the rename is durable; a kill after that leaves a file that
    /// [`ClaimFile::remove_left_over`](super::ClaimFile::remove_left_over) knows.
    fn remove(
        &self,
        connection: &Connection,
        plan: &str,
        run: Run,
        stood: Option<disk::Identity>,
    ) -> Result<bool, StepError> {
        let what = "remove";
        let failed = engine(what, &self.path);
        if connection::set_journal_mode(connection, &self.path, "delete")? != "delete" {
            return Ok(false);
        }
        connection.execute_batch("BEGIN EXCLUSIVE").map_err(&failed)?;
        // Another connection may have changed it: in WAL, EXCLUSIVE keeps no reader out.
        let mode: String =
            connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(&failed)?;
        if mode != "delete" {
            connection.execute_batch("ROLLBACK").map_err(&failed)?;
            return Ok(false);
        }
        let record = self.record(connection, plan)?;
        if record.run() != run || record.stage == RecordStage::Live {
            return Err(Cause::RecordChanged(self.path.clone()).into());
        }
        let is_ours = record::plans(connection).map_err(&failed)? == [plan]
            && fence::is_nothing_but(connection, &record.tables).map_err(&failed)?;
        if !is_ours {
            connection.execute_batch("ROLLBACK").map_err(&failed)?;
            return Ok(false);
        }
        fault::point("target found ours").map_err(Cause::io(what, &self.path))?;
        // A journal that is kept for the next transaction: alone it would pass for a lost database's.
        let journal = self.beside("-journal");
        if disk::metadata(&journal)?.is_some() {
            disk::remove_file(&journal)?;
            disk::sync_folder(self.folder())?;
        }
        let given_up = self.given_up(run.id);
        if is_given_up(&given_up, &run.id.to_string()) {
            disk::remove_file(&given_up)?;
        }
        disk::rename_new(&self.path, &given_up).map_err(StepError::Unknown)?;
        if disk::identity(&given_up).map_err(StepError::Unknown)? != stood {
            // I-8: somebody has put another file there.
            if disk::rename_new(&given_up, &self.path).is_err() {
                return Err(Cause::ChangedUnderneath(given_up).into());
            }
            disk::sync_folder(self.folder())?;
            return Err(Cause::ChangedUnderneath(self.path.clone()).into());
        }
        disk::sync_folder(self.folder())
            .and_then(|()| disk::remove_file(&given_up))
            .and_then(|()| disk::sync_folder(self.folder()))
            .map_err(StepError::Unknown)?;
        Ok(true)
    }

    /// Takes the fences down, and removes the tables, or the rows of those that were there before.
    fn remove_tables(
        &self,
        connection: &Connection,
        tables: &[TableRecorded],
    ) -> Result<(), Cause> {
        let failed = engine("remove the migration's tables from", &self.path);
        let is_table = |entry: &&SchemaEntry| entry.kind == "table";
        let schemas = Schemas::read(connection, names(tables)).map_err(&failed)?;
        let fenced = fence::fenced(connection, &names(tables)).map_err(&failed)?;
        let mut found = Vec::new();
        for table in tables {
            let altered = |next: &'static str| {
                let (path, table) = (self.path.clone(), table.name.clone());
                Err(Cause::TargetAltered { path, table, next })
            };
            let stands = schemas.of(&table.name).iter().find(is_table);
            // One that was there before, empty, got all its rows behind the fence. One of another
            // definition may be another table.
            if stands.is_some() && !table.created && table.schema.iter().find(is_table) != stands {
                return altered("keep what you need of it, drop it by hand, and abort again");
            }
            match stands {
                Some(_) => found.push(table),
                None if fenced.contains(table.name.as_str()) => {
                    return altered("it was renamed: give it its name back, and abort again");
                }
                // Somebody dropped it, and our rows and triggers went with it.
                None => {}
            }
        }
        let down: Vec<&str> = found.iter().map(|table| table.name.as_str()).collect();
        fence::drop(connection, &down).map_err(&failed)?;
        // Tables may refer to those that were created before them.
        for table in found.iter().rev() {
            let remove = if table.created { "DROP TABLE" } else { "DELETE FROM" };
            let remove = format!("{remove} {}", quote(&table.name));
            connection.execute(&remove, []).map_err(&failed)?;
        }
        Ok(())
    }

    /// Leaves the database in the journal mode that the plan asks for, and returns a connection that
    /// can write it.
    pub(crate) fn settle(&self, wanted: JournalMode, found: &str) -> Result<Connection, Cause> {
        let connection = self.connect()?;
        self.set_mode(&connection, wanted, found)?;
        self.try_writing(&connection)?;
        Ok(connection)
    }

    /// Refuses a connection that can't write: SQLite opens a file that this user may only read for
    /// reading. Nothing is changed: what is written is rolled back.
    fn try_writing(&self, connection: &Connection) -> Result<(), Cause> {
        let write = || {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            let version: i64 = connection.query_one("PRAGMA user_version", [], |row| row.get(0))?;
            connection.pragma_update(None, "user_version", version)?;
            connection.execute_batch("ROLLBACK")
        };
        match write() {
            // Somebody writes it just now, so it can be written.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(()),
            written => written.map_err(engine("write", &self.path)),
        }
    }

    fn set_mode(
        &self,
        connection: &Connection,
        wanted: JournalMode,
        found: &str,
    ) -> Result<(), Cause> {
        let failed = engine("set the journal mode of", &self.path);
        let wanted = match wanted {
            JournalMode::Keep if found == "wal" => "wal",
            JournalMode::Delete => "delete",
            JournalMode::Wal => "wal",
            JournalMode::Keep => return Ok(()),
        };
        let now = connection::journal_mode(connection).map_err(&failed)?;
        if now != wanted {
            let set = connection::set_journal_mode(connection, &self.path, wanted)?;
            if set != wanted {
                tracing::warn!(
                    wanted,
                    set,
                    "the journal mode stays until no other connection is open"
                );
            }
        }
        Ok(())
    }

    fn advance(
        &self,
        plan: &str,
        run: Run,
        from: RecordStage,
        what: &'static str,
        change: impl FnOnce(&mut Record, &Connection) -> Result<(), Cause>,
    ) -> Result<(), StepError> {
        let mut connection = self.connect()?;
        transact(&mut connection, &self.path, what, |connection| {
            let found = self.record(connection, plan)?;
            if found.run() != run || found.stage != from {
                return Err(Cause::RecordChanged(self.path.clone()));
            }
            self.assert_schemas(connection, &found.tables)?;
            let mut changed = found.clone();
            change(&mut changed, connection)?;
            record::replace(connection, &self.path, &found, &changed)
        })
    }

    /// The record of `plan`, which must be there.
    pub(super) fn record(&self, connection: &Connection, plan: &str) -> Result<Record, Cause> {
        match record::read(connection, plan).map_err(|error| self.classify(&error))? {
            Row::Record(record) => Ok(*record),
            Row::None => Err(Cause::RecordChanged(self.path.clone())),
            Row::Unreadable(reason) => Err(self.no_database(reason)),
        }
    }

    /// Refuses tables and fences that are not as the last commit left them: `DROP TABLE` and `ALTER
    /// TABLE` pass triggers.
    pub(super) fn assert_schemas<'a>(
        &self,
        connection: &Connection,
        tables: impl IntoIterator<Item = &'a TableRecorded, IntoIter: Clone>,
    ) -> Result<(), Cause> {
        let mut tables = tables.into_iter();
        let schemas = Schemas::read(connection, names(tables.clone()))
            .map_err(engine("read the schema of", &self.path))?;
        match tables.find(|table| schemas.of(&table.name) != table.schema) {
            None => Ok(()),
            Some(table) => Err(Cause::TargetAltered {
                path: self.path.clone(),
                table: table.name.clone(),
                next: "put its definition and triggers back, or abort",
            }),
        }
    }
}

pub(super) fn names<'a>(tables: impl IntoIterator<Item = &'a TableRecorded>) -> Vec<&'a str> {
    tables.into_iter().map(|table| table.name.as_str()).collect()
}

/// Makes a table and nothing else; or why not, and then the transaction must come to nothing.
pub(super) fn define(connection: &Connection, path: &Path, table: &Table) -> Result<(), Cause> {
    let refused = |reason: String| Cause::Definition {
        path: path.to_owned(),
        table: table.name.clone(),
        reason,
    };
    match fence::make(connection, &table.create) {
        Ok(Some(made)) if made.table.eq_ignore_ascii_case(&table.name) => {
            match (made.entry.kind.as_str(), made.is_stored) {
                ("table", true) => Ok(()),
                ("table", false) => Err(refused("a virtual table can't be fenced".to_owned())),
                (kind, _) => Err(refused(format!("it makes a {kind}"))),
            }
        }
        Ok(_) => Err(refused("it makes something else".to_owned())),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// A database in memory with the tables and views of another, all of them empty: there a definition
/// can be tried. What needs a module or a function of somebody's own is not in it.
fn stand_in(connection: &Connection) -> rusqlite::Result<Connection> {
    let empty = Connection::open_in_memory()?;
    // A virtual table makes its shadows itself, and after a VACUUM they are listed before it.
    let mut schema = connection.prepare(
        "SELECT sql FROM sqlite_schema
         WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         ORDER BY sql NOT LIKE 'CREATE VIRTUAL TABLE %', rowid",
    )?;
    let mut definitions = schema.query([])?;
    while let Some(row) = definitions.next()? {
        if let Ok(sql) = row.get_ref(0)?.as_str() {
            let _ = empty.execute(sql, []);
        }
    }
    drop(definitions);
    drop(schema);
    Ok(empty)
}

/// What bears a name in a database: what kind of thing it is, by its name in lower case. A trigger's
/// name is in nobody's way.
pub(super) struct Standing(HashMap<String, String>);

impl Standing {
    pub(super) fn look(connection: &Connection) -> rusqlite::Result<Self> {
        // A virtual table and its shadows are tables here; SQLite's own list of tables is long in the
        // making, so it is made once.
        let mut kinds = connection.prepare(
            "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'index', 'view')
             UNION ALL
             SELECT name, type || ' table' FROM pragma_table_list
             WHERE schema = 'main' AND type IN ('virtual', 'shadow')",
        )?;
        let kinds = kinds.query_map([], |row| {
            let name: String = row.get(0)?;
            Ok((name.to_ascii_lowercase(), row.get(1)?))
        })?;
        kinds.collect::<rusqlite::Result<_>>().map(Self)
    }

    fn of(&self, name: &str) -> Option<&str> {
        self.0.get(&name.to_ascii_lowercase()).map(String::as_str)
    }
}

/// Why tables can't be used where they are, one cause each; and those that are absent.
pub(super) fn check_standing<'a>(
    connection: &Connection,
    path: &Path,
    plan: &str,
    tables: &'a [Table],
    standing: &Standing,
) -> Result<Vec<Result<&'a Table, Cause>>, Cause> {
    let failed = engine("look at the tables of", path);
    let claimed = claimed(connection, plan).map_err(&failed)?;
    let mut found = Vec::new();
    for table in tables {
        let name = table.name.as_str();
        let claim = claimed.get(&name.to_ascii_lowercase());
        let reason = match (claim, standing.of(name)) {
            (Some(other), _) => format!("the plan '{other}' has migrated into it"),
            (None, None) => {
                found.push(Ok(table));
                continue;
            }
            (None, Some(_)) if *table == quarantine_table(plan) => NOT_OURS.to_owned(),
            (None, Some("table")) => {
                if is_empty(connection, name).map_err(&failed)? {
                    continue;
                }
                "it is there already and holds rows".to_owned()
            }
            (None, Some(kind @ "index")) => format!("the name belongs to an {kind}"),
            (None, Some(kind)) => format!("the name belongs to a {kind}"),
        };
        found.push(Err(Cause::Table { path: path.to_owned(), table: name.to_owned(), reason }));
    }
    Ok(found)
}

/// The tables that other plans have migrated into, in lower case, each with its plan.
fn claimed(connection: &Connection, plan: &str) -> rusqlite::Result<HashMap<String, String>> {
    let mut claimed = HashMap::new();
    for other in record::plans(connection)?.into_iter().filter(|other| other != plan) {
        match record::read(connection, &other)? {
            Row::Record(record) => {
                let names = record.tables.iter().map(|table| table.name.to_ascii_lowercase());
                claimed.extend(names.map(|name| (name, other.clone())));
            }
            Row::None | Row::Unreadable(_) => {}
        }
    }
    Ok(claimed)
}

fn is_empty(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let empty = format!("SELECT NOT EXISTS (SELECT 1 FROM {})", quote(table));
    connection.query_one(&empty, [], |row| row.get(0))
}

/// Why tables can't be used, one cause each: a table must be absent, and its definition make it, or
/// empty and unclaimed. All definitions are tried in one stand-in, in their order: one may lean on
/// those before it.
fn check_tables(
    connection: &Connection,
    path: &Path,
    plan: &str,
    tables: &[Table],
) -> Result<(Vec<Cause>, Connection), Cause> {
    let failed = engine("look at the tables of", path);
    let standing = Standing::look(connection).map_err(&failed)?;
    let found = check_standing(connection, path, plan, tables, &standing)?;
    let stand_in = stand_in(connection).map_err(&failed)?;
    let tried = found.into_iter().filter_map(|found| match found {
        Ok(table) => index::or_nothing(&stand_in, || define(&stand_in, path, table)).err(),
        Err(cause) => Some(cause),
    });
    let mut causes: Vec<Cause> = tried.collect();
    causes.extend(check_indexes(path, tables, &standing));
    Ok((causes, stand_in))
}

/// Why indexes that are going to be made can't be, or have names that are taken.
pub(super) fn check_indexes(path: &Path, tables: &[Table], standing: &Standing) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (table, index) in index::try_out(tables) {
        // A table that is there gets no index.
        let is_there = standing.of(&table.name).is_some_and(|kind| kind.ends_with("table"));
        let error = match index {
            Err(error) => error,
            Ok(index) if !is_there && standing.of(&index.name).is_some() => {
                MappingError::Refused(format!("the name '{}' is taken", index.name))
            }
            Ok(_) => continue,
        };
        causes.push(index::refused(path, &table.name, error));
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::super::Draft;
    use super::*;
    use crate::protocol::Run;
    use std::fs;

    fn target(folder: &Path) -> Target {
        Target::new(&folder.join("d.sqlite")).unwrap()
    }

    fn made(folder: &Path, sql: &str) -> (Target, Connection) {
        let target = target(folder);
        let connection = Connection::open(&target.path).unwrap();
        connection.execute_batch(sql).unwrap();
        (target, connection)
    }

    #[test]
    fn a_journal_without_its_database_speaks_of_one_that_is_gone_unless_it_is_empty() {
        for suffix in ["-wal", "-journal"] {
            let folder = tempfile::tempdir().unwrap();
            let target = target(folder.path());
            assert!(matches!(target.look("p", Access::LookOnly), TargetLook::None));
            fs::write(target.beside(suffix), "").unwrap();
            assert!(matches!(target.look("p", Access::LookOnly), TargetLook::None));
            fs::write(target.beside(suffix), "pages").unwrap();
            assert!(matches!(target.look("p", Access::LookOnly), TargetLook::MainFileGone));
        }
    }

    /// In a folder that everybody shares, a user put an empty file there that everybody may write, and
    /// could read all that was migrated.
    #[test]
    fn a_target_that_a_stranger_put_there_is_refused_also_after_the_preflight() {
        let folder = tempfile::tempdir().unwrap();
        let (target, connection) = made(folder.path(), "CREATE TABLE t (x)");
        drop(connection);
        let owner = |uid| {
            let file = folder.path().join(format!("of-{uid}"));
            fs::write(&file, "").unwrap();
            std::os::unix::fs::chown(&file, Some(uid), None).expect("these tests need root");
            Owner::of_file(&file, &fs::metadata(&file).unwrap())
        };
        let users = || vec![owner(1998), owner(1997)];
        for (suffix, uid, is_refused) in [
            ("", 0, false),
            ("", 1997, false),
            ("", 1999, true),
            ("-journal", 1999, true),
            ("-wal", 1999, true),
        ] {
            let path = target.beside(suffix);
            let made = !path.exists();
            if made {
                fs::write(&path, "").unwrap();
            }
            std::os::unix::fs::chown(&path, Some(uid), None).unwrap();
            let checked = target.check_users(&users());
            assert_eq!(checked.is_err(), is_refused, "{suffix} {uid}: {checked:?}");
            let draft = Draft {
                plan: "p",
                run: Run { id: MigrationId(7), attempt: 2 },
                sources: Vec::new(),
                keyspaces: Vec::new(),
                time: "2026-01-01T00:00:00Z".to_owned(),
                owner: None,
                users: users(),
            };
            if is_refused {
                let begun = target.begin_copy(draft);
                let Err(StepError::Failed(Cause::TargetOfAnother { path: found, .. })) = begun
                else {
                    panic!("{begun:?}")
                };
                assert_eq!(found, path);
            }
            if made {
                fs::remove_file(&path).unwrap();
            } else {
                std::os::unix::fs::chown(&path, Some(0), None).unwrap();
            }
        }
        assert!(matches!(target.look("p", Access::LookOnly), TargetLook::NoRecord));
    }

    /// It would be read past a lock that somebody holds.
    #[test]
    fn a_look_under_the_lock_does_without_one_only_on_a_read_only_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let (target, other) = made(folder.path(), "CREATE TABLE t (x)");
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let look = target.look("p", Access::Locked);
        assert!(matches!(look, TargetLook::Unreachable(Cause::Engine { .. })), "{look:?}");
        assert!(matches!(target.look("p", Access::LookOnly), TargetLook::NoRecord));
    }

    #[test]
    fn what_is_no_file_and_a_record_that_is_damaged_are_unreadable() {
        let folder = tempfile::tempdir().unwrap();
        let target = target(folder.path());
        let _socket = std::os::unix::net::UnixListener::bind(&target.path).unwrap();
        assert!(matches!(target.look("p", Access::LookOnly), TargetLook::Unreadable(_)));
        let damaged =
            rusqlite::Error::InvalidColumnType(0, "x".into(), rusqlite::types::Type::Null);
        assert!(matches!(target.classify(&damaged), Cause::NotADatabase { .. }));
        let other = rusqlite::Error::QueryReturnedNoRows;
        assert!(matches!(target.classify(&other), Cause::Engine { .. }));
    }

    #[test]
    fn the_tables_that_hold_rows_are_told_and_those_of_other_plans_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let sql = "CREATE TABLE Full (x); INSERT INTO Full VALUES (1); CREATE TABLE none (x);
                   CREATE VIEW seen AS SELECT * FROM Full;
                   CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)";
        let (target, connection) = made(folder.path(), sql);
        let run = Run { id: MigrationId(7), attempt: 1 };
        let theirs = TableRecorded { name: "Theirs".into(), created: true, schema: Vec::new() };
        let time = "2026-01-01T00:00:00Z".to_owned();
        let (mode, none) = ("delete".to_owned(), Vec::new());
        let record = Record::new("q", run, none, Vec::new(), vec![theirs], mode, time);
        record::insert(&connection, &target.path, &record).unwrap();
        let names = ["full", "none", "seen", "theirs", "absent"];
        let tables = names.map(|name| Table::new(name, "")).to_vec();
        assert_eq!(target.filled("p", &tables).unwrap(), ["full"]);
        assert_eq!(target.filled("q", &tables).unwrap(), ["full", "theirs"]);
    }

    #[test]
    fn a_table_with_the_quarantine_s_name_is_refused_though_it_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let quarantine = quarantine_table("p");
        let (target, _connection) = made(folder.path(), &quarantine.create);
        let (refused, _) = target.check_tables("p", &[quarantine]).unwrap();
        assert!(matches!(&refused[..], [Cause::Table { reason, .. }] if reason == NOT_OURS));
    }

    #[test]
    fn the_journal_mode_is_what_the_plan_asks_for_or_was_before() {
        use JournalMode::{Delete, Keep, Wal};
        for (now, wanted, found, then) in [
            ("delete", Keep, "wal", "wal"),
            ("wal", Keep, "wal", "wal"),
            ("wal", Keep, "delete", "wal"),
            ("delete", Keep, "delete", "delete"),
            ("wal", Delete, "wal", "delete"),
            ("delete", Wal, "delete", "wal"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let (target, connection) = made(folder.path(), "CREATE TABLE t (x)");
            connection.pragma_update(None, "journal_mode", now).unwrap();
            drop(connection);
            let settled = target.settle(wanted, found).unwrap();
            let case = format!("{now} {wanted:?} {found}");
            assert_eq!(connection::journal_mode(&settled).unwrap(), then, "{case}");
        }
    }

    #[test]
    fn a_connection_that_can_t_write_is_refused_and_one_that_another_keeps_waiting_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (target, writer) = made(folder.path(), "CREATE TABLE t (x)");
        target.try_writing(&target.read_only().unwrap()).unwrap_err();
        let connection = target.connect().unwrap();
        connection.busy_timeout(std::time::Duration::ZERO).unwrap();
        target.try_writing(&connection).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        target.try_writing(&connection).unwrap();
    }

    #[test]
    fn i8_a_link_is_not_taken_for_a_database_that_was_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let (target, connection) = made(folder.path(), "CREATE TABLE cutover_record (id)");
        connection.execute_batch("INSERT INTO cutover_record VALUES ('7')").unwrap();
        assert!(is_given_up(&target.path, "7") && !is_given_up(&target.path, "8"));
        let link = target.beside("-link");
        std::os::unix::fs::symlink(&target.path, &link).unwrap();
        assert!(!is_given_up(&link, "7"));
    }
}
