//! Exit codes: what a script can know of how a command ended.

use cutover::{Cause, Error, Failed};

pub(crate) const USAGE: u8 = 2;
pub(crate) const REFUSED: u8 = 3;
pub(crate) const CONTRADICTION: u8 = 4;
pub(crate) const NEEDS_APPROVAL: u8 = 5;
pub(crate) const VERIFICATION: u8 = 6;
pub(crate) const INTERRUPTED: u8 = 7;
pub(crate) const CHANGED_SINCE: u8 = 8;
/// As shells tell of a program that Ctrl-C ended.
pub(crate) const CANCELLED: u8 = 130;

/// The codes, as `--help` lists them.
pub(crate) const HELP: &str = "\
Exit codes:
  0  done
  2  wrong usage: an argument or the plan file
  3  refused, or something could not be looked at, and nothing was changed
  4  contradiction: what is on disk fits no state, and a person decides
  5  needs approval: --yes, or another verb that says what is lost
  6  verification failed: what is there is not what was copied
  7  failed part-way, or the outcome is not known: run it again
  8  verify: only the SQL database has changed since it was copied, as a daemon changes it
  130  stopped as asked, by Ctrl-C or a signal: run it again, or abort; a second signal ends it at once,
       as a kill does, and a shell then shows 128 and the signal's number (143 for SIGTERM)";

/// Why a command ends before it is done.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) code: u8,
    /// None where everything has been said.
    pub(crate) message: Option<String>,
    /// Whether it stopped part-way as asked, so that somebody wants to know what can be done now.
    pub(crate) part_way: bool,
}

impl Stop {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()), part_way: false }
    }

    pub(crate) const fn silent(code: u8) -> Self {
        Self { code, message: None, part_way: false }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(REFUSED, message)
    }
}

impl Stop {
    /// A plan that can't be used as it was written down, whatever is on disk.
    pub(crate) fn usage(error: &Error) -> Self {
        Self::new(USAGE, error.to_string())
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Refused(Cause::Cancelled) => {
                return Self::new(
                    CANCELLED,
                    "stopped as asked, and nothing was changed; run it again",
                );
            }
            Error::Interrupted { cause: Cause::Cancelled, .. } => {
                let stop = Self::new(CANCELLED, "stopped as asked, and nothing is lost");
                return Self { part_way: true, ..stop };
            }
            Error::Refused(_) => REFUSED,
            Error::Contradiction(_) => CONTRADICTION,
            Error::NeedsApproval { .. } => NEEDS_APPROVAL,
            Error::Verification(_) => VERIFICATION,
            // Whatever else there may be one day, running it again finds out.
            _ => INTERRUPTED,
        };
        Self::new(code, error.to_string())
    }
}

impl<H> From<Failed<H>> for Stop {
    fn from(failed: Failed<H>) -> Self {
        failed.error.into()
    }
}
