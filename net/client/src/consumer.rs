//! Pulling: a consumer that asks for messages itself, with filters and long polling, and keeps its group's offsets at the
//! broker. It decides nothing about which queues are its own; that is the application's business.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::Sender;
use std::time::Duration;

use ringmq_protocol::body::{ConsumeFromWhere, ConsumeType, MessageModel, MessageQueue};

use crate::conn::Received;
use crate::driver::blocking::{Answer, Call, Options, lock};
use crate::error::{Error, Result};
use crate::filter::{Filter, Subscription};
use crate::member::{Manner, Member};
use crate::message::ReceivedMessage;
use crate::pull::{Pull, PullOutcome};
use crate::route::NameServers;

/// How a pull consumer consumes.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// The consumer group, whose offsets brokers keep.
    pub group: String,
    /// For calls that are not held.
    pub timeout: Duration,
    /// How connections are made.
    pub connection: Options,
}

impl ConsumerOptions {
    /// 5 s for a call.
    pub fn new(group: impl Into<String>) -> ConsumerOptions {
        ConsumerOptions { group: group.into(), timeout: Duration::from_secs(5), connection: Options::default() }
    }
}

/// Pulls messages; any number of threads may share it.
///
/// [`poll`](PullConsumer::poll) reads on from a position that the consumer keeps for each queue;
/// [`pull`](PullConsumer::pull) reads from an offset that the caller keeps.
#[derive(Debug)]
pub struct PullConsumer {
    member: Member,
    /// The next message of each queue that is polled.
    positions: Mutex<BTreeMap<MessageQueue, i64>>,
}

impl PullConsumer {
    /// A member of the group that takes part in no topic yet. No server is asked before it does.
    ///
    /// # Errors
    /// The name of the group, or no more threads.
    pub fn new(options: ConsumerOptions, name_servers: NameServers) -> Result<PullConsumer> {
        let manner =
            Manner { kind: ConsumeType::Actively, model: MessageModel::Clustering, from: ConsumeFromWhere::LastOffset };
        let ConsumerOptions { group, timeout, connection } = options;
        let member = Member::join(&group, name_servers, &connection, timeout, manner, Box::new(drop))?;
        Ok(PullConsumer { member, positions: Mutex::default() })
    }

    /// Who this client is to brokers: address, process and a number of its own.
    pub fn client_id(&self) -> &str {
        self.member.client_id()
    }

    /// The consumer group.
    pub fn group(&self) -> &str {
        &self.member.group
    }

    /// Takes part in a topic, and tells the brokers that serve it. Text is a tag expression (`*`, or tags joined by
    /// `||`); a broker refuses an SQL expression that it cannot read.
    pub fn subscribe(&self, topic: &str, filter: impl Into<Filter>) -> Result<()> {
        self.member.subscribe(topic, Subscription::new(&filter.into())?)
    }

    /// The queues of a topic that can be read.
    pub fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>> {
        self.member.queues(topic)
    }

    /// Pulls from one queue. Without a subscription to the topic everything matches.
    pub fn pull(&self, pull: &Pull) -> Result<PullOutcome> {
        self.member.pull(pull)
    }

    /// Reads on in one queue: up to 32 messages from its position, which is then behind them. The broker may wait for
    /// `hold` when there are none. A queue that is new to this consumer begins where the group has got to, or, for a new
    /// group, with the first message there still is.
    pub fn poll(&self, queue: &MessageQueue, hold: Duration) -> Result<Vec<ReceivedMessage>> {
        let offset = self.position(queue)?;
        let outcome = self.pull(&Pull { hold: Some(hold), ..Pull::new(queue.clone(), offset) })?;
        let mut positions = lock(&self.positions);
        // A seek meanwhile has the last word.
        if positions.get(queue).is_none_or(|now| *now == offset) {
            positions.insert(queue.clone(), outcome.next_offset);
        }
        Ok(outcome.messages)
    }

    /// The next poll of that queue begins there.
    pub fn seek(&self, queue: &MessageQueue, offset: i64) {
        lock(&self.positions).insert(queue.clone(), offset);
    }

    /// Where the next poll of that queue begins.
    pub fn position(&self, queue: &MessageQueue) -> Result<i64> {
        if let Some(offset) = lock(&self.positions).get(queue) {
            return Ok(*offset);
        }
        match self.offset(queue)? {
            Some(offset) => Ok(offset),
            None => Ok(self.min_offset(queue)?.max(0)),
        }
    }

    /// Tells the broker that the group has consumed that queue up to its position.
    pub fn commit(&self, queue: &MessageQueue) -> Result<()> {
        let none = || Error::NoPosition {
            topic: queue.topic.clone(),
            broker_name: queue.broker_name.clone(),
            queue_id: queue.queue_id,
        };
        let offset = lock(&self.positions).get(queue).copied().ok_or_else(none)?;
        self.update_offset(queue, offset)
    }

    /// How far the group has got; `None` when it has no offset there.
    pub fn offset(&self, queue: &MessageQueue) -> Result<Option<i64>> {
        self.member.offset(queue, false)
    }

    /// Sets how far the group has got: the next message to be consumed.
    pub fn update_offset(&self, queue: &MessageQueue, offset: i64) -> Result<()> {
        self.member.update_offset(queue, offset)
    }

    /// The ids of the clients in the group, as the brokers of that topic know them.
    pub fn members(&self, topic: &str) -> Result<Vec<String>> {
        self.member.members(topic)
    }

    /// The next queue offset to be written.
    pub fn max_offset(&self, queue: &MessageQueue) -> Result<i64> {
        self.member.max_offset(queue)
    }

    /// The first queue offset that there still is.
    pub fn min_offset(&self, queue: &MessageQueue) -> Result<i64> {
        self.member.min_offset(queue)
    }

    /// The first queue offset that was stored at that time (ms since 1970) or later.
    pub fn offset_at(&self, queue: &MessageQueue, timestamp: i64) -> Result<i64> {
        self.member.offset_at(queue, timestamp)
    }

    /// Starts a pull whose answer goes to `answers` under `key`; [`take_answer`](Self::take_answer) reads it.
    pub(crate) fn start_pull(&self, pull: &Pull, key: usize, answers: Sender<Answer>) -> Result<Call> {
        let on_answer = move |answer| {
            // Whoever went away needs no answer.
            let _ = answers.send((key, answer));
        };
        self.member.start_pull(pull, Box::new(on_answer))
    }

    pub(crate) fn take_answer(&self, pull: &Pull, addr: &str, received: &Received) -> Result<PullOutcome> {
        self.member.take_answer(pull, addr, received)
    }

    pub(crate) fn pull_timeout(&self, pull: &Pull) -> Duration {
        self.member.pull_timeout(pull)
    }

    pub(crate) fn doubt_route(&self, topic: &str) {
        self.member.doubt_route(topic);
    }
}

impl Drop for PullConsumer {
    fn drop(&mut self) {
        self.member.leave();
    }
}
