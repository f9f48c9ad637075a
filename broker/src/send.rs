//! SEND_MESSAGE, SEND_MESSAGE_V2, SEND_BATCH_MESSAGE: from the request to the record in the log, and the sender's answer.
//!
//! The connection's shard decides whether and where the message goes; the queue's shard puts it into its log. A body is
//! copied once, from the receive buffer into the log buffer.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringmq_engine::{AppendError, Draft, Keys, Ticket};
use ringmq_net::{Conn, Frame};
use ringmq_protocol::batch::{BatchMessage, BatchReader};
use ringmq_protocol::body::TopicFilterType;
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{ExtWriter, HeaderView, ReplyHead};
use ringmq_protocol::frame::FrameError;
use ringmq_protocol::header::{Names, SendHeader};
use ringmq_protocol::host::Host;
use ringmq_protocol::id::{IdText, UniqueIdSource, offset_msg_id};
use ringmq_protocol::message::{Property, RecordError, RecordSpec, tags_code};
use ringmq_protocol::names;
use ringmq_protocol::properties::{self, perm, sys_flag};
use ringmq_protocol::value::Value;
use ringmq_rt::time::{Instant, now};
use ringmq_rt::wall_ms;

use crate::detour::Detour;
use crate::limits::{BATCH_MESSAGES_MAX, HALVES_MAX};
use crate::log::{Log, Waiting};
use crate::mail::{Answer, Ask, Mail, SendJob, Sent, ShortText};
use crate::message::Message;
use crate::node::{CONTROL, Node};
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::timer::{ask, recall};
use crate::topic::Topic;
use crate::{put, retry};

/// Memory that sends reuse, so that a message costs no allocation.
#[derive(Debug, Default)]
pub struct Scratch {
    properties: Vec<u8>,
    next_unique: u16,
}

/// The header's names: short ones in the V2 requests.
fn names_of(code: i32) -> Names {
    if code == RequestCode::SEND_MESSAGE.0 { Names::V1 } else { Names::V2 }
}

/// A send arrived on a connection of this shard.
pub fn request(node: &Rc<Node>, conn: &Rc<Conn>, view: &HeaderView<'_>, frame: &Frame) {
    let to = Answer::to(conn.id(), view);
    let header = match SendHeader::parse(view, names_of(view.code)) {
        Ok(header) => header,
        Err(error) => return refuse(node, to, &Refusal::failed(error.to_string())),
    };
    let name = text(header.topic.get(frame.header()));
    if let Err(refusal) = may_send(&node.settings, &name) {
        return refuse(node, to, &refusal);
    }
    let topic = node.topics.borrow().get(&name).cloned();
    match topic {
        _ if names::is_retry(&name) => {
            place_retry(node, conn, to, view.version, name.into_owned(), header, frame.clone());
        }
        Some(topic) => place(node, conn, to, &topic, &header, frame),
        None => create_then_place(node, conn, to, name.into_owned(), header, frame.clone()),
    }
}

/// A header's text without a copy, unless it has escapes.
pub(crate) fn text(value: Value<'_>) -> Cow<'_, str> {
    value.as_plain().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed)
}

/// Whether clients may send to the topic now, as far as its name and the broker's settings decide.
pub(crate) fn may_send(settings: &Settings, topic: &str) -> Result<(), Refusal> {
    if wall_ms() < settings.accept_sends_from_ms {
        let from = settings.accept_sends_from_ms;
        return Err(Refusal::failed(format!("broker unable to service, until {from}")));
    }
    if !perm::is_writeable(settings.topics.permission) {
        return Err(Refusal::broker_not_writable(&settings.store_host.ip().to_string()));
    }
    names::check_topic(topic).map_err(|error| Refusal::invalid(error.to_string()))?;
    names::check_send_allowed(topic).map_err(|_| Refusal::sending_forbidden(topic))
}

