//! The stemedb binary.
fn main() {}
