//! Stores of which a part is not there, as an operator meets them: a volume that is not mounted any
//! more, a link, a backup without its journal, a retired store that somebody emptied.

use super::{Daemon, cutover, said, unchanged};
use crate::common::{Pairs, SOURCES, copy_tree, small_store, snapshot, write_store};
use crate::refusals::Mount;
use std::fs;
use std::path::Path;

/// Demands that `plan` and `migrate` refuse, say `words` and change nothing.
fn refused(daemon: &Daemon, words: &str) {
    let before = snapshot(&daemon.folder);
    for (verb, more) in [("plan", &[][..]), ("migrate", &["--yes"])] {
        let said = said(&daemon.ends(verb, more, 3));
        assert!(said.contains(words), "{verb}, no '{words}': {said}");
    }
    unchanged(&daemon.folder, &before);
}

/// The story of a volume on `keyspaces`, from before the seal to the copy: 50 pairs became none, and
/// `verify` and `reclaim` agreed.
#[test]
fn i2_a_volume_in_a_store_is_refused_and_one_that_hides_a_sealed_store_is_not_copied_from() {
    let daemon = Daemon::opened_once();
    let (keyspaces, kept) = (daemon.path("sessions/keyspaces"), daemon.path("kept"));
    fs::rename(&keyspaces, &kept).expect("moves");
    fs::create_dir(&keyspaces).expect("creates");
    let mount = Mount::memory(&keyspaces, 8 * 1024);
    copy_tree(&kept, &keyspaces);
    refused(&daemon, "sessions/keyspaces is on a device of its own");
    drop(mount);
    // What a reboot leaves of it.
    refused(&daemon, "it has no file keyspaces/0/current");

    let daemon = Daemon::left_at_marker("sessions");
    for name in SOURCES {
        let keyspaces = daemon.path(&format!("{name}.retired/keyspaces"));
        let mount = Mount::memory(&keyspaces, 64);
        let said = said(&daemon.run("migrate", &["--yes"]));
        let words = format!("the retired store of source '{name}' at ");
        assert!(said.contains(&words) && said.contains("is not what was sealed"), "{said}");
        assert_eq!(daemon.state(), "Migrating");
        drop(mount);
    }
    daemon.ends("migrate", &["--yes"], 0);
    daemon.is_whole_in_sql();

    // Nor does a verification, or a rerun, take what is left for all.
    let mount = Mount::memory(&daemon.path("accounts.retired/keyspaces"), 64);
    let verified = said(&daemon.ends("verify", &[], 6));
    assert!(
        verified.contains(
            "accounts/first: 20 pairs copied; retired store: DIFFERS (it is not what was sealed"
        ),
        "{verified}"
    );
    assert!(verified.contains("the retired stores do NOT hold what was copied"), "{verified}");
    fs::rename(daemon.target(), daemon.path("lost")).expect("moves");
    let rerun = said(&daemon.run("rerun", &["--yes"]));
    assert!(rerun.contains("is not what was sealed"), "{rerun}");
    assert_eq!(daemon.state(), "RerunAllowed");
    drop(mount);
    daemon.ends("rerun", &["--yes"], 0);
    daemon.is_whole_in_sql();
}

/// No file behind the link was ever synced.
#[test]
fn i2_a_store_whose_keyspaces_are_a_link_or_whose_journal_is_missing_is_refused_by_the_command() {
    let daemon = Daemon::opened_once();
    let keyspaces = daemon.path("accounts/keyspaces");
    fs::rename(&keyspaces, daemon.path("elsewhere")).expect("moves");
    std::os::unix::fs::symlink(daemon.path("elsewhere"), &keyspaces).expect("links");
    refused(&daemon, "accounts/keyspaces is a symbolic link");

    let daemon = Daemon::opened_once();
    let journals = fs::read_dir(daemon.path("accounts")).expect("lists").filter_map(|entry| {
        let path = entry.expect("an entry").path();
        path.extension().is_some_and(|end| end == "jnl").then_some(path)
    });
    journals.for_each(|journal| fs::remove_file(journal).expect("removes"));
    refused(&daemon, "it has no journal");
}

