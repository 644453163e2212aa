//! The copy's transactions: each drops the fence, writes a chunk and its cursor, and puts the fence
//! back, all or nothing (I-1, I-2).

use super::connection::{self, StepError, engine, transact};
use super::fence::{self, Schemas};
use super::target::{NOT_OURS, Standing, Target, check_indexes, check_standing, define};
use super::{index, record};
use crate::disk::owner::Owner;
use crate::error::{BEGUN_WITH_OR_ABORT, Cause};
use crate::mapping::{Keyspace, Rows, Table, quarantine_table};
use crate::protocol::record::{
    KeyspaceRecorded, Record, SchemaEntry, SourceRecorded, TableRecorded,
};
use crate::protocol::{MigrationId, RecordStage, Run};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::Path;

/// Large pages where the file is ours to create: a row of 1 KiB does not overflow them.
const PAGE_BYTES: u32 = 16 * 1024;

/// The page cache of a copy. Rows come in the order of their keys, so that a page is seldom needed
/// again once it is full; what a mapping of one's own writes elsewhere is what needs the room.
const CACHE_KIBIBYTES: i64 = 16 * 1024;

/// fjall takes no longer key.
const KEY_BYTES_MAX: usize = 65_536;

/// What a copy is going to write.
pub(crate) struct Draft<'a> {
    pub(crate) plan: &'a str,
    pub(crate) run: Run,
    pub(crate) sources: Vec<SourceRecorded>,
    pub(crate) keyspaces: Vec<DraftKeyspace>,
    pub(crate) time: String,
    /// Whose a new file is.
    pub(crate) owner: Option<Owner>,
    /// Each store's owner: to whom a target may belong that is there already.
    pub(crate) users: Vec<Owner>,
}

/// A keyspace and its tables.
pub(crate) struct DraftKeyspace {
    pub(crate) source: String,
    pub(crate) keyspace: String,
    pub(crate) mapping: String,
    pub(crate) tables: Vec<Table>,
}

/// Refuses keyspaces, each with its source's name, whose record would be too long: it is begun after
/// the seal. What is known only later is taken to be as long as it can get.
pub(crate) fn check_record<'a>(
    plan: &str,
    keyspaces: impl Iterator<Item = (&'a str, &'a Keyspace)>,
) -> Result<(), Cause> {
    let (mut recorded, mut tables) = (Vec::new(), Vec::new());
    for (source, keyspace) in keyspaces {
        let own = keyspace.mapping.tables();
        recorded.push(KeyspaceRecorded {
            source: source.to_owned(),
            keyspace: keyspace.name.clone(),
            mapping: keyspace.mapping.name().to_owned(),
            tables: own.iter().map(|table| table.name.clone()).collect(),
            // One of them at a time is between two chunks.
            cursor: recorded.is_empty().then(|| vec![0; KEY_BYTES_MAX]),
            done: false,
            pairs: u64::MAX,
            bytes: u64::MAX,
            digest: format!("{:032x}", 0),
            quarantined: u64::MAX,
        });
        tables.extend(own.into_iter().map(|table| {
            let made = [table.create].into_iter().chain(table.indexes);
            let made = made.map(|statement| SchemaEntry {
                kind: "table".to_owned(),
                name: table.name.clone(),
                sql: Some(statement),
            });
            let schema = made.chain(fence::triggers(plan, &table.name)).collect();
            TableRecorded { name: table.name, created: true, schema }
        }));
    }
    let run = Run { id: MigrationId(0), attempt: 0 };
    let record = Record::new(plan, run, Vec::new(), recorded, tables, String::new(), String::new());
    match record.encode() {
        Ok(_) => Ok(()),
        Err(error) => Err(Cause::Plan(format!("it names too much: {error}"))),
    }
}

/// A connection that copies.
#[derive(Debug)]
pub(crate) struct Copying {
    target: Target,
    connection: Connection,
    record: Record,
}

impl Target {
    /// Bytes of a page of the database; of one that does not exist yet, those that it will have.
    pub(crate) fn page_bytes(&self) -> Result<usize, Cause> {
        if self.is_new()? {
            return Ok(PAGE_BYTES as usize);
        }
        let connection = connection::open(&self.path)?;
        let bytes: u32 = connection
            .query_one("PRAGMA page_size", [], |row| row.get(0))
            .map_err(engine("look at the pages of", &self.path))?;
        Ok(bytes as usize)
    }

    fn is_new(&self) -> Result<bool, Cause> {
        Ok(crate::disk::metadata(&self.path)?.is_none_or(|metadata| metadata.len() == 0))
    }

