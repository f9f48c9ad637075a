//! One connection of the driver: its reading thread, the callers that wait for answers, and one writer at a time.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ringmq_protocol::code::RequestCode;
use ringmq_protocol::command::EncodeError;
use ringmq_protocol::frame::Serialize;

use super::asked::Asked;
use super::blocking::{OnAnswer, OnAsked, lock};
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
#[derive(Debug)]
pub(super) struct Channel {
    addr: String,
    stream: TcpStream,
    writing: Writing,
    state: Mutex<State>,
    alive: AtomicBool,
}

struct State {
    conn: Conn,
    callers: HashMap<CallId, Caller>,
    ended: Option<Disconnect>,
    last_read: Instant,
    /// When the first of the calls was made whose time has run out since anything came.
    unanswered_since: Option<Instant>,
}

struct Caller {
    on_answer: OnAnswer,
    asked_at: Instant,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let callers = self.callers.len();
        f.debug_struct("State").field("callers", &callers).field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// A call that times out closes a connection that has been silent for so long at least: a pause of the server that is shorter
/// than that costs a call with a short time, and not everybody's connection.
const SILENCE_MIN: Duration = Duration::from_secs(1);
const READ_CHUNK: usize = 64 * 1024;

impl Channel {
    /// Starts the reading thread, which hands what the server asks to `on_asked`, and tells `on_lost` of the end.
    pub(super) fn open(
        addr: &str,
        stream: TcpStream,
        serialize: Serialize,
        on_asked: impl Fn(Asked) + Send + Sync + 'static,
        on_lost: impl FnOnce(&str) + Send + 'static,
    ) -> Result<Arc<Channel>> {
        let failed = |reason| Error::Connect { addr: addr.to_owned(), reason };
        Writing::prepare(&stream).map_err(failed)?;
        let reading_half = stream.try_clone().map_err(failed)?;
        let state = State {
            conn: Conn::new(serialize),
            callers: HashMap::new(),
            ended: None,
            last_read: Instant::now(),
            unanswered_since: None,
        };
        let channel = Arc::new(Channel {
            addr: addr.to_owned(),
            stream,
            writing: Writing::default(),
            state: Mutex::new(state),
            alive: AtomicBool::new(true),
        });
        let reader = Arc::clone(&channel);
        thread::Builder::new()
            .name("ringmq-client".to_owned())
            .spawn(move || {
                reader.read_all(reading_half, &on_asked);
                on_lost(&reader.addr);
            })
            .map_err(Error::Thread)?;
        Ok(channel)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    pub(super) fn shutdown(&self) {
        self.alive.store(false, Ordering::Release);
        // Already closed is as good.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Sends a request whose reply goes to `on_answer`. It is out before the time is over, or has failed.
    pub(super) fn ask(&self, request: &Request, time: Time, on_answer: OnAnswer) -> Result<CallId> {
        let mut asked = None;
        let written = self.write(request.code, time, |state| {
            let id = state.conn.call(request, time.deadline)?;
            state.callers.insert(id, Caller { on_answer, asked_at: Instant::now() });
            asked = Some(id);
            Ok(id)
        });
        if let (Err(Error::Timeout { .. }), Some(id)) = (&written, asked) {
            self.time_out(id);
        }
        written
    }

    pub(super) fn oneway(&self, request: &Request, time: Time) -> Result<()> {
        self.write(request.code, time, |state| state.conn.oneway(request))
    }

    fn write<T>(
        &self,
        request: RequestCode,
        time: Time,
        encode: impl FnOnce(&mut State) -> Result<T, EncodeError>,
    ) -> Result<T> {
        let disconnected = |reason| Error::Disconnected { addr: self.addr.clone(), request, reason };
        let late = || Error::Timeout { addr: self.addr.clone(), request, after: time.in_all };
        let mut writer = self.writing.take(time.deadline).ok_or_else(late)?;
        let (done, bytes) = {
            let mut state = lock(&self.state);
            if let Some(reason) = state.ended.clone() {
                return Err(disconnected(reason));
            }
            let done = encode(&mut state).map_err(|reason| Error::Encode { request, reason })?;
            (done, state.conn.take_outgoing())
        };
        let is_out = writer.write(&self.stream, &bytes, time.deadline).map_err(|e| {
            // Half a frame may have gone out: nothing can follow it.
            self.fail(&Disconnect::Io(e.kind()));
            disconnected(Disconnect::Io(e.kind()))
        })?;
        if is_out { Ok(done) } else { Err(late()) }
    }

    /// Forgets the call.
    pub(super) fn give_up(&self, id: CallId) {
        let mut state = lock(&self.state);
        state.conn.give_up(id);
        state.callers.remove(&id);
    }

    /// Forgets the call because its time is over, and closes the connection if it seems to be dead: a host that is gone, or a
    /// firewall that has forgotten the connection, says nothing for as long as the kernel tries.
    pub(super) fn time_out(&self, id: CallId) {
        let is_dead = {
            let mut state = lock(&self.state);
            state.conn.give_up(id);
            let Some(caller) = state.callers.remove(&id) else { return };
            if state.last_read >= caller.asked_at {
                return;
            }
            let first = state.unanswered_since.map_or(caller.asked_at, |since| since.min(caller.asked_at));
            state.unanswered_since = Some(first);
            first.elapsed() >= SILENCE_MIN
        };
        if is_dead {
            tracing::debug!(addr = self.addr, "nothing comes from the server, the connection is closed");
            self.fail(&Disconnect::Silent);
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
        self.fail(&ended);
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

    /// Ends the connection, and tells those who wait for answers before the reading thread learns of it.
    fn fail(&self, reason: &Disconnect) {
        self.alive.store(false, Ordering::Release);
        self.end(reason);
        self.shutdown();
    }

    fn end(&self, reason: &Disconnect) {
        let callers: Vec<OnAnswer> = {
            let mut state = lock(&self.state);
            state.ended.get_or_insert_with(|| reason.clone());
            state.callers.drain().map(|(_, caller)| caller.on_answer).collect()
        };
        callers.into_iter().for_each(|on_answer| on_answer(Err(reason.clone())));
    }
}
