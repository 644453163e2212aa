//! Two users: an operator who is root, and a daemon's user who is not; and a user who is hostile. What
//! cutover makes is the daemon's, and what is not the plan's own is nobody's to be given away.

#![expect(clippy::expect_used, reason = "a test that panics has failed")]

use crate::child;
use crate::command::unchanged;
use crate::common::{
    SOURCES, read_store, small_daemon, small_plan, small_plan_builder, small_store, snapshot,
};
use crate::daemon::fresh_handle;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const COMMAND: &str = env!("CARGO_BIN_EXE_cutover");
const ROOT: u32 = 0;
/// The daemon's user: a number is enough.
const DAEMON: u32 = 1000;
/// Somebody else.
const STRANGER: u32 = 1003;

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// Whose each file and folder below `folder` is that is not `uid`'s.
fn not_of(uid: u32, folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("lists") {
        let path = entry.expect("an entry").path();
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        if metadata.uid() != uid || metadata.gid() != uid {
            found.push((path.clone(), metadata.uid()));
        }
        if metadata.is_dir() {
            found.extend(not_of(uid, &path));
        }
    }
    found
}

/// Gives a file, or a folder and all that is in it, to a user.
pub fn give(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(uid)).expect("these tests need root");
    if fs::symlink_metadata(path).expect("metadata").is_dir() {
        for entry in fs::read_dir(path).expect("lists") {
            give(&entry.expect("an entry").path(), uid);
        }
    }
}

/// The small daemon's stores, which belong to one user, as its folder does.
struct Stores {
    temporary: tempfile::TempDir,
    folder: PathBuf,
    target: PathBuf,
}

impl Stores {
    fn of(uid: u32) -> Self {
        let temporary = tempfile::tempdir().expect("a folder");
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).expect("opens it");
        let folder = temporary.path().join("data");
        fs::create_dir(&folder).expect("a folder");
        small_daemon(&folder);
        for name in SOURCES {
            read_store(&folder.join(name));
        }
        give(&folder, uid);
        let target = folder.join("target.sqlite");
        Self { temporary, folder, target }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn target(&self) -> PathBuf {
        self.target.clone()
    }

    /// Runs the operator's command as a user with an umask: a verb, and options of its own.
    fn command(&self, uid: u32, umask: &str, words: &str) -> Output {
        let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let asks = !["plan", "status", "verify"].contains(&words.first().expect("a verb").as_str());
        words.extend(["--name".to_owned(), "small".to_owned()]);
        for name in SOURCES {
            words.extend(["--source".to_owned(), format!("{name}={}", self.at(name).display())]);
        }
        words.extend(["--target".to_owned(), self.target().display().to_string()]);
        if asks {
            words.push("--yes".to_owned());
        }
        Command::new("sh")
            .args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\""), COMMAND])
            .args(words)
            .stdin(Stdio::null())
            .uid(uid)
            .gid(uid)
            .current_dir("/")
            .output()
            .expect("the command")
    }

    fn ends(&self, umask: &str, verb: &str, expected: i32) -> String {
        let output = self.command(ROOT, umask, verb);
        assert_eq!(output.status.code(), Some(expected), "{verb}: {}", text(&output));
        text(&output)
    }

    /// The example daemon, as its own user: it opens one side and writes it.
    fn daemon(&self, side: &str) -> Output {
        let folder = self.folder.display().to_string();
        child::command(&["owned-daemon", side, &folder])
            .uid(DAEMON)
            .gid(DAEMON)
            .current_dir("/")
            .output()
            .expect("a child process")
    }

    /// What another program of the daemon's user does with these stores.
    fn acts(&self, act: &str) {
        let output = child::command(&["act", act, &self.folder.display().to_string()])
            .uid(DAEMON)
            .gid(DAEMON)
            .current_dir("/")
            .output()
            .expect("a child process");
        assert!(output.status.success(), "{act}: {}", text(&output));
    }

    fn daemon_writes(&self, side: &str) {
        let output = self.daemon(side);
        assert!(output.status.success(), "{side}: {}", text(&output));
    }

    fn daemon_is_refused(&self, side: &str) -> String {
        let output = self.daemon(side);
        assert!(!output.status.success(), "{side} was opened");
        text(&output)
    }
}

