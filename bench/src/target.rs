//! Where a load goes: the brokers, the queues of the topics on each, and the offsets before and after the run. Asked
//! once, through the client; not part of the measured path.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use ringmq_client::admin::{Admin, cluster_masters};
use ringmq_client::driver::blocking::Remoting;
use ringmq_client::driver::lookup::resolve;
use ringmq_client::{NameServers, TopicConfig};
use ringmq_protocol::body::SubscriptionGroupConfig;
use ringmq_protocol::properties::perm;

use crate::options::{LoadArgs, TargetArgs};
use crate::wire::SendShape;

const TIMEOUT: Duration = Duration::from_secs(10);

/// An acknowledged message may stay outside of the broker's maximum offset for a while: Apache's index lags a little.
const OFFSETS_ASK_AGAIN: Duration = Duration::from_millis(20);

/// Groups that are created at once.
const CREATORS: usize = 32;

/// A queue of one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueRef {
    /// Its topic's place among those of the run.
    pub(crate) topic: u32,
    pub(crate) queue: u32,
}

/// The topics' part on one broker.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    /// `host:port`, as given or as the name server tells it.
    pub(crate) addr: String,
    pub(crate) socket: SocketAddr,
    /// Topic by topic. A queue is known by its place in this list.
    pub(crate) queues: Vec<QueueRef>,
}

/// Smallest and next queue offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// A number for each queue, by broker and by the queue's place in the broker's list.
pub(crate) type ByQueue<T> = Vec<Vec<T>>;

#[derive(Debug)]
pub(crate) struct Target {
    admin: Admin,
    pub(crate) topics: Vec<String>,
    pub(crate) brokers: Vec<Broker>,
}

impl Target {
    /// The brokers that take messages for the topics; what is missing is created.
    pub(crate) fn for_sends(load: &LoadArgs, queues: u32) -> anyhow::Result<Target> {
        let found = Target::find(load, |target, addr, topic| {
            let there = target.writable_queues(addr, topic, queues)?;
            if there < queues {
                bail!(
                    "topic {topic} has {there} queues on {addr}, not {queues}: choose another topic, or --queues {there}"
                );
            }
            Ok(queues)
        });
        found.map_err(|error| with_next_step(error, &load.target))
    }

    /// The brokers that the topics can be read from.
    pub(crate) fn for_pulls(load: &LoadArgs) -> anyhow::Result<Target> {
        let found = Target::find(load, |target, addr, topic| {
            let config = target.admin.topic_config(addr, topic)?;
            let config = config.with_context(|| {
                format!(
                    "topic {topic} does not exist on {addr}: `ringmq bench send` creates it, or choose another --topic"
                )
            })?;
            if !perm::is_readable(config.perm) {
                bail!("{}", forbidden("read", topic, addr, config.perm));
            }
            Ok(count(config.read_queue_nums))
        });
        found.map_err(|error| with_next_step(error, &load.target))
    }

    /// `queues_of` says how many queues of a topic a broker has for the run.
    fn find(load: &LoadArgs, queues_of: impl Fn(&Target, &str, &str) -> anyhow::Result<u32>) -> anyhow::Result<Target> {
        let topics: Vec<String> =
            (0..load.topics()).map(|number| SendShape::topic_name(&load.topic, load.topics(), number)).collect();
        let (admin, addrs) = brokers(&load.target, &topics[0])?;
        let mut target = Target { admin, topics, brokers: Vec::new() };
        for addr in addrs {
            let mut queues = Vec::new();
            for (place, topic) in target.topics.iter().enumerate() {
                let there = queues_of(&target, &addr, topic)?;
                queues.extend((0..there).map(|queue| QueueRef { topic: place as u32, queue }));
            }
            target.brokers.push(Broker { socket: first_socket(&addr)?, addr, queues });
        }
        Ok(target)
    }

    fn writable_queues(&self, addr: &str, topic: &str, wanted: u32) -> anyhow::Result<u32> {
        if let Some(config) = self.admin.topic_config(addr, topic)? {
            if !perm::is_writeable(config.perm) {
                bail!("{}", forbidden("written", topic, addr, config.perm));
            }
            return Ok(count(config.write_queue_nums));
        }
        let nums = i32::try_from(wanted)?;
        let config = TopicConfig::new(topic, nums, nums, perm::READ_WRITE);
        self.admin.create_topic(addr, &config).with_context(|| {
            format!("topic {topic} does not exist on {addr} and cannot be created: create it first, or choose another --topic")
        })?;
        Ok(wanted)
    }

    pub(crate) fn labels(&self) -> Vec<String> {
        self.brokers.iter().map(|broker| broker.addr.clone()).collect()
    }

    /// A queue's name for people.
    pub(crate) fn label(&self, broker: usize, queue: usize) -> String {
        let Some(broker) = self.brokers.get(broker) else { return format!("a queue of broker {broker}") };
        let Some(place) = broker.queues.get(queue) else { return format!("queue {queue} on {}", broker.addr) };
        format!("queue {} of {} on {}", place.queue, self.topics[place.topic as usize], broker.addr)
    }

    /// The offsets of every queue.
    pub(crate) fn ranges(&self) -> anyhow::Result<ByQueue<Range>> {
        self.each(|addr, topic, queue| {
            let min = self.admin.min_offset(addr, topic, queue)?;
            let max = self.admin.max_offset(addr, topic, queue)?;
            // An empty queue may report -1.
            Ok(Range { min: min.max(0) as u64, max: max.max(0) as u64 })
        })
    }

    /// The next offset of every queue.
    pub(crate) fn ends(&self) -> anyhow::Result<ByQueue<u64>> {
        self.each(|addr, topic, queue| Ok(self.admin.max_offset(addr, topic, queue)?.max(0) as u64))
    }

