//! The table of brokers and topics: registration, signs of life, routes, write permission.
//!
//! It is owned by one shard, does no I/O and takes the time as an argument. It follows the rules of RocketMQ's name
//! server, with one that RocketMQ leaves open: an address is one broker, so the table never holds an address that
//! nothing can expire. It does not know request codes or who may change what.
//!
//! Three invariants, which the tests hold after every step: an address in `brokers` has exactly one entry in `live`
//! and the reverse; no broker name is without an address; no topic names a broker that is not in `brokers`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ringmq_protocol::body::DataVersion;
use ringmq_protocol::properties::{perm, topic_flag};
use thiserror::Error;

use crate::limits::{BROKERS_MAX, NAME_BYTES_MAX, TIMEOUT_MS_MAX, TOPICS_MAX, TOPICS_PER_BROKER_MAX};

/// The broker id of a master.
pub const MASTER_ID: i64 = 0;
/// How long a broker counts as alive without a sign of life, unless it asked for another time: RocketMQ's 120 s.
pub const TIMEOUT_MS: u64 = 120_000;

/// A connection, as the program numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

/// The queues of a topic at one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queues {
    pub read: i32,
    pub write: i32,
    pub perm: i32,
    pub sys_flag: i32,
}

/// The brokers of one name: a master and its slaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSet {
    pub cluster: String,
    pub addresses: BTreeMap<i64, String>,
    pub acting_master: bool,
    pub zone: Option<String>,
}

/// What a broker says of itself when it registers.
#[derive(Debug, Clone)]
pub struct Registration {
    pub cluster: String,
    pub name: String,
    pub address: String,
    pub id: i64,
    pub ha_address: String,
    /// How long it wants to count as alive.
    pub timeout_ms: Option<i64>,
    /// Old brokers do not say.
    pub acting_master: Option<bool>,
    pub zone: Option<String>,
    pub version: DataVersion,
    pub topics: Vec<(String, Queues)>,
}

/// What a slave is told about its master. Empty for a master, and while there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    pub master_address: Option<String>,
    pub master_ha_address: Option<String>,
    /// Whether the broker was not in the table before.
    pub is_new: bool,
    /// Whether the table holds a younger state under this id at another address, so that nothing was changed.
    pub is_stale: bool,
}

/// Why a registration is refused. Nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotRegistered {
    #[error("register broker failed: {0} is empty")]
    Empty(&'static str),
    #[error("register broker failed: {0} is longer than {NAME_BYTES_MAX} bytes")]
    Long(&'static str),
    /// Such a broker announces a topic that it just created; its whole table has to come first.
    #[error("register broker failed: the first registration of a broker has to carry its whole topic table")]
    SingleTopic,
    #[error("register broker failed: {0} topics, at most {TOPICS_PER_BROKER_MAX} are accepted")]
    TooManyTopics(usize),
    #[error("register broker failed: the table of topics is full ({TOPICS_MAX})")]
    TopicsFull,
    #[error("register broker failed: the table of brokers is full ({BROKERS_MAX})")]
    BrokersFull,
}

/// A broker that left the table, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    pub cluster: String,
    pub name: String,
    pub id: i64,
    pub address: String,
}

/// Where a topic's queues are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'a> {
    pub queues: Vec<(&'a str, Queues)>,
    pub brokers: Vec<(&'a str, &'a BrokerSet)>,
}

/// Which topics a list by unit names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitTopics {
    Unit,
    UnitSub,
    UnitSubNotUnit,
}

#[derive(Debug)]
struct Live {
    name: String,
    id: i64,
    peer: PeerId,
    heard_ms: u64,
    timeout_ms: u64,
    version: DataVersion,
    ha_address: String,
}

/// The table.
#[derive(Debug, Default)]
pub struct RouteTable {
    brokers: BTreeMap<String, BrokerSet>,
    topics: BTreeMap<String, BTreeMap<String, Queues>>,
    /// By address.
    live: HashMap<String, Live>,
    /// Whether a topic that a registration does not name any more is taken out.
    delete_unnamed_topics: bool,
}

impl RouteTable {
    pub fn new(delete_unnamed_topics: bool) -> Self {
        Self { delete_unnamed_topics, ..Self::default() }
    }

    pub fn set_delete_unnamed_topics(&mut self, delete: bool) {
        self.delete_unnamed_topics = delete;
    }

