//! How a push consumer consumes, and what its listener says.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::driver::blocking::Options;
use crate::error::{ConsumerFault, Error, Result};
use crate::filter::Filter;
use crate::pull::Pull;

/// What a listener says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumed {
    /// It is done.
    Done,
    /// It is to come again. When, is the broker's choice, later each time; an orderly consumer tries it again itself.
    Later,
    /// It is to come again after the broker's delay of that level, 1 to 18. An orderly consumer takes it for `Later`.
    LaterAt(u8),
    /// It goes to the dead letters at once.
    DeadLetter,
}

/// Who of the group gets a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Model {
    /// One member, which shares the queues with the others; the broker keeps how far the group has got.
    Clustering,
    /// Every member gets every message, and none comes again. How far this one has got is kept in a file, which no
    /// other consumer may use.
    Broadcasting {
        /// The file.
        offsets: PathBuf,
    },
}

/// Where a queue begins that the group has not got an offset for. Queues that still have their very first message begin
/// with it in any case: that is the broker's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// With what comes from now on.
    Last,
    /// With the first message there still is.
    First,
    /// With the first message that was stored then or later.
    Time(SystemTime),
}

/// How a push consumer consumes. The defaults are those of RocketMQ's Java client.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// The consumer group, whose members share the queues.
    pub group: String,
    /// Topics and what is wanted of them.
    pub subscriptions: Vec<(String, Filter)>,
    /// Who of the group gets a message.
    pub model: Model,
    /// Where a queue begins that the group is new to.
    pub start_at: StartAt,
    /// Threads that call the listener.
    pub threads: usize,
    /// Messages of one pull.
    pub pull_max: i32,
    /// Messages of one queue that may wait here or be in the listener's hands; beyond it the queue is not pulled.
    pub queue_messages_max: usize,
    /// The same in bytes of bodies.
    pub queue_bytes_max: usize,
    /// How far the last of them may lie behind the first, in queue offsets: one message that hangs must not let the
    /// rest run ahead for ever. Orderly consumers have no use for it.
    pub queue_span_max: i64,
    /// Times that a message comes again before it goes to the dead letters; `None`: what the group is configured to
    /// (16), and without an end for orderly consumers.
    pub reconsume_max: Option<i32>,
    /// How long an orderly consumer leaves a queue alone whose message is to come later.
    pub suspend: Duration,
    /// For calls that are not held.
    pub timeout: Duration,
    /// How connections are made.
    pub connection: Options,
}

impl PushOptions {
    /// Clustering, from the last message on, with 20 threads, and no topic yet.
    pub fn new(group: impl Into<String>) -> PushOptions {
        PushOptions {
            group: group.into(),
            subscriptions: Vec::new(),
            model: Model::Clustering,
            start_at: StartAt::Last,
            threads: 20,
            pull_max: 32,
            queue_messages_max: 1000,
            queue_bytes_max: 100 << 20,
            queue_span_max: 2000,
            reconsume_max: None,
            suspend: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            connection: Options::default(),
        }
    }

    /// One more topic. Text is a tag expression: `*`, or tags joined by `||`.
    #[must_use]
    pub fn subscribe(mut self, topic: impl Into<String>, filter: impl Into<Filter>) -> PushOptions {
        self.subscriptions.push((topic.into(), filter.into()));
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        let fault = if self.subscriptions.is_empty() {
            ConsumerFault::NoSubscription
        } else if self.threads == 0 {
            ConsumerFault::NoThread
        } else if self.pull_max < 1
            || self.queue_messages_max == 0
            || self.queue_bytes_max == 0
            || self.queue_span_max < 1
        {
            ConsumerFault::NoRoom
        } else {
            return Ok(());
        };
        Err(Error::Consumer { group: self.group.clone(), fault })
    }

    pub(super) fn is_clustering(&self) -> bool {
        self.model == Model::Clustering
    }

    pub(super) fn pull(&self, queue: ringmq_protocol::body::MessageQueue, offset: i64, broker_id: i64) -> Pull {
        let hold = Some(crate::tail::HOLD);
        Pull { messages_max: self.pull_max, hold, broker_id, ..Pull::new(queue, offset) }
    }
}
