//! Filters by SQL92: what a consumer gets, and what one is told whose filter cannot be.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::java::{self, Driver, of};
use super::support::server::{Cluster, Make, Settings, lenient};
use super::support::turn::{alone, together};
use super::support::wire::{self, Connection, Frame, Outgoing};
use super::support::{eventually, skip};
use super::{assert_same_messages, for_each_client, names, number, text};

for_each_client! {
    expressions_select_what_they_say
    nothing_is_lost_behind_a_long_stretch_that_does_not_match
    a_broker_that_does_not_filter_says_so
    a_wrong_expression_keeps_its_consumer_from_starting
    what_fails_comes_again_under_the_same_expression
    ; alone
    an_expression_changes_while_its_consumer_runs
}

fn filtering(more: &[(&'static str, &str)]) -> Settings {
    let mut properties = vec![("enablePropertyFilter", "true".to_owned())];
    properties.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
    Settings { properties, ..Settings::default() }
}

/// The number behind the dash of a message's name.
fn place(name: &str) -> usize {
    name.rsplit('-').next().unwrap().parse().unwrap()
}

fn expressions_select_what_they_say(version: &'static str) {
    let cluster = Cluster::start(filtering(&[]));
    cluster.broker.create_topic("selected_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "selected_topic")];
    // Every third message has a word where the others have a number.
    let properties = "n={i};colour=red,green,blue;size=1.5,two,-3e0,0x1p3";
    let options = [("count", "60"), ("tag", "TagA,TagB"), ("properties", properties)];
    client.run("send", &[&target[..], &options].concat());
    type Wanted = fn(usize) -> bool;
    let cases: [(&str, Wanted); 12] = [
        ("n > 10 AND n <= 20", |i| i > 10 && i <= 20),
        ("n BETWEEN 5 AND 9", |i| (5..=9).contains(&i)),
        ("n NOT BETWEEN 5 AND 54", |i| !(5..=54).contains(&i)),
        ("colour = 'red'", |i| i % 3 == 0),
        ("colour <> 'red' AND n < 12", |i| i % 3 != 0 && i < 12),
        ("colour IN ('green', 'blue') OR n = 0", |i| i % 3 != 0 || i == 0),
        ("TAGS = 'TagB'", |i| i % 2 == 1),
        ("nothing IS NULL AND colour IS NOT NULL AND n < 3", |i| i < 3),
        ("nothing = 1 OR n = 7", |i| i == 7),
        ("size < 9.0", |i| i % 4 != 1),
        ("size > 9.0 OR colour = 'red'", |i| i % 4 != 1 && i % 3 == 0),
        ("NOT (n < 50) -- the end\n", |i| i >= 50),
    ];
    let searches: [(&str, Wanted); 3] = [
        ("colour CONTAINS 'ee'", |i| i % 3 == 1),
        ("colour STARTSWITH 're' AND n < 10", |i| i % 3 == 0 && i < 10),
        ("colour NOT ENDSWITH 'd'", |i| i % 3 != 0),
    ];
    let mut asked = cases.to_vec();
    // 4.9 does not know them.
    if Make::under_test() != Make::Apache("4.9.7") {
        asked.extend(searches);
    }
    let sql: Vec<_> = asked.iter().map(|(sql, _)| *sql).collect();
    let lines = client.run("select", &[&target[..], &[("sql", &*sql.join(";;"))]].concat());
    assert_eq!(lines.len(), asked.len());
    for (line, (sql, wanted)) in lines.iter().zip(asked) {
        assert_eq!(line["event"], "selected", "{line}");
        let found: Vec<_> =
            line["names"].as_array().unwrap().iter().map(|name| place(name.as_str().unwrap())).collect();
        let expected: Vec<_> = (0..60).filter(|i| wanted(*i)).collect();
        assert_eq!(found, expected, "{sql}");
    }
    // The push consumer relies on what its heartbeat said, a plain pull brings its expression along.
    let push = [("sql", "n > 10 AND colour = 'blue'"), ("count", "16"), ("group", "selected_group")];
    let received = of(&client.run("push", &[&target[..], &push].concat()), "message");
    let mut found: Vec<_> = received.iter().map(|line| place(text(line, "name"))).collect();
    found.sort_unstable();
    assert_eq!(found, (11..60).filter(|i| i % 3 == 2).collect::<Vec<_>>());
}

/// A read examines 800 messages at most, here as with Apache's.
fn nothing_is_lost_behind_a_long_stretch_that_does_not_match(version: &'static str) {
    let cluster = Cluster::start(filtering(&[]));
    cluster.broker.create_topic("stretch_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "stretch_topic")];
    let send = |count: &str, prefix: &str, wanted: &str| {
        let mode = if count == "2000" { "batch" } else { "sync" };
        let properties = format!("wanted={wanted}");
        let options = [("count", count), ("prefix", prefix), ("mode", mode), ("properties", &*properties)];
        client.run("send", &[&target[..], &options].concat())
    };
    send("2000", "noise", "no");
    let mut wanted = send("10", "one", "yes");
    send("2000", "more", "no");
    wanted.extend(send("10", "two", "yes"));

    let select = client.run("select", &[&target[..], &[("sql", "wanted = 'yes';;wanted = 'maybe'")]].concat());
    assert_eq!(select[0]["names"].as_array().unwrap().len(), 20);
    assert_eq!(select[1]["names"].as_array().unwrap().len(), 0);
    assert!(number(&select[1], "pulls") > 4020 / 800, "one read does not go through the whole queue");

    let options = [("sql", "wanted = 'yes'"), ("group", "stretch_group"), ("persist", "500")];
    let consumer = client.start("push", &[&target[..], &options].concat());
    consumer.wait_messages(20);
    // The pull waits now: noise does not end that, and what follows the noise comes at once.
    send("2000", "late", "no");
    wanted.extend(send("10", "three", "yes"));
    let received = consumer.wait_messages(30);
    assert_same_messages(&wanted, &received);
    consumer.stop();
}

fn an_expression_changes_while_its_consumer_runs(version: &'static str) {
    let cluster = Cluster::start(filtering(&[]));
    cluster.broker.create_topic("changing_topic", 2);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "changing_topic")];
    let send = |prefix: &str| {
        let options = [("count", "40"), ("prefix", prefix), ("properties", "n={i}")];
        client.run("send", &[&target[..], &options].concat())
    };
    // Apache's looks again at what a waiting pull passed over under the old expression, so older messages may come as well.
    let wait_for = |consumer: &Driver, prefix: &str, wanted: std::ops::Range<usize>| {
        let places = consumer.wait_for(prefix, Duration::from_secs(60), |lines| {
            let all = names(&of(lines, "message"));
            let mut places: Vec<_> =
                all.iter().filter(|name| name.starts_with(prefix)).map(|name| place(name)).collect();
            places.sort_unstable();
            (places.len() >= wanted.len()).then_some(places)
        });
        assert_eq!(places, wanted.collect::<Vec<_>>(), "{prefix}");
    };
    let options = [("sql", "n >= 20"), ("group", "changing_group")];
    let mut consumer: Driver = client.start("push", &[&target[..], &options].concat());
    send("first");
    wait_for(&consumer, "first", 20..40);
    for (nth, (sql, prefix, wanted)) in
        [("n < 20", "second", 0..20), ("n BETWEEN 10 AND 29", "third", 10..30)].into_iter().enumerate()
    {
        consumer.say(&format!("sql {sql}"));
        consumer.wait_for(sql, Duration::from_secs(10), |lines| of(lines, "subscribed").get(nth).cloned());
        // A client that is just sending a heartbeat leaves this one to the next, which comes 30 s later.
        eventually("the broker knows the expression", Duration::from_secs(60), || {
            let ask = [("consumerGroup", "changing_group".to_owned())];
            let reply = cluster.broker.connect().call(wire::GET_CONSUMER_CONNECTION_LIST, &ask, &[]).unwrap();
            let known = lenient(&reply.body);
            (known["subscriptionTable"]["changing_topic"]["subString"] == sql).then_some(())
        });
        send(prefix);
        wait_for(&consumer, prefix, wanted);
    }
    consumer.stop();
}

fn a_broker_that_does_not_filter_says_so(version: &'static str) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("plain_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "plain_topic")];
    client.run("send", &target);
    let refusal = "The broker does not support consumer to filter message by SQL92";
    for command in ["push", "select"] {
        let lines = client.run(command, &[&target[..], &[("sql", "a = 1")]].concat());
        assert_eq!((lines[0]["event"].as_str(), number(&lines[0], "code")), (Some("refused"), 1), "{lines:?}");
        assert!(text(&lines[0], "message").contains(refusal), "{lines:?}");
    }
}

fn a_wrong_expression_keeps_its_consumer_from_starting(version: &'static str) {
    let cluster = Cluster::start(filtering(&[]));
    cluster.broker.create_topic("wrong_topic", 1);
    let client = cluster.client(version);
    let target = [("namesrv", cluster.namesrv()), ("topic", "wrong_topic")];
    for sql in ["a = ", "a > 'text'", "a BETWEEN 5 AND 1"] {
        let lines = client.run("push", &[&target[..], &[("sql", sql)]].concat());
        assert_eq!((lines[0]["event"].as_str(), number(&lines[0], "code")), (Some("refused"), 23), "{lines:?}");
    }
    if Make::under_test() == Make::Ours {
        client.run("send", &target);
        let lines = client.run("select", &[&target[..], &[("sql", "a = ")]].concat());
        assert_eq!(number(&lines[0], "code"), 23, "Apache's would deliver everything: {lines:?}");
    }
}

fn subscription(topic: &str, sql: &str, version: i64) -> Value {
    json!({
        "topic": topic, "subString": sql, "expressionType": if sql == "*" { "TAG" } else { "SQL92" },
        "subVersion": version, "classFilterMode": false, "tagsSet": [], "codeSet": [],
    })
}

/// A connection that is a member of a group with these subscriptions.
fn member(cluster: &Cluster, group: &str, subscriptions: &[Value]) -> Connection {
    let mut connection = cluster.broker.connect();
    let heartbeat = json!({
        "clientID": "127.0.0.1@wire", "producerDataSet": [],
        "consumerDataSet": [{
            "groupName": group, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "unitMode": false, "subscriptionDataSet": subscriptions,
        }],
    });
    let reply = connection.call(wire::HEART_BEAT, &[], heartbeat.to_string().as_bytes()).unwrap();
    assert_eq!(reply.header.code, 0, "{:?}", reply.header);
    connection
}

/// A pull that relies on the group's subscription, as a push consumer's does.
fn pull(connection: &mut Connection, group: &str, topic: &str, version: i64) -> Frame {
    let mut ext = wire::pull(topic, 0, 0, 32, 0);
    for (key, value) in &mut ext {
        match *key {
            "consumerGroup" => group.clone_into(value),
            "sysFlag" => "0".clone_into(value),
            "subVersion" => *value = version.to_string(),
            _ => {}
        }
    }
    ext.retain(|(key, _)| *key != "subscription" && *key != "expressionType");
    connection.call(wire::PULL_MESSAGE, &ext, &[]).unwrap()
}

#[test]
fn refusals_have_the_codes_and_remarks_that_clients_know() {
    if let (Make::Apache(_), Some(reason)) = (Make::under_test(), java::missing()) {
        return skip(&reason);
    }
    let _turn = together();
    let cluster = Cluster::start(filtering(&[]));
    cluster.broker.create_topic("refused_topic", 1);
    let topic = "refused_topic";
    let told = |frame: &Frame| (frame.header.code, frame.header.remark.clone().unwrap_or_default());

    let mut good = member(&cluster, "good_group", &[subscription(topic, "a = 1", 100)]);
    assert_eq!(pull(&mut good, "good_group", topic, 100).header.code, 19, "nothing there yet");
    let newer = pull(&mut good, "good_group", topic, 101);
    assert_eq!(told(&newer), (25, "the consumer's subscription not latest".to_owned()));
    let mut bad = member(&cluster, "bad_group", &[subscription(topic, "a = ", 100)]);
    let remark = "The broker's consumer filter data is not exist!Your expression may be wrong!";
    assert_eq!(told(&pull(&mut bad, "bad_group", topic, 100)), (27, remark.to_owned()));

    let check = |connection: &mut Connection, sql: &str| {
        let body = json!({
            "clientId": "127.0.0.1@wire", "group": "good_group", "namespace": null,
            "subscriptionData": subscription(topic, sql, 100),
        });
        told(&connection.call(wire::CHECK_CLIENT_CONFIG, &[], body.to_string().as_bytes()).unwrap())
    };
    assert_eq!(check(&mut good, "a = 1").0, 0);
    assert_eq!(check(&mut good, "*").0, 0);
    let (code, remark) = check(&mut good, "a = ");
    assert!(code == 23 && !remark.is_empty(), "{code} {remark}");

    let mut ext = wire::pull(topic, 0, 0, 32, 0);
    for (key, value) in &mut ext {
        match *key {
            "subscription" => value.clear(),
            "expressionType" => "SQL92".clone_into(value),
            _ => {}
        }
    }
    let empty = good.call(wire::PULL_MESSAGE, &ext, &[]).unwrap();
    assert_eq!(told(&empty), (23, "parse the consumer's subscription failed".to_owned()));
}

fn what_fails_comes_again_under_the_same_expression(version: &'static str) {
    // The retry topic itself is subscribed without an expression; the key has the broker look at the original's.
    for filters in ["true", "false"] {
        let cluster =
            Cluster::start(filtering(&[("filterSupportRetry", filters), ("messageDelayLevel", "1s 1s 1s 1s")]));
        cluster.broker.create_topic("failing_topic", 2);
        let client = cluster.client(version);
        let target = [("namesrv", cluster.namesrv()), ("topic", "failing_topic")];
        client.run("send", &[&target[..], &[("count", "30"), ("properties", "n={i};colour=red,green,blue")]].concat());
        let options = [("group", "failing_group"), ("sql", "colour = 'red' AND n < 20"), ("fail-first", "true")];
        let lines = client.run("push", &[&target[..], &options, &[("count", "7")]].concat());
        let wanted: Vec<usize> = (0..20).step_by(3).collect();
        for (event, times) in [("handed-back", 0), ("message", 1)] {
            let came = of(&lines, event);
            let mut places: Vec<usize> = came.iter().map(|line| place(text(line, "name"))).collect();
            places.sort_unstable();
            assert_eq!(places, wanted, "{event} with filterSupportRetry={filters}");
            for line in came {
                assert_eq!((text(&line, "topic"), number(&line, "reconsumeTimes")), ("failing_topic", times), "{line}");
            }
        }
    }
}

/// 5.3.3 has the key, but asks before it whether the retry topic's own subscription is one of tags, which it always is.
#[test]
fn a_retried_message_is_filtered_by_its_original_topic_where_that_is_wanted() {
    if let (Make::Apache(_), Some(reason)) = (Make::under_test(), java::missing()) {
        return skip(&reason);
    }
    let _alone = alone();
    for filters in [true, false] {
        let cluster = Cluster::start(filtering(&[("filterSupportRetry", if filters { "true" } else { "false" })]));
        cluster.broker.create_topic("origin_topic", 1);
        let (group, retry) = ("retried_group", "%RETRY%retried_group");
        let subscriptions = [subscription("origin_topic", "a = 1", 100), subscription(retry, "*", 100)];
        let mut connection = member(&cluster, group, &subscriptions);
        for (body, properties) in [
            ("matches", "a\u{1}1\u{2}RETRY_TOPIC\u{1}origin_topic\u{2}"),
            ("does not", "a\u{1}2\u{2}RETRY_TOPIC\u{1}origin_topic\u{2}"),
            ("is of another topic", "a\u{1}2\u{2}RETRY_TOPIC\u{1}other_topic\u{2}"),
        ] {
            let message = Outgoing { topic: retry, queue: 0, properties, body: body.as_bytes() };
            let sent = connection.call(wire::SEND_MESSAGE_V2, &message.ext(), message.body).unwrap();
            assert_eq!(sent.header.code, 0, "{:?}", sent.header);
        }
        let reply = eventually("the last message is there", Duration::from_secs(10), || {
            let reply = pull(&mut connection, group, retry, 100);
            (reply.header.code == 0 && reply.header.number("nextBeginOffset") == 3).then_some(reply)
        });
        let bodies: Vec<_> = wire::records(&reply.body).into_iter().map(|record| record.body).collect();
        let all: [&[u8]; 3] = [b"matches", b"does not", b"is of another topic"];
        let expected: &[&[u8]] =
            if filters && Make::under_test() != Make::Apache("5.3.3") { &[all[0], all[2]] } else { &all };
        assert_eq!(bodies, expected, "filterSupportRetry={filters}");
    }
}
