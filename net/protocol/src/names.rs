//! The rules for topic and group names, the names that RocketMQ keeps for itself, and the prefixes it gives meaning to.
//!
//! The texts of errors are RocketMQ's remarks, because clients and scripts match on them. Which code an error becomes
//! (29 in 5.x, 1 in 4.9) is the broker's business.

use thiserror::Error;

/// The longest ordinary topic.
pub const TOPIC_NAME_MAX: usize = 127;
/// The longest retry or dead-letter topic.
pub const RETRY_TOPIC_NAME_MAX: usize = 255;
/// The longest group in 5.x.
pub const GROUP_NAME_MAX: usize = 120;
/// The longest group in 4.9, and the longest a broker should take.
pub const GROUP_NAME_MAX_V4: usize = 255;

pub const RETRY_PREFIX: &str = "%RETRY%";
pub const DLQ_PREFIX: &str = "%DLQ%";
pub const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";
pub const REPLY_TOPIC_POSTFIX: &str = "REPLY_TOPIC";

/// The topic that lends its settings to topics that are created by sending to them.
pub const AUTO_CREATE_TOPIC_KEY: &str = "TBW102";
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";
pub const TRANS_HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub const TRANS_OP_HALF_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub const TRANS_CHECK_MAX_TIME_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
pub const OFFSET_MOVED_EVENT: &str = "OFFSET_MOVED_EVENT";
pub const CHECKPOINT_TOPIC: &str = "CHECKPOINT_TOPIC";
pub const TIMER_TOPIC: &str = "rmq_sys_wheel_timer";
/// The name server's KV namespace of order configurations.
pub const ORDER_TOPIC_CONFIG: &str = "ORDER_TOPIC_CONFIG";

/// Topics of the system besides those with [`SYSTEM_TOPIC_PREFIX`].
pub const SYSTEM_TOPICS: &[&str] = &[
    AUTO_CREATE_TOPIC_KEY,
    SCHEDULE_TOPIC,
    BENCHMARK_TOPIC,
    TRANS_HALF_TOPIC,
    TRACE_TOPIC,
    TRANS_OP_HALF_TOPIC,
    TRANS_CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_EVENT,
    CHECKPOINT_TOPIC,
];

/// Topics that only the broker itself writes to.
pub const SEND_FORBIDDEN_TOPICS: &[&str] = &[
    SCHEDULE_TOPIC,
    TRANS_HALF_TOPIC,
    TRANS_OP_HALF_TOPIC,
    TRANS_CHECK_MAX_TIME_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_EVENT,
    TIMER_TOPIC,
];

/// Groups of the system besides those with [`SYSTEM_GROUP_PREFIX`].
pub const SYSTEM_GROUPS: &[&str] = &[
    "DEFAULT_CONSUMER",
    "DEFAULT_PRODUCER",
    "TOOLS_CONSUMER",
    "SCHEDULE_CONSUMER",
    "FILTERSRV_CONSUMER",
    "__MONITOR_CONSUMER",
    "CLIENT_INNER_PRODUCER",
    "SELF_TEST_P_GROUP",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_ONSAPI_PULL",
    "CID_RMQ_SYS_TRANS",
];

/// Groups that a broker has from its first start, and whether they may consume as broadcast.
pub const PRE_CREATED_GROUPS: &[(&str, bool)] = &[
    ("TOOLS_CONSUMER", false),
    ("FILTERSRV_CONSUMER", false),
    ("SELF_TEST_C_GROUP", false),
    ("CID_ONS-HTTP-PROXY", true),
    ("CID_ONSAPI_PULL", true),
    ("CID_ONSAPI_PERMISSION", true),
    ("CID_ONSAPI_OWNER", true),
    ("CID_RMQ_SYS_TRANS", false),
];

/// What is wrong with a name. The text is the remark of RocketMQ's answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("The specified topic is blank.")]
    TopicBlank,
    #[error("The specified topic contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")]
    TopicCharacters,
    #[error("The specified topic is longer than topic max length.")]
    TopicTooLong,
    #[error("The topic[{0}] is conflict with system topic.")]
    SystemTopic(String),
    #[error("Sending message to topic[{0}] is forbidden.")]
    SendForbidden(String),
    #[error("The specified group is blank.")]
    GroupBlank,
    #[error("The specified group contains illegal characters, allowing only ^[%|a-zA-Z0-9_-]+$")]
    GroupCharacters,
    #[error("The specified group is longer than group max length.")]
    GroupTooLong,
}

/// Checks the name of a topic that is sent to or created.
pub fn check_topic(topic: &str) -> Result<(), NameError> {
    if topic.trim().is_empty() {
        return Err(NameError::TopicBlank);
    }
    if !has_legal_characters(topic) {
        return Err(NameError::TopicCharacters);
    }
    let max = if is_retry(topic) || is_dlq(topic) { RETRY_TOPIC_NAME_MAX } else { TOPIC_NAME_MAX };
    if topic.len() > max {
        return Err(NameError::TopicTooLong);
    }
    Ok(())
}

