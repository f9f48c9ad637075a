//! How far the broker's own readers of its system topics have got: those of the delay levels and of the transactions. It is
//! kept with the offsets of consumer groups, where tools read it, and only the readers themselves change it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringmq_protocol::names;

use crate::control_shard::ControlShard;
use crate::look::{Question, look};
use crate::offset::{Commit, OffsetTable};
use crate::own_group::{LEVELS, OWN, TRANSACTIONS};
use crate::topic::Topic;

/// What a start tells the readers.
#[derive(Debug, Default)]
pub struct Progress {
    delay: BTreeMap<i32, i64>,
    halves: BTreeMap<i32, i64>,
    marks: BTreeMap<i32, i64>,
    /// By log shard, in milliseconds since 1970.
    pub timers: BTreeMap<u16, u64>,
}

impl Progress {
    pub fn of(offsets: &OffsetTable, timers: BTreeMap<u16, u64>) -> Self {
        let of = |group, topic| offsets.queues(topic, group).cloned().unwrap_or_default();
        Self {
            delay: of(LEVELS, names::SCHEDULE_TOPIC),
            halves: of(TRANSACTIONS, names::TRANS_HALF_TOPIC),
            marks: of(TRANSACTIONS, names::TRANS_OP_HALF_TOPIC),
            timers,
        }
    }

    /// The queue offset from which a queue is to be read.
    pub fn at(&self, topic: &str, queue_id: i32) -> Option<i64> {
        let queues = match topic {
            names::SCHEDULE_TOPIC => &self.delay,
            names::TRANS_HALF_TOPIC => &self.halves,
            names::TRANS_OP_HALF_TOPIC => &self.marks,
            _ => return None,
        };
        queues.get(&queue_id).copied()
    }
}

/// Takes progress that lies beyond the end of its queue back to that end, as RocketMQ does: the store is another one, or a
/// power failure took what ASYNC_FLUSH had not written. It is saved before anything is sent, since what comes next would lie
/// in front of it.
///
/// # Errors
/// A queue cannot be looked at, or the progress not be saved.
pub async fn correct(control: &ControlShard) -> Result<(), String> {
    let mut stored: Vec<(&str, Arc<Topic>, i32, i64)> = Vec::new();
    {
        let tables = control.tables.borrow();
        for (group, name) in OWN {
            let Some(topic) = tables.topics.get(name) else { continue };
            let queues = tables.offsets.queues(name, group).into_iter().flatten();
            stored.extend(queues.map(|(queue_id, offset)| (group, Arc::clone(topic), *queue_id, *offset)));
        }
    }
    let questions = stored.iter().map(|(_, topic, queue_id, _)| Question::ends(topic, *queue_id)).collect();
    let seen = look(control, questions).await.map_err(|why| format!("system queues cannot be looked at: {why}"))?;
    let mut beyond = false;
    for ((group, topic, queue_id, saved), seen) in stored.into_iter().zip(seen) {
        let topic = topic.config.topic_name.as_str();
        if saved > seen.max {
            tracing::warn!(
                group,
                topic,
                queue = queue_id,
                saved,
                end = seen.max,
                "the saved progress lies beyond the end of its queue and is taken back to it"
            );
            beyond = true;
            let mut tables = control.tables.borrow_mut();
            let end = Commit { group, topic, queue_id, offset: seen.max };
            tables.offsets.progress(end).map_err(|why| why.to_string())?;
        }
    }
    if beyond { control.save_offsets().await } else { Ok(()) }
}
