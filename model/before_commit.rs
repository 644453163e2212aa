//! Before the point of no return: the daemon's own check, a migration that stops there to be looked
//! at, and a rehearsal of it all.

mod check;
mod prepare;
mod rehearse;
