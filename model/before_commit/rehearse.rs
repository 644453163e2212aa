//! The rehearsal: it finds what a migration would stop at, and leaves both sides as they were.

use crate::command::{self, text, unchanged};
use crate::common::{small_plan_builder, small_store, snapshot, write_store};
use crate::crash::{self, kill::killed};
use crate::daemon::{Daemon, StopAfter, fresh_handle, settle, sqlite};
use crate::refusals::Mount;
use crate::refusals::disk_space::compressed_stores;
use cutover::fault::{Fault, arm, passed};
use cutover::{
    Cause, Error, Mapping, MappingError, Plan, Rehearsal, Rows, SourceBuilder, Table, Visit,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const LEFT_OVER: &str = "target.sqlite.cutover-rehearsal";

/// A rehearsal, after which every name and every byte below `folder` is as it was.
fn rehearsed(folder: &Path, plan: &Plan) -> Result<Rehearsal, Error> {
    let before = snapshot(folder);
    let rehearsed = plan.rehearse(&mut ());
    unchanged(folder, &before);
    rehearsed
}

fn refused(folder: &Path, plan: &Plan) -> Cause {
    match rehearsed(folder, plan) {
        Err(Error::Refused(cause)) => cause,
        other => panic!("it was not refused: {other:?}"),
    }
}

#[test]
fn i8_a_rehearsal_copies_and_checks_everything_and_leaves_every_byte_as_it_was() {
    let daemon = Daemon::fresh();
    let rows = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&rows);
    let plan = small_plan_builder(daemon.path()).check(move |connection| {
        let all =
            "SELECT (SELECT count(*) FROM accounts_first) + (SELECT count(*) FROM sessions_second)";
        count.store(
            connection.query_one(all, [], |row| row.get(0)).expect("counts"),
            Ordering::Relaxed,
        );
        Ok(())
    });
    let plan = plan.build().expect("a plan");
    let found = rehearsed(daemon.path(), &plan).expect("nothing stops it");
    assert_eq!(rows.load(Ordering::Relaxed), 40);
    assert_eq!((found.plan.as_str(), found.checked), ("small", true));
    let keyspaces: Vec<_> = found
        .keyspaces
        .iter()
        .map(|k| (k.source.as_str(), k.keyspace.as_str(), k.tables.join(" "), k.pairs, k.bytes))
        .collect();
    let wanted = [
        ("accounts", "first"),
        ("accounts", "second"),
        ("sessions", "first"),
        ("sessions", "second"),
    ];
    assert_eq!(keyspaces, wanted.map(|(s, k)| (s, k, format!("{s}_{k}"), 20, 120)));
    assert!(found.database_bytes > 480 && found.database_bytes.is_multiple_of(16 * 1024));
    let spent: f64 = found.keyspaces.iter().map(|keyspace| keyspace.seconds).sum();
    assert!(found.keyspaces.iter().all(|k| k.seconds > 0.0) && spent <= found.seconds);
    // And the real thing goes as it was rehearsed.
    drop(cutover::sql(&plan, &mut ()).expect("SQL"));
}

/// A mapping of one's own that looks up a row of a table that is not part of the plan.
struct LooksUp;

impl Mapping for LooksUp {
    fn name(&self) -> &'static str {
        "looks up"
    }

    fn tables(&self) -> Vec<Table> {
        vec![Table::new(
            "mapped",
            "CREATE TABLE mapped (key BLOB PRIMARY KEY, value BLOB NOT NULL, owner TEXT NOT NULL) STRICT",
        )]
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        let owner = rows.query_one("SELECT name FROM owner WHERE id = ?1", [key[1]], |row| {
            row.get::<_, String>(0)
        })?;
        let owner = owner.ok_or_else(|| MappingError::Refused("it has no owner".into()))?;
        rows.execute("INSERT INTO mapped VALUES (?1, ?2, ?3)", (key, value, owner)).map(drop)
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        rows.query_each("SELECT key, value FROM mapped", [], |row| {
            visit(&row.get::<_, Vec<u8>>(0)?, &row.get::<_, Vec<u8>>(1)?)
        })
    }
}

