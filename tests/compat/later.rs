//! Messages that come later: delay levels, retries, transactions.

use std::time::Duration;

use serde_json::Value;

use super::support::eventually;
use super::support::java::{Client, of};
use super::support::server::{Cluster, Flush, Make, Settings};
use super::support::wire::{self, Record, records};
use super::{acknowledged, for_each_client, identity, names, number, text};

for_each_client! {
    a_message_that_is_handed_back_comes_again
    a_committed_message_is_seen_and_a_rolled_back_one_is_not
    a_killed_broker_forgets_nothing_that_is_to_come
    timed_messages_come_after_a_kill
    what_was_handed_back_comes_again_after_a_kill
    a_timer_has_forty_days_and_not_a_second_more
    ; alone
    a_delayed_message_comes_when_its_level_says
    an_unknown_transaction_is_asked_about
    a_parked_half_is_asked_about_again
    a_producer_that_took_too_long_commits_all_the_same
}

mod only_client_5_3_3 {
    crate::tests_with! { "5.3.3" together a_timed_message_is_taken_back_until_its_time }
}

/// Where a half goes after its last check.
const PARKED: &str = "TRANS_CHECK_MAX_TIME_TOPIC";

/// Levels that a test can wait for: 1, 2, and the third is the first retry's.
fn settings() -> Settings {
    let property = |name, value: &str| (name, value.to_owned());
    let properties = vec![
        property("messageDelayLevel", "1s 3s 2s 4s"),
        property("transactionTimeOut", "1000"),
        property("transactionCheckInterval", "1000"),
    ];
    Settings { properties, ..Settings::default() }
}

fn bodies(lines: &[Value]) -> Vec<String> {
    let mut bodies: Vec<_> = lines.iter().map(|line| text(line, "sha256").to_owned()).collect();
    bodies.sort();
    bodies
}

/// A message is known by its body: its place is another one when it comes.
fn assert_same_bodies(sent: &[Value], received: &[Value]) {
    assert_eq!(names(received), names(sent));
    assert_eq!(bodies(received), bodies(sent));
}

fn delay_ms(line: &Value) -> i64 {
    number(line, "storeTimestamp") - number(line, "bornTimestamp")
}

