//! What the broker asks of clients on behalf of others: an operator's questions to a running consumer, offsets that are
//! reset under it, replies to requests. Over two executors, so that askers and asked live on different shards.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::io::Write;
use std::net::SocketAddr;

use ringmq_broker::settings::Settings;
use ringmq_engine::FlushPolicy;
use ringmq_protocol::body::{
    ConsumeQueueEntries, ConsumeStats, ConsumeStatsList, ConsumeTimeSpans, ConsumerStatusBody, CorrectionOffsets,
    GroupList, MessageQueue, ResetOffsetBody, SubscriptionOfGroup, TopicList,
};
use ringmq_protocol::code::Language;
use ringmq_protocol::command::{Command, FLAG_ONEWAY, FLAG_RESPONSE};
use ringmq_protocol::frame::Serialize;
use ringmq_protocol::message::Record;
use ringmq_protocol::properties;

use support::{Client, Running, number, run, settings};

/// A broker with two executors and a topic of two queues with ten messages each.
struct World {
    running: Running,
    admin: Client,
    _dir: tempfile::TempDir,
}

const OLD: i32 = 27;
const NEW: i32 = 409;

impl World {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut settings = settings(dir.path(), 2, FlushPolicy::Async);
        change(&mut settings);
        let running = run(settings);
        let mut admin = Client::new(running.addr);
        let topic = [
            ("topic", "orders"),
            ("defaultTopic", "TBW102"),
            ("readQueueNums", "2"),
            ("writeQueueNums", "2"),
            ("perm", "6"),
            ("topicFilterType", "SINGLE_TAG"),
            ("order", "false"),
        ];
        assert_eq!(admin.call(17, &topic, &[]).0.code, 0);
        let mut world = Self { running, admin, _dir: dir };
        for i in 0..20 {
            let answer = world.admin.publish("orders", i % 2, "new", format!("message {i}").as_bytes());
            assert_eq!(answer.code, 0, "{answer:?}");
        }
        // What is stored is seen once it is written.
        for queue in 0..2 {
            let mut seen = 0;
            while seen < 10 {
                seen += world.admin.pull("orders", queue, seen, 5000, "*").1.len() as i64;
            }
        }
        world
    }

    fn addr(&self) -> SocketAddr {
        self.running.addr
    }

    fn consumer(&self, id: &str, version: i32, language: Language) -> Client {
        let mut client = Client::new(self.addr());
        let body = format!(
            r#"{{"clientID":"{id}","producerDataSet":[{{"groupName":"askers"}}],"consumerDataSet":[{{"groupName":"readers",
            "consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","consumeType":"CONSUME_PASSIVELY","messageModel":"BROADCASTING",
            "unitMode":false,"subscriptionDataSet":[{{"topic":"orders","subString":"*","subVersion":1}}]}}]}}"#
        );
        let mut beat = Command::request(34, 3);
        (beat.version, beat.language) = (version, language);
        write(&mut client, &beat, body.as_bytes());
        assert_eq!(client.answer().0.code, 0);
        client
    }

    fn commit(&mut self, queue: i32, offset: i64) {
        let (queue, offset) = (queue.to_string(), offset.to_string());
        let ext = [("consumerGroup", "readers"), ("topic", "orders"), ("queueId", &*queue), ("commitOffset", &*offset)];
        let answer = self.admin.call(15, &ext, &[]).0;
        assert_eq!(answer.code, 0, "{answer:?}");
    }

    fn committed(&mut self, queue: i32) -> i64 {
        let queue = queue.to_string();
        let ext = [("consumerGroup", "readers"), ("topic", "orders"), ("queueId", &*queue)];
        number(&self.admin.call(14, &ext, &[]).0, "offset")
    }

    fn reset(&mut self, more: &[(&str, &str)]) -> (Command, Vec<u8>) {
        let ext = [("group", "readers"), ("topic", "orders"), ("timestamp", "0"), ("isForce", "true")];
        self.admin.call(222, &[&ext, more].concat(), &[])
    }
}

