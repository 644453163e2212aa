//! What would be refused before anything is changed: so that no advice names a verb that can't work.

use super::{Places, Seen};
use crate::error::{BEGUN_WITH, BEGUN_WITH_OR_ABORT, Cause};
use crate::mapping::Keyspace;
use crate::place::{Look, Standing};
use crate::protocol::record::{KeyspaceRecorded, Record};
use crate::protocol::{
    AtPath, ClaimSeen, Intent, MigrationId, Observation, RecordStage, Session, Stage, State, Step,
    TargetSeen, classify_with_target, next,
};
use crate::source::{check_native, inventory};
use std::collections::HashMap;

/// Keyspaces of the record that an error names; the others are counted.
const KEYSPACES_SHOWN: usize = 20;

/// What is lost by going on without a SQL database that is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {next}")]
#[non_exhaustive]
pub struct Loss {
    /// When the database went live, RFC 3339, UTC: what was written to it since is lost. None where no
    /// marker says that it ever was live.
    pub since: Option<String>,
    /// The same in words.
    pub what: String,
    /// What a person can do.
    pub next: String,
}

impl Places {
    /// Whether `intent` would do something, as far as looking shows: the protocol has a step for it, and
    /// none of the refusals stands in its way that do not pass by themselves.
    pub(crate) fn allows(&self, seen: &Seen, intent: Intent) -> bool {
        self.allows_at(&seen.observation, seen, intent)
    }

    pub(crate) fn allows_at(&self, observation: &Observation, seen: &Seen, intent: Intent) -> bool {
        // What comes after the looking that every call begins with.
        let session = Session { confirmed: true, ..Session::default() };
        let step = next(observation, intent, &session);
        let has_step = matches!(step, Ok(step) if !matches!(step, Step::Done(_)));
        has_step && self.check_intent(seen, intent).is_ok()
    }

    /// Refuses what the plan can't be used for, as it stands beside what was begun.
    pub(crate) fn check_intent(&self, seen: &Seen, intent: Intent) -> Result<(), Cause> {
        self.check_plain(seen, intent)?;
        match (intent, seen.record()) {
            (Intent::Begin(_), None) => {
                self.check_missing(seen)?;
                self.check_native(seen)
            }
            (Intent::Prepare | Intent::Copy, None) => {
                self.check_missing(seen)?;
                self.check_as_sealed(seen)
            }
            (Intent::Prepare | Intent::Copy, Some(record)) => {
                self.check_recorded(record)?;
                // What is copied whole is not read once more.
                if record.copied() { Ok(()) } else { self.check_as_sealed(seen) }
            }
            (Intent::Rerun, _) => self.check_as_sealed(seen),
            _ => Ok(()),
        }
    }

