//! What a pull wants of a queue: all of it, some tags, or what an SQL92 expression says. Tags are compared by the queue's
//! index alone; an expression needs the record, and is asked of it where it lies, without a copy.

use std::mem;
use std::sync::Arc;

use foldhash::HashMap;
use ringmq_engine::Select;
use ringmq_protocol::body::SubscriptionData;
use ringmq_protocol::filter::{SQL92, SUB_ALL, TagFilter, is_tag_type};
use ringmq_protocol::header::PullHeader;
use ringmq_protocol::message::properties_of;
use ringmq_protocol::names;
use ringmq_protocol::properties::{self, pull_flag};
use ringmq_protocol::sql::SqlFilter;

use crate::group_config::Group;
use crate::limits::{FILTER_WORK_MAX, FILTERS_MAX};
use crate::mail::PullJob;
use crate::node::Node;
use crate::refusal::Refusal;
use crate::send::text;
use crate::subscription::{Asked, GroupSubscriptions};

/// The filter of a pull.
#[derive(Debug, Clone)]
pub enum PullFilter {
    Tags(Arc<TagFilter>),
    Sql(Arc<SqlFilter>),
    /// Of a retry topic: what the group's subscription to a message's original topic says.
    Retried(Arc<GroupSubscriptions>),
}

/// A pull's filter; none passes everything.
#[derive(Debug, Default)]
pub struct Chosen {
    pub filter: Option<PullFilter>,
    /// The subscriptions that the filter is from, unless the pull brought its own.
    pub subscriptions: Option<Arc<GroupSubscriptions>>,
}

/// The filter of a pull of `topic`.
///
/// # Errors
/// The refusals of RocketMQ: what the pull relies on is unknown, too old, wrong or not allowed.
pub fn of_pull(node: &Node, group: &Group, topic: &str, header: &PullHeader, bytes: &[u8]) -> Result<Chosen, Refusal> {
    let chosen = if pull_flag::has_subscription(header.sys_flag) {
        Chosen { filter: brought(node, header, bytes)?, subscriptions: None }
    } else {
        stored(node, group, topic, header, bytes)?
    };
    if chosen.filter.is_none() && node.settings.filter_retried && names::is_retry(topic) {
        return Ok(retried(node, topic).unwrap_or_default());
    }
    Ok(chosen)
}

/// Whether the group has another subscription now than the one that a waiting pull's filter is from. What came since must not
/// be measured by the old one: it would be passed over for good.
pub fn is_outdated(node: &Node, job: &PullJob) -> bool {
    let Some(taken_from) = &job.subscriptions else { return false };
    let subscriptions = node.subscriptions.borrow();
    let Ok(now) = subscriptions.group(&taken_from.group) else { return false };
    if Arc::ptr_eq(now, taken_from) {
        return false;
    }
    match job.filter {
        // Any topic's subscription may be asked.
        Some(PullFilter::Retried(_)) => now != taken_from,
        _ => {
            let topic = &job.topic.config.topic_name;
            now.get(topic) != taken_from.get(topic)
        }
    }
}

/// The pull has its subscription with it.
fn brought(node: &Node, header: &PullHeader, bytes: &[u8]) -> Result<Option<PullFilter>, Refusal> {
    let expression = header.subscription.map(|s| text(s.get(bytes)));
    let kind = header.expression_type.map(|t| text(t.get(bytes)));
    if is_tag_type(kind.as_deref()) {
        return tags(expression.as_deref());
    }
    let kind = kind.as_deref().unwrap_or_default();
    let expression = expression.as_deref().filter(|e| !e.is_empty()).ok_or_else(Refusal::subscription_unparsable)?;
    if !node.settings.property_filter {
        return Err(Refusal::filter_unsupported(kind));
    }
    if kind != SQL92 {
        return Err(Refusal::subscription_unparsable());
    }
    let found = node.filters.borrow_mut().get(expression);
    found.map(|filter| Some(PullFilter::Sql(filter))).ok_or_else(Refusal::subscription_unparsable)
}