/// A child's part: opens one side as a daemon does and writes it.
pub fn daemon(side: &str, folder: &Path) {
    let plan = small_plan(folder);
    let done = match side {
        "sql" => cutover::sql(&plan, &mut ()).map(|connection| {
            connection
                .execute("INSERT OR REPLACE INTO accounts_first VALUES (x'ff', x'01')", [])
                .expect("a connection that is handed out can write");
        }),
        _ => cutover::kv(&plan).map(|mut stores| {
            if side == "kv-killed" {
                // Nothing is closed, nor flushed.
                std::mem::forget(stores.take("accounts").expect("a store"));
                std::process::exit(0);
            }
            for name in SOURCES {
                let store = stores.take(name).expect("a store");
                let keyspace = store
                    .keyspace("first", fjall::KeyspaceCreateOptions::default)
                    .expect("a keyspace");
                keyspace.insert("daemon", "wrote").expect("inserts");
                store.persist(fjall::PersistMode::SyncAll).expect("persists");
            }
        }),
    };
    if let Err(error) = done {
        println!("\nrefused: {error}");
        std::process::exit(1);
    }
}

#[test]
fn a_daemon_uses_what_root_has_migrated_and_given_back_whatever_root_s_umask_is() {
    for umask in ["022", "077"] {
        let stores = Stores::of(DAEMON);
        stores.ends(umask, "migrate", 0);
        assert_eq!(not_of(DAEMON, &stores.folder), [], "{umask}");
        stores.daemon_writes("sql");
        let refused = stores.daemon_is_refused("kv");
        assert!(refused.contains("the data of source 'accounts'"), "{refused}");
        let marker = Command::new("cat")
            .arg(stores.at("accounts"))
            .uid(DAEMON)
            .gid(DAEMON)
            .output()
            .expect("cat");
        assert!(text(&marker).contains("This is a cutover marker"), "{}", text(&marker));
        // The SQL database is lost.
        fs::remove_file(stores.target()).expect("removes");
        stores.ends(umask, "restore-kv", 0);
        assert_eq!(not_of(DAEMON, &stores.folder), [], "{umask}");
        stores.daemon_writes("kv");
        // And the daemon itself, once more.
        stores.daemon_writes("sql");
        stores.daemon_writes("sql");
    }
}

#[test]
fn a_new_sql_file_can_be_read_by_no_more_than_could_read_the_store() {
    for (folder, version, expected) in
        [(0o755, 0o644, 0o644), (0o700, 0o644, 0o600), (0o750, 0o644, 0o640), (0o755, 0o600, 0o600)]
    {
        let stores = Stores::of(DAEMON);
        for name in SOURCES {
            let mode = |path: PathBuf, mode| {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
            };
            mode(stores.at(name).join("version"), version);
            mode(stores.at(name), folder);
        }
        stores.ends("000", "migrate", 0);
        let mode = |path: PathBuf| fs::metadata(path).expect("metadata").mode() & 0o7777;
        assert_eq!(mode(stores.target()), expected, "{folder:o} {version:o}");
        assert_eq!(mode(stores.at("target.sqlite.cutover")), expected, "{folder:o} {version:o}");
        assert_eq!(mode(stores.at("accounts")), folder & 0o666, "{folder:o}");
        assert_eq!(mode(stores.at("accounts.retired/version")), version);
    }
}

#[test]
fn what_root_leaves_after_every_verb_is_the_daemon_s() {
    let stores = Stores::of(DAEMON);
    let daemon_s_own = |verb: &str| {
        assert_eq!(not_of(DAEMON, &stores.folder), [], "{verb}");
        for entry in fs::read_dir(&stores.folder).expect("lists") {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("metadata").mode();
            assert_eq!(mode & 0o600, 0o600, "{verb}: {}", entry.path().display());
        }
    };
    for verb in [
        "status",
        "plan",
        "plan --full",
        "prepare",
        "status",
        "abort",
        "prepare",
        "migrate",
        "status",
        "verify",
    ] {
        stores.ends("077", verb, 0);
        daemon_s_own(verb);
    }
    fs::remove_file(stores.target()).expect("removes");
    stores.ends("077", "rerun", 0);
    daemon_s_own("rerun");
    stores.daemon_writes("sql");
    stores.ends("077", "reclaim", 0);
    daemon_s_own("reclaim");
    stores.daemon_writes("sql");
}

