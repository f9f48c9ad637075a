//! The connection loop: read, cut frames, hand requests to the service, write what it answered. One reader task and one
//! writer task a connection; what a burst of requests caused leaves in one gathered send.
//!
//! Back-pressure goes both ways. A peer that does not read its answers stops being served (`output_high_bytes`) and is
//! closed when a send makes no headway; a peer that asks faster than it can be answered is slowed by its own socket.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use ringmq_protocol::command::{Command, FLAG_ONEWAY, HeaderError, HeaderView};
use ringmq_protocol::frame::Serialize;
use ringmq_rt::net::{Outbox, Stream};
use ringmq_rt::sync::{Event, Waiters};
use ringmq_rt::time::{Instant, now, timeout};
use ringmq_rt::{spawn, yield_now};
use thiserror::Error;

use crate::call::{CallError, Calls, Response};
use crate::frames::{AssembleError, Assembler, Frame};
use crate::server::Registry;

/// A connection's number, unique on its node until restart. The top byte is the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The shard that the connection lives on.
    pub fn shard(self) -> usize {
        usize::from((self.0 >> 56) as u8)
    }
}

/// What the requests mean. Lives on one shard, as its connections do.
pub trait Service: 'static {
    /// A request arrived. It is answered now or later through [`Conn::reply`]; `frame` may be cloned to be kept.
    fn request(self: Rc<Self>, conn: &Rc<Conn>, view: &HeaderView<'_>, frame: &Frame);

    /// The connection is gone; nothing can be sent on it any more.
    fn closed(self: Rc<Self>, conn: &Conn);
}

/// One connection.
pub struct Conn {
    id: ConnId,
    stream: Stream,
    out: RefCell<Outbox>,
    has_out: Event,
    /// Wakes the reader when output or unanswered requests went down.
    room: Waiters,
    unanswered: Cell<usize>,
    closed: Cell<bool>,
    active: Cell<Instant>,
    calls: Calls,
    registry: Weak<Registry>,
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conn({:x} from {})", self.id.0, self.peer())
    }
}

/// Why a connection was ended by this side.
#[derive(Debug, Error)]
enum Ended {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] AssembleError),
    #[error(transparent)]
    Header(#[from] HeaderError),
}

impl Conn {
    pub(crate) fn new(id: ConnId, stream: Stream, registry: &Rc<Registry>) -> Rc<Self> {
        Rc::new(Self {
            id,
            stream,
            out: RefCell::default(),
            has_out: Event::new(),
            room: Waiters::new(),
            unanswered: Cell::new(0),
            closed: Cell::new(false),
            active: Cell::new(now()),
            calls: Calls::default(),
            registry: Rc::downgrade(registry),
        })
    }

    /// The connection's number.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.stream.peer_addr()
    }

    /// This end.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr()
    }

    /// Whether nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Lets `write` add whole frames to what goes out next. Nothing happens on a closed connection.
    pub fn send(&self, write: impl FnOnce(&mut Outbox)) {
        if self.closed.get() {
            return;
        }
        let mut out = self.out.borrow_mut();
        let before = out.len();
        write(&mut out);
        let added = out.len() - before;
        drop(out);
        if let Some(registry) = self.registry.upgrade() {
            registry.output_grew(added);
        }
        self.has_out.notify();
    }

    /// A request will be answered later: it counts against the connection's bound until [`answered`](Self::answered).
    pub fn will_answer(&self) {
        self.unanswered.set(self.unanswered.get() + 1);
    }

    /// A request that was put off is answered, or never will be.
    pub fn answered(&self) {
        self.unanswered.set(self.unanswered.get().saturating_sub(1));
        self.room.wake_all();
    }

    /// Asks the peer and waits for its answer.
    ///
    /// # Errors
    /// [`CallError`]; after a time-out or a closed connection the peer may still have done what was asked.
    pub async fn call(&self, mut command: Command, body: &[u8], within: Duration) -> Result<Response, CallError> {
        if self.closed.get() {
            return Err(CallError::Closed);
        }
        command.opaque = self.calls.next_opaque();
        let opaque = command.opaque;
        self.write_command(&command, body)?;
        self.calls.wait(opaque, within).await
    }

    /// Tells the peer something that it does not answer.
    ///
    /// # Errors
    /// When the command cannot be written as a frame.
    pub fn oneway(&self, mut command: Command, body: &[u8]) -> Result<(), CallError> {
        command.opaque = self.calls.next_opaque();
        command.flag |= FLAG_ONEWAY;
        self.write_command(&command, body)
    }

    fn write_command(&self, command: &Command, body: &[u8]) -> Result<(), CallError> {
        let mut result = Ok(());
        self.send(|out| result = out.write(|bytes| command.encode_frame(Serialize::Json, body, bytes)));
        Ok(result?)
    }

    /// Bytes that wait to be sent, behind those that are being sent.
    pub fn output_bytes(&self) -> usize {
        self.out.borrow().len()
    }

    /// Whether as much waits to be sent as this connection may have.
    pub fn is_output_full(&self) -> bool {
        let limits = self.registry.upgrade().map(|registry| registry.limits().output_high_bytes);
        !self.closed.get() && limits.is_some_and(|high| self.out.borrow().len() >= high)
    }

    /// Waits until the peer has taken enough for more answers, or the connection is closed.
    pub async fn output_room(&self) {
        self.room.until(|| (!self.is_output_full()).then_some(())).await;
    }

    /// Ends the connection: both tasks finish and the service is told.
    pub fn close(&self) {
        if !self.closed.replace(true) {
            self.stream.shutdown();
            self.calls.close();
            self.has_out.notify();
            self.room.wake_all();
        }
    }

    pub(crate) fn active_at(&self) -> Instant {
        self.active.get()
    }

    /// Whether answers wait that the peer has not taken yet.
    pub fn has_output(&self) -> bool {
        !self.out.borrow().is_empty()
    }

    fn has_room(&self, registry: &Registry) -> bool {
        let limits = registry.limits();
        self.closed.get()
            || (self.out.borrow().len() < limits.output_high_bytes && self.unanswered.get() < limits.unanswered_max)
    }
}

