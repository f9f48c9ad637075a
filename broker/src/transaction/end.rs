//! END_TRANSACTION: a producer commits or rolls back. The request names the half by its position, which names the log
//! shard; everything happens there.

use std::rc::Rc;
use std::time::Duration;

use ringmq_engine::{Position, QueueOffset};
use ringmq_net::{Conn, Frame};
use ringmq_protocol::code::ResponseCode;
use ringmq_protocol::command::HeaderView;
use ringmq_protocol::header::EndTransaction;
use ringmq_protocol::message::Record;
use ringmq_protocol::properties::{self, sys_flag};
use ringmq_rt::{Slice, spawn, step, wall_ms};

use super::{Half, mark, note, origin, parked};
use crate::detour::{self, Detour};
use crate::log::Log;
use crate::mail::{Answer, Mail};
use crate::message::Message;
use crate::node::Node;
use crate::put::{self, For, PutError};
use crate::refusal::Refusal;
use crate::topic::Topic;
use crate::underway::Admitted;

/// The end of a transaction, on its way to the log that has the half.
#[derive(Debug)]
pub struct EndJob {
    to: Answer,
    group: String,
    offset: i64,
    position: Position,
    commit: bool,
    from_check: bool,
}

/// An END_TRANSACTION arrived on a connection of this shard.
pub fn request(node: &Rc<Node>, conn: &Rc<Conn>, view: &HeaderView<'_>, _frame: &Frame) {
    let to = Answer::to(conn.id(), view);
    let header = match EndTransaction::decode(view) {
        Ok(header) => header,
        Err(error) => return node.refuse(to, &Refusal::failed(error.to_string())),
    };
    let commit = match header.commit_or_rollback {
        sys_flag::TRANSACTION_COMMIT => true,
        sys_flag::TRANSACTION_ROLLBACK => false,
        // Not known yet: the check asks again. RocketMQ answers nothing either; the request is one-way.
        _ => return node.forget(to),
    };
    let Some(position) = Position::from_wire(header.commit_log_offset) else {
        return node.refuse(to, &not_found());
    };
    let log = u16::from(position.shard().get());
    if log >= node.log_shards() {
        return node.refuse(to, &not_found());
    }
    let EndTransaction { producer_group: group, tran_state_table_offset: offset, .. } = header;
    let job = EndJob { to, group, offset, position, commit, from_check: header.from_transaction_check };
    node.forward(node.executor_of(log), to, Mail::EndTransaction(Box::new(job)));
}

/// Ends a transaction on the shard of its half.
pub fn run(node: &Rc<Node>, job: EndJob) {
    let mut admitted = match node.admit(0) {
        Ok(admitted) => admitted,
        Err(refusal) => return node.refuse(job.to, &refusal),
    };
    step!("end_asked");
    let node = Rc::clone(node);
    spawn("end a transaction", async move {
        match end(&node, &job, &mut admitted).await {
            Ok(()) => {
                node.succeed(job.to, |_| (), &[]);
                step!("end_answered");
            }
            Err(refusal) => {
                // The half is open and asked about, and a line for each would be many.
                if !refusal.is_busy() {
                    tracing::warn!(group = job.group, position = %job.position, %refusal, "a transaction was not ended");
                }
                node.refuse(job.to, &refusal);
            }
        }
    })
    .detach();
}

pub(super) fn not_found() -> Refusal {
    Refusal::failed("Find prepared transaction message failed")
}

async fn end(node: &Rc<Node>, job: &EndJob, admitted: &mut Admitted) -> Result<(), Refusal> {
    let log = node.log(u16::from(job.position.shard().get())).ok_or_else(not_found)?;
    let readable = admitted.in_time(node.settings.send_wait_max, log.readable(job.position)).await?;
    readable.map_err(|why| Refusal::from(PutError::from(why)))?;
    let (origin, record) = asked_about(node, &log, job, admitted).await?;
    let turns = &log.transactions.turns;
    // An end that another one of this half is in front of is answered when that one's mark is safe, or does its own work.
    let (_turn, record) = match turns.try_take(origin) {
        Some(turn) => (turn, record),
        None => {
            // It holds no message while it waits.
            drop(record);
            admitted.let_go();
            let turn = turns.take(origin).await;
            (turn, asked_about(node, &log, job, admitted).await?.1)
        }
    };
    let released = if job.commit { Some(released(node, &record, job.position)?) } else { None };
    drop(record);
    let taken = log.transactions.table.borrow_mut().take(origin);
    let Some((offset, half)) = taken else {
        return parked::end(node, &log, origin, job.position, released).await;
    };
    step!("end_taken");
    let mark = mark(node, &log, offset);
    let done = match released {
        None => put::put_here(node, &log, vec![mark], For::Client).await.map(drop).map_err(Refusal::from),
        Some((message, topic)) => release(node, &log, message, &topic, mark).await,
    };
    match done {
        Ok(()) => {
            step!("end_written");
            log.transactions.gone(offset);
            note(node, &log);
        }
        Err(_) => reopen(&log, offset, half),
    }
    done
}

