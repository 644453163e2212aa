//! A user's own mapping, and pairs that it refuses.

use crate::common::{Pairs, write_store};
use crate::daemon::{StopAfter, fresh_handle, migrating_handle};
use cutover::{
    Cause, Error, Found, Mapping, MappingError, Observer, Plan, Rows, Sizes, Table, Visit,
};
use std::path::Path;

/// An account: its number is the key, its name the value.
struct Accounts;

/// A session names its account; what it holds goes, line by line, into a table of its own.
struct Sessions {
    /// The account of those sessions whose own is unknown.
    fallback: Option<&'static str>,
}

fn text(bytes: &[u8]) -> Result<&str, MappingError> {
    std::str::from_utf8(bytes).map_err(|error| MappingError::Refused(error.to_string()))
}

fn table(name: &str, columns: &str) -> Table {
    Table::new(name, format!("CREATE TABLE {name} ({columns}) STRICT"))
}

impl Mapping for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn tables(&self) -> Vec<Table> {
        vec![table("account", "id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE")]
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        let id: [u8; 4] =
            key.try_into().map_err(|_| MappingError::Refused("no account number".into()))?;
        let row = (u32::from_be_bytes(id), text(value)?);
        rows.execute("INSERT INTO account (id, name) VALUES (?1, ?2)", row).map(drop)
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        rows.query_each("SELECT id, name FROM account", [], |row| {
            let (id, name): (u32, String) = (row.get(0)?, row.get(1)?);
            visit(&id.to_be_bytes(), name.as_bytes())
        })
    }
}

impl Mapping for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn tables(&self) -> Vec<Table> {
        vec![
            table(
                "session",
                "token BLOB PRIMARY KEY, account INTEGER NOT NULL REFERENCES account (id), named TEXT NOT NULL",
            ),
            table(
                "line",
                "token BLOB NOT NULL, at INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (token, at)",
            ),
        ]
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        let mut lines = text(value)?.split('\n');
        let name = lines.next().unwrap_or_default();
        let find = |name: &str| {
            rows.query_one("SELECT id FROM account WHERE name = ?1", [name], |row| {
                row.get::<_, u32>(0)
            })
        };
        let account = match (find(name)?, self.fallback) {
            (Some(account), _) => Some(account),
            (None, Some(fallback)) => find(fallback)?,
            (None, None) => None,
        };
        let account = account
            .ok_or_else(|| MappingError::Refused(format!("no account is named '{name}'")))?;
        rows.execute("INSERT INTO session VALUES (?1, ?2, ?3)", (key, account, name))?;
        for (at, line) in (0_i64..).zip(lines) {
            rows.execute("INSERT INTO line VALUES (?1, ?2, ?3)", (key, at, line))?;
        }
        Ok(())
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        rows.query_each("SELECT token, named FROM session", [], |row| {
            let (token, mut value): (Vec<u8>, String) = (row.get(0)?, row.get(1)?);
            rows.query_each(
                "SELECT text FROM line WHERE token = ?1 ORDER BY at",
                [&token],
                |row| {
                    value += "\n";
                    value += &row.get::<_, String>(0)?;
                    Ok(())
                },
            )?;
            visit(&token, value.as_bytes())
        })
    }
}

const NAMES: [&str; 3] = ["ada", "bob", "eve"];

/// Accounts, and sessions of them; session 30 is of `thirtieth`.
fn stores(folder: &Path, thirtieth: &str) {
    let accounts = (0_u32..).zip(NAMES).map(|(i, n)| (i.to_be_bytes().to_vec(), n.into()));
    write_store(&folder.join("accounts"), &Pairs::from([("a".into(), accounts.collect())]));
    let sessions = (0..40_u8).map(|i| {
        let name = if i == 30 { thirtieth } else { NAMES[usize::from(i) % 3] };
        (vec![0xee, i], format!("{name}\nfirst {i}\n\nlast").into_bytes())
    });
    write_store(&folder.join("sessions"), &Pairs::from([("s".into(), sessions.collect())]));
}

fn plan(folder: &Path, fallback: Option<&'static str>) -> Plan {
    Plan::builder("own")
        .source("accounts", folder.join("accounts"), |s| s.table("a", Accounts))
        .source("sessions", folder.join("sessions"), |s| s.table("s", Sessions { fallback }))
        .target(folder.join("target.sqlite"))
        .chunk_bytes(100)
        .build()
        .expect("a plan")
}