/// The topic is not known here: the control shard creates it if the rules allow, and then the send goes on.
fn create_then_place(node: &Rc<Node>, conn: &Rc<Conn>, to: Answer, name: String, header: SendHeader, frame: Frame) {
    let (node, conn) = (Rc::clone(node), Rc::clone(conn));
    ringmq_rt::spawn("send to a new topic", async move {
        let ask = Ask::EnsureTopic {
            topic: name.as_str().into(),
            default_topic: header.default_topic.get(frame.header()).to_string().into(),
            default_queues: header.default_topic_queue_nums,
            unit_mode: header.unit_mode,
        };
        if let Err(refusal) = node.ask(CONTROL, ask).await.done() {
            return refuse(&node, to, &refusal);
        }
        let topic = node.topics.borrow().get(&name).cloned();
        match topic {
            Some(topic) => place(&node, &conn, to, &topic, &header, &frame),
            None => refuse(&node, to, &Refusal::topic_missing(&name)),
        }
    })
    .detach();
}

/// A consumer sends to its group's retry topic what it could not send back; the last try is a dead letter.
fn place_retry(
    node: &Rc<Node>,
    conn: &Rc<Conn>,
    to: Answer,
    version: i32,
    name: String,
    header: SendHeader,
    frame: Frame,
) {
    let (node, conn) = (Rc::clone(node), Rc::clone(conn));
    ringmq_rt::spawn("send to a retry topic", async move {
        let asked = header.max_reconsume_times;
        match retry::redirect(&node, &name, version, header.reconsume_times, asked).await {
            Ok(Some(dead_letters)) => store_dead_letter(&node, &conn, to, &dead_letters, &header, &frame).await,
            Ok(None) => {
                let topic = node.topics.borrow().get(&name).cloned();
                match topic {
                    Some(topic) => place(&node, &conn, to, &topic, &header, &frame),
                    None => create_then_place(&node, &conn, to, name, header, frame),
                }
            }
            Err(refusal) => refuse(&node, to, &refusal),
        }
    })
    .detach();
}

async fn store_dead_letter(
    node: &Rc<Node>,
    conn: &Conn,
    to: Answer,
    topic: &Topic,
    header: &SendHeader,
    frame: &Frame,
) {
    let outcome = match topic.queue_for_send(-1, node.pick(), conn.peer()) {
        Ok(queue_id) => {
            let letter = dead_letter(node, conn, topic, queue_id, header, frame);
            let unique_key = letter.property(properties::UNIQ_KEY).and_then(ShortText::new);
            let stored = put::put(node, topic, letter).await.map_err(Refusal::from);
            stored.map(|ticket| (queue_id, ticket, unique_key))
        }
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok((queue_id, ticket, unique_key)) => {
            let position = ticket.position.to_wire();
            let queue_offset = ticket.queue_offset;
            node.sent(&Sent { to, code: ResponseCode::SUCCESS.0, position, queue_id, queue_offset, unique_key });
        }
        Err(refusal) => refuse(node, to, &refusal),
    }
}

/// A client's message as a dead letter. It is not delayed, whatever it asks for.
fn dead_letter(node: &Node, conn: &Conn, topic: &Topic, queue_id: i32, header: &SendHeader, frame: &Frame) -> Message {
    let settings = &*node.settings;
    let mut letter = Message {
        topic: topic.config.topic_name.clone(),
        queue_id,
        flag: header.flag,
        sys_flag: header.sys_flag,
        born_timestamp: header.born_timestamp,
        born_host: host_of(conn),
        reconsume_times: header.reconsume_times,
        prepared_offset: 0,
        properties: header.properties.map(|text| text.get(frame.header()).to_string()).unwrap_or_default(),
        body: frame.body().to_vec().into(),
    };
    letter.set(properties::DELAY, "-1");
    letter.set(properties::MSG_REGION, &settings.region);
    letter.set(properties::TRACE_ON, if settings.trace_on { "true" } else { "false" });
    letter.set(properties::CLUSTER, &settings.identity.cluster_name);
    if letter.property(properties::UNIQ_KEY).is_none() {
        let key = unique_key(settings, &mut node.scratch.borrow_mut().next_unique);
        letter.set(properties::UNIQ_KEY, key.as_str());
    }
    letter
}

