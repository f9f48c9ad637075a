//! The control plane as one piece: the tables of the control shard and the requests that touch several of them at once.
//! It decides; it does not send, write or wait. Each change comes back as [`Changes`], which the caller carries out in
//! this order: write the changed files, tell the other shards' copies, register with the name servers, notify clients.

use crate::group_config::{GroupChange, GroupTable};
use crate::lock::LockTable;
use crate::member::{Admission, ConnId, Effects, MemberTable, Notice, Sender};
use crate::offset::OffsetTable;
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::subscription::SubscriptionChange;
use crate::topic::{OwnTopic, SYS_FLAG_UNIT_SUB, TopicChange, TopicTable, Wanted};
use ringmq_protocol::body::{ConsumerData, HeartbeatData, SubscriptionGroupConfig};
use ringmq_protocol::header::CreateTopic;
use ringmq_protocol::names;
use ringmq_rt::{now, wall_ms};
use std::collections::BTreeSet;

/// What follows from a request, for the caller to carry out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// For every shard's copy of the topic table, and a reason to register at once.
    pub topics: Vec<TopicChange>,
    /// For every shard's copy of the group table.
    pub groups: Vec<GroupChange>,
    /// For every shard's copy of the subscriptions.
    pub subscriptions: Vec<SubscriptionChange>,
    /// Clients to be told that their group changed.
    pub notices: Vec<Notice>,
    /// Connections to be closed.
    pub close: Vec<ConnId>,
    /// Offsets have to be on disk before anybody hears of the rest.
    pub offsets: bool,
}

impl Changes {
    /// True when there is nothing to carry out.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
            && self.groups.is_empty()
            && self.subscriptions.is_empty()
            && self.notices.is_empty()
            && self.close.is_empty()
            && !self.offsets
    }
}

impl From<Effects> for Changes {
    fn from(effects: Effects) -> Self {
        let Effects { notices, changes, close } = effects;
        Self { subscriptions: changes, notices, close, ..Self::default() }
    }
}

/// The present by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The wall clock, which stamps what is written.
    pub wall_ms: i64,
    /// The clock that nobody sets, by which members and locks live: a wall clock that is set forward would throw every
    /// client out at once, and one that is set back would keep the queues of the dead for as long.
    pub clock_ms: i64,
}

impl Moment {
    pub fn now() -> Self {
        Self { wall_ms: wall_ms(), clock_ms: now().millis() }
    }
}

/// The tables of the control shard.
#[derive(Debug)]
pub struct Control {
    /// Which topics exist.
    pub topics: TopicTable,
    /// Which groups exist.
    pub groups: GroupTable,
    /// Who is connected.
    pub members: MemberTable,
    /// Who may consume which queue in order.
    pub locks: LockTable,
    /// How far the groups have got.
    pub offsets: OffsetTable,
}

impl Control {
    /// HEART_BEAT: creates what a consumer group needs (itself, its retry topic) and takes the members over. The first
    /// of the pair is the reply's `IS_SUB_CHANGE`.
    pub fn heartbeat(&mut self, sender: &Sender, data: &HeartbeatData, at: Moment) -> Result<(bool, Changes), Refusal> {
        let Self { topics, groups, members, .. } = self;
        let mut created = Changes::default();
        let without_sub = data.without_sub && data.heartbeat_fingerprint != 0;
        let admission =
            |consumer: &ConsumerData| admit(consumer, without_sub, topics, groups, &mut created, at.wall_ms);
        let outcome = members.heartbeat(sender, data, admission, at.clock_ms)?;
        let mut changes = Changes::from(outcome.effects);
        changes.topics = created.topics;
        changes.groups = created.groups;
        Ok((outcome.subscriptions_wanted, changes))
    }

    /// UPDATE_AND_CREATE_SUBSCRIPTIONGROUP.
    pub fn update_group(&mut self, config: SubscriptionGroupConfig, now_ms: i64) -> Result<Changes, Refusal> {
        let (name, notify) = (config.group_name.clone(), config.notify_consumer_ids_changed_enable);
        let groups = self.groups.create_or_update(config, now_ms)?;
        self.members.set_notify(&name, notify);
        Ok(Changes { groups, ..Changes::default() })
    }

    /// UPDATE_BROKER_CONFIG: what of the settings the tables go by.
    pub fn configure(&mut self, settings: &Settings, now_ms: i64) -> Vec<TopicChange> {
        self.topics.set_permission(settings.topics.permission, now_ms);
        self.groups.set_auto_create(settings.groups.auto_create);
        self.topics.set_auto_create(settings.topics.auto_create, now_ms)
    }