#[test]
fn a_mapping_of_one_s_own_fills_two_tables_and_looks_up_rows_of_an_earlier_source() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path(), "eve");
    let connection = cutover::sql(&plan(folder.path(), None), &mut ()).expect("SQL");
    let found: (i64, i64) = connection
        .query_one(
            "SELECT count(DISTINCT token), count(*) FROM session JOIN line USING (token)
             JOIN account ON account.id = session.account AND account.name = session.named",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("joins");
    assert_eq!(found, (40, 120));
    drop(connection);
    let Found::Tombstoned(mut handle) = cutover::open(&plan(folder.path(), None)).expect("opens")
    else {
        panic!("not live")
    };
    crate::daemon::is_whole(&mut handle, &mut ());
}

fn names_the_pair(error: &Error) {
    let text = error.to_string();
    for word in ["key ee1e", "keyspace 's'", "source 'sessions'", "no account is named 'nobody'"] {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
}

/// A resumed run that copies some chunks and then meets the pair was once told as refused, with
/// nothing changed.
#[test]
fn a_pair_that_a_mapping_refuses_stops_the_run_and_the_next_run_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path(), "nobody");
    let refusing = plan(folder.path(), None);
    let run = |observer: &mut dyn Observer| {
        migrating_handle(&refusing).run(observer).expect_err("it stops")
    };
    drop(fresh_handle(&refusing).begin().expect("begins"));
    run(&mut StopAfter { chunks: 2 });

    let failed = run(&mut ());
    let Error::Interrupted { step: "copy", cause: Cause::PairRefused { .. } } = &failed.error
    else {
        panic!("some chunks were copied: {:?}", failed.error)
    };
    names_the_pair(&failed.error);

    let failed = run(&mut ());
    let Error::Refused(Cause::PairRefused { .. }) = &failed.error else {
        panic!("nothing more was copied: {:?}", failed.error)
    };
    names_the_pair(&failed.error);
    assert!(failed.handle.is_some_and(|handle| handle.abort().is_ok()), "the handle is of use");

    let connection =
        cutover::sql(&plan(folder.path(), Some("bob")), &mut ()).expect("the mapping is fixed");
    let of_bob: i64 = connection
        .query_one("SELECT count(*) FROM session WHERE account = 1", [], |row| row.get(0))
        .expect("counts");
    assert_eq!(of_bob, 13 + 1);
}

/// It was once told as a failure of SQLite, with the advice to look at the disk.
#[test]
fn a_statement_that_sqlite_can_not_compile_is_the_mapping_s_fault_and_not_the_disk_s() {
    /// Has a statement that names no column of its table, or hands it too much.
    struct Mistyped(&'static str);
    impl Mapping for Mistyped {
        fn name(&self) -> &'static str {
            "mistyped"
        }
        fn tables(&self) -> Vec<Table> {
            Accounts.tables()
        }
        fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
            rows.execute(self.0, (key, value)).map(drop)
        }
        fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
            Accounts.read_back(rows, visit)
        }
    }
    for (statement, reason) in [
        ("INSERT INTO account (key, name) VALUES (?1, ?2)", "has no column named key"),
        ("INSERT INTO account (name) VALUES (?1)", "parameter"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        stores(folder.path(), "eve");
        let plan = Plan::builder("own")
            .source("accounts", folder.path().join("accounts"), |s| {
                s.table("a", Mistyped(statement))
            })
            .target(folder.path().join("target.sqlite"))
            .build()
            .expect("a plan");
        fresh_handle(&plan).begin().expect("begins");
        let failed = migrating_handle(&plan).run(&mut ()).expect_err(statement);
        let text = failed.error.to_string();
        let words = "fix the pair or the mapping, then run this again, or abort";
        assert!(text.contains(reason) && text.contains(words), "{text}");
    }
}

#[test]
fn a_copy_that_a_mapping_stopped_goes_on_with_a_mended_one() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path(), "nobody");
    cutover::sql(&plan(folder.path(), None), &mut ()).expect_err("it stops");
    drop(cutover::sql(&plan(folder.path(), Some("bob")), &mut ()).expect("it goes on"));
    let Found::Tombstoned(mut handle) = cutover::open(&plan(folder.path(), None)).expect("opens")
    else {
        panic!("not live")
    };
    crate::daemon::is_whole(&mut handle, &mut ());
}

