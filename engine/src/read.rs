//! Reading a queue: entries, then records, as slices that are never copied. One walk serves both ways: what it can get
//! from memory it gets at once; where the disk is needed it says what, and goes on once that is there. Nothing beyond
//! *confirmed* is seen.

use std::rc::Rc;

use ringmq_rt::Slice;
use smallvec::SmallVec;

use crate::cold;
use crate::error::ReadError;
use crate::index_log::{BlockHead, IndexBlock};
use crate::limits;
use crate::log::to_usize;
use crate::position::{Position, QueueId, QueueOffset};
use crate::queue::{Entry, First, Place};
use crate::record;
use crate::seal::{self, Item};
use crate::select::Select;
use crate::state::{Core, State};

/// What a read found, in RocketMQ's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadStatus {
    /// At least one message.
    Found,
    /// There is no such queue.
    NoMatchedLogicQueue,
    /// The queue has never had a message.
    NoMessageInQueue,
    /// The messages there are gone.
    OffsetTooSmall,
    /// The next message of the queue: worth waiting for.
    OffsetOverflowOne,
    /// Beyond the end of the queue.
    OffsetOverflowBadly,
    /// Messages were there, none passed the filter.
    NoMatchedMessage,
}

/// The answer to a read.
#[derive(Debug, Clone)]
pub struct ReadBatch {
    pub status: ReadStatus,
    /// Where the reader goes on.
    pub next: QueueOffset,
    /// First message of the queue.
    pub min: QueueOffset,
    /// Behind the last message that readers see.
    pub max: QueueOffset,
    /// The records, each whole, one slice each.
    pub records: SmallVec<[Slice; 4]>,
    /// Their bytes together.
    pub bytes: u64,
}

/// What to read.
#[derive(Debug, Clone, Copy)]
pub struct ReadRequest<'a> {
    pub topic: &'a str,
    pub queue_id: i32,
    pub offset: QueueOffset,
    /// At most this many messages.
    pub max_messages: usize,
    /// At most this many bytes, but always one message if one is there.
    pub max_bytes: u64,
}

/// What memory could answer.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "looked at once, where it is made")]
pub enum ReadPlan {
    /// All of it.
    Ready(ReadBatch),
    /// The messages are on disk: ask [`read_cold`](crate::Shard::read_cold).
    Cold,
}

/// What the walk cannot get from memory.
#[derive(Debug, Clone, Copy)]
enum Missing {
    Index { block: u32, first: u64 },
    Record(Entry),
}

/// Records that room is made for before they are found: what a reader usually asks for at once.
const RESERVE_MAX: usize = 32;

/// A walk along a queue.
#[derive(Debug)]
struct Walk<'a> {
    request: ReadRequest<'a>,
    records: SmallVec<[Slice; 4]>,
    bytes: u64,
    /// Next queue offset to examine.
    at: u64,
    examined: u64,
    /// Bytes of the records that were looked at and not wanted.
    refused_bytes: u64,
    /// What was fetched for the place where the walk stopped.
    block: Option<(u32, IndexBlock)>,
    record: Option<(Entry, Slice)>,
}

impl<'a> Walk<'a> {
    fn new(request: ReadRequest<'a>) -> Self {
        let at = request.offset.0;
        Self {
            request,
            records: SmallVec::new(),
            bytes: 0,
            at,
            examined: 0,
            refused_bytes: 0,
            block: None,
            record: None,
        }
    }

    fn answer(&mut self, status: ReadStatus, next: u64, min: u64, max: u64) -> ReadBatch {
        let records = std::mem::take(&mut self.records);
        let (next, min, max) = (QueueOffset(next), QueueOffset(min), QueueOffset(max));
        ReadBatch { status, next, min, max, records, bytes: self.bytes }
    }

    /// The answer with what was found so far.
    fn found(&mut self, core: &Core, state: &mut State) -> ReadBatch {
        let (min, max) = bounds(core, state, &self.request).unwrap_or((0, 0));
        self.answer(ReadStatus::Found, self.at, min, max)
    }

