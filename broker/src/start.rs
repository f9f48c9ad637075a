//! The broker's life: boot on every executor in one order, and stop in the mirror of it.
//!
//! The first executor leads: it opens the store, lets every executor open its log shards, takes the tables into service,
//! lets everybody listen, and only then is the broker announced. Executors talk about this by mail like about everything
//! else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use ringmq_engine::{Shard, ShardId, Store, StoreMeta, StoreOptions};
use ringmq_net::{Registry, Server};
use ringmq_rt::host::{self, StartError, Stop};
use ringmq_rt::mesh::{Mesh, Post};
use ringmq_rt::net::ListenOptions;
use ringmq_rt::{CommitMethod, spawn, yield_now};

use crate::announce::Announcer;
use crate::control_shard::ControlShard;
use crate::limits::MAILBOX_MAX;
use crate::log::Log;
use crate::mail::Mail;
use crate::node::{CONTROL, Node};
use crate::progress::{self, Progress};
use crate::settings::{Current, Settings};
use crate::{delay, retention, timer, transaction};

/// What executors tell each other at start and stop.
#[derive(Debug)]
pub enum Life {
    /// Leader to all: open your log shards.
    Open {
        root: PathBuf,
        meta: Arc<StoreMeta>,
    },
    /// What came of it: bytes of log read again and cut.
    Opened(Result<Recovered, String>),
    /// Leader to all: take up the broker's own work, and listen on these addresses.
    Listen(Arc<Progress>, Vec<SocketAddr>),
    Listening(Result<(), String>),
    /// Leader to all: end the connections and close the log shards.
    Close,
    /// Each log shard's flushed end, or why one could not be closed in order.
    Closed(Result<Vec<(ShardId, u64)>, String>),
}

/// What recovery did, over all shards.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recovered {
    /// Bytes of log that were read again.
    pub replayed_bytes: u64,
    /// Bytes of unfinished writes that were cut.
    pub cut_bytes: u64,
}

/// The broker serves.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Where it listens.
    pub broker: SocketAddr,
    /// Where it listens for clients with the VIP channel.
    pub vip: Option<SocketAddr>,
    /// Log shards of the store.
    pub log_shards: u16,
    /// What recovery did.
    pub recovered: Recovered,
    /// How a batch is made durable under SYNC_FLUSH.
    pub commit: Option<CommitMethod>,
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    executors: Vec<host::Shard<Result<(), String>>>,
}

impl Broker {
    /// Waits until it has stopped.
    ///
    /// # Errors
    /// Why it could not start, or not stop in order.
    pub fn join(self) -> Result<(), String> {
        let mut result = Ok(());
        for executor in self.executors {
            let ended = executor.join().map_err(|e| e.to_string()).and_then(|r| r);
            if result.is_ok() {
                result = ended;
            }
        }
        result
    }
}

/// Starts a broker. `ready` is called once it serves; `stop` ends it.
///
/// # Errors
/// When an executor cannot be started. What goes wrong later is reported by [`Broker::join`].
pub fn start(
    settings: Settings,
    stop: &Stop,
    ready: impl FnOnce(Ready) + Send + 'static,
) -> Result<Broker, StartError> {
    let settings = Current::keep(settings);
    let mesh = Mesh::new(settings.cores.len(), MAILBOX_MAX);
    let mut ready = Some(ready);
    let mut executors = Vec::with_capacity(settings.cores.len());
    for (me, core) in settings.cores.iter().copied().enumerate() {
        let (mesh, stop) = (mesh.clone(), stop.clone());
        let ready = if me == CONTROL { ready.take() } else { None };
        let executor = host::start(core, move || async move {
            let node = boot(mesh.bind(me), settings);
            match ready {
                Some(ready) => lead(node, stop, ready).await,
                None => follow(node).await,
            }
        })?;
        executors.push(executor);
    }
    Ok(Broker { executors })
}

fn boot(post: Post<Mail>, settings: &'static Settings) -> Rc<Node> {
    let shard = u8::try_from(post.me()).unwrap_or(u8::MAX);
    let registry = Registry::new(shard, settings.limits);
    let node = Node::new(post, registry, settings);
    spawn("mail", read_mail(Rc::clone(&node))).detach();
    if let Some(heartbeat) = &node.settings.heartbeat {
        heartbeat.start(node.me());
    }
    node
}

async fn read_mail(node: Rc<Node>) {
    /// Posts taken in before others have their turn.
    const TURN: usize = 256;
    loop {
        node.receive(node.post.recv().await);
        for _ in 0..TURN {
            match node.post.try_recv() {
                Some(mail) => node.receive(mail),
                None => break,
            }
        }
        yield_now().await;
    }
}

