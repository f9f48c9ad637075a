//! Offsets that an administrator has reset and that the group's next pull is to learn of (`useServerSideResetOffset`). The
//! control shard decides and stores them, see [`OffsetTable`](crate::offset::OffsetTable); each waits here, on the
//! executor of its queue's log, until a pull of the group comes by and is told to go on from there.

use std::cell::RefCell;
use std::sync::Arc;

use foldhash::HashMap;

/// One queue of a topic, as a group reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupQueue {
    pub group: Arc<str>,
    pub topic: Arc<str>,
    pub queue_id: i32,
}

/// A change of what waits.
#[derive(Debug, Clone)]
pub enum ResetChange {
    Put(GroupQueue, i64),
    /// The topic or the group was deleted.
    ForgetTopic(Arc<str>),
    ForgetGroup(Arc<str>),
}

/// The resets that wait on one executor. Bounded by the control shard, see
/// [`RESETS_MAX`](crate::limits::RESETS_MAX).
#[derive(Debug, Default)]
pub struct Resets {
    waiting: RefCell<HashMap<GroupQueue, i64>>,
}

impl Resets {
    pub fn apply(&self, change: ResetChange) {
        let mut waiting = self.waiting.borrow_mut();
        match change {
            ResetChange::Put(queue, offset) => drop(waiting.insert(queue, offset)),
            ResetChange::ForgetTopic(topic) => waiting.retain(|queue, _| queue.topic != topic),
            ResetChange::ForgetGroup(group) => waiting.retain(|queue, _| queue.group != group),
        }
    }

    /// What this pull is to be told, if anything; it is told once.
    pub fn take(&self, group: &str, topic: &str, queue_id: i32) -> Option<(GroupQueue, i64)> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return None;
        }
        waiting.remove_entry(&GroupQueue { group: group.into(), topic: topic.into(), queue_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(group: &str, topic: &str, queue_id: i32) -> GroupQueue {
        GroupQueue { group: group.into(), topic: topic.into(), queue_id }
    }

    #[test]
    fn a_reset_is_told_to_one_pull_of_its_group_and_queue() {
        let resets = Resets::default();
        assert_eq!(resets.take("g", "T", 1), None);
        resets.apply(ResetChange::Put(queue("g", "T", 1), 7));
        resets.apply(ResetChange::Put(queue("g", "T", 1), 9));
        assert_eq!(resets.take("g", "T", 0), None);
        assert_eq!(resets.take("h", "T", 1), None);
        assert_eq!(resets.take("g", "T", 1), Some((queue("g", "T", 1), 9)));
        assert_eq!(resets.take("g", "T", 1), None);
    }

    #[test]
    fn a_deleted_topic_or_group_leaves_none_behind() {
        let resets = Resets::default();
        for (group, topic) in [("g", "T"), ("g", "U"), ("h", "T"), ("h", "U")] {
            resets.apply(ResetChange::Put(queue(group, topic, 0), 1));
        }
        resets.apply(ResetChange::ForgetTopic("T".into()));
        resets.apply(ResetChange::ForgetGroup("g".into()));
        assert_eq!(resets.take("h", "U", 0), Some((queue("h", "U", 0), 1)));
        for (group, topic) in [("g", "T"), ("g", "U"), ("h", "T")] {
            assert_eq!(resets.take(group, topic, 0), None);
        }
    }
}