#[test]
fn a_daemon_goes_on_with_what_a_killed_command_of_root_s_has_left() {
    for (act, next) in [("sql", "sql"), ("prepare", "kv"), ("rehearse", "sql")] {
        let counted = Stores::of(DAEMON);
        cutover::fault::arm(None);
        crate::crash::play(act, &counted.folder).expect("nothing stops it");
        let points = cutover::fault::passed().len();
        let step = (points / crate::common::samples()).max(1);
        for at in (step / 2 + 1..=points).step_by(step) {
            let stores = Stores::of(DAEMON);
            let folder = stores.folder.display().to_string();
            assert!(child::killed(&["act", act, &folder], at), "{act} was not killed at {at}");
            stores.acts(next);
            assert_eq!(not_of(DAEMON, &stores.folder), [], "{act} killed at {at}");
        }
    }
}

/// Whatever cutover makes has its owner before anything is in it, so that what a kill leaves before that
/// is empty, and nobody else's to read.
#[test]
fn a_daemon_removes_what_root_was_killed_over_before_it_was_the_daemon_s() {
    let stores = Stores::of(DAEMON);
    stores.ends("022", "prepare", 0);
    let id = id_of(&stores.at("accounts"));
    let left = [format!("accounts.cutover-{id}"), format!("target.sqlite.cutover-{id}")];
    for name in &left {
        fs::write(stores.at(name), "").expect("writes");
        fs::set_permissions(stores.at(name), fs::Permissions::from_mode(0o600)).expect("a mode");
    }
    stores.daemon_writes("sql");
    for path in left.iter().map(|name| stores.at(name)) {
        assert!(!path.exists(), "{}", path.display());
    }
    assert_eq!(not_of(DAEMON, &stores.folder), []);
    // A rehearsal's folder, which the next migration removes.
    let stores = Stores::of(DAEMON);
    let folder = stores.at("target.sqlite.cutover-rehearsal");
    fs::create_dir(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("a mode");
    stores.daemon_writes("sql");
    assert!(!folder.exists());
    assert_eq!(not_of(DAEMON, &stores.folder), []);
}

/// The daemon may not open them, and a cutover of root's may be writing one just now.
#[test]
fn i8_a_daemon_leaves_a_file_of_root_s_that_is_locked_or_holds_something() {
    let stores = Stores::of(DAEMON);
    stores.ends("022", "prepare", 0);
    let name = |number: u32| format!("target.sqlite.cutover-{number:032x}");
    let of_root = |number: u32, content: &str| {
        let path = stores.at(&name(number));
        fs::write(&path, content).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        path
    };
    let (empty, held, full) = (of_root(1, ""), of_root(2, ""), of_root(3, "it"));
    let lock = fs::File::open(&held).expect("opens");
    lock.try_lock().expect("nobody has it");
    stores.daemon_writes("sql");
    assert!(!empty.exists(), "a kill left it");
    assert!(held.exists(), "it is locked");
    assert_eq!(fs::read(&full).expect("reads"), b"it");
}

/// As an older cutover, or a person, has left them: the daemon's own folders say whose they are.
#[test]
fn a_daemon_goes_on_beside_files_of_root_s_in_its_own_folders() {
    let stores = Stores::of(DAEMON);
    give(&stores.at("accounts/version"), ROOT);
    stores.ends("022", "prepare", 0);
    for name in ["accounts", "sessions", "target.sqlite.cutover"] {
        give(&stores.at(name), ROOT);
        fs::set_permissions(stores.at(name), fs::Permissions::from_mode(0o644)).expect("a mode");
    }
    stores.daemon_writes("sql");
    for name in ["accounts", "sessions", "accounts.retired/version"] {
        assert_eq!(fs::metadata(stores.at(name)).expect("metadata").uid(), DAEMON, "{name}");
    }
}

/// fjall writes new files where it has to repair something.
#[test]
fn a_store_that_its_daemon_did_not_close_is_given_back_as_the_daemon_s() {
    let stores = Stores::of(DAEMON);
    stores.daemon_writes("kv-killed");
    for verb in ["plan", "prepare", "abort"] {
        stores.ends("077", verb, 0);
        assert_eq!(not_of(DAEMON, &stores.folder), [], "{verb}");
    }
    stores.daemon_writes("kv");
}

#[test]
fn a_target_that_the_stores_owner_may_not_write_is_refused_before_anything_is_changed() {
    for (uid, mode, refused) in [
        (ROOT, 0o644, true),
        (ROOT, 0o600, true),
        (DAEMON, 0o444, true),
        (ROOT, 0o666, false),
        (DAEMON, 0o600, false),
    ] {
        let stores = Stores::of(DAEMON);
        fs::write(stores.target(), "").expect("writes");
        give(&stores.target(), uid);
        fs::set_permissions(stores.target(), fs::Permissions::from_mode(mode)).expect("a mode");
        if !refused {
            stores.ends("022", "migrate", 0);
            stores.daemon_writes("sql");
            continue;
        }
        let before = snapshot(&stores.folder);
        for verb in ["plan", "migrate"] {
            let said = stores.ends("022", verb, 3);
            let named = format!("belongs to user {uid}");
            assert!(said.contains(&named) && said.contains(&format!("mode {mode:o}")), "{said}");
            assert!(said.contains("who owns the stores"), "{said}");
            unchanged(&stores.folder, &before);
        }
    }
}

/// Root moved the stores, and the daemon could write no journal beside its database.
#[test]
fn a_folder_where_the_stores_owner_may_make_no_files_is_refused_before_anything_is_changed() {
    let stores = Stores::of(DAEMON);
    std::os::unix::fs::chown(&stores.folder, Some(ROOT), Some(ROOT)).expect("gives");
    let before = snapshot(&stores.folder);
    for verb in ["plan", "migrate"] {
        let said = stores.ends("022", verb, 3);
        assert!(said.contains("the target's folder ") && said.contains("mode 755"), "{said}");
        unchanged(&stores.folder, &before);
    }
    fs::set_permissions(&stores.folder, fs::Permissions::from_mode(0o777)).expect("a mode");
    stores.ends("022", "migrate", 0);
    stores.daemon_writes("sql");
}

#[test]
fn preparing_and_aborting_leaves_no_sql_file_and_keeps_one_that_was_there() {
    let stores = Stores::of(DAEMON);
    let before = snapshot(&stores.folder);
    stores.ends("022", "prepare", 0);
    assert!(stores.target().exists());
    stores.ends("022", "abort", 0);
    unchanged(&stores.folder, &before);
    stores.daemon_writes("kv");
    // An empty file is the user's own.
    fs::write(stores.target(), "").expect("writes");
    give(&stores.target(), DAEMON);
    stores.ends("022", "prepare", 0);
    stores.ends("022", "abort", 0);
    assert!(stores.target().is_file());
    assert_eq!(crate::common::schema_entries(&stores.target()), 0);
    assert_eq!(not_of(DAEMON, &stores.folder), []);
    // One that our run made stays, where somebody has put something into it.
    fs::remove_file(stores.target()).expect("removes");
    stores.ends("022", "prepare", 0);
    crate::daemon::sqlite(&stores.target(), "CREATE TABLE mine (x)");
    stores.ends("022", "abort", 0);
    assert_eq!(crate::common::schema_entries(&stores.target()), 1);
}

#[test]
fn i8_what_a_person_has_put_into_the_sql_file_stays_with_it_in_an_abort() {
    for (mine, look) in [
        ("CREATE TABLE mine (x)", "SELECT count(*) FROM mine"),
        ("CREATE VIEW mine AS SELECT 7", "SELECT count(*) - 1 FROM mine"),
        ("CREATE VIRTUAL TABLE mine USING fts5(x)", "SELECT count(*) FROM mine"),
        ("PRAGMA user_version = 7", "SELECT user_version - 7 FROM pragma_user_version"),
        ("PRAGMA application_id = 7", "SELECT application_id - 7 FROM pragma_application_id"),
        // These go with the table that they belong to, and the file stays.
        ("CREATE INDEX mine ON accounts_first (value)", "SELECT count(*) FROM sqlite_schema"),
        (
            "CREATE TRIGGER mine AFTER INSERT ON accounts_first BEGIN SELECT 1; END",
            "SELECT count(*) FROM sqlite_schema",
        ),
    ] {
        let stores = Stores::of(DAEMON);
        stores.ends("022", "prepare", 0);
        crate::daemon::sqlite(&stores.target(), mine);
        stores.ends("022", "abort", 0);
        assert!(stores.target().is_file(), "{mine}");
        let connection = rusqlite::Connection::open(stores.target()).expect("opens");
        let left: i64 = connection.query_one(look, [], |row| row.get(0)).expect(mine);
        assert_eq!(left, 0, "{mine}");
        let record = "SELECT count(*) FROM sqlite_schema WHERE name = 'cutover_record'";
        let record: i64 = connection.query_one(record, [], |row| row.get(0)).expect("reads");
        assert_eq!(record, 0, "{mine}");
        stores.daemon_writes("kv");
    }
}

#[test]
fn an_abort_leaves_nothing_beside_the_sql_file_that_it_deletes() {
    for left in [
        "PRAGMA journal_mode = PERSIST; PRAGMA user_version = 0",
        "PRAGMA journal_mode = TRUNCATE; PRAGMA user_version = 0",
        "PRAGMA journal_mode = WAL",
    ] {
        let stores = Stores::of(DAEMON);
        let before = snapshot(&stores.folder);
        stores.ends("022", "prepare", 0);
        let connection = rusqlite::Connection::open(stores.target()).expect("opens");
        connection.execute_batch(left).expect(left);
        drop(connection);
        let kept = stores.at("target.sqlite-journal").exists();
        assert_eq!(kept, !left.contains("WAL"), "{left}");
        stores.ends("022", "abort", 0);
        unchanged(&stores.folder, &before);
        stores.ends("022", "status", 0);
        stores.daemon_writes("kv");
    }
}

#[test]
fn what_another_program_writes_into_the_sql_file_that_an_abort_deletes_is_refused_or_kept() {
    for wal in [false, true] {
        let stores = Stores::of(DAEMON);
        stores.ends("022", "prepare", 0);
        let connection = rusqlite::Connection::open(stores.target()).expect("opens");
        if wal {
            connection.pragma_update(None, "journal_mode", "wal").expect("WAL");
        }
        let count = "SELECT count(*) FROM sqlite_schema";
        let _: i64 = connection.query_one(count, [], |row| row.get(0)).expect("reads");
        stores.ends("022", "abort", 0);
        let written = connection.execute_batch("CREATE TABLE mine (x)");
        if wal {
            written.expect("the file is there");
            drop(connection);
            assert_eq!(crate::common::schema_entries(&stores.target()), 1);
        } else {
            let code = written
                .expect_err("the file is gone")
                .sqlite_error()
                .expect("SQLite's")
                .extended_code;
            assert_eq!(code, rusqlite::ffi::SQLITE_READONLY_DBMOVED);
            drop(connection);
            assert!(!stores.target().exists());
            assert!(!stores.at("target.sqlite-journal").exists());
        }
    }
}

#[test]
fn a_user_who_is_not_the_stores_owner_is_refused_before_anything_is_changed() {
    let stores = Stores::of(ROOT);
    fs::set_permissions(&stores.folder, fs::Permissions::from_mode(0o777)).expect("opens it");
    let before = snapshot(&stores.folder);
    for verb in ["plan", "migrate"] {
        let output = stores.command(DAEMON, "022", verb);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains("belongs to user 0 (root)"), "{said}");
        assert!(said.contains("user 1000"), "{said}");
        unchanged(&stores.folder, &before);
    }
}

