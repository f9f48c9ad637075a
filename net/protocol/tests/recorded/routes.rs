//! What goes on between brokers, name servers and those who ask them: registrations, routes, clusters.

use ringmq_protocol::body::{ClusterInfo, RegisterBrokerBody, TopicConfig, TopicRouteData, body_crc32};
use ringmq_protocol::command::HeaderError;
use ringmq_protocol::header::{DeleteTopicFromNamesrv, RegisterBroker};
use ringmq_protocol::properties::perm;

use super::frame::{Golden, server_addr};

pub(crate) fn check_register(golden: &Golden) {
    let header = typed!(golden, RegisterBroker);
    assert_eq!((header.broker_name.as_str(), header.broker_id), ("broker-a", 0));
    assert_eq!((header.cluster_name.as_str(), header.broker_addr), ("DefaultCluster", server_addr(golden)));
    assert_eq!(header.enable_acting_master, golden.is_v5().then_some(false));
    assert_eq!(header.body_crc32, body_crc32(golden.body()));
    let version = golden.command().version;
    let read = |body: &[u8], compressed| RegisterBrokerBody::decode(body, compressed, 0, version).unwrap();
    let body = RegisterBrokerBody::decode(golden.body(), header.compressed, header.body_crc32, version).unwrap();
    let table = &body.topic_config_serialize_wrapper.topic_config_table;
    assert!(table.len() >= 8 && table.iter().all(|(name, config)| *name == config.topic_name));
    assert_eq!(table["TBW102"], TopicConfig::new("TBW102", 8, 8, perm::READ_WRITE | perm::INHERIT));
    assert_eq!(read(&body.to_vec(), false), body);
    assert_eq!(read(&body.pack(golden.is_v5()).unwrap(), true), body);
    let damaged = [golden.body(), b" "].concat();
    assert!(RegisterBrokerBody::decode(&damaged, false, header.body_crc32, version).is_err());
}

pub(crate) fn check_route(golden: &Golden) {
    let route = body!(golden, TopicRouteData);
    let [broker] = route.broker_datas.as_slice() else { panic!("one broker in {route:?}") };
    assert_eq!((broker.broker_name.as_str(), broker.cluster.as_str()), ("broker-a", "DefaultCluster"));
    assert_eq!(broker.broker_addrs, [(0, server_addr(golden))].into());
    let [queues] = route.queue_datas.as_slice() else { panic!("one row of queues in {route:?}") };
    // The first route asked for was the template topic's at 4.9.7 and the golden topic's at 5.3.3.
    let (count, perm) = if golden.is_v5() { (2, perm::READ_WRITE) } else { (8, perm::READ_WRITE | perm::INHERIT) };
    assert_eq!((queues.read_queue_nums, queues.write_queue_nums, queues.perm), (count, count, perm));
    assert_eq!((queues.broker_name.as_str(), route.order_topic_conf), ("broker-a", None));
}

/// Apache's name server writes the broker ids as keys without quotes.
pub(crate) fn check_cluster(golden: &Golden) {
    assert!(golden.body().windows(4).any(|window| window == b"{0:\""));
    let info = body!(golden, ClusterInfo);
    assert_eq!(info.cluster_addr_table["DefaultCluster"], ["broker-a"]);
    assert_eq!(info.broker_addr_table["broker-a"].broker_addrs, [(0, server_addr(golden))].into());
}

/// 5.3.3 was asked to delete a cluster's topic without naming the topic, which is refused in RocketMQ's words.
pub(crate) fn check_delete_topic_at_name_server(golden: &Golden) {
    if golden.is_v5() {
        let read = DeleteTopicFromNamesrv::decode(&golden.view());
        assert_eq!(read, Err(HeaderError::MissingField("topic")));
        assert_eq!(golden.command().ext("clusterName"), Some(golden.topic()));
    } else {
        let header = typed!(golden, DeleteTopicFromNamesrv);
        assert_eq!((header.topic.as_str(), header.cluster_name), (golden.topic(), None));
    }
}
