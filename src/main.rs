//! The program: one binary, named `ringmq`.
mod config;

fn main() {}
