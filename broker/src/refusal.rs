//! The polite no: a response code and its remark. A refusal is the client's problem and travels to it unchanged; it is
//! not a fault of the broker (those are the engine's errors). The texts are RocketMQ's own where operators search
//! for them or clients show them, because scripts and alert rules written for RocketMQ match on them.

use ringmq_engine::AppendError;
use ringmq_protocol::code::{ResponseCode, version};
use std::fmt::Display;
use std::time::Duration;

/// The pointer that RocketMQ appends to the remarks that users meet first.
const FURTHER_DETAILS: &str = "\nSee https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.";

/// Why a pull is forbidden, for the `forbiddenType` field that 5.x clients read beside NO_PERMISSION.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// The broker's own permission.
    Broker = 1,
    /// The subscription group is switched off.
    Group = 2,
    /// The topic's permission.
    Topic = 3,
    /// The group may not broadcast.
    Broadcasting = 4,
    /// The group may not read this topic.
    Subscription = 5,
}

/// A request that is answered with something other than SUCCESS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {remark}")]
pub struct Refusal {
    /// The response code that the client acts on.
    pub code: ResponseCode,
    /// The text that the client logs or throws.
    pub remark: String,
    /// Set on a forbidden pull only.
    pub forbidden: Option<Forbidden>,
}

impl Refusal {
    /// A refusal with any code; the constructors below are preferred because they keep one text per reason.
    pub fn new(code: ResponseCode, remark: impl Into<String>) -> Self {
        Self { code, remark: remark.into(), forbidden: None }
    }

    fn forbidden(kind: Forbidden, remark: String) -> Self {
        Self { code: ResponseCode::NO_PERMISSION, remark, forbidden: Some(kind) }
    }

    /// A request that cannot be understood or asks for a value out of range.
    pub fn invalid(remark: impl Into<String>) -> Self {
        Self::new(ResponseCode::INVALID_PARAMETER, remark)
    }

    /// A request that was understood and cannot be carried out.
    pub fn failed(remark: impl Into<String>) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, remark)
    }

    /// The broker starts.
    pub fn not_ready() -> Self {
        Self::failed("the broker is not ready")
    }

    /// A bound of the broker is reached.
    pub fn too_many(what: &str, max: usize) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, format!("too many {what}, the broker takes at most {max}"))
    }

    /// A long answer, or a pull, of a peer that has not taken its earlier answers.
    pub fn not_taken() -> Self {
        let remark = "the broker holds too many answers that clients do not read; ask again later";
        Self::new(ResponseCode::FLOW_CONTROL, remark)
    }

    /// A code that this broker does not serve.
    pub fn unsupported(code: impl Display) -> Self {
        Self::new(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, format!(" request type {code} not supported"))
    }

    /// A change of configuration from an address that may not make one.
    pub fn not_an_administrator(code: impl Display) -> Self {
        Self::new(
            ResponseCode::NO_PERMISSION,
            format!("request {code} changes the broker and is accepted from the loopback address only"),
        )
    }
}

/// Messages.
impl Refusal {
    /// A message that no broker may store.
    pub fn illegal(remark: impl Into<String>) -> Self {
        Self::new(ResponseCode::MESSAGE_ILLEGAL, remark)
    }

    /// The remark that RocketMQ has for every message it does not store, and the reason, which it does not tell.
    pub fn message_illegal(body_max: usize, why: impl Display) -> Self {
        Self::illegal(format!(
            "the message is illegal, maybe msg body or properties length not matched. msg body length limit {body_max}B, \
             msg properties length limit 32KB. {why}"
        ))
    }

    /// A recall of a message that is due already.
    pub fn recall_too_late() -> Self {
        Self::new(ResponseCode::ILLEGAL_OPERATION, "recall failed, timestamp invalid")
    }

    /// A batch to the retry topic of a group.
    pub fn batch_to_retry(topic: &str) -> Self {
        Self::illegal(format!("batch request does not support retry group {topic}"))
    }

    /// What waited for its log, or for others that do, as long as it may. Nothing of it is stored.
    pub fn overdue(waited: Duration) -> Self {
        let ms = waited.as_millis();
        let remark = format!(
            "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: {ms}ms, the disk does not keep up"
        );
        Self::new(ResponseCode::SYSTEM_BUSY, remark)
    }

    /// So many wait for a log, or for what else takes its time, that there is no room for one more.
    pub fn no_room_to_wait(waiting: usize) -> Self {
        let remark = format!(
            "[OVERLOAD]system busy, start flow control for a while, size of queue: {waiting}, the disk does not keep up"
        );
        Self::new(ResponseCode::SYSTEM_BUSY, remark)
    }

    /// Whether the same request may do later.
    pub fn is_busy(&self) -> bool {
        self.code == ResponseCode::SYSTEM_BUSY
    }

