//! One queue that belongs to this consumer: its cache, how far it is committed, and for orderly consumption the messages
//! in their order, the lock, and whether a thread has it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ringmq_protocol::body::{MessageQueue, ProcessQueueInfo};

use super::PushOptions;
use super::cache::Cache;
use crate::driver::blocking::lock;
use crate::identity::now_ms;
use crate::message::ReceivedMessage;

/// A lock that was not refreshed for so long is not relied on (Java's clients: `REBALANCE_LOCK_MAX_LIVE_TIME`).
const LOCK_LIVES: Duration = Duration::from_secs(30);

/// A lock that was not refreshed for so long may have been somebody else's (the brokers' `REBALANCE_LOCK_MAX_LIVE_TIME`).
const LOCK_LIVES_AT_BROKER: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) queue: MessageQueue,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cache: Cache,
    committed: Option<i64>,
    /// Grows when the queue is read from another place: what was pulled before counts no more.
    epoch: u64,
    is_given_up: bool,
    /// It was to be pulled and had no room.
    is_full: bool,
    /// Messages of an orderly consumer, the next first.
    waiting: VecDeque<ReceivedMessage>,
    /// An orderly queue is in the hands of a thread, or waits for one.
    is_busy: bool,
    /// The broker locks it for one member of the group.
    needs_lock: bool,
    /// When the broker last said that it is this member's.
    locked_at: Option<Instant>,
    /// What an operator is told, in milliseconds since 1970: when it was pulled, consumed and locked last; 0 for never.
    pulled_ms: i64,
    consumed_ms: i64,
    locked_ms: i64,
}

/// What an orderly thread finds when it looks for the next message.
#[derive(Debug)]
pub(super) enum Next {
    Message(Box<ReceivedMessage>, u64),
    /// Nothing is left; the thread has let go of the queue.
    Nothing,
    /// The queue belongs to somebody else now; the thread has let go of it and must tell the broker.
    GivenUp,
    /// The lock has to be had again first.
    Unlocked,
}

impl Assigned {
    pub(super) fn new(queue: MessageQueue, start: i64, committed: Option<i64>, is_locked: bool) -> Assigned {
        let state = State {
            cache: Cache::starting_at(start),
            committed,
            epoch: 0,
            is_given_up: false,
            is_full: false,
            waiting: VecDeque::new(),
            is_busy: false,
            needs_lock: is_locked,
            locked_at: is_locked.then(Instant::now),
            pulled_ms: 0,
            consumed_ms: 0,
            locked_ms: if is_locked { now_ms() } else { 0 },
        };
        Assigned { queue, state: Mutex::new(state) }
    }

    /// Where to pull next, if there is room; and the epoch, by which the answer is taken.
    pub(super) fn next_pull(&self, options: &PushOptions, is_orderly: bool) -> Option<(i64, u64)> {
        let mut state = lock(&self.state);
        state.is_full = !state.cache.has_room(options, is_orderly);
        (!state.is_full).then(|| (state.cache.next_pull(), state.epoch))
    }

    /// Takes what a pull brought; false when the queue has been given up or moved meanwhile.
    pub(super) fn take(&self, epoch: u64, messages: &[ReceivedMessage], next: i64) -> bool {
        let mut state = lock(&self.state);
        if state.is_given_up || state.epoch != epoch {
            return false;
        }
        for message in messages {
            state.cache.add(message.queue_offset, message.body.len());
        }
        state.cache.pulled_to(next);
        state.pulled_ms = now_ms();
        true
    }

    /// Puts messages into the order, unless the queue has been given up or moved meanwhile; true when no thread has the
    /// queue yet, which is now the caller's to hand out.
    pub(super) fn line_up(&self, epoch: u64, messages: Vec<ReceivedMessage>) -> bool {
        let mut state = lock(&self.state);
        if state.is_given_up || state.epoch != epoch {
            return false;
        }
        state.waiting.extend(messages);
        !state.waiting.is_empty() && !std::mem::replace(&mut state.is_busy, true)
    }

    /// The next message in order, for the thread that has the queue.
    pub(super) fn next_in_line(&self, needs_lock: bool) -> Next {
        let mut state = lock(&self.state);
        if state.is_given_up {
            state.is_busy = false;
            return Next::GivenUp;
        }
        if needs_lock && state.locked_at.is_none_or(|at| at.elapsed() >= LOCK_LIVES) {
            return Next::Unlocked;
        }
        match state.waiting.pop_front() {
            Some(message) => Next::Message(Box::new(message), state.epoch),
            None => {
                state.is_busy = false;
                Next::Nothing
            }
        }
    }

