//! A migration to look at: three stores as a small daemon would have them, moved and lost and moved
//! again. Everything stays on disk.

use crate::exit::{INTERRUPTED, REFUSED, Stop};
use crate::progress::Shown;
use crate::report::say;
use cutover::{Found, Plan, open, ticket};
use std::fs;
use std::path::{Path, PathBuf};

/// The stores, each with its keyspace and how many pairs.
const STORES: [(&str, &str, u32); 3] =
    [("accounts", "by_id", 2_000), ("sessions", "by_token", 5_000), ("rules", "by_name", 40)];

/// `cutover demo`.
pub(crate) fn run(folder: &Path) -> Result<(), Stop> {
    prepare(folder)?;
    let folder = fs::canonicalize(folder).map_err(|error| failed("find", folder, &error))?;
    say(&format!(
        "1. A small daemon writes its stores below {}, with fjall alone:",
        folder.display()
    ));
    for (name, keyspace, pairs) in STORES {
        fill(&folder.join(name), keyspace, pairs)?;
        say(&format!("     {name}: {pairs} pairs in keyspace '{keyspace}'"));
    }
    let file = folder.join("plan.toml");
    fs::write(&file, plan_text()).map_err(|error| failed("write", &file, &error))?;
    let plan = crate::plan_file::read(&file)?;
    say(&format!("2. cutover migrate --plan {}", file.display()));
    migrate(&plan)?;
    say("3. The daemon's old version starts, and fjall refuses every store:");
    for (name, _, _) in STORES {
        refused(name, &folder.join(name))?;
    }
    let marker = folder.join("accounts");
    say(&format!("4. cat {}", marker.display()));
    let text = fs::read_to_string(&marker).map_err(|error| failed("read", &marker, &error))?;
    text.lines().for_each(|line| say(&format!("     {line}")));
    lose(&plan)?;
    say("6. cutover rerun: the retired stores are copied once more.");
    rerun(&plan)?;
    look_further(&folder, &file);
    Ok(())
}

fn prepare(folder: &Path) -> Result<(), Stop> {
    let refused =
        |what: &str, error: &std::io::Error| Stop { code: REFUSED, ..failed(what, folder, error) };
    fs::create_dir_all(folder).map_err(|error| refused("create", &error))?;
    let mut entries = fs::read_dir(folder).map_err(|error| refused("list", &error))?;
    if entries.next().is_some() {
        return Err(Stop::refused(format!(
            "{} is not empty, and the demo touches nothing that is there; give another folder, or \
             remove this one",
            folder.display()
        )));
    }
    Ok(())
}

/// Writes a store as a program that knows nothing of cutover does.
fn fill(path: &Path, keyspace: &str, pairs: u32) -> Result<(), Stop> {
    let write = || -> fjall::Result<()> {
        let database = fjall::Database::builder(path).open()?;
        let keyspace = database.keyspace(keyspace, fjall::KeyspaceCreateOptions::default)?;
        for number in 0..pairs {
            keyspace.insert(number.to_be_bytes(), format!("value {number}"))?;
        }
        database.persist(fjall::PersistMode::SyncAll)
    };
    write().map_err(|error| failed("write", path, &error))
}

fn plan_text() -> String {
    let sources = STORES.map(|(name, keyspace, _)| {
        format!(
            "\n[[source]]\nname = \"{name}\"\npath = \"{name}\"\ntables = {{ {keyspace} = \"{name}\" }}\n"
        )
    });
    format!(
        "# The plan of the demo. Paths begin at this file's folder.\nname = \"demo\"\ntarget = \"daemon.sqlite\"\n{}",
        sources.concat()
    )
}

fn migrate(plan: &Plan) -> Result<(), Stop> {
    let Found::Fresh(handle) = open(plan)? else {
        return Err(changed());
    };
    let migrating = handle.begin()?;
    say("     every store is sealed: nobody writes it now");
    let committed = migrating.run(&mut Shown::new())?;
    say("     every pair is copied, re-read and compared, and the commit point has passed");
    drop(committed.finish()?.into_sql()?);
    say("     every store has its tombstone, and the SQL database is live");
    Ok(())
}

/// Opens a store as the old daemon would. Were it to open, the demo would say so.
fn refused(name: &str, path: &Path) -> Result<(), Stop> {
    match fjall::Database::builder(path).open() {
        Err(error) => {
            say(&format!("     {name}: {error}"));
            Ok(())
        }
        Ok(_) => Err(Stop::new(
            INTERRUPTED,
            format!("fjall opened {}, which it must not; report this", path.display()),
        )),
    }
}

fn lose(plan: &Plan) -> Result<(), Stop> {
    let target = plan.target();
    say(&format!("5. rm {}", target.display()));
    fs::remove_file(target).map_err(|error| failed("remove", target, &error))?;
    let status = cutover::status(plan)?;
    say(&format!("     the state is {} now: the tombstones still stand", status.state));
    for (name, path) in plan.sources() {
        refused(name, path)?;
    }
    Ok(())
}

fn rerun(plan: &Plan) -> Result<(), Stop> {
    let Found::RerunAllowed(handle) = open(plan)? else {
        return Err(changed());
    };
    let migrating = handle.rerun(ticket::Rerun::losing_writes_made_in_sql())?;
    let mut tombstoned = migrating.run(&mut Shown::new())?.finish()?;
    let verified = tombstoned.verify(&mut ())?;
    for found in verified.keyspaces.iter().filter(|_| verified.is_whole()) {
        say(&format!("     {}/{}: {} pairs, verified", found.source, found.keyspace, found.pairs));
    }
    drop(tombstoned.into_sql()?);
    Ok(())
}

fn look_further(folder: &Path, file: &Path) {
    let (folder, file) = (folder.display(), file.display());
    say("Everything is left as it is. To look further:");
    say(&format!("     ls {folder}"));
    say(&format!("     cat {folder}/sessions"));
    say(&format!("     sqlite3 {folder}/daemon.sqlite 'SELECT count(*) FROM accounts'"));
    for verb in ["status", "verify"] {
        say(&format!("     cutover {verb} --plan {file}"));
    }
}

fn failed(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Stop {
    let path: PathBuf = path.to_owned();
    Stop::new(
        INTERRUPTED,
        format!(
            "can't {what} {}: {error}; give another folder, which is empty or missing and can be written",
            path.display()
        ),
    )
}

fn changed() -> Stop {
    Stop::new(INTERRUPTED, "something else has changed the demo's folder; give another one")
}
