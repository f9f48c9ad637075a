//! The name servers of a deployment, and what they say of a topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ringmq_protocol::body::TopicRouteData;
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::header::GetRouteInfo;

use super::Route;
use crate::conn::{Received, Request};
use crate::driver::blocking::{Remoting, refused};
use crate::error::{BadReply, Error, Result};

/// The name servers of a deployment. They do not talk to each other; one is asked, another one when it cannot be
/// reached.
#[derive(Debug, Clone)]
pub struct NameServers {
    addrs: Arc<[String]>,
    turn: Arc<AtomicUsize>,
}

impl NameServers {
    /// From a list as RocketMQ's clients take it: `host:port;host:port` (a comma does as well).
    pub fn new(list: &str) -> Result<NameServers> {
        let addrs: Arc<[String]> =
            list.split([';', ',']).map(str::trim).filter(|addr| !addr.is_empty()).map(str::to_owned).collect();
        if addrs.is_empty() {
            return Err(Error::NoNameServer);
        }
        Ok(NameServers { addrs, turn: Arc::default() })
    }

    /// None at all: for calls that name their broker.
    pub fn none() -> NameServers {
        NameServers { addrs: Arc::new([]), turn: Arc::default() }
    }

    /// Their addresses, in the order in which they were given.
    pub fn addrs(&self) -> &[String] {
        &self.addrs
    }

    /// Asks the name server that answered last; the next one when it cannot be reached. Replies of every code are
    /// results. `timeout` is for all of them together: each has an even share of what the ones before it left.
    pub fn ask(&self, remoting: &Remoting, request: &Request, timeout: Duration) -> Result<(String, Received)> {
        self.ask_until(remoting, request, timeout, |_| true)
    }

    /// As [`ask`](NameServers::ask), and goes on while a reply is not enough. When none is, the first reply is the result.
    fn ask_until(
        &self,
        remoting: &Remoting,
        request: &Request,
        timeout: Duration,
        is_enough: impl Fn(&Received) -> bool,
    ) -> Result<(String, Received)> {
        let deadline = Instant::now() + timeout;
        let first = self.turn.load(Ordering::Relaxed);
        let mut last_error = Error::NoNameServer;
        let mut fallback = None;
        for (step, remaining) in (1..=self.addrs.len() as u32).rev().enumerate() {
            let turn = first.wrapping_add(step);
            let addr = &self.addrs[turn % self.addrs.len()];
            let share = deadline.saturating_duration_since(Instant::now()) / remaining;
            match remoting.ask(addr, request, share) {
                Ok(received) if is_enough(&received) => {
                    self.turn.store(turn, Ordering::Relaxed);
                    return Ok((addr.clone(), received));
                }
                Ok(received) => fallback = fallback.or(Some((addr.clone(), received))),
                Err(e) if e.is_unreachable() => last_error = e,
                Err(e) => return Err(e),
            }
        }
        fallback.ok_or(last_error)
    }
}

/// Asks for the route of a topic; `None` when no broker has it. A name server that was started just now may not have heard
/// of the topic yet, so the others are asked before.
pub fn fetch_route(remoting: &Remoting, names: &NameServers, topic: &str, timeout: Duration) -> Result<Option<Route>> {
    let header = GetRouteInfo { topic: topic.to_owned(), accept_standard_json_only: Some(true) };
    let code = RequestCode::GET_ROUTEINFO_BY_TOPIC;
    let has_route = |received: &Received| ResponseCode(received.command.code) == ResponseCode::SUCCESS;
    let request = Request::new(code).with_ext(header.to_ext());
    let (addr, received) = names.ask_until(remoting, &request, timeout, has_route)?;
    match ResponseCode(received.command.code) {
        ResponseCode::SUCCESS => {
            let data = TopicRouteData::parse(&received.body).map_err(|what| Error::Reply {
                addr,
                request: code,
                what: BadReply::Json(what),
            })?;
            Ok(Some(Route::new(topic, data)))
        }
        ResponseCode::TOPIC_NOT_EXIST => Ok(None),
        other => Err(refused(&addr, code, other, &received)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_name_servers() {
        assert_eq!(NameServers::new(" a:9876; b:9876;").unwrap().addrs(), ["a:9876", "b:9876"]);
        assert!(matches!(NameServers::new(" ; "), Err(Error::NoNameServer)));
    }
}
