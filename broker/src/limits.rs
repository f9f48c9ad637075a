//! Every bound of the broker's control state, each with the sentence of what happens when it is hit. It holds
//! numbers only; the tables that own the state enforce them. The values are far above what a healthy cluster
//! reaches: they exist so that one faulty or hostile client cannot make the process grow without end. Those of the
//! durable tables also keep a full table's file within what the JSON reader takes, or a broker could not start again.

/// Topics in the table: a create request is refused with SYSTEM_ERROR, a send to an unknown topic with TOPIC_NOT_EXIST.
pub const TOPICS_MAX: usize = 100_000;

/// Queues of one topic, read or write: a create request that asks for more is refused with INVALID_PARAMETER, and an
/// automatic creation is cut to it.
pub const TOPIC_QUEUES_MAX: i32 = 65_536;

/// Characters of code 17's attribute modification list: a longer one is refused with INVALID_PARAMETER.
pub const TOPIC_ATTRIBUTES_LENGTH_MAX: usize = 4096;

/// Subscription groups in the table: a create request is refused with SYSTEM_ERROR, and an unknown group is no
/// longer created by its first heartbeat or pull (the client gets SUBSCRIPTION_GROUP_NOT_EXIST).
pub const GROUPS_MAX: usize = 50_000;

/// Topics that one group's forbidden table may name: a further one is refused with SYSTEM_ERROR.
pub const GROUP_FORBIDDEN_MAX: usize = 4096;

/// Characters of a client id: a heartbeat with a longer one is refused with INVALID_PARAMETER.
pub const CLIENT_ID_LENGTH_MAX: usize = 1024;

/// Bytes of a group's name in heartbeats and lock requests: a longer one is refused with INVALID_PARAMETER.
pub const GROUP_LENGTH_MAX: usize = 255;

/// Groups, consumer and producer together, that one connection may belong to: a heartbeat that would exceed it is
/// refused with SYSTEM_ERROR and leaves the membership as it was.
pub const GROUPS_PER_CONNECTION_MAX: usize = 4096;

/// Memberships, one per connection and group, of the whole broker: a heartbeat that would exceed it is refused with
/// SYSTEM_ERROR and leaves the membership as it was.
pub const MEMBERS_MAX: usize = 1_000_000;

/// Topics that one group may subscribe to: a heartbeat with more is refused with SYSTEM_ERROR.
pub const SUBSCRIPTIONS_PER_GROUP_MAX: usize = 4096;

/// Bytes of one subscription's expression together with its tags: a heartbeat with a longer one is refused with
/// SYSTEM_ERROR.
pub const SUBSCRIPTION_LENGTH_MAX: usize = 65_536;

/// Bytes of the subscriptions of all groups: a heartbeat that would exceed it is refused with SYSTEM_ERROR and leaves the
/// membership as it was.
pub const SUBSCRIPTION_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Queues that one lock or unlock request may name: a longer request is refused with INVALID_PARAMETER.
pub const LOCKS_PER_REQUEST_MAX: usize = 16_384;

/// Locks of the whole broker, expired ones not counted: a queue beyond it is not granted, and its client asks again.
pub const LOCKS_MAX: usize = 1_000_000;

/// Bytes of the names of topic and broker of one queue in a lock or unlock request: a request with longer ones is refused with
/// INVALID_PARAMETER.
pub const LOCK_NAMES_MAX: usize = 1024;

/// Topic and group pairs with consumer offsets: the first offset of a further pair is refused with SYSTEM_ERROR.
pub const OFFSET_PAIRS_MAX: usize = 250_000;

/// Consumer offsets, one per queue of each pair: the first offset of a further queue is refused with SYSTEM_ERROR.
pub const OFFSETS_MAX: usize = 1_500_000;

/// The highest queue number of a consumer offset: an offset for a higher one is refused with INVALID_PARAMETER.
pub const OFFSET_QUEUE_MAX: i32 = TOPIC_QUEUES_MAX - 1;

/// Bytes of one table file that is read at start-up: a longer file counts as damaged.
pub const TABLE_FILE_MAX: usize = 512 * 1024 * 1024;

/// Bytes of a name server's reply body (the order-topic table): a longer one is ignored, and a warning says so.
pub const REGISTER_REPLY_MAX: usize = 4 * 1024 * 1024;

/// Messages in one batch: a longer batch is refused with MESSAGE_ILLEGAL.
pub const BATCH_MESSAGES_MAX: usize = 65_536;

/// Pulls that wait for a message on one log shard: a further one is answered at once with what there is.
pub const HELD_PULLS_MAX: usize = 200_000;

/// Answer bytes that wait on one executor's connections: above it a connection that has not taken its earlier answers gets
/// FLOW_CONTROL for a pull, above twice as much every connection does; clients pull again a moment later.
pub const SHARD_OUTPUT_MAX: usize = 128 * 1024 * 1024;

/// Aligned buffers beyond what the log shards use themselves, which answers that clients do not read keep alive: above it
/// pulls are treated as above.
pub const LOG_BUFFERS_SPARE: usize = 96 * 1024 * 1024;

/// Bytes of an answer, other than a pull's, from which on it is a long one.
pub const LONG_ANSWER: usize = 64 * 1024;

