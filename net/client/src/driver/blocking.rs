//! The driver for plain threads: blocking sockets of std, one reading thread a connection, one connection an address.
//! Any number of threads may call at once; their requests share the connection.
//!
//! It moves bytes and wakes callers; what a request means is not its business.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::EncodeError;
use ringmq_protocol::frame::Serialize;

use super::asked::Asked;
use crate::conn::{CallId, Conn, Event, Received, Reply, Request};
use crate::error::{Disconnect, Error, Result};

/// How a driver treats its connections.
#[derive(Debug, Clone)]
pub struct Options {
    pub connect_timeout: Duration,
    /// Codec of the requests' headers.
    pub serialize: Serialize,
}

impl Default for Options {
    fn default() -> Options {
        Options { connect_timeout: Duration::from_secs(3), serialize: Serialize::Json }
    }
}

/// Takes what a server asks. Runs on the connection's reading thread: it must not call the same driver and wait.
pub type OnAsked = dyn Fn(Asked) + Send + Sync;

/// Takes the reply to a call, or how its connection ended. Runs on the connection's reading thread: it must not wait.
pub type OnAnswer = Box<dyn FnOnce(Result<Received, Disconnect>) + Send>;

/// All connections of a client, by address. Cheap to clone; the clones share the connections.
#[derive(Clone)]
pub struct Remoting {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    on_asked: Option<Box<OnAsked>>,
    channels: Mutex<HashMap<String, Arc<Channel>>>,
}

impl std::fmt::Debug for Remoting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let addrs: Vec<String> = lock(&self.shared.channels).keys().cloned().collect();
        f.debug_struct("Remoting").field("options", &self.shared.options).field("connections", &addrs).finish()
    }
}

impl Default for Remoting {
    fn default() -> Remoting {
        Remoting::new(Options::default())
    }
}

impl Remoting {
    pub fn new(options: Options) -> Remoting {
        Remoting { shared: Arc::new(Shared { options, on_asked: None, channels: Mutex::default() }) }
    }

    /// With somebody who listens to what servers ask.
    pub fn with_listener(options: Options, on_asked: Box<OnAsked>) -> Remoting {
        Remoting { shared: Arc::new(Shared { options, on_asked: Some(on_asked), channels: Mutex::default() }) }
    }

    /// Asks and waits. Replies of every code are results; see [`call`](Remoting::call) for the usual case.
    pub fn ask(&self, addr: &str, request: &Request, timeout: Duration) -> Result<Received> {
        let (sender, receiver) = mpsc::channel();
        let call = self.ask_into(addr, request, timeout, 0, sender)?;
        call.wait(&receiver, request.code)
    }

    /// Asks and waits; a reply that is not SUCCESS is an [`Error::Refused`].
    pub fn call(&self, addr: &str, request: &Request, timeout: Duration) -> Result<Received> {
        let received = self.ask(addr, request, timeout)?;
        match ResponseCode(received.command.code) {
            ResponseCode::SUCCESS => Ok(received),
            code => Err(refused(addr, request.code, code, &received)),
        }
    }

    /// Asks without waiting; the reply is sent to `answers` under `key`, so that one receiver can watch many calls.
    /// A broken connection answers its calls with the way it ended; a call that runs out of time is not answered by
    /// itself: whoever waits gives it up with [`Call::give_up`].
    pub fn ask_into(
        &self,
        addr: &str,
        request: &Request,
        timeout: Duration,
        key: usize,
        answers: Sender<Answer>,
    ) -> Result<Call> {
        let on_answer = move |answer| {
            // Whoever went away needs no answer.
            let _ = answers.send((key, answer));
        };
        self.ask_then(addr, request, timeout, Box::new(on_answer))
    }

    /// As [`ask_into`](Remoting::ask_into), with a function that takes the answer.
    pub fn ask_then(&self, addr: &str, request: &Request, timeout: Duration, on_answer: OnAnswer) -> Result<Call> {
        let channel = self.channel(addr)?;
        let id = channel.ask(request, timeout, on_answer)?;
        Ok(Call { channel, id, timeout })
    }

    /// Sends a request that nobody answers.
    pub fn oneway(&self, addr: &str, request: &Request) -> Result<()> {
        self.channel(addr)?.oneway(request)
    }

    /// Closes the connection to that address, if there is one.
    pub fn close(&self, addr: &str) {
        let channel = lock(&self.shared.channels).remove(addr);
        if let Some(channel) = channel {
            channel.shutdown();
        }
    }

