//! One connection that sends, with the requests it has under way and what a reply to one of them says.

use std::collections::VecDeque;

use crate::audit::Audit;
use crate::lane::Span;
use crate::link::Link;
use crate::reply::{Frame, Reply, remark};
use crate::tally::Tally;
use crate::wire::{OPAQUE_BASE, OPAQUE_SPAN};

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
    pub(super) queues: u32,
    pub(super) next_queue: u32,
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
            next_offset: 0,
        };
        let spread = u64::from(queues).max(u64::from(connections)) / u64::from(connections);
        Sender {
            link,
            broker,
            id,
            queues,
            next_queue: (u64::from(id) * spread % u64::from(queues)) as u32,
            slots: (0..window).map(slot).collect(),
            free: (0..window).collect(),
            alive: true,
            composed: false,
        }
    }

    pub(super) fn under_way(&self) -> u64 {
        (self.slots.len() - self.free.len()) as u64
    }

    pub(super) fn take_turn(&mut self) -> u32 {
        let queue = self.next_queue;
        self.next_queue = if queue + 1 == self.queues { 0 } else { queue + 1 };
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
    pub(super) tally: &'l mut Tally,
    pub(super) audit: &'l mut Audit,
}

impl Settling<'_> {
    pub(super) fn settle(&mut self, frame: &Frame<'_>, reply: &Reply, slot: &mut Slot) {
        if STORED.contains(&reply.code) {
            self.note_offsets(reply, slot);
        }
        if reply.code != SUCCESS {
            self.tally.refused(reply.code, || remark(frame));
            return;
        }
        self.tally.successes += 1;
        if self.span.measures(self.now) {
            self.tally.acknowledged(self.now, u64::from(slot.messages));
            self.tally.measured_bytes += u64::from(slot.stored_bytes);
        }
        if slot.intended_ns >= self.span.measure_from {
            self.tally.latency(slot.intended_ns, self.now.saturating_sub(slot.intended_ns));
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
        (first..end).for_each(|offset| self.audit.record((self.broker, slot.queue), offset));
        if self.ordered {
            self.tally.disordered += u64::from(first < slot.next_offset);
            slot.next_offset = end;
        }
    }
}