    /// Goes on as far as memory allows: the answer, or what is missing.
    fn go_on(
        &mut self,
        core: &Core,
        state: &mut State,
        select: &mut dyn Select,
    ) -> Result<Result<ReadBatch, Missing>, ReadError> {
        let confirmed = state.confirmed();
        let found = state.queues.find(self.request.topic, self.request.queue_id);
        let min = match found.map(|id| self.first(core, state, id)) {
            Some(Ok(min)) => min,
            Some(Err(missing)) => return Ok(Err(missing)),
            None => 0,
        };
        let Some(queue) = found.and_then(|id| state.queues.get_mut(id)) else {
            return Ok(Ok(self.answer(ReadStatus::NoMatchedLogicQueue, 0, 0, 0)));
        };
        let (max, appended) = (queue.visible(confirmed), queue.next());
        let asked = self.request.offset.0;
        let refused = match asked {
            // Appended and about to be confirmed: whoever was told of it by its sender need not start over.
            o if o > 0 && o >= max && o <= appended => Some((ReadStatus::OffsetOverflowOne, o)),
            _ if max == 0 => Some((ReadStatus::NoMessageInQueue, 0)),
            o if o < min => Some((ReadStatus::OffsetTooSmall, min)),
            o if o > max => Some((ReadStatus::OffsetOverflowBadly, max)),
            _ => None,
        };
        // Where the walk went on the messages may have been dropped meanwhile.
        let (at, found_some) = (self.at, !self.records.is_empty());
        if at < min && found_some {
            return Ok(Ok(self.answer(ReadStatus::Found, at, min, max)));
        }
        let cut_off = (at < min).then_some((ReadStatus::OffsetTooSmall, min));
        if let Some((status, next)) = refused.or(cut_off) {
            return Ok(Ok(self.answer(status, next, min, max)));
        }
        let Some(queue) = found.and_then(|id| state.queues.get(id)) else {
            return Ok(Ok(self.answer(ReadStatus::NoMatchedLogicQueue, 0, 0, 0)));
        };
        if self.records.is_empty() {
            let left = usize::try_from(max - self.at).unwrap_or(usize::MAX);
            self.records.reserve_exact(left.min(self.request.max_messages).min(RESERVE_MAX));
        }
        while self.at < max && self.records.len() < self.request.max_messages && !self.is_spent(select) {
            let entry = match queue.place(self.at) {
                Place::Tail(entry) => entry,
                Place::Nowhere => break,
                Place::Block { block, at } => {
                    let first = self.at - at as u64;
                    match self.block(core, state, block).and_then(|b| b.entry(at)) {
                        Some(entry) => entry,
                        None => return Ok(Err(Missing::Index { block, first })),
                    }
                }
            };
            if select.wants_tags(entry.tags_code) {
                if !self.records.is_empty() && self.bytes + u64::from(entry.size) > self.request.max_bytes {
                    break;
                }
                let Some(slice) = self.record(core, state, entry) else { return Ok(Err(Missing::Record(entry))) };
                let own = Position::new(core.shard, entry.offset).to_wire();
                if record::place(&slice) != Some((self.at.cast_signed(), own)) {
                    // What stands in front of it is sound: the next read is refused.
                    if !self.records.is_empty() {
                        break;
                    }
                    let position = Position::new(core.shard, entry.offset);
                    return Err(ReadError::Damaged { position, expected: "the record that its queue names" });
                }
                if select.wants_record(&slice) {
                    self.bytes += slice.len() as u64;
                    self.records.push(slice);
                } else {
                    self.refused_bytes += slice.len() as u64;
                }
            }
            self.at += 1;
            self.examined += 1;
        }
        let status = if self.records.is_empty() { ReadStatus::NoMatchedMessage } else { ReadStatus::Found };
        let at = self.at;
        Ok(Ok(self.answer(status, at, min, max)))
    }

    /// Whether this walk has done enough for one read. Each examines one message at least, so that a reader that goes on
    /// behind the last one gets to the end.
    fn is_spent(&self, select: &dyn Select) -> bool {
        self.examined >= limits::SCAN_MAX
            || (self.examined > 0 && (self.refused_bytes >= limits::REFUSED_BYTES_MAX || select.is_spent()))
    }

    /// Where the queue begins: exactly if the walk is near there, otherwise as far as it is known.
    fn first(&mut self, core: &Core, state: &mut State, id: QueueId) -> Result<u64, Missing> {
        loop {
            let kept = state.kept(core);
            let Some(queue) = state.queues.get_mut(id) else { return Ok(0) };
            let (block, first) = match queue.first(kept) {
                First::Known(min) => return Ok(min),
                First::In { first, .. } if self.at >= first + limits::BLOCK_ENTRIES as u64 => return Ok(queue.min()),
                First::In { block, first } => (block, first),
            };
            let Some(content) = self.block(core, state, block).cloned() else {
                return Err(Missing::Index { block, first });
            };
            if let Some(queue) = state.queues.get_mut(id) {
                queue.learn(kept, block, &content);
            }
        }
    }

