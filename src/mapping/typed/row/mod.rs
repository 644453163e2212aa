//! A struct as a row: fields become the neutral values of columns, and those become fields again. What
//! does not fit is refused with the field's or the column's name, and without its content.

mod fields;
mod read;
mod write;

pub(super) use fields::{Fields, fields};
pub(super) use read::from_row;
pub(in crate::mapping) use write::Name;
pub(super) use write::to_row;

/// Why a struct can't be a row, or a row a struct. Nothing in it is content of a store.
#[derive(Debug)]
pub(super) struct Unfit(String);

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

impl Unfit {
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}