fn write(client: &mut Client, command: &Command, body: &[u8]) {
    let mut out = Vec::new();
    command.encode_frame(Serialize::Json, body, &mut out).unwrap();
    client.0.write_all(&out).unwrap();
}

/// The client's answer to what it was asked.
fn respond(client: &mut Client, asked: &Command, code: i32, remark: Option<&str>, body: &[u8]) {
    let mut answer = Command::request(code, asked.opaque);
    answer.flag = FLAG_RESPONSE;
    answer.remark = remark.map(str::to_owned);
    write(client, &answer, body);
}

fn refused(answer: &(Command, Vec<u8>)) -> (i32, &str) {
    (answer.0.code, answer.0.remark.as_deref().unwrap_or_default())
}

fn queue(queue_id: i32) -> MessageQueue {
    MessageQueue::new("orders", "broker-a", queue_id)
}

const ABOUT_ONE: [(&str, &str); 3] = [("consumerGroup", "readers"), ("clientId", "one"), ("jstackEnable", "true")];

#[test]
fn a_question_reaches_its_client_and_the_answer_its_asker() {
    let world = World::new(|_| ());
    let mut one = world.consumer("one", NEW, Language::JAVA);
    let _other = world.consumer("other", NEW, Language::JAVA);
    // Several askers, so that some of them are on the other shard.
    for round in 0..6 {
        let mut asker = Client::new(world.addr());
        asker.send(307, &ABOUT_ONE, &[]);
        let (asked, body) = one.answer();
        assert_eq!((asked.code, asked.flag, body.len()), (307, 0, 0));
        assert_eq!(asked.ext("jstackEnable"), Some("true"));
        let info = format!("{{\"round\":{round}}}");
        respond(&mut one, &asked, 0, None, info.as_bytes());
        let (answer, body) = asker.answer();
        assert_eq!((answer.code, answer.opaque, body), (0, 7, info.into_bytes()));
    }
}

#[test]
fn a_client_that_cannot_answer_is_told_of_in_rocketmqs_words() {
    let mut world = World::new(|_| ());
    let answer = world.admin.call(307, &ABOUT_ONE, &[]);
    assert_eq!(refused(&answer), (1, "The Consumer <readers> <one> not online"));
    let old = world.consumer("one", OLD, Language::JAVA);
    let answer = world.admin.call(307, &ABOUT_ONE, &[]);
    let too_old = "The Consumer <one> Version <V(27)> too low to finish, please upgrade it to V3_1_8_SNAPSHOT";
    assert_eq!(refused(&answer), (1, too_old));
    let status = [("group", "readers"), ("topic", "orders")];
    let answer = world.admin.call(223, &status, &[]);
    assert_eq!(refused(&answer), (1, "the client does not support this feature. version=V(27)"));
    drop(old);

    let mut one = world.consumer("two", NEW, Language::JAVA);
    let about_two = [("consumerGroup", "readers"), ("clientId", "two")];
    world.admin.send(307, &about_two, &[]);
    let asked = one.answer().0;
    respond(&mut one, &asked, 1, Some("The Consumer Group <readers> not exist in this consumer"), &[]);
    assert_eq!(refused(&world.admin.answer()), (1, "The Consumer Group <readers> not exist in this consumer"));
    world.admin.send(307, &about_two, &[]);
    one.answer();
    drop(one);
    let gone = "invoke consumer <readers> <two> Exception: its connection was closed";
    assert_eq!(refused(&world.admin.answer()), (1, gone));
    let answer = world.admin.call(223, &[("group", "nobody"), ("topic", "orders")], &[]);
    assert_eq!(refused(&answer), (1, "No Any Consumer online in the consumer group: [nobody]"));
}

