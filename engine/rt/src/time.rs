//! Clocks and timers. The monotonic clock orders and measures; the wall clock only stamps messages.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::{Backend, backend};

/// A point on the shard's monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// Time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole milliseconds since the clock's start.
    pub fn millis(self) -> i64 {
        // Nanoseconds that fit an u64 are milliseconds that fit an i64.
        (self.0 / 1_000_000).cast_signed()
    }

    /// This point moved into the future.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The monotonic clock.
pub fn now() -> Instant {
    match backend() {
        Backend::Uring => crate::uring::clock::monotonic(),
        Backend::Sim => crate::sim::now(),
    }
}

/// The wall clock, in milliseconds since 1970. It may step in either direction.
pub fn wall_ms() -> i64 {
    match backend() {
        Backend::Uring => crate::uring::clock::wall_ms(),
        Backend::Sim => crate::sim::wall_ms(),
    }
}

/// Completes after `duration`.
pub async fn sleep(duration: Duration) {
    sleep_until(now().after(duration)).await;
}

/// Completes once the monotonic clock has reached `deadline`.
pub async fn sleep_until(deadline: Instant) {
    match backend() {
        Backend::Uring => crate::uring::timer::sleep_until(deadline).await,
        Backend::Sim => crate::sim::sleep_until(deadline).await,
    }
}

/// The time was up first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

/// Waits for `future`, at most for `duration`; drops it when the time is up.
///
/// # Errors
/// [`Elapsed`] when the time was up first.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut deadline = pin!(sleep(duration));
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        deadline.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}
