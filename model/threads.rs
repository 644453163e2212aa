//! Under an async runtime the work is done on threads of its own, so everything can be sent to one.

use crate::common::{SOURCES, read_table, small_daemon, small_plan, small_store};
use cutover::{
    Aborted, Cancel, Committed, Error, Found, Fresh, Handle, KvStores, Migrating, Observer, Plan,
    Progress, RerunAllowed, Tombstoned,
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
    can_be_sent::<Cancel>();
    can_be_sent::<fjall::Database>();
    can_be_sent::<rusqlite::Connection>();
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

/// Asks to stop when it hears of the first chunk, as somebody who heard of it would.
struct Watch(Cancel);

impl Observer for Watch {
    fn progress(&mut self, _: &Progress) {
        self.0.cancel();
    }
}

#[test]
fn a_daemon_on_tokio_stops_a_migration_and_goes_on_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    small_daemon(folder.path());
    let plan = small_plan(folder.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    let connection = runtime.block_on(async {
        let cancel = Cancel::new();
        let (again, mut watch) = (plan.clone(), (Watch(cancel.clone()), cancel));
        let stopped = tokio::task::spawn_blocking(move || cutover::sql(&again, &mut watch));
        let error = stopped.await.expect("no panic").expect_err("it stops");
        assert_eq!(error.to_string(), crate::daemon::CANCELLED);
        // A future that is dropped stops nothing.
        let again = plan.clone();
        drop(tokio::task::spawn_blocking(move || drop(cutover::sql(&again, &mut ()))));
        loop {
            let again = plan.clone();
            let opened = tokio::task::spawn_blocking(move || cutover::sql(&again, &mut ()));
            match opened.await.expect("no panic") {
                Ok(connection) => break connection,
                // The one whose future was dropped still has the locks.
                Err(Error::Refused(_)) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    });
    drop(connection);
    let rows = read_table(&folder.path().join("target.sqlite"), "accounts_first");
    assert_eq!(rows, small_store(1, 20)["first"]);
}
