//! What clients say about their groups: heartbeats, leaving, queue locks, checks of a subscription.

use ringmq_protocol::body::{
    CheckClientConfig, ConsumeFromWhere, ConsumeType, HeartbeatData, LockBatchRequest, MessageModel, SubscriptionData,
};
use ringmq_protocol::filter::{SQL92, TAG, TagFilter};
use ringmq_protocol::header::UnregisterClient;

use super::frame::{Golden, is_client_id};

pub(crate) fn check_heartbeat(golden: &Golden) {
    assert_eq!(golden.view().ext().count(), 0);
    let data = body!(golden, HeartbeatData);
    assert!(is_client_id(&data.client_id));
    assert_eq!((data.heartbeat_fingerprint, data.without_sub), (0, false));
    assert!(data.producer_data_set.iter().any(|producer| producer.group_name == "CLIENT_INNER_PRODUCER"));
    if golden.name.ends_with("beat-producer") {
        return assert!(data.consumer_data_set.is_empty());
    }
    let [consumer] = data.consumer_data_set.as_slice() else { panic!("one consumer group in {data:?}") };
    assert_eq!((consumer.group_name.as_str(), consumer.unit_mode), ("golden_push", false));
    assert_eq!(consumer.consume_type, ConsumeType::Passively);
    assert_eq!(consumer.message_model, MessageModel::Clustering);
    assert_eq!(consumer.consume_from_where, ConsumeFromWhere::FirstOffset);
    assert_eq!(consumer.subscription_data_set.len(), 2);
    for subscription in &consumer.subscription_data_set {
        check_subscription(golden, subscription);
    }
}

/// Java's hashes of the tags are ours.
pub(crate) fn check_subscription(golden: &Golden, subscription: &SubscriptionData) {
    assert!(subscription.sub_version > 1_700_000_000_000 && subscription.expression_type == TAG);
    let filter = TagFilter::parse(Some(&subscription.sub_string)).unwrap();
    assert_eq!((filter.tags(), filter.codes()), (&*subscription.tags_set, &*subscription.code_set));
    let retry = subscription.topic == "%RETRY%golden_push";
    assert!(retry || subscription.topic == golden.topic());
    assert_eq!(subscription.sub_string, if retry { "*" } else { "TagA || TagB" });
}

pub(crate) fn check_unregister(golden: &Golden) {
    let header = typed!(golden, UnregisterClient);
    assert!(is_client_id(&header.client_id));
    if golden.name.ends_with("consumer") {
        assert_eq!((header.consumer_group.as_deref(), header.producer_group), (Some("golden_push"), None));
    } else {
        let group = header.producer_group.as_deref();
        assert!(matches!(group, Some("CLIENT_INNER_PRODUCER" | "driver_producer")), "{group:?}");
        assert_eq!(header.consumer_group, None);
    }
}

pub(crate) fn check_lock(golden: &Golden) {
    assert_eq!(golden.view().ext().count(), 0);
    let body = body!(golden, LockBatchRequest);
    assert!(is_client_id(&body.client_id) && !body.mq_set.is_empty());
    assert_eq!((body.consumer_group.as_str(), body.only_this_broker), ("golden_orderly", false));
    for queue in body.mq_set {
        assert!([golden.topic(), "%RETRY%golden_orderly"].contains(&queue.topic.as_str()), "{queue:?}");
        assert!(queue.broker_name == "broker-a" && (0..2).contains(&queue.queue_id), "{queue:?}");
    }
}

pub(crate) fn check_client_config(golden: &Golden) {
    let body = body!(golden, CheckClientConfig);
    assert!(is_client_id(&body.client_id));
    assert_eq!((body.group.as_str(), body.namespace), ("golden_sql", None));
    let subscription = body.subscription_data;
    assert_eq!((subscription.expression_type.as_str(), subscription.sub_string.as_str()), (SQL92, "user = 'value'"));
    assert_eq!(subscription.topic, golden.topic());
}
