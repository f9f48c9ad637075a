use super::*;
use crate::topic::TopicSettings;
use proptest::prelude::*;
use ringmq_protocol::code::version;
use ringmq_protocol::header::CreateTopic;

const FIRST: NameServer = NameServer(0);
const SECOND: NameServer = NameServer(1);

fn topics() -> TopicTable {
    TopicTable::open(TopicSettings::new("c", "b", 1), None, 0)
}

fn identity(compressed: bool) -> Identity {
    Identity {
        cluster_name: "c".to_owned(),
        broker_name: "b".to_owned(),
        broker_id: 0,
        broker_addr: "10.0.0.1:10911".to_owned(),
        ha_server_addr: "10.0.0.1:10912".to_owned(),
        heartbeat_timeout_ms: None,
        compressed,
    }
}

#[test]
fn a_registration_carries_all_topics_plain_or_compressed() {
    let topics = topics();
    for compressed in [false, true] {
        let (header, body) = identity(compressed).register(&topics).unwrap();
        assert_eq!((header.broker_addr.as_str(), header.compressed), ("10.0.0.1:10911", compressed));
        assert_ne!(header.body_crc32, 0);
        let read = RegisterBrokerBody::decode(&body, compressed, header.body_crc32, version::CURRENT).unwrap();
        assert_eq!(read.topic_config_serialize_wrapper, topics.registered());
    }
    let header = identity(false).unregister();
    assert_eq!((header.broker_name.as_str(), header.broker_id), ("b", 0));
}

#[test]
fn the_order_topics_of_a_reply_become_ordered() {
    let mut topics = topics();
    let asked = CreateTopic {
        topic: "T".to_owned(),
        read_queue_nums: 1,
        write_queue_nums: 1,
        perm: 6,
        topic_filter_type: "SINGLE_TAG".to_owned(),
        ..CreateTopic::default()
    };
    topics.create_or_update(&asked, 0).unwrap();
    assert_eq!(apply_reply(b"", &mut topics, 5), Ok(vec![]));
    assert_eq!(apply_reply(b"{\"table\":{}}", &mut topics, 5), Ok(vec![]));
    let body = br#"{"table":{"T":"b:4;other:4","unknown":"b:1"}}"#;
    assert_eq!(apply_reply(body, &mut topics, 5).unwrap().len(), 1);
    assert!(topics.is_ordered("T"));
    assert_eq!(apply_reply(body, &mut topics, 5), Ok(vec![]));
    assert!(matches!(apply_reply(b"{", &mut topics, 5), Err(ReplyError::Json(_))));
    let long = vec![b' '; REGISTER_REPLY_MAX + 1];
    assert_eq!(apply_reply(&long, &mut topics, 5), Err(ReplyError::TooLong(long.len())));
}

#[test]
fn every_name_server_is_told_at_once_and_then_each_period() {
    let mut schedule = Schedule::new(2, 30_000, 0);
    assert_eq!(schedule.next(0), Action::Register(vec![FIRST, SECOND]));
    assert_eq!(schedule.next(1), Action::Wait(LOST_MS));
    schedule.done(FIRST, true, 10);
    schedule.done(SECOND, true, 20);
    assert_eq!(schedule.next(20), Action::Wait(30_010));
    assert_eq!(schedule.next(30_010), Action::Register(vec![FIRST]));
    assert_eq!(Schedule::new(0, 30_000, 0).next(0), Action::Idle);
}

#[test]
fn the_period_keeps_to_its_bounds() {
    for (asked, used) in [(0, 10_000), (30_000, 30_000), (1_000_000, 60_000)] {
        let mut schedule = Schedule::new(1, asked, 0);
        schedule.next(0);
        schedule.done(FIRST, true, 0);
        assert_eq!(schedule.next(0), Action::Wait(used), "{asked}");
    }
}

