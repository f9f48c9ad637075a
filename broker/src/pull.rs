//! PULL_MESSAGE and LITE_PULL_MESSAGE: checks on the connection's shard, the read on the queue's. Records leave as slices
//! of the log's buffers. A pull that finds nothing may wait; when a message arrives or its time is up the same read runs
//! again.

use std::rc::Rc;

use ringmq_engine::{QueueOffset, ReadBatch, ReadError, ReadPlan, ReadRequest, ReadStatus};
use ringmq_net::{Conn, Frame};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{HeaderView, ReplyHead};
use ringmq_protocol::header::{Names, PullHeader};
use ringmq_protocol::properties::{perm, pull_flag};
use ringmq_rt::buf::aligned_bytes;
use ringmq_rt::net::Outbox;
use ringmq_rt::time::{Instant, now};
use ringmq_rt::{spawn, step};

use crate::deferred;
use crate::filter::{self, Chosen, Selection};
use crate::limits::{LOG_BUFFERS_SPARE, SHARD_OUTPUT_MAX};
use crate::log::Log;
use crate::mail::{Answer, Ask, Mail, PullJob, Told, status_name};
use crate::moved;
use crate::node::{CONTROL, Node, log_frame_error};
use crate::refusal::Refusal;
use crate::send::text;

/// A pull arrived on a connection of this shard.
pub fn request(node: &Rc<Node>, conn: &Rc<Conn>, view: &HeaderView<'_>, frame: &Frame) {
    let to = Answer::to(conn.id(), view);
    let header = match PullHeader::parse(view, Names::V1) {
        Ok(header) => header,
        Err(error) => return node.refuse(to, &Refusal::failed(error.to_string())),
    };
    if holds_too_much(node, conn) {
        return node.refuse(to, &Refusal::not_taken());
    }
    let group = text(header.consumer_group.get(frame.header()));
    if node.groups.borrow().get(&group).is_some() {
        return checked(node, conn, to, view.code, &group, &header, frame.header());
    }
    let group = group.into_owned();
    let (node, conn, frame, code) = (Rc::clone(node), Rc::clone(conn), frame.clone(), view.code);
    spawn("pull of a new group", async move {
        match node.ask(CONTROL, Ask::EnsureGroup { group: group.as_str().into() }).await {
            Told::Done => checked(&node, &conn, to, code, &group, &header, frame.header()),
            other => node.refuse(to, &other.unexpected()),
        }
    })
    .detach();
}

/// Answers hold log buffers until they are sent: readers that do not read must not use up the memory of the others. They
/// are held back first, and everybody only when that does not help.
pub fn holds_too_much(node: &Node, conn: &Conn) -> bool {
    let shard = &node.settings.shard;
    let own = usize::try_from(shard.tail_cache_bytes + shard.unwritten_max).unwrap_or(usize::MAX);
    let buffers_max = usize::from(node.log_shards()).saturating_mul(own).saturating_add(LOG_BUFFERS_SPARE);
    let over = |times: usize| {
        node.registry.output_bytes() > times * SHARD_OUTPUT_MAX || aligned_bytes() > buffers_max.saturating_mul(times)
    };
    over(2) || (conn.has_output() && over(1))
}

fn checked(node: &Rc<Node>, conn: &Rc<Conn>, to: Answer, code: i32, group: &str, header: &PullHeader, bytes: &[u8]) {
    match check(node, conn, to, code, group, header, bytes) {
        Ok(job) => {
            commit(node, group, header, &job);
            let executor = node.executor_of(job.log);
            if executor == node.me() {
                run(node, job);
            } else {
                node.forward(executor, to, Mail::Pull(Box::new(job)));
            }
        }
        Err(refusal) => refuse(node, to, &refusal),
    }
}

fn refuse(node: &Rc<Node>, to: Answer, refusal: &Refusal) {
    let forbidden = refusal.forbidden;
    let ext = |writer: &mut ringmq_protocol::command::ExtWriter<'_>| {
        if let Some(forbidden) = forbidden {
            writer.i64("forbiddenType", forbidden as i64);
        }
    };
    node.answer(to, refusal.code, Some(&refusal.remark), ext, &[]);
}

