//! Where a topic lives: name servers, the routes they give, a cache of those, and the choice of a queue to send to.
//!
//! The choice is a pure function of the route, the turn, and who failed lately; only the cache asks name servers.
//! Shared by the threads of one client.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringmq_protocol::body::{MessageQueue, TopicRouteData};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::header::GetRouteInfo;
use ringmq_protocol::names::AUTO_CREATE_TOPIC_KEY;
use ringmq_protocol::properties::perm;

use crate::conn::{Received, Request};
use crate::driver::blocking::{Remoting, lock};
use crate::error::{BadReply, Error, Result};

/// RocketMQ's `pollNameServerInterval`: a route is used for so long before it is asked for again.
pub const ROUTE_AGE_MAX: Duration = Duration::from_secs(30);

/// A broker that failed is sent to only if there is no other, for so long.
pub const AVOID_FOR: Duration = Duration::from_secs(30);

/// Routes that are kept at most; a client of more topics asks more often.
const ROUTES_MAX: usize = 65_536;

/// The id of a master among the addresses of its broker name.
const MASTER: i64 = 0;

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

    pub fn addrs(&self) -> &[String] {
        &self.addrs
    }

    /// Asks the name server that answered last; the next one when it cannot be reached. Replies of every code are
    /// results.
    pub fn ask(&self, remoting: &Remoting, request: &Request, timeout: Duration) -> Result<(String, Received)> {
        let first = self.turn.load(Ordering::Relaxed);
        let mut last_error = Error::NoNameServer;
        for step in 0..self.addrs.len() {
            let turn = first.wrapping_add(step);
            let addr = &self.addrs[turn % self.addrs.len()];
            match remoting.ask(addr, request, timeout) {
                Ok(received) => {
                    self.turn.store(turn, Ordering::Relaxed);
                    return Ok((addr.clone(), received));
                }
                Err(e) if e.is_unreachable() => last_error = e,
                Err(e) => return Err(e),
            }
        }
        Err(last_error)
    }
}

/// The route of one topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub topic: String,
    pub data: TopicRouteData,
}

impl Route {
    pub fn new(topic: &str, data: TopicRouteData) -> Route {
        Route { topic: topic.to_owned(), data }
    }

    /// The masters: (broker name, address).
    pub fn masters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.data.broker_datas.iter().filter_map(|broker| {
            let addr = broker.broker_addrs.get(&MASTER)?;
            Some((broker.broker_name.as_str(), addr.as_str()))
        })
    }

    /// The address of a broker's master.
    pub fn master(&self, broker_name: &str) -> Option<&str> {
        self.masters().find(|(name, _)| *name == broker_name).map(|(_, addr)| addr)
    }

    /// An address to read from: of the broker id that was suggested, else the master's, else any.
    pub fn reader(&self, broker_name: &str, broker_id: i64) -> Option<&str> {
        let broker = self.data.broker_datas.iter().find(|broker| broker.broker_name == broker_name)?;
        let addrs = &broker.broker_addrs;
        let addr = addrs.get(&broker_id).or_else(|| addrs.get(&MASTER)).or_else(|| addrs.values().next())?;
        Some(addr)
    }

    /// All addresses: masters and slaves.
    pub fn addrs(&self) -> impl Iterator<Item = &str> {
        self.data.broker_datas.iter().flat_map(|broker| broker.broker_addrs.values().map(String::as_str))
    }

    /// The queues that take messages: of brokers with a master and the write permission, or those of the order
    /// configuration where there is one.
    pub fn write_queues(&self) -> Vec<MessageQueue> {
        let has_master = |name: &str| self.master(name).is_some();
        if let Some(order) = self.data.order_topic_conf.as_deref().filter(|order| !order.is_empty()) {
            let parsed = order.split(';').filter_map(|entry| entry.split_once(':'));
            let counted = parsed.filter_map(|(name, count)| Some((name, count.trim().parse().ok()?)));
            return self.queues(counted.filter(|(name, _)| has_master(name)));
        }
        let writable = self.data.queue_datas.iter().filter(|queue| perm::is_writeable(queue.perm));
        let counted = writable.map(|queue| (queue.broker_name.as_str(), queue.write_queue_nums));
        self.queues(counted.filter(|(name, _)| has_master(name)))
    }

    /// The queues that can be read.
    pub fn read_queues(&self) -> Vec<MessageQueue> {
        let readable = self.data.queue_datas.iter().filter(|queue| perm::is_readable(queue.perm));
        self.queues(readable.map(|queue| (queue.broker_name.as_str(), queue.read_queue_nums)))
    }

    fn queues<'a>(&self, counted: impl Iterator<Item = (&'a str, i32)>) -> Vec<MessageQueue> {
        let of_broker = |(broker_name, count): (&'a str, i32)| {
            (0..count).map(move |queue_id| MessageQueue {
                broker_name: broker_name.to_owned(),
                queue_id,
                topic: self.topic.clone(),
            })
        };
        counted.flat_map(of_broker).collect()
    }

    /// What a producer assumes of a topic that does not exist yet: the route of the topic that new ones are modelled
    /// on, with at most `queues` queues a broker.
    fn modelled_on(mut self, topic: &str, queues: i32) -> Route {
        topic.clone_into(&mut self.topic);
        for queue in &mut self.data.queue_datas {
            let count = queue.read_queue_nums.min(queues);
            queue.read_queue_nums = count;
            queue.write_queue_nums = count;
        }
        self
    }
}

