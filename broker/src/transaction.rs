//! Transactional messages. A half lies in a system topic on the log shard of its own queue until the producer ends its
//! transaction. The end of a half is one atomic append to that log: the message in its own queue, if it is committed, and
//! the mark that the half is ended. A crash therefore leaves a transaction ended or open, never both.
//!
//! A half that is not ended for a while is checked: a producer of its group is asked. Each check moves the half to the end
//! of its queue, so that its count of checks survives; after the last one it is parked ([`parked`]) in a topic of its own.
//! [`table`] holds what is open; it is read again from both queues at a start.

mod check;
mod end;
mod parked;
mod table;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use ringmq_engine::{Position, QueueOffset, ReadError, Ticket};
use ringmq_protocol::message::Record;
use ringmq_protocol::{names, properties};
use ringmq_rt::sync::Event;
use ringmq_rt::{spawn, wall_ms};

pub use self::check::{CheckJob, send};
pub use self::end::{EndJob, request, run};
pub use self::parked::bring_back;
pub use self::table::{Half, HalfTable, Stay, Timing};
use crate::detour::own_queue;
use crate::log::Log;
use crate::message::Message;
use crate::node::Node;
use crate::own_group;
use crate::settings::Settings;
use crate::walk::{Walk, behind, is_about_one};

/// The tag of a mark.
const MARK_TAG: &str = "d";

/// How transactions are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionSettings {
    /// `rejectTransactionMessage`
    pub reject: bool,
    pub timing: Timing,
}

impl Default for TransactionSettings {
    fn default() -> Self {
        let timing = Timing { timeout: Duration::from_secs(6), interval: Duration::from_secs(30), checks_max: 15 };
        Self { reject: false, timing }
    }
}

/// The transactions of one log shard.
#[derive(Debug, Default)]
pub struct Transactions {
    pub table: RefCell<HalfTable>,
    /// The next check may be due earlier.
    changed: Event,
    /// Its queue of halves and of marks.
    queue_id: Cell<Queues>,
    counts: Cell<TransactionCounts>,
    /// Of halves that are being ended or brought back.
    turns: parked::Turns,
}

/// What became of halves. All but the first count from the start on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransactionCounts {
    /// Halves that nobody has ended yet.
    pub open: u64,
    /// Halves that were parked.
    pub parked: u64,
    /// Halves that their producers ended after they were parked.
    pub ended_late: u64,
    /// Open halves that were dropped with their segments.
    pub dropped: u64,
    /// Halves of which no log takes a copy.
    pub unfit: u64,
}

