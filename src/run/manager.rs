//! The service manager: told when the servers serve, when they stop, and, where it watches, that they are alive.
//!
//! It asks for a sign of life in `WATCHDOG_USEC`. The sign begins on the shards: each says on its own thread that it
//! took a turn, and only when every shard of every server has said so does the manager hear of it. A shard that hangs
//! silences the whole process, and it is started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringmq_rt::Heartbeat;
use sd_notify::NotifyState;
use tracing::{info, warn};

use super::servers::Server;

/// Who watches this process, if anybody does.
#[derive(Debug)]
pub(super) struct Manager {
    /// How long it waits for a sign of life.
    patience: Option<Duration>,
    /// Servers that were alive since the last sign.
    alive: Vec<Server>,
}

/// Signs in the time that the manager waits: one may come late and the next still saves the process.
const SIGNS: u32 = 4;

impl Manager {
    pub(super) fn from_environment() -> Manager {
        let patience = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero());
        if let Some(patience) = patience {
            info!(?patience, "the service manager wants signs of life");
        }
        Manager { patience, alive: Vec::new() }
    }

    /// The heartbeat of a server; `alive` is called on a shard whenever all of them took a turn.
    pub(super) fn heartbeat(&self, shards: usize, alive: impl Fn() + Send + Sync + 'static) -> Option<Heartbeat> {
        let turns = Turns::new(shards);
        let beat = move |shard| {
            if turns.taken(shard) {
                alive();
            }
        };
        Some(Heartbeat::new(self.patience? / SIGNS, beat))
    }

    pub(super) fn say_ready(&self) {
        say(NotifyState::Ready);
    }

    pub(super) fn say_stopping(&self) {
        say(NotifyState::Stopping);
    }

    /// One of the servers that run is alive. When all are, the manager hears of it.
    pub(super) fn is_alive(&mut self, server: Server, running: &[Server]) {
        if !self.alive.contains(&server) {
            self.alive.push(server);
        }
        if running.iter().all(|one| self.alive.contains(one)) {
            self.alive.clear();
            say(NotifyState::Watchdog);
        }
    }
}

/// Without a manager this does nothing.
fn say(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "the service manager cannot be told (NOTIFY_SOCKET)");
    }
}

/// Which shards took a turn since all of them last had.
#[derive(Debug, Clone)]
struct Turns(Arc<[AtomicBool]>);

impl Turns {
    fn new(shards: usize) -> Turns {
        Turns((0..shards).map(|_| AtomicBool::new(false)).collect())
    }

    /// A shard took one; whether it was the last of them.
    fn taken(&self, shard: usize) -> bool {
        if let Some(turn) = self.0.get(shard) {
            turn.store(true, Ordering::SeqCst);
        }
        let all = self.0.iter().all(|turn| turn.load(Ordering::SeqCst));
        if all {
            self.0.iter().for_each(|turn| turn.store(false, Ordering::SeqCst));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_silent_shard_silences_all() {
        let turns = Turns::new(3);
        for _ in 0..5 {
            assert!(!turns.taken(0) && !turns.taken(2), "shard 1 said nothing");
        }
        assert!(turns.taken(1));
        assert!(!turns.taken(1), "it begins anew");
    }

    #[test]
    fn a_server_that_is_not_alive_silences_the_others() {
        let mut manager = Manager { patience: None, alive: Vec::new() };
        let both = [Server::Namesrv, Server::Broker];
        manager.is_alive(Server::Broker, &both);
        manager.is_alive(Server::Broker, &both);
        assert_eq!(manager.alive, [Server::Broker], "the name server said nothing");
        manager.is_alive(Server::Namesrv, &both);
        assert!(manager.alive.is_empty());
        assert!(manager.heartbeat(1, || {}).is_none(), "nobody watches");
    }
}
