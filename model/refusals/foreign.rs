//! What lies in a store's folder and is not the engine's own: it goes along, and nobody deletes it; and
//! stores that are not there to be freed.

use super::*;
use cutover::{Freed, Handle, Tombstoned, ticket};

fn live_handle(plan: &Plan) -> Handle<Tombstoned> {
    match cutover::open(plan).expect("opens") {
        Found::Tombstoned(handle) => handle,
        other => panic!("not live: {other:?}"),
    }
}

fn reclaim(plan: &Plan) -> Vec<Freed> {
    let reclaim = ticket::Reclaim::losing_also_what_may_be_nowhere_else();
    live_handle(plan).reclaim(reclaim).expect("reclaims").freed().to_vec()
}

/// What a reclaim leaves in the folder of this source.
fn rest(plan: &Plan, source: &str) -> Vec<String> {
    let mut freed = reclaim(plan).into_iter();
    freed.find(|freed| freed.source == source).expect("it is told of").rest
}

/// The files and folders below `folder`.
fn names(folder: &Path) -> Vec<String> {
    snapshot(folder).into_keys().collect()
}

/// It deleted `wallet.key`, `uploads/a.jpg`, and another plan's marker with its retired store; later it
/// stopped there, and the stores behind it were not freed.
#[test]
fn i8_what_is_not_the_engine_s_own_is_named_and_stays_when_a_store_is_freed() {
    let daemon = Daemon::fresh();
    let store = daemon.at("accounts");
    fs::write(store.join("wallet.key"), "the only one").expect("writes");
    fs::create_dir(store.join("uploads")).expect("creates");
    fs::write(store.join("uploads/a.jpg"), "a picture").expect("writes");
    fs::write(store.join("keyspaces/1/tables/._7"), "a file manager's").expect("writes");
    // Another plan's source, moved by it.
    let inner = tempfile::tempdir_in(&store).expect("a folder");
    crate::common::small_daemon(inner.path());
    drop(cutover::sql(&crate::common::small_plan(inner.path()), &mut ()).expect("SQL"));
    let others = snapshot(inner.path());
    let own = inner.path().file_name().expect("a name").to_str().expect("UTF-8").to_owned() + "/";
    let mut foreign = vec!["keyspaces/1/tables/._7", "uploads/", "wallet.key", own.as_str()];
    foreign.sort_unstable();

    let told = cutover::preview(&daemon.plan(), &mut ()).expect("a preview").foreign.join("\n");
    for name in &foreign {
        assert!(told.contains(name), "no {name} in: {told}");
    }
    drop(cutover::sql(&daemon.plan(), &mut ()).expect("SQL"));
    let named = |at: usize| cutover::status(&daemon.plan()).expect("a status").sources[at].clone();
    assert_eq!(named(0).foreign, foreign);

    assert_eq!(rest(&daemon.plan(), "accounts"), foreign);
    // The other one is freed all the same.
    assert!(!daemon.at("sessions.retired").exists());
    let retired = daemon.at("accounts.retired");
    assert_eq!(fs::read(retired.join("wallet.key")).expect("reads"), b"the only one");
    assert_eq!(fs::read(retired.join("uploads/a.jpg")).expect("reads"), b"a picture");
    let inner_now = retired.join(own.trim_end_matches('/'));
    assert_eq!(snapshot(&inner_now).len(), others.len());
    let is_journal = |name: &String| Path::new(name).extension().is_some_and(|end| end == "jnl");
    assert!(!names(&retired).iter().any(|name| is_journal(name) && !name.contains(&own)));
    assert!(!retired.join("version").exists());
    // It is told, another reclaim says it again, and none is offered.
    let can = cutover::status(&daemon.plan()).expect("a status").can;
    assert!(!can.iter().any(|can| can.verb == "reclaim"), "{can:?}");
    assert_eq!(named(0).marker, "reclaimed");
    assert_eq!(named(0).foreign, foreign);
    assert_eq!(rest(&daemon.plan(), "accounts"), foreign);
    // Once it is moved away, the folder goes.
    fs::rename(inner_now, daemon.at("inner")).expect("moves");
    fs::remove_dir_all(&retired).expect("removes");
    std::mem::forget(inner);
    assert!(!reclaim(&daemon.plan()).iter().any(|freed| freed.stood));
}

