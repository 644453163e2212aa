//! Openers that were already inside fjall's `open` when the seal came. fjall reads the store's
//! version first and then tries its lock three times, 100 ms apart, on a file that it has open: so
//! an opener may hold everything that it needs by the time the name means something else.

mod again;
mod counts;
mod holders;
pub mod openers;
mod round;
mod seal;
mod suspended;
