//! Messages that groups have not read and that retention drops next: one line for each group and topic while something can
//! still be done about it, and what an operator may ask for. While nothing is near no group is looked at.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::unread::{Pair, firsts};
use crate::control_shard::ControlShard;
use crate::limits::UNREAD_LINES_MAX;
use crate::own_group;

/// Looks of retention after which the groups are looked at again while the same segments are the next to go.
const LOOKS_APART: u32 = 6;

/// What groups are about to lose unread.
#[derive(Debug, Default)]
pub struct Ahead(BTreeMap<Pair, u64>);

impl Ahead {
    /// Messages, over all groups.
    pub fn messages(&self) -> u64 {
        self.0.values().sum()
    }

    /// `topic@group=messages` with commas between, those with the most first; behind a plus how many others there are.
    pub fn groups(&self) -> String {
        let mut pairs: Vec<_> = self.0.iter().collect();
        pairs.sort_by_key(|(_, messages)| Reverse(**messages));
        let others = pairs.len().saturating_sub(UNREAD_LINES_MAX);
        pairs.truncate(UNREAD_LINES_MAX);
        let mut parts: Vec<_> =
            pairs.into_iter().map(|((topic, group), messages)| format!("{topic}@{group}={messages}")).collect();
        if others > 0 {
            parts.push(format!("+{others}"));
        }
        parts.join(",")
    }

    /// Takes in what a look found, and tells of those that were not in the last one.
    fn note(&mut self, found: BTreeMap<Pair, u64>) {
        let before = std::mem::replace(&mut self.0, found);
        let mut news = self.0.iter().filter(|(pair, _)| !before.contains_key(*pair));
        for ((topic, group), messages) in news.by_ref().take(UNREAD_LINES_MAX) {
            tracing::warn!(
                %group, %topic, messages,
                "messages that the group has not read are the next to be dropped, by their age or because the disk is nearly full"
            );
        }
        let others = news.count();
        if others > 0 {
            tracing::warn!("{others} more groups have not read messages that are the next to be dropped");
        }
    }
}

/// When to look.
#[derive(Debug, Default)]
pub(super) struct Near {
    /// Bytes of log that were the next to go.
    bytes: u64,
    /// How often that was so since the groups were looked at.
    times: u32,
}

impl Near {
    /// Whether the groups have to be looked at, now that so many bytes are the next to go.
    fn is_due(&mut self, bytes: u64) -> bool {
        self.times = if bytes == self.bytes { (self.times + 1) % LOOKS_APART } else { 0 };
        self.bytes = bytes;
        bytes > 0 && self.times == 0
    }

    pub(super) async fn look(&mut self, control: &Rc<ControlShard>, bytes: u64) {
        if self.is_due(bytes) {
            look(control).await;
        } else if bytes == 0 {
            control.ahead.borrow_mut().0.clear();
        }
    }
}

/// Compares every group's progress with where its queues will begin.
async fn look(control: &Rc<ControlShard>) {
    let mut found = BTreeMap::new();
    let mut unknown = 0;
    let topics: Vec<Box<str>> = control.tables.borrow().offsets.topics().map(Into::into).collect();
    for topic in topics {
        let Some(groups) = unread(control, &topic).await else {
            unknown += 1;
            continue;
        };
        found.extend(groups.into_iter().map(|(group, messages)| ((topic.clone(), group), messages)));
    }
    control.ahead.borrow_mut().note(found);
    if unknown > 0 {
        tracing::warn!(topics = unknown, "it is not known what groups are about to lose unread in some topics");
    }
}

/// How many messages each group of a topic has not read of those that go next.
async fn unread(control: &Rc<ControlShard>, topic: &str) -> Option<Vec<(Box<str>, u64)>> {
    let behind = firsts(control, topic, true).await?;
    let is_short = |(queue, committed): (&i32, &i64)| behind.get(queue).is_some_and(|behind| committed < behind);
    let any = control.tables.borrow().offsets.of_topic(topic).any(|(_, queues)| queues.iter().any(is_short));
    if !any {
        return Some(Vec::new());
    }
    // What a group has lost already it does not lose again.
    let firsts = firsts(control, topic, false).await?;
    let tables = control.tables.borrow();
    let mut found = Vec::new();
    // The broker's own reader of the delay levels has what it needs kept.
    for (group, queues) in tables.offsets.of_topic(topic).filter(|(group, _)| *group != own_group::LEVELS) {
        let messages = queues.iter().filter_map(|(queue, &committed)| {
            let (first, behind) = (*firsts.get(queue)?, *behind.get(queue)?);
            u64::try_from(behind - committed.max(first)).ok()
        });
        let messages = messages.sum();
        if messages > 0 {
            found.push((group.into(), messages));
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_looked_at_when_something_comes_near_and_now_and_then_while_it_is() {
        let mut near = Near::default();
        let due = |near: &mut Near, bytes| (0..12).map(|_| near.is_due(bytes)).collect::<Vec<_>>();
        assert!(!due(&mut near, 0).contains(&true), "nothing is near");
        let now_and_then = [true, false, false, false, false, false].repeat(2);
        assert_eq!(due(&mut near, 5), now_and_then);
        assert!(near.is_due(7) && !near.is_due(7), "more came near");
        assert!(!near.is_due(0) && near.is_due(7), "and again");
    }

    #[test]
    fn the_groups_with_the_most_are_named_first() {
        let pair = |n: u64| ((Box::from("t"), format!("g{n}").into()), n);
        let mut ahead = Ahead((1..=3).map(pair).collect());
        assert_eq!((ahead.messages(), &*ahead.groups()), (6, "t@g3=3,t@g2=2,t@g1=1"));
        ahead.note((1..=22).map(pair).collect());
        assert!(ahead.groups().starts_with("t@g22=22,") && ahead.groups().ends_with(",t@g3=3,+2"));
        ahead.note(BTreeMap::new());
        assert_eq!((ahead.messages(), &*ahead.groups()), (0, ""));
    }
}
