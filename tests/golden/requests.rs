//! Requests and their replies, through the broker.

use super::scenarios;
use super::scene::{Scene, Setup};
use super::support::wire::{self, Outgoing};

scenarios! {
    requests_with_replies
    requests_without_replies
    replies_raw
}

const SEND_REPLY: i32 = 325;

fn requests_with_replies(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    scene.group("answerers", "orders");
    let answerer = [("topic", "orders"), ("group", "answerers"), ("reply", "an answer")];
    scene.act("answerer", "consume", &answerer);
    let options = [("topic", "orders"), ("body", "a question"), ("tag", "paid"), ("keys", "k1"), ("p.user", "kept")];
    let lines = scene.act("request", "request", &options);
    scene.deliveries("answerer", 1);
    let sent = scene.wait("answerer", "replied", 1);
    scene.observe_line("the reply's send", &sent[0]);
    let mut reply = lines.into_iter().find(|line| line["event"] != "end").unwrap();
    // The reply is made by the broker's push, which has no place in a log.
    for member in ["offsetMsgId", "position"] {
        reply.as_object_mut().unwrap().remove(member);
    }
    scene.observe_line("the reply", &reply);
    scene.whole_queue("the reply as it is stored", "DefaultCluster_REPLY_TOPIC", 1);
    scene.route("the reply topic's route", "DefaultCluster_REPLY_TOPIC");
    scene
}

fn requests_without_replies(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    scene.topic("orders");
    // Long enough for a cold JVM on a busy machine to have sent it.
    let options = [("topic", "orders"), ("body", "a question"), ("timeout", "5000")];
    let lines = scene.act("request", "request", &options);
    let mut line = lines.into_iter().find(|line| line["event"] != "end").unwrap();
    // The message tells an id of its own and how long it took.
    let message = line["message"].as_str().unwrap().split(['<', ',']).next().unwrap().trim().to_owned();
    line["message"] = message.into();
    scene.observe_line("what comes instead", &line);
    scene.stored("the request as it is stored", "orders", 1);
    scene
}

fn replies_raw(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    let known = "CORRELATION_ID\u{1}7F0000010BADC0FFEE0000000000AAAA\u{2}MSG_TYPE\u{1}reply\u{2}TTL\u{1}3000\u{2}";
    let nobody = format!("{known}REPLY_TO_CLIENT\u{1}nobody@1\u{2}");
    let topic = "DefaultCluster_REPLY_TOPIC";
    for (what, topic, properties) in [
        ("to a client that is not there", topic, &*nobody),
        ("to no client", topic, known),
        ("without properties", topic, ""),
        ("to another topic", "elsewhere", &*nobody),
        ("to a forbidden topic", "SCHEDULE_TOPIC_XXXX", &*nobody),
    ] {
        let message = Outgoing { topic, queue: 0, properties, body: what.as_bytes() };
        let ext = message.ext();
        let ext: Vec<_> = ext.iter().map(|(key, value)| (*key, value.as_str())).collect();
        scene.answer(what, SEND_REPLY, &ext, message.body);
    }
    scene.whole_queue("as they are stored", topic, 1);
    let ext = [("topic", "elsewhere"), ("queueId", "0")];
    scene.answer("maximum of the other topic", wire::GET_MAX_OFFSET, &ext, &[]);
    scene
}
