//! Stores that are not all there, or not all in their own folder.

use super::*;
use std::os::unix::fs::symlink;

fn scattered(daemon: &Daemon, entry: &str, what: &str) {
    let entry = daemon.at(entry);
    let is = format!("{} is {what}", entry.display());
    let words = ["source 'sessions' is not all in its own folder", &is, "put the files themselves"];
    // What is behind a link or a mount is a part of the snapshot too.
    refused(daemon.path(), &daemon.plan(), |c| matches!(c, Cause::Scattered { .. }), &words);
    let told = cutover::preview(&daemon.plan(), &mut ()).expect("a preview").refused.join("\n");
    assert!(told.contains(&is), "{told}");
}

/// The folder of the keyspaces was a link, and none of its files was ever synced.
#[test]
fn i2_a_store_with_a_link_inside_is_refused_before_it_is_sealed() {
    for inside in ["keyspaces", "keyspaces/1", "keyspaces/1/tables", "keyspaces/1/current", "lock"]
    {
        let daemon = Daemon::fresh();
        let place = daemon.at("sessions").join(inside);
        fs::rename(&place, daemon.at("elsewhere")).expect("moves");
        symlink(daemon.at("elsewhere"), &place).expect("links");
        scattered(&daemon, &format!("sessions/{inside}"), "a symbolic link");
    }
    // And one that is not part of the store.
    let daemon = Daemon::fresh();
    fs::create_dir(daemon.at("sessions/uploads")).expect("creates");
    symlink("/nowhere", daemon.at("sessions/uploads/a")).expect("links");
    scattered(&daemon, "sessions/uploads/a", "a symbolic link");
}

#[test]
fn i2_a_store_with_a_mount_inside_is_refused_before_it_is_sealed() {
    for (inside, memory) in [("keyspaces", true), ("keyspaces", false), ("keyspaces/1", false)] {
        let daemon = Daemon::fresh();
        let place = format!("sessions/{inside}");
        let kept = daemon.keep(&place);
        let at = daemon.at(&place);
        let (mount, what) = if memory {
            let mount = Mount::memory(&at, 64 * 1024);
            kept.put_back(&at);
            (mount, "on a device of its own")
        } else {
            (Mount::bind(&kept.path(), &at), "a mount of its own")
        };
        scattered(&daemon, &place, what);
        drop(mount);
    }
    let daemon = Daemon::fresh();
    let kept = daemon.keep("sessions/keyspaces/1/current");
    let mount = Mount::bind(&kept.path(), &daemon.at("sessions/keyspaces/1/current"));
    scattered(&daemon, "sessions/keyspaces/1/current", "a mount of its own");
    drop(mount);
}

#[test]
fn a_store_with_a_socket_inside_is_refused_before_it_is_sealed() {
    let daemon = Daemon::fresh();
    let _socket =
        std::os::unix::net::UnixListener::bind(daemon.at("sessions/control")).expect("a socket");
    scattered(&daemon, "sessions/control", "neither a file nor a folder");
}

/// fjall makes what is missing anew, without a word: 1,000 pairs became none, and the migration was
/// done.
#[test]
fn i2_a_store_that_lacks_what_every_store_has_is_refused_before_it_is_opened() {
    let lacks = |daemon: &Daemon, words: &str| {
        let all = ["source 'sessions' at", "is not a store that can be moved", words, "restore it"];
        refused(daemon.path(), &daemon.plan(), |c| matches!(c, Cause::NotAStore { .. }), &all);
    };
    let daemon = Daemon::fresh();
    for entry in fs::read_dir(daemon.at("sessions")).expect("lists") {
        let path = entry.expect("lists").path();
        if path.extension().is_some_and(|ending| ending == "jnl") {
            fs::remove_file(&path).expect("removes");
        }
    }
    lacks(&daemon, "it has no journal");

    let daemon = Daemon::fresh();
    fs::rename(daemon.at("sessions/keyspaces/0"), daemon.at("kept")).expect("moves");
    lacks(&daemon, "it has no file keyspaces/0/current");

    let daemon = Daemon::fresh();
    fs::write(daemon.at("sessions/keyspaces/1/tables/7"), "pairs").expect("writes");
    fs::remove_file(daemon.at("sessions/keyspaces/1/current")).expect("removes");
    lacks(&daemon, "it has keyspaces/1/tables/7 and no file keyspaces/1/current");
}
