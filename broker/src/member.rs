//! Who is connected: the consumers and producers that heartbeats announce, and what each consumer group subscribes to.
//! A member is a connection in a group; clients share work by the list of members' client ids, so a change of that list
//! or of the subscribed topics is told to the group (NOTIFY_CONSUMER_IDS_CHANGED). The control shard owns it. It sends
//! nothing itself: every method says who is to be told and what the other shards' copies must learn.

use crate::limits::{
    CLIENT_ID_LENGTH_MAX, GROUP_LENGTH_MAX, GROUPS_PER_CONNECTION_MAX, MEMBERS_MAX, SUBSCRIPTION_BYTES_MAX,
    SUBSCRIPTION_LENGTH_MAX, SUBSCRIPTIONS_PER_GROUP_MAX,
};
use crate::refusal::Refusal;
use crate::subscription::{GroupSubscriptions, SubscriptionChange, bytes_of};
use foldhash::HashMap;
use ringmq_protocol::body::{
    Connection, ConsumeFromWhere, ConsumeType, ConsumerConnection, ConsumerData, HeartbeatData, MessageModel,
    ProducerConnection,
};
use ringmq_protocol::code::Language;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// How long a member lives after its last heartbeat. Clients send one every 30 s.
pub const MEMBER_LIFE_MS: i64 = 120_000;

/// How often [`MemberTable::expire`] is to be called.
pub const MEMBER_SCAN_MS: i64 = 10_000;

/// A client's connection, as the network layer numbers it; opaque here and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// The connection on which a heartbeat came, with what its frame said of the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The connection.
    pub conn: ConnId,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The language that the request's header named.
    pub language: Language,
    /// The protocol version that the request's header named.
    pub version: i32,
}

/// Whether a consumer group may have members at all, decided by its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The group does not exist and may not be created: its part of the heartbeat is passed over without a word, as
    /// RocketMQ does, because the rest of the client's groups are sound.
    Skip,
    /// The group exists.
    Admit {
        /// The group's `notifyConsumerIdsChangedEnable`.
        notify: bool,
    },
}

/// Connections of one group to which NOTIFY_CONSUMER_IDS_CHANGED goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The group that changed.
    pub group: Arc<str>,
    /// All its connections.
    pub conns: Vec<ConnId>,
}

/// What a change of the membership asks of others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effects {
    /// Who is to be told.
    pub notices: Vec<Notice>,
    /// What the other shards' copies must learn.
    pub changes: Vec<SubscriptionChange>,
    /// Connections that no longer belong to any group because their heartbeats stopped; they are to be closed.
    pub close: Vec<ConnId>,
}

/// What a heartbeat did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeartbeatOutcome {
    /// The reply's `IS_SUB_CHANGE`: the client's next heartbeat must carry its subscriptions.
    pub subscriptions_wanted: bool,
    /// What follows from it.
    pub effects: Effects,
}

#[derive(Debug, Clone)]
struct Member {
    client_id: Arc<str>,
    peer: SocketAddr,
    language: Language,
    version: i32,
    heartbeat_ms: i64,
}

impl Member {
    fn new(sender: &Sender, client_id: &Arc<str>, now_ms: i64) -> Self {
        Self {
            client_id: Arc::clone(client_id),
            peer: sender.peer,
            language: sender.language,
            version: sender.version,
            heartbeat_ms: now_ms,
        }
    }

    fn is_expired(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.heartbeat_ms) > MEMBER_LIFE_MS
    }

    fn client(&self, conn: ConnId) -> Client {
        let Self { client_id, language, version, .. } = self;
        Client { conn, client_id: Arc::clone(client_id), language: *language, version: *version }
    }

    fn connection(&self) -> Connection {
        Connection {
            client_id: self.client_id.to_string(),
            client_addr: SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port()).to_string(),
            language: self.language,
            version: self.version,
        }
    }
}

type Members = BTreeMap<ConnId, Member>;

