//! Connecting, and leaving an address alone for a while after that failed slowly. One thread asks many brokers; one whose host
//! does not answer at all must not take it all of its time.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::blocking::lock;
use super::lookup::Lookups;
use crate::error::{Error, Result};

/// How long an address is left alone, in multiples of the time that it took to fail.
const REST_FACTOR: u32 = 5;
const REST_MAX: Duration = Duration::from_secs(15);

/// Why there is no connection. All who wait for it are told.
#[derive(Debug, Clone)]
pub(super) enum Unconnected {
    Address(Arc<io::Error>),
    Connect(Arc<io::Error>),
    Thread(Arc<io::Error>),
}

impl Unconnected {
    pub(super) fn error(&self, addr: &str) -> Error {
        let addr = addr.to_owned();
        let again = |reason: &Arc<io::Error>| io::Error::new(reason.kind(), Arc::clone(reason));
        match self {
            Unconnected::Address(reason) => Error::Address { addr, reason: again(reason) },
            Unconnected::Connect(reason) => Error::Connect { addr, reason: again(reason) },
            Unconnected::Thread(reason) => Error::Thread(again(reason)),
        }
    }

    /// The same, for whoever comes later.
    fn just_now(&self) -> Unconnected {
        let later = |reason: &io::Error| {
            Arc::new(io::Error::new(reason.kind(), format!("{reason}, just now; it is tried again soon")))
        };
        match self {
            Unconnected::Address(reason) => Unconnected::Address(later(reason)),
            Unconnected::Connect(reason) => Unconnected::Connect(later(reason)),
            Unconnected::Thread(reason) => Unconnected::Thread(later(reason)),
        }
    }

    /// A host that refuses has answered, and costs nobody time.
    fn is_of_silence(&self) -> bool {
        match self {
            Unconnected::Address(_) => true,
            Unconnected::Connect(reason) => reason.kind() != io::ErrorKind::ConnectionRefused,
            Unconnected::Thread(_) => false,
        }
    }
}

/// Addresses that are left alone, by `host:port`.
#[derive(Debug)]
pub(super) struct Connecting {
    lookups: Arc<Lookups>,
    resting: Mutex<HashMap<String, Resting>>,
}

#[derive(Debug)]
struct Resting {
    until: Instant,
    failed: Unconnected,
}

impl Connecting {
    pub(super) fn new(lookups: Arc<Lookups>) -> Connecting {
        Connecting { lookups, resting: Mutex::default() }
    }

    /// How the last try failed, for as long as the address is left alone.
    pub(super) fn resting(&self, addr: &str) -> Option<Unconnected> {
        let now = Instant::now();
        lock(&self.resting).get(addr).filter(|one| one.until > now).map(|one| one.failed.just_now())
    }

    /// Connects within that time.
    pub(super) fn connect(&self, addr: &str, timeout: Duration) -> Result<TcpStream, Unconnected> {
        let begun = Instant::now();
        let connected = self.try_all(addr, begun + timeout);
        let now = Instant::now();
        let mut resting = lock(&self.resting);
        resting.retain(|_, one| one.until > now);
        if let Err(failed) = &connected
            && failed.is_of_silence()
        {
            let until = now + ((now - begun) * REST_FACTOR).min(REST_MAX);
            resting.insert(addr.to_owned(), Resting { until, failed: failed.clone() });
        }
        connected
    }

    /// Connects to one of the addresses that the name has. Each has an even share of the time that the ones before it left.
    fn try_all(&self, addr: &str, deadline: Instant) -> Result<TcpStream, Unconnected> {
        let left = || deadline.saturating_duration_since(Instant::now());
        let candidates = self.lookups.find(addr, left())?;
        let mut last = None;
        for (remaining, candidate) in (1..=candidates.len() as u32).rev().zip(&candidates) {
            match TcpStream::connect_timeout(candidate, (left() / remaining).max(Duration::from_millis(1))) {
                Ok(stream) => return Ok(stream),
                Err(reason) => last = Some(reason),
            }
        }
        Err(Unconnected::Connect(Arc::new(last.unwrap_or_else(|| io::ErrorKind::NotFound.into()))))
    }
}
