//! The text of every error and of every marker, committed in `texts.txt` and read as a diff: each
//! says what, where, and what next.

use super::{Cause, Contradicted, Contradiction, Error, Mismatch, RefusedPair, Words, not_from};
use crate::drive::hints;
use crate::look::Places;
use crate::plan::{Plan, SourceBuilder};
use crate::protocol::marker::{Marker, SourceNamed};
use crate::protocol::tests::matrix::pinned_at;
use crate::protocol::{MigrationId, RecordStage, Run, Stage, State, Was};
use crate::sql::Access;
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

const ADVICE: &str = "look at the disk and run this again";

/// Samples for each variant. The match has no wildcard, so a new variant does not compile until it
/// has a row here.
macro_rules! samples {
    ($all:ident, $type:ty, $($pattern:pat => [$($sample:expr),+ $(,)?],)+) => {
        fn $all() -> Vec<$type> {
            let all = vec![$($($sample),+),+];
            for sample in &all {
                match sample {
                    $($pattern => {})+
                }
            }
            $(assert!(all.iter().any(|sample| matches!(sample, $pattern)), "{}", stringify!($pattern));)+
            all
        }
    };
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("/data/{name}"))
}

fn target() -> PathBuf {
    path("app.sqlite")
}

fn accounts() -> (String, PathBuf) {
    ("accounts".to_owned(), path("accounts"))
}

fn system(errno: rustix::io::Errno, what: &'static str) -> Cause {
    Cause::io_rustix(what, &target())(errno)
}

