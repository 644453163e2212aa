//! The plan: which sources go into which target, and how.

use crate::check::Check;
use crate::error::{Cause, Error};
use crate::mapping::{Blobs, Keyspace, Mapping};
use crate::protocol::marker::{Hints, SOURCES_MAX};
use crate::sql::JournalMode;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Chunks of this many bytes of keys and values, unless the plan says otherwise: large enough that
/// a chunk's two syncs cost nothing, small enough to do again after a crash.
pub const CHUNK_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// The largest chunk that a plan may ask for: so much is copied anew after a crash.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The longest name of a plan or source, in bytes.
pub const NAME_BYTES_MAX: usize = 100;

/// Which sources go into which target. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) name: String,
    pub(crate) sources: Vec<Source>,
    pub(crate) target: PathBuf,
    pub(crate) chunk_bytes: usize,
    pub(crate) journal_mode: JournalMode,
    pub(crate) hints: Option<Hints>,
    pub(crate) check: Option<Check>,
}

/// One source of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) may_be_missing: bool,
    pub(crate) keyspaces: Vec<Keyspace>,
    /// Blob tables for the keyspaces that are not named.
    pub(crate) every_keyspace: bool,
    pub(crate) left_out: BTreeSet<String>,
    /// Of the keyspaces that are named, those that the store need not have.
    pub(crate) may_lack: BTreeSet<String>,
    /// This many of its pairs may go into quarantine.
    pub(crate) quarantine: u64,
}

/// Builds a [`Plan`].
#[derive(Debug)]
pub struct PlanBuilder {
    name: String,
    sources: Vec<Source>,
    target: Option<PathBuf>,
    chunk_bytes: usize,
    journal_mode: JournalMode,
    hints: Option<Hints>,
    check: Option<Check>,
}

/// Says where the keyspaces of one source go.
#[derive(Debug)]
pub struct SourceBuilder {
    source: Source,
}

impl Plan {
    /// Begins a plan. Its name is kept in every marker and in the target, so it must stay the same.
    #[must_use]
    pub fn builder(name: impl Into<String>) -> PlanBuilder {
        PlanBuilder {
            name: name.into(),
            sources: Vec::new(),
            target: None,
            chunk_bytes: CHUNK_BYTES_DEFAULT,
            journal_mode: JournalMode::Keep,
            hints: None,
            check: None,
        }
    }

    /// The plan's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The target's path, as it was given.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.inner.target
    }

    /// Whether it makes nothing but a blob table of each keyspace.
    pub(crate) fn is_plain(&self) -> bool {
        self.inner.sources.iter().all(Source::is_plain)
    }

    /// The sources' names and paths, as they were given, in the plan's order.
    pub fn sources(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.inner.sources.iter().map(|source| (source.name.as_str(), source.path.as_path()))
    }
}

impl PlanBuilder {
    /// Adds a source: a name for it, its directory, and where its keyspaces go.
    #[must_use]
    pub fn source(
        mut self,
        name: impl Into<String>,
        path: impl Into<PathBuf>,
        keyspaces: impl FnOnce(SourceBuilder) -> SourceBuilder,
    ) -> Self {
        let source = Source {
            name: name.into(),
            path: path.into(),
            may_be_missing: false,
            keyspaces: Vec::new(),
            every_keyspace: false,
            left_out: BTreeSet::new(),
            may_lack: BTreeSet::new(),
            quarantine: 0,
        };
        self.sources.push(keyspaces(SourceBuilder { source }).source);
        self
    }

    /// Sets the target: the SQL database's file. Its folder must exist.
    #[must_use]
    pub fn target(mut self, path: impl Into<PathBuf>) -> Self {
        self.target = Some(path.into());
        self
    }

    /// Sets how many bytes of keys and values one transaction copies; [`CHUNK_BYTES_DEFAULT`]
    /// unless set.
    #[must_use]
    pub const fn chunk_bytes(mut self, bytes: usize) -> Self {
        self.chunk_bytes = bytes;
        self
    }

    /// Sets the journal mode that the SQL database is left in.
    #[must_use]
    pub const fn journal_mode(mut self, mode: JournalMode) -> Self {
        self.journal_mode = mode;
        self
    }

    /// Sets what the markers tell a person to do: to go on with the migration, and to go back while
    /// that is still possible. Without it they name the operator's command.
    #[must_use]
    pub fn hints(mut self, go_on: impl Into<String>, go_back: impl Into<String>) -> Self {
        self.hints = Some(Hints { go_on: go_on.into(), go_back: go_back.into() });
        self
    }

