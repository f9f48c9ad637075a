//! Consumer offsets: how far each group has got in each queue. This table answers QUERY_CONSUMER_OFFSET and
//! UPDATE_CONSUMER_OFFSET and the commit inside a pull; it knows nothing of the queues themselves, so what a query needs
//! to know of a queue comes as an argument. The control shard owns it; the engine writes its file every few seconds, so
//! a crash can cost the last commits and consumers then see a few messages twice, as with RocketMQ.

use crate::group_config::GroupTable;
use crate::limits::{OFFSET_PAIRS_MAX, OFFSET_QUEUE_MAX, OFFSETS_MAX, RESETS_MAX};
use crate::own_group::is_own;
use crate::refusal::Refusal;
use crate::reset::GroupQueue;
use crate::table::{Revision, TableError, check_count, indent, parse_table};
use crate::topic::TopicTable;
use ringmq_protocol::body::{ConsumerOffsetSerializeWrapper, DataVersion};
use ringmq_protocol::header::UpdateConsumerOffset;
use ringmq_protocol::json::FromJson;
use std::collections::{BTreeMap, BTreeSet};

/// What stands between topic and group in the file's keys. Neither name may contain it.
const SEPARATOR: char = '@';

type Queues = BTreeMap<i32, i64>;

/// One offset to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit<'a> {
    /// The subscription group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The queue's number.
    pub queue_id: i32,
    /// The queue offset of the first message that is not consumed yet.
    pub offset: i64,
}

/// What decides where a group without an offset begins in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// The queue's lowest offset.
    pub min: i64,
    /// Bytes of the log from the message with the offset 0 on, if the queue has it.
    pub behind_origin: Option<u64>,
}

/// The consumer offsets of all groups.
#[derive(Debug, Default)]
pub struct OffsetTable {
    // By topic and then by group, as the file's keys sort; statistics ask by topic, deletion by either.
    topics: BTreeMap<Box<str>, BTreeMap<Box<str>, Queues>>,
    pairs: usize,
    count: usize,
    /// Queues whose group has not heard of its new offset yet. Until then what its members commit is of the past.
    resets: BTreeSet<GroupQueue>,
    version: DataVersion,
    revision: Revision,
}

impl OffsetTable {
    /// The table of a broker that starts: what its file held, if it held anything.
    pub fn open(file: Option<OffsetFile>) -> Self {
        file.map_or_else(Self::default, |file| file.0)
    }

    /// UPDATE_CONSUMER_OFFSET: group and topic must exist. A negative offset is acknowledged and ignored, because the
    /// Node client sends -1 for "nothing consumed yet"; one that is no number is refused.
    pub fn update(
        &mut self,
        asked: &UpdateConsumerOffset,
        groups: &GroupTable,
        topics: &TopicTable,
    ) -> Result<(), Refusal> {
        let UpdateConsumerOffset { consumer_group: group, topic, queue_id, commit_offset } = asked;
        if !groups.contains(group) {
            return Err(Refusal::offset_group_missing(group));
        }
        if !topics.contains(topic) {
            return Err(Refusal::offset_topic_missing(topic));
        }
        let offset = commit_offset.ok_or_else(|| Refusal::offset_missing(topic))?;
        self.commit(Commit { group, topic, queue_id: *queue_id, offset })
    }

    /// The commit inside a pull, whose group and topic are checked already. An offset may go backwards: that is how
    /// tools reset a group. The progress of the broker's own readers is out of a client's reach.
    pub fn commit(&mut self, commit: Commit<'_>) -> Result<(), Refusal> {
        check_not_own(commit.group, commit.topic)?;
        self.progress(commit)
    }

    /// The same for whoever may change any group's: the broker's own readers.
    pub fn progress(&mut self, commit: Commit<'_>) -> Result<(), Refusal> {
        if commit.offset < 0 {
            return Ok(());
        }
        if !(0..=OFFSET_QUEUE_MAX).contains(&commit.queue_id) {
            return Err(Refusal::invalid(format!("queueId[{}] is illegal, topic:[{}]", commit.queue_id, commit.topic)));
        }
        if self.is_reset(&commit) {
            return Ok(());
        }
        self.store(commit)
    }

    fn store(&mut self, commit: Commit<'_>) -> Result<(), Refusal> {
        if let Some(stored) = self.stored_mut(&commit) {
            if *stored != commit.offset {
                *stored = commit.offset;
                self.revision.touch();
            }
            return Ok(());
        }
        self.insert(&commit)
    }

