use super::*;
use crate::table::TableError;
use ringmq_protocol::code::ResponseCode;

fn settings() -> TopicSettings {
    TopicSettings { timer_wheel: true, ..TopicSettings::new("DefaultCluster", "broker-a", 4) }
}

fn table() -> TopicTable {
    TopicTable::open(settings(), None, 1_000)
}

fn asked(topic: &str, queues: i32) -> CreateTopic {
    CreateTopic {
        topic: topic.to_owned(),
        default_topic: names::AUTO_CREATE_TOPIC_KEY.to_owned(),
        read_queue_nums: queues,
        write_queue_nums: queues,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        ..CreateTopic::default()
    }
}

fn wanted(topic: &str) -> Wanted<'_> {
    Wanted { topic, default_topic: names::AUTO_CREATE_TOPIC_KEY, default_queues: 4, unit_mode: false }
}

fn shape(table: &TopicTable, topic: &str) -> Option<(i32, i32, i32)> {
    let config = &table.get(topic)?.config;
    Some((config.read_queue_nums, config.write_queue_nums, config.perm))
}

#[test]
fn the_system_topics_are_there_from_the_start() {
    let table = table();
    for (topic, queues, perm) in [
        ("SELF_TEST_TOPIC", 1, 6),
        ("TBW102", 8, 7),
        ("BenchmarkTest", 1024, 6),
        ("DefaultCluster", 16, 7),
        ("broker-a", 1, 7),
        ("OFFSET_MOVED_EVENT", 1, 6),
        ("SCHEDULE_TOPIC_XXXX", 18 * 4, 6),
        ("DefaultCluster_REPLY_TOPIC", 1, 6),
        ("rmq_sys_REVIVE_LOG_DefaultCluster", 8, 6),
        ("rmq_sys_SYNC_BROKER_MEMBER_broker-a", 1, 1),
        ("RMQ_SYS_TRANS_HALF_TOPIC", 4, 6),
        ("RMQ_SYS_TRANS_OP_HALF_TOPIC", 4, 6),
        ("rmq_sys_wheel_timer", 4, 6),
    ] {
        assert_eq!(shape(&table, topic), Some((queues, queues, perm)), "{topic}");
        assert!(table.is_system(topic), "{topic}");
    }
    assert_eq!(table.len(), 13);
    assert_eq!(table.system_names().len(), 13);
    assert!(table.revision().is_dirty());
}

#[test]
fn the_configuration_decides_which_system_topics_there_are() {
    let settings = TopicSettings {
        auto_create: false,
        cluster_topic: false,
        broker_topic: false,
        timer_wheel: false,
        trace_topic: Some("my_trace".to_owned()),
        ..settings()
    };
    let table = TopicTable::open(settings, None, 0);
    assert!(!table.contains("TBW102") && !table.contains("rmq_sys_wheel_timer"));
    assert_eq!(shape(&table, "DefaultCluster"), Some((16, 16, 1)));
    assert_eq!(shape(&table, "broker-a"), Some((1, 1, 1)));
    assert_eq!(shape(&table, "my_trace"), Some((1, 1, 6)));
    assert!(table.is_system("my_trace"));
}

#[test]
fn an_administrator_creates_and_changes_a_topic() {
    let mut table = table();
    let before = *table.version();
    let changes = table.create_or_update(&asked("T", 4), 2_000).unwrap();
    assert!(matches!(&changes[..], [TopicChange::Put(topic)] if topic.config.topic_name == "T"));
    assert_eq!(*table.version(), DataVersion { counter: before.counter + 1, timestamp: 2_000, ..before });
    let start = table.get("T").unwrap().start;

    assert_eq!(table.create_or_update(&asked("T", 4), 3_000), Ok(vec![]));
    assert_eq!(table.version().timestamp, 2_000);

    let wider = CreateTopic { order: true, perm: 4, topic_sys_flag: Some(1), ..asked("T", 12) };
    assert_eq!(table.create_or_update(&wider, 3_000).unwrap().len(), 1);
    let topic = table.get("T").unwrap();
    assert_eq!((topic.start, topic.config.order, topic.config.topic_sys_flag), (start, true, 1));
    assert_eq!(shape(&table, "T"), Some((12, 12, 4)));
    assert!(table.is_ordered("T"));
}

