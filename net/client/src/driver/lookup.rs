//! The addresses behind a host name. The operating system's look-up takes as long as it likes and cannot be broken off, so it
//! has threads of its own, a few for the whole process; who waits for one waits no longer than there is time.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use super::blocking::lock;
use super::connecting::Unconnected;
use crate::error::Result;

/// Look-ups at a time; further names wait for one of them to end.
const THREADS_MAX: usize = 4;

/// Names whose last addresses are kept at most; one more puts another one out.
const KEPT_MAX: usize = 1024;

/// The addresses behind `host:port`, within that time.
pub fn resolve(addr: &str, patience: Duration) -> Result<Vec<SocketAddr>> {
    Lookups::of_process().find(addr, patience).map_err(|failed| failed.error(addr))
}

type Resolve = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;
type Found = Result<Vec<SocketAddr>, Arc<io::Error>>;

pub(super) struct Lookups {
    resolve: Box<Resolve>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    threads: usize,
    /// Names that no thread has taken up yet.
    queue: VecDeque<String>,
    /// Who waits for a name that is in the queue or with a thread.
    waiting: HashMap<String, Vec<Sender<Found>>>,
    /// What was found last.
    kept: HashMap<String, Vec<SocketAddr>>,
}

impl std::fmt::Debug for Lookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookups").field("state", &*lock(&self.state)).finish_non_exhaustive()
    }
}

impl Lookups {
    pub(super) fn of_process() -> Arc<Lookups> {
        static OF_PROCESS: LazyLock<Arc<Lookups>> =
            LazyLock::new(|| Lookups::by(|addr| addr.to_socket_addrs().map(Iterator::collect)));
        Arc::clone(&OF_PROCESS)
    }

    pub(super) fn by(resolve: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static) -> Arc<Lookups> {
        Arc::new(Lookups { resolve: Box::new(resolve), state: Mutex::default() })
    }

    /// What was found last counts where the look-up fails or takes half of the time: brokers stay where they are more often
    /// than name servers of the net are there.
    pub(super) fn find(self: &Arc<Lookups>, addr: &str, patience: Duration) -> Result<Vec<SocketAddr>, Unconnected> {
        if let Ok(address) = addr.parse() {
            return Ok(vec![address]);
        }
        let (found, kept) = self.ask(addr)?;
        let patience = if kept.is_some() { patience / 2 } else { patience };
        let reason = match found.recv_timeout(patience) {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(reason)) => reason,
            Err(_) => Arc::new(io::Error::new(io::ErrorKind::TimedOut, "its host name is not looked up in time")),
        };
        let kept = kept.ok_or_else(|| Unconnected::Address(Arc::clone(&reason)))?;
        tracing::warn!(addr, %reason, "a host name cannot be looked up, the addresses are used that it had last");
        Ok(kept)
    }

    /// Where the answer will be, and the last one.
    fn ask(self: &Arc<Lookups>, addr: &str) -> Result<(Receiver<Found>, Option<Vec<SocketAddr>>), Unconnected> {
        let (sender, found) = mpsc::channel();
        let mut state = lock(&self.state);
        let kept = state.kept.get(addr).cloned();
        if let Some(waiting) = state.waiting.get_mut(addr) {
            waiting.push(sender);
            return Ok((found, kept));
        }
        if state.threads < THREADS_MAX {
            let lookups = Arc::clone(self);
            match thread::Builder::new().name("ringmq-lookup".to_owned()).spawn(move || lookups.run()) {
                Ok(_) => state.threads += 1,
                Err(reason) if state.threads == 0 => return Err(Unconnected::Thread(Arc::new(reason))),
                // One of the others takes it up.
                Err(_) => {}
            }
        }
        state.queue.push_back(addr.to_owned());
        state.waiting.insert(addr.to_owned(), vec![sender]);
        Ok((found, kept))
    }

    /// Ends when no name is left.
    fn run(&self) {
        loop {
            let addr = {
                let mut state = lock(&self.state);
                let Some(addr) = state.queue.pop_front() else {
                    state.threads -= 1;
                    return;
                };
                addr
            };
            let found = (self.resolve)(&addr).map_err(Arc::new);
            let waiting = {
                let mut state = lock(&self.state);
                if let Ok(found) = &found {
                    state.keep(&addr, found);
                }
                state.waiting.remove(&addr).unwrap_or_default()
            };
            for sender in waiting {
                // Who had no time left needs no answer.
                let _ = sender.send(found.clone());
            }
        }
    }
}