/// Chooses the queue and takes the message to its shard.
fn place(node: &Rc<Node>, conn: &Rc<Conn>, to: Answer, topic: &Arc<Topic>, header: &SendHeader, frame: &Frame) {
    if !topic.is_writable() {
        return refuse(node, to, &Refusal::topic_not_writable(&topic.config.topic_name));
    }
    let queue_id = match topic.queue_for_send(header.queue_id, node.pick(), conn.peer()) {
        Ok(queue_id) => queue_id,
        Err(refusal) => return refuse(node, to, &refusal),
    };
    let log = topic.home(queue_id, node.log_shards());
    let place = Place {
        to,
        born_host: host_of(conn),
        log,
        queue_id,
        multi_tags: topic.config.topic_filter_type == TopicFilterType::MultiTag,
    };
    let executor = node.executor_of(log);
    if executor == node.me() {
        append(node, &place, header, frame);
    } else {
        let Place { to, log, queue_id, multi_tags, .. } = place;
        let job = SendJob { to, born_host: conn.peer(), log, queue_id, multi_tags, frame: frame.clone() };
        node.forward(executor, to, Mail::Send(Box::new(job)));
    }
}

fn host_of(conn: &Conn) -> Host {
    Host::new(conn.peer().ip(), conn.peer().port())
}

/// A refused send is told the region and the trace switch as well.
fn refuse(node: &Rc<Node>, to: Answer, refusal: &Refusal) {
    let ext = |writer: &mut ExtWriter<'_>| {
        writer.str(properties::MSG_REGION, &node.settings.region);
        writer.bool(properties::TRACE_ON, node.settings.trace_on);
    };
    node.answer(to, refusal.code, Some(&refusal.remark), ext, &[]);
}

/// Where a message goes.
#[derive(Debug, Clone, Copy)]
struct Place {
    to: Answer,
    born_host: Host,
    log: u16,
    queue_id: i32,
    multi_tags: bool,
}

/// A send that another shard decided about.
pub fn run_forwarded(node: &Rc<Node>, job: &SendJob) {
    let frame = &job.frame;
    let parsed = HeaderView::parse(frame.head().serialize, frame.header())
        .and_then(|view| SendHeader::parse(&view, names_of(view.code)));
    let header = match parsed {
        Ok(header) => header,
        Err(error) => return refuse(node, job.to, &Refusal::failed(error.to_string())),
    };
    let place = Place {
        to: job.to,
        born_host: Host::new(job.born_host.ip(), job.born_host.port()),
        log: job.log,
        queue_id: job.queue_id,
        multi_tags: job.multi_tags,
    };
    append(node, &place, &header, frame);
}

/// What a message's properties ask of the broker.
#[derive(Default)]
struct Asked<'a> {
    tags: Option<&'a str>,
    unique_key: Option<&'a str>,
    keys: Option<&'a str>,
    dont_wait: bool,
    /// The delay level, zero for none.
    delay: i32,
    /// It asked for a level that is no number.
    bad_delay: bool,
    is_half: bool,
    group: Option<&'a str>,
    time: ask::Asked<'a>,
}

impl<'a> Asked<'a> {
    fn read(properties: &'a str) -> Self {
        let mut asked = Self::default();
        for (name, value) in properties::iter(properties) {
            match name {
                properties::TAGS => asked.tags = Some(value),
                properties::UNIQ_KEY => asked.unique_key = Some(value),
                properties::KEYS => asked.keys = Some(value),
                properties::WAIT => asked.dont_wait = value == "false",
                properties::DELAY => {
                    (asked.delay, asked.bad_delay) = value.parse().map_or((0, true), |level| (level, false));
                }
                properties::TRAN_MSG => asked.is_half = value == "true",
                properties::PGROUP => asked.group = Some(value),
                _ => asked.time.read(name, value),
            }
        }
        asked
    }

    /// What the message can be found by.
    fn index_keys(&self) -> Keys<'a> {
        Keys { unique: self.unique_key, business: self.keys }
    }
}

/// A send that waits until its log takes messages again.
#[derive(Debug)]
pub struct Parked {
    place: Place,
    header: SendHeader,
    frame: Frame,
    since: Instant,
}

impl Parked {
    /// Its bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.frame.header().len() + self.frame.body_len()
    }

    /// How long it has waited.
    pub fn waited(&self, at: Instant) -> Duration {
        at.since(self.since)
    }

    /// Tries again; gives itself back if the log is still busy.
    pub fn retry(self: Box<Self>, node: &Rc<Node>, log: &Rc<Log>) -> Option<Box<Self>> {
        try_append(node, log, &self.place, &self.header, &self.frame).err().map(|_| self)
    }

    /// Gives up: the sender is told to slow down.
    pub fn refuse(&self, node: &Rc<Node>) {
        node.served.put_refused();
        let waited = node_busy_remark(self.waited(now()));
        refuse(node, self.place.to, &Refusal::new(ResponseCode::SYSTEM_BUSY, waited));
    }
}

