//! Keeping a consumer's place in its group: which queues are its own, how far each has got, and the locks of orderly
//! consumption. One thread a consumer, which works when something is due or the broker says that the group has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use ringmq_protocol::body::MessageQueue;
use ringmq_protocol::names;

use super::assigned::Assigned;
use super::{Shared, StartAt, allocate, pulling};
use crate::driver::blocking::lock;
use crate::error::Result;

/// RocketMQ's intervals.
const REBALANCE_EVERY: Duration = Duration::from_secs(20);
const COMMIT_EVERY: Duration = Duration::from_secs(5);
const LOCK_EVERY: Duration = Duration::from_secs(20);

/// A rebalance that could not be completed is tried again, first soon, then less and less often.
const AGAIN_FIRST: Duration = Duration::from_millis(500);

pub(super) enum Notice {
    /// The group has changed.
    Rebalance,
    /// Queues are to be read from other offsets.
    Reset(BTreeMap<MessageQueue, i64>),
    Stop,
}

pub(super) fn run(shared: &Arc<Shared>, notices: &Receiver<Notice>) {
    let now = Instant::now();
    let (mut rebalance_at, mut commit_at, mut lock_at) = (now, now + COMMIT_EVERY, now + LOCK_EVERY);
    let mut again = AGAIN_FIRST;
    loop {
        let next = rebalance_at.min(commit_at).min(lock_at);
        match notices.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Notice::Rebalance) => rebalance_at = Instant::now(),
            Ok(Notice::Reset(offsets)) => shared.reset(&offsets),
            Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        if rebalance_at <= now {
            let is_complete = shared.rebalance();
            again = if is_complete { AGAIN_FIRST } else { (again * 2).min(REBALANCE_EVERY) };
            rebalance_at = now + if is_complete { REBALANCE_EVERY } else { again };
        }
        if commit_at <= now {
            shared.commit_all();
            commit_at = now + COMMIT_EVERY;
        }
        if lock_at <= now {
            shared.lock_all();
            lock_at = now + LOCK_EVERY;
        }
    }
}

impl Shared {
    /// False when something was missing that may be there soon.
    fn rebalance(&self) -> bool {
        let topics: Vec<String> = lock(&self.member.subscriptions).keys().cloned().collect();
        let mut is_complete = true;
        for topic in topics {
            is_complete &= self.rebalance_topic(&topic).unwrap_or_else(|error| {
                tracing::warn!(topic, %error, "the group cannot share the queues of a topic, they stay as they are");
                false
            });
        }
        // The puller ends after this thread.
        let _ = self.pulls.send(pulling::Event::Look);
        is_complete
    }

    fn rebalance_topic(&self, topic: &str) -> Result<bool> {
        let Some(route) = self.member.session.routes.get(topic)? else {
            tracing::debug!(topic, "no broker has the topic yet");
            return Ok(false);
        };
        self.member.session.heart.introduce(route.addrs());
        let mut queues = route.read_queues();
        queues.sort_unstable();
        if !self.options.is_clustering() {
            return Ok(self.update(topic, &queues));
        }
        let mut members = self.member.members_and_me(topic)?;
        members.sort_unstable();
        members.dedup();
        let me = self.member.client_id();
        if !members.iter().any(|member| member == me) {
            // The others share all queues among them.
            tracing::warn!(
                topic,
                "the broker does not count this consumer to its group, the queues are given up until it does"
            );
            self.update(topic, &[]);
            return Ok(false);
        }
        Ok(self.update(topic, allocate::averagely(&queues, &members, me)))
    }

