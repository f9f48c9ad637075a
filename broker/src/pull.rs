//! PULL_MESSAGE and LITE_PULL_MESSAGE: checks on the connection's shard, the read on the queue's. Records leave as slices
//! of the log's buffers. A pull that finds nothing may wait; when a message arrives or its time is up the same read runs
//! again.

use std::rc::Rc;
use std::sync::Arc;

use ringmq_engine::{QueueOffset, ReadBatch, ReadError, ReadPlan, ReadRequest, ReadStatus};
use ringmq_net::{Conn, Frame};
use ringmq_protocol::body::SubscriptionData;
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{HeaderView, ReplyHead};
use ringmq_protocol::filter::{self, TagFilter};
use ringmq_protocol::header::{Names, PullHeader};
use ringmq_protocol::properties::{perm, pull_flag};
use ringmq_rt::buf::aligned_bytes;
use ringmq_rt::net::Outbox;
use ringmq_rt::spawn;
use ringmq_rt::time::{Instant, now};

use crate::deferred;
use crate::group_config::Group;
use crate::limits::{LOG_BUFFERS_SPARE, SHARD_OUTPUT_MAX};
use crate::log::Log;
use crate::mail::{Answer, Ask, Mail, PullJob, Told, status_name};
use crate::node::{CONTROL, Node, log_frame_error};
use crate::refusal::Refusal;
use crate::send::text;
use crate::subscription::Asked;

/// A pull arrived on a connection of this shard.
pub fn request(node: &Rc<Node>, conn: &Rc<Conn>, view: &HeaderView<'_>, frame: &Frame) {
    let to = Answer::to(conn.id(), view);
    let header = match PullHeader::parse(view, Names::V1) {
        Ok(header) => header,
        Err(error) => return node.refuse(to, &Refusal::failed(error.to_string())),
    };
    if holds_too_much(node, conn) {
        let remark = "the broker holds too many answers that clients do not read; pull again later";
        return node.refuse(to, &Refusal::new(ResponseCode::FLOW_CONTROL, remark));
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
            Told::Refused(refusal) => node.refuse(to, &refusal),
            Told::Failed(why) => node.refuse(to, &Refusal::failed(why)),
            Told::Queue(_) | Told::Firsts(_) | Told::Totals(_) => node.refuse(to, &Refusal::group_missing(&group)),
        }
    })
    .detach();
}

