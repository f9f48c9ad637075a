//! The bodies of answers, made from the table.

use std::collections::BTreeMap;

use ringmq_protocol::body::{
    BrokerData, BrokerMemberGroup, BrokerMemberGroupResponse, ClusterInfo, KvTable, QueueData, TopicList,
    TopicRouteData,
};

use crate::route::{BrokerSet, Queues, Route, RouteTable};

pub(crate) fn route(route: &Route<'_>, order: Option<&str>) -> TopicRouteData {
    TopicRouteData {
        broker_datas: route.brokers.iter().map(|(name, set)| broker(name, set)).collect(),
        filter_server_table: BTreeMap::new(),
        order_topic_conf: order.map(str::to_owned),
        queue_datas: route.queues.iter().map(|(name, at)| queues(name, *at)).collect(),
    }
}

fn broker(name: &str, set: &BrokerSet) -> BrokerData {
    BrokerData {
        broker_addrs: set.addresses.clone(),
        broker_name: name.to_owned(),
        cluster: set.cluster.clone(),
        enable_acting_master: set.acting_master,
        zone_name: set.zone.clone(),
    }
}

fn queues(name: &str, at: Queues) -> QueueData {
    QueueData {
        broker_name: name.to_owned(),
        perm: at.perm,
        read_queue_nums: at.read,
        topic_sys_flag: at.sys_flag,
        write_queue_nums: at.write,
    }
}

pub(crate) fn cluster_info(table: &RouteTable) -> ClusterInfo {
    let clusters = table.clusters().into_iter();
    ClusterInfo {
        broker_addr_table: table.brokers().map(|(name, set)| (name.to_owned(), broker(name, set))).collect(),
        cluster_addr_table: clusters.map(|(cluster, names)| (cluster.to_owned(), owned(names.into_iter()))).collect(),
    }
}

pub(crate) fn members(cluster: &str, name: &str, set: Option<&BrokerSet>) -> BrokerMemberGroupResponse {
    BrokerMemberGroupResponse {
        broker_member_group: Some(BrokerMemberGroup {
            broker_addrs: set.map(|set| set.addresses.clone()).unwrap_or_default(),
            broker_name: name.to_owned(),
            cluster: cluster.to_owned(),
        }),
    }
}

pub(crate) fn topics<'a>(names: impl Iterator<Item = &'a str>) -> TopicList {
    TopicList { broker_addr: None, topic_list: owned(names) }
}

/// The names of clusters and brokers, which are topics as well, and one broker that can be asked for the rest.
pub(crate) fn system_topics(table: &RouteTable) -> TopicList {
    let mut names: Vec<String> = Vec::new();
    for (cluster, brokers) in table.clusters() {
        names.push(cluster.to_owned());
        names.extend(brokers.into_iter().map(str::to_owned));
    }
    let first = table.brokers().find_map(|(_, set)| set.addresses.values().next().cloned());
    TopicList { broker_addr: first, topic_list: names }
}

pub(crate) fn table(entries: &BTreeMap<String, String>) -> KvTable {
    KvTable { table: entries.clone() }
}

fn owned<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.map(str::to_owned).collect()
}