#[test]
fn stores_of_two_users_are_refused_until_there_is_a_target_that_is_one_s() {
    let stores = Stores::of(DAEMON);
    give(&stores.at("sessions"), 1001);
    let before = snapshot(&stores.folder);
    let said = stores.ends("022", "migrate", 3);
    assert!(
        said.contains("belongs to user 1000") && said.contains("belongs to user 1001"),
        "{said}"
    );
    unchanged(&stores.folder, &before);
    fs::write(stores.target(), "").expect("writes");
    give(&stores.target(), DAEMON);
    stores.ends("022", "migrate", 0);
    let uid = |name: &str| fs::metadata(stores.at(name)).expect("metadata").uid();
    assert_eq!((uid("accounts"), uid("sessions"), uid("target.sqlite")), (DAEMON, 1001, DAEMON));
    // The way back asks for no owner of the target.
    fs::remove_file(stores.target()).expect("removes");
    stores.ends("022", "restore-kv", 0);
    assert_eq!((uid("accounts"), uid("sessions")), (DAEMON, 1001));
    assert_eq!((uid("accounts/version"), uid("sessions/version")), (DAEMON, 1001));
}

#[test]
fn what_a_daemon_s_user_may_not_use_is_named_with_its_owner() {
    let lock_away = |path: &Path| {
        give(path, ROOT);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
    };
    for (side, name) in
        [("kv", "accounts/version"), ("kv", "accounts/lock"), ("sql", "accounts/version")]
    {
        let stores = Stores::of(DAEMON);
        lock_away(&stores.at(name));
        let said = stores.daemon_is_refused(side);
        assert!(
            said.contains(&format!("{name} belongs to user 0 (root)")),
            "{side} {name}: {said}"
        );
        assert!(said.contains("this is user 1000"), "{said}");
    }
    let stores = Stores::of(DAEMON);
    stores.ends("022", "migrate", 0);
    for mode in [0o600, 0o644] {
        give(&stores.target(), ROOT);
        fs::set_permissions(stores.target(), fs::Permissions::from_mode(mode)).expect("a mode");
        let said = stores.daemon_is_refused("sql");
        let named = format!("target.sqlite belongs to user 0 (root) with mode {mode:o}");
        assert!(said.contains(&named), "{said}");
    }
    give(&stores.target(), DAEMON);
    stores.daemon_writes("sql");
}

