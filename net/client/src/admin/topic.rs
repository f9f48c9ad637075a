//! Topics at one broker, and over a whole cluster.

use std::collections::BTreeMap;

use ringmq_protocol::body::{
    ClusterInfo, GroupList, TopicConfig, TopicConfigSerializeWrapper, TopicList, TopicStatsTable,
};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::header::{CreateTopic, Topic};
use ringmq_protocol::names::{self, AUTO_CREATE_TOPIC_KEY};

use super::{Admin, body, cluster_masters};
use crate::conn::Request;
use crate::error::{Error, Result};

impl Admin {
    /// Code 17: creates the topic at that broker, or changes it to this.
    pub fn create_topic(&self, addr: &str, config: &TopicConfig) -> Result<()> {
        names::check_topic(&config.topic_name)?;
        // Attributes travel as a list of changes.
        let changes: Vec<String> = config.attributes.iter().map(|(key, value)| format!("+{key}={value}")).collect();
        let header = CreateTopic {
            topic: config.topic_name.clone(),
            default_topic: AUTO_CREATE_TOPIC_KEY.to_owned(),
            read_queue_nums: config.read_queue_nums,
            write_queue_nums: config.write_queue_nums,
            perm: config.perm,
            topic_filter_type: config.topic_filter_type.name().to_owned(),
            topic_sys_flag: Some(config.topic_sys_flag),
            order: config.order,
            attributes: (!changes.is_empty()).then(|| changes.join(",")),
            force: None,
        };
        self.call(addr, &Request::new(RequestCode::UPDATE_AND_CREATE_TOPIC).with_ext(header.to_ext())).map(|_| ())
    }

    /// Creates the topic at every master of the cluster, or of all clusters. Returns the broker names. A cluster that the
    /// name server does not know is an [`Error::UnknownCluster`].
    pub fn create_topic_in_cluster(&self, cluster: Option<&str>, config: &TopicConfig) -> Result<Vec<String>> {
        let info = self.cluster_info()?;
        let masters = masters_of(&info, cluster)?;
        masters.iter().try_for_each(|(_, addr)| self.create_topic(addr, config))?;
        Ok(masters.into_iter().map(|(name, _)| name).collect())
    }

    /// Code 215: deletes the topic at that broker.
    pub fn delete_topic(&self, addr: &str, topic: &str) -> Result<()> {
        self.call(addr, &of_topic(RequestCode::DELETE_TOPIC_IN_BROKER, topic)).map(|_| ())
    }

    /// Deletes the topic at every master of the cluster, or of all clusters, then at the name servers. A cluster that the
    /// name server does not know is an [`Error::UnknownCluster`].
    pub fn delete_topic_in_cluster(&self, cluster: Option<&str>, topic: &str) -> Result<()> {
        let info = self.cluster_info()?;
        masters_of(&info, cluster)?.iter().try_for_each(|(_, addr)| self.delete_topic(addr, topic))?;
        self.delete_topic_in_names(topic, cluster)
    }

    /// Code 21: all topics of that broker.
    pub fn topic_configs(&self, addr: &str) -> Result<BTreeMap<String, TopicConfig>> {
        let code = RequestCode::GET_ALL_TOPIC_CONFIG;
        let received = self.call(addr, &Request::new(code))?;
        Ok(body(addr, code, &received, TopicConfigSerializeWrapper::parse)?.topic_config_table)
    }

    /// Code 351, or 21 at a broker of 4.9; `None` when the broker does not have the topic.
    pub fn topic_config(&self, addr: &str, topic: &str) -> Result<Option<TopicConfig>> {
        let request = of_topic(RequestCode::GET_TOPIC_CONFIG, topic);
        match self.call_or(addr, &request, &[ResponseCode::TOPIC_NOT_EXIST]) {
            Ok(Some(received)) => body(addr, request.code, &received, TopicConfig::parse).map(Some),
            Ok(None) => Ok(None),
            Err(Error::Refused { code: ResponseCode::REQUEST_CODE_NOT_SUPPORTED, .. }) => {
                Ok(self.topic_configs(addr)?.remove(topic))
            }
            Err(e) => Err(e),
        }
    }

    /// Code 202: the offsets of the topic's queues at that broker.
    pub fn topic_stats(&self, addr: &str, topic: &str) -> Result<TopicStatsTable> {
        let request = of_topic(RequestCode::GET_TOPIC_STATS_INFO, topic);
        let received = self.call(addr, &request)?;
        body(addr, request.code, &received, TopicStatsTable::parse)
    }

    /// Code 300: the groups that consume the topic at that broker.
    pub fn groups_of_topic(&self, addr: &str, topic: &str) -> Result<Vec<String>> {
        let request = of_topic(RequestCode::QUERY_TOPIC_CONSUME_BY_WHO, topic);
        let received = self.call(addr, &request)?;
        Ok(body(addr, request.code, &received, GroupList::parse)?.group_list)
    }

    /// Code 305: the broker's own topics.
    pub fn system_topics(&self, addr: &str) -> Result<Vec<String>> {
        let code = RequestCode::GET_SYSTEM_TOPIC_LIST_FROM_BROKER;
        let received = self.call(addr, &Request::new(code))?;
        Ok(body(addr, code, &received, TopicList::parse)?.topic_list)
    }
}

fn of_topic(code: RequestCode, topic: &str) -> Request {
    Request::new(code).with_ext(Topic { topic: topic.to_owned() }.to_ext())
}

fn masters_of(info: &ClusterInfo, cluster: Option<&str>) -> Result<Vec<(String, String)>> {
    let unknown = |cluster: &str| Error::UnknownCluster {
        cluster: cluster.to_owned(),
        known: info.cluster_addr_table.keys().cloned().collect(),
    };
    let names =
        cluster.map(|cluster| info.cluster_addr_table.get(cluster).ok_or_else(|| unknown(cluster))).transpose()?;
    let chosen = cluster_masters(info).filter(|(name, _)| names.is_none_or(|names| names.iter().any(|n| n == name)));
    Ok(chosen.map(|(name, addr)| (name.to_owned(), addr.to_owned())).collect())
}
