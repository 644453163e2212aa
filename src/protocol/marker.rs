//! The marker: the file that stands at a source's path in place of its directory.
//!
//! A few lines for the person who finds it, one line of JSON, one checksum line. The person's lines
//! are covered by the checksum too.

use super::{Attempt, DecodeError, MigrationId, Run, Stage, Was, envelope, hex_bytes, hex_u128};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The first line of every marker.
pub const FIRST_LINE: &str = "This is a cutover marker. It is not a fjall database any more.";

/// A longer file at a source's path is not a marker of ours. Room for [`SOURCES_MAX`] paths of 4 KiB, and
/// for a store of 100,000 keyspaces: their names, and some files of each.
pub const MARKER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// More sources than any daemon has, few enough that a marker stays readable.
pub const SOURCES_MAX: usize = 64;

const FORMAT: u32 = 1;

/// What a marker says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub(crate) format: u32,
    /// How final it is.
    pub stage: Stage,
    /// The plan's name.
    pub plan: String,
    /// The migration.
    pub id: MigrationId,
    /// Its attempt.
    pub attempt: Attempt,
    /// The name of the source that this marker stands for.
    pub source: String,
    /// What stood here before.
    pub was: Was,
    /// All sources of the plan, in the plan's order.
    pub sources: Vec<SourceNamed>,
    /// The absolute path of the target, without secrets.
    pub target: String,
    /// When it came to its stage, RFC 3339, UTC.
    pub time: String,
    /// The store's own `version` file, where a directory stood here.
    #[serde(with = "hex_bytes")]
    pub version: Option<Vec<u8>>,
    /// Whether the plan makes nothing but a blob table of each keyspace, which the operator's
    /// command can do as well; else only the program that began it knows the tables.
    pub plain: bool,
    /// What the store held when it was sealed; none where nothing stood here, and where a marker was
    /// put back for one that was gone.
    #[serde(deserialize_with = "Option::deserialize")]
    pub store: Option<Inventory>,
}

/// What a store held when it was sealed: a part of it must not be taken for all of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Its keyspaces, each with the number of its folder.
    pub folders: BTreeMap<String, u64>,
    /// The engine's own files that hold the data: the path below the store's folder, and the bytes.
    pub files: BTreeMap<String, u64>,
    /// XXH3-128 over its journals, one after the other: 32 hex digits. Each other file of fjall's has
    /// a checksum of its own.
    pub journals: String,
}

/// A source as a marker names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceNamed {
    /// Its name in the plan.
    pub name: String,
    /// Its absolute path.
    pub path: String,
}

/// What a marker's own lines tell a person to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hints {
    /// The command, or the action, that goes on with the migration.
    pub go_on: String,
    /// The command that gives the KV stores back, while that is still possible.
    pub go_back: String,
}

impl Marker {
    /// A marker in this version's format.
    #[expect(clippy::too_many_arguments, reason = "each is a field of the file")]
    #[must_use]
    pub fn new(
        stage: Stage,
        plan: &str,
        run: Run,
        source: &str,
        was: Was,
        sources: Vec<SourceNamed>,
        target: &str,
        time: String,
        version: Option<Vec<u8>>,
        is_plain: bool,
        store: Option<Inventory>,
    ) -> Self {
        Self {
            format: FORMAT,
            stage,
            plan: plan.to_owned(),
            id: run.id,
            attempt: run.attempt,
            source: source.to_owned(),
            was,
            sources,
            target: target.to_owned(),
            time,
            version,
            plain: is_plain,
            store,
        }
    }

    /// The run it belongs to.
    #[must_use]
    pub const fn run(&self) -> Run {
        Run { id: self.id, attempt: self.attempt }
    }

