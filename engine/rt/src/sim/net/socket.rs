//! Sockets of the seam on the network in memory.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use super::Backlog;
use super::conn::{CLIENT, Conn, SERVER};
use crate::buf::Slice;
use crate::net::{ListenOptions, Outbox, Part};
use crate::sim::NodeId;
use crate::sim::clock::sleep_ns;
use crate::sim::world::{World, world};

/// A TCP listener.
#[derive(Debug)]
pub(crate) struct Listener {
    world: Weak<World>,
    key: (NodeId, u64),
    addr: SocketAddr,
}

impl Listener {
    pub(crate) fn bind(addr: SocketAddr, options: ListenOptions) -> io::Result<Self> {
        let world = world();
        let key = (world.node(), world.next_id());
        let backlog = Backlog {
            addr,
            reuse_port: options.reuse_port,
            room: usize::try_from(options.backlog).unwrap_or(usize::MAX).max(1),
            waiting: VecDeque::new(),
            fails: false,
            waker: None,
        };
        let addr = world.net.borrow_mut().listen(key.0, key.1, backlog)?;
        Ok(Self { world: Rc::downgrade(&world), key, addr })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        let conn = std::future::poll_fn(|cx| {
            let world = world();
            let mut net = world.net.borrow_mut();
            let Some(backlog) = net.listeners.get_mut(&self.key) else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            if std::mem::take(&mut backlog.fails) {
                return Poll::Ready(Err(io::Error::from_raw_os_error(libc::EMFILE)));
            }
            match backlog.waiting.pop_front() {
                Some(conn) => Poll::Ready(Ok(conn)),
                None => {
                    backlog.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        Ok(Stream::new(conn.await?, SERVER))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(world) = self.world.upgrade() else { return };
        let backlog = world.net.borrow_mut().listeners.remove(&self.key);
        for conn in backlog.into_iter().flat_map(|b| b.waiting) {
            conn.close(&world, SERVER, true);
        }
    }
}

/// What became of one attempt to connect.
enum Attempt {
    Connected(Rc<Conn>),
    Refused,
    /// Nobody answers.
    Silence,
}

/// A TCP connection.
#[derive(Debug)]
pub(crate) struct Stream {
    world: Weak<World>,
    conn: Rc<Conn>,
    side: usize,
}

/// How long TCP waits before it asks again.
const RETRY_NS: u64 = 1_000_000_000;

impl Stream {
    fn new(conn: Rc<Conn>, side: usize) -> Self {
        Self { world: Rc::downgrade(&world()), conn, side }
    }

    pub(crate) async fn connect(addr: SocketAddr, within: Duration) -> io::Result<Self> {
        let world = world();
        let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        let deadline = world.now().saturating_add(within);
        loop {
            let trip = {
                let mut net = world.net.borrow_mut();
                net.latency() + net.latency()
            };
            sleep_ns(trip.min(deadline.saturating_sub(world.now()))).await;
            if world.now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match attempt(&world, addr) {
                Attempt::Connected(conn) => return Ok(Self::new(conn, CLIENT)),
                Attempt::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
                Attempt::Silence => sleep_ns(RETRY_NS.min(deadline.saturating_sub(world.now()))).await,
            }
        }
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.conn.end(1 - self.side).addr
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.conn.end(self.side).addr
    }

    pub(crate) async fn recv(&self) -> io::Result<Option<Slice>> {
        let received = std::future::poll_fn(|cx| {
            let world = world();
            let mut net = world.net.borrow_mut();
            self.conn.poll_recv(self.side, &mut net.rng, Some(cx.waker()))
        });
        Ok(received.await?.map(Slice::from))
    }

    pub(crate) fn try_recv(&self) -> Option<Slice> {
        let world = world();
        let mut net = world.net.borrow_mut();
        match self.conn.poll_recv(self.side, &mut net.rng, None) {
            Poll::Ready(Ok(Some(bytes))) => Some(Slice::from(bytes)),
            _ => None,
        }
    }

    pub(crate) async fn send(&self, mut out: Outbox) -> (io::Result<()>, Outbox) {
        let bytes = flatten(&mut out);
        let result = self.send_all(&bytes).await;
        out.clear();
        (result, out)
    }

    async fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = &bytes[done..];
            done += std::future::poll_fn(|cx| self.conn.poll_send(&world(), self.side, rest, cx.waker())).await?;
        }
        Ok(())
    }

    pub(crate) fn shutdown(&self) {
        if let Some(world) = self.world.upgrade() {
            self.conn.shutdown(&world, self.side);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // An end whose machine lost its power says nothing.
        if let Some(world) = self.world.upgrade()
            && !self.conn.is_dark(self.side)
        {
            self.conn.close(&world, self.side, false);
        }
    }
}

fn flatten(out: &mut Outbox) -> Vec<u8> {
    let mut flat = Vec::with_capacity(out.len());
    let (bytes, parts) = out.finish();
    for part in parts {
        match part {
            Part::Bytes(range) => flat.extend_from_slice(&bytes[range.clone()]),
            Part::Slice(slice) => flat.extend_from_slice(slice),
        }
    }
    flat
}

/// The node that has an address, seen from another.
fn node_at(world: &World, from: NodeId, ip: IpAddr) -> Option<NodeId> {
    if ip.is_loopback() || ip.is_unspecified() {
        return Some(from);
    }
    (0..world.node_count()).map(NodeId).find(|node| node.ip() == ip)
}

fn attempt(world: &Rc<World>, addr: SocketAddr) -> Attempt {
    let from = world.node();
    let Some(to) = node_at(world, from, addr.ip()) else { return Attempt::Silence };
    let mut net = world.net.borrow_mut();
    if net.dark.contains(&to) || net.is_cut(from, to, addr) || net.is_cut(to, from, addr) {
        return Attempt::Silence;
    }
    let own_ip = if addr.ip().is_loopback() { addr.ip() } else { from.ip() };
    let client = SocketAddr::new(own_ip, net.free_port(from));
    let (fragments, mut rng) = (net.model.fragments, net.rng.fork());
    let Some(backlog) = net.listener(to, addr) else { return Attempt::Refused };
    if backlog.waiting.len() >= backlog.room {
        return Attempt::Silence;
    }
    let conn = Rc::new(Conn::new((from, client), (to, addr), fragments, &mut rng));
    backlog.waiting.push_back(Rc::clone(&conn));
    if let Some(waker) = backlog.waker.take() {
        waker.wake();
    }
    net.remember(&conn);
    Attempt::Connected(conn)
}
