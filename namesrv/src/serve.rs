//! The name server on a network: its listeners, its clock, and the file of its KV configuration.
//!
//! [`serve`] runs on one shard and owns the only [`NameServer`] there. A connection's requests are handled one after
//! the other in the order they came, without waiting, but for a change of the KV configuration: that is answered when
//! it is in its file. What a request means is [`crate::handler`]'s business.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use ringmq_net::{Conn, Frame, Limits, Registry, Server, Service};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{HeaderView, ReplyHead};
use ringmq_protocol::frame::FrameError;
use ringmq_rt::host::Stop;
use ringmq_rt::net::ListenOptions;
use ringmq_rt::sync::{Event, Waiters, first};
use ringmq_rt::{Heartbeat, fs, now, sleep, spawn};
use thiserror::Error;
use tracing::{error, info, warn};

use crate::handler::{self, NameServer, Peer, Reply};
use crate::kv::{KvConfig, KvError};
use crate::limits::KV_BYTES_MAX;
use crate::route::PeerId;

/// What [`serve`] is told.
#[derive(Debug, Clone)]
pub struct Options {
    pub server: handler::Options,
    /// The addresses to listen on; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// `kvConfigPath`; its folder is made if it is not there.
    pub kv_path: PathBuf,
    /// `scanNotActiveBrokerInterval`
    pub scan_interval: Duration,
    pub limits: Limits,
    /// Told once, when the first broker registered: whoever runs both waits for this.
    pub first_registered: Option<Sender<()>>,
    /// Told by the shard that it is alive.
    pub heartbeat: Option<Heartbeat>,
}

/// Why the name server does not start, or what it could not do before it ended.
#[derive(Debug, Error)]
pub enum ServeError {
    /// An address cannot be listened on. The text names it.
    #[error(transparent)]
    Listen(io::Error),
    /// The KV configuration's file or its folder cannot be used. The text names it.
    #[error("the KV configuration cannot be used: {0}")]
    KvFile(io::Error),
    /// The file is there and is no KV configuration.
    #[error("{}: {source}; correct it, or replace it by {}.bak, which holds the state before the last change", path.display(), path.display())]
    KvDamaged { path: PathBuf, source: KvError },
    /// Changes of the KV configuration were not written before the end.
    #[error("the last changes of the KV configuration are lost: {0}")]
    KvLost(String),
    /// There is no shard to run on.
    #[error(transparent)]
    Shard(io::Error),
}

/// Serves until `stop` is requested. `ready` is told the addresses that are listened on, in the order asked for.
///
/// To be called on a shard of its own.
///
/// # Errors
/// Why it could not start, or that changes of the KV configuration could not be written at the end.
pub async fn serve(options: Options, stop: Stop, ready: impl FnOnce(Vec<SocketAddr>)) -> Result<(), ServeError> {
    if let Some(heartbeat) = &options.heartbeat {
        heartbeat.start(0);
    }
    let kv = read_kv(&options.kv_path).await?;
    let service = Rc::new(NameServerService {
        server: RefCell::new(NameServer::new(options.server, kv)),
        saver: Saver::new(options.kv_path),
        first_registered: RefCell::new(options.first_registered),
    });
    let registry = Registry::new(0, options.limits);
    let server = Server::new(Rc::clone(&service), Rc::clone(&registry));
    // Not shared: a second name server on the port is a mistake that has to be said.
    let listen = ListenOptions { reuse_port: false, ..ListenOptions::default() };
    let mut bound = Vec::with_capacity(options.listen.len());
    for address in options.listen {
        match server.listen(address, listen).await {
            Ok(address) => bound.push(address),
            Err(error) => {
                registry.close_all();
                return Err(ServeError::Listen(error));
            }
        }
    }
    let saving = Rc::clone(&service);
    let saver = spawn("KV configuration saver", async move { saving.save_changes().await });
    spawn("silent broker scan", scan(Rc::clone(&service), options.scan_interval)).detach();
    info!(addresses = ?bound, "the name server serves");
    ready(bound);

    let stopped = stop.requested().await;
    registry.close_all();
    service.saver.end();
    let saved = saver.await;
    stopped.map_err(ServeError::Shard)?;
    saved.map_err(ServeError::KvLost)
}

