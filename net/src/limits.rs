//! Every bound of a shard's connections, and what happens when it is reached.

use std::time::Duration;

use ringmq_protocol::frame::FRAME_MAX;

/// The bounds that an operator or a test may set.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections of one shard. One more is closed at once.
    pub connections_max: usize,
    /// A connection on which nothing was received and nothing sent for this long is closed.
    pub idle: Duration,
    /// A send that makes no headway for this long ends its connection: the peer does not read.
    pub send_stalled: Duration,
    /// Reply bytes that wait on one connection. Above it the connection's requests wait.
    pub output_high_bytes: usize,
    /// Requests of one connection that wait for an answer. Above it the connection is not read.
    pub unanswered_max: usize,
    /// Bytes of half-received large frames on one shard. Above it the connection that wants more is closed.
    pub assembly_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 65_536,
            idle: Duration::from_secs(120),
            send_stalled: Duration::from_secs(60),
            output_high_bytes: 1 << 20,
            unanswered_max: 65_536,
            assembly_bytes_max: 256 << 20,
        }
    }
}

/// Frames up to this long stay in the receive buffers they came in; longer ones are put together in memory of their own.
pub(crate) const CHAIN_MAX: usize = 128 * 1024;

const _: () = assert!(CHAIN_MAX < FRAME_MAX, "a chained frame is a legal frame");