fn looking_up(folder: &Path) -> Plan {
    looking_up_with(folder, |s| s, 1 << 20)
}

fn looking_up_with(
    folder: &Path,
    with: impl FnOnce(SourceBuilder) -> SourceBuilder,
    chunk_bytes: usize,
) -> Plan {
    let plan = Plan::builder("small").chunk_bytes(chunk_bytes);
    let plan = plan.source("accounts", folder.join("accounts"), |s| {
        with(s.table("first", LooksUp).leave_out("second"))
    });
    plan.target(folder.join("target.sqlite")).build().expect("a plan")
}

/// Owners of the keys up to `last`.
fn owners(daemon: &Daemon, mode: &str, last: u8) {
    let rows: Vec<String> = (0..=last).map(|id| format!("({id}, 'owner {id}')")).collect();
    daemon.sqlite(&format!(
        "PRAGMA journal_mode = {mode}; CREATE TABLE owner (id INTEGER PRIMARY KEY, name TEXT);
         INSERT INTO owner VALUES {}",
        rows.join(", ")
    ));
}

#[test]
fn i8_rows_of_the_target_can_be_looked_up_and_the_target_is_left_alone() {
    for mode in ["delete", "wal"] {
        let daemon = Daemon::fresh();
        owners(&daemon, mode, 19);
        let found = rehearsed(daemon.path(), &looking_up(daemon.path())).expect("nothing stops it");
        assert_eq!(found.keyspaces.len(), 1, "{mode}");
        assert_eq!(found.keyspaces[0].pairs, 20, "{mode}");
    }
}

#[test]
fn a_target_in_wal_that_another_program_has_open_is_rehearsed_with_what_it_holds() {
    let daemon = Daemon::fresh();
    sqlite(&daemon.at("target.sqlite"), "PRAGMA journal_mode = WAL");
    let open = rusqlite::Connection::open(daemon.at("target.sqlite")).expect("opens");
    owners(&daemon, "wal", 19);
    let found = looking_up(daemon.path()).rehearse(&mut ()).expect("nothing stops it");
    assert_eq!(found.keyspaces[0].pairs, 20);
    let rows: i64 = open.query_one("SELECT count(*) FROM owner", [], |r| r.get(0)).expect("counts");
    assert_eq!(rows, 20);
}

/// Source, number, budget, and the pairs that are told.
fn pairs_refused(cause: &Cause) -> (&str, u64, u64, Vec<String>) {
    let Cause::PairsRefused { name, refused, budget, first, .. } = cause else {
        panic!("{cause:?}")
    };
    (name, *refused, *budget, first.iter().map(ToString::to_string).collect())
}

#[test]
fn a_rehearsal_tells_every_pair_that_is_refused() {
    let daemon = Daemon::fresh();
    owners(&daemon, "delete", 15);
    let told: Vec<String> =
        (0x10..=0x13).map(|id| format!("first/01{id:02x}: it has no owner")).collect();
    // In one chunk, and in one for each few pairs.
    for chunk_bytes in [64, 1 << 20] {
        for budget in [0, 1, 3] {
            let plan = looking_up_with(daemon.path(), |s| s.quarantine(budget), chunk_bytes);
            let cause = refused(daemon.path(), &plan);
            assert_eq!(pairs_refused(&cause), ("accounts", 4, budget, told.clone()));
        }
        let plan = looking_up_with(daemon.path(), |s| s.quarantine(4), chunk_bytes);
        let found = rehearsed(daemon.path(), &plan).expect("nothing stops it");
        assert_eq!((found.keyspaces[0].pairs, found.keyspaces[0].quarantined), (20, 4));
        let refused = found.keyspaces[0].refused.iter().map(ToString::to_string);
        assert_eq!(refused.collect::<Vec<_>>(), told);
    }
    let cause = refused(daemon.path(), &looking_up(daemon.path()));
    assert!(
        cause.to_string().starts_with(
            "4 pairs of source 'accounts' can't be mapped, and the plan allows 0 in quarantine: \
             first/0110: it has no owner; first/0111: it has no owner; "
        ),
        "{cause}"
    );
}

