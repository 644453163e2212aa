//! The operators' guide, followed to the letter: the commands of each section are read from it and
//! run by a shell, in the situation that its title names.

#![expect(clippy::expect_used, reason = "a test that panics has failed")]

use crate::common::{Pairs, copy_tree, read_store, read_table, small_store, write_store};
use crate::crash::{plain_writes, stock_writes};
use crate::daemon::{StopAfter, fresh_handle, migrating_handle};
use crate::refusals::Mount;
use cutover::{Blobs, Mapping, MappingError, Observer, Plan, Rows, Table, Visit};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The verbs that ask; nobody sits at the tests' terminal, so a yes is said beforehand.
const ASKING: &str = "migrate|prepare|finalize|abort|rerun|restore-kv|reclaim";

/// The blocks of commands of each section, under its title; under both titles where it is divided.
fn sections() -> BTreeMap<String, Vec<String>> {
    let guide = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operators.md"));
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut title, mut part) = (String::new(), String::new());
    let mut block: Option<String> = None;
    for line in guide.expect("the guide").lines() {
        match (&mut block, line) {
            (None, "```sh") => block = Some(String::new()),
            (None, _) if line.starts_with("## ") => {
                (title, part) = (line.trim_start_matches("## ").to_owned(), String::new());
            }
            (None, _) if line.starts_with("### ") => {
                part = format!(" / {}", line.trim_start_matches("### "));
            }
            (Some(commands), "```") => {
                sections.entry(format!("{title}{part}")).or_default().push(commands.clone());
                block = None;
            }
            (Some(commands), _) => {
                commands.push_str(line);
                commands.push('\n');
            }
            (None, _) => {}
        }
    }
    sections
}

/// A machine with the guide's one store, `/data/accounts`, of a daemon that knows nothing of cutover.
struct Machine {
    folder: tempfile::TempDir,
    blocks: Vec<String>,
    setting: String,
}

impl Machine {
    fn new(title: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sections = sections();
        let setting = sections.remove("").expect("the guide sets S").concat();
        let blocks = sections.remove(title).unwrap_or_else(|| panic!("no section {title}"));
        let machine = Self { folder, blocks, setting };
        for name in ["data", "new", "backup", "bin"] {
            fs::create_dir(machine.at(name)).expect("a folder");
        }
        let command = machine.at("bin/cutover");
        let text = format!(
            "#!/bin/sh\ncase \"$1\" in {ASKING}) exec {0} \"$@\" --yes;; *) exec {0} \"$@\";; esac\n",
            env!("CARGO_BIN_EXE_cutover")
        );
        fs::write(&command, text).expect("writes");
        fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).expect("can be run");
        machine
    }

    /// With a store in use.
    fn fresh(title: &str) -> Self {
        let machine = Self::new(title);
        write_store(&machine.store(), &pairs());
        machine
    }

    fn copying(title: &str) -> Self {
        let machine = Self::fresh(title);
        let sealed = fresh_handle(&machine.plan()).begin().expect("begins");
        sealed.run(&mut StopAfter { chunks: 1 }).expect_err("it stops");
        machine
    }

    fn committed(title: &str) -> Self {
        let machine = Self::fresh(title);
        let sealed = fresh_handle(&machine.plan()).begin().expect("begins");
        sealed.run(&mut ()).expect("commits");
        machine
    }

    fn live(title: &str) -> Self {
        let machine = Self::fresh(title);
        drop(cutover::sql(&machine.plan(), &mut ()).expect("SQL"));
        machine
    }

    /// The plan that the guide's words name.
    fn plan(&self) -> Plan {
        Plan::builder("cutover")
            .source("accounts", self.store(), |s| s.every_keyspace())
            .target(self.target())
            .build()
            .expect("a plan")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.at("data/accounts")
    }

    fn target(&self) -> PathBuf {
        self.at("data/app.sqlite")
    }

    /// Runs the section's block with this number, and demands its exit code. A shell stops at the
    /// first command that fails.
    fn runs(&self, block: usize, code: i32) -> String {
        let block = self.blocks.get(block).expect("a block");
        let output = self.shell(block);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(output.status.code(), Some(code), "{block}\n{text}");
        self.is_never_open_twice();
        text
    }

    fn shell(&self, commands: &str) -> Output {
        let mut text = format!("set -eu\n{}{commands}", self.setting);
        for name in ["data", "new", "backup"] {
            text = text.replace(&format!("/{name}/"), &format!("{}/", self.at(name).display()));
        }
        let path = std::env::var("PATH").expect("a PATH");
        let path = format!("{}:{path}", self.at("bin").display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &text]).env("PATH", path).stdin(Stdio::null());
        shell.output().expect("sh")
    }

    /// I-1: looked at on copies, since looking writes.
    fn is_never_open_twice(&self) {
        let copy = tempfile::tempdir().expect("a folder");
        copy_tree(&self.at("data"), &copy.path().join("data"));
        let kv = stock_writes(&copy.path().join("data/accounts"));
        let sql = [self.at("data"), self.at("new")].into_iter().any(|folder| {
            let target = folder.join("app.sqlite");
            target.exists() && {
                let copied = copy.path().join("app.sqlite");
                fs::copy(&target, &copied).expect("copies");
                plain_writes(&copied)
            }
        });
        assert!(!(kv && sql), "both sides can be written");
    }

    fn is_whole_in_sql(&self, target: &Path) {
        for (keyspace, pairs) in pairs() {
            assert_eq!(read_table(target, &format!("accounts_{keyspace}")), pairs);
        }
        assert!(!stock_writes(&self.store()), "the old store stays closed");
    }

    fn is_whole_in_kv(&self) {
        assert_eq!(read_store(&self.store()), pairs());
    }
}

