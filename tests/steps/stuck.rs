//! Ends of transactions that wait for a busy disk: while another one is done and the progress is saved, and behind another end of
//! the same half.

use super::halves::{COMMIT, HALF, MESSAGES, ROLL_BACK, UNASKED, end, end_of, place};
use super::support::disk::Stuck;
use super::support::eventually;
use super::support::server::{Flush, Settings};
use super::support::wire::{self, Connection, Outgoing};
use super::victim::{At, PATIENCE, TOPIC, Victim, count, names, send};

const HALVES: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const KEEPER: &str = "CID_RMQ_SYS_TRANS";
/// In the same log.
const FILLING: &str = "filling_topic";
/// Messages of a MiB: three times what the broker has memory for.
const FILLED: usize = 48;

/// Where a half is: its queue offset and its position.
type Place = (i64, i64);

#[test]
fn an_end_that_waits_for_the_disk_survives_a_kill_after_the_progress_of_another_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::not_yet(folder.path());
    let properties =
        [("bufferMemory", "16777216"), ("brokerFastFailureEnable", "false"), ("flushConsumerOffsetInterval", "100")];
    let properties = properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let settings = Settings { flush: Flush::Sync, shards: 1, properties, env: vec![stuck.env()] };
    let mut victim = Victim::in_folder(folder, At("nothing", 1), settings);
    victim.cluster.broker.create_topic(FILLING, 1);
    let mut connection = victim.connect();
    let half = |name: &String| place(&send(&mut connection, name, &format!("{UNASKED}{HALF}")).unwrap());
    let halves: Vec<_> = names("half", MESSAGES).iter().map(half).collect();

    let open = || {
        let [open] = wire::runtime_numbers(&mut victim.connect(), ["ringmqHalvesOpen"]);
        usize::try_from(open).unwrap()
    };
    stuck.hold();
    let mut producer = victim.connect();
    let mut end_later = |place| producer.ask(wire::END_TRANSACTION, &end_of(place, COMMIT, false), &[]).unwrap();
    end_later(halves[0]);
    eventually("the first is being ended", PATIENCE, || (open() == MESSAGES - 1).then_some(()));
    let mut filling = victim.connect();
    let body = vec![b'.'; 1 << 20];
    let ext = Outgoing { topic: FILLING, queue: 0, properties: "", body: &body }.ext();
    for _ in 0..FILLED {
        filling.ask(wire::SEND_MESSAGE_V2, &ext, &body).unwrap();
    }
    eventually("the memory is full", PATIENCE, || {
        let [waiting] = wire::runtime_numbers(&mut victim.connect(), ["sendThreadPoolQueueSize"]);
        (waiting > 0).then_some(())
    });
    // The others were never ended, so a start has to read from the second one on.
    for place in &halves[1..] {
        end_later(*place);
    }
    eventually("the others wait for room", PATIENCE, || (open() == 0).then_some(()));
    // The first is on the disk, the others not yet: what holds the log does not hold the tables.
    stuck.release();
    assert_eq!(producer.next().unwrap().header.code, 0);
    stuck.hold();
    eventually("the progress is saved", PATIENCE, || (!victim.saved_offsets(HALVES, KEEPER).is_empty()).then_some(()));
    victim.cluster.broker.kill();
    stuck.release();
    victim.restart();
    let mut connection = victim.connect();
    for place in halves {
        end(&mut connection, place, COMMIT).unwrap();
    }
    let came = count(&victim.all(TOPIC));
    let expected = (0..MESSAGES).map(|at| (format!("half-{at}"), 1)).collect();
    assert_eq!(came, expected);
}