/// The names that cutover uses beside the stores and the target, and inside a store, for migration
/// `id`.
fn our_names(id: &str) -> Vec<String> {
    let mut names = Vec::new();
    for source in SOURCES {
        for end in [".retired", ".cutover-probe", ".cutover-probe-2", ".cutover-probe-3"] {
            names.push(format!("{source}{end}"));
        }
        names.push(format!("{source}.cutover-{id}"));
        names.push(format!("{source}/version.cutover"));
    }
    for end in ["", "-journal", "-wal", "-shm", ".cutover", ".cutover-rehearsal"] {
        names.push(format!("target.sqlite{end}"));
    }
    for end in ["probe", "probe-2", "probe-2-journal", "probe-3", id] {
        names.push(format!("target.sqlite.cutover-{end}"));
    }
    names
}

/// Where planted links lead: to the victim's file, to a name that is free there, to the victim's folder.
const ENDS: [&str; 3] = ["file", "new", "."];

/// The end with number `end` for the name with number `at`. Each name gets one end; in a sweep, each.
fn end_for(at: usize, end: usize) -> Option<&'static str> {
    let is_its_turn = at % ENDS.len() == end || std::env::var_os("CUTOVER_SWEEP").is_some();
    ENDS.get(end).copied().filter(|_| is_its_turn)
}