    /// Creates the record, the tables that are missing, and the fence, in one transaction; durable
    /// when it returns, with the file's name. A file that is not there gets its name with all that in
    /// it and its owner, so that no file of ours ever stands there without the record that says so.
    pub(crate) fn begin_copy(&self, draft: Draft<'_>) -> Result<(), StepError> {
        if crate::disk::metadata(&self.path)?.is_some() {
            self.begin_in(&self.path, false, draft)?;
        } else {
            let unnamed = self.unnamed(draft.run.id);
            crate::disk::remove_file(&unnamed)?;
            let made = crate::disk::create(&unnamed, &[], draft.owner.as_ref())
                .map_err(StepError::from)
                .and_then(|_| self.begin_in(&unnamed, true, draft));
            if made.is_err() {
                let _ = crate::disk::remove_file(&unnamed);
            }
            made?;
            crate::disk::rename_new(&unnamed, &self.path).map_err(|cause| match cause {
                // I-8: somebody has put a file there, and ours has no name yet.
                Cause::Io { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
                    let _ = crate::disk::remove_file(&unnamed);
                    StepError::Failed(Cause::ChangedUnderneath(self.path.clone()))
                }
                unknown => StepError::Unknown(unknown),
            })?;
        }
        crate::disk::sync_folder(self.folder()).map_err(StepError::Unknown)
    }

    fn begin_in(&self, file: &Path, created: bool, draft: Draft<'_>) -> Result<(), StepError> {
        let what = "begin the copy in";
        let failed = engine(what, &self.path);
        let new = created || self.is_new()?;
        let mut connection = connection::open(file)?;
        if new {
            connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(&failed)?;
        }
        let journal_mode = connection::journal_mode(&connection).map_err(&failed)?;
        if created {
            // What a kill leaves of a file without a name is thrown away, and needs no journal.
            connection
                .query_one("PRAGMA journal_mode = MEMORY", [], |_| Ok(()))
                .map_err(&failed)?;
        }
        crate::fault::point("target opened").map_err(Cause::io(what, &self.path))?;
        transact(&mut connection, &self.path, what, |connection| {
            // Whoever can put a file there may have done so since the preflight.
            self.check_users(&draft.users)?;
            if record::read(connection, draft.plan).map_err(&failed)? != record::Row::None {
                return Err(Cause::RecordChanged(self.path.clone()));
            }
            let tables: Vec<Table> =
                draft.keyspaces.iter().flat_map(|k| k.tables.iter().cloned()).collect();
            let standing = Standing::look(connection).map_err(&failed)?;
            let found = check_standing(connection, &self.path, draft.plan, &tables, &standing)?;
            found.into_iter().try_for_each(|found| found.map(drop))?;
            if let Some(first) = check_indexes(&self.path, &tables, &standing).into_iter().next() {
                return Err(first);
            }
            let recorded = self.create(connection, draft.plan, &tables)?;
            let keyspaces = draft.keyspaces.into_iter().map(|k| KeyspaceRecorded {
                source: k.source,
                keyspace: k.keyspace,
                mapping: k.mapping,
                tables: k.tables.into_iter().map(|table| table.name).collect(),
                cursor: None,
                done: false,
                pairs: 0,
                bytes: 0,
                digest: format!("{:032x}", 0),
                quarantined: 0,
            });
            let mut record = Record::new(
                draft.plan,
                draft.run,
                draft.sources,
                keyspaces.collect(),
                recorded,
                journal_mode,
                draft.time,
            );
            record.created = created;
            record::insert(connection, &self.path, &record)
        })
    }

    /// Makes the tables that are missing, and puts fences around all of them.
    fn create(
        &self,
        connection: &Connection,
        plan: &str,
        tables: &[Table],
    ) -> Result<Vec<TableRecorded>, Cause> {
        let failed = engine("read the schema of", &self.path);
        let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
        let unusable = |table: &str, reason: &str| Cause::Table {
            path: self.path.clone(),
            table: table.to_owned(),
            reason: reason.to_owned(),
        };
        let before = Schemas::read(connection, names.iter().copied()).map_err(&failed)?;
        for table in tables {
            if before.of(&table.name).is_empty() {
                define(connection, &self.path, table)?;
            } else if *table == quarantine_table(plan) {
                return Err(unusable(&table.name, NOT_OURS));
            }
        }
        if let Some(table) = fence::fenced(connection, &names).map_err(&failed)?.first() {
            return Err(unusable(table, "a trigger that is there has the name of its fence's"));
        }
        fence::raise(connection, plan, &names).map_err(&failed)?;
        let after = Schemas::read(connection, names.iter().copied()).map_err(&failed)?;
        let recorded = tables.iter().map(|table| TableRecorded {
            name: table.name.clone(),
            created: before.of(&table.name).is_empty(),
            schema: after.of(&table.name).to_vec(),
        });
        Ok(recorded.collect())
    }

    /// Makes the indexes of a table that the migration has made and that has all its rows.
    fn make_indexes(
        &self,
        connection: &Connection,
        table: &mut TableRecorded,
        planned: &Table,
    ) -> Result<(), Cause> {
        for statement in planned.indexes.iter().filter(|_| table.created) {
            let made = index::create(connection, &table.name, statement)
                .map_err(|error| index::refused(&self.path, &table.name, error))?;
            table.schema.push(made);
        }
        // As SQLite lists it.
        table.schema.sort();
        Ok(())
    }

