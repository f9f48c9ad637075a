//! What becomes of the messages of a load once they are stored, and so what the answers to it are held to.

/// One of the kinds of load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Then {
    /// They are there for consumers, at the offset that the answer gives.
    Read,
    /// They are delivered at a time of their own.
    Due(Due),
    /// Each is the half of a transaction that is ended as soon as the half is acknowledged; this share is rolled back.
    End { roll_back: f64 },
    /// They are no messages: each is a commit of a group's offset, the groups taking turns.
    Commit,
}

/// When consumers are to get a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Due {
    /// The first at this time, in milliseconds since 1970, and one after the other at this distance.
    At { first_ms: u64, gap_ms: f64 },
    /// So long after it was sent, as this delay level says.
    Level { level: u8, ms: u64 },
}

impl Due {
    /// Of the run's message with this number, sent at `now_ms`.
    pub(crate) fn ms(&self, number: u64, now_ms: u64) -> u64 {
        match self {
            Due::At { first_ms, gap_ms } => first_ms + (number as f64 * gap_ms) as u64,
            Due::Level { ms, .. } => now_ms + ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_fall_due_at_their_rate() {
        let due = Due::At { first_ms: 1_000, gap_ms: 0.02 };
        let of_second = (0..100_000).filter(|number| (1_000..2_000).contains(&due.ms(*number, 0))).count();
        assert_eq!(of_second, 50_000);
        assert_eq!(Due::Level { level: 2, ms: 5 }.ms(9, 100), 105);
    }
}