/// Asks for the route of a topic; `None` when no broker has it.
pub fn fetch_route(remoting: &Remoting, names: &NameServers, topic: &str, timeout: Duration) -> Result<Option<Route>> {
    let header = GetRouteInfo { topic: topic.to_owned(), accept_standard_json_only: Some(true) };
    let code = RequestCode::GET_ROUTEINFO_BY_TOPIC;
    let (addr, received) = names.ask(remoting, &Request::new(code).with_ext(header.to_ext()), timeout)?;
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
        other => Err(crate::driver::blocking::refused(&addr, code, other, &received)),
    }
}

/// The routes a client knows.
#[derive(Debug, Clone)]
pub struct Routes {
    remoting: Remoting,
    names: NameServers,
    timeout: Duration,
    known: Arc<Mutex<Known>>,
}

/// By topic, with the time of the answer.
type Known = HashMap<String, (Arc<Route>, Instant)>;

impl Routes {
    pub fn new(remoting: Remoting, names: NameServers, timeout: Duration) -> Routes {
        Routes { remoting, names, timeout, known: Arc::default() }
    }

    pub fn names(&self) -> &NameServers {
        &self.names
    }

    /// The route of a topic that exists. One that is too old is used all the same when no name server can be reached.
    pub fn get(&self, topic: &str) -> Result<Option<Arc<Route>>> {
        self.get_or(topic, || fetch_route(&self.remoting, &self.names, topic, self.timeout))
    }

    /// The route to send by: as [`get`](Routes::get), or the one that a new topic will have.
    pub fn to_write(&self, topic: &str, queues: i32) -> Result<Option<Arc<Route>>> {
        self.get_or(topic, || {
            if let Some(route) = fetch_route(&self.remoting, &self.names, topic, self.timeout)? {
                return Ok(Some(route));
            }
            let model = fetch_route(&self.remoting, &self.names, AUTO_CREATE_TOPIC_KEY, self.timeout)?;
            Ok(model.map(|route| route.modelled_on(topic, queues)))
        })
    }

    fn get_or(&self, topic: &str, fetch: impl FnOnce() -> Result<Option<Route>>) -> Result<Option<Arc<Route>>> {
        let known = lock(&self.known).get(topic).cloned();
        if let Some((route, since)) = &known
            && since.elapsed() < ROUTE_AGE_MAX
        {
            return Ok(Some(Arc::clone(route)));
        }
        match (fetch(), known) {
            (Ok(None), _) => {
                self.forget(topic);
                Ok(None)
            }
            (Ok(Some(route)), _) => {
                let route = Arc::new(route);
                let mut known = lock(&self.known);
                if known.len() >= ROUTES_MAX {
                    known.clear();
                }
                known.insert(topic.to_owned(), (Arc::clone(&route), Instant::now()));
                Ok(Some(route))
            }
            (Err(e), Some((route, _))) if e.is_unreachable() => {
                tracing::warn!(topic, error = %e, "no name server can be reached, the last route is used");
                Ok(Some(route))
            }
            (Err(e), _) => Err(e),
        }
    }

    /// Makes the next use of the topic ask again.
    pub fn forget(&self, topic: &str) {
        lock(&self.known).remove(topic);
    }
}

/// Whose turn it is, and who failed lately.
#[derive(Debug, Default)]
pub struct QueuePicker {
    turn: usize,
    avoided: HashMap<String, Instant>,
}

impl QueuePicker {
    /// Begins at that turn. Producers that all began with the first queue would fill it more than the others.
    pub fn starting_at(turn: usize) -> QueuePicker {
        QueuePicker { turn, avoided: HashMap::new() }
    }

