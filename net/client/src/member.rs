//! A member of a consumer group: what it asks of brokers. Which queues it reads, and what it does with the messages, is
//! the business of the pull and the push consumer.

mod group;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringmq_protocol::body::{
    CheckClientConfig, ConsumeFromWhere, ConsumeType, ConsumerData, HeartbeatData, LockBatchRequest, LockBatchResponse,
    MessageModel, MessageQueue,
};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::filter::{SUB_ALL, TAG};
use ringmq_protocol::header::{ConsumerSendMsgBack, PullRequest, QueryConsumerOffset, SearchOffset};
use ringmq_protocol::names::{self, GROUP_NAME_MAX_V4};
use ringmq_protocol::properties::pull_flag;

use crate::conn::{Received, Request};
use crate::driver::blocking::{Call, OnAnswer, OnAsked, Options, lock, refused};
use crate::error::{Ability, BadReply, Error, Result};
use crate::filter::Subscription;
use crate::heartbeat::Whom;
use crate::message::{ReceivedMessage, decode_records};
use crate::pull::{Pull, PullOutcome, PullStatus};
use crate::route::{NameServers, Route};
use crate::session::Session;

/// What a broker has above the time that it may hold a pull, before the pull counts as lost.
const HOLD_GRACE: Duration = Duration::from_secs(10);

/// By topic.
pub(crate) type Subscriptions = Arc<Mutex<BTreeMap<String, Subscription>>>;

/// How the group consumes, as heartbeats tell brokers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) kind: ConsumeType,
    pub(crate) model: MessageModel,
    pub(crate) from: ConsumeFromWhere,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) session: Arc<Session>,
    pub(crate) group: String,
    pub(crate) subscriptions: Subscriptions,
    timeout: Duration,
}

impl Member {
    pub(crate) fn join(
        group: &str,
        names: NameServers,
        connection: &Options,
        timeout: Duration,
        manner: Manner,
        on_asked: Box<OnAsked>,
    ) -> Result<Member> {
        names::check_group(group, GROUP_NAME_MAX_V4)?;
        let subscriptions = Subscriptions::default();
        let (subscribed, name) = (Arc::clone(&subscriptions), group.to_owned());
        let content = move |client_id: String| -> Box<crate::heartbeat::Content> {
            Box::new(move || heartbeat(&client_id, &name, manner, &lock(&subscribed)))
        };
        let session = Arc::new(Session::open(names, connection, timeout, content, on_asked)?);
        Ok(Member { session, group: group.to_owned(), subscriptions, timeout })
    }

    /// Leaves the group.
    pub(crate) fn leave(&self) {
        self.session.leave(None, Some(&self.group));
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.session.identity.client_id
    }

    /// Takes part in a topic, and tells the brokers that serve it. They refuse an SQL expression that they cannot read.
    pub(crate) fn subscribe(&self, topic: &str, subscription: Subscription) -> Result<()> {
        names::check_topic(topic)?;
        let route = self.route(topic)?;
        self.check_subscription(&route, &subscription)?;
        lock(&self.subscriptions).insert(topic.to_owned(), subscription);
        let heart = &self.session.heart;
        heart.follow(topic, Whom::All);
        heart.beat_soon();
        heart.tell(route.addrs())
    }