    /// Sets the daemon's own check, its last word before the commit point: it is given a connection
    /// that can't write, once every row was read back and found to be what its store held. An error
    /// stops the run with [`Cause::CheckRefused`] and nothing is committed; the next run, and each
    /// one after a kill, asks again. Its text ends in logs, so keep what the tables hold out of it.
    #[must_use]
    pub fn check(
        mut self,
        check: impl Fn(&rusqlite::Connection) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.check = Some(Check::new(check));
        self
    }

    /// Checks the plan. Nothing on disk is looked at.
    ///
    /// # Errors
    ///
    /// [`Cause::Plan`], when a name is empty, too long, used twice, not one line or not one
    /// that the operator's command could be given; when there is no
    /// source or no target; when two keyspaces write one table; when the chunk size is out of range.
    pub fn build(self) -> Result<Plan, Error> {
        self.checked().map_err(Error::Refused)
    }

    fn checked(self) -> Result<Plan, Cause> {
        check_name("plan", &self.name)?;
        let mut names = BTreeSet::new();
        let mut tables = BTreeMap::new();
        for source in &self.sources {
            check_name("source", &source.name)?;
            if !names.insert(source.name.as_str()) {
                return Err(Cause::Plan(format!("two sources are named '{}'", source.name)));
            }
            check_keyspaces(source, &mut tables)?;
        }
        if self.sources.is_empty() {
            return Err(Cause::Plan("it has no source".to_owned()));
        }
        if self.sources.len() > SOURCES_MAX {
            return Err(Cause::Plan(format!("it has more than {SOURCES_MAX} sources")));
        }
        if !(1..=CHUNK_BYTES_MAX).contains(&self.chunk_bytes) {
            return Err(Cause::Plan(format!(
                "a chunk of {} bytes is not between 1 and {CHUNK_BYTES_MAX}",
                self.chunk_bytes
            )));
        }
        let target = self.target.ok_or_else(|| Cause::Plan("it has no target".to_owned()))?;
        let inner = Inner {
            name: self.name,
            sources: self.sources,
            target,
            chunk_bytes: self.chunk_bytes,
            journal_mode: self.journal_mode,
            hints: self.hints,
            check: self.check,
        };
        Ok(Plan { inner: Arc::new(inner) })
    }
}

impl SourceBuilder {
    /// Copies a keyspace into a blob table named `SOURCE_KEYSPACE`.
    #[must_use]
    pub fn blobs(self, keyspace: impl Into<String>) -> Self {
        let keyspace = keyspace.into();
        let table = blob_table(&self.source.name, &keyspace);
        self.table(keyspace, Blobs::new(table))
    }

    /// Copies a keyspace as `mapping` says.
    #[must_use]
    pub fn table(mut self, keyspace: impl Into<String>, mapping: impl Mapping) -> Self {
        self.source.keyspaces.push(Keyspace { name: keyspace.into(), mapping: Arc::new(mapping) });
        self
    }

    /// Copies every keyspace that is neither named nor left out into a blob table.
    #[must_use]
    pub const fn every_keyspace(mut self) -> Self {
        self.source.every_keyspace = true;
        self
    }

    /// Leaves a keyspace out: it stays behind in the retired store.
    #[must_use]
    pub fn leave_out(mut self, keyspace: impl Into<String>) -> Self {
        self.source.left_out.insert(keyspace.into());
        self
    }

    /// Allows the store not to have a keyspace that is named, by [`SourceBuilder::table`],
    /// [`SourceBuilder::blobs`] or [`SourceBuilder::leave_out`]. Without this a keyspace that is named and
    /// not there is refused ([`Cause::KeyspaceMissing`]), for a name is mistyped sooner than a keyspace is
    /// gone. The tables of one that may be missing, and is, are made and stay empty.
    #[must_use]
    pub fn keyspace_may_be_missing(mut self, keyspace: impl Into<String>) -> Self {
        self.source.may_lack.insert(keyspace.into());
        self
    }

    /// Lets up to `pairs` pairs of this source, over all its keyspaces, be refused by their mappings:
    /// they go, as they are and with the reason, into the table `cutover_quarantine_PLAN` of the target
    /// instead. One more stops the run; without this the first does.
    ///
    /// They are part of what is verified. The table stays when the target goes live, for anyone who looks
    /// after them.
    #[must_use]
    pub const fn quarantine(mut self, pairs: u64) -> Self {
        self.source.quarantine = pairs;
        self
    }

    /// Allows the source to be missing. It then gets a marker all the same, so that no old program
    /// creates a store there.
    #[must_use]
    pub const fn may_be_missing(mut self) -> Self {
        self.source.may_be_missing = true;
        self
    }
}