#[test]
fn a_rehearsal_tells_the_first_refused_pairs_of_each_source_and_how_many_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut plan = Plan::builder("small");
    for source in ["accounts", "sessions"] {
        let pairs = (0..30).map(|id| (vec![1, id], b"x".to_vec())).collect();
        write_store(&folder.path().join(source), &[("first".to_owned(), pairs)].into());
        let table = format!("mapped_{source}");
        plan = plan
            .source(source, folder.path().join(source), |s| s.table("first", RefusesAll(table)));
    }
    settle(folder.path());
    let plan = plan.target(folder.path().join("target.sqlite")).build().expect("a plan");
    let cause = refused(folder.path(), &plan);
    let Cause::Several(causes) = &cause else { panic!("{cause:?}") };
    for (cause, source) in causes.iter().zip(["accounts", "sessions"]) {
        let (name, refused, budget, told) = pairs_refused(cause);
        assert_eq!((name, refused, budget, told.len()), (source, 30, 0, 20));
        // On one line, and nothing for a terminal to obey.
        assert_eq!(told[19], "first/0113: never  [31m");
        let text = cause.to_string();
        assert!(text.contains("; first/0113: never  [31m; and 10 more; fix"), "{text}");
    }
}

/// It refuses every pair.
struct RefusesAll(String);

impl Mapping for RefusesAll {
    fn name(&self) -> &'static str {
        "refuses all"
    }

    fn tables(&self) -> Vec<Table> {
        vec![Table::new(&self.0, format!("CREATE TABLE {} (key BLOB) STRICT", self.0))]
    }

    fn write(&self, _: &Rows<'_>, _: &[u8], _: &[u8]) -> Result<(), MappingError> {
        Err(MappingError::Refused("never\n\u{1b}[31m".into()))
    }

    fn read_back(&self, _: &Rows<'_>, _: &mut Visit<'_>) -> Result<(), MappingError> {
        Ok(())
    }
}

/// As `LooksUp`, with an index that no two keys fit into.
struct Clashes;

impl Mapping for Clashes {
    fn name(&self) -> &'static str {
        "clashes"
    }

    fn tables(&self) -> Vec<Table> {
        let clash = "CREATE UNIQUE INDEX clash ON mapped (length(key))";
        LooksUp.tables().into_iter().map(|table| table.index(clash)).collect()
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        LooksUp.write(rows, key, value)
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        LooksUp.read_back(rows, visit)
    }
}

#[test]
fn a_rehearsal_that_fails_behind_a_refused_pair_tells_both() {
    let daemon = Daemon::fresh();
    owners(&daemon, "delete", 15);
    for budget in [0, 2] {
        let plan = Plan::builder("small")
            .source("accounts", daemon.at("accounts"), |s| {
                s.table("first", Clashes).leave_out("second").quarantine(budget)
            })
            .target(daemon.at("target.sqlite"));
        let cause = refused(daemon.path(), &plan.build().expect("a plan"));
        let Cause::Several(causes) = &cause else { panic!("{cause:?}") };
        let [pairs, index] = &causes[..] else { panic!("{causes:?}") };
        assert_eq!(pairs_refused(pairs).1, 4, "{pairs:?}");
        assert!(matches!(index, Cause::Index { .. }), "{index:?}");
    }
}

/// It refuses the first pair that it is given, and takes it the next time.
struct RefusesOnce(std::sync::atomic::AtomicBool);

