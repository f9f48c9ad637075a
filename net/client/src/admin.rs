//! Administration: one typed call a request code. What asks name servers is in `admin/namesrv.rs`, what asks one broker
//! in `admin/broker.rs`, and what concerns topics, queues, groups and single messages there in files of their own.
//!
//! Calls name the broker by its address, because most of what tools do is done broker by broker.

mod broker;
mod find;
mod group;
mod namesrv;
mod queue;
mod topic;

use std::time::Duration;

pub use ringmq_protocol::body::{ClusterInfo, MessageQueue, SubscriptionGroupConfig, TopicConfig};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::json::JsonError;

pub use self::namesrv::cluster_masters;
pub(crate) use self::queue::queue_offset;
use crate::conn::{Received, Request};
use crate::driver::blocking::{Remoting, refused};
use crate::error::{BadReply, Error, Result};
use crate::route::NameServers;

/// RocketMQ's tools wait so long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks and changes what a deployment is. Cheap to clone; the clones share the connections.
#[derive(Debug, Clone)]
pub struct Admin {
    remoting: Remoting,
    names: NameServers,
    timeout: Duration,
}

impl Admin {
    /// Calls over those connections, to brokers that those name servers know; each may take 5 s.
    pub fn new(remoting: Remoting, names: NameServers) -> Admin {
        Admin { remoting, names, timeout: TIMEOUT }
    }

    /// The same with another time for each call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Admin {
        self.timeout = timeout;
        self
    }

    /// The name servers that it asks.
    pub fn names(&self) -> &NameServers {
        &self.names
    }

    /// Asks one server; anything but success is an error.
    fn call(&self, addr: &str, request: &Request) -> Result<Received> {
        self.remoting.call(addr, request, self.timeout)
    }

    /// As `call`, but `absent` is an answer and not an error.
    fn call_or(&self, addr: &str, request: &Request, absent: &[ResponseCode]) -> Result<Option<Received>> {
        let received = self.remoting.ask(addr, request, self.timeout)?;
        let code = ResponseCode(received.command.code);
        match code {
            ResponseCode::SUCCESS => Ok(Some(received)),
            code if absent.contains(&code) => Ok(None),
            code => Err(refused(addr, request.code, code, &received)),
        }
    }

    /// Asks whichever name server answers.
    fn ask_names(&self, request: &Request) -> Result<(String, Received)> {
        let (addr, received) = self.names.ask(&self.remoting, request, self.timeout)?;
        match ResponseCode(received.command.code) {
            ResponseCode::SUCCESS => Ok((addr, received)),
            code => Err(refused(&addr, request.code, code, &received)),
        }
    }

    /// Tells every name server, because they do not tell each other. All are told even if one fails; the first error
    /// is the result.
    fn tell_names(&self, request: &Request) -> Result<Vec<Received>> {
        if self.names.addrs().is_empty() {
            return Err(Error::NoNameServer);
        }
        let answers: Vec<Result<Received>> = self.names.addrs().iter().map(|addr| self.call(addr, request)).collect();
        answers.into_iter().collect()
    }
}

/// Reads a JSON body; `parse` is the typed body's own.
fn body<T>(
    addr: &str,
    request: RequestCode,
    received: &Received,
    parse: impl FnOnce(&[u8]) -> Result<T, JsonError>,
) -> Result<T> {
    parse(&received.body).map_err(|e| Error::Reply { addr: addr.to_owned(), request, what: e.into() })
}

pub(crate) fn number(addr: &str, request: RequestCode, received: &Received, field: &'static str) -> Result<i64> {
    let missing = || Error::Reply { addr: addr.to_owned(), request, what: BadReply::Field(field) };
    received.number(field).ok_or_else(missing)
}

/// Java's properties text, one `key=value` a line, in its order. Escapes stay as they are: RocketMQ writes none.
fn properties_text(received: &Received) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&received.body);
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

fn to_properties_text(changes: &[(&str, &str)]) -> String {
    changes.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}