samples! { causes, Cause,
    Cause::Io { .. } => [
        system(rustix::io::Errno::NOSPC, "write"),
        system(rustix::io::Errno::DQUOT, "write"),
        system(rustix::io::Errno::ACCESS, "open"),
        system(rustix::io::Errno::NOMEM, "open"),
        system(rustix::io::Errno::ROFS, "create"),
        system(rustix::io::Errno::NOENT, "open"),
        system(rustix::io::Errno::LOOP, "open"),
        system(rustix::io::Errno::IO, "sync"),
        system(rustix::io::Errno::MFILE, "open"),
        system(rustix::io::Errno::NAMETOOLONG, "look at"),
        system(rustix::io::Errno::NOTDIR, "look at"),
        system(rustix::io::Errno::BUSY, "rename to"),
    ],
    Cause::Denied { .. } => [Cause::Denied {
        what: "read",
        path: path("accounts/version"),
        place: path("accounts"),
        owner: "user 0 (root)".into(),
        mode: 0o700,
        user: "user 1000 (anna)".into(),
        next: "let user 1000 (anna) use it, or run this as user 0 (root)".into(),
    }],
    Cause::StoreShared { .. } => [Cause::StoreShared {
        name: "accounts".into(),
        path: path("accounts"),
        place: path("accounts/lock"),
        reason: "belongs to user 1000 (anna), and the store's folder to user 0 (root)".into(),
        next: "give all of it to the user who runs the daemon (chown -R)".into(),
    }],
    Cause::TargetOfAnother { .. } => [Cause::TargetOfAnother {
        path: target(),
        owner: "user 1001 (eve)".into(),
        user: "user 1000 (anna)".into(),
    }],
    Cause::TargetLocksOut { .. } => [Cause::TargetLocksOut {
            what: "the target",
        path: target(),
        owner: "user 0 (root)".into(),
        mode: 0o644,
        user: "user 1000 (anna)".into(),
    }],
    Cause::Owner { .. } => [Cause::Owner {
        path: path("accounts"),
        owner: "user 0 (root)".into(),
        user: "user 1000 (anna)".into(),
    }],
    Cause::Owners { .. } => [Cause::Owners {
        path: target(),
        owners: vec![
            "/data/accounts belongs to user 0 (root)".into(),
            "/data/sessions belongs to user 1000 (anna)".into(),
        ],
    }],
    Cause::StoreDamaged { .. } => [Cause::StoreDamaged {
        what: "read",
        path: path("accounts.retired"),
        reason: "the checksum of a block is wrong".into(),
    }],
    Cause::Engine { .. } => [Cause::Engine {
        engine: "SQLite",
        what: "write into",
        path: target(),
        message: "disk I/O error".into(),
        next: ADVICE,
    }],
    Cause::Plan(_) => [Cause::Plan("two sources are named 'accounts'".into())],
    Cause::Bug(_) => [Cause::Bug("the plan took too many steps".into())],
    Cause::PlanChanged { .. } => [Cause::PlanChanged {
        how: "the record has accounts/first as blobs into a".into(),
        next: super::BEGUN_WITH_OR_ABORT,
    }],
    Cause::NotUtf8(_) => [Cause::NotUtf8(path("accounts"))],
    Cause::MarkerMoved { .. } => [Cause::MarkerMoved {
        path: path("accounts"),
        written_at: PathBuf::from("/old/accounts"),
    }],
    Cause::SourceMissing { .. } => [Cause::SourceMissing { name: "accounts".into(), path: path("acounts") }],
    Cause::NotAStore { .. } => [Cause::NotAStore {
        name: "accounts".into(),
        path: path("accounts"),
        reason: "it has no folder 'keyspaces'; restore it from a backup".into(),
    }],
    Cause::SourceBusy { .. } => [Cause::SourceBusy {
        name: "accounts".into(),
        path: path("accounts"),
        holder: "process 7 (daemon)".into(),
    }],
    Cause::Locked { .. } => [Cause::Locked { path: path("accounts"), holder: "process 7 (cutover)".into() }],
    Cause::Unchangeable { .. } => [Cause::Unchangeable {
        path: path("accounts/version"),
        why: "it is immutable",
        next: "take that off it (chattr -i) and run this again",
    }],
    Cause::MountPoint { .. } => [Cause::MountPoint { name: "accounts".into(), path: path("accounts") }],
    Cause::RetiredChanged { .. } => [Cause::RetiredChanged { name: "accounts".into(), path: path("accounts.retired"), difference: "keyspaces/3/tables/7 of keyspace 'users' is gone".into() }],
    Cause::KeyspaceMissing { .. } => [
        Cause::KeyspaceMissing { name: "accounts".into(), keyspace: "evnts".into(), found: vec!["events".into(), "users".into()] },
        Cause::KeyspaceMissing { name: "accounts".into(), keyspace: "evnts".into(), found: Vec::new() },
    ],
    Cause::Scattered { .. } => [Cause::Scattered { name: "accounts".into(), path: path("accounts/keyspaces"), what: "a symbolic link" }],
    Cause::NoExchange { .. } => [Cause::NoExchange {
        path: path(""),
        filesystem: "nfs".into(),
        source: io::Error::from_raw_os_error(rustix::io::Errno::INVAL.raw_os_error()),
    }],
    Cause::ForeignLink { .. } => [Cause::ForeignLink { path: path("accounts"), end: "/root/accounts".into() }],
    Cause::Overlap { .. } => [Cause::Overlap {
        first: "source 'accounts'".into(),
        second: "the target".into(),
        path: path("accounts"),
    }],
    Cause::KeyspaceUnmapped { .. } => [Cause::KeyspaceUnmapped { name: "accounts".into(), keyspace: "first".into() }],
    Cause::TargetFolderMissing(_) => [Cause::TargetFolderMissing(target())],
    Cause::NotADatabase { .. } => [Cause::NotADatabase { path: target(), reason: "it is a folder".into() }],
    Cause::Table { .. } => [Cause::Table {
        path: target(),
        table: "accounts_first".into(),
        reason: "it has rows".into(),
    }],
    Cause::RowsLeft { .. } => [Cause::RowsLeft {
        path: target(),
        tables: vec!["accounts_first".into(), "accounts_second".into()],
    }],
    Cause::Definition { .. } => [Cause::Definition {
        path: target(),
        table: "accounts_first".into(),
        reason: "duplicate column name: key".into(),
    }],
    Cause::Misfit { .. } => [Cause::Misfit {
        name: "accounts".into(),
        keyspace: "first".into(),
        path: target(),
        table: "account".into(),
        reason: "column 'since' may not be NULL, has no default, and no field of the struct fills it".into(),
    }],
    Cause::Index { .. } => [Cause::Index {
        path: target(),
        table: "accounts_first".into(),
        reason: "no such column: x".into(),
    }],
    Cause::Claims { .. } => [Cause::Claims {
        path: path("app.sqlite.cutover"),
        reason: "it would be longer than 65536 bytes".into(),
    }],
    Cause::DiskFull { .. } => [Cause::DiskFull { path: path(""), needed_bytes: 2000, available_bytes: 1000 }],
    Cause::InTheWay(_) => [Cause::InTheWay(path("app.sqlite.rehearsal"))],
    Cause::PairRefused { .. } => [Cause::PairRefused {
        name: "accounts".into(),
        keyspace: "first".into(),
        key: "0007".into(),
        reason: "no account number".into(),
    }],
    Cause::QuarantineFull { .. } => [Cause::QuarantineFull {
        name: "accounts".into(),
        keyspace: "balances".into(),
        key: "0107".into(),
        reason: "no such account".into(),
        quarantined: 3,
        table: "cutover_quarantine_litd".into(),
    }],
    Cause::PairsRefused { .. } => [Cause::PairsRefused {
        name: "accounts".into(),
        refused: 3,
        budget: 0,
        first: vec![
            RefusedPair { keyspace: "first".into(), key: "0007".into(), reason: "no account number".into() },
            RefusedPair { keyspace: "first".into(), key: "0009".into(), reason: "no account number".into() },
        ],
    }],
    Cause::RowRefused { .. } => [Cause::RowRefused {
        name: "sessions".into(),
        keyspace: "second".into(),
        path: target(),
        reason: "its account is gone".into(),
    }],
    Cause::CheckRefused { .. } => [Cause::CheckRefused { path: target(), reason: "an account is gone".into() }],
    Cause::TargetAltered { .. } => [Cause::TargetAltered {
        path: target(),
        table: "accounts_first".into(),
        next: "put its definition and triggers back, or abort",
    }],
    Cause::ChangedUnderneath(_) => [Cause::ChangedUnderneath(path("accounts"))],
    Cause::RecordChanged(_) => [Cause::RecordChanged(target())],
    Cause::Cancelled => [Cause::Cancelled],
    Cause::Moved { .. } => [Cause::Moved {
        state: State::Tombstoned.name(),
        sources: vec![accounts(), ("sessions".into(), path("sessions"))],
        target: target(),
        next: "start with the SQL database",
    }],
    Cause::State { .. } => [not_from(
        State::Committed,
        "that is not possible from there",
        "`cutover status` says what is",
    )],
    Cause::Several(_) => [Cause::Several(vec![
        Cause::RecordChanged(target()),
        Cause::ChangedUnderneath(path("accounts")),
    ])],
}

