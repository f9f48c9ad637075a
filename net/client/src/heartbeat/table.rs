//! Which brokers get heartbeats, and when each one's next is due. Without I/O; the time is the caller's.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// RocketMQ's `heartbeatBrokerInterval`; a broker forgets a client that is silent for 120 s.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);

/// A heartbeat that failed is tried again, first soon, then less and less often; and a broker that closes its
/// connections gets no more than one in that time.
const AGAIN_FIRST: Duration = Duration::from_secs(1);

/// A broker that failed so often in a row, and that nobody has named for so long, is gone.
const GONE_FAILURES: u32 = 5;
const GONE_AFTER: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
pub(super) struct Table {
    brokers: HashMap<String, Broker>,
}

#[derive(Debug)]
struct Broker {
    due: Instant,
    /// When the last one was taken.
    taken: Option<Instant>,
    /// It has taken one on the connection that there is.
    knows: bool,
    /// In a row.
    failures: u32,
    /// When somebody last wanted it to have heartbeats.
    named: Instant,
}

impl Table {
    /// From now on it gets heartbeats. True when it is new here; then the first one is the caller's.
    pub(super) fn name(&mut self, addr: &str, now: Instant) -> bool {
        if let Some(broker) = self.brokers.get_mut(addr) {
            broker.named = now;
            return false;
        }
        self.brokers.insert(
            addr.to_owned(),
            Broker { due: now + HEARTBEAT_INTERVAL, taken: None, knows: false, failures: 0, named: now },
        );
        true
    }

    /// As [`name`](Table::name), and the first one is due at once.
    pub(super) fn name_due(&mut self, addr: &str, now: Instant) -> bool {
        let is_new = self.name(addr, now);
        if is_new && let Some(broker) = self.brokers.get_mut(addr) {
            broker.due = now;
        }
        is_new
    }

    /// All are due.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.brokers.values_mut().for_each(|broker| broker.due = now);
    }

    /// Its connection ended, and with it the broker forgot this client. One that failed is tried again anyway.
    pub(super) fn lost(&mut self, addr: &str, now: Instant) {
        let Some(broker) = self.brokers.get_mut(addr) else { return };
        broker.knows = false;
        if broker.failures == 0 {
            let due = broker.taken.map_or(now, |taken| now.max(taken + AGAIN_FIRST));
            broker.due = broker.due.min(due);
        }
    }

    /// Those that are due, those first that are likely to answer. They are not due again before the next interval.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<String> {
        let mut due: Vec<(u32, String)> = Vec::new();
        for (addr, broker) in &mut self.brokers {
            if broker.due <= now {
                broker.due = now + HEARTBEAT_INTERVAL;
                due.push((broker.failures, addr.clone()));
            }
        }
        due.sort_unstable();
        due.into_iter().map(|(_, addr)| addr).collect()
    }

    pub(super) fn answered(&mut self, addr: &str, is_taken: bool, now: Instant) {
        let Some(broker) = self.brokers.get_mut(addr) else { return };
        broker.knows = is_taken;
        if is_taken {
            broker.failures = 0;
            broker.taken = Some(now);
            return;
        }
        let again = AGAIN_FIRST.saturating_mul(1 << broker.failures.min(5));
        broker.failures = broker.failures.saturating_add(1);
        broker.due = now + again.min(HEARTBEAT_INTERVAL);
        if broker.failures >= GONE_FAILURES && now.saturating_duration_since(broker.named) >= GONE_AFTER {
            self.brokers.remove(addr);
        }
    }

    /// Whether its last heartbeat was taken.
    pub(super) fn answers(&self, addr: &str) -> bool {
        self.brokers.get(addr).is_some_and(|broker| broker.taken.is_some() && broker.failures == 0)
    }

    /// Whether it may not know this client. One that failed last cannot be told, unless `even_failed`.
    pub(super) fn is_unsure(&self, addr: &str, even_failed: bool) -> bool {
        self.brokers.get(addr).is_some_and(|broker| !broker.knows && (even_failed || broker.failures == 0))
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.brokers.values().map(|broker| broker.due).min()
    }

    /// Forgets all of them; those first that are likely to answer.
    pub(super) fn drain(&mut self) -> Vec<String> {
        let mut all: Vec<(u32, String)> = self.brokers.drain().map(|(addr, broker)| (broker.failures, addr)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, addr)| addr).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_broker_that_is_gone_and_that_nobody_names_is_forgotten() {
        let mut table = Table::default();
        let begun = Instant::now();
        let mut now = begun;
        ["gone", "named", "up"].iter().for_each(|addr| assert!(table.name_due(addr, now)));
        while now < begun + GONE_AFTER * 2 {
            now = table.next_due().unwrap();
            for addr in table.take_due(now) {
                table.answered(&addr, addr == "up", now);
            }
            table.name("named", now);
        }
        let mut left = table.drain();
        left.sort_unstable();
        assert_eq!(left, ["named", "up"]);
    }

    #[test]
    fn a_heartbeat_that_failed_is_tried_again_soon_and_then_less_often() {
        let mut table = Table::default();
        let mut now = Instant::now();
        table.name_due("a", now);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert_eq!(table.take_due(now), ["a"]);
            table.answered("a", false, now);
            assert!(!table.answers("a") && !table.is_unsure("a", false) && table.is_unsure("a", true));
            table.name("a", now);
            pauses.push(table.next_due().unwrap() - now);
            now = table.next_due().unwrap();
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30].map(|seconds| SECOND * seconds));
        table.take_due(now);
        table.answered("a", true, now);
        assert!(table.answers("a"));
        assert_eq!(table.next_due(), Some(now + HEARTBEAT_INTERVAL));
    }

    #[test]
    fn a_lost_connection_is_followed_by_a_heartbeat_but_not_by_a_storm_of_them() {
        let mut table = Table::default();
        let now = Instant::now();
        table.name_due("a", now);
        table.take_due(now);
        table.answered("a", true, now);
        assert!(!table.is_unsure("a", true));
        table.lost("a", now);
        assert!(table.is_unsure("a", false));
        assert_eq!(table.next_due(), Some(now + AGAIN_FIRST));
        table.lost("a", now + SECOND * 9);
        assert_eq!(table.next_due(), Some(now + AGAIN_FIRST));
        table.take_due(now + SECOND * 9);
        table.lost("a", now + SECOND * 9);
        assert_eq!(table.next_due(), Some(now + SECOND * 9));
    }

    #[test]
    fn those_that_answer_come_first() {
        let mut table = Table::default();
        let now = Instant::now();
        ["a", "b", "c"].iter().for_each(|addr| assert!(table.name_due(addr, now)));
        assert_eq!(table.take_due(now), ["a", "b", "c"]);
        table.answered("a", false, now);
        table.answered("b", true, now);
        table.hasten(now);
        assert_eq!(table.take_due(now), ["b", "c", "a"]);
        assert_eq!(table.drain(), ["b", "c", "a"]);
    }
}