    /// The message is the next once more.
    pub(super) fn put_back(&self, message: ReceivedMessage, epoch: u64) {
        let mut state = lock(&self.state);
        if state.epoch == epoch {
            state.waiting.push_front(message);
        }
    }

    /// A message is done with; one from before a move does not count. True when the queue had no room and now has some.
    pub(super) fn done(&self, offset: i64, epoch: u64, options: &PushOptions, is_orderly: bool) -> bool {
        let mut state = lock(&self.state);
        if state.epoch != epoch {
            return false;
        }
        state.cache.done(offset);
        state.consumed_ms = now_ms();
        let has_room_now = state.is_full && state.cache.has_room(options, is_orderly);
        state.is_full &= !has_room_now;
        has_room_now
    }

    pub(super) fn is_current(&self, epoch: u64) -> bool {
        let state = lock(&self.state);
        !state.is_given_up && state.epoch == epoch
    }

    /// From now on the queue is read from there. What is cached is forgotten.
    pub(super) fn move_to(&self, offset: i64) {
        lock(&self.state).move_to(offset, None);
    }

    /// The lock was perhaps somebody else's, and is had again: goes on from the group's offset if that is not the one that
    /// was committed here. True when it is not.
    pub(super) fn catch_up(&self, group: i64) -> bool {
        let mut state = lock(&self.state);
        // Zero is also what a broker says of a queue that has no offset.
        if state.committed.unwrap_or(0) == group {
            return false;
        }
        state.move_to(group, Some(group));
        true
    }

    /// The offset that the group's progress is behind, if it has changed. None while the queue may be somebody else's,
    /// whose progress it would undo.
    pub(super) fn uncommitted(&self) -> Option<i64> {
        let state = lock(&self.state);
        if state.may_be_anothers() {
            return None;
        }
        let offset = state.cache.committable();
        (state.committed != Some(offset)).then_some(offset)
    }

    pub(super) fn committed(&self, offset: i64) {
        lock(&self.state).committed = Some(offset);
    }

    /// Nothing more of it is consumed. True when no thread has it, so that its lock can be given back at once.
    pub(super) fn give_up(&self) -> bool {
        let mut state = lock(&self.state);
        state.is_given_up = true;
        !state.is_busy
    }

    /// Whether another member may have the queue, or have had it since the lock was last this one's for certain.
    pub(super) fn may_be_anothers(&self) -> bool {
        lock(&self.state).may_be_anothers()
    }

    pub(super) fn set_locked(&self, is_locked: bool) {
        let mut state = lock(&self.state);
        state.locked_at = is_locked.then(Instant::now);
        if is_locked {
            state.locked_ms = now_ms();
        }
    }

    /// The first message that is not done.
    pub(super) fn progress(&self) -> i64 {
        lock(&self.state).cache.committable()
    }

    /// What an operator is told of the queue.
    pub(super) fn info(&self) -> ProcessQueueInfo {
        let state = lock(&self.state);
        let (count, first, last, bytes) = state.cache.contents();
        ProcessQueueInfo {
            cached_msg_count: i32::try_from(count).unwrap_or(i32::MAX),
            cached_msg_max_offset: last,
            cached_msg_min_offset: first,
            cached_msg_size_in_mib: i32::try_from(bytes >> 20).unwrap_or(i32::MAX),
            commit_offset: state.cache.committable(),
            dropped: state.is_given_up,
            last_consume_timestamp: state.consumed_ms,
            last_lock_timestamp: state.locked_ms,
            last_pull_timestamp: state.pulled_ms,
            locked: state.locked_at.is_some_and(|at| at.elapsed() < LOCK_LIVES),
            ..ProcessQueueInfo::default()
        }
    }
}

impl State {
    fn move_to(&mut self, offset: i64, committed: Option<i64>) {
        self.epoch += 1;
        self.cache = Cache::starting_at(offset);
        self.waiting.clear();
        self.committed = committed;
    }

    fn may_be_anothers(&self) -> bool {
        self.needs_lock && self.locked_at.is_none_or(|at| at.elapsed() >= LOCK_LIVES_AT_BROKER)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use super::*;

    pub(in crate::push) fn message(offset: i64) -> ReceivedMessage {
        let host = SocketAddr::from(([127, 0, 0, 1], 1));
        ReceivedMessage {
            topic: "T".into(),
            broker_name: "a".into(),
            queue_id: 0,
            queue_offset: offset,
            position: 0,
            body: vec![1],
            packed: false,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 0,
            born_host: host,
            store_timestamp: 0,
            store_host: host,
            reconsume_times: 0,
            properties: Vec::new(),
        }
    }

    /// Keeps all threads from the queue for as long as it lives.
    pub(in crate::push) fn hold(assigned: &Assigned) -> std::sync::MutexGuard<'_, impl Sized> {
        lock(&assigned.state)
    }