/// A folder of root's, with a file, and what it looked like.
struct Victim {
    folder: PathBuf,
}

impl Victim {
    fn in_(stores: &Stores) -> Self {
        let folder = stores.temporary.path().join("victim");
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join("file"), "root's own").expect("writes");
        Self { folder }
    }

    /// Demands that nothing of it was created, changed, given away or deleted.
    fn is_untouched(&self, why: &str) {
        let names: Vec<_> = fs::read_dir(&self.folder)
            .expect("it is there")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(names, ["file"], "{why}");
        assert_eq!(fs::read(self.folder.join("file")).expect("reads"), b"root's own", "{why}");
        for path in [self.folder.clone(), self.folder.join("file")] {
            let metadata = fs::metadata(&path).expect("metadata");
            assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{why}");
            assert_eq!(metadata.mode() & 0o022, 0, "{why}");
        }
    }
}

/// The id of the markers that stand.
fn id_of(marker: &Path) -> String {
    let marker = fs::read_to_string(marker).expect("a marker");
    let id = marker.split("\"id\":\"").nth(1).and_then(|rest| rest.split('"').next());
    id.expect("an id").to_owned()
}

#[test]
fn root_follows_no_link_that_another_user_has_planted_at_a_name_of_ours() {
    for end in 0..ENDS.len() {
        for (at, name) in our_names(&"0".repeat(32)).into_iter().enumerate() {
            let Some(end) = end_for(at, end) else { continue };
            let stores = Stores::of(DAEMON);
            let victim = Victim::in_(&stores);
            let path = stores.at(&name);
            symlink(victim.folder.join(end), &path).expect("links");
            std::os::unix::fs::lchown(&path, Some(DAEMON), Some(DAEMON)).expect("its own");
            for verb in ["plan", "migrate", "abort", "reclaim"] {
                stores.command(ROOT, "022", verb);
                victim.is_untouched(&format!("{verb}, {name} to {end}"));
            }
        }
    }
}

