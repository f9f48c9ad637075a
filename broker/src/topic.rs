//! The topic table: which topics exist, with how many queues, which permissions and which home shard. The control shard
//! owns it and decides every change; the other shards serve from copies ([`TopicCopy`]) that follow its
//! [`TopicChange`]s. It neither stores messages nor writes its own file.
//!
//! A topic's home is kept with the topic for good: queue `q` lives on log shard `(start + q) mod shards`. The file must
//! hold a new topic before its first message is acknowledged, or a restart could look for the queue on another shard.

use crate::attribute::{self, AttributeError, Attributes};
use crate::limits::{TOPIC_QUEUES_MAX, TOPICS_MAX};
use crate::refusal::Refusal;
use crate::system_topic;
use crate::table::Revision;
use foldhash::HashMap;
use ringmq_protocol::body::{DataVersion, TopicConfig, TopicConfigSerializeWrapper, TopicFilterType};
use ringmq_protocol::header::CreateTopic;
use ringmq_protocol::names;
use ringmq_protocol::properties::perm;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

mod file;

pub use self::file::TopicFile;

/// `topicSysFlag`: a topic that unit-mode producers created.
pub const SYS_FLAG_UNIT: i32 = 1;
/// `topicSysFlag`: a retry topic that unit-mode consumers created.
pub const SYS_FLAG_UNIT_SUB: i32 = 2;

/// What the broker's configuration says about topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// `brokerClusterName`; a system topic has this name.
    pub cluster_name: String,
    /// `brokerName`; a system topic has this name.
    pub broker_name: String,
    /// `autoCreateTopicEnable`.
    pub auto_create: bool,
    /// `clusterTopicEnable`.
    pub cluster_topic: bool,
    /// `brokerTopicEnable`.
    pub broker_topic: bool,
    /// `msgTraceTopicName`, if `traceTopicEnable`.
    pub trace_topic: Option<String>,
    /// `defaultTopicQueueNums`.
    pub default_queues: i32,
    /// `brokerPermission`: masks every topic's permission in what name servers are told.
    pub permission: i32,
    /// `enableMixedMessageType`.
    pub mixed_message_type: bool,
    /// `reviveQueueNum`.
    pub revive_queues: i32,
    /// `timerWheelEnable`.
    pub timer_wheel: bool,
    /// How many levels `messageDelayLevel` has.
    pub delay_levels: i32,
    /// Log shards of the store, fixed when it was created; at least 1.
    pub shards: u16,
}

impl TopicSettings {
    /// RocketMQ's defaults.
    pub fn new(cluster_name: &str, broker_name: &str, shards: u16) -> Self {
        Self {
            cluster_name: cluster_name.to_owned(),
            broker_name: broker_name.to_owned(),
            auto_create: true,
            cluster_topic: true,
            broker_topic: true,
            trace_topic: None,
            default_queues: 8,
            permission: perm::READ_WRITE,
            mixed_message_type: false,
            revive_queues: 8,
            timer_wheel: true,
            delay_levels: 18,
            shards: shards.max(1),
        }
    }
}

/// A topic as this broker has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// What RocketMQ knows of it.
    pub config: TopicConfig,
    /// The log shard of queue 0.
    pub start: u16,
}

impl Topic {
    /// The log shard on which a queue lives.
    pub fn home(&self, queue_id: i32, shards: u16) -> u16 {
        debug_assert!(queue_id >= 0 && shards > 0, "queue {queue_id} of {shards} shards");
        let home = (u64::from(self.start) + u64::from(queue_id.unsigned_abs())) % u64::from(shards.max(1));
        u16::try_from(home).unwrap_or(0)
    }

    /// Queues that can be read or written: those with smaller numbers than this.
    pub fn queues(&self) -> i32 {
        self.config.read_queue_nums.max(self.config.write_queue_nums)
    }

    /// True if the topic's own permission lets clients read.
    pub fn is_readable(&self) -> bool {
        self.config.perm & perm::READ != 0
    }

