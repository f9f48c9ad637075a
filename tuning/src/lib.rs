//! What the host is, what it should be for RingMQ, and the way there and back: behind `ringmq tune` and
//! `ringmq doctor`.
//!
//! The map: `facts` reads `/proc`, `/sys` and the mount table below a [`Root`], which is the host or a recorded tree;
//! `advise` is pure and turns facts and a purpose into findings; `render` writes the drop-in files that make a setting
//! outlive a reboot; `apply` sets values, writes those files and keeps what was there before; `check` is the form of
//! `doctor`'s lines, and `diagnose` the pure checks of what cannot be tuned; `probe` asks the kernel what no file says.
//! Nothing here knows the broker, its configuration or its protocol.

pub mod advise;
pub mod apply;
pub mod check;
pub mod diagnose;
pub mod error;
pub mod facts;
pub mod probe;
pub mod render;
pub mod root;

pub use error::Error;
pub use root::Root;

/// Open files of the broker: one a connection, one a segment, and room for twice as many connections as anybody has
/// been seen to need. It is also the kernel's default for `fs.nr_open`, above which no limit may be set.
pub const OPEN_FILES: u64 = 1 << 20;
