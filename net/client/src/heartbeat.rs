//! Heartbeats: what keeps a client a member of its groups at every broker it uses. One thread a client, which sleeps
//! between beats and ends with the client.

use std::collections::HashSet;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringmq_protocol::body::HeartbeatData;
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::header::UnregisterClient;

use crate::conn::Request;
use crate::driver::blocking::{Remoting, lock};
use crate::error::{Error, Result};

/// RocketMQ's `heartbeatBrokerInterval`; a broker forgets a client that is silent for 120 s.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

const TIMEOUT: Duration = Duration::from_secs(3);

/// What the next heartbeat says.
pub(crate) type Content = dyn Fn() -> HeartbeatData + Send + Sync;

pub(crate) struct Heart {
    shared: Arc<Shared>,
    /// Dropping it ends the thread.
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    remoting: Remoting,
    content: Box<Content>,
    brokers: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for Heart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heart").field("brokers", &*lock(&self.shared.brokers)).finish_non_exhaustive()
    }
}

impl Heart {
    pub(crate) fn start(remoting: Remoting, content: Box<Content>) -> Result<Heart> {
        let shared = Arc::new(Shared { remoting, content, brokers: Mutex::default() });
        let (wake, woken) = mpsc::channel();
        let beating = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("ringmq-heartbeat".to_owned())
            .spawn(move || {
                while !matches!(woken.recv_timeout(HEARTBEAT_INTERVAL), Err(RecvTimeoutError::Disconnected)) {
                    beating.beat_all();
                }
            })
            .map_err(Error::Thread)?;
        Ok(Heart { shared, wake: Some(wake), thread: Some(thread) })
    }

    /// From now on that broker gets heartbeats, the first one before this returns. A broker that has them already
    /// gets none extra.
    pub(crate) fn introduce(&self, addr: &str) -> Result<()> {
        if lock(&self.shared.brokers).contains(addr) {
            return Ok(());
        }
        self.shared.beat(addr)?;
        lock(&self.shared.brokers).insert(addr.to_owned());
        Ok(())
    }

    /// From now on that broker gets heartbeats, the first one soon, from the heart's own thread.
    pub(crate) fn introduce_soon(&self, addr: &str) {
        let fresh = {
            let mut brokers = lock(&self.shared.brokers);
            !brokers.contains(addr) && brokers.insert(addr.to_owned())
        };
        if fresh {
            self.beat_soon();
        }
    }

    /// Tells all brokers soon that something has changed.
    pub(crate) fn beat_soon(&self) {
        if let Some(wake) = &self.wake {
            // The thread ends only with this struct.
            let _ = wake.send(());
        }
    }

    /// Tells all brokers now that something has changed.
    pub(crate) fn beat_now(&self) {
        self.shared.beat_all();
    }

    /// Leaves the groups at every broker.
    pub(crate) fn unregister(&self, header: &UnregisterClient) {
        let request = Request::new(RequestCode::UNREGISTER_CLIENT).with_ext(header.to_ext());
        let brokers: Vec<String> = lock(&self.shared.brokers).drain().collect();
        for addr in brokers {
            if let Err(error) = self.shared.remoting.call(&addr, &request, TIMEOUT) {
                tracing::debug!(%error, "a broker was not told that this client leaves; it will notice");
            }
        }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn beat_all(&self) {
        let brokers: Vec<String> = lock(&self.brokers).iter().cloned().collect();
        for addr in brokers {
            if let Err(error) = self.beat(&addr) {
                tracing::warn!(%error, "a heartbeat failed");
            }
        }
    }

    fn beat(&self, addr: &str) -> Result<()> {
        let request = Request::new(RequestCode::HEART_BEAT).with_body((self.content)().to_vec());
        self.remoting.call(addr, &request, TIMEOUT).map(|_| ())
    }
}
