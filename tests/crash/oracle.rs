//! What must be in the queues after a kill, from what senders and readers were told before it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::load::{Learned, name_of};
use super::support::server::Flush;
use super::support::wire::{self, Connection, Record, records};

pub(crate) const TOPIC: &str = "crash_topic";
pub(crate) const QUEUES: i32 = 4;

/// One queue's knowledge over all rounds.
#[derive(Debug, Default)]
struct Queue {
    /// Every name that was ever sent, with the offset it must lie behind.
    sent: HashMap<String, Option<i64>>,
    /// What must be there: offset to name.
    acknowledged: BTreeMap<i64, String>,
    /// What consumers saw, and must not change any more.
    seen: BTreeMap<i64, String>,
    /// Where the queue began at the last check.
    begin: i64,
    /// Where the queue ended at the last check.
    end: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    queues: BTreeMap<i32, Queue>,
    /// The broker drops old messages: a queue begins where it says, and never further in front than it said before.
    drops: bool,
}

/// The figures of one check.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    stored: usize,
    acknowledged: usize,
    lost: usize,
    seen: usize,
    /// Messages in front of the queues' beginnings.
    pub(crate) dropped: i64,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kept { stored, acknowledged, lost, seen, dropped } = self;
        write!(f, "{stored} stored, {acknowledged} acknowledged, {seen} seen, {lost} lost, {dropped} dropped")
    }
}

impl Oracle {
    /// For a broker that drops old messages.
    pub(crate) fn of_drops() -> Oracle {
        Oracle { drops: true, ..Oracle::default() }
    }

    pub(crate) fn drops(&self) -> bool {
        self.drops
    }

    /// Where a queue ended at the last check.
    pub(crate) fn end(&self, queue: i32) -> i64 {
        self.queues.get(&queue).map_or(0, |queue| queue.end)
    }

    pub(crate) fn learn(&mut self, learned: Vec<Learned>) {
        for Learned { queue: id, sent, seen } in learned {
            let queue = self.queues.entry(id).or_default();
            for message in sent {
                if let Some(offset) = message.acknowledged {
                    let other = queue.acknowledged.insert(offset, message.name.clone());
                    assert_eq!(other, None, "queue {id}: offset {offset} was given out twice");
                }
                queue.sent.insert(message.name, message.after);
            }
            for (offset, name) in seen {
                let other = queue.seen.insert(offset, name.clone());
                assert!(
                    other.is_none() || other.as_ref() == Some(&name),
                    "queue {id} offset {offset}: consumers saw {other:?}, then {name}"
                );
            }
        }
    }

    /// Reads the queues back, all of them or what came since the last check, and holds them against what is known.
    pub(crate) fn check(&mut self, connection: &mut Connection, flush: Flush, whole: bool) -> Kept {
        let mut kept = Kept::default();
        for (id, queue) in &mut self.queues {
            let (from, stored) = loop {
                let begin = begin(connection, *id);
                assert!(begin >= queue.begin, "queue {id} began at {} and begins at {begin} again", queue.begin);
                assert!(self.drops || begin == 0, "queue {id} begins at {begin}");
                queue.begin = begin;
                let from = if whole { begin } else { queue.end.max(begin) };
                match read_all(connection, *id, from) {
                    Some(stored) => break (from, stored),
                    // More was dropped meanwhile.
                    None => assert!(self.drops, "queue {id} has moved beyond {from}"),
                }
            };
            kept.dropped += queue.begin;
            queue.holds(*id, from, &stored);
            let end = from + i64::try_from(stored.len()).unwrap();
            assert!(end >= queue.end, "queue {id} was {} long and is {end}", queue.end);
            let lost = queue.acknowledged.split_off(&end);
            assert!(
                flush == Flush::Async || lost.is_empty(),
                "queue {id} ends at {end}, but these were acknowledged: {lost:?}"
            );
            if let Some((offset, name)) = queue.seen.range(end..).next() {
                panic!("queue {id} ends at {end}, but a consumer saw {name} at {offset}");
            }
            queue.end = end;
            kept.stored += stored.len();
            kept.lost += lost.len();
            kept.acknowledged += queue.acknowledged.range(from..).count();
            kept.seen += queue.seen.range(from..).count();
        }
        kept
    }
}