#[derive(Debug)]
struct ConsumerGroup {
    members: Members,
    consume_type: ConsumeType,
    consume_from_where: ConsumeFromWhere,
    subscriptions: Arc<GroupSubscriptions>,
    /// Fingerprint of the last heartbeat; a different one from another member means that subscriptions differ.
    fingerprint: i32,
    notify: bool,
}

/// Why a group's members are to be told that it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A member joined, left, or changed its subscriptions.
    Said,
    /// A member was lost without a word. Groups that want no notices are told of it all the same, as by RocketMQ: nobody
    /// else would take over its queues before the next rebalance of its own.
    Lost,
}

impl ConsumerGroup {
    fn notice(&self, name: &Arc<str>, broker_notifies: bool, cause: Cause) -> Option<Notice> {
        let told = broker_notifies
            && (self.notify || cause == Cause::Lost)
            && self.subscriptions.message_model != MessageModel::Broadcasting
            && !self.members.is_empty();
        told.then(|| Notice { group: Arc::clone(name), conns: self.members.keys().copied().collect() })
    }
}

/// A client, as far as a request to it needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Where it is connected.
    pub conn: ConnId,
    /// What it calls itself.
    pub client_id: Arc<str>,
    /// What it is written in; C++ clients take another form of one body.
    pub language: Language,
    /// The protocol version of its last heartbeat.
    pub version: i32,
}

/// The groups that one connection belongs to, so that closing it costs nothing per group of the broker.
#[derive(Debug, Default)]
struct Memberships {
    /// Who its last heartbeat said it is.
    client_id: Arc<str>,
    consumers: BTreeSet<Arc<str>>,
    producers: BTreeSet<Arc<str>>,
}

impl Memberships {
    fn len(&self) -> usize {
        self.consumers.len() + self.producers.len()
    }
}

/// All members of all groups. The times that it is told are of one clock, which nobody sets.
#[derive(Debug)]
pub struct MemberTable {
    consumers: HashMap<Arc<str>, ConsumerGroup>,
    producers: HashMap<Arc<str>, Members>,
    conns: HashMap<ConnId, Memberships>,
    /// The connections of each client id, for replies that name a producer by it.
    clients: HashMap<Arc<str>, BTreeSet<ConnId>>,
    members: usize,
    /// Bytes of all groups' subscriptions.
    subscription_bytes: usize,
    notifies: bool,
}

impl MemberTable {
    /// An empty table; `notifies` is the broker's `notifyConsumerIdsChangedEnable`.
    pub fn new(notifies: bool) -> Self {
        Self {
            consumers: HashMap::default(),
            producers: HashMap::default(),
            conns: HashMap::default(),
            clients: HashMap::default(),
            members: 0,
            subscription_bytes: 0,
            notifies,
        }
    }

    /// HEART_BEAT. `admission` says of each consumer group whether it may have members; it is asked only once the whole
    /// heartbeat is found to be within bounds, so it may create the group and its retry topic.
    pub fn heartbeat(
        &mut self,
        sender: &Sender,
        data: &HeartbeatData,
        mut admission: impl FnMut(&ConsumerData) -> Admission,
        now_ms: i64,
    ) -> Result<HeartbeatOutcome, Refusal> {
        self.check_heartbeat(sender, data)?;
        let client_id: Arc<str> = data.client_id.as_str().into();
        let with_fingerprint = data.heartbeat_fingerprint != 0;
        let mut outcome = HeartbeatOutcome { subscriptions_wanted: !with_fingerprint, effects: Effects::default() };
        for consumer in &data.consumer_data_set {
            let Admission::Admit { notify } = admission(consumer) else { continue };
            let beat = Beat { sender, client_id: &client_id, consumer, data, notify, now_ms };
            self.consumer_heartbeat(&beat, &mut outcome);
        }
        for producer in &data.producer_data_set {
            self.producer_heartbeat(sender, &client_id, &producer.group_name, now_ms);
        }
        self.note_client(sender.conn, &client_id);
        Ok(outcome)
    }

