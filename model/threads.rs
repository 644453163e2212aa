//! Under an async runtime the work is done on threads of its own, so everything can be sent to one.

use crate::common::{SOURCES, small_daemon, small_plan};
use cutover::{
    Aborted, Committed, Error, Found, Fresh, Handle, KvStores, Migrating, Plan, RerunAllowed,
    Tombstoned,
};

const fn can_be_sent<T: Send + 'static>() {}

/// It compiles.
const _: () = {
    can_be_sent::<Plan>();
    can_be_sent::<Found>();
    can_be_sent::<Handle<Fresh>>();
    can_be_sent::<Handle<Migrating>>();
    can_be_sent::<Handle<Committed>>();
    can_be_sent::<Handle<Tombstoned>>();
    can_be_sent::<Handle<RerunAllowed>>();
    can_be_sent::<Aborted>();
    can_be_sent::<KvStores>();
    can_be_sent::<Error>();
};

#[test]
fn a_handle_goes_on_in_another_thread_with_its_locks() {
    let folder = tempfile::tempdir().expect("a folder");
    small_daemon(folder.path());
    let plan = small_plan(folder.path());
    let begun = std::thread::spawn({
        let plan = plan.clone();
        move || crate::daemon::fresh_handle(&plan).begin().expect("begins")
    });
    let handle = begun.join().expect("it did not panic");
    assert!(matches!(cutover::open(&plan), Err(Error::Refused(_))), "the locks came with it");
    let connection = std::thread::spawn(move || {
        let live = handle.run(&mut ()).expect("runs").finish().expect("finishes");
        live.into_sql().expect("SQL")
    });
    let connection = connection.join().expect("it did not panic");
    let table = format!("SELECT count(*) FROM {}_first", SOURCES[0]);
    let rows: i64 = connection.query_one(&table, [], |row| row.get(0)).expect("counts");
    assert_eq!(rows, 20);
}