impl Mapping for RefusesOnce {
    fn name(&self) -> &'static str {
        "refuses once"
    }

    fn tables(&self) -> Vec<Table> {
        LooksUp.tables()
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        if self.0.swap(false, Ordering::Relaxed) {
            return Err(MappingError::Refused("not today".into()));
        }
        LooksUp.write(rows, key, value)
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        LooksUp.read_back(rows, visit)
    }
}

#[test]
fn a_pair_that_is_refused_in_one_pass_of_a_rehearsal_alone_is_told_as_a_migration_tells_it() {
    let daemon = Daemon::fresh();
    owners(&daemon, "delete", 19);
    let plan = Plan::builder("small")
        .source("accounts", daemon.at("accounts"), |s| {
            s.table("first", RefusesOnce(true.into())).leave_out("second")
        })
        .target(daemon.at("target.sqlite"));
    let cause = refused(daemon.path(), &plan.build().expect("a plan"));
    let Cause::PairRefused { name, keyspace, key, reason } = &cause else { panic!("{cause:?}") };
    let told = [name.as_str(), keyspace, key, reason];
    assert_eq!(told, ["accounts", "first", "0100", "not today"]);
}

/// Whatever is refused is counted, and takes no room.
#[test]
fn refused_pairs_fill_no_disk_in_a_rehearsal() {
    let folder = tempfile::tempdir().expect("a folder");
    let _disk = Mount::memory(folder.path(), 4 * 1024);
    compressed_stores(folder.path());
    settle(folder.path());
    let all = Plan::builder("all")
        .source("accounts", folder.path().join("accounts"), |s| {
            s.table("k", RefusesAll("mapped".into()))
        })
        .target(folder.path().join("target.sqlite"));
    let all = all.build().expect("a plan");
    // fjall's workers may leave a list of tables behind, which the next open without them removes.
    cutover::preview(&all, &mut ()).expect("looks");
    let cause = refused(folder.path(), &all);
    assert!(pairs_refused(&cause).1 > 20, "{cause:?}");
}

#[test]
fn two_rehearsals_into_one_target_do_not_meet() {
    let daemon = Daemon::fresh();
    let (folder, asked) = (daemon.path().to_owned(), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&asked);
    let plan = looking_up_with(daemon.path(), |s| s, 1 << 20);
    owners(&daemon, "delete", 19);
    let first = Plan::builder("first")
        .source("sessions", daemon.at("sessions"), |s| s.every_keyspace())
        .target(daemon.at("target.sqlite"))
        .check(move |_| {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.join(LEFT_OVER)).expect("a folder").permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "others may read it");
            let error = plan.rehearse(&mut ()).expect_err("another is at work");
            let Error::Refused(Cause::Locked { path, .. }) = &error else { panic!("{error:?}") };
            assert!(path.ends_with(LEFT_OVER), "{error}");
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
    rehearsed(daemon.path(), &first.build().expect("a plan")).expect("nothing stops it");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn a_rehearsal_that_is_cancelled_behind_a_refused_pair_is_told_as_that() {
    struct Stops(u32);
    impl cutover::Observer for Stops {
        fn progress(&mut self, _: &cutover::Progress) {
            self.0 += 1;
        }
        fn cancelled(&self) -> bool {
            self.0 > 8
        }
    }
    let daemon = Daemon::fresh();
    owners(&daemon, "delete", 5);
    let plan = looking_up_with(daemon.path(), |s| s, 1);
    let before = snapshot(daemon.path());
    let error = plan.rehearse(&mut Stops(0)).expect_err("it is cancelled");
    assert!(matches!(error, Error::Refused(Cause::Cancelled)), "{error:?}");
    unchanged(daemon.path(), &before);
}

#[test]
fn a_rehearsal_finds_a_check_that_says_no() {
    let daemon = Daemon::fresh();
    let plan = small_plan_builder(daemon.path()).check(|_| Err("too few accounts".to_owned()));
    let cause = refused(daemon.path(), &plan.build().expect("a plan"));
    assert!(matches!(&cause, Cause::CheckRefused { .. }), "{cause:?}");
    assert!(cause.to_string().contains("says: too few accounts; fix what it found"), "{cause}");
}

/// It writes what it is given, and reads one pair less.
struct Loses;

impl Mapping for Loses {
    fn name(&self) -> &'static str {
        "loses"
    }

    fn tables(&self) -> Vec<Table> {
        vec![Table::new("lossy", "CREATE TABLE lossy (key BLOB, value BLOB)")]
    }

    fn write(&self, rows: &Rows<'_>, key: &[u8], value: &[u8]) -> Result<(), MappingError> {
        rows.execute("INSERT INTO lossy VALUES (?1, ?2)", (key, value)).map(drop)
    }

    fn read_back(&self, rows: &Rows<'_>, visit: &mut Visit<'_>) -> Result<(), MappingError> {
        rows.query_each("SELECT key, value FROM lossy LIMIT 19", [], |row| {
            visit(&row.get::<_, Vec<u8>>(0)?, &row.get::<_, Vec<u8>>(1)?)
        })
    }
}

