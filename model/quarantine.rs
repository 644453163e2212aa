//! Quarantine: pairs that a mapping refuses are kept aside, so far as the plan allows it, and are part
//! of all that is counted, verified, told and taken back.

mod adding_up;
mod budget;
mod tampering;
mod telling;

use crate::common::{Pairs, rows_of, write_store};
use cutover::codec::{from_json, to_json};
use cutover::{Mapping, MappingError, Plan, Rows, Table, Typed, Visit, fault};
use rusqlite::types::Value;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// An account's number is its key; two of twelve are damaged.
#[derive(Serialize, Deserialize)]
struct Account {
    id: u32,
    name: String,
}

const DAMAGED: [u32; 2] = [3, 8];

fn accounts() -> Typed<Account> {
    Typed::<Account>::new(
        "account",
        "CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT",
        |_, value| from_json(value),
        |row| Ok((row.id.to_be_bytes().to_vec(), to_json(row)?)),
    )
    .index("CREATE INDEX account_by_name ON account (name)")
}

/// A session names its account, and has lines in a table of their own. A line that is bad is found out
/// when those before it are written.
struct Sessions;

fn text(bytes: &[u8]) -> Result<&str, MappingError> {
    std::str::from_utf8(bytes).map_err(|error| MappingError::Refused(error.to_string()))
}

impl Mapping for Sessions {
    fn name(&self) -> &'static str {
        "sessions"
    }

    fn tables(&self) -> Vec<Table> {
        let token = "token BLOB PRIMARY KEY, account INTEGER NOT NULL REFERENCES account";
        let lines = "token BLOB NOT NULL REFERENCES session, at INTEGER, text TEXT NOT NULL";
        vec![
            Table::new("session", format!("CREATE TABLE session ({token}) STRICT")),
            Table::new("line", format!("CREATE TABLE line ({lines}) STRICT"))
                .index("CREATE INDEX line_by_token ON line (token, at)"),
        ]
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        let mut lines = text(value)?.split('\n');
        let name = lines.next().unwrap_or_default();
        let by_name = "SELECT id FROM account WHERE name = ?1";
        let account: u32 = rows.look_up(by_name, [name], || "its account is not there".into())?;
        rows.execute("INSERT INTO session VALUES (?1, ?2)", (key, account))?;
        for (at, line) in (0_i64..).zip(lines) {
            rows.execute("INSERT INTO line VALUES (?1, ?2, ?3)", (key, at, line))?;
            if line == BAD {
                return Err(MappingError::Refused(reason()));
            }
        }
        Ok(())
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        let sessions = "SELECT token, name FROM session JOIN account ON account.id = account";
        rows.query_each(sessions, [], |row| {
            let (token, mut value): (Vec<u8>, String) = (row.get(0)?, row.get(1)?);
            let lines = "SELECT text FROM line WHERE token = ?1 ORDER BY at";
            rows.query_each(lines, [&token], |row| {
                value += "\n";
                value += &row.get::<_, String>(0)?;
                Ok(())
            })?;
            visit(&token, value.as_bytes())
        })
    }
}

const BAD: &str = "the secret line that is bad";

/// Longer than what is kept of a reason, whose bound is in the middle of a letter.
fn reason() -> String {
    format!("a bad line, {}", "ß".repeat(2000))
}

/// Those whose account is damaged, and two with a bad line.
fn is_refused(session: u8) -> bool {
    DAMAGED.contains(&(u32::from(session) % 12)) || [30, 31].contains(&session)
}

fn session(i: u8) -> (Vec<u8>, Vec<u8>) {
    let bad = if [30, 31].contains(&i) { format!("\n{BAD}") } else { String::new() };
    (vec![0xee, i], format!("account {}\nline of {i}{bad}\nlast", i % 12).into_bytes())
}

pub fn stores(folder: &Path) {
    let account = |id: u32| {
        let name = format!("account {id}");
        let value = to_json(&Account { id, name }).expect("encodes");
        let value = if DAMAGED.contains(&id) { b"{\"secret\":1}".to_vec() } else { value };
        (id.to_be_bytes().to_vec(), value)
    };
    let pairs = Pairs::from([("a".to_owned(), (0..12).map(account).collect())]);
    write_store(&folder.join("accounts"), &pairs);
    let plain = (0..10_u8).map(|i| (vec![i], vec![i; 9])).collect();
    let pairs =
        Pairs::from([("s".to_owned(), (0..40).map(session).collect()), ("t".to_owned(), plain)]);
    write_store(&folder.join("sessions"), &pairs);
}

/// Of the 12 accounts 2 are refused, of the 50 pairs of sessions 9.
const ENOUGH: [u64; 2] = [2, 9];

fn plan(folder: &Path, [of_accounts, of_sessions]: [u64; 2]) -> Plan {
    Plan::builder("kept")
        .source("accounts", folder.join("accounts"), |s| {
            s.table("a", accounts()).quarantine(of_accounts)
        })
        .source("sessions", folder.join("sessions"), |s| {
            s.table("s", Sessions).blobs("t").quarantine(of_sessions)
        })
        .target(folder.join("target.sqlite"))
        .chunk_bytes(200)
        .build()
        .expect("a plan")
}

/// As a daemon that is told to use SQL; fault points are armed by the environment.
pub fn migrate(folder: &Path) {
    fault::arm_from_environment();
    cutover::sql(&plan(folder, ENOUGH), &mut ()).expect("SQL");
}

/// Everything that the migration put into the target, but for its record.
fn rows(folder: &Path) -> Vec<Vec<Value>> {
    let queries = [
        "SELECT name FROM sqlite_schema ORDER BY name",
        "SELECT * FROM account ORDER BY id",
        "SELECT * FROM session ORDER BY token",
        "SELECT * FROM line ORDER BY token, at",
        "SELECT * FROM sessions_t ORDER BY key",
        "SELECT * FROM cutover_quarantine_kept ORDER BY source, keyspace, key",
    ];
    rows_of(&folder.join("target.sqlite"), &queries)
}

/// What one query counts in the target.
fn count(folder: &Path, query: &str) -> i64 {
    let connection = rusqlite::Connection::open(folder.join("target.sqlite")).expect("opens");
    connection.query_one(query, [], |row| row.get(0)).expect(query)
}

const IN_QUARANTINE: &str = "SELECT count(*) FROM cutover_quarantine_kept";

/// Whether the target has the table.
const TABLES: &str = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%quarantine%'";