fn check(
    node: &Rc<Node>,
    conn: &Conn,
    to: Answer,
    code: i32,
    group: &str,
    header: &PullHeader,
    bytes: &[u8],
) -> Result<PullJob, Refusal> {
    let settings = &*node.settings;
    let address = || settings.store_host.ip().to_string();
    if !perm::is_readable(settings.topics.permission) {
        return Err(Refusal::broker_not_readable(&address()));
    }
    if code == RequestCode::LITE_PULL_MESSAGE.0 && !settings.lite_pull {
        return Err(Refusal::new(
            ResponseCode::NO_PERMISSION,
            format!("the broker[{}] for lite pull consumer is forbidden", address()),
        ));
    }
    let group = node.groups.borrow().get(group).cloned().ok_or_else(|| Refusal::group_missing(group))?;
    if !group.config.consume_enable {
        return Err(Refusal::group_forbidden(&group.config.group_name));
    }
    let name = text(header.topic.get(bytes));
    let topic = node.topics.borrow().get(&name).cloned().ok_or_else(|| Refusal::topic_missing(&name))?;
    if !topic.is_readable() {
        return Err(Refusal::topic_not_readable(&name));
    }
    let queue_id = topic.queue_for_pull(header.queue_id, conn.peer())?;
    let Chosen { filter, subscriptions } = filter::of_pull(node, &group, &name, header, bytes)?;
    let asked_bytes = header.max_msg_bytes.and_then(|b| u64::try_from(b).ok()).filter(|b| *b > 0);
    Ok(PullJob {
        to,
        log: topic.home(queue_id, node.log_shards()),
        queue_id,
        offset: header.queue_offset,
        max_messages: usize::try_from(header.max_msg_nums).unwrap_or(0).clamp(1, settings.pull_messages_max),
        max_bytes: asked_bytes.unwrap_or(u64::MAX).min(settings.pull_bytes_max),
        filter,
        subscriptions,
        hold_ms: hold_ms(node, header),
        group,
        suggest_broker: 0,
        reset: None,
        deferred: false,
        found: 0,
        found_bytes: 0,
        topic,
    })
}

fn hold_ms(node: &Node, header: &PullHeader) -> u64 {
    /// No client waits longer; a forged time must not keep a pull for ever.
    const HOLD_MAX_MS: u64 = 120_000;
    if !pull_flag::has_suspend(header.sys_flag) {
        return 0;
    }
    if node.settings.long_polling {
        u64::try_from(header.suspend_timeout_millis).unwrap_or(0).min(HOLD_MAX_MS)
    } else {
        u64::try_from(node.settings.short_polling.as_millis()).unwrap_or(1000)
    }
}

/// The offset that rides on the pull.
fn commit(node: &Rc<Node>, group: &str, header: &PullHeader, job: &PullJob) {
    if pull_flag::has_commit_offset(header.sys_flag) && header.commit_offset >= 0 {
        let topic = job.topic.config.topic_name.as_str().into();
        let (queue_id, offset) = (job.queue_id, header.commit_offset);
        step!("offset_asked");
        node.tell(CONTROL, Mail::Commit { group: group.into(), topic, queue_id, offset });
    }
}

/// Runs a pull on its queue's shard.
pub fn run(node: &Rc<Node>, job: PullJob) {
    let deadline = now().after(std::time::Duration::from_millis(job.hold_ms));
    let may_hold = job.hold_ms > 0;
    read(node, job, may_hold.then_some(deadline));
}

/// A message arrived for a pull that waits until `until`.
pub fn wake(node: &Rc<Node>, job: PullJob, until: Instant) {
    if filter::is_outdated(node, &job) {
        return go_on(node, &job);
    }
    read(node, job, Some(until));
}

/// Answers that nothing was found up to where the pull waits, so that it comes again with the filter that is in force now.
fn go_on(node: &Rc<Node>, job: &PullJob) {
    let bounds = node.log(job.log).and_then(|log| log.shard.bounds(&job.topic.config.topic_name, job.queue_id));
    let (min, max) = bounds.unwrap_or_default();
    let next = QueueOffset(u64::try_from(job.offset).unwrap_or(0));
    let status = ReadStatus::NoMatchedMessage;
    respond(node, job, &ReadBatch { status, next, min, max, records: smallvec::SmallVec::new(), bytes: 0 });
}

