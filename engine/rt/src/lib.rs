//! The runtime seam: the only crate that knows which executor, which ring and which clock RingMQ runs on.
//!
//! What is above sees [`spawn`], [`sleep`], [`File`], [`net::Listener`], [`net::Stream`], [`mesh`] and the buffers of
//! [`buf`], and nothing else. Two backends stand behind the same names: `uring`, one pinned glommio executor a core with
//! an own `io-uring` ring for sockets, files, timers and wake-ups; and [`sim`], a deterministic world with a seeded
//! scheduler, a virtual clock, a disk whose volatile cache a crash empties, and a network in memory. Which of the two
//! a call reaches is decided by the thread it is made on, so code above needs no type parameter to be testable.
//!
//! Everything here belongs to one shard (one thread) unless its type is `Send`: [`buf::Slice`], [`mesh::Mesh`] before it
//! is bound, and [`Waker`](std::task::Waker)s of cross-thread completions.

pub mod buf;
pub mod file;
pub mod fs;
mod heartbeat;
pub mod hooks;
pub mod host;
pub mod mesh;
pub mod net;
pub mod sim;
pub mod sync;
pub mod task;
pub mod time;
mod uring;

pub use buf::{AlignedBuf, AppendBuf, Slice};
pub use file::{CommitMethod, File};
pub use heartbeat::Heartbeat;
pub use task::{Task, spawn, yield_now};
pub use time::{Instant, now, sleep, timeout, wall_ms};

/// The unit of direct I/O: every offset, length and address of a [`File`] is a multiple of it. 4,096 bytes, the physical
/// sector of today's drives and the page of the machine.
pub const BLOCK: usize = 4096;

/// Which world the calling thread lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Uring,
    Sim,
}

/// The backend of this thread. A simulated world announces itself; every other thread runs on the real one.
pub(crate) fn backend() -> Backend {
    if sim::is_active() { Backend::Sim } else { Backend::Uring }
}