    fn each<T>(&self, ask: impl Fn(&str, &str, i32) -> anyhow::Result<T>) -> anyhow::Result<ByQueue<T>> {
        let of_queue =
            |addr: &str, one: &QueueRef| ask(addr, &self.topics[one.topic as usize], i32::try_from(one.queue)?);
        self.brokers
            .iter()
            .map(|broker| broker.queues.iter().map(|one| of_queue(&broker.addr, one)).collect())
            .collect()
    }

    /// Makes the groups that a broker does not know.
    pub(crate) fn create_groups(&self, broker: usize, names: &[String]) -> anyhow::Result<()> {
        let addr = &self.brokers.get(broker).with_context(|| format!("no broker {broker}"))?.addr;
        let known = self.admin.groups(addr)?;
        let missing: Vec<&String> = names.iter().filter(|name| !known.contains_key(*name)).collect();
        let create = |names: &[&String]| {
            let admin = direct();
            names.iter().try_for_each(|name| {
                admin
                    .create_group(addr, &SubscriptionGroupConfig::new(name))
                    .with_context(|| format!("group {name} cannot be created on {addr}"))
            })
        };
        // A broker writes its table for each; those that come at once share a write.
        std::thread::scope(|scope| {
            let parts = missing.chunks(missing.len().div_ceil(CREATORS).max(1));
            let creators: Vec<_> = parts.map(|part| scope.spawn(move || create(part))).collect();
            creators.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a thread panicked"))?)
        })
    }

    /// Asks for a group's offset in the first topic's first queue until it is `expected`, or the time is over.
    pub(crate) fn settled_offset(
        &self,
        broker: usize,
        group: &str,
        expected: u64,
        by: Instant,
    ) -> anyhow::Result<Option<u64>> {
        let addr = &self.brokers.get(broker).with_context(|| format!("no broker {broker}"))?.addr;
        loop {
            let stored = self.admin.consumer_offset(addr, group, &self.topics[0], 0)?;
            let stored = stored.and_then(|offset| u64::try_from(offset).ok());
            if stored == Some(expected) || Instant::now() >= by {
                return Ok(stored);
            }
            // A commit without an answer may still be on its way: ask again.
            std::thread::sleep(OFFSETS_ASK_AGAIN);
        }
    }

    /// Asks for a queue's maximum offset until it is `expected`, or the time is over.
    pub(crate) fn settled_max(&self, broker: usize, queue: usize, expected: u64, by: Instant) -> anyhow::Result<u64> {
        let found = self.brokers.get(broker).and_then(|broker| Some((broker, broker.queues.get(queue)?)));
        let (broker, place) = found.ok_or_else(|| anyhow!("no queue {queue} of broker {broker}"))?;
        let topic = &self.topics[place.topic as usize];
        loop {
            let max = self.admin.max_offset(&broker.addr, topic, i32::try_from(place.queue)?)?.max(0) as u64;
            if max >= expected || Instant::now() >= by {
                return Ok(max);
            }
            // Nothing tells when a broker's index has caught up: ask again.
            std::thread::sleep(OFFSETS_ASK_AGAIN);
        }
    }
}

/// Nobody answers: what to look at first.
fn with_next_step(error: anyhow::Error, target: &TargetArgs) -> anyhow::Error {
    let unreachable = error.downcast_ref::<ringmq_client::Error>().is_some_and(ringmq_client::Error::is_unreachable);
    match &target.broker {
        _ if !unreachable => error,
        Some(addr) => {
            error.context(format!("nobody answers at {addr}: is the broker running, and is this its address"))
        }
        None => error.context("nobody answers: is the name server running, and are its brokers where it says they are"),
    }
}

fn forbidden(what: &str, topic: &str, addr: &str, has: i32) -> String {
    format!(
        "topic {topic} may not be {what} on {addr}, its permission is {has}: \
         `mqadmin updateTopicPerm -b {addr} -t {topic} -p 6` gives both, or choose another --topic"
    )
}

/// Queue counts are signed on the wire.
fn count(nums: i32) -> u32 {
    u32::try_from(nums).unwrap_or(0)
}

fn brokers(target: &TargetArgs, topic: &str) -> anyhow::Result<(Admin, Vec<String>)> {
    if let Some(addr) = &target.broker {
        return Ok((direct(), vec![addr.clone()]));
    }
    let names = NameServers::new(target.namesrv.as_deref().unwrap_or_default())?;
    let admin = Admin::new(Remoting::default(), names).with_timeout(TIMEOUT);
    let mut addrs: Vec<String> = match admin.topic_route(topic)? {
        Some(route) => route.masters().map(|(_, addr)| addr.to_owned()).collect(),
        None => cluster_masters(&admin.cluster_info()?).map(|(_, addr)| addr.to_owned()).collect(),
    };
    addrs.sort_unstable();
    addrs.dedup();
    if addrs.is_empty() {
        bail!("the name server knows no broker: start one with its address, or name the broker with --broker");
    }
    Ok((admin, addrs))
}

/// For brokers whose addresses are known.
fn direct() -> Admin {
    Admin::new(Remoting::default(), NameServers::none()).with_timeout(TIMEOUT)
}

fn first_socket(addr: &str) -> anyhow::Result<SocketAddr> {
    // The load's own connections want an address; IPv4 first, as brokers store IPv4 hosts.
    let found = resolve(addr, TIMEOUT)?;
    let v4 = found.iter().find(|socket| socket.is_ipv4());
    v4.or(found.first()).copied().ok_or_else(|| anyhow!("{addr} has no address"))
}
