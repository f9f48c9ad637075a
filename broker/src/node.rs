//! One executor's part of the broker: its connections, its log shards, its copies of the tables, and its ways to the
//! other shards. Everything a handler needs is reached from here.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use ringmq_net::{Conn, ConnId, Registry};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{Command, ExtWriter, ReplyHead};
use ringmq_protocol::frame::FrameError;
use ringmq_rt::Instant;
use ringmq_rt::mesh::Post;
use ringmq_rt::net::Outbox;
use ringmq_rt::sync::Event;
use slab::Slab;

use crate::client_call::CallsUnderWay;
use crate::control_shard::ControlShard;
use crate::deferred::Deferred;
use crate::filter::FilterCache;
use crate::find::Finds;
use crate::group_config::GroupCopy;
use crate::limits::{LONG_ANSWER, LONG_ANSWERS_MAX};
use crate::log::Log;
use crate::mail::{Answer, Ask, Mail, Sent, Told};
use crate::refusal::Refusal;
use crate::requests::queue;
use crate::reset::{ResetChange, Resets};
use crate::send::Scratch;
use crate::settings::{Current, Settings};
use crate::start::Life;
use crate::stats::Served;
use crate::subscription::SubscriptionCopy;
use crate::topic::TopicCopy;
use crate::traffic::Traffic;
use crate::underway::{Admitted, Underway};
use crate::{client_call, find, look, pull, put, query, send, stats, transaction};

/// The executor that owns the control tables.
pub const CONTROL: usize = 0;

/// One executor's part of the broker.
#[derive(Debug)]
pub struct Node {
    pub post: Post<Mail>,
    pub registry: Rc<Registry>,
    pub settings: Current,
    /// How many log shards the store has; known once it is open.
    log_shards: Cell<u16>,
    pub topics: RefCell<TopicCopy>,
    pub groups: RefCell<GroupCopy>,
    pub subscriptions: RefCell<SubscriptionCopy>,
    pub filters: RefCell<FilterCache>,
    /// By log shard; those of other executors are absent.
    logs: RefCell<Vec<Option<Rc<Log>>>>,
    /// On the control shard.
    control: RefCell<Weak<ControlShard>>,
    asked: RefCell<Slab<Rc<Asked>>>,
    pub scratch: RefCell<Scratch>,
    pub deferred: Deferred,
    pub underway: Rc<Underway>,
    pub finds: Finds,
    next_pick: Cell<u32>,
    /// When the last event of a moved offset was told.
    pub moved_told: Cell<Option<Instant>>,
    pub traffic: Traffic,
    /// Calls to clients of this shard.
    pub calls: CallsUnderWay,
    /// For queues of this shard.
    pub resets: Resets,
    pub served: Served,
    pub life: RefCell<Vec<Life>>,
    pub life_event: Event,
}

#[derive(Debug, Default)]
struct Asked {
    told: RefCell<Option<Told>>,
    event: Event,
}

impl Node {
    pub fn new(post: Post<Mail>, registry: Rc<Registry>, settings: &'static Settings) -> Rc<Self> {
        Rc::new(Self {
            post,
            registry,
            settings: Current::new(settings),
            log_shards: Cell::new(1),
            topics: RefCell::default(),
            groups: RefCell::default(),
            subscriptions: RefCell::default(),
            filters: RefCell::default(),
            logs: RefCell::default(),
            control: RefCell::new(Weak::new()),
            asked: RefCell::default(),
            scratch: RefCell::default(),
            deferred: Deferred::default(),
            underway: Rc::default(),
            finds: Finds::default(),
            next_pick: Cell::new(0),
            moved_told: Cell::new(None),
            traffic: Traffic::default(),
            calls: CallsUnderWay::default(),
            resets: Resets::default(),
            served: Served::default(),
            life: RefCell::default(),
            life_event: Event::new(),
        })
    }

    pub fn me(&self) -> usize {
        self.post.me()
    }

    pub fn log_shards(&self) -> u16 {
        self.log_shards.get()
    }

    pub fn set_log_shards(&self, shards: u16) {
        self.log_shards.set(shards);
    }

    /// Whether a queue lives on a log shard, by this shard's copy of the topic table.
    pub fn is_home(&self, log: u16, topic: &str, queue_id: i32) -> bool {
        let topics = self.topics.borrow();
        topics.get(topic).is_some_and(|topic| topic.home(queue_id.max(0), self.log_shards()) == log)
    }

