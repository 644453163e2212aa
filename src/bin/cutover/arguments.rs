//! The command line.

use crate::exit::{HELP, Stop, USAGE};
use crate::plan_file;
use clap::{Args, Parser, Subcommand};
use cutover::Plan;
use std::path::PathBuf;

/// Moves a daemon's fjall stores into SQLite, once and one way.
#[derive(Debug, Parser)]
#[command(name = "cutover", version, after_help = HELP)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say what is on disk and what can be done; changes nothing, and works while stores are in use
    #[command(after_help = HELP)]
    Status(Look),
    /// Say what a migration would do, and why it would be refused, as far as looking shows
    #[command(after_help = HELP)]
    Plan(LookFurther),
    /// Move the stores into SQL, or finish what an earlier run began
    #[command(after_help = HELP)]
    Migrate(Change),
    /// Copy and read back, and stop before the commit point, so that somebody can look
    #[command(after_help = HELP)]
    Prepare(Change),
    /// Commit what prepare has copied, and go on to the end
    #[command(after_help = HELP)]
    Finalize(Change),
    /// Compare the retired stores, and the SQL database, with what was copied
    #[command(after_help = HELP)]
    Verify(Look),
    /// Go back to where the migration began, while that is possible
    #[command(after_help = HELP)]
    Abort(GoBack),
    /// Copy the retired stores once more, when the SQL database is lost
    #[command(after_help = HELP)]
    Rerun(CopyAgain),
    /// Give the KV stores back as they were sealed, when the SQL database is lost
    #[command(after_help = HELP)]
    RestoreKv(ChangeOrLost),
    /// Free the bytes of the retired stores, for good
    #[command(after_help = HELP)]
    Reclaim(Free),
    /// Make three small stores, migrate them, lose the SQL file and copy once more, step by step
    Demo {
        /// The folder to work in; must be missing or empty
        #[arg(value_name = "DIR", default_value = "cutover-demo")]
        folder: PathBuf,
    },
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write it, and one for each verb, into a folder
    Man {
        /// The folder; made if it is missing
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Look {
    #[command(flatten)]
    pub(crate) plan: PlanArguments,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LookFurther {
    #[command(flatten)]
    pub(crate) look: Look,
    /// Rehearse it too: copy all the real data into a database that is thrown away
    #[arg(long)]
    pub(crate) full: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Change {
    #[command(flatten)]
    pub(crate) plan: PlanArguments,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ChangeOrLost {
    #[command(flatten)]
    pub(crate) plan: PlanArguments,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// The SQL database that the markers name is gone for good, with its claim file
    #[arg(long)]
    pub(crate) target_lost: bool,
    /// The SQL database lost its record, and you can do without the writes made in it
    #[arg(long)]
    pub(crate) record_lost: bool,
}

#[derive(Args, Debug)]
pub(crate) struct GoBack {
    #[command(flatten)]
    pub(crate) change: ChangeOrLost,
    /// Throw the copy away also where a retired store is not what was sealed
    #[arg(long)]
    pub(crate) even_if_changed: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Free {
    #[command(flatten)]
    pub(crate) change: Change,
    /// Delete a retired store also where it is not what was sealed
    #[arg(long)]
    pub(crate) even_if_changed: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CopyAgain {
    #[command(flatten)]
    pub(crate) change: ChangeOrLost,
    /// Copy a retired store as it is now also where nothing says what was sealed
    #[arg(long)]
    pub(crate) even_if_changed: bool,
}

/// What the operator has said already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) yes: bool,
    pub(crate) target_lost: bool,
    pub(crate) record_lost: bool,
}

impl From<&ChangeOrLost> for Said {
    fn from(change: &ChangeOrLost) -> Self {
        let ChangeOrLost { yes, target_lost, record_lost, .. } = *change;
        Self { yes, target_lost, record_lost }
    }
}

#[derive(Args, Debug)]
pub(crate) struct PlanArguments {
    /// The plan's name [default: cutover]
    #[arg(long, value_name = "PLAN")]
    name: Option<String>,
    /// A source: every keyspace of the store in DIR becomes a table `NAME_KEYSPACE`; repeatable
    #[arg(long = "source", value_name = "NAME=DIR", value_parser = named)]
    sources: Vec<(String, PathBuf)>,
    /// This source may be missing; repeatable
    #[arg(long = "may-be-missing", value_name = "NAME")]
    may_be_missing: Vec<String>,
    /// The SQLite database; need not exist yet
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,
    /// A TOML file that holds the plan
    #[arg(
        long = "plan",
        value_name = "FILE.toml",
        conflicts_with_all = ["name", "sources", "may_be_missing", "target"]
    )]
    file: Option<PathBuf>,
}

fn named(word: &str) -> Result<(String, PathBuf), String> {
    match word.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(path)))
        }
        Some(_) | None => Err("it is not NAME=DIR".to_owned()),
    }
}

impl PlanArguments {
    /// The plan that the arguments, or the file, say.
    pub(crate) fn build(&self) -> Result<Plan, Stop> {
        if let Some(file) = &self.file {
            return plan_file::read(file);
        }
        let usage = |message: String| Err(Stop::new(USAGE, message));
        let Some(target) = &self.target else {
            return usage("no target is given; give --target FILE, or --plan FILE.toml".to_owned());
        };
        if self.sources.is_empty() {
            return usage(
                "no source is given; give --source NAME=DIR, or --plan FILE.toml".to_owned(),
            );
        }
        for name in &self.may_be_missing {
            if !self.sources.iter().any(|(source, _)| source == name) {
                return usage(format!(
                    "--may-be-missing {name} names no source; give the name of one"
                ));
            }
        }
        let mut plan = Plan::builder(self.name.as_deref().unwrap_or("cutover")).target(target);
        for (name, path) in &self.sources {
            plan = plan.source(name, path, |source| {
                let source = source.every_keyspace();
                if self.may_be_missing.contains(name) { source.may_be_missing() } else { source }
            });
        }
        plan.build().map_err(|error| Stop::usage(&error))
    }
}
