//! Consumer and producer groups at one broker: settings, members, progress.

use std::collections::BTreeMap;

use ringmq_protocol::body::{
    ConsumeStats, ConsumerConnection, ConsumerIdList, MessageQueue, ProducerConnection, ResetOffsetBody,
    SubscriptionGroupConfig, SubscriptionGroupWrapper,
};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::header::{ConsumerGroup, DeleteSubscriptionGroup, GetConsumeStats, ProducerGroup, ResetOffset};
use ringmq_protocol::names::{self, GROUP_NAME_MAX_V4};

use super::{Admin, body};
use crate::conn::Request;
use crate::error::Result;

impl Admin {
    /// Code 38: the ids of the group's clients; empty when it has none.
    pub fn consumer_ids(&self, addr: &str, group: &str) -> Result<Vec<String>> {
        let code = RequestCode::GET_CONSUMER_LIST_BY_GROUP;
        // RocketMQ has no code of its own for a group without members.
        match self.call_or(addr, &of_group(code, group), &[ResponseCode::SYSTEM_ERROR])? {
            Some(received) => Ok(body(addr, code, &received, ConsumerIdList::parse)?.consumer_id_list),
            None => Ok(Vec::new()),
        }
    }

    /// Code 203; `None` when nobody of the group is connected.
    pub fn consumer_connection(&self, addr: &str, group: &str) -> Result<Option<ConsumerConnection>> {
        let code = RequestCode::GET_CONSUMER_CONNECTION_LIST;
        let received = self.call_or(addr, &of_group(code, group), &[ResponseCode::CONSUMER_NOT_ONLINE])?;
        received.map(|received| body(addr, code, &received, ConsumerConnection::parse)).transpose()
    }

    /// Code 204; `None` when nobody of the group is connected.
    pub fn producer_connection(&self, addr: &str, group: &str) -> Result<Option<ProducerConnection>> {
        let code = RequestCode::GET_PRODUCER_CONNECTION_LIST;
        let header = ProducerGroup { producer_group: group.to_owned() };
        let request = Request::new(code).with_ext(header.to_ext());
        let received = self.call_or(addr, &request, &[ResponseCode::SYSTEM_ERROR])?;
        received.map(|received| body(addr, code, &received, ProducerConnection::parse)).transpose()
    }

    /// Code 208: how far the group has got at that broker, in one topic or all of its.
    pub fn consume_stats(&self, addr: &str, group: &str, topic: Option<&str>) -> Result<ConsumeStats> {
        let code = RequestCode::GET_CONSUME_STATS;
        let header =
            GetConsumeStats { consumer_group: group.to_owned(), topic: topic.map(str::to_owned), topic_list: None };
        let received = self.call(addr, &Request::new(code).with_ext(header.to_ext()))?;
        body(addr, code, &received, ConsumeStats::parse)
    }

    /// Code 201: the settings of all groups of that broker.
    pub fn groups(&self, addr: &str) -> Result<BTreeMap<String, SubscriptionGroupConfig>> {
        let code = RequestCode::GET_ALL_SUBSCRIPTIONGROUP_CONFIG;
        let received = self.call(addr, &Request::new(code))?;
        Ok(body(addr, code, &received, SubscriptionGroupWrapper::parse)?.subscription_group_table)
    }

    /// Code 200: creates the group at that broker, or changes it to this.
    pub fn create_group(&self, addr: &str, config: &SubscriptionGroupConfig) -> Result<()> {
        names::check_group(&config.group_name, GROUP_NAME_MAX_V4)?;
        let request = Request::new(RequestCode::UPDATE_AND_CREATE_SUBSCRIPTIONGROUP).with_body(config.to_vec());
        self.call(addr, &request).map(|_| ())
    }

    /// Code 207.
    pub fn delete_group(&self, addr: &str, group: &str, clean_offsets: bool) -> Result<()> {
        let header = DeleteSubscriptionGroup { group_name: group.to_owned(), clean_offset: clean_offsets };
        self.call(addr, &Request::new(RequestCode::DELETE_SUBSCRIPTIONGROUP).with_ext(header.to_ext())).map(|_| ())
    }

    /// Code 222, at one broker: the group reads the topic from the first message that was stored at that time (ms since
    /// 1970) or later, -1: from what comes now on. Without `force` a queue is only set back, never forward, by brokers that
    /// ask the members to do it. The new offsets by queue.
    pub fn reset_offsets(
        &self,
        addr: &str,
        group: &str,
        topic: &str,
        timestamp: i64,
        force: bool,
    ) -> Result<BTreeMap<MessageQueue, i64>> {
        let code = RequestCode::INVOKE_BROKER_TO_RESET_OFFSET;
        let header = ResetOffset {
            topic: topic.to_owned(),
            group: group.to_owned(),
            timestamp,
            is_force: force,
            queue_id: None,
            offset: None,
        };
        let received = self.call(addr, &Request::new(code).with_ext(header.to_ext()))?;
        Ok(body(addr, code, &received, ResetOffsetBody::parse)?.offset_table)
    }
}

fn of_group(code: RequestCode, group: &str) -> Request {
    Request::new(code).with_ext(ConsumerGroup { consumer_group: group.to_owned() }.to_ext())
}
