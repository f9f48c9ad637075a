//! One connection as a state machine: bytes in, events out; calls in, bytes out. Replies are matched to calls by
//! opaque, in any order, and calls expire at times the caller passes in.
//!
//! It does no I/O, has no clock and no threads; a driver moves the bytes. It belongs to whoever holds it.

use std::collections::HashMap;
use std::mem;
use std::time::Instant;

use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{Command, EncodeError, FLAG_ONEWAY, FLAG_RESPONSE, HeaderError, HeaderView};
use ringmq_protocol::frame::{FrameHead, PREFIX_LEN, Serialize};

use crate::error::Disconnect;

/// What to ask: the code, the ext fields in their order, the body.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is asked.
    pub code: RequestCode,
    /// The fields of the header, in their order.
    pub ext: Vec<(String, String)>,
    /// The bytes behind the header; their meaning is the code's.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without fields and body.
    pub fn new(code: RequestCode) -> Request {
        Request { code, ext: Vec::new(), body: Vec::new() }
    }

    /// The same request with the fields of a typed header.
    #[must_use]
    pub fn with_ext(mut self, ext: Vec<(String, String)>) -> Request {
        self.ext.extend(ext);
        self
    }

    /// The same request with one more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Request {
        self.ext.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same request with this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }
}

/// A received command with its body.
#[derive(Debug, Clone)]
pub struct Received {
    /// The header.
    pub command: Command,
    /// The bytes behind the header; their meaning is the code's.
    pub body: Vec<u8>,
}

impl Received {
    /// An ext field as a number; `None` when it is missing or is none.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.command.ext(name)?.parse().ok()
    }

    /// Reads a typed header. For what servers ask, which is rare: the fields are written once more to be read.
    pub(crate) fn header<T>(
        &self,
        decode: impl FnOnce(&HeaderView<'_>) -> Result<T, HeaderError>,
    ) -> Result<T, HeaderError> {
        let mut text = Vec::new();
        self.command.encode(Serialize::Json, &mut text)?;
        decode(&HeaderView::parse(Serialize::Json, &text)?)
    }
}

/// What a client answers when a server asks it something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// SUCCESS, or why not.
    pub code: ResponseCode,
    /// What people read of it.
    pub remark: Option<String>,
    /// The bytes behind the header; their meaning is the code's.
    pub body: Vec<u8>,
}

impl Reply {
    /// Done as asked.
    pub fn ok() -> Reply {
        Reply { code: ResponseCode::SUCCESS, remark: None, body: Vec::new() }
    }

    /// Not done, and why.
    pub fn refusal(code: ResponseCode, remark: impl Into<String>) -> Reply {
        Reply { code, remark: Some(remark.into()), body: Vec::new() }
    }
}

/// Names a call of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(i32);

/// What a connection has to tell.
#[derive(Debug)]
pub enum Event {
    /// The reply to a call.
    Reply(CallId, Received),
    /// The server asks something itself (a rebalance notice, a transaction check).
    Asked(Received),
}

/// See the module.
#[derive(Debug)]
pub struct Conn {
    serialize: Serialize,
    next_opaque: i32,
    waiting: HashMap<i32, Instant>,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Conn {
    /// A connection whose requests have headers of this codec. Replies are read in either.
    pub fn new(serialize: Serialize) -> Conn {
        // Some peers take an opaque of zero for none.
        Conn { serialize, next_opaque: 1, waiting: HashMap::new(), inbox: Vec::new(), outbox: Vec::new() }
    }

    /// Encodes a call that expects a reply until `deadline`.
    pub fn call(&mut self, request: &Request, deadline: Instant) -> Result<CallId, EncodeError> {
        let opaque = self.fresh_opaque();
        self.encode(request, opaque, 0)?;
        self.waiting.insert(opaque, deadline);
        Ok(CallId(opaque))
    }

    /// Encodes a request that the server does not answer.
    pub fn oneway(&mut self, request: &Request) -> Result<(), EncodeError> {
        let opaque = self.fresh_opaque();
        self.encode(request, opaque, FLAG_ONEWAY)
    }

    /// Encodes the answer to what the server asked.
    pub fn answer(&mut self, asked: &Received, reply: &Reply) -> Result<(), EncodeError> {
        let mut command = Command::request(reply.code.0, asked.command.opaque);
        command.flag = FLAG_RESPONSE;
        command.remark.clone_from(&reply.remark);
        command.encode_frame(self.serialize, &reply.body, &mut self.outbox)
    }

    fn encode(&mut self, request: &Request, opaque: i32, flag: i32) -> Result<(), EncodeError> {
        let mut command = Command::request(request.code.0, opaque);
        command.flag = flag;
        command.ext.clone_from(&request.ext);
        command.encode_frame(self.serialize, &request.body, &mut self.outbox)
    }

    fn fresh_opaque(&mut self) -> i32 {
        loop {
            let opaque = self.next_opaque;
            self.next_opaque = self.next_opaque.checked_add(1).unwrap_or(1);
            if !self.waiting.contains_key(&opaque) {
                return opaque;
            }
        }
    }

    /// The bytes to be written next; they are gone from here.
    pub fn take_outgoing(&mut self) -> Vec<u8> {
        mem::take(&mut self.outbox)
    }

    /// Takes bytes that arrived. The longest frame bounds what is held; a stream that is no RocketMQ ends here.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Disconnect> {
        self.inbox.extend_from_slice(bytes);
        let mut events = Vec::new();
        let mut used = 0;
        while let Some(prefix) = self.inbox[used..].first_chunk::<PREFIX_LEN>() {
            let head = FrameHead::parse(prefix)?;
            let Some(frame) = self.inbox.get(used..used + head.frame_len()) else { break };
            let command = Command::decode(head.serialize, &frame[PREFIX_LEN..head.body_start()])?;
            let body = frame[head.body_start()..].to_vec();
            used += head.frame_len();
            let received = Received { command, body };
            if !received.command.is_response() {
                events.push(Event::Asked(received));
            } else if self.waiting.remove(&received.command.opaque).is_some() {
                events.push(Event::Reply(CallId(received.command.opaque), received));
            }
            // Else the reply came after its call had expired.
        }
        self.inbox.drain(..used);
        Ok(events)
    }