    /// The connection to that address; a new one if there is none, or if the last one broke.
    fn channel(&self, addr: &str) -> Result<Arc<Channel>> {
        if let Some(channel) = self.live(addr) {
            return Ok(channel);
        }
        let fresh = Channel::open(addr, &self.shared)?;
        let mut channels = lock(&self.shared.channels);
        // Another thread may have connected meanwhile; calls of one client stay on one connection, because a broker
        // pushes to the connection on which the heartbeat came.
        match channels.get(addr) {
            Some(other) if other.is_alive() => {
                let other = Arc::clone(other);
                drop(channels);
                fresh.shutdown();
                Ok(other)
            }
            _ => {
                channels.insert(addr.to_owned(), Arc::clone(&fresh));
                Ok(fresh)
            }
        }
    }

    fn live(&self, addr: &str) -> Option<Arc<Channel>> {
        lock(&self.shared.channels).get(addr).filter(|channel| channel.is_alive()).cloned()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for channel in lock(&self.channels).values() {
            channel.shutdown();
        }
    }
}

pub(crate) fn refused(addr: &str, request: RequestCode, code: ResponseCode, received: &Received) -> Error {
    let remark = received.command.remark.clone().unwrap_or_default();
    Error::Refused { addr: addr.to_owned(), request, code, remark }
}

/// The reply to one of several calls, or how their connection ended.
pub type Answer = (usize, Result<Received, Disconnect>);

/// A call under way.
#[derive(Debug)]
pub struct Call {
    channel: Arc<Channel>,
    id: CallId,
    timeout: Duration,
}

impl Call {
    /// The address of the server that is asked.
    pub fn addr(&self) -> &str {
        &self.channel.addr
    }

    /// Forgets the call; a reply that comes later is dropped.
    pub fn give_up(&self) {
        let mut state = lock(&self.channel.state);
        state.conn.give_up(self.id);
        state.callers.remove(&self.id);
    }

    fn wait(&self, answers: &Receiver<Answer>, request: RequestCode) -> Result<Received> {
        let addr = || self.channel.addr.clone();
        match answers.recv_timeout(self.timeout) {
            Ok((_, Ok(received))) => Ok(received),
            Ok((_, Err(reason))) => Err(Error::Disconnected { addr: addr(), request, reason }),
            Err(RecvTimeoutError::Timeout) => {
                self.give_up();
                // The reply may have come between the two.
                match answers.try_recv() {
                    Ok((_, Ok(received))) => Ok(received),
                    _ => Err(Error::Timeout { addr: addr(), request, after: self.timeout }),
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::Disconnected { addr: addr(), request, reason: Disconnect::Closed })
            }
        }
    }
}

/// One connection. The state is locked for moments only; the writing half is locked while a request is written, so
/// that a slow peer holds up writers but never the reading thread.
#[derive(Debug)]
pub(super) struct Channel {
    addr: String,
    stream: TcpStream,
    writing: Mutex<()>,
    state: Mutex<State>,
    alive: AtomicBool,
}

