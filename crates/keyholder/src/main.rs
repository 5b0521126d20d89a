//! keyholder.
fn main() {}
