//! The verbs that work on a plan's handle.

use crate::arguments::Said;
use crate::ask::approve;
use crate::exit::{NEEDS_APPROVAL, Stop};
use crate::progress::Shown;
use crate::report::{self, say};
use cutover::protocol::Contradiction;
use cutover::{
    Aborted, Committed, Error, Found, Handle, Migrating, Plan, RerunAllowed, SourceStatus,
    Tombstoned, discard_record, forget_record, open, plan_from_marker, replace_target, status,
    ticket,
};

/// Begins, or goes on with, the migration, to its end. Never reruns.
pub(crate) fn migrate(plan: &Plan, yes: bool) -> Result<(), Stop> {
    match open(plan)? {
        Found::Fresh(mut handle) => {
            look_before_asking(yes, || handle.check())?;
            report::foreign(plan)?;
            approve(&whole(plan), yes)?;
            let mut shown = Shown::until_asked_to_stop();
            let migrating = handle.begin_observed(&mut shown)?;
            Ok(run(migrating, &mut shown).map_err(Error::part_way)?)
        }
        Found::Migrating(mut handle) => {
            look_before_asking(yes, || handle.check())?;
            approve("this migration has begun: it goes on from where it stopped", yes)?;
            Ok(run(handle, &mut Shown::until_asked_to_stop())?)
        }
        Found::Committed(handle) => {
            approve("the commit point has passed: the tombstones are set now", yes)?;
            Ok(finish(handle, &mut Shown::new())?)
        }
        Found::Tombstoned(handle) => {
            settle(handle)?;
            report::stores_amiss(plan)
        }
        Found::RerunAllowed(handle) => Err(lost(&handle)),
    }
}

/// What would be refused is found before somebody is asked; where nobody is, the verb itself looks.
pub(crate) fn look_before_asking(
    yes: bool,
    look: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    if yes { Ok(()) } else { look() }
}

/// What can be done from here, as `status` lists it.
pub(crate) fn instead(plan: &Plan) -> Result<String, Stop> {
    let can = status(plan)?.can;
    let can = can.iter().map(|verb| format!("`cutover {}` ({})", verb.verb, verb.does));
    let can: Vec<String> = can.collect();
    Ok(if can.is_empty() {
        "`cutover status` says what is in the way".to_owned()
    } else {
        format!("what can be done: {}", can.join(", "))
    })
}

/// The refusal of a verb that does not fit the state.
pub(crate) fn not_now(plan: &Plan, why: &str) -> Stop {
    match instead(plan) {
        Ok(instead) => Stop::refused(format!("{why}; {instead}")),
        Err(stop) => stop,
    }
}

/// The refusal to go on without a word where writes would be lost.
pub(crate) fn lost(handle: &Handle<RerunAllowed>) -> Stop {
    match handle.loss() {
        Ok(loss) => Stop::new(NEEDS_APPROVAL, loss.to_string()),
        Err(error) => error.into(),
    }
}

/// Refuses what needs the KV stores where one of them is missing: nobody can have it in use.
pub(crate) fn in_use(plan: &Plan) -> Result<(), Stop> {
    let status = status(plan)?;
    match (status.what, status.next) {
        (Some(what), Some(next)) => Err(Stop::refused(format!("{what}; {next}"))),
        _ => Ok(()),
    }
}

/// The plan's sources, a line for each.
pub(crate) fn listed(plan: &Plan) -> String {
    let sources = plan.sources();
    let sources: Vec<String> =
        sources.map(|(name, path)| format!("  source '{name}' at {}", path.display())).collect();
    sources.join("\n")
}

fn whole(plan: &Plan) -> String {
    format!(
        "this moves, for good:\n{}\ninto {}.\nThe stores are sealed first, so every program that uses \
         them must be stopped. Until the commit point `cutover abort` gives them back.",
        listed(plan),
        plan.target().display()
    )
}

pub(crate) fn run(migrating: Handle<Migrating>, shown: &mut Shown) -> Result<(), Error> {
    finish(migrating.run(shown)?, shown).map_err(Error::part_way)
}

pub(crate) fn finish(committed: Handle<Committed>, shown: &mut Shown) -> Result<(), Error> {
    let tombstoned = committed.finish_observed(shown)?;
    report::skipped(tombstoned.skipped());
    settle(tombstoned).map_err(Error::part_way)
}

/// Final tombstones, and the journal mode that the plan asks for.
pub(crate) fn settle(tombstoned: Handle<Tombstoned>) -> Result<(), Error> {
    drop(tombstoned.into_sql()?);
    say("done: the SQL database is live, and every old store has its tombstone");
    Ok(())
}