async fn read_kv(path: &Path) -> Result<KvConfig, ServeError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).await.map_err(ServeError::KvFile)?;
    }
    let parse = |path: PathBuf, json: Vec<u8>| match KvConfig::from_json(&json) {
        Ok(kv) => Ok(kv),
        Err(source) => Err(ServeError::KvDamaged { path, source }),
    };
    if let Some(json) = fs::read(path, KV_BYTES_MAX as u64).await.map_err(ServeError::KvFile)? {
        return parse(path.to_owned(), json);
    }
    // A file that was taken away while the one before it is still there: its entries are better than none.
    let mut bak = path.as_os_str().to_owned();
    bak.push(".bak");
    let bak = PathBuf::from(bak);
    match fs::read(&bak, KV_BYTES_MAX as u64).await.map_err(ServeError::KvFile)? {
        None => Ok(KvConfig::default()),
        Some(json) => {
            warn!(path = %path.display(), "the file of the KV configuration is missing; its .bak is used");
            let mut kv = parse(bak, json)?;
            kv.mark_dirty();
            Ok(kv)
        }
    }
}

async fn scan(service: Rc<NameServerService>, every: Duration) {
    loop {
        sleep(every).await;
        service.server.borrow_mut().expire(now_ms());
    }
}

/// The clock of signs of life. Monotonic: a step of the wall clock must not take out every broker.
fn now_ms() -> u64 {
    now().0 / 1_000_000
}

/// The name server as the connection loop sees it.
#[derive(Debug)]
pub struct NameServerService {
    server: RefCell<NameServer>,
    saver: Saver,
    first_registered: RefCell<Option<Sender<()>>>,
}

impl Service for NameServerService {
    fn request(self: Rc<Self>, conn: &Rc<Conn>, view: &HeaderView<'_>, frame: &Frame) {
        let peer = Peer { id: PeerId(conn.id().0), address: conn.peer() };
        let reply = self.server.borrow_mut().handle(peer, view, &frame.body(), now_ms());
        let (code, opaque, is_oneway) = (RequestCode(view.code), view.opaque, view.is_oneway());
        if reply.code == ResponseCode::SUCCESS.0 {
            match code {
                RequestCode::REGISTER_BROKER => self.a_broker_registered(),
                RequestCode::PUT_KV_CONFIG | RequestCode::DELETE_KV_CONFIG => {
                    let change = self.saver.changed();
                    if !is_oneway {
                        self.answer_when_saved(change, Rc::clone(conn), opaque, reply);
                    }
                    return;
                }
                _ => {}
            }
        }
        if !is_oneway {
            send(conn, opaque, &reply);
        }
    }

    fn closed(self: Rc<Self>, conn: &Conn) {
        self.server.borrow_mut().on_connection_closed(PeerId(conn.id().0));
    }
}

impl NameServerService {
    fn a_broker_registered(&self) {
        if let Some(waiting) = self.first_registered.take() {
            // Whoever asked may have given up.
            let _ = waiting.send(());
        }
    }

    fn answer_when_saved(self: Rc<Self>, change: u64, conn: Rc<Conn>, opaque: i32, reply: Reply) {
        conn.will_answer();
        spawn("KV configuration answer", async move {
            let reply = match self.saver.saved(change).await {
                Ok(()) => reply,
                Err(why) => not_saved(&why),
            };
            send(&conn, opaque, &reply);
            conn.answered();
        })
        .detach();
    }
}

fn not_saved(why: &str) -> Reply {
    Reply {
        code: ResponseCode::SYSTEM_ERROR.0,
        remark: Some(format!("the change is in force but its file could not be written: {why}")),
        ..Reply::default()
    }
}

