//! The target: where it is, what it holds, and the transactions that are one step each.

use super::connection::{self, StepError, engine, transact};
use super::record::{self, Row};
use super::{fence, index};
use crate::copy::{MappingError, Table, quarantine_table, quote};
use crate::disk;
use crate::error::Cause;
use crate::plan::JournalMode;
use crate::protocol::record::{Record, SchemaEntry, TableRecorded};
use crate::protocol::{RecordStage, Run};
use rusqlite::ffi::ErrorCode;
use rusqlite::{Connection, OptionalExtension};
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

/// How a look may touch the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// As any connection does: an interrupted transaction is rolled back.
    Locked,
    /// Nothing on disk is changed or created.
    LookOnly,
}

/// Why a table of our own can't be made.
pub(super) const NOT_OURS: &str = "it is there already, and this migration did not make it";

impl Target {
    /// The target at `path`. Neither it nor its folder need exist.
    pub(crate) fn new(path: &Path) -> Result<Self, Cause> {
        let path = match disk::resolve(path) {
            // Its volume may not be mounted: a look finds that out.
            Err(Cause::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
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
            Ok((row, fence::count_objects(connection)?))
        };
        let read = |connection: &Connection| read(connection).map_err(|e| self.classify(&e));
        let row = match access {
            Access::Locked => self.connect().and_then(|connection| read(&connection)),
            Access::LookOnly => self.look_only(&read),
        };
        match row {
            Ok((Row::None, 0)) => TargetLook::None,
            Ok((Row::None, _)) => TargetLook::NoRecord,
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
                Err(self.no_database("it is no regular file".to_owned()))
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
                next: "end what keeps it busy, or look at the disk, and run this again",
            },
        }
    }

    fn connect(&self) -> Result<Connection, Cause> {
        connection::open(&self.path, false)
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

    /// Why tables that the plan writes can't be used: each must be absent, or empty, unclaimed and
    /// usable.
    pub(crate) fn check_tables(&self, plan: &str, tables: &[Table]) -> Result<Vec<Cause>, Cause> {
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
            let mut filled = Vec::new();
            for Table { name, .. } in tables {
                let others = claimed.iter().any(|(table, _)| table.eq_ignore_ascii_case(name));
                if !others
                    && standing(connection, name).map_err(&failed)?.as_deref() == Some("table")
                    && !is_empty(connection, name).map_err(&failed)?
                {
                    filled.push(name.clone());
                }
            }
            Ok(filled)
        };
        Ok(self.peek(&read)?.unwrap_or_default())
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
            for table in &mut record.tables {
                fence::drop(connection, &table.name).map_err(&failed)?;
                table.schema = fence::schema(connection, &table.name).map_err(&failed)?;
            }
            record.stage = RecordStage::Live;
            record.times.live = Some(time);
            Ok(())
        })
    }

    /// Removes what the record says that the migration created, and the record; durable when it
    /// returns.
    pub(crate) fn drop_record(&self, plan: &str, run: Run) -> Result<(), StepError> {
        let mut connection = self.connect()?;
        let what = "remove the migration's tables from";
        let failed = engine(what, &self.path);
        // I-8: before the record goes, which alone knows the mode that was found.
        let found = self.record(&connection, plan)?;
        self.set_mode(&connection, JournalMode::Keep, &found.journal_mode)?;
        // I-8: `DROP TABLE` deletes first where keys are enforced, so rows of other tables that refer
        // to ours would go with it, or forbid it.
        connection.pragma_update(None, "foreign_keys", false).map_err(&failed)?;
        transact(&mut connection, &self.path, what, |connection| {
            let record = self.record(connection, plan)?;
            if record.run() != run || record.stage == RecordStage::Live {
                return Err(Cause::RecordChanged(self.path.clone()));
            }
            // Tables may refer to those that were created before them.
            for table in record.tables.iter().rev() {
                self.remove_table(connection, table)?;
            }
            record::remove(connection, &self.path, &record)
        })?;
        if fence::count_objects(&connection).map_err(&failed)? == 0 {
            // Gives the space back; nothing depends on it.
            if let Err(error) = connection.execute_batch("VACUUM") {
                tracing::warn!(%error, "the emptied target was not made smaller");
            }
            crate::fault::point("target made smaller")
                .map_err(|error| StepError::Unknown(Cause::io(what, &self.path)(error)))?;
        }
        Ok(())
    }

    fn remove_table(&self, connection: &Connection, table: &TableRecorded) -> Result<(), Cause> {
        let failed = engine("remove the migration's tables from", &self.path);
        let altered = |next: &'static str| {
            let (path, table) = (self.path.clone(), table.name.clone());
            Err(Cause::TargetAltered { path, table, next })
        };
        let is_table = |entry: &&SchemaEntry| entry.kind == "table";
        let schema = fence::schema(connection, &table.name).map_err(&failed)?;
        let Some(found) = schema.iter().find(is_table) else {
            return if fence::stands(connection, &table.name).map_err(&failed)? {
                altered("it was renamed: give it its name back, and abort again")
            } else {
                // Somebody dropped it, and our rows and triggers went with it.
                Ok(())
            };
        };
        if table.created {
            connection
                .execute(&format!("DROP TABLE {}", quote(&table.name)), [])
                .map_err(&failed)?;
            return Ok(());
        }
        // It was there before, empty; all its rows arrived behind the fence. One of another
        // definition may be another table.
        if table.schema.iter().find(is_table) != Some(found) {
            return altered("keep what you need of it, drop it by hand, and abort again");
        }
        fence::drop(connection, &table.name).map_err(&failed)?;
        connection.execute(&format!("DELETE FROM {}", quote(&table.name)), []).map_err(&failed)?;
        Ok(())
    }

    /// Leaves the database in the journal mode that the plan asks for.
    pub(crate) fn settle(&self, wanted: JournalMode, found: &str) -> Result<Connection, Cause> {
        let connection = self.connect()?;
        self.set_mode(&connection, wanted, found)?;
        Ok(connection)
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
            found.tables.iter().try_for_each(|table| self.assert_schema(connection, table))?;
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

    /// Refuses a table or fence that is not as the last commit left it: `DROP TABLE` and `ALTER
    /// TABLE` pass triggers.
    pub(super) fn assert_schema(
        &self,
        connection: &Connection,
        table: &TableRecorded,
    ) -> Result<(), Cause> {
        let schema = fence::schema(connection, &table.name)
            .map_err(engine("read the schema of", &self.path))?;
        if schema == table.schema {
            return Ok(());
        }
        Err(Cause::TargetAltered {
            path: self.path.clone(),
            table: table.name.clone(),
            next: "put its definition and triggers back, or abort",
        })
    }
}

