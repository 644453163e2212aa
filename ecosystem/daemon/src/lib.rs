//! What the daemons share: a store as it was on fjall, the way to SQL, and what must hold afterwards.

use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Balances in the store.
pub const BALANCES: i64 = 100;

/// The key and value that each daemon reads first.
pub const FIRST: (&[u8], &[u8]) = (b"account-000", b"0");

/// The key and value that each daemon writes.
pub const WRITTEN: (&[u8], &[u8]) = (b"account-100", b"10000");

/// A schema change of a daemon's own: of a migrated table, and beside it.
pub const CHANGE: &str = "ALTER TABLE accounts_balances ADD COLUMN note TEXT;
    CREATE TABLE audit (id INTEGER PRIMARY KEY, what TEXT NOT NULL) STRICT;";

/// What each connection of a pool needs besides SQLite's defaults. `EXTRA` keeps an acknowledged commit
/// through a power cut, as the connection that `sql()` hands out does.
pub const SETTINGS: &str = "PRAGMA synchronous = EXTRA; PRAGMA busy_timeout = 5000;";

/// `PRAGMA synchronous` where it is `EXTRA`.
pub const EXTRA: i64 = 3;

/// The oldest SQLite for a pool in WAL: older ones can damage a database of several connections
/// (L-58).
const SQLITE_WAL_MIN: [u32; 3] = [3, 51, 3];

/// A daemon's folder, which goes when this is dropped.
pub struct Daemon {
    folder: TempDir,
}

impl Daemon {
    /// With its balances in fjall's store `accounts`.
    pub fn on_fjall() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store =
            fjall::Database::builder(folder.path().join("accounts")).open().expect("a store");
        let balances =
            store.keyspace("balances", fjall::KeyspaceCreateOptions::default).expect("a keyspace");
        for account in 0..BALANCES {
            let (key, value) = (format!("account-{account:03}"), (account * 100).to_string());
            balances.insert(key, value).expect("inserts");
        }
        store.persist(fjall::PersistMode::SyncAll).expect("persists");
        Self { folder }
    }

    /// Where its SQL database is, or will be.
    pub fn target(&self) -> PathBuf {
        self.at("daemon.sqlite")
    }

    /// The same as UTF-8, for those who want a URL.
    pub fn target_text(&self) -> String {
        self.target().into_os_string().into_string().expect("UTF-8")
    }

    /// A path in its folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file in its folder, with the schema change; missing folders are made.
    pub fn change_at(&self, name: &str) -> PathBuf {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, CHANGE).expect("writes");
        path
    }

    /// Runs the command `cutover`, whose path `CUTOVER` is, on this daemon's plan; its output.
    ///
    /// # Panics
    ///
    /// If it fails.
    pub fn command(&self, verb: &str, flag: &str) -> String {
        let command = std::env::var_os("CUTOVER").expect("CUTOVER is the path of the command");
        let output = Command::new(command)
            .args([verb, flag, "--name", "daemon", "--source"])
            .arg(format!("accounts={}", self.at("accounts").display()))
            .arg("--target")
            .arg(self.target())
            .output()
            .expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{verb}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// That the database is live and the store is fenced, by the command: another process, with an
    /// SQLite of its own.
    pub fn is_live_to_the_command(&self) {
        let status: serde_json::Value =
            serde_json::from_str(&self.command("status", "--json")).expect("JSON");
        assert_eq!(status["state"], "Tombstoned", "{status}");
        self.store_is_fenced();
    }

    fn store_is_fenced(&self) {
        assert!(fjall::Database::builder(self.at("accounts")).open().is_err(), "fjall opens it");
    }
}

/// Says what was used, and where that is no SQLite for a pool in WAL.
pub fn says(what: &str, sqlite: &str) {
    let numbers: Vec<u32> = sqlite.split('.').filter_map(|number| number.parse().ok()).collect();
    let is_old = numbers.as_slice() < SQLITE_WAL_MIN.as_slice();
    println!("{what}: SQLite {sqlite}{}", if is_old { ", too old for a pool in WAL" } else { "" });
}

#[cfg(feature = "library")]
mod library {
    use super::{BALANCES, Daemon};
    use cutover::protocol::Contradiction;
    use cutover::rusqlite::Connection;
    use cutover::{Error, Plan, sql, status};
    use std::path::PathBuf;

    impl Daemon {
        /// Its plan.
        pub fn plan(&self) -> Plan {
            Plan::builder("daemon")
                .source("accounts", self.at("accounts"), |source| source.blobs("balances"))
                .target(self.target())
                .build()
                .expect("a plan")
        }

        /// Its data in SQL: migrated if it was not.
        pub fn sql(&self) -> Connection {
            sql(&self.plan(), &mut ()).expect("SQL")
        }

        /// Moves it, and says where the database is that is live now: from here on a pool may open it.
        pub fn moved(&self) -> PathBuf {
            drop(self.sql());
            self.target()
        }

        /// That cutover opens it still, with the row that the daemon wrote, while its pool is open.
        pub fn still_opens(&self) {
            let status = status(&self.plan()).expect("a status");
            assert_eq!(status.state, "Tombstoned", "{status:?}");
            let connection = self.sql();
            assert_eq!(count(&connection, "accounts_balances"), BALANCES + 1);
            assert_eq!(count(&connection, "cutover_record"), 1);
            self.is_live_to_the_command();
        }

        /// That cutover misses its record, and gives no store back.
        pub fn lost_its_record(&self) {
            let lost = sql(&self.plan(), &mut ()).map(drop).expect_err("its record is gone");
            let Error::Contradiction(told) = lost else { panic!("{lost}") };
            assert_eq!(told.contradiction, Contradiction::RecordGone, "{told}");
            assert!(cutover::kv(&self.plan()).is_err(), "a store comes back");
            self.store_is_fenced();
        }
    }

    fn count(connection: &Connection, table: &str) -> i64 {
        let count = format!("SELECT count(*) FROM {table}");
        connection.query_row(&count, [], |row| row.get(0)).expect("counts")
    }
}
