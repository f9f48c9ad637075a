//! Asking producers about halves that they have not ended.

use std::rc::Rc;
use std::time::Duration;

use ringmq_engine::{AppendError, Position};
use ringmq_net::ConnId;
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::command::Command;
use ringmq_protocol::header::CheckTransactionState;
use ringmq_protocol::host::Host;
use ringmq_protocol::id::offset_msg_id;
use ringmq_protocol::properties;
use ringmq_rt::sync::{Either, first};
use ringmq_rt::{sleep, step, wall_ms};

use super::{Half, mark, marks_end, note, parked};
use crate::detour;
use crate::log::Log;
use crate::mail::{Ask, Mail, Told};
use crate::message::Message;
use crate::node::{CONTROL, Node};
use crate::put;

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
                    let interval = node.settings.transactions.timing.interval;
                    let later = wall_ms() + i64::try_from(interval.as_millis()).unwrap_or(i64::MAX / 2);
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

async fn check(node: &Rc<Node>, log: &Rc<Log>, offset: u64, half: Half) -> Result<(), String> {
    // A disk may take longer than a half has time.
    log.readable(half.position).await.map_err(|error| error.to_string())?;
    let record = log.shard.record_at(half.position).await.map_err(|error| error.to_string())?;
    let Some(record) = record else {
        if half.position.offset() >= log.shard.stats().start {
            return Err("there is no half where it was written".to_owned());
        }
        // A clean-up was forced.
        log.transactions.table.borrow_mut().remove(offset);
        log.transactions.counted(|counts| counts.dropped += 1);
        tracing::warn!(offset, "an open transaction is gone: its half was deleted with its segment");
        return Ok(());
    };
    let message = Message::of_record(&record).map_err(|error| error.to_string())?;
    if half.check_ms > wall_ms() {
        // Its check is far, and retention wants its segment.
        let moved = store_anew(node, log, offset, half, message).await?;
        tracing::debug!(
            offset,
            moved = moved.is_some(),
            "moved a half message whose check comes after its segment has gone"
        );
        return Ok(());
    }
    if half.checks >= node.settings.transactions.timing.checks_max {
        parked::park(node, log, offset, half, message).await
    } else {
        ask(node, log, offset, half, message).await
    }
}

/// Appends `message` and the mark of the half that it replaces; `None` if the half was ended meanwhile.
pub(super) async fn replace(
    node: &Rc<Node>,
    log: &Log,
    offset: u64,
    message: &Message,
    mark: &Message,
) -> Result<Option<ringmq_engine::Ticket>, String> {
    loop {
        // No await between this look and the append.
        if log.transactions.table.borrow().get(offset).is_none() {
            return Ok(None);
        }
        match put::append_pair(node, log, message, mark) {
            Ok((ticket, _)) => return Ok(Some(ticket)),
            Err(AppendError::Busy { .. }) => log.progress().await,
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Moves the half to the end of its queue and asks a producer about it.
async fn ask(node: &Rc<Node>, log: &Rc<Log>, offset: u64, half: Half, mut message: Message) -> Result<(), String> {
    let checks = half.checks + 1;
    message.set(properties::TRANSACTION_CHECK_TIMES, &checks.to_string());
    let Some((message, ticket)) = store_anew(node, log, offset, half, message).await? else {
        return Ok(());
    };
    step!("check_written");
    let Some(group) = message.property(properties::PGROUP).map(str::to_owned) else {
        return Err("the half does not name its producer group".to_owned());
    };
    match node.ask(CONTROL, Ask::Producer { group: group.as_str().into() }).await {
        Told::Conn(Some(conn)) => {
            let job =
                CheckJob { conn, header: header(node, &message, &ticket), record: question(node, message, &ticket) };
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
) -> Result<Option<(Message, ringmq_engine::Ticket)>, String> {
    message.set(properties::TRAN_PREPARED_QUEUE_OFFSET, &half.origin.to_string());
    let marks_from = marks_end(log);
    let Some(ticket) = replace(node, log, offset, &message, &mark(node, log, offset)).await? else {
        return Ok(None);
    };
    let place = (ticket.position, half.origin, marks_from);
    let moved = super::half(&node.settings, place, message.born_timestamp, ticket.store_ms, &message.properties);
    log.transactions.table.borrow_mut().leave(offset);
    log.transactions.opened(ticket.queue_offset, moved);
    log.safe(ticket.end).await.map_err(|error| error.to_string())?;
    log.transactions.gone(offset);
    note(node, log);
    Ok(Some((message, ticket)))
}

fn header(node: &Node, message: &Message, ticket: &ringmq_engine::Ticket) -> CheckTransactionState {
    let unique = message.property(properties::UNIQ_KEY).map(str::to_owned);
    CheckTransactionState {
        topic: message.property(properties::REAL_TOPIC).map(str::to_owned),
        tran_state_table_offset: i64::try_from(ticket.queue_offset.0).unwrap_or(i64::MAX),
        commit_log_offset: ticket.position.to_wire(),
        msg_id: unique.clone(),
        transaction_id: unique,
        offset_msg_id: Some(id(node.settings.store_host, ticket.position)),
        broker_name: Some(node.settings.identity.broker_name.clone()),
    }
}

fn id(host: Host, position: Position) -> String {
    offset_msg_id(host, position.to_wire()).as_str().to_owned()
}

/// The half as its producer sees it: with the topic and queue that it is for.
fn question(node: &Node, mut message: Message, ticket: &ringmq_engine::Ticket) -> Vec<u8> {
    let _ = detour::restore(&mut message);
    message.unset(&[properties::TRAN_PREPARED_QUEUE_OFFSET]);
    message.set(properties::WAIT, "false");
    message.with_draft(node.settings.store_host, |draft| {
        let mut record = vec![0; draft.spec.encoded_len().unwrap_or(0)];
        let offset = i64::try_from(ticket.queue_offset.0).unwrap_or(i64::MAX);
        if let Err(error) = draft.spec.encode_into(&mut record, offset, ticket.position.to_wire(), ticket.store_ms) {
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