    /// Whether the masters of the route can read the SQL expression, if it is one. Those that cannot be reached are
    /// passed over, unless none can.
    pub(crate) fn check_subscription(&self, route: &Route, subscription: &Subscription) -> Result<()> {
        if !subscription.is_sql() {
            return Ok(());
        }
        let mut outcome = Ok(());
        let mut is_checked = false;
        for (_, addr) in route.masters() {
            match self.check_subscription_at(addr, &route.topic, subscription) {
                Ok(()) => is_checked = true,
                Err(error) if error.is_unreachable() => {
                    tracing::warn!(%error, "a broker cannot be asked whether it can read a subscription");
                    outcome = Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        if is_checked { Ok(()) } else { outcome }
    }

    fn check_subscription_at(&self, addr: &str, topic: &str, subscription: &Subscription) -> Result<()> {
        let check = CheckClientConfig {
            client_id: self.client_id().to_owned(),
            group: self.group.clone(),
            namespace: None,
            subscription_data: subscription.data(topic),
        };
        let request = Request::new(RequestCode::CHECK_CLIENT_CONFIG).with_body(check.to_vec());
        self.session.remoting.call(addr, &request, self.timeout).map(|_| ())
    }

    /// The queues of a topic that can be read.
    pub(crate) fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>> {
        Ok(self.route(topic)?.read_queues())
    }

    /// Pulls from one queue. Without a subscription to the topic everything matches.
    pub(crate) fn pull(&self, pull: &Pull) -> Result<PullOutcome> {
        let addr = self.reader(pull)?;
        let received = self.session.remoting.ask(&addr, &self.pull_request(pull), self.pull_timeout(pull))?;
        self.outcome(pull, &addr, &received)
    }

    /// Starts a pull; [`take_answer`](Self::take_answer) reads the answer.
    pub(crate) fn start_pull(&self, pull: &Pull, on_answer: OnAnswer) -> Result<Call> {
        let addr = self.reader(pull)?;
        self.session.remoting.ask_then(&addr, &self.pull_request(pull), self.pull_timeout(pull), on_answer)
    }

    /// Reads the answer that came from that address.
    pub(crate) fn take_answer(&self, pull: &Pull, addr: &str, received: &Received) -> Result<PullOutcome> {
        self.outcome(pull, addr, received)
    }

    pub(crate) fn pull_timeout(&self, pull: &Pull) -> Duration {
        pull.hold.map_or(self.timeout, |hold| hold + HOLD_GRACE)
    }

    /// The topic's route may have changed.
    pub(crate) fn doubt_route(&self, topic: &str) {
        self.session.routes.doubt(topic);
    }

    fn pull_request(&self, pull: &Pull) -> Request {
        let subscription = lock(&self.subscriptions).get(&pull.queue.topic).cloned();
        let (expression, version, kind) = subscription
            .map_or_else(|| (SUB_ALL.to_owned(), 0, TAG), |sub| (sub.expression, sub.version, sub.expression_type));
        let commit = pull.commit.filter(|_| pull.broker_id == 0).map_or(0, |_| pull_flag::COMMIT_OFFSET);
        let hold = pull.hold.map_or(0, |_| pull_flag::SUSPEND);
        let header = PullRequest {
            consumer_group: self.group.clone(),
            topic: pull.queue.topic.clone(),
            queue_id: pull.queue.queue_id,
            queue_offset: pull.offset,
            max_msg_nums: pull.messages_max,
            sys_flag: pull_flag::SUBSCRIPTION | commit | hold,
            commit_offset: pull.commit.unwrap_or(0),
            suspend_timeout_millis: pull.hold.map_or(0, |hold| i64::try_from(hold.as_millis()).unwrap_or(i64::MAX)),
            subscription: Some(expression),
            sub_version: version,
            expression_type: Some(kind.to_owned()),
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
            if let Some(subscription) = lock(&self.subscriptions).get(&pull.queue.topic) {
                messages.retain(|message| subscription.matches_tag(message.tag()));
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

    /// How far the group has got; `None` when it has no offset there. With `zero_if_young` a queue whose first message is
    /// still there counts as read from its beginning, which is the broker's rule for consumers that do not say otherwise.
    pub(crate) fn offset(&self, queue: &MessageQueue, zero_if_young: bool) -> Result<Option<i64>> {
        let header = QueryConsumerOffset {
            consumer_group: self.group.clone(),
            topic: queue.topic.clone(),
            queue_id: queue.queue_id,
            set_zero_if_not_found: (!zero_if_young).then_some(false),
        };
        let code = RequestCode::QUERY_CONSUMER_OFFSET;
        let addr = self.master(queue)?;
        let received = self.session.remoting.ask(&addr, &Request::new(code).with_ext(header.to_ext()), self.timeout)?;
        match ResponseCode(received.command.code) {
            ResponseCode::QUERY_NOT_FOUND => Ok(None),
            ResponseCode::SUCCESS => crate::admin::number(&addr, code, &received, "offset").map(Some),
            other => Err(refused(&addr, code, other, &received)),
        }
    }

    /// Sets how far the group has got: the next message to be consumed.
    pub(crate) fn update_offset(&self, queue: &MessageQueue, offset: i64) -> Result<()> {
        let request = self.offset_update(queue, offset);
        self.session.remoting.call(&self.master(queue)?, &request, self.timeout).map(|_| ())
    }

    /// The next queue offset to be written.
    pub(crate) fn max_offset(&self, queue: &MessageQueue) -> Result<i64> {
        crate::admin::queue_offset(&self.session.remoting, &self.master(queue)?, queue, true, self.timeout)
    }

    /// The first queue offset that there still is.
    pub(crate) fn min_offset(&self, queue: &MessageQueue) -> Result<i64> {
        crate::admin::queue_offset(&self.session.remoting, &self.master(queue)?, queue, false, self.timeout)
    }

    pub(crate) fn route(&self, topic: &str) -> Result<Arc<Route>> {
        let none = || Error::NoBroker { topic: topic.to_owned(), can: Ability::Read };
        self.session.routes.get(topic)?.ok_or_else(none)
    }

    fn reader(&self, pull: &Pull) -> Result<String> {
        let queue = &pull.queue;
        let none = || self.no_broker(queue, Ability::Read);
        self.route(&queue.topic)?.reader(&queue.broker_name, pull.broker_id).map(str::to_owned).ok_or_else(none)
    }

    pub(crate) fn master(&self, queue: &MessageQueue) -> Result<String> {
        let none = || self.no_broker(queue, Ability::Master);
        self.route(&queue.topic)?.master(&queue.broker_name).map(str::to_owned).ok_or_else(none)
    }

    /// The route has lost the queue's broker, perhaps only until that registers again.
    fn no_broker(&self, queue: &MessageQueue, can: Ability) -> Error {
        self.doubt_route(&queue.topic);
        Error::NoBroker { topic: queue.topic.clone(), can }
    }

    /// The first queue offset that was stored at that time (ms) or later.
    pub(crate) fn offset_at(&self, queue: &MessageQueue, timestamp: i64) -> Result<i64> {
        let code = RequestCode::SEARCH_OFFSET_BY_TIMESTAMP;
        let header =
            SearchOffset { topic: queue.topic.clone(), queue_id: queue.queue_id, timestamp, boundary_type: None };
        let addr = self.master(queue)?;
        let received =
            self.session.remoting.call(&addr, &Request::new(code).with_ext(header.to_ext()), self.timeout)?;
        crate::admin::number(&addr, code, &received, "offset")
    }

    /// Asks the broker to give the message to the group again later; delay level 0 leaves to it when.
    pub(crate) fn send_back(
        &self,
        message: &ReceivedMessage,
        queue: &MessageQueue,
        delay_level: i32,
        max_reconsume_times: Option<i32>,
    ) -> Result<()> {
        let header = ConsumerSendMsgBack {
            offset: message.position,
            group: self.group.clone(),
            delay_level,
            origin_msg_id: Some(message.msg_id()),
            origin_topic: Some(message.topic.clone()),
            unit_mode: false,
            max_reconsume_times,
        };
        let request = Request::new(RequestCode::CONSUMER_SEND_MSG_BACK).with_ext(header.to_ext());
        self.session.remoting.call(&self.master(queue)?, &request, self.timeout).map(|_| ())
    }

    /// Locks queues of one broker for this member, or refreshes the locks; those that it has now.
    pub(crate) fn lock_queues(&self, queues: &[MessageQueue]) -> Result<Vec<MessageQueue>> {
        let Some((addr, request)) = self.lock_request(RequestCode::LOCK_BATCH_MQ, queues)? else {
            return Ok(Vec::new());
        };
        let received = self.session.remoting.call(&addr, &request, self.timeout)?;
        let locked = LockBatchResponse::parse(&received.body);
        let locked = locked.map_err(|e| Error::Reply { addr, request: request.code, what: e.into() })?;
        Ok(locked.lock_ok_mq_set)
    }

    /// Gives locks back that this member has.
    pub(crate) fn unlock_queues(&self, queues: &[MessageQueue]) -> Result<()> {
        match self.lock_request(RequestCode::UNLOCK_BATCH_MQ, queues)? {
            Some((addr, request)) => self.session.remoting.call(&addr, &request, self.timeout).map(|_| ()),
            None => Ok(()),
        }
    }

    fn lock_request(&self, code: RequestCode, queues: &[MessageQueue]) -> Result<Option<(String, Request)>> {
        let Some(first) = queues.first() else { return Ok(None) };
        let body = LockBatchRequest {
            client_id: self.client_id().to_owned(),
            consumer_group: self.group.clone(),
            mq_set: queues.to_vec(),
            only_this_broker: false,
        };
        Ok(Some((self.master(first)?, Request::new(code).with_body(body.to_vec()))))
    }
}

fn heartbeat(
    client_id: &str,
    group: &str,
    manner: Manner,
    subscriptions: &BTreeMap<String, Subscription>,
) -> HeartbeatData {
    HeartbeatData {
        client_id: client_id.to_owned(),
        consumer_data_set: vec![ConsumerData {
            consume_from_where: manner.from,
            consume_type: manner.kind,
            group_name: group.to_owned(),
            message_model: manner.model,
            subscription_data_set: subscriptions.iter().map(|(topic, one)| one.data(topic)).collect(),
            unit_mode: false,
        }],
        ..HeartbeatData::default()
    }
}
