//! Telling the name servers: every 30 s, at once when topics change, and again when a connection to one was lost. Each
//! name server has its own connection and fails on its own.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;

use ringmq_net::{CallError, Conn, Frame, Service};
use ringmq_protocol::code::{RequestCode, ResponseCode};
use ringmq_protocol::command::{Command, HeaderView};
use ringmq_rt::sync::{Event, Waiters, first};
use ringmq_rt::time::{sleep, timeout};
use ringmq_rt::{now, spawn, wall_ms};

use crate::control::Changes;
use crate::control_shard::ControlShard;
use crate::register::{Action, NameServer, Schedule, apply_reply};

/// A connection attempt that takes longer counts as failed.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an administrator's request waits for the name servers to know.
const REGISTERED_WAIT: Duration = Duration::from_secs(3);

/// Why a registration failed.
#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error("its name cannot be resolved: {0}")]
    Resolve(std::io::Error),
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("it refused with code {code}: {remark}")]
    Refused { code: i32, remark: String },
    #[error("the registration cannot be built: {0}")]
    Body(String),
}

#[derive(Debug)]
struct Server {
    name: String,
    conn: RefCell<Option<Rc<Conn>>>,
    /// Whether the last registration succeeded; a change of it is worth a log line.
    registered: Cell<Option<bool>>,
}

/// Keeps this broker known.
#[derive(Debug)]
pub struct Announcer {
    control: Weak<ControlShard>,
    /// By the clock that nobody sets: one that was set back would put registrations off for as long.
    schedule: RefCell<Schedule>,
    servers: Vec<Server>,
    changed: Event,
    /// Registrations that were asked for and completed, for those who wait.
    asked: Cell<u64>,
    done: Cell<u64>,
    progress: Waiters,
    stopping: Cell<bool>,
}

/// What a name server may ask of a broker: nothing that this version serves.
struct Link {
    announcer: Weak<Announcer>,
    server: NameServer,
}

impl Service for Link {
    fn request(self: Rc<Self>, conn: &Rc<Conn>, view: &HeaderView<'_>, _frame: &Frame) {
        tracing::debug!(peer = %conn.peer(), code = view.code, "ignored a name server's request");
    }

    fn closed(self: Rc<Self>, _conn: &Conn) {
        if let Some(announcer) = self.announcer.upgrade() {
            announcer.lost(self.server);
        }
    }
}

impl Announcer {
    /// Starts registering with the configured name servers.
    pub fn start(control: &Rc<ControlShard>) -> Rc<Self> {
        let settings = &control.node.settings;
        let period = i64::try_from(settings.register_period.as_millis()).unwrap_or(30_000);
        let servers: Vec<Server> = settings
            .name_servers
            .iter()
            .map(|name| Server { name: name.clone(), conn: RefCell::default(), registered: Cell::new(None) })
            .collect();
        let announcer = Rc::new(Self {
            control: Rc::downgrade(control),
            schedule: RefCell::new(Schedule::new(servers.len(), period, now().millis())),
            servers,
            changed: Event::new(),
            asked: Cell::new(0),
            done: Cell::new(0),
            progress: Waiters::new(),
            stopping: Cell::new(false),
        });
        spawn("register with name servers", Rc::clone(&announcer).run()).detach();
        announcer
    }

    /// The topics changed.
    pub fn changed(&self) {
        self.asked.set(self.asked.get() + 1);
        self.schedule.borrow_mut().changed(now().millis());
        self.changed.notify();
    }

    /// Waits until the name servers know every change made so far, or one could not be told in time.
    pub async fn registered(&self) {
        if self.servers.is_empty() {
            return;
        }
        let asked = self.asked.get();
        let told = self.progress.until(|| (self.done.get() >= asked).then_some(()));
        if timeout(REGISTERED_WAIT, told).await.is_err() {
            tracing::warn!("a name server does not know the change yet");
        }
    }

    fn lost(&self, server: NameServer) {
        if let Some(server) = self.servers.get(server.0) {
            server.conn.take();
        }
        if !self.stopping.get() {
            self.schedule.borrow_mut().reconnected(server, now().millis());
            self.changed.notify();
        }
    }

