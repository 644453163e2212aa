//! What the markers tell a person to do.

use crate::look::Places;
use crate::protocol::Stage;
use crate::protocol::marker::{Hints, Marker};
use std::borrow::Cow;

/// What the markers tell a person to do.
pub(crate) fn hints(places: &Places, marker: &Marker) -> Hints {
    let command = |verb: &str| {
        let mut words = format!("cutover {verb} --name {}", shell_quote(places.plan.name()));
        for (site, source) in places.sites.iter().zip(&places.plan.inner.sources) {
            let named = format!("{}={}", site.name, site.path.display());
            words += &[" --source ", &shell_quote(&named)].concat();
            if source.may_be_missing {
                words += &[" --may-be-missing ", &shell_quote(&site.name)].concat();
            }
        }
        let target = places.target.path.display().to_string();
        words + " --target " + &shell_quote(&target)
    };
    let go_on = || {
        // The command makes a blob table of every keyspace; it must not be asked to do that to a
        // plan which has others.
        if marker.plain {
            command("migrate")
        } else {
            "start the program that uses it again, with its SQL database".to_owned()
        }
    };
    let (go_on, go_back) = match marker.stage {
        Stage::Sealed | Stage::Tombstone => {
            let own = places.plan.inner.hints.as_ref();
            (
                own.map_or_else(go_on, |hints| hints.go_on.clone()),
                own.map_or_else(|| command("abort"), |hints| hints.go_back.clone()),
            )
        }
        Stage::Final => (
            "nothing: use the SQL database".to_owned(),
            format!(
                "not while the SQL database is there; if it is lost: {}",
                command("restore-kv")
            ),
        ),
        Stage::Restoring => (command("restore-kv"), "not any more".to_owned()),
        Stage::Reclaimed => ("nothing: use the SQL database".to_owned(), "not any more".to_owned()),
    };
    Hints { go_on, go_back }
}

/// A word as a shell takes it. No path or name of a plan holds a zero byte.
fn shell_quote(word: &str) -> Cow<'_, str> {
    shlex::try_quote(word).unwrap_or(Cow::Borrowed(word))
}
