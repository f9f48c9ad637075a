//! Where a topic lives: the route that name servers give, and the choice of a queue to send to. `names` asks name servers,
//! `known` keeps what they said.
//!
//! The choice is a pure function of the route, the turn, and who failed lately. Shared by the threads of one client.

mod known;
mod names;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ringmq_protocol::body::{MessageQueue, TopicRouteData};
use ringmq_protocol::properties::perm;

pub use self::known::Routes;
pub use self::names::{NameServers, fetch_route};

/// RocketMQ's `pollNameServerInterval`: a route is asked for again after so long.
pub const ROUTE_AGE_MAX: Duration = Duration::from_secs(30);

/// A broker that failed is sent to only if there is no other, for so long.
pub const AVOID_FOR: Duration = Duration::from_secs(30);

/// The id of a master among the addresses of its broker name.
const MASTER: i64 = 0;

/// The route of one topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The topic.
    pub topic: String,
    /// Its queues and their brokers, as a name server told them.
    pub data: TopicRouteData,
}

impl Route {
    /// The route of that topic.
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

    /// The broker is passed over for a time.
    pub fn failed(&mut self, broker_name: &str, now: Instant) {
        self.avoided.insert(broker_name.to_owned(), now + AVOID_FOR);
    }

    /// The broker is passed over no more.
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
}
