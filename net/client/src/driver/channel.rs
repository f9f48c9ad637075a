//! One connection of the driver: the thread that connects, the one that reads, the callers that wait for answers, and one
//! writer at a time. What is asked before the connection is there goes out once it is; nobody waits for a host but those
//! who ask it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read as _};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ringmq_protocol::code::RequestCode;
use ringmq_protocol::command::EncodeError;
use ringmq_protocol::frame::Serialize;

use super::asked::Asked;
use super::blocking::{OnAnswer, OnAsked, OnLost, lock};
use super::connecting::Unconnected;
use super::writing::{WRITE_TIMEOUT, Writing};
use crate::conn::{CallId, Conn, Event, Received, Reply, Request};
use crate::error::{Disconnect, Error, Result};

/// The time of a call, from the look for a connection to the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    pub(super) in_all: Duration,
    pub(super) deadline: Instant,
}

impl Time {
    pub(super) fn of(in_all: Duration) -> Time {
        Time { in_all, deadline: Instant::now() + in_all }
    }

    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// One connection. The state is locked for moments only; writers take turns, so that a slow peer holds up those who write,
/// for as long as they have time. The reading thread is one of them while it answers what the server asked.
pub(super) struct Channel {
    addr: String,
    /// Once connected. Set under the lock of the state.
    stream: OnceLock<TcpStream>,
    writing: Writing,
    state: Mutex<State>,
    /// It is connected, or has ended.
    settled: Condvar,
    alive: AtomicBool,
    on_lost: Box<OnLost>,
}

struct State {
    conn: Conn,
    callers: HashMap<CallId, Caller>,
    ahead: Ahead,
    ended: Option<End>,
    last_read: Instant,
    /// When the first of the calls was made whose time has run out since anything came.
    unanswered_since: Option<Instant>,
}

struct Caller {
    request: RequestCode,
    on_answer: OnAnswer,
    asked_at: Instant,
}

/// What is asked before the connection is there.
#[derive(Default)]
struct Ahead {
    frames: VecDeque<Frame>,
    bytes: usize,
}

struct Frame {
    id: CallId,
    bytes: Vec<u8>,
    deadline: Instant,
}

impl Ahead {
    fn push(&mut self, frame: Frame) {
        self.bytes += frame.bytes.len();
        self.frames.push_back(frame);
    }

    fn remove(&mut self, id: CallId) {
        if let Some(at) = self.frames.iter().position(|frame| frame.id == id)
            && let Some(frame) = self.frames.remove(at)
        {
            self.bytes -= frame.bytes.len();
        }
    }
}

#[derive(Debug, Clone)]
enum End {
    Unconnected(Unconnected),
    Broke(Disconnect),
}

impl End {
    fn error(&self, addr: &str, request: RequestCode) -> Error {
        match self {
            End::Unconnected(why) => why.error(addr),
            End::Broke(reason) => Error::Disconnected { addr: addr.to_owned(), request, reason: reason.clone() },
        }
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("addr", &self.addr).field("alive", &self.alive).finish_non_exhaustive()
    }
}

/// A call that times out closes a connection that has been silent for so long at least: a pause of the server that is shorter
/// than that costs a call with a short time, and not everybody's connection.
const SILENCE_MIN: Duration = Duration::from_secs(1);
const READ_CHUNK: usize = 64 * 1024;

/// Of requests that wait for one connection; who asks more waits for it as well.
const AHEAD_BYTES_MAX: usize = 64 << 20;

impl Channel {
    /// Begins to connect. Once connected, a thread hands what the server asks to `on_asked`; `on_lost` is told of the end.
    pub(super) fn open(
        addr: &str,
        serialize: Serialize,
        connect: impl FnOnce(&str) -> Result<TcpStream, Unconnected> + Send + 'static,
        on_asked: impl Fn(Asked) + Send + Sync + 'static,
        on_lost: Box<OnLost>,
    ) -> Result<Arc<Channel>> {
        let state = State {
            conn: Conn::new(serialize),
            callers: HashMap::new(),
            ahead: Ahead::default(),
            ended: None,
            last_read: Instant::now(),
            unanswered_since: None,
        };
        let channel = Arc::new(Channel {
            addr: addr.to_owned(),
            stream: OnceLock::new(),
            writing: Writing::default(),
            state: Mutex::new(state),
            settled: Condvar::new(),
            alive: AtomicBool::new(true),
            on_lost,
        });
        let connecting = Arc::clone(&channel);
        let run = move || {
            let connected = connect(&connecting.addr);
            if let Err(why) = connected.and_then(|stream| connecting.begin(stream, on_asked)) {
                connecting.fail(&End::Unconnected(why));
            }
        };
        thread::Builder::new().name("ringmq-connect".to_owned()).spawn(run).map_err(Error::Thread)?;
        Ok(channel)
    }

