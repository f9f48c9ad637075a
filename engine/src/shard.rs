//! One shard of a store: the only door to its log and its queues. Calls that change or look at state are synchronous;
//! waiting is on watermarks. A `Shard` is a handle: clones are the same shard, all on the thread that opened it.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use ringmq_rt::sync::Waiters;
use ringmq_rt::{CommitMethod, Slice, Task, fs, spawn};

use crate::ahead;
use crate::checkpoint::{self, NotTaken};
use crate::counters::Counters;
use crate::error::{AppendError, OpenError, Poisoned, ReadError};
use crate::flush;
use crate::index_io::{self, IndexFiles};
use crate::indexes::{Indexes, Vouchers};
use crate::keys::{self, Found, KeyQuery};
use crate::limits;
use crate::log::{Log, Writer};
use crate::near;
use crate::options::{FlushPolicy, ShardOptions};
use crate::position::{Epoch, Position, QueueId, QueueOffset, ShardId};
use crate::prepare;
use crate::read::{self, ReadBatch, ReadPlan, ReadRequest};
use crate::recover::{self, Known, Recovered};
use crate::retain::{self, SegmentInfo};
use crate::runs::{self, RunStats, Runs};
use crate::segment::{Segments, Shape};
use crate::select::Select;
use crate::start;
use crate::state::{Core, Draft, Start, State, Ticket};
use crate::store::StoreMeta;
use crate::watermark::Watermarks;

/// What a start found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of the log that were read again.
    pub replayed_bytes: u64,
    /// Records among them.
    pub replayed_records: u64,
    /// Bytes behind the end of the log that a crash left unfinished; none of them was ever confirmed.
    pub cut_bytes: u64,
}

/// Figures of a shard.
#[derive(Debug, Clone, Copy)]
pub struct ShardStats {
    pub marks: Watermarks,
    pub counters: Counters,
    /// Where the log begins: the offset of its oldest segment.
    pub start: u64,
    /// Dropped segments that are kept to become new ones.
    pub spares: usize,
    pub queues: usize,
    /// Memory of the queues' tails and block lists.
    pub queue_bytes: usize,
    /// Memory of the log's buffers.
    pub buffer_bytes: u64,
    /// Blocks of the queue index so far, and those that wait for their write.
    pub index_blocks: u32,
    pub index_pending: usize,
    /// The key index.
    pub keys: RunStats,
    pub timers: RunStats,
    pub disk_full: bool,
}

/// A record that is to be released at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timed {
    /// Milliseconds since 1970.
    pub due_ms: u64,
    /// Log offset of the record.
    pub offset: u64,
}

/// An open shard.
#[derive(Debug, Clone)]
pub struct Shard {
    core: Rc<Core>,
    tasks: Rc<RefCell<Tasks>>,
    recovery: Recovery,
}

#[derive(Debug, Default)]
struct Tasks {
    snapshot: Option<Task<()>>,
    others: Vec<Task<()>>,
}

impl Shard {
    /// Opens the shard: recovers its log and queues, and starts its tasks. Call it on the thread that is to own it.
    ///
    /// # Errors
    /// What keeps it from opening; damage to flushed data names the place and is never cut away.
    pub async fn open(root: &Path, shard: ShardId, meta: &StoreMeta, options: ShardOptions) -> Result<Self, OpenError> {
        options.check()?;
        let start = start::load(root, shard, meta.id()).await?;
        let shape = Shape { start: start.offset, size: options.segment_size, spares: options.spare_segments };
        let segments = Segments::open(root, shard, shape).await?;
        let index_files = IndexFiles::open(root, shard).await?;
        index_files.remove_before(start.index).await.map_err(OpenError::io("remove", index_files.path_of("")))?;
        let snapshot = checkpoint::load(root, shard, meta.id()).await?;
        let known = Known { shard, store: meta.id(), flushed: meta.flushed(shard) };
        let vouchers = snapshot.as_ref().map(|snapshot| snapshot.runs).unwrap_or_default();
        let indexes = open_indexes(root, shard, meta, &options, segments.start(), vouchers).await?;
        let found = recover::recover(known, &segments, &index_files, &start, snapshot, &indexes).await?;
        let recovery = Recovery {
            replayed_bytes: found.end - found.replayed_from,
            replayed_records: found.records,
            cut_bytes: found.cut,
        };
        tell(shard, &found, recovery);
        // The store's epoch is new unless its checkpoint was lost: then the log knows better.
        let epoch = meta.epoch().max(Epoch(found.epoch.0 + 1));
        let log = go_on(&segments, shard, meta, epoch, &found, &options).await?;
        let method = match options.commit_method {
            Some(method) => method,
            None => fs::commit_method(&Segments::dir(root, shard)).await,
        };
        let start = Start {
            shard,
            epoch,
            log,
            queues: found.queues,
            index: found.index,
            indexes,
            snapshot_at: found.replayed_from,
            snapshot_replay: found.snapshot,
            start: segments.start(),
            start_epoch: start.epoch,
        };
        let state = State::new(start, &options);
        let core = Core::new(shard, meta.id(), options, method, segments, index_files, state);
        let tasks = Rc::new(RefCell::new(start_tasks(&core, root)?));
        Ok(Self { core, tasks, recovery })
    }