fn node_busy_remark(waited: Duration) -> String {
    let ms = waited.as_millis();
    format!(
        "[TIMEOUT_CLEAN_QUEUE]broker busy, start flow control for a while, period in queue: {ms}ms, the disk does not keep up"
    )
}

/// The log takes nothing right now.
struct Busy;

/// Appends on the queue's shard and answers, now or when the message is as safe as the broker promises. A log that is
/// busy for a moment makes the send wait, in its place.
fn append(node: &Rc<Node>, place: &Place, header: &SendHeader, frame: &Frame) {
    let Some(log) = node.log(place.log) else {
        return refuse(node, place.to, &Refusal::failed(format!("log shard {} is not open", place.log)));
    };
    let waits = log.has_parked() || try_append(node, &log, place, header, frame).is_err();
    if waits {
        let parked = Box::new(Parked { place: *place, header: *header, frame: frame.clone(), since: now() });
        if let Err(parked) = log.park(parked) {
            parked.refuse(node);
        }
    }
}

fn try_append(node: &Rc<Node>, log: &Rc<Log>, place: &Place, header: &SendHeader, frame: &Frame) -> Result<(), Busy> {
    let result = if header.batch {
        append_batch(node, log, place, header, frame)
    } else {
        append_one(node, log, place, header, frame)
    };
    match result {
        Ok(Stored { answer, end, wait }) => {
            if wait && log.waits_for_flush() {
                log.wait(end, answer);
            } else {
                answer.deliver(node);
            }
        }
        Err(Unstored::Busy) => return Err(Busy),
        Err(Unstored::Refused(refusal)) => {
            node.served.put_refused();
            refuse(node, place.to, &refusal);
        }
    }
    Ok(())
}

/// Why a message is not in the log.
enum Unstored {
    /// Not now.
    Busy,
    Refused(Refusal),
}

impl From<Refusal> for Unstored {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

struct Stored {
    answer: Waiting,
    end: u64,
    wait: bool,
}

fn append_one(
    node: &Rc<Node>,
    log: &Rc<Log>,
    place: &Place,
    header: &SendHeader,
    frame: &Frame,
) -> Result<Stored, Unstored> {
    let settings = &*node.settings;
    let mut scratch = node.scratch.borrow_mut();
    let scratch = &mut *scratch;
    scratch.properties.clear();
    if let Some(properties) = header.properties {
        properties.get(frame.header()).write_unescaped(&mut scratch.properties);
    }
    let mut client = read_properties(&scratch.properties)?;
    let mut asked = Asked::read(client);
    let detour = detour_of(node, log, header, &asked)?;
    let granted;
    if let Some(Detour::Level(level)) = detour
        && level != asked.delay
    {
        granted = with_level(client, level);
        client = &granted;
        asked = Asked::read(client);
    }
    let own_key = asked.unique_key.is_none().then(|| unique_key(settings, &mut scratch.next_unique));
    let unique = asked.unique_key.or(own_key.as_ref().map(IdText::as_str));
    let parts = frame.body_parts();
    let name = text(header.topic.get(frame.header()));
    let mut pairs = own_pairs(settings, client, own_key.as_ref().map(IdText::as_str));
    let kept = match detour {
        Some(detour) => Some((detour, detour.kept(node, place.log).ok_or_else(Refusal::not_ready)?)),
        None => None,
    };
    if kept.is_some() {
        pairs.push(Property::Pair(properties::REAL_TOPIC, &name));
        pairs.push(Property::Number(properties::REAL_QID, i64::from(place.queue_id)));
    }
    if let Some(Detour::Timer(due_ms)) = detour {
        pairs.push(Property::Number(properties::TIMER_OUT_MS, due_ms.cast_signed()));
    }
    if let (Some(Detour::Half), Some(unique)) = (detour, unique) {
        pairs.push(Property::Pair(properties::TRANSACTION_ID, unique));
    }
    let mut spec = spec(settings, place, header, &name, &parts, &pairs);
    if let Some((detour, kept)) = kept {
        spec.topic = kept.topic;
        spec.queue_id = kept.queue_id;
        spec.sys_flag = detour.sys_flag(spec.sys_flag);
    }
    check_len(&spec, settings)?;
    let keys = Keys { unique, business: asked.keys };
    let due_ms = if let Some(Detour::Timer(due_ms)) = detour { Some(due_ms) } else { None };
    let draft = Draft { spec: &spec, tags_code: asked.tags.map_or(0, tags_code), keys, due_ms };
    let ticket = log.shard.append(&draft, wall_ms()).map_err(|error| unstored(&error))?;
    if detour == Some(Detour::Half) {
        log.transactions.appended(&settings.transactions.timing, &ticket, header.born_timestamp, client, log);
    }
    node.traffic.put(&name, 1, spec.encoded_len().unwrap_or(0) as u64);
    let unique_key = unique.and_then(ShortText::new);
    let sent = sent(place, &ticket, unique_key);
    let answer = match (due_ms, unique) {
        (Some(due_ms), Some(unique)) => {
            log.timers.appended(due_ms);
            Waiting::Timed(sent, recall::handle(&name, &settings.identity.broker_name, due_ms, unique).into())
        }
        _ => Waiting::One(sent),
    };
    Ok(Stored { answer, end: ticket.end, wait: !asked.dont_wait })
}

fn read_properties(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::failed("the properties are not UTF-8"))
}

