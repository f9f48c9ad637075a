//! The queues of one shard: queue offset → position, size, tag hash. A queue keeps the entries behind its last full
//! block in memory; the full blocks are in the shard's index log ([`crate::index_log`]) and the queue knows their
//! numbers. Everything here is derived from the log and can be rebuilt from it.
//!
//! What lies in front of the log's start is gone. Nobody walks through the queues when the log is cut: each forgets its
//! part when it is looked at next, whole blocks by what it knows of them, and the rest by the content of one block.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::rc::Rc;

use crate::index_log::{BlockHead, IndexBlock, IndexLog};
use crate::limits::BLOCK_ENTRIES;
use crate::position::QueueId;

/// Bytes of an entry.
pub(crate) const ENTRY: usize = 20;

/// Where one message of a queue lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Byte offset in the shard's log.
    pub(crate) offset: u64,
    pub(crate) size: u32,
    pub(crate) tags_code: i64,
}

impl Entry {
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.size)
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY] {
        let mut out = [0; ENTRY];
        out[..8].copy_from_slice(&self.offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.size.to_be_bytes());
        out[12..].copy_from_slice(&self.tags_code.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; ENTRY]) -> Self {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        Self { offset: long(0), size: word(8), tags_code: long(12).cast_signed() }
    }
}

/// Where the entry of a queue offset is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Tail(Entry),
    /// Entry `at` of a block of the index log.
    Block {
        block: u32,
        at: usize,
    },
    /// Outside the queue.
    Nowhere,
}

/// A full block of a queue in the index log. Three words: a long queue has many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) number: u32,
    from: [u32; 2],
}

impl Block {
    pub(crate) const BYTES: usize = 12;

    /// Block `number`, whose first entry names the log offset `from`.
    pub(crate) fn new(number: u32, from: u64) -> Self {
        Self { number, from: [(from >> 32) as u32, from as u32] }
    }

    /// Log offset of the first entry.
    pub(crate) fn from(&self) -> u64 {
        u64::from(self.from[0]) << 32 | u64::from(self.from[1])
    }
}

/// From where on the log, and so a queue, is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// First byte of the log.
    pub(crate) start: u64,
    /// First block of the index log.
    pub(crate) block: u32,
}

/// Where a queue begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    Known(u64),
    /// Within this block, whose first entry has the queue offset `first`: the block's content tells.
    In {
        block: u32,
        first: u64,
    },
}

/// One queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) topic: Rc<str>,
    pub(crate) id: i32,
    /// Log offset at which the queue came to be: a record in front of it belongs to an earlier queue of this name.
    pub(crate) born: u64,
    /// Queue offset of the first entry of the first block, or of the tail without blocks.
    pub(crate) base: u64,
    /// Entries of the first block that are known to be gone, and for which start of the log that is all of them.
    gone: u64,
    gone_for: u64,
    pub(crate) blocks: VecDeque<Block>,
    pub(crate) tail: Vec<[u8; ENTRY]>,
    /// Entries in front of this queue offset are known to be confirmed; found lazily.
    visible: u64,
    /// Batch in which it was last noted as touched.
    touched: u64,
    /// In the list of queues with something new for readers.
    announced: bool,
    /// In the list of queues whose blocks had no room in the index log.
    waiting: bool,
}

impl Queue {
    pub(crate) fn new(topic: Rc<str>, id: i32, born: u64, base: u64) -> Self {
        Self {
            topic,
            id,
            born,
            base,
            gone: 0,
            gone_for: 0,
            blocks: VecDeque::new(),
            tail: Vec::new(),
            visible: base,
            touched: 0,
            announced: false,
            waiting: false,
        }
    }

    /// Queue offset of the first entry in memory.
    pub(crate) fn tail_start(&self) -> u64 {
        self.base + (self.blocks.len() * BLOCK_ENTRIES) as u64
    }

    /// Queue offset of the next message.
    pub(crate) fn next(&self) -> u64 {
        self.tail_start() + self.tail.len() as u64
    }

