//! From the configuration to what the broker is told: where each value goes, and what the host decides where the
//! configuration leaves it open.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use ringmq_broker::delay::Levels;
use ringmq_broker::group_config::GroupSettings;
use ringmq_broker::register::Identity;
use ringmq_broker::retention::Policy;
use ringmq_broker::settings::Settings;
use ringmq_broker::timer::TimerSettings;
use ringmq_broker::topic::TopicSettings;
use ringmq_broker::transaction::{Timing, TransactionSettings};
use ringmq_engine::{FlushPolicy, ShardOptions};
use ringmq_net::Limits;
use ringmq_protocol::host::Host;
use ringmq_tuning::{Root, facts};
use tracing::info;

use super::disk;
use super::live::Live;
use super::place::{self, Told};
use crate::cli::{BrokerFlags, Flush, path_text};
use crate::config::key::Program;
use crate::config::load::{self, Flag};
use crate::config::notice::Origin;
use crate::config::settings::{self, BrokerConfig, FlushDiskType};
use crate::failure::Failure;

/// A broker that could be started: every value is found and fits the others.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) cores: Vec<usize>,
    /// A core for a name server beside it.
    pub(crate) spare: Option<usize>,
    pub(crate) told: Told,
    /// Who chose how a batch is made durable.
    pub(crate) disk: disk::Chosen,
}

/// Room in a record for everything but its body: the longest topic, properties and hosts.
const RECORD_AROUND: u64 = 64 << 10;

pub(crate) fn flag(flag: &str, key: &str, value: impl std::fmt::Display) -> Flag {
    Flag { flag: flag.to_owned(), key: key.to_owned(), value: value.to_string() }
}

/// The configuration from the file, the environment and the command line.
pub(crate) fn load(flags: &BrokerFlags, name_servers: Option<&str>) -> Result<settings::Settings, Failure> {
    let mut given = Vec::new();
    if let Some(store) = &flags.store {
        given.push(flag("--store", "storePathRootDir", path_text(store).map_err(Failure::usage)?));
    }
    given.extend(flags.listen.map(|ip| flag("--listen", "bindAddress", ip)));
    // Zero stands for a port that is not known yet; the key has no value for that.
    given.extend(flags.port.filter(|port| *port != 0).map(|port| flag("--port", "listenPort", port)));
    given.extend(flags.shards.map(|shards| flag("--shards", "shards", shards)));
    given.extend(flags.cpus.as_ref().map(|cpus| flag("--cpus", "cpus", cpus)));
    let flush = flags.flush.map(|flush| match flush {
        Flush::Async => "ASYNC_FLUSH",
        Flush::Sync => "SYNC_FLUSH",
    });
    given.extend(flush.map(|flush| flag("--flush", "flushDiskType", flush)));
    given.extend(name_servers.map(|list| flag("-n", "namesrvAddr", list)));
    load::from_host(Program::Broker, flags.config.as_deref(), given)
        .map_err(|error| Failure::config(format!("{error:#}")))
}