    /// UPDATE_AND_CREATE_TOPIC. Those of its new queues that are `empty` are new to the groups that read it, too.
    pub fn create_topic(&mut self, asked: &CreateTopic, empty: &[i32], now_ms: i64) -> Result<Changes, Refusal> {
        let topics = self.topics.create_or_update(asked, now_ms)?;
        let offsets = !topics.is_empty() && self.begin_queues(&asked.topic, empty);
        Ok(Changes { topics, offsets, ..Changes::default() })
    }

    /// The topic of a send, created if the rules allow.
    pub fn create_topic_of_send(&mut self, wanted: Wanted<'_>, now_ms: i64) -> Result<Changes, Refusal> {
        let (topic, topics) = self.topics.find_or_create(wanted, now_ms)?;
        let offsets = !topics.is_empty() && self.begin_queues(wanted.topic, &Vec::from_iter(0..topic.queues()));
        Ok(Changes { topics, offsets, ..Changes::default() })
    }

    /// The groups that read a topic begin at 0 in queues that it gets: what comes to them before a member asks is newer than
    /// the group, whatever its policy. True if one had no offset there.
    fn begin_queues(&mut self, topic: &str, queues: &[i32]) -> bool {
        let online = self.members.groups_that_share(topic);
        let groups: BTreeSet<Box<str>> = self.offsets.groups_of(topic).chain(online).map(Box::from).collect();
        let mut begun = false;
        for (group, &queue_id) in groups.iter().flat_map(|group| queues.iter().map(move |queue| (group, queue))) {
            match self.offsets.begin(group, topic, queue_id) {
                Ok(is_new) => begun |= is_new,
                Err(refusal) => {
                    tracing::warn!(%group, topic, queue_id, %refusal, "groups begin in a topic's new queues by their clients' policy");
                    break;
                }
            }
        }
        begun
    }

    /// DELETE_TOPIC_IN_BROKER: the topic and what the groups had consumed of it. Its messages are the engine's to drop.
    pub fn delete_topic(&mut self, topic: &str, now_ms: i64) -> Result<Changes, Refusal> {
        let topics = self.topics.delete(topic, now_ms)?;
        self.offsets.remove_topic(topic);
        Ok(Changes { topics, ..Changes::default() })
    }

    /// DELETE_SUBSCRIPTIONGROUP: the group, its locks and, if asked for, its offsets. Its retry and dead-letter topics are
    /// deleted by the tools with requests of their own.
    pub fn delete_group(&mut self, group: &str, clean_offsets: bool, now_ms: i64) -> Changes {
        let groups = self.groups.delete(group, now_ms);
        self.locks.remove_group(group);
        self.offsets.forget_resets(group);
        if clean_offsets {
            self.offsets.remove_group(group);
        }
        Changes { groups, ..Changes::default() }
    }

    /// The regular sweep, every [`MEMBER_SCAN_MS`](crate::member::MEMBER_SCAN_MS).
    pub fn expire(&mut self, clock_ms: i64) -> Changes {
        self.locks.expire(clock_ms);
        self.members.expire(clock_ms).into()
    }
}

fn admit(
    consumer: &ConsumerData,
    without_sub: bool,
    topics: &mut TopicTable,
    groups: &mut GroupTable,
    created: &mut Changes,
    now_ms: i64,
) -> Admission {
    let Some((group, changes)) = groups.find_or_create(&consumer.group_name, now_ms) else { return Admission::Skip };
    created.groups.extend(changes);
    let retry_topic = names::retry_topic(&consumer.group_name);
    let order = if without_sub {
        topics.is_ordered(&retry_topic)
    } else {
        consumer.subscription_data_set.iter().any(|subscription| topics.is_ordered(&subscription.topic))
    };
    let retry = OwnTopic {
        topic: &retry_topic,
        queues: group.config.retry_queue_nums,
        order,
        sys_flag: if consumer.unit_mode { SYS_FLAG_UNIT_SUB } else { 0 },
    };
    match topics.ensure(retry, now_ms) {
        Ok(changes) => created.topics.extend(changes),
        Err(refusal) => {
            tracing::warn!(group = %consumer.group_name, %refusal, "a consumer group has no retry topic");
            return Admission::Skip;
        }
    }
    Admission::Admit { notify: group.config.notify_consumer_ids_changed_enable }
}

#[cfg(test)]
mod tests;