    fn assigned() -> Assigned {
        Assigned::new(MessageQueue::new("T", "a", 0), 10, Some(10), true)
    }

    #[test]
    fn an_orderly_queue_is_in_one_hand_at_a_time() {
        let (queue, options) = (assigned(), PushOptions::new("g"));
        let messages = vec![message(10), message(11)];
        assert!(queue.take(0, &messages, 12));
        assert!(queue.line_up(0, messages));
        assert!(!queue.line_up(0, vec![message(12)]));
        let Next::Message(first, epoch) = queue.next_in_line(true) else { panic!("no message") };
        queue.put_back(*first, epoch);
        for offset in 10..13 {
            let Next::Message(next, epoch) = queue.next_in_line(true) else { panic!("no message") };
            assert_eq!(next.queue_offset, offset);
            queue.done(offset, epoch, &options, true);
        }
        assert!(matches!(queue.next_in_line(true), Next::Nothing));
        assert!(queue.line_up(0, vec![message(13)]));
        queue.set_locked(false);
        assert!(matches!(queue.next_in_line(true), Next::Unlocked));
        assert!(!queue.give_up());
        assert!(matches!(queue.next_in_line(true), Next::GivenUp));
    }

    #[test]
    fn a_full_queue_says_when_it_has_room_again() {
        let (queue, options) = (assigned(), PushOptions { queue_messages_max: 2, ..PushOptions::new("g") });
        assert!(queue.take(0, &[message(10), message(11)], 12));
        assert!(!queue.done(10, 0, &PushOptions { queue_messages_max: 1, ..options.clone() }, false));
        assert!(queue.take(0, &[message(12)], 13));
        assert_eq!(queue.next_pull(&options, false), None);
        assert!(queue.done(11, 0, &options, false));
        assert!(!queue.done(12, 0, &options, false));
    }

    #[test]
    fn what_was_pulled_before_a_move_counts_no_more() {
        let (queue, options) = (assigned(), PushOptions::new("g"));
        assert_eq!(queue.uncommitted(), None);
        assert!(queue.take(0, &[message(10)], 11));
        queue.move_to(3);
        assert!(!queue.take(0, &[message(11)], 12));
        queue.done(10, 0, &options, false);
        assert!(!queue.is_current(0) && queue.is_current(1));
        assert_eq!(queue.next_pull(&options, false), Some((3, 1)));
        assert_eq!(queue.uncommitted(), Some(3));
        queue.committed(3);
        assert_eq!(queue.uncommitted(), None);
    }

    #[test]
    fn what_was_taken_before_a_move_is_not_lined_up_after_it() {
        let queue = assigned();
        assert!(queue.take(0, &[message(10)], 11));
        queue.move_to(3);
        assert!(!queue.line_up(0, vec![message(10)]));
        assert!(queue.line_up(1, vec![message(3)]));
        let Next::Message(first, _) = queue.next_in_line(true) else { panic!("no message") };
        assert_eq!(first.queue_offset, 3);
    }

    #[test]
    fn a_queue_that_is_given_up_takes_no_more_messages_into_its_order() {
        let queue = assigned();
        assert!(queue.take(0, &[message(10)], 11));
        assert!(queue.give_up());
        assert!(!queue.line_up(0, vec![message(10)]));
    }

    #[test]
    fn a_queue_that_may_be_anothers_is_not_committed_and_goes_on_where_that_one_got_to() {
        let (queue, options) = (assigned(), PushOptions::new("g"));
        assert!(queue.take(0, &[message(10), message(11)], 12));
        queue.done(10, 0, &options, true);
        assert_eq!(queue.uncommitted(), Some(11));
        queue.set_locked(false);
        assert_eq!(queue.uncommitted(), None);
        // Nobody else has committed anything.
        assert!(!queue.catch_up(10));
        queue.set_locked(true);
        assert_eq!(queue.uncommitted(), Some(11));
        lock(&queue.state).locked_at = Instant::now().checked_sub(LOCK_LIVES_AT_BROKER);
        assert!(queue.may_be_anothers());
        assert_eq!(queue.uncommitted(), None);
        assert!(queue.catch_up(21));
        queue.set_locked(true);
        assert_eq!((queue.uncommitted(), queue.next_pull(&options, true)), (None, Some((21, 1))));
        assert!(!queue.is_current(0));
    }
}
