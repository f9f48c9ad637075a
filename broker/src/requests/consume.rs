//! How far groups are, for tools: consume statistics, time spans, who consumes what, clones and corrections of offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use ringmq_protocol::body::{
    ConsumeStats, ConsumeStatsList, ConsumeTimeSpan, ConsumeTimeSpans, CorrectionOffsets, GroupList, MessageQueue,
    OffsetWrapper, SubscriptionOfGroup, TopicList,
};
use ringmq_protocol::command::HeaderView;
use ringmq_protocol::header::{
    BrokerConsumeStats, BrokerStats, CloneGroupOffset, ConsumeTimeSpanQuery, GetConsumeStats, Group,
    QueryCorrectionOffset, QuerySubscription, Topic as TopicName,
};
use ringmq_rt::wall_ms;
use smallvec::smallvec;

use super::{Good, Outcome};
use crate::control::Control;
use crate::control_shard::ControlShard;
use crate::look::{Question, look};
use crate::refusal::Refusal;
use crate::topic::Topic;

/// A name in a header, unless it is blank.
fn given(name: Option<&str>) -> Option<&str> {
    name.filter(|name| !name.trim().is_empty())
}

/// Whether a group that is online has given up a topic of which it still has offsets.
fn is_given_up(tables: &Control, group: &str, topic: &str) -> bool {
    tables.members.subscriptions(group).is_some_and(|s| !s.is_empty() && s.get(topic).is_none())
}

/// GET_CONSUME_STATS.
pub(super) async fn stats(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let GetConsumeStats { consumer_group: group, topic, topic_list } = GetConsumeStats::decode(view)?;
    let topics: Vec<Arc<Topic>> = {
        let tables = control.tables.borrow();
        let listed: Vec<&str> = given(topic_list.as_deref())
            .into_iter()
            .flat_map(|list| list.split(';'))
            .filter(|t| !t.is_empty())
            .collect();
        let names: BTreeSet<&str> = if listed.is_empty() {
            let all: Vec<&str> = match given(topic.as_deref()) {
                Some(topic) => vec![topic],
                None => tables.offsets.topics_of(&group).collect(),
            };
            all.into_iter().filter(|topic| !is_given_up(&tables, &group, topic)).collect()
        } else {
            listed.into_iter().collect()
        };
        names.into_iter().filter_map(|name| tables.topics.get(name).cloned()).collect()
    };
    let queues = topics.iter().flat_map(|topic| (0..topic.config.read_queue_nums).map(|id| (Arc::clone(topic), id)));
    let offset_table = progress(control, &group, queues.collect()).await?;
    let past = control.past.borrow();
    let consume_tps = topics.iter().map(|topic| past.pulled_per_second(&group, &topic.config.topic_name)).sum();
    drop(past);
    let stats = ConsumeStats { consume_tps, offset_table };
    Ok(Good::body(stats.to_vec()))
}

/// How far a group is in each of these queues. The broker does not tell pulled from consumed messages.
async fn progress(
    control: &ControlShard,
    group: &str,
    queues: Vec<(Arc<Topic>, i32)>,
) -> Result<BTreeMap<MessageQueue, OffsetWrapper>, Refusal> {
    let stored: Vec<i64> = {
        let tables = control.tables.borrow();
        let of = |(topic, id): &(Arc<Topic>, i32)| tables.offsets.stored(group, &topic.config.topic_name, *id);
        queues.iter().map(|queue| of(queue).unwrap_or(0)).collect()
    };
    let question = |((topic, id), offset): (&(Arc<Topic>, i32), &i64)| Question {
        times_at: smallvec![offset - 1],
        ..Question::ends(topic, *id)
    };
    let seen = look(control, queues.iter().zip(&stored).map(question).collect()).await?;
    let broker = &control.node.settings.identity.broker_name;
    let mut table = BTreeMap::new();
    for (((topic, id), consumer_offset), seen) in queues.iter().zip(stored).zip(seen) {
        let last_timestamp = seen.times.first().copied().flatten().unwrap_or(0);
        let progress =
            OffsetWrapper { broker_offset: seen.max, consumer_offset, last_timestamp, pull_offset: consumer_offset };
        table.insert(MessageQueue::new(&topic.config.topic_name, broker, *id), progress);
    }
    Ok(table)
}