    /// Refuses a retired store that is not what was sealed, by its files' names and lengths. What can't be
    /// looked at may pass by itself.
    pub(crate) fn check_as_sealed(&self, seen: &Seen) -> Result<(), Cause> {
        let changed = seen.changed.get_or_init(|| {
            let mut looks = self.sites.iter().zip(&seen.looks);
            looks.find_map(|(site, look)| {
                let marker = look.path.marker().filter(|m| m.stage != Stage::Reclaimed)?;
                if !matches!(look.retired, Standing::Directory(_)) {
                    return None;
                }
                let tree = inventory::tree(&site.retired).ok()?;
                let difference = inventory::difference_in_lengths(&tree, marker.store.as_ref()?)?;
                Some((site.clone(), difference))
            })
        });
        match changed {
            Some((site, difference)) => Err(Cause::RetiredChanged {
                name: site.name.clone(),
                path: site.retired.clone(),
                difference: difference.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Refuses to begin a copy into blob tables where the markers say that the plan has others:
    /// before there is a record, nothing else would tell.
    pub(crate) fn check_plain(&self, seen: &Seen, intent: Intent) -> Result<(), Cause> {
        let copies = matches!(intent, Intent::Prepare | Intent::Copy | Intent::Rerun)
            && seen.record().is_none();
        let mut markers = seen.looks.iter().filter_map(|look| look.path.marker());
        if copies && self.plan.is_plain() && markers.any(|marker| !marker.plain) {
            let how = "the program that began it has tables of its own, and this plan has none";
            let next = if intent == Intent::Rerun {
                "let that program copy once more, or use its own plan; restore-kv needs no plan of tables"
            } else {
                "start that program, which goes on with it, or use its own plan, or abort"
            };
            return Err(Cause::PlanChanged { how: how.to_owned(), next });
        }
        Ok(())
    }

    /// Refuses a source that is missing, and may not be.
    pub(crate) fn check_missing(&self, seen: &Seen) -> Result<(), Cause> {
        let sources = self.sites.iter().zip(&self.plan.inner.sources).zip(&seen.looks);
        for ((site, source), look) in sources {
            if look.path == Standing::Nothing && !source.may_be_missing {
                return Err(Cause::SourceMissing {
                    name: site.name.clone(),
                    path: site.path.clone(),
                });
            }
        }
        Ok(())
    }

    /// Refuses a folder at a source's path that is no store, so far as its version file tells.
    pub(crate) fn check_native(&self, seen: &Seen) -> Result<(), Cause> {
        let folders = self.sites.iter().zip(&seen.looks);
        let mut folders = folders.filter(|(_, look)| matches!(look.path, Standing::Directory(_)));
        folders.try_for_each(|(site, _)| check_native(&site.name, &site.path))
    }

    /// What is lost by going on without the SQL database, where there are tombstones and it is gone.
    pub(crate) fn loss(&self, seen: &Seen) -> Loss {
        let since = seen.live_since().map(str::to_owned);
        let written = since.as_ref().map_or_else(
            || {
                "no marker says that it was ever live, and what was written to it, if it was, is in no \
                 KV store"
                    .to_owned()
            },
            |since| {
                format!(
                    "what was written to it since it went live, at {since}, is in no KV store"
                )
            },
        );
        let rerun = if self.allows(seen, Intent::Rerun) && self.unknown(seen).next().is_some() {
            "`cutover rerun --even-if-changed` copies the retired stores once more as they are now, though nothing says what was sealed, or `cutover restore-kv` gives them back"
                .to_owned()
        } else if self.allows(seen, Intent::Rerun) {
            "`cutover rerun` copies the retired stores once more, or `cutover restore-kv` gives them back"
                .to_owned()
        } else if seen.is_restoring() {
            "`cutover restore-kv` goes on with giving the stores back".to_owned()
        } else if let Err(Cause::RetiredChanged { path, difference, .. }) =
            self.check_intent(seen, Intent::Rerun)
        {
            format!(
                "put the retired store {} back as it was sealed ({difference}), and then `cutover rerun` copies it once more, or `cutover restore-kv` gives the stores back as they are",
                path.display()
            )
        } else {
            "the program that uses it must copy the retired stores once more, or `cutover restore-kv` gives them back"
                .to_owned()
        };
        let is_final = |look: &Look| look.path.marker().is_some_and(|m| m.stage == Stage::Final);
        let next = if seen.looks.iter().all(is_final) {
            format!("restore it from a backup, or, if it is lost, {rerun}")
        } else if seen.is_restoring() {
            // I-1: no marker and no record keeps a program from what it puts beside an open store.
            format!(
                "{rerun}; put no backup of the SQL database back: it is refused now, and a store may be open already"
            )
        } else {
            format!("{rerun}; a backup of the SQL database that is put back now is refused")
        };
        Loss { what: format!("the SQL database is gone, and {written}"), since, next }
    }

    /// Refuses a plan that does not copy just what the record says, into the same tables.
    fn check_recorded(&self, record: &Record) -> Result<(), Cause> {
        let mut mapped = 0;
        for source in &self.plan.inner.sources {
            let recorded = record.keyspaces.iter().filter(|k| k.source == source.name);
            let names: Vec<String> = recorded.clone().map(|k| k.keyspace.clone()).collect();
            let resolved = source.resolve(&names)?;
            let resolved: HashMap<&str, &Keyspace> =
                resolved.iter().map(|keyspace| (keyspace.name.as_str(), keyspace)).collect();
            let is_mapped = |k: &&KeyspaceRecorded| {
                resolved.get(k.keyspace.as_str()).is_some_and(|keyspace| is_mapped_as(k, keyspace))
            };
            let changed = recorded.clone().find(|k| !is_mapped(k));
            if changed.is_some() || resolved.len() != names.len() {
                return Err(changed_plan(record, changed));
            }
            mapped += names.len();
        }
        if mapped == record.keyspaces.len() { Ok(()) } else { Err(changed_plan(record, None)) }
    }

    /// Whether an unfinished copy that the markers contradict would be removed.
    pub(crate) fn allows_discard(&self, seen: &Seen) -> bool {
        self.allows(seen, Intent::Discard)
    }

    /// The state that the markers would be in once they named the plan's own target, where an operator
    /// may say that theirs is lost; and what would be seen then.
    pub(crate) fn replaced(seen: &Seen) -> Option<(State, Observation)> {
        Self::replaced_in(seen, &seen.observation)
    }

    /// The same, with another target than the plan's, at which there is nothing yet.
    pub(crate) fn replaced_elsewhere(seen: &Seen) -> Option<(State, Observation)> {
        let mut observation = Observation {
            target: TargetSeen::None,
            claim: ClaimSeen::None,
            ..seen.observation.clone()
        };
        for source in &mut observation.sources {
            if let AtPath::Marker(marker) = &mut source.path {
                marker.target = false;
            }
        }
        Self::replaced_in(seen, &observation)
    }

    fn replaced_in(seen: &Seen, observation: &Observation) -> Option<(State, Observation)> {
        next(observation, Intent::ReplaceTarget, &Session::default()).ok()?;
        let id = seen.looks.iter().find_map(|look| look.path.marker()).map(|marker| marker.id)?;
        let observation = naming_the_plans_own(observation, id);
        let state = classify_with_target(&observation).ok()?;
        Some((state, observation))
    }
}

fn naming_the_plans_own(seen: &Observation, id: MigrationId) -> Observation {
    let mut replaced = seen.clone();
    for source in &mut replaced.sources {
        if let AtPath::Marker(marker) = &mut source.path {
            marker.target = true;
        }
    }
    if replaced.target == TargetSeen::NoRecord {
        replaced.target = TargetSeen::None;
    }
    Observation { claim: ClaimSeen::Id(id), elsewhere: Vec::new(), ..replaced }
}

pub(crate) fn is_mapped_as(recorded: &KeyspaceRecorded, keyspace: &Keyspace) -> bool {
    recorded.keyspace == keyspace.name
        && recorded.mapping == keyspace.mapping.name()
        && keyspace.mapping.tables().iter().map(|table| &table.name).eq(&recorded.tables)
}

/// The plan's keyspaces are not the record's; `first` is one of the record's that differs.
pub(crate) fn changed_plan(record: &Record, first: Option<&KeyspaceRecorded>) -> Cause {
    let others = record.keyspaces.iter().filter(|&keyspace| Some(keyspace) != first);
    let mut names: Vec<String> = first
        .into_iter()
        .chain(others)
        .take(KEYSPACES_SHOWN)
        .map(|k| {
            format!("{}/{} as {} into {}", k.source, k.keyspace, k.mapping, k.tables.join(", "))
        })
        .collect();
    let more = record.keyspaces.len().saturating_sub(names.len());
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    let how = format!("the record has {}", names.join("; "));
    let next = match record.stage {
        RecordStage::Copying | RecordStage::Committed => BEGUN_WITH_OR_ABORT,
        RecordStage::Live => BEGUN_WITH,
    };
    Cause::PlanChanged { how, next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{MigrationId, Run};

    fn recorded(number: usize) -> KeyspaceRecorded {
        KeyspaceRecorded {
            source: "s".to_owned(),
            keyspace: format!("k{number}"),
            mapping: "blobs".to_owned(),
            tables: vec![format!("s_k{number}")],
            cursor: None,
            done: false,
            pairs: 0,
            bytes: 0,
            digest: format!("{:032x}", 0),
            quarantined: 0,
        }
    }

    #[test]
    fn a_keyspace_is_mapped_as_before_where_its_name_its_mapping_and_its_tables_are_the_same() {
        let mapping = std::sync::Arc::new(crate::mapping::Blobs::new("s_k0"));
        let keyspace = Keyspace { name: "k0".to_owned(), mapping };
        let same = recorded(0);
        assert!(is_mapped_as(&same, &keyspace));
        for changed in [
            KeyspaceRecorded { keyspace: "k1".to_owned(), ..same.clone() },
            KeyspaceRecorded { mapping: "typed".to_owned(), ..same.clone() },
            KeyspaceRecorded { tables: vec!["t".to_owned()], ..same.clone() },
            KeyspaceRecorded { tables: Vec::new(), ..same.clone() },
        ] {
            assert!(!is_mapped_as(&changed, &keyspace), "{changed:?}");
        }
    }

    /// It named all of them, in one line, and not which of them differs.
    #[test]
    fn a_plan_that_changed_names_the_keyspace_that_differs_and_few_others() {
        let run = Run { id: MigrationId(1), attempt: 1 };
        let told = |count: usize, first: Option<usize>| {
            let keyspaces = (0..count).map(recorded).collect();
            let record =
                Record::new("p", run, vec![], keyspaces, vec![], String::new(), String::new());
            let first = first.and_then(|first| record.keyspaces.get(first));
            let Cause::PlanChanged { how, .. } = changed_plan(&record, first) else {
                panic!("another cause")
            };
            how
        };
        assert_eq!(
            told(2, Some(1)),
            "the record has s/k1 as blobs into s_k1; s/k0 as blobs into s_k0"
        );
        assert!(!told(20, None).contains("more"));
        let many = told(9_999, Some(7_777));
        assert!(
            many.starts_with("the record has s/k7777 as blobs into s_k7777; s/k0 as"),
            "{many}"
        );
        assert!(many.ends_with("s/k18 as blobs into s_k18; and 9979 more"), "{many}");
    }
}