    /// True if the topic's own permission lets clients write.
    pub fn is_writable(&self) -> bool {
        self.config.perm & perm::WRITE != 0
    }

    /// The queue of a send. RocketMQ lets a send name any queue that can be written or read, so that a shrinking topic
    /// still takes what is under way; a negative number leaves the choice to the broker, and `pick`, any number, makes it.
    pub fn queue_for_send(&self, queue_id: i32, pick: u32, producer: impl fmt::Display) -> Result<i32, Refusal> {
        let writable = self.config.write_queue_nums;
        if queue_id >= self.queues() {
            return Err(Refusal::send_queue(queue_id, Described(&self.config), producer));
        }
        if queue_id >= 0 {
            return Ok(queue_id);
        }
        match u32::try_from(writable) {
            Ok(queues @ 1..) => Ok(i32::try_from(pick % queues).unwrap_or(0)),
            _ => Err(Refusal::send_queue(queue_id, Described(&self.config), producer)),
        }
    }

    /// The queue of a pull.
    pub fn queue_for_pull(&self, queue_id: i32, consumer: impl fmt::Display) -> Result<i32, Refusal> {
        if (0..self.config.read_queue_nums).contains(&queue_id) {
            return Ok(queue_id);
        }
        Err(Refusal::pull_queue(queue_id, &self.config.topic_name, self.config.read_queue_nums, consumer))
    }
}

/// A topic in the words of RocketMQ's remarks.
struct Described<'a>(&'a TopicConfig);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TopicConfig { topic_name, read_queue_nums, write_queue_nums, topic_filter_type, .. } = self.0;
        let TopicConfig { topic_sys_flag, order, .. } = self.0;
        write!(
            f,
            "TopicConfig [topicName={topic_name}, readQueueNums={read_queue_nums}, \
             writeQueueNums={write_queue_nums}, perm={}, topicFilterType={}, topicSysFlag={topic_sys_flag}, order={order}]",
            describe_perm(self.0.perm),
            topic_filter_type.name(),
        )
    }
}

/// A permission as RocketMQ prints it: `RW-`.
fn describe_perm(permission: i32) -> String {
    let letter = |bit, letter| if permission & bit != 0 { letter } else { '-' };
    [letter(perm::READ, 'R'), letter(perm::WRITE, 'W'), letter(perm::INHERIT, 'X')].iter().collect()
}

/// A change of the topic table, for the other shards' copies.
#[derive(Debug, Clone, PartialEq)]
pub enum TopicChange {
    /// The topic is new, or looks like this now.
    Put(Arc<Topic>),
    /// The topic is gone, and its queues with it.
    Removed(Arc<Topic>),
}

/// A send to a topic that its shard does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The template that the producer names.
    pub default_topic: &'a str,
    /// The number of queues that the producer wants at most.
    pub default_queues: i32,
    /// The producer's `unitMode`.
    pub unit_mode: bool,
}

/// All topics.
#[derive(Debug)]
pub struct TopicTable {
    settings: TopicSettings,
    topics: BTreeMap<Box<str>, Arc<Topic>>,
    version: DataVersion,
    next_start: u16,
    revision: Revision,
}

impl TopicTable {
    /// The table of a broker that starts: what its file held, if it held anything, and the system topics that every
    /// broker has. A topic without a home (from a RocketMQ store) gets one now.
    pub fn open(settings: TopicSettings, file: Option<TopicFile>, now_ms: i64) -> Self {
        let mut table = Self {
            settings,
            topics: BTreeMap::new(),
            version: DataVersion { counter: 0, state_version: 0, timestamp: now_ms },
            next_start: 0,
            revision: Revision::default(),
        };
        if let Some(file) = file {
            table.restore(file);
        }
        for config in system_topic::configs(&table.settings) {
            table.settle(config, now_ms);
        }
        table.disarm_template(now_ms);
        table
    }

    fn restore(&mut self, file: TopicFile) {
        self.version = file.version;
        self.next_start = file.next_start;
        for (name, config) in file.topics {
            match file.starts.get(&name) {
                Some(&start) => drop(self.topics.insert(name.into(), Arc::new(Topic { config, start }))),
                None => drop(self.insert(config)),
            }
        }
    }

