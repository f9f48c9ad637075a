//! RocketMQ's remoting protocol in its plainest form: one blocking socket, JSON headers, no threads.
//!
//! Written from the protocol's description and not from RingMQ's own protocol crate, so that both cannot share a
//! mistake. It reads ROCKETMQ headers too, because the recorder sees them; it writes only JSON.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) const SEND_MESSAGE: i32 = 10;
pub(crate) const PULL_MESSAGE: i32 = 11;
pub(crate) const QUERY_CONSUMER_OFFSET: i32 = 14;
pub(crate) const UPDATE_AND_CREATE_TOPIC: i32 = 17;
pub(crate) const GET_BROKER_RUNTIME_INFO: i32 = 28;
pub(crate) const GET_MAX_OFFSET: i32 = 30;
pub(crate) const GET_MIN_OFFSET: i32 = 31;
pub(crate) const HEART_BEAT: i32 = 34;
pub(crate) const UNREGISTER_CLIENT: i32 = 35;
pub(crate) const SEND_BACK: i32 = 36;
pub(crate) const END_TRANSACTION: i32 = 37;
pub(crate) const GET_CONSUMER_LIST_BY_GROUP: i32 = 38;
pub(crate) const GET_CONSUMER_CONNECTION_LIST: i32 = 203;
pub(crate) const LOCK_BATCH_MQ: i32 = 41;
pub(crate) const CHECK_CLIENT_CONFIG: i32 = 46;
pub(crate) const GET_ROUTE: i32 = 105;
pub(crate) const GET_CLUSTER: i32 = 106;
pub(crate) const UPDATE_AND_CREATE_GROUP: i32 = 200;
pub(crate) const SEND_MESSAGE_V2: i32 = 310;

/// The number of version 4.9.8, as which a test speaks unless it says otherwise.
const VERSION: i32 = 409;

/// What a test believes to be a sane size of any frame it reads.
const FRAME_MAX: usize = 64 << 20;

/// A frame's header, whichever of the two encodings it came in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Header {
    pub(crate) code: i32,
    pub(crate) opaque: i32,
    pub(crate) flag: i32,
    pub(crate) version: i32,
    pub(crate) remark: Option<String>,
    pub(crate) ext: BTreeMap<String, String>,
}

impl Header {
    pub(crate) fn is_reply(&self) -> bool {
        self.flag & 1 == 1
    }

    pub(crate) fn is_oneway(&self) -> bool {
        self.flag & 2 == 2
    }

    /// The ext field `name`, which must be there.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.ext.get(name).unwrap_or_else(|| panic!("no field {name} in {self:?}"))
    }

    pub(crate) fn number(&self, name: &str) -> i64 {
        self.field(name).parse().unwrap_or_else(|e| panic!("{name} in {self:?}: {e}"))
    }
}

/// A whole frame, the length field included, and its parts.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) binary: bool,
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    pub(crate) fn parse(bytes: Vec<u8>) -> Frame {
        let descriptor = be_u32(&bytes, 4);
        let length = (descriptor & 0x00ff_ffff) as usize;
        let binary = descriptor >> 24 == 1;
        let encoded = &bytes[8..8 + length];
        let header = if binary { binary_header(encoded) } else { json_header(encoded) };
        let body = bytes[8 + length..].to_vec();
        Frame { bytes, binary, header, body }
    }

    /// Reads one frame; `None` when the peer closes between two frames.
    pub(crate) fn read(source: &mut impl Read) -> io::Result<Option<Frame>> {
        let mut length = [0; 4];
        match source.read(&mut length[..1])? {
            0 => return Ok(None),
            _ => source.read_exact(&mut length[1..])?,
        }
        let size = u32::from_be_bytes(length) as usize;
        if size > FRAME_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame of {size}")));
        }
        let mut bytes = vec![0; 4 + size];
        bytes[..4].copy_from_slice(&length);
        source.read_exact(&mut bytes[4..])?;
        Ok(Some(Frame::parse(bytes)))
    }
}

fn be_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn be_i32(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn be_i64(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn json_header(encoded: &[u8]) -> Header {
    let value: Value =
        serde_json::from_slice(encoded).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(encoded)));
    let number = |name: &str| i32::try_from(value[name].as_i64().unwrap_or(0)).unwrap();
    let ext = value["extFields"].as_object().map(|fields| {
        fields
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().map_or(value.to_string(), str::to_owned)))
            .collect()
    });
    Header {
        code: number("code"),
        opaque: number("opaque"),
        flag: number("flag"),
        version: number("version"),
        remark: value["remark"].as_str().map(str::to_owned),
        ext: ext.unwrap_or_default(),
    }
}

