//! What an operator asks of running consumers, and replies to requests: through the broker, from client to client.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::eventually;
use super::support::java::{Client, Driver, of};
use super::support::server::{Cluster, Make, Settings};
use super::{assert_same_messages, for_each_client, names, text};

for_each_client! {
    an_operator_asks_a_running_consumer
    an_operator_has_a_message_consumed_again
    a_running_group_is_reset
    a_group_that_is_gone_is_reset
    a_group_continues_where_another_is
    a_request_gets_its_reply
    a_request_with_fields_of_long_names_gets_its_reply
}

/// Twenty messages in two queues, and a consumer that has consumed them.
struct World {
    cluster: Cluster,
    client: Client,
    sent: Vec<Value>,
    consumer: Driver,
    client_id: String,
}

const TOPIC: &str = "asked_topic";
const GROUP: &str = "asked_group";

impl World {
    fn new(version: &'static str, settings: Settings) -> World {
        let cluster = Cluster::start(settings);
        cluster.broker.create_topic(TOPIC, 2);
        let client = cluster.client(version);
        let target = [("namesrv", cluster.namesrv()), ("topic", TOPIC)];
        let sent = client.run("send", &[&target[..], &[("count", "20")]].concat());
        let options = [("group", GROUP), ("persist", "500")];
        let consumer = client.start("push", &[&target[..], &options].concat());
        let client_id = text(&consumer.wait_event("started"), "clientId").to_owned();
        assert_same_messages(&sent, &consumer.wait_messages(20));
        let world = World { cluster, client, sent, consumer, client_id };
        eventually("all is committed", Duration::from_secs(40), || {
            (world.ask("stats", &[])["queues"] == json!({"0": "10/10", "1": "10/10"})).then_some(())
        });
        world
    }

    fn ask(&self, what: &str, more: &[(&str, &str)]) -> Value {
        let options = [("namesrv", self.cluster.namesrv()), ("topic", TOPIC), ("group", GROUP), ("do", what)];
        self.client.run("operator", &[&options[..], more].concat()).remove(0)
    }
}

fn an_operator_asks_a_running_consumer(version: &'static str) {
    let world = World::new(version, Settings::default());
    let all = json!({"0": 10, "1": 10});
    let status = world.ask("status", &[]);
    assert_eq!(status["clients"][&world.client_id], all, "{status}");
    let running = world.ask("running", &[("client", &world.client_id)]);
    assert_eq!(running["topics"], json!(["%RETRY%asked_group", TOPIC]), "{running}");
    // The two queues, and that of retries once the client has found it.
    assert!(running["queues"].as_i64().unwrap() >= 2, "{running}");
    assert!(running["jstack"].as_i64().unwrap() > 0, "{running}");
    let nobody = world.ask("running", &[("client", "nobody@1")]);
    let remark = "The Consumer <asked_group> <nobody@1> not online";
    assert!(nobody["code"] == 1 && text(&nobody, "message").contains(remark), "{nobody}");
    assert_eq!(world.ask("stats", &[])["behind"], 0);
    // Apache's 5.3.3 names the topic itself in the place of the groups that are online.
    if Make::under_test() != Make::Apache("5.3.3") {
        assert_eq!(world.ask("who", &[])["groups"], json!([GROUP]));
    }
    let span = world.ask("span", &[]);
    for queue in ["0", "1"] {
        let times = &span["queues"][queue];
        assert!(times["min"].as_i64().unwrap() > 0 && times["delay"] == 0, "{span}");
        assert_eq!(times["consumed"], times["max"], "{span}");
    }
    let namesrv = world.cluster.namesrv();
    let progress = world.client.mqadmin(&["consumerProgress", "-n", namesrv, "-g", GROUP]);
    assert!(progress.contains("Consume Diff Total: 0") || progress.contains("Diff Total: 0"), "{progress}");
    let lines = progress.lines().filter(|line| line.starts_with(TOPIC)).count();
    assert_eq!(lines, 2, "{progress}");
    let status = world.client.mqadmin(&["consumerStatus", "-n", namesrv, "-g", GROUP]);
    assert!(status.contains(&world.client_id), "{status}");
    world.consumer.stop();
}

