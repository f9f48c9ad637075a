//! Consumers: groups that share queues, filters, lite pull, plain pull, queue locks.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::support::eventually;
use super::support::java::{Driver, of};
use super::support::server::{Cluster, Settings, lenient};
use super::support::wire;
use super::{assert_same_messages, for_each_client, identity, names, number, text};

for_each_client! {
    a_tag_filter_lets_only_its_tags_through
    a_lite_pull_consumer_gets_everything
    a_lite_pull_consumer_seeks_in_assigned_queues
    a_plain_pull_tells_its_offsets
    an_orderly_consumer_keeps_the_order
    an_ordered_topic_offers_only_its_ordered_queues
    two_members_share_the_queues_and_one_inherits
    a_group_that_wants_no_notices_gets_none
    ; alone
    a_lock_has_one_owner
    a_waiting_consumer_hears_of_a_message_at_once
}

/// The queues that a consumer's last word says it has.
fn assigned(lines: &[Value]) -> BTreeSet<i64> {
    let last = of(lines, "assigned").pop();
    last.map_or(BTreeSet::new(), |line| {
        line["queues"].as_array().unwrap().iter().map(|queue| queue.as_i64().unwrap()).collect()
    })
}

pub(super) fn wait_assigned(driver: &Driver, count: usize, patience: Duration) -> BTreeSet<i64> {
    driver.wait_for(&format!("{count} queues"), patience, |lines| {
        let queues = assigned(lines);
        (queues.len() == count).then_some(queues)
    })
}

/// How long clients and a busy machine may take. Members without a rebalance of their own wait for a notice only.
const PATIENCE: Duration = Duration::from_secs(60);

fn two_members_share_the_queues_and_one_inherits(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("shared_topic", 8);
    let client = cluster.client(version).without_rebalance();
    let target = [("namesrv", cluster.namesrv()), ("topic", "shared_topic")];
    let member = [&target[..], &[("group", "sharing_group"), ("persist", "500")]].concat();
    let first = client.start("push", &member);
    wait_assigned(&first, 8, PATIENCE);
    let second = client.start("push", &member);
    second.wait_event("started");
    let of_second = wait_assigned(&second, 4, PATIENCE);
    let of_first = wait_assigned(&first, 4, PATIENCE);
    assert!(of_first.is_disjoint(&of_second), "{of_first:?} {of_second:?}");

    let sent = client.run("send", &[&target[..], &[("count", "80")]].concat());
    let share = |driver: &Driver, queues: &BTreeSet<i64>| {
        let mine = sent.iter().filter(|line| queues.contains(&number(line, "queueId"))).count();
        driver.wait_messages(mine)
    };
    let got_first = share(&first, &of_first);
    let got_second = share(&second, &of_second);
    assert_same_messages(&sent, &[got_first.clone(), got_second].concat());

    second.stop();
    wait_assigned(&first, 8, PATIENCE);
    let more = client.run("send", &[&target[..], &[("count", "16"), ("prefix", "late")]].concat());
    let all = first.wait_messages(got_first.len() + 16);
    assert_eq!(names(&all[got_first.len()..]), names(&more), "after a good end nothing comes twice");

    // One that is killed does not say that it leaves: its connection does.
    let mut third = client.start("push", &member);
    wait_assigned(&first, 4, PATIENCE);
    third.kill();
    wait_assigned(&first, 8, PATIENCE);
    first.stop();
}

fn a_group_that_wants_no_notices_gets_none(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("quiet_topic", 9);
    let client = cluster.client(version).without_rebalance();
    let notify = |wanted: &str| {
        let (namesrv, broker) = (cluster.namesrv(), &*cluster.broker.address);
        let shown = client.mqadmin(&["updateSubGroup", "-n", namesrv, "-b", broker, "-g", "quiet_group", "-a", wanted]);
        assert!(shown.contains("success"), "{shown}");
    };
    let members = |count: usize| {
        let ask = [("consumerGroup", "quiet_group".to_owned())];
        eventually(&format!("{count} members"), PATIENCE, || {
            let reply = cluster.broker.connect().call(wire::GET_CONSUMER_LIST_BY_GROUP, &ask, &[]).unwrap();
            let found = (reply.header.code == 0).then(|| lenient(&reply.body))?;
            (found["consumerIdList"].as_array()?.len() == count).then_some(())
        });
    };
    let member = [("namesrv", cluster.namesrv()), ("topic", "quiet_topic"), ("group", "quiet_group"), ("told", "true")];
    let first = client.start("push", &member);
    wait_assigned(&first, 9, PATIENCE);
    // A member is told of itself as well.
    first.wait_event("notice");
    notify("false");
    let second = client.start("push", &member);
    members(2);
    notify("true");
    // The notice of a third member would come behind one of the second.
    let third = client.start("push", &member);
    wait_assigned(&first, 3, PATIENCE);
    let lines = first.lines();
    let notices: Vec<usize> = (0..lines.len()).filter(|at| lines[*at]["event"] == "notice").collect();
    assert_eq!(notices.len(), 2, "{lines:?}");
    assert_eq!(assigned(&lines[..notices[1]]).len(), 9, "until then it goes on with all queues: {lines:?}");
    for driver in [first, second, third] {
        driver.stop();
    }
}

