//! Keeping a consumer's place in its group: which queues are its own, how far each has got, and the locks of orderly
//! consumption. One thread a consumer, which works when something is due or the broker says that the group has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::slice;
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
            return self.update(topic, &queues);
        }
        let mut members = self.member.members(topic)?;
        members.sort_unstable();
        members.dedup();
        let me = self.member.client_id();
        if !members.iter().any(|member| member == me) {
            // The broker has not taken the heartbeat in yet.
            return Ok(false);
        }
        self.update(topic, allocate::averagely(&queues, &members, me))
    }

    /// Makes `mine` the queues of the topic that this member has.
    fn update(&self, topic: &str, mine: &[MessageQueue]) -> Result<bool> {
        let wanted: BTreeSet<&MessageQueue> = mine.iter().collect();
        let has = lock(&self.assigned).clone();
        let lost = has.iter().filter(|(queue, _)| queue.topic == topic && !wanted.contains(queue));
        for (queue, assigned) in lost {
            lock(&self.assigned).remove(queue);
            self.release(assigned);
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
        for queue in fresh {
            let (start, committed) = self.start_of(&queue)?;
            let assigned = Arc::new(Assigned::new(queue.clone(), start, committed, needs_lock));
            lock(&self.assigned).insert(queue, assigned);
        }
        Ok(is_complete)
    }

    fn release(&self, assigned: &Arc<Assigned>) {
        if !self.leaving.give_up(assigned) {
            return;
        }
        if let Err(error) = self.end_queue(assigned) {
            tracing::warn!(queue = ?assigned.queue, %error, "a queue was not handed over in order; some messages will come again");
        }
    }

    /// Commits what is done of a queue and gives its lock back.
    pub(super) fn end_queue(&self, assigned: &Assigned) -> Result<()> {
        let committed = self.commit(slice::from_ref(&assigned));
        if self.is_orderly && self.options.is_clustering() {
            self.member.unlock_queues(slice::from_ref(&assigned.queue))?;
        }
        committed
    }

    /// Ends all queues, when no thread has any. The first failure is the result; the others are tried all the same.
    pub(super) fn end_queues(&self) -> Result<()> {
        let mut queues: Vec<Arc<Assigned>> = std::mem::take(&mut *lock(&self.assigned)).into_values().collect();
        queues.extend(self.leaving.take_all());
        let ends: Vec<Result<()>> = queues
            .iter()
            .map(|assigned| {
                assigned.give_up();
                self.end_queue(assigned)
            })
            .collect();
        ends.into_iter().collect()
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
        let assigned: Vec<&Assigned> = assigned.iter().map(AsRef::as_ref).collect();
        if let Err(error) = self.commit(&assigned) {
            tracing::warn!(%error, "offsets were not committed, they will be");
        }
    }

    /// Tells how far each of the queues has got. All are tried; the first failure is the result.
    fn commit(&self, queues: &[&Assigned]) -> Result<()> {
        let behind: Vec<(&Assigned, i64)> =
            queues.iter().filter_map(|assigned| Some((*assigned, assigned.uncommitted()?))).collect();
        if behind.is_empty() {
            return Ok(());
        }
        if let Some(local) = &self.local {
            lock(local).set(behind.iter().map(|(assigned, offset)| (assigned.queue.clone(), *offset)))?;
            behind.iter().for_each(|(assigned, offset)| assigned.committed(*offset));
            return Ok(());
        }
        let told = behind.iter().map(|(assigned, offset)| {
            self.member.update_offset(&assigned.queue, *offset)?;
            assigned.committed(*offset);
            Ok(())
        });
        let told: Vec<Result<()>> = told.collect();
        told.into_iter().collect()
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
            assigned.set_locked(locked.contains(&queue));
        }
    }

    /// The queues that are locked for this member now, of those given. A broker that cannot be asked locks none.
    fn lock_each_broker(&self, queues: &[MessageQueue]) -> Vec<MessageQueue> {
        let mut by_broker: BTreeMap<&str, Vec<MessageQueue>> = BTreeMap::new();
        for queue in queues {
            by_broker.entry(&queue.broker_name).or_default().push(queue.clone());
        }
        let mut locked = Vec::new();
        for (broker, queues) in by_broker {
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
