//! What differs from run to run is replaced by what it means: an id by the message that it names, an address by who
//! listens there, a time by the word.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Members whose values are how long something took, in milliseconds.
const DURATIONS: [&str; 2] = ["spentTimeMills", "delayTime"];
/// Members whose values are points in time.
const TIMES: [&str; 20] = [
    "bornTimestamp",
    "storeTimestamp",
    "timestamp",
    "lastTimestamp",
    "lastUpdateTimestamp",
    "consumeTimeStamp",
    "maxTimeStamp",
    "minTimeStamp",
    "indexLastUpdateTimestamp",
    "CONSUME_START_TIME",
    "BORN_TIMESTAMP",
    "TIMER_DELIVER_MS",
    "TIMER_OUT_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_DEQUEUE_MS",
    "PUSH_REPLY_TIME",
    "ARRIVE_TIME",
    "REPLY_MESSAGE_ARRIVE_TIME",
    "SEND_MESSAGE_TIME",
    "subVersion",
];
/// Members whose values are message ids, or several with commas between them.
const IDS: [&str; 11] = [
    "msgId",
    "offsetMsgId",
    "transactionId",
    "originMsgId",
    "batchUniqId",
    "UNIQ_KEY",
    "ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_MESSAGE_ID",
    "__transactionId__",
    "CORRELATION_ID",
    "id",
];
/// Members whose values are places in the log.
const POSITIONS: [&str; 5] = ["position", "prepared", "commitLogOffset", "indexLastUpdatePhyoffset", "physicOffset"];
/// Of these, the one in which 0 is a place; in the others it stands for none.
const FROM_ZERO: &str = "position";
/// Members whose values name a client.
const CLIENTS: [&str; 5] = ["REPLY_TO_CLIENT", "clientId", "clientAddr", "clientID", "bornHost"];
/// A number with so many digits is a time, wherever it stands.
const TIME_DIGITS: usize = 12;

fn is_position(member: &str, value: i64) -> bool {
    POSITIONS.contains(&member) && (value > 0 || value == 0 && member == FROM_ZERO)
}

/// Every address that is left is a client's.
fn without_ports(text: &str) -> String {
    let mut parts = text.split("127.0.0.1:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // Java writes an address without a name with a slash before it.
        out.truncate(out.trim_end_matches('/').len());
        out.push_str("{client}");
        out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    out
}

/// Decodes base64 with `-` and `_` instead of `+` and `/`; what is none of its digits is passed over.
fn base64url(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bits, mut held, mut out) = (0_u32, 0, Vec::new());
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
        bits = bits << 6 | u32::try_from(digit).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held & 0xff) as u8);
        }
    }
    out
}

/// The values that have been seen, and what stands for each.
#[derive(Default)]
pub(crate) struct Tokens {
    known: BTreeMap<String, String>,
    /// How many values are called by one name; a copy of a message has another place than the message.
    named: BTreeMap<String, usize>,
    addresses: Vec<(String, &'static str)>,
    /// What an offset message id of the broker begins with: its address in hexadecimal.
    host: String,
}

impl Tokens {
    pub(crate) fn new(broker: &str, namesrv: &str) -> Tokens {
        let port: u32 = broker.rsplit(':').next().unwrap().parse().unwrap();
        let addresses = vec![(broker.to_owned(), "{broker}"), (namesrv.to_owned(), "{namesrv}")];
        Tokens { known: BTreeMap::new(), named: BTreeMap::new(), addresses, host: format!("7F000001{port:08X}") }
    }

    /// The offset message id of the record at `position`.
    pub(crate) fn offset_id(&self, position: i64) -> String {
        format!("{}{position:016X}", self.host)
    }

    /// The position that an offset message id tells, when it is one of the broker's.
    pub(crate) fn position_of(&self, id: &str) -> Option<i64> {
        i64::from_str_radix(id.strip_prefix(&self.host).filter(|rest| rest.len() == 16)?, 16).ok()
    }

    /// What stands for the id `value`, which is called after `name` when it is new.
    fn id(&mut self, value: &str, name: &str) -> String {
        if value.contains(',') {
            let ids = value.split(',').enumerate();
            return ids.map(|(at, id)| self.id(id, &format!("{name} #{at}"))).collect::<Vec<_>>().join(",");
        }
        // Short ones are given by the test itself, or are constants.
        if value.len() < 20 {
            return value.to_owned();
        }
        if let Some(position) = self.position_of(value) {
            let token = self.position(position, name);
            return token.replacen("{position", "{offset id", 1);
        }
        self.called(value, &format!("id of {name}"))
    }

