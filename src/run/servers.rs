//! The servers of this process: started one after the other, ended in the reverse order, by a signal or because one of
//! them ended by itself.
//!
//! Everything that happens arrives as an event on one channel: a thread waits for signals, one for the end of each
//! server, and the shards themselves say that they are alive. The main thread decides, and tells the service manager.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use ringmq_broker::settings::Settings;
use ringmq_broker::start::{self, Ready};
use ringmq_namesrv::serve::{Options, serve};
use ringmq_rt::Heartbeat;
use ringmq_rt::host::{self, Stop};
use tracing::{error, info, warn};

use super::manager::Manager;
use crate::failure::Failure;

#[derive(Debug)]
enum Event {
    Signal,
    NamesrvServes(Vec<SocketAddr>),
    BrokerRegistered,
    BrokerServes(Ready),
    /// Every shard of the server took a turn since it last said so.
    Alive(Server),
    Ended(Server, Result<(), String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Namesrv,
    Broker,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Server::Namesrv => "name server",
            Server::Broker => "broker",
        }
    }
}

/// The servers of this process.
#[derive(Debug)]
pub(crate) struct Servers {
    tell: Sender<Event>,
    events: Receiver<Event>,
    /// In the order started.
    running: Vec<(Server, Stop)>,
    manager: Manager,
    is_asked_to_end: bool,
    failure: Option<Failure>,
}