fn binary_header(encoded: &[u8]) -> Header {
    let text = |from: usize, length: usize| String::from_utf8(encoded[from..from + length].to_vec()).unwrap();
    let remark = be_u32(encoded, 13) as usize;
    let mut at = 17 + remark + 4;
    let mut ext = BTreeMap::new();
    while at < encoded.len() {
        let key = be_u16(encoded, at) as usize;
        let value = be_u32(encoded, at + 2 + key) as usize;
        ext.insert(text(at + 2, key), text(at + 6 + key, value));
        at += 6 + key + value;
    }
    Header {
        code: i32::from(be_u16(encoded, 0)),
        version: i32::from(be_u16(encoded, 3)),
        opaque: be_i32(encoded, 5),
        flag: be_i32(encoded, 9),
        remark: (remark > 0).then(|| text(17, remark)),
        ext,
    }
}

/// The bytes of a request with a JSON header.
pub(crate) fn request(code: i32, opaque: i32, flag: i32, ext: &Ext, body: &[u8]) -> Vec<u8> {
    request_of(VERSION, code, opaque, flag, ext, body)
}

/// The same, as a client of `version` writes it; a broker's answers may depend on that.
fn request_of(version: i32, code: i32, opaque: i32, flag: i32, ext: &Ext, body: &[u8]) -> Vec<u8> {
    let fields: serde_json::Map<String, Value> =
        ext.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let header = json!({
        "code": code, "language": "JAVA", "version": version, "opaque": opaque, "flag": flag,
        "extFields": fields, "serializeTypeCurrentRPC": "JSON",
    })
    .to_string();
    frame(header.as_bytes(), body)
}

