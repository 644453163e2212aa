//! Tests of the whole: real fjall, real SQLite, real files and real processes.

#![allow(warnings, reason = "the tests that use what is shared follow")]

mod child;
mod command;
mod common;
mod crash;
mod daemon;
mod data;
mod race;
mod refusals;
