//! The event that tells of a consumer which asked for messages that are not there: a message on the system topic
//! OFFSET_MOVED_EVENT, for tools that watch it. A consumer that goes on asking must not fill the log with events.

use std::rc::Rc;
use std::time::Duration;

use ringmq_engine::QueueOffset;
use ringmq_protocol::body::MessageQueue;
use ringmq_protocol::json::to_vec;
use ringmq_protocol::{names, properties};
use ringmq_rt::{now, spawn, wall_ms};

use crate::mail::PullJob;
use crate::message::Message;
use crate::node::Node;
use crate::put::{self, For};

/// Least time between two events of one executor.
const PERIOD: Duration = Duration::from_millis(100);

/// Tells of a pull that is sent on to the offset `next`, if it is time for an event.
pub fn tell(node: &Rc<Node>, job: &PullJob, next: QueueOffset) {
    let at = now();
    if node.moved_told.get().is_some_and(|last| at.since(last) < PERIOD) {
        return;
    }
    node.moved_told.set(Some(at));
    let Some(topic) = node.topics.borrow().get(names::OFFSET_MOVED_EVENT).cloned() else { return };
    let group = &job.group.config.group_name;
    let queue = MessageQueue {
        topic: job.topic.config.topic_name.clone(),
        broker_name: node.settings.identity.broker_name.clone(),
        queue_id: job.queue_id,
    };
    let host = node.settings.store_host;
    let body = body(group, &queue, job.offset, i64::try_from(next.0).unwrap_or(i64::MAX));
    let mut event = Message::own(names::OFFSET_MOVED_EVENT, 0, host, wall_ms(), body);
    event.set(properties::TAGS, group);
    event.set(properties::KEYS, group);
    // RocketMQ's events carry it.
    event.set(properties::DELAY, "0");
    let node = Rc::clone(node);
    spawn("tell of a moved offset", async move {
        if let Err(error) = put::put(&node, &topic, event, For::Client).await {
            tracing::warn!(%error, "the event of a moved offset is not stored");
        }
    })
    .detach();
}

fn body(group: &str, queue: &MessageQueue, asked: i64, given: i64) -> Vec<u8> {
    let mut body = b"{\"consumerGroup\":".to_vec();
    body.extend(to_vec(&group.to_owned()));
    body.extend(b",\"messageQueue\":");
    body.extend(to_vec(queue));
    body.extend(format!(",\"offsetNew\":{given},\"offsetRequest\":{asked}}}").into_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_is_rocketmqs() {
        let queue = MessageQueue { topic: "T\"".to_owned(), broker_name: "b".to_owned(), queue_id: 3 };
        let body = String::from_utf8(body("g", &queue, 5, 90)).unwrap();
        assert!(body.starts_with("{\"consumerGroup\":\"g\",\"messageQueue\":{"), "{body}");
        assert!(body.ends_with("},\"offsetNew\":90,\"offsetRequest\":5}"), "{body}");
        ringmq_protocol::json::parse(body.as_bytes()).unwrap();
    }
}
