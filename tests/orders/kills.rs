//! Who is killed at which step. The order is shuffled by a seed that is printed; nothing comes twice before
//! everything has come once.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Every step that a service calls by name (see `Steps.java`), all of which a round's customers make it reach.
const STEPS: [(&str, &str); 33] = [
    ("order", "invisible"),
    ("order", "half"),
    ("order", "stock deducted"),
    ("order", "coupon deducted"),
    ("order", "balance deducted"),
    ("order", "confirmed"),
    ("order", "refused"),
    ("order", "promised"),
    ("order", "sent"),
    ("order", "changed"),
    ("order", "consumed"),
    ("stock", "taking"),
    ("stock", "taken"),
    ("stock", "changed"),
    ("stock", "consumed"),
    ("coupon", "taking"),
    ("coupon", "taken"),
    ("coupon", "changed"),
    ("coupon", "consumed"),
    ("balance", "taking"),
    ("balance", "taken"),
    ("balance", "changed"),
    ("balance", "consumed"),
    ("payment", "deciding"),
    ("payment", "decided"),
    ("payment", "promised"),
    ("payment", "sent"),
    ("payment", "changed"),
    ("payment", "consumed"),
    ("points", "changed"),
    ("points", "consumed"),
    ("log", "changed"),
    ("log", "consumed"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Service,
    Broker,
}

/// One kill: while `service` is held at `step`, it or the broker dies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kill {
    pub(crate) victim: Victim,
    pub(crate) service: &'static str,
    pub(crate) step: &'static str,
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kill { victim, service, step } = self;
        match victim {
            Victim::Service => write!(f, "kill {service} at `{step}`"),
            Victim::Broker => write!(f, "kill the broker while {service} is at `{step}`"),
        }
    }
}

/// Kills without end, the broker and services in turns.
pub(crate) struct Kills {
    state: u64,
    victim: Victim,
    services: Vec<(&'static str, &'static str)>,
    brokers: Vec<(&'static str, &'static str)>,
}

impl Kills {
    /// From `RINGMQ_ORDERS_SEED`, or from the time.
    pub(crate) fn from_seed() -> Kills {
        let seed = std::env::var("RINGMQ_ORDERS_SEED").map_or_else(
            |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
            |text| text.parse().unwrap_or_else(|e| panic!("RINGMQ_ORDERS_SEED={text} is no number: {e}")),
        );
        println!("RINGMQ_ORDERS_SEED={seed}");
        let state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        // The client 4.9.8 needs 30 s to get over a broker's death; a short run begins with that.
        let mut kills = Kills { state, victim: Victim::Broker, services: Vec::new(), brokers: Vec::new() };
        // The first numbers of seeds that are close to each other are close as well.
        for _ in 0..8 {
            kills.roll();
        }
        kills
    }

    fn roll(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    pub(crate) fn next(&mut self) -> Kill {
        let number = self.roll();
        let victim = self.victim;
        let (left, then) = match victim {
            Victim::Service => (&mut self.services, Victim::Broker),
            Victim::Broker => (&mut self.brokers, Victim::Service),
        };
        if left.is_empty() {
            left.extend(STEPS);
        }
        let index = usize::try_from(number % u64::try_from(left.len()).unwrap()).unwrap();
        let (service, step) = left.swap_remove(index);
        self.victim = then;
        Kill { victim, service, step }
    }
}
