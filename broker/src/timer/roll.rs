//! Timers that outlive the segment in which they lie: before it is dropped they are stored anew at the end of the log. One that
//! the disk does not read cannot be; its time is in the index, and its segment stays until it is delivered or given up.

use std::collections::BTreeMap;
use std::rc::Rc;

use ringmq_engine::{Position, QueueOffset, ReadError, SegmentInfo, Timed};
use ringmq_protocol::message::{Record, RecordError};
use ringmq_protocol::{names, properties};
use ringmq_rt::step;

use crate::aside::is_unread;
use crate::detour::own_queue;
use crate::limits::UNREAD_TIMERS_MAX;
use crate::log::Log;
use crate::message::Message;
use crate::node::Node;
use crate::put;
use crate::walk::{Walk, behind};

use super::damaged;

/// A timer that is due this soon is not stored anew; its segment stays until it is delivered.
const SOON_MS: u64 = 60_000;
/// Entries of the index that are looked through at once.
const ENTRIES: usize = 4096;

/// How far timers were stored anew since the start, so that segments that wait for a few do not have the others stored
/// anew at each look.
#[derive(Debug, Default)]
pub(super) struct Rolled {
    parts: Vec<Part>,
    /// Timers that could not be read, and so were not stored anew, by log offset: when they are due; 0 if they are not to come
    /// any more.
    unread: BTreeMap<u64, u64>,
}

/// A part of the log, behind the one before it.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Log offset of its end.
    end: u64,
    /// Its timers that are due later lie behind as well.
    until_ms: u64,
}

impl Rolled {
    /// Up to when the timer at a log offset had to be due to be left where it is; `None` if it was not looked at.
    fn left_until_ms(&self, offset: u64) -> Option<u64> {
        let is_unread = self.unread.contains_key(&offset);
        self.parts.iter().find(|part| offset < part.end && !is_unread).map(|part| part.until_ms)
    }

    /// The timer at a log offset was not read, and is due then; false when there are too many.
    fn could_not_read(&mut self, offset: u64, due_ms: u64) -> bool {
        let has_room = self.unread.len() < UNREAD_TIMERS_MAX;
        if has_room {
            self.unread.insert(offset, due_ms);
        }
        has_room
    }

    /// Everything up to `end` that was not looked at is stored anew if it is due behind `until_ms`. The log begins at
    /// `start`.
    fn note(&mut self, start: u64, end: u64, until_ms: u64) {
        self.unread.retain(|offset, _| *offset >= start);
        self.parts.retain(|part| part.end > start);
        if self.parts.last().is_none_or(|last| last.end < end) {
            self.parts.push(Part { end, until_ms });
        }
    }
}

/// What is left in front of a log offset, once the timers there were looked at.
#[derive(Debug)]
pub struct Rolling {
    /// Log offset of the first timer that still has to come, up to which nothing needs the log any more; or the offset.
    pub free: u64,
    /// Why not all that could be stored anew are, or not all were looked at.
    pub failed: Option<String>,
    /// Timers that still have to come and are nowhere else, by the end of their segment.
    left: BTreeMap<u64, u64>,
}

impl Rolling {
    /// Timers that are lost if the log begins at `start`.
    pub fn lost(&self, start: u64) -> u64 {
        self.left.range(..=start).map(|(_, count)| count).sum()
    }

    fn leave(&mut self, segments: &[SegmentInfo], offset: u64) {
        self.free = self.free.min(offset);
        let segment = segments.iter().find(|segment| offset < segment.end);
        *self.left.entry(segment.map_or(u64::MAX, |segment| segment.end)).or_default() += 1;
    }
}

