//! The wall clock of a running broker is set forward and back.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::json;

use super::support::clock::Shifted;
use super::support::server::lenient;
use super::support::wire;
use super::victim::{At, GROUP, TOPIC, Victim, count, send, wall_ms};

const HOUR_MS: i64 = 3_600_000;
/// Of a level of 2 s and one of an hour.
const SOON: &str = "DELAY\u{1}1\u{2}";
const IN_AN_HOUR: &str = "DELAY\u{1}2\u{2}";

#[test]
fn a_clock_that_is_set_forward_or_back_makes_nobody_wait_longer() {
    let shifted = Shifted::default();
    let victim = Victim::start_shifted(At("nothing", 1), &[("messageDelayLevel", "2s 1h")], &shifted);
    let mut connection = victim.connect();
    let sent_ms = wall_ms();
    send(&mut connection, "level of an hour", IN_AN_HOUR).unwrap();
    send(&mut connection, "timer of an hour", &format!("TIMER_DELAY_MS\u{1}{HOUR_MS}\u{2}")).unwrap();
    // An order in time: this comes without the other two.
    send(&mut connection, "level of seconds", SOON).unwrap();
    let found = victim.wait_for(TOPIC, "level of seconds");
    assert_eq!(found.len(), 1, "an hour is not over");
    shifted.by(HOUR_MS + 1000);
    let both = victim.wait_for(TOPIC, "level of an hour");
    assert!(both.iter().skip(1).all(|record| record.stored >= sent_ms + HOUR_MS), "by the broker's clock");
    victim.wait_for(TOPIC, "timer of an hour");
    // Two hours back, with messages on their way and others that come then.
    send(&mut connection, "level before the step back", SOON).unwrap();
    send(&mut connection, "timer before the step back", "TIMER_DELAY_MS\u{1}2000\u{2}").unwrap();
    shifted.by(-HOUR_MS);
    send(&mut connection, "level behind the step back", SOON).unwrap();
    send(&mut connection, "timer behind the step back", "TIMER_DELAY_MS\u{1}2000\u{2}").unwrap();
    for name in ["level before", "timer before", "level behind", "timer behind"] {
        victim.wait_for(TOPIC, &format!("{name} the step back"));
    }
    let found = count(&victim.all(TOPIC));
    assert!(found.len() == 7 && found.values().all(|times| *times == 1), "{found:?}");
}

#[test]
fn a_clock_that_is_set_back_keeps_no_topic_from_the_name_server() {
    let shifted = Shifted::default();
    let victim = Victim::start_shifted(At("nothing", 1), &[], &shifted);
    shifted.by(-HOUR_MS);
    // Waits for its route. A name server would drop a silent broker after two minutes, and be told of everything then.
    victim.cluster.broker.create_topic("made_later", 1);
}

#[test]
fn a_clock_that_is_set_forward_takes_no_member_out_and_gives_no_lock_away() {
    let shifted = Shifted::default();
    let victim = Victim::start_shifted(At("nothing", 1), &[], &shifted);
    let mut member = victim.connect();
    let beat = json!({ "clientID": "owner@1", "producerDataSet": [], "consumerDataSet": [{
        "groupName": GROUP, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
        "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "unitMode": false, "subscriptionDataSet": [],
    }] });
    assert_eq!(member.call(wire::HEART_BEAT, &[], beat.to_string().as_bytes()).unwrap().header.code, 0);
    let mut lock = |client: &str| {
        let queue = json!({ "topic": TOPIC, "brokerName": victim.cluster.broker.name, "queueId": 0 });
        let body = json!({ "consumerGroup": GROUP, "clientId": client, "mqSet": [queue] });
        let reply = member.call(wire::LOCK_BATCH_MQ, &[], body.to_string().as_bytes()).unwrap();
        lenient(&reply.body)["lockOKMQSet"].as_array().unwrap().len()
    };
    assert_eq!(lock("owner@1"), 1);
    shifted.by(HOUR_MS);
    assert_eq!(lock("stranger@1"), 0, "its owner goes on consuming");
    // It is told nothing, not even that its connection ends, for longer than the broker lets pass between two looks at its members.
    member.stream().set_read_timeout(Some(Duration::from_secs(11))).unwrap();
    let told = member.next();
    assert!(told.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{told:?}");
    let asked = [("consumerGroup", GROUP.to_owned())];
    let reply = member.call(wire::GET_CONSUMER_LIST_BY_GROUP, &asked, &[]).unwrap();
    assert_eq!(lenient(&reply.body)["consumerIdList"], json!(["owner@1"]));
}

/// So many, each behind the one before it by a level, would take longer than anybody waits.
const MANY: usize = 24;

#[test]
fn a_clock_that_is_set_back_keeps_those_of_a_level_together() {
    let shifted = Shifted::default();
    let victim = Victim::start_shifted(At("nothing", 1), &[("messageDelayLevel", "5s")], &shifted);
    let mut connection = victim.connect();
    for at in 0..MANY {
        if at == MANY / 2 {
            shifted.by(-HOUR_MS);
        }
        send(&mut connection, &format!("message {at}"), SOON).unwrap();
    }
    let found = count(&victim.wait_for(TOPIC, &format!("message {}", MANY - 1)));
    assert!(found.len() == MANY && found.values().all(|times| *times == 1), "{found:?}");
}