    /// A message that the engine did not take.
    pub fn append(error: &AppendError) -> Self {
        match error {
            AppendError::TooLarge { .. } | AppendError::Record(_) | AppendError::Empty => Self::illegal(format!(
                "the message is illegal, maybe msg body or properties length not matched: {error}"
            )),
            AppendError::Busy { unwritten } => Self::new(
                ResponseCode::SYSTEM_BUSY,
                format!(
                    "[PCBUSY_CLEAN_QUEUE]broker busy, start flow control for a while, {unwritten} bytes wait for the disk"
                ),
            ),
            AppendError::DiskFull { used_percent } => {
                // The log, its queues and its indexes are in one place.
                let share = f64::from(*used_percent) / 100.0;
                Self::new(
                    ResponseCode::SERVICE_NOT_AVAILABLE,
                    format!(
                        "service not available now. It may be caused by one of the following reasons: the broker's disk is full \
                         [CL: {share:5.2} CQ: {share:5.2} INDEX: {share:5.2}], messages are put to the slave, message store has been shut down, etc.",
                    ),
                )
            }
            AppendError::Closed | AppendError::Poisoned(_) | AppendError::Memory(_) => Self::new(
                ResponseCode::SERVICE_NOT_AVAILABLE,
                format!("service not available now, message store has been shut down: {error}"),
            ),
        }
    }
}

/// Topics.
impl Refusal {
    /// A send or pull for a topic that does not exist and cannot be created on the way.
    pub fn topic_missing(topic: &str) -> Self {
        Self::new(
            ResponseCode::TOPIC_NOT_EXIST,
            format!("topic[{topic}] not exist, apply first please!{FURTHER_DETAILS}"),
        )
    }

    /// GET_TOPIC_CONFIG of an unknown topic.
    pub fn topic_config_missing(topic: &str) -> Self {
        Self::new(ResponseCode::TOPIC_NOT_EXIST, format!("No topic in this broker. topic: {topic}"))
    }

    /// Statistics of an unknown topic.
    pub fn topic_unknown(topic: &str) -> Self {
        Self::new(ResponseCode::TOPIC_NOT_EXIST, format!("topic[{topic}] not exist"))
    }

    /// An administrator may not create, change or delete a system topic.
    pub fn system_topic(topic: &str) -> Self {
        Self::invalid(format!("The topic[{topic}] is conflict with system topic."))
    }

    /// A name that is empty or blank.
    pub fn topic_blank() -> Self {
        Self::invalid("The specified topic is blank.")
    }

    /// A client may not send to this system topic.
    pub fn sending_forbidden(topic: &str) -> Self {
        Self::new(ResponseCode::NO_PERMISSION, format!("Sending message to topic[{topic}] is forbidden."))
    }

    /// The broker has no write permission.
    pub fn broker_not_writable(broker_ip: &str) -> Self {
        Self::new(ResponseCode::NO_PERMISSION, format!("the broker[{broker_ip}] sending message is forbidden"))
    }

    /// The broker has no read permission.
    pub fn broker_not_readable(broker_ip: &str) -> Self {
        Self::forbidden(Forbidden::Broker, format!("the broker[{broker_ip}] pulling message is forbidden"))
    }

    /// The topic has no write permission.
    pub fn topic_not_writable(topic: &str) -> Self {
        Self::new(ResponseCode::NO_PERMISSION, format!("the topic[{topic}] sending message is forbidden"))
    }

    /// The topic has no read permission.
    pub fn topic_not_readable(topic: &str) -> Self {
        Self::forbidden(Forbidden::Topic, format!("the topic[{topic}] pulling message is forbidden"))
    }

    /// A send names a queue that the topic does not have.
    pub fn send_queue(queue_id: i32, topic: impl Display, producer: impl Display) -> Self {
        Self::invalid(format!("request queueId[{queue_id}] is illegal, {topic} Producer: {producer}"))
    }

    /// A pull names a queue that cannot be read.
    pub fn pull_queue(queue_id: i32, topic: &str, read_queues: i32, consumer: impl Display) -> Self {
        Self::invalid(format!(
            "queueId[{queue_id}] is illegal, topic:[{topic}] topicConfig.readQueueNums:[{read_queues}] consumer:[{consumer}]"
        ))
    }
}

