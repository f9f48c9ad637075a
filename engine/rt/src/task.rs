//! Tasks of one shard: spawn, give way, and the stall watch that names whoever held the core too long.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::time::now;
use crate::{Backend, backend};

/// A task that keeps its core longer than this in one go is named in the log.
pub const STALL: Duration = Duration::from_millis(10);

thread_local! {
    static POLLS: Cell<u64> = const { Cell::new(0) };
}

/// How many times tasks of this shard were polled. When it stands still between two looks nothing was runnable.
pub(crate) fn polls() -> u64 {
    POLLS.get()
}

/// Starts `future` on this shard. `name` is what the stall watch calls it. Dropping the handle lets the task go on.
pub fn spawn<F>(name: &'static str, future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let slot = Rc::new(Slot { value: RefCell::new(None), waker: RefCell::new(None) });
    let finish = Rc::clone(&slot);
    let watched = Watched { name, inner: Box::pin(async move { finish.set(future.await) }) };
    match backend() {
        Backend::Uring => crate::uring::spawn(watched),
        Backend::Sim => crate::sim::spawn(Box::pin(watched)),
    }
    Task { slot }
}

/// Lets every other runnable task of this shard have its turn.
pub fn yield_now() -> impl Future<Output = ()> {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

struct Slot<T> {
    value: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Slot<T> {
    fn set(&self, value: T) {
        *self.value.borrow_mut() = Some(value);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// The handle of a spawned task: awaiting it gives its result.
#[must_use = "await it, or call `detach` to say that nobody waits"]
pub struct Task<T> {
    slot: Rc<Slot<T>>,
}

impl<T> Task<T> {
    /// Nobody waits for this task.
    pub fn detach(self) {}
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

impl<T> Future for Task<T> {
    type Output = T;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = self.slot.value.borrow_mut().take() {
            return Poll::Ready(value);
        }
        *self.slot.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Counts and times every poll of a task.
pub(crate) struct Watched {
    name: &'static str,
    inner: Pin<Box<dyn Future<Output = ()>>>,
}

impl Future for Watched {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        POLLS.set(POLLS.get() + 1);
        let start = now();
        let poll = self.inner.as_mut().poll(cx);
        let held = now().since(start);
        if held > STALL {
            tracing::warn!(task = self.name, held_ms = held.as_millis(), "a task held its core");
        }
        poll
    }
}
