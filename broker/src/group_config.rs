//! The subscription group table: which consumer groups exist and what they may do. The control shard owns it and decides
//! every change; the other shards serve from copies ([`GroupCopy`]). Who is connected in a group is the member table's
//! business, how far a group has got is the offset table's.

use crate::limits::{GROUP_FORBIDDEN_MAX, GROUPS_MAX, TOPIC_QUEUES_MAX};
use crate::refusal::Refusal;
use crate::table::{Revision, TableError, check_count, indent, parse_table};
use foldhash::HashMap;
use ringmq_protocol::body::{DataVersion, SubscriptionGroupConfig, SubscriptionGroupWrapper};
use ringmq_protocol::json::FromJson;
use ringmq_protocol::names;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The bit of a forbidden-table entry that takes away reading.
const FORBIDDEN_READ: i32 = 4;

/// What the broker's configuration says about subscription groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSettings {
    /// `autoCreateSubscriptionGroup`.
    pub auto_create: bool,
    /// `enableCreateSysGroup`.
    pub create_system: bool,
}

/// A subscription group as this broker has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// What RocketMQ knows of it.
    pub config: SubscriptionGroupConfig,
    /// Topics that the group may not use, with RocketMQ's bits of what is taken away.
    pub forbidden: BTreeMap<String, i32>,
}

impl Group {
    /// True if the group may not read this topic although both exist and are readable.
    pub fn is_forbidden(&self, topic: &str) -> bool {
        self.forbidden.get(topic).is_some_and(|bits| bits & FORBIDDEN_READ != 0)
    }
}

/// A change of the group table, for the other shards' copies.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupChange {
    /// The group is new, or looks like this now.
    Put(Arc<Group>),
    /// The group is gone.
    Removed(Arc<Group>),
}

/// All subscription groups.
#[derive(Debug)]
pub struct GroupTable {
    settings: GroupSettings,
    groups: BTreeMap<Box<str>, Arc<Group>>,
    version: DataVersion,
    revision: Revision,
}

/// What the group table's file holds, read but not yet in force.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupFile {
    /// The groups by name.
    pub groups: BTreeMap<String, SubscriptionGroupConfig>,
    /// What is forbidden, by group and topic.
    pub forbidden: BTreeMap<String, BTreeMap<String, i32>>,
    /// The table's version.
    pub version: DataVersion,
}

impl GroupFile {
    /// Reads the file of RocketMQ 4.9 or 5.x, which is our own too.
    pub fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        let json = parse_table(bytes, "subscriptionGroupTable")?;
        let wrapper = SubscriptionGroupWrapper::from_json(&json, "SubscriptionGroupWrapper")?;
        let mut groups = wrapper.subscription_group_table;
        check_count("subscription groups", groups.len(), GROUPS_MAX)?;
        for (name, config) in &mut groups {
            config.group_name.clone_from(name);
            if name.is_empty() || config.retry_queue_nums > TOPIC_QUEUES_MAX {
                let reason = format!("group[{name}] has {} retry queues", config.retry_queue_nums);
                return Err(TableError::Malformed { reason });
            }
        }
        Ok(Self { groups, forbidden: wrapper.forbidden_table, version: wrapper.data_version })
    }
}

impl GroupTable {
    /// The table of a broker that starts: what its file held, if it held anything, and the system groups.
    pub fn open(settings: GroupSettings, file: Option<GroupFile>, now_ms: i64) -> Self {
        let mut table = Self {
            settings,
            groups: BTreeMap::new(),
            version: DataVersion { counter: 0, state_version: 0, timestamp: now_ms },
            revision: Revision::default(),
        };
        if let Some(mut file) = file {
            table.version = file.version;
            for (name, config) in file.groups {
                let forbidden = file.forbidden.remove(&name).unwrap_or_default();
                table.groups.insert(name.into(), Arc::new(Group { config, forbidden }));
            }
        }
        for (name, _) in names::PRE_CREATED_GROUPS {
            if !table.contains(name) {
                table.insert(default_group(name));
            }
        }
        table
    }

    /// A group by name.
    pub fn get(&self, group: &str) -> Option<&Arc<Group>> {
        self.groups.get(group)
    }