fn pairs() -> Pairs {
    small_store(1, 20)
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
}

/// The other sections' blocks, each with its story's number of them. A section, or a block, that no
/// story runs fails here.
#[test]
fn every_command_of_the_guide_is_run_by_a_story() {
    let told: BTreeMap<String, usize> = STORIES
        .iter()
        .map(|(title, blocks, _)| ((*title).to_owned(), *blocks))
        .chain([(String::new(), 1)])
        .collect();
    let found: BTreeMap<String, usize> =
        sections().into_iter().map(|(title, blocks)| (title, blocks.len())).collect();
    assert_eq!(found, told);
}

#[test]
fn each_section_of_the_guide_leads_to_where_it_says() {
    for (title, _, story) in STORIES {
        println!("{title}");
        story(title);
    }
}

/// A title, its number of blocks, and the story that runs them.
type Story = (&'static str, usize, fn(&str));

const STORIES: &[Story] = &[
    ("\"My daemon says NotADirectory\"", 1, |title| {
        let machine = Machine::live(title);
        let error = fjall::Database::builder(machine.store()).open().err().expect("refused");
        says(&format!("{error:?}"), &["NotADirectory"]);
        let target = machine.target();
        says(&machine.runs(0, 0), &[target.to_str().expect("UTF-8"), "cutover", "Tombstoned"]);
        machine.is_whole_in_sql(&machine.target());
    }),
    ("\"My daemon says InvalidVersion\"", 1, |title| {
        let machine = Machine::live(title);
        fs::remove_file(machine.store()).expect("removes");
        fs::rename(machine.at("data/accounts.retired"), machine.store()).expect("moves");
        let error = fjall::Database::builder(machine.store()).open().err().expect("refused");
        says(&format!("{error:?}"), &["InvalidVersion"]);
        machine.runs(0, 0);
        machine.is_whole_in_sql(&machine.target());
    }),
    ("\"The machine went down in the middle\"", 1, |title| {
        let machine = Machine::copying(title);
        machine.runs(0, 0);
        machine.is_whole_in_sql(&machine.target());
    }),
    ("\"How far is it?\"", 1, |title| {
        /// Asks from elsewhere, while the copy is at work.
        struct Asks<'a>(&'a Machine, usize);
        impl Observer for Asks<'_> {
            fn progress(&mut self, _: &cutover::Progress) {
                says(&self.0.runs(0, 0), &["Migrating", "pairs"]);
                self.1 += 1;
            }
        }
        let machine = Machine::fresh(title);
        let mut asks = Asks(&machine, 0);
        let sealed = fresh_handle(&machine.plan()).begin().expect("begins");
        sealed.run(&mut asks).expect("runs");
        assert!(asks.1 > 1);
    }),
    (
        "\"It says that a store is in use\", \"it says that another cutover is at work\"",
        1,
        |title| {
            let machine = Machine::fresh(title);
            let daemon = fjall::Database::builder(machine.store()).open().expect("opens");
            says(&machine.runs(0, 3), &["accounts", &std::process::id().to_string()]);
            drop(daemon);
            let handle = cutover::open(&machine.plan()).expect("opens");
            says(&machine.runs(0, 3), &["accounts", &std::process::id().to_string()]);
            drop(handle);
            machine.is_whole_in_kv();
            machine.runs(0, 0);
            machine.is_whole_in_sql(&machine.target());
        },
    ),
    ("\"I want to look before I leap\"", 4, |title| {
        for (decision, in_sql) in [(2, true), (3, false)] {
            let machine = Machine::fresh(title);
            machine.runs(0, 0);
            assert!(!machine.target().exists(), "a rehearsal leaves nothing");
            machine.is_whole_in_kv();
            says(&machine.runs(1, 0), &["cutover finalize", "cutover abort"]);
            for (keyspace, pairs) in pairs() {
                let table = format!("accounts_{keyspace}");
                assert_eq!(read_table(&machine.target(), &table), pairs, "it can be looked at");
            }
            machine.runs(decision, 0);
            if in_sql {
                machine.is_whole_in_sql(&machine.target());
            } else {
                machine.is_whole_in_kv();
            }
        }
    }),
    ("\"I want to go back\" / Migrating", 1, |title| {
        let machine = Machine::copying(title);
        machine.runs(0, 0);
        machine.is_whole_in_kv();
    }),
    ("\"I want to go back\" / Committed", 1, |title| {
        let machine = Machine::committed(title);
        machine.runs(0, 0);
        machine.is_whole_in_kv();
    }),
    ("\"I want to go back\" / Tombstoned", 1, |title| {
        let machine = Machine::live(title);
        machine.runs(0, 0);
        machine.is_whole_in_kv();
        assert!(machine.at("data/app.sqlite.given-up").exists(), "it is kept");
    }),
    ("\"I want to go back\" / RerunAllowed", 1, |title| {
        let machine = Machine::live(title);
        fs::remove_file(machine.target()).expect("removes");
        machine.runs(0, 0);
        machine.is_whole_in_kv();
    }),
    ("\"The SQL file was deleted\"", 1, |title| {
        let machine = Machine::live(title);
        fs::remove_file(machine.target()).expect("removes");
        says(&machine.runs(0, 0), &["since"]);
        machine.is_whole_in_sql(&machine.target());
    }),
    ("\"It says that the SQL database lost its record\"", 2, |title| {
        let sql = |machine: &Machine, statement| {
            let connection = rusqlite::Connection::open(machine.target()).expect("opens");
            connection.execute_batch(statement).expect("runs");
        };
        let machine = Machine::live(title);
        fs::create_dir_all(machine.at("backup")).expect("a folder");
        fs::copy(machine.target(), machine.at("backup/app.sqlite")).expect("copies");
        sql(&machine, "DROP TABLE cutover_record");
        says(&machine.runs(0, 0), &["Tombstoned"]);
        machine.is_whole_in_sql(&machine.target());
        let machine = Machine::live(title);
        sql(&machine, "DROP TABLE cutover_record");
        says(&machine.runs(1, 3), &["accounts_first, accounts_second", "rename or drop"]);
        sql(&machine, "ALTER TABLE accounts_first RENAME TO kept_first");
        sql(&machine, "DROP TABLE accounts_second");
        machine.runs(1, 0);
        machine.is_whole_in_sql(&machine.target());
    }),
    ("\"The disk with the SQL file is dead\"", 1, |title| {
        let machine = Machine::live(title);
        for file in [machine.target(), machine.at("data/app.sqlite.cutover")] {
            fs::remove_file(file).expect("removes");
        }
        machine.runs(0, 0);
        machine.is_whole_in_sql(&machine.at("new/app.sqlite"));
    }),
    ("\"The disk filled up\"", 2, |title| {
        /// Fills what is left of the disk, as somebody else's log does.
        struct Fills(PathBuf);
        impl Observer for Fills {
            fn step(&mut self, name: &str, _: &str) {
                if name == "raise the attempt" {
                    let mut log = fs::File::create(&self.0).expect("creates");
                    for bytes in [64 * 1024, 1024, 1] {
                        while log.write_all(&vec![7; bytes]).is_ok() {}
                    }
                }
            }
        }
        for (block, in_sql) in [(0, true), (1, false)] {
            let machine = Machine::new(title);
            let disk = Mount::memory(&machine.at("data"), 96 * 1024);
            write_store(&machine.store(), &pairs());
            let log = machine.at("data/log");
            let failed = cutover::sql(&machine.plan(), &mut Fills(log.clone()));
            says(&failed.expect_err("the disk is full").to_string(), &["free some space"]);
            fs::remove_file(log).expect("removes");
            machine.runs(block, 0);
            if in_sql {
                machine.is_whole_in_sql(&machine.target());
            } else {
                machine.is_whole_in_kv();
            }
            drop(disk);
        }
    }),
    ("\"A pair was refused\"", 1, |title| {
        /// Blobs, but for one pair.
        struct Choosy(Blobs);
        impl Mapping for Choosy {
            fn name(&self) -> &'static str {
                "choosy"
            }
            fn tables(&self) -> Vec<Table> {
                self.0.tables()
            }
            fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
                if key == [1, 7] {
                    return Err("damaged".to_owned().into());
                }
                self.0.write(rows, key, value)
            }
            fn read_back(
                &self,
                rows: &Rows<'_>,
                visit: &mut Visit<'_>,
            ) -> Result<(), MappingError> {
                self.0.read_back(rows, visit)
            }
        }
        let machine = Machine::fresh(title);
        let plan = |budget| {
            let first = || Choosy(Blobs::new("accounts_first"));
            Plan::builder("cutover")
                .source("accounts", machine.store(), |s| {
                    s.table("first", first()).blobs("second").quarantine(budget)
                })
                .target(machine.target())
                .build()
                .expect("a plan")
        };
        let error = cutover::sql(&plan(0), &mut ()).expect_err("it is named").to_string();
        says(&error, &["0107", "damaged", "or abort"]);
        drop(cutover::sql(&plan(1), &mut ()).expect("one is put aside"));
        says(&machine.runs(0, 0), &["Tombstoned", "cutover_quarantine_cutover"]);
    }),
    ("\"I restored a backup of a store\"", 1, |title| {
        let machine = Machine::fresh(title);
        let backup = machine.at("backup/accounts");
        copy_tree(&machine.store(), &backup);
        drop(cutover::sql(&machine.plan(), &mut ()).expect("SQL"));
        fs::remove_file(machine.store()).expect("removes");
        copy_tree(&backup, &machine.store());
        let [commands] = &machine.blocks[..] else { panic!("one block") };
        // The first command tells what is wrong, with the exit code that says so.
        let (status, rest) = commands.split_once('\n').expect("two commands");
        let output = machine.shell(status);
        assert_eq!(output.status.code(), Some(4));
        says(&String::from_utf8_lossy(&output.stdout), &["has a store at", "and another at"]);
        let output = machine.shell(rest);
        assert!(output.status.success(), "{output:?}");
        machine.is_never_open_twice();
        machine.is_whole_in_sql(&machine.target());
        assert_eq!(read_store(&machine.at("data/accounts.backup")), pairs());
    }),
    ("\"I restored a backup of the SQL file\"", 1, |title| {
        let machine = Machine::committed(title);
        let old = machine.at("backup/old.sqlite");
        fs::copy(machine.target(), &old).expect("copies");
        drop(cutover::sql(&machine.plan(), &mut ()).expect("SQL"));
        fs::copy(machine.target(), machine.at("backup/app.sqlite")).expect("copies");
        fs::copy(&old, machine.target()).expect("copies");
        let [commands] = &machine.blocks[..] else { panic!("one block") };
        let (status, rest) = commands.split_once('\n').expect("two commands");
        let output = machine.shell(status);
        assert_eq!(output.status.code(), Some(4));
        says(&String::from_utf8_lossy(&output.stdout), &["an older copy was restored"]);
        let output = machine.shell(rest);
        assert!(output.status.success(), "{output:?}");
        says(&String::from_utf8_lossy(&output.stdout), &["Tombstoned"]);
        machine.is_whole_in_sql(&machine.target());
    }),
    ("\"It says that an unfinished migration is in the SQL file\"", 1, |title| {
        let machine = Machine::copying(title);
        let copy = machine.at("backup/copying.sqlite");
        fs::copy(machine.target(), &copy).expect("copies");
        drop(migrating_handle(&machine.plan()).abort().expect("aborts"));
        fs::copy(&copy, machine.target()).expect("copies");
        let error = cutover::open(&machine.plan()).expect_err("it is told").to_string();
        says(&error, &["unfinished migration"]);
        machine.runs(0, 0);
        machine.is_whole_in_kv();
        let tables = "SELECT count(*) FROM sqlite_schema";
        let connection = rusqlite::Connection::open(machine.target()).expect("opens");
        let tables: i64 = connection.query_one(tables, [], |row| row.get(0)).expect("counts");
        assert_eq!(tables, 0);
    }),
    ("\"It says that a retired store is not what was sealed\"", 2, |title| {
        let emptied = || {
            // Nothing is copied yet: what is copied need not be read again.
            let machine = Machine::fresh(title);
            drop(fresh_handle(&machine.plan()).begin().expect("begins"));
            let keyspaces = machine.at("data/accounts.retired/keyspaces");
            fs::rename(keyspaces, machine.at("backup/keyspaces")).expect("moves");
            let error = cutover::sql(&machine.plan(), &mut ()).expect_err("refused").to_string();
            says(&error, &["is not what was sealed", "is gone", "abort"]);
            machine
        };
        let machine = emptied();
        machine.runs(0, 0);
        machine.is_whole_in_sql(&machine.target());
        let machine = emptied();
        machine.runs(1, 0);
        assert!(machine.store().is_dir() && !machine.store().join("keyspaces").exists());
    }),
    ("\"I want the space back\"", 1, |title| {
        let machine = Machine::live(title);
        machine.runs(0, 0);
        assert!(!machine.at("data/accounts.retired").exists());
        machine.is_whole_in_sql(&machine.target());
    }),
    ("In scripts", 1, |title| {
        let machine = Machine::live(title);
        let printed = machine.runs(0, 0);
        let printed: serde_json::Value = serde_json::from_str(&printed).expect("one JSON object");
        assert_eq!(printed.get("state").and_then(|state| state.as_str()), Some("Tombstoned"));
    }),
];
