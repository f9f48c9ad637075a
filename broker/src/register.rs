//! Announcing the broker to its name servers: what REGISTER_BROKER and UNREGISTER_BROKER say, when they are due, and what
//! a reply asks of the topic table. Connections and timers are the caller's. Every registration carries the whole topic
//! table: a name server keeps what it has while the version is unchanged, so a part that got lost would stay lost.

use crate::limits::REGISTER_REPLY_MAX;
use crate::topic::{TopicChange, TopicTable};
use ringmq_protocol::body::{KvTable, RegisterBodyError, RegisterBrokerBody, body_crc32};
use ringmq_protocol::header;
use ringmq_protocol::json::JsonError;
use std::cmp::{max, min};

/// The shortest and the longest time between two registrations, whatever the configuration says: RocketMQ's bounds.
pub const PERIOD_MIN_MS: i64 = 10_000;
/// See [`PERIOD_MIN_MS`].
pub const PERIOD_MAX_MS: i64 = 60_000;
/// `registerNameServerPeriod` when nothing is said.
pub const PERIOD_DEFAULT_MS: i64 = 30_000;
/// The wait after a first failure; it doubles with every further one, up to the period.
const RETRY_MIN_MS: i64 = 1_000;
/// After a change was told, further ones wait this long and share the next registration, so that a burst of new topics
/// does not rebuild and send the whole table for each.
const GATHER_MS: i64 = 50;
/// A registration without an outcome counts as failed after this: the caller's own time-out is shorter, so it was lost.
const LOST_MS: i64 = 30_000;

/// Who this broker is, as its name servers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `brokerClusterName`
    pub cluster_name: String,
    /// `brokerName`
    pub broker_name: String,
    /// `brokerId`; 0 is the master.
    pub broker_id: i64,
    /// `brokerIP1:listenPort`, where clients reach it.
    pub broker_addr: String,
    /// `brokerIP2:haListenPort`, where slaves reach it.
    pub ha_server_addr: String,
    /// How long a name server keeps a silent broker; nothing leaves it at the name server's 120 s.
    pub heartbeat_timeout_ms: Option<i64>,
    /// `compressedRegister`
    pub compressed: bool,
}

impl Identity {
    /// REGISTER_BROKER: the header and the body.
    pub fn register(&self, topics: &TopicTable) -> Result<(header::RegisterBroker, Vec<u8>), RegisterBodyError> {
        let body =
            RegisterBrokerBody { topic_config_serialize_wrapper: topics.registered(), ..RegisterBrokerBody::default() };
        let body = if self.compressed { body.pack(true)? } else { body.to_vec() };
        let header = header::RegisterBroker {
            broker_name: self.broker_name.clone(),
            broker_addr: self.broker_addr.clone(),
            cluster_name: self.cluster_name.clone(),
            ha_server_addr: self.ha_server_addr.clone(),
            broker_id: self.broker_id,
            heartbeat_timeout_millis: self.heartbeat_timeout_ms,
            enable_acting_master: Some(false),
            compressed: self.compressed,
            body_crc32: body_crc32(&body),
            zone_name: None,
        };
        Ok((header, body))
    }

    /// UNREGISTER_BROKER.
    pub fn unregister(&self) -> header::BrokerIdentity {
        header::BrokerIdentity {
            broker_name: self.broker_name.clone(),
            broker_addr: self.broker_addr.clone(),
            cluster_name: self.cluster_name.clone(),
            broker_id: self.broker_id,
        }
    }
}

/// Why a name server's reply was not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The body is longer than any order-topic table.
    #[error("the reply has {0} bytes, more than {REGISTER_REPLY_MAX}")]
    TooLong(usize),
    /// The body is not a table of keys and values.
    #[error(transparent)]
    Json(#[from] JsonError),
}

/// The body of a reply: the name server's ordered topics. Those that exist here become ordered.
pub fn apply_reply(body: &[u8], topics: &mut TopicTable, now_ms: i64) -> Result<Vec<TopicChange>, ReplyError> {
    if body.len() > REGISTER_REPLY_MAX {
        return Err(ReplyError::TooLong(body.len()));
    }
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let ordered = KvTable::parse(body)?.table;
    Ok(topics.mark_ordered(ordered.keys().map(String::as_str), now_ms))
}

