//! Members of a group that come, go and change, as a connection in the group sees it: the notices that the broker sends
//! it, the list that shares are made from, and the locks of those who are gone.

use serde_json::{Value, json};

use super::groups::{CONSUMER_CONNECTIONS, CONSUMER_LIST, LOCK, lock, queues};
use super::scene::{Scene, Setup};
use super::support::wire::{self, Connection, Frame};
use super::{scenarios, scenarios_of_5};

scenarios! {
    notices_of_members
    notices_of_subscriptions
    notices_that_a_group_does_not_want
    notices_that_a_broker_does_not_send
    notices_and_broadcasting
    locks_of_members_that_leave
}

scenarios_of_5! {
    heartbeats_with_fingerprints
}

/// A subscription to a topic: the expression, and how new it is.
type Subscribed<'a> = (&'a str, &'a str, i64);

const ORDERS: Subscribed<'static> = ("orders", "*", 1);
const OTHER: Subscribed<'static> = ("other", "*", 1);

/// The heartbeat of the client `client`, a member of one group, with some members that are not as usual.
fn beat(client: &str, group: &str, subscribed: &[Subscribed<'_>], model: &str, more: &Value) -> Vec<u8> {
    let subscriptions: Vec<Value> = subscribed
        .iter()
        .map(|(topic, expression, version)| {
            json!({
                "classFilterMode": false, "codeSet": [], "expressionType": "TAG", "subString": expression,
                "subVersion": version, "tagsSet": [], "topic": topic,
            })
        })
        .collect();
    let consumer = json!({
        "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "consumeType": "CONSUME_PASSIVELY", "groupName": group,
        "messageModel": model, "subscriptionDataSet": subscriptions, "unitMode": false,
    });
    let mut body = json!({ "clientID": client, "consumerDataSet": [consumer], "producerDataSet": [] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string().into_bytes()
}

/// A connection, and what the broker has asked of it meanwhile.
struct Member {
    connection: Connection,
    told: Vec<Value>,
}

impl Member {
    fn of(scene: &Scene) -> Member {
        Member { connection: scene.connect(), told: Vec::new() }
    }

    /// A request and its reply.
    fn call(&mut self, code: i32, ext: &[(&'static str, String)], body: &[u8]) -> Frame {
        let opaque = self.connection.ask(code, ext, body).unwrap();
        loop {
            let frame = self.connection.next().unwrap();
            if frame.header.is_reply() && frame.header.opaque == opaque {
                return frame;
            }
            let header = &frame.header;
            self.told.push(json!({
                "code": header.code, "oneway": header.is_oneway(), "ext": header.ext, "body": frame.body.len(),
            }));
        }
    }

    fn beat(&mut self, body: &[u8]) -> Frame {
        let reply = self.call(wire::HEART_BEAT, &[], body);
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
        reply
    }

    fn join(&mut self, client: &str, group: &str, subscribed: &[Subscribed<'_>]) {
        self.beat(&beat(client, group, subscribed, "CLUSTERING", &json!({})));
    }

    fn leave(&mut self, client: &str, group: &str) -> i32 {
        let ext = [("clientID", client.to_owned()), ("consumerGroup", group.to_owned())];
        self.call(wire::UNREGISTER_CLIENT, &ext, &[]).header.code
    }

    /// What it was told since it was asked for the last time. Whoever caused it has had an answer, so it is on its way
    /// before this connection's own next answer.
    fn told(&mut self) -> Vec<Value> {
        self.call(wire::GET_MAX_OFFSET, &[("topic", "orders".to_owned()), ("queueId", "0".to_owned())], &[]);
        std::mem::take(&mut self.told)
    }
}

/// The client ids that the broker names, sorted: Apache's have the order of a hash table. None for a refusal.
fn list(scene: &mut Scene, group: &str) -> Option<Vec<String>> {
    let frame = scene.ask(CONSUMER_LIST, &[("consumerGroup", group)], &[]);
    let body: Value = (frame.header.code == 0).then(|| serde_json::from_slice(&frame.body).unwrap())?;
    let mut ids: Vec<String> = serde_json::from_value(body["consumerIdList"].clone()).unwrap();
    ids.sort();
    Some(ids)
}

/// Observes what each of `members` was told, and whom the broker names then.
fn observe(scene: &mut Scene, what: &str, group: &str, members: &mut [(&str, &mut Member)]) {
    let told: serde_json::Map<_, _> =
        members.iter_mut().map(|(name, member)| ((*name).to_owned(), member.told().into())).collect();
    let list = list(scene, group);
    scene.observe(what, &json!({ "told": told, "list": list }));
}

/// Ends a connection, and waits until the broker has carried out all that follows from it.
fn die(scene: &mut Scene, member: Member, group: &str, left: usize) {
    drop(member);
    let gone = |scene: &mut Scene, group: &str, left: usize| {
        scene.until("the member is gone", |scene| {
            let members = list(scene, group).map_or(0, |ids| ids.len());
            (members == left).then_some(())
        });
    };
    gone(scene, group, left);
    // It is taken out of the list before the others are told. Ends are carried out one after the other.
    let mut next = Member::of(scene);
    next.join("next", "behind", &[ORDERS]);
    drop(next);
    gone(scene, "behind", 0);
}

fn started(setup: Setup, properties: &[(&'static str, &str)]) -> Scene {
    let scene = setup.start(properties);
    scene.cluster.broker.create_topic("orders", 2);
    scene
}

fn notices_of_members(setup: Setup) -> Scene {
    let mut scene = started(setup, &[]);
    let (mut one, mut two) = (Member::of(&scene), Member::of(&scene));
    one.join("one", "billing", &[ORDERS]);
    observe(&mut scene, "one joins", "billing", &mut [("one", &mut one)]);
    one.join("one", "billing", &[ORDERS]);
    observe(&mut scene, "one says so again", "billing", &mut [("one", &mut one)]);
    two.join("two", "billing", &[ORDERS]);
    observe(&mut scene, "two joins", "billing", &mut [("one", &mut one), ("two", &mut two)]);
    let mut producer = Member::of(&scene);
    let body = json!({ "clientID": "p", "consumerDataSet": [], "producerDataSet": [{ "groupName": "billing" }] });
    producer.beat(body.to_string().as_bytes());
    observe(&mut scene, "a producer", "billing", &mut [("one", &mut one), ("producer", &mut producer)]);
    two.leave("two", "billing");
    observe(&mut scene, "two leaves", "billing", &mut [("one", &mut one), ("two", &mut two)]);
    two.leave("two", "billing");
    observe(&mut scene, "two leaves again", "billing", &mut [("one", &mut one), ("two", &mut two)]);
    two.leave("one", "billing");
    observe(&mut scene, "two leaves as one", "billing", &mut [("one", &mut one), ("two", &mut two)]);
    // A client that was cut off has a second connection before the broker sees the end of the first.
    two.join("one", "billing", &[ORDERS]);
    observe(&mut scene, "one's second connection", "billing", &mut [("one", &mut one), ("two", &mut two)]);
    two.join("two", "billing", &[ORDERS]);
    observe(&mut scene, "which says that it is two", "billing", &mut [("one", &mut one), ("two", &mut two)]);
    die(&mut scene, two, "billing", 1);
    observe(&mut scene, "two's connection ends", "billing", &mut [("one", &mut one)]);
    one.leave("one", "billing");
    observe(&mut scene, "one leaves", "billing", &mut [("one", &mut one)]);
    one.join("one", "billing", &[ORDERS]);
    observe(&mut scene, "one comes again", "billing", &mut [("one", &mut one)]);
    die(&mut scene, one, "billing", 0);
    scene.answer("the last connection ends", CONSUMER_LIST, &[("consumerGroup", "billing")], &[]);
    scene.answer("and is nobody's", CONSUMER_CONNECTIONS, &[("consumerGroup", "billing")], &[]);
    scene
}

fn notices_of_subscriptions(setup: Setup) -> Scene {
    let mut scene = started(setup, &[]);
    let (mut one, mut two) = (Member::of(&scene), Member::of(&scene));
    one.join("one", "billing", &[ORDERS]);
    two.join("two", "billing", &[ORDERS]);
    observe(&mut scene, "both join", "billing", &mut [("one", &mut one), ("two", &mut two)]);
    let cases: [(&str, &str, &[Subscribed<'_>]); 7] = [
        ("another expression", "two", &[("orders", "paid", 2)]),
        ("an older one", "two", &[("orders", "open", 1)]),
        ("another topic", "two", &[("orders", "paid", 2), OTHER]),
        ("one does not know it", "one", &[("orders", "paid", 2)]),
        ("one is newer", "one", &[("orders", "lost", 3)]),
        ("nothing", "two", &[]),
        ("something again", "two", &[ORDERS]),
    ];
    for (what, who, subscribed) in cases {
        let member = if who == "one" { &mut one } else { &mut two };
        member.join(who, "billing", subscribed);
        observe(&mut scene, what, "billing", &mut [("one", &mut one), ("two", &mut two)]);
        scene.answer(&format!("{what}: connections"), CONSUMER_CONNECTIONS, &[("consumerGroup", "billing")], &[]);
    }
    // One client in two groups: each hears of its own.
    let body: Value = serde_json::from_slice(&beat("one", "billing", &[ORDERS], "CLUSTERING", &json!({}))).unwrap();
    let mut second = body["consumerDataSet"][0].clone();
    second["groupName"] = "shipping".into();
    let mut both = body.clone();
    both["consumerDataSet"].as_array_mut().unwrap().push(second);
    one.beat(both.to_string().as_bytes());
    observe(&mut scene, "one is in two groups", "shipping", &mut [("one", &mut one), ("two", &mut two)]);
    scene
}

/// Comes, goes and ends of connections in the group `billing`, with this message model, while one stays.
fn come_and_go(scene: &mut Scene, model: &str) {
    let (mut one, mut two) = (Member::of(scene), Member::of(scene));
    let joins = |member: &mut Member, client: &str, subscribed: &[Subscribed<'_>]| {
        member.beat(&beat(client, "billing", subscribed, model, &json!({})));
    };
    joins(&mut one, "one", &[ORDERS]);
    observe(scene, "one joins", "billing", &mut [("one", &mut one)]);
    joins(&mut two, "two", &[ORDERS]);
    observe(scene, "two joins", "billing", &mut [("one", &mut one), ("two", &mut two)]);
    joins(&mut two, "two", &[ORDERS, OTHER]);
    observe(scene, "two wants another topic", "billing", &mut [("one", &mut one), ("two", &mut two)]);
    two.leave("two", "billing");
    observe(scene, "two leaves", "billing", &mut [("one", &mut one), ("two", &mut two)]);
    joins(&mut two, "two", &[ORDERS, OTHER]);
    observe(scene, "two comes again", "billing", &mut [("one", &mut one), ("two", &mut two)]);
    die(scene, two, "billing", 1);
    observe(scene, "two's connection ends", "billing", &mut [("one", &mut one)]);
}

fn notices_that_a_group_does_not_want(setup: Setup) -> Scene {
    let mut scene = started(setup, &[]);
    scene.configure_group("billing", &json!({ "notifyConsumerIdsChangedEnable": false }));
    come_and_go(&mut scene, "CLUSTERING");
    scene
}

fn notices_that_a_broker_does_not_send(setup: Setup) -> Scene {
    let mut scene = started(setup, &[("notifyConsumerIdsChangedEnable", "false")]);
    come_and_go(&mut scene, "CLUSTERING");
    scene
}

fn notices_and_broadcasting(setup: Setup) -> Scene {
    let mut scene = started(setup, &[]);
    come_and_go(&mut scene, "BROADCASTING");
    scene
}

fn locks_of_members_that_leave(setup: Setup) -> Scene {
    let mut scene = started(setup, &[]);
    let mut one = Member::of(&scene);
    one.join("one", "billing", &[ORDERS]);
    lock(&mut scene, "one locks", LOCK, &queues("one", "billing", &[0, 1]));
    die(&mut scene, one, "billing", 0);
    // A lock outlives its owner's connection, and is the same client's when it comes again.
    lock(&mut scene, "another wants what a lost connection has", LOCK, &queues("other", "billing", &[0, 1]));
    let mut again = Member::of(&scene);
    again.join("one", "billing", &[ORDERS]);
    lock(&mut scene, "one comes again", LOCK, &queues("one", "billing", &[0, 1]));
    again.leave("one", "billing");
    lock(&mut scene, "another wants what one has left", LOCK, &queues("other", "billing", &[0, 1]));

    // The Java client gives its locks back when it ends well.
    scene.group("orderly", "orders");
    let options = [("topic", "orders"), ("group", "orderly"), ("orderly", "true"), ("assigned", "2")];
    scene.act("consumer", "consume", &options);
    lock(&mut scene, "another wants what a client has", LOCK, &queues("other", "orderly", &[0, 1]));
    scene.act("leave", "stop", &[("consumer", "consumer")]);
    scene.answer("the client has left", CONSUMER_LIST, &[("consumerGroup", "orderly")], &[]);
    lock(&mut scene, "another wants what the client had", LOCK, &queues("other", "orderly", &[0, 1]));
    scene
}

/// Heartbeats that name what they would say by a number, so that it need not be said each time.
fn heartbeats_with_fingerprints(setup: Setup) -> Scene {
    let mut scene = started(setup, &[]);
    let (mut one, mut two) = (Member::of(&scene), Member::of(&scene));
    let with = |print: i32, without: bool| json!({ "heartbeatFingerprint": print, "withoutSub": without });
    let cases: [(&str, &str, &[Subscribed<'_>], i32, bool); 9] = [
        ("the first of all", "one", &[ORDERS], 17, false),
        ("by its number", "one", &[], 17, true),
        ("another member's, the same", "two", &[ORDERS], 17, false),
        ("by that number", "two", &[], 17, true),
        ("another number", "two", &[ORDERS, OTHER], 18, false),
        ("by the other number", "two", &[], 18, true),
        ("one by the old number", "one", &[], 17, true),
        ("one without a number", "one", &[ORDERS], 0, false),
        ("two by the other number", "two", &[], 18, true),
    ];
    for (what, who, subscribed, print, without) in cases {
        let member = if who == "one" { &mut one } else { &mut two };
        let reply = member.beat(&beat(who, "billing", subscribed, "CLUSTERING", &with(print, without)));
        scene.observe_frame(&format!("{what}: reply"), &reply);
        observe(&mut scene, what, "billing", &mut [("one", &mut one), ("two", &mut two)]);
        let ask = [("consumerGroup", "billing")];
        scene.answer(&format!("{what}: connections"), CONSUMER_CONNECTIONS, &ask, &[]);
    }
    one.leave("one", "billing");
    two.leave("two", "billing");
    for (what, subscribed, print, without) in
        [("by a number that nobody knows any more", &[][..], 18, true), ("in full", &[ORDERS][..], 18, false)]
    {
        let reply = one.beat(&beat("one", "billing", subscribed, "CLUSTERING", &with(print, without)));
        scene.observe_frame(&format!("{what}: reply"), &reply);
        observe(&mut scene, what, "billing", &mut [("one", &mut one)]);
        let ask = [("consumerGroup", "billing")];
        scene.answer(&format!("{what}: connections"), CONSUMER_CONNECTIONS, &ask, &[]);
    }
    scene
}