    /// A block of the index from memory; the last one is kept at hand.
    fn block(&mut self, core: &Core, state: &State, block: u32) -> Option<&IndexBlock> {
        if self.block.as_ref().is_none_or(|(have, _)| *have != block) {
            let found = state.index.get(block).or_else(|| core.index_cache.borrow_mut().get(block))?;
            self.block = Some((block, found));
        }
        self.block.as_ref().map(|(_, found)| found)
    }

    fn record(&mut self, core: &Core, state: &State, entry: Entry) -> Option<Slice> {
        if let Some((_, slice)) = self.record.take_if(|(have, _)| *have == entry) {
            return Some(slice);
        }
        let len = u64::from(entry.size);
        state.log.slice(entry.offset, len).or_else(|| cold::cached(core, entry.offset, len))
    }
}

/// What memory has. Records that are found before the first one on disk are an answer too.
pub(crate) fn read(core: &Core, request: ReadRequest<'_>, select: &mut dyn Select) -> Result<ReadPlan, ReadError> {
    let mut walk = Walk::new(request);
    match core.with_mut(|s| walk.go_on(core, s, select))? {
        Ok(batch) => Ok(ReadPlan::Ready(batch)),
        Err(_) if walk.records.is_empty() => Ok(ReadPlan::Cold),
        Err(_) => Ok(ReadPlan::Ready(core.with_mut(|s| walk.found(core, s)))),
    }
}

/// The same with the disk's help.
pub(crate) async fn read_cold(
    core: &Rc<Core>,
    request: ReadRequest<'_>,
    select: &mut dyn Select,
) -> Result<ReadBatch, ReadError> {
    let mut walk = Walk::new(request);
    loop {
        match core.with_mut(|s| walk.go_on(core, s, select))? {
            Ok(batch) => return Ok(batch),
            Err(Missing::Index { block, first }) => {
                let head = BlockHead::new(request.topic, request.queue_id, first);
                match fetch_index(core, block, head).await {
                    Ok(found) => walk.block = Some((block, found)),
                    // The walk finds out where the queue begins now.
                    Err(ReadError::Gone { .. }) => (),
                    Err(e) => return Err(e),
                }
            }
            Err(Missing::Record(entry)) => match fetch(core, entry, u64::from(entry.size)).await {
                Ok(slice) => walk.record = Some((entry, slice)),
                Err(ReadError::Gone { .. }) => (),
                // What was found in front of it is sound: the next read is refused.
                Err(ReadError::Damaged { .. }) if !walk.records.is_empty() => {
                    return Ok(core.with_mut(|s| walk.found(core, s)));
                }
                Err(e) => return Err(e),
            },
        }
    }
}

/// First queue offset as far as it is known, and the one behind the last that readers see.
pub(crate) fn bounds(core: &Core, state: &mut State, request: &ReadRequest<'_>) -> Option<(u64, u64)> {
    let (confirmed, kept) = (state.confirmed(), state.kept(core));
    let id = state.queues.find(request.topic, request.queue_id)?;
    let queue = state.queues.get_mut(id)?;
    queue.first(kept);
    Some((queue.min(), queue.visible(confirmed)))
}

/// First queue offset.
pub(crate) async fn first_offset(core: &Rc<Core>, request: &ReadRequest<'_>) -> Result<Option<u64>, ReadError> {
    let mut walk = Walk::new(ReadRequest { offset: QueueOffset(0), ..*request });
    loop {
        let first = core.with_mut(|s| {
            let id = s.queues.find(request.topic, request.queue_id)?;
            // What lies in front of every block is near every first one.
            Some(walk.first(core, s, id))
        });
        match first {
            None => return Ok(None),
            Some(Ok(first)) => return Ok(Some(first)),
            Some(Err(Missing::Record(_))) => return Ok(None),
            Some(Err(Missing::Index { block, first })) => {
                let head = BlockHead::new(request.topic, request.queue_id, first);
                match fetch_index(core, block, head).await {
                    Ok(found) => walk.block = Some((block, found)),
                    Err(ReadError::Gone { .. }) => (),
                    Err(e) => return Err(e),
                }
            }
        }
    }
}

