//! Markers that are damaged, foreign, or another plan's.

use super::*;
use crate::common::{SOURCES, small_plan_builder};
use xxhash_rust::xxh3::xxh3_128;

/// The marker with a newer format's number, and the checksum that goes with it.
fn newer_format(marker: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(marker.to_vec()).expect("UTF-8");
    let (rest, _) = text.trim_end().rsplit_once('\n').expect("lines");
    let rest = rest.replace("{\"format\":1,", "{\"format\":2,") + "\n";
    let sum = xxh3_128(rest.as_bytes());
    format!("{rest}checksum xxh3-128 {sum:032x}\n").into_bytes()
}

#[test]
fn a_damaged_marker_is_refused_at_every_stage() {
    type Damage = fn(&[u8]) -> Vec<u8>;
    let damages: [(Damage, &str); 4] = [
        (|marker| marker[..marker.len() - 9].to_vec(), "its last line is cut"),
        (
            |marker| {
                let mut flipped = marker.to_vec();
                flipped[marker.len() / 2] ^= 1;
                flipped
            },
            "its checksum is wrong",
        ),
        (|marker| [marker, b"\n"].concat(), "it does not end in a checksum line"),
        (newer_format, "its format is number 2, and this version of cutover reads number 1"),
    ];
    for (daemon, is_live) in [
        (Daemon::sealed(), false),
        (Daemon::copying(), false),
        (Daemon::committed(), false),
        (Daemon::live(), true),
    ] {
        for (source, name) in SOURCES.iter().enumerate() {
            let marker = fs::read(daemon.at(name)).expect("reads");
            for (damage, words) in damages {
                fs::write(daemon.at(name), damage(&marker)).expect("writes");
                let what = format!("the marker of source '{name}' at");
                let next = if is_live { "`cutover migrate`" } else { "put it back from a backup" };
                let words = [what.as_str(), "is damaged", words, next];
                let contradiction = Contradiction::DamagedMarker(source);
                contradicted(daemon.path(), &daemon.plan(), contradiction, &words);
            }
            fs::write(daemon.at(name), marker).expect("writes");
        }
        cutover::sql(&daemon.plan(), &mut ()).expect("the whole marker goes on");
    }
}

#[test]
fn something_foreign_at_a_source_s_path_is_refused() {
    for (daemon, next) in [
        (Daemon::sealed(), "if a marker stood here, put it back from a backup"),
        (Daemon::live(), "move it away and at once run `cutover migrate`"),
    ] {
        for text in ["", "dear reader"] {
            fs::write(daemon.at("sessions"), text).expect("writes");
            contradicted(
                daemon.path(),
                &daemon.plan(),
                Contradiction::ForeignAtPath(1),
                &["the path of source 'sessions'", next],
            );
        }
    }
    let daemon = Daemon::fresh();
    fs::remove_dir_all(daemon.at("sessions")).expect("removes");
    fs::write(daemon.at("sessions"), "dear reader").expect("writes");
    let words = ["neither a store nor a marker", "otherwise move it away, or correct the path"];
    contradicted(daemon.path(), &daemon.plan(), Contradiction::ForeignAtPath(1), &words);
}

#[test]
fn something_foreign_at_a_retired_name_is_refused() {
    let daemon = Daemon::fresh();
    fs::write(daemon.at("accounts.retired"), "dear reader").expect("writes");
    let words = ["accounts.retired was not put there by this migration"];
    contradicted(daemon.path(), &daemon.plan(), Contradiction::ForeignAtRetired(0), &words);
    fs::remove_file(daemon.at("accounts.retired")).expect("removes");
    fs::create_dir(daemon.at("accounts.retired")).expect("creates");
    nothing_has_begun(&daemon);
}

/// The message once told the operator to move the live store away.
#[test]
fn a_store_of_the_daemon_s_own_at_the_retired_name_is_what_is_to_be_moved() {
    let daemon = Daemon::fresh();
    daemon.keep("sessions").put_back(&daemon.at("accounts.retired"));
    nothing_has_begun(&daemon);
}

