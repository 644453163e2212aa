//! The operator's command.

mod arguments;
mod ask;
mod demo;
mod exit;
mod halves;
mod pages;
mod plan_file;
mod progress;
mod rehearse;
mod report;
mod signals;
mod verbs;

use arguments::{Arguments, Command, CopyAgain, GoBack, PlanArguments};
use clap::Parser;
use cutover::Plan;
use exit::Stop;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(asked) => {
            // The help and the version come here too.
            let code = u8::try_from(asked.exit_code()).unwrap_or(exit::USAGE);
            return match asked.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::from(exit::INTERRUPTED),
            };
        }
    };
    match run(&arguments).and_then(|()| report::printed()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            if let Some(message) = &stop.message {
                report::complain(&format!("cutover: {message}"));
            }
            ExitCode::from(stop.code)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Stop> {
    match &arguments.command {
        Command::Status(look) => report::status(&look.plan.build()?, look.json),
        Command::Plan(further) => {
            let plan = further.look.plan.build()?;
            if further.full {
                rehearse::run(&plan, further.look.json)
            } else {
                report::preview(&plan, further.look.json)
            }
        }
        Command::Migrate(change) => copying(&change.plan, |plan| verbs::migrate(plan, change.yes)),
        Command::Prepare(change) => copying(&change.plan, |plan| halves::prepare(plan, change.yes)),
        Command::Finalize(change) => {
            copying(&change.plan, |plan| halves::finalize(plan, change.yes))
        }
        Command::Verify(look) => verbs::verify(&look.plan.build()?, look.json),
        Command::Abort(back) => {
            let GoBack { change, even_if_changed } = back;
            verbs::abort(&change.plan.build()?, change.into(), *even_if_changed)
        }
        Command::Rerun(again) => {
            let CopyAgain { change, even_if_changed } = again;
            copying(&change.plan, |plan| verbs::rerun(plan, change.into(), *even_if_changed))
        }
        Command::RestoreKv(change) => verbs::restore_kv(&change.plan.build()?, change.into()),
        Command::Reclaim(free) => {
            verbs::reclaim(&free.change.plan.build()?, free.change.yes, free.even_if_changed)
        }
        Command::Demo { folder } => demo::run(folder),
        Command::Completions { shell } => pages::completions(*shell),
        Command::Man { folder } => pages::man(folder.as_deref()),
    }
}

/// Runs a verb that copies pairs or reads copied ones back, and says then which are in quarantine.
fn copying(plan: &PlanArguments, verb: impl FnOnce(&Plan) -> Result<(), Stop>) -> Result<(), Stop> {
    let plan = plan.build()?;
    match verb(&plan) {
        Ok(()) => report::quarantine(&plan),
        Err(Stop { part_way: true, message: Some(message), code, .. }) => {
            Err(Stop::new(code, format!("{message}; {}", verbs::instead(&plan)?)))
        }
        Err(stop) => Err(stop),
    }
}
