//! How long a migration takes, beside what anybody would write by hand: `cargo bench --bench speed`.
//!
//! Every run is a process of its own, so that its peak memory is its own; the ways are interleaved,
//! round by round, and medians are compared within one run. `docs/speed.md` has what was found.

#![allow(missing_docs, unreachable_pub, reason = "a program")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement that fails is not a measurement"
)]
#![allow(clippy::cast_precision_loss, reason = "seconds and bytes become ratios")]
#![allow(clippy::redundant_closure_for_method_calls, reason = "plans read as users write them")]

mod arguments;
mod chart;
mod ldk;
mod opening;
mod report;
mod rounds;
mod store;
mod ways;
mod work;

use arguments::Arguments;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, rest @ ..] = words.as_slice()
        && first == ways::CHILD
    {
        ways::play(rest);
        return ExitCode::SUCCESS;
    }
    match Arguments::read(&words) {
        Ok(arguments) => {
            let measured = rounds::measure(&arguments);
            report::print(&arguments, &measured);
            ExitCode::SUCCESS
        }
        Err(usage) => {
            eprintln!("{usage}");
            ExitCode::from(2)
        }
    }
}