/// Stores every timer anew that lies in front of the log offset `before` and is not delivered, except those that are due
/// soon. `segments` are those that are full. Once one cannot be stored, those behind it are only counted.
pub async fn roll(node: &Rc<Node>, log: &Rc<Log>, before: u64, segments: &[SegmentInfo]) -> Rolling {
    let mut rolling = Rolling { free: before, failed: None, left: BTreeMap::new() };
    let Some(queue_id) = own_queue(node, names::TIMER_TOPIC, u16::from(log.shard.id().get()), 0) else {
        rolling.failed = Some(format!("topic {} is not known here", names::TIMER_TOPIC));
        return rolling;
    };
    let mut offset = log.shard.min_offset(names::TIMER_TOPIC, queue_id);
    let mut rolled = 0;
    let until_ms = log.timers.now_ms().saturating_add(SOON_MS);
    let mut walk = Walk::new(names::TIMER_TOPIC, queue_id, 1 << 20);
    loop {
        let batch = match walk.read(&log.shard, offset).await {
            Ok(batch) => batch,
            Err(error) => match pass_over(node, log, (queue_id, offset), before, &error).await {
                Some(Passed { at, .. }) if at >= before => break,
                Some(Passed { at, is_open }) => {
                    if is_open {
                        rolling.leave(segments, at);
                    }
                    offset = QueueOffset(offset.0 + 1);
                    continue;
                }
                None => {
                    rolling.failed = Some(error.to_string());
                    break;
                }
            },
        };
        let (mut anew, mut offsets) = (Vec::new(), Vec::new());
        let mut passed = false;
        for slice in &batch.records {
            let Ok((record, _)) = Record::parse(slice) else { continue };
            let Some(position) = Position::from_wire(record.position()) else { continue };
            if position.offset() >= before {
                passed = true;
                break;
            }
            let due_ms = record.property(properties::TIMER_OUT_MS).and_then(|due| due.parse::<u64>().ok());
            let Some(due_ms) = due_ms else { continue };
            let known = log.timers.rolled.borrow().left_until_ms(position.offset());
            if due_ms > known.unwrap_or(until_ms) {
                if known.is_some() {
                    continue;
                }
                match again(slice) {
                    Ok(message) => {
                        anew.push(message);
                        offsets.push(position.offset());
                    }
                    Err(error) => damaged(node, log, position.offset(), &error),
                }
            } else if log.timers.is_open(Timed { due_ms, offset: position.offset() }) {
                rolling.leave(segments, position.offset());
            }
        }
        let stored = if rolling.failed.is_none() { store(node, log, &anew, &mut rolling.failed).await } else { 0 };
        rolled += stored;
        log.timers.rolled.borrow_mut().unread.retain(|offset, _| !offsets[..stored].contains(offset));
        offsets[stored..].iter().for_each(|offset| rolling.leave(segments, *offset));
        let Some(next) = behind(&batch, offset).filter(|_| !passed) else { break };
        offset = next;
    }
    if rolling.failed.is_none() {
        log.timers.rolled.borrow_mut().note(log.shard.start(), before, until_ms);
    }
    if rolled > 0 {
        tracing::info!(shard = %log.shard.id(), rolled, before, "stored timed messages anew, their segment goes");
    }
    rolling
}

/// A timer that could not be read.
struct Passed {
    /// Its log offset.
    at: u64,
    /// It still has to be delivered.
    is_open: bool,
}

/// Looks at what is known of a timer that cannot be read, if it lies in front of the log offset `before`; `None` if nothing is,
/// or if there are too many.
async fn pass_over(
    node: &Node,
    log: &Log,
    (queue_id, offset): (i32, QueueOffset),
    before: u64,
    error: &ReadError,
) -> Option<Passed> {
    // The index of its queue may be what cannot be read.
    let position = log.shard.position_of(names::TIMER_TOPIC, queue_id, offset).await.ok()??;
    let at = position.offset();
    if at >= before {
        return Some(Passed { at, is_open: true });
    }
    let rolled = &log.timers.rolled;
    let known = rolled.borrow().unread.get(&at).copied();
    if let Some(due_ms) = known {
        return Some(Passed { at, is_open: log.timers.is_open(Timed { due_ms, offset: at }) });
    }
    let due_ms = match error {
        ReadError::Damaged { .. } => None,
        error if is_unread(error) => due_of(log, at).await.ok()?,
        _ => return None,
    };
    if !rolled.borrow_mut().could_not_read(at, due_ms.unwrap_or(0)) {
        return None;
    }
    match due_ms {
        Some(due_ms) => {
            tracing::error!(%position, due_ms, %error, "a timed message cannot be read to be stored anew, its segment stays");
        }
        None if is_unread(error) => (),
        None => damaged(node, log, at, error),
    }
    Some(Passed { at, is_open: due_ms.is_some() })
}