struct State {
    conn: Conn,
    callers: HashMap<CallId, OnAnswer>,
    ended: Option<Disconnect>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let callers = self.callers.len();
        f.debug_struct("State").field("callers", &callers).field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// A write that the peer does not take for so long has failed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const READ_CHUNK: usize = 64 * 1024;

impl Channel {
    fn open(addr: &str, shared: &Arc<Shared>) -> Result<Arc<Channel>> {
        let stream = connect(addr, shared.options.connect_timeout)?;
        let failed = |reason| Error::Connect { addr: addr.to_owned(), reason };
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(failed)?;
        let reading_half = stream.try_clone().map_err(failed)?;
        let conn = Conn::new(shared.options.serialize);
        let channel = Arc::new(Channel {
            addr: addr.to_owned(),
            stream,
            writing: Mutex::default(),
            state: Mutex::new(State { conn, callers: HashMap::new(), ended: None }),
            alive: AtomicBool::new(true),
        });
        let reader = Arc::clone(&channel);
        // Weak, so that dropping the last client ends its connections.
        let client = Arc::downgrade(shared);
        let on_asked = move |asked: Asked| {
            let client = client.upgrade();
            if let Some(on_asked) = client.as_ref().and_then(|client| client.on_asked.as_deref()) {
                on_asked(asked);
            }
        };
        thread::Builder::new()
            .name("ringmq-client".to_owned())
            .spawn(move || reader.read_all(reading_half, &on_asked))
            .map_err(Error::Thread)?;
        Ok(channel)
    }

    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    fn shutdown(&self) {
        self.alive.store(false, Ordering::Release);
        // Already closed is as good.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Sends a request whose reply goes to `on_answer`.
    fn ask(&self, request: &Request, timeout: Duration, on_answer: OnAnswer) -> Result<CallId> {
        self.write(request.code, |state| {
            let id = state.conn.call(request, Instant::now() + timeout)?;
            state.callers.insert(id, on_answer);
            Ok(id)
        })
    }

    fn oneway(&self, request: &Request) -> Result<()> {
        self.write(request.code, |state| state.conn.oneway(request))
    }

    fn write<T>(&self, request: RequestCode, encode: impl FnOnce(&mut State) -> Result<T, EncodeError>) -> Result<T> {
        let disconnected = |reason| Error::Disconnected { addr: self.addr.clone(), request, reason };
        let _writing = lock(&self.writing);
        let (done, bytes) = {
            let mut state = lock(&self.state);
            if let Some(reason) = state.ended.clone() {
                return Err(disconnected(reason));
            }
            let done = encode(&mut state).map_err(|reason| Error::Encode { request, reason })?;
            (done, state.conn.take_outgoing())
        };
        (&self.stream).write_all(&bytes).map_err(|e| {
            // Half a frame may have gone out: nothing can follow it.
            self.shutdown();
            self.end(&Disconnect::Io(e.kind()));
            disconnected(Disconnect::Io(e.kind()))
        })?;
        Ok(done)
    }

    /// Answers what the server asked. A server that does not take the answer loses the connection, as with requests.
    pub(super) fn answer(&self, asked: &Received, reply: &Reply) {
        if asked.command.is_oneway() {
            return;
        }
        if let Err(error) = self.write(RequestCode(asked.command.code), |state| state.conn.answer(asked, reply)) {
            tracing::debug!(%error, "what a server asked could not be answered");
        }
    }

    pub(super) fn addr(&self) -> &str {
        &self.addr
    }

    fn read_all(self: &Arc<Channel>, mut stream: TcpStream, on_asked: &OnAsked) {
        let mut chunk = vec![0; READ_CHUNK];
        let ended = loop {
            match stream.read(&mut chunk) {
                Ok(0) => break Disconnect::Closed,
                Ok(n) => match self.take_in(&chunk[..n]) {
                    Ok(asked) => asked.into_iter().for_each(|asked| on_asked(Asked::new(Arc::clone(self), asked))),
                    Err(reason) => break reason,
                },
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Disconnect::Io(e.kind()),
            }
        };
        self.shutdown();
        self.end(&ended);
    }

    /// Answers callers and returns what the server asks itself. Callers are answered without the lock.
    fn take_in(&self, bytes: &[u8]) -> Result<Vec<Received>, Disconnect> {
        let mut asked = Vec::new();
        let mut answered = Vec::new();
        {
            let mut state = lock(&self.state);
            for event in state.conn.receive(bytes)? {
                match event {
                    Event::Reply(id, received) => answered.extend(state.callers.remove(&id).map(|to| (to, received))),
                    Event::Asked(received) => asked.push(received),
                }
            }
        }
        answered.into_iter().for_each(|(on_answer, received)| on_answer(Ok(received)));
        Ok(asked)
    }

    fn end(&self, reason: &Disconnect) {
        let callers: Vec<OnAnswer> = {
            let mut state = lock(&self.state);
            state.ended.get_or_insert_with(|| reason.clone());
            state.callers.drain().map(|(_, on_answer)| on_answer).collect()
        };
        callers.into_iter().for_each(|on_answer| on_answer(Err(reason.clone())));
    }
}

fn connect(addr: &str, timeout: Duration) -> Result<TcpStream> {
    let mut last = None;
    for candidate in resolve(addr)? {
        match TcpStream::connect_timeout(&candidate, timeout) {
            Ok(stream) => return Ok(stream),
            Err(reason) => last = Some(reason),
        }
    }
    let reason = last.unwrap_or_else(|| io::ErrorKind::NotFound.into());
    Err(Error::Connect { addr: addr.to_owned(), reason })
}

/// The addresses behind `host:port`.
pub fn resolve(addr: &str) -> Result<Vec<SocketAddr>> {
    let found = addr.to_socket_addrs().map_err(|reason| Error::Address { addr: addr.to_owned(), reason })?;
    Ok(found.collect())
}

/// A panic elsewhere leaves nothing half-changed behind these locks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