impl Source {
    /// Whether every keyspace becomes the blob table that it would become by itself.
    fn is_plain(&self) -> bool {
        self.left_out.is_empty()
            && self.keyspaces.iter().all(|keyspace| {
                let own = Blobs::new(blob_table(&self.name, &keyspace.name));
                keyspace.mapping.name() == own.name() && keyspace.mapping.tables() == own.tables()
            })
    }

    /// Refuses a keyspace that the plan names and the store, which has those `found`, does not have.
    pub(crate) fn check_named(&self, found: &[String]) -> Result<(), Cause> {
        let named = self.keyspaces.iter().map(|keyspace| &keyspace.name).chain(&self.left_out);
        let mut missing =
            named.filter(|name| !found.contains(*name) && !self.may_lack.contains(*name));
        missing.next().map_or(Ok(()), |keyspace| {
            Err(Cause::KeyspaceMissing {
                name: self.name.clone(),
                keyspace: keyspace.clone(),
                found: found.to_vec(),
            })
        })
    }

    /// Where each of the store's keyspaces goes, in the order of copying: those that the plan names
    /// first, in its order, then the others by name.
    pub(crate) fn resolve(&self, found: &[String]) -> Result<Vec<Keyspace>, Cause> {
        let mut resolved = self.keyspaces.clone();
        let mut tables = BTreeMap::new();
        check_keyspaces(self, &mut tables)?;
        let named: BTreeSet<&String> = self.keyspaces.iter().map(|k| &k.name).collect();
        let mut others: Vec<&String> = found
            .iter()
            .filter(|name| !self.left_out.contains(*name) && !named.contains(name))
            .collect();
        others.sort();
        for name in others {
            if !self.every_keyspace {
                return Err(Cause::KeyspaceUnmapped {
                    name: self.name.clone(),
                    keyspace: name.clone(),
                });
            }
            let mapping = Blobs::new(blob_table(&self.name, name));
            let keyspace = Keyspace { name: name.clone(), mapping: Arc::new(mapping) };
            check_tables(&self.name, &keyspace, &mut tables)?;
            resolved.push(keyspace);
        }
        Ok(resolved)
    }
}

/// Refuses two keyspaces, of any sources, that write one table.
pub(crate) fn check_distinct<'a>(
    keyspaces: impl Iterator<Item = (&'a str, &'a Keyspace)>,
) -> Result<(), Cause> {
    let mut tables = BTreeMap::new();
    for (source, keyspace) in keyspaces {
        check_tables(source, keyspace, &mut tables)?;
    }
    Ok(())
}

fn blob_table(source: &str, keyspace: &str) -> String {
    format!("{source}_{keyspace}")
}

fn check_keyspaces(source: &Source, tables: &mut Taken) -> Result<(), Cause> {
    let mut names = BTreeSet::new();
    for keyspace in &source.keyspaces {
        if !names.insert(keyspace.name.as_str()) || source.left_out.contains(&keyspace.name) {
            return Err(Cause::Plan(format!(
                "source '{}' names keyspace '{}' twice",
                source.name,
                keyspace.name.escape_debug()
            )));
        }
        check_tables(&source.name, keyspace, tables)?;
    }
    let is_named =
        |name: &&String| names.contains(name.as_str()) || source.left_out.contains(*name);
    if let Some(name) = source.may_lack.iter().find(|name| !is_named(name)) {
        return Err(Cause::Plan(format!(
            "source '{}' says that keyspace '{}' may be missing, and neither maps it nor leaves it out",
            source.name,
            name.escape_debug()
        )));
    }
    Ok(())
}

/// The tables that keyspaces write, as SQLite tells their names apart; and the source, the keyspace and
/// the table's name as it was given.
type Taken = BTreeMap<String, [String; 3]>;

fn check_tables(source: &str, keyspace: &Keyspace, tables: &mut Taken) -> Result<(), Cause> {
    for table in keyspace.mapping.tables() {
        let name = &table.name;
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || name.contains('\0') {
            return Err(Cause::Plan(format!(
                "'{}' is not a valid name for a table",
                name.escape_debug()
            )));
        }
        if lower.starts_with("sqlite_") || lower.starts_with("cutover_") {
            return Err(Cause::Plan(format!(
                "keyspace '{}' of source '{source}' would write table '{}', a name that is reserved",
                keyspace.name.escape_debug(),
                name.escape_debug()
            )));
        }
        let own = [source.to_owned(), keyspace.name.clone(), name.clone()];
        if let Some([other_source, other, taken]) = tables.insert(lower, own) {
            let case = if taken == *name {
                String::new()
            } else {
                format!(
                    " as table '{}': SQLite takes upper and lower case for the same",
                    taken.escape_debug()
                )
            };
            return Err(Cause::Plan(format!(
                "keyspace '{}' of source '{source}' would write table '{}', which keyspace '{}' of \
                 source '{other_source}' writes{case}",
                keyspace.name.escape_debug(),
                name.escape_debug(),
                other.escape_debug(),
            )));
        }
    }
    Ok(())
}

