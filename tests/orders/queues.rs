//! What the broker still holds for the services.

use super::support::wire::{self, Connection, records};

pub(crate) const QUEUES: u32 = 4;

/// Who consumes what (`Groups.java`, `Topics.java`).
const SUBSCRIPTIONS: [(&str, &str); 8] = [
    ("order_group", "payment_result"),
    ("points_group", "payment_result"),
    ("payment_log_group", "payment_result"),
    ("notice_group", "order_created"),
    ("payment_group", "order_unpaid"),
    ("stock_group", "order_cancel"),
    ("coupon_group", "order_cancel"),
    ("balance_group", "order_cancel"),
];

pub(crate) const TOPICS: [&str; 4] = ["order_created", "order_unpaid", "order_cancel", "payment_result"];

const TOPIC_NOT_EXIST: i32 = 17;
const QUERY_NOT_FOUND: i32 = 22;

/// The end of a queue; a topic that nobody needed yet has an empty one.
fn end(connection: &mut Connection, topic: &str, queue: u32) -> i64 {
    let ext = [("topic", topic.to_owned()), ("queueId", queue.to_string())];
    let reply = connection.call(wire::GET_MAX_OFFSET, &ext, &[]).unwrap();
    match reply.header.code {
        0 => reply.header.number("offset"),
        TOPIC_NOT_EXIST => 0,
        code => panic!("the end of {topic}: {code} {:?}", reply.header.remark),
    }
}

/// Where a group goes on in a queue.
fn consumed(connection: &mut Connection, group: &str, topic: &str, queue: u32) -> i64 {
    let ext = [("consumerGroup", group.to_owned()), ("topic", topic.to_owned()), ("queueId", queue.to_string())];
    let reply = connection.call(wire::QUERY_CONSUMER_OFFSET, &ext, &[]).unwrap();
    match reply.header.code {
        0 => reply.header.number("offset"),
        QUERY_NOT_FOUND => 0,
        code => panic!("the offset of {group} in {topic}: {code} {:?}", reply.header.remark),
    }
}

/// Says where a message waits for its consumer, its retries included; or that one is still to come, when fewer than
/// `orders` times to pay have ended.
pub(crate) fn unconsumed(connection: &mut Connection, orders: usize) -> Option<String> {
    let unpaid: i64 = (0..QUEUES).map(|queue| end(connection, "order_unpaid", queue)).sum();
    if unpaid < i64::try_from(orders).unwrap() {
        return Some(format!("{unpaid} of {orders} times to pay have ended"));
    }
    let mut waiting = Vec::new();
    for (group, topic) in SUBSCRIPTIONS {
        let retry = format!("%RETRY%{group}");
        for (topic, queues) in [(topic, QUEUES), (&retry, 1)] {
            let left: Vec<_> = (0..queues)
                .map(|queue| end(connection, topic, queue) - consumed(connection, group, topic, queue))
                .collect();
            if left.iter().any(|left| *left != 0) {
                waiting.push(format!("{group} has {left:?} messages left in the queues of {topic}"));
            }
        }
    }
    (!waiting.is_empty()).then(|| waiting.join(", "))
}

/// How many dead letters a group has.
pub(crate) fn dead_letters(connection: &mut Connection, group: &str) -> i64 {
    end(connection, &dead_letter_topic(group), 0)
}

/// The groups that have dead letters.
pub(crate) fn with_dead_letters(connection: &mut Connection) -> Vec<&'static str> {
    let groups = SUBSCRIPTIONS.map(|(group, _)| group);
    groups.into_iter().filter(|group| dead_letters(connection, group) > 0).collect()
}

pub(crate) fn dead_letter_topic(group: &str) -> String {
    format!("%DLQ%{group}")
}

/// The keys of the dead letters of `group`, whose topic must be readable.
pub(crate) fn dead_letter_keys(connection: &mut Connection, group: &str) -> Vec<String> {
    let topic = dead_letter_topic(group);
    let mut keys = Vec::new();
    let mut next = 0;
    let end = end(connection, &topic, 0);
    while next < end {
        let reply = connection.call(wire::PULL_MESSAGE, &wire::pull(&topic, 0, next, 32, 0), &[]).unwrap();
        assert_eq!(reply.header.code, 0, "{topic} at {next}: {:?}", reply.header.remark);
        for record in records(&reply.body) {
            let properties = record.properties.split('\u{2}').filter_map(|one| one.split_once('\u{1}'));
            keys.extend(properties.filter(|(name, _)| *name == "KEYS").map(|(_, key)| key.to_owned()));
        }
        next = reply.header.number("nextBeginOffset");
    }
    keys
}
