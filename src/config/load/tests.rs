use super::super::{
    key::{find, keys},
    settings::{BrokerRole, FlushDiskType, NotStartable},
};
use super::*;

fn broker(file: &str) -> Sources {
    let mut sources = Sources::new(Program::Broker);
    sources.file = Some(("broker.conf".to_owned(), file.as_bytes().to_vec()));
    sources
}

fn loaded(file: &str) -> Settings {
    load(&broker(file)).unwrap()
}

fn errors(file: &str) -> Vec<String> {
    load(&broker(file)).unwrap_err().0.iter().map(ToString::to_string).collect()
}

fn notices(settings: &Settings) -> Vec<String> {
    settings.notices().iter().map(ToString::to_string).collect()
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn flag(flag: &str, key: &str, value: &str) -> Flag {
    Flag { flag: flag.to_owned(), key: key.to_owned(), value: value.to_owned() }
}

#[test]
fn every_default_is_a_value_of_its_kind() {
    for program in [Program::Broker, Program::Namesrv] {
        for key in keys(program) {
            let Some(preset) = key.preset() else { continue };
            let parsed = value::parse(key.kind, preset);
            assert!(matches!(parsed, Ok((_, None))), "{} = {preset}: {parsed:?}", key.name);
        }
    }
}

#[test]
fn the_stronger_source_wins_and_the_others_are_remembered() {
    let mut sources = broker("listenPort=20911\nbrokerName=file\nflushDiskType=SYNC_FLUSH\n");
    let port = |sources: &Sources| {
        let settings = load(sources).unwrap();
        let setting = settings.get("listenPort").unwrap();
        (setting.text.clone(), setting.origin.to_string(), setting.overridden.len())
    };
    assert_eq!(port(&sources), ("20911".into(), "broker.conf:1".into(), 1));
    sources.env = env(&[("RINGMQ_LISTEN_PORT", "30911"), ("ROCKETMQ_LISTEN_PORT", "31911"), ("LISTEN_PORT", "1")]);
    assert_eq!(port(&sources), ("30911".into(), "environment RINGMQ_LISTEN_PORT".into(), 3));
    sources.flags.push(flag("--port", "listenPort", "40911"));
    assert_eq!(port(&sources), ("40911".into(), "flag --port".into(), 4));
    let config = load(&sources).unwrap().broker();
    assert_eq!((config.listen_port, config.broker_name.as_deref()), (40911, Some("file")));
    assert_eq!(config.flush_disk_type, FlushDiskType::SyncFlush);
    sources.file = None;
    sources.env.clear();
    sources.flags.clear();
    assert_eq!(port(&sources), ("10911".into(), "default".into(), 0));
}

#[test]
fn environment_names() {
    let mut sources = broker("namesrvAddr=a:1\n");
    sources.env = env(&[("NAMESRV_ADDR", "b:2;c:3")]);
    let settings = load(&sources).unwrap();
    assert_eq!(settings.broker().namesrv_addrs, ["b:2", "c:3"]);
    assert_eq!(
        notices(&settings),
        [
            "environment NAMESRV_ADDR: namesrvAddr = b:2;c:3 overrides a:1 (broker.conf:1); RocketMQ would take the file's"
        ]
    );
    sources.env.push(("ROCKETMQ_NAMESRV_ADDR".into(), "d:4".into()));
    assert_eq!(load(&sources).unwrap().broker().namesrv_addrs, ["d:4"]);

    sources.env = env(&[("NAMESRV_ADDR", " "), ("ROCKETMQ_HOME", "/opt/rocketmq"), ("RINGMQ_LISTEN_PORTS", "1")]);
    let settings = load(&sources).unwrap();
    assert_eq!(settings.broker().namesrv_addrs, ["a:1"]);
    assert_eq!(notices(&settings), ["environment RINGMQ_LISTEN_PORTS: no key has this name; did you mean listenPort?"]);

    sources.env = env(&[("ROCKETMQ_FLUSH_DISK_TYPES", "SYNC_FLUSH")]);
    let error = load(&sources).unwrap_err().to_string();
    assert!(error.contains("ROCKETMQ_FLUSH_DISK_TYPES` is no key, and flushDiskType"), "{error}");
    sources.env = env(&[("ROCKETMQ_LISTEN_PORT", "eleven")]);
    let error = load(&sources).unwrap_err().to_string();
    assert!(error.starts_with("environment ROCKETMQ_LISTEN_PORT: listenPort = eleven:"), "{error}");
}

#[test]
fn a_flag_has_to_name_a_key() {
    let mut sources = broker("");
    sources.flags.push(flag("-D", "listenPrt", "1"));
    assert_eq!(load(&sources).unwrap_err().to_string(), "flag -D: `listenPrt` is no key; did you mean listenPort?");
    sources.flags = vec![flag("-D", "rocketmq.broker.diskSpaceWarningLevelRatio", "0.85")];
    assert_eq!(load(&sources).unwrap().broker().disk_space_warning_level_percent, 85);
}

#[test]
fn a_bad_value_names_line_value_range_and_default() {
    assert_eq!(
        errors("# a comment\ndefaultTopicQueueNums = eight\nlistenPort=70000\n"),
        [
            "broker.conf:2: defaultTopicQueueNums = eight: it is not a whole number; it takes a whole number from 1 to 4096 (default 8)",
            "broker.conf:3: listenPort = 70000: it is out of range; it takes a whole number from 3 to 65534 (default 10911)",
        ]
    );
    assert_eq!(
        errors("brokerrole=master\n"),
        [
            "broker.conf:1: brokerRole = master: it is none of the choices; it takes ASYNC_MASTER or SYNC_MASTER or SLAVE (default ASYNC_MASTER)"
        ]
    );
    assert_eq!(errors("autoCreateTopicEnable=ture\n").len(), 1);
    assert_eq!(errors("brokerIP1=10.0.0.1 10.0.0.2\n").len(), 1);
    assert_eq!(errors("namesrvAddr=10.0.0.1\n").len(), 1);
}

#[test]
fn keys_that_are_not_in_force_are_held_to_their_kind_only_if_they_are_about_durability() {
    assert_eq!(errors("fileReservedTime=three days\n").len(), 1);
    assert_eq!(errors("deleteWhen=04,16\n").len(), 1);
    assert_eq!(errors("enableDLegerCommitLog=ture\n").len(), 1);
    assert_eq!(errors("flushDiskType=\n").len(), 1);
    assert!(loaded("sendMessageThreadPoolNums=${cores}\n").not_in_force().unwrap().contains("${cores}"));
}

#[test]
fn a_misspelt_durability_key_stops_the_start() {
    for name in
        ["flushDiskTpye", "brokerRol", "fileReservedTimes", "inSyncReplica", "enableDLegrCommitLog", "flushDiscType"]
    {
        let errors = errors(&format!("{name}=SYNC_FLUSH\n"));
        assert!(
            errors.len() == 1 && errors[0].starts_with(&format!("broker.conf:1: `{name}` is no key, and ")),
            "{errors:?}"
        );
    }
    let settings = loaded("flushDiskTyp=SYNC_FLUSH\n");
    assert_eq!(settings.broker().flush_disk_type, FlushDiskType::SyncFlush);
    assert_eq!(notices(&settings), ["broker.conf:1: `flushDiskTyp` was read as flushDiskType; write flushDiskType"]);
}

#[test]
fn did_you_mean_is_said_and_not_done() {
    let settings = loaded("listenPorts=1234\ncolour=red\nscanNotActiveBrokerInterval=5\n这是一个 说明\n");
    assert_eq!(settings.broker().listen_port, 10911);
    assert_eq!(
        settings.not_in_force().unwrap(),
        "given but not in force: \
         listenPorts = 1234 (broker.conf:1): no key has this name; did you mean listenPort?; \
         colour = red (broker.conf:2): no key has this name; \
         scanNotActiveBrokerInterval = 5 (broker.conf:3): the name server reads it, a broker does not; \
         这是一个 = 说明 (broker.conf:4): it looks like a comment without its #"
    );
}

#[test]
fn duplicates_show_both_values_and_the_last_wins() {
    let settings = loaded("listenPort=1000\nlistenPort=2000\n");
    assert_eq!(settings.broker().listen_port, 2000);
    assert_eq!(
        notices(&settings),
        ["broker.conf:2: listenPort = 2000 replaces listenPort = 1000 (broker.conf:1); the last one counts"]
    );
    for file in [
        "mappedFileSizeCommitLog=2G\nmapedFileSizeCommitLog=1G\n",
        "mapedFileSizeCommitLog=1G\nmappedFileSizeCommitLog=2G\n",
    ] {
        let settings = loaded(file);
        assert_eq!(settings.broker().mapped_file_size_commit_log, 2 << 30, "the exact name counts");
        assert_eq!(settings.notices().len(), 2);
    }
}

#[test]
fn values_are_repaired_aloud() {
    let settings = loaded(
        "brokerIP1=8.130.0.1 #change it\nnamesrvAddr=a：1；b：2\nflushIntervalCommitLog=1000\nbrokerName=\"b\"\nregisterNameServerPeriod=5000\nbrokerClusterName=\n",
    );
    let config = settings.broker();
    assert_eq!(config.broker_ip1.as_deref(), Some("8.130.0.1"));
    assert_eq!(config.namesrv_addrs, ["a:1", "b:2"]);
    assert_eq!((config.flush_interval_commit_log_ms, config.register_name_server_period_ms), (500, 10_000));
    assert_eq!((config.broker_name.as_deref(), config.broker_cluster_name.as_str()), (Some("b"), "DefaultCluster"));
    assert_eq!(
        notices(&settings),
        [
            "broker.conf:1: brokerIP1: the note `#change it` was taken off the value; a comment needs a line of its own",
            "broker.conf:2: namesrvAddr: full-width punctuation was read as `;`, `:` or `,`",
            "broker.conf:3: flushIntervalCommitLog: it was moved to the nearest bound, 500",
            "broker.conf:4: brokerName: quotes were taken off the value",
            "broker.conf:5: registerNameServerPeriod: it was moved to the nearest bound, 10000",
            "broker.conf:6: brokerClusterName has no value; DefaultCluster stays",
        ]
    );
}

#[test]
fn names_that_are_not_in_force_share_one_warning() {
    let settings = loaded(
        "replicasPerDiskPartition=2\nsendMessageThreadPoolNums=16\npullMessageThreadPoolNums=16\nslaveReadEnable=false\n",
    );
    assert_eq!(
        settings.not_in_force().unwrap(),
        "given but not in force: replicasPerDiskPartition = 2 (broker.conf:1): not built yet: shares of one disk for several brokers; \
         sendMessageThreadPoolNums = 16 (broker.conf:2), pullMessageThreadPoolNums = 16 (broker.conf:3): \
         there are no thread pools: each core runs one shard, and `shards` says how many"
    );
    assert_eq!(loaded("listenPort=10911\n").not_in_force(), None);
}

#[test]
fn the_commit_log_stays_below_the_root() {
    assert_eq!(
        loaded("storePathRootDir=/data/store\nstorePathCommitLog=/data/store/commitlog/\n").not_in_force(),
        None
    );
    let elsewhere = loaded("storePathCommitLog=/ssd/commitlog\nstorePathRootDir=/data/store\n").not_in_force().unwrap();
    assert!(
        elsewhere.ends_with("(broker.conf:1): not built yet: another place than /data/store/commitlog"),
        "{elsewhere}"
    );
    assert!(loaded("storePathCommitLog=/data/store/commitlog\n").not_in_force().is_some());
}

#[test]
fn what_loads_and_is_not_run() {
    let refusal = |file: &str| loaded(file).startable().unwrap_err();
    let line = |line| Origin::File { name: "broker.conf".into(), line };
    assert_eq!(refusal("brokerId=1\nbrokerRole=SLAVE\n"), NotStartable::Slave { origin: line(2) });
    assert_eq!(refusal("brokerId=1\n"), NotStartable::MasterId { id: 1, origin: line(1) });
    assert_eq!(
        refusal("enableDLedgerCommitLog=true\n"),
        NotStartable::FailOver { key: "enableDLegerCommitLog", origin: line(1) }
    );
    assert_eq!(
        refusal("enableControllerMode=true\n"),
        NotStartable::FailOver { key: "enableControllerMode", origin: line(1) }
    );
    assert_eq!(
        refusal("mappedFileSizeCommitLog=5M\n"),
        NotStartable::SmallSegment { segment: 5 << 20, origin: line(1), message: 4 << 20 }
    );
    for file in [
        "",
        "enableDLegerCommitLog=false\n",
        "brokerRole=SYNC_MASTER\n",
        "mappedFileSizeCommitLog=1M\nmaxMessageSize=64K\n",
    ] {
        assert_eq!(loaded(file).startable(), Ok(()), "{file}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let mut sources = broker("");
    sources.file = Some(("b.conf".into(), b"\xff\xfea\0".to_vec()));
    assert_eq!(load(&sources).unwrap_err().to_string(), "b.conf: it is UTF-16; save it as UTF-8");
    let error = from_host(Program::Broker, Some(Path::new("/nowhere/broker.conf")), Vec::new()).unwrap_err();
    assert!(format!("{error:#}").starts_with("cannot read the configuration /nowhere/broker.conf: "), "{error:#}");
}

/// The usual deployments: each file loads, and each key in it is in force or named in the one warning.
fn deployment(name: &str, bytes: &[u8]) -> Settings {
    let mut sources = Sources::new(Program::Broker);
    sources.file = Some((name.to_owned(), bytes.to_vec()));
    let settings = load(&sources).unwrap_or_else(|errors| panic!("{name}: {errors}"));
    let warning = settings.not_in_force().unwrap_or_default();
    let entries = properties::parse(bytes).unwrap().entries;
    assert!(!entries.is_empty());
    for entry in entries {
        let Match::Key(key, _) = find(Program::Broker, &entry.key) else { panic!("{name}: {} is no key", entry.key) };
        let origin = Origin::File { name: name.to_owned(), line: entry.line };
        let in_force = settings.get(key.name).is_some_and(|setting| setting.origin == origin);
        let named = warning.contains(&format!("{} = {} ({origin})", key.name, entry.value));
        let as_asked = matches!(key.class, Class::UnderRoot(_)) || entry.value == "false";
        assert!(in_force || named || as_asked, "{name}: {} is neither in force nor named", entry.key);
    }
    settings
}

macro_rules! deployment {
    ($path:literal) => {
        deployment($path, include_bytes!(concat!("../../../tests/fixtures/conf/", $path)))
    };
}

#[test]
fn the_single_broker() {
    let settings = deployment!("broker.conf");
    assert_eq!(settings.startable(), Ok(()));
    let config = settings.broker();
    assert_eq!((config.broker_name.as_deref(), config.broker_ip1.as_deref()), (Some("broker-a"), Some("192.168.1.20")));
    assert_eq!(config.namesrv_addrs, ["192.168.1.20:9876"]);
    assert!(config.auto_create_topic_enable && config.auto_create_subscription_group);
    assert!(config.enable_property_filter);
    assert!(!settings.not_in_force().unwrap_or_default().contains("enablePropertyFilter"));
}

#[test]
fn two_masters_two_slaves_async() {
    let settings = deployment!("2m-2s-async/broker-a.properties");
    assert_eq!(settings.startable(), Ok(()));
    assert_eq!(settings.not_in_force(), None);
    assert_eq!(settings.broker().file_reserved_time_h, 48);
    assert_eq!(settings.notices(), []);
    let slave = deployment!("2m-2s-async/broker-a-s.properties");
    assert_eq!((slave.broker().broker_role, slave.broker().broker_id), (BrokerRole::Slave, 1));
    let refusal = slave.startable().unwrap_err().to_string();
    assert!(refusal.starts_with("brokerRole = SLAVE (2m-2s-async/broker-a-s.properties:7): replication is not built"));
}

#[test]
fn two_masters_two_slaves_sync() {
    let settings = deployment!("2m-2s-sync/broker-a.properties");
    assert_eq!(settings.startable(), Ok(()));
    let config = settings.broker();
    assert_eq!(config.broker_role, BrokerRole::SyncMaster);
    assert_eq!(config.namesrv_addrs, ["rocketmq-nameserver1:9876", "rocketmq-nameserver2:9876"]);
    assert_eq!((config.max_message_size, config.mapped_file_size_commit_log), (65_536, 1 << 30));
    let warning = settings.not_in_force().unwrap();
    assert!(warning.contains(
        "brokerRole = SYNC_MASTER (2m-2s-sync/broker-a.properties:30): replication is not built yet: nothing is copied"
    ));
    assert!(!warning.contains("storePathCommitLog"), "{warning}");
    let notices = notices(&settings);
    assert!(
        notices.iter().any(|notice| notice.contains("`mapedFileSizeCommitLog` was read as mappedFileSizeCommitLog"))
    );
    assert!(notices.iter().any(|notice| notice.starts_with("maxMessageSize = 65536")));
}

#[test]
fn two_masters_without_slaves() {
    let settings = deployment!("2m-noslave/broker-a.properties");
    assert_eq!(settings.startable(), Ok(()));
    assert_eq!(settings.broker().flush_disk_type, FlushDiskType::SyncFlush);
    assert!(!settings.not_in_force().unwrap().contains("transientStorePoolEnable"));
}

#[test]
fn dledger() {
    let settings = deployment!("dledger/broker-n0.conf");
    assert_eq!(settings.broker().listen_port, 30911);
    let warning = settings.not_in_force().unwrap();
    assert!(warning.contains("enableDLegerCommitLog = true (dledger/broker-n0.conf:8)"), "{warning}");
    assert!(matches!(settings.startable(), Err(NotStartable::FailOver { key: "enableDLegerCommitLog", .. })));
}

#[test]
fn the_name_server_has_keys_of_its_own() {
    let mut sources = Sources::new(Program::Namesrv);
    sources.file = Some(("namesrv.conf".into(), b"listenPort=19876\norderMessageEnable=true\nbrokerName=a\n".to_vec()));
    let settings = load(&sources).unwrap();
    let config = settings.namesrv();
    assert_eq!((config.listen_port, config.order_message_enable, config.kv_config_path), (19876, true, None));
    assert_eq!(
        settings.not_in_force().unwrap(),
        "given but not in force: brokerName = a (namesrv.conf:3): a broker reads it, the name server does not"
    );
    assert_eq!(settings.startable(), Ok(()));
}
