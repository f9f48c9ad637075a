//! Timers of one shard: a heap of deadlines, looked at by the driver on every turn.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::time::Instant;
use crate::uring::clock;

/// Entries that the heap may have beside two for each timer, before it is looked through for those of dropped timers.
const DROPPED_MAX: usize = 1024;

#[derive(Default)]
struct Timers {
    /// Deadline, slot, the slot's generation: an entry whose generation has passed belonged to a dropped timer. Most timers
    /// bound a wait that ends long before them, so these entries would otherwise be all that there is.
    heap: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    slots: Slab<(u64, Option<Waker>)>,
    generation: u64,
}

impl Timers {
    fn push(&mut self, deadline: Instant, slot: usize, generation: u64) {
        if self.heap.len() >= 2 * self.slots.len() + DROPPED_MAX {
            let slots = &self.slots;
            self.heap.retain(|Reverse((_, slot, generation))| slots.get(*slot).is_some_and(|(g, _)| g == generation));
            self.heap.shrink_to(2 * self.slots.len() + DROPPED_MAX);
        }
        self.heap.push(Reverse((deadline, slot, generation)));
    }
}

thread_local! {
    static TIMERS: RefCell<Timers> = RefCell::new(Timers::default());
}

/// Wakes every timer whose time has come; returns how many.
pub(super) fn fire(now: Instant) -> usize {
    let mut woken = 0;
    while let Some(waker) = pop_due(now) {
        waker.wake();
        woken += 1;
    }
    woken
}

fn pop_due(now: Instant) -> Option<Waker> {
    TIMERS.with_borrow_mut(|t| {
        loop {
            let &Reverse((deadline, slot, generation)) = t.heap.peek()?;
            if deadline > now {
                return None;
            }
            t.heap.pop();
            if let Some((g, waker)) = t.slots.get_mut(slot)
                && *g == generation
                && let Some(waker) = waker.take()
            {
                return Some(waker);
            }
        }
    })
}

/// The earliest deadline that somebody still waits for.
pub(super) fn next_deadline() -> Option<Instant> {
    TIMERS.with_borrow_mut(|t| {
        loop {
            let &Reverse((deadline, slot, generation)) = t.heap.peek()?;
            if t.slots.get(slot).is_some_and(|(g, w)| *g == generation && w.is_some()) {
                return Some(deadline);
            }
            t.heap.pop();
        }
    })
}

/// Forgets every timer of this thread; its executor has ended.
pub(super) fn clear() {
    let old = TIMERS.take();
    drop(old);
}

pub(crate) fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, slot: None }
}

pub(crate) struct Sleep {
    deadline: Instant,
    slot: Option<(usize, u64)>,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if clock::monotonic() >= self.deadline {
            return Poll::Ready(());
        }
        let deadline = self.deadline;
        TIMERS.with_borrow_mut(|t| {
            if let Some((slot, generation)) = self.slot
                && let Some((g, waker)) = t.slots.get_mut(slot)
                && *g == generation
            {
                let fired = waker.is_none();
                *waker = Some(cx.waker().clone());
                if fired {
                    t.push(deadline, slot, generation);
                }
                return;
            }
            t.generation += 1;
            let generation = t.generation;
            let slot = t.slots.insert((generation, Some(cx.waker().clone())));
            t.push(deadline, slot, generation);
            self.slot = Some((slot, generation));
        });
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let Some((slot, generation)) = self.slot else { return };
        // The thread's storage may be gone already when an executor is torn down.
        let _ = TIMERS.try_with(|t| {
            let Ok(mut t) = t.try_borrow_mut() else { return };
            if t.slots.get(slot).is_some_and(|(g, _)| *g == generation) {
                t.slots.remove(slot);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    fn heap_len() -> usize {
        TIMERS.with_borrow(|t| t.heap.len())
    }

    #[test]
    fn dropped_timers_take_no_memory_and_the_others_stay() {
        let mut cx = Context::from_waker(Waker::noop());
        let kept = clock::monotonic().after(Duration::from_secs(60));
        let mut stays = pin!(sleep_until(kept));
        assert!(stays.as_mut().poll(&mut cx).is_pending());
        for _ in 0..100_000 {
            let mut dropped = pin!(sleep_until(kept.after(Duration::from_secs(3600))));
            assert!(dropped.as_mut().poll(&mut cx).is_pending());
        }
        assert!(heap_len() <= 4 + DROPPED_MAX, "{} entries for one timer", heap_len());
        assert_eq!(next_deadline(), Some(kept));
        assert_eq!(fire(kept), 1);
    }

    #[test]
    fn many_timers_at_once_all_fire() {
        let mut cx = Context::from_waker(Waker::noop());
        let first = clock::monotonic().after(Duration::from_secs(60));
        let mut timers: Vec<_> =
            (0..4 * DROPPED_MAX as u64).map(|i| Box::pin(sleep_until(Instant(first.0 + i)))).collect();
        for timer in &mut timers {
            assert!(timer.as_mut().poll(&mut cx).is_pending());
        }
        let mut nth = 0;
        timers.retain(|_| {
            nth += 1;
            nth % 8 == 0
        });
        let left = timers.len();
        for _ in 0..8 * DROPPED_MAX {
            assert!(pin!(sleep_until(first)).as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(fire(Instant(first.0 + 4 * DROPPED_MAX as u64)), left);
    }
}