    /// An administrator's decision where the group is to read on: stored, and proof against commits until
    /// [`reset_told`](Self::reset_told). All queues or none.
    pub fn reset(&mut self, group: &str, topic: &str, queues: &BTreeMap<i32, i64>) -> Result<(), Refusal> {
        check_not_own(group, topic)?;
        if self.resets.len() + queues.len() > RESETS_MAX {
            return Err(Refusal::too_many("resets of which groups have not heard yet", RESETS_MAX));
        }
        for (&queue_id, &offset) in queues {
            self.store(Commit { group, topic, queue_id, offset })?;
            self.resets.insert(GroupQueue { group: group.into(), topic: topic.into(), queue_id });
        }
        Ok(())
    }

    /// A pull of the group was told of the reset.
    pub fn reset_told(&mut self, queue: &GroupQueue) {
        self.resets.remove(queue);
    }

    /// A deleted group hears of nothing any more, whether or not its offsets stay.
    pub fn forget_resets(&mut self, group: &str) {
        self.resets.retain(|queue| *queue.group != *group);
    }

    fn is_reset(&self, commit: &Commit<'_>) -> bool {
        let Commit { group, topic, queue_id, .. } = *commit;
        !self.resets.is_empty()
            && self.resets.contains(&GroupQueue { group: group.into(), topic: topic.into(), queue_id })
    }

    /// CLONE_GROUP_OFFSET: the destination has exactly the source's offsets of the topic, or keeps its own if the source has none.
    pub fn clone_group(&mut self, topic: &str, source: &str, destination: &str) -> Result<(), Refusal> {
        check_not_own(destination, topic)?;
        let Some(queues) = self.queues(topic, source).cloned() else { return Ok(()) };
        self.remove_pair(topic, destination);
        for (queue_id, offset) in queues {
            self.store(Commit { group: destination, topic, queue_id, offset })?;
        }
        Ok(())
    }

    /// All offsets of a group in a topic, by queue.
    pub fn queues(&self, topic: &str, group: &str) -> Option<&BTreeMap<i32, i64>> {
        self.topics.get(topic)?.get(group)
    }

    fn remove_pair(&mut self, topic: &str, group: &str) {
        let Some(groups) = self.topics.get_mut(topic) else { return };
        if let Some(queues) = groups.remove(group) {
            self.pairs -= 1;
            self.count -= queues.len();
            self.revision.touch();
        }
    }

    /// A group begins at 0 in a queue, unless it has an offset there; true if it had none.
    ///
    /// # Errors
    /// There is no room for another offset.
    pub fn begin(&mut self, group: &str, topic: &str, queue_id: i32) -> Result<bool, Refusal> {
        let begins = self.stored(group, topic, queue_id).is_none();
        if begins {
            self.insert(&Commit { group, topic, queue_id, offset: 0 })?;
        }
        Ok(begins)
    }

    /// The stored offset, if there is one.
    pub fn stored(&self, group: &str, topic: &str, queue_id: i32) -> Option<i64> {
        self.topics.get(topic)?.get(group)?.get(&queue_id).copied()
    }

    /// What a query answers when no offset is stored. A new group starts at 0 while the queue waits for its first message,
    /// or has it with no more than `recent_bytes` of the log behind it, whatever the client's policy; otherwise the
    /// client's policy decides.
    ///
    /// `zero_if_not_found` is the request's `setZeroIfNotFound`; there is no `queue` where there is none of this number.
    pub fn initial(
        zero_if_not_found: Option<bool>,
        queue: Option<Beginning>,
        recent_bytes: u64,
    ) -> Result<i64, Refusal> {
        if zero_if_not_found == Some(false) {
            return Err(Refusal::offset_not_found_no_zero());
        }
        let is_young =
            |queue: Beginning| queue.min <= 0 && queue.behind_origin.is_none_or(|behind| behind <= recent_bytes);
        if queue.is_some_and(is_young) { Ok(0) } else { Err(Refusal::offset_not_found()) }
    }

