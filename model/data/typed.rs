//! Typed tables, from store to SQL: JSON and postcard, references, old values, and damage.

use crate::common::{Pairs, write_store};
use crate::daemon::{StopAfter, fresh_handle, migrating_handle, sqlite, verify};
use cutover::codec::{from_json, to_json};
use cutover::{Cause, Compared, Error, Found, Plan, Typed};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// An account's value, as JSON; its number is the key.
#[derive(Serialize, Deserialize)]
struct Account {
    name: String,
    /// Came later: older values have none.
    #[serde(default)]
    limit: u32,
}

#[derive(Serialize, Deserialize)]
struct AccountRow {
    id: u32,
    name: String,
    limit: u32,
}

/// A session's value, as postcard; its token is the key. It names its account.
#[derive(Serialize, Deserialize)]
struct Session {
    account: String,
    uses: u64,
}

/// The table has the account's number instead of its name.
#[derive(Serialize, Deserialize)]
struct SessionRow {
    token: Vec<u8>,
    account: u32,
    uses: u64,
}

/// A grant's value is the number of its account, as JSON; its key is text.
#[derive(Serialize, Deserialize)]
struct GrantRow {
    what: String,
    account: u32,
}

const ACCOUNT: &str = r#"CREATE TABLE account (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, "limit" INTEGER NOT NULL, raw BLOB) STRICT"#;
const SESSION: &str = "CREATE TABLE session (
    token BLOB PRIMARY KEY, account INTEGER NOT NULL REFERENCES account, uses INTEGER NOT NULL,
    UNIQUE (account, token)) STRICT, WITHOUT ROWID";
const GRANT: &str = r#"CREATE TABLE "grant" (
    what TEXT PRIMARY KEY, account INTEGER NOT NULL REFERENCES account) STRICT, WITHOUT ROWID"#;

fn accounts() -> Typed<AccountRow> {
    Typed::<AccountRow>::new(
        "account",
        ACCOUNT,
        |key, value| {
            let id = u32::from_be_bytes(key.try_into().map_err(|_| "no account number")?);
            let Account { name, limit } = from_json(value)?;
            Ok(AccountRow { id, name, limit })
        },
        |row| {
            let value = Account { name: row.name.clone(), limit: row.limit };
            Ok((row.id.to_be_bytes().to_vec(), to_json(&value)?))
        },
    )
}

fn sessions() -> Typed<SessionRow> {
    Typed::<SessionRow>::looking_up(
        "session",
        SESSION,
        |rows, key, value| {
            let Session { account: name, uses } =
                postcard::from_bytes(value).map_err(|error| error.to_string())?;
            let by_name = "SELECT id FROM account WHERE name = ?1";
            let missing = || format!("no account is named '{name}'");
            let account = rows.look_up(by_name, [&name], missing)?;
            Ok(SessionRow { token: key.to_vec(), account, uses })
        },
        |rows, row| {
            let by_id = "SELECT name FROM account WHERE id = ?1";
            let account = rows.look_up(by_id, [row.account], || "its account is gone".into())?;
            let value = Session { account, uses: row.uses };
            let value = postcard::to_stdvec(&value).map_err(|error| error.to_string())?;
            Ok((row.token.clone(), value))
        },
    )
}

fn grants() -> Typed<GrantRow> {
    Typed::<GrantRow>::new(
        "grant",
        GRANT,
        |key, value| {
            let what = String::from_utf8(key.to_vec()).map_err(|error| error.to_string())?;
            Ok(GrantRow { what, account: from_json(value)? })
        },
        |row| Ok((row.what.clone().into_bytes(), to_json(&row.account)?)),
    )
}

const NAMES: [&str; 3] = ["ada", "bob", "eve"];

