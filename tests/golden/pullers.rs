//! Consumers that take messages when they like: lite pull by subscription and by assignment, and plain pull. What
//! they see, and what the broker shows of them afterwards.

use serde_json::{Value, json};

use super::groups::{CONSUMER_CONNECTIONS, CONSUMER_LIST, QUERY_OFFSET, and, filled, of, stats};
use super::scenarios;
use super::scene::{Scene, Setup};
use super::support::wire::Frame;

scenarios! {
    lite_pull_by_subscription
    lite_pull_by_assignment
    plain_pull
}

/// Tells the consumer called `name` to do something, and observes what it says.
fn pull(scene: &mut Scene, what: &str, name: &str, options: &[(&str, &str)]) {
    scene.act_once(what, "pull", &[&[("consumer", name)], options].concat());
}

/// Observes what the broker shows of the group, once its offsets in the queues are `offsets`, 0 for a queue in which
/// nothing was committed: clients commit one-way, queue by queue.
fn at_broker(scene: &mut Scene, what: &str, offsets: [&str; 2]) {
    for (queue, offset) in ["0", "1"].into_iter().zip(offsets) {
        scene.until(&format!("{what}: {offset} is committed in queue {queue}"), |scene| {
            let frame = scene.ask(QUERY_OFFSET, &of("billing", "orders", queue), &[]);
            (frame.header.ext.get("offset").map(String::as_str) == Some(offset)).then_some(())
        });
    }
    let strict = and(of("billing", "orders", "1"), &[("setZeroIfNotFound", "false")]);
    scene.answer(&format!("{what}: the other queue"), QUERY_OFFSET, &strict, &[]);
    stats(scene, &format!("{what}: stats"), &[("consumerGroup", "billing")]);
}

/// Waits until `count` members are in the group, and observes who they are. Clients without a share of the queues send
/// their first heartbeat some time after they have begun.
fn members(scene: &mut Scene, what: &str, count: usize) {
    let frame = scene.until(&format!("{what}: {count} members"), |scene| {
        let frame = scene.ask(CONSUMER_LIST, &[("consumerGroup", "billing")], &[]);
        (ids(&frame).len() == count).then_some(frame)
    });
    let members = json!({ "code": frame.header.code, "remark": frame.header.remark, "members": ids(&frame) });
    scene.observe(&format!("{what}: members"), &members);
    scene.answer(&format!("{what}: connections"), CONSUMER_CONNECTIONS, &[("consumerGroup", "billing")], &[]);
}

/// The members that an answer names, without their addresses, sorted.
fn ids(frame: &Frame) -> Vec<String> {
    let Ok(body) = serde_json::from_slice::<Value>(&frame.body) else { return Vec::new() };
    let ids: Vec<String> = serde_json::from_value(body["consumerIdList"].clone()).unwrap();
    let mut names: Vec<String> = ids.iter().map(|id| id.split_once('@').unwrap().1.to_owned()).collect();
    names.sort();
    names
}

/// Five messages in queue 0 and two in queue 1.
fn orders(scene: &mut Scene) {
    scene.cluster.broker.create_topic("orders", 2);
    filled(scene, "orders", 5);
    for body in ["n0", "n1"] {
        scene.act(body, "send", &[("topic", "orders"), ("body", body), ("queue", "1"), ("tag", "paid")]);
    }
    scene.until_maximum("orders", "1", 2);
}

fn lite_pull_by_subscription(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    orders(&mut scene);
    scene.act("lite", "lite", &[("topic", "orders"), ("group", "billing")]);
    pull(&mut scene, "its queues", "lite", &[("do", "queues"), ("count", "2")]);
    members(&mut scene, "started", 1);
    pull(&mut scene, "all is polled", "lite", &[("do", "poll"), ("count", "7")]);
    pull(&mut scene, "nothing is committed yet", "lite", &[("do", "committed")]);
    pull(&mut scene, "commit", "lite", &[("do", "commit")]);
    at_broker(&mut scene, "what was polled", ["5", "2"]);
    pull(&mut scene, "goes back", "lite", &[("do", "seek"), ("offset", "2")]);
    pull(&mut scene, "from there", "lite", &[("do", "poll"), ("count", "1")]);
    pull(&mut scene, "commit what is before", "lite", &[("do", "commit")]);
    at_broker(&mut scene, "back", ["3", "2"]);
    pull(&mut scene, "to the beginning", "lite", &[("do", "begin")]);
    pull(&mut scene, "from the beginning", "lite", &[("do", "poll"), ("count", "2")]);
    pull(&mut scene, "to the end", "lite", &[("do", "end")]);
    scene.put("orders", "m5", "");
    pull(&mut scene, "from the end", "lite", &[("do", "poll"), ("count", "1")]);
    pull(&mut scene, "beyond the end", "lite", &[("do", "seek"), ("offset", "99")]);
    pull(&mut scene, "below zero", "lite", &[("do", "seek"), ("offset", "-1")]);
    pull(&mut scene, "a queue that is not there", "lite", &[("do", "seek"), ("queue", "9"), ("offset", "0")]);
    pull(&mut scene, "at the beginning of time", "lite", &[("do", "at"), ("time", "0")]);
    let future = (super::delay::now() + 600_000).to_string();
    pull(&mut scene, "in the future", "lite", &[("do", "at"), ("time", &*future)]);
    pull(&mut scene, "commit by hand", "lite", &[("do", "commit-at"), ("offset", "4")]);
    at_broker(&mut scene, "by hand", ["4", "2"]);
    pull(&mut scene, "what is committed", "lite", &[("do", "committed")]);
    scene.act("leave", "stop", &[("consumer", "lite")]);
    members(&mut scene, "left", 0);
    at_broker(&mut scene, "left", ["4", "2"]);
    // Another one goes on from what was committed.
    scene.act("next", "lite", &[("topic", "orders"), ("group", "billing")]);
    pull(&mut scene, "the next one's", "next", &[("do", "poll"), ("count", "2")]);
    scene
}

