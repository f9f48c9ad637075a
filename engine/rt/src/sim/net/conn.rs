//! One connection: two ends, and for each what is on its way to it and what has arrived.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Fragments;
use crate::sim::NodeId;
use crate::sim::rng::Rng;
use crate::sim::world::World;

/// The most that one `recv` returns: a receive buffer of the production backend.
const CHUNK: usize = 16 * 1024;

/// One end, as the network knows it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) node: NodeId,
    pub(super) addr: SocketAddr,
    inbound: RefCell<Inbound>,
}

/// What comes to an end, and whether that end still cares.
#[derive(Debug, Default)]
struct Inbound {
    arrived: VecDeque<u8>,
    /// When it arrives, and the bytes; the end of the stream without.
    wire: VecDeque<(u64, Option<Vec<u8>>)>,
    wire_bytes: usize,
    /// The peer finished.
    finished: bool,
    reset: bool,
    /// This end shut both directions down.
    shut: bool,
    /// Nobody owns this end any more.
    closed: bool,
    /// The machine of this end has no power.
    dark: bool,
    reader: Option<Waker>,
    /// The peer's sender, waiting for room here.
    writer: Option<Waker>,
}

impl Inbound {
    fn unread(&self) -> usize {
        self.arrived.len() + self.wire_bytes
    }

    fn wake_all(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

#[derive(Debug, Clone, Copy)]
enum Style {
    Whole,
    Mixed,
    Tiny,
}

impl Style {
    fn draw(fragments: Fragments, rng: &mut Rng) -> Self {
        match fragments {
            Fragments::Whole => Self::Whole,
            Fragments::Tiny => Self::Tiny,
            Fragments::Seeded => match rng.below(8) {
                0 => Self::Tiny,
                1..4 => Self::Mixed,
                _ => Self::Whole,
            },
        }
    }

    /// How many of `len` bytes come in one piece; at least one if there is any.
    fn piece(self, len: usize, rng: &mut Rng) -> usize {
        let most = match self {
            Self::Whole => len,
            Self::Tiny => 1 + rng.index(3),
            Self::Mixed => match rng.below(4) {
                0 => 1,
                1 => 1 + rng.index(16),
                2 => 1 + rng.index(len),
                _ => len,
            },
        };
        most.min(len)
    }
}

#[derive(Debug)]
pub(super) struct Conn {
    /// The client's end, then the server's.
    ends: [End; 2],
    style: Style,
}

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

impl Conn {
    pub(super) fn new(client: (NodeId, SocketAddr), server: (NodeId, SocketAddr), f: Fragments, rng: &mut Rng) -> Self {
        let end = |(node, addr)| End { node, addr, inbound: RefCell::default() };
        Self { ends: [end(client), end(server)], style: Style::draw(f, rng) }
    }

    pub(super) fn end(&self, side: usize) -> &End {
        &self.ends[side]
    }

    /// The address that the client called.
    pub(super) fn server(&self) -> SocketAddr {
        self.ends[SERVER].addr
    }

    pub(super) fn nodes(&self) -> (NodeId, NodeId) {
        (self.ends[CLIENT].node, self.ends[SERVER].node)
    }

    /// The ends of a node that are still owned.
    pub(super) fn sides_on(&self, node: NodeId) -> impl Iterator<Item = usize> + '_ {
        (0..2).filter(move |side| self.ends[*side].node == node && !self.ends[*side].inbound.borrow().closed)
    }

    pub(super) fn is_open(&self) -> bool {
        self.ends.iter().any(|end| !end.inbound.borrow().closed)
    }

    /// What has arrived at this end, in pieces of any size.
    pub(super) fn poll_recv(
        &self,
        side: usize,
        rng: &mut Rng,
        waker: Option<&Waker>,
    ) -> Poll<io::Result<Option<Vec<u8>>>> {
        let mut inbound = self.ends[side].inbound.borrow_mut();
        if !inbound.arrived.is_empty() {
            let len = self.style.piece(inbound.arrived.len(), rng).min(CHUNK);
            let bytes = inbound.arrived.drain(..len).collect();
            if let Some(writer) = inbound.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(Some(bytes)));
        }
        if inbound.shut || (inbound.finished && !inbound.reset) {
            return Poll::Ready(Ok(None));
        }
        if inbound.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        inbound.reader = waker.cloned();
        Poll::Pending
    }

