//! Where a load goes: the brokers, the queues of the topic on each, and the offsets before and after the run. Asked
//! once, through the client; not part of the measured path.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use ringmq_client::admin::{Admin, cluster_masters};
use ringmq_client::driver::blocking::{Remoting, resolve};
use ringmq_client::{NameServers, TopicConfig};
use ringmq_protocol::properties::perm;

use crate::options::{LoadArgs, TargetArgs};

const TIMEOUT: Duration = Duration::from_secs(10);

/// An acknowledged message may stay outside of the broker's maximum offset for a while: Apache's index lags a little.
const OFFSETS_ASK_AGAIN: Duration = Duration::from_millis(20);

/// The topic's part on one broker.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    /// `host:port`, as given or as the name server tells it.
    pub(crate) addr: String,
    pub(crate) socket: SocketAddr,
    pub(crate) queues: u32,
}

/// Smallest and next queue offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

#[derive(Debug)]
pub(crate) struct Target {
    admin: Admin,
    topic: String,
    pub(crate) brokers: Vec<Broker>,
}

impl Target {
    /// The brokers that take messages for the topic; it is created where it is missing.
    pub(crate) fn for_sends(load: &LoadArgs, queues: u32) -> anyhow::Result<Target> {
        let (admin, addrs) = brokers(&load.target, &load.topic)?;
        let mut target = Target { admin, topic: load.topic.clone(), brokers: Vec::new() };
        for addr in addrs {
            let there = target.writable_queues(&addr, queues)?;
            if there < queues {
                bail!(
                    "topic {} has {there} queues on {addr}, not {queues}: choose another topic, or --queues {there}",
                    load.topic
                );
            }
            target.brokers.push(Broker { socket: first_socket(&addr)?, addr, queues });
        }
        Ok(target)
    }

    /// The brokers that the topic can be read from.
    pub(crate) fn for_pulls(load: &LoadArgs) -> anyhow::Result<Target> {
        let (admin, addrs) = brokers(&load.target, &load.topic)?;
        let mut target = Target { admin, topic: load.topic.clone(), brokers: Vec::new() };
        for addr in addrs {
            let config = target.admin.topic_config(&addr, &load.topic)?;
            let config = config.with_context(|| format!("topic {} does not exist on {addr}", load.topic))?;
            target.brokers.push(Broker { socket: first_socket(&addr)?, addr, queues: count(config.read_queue_nums) });
        }
        Ok(target)
    }

    fn writable_queues(&self, addr: &str, wanted: u32) -> anyhow::Result<u32> {
        if let Some(config) = self.admin.topic_config(addr, &self.topic)? {
            return Ok(count(config.write_queue_nums));
        }
        let nums = i32::try_from(wanted)?;
        let config = TopicConfig::new(&self.topic, nums, nums, perm::READ_WRITE);
        self.admin
            .create_topic(addr, &config)
            .with_context(|| format!("topic {} does not exist on {addr} and cannot be created", self.topic))?;
        Ok(wanted)
    }

    pub(crate) fn labels(&self) -> Vec<String> {
        self.brokers.iter().map(|broker| broker.addr.clone()).collect()
    }

    /// The offsets of every queue, by broker.
    pub(crate) fn ranges(&self) -> anyhow::Result<Vec<Vec<Range>>> {
        let of_queue = |broker: &Broker, queue: u32| -> anyhow::Result<Range> {
            let min = self.admin.min_offset(&broker.addr, &self.topic, i32::try_from(queue)?)?;
            let max = self.admin.max_offset(&broker.addr, &self.topic, i32::try_from(queue)?)?;
            // An empty queue may report -1.
            Ok(Range { min: min.max(0) as u64, max: max.max(0) as u64 })
        };
        self.brokers.iter().map(|broker| (0..broker.queues).map(|queue| of_queue(broker, queue)).collect()).collect()
    }

    /// Asks for a queue's maximum offset until it is `expected`, or the time is over.
    pub(crate) fn settled_max(&self, broker: usize, queue: u32, expected: u64, by: Instant) -> anyhow::Result<u64> {
        let broker = self.brokers.get(broker).ok_or_else(|| anyhow!("no broker {broker}"))?;
        loop {
            let max = self.admin.max_offset(&broker.addr, &self.topic, i32::try_from(queue)?)?.max(0) as u64;
            if max >= expected || Instant::now() >= by {
                return Ok(max);
            }
            // Nothing tells when a broker's index has caught up: ask again.
            std::thread::sleep(OFFSETS_ASK_AGAIN);
        }
    }
}

/// Queue counts are signed on the wire.
fn count(nums: i32) -> u32 {
    u32::try_from(nums).unwrap_or(0)
}

fn brokers(target: &TargetArgs, topic: &str) -> anyhow::Result<(Admin, Vec<String>)> {
    let remoting = Remoting::default();
    if let Some(addr) = &target.broker {
        let admin = Admin::new(remoting, NameServers::none()).with_timeout(TIMEOUT);
        return Ok((admin, vec![addr.clone()]));
    }
    let names = NameServers::new(target.namesrv.as_deref().unwrap_or_default())?;
    let admin = Admin::new(remoting, names).with_timeout(TIMEOUT);
    let mut addrs: Vec<String> = match admin.topic_route(topic)? {
        Some(route) => route.masters().map(|(_, addr)| addr.to_owned()).collect(),
        None => cluster_masters(&admin.cluster_info()?).map(|(_, addr)| addr.to_owned()).collect(),
    };
    addrs.sort_unstable();
    addrs.dedup();
    if addrs.is_empty() {
        bail!("the name server knows no broker");
    }
    Ok((admin, addrs))
}

fn first_socket(addr: &str) -> anyhow::Result<SocketAddr> {
    // The load's own connections want an address; IPv4 first, as brokers store IPv4 hosts.
    let found = resolve(addr)?;
    let v4 = found.iter().find(|socket| socket.is_ipv4());
    v4.or(found.first()).copied().ok_or_else(|| anyhow!("{addr} has no address"))
}