    pub fn id(&self) -> ShardId {
        self.core.shard
    }

    pub fn options(&self) -> &ShardOptions {
        &self.core.options
    }

    /// How a batch is made durable here.
    pub fn commit_method(&self) -> CommitMethod {
        self.core.method
    }

    /// What the start found.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Appends a message: it has its place in the log and in its queue, and is on its way to the disk. `now_ms` is the
    /// wall clock; the store time never goes back. Readers see it once it is confirmed.
    ///
    /// # Errors
    /// Why it was refused; nothing has changed then.
    pub fn append(&self, draft: &Draft<'_>, now_ms: i64) -> Result<Ticket, AppendError> {
        let (ticket, idle) = self.core.with_mut(|s| (s.append(draft, now_ms), s.writer_is_idle()));
        if idle {
            self.core.write_work.notify();
        }
        ticket
    }

    /// Appends several messages, one behind the other and all or none; a crash too leaves all or none of them. Their
    /// tickets are added to `out`.
    ///
    /// # Errors
    /// Why they were refused; nothing has changed then.
    pub fn append_batch(&self, drafts: &[Draft<'_>], now_ms: i64, out: &mut Vec<Ticket>) -> Result<(), AppendError> {
        let (done, idle) = self.core.with_mut(|s| (s.append_all(drafts, now_ms, out), s.writer_is_idle()));
        if idle {
            self.core.write_work.notify();
        }
        done
    }

    /// Forgets the queues of a topic, and notes so in the log: a queue of this name begins anew at zero, after a crash
    /// too. The deletion is safe once the ticket's end is flushed.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn delete_queues(&self, topic: &str) -> Result<Ticket, AppendError> {
        let ticket = self.core.with_mut(|s| s.delete_queues(topic));
        self.core.write_work.notify();
        ticket
    }

    /// How far the log has got.
    pub fn watermarks(&self) -> Watermarks {
        self.core.with(|s| s.marks)
    }

    /// Woken whenever a watermark moves, room is made, or the shard's health changes. Whoever keeps a queue of replies,
    /// in the order of their tickets' ends, waits here and answers all that are covered.
    pub fn progress(&self) -> &Waiters {
        &self.core.progress
    }

    /// Waits until everything in front of a ticket's end is durable.
    ///
    /// # Errors
    /// The shard went out of service before.
    pub async fn flushed(&self, end: u64) -> Result<(), Poisoned> {
        self.core.flushed(end).await
    }

    /// Waits until readers see everything in front of a ticket's end.
    ///
    /// # Errors
    /// The shard went out of service before.
    pub async fn confirmed(&self, end: u64) -> Result<(), Poisoned> {
        let check = || {
            self.core.with(|s| {
                if s.marks.confirmed().covers(end) {
                    return Some(Ok(()));
                }
                s.poisoned().map(|why| Err(why.clone()))
            })
        };
        self.core.progress.until(check).await
    }

    /// Under ASYNC_FLUSH: asks for everything appended so far to be flushed now and not at the next interval.
    pub fn hurry_flush(&self) {
        self.core.with_mut(|s| {
            let end = s.marks.appended.offset();
            s.want_flush(end);
        });
        self.core.progress.wake_all();
    }

    /// Why the shard is out of service, if it is.
    pub fn poisoned(&self) -> Option<Poisoned> {
        self.core.with(|s| s.poisoned().cloned())
    }

    /// Whether it takes no messages any more: it is being closed, or out of service.
    pub fn is_closed(&self) -> bool {
        self.core.with(|s| s.is_ending() || s.is_closing())
    }