    /// A connection that belongs to a group is found by the client id of its last heartbeat.
    fn note_client(&mut self, conn: ConnId, client_id: &Arc<str>) {
        let Some(memberships) = self.conns.get_mut(&conn) else { return };
        if memberships.client_id == *client_id {
            return;
        }
        let before = std::mem::replace(&mut memberships.client_id, Arc::clone(client_id));
        self.forget_client(conn, &before);
        self.clients.entry(Arc::clone(client_id)).or_default().insert(conn);
    }

    fn forget_client(&mut self, conn: ConnId, client_id: &str) {
        if let Some(conns) = self.clients.get_mut(client_id) {
            conns.remove(&conn);
            if conns.is_empty() {
                self.clients.remove(client_id);
            }
        }
    }

    fn consumer_heartbeat(&mut self, beat: &Beat<'_>, outcome: &mut HeartbeatOutcome) {
        let Beat { sender, client_id, consumer, data, notify, now_ms } = *beat;
        let known = self.consumers.get_key_value(consumer.group_name.as_str());
        let is_new = known.is_none();
        let name = known.map_or_else(|| consumer.group_name.as_str().into(), |(name, _)| Arc::clone(name));
        let group = self.consumers.entry(Arc::clone(&name)).or_insert_with(|| ConsumerGroup {
            members: Members::new(),
            consume_type: consumer.consume_type,
            consume_from_where: consumer.consume_from_where,
            subscriptions: Arc::new(GroupSubscriptions::new(Arc::clone(&name), consumer.message_model)),
            fingerprint: data.heartbeat_fingerprint,
            notify,
        });
        group.consume_type = consumer.consume_type;
        group.consume_from_where = consumer.consume_from_where;
        group.notify = notify;
        if data.heartbeat_fingerprint != 0 && group.fingerprint != data.heartbeat_fingerprint {
            outcome.subscriptions_wanted = true;
        }
        group.fingerprint = data.heartbeat_fingerprint;

        let joined = match group.members.insert(sender.conn, Member::new(sender, client_id, now_ms)) {
            None => {
                self.members += 1;
                self.conns.entry(sender.conn).or_default().consumers.insert(Arc::clone(&name));
                true
            }
            Some(before) => before.client_id != *client_id,
        };

        let mut updated = GroupSubscriptions::clone(&group.subscriptions);
        updated.message_model = consumer.message_model;
        let mut topics_changed = false;
        if data.heartbeat_fingerprint == 0 || !data.without_sub {
            topics_changed = updated.merge(&consumer.subscription_data_set);
        } else if updated.is_empty() {
            // A broker that was restarted has forgotten what this client thinks it knows.
            outcome.subscriptions_wanted = true;
        }
        if is_new || updated != *group.subscriptions {
            self.subscription_bytes += updated.bytes();
            self.subscription_bytes -= group.subscriptions.bytes();
            group.subscriptions = Arc::new(updated);
            outcome.effects.changes.push(SubscriptionChange::Put(Arc::clone(&group.subscriptions)));
        }
        if joined || topics_changed {
            outcome.effects.notices.extend(group.notice(&name, self.notifies, Cause::Said));
        }
    }

    fn producer_heartbeat(&mut self, sender: &Sender, client_id: &Arc<str>, group_name: &str, now_ms: i64) {
        let known = self.producers.get_key_value(group_name);
        let name = known.map_or_else(|| group_name.into(), |(name, _)| Arc::clone(name));
        let members = self.producers.entry(Arc::clone(&name)).or_default();
        if members.insert(sender.conn, Member::new(sender, client_id, now_ms)).is_none() {
            self.members += 1;
            self.conns.entry(sender.conn).or_default().producers.insert(name);
        }
    }

    /// UNREGISTER_CLIENT: takes the connection out of the groups that the request names.
    pub fn unregister(&mut self, conn: ConnId, producer_group: Option<&str>, consumer_group: Option<&str>) -> Effects {
        if let Some(group) = producer_group {
            self.leave_producers(conn, group);
        }
        let left = consumer_group.and_then(|group| self.leave_consumers(conn, group));
        self.effects_of_leaving(left, Cause::Said)
    }

