//! Pushing: a consumer that shares the queues of its topics with the rest of its group and hands every message to a
//! listener, over and over until the listener says that it is done.
//!
//! One thread, `keeping`, decides which queues are this member's, commits offsets and keeps locks; one, `pulling`, asks
//! for messages of all queues at once; the listener's threads, `listening`, work off what the `pool` holds. `asked` is what
//! brokers ask, `tally` what operators are told of the past. `assigned` is what the threads share of a queue, `leaving` who still has one that is given up, `cache` and `allocate` the rules, without I/O.

mod allocate;
mod asked;
mod assigned;
mod cache;
mod keeping;
mod leaving;
mod listening;
mod local;
mod options;
mod pool;
mod pulling;
mod tally;

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use ringmq_protocol::body::{ConsumeFromWhere, ConsumeType, MessageModel, MessageQueue};
use ringmq_protocol::names;

use self::asked::Whom;
use self::assigned::Assigned;
use self::keeping::Notice;
use self::leaving::Leaving;
use self::listening::Work;
use self::local::LocalOffsets;
pub use self::options::{Consumed, Model, PushOptions, StartAt};
use self::pool::Pool;
use self::tally::Tally;
use crate::driver::blocking::lock;
use crate::error::{Error, Result};
use crate::filter::{Filter, Subscription};
use crate::identity::now_ms;
use crate::member::{Manner, Member};
use crate::message::ReceivedMessage;
use crate::producer::ProducerOptions;
use crate::producer::sending::Sending;
use crate::route::NameServers;

/// The group of the sends that a consumer makes itself, as Java's clients name it.
const INNER_PRODUCER: &str = "CLIENT_INNER_PRODUCER";

type Listener = dyn Fn(&ReceivedMessage) -> Consumed + Send + Sync;

/// A running consumer. It ends with [`shutdown`](PushConsumer::shutdown), or when it is dropped: what the listener has in
/// hand is waited for, then the offsets are committed, locks given back and the group left.
///
/// A message that was handed to a listener may come again: after a crash, and when queues change hands.
pub struct PushConsumer {
    shared: Arc<Shared>,
    notices: Sender<Notice>,
    keeper: Option<JoinHandle<()>>,
    puller: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
    is_shut_down: bool,
}

/// What the threads of a consumer share.
struct Shared {
    options: PushOptions,
    is_orderly: bool,
    member: Member,
    sending: Sending,
    listener: Box<Listener>,
    pool: Pool<Work>,
    assigned: Mutex<BTreeMap<MessageQueue, Arc<Assigned>>>,
    leaving: Leaving,
    pulls: Sender<pulling::Event>,
    /// Of a broadcasting consumer.
    local: Option<Mutex<LocalOffsets>>,
    tally: Mutex<Tally>,
    /// Milliseconds since 1970.
    started_ms: i64,
}

impl std::fmt::Debug for PushConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushConsumer")
            .field("group", &self.shared.options.group)
            .field("queues", &self.queues())
            .finish_non_exhaustive()
    }
}

impl PushConsumer {
    /// Starts a consumer whose listener is called on [`PushOptions::threads`] threads at once, in no order. A listener that
    /// panics has said [`Consumed::Later`].
    pub fn start(
        options: PushOptions,
        name_servers: NameServers,
        listener: impl Fn(&ReceivedMessage) -> Consumed + Send + Sync + 'static,
    ) -> Result<PushConsumer> {
        PushConsumer::launch(options, name_servers, Box::new(listener), false)
    }

    /// Starts a consumer that hands the messages of each queue to the listener in their order, one at a time. The broker
    /// locks a queue for one member of the group. A message that is to come later holds up its queue; the listener has
    /// the same message again, with a larger `reconsume_times`.
    pub fn start_orderly(
        options: PushOptions,
        name_servers: NameServers,
        listener: impl Fn(&ReceivedMessage) -> Consumed + Send + Sync + 'static,
    ) -> Result<PushConsumer> {
        PushConsumer::launch(options, name_servers, Box::new(listener), true)
    }