/// The pull relies on what its group's heartbeats said.
fn stored(node: &Node, group: &Group, topic: &str, header: &PullHeader, bytes: &[u8]) -> Result<Chosen, Refusal> {
    let name = &group.config.group_name;
    let subscriptions = node.subscriptions.borrow();
    let stored = subscriptions.group(name)?;
    if group.is_forbidden(topic) {
        return Err(Refusal::subscription_forbidden(name, topic));
    }
    let expression = header.subscription.map(|s| text(s.get(bytes)));
    let asked = Asked { version: header.sub_version, expression: expression.as_deref() };
    let subscribed = stored.for_pull(topic, asked, group.config.consume_broadcast_enable)?;
    let data = subscribed.data;
    let from_stored = |filter: PullFilter| Chosen { filter: Some(filter), subscriptions: Some(Arc::clone(stored)) };
    if !is_tag_type(Some(&data.expression_type)) {
        let sql = subscribed.sql.ok_or_else(Refusal::filter_data_missing)?;
        if !node.settings.property_filter {
            return Err(Refusal::filter_unsupported(&data.expression_type));
        }
        let sql = (!data.class_filter_mode).then(|| PullFilter::Sql(Arc::clone(sql)));
        return Ok(sql.map(from_stored).unwrap_or_default());
    }
    if subscribed.deliver_all || data.class_filter_mode {
        return Ok(Chosen::default());
    }
    Ok(tags(Some(&data.sub_string))?.map(from_stored).unwrap_or_default())
}

fn tags(expression: Option<&str>) -> Result<Option<PullFilter>, Refusal> {
    if expression.is_none_or(|e| e.is_empty() || e == SUB_ALL) {
        return Ok(None);
    }
    let parsed = TagFilter::parse(expression).map_err(|_| Refusal::subscription_unparsable())?;
    Ok((!parsed.matches_all()).then(|| PullFilter::Tags(Arc::new(parsed))))
}

fn retried(node: &Node, topic: &str) -> Option<Chosen> {
    let group = names::group_of_retry(topic)?;
    let subscriptions = node.subscriptions.borrow();
    let group = subscriptions.group(group).ok()?;
    let filter = || PullFilter::Retried(Arc::clone(group));
    group.has_sql().then(|| Chosen { filter: Some(filter()), subscriptions: Some(Arc::clone(group)) })
}

/// Whether a consumer may subscribe with this expression, which is not one of tags.
///
/// # Errors
/// It may not, or the expression is wrong.
pub fn check(property_filter: bool, subscription: &SubscriptionData) -> Result<(), Refusal> {
    if !property_filter {
        return Err(Refusal::filter_unsupported(&subscription.expression_type));
    }
    if subscription.expression_type != SQL92 {
        let why = format!("{} is no type of expression: use TAG or SQL92", subscription.expression_type);
        return Err(Refusal::expression_invalid(why));
    }
    SqlFilter::parse(&subscription.sub_string).map(drop).map_err(Refusal::expression_invalid)
}

/// The expressions of pulls that bring their own, compiled. It keeps the ones that were used last, in two halves: when
/// the younger is full it becomes the elder, and what was in the elder and was not asked for is forgotten.
#[derive(Debug, Default)]
pub struct FilterCache {
    younger: HashMap<Box<str>, Arc<SqlFilter>>,
    elder: HashMap<Box<str>, Arc<SqlFilter>>,
}

impl FilterCache {
    /// The expression, compiled; none if it is wrong, which costs a look at it each time.
    pub fn get(&mut self, expression: &str) -> Option<Arc<SqlFilter>> {
        if let Some(filter) = self.younger.get(expression) {
            return Some(Arc::clone(filter));
        }
        let filter = match self.elder.remove(expression) {
            Some(filter) => filter,
            None => Arc::new(SqlFilter::parse(expression).ok()?),
        };
        if self.younger.len() >= FILTERS_MAX / 2 {
            self.elder = mem::take(&mut self.younger);
        }
        self.younger.insert(expression.into(), Arc::clone(&filter));
        Some(filter)
    }
}

