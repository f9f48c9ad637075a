//! The network in memory: who listens where, which links are cut, and the tests' hold on both.
//!
//! It keeps TCP's promises and no more: bytes arrive once and in order or not at all, in pieces of any size, after any
//! time. A cut link loses nothing, it delays until it is healed; a peer whose machine lost power is silent until it is up
//! again and then resets.

mod conn;
mod socket;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::task::Waker;

use conn::Conn;
pub(crate) use socket::{Listener, Stream};

use super::rng::Rng;
use super::world::World;
use super::{CrashKind, NodeId};

/// In which pieces bytes are handed to the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragments {
    /// Each connection draws one of the others, or a mixture of all sizes.
    Seeded,
    /// As much as is there.
    Whole,
    /// One to three bytes.
    Tiny,
}

/// How the network behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetModel {
    /// The shortest time from one end to the other.
    pub latency_ns: u64,
    /// What is added to it by chance, at most.
    pub jitter_ns: u64,
    /// Bytes that may be on their way or unread in one direction of a connection.
    pub window: usize,
    pub fragments: Fragments,
}

impl Default for NetModel {
    fn default() -> Self {
        Self { latency_ns: 10_000, jitter_ns: 200_000, window: 256 * 1024, fragments: Fragments::Seeded }
    }
}

/// A link that carries nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    OneWay(NodeId, NodeId),
    /// All connections to this address, both ways.
    Server(SocketAddr),
}

/// Connections that wait for `accept` on one listener.
#[derive(Debug)]
struct Backlog {
    addr: SocketAddr,
    reuse_port: bool,
    room: usize,
    waiting: VecDeque<Rc<Conn>>,
    /// The next `accept` fails for want of descriptors.
    fails: bool,
    waker: Option<Waker>,
}

impl Backlog {
    fn serves(&self, ip: IpAddr) -> bool {
        self.addr.ip().is_unspecified() || self.addr.ip() == ip || (self.addr.ip().is_loopback() && ip.is_loopback())
    }
}

pub(super) struct Net {
    rng: Rng,
    model: NetModel,
    listeners: BTreeMap<(NodeId, u64), Backlog>,
    conns: Vec<Weak<Conn>>,
    cuts: Vec<Cut>,
    /// Nodes whose machine has no power.
    dark: BTreeSet<NodeId>,
    next_port: u16,
}

const FIRST_PORT: u16 = 32_768;

impl Net {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            rng,
            model: NetModel::default(),
            listeners: BTreeMap::new(),
            conns: Vec::new(),
            cuts: Vec::new(),
            dark: BTreeSet::new(),
            next_port: FIRST_PORT,
        }
    }

    fn latency(&mut self) -> u64 {
        self.model.latency_ns.saturating_add(self.rng.below(self.model.jitter_ns.saturating_add(1)))
    }

    fn is_cut(&self, from: NodeId, to: NodeId, server: SocketAddr) -> bool {
        self.cuts.iter().any(|cut| match cut {
            Cut::OneWay(a, b) => (*a, *b) == (from, to),
            Cut::Server(addr) => *addr == server,
        })
    }

    /// A port that nobody on the node listens on. Connections may share them: they are told apart by both ends.
    fn free_port(&mut self, node: NodeId) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
            if !self.listeners.iter().any(|((on, _), l)| *on == node && l.addr.port() == port) {
                return port;
            }
        }
    }

    fn listen(&mut self, node: NodeId, id: u64, mut backlog: Backlog) -> io::Result<SocketAddr> {
        let ip = backlog.addr.ip();
        if !(ip.is_unspecified() || ip.is_loopback() || ip == node.ip()) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if backlog.addr.port() == 0 {
            backlog.addr.set_port(self.free_port(node));
        }
        let addr = backlog.addr;
        let mut same = self.listeners.iter().filter(|((on, _), l)| *on == node && l.addr.port() == addr.port());
        if same.any(|(_, l)| !(l.reuse_port && backlog.reuse_port)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.listeners.insert((node, id), backlog);
        Ok(addr)
    }

    /// The listener that a new connection falls to, by chance if several share the port.
    fn listener(&mut self, node: NodeId, addr: SocketAddr) -> Option<&mut Backlog> {
        let fits = |on: NodeId, l: &Backlog| on == node && l.addr.port() == addr.port() && l.serves(addr.ip());
        let found: Vec<_> = self.listeners.iter().filter(|((on, _), l)| fits(*on, l)).map(|(key, _)| *key).collect();
        let key = found.get(self.rng.index(found.len()))?;
        self.listeners.get_mut(key)
    }

    /// Keeps a connection within reach of tests and crashes, and forgets the dead when they could have become many.
    fn remember(&mut self, conn: &Rc<Conn>) {
        if self.conns.len().is_power_of_two() {
            self.conns.retain(|conn| conn.strong_count() > 0);
        }
        self.conns.push(Rc::downgrade(conn));
    }

    fn live(&mut self) -> Vec<Rc<Conn>> {
        self.conns.retain(|conn| conn.strong_count() > 0);
        self.conns.iter().filter_map(Weak::upgrade).collect()
    }
}

