//! Before the point of no return: the daemon's own check, and a migration that stops there to be
//! looked at.

mod check;
mod prepare;