    /// The bytes of the file.
    ///
    /// # Errors
    ///
    /// When the marker would be larger than [`MARKER_BYTES_MAX`], or could not be read back.
    pub fn encode(&self, hints: &Hints) -> Result<Vec<u8>, DecodeError> {
        let bytes = envelope::seal(&self.heading(hints), self)?.into_bytes();
        // What can't be read back must never reach the disk.
        let back = Self::decode(&bytes)?;
        if back == *self {
            Ok(bytes)
        } else {
            Err(DecodeError::new("it does not read back as it was"))
        }
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    ///
    /// When they are not a whole marker of this version's format.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if !Self::is_ours(bytes) {
            return Err(DecodeError::new("it is not a cutover marker"));
        }
        let marker: Self = envelope::unseal(bytes, MARKER_BYTES_MAX, FORMAT)?;
        if marker.sources.len() > SOURCES_MAX {
            return Err(DecodeError::new(format!("it names more than {SOURCES_MAX} sources")));
        }
        if marker.store.as_ref().is_some_and(|store| hex_u128(&store.journals).is_none()) {
            return Err(DecodeError::new("a digest is not 32 lower-case hex digits"));
        }
        Ok(marker)
    }

    /// Whether `bytes` begin as a marker of ours does, damaged or not.
    #[must_use]
    pub fn is_ours(bytes: &[u8]) -> bool {
        bytes.starts_with(FIRST_LINE.as_bytes())
    }

    fn heading(&self, hints: &Hints) -> String {
        let path = self
            .sources
            .iter()
            .find(|named| named.name == self.source)
            .map_or("", |named| named.path.as_str());
        let mut text = format!("{FIRST_LINE}\n");
        let line = |text: &mut String, label: &str, words: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{label:<12} {}", one_line(words));
        };
        line(
            &mut text,
            "what:",
            &format!("source '{}' of plan '{}', {}", self.source, self.plan, self.meaning()),
        );
        line(&mut text, "when:", &self.time);
        let retired = match (self.was, self.stage) {
            (Was::Nothing, _) => "no store stood here".to_owned(),
            (Was::Directory, Stage::Reclaimed) => "freed on request".to_owned(),
            (
                Was::Directory,
                Stage::Sealed | Stage::Tombstone | Stage::Final | Stage::Restoring,
            ) => format!("{path}{RETIRED_SUFFIX}"),
        };
        line(&mut text, "old store:", &retired);
        line(&mut text, "SQL:", &self.target);
        line(&mut text, "to go on:", &hints.go_on);
        line(&mut text, "to go back:", &hints.go_back);
        line(
            &mut text,
            "do not:",
            "delete, rename or edit this file; it keeps old programs from writing here",
        );
        text
    }

    const fn meaning(&self) -> &'static str {
        match self.stage {
            Stage::Sealed => "is sealed while its data moves to SQL; it can still go back",
            Stage::Tombstone => "has moved to SQL for good",
            Stage::Final => "has moved to SQL for good; the SQL database is in use",
            Stage::Restoring => "is being given back",
            Stage::Reclaimed => "has moved to SQL for good; the old bytes are freed",
        }
    }
}

/// A retired store stands at its old path with this at the end.
pub const RETIRED_SUFFIX: &str = ".retired";