    /// Lets everybody write, what was asked before first.
    fn begin(
        self: &Arc<Channel>,
        stream: TcpStream,
        on_asked: impl Fn(Asked) + Send + Sync + 'static,
    ) -> Result<(), Unconnected> {
        let failed = |reason| Unconnected::Connect(Arc::new(reason));
        Writing::prepare(&stream).map_err(failed)?;
        let reading_half = stream.try_clone().map_err(failed)?;
        // Nobody else writes before there is a stream.
        let writer = self.writing.take(Instant::now());
        let ahead = {
            let mut state = lock(&self.state);
            if state.ended.is_some() {
                return Ok(());
            }
            state.last_read = Instant::now();
            // It is set here only.
            let _ = self.stream.set(stream);
            mem::take(&mut state.ahead)
        };
        self.settled.notify_all();
        let reader = Arc::clone(self);
        let read = move || reader.read_all(reading_half, &on_asked);
        let reads = thread::Builder::new().name("ringmq-client".to_owned()).spawn(read);
        reads.map_err(|reason| Unconnected::Thread(Arc::new(reason)))?;
        if let (Some(mut writer), Some(stream)) = (writer, self.stream.get()) {
            for Frame { id, bytes, deadline } in ahead.frames {
                // Whoever waits for one that there was no time for gives it up.
                if deadline <= Instant::now() || !lock(&self.state).callers.contains_key(&id) {
                    continue;
                }
                if let Err(reason) = writer.write(stream, &bytes, deadline) {
                    self.fail(&End::Broke(Disconnect::Io(reason.kind())));
                    break;
                }
            }
        }
        Ok(())
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    pub(super) fn shutdown(&self) {
        self.fail(&End::Broke(Disconnect::Closed));
    }

    /// Sends a request whose reply goes to `on_answer`. It is out before the time is over, or waits for the connection, or has
    /// failed.
    pub(super) fn ask(&self, request: &Request, time: Time, on_answer: OnAnswer) -> Result<CallId> {
        let is_full = |state: &State| state.ahead.bytes >= AHEAD_BYTES_MAX;
        {
            let mut state = self.wait_while(is_full, request.code, time)?;
            if self.stream.get().is_none() {
                let id = state.call(request, time, on_answer).map_err(|e| unencoded(request.code, e))?;
                let bytes = state.conn.take_outgoing();
                state.ahead.push(Frame { id, bytes, deadline: time.deadline });
                return Ok(id);
            }
        }
        let mut asked = None;
        let written = self.write(request.code, time, |state| {
            let id = state.call(request, time, on_answer)?;
            asked = Some(id);
            Ok(id)
        });
        if let (Err(Error::Timeout { .. }), Some(id)) = (&written, asked) {
            self.time_out(id);
        }
        written
    }

    /// Waits for the connection, so that its end is known here.
    pub(super) fn oneway(&self, request: &Request, time: Time) -> Result<()> {
        drop(self.wait_while(|_| self.stream.get().is_none(), request.code, time)?);
        self.write(request.code, time, |state| state.conn.oneway(request))
    }

    /// Waits until the connection is there, or until that is so no more.
    fn wait_while(
        &self,
        is_so: impl Fn(&State) -> bool,
        request: RequestCode,
        time: Time,
    ) -> Result<MutexGuard<'_, State>> {
        let mut state = lock(&self.state);
        loop {
            if let Some(end) = &state.ended {
                return Err(end.error(&self.addr, request));
            }
            if self.stream.get().is_some() || !is_so(&state) {
                return Ok(state);
            }
            let left = time.left();
            if left.is_zero() {
                return Err(self.late(request, time));
            }
            state = self.settled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn late(&self, request: RequestCode, time: Time) -> Error {
        Error::Timeout { addr: self.addr.clone(), request, after: time.in_all }
    }

    /// There is a connection.
    fn write<T>(
        &self,
        request: RequestCode,
        time: Time,
        encode: impl FnOnce(&mut State) -> Result<T, EncodeError>,
    ) -> Result<T> {
        let late = || self.late(request, time);
        let stream = self.stream.get().ok_or_else(late)?;
        let mut writer = self.writing.take(time.deadline).ok_or_else(late)?;
        let (done, bytes) = {
            let mut state = lock(&self.state);
            if let Some(end) = &state.ended {
                return Err(end.error(&self.addr, request));
            }
            let done = encode(&mut state).map_err(|reason| unencoded(request, reason))?;
            (done, state.conn.take_outgoing())
        };
        let is_out = writer.write(stream, &bytes, time.deadline).map_err(|e| {
            // Half a frame may have gone out: nothing can follow it.
            let end = End::Broke(Disconnect::Io(e.kind()));
            self.fail(&end);
            end.error(&self.addr, request)
        })?;
        if is_out { Ok(done) } else { Err(late()) }
    }

    /// Forgets the call.
    pub(super) fn give_up(&self, id: CallId) {
        let mut state = lock(&self.state);
        state.forget(id);
    }

    /// Forgets the call because its time is over, and closes the connection if it seems to be dead: a host that is gone, or a
    /// firewall that has forgotten the connection, says nothing for as long as the kernel tries.
    pub(super) fn time_out(&self, id: CallId) {
        let is_dead = {
            let mut state = lock(&self.state);
            let Some(caller) = state.forget(id) else { return };
            // One that is not connected yet ends by itself.
            if self.stream.get().is_none() || state.last_read >= caller.asked_at {
                return;
            }
            let first = state.unanswered_since.map_or(caller.asked_at, |since| since.min(caller.asked_at));
            state.unanswered_since = Some(first);
            first.elapsed() >= SILENCE_MIN
        };
        if is_dead {
            tracing::debug!(addr = self.addr, "nothing comes from the server, the connection is closed");
            self.fail(&End::Broke(Disconnect::Silent));
        }
    }

    /// Answers what the server asked. A server that does not take the answer loses the connection, as with requests.
    pub(super) fn answer(&self, asked: &Received, reply: &Reply) {
        if asked.command.is_oneway() {
            return;
        }
        let code = RequestCode(asked.command.code);
        if let Err(error) = self.write(code, Time::of(WRITE_TIMEOUT), |state| state.conn.answer(asked, reply)) {
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
        self.fail(&End::Broke(ended));
    }

    /// Answers callers and returns what the server asks itself. Callers are answered without the lock.
    fn take_in(&self, bytes: &[u8]) -> Result<Vec<Received>, Disconnect> {
        let mut asked = Vec::new();
        let mut answered = Vec::new();
        {
            let mut state = lock(&self.state);
            (state.last_read, state.unanswered_since) = (Instant::now(), None);
            for event in state.conn.receive(bytes)? {
                match event {
                    Event::Reply(id, received) => {
                        answered.extend(state.callers.remove(&id).map(|to| (to.on_answer, received)));
                    }
                    Event::Asked(received) => asked.push(received),
                }
            }
        }
        answered.into_iter().for_each(|(on_answer, received)| on_answer(Ok(received)));
        Ok(asked)
    }

    /// Ends the connection, and tells those who wait for answers before the reading thread learns of it. Whoever finds that it
    /// has ended finds that it is known to be lost.
    fn fail(&self, end: &End) {
        if self.is_alive() && self.stream.get().is_some() {
            (self.on_lost)(&self.addr);
        }
        self.alive.store(false, Ordering::Release);
        let callers: Vec<Caller> = {
            let mut state = lock(&self.state);
            state.ended.get_or_insert_with(|| end.clone());
            state.ahead = Ahead::default();
            state.callers.drain().map(|(_, caller)| caller).collect()
        };
        self.settled.notify_all();
        callers.into_iter().for_each(|caller| (caller.on_answer)(Err(end.error(&self.addr, caller.request))));
        if let Some(stream) = self.stream.get() {
            // Already closed is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn call(&mut self, request: &Request, time: Time, on_answer: OnAnswer) -> Result<CallId, EncodeError> {
        let id = self.conn.call(request, time.deadline)?;
        self.callers.insert(id, Caller { request: request.code, on_answer, asked_at: Instant::now() });
        Ok(id)
    }

    fn forget(&mut self, id: CallId) -> Option<Caller> {
        self.conn.give_up(id);
        self.ahead.remove(id);
        self.callers.remove(&id)
    }
}

fn unencoded(request: RequestCode, reason: EncodeError) -> Error {
    Error::Encode { request, reason }
}