    /// The next queue in turn: of a broker that neither failed lately nor was tried just now, if there is one; else
    /// of another than the one tried just now; else whichever is next.
    pub fn pick<'q>(
        &mut self,
        queues: &'q [MessageQueue],
        just_failed: Option<&str>,
        now: Instant,
    ) -> Option<&'q MessageQueue> {
        self.avoided.retain(|_, until| *until > now);
        let first = self.turn;
        self.turn = self.turn.wrapping_add(1);
        let in_turn = || (0..queues.len()).map(|step| &queues[first.wrapping_add(step) % queues.len()]);
        let other = |queue: &&MessageQueue| Some(queue.broker_name.as_str()) != just_failed;
        in_turn()
            .find(|queue| other(queue) && !self.avoided.contains_key(&queue.broker_name))
            .or_else(|| in_turn().find(other))
            .or_else(|| in_turn().next())
    }

    pub fn failed(&mut self, broker_name: &str, now: Instant) {
        self.avoided.insert(broker_name.to_owned(), now + AVOID_FOR);
    }

    pub fn succeeded(&mut self, broker_name: &str) {
        self.avoided.remove(broker_name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        let data = TopicRouteData::parse(
            br#"{"brokerDatas":[{"brokerAddrs":{0:"10.0.0.1:10911","1":"10.0.0.2:10911"},"brokerName":"a","cluster":"c"},
                {"brokerAddrs":{"1":"10.0.0.4:10911"},"brokerName":"b","cluster":"c"}],"filterServerTable":{},
                "queueDatas":[{"brokerName":"a","perm":6,"readQueueNums":3,"writeQueueNums":2,"topicSysFlag":0},
                {"brokerName":"b","perm":6,"readQueueNums":1,"writeQueueNums":1,"topicSysFlag":0},
                {"brokerName":"c","perm":2,"readQueueNums":1,"writeQueueNums":1,"topicSysFlag":0}]}"#,
        );
        Route::new("T", data.unwrap())
    }

    fn names(queues: &[MessageQueue]) -> Vec<String> {
        queues.iter().map(|queue| format!("{}/{}", queue.broker_name, queue.queue_id)).collect()
    }

    #[test]
    fn only_queues_with_a_master_and_the_permission_are_written() {
        assert_eq!(names(&route().write_queues()), ["a/0", "a/1"]);
        assert_eq!(names(&route().read_queues()), ["a/0", "a/1", "a/2", "b/0"]);
        let mut ordered = route();
        ordered.data.order_topic_conf = Some("a:4;b:2;odd".to_owned());
        assert_eq!(names(&ordered.write_queues()), ["a/0", "a/1", "a/2", "a/3"]);
    }

    #[test]
    fn reads_go_where_the_broker_suggests_if_it_can_be_found() {
        let route = route();
        assert_eq!(route.reader("a", 1), Some("10.0.0.2:10911"));
        assert_eq!(route.reader("a", 7), Some("10.0.0.1:10911"));
        assert_eq!(route.reader("b", 0), Some("10.0.0.4:10911"));
        assert_eq!(route.reader("z", 0), None);
    }

    #[test]
    fn a_new_topic_has_no_more_queues_than_the_producer_wants() {
        let modelled = route().modelled_on("New", 2);
        assert!(modelled.write_queues().iter().all(|queue| queue.topic == "New" && queue.queue_id < 2));
    }

    #[test]
    fn queues_take_turns_and_failed_brokers_are_passed_over() {
        let queue = |broker: &str, queue_id| MessageQueue { broker_name: broker.into(), queue_id, topic: "T".into() };
        let queues = [queue("a", 0), queue("a", 1), queue("b", 0), queue("b", 1)];
        let now = Instant::now();
        let mut picker = QueuePicker::default();
        let turns: Vec<_> = (0..5).map(|_| picker.pick(&queues, None, now).unwrap().clone()).collect();
        assert_eq!(names(&turns), ["a/0", "a/1", "b/0", "b/1", "a/0"]);
        assert_eq!(picker.pick(&queues, Some("a"), now).unwrap().broker_name, "b");
        picker.failed("b", now);
        for _ in 0..4 {
            assert_eq!(picker.pick(&queues, None, now).unwrap().broker_name, "a");
        }
        // Rather the one that failed earlier than the one that failed just now.
        assert_eq!(picker.pick(&queues, Some("a"), now).unwrap().broker_name, "b");
        assert_eq!(picker.pick(&queues[..1], Some("a"), now).unwrap().broker_name, "a");
        let later = now + AVOID_FOR;
        assert!((0..4).any(|_| picker.pick(&queues, None, later).unwrap().broker_name == "b"));
        assert!(picker.pick(&[], None, now).is_none());
    }

    #[test]
    fn lists_of_name_servers() {
        assert_eq!(NameServers::new(" a:9876; b:9876;").unwrap().addrs(), ["a:9876", "b:9876"]);
        assert!(matches!(NameServers::new(" ; "), Err(Error::NoNameServer)));
    }
}