pub(crate) async fn fetch_index(core: &Rc<Core>, block: u32, head: BlockHead) -> Result<IndexBlock, ReadError> {
    match core.index_files.read(core.shard, block, head).await {
        Ok(found) => {
            core.index_cache.borrow_mut().insert(block, found.clone());
            Ok(found)
        }
        Err(e) => {
            if block < core.with(|s| s.index.first()) {
                return Err(ReadError::Gone { position: Position::new(core.shard, core.segments.start()) });
            }
            if matches!(e, ReadError::IndexDamaged { .. }) {
                crate::checkpoint::forget(core, &e).await;
            }
            Err(e)
        }
    }
}

/// The first `len` bytes of the record that `entry` names.
async fn fetch(core: &Rc<Core>, entry: Entry, len: u64) -> Result<Slice, ReadError> {
    let slice = cold::read(core, entry.offset, len).await?;
    if record::total_len(&slice) == Some(u64::from(entry.size)) {
        return Ok(slice);
    }
    let position = Position::new(core.shard, entry.offset);
    Err(ReadError::Damaged { position, expected: "a record of the length that its queue names" })
}

/// The entry of one queue offset that readers see.
async fn entry(core: &Rc<Core>, request: &ReadRequest<'_>, offset: u64) -> Result<Option<Entry>, ReadError> {
    let place = core.with_mut(|s| {
        let (_, max) = bounds(core, s, request)?;
        let id = s.queues.find(request.topic, request.queue_id)?;
        let queue = s.queues.get(id).filter(|_| offset < max)?;
        Some(match queue.place(offset) {
            Place::Block { block, at } => {
                let known = s.index.get(block).or_else(|| core.index_cache.borrow_mut().get(block));
                (Place::Block { block, at }, known)
            }
            other => (other, None),
        })
    });
    Ok(match place {
        None | Some((Place::Nowhere, _)) => None,
        Some((Place::Tail(entry), _)) => Some(entry),
        Some((Place::Block { at, .. }, Some(known))) => known.entry(at),
        Some((Place::Block { block, at }, None)) => {
            let head = BlockHead::new(request.topic, request.queue_id, offset - at as u64);
            fetch_index(core, block, head).await?.entry(at)
        }
    })
}

/// Where the message at a queue offset lies, whether it can be read or not.
pub(crate) async fn position_of(
    core: &Rc<Core>,
    request: &ReadRequest<'_>,
    offset: u64,
) -> Result<Option<Position>, ReadError> {
    let found = match entry(core, request, offset).await {
        Err(ReadError::Gone { .. }) => None,
        found => found?,
    };
    let kept = found.filter(|entry| entry.offset >= core.segments.start());
    Ok(kept.map(|entry| Position::new(core.shard, entry.offset)))
}

/// The store time of the message at a queue offset; `None` if it is gone.
pub(crate) async fn store_time(
    core: &Rc<Core>,
    request: &ReadRequest<'_>,
    offset: u64,
) -> Result<Option<i64>, ReadError> {
    let entry = match entry(core, request, offset).await {
        Ok(Some(entry)) => entry,
        Ok(None) | Err(ReadError::Gone { .. }) => return Ok(None),
        Err(e) => return Err(e),
    };
    if entry.offset < core.segments.start() {
        return Ok(None);
    }
    let len = (record::HEAD_BYTES as u64).min(u64::from(entry.size));
    let head = match core.with(|s| s.log.slice(entry.offset, len)) {
        Some(head) => head,
        None => match fetch(core, entry, len).await {
            Err(ReadError::Gone { .. }) => return Ok(None),
            head => head?,
        },
    };
    let position = Position::new(core.shard, entry.offset);
    if record::place(&head) != Some((offset.cast_signed(), position.to_wire())) {
        return Err(ReadError::Damaged { position, expected: "the record that its queue names" });
    }
    Ok(record::store_time(&head))
}

/// What is known of the times of some messages.
enum Timed {
    /// The first whose time can be read.
    At(u64, i64),
    /// None can.
    Damaged,
    Gone,
}

/// The time of the first message from `from` on, and in front of `end`, that is not damaged.
async fn first_time(core: &Rc<Core>, request: &ReadRequest<'_>, from: u64, end: u64) -> Result<Timed, ReadError> {
    for offset in from..end {
        match store_time(core, request, offset).await {
            Ok(time) => return Ok(time.map_or(Timed::Gone, |time| Timed::At(offset, time))),
            Err(ReadError::Damaged { .. }) => (),
            Err(e) => return Err(e),
        }
    }
    Ok(Timed::Damaged)
}