#[test]
fn a_mapping_that_loses_a_pair_is_found_out_before_the_commit_point() {
    /// Reads back one pair fewer.
    struct Forgetful;
    impl Mapping for Forgetful {
        fn name(&self) -> &'static str {
            "forgetful"
        }
        fn tables(&self) -> Vec<Table> {
            Accounts.tables()
        }
        fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
            if value == b"eve" { Ok(()) } else { Accounts.write(rows, key, value) }
        }
        fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
            Accounts.read_back(rows, visit)
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path(), "eve");
    let plan = Plan::builder("own")
        .source("accounts", folder.path().join("accounts"), |s| s.table("a", Forgetful))
        .target(folder.path().join("target.sqlite"))
        .build()
        .expect("a plan");
    let error = cutover::sql(&plan, &mut ()).expect_err("a pair is missing");
    let Error::Verification(mismatch) = &error else { panic!("{error:?}") };
    assert_eq!((mismatch.expected_pairs, mismatch.found_pairs), (3, 2));
    drop(migrating_handle(&plan).abort().expect("it can still go back"));
}

/// The names were looked at, and fenced off from others, before anything was sealed.
#[test]
fn a_mapping_that_names_other_tables_once_it_knows_the_sizes_is_refused() {
    struct Shifty;
    impl Mapping for Shifty {
        fn name(&self) -> &'static str {
            "shifty"
        }
        fn tables(&self) -> Vec<Table> {
            Accounts.tables()
        }
        fn tables_for(&self, sizes: Sizes) -> Vec<Table> {
            assert!(sizes.pair_bytes > 0 && sizes.page_bytes == 16 * 1024);
            vec![table("cutover_record", "a")]
        }
        fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
            Accounts.write(rows, key, value)
        }
        fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
            Accounts.read_back(rows, visit)
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path(), "eve");
    let plan = Plan::builder("own")
        .source("accounts", folder.path().join("accounts"), |s| s.table("a", Shifty))
        .target(folder.path().join("target.sqlite"))
        .build()
        .expect("a plan");
    let error = cutover::sql(&plan, &mut ()).expect_err("other tables").to_string();
    assert!(error.contains("names other tables"), "{error}");
    drop(migrating_handle(&plan).abort().expect("it can still go back"));
}

/// Before there is a record nothing else tells that the plan has tables of its own. The operator's
/// command, which knows none but blob tables, would have filled those and gone live.
#[test]
fn a_plan_with_tables_of_its_own_is_not_gone_on_with_as_one_of_blob_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path(), "eve");
    let own = plan(folder.path(), None);
    drop(fresh_handle(&own).begin().expect("begins"));
    let marker = std::fs::read_to_string(folder.path().join("accounts")).expect("a marker");
    let line = |label: &str| {
        let found = marker.lines().find(|line| line.starts_with(label));
        found.unwrap_or_else(|| panic!("no '{label}' in: {marker}")).to_owned()
    };
    assert!(line("to go on:").contains("start the program that uses it again"));
    assert!(line("to go back:").contains("cutover abort --name own"));

    let blobs = Plan::builder("own")
        .source("accounts", folder.path().join("accounts"), |s| s.every_keyspace())
        .source("sessions", folder.path().join("sessions"), |s| s.every_keyspace())
        .target(folder.path().join("target.sqlite"))
        .build()
        .expect("a plan");
    let refused = migrating_handle(&blobs).run(&mut ()).expect_err("other tables");
    assert!(matches!(refused.error, Error::Refused(Cause::PlanChanged { .. })), "{refused}");
    drop(refused);
    drop(cutover::sql(&own, &mut ()).expect("its own program goes on"));

    std::fs::remove_file(folder.path().join("target.sqlite")).expect("removes");
    let Found::RerunAllowed(handle) = cutover::open(&blobs).expect("opens") else {
        panic!("the SQL file is gone")
    };
    let ticket = cutover::ticket::Rerun::losing_writes_made_in_sql();
    let refused = handle.rerun(ticket).expect_err("other tables");
    assert!(matches!(refused.error, Error::Refused(Cause::PlanChanged { .. })), "{refused}");
    drop(refused);
    gives_back(&blobs);
}

/// Giving back needs no tables, so the command can do it for any plan.
fn gives_back(plan: &Plan) {
    let Found::RerunAllowed(handle) = cutover::open(plan).expect("opens") else {
        panic!("nothing was changed")
    };
    let ticket = cutover::ticket::RestoreKv::losing_writes_made_in_sql();
    let mut stores = handle.restore_kv(ticket).expect("gives back").into_kv().expect("opens");
    assert!(stores.take("accounts").is_some() && stores.take("sessions").is_some());
}