fn a_waiting_consumer_hears_of_a_message_at_once(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("waiting_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "waiting_topic")];
    let consumer = client.start("push", &target);
    wait_assigned(&consumer, 1, Duration::from_secs(40));
    // The first message finds out that the pulls are running, the others measure them.
    client.run("send", &[&target[..], &[("prefix", "warm")]].concat());
    consumer.wait_messages(1);
    let sent = client.run("send", &[&target[..], &[("count", "20"), ("prefix", "timed")]].concat());
    let asked = std::time::Instant::now();
    let received = consumer.wait_messages(1 + sent.len());
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "held pulls are answered when messages come, not when their time is over"
    );
    assert_eq!(received.len(), 21);
    consumer.stop();
}

fn a_tag_filter_lets_only_its_tags_through(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("tagged_topic", 2);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "tagged_topic")];
    let options = [("count", "60"), ("tag", "TagA,TagB,TagC")];
    let sent = client.run("send", &[&target[..], &options].concat());
    let options = [("count", "40"), ("sub", "TagA || TagC"), ("group", "tag_group")];
    let consumer = client.start("push", &[&target[..], &options].concat());
    let received = of(&consumer.end(), "message");
    // The driver's tags follow the number in the name, i modulo 3.
    let wanted: Vec<Value> = sent
        .into_iter()
        .filter(|line| text(line, "name").rsplit('-').next().unwrap().parse::<u32>().unwrap() % 3 != 1)
        .collect();
    assert_same_messages(&wanted, &received);
    assert!(received.iter().all(|line| text(line, "tags") != "TagB"));
    // A held pull is woken by its own tag, and its offset passes the others.
    let options = [("count", "1"), ("sub", "TagB"), ("group", "late_tag_group")];
    let late = [&target[..], &options, &[("from", "CONSUME_FROM_FIRST_OFFSET")]].concat();
    let received = of(&client.run("push", &late), "message");
    assert_eq!(text(&received[0], "tags"), "TagB");
}