    async fn run(self: Rc<Self>) {
        while !self.stopping.get() {
            let action = self.schedule.borrow_mut().next(now().millis());
            match action {
                Action::Idle => self.changed.wait().await,
                Action::Wait(until_ms) => {
                    let left = u64::try_from(until_ms.saturating_sub(now().millis())).unwrap_or(0);
                    first(self.changed.wait(), sleep(Duration::from_millis(left))).await;
                }
                Action::Register(servers) => {
                    for server in servers {
                        spawn("register", Rc::clone(&self).register(server)).detach();
                    }
                }
            }
        }
    }

    async fn register(self: Rc<Self>, server: NameServer) {
        let asked = self.asked.get();
        let result = self.try_register(server).await;
        let succeeded = result.is_ok();
        if let Some(known) = self.servers.get(server.0)
            && known.registered.replace(Some(succeeded)) != Some(succeeded)
        {
            match &result {
                Ok(()) => tracing::info!(name_server = %known.name, "registered"),
                Err(error) => tracing::warn!(name_server = %known.name, %error, "registration failed; trying again"),
            }
        }
        self.schedule.borrow_mut().done(server, succeeded, now().millis());
        if succeeded {
            self.done.set(self.done.get().max(asked));
            self.progress.wake_all();
        }
        self.changed.notify();
    }

    async fn try_register(self: &Rc<Self>, server: NameServer) -> Result<(), RegisterError> {
        let Some(control) = self.control.upgrade() else { return Ok(()) };
        let settings = &control.node.settings;
        let conn = self.connection(server, &control).await?;
        let built = settings.identity.register(&control.tables.borrow().topics);
        let (header, body) = built.map_err(|e| RegisterError::Body(e.to_string()))?;
        let mut command = Command::request(RequestCode::REGISTER_BROKER.0, 0);
        command.ext = header.to_ext();
        let response = conn.call(command, &body, settings.register_timeout).await?;
        if response.command.code != ResponseCode::SUCCESS.0 {
            let remark = response.command.remark.unwrap_or_default();
            return Err(RegisterError::Refused { code: response.command.code, remark });
        }
        let ordered = apply_reply(&response.body, &mut control.tables.borrow_mut().topics, wall_ms());
        match ordered {
            Ok(topics) => control.apply_later(Changes { topics, ..Changes::default() }),
            Err(error) => tracing::warn!(%error, "a name server's list of ordered topics was ignored"),
        }
        Ok(())
    }

    async fn connection(
        self: &Rc<Self>,
        number: NameServer,
        control: &ControlShard,
    ) -> Result<Rc<Conn>, RegisterError> {
        let Some(server) = self.servers.get(number.0) else {
            return Err(RegisterError::Connect(std::io::ErrorKind::NotFound.into()));
        };
        let open = server.conn.borrow().clone().filter(|conn| !conn.is_closed());
        if let Some(conn) = open {
            return Ok(conn);
        }
        let addresses = ringmq_rt::net::resolve(&server.name).await.map_err(RegisterError::Resolve)?;
        let mut refused = std::io::Error::from(std::io::ErrorKind::NotFound);
        for address in addresses {
            match self.connect(number, address, control).await {
                Ok(conn) => {
                    *server.conn.borrow_mut() = Some(Rc::clone(&conn));
                    return Ok(conn);
                }
                Err(error) => refused = error,
            }
        }
        Err(RegisterError::Connect(refused))
    }

    async fn connect(
        self: &Rc<Self>,
        server: NameServer,
        address: SocketAddr,
        control: &ControlShard,
    ) -> std::io::Result<Rc<Conn>> {
        let link = Rc::new(Link { announcer: Rc::downgrade(self), server });
        ringmq_net::connect(address, CONNECT, link, &control.node.registry).await
    }

    /// Tells every name server that this broker leaves.
    pub async fn unregister(&self) {
        self.stopping.set(true);
        self.changed.notify();
        let Some(control) = self.control.upgrade() else { return };
        let header = control.node.settings.identity.unregister();
        for server in &self.servers {
            let open = server.conn.borrow().clone().filter(|conn| !conn.is_closed());
            let Some(conn) = open else { continue };
            let mut command = Command::request(RequestCode::UNREGISTER_BROKER.0, 0);
            command.ext = header.to_ext();
            if let Err(error) = conn.call(command, &[], CONNECT).await {
                tracing::warn!(name_server = %server.name, %error, "could not unregister");
            }
        }
    }
}