    /// Whether messages are refused, now or soon, because the disk is full.
    pub fn is_disk_full(&self) -> bool {
        self.core.with(State::is_disk_full)
    }

    /// Moves the queues in which something became visible since the last call to `out`. See [`progress`](Self::progress).
    pub fn take_arrivals(&self, out: &mut Vec<QueueId>) {
        self.core.with_mut(|s| s.queues.take_arrivals(out));
    }

    /// Whether [`take_arrivals`](Self::take_arrivals) would give any.
    pub fn has_arrivals(&self) -> bool {
        self.core.with(|s| s.queues.has_arrivals())
    }

    /// The number of a queue, if it ever had a message.
    pub fn queue(&self, topic: &str, queue_id: i32) -> Option<QueueId> {
        self.core.with(|s| s.queues.find(topic, queue_id))
    }

    /// The name of a queue; `None` if it was deleted.
    pub fn queue_name(&self, queue: QueueId) -> Option<(Rc<str>, i32)> {
        self.core.with(|s| s.queues.get(queue).map(|q| (Rc::clone(&q.topic), q.id)))
    }

    /// The topics that have queues here.
    pub fn topics(&self) -> Vec<Rc<str>> {
        self.core.with(|s| s.queues.topics().cloned().collect())
    }

    /// The queue ids of a topic that ever had a message here.
    pub fn queues_of(&self, topic: &str) -> Vec<i32> {
        self.core.with(|s| s.queues.of_topic(topic).iter().map(|(id, _)| *id).collect())
    }

    /// Reads from memory. `filter` is asked with each entry's tag hash.
    ///
    /// # Errors
    /// What is in memory is not what the queue names.
    pub fn read(
        &self,
        request: ReadRequest<'_>,
        mut filter: &mut dyn FnMut(i64) -> bool,
    ) -> Result<ReadPlan, ReadError> {
        self.read_selected(request, &mut filter)
    }