/// Files inside a file system that was mounted in the store's folder were deleted.
#[test]
fn i8_a_reclaim_enters_no_mount_and_follows_no_link() {
    let daemon = Daemon::live();
    let retired = daemon.at("sessions.retired");
    let (kept, elsewhere) =
        (daemon.keep("sessions.retired/keyspaces/1"), daemon.keep("accounts.retired/keyspaces/1"));
    let before = (snapshot(&kept.path()), snapshot(&elsewhere.path()));
    let mount = Mount::bind(&kept.path(), &retired.join("keyspaces/1"));
    fs::remove_dir_all(retired.join("keyspaces/2")).expect("removes");
    std::os::unix::fs::symlink(elsewhere.path(), retired.join("keyspaces/2")).expect("links");
    assert_eq!(rest(&daemon.plan(), "sessions"), ["keyspaces/1/", "keyspaces/2"]);
    assert_eq!((snapshot(&kept.path()), snapshot(&elsewhere.path())), before);
    drop(mount);
}

/// `reclaim` said that the bytes are freed, and nobody that they were not there.
#[test]
fn a_retired_store_that_is_gone_is_told_by_every_verb_and_no_byte_of_it_is_freed() {
    let daemon = Daemon::live();
    fs::remove_dir_all(daemon.at("sessions.retired")).expect("removes");
    let status = cutover::status(&daemon.plan()).expect("a status");
    assert_eq!(status.sources[1].retired_differs.as_deref(), Some("it is gone"));
    assert_eq!(status.sources[0].retired_differs, None);
    let verified = live_handle(&daemon.plan()).verify(&mut ()).expect("it tells");
    let missing = verified.keyspaces.iter().filter(|k| k.store == cutover::Compared::Missing);
    assert_eq!(missing.count(), 2);
    let freed = reclaim(&daemon.plan());
    let sessions = freed.iter().find(|freed| freed.source == "sessions").expect("told");
    assert!(!sessions.stood && sessions.bytes == 0);
    // What is left of a store is told by what is missing.
    let daemon = Daemon::live();
    fs::remove_file(daemon.at("sessions.retired/keyspaces/2/current")).expect("removes");
    let status = cutover::status(&daemon.plan()).expect("a status");
    let differs = status.sources[1].retired_differs.clone().expect("it differs");
    assert!(differs.starts_with("keyspaces/2/current of keyspace '"), "{differs}");
}

/// `tables = { kk = "mine" }` committed an empty table `mine` where the store has `k`, and
/// `leave_out = ["evnts"]` left nothing out.
#[test]
fn a_keyspace_that_is_named_and_not_there_is_refused_unless_it_may_be_missing() {
    let daemon = Daemon::fresh();
    let plan = |leave_out: bool, may_be_missing: bool| {
        let sessions = |s: cutover::SourceBuilder| {
            let s = s.every_keyspace();
            let s = if leave_out { s.leave_out("frist") } else { s.blobs("frist") };
            if may_be_missing { s.keyspace_may_be_missing("frist") } else { s }
        };
        Plan::builder("small")
            .source("accounts", daemon.at("accounts"), |s| s.every_keyspace())
            .source("sessions", daemon.at("sessions"), sessions)
            .target(daemon.at("target.sqlite"))
            .build()
            .expect("a plan")
    };
    for leave_out in [true, false] {
        refused(
            daemon.path(),
            &plan(leave_out, false),
            |c| matches!(c, Cause::KeyspaceMissing { .. }),
            &["keyspace 'frist' of source 'sessions'", "its store has 'first', 'second'; correct"],
        );
    }
    drop(cutover::sql(&plan(false, true), &mut ()).expect("SQL"));
    assert!(crate::common::read_table(&daemon.at("target.sqlite"), "sessions_frist").is_empty());
    // A source that is missing, and may be, needs no keyspaces.
    let daemon = Daemon::fresh();
    let nowhere = Plan::builder("small")
        .source("accounts", daemon.at("accounts"), |s| s.every_keyspace())
        .source("sessions", daemon.at("nowhere"), |s| s.blobs("first").may_be_missing())
        .target(daemon.at("target.sqlite"))
        .build()
        .expect("a plan");
    drop(cutover::sql(&nowhere, &mut ()).expect("SQL"));
}
