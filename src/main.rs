//! The `lifecycle-agent` program.
fn main() {}
