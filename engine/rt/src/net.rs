//! Sockets of one shard.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::buf::Slice;
use crate::{Backend, backend};

/// How a listener is opened.
#[derive(Debug, Clone, Copy)]
pub struct ListenOptions {
    /// Several shards listen on one port and the kernel spreads connections over them.
    pub reuse_port: bool,
    /// Connections that wait for `accept`.
    pub backlog: u32,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { reuse_port: true, backlog: 1024 }
    }
}

#[derive(Debug)]
enum ListenerInner {
    Uring(crate::uring::net::Listener),
    Sim(crate::sim::net::Listener),
}

/// A TCP listener.
#[derive(Debug)]
pub struct Listener(ListenerInner);

impl Listener {
    /// Binds and listens. Port 0 takes a free one.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn bind(addr: SocketAddr, options: ListenOptions) -> io::Result<Self> {
        match backend() {
            Backend::Uring => crate::uring::net::Listener::bind(addr, options).map(|l| Self(ListenerInner::Uring(l))),
            Backend::Sim => crate::sim::net::Listener::bind(addr, options).map(|l| Self(ListenerInner::Sim(l))),
        }
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        match &self.0 {
            ListenerInner::Uring(l) => l.local_addr(),
            ListenerInner::Sim(l) => l.local_addr(),
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// What the operating system says; a full descriptor table is reported here once and the listener goes on.
    pub async fn accept(&self) -> io::Result<Stream> {
        match &self.0 {
            ListenerInner::Uring(l) => l.accept().await.map(|s| Stream(StreamInner::Uring(s))),
            ListenerInner::Sim(l) => l.accept().await.map(|s| Stream(StreamInner::Sim(s))),
        }
    }
}

/// What goes out in one gathered write: bytes of its own and shared slices, in order. Its memory is reused.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    parts: Vec<Part>,
    len: usize,
    /// Where the bytes begin that no part covers yet.
    open: usize,
}

#[derive(Debug)]
pub(crate) enum Part {
    Bytes(Range<usize>),
    Slice(Slice),
}

impl Outbox {
    /// Nothing to send.
    pub fn new() -> Self {
        Self::default()
    }

    /// Total bytes.
    pub fn len(&self) -> usize {
        self.len + (self.bytes.len() - self.open)
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets `write` append to the outbox's own bytes. `write` must only append.
    pub fn write<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        write(&mut self.bytes)
    }

    /// Sends a shared slice behind everything so far, without a copy.
    pub fn push(&mut self, slice: Slice) {
        if slice.is_empty() {
            return;
        }
        self.close_bytes();
        self.len += slice.len();
        if let Some(Part::Slice(last)) = self.parts.last_mut()
            && last.try_join(&slice)
        {
            return;
        }
        self.parts.push(Part::Slice(slice));
    }

    /// Takes over everything that `other` would send. Its slices move, its own bytes are copied.
    pub fn append(&mut self, mut other: Self) {
        other.close_bytes();
        for part in other.parts.drain(..) {
            match part {
                Part::Bytes(range) => self.bytes.extend_from_slice(&other.bytes[range]),
                Part::Slice(slice) => self.push(slice),
            }
        }
    }

    /// Empties it and keeps its memory, up to a bound.
    pub fn clear(&mut self) {
        const KEEP: usize = 256 * 1024;
        self.bytes.clear();
        self.bytes.shrink_to(KEEP);
        self.parts.clear();
        self.parts.shrink_to(1024);
        self.len = 0;
        self.open = 0;
    }

    fn close_bytes(&mut self) {
        let end = self.bytes.len();
        if end > self.open {
            self.parts.push(Part::Bytes(self.open..end));
            self.len += end - self.open;
            self.open = end;
        }
    }

    /// Everything as addresses, in order.
    pub(crate) fn finish(&mut self) -> (&[u8], &[Part]) {
        self.close_bytes();
        (&self.bytes, &self.parts)
    }
}

#[derive(Debug)]
enum StreamInner {
    Uring(crate::uring::net::Stream),
    Sim(crate::sim::net::Stream),
}

/// A TCP connection. One task may receive while another sends.
#[derive(Debug)]
pub struct Stream(StreamInner);

impl Stream {
    /// Connects, with `TCP_NODELAY`.
    ///
    /// # Errors
    /// What the operating system says, or `TimedOut`.
    pub async fn connect(addr: SocketAddr, within: Duration) -> io::Result<Self> {
        match backend() {
            Backend::Uring => {
                crate::uring::net::Stream::connect(addr, within).await.map(|s| Self(StreamInner::Uring(s)))
            }
            Backend::Sim => crate::sim::net::Stream::connect(addr, within).await.map(|s| Self(StreamInner::Sim(s))),
        }
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> SocketAddr {
        match &self.0 {
            StreamInner::Uring(s) => s.peer_addr(),
            StreamInner::Sim(s) => s.peer_addr(),
        }
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        match &self.0 {
            StreamInner::Uring(s) => s.local_addr(),
            StreamInner::Sim(s) => s.local_addr(),
        }
    }

    /// The next bytes; `None` when the peer has finished sending.
    ///
    /// # Errors
    /// What the operating system says; the connection is then of no more use.
    pub async fn recv(&self) -> io::Result<Option<Slice>> {
        match &self.0 {
            StreamInner::Uring(s) => s.recv().await,
            StreamInner::Sim(s) => s.recv().await,
        }
    }

    /// Bytes that are here already, if any.
    pub fn try_recv(&self) -> Option<Slice> {
        match &self.0 {
            StreamInner::Uring(s) => s.try_recv(),
            StreamInner::Sim(s) => s.try_recv(),
        }
    }

    /// Whether the shard is short of receive buffers: whoever holds one while waiting should copy what it needs.
    pub fn buffers_scarce(&self) -> bool {
        match &self.0 {
            StreamInner::Uring(s) => s.buffers_scarce(),
            StreamInner::Sim(_) => false,
        }
    }

    /// Whether the peer has sent more than is read: it gets one receive buffer at a time until there is no more.
    pub fn is_behind(&self) -> bool {
        match &self.0 {
            StreamInner::Uring(s) => s.is_behind(),
            StreamInner::Sim(_) => false,
        }
    }

    /// Sends everything in `out` and gives it back empty.
    ///
    /// # Errors
    /// What the operating system says; part of it may have been sent.
    pub async fn send(&self, out: Outbox) -> (io::Result<()>, Outbox) {
        match &self.0 {
            StreamInner::Uring(s) => s.send(out).await,
            StreamInner::Sim(s) => s.send(out).await,
        }
    }

    /// Ends both directions: a pending `recv` and `send` complete.
    pub fn shutdown(&self) {
        match &self.0 {
            StreamInner::Uring(s) => s.shutdown(),
            StreamInner::Sim(s) => s.shutdown(),
        }
    }
}

/// The addresses of `host:port`, IPv4 first because clients of RocketMQ expect it. Names are looked up beside the shard.
///
/// # Errors
/// When the text is no address and its name is not known.
pub async fn resolve(host: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(addr) = host.parse() {
        return Ok(vec![addr]);
    }
    match backend() {
        Backend::Uring => crate::uring::net::resolve(host).await,
        Backend::Sim => Err(io::Error::new(io::ErrorKind::NotFound, format!("no name {host} in the simulated world"))),
    }
}