    fn position(&mut self, value: i64, name: &str) -> String {
        self.called(&format!("position {value}"), &format!("position of {name}"))
    }

    fn called(&mut self, value: &str, name: &str) -> String {
        if let Some(token) = self.known.get(value) {
            return token.clone();
        }
        let count = self.named.entry(name.to_owned()).or_default();
        *count += 1;
        let token = if *count == 1 { format!("{{{name}}}") } else { format!("{{{name}, copy {count}}}") };
        self.known.insert(value.to_owned(), token.clone());
        token
    }

    /// `value`, a member called `member`, of what was observed as `name`.
    pub(crate) fn normal(&mut self, member: &str, value: &Value, name: &str) -> Value {
        match value {
            Value::Object(members) => {
                let normal = |(member, value): (&String, &Value)| (self.text(member), self.normal(member, value, name));
                // Java writes some times a second time, as text, and reads them nowhere.
                let members = members.iter().filter(|(member, _)| !member.ends_with("StampStr"));
                Value::Object(members.map(normal).collect::<Map<_, _>>())
            }
            Value::Array(items) => items.iter().map(|item| self.normal(member, item, name)).collect(),
            Value::Null | Value::Bool(_) => value.clone(),
            Value::Number(_) if member.ends_with("Tps") => "{rate}".into(),
            Value::Number(number) => self.number(member, number.as_i64(), name).unwrap_or_else(|| value.clone()),
            Value::String(text) => self.string(member, text, name).into(),
        }
    }

    fn number(&mut self, member: &str, value: Option<i64>, name: &str) -> Option<Value> {
        let value = value?;
        if TIMES.contains(&member) && value > 0 || DURATIONS.contains(&member) {
            return Some("{time}".into());
        }
        if is_position(member, value) {
            return Some(self.position(value, name).into());
        }
        None
    }

    fn string(&mut self, member: &str, text: &str, name: &str) -> String {
        if TIMES.contains(&member) && text.parse().is_ok_and(|time: i64| time > 0) {
            return "{time}".to_owned();
        }
        if CLIENTS.contains(&member) {
            return "{client}".to_owned();
        }
        if let Ok(position) = text.parse()
            && is_position(member, position)
        {
            return self.position(position, name);
        }
        let is_offset_id = self.position_of(text).is_some();
        if IDS.contains(&member) || is_offset_id {
            return self.id(text, name);
        }
        if member == "recallHandle" {
            // Words with spaces between them: a version, the topic, the broker, a time, an id.
            let words = String::from_utf8(base64url(text)).unwrap();
            let words =
                words.split(' ').map(|word| if word.len() == 32 { self.id(word, name) } else { self.text(word) });
            return format!("base64url of `{}`", words.collect::<Vec<_>>().join(" "));
        }
        // Where in Java's libraries an exception came from changes with each of their versions.
        if member == "remark" && text.starts_with("java.") {
            return format!("{{{}}}", text.split([':', ',']).next().unwrap_or(text));
        }
        // Apache adds where to read more, and what a parser would have liked better.
        let text = if member.ends_with("emark") { text.lines().next().unwrap_or(text).trim_end() } else { text };
        self.text(text)
    }

    /// Free text: every address, known id and long number in it is replaced.
    fn text(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (address, token) in &self.addresses {
            out = out.replace(address, token);
        }
        out = without_ports(&out);
        for (value, token) in &self.known {
            if let Some(position) = value.strip_prefix("position ") {
                let id = self.offset_id(position.parse().unwrap());
                out = out.replace(&id, &token.replacen("{position", "{offset id", 1));
            } else if value.len() >= 20 {
                out = out.replace(value, token);
            }
        }
        let mut clean = String::with_capacity(out.len());
        let mut digits = String::new();
        for c in out.chars().chain(std::iter::once('\0')) {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            clean.push_str(if digits.len() >= TIME_DIGITS { "{number}" } else { &digits });
            digits.clear();
            if c != '\0' {
                clean.push(c);
            }
        }
        clean
    }
}
