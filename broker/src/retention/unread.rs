//! Messages that were dropped before a group had read them: one line for each group and topic, and a count. Retention takes
//! no account of readers; an operator has to hear of it.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringmq_rt::time::sleep;

use crate::control_shard::ControlShard;
use crate::limits::{FIRSTS_PER_ASK, UNREAD_LINES_MAX};
use crate::mail::{Ask, Told};
use crate::own_group;
use crate::retention::ahead::Near;
use crate::runtime_info;

/// A topic, and a group that reads it.
pub(super) type Pair = (Box<str>, Box<str>);

/// What was lost unread.
#[derive(Debug, Default)]
pub struct Unread {
    /// By topic and group, by queue: up to where what is gone was counted. Groups that have caught up are not in it.
    behind: BTreeMap<Pair, BTreeMap<i32, i64>>,
    lost: u64,
}

/// How far a group has got in a queue, and where the queue begins now.
#[derive(Debug, Clone, Copy)]
struct Progress<'a> {
    topic: &'a str,
    group: &'a str,
    queue_id: i32,
    committed: i64,
    first: i64,
}

impl Unread {
    /// Messages that were dropped unread since the broker started, over all groups.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes in where a queue begins; returns how many messages the group lost by that, since the last time.
    fn note(&mut self, at: Progress<'_>) -> u64 {
        let pair: Pair = (at.topic.into(), at.group.into());
        if at.committed >= at.first {
            if let Some(queues) = self.behind.get_mut(&pair) {
                queues.remove(&at.queue_id);
                if queues.is_empty() {
                    self.behind.remove(&pair);
                }
            }
            return 0;
        }
        let counted = self.behind.entry(pair).or_default().insert(at.queue_id, at.first);
        let from = counted.map_or(at.committed, |counted| counted.max(at.committed));
        u64::try_from(at.first - from).unwrap_or(0)
    }

    /// Forgets those of topics and groups that are gone.
    fn retain(&mut self, lives: impl Fn(&str, &str) -> bool) {
        self.behind.retain(|(topic, group), _| lives(topic, group));
    }

    fn is_known(&self, topic: &str, group: &str) -> bool {
        self.behind.contains_key(&(Box::from(topic), Box::from(group)))
    }
}

/// Looks after each drop, and ahead of the next one while it is near, as long as the broker runs.
pub async fn watch(control: Rc<ControlShard>) {
    let mut dropped = None;
    let mut near = Near::default();
    while !control.is_stopping() {
        match runtime_info::totals(&control, false).await {
            Ok(totals) => {
                if dropped != Some(totals.log.dropped) {
                    // What was lost before the start is no news.
                    look(&control, dropped.is_some()).await;
                    dropped = Some(totals.log.dropped);
                }
                near.look(&control, totals.goes_next).await;
            }
            Err(refusal) => tracing::warn!(%refusal, "it is not known what groups lost unread"),
        }
        sleep(control.node.settings.retention.interval).await;
    }
}

/// Compares every group's progress with where its queues begin.
async fn look(control: &Rc<ControlShard>, counts: bool) {
    let mut lines = 0;
    let mut unknown = 0;
    let topics: Vec<Box<str>> = control.tables.borrow().offsets.topics().map(Into::into).collect();
    for topic in topics {
        let Some(firsts) = firsts(control, &topic, false).await else {
            unknown += 1;
            continue;
        };
        let tables = control.tables.borrow();
        let mut unread = control.unread.borrow_mut();
        // The broker's own reader of the delay levels counts what it loses by itself.
        for (group, queues) in tables.offsets.of_topic(&topic).filter(|(group, _)| *group != own_group::LEVELS) {
            let known = unread.is_known(&topic, group);
            let (topic, group) = (&*topic, group);
            let lost = queues.iter().filter_map(|(&queue_id, &committed)| {
                let first = *firsts.get(&queue_id)?;
                Some(unread.note(Progress { topic, group, queue_id, committed, first }))
            });
            let lost: u64 = lost.sum();
            if lost == 0 || !counts {
                continue;
            }
            unread.lost += lost;
            if !known {
                lines += 1;
                if lines <= UNREAD_LINES_MAX {
                    tracing::warn!(group, topic, messages = lost, "messages were dropped that the group has not read");
                }
            }
        }
    }
    let tables = control.tables.borrow();
    control.unread.borrow_mut().retain(|topic, group| tables.offsets.queues(topic, group).is_some());
    drop(tables);
    if lines > UNREAD_LINES_MAX {
        tracing::warn!("{} more groups lost messages unread", lines - UNREAD_LINES_MAX);
    }
    if unknown > 0 {
        tracing::warn!(topics = unknown, "it is not known what groups lost unread in some topics");
    }
}

/// Where the queues of a topic begin that some group has an offset of, or `ahead` of retention will begin.
pub(super) async fn firsts(control: &Rc<ControlShard>, topic: &str, ahead: bool) -> Option<BTreeMap<i32, i64>> {
    let node = &control.node;
    let mut by_log: BTreeMap<u16, Vec<(i32, i64)>> = BTreeMap::new();
    {
        let tables = control.tables.borrow();
        let Some(found) = tables.topics.get(topic) else { return Some(BTreeMap::new()) };
        let mut lowest: BTreeMap<i32, i64> = BTreeMap::new();
        for (&queue, &committed) in tables.offsets.of_topic(topic).flat_map(|(_, queues)| queues) {
            lowest.entry(queue).and_modify(|lowest| *lowest = committed.min(*lowest)).or_insert(committed);
        }
        for (queue, committed) in lowest {
            by_log.entry(found.home(queue, node.log_shards())).or_default().push((queue, committed));
        }
    }
    let mut firsts = BTreeMap::new();
    for (log, queues) in by_log {
        for some in queues.chunks(FIRSTS_PER_ASK) {
            let ask = Ask::Firsts { log, topic: topic.into(), queues: some.into(), ahead };
            match node.ask(node.executor_of(log), ask).await {
                Told::Firsts(found) => firsts.extend(some.iter().map(|(queue, _)| *queue).zip(found)),
                _ => return None,
            }
        }
    }
    Some(firsts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_counted_once() {
        let mut unread = Unread::default();
        let mut note =
            |committed, first| unread.note(Progress { topic: "t", group: "g", queue_id: 1, committed, first });
        assert_eq!(note(5, 5), 0);
        assert_eq!(note(5, 8), 3);
        assert_eq!(note(5, 8), 0, "that is known");
        assert_eq!(note(6, 8), 0, "a late commit takes nothing back");
        assert_eq!(note(6, 10), 2);
        assert_eq!(note(12, 11), 0);
        assert_eq!(note(12, 20), 8, "it had caught up");
        assert!(unread.is_known("t", "g") && !unread.is_known("t", "h"));
        unread.retain(|topic, _| topic != "t");
        assert!(unread.behind.is_empty());
    }
}