    /// Brings a system topic in line with the configuration, which may have changed since the file was written. RocketMQ
    /// lets the file win, and a changed `autoCreateTopicEnable` or `defaultTopicQueueNums` then does nothing.
    fn settle(&mut self, config: TopicConfig, now_ms: i64) {
        let Some(topic) = self.topics.get(config.topic_name.as_str()) else {
            self.insert(config);
            return;
        };
        let mut settled = topic.config.clone();
        settled.perm = config.perm;
        if system_topic::is_sharded(&config.topic_name) {
            settled.read_queue_nums = settled.read_queue_nums.max(config.read_queue_nums);
            settled.write_queue_nums = settled.write_queue_nums.max(config.write_queue_nums);
        }
        if config.topic_name == names::AUTO_CREATE_TOPIC_KEY {
            settled.read_queue_nums = config.read_queue_nums;
            settled.write_queue_nums = config.write_queue_nums;
        }
        if settled != topic.config {
            self.put(settled, now_ms);
        }
    }

    /// A template that an earlier start left in the file must not create topics once auto-creation is switched off.
    fn disarm_template(&mut self, now_ms: i64) {
        let template = self.topics.get(names::AUTO_CREATE_TOPIC_KEY);
        let armed = template.filter(|template| !self.settings.auto_create && perm::is_inherited(template.config.perm));
        if let Some(template) = armed {
            let config = TopicConfig { perm: perm::READ_WRITE, ..template.config.clone() };
            self.put(config, now_ms);
        }
    }

    /// A topic by name.
    pub fn get(&self, topic: &str) -> Option<&Arc<Topic>> {
        self.topics.get(topic)
    }

