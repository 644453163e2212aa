//! What the daemon does, on whatever backend, and its line protocol: a request is a line, an answer
//! is lines up to `ok …` or `no: …`. Nothing here knows of cutover.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub type Answer<T> = Result<T, Box<dyn Error>>;

/// What is `Ok` is durable.
pub trait Ledger {
    fn add_account(&mut self, name: &str, balance: u32) -> Answer<u32>;
    fn pay(&mut self, account: u32, amount: u32) -> Answer<u32>;
    fn add_session(&mut self, account: &str, label: &str) -> Answer<u32>;
    fn set_rule(&mut self, session: u32, name: &str, limit: u32) -> Answer<u32>;
    fn dump(&mut self) -> Answer<Vec<String>>;
}

/// Serves until somebody says `stop`.
pub fn serve(ledger: &mut dyn Ledger) -> Answer<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let mut connection = listener.accept()?.0;
        for line in BufReader::new(connection.try_clone()?).lines() {
            let Ok(line) = line else { break };
            if line == "stop" {
                return say(&mut connection, "ok stopped");
            }
            let answer = match answer(ledger, &line) {
                Ok(answer) => answer,
                Err(error) => format!("no: {error}"),
            };
            if say(&mut connection, &answer).is_err() {
                break;
            }
        }
    }
}

/// A line in one packet: two would wait for each other.
fn say(connection: &mut TcpStream, line: &str) -> Answer<()> {
    Ok(connection.write_all(format!("{line}\n").as_bytes())?)
}

fn answer(ledger: &mut dyn Ledger, line: &str) -> Answer<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let done = match words.as_slice() {
        ["account", name, balance] => ledger.add_account(name, balance.parse()?)?,
        ["pay", account, amount] => ledger.pay(account.parse()?, amount.parse()?)?,
        ["session", account, label] => ledger.add_session(account, label)?,
        ["rule", session, name, limit] => {
            ledger.set_rule(session.parse()?, name, limit.parse()?)?
        }
        ["dump"] => {
            let mut lines = ledger.dump()?;
            lines.push(format!("ok {}", lines.len()));
            return Ok(lines.join("\n"));
        }
        _ => return Err("account, pay, session, rule, dump or stop".into()),
    };
    Ok(format!("ok {done}"))
}

/// This same program as a daemon on `folder`, with words of the command line behind it; for the demo.
pub fn start(folder: &Path, words: &[&str]) -> Answer<(Child, SocketAddr)> {
    let mut daemon = Command::new(std::env::current_exe()?)
        .arg(folder)
        .args(words)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let Some(address) = line.trim().strip_prefix("listening on ") else {
        daemon.wait()?;
        return Err("the daemon did not start".into());
    };
    Ok((daemon, address.parse()?))
}

/// Says each line to a daemon, and returns the lines of all the answers.
pub fn ask(address: SocketAddr, lines: &[&str]) -> Answer<Vec<String>> {
    let mut connection = TcpStream::connect(address)?;
    let mut answers = BufReader::new(connection.try_clone()?).lines();
    let mut found = Vec::new();
    for line in lines {
        say(&mut connection, line)?;
        loop {
            let answer = answers.next().ok_or("no answer")??;
            let last = answer.starts_with("ok ") || answer.starts_with("no: ");
            found.push(answer);
            if last {
                break;
            }
        }
    }
    Ok(found)
}
