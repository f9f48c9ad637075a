//! The shard's own ring: submission, completion, and the table of operations under way.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use slab::Slab;

use crate::uring::net::{ListenerState, StreamState};
use crate::uring::pool::Pool;

/// Submission slots. More operations than this between two turns are submitted in several enters.
const SQ_ENTRIES: u32 = 1024;
/// Completion slots; `NODROP` kernels keep what overflows.
const CQ_ENTRIES: u32 = 8 * SQ_ENTRIES;

/// User data of completions that nobody waits for.
pub(super) const IGNORE: u64 = u64::MAX;
/// User data of the eventfd's poll.
pub(super) const EVENTFD: u64 = u64::MAX - 1;

pub(super) enum Op {
    /// One submission, one completion, one future.
    Once {
        waker: Option<Waker>,
        result: Option<i32>,
        /// What the kernel reads or writes; it lives until the completion.
        #[expect(dead_code, reason = "held for its drop")]
        keep: Option<Rc<dyn Any>>,
        /// The future is gone.
        orphan: bool,
    },
    Recv(Rc<StreamState>),
    Accept(Rc<ListenerState>),
}

pub(super) struct Ring {
    uring: IoUring,
    ops: Slab<Op>,
    pub(super) pool: &'static Pool,
    /// Enters so far, for the figure of system calls per message.
    enters: u64,
}

thread_local! {
    static RING: RefCell<Option<Ring>> = const { RefCell::new(None) };
}

/// Opens the ring of this thread.
pub(super) fn open() -> io::Result<RawFd> {
    let uring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(CQ_ENTRIES)
        .build(SQ_ENTRIES)?;
    let pool = Pool::register(&uring)?;
    let fd = uring.as_raw_fd();
    RING.set(Some(Ring { uring, ops: Slab::with_capacity(256), pool, enters: 0 }));
    Ok(fd)
}

/// Closes it. Operations under way are cancelled by the kernel; what they kept is dropped afterwards.
pub(super) fn close() {
    let Some(ring) = RING.take() else { return };
    ring.pool.retire();
    let Ring { uring, ops, .. } = ring;
    // The kernel may use the kept buffers until the ring is gone.
    drop(uring);
    drop(ops);
}

fn with<R>(f: impl FnOnce(&mut Ring) -> R) -> Option<R> {
    RING.try_with(|r| r.try_borrow_mut().ok().and_then(|mut r| r.as_mut().map(f))).ok().flatten()
}

fn no_ring() -> io::Error {
    io::Error::other("not on a shard's thread")
}

/// The receive buffers of this thread's ring.
pub(super) fn pool() -> io::Result<&'static Pool> {
    with(|r| r.pool).ok_or_else(no_ring)
}

/// Enters of this thread's ring since it was opened.
pub(crate) fn enters() -> u64 {
    with(|r| r.enters).unwrap_or(0)
}

impl Ring {
    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: whatever the entry points at is kept by its `Op` until its completion, or is static.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return;
            }
            self.enters += 1;
            // A full queue is submitted on the spot; an error here comes back on the next turn.
            if let Err(e) = self.uring.submit()
                && e.raw_os_error() != Some(libc::EBUSY)
                && e.raw_os_error() != Some(libc::EINTR)
            {
                tracing::error!(error = %e, "io_uring submission failed");
            }
        }
    }

    /// Submits what is queued and, if `wait`, sleeps until a completion or `timeout`.
    fn enter(&mut self, wait: Option<Option<Duration>>) -> io::Result<()> {
        self.enters += 1;
        let result = match wait {
            None => {
                let to_submit = self.uring.submission().len();
                // SAFETY: no argument is passed; the queue's entries are valid as in `push`.
                unsafe {
                    self.uring.submitter().enter::<libc::sigset_t>(
                        u32::try_from(to_submit).unwrap_or(u32::MAX),
                        0,
                        GETEVENTS,
                        None,
                    )
                }
            }
            Some(None) => self.uring.submit_and_wait(1),
            Some(Some(timeout)) => {
                let ts = types::Timespec::from(timeout);
                self.uring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&ts))
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(e) => match e.raw_os_error() {
                // Time is up, a signal, or completions must be reaped first: the turn goes on.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(e),
            },
        }
    }
}

/// `IORING_ENTER_GETEVENTS`
const GETEVENTS: u32 = 1;

/// Submits queued entries and runs the kernel's deferred work, if there is either.
pub(super) fn submit() -> io::Result<()> {
    with(|r| {
        let queued = !r.uring.submission().is_empty();
        let work = r.uring.submission().taskrun();
        if queued || work { r.enter(None) } else { Ok(()) }
    })
    .unwrap_or(Ok(()))
}

/// Submits and sleeps until a completion, a wake-up or the time is up.
pub(super) fn submit_and_sleep(timeout: Option<Duration>) -> io::Result<()> {
    with(|r| r.enter(Some(timeout))).unwrap_or(Ok(()))
}

