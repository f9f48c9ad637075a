//! Who is killed at which step. The order is shuffled by a seed that is printed; nothing comes twice before
//! everything has come once.

use std::fmt;

use super::support::dice::Dice;

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
    dice: Dice,
    victim: Victim,
    services: Vec<(&'static str, &'static str)>,
    brokers: Vec<(&'static str, &'static str)>,
}

impl Kills {
    /// From `RINGMQ_ORDERS_SEED`, or from the time.
    pub(crate) fn from_seed() -> Kills {
        let dice = Dice::from_variable("RINGMQ_ORDERS_SEED");
        // The client 4.9.8 needs 30 s to get over a broker's death; a short run begins with that.
        Kills { dice, victim: Victim::Broker, services: Vec::new(), brokers: Vec::new() }
    }

    pub(crate) fn next(&mut self) -> Kill {
        let victim = self.victim;
        let (left, then) = match victim {
            Victim::Service => (&mut self.services, Victim::Broker),
            Victim::Broker => (&mut self.brokers, Victim::Service),
        };
        if left.is_empty() {
            left.extend(STEPS);
        }
        let index = usize::try_from(self.dice.below(u64::try_from(left.len()).unwrap())).unwrap();
        let (service, step) = left.swap_remove(index);
        self.victim = then;
        Kill { victim, service, step }
    }
}
