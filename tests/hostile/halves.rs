//! Half messages that say what is not so, that they are a copy of another producer's, and half messages on a disk that is stuck.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::bystander::TOPIC;
use super::support::disk::Stuck;
use super::support::eventually;
use super::support::server::{Cluster, Make, Settings};
use super::support::wire::{self, Connection, Outgoing, records};
use super::{alone, cluster, strict, support};

const CHECK_TRANSACTION_STATE: i32 = 39;
/// The field of a send that says when it was born.
const BORN: &str = "g";

fn wall_ms() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()
}

/// A half message's queue offset and position.
type Place = (String, i64);

fn half(connection: &mut Connection, group: &str, body: &[u8], more: &str) -> Place {
    let properties = format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}{group}\u{2}{more}");
    let mut ext = Outgoing { topic: TOPIC, queue: 0, properties: &properties, body }.ext();
    ext.retain(|(key, _)| *key != BORN);
    ext.push((BORN, wall_ms().to_string()));
    let reply = connection.call(wire::SEND_MESSAGE_V2, &ext, body).unwrap().header;
    assert_eq!(reply.code, 0, "{:?}", reply.remark);
    (reply.field("queueOffset").to_owned(), i64::from_str_radix(&reply.field("msgId")[16..], 16).unwrap())
}

fn commit(connection: &mut Connection, group: &str, (offset, position): &Place) {
    let ext = [
        ("producerGroup", group.to_owned()),
        ("tranStateTableOffset", offset.clone()),
        ("commitLogOffset", position.to_string()),
        ("commitOrRollback", "8".to_owned()),
        ("fromTransactionCheck", "false".to_owned()),
    ];
    let reply = connection.call(wire::END_TRANSACTION, &ext, &[]).unwrap().header;
    assert_eq!(reply.code, 0, "{:?}", reply.remark);
}

#[test]
fn a_half_that_claims_to_be_another_ends_only_itself() {
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    let mut connection = cluster.broker.connect();
    let one = half(&mut connection, "honest", b"honest", "");
    let claim = format!("TRAN_PREPARED_QUEUE_OFFSET\u{1}{}\u{2}", one.0);
    let other = half(&mut connection, "liar", b"lie", &claim);
    commit(&mut connection, "liar", &other);
    commit(&mut connection, "honest", &one);
    let came = eventually("both are committed", Duration::from_secs(20), || {
        let reply = connection.call(wire::PULL_MESSAGE, &wire::pull(TOPIC, 0, 0, 32, 0), &[]).unwrap();
        let came: Vec<_> = records(&reply.body).into_iter().map(|record| record.body).collect();
        (came.len() >= 2).then_some(came)
    });
    assert_eq!(came, [&b"lie"[..], b"honest"]);
}

#[test]
fn a_half_that_is_due_before_it_is_on_disk_is_asked_about_as_soon_as_it_is() {
    let _alone = alone();
    if !strict() {
        return support::skip("Apache's broker cannot be given a disk that is stuck");
    }
    let folder = tempfile::tempdir().unwrap();
    let stuck = Stuck::not_yet(folder.path());
    // A check that is put off is not there in time.
    let properties =
        vec![("transactionTimeOut", "100".to_owned()), ("transactionCheckInterval", "86400000".to_owned())];
    let settings = Settings { env: vec![stuck.env()], properties, ..Settings::default() };
    let cluster = Cluster::in_folder(folder, Make::Ours, settings);
    cluster.broker.create_topic(TOPIC, 1);
    let (mut producer, mut sender) = (cluster.broker.connect(), cluster.broker.connect());
    let body = json!({
        "clientID": "late", "consumerDataSet": [], "producerDataSet": [{ "groupName": "late" }],
    });
    let reply = producer.call(wire::HEART_BEAT, &[], body.to_string().as_bytes()).unwrap().header;
    assert_eq!(reply.code, 0, "{:?}", reply.remark);
    stuck.hold();
    let (offset, position) = half(&mut sender, "late", b"old", "");
    // Long behind its time.
    let until = wall_ms() + 1000;
    eventually("its check is due", Duration::from_secs(20), || (wall_ms() > until).then_some(()));
    stuck.release();
    let check = producer.next().unwrap().header;
    assert_eq!(check.code, CHECK_TRANSACTION_STATE);
    // A check is about a copy of the half, which lies behind it.
    let asked = (check.number("tranStateTableOffset"), check.number("commitLogOffset"));
    assert!(asked.0 > offset.parse().unwrap() && asked.1 > position, "{asked:?} of {offset} at {position}");
}