    /// A connection is gone: it leaves all its groups at once.
    pub fn closed(&mut self, conn: ConnId) -> Effects {
        let Some(memberships) = self.conns.remove(&conn) else { return Effects::default() };
        self.forget_client(conn, &memberships.client_id);
        for group in &memberships.producers {
            self.leave_producers(conn, group);
        }
        let left: Vec<_> = memberships.consumers.iter().filter_map(|group| self.leave_consumers(conn, group)).collect();
        self.effects_of_leaving(left, Cause::Lost)
    }

    /// Takes out the members whose heartbeats stopped [`MEMBER_LIFE_MS`] ago. A connection that is left without any
    /// group is to be closed; one with a living membership is not, because its client still works.
    pub fn expire(&mut self, now_ms: i64) -> Effects {
        let producers = expired(self.producers.iter(), now_ms);
        let consumers = expired(self.consumers.iter().map(|(name, group)| (name, &group.members)), now_ms);
        let mut conns = BTreeSet::new();
        for (group, conn) in producers {
            conns.insert(conn);
            self.leave_producers(conn, &group);
        }
        let mut left = BTreeSet::new();
        for (group, conn) in consumers {
            conns.insert(conn);
            left.extend(self.leave_consumers(conn, &group));
        }
        let mut effects = self.effects_of_leaving(left, Cause::Lost);
        effects.close = conns.into_iter().filter(|conn| !self.conns.contains_key(conn)).collect();
        effects
    }

    fn leave_producers(&mut self, conn: ConnId, group: &str) {
        let Some(members) = self.producers.get_mut(group) else { return };
        if members.remove(&conn).is_none() {
            return;
        }
        self.members -= 1;
        if members.is_empty() {
            self.producers.remove(group);
        }
        self.forget(conn, |memberships| &mut memberships.producers, group);
    }

    /// Takes a connection out of a consumer group; the group's name if it was in.
    fn leave_consumers(&mut self, conn: ConnId, group: &str) -> Option<Arc<str>> {
        let name = self.consumers.get_key_value(group).map(|(name, _)| Arc::clone(name))?;
        let members = &mut self.consumers.get_mut(group)?.members;
        members.remove(&conn)?;
        self.members -= 1;
        if members.is_empty()
            && let Some(gone) = self.consumers.remove(group)
        {
            self.subscription_bytes -= gone.subscriptions.bytes();
        }
        self.forget(conn, |memberships| &mut memberships.consumers, group);
        Some(name)
    }

    /// Each group that lost members is told once, and only those who remain; one without members is forgotten.
    fn effects_of_leaving(&self, left: impl IntoIterator<Item = Arc<str>>, cause: Cause) -> Effects {
        let mut effects = Effects::default();
        for name in left {
            match self.consumers.get(&name) {
                Some(group) => effects.notices.extend(group.notice(&name, self.notifies, cause)),
                None => effects.changes.push(SubscriptionChange::Removed(name)),
            }
        }
        effects
    }

    fn forget(&mut self, conn: ConnId, side: impl Fn(&mut Memberships) -> &mut BTreeSet<Arc<str>>, group: &str) {
        if let Some(memberships) = self.conns.get_mut(&conn) {
            side(memberships).remove(group);
            if memberships.len() == 0
                && let Some(gone) = self.conns.remove(&conn)
            {
                self.forget_client(conn, &gone.client_id);
            }
        }
    }

    /// The configuration of a group changed: its new `notifyConsumerIdsChangedEnable`.
    pub fn set_notify(&mut self, group: &str, notify: bool) {
        if let Some(group) = self.consumers.get_mut(group) {
            group.notify = notify;
        }
    }