/// Compares both sides with what was recorded while they were copied.
pub(crate) fn verify(plan: &Plan, json: bool) -> Result<(), Stop> {
    match open(plan)? {
        Found::Tombstoned(mut handle) => {
            let verified = handle.verify(&mut Shown::until_asked_to_stop())?;
            drop(handle);
            report::verified(plan, &verified, json)
        }
        Found::Fresh(_) => {
            in_use(plan)?;
            Err(not_live(plan, "Fresh"))
        }
        Found::Migrating(_) => Err(not_live(plan, "Migrating")),
        Found::Committed(_) => Err(not_live(plan, "Committed")),
        Found::RerunAllowed(_) => Err(not_live(plan, "RerunAllowed")),
    }
}

fn not_live(plan: &Plan, state: &str) -> Stop {
    not_now(plan, &format!("the plan is in state {state}: there is no live SQL database"))
}

/// Goes back, while that is possible.
pub(crate) fn abort(plan: &Plan, said: Said, even_if_changed: bool) -> Result<(), Stop> {
    if let Err(Error::Contradiction(told)) = open(plan)
        && told.contradiction.is_left_over()
        && status(plan)?.target.record != "live"
    {
        approve(
            &format!(
                "{}. This throws away what that unfinished migration put into {}, and nothing else",
                told.what,
                plan.target().display()
            ),
            said.yes,
        )?;
        let discarded = discard_record(plan, ticket::DiscardRecord::losing_the_unfinished_copy());
        let found = match discarded {
            Err(error) if status(plan)?.target.record == "none" => {
                let message = format!(
                    "what the unfinished migration had put into {} is gone now, and what is left fits \
                     no state: {error}",
                    plan.target().display()
                );
                return Err(Stop { message: Some(message), ..error.into() });
            }
            found => found?,
        };
        say(&format!("done: it is gone; the state is {} now", name_of(&found)));
        return Ok(());
    }
    match open_anyhow(plan, "abort", said)? {
        Found::Fresh(_) => {
            in_use(plan)?;
            say("nothing to abort: the KV stores are in use");
            Ok(())
        }
        Found::Migrating(handle) => {
            let as_sealed = keeps_all(plan, even_if_changed)?;
            let gives_back =
                format!("this throws the copy away and gives every store back as it {as_sealed}");
            approve(
                if handle.is_rerun() {
                    "this throws the new copy away; the tombstones stay"
                } else {
                    &gives_back
                },
                said.yes,
            )?;
            aborted(&handle.abort()?);
            Ok(())
        }
        Found::Committed(handle) => {
            keeps_all(plan, even_if_changed)?;
            approve(
                "the commit point has passed. This throws the verified copy in the SQL database \
                 away; the stores are given back unless a tombstone stands already",
                said.yes,
            )?;
            aborted(&handle.abort(ticket::AbortCommitted::losing_the_committed_copy())?);
            Ok(())
        }
        Found::Tombstoned(_) => {
            Err(not_now(plan, "the SQL database is live, so there is nothing to abort"))
        }
        Found::RerunAllowed(_) => Err(not_now(
            plan,
            "the tombstones stand and no copy has begun, so there is nothing to abort",
        )),
    }
}

/// Refuses to throw a copy away where a retired store is not what was sealed: what it lacks may be in the
/// copy alone. Says how the stores are given back.
fn keeps_all(plan: &Plan, even_if_changed: bool) -> Result<&'static str, Stop> {
    let status = status(plan)?;
    let unlike = report::retired(&status, false);
    if unlike.is_none() {
        return Ok("was sealed");
    }
    let has_copy = ["copying", "committed"].contains(&status.target.record);
    if !has_copy || even_if_changed {
        return Ok("is now");
    }
    if unlike.changed.is_empty() {
        return Err(Stop::refused(format!(
            "nothing was changed: it is not known whether the copy alone holds data of source {}; or, if \
             the copy may go although that is not known, give --even-if-changed",
            unlike.unread.join("; source ")
        )));
    }
    Err(Stop::new(
        NEEDS_APPROVAL,
        format!(
            "nothing was changed: the copy may hold data that a retired store has lost (source {}); \
             put the store back as it was sealed, or go on to SQL, or, if the copy may go all the \
             same, give --even-if-changed",
            unlike.changed.join("; source ")
        ),
    ))
}