/// The next word about start and stop.
async fn next_life(node: &Node) -> Life {
    loop {
        let next = {
            let mut life = node.life.borrow_mut();
            if life.is_empty() { None } else { Some(life.remove(0)) }
        };
        match next {
            Some(life) => return life,
            None => node.life_event.wait().await,
        }
    }
}

fn tell_all(node: &Rc<Node>, life: impl Fn() -> Life) {
    for shard in 0..node.post.shards() {
        if shard != node.me() {
            node.tell(shard, Mail::Life(Box::new(life())));
        }
    }
}

async fn open_logs(node: &Rc<Node>, root: &std::path::Path, meta: &StoreMeta) -> Result<Recovered, String> {
    node.set_log_shards(u16::from(meta.shards()));
    let mut recovered = Recovered::default();
    for number in 0..meta.shards() {
        if node.executor_of(u16::from(number)) != node.me() {
            continue;
        }
        let id = ShardId::new(number).ok_or_else(|| format!("{number} is no log shard"))?;
        let shard = Shard::open(root, id, meta, node.settings.shard.clone()).await;
        let shard = shard.map_err(|e| format!("log shard {number}: {e}"))?;
        recovered.replayed_bytes += shard.recovery().replayed_bytes;
        recovered.cut_bytes += shard.recovery().cut_bytes;
        node.add_log(u16::from(number), Log::start(node, shard));
    }
    Ok(recovered)
}

async fn close_logs(node: &Rc<Node>) -> Result<Vec<(ShardId, u64)>, String> {
    node.registry.close_all();
    let mut ends = Vec::new();
    for log in node.logs() {
        timer::tell(node, &log);
        let end = log.shard.close().await.map_err(|e| e.to_string())?;
        ends.push((log.shard.id(), end));
    }
    Ok(ends)
}

/// Starts the broker's own work on each log shard of this executor: what is kept there is released from now on.
async fn take_up(node: &Rc<Node>, progress: &Progress) -> Result<(), String> {
    for log in node.logs() {
        let number = u16::from(log.shard.id().get());
        let at = |topic: &str, queue_id| progress.at(topic, queue_id);
        let transactions = transaction::start(node, number, &log, at).await;
        transactions.map_err(|e| format!("log shard {number}: its open transactions cannot be read: {e}"))?;
        delay::start(node, number, &log, at);
        timer::start(node, &log, progress.timers.get(&number).copied().unwrap_or(0));
        // Only now it can ask from where on the log is still needed.
        spawn("retention", retention::run(Rc::clone(node), log)).detach();
    }
    Ok(())
}

async fn listen(node: &Rc<Node>, server: &Server<Node>, addresses: &[SocketAddr]) -> Result<Vec<SocketAddr>, String> {
    let shared = node.post.shards() > 1;
    if shared && node.me() == CONTROL {
        // Executors share the port, and so could another broker by mistake: take it alone for a moment first.
        for &address in addresses {
            let alone = ListenOptions { reuse_port: false, ..ListenOptions::default() };
            drop(ringmq_net::bind(address, alone).await.map_err(|e| e.to_string())?);
        }
    }
    let options = ListenOptions { reuse_port: shared, ..ListenOptions::default() };
    let mut bound = Vec::with_capacity(addresses.len());
    for &address in addresses {
        bound.push(server.listen(address, options).await.map_err(|e| e.to_string())?);
    }
    Ok(bound)
}

async fn follow(node: Rc<Node>) -> Result<(), String> {
    let mut server = None;
    loop {
        let answer = match next_life(&node).await {
            Life::Open { root, meta } => Life::Opened(open_logs(&node, &root, &meta).await),
            Life::Listen(progress, addresses) => {
                let serving = Server::new(Rc::clone(&node), Rc::clone(&node.registry));
                let bound = match take_up(&node, &progress).await {
                    Ok(()) => listen(&node, &serving, &addresses).await,
                    Err(why) => Err(why),
                };
                server = Some(serving);
                Life::Listening(bound.map(drop))
            }
            Life::Close => {
                let closed = close_logs(&node).await;
                drop(server);
                node.tell(CONTROL, Mail::Life(Box::new(Life::Closed(closed))));
                return Ok(());
            }
            Life::Opened(_) | Life::Listening(_) | Life::Closed(_) => continue,
        };
        node.tell(CONTROL, Mail::Life(Box::new(answer)));
    }
}

