//! Targets that can't be used, and targets that somebody changed.

use super::*;
use crate::common::SOURCES;
use cutover::{Mapping, MappingError, Rows, Table, Visit};

#[test]
fn a_target_that_is_no_database_is_refused() {
    let words = "give the path of one, or of a file that does not exist yet";
    let no_database = |c: &Cause| matches!(c, Cause::NotADatabase { .. });
    let daemon = Daemon::fresh();
    let target = daemon.at("target.sqlite");
    fs::create_dir(&target).expect("creates");
    refused(daemon.path(), &daemon.plan(), no_database, &["it is a folder", words]);
    fs::remove_dir(&target).expect("removes");
    for text in ["short", &"a long letter ".repeat(1000)] {
        fs::write(&target, text).expect("writes");
        refused(
            daemon.path(),
            &daemon.plan(),
            no_database,
            &["target.sqlite is not an SQLite database", words],
        );
    }
    fs::remove_file(&target).expect("removes");
    sqlite(&target, "CREATE TABLE cutover_record (x)");
    let words = ["its table cutover_record is not cutover's own", words];
    refused(daemon.path(), &daemon.plan(), no_database, &words);
}

#[test]
fn a_target_that_was_overwritten_is_unreadable_and_not_taken_for_one_that_is_busy() {
    for daemon in [Daemon::copying(), Daemon::committed(), Daemon::live()] {
        fs::write(daemon.at("target.sqlite"), "dear reader").expect("writes");
        let words = ["can't be read as their SQL database", "restore", "from a backup"];
        contradicted(daemon.path(), &daemon.plan(), Contradiction::TargetUnreadable, &words);
    }
}

#[test]
fn a_table_that_the_plan_would_write_must_be_empty_and_a_table() {
    for (before, words) in [
        (
            "CREATE TABLE accounts_first (key, value); INSERT INTO accounts_first VALUES (1, 2)",
            "it is there already and holds rows",
        ),
        ("CREATE VIEW Accounts_First AS SELECT 1", "the name belongs to a view"),
        (
            "CREATE TABLE t (x); CREATE INDEX accounts_first ON t (x)",
            "the name belongs to an index",
        ),
        (
            "CREATE VIRTUAL TABLE accounts_first USING fts5(key)",
            "the name belongs to a virtual table",
        ),
    ] {
        let daemon = Daemon::fresh();
        daemon.sqlite(before);
        refused(
            daemon.path(),
            &daemon.plan(),
            |c| matches!(c, Cause::Table { .. }),
            &["table 'accounts_first' in", words, "give the keyspace another table"],
        );
    }
}

/// Blobs in a table of one's own definition.
struct Defined(&'static str);

impl Mapping for Defined {
    fn name(&self) -> &'static str {
        "defined"
    }
    fn tables(&self) -> Vec<Table> {
        vec![Table::new("t", self.0)]
    }
    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        rows.execute("INSERT INTO t VALUES (?1, ?2)", (key, value)).map(drop)
    }
    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        rows.query_each("SELECT * FROM t", [], |row| {
            visit(&row.get::<_, Vec<u8>>(0)?, &row.get::<_, Vec<u8>>(1)?)
        })
    }
}

#[test]
fn a_table_s_definition_is_tried_before_anything_is_changed() {
    let something_else = "it makes something else; fix the mapping's CREATE TABLE";
    for (create, words) in [
        ("CREATE TABLE t (key, key)", "from its definition: duplicate column name: key"),
        ("CREATE TABLE t (key,, value)", "from its definition: near"),
        ("CREATE TABLE t AS SELECT * FROM nowhere", "no such table: nowhere"),
        ("CREATE TABLE IF NOT EXISTS old (key, value)", something_else),
        ("CREATE TABLE other (key, value)", something_else),
        ("CREATE VIEW v AS SELECT 1", something_else),
        ("CREATE TEMP TABLE t (key, value)", something_else),
    ] {
        // A target that is there, and one that is not.
        for before in ["CREATE TABLE old (key, value)", ""] {
            let daemon = Daemon::fresh();
            if !before.is_empty() {
                daemon.sqlite(before);
            }
            let plan = defined(&daemon, create);
            let is_definition = |c: &Cause| matches!(c, Cause::Definition { .. });
            refused(daemon.path(), &plan, is_definition, &["table 't' in", words]);
        }
    }
    // It may lean on what the target holds. Behind a VACUUM a virtual table's shadows are listed first.
    for create in [
        "CREATE TABLE t AS SELECT * FROM shown",
        "CREATE TABLE t AS SELECT text AS key, text AS value FROM notes WHERE 0",
    ] {
        let daemon = Daemon::fresh();
        daemon.sqlite(
            "CREATE TABLE old (key, value); CREATE VIEW shown AS SELECT * FROM old;
             CREATE VIRTUAL TABLE notes USING fts5(text); VACUUM",
        );
        let plan = defined(&daemon, create);
        plan.rehearse(&mut ()).expect(create);
        drop(cutover::sql(&plan, &mut ()).expect(create));
    }
}