    pub(crate) fn push(&mut self, entry: &Entry) {
        if self.tail.len() == self.tail.capacity() {
            // Ten thousand quiet queues must not hold ten thousand full tails, nor a full one more than a block.
            let (len, left) = (self.tail.len(), BLOCK_ENTRIES.saturating_sub(self.tail.len()));
            self.tail.reserve_exact(if left == 0 { len } else { len.max(16).min(left) });
        }
        self.tail.push(entry.encode());
    }

    /// Notes that the open `batch` has an entry of this queue; true for the first.
    pub(crate) fn touch(&mut self, batch: u64) -> bool {
        mem::replace(&mut self.touched, batch) != batch
    }

    /// Queue offset behind the last entry in front of the log offset `confirmed`.
    pub(crate) fn visible(&mut self, confirmed: u64) -> u64 {
        let start = self.tail_start();
        // Only confirmed entries leave the tail.
        self.visible = self.visible.max(start);
        let hidden = &self.tail[crate::log::to_usize(self.visible - start)..];
        self.visible += hidden.iter().take_while(|e| Entry::decode(e).end() <= confirmed).count() as u64;
        self.visible
    }

    pub(crate) fn place(&self, queue_offset: u64) -> Place {
        if queue_offset < self.base || queue_offset >= self.next() {
            return Place::Nowhere;
        }
        match queue_offset.checked_sub(self.tail_start()) {
            Some(at) => Place::Tail(Entry::decode(&self.tail[crate::log::to_usize(at)])),
            None => {
                let at = crate::log::to_usize(queue_offset - self.base);
                Place::Block { block: self.blocks[at / BLOCK_ENTRIES].number, at: at % BLOCK_ENTRIES }
            }
        }
    }

    /// Moves the full blocks of confirmed entries to the index log, as far as that has room.
    pub(crate) fn spill(&mut self, confirmed: u64, index: &mut IndexLog) {
        let mut moved = 0;
        for entries in self.tail.chunks_exact(BLOCK_ENTRIES) {
            let confirmed = entries.last().is_some_and(|last| Entry::decode(last).end() <= confirmed);
            let head = BlockHead::new(&self.topic, self.id, self.tail_start());
            let Some(block) = confirmed.then(|| index.append(head, entries)).flatten() else { break };
            self.blocks.push_back(Block::new(block, entries.first().map_or(0, |first| Entry::decode(first).offset)));
            moved += BLOCK_ENTRIES;
        }
        self.tail.drain(..moved);
        if moved > 0 && self.tail.capacity() > 2 * BLOCK_ENTRIES {
            self.tail.shrink_to(BLOCK_ENTRIES);
        }
    }

    /// A queue offset in front of which all is gone: the first there is, unless the log was cut since it was looked for.
    pub(crate) fn min(&self) -> u64 {
        self.base + self.gone
    }

    /// Forgets what is gone, as far as that needs no look at a block, and says where the queue begins.
    pub(crate) fn first(&mut self, kept: Kept) -> First {
        while let Some(block) = self.blocks.front() {
            let behind =
                self.blocks.get(1).map(Block::from).or_else(|| self.tail.first().map(|e| Entry::decode(e).offset));
            if block.number >= kept.block && behind.is_none_or(|behind| behind > kept.start) {
                break;
            }
            self.blocks.pop_front();
            self.base += BLOCK_ENTRIES as u64;
            self.gone = 0;
        }
        match self.blocks.front() {
            Some(block) if block.from() < kept.start && self.gone_for != kept.start => {
                First::In { block: block.number, first: self.base }
            }
            Some(_) => First::Known(self.min()),
            None => {
                let gone = self.tail.partition_point(|e| Entry::decode(e).offset < kept.start);
                if gone > 0 {
                    self.tail.drain(..gone);
                    self.base += gone as u64;
                    self.visible = self.visible.max(self.base);
                }
                First::Known(self.base)
            }
        }
    }

