//! The KV side: what stands at a source's two names, the locks, the exchange, the second lock, and
//! reading a store.

mod fence;
pub(crate) mod inventory;
mod preflight;
mod site;
mod store;
mod version;

pub(crate) use fence::MarkerText;
pub(crate) use preflight::{exchange_refused, preflight, try_place};
pub(crate) use site::{Look, Site, Standing};
pub(crate) use store::{Store, open_native};
pub(crate) use version::check_native;