    /// Makes `mine` the queues of the topic that this member has. False when some of them cannot be had yet.
    fn update(&self, topic: &str, mine: &[MessageQueue]) -> bool {
        let wanted: BTreeSet<&MessageQueue> = mine.iter().collect();
        let has = lock(&self.assigned).clone();
        let lost = has.iter().filter(|(queue, _)| queue.topic == topic && !wanted.contains(queue));
        let mut free = Vec::new();
        for (queue, assigned) in lost {
            lock(&self.assigned).remove(queue);
            if self.leaving.give_up(assigned) {
                free.push(Arc::clone(assigned));
            }
        }
        if let Err(error) = self.hand_over(&free) {
            tracing::warn!(topic, %error, "queues were not handed over in order; some messages will come again");
        }
        let mut is_complete = true;
        let mut fresh = Vec::new();
        for queue in mine.iter().filter(|queue| !has.contains_key(queue)) {
            // A thread has still to finish what it has of the queue's last time here.
            if self.leaving.has(queue) {
                is_complete = false;
            } else {
                fresh.push(queue.clone());
            }
        }
        let needs_lock = self.is_orderly && self.options.is_clustering();
        if needs_lock {
            let count = fresh.len();
            fresh = self.lock_each_broker(&fresh);
            is_complete &= fresh.len() == count;
        }
        // Those that can be read begin before a broker that cannot be reached is waited for, once for all its queues.
        fresh.sort_by_cached_key(|queue| !self.member.reaches(queue));
        let mut unreached = BTreeSet::new();
        for queue in fresh {
            if unreached.contains(&queue.broker_name) {
                continue;
            }
            match self.start_of(&queue) {
                Ok((start, committed)) => {
                    let assigned = Arc::new(Assigned::new(queue.clone(), start, committed, needs_lock));
                    lock(&self.assigned).insert(queue, assigned);
                }
                Err(error) => {
                    tracing::warn!(?queue, %error, "a queue cannot be begun, it is tried again");
                    is_complete = false;
                    if error.is_unreachable() {
                        unreached.insert(queue.broker_name);
                    }
                }
            }
        }
        is_complete
    }

    /// Commits what is done of the queues, and gives their locks back. All are tried; the first failure is the result.
    pub(super) fn hand_over(&self, queues: &[Arc<Assigned>]) -> Result<()> {
        let mut outcome = self.commit(queues);
        if self.is_orderly && self.options.is_clustering() {
            for (_, queues) in self.by_broker(queues.iter().map(|assigned| &assigned.queue)) {
                outcome = outcome.and(self.member.unlock_queues(&queues));
            }
        }
        outcome
    }

