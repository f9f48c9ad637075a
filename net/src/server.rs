//! The listeners of one shard, and the table of its connections.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringmq_rt::net::{ListenOptions, Listener, Stream};
use ringmq_rt::spawn;
use ringmq_rt::sync::{Either, Waiters, first};
use ringmq_rt::time::{now, sleep};
use slab::Slab;

use crate::connection::{Conn, ConnId, Service, serve};
use crate::frames::Assembly;
use crate::limits::Limits;

/// The connections of one shard and what they hold together.
#[derive(Debug)]
pub struct Registry {
    shard: u8,
    limits: Limits,
    assembly: Assembly,
    output_bytes: Cell<usize>,
    generation: Cell<u32>,
    conns: RefCell<Slab<Rc<Conn>>>,
    stopped: Cell<bool>,
    stopping: Waiters,
}

impl Registry {
    /// No connections yet.
    pub fn new(shard: u8, limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            shard,
            limits,
            assembly: Assembly::new(limits.assembly_bytes_max),
            output_bytes: Cell::new(0),
            generation: Cell::new(0),
            conns: RefCell::default(),
            stopped: Cell::new(false),
            stopping: Waiters::new(),
        })
    }

    /// The shard's bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reply bytes that wait on all connections of the shard.
    pub fn output_bytes(&self) -> usize {
        self.output_bytes.get()
    }

    /// The connection with this number, if it is still open.
    pub fn get(&self, id: ConnId) -> Option<Rc<Conn>> {
        let conns = self.conns.borrow();
        conns.get(slot(id)).filter(|c| c.id() == id && !c.is_closed()).cloned()
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.conns.borrow().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Closes the listeners; connections go on.
    pub fn stop_accepting(&self) {
        self.stopped.set(true);
        self.stopping.wake_all();
    }

    async fn stopped(&self) {
        self.stopping.until(|| self.stopped.get().then_some(())).await;
    }

    /// Closes the listeners and every connection.
    pub fn close_all(&self) {
        self.stop_accepting();
        let conns: Vec<_> = self.conns.borrow().iter().map(|(_, c)| Rc::clone(c)).collect();
        for conn in conns {
            conn.close();
        }
    }

    pub(crate) fn assembly(&self) -> Assembly {
        self.assembly.clone()
    }

    pub(crate) fn output_grew(&self, by: usize) {
        self.output_bytes.set(self.output_bytes.get() + by);
    }

    pub(crate) fn output_shrank(&self, by: usize) {
        self.output_bytes.set(self.output_bytes.get().saturating_sub(by));
    }

    pub(crate) fn admit(self: &Rc<Self>, stream: Stream) -> Option<Rc<Conn>> {
        let mut conns = self.conns.borrow_mut();
        if self.stopped.get() || conns.len() >= self.limits.connections_max {
            return None;
        }
        let generation = self.generation.get().wrapping_add(1) & 0x00ff_ffff;
        self.generation.set(generation);
        let entry = conns.vacant_entry();
        let id = u64::from(self.shard) << 56 | u64::from(generation) << 32 | entry.key() as u64;
        let conn = Conn::new(ConnId(id), stream, self);
        entry.insert(Rc::clone(&conn));
        Some(conn)
    }

    pub(crate) fn remove(&self, conn: &Conn) {
        let mut conns = self.conns.borrow_mut();
        let key = slot(conn.id());
        if conns.get(key).is_some_and(|c| c.id() == conn.id()) {
            conns.remove(key);
        }
    }

    fn close_idle(&self) {
        let at = now();
        let idle: Vec<_> = {
            let conns = self.conns.borrow();
            let idle = |c: &&Rc<Conn>| at.since(c.active_at()) > self.limits.idle && !c.has_output();
            conns.iter().map(|(_, c)| c).filter(idle).cloned().collect()
        };
        for conn in idle {
            tracing::info!(peer = %conn.peer(), idle_s = self.limits.idle.as_secs(), "closed an idle connection");
            conn.close();
        }
    }
}

fn slot(id: ConnId) -> usize {
    (id.0 & 0xffff_ffff) as usize
}

/// Accepts connections of one shard and serves them.
#[derive(Debug)]
pub struct Server<S> {
    registry: Rc<Registry>,
    service: Rc<S>,
}

/// How often idle connections are looked for.
const IDLE_SCAN: Duration = Duration::from_secs(5);
/// After a failed accept (descriptors exhausted) the listener rests, so that it does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How long a port may still belong to a process that has just ended.
const BIND_PATIENCE: Duration = Duration::from_secs(2);
const BIND_RETRY: Duration = Duration::from_millis(20);

impl<S: Service> Server<S> {
    /// A server for `service`, with the idle watch running.
    pub fn new(service: Rc<S>, registry: Rc<Registry>) -> Self {
        let watched = Rc::clone(&registry);
        spawn("idle watch", async move {
            while let Either::Right(()) = first(watched.stopped(), sleep(IDLE_SCAN)).await {
                watched.close_idle();
            }
        })
        .detach();
        Self { registry, service }
    }

    /// Listens on one more address; port 0 takes a free one. Returns the address bound to.
    ///
    /// # Errors
    /// What the operating system says, naming the address.
    pub async fn listen(&self, addr: SocketAddr, options: ListenOptions) -> io::Result<SocketAddr> {
        let listener = bind(addr, options).await?;
        let bound = listener.local_addr();
        let (registry, service) = (Rc::clone(&self.registry), Rc::clone(&self.service));
        spawn("listener", accept_loop(listener, registry, service)).detach();
        Ok(bound)
    }
}

/// Binds and listens. A killed process keeps its ports for a moment, until the kernel has torn its ring down; no event tells
/// when, so a port in use is tried again for that long.
///
/// # Errors
/// What the operating system says, naming the address.
pub async fn bind(addr: SocketAddr, options: ListenOptions) -> io::Result<Listener> {
    let give_up = now().after(BIND_PATIENCE);
    loop {
        match Listener::bind(addr, options) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && now() < give_up => sleep(BIND_RETRY).await,
            Err(e) => return Err(io::Error::new(e.kind(), format!("cannot listen on {addr}: {e}"))),
            Ok(listener) => return Ok(listener),
        }
    }
}

async fn accept_loop<S: Service>(listener: Listener, registry: Rc<Registry>, service: Rc<S>) {
    while let Either::Right(accepted) = first(registry.stopped(), listener.accept()).await {
        match accepted {
            Ok(stream) => {
                let peer = stream.peer_addr();
                match registry.admit(stream) {
                    Some(conn) => {
                        spawn("connection", serve(conn, Rc::clone(&service), Rc::clone(&registry))).detach();
                    }
                    None => tracing::warn!(%peer, open = registry.len(), "refused a connection: too many are open"),
                }
            }
            Err(e) => {
                tracing::warn!(error = %e, "a connection could not be accepted");
                sleep(ACCEPT_REST).await;
            }
        }
    }
}