/// One refusal each: a table that leans on one before it is none, nor is one behind a definition that
/// makes something else.
#[test]
fn every_table_that_is_refused_is_told_once_and_no_other() {
    let daemon = Daemon::fresh();
    daemon.sqlite("CREATE TABLE held (x); INSERT INTO held VALUES (1)");
    let tables = [
        ("held", "CREATE TABLE held (x)"),
        ("first", "CREATE TABLE first (x)"),
        ("behind", "CREATE TABLE behind AS SELECT * FROM first"),
        ("wrong", "CREATE TABLE free (x)"),
        ("free", "CREATE TABLE free (x)"),
        ("twice", "CREATE TABLE twice (x, x)"),
    ];
    let tables = tables.map(|(name, create)| Table::new(name, create));
    let plan = Plan::builder("small").source("accounts", daemon.at("accounts"), |s| {
        s.table("first", Several(tables.to_vec())).leave_out("second")
    });
    let plan = plan.target(daemon.at("target.sqlite")).build().expect("a plan");
    let found = cutover::preview(&plan, &mut ()).expect("a preview").refused;
    let told = |text: &String| text.split('\'').nth(1).expect("a name").to_owned();
    assert_eq!(found.iter().map(told).collect::<Vec<_>>(), ["held", "wrong", "twice"], "{found:?}");
    // What begins tells the first.
    let is_table = |c: &Cause| matches!(c, Cause::Table { .. });
    refused(daemon.path(), &plan, is_table, &["table 'held' in", "it is there already"]);
}

/// Tables that nothing is written into.
struct Several(Vec<Table>);

impl Mapping for Several {
    fn name(&self) -> &'static str {
        "several"
    }
    fn tables(&self) -> Vec<Table> {
        self.0.clone()
    }
    fn write(&self, _: &Rows<'_>, _: &[u8], _: &[u8]) -> Result<(), MappingError> {
        Ok(())
    }
    fn read_back(&self, _: &Rows<'_>, _: &mut Visit<'_>) -> Result<(), MappingError> {
        Ok(())
    }
}

fn defined(daemon: &Daemon, create: &'static str) -> Plan {
    let plan = Plan::builder("small").source("accounts", daemon.at("accounts"), |s| {
        s.table("first", Defined(create)).leave_out("second")
    });
    plan.target(daemon.at("target.sqlite")).build().expect("a plan")
}

#[test]
fn a_shadow_table_is_refused_and_a_trigger_s_name_is_in_nobody_s_way() {
    let daemon = Daemon::fresh();
    daemon.sqlite(
        "CREATE TABLE t (x); CREATE VIRTUAL TABLE notes USING fts5(text);
         CREATE TRIGGER accounts_first AFTER INSERT ON t BEGIN SELECT 1; END",
    );
    let plan = |table: &str| {
        Plan::builder("small")
            .source("accounts", daemon.at("accounts"), |s| {
                s.table("second", cutover::Blobs::new(table)).every_keyspace()
            })
            .target(daemon.at("target.sqlite"))
            .build()
            .expect("a plan")
    };
    refused(
        daemon.path(),
        &plan("NOTES_docsize"),
        |c| matches!(c, Cause::Table { .. }),
        &["table 'NOTES_docsize' in", "the name belongs to a shadow table"],
    );
    drop(cutover::sql(&plan("own"), &mut ()).expect("SQL"));
    let target = daemon.at("target.sqlite");
    assert_eq!(crate::common::read_table(&target, "accounts_first").len(), 20);
}

/// What a plain connection sees of the schema and the records.
fn dump(target: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open(target).expect("opens");
    let query =
        "SELECT coalesce(sql, name) FROM sqlite_schema UNION ALL SELECT body FROM cutover_record";
    let mut statement = connection.prepare(query).expect("a query");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.collect::<Result<_, _>>().expect("reads")
}

#[test]
fn a_fence_or_a_table_that_somebody_changed_stops_the_migration() {
    for change in [
        "DROP TRIGGER cutover_fence_update_sessions_second",
        "ALTER TABLE sessions_second ADD COLUMN more BLOB",
        "CREATE INDEX more ON sessions_second (value)",
        "DROP TABLE sessions_second",
    ] {
        for (daemon, part_way) in [(Daemon::copying(), false), (Daemon::committed(), true)] {
            let target = daemon.at("target.sqlite");
            daemon.sqlite(change);
            let before = dump(&target);
            let error = cutover::sql(&daemon.plan(), &mut ()).expect_err("it is stopped");
            // Past the commit point the tombstones were set before it showed.
            match &error {
                Error::Refused(Cause::TargetAltered { .. }) => assert!(!part_way),
                Error::Interrupted { step: "go live", cause: Cause::TargetAltered { .. } } => {
                    assert!(part_way);
                }
                other => panic!("{other:?}"),
            }
            says(&error, &["table 'sessions_second' in", "put its definition and triggers back"]);
            assert_eq!(dump(&target), before);
            for name in SOURCES {
                assert!(!crate::child::stock_fjall_writes(&daemon.at(name)));
            }
        }
    }
}