/// The errors that frame a cause, or have none.
fn errors() -> Vec<Error> {
    samples! { framed, Error,
        Error::Refused(_) => [Error::Refused(Cause::RecordChanged(target()))],
        Error::Interrupted { .. } => [Error::Interrupted {
            step: "copy",
            cause: Cause::RecordChanged(target()),
        }],
        Error::OutcomeUnknown { .. } => [Error::OutcomeUnknown {
            step: "pass the commit point",
            cause: Cause::RecordChanged(target()),
        }],
        Error::Contradiction(_) => [Error::Contradiction(Box::new(tell(true, Contradiction::StaleTarget)))],
        Error::Verification(_) => [mismatch(20), mismatch(21)],
        Error::NeedsApproval { .. } => [Error::NeedsApproval {
            state: State::RerunAllowed.name(),
            why: "the SQL database /data/app.sqlite is gone".into(),
            next: "restore it from a backup".into(),
        }],
    }
    framed()
}

fn mismatch(found_pairs: u64) -> Error {
    Error::Verification(Box::new(Mismatch {
        source_name: "accounts".into(),
        keyspace: "first".into(),
        side: "the SQL database".into(),
        expected_pairs: 20,
        found_pairs,
        next: "before the commit point, abort".into(),
    }))
}

samples! { contradictions, Contradiction,
    Contradiction::DamagedMarker(_) => [Contradiction::DamagedMarker(0)],
    Contradiction::ForeignAtPath(_) => [Contradiction::ForeignAtPath(0)],
    Contradiction::ForeignAtRetired(_) => [Contradiction::ForeignAtRetired(0)],
    Contradiction::OtherPlan(_) => [Contradiction::OtherPlan(0)],
    Contradiction::OtherSource(_) => [Contradiction::OtherSource(0)],
    Contradiction::OtherSources(_) => [Contradiction::OtherSources(0)],
    Contradiction::MigrationsDiffer(..) => [Contradiction::MigrationsDiffer(0, 1)],
    Contradiction::MarkerGone(_) => [Contradiction::MarkerGone(0)],
    Contradiction::TwoStores(_) => [Contradiction::TwoStores(0)],
    Contradiction::SwappedBack(_) => [Contradiction::SwappedBack(0)],
    Contradiction::HeldStoreAtPath(_) => [Contradiction::HeldStoreAtPath(0)],
    Contradiction::RetiredGone(_) => [Contradiction::RetiredGone(0)],
    Contradiction::ReturnedStore(_) => [Contradiction::ReturnedStore(0)],
    Contradiction::OpenBesideRecord(_) => [Contradiction::OpenBesideRecord(0)],
    Contradiction::OpenBesideTombstone(_) => [Contradiction::OpenBesideTombstone(0)],
    Contradiction::MixedStages(_) => [Contradiction::MixedStages(0)],
    Contradiction::RestoringBesideRecord(_) => [Contradiction::RestoringBesideRecord(0)],
    Contradiction::LiveBesideSealed(_) => [Contradiction::LiveBesideSealed(0)],
    Contradiction::SourceElsewhere(_) => [Contradiction::SourceElsewhere(0)],
    Contradiction::ReclaimedWithoutTarget(_) => [Contradiction::ReclaimedWithoutTarget(0)],
    Contradiction::RecordWithoutMarkers => [Contradiction::RecordWithoutMarkers],
    Contradiction::RecordOfAnotherMigration => [Contradiction::RecordOfAnotherMigration],
    Contradiction::RecordOfOtherSources => [Contradiction::RecordOfOtherSources],
    Contradiction::StaleTarget => [Contradiction::StaleTarget],
    Contradiction::OlderTarget => [Contradiction::OlderTarget],
    Contradiction::ClaimMissing => [Contradiction::ClaimMissing],
    Contradiction::ClaimOfAnotherMigration => [Contradiction::ClaimOfAnotherMigration],
    Contradiction::ClaimUnreadable => [Contradiction::ClaimUnreadable],
    Contradiction::LiveElsewhere => [Contradiction::LiveElsewhere],
    Contradiction::RecordElsewhere => [Contradiction::RecordElsewhere],
    Contradiction::TargetElsewhere => [Contradiction::TargetElsewhere],
    Contradiction::RecordGone => [Contradiction::RecordGone],
    Contradiction::RecordGoneElsewhere => [Contradiction::RecordGoneElsewhere],
    Contradiction::TargetUnreadable => [Contradiction::TargetUnreadable],
    Contradiction::TargetUnreachable => [Contradiction::TargetUnreachable],
    Contradiction::TargetMainFileGone => [Contradiction::TargetMainFileGone],
}