    /// By broker, those first that take heartbeats.
    fn by_broker<'q>(&self, queues: impl Iterator<Item = &'q MessageQueue>) -> Vec<(&'q str, Vec<MessageQueue>)> {
        let mut by_broker: BTreeMap<&str, Vec<MessageQueue>> = BTreeMap::new();
        for queue in queues {
            by_broker.entry(&queue.broker_name).or_default().push(queue.clone());
        }
        let mut by_broker: Vec<_> = by_broker.into_iter().collect();
        by_broker.sort_by_cached_key(|(_, queues)| !queues.first().is_some_and(|queue| self.member.reaches(queue)));
        by_broker
    }

    /// Ends all queues, when no thread has any. The first failure is the result; the others are tried all the same.
    pub(super) fn end_queues(&self) -> Result<()> {
        let mut queues: Vec<Arc<Assigned>> = std::mem::take(&mut *lock(&self.assigned)).into_values().collect();
        queues.extend(self.leaving.take_all());
        for assigned in &queues {
            // There is no thread that could have it.
            assigned.give_up();
        }
        self.hand_over(&queues)
    }

    /// Where to begin, and what the group has committed.
    fn start_of(&self, queue: &MessageQueue) -> Result<(i64, Option<i64>)> {
        let known = match &self.local {
            Some(local) => lock(local).get(queue),
            None => self.member.offset(queue, true)?,
        };
        if let Some(offset) = known {
            // Zero is also what a broker says of a queue that has no offset and still its first message.
            return Ok((offset, Some(offset).filter(|offset| *offset > 0)));
        }
        // A retry topic holds messages of this group only, so none of them is to be passed over.
        let start = if names::is_retry(&queue.topic) { StartAt::First } else { self.options.start_at };
        let offset = match start {
            StartAt::First => self.member.min_offset(queue)?.max(0),
            StartAt::Last => self.member.max_offset(queue)?,
            StartAt::Time(time) => {
                let ms = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                self.member.offset_at(queue, i64::try_from(ms).unwrap_or(i64::MAX))?
            }
        };
        Ok((offset, None))
    }

    fn commit_all(&self) {
        let assigned: Vec<Arc<Assigned>> = lock(&self.assigned).values().cloned().collect();
        if let Err(error) = self.commit(&assigned) {
            tracing::warn!(%error, "offsets were not committed, they will be");
        }
    }

    /// Tells how far each of the queues has got. All are tried; the first failure is the result.
    fn commit(&self, queues: &[Arc<Assigned>]) -> Result<()> {
        let behind: Vec<(&Arc<Assigned>, i64)> =
            queues.iter().filter_map(|assigned| Some((assigned, assigned.uncommitted()?))).collect();
        if behind.is_empty() {
            return Ok(());
        }
        if let Some(local) = &self.local {
            lock(local).set(behind.iter().map(|(assigned, offset)| (assigned.queue.clone(), *offset)))?;
            behind.iter().for_each(|(assigned, offset)| assigned.committed(*offset));
            return Ok(());
        }
        let offsets: Vec<(&MessageQueue, i64)> =
            behind.iter().map(|(assigned, offset)| (&assigned.queue, *offset)).collect();
        self.member.update_offsets(&offsets, |at| {
            let (assigned, offset) = behind[at];
            assigned.committed(offset);
        })
    }

    /// Refreshes the locks of all queues.
    fn lock_all(&self) {
        if !self.is_orderly || !self.options.is_clustering() {
            return;
        }
        let assigned = lock(&self.assigned).clone();
        let queues: Vec<MessageQueue> = assigned.keys().cloned().collect();
        let locked = self.lock_each_broker(&queues);
        for (queue, assigned) in assigned {
            // One that is not ours any more is not consumed until it is again.
            self.take_lock(&assigned, locked.contains(&queue));
        }
    }

    /// Takes in whether the broker has locked the queue for this member, and says whether it may be consumed. One that may
    /// have been another member's meanwhile is read on from where the group has got to.
    pub(super) fn take_lock(&self, assigned: &Assigned, is_locked: bool) -> bool {
        if is_locked && assigned.may_be_anothers() {
            match self.member.offset(&assigned.queue, true) {
                Ok(Some(offset)) if assigned.catch_up(offset) => {
                    tracing::info!(queue = ?assigned.queue, offset, "the queue was another member's, it is read on from the group's offset");
                    // A consumer that has ended pulls no more.
                    let _ = self.pulls.send(pulling::Event::Look);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(queue = ?assigned.queue, %error, "how far the group is cannot be had, the queue waits");
                    return false;
                }
            }
        }
        assigned.set_locked(is_locked);
        is_locked
    }

    /// The queues that are locked for this member now, of those given. A broker that cannot be asked locks none.
    fn lock_each_broker(&self, queues: &[MessageQueue]) -> Vec<MessageQueue> {
        let mut locked = Vec::new();
        for (broker, queues) in self.by_broker(queues.iter()) {
            match self.member.lock_queues(&queues) {
                Ok(granted) => locked.extend(granted),
                Err(error) => tracing::warn!(broker, %error, "queues cannot be locked"),
            }
        }
        locked
    }

    /// Reads queues from other offsets, as an administrator told the broker.
    fn reset(&self, offsets: &BTreeMap<MessageQueue, i64>) {
        let assigned = lock(&self.assigned).clone();
        for (queue, assigned) in &assigned {
            if let Some(offset) = offsets.get(queue) {
                tracing::info!(?queue, offset, "the queue is read from another offset, as an administrator wants");
                assigned.move_to(*offset);
            }
        }
        self.commit_all();
        // The puller ends after this thread.
        let _ = self.pulls.send(pulling::Event::Look);
    }
}