/// A connection holds its core no longer than this before others have their turn.
const TURN: Duration = Duration::from_micros(500);

/// While a connection is behind, its answers wait so many rounds of the shard's tasks for more: one send with those of a few
/// receive buffers costs less than one for each buffer.
const GATHER_ROUNDS: usize = 6;

/// Serves one connection until it ends.
pub(crate) async fn serve<S: Service>(conn: Rc<Conn>, service: Rc<S>, registry: Rc<Registry>) {
    let writer = spawn("connection writer", write_loop(Rc::clone(&conn), Rc::clone(&registry)));
    let ended = read_loop(&conn, &service, &registry).await;
    match ended {
        Ok(()) => tracing::debug!(peer = %conn.peer(), "the peer closed the connection"),
        Err(Ended::Io(e)) => tracing::debug!(peer = %conn.peer(), error = %e, "a connection broke"),
        Err(e) => tracing::warn!(peer = %conn.peer(), reason = %e, "closed a connection that sent no valid frame"),
    }
    conn.close();
    registry.remove(&conn);
    service.closed(&conn);
    writer.await;
}

async fn read_loop<S: Service>(conn: &Rc<Conn>, service: &Rc<S>, registry: &Registry) -> Result<(), Ended> {
    let mut frames = Assembler::new(registry.assembly());
    let mut turn = now();
    loop {
        while let Some(frame) = frames.next_frame()? {
            handle(conn, service, &frame)?;
            drop(frame);
            if !conn.has_room(registry) {
                conn.room.until(|| conn.has_room(registry).then_some(())).await;
            }
            if conn.closed.get() {
                return Ok(());
            }
        }
        let chunk = match conn.stream.try_recv() {
            Some(chunk) => {
                if now().since(turn) > TURN {
                    yield_now().await;
                    turn = now();
                }
                chunk
            }
            None => {
                if conn.stream.buffers_scarce() {
                    frames.spill();
                }
                let Some(chunk) = conn.stream.recv().await? else { return Ok(()) };
                turn = now();
                chunk
            }
        };
        conn.active.set(turn);
        frames.push(chunk);
    }
}

fn handle<S: Service>(conn: &Rc<Conn>, service: &Rc<S>, frame: &Frame) -> Result<(), Ended> {
    let view = HeaderView::parse(frame.head().serialize, frame.header())?;
    if view.is_response() {
        conn.calls.answer(Response { command: view.to_command(), body: frame.body().into_owned() });
    } else {
        Rc::clone(service).request(conn, &view, frame);
    }
    Ok(())
}

async fn write_loop(conn: Rc<Conn>, registry: Rc<Registry>) {
    let mut spare = Outbox::new();
    loop {
        conn.has_out.wait().await;
        for _ in 0..GATHER_ROUNDS {
            if !conn.stream.is_behind() {
                break;
            }
            yield_now().await;
        }
        while conn.has_output() && !conn.closed.get() {
            let out = conn.out.replace(spare);
            let len = out.len();
            let sent = timeout(registry.limits().send_stalled, conn.stream.send(out)).await;
            registry.output_shrank(len);
            match sent {
                Ok((Ok(()), back)) => spare = back,
                Ok((Err(e), _)) => {
                    tracing::debug!(peer = %conn.peer(), error = %e, "a send failed");
                    return conn.close();
                }
                Err(_) => {
                    tracing::warn!(peer = %conn.peer(), bytes = len, "closed a connection whose peer does not read");
                    return conn.close();
                }
            }
            conn.active.set(now());
            conn.room.wake_all();
        }
        if conn.closed.get() {
            registry.output_shrank(conn.out.borrow().len());
            conn.out.borrow_mut().clear();
            return;
        }
    }
}

/// Connects to a peer for calls; requests from the peer go to `service`.
///
/// # Errors
/// What the operating system says, or `TimedOut`.
pub async fn connect<S: Service>(
    addr: SocketAddr,
    within: Duration,
    service: Rc<S>,
    registry: &Rc<Registry>,
) -> io::Result<Rc<Conn>> {
    let stream = Stream::connect(addr, within).await?;
    let conn = registry.admit(stream).ok_or_else(|| io::Error::other("too many connections"))?;
    spawn("outgoing connection", serve(Rc::clone(&conn), service, Rc::clone(registry))).detach();
    Ok(conn)
}