/// A broker with one log, and a half on it; the disk is not stuck yet.
fn with_half(properties: &[(&'static str, &str)]) -> (Victim, Stuck, Place) {
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::not_yet(folder.path());
    let properties = properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let settings = Settings { flush: Flush::Sync, shards: 1, properties, env: vec![stuck.env()] };
    let victim = Victim::in_folder(folder, At("nothing", 1), settings);
    victim.cluster.broker.create_topic(FILLING, 1);
    let half = place(&send(&mut victim.connect(), "half-0", &format!("{UNASKED}{HALF}")).unwrap());
    (victim, stuck, half)
}

fn open(victim: &Victim) -> i64 {
    let [open] = wire::runtime_numbers(&mut victim.connect(), ["ringmqHalvesOpen"]);
    open
}

/// How often the message of the half came.
fn comes(victim: &Victim) -> usize {
    count(&victim.all(TOPIC)).get("half-0").copied().unwrap_or(0)
}

/// Asks, and has the broker come by the request: what comes behind it on the connection is answered first, or it is answered.
fn ask_unanswered(connection: &mut Connection, place: Place, how: i32) -> i32 {
    let end = connection.ask(wire::END_TRANSACTION, &end_of(place, how, false), &[]).unwrap();
    for _ in 0..20 {
        let behind = connection.ask(wire::GET_BROKER_RUNTIME_INFO, &[], &[]).unwrap();
        let reply = connection.next().unwrap();
        assert_eq!(reply.header.opaque, behind, "the end is answered: {:?}", reply.header);
    }
    end
}

#[test]
fn a_second_end_is_answered_when_the_mark_of_the_first_is_safe() {
    for second in [COMMIT, ROLL_BACK] {
        let (mut victim, stuck, half) = with_half(&[]);
        let (mut one, mut other) = (victim.connect(), victim.connect());
        stuck.hold();
        one.ask(wire::END_TRANSACTION, &end_of(half, COMMIT, false), &[]).unwrap();
        eventually("the first end is under way", PATIENCE, || (open(&victim) == 0).then_some(()));
        ask_unanswered(&mut other, half, second);
        stuck.release();
        for connection in [&mut one, &mut other] {
            let reply = connection.next().unwrap();
            assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
        }
        assert_eq!(comes(&victim), 1);
        victim.cluster.broker.kill();
        victim.restart();
        assert_eq!((comes(&victim), open(&victim)), (1, 0));
    }
}

#[test]
fn a_second_end_does_its_own_work_if_the_first_is_refused() {
    const BUSY: i32 = 2;
    let (victim, stuck, half) = with_half(&[("bufferMemory", "16777216"), ("waitTimeMillsInSendQueue", "10000")]);
    let (mut one, mut other, mut filling) = (victim.connect(), victim.connect(), victim.connect());
    stuck.hold();
    let body = vec![b'.'; 1 << 20];
    let ext = Outgoing { topic: FILLING, queue: 0, properties: "", body: &body }.ext();
    eventually("a send waits", PATIENCE, || {
        filling.ask(wire::SEND_MESSAGE_V2, &ext, &body).unwrap();
        let [waiting] = wire::runtime_numbers(&mut victim.connect(), ["sendThreadPoolQueueSize"]);
        (waiting > 0).then_some(())
    });
    one.ask(wire::END_TRANSACTION, &end_of(half, COMMIT, false), &[]).unwrap();
    eventually("the first end is under way", PATIENCE, || (open(&victim) == 0).then_some(()));
    // More sends keep the log full when those in front are refused.
    for _ in 0..16 {
        filling.ask(wire::SEND_MESSAGE_V2, &ext, &body).unwrap();
    }
    ask_unanswered(&mut other, half, ROLL_BACK);
    let refused = one.next().unwrap();
    let remark = refused.header.remark.as_deref().unwrap_or_default();
    assert!(refused.header.code == BUSY && remark.starts_with("[TIMEOUT_CLEAN_QUEUE]"), "{remark}");
    stuck.release();
    assert_eq!(other.next().unwrap().header.code, 0);
    assert_eq!((comes(&victim), open(&victim)), (0, 0), "it is rolled back");
}