#[test]
fn root_follows_no_link_that_another_user_has_planted_once_the_stores_are_sealed() {
    for end in 0..ENDS.len() {
        let count = our_names("").len();
        for at in 0..count {
            let Some(end) = end_for(at, end) else { continue };
            let stores = Stores::of(DAEMON);
            let victim = Victim::in_(&stores);
            stores.ends("022", "prepare", 0);
            let Some(name) = our_names(&id_of(&stores.at("accounts"))).into_iter().nth(at) else {
                continue;
            };
            let name = name.replace("/version", ".retired/version");
            let path = stores.at(&name);
            if fs::symlink_metadata(&path).is_ok() {
                fs::rename(&path, stores.at("moved")).expect("renames");
            }
            symlink(victim.folder.join(end), &path).expect("links");
            std::os::unix::fs::lchown(&path, Some(DAEMON), Some(DAEMON)).expect("its own");
            for verb in ["status", "migrate", "abort", "reclaim"] {
                stores.command(ROOT, "022", verb);
                victim.is_untouched(&format!("{verb}, {name} to {end}"));
            }
        }
    }
}

#[test]
fn reclaiming_follows_no_link_inside_a_retired_store() {
    let stores = Stores::of(DAEMON);
    let victim = Victim::in_(&stores);
    stores.ends("022", "migrate", 0);
    for name in SOURCES {
        let inside = stores.at(&format!("{name}.retired/keyspaces"));
        fs::rename(&inside, stores.at(&format!("{name}.moved"))).expect("renames");
        symlink(&victim.folder, &inside).expect("links");
    }
    stores.command(ROOT, "022", "reclaim");
    victim.is_untouched("reclaim");
}

/// A process that ends when the test does, however that ends.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A child's part: swaps names with links to a victim until it is killed.
pub fn swap(folder: &Path, victim: &str) {
    let mut names = our_names(&"0".repeat(32));
    names.extend(SOURCES.map(str::to_owned));
    names.extend(SOURCES.map(|name| format!("{name}/keyspaces")));
    for round in 0.. {
        if !folder.exists() {
            return;
        }
        for name in &names {
            let (path, aside) = (folder.join(name), folder.join(format!("aside-{round}")));
            let moved = fs::rename(&path, &aside).is_ok();
            let _ = symlink(victim, &path);
            std::thread::yield_now();
            let _ = fs::remove_file(&path);
            if moved && fs::rename(&aside, &path).is_err() {
                let _ = fs::remove_dir_all(&aside);
            }
        }
    }
}

#[test]
fn a_target_that_a_stranger_has_put_into_a_shared_folder_is_refused_and_the_way_back_works() {
    for sealed in [false, true] {
        let stores = Stores::of(DAEMON);
        let shared = stores.temporary.path().join("shared");
        fs::create_dir(&shared).expect("a folder");
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).expect("a mode");
        let stores = Stores { target: shared.join("target.sqlite"), ..stores };
        if sealed {
            let plan = small_plan_builder(&stores.folder).target(stores.target());
            fresh_handle(&plan.build().expect("a plan")).begin().expect("seals");
        }
        fs::write(stores.target(), "").expect("writes");
        give(&stores.target(), STRANGER);
        fs::set_permissions(stores.target(), fs::Permissions::from_mode(0o666)).expect("a mode");
        let before = snapshot(&stores.folder);
        let words = stores.ends("022", "migrate", 3);
        assert!(words.contains("belongs to user 1003, who owns none of the stores"), "{words}");
        let made = fs::read(stores.target()).expect("reads");
        assert!(made.is_empty() || sealed && !made.windows(5).any(|at| at == b"TABLE"));
        if sealed {
            stores.ends("022", "abort", 0);
        } else {
            unchanged(&stores.folder, &before);
        }
        fs::remove_file(stores.target()).expect("removes");
        stores.ends("022", "migrate", 0);
    }
}

