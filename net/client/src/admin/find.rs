//! Finding messages: by the id that the broker gave, by the unique key of the sender, by the application's keys.

use std::net::SocketAddr;
use std::ops::Range;

use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::header::QueryMessage;
use ringmq_protocol::id::decode_offset_msg_id;

use super::Admin;
use crate::conn::Request;
use crate::error::{Error, Result};
use crate::message::{ReceivedMessage, decode_records};

impl Admin {
    /// Code 33: the message with that offset id, from the broker that the id names.
    pub fn message_by_id(&self, offset_msg_id: &str) -> Result<ReceivedMessage> {
        let wrong = || Error::MessageId { id: offset_msg_id.to_owned() };
        let (host, position) = decode_offset_msg_id(offset_msg_id).ok_or_else(wrong)?;
        self.view_message(&SocketAddr::from(host).to_string(), position)
    }

    /// Code 12: messages of one broker with that key, stored in `stored_ms` (ms since 1970), `count_max` (64 at the most) of
    /// the newest. The index is one of hashes; what only shares a hash is left out here.
    pub fn messages_by_key(
        &self,
        addr: &str,
        topic: &str,
        key: &str,
        stored_ms: Range<i64>,
        count_max: i32,
    ) -> Result<Vec<ReceivedMessage>> {
        let header = QueryMessage {
            topic: topic.to_owned(),
            key: key.to_owned(),
            max_num: count_max,
            begin_timestamp: stored_ms.start,
            end_timestamp: stored_ms.end,
            unique_key_query: false,
            index_type: None,
        };
        let has_key =
            |message: &ReceivedMessage| message.keys().is_some_and(|keys| keys.split(' ').any(|one| one == key));
        let mut found = self.find(addr, &header)?;
        found.retain(|message| message.topic == topic && has_key(message));
        Ok(found)
    }

    /// Code 12: the messages of one broker with that unique key; several if a send was repeated.
    pub fn messages_by_unique_key(&self, addr: &str, topic: &str, unique_key: &str) -> Result<Vec<ReceivedMessage>> {
        let header = QueryMessage {
            topic: topic.to_owned(),
            key: unique_key.to_owned(),
            max_num: 32,
            begin_timestamp: 0,
            end_timestamp: i64::MAX,
            unique_key_query: true,
            index_type: None,
        };
        let mut found = self.find(addr, &header)?;
        found.retain(|message| message.msg_id() == unique_key);
        Ok(found)
    }

    fn find(&self, addr: &str, header: &QueryMessage) -> Result<Vec<ReceivedMessage>> {
        let code = RequestCode::QUERY_MESSAGE;
        let request = Request::new(code).with_ext(header.to_ext());
        let Some(received) = self.call_or(addr, &request, &[ResponseCode::QUERY_NOT_FOUND])? else {
            return Ok(Vec::new());
        };
        let bad = |what: ringmq_protocol::message::RecordError| Error::Reply {
            addr: addr.to_owned(),
            request: code,
            what: what.into(),
        };
        decode_records(&received.body, "").map_err(bad)
    }
}