/// A name server, by its place in the list given to [`Schedule::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameServer(pub usize);

/// What the caller is to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send a registration to each of these and report with [`Schedule::done`].
    Register(Vec<NameServer>),
    /// Nothing before this time, unless something changes or an outcome comes in.
    Wait(i64),
    /// There is no name server to register with.
    Idle,
}

#[derive(Debug, Clone, Copy)]
struct Server {
    due_ms: i64,
    sent_ms: Option<i64>,
    /// When the last registration was begun, whatever came of it.
    begun_ms: i64,
    failures: u32,
    /// The table changed after the registration under way was built.
    stale: bool,
}

/// When to register with which name server.
#[derive(Debug)]
pub struct Schedule {
    servers: Vec<Server>,
    period_ms: i64,
}

impl Server {
    /// When a change that is known at `now_ms` may be told.
    fn change_due(&self, now_ms: i64) -> i64 {
        max(now_ms, self.begun_ms.saturating_add(GATHER_MS))
    }
}

impl Schedule {
    /// The schedule of a broker that starts: every name server is due at once.
    pub fn new(servers: usize, period_ms: i64, now_ms: i64) -> Self {
        let server = Server { due_ms: now_ms, sent_ms: None, begun_ms: i64::MIN, failures: 0, stale: false };
        Self { servers: vec![server; servers], period_ms: period_ms.clamp(PERIOD_MIN_MS, PERIOD_MAX_MS) }
    }

    /// The topic table or the broker's permission changed: all name servers are to learn it at once.
    pub fn changed(&mut self, now_ms: i64) {
        for server in &mut self.servers {
            match server.sent_ms {
                Some(_) => server.stale = true,
                None => server.due_ms = min(server.due_ms, server.change_due(now_ms)),
            }
        }
    }

    /// A connection to a name server was opened anew. It forgot this broker when the old one closed.
    pub fn reconnected(&mut self, server: NameServer, now_ms: i64) {
        if let Some(server) = self.servers.get_mut(server.0) {
            match server.sent_ms {
                Some(_) => server.stale = true,
                None => server.due_ms = min(server.due_ms, now_ms),
            }
        }
    }

    /// What is to be done now. Name servers in [`Action::Register`] count as asked from here on.
    pub fn next(&mut self, now_ms: i64) -> Action {
        if self.servers.is_empty() {
            return Action::Idle;
        }
        let mut due = Vec::new();
        let mut wait_ms = i64::MAX;
        for index in 0..self.servers.len() {
            let lost = self.servers[index].sent_ms.is_some_and(|sent| now_ms.saturating_sub(sent) >= LOST_MS);
            if lost {
                self.done(NameServer(index), false, now_ms);
            }
            let server = &mut self.servers[index];
            match server.sent_ms {
                Some(sent) => wait_ms = min(wait_ms, sent.saturating_add(LOST_MS)),
                None if server.due_ms <= now_ms => {
                    server.sent_ms = Some(now_ms);
                    server.begun_ms = now_ms;
                    server.stale = false;
                    due.push(NameServer(index));
                }
                None => wait_ms = min(wait_ms, server.due_ms),
            }
        }
        if due.is_empty() { Action::Wait(wait_ms) } else { Action::Register(due) }
    }

    /// The outcome of a registration.
    pub fn done(&mut self, server: NameServer, succeeded: bool, now_ms: i64) {
        let period_ms = self.period_ms;
        let Some(server) = self.servers.get_mut(server.0) else { return };
        if server.sent_ms.take().is_none() {
            return;
        }
        server.failures = if succeeded { 0 } else { server.failures.saturating_add(1) };
        let is_stale = std::mem::take(&mut server.stale);
        server.due_ms = match server.failures {
            0 if is_stale => server.change_due(now_ms),
            0 => now_ms.saturating_add(period_ms),
            failures => now_ms.saturating_add(min(RETRY_MIN_MS << min(failures - 1, 10), period_ms)),
        };
    }
}

#[cfg(test)]
mod tests;
