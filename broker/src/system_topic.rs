//! The topics that every broker has without being asked: templates for automatic creation, targets of the tools' probes,
//! and the queues behind delayed, transactional and request-reply messages. Here is only what they look like; what they
//! are for is with the features that use them.

use crate::topic::{TopicSettings, plain};
use ringmq_protocol::body::TopicConfig;
use ringmq_protocol::names;
use ringmq_protocol::properties::perm::{INHERIT, READ_WRITE};

/// RocketMQ's number of queues for a topic about which nothing is said.
const UNSAID_QUEUES: i32 = 16;
const BENCHMARK_QUEUES: i32 = 1024;
/// RocketMQ has a queue for each of this many delay levels, whatever is configured.
const SCHEDULE_LEVELS: i32 = 18;

/// The system topics of a broker with these settings.
pub(crate) fn configs(settings: &TopicSettings) -> Vec<TopicConfig> {
    let TopicSettings { cluster_name, broker_name, .. } = settings;
    // What is kept for later is kept on the log shard where it belongs, so each of them has queues of its own.
    let shards = i32::from(settings.shards);
    let levels = settings.delay_levels.max(SCHEDULE_LEVELS);
    let inherit = |enabled: bool| if enabled { INHERIT | READ_WRITE } else { INHERIT };
    let mut topics = vec![
        plain(names::SELF_TEST_TOPIC, 1, READ_WRITE),
        plain(names::BENCHMARK_TOPIC, BENCHMARK_QUEUES, READ_WRITE),
        plain(cluster_name, UNSAID_QUEUES, inherit(settings.cluster_topic)),
        plain(broker_name, 1, inherit(settings.broker_topic)),
        plain(names::OFFSET_MOVED_EVENT, 1, READ_WRITE),
        plain(names::SCHEDULE_TOPIC, levels * shards, READ_WRITE),
        plain(&names::reply_topic(cluster_name), 1, READ_WRITE),
        plain(&revive_topic(cluster_name), settings.revive_queues, READ_WRITE),
        plain(&sync_member_topic(broker_name), 1, INHERIT),
        plain(names::TRANS_HALF_TOPIC, shards, READ_WRITE),
        plain(names::TRANS_OP_HALF_TOPIC, shards, READ_WRITE),
    ];
    if settings.auto_create {
        topics.push(plain(names::AUTO_CREATE_TOPIC_KEY, settings.default_queues, inherit(true)));
    }
    if let Some(trace) = &settings.trace_topic {
        topics.push(plain(trace, 1, READ_WRITE));
    }
    if settings.timer_wheel {
        topics.push(plain(names::TIMER_TOPIC, shards, READ_WRITE));
    }
    topics
}

/// True for the system topics that have queues on each log shard: more of them when the configuration asks for more.
pub(crate) fn is_sharded(topic: &str) -> bool {
    matches!(topic, names::SCHEDULE_TOPIC | names::TRANS_HALF_TOPIC | names::TRANS_OP_HALF_TOPIC | names::TIMER_TOPIC)
}

/// True for the system topics whose names depend on the broker's configuration.
pub(crate) fn is_named_after(topic: &str, settings: &TopicSettings) -> bool {
    topic == settings.cluster_name
        || topic == settings.broker_name
        || settings.trace_topic.as_deref() == Some(topic)
        || topic == names::reply_topic(&settings.cluster_name)
}

fn revive_topic(cluster_name: &str) -> String {
    format!("rmq_sys_REVIVE_LOG_{cluster_name}")
}

fn sync_member_topic(broker_name: &str) -> String {
    format!("rmq_sys_SYNC_BROKER_MEMBER_{broker_name}")
}