    /// Where the queue would begin if the log did at `start`.
    pub(crate) fn first_from(&self, start: u64) -> First {
        let gone = self.tail.partition_point(|e| Entry::decode(e).offset < start);
        let blocks = self.blocks.partition_point(|block| block.from() < start);
        match blocks.checked_sub(1) {
            Some(last) if gone == 0 => {
                First::In { block: self.blocks[last].number, first: self.base + (last * BLOCK_ENTRIES) as u64 }
            }
            None if gone == 0 => First::Known(self.min()),
            _ => First::Known(self.tail_start() + gone as u64),
        }
    }

    /// Takes in what the first block says about where the queue begins.
    pub(crate) fn learn(&mut self, kept: Kept, block: u32, content: &IndexBlock) {
        if self.blocks.front().is_none_or(|first| first.number != block) {
            return;
        }
        self.gone = content.in_front_of(kept.start) as u64;
        self.gone_for = kept.start;
        if self.gone == BLOCK_ENTRIES as u64 {
            self.blocks.pop_front();
            self.base += self.gone;
            self.gone = 0;
        }
    }

    /// Log offset of the message with the queue offset 0; `None` once it is gone, or before there is one.
    pub(crate) fn origin(&self, start: u64) -> Option<u64> {
        let first = self.blocks.front().map(Block::from).or_else(|| self.tail.first().map(|e| Entry::decode(e).offset));
        first.filter(|&offset| self.base == 0 && offset >= start)
    }

    /// Whether a record of it at the log offset `start` or behind is known to be flushed.
    pub(crate) fn outlives(&self, start: u64, flushed: u64) -> bool {
        let at = self.tail.partition_point(|e| Entry::decode(e).offset < start);
        let in_tail = self.tail.get(at).is_some_and(|e| Entry::decode(e).end() <= flushed);
        // The first record of a block ends in front of the first one of the next block.
        let mut blocks = self.blocks.iter().rev();
        let (last, before) = (blocks.next(), blocks.next());
        let in_blocks = || last.is_some_and(|l| l.from() <= flushed) && before.is_some_and(|b| b.from() >= start);
        in_tail || in_blocks()
    }

    /// An empty queue goes on with this offset.
    pub(crate) fn begin_at(&mut self, offset: u64) {
        assert!(self.blocks.is_empty() && self.tail.is_empty(), "a queue with entries begins where they do");
        (self.base, self.visible) = (offset, offset);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.tail.is_empty()
    }

    /// Bytes of memory it takes.
    fn memory(&self) -> usize {
        size_of::<Self>() + self.tail.capacity() * ENTRY + self.blocks.capacity() * size_of::<Block>()
    }
}

/// All queues of a shard.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    slots: Vec<Option<Queue>>,
    topics: HashMap<Rc<str>, Vec<(i32, QueueId)>, foldhash::fast::RandomState>,
    free: Vec<u32>,
    /// Queues with something new for readers since the list was last taken.
    arrivals: Vec<QueueId>,
    /// Queues with a full block that the index log had no room for.
    backlog: Vec<QueueId>,
}

impl Queues {
    pub(crate) fn find(&self, topic: &str, id: i32) -> Option<QueueId> {
        let queues = self.topics.get(topic)?;
        // Queue ids are mostly dense and in order.
        let guess = usize::try_from(id).ok().and_then(|at| queues.get(at)).filter(|(found, _)| *found == id);
        guess.or_else(|| queues.iter().find(|(found, _)| *found == id)).map(|(_, queue)| *queue)
    }