impl TransactionCounts {
    /// Adds another log shard's.
    pub fn merge(&mut self, other: Self) {
        self.open += other.open;
        self.parked += other.parked;
        self.ended_late += other.ended_late;
        self.dropped += other.dropped;
        self.unfit += other.unfit;
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Queues {
    halves: i32,
    marks: i32,
}

impl Transactions {
    /// Whether one half more can be kept.
    pub fn has_room(&self) -> bool {
        self.table.borrow().held() < crate::limits::HALVES_MAX
    }

    /// A half was just appended to `log`.
    pub fn appended(&self, settings: &Settings, ticket: &Ticket, born_ms: i64, properties: &str, log: &Log) {
        let place = (ticket.position, ticket.queue_offset.0, marks_end(log));
        let half = half(settings, place, born_ms, ticket.store_ms, properties);
        self.opened(ticket.queue_offset, half);
    }

    /// A half is in the log.
    pub fn opened(&self, offset: QueueOffset, half: Half) {
        self.table.borrow_mut().insert(offset.0, half);
        self.changed.notify();
    }

    /// What became of halves so far.
    pub fn counts(&self) -> TransactionCounts {
        TransactionCounts { open: self.table.borrow().len() as u64, ..self.counts.get() }
    }

    fn counted(&self, count: impl FnOnce(&mut TransactionCounts)) {
        let mut counts = self.counts.get();
        count(&mut counts);
        self.counts.set(counts);
    }

    /// The mark of a half that was leaving the table is as safe as the broker promises.
    fn gone(&self, offset: u64) {
        self.table.borrow_mut().gone(offset);
    }

    /// The log offset of the oldest record that is kept for an open transaction.
    pub fn floor(&self) -> Option<u64> {
        self.table.borrow().oldest_kept().map(|half| half.position.offset())
    }
}

/// A half that was just stored or is read again: with its position, its origin and where the marks stood, and what is due.
fn half(
    settings: &Settings,
    (position, origin, marks_from): (Position, u64, u64),
    born_ms: i64,
    stored_ms: i64,
    properties: &str,
) -> Half {
    let checks = number(properties, properties::TRANSACTION_CHECK_TIMES).unwrap_or(0);
    let check_ms = settings.transactions.timing.check_ms(born_ms, stored_ms, checks, immunity(properties));
    let due_ms = table::due_ms(check_ms, stored_ms, settings.retention.reserved);
    Half { position, origin, marks_from, check_ms, due_ms, checks, stay: Stay::Moves }
}

/// How long the producer of a half wants not to be asked, where it says so. As in RocketMQ -1 says nothing, and any other
/// negative time is over at once.
fn immunity(properties: &str) -> Option<Duration> {
    let seconds =
        number(properties, properties::CHECK_IMMUNITY_TIME_IN_SECONDS).filter(|seconds: &i64| *seconds != -1)?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// The offset under which the producer was first told of a half: a copy that a check made says so.
fn origin(properties: &str, offset: u64) -> u64 {
    number(properties, properties::TRAN_PREPARED_QUEUE_OFFSET).unwrap_or(offset)
}

fn number<T: std::str::FromStr>(properties: &str, name: &str) -> Option<T> {
    properties::get(properties, name)?.parse().ok()
}

/// Where the queue of marks of a log shard stands.
fn marks_end(log: &Log) -> u64 {
    let marks = log.transactions.queue_id.get().marks;
    // Beyond what readers see, if the last marks are not confirmed yet: those cannot end a half that is not there yet.
    log.shard.max_offset(names::TRANS_OP_HALF_TOPIC, marks).0
}

/// Finds the open halves of a log shard again and starts to check them. `progress` gives the queue offset from which a
/// queue of the group is to be read. A half that cannot be read counts as open unless its mark can be; a half whose mark cannot
/// be read is open again, and its producer asked once more.
///
/// # Errors
/// When what leads to the records of a queue cannot be read.
pub async fn start(
    node: &Rc<Node>,
    number: u16,
    log: &Rc<Log>,
    progress: impl Fn(&str, i32) -> Option<i64>,
) -> Result<(), ReadError> {
    let queue = |topic| own_queue(node, topic, number, 0);
    let (Some(halves), Some(marks)) = (queue(names::TRANS_HALF_TOPIC), queue(names::TRANS_OP_HALF_TOPIC)) else {
        return Ok(());
    };
    log.transactions.queue_id.set(Queues { halves, marks });
    let from = |topic, queue_id| progress(topic, queue_id).and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
    let marks_from = from(names::TRANS_OP_HALF_TOPIC, marks);
    let halves_from = from(names::TRANS_HALF_TOPIC, halves);
    let mut ended = HashSet::new();
    each(log, names::TRANS_OP_HALF_TOPIC, marks, marks_from, |found| match found {
        Found::Record(record) => ended.extend(marked(record.body()).filter(|offset| *offset >= halves_from)),
        Found::Unreadable(_, position, error) => {
            tracing::error!(%position, %error, "the mark of ended transactions cannot be read: they are open again");
        }
    })
    .await?;
    let settings = node.settings.get();
    each(log, names::TRANS_HALF_TOPIC, halves, halves_from, |found| match found {
        Found::Record(record) => {
            let (Ok(offset), Some(position)) =
                (u64::try_from(record.queue_offset()), Position::from_wire(record.position()))
            else {
                return;
            };
            if !ended.contains(&offset) {
                let place = (position, origin(record.properties(), offset), marks_from);
                let (born_ms, stored_ms) = (record.born_timestamp(), record.store_timestamp());
                let half = half(settings, place, born_ms, stored_ms, record.properties());
                log.transactions.opened(QueueOffset(offset), half);
            }
        }
        Found::Unreadable(offset, position, error) => {
            if !ended.contains(&offset) {
                tracing::error!(offset, %position, %error, "a half message cannot be read: it stays open");
                let now_ms = wall_ms();
                let half = half(settings, (position, offset, marks_from), now_ms, now_ms, "");
                log.transactions.opened(QueueOffset(offset), half);
            }
        }
    })
    .await?;
    let open = log.transactions.table.borrow().len();
    if open > 0 {
        tracing::info!(shard = number, open, "found open transactions");
    }
    let weak = Rc::downgrade(log);
    log.keep_from(move |_| weak.upgrade().and_then(|log| log.transactions.floor()));
    spawn("check transactions", check::run(Rc::clone(node), Rc::clone(log))).detach();
    Ok(())
}

/// What a start finds at an offset of a queue.
enum Found<'a> {
    Record(&'a Record<'a>),
    /// Its queue offset, where it lies, and why it cannot be read.
    Unreadable(u64, Position, &'a ReadError),
}

/// Calls `look` with what is at each offset of a queue from one on.
async fn each(
    log: &Log,
    topic: &str,
    queue_id: i32,
    from: u64,
    mut look: impl FnMut(Found<'_>),
) -> Result<(), ReadError> {
    let mut walk = Walk::new(topic, queue_id, 1 << 20);
    let mut offset = QueueOffset(from);
    loop {
        let batch = match walk.read(&log.shard, offset).await {
            Ok(batch) => batch,
            Err(error) if is_about_one(&error) => {
                // The index of the queue may be what cannot be read.
                let Some(position) = log.shard.position_of(topic, queue_id, offset).await? else { return Err(error) };
                look(Found::Unreadable(offset.0, position, &error));
                offset = QueueOffset(offset.0 + 1);
                continue;
            }
            Err(error) => return Err(error),
        };
        for record in &batch.records {
            if let Ok((record, _)) = Record::parse(record) {
                look(Found::Record(&record));
            }
        }
        let Some(next) = behind(&batch, offset) else { return Ok(()) };
        offset = next;
    }
}

/// The offsets of the halves that a mark's body names.
fn marked(body: &[u8]) -> impl Iterator<Item = u64> {
    let text = std::str::from_utf8(body).unwrap_or_default();
    text.split(',').filter_map(|offset| offset.trim().parse().ok())
}

/// The mark that the half at `offset` is ended.
fn mark(node: &Node, log: &Log, offset: u64) -> Message {
    let queue_id = log.transactions.queue_id.get().marks;
    let now_ms = ringmq_rt::wall_ms();
    let host = node.settings.store_host;
    let body = format!("{offset},").into_bytes();
    let mut mark = Message::own(names::TRANS_OP_HALF_TOPIC, queue_id, host, now_ms, body);
    mark.set(properties::TAGS, MARK_TAG);
    mark.set(properties::WAIT, "true");
    mark
}

/// Notes how far a start need not look back any more.
fn note(node: &Rc<Node>, log: &Log) {
    let Queues { halves, marks } = log.transactions.queue_id.get();
    let (half, mark) = match log.transactions.table.borrow().oldest() {
        Some((offset, half)) => (offset, half.marks_from),
        None => (log.shard.max_offset(names::TRANS_HALF_TOPIC, halves).0, marks_end(log)),
    };
    let places = [(names::TRANS_HALF_TOPIC, halves, half), (names::TRANS_OP_HALF_TOPIC, marks, mark)];
    for (topic, queue_id, offset) in places {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let commit = crate::mail::Mail::Progress {
            group: own_group::TRANSACTIONS.into(),
            topic: topic.into(),
            queue_id,
            offset,
        };
        node.tell(crate::node::CONTROL, commit);
    }
}