/// Makes a table and nothing else; or why not, and then the transaction must come to nothing.
pub(super) fn define(connection: &Connection, path: &Path, table: &Table) -> Result<(), Cause> {
    let refused = |reason: String| Cause::Definition {
        path: path.to_owned(),
        table: table.name.clone(),
        reason,
    };
    let made = || -> rusqlite::Result<bool> {
        let before = fence::count_objects(connection)?;
        connection.execute(&table.create, [])?;
        let made = fence::schema(connection, &table.name)?;
        Ok(!made.is_empty() && fence::count_objects(connection)? == before + 1)
    };
    match made() {
        Ok(true) => Ok(()),
        Ok(false) => Err(refused("it makes something else".to_owned())),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// A database in memory with the tables and views of another, all of them empty: there a definition
/// can be tried. What needs a module or a function of somebody's own is not in it.
fn stand_in(connection: &Connection) -> rusqlite::Result<Connection> {
    let empty = Connection::open_in_memory()?;
    // A virtual table makes its shadows itself, and behind a VACUUM they are listed before it.
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

/// Why tables can't be used, one cause each: a table must be absent, and its definition make it, or
/// empty and unclaimed. All definitions are tried in one stand-in, in their order: one may lean on
/// those before it.
pub(super) fn check_tables(
    connection: &Connection,
    path: &Path,
    plan: &str,
    tables: &[Table],
) -> Result<Vec<Cause>, Cause> {
    let failed = engine("look at the tables of", path);
    let claimed = claimed(connection, plan).map_err(&failed)?;
    let stand_in = stand_in(connection).map_err(&failed)?;
    let mut causes = Vec::new();
    for table in tables {
        let name = table.name.as_str();
        let claim = claimed.iter().find(|(claimed, _)| claimed.eq_ignore_ascii_case(name));
        let reason = match (claim, standing(connection, name).map_err(&failed)?.as_deref()) {
            (Some((_, other)), _) => format!("the plan '{other}' has migrated into it"),
            (None, None) => {
                let made = index::or_nothing(&stand_in, || define(&stand_in, path, table));
                causes.extend(made.err());
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
        causes.push(Cause::Table { path: path.to_owned(), table: name.to_owned(), reason });
    }
    causes.extend(check_indexes(connection, path, tables)?);
    Ok(causes)
}

/// The tables that other plans have migrated into, each with its plan.
fn claimed(connection: &Connection, plan: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let mut claimed = Vec::new();
    for other in record::plans(connection)?.into_iter().filter(|other| other != plan) {
        match record::read(connection, &other)? {
            Row::Record(record) => {
                claimed.extend(record.tables.into_iter().map(|table| (table.name, other.clone())));
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

/// What kind of thing has the name, if any has: a trigger's name is in nobody's way.
fn standing(connection: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    // A virtual table and its shadows are tables here.
    let kind = "SELECT coalesce(
             (SELECT type || ' table' FROM pragma_table_list
              WHERE schema = 'main' AND name = s.name AND type IN ('virtual', 'shadow')),
             type)
         FROM sqlite_schema AS s
         WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'index', 'view')";
    connection.query_row(kind, [name], |row| row.get(0)).optional()
}

/// Why indexes that are going to be made can't be, or have names that are taken.
fn check_indexes(
    connection: &Connection,
    path: &Path,
    tables: &[Table],
) -> Result<Vec<Cause>, Cause> {
    let failed = engine("look at the tables of", path);
    let mut causes = Vec::new();
    for (table, index) in index::try_out(tables) {
        let name = match index {
            Ok(index) => index.name,
            Err(error) => {
                causes.push(index::refused(path, &table.name, error));
                continue;
            }
        };
        // A table that is there gets no index.
        let taken: bool = connection
            .query_one(
                "SELECT EXISTS (SELECT 1 FROM sqlite_schema
                     WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'index', 'view'))
                 AND NOT EXISTS (SELECT 1 FROM sqlite_schema
                     WHERE name = ?2 COLLATE NOCASE AND type = 'table')",
                [&name, &table.name],
                |row| row.get(0),
            )
            .map_err(&failed)?;
        if taken {
            let error = MappingError::Refused(format!("the name '{name}' is taken"));
            causes.push(index::refused(path, &table.name, error));
        }
    }
    Ok(causes)
}