/// A node's process ends: the kernel closes its connections, or nobody does.
pub(super) fn crash(world: &Rc<World>, node: NodeId, kind: CrashKind) {
    let mut net = world.net.borrow_mut();
    let power_cut = kind != CrashKind::ProcessKill;
    if power_cut {
        net.dark.insert(node);
    }
    let gone: Vec<_> = net.listeners.keys().filter(|(on, _)| *on == node).copied().collect();
    let refused: Vec<_> = gone.iter().filter_map(|key| net.listeners.remove(key)).flat_map(|l| l.waiting).collect();
    let conns = net.live();
    drop(net);
    for conn in conns {
        for side in conn.sides_on(node) {
            if power_cut {
                conn.darken(side);
            } else {
                let abort = world.net.borrow_mut().rng.chance(1, 2);
                conn.close(world, side, abort);
            }
        }
    }
    drop(refused);
}

/// A machine is up again: it knows nothing of its old connections.
pub(super) fn restart(world: &Rc<World>, node: NodeId) {
    let mut net = world.net.borrow_mut();
    net.dark.remove(&node);
    let conns = net.live();
    drop(net);
    for conn in conns {
        for side in conn.sides_on(node) {
            conn.forget(side);
            conn.deliver_soon(world, side);
        }
    }
}

/// A test's hold on the network.
#[derive(Debug)]
pub struct Control<'a>(&'a Rc<World>);

impl<'a> Control<'a> {
    pub(super) fn new(world: &'a Rc<World>) -> Self {
        Self(world)
    }

    /// How the network behaves.
    pub fn model(&self) -> NetModel {
        self.0.net.borrow().model
    }

    /// Changes how the network behaves; `fragments` for new connections only.
    pub fn set_model(&self, model: NetModel) {
        self.0.net.borrow_mut().model = model;
    }

    /// Nothing passes between two nodes until [`heal`](Self::heal).
    pub fn partition(&self, a: NodeId, b: NodeId) {
        self.partition_one_way(a, b);
        self.partition_one_way(b, a);
    }

    /// Nothing passes from one node to the other until [`heal`](Self::heal).
    pub fn partition_one_way(&self, from: NodeId, to: NodeId) {
        self.0.net.borrow_mut().cuts.push(Cut::OneWay(from, to));
    }

    /// Nothing passes on connections that were made to `server`, as its clients call it, until [`heal`](Self::heal).
    pub fn cut_server(&self, server: SocketAddr) {
        self.0.net.borrow_mut().cuts.push(Cut::Server(server));
    }

    /// Everything passes again; what was held back arrives.
    pub fn heal(&self) {
        self.0.net.borrow_mut().cuts.clear();
        let conns = self.0.net.borrow_mut().live();
        for conn in conns {
            (0..2).for_each(|side| conn.deliver_soon(self.0, side));
        }
    }

    /// Both ends of every connection between two nodes see it reset.
    pub fn reset_between(&self, a: NodeId, b: NodeId) {
        self.reset_where(|conn| conn.nodes() == (a, b) || conn.nodes() == (b, a));
    }

    /// Both ends of every connection that was made to `server`, as its clients call it, see it reset.
    pub fn reset_server(&self, server: SocketAddr) {
        self.reset_where(|conn| conn.server() == server);
    }

    fn reset_where(&self, meant: impl Fn(&Conn) -> bool) {
        let conns = self.0.net.borrow_mut().live();
        for conn in conns.iter().filter(|conn| meant(conn)) {
            (0..2).for_each(|side| conn.reset(side));
        }
    }

    /// The next `accept` of a node's listener on this port fails as with a full descriptor table. False if there is none.
    pub fn fail_next_accept(&self, node: NodeId, port: u16) -> bool {
        let mut net = self.0.net.borrow_mut();
        let Some((_, listener)) = net.listeners.iter_mut().find(|((on, _), l)| *on == node && l.addr.port() == port)
        else {
            return false;
        };
        listener.fails = true;
        if let Some(waker) = listener.waker.take() {
            waker.wake();
        }
        true
    }

    /// Connections of which at least one end is still open.
    pub fn open_connections(&self) -> usize {
        self.0.net.borrow_mut().live().iter().filter(|conn| conn.is_open()).count()
    }
}