    /// Puts some of `bytes` on the wire from this end; how many is the result.
    pub(super) fn poll_send(
        self: &Rc<Self>,
        world: &Rc<World>,
        side: usize,
        bytes: &[u8],
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let own = self.ends[side].inbound.borrow();
        if own.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if own.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        drop(own);
        let mut net = world.net.borrow_mut();
        let mut peer = self.ends[1 - side].inbound.borrow_mut();
        let room = net.model.window.saturating_sub(peer.unread());
        if room == 0 {
            peer.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let len = match self.style {
            Style::Tiny | Style::Whole => bytes.len().min(room),
            Style::Mixed => self.style.piece(bytes.len().min(room), &mut net.rng),
        };
        drop((net, peer));
        self.put_on_wire(world, 1 - side, Some(bytes[..len].to_vec()));
        Poll::Ready(Ok(len))
    }

    fn put_on_wire(self: &Rc<Self>, world: &Rc<World>, to: usize, bytes: Option<Vec<u8>>) {
        let latency = world.net.borrow_mut().latency();
        let mut inbound = self.ends[to].inbound.borrow_mut();
        // What is faster than its forerunner waits behind it: only the front of the wire arrives.
        let at = world.now().saturating_add(latency);
        inbound.wire_bytes += bytes.as_ref().map_or(0, Vec::len);
        world.note(at ^ ((inbound.wire_bytes as u64) << 40));
        inbound.wire.push_back((at, bytes));
        drop(inbound);
        let conn = Rc::clone(self);
        world.at(at, move |world| conn.deliver(world, to));
    }

    /// Lets what was held back go on.
    pub(super) fn deliver_soon(self: &Rc<Self>, world: &Rc<World>, to: usize) {
        let latency = world.net.borrow_mut().latency();
        let conn = Rc::clone(self);
        world.at(world.now().saturating_add(latency), move |world| conn.deliver(world, to));
    }

    fn deliver(self: &Rc<Self>, world: &Rc<World>, to: usize) {
        if self.is_cut(world, to) {
            return;
        }
        let mut inbound = self.ends[to].inbound.borrow_mut();
        if inbound.dark {
            return;
        }
        let mut unwanted = false;
        while inbound.wire.front().is_some_and(|(at, _)| *at <= world.now()) {
            match inbound.wire.pop_front() {
                Some((_, Some(bytes))) => {
                    inbound.wire_bytes -= bytes.len();
                    unwanted |= inbound.closed;
                    if !inbound.closed && !inbound.shut && !inbound.reset {
                        inbound.arrived.extend(bytes);
                    }
                }
                _ => inbound.finished = true,
            }
        }
        inbound.reader.take().into_iter().for_each(Waker::wake);
        if inbound.closed || inbound.shut {
            inbound.writer.take().into_iter().for_each(Waker::wake);
        }
        drop(inbound);
        if unwanted {
            self.reset_soon(world, 1 - to);
        }
    }

    fn is_cut(&self, world: &Rc<World>, to: usize) -> bool {
        world.net.borrow().is_cut(self.ends[1 - to].node, self.ends[to].node, self.server())
    }

    /// A reset is under way to an end. It is not repeated: over a cut link it is lost.
    fn reset_soon(self: &Rc<Self>, world: &Rc<World>, to: usize) {
        let latency = world.net.borrow_mut().latency();
        let conn = Rc::clone(self);
        world.at(world.now().saturating_add(latency), move |world| {
            if !conn.is_cut(world, to) && !conn.ends[to].inbound.borrow().dark {
                conn.reset(to);
            }
        });
    }

    /// An end learns that the connection is gone. What had arrived can still be read.
    pub(super) fn reset(&self, side: usize) {
        let mut inbound = self.ends[side].inbound.borrow_mut();
        inbound.reset = true;
        inbound.wire.clear();
        inbound.wire_bytes = 0;
        inbound.wake_all();
        drop(inbound);
        // Its sender waits at the other end.
        let sender = self.ends[1 - side].inbound.borrow_mut().writer.take();
        sender.into_iter().for_each(Waker::wake);
    }

    /// Ends both directions; whoever waits at this end is told.
    pub(super) fn shutdown(self: &Rc<Self>, world: &Rc<World>, side: usize) {
        let mut inbound = self.ends[side].inbound.borrow_mut();
        if inbound.shut || inbound.closed {
            return;
        }
        inbound.shut = true;
        inbound.wake_all();
        let reset = inbound.reset;
        drop(inbound);
        let sender = self.ends[1 - side].inbound.borrow_mut().writer.take();
        sender.into_iter().for_each(Waker::wake);
        if !reset {
            self.put_on_wire(world, 1 - side, None);
        }
    }

    /// The owner of an end is gone. What it had not read resets the peer, as the kernel does.
    pub(super) fn close(self: &Rc<Self>, world: &Rc<World>, side: usize, abort: bool) {
        let inbound = self.ends[side].inbound.borrow();
        if inbound.closed {
            return;
        }
        let abort = abort || !inbound.arrived.is_empty();
        drop(inbound);
        if abort {
            self.reset_soon(world, 1 - side);
        } else {
            self.shutdown(world, side);
        }
        self.forget(side);
    }

    /// An end that nobody answers for: what comes to it is answered with a reset.
    pub(super) fn forget(&self, side: usize) {
        let mut inbound = self.ends[side].inbound.borrow_mut();
        inbound.closed = true;
        inbound.dark = false;
        inbound.arrived.clear();
        inbound.wake_all();
    }

    /// The machine of an end lost its power: what comes to it is neither taken nor answered.
    pub(super) fn darken(&self, side: usize) {
        self.ends[side].inbound.borrow_mut().dark = true;
    }

    pub(super) fn is_dark(&self, side: usize) -> bool {
        self.ends[side].inbound.borrow().dark
    }
}
