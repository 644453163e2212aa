//! Stores, SQL files and markers in a folder, and what is done to them.

use super::act::{ACTS, Act, StopAfter, Told};
use super::follow::{SOURCES, Strike, World};
use crate::child::{self, SIGKILL};
use crate::common::{self, Pairs, folder_in_memory, write_store};
use crate::proof::hands::Name;
use crate::proof::world::PLACES;
use cutover::fault::{ENVIRONMENT, Fault, TRACE_ENVIRONMENT, arm, arm_at_step, taken};
use cutover::{Plan, SourceBuilder};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

/// How a process of its own tells what it was told.
const TOLD: &str = "told: ";

/// What belongs to an SQL file.
pub const SQL_FILES: [&str; 4] = ["", "-journal", "-wal", "-shm"];

pub struct Disk {
    pub root: tempfile::TempDir,
    /// What each content of the model is in a real store.
    pub contents: BTreeMap<u8, Pairs>,
    /// The rows that the daemon wrote, by table: at each place, and in the copy that was put aside.
    pub rows: [Rows; PLACES],
    pub rows_aside: Rows,
}

pub type Rows = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// The plan, as it names the target's place. The small daemon's, but any source may be missing.
fn plan(folder: &Path, place: usize) -> Plan {
    let define = |_: &str, source: SourceBuilder| source.may_be_missing().every_keyspace();
    common::small_plan_with(&common::SOURCES, folder, define)
        .target(sql(folder, place))
        // Several chunks for each keyspace.
        .chunk_bytes(30)
        .build()
        .expect("a plan")
}

pub fn sql(folder: &Path, place: usize) -> PathBuf {
    folder.join(["sql", "other"][place]).join("target.sqlite")
}

pub fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Plays an act in a process of its own, whatever comes of it.
pub fn play(act: &str, folder: &Path, place: &str) {
    let is_it = |found: &&Act| format!("{found:?}") == act;
    let act = ACTS.iter().find(is_it).expect("an act");
    let plan = plan(folder, place.parse().expect("a number"));
    println!("\n{TOLD}{:?}", act.play(&plan, &mut ()));
}

impl Disk {
    /// The stores of `world`, which is fresh.
    pub fn new(world: &World) -> Self {
        let rows = std::array::from_fn(|_| Rows::new());
        let mut disk = Self {
            root: folder_in_memory(),
            contents: BTreeMap::from([(0, Pairs::new())]),
            rows,
            rows_aside: Rows::new(),
        };
        for place in 0..PLACES {
            fs::create_dir_all(sql(&disk.folder(), place).with_file_name("")).expect("a folder");
        }
        fs::create_dir(disk.aside("")).expect("a folder");
        for at in 0..SOURCES {
            if let Some(store) = world.store(at) {
                let pairs = common::small_store(store.writes, 4);
                write_store(&disk.name(at, Name::Path), &pairs);
                disk.contents.insert(store.writes, pairs);
            }
        }
        disk
    }

    pub fn folder(&self) -> PathBuf {
        self.root.path().join("work")
    }

    pub fn aside(&self, name: &str) -> PathBuf {
        self.root.path().join("aside").join(name)
    }

    pub fn name(&self, at: usize, name: Name) -> PathBuf {
        let path = self.folder().join(common::SOURCES[at]);
        match name {
            Name::Path => path,
            Name::Retired => with(&path, ".retired"),
        }
    }

    pub fn plan(&self, world: &World) -> Plan {
        plan(&self.folder(), world.place)
    }

    /// Plays an act; what its caller was told, and the steps that the driver was about to take.
    pub fn play(&self, act: Act, world: &World, strike: Option<Strike>) -> (String, Vec<String>) {
        if let Some(Strike::Kill { step, point }) = strike {
            return self.killed(act, world, step, point);
        }
        let plan = self.plan(world);
        let told = match strike {
            Some(Strike::Fail { step, point }) => {
                arm_at_step(step, Some(Fault::Fail(point)));
                act.play(&plan, &mut ())
            }
            Some(Strike::Cancel { chunks }) => {
                arm(None);
                act.play(&plan, &mut StopAfter(chunks, 0.into()))
            }
            Some(Strike::Kill { .. }) | None => {
                arm(None);
                act.play(&plan, &mut ())
            }
        };
        let trace = taken().iter().map(|taken| format!("{taken:?}")).collect();
        arm(None);
        (format!("{told:?}"), trace)
    }

    fn killed(&self, act: Act, world: &World, step: usize, point: usize) -> (String, Vec<String>) {
        let trace = self.root.path().join("trace");
        let _ = fs::remove_file(&trace);
        let folder = self.folder();
        let words = [
            "conform",
            &format!("{act:?}"),
            folder.to_str().expect("UTF-8"),
            &world.place.to_string(),
        ];
        let output = child::command(&words)
            .env(ENVIRONMENT, format!("kill:{point}@{step}"))
            .env(TRACE_ENVIRONMENT, &trace)
            .output()
            .expect("a child process");
        let lines = fs::read_to_string(&trace).expect("a trace");
        let lines = lines.lines().map(str::to_owned).collect();
        let text = String::from_utf8_lossy(&output.stdout);
        let told = text.lines().find_map(|line| line.strip_prefix(TOLD));
        let told = match (output.status.signal(), told) {
            (Some(SIGKILL), None) => format!("{:?}", Told::Killed),
            (None, Some(told)) if output.status.success() => told.to_owned(),
            _ => panic!(
                "{act:?}, {}: {text} {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            ),
        };
        (told, lines)
    }

    /// A stock program writes one pair more to the store at the source's path.
    pub fn write_kv(&mut self, at: usize, before: u8, content: u8) {
        let mut pairs = self.contents[&before].clone();
        let first = pairs.entry("first".to_owned()).or_default();
        first.insert(vec![9, content], vec![content]);
        write_store(&self.name(at, Name::Path), &pairs);
        self.contents.insert(content, pairs);
    }

    /// The daemon writes one row to a migrated table of the live target.
    pub fn write_sql(&mut self, world: &World, row: u8) {
        let Some(record) = world.record() else { return };
        let full = |at: &usize| record.image[*at].is_some_and(|image| image != 0);
        let Some(at) = (0..SOURCES).find(full) else { return };
        let table = format!("{}_first", common::SOURCES[at]);
        let (key, value) = (vec![200, row], vec![row]);
        let connection =
            rusqlite::Connection::open(sql(&self.folder(), world.place)).expect("opens");
        let insert = format!("INSERT INTO \"{table}\" VALUES (?1, ?2)");
        connection.execute(&insert, (&key, &value)).expect("the daemon writes");
        self.rows[world.place].entry(table).or_default().insert(key, value);
    }
}

pub fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).expect("removes");
    } else if path.exists() {
        fs::remove_file(path).expect("removes");
    }
}
