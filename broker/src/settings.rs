//! What the configuration says, as the broker uses it. Where the values come from is the program's business.

use std::cell::Cell;
use std::fmt::Debug;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ringmq_engine::ShardOptions;
use ringmq_net::Limits;
use ringmq_protocol::host::Host;
use ringmq_rt::Heartbeat;

use crate::delay::Levels;
use crate::group_config::GroupSettings;
use crate::register::Identity;
use crate::retention::Policy;
use crate::timer::TimerSettings;
use crate::topic::TopicSettings;
use crate::transaction::TransactionSettings;

/// One broker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who it is, as name servers and clients know it.
    pub identity: Identity,
    /// `brokerIP1` and `listenPort` as message ids carry them; clients connect there to look at a message.
    pub store_host: Host,
    /// The address to listen on.
    pub listen: IpAddr,
    /// `listenPort`; 0 takes a free one.
    pub port: u16,
    /// Whether to listen on `listenPort - 2` as well, where clients with the VIP channel send.
    pub vip: bool,
    /// `namesrvAddr`: `host:port` each.
    pub name_servers: Vec<String>,
    /// `registerNameServerPeriod`
    pub register_period: Duration,
    /// `registerBrokerTimeoutMills`
    pub register_timeout: Duration,
    /// `storePathRootDir`
    pub store: PathBuf,
    /// Log shards that the operator asked for; a store that exists must have as many.
    pub log_shards: Option<u8>,
    /// Log shards of a store that is created now, if the operator did not ask.
    pub default_log_shards: u8,
    /// One executor each: the core it is pinned to, or none.
    pub cores: Vec<Option<usize>>,
    /// For every log shard.
    pub shard: ShardOptions,
    /// How long messages are kept.
    pub retention: Policy,
    pub topics: TopicSettings,
    pub groups: GroupSettings,
    pub limits: Limits,
    /// `maxMessageSize`, bytes of body.
    pub message_max: usize,
    /// `notifyConsumerIdsChangedEnable`
    pub notify_consumers: bool,
    /// `longPollingEnable`; without it a pull waits at most [`short_polling`](Self::short_polling).
    pub long_polling: bool,
    /// `shortPollingTimeMills`
    pub short_polling: Duration,
    /// `litePullMessageEnable`
    pub lite_pull: bool,
    /// `enablePropertyFilter`: whether consumers may filter by SQL92.
    pub property_filter: bool,
    /// `filterSupportRetry`: whether a message that comes again must match the subscription to its original topic.
    pub filter_retried: bool,
    /// `useServerSideResetOffset`; without it consumers are asked to reset their offsets.
    pub server_side_reset: bool,
    /// `storeReplyMessageEnable`
    pub store_replies: bool,
    /// `maxTransferCountOnMessageInMemory`
    pub pull_messages_max: usize,
    /// `maxTransferBytesOnMessageInMemory`
    pub pull_bytes_max: u64,
    /// `maxMsgsNumBatch`: messages that one query by key gives.
    pub query_messages_max: usize,
    /// `defaultQueryMaxNum`: messages that a query by unique key gives.
    pub unique_query_max: usize,
    /// `syncFlushTimeout`: a send that is not flushed by then is answered FLUSH_DISK_TIMEOUT.
    pub flush_timeout: Duration,
    /// `messageDelayLevel`
    pub delay_levels: Levels,
    pub transactions: TransactionSettings,
    pub timers: TimerSettings,
    /// `waitTimeMillsInSendQueue`: how long a send may wait for a log that is busy.
    pub send_wait_max: Duration,
    /// `accessMessageInMemoryMaxRatio` of the memory: where more of the log than this lies behind a queue's first
    /// message, a new group begins where its clients say.
    pub recent_bytes: u64,
    /// `flushConsumerOffsetInterval`
    pub offsets_interval: Duration,
    /// `startAcceptSendRequestTimeStamp`, milliseconds since 1970.
    pub accept_sends_from_ms: i64,
    /// `traceOn`: what clients are told about message trace.
    pub trace_on: bool,
    /// `regionId`
    pub region: String,
    /// Told by each executor, by its number, that it is alive.
    pub heartbeat: Option<Heartbeat>,
    /// The effective configuration as GET_BROKER_CONFIG answers it: `key=value` lines.
    pub properties: String,
    /// What can change them while the broker runs.
    pub source: Option<Arc<dyn Source>>,
}

/// Where the settings came from: it can read a changed configuration.
pub trait Source: Debug + Send + Sync {
    /// The file that a change is kept in, where there is one.
    fn file(&self) -> Option<&Path>;

    /// The settings with a change, a text of `key=value` lines, in the place of `now`.
    ///
    /// # Errors
    /// One sentence about what cannot be changed, and what to do instead.
    fn change(&self, now: &Settings, change: &[u8]) -> Result<Settings, String>;

    /// The content of the file with the change in it.
    ///
    /// # Errors
    /// One sentence about why that content cannot be changed.
    fn edit(&self, content: &[u8], change: &[u8]) -> Result<Vec<u8>, String>;
}

/// The settings in force on one executor.
///
/// Those that were in force before are never freed: whoever reads settings has a plain reference, on every path of a
/// message, and administrators change them a few times in a broker's life. [`CHANGES_MAX`] bounds that.
#[derive(Debug)]
pub struct Current(Cell<&'static Settings>);

/// Changes of a running broker's configuration, some KiB each.
pub const CHANGES_MAX: u32 = 10_000;

impl Current {
    /// Makes settings live for as long as the process.
    pub fn keep(settings: Settings) -> &'static Settings {
        Box::leak(Box::new(settings))
    }

    pub fn new(settings: &'static Settings) -> Self {
        Self(Cell::new(settings))
    }

    /// Puts others in force. What was read before stays as it was.
    pub fn set(&self, settings: &'static Settings) {
        self.0.set(settings);
    }

    pub fn get(&self) -> &'static Settings {
        self.0.get()
    }
}

impl Deref for Current {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        self.0.get()
    }
}