/// The properties with another delay level.
fn with_level(client: &str, level: i32) -> String {
    let mut properties = properties::without(client, &[properties::DELAY]);
    // A number cannot hold a separator.
    let _ = properties::push(&mut properties, properties::DELAY, &level.to_string());
    properties
}

/// Whether the message is for consumers now, and if not, why.
fn detour_of(node: &Node, log: &Log, header: &SendHeader, asked: &Asked<'_>) -> Result<Option<Detour>, Unstored> {
    let settings = &*node.settings;
    if asked.bad_delay {
        return Err(Refusal::failed("the message's delay level is no number").into());
    }
    if asked.is_half && !(header.reconsume_times > 0 && asked.delay > 0) {
        if settings.transactions.reject {
            let ip = settings.store_host.ip();
            let remark = format!("the broker[{ip}] sending transaction message is forbidden");
            return Err(Refusal::new(ResponseCode::NO_PERMISSION, remark).into());
        }
        if asked.group.is_none() {
            return Err(Refusal::illegal("a half message has to name its producer group in PGROUP").into());
        }
        if !log.transactions.has_room() {
            let remark = format!("[OVERLOAD]system busy, {HALVES_MAX} transactions are open on this log shard");
            return Err(Refusal::new(ResponseCode::SYSTEM_BUSY, remark).into());
        }
        return Ok(Some(Detour::Half));
    }
    if sys_flag::transaction(header.sys_flag) == sys_flag::TRANSACTION_PREPARED {
        return Ok(None);
    }
    match settings.delay_levels.granted(asked.delay) {
        Some(level) => Ok(Some(Detour::Level(level))),
        None if asked.time.is_some() => timer_of(settings, log, asked),
        None => Ok(None),
    }
}

/// The detour of a message with a time of its own, if that is not over already.
fn timer_of(settings: &Settings, log: &Log, asked: &Asked<'_>) -> Result<Option<Detour>, Unstored> {
    if !settings.timers.enabled {
        return Err(Refusal::failed("accurate timer message is not enabled, timerWheelEnable is false").into());
    }
    let max = settings.timers.delay_max;
    let left = asked.time.left_ms(wall_ms(), max).map_err(|_| {
        let max = max.as_millis();
        Refusal::illegal(format!(
            "timer message illegal, the delay time should not be bigger than the max delay {max}ms; or if set del msg, \
             the delay time should be bigger than the current time"
        ))
    })?;
    // One that takes another back comes just in front of it.
    let earlier = u64::from(asked.time.recalls.is_some());
    Ok(left.map(|left| Detour::Timer(log.timers.now_ms() + left.saturating_sub(earlier).max(1))))
}