    /// Topics for which the group has an offset, online or not.
    pub fn topics_of<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.topics.iter().filter(move |(_, groups)| groups.contains_key(group)).map(|(topic, _)| &**topic)
    }

    /// All pairs of topic and group with an offset, sorted by topic.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.topics.iter().flat_map(|(topic, groups)| groups.keys().map(move |group| (&**topic, &**group)))
    }

    /// Topics for which some group has an offset.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(|topic| &**topic)
    }

    /// The groups that have an offset for the topic, with their offsets by queue.
    pub fn of_topic(&self, topic: &str) -> impl Iterator<Item = (&str, &BTreeMap<i32, i64>)> {
        self.topics.get(topic).into_iter().flatten().map(|(group, queues)| (&**group, queues))
    }

    /// Groups that have an offset for the topic, online or not.
    pub fn groups_of(&self, topic: &str) -> impl Iterator<Item = &str> {
        self.topics.get(topic).into_iter().flatten().map(|(group, _)| &**group)
    }

    /// Forgets a deleted topic.
    pub fn remove_topic(&mut self, topic: &str) {
        self.resets.retain(|queue| *queue.topic != *topic);
        if let Some(groups) = self.topics.remove(topic) {
            self.pairs -= groups.len();
            self.count -= groups.values().map(BTreeMap::len).sum::<usize>();
            self.revision.touch();
        }
    }

    /// Forgets a deleted group whose offsets were to be cleaned. The broker's own readers go on where they are.
    pub fn remove_group(&mut self, group: &str) {
        let Self { topics, pairs, count, revision, .. } = self;
        topics.retain(|topic, groups| {
            if !is_own(group, topic)
                && let Some(queues) = groups.remove(group)
            {
                *pairs -= 1;
                *count -= queues.len();
                revision.touch();
            }
            !groups.is_empty()
        });
    }

    /// Pairs of topic and group in the table.
    pub fn len(&self) -> usize {
        self.pairs
    }

    /// True when no offset is stored.
    pub fn is_empty(&self) -> bool {
        self.pairs == 0
    }

    /// GET_ALL_CONSUMER_OFFSET, and what the file holds.
    pub fn list(&self) -> ConsumerOffsetSerializeWrapper {
        let groups = self.topics.iter().flat_map(|(topic, groups)| groups.iter().map(move |pair| (topic, pair)));
        ConsumerOffsetSerializeWrapper {
            data_version: self.version,
            offset_table: groups
                .map(|(topic, (group, queues))| (format!("{topic}{SEPARATOR}{group}"), queues.clone()))
                .collect(),
        }
    }

    /// The table's file as it is to be written now. The version counts the writes, not the offsets.
    pub fn to_file(&mut self, now_ms: i64) -> Vec<u8> {
        self.version = self.version.next(now_ms);
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

    fn stored_mut(&mut self, commit: &Commit<'_>) -> Option<&mut i64> {
        self.topics.get_mut(commit.topic)?.get_mut(commit.group)?.get_mut(&commit.queue_id)
    }

    fn insert(&mut self, commit: &Commit<'_>) -> Result<(), Refusal> {
        let Commit { group, topic, queue_id, offset } = *commit;
        if topic.is_empty() || group.is_empty() || topic.contains(SEPARATOR) || group.contains(SEPARATOR) {
            return Err(Refusal::invalid(format!("topic[{topic}] and group[{group}] cannot have an offset")));
        }
        let is_new_pair = self.topics.get(topic).is_none_or(|groups| !groups.contains_key(group));
        if is_new_pair && self.pairs >= OFFSET_PAIRS_MAX {
            return Err(Refusal::too_many("pairs of topic and group with offsets", OFFSET_PAIRS_MAX));
        }
        if self.count >= OFFSETS_MAX {
            return Err(Refusal::too_many("consumer offsets", OFFSETS_MAX));
        }
        self.pairs += usize::from(is_new_pair);
        self.count += 1;
        self.topics.entry(topic.into()).or_default().entry(group.into()).or_default().insert(queue_id, offset);
        self.revision.touch();
        Ok(())
    }
}

fn check_not_own(group: &str, topic: &str) -> Result<(), Refusal> {
    if is_own(group, topic) { Err(Refusal::offset_of_own(group, topic)) } else { Ok(()) }
}

/// What an offset table's file holds, read but not yet in force.
#[derive(Debug)]
pub struct OffsetFile(OffsetTable);

impl OffsetFile {
    /// Reads the file of RocketMQ 4.9 or 5.x, which is our own too. Keys that do not name one topic and one group, and
    /// negative offsets, mean nothing to anybody and are left out.
    pub fn parse(bytes: &[u8]) -> Result<Self, TableError> {
        let json = parse_table(bytes, "offsetTable")?;
        let wrapper = ConsumerOffsetSerializeWrapper::from_json(&json, "ConsumerOffsetSerializeWrapper")?;
        check_count("pairs of topic and group", wrapper.offset_table.len(), OFFSET_PAIRS_MAX)?;
        let count = wrapper.offset_table.values().map(BTreeMap::len).sum();
        check_count("consumer offsets", count, OFFSETS_MAX)?;
        let mut table = OffsetTable { version: wrapper.data_version, ..OffsetTable::default() };
        for (key, queues) in &wrapper.offset_table {
            let Some((topic, group)) = key.split_once(SEPARATOR) else { continue };
            for (&queue_id, &offset) in queues {
                // What this table would refuse has no meaning in a file either.
                let _ = table.progress(Commit { group, topic, queue_id, offset });
            }
        }
        table.revision = Revision::default();
        Ok(Self(table))
    }
}

#[cfg(test)]
mod tests;