    /// True if the topic exists.
    pub fn contains(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// True if the topic exists and has a queue of this number, to read or to write.
    pub fn has_queue(&self, topic: &str, queue_id: i32) -> bool {
        self.topics.get(topic).is_some_and(|topic| (0..topic.queues()).contains(&queue_id))
    }

    /// True if the topic exists and is ordered.
    pub fn is_ordered(&self, topic: &str) -> bool {
        self.topics.get(topic).is_some_and(|topic| topic.config.order)
    }

    /// All topics, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// The number of topics.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// True when there is no topic; a running broker always has its system topics.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The version that name servers compare.
    pub fn version(&self) -> &DataVersion {
        &self.version
    }

    /// The broker's configuration as far as topics go.
    pub fn settings(&self) -> &TopicSettings {
        &self.settings
    }

    /// True for topics that belong to the broker and not to its users.
    pub fn is_system(&self, topic: &str) -> bool {
        names::is_system_topic(topic) || system_topic::is_named_after(topic, &self.settings)
    }

    /// UPDATE_AND_CREATE_TOPIC. Nothing changes, and no version is spent, when the topic looks like this already.
    pub fn create_or_update(&mut self, asked: &CreateTopic, now_ms: i64) -> Result<Vec<TopicChange>, Refusal> {
        check_name(&asked.topic)?;
        if self.is_system(&asked.topic) {
            return Err(Refusal::system_topic(&asked.topic));
        }
        check_numbers(asked)?;
        let topic_filter_type = TopicFilterType::from_text(&asked.topic_filter_type)
            .ok_or_else(|| Refusal::invalid(format!("topicFilterType[{}] is illegal", asked.topic_filter_type)))?;
        let current = self.topics.get(asked.topic.as_str());
        let config = TopicConfig {
            topic_name: asked.topic.clone(),
            read_queue_nums: asked.read_queue_nums,
            write_queue_nums: asked.write_queue_nums,
            perm: asked.perm,
            topic_filter_type,
            topic_sys_flag: asked.topic_sys_flag.unwrap_or_default(),
            order: asked.order,
            attributes: self.modified(current, asked.attributes.as_deref().unwrap_or_default())?,
        };
        if current.is_some_and(|current| current.config == config) {
            return Ok(Vec::new());
        }
        self.check_room(&asked.topic)?;
        Ok(vec![self.put(config, now_ms)])
    }

    fn modified(&self, current: Option<&Arc<Topic>>, modifications: &str) -> Result<Attributes, Refusal> {
        let current = current.map(|topic| &topic.config.attributes);
        attribute::modify(current, modifications, self.settings.mixed_message_type).map_err(|error| {
            let remark = error.to_string();
            match error {
                AttributeError::Mixed | AttributeError::NotServed { .. } | AttributeError::TooLong => {
                    Refusal::invalid(remark)
                }
                _ => Refusal::failed(remark),
            }
        })
    }

    /// DELETE_TOPIC_IN_BROKER. Deleting what is not there succeeds, because tools repeat themselves.
    pub fn delete(&mut self, topic: &str, now_ms: i64) -> Result<Vec<TopicChange>, Refusal> {
        if topic.trim().is_empty() {
            return Err(Refusal::topic_blank());
        }
        if self.is_system(topic) {
            return Err(Refusal::system_topic(topic));
        }
        let Some(removed) = self.topics.remove(topic) else { return Ok(Vec::new()) };
        self.bump(now_ms);
        Ok(vec![TopicChange::Removed(removed)])
    }

    /// The topic of a send, created if the producer's template allows it. Retry topics need no template.
    pub fn find_or_create(
        &mut self,
        wanted: Wanted<'_>,
        now_ms: i64,
    ) -> Result<(Arc<Topic>, Vec<TopicChange>), Refusal> {
        if let Some(topic) = self.topics.get(wanted.topic) {
            return Ok((Arc::clone(topic), Vec::new()));
        }
        check_name(wanted.topic)?;
        let config = self.copy_of_template(wanted).or_else(|| retry_config(wanted));
        let Some(config) = config else { return Err(Refusal::topic_missing(wanted.topic)) };
        if self.topics.len() >= TOPICS_MAX {
            return Err(Refusal::topic_missing(wanted.topic));
        }
        let change = self.put(config, now_ms);
        let topic = self.topics.get(wanted.topic).map(Arc::clone);
        topic.map(|topic| (topic, vec![change])).ok_or_else(|| Refusal::topic_missing(wanted.topic))
    }

    fn copy_of_template(&self, wanted: Wanted<'_>) -> Option<TopicConfig> {
        let template = &self.topics.get(wanted.default_topic)?.config;
        if template.perm & perm::INHERIT == 0 {
            return None;
        }
        let queues = wanted.default_queues.min(template.write_queue_nums).clamp(1, TOPIC_QUEUES_MAX);
        let mut config = plain(wanted.topic, queues, template.perm & !perm::INHERIT);
        config.topic_sys_flag = sys_flag(wanted);
        config.topic_filter_type = template.topic_filter_type;
        Some(config)
    }

    /// Makes sure that a topic of the broker's own making exists: a group's retry topic at its first heartbeat, its
    /// dead-letter topic at the first dead letter. An existing one keeps its queues and only follows `order`.
    pub fn ensure(&mut self, own: OwnTopic<'_>, now_ms: i64) -> Result<Vec<TopicChange>, Refusal> {
        if let Some(topic) = self.topics.get(own.topic) {
            if topic.config.order == own.order {
                return Ok(Vec::new());
            }
            let mut config = topic.config.clone();
            config.order = own.order;
            return Ok(vec![self.put(config, now_ms)]);
        }
        check_name(own.topic)?;
        self.check_room(own.topic)?;
        let mut config = plain(own.topic, own.queues.clamp(0, TOPIC_QUEUES_MAX), perm::READ_WRITE);
        config.order = own.order;
        config.topic_sys_flag = own.sys_flag;
        Ok(vec![self.put(config, now_ms)])
    }

    /// A name server's list of ordered topics: those that exist here become ordered.
    pub fn mark_ordered<'a>(&mut self, topics: impl IntoIterator<Item = &'a str>, now_ms: i64) -> Vec<TopicChange> {
        let mut changes = Vec::new();
        for name in topics {
            let Some(topic) = self.topics.get_mut(name) else { continue };
            if !topic.config.order {
                Arc::make_mut(topic).config.order = true;
                changes.push(TopicChange::Put(Arc::clone(topic)));
            }
        }
        if !changes.is_empty() {
            self.bump(now_ms);
        }
        changes
    }