const fn name_of(found: &Found) -> &'static str {
    match found {
        Found::Fresh(_) => "Fresh",
        Found::Migrating(_) => "Migrating",
        Found::Committed(_) => "Committed",
        Found::Tombstoned(_) => "Tombstoned",
        Found::RerunAllowed(_) => "RerunAllowed",
    }
}

fn aborted(aborted: &Aborted) {
    report::skipped(match aborted {
        Aborted::Fresh(handle) => handle.skipped(),
        Aborted::RerunAllowed(handle) => handle.skipped(),
    });
    say(match aborted {
        Aborted::Fresh(_) => "done: every store is where it was, and can be written again",
        Aborted::RerunAllowed(_) => {
            "done: the copy is gone; the tombstones stand, and restore-kv gives the stores back"
        }
    });
}

/// Copies the retired stores once more.
pub(crate) fn rerun(plan: &Plan, said: Said, even_if_changed: bool) -> Result<(), Stop> {
    let (found, replaced, since) = match open(plan) {
        Err(error) => {
            let status = status(plan)?;
            let is_unknown = status.sources.iter().any(SourceStatus::retired_is_unknown);
            if is_unknown && !even_if_changed && (said.target_lost || said.record_lost) {
                report::retired(&status, false);
                return Err(Stop::new(
                    NEEDS_APPROVAL,
                    "nothing was changed: a part of a store would pass for all of it; put its marker back \
                     from a backup, or, if the store is to be copied as it is now, give --even-if-changed",
                ));
            }
            // Once the target is given up, nothing says this any more.
            let since = status.live_since;
            (without_target(plan, "rerun", error, said)?, true, since)
        }
        Ok(found) => (found, false, None),
    };
    // The markers name another target already.
    let stopped = |error: Error| if replaced { error.part_way() } else { error };
    match found {
        Found::RerunAllowed(mut handle) => {
            let ticket = if even_if_changed {
                ticket::Rerun::losing_also_what_a_store_has_lost()
            } else {
                ticket::Rerun::losing_writes_made_in_sql()
            };
            look_before_asking(said.yes || even_if_changed, || handle.check()).map_err(stopped)?;
            report::retired(&status(plan)?, false);
            approve(
                &format!(
                    "this copies the retired stores once more. {}, and an older copy of it is refused \
                     from now on",
                    writes_lost(&handle, since)?
                ),
                said.yes,
            )?;
            let migrating = handle.rerun(ticket).map_err(|failed| stopped(failed.into()))?;
            Ok(run(migrating, &mut Shown::until_asked_to_stop()).map_err(Error::part_way)?)
        }
        Found::Migrating(_) | Found::Committed(_) => {
            Err(not_now(plan, "a migration has begun and is not finished"))
        }
        Found::Fresh(_) => {
            in_use(plan)?;
            Err(not_now(plan, "the KV stores are in use, and no retired store stands to be copied"))
        }
        Found::Tombstoned(_) => {
            Err(not_now(plan, "the SQL database is live, so there is nothing to rerun"))
        }
    }
}

/// `since` is when the database went live, where that was known before it was given up.
fn writes_lost(handle: &Handle<RerunAllowed>, since: Option<String>) -> Result<String, Error> {
    Ok(match handle.loss()?.since.or(since) {
        Some(since) => format!(
            "Every write that was made in the SQL database since it went live, at {since}, is lost"
        ),
        None => {
            "No marker says that the SQL database ever went live; if it did, every write made in it is \
             lost"
                .into()
        }
    })
}

/// Gives the KV stores back from behind their tombstones.
pub(crate) fn restore_kv(plan: &Plan, said: Said) -> Result<(), Stop> {
    // Once the target is given up, nothing says any more since when it was live.
    let before = status(plan)?;
    match open_anyhow(plan, "restore-kv", said)? {
        Found::RerunAllowed(handle) => {
            let unlike = report::retired(&before, false);
            let as_sealed = if unlike.is_none() { "was sealed" } else { "is now" };
            approve(
                &format!(
                    "this gives every store back as it {as_sealed}. {}",
                    writes_lost(&handle, before.live_since)?
                ),
                said.yes,
            )?;
            let handle = handle.restore_kv(ticket::RestoreKv::losing_writes_made_in_sql())?;
            report::skipped(handle.skipped());
            say("done: every store is where it was, and can be written again");
            Ok(())
        }
        Found::Fresh(_) => {
            in_use(plan)?;
            say("nothing to restore: the KV stores are in use");
            Ok(())
        }
        Found::Migrating(_) | Found::Committed(_) => {
            Err(not_now(plan, "a migration has begun and is not finished"))
        }
        Found::Tombstoned(_) => Err(Stop::refused(
            "the SQL database is live; only if you can do without what was written to it, stop its \
             daemon, move it away and run this again",
        )),
    }
}