fn tell(begun: bool, contradiction: Contradiction) -> Contradicted {
    let named = |at: usize| {
        let name = ["accounts", "sessions"][at];
        (name.to_owned(), path(name))
    };
    let elsewhere = path("old.sqlite");
    let detail = (contradiction != Contradiction::TargetElsewhere)
        .then(|| "its checksum is wrong".to_owned());
    let words = Words {
        source: &named,
        target: &target(),
        elsewhere: Some(&elsewhere),
        begun,
        only_sealed: false,
        record: None,
        sources: 2,
        detail,
        cure: None,
        puts_back: false,
        lost: Some(lost(contradiction).to_owned()),
    };
    words.tell(contradiction)
}

fn lost(contradiction: Contradiction) -> &'static str {
    if contradiction == Contradiction::RecordGone {
        "`cutover rerun --record-lost` or `cutover restore-kv --record-lost`"
    } else {
        "`cutover rerun --target-lost` or `cutover restore-kv --target-lost`"
    }
}

/// Those that are told in other words in some situations.
fn told_elsewise() -> Vec<(&'static str, Contradicted)> {
    let (named, target) = (|_| accounts(), target());
    let words = |only_sealed, record, sources, detail: Option<&str>| Words {
        source: &named,
        target: &target,
        elsewhere: Some(Path::new("/old/app.sqlite")),
        begun: true,
        only_sealed,
        record,
        sources,
        detail: detail.map(str::to_owned),
        cure: None,
        puts_back: false,
        lost: Some("`cutover abort --target-lost`".to_owned()),
    };
    let detail = "the marker at /data/accounts was written at /old/accounts";
    let mut told = vec![
        (
            "the folder was moved",
            words(false, None, 2, Some(detail)).tell(Contradiction::TargetElsewhere),
        ),
        ("it is the only source", words(false, None, 1, None).tell(Contradiction::MarkerGone(0))),
        (
            "another migration is live",
            words(false, Some(RecordStage::Live), 2, None)
                .tell(Contradiction::RecordOfAnotherMigration),
        ),
        (
            "there is a record",
            words(false, Some(RecordStage::Live), 2, None).tell(Contradiction::MarkerGone(0)),
        ),
    ];
    for contradiction in [
        Contradiction::DamagedMarker(0),
        Contradiction::ForeignAtPath(0),
        Contradiction::TwoStores(0),
        Contradiction::ReturnedStore(0),
    ] {
        let live = Words { puts_back: true, ..words(false, Some(RecordStage::Live), 2, None) };
        told.push(("the SQL database is live", live.tell(contradiction)));
    }
    for contradiction in [
        Contradiction::ClaimMissing,
        Contradiction::TargetElsewhere,
        Contradiction::TargetUnreachable,
        Contradiction::RecordGone,
    ] {
        let lost = Words { lost: None, ..words(false, None, 2, None) };
        told.push(("nothing goes on without it", lost.tell(contradiction)));
    }
    let cure = Some("end the program that has it open and run this again".to_owned());
    told.push((
        "what is in the way is known",
        Words { cure, ..words(false, None, 2, Some("database is locked")) }
            .tell(Contradiction::TargetUnreachable),
    ));
    for contradiction in [
        Contradiction::ClaimMissing,
        Contradiction::ClaimUnreadable,
        Contradiction::TargetUnreadable,
        Contradiction::TargetUnreachable,
        Contradiction::TargetMainFileGone,
    ] {
        told.push(("only sealed", words(true, None, 2, None).tell(contradiction)));
    }
    told
}