fn a_delayed_message_comes_when_its_level_says(version: &'static str) {
    let cluster = Cluster::start(settings());
    cluster.broker.create_topic("delayed_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "delayed_topic")];
    let late =
        client.run("send", &[&target[..], &[("count", "20"), ("prefix", "late"), ("delay-level", "2")]].concat());
    let soon = client.run(
        "send",
        &[&target[..], &[("count", "20"), ("prefix", "soon"), ("delay-level", "1"), ("tag", "TagA")]].concat(),
    );
    let options = [("count", "41"), ("group", "delayed_group")];
    let consumer = client.start("push", &[&target[..], &options].concat());
    // The number is out of range, so the highest level counts.
    let last = client.run("send", &[&target[..], &[("prefix", "last"), ("delay-level", "99")]].concat());
    let received = of(&consumer.end(), "message");
    assert_same_bodies(&[late, soon, last].concat(), &received);
    for line in &received {
        let at_least = match text(line, "name").split('-').next().unwrap() {
            "soon" => 1000,
            "late" => 3000,
            _ => 4000,
        };
        let delay = delay_ms(line);
        assert!((at_least..at_least + 2000).contains(&delay), "{delay} ms: {line}");
        assert_eq!(text(line, "topic"), "delayed_topic");
    }
    let options = [("namesrv", cluster.namesrv()), ("do", "delay-offsets"), ("broker", &*cluster.broker.address)];
    let levels = &client.run("admin", &options)[0]["levels"];
    assert_eq!(*levels, serde_json::json!({ "1": 20, "2": 20, "4": 1 }));
}

fn a_timed_message_is_taken_back_until_its_time(version: &'static str) {
    if Make::under_test() == Make::Apache("4.9.7") {
        eprintln!("skipped: Apache's 4.9.7 has no timers");
        return;
    }
    let mut settings = settings();
    settings.properties.push(("timerWheelEnable", "true".to_owned()));
    settings.properties.push(("recallMessageEnable", "true".to_owned()));
    let cluster = Cluster::start(settings);
    cluster.broker.create_topic("recalled_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "recalled_topic")];
    let consumer = client.start("push", &[&target[..], &[("group", "recalled_group")]].concat());
    let mut sender = client.start("recall", &[&target[..], &[("delays", "15000,16000")]].concat());
    let sent = sender.wait_for("two are sent", Duration::from_secs(40), |lines| {
        let sent = of(lines, "sent");
        (sent.len() == 2).then_some(sent)
    });
    sender.say("0");
    assert_eq!(sender.wait_event("recalled")["msgId"], sent[0]["msgId"]);
    // It would have come a second before the other one, in the same queue.
    assert_same_bodies(&sent[1..], &consumer.wait_messages(1));
    sender.say("1");
    let refused = sender.wait_event("refused");
    assert_eq!(number(&refused, "code"), 604, "{refused}");
    assert!(text(&refused, "message").contains("recall failed, timestamp invalid"), "{refused}");
    sender.stop();
    assert_same_bodies(&sent[1..], &of(&consumer.stop(), "message"));
}

/// As far as a timer reaches unless somebody says otherwise.
fn a_timer_has_forty_days_and_not_a_second_more(version: &'static str) {
    let days = match Make::under_test() {
        Make::Ours => 40,
        Make::Apache("5.3.3") => 3,
        Make::Apache(other) => return eprintln!("skipped: {other} has no timers"),
    };
    let most = days * 24 * 3600;
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("far_topic", 1);
    let client = cluster.client(version);
    let seconds = format!("{},{most},{}", most - 1, most + 1);
    let options = [("count", "3"), ("delay-seconds", &*seconds), ("retries", "0")];
    let target = [("namesrv", cluster.namesrv()), ("topic", "far_topic")];
    let lines = client.run("send", &[&target[..], &options].concat());
    let taken: Vec<String> = of(&lines, "sent").iter().map(|line| text(line, "status").to_owned()).collect();
    assert_eq!(taken, ["SEND_OK", "SEND_OK"], "{lines:?}");
    let refused = of(&lines, "refused");
    assert_eq!(names(&refused), ["m-2"], "{lines:?}");
    assert_eq!(number(&refused[0], "code"), 13, "{refused:?}");
}

fn a_message_that_is_handed_back_comes_again(version: &'static str) {
    let cluster = Cluster::start(settings());
    cluster.broker.create_topic("retried_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "retried_topic")];
    let sent = client.run("send", &[&target[..], &[("count", "10"), ("tag", "TagA")]].concat());
    let options = [("count", "10"), ("group", "retrying_group"), ("fail-first", "true"), ("sub", "TagA")];
    let consumer = client.start("push", &[&target[..], &options].concat());
    let lines = consumer.end();
    let (first, again) = (of(&lines, "handed-back"), of(&lines, "message"));
    assert_same_bodies(&sent, &first);
    assert_same_bodies(&sent, &again);
    for line in &first {
        assert_eq!(number(line, "reconsumeTimes"), 0);
    }
    for line in &again {
        assert_eq!(number(line, "reconsumeTimes"), 1, "{line}");
        assert_eq!(text(line, "topic"), "retried_topic", "the client puts the name back: {line}");
        assert!(delay_ms(line) >= 2000, "{line}");
    }
}

fn a_committed_message_is_seen_and_a_rolled_back_one_is_not(version: &'static str) {
    let cluster = Cluster::start(settings());
    cluster.broker.create_topic("transaction_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "transaction_topic")];
    let run = |state, count, prefix| {
        let options = [("state", state), ("count", count), ("prefix", prefix), ("group", "transacting_group")];
        client.run("transaction", &[&target[..], &options].concat())
    };
    run("rollback", "10", "back");
    let committed = of(&run("commit", "30", "forth"), "sent");
    assert!(committed.iter().all(|line| text(line, "state") == "COMMIT_MESSAGE"));
    let options = [("count", "30"), ("group", "transaction_group")];
    let received = of(&client.run("push", &[&target[..], &options].concat()), "message");
    assert_same_bodies(&committed, &received);
    for line in &received {
        assert_eq!(number(line, "sysFlag") & 0xC, 8, "marked as committed: {line}");
    }
    // Nothing is left for those who come later.
    let places: Vec<_> = received.iter().map(identity).collect();
    let again =
        of(&client.run("push", &[&target[..], &[("count", "30"), ("group", "another_group")]].concat()), "message");
    assert!(again.iter().all(|line| places.contains(&identity(line))));
}

fn an_unknown_transaction_is_asked_about(version: &'static str) {
    let cluster = Cluster::start(settings());
    cluster.broker.create_topic("asked_topic", 2);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "asked_topic")];
    let options = [("state", "unknown"), ("group", "asked_producers"), ("wait", "20000")];
    let lines = client.run("transaction", &[&target[..], &options].concat());
    let (sent, checked) = (of(&lines, "sent"), of(&lines, "checked"));
    assert_eq!(checked.len(), 1, "{lines:?}");
    assert_eq!(text(&checked[0], "topic"), "asked_topic");
    let received = client.run("push", &[&target[..], &[("count", "1"), ("group", "asking_group")]].concat());
    assert_same_bodies(&sent, &of(&received, "message"));
}

/// What consumers can see in some queues of a topic.
fn stored(cluster: &Cluster, topic: &str, queues: i32) -> Vec<Record> {
    let mut connection = cluster.broker.connect();
    let mut pull = |queue| {
        let reply = connection.call(wire::PULL_MESSAGE, &wire::pull(topic, queue, 0, 32, 0), &[]).unwrap();
        if reply.header.code == 0 { records(&reply.body) } else { Vec::new() }
    };
    (0..queues).flat_map(&mut pull).collect()
}

fn a_parked_half_is_asked_about_again(version: &'static str) {
    let mut settings = settings();
    // Enough for an answer before the half is parked again.
    settings.properties.retain(|(key, _)| *key != "transactionCheckInterval");
    settings.properties.push(("transactionCheckInterval", "4000".to_owned()));
    settings.properties.push(("transactionCheckMax", "1".to_owned()));
    let cluster = Cluster::start(settings);
    cluster.broker.create_topic("parked_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "parked_topic")];
    let options = [("state", "unknown"), ("group", "parked_producers"), ("prefix", "half")];
    let sent = client.run("transaction", &[&target[..], &options].concat());
    // Its producer is gone. Apache's broker begins to count its checks later.
    let parked =
        eventually("the half is parked", Duration::from_secs(120), || stored(&cluster, PARKED, 2).into_iter().next());
    let (ip, port) = cluster.broker.address.split_once(':').unwrap();
    assert_eq!(ip, "127.0.0.1");
    let id = format!("7F000001{:08X}{:016X}", port.parse::<u32>().unwrap(), parked.position);
    let options =
        [("state", "rollback"), ("group", "parked_producers"), ("prefix", "own"), ("wait", "120000"), ("asks", "9")];
    let producer = client.start("transaction", &[&target[..], &options].concat());
    producer.wait_event("sent");
    let options = [("do", "resume-check"), ("topic", PARKED), ("id", &*id)];
    let resumed = client.run("admin", &[&target[..1], &options].concat());
    assert_eq!(resumed[0]["done"], true, "{resumed:?}");
    let checked = producer.wait_event("checked");
    let name = text(&of(&sent, "sent")[0], "name").to_owned();
    assert_eq!(text(&checked, "name"), name);
    let came = eventually("the half is committed", Duration::from_secs(60), || {
        let came = stored(&cluster, "parked_topic", 1);
        (!came.is_empty()).then_some(came)
    });
    assert_eq!(came.len(), 1);
    assert!(came[0].body.starts_with(name.as_bytes()));
}

/// What `mqadmin brokerStatus` shows of halves: how many are open, were parked, were ended after that, were dropped.
fn told_of_halves(cluster: &Cluster, client: &Client) -> [u64; 4] {
    let shown = client.mqadmin(&["brokerStatus", "-n", cluster.namesrv(), "-b", &cluster.broker.address]);
    let value = |key: &str| {
        let mut pairs = shown.lines().filter_map(|line| line.split_once(": "));
        let found = pairs.find(|(name, _)| name.trim() == key);
        found.unwrap_or_else(|| panic!("no {key} in\n{shown}")).1.trim().parse().unwrap()
    };
    ["ringmqHalvesOpen", "ringmqHalvesParked", "ringmqHalvesEndedLate", "ringmqHalvesDropped"].map(value)
}

fn a_producer_that_took_too_long_commits_all_the_same(version: &'static str) {
    let mut settings = settings();
    settings.properties.push(("transactionCheckMax", "1".to_owned()));
    let cluster = Cluster::start(settings);
    cluster.broker.create_topic("slow_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "slow_topic")];
    let options = [("group", "slow_producers"), ("held", "true"), ("answer", "unknown"), ("prefix", "half")];
    let mut producer = client.start("transaction", &[&target[..], &options].concat());
    producer.wait_event("held");
    let is_ours = Make::under_test() == Make::Ours;
    if is_ours {
        assert_eq!(told_of_halves(&cluster, &client)[2..], [0, 0]);
    }
    let parked =
        eventually("the half is parked", Duration::from_secs(120), || stored(&cluster, PARKED, 2).into_iter().next());
    assert!(stored(&cluster, "slow_topic", 1).is_empty());
    if is_ours {
        assert_eq!(told_of_halves(&cluster, &client), [0, 1, 0, 0]);
    }
    producer.say("done");
    let sent = of(&producer.end(), "sent");
    assert_eq!(text(&sent[0], "state"), "COMMIT_MESSAGE");
    // The client asks for no answer to its end.
    let came = eventually("the half is committed", Duration::from_secs(60), || {
        let came = stored(&cluster, "slow_topic", 1);
        (!came.is_empty()).then_some(came)
    });
    assert!(came[0].body.starts_with(text(&sent[0], "name").as_bytes()));
    if is_ours {
        assert_eq!(told_of_halves(&cluster, &client), [0, 1, 1, 0]);
        let (_, port) = cluster.broker.address.split_once(':').unwrap();
        let id = format!("7F000001{:08X}{:016X}", port.parse::<u32>().unwrap(), parked.position);
        let options = [("do", "resume-check"), ("topic", PARKED), ("id", &*id)];
        let resumed = client.run("admin", &[&target[..1], &options].concat());
        assert_ne!(resumed[0]["done"], true, "{resumed:?}");
        assert_eq!(told_of_halves(&cluster, &client), [0, 1, 1, 0]);
    }
    let received = client.run("push", &[&target[..], &[("count", "1"), ("group", "slow_group")]].concat());
    assert_same_bodies(&sent, &of(&received, "message"));
    assert_eq!(stored(&cluster, "slow_topic", 1).len(), 1);
}

fn a_killed_broker_forgets_nothing_that_is_to_come(version: &'static str) {
    let mut cluster = Cluster::start(settings());
    cluster.broker.create_topic("surviving_topic", 4);
    let client = cluster.client(version);
    let namesrv = cluster.namesrv().to_owned();
    let target = [("namesrv", &*namesrv), ("topic", "surviving_topic")];
    let options = [("count", "20"), ("prefix", "late"), ("delay-level", "2")];
    let late = client.run("send", &[&target[..], &options].concat());
    let options = [("state", "unknown"), ("count", "5"), ("prefix", "half"), ("group", "surviving_producers")];
    let halves = of(&client.run("transaction", &[&target[..], &options].concat()), "sent");
    cluster.broker.kill();
    cluster.broker.restart();
    // A producer of the group is there again, and is asked about what it never ended.
    let options =
        [("state", "unknown"), ("prefix", "more"), ("group", "surviving_producers"), ("wait", "40000"), ("asks", "6")];
    let asked = client.start("transaction", &[&target[..], &options].concat());
    let options = [("group", "surviving_group")];
    let consumer = client.start("push", &[&target[..], &options].concat());
    let wanted = names(&[late, halves].concat());
    let received = consumer.wait_for("what was kept", Duration::from_secs(60), |lines| {
        let received: Vec<Value> =
            of(lines, "message").into_iter().filter(|line| !text(line, "name").starts_with("more")).collect();
        let mut found = names(&received);
        found.dedup();
        (found == wanted).then_some(received)
    });
    // What was delivered just before the kill may be delivered again; a transaction ends once.
    let mut of_halves = names(&received);
    of_halves.retain(|name| name.starts_with("half"));
    assert_eq!(of_halves.len(), 5, "{of_halves:?}");
    consumer.stop();
    drop(asked);
}

fn timed_messages_come_after_a_kill(version: &'static str) {
    let mut cluster = Cluster::start(Settings { flush: Flush::Sync, ..settings() });
    cluster.broker.create_topic("timed_topic", 4);
    let client = cluster.client(version);
    let namesrv = cluster.namesrv().to_owned();
    let target = [("namesrv", &*namesrv), ("topic", "timed_topic")];
    let timed = client.run("send", &[&target[..], &[("count", "10"), ("delay-ms", "10000")]].concat());
    let timed = names(&acknowledged(timed));
    cluster.broker.kill();
    cluster.broker.restart();
    let consumer = client.start("push", &[&target[..], &[("group", "timed_group")]].concat());
    // One may come twice: how far the timers are is written down now and then.
    let received = consumer.wait_for("all that is timed", Duration::from_secs(60), |lines| {
        let received = of(lines, "message");
        let found = names(&received);
        timed.iter().all(|name| found.contains(name)).then_some(received)
    });
    consumer.stop();
    // Apache's 4.9 has no timers, and those of 5.3 count seconds.
    if Make::under_test() == Make::Ours {
        for line in &received {
            assert!(delay_ms(line) >= 10_000, "{line}");
        }
    }
}

fn what_was_handed_back_comes_again_after_a_kill(version: &'static str) {
    // The third level is the first retry's. One log shard has all that waits for it in one queue.
    let properties = vec![("messageDelayLevel", "1s 1s 10s 1s".to_owned())];
    let settings = Settings { flush: Flush::Sync, shards: 1, properties, ..Settings::default() };
    let mut cluster = Cluster::start(settings);
    cluster.broker.create_topic("returned_topic", 4);
    let client = cluster.client(version);
    let namesrv = cluster.namesrv().to_owned();
    let target = [("namesrv", &*namesrv), ("topic", "returned_topic")];
    let sent = client.run("send", &[&target[..], &[("count", "10")]].concat());
    let options = [("group", "returned_group"), ("fail-first", "true")];
    let consumer = client.start("push", &[&target[..], &options].concat());
    eventually("all is handed back", Duration::from_secs(60), || {
        let ask = [("topic", "SCHEDULE_TOPIC_XXXX".to_owned()), ("queueId", "2".to_owned())];
        let reply = cluster.broker.connect().call(wire::GET_MAX_OFFSET, &ask, &[]).unwrap();
        (reply.header.code == 0 && reply.header.number("offset") == 10).then_some(())
    });
    cluster.broker.kill();
    cluster.broker.restart();
    let received = consumer.wait_for("all again", Duration::from_secs(90), |lines| {
        let received = of(lines, "message");
        let mut found = names(&received);
        found.dedup();
        (found == names(&sent)).then_some(received)
    });
    for line in &received {
        assert_eq!((text(line, "topic"), number(line, "reconsumeTimes")), ("returned_topic", 1), "{line}");
        assert!(delay_ms(line) >= 10_000, "the copy that the broker kept: {line}");
    }
    consumer.stop();
}
