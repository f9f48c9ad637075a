//! The driver for plain threads: blocking sockets of std, one connection an address, one thread that reads it, and before
//! that one for a moment that connects. Any number of threads may call at once; their requests share the connection.
//!
//! It moves bytes and wakes callers; what a request means is not its business.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::frame::Serialize;

use super::asked::Asked;
use super::channel::{Channel, Time};
use super::connecting::Connecting;
use super::lookup::Lookups;
use super::writing::WRITE_TIMEOUT;
use crate::conn::{CallId, Received, Request};
use crate::error::{Disconnect, Error, Result};

/// How a driver treats its connections.
#[derive(Debug, Clone)]
pub struct Options {
    /// For a new connection, the look-up of the host's name included; a call that has less time gives up sooner. An address
    /// that has not answered within it is left alone for up to 15 s: calls to it fail at once.
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

/// Takes the reply to a call, or why there is none. Runs on one of the connection's threads, or on that of a caller that
/// found the connection broken: it must not wait.
pub type OnAnswer = Box<dyn FnOnce(Result<Received>) + Send>;

/// Learns that the connection to an address ends, before those who use it do; perhaps twice. Runs on any thread: it must not
/// wait.
pub(crate) type OnLost = dyn Fn(&str) + Send + Sync;

/// All connections of a client, by address. Cheap to clone; the clones share the connections.
#[derive(Clone)]
pub struct Remoting {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    on_asked: Option<Box<OnAsked>>,
    on_lost: OnceLock<Box<OnLost>>,
    channels: Mutex<HashMap<String, Arc<Channel>>>,
    connecting: Arc<Connecting>,
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
    /// Without connections yet; what servers ask is not listened to.
    pub fn new(options: Options) -> Remoting {
        Remoting::of(options, None, Lookups::of_process())
    }

    /// With somebody who listens to what servers ask.
    pub fn with_listener(options: Options, on_asked: Box<OnAsked>) -> Remoting {
        Remoting::of(options, Some(on_asked), Lookups::of_process())
    }

    fn of(options: Options, on_asked: Option<Box<OnAsked>>, lookups: Arc<Lookups>) -> Remoting {
        let connecting = Arc::new(Connecting::new(lookups));
        Remoting {
            shared: Arc::new(Shared {
                options,
                on_asked,
                on_lost: OnceLock::new(),
                channels: Mutex::default(),
                connecting,
            }),
        }
    }

    /// From now on that function learns of connections that end; the first one that is given.
    pub(crate) fn on_lost(&self, on_lost: Box<OnLost>) {
        let _ = self.shared.on_lost.set(on_lost);
    }

    /// Asks and waits, `timeout` in all: for a new connection if one is needed, for its turn to write, and for the reply. Replies
    /// of every code are results; see [`call`](Remoting::call) for the usual case.
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
    /// A connection that breaks, or cannot be made, answers its calls with the way it ended; a call that runs out of time is not
    /// answered by itself: whoever waits ends it with [`Call::time_out`].
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
        let time = Time::of(timeout);
        let channel = self.channel(addr, request.code, time)?;
        let id = channel.ask(request, time, on_answer)?;
        Ok(Call { channel, id, time })
    }

    /// Sends a request that nobody answers. Waits for a new connection if one is needed.
    pub fn oneway(&self, addr: &str, request: &Request) -> Result<()> {
        self.oneway_within(addr, request, WRITE_TIMEOUT)
    }

    pub(crate) fn oneway_within(&self, addr: &str, request: &Request, timeout: Duration) -> Result<()> {
        let time = Time::of(timeout);
        self.channel(addr, request.code, time)?.oneway(request, time)
    }

    /// Closes the connection to that address, if there is one.
    pub fn close(&self, addr: &str) {
        let channel = lock(&self.shared.channels).remove(addr);
        if let Some(channel) = channel {
            channel.shutdown();
        }
    }

