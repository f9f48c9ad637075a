//! The program: one binary, named `ringmq`.
fn main() {}