#[test]
fn a_rehearsal_finds_a_mapping_that_does_not_read_back_what_it_wrote() {
    let daemon = Daemon::fresh();
    let plan = Plan::builder("small")
        .source("accounts", daemon.at("accounts"), |s| s.table("first", Loses).leave_out("second"))
        .target(daemon.at("target.sqlite"));
    let error = rehearsed(daemon.path(), &plan.build().expect("a plan")).expect_err("it is found");
    let Error::Verification(found) = &error else { panic!("{error:?}") };
    assert_eq!((found.expected_pairs, found.found_pairs), (20, 19));
    assert!(error.to_string().ends_with("fix the mapping, and rehearse again"), "{error}");
}

#[test]
fn a_rehearsal_is_refused_while_a_store_is_in_use_and_once_a_migration_has_begun() {
    let daemon = Daemon::fresh();
    let store = fjall::Database::builder(daemon.at("accounts")).open().expect("opens");
    let error = daemon.plan().rehearse(&mut ()).expect_err("it is in use");
    assert!(matches!(error, Error::Refused(Cause::SourceBusy { .. })), "{error:?}");
    drop(store);
    let handle = fresh_handle(&daemon.plan());
    let error = daemon.plan().rehearse(&mut ()).expect_err("another cutover works on it");
    assert!(matches!(error, Error::Refused(Cause::Locked { .. })), "{error:?}");
    drop(handle);
    for daemon in [Daemon::sealed(), Daemon::copying(), Daemon::committed(), Daemon::live()] {
        let cause = refused(daemon.path(), &daemon.plan());
        assert!(matches!(cause, Cause::State { .. }), "{cause:?}");
    }
}

#[test]
fn a_rehearsal_that_is_cancelled_or_whose_check_panics_throws_its_database_away() {
    let daemon = Daemon::fresh();
    let before = snapshot(daemon.path());
    let error = daemon.plan().rehearse(&mut StopAfter { chunks: 2 }).expect_err("it stops");
    assert!(matches!(error, Error::Refused(Cause::Cancelled)), "{error:?}");
    unchanged(daemon.path(), &before);
    let plan = small_plan_builder(daemon.path()).check(|_| panic!("a mistake in the check"));
    let plan = plan.build().expect("a plan");
    let rehearse = std::panic::AssertUnwindSafe(|| plan.rehearse(&mut ()).map(drop));
    std::panic::catch_unwind(rehearse).expect_err("it panics");
    unchanged(daemon.path(), &before);
}

