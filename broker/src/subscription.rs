//! What each consumer group subscribes to, as its heartbeats said, for pulls that do not bring their subscription along.
//! The control shard keeps the original in its member table and sends every change to the other shards, each of which
//! pulls from its own copy. SQL92 expressions are compiled here, once for all of them. Filtering itself is not here.

use crate::refusal::Refusal;
use foldhash::HashMap;
use ringmq_protocol::body::{MessageModel, SubscriptionData};
use ringmq_protocol::filter::{SQL92, is_tag_type};
use ringmq_protocol::sql::SqlFilter;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The subscriptions of one consumer group that has members.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSubscriptions {
    /// The group's name.
    pub group: Arc<str>,
    /// Whether the group shares messages or every member gets all of them.
    pub message_model: MessageModel,
    topics: BTreeMap<String, Subscription>,
}

/// A subscription to one topic.
#[derive(Debug, Clone, PartialEq)]
struct Subscription {
    data: SubscriptionData,
    /// Of SQL92 only, and only if the expression compiles.
    sql: Option<Arc<SqlFilter>>,
}

impl Subscription {
    fn new(data: &SubscriptionData) -> Self {
        Self { data: data.clone(), sql: compile(data) }
    }

    /// Takes over a newer version, which mostly has the same expression.
    fn update(&mut self, data: &SubscriptionData) {
        let same = self.data.expression_type == data.expression_type && self.data.sub_string == data.sub_string;
        if !same {
            self.sql = compile(data);
        }
        self.data = data.clone();
    }
}

/// Bytes of memory that a subscription takes, about.
pub(crate) fn bytes_of(data: &SubscriptionData) -> usize {
    let tags: usize = data.tags_set.iter().map(|tag| size_of::<String>() + tag.len()).sum();
    let texts = data.topic.len() + data.expression_type.len() + data.sub_string.len();
    size_of::<Subscription>() + texts + tags + size_of_val(&data.code_set[..])
}

fn compile(data: &SubscriptionData) -> Option<Arc<SqlFilter>> {
    if data.expression_type != SQL92 {
        return None;
    }
    match SqlFilter::parse(&data.sub_string) {
        Ok(filter) => Some(Arc::new(filter)),
        Err(error) => {
            tracing::warn!(topic = %data.topic, %error, "a subscription's expression is not understood, its pulls are refused");
            None
        }
    }
}

/// What a pull without its own subscription says of the one it relies on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The request's `subVersion`.
    pub version: i64,
    /// The request's `subscription`, where a client sends it without the flag that makes it count.
    pub expression: Option<&'a str>,
}

/// The filter of a pull.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Subscribed<'a> {
    /// The stored subscription.
    pub data: &'a SubscriptionData,
    /// Its expression, if it is SQL92 and compiles.
    pub sql: Option<&'a Arc<SqlFilter>>,
    /// The client has a newer subscription than the one stored and did not say whether its expression differs. Every
    /// message is then delivered, and the client, which filters tags itself, drops what it does not want; the stored
    /// expression could skip messages for good.
    pub deliver_all: bool,
}

/// A change of one group's subscriptions, for the other shards' copies.
#[derive(Debug, Clone, PartialEq)]
pub enum SubscriptionChange {
    /// The group has these subscriptions now.
    Put(Arc<GroupSubscriptions>),
    /// The group has no members any more.
    Removed(Arc<str>),
}

impl GroupSubscriptions {
    /// A group that has not said yet what it subscribes to.
    pub fn new(group: Arc<str>, message_model: MessageModel) -> Self {
        Self { group, message_model, topics: BTreeMap::new() }
    }

    /// Takes over a heartbeat's list: new topics are added, newer versions replace, topics that are no longer listed go.
    /// True when the set of topics changed, which the group's members must learn.
    pub fn merge(&mut self, listed: &[SubscriptionData]) -> bool {
        let mut changed = false;
        for new in listed {
            match self.topics.get_mut(&new.topic) {
                None => {
                    self.topics.insert(new.topic.clone(), Subscription::new(new));
                    changed = true;
                }
                Some(old) if new.sub_version > old.data.sub_version => old.update(new),
                Some(_) => {}
            }
        }
        let names: BTreeSet<&str> = listed.iter().map(|subscription| subscription.topic.as_str()).collect();
        let before = self.topics.len();
        self.topics.retain(|topic, _| names.contains(topic.as_str()));
        changed |= self.topics.len() != before;
        changed
    }

    /// The subscription to one topic.
    pub fn get(&self, topic: &str) -> Option<&SubscriptionData> {
        self.topics.get(topic).map(|subscription| &subscription.data)
    }

    /// The SQL92 filter of one topic's messages, if it has one.
    pub fn sql(&self, topic: &str) -> Option<&Arc<SqlFilter>> {
        self.topics.get(topic)?.sql.as_ref()
    }

    /// Whether any topic's messages are filtered by SQL92.
    pub fn has_sql(&self) -> bool {
        self.topics.values().any(|subscription| subscription.sql.is_some())
    }

    /// All subscriptions, sorted by topic.
    pub fn iter(&self) -> impl Iterator<Item = &SubscriptionData> {
        self.topics.values().map(|subscription| &subscription.data)
    }

    /// Bytes of memory that they take, about.
    pub fn bytes(&self) -> usize {
        self.iter().map(bytes_of).sum()
    }

