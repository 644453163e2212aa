//! The daemon's own check of what was copied: its last word before the commit point.

use crate::error::{Cause, on_one_line};
use crate::sql::Target;
use rusqlite::Connection;
use std::fmt;
use std::sync::Arc;

/// What the daemon says of its copied tables, or why they will not do.
type Says = dyn Fn(&Connection) -> Result<(), String> + Send + Sync;

/// A check that a plan holds.
#[derive(Clone)]
pub(crate) struct Check(Arc<Says>);

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}

impl Check {
    pub(crate) fn new(
        says: impl Fn(&Connection) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(says))
    }

    /// Has the check look at the target, over a connection that can't write it, also where the
    /// check refuses or panics.
    pub(crate) fn ask(&self, target: &Target) -> Result<(), Cause> {
        // Dropped last: in WAL a connection that can't write would leave SQLite's files behind.
        let _last = target.reader()?;
        let connection = target.read_only()?;
        (self.0)(&connection).map_err(|reason| Cause::CheckRefused {
            path: target.path.clone(),
            reason: on_one_line(&reason),
        })
    }
}
