//! What one shard knows, and the synchronous steps that change it. [`Core`] is shared by the shard's tasks, all on one
//! thread; its state is touched only within a call, never across an await.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use ringmq_protocol::message::RecordSpec;
use ringmq_protocol::properties::sys_flag;
use ringmq_rt::CommitMethod;
use ringmq_rt::sync::{Event, Waiters};

use crate::cache::Cache;
use crate::cold::ColdReads;
use crate::counters::{Counters, Tally};
use crate::error::{AppendError, Poisoned};
use crate::index_io::IndexFiles;
use crate::index_log::{IndexBlock, IndexLog};
use crate::indexes::{Indexes, Terms};
use crate::keys::Keys;
use crate::limits;
use crate::log::{Log, NoRoom, Write, to_usize};
use crate::options::{FlushPolicy, ShardOptions};
use crate::position::{Epoch, Position, QueueOffset, ShardId};
use crate::queue::{Entry, Kept, Queue, Queues};
use crate::seal;
use crate::segment::Segments;
use crate::watermark::Watermarks;

/// Proof of an append: where the record is, and up to where a watermark must get for it to be safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Where the record begins.
    pub position: Position,
    /// Its place in the queue; zero for a record that has none.
    pub queue_offset: QueueOffset,
    /// Log offset behind the record: it is written, flushed, confirmed once that watermark covers this.
    pub end: u64,
    /// Its store time.
    pub store_ms: i64,
}

/// A message on its way into the log.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    pub spec: &'a RecordSpec<'a>,
    /// The hash of the record's tags, as `Record::tags_code` gives it: after a crash the queue is rebuilt with that.
    pub tags_code: i64,
    /// What it can be found by, as the record's properties say it: after a crash the key index is rebuilt with those.
    pub keys: Keys<'a>,
    /// For a record of the timer topic: its TIMER_OUT_MS.
    pub due_ms: Option<u64>,
    /// What it carries was taken in before, by the options of that day: only [`limits::RECORD_LIMIT`] bounds it.
    pub promised: bool,
}

impl Draft<'_> {
    /// The largest record that it may be, or be part of in a batch.
    fn len_max(&self, record_max: u64) -> u64 {
        if self.promised { limits::RECORD_LIMIT } else { record_max }
    }
}

/// Whose allocation was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Log,
    Index,
    Runs,
}

#[derive(Debug)]
enum Health {
    Open,
    /// Finishes what was appended.
    Closing,
    /// The tasks end.
    Ended,
    Poisoned(Poisoned),
}

#[derive(Debug)]
pub(crate) struct State {
    shard: ShardId,
    pub(crate) epoch: Epoch,
    pub(crate) log: Log,
    pub(crate) marks: Watermarks,
    pub(crate) queues: Queues,
    pub(crate) index: IndexLog,
    pub(crate) indexes: Indexes,
    pub(crate) counts: Counters,
    health: Health,
    /// A write is in flight.
    writing: bool,
    /// Somebody waits for everything up to here to be flushed.
    flush_wanted: u64,
    /// Somebody waits for the index blocks in front of this one.
    index_wanted: u32,
    /// An allocation was refused.
    no_room_log: bool,
    no_room_index: bool,
    no_room_runs: bool,
    /// The file system is fuller than allowed.
    over_ratio: bool,
    used_percent: u8,
    /// An index block on disk is damaged: no snapshot may refer to it any more.
    pub(crate) index_damaged: bool,
    /// Written bytes at the last snapshot.
    pub(crate) snapshot_at: u64,
    /// Length of the last snapshot that this run of the shard has written.
    pub(crate) snapshot_len: u64,
    /// From where the snapshot on disk has the log read again; none of that is dropped. `None` without a snapshot.
    pub(crate) snapshot_replay: Option<u64>,
    /// Where the log is to start, and has to once this is on disk.
    pub(crate) start_wanted: u64,
    /// The files of dropped segments are on their way out.
    pub(crate) dropping: bool,
    /// No batch behind the start of the log on disk was written in an earlier term.
    pub(crate) start_epoch: Epoch,
    /// Where the log ended when it was opened: what begins behind it was written in this term.
    pub(crate) opened_at: u64,
    /// Dropped segments are given back, not kept for later.
    pub(crate) keeps_no_spares: bool,
    record_max: u64,
    unwritten_max: u64,
}

/// What recovery hands over to a shard that starts.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) shard: ShardId,
    pub(crate) epoch: Epoch,
    pub(crate) log: Log,
    pub(crate) queues: Queues,
    pub(crate) index: IndexLog,
    pub(crate) indexes: Indexes,
    pub(crate) snapshot_at: u64,
    /// As in [`State`].
    pub(crate) snapshot_replay: Option<u64>,
    pub(crate) start: u64,
    pub(crate) start_epoch: Epoch,
}

