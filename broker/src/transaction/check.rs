//! Asking producers about halves that they have not ended.

use std::rc::Rc;
use std::time::Duration;

use ringmq_engine::{Poisoned, Position, Ticket};
use ringmq_net::ConnId;
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::command::Command;
use ringmq_protocol::header::CheckTransactionState;
use ringmq_protocol::host::Host;
use ringmq_protocol::id::offset_msg_id;
use ringmq_protocol::message::Record;
use ringmq_protocol::properties;
use ringmq_rt::sync::{Either, first};
use ringmq_rt::{Slice, sleep, step, wall_ms};

use super::table::due_ms;
use super::{Half, Stay, mark, marks_end, note, parked};
use crate::detour;
use crate::log::Log;
use crate::mail::{Ask, Mail, Told};
use crate::message::Message;
use crate::node::{CONTROL, Node};
use crate::put::{self, PutError};

/// Longest sleep without a look at the wall clock.
const LOOK: Duration = Duration::from_secs(1);

/// A check on its way to the connection of a producer.
#[derive(Debug)]
pub struct CheckJob {
    pub conn: ConnId,
    pub header: CheckTransactionState,
    pub record: Vec<u8>,
}

/// Checks what is due on one log shard, for ever.
pub(super) async fn run(node: Rc<Node>, log: Rc<Log>) {
    while log.shard.poisoned().is_none() {
        let due = log.transactions.table.borrow().first_due(wall_ms());
        match due {
            Some((offset, half)) => {
                if let Err(why) = check(&node, &log, offset, half).await {
                    tracing::error!(offset, why, "a half message could not be checked");
                    let later = wall_ms() + interval_ms(&node);
                    log.transactions.table.borrow_mut().postpone(offset, later);
                }
            }
            None => {
                let next = log.transactions.table.borrow().next_due_ms();
                match next {
                    None => log.transactions.changed.wait().await,
                    Some(at) => {
                        let left = u64::try_from(at.saturating_sub(wall_ms())).unwrap_or(0).max(1);
                        let wait = sleep(Duration::from_millis(left).min(LOOK));
                        let (Either::Left(()) | Either::Right(())) = first(wait, log.transactions.changed.wait()).await;
                    }
                }
            }
        }
    }
}

/// Why nothing came of what was due.
#[derive(Debug)]
pub(super) enum Failed {
    /// It may go better later.
    Now(String),
    /// No log ever takes a copy of this half.
    Unfit(PutError),
}

impl From<PutError> for Failed {
    fn from(error: PutError) -> Self {
        if error.is_final() { Self::Unfit(error) } else { Self::Now(error.to_string()) }
    }
}

impl From<Poisoned> for Failed {
    fn from(why: Poisoned) -> Self {
        PutError::from(why).into()
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Now(why)
    }
}

async fn check(node: &Rc<Node>, log: &Rc<Log>, offset: u64, half: Half) -> Result<(), String> {
    let gone = half.position.offset() < log.shard.start();
    if half.stay == Stay::Expendable && !gone {
        log.transactions.table.borrow_mut().postpone(offset, wall_ms() + interval_ms(node));
        return Ok(());
    }
    // A disk may take longer than a half has time.
    log.readable(half.position).await.map_err(|error| error.to_string())?;
    let record = log.shard.record_at(half.position).await.map_err(|error| error.to_string())?;
    let Some(record) = record else {
        if half.position.offset() >= log.shard.stats().start {
            return Err("there is no half where it was written".to_owned());
        }
        // A clean-up was forced, or it was kept for long enough.
        log.transactions.table.borrow_mut().remove(offset);
        log.transactions.counted(|counts| counts.dropped += 1);
        tracing::warn!(offset, "an open transaction is gone: its half was deleted with its segment");
        return Ok(());
    };
    let message = Message::of_record(&record).map_err(|error| error.to_string())?;
    if half.stay != Stay::Moves {
        stay(node, log, offset, half, &record, message).await;
        return Ok(());
    }
    let copy = message.clone();
    let done = if half.check_ms > wall_ms() {
        // Its check is far, and retention wants its segment.
        store_anew(node, log, offset, half, copy).await.map(|moved| {
            let moved = moved.is_some();
            tracing::debug!(offset, moved, "moved a half message whose check comes after its segment has gone");
        })
    } else if half.checks >= node.settings.transactions.timing.checks_max {
        parked::park(node, log, offset, half, copy).await
    } else {
        ask(node, log, offset, half, copy).await
    };
    match done {
        Err(Failed::Unfit(error)) => {
            let group = message.property(properties::PGROUP).unwrap_or_default();
            let key = message.property(properties::UNIQ_KEY).unwrap_or_default();
            tracing::error!(offset, group, key, position = %half.position, %error,
                "no log takes a copy of a half message: it stays where it is, open, and is checked there");
            log.transactions.counted(|counts| counts.unfit += 1);
            stay(node, log, offset, Half { stay: Stay::Stays, ..half }, &record, message).await;
            Ok(())
        }
        Err(Failed::Now(why)) => Err(why),
        Ok(()) => Ok(()),
    }
}