fn nothing_has_begun(daemon: &Daemon) {
    let retired = daemon.at("accounts.retired");
    let words = [
        "accounts.retired, and cutover needs that name for the store of source 'accounts' at",
        &format!("; move {} away", retired.display()),
    ];
    contradicted(daemon.path(), &daemon.plan(), Contradiction::TwoStores(0), &words);
}

/// Opening the stores once deleted it.
#[test]
fn a_file_of_the_user_s_own_at_a_name_that_the_exchange_is_tried_with_is_kept() {
    let daemon = Daemon::fresh();
    let (file, folder) = (daemon.at("accounts.cutover-probe"), daemon.at("sessions.cutover-probe"));
    fs::write(&file, "dear reader").expect("writes");
    fs::create_dir(&folder).expect("creates");
    let empty = daemon.at("accounts.cutover-probe-2");
    fs::write(&empty, "").expect("writes");
    drop(cutover::kv(&daemon.plan()).expect("opens as ever"));
    assert!(!empty.exists(), "it is what a killed run leaves");
    let words = ["accounts.cutover-probe changed while cutover worked on it"];
    let changed = |c: &Cause| matches!(c, Cause::ChangedUnderneath(_));
    refused(daemon.path(), &daemon.plan(), changed, &words);
    assert_eq!(fs::read_to_string(&file).expect("reads"), "dear reader");
    assert!(folder.is_dir());
}

#[test]
fn a_plan_that_is_not_the_markers_own_is_refused() {
    for daemon in [Daemon::sealed(), Daemon::copying(), Daemon::committed(), Daemon::live()] {
        let fewer = Plan::builder("small")
            .source("accounts", daemon.at("accounts"), |s| s.every_keyspace())
            .target(daemon.at("target.sqlite"))
            .build()
            .expect("a plan");
        let words = ["names other sources than the plan", "they are accounts, sessions"];
        contradicted(daemon.path(), &fewer, Contradiction::OtherSources(0), &words);

        let other = SOURCES
            .iter()
            .fold(Plan::builder("other"), |plan, name| {
                plan.source(*name, daemon.at(name), |s| s.every_keyspace())
            })
            .target(daemon.at("target.sqlite"))
            .build()
            .expect("a plan");
        let words = ["belongs to another plan", "it is of plan 'small'", "use that plan's name"];
        contradicted(daemon.path(), &other, Contradiction::OtherPlan(0), &words);

        let swapped = Plan::builder("small")
            .source("accounts", daemon.at("sessions"), |s| s.every_keyspace())
            .source("sessions", daemon.at("accounts"), |s| s.every_keyspace())
            .target(daemon.at("target.sqlite"))
            .build()
            .expect("a plan");
        let words = ["another source's, not 'accounts'", "it is of source 'sessions'"];
        contradicted(daemon.path(), &swapped, Contradiction::OtherSource(0), &words);
    }
}

#[test]
fn a_target_elsewhere_than_the_markers_say_is_refused() {
    let elsewhere = |daemon: &Daemon| {
        let target = daemon.at("other.sqlite");
        small_plan_builder(daemon.path()).target(target).build().expect("a plan")
    };
    let daemon = Daemon::live();
    let words = ["a live SQL database of this plan is at", "target.sqlite", "other.sqlite"];
    contradicted(daemon.path(), &elsewhere(&daemon), Contradiction::LiveElsewhere, &words);
    for daemon in [Daemon::copying(), Daemon::committed()] {
        let words = ["an unfinished migration of this plan is at", "target.sqlite"];
        contradicted(daemon.path(), &elsewhere(&daemon), Contradiction::RecordElsewhere, &words);
    }
    let daemon = Daemon::sealed();
    let words = ["the markers name the SQL database", "target.sqlite", "if it is lost for good"];
    contradicted(daemon.path(), &elsewhere(&daemon), Contradiction::TargetElsewhere, &words);
}