/// Checks that a topic that an administrator creates or deletes is not the system's.
pub fn check_not_system_topic(topic: &str) -> Result<(), NameError> {
    if is_system_topic(topic) { Err(NameError::SystemTopic(topic.to_owned())) } else { Ok(()) }
}

/// Checks that clients may send to the topic.
pub fn check_send_allowed(topic: &str) -> Result<(), NameError> {
    if SEND_FORBIDDEN_TOPICS.contains(&topic) { Err(NameError::SendForbidden(topic.to_owned())) } else { Ok(()) }
}

/// Checks the name of a group; `max` is [`GROUP_NAME_MAX`] or [`GROUP_NAME_MAX_V4`].
pub fn check_group(group: &str, max: usize) -> Result<(), NameError> {
    if group.trim().is_empty() {
        return Err(NameError::GroupBlank);
    }
    if !has_legal_characters(group) {
        return Err(NameError::GroupCharacters);
    }
    if group.len() > max {
        return Err(NameError::GroupTooLong);
    }
    Ok(())
}

pub fn is_system_topic(topic: &str) -> bool {
    topic.starts_with(SYSTEM_TOPIC_PREFIX) || SYSTEM_TOPICS.contains(&topic)
}

pub fn is_system_group(group: &str) -> bool {
    group.starts_with(SYSTEM_GROUP_PREFIX) || SYSTEM_GROUPS.contains(&group)
}

pub fn is_retry(topic: &str) -> bool {
    topic.starts_with(RETRY_PREFIX)
}

pub fn is_dlq(topic: &str) -> bool {
    topic.starts_with(DLQ_PREFIX)
}

/// `%RETRY%group`
pub fn retry_topic(group: &str) -> String {
    [RETRY_PREFIX, group].concat()
}

/// `%DLQ%group`
pub fn dlq_topic(group: &str) -> String {
    [DLQ_PREFIX, group].concat()
}

/// The group of a retry topic.
pub fn group_of_retry(topic: &str) -> Option<&str> {
    topic.strip_prefix(RETRY_PREFIX)
}

/// `<cluster>_REPLY_TOPIC`
pub fn reply_topic(cluster: &str) -> String {
    [cluster, "_", REPLY_TOPIC_POSTFIX].concat()
}

fn has_legal_characters(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'%' | b'|' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_keep_to_the_rules() {
        assert_eq!(check_topic("%RETRY%a|b_c-D9"), Ok(()));
        assert_eq!(check_topic(" "), Err(NameError::TopicBlank));
        for topic in ["a.b", "a b", "ä", "a/../b", "a\0"] {
            assert_eq!(check_topic(topic), Err(NameError::TopicCharacters), "{topic}");
        }
        assert_eq!(check_topic(&"t".repeat(127)), Ok(()));
        assert_eq!(check_topic(&"t".repeat(128)), Err(NameError::TopicTooLong));
        assert_eq!(check_topic(&retry_topic(&"g".repeat(248))), Ok(()));
        assert_eq!(check_topic(&dlq_topic(&"g".repeat(251))), Err(NameError::TopicTooLong));
    }

    #[test]
    fn groups_keep_to_the_rules() {
        assert_eq!(check_group("CID-1", GROUP_NAME_MAX), Ok(()));
        assert_eq!(check_group("", GROUP_NAME_MAX), Err(NameError::GroupBlank));
        assert_eq!(check_group("a@b", GROUP_NAME_MAX), Err(NameError::GroupCharacters));
        assert_eq!(check_group(&"g".repeat(121), GROUP_NAME_MAX), Err(NameError::GroupTooLong));
        assert_eq!(check_group(&"g".repeat(121), GROUP_NAME_MAX_V4), Ok(()));
    }

    #[test]
    fn the_systems_own_names_are_known() {
        assert!(is_system_topic("rmq_sys_anything") && is_system_topic(SCHEDULE_TOPIC) && !is_system_topic("T"));
        assert_eq!(
            check_send_allowed(SCHEDULE_TOPIC).unwrap_err().to_string(),
            "Sending message to topic[SCHEDULE_TOPIC_XXXX] is forbidden."
        );
        assert_eq!(check_send_allowed(AUTO_CREATE_TOPIC_KEY), Ok(()));
        assert!(check_not_system_topic(AUTO_CREATE_TOPIC_KEY).is_err());
        assert!(is_system_group("CID_RMQ_SYS_X") && !is_system_group("CID"));
        assert_eq!(group_of_retry("%RETRY%g"), Some("g"));
        assert_eq!(reply_topic("DefaultCluster"), "DefaultCluster_REPLY_TOPIC");
    }
}
