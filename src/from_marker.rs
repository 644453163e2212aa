//! A plan made again from what a marker says.

use crate::error::{Cause, Error};
use crate::place::{Site, Standing};
use crate::plan::Plan;
use crate::protocol::Was;
use std::path::{Path, PathBuf};

/// The plan that the marker at a source's `path` names: its name, its own list of sources, and its
/// target. Every keyspace becomes a blob table, so it serves to look, to abort and to give the
/// stores back; a copy that was begun with other mappings is not resumed by it.
///
/// # Errors
///
/// [`Error::Refused`] where no whole marker stands at `path`, or one that was moved there with its
/// folder: the paths in it are the old ones.
pub fn plan_from_marker(path: &Path) -> Result<Plan, Error> {
    let site = Site::new("", path).map_err(Error::Refused)?;
    let standing = Standing::at(&site.path).map_err(Error::Refused)?;
    let Some(marker) = standing.marker() else {
        let reason = standing.detail().unwrap_or("it is none");
        return Err(Error::Refused(Cause::Plan(format!(
            "at {} stands no marker that could name its sources ({reason})",
            site.path.display()
        ))));
    };
    let own = marker.sources.iter().find(|named| named.name == marker.source);
    if let Some(named) = own.filter(|named| Path::new(&named.path) != site.path) {
        return Err(Error::Refused(Cause::MarkerMoved {
            path: site.path,
            written_at: PathBuf::from(&named.path),
        }));
    }
    let mut builder = Plan::builder(&marker.plan).target(&marker.target);
    for named in &marker.sources {
        let own = Standing::at(Path::new(&named.path)).map_err(Error::Refused)?;
        let was_missing = own.marker().is_some_and(|marker| marker.was == Was::Nothing);
        builder = builder.source(&named.name, &named.path, |source| {
            let source = source.every_keyspace();
            if was_missing { source.may_be_missing() } else { source }
        });
    }
    builder.build()
}