#[test]
fn a_topic_that_may_not_be_created_is_refused_in_rocketmq_words() {
    let mut table = table();
    let before = *table.version();
    let refused = |table: &mut TopicTable, asked: &CreateTopic| table.create_or_update(asked, 9).unwrap_err();
    for topic in ["", "a b", "a.b", &"t".repeat(128)] {
        assert_eq!(refused(&mut table, &asked(topic, 1)).code, ResponseCode::INVALID_PARAMETER, "{topic}");
    }
    for topic in ["TBW102", "rmq_sys_x", "broker-a", "DefaultCluster", "DefaultCluster_REPLY_TOPIC"] {
        let refusal = refused(&mut table, &asked(topic, 1));
        assert_eq!(refusal.remark, format!("The topic[{topic}] is conflict with system topic."));
        assert_eq!(refusal.code, ResponseCode::INVALID_PARAMETER);
    }
    for bad in [
        asked("T", -1),
        asked("T", TOPIC_QUEUES_MAX + 1),
        CreateTopic { perm: 8, ..asked("T", 1) },
        CreateTopic { perm: -1, ..asked("T", 1) },
        CreateTopic { topic_filter_type: "BOTH".to_owned(), ..asked("T", 1) },
        CreateTopic { attributes: Some("+message.type=MIXED".to_owned()), ..asked("T", 1) },
    ] {
        assert_eq!(refused(&mut table, &bad).code, ResponseCode::INVALID_PARAMETER, "{bad:?}");
    }
    let unknown = CreateTopic { attributes: Some("+color=red".to_owned()), ..asked("T", 1) };
    assert_eq!(refused(&mut table, &unknown), Refusal::failed("unsupported key: color"));
    assert_eq!(*table.version(), before);
}

#[test]
fn attributes_are_changed_by_modification() {
    let mut table = table();
    let with = |attributes: &str| CreateTopic { attributes: Some(attributes.to_owned()), ..asked("T", 1) };
    table.create_or_update(&with("+message.type=FIFO"), 0).unwrap();
    table.create_or_update(&asked("T", 2), 0).unwrap();
    assert_eq!(table.single("T").unwrap().attributes.get("message.type").unwrap(), "FIFO");
    table
        .create_or_update(&CreateTopic { read_queue_nums: 2, write_queue_nums: 2, ..with("-message.type") }, 0)
        .unwrap();
    assert!(table.single("T").unwrap().attributes.is_empty());
}

#[test]
fn a_deleted_topic_is_gone_and_deleting_twice_succeeds() {
    let mut table = table();
    table.create_or_update(&asked("T", 4), 0).unwrap();
    let changes = table.delete("T", 5).unwrap();
    assert!(matches!(&changes[..], [TopicChange::Removed(topic)] if topic.config.topic_name == "T"));
    assert_eq!(table.delete("T", 6), Ok(vec![]));
    assert_eq!(table.version().timestamp, 5);
    assert_eq!(table.delete(" ", 6).unwrap_err().remark, "The specified topic is blank.");
    assert_eq!(table.delete("TBW102", 6), Err(Refusal::system_topic("TBW102")));
    assert_eq!(table.single("T").unwrap_err().remark, "No topic in this broker. topic: T");
}