/// When the timer at a log offset is due; `None` if it does not have to be delivered any more.
async fn due_of(log: &Log, offset: u64) -> Result<Option<u64>, ReadError> {
    let aside = log.timers.asides.borrow().first();
    let passed = Timed { due_ms: log.timers.passed_ms(), offset: u64::MAX };
    let mut from = aside.map_or(passed, |first| Timed { due_ms: first.due_ms.saturating_sub(1), ..passed }.min(passed));
    loop {
        let entries = log.shard.due(from, u64::MAX, ENTRIES).await?;
        if let Some(found) = entries.iter().find(|timed| timed.offset == offset) {
            return Ok(log.timers.is_open(*found).then_some(found.due_ms));
        }
        let Some(last) = entries.last() else { return Ok(None) };
        from = *last;
    }
}

/// Stores messages in this order; how many of them are stored.
async fn store(node: &Node, log: &Log, messages: &[Message], failed: &mut Option<String>) -> usize {
    let mut tickets = Vec::with_capacity(messages.len());
    if let Err(error) = put::append_here(node, log, messages, &mut tickets).await {
        *failed = Some(error.to_string());
    }
    let Some(last) = tickets.last() else { return 0 };
    if let Err(error) = log.safe(last.end).await {
        *failed = Some(error.to_string());
        return 0;
    }
    for message in &messages[..tickets.len()] {
        step!("put_written:{}", message.topic);
    }
    tickets.len()
}

fn again(record: &ringmq_rt::Slice) -> Result<Message, RecordError> {
    let mut message = Message::of_record(record)?;
    let times = message.number(properties::TIMER_ROLL_TIMES).unwrap_or(0_u32).saturating_add(1);
    message.set(properties::TIMER_ROLL_TIMES, &times.to_string());
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_what_lies_in_the_segments_that_go() {
        let segment = |base, end| SegmentInfo { base, end, last_store_ms: 0 };
        let segments = [segment(0, 100), segment(100, 200), segment(200, 300)];
        let mut rolling = Rolling { free: 300, failed: None, left: BTreeMap::new() };
        for offset in [150, 99, 100, 299] {
            rolling.leave(&segments, offset);
        }
        assert_eq!(rolling.free, 99);
        assert_eq!([0, 100, 200, 300].map(|start| rolling.lost(start)), [0, 1, 3, 4]);
    }

    #[test]
    fn a_timer_is_held_to_the_look_that_first_passed_it() {
        let mut rolled = Rolled::default();
        assert_eq!(rolled.left_until_ms(0), None);
        rolled.note(0, 1000, 60);
        rolled.note(0, 1000, 70);
        rolled.note(0, 2000, 80);
        let of = |rolled: &Rolled, offset| rolled.left_until_ms(offset);
        assert_eq!([of(&rolled, 999), of(&rolled, 1000), of(&rolled, 2000)], [Some(60), Some(80), None]);
        rolled.note(1000, 2000, 90);
        assert_eq!((rolled.parts.len(), of(&rolled, 1500)), (1, Some(80)));
    }

    #[test]
    fn a_timer_that_was_not_read_counts_as_not_looked_at() {
        let mut rolled = Rolled::default();
        assert!(rolled.could_not_read(500, 90));
        rolled.note(0, 1000, 60);
        assert_eq!([500, 501].map(|offset| rolled.left_until_ms(offset)), [None, Some(60)]);
        assert!((1000..).take(UNREAD_TIMERS_MAX - 1).all(|offset| rolled.could_not_read(offset, 90)));
        assert!(!rolled.could_not_read(999, 90));
        rolled.note(501, 2000, 60);
        assert!(rolled.could_not_read(999, 90), "what was dropped is forgotten");
    }
}
