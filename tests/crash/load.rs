//! Senders and readers that work until the broker dies under them, and remember what they were told.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::oracle::{Oracle, QUEUES, TOPIC};
use super::support::eventually;
use super::support::wire::{self, Connection, Outgoing, records};

/// Sends of one connection that may wait for their answer.
const WINDOW: usize = 32;
/// A broker that answers faster than this test wants to read back later is held here.
const SENDS_MAX: usize = 4_000;

/// A message that was sent once, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) name: String,
    /// The queue offset that its acknowledgement told.
    pub(crate) acknowledged: Option<i64>,
    /// The highest offset of the queue that had been acknowledged when this was sent: this one must lie behind it.
    pub(crate) after: Option<i64>,
}

/// What one round taught about each queue.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) queue: i32,
    pub(crate) sent: Vec<Sent>,
    /// What a consumer was given: offset to name.
    pub(crate) seen: BTreeMap<i64, String>,
}

/// One sender and one reader for each queue.
pub(crate) struct Load {
    senders: Vec<JoinHandle<Vec<Sent>>>,
    readers: Vec<JoinHandle<BTreeMap<i64, String>>>,
    acknowledged: Arc<AtomicUsize>,
}

impl Load {
    pub(crate) fn start(address: &str, round: u32, oracle: &Oracle) -> Load {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let mut load = Load { senders: Vec::new(), readers: Vec::new(), acknowledged };
        for queue in 0..QUEUES {
            let connection = Connection::open(address).unwrap();
            let count = Arc::clone(&load.acknowledged);
            load.senders.push(thread::spawn(move || send(connection, queue, round, &count)));
            let connection = Connection::open(address).unwrap();
            let (from, drops) = (oracle.end(queue), oracle.drops());
            load.readers.push(thread::spawn(move || read(connection, queue, from, drops)));
        }
        load
    }

    pub(crate) fn wait_for_acknowledgements(&self, count: usize) {
        eventually("the load runs", Duration::from_secs(30), || {
            (self.acknowledged.load(Ordering::Relaxed) >= count).then_some(())
        });
    }

    /// What everyone has learned, once the broker is gone.
    pub(crate) fn end(self) -> Vec<Learned> {
        let pairs = self.senders.into_iter().zip(self.readers);
        pairs
            .zip(0..)
            .map(|((sender, reader), queue)| Learned {
                queue,
                sent: sender.join().unwrap(),
                seen: reader.join().unwrap(),
            })
            .collect()
    }
}

/// Sizes that differ, so that records fall across blocks in every way: from tens of bytes to some kilobytes.
fn body(name: &str, index: usize) -> Vec<u8> {
    let size = name.len() + 1 + (index * 37) % 300 + if index % 50 == 7 { 9_000 } else { 0 };
    let mut body = format!("{name}|").into_bytes();
    body.resize(size, b'.');
    body
}

/// The name at the front of a body.
pub(crate) fn name_of(body: &[u8]) -> String {
    let end = body.iter().position(|byte| *byte == b'|').unwrap_or(body.len());
    String::from_utf8_lossy(&body[..end]).into_owned()
}

fn send(mut connection: Connection, queue: i32, round: u32, count: &AtomicUsize) -> Vec<Sent> {
    let mut sent: Vec<Sent> = Vec::new();
    let mut open: VecDeque<(i32, usize)> = VecDeque::new();
    let mut highest = None;
    while sent.len() < SENDS_MAX || !open.is_empty() {
        while open.len() < WINDOW && sent.len() < SENDS_MAX {
            let name = format!("r{round}-q{queue}-{}", sent.len());
            let body = body(&name, sent.len());
            let ext = Outgoing { topic: TOPIC, queue, properties: "TAGS\u{1}load", body: &body }.ext();
            sent.push(Sent { name, acknowledged: None, after: highest });
            // Even what was only partly written may have reached the broker, so it counts as sent.
            let Ok(opaque) = connection.ask(wire::SEND_MESSAGE_V2, &ext, &body) else {
                return sent;
            };
            open.push_back((opaque, sent.len() - 1));
        }
        let Ok(reply) = connection.next() else { return sent };
        let Some(at) = open.iter().position(|(opaque, _)| *opaque == reply.header.opaque) else {
            panic!("an answer to nothing: {:?}", reply.header);
        };
        let (_, index) = open.remove(at).unwrap();
        if reply.header.code == 0 {
            let offset = reply.header.number("queueOffset");
            assert_eq!(reply.header.number("queueId"), i64::from(queue));
            sent[index].acknowledged = Some(offset);
            highest = highest.max(Some(offset));
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    // Everything was answered before the kill; hold the connection until it comes.
    while connection.next().is_ok() {}
    sent
}

/// A consumer at the end of the queue: it holds pulls open and keeps what it is given.
fn read(mut connection: Connection, queue: i32, from: i64, drops: bool) -> BTreeMap<i64, String> {
    let mut seen = BTreeMap::new();
    let mut next = from;
    loop {
        let ext = wire::pull(TOPIC, queue, next, 32, 5_000);
        let Ok(reply) = connection.call(wire::PULL_MESSAGE, &ext, &[]) else { return seen };
        match reply.header.code {
            0 => {
                for record in records(&reply.body) {
                    seen.insert(record.queue_offset, name_of(&record.body));
                }
                next = reply.header.number("nextBeginOffset");
            }
            21 if drops && reply.header.number("nextBeginOffset") > next => {
                next = reply.header.number("nextBeginOffset");
            }
            19 | 20 => next = reply.header.number("nextBeginOffset"),
            code => panic!("pull of queue {queue} at {next}: {code} {:?}", reply.header.remark),
        }
    }
}
