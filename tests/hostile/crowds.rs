//! Many at once: connections that say nothing, and readers that ask for much and take nothing.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use super::bystander::TOPIC;
use super::support::server::{Cluster, Settings};
use super::support::wire::{self, Connection, Outgoing, records};
use super::{MIB, alone, cluster, under};

const CROWD: usize = 10_000;

/// Lets this process, and the servers that it starts, hold a crowd of connections. False when that is forbidden.
fn raise_file_limit() -> bool {
    let limit = CROWD * 2;
    let raised = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), &format!("--nofile={limit}:{limit}")])
        .status();
    raised.is_ok_and(|status| status.success())
}

#[test]
fn ten_thousand_silent_connections_disturb_nobody() {
    if !raise_file_limit() {
        return super::support::skip("this user may not raise the limit of open files");
    }
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    under(&cluster, 256 * MIB, |cluster| {
        let crowd: Vec<TcpStream> = (0..CROWD).map(|_| TcpStream::connect(&*cluster.broker.address).unwrap()).collect();
        let mut newcomer = cluster.broker.connect();
        let ext = [("topic", TOPIC.to_owned()), ("queueId", "0".to_owned())];
        assert_eq!(newcomer.call(wire::GET_MAX_OFFSET, &ext, &[]).unwrap().header.code, 0);
        drop(crowd);
        let mut after = cluster.broker.connect();
        assert_eq!(after.call(wire::GET_MAX_OFFSET, &ext, &[]).unwrap().header.code, 0);
    });
}

const LARGE: &str = "large_topic";
const READERS: usize = 100;
const REQUESTS: i32 = 40;

/// Asks for far more than is ever taken: 100 readers, 40 pulls of about 200 KiB each, nearly 800 MiB of answers.
fn ask_and_wait(cluster: &Cluster) -> Vec<Connection> {
    (0..READERS)
        .map(|_| {
            let mut connection = cluster.broker.connect();
            for opaque in 0..REQUESTS {
                let ext = wire::pull(LARGE, 0, i64::from(opaque), 1, 0);
                let request = wire::request(wire::PULL_MESSAGE, opaque, 0, &ext, b"");
                connection.stream().write_all(&request).unwrap();
            }
            connection
        })
        .collect()
}

#[test]
fn slow_readers_of_large_pulls_are_held_back() {
    if !super::strict() {
        return super::support::skip("Apache's broker keeps all answers in memory and stops");
    }
    let _alone = alone();
    let Some(cluster) = cluster(Settings::default()) else { return };
    cluster.broker.create_topic(LARGE, 1);
    let mut sender = cluster.broker.connect();
    let body = vec![b'x'; 200 << 10];
    for _ in 0..REQUESTS {
        let ext = Outgoing { topic: LARGE, queue: 0, properties: "", body: &body }.ext();
        assert_eq!(sender.call(wire::SEND_MESSAGE_V2, &ext, &body).unwrap().header.code, 0);
    }
    let mut readers = Vec::new();
    under(&cluster, 256 * MIB, |cluster| readers = ask_and_wait(cluster));
    // One of them begins to read after all, and finds every answer whole.
    let mut late = readers.pop().unwrap();
    let mut offsets = Vec::new();
    for _ in 0..REQUESTS {
        let reply = late.next().unwrap();
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
        let found = records(&reply.body);
        assert_eq!(found[0].body, body);
        offsets.push(found[0].queue_offset);
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (0..i64::from(REQUESTS)).collect::<Vec<_>>());
}
