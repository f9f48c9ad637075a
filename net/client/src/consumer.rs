//! Pulling: a consumer that asks for messages itself, with tag filters and long polling, and keeps its group's offsets
//! at the broker. It decides nothing about which queues are its own; that is the application's business.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmq_protocol::body::{
    ConsumeFromWhere, ConsumeType, ConsumerData, ConsumerIdList, HeartbeatData, MessageModel, MessageQueue,
    SubscriptionData,
};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::filter::{SUB_ALL, TAG, TagFilter};
use ringmq_protocol::header::{
    ConsumerGroup, PullRequest, QueryConsumerOffset, UnregisterClient, UpdateConsumerOffset,
};
use ringmq_protocol::names::{self, GROUP_NAME_MAX_V4};
use ringmq_protocol::properties::pull_flag;

use crate::conn::{Received, Request};
use crate::driver::blocking::{Answer, Call, Options, Remoting, lock, refused};
use crate::error::{Ability, BadReply, Error, Result};
use crate::heartbeat::Heart;
use crate::identity::{Identity, now_ms};
use crate::message::{ReceivedMessage, decode_records};
use crate::route::{NameServers, Route, Routes};

/// What a broker has above the time that it may hold a pull, before the pull counts as lost.
const HOLD_GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    pub group: String,
    /// For calls that are not held.
    pub timeout: Duration,
    pub connection: Options,
}

impl ConsumerOptions {
    pub fn new(group: impl Into<String>) -> ConsumerOptions {
        ConsumerOptions { group: group.into(), timeout: Duration::from_secs(5), connection: Options::default() }
    }
}

/// Why a pull brought what it brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullStatus {
    Found,
    /// Nothing behind this offset yet.
    NoNew,
    /// There were messages, but none that the filter lets through; go on at the next offset.
    NoMatched,
    /// The offset is outside of what the queue has; go on at the next offset.
    OffsetMoved,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullOutcome {
    pub status: PullStatus,
    /// Those that match the subscription, in the order of the queue.
    pub messages: Vec<ReceivedMessage>,
    /// Where to go on.
    pub next_offset: i64,
    pub min_offset: i64,
    pub max_offset: i64,
    /// The broker id to read from next: 0 is the master.
    pub suggested_broker_id: i64,
}

/// What to pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull {
    pub queue: MessageQueue,
    pub offset: i64,
    pub messages_max: i32,
    /// How long the broker may wait for a message when there is none; `None`: it answers at once.
    pub hold: Option<Duration>,
    /// Committed for the group on the way.
    pub commit: Option<i64>,
}

impl Pull {
    /// Up to 32 messages, without waiting.
    pub fn new(queue: MessageQueue, offset: i64) -> Pull {
        Pull { queue, offset, messages_max: 32, hold: None, commit: None }
    }
}

#[derive(Debug, Clone)]
struct Subscription {
    expression: String,
    filter: TagFilter,
    version: i64,
}

type Subscriptions = Arc<Mutex<BTreeMap<String, Subscription>>>;

/// Pulls messages; any number of threads may share it.
#[derive(Debug)]
pub struct PullConsumer {
    options: ConsumerOptions,
    remoting: Remoting,
    routes: Routes,
    identity: Identity,
    subscriptions: Subscriptions,
    heart: Heart,
}

impl PullConsumer {
    pub fn new(options: ConsumerOptions, name_servers: NameServers) -> Result<PullConsumer> {
        names::check_group(&options.group, GROUP_NAME_MAX_V4)?;
        let remoting = Remoting::new(options.connection.clone());
        let identity = Identity::towards(name_servers.addrs().first().map(String::as_str));
        let subscriptions = Subscriptions::default();
        let (client_id, group) = (identity.client_id.clone(), options.group.clone());
        let subscribed = Arc::clone(&subscriptions);
        let heart =
            Heart::start(remoting.clone(), Box::new(move || heartbeat(&client_id, &group, &lock(&subscribed))))?;
        let routes = Routes::new(remoting.clone(), name_servers, options.timeout);
        Ok(PullConsumer { options, remoting, routes, identity, subscriptions, heart })
    }

    pub fn client_id(&self) -> &str {
        &self.identity.client_id
    }

    pub fn group(&self) -> &str {
        &self.options.group
    }

    /// Takes part in a topic with a tag expression (`*`, or tags joined by `||`), and tells the brokers that serve it.
    pub fn subscribe(&self, topic: &str, expression: &str) -> Result<()> {
        names::check_topic(topic)?;
        let filter =
            TagFilter::parse(Some(expression)).map_err(|_| Error::Filter { expression: expression.to_owned() })?;
        let subscription = Subscription { expression: expression.to_owned(), filter, version: now_ms() };
        lock(&self.subscriptions).insert(topic.to_owned(), subscription);
        self.heart.beat_now();
        let route = self.route(topic)?;
        route.addrs().try_for_each(|addr| self.heart.introduce(addr))
    }