#[test]
fn a_rehearsal_that_has_no_room_says_so_and_gives_the_room_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Mount::memory(folder.path(), 4 * 1024);
    let (_, plan) = compressed_stores(folder.path());
    // fjall's workers may leave a list of tables behind, which the next open without them removes.
    settle(folder.path());
    cutover::preview(&plan, &mut ()).expect("looks");
    let cause = refused(folder.path(), &plan);
    assert!(matches!(&cause, Cause::Engine { engine: "SQLite", .. }), "{cause:?}");
    assert!(cause.to_string().contains("full") && cause.to_string().contains("free"), "{cause}");
    // A target that is there is copied, so its room is asked for before.
    disk.grow(64 * 1024);
    let target = folder.path().join("target.sqlite");
    sqlite(&target, "CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(40000000))");
    let cause = refused(folder.path(), &plan);
    assert!(matches!(&cause, Cause::DiskFull { .. }), "{cause:?}");
    sqlite(&target, "DROP TABLE t; VACUUM");
    rehearsed(folder.path(), &plan).expect("it has room now");
}

/// Stores, a target that holds something, and how all of it was before.
fn place() -> (tempfile::TempDir, PathBuf, BTreeMap<String, Option<Vec<u8>>>) {
    let folder = tempfile::tempdir().expect("a folder");
    let stores = folder.path().join("work");
    fs::create_dir(&stores).expect("a folder");
    crate::common::small_daemon(&stores);
    settle(&stores);
    sqlite(&stores.join("target.sqlite"), "CREATE TABLE mine (x); INSERT INTO mine VALUES (1)");
    let before = snapshot(&stores);
    (folder, stores, before)
}

/// Whatever was there is there, as it was.
fn keeps(stores: &Path, before: &BTreeMap<String, Option<Vec<u8>>>, after: &str) {
    let found = snapshot(stores);
    for (name, content) in before {
        assert!(found.get(name) == Some(content), "{name} after {after}");
    }
}

#[test]
fn i8_what_a_killed_rehearsal_leaves_is_removed_by_the_next_and_hinders_nobody() {
    let (_folder, stores, before) = place();
    arm(None);
    crash::play("rehearse", &stores).expect("nothing stops it");
    let points = passed();
    arm(None);
    unchanged(&stores, &before);
    let mut left = Vec::new();
    for (at, point) in (1..).zip(&points) {
        let after = format!("a kill at {at}, '{point}'");
        assert!(killed("rehearse", &stores, at), "{after} did not happen");
        keeps(&stores, &before, &after);
        if stores.join(LEFT_OVER).exists() {
            left.push(at);
        }
        crash::play("rehearse", &stores).unwrap_or_else(|error| panic!("{after}: {error}"));
        unchanged(&stores, &before);
    }
    println!("killed at each of {} points, {} left a folder", points.len(), left.len());
    // A migration goes by a left-over.
    assert!(killed("rehearse", &stores, left[left.len() / 2]));
    assert!(stores.join(LEFT_OVER).exists());
    crash::play("sql", &stores).expect("SQL");
    assert!(!stores.join(LEFT_OVER).exists());
    // And one that is left all the same is removed by a rehearsal that is refused.
    fs::create_dir(stores.join(LEFT_OVER)).expect("a folder");
    fs::write(stores.join(LEFT_OVER).join("thrown-away"), "").expect("writes");
    crash::play("rehearse", &stores).expect_err("it is too late");
    assert!(!stores.join(LEFT_OVER).exists());
}

#[test]
fn i8_an_error_at_any_point_of_a_rehearsal_is_a_refusal_and_changes_neither_side() {
    let (_folder, stores, before) = place();
    let mut left = 0;
    for at in 1.. {
        arm(Some(Fault::Fail(at)));
        let played = crash::play("rehearse", &stores);
        let points = passed();
        arm(None);
        let Some(point) = points.get(at - 1) else {
            played.expect("no fault was met");
            println!("failed at each of {} points, {left} left a folder", points.len());
            break;
        };
        let after = format!("an error at {at}, '{point}'");
        if let Err(error) = played {
            assert!(matches!(error, Error::Refused(_)), "{after}: {error:?}");
        }
        keeps(&stores, &before, &after);
        left += usize::from(stores.join(LEFT_OVER).exists());
        crash::play("rehearse", &stores).unwrap_or_else(|error| panic!("{after}: {error}"));
        unchanged(&stores, &before);
    }
    // A removal that fails is tried once more.
    assert_eq!(left, 0);
}