/// Root's folder with the daemon's files in it: fjall opened them as root, and what was put back was
/// root's.
#[test]
fn a_store_in_root_s_folder_with_another_s_files_is_refused_before_anything_is_changed() {
    let stores = Stores::of(DAEMON);
    let store = stores.at("sessions");
    std::os::unix::fs::chown(&store, Some(ROOT), Some(DAEMON)).expect("root's");
    fs::set_permissions(&store, fs::Permissions::from_mode(0o2775)).expect("a mode");
    let before = snapshot(&stores.folder);
    for verb in ["plan", "migrate"] {
        let words = stores.ends("022", verb, 3);
        assert!(words.contains("and the store's folder to user 0 (root)"), "{words}");
        assert!(words.contains("chown -R"), "{words}");
        unchanged(&stores.folder, &before);
    }
    give(&stores.folder, DAEMON);
    stores.ends("022", "migrate", 0);
}

/// A backup that root put back, or a daemon that ran as root once: root could move the store, and the
/// daemon could not have used it after a way back.
#[test]
fn a_file_that_its_store_s_owner_may_not_use_is_refused_before_anything_is_changed() {
    for (kind, mode) in [(".jnl", 0o644), (".jnl", 0o600), ("0", 0o700)] {
        let stores = Stores::of(DAEMON);
        let store = stores.at("sessions");
        let folder = if kind == "0" { store.join("keyspaces") } else { store };
        let mut entries =
            fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("one").path());
        let closed = entries
            .find(|path| path.to_string_lossy().ends_with(kind))
            .expect("one of the store's");
        std::os::unix::fs::chown(&closed, Some(ROOT), Some(ROOT)).expect("root's");
        fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).expect("a mode");
        let before = snapshot(&stores.folder);
        let words = stores.ends("022", "migrate", 3);
        let said = format!("{} belongs to user 0 (root) with mode {mode:o}", closed.display());
        assert!(words.contains(&said), "{words}");
        assert!(words.contains(&format!("let user {DAEMON}")), "{words}");
        assert_eq!(snapshot(&stores.folder), before);
        give(&stores.folder, DAEMON);
        stores.ends("022", "migrate", 0);
    }
}

#[test]
fn root_is_not_led_astray_by_a_user_who_swaps_names_meanwhile() {
    let rounds: usize =
        std::env::var("CUTOVER_SWEEP").ok().and_then(|sweep| sweep.parse().ok()).unwrap_or(4);
    for round in 0..rounds {
        let stores = Stores::of(DAEMON);
        let victim = Victim::in_(&stores);
        let end = if round % 2 == 0 { victim.folder.clone() } else { victim.folder.join("file") };
        let words = [stores.folder.display().to_string(), end.display().to_string()];
        let hostile = child::command(&["swap", &words[0], &words[1]])
            .uid(DAEMON)
            .gid(DAEMON)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child process");
        let hostile = Killed(hostile);
        for verb in ["migrate", "migrate", "reclaim", "abort", "restore-kv", "migrate", "reclaim"] {
            stores.command(ROOT, "022", verb);
            victim.is_untouched(verb);
        }
        drop(hostile);
        victim.is_untouched("the end");
    }
}

#[test]
fn stores_are_whole_once_root_has_moved_them_there_and_back() {
    let stores = Stores::of(DAEMON);
    stores.ends("077", "prepare", 0);
    stores.ends("077", "abort", 0);
    for (seed, name) in (1..).zip(SOURCES) {
        assert_eq!(read_store(&stores.at(name)), small_store(seed, 20));
    }
}