/// Groups, subscriptions and members.
impl Refusal {
    /// A pull for a group that does not exist and is not created automatically.
    pub fn group_missing(group: &str) -> Self {
        Self::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group [{group}] does not exist, {FURTHER_DETAILS}"),
        )
    }

    /// A send-back for a group that does not exist and is not created automatically.
    pub fn group_missing_for_send_back(group: &str) -> Self {
        Self::new(
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            format!("subscription group not exist, {group} {FURTHER_DETAILS}"),
        )
    }

    /// GET_SUBSCRIPTIONGROUP_CONFIG of an unknown group.
    pub fn group_config_missing() -> Self {
        Self::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, "No group in this broker")
    }

    /// The group is switched off.
    pub fn group_forbidden(group: &str) -> Self {
        Self::forbidden(Forbidden::Group, format!("subscription group no permission, {group}"))
    }

    /// The group broadcasts and may not.
    pub fn broadcasting_forbidden(group: &str) -> Self {
        Self::forbidden(
            Forbidden::Broadcasting,
            format!("the consumer group[{group}] can not consume by broadcast way"),
        )
    }

    /// The group may not read this topic.
    pub fn subscription_forbidden(group: &str, topic: &str) -> Self {
        Self::forbidden(Forbidden::Subscription, format!("the consumer group[{group}] is forbidden for topic[{topic}]"))
    }

    /// A pull without subscription from a group of which no heartbeat is known.
    pub fn group_info_missing() -> Self {
        Self::new(ResponseCode::SUBSCRIPTION_NOT_EXIST, format!("the consumer's group info not exist{FURTHER_DETAILS}"))
    }

    /// A pull without subscription of a topic to which the group has not subscribed.
    pub fn subscription_missing() -> Self {
        Self::new(
            ResponseCode::SUBSCRIPTION_NOT_EXIST,
            format!("the consumer's subscription not exist{FURTHER_DETAILS}"),
        )
    }

    /// The expression that the pull relies on is newer than the one the broker has.
    pub fn subscription_not_latest() -> Self {
        Self::new(ResponseCode::SUBSCRIPTION_NOT_LATEST, "the consumer's subscription not latest")
    }

    /// A subscription expression that does not compile.
    pub fn subscription_unparsable() -> Self {
        Self::new(ResponseCode::SUBSCRIPTION_PARSE_FAILED, "parse the consumer's subscription failed")
    }

    /// The SQL92 expression of a subscription that a heartbeat announced does not compile.
    pub fn filter_data_missing() -> Self {
        Self::new(
            ResponseCode::FILTER_DATA_NOT_EXIST,
            "The broker's consumer filter data is not exist!Your expression may be wrong!",
        )
    }

    /// An expression that a consumer has checked before it starts. RocketMQ's remark is a message of its parser.
    pub fn expression_invalid(why: impl std::fmt::Display) -> Self {
        Self::new(
            ResponseCode::SUBSCRIPTION_PARSE_FAILED,
            format!("the consumer's expression is not understood: {why}"),
        )
    }

    /// An expression type that this broker does not filter by.
    pub fn filter_unsupported(expression_type: &str) -> Self {
        Self::new(
            ResponseCode::SYSTEM_ERROR,
            format!("The broker does not support consumer to filter message by {expression_type}"),
        )
    }

    /// The consumer id list of a group without members.
    pub fn no_consumer(group: &str) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, format!("no consumer for this group, {group}"))
    }

    /// The consumer connections of a group without members. Tools tell "offline" from "broken" by this code.
    pub fn consumer_offline(group: &str) -> Self {
        Self::new(ResponseCode::CONSUMER_NOT_ONLINE, format!("the consumer group[{group}] not online"))
    }

    /// A client that does not know what an operator asks of it.
    pub fn client_too_old(version: i32) -> Self {
        Self::failed(format!("the client does not support this feature. version={}", version::describe(version)))
    }

    /// The producer connections of a group without members.
    pub fn no_producer(group: &str) -> Self {
        Self::new(ResponseCode::SYSTEM_ERROR, format!("the producer group[{group}] not exist"))
    }
}

/// Consumer offsets.
impl Refusal {
    /// An offset for a group that does not exist.
    pub fn offset_group_missing(group: &str) -> Self {
        Self::new(ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST, format!("Group {group} not exist!"))
    }

    /// An offset for a topic that does not exist.
    pub fn offset_topic_missing(topic: &str) -> Self {
        Self::new(ResponseCode::TOPIC_NOT_EXIST, format!("Topic {topic} not exist!"))
    }

    /// A commit whose offset is absent or no number.
    pub fn offset_missing(topic: &str) -> Self {
        Self::invalid(format!("Offset is null, topic is {topic}"))
    }

    /// The progress of a reader of the broker's own, which a request is to move.
    pub fn offset_of_own(group: &str, topic: &str) -> Self {
        Self::new(
            ResponseCode::NO_PERMISSION,
            format!(
                "the offset of group[{group}] in topic[{topic}] is the broker's own progress, which no request moves"
            ),
        )
    }

    /// No offset is stored and the client said that it does not want zero.
    pub fn offset_not_found_no_zero() -> Self {
        Self::new(ResponseCode::QUERY_NOT_FOUND, "Not found, do not set to zero, maybe this group boot first")
    }

    /// No offset is stored and the queue no longer has its first message, so the client's own policy decides.
    pub fn offset_not_found() -> Self {
        Self::new(ResponseCode::QUERY_NOT_FOUND, "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first")
    }
}