/// The record that an end names, if it is about it, and the half's origin.
async fn asked_about(
    node: &Rc<Node>,
    log: &Log,
    job: &EndJob,
    admitted: &mut Admitted,
) -> Result<(u64, Slice), Refusal> {
    let read = async { log.shard.record_at(job.position).await.map_err(|error| Refusal::failed(error.to_string())) };
    let record = admitted.read(node.settings.send_wait_max, read).await?.ok_or_else(not_found)?;
    let origin = check(job, &record, node.settings.transactions.timing.timeout)?;
    Ok((origin, record))
}

/// What could not be ended is asked about again.
fn reopen(log: &Log, offset: u64, half: Half) {
    log.transactions.opened(QueueOffset(offset), half);
}

/// Whether the request is about this record, with RocketMQ's words; the half's origin if it is.
fn check(job: &EndJob, record: &Slice, timeout: Duration) -> Result<u64, Refusal> {
    let (half, _) = Record::parse(record).map_err(|_| not_found())?;
    if half.topic() != ringmq_protocol::names::TRANS_HALF_TOPIC {
        return Err(not_found());
    }
    if half.property(properties::PGROUP) != Some(&*job.group) {
        return Err(Refusal::failed("The producer group wrong"));
    }
    if half.queue_offset() != job.offset {
        return Err(Refusal::failed("The transaction state table offset wrong"));
    }
    let age_ms = wall_ms().saturating_sub(half.born_timestamp());
    if let Some(seconds) = half.property(properties::CHECK_IMMUNITY_TIME_IN_SECONDS)
        && !job.from_check
        && is_over(seconds, age_ms, timeout)
    {
        let position = job.position.to_wire();
        tracing::info!(group = job.group, position, seconds, "the end of a transaction came after its immunity");
        let remark = "Send message to broker failed, illegal operation: the transaction's own time to end is over";
        return Err(Refusal::new(ResponseCode::ILLEGAL_OPERATION, remark));
    }
    let offset = u64::try_from(job.offset).map_err(|_| not_found())?;
    Ok(origin(half.properties(), offset))
}

/// Whether the time is over that a producer asked for to end a half, unasked: `transactionTimeOut` at least, so that what is
/// no number, or less, refuses no end that comes in time.
fn is_over(seconds: &str, age_ms: i64, timeout: Duration) -> bool {
    let asked_ms = seconds.parse().map_or(0, |seconds: i64| seconds.saturating_mul(1000));
    !seconds.is_empty() && age_ms > asked_ms.max(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX))
}

/// The message of a committed half, and its topic.
fn released(node: &Node, record: &Slice, half: Position) -> Result<(Message, std::sync::Arc<Topic>), Refusal> {
    let mut message = Message::of_record(record).map_err(|error| Refusal::failed(error.to_string()))?;
    if !detour::restore(&mut message) {
        return Err(Refusal::failed("the prepared message does not say where it belongs"));
    }
    message.unset(&[properties::TRAN_PREPARED_QUEUE_OFFSET]);
    message.sys_flag = sys_flag::with_transaction(message.sys_flag, sys_flag::TRANSACTION_COMMIT);
    message.prepared_offset = half.to_wire();
    let topic = node.topics.borrow().get(&message.topic).cloned();
    topic.map(|topic| (message, topic)).ok_or_else(|| Refusal::topic_missing("of the prepared message"))
}

/// Stores the message and the mark, in one batch where the message's queue is on this log, as it is unless its topic was
/// deleted and made again meanwhile.
pub(super) async fn release(
    node: &Rc<Node>,
    log: &Log,
    mut message: Message,
    topic: &Topic,
    mark: Message,
) -> Result<(), Refusal> {
    let number = topic.home(message.queue_id, node.log_shards());
    let level = message.number(properties::DELAY).and_then(|asked| node.settings.delay_levels.granted(asked));
    if let Some(level) = level
        && let Some(kept) = Detour::Level(level).kept(node, number)
    {
        detour::divert(&mut message, Detour::Level(level), kept);
    }
    if number == u16::from(log.shard.id().get()) {
        // What is in the log is not held while a flush takes long.
        let (_, mark) = put::append_pair_in_line(node, log, &mut [message, mark]).await?;
        return log.safe(mark.end).await.map_err(|why| PutError::from(why).into());
    }
    put::put_all(node, number, vec![message], For::Client).await?;
    // The message is there, so its end is owed.
    put::put_here(node, log, vec![mark], For::Promised).await.map(drop).map_err(Refusal::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_has_the_time_it_asked_for_and_never_less_than_the_brokers() {
        let timeout = Duration::from_secs(6);
        for less in ["1", "0", "-1", "-9223372036854775808", "soon", "6"] {
            assert!(!is_over(less, 6_000, timeout), "{less}");
            assert!(is_over(less, 6_001, timeout), "{less}");
        }
        assert!(!is_over("60", 60_000, timeout));
        assert!(is_over("60", 60_001, timeout));
        assert!(!is_over("9223372036854775807", i64::MAX, timeout));
        assert!(!is_over("", i64::MAX, timeout), "nothing is asked for");
    }
}