/// Frees the retired bytes.
pub(crate) fn reclaim(plan: &Plan, yes: bool, even_if_changed: bool) -> Result<(), Stop> {
    match open(plan)? {
        Found::Tombstoned(mut handle) => {
            report::foreign(plan)?;
            say("this deletes the last bytes of the old stores:");
            let unlike = report::retired(&status(plan)?, true);
            let ticket = if even_if_changed {
                ticket::Reclaim::losing_also_what_may_be_nowhere_else()
            } else {
                ticket::Reclaim::losing_the_way_back()
            };
            if unlike.changed.is_empty() && !unlike.unread.is_empty() && !even_if_changed {
                return Err(Stop::refused(format!(
                    "nothing was deleted: it is not known whether this is as it was sealed: source {}",
                    unlike.unread.join("; source ")
                )));
            }
            if !even_if_changed {
                handle.check()?;
            }
            approve(
                "No rerun and no way back to the KV stores is possible after it; the markers stay. The \
                 check to run before is `cutover verify`, which reads every pair on both sides.",
                yes,
            )?;
            let handle = handle.reclaim(ticket)?;
            report::skipped(handle.skipped());
            report::freed(handle.freed());
            let bytes: u64 = handle.freed().iter().map(|freed| freed.bytes).sum();
            say(&format!("done: {} freed", report::size(bytes)));
            Ok(())
        }
        Found::Fresh(_) => {
            in_use(plan)?;
            Err(not_live(plan, "Fresh"))
        }
        Found::Migrating(_) => Err(not_live(plan, "Migrating")),
        Found::Committed(_) => Err(not_live(plan, "Committed")),
        Found::RerunAllowed(_) => Err(not_now(
            plan,
            "the SQL database is gone, so the retired stores hold all that is left, and stay",
        )),
    }
}

/// Opens the plan; where the markers name other sources, the plan that they name.
fn open_anyhow(plan: &Plan, verb: &str, said: Said) -> Result<Found, Stop> {
    match open(plan) {
        Err(Error::Contradiction(told)) => {
            let Contradiction::OtherSources(source) = told.contradiction else {
                return without_target(plan, verb, Error::Contradiction(told), said);
            };
            let Some((_, path)) = plan.sources().nth(source) else {
                return Err(Error::Contradiction(told).into());
            };
            let marked = plan_from_marker(path)?;
            let names: Vec<&str> = marked.sources().map(|(name, _)| name).collect();
            say(&format!(
                "the markers name other sources than the plan; this works on theirs: {}",
                names.join(", ")
            ));
            open(&marked).or_else(|error| without_target(&marked, verb, error, said))
        }
        found => Ok(found?),
    }
}

/// Where the operator has said that the SQL database is lost, points the markers at the plan's; where
/// its record is, gives up what was written beside it. Changes nothing where `verb` could not follow.
fn without_target(plan: &Plan, verb: &str, error: Error, said: Said) -> Result<Found, Stop> {
    let recordless = matches!(
        &error,
        Error::Contradiction(told) if told.contradiction == Contradiction::RecordGone
    );
    if recordless && said.record_lost {
        approve(
            &format!(
                "{error}\nYou say that its record is lost. Every write that was made in {} since it \
                 went live is given up: rename or drop the tables that the migration filled there, \
                 since nothing keeps a program from writing them; a record that is put back later is \
                 not accepted any more",
                plan.target().display()
            ),
            said.yes,
        )?;
        return Ok(forget_record(plan, ticket::ForgetRecord::losing_writes_made_in_sql())?);
    }
    let lost = matches!(
        &error,
        Error::Contradiction(told) if matches!(
            told.contradiction,
            Contradiction::ClaimMissing
                | Contradiction::ClaimOfAnotherMigration
                | Contradiction::TargetElsewhere
        )
    );
    if !lost || !said.target_lost {
        return Err(error.into());
    }
    let can = status(plan)?.can;
    if !can.iter().any(|can| can.verb.split(' ').next() == Some(verb)) {
        return Err(not_now(plan, &format!("{verb} does not fit what the markers say")));
    }
    approve(
        &format!(
            "{error}\nYou say that it is lost. The SQL database that the markers name, and every \
             write in it, is given up, and the markers name {} from now on",
            plan.target().display()
        ),
        said.yes,
    )?;
    Ok(replace_target(plan, ticket::ReplaceTarget::losing_the_database_for_good())?)
}