fn a_lite_pull_consumer_gets_everything(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("lite_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "lite_topic")];
    let sent = client.run("send", &[&target[..], &[("count", "60"), ("size", "500")]].concat());
    let lite = [&target[..], &[("group", "lite_group"), ("count", "60")]].concat();
    assert_same_messages(&sent, &of(&client.run("litepull", &lite), "message"));
    let more = client.run("send", &[&target[..], &[("count", "6"), ("prefix", "more")]].concat());
    let again = [&target[..], &[("group", "lite_group"), ("count", "6")]].concat();
    assert_same_messages(&more, &of(&client.run("litepull", &again), "message"));
}

fn a_lite_pull_consumer_seeks_in_assigned_queues(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("seek_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "seek_topic")];
    let sent = client.run("send", &[&target[..], &[("count", "30")]].concat());
    let options = [("assign", "true"), ("count", "30"), ("group", "seek_group")];
    let again = [("seek", "12"), ("again", "18")];
    let lines = client.run("litepull", &[&target[..], &options, &again].concat());
    assert_same_messages(&sent, &of(&lines, "message"));
    assert_same_messages(&sent[12..], &of(&lines, "again"));
}

fn a_plain_pull_tells_its_offsets(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("pull_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "pull_topic")];
    let sent = client.run("send", &[&target[..], &[("count", "50")]].concat());
    let pull = |options: &[(&str, &str)]| client.run("pull", &[&target[..], options].concat());

    let part = pull(&[("offset", "10"), ("max", "8")]);
    assert_eq!(part[0]["status"], "FOUND");
    assert_eq!(number(&part[0], "next"), 18);
    assert_eq!((number(&part[0], "min"), number(&part[0], "max")), (0, 50));
    let found = of(&part, "message");
    assert_eq!(found.iter().map(identity).collect::<Vec<_>>(), sent[10..18].iter().map(identity).collect::<Vec<_>>());

    let end = pull(&[("offset", "50")]);
    assert_eq!((end[0]["status"].as_str(), number(&end[0], "next")), (Some("NO_NEW_MSG"), 50));
    let beyond = pull(&[("offset", "77")]);
    assert_eq!((beyond[0]["status"].as_str(), number(&beyond[0], "next")), (Some("OFFSET_ILLEGAL"), 50));
    let filtered = pull(&[("offset", "0"), ("sub", "NoSuchTag")]);
    assert_eq!(filtered[0]["status"], "NO_MATCHED_MSG");
    assert_eq!(number(&filtered[0], "next"), 50, "the offset passes what the filter drops");
}

fn an_orderly_consumer_keeps_the_order(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("orderly_topic", 2);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "orderly_topic")];
    let sent = client.run("send", &[&target[..], &[("count", "60")]].concat());
    let options = [("orderly", "true"), ("count", "60"), ("group", "orderly_group")];
    let received = of(&client.run("push", &[&target[..], &options].concat()), "message");
    assert_same_messages(&sent, &received);
    for queue in 0..2 {
        let offsets: Vec<_> = received
            .iter()
            .filter(|line| number(line, "queueId") == queue)
            .map(|line| number(line, "queueOffset"))
            .collect();
        assert!(offsets.is_sorted(), "queue {queue}: {offsets:?}");
    }
}

fn an_ordered_topic_offers_only_its_ordered_queues(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("order_topic", 4);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "order_topic")];
    let order = ["updateOrderConf", "-n", cluster.namesrv(), "-m", "put", "-t", "order_topic", "-v", "broker-a:2"];
    let shown = client.mqadmin(&order);
    assert!(shown.contains("success"), "{shown}");
    let send = |prefix| {
        let options = [("mode", "select"), ("choices", "6"), ("count", "60"), ("prefix", prefix)];
        client.run("send", &[&target[..], &options].concat())
    };
    let early = send("early");
    assert!(early.iter().all(|line| number(line, "offered") == 4), "name servers do not tell the order: {early:?}");
    let tell = ["updateNamesrvConfig", "-n", cluster.namesrv(), "-k", "orderMessageEnable", "-v", "true"];
    let shown = client.mqadmin(&tell);
    assert!(shown.contains("success"), "{shown}");
    let late = send("late");
    for line in &late {
        assert!(number(line, "offered") == 2 && number(line, "queueId") < 2, "{line}");
    }

    let options = [("orderly", "true"), ("count", "120"), ("group", "order_group")];
    let received = of(&client.run("push", &[&target[..], &options].concat()), "message");
    assert_same_messages(&[early, late].concat(), &received);
    // What was chosen for in one way stays in the order in which it was sent.
    let of_choice = |prefix: &str, choice: usize| -> Vec<usize> {
        let numbers = received.iter().filter_map(|line| text(line, "name").strip_prefix(prefix)?.parse().ok());
        numbers.filter(|i: &usize| i % 6 == choice).collect()
    };
    for choice in 0..6 {
        let wanted: Vec<usize> = (choice..60).step_by(6).collect();
        assert_eq!(of_choice("early-", choice), wanted);
        assert_eq!(of_choice("late-", choice), wanted);
    }
}

fn a_lock_has_one_owner(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("locked_topic", 2);
    cluster.broker.create_topic("own_topic", 1);
    let client = cluster.client(version);
    let member = |instance: &'static str| {
        let options = [
            ("namesrv", cluster.namesrv()),
            ("topic", "locked_topic"),
            ("own", "own_topic"),
            ("broker", "broker-a"),
            ("group", "lock_group"),
            ("instance", instance),
        ];
        let driver = client.start("lock", &options);
        driver.wait_event("started");
        driver
    };
    let answer = |driver: &mut Driver, line: &str, event: &str, nth: usize| {
        driver.say(line);
        driver.wait_for(line, Duration::from_secs(10), |lines| of(lines, event).get(nth).cloned())
    };
    let (mut one, mut other) = (member("one"), member("other"));
    assert_eq!(answer(&mut one, "lock 0", "lock", 0)["granted"], true);
    assert_eq!(answer(&mut other, "lock 0", "lock", 0)["granted"], false, "it has an owner");
    assert_eq!(answer(&mut other, "lock 1", "lock", 1)["granted"], true, "another queue is free");
    assert_eq!(answer(&mut one, "lock 0", "lock", 1)["granted"], true, "an owner may lock again");
    answer(&mut one, "unlock 0", "unlock", 0);
    assert_eq!(answer(&mut other, "lock 0", "lock", 2)["granted"], true, "unlocked, it is free");
    one.say("end");
    other.say("end");
    one.end();
    other.end();
}
