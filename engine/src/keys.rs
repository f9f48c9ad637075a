//! The key index: messages by their unique key and by their business keys. An entry is a 64-bit hash of topic and key,
//! with the kind of key in its lowest bit, and leads to a record; the record itself then says whether it is meant.

use std::rc::Rc;

use ringmq_protocol::properties;
use ringmq_rt::Slice;
use twox_hash::XxHash64;

use crate::error::ReadError;
use crate::limits::{QUERY_MISSES_MAX, QUERY_STEP, QUERY_TIME_QUEUES};
use crate::position::Position;
use crate::read;
use crate::record::{self, Head};
use crate::state::Core;

/// What stands between business keys.
const SEPARATOR: char = ' ';

/// What a message can be found by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keys<'a> {
    /// `UNIQ_KEY`
    pub unique: Option<&'a str>,
    /// `KEYS`: business keys, separated by blanks.
    pub business: Option<&'a str>,
}

/// Which keys are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Unique,
    Business,
    /// Whatever kind of key it is.
    Either,
}

const UNIQUE: u64 = 0;
const BUSINESS: u64 = 1;

impl<'a> Keys<'a> {
    /// The keys in a property string; of properties with the same name the last counts.
    pub fn of(properties: &'a str) -> Self {
        let mut keys = Self::default();
        for (name, value) in properties::iter(properties) {
            match name {
                properties::UNIQ_KEY => keys.unique = Some(value),
                properties::KEYS => keys.business = Some(value),
                _ => {}
            }
        }
        keys
    }

    /// The keys of the index for these keys of a topic.
    pub(crate) fn hashes(&self, topic: &str, mut each: impl FnMut(u64)) {
        if self.unique.is_none() && self.business.is_none() {
            return;
        }
        let topic = of_topic(topic);
        if let Some(unique) = self.unique {
            each(hash(topic, unique, UNIQUE));
        }
        for key in self.business_keys() {
            each(hash(topic, key, BUSINESS));
        }
    }

    fn business_keys(&self) -> impl Iterator<Item = &'a str> {
        self.business.unwrap_or_default().split(SEPARATOR).filter(|key| !key.is_empty())
    }

    fn has(&self, key: &str, kind: KeyKind) -> bool {
        let unique = kind != KeyKind::Business && self.unique == Some(key);
        unique || (kind != KeyKind::Unique && self.business_keys().any(|one| one == key))
    }
}

fn of_topic(topic: &str) -> u64 {
    XxHash64::oneshot(0, topic.as_bytes())
}

/// XXH64 of the key, with the topic's as its seed: it is stored, so it must never change.
fn hash(topic: u64, key: &str, kind: u64) -> u64 {
    XxHash64::oneshot(topic, key.as_bytes()) & !1 | kind
}

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub struct KeyQuery<'a> {
    pub topic: &'a str,
    pub key: &'a str,
    pub kind: KeyKind,
    /// At most this many messages, the newest.
    pub max: usize,
    /// At most this many bytes, but always one message if one is there.
    pub max_bytes: u64,
    /// Store times, in milliseconds since 1970, both included.
    pub begin_ms: i64,
    pub end_ms: i64,
}

/// A message that was found.
#[derive(Debug, Clone)]
pub struct Found {
    pub position: Position,
    pub store_ms: i64,
    pub record: Slice,
}