fn interval_ms(node: &Node) -> i64 {
    i64::try_from(node.settings.transactions.timing.interval.as_millis()).unwrap_or(i64::MAX / 2)
}

/// What is due of a half that cannot be moved. It is neither dropped nor ended: it stays in the table, and whoever knows where it
/// is can end it. Its checks are counted in memory alone, so a start begins with those that its record tells. After the last one it
/// keeps its segment as long as a parked half is kept. Then retention may drop it with its segment, which is counted and told of.
async fn stay(node: &Rc<Node>, log: &Rc<Log>, offset: u64, half: Half, record: &Slice, message: Message) {
    let now_ms = wall_ms();
    let settings = &*node.settings;
    let asks =
        half.stay == Stay::Stays && half.check_ms <= now_ms && half.checks < settings.transactions.timing.checks_max;
    let next = if asks {
        let again_ms = now_ms + interval_ms(node);
        Half { check_ms: again_ms, due_ms: again_ms, checks: half.checks + 1, ..half }
    } else if half.check_ms > now_ms {
        Half { due_ms: half.check_ms, ..half }
    } else if half.stay == Stay::Stays {
        tracing::warn!(offset, position = %half.position,
            "a half message that stays where it is is not asked about any more; its producer can still end it");
        Half { due_ms: due_ms(i64::MAX, now_ms, settings.retention.reserved), stay: Stay::Unasked, ..half }
    } else {
        Half { due_ms: now_ms + interval_ms(node), stay: Stay::Expendable, ..half }
    };
    {
        let mut table = log.transactions.table.borrow_mut();
        // It may have been ended since it was looked at.
        if table.get(offset).is_none() {
            return;
        }
        table.insert(offset, next);
    }
    if asks && let Ok((record, _)) = Record::parse(record) {
        let lies =
            Lies { position: half.position, queue_offset: record.queue_offset(), store_ms: record.store_timestamp() };
        if let Err(why) = ask_producer(node, message, lies, next.checks).await {
            tracing::error!(offset, why, "a half message could not be checked");
        }
    }
}

/// Appends `message` and the mark of the half that it replaces; `None` if the half was ended meanwhile.
pub(super) async fn replace(
    node: &Rc<Node>,
    log: &Log,
    offset: u64,
    message: &Message,
    mark: &Message,
) -> Result<Option<Ticket>, PutError> {
    put::when_free(log, || {
        // No await between this look and the append.
        if log.transactions.table.borrow().get(offset).is_none() {
            return Ok(None);
        }
        Ok(Some(put::append_pair(node, log, message, mark)?.0))
    })
    .await
}

/// Moves the half to the end of its queue and asks a producer about it.
async fn ask(node: &Rc<Node>, log: &Rc<Log>, offset: u64, half: Half, mut message: Message) -> Result<(), Failed> {
    let checks = half.checks + 1;
    message.set(properties::TRANSACTION_CHECK_TIMES, &checks.to_string());
    let Some((mut message, ticket)) = store_anew(node, log, offset, half, message).await? else {
        return Ok(());
    };
    step!("check_written");
    message.unset(&[properties::TRAN_PREPARED_QUEUE_OFFSET]);
    message.set(properties::WAIT, "false");
    let queue_offset = i64::try_from(ticket.queue_offset.0).unwrap_or(i64::MAX);
    let lies = Lies { position: ticket.position, queue_offset, store_ms: ticket.store_ms };
    Ok(ask_producer(node, message, lies, checks).await?)
}