#[test]
fn a_copy_that_is_refused_for_a_changed_table_leaves_the_journal_mode_as_it_is() {
    let daemon = Daemon::copying();
    daemon.sqlite("CREATE INDEX more ON sessions_second (value); PRAGMA journal_mode = WAL");
    let failed = migrating_handle(&daemon.plan()).run(&mut ()).expect_err("it is refused");
    assert!(matches!(failed.error, Error::Refused(Cause::TargetAltered { .. })), "{failed}");
    let connection = rusqlite::Connection::open(daemon.at("target.sqlite")).expect("opens");
    let mode: String =
        connection.query_one("PRAGMA journal_mode", [], |row| row.get(0)).expect("a mode");
    assert_eq!(mode, "wal");
}

/// One table that was there before, and that somebody dropped during the copy, once made both going
/// on and going back impossible.
#[test]
fn an_abort_gets_past_a_table_that_was_there_before_and_was_dropped_or_lost_its_fence() {
    let table = "CREATE TABLE sessions_second (key BLOB PRIMARY KEY, value BLOB NOT NULL)";
    for (change, rows) in [
        ("DROP TABLE sessions_second", None),
        ("DROP TABLE sessions_second; CREATE VIEW sessions_second AS SELECT 1", Some(1)),
        ("DROP TRIGGER cutover_fence_update_sessions_second", Some(0)),
        ("CREATE INDEX more ON sessions_second (value)", Some(0)),
    ] {
        let daemon = Daemon::fresh();
        daemon.sqlite(table);
        fresh_handle(&daemon.plan()).begin().expect("begins");
        daemon.copy_some_chunks();
        daemon.sqlite(change);
        drop(migrating_handle(&daemon.plan()).abort().expect(change));
        let connection = rusqlite::Connection::open(daemon.at("target.sqlite")).expect("opens");
        let query = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).ok();
        assert_eq!(query("SELECT count(*) FROM sessions_second"), rows, "{change}");
        let left = query("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'cutover%'");
        assert_eq!(left, Some(0), "{change}");
    }
}

#[test]
fn an_abort_leaves_a_table_of_another_definition_to_its_owner_and_says_so() {
    let daemon = Daemon::fresh();
    daemon.sqlite("CREATE TABLE sessions_second (key BLOB PRIMARY KEY, value BLOB NOT NULL)");
    fresh_handle(&daemon.plan()).begin().expect("begins");
    daemon.copy_some_chunks();
    for (change, back, words) in [
        (
            "ALTER TABLE sessions_second RENAME TO mine",
            "ALTER TABLE mine RENAME TO sessions_second",
            "give it its name back, and abort again",
        ),
        (
            "ALTER TABLE sessions_second ADD COLUMN more BLOB",
            "",
            "drop it by hand, and abort again",
        ),
    ] {
        daemon.sqlite(change);
        let before = dump(&daemon.at("target.sqlite"));
        let failed = migrating_handle(&daemon.plan()).abort().expect_err(change);
        says(&failed.error, &["table 'sessions_second' in", words]);
        drop(failed);
        assert_eq!(dump(&daemon.at("target.sqlite")), before);
        daemon.sqlite(back);
    }
    daemon.sqlite("DROP TABLE sessions_second");
    drop(migrating_handle(&daemon.plan()).abort().expect("as it was told"));
}

#[test]
fn a_plan_that_changed_since_the_copy_began_is_refused() {
    let daemon = Daemon::copying();
    let plan = Plan::builder("small")
        .source("accounts", daemon.at("accounts"), |s| s.every_keyspace())
        .source("sessions", daemon.at("sessions"), |s| {
            s.table("first", cutover::Blobs::new("elsewhere")).every_keyspace()
        })
        .target(daemon.at("target.sqlite"))
        .build()
        .expect("a plan");
    let error = cutover::sql(&plan, &mut ()).expect_err("it is refused");
    assert!(matches!(&error, Error::Refused(Cause::PlanChanged { .. })), "{error:?}");
    says(&error, &["sessions/first as blobs into sessions_first", "or abort first"]);
    cutover::sql(&daemon.plan(), &mut ()).expect("the plan that it was begun with goes on");
}
