//! `cutover plan --full`: the dry run, and then the rehearsal with all the real data.

use crate::exit::Stop;
use crate::progress::Shown;
use crate::report::{say, say_json, size, tell_preview, would_refuse};
use cutover::{Cause, Error, Plan, Preview, Rehearsal, preview};
use serde::Serialize;

/// Both, as one object.
#[derive(Serialize)]
struct Full<'a> {
    #[serde(flatten)]
    preview: &'a Preview,
    /// None where something would stop the migration.
    rehearsal: Option<Rehearsal>,
}

pub(crate) fn run(plan: &Plan, json: bool) -> Result<(), Stop> {
    let mut shown = Shown::until_asked_to_stop();
    let mut preview = preview(plan, &mut shown)?;
    let mut ended = if preview.refused.is_empty() { Ok(()) } else { Err(would_refuse(&preview)) };
    let mut rehearsal = None;
    if ended.is_ok() {
        match plan.rehearse(&mut shown) {
            Ok(rehearsed) => rehearsal = Some(rehearsed),
            Err(error @ Error::Refused(Cause::Cancelled)) => return Err(error.into()),
            Err(error) => {
                preview.refused.push(error.to_string());
                preview.steps.clear();
                ended = Err(Stop::silent(Stop::from(error).code));
            }
        }
    }
    if json {
        say_json(&Full { preview: &preview, rehearsal })?;
    } else {
        tell_preview(&preview);
        if let Some(rehearsal) = &rehearsal {
            tell(rehearsal);
        }
    }
    ended
}

fn tell(rehearsal: &Rehearsal) {
    for keyspace in &rehearsal.keyspaces {
        let refused = match keyspace.quarantined {
            0 => String::new(),
            pairs => format!(", {pairs} of them refused and put into quarantine"),
        };
        say(&format!(
            "  rehearsed {}/{}: {} pairs, {}, {:.1} s{refused}",
            keyspace.source,
            keyspace.keyspace.escape_debug(),
            keyspace.pairs,
            size(keyspace.bytes),
            keyspace.seconds
        ));
        for pair in &keyspace.refused {
            say(&format!("    refused {pair}"));
        }
    }
    say(&format!(
        "  rehearsed in {:.1} s: every pair came back as it was; the database had {}, and is thrown away",
        rehearsal.seconds,
        size(rehearsal.database_bytes)
    ));
}
