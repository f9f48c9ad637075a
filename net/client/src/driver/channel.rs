//! One connection of the driver: its reading thread, the callers that wait for answers, and one writer at a time.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
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
use crate::conn::{CallId, Conn, Event, Received, Reply, Request};
use crate::error::{Disconnect, Error, Result};

/// One connection. The state is locked for moments only; the writing half is locked while a frame is written, so that a slow
/// peer holds up those who write. The reading thread is one of them while it answers what the server asked.
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

/// A write that the peer does not take for so long has failed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A call that times out closes a connection that has been silent for so long at least: a pause of the server that is shorter
/// than that costs a call with a short time, and not everybody's connection.
const SILENCE_MIN: Duration = Duration::from_secs(1);
const READ_CHUNK: usize = 64 * 1024;

impl Channel {
    /// Starts the reading thread, which hands what the server asks to `on_asked`.
    pub(super) fn open(
        addr: &str,
        stream: TcpStream,
        serialize: Serialize,
        on_asked: impl Fn(Asked) + Send + Sync + 'static,
    ) -> Result<Arc<Channel>> {
        let failed = |reason| Error::Connect { addr: addr.to_owned(), reason };
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(failed)?;
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
            writing: Mutex::default(),
            state: Mutex::new(state),
            alive: AtomicBool::new(true),
        });
        let reader = Arc::clone(&channel);
        thread::Builder::new()
            .name("ringmq-client".to_owned())
            .spawn(move || reader.read_all(reading_half, &on_asked))
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

    /// Sends a request whose reply goes to `on_answer`.
    pub(super) fn ask(&self, request: &Request, timeout: Duration, on_answer: OnAnswer) -> Result<CallId> {
        self.write(request.code, |state| {
            let asked_at = Instant::now();
            let id = state.conn.call(request, asked_at + timeout)?;
            state.callers.insert(id, Caller { on_answer, asked_at });
            Ok(id)
        })
    }

    pub(super) fn oneway(&self, request: &Request) -> Result<()> {
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
            self.fail(&Disconnect::Io(e.kind()));
            disconnected(Disconnect::Io(e.kind()))
        })?;
        Ok(done)
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
