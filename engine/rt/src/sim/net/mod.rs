//! The network in memory. Not modelled yet: every call is refused as unsupported.

use std::rc::Rc;

use super::rng::Rng;
use super::world::World;
use super::{CrashKind, NodeId};

#[derive(Debug)]
pub(super) struct Net;
impl Net {
    pub(super) fn new(_: Rng) -> Self {
        Self
    }
}
/// Steers the network.
#[derive(Debug)]
pub struct Control<'a>(#[expect(dead_code, reason = "nothing to steer yet")] &'a Rc<World>);
impl<'a> Control<'a> {
    pub(super) fn new(world: &'a Rc<World>) -> Self {
        Self(world)
    }
}
pub(super) fn crash(_: &Rc<World>, _: NodeId, _: CrashKind) {}
pub(super) fn restart(_: &Rc<World>, _: NodeId) {}
use crate::buf::Slice;
use crate::net::{ListenOptions, Outbox};
use std::io;
use std::net::SocketAddr;
#[derive(Debug)]
pub(crate) enum Listener {}
#[derive(Debug)]
pub(crate) enum Stream {}
impl Listener {
    pub(crate) fn bind(_: SocketAddr, _: ListenOptions) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn local_addr(&self) -> SocketAddr {
        match *self {}
    }
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match *self {}
    }
}
impl Stream {
    pub(crate) async fn connect(_: SocketAddr, _: std::time::Duration) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(crate) fn peer_addr(&self) -> SocketAddr {
        match *self {}
    }
    pub(crate) fn local_addr(&self) -> SocketAddr {
        match *self {}
    }
    pub(crate) async fn recv(&self) -> io::Result<Option<Slice>> {
        match *self {}
    }
    pub(crate) fn try_recv(&self) -> Option<Slice> {
        match *self {}
    }
    pub(crate) async fn send(&self, _: Outbox) -> (io::Result<()>, Outbox) {
        match *self {}
    }
    pub(crate) fn shutdown(&self) {
        match *self {}
    }
}