    /// The connection to that address; a new one if there is none, or if the last one broke. It may not be there yet. Calls of
    /// one client stay on one connection, because a broker pushes to the connection on which the heartbeat came.
    fn channel(&self, addr: &str, request: RequestCode, time: Time) -> Result<Arc<Channel>> {
        let mut channels = lock(&self.shared.channels);
        if let Some(channel) = channels.get(addr).filter(|channel| channel.is_alive()) {
            return Ok(Arc::clone(channel));
        }
        if time.left().is_zero() {
            return Err(Error::Timeout { addr: addr.to_owned(), request, after: time.in_all });
        }
        if let Some(failed) = self.shared.connecting.resting(addr) {
            return Err(failed.error(addr));
        }
        let (connecting, patience) = (Arc::clone(&self.shared.connecting), self.shared.options.connect_timeout);
        // Weak, so that dropping the last client ends its connections.
        let client = Arc::downgrade(&self.shared);
        let owner = Arc::downgrade(&self.shared);
        let on_asked = move |asked: Asked| {
            let client = client.upgrade();
            if let Some(on_asked) = client.as_ref().and_then(|client| client.on_asked.as_deref()) {
                on_asked(asked);
            }
        };
        let on_lost = Box::new(move |addr: &str| {
            let owner = owner.upgrade();
            if let Some(on_lost) = owner.as_ref().and_then(|owner| owner.on_lost.get()) {
                on_lost(addr);
            }
        });
        let connect = move |addr: &str| connecting.connect(addr, patience);
        let channel = Channel::open(addr, self.shared.options.serialize, connect, on_asked, on_lost)?;
        channels.insert(addr.to_owned(), Arc::clone(&channel));
        Ok(channel)
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

/// The reply to one of several calls, or why there is none.
pub type Answer = (usize, Result<Received>);

/// A call under way.
#[derive(Debug)]
pub struct Call {
    channel: Arc<Channel>,
    id: CallId,
    time: Time,
}

impl Call {
    /// The address of the server that is asked.
    pub fn addr(&self) -> &str {
        self.channel.addr()
    }

    /// Forgets the call; a reply that comes later is dropped.
    pub fn give_up(&self) {
        self.channel.give_up(self.id);
    }

    /// Forgets the call because its time is over. A connection on which nothing at all has come since it was asked is taken
    /// for dead and closed, so that the next call connects anew.
    pub fn time_out(&self) {
        self.channel.time_out(self.id);
    }

    fn wait(&self, answers: &Receiver<Answer>, request: RequestCode) -> Result<Received> {
        let late = || Error::Timeout { addr: self.addr().to_owned(), request, after: self.time.in_all };
        match answers.recv_timeout(self.time.left()) {
            Ok((_, answer)) => answer,
            Err(RecvTimeoutError::Timeout) => {
                self.time_out();
                // The reply may have come between the two.
                answers.try_recv().ok().and_then(|(_, answer)| answer.ok()).ok_or_else(late)
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::Disconnected { addr: self.addr().to_owned(), request, reason: Disconnect::Closed })
            }
        }
    }
}

/// A panic elsewhere leaves nothing half-changed behind these locks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::lookup::tests::hanging;
    use super::*;

    #[test]
    fn a_host_name_that_is_not_looked_up_costs_a_call_its_time_and_no_more() {
        let (hanging, lookups) = hanging();
        hanging.set(true);
        let remoting = Remoting::of(Options::default(), None, lookups);
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || {
            let request = Request::new(RequestCode::GET_BROKER_CONFIG);
            let _ = sender.send(remoting.call("host:1", &request, Duration::from_millis(50)).map(|_| ()));
            let _ = sender.send(remoting.oneway_within("host:1", &request, Duration::from_millis(50)));
        });
        for _ in 0..2 {
            let error = ended.recv_timeout(Duration::from_secs(60)).unwrap().unwrap_err();
            assert!(matches!(error, Error::Timeout { .. }), "{error}");
        }
        hanging.set(false);
    }
}