#[test]
fn a_send_creates_its_topic_after_the_template() {
    let mut table = table();
    let (topic, changes) = table.find_or_create(wanted("T"), 7).unwrap();
    assert_eq!(changes, [TopicChange::Put(Arc::clone(&topic))]);
    assert_eq!(shape(&table, "T"), Some((4, 4, 6)));
    let (again, changes) = table.find_or_create(Wanted { default_queues: 1, ..wanted("T") }, 8).unwrap();
    assert_eq!((again, changes), (topic, vec![]));

    for (topic, asked, queues) in [("U", 100, 8), ("V", 0, 1), ("W", -5, 1)] {
        table.find_or_create(Wanted { default_queues: asked, ..wanted(topic) }, 9).unwrap();
        assert_eq!(shape(&table, topic), Some((queues, queues, 6)), "{topic}");
    }
    table.find_or_create(Wanted { default_topic: "broker-a", ..wanted("X") }, 9).unwrap();
    assert_eq!(shape(&table, "X"), Some((1, 1, 6)));
    table.find_or_create(Wanted { unit_mode: true, ..wanted("Y") }, 9).unwrap();
    assert_eq!(table.single("Y").unwrap().topic_sys_flag, SYS_FLAG_UNIT);
}

#[test]
fn without_a_template_a_send_is_refused() {
    let mut table = TopicTable::open(TopicSettings { auto_create: false, ..settings() }, None, 0);
    let refusal = table.find_or_create(wanted("T"), 0).unwrap_err();
    assert_eq!(refusal.code, ResponseCode::TOPIC_NOT_EXIST);
    assert!(refusal.remark.starts_with("topic[T] not exist, apply first please!\nSee https://"));
    let plain_template = Wanted { default_topic: "BenchmarkTest", ..wanted("T") };
    assert!(table.find_or_create(plain_template, 0).is_err());
    assert_eq!(table.find_or_create(wanted("a b"), 0).unwrap_err().code, ResponseCode::INVALID_PARAMETER);
}

#[test]
fn a_retry_topic_needs_no_template() {
    let mut table = TopicTable::open(TopicSettings { auto_create: false, ..settings() }, None, 0);
    table.find_or_create(Wanted { unit_mode: true, ..wanted("%RETRY%g") }, 0).unwrap();
    assert_eq!(shape(&table, "%RETRY%g"), Some((1, 1, 6)));
    assert_eq!(table.single("%RETRY%g").unwrap().topic_sys_flag, SYS_FLAG_UNIT_SUB);
}

#[test]
fn a_topic_of_the_brokers_own_making_follows_order_and_keeps_its_queues() {
    let mut table = table();
    let own = OwnTopic { topic: "%RETRY%g", queues: 2, order: false, sys_flag: 0 };
    assert_eq!(table.ensure(own, 0).unwrap().len(), 1);
    assert_eq!(table.ensure(own, 0), Ok(vec![]));
    assert_eq!(table.ensure(OwnTopic { queues: 9, order: true, ..own }, 0).unwrap().len(), 1);
    assert_eq!(shape(&table, "%RETRY%g"), Some((2, 2, 6)));
    assert!(table.is_ordered("%RETRY%g"));
}

#[test]
fn switching_auto_creation_off_and_on_again_takes_effect() {
    let reopen = |table: &TopicTable, auto_create: bool, default_queues: i32| {
        let file = TopicFile::parse(&table.to_file(), 4).unwrap();
        TopicTable::open(TopicSettings { auto_create, default_queues, ..settings() }, Some(file), 0)
    };
    let off = reopen(&table(), false, 8);
    assert_eq!(shape(&off, "TBW102"), Some((8, 8, 6)));
    assert!(off.version().counter > table().version().counter);
    let on = reopen(&off, true, 3);
    assert_eq!(shape(&on, "TBW102"), Some((3, 3, 7)));
}

#[test]
fn a_topic_uses_all_shards_and_topics_spread() {
    let mut table = table();
    let mut load = [0; 4];
    for n in 0..40 {
        let name = format!("T{n}");
        table.create_or_update(&asked(&name, 1 + n % 7), 0).unwrap();
        let topic = table.get(&name).unwrap();
        for queue in 0..topic.config.write_queue_nums {
            load[usize::from(topic.home(queue, 4))] += 1;
        }
    }
    assert!(load.iter().max().unwrap() - load.iter().min().unwrap() <= 1, "{load:?}");
    table.create_or_update(&asked("wide", 4), 0).unwrap();
    let topic = table.get("wide").unwrap();
    let mut homes: Vec<u16> = (0..4).map(|queue| topic.home(queue, 4)).collect();
    homes.sort_unstable();
    assert_eq!(homes, [0, 1, 2, 3]);
}