    /// A new `brokerPermission`. Name servers take it over because the version changes with it.
    pub fn set_permission(&mut self, permission: i32, now_ms: i64) {
        if self.settings.permission != permission {
            self.settings.permission = permission;
            self.bump(now_ms);
        }
    }

    /// A new `autoCreateTopicEnable`: the template of new topics comes, or is disarmed.
    pub fn set_auto_create(&mut self, auto_create: bool, now_ms: i64) -> Vec<TopicChange> {
        if self.settings.auto_create == auto_create {
            return Vec::new();
        }
        self.settings.auto_create = auto_create;
        let template = |config: &TopicConfig| config.topic_name == names::AUTO_CREATE_TOPIC_KEY;
        for config in system_topic::configs(&self.settings).into_iter().filter(template) {
            self.settle(config, now_ms);
        }
        self.disarm_template(now_ms);
        self.bump(now_ms);
        self.topics
            .get(names::AUTO_CREATE_TOPIC_KEY)
            .map(|topic| TopicChange::Put(Arc::clone(topic)))
            .into_iter()
            .collect()
    }

    /// GET_ALL_TOPIC_CONFIG.
    pub fn list(&self) -> TopicConfigSerializeWrapper {
        self.wrapper(TopicConfig::clone)
    }

    /// What name servers are told: the same list under the broker's permission.
    pub fn registered(&self) -> TopicConfigSerializeWrapper {
        let mask = self.settings.permission;
        self.wrapper(|config| {
            let mut config = config.clone();
            if mask & perm::READ_WRITE != perm::READ_WRITE {
                config.perm &= mask;
            }
            config
        })
    }

    fn wrapper(&self, each: impl Fn(&TopicConfig) -> TopicConfig) -> TopicConfigSerializeWrapper {
        TopicConfigSerializeWrapper {
            data_version: self.version,
            topic_config_table: self.topics.iter().map(|(name, t)| (name.to_string(), each(&t.config))).collect(),
        }
    }

    /// GET_TOPIC_CONFIG.
    pub fn single(&self, topic: &str) -> Result<&TopicConfig, Refusal> {
        self.topics.get(topic).map(|topic| &topic.config).ok_or_else(|| Refusal::topic_config_missing(topic))
    }

    /// GET_SYSTEM_TOPIC_LIST_FROM_BROKER.
    pub fn system_names(&self) -> Vec<String> {
        self.topics.keys().filter(|name| self.is_system(name)).map(ToString::to_string).collect()
    }

    /// All topics, for a shard whose copy is to be filled from nothing.
    pub fn snapshot(&self) -> Vec<TopicChange> {
        self.topics.values().map(|topic| TopicChange::Put(Arc::clone(topic))).collect()
    }

    /// What of this table is not on disk yet.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The flusher's report: the state numbered `revision` is on disk.
    pub fn saved(&mut self, revision: u64) {
        self.revision.saved(revision);
    }

    fn check_room(&self, topic: &str) -> Result<(), Refusal> {
        if self.topics.len() >= TOPICS_MAX && !self.contains(topic) {
            return Err(Refusal::too_many("topics", TOPICS_MAX));
        }
        Ok(())
    }

    fn put(&mut self, config: TopicConfig, now_ms: i64) -> TopicChange {
        let topic = self.insert(config);
        self.bump(now_ms);
        TopicChange::Put(topic)
    }

    fn insert(&mut self, config: TopicConfig) -> Arc<Topic> {
        let start = match self.topics.get(config.topic_name.as_str()) {
            Some(old) => old.start,
            None => {
                let start = self.next_start;
                self.next_start = self.following(start, &config);
                start
            }
        };
        let name: Box<str> = config.topic_name.as_str().into();
        let topic = Arc::new(Topic { config, start });
        self.topics.insert(name, Arc::clone(&topic));
        self.revision.touch();
        topic
    }

