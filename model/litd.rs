//! `examples/litd.rs` as processes: a daemon with three stores that refer to each other, its
//! operator, and an old build of it.

mod kills;
mod port;
mod story;

use cutover::Plan;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const STORES: [&str; 3] = ["accounts", "sessions", "rules"];
const KV: [&str; 2] = ["--database-backend", "kv"];
const SQLITE: [&str; 2] = ["--database-backend", "sqlite"];
const APPROVED: [&str; 3] = ["--database-backend", "sqlite", "--approve"];

/// An example that cargo built beside this test.
fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    let profile = own.ancestors().nth(2).expect("target/PROFILE/deps/model");
    let path = profile.join("examples").join(name);
    assert!(
        path.is_file(),
        "{} is not there: `cargo test --all-features` builds it, and so does `cargo build --examples --all-features`",
        path.display()
    );
    path
}

/// A daemon that serves. It is killed where the test ends before it does.
struct Litd {
    process: Child,
    address: SocketAddr,
}

impl Drop for Litd {
    fn drop(&mut self) {
        // One that has ended can't be killed.
        let _ = self.process.kill();
        self.process.wait().expect("it ends");
    }
}

impl Litd {
    /// Starts a daemon, and waits until it serves; or what it said when it did not.
    fn start(command: &mut Command) -> Result<Self, String> {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a process");
        let mut line = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("reads");
        if let Some(address) = line.trim().strip_prefix("listening on ") {
            return Ok(Self { process, address: address.parse().expect("an address") });
        }
        let mut said = String::new();
        process.stderr.take().expect("its words").read_to_string(&mut said).expect("reads");
        let status = process.wait().expect("it ends");
        assert!(!status.success(), "it served nobody and is content: {said}");
        Err(said)
    }

    fn ask(&self, lines: &[impl AsRef<str>]) -> Vec<String> {
        ask(self.address, lines)
    }

    fn dump(&self) -> String {
        self.ask(&["dump"]).pop().expect("an answer")
    }

    fn stop(mut self) {
        assert_eq!(self.ask(&["stop"]), ["ok stopped"]);
        assert!(self.process.wait().expect("it ends").success());
    }
}

/// One answer to each line, which may be lines itself; fewer where the daemon is killed.
fn ask(address: SocketAddr, lines: &[impl AsRef<str>]) -> Vec<String> {
    let Ok(mut connection) = TcpStream::connect(address) else { return Vec::new() };
    let mut answers = BufReader::new(connection.try_clone().expect("a handle")).lines();
    let mut found = Vec::new();
    for line in lines {
        let line = format!("{}\n", line.as_ref());
        if connection.write_all(line.as_bytes()).is_err() {
            return found;
        }
        let mut answer = String::new();
        loop {
            let Some(Ok(line)) = answers.next() else { return found };
            answer.push_str(&line);
            if line.starts_with("ok ") || line.starts_with("no: ") {
                break;
            }
            answer.push('\n');
        }
        found.push(answer);
    }
    found
}

fn litd(folder: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(built("litd"));
    command.arg(folder).args(words);
    command
}

fn started(folder: &Path, words: &[&str]) -> Litd {
    Litd::start(&mut litd(folder, words)).expect("it starts")
}

fn refused(folder: &Path, words: &[&str]) -> String {
    Litd::start(&mut litd(folder, words)).err().expect("a refusal")
}

/// Starts, dumps and stops.
fn dumped(folder: &Path, words: &[&str]) -> String {
    let daemon = started(folder, words);
    let dump = daemon.dump();
    daemon.stop();
    dump
}

/// Fills the stores over the wire, and returns what a dump then says.
fn seed(folder: &Path) -> String {
    let mut lines = Vec::new();
    for i in 1..=6 {
        lines.push(format!("account name{i} {}", i * 1000));
    }
    for i in 0..12 {
        lines.push(format!("session name{} label{i}", i % 6 + 1));
    }
    for i in 0..24 {
        lines.push(format!("rule {} limit{} {}", i % 12 + 1, i / 12, i * 10));
    }
    lines.push("pay 3 999".to_owned());
    let daemon = started(folder, &KV);
    let answers = daemon.ask(&lines);
    assert_eq!(answers.len(), lines.len());
    assert!(answers.iter().all(|answer| answer.starts_with("ok ")), "{answers:?}");
    let dump = daemon.dump();
    assert!(dump.contains("account 3 name3 2001") && dump.ends_with("ok 42"), "{dump}");
    daemon.stop();
    dump
}

fn target(folder: &Path) -> PathBuf {
    folder.join("litd.sqlite")
}

/// What a dump should say, by statements that are not the daemon's.
fn dumped_by_sql(folder: &Path) -> String {
    let connection = rusqlite::Connection::open(target(folder)).expect("opens");
    let mut lines: Vec<String> = Vec::new();
    for statement in [
        "SELECT format('account %d %s %d', id, name, balance) FROM account ORDER BY id",
        "SELECT format('session %d %s %s', id, (SELECT name FROM account AS a WHERE a.id = s.account), label)
         FROM session AS s ORDER BY id",
        "SELECT format('rule %d %s %d', session, name, most) FROM rule ORDER BY session, name",
    ] {
        let mut statement = connection.prepare(statement).expect("its tables");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        lines.extend(rows.map(|row| row.expect("a row")));
    }
    lines.push(format!("ok {}", lines.len()));
    lines.join("\n")
}

/// Whether a plain connection can write a migrated table. It changes what is there.
fn sql_writes(folder: &Path) -> bool {
    target(folder).exists() && {
        let connection = rusqlite::Connection::open(target(folder)).expect("opens");
        let insert = "INSERT INTO account (name, balance) VALUES ('by hand', 1)";
        connection.execute(insert, []).is_ok()
    }
}

/// What `cutover::status` says of each store's marker.
fn markers(folder: &Path) -> Vec<&'static str> {
    let plan = STORES
        .iter()
        .fold(Plan::builder("litd"), |plan, name| {
            plan.source(*name, folder.join(name), |s| s.every_keyspace().may_be_missing())
        })
        .target(target(folder))
        .build()
        .expect("a plan");
    let status = cutover::status(&plan).expect("a status");
    status.sources.iter().map(|source| source.marker).collect()
}