/// GET_BROKER_CONSUME_STATS: the same of every group.
pub(super) async fn all_stats(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let BrokerConsumeStats { is_order } = BrokerConsumeStats::decode(view)?;
    let groups: BTreeMap<String, Vec<Arc<Topic>>> = {
        let tables = control.tables.borrow();
        let names = tables.groups.iter().map(|group| group.config.group_name.clone());
        let mut groups: BTreeMap<String, Vec<Arc<Topic>>> = names.map(|name| (name, Vec::new())).collect();
        for (topic, group) in tables.offsets.pairs() {
            let Some(topics) = groups.get_mut(group) else { continue };
            let found = tables.topics.get(topic).filter(|topic| !is_order || topic.config.order);
            topics.extend(found.filter(|_| !is_given_up(&tables, group, topic)).cloned());
        }
        groups
    };
    let mut list = ConsumeStatsList {
        broker_addr: control.node.settings.identity.broker_addr.clone(),
        ..ConsumeStatsList::default()
    };
    for (group, topics) in groups {
        let mut of_group = Vec::with_capacity(topics.len());
        for topic in topics {
            let queues = (0..topic.config.write_queue_nums).map(|id| (Arc::clone(&topic), id)).collect();
            let offset_table = progress(control, &group, queues).await?;
            let behind = |queue: &OffsetWrapper| queue.broker_offset - queue.consumer_offset;
            list.total_diff += offset_table.values().map(behind).sum::<i64>();
            let consume_tps = control.past.borrow().pulled_per_second(&group, &topic.config.topic_name);
            of_group.push(ConsumeStats { consume_tps, offset_table });
        }
        list.consume_stats_list.push(BTreeMap::from([(group, of_group)]));
    }
    Ok(Good::body(list.to_vec()))
}

/// VIEW_BROKER_STATS_DATA.
pub(super) fn traffic(control: &ControlShard, view: &HeaderView<'_>) -> Outcome {
    let BrokerStats { name, key } = BrokerStats::decode(view)?;
    let cluster = &control.node.settings.identity.cluster_name;
    let seen = control.past.borrow().view(&name, &key, cluster);
    let seen = seen.ok_or_else(|| Refusal::failed(format!("The stats <{name}> <{key}> not exist")))?;
    Ok(Good::body(seen.to_vec()))
}

/// QUERY_CONSUME_TIME_SPAN.
pub(super) async fn time_span(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let ConsumeTimeSpanQuery { topic: name, group } = ConsumeTimeSpanQuery::decode(view)?;
    let (topic, stored): (Arc<Topic>, Vec<i64>) = {
        let tables = control.tables.borrow();
        let topic = tables.topics.get(&name).cloned().ok_or_else(|| Refusal::topic_unknown(&name))?;
        let queues = 0..topic.config.write_queue_nums;
        let stored = queues.map(|id| tables.offsets.stored(&group, &name, id).unwrap_or(0)).collect();
        (topic, stored)
    };
    let question = |(id, offset): (i32, &i64)| Question {
        times_at: smallvec![offset - 1, *offset],
        ends_times: true,
        ..Question::ends(&topic, id)
    };
    let seen = look(control, (0..).zip(&stored).map(question).collect()).await?;
    let broker = &control.node.settings.identity.broker_name;
    let now_ms = wall_ms();
    let span = |(queue_id, seen): (i32, crate::look::Seen)| {
        let min = seen.first_ms.unwrap_or(-1);
        let at = |nth: usize| seen.times.get(nth).copied().flatten();
        ConsumeTimeSpan {
            // Nothing is consumed yet: as old as the queue.
            consume_time_stamp: at(0).unwrap_or(min),
            delay_time: at(1).map_or(0, |next| now_ms.saturating_sub(next).max(0)),
            max_time_stamp: seen.last_ms.unwrap_or(-1),
            message_queue: MessageQueue::new(&name, broker, queue_id),
            min_time_stamp: min,
        }
    };
    let consume_time_span_set = (0..).zip(seen).map(span).collect();
    Ok(Good::body(ConsumeTimeSpans { consume_time_span_set }.to_vec()))
}

/// QUERY_TOPIC_CONSUME_BY_WHO: groups that are online with a subscription, and those that have offsets.
pub(super) fn groups_of_topic(control: &ControlShard, view: &HeaderView<'_>) -> Outcome {
    let topic = TopicName::decode(view)?.topic;
    let tables = control.tables.borrow();
    let groups: BTreeSet<&str> =
        tables.members.groups_subscribed_to(&topic).chain(tables.offsets.groups_of(&topic)).collect();
    Ok(Good::body(GroupList { group_list: groups.into_iter().map(str::to_owned).collect() }.to_vec()))
}