/// One read's selection of a queue's messages.
#[derive(Debug)]
pub struct Selection<'a> {
    filter: Option<&'a PullFilter>,
    /// What its evaluations have cost, in steps of about a nanosecond.
    work: usize,
}

impl<'a> Selection<'a> {
    pub fn of(filter: Option<&'a PullFilter>) -> Self {
        Self { filter, work: 0 }
    }

    /// Finding the properties costs their length. An operator may look through one of them, a conversion through a
    /// number's digits.
    fn evaluate(&mut self, filter: &SqlFilter, properties: &str) -> bool {
        const OPERATOR: usize = 8;
        self.work += properties.len() + filter.cost() * (OPERATOR + properties.len() / 16);
        filter.matches(properties)
    }
}

impl Select for Selection<'_> {
    fn wants_tags(&mut self, tags_code: i64) -> bool {
        match self.filter {
            Some(PullFilter::Tags(filter)) => filter.matches_code(tags_code),
            None | Some(PullFilter::Sql(_) | PullFilter::Retried(_)) => true,
        }
    }

    fn wants_record(&mut self, record: &[u8]) -> bool {
        match self.filter {
            None | Some(PullFilter::Tags(_)) => true,
            Some(PullFilter::Sql(filter)) => {
                properties_of(record).is_ok_and(|properties| self.evaluate(filter, &properties))
            }
            Some(PullFilter::Retried(group)) => properties_of(record).is_ok_and(|properties| {
                let original = properties::get(&properties, properties::RETRY_TOPIC);
                let filter = original.and_then(|topic| group.sql(topic));
                filter.is_none_or(|filter| self.evaluate(filter, &properties))
            }),
        }
    }

    fn is_spent(&self) -> bool {
        self.work >= FILTER_WORK_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_keeps_what_is_used_and_stays_bounded() {
        let mut cache = FilterCache::default();
        let used = cache.get("a = 1").unwrap();
        for other in 0..FILTERS_MAX * 3 {
            cache.get(&format!("b = {other}")).unwrap();
            assert!(Arc::ptr_eq(&used, &cache.get("a = 1").unwrap()));
            assert!(cache.younger.len() + cache.elder.len() <= FILTERS_MAX);
        }
        assert!(cache.get("a =").is_none());
    }

    #[test]
    fn a_read_ends_when_its_evaluations_have_cost_enough() {
        let filter = PullFilter::Sql(Arc::new(SqlFilter::parse("a CONTAINS 'x' OR b CONTAINS 'y'").unwrap()));
        let mut selection = Selection::of(Some(&filter));
        assert!(!selection.is_spent());
        let PullFilter::Sql(sql) = &filter else { unreachable!("it was just made") };
        let properties = format!("a\u{1}{}\u{2}", "z".repeat(30_000));
        while !selection.is_spent() {
            let before = selection.work;
            assert!(!selection.evaluate(sql, &properties));
            assert!(selection.work > before);
        }
    }

    #[test]
    fn a_check_says_what_is_wrong_with_a_subscription() {
        let subscription = |kind: &str, expression: &str| SubscriptionData {
            expression_type: kind.to_owned(),
            sub_string: expression.to_owned(),
            ..SubscriptionData::default()
        };
        assert!(check(true, &subscription("SQL92", "a = 1")).is_ok());
        let off = check(false, &subscription("SQL92", "a = 1")).unwrap_err();
        assert_eq!(off.remark, "The broker does not support consumer to filter message by SQL92");
        let wrong = check(true, &subscription("SQL92", "a = ")).unwrap_err();
        assert_eq!(wrong.code.0, 23);
        assert!(wrong.remark.ends_with("a property, a literal or a parenthesis should stand at byte 4"), "{wrong:?}");
        assert_eq!(check(true, &subscription("sql92", "a = 1")).unwrap_err().code.0, 23);
    }
}
