//! The engines that a source's store may be of: their files, their locks, their second locks, and reading
//! them. What is outside of this module knows no engine by its name, but for what hands a native database
//! to a daemon.

mod fjall;

pub(crate) use fjall::{Store, check_native, inventory, open_native, second_lock};
