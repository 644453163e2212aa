//! Every pair arrives once and reads back the same, and nothing else in the target changes.

mod cancelling;
mod fence;
mod index_plans;
pub mod indexes;
pub mod keyspaces;
mod mapping;
pub mod memory;
mod neighbours;
mod numbered;
mod parts;
mod resuming;
mod telling;
mod typed;
mod values;
mod whole;