    /// The same, for a reader that may have to see a record to know whether it wants it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_selected(&self, request: ReadRequest<'_>, select: &mut dyn Select) -> Result<ReadPlan, ReadError> {
        read::read(&self.core, request, select)
    }

    /// Reads from memory and disk.
    ///
    /// # Errors
    /// The disk cannot be read, or holds something else than was written.
    pub async fn read_cold(
        &self,
        request: ReadRequest<'_>,
        mut filter: &mut dyn FnMut(i64) -> bool,
    ) -> Result<ReadBatch, ReadError> {
        self.read_cold_selected(request, &mut filter).await
    }

    /// The same, for a reader that may have to see a record to know whether it wants it.
    ///
    /// # Errors
    /// As [`read_cold`](Self::read_cold).
    pub async fn read_cold_selected(
        &self,
        request: ReadRequest<'_>,
        select: &mut dyn Select,
    ) -> Result<ReadBatch, ReadError> {
        read::read_cold(&self.core, request, select).await
    }

    /// First offset of a queue, and the one behind the last message that readers see; `None` for an unknown queue. When
    /// messages were dropped the first one may be told up to a block of the index too low until somebody asked for it by
    /// [`first_offset`](Self::first_offset), or read there.
    pub fn bounds(&self, topic: &str, queue_id: i32) -> Option<(QueueOffset, QueueOffset)> {
        let (min, max) = self.core.with_mut(|s| read::bounds(&self.core, s, &place(topic, queue_id)))?;
        Some((QueueOffset(min), QueueOffset(max)))
    }

    /// The first offset of a queue whose message still exists, or its end without any; `None` for an unknown queue. It may
    /// read one block of the index, once for each time that the log was cut.
    ///
    /// # Errors
    /// As [`read_cold`](Self::read_cold).
    pub async fn first_offset(&self, topic: &str, queue_id: i32) -> Result<Option<QueueOffset>, ReadError> {
        Ok(read::first_offset(&self.core, &place(topic, queue_id)).await?.map(QueueOffset))
    }

    /// Where a queue would begin if the log were cut at the log offset `start`; `None` for an unknown queue. It is exact where
    /// it is above `from`, and reads one block of the index at most. With [`start`](Self::start) it is where the queue begins.
    ///
    /// # Errors
    /// As [`read_cold`](Self::read_cold).
    pub async fn first_from(
        &self,
        topic: &str,
        queue_id: i32,
        start: u64,
        from: QueueOffset,
    ) -> Result<Option<QueueOffset>, ReadError> {
        Ok(ahead::first_from(&self.core, &place(topic, queue_id), start, from.0).await?.map(QueueOffset))
    }

    /// Bytes of the log from a queue's message with the offset 0 to the end; `None` if that message is gone, or there is none
    /// yet. Nothing is read for it.
    pub fn behind_origin(&self, topic: &str, queue_id: i32) -> Option<u64> {
        self.core.with(|s| {
            let queue = s.queues.get(s.queues.find(topic, queue_id)?)?;
            Some(s.marks.appended.offset() - queue.origin(self.core.segments.start())?)
        })
    }

    /// First byte of the log that is kept. What is derived from the log may forget what lies in front of it.
    pub fn start(&self) -> u64 {
        self.core.segments.start()
    }

    /// The segments that are full, oldest first, with the time of their last message.
    ///
    /// # Errors
    /// As [`read_cold`](Self::read_cold).
    pub async fn segments(&self) -> Result<Vec<SegmentInfo>, ReadError> {
        retain::segments(&self.core).await
    }

    /// Whether something is being dropped: its room is not free yet.
    pub fn is_dropping(&self) -> bool {
        self.core.with(|s| s.dropping || s.start_wanted > self.core.segments.start())
    }

    /// Drops the oldest segments that end at `offset` or in front of it, as far as they are flushed; never the one that is
    /// written. The decision is made here and nothing is waited for: where the log will start is returned, and
    /// [`start`](Self::start) moves there once that is noted durably. A crash before that leaves the messages.
    pub fn drop_before(&self, offset: u64) -> u64 {
        retain::drop_before(&self.core, offset)
    }

    /// Zero for an unknown queue.
    pub fn min_offset(&self, topic: &str, queue_id: i32) -> QueueOffset {
        self.bounds(topic, queue_id).map_or(QueueOffset(0), |(min, _)| min)
    }

    /// Behind the last message that readers see; zero for an unknown queue.
    pub fn max_offset(&self, topic: &str, queue_id: i32) -> QueueOffset {
        self.bounds(topic, queue_id).map_or(QueueOffset(0), |(_, max)| max)
    }

    /// The first message stored at `time_ms` or later, or the end of the queue; `None` for an unknown queue.
    ///
    /// # Errors
    /// As [`read_cold`](Self::read_cold).
    pub async fn offset_by_time(
        &self,
        topic: &str,
        queue_id: i32,
        time_ms: i64,
    ) -> Result<Option<QueueOffset>, ReadError> {
        read::offset_by_time(&self.core, &place(topic, queue_id), time_ms).await
    }

    /// Store time of the first message of a queue; `None` if there is none.
    ///
    /// # Errors
    /// As [`read_cold`](Self::read_cold).
    pub async fn earliest_store_time(&self, topic: &str, queue_id: i32) -> Result<Option<i64>, ReadError> {
        match self.first_offset(topic, queue_id).await? {
            Some(first) => self.store_time(topic, queue_id, first).await,
            None => Ok(None),
        }
    }

    /// Where one message lies, be it on a sector that the disk does not read; `None` if readers see none there.
    ///
    /// # Errors
    /// The queue's index cannot be read.
    pub async fn position_of(
        &self,
        topic: &str,
        queue_id: i32,
        offset: QueueOffset,
    ) -> Result<Option<Position>, ReadError> {
        read::position_of(&self.core, &place(topic, queue_id), offset.0).await
    }

    /// Store time of one message; `None` if readers see none there, or if it is damaged, which keeps nobody from asking about
    /// its queue.
    ///
    /// # Errors
    /// As [`read_cold`](Self::read_cold), but for damage.
    pub async fn store_time(&self, topic: &str, queue_id: i32, offset: QueueOffset) -> Result<Option<i64>, ReadError> {
        match read::store_time(&self.core, &place(topic, queue_id), offset.0).await {
            Err(error @ ReadError::Damaged { .. }) => {
                tracing::warn!(topic, queue_id, offset = offset.0, %error, "a message does not tell when it was stored");
                Ok(None)
            }
            time => time,
        }
    }

    /// Store time of the oldest record of the log; `None` if readers see none.
    ///
    /// # Errors
    /// As [`read_cold`](Self::read_cold).
    pub async fn oldest_store_time(&self) -> Result<Option<i64>, ReadError> {
        read::oldest_store_time(&self.core).await
    }

    /// The record that begins exactly there; `None` if none does, or readers may not see it yet.
    ///
    /// # Errors
    /// As [`read_cold`](Self::read_cold).
    pub async fn record_at(&self, position: Position) -> Result<Option<Slice>, ReadError> {
        if position.shard() != self.core.shard {
            return Ok(None);
        }
        read::record_at(&self.core, position.offset()).await
    }

    /// As [`record_at`](Self::record_at); where no record begins there, the only one whose position is the same as a double:
    /// clients that keep numbers as doubles know a position of more than 53 bits no better.
    ///
    /// # Errors
    /// As [`read_cold`](Self::read_cold).
    pub async fn record_near(&self, position: Position) -> Result<Option<Slice>, ReadError> {
        match self.record_at(position).await? {
            None if position.shard() == self.core.shard => near::record(&self.core, position).await,
            found => Ok(found),
        }
    }

    /// The messages with a key, newest first; none when the key index is switched off.
    ///
    /// # Errors
    /// As [`read_cold`](Self::read_cold).
    pub async fn query(&self, query: &KeyQuery<'_>) -> Result<Vec<Found>, ReadError> {
        keys::query(&self.core, query).await
    }

    /// The last message that the key index leads to, and the latest store time; `None` when there is none.
    pub fn last_key(&self) -> Option<(Position, i64)> {
        let last = self.core.indexes.keys.as_ref()?.last()?;
        Some((Position::new(self.core.shard, last), self.core.with(|s| s.log.store_ms())))
    }

    /// The first `count` timed records behind `after` that are due at `to_ms` or before, in the order of their times. Some
    /// of them may not be readable yet.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn due(&self, after: Timed, to_ms: u64, count: usize) -> Result<Vec<Timed>, ReadError> {
        // An entry's value is its offset; the next possible one is the first that is not done.
        let from = runs::Entry { key: after.due_ms, value: after.offset.saturating_add(1) };
        let found = self.core.indexes.timers.range(from, to_ms, count).await?;
        Ok(found.into_iter().map(|entry| Timed { due_ms: entry.key, offset: entry.value }).collect())
    }

    /// How many timed records lie behind `after`. Some that were dropped or stored anew may be among them until a merge of
    /// the index leaves them out.
    ///
    /// # Errors
    /// The index cannot be read.
    pub async fn timers_behind(&self, after: Timed) -> Result<u64, ReadError> {
        let from = runs::Entry { key: after.due_ms, value: after.offset.saturating_add(1) };
        self.core.indexes.timers.count_from(from).await
    }

    /// Nobody asks any more for records that were due in front of this time.
    pub fn end_timers_before(&self, due_ms: u64) {
        self.core.indexes.timers.end_in_front_of(due_ms);
    }

    pub fn stats(&self) -> ShardStats {
        self.core.with(|s| ShardStats {
            marks: s.marks,
            counters: s.counts,
            start: self.core.segments.start(),
            spares: self.core.segments.spares(),
            queues: s.queues.len(),
            queue_bytes: s.queues.memory(),
            buffer_bytes: s.log.buffered(),
            index_blocks: s.index.next(),
            index_pending: s.index.pending(),
            keys: self.core.indexes.keys.as_ref().map(|keys| keys.stats()).unwrap_or_default(),
            timers: self.core.indexes.timers.stats(),
            disk_full: s.is_disk_full(),
        })
    }

    /// Writes a snapshot of the queues now.
    ///
    /// # Errors
    /// What the operating system says, or that the shard is out of service.
    pub async fn snapshot(&self) -> std::io::Result<()> {
        checkpoint::take(&self.core).await.map_err(|why| match why {
            NotTaken::Io(e) => e,
            NotTaken::Unfit => std::io::Error::other("the shard cannot take a snapshot now"),
        })
    }

    /// Closes the shard: takes no more messages, makes everything durable, writes a snapshot, ends its tasks. Returns
    /// what is flushed, for the store's checkpoint. Reads still work.
    ///
    /// # Errors
    /// The shard is out of service.
    pub async fn close(&self) -> Result<u64, Poisoned> {
        let core = &self.core;
        let end = core.with_mut(|s| {
            s.begin_close();
            let end = s.marks.appended.offset();
            s.want_flush(end);
            end
        });
        core.wake_everyone();
        let flushed = core.flushed(end).await;
        let snapshot = self.tasks.borrow_mut().snapshot.take();
        if let Some(task) = snapshot {
            task.await;
        }
        if core.with(|s| s.snapshot_at < s.marks.written.offset() || s.counts.snapshots == 0)
            && let Err(NotTaken::Io(e)) = checkpoint::take(core).await
        {
            tracing::warn!(shard = %core.shard, "the queue snapshot was not written, the next start takes longer: {e}");
        }
        core.with_mut(State::end_close);
        core.wake_everyone();
        let others = std::mem::take(&mut self.tasks.borrow_mut().others);
        for task in others {
            task.await;
        }
        flushed?;
        match self.poisoned() {
            Some(why) => Err(why),
            None => Ok(core.with(|s| s.marks.flushed.offset())),
        }
    }
}