fn lite_pull_by_assignment(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    orders(&mut scene);
    let options = [("topic", "orders"), ("group", "billing"), ("assign", "true")];
    scene.act("lite", "lite", &options);
    pull(&mut scene, "its queues", "lite", &[("do", "queues"), ("count", "2")]);
    members(&mut scene, "started", 1);
    pull(&mut scene, "all is polled", "lite", &[("do", "poll"), ("count", "7")]);
    pull(&mut scene, "goes back", "lite", &[("do", "seek"), ("offset", "1")]);
    pull(&mut scene, "from there", "lite", &[("do", "poll"), ("count", "2")]);
    pull(&mut scene, "commit", "lite", &[("do", "commit")]);
    at_broker(&mut scene, "what was polled", ["3", "2"]);
    // Whoever is assigned a queue by hand does not share it: the other has all that is left, too.
    scene.act("other", "lite", &options);
    pull(&mut scene, "the other one's", "other", &[("do", "poll"), ("count", "2")]);
    pull(&mut scene, "the first one's", "lite", &[("do", "poll"), ("count", "2")]);
    members(&mut scene, "both", 2);
    scene.act("the first leaves", "stop", &[("consumer", "lite")]);
    members(&mut scene, "the first has left", 1);
    // Members say once more what they have committed as they leave, and after their first ten seconds.
    at_broker(&mut scene, "the first has left", ["3", "2"]);
    pull(&mut scene, "the other goes on", "other", &[("do", "seek"), ("offset", "4")]);
    pull(&mut scene, "the other one's last", "other", &[("do", "poll"), ("count", "1")]);
    pull(&mut scene, "the other commits", "other", &[("do", "commit")]);
    at_broker(&mut scene, "the other", ["5", "2"]);
    scene
}

fn plain_pull(setup: Setup) -> Scene {
    let mut scene = setup.start(&[]);
    orders(&mut scene);
    scene.act("plain", "plain", &[("topic", "orders"), ("group", "billing")]);
    pull(&mut scene, "queues", "plain", &[("do", "queues")]);
    let part = [("do", "pull"), ("offset", "1"), ("max", "2")];
    pull(&mut scene, "a part", "plain", &part);
    members(&mut scene, "pulling", 1);
    pull(&mut scene, "the whole other queue", "plain", &[("do", "pull"), ("queue", "1")]);
    pull(&mut scene, "at the end", "plain", &[("do", "pull"), ("offset", "5")]);
    pull(&mut scene, "beyond the end", "plain", &[("do", "pull"), ("offset", "77")]);
    pull(&mut scene, "below zero", "plain", &[("do", "pull"), ("offset", "-1")]);
    pull(&mut scene, "a tag", "plain", &[("do", "pull"), ("queue", "1"), ("sub", "paid")]);
    pull(&mut scene, "no such tag", "plain", &[("do", "pull"), ("sub", "lost")]);
    pull(&mut scene, "a queue that is not there", "plain", &[("do", "pull"), ("queue", "9")]);
    pull(&mut scene, "waited for, there", "plain", &[("do", "wait"), ("offset", "3")]);
    pull(&mut scene, "waited for, in vain", "plain", &[("do", "wait"), ("offset", "5")]);
    pull(&mut scene, "offsets", "plain", &[("do", "offsets")]);
    pull(&mut scene, "nothing is committed", "plain", &[("do", "committed"), ("store", "true")]);
    pull(&mut scene, "commit", "plain", &[("do", "commit"), ("offset", "4")]);
    at_broker(&mut scene, "committed", ["4", "0"]);
    pull(&mut scene, "in memory", "plain", &[("do", "committed"), ("store", "false")]);
    pull(&mut scene, "at the broker", "plain", &[("do", "committed"), ("store", "true")]);
    pull(&mut scene, "one to hand back", "plain", &part);
    pull(&mut scene, "handed back", "plain", &[("do", "back"), ("level", "1")]);
    scene.stored("in the retry topic", "%RETRY%billing", 1);
    scene.act("leave", "stop", &[("consumer", "plain")]);
    members(&mut scene, "left", 0);
    at_broker(&mut scene, "left", ["4", "0"]);
    // One that takes part in sharing the queues.
    scene.act("sharing", "plain", &[("topic", "orders"), ("group", "billing"), ("register", "true")]);
    pull(&mut scene, "its share", "sharing", &[("do", "mine"), ("count", "2")]);
    members(&mut scene, "sharing", 1);
    scene
}
