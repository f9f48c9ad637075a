//! Sockets on the ring: multishot accept, multishot receive into provided buffers, gathered sends.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use io_uring::{cqueue, opcode, squeue, types};

use crate::buf::Slice;
use crate::net::{ListenOptions, Outbox, Part};
use crate::uring::blocking::{self, Lane};
use crate::uring::pool::{self, Pool};
use crate::uring::ring::{self, Op};

/// A connection with this many received buffers unread stops receiving: the peer is slowed by its own socket. It is behind
/// then, and gets one buffer at a time until its socket is empty: what is fetched when it is its turn is looked at while the
/// core's cache still holds it, and a deep backlog takes neither buffers nor time from the others.
const RX_HIGH: usize = 16;
/// Below this many it receives again.
const RX_LOW: usize = 8;
/// The same while the shard is short of receive buffers.
const RX_HIGH_SCARCE: usize = 2;
/// `IOV_MAX`: slices in one gathered send.
const IOV_MAX: usize = 1024;

thread_local! {
    /// Connections whose receive ended for want of a buffer.
    static STARVED: RefCell<Vec<Rc<StreamState>>> = const { RefCell::new(Vec::new()) };
}

/// Receives again on connections that ran out of buffers; returns how many.
pub(super) fn resume_starved() -> usize {
    let streams = STARVED.take();
    for stream in &streams {
        stream.starved.set(false);
        stream.arm();
    }
    streams.len()
}

/// Forgets the connections of this thread's executor.
pub(super) fn clear() {
    drop(STARVED.take());
}

