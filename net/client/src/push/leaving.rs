//! Queues that are given up and still in the hands of a thread of the listener. None of them is taken up again before that
//! thread has let go of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ringmq_protocol::body::MessageQueue;

use super::assigned::Assigned;
use crate::driver::blocking::lock;

#[derive(Debug, Default)]
pub(super) struct Leaving {
    queues: Mutex<BTreeMap<MessageQueue, Arc<Assigned>>>,
}

impl Leaving {
    /// Gives the queue up. True when no thread has it; otherwise the thread that has it says [`left`](Leaving::left).
    pub(super) fn give_up(&self, assigned: &Arc<Assigned>) -> bool {
        // First, because the thread may let go of the queue as soon as it is given up.
        lock(&self.queues).insert(assigned.queue.clone(), Arc::clone(assigned));
        let is_free = assigned.give_up();
        if is_free {
            self.left(&assigned.queue);
        }
        is_free
    }

    /// The thread has let go of the queue.
    pub(super) fn left(&self, queue: &MessageQueue) {
        lock(&self.queues).remove(queue);
    }

    pub(super) fn has(&self, queue: &MessageQueue) -> bool {
        lock(&self.queues).contains_key(queue)
    }

    /// What the threads have not let go of, when there are no threads any more.
    pub(super) fn take_all(&self) -> impl Iterator<Item = Arc<Assigned>> {
        std::mem::take(&mut *lock(&self.queues)).into_values()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::{Duration, Instant};

    use super::super::assigned::Next;
    use super::*;
    use crate::push::assigned::tests::{hold, message};

    #[test]
    fn a_queue_is_known_to_leave_before_its_thread_can_let_go_of_it() {
        let leaving = Leaving::default();
        let assigned = Arc::new(Assigned::new(MessageQueue::new("T", "a", 0), 10, None, true));
        assert!(assigned.line_up(0, vec![message(10)]));
        thread::scope(|scope| {
            let held = hold(&assigned);
            let keeper = scope.spawn(|| leaving.give_up(&assigned));
            let deadline = Instant::now() + Duration::from_secs(20);
            while !leaving.has(&assigned.queue) {
                assert!(Instant::now() < deadline, "the queue is given up first");
                thread::yield_now();
            }
            drop(held);
            assert!(!keeper.join().unwrap());
        });
        assert!(matches!(assigned.next_in_line(true), Next::GivenUp));
        leaving.left(&assigned.queue);
        assert!(!leaving.has(&assigned.queue));
    }

    #[test]
    fn a_queue_that_no_thread_has_is_free_at_once() {
        let leaving = Leaving::default();
        let assigned = Arc::new(Assigned::new(MessageQueue::new("T", "a", 0), 10, None, true));
        assert!(leaving.give_up(&assigned));
        assert!(!leaving.has(&assigned.queue));
    }
}