/// Finds what the configuration leaves open. `is_local` is whether a broker that was told no address listens on this
/// machine only.
pub(crate) fn plan(
    configured: &settings::Settings,
    flags: &BrokerFlags,
    is_local: bool,
    files: u64,
) -> Result<Plan, Failure> {
    let config = configured.broker();
    let is_open = configured.get("bindAddress").is_none_or(|setting| setting.origin == Origin::Default);
    let listen = if is_local && is_open { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { config.bind_address };
    let port = match flags.port {
        Some(0) => place::free_broker_port(listen).map_err(|error| Failure::refused(format!("--port 0: {error}")))?,
        _ => config.listen_port,
    };
    let told = place::told(config.broker_ip1.as_deref(), listen)?;
    let cores = place::choose_cores(config.cpus.as_deref(), &place::usable_cores()?)?;
    let store = config.store_path_root_dir.clone().unwrap_or_else(|| place::home().join("store"));
    let broker_name = config.broker_name.clone().unwrap_or_else(host_name);
    let memory = facts::memory(&Root::host());
    let found =
        Found { listen, port, told: told.clone(), store, broker_name, cores: cores.broker.clone(), files, memory };
    let mut settings = settings(&config, &found)?;
    settings.properties = properties(configured, &settings);
    settings.source = configured.sources().map(|sources| Live::source(sources.clone(), found));
    let origin = || configured.get("commitMethod").map_or(Origin::Default, |setting| setting.origin.clone());
    let forced = config.commit_method.map(|method| (method, origin()));
    let disk = disk::choose(forced, &settings.store, &cores.broker, &mut settings.shard);
    info!(role = ?config.broker_role, flush = ?config.flush_disk_type, store = %settings.store.display(), "configured");
    Ok(Plan { settings, cores: cores.broker, spare: cores.spare, told, disk })
}

/// What the host decided.
#[derive(Debug, Clone)]
pub(super) struct Found {
    listen: IpAddr,
    port: u16,
    told: Told,
    store: PathBuf,
    broker_name: String,
    cores: Vec<usize>,
    /// Files and sockets that the process may open.
    files: u64,
    /// Bytes of memory that the broker may use.
    memory: u64,
}

pub(super) fn settings(config: &BrokerConfig, found: &Found) -> Result<Settings, Failure> {
    let executors = u8::try_from(found.cores.len()).unwrap_or(u8::MAX).max(1);
    // The key's range fits.
    let log_shards = config.shards.map(|shards| u8::try_from(shards).unwrap_or(u8::MAX));
    let shards = log_shards.unwrap_or(executors);
    let mut topics = TopicSettings::new(&config.broker_cluster_name, &found.broker_name, u16::from(shards));
    topics.auto_create = config.auto_create_topic_enable;
    topics.cluster_topic = config.cluster_topic_enable;
    topics.broker_topic = config.broker_topic_enable;
    topics.trace_topic = config.trace_topic_enable.then(|| config.msg_trace_topic_name.clone());
    topics.default_queues = i32::try_from(config.default_topic_queue_nums).unwrap_or(i32::MAX);
    let delay_levels = Levels::parse(&config.message_delay_level);
    let delay_levels = delay_levels
        .map_err(|e| Failure::config(format!("messageDelayLevel = {}: {e}", config.message_delay_level)))?;
    topics.delay_levels = delay_levels.highest();
    topics.timer_wheel = config.timer_wheel_enable;
    topics.permission = i32::try_from(config.broker_permission).unwrap_or(6);
    Ok(Settings {
        identity: Identity {
            cluster_name: config.broker_cluster_name.clone(),
            broker_name: found.broker_name.clone(),
            broker_id: i64::try_from(config.broker_id).unwrap_or(0),
            broker_addr: found.told.with_port(found.port),
            ha_server_addr: found.told.with_port(found.port.saturating_add(1)),
            heartbeat_timeout_ms: None,
            compressed: config.compressed_register,
        },
        store_host: Host::new(found.told.ip, found.port),
        listen: found.listen,
        port: found.port,
        vip: true,
        name_servers: config.namesrv_addrs.clone(),
        register_period: Duration::from_millis(config.register_name_server_period_ms),
        register_timeout: Duration::from_millis(config.register_broker_timeout_ms),
        store: found.store.clone(),
        log_shards,
        default_log_shards: executors,
        cores: found.cores.iter().copied().map(Some).collect(),
        shard: shard_options(config, u64::from(shards))?,
        retention: Policy {
            reserved: Duration::from_secs(3600 * u64::from(config.file_reserved_time_h)),
            when: config.delete_when,
            max_used: f64::from(config.disk_max_used_space_percent) / 100.0,
            forced_from: f64::from(config.disk_space_clean_forcibly_percent) / 100.0,
            may_force: config.clean_file_forcibly_enable,
            batch: usize::from(config.delete_file_batch_max),
            interval: Duration::from_millis(config.clean_resource_interval_ms),
        },
        topics,
        groups: GroupSettings { auto_create: config.auto_create_subscription_group, create_system: false },
        limits: limits(config.server_channel_max_idle_s, found.files, u64::from(executors)),
        message_max: config.max_message_size as usize,
        notify_consumers: config.notify_consumer_ids_changed_enable,
        long_polling: config.long_polling_enable,
        short_polling: Duration::from_millis(config.short_polling_time_ms),
        lite_pull: config.lite_pull_message_enable,
        property_filter: config.enable_property_filter,
        filter_retried: config.filter_support_retry,
        store_replies: config.store_reply_message_enable,
        server_side_reset: config.use_server_side_reset_offset,
        pull_messages_max: config.max_transfer_count as usize,
        query_messages_max: config.max_msgs_num_batch as usize,
        unique_query_max: config.default_query_max_num as usize,
        pull_bytes_max: u64::from(config.max_transfer_bytes),
        flush_timeout: Duration::from_millis(config.sync_flush_timeout_ms),
        send_wait_max: if config.broker_fast_failure_enable {
            Duration::from_millis(config.wait_time_in_send_queue_ms)
        } else {
            // The bound on their number and bytes stays.
            Duration::from_secs(24 * 3600)
        },
        delay_levels,
        timers: TimerSettings {
            enabled: config.timer_wheel_enable,
            delay_max: Duration::from_secs(config.timer_max_delay_s),
            recall: config.recall_message_enable,
            recall_when_not_writable: config.allow_recall_when_broker_not_writeable,
        },
        transactions: TransactionSettings {
            reject: config.reject_transaction_message,
            timing: Timing {
                timeout: Duration::from_millis(config.transaction_timeout_ms),
                interval: Duration::from_millis(config.transaction_check_interval_ms),
                checks_max: config.transaction_check_max,
            },
        },
        recent_bytes: percent_of(found.memory, config.access_message_in_memory_max_percent),
        offsets_interval: Duration::from_millis(config.flush_consumer_offset_interval_ms),
        accept_sends_from_ms: i64::try_from(config.start_accept_send_request_timestamp_ms).unwrap_or(i64::MAX),
        trace_on: config.trace_on,
        region: "DefaultRegion".to_owned(),
        heartbeat: None,
        properties: String::new(),
        source: None,
    })
}

/// All there is where the host does not say how much that is.
fn percent_of(memory: u64, percent: u32) -> u64 {
    if memory == 0 { u64::MAX } else { (memory / 100).saturating_mul(u64::from(percent)) }
}

/// Connections get what files leave over, each executor its part: a refusal that is logged, not a failed `accept`.
pub(crate) fn limits(idle_s: u64, files: u64, executors: u64) -> Limits {
    /// Segments, index files, pipes and the like.
    const OTHER_FILES: u64 = 512;
    const LEAST: usize = 64;
    let each = usize::try_from(files.saturating_sub(OTHER_FILES) / executors.max(1)).unwrap_or(usize::MAX);
    let limits = Limits { idle: Duration::from_secs(idle_s), ..Limits::default() };
    Limits { connections_max: limits.connections_max.min(each).max(LEAST), ..limits }
}

fn shard_options(config: &BrokerConfig, shards: u64) -> Result<ShardOptions, Failure> {
    /// Direct I/O's unit.
    const BLOCK: u64 = 4096;
    let given = config.mapped_file_size_commit_log;
    let segment_size = given / BLOCK * BLOCK;
    if segment_size != given {
        info!("mappedFileSizeCommitLog = {given} is not a multiple of {BLOCK}: segments have {segment_size} bytes");
    }
    let mut options = ShardOptions {
        flush: match config.flush_disk_type {
            FlushDiskType::AsyncFlush => FlushPolicy::Async,
            FlushDiskType::SyncFlush => FlushPolicy::Sync,
        },
        segment_size,
        record_max: u64::from(config.max_message_size) + RECORD_AROUND,
        spare_ratio: f64::from(config.disk_space_clean_forcibly_percent) / 100.0,
        drop_interval: Duration::from_millis(config.delete_commit_log_files_interval_ms),
        disk_full_ratio: f64::from(config.disk_space_warning_level_percent) / 100.0,
        flush_interval: Duration::from_millis(config.flush_interval_commit_log_ms),
        key_index: config.message_index_enable,
        ..ShardOptions::default()
    };
    if let Some(memory) = config.buffer_memory {
        share_memory(memory, shards, &mut options)?;
    }
    Ok(options)
}

/// Shares `bufferMemory` out as the defaults are shared: most for what waits for its write, the rest for readers.
fn share_memory(memory: u64, shards: u64, options: &mut ShardOptions) -> Result<(), Failure> {
    /// Blocks of the log that are read from disk; fewer would be read again and again.
    const COLD_LEAST: u64 = 1 << 20;
    let each = memory / shards;
    let (unwritten, tail) = (each / 16 * 12, each / 16 * 3);
    if unwritten < options.record_max || each / 16 < COLD_LEAST {
        let least = (options.record_max / 12 + 1).max(COLD_LEAST) * 16 * shards;
        return Err(Failure::config(format!(
            "bufferMemory = {memory}: {shards} log shards with messages of up to {} bytes need at least {least}",
            options.record_max - RECORD_AROUND
        )));
    }
    (options.unwritten_max, options.tail_cache_bytes, options.cold_cache_bytes) = (unwritten, tail, each / 16);
    Ok(())
}

/// What GET_BROKER_CONFIG answers: the values in force, with those that the host decided.
pub(super) fn properties(configured: &settings::Settings, found: &Settings) -> String {
    let decided = |name: &str| match name {
        "brokerName" => Some(found.identity.broker_name.clone()),
        "listenPort" => Some(found.port.to_string()),
        "bindAddress" => Some(found.listen.to_string()),
        "brokerIP1" => Some(found.store_host.ip().to_string()),
        "storePathRootDir" => Some(found.store.display().to_string()),
        _ => None,
    };
    let line = |setting: &settings::Setting| {
        let text = match (&setting.value, decided(setting.key.name)) {
            (Some(_), _) if setting.origin != Origin::Default => setting.text.clone(),
            (_, Some(decided)) => decided,
            (Some(_), None) => setting.text.clone(),
            (None, None) => return None,
        };
        Some(format!("{}={text}\n", setting.key.name))
    };
    configured.iter().filter_map(line).collect()
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "DEFAULT_BROKER".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(lines: &str, flags: &BrokerFlags, is_local: bool) -> Result<Plan, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("broker.conf");
        std::fs::write(&file, lines).unwrap();
        let flags = BrokerFlags { config: Some(file), ..flags.clone() };
        plan(&load(&flags, None)?, &flags, is_local, 1 << 20)
    }

    #[test]
    fn a_file_becomes_a_broker() {
        let text = "brokerClusterName=c\nbrokerName=b\nbrokerIP1=10.0.0.7\nlistenPort=20911\nstorePathRootDir=/s\n\
                    flushDiskType=SYNC_FLUSH\nnamesrvAddr=n1:9876;n2:9876\nmaxMessageSize=8388608\nshards=3\n\
                    defaultTopicQueueNums=4\nbrokerPermission=4\nmappedFileSizeCommitLog=67108865\n";
        let settings = planned(text, &BrokerFlags::default(), false).unwrap().settings;
        assert_eq!(settings.identity.broker_addr, "10.0.0.7:20911");
        assert_eq!(settings.identity.ha_server_addr, "10.0.0.7:20912");
        assert_eq!((settings.identity.cluster_name.as_str(), settings.identity.broker_name.as_str()), ("c", "b"));
        assert_eq!((settings.log_shards, settings.topics.shards), (Some(3), 3));
        assert_eq!((settings.topics.default_queues, settings.topics.permission), (4, 4));
        assert_eq!(settings.shard.flush, FlushPolicy::Sync);
        assert_eq!((settings.shard.segment_size, settings.shard.record_max), (64 << 20, (8 << 20) + RECORD_AROUND));
        assert_eq!(settings.name_servers, ["n1:9876", "n2:9876"]);
        assert!(settings.listen.is_unspecified() && settings.vip);
        for line in ["brokerName=b\n", "listenPort=20911\n", "flushDiskType=SYNC_FLUSH\n", "storePathRootDir=/s\n"] {
            assert!(settings.properties.contains(line), "{line} is not in {}", settings.properties);
        }
        assert!(!settings.properties.contains('<'), "a default in words: {}", settings.properties);
    }

    #[test]
    fn flags_stand_above_the_file() {
        let flags = BrokerFlags {
            store: Some("/flag".into()),
            port: Some(30_911),
            listen: Some("127.0.0.2".parse().unwrap()),
            flush: Some(Flush::Async),
            ..BrokerFlags::default()
        };
        let plan = planned("listenPort=20911\nflushDiskType=SYNC_FLUSH\nstorePathRootDir=/s\n", &flags, true).unwrap();
        assert_eq!(plan.settings.identity.broker_addr, "127.0.0.2:30911");
        assert_eq!((plan.settings.store, plan.settings.shard.flush), ("/flag".into(), FlushPolicy::Async));
        assert!(plan.settings.properties.contains("listenPort=30911\n"));
    }

    #[test]
    fn a_standalone_listens_on_this_machine_unless_told_otherwise() {
        let ip =
            |lines, is_local| planned(lines, &BrokerFlags::default(), is_local).unwrap().settings.listen.to_string();
        assert_eq!((ip("", true).as_str(), ip("", false).as_str()), ("127.0.0.1", "0.0.0.0"));
        assert_eq!(ip("bindAddress=0.0.0.0\n", true), "0.0.0.0");
        let free = BrokerFlags { port: Some(0), ..BrokerFlags::default() };
        assert_ne!(planned("", &free, true).unwrap().settings.port, 0);
    }

    #[test]
    fn memory_is_shared_out_or_refused() {
        let options = |memory: &str, shards: &str| {
            let lines = format!("bufferMemory={memory}\nshards={shards}\n");
            planned(&lines, &BrokerFlags::default(), true).map(|plan| plan.settings.shard)
        };
        let shard = options("256M", "2").unwrap();
        assert_eq!((shard.unwritten_max, shard.tail_cache_bytes), (96 << 20, 24 << 20));
        assert!(shard.unwritten_max + shard.tail_cache_bytes + shard.cold_cache_bytes <= 128 << 20);
        let refused = options("16M", "16").unwrap_err().to_string();
        let least = refused.rsplit(' ').next().unwrap();
        assert!(options(least, "16").is_ok(), "{refused}");
    }

    #[test]
    fn a_message_is_recent_within_a_part_of_the_memory() {
        let recent = |lines| planned(lines, &BrokerFlags::default(), true).unwrap().settings.recent_bytes;
        let memory = facts::memory(&Root::host());
        assert_eq!(recent(""), memory / 100 * 40);
        assert_eq!(recent("accessMessageInMemoryMaxRatio=0\n"), 0);
        assert_eq!((percent_of(0, 40), percent_of(u64::MAX, 200)), (u64::MAX, u64::MAX));
    }

    #[test]
    fn connections_fit_the_files() {
        assert_eq!(limits(1, 1 << 20, 2).connections_max, 65_536);
        assert_eq!(limits(1, 2560, 2).connections_max, 1024);
        assert_eq!(limits(1, 0, 2).connections_max, 64);
    }
}
