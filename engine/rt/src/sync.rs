//! Waiting within one shard: an event that many may await. Nothing here crosses threads.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::task::{Poll, Waker};

/// Something happened: whoever waits is woken, and a `notify` without a waiter is remembered. One task waits on an event; for
/// more there is [`Waiters`].
#[derive(Default)]
pub struct Event {
    set: Cell<bool>,
    waiters: RefCell<Vec<Waker>>,
}

impl Event {
    /// An event that has not happened.
    pub const fn new() -> Self {
        Self { set: Cell::new(false), waiters: RefCell::new(Vec::new()) }
    }

    /// It happened.
    pub fn notify(&self) {
        self.set.set(true);
        // The list is given back so that a busy event does not allocate.
        let mut waiters = self.waiters.take();
        for waker in waiters.drain(..) {
            waker.wake();
        }
        let mut kept = self.waiters.borrow_mut();
        if kept.is_empty() {
            *kept = waiters;
        }
    }

    /// Waits until it has happened since the last wait that returned.
    pub async fn wait(&self) {
        std::future::poll_fn(|cx| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            let mut waiters = self.waiters.borrow_mut();
            if !waiters.iter().any(|w| w.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event(set: {})", self.set.get())
    }
}

/// The waiters of a value that others change: each waits until its own condition holds.
///
/// Unlike [`Event`] nothing is remembered: a waiter checks its condition first, and `wake_all` after each change makes
/// everyone check again.
#[derive(Default)]
pub struct Waiters {
    waiters: RefCell<Vec<Waker>>,
}

impl Waiters {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self { waiters: RefCell::new(Vec::new()) }
    }

    /// Waits until `check` gives a value; it is asked now and after each [`wake_all`](Self::wake_all).
    pub async fn until<T>(&self, mut check: impl FnMut() -> Option<T>) -> T {
        std::future::poll_fn(|cx| {
            if let Some(value) = check() {
                return Poll::Ready(value);
            }
            let mut waiters = self.waiters.borrow_mut();
            if !waiters.iter().any(|w| w.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// The value changed.
    pub fn wake_all(&self) {
        let mut waiters = self.waiters.take();
        for waker in waiters.drain(..) {
            waker.wake();
        }
        let mut kept = self.waiters.borrow_mut();
        if kept.is_empty() {
            *kept = waiters;
        }
    }
}

impl std::fmt::Debug for Waiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waiters({})", self.waiters.borrow().len())
    }
}

/// Which of two futures was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Either<A, B> {
    Left(A),
    Right(B),
}

/// Waits for whichever is first and drops the other.
pub async fn first<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(value) = a.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(value));
        }
        b.as_mut().poll(cx).map(Either::Right)
    })
    .await
}