/// The name of a queue, for calls that want no more.
fn place(topic: &str, queue_id: i32) -> ReadRequest<'_> {
    ReadRequest { topic, queue_id, offset: QueueOffset(0), max_messages: 0, max_bytes: 0 }
}

fn tell(shard: ShardId, found: &Recovered, recovery: Recovery) {
    let (bytes, records, queues) = (recovery.replayed_bytes, recovery.replayed_records, found.queues.len());
    tracing::info!(shard = %shard, end = found.end, replayed_bytes = bytes, records, queues, "shard recovered");
    if recovery.cut_bytes > 0 {
        tracing::warn!(
            shard = %shard,
            position = found.end,
            bytes = recovery.cut_bytes,
            "an unfinished write at the end of the log was cut; nothing of it was confirmed"
        );
    }
}

/// Lets the log go on where recovery ended it.
async fn go_on(
    segments: &Segments,
    shard: ShardId,
    meta: &StoreMeta,
    epoch: Epoch,
    found: &Recovered,
    options: &ShardOptions,
) -> Result<Log, OpenError> {
    let path = Segments::dir(std::path::Path::new(""), shard);
    let segment = match found.segment.or_else(|| segments.last().filter(|last| last.end == found.end)) {
        Some(segment) => segment,
        None => {
            let created = segments.create(found.end, options.segment_size).await;
            created.map_err(OpenError::io("create a segment in", &path))?
        }
    };
    let writer = Writer { shard, epoch, store: meta.id() };
    let mut log = Log::new(writer, found.end, segment, options.segment_size, found.store_ms);
    // One segment may have been prepared; more would be nobody's.
    if let Some(next) = segments.holding(segment.end) {
        segments.remove_from(next.end).await?;
        log.set_next(next);
    }
    let lead = options.zero_lead.min(limits::ZERO_AT_START);
    let zeroed = prepare::first_zeros(segments, segment, found.end, lead, &prepare::zeros()?).await;
    zeroed.map_err(OpenError::io("prepare", segments.path(segment.base)))?;
    Ok(log)
}

