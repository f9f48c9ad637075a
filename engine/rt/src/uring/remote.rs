//! How other threads reach a sleeping shard: a list of finished jobs, and a wake-up through the caller's own ring
//! (`MSG_RING`, no system call of its own) or, from threads without a ring, through an eventfd.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::task::Waker;

use crossbeam_queue::SegQueue;
use slab::Slab;

use crate::uring::ring;

/// The part of a shard that other threads may touch.
pub(crate) struct Remote {
    sleeping: AtomicBool,
    eventfd: OwnedFd,
    ring_fd: AtomicI32,
    /// Slots of [`WAITS`] whose job has finished.
    done: SegQueue<usize>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Remote>>> = const { RefCell::new(None) };
    static WAITS: RefCell<Slab<Option<Waker>>> = const { RefCell::new(Slab::new()) };
}

impl Remote {
    pub(super) fn new(ring_fd: RawFd) -> io::Result<Arc<Self>> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Arc::new(Self {
            sleeping: AtomicBool::new(false),
            eventfd,
            ring_fd: AtomicI32::new(ring_fd),
            done: SegQueue::new(),
        }))
    }

    /// This thread's shard, if it is one.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    pub(super) fn set_current(remote: Option<Arc<Self>>) {
        CURRENT.set(remote);
    }

    pub(super) fn eventfd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// Announces sleep. What was queued before this is seen by the caller's check that must follow; what is queued after
    /// it wakes the shard.
    pub(super) fn fall_asleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
    }

    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Wakes the shard if it sleeps. Call after the thing to be seen is in place.
    pub(crate) fn wake(&self) {
        if !self.sleeping.swap(false, Ordering::SeqCst) {
            return;
        }
        if ring::wake_other(self.ring_fd.load(Ordering::Acquire)) {
            return;
        }
        self.wake_by_eventfd();
    }

    /// The ring is closed: nobody may send it messages any more.
    pub(super) fn retire(&self) {
        self.ring_fd.store(-1, Ordering::Release);
    }

    fn wake_by_eventfd(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: eight readable bytes and a descriptor that `self` owns. The write can only fail when the counter is
        // full, and then the shard is awake or about to be.
        let _ = unsafe { libc::write(self.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// A job of the slot `wait` has finished.
    pub(crate) fn finish(&self, wait: usize) {
        self.done.push(wait);
        self.wake();
    }

    pub(super) fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// Wakes whoever waits for finished jobs; returns how many.
    pub(super) fn wake_done(&self) -> usize {
        let mut woken = 0;
        while let Some(slot) = self.done.pop() {
            let waker = WAITS.with_borrow_mut(|w| w.get_mut(slot).and_then(Option::take));
            if let Some(waker) = waker {
                waker.wake();
                woken += 1;
            }
        }
        woken
    }
}

/// A place where a task of this shard waits for another thread's [`Remote::finish`].
pub(crate) struct Wait(usize);

impl Wait {
    pub(crate) fn new() -> Self {
        Self(WAITS.with_borrow_mut(|w| w.insert(None)))
    }

    pub(crate) fn slot(&self) -> usize {
        self.0
    }

    pub(crate) fn register(&self, waker: &Waker) {
        WAITS.with_borrow_mut(|w| {
            if let Some(slot) = w.get_mut(self.0) {
                *slot = Some(waker.clone());
            }
        });
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let _ = WAITS.try_with(|w| {
            if let Ok(mut w) = w.try_borrow_mut() {
                w.try_remove(self.0);
            }
        });
    }
}