    /// Whether the tables that the migration made have just the indexes that `planned` asks for: the
    /// plan may have changed since they were made.
    pub(crate) fn check_made(&self, record: &Record, planned: &[Table]) -> Result<(), Cause> {
        let wanted = index::try_out(planned)
            .into_iter()
            .map(|(table, index)| {
                let refused = |error| index::refused(&self.path, &table.name, error);
                Ok((table, index.map_err(refused)?))
            })
            .collect::<Result<Vec<_>, Cause>>()?;
        let made = record.tables.iter().filter(|table| table.created);
        let made: HashMap<&str, &TableRecorded> =
            made.map(|table| (table.name.as_str(), table)).collect();
        let changed = |table: &TableRecorded| {
            let how =
                format!("table '{}' was given other indexes than the plan has now", table.name);
            Cause::PlanChanged { how, next: BEGUN_WITH_OR_ABORT }
        };
        for planned in planned {
            let Some(table) = made.get(planned.name.as_str()) else { continue };
            let own = table.schema.iter().filter(|e| e.kind == "index" && e.sql.is_some());
            if own.count() != planned.indexes.len() {
                return Err(changed(table));
            }
        }
        for (planned, index) in &wanted {
            let table = made.get(planned.name.as_str());
            if let Some(table) = table.filter(|table| !table.schema.contains(index)) {
                return Err(changed(table));
            }
        }
        Ok(())
    }

    /// Opens the target to go on with a copy.
    pub(crate) fn copying(&self, plan: &str, run: Run) -> Result<Copying, Cause> {
        let connection = connection::open(&self.path)?;
        let failed = engine("prepare", &self.path);
        // Before anything changes: a refusal must leave the mode as it was.
        let record = self.record(&connection, plan)?;
        if record.run() != run || record.stage != RecordStage::Copying {
            return Err(Cause::RecordChanged(self.path.clone()));
        }
        self.assert_schemas(&connection, &record.tables)?;
        // A rollback journal is faster for rows that are only added. Where another connection holds
        // the database in WAL, it stays there, which is as durable.
        connection::set_journal_mode(&connection, &self.path, "DELETE")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIBIBYTES).map_err(&failed)?;
        Ok(Copying { target: self.clone(), connection, record })
    }
}

impl Copying {
    /// The record as the last transaction left it.
    pub(crate) const fn record(&self) -> &Record {
        &self.record
    }

    /// The target's file.
    pub(crate) fn path(&self) -> &Path {
        &self.target.path
    }

    /// Copies one chunk of the keyspaces of `jobs`, each with its place in the record and its tables:
    /// `write` is given one after the other, sets its cursor and digest and, where it `quarantines`,
    /// may write that table too, and says whether the chunk goes on. After the last pair of a keyspace
    /// its indexes are made. Durable when it returns; after an error the connection is gone.
    pub(crate) fn chunk(
        self,
        jobs: &[(usize, Vec<Table>)],
        quarantines: bool,
        mut write: impl FnMut(&Rows<'_>, usize, &mut KeyspaceRecorded) -> Result<ControlFlow<()>, Cause>,
    ) -> Result<Self, StepError> {
        let what = "copy a chunk into";
        let Self { target, mut connection, record } = self;
        let failed = engine(what, &target.path);
        let gone = || Cause::RecordChanged(target.path.clone());
        let changed = transact(&mut connection, &target.path, what, |connection| {
            let mut changed = record.clone();
            let quarantine = quarantine_table(&record.plan);
            if quarantines && record.quarantine().is_none() {
                let tables = std::slice::from_ref(&quarantine);
                changed.tables.extend(target.create(connection, &record.plan, tables)?);
            }
            let mut own: BTreeSet<&str> =
                jobs.iter().flat_map(|(_, tables)| tables).map(|t| t.name.as_str()).collect();
            if quarantines {
                own.insert(&quarantine.name);
            }
            let mut tables: BTreeMap<String, &mut TableRecorded> = changed
                .tables
                .iter_mut()
                .filter(|table| own.contains(table.name.as_str()))
                .map(|table| (table.name.clone(), table))
                .collect();
            target.assert_schemas(connection, tables.values().map(|table| &**table))?;
            let names: Vec<&str> =
                own.into_iter().filter(|name| tables.contains_key(*name)).collect();
            fence::drop(connection, &names).map_err(&failed)?;
            let rows = Rows::new(connection);
            for (at, planned) in jobs {
                let keyspace = changed.keyspaces.get_mut(*at).ok_or_else(gone)?;
                let goes_on = write(&rows, *at, keyspace)?;
                if keyspace.done {
                    for planned in planned {
                        let table = tables.get_mut(&planned.name).ok_or_else(gone)?;
                        target.make_indexes(connection, table, planned)?;
                    }
                }
                if goes_on.is_break() {
                    break;
                }
            }
            fence::raise(connection, &record.plan, &names).map_err(&failed)?;
            target.assert_schemas(connection, tables.values().map(|table| &**table))?;
            record::replace(connection, &target.path, &record, &changed)?;
            Ok(changed)
        })?;
        Ok(Self { target, connection, record: changed })
    }
}