impl State {
    fn keep(&mut self, addr: &str, found: &[SocketAddr]) {
        if self.kept.len() >= KEPT_MAX
            && !self.kept.contains_key(addr)
            && let Some(other) = self.kept.keys().next().cloned()
        {
            self.kept.remove(&other);
        }
        self.kept.insert(addr.to_owned(), found.to_vec());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Condvar;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Look-ups that hang while they are told to.
    #[derive(Default)]
    pub(in crate::driver) struct Hanging {
        hangs: Mutex<bool>,
        changed: Condvar,
    }

    impl Hanging {
        pub(in crate::driver) fn set(&self, hangs: bool) {
            *lock(&self.hangs) = hangs;
            self.changed.notify_all();
        }

        fn wait(&self) {
            drop(self.changed.wait_while(lock(&self.hangs), |hangs| *hangs).unwrap());
        }
    }

    pub(in crate::driver) fn hanging() -> (Arc<Hanging>, Arc<Lookups>) {
        let hanging = Arc::new(Hanging::default());
        let waits = Arc::clone(&hanging);
        let lookups = Lookups::by(move |addr| {
            waits.wait();
            if addr == "gone:1" { Err(io::ErrorKind::NotFound.into()) } else { Ok(vec![([127, 0, 0, 1], 1).into()]) }
        });
        (hanging, lookups)
    }

    fn error(found: Result<Vec<SocketAddr>, Unconnected>) -> String {
        found.unwrap_err().error("addr").to_string()
    }

    #[test]
    fn a_look_up_that_hangs_costs_its_caller_no_more_than_its_time() {
        let (hanging, lookups) = hanging();
        hanging.set(true);
        let begun = Instant::now();
        assert!(error(lookups.find("host:1", Duration::from_millis(50))).contains("not looked up in time"));
        assert!(begun.elapsed() < LONG);
        // An address needs no look-up.
        assert_eq!(lookups.find("10.0.0.1:2", LONG).unwrap(), [([10, 0, 0, 1], 2).into()]);
        hanging.set(false);
        assert_eq!(lookups.find("host:1", LONG).unwrap(), [([127, 0, 0, 1], 1).into()]);
        assert!(error(lookups.find("gone:1", LONG)).contains("is not an address"));
    }

    #[test]
    fn names_that_hang_have_few_threads_and_all_are_looked_up_in_the_end() {
        let (hanging, lookups) = hanging();
        hanging.set(true);
        let names: Vec<String> = (0..THREADS_MAX * 3).map(|at| format!("host-{at}:1")).collect();
        for name in names.iter().chain(&names) {
            assert!(lookups.find(name, Duration::from_millis(1)).is_err());
            assert!(lock(&lookups.state).threads <= THREADS_MAX);
        }
        hanging.set(false);
        for name in &names {
            lookups.find(name, LONG).unwrap();
        }
        while lock(&lookups.state).threads > 0 {
            thread::yield_now();
        }
        assert!(lock(&lookups.state).waiting.is_empty());
    }

    #[test]
    fn a_name_that_was_found_is_found_again_while_look_ups_hang() {
        let (hanging, lookups) = hanging();
        let found = lookups.find("host:1", LONG).unwrap();
        hanging.set(true);
        assert_eq!(lookups.find("host:1", Duration::from_millis(50)).unwrap(), found);
        hanging.set(false);
    }

    #[test]
    fn the_most_names_that_there_may_be_are_kept() {
        let mut state = State::default();
        for number in 0..=KEPT_MAX {
            state.keep(&format!("host-{number}:1"), &[]);
        }
        assert_eq!(state.kept.len(), KEPT_MAX);
    }
}
