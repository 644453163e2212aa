//! A migration in two halves, with the commit point between them: `prepare` and `finalize`.

use crate::ask::approve;
use crate::exit::Stop;
use crate::progress::Shown;
use crate::report::{foreign, say};
use crate::verbs::{finish, in_use, listed, look_before_asking, lost, not_now, run, settle};
use cutover::{Error, Found, Handle, Migrating, Plan, open};

/// Does all that comes before the commit point, and says what to look at.
pub(crate) fn prepare(plan: &Plan, yes: bool) -> Result<(), Stop> {
    match open(plan)? {
        Found::Fresh(mut handle) => {
            look_before_asking(yes, || handle.check())?;
            foreign(plan)?;
            approve(
                &format!(
                    "this copies:\n{}\ninto {}, and stops before the commit point.\nThe stores are \
                     sealed first, so every program that uses them must be stopped, and stay so. \
                     `cutover abort` gives them back.",
                    listed(plan),
                    plan.target().display()
                ),
                yes,
            )?;
            let mut shown = Shown::until_asked_to_stop();
            let migrating = handle.begin_observed(&mut shown)?;
            Ok(first_half(plan, migrating, &mut shown).map_err(Error::part_way)?)
        }
        Found::Migrating(mut handle) => {
            look_before_asking(yes, || handle.check())?;
            approve(
                "this migration has begun: it goes on up to the commit point, and stops there",
                yes,
            )?;
            Ok(first_half(plan, handle, &mut Shown::until_asked_to_stop())?)
        }
        Found::Committed(_) => {
            Err(not_now(plan, "the commit point has passed, so there is nothing to prepare"))
        }
        Found::Tombstoned(_) => {
            Err(not_now(plan, "the SQL database is live, so there is nothing to prepare"))
        }
        Found::RerunAllowed(handle) => Err(lost(&handle)),
    }
}

fn first_half(plan: &Plan, migrating: Handle<Migrating>, shown: &mut Shown) -> Result<(), Error> {
    drop(migrating.prepare(shown)?);
    let target = plan.target().display().to_string();
    let quoted = shlex::try_quote(&target).unwrap_or_else(|_| target.as_str().into());
    say(
        "prepared: every pair is copied and was read back; nothing is committed, and neither side can be written",
    );
    say(&format!("  to look:     sqlite3 -readonly {quoted}"));
    say("  to go on:    cutover finalize, with the same plan");
    say("  to go back:  cutover abort, with the same plan");
    Ok(())
}

/// Passes the commit point, once the copy is whole, and goes on to the end.
pub(crate) fn finalize(plan: &Plan, yes: bool) -> Result<(), Stop> {
    match open(plan)? {
        Found::Fresh(_) => {
            in_use(plan)?;
            Err(not_now(plan, "nothing is copied, and the KV stores are in use"))
        }
        Found::Migrating(handle) if !handle.is_copied()? => {
            Err(not_now(plan, "the copy has not come to its end"))
        }
        Found::Migrating(mut handle) => {
            look_before_asking(yes, || handle.check())?;
            approve(
                "the copy is whole. It is read back once more and committed; after that nothing goes \
                 back automatically",
                yes,
            )?;
            Ok(run(handle, &mut Shown::until_asked_to_stop())?)
        }
        Found::Committed(handle) => {
            approve("the commit point has passed: the tombstones are set now", yes)?;
            Ok(finish(handle, &mut Shown::new())?)
        }
        Found::Tombstoned(handle) => Ok(settle(handle)?),
        Found::RerunAllowed(handle) => Err(lost(&handle)),
    }
}
