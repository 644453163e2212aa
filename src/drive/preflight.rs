//! Looking before leaping: everything that would stop a migration, found before anything is
//! changed.

use crate::disk;
use crate::disk::held::Held;
use crate::disk::lock::FileLock;
use crate::disk::owner::Owner;
use crate::error::Cause;
use crate::look::Places;
use crate::mapping::Keyspace;
use crate::mapping::quarantine_table;
use crate::place::{Site, preflight, try_place};
use crate::plan::check_distinct;
use crate::protocol::record::KEYSPACES_MAX;
use crate::source::Store;
use crate::sql::check_record;
use std::collections::BTreeSet;
use std::path::Path;

/// Bytes that the target needs besides its rows.
pub(crate) const TARGET_BYTES_BESIDES: u64 = 256 * 1024;

/// What a survey of the places found.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Each source that stands open, with fjall's own lock on it.
    pub(crate) stores: Vec<Option<Store>>,
    /// Each source's keyspaces, and where they go.
    pub(crate) keyspaces: Vec<Vec<Keyspace>>,
    /// What the copy needs, estimated.
    pub(crate) needed_bytes: u64,
}

/// Looks at every place of a migration that has not begun. Each refusal is given to `refuse`: the
/// survey ends where that returns it, and goes on where it does not. What the places are tried with
/// is gone again when it returns.
pub(crate) fn survey(
    places: &Places,
    refuse: &mut dyn FnMut(Cause) -> Result<(), Cause>,
) -> Result<Survey, Cause> {
    let count = places.sites.len();
    let mut survey = Survey {
        stores: std::iter::repeat_with(|| None).take(count).collect(),
        keyspaces: vec![Vec::new(); count],
        needed_bytes: TARGET_BYTES_BESIDES,
    };
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&at| places.sites.get(at).map(|site| site.name.clone()));
    for at in order {
        if let Err(cause) = survey_source(places, at, &mut survey) {
            refuse(cause)?;
        }
    }
    try_places(places, refuse)?;
    survey_target(places, &survey.keyspaces, survey.needed_bytes, refuse)?;
    Ok(survey)
}

/// Tries, in each folder where something will be made and in the target, what will be done there;
/// `refuse` as for [`survey`]. Nothing of it stays. All places are held at once, so that what runs out
/// does so now.
pub(crate) fn try_places(
    places: &Places,
    refuse: &mut dyn FnMut(Cause) -> Result<(), Cause>,
) -> Result<(), Cause> {
    // Two that look at one source at once have the same names to try: where the source is missing,
    // nothing else keeps them apart yet.
    let target = Some(places.target.folder()).filter(|folder| folder.is_dir());
    let folders: BTreeSet<&Path> = places.sites.iter().map(Site::folder).chain(target).collect();
    let alone = folders.into_iter().map(FileLock::wait).collect::<Result<Vec<_>, _>>();
    let _alone = match alone {
        Ok(alone) => alone,
        Err(cause) => return refuse(cause),
    };
    let mut held = Held::default();
    let mut collect = |tried: Result<Held, Cause>| match tried {
        Ok(more) => {
            held.join(more);
            Ok(())
        }
        Err(cause) => refuse(cause),
    };
    for site in &places.sites {
        collect(site.store().and_then(|store| try_place(site, store)))?;
    }
    // That it is missing is said where its space is looked at.
    if places.target.folder().is_dir() {
        collect(try_out(places))?;
    }
    if let Err(cause) = held.remove() {
        refuse(cause)?;
    }
    Ok(())
}

/// Tries once more, where the sources are sealed, whether the target can be written.
pub(crate) fn try_target(places: &Places) -> Result<(), Cause> {
    let _alone = FileLock::wait(places.target.folder())?;
    try_out(places).and_then(Held::remove)
}

/// A stranger's file is not even tried: that may write to it.
fn try_out(places: &Places) -> Result<Held, Cause> {
    places.target.check_users(&places.store_owners()?)?;
    places.target.try_out()
}