fn unique_key(settings: &Settings, next: &mut u16) -> IdText {
    *next = next.wrapping_add(1);
    let source = UniqueIdSource { ip: settings.store_host.ip(), pid: std::process::id(), salt: 0 };
    // A month of 31 days: the field only has to differ between messages of one process.
    source.id(wall_ms().rem_euclid(31 * 24 * 3_600_000), *next)
}

/// The client's properties, and what the broker adds to each.
fn own_pairs<'a>(
    settings: &'a Settings,
    client: &'a str,
    unique: Option<&'a str>,
) -> smallvec::SmallVec<[Property<'a>; 5]> {
    let mut pairs = smallvec::smallvec![
        Property::Encoded(Value::plain(client)),
        Property::Pair(properties::MSG_REGION, &settings.region),
        Property::Pair(properties::TRACE_ON, if settings.trace_on { "true" } else { "false" }),
        Property::Pair(properties::CLUSTER, &settings.identity.cluster_name),
    ];
    if let Some(unique) = unique {
        pairs.push(Property::Pair(properties::UNIQ_KEY, unique));
    }
    pairs
}

fn spec<'a>(
    settings: &Settings,
    place: &Place,
    header: &SendHeader,
    topic: &'a str,
    body: &'a [&'a [u8]],
    properties: &'a [Property<'a>],
) -> RecordSpec<'a> {
    RecordSpec {
        topic,
        queue_id: place.queue_id,
        flag: header.flag,
        sys_flag: if place.multi_tags { header.sys_flag | sys_flag::MULTI_TAGS } else { header.sys_flag },
        born_timestamp: header.born_timestamp,
        born_host: place.born_host,
        store_host: settings.store_host,
        reconsume_times: header.reconsume_times,
        prepared_offset: 0,
        body,
        body_max: settings.message_max,
        properties,
    }
}

/// The checks that RocketMQ answers with MESSAGE_ILLEGAL.
fn check_len(spec: &RecordSpec<'_>, settings: &Settings) -> Result<(), Refusal> {
    if spec.body.iter().all(|part| part.is_empty()) {
        return Err(Refusal::illegal(
            "the message is illegal, maybe msg body or properties length not matched: the body is empty",
        ));
    }
    match spec.encoded_len() {
        Ok(_) => Ok(()),
        Err(error) => Err(refuse_record(&error, settings.message_max)),
    }
}

fn refuse_record(error: &RecordError, body_max: usize) -> Refusal {
    Refusal::message_illegal(body_max, error)
}

fn unstored(error: &AppendError) -> Unstored {
    if matches!(error, AppendError::Busy { .. }) { Unstored::Busy } else { Refusal::append(error).into() }
}

fn sent(place: &Place, ticket: &Ticket, unique_key: Option<ShortText>) -> Sent {
    Sent {
        to: place.to,
        code: ResponseCode::SUCCESS.0,
        position: ticket.position.to_wire(),
        queue_id: place.queue_id,
        queue_offset: ticket.queue_offset,
        unique_key,
    }
}

/// What a batch cannot ask for. What its messages ask for one by one is passed over, as RocketMQ does.
fn check_batch(asked: &Asked<'_>, settings: &Settings) -> Result<(), Refusal> {
    match (asked.delay > 0, asked.is_half) {
        (true, _) => Err(Refusal::message_illegal(settings.message_max, "a batch cannot be delayed")),
        (_, true) => Err(Refusal::message_illegal(settings.message_max, "a batch cannot be a transaction")),
        _ => Ok(()),
    }
}

