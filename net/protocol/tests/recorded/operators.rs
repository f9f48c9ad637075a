//! What operators ask about groups, and what the broker asks running consumers for them.

use ringmq_protocol::body::{
    ConsumeStats, ConsumeTimeSpans, ConsumerConnection, ConsumerStatusBody, GroupList, MessageQueue, ResetOffsetBody,
};
use ringmq_protocol::header::{
    ClientCallback, CloneGroupOffset, ConsumeTimeSpanQuery, ConsumerStatus, GetConsumeStats, ResetOffset, Topic,
};

use super::frame::{Golden, is_client_id};

const GROUP: &str = "golden_asked";

/// The two queues of the recording's topic. A server's replies were kept from the first of its two topics.
fn is_queue(golden: &Golden, queue: &MessageQueue) -> bool {
    let topics = [golden.topic(), "golden_json", "%RETRY%golden_asked"];
    queue.broker_name == "broker-a" && topics.contains(&queue.topic.as_str()) && (0..2).contains(&queue.queue_id)
}

pub(crate) fn check_reset(golden: &Golden) {
    let header = typed!(golden, ResetOffset);
    assert_eq!((header.topic.as_str(), header.group.as_str()), (golden.topic(), GROUP));
    // A broker that asks its consumers has decided about force already.
    let from_broker = golden.name.starts_with("220");
    assert_eq!((header.timestamp, header.is_force), (0, !from_broker));
    assert_eq!((header.queue_id, header.offset), if golden.is_v5() { (Some(-1), Some(-1)) } else { (None, None) });
    if from_broker {
        check_reset_offsets(golden);
    }
}

pub(crate) fn check_reset_offsets(golden: &Golden) {
    let table = body!(golden, ResetOffsetBody).offset_table;
    assert!(
        table.len() == 2 && table.iter().all(|(queue, offset)| is_queue(golden, queue) && *offset == 0),
        "{table:?}"
    );
}

pub(crate) fn check_status(golden: &Golden) {
    let header = typed!(golden, ConsumerStatus);
    assert_eq!((header.topic.as_str(), header.group.as_str()), (golden.topic(), GROUP));
    assert_eq!(header.client_id.as_deref().map(is_client_id), golden.name.starts_with("223").then_some(true));
}

pub(crate) fn check_status_told(golden: &Golden) {
    let status = body!(golden, ConsumerStatusBody);
    let (one, tables): (bool, Vec<_>) = match golden.name.starts_with("221") {
        true => (status.consumer_table.is_empty(), vec![&status.message_queue_table]),
        false => (status.message_queue_table.is_empty(), status.consumer_table.values().collect()),
    };
    assert!(one && tables.len() == 1 && tables[0].keys().all(|queue| is_queue(golden, queue)), "{status:?}");
}

pub(crate) fn check_running(golden: &Golden) {
    let header = typed!(golden, ClientCallback);
    assert_eq!((header.consumer_group.as_str(), header.jstack_enable), (GROUP, Some(true)));
    assert!(header.client_id.as_deref().is_some_and(is_client_id), "{header:?}");
}

/// The broker hands the text on as it is.
pub(crate) fn check_running_told(golden: &Golden) {
    let text = std::str::from_utf8(golden.body()).unwrap();
    assert!(text.starts_with("{\"jstack\":") && text.contains("\"mqTable\":{{"), "{text}");
}

pub(crate) fn check_consume_stats(golden: &Golden) {
    let header = typed!(golden, GetConsumeStats);
    assert_eq!((header.consumer_group.as_str(), header.topic, header.topic_list), (GROUP, None, None));
}

pub(crate) fn check_consume_stats_told(golden: &Golden) {
    let stats = body!(golden, ConsumeStats);
    assert!(stats.offset_table.keys().all(|queue| is_queue(golden, queue)), "{stats:?}");
}

pub(crate) fn check_time_span(golden: &Golden) {
    let header = typed!(golden, ConsumeTimeSpanQuery);
    assert_eq!((header.topic.as_str(), header.group.as_str()), (golden.topic(), GROUP));
}

pub(crate) fn check_time_span_told(golden: &Golden) {
    let spans = body!(golden, ConsumeTimeSpans).consume_time_span_set;
    assert_eq!(spans.len(), 2);
    for span in spans {
        assert!(is_queue(golden, &span.message_queue) && span.min_time_stamp <= span.max_time_stamp, "{span:?}");
        assert!(span.min_time_stamp > 1_700_000_000_000 && span.consume_time_stamp >= span.min_time_stamp, "{span:?}");
    }
}

pub(crate) fn check_who(golden: &Golden) {
    assert_eq!(typed!(golden, Topic).topic, golden.topic());
}

pub(crate) fn check_who_told(golden: &Golden) {
    // 5.3.3 names the topic in the place of the groups that are online.
    let expected = if golden.is_v5() { "golden_json" } else { GROUP };
    assert_eq!(body!(golden, GroupList).group_list, [expected]);
}

pub(crate) fn check_clone(golden: &Golden) {
    let header = typed!(golden, CloneGroupOffset);
    assert_eq!((header.src_group.as_str(), header.dest_group.as_str()), (GROUP, "golden_cloned"));
    assert!(header.offline && header.topic.as_deref() == Some(golden.topic()), "{header:?}");
}

pub(crate) fn check_connections(golden: &Golden) {
    let told = body!(golden, ConsumerConnection);
    assert!(told.connection_set.iter().all(|one| is_client_id(&one.client_id)), "{told:?}");
}