#[test]
fn a_change_is_told_at_once_and_a_burst_together() {
    let mut schedule = Schedule::new(1, 30_000, 0);
    schedule.next(0);
    schedule.done(FIRST, true, 0);
    schedule.changed(1_000);
    assert_eq!(schedule.next(1_000), Action::Register(vec![FIRST]));
    schedule.done(FIRST, true, 1_010);
    schedule.changed(1_020);
    schedule.changed(1_030);
    assert_eq!(schedule.next(1_030), Action::Wait(1_050));
    assert_eq!(schedule.next(1_050), Action::Register(vec![FIRST]));
    schedule.done(FIRST, true, 1_060);
    assert_eq!(schedule.next(1_060), Action::Wait(31_060));
}

#[test]
fn a_change_during_a_registration_is_told_by_the_next() {
    let mut schedule = Schedule::new(1, 30_000, 0);
    schedule.next(0);
    schedule.changed(5);
    assert_eq!(schedule.next(6), Action::Wait(LOST_MS));
    schedule.done(FIRST, true, 10);
    assert_eq!(schedule.next(10), Action::Wait(50));
    assert_eq!(schedule.next(50), Action::Register(vec![FIRST]));
}

#[test]
fn a_failure_is_repeated_soon_and_then_less_often() {
    let mut schedule = Schedule::new(1, 30_000, 0);
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..8 {
        assert_eq!(schedule.next(now), Action::Register(vec![FIRST]));
        schedule.done(FIRST, false, now);
        let Action::Wait(until) = schedule.next(now) else { panic!("due at once after a failure") };
        waits.push(until - now);
        now = until;
    }
    assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    schedule.next(now);
    schedule.done(FIRST, true, now);
    schedule.reconnected(FIRST, now + 5);
    assert_eq!(schedule.next(now + 5), Action::Register(vec![FIRST]));
}

#[test]
fn an_outcome_that_never_comes_does_not_end_registration() {
    let mut schedule = Schedule::new(1, 30_000, 0);
    schedule.next(0);
    assert_eq!(schedule.next(LOST_MS), Action::Wait(LOST_MS + 1_000));
    assert_eq!(schedule.next(LOST_MS + 1_000), Action::Register(vec![FIRST]));
    schedule.done(NameServer(7), true, 0);
}

#[derive(Debug, Clone)]
enum Step {
    Sleep(i64),
    Changed,
    Done(usize, bool),
    Reconnected(usize),
}

proptest! {
    /// Whatever happens, no name server is asked twice at a time, and after the last change each one is asked once more.
    #[test]
    fn each_change_reaches_each_name_server(steps in prop::collection::vec(prop_oneof![
        (0..40_000i64).prop_map(Step::Sleep),
        Just(Step::Changed),
        (0..2usize, any::<bool>()).prop_map(|(server, ok)| Step::Done(server, ok)),
        (0..2usize).prop_map(Step::Reconnected),
    ], 0..40)) {
        let mut schedule = Schedule::new(2, 30_000, 0);
        let mut now = 0;
        let mut under_way = [None; 2];
        let mut behind = [true; 2];
        for step in steps {
            match step {
                Step::Sleep(ms) => now += ms,
                Step::Changed => { behind = [true; 2]; schedule.changed(now); }
                Step::Done(server, ok) => { schedule.done(NameServer(server), ok, now); under_way[server] = None; }
                Step::Reconnected(server) => schedule.reconnected(NameServer(server), now),
            }
            if let Action::Register(due) = schedule.next(now) {
                for NameServer(server) in due {
                    prop_assert!(under_way[server].is_none_or(|sent| now - sent >= LOST_MS));
                    under_way[server] = Some(now);
                    behind[server] = false;
                }
            }
        }
        for server in 0..2 {
            schedule.done(NameServer(server), true, now);
        }
        if let Action::Register(due) = schedule.next(now + PERIOD_MAX_MS) {
            due.iter().for_each(|server| behind[server.0] = false);
        }
        prop_assert_eq!(behind, [false; 2]);
    }
}