fn of(name: &str, pairs: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Pairs {
    Pairs::from([(name.to_owned(), pairs.collect())])
}

fn write_accounts(folder: &Path, values: [&str; 3]) {
    let pairs = (0_u32..).zip(values).map(|(id, v)| (id.to_be_bytes().to_vec(), v.into()));
    write_store(&folder.join("accounts"), &of("a", pairs));
}

/// Three accounts, forty sessions and forty grants; number 30 of each belongs to the one given.
fn stores(folder: &Path, thirtieth: (&str, u32)) {
    let current = NAMES.map(|name| format!(r#"{{"name":"{name}","limit":5}}"#));
    write_accounts(folder, [&current[0], &current[1], &current[2]]);
    let session = |i: u8| {
        let name = if i == 30 { thirtieth.0 } else { NAMES[usize::from(i) % 3] };
        postcard::to_stdvec(&Session { account: name.into(), uses: u64::from(i) << 40 })
    };
    let pairs = (0..40_u8).map(|i| (vec![0xee, i], session(i).expect("encodes")));
    write_store(&folder.join("sessions"), &of("s", pairs));
    let grant = |i: u32| if i == 30 { thirtieth.1 } else { i % 3 };
    let pairs = (0..40).map(|i| (format!("g{i:02}").into_bytes(), grant(i).to_string().into()));
    write_store(&folder.join("grants"), &of("g", pairs));
}

fn plan_of(folder: &Path, accounts: Typed<AccountRow>) -> Plan {
    Plan::builder("typed")
        .source("accounts", folder.join("accounts"), |s| s.table("a", accounts))
        .source("sessions", folder.join("sessions"), |s| s.table("s", sessions()))
        .source("grants", folder.join("grants"), |s| s.table("g", grants()))
        .target(folder.join("target.sqlite"))
        .chunk_bytes(100)
        .build()
        .expect("a plan")
}

fn plan(folder: &Path) -> Plan {
    plan_of(folder, accounts())
}

#[test]
fn i2_structs_become_columns_that_refer_to_each_other_and_verify() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path(), ("eve", 2));
    let plan = plan(folder.path());
    drop(fresh_handle(&plan).begin().expect("begins"));
    // A copy that stops goes on where it was.
    migrating_handle(&plan).run(&mut StopAfter { chunks: 3 }).expect_err("stops");
    let connection = cutover::sql(&plan, &mut ()).expect("SQL");
    let found: (i64, i64, i64) = connection
        .query_one(
            r#"SELECT count(*), sum(uses >> 40), (SELECT count(*) FROM "grant" JOIN account
                 ON account.id = "grant".account WHERE name = 'bob' AND "limit" = 5 AND raw IS NULL)
             FROM session JOIN account ON account.id = session.account
             WHERE name = 'eve'"#,
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .expect("joins");
    let of_eve: i64 = (0..40).filter(|i| i % 3 == 2 || *i == 30).sum();
    assert_eq!(found, (14, of_eve, 13));
    drop(connection);
    verify(&plan).expect("verifies");
    let change = r#"UPDATE account SET "limit" = 6 WHERE id = 1"#;
    sqlite(&folder.path().join("target.sqlite"), change);
    let verified = verify(&plan).expect_err("it was changed");
    let changed: Vec<_> =
        verified.keyspaces.iter().filter(|k| k.target != Compared::Same).collect();
    let [changed] = changed.as_slice() else { panic!("{changed:?}") };
    assert_eq!(changed.source, "accounts");
    assert!(matches!(changed.target, Compared::Changed { pairs: 3, .. }), "{changed:?}");
}

#[test]
fn a_row_that_can_not_be_made_a_pair_again_is_told_with_its_keyspace_and_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path(), ("eve", 2));
    let plan = plan(folder.path());
    drop(cutover::sql(&plan, &mut ()).expect("SQL"));
    let orphan = "PRAGMA foreign_keys = OFF; UPDATE session SET account = 99 WHERE uses = 0";
    sqlite(&folder.path().join("target.sqlite"), orphan);
    let verified = verify(&plan).expect_err("it was changed");
    let unread = verified.keyspaces.iter().find(|k| k.target != Compared::Same);
    let unread = unread.expect("one that can't be read");
    assert_eq!((&*unread.source, &*unread.keyspace), ("sessions", "s"));
    let Compared::Differs { how } = &unread.target else { panic!("{unread:?}") };
    assert!(how.contains("can't be read back: its account is gone"), "{how}");
}