fn set_option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(4);
    // SAFETY: the option value is a readable int of the stated length.
    let rc = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socket(addr: SocketAddr) -> io::Result<OwnedFd> {
    let domain = if addr.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no pointers; the result is checked.
    let fd = unsafe { libc::socket(domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The kernel's form of an address.
fn sockaddr(addr: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero bytes are a valid value of this plain structure.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let len = match addr {
        SocketAddr::V4(a) => {
            let sin = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: a.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(a.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: `sockaddr_storage` is large enough and aligned for every address family.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(sin) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(a) => {
            let sin6 = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: a.port().to_be(),
                sin6_flowinfo: a.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: a.ip().octets() },
                sin6_scope_id: a.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(sin6) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, libc::socklen_t::try_from(len).unwrap_or(0))
}

/// Looks a name up on the shard's blocking thread.
pub(crate) async fn resolve(host: &str) -> io::Result<Vec<SocketAddr>> {
    let host = host.to_owned();
    blocking::run(Lane::Metadata, move || {
        let mut found: Vec<SocketAddr> = std::net::ToSocketAddrs::to_socket_addrs(host.as_str())?.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        Ok(found)
    })
    .await?
}

/// A listening socket with a multishot accept.
#[derive(Debug)]
pub(crate) struct Listener(Rc<ListenerState>);

pub(super) struct ListenerState {
    socket: TcpListener,
    addr: SocketAddr,
    ready: RefCell<VecDeque<io::Result<OwnedFd>>>,
    op: Cell<Option<usize>>,
    waker: Cell<Option<Waker>>,
}

impl std::fmt::Debug for ListenerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ListenerState({})", self.addr)
    }
}

impl Listener {
    pub(crate) fn bind(addr: SocketAddr, options: ListenOptions) -> io::Result<Self> {
        let fd = socket(addr)?;
        set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        if options.reuse_port {
            set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        let (storage, len) = sockaddr(addr);
        // SAFETY: the address is valid for the stated length.
        if unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: no pointers.
        if unsafe { libc::listen(fd.as_raw_fd(), i32::try_from(options.backlog).unwrap_or(i32::MAX)) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = TcpListener::from(fd);
        let addr = socket.local_addr()?;
        Ok(Self(Rc::new(ListenerState {
            socket,
            addr,
            ready: RefCell::default(),
            op: Cell::new(None),
            waker: Cell::new(None),
        })))
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.0.addr
    }

    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        let fd = poll_fn(|cx| {
            if let Some(fd) = self.0.ready.borrow_mut().pop_front() {
                return Poll::Ready(fd);
            }
            if let Err(e) = self.0.arm() {
                return Poll::Ready(Err(e));
            }
            self.0.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await?;
        Stream::from_fd(fd)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(op) = self.0.op.get() {
            ring::cancel(op);
        }
    }
}

impl ListenerState {
    fn arm(self: &Rc<Self>) -> io::Result<()> {
        if self.op.get().is_none() {
            let entry = opcode::AcceptMulti::new(types::Fd(self.socket.as_raw_fd())).build();
            self.op.set(Some(ring::start(Op::Accept(Rc::clone(self)), entry)?));
        }
        Ok(())
    }

    pub(super) fn accepted(&self, result: i32, more: bool) {
        if !more {
            self.op.set(None);
        }
        let item = if result >= 0 {
            // SAFETY: a fresh descriptor from the kernel that nobody else owns.
            Ok(unsafe { OwnedFd::from_raw_fd(result) })
        } else if result == -libc::ECANCELED {
            return;
        } else {
            Err(io::Error::from_raw_os_error(-result))
        };
        self.ready.borrow_mut().push_back(item);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Stream(Rc<StreamState>);

pub(super) struct StreamState {
    fd: OwnedFd,
    peer: SocketAddr,
    local: SocketAddr,
    pool: &'static Pool,
    rx: RefCell<VecDeque<Slice>>,
    rx_op: Cell<Option<usize>>,
    rx_end: Cell<Option<End>>,
    rx_waker: Cell<Option<Waker>>,
    cancelled: Cell<bool>,
    /// The peer sends more than is read, until a receive leaves room in its buffer.
    behind: Cell<bool>,
    starved: Cell<bool>,
    closed: Cell<bool>,
    /// A send is under way, or was given up while the kernel still read from it.
    sending: Cell<bool>,
    tx: RefCell<Tx>,
}

#[derive(Debug, Clone, Copy)]
enum End {
    Finished,
    Error(i32),
}

struct Tx {
    out: Outbox,
    iov: Vec<libc::iovec>,
    msg: Box<libc::msghdr>,
}

impl std::fmt::Debug for StreamState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamState({} from {})", self.local, self.peer)
    }
}

impl Stream {
    fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let socket = std::net::TcpStream::from(fd);
        let (peer, local) = (socket.peer_addr()?, socket.local_addr()?);
        socket.set_nodelay(true)?;
        // SAFETY: the descriptor was just released by `socket` and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(socket.into_raw_fd()) };
        // SAFETY: all-zero bytes are a valid value of this plain structure.
        let msg = Box::new(unsafe { mem::zeroed() });
        Ok(Self(Rc::new(StreamState {
            fd,
            peer,
            local,
            pool: ring::pool()?,
            rx: RefCell::default(),
            rx_op: Cell::new(None),
            rx_end: Cell::new(None),
            rx_waker: Cell::new(None),
            cancelled: Cell::new(false),
            behind: Cell::new(false),
            starved: Cell::new(false),
            closed: Cell::new(false),
            sending: Cell::new(false),
            tx: RefCell::new(Tx { out: Outbox::new(), iov: Vec::new(), msg }),
        })))
    }

    pub(crate) async fn connect(addr: SocketAddr, within: Duration) -> io::Result<Self> {
        let fd = socket(addr)?;
        let (storage, len) = sockaddr(addr);
        let storage = Rc::new(storage);
        let entry =
            opcode::Connect::new(types::Fd(fd.as_raw_fd()), Rc::as_ptr(&storage).cast::<libc::sockaddr>(), len).build();
        let connecting = ring::once(entry, Some(storage));
        match crate::time::timeout(within, connecting).await {
            Ok(done) => done?,
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection to {addr}"))),
        };
        Self::from_fd(fd)
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.0.peer
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    pub(crate) fn buffers_scarce(&self) -> bool {
        self.0.pool.scarce()
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.0.behind.get()
    }

    pub(crate) fn try_recv(&self) -> Option<Slice> {
        let chunk = self.0.rx.borrow_mut().pop_front();
        if chunk.is_some() && self.0.rx.borrow().len() < RX_LOW {
            self.0.arm();
        }
        chunk
    }

    pub(crate) async fn recv(&self) -> io::Result<Option<Slice>> {
        poll_fn(|cx| {
            if let Some(chunk) = self.try_recv() {
                return Poll::Ready(Ok(Some(chunk)));
            }
            match self.0.rx_end.get() {
                Some(End::Finished) => return Poll::Ready(Ok(None)),
                Some(End::Error(e)) => return Poll::Ready(Err(io::Error::from_raw_os_error(e))),
                None => {}
            }
            self.0.rx_waker.set(Some(cx.waker().clone()));
            self.0.arm();
            Poll::Pending
        })
        .await
    }

    pub(crate) async fn send(&self, out: Outbox) -> (io::Result<()>, Outbox) {
        if self.0.sending.replace(true) {
            return (Err(io::Error::other("an earlier send was given up")), out);
        }
        self.0.tx.borrow_mut().out = out;
        let result = self.0.send_all().await;
        self.0.sending.set(false);
        let mut out = mem::take(&mut self.0.tx.borrow_mut().out);
        out.clear();
        (result, out)
    }

    pub(crate) fn shutdown(&self) {
        // SAFETY: no pointers. A socket that is no longer connected needs no shutdown.
        let _ = unsafe { libc::shutdown(self.0.fd.as_raw_fd(), libc::SHUT_RDWR) };
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.closed.set(true);
        self.0.rx.borrow_mut().clear();
        if let Some(op) = self.0.rx_op.get() {
            ring::cancel(op);
        }
        // An orphaned send may still hold the descriptor; the peer is told now.
        self.shutdown();
    }
}

impl StreamState {
    fn rx_high(&self) -> usize {
        match self.behind.get() {
            true => 1,
            false if self.pool.scarce() => RX_HIGH_SCARCE,
            false => RX_HIGH,
        }
    }

    /// What asks the kernel for more.
    fn receive(&self) -> squeue::Entry {
        let fd = types::Fd(self.fd.as_raw_fd());
        if !self.behind.get() {
            return opcode::RecvMulti::new(fd, pool::GROUP).build();
        }
        let one = opcode::Recv::new(fd, std::ptr::null_mut(), pool::BUFFER as u32).buf_group(pool::GROUP);
        one.build().flags(squeue::Flags::BUFFER_SELECT)
    }

    /// Starts receiving unless it is under way, has ended, or has to wait.
    fn arm(self: &Rc<Self>) {
        let idle = self.rx_op.get().is_none() && self.rx_end.get().is_none() && !self.starved.get();
        if !idle || self.closed.get() || self.rx.borrow().len() >= self.rx_high() {
            return;
        }
        match ring::start(Op::Recv(Rc::clone(self)), self.receive()) {
            Ok(op) => {
                self.cancelled.set(false);
                self.rx_op.set(Some(op));
            }
            Err(e) => self.rx_end.set(Some(End::Error(e.raw_os_error().unwrap_or(libc::EIO)))),
        }
    }

    pub(super) fn received(self: &Rc<Self>, result: i32, flags: u32, more: bool) {
        if !more {
            self.rx_op.set(None);
        }
        let len = usize::try_from(result).unwrap_or(0);
        let chunk = cqueue::buffer_select(flags).map(|id| self.pool.taken(id, len));
        if !more && (1..pool::BUFFER).contains(&len) {
            self.behind.set(false);
        }
        match result {
            1.. => {
                if let Some(chunk) = chunk
                    && !self.closed.get()
                {
                    // What is not read at once must not keep the kernel's buffers from other connections.
                    let chunk = if self.pool.scarce() { Slice::from(chunk.to_vec()) } else { chunk };
                    self.rx.borrow_mut().push_back(chunk);
                }
            }
            0 => self.rx_end.set(Some(End::Finished)),
            e if e == -libc::ENOBUFS => self.starve(),
            e if e == -libc::ECANCELED || e == -libc::EINTR => {}
            e => self.rx_end.set(Some(End::Error(-e))),
        }
        let waiting = self.rx.borrow().len();
        match self.rx_op.get() {
            Some(op) if waiting >= self.rx_high() && !self.cancelled.replace(true) => {
                self.behind.set(true);
                ring::cancel(op);
            }
            None if waiting < RX_LOW.min(self.rx_high()) => self.arm(),
            _ => {}
        }
        if let Some(waker) = self.rx_waker.take() {
            waker.wake();
        }
    }

    fn starve(self: &Rc<Self>) {
        if self.closed.get() || self.starved.replace(true) {
            return;
        }
        self.behind.set(true);
        STARVED.with_borrow_mut(|s| s.push(Rc::clone(self)));
        self.pool.set_starved();
    }

    async fn send_all(self: &Rc<Self>) -> io::Result<()> {
        self.tx.borrow_mut().gather();
        let mut sent = 0;
        loop {
            let Some((entry, want)) = self.next_send(sent) else { return Ok(()) };
            let keep: Rc<dyn std::any::Any> = Rc::<Self>::clone(self);
            match ring::once(entry, Some(keep)).await {
                Ok(0) if want > 0 => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => sent = self.tx.borrow_mut().advance(sent, usize::try_from(n).unwrap_or(0)),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The send of what is left behind the first `done` vectors, and its length.
    fn next_send(&self, done: usize) -> Option<(io_uring::squeue::Entry, usize)> {
        let mut tx = self.tx.borrow_mut();
        let tx = &mut *tx;
        let rest = tx.iov.get_mut(done..).filter(|r| !r.is_empty())?;
        let count = rest.len().min(IOV_MAX);
        let rest = &mut rest[..count];
        let want = rest.iter().map(|v| v.iov_len).sum();
        let fd = types::Fd(self.fd.as_raw_fd());
        // WAITALL: the kernel goes on by itself after a short send.
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = if let [one] = rest {
            let len = u32::try_from(one.iov_len).unwrap_or(u32::MAX);
            opcode::Send::new(fd, one.iov_base.cast(), len).flags(flags).build()
        } else {
            tx.msg.msg_iov = rest.as_mut_ptr();
            tx.msg.msg_iovlen = count;
            opcode::SendMsg::new(fd, &raw const *tx.msg).flags(u32::try_from(flags).unwrap_or(0)).build()
        };
        Some((entry, want))
    }
}

impl Tx {
    /// Lists the outbox's parts as vectors. They stay valid: the outbox is not touched until the send is over.
    fn gather(&mut self) {
        self.iov.clear();
        let (bytes, parts) = self.out.finish();
        self.iov.extend(parts.iter().map(|part| {
            let part = match part {
                Part::Bytes(range) => &bytes[range.clone()],
                Part::Slice(slice) => slice,
            };
            libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() }
        }));
    }

    /// Accounts for `n` bytes sent behind the first `done` vectors; returns how many vectors are done now.
    fn advance(&mut self, mut done: usize, mut n: usize) -> usize {
        while let Some(v) = self.iov.get_mut(done) {
            if n < v.iov_len {
                v.iov_base = v.iov_base.cast::<u8>().wrapping_add(n).cast();
                v.iov_len -= n;
                break;
            }
            n -= v.iov_len;
            done += 1;
        }
        done
    }
}
