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

/// Stores every timer anew that lies in front of the log offset `before` and is not delivered. False when some of them
/// are due so soon that the segment has to wait for them.
///
/// # Errors
/// Why one could not be stored.
pub async fn roll(node: &Rc<Node>, log: &Rc<Log>, before: u64) -> Result<bool, String> {
    let Some(queue_id) = own_queue(node, names::TIMER_TOPIC, u16::from(log.shard.id().get()), 0) else {
        return Ok(true);
    };
    let mut offset = log.shard.min_offset(names::TIMER_TOPIC, queue_id);
    let (mut rolled, mut clear) = (0, true);
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
            let due_ms: Option<u64> = record.property(properties::TIMER_OUT_MS).and_then(|due| due.parse().ok());
            let now_ms = log.timers.now_ms();
            match due_ms {
                Some(due_ms) if due_ms > now_ms + SOON_MS => anew.extend(again(slice)),
                Some(due_ms) if due_ms > log.timers.finished_ms() => clear = false,
                _ => {}
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
    if rolled > 0 {
        tracing::info!(shard = %log.shard.id(), rolled, before, "stored timed messages anew, their segment goes");
    }
    Ok(clear)
}

fn again(record: &ringmq_rt::Slice) -> Option<Message> {
    let mut message = Message::of_record(record).ok()?;
    let times = message.number(properties::TIMER_ROLL_TIMES).unwrap_or(0_u32).saturating_add(1);
    message.set(properties::TIMER_ROLL_TIMES, &times.to_string());
    Some(message)
}
