//! What operators ask of a running consumer, by the Java tools: where it is, what it does, to consume a message again, to
//! go back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringmq_client::{Consumed, Message, PushConsumer, ReceivedMessage};
use serde_json::{Value, json};

use super::support::server::{Cluster, Settings};
use super::support::{eventually, java, skip};
use super::{PATIENCE, Seen, alone, names, numbered, options, producer, set, text};

const TOPIC: &str = "sdk_asked_topic";
const GROUP: &str = "sdk_asked";

#[test]
fn an_operator_is_answered() {
    if let Some(reason) = java::missing() {
        return skip(&reason);
    }
    let _alone = alone();
    // The members are told where to read on, as the broker is asked by old tools.
    let properties = vec![("useServerSideResetOffset", "false".to_owned())];
    let cluster = Cluster::start(Settings { properties, ..Settings::default() });
    cluster.broker.create_topic(TOPIC, 2);
    let producer = producer(&cluster);
    let send = |i| producer.send(&Message::new(TOPIC, format!("m-{i}"))).unwrap().msg_id;
    let ids: Vec<String> = (0..20).map(send).collect();

    let seen = Seen::default();
    let is_again = Arc::new(AtomicBool::new(false));
    let (seeing, again) = (seen.clone(), Arc::clone(&is_again));
    let listener = move |message: &ReceivedMessage| {
        seeing.add(message);
        match text(message).as_str() {
            "m-1" if again.load(Ordering::SeqCst) => Consumed::Later,
            "m-2" if again.load(Ordering::SeqCst) => panic!("as a listener may"),
            _ => Consumed::Done,
        }
    };
    let consumer = PushConsumer::start(options(GROUP, TOPIC), names(&cluster), listener).unwrap();
    seen.wait(20);
    is_again.store(true, Ordering::SeqCst);

    for version in java::CLIENTS {
        let client = cluster.client(version);
        let ask = |what: &str, more: &[(&str, &str)]| -> Value {
            let asked = [("namesrv", cluster.namesrv()), ("topic", TOPIC), ("group", GROUP), ("do", what)];
            client.run("operator", &[&asked[..], &[("client", consumer.client_id())], more].concat()).remove(0)
        };
        let all = json!({"0": 10, "1": 10});
        eventually("the consumer says how far it is", PATIENCE, || {
            (ask("status", &[])["clients"][consumer.client_id()] == all).then_some(())
        });
        let running = ask("running", &[]);
        assert_eq!(running["topics"], json!(["%RETRY%sdk_asked", TOPIC]), "{running}");
        assert!(running["queues"].as_i64().unwrap() >= 2, "{running}");
        let listed = client.mqadmin(&["consumerStatus", "-n", cluster.namesrv(), "-g", GROUP]);
        assert!(listed.contains(consumer.client_id()), "{listed}");
        let shown =
            client.mqadmin(&["consumerStatus", "-n", cluster.namesrv(), "-g", GROUP, "-i", consumer.client_id()]);
        for wanted in ["PROP_CONSUME_TYPE", "CONSUME_PASSIVELY", TOPIC, "broker-a"] {
            assert!(shown.contains(wanted), "no {wanted} in\n{shown}");
        }
        for (id, wanted) in ids.iter().zip(["CR_SUCCESS", "CR_LATER", "CR_THROW_EXCEPTION"]) {
            let before = seen.all().len();
            let direct = ask("direct", &[("id", id)]);
            assert_eq!(direct["result"], wanted, "{direct}");
            let after = seen.all();
            assert_eq!((after.len(), &after[before].msg_id()), (before + 1, id));
        }
    }
    is_again.store(false, Ordering::SeqCst);
    let before = seen.all().len();
    let client = cluster.client(java::CLIENTS[0]);
    let asked = [("namesrv", cluster.namesrv()), ("topic", TOPIC), ("group", GROUP), ("do", "reset"), ("time", "0")];
    let reset = client.run("operator", &asked).remove(0);
    assert_eq!(reset["offsets"], json!({"0": 0, "1": 0}), "{reset}");
    seen.wait(before + 20);
    assert_eq!(set(seen.texts().into_iter().skip(before)), numbered("m", 20));
    consumer.shutdown().unwrap();
}