/// The key index, if it is wanted, and the timers.
async fn open_indexes(
    root: &Path,
    shard: ShardId,
    meta: &StoreMeta,
    options: &ShardOptions,
    start: u64,
    vouchers: Vouchers,
) -> Result<Indexes, OpenError> {
    let open = |kind, vouched| Runs::open(root, shard, meta.id(), kind, start, vouched, options.key_table);
    let keys = if options.key_index { Some(open(runs::Kind::Keys, vouchers.keys).await?) } else { None };
    Ok(Indexes { keys, timers: open(runs::Kind::Timers, vouchers.timers).await? })
}

fn start_tasks(core: &Rc<Core>, root: &Path) -> Result<Tasks, OpenError> {
    let mut others = vec![
        spawn("log-write", flush::write(Rc::clone(core))),
        spawn("log-prepare", prepare::run(Rc::clone(core), prepare::zeros()?)),
        spawn("index-write", index_io::run(Rc::clone(core))),
        spawn("log-drop", retain::run(Rc::clone(core))),
        spawn("space-watch", flush::watch_space(Rc::clone(core), root.to_path_buf())),
    ];
    for runs in core.indexes.all() {
        others.push(spawn("run-write", runs::work::write(Rc::clone(core), Rc::clone(runs))));
        others.push(spawn("run-merge", runs::work::merge(Rc::clone(core), Rc::clone(runs))));
    }
    if core.options.flush == FlushPolicy::Async {
        others.push(spawn("log-sync", flush::sync(Rc::clone(core))));
    }
    Ok(Tasks { snapshot: Some(spawn("snapshot", checkpoint::run(Rc::clone(core)))), others })
}
