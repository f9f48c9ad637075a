//! Drivers: what moves the bytes of [`crate::conn`]. There is one for plain threads.

pub mod asked;
pub mod blocking;
mod channel;
mod connecting;
pub mod lookup;
mod writing;