fn send(conn: &Conn, opaque: i32, reply: &Reply) {
    conn.send(|out| {
        out.write(|bytes| {
            if let Err(error) = write(reply, opaque, bytes) {
                // The handler bounds its bodies; ext fields and remarks quote what a request may hold.
                warn!(peer = %conn.peer(), code = reply.code, %error, "an answer does not fit a frame");
                let long = Reply {
                    code: ResponseCode::SYSTEM_ERROR.0,
                    remark: Some("the answer is too long for a frame".to_owned()),
                    ..Reply::default()
                };
                if let Err(error) = write(&long, opaque, bytes) {
                    error!(peer = %conn.peer(), %error, "a request stays without an answer");
                }
            }
        });
    });
}

/// Appends the frame of a reply. On an error `bytes` are as before.
fn write(reply: &Reply, opaque: i32, bytes: &mut Vec<u8>) -> Result<(), FrameError> {
    let mut ext = ReplyHead { code: reply.code, opaque, remark: reply.remark.as_deref() }.begin(bytes);
    for (key, value) in &reply.ext {
        ext.str(key, value);
    }
    ext.finish_with_body(&reply.body)
}

/// After a failed write of the KV configuration the next attempt waits this long, unless a change comes first.
const RETRY: Duration = Duration::from_secs(5);

/// Who writes the KV configuration: one task, so that an older state never replaces a younger one.
///
/// Changes are numbered. A write covers every change made before it began, and those who wait for one of these are told
/// how it went.
#[derive(Debug)]
struct Saver {
    path: PathBuf,
    changes: Cell<u64>,
    attempted: Cell<u64>,
    /// How the last attempt went.
    failure: RefCell<Option<String>>,
    wanted: Event,
    attempts: Waiters,
    is_ending: Cell<bool>,
}

impl Saver {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            changes: Cell::new(0),
            attempted: Cell::new(0),
            failure: RefCell::new(None),
            wanted: Event::new(),
            attempts: Waiters::new(),
            is_ending: Cell::new(false),
        }
    }

    /// Something changed; gives the change's number.
    fn changed(&self) -> u64 {
        self.changes.set(self.changes.get() + 1);
        self.wanted.notify();
        self.changes.get()
    }

    /// Waits until an attempt covered this change.
    async fn saved(&self, change: u64) -> Result<(), String> {
        let attempted = || (self.attempted.get() >= change).then(|| self.failure.borrow().clone());
        match self.attempts.until(attempted).await {
            None => Ok(()),
            Some(why) => Err(why),
        }
    }

    fn end(&self) {
        self.is_ending.set(true);
        self.wanted.notify();
    }
}

impl NameServerService {
    /// Writes the KV configuration whenever it changed, until the end; the last write may fail, and says so.
    async fn save_changes(&self) -> Result<(), String> {
        loop {
            // Read before the write: whatever comes while it runs makes another round.
            let (covered, is_last) = (self.saver.changes.get(), self.saver.is_ending.get());
            let outcome = self.save().await;
            if let Err(why) = &outcome {
                self.server.borrow_mut().kv().mark_dirty();
                error!(why, "the KV configuration could not be written");
            }
            let failed = outcome.is_err();
            *self.saver.failure.borrow_mut() = outcome.clone().err();
            self.saver.attempted.set(covered);
            self.saver.attempts.wake_all();
            if is_last {
                return outcome;
            }
            if failed {
                first(self.saver.wanted.wait(), sleep(RETRY)).await;
            } else {
                self.saver.wanted.wait().await;
            }
        }
    }

    async fn save(&self) -> Result<(), String> {
        let json = self.server.borrow_mut().kv().to_write().map_err(|error| error.to_string())?;
        match json {
            None => Ok(()),
            Some(json) => fs::replace(&self.saver.path, json, true).await.map_err(|error| error.to_string()),
        }
    }
}
