//! The virtual clock: it stands still while a task runs and jumps to the next event when none can.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::world::{World, world};
use crate::time::Instant;

/// The wall clock of a world that has not been stepped reads this when the virtual clock reads zero: 2026-01-01, UTC.
const WALL_START_MS: i64 = 1_767_225_600_000;

/// The virtual clock.
pub(crate) fn now() -> Instant {
    Instant(world().now())
}

/// The wall clock of the node whose task asks.
pub(crate) fn wall_ms() -> i64 {
    let world = world();
    let since_start = i64::try_from(world.now() / 1_000_000).unwrap_or(i64::MAX);
    WALL_START_MS.saturating_add(since_start).saturating_add(world.wall_skew_ms(world.node()))
}

/// Completes once the virtual clock has reached `deadline`.
pub(crate) fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline: deadline.0, armed: None }
}

/// Completes after `ns` nanoseconds of virtual time.
pub(super) fn sleep_ns(ns: u64) -> Sleep {
    sleep_until(Instant(world().now().saturating_add(ns)))
}

/// A timer. Dropped, it leaves nothing behind that could move the clock.
#[derive(Debug)]
pub(crate) struct Sleep {
    deadline: u64,
    armed: Option<(Rc<World>, (u64, u64))>,
}

impl Sleep {
    fn disarm(&mut self) {
        if let Some((world, key)) = self.armed.take() {
            world.cancel(key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.disarm();
        let world = world();
        if world.now() >= self.deadline {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let key = world.at(self.deadline, move |_| waker.wake());
        self.armed = Some((world, key));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}