#[test]
fn i8_what_no_rehearsal_has_put_in_its_place_is_left_alone() {
    let daemon = Daemon::fresh();
    let at = daemon.at(LEFT_OVER);
    let in_the_way = || {
        let cause = refused(daemon.path(), &daemon.plan());
        assert!(matches!(&cause, Cause::InTheWay(path) if path.ends_with(LEFT_OVER)), "{cause:?}");
    };
    fs::write(&at, "somebody's").expect("writes");
    in_the_way();
    fs::remove_file(&at).expect("removes");
    // A folder of somebody's, with and without our own names in it.
    fs::create_dir(&at).expect("a folder");
    for name in ["database.sqlite", "notes"] {
        fs::write(at.join(name), "somebody's").expect("writes");
        in_the_way();
    }
    fs::write(at.join("thrown-away"), "").expect("writes");
    in_the_way();
    // Without what is not ours, it is a left-over.
    fs::remove_file(at.join("notes")).expect("removes");
    daemon.plan().rehearse(&mut ()).expect("nothing stops it");
    assert!(!at.exists());
}

#[test]
fn the_command_rehearses_with_plan_full() {
    let daemon = command::Daemon::opened_once();
    let before = snapshot(&daemon.folder);
    let said = text(&daemon.ends("plan", &["--full"], 0).stdout);
    for words in [
        "the commit point: nothing goes back automatically",
        "rehearsed accounts/first: 20 pairs, 120 bytes",
        "KiB, and is thrown away",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let output = daemon.ends("plan", &["--full", "--json"], 0);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(found["state"], "Fresh");
    assert_eq!(found["rehearsal"]["keyspaces"][3]["pairs"], 20);
    assert_eq!(found["refused"], serde_json::json!([]));
    unchanged(&daemon.folder, &before);
    // Without it nothing is said of a rehearsal.
    let output = daemon.ends("plan", &["--json"], 0);
    let plain: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(plain.get("rehearsal"), None);
    // What a rehearsal alone finds is told as a refusal.
    fs::write(daemon.folder.join(LEFT_OVER), "somebody's").expect("writes");
    let output = daemon.ends("plan", &["--full", "--json"], 3);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(found["rehearsal"], serde_json::Value::Null);
    let reason = found["refused"][0].as_str().expect("a reason");
    assert!(reason.contains("move it away and run this again"), "{reason}");
    assert!(
        text(&daemon.ends("plan", &["--full"], 3).stdout).contains("was not made by a rehearsal")
    );
    daemon.is_whole_in_kv();
    let begun = command::Daemon::left_at("Migrating");
    assert!(text(&begun.ends("plan", &["--full"], 3).stdout).contains("before it begins"));
}

#[test]
fn an_empty_keyspace_and_a_source_that_is_missing_are_rehearsed_too() {
    let daemon = Daemon::fresh();
    let empty = cutover::Plan::builder("small")
        .source("empty", daemon.at("empty"), |s| s.every_keyspace())
        .source("absent", daemon.at("absent"), |s| s.every_keyspace().may_be_missing())
        .target(daemon.at("target.sqlite"));
    let mut pairs = small_store(1, 0);
    pairs.remove("second");
    write_store(&daemon.at("empty"), &pairs);
    crate::common::read_store(&daemon.at("empty"));
    let found =
        rehearsed(daemon.path(), &empty.build().expect("a plan")).expect("nothing stops it");
    assert_eq!(found.keyspaces.len(), 1);
    assert_eq!(found.keyspaces[0].pairs, 0);
}
