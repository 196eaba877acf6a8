//! placeholder until the API stands
fn main() {}