    fn launch(
        options: PushOptions,
        name_servers: NameServers,
        listener: Box<Listener>,
        is_orderly: bool,
    ) -> Result<PushConsumer> {
        options.check()?;
        let local = match &options.model {
            Model::Clustering => None,
            Model::Broadcasting { offsets } => Some(Mutex::new(LocalOffsets::open(offsets)?)),
        };
        let (notices, noticed) = mpsc::channel();
        let (pulls, pull_events) = mpsc::channel();
        let whom = Whom::default();
        let member = join(&options, name_servers, notices.clone(), Arc::clone(&whom))?;
        subscribe(&member, &options)?;
        let sending = Sending::new(ProducerOptions::new(INNER_PRODUCER), Arc::clone(&member.session));
        let shared = Arc::new(Shared {
            is_orderly,
            member,
            sending,
            listener,
            pool: Pool::new(),
            assigned: Mutex::default(),
            leaving: Leaving::default(),
            pulls,
            local,
            tally: Mutex::default(),
            started_ms: now_ms(),
            options,
        });
        // Nobody else has it.
        let _ = whom.set(Arc::downgrade(&shared));
        // Dropped, it ends the threads that were started before one could not be.
        let mut consumer =
            PushConsumer { shared, notices, keeper: None, puller: None, workers: Vec::new(), is_shut_down: false };
        for _ in 0..consumer.shared.options.threads {
            let shared = Arc::clone(&consumer.shared);
            consumer.workers.push(spawn("ringmq-listen", move || shared.listen_all())?);
        }
        let shared = Arc::clone(&consumer.shared);
        consumer.puller = Some(spawn("ringmq-pull", move || pulling::run(&shared, &pull_events))?);
        let shared = Arc::clone(&consumer.shared);
        consumer.keeper = Some(spawn("ringmq-keep", move || keeping::run(&shared, &noticed))?);
        Ok(consumer)
    }

    /// Who this client is to brokers and in its group: address, process and a number of its own.
    pub fn client_id(&self) -> &str {
        self.shared.member.client_id()
    }

    /// The consumer group.
    pub fn group(&self) -> &str {
        &self.shared.options.group
    }

    /// The queues that are this member's at the moment, retries included.
    pub fn queues(&self) -> Vec<MessageQueue> {
        lock(&self.shared.assigned).keys().cloned().collect()
    }

    /// Ends the consumer, as dropping it does, and says whether the last offsets could be committed. Called by the
    /// listener itself, it does not wait for that call of it.
    pub fn shutdown(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_shut_down, true) {
            return Ok(());
        }
        // Threads that are not there need not be told.
        let _ = self.notices.send(Notice::Stop);
        join_thread(self.keeper.take());
        let _ = self.shared.pulls.send(pulling::Event::Stop);
        join_thread(self.puller.take());
        self.shared.pool.close();
        self.workers.drain(..).for_each(|worker| join_thread(Some(worker)));
        let ended = self.shared.end_queues();
        self.shared.member.leave();
        ended
    }
}

impl Drop for PushConsumer {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(group = self.shared.options.group, %error, "the last offsets were not committed; some messages will come again");
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Error::Thread)
}

/// A thread cannot wait for its own end. A panic of another has been printed already.
fn join_thread(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
        let _ = thread.join();
    }
}

fn join(options: &PushOptions, names: NameServers, notices: Sender<Notice>, whom: Whom) -> Result<Member> {
    let manner = Manner {
        kind: ConsumeType::Passively,
        model: if options.is_clustering() { MessageModel::Clustering } else { MessageModel::Broadcasting },
        from: match options.start_at {
            StartAt::Last => ConsumeFromWhere::LastOffset,
            StartAt::First => ConsumeFromWhere::FirstOffset,
            StartAt::Time(_) => ConsumeFromWhere::Timestamp,
        },
    };
    let on_asked = move |asked| asked::take(asked, &notices, &whom);
    Member::join(&options.group, names, &options.connection, options.timeout, manner, Box::new(on_asked))
}

/// A topic that does not exist yet is consumed once it does. A broker that cannot read an SQL expression says so here.
fn subscribe(member: &Member, options: &PushOptions) -> Result<()> {
    for (topic, filter) in &options.subscriptions {
        names::check_topic(topic)?;
        let subscription = Subscription::new(filter)?;
        let route = member.session.routes.get(topic)?;
        if let Some(route) = route {
            member.check_subscription(&route, &subscription)?;
        }
        lock(&member.subscriptions).insert(topic.clone(), subscription);
    }
    if options.is_clustering() {
        let retries = Subscription::new(&Filter::all())?;
        lock(&member.subscriptions).insert(names::retry_topic(&options.group), retries);
    }
    Ok(())
}