/// A frame around any header bytes, of the JSON type.
pub(crate) fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + header.len() + body.len());
    bytes.extend_from_slice(&u32::try_from(4 + header.len() + body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(header.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(body);
    bytes
}

/// Header fields in the order in which they were written.
pub(crate) type Ext = [(&'static str, String)];

/// One connection to a server. Replies may come in any order; the caller matches them by opaque.
pub(crate) struct Connection {
    stream: TcpStream,
    opaque: i32,
    version: i32,
}

impl Connection {
    pub(crate) fn open(address: impl ToSocketAddrs) -> io::Result<Connection> {
        let address = address.to_socket_addrs()?.next().unwrap();
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(Connection { stream, opaque: 0, version: VERSION })
    }

    /// Speaks as a client of this version from now on.
    pub(crate) fn speaking(mut self, version: i32) -> Connection {
        self.version = version;
        self
    }

    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Writes a request and gives its opaque.
    pub(crate) fn ask(&mut self, code: i32, ext: &Ext, body: &[u8]) -> io::Result<i32> {
        self.opaque += 1;
        self.stream.write_all(&request_of(self.version, code, self.opaque, 0, ext, body))?;
        Ok(self.opaque)
    }

    /// Reads the next frame; an orderly close is an error of kind `UnexpectedEof`.
    pub(crate) fn next(&mut self) -> io::Result<Frame> {
        Frame::read(&mut self.stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// A request and its reply; what the server asks in between is ignored.
    pub(crate) fn call(&mut self, code: i32, ext: &Ext, body: &[u8]) -> io::Result<Frame> {
        let opaque = self.ask(code, ext, body)?;
        loop {
            let frame = self.next()?;
            if frame.header.is_reply() && frame.header.opaque == opaque {
                return Ok(frame);
            }
        }
    }
}

/// What the broker says of itself, all of one moment.
pub(crate) fn runtime_texts<const N: usize>(connection: &mut Connection, keys: [&str; N]) -> [String; N] {
    let reply = connection.call(GET_BROKER_RUNTIME_INFO, &[], &[]).unwrap();
    texts_of(&reply, keys)
}

fn texts_of<const N: usize>(reply: &Frame, keys: [&str; N]) -> [String; N] {
    let table: Value = serde_json::from_slice(&reply.body).unwrap();
    keys.map(|key| table["table"][key].as_str().unwrap_or_else(|| panic!("no {key} in {table}")).to_owned())
}

/// The same of what is a number.
pub(crate) fn runtime_numbers<const N: usize>(connection: &mut Connection, keys: [&str; N]) -> [i64; N] {
    runtime_texts(connection, keys).map(|text| text.parse().unwrap())
}

/// The same of a broker that may be too busy to say it.
pub(crate) fn runtime_numbers_told<const N: usize>(connection: &mut Connection, keys: [&str; N]) -> Option<[i64; N]> {
    let reply = connection.call(GET_BROKER_RUNTIME_INFO, &[], &[]).unwrap();
    (reply.header.code == 0).then(|| texts_of(&reply, keys).map(|text| text.parse().unwrap()))
}

/// When what is sent was born, by its sender's clock: long ago.
pub(crate) const BORN_MS: i64 = 1_700_000_000_000;

/// A message to send in its shortest form.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) queue: i32,
    pub(crate) properties: &'a str,
    pub(crate) body: &'a [u8],
}

impl Outgoing<'_> {
    /// The fields of a SEND_MESSAGE_V2 header.
    pub(crate) fn ext(&self) -> Vec<(&'static str, String)> {
        vec![
            ("a", "wire_producer".to_owned()),
            ("b", self.topic.to_owned()),
            ("c", "TBW102".to_owned()),
            ("d", "4".to_owned()),
            ("e", self.queue.to_string()),
            ("f", "0".to_owned()),
            ("g", BORN_MS.to_string()),
            ("h", "0".to_owned()),
            ("i", self.properties.to_owned()),
            ("j", "0".to_owned()),
            ("k", "false".to_owned()),
            ("m", "false".to_owned()),
        ]
    }
}

/// The fields that create a topic of so many queues.
pub(crate) fn topic(name: &str, queues: u32) -> [(&'static str, String); 8] {
    [
        ("topic", name.to_owned()),
        ("defaultTopic", "TBW102".to_owned()),
        ("readQueueNums", queues.to_string()),
        ("writeQueueNums", queues.to_string()),
        ("perm", "6".to_owned()),
        ("topicFilterType", "SINGLE_TAG".to_owned()),
        ("topicSysFlag", "0".to_owned()),
        ("order", "false".to_owned()),
    ]
}

/// The fields of a pull that brings its own subscription and does not commit.
pub(crate) fn pull(topic: &str, queue: i32, offset: i64, count: i32, suspend_ms: i64) -> Vec<(&'static str, String)> {
    let suspend = if suspend_ms > 0 { 2 } else { 0 };
    vec![
        ("consumerGroup", "wire_consumer".to_owned()),
        ("topic", topic.to_owned()),
        ("queueId", queue.to_string()),
        ("queueOffset", offset.to_string()),
        ("maxMsgNums", count.to_string()),
        ("sysFlag", (4 | suspend).to_string()),
        ("commitOffset", "0".to_owned()),
        ("suspendTimeoutMillis", suspend_ms.to_string()),
        ("subscription", "*".to_owned()),
        ("expressionType", "TAG".to_owned()),
        ("subVersion", "0".to_owned()),
    ]
}

/// A stored message, as far as the tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) topic: String,
    pub(crate) queue: i32,
    pub(crate) flag: i32,
    pub(crate) queue_offset: i64,
    pub(crate) position: i64,
    pub(crate) sys_flag: i32,
    /// Milliseconds since 1970, by the sender's clock.
    pub(crate) born: i64,
    /// Milliseconds since 1970, by the broker's clock.
    pub(crate) stored: i64,
    pub(crate) reconsume_times: i32,
    /// Where the half message is that this one commits; 0 for others.
    pub(crate) prepared: i64,
    pub(crate) body: Vec<u8>,
    pub(crate) properties: String,
}

/// How often the message of a group that comes again most often has been handed back; 0 where none has.
pub(crate) fn most_tries(connection: &mut Connection, group: &str) -> i32 {
    let (mut most, mut next) = (0, 0);
    loop {
        let reply = connection.call(PULL_MESSAGE, &pull(&format!("%RETRY%{group}"), 0, next, 32, 0), &[]).unwrap();
        let found = if reply.header.code == 0 { records(&reply.body) } else { Vec::new() };
        let Some(last) = found.last() else { return most };
        next = last.queue_offset + 1;
        most = found.iter().map(|record| record.reconsume_times).fold(most, i32::max);
    }
}

/// The records of a pull's reply.
pub(crate) fn records(mut bytes: &[u8]) -> Vec<Record> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let size = be_u32(bytes, 0) as usize;
        assert_eq!(be_u32(bytes, 4), 0xDAA3_20A7, "the magic of a version 1 record");
        let (one, rest) = bytes.split_at(size);
        bytes = rest;
        let body_length = be_u32(one, 84) as usize;
        let topic_at = 88 + body_length;
        let topic_length = one[topic_at] as usize;
        let properties_at = topic_at + 1 + topic_length;
        let properties_length = be_u16(one, properties_at) as usize;
        assert_eq!(properties_at + 2 + properties_length, size, "a record's parts fill it");
        found.push(Record {
            topic: String::from_utf8(one[topic_at + 1..properties_at].to_vec()).unwrap(),
            queue: be_i32(one, 12),
            flag: be_i32(one, 16),
            queue_offset: be_i64(one, 20),
            position: be_i64(one, 28),
            sys_flag: be_i32(one, 36),
            born: be_i64(one, 40),
            stored: be_i64(one, 56),
            reconsume_times: be_i32(one, 72),
            prepared: be_i64(one, 76),
            body: one[88..topic_at].to_vec(),
            properties: String::from_utf8(one[properties_at + 2..].to_vec()).unwrap(),
        });
    }
    found
}