    /// Gives a call up; its reply will be dropped. False when it has been answered or expired already.
    pub fn give_up(&mut self, call: CallId) -> bool {
        self.waiting.remove(&call.0).is_some()
    }

    /// The calls whose time is over; they are given up.
    pub fn expire(&mut self, now: Instant) -> Vec<CallId> {
        let over: Vec<i32> = self.waiting.iter().filter(|(_, at)| **at <= now).map(|(opaque, _)| *opaque).collect();
        over.iter().for_each(|opaque| {
            self.waiting.remove(opaque);
        });
        over.into_iter().map(CallId).collect()
    }

    /// When the next call expires.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.values().min().copied()
    }

    /// Calls under way.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reply(opaque: i32, body: &[u8]) -> Vec<u8> {
        let mut command = Command::request(0, opaque);
        command.flag = ringmq_protocol::command::FLAG_RESPONSE;
        let mut frame = Vec::new();
        command.encode_frame(Serialize::Json, body, &mut frame).unwrap();
        frame
    }

    fn opaque_of(frame: &[u8]) -> i32 {
        let head = FrameHead::parse(frame.first_chunk().unwrap()).unwrap();
        Command::decode(head.serialize, &frame[PREFIX_LEN..head.body_start()]).unwrap().opaque
    }

    #[test]
    fn replies_find_their_calls_in_any_order_and_any_pieces() {
        for serialize in [Serialize::Json, Serialize::RocketMq] {
            let mut conn = Conn::new(serialize);
            let deadline = Instant::now() + Duration::from_secs(3);
            let request = Request::new(RequestCode::GET_MAX_OFFSET).with("topic", "T");
            let first = conn.call(&request, deadline).unwrap();
            let first_opaque = opaque_of(&conn.take_outgoing());
            let second = conn.call(&request, deadline).unwrap();
            let second_opaque = opaque_of(&conn.take_outgoing());
            let mut stream = reply(second_opaque, b"two");
            stream.extend(reply(first_opaque, b"one"));
            let mut seen = Vec::new();
            for byte in stream {
                for event in conn.receive(&[byte]).unwrap() {
                    let Event::Reply(call, received) = event else { panic!("{event:?}") };
                    seen.push((call, received.body));
                }
            }
            assert_eq!(seen, [(second, b"two".to_vec()), (first, b"one".to_vec())]);
            assert_eq!(conn.waiting(), 0);
        }
    }

    #[test]
    fn a_reply_after_its_deadline_is_dropped() {
        let mut conn = Conn::new(Serialize::Json);
        let now = Instant::now();
        let request = Request::new(RequestCode::HEART_BEAT);
        let short = conn.call(&request, now + Duration::from_millis(5)).unwrap();
        let opaque = opaque_of(&conn.take_outgoing());
        conn.call(&request, now + Duration::from_secs(5)).unwrap();
        assert_eq!(conn.next_deadline(), Some(now + Duration::from_millis(5)));
        assert_eq!(conn.expire(now + Duration::from_millis(6)), [short]);
        assert!(!conn.give_up(short));
        assert!(conn.receive(&reply(opaque, b"")).unwrap().is_empty());
        assert_eq!(conn.waiting(), 1);
    }

    #[test]
    fn an_oneway_request_waits_for_nothing() {
        let mut conn = Conn::new(Serialize::Json);
        conn.oneway(&Request::new(RequestCode::UPDATE_CONSUMER_OFFSET)).unwrap();
        assert_eq!(conn.waiting(), 0);
        let bytes = conn.take_outgoing();
        let head = FrameHead::parse(bytes.first_chunk().unwrap()).unwrap();
        assert!(Command::decode(head.serialize, &bytes[PREFIX_LEN..head.body_start()]).unwrap().is_oneway());
    }

    #[test]
    fn a_request_of_the_server_is_told_apart() {
        let mut conn = Conn::new(Serialize::Json);
        let mut frame = Vec::new();
        Command::request(40, 7).encode_frame(Serialize::Json, &[], &mut frame).unwrap();
        let events = conn.receive(&frame).unwrap();
        let [Event::Asked(asked)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(asked.command.code, 40);
        conn.answer(asked, &Reply::refusal(ResponseCode::SYSTEM_ERROR, "no")).unwrap();
        let bytes = conn.take_outgoing();
        let head = FrameHead::parse(bytes.first_chunk().unwrap()).unwrap();
        let answer = Command::decode(head.serialize, &bytes[PREFIX_LEN..head.body_start()]).unwrap();
        assert!(answer.is_response());
        assert_eq!((answer.opaque, answer.code, answer.remark.as_deref()), (7, 1, Some("no")));
    }

    #[test]
    fn a_stream_that_is_no_rocketmq_ends_the_connection() {
        for garbage in [&b"HTTP/1.1 400 Bad Request\r\n"[..], &[0xff; 8], &[0, 0, 0, 6, 0, 0, 0, 2, b'{', b'{']] {
            assert!(Conn::new(Serialize::Json).receive(garbage).is_err(), "{garbage:?}");
        }
    }
}