/// Handles every completion that is there; returns how many.
pub(super) fn reap() -> usize {
    let mut handled = 0;
    // One at a time: a handler may submit and must not find the ring borrowed.
    while let Some(cqe) = with(|r| r.uring.completion().next()).flatten() {
        complete(&cqe);
        handled += 1;
    }
    handled
}

fn complete(cqe: &cqueue::Entry) {
    let key = cqe.user_data();
    match key {
        IGNORE => return,
        EVENTFD => return super::driver::arm_eventfd(),
        _ => {}
    }
    let Ok(key) = usize::try_from(key) else { return };
    let more = cqueue::more(cqe.flags());
    enum Act {
        None,
        Wake(Waker),
        Drop(Op),
        Recv(Rc<StreamState>),
        Accept(Rc<ListenerState>),
    }
    let act = with(|r| {
        let Some(op) = r.ops.get_mut(key) else { return Act::None };
        match op {
            Op::Once { orphan: true, .. } => Act::Drop(r.ops.remove(key)),
            Op::Once { waker, result, .. } => {
                *result = Some(cqe.result());
                waker.take().map_or(Act::None, Act::Wake)
            }
            Op::Recv(stream) => {
                let stream = Rc::clone(stream);
                if !more {
                    let op = r.ops.remove(key);
                    drop(op);
                }
                Act::Recv(stream)
            }
            Op::Accept(listener) => {
                let listener = Rc::clone(listener);
                if !more {
                    let op = r.ops.remove(key);
                    drop(op);
                }
                Act::Accept(listener)
            }
        }
    });
    match act {
        None | Some(Act::None) => {}
        Some(Act::Wake(waker)) => waker.wake(),
        Some(Act::Drop(op)) => drop(op),
        Some(Act::Recv(stream)) => stream.received(cqe.result(), cqe.flags(), more),
        Some(Act::Accept(listener)) => listener.accepted(cqe.result(), more),
    }
}

/// Starts a receive or an accept; its completions go to the state in `op`.
pub(super) fn start(op: Op, entry: squeue::Entry) -> io::Result<usize> {
    with(|r| {
        let key = r.ops.insert(op);
        r.push(&entry.user_data(key as u64));
        key
    })
    .ok_or_else(no_ring)
}

/// Asks the kernel to end the operation `key`; its last completion still comes.
pub(super) fn cancel(key: usize) {
    let _ = with(|r| {
        let entry = opcode::AsyncCancel::new(key as u64).build().user_data(IGNORE);
        r.push(&entry);
    });
}

/// Queues an entry whose completion nobody needs.
pub(super) fn push_ignored(entry: squeue::Entry, user_data: u64) {
    let _ = with(|r| r.push(&entry.user_data(user_data)));
}

/// Wakes another ring from this thread's; false if this thread has none or the target is closed.
pub(super) fn wake_other(target: RawFd) -> bool {
    if target < 0 {
        return false;
    }
    with(|r| {
        let entry = opcode::MsgRingData::new(types::Fd(target), 0, IGNORE, None).build().user_data(IGNORE);
        r.push(&entry.flags(squeue::Flags::SKIP_SUCCESS));
    })
    .is_some()
}

/// Submits one operation and waits for its result: a non-negative number, or the error.
///
/// `keep` is whatever the entry points at. It stays until the completion even if the future is dropped.
pub(super) async fn once(entry: squeue::Entry, keep: Option<Rc<dyn Any>>) -> io::Result<i32> {
    let key = with(|r| {
        let key = r.ops.insert(Op::Once { waker: None, result: None, keep, orphan: false });
        r.push(&entry.user_data(key as u64));
        key
    })
    .ok_or_else(no_ring)?;
    let result = Completion { key, done: false }.await;
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

struct Completion {
    key: usize,
    done: bool,
}

impl Future for Completion {
    type Output = i32;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<i32> {
        let key = self.key;
        let polled = with(|r| match r.ops.get_mut(key) {
            Some(Op::Once { waker, result, .. }) => match *result {
                Some(value) => {
                    let op = r.ops.remove(key);
                    (Poll::Ready(value), Some(op))
                }
                None => {
                    *waker = Some(cx.waker().clone());
                    (Poll::Pending, None)
                }
            },
            _ => (Poll::Ready(-libc::ECANCELED), None),
        });
        // What was kept is dropped outside the borrow: its drop may come back to the ring.
        let (poll, op) = polled.unwrap_or((Poll::Ready(-libc::ECANCELED), None));
        drop(op);
        if poll.is_ready() {
            self.done = true;
        }
        poll
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let key = self.key;
        let finished = with(|r| match r.ops.get_mut(key) {
            Some(Op::Once { result: Some(_), .. }) => Some(r.ops.remove(key)),
            Some(Op::Once { orphan, waker, .. }) => {
                *orphan = true;
                *waker = None;
                None
            }
            _ => None,
        });
        drop(finished);
    }
}
