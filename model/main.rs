//! Tests of the whole.
fn main() {}
