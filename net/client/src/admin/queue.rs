//! Offsets of one queue at its broker.

use std::time::Duration;

use ringmq_protocol::body::MessageQueue;
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::header::{GetMaxOffset, GetMinOffset, QueryConsumerOffset, SearchOffset, UpdateConsumerOffset};

use super::{Admin, number};
use crate::conn::Request;
use crate::driver::blocking::Remoting;
use crate::error::Result;

/// Codes 30 and 31.
pub(crate) fn queue_offset(
    remoting: &Remoting,
    addr: &str,
    queue: &MessageQueue,
    max: bool,
    timeout: Duration,
) -> Result<i64> {
    let (topic, queue_id) = (queue.topic.clone(), queue.queue_id);
    let request = if max {
        let header = GetMaxOffset { topic, queue_id, committed: None };
        Request::new(RequestCode::GET_MAX_OFFSET).with_ext(header.to_ext())
    } else {
        Request::new(RequestCode::GET_MIN_OFFSET).with_ext(GetMinOffset { topic, queue_id }.to_ext())
    };
    let received = remoting.call(addr, &request, timeout)?;
    number(addr, request.code, &received, "offset")
}

fn queue(topic: &str, queue_id: i32) -> MessageQueue {
    MessageQueue { broker_name: String::new(), queue_id, topic: topic.to_owned() }
}

impl Admin {
    /// Code 30: the next queue offset to be written.
    pub fn max_offset(&self, addr: &str, topic: &str, queue_id: i32) -> Result<i64> {
        queue_offset(&self.remoting, addr, &queue(topic, queue_id), true, self.timeout)
    }

    /// Code 31: the first queue offset that there still is.
    pub fn min_offset(&self, addr: &str, topic: &str, queue_id: i32) -> Result<i64> {
        queue_offset(&self.remoting, addr, &queue(topic, queue_id), false, self.timeout)
    }

    /// Code 32: when the first message that there still is was stored, in ms; `None` when there is none.
    pub fn earliest_store_time(&self, addr: &str, topic: &str, queue_id: i32) -> Result<Option<i64>> {
        let code = RequestCode::GET_EARLIEST_MSG_STORETIME;
        let header = GetMinOffset { topic: topic.to_owned(), queue_id };
        let received = self.call(addr, &Request::new(code).with_ext(header.to_ext()))?;
        let time = number(addr, code, &received, "timestamp")?;
        Ok((time >= 0).then_some(time))
    }

    /// Code 29: the first queue offset that was stored at that time (ms) or later.
    pub fn search_offset(&self, addr: &str, topic: &str, queue_id: i32, timestamp: i64) -> Result<i64> {
        let code = RequestCode::SEARCH_OFFSET_BY_TIMESTAMP;
        let header = SearchOffset { topic: topic.to_owned(), queue_id, timestamp, boundary_type: None };
        let received = self.call(addr, &Request::new(code).with_ext(header.to_ext()))?;
        number(addr, code, &received, "offset")
    }

    /// Code 14: how far the group has got; `None` when it has no offset there.
    pub fn consumer_offset(&self, addr: &str, group: &str, topic: &str, queue_id: i32) -> Result<Option<i64>> {
        let header = QueryConsumerOffset {
            consumer_group: group.to_owned(),
            topic: topic.to_owned(),
            queue_id,
            set_zero_if_not_found: Some(false),
        };
        let code = RequestCode::QUERY_CONSUMER_OFFSET;
        let request = Request::new(code).with_ext(header.to_ext());
        let received = self.call_or(addr, &request, &[ResponseCode::QUERY_NOT_FOUND])?;
        received.map(|received| number(addr, code, &received, "offset")).transpose()
    }

    /// Code 15.
    pub fn update_consumer_offset(
        &self,
        addr: &str,
        group: &str,
        topic: &str,
        queue_id: i32,
        offset: i64,
    ) -> Result<()> {
        let header = UpdateConsumerOffset {
            consumer_group: group.to_owned(),
            topic: topic.to_owned(),
            queue_id,
            commit_offset: Some(offset),
        };
        self.call(addr, &Request::new(RequestCode::UPDATE_CONSUMER_OFFSET).with_ext(header.to_ext())).map(|_| ())
    }
}
