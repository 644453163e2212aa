//! What the fuzz targets share.

#![forbid(unsafe_code)]

pub mod facts;
pub mod frame;
pub mod rules;
