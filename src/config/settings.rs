//! The values that are in force, each with its origin, and what the two programs make of them.
//!
//! `Settings` is what `load` returns. `BrokerConfig` and `NamesrvConfig` are plain fields, named after their keys,
//! that know neither the broker nor the name server. Whether the program may run with the values is `startable`.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use ringmq_broker::retention::Hours;
use ringmq_rt::CommitMethod;

use super::{
    key::{Key, Program},
    load::Sources,
    notice::{self, Idle, Notice, Origin},
    value::Value,
};

/// One key with what is in force for it.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) key: &'static Key,
    /// Nothing where the host decides.
    pub(crate) value: Option<Value>,
    /// The value as it was written, or the default.
    pub(crate) text: String,
    pub(crate) origin: Origin,
    /// What other sources said, the weakest first.
    pub(crate) overridden: Vec<(Origin, String)>,
}

#[derive(Debug)]
pub(crate) struct Settings {
    pub(super) program: Program,
    pub(super) values: BTreeMap<&'static str, Setting>,
    pub(super) idle: Vec<Idle>,
    pub(super) notices: Vec<Notice>,
    /// What they were made from.
    pub(super) sources: Option<Sources>,
}

/// Why a configuration that loads is not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotStartable {
    #[error(
        "brokerRole = SLAVE ({origin}): replication is not built, so a slave would stay empty; run the master alone, or keep RocketMQ for this pair"
    )]
    Slave { origin: Origin },
    #[error(
        "{key} = true ({origin}): automatic fail-over is not built, and several members would each take themselves for the master; set it to false on one of them and leave the others off"
    )]
    FailOver { key: &'static str, origin: Origin },
    #[error("brokerId = {id} ({origin}): a master's id is 0; set brokerId = 0")]
    MasterId { id: i64, origin: Origin },
    #[error(
        "mappedFileSizeCommitLog = {segment} ({origin}): a segment has to hold at least two messages of maxMessageSize = {message}; raise the one or lower the other"
    )]
    SmallSegment { segment: i64, origin: Origin, message: i64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokerRole {
    AsyncMaster,
    /// Loads, and is run as a master that nothing is copied from: the one warning says so.
    SyncMaster,
    Slave,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlushDiskType {
    AsyncFlush,
    SyncFlush,
}

/// What a broker is told. Sizes are bytes; the names carry the other units. A field that is an `Option` is left to
/// the host when it is empty.
#[derive(Debug, Clone)]
pub(crate) struct BrokerConfig {
    pub(crate) broker_cluster_name: String,
    /// The host name if nothing was said.
    pub(crate) broker_name: Option<String>,
    pub(crate) broker_id: u64,
    pub(crate) broker_role: BrokerRole,
    pub(crate) flush_disk_type: FlushDiskType,
    pub(crate) namesrv_addrs: Vec<String>,
    pub(crate) bind_address: IpAddr,
    pub(crate) listen_port: u16,
    pub(crate) broker_ip1: Option<String>,
    pub(crate) broker_permission: u32,
    pub(crate) store_path_root_dir: Option<PathBuf>,
    pub(crate) mapped_file_size_commit_log: u64,
    pub(crate) max_message_size: u32,
    pub(crate) default_topic_queue_nums: u32,
    pub(crate) auto_create_topic_enable: bool,
    pub(crate) auto_create_subscription_group: bool,
    pub(crate) cluster_topic_enable: bool,
    pub(crate) broker_topic_enable: bool,
    pub(crate) trace_topic_enable: bool,
    pub(crate) register_name_server_period_ms: u64,
    pub(crate) register_broker_timeout_ms: u64,
    pub(crate) compressed_register: bool,
    pub(crate) long_polling_enable: bool,
    pub(crate) short_polling_time_ms: u64,
    pub(crate) lite_pull_message_enable: bool,
    pub(crate) enable_property_filter: bool,
    pub(crate) filter_support_retry: bool,
    pub(crate) use_server_side_reset_offset: bool,
    pub(crate) trace_on: bool,
    pub(crate) store_reply_message_enable: bool,
    pub(crate) msg_trace_topic_name: String,
    pub(crate) max_transfer_bytes: u32,
    pub(crate) max_transfer_count: u32,
    pub(crate) access_message_in_memory_max_percent: u32,
    /// Names of keys.
    pub(crate) config_black_list: Vec<String>,
    pub(crate) message_index_enable: bool,
    pub(crate) max_msgs_num_batch: u32,
    pub(crate) default_query_max_num: u32,
    pub(crate) notify_consumer_ids_changed_enable: bool,
    pub(crate) broker_fast_failure_enable: bool,
    pub(crate) wait_time_in_send_queue_ms: u64,
    pub(crate) timer_wheel_enable: bool,
    pub(crate) timer_max_delay_s: u64,
    pub(crate) recall_message_enable: bool,
    pub(crate) allow_recall_when_broker_not_writeable: bool,
    pub(crate) message_delay_level: String,
    pub(crate) reject_transaction_message: bool,
    pub(crate) transaction_timeout_ms: u64,
    pub(crate) transaction_check_interval_ms: u64,
    pub(crate) transaction_check_max: u32,
    pub(crate) flush_consumer_offset_interval_ms: u64,
    pub(crate) server_channel_max_idle_s: u64,
    pub(crate) disk_space_warning_level_percent: u8,
    pub(crate) disk_space_clean_forcibly_percent: u8,
    pub(crate) disk_max_used_space_percent: u8,
    pub(crate) clean_file_forcibly_enable: bool,
    pub(crate) file_reserved_time_h: u32,
    pub(crate) delete_when: Hours,
    pub(crate) clean_resource_interval_ms: u64,
    pub(crate) delete_commit_log_files_interval_ms: u64,
    pub(crate) delete_file_batch_max: u16,
    pub(crate) flush_interval_commit_log_ms: u64,
    pub(crate) sync_flush_timeout_ms: u64,
    /// Milliseconds since 1970.
    pub(crate) start_accept_send_request_timestamp_ms: u64,
    pub(crate) shards: Option<u16>,
    pub(crate) cpus: Option<Vec<usize>>,
    /// Nothing where it is left to measurement and disk.
    pub(crate) commit_method: Option<CommitMethod>,
    pub(crate) buffer_memory: Option<u64>,
}

/// What a name server is told.
#[derive(Debug, Clone)]
pub(crate) struct NamesrvConfig {
    pub(crate) bind_address: IpAddr,
    pub(crate) listen_port: u16,
    /// `namesrv/kvConfig.json` below the home folder if nothing was said.
    pub(crate) kv_config_path: Option<PathBuf>,
    pub(crate) order_message_enable: bool,
    pub(crate) return_order_topic_config_to_broker: bool,
    pub(crate) enable_all_topic_list: bool,
    pub(crate) enable_topic_list: bool,
    pub(crate) scan_not_active_broker_interval_ms: u64,
    pub(crate) delete_topic_with_broker_registration: bool,
    pub(crate) server_channel_max_idle_s: u64,
}

impl Settings {
    pub(crate) fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// The one warning about names that were given and are not in force.
    pub(crate) fn not_in_force(&self) -> Option<String> {
        notice::not_in_force(&self.idle)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Setting> {
        self.values.get(name)
    }

    pub(crate) fn sources(&self) -> Option<&Sources> {
        self.sources.as_ref()
    }

    /// Everything that is in force, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.values.values()
    }

    /// Refuses values that load but that this version must not be run with.
    pub(crate) fn startable(&self) -> Result<(), NotStartable> {
        if self.program == Program::Namesrv {
            return Ok(());
        }
        let mut read = Reader::new(self);
        for key in ["enableDLegerCommitLog", "enableControllerMode"] {
            if let Some(idle) = self.idle.iter().find(|idle| idle.key.is_some_and(|k| k.name == key)) {
                return Err(NotStartable::FailOver { key, origin: idle.origin.clone() });
            }
        }
        if read.text("brokerRole") == "SLAVE" {
            return Err(NotStartable::Slave { origin: self.origin("brokerRole") });
        }
        let id = read.int("brokerId");
        if id != 0 {
            return Err(NotStartable::MasterId { id, origin: self.origin("brokerId") });
        }
        let (segment, message) = (read.int("mappedFileSizeCommitLog"), read.int("maxMessageSize"));
        if segment < message.saturating_mul(2) {
            return Err(NotStartable::SmallSegment {
                segment,
                origin: self.origin("mappedFileSizeCommitLog"),
                message,
            });
        }
        Ok(())
    }

    fn origin(&self, name: &str) -> Origin {
        self.values.get(name).map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// What a broker is told by these settings; they must have been loaded for a broker.
    pub(crate) fn broker(&self) -> BrokerConfig {
        read_broker(&mut Reader::new(self))
    }

    /// What a name server is told by these settings; they must have been loaded for a name server.
    pub(crate) fn namesrv(&self) -> NamesrvConfig {
        read_namesrv(&mut Reader::new(self))
    }
}

fn read_broker(read: &mut Reader<'_>) -> BrokerConfig {
    BrokerConfig {
        broker_cluster_name: read.text("brokerClusterName"),
        broker_name: read.text_if_any("brokerName"),
        broker_id: read.number("brokerId"),
        broker_role: match read.text("brokerRole").as_str() {
            "SYNC_MASTER" => BrokerRole::SyncMaster,
            "SLAVE" => BrokerRole::Slave,
            _ => BrokerRole::AsyncMaster,
        },
        flush_disk_type: match read.text("flushDiskType").as_str() {
            "SYNC_FLUSH" => FlushDiskType::SyncFlush,
            _ => FlushDiskType::AsyncFlush,
        },
        namesrv_addrs: read.addresses("namesrvAddr"),
        bind_address: read.ip("bindAddress"),
        listen_port: read.number("listenPort"),
        broker_ip1: read.text_if_any("brokerIP1"),
        broker_permission: read.text("brokerPermission").parse().unwrap_or(6),
        store_path_root_dir: read.text_if_any("storePathRootDir").map(PathBuf::from),
        mapped_file_size_commit_log: read.number("mappedFileSizeCommitLog"),
        max_message_size: read.number("maxMessageSize"),
        default_topic_queue_nums: read.number("defaultTopicQueueNums"),
        auto_create_topic_enable: read.bool("autoCreateTopicEnable"),
        auto_create_subscription_group: read.bool("autoCreateSubscriptionGroup"),
        cluster_topic_enable: read.bool("clusterTopicEnable"),
        broker_topic_enable: read.bool("brokerTopicEnable"),
        trace_topic_enable: read.bool("traceTopicEnable"),
        register_name_server_period_ms: read.number("registerNameServerPeriod"),
        register_broker_timeout_ms: read.number("registerBrokerTimeoutMills"),
        compressed_register: read.bool("compressedRegister"),
        long_polling_enable: read.bool("longPollingEnable"),
        short_polling_time_ms: read.number("shortPollingTimeMills"),
        lite_pull_message_enable: read.bool("litePullMessageEnable"),
        enable_property_filter: read.bool("enablePropertyFilter"),
        filter_support_retry: read.bool("filterSupportRetry"),
        use_server_side_reset_offset: read.bool("useServerSideResetOffset"),
        trace_on: read.bool("traceOn"),
        store_reply_message_enable: read.bool("storeReplyMessageEnable"),
        msg_trace_topic_name: read.text("msgTraceTopicName"),
        max_transfer_bytes: read.number("maxTransferBytesOnMessageInMemory"),
        max_transfer_count: read.number("maxTransferCountOnMessageInMemory"),
        access_message_in_memory_max_percent: read.number("accessMessageInMemoryMaxRatio"),
        config_black_list: read.text("configBlackList").split(';').map(|name| name.trim().to_owned()).collect(),
        message_index_enable: read.bool("messageIndexEnable"),
        max_msgs_num_batch: read.number("maxMsgsNumBatch"),
        default_query_max_num: read.number("defaultQueryMaxNum"),
        notify_consumer_ids_changed_enable: read.bool("notifyConsumerIdsChangedEnable"),
        broker_fast_failure_enable: read.bool("brokerFastFailureEnable"),
        wait_time_in_send_queue_ms: read.number("waitTimeMillsInSendQueue"),
        timer_wheel_enable: read.bool("timerWheelEnable"),
        timer_max_delay_s: read.number("timerMaxDelaySec"),
        recall_message_enable: read.bool("recallMessageEnable"),
        allow_recall_when_broker_not_writeable: read.bool("allowRecallWhenBrokerNotWriteable"),
        message_delay_level: read.text("messageDelayLevel"),
        reject_transaction_message: read.bool("rejectTransactionMessage"),
        transaction_timeout_ms: read.number("transactionTimeOut"),
        transaction_check_interval_ms: read.number("transactionCheckInterval"),
        transaction_check_max: read.number("transactionCheckMax"),
        flush_consumer_offset_interval_ms: read.number("flushConsumerOffsetInterval"),
        server_channel_max_idle_s: read.number("serverChannelMaxIdleTimeSeconds"),
        disk_space_warning_level_percent: read.number("diskSpaceWarningLevelRatio"),
        disk_space_clean_forcibly_percent: read.number("diskSpaceCleanForciblyRatio"),
        disk_max_used_space_percent: read.number("diskMaxUsedSpaceRatio"),
        clean_file_forcibly_enable: read.bool("cleanFileForciblyEnable"),
        file_reserved_time_h: read.number("fileReservedTime"),
        delete_when: read.hours("deleteWhen"),
        clean_resource_interval_ms: read.number("cleanResourceInterval"),
        delete_commit_log_files_interval_ms: read.number("deleteCommitLogFilesInterval"),
        delete_file_batch_max: read.number("deleteFileBatchMax"),
        flush_interval_commit_log_ms: read.number("flushIntervalCommitLog"),
        sync_flush_timeout_ms: read.number("syncFlushTimeout"),
        start_accept_send_request_timestamp_ms: read.number("startAcceptSendRequestTimeStamp"),
        shards: read.number_if_any("shards"),
        cpus: read.cpus("cpus"),
        commit_method: CommitMethod::named(&read.text("commitMethod")),
        buffer_memory: read.number_if_any("bufferMemory"),
    }
}

fn read_namesrv(read: &mut Reader<'_>) -> NamesrvConfig {
    NamesrvConfig {
        bind_address: read.ip("bindAddress"),
        listen_port: read.number("listenPort"),
        kv_config_path: read.text_if_any("kvConfigPath").map(PathBuf::from),
        order_message_enable: read.bool("orderMessageEnable"),
        return_order_topic_config_to_broker: read.bool("returnOrderTopicConfigToBroker"),
        enable_all_topic_list: read.bool("enableAllTopicList"),
        enable_topic_list: read.bool("enableTopicList"),
        scan_not_active_broker_interval_ms: read.number("scanNotActiveBrokerInterval"),
        delete_topic_with_broker_registration: read.bool("deleteTopicWithBrokerRegistration"),
        server_channel_max_idle_s: read.number("serverChannelMaxIdleTimeSeconds"),
    }
}

/// Reads values by name and type. The table gives each key its kind and range, and `load` holds values to them, so
/// a mismatch is a mistake in this file: it panics, and a test reads every key at its bounds.
struct Reader<'a> {
    settings: &'a Settings,
    /// The names that were asked for, so that a test can hold them against the table.
    names: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self { settings, names: Vec::new() }
    }

    fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.names.push(name);
        match self.settings.values.get(name) {
            Some(setting) => setting.value.as_ref(),
            None => panic!("{name} is not a key that is in force"),
        }
    }

    fn bool(&mut self, name: &'static str) -> bool {
        match self.value(name) {
            Some(Value::Bool(value)) => *value,
            other => panic!("{name} is {other:?}, not true or false"),
        }
    }

    fn int_if_any(&mut self, name: &'static str) -> Option<i64> {
        match self.value(name) {
            Some(Value::Int(value)) => Some(*value),
            None => None,
            other => panic!("{name} is {other:?}, not a number"),
        }
    }

    fn int(&mut self, name: &'static str) -> i64 {
        match self.int_if_any(name) {
            Some(value) => value,
            None => panic!("{name} has no default"),
        }
    }

    fn number<T: TryFrom<i64>>(&mut self, name: &'static str) -> T {
        match T::try_from(self.int(name)) {
            Ok(value) => value,
            Err(_) => panic!("the range of {name} does not fit its field"),
        }
    }

    fn number_if_any<T: TryFrom<i64>>(&mut self, name: &'static str) -> Option<T> {
        self.int_if_any(name).map(|_| self.number(name))
    }

    fn text_if_any(&mut self, name: &'static str) -> Option<String> {
        match self.value(name) {
            Some(Value::Text(value)) => Some(value.clone()),
            None => None,
            other => panic!("{name} is {other:?}, not text"),
        }
    }

    fn text(&mut self, name: &'static str) -> String {
        match self.text_if_any(name) {
            Some(value) => value,
            None => panic!("{name} has no default"),
        }
    }

    fn addresses(&mut self, name: &'static str) -> Vec<String> {
        match self.value(name) {
            Some(Value::Addresses(value)) => value.clone(),
            None => Vec::new(),
            other => panic!("{name} is {other:?}, not a list of addresses"),
        }
    }

    fn ip(&mut self, name: &'static str) -> IpAddr {
        match self.value(name) {
            Some(Value::Ip(value)) => *value,
            other => panic!("{name} is {other:?}, not an address"),
        }
    }

    fn hours(&mut self, name: &'static str) -> Hours {
        match self.value(name) {
            Some(Value::Hours(value)) => *value,
            other => panic!("{name} is {other:?}, not hours"),
        }
    }

    fn cpus(&mut self, name: &'static str) -> Option<Vec<usize>> {
        match self.value(name) {
            Some(Value::Cpus(value)) => Some(value.clone()),
            None => None,
            other => panic!("{name} is {other:?}, not a list of cores"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{
        key::{self, Class, Kind},
        load::{Flag, Sources, load},
    };
    use super::*;

    fn honoured(program: Program) -> BTreeSet<&'static str> {
        key::keys(program).filter(|key| key.class == Class::Honoured).map(|key| key.name).collect()
    }

    #[test]
    fn every_honoured_key_reaches_a_field_and_no_other_does() {
        let settings = load(&Sources::new(Program::Broker)).unwrap();
        let mut read = Reader::new(&settings);
        read_broker(&mut read);
        assert_eq!(BTreeSet::from_iter(read.names), honoured(Program::Broker));

        let settings = load(&Sources::new(Program::Namesrv)).unwrap();
        let mut read = Reader::new(&settings);
        read_namesrv(&mut read);
        assert_eq!(BTreeSet::from_iter(read.names), honoured(Program::Namesrv));
    }

    #[test]
    fn every_range_fits_its_field() {
        for program in [Program::Broker, Program::Namesrv] {
            for key in key::keys(program).filter(|key| key.class == Class::Honoured) {
                let bounds = match key.kind {
                    Kind::Int { min, max } | Kind::Clamped { min, max } => [min, max],
                    Kind::Size { min, max } | Kind::Percent { min, max } => [min, max],
                    _ => continue,
                };
                for bound in bounds {
                    let mut sources = Sources::new(program);
                    let (flag, value) = ("-D".to_owned(), bound.to_string());
                    sources.flags.push(Flag { flag, key: key.name.to_owned(), value });
                    let settings = load(&sources).unwrap();
                    match program {
                        Program::Broker => drop(settings.broker()),
                        Program::Namesrv => drop(settings.namesrv()),
                    }
                }
            }
        }
    }

    #[test]
    fn every_commit_method_can_be_chosen_and_auto_leaves_it_open() {
        let key = key::keys(Program::Broker).find(|key| key.name == "commitMethod").unwrap();
        let Kind::Choice(words) = key.kind else { panic!("{:?}", key.kind) };
        let methods = words.iter().filter_map(|word| CommitMethod::named(word));
        assert_eq!(methods.collect::<Vec<_>>(), CommitMethod::ALL);
        assert_eq!((words.len(), words[0]), (CommitMethod::ALL.len() + 1, "auto"));
        for word in words {
            let mut sources = Sources::new(Program::Broker);
            let flag = Flag { flag: "-D".into(), key: key.name.into(), value: (*word).into() };
            sources.flags.push(flag);
            assert_eq!(load(&sources).unwrap().broker().commit_method, CommitMethod::named(word));
        }
    }

    #[test]
    fn defaults() {
        let broker = load(&Sources::new(Program::Broker)).unwrap().broker();
        assert_eq!(broker.broker_cluster_name, "DefaultCluster");
        assert_eq!(broker.broker_name, None);
        assert_eq!((broker.listen_port, broker.broker_id, broker.broker_permission), (10911, 0, 6));
        assert_eq!((broker.broker_role, broker.flush_disk_type), (BrokerRole::AsyncMaster, FlushDiskType::AsyncFlush));
        assert_eq!((broker.mapped_file_size_commit_log, broker.max_message_size), (1 << 30, 4 << 20));
        assert_eq!((broker.max_transfer_bytes, broker.max_transfer_count), (262_144, 32));
        assert_eq!((broker.max_msgs_num_batch, broker.default_query_max_num), (64, 32));
        assert!(broker.message_index_enable);
        assert_eq!(broker.disk_space_warning_level_percent, 90);
        assert!(broker.namesrv_addrs.is_empty() && broker.shards.is_none() && broker.cpus.is_none());
        let namesrv = load(&Sources::new(Program::Namesrv)).unwrap().namesrv();
        assert_eq!((namesrv.listen_port, namesrv.scan_not_active_broker_interval_ms), (9876, 5000));
        assert!(!namesrv.order_message_enable && namesrv.return_order_topic_config_to_broker);
    }
}
