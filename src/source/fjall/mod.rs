//! fjall 3: a store is a folder, with its lock, its journals and its version file in it.

mod errors;
pub(crate) mod inventory;
pub(crate) mod second_lock;
mod store;

pub(crate) use second_lock::check_native;
pub(crate) use store::{Store, open_native};