    /// Where the next topic starts: behind the last queue of this one, so that all shards fill evenly.
    fn following(&self, start: u16, config: &TopicConfig) -> u16 {
        let queues = config.write_queue_nums.max(config.read_queue_nums).max(1);
        let next = (u64::from(start) + u64::from(queues.unsigned_abs())) % u64::from(self.settings.shards.max(1));
        u16::try_from(next).unwrap_or(0)
    }

    fn bump(&mut self, now_ms: i64) {
        self.version = self.version.next(now_ms);
        self.revision.touch();
    }
}

/// A topic that the broker makes for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnTopic<'a> {
    /// Its name.
    pub topic: &'a str,
    /// Its queues, for reading and writing.
    pub queues: i32,
    /// Whether it is ordered.
    pub order: bool,
    /// Its `topicSysFlag`.
    pub sys_flag: i32,
}

/// A topic with as many queues to read as to write and nothing special.
pub(crate) fn plain(topic: &str, queues: i32, perm: i32) -> TopicConfig {
    TopicConfig::new(topic, queues, queues, perm)
}

fn retry_config(wanted: Wanted<'_>) -> Option<TopicConfig> {
    let mut config = names::is_retry(wanted.topic).then(|| plain(wanted.topic, 1, perm::READ_WRITE))?;
    config.topic_sys_flag = sys_flag(wanted);
    Some(config)
}

fn sys_flag(wanted: Wanted<'_>) -> i32 {
    match (wanted.unit_mode, names::is_retry(wanted.topic)) {
        (false, _) => 0,
        (true, true) => SYS_FLAG_UNIT_SUB,
        (true, false) => SYS_FLAG_UNIT,
    }
}

fn check_name(topic: &str) -> Result<(), Refusal> {
    names::check_topic(topic).map_err(|error| Refusal::invalid(error.to_string()))
}

fn check_numbers(asked: &CreateTopic) -> Result<(), Refusal> {
    for (name, queues) in [("readQueueNums", asked.read_queue_nums), ("writeQueueNums", asked.write_queue_nums)] {
        if !(0..=TOPIC_QUEUES_MAX).contains(&queues) {
            return Err(Refusal::invalid(format!("{name}[{queues}] is illegal, it may be 0 to {TOPIC_QUEUES_MAX}")));
        }
    }
    if !(0..=perm::READ_WRITE | perm::INHERIT).contains(&asked.perm) {
        return Err(Refusal::invalid(format!("perm[{}] is illegal, it may be 0 to 7", asked.perm)));
    }
    Ok(())
}

/// How many deletions of topics a copy has taken over. All copies take over the same changes in the same order, so one that
/// has counted more than another has everything that the other had when it was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deletions(u64);

/// One shard's copy of the topic table.
#[derive(Debug, Default)]
pub struct TopicCopy {
    topics: HashMap<Box<str>, Arc<Topic>>,
    deletions: Deletions,
}

impl TopicCopy {
    /// Takes over a change. Changes must be applied in the order in which the control shard made them.
    pub fn apply(&mut self, change: &TopicChange) {
        match change {
            TopicChange::Put(topic) => {
                self.topics.insert(topic.config.topic_name.as_str().into(), Arc::clone(topic));
            }
            TopicChange::Removed(topic) => {
                self.topics.remove(topic.config.topic_name.as_str());
                self.deletions.0 += 1;
            }
        }
    }

    /// The deletions so far. What a look-up found then is still so for a copy that has not counted more, or a topic's end is
    /// still to come there and takes along what is appended before.
    pub fn deletions(&self) -> Deletions {
        self.deletions
    }

    /// A topic by name.
    pub fn get(&self, topic: &str) -> Option<&Arc<Topic>> {
        self.topics.get(topic)
    }
}

#[cfg(test)]
mod tests;
