//! The whole of what the daemon's author wrote to move the three stores into tables: what stands
//! between two markers is counted by a test, which allows 40 lines for each store.

use super::kv::{Account, Rule, Session, number, rule_name};
use cutover::codec::{from_json, to_json};
use cutover::{Plan, Typed};
use serde::{Deserialize, Serialize};
use std::path::Path;

// port: accounts
#[derive(Serialize, Deserialize)]
struct AccountRow {
    id: u32,
    name: String,
    balance: u32,
}

fn accounts() -> Typed<AccountRow> {
    Typed::<AccountRow>::new(
        "account",
        "CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,
            balance INTEGER NOT NULL) STRICT",
        |key, value| {
            let Account { name, balance } = from_json(value)?;
            Ok(AccountRow { id: number(key)?, name, balance })
        },
        |row| {
            let value = Account { name: row.name.clone(), balance: row.balance };
            Ok((row.id.to_be_bytes().to_vec(), to_json(&value)?))
        },
    )
}
// port: end

// port: sessions
#[derive(Serialize, Deserialize)]
struct SessionRow {
    id: u32,
    account: u32,
    label: String,
}

/// A session names its account; the table refers to it.
fn sessions() -> Typed<SessionRow> {
    Typed::<SessionRow>::looking_up(
        "session",
        "CREATE TABLE session (id INTEGER PRIMARY KEY,
            account INTEGER NOT NULL REFERENCES account, label TEXT NOT NULL,
            UNIQUE (account, id)) STRICT",
        |rows, key, value| {
            let session: Session = postcard::from_bytes(value).map_err(|e| e.to_string())?;
            let by_name = "SELECT id FROM account WHERE name = ?1";
            let missing = || format!("no account is named '{}'", session.account);
            let account = rows.look_up(by_name, [&session.account], missing)?;
            Ok(SessionRow { id: number(key)?, account, label: session.label })
        },
        |rows, row| {
            let by_id = "SELECT name FROM account WHERE id = ?1";
            let account = rows.look_up(by_id, [row.account], || "its account is gone".into())?;
            let value = Session { account, label: row.label.clone() };
            let value = postcard::to_stdvec(&value).map_err(|e| e.to_string())?;
            Ok((row.id.to_be_bytes().to_vec(), value))
        },
    )
}
// port: end

// port: rules
#[derive(Serialize, Deserialize)]
struct RuleRow {
    session: u32,
    name: String,
    most: u32,
}

fn rules() -> Typed<RuleRow> {
    Typed::<RuleRow>::new(
        "rule",
        "CREATE TABLE rule (session INTEGER NOT NULL REFERENCES session, name TEXT NOT NULL,
            most INTEGER NOT NULL, PRIMARY KEY (session, name)) STRICT, WITHOUT ROWID",
        |key, value| {
            let Rule { limit } = from_json(value)?;
            Ok(RuleRow { session: number(key)?, name: rule_name(key)?, most: limit })
        },
        |row| {
            let key = [&row.session.to_be_bytes(), row.name.as_bytes()].concat();
            Ok((key, to_json(&Rule { limit: row.most })?))
        },
    )
}
// port: end

/// Accounts come before the sessions that refer to them, and those before their rules.
pub fn plan(folder: &Path) -> Result<Plan, cutover::Error> {
    let at = |name| folder.join(name);
    Plan::builder("litd")
        .source("accounts", at("accounts"), |s| s.table("accounts", accounts()).may_be_missing())
        .source("sessions", at("sessions"), |s| s.table("sessions", sessions()).may_be_missing())
        .source("rules", at("rules"), |s| s.table("rules", rules()).may_be_missing())
        .target(folder.join("litd.sqlite"))
        .build()
}