    /// The queues of a topic that can be read.
    pub fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>> {
        Ok(self.route(topic)?.read_queues())
    }

    /// Pulls from one queue. Without a subscription to the topic everything matches.
    pub fn pull(&self, pull: &Pull) -> Result<PullOutcome> {
        let addr = self.reader(&pull.queue)?;
        let received = self.remoting.ask(&addr, &self.pull_request(pull), self.pull_timeout(pull))?;
        self.outcome(pull, &addr, &received)
    }

    /// Starts a pull whose answer goes to `answers` under `key`; [`take_answer`](Self::take_answer) reads it.
    pub(crate) fn start_pull(&self, pull: &Pull, key: usize, answers: Sender<Answer>) -> Result<Call> {
        let addr = self.reader(&pull.queue)?;
        self.remoting.ask_into(&addr, &self.pull_request(pull), self.pull_timeout(pull), key, answers)
    }

    pub(crate) fn take_answer(&self, pull: &Pull, received: &Received) -> Result<PullOutcome> {
        self.outcome(pull, &self.reader(&pull.queue)?, received)
    }

    pub(crate) fn pull_timeout(&self, pull: &Pull) -> Duration {
        pull.hold.map_or(self.options.timeout, |hold| hold + HOLD_GRACE)
    }

    /// Makes the next use of the topic's route ask the name server.
    pub(crate) fn forget_route(&self, topic: &str) {
        self.routes.forget(topic);
    }

    fn pull_request(&self, pull: &Pull) -> Request {
        let subscription = lock(&self.subscriptions).get(&pull.queue.topic).cloned();
        let (expression, version) =
            subscription.map_or_else(|| (SUB_ALL.to_owned(), 0), |sub| (sub.expression, sub.version));
        let commit = pull.commit.map_or(0, |_| pull_flag::COMMIT_OFFSET);
        let hold = pull.hold.map_or(0, |_| pull_flag::SUSPEND);
        let header = PullRequest {
            consumer_group: self.options.group.clone(),
            topic: pull.queue.topic.clone(),
            queue_id: pull.queue.queue_id,
            queue_offset: pull.offset,
            max_msg_nums: pull.messages_max,
            sys_flag: pull_flag::SUBSCRIPTION | commit | hold,
            commit_offset: pull.commit.unwrap_or(0),
            suspend_timeout_millis: pull.hold.map_or(0, |hold| i64::try_from(hold.as_millis()).unwrap_or(i64::MAX)),
            subscription: Some(expression),
            sub_version: version,
            expression_type: Some(TAG.to_owned()),
            ..PullRequest::default()
        };
        Request::new(RequestCode::PULL_MESSAGE).with_ext(header.to_ext())
    }

    fn outcome(&self, pull: &Pull, addr: &str, received: &Received) -> Result<PullOutcome> {
        let request = RequestCode::PULL_MESSAGE;
        let status = match ResponseCode(received.command.code) {
            ResponseCode::SUCCESS => PullStatus::Found,
            ResponseCode::PULL_NOT_FOUND => PullStatus::NoNew,
            ResponseCode::PULL_RETRY_IMMEDIATELY => PullStatus::NoMatched,
            ResponseCode::PULL_OFFSET_MOVED => PullStatus::OffsetMoved,
            code => return Err(refused(addr, request, code, received)),
        };
        let bad = |what| Error::Reply { addr: addr.to_owned(), request, what };
        let number = |name| received.number(name).ok_or_else(|| bad(BadReply::Field(name)));
        let mut messages = Vec::new();
        if status == PullStatus::Found {
            messages = decode_records(&received.body, &pull.queue.broker_name).map_err(|e| bad(e.into()))?;
            // The broker compares hashes; two tags may share one.
            if let Some(subscription) = lock(&self.subscriptions).get(&pull.queue.topic) {
                messages.retain(|message| subscription.filter.matches_tag(message.tag()));
            }
        }
        Ok(PullOutcome {
            status: if status == PullStatus::Found && messages.is_empty() { PullStatus::NoMatched } else { status },
            messages,
            next_offset: number("nextBeginOffset")?,
            min_offset: number("minOffset")?,
            max_offset: number("maxOffset")?,
            suggested_broker_id: number("suggestWhichBrokerId")?,
        })
    }

