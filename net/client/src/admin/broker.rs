//! What one broker is asked about itself: configuration, state, a message by its position.

use std::collections::BTreeMap;

use ringmq_protocol::body::KvTable;
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::header::ViewMessage;
use ringmq_protocol::message::Record;

use super::{Admin, body, properties_text, to_properties_text};
use crate::conn::Request;
use crate::error::{Error, Result};
use crate::message::ReceivedMessage;

impl Admin {
    /// Code 26: keys and values.
    pub fn broker_config(&self, addr: &str) -> Result<Vec<(String, String)>> {
        let received = self.call(addr, &Request::new(RequestCode::GET_BROKER_CONFIG))?;
        Ok(properties_text(&received))
    }

    /// Code 25.
    pub fn update_broker_config(&self, addr: &str, changes: &[(&str, &str)]) -> Result<()> {
        let text = to_properties_text(changes);
        self.call(addr, &Request::new(RequestCode::UPDATE_BROKER_CONFIG).with_body(text)).map(|_| ())
    }

    /// Code 28: counters and states as the broker names them.
    pub fn broker_runtime_info(&self, addr: &str) -> Result<BTreeMap<String, String>> {
        let code = RequestCode::GET_BROKER_RUNTIME_INFO;
        let received = self.call(addr, &Request::new(code))?;
        Ok(body(addr, code, &received, KvTable::parse)?.table)
    }

    /// Code 33: the message whose record begins at that position of the broker's commit log.
    pub fn view_message(&self, addr: &str, position: i64) -> Result<ReceivedMessage> {
        let code = RequestCode::VIEW_MESSAGE_BY_ID;
        let header = ViewMessage { offset: position, topic: None };
        let received = self.call(addr, &Request::new(code).with_ext(header.to_ext()))?;
        let (record, _) = Record::parse(&received.body).map_err(|e| Error::Reply {
            addr: addr.to_owned(),
            request: code,
            what: e.into(),
        })?;
        Ok(ReceivedMessage::of(&record, ""))
    }
}
