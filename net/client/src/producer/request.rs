//! Request and reply: a message that somebody answers, and the answer's way back. The broker pushes a reply to the
//! client whose id the request carries, on the connection that its heartbeats come on.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use ringmq_protocol::code::ResponseCode;
use ringmq_protocol::header::PushReply;
use ringmq_protocol::{names, properties};

use super::sending::{Target, left_until};
use super::{Producer, SendReceipt};
use crate::conn::{Received, Reply};
use crate::driver::blocking::lock;
use crate::error::{Error, Result};
use crate::message::{Message, ReceivedMessage};

/// The property MSG_TYPE of a reply.
pub(crate) const REPLY: &str = "reply";

/// Who waits for a reply, by correlation id. As many as threads that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    by_id: Mutex<HashMap<String, Sender<ReceivedMessage>>>,
}

impl Waiting {
    /// Takes a reply that the broker pushed. One that nobody waits for any more is dropped.
    pub(crate) fn take(&self, asked: &Received) -> Reply {
        let header = match asked.header(PushReply::decode) {
            Ok(header) => header,
            Err(error) => return Reply::refusal(ResponseCode::SYSTEM_ERROR, error.to_string()),
        };
        let message = ReceivedMessage::of_reply(&header, &asked.body);
        let waiting = message.property(properties::CORRELATION_ID).and_then(|id| lock(&self.by_id).remove(id));
        match waiting {
            // Who gave up in this moment needs no reply.
            Some(waiting) => drop(waiting.send(message)),
            None => tracing::debug!("a reply came that nobody waits for"),
        }
        Reply::ok()
    }
}

impl Producer {
    /// Sends a request and waits until somebody has replied. `timeout` is for both, and the one of sends does not count here.
    /// There may be another try: the request can arrive twice, and of several replies the first one counts.
    pub fn request(&self, message: &Message, timeout: Duration) -> Result<ReceivedMessage> {
        let deadline = Instant::now() + timeout;
        let session = &self.sending.session;
        let id = session.identity.unique_key();
        let ttl = timeout.as_millis().to_string();
        let extra = [
            (properties::CORRELATION_ID, id.as_str()),
            (properties::REPLY_TO_CLIENT, session.identity.client_id.as_str()),
            (properties::TTL, ttl.as_str()),
        ];
        let prepared = self.sending.prepare(message, &extra)?;
        // Whoever replies chooses a broker, and that one must know this client before there can be a reply. One that hangs must
        // leave time for the others.
        let make_known = |target: &Target| {
            if let Ok(route) = self.sending.route_by(&message.topic, deadline) {
                let masters = route.masters().map(|(_, addr)| addr);
                session.heart.make_known(&target.addr, masters, left_until(deadline) / 2);
            }
        };
        let (sender, reply) = mpsc::channel();
        lock(&self.waiting.by_id).insert(id.clone(), sender);
        let sent = self.sending.send_by(&prepared, deadline, make_known);
        let outcome = sent.and_then(|_| {
            let late = |_| Error::NoReply { topic: message.topic.clone(), correlation_id: id.clone(), after: timeout };
            reply.recv_timeout(left_until(deadline)).map_err(late)
        });
        lock(&self.waiting.by_id).remove(&id);
        outcome
    }

    /// Replies to a request that a consumer received. The broker hands the reply to the client that waits, and says so
    /// by the receipt; a client that waits no more is an [`Error::Refused`].
    pub fn reply(&self, request: &ReceivedMessage, body: impl Into<Vec<u8>>) -> Result<SendReceipt> {
        let needed = |missing| {
            let none = || Error::NotARequest { msg_id: request.msg_id(), missing };
            request.property(missing).ok_or_else(none)
        };
        let message = Message::new(names::reply_topic(needed(properties::CLUSTER)?), body);
        let mut extra = vec![
            (properties::MSG_TYPE, REPLY),
            (properties::CORRELATION_ID, needed(properties::CORRELATION_ID)?),
            (properties::REPLY_TO_CLIENT, needed(properties::REPLY_TO_CLIENT)?),
        ];
        extra.extend(request.property(properties::TTL).map(|ttl| (properties::TTL, ttl)));
        self.sending.send(&self.sending.prepare(&message, &extra)?)
    }
}
