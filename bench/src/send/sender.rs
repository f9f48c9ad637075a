//! One connection that sends, with the requests it has under way and what a reply to one of them says.

use std::collections::VecDeque;
use std::ops::Range;

use super::then::Then;
use crate::audit::Ledger;
use crate::lane::Span;
use crate::link::Link;
use crate::reply::{Frame, Reply, cause, remark};
use crate::tally::Tally;
use crate::wire::{End, OPAQUE_BASE, OPAQUE_SPAN};

/// Success, and stored although a flush or a slave was late: the message has its queue offset.
const STORED: [i32; 4] = [0, 10, 11, 12];
/// Of these, only the first is what the sender asked for.
const SUCCESS: i32 = 0;

/// A request that waits for its reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) opaque: u32,
    /// The queue's place in its broker's list, and the number that it has in its topic.
    pub(super) queue: u32,
    pub(super) queue_id: u32,
    /// How often the slot was used; makes the next opaque differ from the last.
    pub(super) round: u32,
    pub(super) under_way: bool,
    pub(super) messages: u32,
    pub(super) stored_bytes: u32,
    pub(super) intended_ns: u64,
    /// The message's number in the run, or the offset that is committed.
    pub(super) number: u64,
    /// When consumers are to get it, milliseconds since 1970.
    pub(super) due_ms: u64,
    /// Of a transaction.
    pub(super) roll_back: bool,
    /// The half is acknowledged, and since then its end is under way.
    pub(super) ended_ns: Option<u64>,
    /// Of an ordered load: the first offset that the next message of this slot's key may get.
    pub(super) next_offset: u64,
}

impl Slot {
    /// For the slot at `place` of `window`.
    pub(super) fn next_opaque(&mut self, place: u32, window: u32) {
        self.round = (self.round + 1) % (OPAQUE_SPAN / window);
        self.opaque = OPAQUE_BASE + self.round * window + place;
    }
}

/// Which requests a sender makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// To one queue after the other, as many as the window has room for.
    Turns,
    /// Every place in the window is a key with a queue of its own.
    Keys,
    /// Nothing is waited for.
    OneWay,
}

/// One connection with its requests under way.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(super) link: Link,
    pub(super) broker: u16,
    pub(super) id: u32,
    /// The places that it takes turns over, and how often it has been through them.
    pub(super) queues: Range<u32>,
    pub(super) next_queue: u32,
    pub(super) rounds: u64,
    pub(super) slots: Vec<Slot>,
    pub(super) free: VecDeque<u32>,
    pub(super) alive: bool,
    /// Has requests in its outbox that no flush has seen.
    pub(super) composed: bool,
}

impl Sender {
    /// `id` is a number that no other connection of the run has; of `connections` it spreads them over the queues.
    pub(crate) fn new(link: Link, broker: u16, queues: u32, (id, connections): (u32, u32), window: u32) -> Sender {
        let slot = |place: u32| Slot {
            opaque: 0,
            queue: ((u64::from(id) * u64::from(window) + u64::from(place)) % u64::from(queues)) as u32,
            queue_id: 0,
            round: 0,
            under_way: false,
            messages: 0,
            stored_bytes: 0,
            intended_ns: 0,
            number: 0,
            due_ms: 0,
            roll_back: false,
            ended_ns: None,
            next_offset: 0,
        };
        let spread = u64::from(queues).max(u64::from(connections)) / u64::from(connections);
        Sender {
            link,
            broker,
            id,
            queues: 0..queues,
            next_queue: (u64::from(id) * spread % u64::from(queues)) as u32,
            rounds: 0,
            slots: (0..window).map(slot).collect(),
            free: (0..window).collect(),
            alive: true,
            composed: false,
        }
    }

    /// One that takes turns over these places alone, which no other connection has.
    pub(crate) fn owning(self, places: Range<u32>) -> Sender {
        Sender { next_queue: places.start, queues: places, ..self }
    }

    pub(super) fn under_way(&self) -> u64 {
        (self.slots.len() - self.free.len()) as u64
    }

    pub(super) fn take_turn(&mut self) -> u32 {
        let queue = self.next_queue;
        self.next_queue = queue + 1;
        if self.next_queue >= self.queues.end {
            self.next_queue = self.queues.start;
            self.rounds += 1;
        }
        queue
    }
}