    /// The executor that runs a log shard.
    pub fn executor_of(&self, log: u16) -> usize {
        usize::from(log) % self.post.shards()
    }

    pub fn set_control(&self, control: &Rc<ControlShard>) {
        *self.control.borrow_mut() = Rc::downgrade(control);
    }

    pub fn control(&self) -> Option<Rc<ControlShard>> {
        self.control.borrow().upgrade()
    }

    pub fn add_log(&self, number: u16, log: Rc<Log>) {
        let mut logs = self.logs.borrow_mut();
        let at = usize::from(number);
        if logs.len() <= at {
            logs.resize_with(at + 1, || None);
        }
        logs[at] = Some(log);
    }

    /// A log shard of this executor.
    pub fn log(&self, number: u16) -> Option<Rc<Log>> {
        self.logs.borrow().get(usize::from(number)).cloned().flatten()
    }

    /// All log shards of this executor.
    pub fn logs(&self) -> Vec<Rc<Log>> {
        self.logs.borrow().iter().flatten().cloned().collect()
    }

    /// Posts work to another shard; on a full mailbox the client is told to slow down.
    pub fn forward(self: &Rc<Self>, to: usize, answer: Answer, mail: Mail) {
        if to == self.me() {
            self.receive(mail);
        } else if let Err((_, mail)) = self.post.send(to, mail) {
            // A one-way end that is dropped here is told to nobody else.
            if matches!(mail, Mail::Send(_) | Mail::EndTransaction(_)) {
                self.served.put_refused();
            }
            self.refuse(
                answer,
                &Refusal::new(
                    ResponseCode::SYSTEM_BUSY,
                    format!("[OVERLOAD]system busy, shard {to} cannot take more requests now"),
                ),
            );
        }
    }

    /// Posts what must arrive: answers and changes, which are bounded by what caused them.
    pub fn tell(self: &Rc<Self>, to: usize, mail: Mail) {
        if to == self.me() {
            self.receive(mail);
        } else {
            self.post.send_answer(to, mail);
        }
    }

    /// Asks another shard, or this one, and waits for the answer.
    pub async fn ask(self: &Rc<Self>, to: usize, ask: Ask) -> Told {
        let asked = Rc::new(Asked::default());
        let token = self.asked.borrow_mut().insert(Rc::clone(&asked));
        let mail = Mail::Ask { from: self.me(), token, ask: Box::new(ask) };
        self.tell(to, mail);
        asked.event.wait().await;
        let told = asked.told.take();
        told.unwrap_or_else(|| Told::Failed("no answer".to_owned()))
    }

    /// Takes in a post for this shard.
    pub fn receive(self: &Rc<Self>, mail: Mail) {
        match mail {
            Mail::Send(job) => send::run_forwarded(self, &job),
            Mail::Pull(job) => pull::run(self, *job),
            Mail::Query(job) => query::run(self, *job),
            Mail::Control(job) => match self.control() {
                Some(control) => control.request(*job),
                None => self.refuse(job.to, &Refusal::failed("the broker is not ready")),
            },
            Mail::EndTransaction(job) => transaction::run(self, *job),
            Mail::Check(job) => transaction::send(self, &job),
            Mail::Sent(sent) => self.sent(&sent),
            Mail::Pulled(job, out) => pull::pulled(self, *job, |conn_out| conn_out.append(*out)),
            Mail::Out(to, out) if out.len() > LONG_ANSWER => self.write_long(to, |conn_out| conn_out.append(*out)),
            Mail::Out(to, out) => self.write_local(to, |conn_out| conn_out.append(*out)),
            Mail::Ask { from, token, ask } => self.asked_by(from, token, *ask),
            Mail::Told { token, told } => {
                let asked = self.asked.borrow_mut().try_remove(token);
                if let Some(asked) = asked {
                    *asked.told.borrow_mut() = Some(*told);
                    asked.event.notify();
                }
            }
            Mail::Commit { group, topic, queue_id, offset } => {
                if let Some(control) = self.control() {
                    control.commit(&group, &topic, queue_id, offset);
                }
            }
            Mail::Progress { group, topic, queue_id, offset } => {
                if let Some(control) = self.control() {
                    control.progress(&group, &topic, queue_id, offset);
                }
            }
            Mail::TimersFinished { log, finished_ms } => {
                if let Some(control) = self.control() {
                    control.timers.finished(log, finished_ms);
                }
            }
            Mail::Closed(conn) => {
                // A task like its requests, so that it comes behind a heartbeat that came before it.
                if let Some(control) = self.control() {
                    ringmq_rt::spawn("forget a connection", async move { control.closed(conn) }).detach();
                }
            }
            Mail::Notify { conn, group } => self.notify(conn, &group),
            Mail::Oneway { conn, command, body } => client_call::tell_local(self, conn, *command, &body),
            Mail::Reset(change) => self.reset(change),
            Mail::ResetTold(queue) => {
                if let Some(control) = self.control() {
                    control.tables.borrow_mut().offsets.reset_told(&queue);
                }
            }
            Mail::Close(conn) => {
                if let Some(conn) = self.registry.get(conn) {
                    conn.close();
                }
            }
            Mail::Topic(change) => self.topics.borrow_mut().apply(&change),
            Mail::Group(change) => self.groups.borrow_mut().apply(&change),
            Mail::Subscription(change) => self.subscriptions.borrow_mut().apply(change),
            Mail::Life(life) => {
                self.life.borrow_mut().push(*life);
                self.life_event.notify();
            }
        }
    }

