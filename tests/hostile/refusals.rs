//! Whole frames that ask for what must not be: refused with a code and a reason, on a connection that goes on.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::bystander::TOPIC;
use super::support::server::{Broker, Make, NameServer, Settings};
use super::support::skip;
use super::support::wire::{self, Connection, Frame, Outgoing};
use super::{MIB, alone, cluster, strict, under};

/// The connection is none the worse for the refusal.
fn goes_on(connection: &mut Connection) {
    let body = b"after a refusal";
    let ext = Outgoing { topic: TOPIC, queue: 0, properties: "", body }.ext();
    let reply = connection.call(wire::SEND_MESSAGE_V2, &ext, body).unwrap();
    assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
}

fn refused(reply: &Frame, codes: &[i32]) {
    let header = &reply.header;
    assert!(codes.contains(&header.code), "{} is not of {codes:?}: {:?}", header.code, header.remark);
    assert!(header.remark.as_ref().is_some_and(|remark| !remark.is_empty()), "no reason given");
}

fn send(connection: &mut Connection, topic: &str, properties: &str, body: &[u8]) -> Frame {
    let ext = Outgoing { topic, queue: 0, properties, body }.ext();
    connection.call(wire::SEND_MESSAGE_V2, &ext, body).unwrap()
}

#[test]
fn unknown_codes_are_named() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    let mut connection = cluster.broker.connect();
    for code in [0, 4_711, 32_767, 1_000_000, -1, i32::MIN] {
        let reply = connection.call(code, &[], b"what is this").unwrap();
        refused(&reply, &[3]);
        let remark = reply.header.remark.unwrap();
        assert!(remark.contains(&code.to_string()), "{remark} does not name {code}");
    }
    goes_on(&mut connection);
}

#[test]
fn impossible_topics_are_refused() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    under(&cluster, 64 * MIB, |cluster| {
        let mut connection = cluster.broker.connect();
        // 5.x says INVALID_PARAMETER, 4.9 SYSTEM_ERROR; a topic that is only too long is MESSAGE_ILLEGAL.
        let codes = [1, 13, 29];
        for topic in ["", " ", "with space", "a/../../etc/passwd", "é", "tab\there", "nul\0"] {
            refused(&send(&mut connection, topic, "", b"body"), &codes);
        }
        for length in [128, 256, 32_768, 70_000, 1_000_000] {
            refused(&send(&mut connection, &"t".repeat(length), "", b"body"), &codes);
        }
        goes_on(&mut connection);
    });
}

#[test]
fn impossible_queues_are_refused() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    let mut connection = cluster.broker.connect();
    for queue in [1, 100, i32::MAX] {
        let body = b"to no queue";
        let ext = Outgoing { topic: TOPIC, queue, properties: "", body }.ext();
        refused(&connection.call(wire::SEND_MESSAGE_V2, &ext, body).unwrap(), &[1, 29]);
        let ext = wire::pull(TOPIC, queue, 0, 32, 0);
        refused(&connection.call(wire::PULL_MESSAGE, &ext, &[]).unwrap(), &[1, 29]);
    }
    goes_on(&mut connection);
}

#[test]
fn missing_and_wrong_fields_are_refused() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    let mut connection = cluster.broker.connect();
    let whole = Outgoing { topic: TOPIC, queue: 0, properties: "", body: b"b" }.ext();
    for missing in ["b", "e", "f", "g"] {
        let ext: Vec<_> = whole.iter().filter(|(key, _)| *key != missing).cloned().collect();
        let reply = connection.call(wire::SEND_MESSAGE_V2, &ext, b"body").unwrap();
        println!("without {missing}: {} {:?}", reply.header.code, reply.header.remark);
        if strict() || missing == "b" {
            refused(&reply, &[1, 13, 29]);
        }
    }
    for value in ["", "x", "99999999999999999999", "1.5", "-"] {
        let mut ext = whole.clone();
        ext.iter_mut().find(|(key, _)| *key == "e").unwrap().1 = value.to_owned();
        let reply = connection.call(wire::SEND_MESSAGE_V2, &ext, b"body").unwrap();
        refused(&reply, &[1, 13, 29]);
    }
    goes_on(&mut connection);
}