    /// Takes a broker in, or renews it. What it says replaces what it said before; a broker of another name or id
    /// that had its address is taken out.
    pub fn register(&mut self, broker: Registration, peer: PeerId, now_ms: u64) -> Result<Registered, NotRegistered> {
        self.check(&broker)?;
        if self.is_stale(&broker) {
            self.remove(&broker.address);
            return Ok(Registered { is_stale: true, ..Registered::default() });
        }
        let previous = self.live.get(&broker.address).filter(|live| live.name == broker.name && live.id == broker.id);
        let is_changed = previous.is_none_or(|live| live.version != broker.version);
        let is_new = previous.is_none();
        if is_new {
            self.make_way(&broker);
        }
        let master = if broker.id == MASTER_ID { None } else { self.master_of(&broker.name) };
        let registered = Registered {
            master_address: master.map(|(address, _)| address.to_owned()),
            master_ha_address: master.map(|(_, live)| live.ha_address.clone()),
            is_new,
            is_stale: false,
        };
        let is_first = self.enter(&broker);
        self.take_topics(&broker, is_first || is_changed);
        let timeout_ms = broker.timeout_ms.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0);
        let live = Live {
            name: broker.name,
            id: broker.id,
            peer,
            heard_ms: now_ms,
            timeout_ms: timeout_ms.unwrap_or(TIMEOUT_MS).min(TIMEOUT_MS_MAX),
            version: broker.version,
            ha_address: broker.ha_address,
        };
        self.live.insert(broker.address, live);
        Ok(registered)
    }

    fn check(&self, broker: &Registration) -> Result<(), NotRegistered> {
        let names = [("brokerName", &broker.name), ("brokerAddr", &broker.address), ("clusterName", &broker.cluster)];
        for (what, name) in names {
            if name.is_empty() {
                return Err(NotRegistered::Empty(what));
            }
            if name.len() > NAME_BYTES_MAX {
                return Err(NotRegistered::Long(what));
            }
        }
        let others =
            [("haServerAddr", broker.ha_address.as_str()), ("__ZONE_NAME", broker.zone.as_deref().unwrap_or_default())];
        if let Some((what, _)) = others.into_iter().find(|(_, text)| text.len() > NAME_BYTES_MAX) {
            return Err(NotRegistered::Long(what));
        }
        if broker.topics.len() > TOPICS_PER_BROKER_MAX {
            return Err(NotRegistered::TooManyTopics(broker.topics.len()));
        }
        if broker.topics.iter().any(|(topic, _)| topic.is_empty()) {
            return Err(NotRegistered::Empty("a topic's name"));
        }
        if broker.topics.iter().any(|(topic, _)| topic.len() > NAME_BYTES_MAX) {
            return Err(NotRegistered::Long("a topic's name"));
        }
        let id_is_known = self.brokers.get(&broker.name).is_some_and(|set| set.addresses.contains_key(&broker.id));
        if !id_is_known && broker.topics.len() == 1 {
            return Err(NotRegistered::SingleTopic);
        }
        if !self.live.contains_key(&broker.address) && self.live.len() >= BROKERS_MAX {
            return Err(NotRegistered::BrokersFull);
        }
        // Counting only what a full table lacks keeps the usual registration from looking every topic up twice.
        if self.topics.len() + broker.topics.len() > TOPICS_MAX {
            let new: BTreeSet<&str> = broker
                .topics
                .iter()
                .map(|(topic, _)| topic.as_str())
                .filter(|t| !self.topics.contains_key(*t))
                .collect();
            if self.topics.len() + new.len() > TOPICS_MAX {
                return Err(NotRegistered::TopicsFull);
            }
        }
        Ok(())
    }

    /// A broker that was replaced at its id may still be running; the younger state wins.
    fn is_stale(&self, broker: &Registration) -> bool {
        let holder = self.brokers.get(&broker.name).and_then(|set| set.addresses.get(&broker.id));
        let other = holder.filter(|holder| **holder != broker.address).and_then(|holder| self.live.get(holder));
        other.is_some_and(|other| other.version.state_version > broker.version.state_version)
    }

    /// Takes out whoever holds the address under another name or id, and whoever holds the id at another address.
    /// The topics of a broker that only changes its id or its address stay.
    fn make_way(&mut self, broker: &Registration) {
        let held = self.live.get(&broker.address).map(|live| live.name.clone());
        if held.as_ref().is_some_and(|name| *name != broker.name) {
            self.remove(&broker.address);
        } else if held.is_some() {
            self.live.remove(&broker.address);
        }
        let Some(set) = self.brokers.get_mut(&broker.name) else { return };
        set.addresses.retain(|_, address| *address != broker.address);
        if let Some(replaced) = set.addresses.remove(&broker.id) {
            self.live.remove(&replaced);
        }
    }

    /// Puts the address into its set; says whether the id was not there.
    fn enter(&mut self, broker: &Registration) -> bool {
        let set = self.brokers.entry(broker.name.clone()).or_insert_with(|| BrokerSet {
            cluster: broker.cluster.clone(),
            addresses: BTreeMap::new(),
            acting_master: false,
            zone: None,
        });
        // Master and slaves agree in a sound deployment; where they do not, the master is believed.
        if broker.id == MASTER_ID || !set.addresses.contains_key(&MASTER_ID) {
            set.cluster.clone_from(&broker.cluster);
        }
        set.acting_master = broker.acting_master.unwrap_or(false);
        set.zone.clone_from(&broker.zone);
        set.addresses.insert(broker.id, broker.address.clone()).is_none()
    }

    /// Topics are taken from the master; in acting-master mode also from the lowest slave, without write permission.
    fn take_topics(&mut self, broker: &Registration, is_changed: bool) {
        let Some(set) = self.brokers.get(&broker.name) else { return };
        let is_lowest = set.addresses.keys().next() == Some(&broker.id);
        let is_prime_slave = broker.acting_master.is_some() && broker.id != MASTER_ID && is_lowest;
        if broker.id != MASTER_ID && !is_prime_slave {
            return;
        }
        if self.delete_unnamed_topics {
            let named: BTreeSet<&str> = broker.topics.iter().map(|(topic, _)| topic.as_str()).collect();
            self.topics.retain(|topic, queues| {
                if !named.contains(topic.as_str()) {
                    queues.remove(&broker.name);
                }
                !queues.is_empty()
            });
        }
        for (topic, queues) in &broker.topics {
            let mut queues = *queues;
            if is_prime_slave && set.acting_master {
                queues.perm &= !perm::WRITE;
            }
            match self.topics.get_mut(topic) {
                Some(at) if is_changed || !at.contains_key(&broker.name) => {
                    at.insert(broker.name.clone(), queues);
                }
                // The permission may have been changed here, and the broker has nothing newer to say.
                Some(_) => {}
                None => {
                    self.topics.insert(topic.clone(), BTreeMap::from([(broker.name.clone(), queues)]));
                }
            }
        }
    }

    fn master_of(&self, name: &str) -> Option<(&str, &Live)> {
        let address = self.brokers.get(name)?.addresses.get(&MASTER_ID)?;
        Some((address, self.live.get(address)?))
    }

    /// Takes a broker out at its own wish. A name that does not go with the address means nothing.
    pub fn unregister(&mut self, name: &str, address: &str) -> Option<Gone> {
        self.live.get(address).filter(|live| live.name == name)?;
        self.remove(address)
    }

    /// Takes out every broker that registered over this connection last.
    pub fn on_connection_closed(&mut self, peer: PeerId) -> Vec<Gone> {
        self.remove_where(|live| live.peer == peer)
    }

    /// Takes out every broker that gave no sign of life for its time.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Gone> {
        self.remove_where(|live| live.heard_ms.saturating_add(live.timeout_ms) < now_ms)
    }

    fn remove_where(&mut self, is_gone: impl Fn(&Live) -> bool) -> Vec<Gone> {
        let mut addresses: Vec<String> =
            self.live.iter().filter(|(_, live)| is_gone(live)).map(|(address, _)| address.clone()).collect();
        addresses.sort_unstable();
        addresses.iter().filter_map(|address| self.remove(address)).collect()
    }

    fn remove(&mut self, address: &str) -> Option<Gone> {
        let Live { name, id, .. } = self.live.remove(address)?;
        let set = self.brokers.get_mut(&name)?;
        set.addresses.remove(&id);
        let cluster = set.cluster.clone();
        if set.addresses.is_empty() {
            self.brokers.remove(&name);
            self.topics.retain(|_, queues| {
                queues.remove(&name);
                !queues.is_empty()
            });
        } else if set.acting_master && !set.addresses.contains_key(&MASTER_ID) {
            // The slaves go on serving what is stored, and nobody writes until a master returns.
            for queues in self.topics.values_mut().filter_map(|queues| queues.get_mut(&name)) {
                queues.perm &= !perm::WRITE;
            }
        }
        Some(Gone { cluster, name, id, address: address.to_owned() })
    }

    /// Whether a broker's topic table differs from what it registered, with the version that is registered. If it
    /// does not differ, this was a sign of life.
    pub fn query_version(
        &mut self,
        name: &str,
        address: &str,
        version: DataVersion,
        now_ms: u64,
    ) -> (bool, Option<DataVersion>) {
        let Some(live) = self.live.get_mut(address).filter(|live| live.name == name) else { return (true, None) };
        if live.version == version {
            live.heard_ms = live.heard_ms.max(now_ms);
        }
        (live.version != version, Some(live.version))
    }

    /// A sign of life; of a broker that is not registered it means nothing.
    pub fn heartbeat(&mut self, name: &str, address: &str, now_ms: u64) -> bool {
        let live = self.live.get_mut(address).filter(|live| live.name == name);
        live.map(|live| live.heard_ms = live.heard_ms.max(now_ms)).is_some()
    }

    /// The route of a topic, if a broker serves it.
    pub fn route(&self, topic: &str) -> Option<Route<'_>> {
        let at = self.topics.get(topic)?;
        let brokers = at.keys().filter_map(|name| self.brokers.get_key_value(name));
        Some(Route {
            queues: at.iter().map(|(name, queues)| (name.as_str(), *queues)).collect(),
            brokers: brokers.map(|(name, set)| (name.as_str(), set)).collect(),
        })
    }

    /// All brokers by name.
    pub fn brokers(&self) -> impl Iterator<Item = (&str, &BrokerSet)> {
        self.brokers.iter().map(|(name, set)| (name.as_str(), set))
    }

    /// The brokers of one name, if the name belongs to that cluster.
    pub fn members(&self, cluster: &str, name: &str) -> Option<&BrokerSet> {
        self.brokers.get(name).filter(|set| set.cluster == cluster)
    }

    /// The names of each cluster's brokers.
    pub fn clusters(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut clusters: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, set) in &self.brokers {
            clusters.entry(&set.cluster).or_default().push(name);
        }
        clusters
    }

    /// All topics, in order.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(String::as_str)
    }

    /// The topics that some broker of the cluster serves.
    pub fn topics_of_cluster<'a>(&'a self, cluster: &'a str) -> impl Iterator<Item = &'a str> {
        let in_cluster = move |name: &String| self.brokers.get(name).is_some_and(|set| set.cluster == cluster);
        self.topics.iter().filter(move |(_, at)| at.keys().any(in_cluster)).map(|(topic, _)| topic.as_str())
    }

    /// Topics by the sysFlag of their first queues.
    pub fn unit_topics(&self, wanted: UnitTopics) -> impl Iterator<Item = &str> {
        let is_wanted = move |queues: &Queues| {
            let (unit, sub) = (queues.sys_flag & topic_flag::UNIT != 0, queues.sys_flag & topic_flag::UNIT_SUB != 0);
            match wanted {
                UnitTopics::Unit => unit,
                UnitTopics::UnitSub => sub,
                UnitTopics::UnitSubNotUnit => sub && !unit,
            }
        };
        self.topics
            .iter()
            .filter(move |(_, at)| at.values().next().is_some_and(is_wanted))
            .map(|(topic, _)| topic.as_str())
    }

    /// Takes in where the queues of one topic are: a broker that has just created it says so before its whole table
    /// follows. What is said of brokers that are not in the table is passed over.
    pub fn register_topic(&mut self, topic: &str, queues: Vec<(String, Queues)>) -> Result<(), NotRegistered> {
        if topic.is_empty() {
            return Err(NotRegistered::Empty("a topic's name"));
        }
        if topic.len() > NAME_BYTES_MAX {
            return Err(NotRegistered::Long("a topic's name"));
        }
        let known: BTreeMap<_, _> = queues.into_iter().filter(|(name, _)| self.brokers.contains_key(name)).collect();
        if let Some(at) = self.topics.get_mut(topic) {
            at.extend(known);
        } else if self.topics.len() >= TOPICS_MAX {
            return Err(NotRegistered::TopicsFull);
        } else if !known.is_empty() {
            self.topics.insert(topic.to_owned(), known);
        }
        Ok(())
    }

    /// Takes the write permission of a broker away, until it registers something new; says of how many topics.
    pub fn wipe_write_perm(&mut self, name: &str) -> i32 {
        self.set_perm(name, |perm| perm & !perm::WRITE)
    }

    /// Gives the broker read and write permission back; says of how many topics.
    pub fn add_write_perm(&mut self, name: &str) -> i32 {
        self.set_perm(name, |_| perm::READ_WRITE)
    }

    fn set_perm(&mut self, name: &str, change: impl Fn(i32) -> i32) -> i32 {
        let mut count = 0;
        for queues in self.topics.values_mut().filter_map(|queues| queues.get_mut(name)) {
            queues.perm = change(queues.perm);
            count += 1;
        }
        count
    }

    /// Forgets a topic, in one cluster or everywhere. A broker that still has it brings it back.
    pub fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) {
        let Some(cluster) = cluster else {
            self.topics.remove(topic);
            return;
        };
        let Some(at) = self.topics.get_mut(topic) else { return };
        at.retain(|name, _| self.brokers.get(name).is_none_or(|set| set.cluster != cluster));
        if at.is_empty() {
            self.topics.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests;