/// A heading's line must stay one line, and move nobody's cursor, whatever a path holds.
fn one_line(words: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    words.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn sample() -> Marker {
        Marker::new(
            Stage::Sealed,
            "litd",
            Run { id: MigrationId(7), attempt: 3 },
            "accounts",
            Was::Directory,
            vec![SourceNamed { name: "accounts".into(), path: "/data/accounts".into() }],
            "/data/litd.sqlite",
            "2026-01-02T03:04:05Z".into(),
            Some(b"FJL\x03".to_vec()),
            true,
            Some(inventory()),
        )
    }

    fn inventory() -> Inventory {
        let files = [("1.jnl", 120), ("keyspaces/0/current", 25), ("keyspaces/1/current", 25)];
        Inventory {
            folders: BTreeMap::from([("users".to_owned(), 1)]),
            files: files.map(|(path, bytes)| (path.to_owned(), bytes)).into(),
            journals: format!("{:032x}", 9),
        }
    }

    fn hints() -> Hints {
        Hints { go_on: "cutover migrate".into(), go_back: "cutover abort".into() }
    }

    #[test]
    fn a_marker_tells_a_person_where_the_data_is_and_what_to_run() {
        let text = String::from_utf8(sample().encode(&hints()).unwrap()).unwrap();
        assert_eq!(
            text,
            "This is a cutover marker. It is not a fjall database any more.\n\
             what:        source 'accounts' of plan 'litd', is sealed while its data moves to SQL; it can still go back\n\
             when:        2026-01-02T03:04:05Z\n\
             old store:   /data/accounts.retired\n\
             SQL:         /data/litd.sqlite\n\
             to go on:    cutover migrate\n\
             to go back:  cutover abort\n\
             do not:      delete, rename or edit this file; it keeps old programs from writing here\n\
             {\"format\":1,\"stage\":\"sealed\",\"plan\":\"litd\",\"id\":\"00000000000000000000000000000007\",\
             \"attempt\":3,\"source\":\"accounts\",\"was\":\"directory\",\"sources\":[{\"name\":\"accounts\",\
             \"path\":\"/data/accounts\"}],\"target\":\"/data/litd.sqlite\",\"time\":\"2026-01-02T03:04:05Z\",\
             \"version\":\"464a4c03\",\"plain\":true,\"store\":{\"folders\":{\"users\":1},\"files\":\
             {\"1.jnl\":120,\"keyspaces/0/current\":25,\"keyspaces/1/current\":25},\
             \"journals\":\"00000000000000000000000000000009\"}}\n\
             checksum xxh3-128 0971a2e2c758ecd7cf60ef4fb0866c57\n"
        );
    }

    #[test]
    fn every_single_changed_cut_or_added_byte_is_noticed() {
        let whole = sample().encode(&hints()).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            Marker::decode(&changed).unwrap_err();
            Marker::decode(&whole[..at]).unwrap_err();
        }
        let mut longer = whole.clone();
        longer.push(b'\n');
        Marker::decode(&longer).unwrap_err();
    }

    #[test]
    fn a_marker_has_room_for_64_sources_with_paths_of_4_kib_and_for_no_more() {
        let mut marker = sample();
        let path = "/x".repeat(2048);
        marker.sources = (0..SOURCES_MAX)
            .map(|n| SourceNamed { name: n.to_string(), path: path.clone() })
            .collect();
        assert_eq!(marker.sources.len(), 64);
        assert_eq!(Marker::decode(&marker.encode(&hints()).unwrap()).unwrap(), marker);
        marker.sources.push(SourceNamed { name: "one more".into(), path });
        let error = marker.encode(&hints()).unwrap_err();
        assert_eq!(error.to_string(), "it names more than 64 sources");
    }

    /// Its store has 100,000 keyspaces, each with a table.
    #[test]
    fn a_marker_has_room_for_the_store_of_a_hundred_thousand_keyspaces() {
        let mut marker = sample();
        let mut store = inventory();
        for number in 1..=100_000 {
            store.folders.insert(format!("events-{number:06}"), number);
            for file in ["current", "tables/1"] {
                store.files.insert(format!("keyspaces/{number}/{file}"), 1 << 20);
            }
        }
        marker.store = Some(store);
        assert_eq!(Marker::decode(&marker.encode(&hints()).unwrap()).unwrap(), marker);
    }

    #[test]
    fn a_digest_that_is_no_number_is_refused_though_the_checksum_is_right() {
        let mut marker = sample();
        marker.store = Some(Inventory { journals: "zz".into(), ..inventory() });
        let error = marker.encode(&hints()).unwrap_err();
        assert_eq!(error.to_string(), "a digest is not 32 lower-case hex digits");
    }

    /// A damaged marker is told from a file that was never ours by its first line alone.
    #[test]
    fn what_begins_with_other_words_is_no_marker_of_ours_however_whole_it_is() {
        let whole = envelope::seal("Something else.\n", &sample()).unwrap();
        assert!(!Marker::is_ours(whole.as_bytes()));
        let error = Marker::decode(whole.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "it is not a cutover marker");
        assert!(Marker::is_ours(format!("{FIRST_LINE} and then damage").as_bytes()));
    }

    #[test]
    fn a_newer_format_is_refused_by_its_number() {
        let text = envelope::seal(
            &format!("{FIRST_LINE}\n"),
            &serde_json::json!({"format": 2, "anything": "else"}),
        )
        .unwrap();
        let error = Marker::decode(text.as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "its format is number 2, and this version of cutover reads number 1"
        );
    }

    #[test]
    fn a_path_with_a_line_break_does_not_forge_a_line() {
        let mut marker = sample();
        marker.target = "/data/x\nto go on:    rm -rf /".into();
        let text = String::from_utf8(marker.encode(&hints()).unwrap()).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("to go on:")).count(), 1);
        assert_eq!(Marker::decode(text.as_bytes()).unwrap(), marker);
    }

    /// Red, a cleared screen, the C1 control that some terminals take for the same, and a deletion.
    #[test]
    fn a_path_with_terminal_escapes_is_shown_and_not_obeyed() {
        let mut marker = sample();
        marker.target = "/data/\u{1b}[31mx\u{1b}[2J\u{9b}1m\u{7f}.sqlite".into();
        marker.sources[0].path = "/data/\u{1b}[31mx".into();
        let text = String::from_utf8(marker.encode(&hints()).unwrap()).unwrap();
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        let shown = r"SQL:         /data/\u{1b}[31mx\u{1b}[2J\u{9b}1m\u{7f}.sqlite";
        assert!(text.lines().any(|line| line == shown), "{text}");
        assert!(text.contains(r"old store:   /data/\u{1b}[31mx.retired"), "{text}");
        assert_eq!(Marker::decode(text.as_bytes()).unwrap(), marker);
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Marker::decode(&bytes);
            let mut ours = FIRST_LINE.as_bytes().to_vec();
            ours.extend(bytes);
            let _ = Marker::decode(&ours);
        }

        #[test]
        fn what_is_encoded_reads_back(
            plan in ".{0,40}", source in ".{0,40}", path in ".{0,80}", target in ".{0,80}",
            id in any::<u128>(), attempt in any::<u32>(),
            version in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64)),
            folders in proptest::collection::btree_map(".{0,20}", any::<u64>(), 0..4),
            files in proptest::collection::btree_map(".{0,20}", any::<u64>(), 0..4),
            journals in proptest::option::of(any::<u128>()),
        ) {
            let store = journals.map(|sum| Inventory { folders, files, journals: format!("{sum:032x}") });
            let marker = Marker::new(
                Stage::Tombstone, &plan, Run { id: MigrationId(id), attempt }, &source, Was::Nothing,
                vec![SourceNamed { name: source.clone(), path }], &target, String::new(), version, false,
                store,
            );
            let bytes = marker.encode(&hints()).unwrap();
            prop_assert_eq!(Marker::decode(&bytes).unwrap(), marker);
        }
    }
}
