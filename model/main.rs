//! Tests of the whole: real fjall, real SQLite, real files and real processes.

#![allow(unreachable_pub, reason = "what the tests share is public among them")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::redundant_closure_for_method_calls,
    clippy::unwrap_used,
    reason = "a helper fails as a test does, and plans read as users write them"
)]

mod assumed;
mod before_commit;
mod child;
mod command;
mod common;
mod conformance;
mod crash;
mod daemon;
mod data;
mod guide;
mod house;
mod ids;
mod litd;
mod owners;
mod package;
mod picky;
mod power;
mod progress;
mod projection;
mod proof;
mod quarantine;
mod race;
mod refusals;
mod threads;