/// Bytes of answers that wait on a connection from which on it gets FLOW_CONTROL instead of a long one: a peer that reads never
/// has as many, even if it asks for several at once.
pub const LONG_ANSWERS_MAX: usize = 2 * ringmq_protocol::frame::FRAME_MAX;

/// Queries by key and by position that one executor's connections have under way, as each may hold as much memory as the
/// largest answer from each log: further ones wait.
pub const FINDS_MAX: usize = 8;

/// Queries that wait for others to end: a further one is answered SYSTEM_BUSY.
pub const FINDS_WAITING_MAX: usize = 4096;

/// Bytes of records in the answer to a query by key, and of those that one log gives to it: older ones are left out.
pub const QUERY_BYTES_MAX: u64 = (ringmq_protocol::frame::FRAME_MAX - 64 * 1024) as u64;

/// Sends, and requests that have the broker store a message of its own, that wait until a log shard takes messages again: a
/// further one is answered SYSTEM_BUSY at once.
pub const PARKED_SENDS_MAX: usize = 65_536;

/// Bytes of their messages: a further one is answered SYSTEM_BUSY at once, unless it is the only one.
pub const PARKED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Requests under way on one executor that may wait for a disk and do not slow their connection, or hold a message meanwhile:
/// a further one is answered SYSTEM_BUSY at once, or dropped if it is one-way.
pub const UNDER_WAY_MAX: usize = 65_536;

/// Bytes of the messages that they hold: one that would exceed it is treated as above, unless it is the only one that holds any.
pub const UNDER_WAY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Messages that are read for such requests at a time, by one executor, before their bytes can be counted: further reads wait.
pub const UNDER_WAY_READS_MAX: usize = 16;

/// Transactions of one log shard that are not ended: a further half is answered SYSTEM_BUSY.
pub const HALVES_MAX: usize = 1_000_000;

/// Calls to one executor's clients that wait for their answers: a further one fails at once, and its caller is told.
pub const CLIENT_CALLS_MAX: usize = 1024;

/// Offsets that were reset and of which their groups have not heard yet: a reset that would exceed it is refused with
/// SYSTEM_ERROR.
pub const RESETS_MAX: usize = 100_000;

/// Queues that a log shard looks at for one question of the control shard; more are asked about in parts.
pub const LOOK_MAX: usize = 1024;

/// Entries of a queue that one QUERY_CONSUME_QUEUE shows: more are cut off, and the tool asks again from there.
pub const QUEUE_ENTRIES_MAX: usize = 1024;

/// Topics, and pairs of topic and group, whose traffic is remembered for a day: of further ones nothing is told.
pub const TRAFFIC_ITEMS_MAX: usize = 50_000;

/// Groups of which a drop of unread messages writes a line each; the others share one.
pub const UNREAD_LINES_MAX: usize = 20;

/// Queues that one question about where they begin names; more are asked for by further ones.
pub const FIRSTS_PER_ASK: usize = 1024;

/// Posts that wait in one executor's mailbox: a request that finds it full is answered SYSTEM_BUSY.
pub const MAILBOX_MAX: usize = 16_384;

/// Compiled expressions that an executor keeps of pulls that bring their own: the ones that were not used for longest are
/// compiled again when they come back.
pub const FILTERS_MAX: usize = 256;

/// What the SQL92 evaluations of one read may cost, in steps of about a nanosecond: the reader then goes on behind the
/// last message that was looked at.
pub const FILTER_WORK_MAX: usize = 4_000_000;

/// Messages that one reader of due messages, a delay level's or the timers' of a log shard, may have set aside because the disk
/// does not read them: a further one holds up what follows, as a disk does that reads nothing.
pub const ASIDE_MAX: usize = 64;

/// Timers of a log shard that cannot be read and so cannot be stored anew before their segment goes: with a further one nothing
/// goes, unless a nearly full disk forces it.
pub const UNREAD_TIMERS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use ringmq_protocol::body::{SubscriptionGroupConfig, TopicConfig};
    use ringmq_protocol::json::{Json, NODES_MAX, parse};

    fn nodes(json: &Json) -> usize {
        1 + match json {
            Json::Array(items) => items.iter().map(nodes).sum(),
            Json::Object(members) => members.iter().map(|(_, value)| nodes(value)).sum(),
            _ => 0,
        }
    }

    /// Values that a file holds whatever is in its table.
    const REST: usize = 100;

    #[test]
    fn the_file_of_a_full_table_can_be_read_again() {
        let mut topic = TopicConfig::new("T", 1, 1, 6);
        for key in ["queue.type", "cleanup.policy", "message.type"] {
            topic.attributes.insert(key.to_owned(), "x".to_owned());
        }
        // One value more for the topic's home.
        let topic = nodes(&parse(&topic.to_vec()).unwrap()) + 1;
        assert!(TOPICS_MAX * topic + REST <= NODES_MAX, "{topic} values a topic");
        let group = nodes(&parse(&SubscriptionGroupConfig::new("g").to_vec()).unwrap());
        assert!(GROUPS_MAX * (group + 10) + REST <= NODES_MAX, "{group} values a group");
        const { assert!(OFFSET_PAIRS_MAX + OFFSETS_MAX + REST <= NODES_MAX) };
    }
}
