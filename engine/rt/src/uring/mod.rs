//! The production backend: a glommio executor for tasks, an own ring for everything that waits.
//!
//! glommio runs the tasks. Sockets, files, timers and wake-ups from other threads all complete on one `io-uring` ring a
//! shard, driven by one task ([`driver`]) that sleeps inside the ring when nothing is runnable, so glommio itself never
//! has to park.

pub(crate) mod blocking;
pub(crate) mod clock;
pub(crate) mod driver;
pub(crate) mod file;
pub(crate) mod fs;
pub(crate) mod net;
pub(crate) mod pool;
pub(crate) mod remote;
pub(crate) mod ring;
pub(crate) mod start;
pub(crate) mod timer;

use std::future::Future;

/// Puts a task on this shard's executor.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(task).detach();
}