    /// GET_CONSUMER_LIST_BY_GROUP: the client ids, each once, sorted. Every client computes its share from this list, so
    /// all must see the same one.
    pub fn consumer_ids(&self, group: &str) -> Result<Vec<String>, Refusal> {
        let group = self.consumers.get(group).ok_or_else(|| Refusal::no_consumer(group))?;
        let ids: BTreeSet<&str> = group.members.values().map(|member| &*member.client_id).collect();
        Ok(ids.into_iter().map(str::to_owned).collect())
    }

    /// GET_CONSUMER_CONNECTION_LIST.
    pub fn consumer_connection(&self, group: &str) -> Result<ConsumerConnection, Refusal> {
        let group = self.consumers.get(group).ok_or_else(|| Refusal::consumer_offline(group))?;
        Ok(ConsumerConnection {
            connection_set: group.members.values().map(Member::connection).collect(),
            consume_from_where: group.consume_from_where,
            consume_type: group.consume_type,
            message_model: group.subscriptions.message_model,
            subscription_table: group.subscriptions.iter().map(|s| (s.topic.clone(), s.clone())).collect(),
        })
    }

    /// GET_PRODUCER_CONNECTION_LIST.
    pub fn producer_connection(&self, group: &str) -> Result<ProducerConnection, Refusal> {
        let members = self.producers.get(group).ok_or_else(|| Refusal::no_producer(group))?;
        Ok(ProducerConnection { connection_set: members.values().map(Member::connection).collect() })
    }

    /// What a group subscribes to, for pulls that do not carry their subscription.
    pub fn subscriptions(&self, group: &str) -> Option<&Arc<GroupSubscriptions>> {
        self.consumers.get(group).map(|group| &group.subscriptions)
    }

    /// Groups that are online with a subscription to `topic`.
    pub fn groups_subscribed_to<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.consumers
            .iter()
            .filter(move |(_, group)| group.subscriptions.get(topic).is_some())
            .map(|(name, _)| &**name)
    }

    /// Groups that are online with a subscription to `topic` and whose members share its messages.
    pub fn groups_that_share<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.groups_subscribed_to(topic).filter(|group| {
            self.subscriptions(group).is_some_and(|group| group.message_model == MessageModel::Clustering)
        })
    }

    /// The members of a consumer group, for requests that the broker sends to all of them.
    pub fn consumers(&self, group: &str) -> Vec<Client> {
        let members = self.consumers.get(group).map(|group| &group.members);
        members.into_iter().flatten().map(|(conn, member)| member.client(*conn)).collect()
    }

    /// One member of a consumer group.
    pub fn consumer(&self, group: &str, client_id: &str) -> Option<Client> {
        let members = &self.consumers.get(group)?.members;
        let (conn, member) = members.iter().find(|(_, member)| *member.client_id == *client_id)?;
        Some(member.client(*conn))
    }

    /// A connection of a client that announced itself as a producer of some group.
    pub fn producer(&self, client_id: &str) -> Option<ConnId> {
        let is_producer = |conn: &&ConnId| self.conns.get(conn).is_some_and(|m| !m.producers.is_empty());
        self.clients.get(client_id)?.iter().rev().find(is_producer).copied()
    }

    /// Connections that carry a producer group.
    pub fn producer_conns(&self, group: &str) -> Vec<ConnId> {
        self.producers.get(group).map(|members| members.keys().copied().collect()).unwrap_or_default()
    }

    /// The state of all groups, for a shard whose copy is to be filled from nothing.
    pub fn snapshot(&self) -> Vec<SubscriptionChange> {
        self.consumers.values().map(|group| SubscriptionChange::Put(Arc::clone(&group.subscriptions))).collect()
    }

    /// Memberships in the table, one per connection and group.
    pub fn len(&self) -> usize {
        self.members
    }

    /// True when nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.members == 0
    }

    fn check_heartbeat(&self, sender: &Sender, data: &HeartbeatData) -> Result<(), Refusal> {
        check_client_id(&data.client_id)?;
        let named = data.consumer_data_set.len() + data.producer_data_set.len();
        if named > GROUPS_PER_CONNECTION_MAX {
            return Err(Refusal::too_many("groups on one connection", GROUPS_PER_CONNECTION_MAX));
        }
        let (mut fresh, mut bytes) = (0, self.subscription_bytes);
        let memberships = self.conns.get(&sender.conn);
        for consumer in &data.consumer_data_set {
            check_consumer(consumer)?;
            // They take the place of those that the group has.
            let known = self.consumers.get(consumer.group_name.as_str());
            bytes -= known.map_or(0, |group| group.subscriptions.bytes()).min(bytes);
            bytes += consumer.subscription_data_set.iter().map(bytes_of).sum::<usize>();
            let is_member = memberships.is_some_and(|m| m.consumers.contains(consumer.group_name.as_str()));
            fresh += usize::from(!is_member);
        }
        for producer in &data.producer_data_set {
            check_group_length(&producer.group_name)?;
            let is_member = memberships.is_some_and(|m| m.producers.contains(producer.group_name.as_str()));
            fresh += usize::from(!is_member);
        }
        if memberships.map_or(0, Memberships::len) + fresh > GROUPS_PER_CONNECTION_MAX {
            return Err(Refusal::too_many("groups on one connection", GROUPS_PER_CONNECTION_MAX));
        }
        if self.members + fresh > MEMBERS_MAX {
            return Err(Refusal::too_many("members of groups", MEMBERS_MAX));
        }
        if bytes > SUBSCRIPTION_BYTES_MAX && bytes > self.subscription_bytes {
            return Err(Refusal::too_many("bytes in the subscriptions of all groups", SUBSCRIPTION_BYTES_MAX));
        }
        Ok(())
    }
}