    pub(crate) fn get(&self, queue: QueueId) -> Option<&Queue> {
        self.slots.get(queue.0 as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, queue: QueueId) -> Option<&mut Queue> {
        self.slots.get_mut(queue.0 as usize)?.as_mut()
    }

    /// The queue of this name, made if there is none.
    pub(crate) fn find_or_create(&mut self, topic: &str, id: i32, born: u64, base: u64) -> QueueId {
        self.find(topic, id).unwrap_or_else(|| {
            let topic = self.topics.get_key_value(topic).map_or_else(|| Rc::from(topic), |(known, _)| Rc::clone(known));
            self.insert(Queue::new(topic, id, born, base))
        })
    }

    /// Takes a queue in whose name is not there yet.
    pub(crate) fn insert(&mut self, queue: Queue) -> QueueId {
        let (topic, number) = (Rc::clone(&queue.topic), queue.id);
        let id = match self.free.pop() {
            Some(slot) => QueueId(slot),
            None => {
                self.slots.push(None);
                QueueId(u32::try_from(self.slots.len() - 1).unwrap_or_else(|_| panic!("more than 2^32 queues")))
            }
        };
        self.slots[id.0 as usize] = Some(queue);
        self.topics.entry(topic).or_default().push((number, id));
        id
    }

    /// Forgets the queues of a topic that were there before the log offset `before`; returns how many.
    pub(crate) fn remove_topic(&mut self, topic: &str, before: u64) -> usize {
        let Some(queues) = self.topics.get_mut(topic) else { return 0 };
        let (slots, free) = (&mut self.slots, &mut self.free);
        let old = queues.len();
        queues.retain(|(_, id)| {
            let slot = &mut slots[id.0 as usize];
            let later = slot.as_ref().is_some_and(|queue| queue.born >= before);
            if !later {
                *slot = None;
                free.push(id.0);
            }
            later
        });
        let gone = old - queues.len();
        if queues.is_empty() {
            self.topics.remove(topic);
        }
        self.arrivals.retain(|id| self.slots[id.0 as usize].is_some());
        self.backlog.retain(|id| self.slots[id.0 as usize].is_some());
        gone
    }

    /// Forgets one queue.
    pub(crate) fn remove_queue(&mut self, queue: QueueId) {
        if let Some(gone) = self.slots[queue.0 as usize].take()
            && let Some(queues) = self.topics.get_mut(&gone.topic)
        {
            queues.retain(|(_, id)| *id != queue);
            self.free.push(queue.0);
        }
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = &Rc<str>> {
        self.topics.keys()
    }

    /// The queues of a topic.
    pub(crate) fn of_topic(&self, topic: &str) -> &[(i32, QueueId)] {
        self.topics.get(topic).map_or(&[], Vec::as_slice)
    }

    /// Number of slots, for walking through all queues in pieces.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn slot_mut(&mut self, at: usize) -> Option<&mut Queue> {
        self.slots.get_mut(at)?.as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The queues in `touched` have confirmed entries now: tells readers, and moves full blocks to the index log.
    pub(crate) fn confirm(&mut self, touched: &[QueueId], confirmed: u64, index: &mut IndexLog) {
        for &id in touched {
            let Some(queue) = self.slots[id.0 as usize].as_mut() else { continue };
            if !mem::replace(&mut queue.announced, true) {
                self.arrivals.push(id);
            }
            queue.spill(confirmed, index);
            if queue.tail.len() >= 2 * BLOCK_ENTRIES && !index.has_room() && !mem::replace(&mut queue.waiting, true) {
                self.backlog.push(id);
            }
        }
    }

    /// Moves blocks that had no room before.
    pub(crate) fn work_off(&mut self, confirmed: u64, index: &mut IndexLog) {
        let slots = &mut self.slots;
        self.backlog.retain(|&id| {
            let Some(queue) = slots[id.0 as usize].as_mut() else { return false };
            queue.spill(confirmed, index);
            queue.waiting = !index.has_room();
            queue.waiting
        });
    }

    /// Moves the queues with something new to `out`.
    pub(crate) fn take_arrivals(&mut self, out: &mut Vec<QueueId>) {
        for id in self.arrivals.drain(..) {
            if let Some(queue) = self.slots[id.0 as usize].as_mut() {
                queue.announced = false;
                out.push(id);
            }
        }
    }

    pub(crate) fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// Bytes of memory that the queues take.
    pub(crate) fn memory(&self) -> usize {
        self.slots.iter().flatten().map(Queue::memory).sum()
    }
}

#[cfg(test)]
mod tests;
