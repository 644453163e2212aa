//! A source's place: what stands at its two names, the marker, the exchange, and what is tried before.

mod fence;
mod preflight;
mod site;

pub(crate) use fence::MarkerText;
pub(crate) use preflight::{exchange_refused, preflight, try_place};
pub(crate) use site::{Look, Site, Standing};