/// A pull's time is up: it is answered with what there is, even if that is nothing.
pub fn expire(node: &Rc<Node>, job: PullJob) {
    read(node, job, None);
}

fn read(node: &Rc<Node>, mut job: PullJob, hold_until: Option<Instant>) {
    let Some(log) = node.log(job.log) else {
        return node.refuse(job.to, &Refusal::failed(format!("log shard {} is not open", job.log)));
    };
    if is_reset(node, &mut job) {
        let (min, max) = log.shard.bounds(&job.topic.config.topic_name, job.queue_id).unwrap_or_default();
        let status = ReadStatus::OffsetTooSmall;
        let batch = ReadBatch { status, next: min, min, max, records: smallvec::SmallVec::new(), bytes: 0 };
        return respond(node, &job, &batch);
    }
    // A negative offset lies in front of every queue's first message.
    let Ok(offset) = u64::try_from(job.offset) else {
        let node = Rc::clone(node);
        spawn("pull in front of a queue", async move { below(&node, &log, &job).await }).detach();
        return;
    };
    let plan = log.shard.read_selected(request_of(&job, offset), &mut Selection::of(job.filter.as_ref()));
    match plan {
        Ok(ReadPlan::Ready(batch)) => conclude(node, &log, job, hold_until, &batch),
        Ok(ReadPlan::Cold) => {
            let node = Rc::clone(node);
            spawn("cold read", async move {
                let mut selection = Selection::of(job.filter.as_ref());
                let result = log.shard.read_cold_selected(request_of(&job, offset), &mut selection).await;
                match result {
                    Ok(batch) => conclude(&node, &log, job, hold_until, &batch),
                    Err(error) => failed(&node, &job, &error),
                }
            })
            .detach();
        }
        Err(error) => failed(node, &job, &error),
    }
}

/// Whether this pull is to be told where an administrator wants its group to read on. One that starts there already
/// needs no telling.
fn is_reset(node: &Rc<Node>, job: &mut PullJob) -> bool {
    let taken = node.resets.take(&job.group.config.group_name, &job.topic.config.topic_name, job.queue_id);
    if let Some((queue, offset)) = taken {
        node.tell(CONTROL, Mail::ResetTold(queue));
        job.reset = (offset != job.offset).then_some(offset);
    }
    job.reset.is_some()
}

fn request_of(job: &PullJob, offset: u64) -> ReadRequest<'_> {
    ReadRequest {
        topic: &job.topic.config.topic_name,
        queue_id: job.queue_id,
        offset: QueueOffset(offset),
        max_messages: job.max_messages,
        max_bytes: job.max_bytes,
    }
}

fn failed(node: &Rc<Node>, job: &PullJob, error: &ReadError) {
    tracing::error!(topic = %job.topic.config.topic_name, queue = job.queue_id, offset = job.offset, %error, "a pull could not read its messages");
    node.refuse(job.to, &Refusal::failed(error.to_string()));
}

async fn below(node: &Rc<Node>, log: &Log, job: &PullJob) {
    let topic = &job.topic.config.topic_name;
    let min = match log.shard.first_offset(topic, job.queue_id).await {
        Ok(min) => min.unwrap_or_default(),
        Err(error) => return failed(node, job, &error),
    };
    let max = log.shard.max_offset(topic, job.queue_id);
    let status = if max.0 == 0 { ReadStatus::NoMessageInQueue } else { ReadStatus::OffsetTooSmall };
    let batch = ReadBatch { status, next: min, min, max, records: smallvec::SmallVec::new(), bytes: 0 };
    respond(node, job, &batch);
}

