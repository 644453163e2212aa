//! The operator's word.

use crate::exit::{NEEDS_APPROVAL, Stop};
use crate::report::{complain, say};
use std::io::{IsTerminal, stdin};

/// Says what will happen, and goes on only with a yes: `--yes`, or `y` on a terminal.
pub(crate) fn approve(what: &str, yes: bool) -> Result<(), Stop> {
    say(what);
    if yes {
        return Ok(());
    }
    if !stdin().is_terminal() {
        return Err(Stop::new(
            NEEDS_APPROVAL,
            "nothing was done: this needs a yes, and standard input is not a terminal; give --yes",
        ));
    }
    complain("go on? [y/N]");
    let mut answer = String::new();
    // An end of input, or an error, is not a yes.
    let _ = stdin().read_line(&mut answer);
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        Ok(())
    } else {
        Err(Stop::new(NEEDS_APPROVAL, "nothing was done: the answer was not yes; run it again"))
    }
}