samples! { stages, Stage,
    Stage::Sealed => [Stage::Sealed],
    Stage::Tombstone => [Stage::Tombstone],
    Stage::Final => [Stage::Final],
    Stage::Restoring => [Stage::Restoring],
    Stage::Reclaimed => [Stage::Reclaimed],
}

/// The lines of a marker that are for a person.
fn heading(stage: Stage, was: Was, is_plain: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let plan =
        Plan::builder("app").source("accounts", at("accounts"), SourceBuilder::every_keyspace);
    let plan = plan.target(at("app.sqlite")).build().unwrap();
    let places = Places::new(&plan, Access::LookOnly).unwrap();
    let name = "accounts".to_owned();
    let sources = vec![SourceNamed { name, path: at("accounts").display().to_string() }];
    let marker = Marker::new(
        stage,
        "app",
        Run { id: MigrationId(7), attempt: 3 },
        "accounts",
        was,
        sources,
        &at("app.sqlite").display().to_string(),
        "2026-01-02T03:04:05Z".into(),
        None,
        is_plain,
        None,
    );
    let text = String::from_utf8(marker.encode(&hints(&places, &marker)).unwrap()).unwrap();
    let (heading, _) = text.split_once("\n{").unwrap();
    heading.replace(folder.path().to_str().unwrap(), "/data") + "\n"
}

