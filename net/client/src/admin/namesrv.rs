//! What name servers are asked: routes, clusters, topic lists, key-value configuration, write permissions.

use std::collections::BTreeMap;

use ringmq_protocol::body::{ClusterInfo, KvTable, TopicList};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::header::{
    BrokerName, DeleteTopicFromNamesrv, KvConfigKey, KvNamespace, PutKvConfig, TopicsByCluster,
};

use super::{Admin, body, number, properties_text, to_properties_text};
use crate::conn::Request;
use crate::driver::blocking::refused;
use crate::error::Result;
use crate::route::{Route, fetch_route};

/// The masters of all brokers: (broker name, address).
pub fn cluster_masters(info: &ClusterInfo) -> impl Iterator<Item = (&str, &str)> {
    info.broker_addr_table
        .iter()
        .filter_map(|(name, broker)| Some((name.as_str(), broker.broker_addrs.get(&0)?.as_str())))
}

impl Admin {
    /// Code 105; `None` when no broker has the topic.
    pub fn topic_route(&self, topic: &str) -> Result<Option<Route>> {
        fetch_route(&self.remoting, &self.names, topic, self.timeout)
    }

    /// Code 106: the clusters with their brokers, and their addresses.
    pub fn cluster_info(&self) -> Result<ClusterInfo> {
        let code = RequestCode::GET_BROKER_CLUSTER_INFO;
        let (addr, received) = self.ask_names(&Request::new(code))?;
        body(&addr, code, &received, ClusterInfo::parse)
    }

    /// Code 206: the topics that any broker has.
    pub fn topics(&self) -> Result<Vec<String>> {
        self.topic_list(&Request::new(RequestCode::GET_ALL_TOPIC_LIST_FROM_NAMESERVER))
    }

    /// Code 224: the topics of one cluster.
    pub fn topics_of_cluster(&self, cluster: &str) -> Result<Vec<String>> {
        let header = TopicsByCluster { cluster: cluster.to_owned() };
        self.topic_list(&Request::new(RequestCode::GET_TOPICS_BY_CLUSTER).with_ext(header.to_ext()))
    }

    /// Code 304: the names of clusters and brokers, which are topics too.
    pub fn system_topics_of_names(&self) -> Result<Vec<String>> {
        self.topic_list(&Request::new(RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_NS))
    }

    fn topic_list(&self, request: &Request) -> Result<Vec<String>> {
        let (addr, received) = self.ask_names(request)?;
        Ok(body(&addr, request.code, &received, TopicList::parse)?.topic_list)
    }

    /// Code 216: every name server forgets the topic.
    pub fn delete_topic_in_names(&self, topic: &str, cluster: Option<&str>) -> Result<()> {
        let header = DeleteTopicFromNamesrv { topic: topic.to_owned(), cluster_name: cluster.map(str::to_owned) };
        let request = Request::new(RequestCode::DELETE_TOPIC_IN_NAMESRV).with_ext(header.to_ext());
        self.tell_names(&request).map(|_| ())
    }

    /// Code 100, to every name server.
    pub fn put_kv_config(&self, namespace: &str, key: &str, value: &str) -> Result<()> {
        let header = PutKvConfig { namespace: namespace.to_owned(), key: key.to_owned(), value: value.to_owned() };
        self.tell_names(&Request::new(RequestCode::PUT_KV_CONFIG).with_ext(header.to_ext())).map(|_| ())
    }

    /// Code 101; `None` when there is no such key.
    pub fn kv_config(&self, namespace: &str, key: &str) -> Result<Option<String>> {
        let header = KvConfigKey { namespace: namespace.to_owned(), key: key.to_owned() };
        let request = Request::new(RequestCode::GET_KV_CONFIG).with_ext(header.to_ext());
        let (addr, received) = self.names.ask(&self.remoting, &request, self.timeout)?;
        match ResponseCode(received.command.code) {
            ResponseCode::SUCCESS => Ok(received.command.ext("value").map(str::to_owned)),
            ResponseCode::QUERY_NOT_FOUND => Ok(None),
            code => Err(refused(&addr, request.code, code, &received)),
        }
    }

    /// Code 102, to every name server.
    pub fn delete_kv_config(&self, namespace: &str, key: &str) -> Result<()> {
        let header = KvConfigKey { namespace: namespace.to_owned(), key: key.to_owned() };
        self.tell_names(&Request::new(RequestCode::DELETE_KV_CONFIG).with_ext(header.to_ext())).map(|_| ())
    }

    /// Code 219; empty when there is no such namespace.
    pub fn kv_list(&self, namespace: &str) -> Result<BTreeMap<String, String>> {
        let header = KvNamespace { namespace: namespace.to_owned() };
        let request = Request::new(RequestCode::GET_KVLIST_BY_NAMESPACE).with_ext(header.to_ext());
        let (addr, received) = self.names.ask(&self.remoting, &request, self.timeout)?;
        match ResponseCode(received.command.code) {
            ResponseCode::SUCCESS => Ok(body(&addr, request.code, &received, KvTable::parse)?.table),
            ResponseCode::QUERY_NOT_FOUND => Ok(BTreeMap::new()),
            code => Err(refused(&addr, request.code, code, &received)),
        }
    }

    /// Code 205, at one name server: clients stop sending to that broker. Returns how many topics are concerned.
    pub fn wipe_write_perm(&self, names_addr: &str, broker_name: &str) -> Result<i64> {
        self.write_perm(RequestCode::WIPE_WRITE_PERM_OF_BROKER, names_addr, broker_name, "wipeTopicCount")
    }

    /// Code 327, at one name server: clients may send to that broker again.
    pub fn add_write_perm(&self, names_addr: &str, broker_name: &str) -> Result<i64> {
        self.write_perm(RequestCode::ADD_WRITE_PERM_OF_BROKER, names_addr, broker_name, "addTopicCount")
    }

    fn write_perm(&self, code: RequestCode, names_addr: &str, broker_name: &str, count: &'static str) -> Result<i64> {
        let header = BrokerName { broker_name: broker_name.to_owned() };
        let received = self.call(names_addr, &Request::new(code).with_ext(header.to_ext()))?;
        number(names_addr, code, &received, count)
    }

    /// Code 319, of one name server: keys and values.
    pub fn names_config(&self, names_addr: &str) -> Result<Vec<(String, String)>> {
        let received = self.call(names_addr, &Request::new(RequestCode::GET_NAMESRV_CONFIG))?;
        Ok(properties_text(&received))
    }

    /// Code 318, to every name server.
    pub fn update_names_config(&self, changes: &[(&str, &str)]) -> Result<()> {
        let text = to_properties_text(changes);
        self.tell_names(&Request::new(RequestCode::UPDATE_NAMESRV_CONFIG).with_body(text)).map(|_| ())
    }
}