/// Waits for one answer of each other executor.
async fn gather(node: &Node, mut take: impl FnMut(Life) -> Result<(), String>) -> Result<(), String> {
    let mut result = Ok(());
    for _ in 1..node.post.shards() {
        let taken = take(next_life(node).await);
        if result.is_ok() {
            result = taken;
        }
    }
    result
}

async fn lead(node: Rc<Node>, stop: Stop, ready: impl FnOnce(Ready)) -> Result<(), String> {
    let served = serve(&node, &stop, ready).await;
    // Executors that wait for a word must not wait for ever.
    let (control, store, mut result) = match served {
        Ok((control, store)) => (Some(control), Some(store), Ok(())),
        Err((store, why)) => (None, store, Err(why)),
    };
    if let Some(control) = &control {
        node.registry.stop_accepting();
        if let Some(announcer) = control.announcer() {
            announcer.unregister().await;
        }
    }
    tell_all(&node, || Life::Close);
    let own = close_logs(&node).await;
    let mut ends = Vec::new();
    let mut keep = |closed: Result<Vec<(ShardId, u64)>, String>| closed.map(|more| ends.extend(more));
    let mut closed = keep(own);
    let others = gather(&node, |life| match life {
        Life::Closed(closed) => keep(closed),
        _ => Ok(()),
    });
    closed = closed.and(others.await);
    // After the connections, so that the last offsets that clients committed are among what is saved.
    if let Some(control) = &control {
        result = control.close().await;
    }
    if let Some(store) = store
        && closed.is_ok()
        && let Err(error) = store.close(&ends).await
    {
        closed = Err(error.to_string());
    }
    result.and(closed)
}

type Served = Result<(Rc<ControlShard>, Store), (Option<Store>, String)>;

/// Boots, serves until `stop`, and gives back what has to be closed.
async fn serve(node: &Rc<Node>, stop: &Stop, ready: impl FnOnce(Ready)) -> Served {
    let settings = node.settings.get();
    let options = StoreOptions { shards: settings.log_shards, default_shards: settings.default_log_shards };
    let store = Store::open(&settings.store, options).await.map_err(|e| (None, e.to_string()))?;
    match take_into_service(node, &store).await {
        Ok((control, up)) => {
            ready(up);
            control.set_announcer(Announcer::start(&control));
            if let Err(error) = stop.requested().await {
                tracing::error!(%error, "cannot wait for the signal to stop");
            }
            Ok((control, store))
        }
        Err(why) => Err((Some(store), why)),
    }
}

async fn take_into_service(node: &Rc<Node>, store: &Store) -> Result<(Rc<ControlShard>, Ready), String> {
    let settings = &node.settings;
    let (root, meta) = (store.root().to_path_buf(), Arc::new(store.meta().clone()));
    tell_all(node, || Life::Open { root: root.clone(), meta: Arc::clone(&meta) });
    let own = open_logs(node, &root, &meta).await;
    let mut recovered = Recovered::default();
    let mut add = |more: Result<Recovered, String>| {
        more.map(|more| {
            recovered.replayed_bytes += more.replayed_bytes;
            recovered.cut_bytes += more.cut_bytes;
        })
    };
    let own = add(own);
    let others = gather(node, |life| match life {
        Life::Opened(opened) => add(opened),
        _ => Ok(()),
    });
    own.and(others.await)?;
    let control = ControlShard::open(Rc::clone(node), store.config_dir()).await?;
    node.set_control(&control);
    let mut addresses = vec![SocketAddr::new(settings.listen, settings.port)];
    if let Some(vip) = settings.port.checked_sub(2).filter(|port| settings.vip && *port > 0) {
        addresses.push(SocketAddr::new(settings.listen, vip));
    }
    let server = Server::new(Rc::clone(node), Rc::clone(&node.registry));
    progress::correct(&control).await?;
    let progress = Arc::new(Progress::of(&control.tables.borrow().offsets, control.timers.all()));
    take_up(node, &progress).await?;
    let bound = listen(node, &server, &addresses).await?;
    tell_all(node, || Life::Listen(Arc::clone(&progress), bound.clone()));
    gather(node, |life| match life {
        Life::Listening(listening) => listening,
        _ => Ok(()),
    })
    .await?;
    let broker = bound.first().copied().ok_or("no address to listen on")?;
    // The leader has the first log shard, and all of them are on one device.
    let commit = node.logs().first().map(|log| log.shard.commit_method());
    let up = Ready { broker, vip: bound.get(1).copied(), log_shards: node.log_shards(), recovered, commit };
    Ok((control, up))
}
