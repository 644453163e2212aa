//! The daemon on its three fjall stores. Nothing here knows of cutover.

use super::service::{Answer, Ledger};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use serde::{Deserialize, Serialize};

/// The names of the stores; each is a folder, with one keyspace of the same name.
pub const STORES: [&str; 3] = ["accounts", "sessions", "rules"];

/// An account's value, JSON. Its key is its number.
#[derive(Serialize, Deserialize)]
pub struct Account {
    pub name: String,
    pub balance: u32,
}

/// A session's value, postcard. Its key is its number; the account is named.
#[derive(Serialize, Deserialize)]
pub struct Session {
    pub account: String,
    pub label: String,
}

/// A rule's value, JSON. Its key is the number of its session, and then its name.
#[derive(Serialize, Deserialize)]
pub struct Rule {
    pub limit: u32,
}

pub struct Kv {
    accounts: Store,
    sessions: Store,
    rules: Store,
}

struct Store {
    database: Database,
    pairs: Keyspace,
}

impl Kv {
    /// The stores are given by their names.
    pub fn new(mut open: impl FnMut(&str) -> Answer<Database>) -> Answer<Self> {
        let mut store = |name| -> Answer<Store> {
            let database = open(name)?;
            let pairs = database.keyspace(name, KeyspaceCreateOptions::default)?;
            Ok(Store { database, pairs })
        };
        let [accounts, sessions, rules] = STORES;
        Ok(Self { accounts: store(accounts)?, sessions: store(sessions)?, rules: store(rules)? })
    }
}

impl Store {
    fn put(&self, key: &[u8], value: Vec<u8>) -> Answer<()> {
        self.pairs.insert(key, value)?;
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn all(&self) -> Answer<Vec<(Vec<u8>, Vec<u8>)>> {
        let pairs = self.pairs.iter().map(|pair| {
            let (key, value) = pair.into_inner()?;
            Ok((key.to_vec(), value.to_vec()))
        });
        pairs.collect()
    }

    fn next_number(&self) -> Answer<u32> {
        let last = self.pairs.last_key_value().map(fjall::Guard::key).transpose()?;
        Ok(last.map_or(Ok(0), |key| number(&key))? + 1)
    }
}

/// The number that a key begins with.
pub fn number(key: &[u8]) -> Result<u32, String> {
    let bytes = key.first_chunk().ok_or("a key without a number")?;
    Ok(u32::from_be_bytes(*bytes))
}

/// The name that a rule's key ends with.
pub fn rule_name(key: &[u8]) -> Result<String, String> {
    let name = key.get(4..).unwrap_or_default().to_vec();
    String::from_utf8(name).map_err(|_| "a rule's name is not text".to_owned())
}

impl Ledger for Kv {
    fn add_account(&mut self, name: &str, balance: u32) -> Answer<u32> {
        let id = self.accounts.next_number()?;
        for (_, value) in self.accounts.all()? {
            if serde_json::from_slice::<Account>(&value)?.name == name {
                return Err(format!("there is an account named {name}").into());
            }
        }
        let account = Account { name: name.to_owned(), balance };
        self.accounts.put(&id.to_be_bytes(), serde_json::to_vec(&account)?)?;
        Ok(id)
    }

    fn pay(&mut self, account: u32, amount: u32) -> Answer<u32> {
        let key = account.to_be_bytes();
        let value = self.accounts.pairs.get(key)?.ok_or("no such account")?;
        let mut account: Account = serde_json::from_slice(&value)?;
        account.balance = account.balance.checked_sub(amount).ok_or("not enough")?;
        self.accounts.put(&key, serde_json::to_vec(&account)?)?;
        Ok(account.balance)
    }

    fn add_session(&mut self, account: &str, label: &str) -> Answer<u32> {
        let all = self.accounts.all()?;
        let mut names = all.iter().map(|(_, value)| serde_json::from_slice::<Account>(value));
        if !names.any(|found| found.is_ok_and(|found| found.name == account)) {
            return Err("no such account".into());
        }
        let id = self.sessions.next_number()?;
        let session = Session { account: account.to_owned(), label: label.to_owned() };
        self.sessions.put(&id.to_be_bytes(), postcard::to_stdvec(&session)?)?;
        Ok(id)
    }

    fn set_rule(&mut self, session: u32, name: &str, limit: u32) -> Answer<u32> {
        if !self.sessions.pairs.contains_key(session.to_be_bytes())? {
            return Err("no such session".into());
        }
        let key = [session.to_be_bytes().as_slice(), name.as_bytes()].concat();
        self.rules.put(&key, serde_json::to_vec(&Rule { limit })?)?;
        Ok(limit)
    }

    fn dump(&mut self) -> Answer<Vec<String>> {
        let mut lines = Vec::new();
        for (key, value) in self.accounts.all()? {
            let Account { name, balance } = serde_json::from_slice(&value)?;
            lines.push(format!("account {} {name} {balance}", number(&key)?));
        }
        for (key, value) in self.sessions.all()? {
            let Session { account, label } = postcard::from_bytes(&value)?;
            lines.push(format!("session {} {account} {label}", number(&key)?));
        }
        for (key, value) in self.rules.all()? {
            let Rule { limit } = serde_json::from_slice(&value)?;
            lines.push(format!("rule {} {} {limit}", number(&key)?, rule_name(&key)?));
        }
        Ok(lines)
    }
}