    /// How far the group has got; `None` when it has no offset there.
    pub fn offset(&self, queue: &MessageQueue) -> Result<Option<i64>> {
        let header = QueryConsumerOffset {
            consumer_group: self.options.group.clone(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            set_zero_if_not_found: Some(false),
        };
        let code = RequestCode::QUERY_CONSUMER_OFFSET;
        let addr = self.master(queue)?;
        let received = self.remoting.ask(&addr, &Request::new(code).with_ext(header.to_ext()), self.options.timeout)?;
        match ResponseCode(received.command.code) {
            ResponseCode::QUERY_NOT_FOUND => Ok(None),
            ResponseCode::SUCCESS => crate::admin::number(&addr, code, &received, "offset").map(Some),
            other => Err(refused(&addr, code, other, &received)),
        }
    }

    /// Sets how far the group has got: the next message to be consumed.
    pub fn update_offset(&self, queue: &MessageQueue, offset: i64) -> Result<()> {
        let header = UpdateConsumerOffset {
            consumer_group: self.options.group.clone(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            commit_offset: offset,
        };
        let request = Request::new(RequestCode::UPDATE_CONSUMER_OFFSET).with_ext(header.to_ext());
        self.remoting.call(&self.master(queue)?, &request, self.options.timeout).map(|_| ())
    }

    /// The ids of the clients in the group, as the brokers of that topic know them.
    pub fn members(&self, topic: &str) -> Result<Vec<String>> {
        let header = ConsumerGroup { consumer_group: self.options.group.clone() };
        let code = RequestCode::GET_CONSUMER_LIST_BY_GROUP;
        let route = self.route(topic)?;
        let none = || Error::NoBroker { topic: topic.to_owned(), can: Ability::Read };
        let addr = route.addrs().next().ok_or_else(none)?;
        let request = Request::new(code).with_ext(header.to_ext());
        let received = self.remoting.call(addr, &request, self.options.timeout)?;
        let list = ConsumerIdList::parse(&received.body).map_err(|e| Error::Reply {
            addr: addr.to_owned(),
            request: code,
            what: e.into(),
        })?;
        Ok(list.consumer_id_list)
    }

    /// The next queue offset to be written.
    pub fn max_offset(&self, queue: &MessageQueue) -> Result<i64> {
        crate::admin::queue_offset(&self.remoting, &self.master(queue)?, queue, true, self.options.timeout)
    }

    /// The first queue offset that there still is.
    pub fn min_offset(&self, queue: &MessageQueue) -> Result<i64> {
        crate::admin::queue_offset(&self.remoting, &self.master(queue)?, queue, false, self.options.timeout)
    }

    fn route(&self, topic: &str) -> Result<Arc<Route>> {
        let none = || Error::NoBroker { topic: topic.to_owned(), can: Ability::Read };
        self.routes.get(topic)?.ok_or_else(none)
    }

    fn reader(&self, queue: &MessageQueue) -> Result<String> {
        let none = || Error::NoBroker { topic: queue.topic.clone(), can: Ability::Read };
        self.route(&queue.topic)?.reader(&queue.broker_name, 0).map(str::to_owned).ok_or_else(none)
    }

    fn master(&self, queue: &MessageQueue) -> Result<String> {
        let none = || Error::NoBroker { topic: queue.topic.clone(), can: Ability::Master };
        self.route(&queue.topic)?.master(&queue.broker_name).map(str::to_owned).ok_or_else(none)
    }
}

impl Drop for PullConsumer {
    fn drop(&mut self) {
        self.heart.unregister(&UnregisterClient {
            client_id: self.identity.client_id.clone(),
            producer_group: None,
            consumer_group: Some(self.options.group.clone()),
        });
    }
}

fn heartbeat(client_id: &str, group: &str, subscriptions: &BTreeMap<String, Subscription>) -> HeartbeatData {
    let data = |(topic, subscription): (&String, &Subscription)| SubscriptionData {
        topic: topic.clone(),
        sub_string: subscription.expression.clone(),
        sub_version: subscription.version,
        tags_set: subscription.filter.tags().to_vec(),
        code_set: subscription.filter.codes().to_vec(),
        ..SubscriptionData::default()
    };
    HeartbeatData {
        client_id: client_id.to_owned(),
        consumer_data_set: vec![ConsumerData {
            consume_from_where: ConsumeFromWhere::LastOffset,
            consume_type: ConsumeType::Actively,
            group_name: group.to_owned(),
            message_model: MessageModel::Clustering,
            subscription_data_set: subscriptions.iter().map(data).collect(),
            unit_mode: false,
        }],
        ..HeartbeatData::default()
    }
}