/// One consumer group's part of a heartbeat.
#[derive(Clone, Copy)]
struct Beat<'a> {
    sender: &'a Sender,
    client_id: &'a Arc<str>,
    consumer: &'a ConsumerData,
    data: &'a HeartbeatData,
    notify: bool,
    now_ms: i64,
}

fn expired<'a>(groups: impl Iterator<Item = (&'a Arc<str>, &'a Members)>, now_ms: i64) -> Vec<(Arc<str>, ConnId)> {
    groups
        .flat_map(|(name, members)| {
            let gone = members.iter().filter(move |(_, member)| member.is_expired(now_ms));
            gone.map(move |(conn, _)| (Arc::clone(name), *conn))
        })
        .collect()
}

/// A client id must be there and of bounded length; its characters are the client's business.
pub(crate) fn check_client_id(client_id: &str) -> Result<(), Refusal> {
    if client_id.is_empty() {
        return Err(Refusal::invalid("the client id is empty"));
    }
    if client_id.len() > CLIENT_ID_LENGTH_MAX {
        return Err(Refusal::invalid(format!("the client id is longer than {CLIENT_ID_LENGTH_MAX} bytes")));
    }
    Ok(())
}

/// A group's name in a heartbeat or lock request; whether such a group may exist is the group table's business.
pub(crate) fn check_group_length(group: &str) -> Result<(), Refusal> {
    if group.is_empty() || group.len() > GROUP_LENGTH_MAX {
        return Err(Refusal::invalid(format!("the group name is empty or longer than {GROUP_LENGTH_MAX} bytes")));
    }
    Ok(())
}

fn check_consumer(consumer: &ConsumerData) -> Result<(), Refusal> {
    check_group_length(&consumer.group_name)?;
    if consumer.subscription_data_set.len() > SUBSCRIPTIONS_PER_GROUP_MAX {
        return Err(Refusal::too_many("subscriptions of one group", SUBSCRIPTIONS_PER_GROUP_MAX));
    }
    for subscription in &consumer.subscription_data_set {
        let tags: usize = subscription.tags_set.iter().map(String::len).sum();
        if subscription.sub_string.len() + tags + subscription.topic.len() > SUBSCRIPTION_LENGTH_MAX {
            return Err(Refusal::too_many("bytes in one subscription", SUBSCRIPTION_LENGTH_MAX));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