    /// True when no subscription is known.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The filter of a pull that does not carry one. A newer version than the stored one is no reason to refuse as long
    /// as the expression may be the same: a starting client pulls before its next heartbeat.
    pub fn for_pull(&self, topic: &str, asked: Asked<'_>, may_broadcast: bool) -> Result<Subscribed<'_>, Refusal> {
        if !may_broadcast && self.message_model == MessageModel::Broadcasting {
            return Err(Refusal::broadcasting_forbidden(&self.group));
        }
        let Subscription { data, sql } = self.topics.get(topic).ok_or_else(Refusal::subscription_missing)?;
        let subscribed = |deliver_all| Subscribed { data, sql: sql.as_ref(), deliver_all };
        if data.sub_version >= asked.version {
            return Ok(subscribed(false));
        }
        match asked.expression {
            Some(expression) if expression == data.sub_string => Ok(subscribed(false)),
            None | Some("") if is_tag_type(Some(&data.expression_type)) => Ok(subscribed(true)),
            _ => Err(Refusal::subscription_not_latest()),
        }
    }
}

/// One shard's copy of all groups' subscriptions.
#[derive(Debug, Default)]
pub struct SubscriptionCopy {
    groups: HashMap<Arc<str>, Arc<GroupSubscriptions>>,
}

impl SubscriptionCopy {
    /// Takes over a change. Changes must be applied in the order in which the control shard made them.
    pub fn apply(&mut self, change: SubscriptionChange) {
        match change {
            SubscriptionChange::Put(group) => {
                self.groups.insert(Arc::clone(&group.group), group);
            }
            SubscriptionChange::Removed(group) => {
                self.groups.remove(&group);
            }
        }
    }

    /// The subscriptions of a group, or the refusal of a pull from one that no heartbeat announced.
    pub fn group(&self, group: &str) -> Result<&Arc<GroupSubscriptions>, Refusal> {
        self.groups.get(group).ok_or_else(Refusal::group_info_missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringmq_protocol::code::ResponseCode;

    fn group(expression: &str, expression_type: &str) -> GroupSubscriptions {
        let mut group = GroupSubscriptions::new("g".into(), MessageModel::Clustering);
        group.merge(&[SubscriptionData {
            topic: "T".to_owned(),
            sub_string: expression.to_owned(),
            expression_type: expression_type.to_owned(),
            sub_version: 100,
            ..SubscriptionData::default()
        }]);
        group
    }

    fn asked(version: i64, expression: Option<&str>) -> Asked<'_> {
        Asked { version, expression }
    }

    #[test]
    fn a_pull_that_is_not_newer_gets_the_stored_filter() {
        let group = group("TagA", "TAG");
        for version in [0, 99, 100] {
            let found = group.for_pull("T", asked(version, None), true).unwrap();
            assert_eq!((found.data.sub_string.as_str(), found.deliver_all), ("TagA", false));
        }
    }

    #[test]
    fn a_newer_pull_gets_the_stored_filter_only_if_the_expression_is_the_same() {
        let tags = group("TagA", "TAG");
        assert!(!tags.for_pull("T", asked(101, Some("TagA")), true).unwrap().deliver_all);
        assert!(tags.for_pull("T", asked(101, None), true).unwrap().deliver_all);
        assert!(tags.for_pull("T", asked(101, Some("")), true).unwrap().deliver_all);
        let refusal = tags.for_pull("T", asked(101, Some("TagB")), true).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::SUBSCRIPTION_NOT_LATEST);
    }

    #[test]
    fn a_newer_sql_pull_is_refused_because_clients_do_not_filter_sql() {
        let sql = group("a = 1", "SQL92");
        let refusal = sql.for_pull("T", asked(101, None), true).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::SUBSCRIPTION_NOT_LATEST);
        assert!(sql.for_pull("T", asked(101, Some("a = 1")), true).is_ok());
    }

    #[test]
    fn an_expression_is_compiled_once_for_all_versions_that_have_it() {
        let listed = |expression: &str, version| SubscriptionData {
            topic: "T".to_owned(),
            sub_string: expression.to_owned(),
            expression_type: "SQL92".to_owned(),
            sub_version: version,
            ..SubscriptionData::default()
        };
        let mut group = group("a = 1", "SQL92");
        let first = Arc::clone(group.sql("T").unwrap());
        group.merge(&[listed("a = 1", 101)]);
        assert!(Arc::ptr_eq(&first, group.sql("T").unwrap()));
        group.merge(&[listed("a = 2", 102)]);
        assert!(group.sql("T").unwrap().matches("a\u{1}2\u{2}"));
        group.merge(&[listed("a = ", 103)]);
        assert!(group.sql("T").is_none() && !group.has_sql());
        group.merge(&[listed("a = 3", 102)]);
        assert!(group.sql("T").is_none(), "an older version changes nothing");
    }

    #[test]
    fn what_is_not_subscribed_or_not_allowed_is_refused() {
        let mut group = group("*", "TAG");
        let refusal = group.for_pull("U", asked(0, None), true).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::SUBSCRIPTION_NOT_EXIST);
        group.message_model = MessageModel::Broadcasting;
        assert!(group.for_pull("T", asked(0, None), true).is_ok());
        let refusal = group.for_pull("T", asked(0, None), false).unwrap_err();
        assert_eq!(refusal.code, ResponseCode::NO_PERMISSION);
        assert_eq!(refusal.forbidden, Some(crate::refusal::Forbidden::Broadcasting));
        let refusal = SubscriptionCopy::default().group("g").unwrap_err();
        assert!(refusal.remark.starts_with("the consumer's group info not exist\nSee "));
    }
}