fn check_name(what: &str, name: &str) -> Result<(), Cause> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(Cause::Plan(format!(
            "'{}' is not a valid name for a {what}: it must have 1 to {NAME_BYTES_MAX} bytes and no control characters",
            name.escape_debug()
        )));
    }
    // The command that a marker tells a person to run takes `--name PLAN` and `--source NAME=DIR`.
    let reason = if name.starts_with('-') {
        "it must not begin with '-'"
    } else if what == "source" && name.contains('=') {
        "it must not contain '='"
    } else {
        return Ok(());
    };
    Err(Cause::Plan(format!("'{name}' is not a valid name for a {what}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(builder: PlanBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn a_plan_that_can_not_work_is_refused_with_the_reason() {
        let two = |a: &str, b: &str| {
            Plan::builder("p")
                .target("t")
                .source(a, "a", |s| s.blobs("b_c"))
                .source(b, "b", |s| s.blobs("C"))
        };
        assert_eq!(
            refusal(two("a", "A_b")),
            "the plan can't be used: keyspace 'C' of source 'A_b' would write table 'A_b_C', which \
             keyspace 'b_c' of source 'a' writes as table 'a_b_c': SQLite takes upper and lower case \
             for the same; change the plan"
        );
        assert_eq!(
            refusal(two("a", "a")),
            "the plan can't be used: two sources are named 'a'; change the plan"
        );
        two("a", "z").build().unwrap();
        for (builder, reason) in [
            (Plan::builder("p").target("t"), "it has no source"),
            (Plan::builder("p").source("a", "a", |s| s), "it has no target"),
            (two("a", "z").chunk_bytes(0), "a chunk of 0 bytes"),
            (two("cutover", "z"), "a name that is reserved"),
            (two("a\nb", "z"), "not a valid name for a source"),
            (two("a=b", "z"), "'a=b' is not a valid name for a source: it must not contain '='"),
            (two("-a", "z"), "'-a' is not a valid name for a source: it must not begin with '-'"),
            (
                Plan::builder("-p").target("t").source("a", "a", |s| s),
                "'-p' is not a valid name for a plan: it must not begin with '-'",
            ),
            (
                Plan::builder("p").target("t").source("a", "a", |s| s.blobs("x").leave_out("x")),
                "names keyspace 'x' twice",
            ),
            (
                Plan::builder("p")
                    .target("t")
                    .source("a", "a", |s| s.blobs("x").keyspace_may_be_missing("y")),
                "says that keyspace 'y' may be missing, and neither maps it nor leaves it out",
            ),
        ] {
            let text = refusal(builder);
            assert!(text.contains(reason), "{text}");
        }
    }

    /// They reached the operator's terminal as they were.
    #[test]
    fn control_characters_in_names_of_keyspaces_and_tables_are_told_escaped() {
        let one = |keyspace: &str, table: &str, left_out: &str| {
            Plan::builder("p")
                .target("t")
                .source("a", "a", |s| s.table(keyspace, Blobs::new(table)).leave_out(left_out))
        };
        let again =
            one("x\u{1b}", "t\r", "").source("b", "b", |s| s.table("y\n", Blobs::new("t\r")));
        for (builder, reason) in [
            (one("x\u{1b}", "t", "x\u{1b}"), r"names keyspace 'x\u{1b}' twice"),
            (
                one("x\n", "cutover_\r", ""),
                r"keyspace 'x\n' of source 'a' would write table 'cutover_\r'",
            ),
            (
                again,
                r"keyspace 'y\n' of source 'b' would write table 't\r', which keyspace 'x\u{1b}' of",
            ),
        ] {
            let text = refusal(builder);
            assert!(text.contains(reason), "{text}");
        }
    }

    #[test]
    fn a_keyspace_that_is_neither_mapped_nor_left_out_is_refused() {
        let plan = Plan::builder("p")
            .target("t")
            .source("a", "a", |s| s.blobs("x").leave_out("y"))
            .build()
            .unwrap();
        let source = &plan.inner.sources[0];
        let names = |found: &[&str]| {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            source
                .resolve(&found)
                .map(|keyspaces| keyspaces.into_iter().map(|k| k.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["y", "x"]).unwrap(), ["x"]);
        assert_eq!(
            names(&["z"]).unwrap_err().to_string(),
            "keyspace 'z' of source 'a' is neither mapped nor left out; map it, or leave it out explicitly"
        );
    }
}