impl State {
    pub(crate) fn new(start: Start, options: &ShardOptions) -> Self {
        Self {
            shard: start.shard,
            epoch: start.epoch,
            marks: Watermarks::at(start.log.end(), options.flush),
            opened_at: start.log.end(),
            log: start.log,
            queues: start.queues,
            index: start.index,
            indexes: start.indexes,
            counts: Counters::default(),
            health: Health::Open,
            writing: false,
            flush_wanted: 0,
            index_wanted: 0,
            no_room_log: false,
            no_room_index: false,
            no_room_runs: false,
            over_ratio: false,
            used_percent: 0,
            index_damaged: false,
            snapshot_at: start.snapshot_at,
            snapshot_len: 0,
            snapshot_replay: start.snapshot_replay,
            start_wanted: start.start,
            dropping: false,
            start_epoch: start.start_epoch,
            keeps_no_spares: false,
            record_max: options.record_max,
            unwritten_max: options.unwritten_max,
        }
    }

    /// Whether there is enough log for the next snapshot, which is due after `bytes` unless the last was large.
    pub(crate) fn snapshot_is_due(&self, bytes: u64) -> bool {
        let behind = self.marks.written.offset().saturating_sub(self.snapshot_at);
        behind >= bytes.max(self.snapshot_len.saturating_mul(limits::SNAPSHOT_SHARE))
    }

    pub(crate) fn confirmed(&self) -> u64 {
        self.marks.confirmed().offset()
    }

    /// What is kept of the log and of its index.
    pub(crate) fn kept(&self, core: &Core) -> Kept {
        Kept { start: core.segments.start(), block: self.index.first() }
    }

    /// Appends one message.
    pub(crate) fn append(&mut self, draft: &Draft<'_>, now_ms: i64) -> Result<Ticket, AppendError> {
        let len = draft.spec.encoded_len()? as u64;
        self.admit(len, draft.len_max(self.record_max))?;
        self.put(draft, len, now_ms)
    }

