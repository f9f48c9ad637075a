//! Timers that outlive the segment in which they lie: before it is dropped they are stored anew at the end of the log.

use std::rc::Rc;

use ringmq_engine::{Position, QueueOffset, ReadRequest, ReadStatus};
use ringmq_protocol::message::Record;
use ringmq_protocol::{names, properties};

use crate::detour::own_queue;
use crate::log::Log;
use crate::message::Message;
use crate::node::Node;
use crate::put;

/// A timer that is due this soon is not stored anew; its segment stays until it is delivered.
const SOON_MS: u64 = 60_000;

/// How far timers were stored anew since the start, so that segments that wait for a few do not have the others stored
/// anew at each look.
#[derive(Debug, Default)]
pub(super) struct Rolled(Vec<Part>);

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
        self.0.iter().find(|part| offset < part.end).map(|part| part.until_ms)
    }

    /// Everything up to `end` that was not looked at is stored anew if it is due behind `until_ms`. The log begins at
    /// `start`.
    fn note(&mut self, start: u64, end: u64, until_ms: u64) {
        self.0.retain(|part| part.end > start);
        if self.0.last().is_none_or(|last| last.end < end) {
            self.0.push(Part { end, until_ms });
        }
    }
}

/// Stores every timer anew that lies in front of the log offset `before` and is not delivered, except those that are due
/// soon. Returns the log offset of the first of these, up to which nothing needs the log any more, or `before`.
///
/// # Errors
/// Why one could not be stored.
pub async fn roll(node: &Rc<Node>, log: &Rc<Log>, before: u64) -> Result<u64, String> {
    let Some(queue_id) = own_queue(node, names::TIMER_TOPIC, u16::from(log.shard.id().get()), 0) else {
        return Ok(before);
    };
    let mut offset = log.shard.min_offset(names::TIMER_TOPIC, queue_id);
    let (mut rolled, mut free) = (0, before);
    let until_ms = log.timers.now_ms().saturating_add(SOON_MS);
    loop {
        let request =
            ReadRequest { topic: names::TIMER_TOPIC, queue_id, offset, max_messages: 128, max_bytes: 1 << 20 };
        let batch = log.shard.read_cold(request, &mut |_| true).await.map_err(|error| error.to_string())?;
        let mut anew = Vec::new();
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
                if known.is_none() {
                    anew.extend(again(slice));
                }
            } else if due_ms > log.timers.finished_ms() {
                free = free.min(position.offset());
            }
        }
        rolled += anew.len();
        put::put_here(node, log, &anew).await.map_err(|error| error.to_string())?;
        let goes_on = match batch.status {
            ReadStatus::Found => !passed,
            ReadStatus::OffsetTooSmall => batch.next > offset,
            _ => false,
        };
        if !goes_on {
            break;
        }
        offset = QueueOffset(batch.next.0);
    }
    log.timers.rolled.borrow_mut().note(log.shard.start(), before, until_ms);
    if rolled > 0 {
        tracing::info!(shard = %log.shard.id(), rolled, before, "stored timed messages anew, their segment goes");
    }
    Ok(free)
}

fn again(record: &ringmq_rt::Slice) -> Option<Message> {
    let mut message = Message::of_record(record).ok()?;
    let times = message.number(properties::TIMER_ROLL_TIMES).unwrap_or(0_u32).saturating_add(1);
    message.set(properties::TIMER_ROLL_TIMES, &times.to_string());
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((rolled.0.len(), of(&rolled, 1500)), (1, Some(80)));
    }
}