#[test]
fn a_retired_store_that_is_gone_is_named_by_status_verify_and_reclaim() {
    let daemon = Daemon::new();
    daemon.ends("migrate", &["--yes"], 0);
    fs::remove_dir_all(daemon.path("sessions.retired")).expect("removes");
    let status = said(&daemon.ends("status", &[], 0));
    assert!(status.contains("it is gone"), "{status}");
    let verified = said(&daemon.ends("verify", &[], 6));
    assert!(
        verified.contains("sessions/first: 20 pairs copied; retired store: MISSING"),
        "{verified}"
    );
    let freed = said(&daemon.ends("reclaim", &["--yes", "--even-if-changed"], 0));
    assert!(freed.contains("source 'sessions': nothing stood at"), "{freed}");
}

/// A retired store with something else in it kept the ones behind it from being freed.
#[test]
fn i8_a_reclaim_leaves_a_folder_with_something_else_in_it_and_frees_every_other_store() {
    let daemon = Daemon::new();
    fs::write(daemon.path("accounts/wallet.key"), "the only one").expect("writes");
    let asked = said(&daemon.ends("migrate", &["--yes"], 0));
    assert!(
        asked.contains("source 'accounts' also holds what is not the store's own: wallet.key"),
        "{asked}"
    );
    let retired = daemon.path("accounts.retired");
    let stays =
        format!("{} stays, with what is not the store's own: wallet.key", retired.display());
    for _ in 0..2 {
        let freed = said(&daemon.ends("reclaim", &["--yes"], 0));
        assert!(freed.contains(&stays), "{freed}");
        assert!(!daemon.path("sessions.retired").exists());
        assert_eq!(snapshot(&retired).len(), 1);
        assert_eq!(fs::read(retired.join("wallet.key")).expect("reads"), b"the only one");
    }
    // Nothing is left to be freed; what stays is told.
    let status = daemon.status();
    assert!(!status["can"].to_string().contains("reclaim"), "{status}");
    assert_eq!(status["sources"][0]["foreign"][0], "wallet.key");
    daemon.is_whole_in_sql();
    fs::remove_dir_all(&retired).expect("removes");
    let freed = said(&daemon.ends("reclaim", &["--yes"], 0));
    assert!(freed.contains("source 'accounts': nothing stood at"), "{freed}");
}

#[test]
fn a_plan_file_that_names_a_keyspace_wrongly_is_refused_by_the_command() {
    let daemon = Daemon::opened_once();
    let file = daemon.path("plan.toml");
    let named = file.to_str().expect("UTF-8");
    for (line, keyspace) in
        [("tables = { frist = 'mine' }", "frist"), ("leave_out = ['secnod']", "secnod")]
    {
        let plan = format!(
            "target = 'target.sqlite'\n[[source]]\nname = 'accounts'\npath = 'accounts'\n{line}\n"
        );
        fs::write(&file, plan).expect("writes");
        let before = snapshot(&daemon.folder);
        for verb in [&["plan"][..], &["migrate", "--yes"]] {
            let output = cutover(&[verb, &["--plan", named]].concat());
            let words = format!("keyspace '{keyspace}' of source 'accounts' is named in the plan");
            assert_eq!(output.status.code(), Some(3), "{}", said(&output));
            assert!(said(&output).contains(&words), "{}", said(&output));
        }
        unchanged(&daemon.folder, &before);
    }
}

/// A verification of nothing said that all is whole.
#[test]
fn i2_of_stores_without_a_keyspace_or_a_pair_nothing_is_said_to_be_whole() {
    let migrated = |pairs: &Pairs| {
        let daemon = Daemon::new();
        for name in SOURCES {
            fs::remove_dir_all(daemon.path(name)).expect("removes");
            write_store(&daemon.path(name), pairs);
        }
        daemon.ends("migrate", &["--yes"], 0);
        daemon
    };
    let empty = small_store(1, 0);
    for (pairs, told) in [
        (&Pairs::new(), "accounts: no keyspace copied; retired store: as sealed"),
        (&empty, "accounts/first: 0 pairs copied; retired store: as copied"),
    ] {
        let daemon = migrated(pairs);
        let verified = said(&daemon.ends("verify", &[], 0));
        assert!(verified.contains(told), "{verified}");
        assert!(verified.contains("nothing was copied into the SQL database"), "{verified}");
        for word in ["whole", "hold what was copied", "holds what was copied"] {
            assert!(!verified.contains(word), "{word}: {verified}");
        }
        // A store of which nothing was copied is compared all the same.
        emptied(&daemon.path("sessions.retired/keyspaces"));
        let verified = said(&daemon.ends("verify", &[], 6));
        assert!(verified.contains("is not what was sealed"), "{verified}");
    }
}

fn emptied(folder: &Path) {
    fs::remove_dir_all(folder).expect("removes");
    fs::create_dir(folder).expect("creates");
}
