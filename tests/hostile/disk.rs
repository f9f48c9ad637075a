//! A disk that is full: sends are refused in RocketMQ's words, reads go on, and room brings the sends back.

use std::time::Duration;

use super::alone;
use super::support::disk::{self, Disk};
use super::support::server::{Cluster, Make, Settings};
use super::support::wire::{self, Outgoing, records};
use super::support::{eventually, skip};

const TOPIC: &str = "full_topic";
const DISK_MIB: u64 = 640;
const BALLAST_MIB: u64 = 256;

#[test]
fn a_full_disk_refuses_sends_serves_reads_and_recovers() {
    if Make::under_test() != Make::Ours {
        return skip("Apache's broker deletes messages that it still owes when its disk is full");
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let store = Cluster::store_in(folder.path());
    let disk = match Disk::mount(&folder.path().join("disk.img"), &store, DISK_MIB) {
        Ok(disk) => disk,
        Err(reason) => return skip(&format!("a small disk cannot be mounted: {reason}")),
    };
    disk.take(BALLAST_MIB);
    let properties = vec![("mappedFileSizeCommitLog", (32 << 20).to_string())];
    let settings = Settings { properties, env: vec![disk::filled()], ..Settings::default() };
    let cluster = Cluster::in_folder(folder, Make::Ours, settings);
    cluster.broker.create_topic(TOPIC, 1);
    let mut connection = cluster.broker.connect();
    let body = vec![b'x'; 1 << 20];
    let ext = Outgoing { topic: TOPIC, queue: 0, properties: "", body: &body }.ext();
    let mut send = || connection.call(wire::SEND_MESSAGE_V2, &ext, &body).unwrap().header;

    let mut stored = 0;
    let refusal = loop {
        let header = send();
        if header.code != 0 {
            break header;
        }
        assert_eq!(header.number("queueOffset"), stored);
        stored += 1;
        assert!(stored < i64::try_from(DISK_MIB).unwrap(), "the disk never filled");
    };
    println!("{stored} MiB fitted, then {} {:?}", refusal.code, refusal.remark);
    assert_eq!(refusal.code, 14, "SERVICE_NOT_AVAILABLE");
    let remark = refusal.remark.unwrap();
    assert!(remark.contains("service not available now"), "{remark}");
    assert!(stored > 16, "refused long before the disk was full");

    let mut reader = cluster.broker.connect();
    for offset in [0, stored / 2, stored - 1] {
        // The last message may still be on its way to the disk, and nobody reads it before it is there.
        let ext = wire::pull(TOPIC, 0, offset, 1, 5_000);
        let reply = reader.call(wire::PULL_MESSAGE, &ext, &[]).unwrap();
        assert_eq!(reply.header.code, 0, "a full disk is no reason not to read");
        assert_eq!(records(&reply.body)[0].queue_offset, offset);
    }
    assert_eq!(send().code, 14, "it stays full");

    disk.give_back();
    let header = eventually("sends are taken again", Duration::from_secs(60), || {
        let header = send();
        (header.code == 0).then_some(header)
    });
    assert_eq!(header.number("queueOffset"), stored, "no refused message took an offset");
}