/// Where a half is now.
#[derive(Debug, Clone, Copy)]
struct Lies {
    position: Position,
    queue_offset: i64,
    store_ms: i64,
}

async fn ask_producer(node: &Rc<Node>, message: Message, lies: Lies, checks: u32) -> Result<(), String> {
    let Some(group) = message.property(properties::PGROUP).map(str::to_owned) else {
        return Err("the half does not name its producer group".to_owned());
    };
    match node.ask(CONTROL, Ask::Producer { group: group.as_str().into() }).await {
        Told::Conn(Some(conn)) => {
            let job = CheckJob { conn, header: header(node, &message, lies), record: question(node, message, lies) };
            node.tell(conn.shard(), Mail::Check(Box::new(job)));
        }
        // Said once for each transaction: the first check of many.
        _ if checks == 1 => {
            tracing::warn!(group, "a transaction could not be checked: no producer of its group is connected");
        }
        _ => tracing::debug!(group, checks, "a transaction could not be checked again"),
    }
    Ok(())
}

/// Moves the half to the end of its queue; `None` if it was ended meanwhile.
async fn store_anew(
    node: &Rc<Node>,
    log: &Rc<Log>,
    offset: u64,
    half: Half,
    mut message: Message,
) -> Result<Option<(Message, Ticket)>, Failed> {
    message.set(properties::TRAN_PREPARED_QUEUE_OFFSET, &half.origin.to_string());
    let marks_from = marks_end(log);
    let Some(ticket) = replace(node, log, offset, &message, &mark(node, log, offset)).await? else {
        return Ok(None);
    };
    let place = (ticket.position, half.origin, marks_from);
    let moved = super::half(&node.settings, place, message.born_timestamp, ticket.store_ms, &message.properties);
    log.transactions.table.borrow_mut().leave(offset);
    log.transactions.opened(ticket.queue_offset, moved);
    log.safe(ticket.end).await?;
    log.transactions.gone(offset);
    note(node, log);
    Ok(Some((message, ticket)))
}

fn header(node: &Node, message: &Message, lies: Lies) -> CheckTransactionState {
    let unique = message.property(properties::UNIQ_KEY).map(str::to_owned);
    CheckTransactionState {
        topic: message.property(properties::REAL_TOPIC).map(str::to_owned),
        tran_state_table_offset: lies.queue_offset,
        commit_log_offset: lies.position.to_wire(),
        msg_id: unique.clone(),
        transaction_id: unique,
        offset_msg_id: Some(id(node.settings.store_host, lies.position)),
        broker_name: Some(node.settings.identity.broker_name.clone()),
    }
}

fn id(host: Host, position: Position) -> String {
    offset_msg_id(host, position.to_wire()).as_str().to_owned()
}

/// The half as its producer sees it: with the topic and queue that it is for.
fn question(node: &Node, mut message: Message, lies: Lies) -> Vec<u8> {
    let _ = detour::restore(&mut message);
    message.with_draft(node.settings.store_host, |draft| {
        let mut record = vec![0; draft.spec.encoded_len().unwrap_or(0)];
        let position = lies.position.to_wire();
        if let Err(error) = draft.spec.encode_into(&mut record, lies.queue_offset, position, lies.store_ms) {
            tracing::error!(%error, "a half message cannot be shown to its producer");
        }
        record
    })
}

/// Sends a check from the shard of the producer's connection.
pub fn send(node: &Node, job: &CheckJob) {
    let Some(conn) = node.registry.get(job.conn) else { return };
    let mut command = Command::request(RequestCode::CHECK_TRANSACTION_STATE.0, 0);
    command.ext = job.header.to_ext();
    if let Err(error) = conn.oneway(command, &job.record) {
        tracing::warn!(peer = %conn.peer(), %error, "a producer could not be asked about its transaction");
    }
    step!("check_sent");
}
