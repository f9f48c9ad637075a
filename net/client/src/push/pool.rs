//! What the listener's threads have to do: work that is due, and work that is due later. Bounded by what the queues may
//! hold, which is counted there.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::driver::blocking::lock;

#[derive(Debug)]
pub(super) struct Pool<T> {
    work: Mutex<Work<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Work<T> {
    ready: VecDeque<T>,
    later: BinaryHeap<Due<T>>,
    is_closed: bool,
}

#[derive(Debug)]
struct Due<T> {
    at: Instant,
    work: T,
}

impl<T> Ord for Due<T> {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Due<T>) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl<T> PartialOrd for Due<T> {
    fn partial_cmp(&self, other: &Due<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Due<T> {
    fn eq(&self, other: &Due<T>) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Due<T> {}

impl<T> Pool<T> {
    pub(super) fn new() -> Pool<T> {
        let work = Work { ready: VecDeque::new(), later: BinaryHeap::new(), is_closed: false };
        Pool { work: Mutex::new(work), changed: Condvar::new() }
    }

    pub(super) fn push(&self, work: T) {
        lock(&self.work).ready.push_back(work);
        self.changed.notify_one();
    }

    /// Before everything else.
    pub(super) fn push_first(&self, work: T) {
        lock(&self.work).ready.push_front(work);
        self.changed.notify_one();
    }

    pub(super) fn push_later(&self, work: T, after: Duration) {
        lock(&self.work).later.push(Due { at: Instant::now() + after, work });
        self.changed.notify_one();
    }

    /// Waits for work; `None` when the pool is closed, whatever is left in it.
    pub(super) fn next(&self) -> Option<T> {
        let mut work = lock(&self.work);
        loop {
            if work.is_closed {
                return None;
            }
            let now = Instant::now();
            if work.later.peek().is_some_and(|due| due.at <= now) {
                return work.later.pop().map(|due| due.work);
            }
            if let Some(next) = work.ready.pop_front() {
                return Some(next);
            }
            let due = work.later.peek().map(|due| due.at - now);
            work = match due {
                Some(left) => self.changed.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(work).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        lock(&self.work).is_closed
    }

    /// Nothing more is begun.
    pub(super) fn close(&self) {
        lock(&self.work).is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_comes_when_it_is_due() {
        let pool = Pool::new();
        pool.push_later("last", Duration::from_millis(20));
        pool.push_later("second", Duration::from_millis(5));
        pool.push("first");
        assert_eq!([pool.next(), pool.next(), pool.next()], [Some("first"), Some("second"), Some("last")]);
        pool.push("never");
        pool.close();
        assert_eq!(pool.next(), None);
    }
}