/// Answers, or keeps the pull until a message arrives.
fn conclude(node: &Rc<Node>, log: &Rc<Log>, mut job: PullJob, hold_until: Option<Instant>, batch: &ReadBatch) {
    let nothing_new = match batch.status {
        ReadStatus::OffsetOverflowOne => true,
        ReadStatus::NoMessageInQueue | ReadStatus::NoMatchedLogicQueue => job.offset == 0,
        // Messages came, none of them for this reader: go on waiting behind them.
        ReadStatus::NoMatchedMessage => batch.next == batch.max,
        _ => false,
    };
    let left = hold_until.map(|until| until.since(now())).filter(|left| !left.is_zero());
    if let Some(left) = left
        && nothing_new
    {
        if batch.status == ReadStatus::NoMatchedMessage {
            job.offset = wire(batch.next);
        }
        job.hold_ms = u64::try_from(left.as_millis()).unwrap_or(0).max(1);
        if log.hold(job.clone()) {
            return;
        }
    }
    respond(node, &job, batch);
}

fn code_of(status: ReadStatus, offset: i64) -> ResponseCode {
    match status {
        ReadStatus::Found => ResponseCode::SUCCESS,
        ReadStatus::OffsetOverflowOne => ResponseCode::PULL_NOT_FOUND,
        ReadStatus::NoMessageInQueue | ReadStatus::NoMatchedLogicQueue if offset == 0 => ResponseCode::PULL_NOT_FOUND,
        ReadStatus::NoMatchedMessage => ResponseCode::PULL_RETRY_IMMEDIATELY,
        ReadStatus::NoMessageInQueue
        | ReadStatus::NoMatchedLogicQueue
        | ReadStatus::OffsetTooSmall
        | ReadStatus::OffsetOverflowBadly => ResponseCode::PULL_OFFSET_MOVED,
    }
}

fn respond(node: &Rc<Node>, job: &PullJob, batch: &ReadBatch) {
    if job.to.oneway {
        return;
    }
    // Where an administrator sent a group to is no news to him.
    if job.reset.is_none() && code_of(batch.status, job.offset) == ResponseCode::PULL_OFFSET_MOVED {
        moved::tell(node, job, batch.next);
    }
    let shard = job.to.conn.shard();
    let answered = PullJob { found: batch.records.len(), found_bytes: batch.bytes, ..job.clone() };
    if shard == node.me() {
        pulled(node, answered, |out| write(job, batch, out));
    } else {
        let mut out = Box::<Outbox>::default();
        write(job, batch, &mut out);
        node.tell(shard, Mail::Pulled(Box::new(answered), out));
    }
}

/// On the connection's shard: writes what a pull found. A peer that has not taken its earlier answers gets this one when it
/// has: the messages are let go and read again then, so that many pulls of one slow reader hold no memory.
pub fn pulled(node: &Rc<Node>, job: PullJob, write: impl FnOnce(&mut Outbox)) {
    if job.deferred {
        node.deferred.answered(job.to.conn);
    }
    match node.registry.get(job.to.conn) {
        Some(conn) if conn.is_output_full() => deferred::defer(node, conn, job),
        Some(_) => {
            node.served.pull_answered(job.found);
            if job.found > 0 {
                let (topic, group) = (&job.topic.config.topic_name, &job.group.config.group_name);
                node.traffic.got(topic, group, job.found as u64, job.found_bytes);
            }
            node.write_local(job.to, write);
            step!("pull_answered");
        }
        None => {}
    }
}

fn wire(offset: QueueOffset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

fn write(job: &PullJob, batch: &ReadBatch, out: &mut Outbox) {
    let (code, remark, next) = match job.reset {
        Some(offset) => (ResponseCode::PULL_OFFSET_MOVED, "OFFSET_RESET", offset),
        None => (code_of(batch.status, job.offset), status_name(batch.status), wire(batch.next)),
    };
    out.write(|bytes| {
        let head = ReplyHead { code: code.0, opaque: job.to.opaque, remark: Some(remark) };
        let mut writer = head.begin(bytes);
        writer.i64("suggestWhichBrokerId", job.suggest_broker);
        for (key, offset) in [("nextBeginOffset", next), ("minOffset", wire(batch.min)), ("maxOffset", wire(batch.max))]
        {
            writer.i64(key, offset);
        }
        writer.i64("topicSysFlag", i64::from(job.topic.config.topic_sys_flag));
        writer.i64("groupSysFlag", i64::from(job.group.config.group_sys_flag));
        log_frame_error(writer.finish(usize::try_from(batch.bytes).unwrap_or(usize::MAX)));
    });
    for record in &batch.records {
        out.push(record.clone());
    }
}
