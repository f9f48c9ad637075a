//! The groups under which the broker's own readers of its system topics keep their progress. Tools read it like that of any
//! other group; a client that could move it would make the next start pass over messages that are still owed.

use ringmq_protocol::names;

/// The delay levels'.
pub const LEVELS: &str = "CID_RMQ_SYS_SCHEDULE";

/// The transactions': through halves and marks.
pub const TRANSACTIONS: &str = "CID_RMQ_SYS_TRANS";

/// Each with the topics that it reads.
pub const OWN: [(&str, &str); 3] = [
    (LEVELS, names::SCHEDULE_TOPIC),
    (TRANSACTIONS, names::TRANS_HALF_TOPIC),
    (TRANSACTIONS, names::TRANS_OP_HALF_TOPIC),
];

/// Whether the group's offsets in the topic are the broker's own.
pub fn is_own(group: &str, topic: &str) -> bool {
    OWN.contains(&(group, topic))
}
