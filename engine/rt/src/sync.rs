//! Waiting within one shard: an event that many may await. Nothing here crosses threads.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
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
/// everyone check again. To wait costs the same however many wait, and whoever gives up waiting leaves nothing behind.
#[derive(Default)]
pub struct Waiters {
    /// Waits since the last `wake_all`; a place is empty where the wait was given up.
    waiters: RefCell<Vec<Option<Waker>>>,
    empty: RefCell<Vec<usize>>,
    /// Calls of `wake_all` so far: a place is its owner's until the next.
    rounds: Cell<u64>,
}

impl Waiters {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self { waiters: RefCell::new(Vec::new()), empty: RefCell::new(Vec::new()), rounds: Cell::new(0) }
    }

    /// Waits until `check` gives a value; it is asked now and after each [`wake_all`](Self::wake_all).
    pub async fn until<T>(&self, mut check: impl FnMut() -> Option<T>) -> T {
        let mut place = Place { waiters: self, at: None };
        std::future::poll_fn(move |cx| {
            if let Some(value) = check() {
                return Poll::Ready(value);
            }
            place.wait(cx.waker());
            Poll::Pending
        })
        .await
    }

    /// The value changed.
    pub fn wake_all(&self) {
        let mut waiters = self.waiters.take();
        self.empty.borrow_mut().clear();
        self.rounds.set(self.rounds.get().wrapping_add(1));
        for waker in waiters.drain(..).flatten() {
            waker.wake();
        }
        let mut kept = self.waiters.borrow_mut();
        if kept.is_empty() {
            *kept = waiters;
        }
    }
}

/// One wait's place, in the round in which it was taken.
struct Place<'a> {
    waiters: &'a Waiters,
    at: Option<(u64, usize)>,
}

impl Place<'_> {
    fn current(&self) -> Option<usize> {
        self.at.filter(|(round, _)| *round == self.waiters.rounds.get()).map(|(_, at)| at)
    }

    fn wait(&mut self, waker: &Waker) {
        let mut waiters = self.waiters.waiters.borrow_mut();
        let at = self.current().or_else(|| self.waiters.empty.borrow_mut().pop()).unwrap_or_else(|| {
            waiters.push(None);
            waiters.len() - 1
        });
        self.at = Some((self.waiters.rounds.get(), at));
        if !waiters[at].as_ref().is_some_and(|known| known.will_wake(waker)) {
            waiters[at] = Some(waker.clone());
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(at) = self.current() {
            self.waiters.waiters.borrow_mut()[at] = None;
            self.waiters.empty.borrow_mut().push(at);
        }
    }
}

impl std::fmt::Debug for Waiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waiters({})", self.waiters.borrow().len() - self.empty.borrow().len())
    }
}

/// So many at a time; the others wait in the order in which they came.
pub struct Semaphore {
    free: Cell<usize>,
    line: RefCell<VecDeque<Rc<InLine>>>,
}

#[derive(Default)]
struct InLine {
    event: Event,
    state: Cell<Turn>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Turn {
    #[default]
    Waits,
    /// It has been given the right, and has not seen it yet.
    Given,
    Over,
}

/// The right that a [`Semaphore`] gives, until it is dropped.
#[derive(Debug)]
pub struct Permit(Rc<Semaphore>);

impl Semaphore {
    /// `count` at a time.
    pub fn new(count: usize) -> Rc<Self> {
        Rc::new(Self { free: Cell::new(count), line: RefCell::default() })
    }

    /// Takes the right if it can be had at once.
    pub fn try_acquire(self: &Rc<Self>) -> Option<Permit> {
        let left = self.free.get().checked_sub(1)?;
        self.free.set(left);
        Some(Permit(Rc::clone(self)))
    }

    /// Waits for the right.
    pub async fn acquire(self: Rc<Self>) -> Permit {
        if let Some(permit) = self.try_acquire() {
            return permit;
        }
        let me = Rc::new(InLine::default());
        self.line.borrow_mut().push_back(Rc::clone(&me));
        let wait = Wait { semaphore: &self, me };
        wait.me.event.wait().await;
        wait.me.state.set(Turn::Over);
        Permit(Rc::clone(&self))
    }

    /// Hands the right to the next in line.
    fn pass_on(&self) {
        loop {
            let next = self.line.borrow_mut().pop_front();
            match next {
                Some(next) if next.state.get() == Turn::Waits => {
                    next.state.set(Turn::Given);
                    return next.event.notify();
                }
                Some(_) => (),
                None => return self.free.set(self.free.get() + 1),
            }
        }
    }
}

/// A wait, which may be given up.
struct Wait<'a> {
    semaphore: &'a Semaphore,
    me: Rc<InLine>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        match self.me.state.replace(Turn::Over) {
            Turn::Over => (),
            Turn::Given => self.semaphore.pass_on(),
            Turn::Waits => {
                // Those in front mostly give up first.
                let mut line = self.semaphore.line.borrow_mut();
                while line.front().is_some_and(|first| first.state.get() == Turn::Over) {
                    line.pop_front();
                }
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

impl std::fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Semaphore({} free, {} wait)", self.free.get(), self.line.borrow().len())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wait_that_is_given_up_leaves_nothing_behind() {
        let waiters = Waiters::new();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut stays = Box::pin(waiters.until(|| None::<()>));
        for _ in 0..2 {
            assert!(stays.as_mut().poll(&mut cx).is_pending());
        }
        for _ in 0..1000 {
            let mut gives_up = Box::pin(waiters.until(|| None::<()>));
            assert!(gives_up.as_mut().poll(&mut cx).is_pending());
        }
        assert!(waiters.waiters.borrow().len() <= 2, "{waiters:?}");
        waiters.wake_all();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the one that stays, once");
        drop(stays);
        assert_eq!(Arc::strong_count(&woken), 2, "the waker is kept nowhere");
    }

    #[test]
    fn a_semaphore_gives_the_right_in_order_and_loses_none() {
        let semaphore = Semaphore::new(1);
        let mut cx = Context::from_waker(Waker::noop());
        let first = semaphore.try_acquire().unwrap();
        assert!(semaphore.try_acquire().is_none());
        let mut line: Vec<_> = (0..3).map(|_| Box::pin(Rc::clone(&semaphore).acquire())).collect();
        assert!(line.iter_mut().all(|wait| wait.as_mut().poll(&mut cx).is_pending()));
        drop(line.remove(0));
        drop(first);
        assert!(line[1].as_mut().poll(&mut cx).is_pending(), "it is not its turn");
        // It was given the right, and goes without having seen it.
        drop(line.remove(0));
        let Poll::Ready(last) = line[0].as_mut().poll(&mut cx) else { panic!("the right is lost") };
        drop(last);
        assert!(semaphore.try_acquire().is_some() && semaphore.line.borrow().is_empty());
    }
}