/// The messages with a key, newest first; only those that readers see.
pub(crate) async fn query(core: &Rc<Core>, ask: &KeyQuery<'_>) -> Result<Vec<Found>, ReadError> {
    let mut found = Vec::new();
    let Some(runs) = &core.indexes.keys else { return Ok(found) };
    // A record in front of all queues of its topic is from before the topic was deleted.
    let Some((born, mut below)) = core.with(|s| {
        let queues = s.queues.of_topic(ask.topic).iter();
        let born = queues.filter_map(|(_, id)| s.queues.get(*id)).map(|queue| queue.born).min();
        born.map(|born| (born, s.confirmed()))
    }) else {
        return Ok(found);
    };
    if ask.end_ms < core.with(|s| s.log.store_ms()) {
        below = below.min(stored_after(core, ask.topic, ask.end_ms).await?);
    }
    let topic = of_topic(ask.topic);
    let (mut bytes, mut missed) = (0, 0);
    while found.len() < ask.max && missed < QUERY_MISSES_MAX {
        let count = (ask.max - found.len()).min(QUERY_STEP);
        let mut offsets = match ask.kind {
            KeyKind::Unique => runs.newest(hash(topic, ask.key, UNIQUE), below, count).await?,
            KeyKind::Business => runs.newest(hash(topic, ask.key, BUSINESS), below, count).await?,
            KeyKind::Either => {
                let mut offsets = runs.newest(hash(topic, ask.key, UNIQUE), below, count).await?;
                offsets.extend(runs.newest(hash(topic, ask.key, BUSINESS), below, count).await?);
                offsets.sort_unstable_by(|a, b| b.cmp(a));
                offsets.dedup();
                offsets
            }
        };
        offsets.truncate(count);
        let Some(last) = offsets.last() else { break };
        below = *last;
        for offset in offsets {
            if offset < born {
                return Ok(found);
            }
            missed += 1;
            let Some(record) = read::record_at(core, offset).await? else { continue };
            let Some(store_ms) = record::store_time(&record) else { continue };
            if store_ms < ask.begin_ms {
                // What lies in front of it is older still.
                return Ok(found);
            }
            if store_ms > ask.end_ms || !is_meant(core, &record, offset, ask) {
                continue;
            }
            missed -= 1;
            bytes += record.len() as u64;
            if bytes > ask.max_bytes && !found.is_empty() {
                return Ok(found);
            }
            found.push(Found { position: Position::new(core.shard, offset), store_ms, record });
        }
    }
    Ok(found)
}

/// Whether the record has the key, and not merely its hash, in a queue that there still is.
fn is_meant(core: &Core, record: &[u8], offset: u64, ask: &KeyQuery<'_>) -> bool {
    Head::parse(record).is_some_and(|head| {
        let lives = core.with(|s| {
            let queue = s.queues.find(head.topic, head.queue_id).and_then(|id| s.queues.get(id));
            queue.is_some_and(|queue| offset >= queue.born)
        });
        head.topic == ask.topic && lives && head.keys().has(ask.key, ask.kind)
    })
}

/// A log offset behind all of the topic's messages that were stored at `time_ms` or before. Store times never go back,
/// so the first later message of any queue is such a place; those of a few queues are looked up, the nearest counts.
async fn stored_after(core: &Rc<Core>, topic: &str, time_ms: i64) -> Result<u64, ReadError> {
    let queues: Vec<i32> =
        core.with(|s| s.queues.of_topic(topic).iter().map(|(id, _)| *id).take(QUERY_TIME_QUEUES).collect());
    let mut nearest = u64::MAX;
    for queue_id in queues {
        let first = read::first_stored_after(core, topic, queue_id, time_ms).await?;
        nearest = nearest.min(first.unwrap_or(u64::MAX));
    }
    Ok(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_rocketmq_reads_them() {
        let keys = Keys::of("KEYS\u{1}a  b\u{2}UNIQ_KEY\u{1}first\u{2}x\u{1}y\u{2}UNIQ_KEY\u{1}u\u{2}");
        assert_eq!((keys.unique, keys.business), (Some("u"), Some("a  b")));
        assert_eq!(keys.business_keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(keys.has("u", KeyKind::Either) && keys.has("u", KeyKind::Unique) && !keys.has("u", KeyKind::Business));
        assert!(keys.has("b", KeyKind::Either) && keys.has("b", KeyKind::Business) && !keys.has("b", KeyKind::Unique));
        assert!(!keys.has("a  b", KeyKind::Either) && !keys.has("", KeyKind::Either));
    }

    #[test]
    fn the_hash_is_the_one_that_stores_hold() {
        let mut hashes = Vec::new();
        Keys { unique: Some("u"), business: Some("a u") }.hashes("orders", |hash| hashes.push(hash));
        assert_eq!(hashes, [0x9fc1_8d08_2a25_01be, 0xd3b5_192f_649e_5187, 0x9fc1_8d08_2a25_01bf]);
        Keys::default().hashes("orders", |_| panic!("no key, no entry"));
    }
}
