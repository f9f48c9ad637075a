//! Who a client is: its address as brokers see it, its id in heartbeats, and the unique keys of its messages. The one
//! place of this crate that reads the wall clock and the process id.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringmq_protocol::id::UniqueIdSource;

use crate::driver::lookup::resolve;

const MS_PER_DAY: i64 = 86_400_000;

/// Tells the clients of one process apart.
static CLIENTS: AtomicU32 = AtomicU32::new(0);

/// One client of this process.
#[derive(Debug)]
pub struct Identity {
    /// `address@pid#number`, as in RocketMQ's own clients.
    pub client_id: String,
    source: UniqueIdSource,
    counter: AtomicU16,
}

impl Identity {
    /// An identity for talking to `server`: the address is that of the interface which leads there, or 127.0.0.1 where
    /// that is not known within this time.
    pub fn towards(server: Option<&str>, patience: Duration) -> Identity {
        let ip =
            server.and_then(|server| local_ip_towards(server, patience)).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let started_ns = since_epoch().as_nanos();
        let number = CLIENTS.fetch_add(1, Ordering::Relaxed);
        let salt = (started_ns as u32).rotate_left(8) ^ number;
        Identity {
            client_id: format!("{ip}@{}#{}", process::id(), started_ns.wrapping_add(u128::from(number))),
            source: UniqueIdSource { ip, pid: process::id(), salt },
            counter: AtomicU16::new(0),
        }
    }

    /// A number that differs from client to client.
    pub(crate) fn salt(&self) -> u32 {
        self.source.salt
    }

    /// The unique key of the next message.
    pub fn unique_key(&self) -> String {
        let now_ms = now_ms();
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        self.source.id(ms_of_month(now_ms), counter).as_str().to_owned()
    }
}

/// Asks the routing table; nothing is sent.
fn local_ip_towards(server: &str, patience: Duration) -> Option<IpAddr> {
    let to = *resolve(server, patience).ok()?.first()?;
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn since_epoch() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// The milliseconds since the month began, which unique keys hold.
pub fn ms_of_month(now_ms: i64) -> i64 {
    now_ms - month_start_ms(now_ms)
}

/// The first millisecond of the month in UTC. Java takes the month of its time zone; the difference only moves the
/// window in which tools look a message up.
fn month_start_ms(now_ms: i64) -> i64 {
    let day = now_ms.div_euclid(MS_PER_DAY);
    (day - i64::from(day_of_month(day)) + 1) * MS_PER_DAY
}

/// The day of the month, from 1, of a day counted from 1970-01-01, in the Gregorian calendar.
fn day_of_month(day: i64) -> u32 {
    // Counted from 0000-03-01, so that a leap day ends its year; a cycle of 400 years has 146,097 days.
    let day_of_cycle = (day + 719_468).rem_euclid(146_097);
    let year = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    (day_of_year - (153 * month + 2) / 5 + 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_begin_on_the_first() {
        // 2026-11-20T23:58:00Z, 2024-02-29T00:00:00Z, 2000-03-01T00:00:00Z, 1970-01-01T00:00:00Z
        for (now, want) in [
            (1_795_219_080_000, 1_793_491_200_000),
            (1_709_164_800_000, 1_706_745_600_000),
            (951_868_800_000, 951_868_800_000),
            (0, 0),
        ] {
            assert_eq!(month_start_ms(now), want, "{now}");
        }
    }

    #[test]
    fn every_message_has_a_key_of_its_own() {
        let (one, two) =
            (Identity::towards(None, Duration::ZERO), Identity::towards(Some("127.0.0.1:9876"), Duration::ZERO));
        assert_ne!(one.client_id, two.client_id);
        let mut keys: Vec<String> = (0..1000).flat_map(|_| [one.unique_key(), two.unique_key()]).collect();
        assert!(keys.iter().all(|key| key.len() == 32 && key.starts_with("7F000001")));
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 2000);
    }
}