    /// Appends all messages of a batch into one sealed batch, or none: a crash keeps all or none too.
    pub(crate) fn append_all(
        &mut self,
        drafts: &[Draft<'_>],
        now_ms: i64,
        out: &mut Vec<Ticket>,
    ) -> Result<(), AppendError> {
        let (mut total, mut max) = (0, self.record_max);
        for draft in drafts {
            total += draft.spec.encoded_len()? as u64;
            max = max.max(draft.len_max(self.record_max));
        }
        if drafts.is_empty() {
            return Err(AppendError::Empty);
        }
        self.admit(total, max)?;
        for draft in drafts {
            let len = draft.spec.encoded_len()? as u64;
            out.push(self.put(draft, len, now_ms)?);
        }
        Ok(())
    }

    /// Notes the deletion of a topic in the log and forgets its queues.
    pub(crate) fn delete_queues(&mut self, topic: &str) -> Result<Ticket, AppendError> {
        let len = seal::tombstone_len(topic);
        self.admit(len as u64, self.record_max)?;
        let store_ms = self.log.store_ms();
        let (offset, ()) = self.log.append(len as u64, store_ms, |out, _| seal::write_tombstone(out, topic));
        self.marks.append_to(self.log.end());
        self.queues.remove_topic(topic, offset);
        let position = Position::new(self.shard, offset);
        Ok(Ticket { position, queue_offset: QueueOffset(0), end: self.log.end(), store_ms })
    }

    /// Whether `len` bytes, at most `max`, may be appended now; makes room for them if so.
    fn admit(&mut self, len: u64, max: u64) -> Result<(), AppendError> {
        match &self.health {
            Health::Open => (),
            Health::Closing | Health::Ended => return Err(AppendError::Closed),
            Health::Poisoned(why) => return Err(why.clone().into()),
        }
        if len > max {
            return Err(AppendError::TooLarge { len, max });
        }
        if self.over_ratio {
            return Err(self.disk_full());
        }
        let unwritten = self.log.end() - self.marks.written.offset();
        let indexed = self.index.has_room() && self.indexes.have_room();
        if unwritten + len > self.unwritten_max.max(len) || !indexed {
            return Err(if self.no_room_log || self.no_room_index || self.no_room_runs {
                self.disk_full()
            } else {
                AppendError::Busy { unwritten }
            });
        }
        let room = self.log.make_room(len, self.marks.flushed.offset());
        // Making room may have sealed a batch or moved on to the next segment.
        self.marks.append_to(self.log.end());
        room.map_err(|why| match why {
            NoRoom::TooLarge { max } => AppendError::TooLarge { len, max },
            NoRoom::Segment if self.no_room_log => self.disk_full(),
            NoRoom::Segment => AppendError::Busy { unwritten },
            NoRoom::Memory(e) => AppendError::Memory(e),
        })
    }

    fn disk_full(&self) -> AppendError {
        AppendError::DiskFull { used_percent: self.used_percent }
    }

    /// Encodes a record into the room that was made. If encoding fails a filler takes its place, so that the log stays
    /// readable; that cannot happen unless the encoder contradicts its own length.
    fn put(&mut self, draft: &Draft<'_>, len: u64, now_ms: i64) -> Result<Ticket, AppendError> {
        let spec = draft.spec;
        let store_ms = now_ms.max(self.log.store_ms());
        let queue = self.queues.find(spec.topic, spec.queue_id);
        let consumable = sys_flag::is_consumable(spec.sys_flag);
        let next = if consumable { queue.and_then(|q| self.queues.get(q)).map_or(0, Queue::next) } else { 0 };
        let shard = self.shard;
        let (offset, encoded) = self.log.append(len, store_ms, |room, offset| {
            let position = Position::new(shard, offset).to_wire();
            spec.encode_into(room, next.cast_signed(), position, store_ms)
        });
        if let Err(e) = encoded {
            panic!("a record of {len} bytes contradicts its own length: {e}");
        }
        if consumable {
            let id = queue.unwrap_or_else(|| self.queues.find_or_create(spec.topic, spec.queue_id, offset, 0));
            let batch = self.log.batch();
            if let Some(queue) = self.queues.get_mut(id) {
                queue.push(&Entry { offset, size: u32::try_from(len).unwrap_or(0), tags_code: draft.tags_code });
                if queue.touch(batch) {
                    self.log.touch(id);
                }
            }
            let terms = Terms { topic: spec.topic, keys: draft.keys, due_ms: draft.due_ms };
            self.indexes.insert(&terms, offset, self.log.batch_start());
        }
        self.marks.append_to(self.log.end());
        self.counts.appends += 1;
        self.counts.append_bytes += len;
        let position = Position::new(shard, offset);
        Ok(Ticket { position, queue_offset: QueueOffset(next), end: self.log.end(), store_ms })
    }

    /// Takes the next write, if there is something and none is in flight.
    pub(crate) fn begin_write(&mut self) -> Option<Write> {
        assert!(!self.writing, "two writes in flight");
        let write = self.log.next_write(self.marks.flushed.offset())?;
        self.marks.append_to(self.log.end());
        self.writing = true;
        Some(write)
    }

    /// The write is on the device; under SYNC_FLUSH it is durable too.
    pub(crate) fn end_write(&mut self, mut write: Write, policy: FlushPolicy, tail_cache: u64) {
        self.writing = false;
        self.marks.write_to(write.end);
        self.counts.writes.add(write.bytes, write.records);
        if policy == FlushPolicy::Sync {
            let written = self.counts.writes;
            self.flushed_to(write.end, &written);
        }
        let confirmed = self.confirmed();
        let touched = write.take_touched();
        // The slices keep their buffers from being used again.
        drop(write);
        self.queues.confirm(&touched, confirmed, &mut self.index);
        self.log.give_back(touched);
        self.log.trim(tail_cache, self.marks.written.offset());
    }

    /// Everything in front of `end` is durable; `written` is the tally of writes up to there.
    pub(crate) fn flushed_to(&mut self, end: u64, written: &Tally) {
        self.marks.flush_to(end);
        self.counts.flushes.catch_up(written);
    }

    pub(crate) fn index_wrote(&mut self, blocks: u32) {
        self.index.wrote(blocks);
        let confirmed = self.confirmed();
        self.queues.work_off(confirmed, &mut self.index);
    }

    /// Whether the writer sleeps although there is something to write.
    pub(crate) fn writer_is_idle(&self) -> bool {
        !self.writing
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        matches!(self.health, Health::Poisoned(_))
    }

    pub(crate) fn poisoned(&self) -> Option<&Poisoned> {
        match &self.health {
            Health::Poisoned(why) => Some(why),
            _ => None,
        }
    }

    /// Whether the tasks should end.
    pub(crate) fn is_ending(&self) -> bool {
        matches!(self.health, Health::Ended | Health::Poisoned(_))
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.health, Health::Closing)
    }

    pub(crate) fn begin_close(&mut self) {
        if matches!(self.health, Health::Open) {
            self.health = Health::Closing;
        }
    }

    pub(crate) fn end_close(&mut self) {
        if !self.is_poisoned() {
            self.health = Health::Ended;
        }
    }

    /// Asks for everything up to `end` to be flushed without delay.
    pub(crate) fn want_flush(&mut self, end: u64) {
        self.flush_wanted = self.flush_wanted.max(end);
    }

    pub(crate) fn flush_urgent(&self) -> bool {
        self.marks.flushed.offset() < self.flush_wanted
    }

