//! Connecting, and leaving an address alone for a while after that failed slowly. One thread asks many brokers; one whose host
//! does not answer at all must not take it all of its time.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::blocking::{lock, resolve};
use crate::error::{Error, Result};

/// How long an address is left alone, in multiples of the time that it took to fail.
const REST_FACTOR: u32 = 5;
const REST_MAX: Duration = Duration::from_secs(15);

/// Addresses that are left alone, by `host:port`.
#[derive(Debug, Default)]
pub(super) struct Connecting {
    resting: Mutex<HashMap<String, Resting>>,
}

#[derive(Debug)]
struct Resting {
    until: Instant,
    kind: io::ErrorKind,
    reason: String,
}

impl Connecting {
    /// Connects within that time, or fails at once if the last try failed just now.
    pub(super) fn connect(&self, addr: &str, timeout: Duration) -> Result<TcpStream> {
        let begun = Instant::now();
        if let Some(Resting { kind, reason, .. }) = lock(&self.resting).get(addr).filter(|one| one.until > begun) {
            let reason = io::Error::new(*kind, format!("{reason}, just now; it is tried again soon"));
            return Err(Error::Connect { addr: addr.to_owned(), reason });
        }
        let connected = connect(addr, timeout);
        let now = Instant::now();
        let mut resting = lock(&self.resting);
        resting.retain(|_, one| one.until > now);
        match &connected {
            // A host that refuses has answered, and costs nobody time.
            Err(Error::Connect { reason, .. }) if reason.kind() != io::ErrorKind::ConnectionRefused => {
                let until = now + ((now - begun) * REST_FACTOR).min(REST_MAX);
                let (kind, reason) = (reason.kind(), reason.to_string());
                resting.insert(addr.to_owned(), Resting { until, kind, reason });
            }
            Err(_) => {}
            Ok(_) => drop(resting.remove(addr)),
        }
        connected
    }
}

/// Connects to one of the addresses that the name has. Each has an even share of the time that the ones before it left.
fn connect(addr: &str, timeout: Duration) -> Result<TcpStream> {
    let deadline = Instant::now() + timeout;
    let candidates = resolve(addr)?;
    let mut last = None;
    for (remaining, candidate) in (1..=candidates.len() as u32).rev().zip(&candidates) {
        let left = deadline.saturating_duration_since(Instant::now());
        match TcpStream::connect_timeout(candidate, (left / remaining).max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(reason) => last = Some(reason),
        }
    }
    let reason = last.unwrap_or_else(|| io::ErrorKind::NotFound.into());
    Err(Error::Connect { addr: addr.to_owned(), reason })
}