/// Runs into a refusal, goes back, and finds the stores whole.
fn refused(plan: &Plan, words: &[&str]) {
    let error = cutover::sql(plan, &mut ()).expect_err("it stops");
    let (Error::Interrupted { cause, .. } | Error::Refused(cause)) = &error else {
        panic!("{error:?}")
    };
    assert!(matches!(cause, Cause::PairRefused { .. }), "{error:?}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
    let mut stores = cutover::kv(plan).expect("the stores come back");
    assert!(stores.rolled_back() && stores.take("accounts").is_some());
}

#[test]
fn i2_an_orphan_stops_the_run_and_is_named_with_what_it_refers_to() {
    for (thirtieth, words) in [
        (
            ("nobody", 2),
            ["key ee1e", "keyspace 's'", "source 'sessions'", "no account is named 'nobody'"],
        ),
        (
            ("eve", 77),
            [
                "key 673330",
                "keyspace 'g'",
                "source 'grants'",
                "its account refers to no row of table 'account'",
            ],
        ),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        stores(folder.path(), thirtieth);
        refused(&plan(folder.path()), &words);
    }
}

#[test]
fn i2_a_damaged_value_stops_the_run_and_is_named_without_its_content() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path(), ("eve", 2));
    let current = r#"{"name":"ada","limit":5}"#;
    std::fs::remove_dir_all(folder.path().join("accounts")).expect("removes");
    write_accounts(folder.path(), [current, r#"{"name":"secret","limit":-1}"#, current]);
    let plan = plan(folder.path());
    refused(&plan, &["key 00000001", "keyspace 'a'", "source 'accounts'", "JSON: a value"]);
    let error = cutover::sql(&plan, &mut ()).expect_err("it stops again");
    assert!(!error.to_string().contains("secret"), "{error}");
}

/// A store has values of every release that wrote it.
#[test]
fn i2_an_older_value_is_refused_unless_its_bytes_are_kept_and_then_it_verifies() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path(), ("eve", 2));
    let values =
        [r#"{"name":"ada","limit":5}"#, r#"{"name":"bob"}"#, r#"{ "name": "eve", "limit": 7 }"#];
    std::fs::remove_dir_all(folder.path().join("accounts")).expect("removes");
    write_accounts(folder.path(), values);
    refused(&plan(folder.path()), &["key 00000001", "is not what its struct encodes to"]);

    let plan = plan_of(folder.path(), accounts().keep_raw("raw"));
    let connection = cutover::sql(&plan, &mut ()).expect("SQL");
    let rows: Vec<(u32, Option<Vec<u8>>)> = connection
        .prepare(r#"SELECT "limit", raw FROM account ORDER BY id"#)
        .and_then(|mut statement| {
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .expect("reads");
    let kept = |value: &str| Some(value.as_bytes().to_vec());
    assert_eq!(rows, [(5, None), (0, kept(values[1])), (7, kept(values[2]))]);
    drop(connection);
    verify(&plan).expect("verifies");
}

#[test]
fn an_index_is_a_constraint_or_the_daemon_s_own() {
    let folder = tempfile::tempdir().expect("a folder");
    stores(folder.path(), ("eve", 2));
    let target = folder.path().join("target.sqlite");
    // The daemon's own schema, before the migration.
    sqlite(&target, GRANT);
    sqlite(&target, r#"CREATE INDEX early ON "grant" (account)"#);
    let plan = plan(folder.path());
    drop(fresh_handle(&plan).begin().expect("begins"));
    migrating_handle(&plan).run(&mut StopAfter { chunks: 3 }).expect_err("stops");
    // Going back leaves both.
    drop(cutover::kv(&plan).expect("the stores come back"));
    let connection = cutover::sql(&plan, &mut ()).expect("SQL");
    // And after it.
    connection.execute("CREATE INDEX late ON session (uses)", []).expect("an index");
    let uses = |query: &str, index: &str| {
        let how: String = connection
            .query_one(&format!("EXPLAIN QUERY PLAN {query}"), [], |row| row.get(3))
            .expect("a plan");
        assert!(how.contains(&format!("INDEX {index} ")), "{query}: {how}");
    };
    uses(r#"SELECT * FROM "grant" WHERE account = 1"#, "early");
    uses("SELECT * FROM session WHERE uses = 1", "late");
    uses("SELECT * FROM session WHERE account = 1", "sqlite_autoindex_session_2");
    drop(connection);
    verify(&plan).expect("verifies");
    let Found::Tombstoned(handle) = cutover::open(&plan).expect("opens") else {
        panic!("not live")
    };
    let ticket = cutover::ticket::Reclaim::losing_the_way_back();
    drop(handle.reclaim(ticket).expect("an index is in nobody's way"));
}