impl Servers {
    /// None yet. From here on signals end the servers and not the process; no thread may have been started before.
    pub(crate) fn new() -> Result<Servers, Failure> {
        let cannot = |error| Failure::refused(format!("signals cannot be waited for: {error}"));
        host::block_termination().map_err(cannot)?;
        let (tell, events) = mpsc::channel();
        let signal = tell.clone();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                match host::wait_termination() {
                    Ok(()) => info!("asked to end by a signal"),
                    Err(error) => error!(%error, "signals cannot be waited for"),
                }
                // At the end of the process nobody listens any more.
                let _ = signal.send(Event::Signal);
            })
            .map_err(cannot)?;
        Ok(Servers {
            tell,
            events,
            running: Vec::new(),
            manager: Manager::from_environment(),
            is_asked_to_end: false,
            failure: None,
        })
    }

    /// From here on the end of standard input is taken as a signal.
    pub(crate) fn end_with_input(&mut self) {
        let ended = self.tell.clone();
        let _spawned = self.spawn("input", move || {
            match io::copy(&mut io::stdin().lock(), &mut io::sink()) {
                Ok(_) => info!("asked to end by the end of the input"),
                Err(error) => warn!(%error, "the input cannot be read and counts as ended"),
            }
            let _ = ended.send(Event::Signal);
        });
    }

    /// Starts the name server and waits until it serves. `None` when it is time to end instead.
    pub(crate) fn start_namesrv(&mut self, core: Option<usize>, mut options: Options) -> Option<SocketAddr> {
        let stop = Stop::new();
        // The channel of the first registration becomes an event, through a thread that ends with it.
        let (registered, first) = mpsc::channel();
        options.first_registered = Some(registered);
        options.heartbeat = self.heartbeat(Server::Namesrv, 1);
        let (serves, stopping, broker_registered) = (self.tell.clone(), stop.clone(), self.tell.clone());
        let started = host::start(core, move || {
            serve(options, stopping, move |bound| {
                let _ = serves.send(Event::NamesrvServes(bound));
            })
        });
        let shard = self.ok(started)?;
        self.wait_for_end(Server::Namesrv, stop, move || {
            let ended = shard.join().map_err(|error| error.to_string());
            ended.and_then(|served| served.map_err(|error| error.to_string()))
        })?;
        self.spawn("registrations", move || {
            if first.recv().is_ok() {
                let _ = broker_registered.send(Event::BrokerRegistered);
            }
        })?;
        self.until(None, |event| match event {
            Event::NamesrvServes(bound) => bound.first().copied(),
            _ => None,
        })
    }

    /// Starts the broker and waits until it serves. `None` when it is time to end instead.
    pub(crate) fn start_broker(&mut self, mut settings: Settings) -> Option<Ready> {
        settings.heartbeat = self.heartbeat(Server::Broker, settings.cores.len());
        let stop = Stop::new();
        let serves = self.tell.clone();
        let started = start::start(settings, &stop, move |ready| {
            let _ = serves.send(Event::BrokerServes(ready));
        });
        let broker = self.ok(started)?;
        self.wait_for_end(Server::Broker, stop, move || broker.join())?;
        self.until(None, |event| match event {
            Event::BrokerServes(ready) => Some(ready.clone()),
            _ => None,
        })
    }

    /// Waits until a broker registered with the name server of this process. `None` when it is time to end instead, or
    /// the time is up.
    pub(crate) fn wait_registered(&mut self, within: Duration) -> Option<()> {
        self.until(Some(Instant::now() + within), |event| matches!(event, Event::BrokerRegistered).then_some(()))
    }

    /// Tells the service manager that everything serves.
    pub(crate) fn say_ready(&self) {
        if !self.is_ending() {
            self.manager.say_ready();
        }
    }

    fn heartbeat(&self, server: Server, shards: usize) -> Option<Heartbeat> {
        let alive = self.tell.clone();
        self.manager.heartbeat(shards, move || {
            // At the end of the process nobody listens any more.
            let _ = alive.send(Event::Alive(server));
        })
    }

    /// Whether it is time to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_asked_to_end || self.failure.is_some()
    }

    /// Waits for a signal or the end of a server, then ends the others, the last started first. What failed first is
    /// the outcome.
    pub(crate) fn run_until_end(mut self) -> Result<(), Failure> {
        while !self.is_ending() {
            self.next(None);
        }
        self.manager.say_stopping();
        while let Some((server, stop)) = self.running.last().cloned() {
            info!(server = server.name(), "stopping");
            stop.request();
            while self.running.iter().any(|(running, _)| *running == server) {
                self.next(None);
            }
            info!(server = server.name(), "stopped");
        }
        self.failure.map_or(Ok(()), Err)
    }

    fn ok<T>(&mut self, result: Result<T, impl std::fmt::Display>) -> Option<T> {
        result.map_err(|error| self.fail(Failure::refused(error))).ok()
    }

    fn fail(&mut self, failure: Failure) {
        // What follows from the first failure does not explain it.
        self.failure.get_or_insert(failure);
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Option<()> {
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
        self.ok(spawned.map_err(|error| format!("a thread cannot be started: {error}"))).map(drop)
    }

    fn wait_for_end(
        &mut self,
        server: Server,
        stop: Stop,
        join: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) -> Option<()> {
        let ended = self.tell.clone();
        self.spawn(server.name(), move || {
            let _ = ended.send(Event::Ended(server, join()));
        })?;
        self.running.push((server, stop));
        Some(())
    }

    /// Takes events until one is what is waited for.
    fn until<T>(&mut self, deadline: Option<Instant>, wanted: impl Fn(&Event) -> Option<T>) -> Option<T> {
        while !self.is_ending() {
            let event = self.next(deadline)?;
            if let Some(found) = wanted(&event) {
                return Some(found);
            }
        }
        None
    }

    /// The next event, taken into account. `None` when the time is up.
    fn next(&mut self, deadline: Option<Instant>) -> Option<Event> {
        let received = match deadline {
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        };
        let event = match received {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("this struct holds a sender"),
        };
        match &event {
            Event::Signal => self.is_asked_to_end = true,
            Event::Ended(server, outcome) => {
                self.running.retain(|(running, _)| running != server);
                match outcome {
                    Err(why) => self.fail(Failure::refused(format!("{}: {why}", server.name()))),
                    Ok(()) if !self.is_ending() => {
                        self.fail(Failure::refused(format!("the {} ended by itself", server.name())));
                    }
                    Ok(()) => {}
                }
            }
            Event::Alive(server) => {
                let running: Vec<Server> = self.running.iter().map(|(running, _)| *running).collect();
                self.manager.is_alive(*server, &running);
            }
            Event::NamesrvServes(_) | Event::BrokerServes(_) | Event::BrokerRegistered => {}
        }
        Some(event)
    }
}