/// The request that a reply belongs to, taken out of its slot.
pub(super) fn answered<'s>(slots: &'s mut [Slot], reply: &Reply) -> Option<(u32, &'s mut Slot)> {
    let place = reply.opaque.checked_sub(OPAQUE_BASE)? % slots.len() as u32;
    let slot = &mut slots[place as usize];
    if !slot.under_way || slot.opaque != reply.opaque {
        return None;
    }
    slot.under_way = false;
    Some((place, slot))
}

/// The parts of a lane that a reply changes while its connection is borrowed.
pub(super) struct Settling<'l> {
    pub(super) now: u64,
    pub(super) span: &'l Span,
    pub(super) broker: u16,
    pub(super) ordered: bool,
    pub(super) then: Then,
    pub(super) system_ms: u64,
    pub(super) tally: &'l mut Tally,
    pub(super) ledger: &'l mut Ledger,
}

impl Settling<'_> {
    /// What is to be asked next for this slot, where the answer is not the last one.
    pub(super) fn settle(&mut self, frame: &Frame<'_>, reply: &Reply, slot: &mut Slot) -> Option<End> {
        let ended_ns = slot.ended_ns.take();
        if STORED.contains(&reply.code) && ended_ns.is_none() {
            match self.then {
                Then::Read => self.note_offsets(reply, slot),
                Then::Due(_) => {
                    self.ledger.kept.record((self.broker, slot.queue), slot.number);
                    self.tally.overdue += u64::from(slot.due_ms <= self.system_ms);
                }
                Then::Commit => self.ledger.kept.record((self.broker, slot.queue), slot.number),
                // Only its end says what becomes of it.
                Then::End { .. } => {}
            }
        }
        if reply.code != SUCCESS {
            self.tally.refused(reply.code, cause(frame), || remark(frame));
            return None;
        }
        if let Then::End { .. } = self.then {
            let Some(asked_ns) = ended_ns else { return self.half(reply, slot) };
            self.end(slot, asked_ns);
        }
        self.tally.successes += 1;
        if self.span.measures(self.now) {
            self.tally.acknowledged(self.now, u64::from(slot.messages));
            self.tally.measured_bytes += u64::from(slot.stored_bytes);
        }
        if slot.intended_ns >= self.span.measure_from {
            self.tally.latency(slot.intended_ns, self.now.saturating_sub(slot.intended_ns));
        }
        None
    }

    /// A half is stored: how to end it.
    fn half(&mut self, reply: &Reply, slot: &mut Slot) -> Option<End> {
        let (Some(position), Some(offset)) = (reply.position, reply.offset) else {
            self.tally.stray_replies += 1;
            return None;
        };
        if slot.intended_ns >= self.span.measure_from
            && let Some(steps) = &mut self.tally.steps
        {
            steps.half.saturating_record(self.now.saturating_sub(slot.intended_ns));
        }
        slot.ended_ns = Some(self.now);
        Some(End { position, offset, commit: !slot.roll_back })
    }

    fn end(&mut self, slot: &Slot, asked_ns: u64) {
        let of_end = if slot.roll_back { &mut self.ledger.withdrawn } else { &mut self.ledger.kept };
        of_end.record((self.broker, slot.queue), slot.number);
        if slot.intended_ns >= self.span.measure_from
            && let Some(steps) = &mut self.tally.steps
        {
            steps.end.saturating_record(self.now.saturating_sub(asked_ns));
        }
    }

    fn note_offsets(&mut self, reply: &Reply, slot: &mut Slot) {
        let Some(first) = reply.offset.and_then(|offset| u64::try_from(offset).ok()) else {
            self.tally.stray_replies += 1;
            return;
        };
        let Some(end) = first.checked_add(u64::from(slot.messages)) else {
            self.tally.stray_replies += 1;
            return;
        };
        if reply.queue_id != Some(i64::from(slot.queue_id)) {
            self.tally.stray_replies += 1;
            return;
        }
        (first..end).for_each(|offset| self.ledger.kept.record((self.broker, slot.queue), offset));
        if self.ordered {
            self.tally.disordered += u64::from(first < slot.next_offset);
            slot.next_offset = end;
        }
    }
}