    /// Asks for the index blocks in front of `block` to be written without delay.
    pub(crate) fn want_index(&mut self, block: u32) {
        self.index_wanted = self.index_wanted.max(block);
    }

    pub(crate) fn index_urgent(&self) -> bool {
        self.index.written() < self.index_wanted
    }

    /// An allocation was refused, or went through after that. Says whether this is news.
    pub(crate) fn set_no_room(&mut self, whose: Room, refused: bool) -> bool {
        let flag = match whose {
            Room::Log => &mut self.no_room_log,
            Room::Index => &mut self.no_room_index,
            Room::Runs => &mut self.no_room_runs,
        };
        std::mem::replace(flag, refused) != refused
    }

    /// How full the file system is. Says whether sends are refused or taken again from now on.
    pub(crate) fn space(&mut self, used_percent: u8, over: bool) -> bool {
        self.used_percent = used_percent;
        let news = self.over_ratio != over;
        self.over_ratio = over;
        news
    }

    /// The queue index or the key index waits for room on the disk.
    pub(crate) fn index_has_no_room(&self) -> bool {
        self.no_room_index || self.no_room_runs
    }

    pub(crate) fn is_disk_full(&self) -> bool {
        self.over_ratio || self.no_room_log || self.index_has_no_room()
    }

    fn poison(&mut self, what: &'static str, error: io::Error) -> Option<Poisoned> {
        if self.is_poisoned() {
            return None;
        }
        let position = Position::new(self.shard, self.marks.flushed.offset());
        let why = Poisoned { what, position, error: Arc::new(error) };
        self.health = Health::Poisoned(why.clone());
        Some(why)
    }
}

/// One shard, as its tasks share it.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) shard: ShardId,
    pub(crate) store: u64,
    pub(crate) options: ShardOptions,
    pub(crate) method: CommitMethod,
    pub(crate) segments: Segments,
    pub(crate) index_files: IndexFiles,
    pub(crate) index_cache: RefCell<Cache<u32, IndexBlock>>,
    pub(crate) cold: ColdReads,
    pub(crate) indexes: Indexes,
    /// A watermark moved, room was made, or the shard's health changed.
    pub(crate) progress: Waiters,
    pub(crate) write_work: Event,
    pub(crate) sync_work: Event,
    pub(crate) prepare_work: Event,
    pub(crate) index_work: Event,
    pub(crate) snapshot_work: Event,
    pub(crate) watch_work: Event,
    pub(crate) drop_work: Event,
    /// A snapshot is being taken.
    pub(crate) snapshotting: Cell<bool>,
    state: RefCell<State>,
}

impl Core {
    pub(crate) fn new(
        shard: ShardId,
        store: u64,
        options: ShardOptions,
        method: CommitMethod,
        segments: Segments,
        index_files: IndexFiles,
        state: State,
    ) -> Rc<Self> {
        let cold = ColdReads::new(to_usize(options.cold_cache_bytes / limits::COLD_BLOCK), options.read_ahead);
        Rc::new(Self {
            shard,
            store,
            options,
            method,
            segments,
            index_files,
            index_cache: RefCell::new(Cache::new(limits::INDEX_CACHE_BLOCKS)),
            cold,
            indexes: state.indexes.clone(),
            progress: Waiters::new(),
            write_work: Event::new(),
            sync_work: Event::new(),
            prepare_work: Event::new(),
            index_work: Event::new(),
            snapshot_work: Event::new(),
            watch_work: Event::new(),
            drop_work: Event::new(),
            snapshotting: Cell::new(false),
            state: RefCell::new(state),
        })
    }

    pub(crate) fn with<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.borrow())
    }

    pub(crate) fn with_mut<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.state.borrow_mut())
    }

    /// Takes the shard out of service. The first error is the one that is kept.
    pub(crate) fn poison(&self, what: &'static str, error: io::Error) {
        let why = self.state.borrow_mut().poison(what, error);
        if let Some(why) = why {
            tracing::error!(shard = %self.shard, "{why}");
        }
        self.wake_everyone();
    }

    /// Every task looks at the state again.
    pub(crate) fn wake_everyone(&self) {
        self.progress.wake_all();
        for event in [
            &self.write_work,
            &self.sync_work,
            &self.prepare_work,
            &self.index_work,
            &self.snapshot_work,
            &self.watch_work,
            &self.drop_work,
        ] {
            event.notify();
        }
        self.indexes.wake_everyone();
    }

    /// Waits until everything in front of `end` is flushed.
    pub(crate) async fn flushed(&self, end: u64) -> Result<(), Poisoned> {
        self.progress
            .until(|| {
                let state = self.state.borrow();
                if state.marks.flushed.covers(end) {
                    return Some(Ok(()));
                }
                state.poisoned().map(|why| Err(why.clone()))
            })
            .await
    }
}