fn an_operator_has_a_message_consumed_again(version: &'static str) {
    let world = World::new(version, Settings::default());
    let again = &world.sent[7];
    let direct = world.ask("direct", &[("client", &world.client_id), ("id", text(again, "msgId"))]);
    assert_eq!(direct["result"], "CR_SUCCESS", "{direct}");
    let messages = world.consumer.wait_messages(21);
    assert_eq!(names(&messages[20..]), names(std::slice::from_ref(again)));
    // It is consumed, and nothing is committed for it.
    let all = json!({"0": "10/10", "1": "10/10"});
    assert_eq!(world.ask("stats", &[])["queues"], all);
    let nobody = world.ask("direct", &[("client", "nobody@1"), ("id", text(again, "msgId"))]);
    assert!(nobody["code"] == 1 && text(&nobody, "message").contains("not online"), "{nobody}");
    world.consumer.stop();
}

fn a_running_group_is_reset(version: &'static str) {
    for at_broker in ["true", "false"] {
        let properties = vec![("useServerSideResetOffset", at_broker.to_owned())];
        let world = World::new(version, Settings { properties, ..Settings::default() });
        let reset = world.ask("reset", &[("time", "0")]);
        assert_eq!(reset["offsets"], json!({"0": 0, "1": 0}), "{reset}");
        // A client stops a queue for ten seconds and takes it up again at its next rebalance.
        let again = world.consumer.wait_for("all messages again", Duration::from_secs(90), |lines| {
            let messages = of(lines, "message");
            (messages.len() >= 40).then_some(messages)
        });
        assert_eq!(names(&again[20..40]), names(&world.sent), "useServerSideResetOffset={at_broker}");
        world.consumer.stop();
    }
}

fn a_group_that_is_gone_is_reset(version: &'static str) {
    let World { cluster, client, sent, consumer, .. } = World::new(version, Settings::default());
    consumer.stop();
    // 4.9's tool sets the offsets itself where a broker says that nobody is there.
    let shown = client.mqadmin(&["resetOffsetByTime", "-n", cluster.namesrv(), "-g", GROUP, "-t", TOPIC, "-s", "0"]);
    assert!(shown.contains("broker-a"), "{shown}");
    let target = [("namesrv", cluster.namesrv()), ("topic", TOPIC), ("group", GROUP), ("count", "20")];
    assert_same_messages(&sent, &of(&client.run("push", &target), "message"));
}

fn a_group_continues_where_another_is(version: &'static str) {
    let world = World::new(version, Settings::default());
    assert_eq!(world.ask("clone", &[("to", "cloned_group")])["event"], "ok");
    let target = [("namesrv", world.cluster.namesrv()), ("topic", TOPIC)];
    let more = world.client.run("send", &[&target[..], &[("count", "4"), ("prefix", "later")]].concat());
    let options = [("group", "cloned_group"), ("count", "4")];
    assert_same_messages(&more, &of(&world.client.run("push", &[&target[..], &options].concat()), "message"));
    world.consumer.stop();
}

fn a_request_gets_its_reply(version: &'static str) {
    request(version, true);
}

/// Clients that do not shorten their headers' names use other codes for sends and replies.
fn a_request_with_fields_of_long_names_gets_its_reply(version: &'static str) {
    request(version, false);
}

fn request(version: &'static str, short_names: bool) {
    let cluster = Cluster::start(Settings::default());
    cluster.broker.create_topic("request_topic", 2);
    let mut client = cluster.client(version);
    client.properties.push(format!("org.apache.rocketmq.client.sendSmartMsg={short_names}"));
    let said = client.run("request", &[("namesrv", cluster.namesrv()), ("topic", "request_topic")]);
    assert!(of(&said, "refused").is_empty(), "{said:?}");
    assert_eq!(names(&of(&said, "reply")), ["answer"], "{said:?}");
    assert_eq!(of(&said, "answered")[0]["status"], "SEND_OK", "{said:?}");
    let asked = of(&said, "asked").remove(0);
    let has = |code: i64| asked["codes"].as_array().unwrap().contains(&json!(code));
    assert_eq!([has(310), has(325)], [short_names; 2], "{asked}");
    assert_eq!([has(10), has(324)], [!short_names; 2], "{asked}");
}