    /// True if the group exists.
    pub fn contains(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// All groups, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// The number of groups.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// True when there is no group; a running broker always has its system groups.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The version that slaves compare.
    pub fn version(&self) -> &DataVersion {
        &self.version
    }

    /// The group of a heartbeat, a pull or a send-back, created if the configuration allows it. `None` is for the
    /// caller to word, because heartbeats pass over an unknown group and pulls are refused.
    pub fn find_or_create(&mut self, group: &str, now_ms: i64) -> Option<(Arc<Group>, Vec<GroupChange>)> {
        if let Some(group) = self.groups.get(group) {
            return Some((Arc::clone(group), Vec::new()));
        }
        let may_create =
            self.settings.auto_create || (self.settings.create_system && group.starts_with(names::SYSTEM_GROUP_PREFIX));
        if !may_create || names::check_group(group, names::GROUP_NAME_MAX).is_err() || self.groups.len() >= GROUPS_MAX {
            return None;
        }
        let group = self.put(default_group(group), now_ms);
        Some((Arc::clone(&group), vec![GroupChange::Put(group)]))
    }

    /// A new `autoCreateSubscriptionGroup`.
    pub fn set_auto_create(&mut self, auto_create: bool) {
        self.settings.auto_create = auto_create;
    }

    /// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP. RocketMQ defines no attribute for groups, so each one is refused.
    pub fn create_or_update(
        &mut self,
        mut config: SubscriptionGroupConfig,
        now_ms: i64,
    ) -> Result<Vec<GroupChange>, Refusal> {
        let name = config.group_name.clone();
        names::check_group(&name, names::GROUP_NAME_MAX).map_err(|error| Refusal::invalid(error.to_string()))?;
        if config.retry_queue_nums > TOPIC_QUEUES_MAX {
            return Err(Refusal::invalid(format!("retryQueueNums[{}] is illegal", config.retry_queue_nums)));
        }
        if let Some(key) = config.attributes.keys().next() {
            return Err(Refusal::failed(format!("unsupported key: {}", key.trim_start_matches(['+', '-']))));
        }
        let current = self.groups.get(name.as_str());
        let forbidden = current.map(|group| group.forbidden.clone()).unwrap_or_default();
        if let Some(current) = current {
            config.attributes.clone_from(&current.config.attributes);
            if current.config == config {
                return Ok(Vec::new());
            }
        } else if self.groups.len() >= GROUPS_MAX {
            return Err(Refusal::too_many("subscription groups", GROUPS_MAX));
        }
        Ok(vec![GroupChange::Put(self.put(Group { config, forbidden }, now_ms))])
    }

    /// DELETE_SUBSCRIPTIONGROUP. Deleting what is not there succeeds, because tools repeat themselves.
    pub fn delete(&mut self, group: &str, now_ms: i64) -> Vec<GroupChange> {
        let Some(removed) = self.groups.remove(group) else { return Vec::new() };
        self.bump(now_ms);
        vec![GroupChange::Removed(removed)]
    }

    /// UPDATE_AND_GET_GROUP_FORBIDDEN: whether the group may read the topic.
    pub fn set_readable(
        &mut self,
        group: &str,
        topic: &str,
        readable: bool,
        now_ms: i64,
    ) -> Result<Vec<GroupChange>, Refusal> {
        let current = self.groups.get(group).ok_or_else(Refusal::group_config_missing)?;
        if current.is_forbidden(topic) != readable {
            return Ok(Vec::new());
        }
        let mut changed = Group::clone(current);
        let bits = changed.forbidden.get(topic).copied().unwrap_or_default();
        if readable {
            match bits & !FORBIDDEN_READ {
                0 => drop(changed.forbidden.remove(topic)),
                rest => drop(changed.forbidden.insert(topic.to_owned(), rest)),
            }
        } else {
            if changed.forbidden.len() >= GROUP_FORBIDDEN_MAX {
                return Err(Refusal::too_many("forbidden topics of one group", GROUP_FORBIDDEN_MAX));
            }
            changed.forbidden.insert(topic.to_owned(), bits | FORBIDDEN_READ);
        }
        Ok(vec![GroupChange::Put(self.put(changed, now_ms))])
    }

    /// GET_ALL_SUBSCRIPTIONGROUP_CONFIG.
    pub fn list(&self) -> SubscriptionGroupWrapper {
        let forbidden = self.groups.iter().filter(|(_, group)| !group.forbidden.is_empty());
        SubscriptionGroupWrapper {
            data_version: self.version,
            forbidden_table: forbidden.map(|(name, group)| (name.to_string(), group.forbidden.clone())).collect(),
            subscription_group_table: self
                .groups
                .iter()
                .map(|(name, group)| (name.to_string(), group.config.clone()))
                .collect(),
        }
    }

    /// GET_SUBSCRIPTIONGROUP_CONFIG. Asking for a group does not create it, unlike in RocketMQ: a question that changes
    /// the answer helps nobody.
    pub fn single(&self, group: &str) -> Result<&SubscriptionGroupConfig, Refusal> {
        self.groups.get(group).map(|group| &group.config).ok_or_else(Refusal::group_config_missing)
    }

    /// All groups, for a shard whose copy is to be filled from nothing.
    pub fn snapshot(&self) -> Vec<GroupChange> {
        self.groups.values().map(|group| GroupChange::Put(Arc::clone(group))).collect()
    }

    /// The table's file as it is to be written now.
    pub fn to_file(&self) -> Vec<u8> {
        indent(&self.list().to_vec())
    }

    /// What of this table is not on disk yet.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The flusher's report: the state numbered `revision` is on disk.
    pub fn saved(&mut self, revision: u64) {
        self.revision.saved(revision);
    }

    fn put(&mut self, group: Group, now_ms: i64) -> Arc<Group> {
        self.bump(now_ms);
        self.insert(group)
    }

    fn insert(&mut self, group: Group) -> Arc<Group> {
        let name: Box<str> = group.config.group_name.as_str().into();
        let group = Arc::new(group);
        self.groups.insert(name, Arc::clone(&group));
        self.revision.touch();
        group
    }

    fn bump(&mut self, now_ms: i64) {
        self.version = self.version.next(now_ms);
        self.revision.touch();
    }
}

fn default_group(name: &str) -> Group {
    Group { config: SubscriptionGroupConfig::new(name), forbidden: BTreeMap::new() }
}

/// One shard's copy of the group table.
#[derive(Debug, Default)]
pub struct GroupCopy {
    groups: HashMap<Box<str>, Arc<Group>>,
}

impl GroupCopy {
    /// Takes over a change. Changes must be applied in the order in which the control shard made them.
    pub fn apply(&mut self, change: &GroupChange) {
        match change {
            GroupChange::Put(group) => {
                self.groups.insert(group.config.group_name.as_str().into(), Arc::clone(group));
            }
            GroupChange::Removed(group) => {
                self.groups.remove(group.config.group_name.as_str());
            }
        }
    }

    /// A group by name.
    pub fn get(&self, group: &str) -> Option<&Arc<Group>> {
        self.groups.get(group)
    }
}

#[cfg(test)]
mod tests;
