//! Every bound of the name server: how much a peer can make it remember, and what happens beyond.

/// Broker addresses in the table. A registration beyond is refused.
pub const BROKERS_MAX: usize = 4_096;
/// Topics of one registration. A registration with more is refused: half a topic table would look like deletions.
pub const TOPICS_PER_BROKER_MAX: usize = 200_000;
/// Topics in the table. A registration that would exceed it is refused.
pub const TOPICS_MAX: usize = 500_000;
/// Bytes of a topic's, broker's or cluster's name, and of an address. A registration with a longer one is refused.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest time that a broker may ask to be kept without a sign of life. A longer one is cut.
pub const TIMEOUT_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Entries of the KV configuration. A new one beyond is refused.
pub const KV_ENTRIES_MAX: usize = 10_000;
/// Bytes of a namespace or key of the KV configuration. A longer one is refused.
pub const KV_KEY_BYTES_MAX: usize = 1_024;
/// Bytes of a value of the KV configuration. A longer one is refused.
pub const KV_VALUE_BYTES_MAX: usize = 64 * 1_024;
/// Bytes of the KV configuration as a file. A longer file is not read, and an entry that would lead to one is refused.
pub const KV_BYTES_MAX: usize = 16 * 1_024 * 1_024;
/// Bytes of an answer's body: a frame of 16 MiB less room for its header. A longer answer is refused.
pub const ANSWER_BYTES_MAX: usize = 16 * 1_024 * 1_024 - 64 * 1_024;
/// Bytes of a request to change the configuration. A longer one is refused.
pub const CONFIG_BYTES_MAX: usize = 64 * 1_024;