/// The first message stored at `time_ms` or later; the end of the queue if there is none. A damaged message counts as old as
/// the next one that is not: what it cannot tell must not keep a reader from what lies behind it.
pub(crate) async fn offset_by_time(
    core: &Rc<Core>,
    request: &ReadRequest<'_>,
    time_ms: i64,
) -> Result<Option<QueueOffset>, ReadError> {
    let Some(mut low) = first_offset(core, request).await? else { return Ok(None) };
    let Some((_, mut high)) = core.with_mut(|s| bounds(core, s, request)) else { return Ok(None) };
    while low < high {
        let middle = low + (high - low) / 2;
        match first_time(core, request, middle, high).await? {
            Timed::At(offset, time) if time < time_ms => low = offset + 1,
            Timed::At(..) | Timed::Damaged => high = middle,
            // The message was dropped meanwhile, or the queue deleted.
            Timed::Gone => match first_offset(core, request).await? {
                Some(first) if first > middle => low = first,
                _ => return Ok(None),
            },
        }
    }
    Ok(Some(QueueOffset(low)))
}

/// Log offset of a queue's first message that was stored after `time_ms`; `None` if none was.
pub(crate) async fn first_stored_after(
    core: &Rc<Core>,
    topic: &str,
    queue_id: i32,
    time_ms: i64,
) -> Result<Option<u64>, ReadError> {
    let request = ReadRequest { topic, queue_id, offset: QueueOffset(0), max_messages: 0, max_bytes: 0 };
    let Some(after) = time_ms.checked_add(1) else { return Ok(None) };
    let Some(first) = offset_by_time(core, &request, after).await? else { return Ok(None) };
    Ok(entry(core, &request, first.0).await?.map(|entry| entry.offset))
}

/// The store time of the record that the log begins with.
pub(crate) async fn oldest_store_time(core: &Rc<Core>) -> Result<Option<i64>, ReadError> {
    match first_store_time(core, core.segments.start()).await {
        Err(ReadError::Gone { .. }) => Ok(None),
        found => found,
    }
}

/// The store time of the first record behind `offset`, where a batch begins and is not far from a record.
pub(crate) async fn first_store_time(core: &Rc<Core>, offset: u64) -> Result<Option<i64>, ReadError> {
    let len = limits::BLOCK;
    let fits = core.segments.holding(offset).is_some_and(|span| offset + len <= span.end);
    if !fits || offset + len > core.with(State::confirmed) {
        return Ok(None);
    }
    let bytes = piece(core, offset, len).await?;
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        match seal::item(rest, to_usize(limits::RECORD_LIMIT)) {
            Item::Record(_) => {
                let own = Position::new(core.shard, offset + at as u64).to_wire();
                let is_record = record::place(rest).is_some_and(|(_, position)| position == own);
                return Ok(if is_record { record::store_time(rest) } else { None });
            }
            Item::Tombstone(len, _) if at + len < bytes.len() => at += len,
            _ => return Ok(None),
        }
    }
}

/// The record that begins at a log offset, if one begins there and readers may see it.
pub(crate) async fn record_at(core: &Rc<Core>, offset: u64) -> Result<Option<Slice>, ReadError> {
    let confirmed = core.with(State::confirmed);
    let head = record::HEAD_BYTES as u64;
    if offset < core.segments.start()
        || offset + head > confirmed
        || core.segments.holding(offset).is_none_or(|s| offset + head > s.end)
    {
        return Ok(None);
    }
    let bytes = match piece(core, offset, head).await {
        Err(ReadError::Gone { .. }) => return Ok(None),
        bytes => bytes?,
    };
    let own = Position::new(core.shard, offset).to_wire();
    let Some(len) = record::total_len(&bytes).filter(|len| (limits::RECORD_MIN..=limits::RECORD_LIMIT).contains(len))
    else {
        return Ok(None);
    };
    let starts_here = record::place(&bytes).is_some_and(|(_, position)| position == own);
    let fits = offset + len <= confirmed && core.segments.holding(offset).is_some_and(|s| offset + len <= s.end);
    if !starts_here || !fits {
        return Ok(None);
    }
    let whole = match piece(core, offset, len).await {
        Err(ReadError::Gone { .. }) => return Ok(None),
        whole => whole?,
    };
    debug_assert_eq!(whole.len(), to_usize(len));
    Ok(record::Head::parse(&whole).is_some().then_some(whole))
}

pub(crate) async fn piece(core: &Rc<Core>, offset: u64, len: u64) -> Result<Slice, ReadError> {
    match core.with(|s| s.log.slice(offset, len)) {
        Some(slice) => Ok(slice),
        None => cold::read(core, offset, len).await,
    }
}