impl Queue {
    /// Holds the stored records, which begin at offset `from`, against everything known of their offsets.
    fn holds(&self, id: i32, from: i64, stored: &[Record]) {
        let mut names = HashSet::new();
        let mut position = -1;
        for (record, offset) in stored.iter().zip(from..) {
            let name = name_of(&record.body);
            assert_eq!(record.queue_offset, offset, "queue {id} has a gap");
            assert_eq!(record.topic, TOPIC);
            assert!(record.position > position, "queue {id} offset {offset} lies before its predecessor");
            position = record.position;
            let after = self.sent.get(&name);
            let after = after.unwrap_or_else(|| panic!("queue {id} offset {offset}: nobody sent {name}"));
            assert!(*after < Some(offset), "queue {id}: {name} at {offset} overtook {after:?}");
            assert!(names.insert(name.clone()), "queue {id}: {name} is there twice");
            for (what, known) in [("acknowledged", &self.acknowledged), ("seen", &self.seen)] {
                let told = known.get(&offset);
                assert!(
                    told.is_none_or(|told| *told == name),
                    "queue {id} offset {offset}: {told:?} was {what}, {name} is stored"
                );
            }
        }
        // A message that was acknowledged before must not come again behind.
        let earlier = self.acknowledged.range(..from);
        for (offset, name) in earlier {
            assert!(!names.contains(name), "queue {id}: {name} of offset {offset} is there again");
        }
    }
}

fn begin(connection: &mut Connection, queue: i32) -> i64 {
    let ext = [("topic", TOPIC.to_owned()), ("queueId", queue.to_string())];
    let reply = connection.call(wire::GET_MIN_OFFSET, &ext, &[]).unwrap();
    assert_eq!(reply.header.code, 0, "{:?}", reply.header);
    reply.header.number("offset")
}

/// What is stored from an offset on; `None` if the queue begins behind that.
fn read_all(connection: &mut Connection, queue: i32, from: i64) -> Option<Vec<Record>> {
    let mut found = Vec::new();
    let mut next = from;
    loop {
        let ext = wire::pull(TOPIC, queue, next, 32, 0);
        let reply = connection.call(wire::PULL_MESSAGE, &ext, &[]).unwrap();
        match reply.header.code {
            0 => found.extend(records(&reply.body)),
            19 | 20 => {}
            21 if reply.header.number("minOffset") > next => return None,
            code => panic!("pull of queue {queue} at {next}: {code} {:?}", reply.header.remark),
        }
        next = reply.header.number("nextBeginOffset");
        if next >= reply.header.number("maxOffset") {
            return Some(found);
        }
    }
}

/// The oracle has to see what it is there for.
mod tests {
    use super::*;

    fn record(offset: i64, name: &str) -> Record {
        Record {
            topic: TOPIC.to_owned(),
            queue: 0,
            flag: 0,
            queue_offset: offset,
            position: 100 * offset,
            sys_flag: 0,
            born: 0,
            stored: 0,
            reconsume_times: 0,
            prepared: 0,
            body: format!("{name}|...").into_bytes(),
            properties: String::new(),
        }
    }

    fn queue() -> Queue {
        let mut queue = Queue::default();
        for (name, after) in [("a", None), ("b", Some(0)), ("c", Some(0))] {
            queue.sent.insert(name.to_owned(), after);
        }
        queue.acknowledged.insert(1, "b".to_owned());
        queue.seen.insert(0, "a".to_owned());
        queue
    }

    fn check(names: &[(i64, &str)]) {
        let stored: Vec<_> = names.iter().map(|(offset, name)| record(*offset, name)).collect();
        queue().holds(0, 0, &stored);
    }

    #[test]
    fn what_was_told_passes() {
        check(&[(0, "a"), (1, "b"), (2, "c")]);
        check(&[(0, "a"), (1, "b")]);
    }

    #[test]
    #[should_panic(expected = "nobody sent")]
    fn an_invented_message_is_seen() {
        check(&[(0, "a"), (1, "b"), (2, "z")]);
    }

    #[test]
    #[should_panic(expected = "has a gap")]
    fn a_gap_is_seen() {
        check(&[(0, "a"), (2, "c")]);
    }

    #[test]
    #[should_panic(expected = "is there twice")]
    fn a_double_is_seen() {
        check(&[(0, "a"), (1, "b"), (2, "b")]);
    }

    #[test]
    #[should_panic(expected = "was acknowledged")]
    fn another_message_at_an_acknowledged_offset_is_seen() {
        check(&[(0, "a"), (1, "c")]);
    }

    #[test]
    #[should_panic(expected = "overtook")]
    fn a_broken_order_is_seen() {
        check(&[(0, "b")]);
    }
}