/// The messages of a batch lie one behind the other in the log, all or none.
fn append_batch(
    node: &Rc<Node>,
    log: &Rc<Log>,
    place: &Place,
    header: &SendHeader,
    frame: &Frame,
) -> Result<Stored, Unstored> {
    let settings = &*node.settings;
    let topic = header.topic.get(frame.header()).to_string();
    if topic.len() > names::TOPIC_NAME_MAX {
        return Err(Refusal::illegal(format!("message topic length too long {}", topic.len())).into());
    }
    if names::is_retry(&topic) {
        return Err(Refusal::illegal(format!("batch request does not support retry group {topic}")).into());
    }
    let body = frame.body();
    if body.len() > settings.message_max {
        return Err(Refusal::illegal(format!(
            "the message is illegal: a batch of {} bytes is longer than maxMessageSize {}",
            body.len(),
            settings.message_max
        ))
        .into());
    }
    let messages: Result<Vec<BatchMessage<'_>>, _> = BatchReader::new(&body, BATCH_MESSAGES_MAX).collect();
    let messages = messages.map_err(|error| Refusal::illegal(format!("the batch cannot be read: {error}")))?;
    let outer = header.properties.map(|p| p.get(frame.header()).to_string()).unwrap_or_default();
    let outer_asked = Asked::read(&outer);
    check_batch(&outer_asked, settings)?;
    let mut bodies = Vec::with_capacity(messages.len());
    let mut pairs = Vec::with_capacity(messages.len());
    let mut asked = Vec::with_capacity(messages.len());
    for message in &messages {
        asked.push(Asked::read(message.properties));
        bodies.push([message.body]);
        pairs.push(own_pairs(settings, message.properties, None));
    }
    let mut specs = Vec::with_capacity(messages.len());
    for ((message, body), pairs) in messages.iter().zip(&bodies).zip(&pairs) {
        let mut spec = spec(settings, place, header, &topic, body, pairs);
        spec.flag = message.flag;
        check_len(&spec, settings)?;
        specs.push(spec);
    }
    let drafts: Vec<Draft<'_>> = specs
        .iter()
        .zip(&asked)
        .map(|(spec, asked)| Draft {
            spec,
            tags_code: asked.tags.map_or(0, tags_code),
            keys: asked.index_keys(),
            due_ms: None,
        })
        .collect();
    let mut tickets = Vec::with_capacity(drafts.len());
    log.shard.append_batch(&drafts, wall_ms(), &mut tickets).map_err(|error| unstored(&error))?;
    let (Some(first), Some(last)) = (tickets.first(), tickets.last()) else {
        return Err(Refusal::illegal("the batch is empty").into());
    };
    node.traffic.put(&topic, tickets.len() as u64, body.len() as u64);
    let unique = outer_asked.unique_key.or_else(|| asked.first().and_then(|first| first.unique_key));
    let first_sent = sent(place, first, unique.and_then(ShortText::new));
    let positions = tickets.iter().map(|ticket| ticket.position.to_wire()).collect();
    Ok(Stored { answer: Waiting::Batch(first_sent, positions), end: last.end, wait: !outer_asked.dont_wait })
}

/// Writes the answer to a send as a whole frame.
///
/// # Errors
/// When the frame would be too long, which a single id cannot make it.
pub fn write_sent(settings: &Settings, sent: &Sent, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let id = offset_msg_id(settings.store_host, sent.position);
    write_sent_ids(settings, sent, id.as_str(), None, out)
}

/// The same for a timed message, with the handle by which it can be taken back.
///
/// # Errors
/// When the frame would be too long.
pub fn write_sent_timed(settings: &Settings, sent: &Sent, handle: &str, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let id = offset_msg_id(settings.store_host, sent.position);
    write_sent_ids(settings, sent, id.as_str(), Some(handle), out)
}

/// The same for a batch, whose ids are joined by commas.
///
/// # Errors
/// When the frame would be too long.
pub fn write_sent_batch(
    settings: &Settings,
    sent: &Sent,
    positions: &[i64],
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let mut ids = String::with_capacity(positions.len() * 33);
    for position in positions {
        if !ids.is_empty() {
            ids.push(',');
        }
        ids.push_str(offset_msg_id(settings.store_host, *position).as_str());
    }
    write_sent_ids(settings, sent, &ids, None, out)
}

fn write_sent_ids(
    settings: &Settings,
    sent: &Sent,
    ids: &str,
    handle: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let mut writer = ReplyHead { code: sent.code, opaque: sent.to.opaque, remark: None }.begin(out);
    writer.str("msgId", ids);
    writer.i64("queueId", i64::from(sent.queue_id));
    writer.i64("queueOffset", i64::try_from(sent.queue_offset.0).unwrap_or(i64::MAX));
    if let Some(key) = &sent.unique_key {
        writer.str("transactionId", key.as_str());
    }
    if let Some(handle) = handle {
        writer.str("recallHandle", handle);
    }
    writer.str(properties::MSG_REGION, &settings.region);
    writer.bool(properties::TRACE_ON, settings.trace_on);
    writer.finish(0)
}