#[test]
fn sizes_are_told_in_units_that_people_read() {
    for (bytes, told) in [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.00 KiB"),
        (67_108_864, "64.00 MiB"),
        (1_610_612_736, "1.50 GiB"),
        (u64::MAX, "16777215.99 TiB"),
    ] {
        assert_eq!(super::size(bytes), told);
    }
}

fn all_texts() -> String {
    let mut text = String::from("# Causes\n\n");
    for cause in causes() {
        writeln!(text, "{cause}").unwrap();
    }
    text += "\n# Errors\n\n";
    for error in errors() {
        writeln!(text, "{error}").unwrap();
    }
    text += "\n# Contradictions\n\n";
    for contradiction in contradictions() {
        writeln!(text, "{contradiction:?}: {}", tell(true, contradiction)).unwrap();
    }
    let before = Contradiction::TwoStores(0);
    writeln!(text, "{before:?}, where nothing has begun: {}", tell(false, before)).unwrap();
    for (situation, told) in told_elsewise() {
        writeln!(text, "{:?}, where {situation}: {told}", told.contradiction).unwrap();
    }
    text += "\n# Markers\n\n";
    let stages = stages().into_iter().map(|stage| (stage, Was::Directory, true));
    let others = [(Stage::Sealed, Was::Nothing, true), (Stage::Sealed, Was::Directory, false)];
    for (stage, was, is_plain) in stages.chain(others) {
        writeln!(text, "{}", heading(stage, was, is_plain)).unwrap();
    }
    text
}

#[test]
fn the_text_of_every_error_and_of_every_marker_is_what_is_committed() {
    pinned_at("src/error/texts.txt", &all_texts(), include_str!("texts.txt"));
}

/// Whether a text names a thing that a person can go and look at.
fn says_where(text: &str) -> bool {
    ["/data/", "source 'accounts'", "the plan"].iter().any(|place| text.contains(place))
}

#[test]
fn every_error_is_one_sentence_that_says_what_where_and_what_next() {
    let causes = causes().into_iter().map(Error::Refused);
    let told = contradictions().into_iter().flat_map(|c| [tell(true, c), tell(false, c)]);
    let told = told.chain(told_elsewise().into_iter().map(|(_, told)| told));
    let told = told.map(|told| Error::Contradiction(Box::new(told)));
    let mut without_place = Vec::new();
    for error in causes.chain(errors()).chain(told) {
        let text = error.to_string();
        assert!(
            text.starts_with(|c: char| !c.is_uppercase()) || text.starts_with("SQLite"),
            "{text}"
        );
        assert!(!text.contains('\n') && !text.ends_with(['.', ';', ' ']), "{text}");
        let (what, next) = text.rsplit_once("; ").unwrap_or_else(|| panic!("no next step: {text}"));
        assert!(!what.is_empty() && next.contains(' '), "{text}");
        if !says_where(&text) {
            without_place.push(text);
        }
    }
    // It stopped because it was asked to, and nowhere in particular.
    assert_eq!(without_place, [Cause::Cancelled.to_string()]);
}
