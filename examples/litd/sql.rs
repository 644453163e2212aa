//! The daemon on its SQL tables. Nothing here knows of cutover.

use super::service::{Answer, Ledger};
use rusqlite::{Connection, OptionalExtension, Row};

pub struct Sql {
    connection: Connection,
}

impl Sql {
    pub const fn new(connection: Connection) -> Self {
        Self { connection }
    }
}

impl Ledger for Sql {
    fn add_account(&mut self, name: &str, balance: u32) -> Answer<u32> {
        let sql = "INSERT INTO account (name, balance) VALUES (?1, ?2)";
        self.connection.execute(sql, (name, balance))?;
        Ok(self.connection.last_insert_rowid().try_into()?)
    }

    fn pay(&mut self, account: u32, amount: u32) -> Answer<u32> {
        let transaction = self.connection.transaction()?;
        let read = "SELECT balance FROM account WHERE id = ?1";
        let balance: Option<u32> =
            transaction.query_one(read, [account], |row| row.get(0)).optional()?;
        let balance = balance.ok_or("no such account")?.checked_sub(amount).ok_or("not enough")?;
        transaction.execute("UPDATE account SET balance = ?1 WHERE id = ?2", (balance, account))?;
        transaction.commit()?;
        Ok(balance)
    }

    fn add_session(&mut self, account: &str, label: &str) -> Answer<u32> {
        let sql = "INSERT INTO session (account, label) SELECT id, ?2 FROM account WHERE name = ?1";
        if self.connection.execute(sql, (account, label))? == 0 {
            return Err("no such account".into());
        }
        Ok(self.connection.last_insert_rowid().try_into()?)
    }

    fn set_rule(&mut self, session: u32, name: &str, limit: u32) -> Answer<u32> {
        let sql = "INSERT INTO rule (session, name, most) VALUES (?1, ?2, ?3)
            ON CONFLICT DO UPDATE SET most = excluded.most";
        self.connection.execute(sql, (session, name, limit))?;
        Ok(limit)
    }

    fn dump(&mut self) -> Answer<Vec<String>> {
        let mut lines = Vec::new();
        for sql in [
            "SELECT 'account ' || id, name, balance FROM account ORDER BY id",
            "SELECT 'session ' || session.id, name, label
             FROM session JOIN account ON account.id = session.account ORDER BY session.id",
            "SELECT 'rule ' || session, name, most FROM rule ORDER BY session, name",
        ] {
            let mut statement = self.connection.prepare(sql)?;
            let line = |row: &Row<'_>| {
                let (first, name): (String, String) = (row.get(0)?, row.get(1)?);
                let last = row.get_ref(2)?;
                let last = last.as_i64().map(|number| number.to_string());
                Ok(format!("{first} {name} {}", last.or_else(|_| row.get::<_, String>(2))?))
            };
            for found in statement.query_map([], line)? {
                lines.push(found?);
            }
        }
        Ok(lines)
    }
}