#[test]
fn a_message_is_consumed_once_more_by_the_client_that_is_named() {
    let mut world = World::new(|_| ());
    let stored = world.admin.publish("orders", 1, "new", b"the one");
    let id = stored.ext("msgId").unwrap().to_owned();
    assert_eq!(world.admin.pull("orders", 1, 10, 5000, "*").1, [b"the one"]);
    let mut one = world.consumer("one", NEW, Language::JAVA);
    let ask = |id: &str, asker: &mut Client| {
        let ext = [("consumerGroup", "readers"), ("clientId", "one"), ("msgId", id), ("topic", "orders")];
        asker.send(309, &ext, &[]);
    };
    ask(&id, &mut world.admin);
    let (asked, body) = one.answer();
    let (record, len) = Record::parse(&body).unwrap();
    assert_eq!((asked.code, record.body(), len), (309, &b"the one"[..], body.len()));
    assert_eq!((asked.ext("brokerName"), asked.ext("topicSysFlag")), (Some("broker-a"), Some("0")));
    assert_eq!((asked.ext("groupSysFlag"), asked.ext("msgId")), (Some("0"), Some(&*id)));
    respond(&mut one, &asked, 0, None, br#"{"consumeResult":"CR_SUCCESS"}"#);
    assert_eq!(world.admin.answer().1, br#"{"consumeResult":"CR_SUCCESS"}"#);
    // One byte further no message begins; a shard that high does not exist.
    let position = i64::from_str_radix(&id[16..], 16).unwrap();
    for (id, remark) in [
        (format!("{}{:016X}", &id[..16], position + 1), "no message is stored at msgId["),
        (format!("{}7{}", &id[..16], &id[17..]), "no message is stored at msgId["),
        ("not an id".to_owned(), "msgId[not an id] is not an offset message id"),
    ] {
        ask(&id, &mut world.admin);
        let answer = world.admin.answer();
        assert!(refused(&answer).0 == 1 && refused(&answer).1.starts_with(remark), "{answer:?}");
    }
}

#[test]
fn every_members_status_is_told_or_one_members() {
    let mut world = World::new(|_| ());
    let mut members = ["one", "two"].map(|id| (id, world.consumer(id, NEW, Language::JAVA)));
    let status = [("group", "readers"), ("topic", "orders")];
    world.admin.send(223, &status, &[]);
    for (nth, (_, member)) in (1..).zip(&mut members) {
        let asked = member.answer().0;
        assert_eq!((asked.code, asked.ext("group"), asked.ext("topic")), (221, Some("readers"), Some("orders")));
        let status = ConsumerStatusBody { message_queue_table: [(queue(0), nth)].into(), ..Default::default() };
        respond(member, &asked, 0, None, &status.to_vec());
    }
    let (answer, body) = world.admin.answer();
    let table = ConsumerStatusBody::parse(&body).unwrap().consumer_table;
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(table["one"], [(queue(0), 1)].into());
    assert_eq!(table["two"], [(queue(0), 2)].into());

    world.admin.send(223, &[&status[..], &[("clientAddr", "two")]].concat(), &[]);
    let asked = members[1].1.answer().0;
    respond(&mut members[1].1, &asked, 0, None, &ConsumerStatusBody::default().to_vec());
    let table = ConsumerStatusBody::parse(&world.admin.answer().1).unwrap().consumer_table;
    assert_eq!(table.keys().collect::<Vec<_>>(), ["two"]);
}

#[test]
fn a_reset_moves_the_next_pull_and_outlives_what_was_committed_before_it() {
    let mut world = World::new(|_| ());
    let _member = world.consumer("one", NEW, Language::JAVA);
    for queue in 0..2 {
        world.commit(queue, 8);
    }
    // A pull that waits is told at once.
    let mut waiting = Client::new(world.addr());
    let mut ext = Client::pull_ext("orders", 0, 10, 60_000, "*");
    ext.insert("consumerGroup", "readers".to_owned());
    let pull: Vec<(&str, &str)> = ext.iter().map(|(k, v)| (*k, v.as_str())).collect();
    waiting.send(11, &pull, &[]);
    let (answer, body) = world.reset(&[]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(ResetOffsetBody::parse(&body).unwrap().offset_table, [(queue(0), 0), (queue(1), 0)].into());
    let moved = waiting.answer().0;
    assert_eq!((moved.code, moved.remark.as_deref()), (21, Some("OFFSET_RESET")));
    assert_eq!((number(&moved, "nextBeginOffset"), number(&moved, "maxOffset")), (0, 10));
    assert_eq!((world.committed(0), world.committed(1)), (0, 0));
    // What the group commits counts again where it was told, and not yet where it was not.
    world.commit(0, 3);
    world.commit(1, 9);
    assert_eq!((world.committed(0), world.committed(1)), (3, 0));
    // A pull that begins where it should is served, and heard of the reset by that.
    ext.insert("queueId", "1".to_owned());
    ext.insert("queueOffset", "0".to_owned());
    let pull: Vec<(&str, &str)> = ext.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let served = waiting.call(11, &pull, &[]).0;
    assert_eq!((served.code, number(&served, "nextBeginOffset")), (0, 10));
    world.commit(1, 9);
    assert_eq!(world.committed(1), 9);
}

#[test]
fn a_reset_goes_where_it_is_told_to() {
    let mut world = World::new(|_| ());
    let _member = world.consumer("one", NEW, Language::JAVA);
    let offsets = |answer: (Command, Vec<u8>)| {
        assert_eq!(answer.0.code, 0, "{answer:?}");
        ResetOffsetBody::parse(&answer.1).unwrap().offset_table
    };
    let one = world.reset(&[("queueId", "1"), ("offset", "4")]);
    assert_eq!(offsets(one), [(queue(1), 4)].into());
    let end = world.reset(&[("timestamp", "-1")]);
    assert_eq!(offsets(end), [(queue(0), 10), (queue(1), 10)].into());
    let future = world.reset(&[("timestamp", "99999999999999"), ("queueId", "0"), ("offset", "-1")]);
    assert_eq!(offsets(future), [(queue(0), 10)].into());
    world.reset(&[("queueId", "0"), ("offset", "2")]);
    let back_only = world.reset(&[("timestamp", "-1"), ("isForce", "false")]);
    assert_eq!(offsets(back_only), [(queue(0), 2), (queue(1), 10)].into());
    let beyond = world.reset(&[("queueId", "1"), ("offset", "12")]);
    assert_eq!(refused(&beyond), (1, "Target offset 12 not in consume queue range [0-10]"));
    let no_queue = world.reset(&[("queueId", "2")]);
    assert_eq!(refused(&no_queue).0, 29);
    assert_eq!(refused(&world.reset(&[("topic", "nothing")])), (17, "Topic nothing does not exist"));
    assert_eq!(refused(&world.reset(&[("group", "nobody")])), (26, "Group nobody does not exist"));
}

#[test]
fn members_that_reset_themselves_are_told_in_their_own_form() {
    let mut world = World::new(|settings| settings.server_side_reset = false);
    let not_online = world.reset(&[]);
    assert_eq!(refused(&not_online), (1, "THe consumer group <readers> not exist"));
    let mut java = world.consumer("java", NEW, Language::JAVA);
    let mut cpp = world.consumer("cpp", NEW, Language::CPP);
    for queue in 0..2 {
        world.commit(queue, 5);
    }
    let (answer, body) = world.reset(&[("isForce", "false"), ("timestamp", "-1")]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let expected = [(queue(0), 5), (queue(1), 5)].into();
    assert_eq!(ResetOffsetBody::parse(&body).unwrap().offset_table, expected, "without force only back");
    let (told, body) = java.answer();
    assert_eq!((told.code, told.flag), (220, FLAG_ONEWAY));
    assert_eq!((told.ext("topic"), told.ext("group")), (Some("orders"), Some("readers")));
    assert_eq!(ResetOffsetBody::parse(&body).unwrap().offset_table, expected);
    let body = cpp.answer().1;
    let list = r#"{"offsetTable":[{"brokerName":"broker-a","offset":5,"queueId":0,"topic":"orders"},{"brokerName":"broker-a","offset":5,"queueId":1,"topic":"orders"}]}"#;
    assert_eq!(String::from_utf8(body).unwrap(), list);
    assert_eq!(world.committed(0), 5, "the members decide about their offsets");
    drop((java, cpp));
    let old = world.consumer("old", OLD, Language::JAVA);
    let answer = world.reset(&[]);
    assert_eq!(refused(&answer), (1, "the client does not support this feature. version=V(27)"));
    drop(old);
    // The broker learns of the end of a connection a moment later.
    let offline = std::iter::repeat_with(|| world.reset(&[])).find(|answer| answer.0.code != 1).unwrap();
    let remark = "Consumer not online, so can not reset offset, Group: readers Topic: orders Timestamp: 0";
    assert_eq!(refused(&offline), (206, remark));
}

#[test]
fn a_reply_reaches_the_client_that_waits_for_it() {
    let mut world = World::new(|_| ());
    let mut requester = world.consumer("asker@1", NEW, Language::JAVA);
    let reply = |properties: &str, replier: &mut Client| {
        let ext = [
            ("a", "readers"),
            ("b", "DefaultCluster_REPLY_TOPIC"),
            ("c", "TBW102"),
            ("d", "4"),
            ("e", "0"),
            ("f", "1"),
            ("g", "1700000000000"),
            ("h", "2"),
            ("i", properties),
        ];
        replier.send(325, &ext, b"the answer");
    };
    let own = "CORRELATION_ID\u{1}c-1\u{2}REPLY_TO_CLIENT\u{1}asker@1\u{2}MSG_TYPE\u{1}reply";
    for _ in 0..4 {
        let mut replier = Client::new(world.addr());
        reply(own, &mut replier);
        let (pushed, body) = requester.answer();
        assert_eq!((pushed.code, pushed.flag, &body[..]), (326, 0, &b"the answer"[..]));
        let text = pushed.ext("properties").unwrap();
        assert_eq!(properties::get(text, properties::CORRELATION_ID), Some("c-1"));
        let pushed_at = properties::get(text, properties::PUSH_REPLY_TIME);
        assert_eq!(pushed_at, pushed.ext("storeTimestamp"));
        assert_eq!((pushed.ext("sysFlag"), pushed.ext("flag")), (Some("1"), Some("2")));
        assert_eq!(pushed.ext("bornHost"), Some(replier.0.local_addr().unwrap().to_string().as_str()));
        assert_eq!(pushed.ext("storeHost"), Some("127.0.0.1:10911"));
        respond(&mut requester, &pushed, 0, None, &[]);
        let answer = replier.answer().0;
        assert_eq!(answer.code, 0, "{answer:?}");
        assert_eq!(answer.ext("msgId").map(str::len), Some(32), "the reply is stored as well: {answer:?}");
    }
    let stored = world.admin.pull("DefaultCluster_REPLY_TOPIC", 0, 0, 5000, "*").1;
    assert_eq!(stored[0], b"the answer");
    reply(own, &mut world.admin);
    let pushed = requester.answer().0;
    respond(&mut requester, &pushed, 1, Some("process reply message fail"), &[]);
    assert_eq!(refused(&world.admin.answer()), (1, "push reply message to asker@1fail."));
    reply("CORRELATION_ID\u{1}c-1\u{2}", &mut world.admin);
    assert_eq!(refused(&world.admin.answer()), (1, "reply message properties[REPLY_TO_CLIENT] is null"));
    reply("REPLY_TO_CLIENT\u{1}gone\u{2}", &mut world.admin);
    assert_eq!(refused(&world.admin.answer()), (1, "push reply message fail, channel of <gone> not found."));
}

#[test]
fn tools_are_told_how_far_groups_are() {
    let mut world = World::new(|_| ());
    let _member = world.consumer("one", NEW, Language::JAVA);
    world.commit(0, 4);
    world.commit(1, 10);
    let mut ask = |code: i32, ext: &[(&str, &str)]| {
        let (answer, body) = world.admin.call(code, ext, &[]);
        assert_eq!(answer.code, 0, "{answer:?}");
        body
    };
    let stats = ConsumeStats::parse(&ask(208, &[("consumerGroup", "readers")])).unwrap().offset_table;
    let progress = |id: i32| (stats[&queue(id)].consumer_offset, stats[&queue(id)].broker_offset);
    assert_eq!((stats.len(), progress(0), progress(1)), (2, (4, 10), (10, 10)));
    assert!(stats[&queue(0)].last_timestamp > 0);
    let all = ConsumeStatsList::parse(&ask(317, &[("isOrder", "false")])).unwrap();
    assert_eq!(all.total_diff, 6);
    let of_group = all.consume_stats_list.iter().find_map(|groups| groups.get("readers")).unwrap();
    assert_eq!(of_group[0].offset_table, stats);
    let ordered = ConsumeStatsList::parse(&ask(317, &[("isOrder", "true")])).unwrap();
    assert_eq!(ordered.total_diff, 0, "the topic is not ordered");
    let spans = ConsumeTimeSpans::parse(&ask(303, &[("topic", "orders"), ("group", "readers")])).unwrap();
    let [behind, done] = &spans.consume_time_span_set[..] else { panic!("{spans:?}") };
    assert!(behind.delay_time > 0 && done.delay_time == 0, "{spans:?}");
    assert_eq!(done.consume_time_stamp, done.max_time_stamp);
    let who = GroupList::parse(&ask(300, &[("topic", "orders")])).unwrap();
    assert_eq!(who.group_list, ["readers"]);
    let topics = TopicList::parse(&ask(343, &[("group", "readers")])).unwrap();
    assert_eq!(topics.topic_list, ["orders"]);
    let subscribed = SubscriptionOfGroup::parse(&ask(345, &[("group", "readers"), ("topic", "orders")])).unwrap();
    assert_eq!(subscribed.subscription_data.unwrap().sub_string, "*");
    let system = TopicList::parse(&ask(305, &[])).unwrap().topic_list;
    assert!(
        system.iter().any(|topic| topic == "TBW102") && !system.iter().any(|topic| topic == "orders"),
        "{system:?}"
    );

    let slowest = |body: Vec<u8>| CorrectionOffsets::parse(&body).unwrap().correction_offsets;
    ask(314, &[("srcGroup", "readers"), ("destGroup", "cloned"), ("offline", "true")]);
    let corrected = slowest(ask(308, &[("compareGroup", "readers"), ("topic", "orders")]));
    assert_eq!(corrected, [(0, 4), (1, 10)].into());
    let nobody = slowest(ask(308, &[("compareGroup", "x"), ("topic", "orders"), ("filterGroups", "readers,cloned")]));
    assert!(nobody.is_empty());
}

#[test]
fn a_queues_entries_are_shown_as_its_index_has_them() {
    let mut world = World::new(|_| ());
    let _member = world.consumer("one", NEW, Language::JAVA);
    let ext = [("topic", "orders"), ("queueId", "1"), ("index", "7"), ("count", "2"), ("consumerGroup", "readers")];
    let (answer, body) = world.admin.call(321, &ext, &[]);
    let shown = ConsumeQueueEntries::parse(&body).unwrap();
    assert_eq!((answer.code, shown.min_queue_index, shown.max_queue_index), (0, 0, 10));
    let [first, second] = &shown.queue_data[..] else { panic!("{shown:?}") };
    assert!(first.physic_offset < second.physic_offset && first.physic_size > 0, "{shown:?}");
    assert_eq!((first.tags_code, shown.subscription_data.unwrap().topic.as_str()), (108960, "orders"));
    let ext = [("topic", "orders"), ("queueId", "1"), ("index", "9"), ("count", "50"), ("consumerGroup", "nobody")];
    let shown = ConsumeQueueEntries::parse(&world.admin.call(321, &ext, &[]).1).unwrap();
    assert_eq!((shown.queue_data.len(), shown.filter_data.as_deref()), (1, Some("nobody@orders is not online!")));
    let missing = world.admin.call(321, &[("topic", "nothing"), ("queueId", "1")], &[]);
    assert_eq!(refused(&missing), (1, "1@nothing is not exist!"));
    let unknown = world.admin.call(315, &[("statsName", "TOPIC_PUT_NUMS"), ("statsKey", "nothing")], &[]);
    assert_eq!(refused(&unknown), (1, "The stats <TOPIC_PUT_NUMS> <nothing> not exist"));
}