#[test]
fn bodies_and_properties_have_their_limits() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    under(&cluster, 128 * MIB, |cluster| {
        let mut connection = cluster.broker.connect();
        let limit = 4 << 20;
        assert_eq!(send(&mut connection, TOPIC, "", &vec![b'x'; limit]).header.code, 0);
        for _ in 0..20 {
            refused(&send(&mut connection, TOPIC, "", &vec![b'x'; limit + 1]), &[13]);
        }
        refused(&send(&mut connection, TOPIC, "", &vec![b'x'; 12 << 20]), &[13]);
        // An absent body is no message.
        let absent = send(&mut connection, TOPIC, "", b"");
        refused(&absent, if strict() { &[13] } else { &[1, 13] });
        let property = |size: usize| format!("key\u{1}{}", "v".repeat(size - 4));
        assert_eq!(send(&mut connection, TOPIC, &property(30_000), b"body").header.code, 0);
        for size in [32_768, 65_536, 70_000, 1_000_000] {
            refused(&send(&mut connection, TOPIC, &property(size), b"body"), &[13]);
        }
        goes_on(&mut connection);
    });
}

#[test]
fn a_batch_that_lies_is_refused() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    under(&cluster, 64 * MIB, |cluster| {
        for body in [
            vec![0xff; 100],
            1_000_000_u32.to_be_bytes().repeat(4),
            0_u32.to_be_bytes().repeat(8),
            [&40_u32.to_be_bytes()[..], &[0; 12], &u32::MAX.to_be_bytes(), &[0; 20]].concat(),
        ] {
            let mut connection = cluster.broker.connect();
            let mut ext = Outgoing { topic: TOPIC, queue: 0, properties: "", body: &body }.ext();
            ext.iter_mut().find(|(key, _)| *key == "m").unwrap().1 = "true".to_owned();
            let reply = connection.call(320, &ext, &body);
            // Apache's broker loses its way in some of these; ours must not.
            if strict() {
                refused(&reply.unwrap(), &[1, 13, 29]);
                goes_on(&mut connection);
            }
        }
    });
}

const SEND_REPLY_MESSAGE: i32 = 324;
const SEND_REPLY_MESSAGE_V2: i32 = 325;
const TIMERS: &str = "rmq_sys_wheel_timer";
const SEND_BATCH_MESSAGE: i32 = 320;

#[test]
fn a_reply_goes_only_where_a_send_could_go() {
    if !strict() {
        return skip("Apache's brokers store a reply that is too large, and what is sent to the topic of timers");
    }
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    let mut connection = cluster.broker.connect();
    let mut closed = wire::topic("closed_topic", 1);
    closed.iter_mut().find(|(key, _)| *key == "perm").unwrap().1 = "4".to_owned();
    assert_eq!(connection.call(wire::UPDATE_AND_CREATE_TOPIC, &closed, &[]).unwrap().header.code, 0);
    let mut reply = |topic: &str, queue: i32, body: &[u8]| {
        let ext = Outgoing { topic, queue, properties: "", body }.ext();
        connection.call(SEND_REPLY_MESSAGE_V2, &ext, body).unwrap()
    };
    // Nobody waits for it: it is kept where the answer says, and refused all the same.
    assert_eq!(reply(TOPIC, 0, b"kept").header.field("queueOffset"), "0");
    assert_eq!(reply(TOPIC, -1, b"kept").header.field("queueId"), "0");
    for queue in [1, 5_000_000, i32::MAX] {
        let reply = reply(TOPIC, queue, b"to no queue");
        refused(&reply, &[29]);
        assert!(!reply.header.ext.contains_key("queueOffset"), "{queue}");
    }
    for topic in ["closed_topic", TIMERS] {
        refused(&reply(topic, 0, b"forbidden"), &[16]);
    }
    assert!(!reply(TOPIC, 0, &vec![b'x'; (4 << 20) + 1]).header.ext.contains_key("queueOffset"), "it is too large");
    // The names of the first version lead there as well.
    let forged = [
        ("producerGroup", "forger".to_owned()),
        ("topic", TIMERS.to_owned()),
        ("defaultTopic", "TBW102".to_owned()),
        ("defaultTopicQueueNums", "1".to_owned()),
        ("queueId", "0".to_owned()),
        ("sysFlag", "0".to_owned()),
        ("bornTimestamp", "0".to_owned()),
        ("flag", "0".to_owned()),
        (
            "properties",
            "TIMER_OUT_MS\u{1}1\u{2}REAL_TOPIC\u{1}RMQ_SYS_TRANS_OP_HALF_TOPIC\u{2}REAL_QID\u{1}0".to_owned(),
        ),
    ];
    refused(&connection.call(SEND_REPLY_MESSAGE, &forged, b"0,").unwrap(), &[16]);
    refused(&send(&mut connection, TIMERS, &forged[8].1, b"0,"), &[16]);
    for (topic, queue, stored) in [(TOPIC, 0, 2), (TOPIC, 5_000_000, 0), ("closed_topic", 0, 0), (TIMERS, 0, 0)] {
        let ext = [("topic", topic.to_owned()), ("queueId", queue.to_string())];
        let end = connection.call(wire::GET_MAX_OFFSET, &ext, &[]).unwrap().header.number("offset");
        assert_eq!(end, stored, "{topic} {queue}");
    }
    goes_on(&mut connection);
}