#[test]
fn homes_outlive_a_restart_and_new_topics_go_on_where_they_stopped() {
    let mut table = table();
    for (name, queues) in [("z", 3), ("a", 1), ("m", 2)] {
        table.create_or_update(&asked(name, queues), 0).unwrap();
    }
    let file = TopicFile::parse(&table.to_file(), 4).unwrap();
    let mut again = TopicTable::open(settings(), Some(file), 99);
    for topic in table.iter() {
        assert_eq!(again.get(&topic.config.topic_name), Some(topic));
    }
    assert_eq!(again.version(), table.version());
    assert!(!again.revision().is_dirty());
    for table in [&mut table, &mut again] {
        table.create_or_update(&asked("next", 1), 5).unwrap();
    }
    assert_eq!(table.get("next"), again.get("next"));
}

#[test]
fn a_file_of_another_number_of_shards_is_refused() {
    let text = table().to_file();
    assert_eq!(TopicFile::parse(&text, 8), Err(TableError::OtherShards { written: 4, actual: 8 }));
    for homes in [
        r#"{"shards":4,"next":4,"start":{}}"#,
        r#"{"shards":4,"next":0,"start":{"T":4}}"#,
        r#"{"shards":4,"next":0,"start":{"T":-1}}"#,
        r#"{"shards":4,"next":0}"#,
        r#"{"next":0,"start":{}}"#,
    ] {
        let text = format!(r#"{{"topicConfigTable":{{}},"ringmq.homes":{homes}}}"#);
        assert!(matches!(TopicFile::parse(text.as_bytes(), 4), Err(TableError::Malformed { .. })), "{homes}");
    }
}

/// As 4.9 writes it: no stateVersion, no attributes.
const FILE_4_9: &str = "{\n\t\"dataVersion\":{\n\t\t\"counter\":3,\n\t\t\"timestamp\":1700000000000\n\t},\n\t\"topicConfigTable\":{\n\t\t\"Orders\":{\n\t\t\t\"order\":true,\n\t\t\t\"perm\":6,\n\t\t\t\"readQueueNums\":8,\n\t\t\t\"topicFilterType\":\"SINGLE_TAG\",\n\t\t\t\"topicName\":\"Orders\",\n\t\t\t\"topicSysFlag\":0,\n\t\t\t\"writeQueueNums\":4\n\t\t},\"TBW102\":{\"perm\":7,\"readQueueNums\":8,\"topicName\":\"TBW102\",\"writeQueueNums\":8}\n\t}\n}";

/// As 5.x writes it: attributes, one of them by reference, and members of features that are not here.
const FILE_5: &str = r#"{
	"dataVersion":{"counter":7,"stateVersion":2,"timestamp":1700000000001},
	"mappingDataVersion":{"counter":0,"stateVersion":0,"timestamp":1},
	"topicConfigTable":{
		"A":{"attributes":{"message.type":"FIFO"},"order":false,"perm":6,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":"A","topicSysFlag":0,"writeQueueNums":4},
		"B":{"attributes":{"$ref":"$.topicConfigTable.A.attributes"},"order":false,"perm":4,"readQueueNums":2,"topicFilterType":"MULTI_TAG","topicName":"B","topicSysFlag":1,"writeQueueNums":2},
	},
	"topicQueueMappingInfoMap":{}
}"#;

#[test]
fn the_files_of_rocketmq_are_taken_over_and_get_homes() {
    let file = TopicFile::parse(FILE_4_9.as_bytes(), 4).unwrap();
    assert_eq!(file.version, DataVersion { counter: 3, state_version: 0, timestamp: 1_700_000_000_000 });
    let table = TopicTable::open(settings(), Some(file), 5);
    assert_eq!(shape(&table, "Orders"), Some((8, 4, 6)));
    assert!(table.is_ordered("Orders") && table.revision().is_dirty());

    let file = TopicFile::parse(FILE_5.as_bytes(), 4).unwrap();
    let table = TopicTable::open(settings(), Some(file), 5);
    assert_eq!(table.version().state_version, 2);
    assert_eq!(table.single("B").unwrap().attributes.get("message.type").unwrap(), "FIFO");
    assert_eq!(table.single("B").unwrap().topic_filter_type, TopicFilterType::MultiTag);
    let homed = TopicFile::parse(&table.to_file(), 4).unwrap();
    assert_eq!(homed.starts.keys().collect::<Vec<_>>(), homed.topics.keys().collect::<Vec<_>>());
}

#[test]
fn a_damaged_file_is_not_taken_for_an_empty_one() {
    for text in [
        "{}",
        "[]",
        "null",
        "{\"topicConfigTable\":",
        "{\"topicConfigTable\":[]}",
        "{\"topicConfigTable\":{\"T\":{\"readQueueNums\":-1}}}",
        "{\"topicConfigTable\":{\"T\":{\"perm\":\"x\"}}}",
        "{\"topicConfigTable\":{\"T\":{\"attributes\":{\"$ref\":\"$.topicConfigTable.T.attributes\"}}}}",
    ] {
        assert!(TopicFile::parse(text.as_bytes(), 4).is_err(), "{text}");
    }
}

#[test]
fn name_servers_are_told_what_the_brokers_permission_leaves() {
    let mut table = table();
    table.create_or_update(&asked("T", 1), 0).unwrap();
    assert_eq!(table.registered(), table.list());
    let version = *table.version();
    table.set_permission(perm::READ, 5);
    assert_eq!(table.registered().topic_config_table["T"].perm, 4);
    assert_eq!(table.registered().topic_config_table["DefaultCluster"].perm, 4);
    assert_eq!(table.list().topic_config_table["T"].perm, 6);
    assert_eq!(table.version().counter, version.counter + 1);
}

#[test]
fn sends_and_pulls_find_their_queue_or_are_refused() {
    let mut table = table();
    let uneven = CreateTopic { read_queue_nums: 8, write_queue_nums: 4, ..asked("T", 1) };
    table.create_or_update(&uneven, 0).unwrap();
    let topic = table.get("T").unwrap();
    assert_eq!(topic.queue_for_send(7, 0, "p"), Ok(7));
    assert_eq!(topic.queue_for_send(-1, 6, "p"), Ok(2));
    assert_eq!(
        topic.queue_for_send(8, 0, "1.2.3.4:5").unwrap_err().remark,
        "request queueId[8] is illegal, TopicConfig [topicName=T, readQueueNums=8, writeQueueNums=4, perm=RW-, \
         topicFilterType=SINGLE_TAG, topicSysFlag=0, order=false] Producer: 1.2.3.4:5"
    );
    assert_eq!(topic.queue_for_pull(7, "c"), Ok(7));
    for queue in [-1, 8] {
        assert_eq!(topic.queue_for_pull(queue, "c").unwrap_err().code, ResponseCode::INVALID_PARAMETER);
    }
    let none = CreateTopic { write_queue_nums: 0, ..uneven };
    table.create_or_update(&none, 0).unwrap();
    assert!(table.get("T").unwrap().queue_for_send(-1, 3, "p").is_err());
}

#[test]
fn copies_follow_the_table() {
    let mut table = table();
    let mut copy = TopicCopy::default();
    table.snapshot().iter().for_each(|change| copy.apply(change));
    let mut changes = table.create_or_update(&asked("T", 1), 0).unwrap();
    changes.extend(table.mark_ordered(["T", "unknown"], 0));
    changes.extend(table.find_or_create(wanted("U"), 0).unwrap().1);
    changes.extend(table.delete("U", 0).unwrap());
    changes.iter().for_each(|change| copy.apply(change));
    for topic in table.iter() {
        assert_eq!(copy.get(&topic.config.topic_name), Some(topic));
    }
    assert_eq!(copy.get("U"), None);
    assert!(table.mark_ordered(["T"], 0).is_empty());
}