/// Looks whether the target can take these keyspaces; `refuse` as for [`survey`].
pub(crate) fn survey_target(
    places: &Places,
    keyspaces: &[Vec<Keyspace>],
    needed_bytes: u64,
    refuse: &mut dyn FnMut(Cause) -> Result<(), Cause>,
) -> Result<(), Cause> {
    let count: usize = keyspaces.iter().map(Vec::len).sum();
    if count > KEYSPACES_MAX {
        // What they would become is not tried: that takes as long as their square.
        return refuse(Cause::Plan(format!(
            "its sources have {count} keyspaces, more than {KEYSPACES_MAX}"
        )));
    }
    let plan = &places.plan.inner.name;
    for check in [
        places.check_target_owner(),
        check_distinct(places.with_sources(keyspaces)),
        check_record(plan, places.with_sources(keyspaces)),
    ] {
        if let Err(cause) = check {
            refuse(cause)?;
        }
    }
    let mut tables: Vec<_> =
        keyspaces.iter().flatten().flat_map(|keyspace| keyspace.mapping.tables()).collect();
    if places.plan.inner.sources.iter().any(|source| source.quarantine > 0) {
        tables.push(quarantine_table(plan));
    }
    let target = &places.target;
    let tried = target.check_tables(plan, &tables).and_then(|tried| {
        let (mut causes, stand_in) = tried;
        causes.extend(target.try_mappings(&stand_in, &mut places.with_sources(keyspaces))?);
        Ok(causes)
    });
    tried.unwrap_or_else(|cause| vec![cause]).into_iter().try_for_each(&mut *refuse)?;
    if let Err(cause) = check_space(places, needed_bytes) {
        refuse(cause)?;
    }
    Ok(())
}

fn survey_source(places: &Places, at: usize, survey: &mut Survey) -> Result<(), Cause> {
    let (Some(site), Some(source)) = (places.sites.get(at), places.plan.inner.sources.get(at))
    else {
        return Ok(());
    };
    site.owner()?.as_ref().map_or(Ok(()), Owner::check)?;
    site.check_not_retired()?;
    let mut found = Vec::new();
    if disk::metadata(&site.path)?.is_some() {
        let store = preflight(site)?;
        survey.needed_bytes += store.tree().held_bytes;
        found = store.keyspaces();
        source.check_named(&found)?;
        if let Some(kept) = survey.stores.get_mut(at) {
            *kept = Some(store);
        }
    } else if !source.may_be_missing {
        return Err(Cause::SourceMissing { name: site.name.clone(), path: site.path.clone() });
    }
    if let Some(keyspaces) = survey.keyspaces.get_mut(at) {
        *keyspaces = source.resolve(&found)?;
    }
    Ok(())
}

/// Refuses a copy that the target's file system has no room for.
fn check_space(places: &Places, needed_bytes: u64) -> Result<(), Cause> {
    let path = places.target.folder();
    if !path.is_dir() {
        return Err(Cause::TargetFolderMissing(places.target.path.clone()));
    }
    let available_bytes = disk::available_bytes(path)?;
    if available_bytes < needed_bytes {
        return Err(Cause::DiskFull { path: path.to_owned(), needed_bytes, available_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, SourceBuilder};
    use crate::protocol::record::RECORD_BYTES_MAX;
    use crate::sql::Access;

    /// What is said of a store whose keyspaces have these names.
    fn told(names: &[String]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::builder("p")
            .target(folder.path().join("target.sqlite"))
            .source("s", folder.path().join("s"), SourceBuilder::every_keyspace)
            .build()
            .unwrap();
        let places = Places::new(&plan, Access::LookOnly).unwrap();
        let keyspaces = vec![plan.inner.sources[0].resolve(names).unwrap()];
        let mut told = Vec::new();
        let mut refuse = |cause: Cause| {
            told.push(cause.to_string());
            Ok(())
        };
        survey_target(&places, &keyspaces, 0, &mut refuse).unwrap();
        told
    }

    #[test]
    fn more_keyspaces_than_a_record_takes_are_refused_before_anything_is_sealed() {
        let names: Vec<String> = (0..=KEYSPACES_MAX).map(|number| format!("k{number}")).collect();
        assert_eq!(
            told(&names),
            [
                "the plan can't be used: its sources have 10001 keyspaces, more than 10000; change the plan"
            ]
        );
        // As many are no more than a record has room for.
        let source = Plan::builder("p").target("t").source("s", "s", SourceBuilder::every_keyspace);
        let source = source.build().unwrap();
        let most = source.inner.sources[0].resolve(&names[1..]).unwrap();
        check_record("p", most.iter().map(|keyspace| ("s", keyspace))).unwrap();
    }

    #[test]
    fn keyspaces_whose_record_would_be_too_long_are_refused_before_anything_is_sealed() {
        assert_eq!(told(&["k".to_owned()]), [""; 0]);
        // No store has such names; tables of one's own definition may be as long.
        let long = |number: usize| format!("{number}{}", "k".repeat(RECORD_BYTES_MAX / 64));
        let names: Vec<String> = (0..8).map(long).collect();
        let told = told(&names);
        let [first, ..] = &told[..] else { panic!("nothing is said") };
        let words =
            ["the plan can't be used: it names too much: the record would have", "more than"];
        assert!(words.iter().all(|word| first.contains(word)), "{}", &first[..200]);
    }
}