/// An address of this machine that others reach it by; nothing is sent.
fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

const UPDATE_BROKER_CONFIG: i32 = 25;
const GET_BROKER_CONFIG: i32 = 26;
/// All that change the broker.
const CHANGES: [i32; 12] = [17, 200, 207, 215, 222, 314, 309, 323, 306, 316, 329, UPDATE_BROKER_CONFIG];

#[test]
fn changes_from_another_host_are_refused() {
    if Make::under_test() != Make::Ours {
        return skip("Apache's broker takes changes from anywhere");
    }
    let Some(ip) = other_address() else {
        return skip("the machine has no address beside the loopback one");
    };
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let namesrv = NameServer::start(Make::Ours, folder.path());
    let broker = Broker::start(Make::Ours, folder.path(), "broker-a", &namesrv.address, Settings::default());
    let port = broker.address.parse::<SocketAddr>().unwrap().port();
    let mut far = Connection::open(SocketAddr::new(ip, port)).unwrap();
    assert_eq!(far.stream().local_addr().unwrap().ip(), ip, "the broker sees another address than its own loopback");
    let mut near = broker.connect();
    let shown = |connection: &mut Connection| connection.call(GET_BROKER_CONFIG, &[], &[]).unwrap();
    let (file, before) = (fs::read_to_string(broker.configuration()).unwrap(), shown(&mut near));
    let change = b"fileReservedTime=7\n";
    for code in CHANGES {
        let reply = far.call(code, &[], change).unwrap();
        refused(&reply, &[16]);
        let remark = format!("request {code} changes the broker and is accepted from the loopback address only");
        assert_eq!(reply.header.remark.as_deref(), Some(&*remark));
    }
    assert_eq!(fs::read_to_string(broker.configuration()).unwrap(), file, "a refused change is in the file");
    let after = shown(&mut far);
    assert_eq!((after.header.code, after.body), (0, before.body), "whoever may look sees what was before");
    assert_eq!(
        near.call(UPDATE_BROKER_CONFIG, &[], change).unwrap().header.code,
        0,
        "the same from the loopback address"
    );
    assert!(fs::read_to_string(broker.configuration()).unwrap().contains("fileReservedTime=7"));
}

#[test]
fn a_batch_is_never_a_dead_letter() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    let mut connection = cluster.broker.connect();
    let retry = "%RETRY%batching";
    cluster.broker.create_topic(retry, 1);
    // As often as no group tries: a message alone would be a dead letter.
    for tries in ["0", "99"] {
        let mut ext = Outgoing { topic: retry, queue: 0, properties: "", body: b"" }.ext();
        ext.retain(|(key, _)| !["j", "m"].contains(key));
        ext.extend([("j", tries.to_owned()), ("m", "true".to_owned())]);
        refused(&connection.call(SEND_BATCH_MESSAGE, &ext, b"two, or what").unwrap(), &[13]);
    }
    goes_on(&mut connection);
}