/// QUERY_TOPICS_BY_CONSUMER: topics in which the group has offsets.
pub(super) fn topics_of_group(control: &ControlShard, view: &HeaderView<'_>) -> Outcome {
    let group = Group::decode(view)?.group;
    let topic_list = control.tables.borrow().offsets.topics_of(&group).map(str::to_owned).collect();
    let broker_addr = Some(control.node.settings.identity.broker_addr.clone());
    Ok(Good::body(TopicList { broker_addr, topic_list }.to_vec()))
}

/// QUERY_SUBSCRIPTION_BY_CONSUMER.
pub(super) fn subscription(control: &ControlShard, view: &HeaderView<'_>) -> Outcome {
    let QuerySubscription { group, topic } = QuerySubscription::decode(view)?;
    let tables = control.tables.borrow();
    let subscriptions = tables.members.subscriptions(&group);
    let subscription_data = subscriptions.and_then(|s| s.get(topic.as_deref()?)).cloned();
    drop(tables);
    Ok(Good::body(SubscriptionOfGroup { group, subscription_data, topic }.to_vec()))
}

/// CLONE_GROUP_OFFSET: a group continues where another one is.
pub(super) fn clone_offsets(control: &ControlShard, view: &HeaderView<'_>) -> Outcome {
    let CloneGroupOffset { src_group, dest_group, topic, offline } = CloneGroupOffset::decode(view)?;
    let mut tables = control.tables.borrow_mut();
    let topics: Vec<String> = match given(topic.as_deref()) {
        Some(topic) => vec![topic.to_owned()],
        None => tables.offsets.topics_of(&src_group).map(str::to_owned).collect(),
    };
    for topic in topics {
        let passed_over = !tables.topics.contains(&topic) || (!offline && is_given_up(&tables, &src_group, &topic));
        if !passed_over {
            tables.offsets.clone_group(&topic, &src_group, &dest_group)?;
        }
    }
    Ok(Good::default())
}

/// QUERY_CORRECTION_OFFSET: for each queue how far the slowest group is, or no bound where the compared group is behind it.
pub(super) async fn correction(control: &Rc<ControlShard>, view: &HeaderView<'_>) -> Outcome {
    let QueryCorrectionOffset { filter_groups, compare_group, topic: name } = QueryCorrectionOffset::decode(view)?;
    let passed_over: BTreeSet<&str> = filter_groups.iter().flat_map(|groups| groups.split(',')).collect();
    let (offsets, compared, topic): (Vec<(i32, i64)>, BTreeMap<i32, i64>, _) = {
        let tables = control.tables.borrow();
        let groups = tables.offsets.groups_of(&name).filter(|group| !passed_over.contains(group));
        let queues = groups.filter_map(|group| tables.offsets.queues(&name, group)).flatten();
        let compared = tables.offsets.queues(&name, &compare_group).cloned().unwrap_or_default();
        (queues.map(|(id, offset)| (*id, *offset)).collect(), compared, tables.topics.get(&name).cloned())
    };
    let topic = topic.ok_or_else(|| Refusal::topic_unknown(&name))?;
    let ids: BTreeSet<i32> = offsets.iter().map(|(id, _)| *id).collect();
    let seen = look(control, ids.iter().map(|id| Question::ends(&topic, *id)).collect()).await?;
    let lowest: BTreeMap<i32, i64> = ids.into_iter().zip(seen.into_iter().map(|seen| seen.min)).collect();
    let mut correction_offsets: BTreeMap<i32, i64> = BTreeMap::new();
    for (id, offset) in offsets {
        // A group that has fallen out of the queue holds nobody back.
        if lowest.get(&id).is_some_and(|min| offset >= *min) {
            let slowest = correction_offsets.entry(id).or_insert(offset);
            *slowest = (*slowest).min(offset);
        }
    }
    for (id, offset) in compared {
        if let Some(slowest) = correction_offsets.get_mut(&id)
            && *slowest > offset
        {
            *slowest = i64::MAX;
        }
    }
    Ok(Good::body(CorrectionOffsets { correction_offsets }.to_vec()))
}