/// Answers hold log buffers until they are sent: readers that do not read must not use up the memory of the others. They
/// are held back first, and everybody only when that does not help.
fn holds_too_much(node: &Node, conn: &Conn) -> bool {
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
    let filter = filter_of(node, &group, &name, header, bytes)?;
    let asked_bytes = header.max_msg_bytes.and_then(|b| u64::try_from(b).ok()).filter(|b| *b > 0);
    Ok(PullJob {
        to,
        log: topic.home(queue_id, node.log_shards()),
        queue_id,
        offset: header.queue_offset,
        max_messages: usize::try_from(header.max_msg_nums).unwrap_or(0).clamp(1, settings.pull_messages_max),
        max_bytes: asked_bytes.unwrap_or(u64::MAX).min(settings.pull_bytes_max),
        filter,
        hold_ms: hold_ms(node, header),
        group_sys_flag: group.config.group_sys_flag,
        suggest_broker: 0,
        deferred: false,
        found: 0,
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

fn filter_of(
    node: &Node,
    group: &Group,
    topic: &str,
    header: &PullHeader,
    bytes: &[u8],
) -> Result<Option<Arc<TagFilter>>, Refusal> {
    let expression = header.subscription.map(|s| text(s.get(bytes)));
    if pull_flag::has_subscription(header.sys_flag) {
        let kind = header.expression_type.map(|t| text(t.get(bytes)));
        if !filter::is_tag_type(kind.as_deref()) {
            return Err(Refusal::filter_unsupported(kind.as_deref().unwrap_or_default()));
        }
        let parsed = TagFilter::parse(expression.as_deref()).map_err(|_| Refusal::subscription_unparsable())?;
        return Ok((!parsed.matches_all()).then(|| Arc::new(parsed)));
    }
    let subscriptions = node.subscriptions.borrow();
    let stored = subscriptions.group(&group.config.group_name)?;
    if group.is_forbidden(topic) {
        return Err(Refusal::subscription_forbidden(&group.config.group_name, topic));
    }
    let asked = Asked { version: header.sub_version, expression: expression.as_deref() };
    let subscribed = stored.for_pull(topic, asked, group.config.consume_broadcast_enable)?;
    if !filter::is_tag_type(Some(&subscribed.data.expression_type)) {
        return Err(Refusal::filter_unsupported(&subscribed.data.expression_type));
    }
    if subscribed.deliver_all || passes_all(subscribed.data) {
        return Ok(None);
    }
    let parsed = TagFilter::parse(Some(&subscribed.data.sub_string)).map_err(|_| Refusal::subscription_unparsable())?;
    Ok((!parsed.matches_all()).then(|| Arc::new(parsed)))
}

fn passes_all(subscription: &SubscriptionData) -> bool {
    subscription.class_filter_mode || subscription.sub_string.is_empty() || subscription.sub_string == filter::SUB_ALL
}

/// The offset that rides on the pull.
fn commit(node: &Rc<Node>, group: &str, header: &PullHeader, job: &PullJob) {
    if pull_flag::has_commit_offset(header.sys_flag) && header.commit_offset >= 0 {
        let topic = job.topic.config.topic_name.as_str().into();
        let (queue_id, offset) = (job.queue_id, header.commit_offset);
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
    read(node, job, Some(until));
}

/// A pull's time is up: it is answered with what there is, even if that is nothing.
pub fn expire(node: &Rc<Node>, job: PullJob) {
    read(node, job, None);
}

fn read(node: &Rc<Node>, job: PullJob, hold_until: Option<Instant>) {
    let Some(log) = node.log(job.log) else {
        return node.refuse(job.to, &Refusal::failed(format!("log shard {} is not open", job.log)));
    };
    // A negative offset lies in front of every queue's first message.
    let Ok(offset) = u64::try_from(job.offset) else {
        let node = Rc::clone(node);
        spawn("pull in front of a queue", async move { below(&node, &log, &job).await }).detach();
        return;
    };
    let plan = log.shard.read(request_of(&job, offset), &mut |tags| passes(&job, tags));
    match plan {
        Ok(ReadPlan::Ready(batch)) => conclude(node, &log, job, hold_until, &batch),
        Ok(ReadPlan::Cold) => {
            let node = Rc::clone(node);
            spawn("cold read", async move {
                let result = log.shard.read_cold(request_of(&job, offset), &mut |tags| passes(&job, tags)).await;
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

fn request_of(job: &PullJob, offset: u64) -> ReadRequest<'_> {
    ReadRequest {
        topic: &job.topic.config.topic_name,
        queue_id: job.queue_id,
        offset: QueueOffset(offset),
        max_messages: job.max_messages,
        max_bytes: job.max_bytes,
    }
}

fn passes(job: &PullJob, tags_code: i64) -> bool {
    job.filter.as_ref().is_none_or(|filter| filter.matches_code(tags_code))
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
            job.offset = i64::try_from(batch.next.0).unwrap_or(i64::MAX);
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
    let shard = job.to.conn.shard();
    let answered = PullJob { found: batch.records.len(), ..job.clone() };
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
            node.write_local(job.to, write);
        }
        None => {}
    }
}

fn write(job: &PullJob, batch: &ReadBatch, out: &mut Outbox) {
    let code = code_of(batch.status, job.offset);
    out.write(|bytes| {
        let head = ReplyHead { code: code.0, opaque: job.to.opaque, remark: Some(status_name(batch.status)) };
        let mut writer = head.begin(bytes);
        writer.i64("suggestWhichBrokerId", job.suggest_broker);
        for (key, offset) in [("nextBeginOffset", batch.next), ("minOffset", batch.min), ("maxOffset", batch.max)] {
            writer.i64(key, i64::try_from(offset.0).unwrap_or(i64::MAX));
        }
        writer.i64("topicSysFlag", i64::from(job.topic.config.topic_sys_flag));
        writer.i64("groupSysFlag", i64::from(job.group_sys_flag));
        log_frame_error(writer.finish(usize::try_from(batch.bytes).unwrap_or(usize::MAX)));
    });
    for record in &batch.records {
        out.push(record.clone());
    }
}