    /// Tells a sender that its message is stored.
    pub fn sent(self: &Rc<Self>, sent: &Sent) {
        if sent.to.oneway {
            return;
        }
        if sent.to.conn.shard() == self.me() {
            self.write_local(sent.to, |out| {
                out.write(|bytes| log_frame_error(send::write_sent(&self.settings, sent, bytes)));
            });
        } else {
            self.tell(sent.to.conn.shard(), Mail::Sent(*sent));
        }
    }

    /// Answers with `code`, ext fields and a body, wherever the connection lives.
    pub fn answer(
        self: &Rc<Self>,
        to: Answer,
        code: ResponseCode,
        remark: Option<&str>,
        ext: impl FnOnce(&mut ExtWriter<'_>),
        body: &[u8],
    ) {
        let write = |out: &mut Outbox| {
            out.write(|bytes| {
                let mut writer = ReplyHead { code: code.0, opaque: to.opaque, remark }.begin(bytes);
                ext(&mut writer);
                let Err(error) = writer.finish_with_body(body) else { return };
                // Nothing of it is written, and whoever asked must not wait in vain.
                tracing::error!(%error, "an answer could not be written");
                let remark = format!("the answer cannot be sent: {error}");
                let head = ReplyHead { code: ResponseCode::SYSTEM_ERROR.0, opaque: to.opaque, remark: Some(&remark) };
                log_frame_error(head.begin(bytes).finish(0));
            });
        };
        if body.len() > LONG_ANSWER { self.write_long(to, write) } else { self.write(to, write) }
    }

    /// Writes an answer that may be long. Whoever does not take those that he has asked for is told to ask again: however many
    /// they are, they hold no memory.
    pub fn write_long(self: &Rc<Self>, to: Answer, write: impl FnOnce(&mut Outbox)) {
        let is_slow = |conn: Rc<Conn>| conn.output_bytes() >= LONG_ANSWERS_MAX || pull::holds_too_much(self, &conn);
        if self.registry.get(to.conn).is_some_and(is_slow) {
            return self.refuse(to, &Refusal::not_taken());
        }
        self.write(to, write);
    }

    /// Admits a request that may wait and that nothing else bounds, with a message of so many bytes.
    ///
    /// # Errors
    /// Too much is under way: the client is to slow down.
    pub fn admit(&self, bytes: usize) -> Result<Admitted, Refusal> {
        self.underway.admit(bytes)
    }

    /// Gives a request up that is not answered.
    pub fn forget(&self, to: Answer) {
        if !to.oneway
            && let Some(conn) = self.registry.get(to.conn)
        {
            conn.answered();
        }
    }

    /// A number for a choice that is to fall on another one each time.
    pub fn pick(&self) -> u32 {
        let next = self.next_pick.get().wrapping_add(1);
        self.next_pick.set(next);
        next
    }

    /// Answers SUCCESS.
    pub fn succeed(self: &Rc<Self>, to: Answer, ext: impl FnOnce(&mut ExtWriter<'_>), body: &[u8]) {
        self.answer(to, ResponseCode::SUCCESS, None, ext, body);
    }

    /// Says no.
    pub fn refuse(self: &Rc<Self>, to: Answer, refusal: &Refusal) {
        self.answer(to, refusal.code, Some(&refusal.remark), |_| (), &[]);
    }

    /// Writes an answer where its connection lives.
    pub fn write(self: &Rc<Self>, to: Answer, write: impl FnOnce(&mut Outbox)) {
        if to.oneway {
            return;
        }
        if to.conn.shard() == self.me() {
            self.write_local(to, write);
        } else {
            let mut out = Box::<Outbox>::default();
            write(&mut out);
            self.tell(to.conn.shard(), Mail::Out(to, out));
        }
    }

    pub fn write_local(&self, to: Answer, write: impl FnOnce(&mut Outbox)) {
        if let Some(conn) = self.registry.get(to.conn) {
            conn.send(write);
            conn.answered();
        }
    }

    fn notify(&self, conn: ConnId, group: &str) {
        let Some(conn) = self.registry.get(conn) else { return };
        let mut command = Command::request(RequestCode::NOTIFY_CONSUMER_IDS_CHANGED.0, 0);
        command.ext.push(("consumerGroup".to_owned(), group.to_owned()));
        if let Err(error) = conn.oneway(command, &[]) {
            tracing::warn!(peer = %conn.peer(), %error, "a consumer could not be told of its group's change");
        }
    }

    /// Keeps a reset for the next pull of its group, and lets one that waits already look again.
    fn reset(self: &Rc<Self>, change: ResetChange) {
        self.resets.apply(change.clone());
        if let ResetChange::Put(queue, _) = change {
            for log in self.logs() {
                log.wake_held(self, &queue.topic, queue.queue_id);
            }
        }
    }

    fn asked_by(self: &Rc<Self>, from: usize, token: usize, ask: Ask) {
        let node = Rc::clone(self);
        ringmq_rt::spawn("ask", async move {
            let told = match ask {
                Ask::EnsureTopic { topic, default_topic, default_queues, unit_mode } => match node.control() {
                    Some(control) => control.ensure_topic(&topic, &default_topic, default_queues, unit_mode).await,
                    None => Told::Failed("the broker is not ready".to_owned()),
                },
                Ask::EnsureGroup { group } => match node.control() {
                    Some(control) => control.ensure_group(&group).await,
                    None => Told::Failed("the broker is not ready".to_owned()),
                },
                Ask::EnsureOwnTopic { topic, queues, sys_flag } => match node.control() {
                    Some(control) => control.ensure_own_topic(&topic, queues, sys_flag).await,
                    None => Told::Failed("the broker is not ready".to_owned()),
                },
                Ask::Producer { group } => Told::Conn(node.control().and_then(|control| control.producer(&group))),
                Ask::Put { log, messages, whose, seen } => put::asked(&node, log, messages, (whose, seen)).await,
                Ask::BringBack { log, half } => transaction::bring_back(&node, log, *half).await,
                Ask::Queue { log, topic, queue_id } => query::ends(&node, log, &topic, queue_id).await,
                Ask::Firsts { log, topic, queues, ahead } => query::firsts(&node, log, &topic, &queues, ahead).await,
                Ask::DropExpired => {
                    node.logs().iter().for_each(|log| log.clean_by_hand());
                    Told::Done
                }
                Ask::Configure(settings) => {
                    node.settings.set(settings);
                    Told::Done
                }
                Ask::DropUnused => query::drop_unused(&node).await,
                Ask::DropTopic { topic } => query::drop_topic(&node, &topic).await,
                Ask::Call(call) => Told::Called(Box::new(client_call::call_local(&node, *call).await)),
                Ask::Look { log, questions } => look::answer(&node, log, &questions).await,
                Ask::Entries(range) => queue::look_through(&node, &range).await,
                Ask::Traffic => Told::Traffic(node.traffic.collect()),
                Ask::Find { log, what } => find::find(&node, log, &what).await,
                Ask::View { position } => find::view(&node, position).await,
                Ask::Totals { deep } => Told::Totals(Box::new(stats::totals(&node, deep).await)),
            };
            node.tell(from, Mail::Told { token, told: Box::new(told) });
        })
        .detach();
    }
}

/// An answer that is longer than a frame may be: a bound of ours is too large.
pub fn log_frame_error(result: Result<(), FrameError>) {
    if let Err(error) = result {
        tracing::error!(%error, "an answer could not be written");
    }
}
