//! The driver: the one task of a shard that talks to its ring. It submits what tasks queued, hands out completions, fires
//! timers, moves mailboxes, and sleeps inside the ring when no task is runnable.
//!
//! A turn that found work gives the tasks two rounds before it enters the kernel, so that what one task caused another to
//! send leaves in the same submission.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use io_uring::{opcode, types};

use crate::mesh::Port;
use crate::task::{polls, yield_now};
use crate::uring::remote::Remote;
use crate::uring::{clock, net, ring, timer};

thread_local! {
    static PORTS: RefCell<Vec<Rc<dyn Port>>> = const { RefCell::new(Vec::new()) };
    static STOP: Cell<bool> = const { Cell::new(false) };
}

/// A mailbox of this shard: the driver sends what it holds and wakes its reader.
pub(crate) fn add_port(port: Rc<dyn Port>) {
    PORTS.with_borrow_mut(|p| p.push(port));
}

/// Ends the driver after its current turn.
pub(super) fn stop() {
    STOP.set(true);
}

/// Forgets what belonged to this thread's executor.
pub(super) fn clear() {
    drop(PORTS.take());
    STOP.set(false);
}

/// Listens for wake-ups from threads without a ring.
pub(super) fn arm_eventfd() {
    let Some(remote) = Remote::current() else { return };
    let mut counter = 0_u64;
    // SAFETY: eight writable bytes and a descriptor that `remote` owns. The read only resets the counter; a would-block
    // cannot happen after a completion, and before the first one there is nothing to reset.
    let readable = unsafe {
        let mut poll = libc::pollfd { fd: remote.eventfd(), events: libc::POLLIN, revents: 0 };
        libc::poll(&raw mut poll, 1, 0) == 1
    };
    if readable {
        // SAFETY: as above.
        let _ = unsafe { libc::read(remote.eventfd(), (&raw mut counter).cast(), 8) };
    }
    let poll = opcode::PollAdd::new(types::Fd(remote.eventfd()), libc::POLLIN as u32).build();
    ring::push_ignored(poll, ring::EVENTFD);
}

/// Runs until [`stop`].
pub(super) async fn drive(remote: Arc<Remote>) {
    arm_eventfd();
    let mut last_polls = polls();
    let mut gave_round = false;
    loop {
        if STOP.get() {
            return send_rest();
        }
        let busy = polls() != last_polls;
        last_polls = polls();
        let posted = move_mail();
        if busy && !gave_round && !posted {
            gave_round = true;
            yield_now().await;
            continue;
        }
        gave_round = false;
        if hand_out(&remote) == 0 && !busy {
            sleep(&remote);
        } else if let Err(e) = ring::submit() {
            fail(&e);
        }
        hand_out(&remote);
        yield_now().await;
    }
}

/// Hands out whatever is there without entering the kernel; returns how many tasks it woke.
fn hand_out(remote: &Remote) -> usize {
    let mut woken = ring::reap();
    woken += timer::fire(clock::monotonic());
    if remote.has_done() {
        woken += remote.wake_done();
    }
    woken += PORTS.with_borrow(|ports| ports.iter().filter(|p| p.deliver()).count());
    if let Ok(pool) = ring::pool()
        && pool.collect()
    {
        woken += net::resume_starved();
    }
    woken
}

/// Moves what tasks posted to other shards; true if anything could not be moved yet.
fn move_mail() -> bool {
    PORTS.with_borrow(|ports| ports.iter().filter(|p| p.flush()).count() > 0)
}

/// Sends what the shard posted last. A neighbour that does not empty its mailbox within a second does not get it.
fn send_rest() {
    let deadline = clock::monotonic().after(Duration::from_secs(1));
    while move_mail() && clock::monotonic() < deadline {
        if let Err(e) = ring::submit_and_sleep(Some(RETRY)) {
            fail(&e);
        }
    }
    if let Err(e) = ring::submit() {
        fail(&e);
    }
}

/// A mailbox of a busy neighbour is full: look again soon instead of sleeping on.
const RETRY: Duration = Duration::from_micros(100);

fn sleep(remote: &Remote) {
    let blocked = move_mail();
    remote.fall_asleep();
    let pending = remote.has_done()
        || PORTS.with_borrow(|ports| ports.iter().any(|p| p.has_mail()))
        || ring::pool().is_ok_and(super::pool::Pool::has_returned);
    let result = if pending {
        ring::submit()
    } else {
        let until = timer::next_deadline().map(|d| d.since(clock::monotonic()));
        let until = if blocked { Some(until.map_or(RETRY, |u| u.min(RETRY))) } else { until };
        ring::submit_and_sleep(until)
    };
    remote.awake();
    if let Err(e) = result {
        fail(&e);
    }
}

/// A ring that cannot be entered cannot report anything any more: nothing the shard holds can be acknowledged.
fn fail(e: &std::io::Error) -> ! {
    tracing::error!(error = %e, "io_uring_enter failed; the shard cannot go on");
    std::process::abort();
}
