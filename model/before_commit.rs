//! Before the point of no return: the daemon's own check.

mod check;
