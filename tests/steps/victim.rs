//! A broker that kills itself at a step, and what was sent to it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::support::clock::Shifted;
use super::support::eventually;
use super::support::server::{Cluster, Flush, Make, Settings, lenient};
use super::support::turn::together;
use super::support::wire::{self, Connection, Frame, Outgoing, Record, records};

pub(crate) const TOPIC: &str = "steps_topic";
pub(crate) const GROUP: &str = "steps_group";
/// Saves of offsets so far apart that none happens by itself.
pub(crate) const NEVER: &str = "3600000";
/// How long a broker may take until it has passed its step, or a message until it comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const KILL: &str = "RINGMQ_TEST_KILL";
/// Cases of a test at a time: their brokers wait more than they work.
const TOGETHER: usize = 4;

/// A step, and which pass of it is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(pub(crate) &'static str, pub(crate) usize);

impl At {
    fn env(self) -> (&'static str, String) {
        (KILL, format!("{}@{}", self.0, self.1))
    }

    pub(crate) fn is(self, steps: &[&str]) -> bool {
        steps.contains(&self.0)
    }
}

/// Runs `case` at each of these steps, some at a time; every step that failed is named.
pub(crate) fn each(steps: &[At], case: impl Fn(At) + Sync) {
    let (next, failed) = (AtomicUsize::new(0), std::sync::Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..TOGETHER {
            scope.spawn(|| {
                while let Some(at) = steps.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let _turn = together();
                    if panic::catch_unwind(AssertUnwindSafe(|| case(*at))).is_err() {
                        failed.lock().unwrap().push(*at);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "killed at {failed:?}: see above");
}

pub(crate) fn wall_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What was sent under a name, and whether that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) name: String,
    pub(crate) acknowledged: bool,
}

/// The broker.
pub(crate) struct Victim {
    pub(crate) cluster: Cluster,
    at: At,
    /// When it was found dead.
    pub(crate) died_ms: i64,
}

impl Victim {
    /// Starts a broker with one topic that is to die at a step. A step of a file is counted from here on as well.
    pub(crate) fn start(at: At, shards: u32, properties: &[(&'static str, &str)]) -> Victim {
        let properties = properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Victim::of(at, Settings { flush: Flush::Sync, shards, properties, env: Vec::new() })
    }

    /// The same with one shard, whose wall clock the test sets.
    pub(crate) fn start_shifted(at: At, properties: &[(&'static str, &str)], clock: &Shifted) -> Victim {
        let properties = properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let env = vec![clock.env()];
        Victim::of(at, Settings { flush: Flush::Sync, shards: 1, properties, env })
    }

    fn of(at: At, settings: Settings) -> Victim {
        Victim::in_folder(tempfile::tempdir().unwrap(), at, settings)
    }

    pub(crate) fn in_folder(folder: tempfile::TempDir, at: At, mut settings: Settings) -> Victim {
        settings.env.push(at.env());
        let cluster = Cluster::in_folder(folder, Make::Ours, settings);
        cluster.broker.create_topic(TOPIC, 1);
        Victim { cluster, at, died_ms: 0 }
    }

    pub(crate) fn connect(&self) -> Connection {
        self.cluster.broker.connect()
    }

    /// Waits until the broker has killed itself, and starts it again without a step to die at.
    pub(crate) fn bury(&mut self) {
        let At(step, nth) = self.at;
        let process = &mut self.cluster.broker.process;
        let status = process.wait(PATIENCE);
        assert_eq!(status.signal(), Some(9), "{step}@{nth}: {status}\n{}", process.transcript());
        let line = format!("killed at {step}@{nth}");
        assert!(process.err.all().contains(&line), "not at its step {step}@{nth}\n{}", process.transcript());
        self.died_ms = wall_ms();
        self.forget_step();
    }

    pub(crate) fn restart(&mut self) {
        self.cluster.broker.restart();
    }

    /// Begins anew at a step of the same store, after an orderly stop.
    pub(crate) fn again(&mut self, at: At) {
        assert!(self.cluster.broker.terminate().success());
        self.at = at;
        self.forget_step();
        self.cluster.broker.settings().env.push(at.env());
        self.cluster.broker.restart();
    }

    fn forget_step(&mut self) {
        self.cluster.broker.settings().env.retain(|(name, _)| *name != KILL);
    }

    /// A table as it is on the disk: its member `member`; null if there is none.
    pub(crate) fn saved(&self, file: &str, member: &str) -> serde_json::Value {
        let path = self.cluster.broker.store().join("config").join(file);
        std::fs::read(path).map_or(serde_json::Value::Null, |bytes| lenient(&bytes)[member].clone())
    }

    /// The consumer offsets that a group has saved in a topic, by queue.
    pub(crate) fn saved_offsets(&self, topic: &str, group: &str) -> BTreeMap<i32, i64> {
        let table = self.saved("consumerOffset.json", "offsetTable");
        let Some(queues) = table[format!("{topic}@{group}")].as_object() else { return BTreeMap::new() };
        queues.iter().map(|(queue, offset)| (queue.parse().unwrap(), offset.as_i64().unwrap())).collect()
    }

    /// Everything that consumers can see in the first queue of a topic; nothing if there is no such topic.
    pub(crate) fn all(&self, topic: &str) -> Vec<Record> {
        self.all_from(topic, 0)
    }

    /// The same for a queue whose first messages may be dropped.
    pub(crate) fn all_left(&self, topic: &str) -> Vec<Record> {
        let ext = [("topic", topic.to_owned()), ("queueId", "0".to_owned())];
        let reply = self.connect().call(wire::GET_MIN_OFFSET, &ext, &[]).unwrap();
        self.all_from(topic, reply.header.number("offset"))
    }

    fn all_from(&self, topic: &str, first: i64) -> Vec<Record> {
        let mut connection = self.connect();
        let (mut found, mut next) = (Vec::new(), first);
        loop {
            let reply = connection.call(wire::PULL_MESSAGE, &wire::pull(topic, 0, next, 32, 0), &[]).unwrap();
            match reply.header.code {
                0 => found.extend(records(&reply.body)),
                17 | 19..=21 => return found,
                code => panic!("pull of {topic} at {next}: {code} {:?}", reply.header.remark),
            }
            next = reply.header.number("nextBeginOffset");
        }
    }

    /// Waits until a message of this name is in a topic, and gives all that are.
    pub(crate) fn wait_for(&self, topic: &str, name: &str) -> Vec<Record> {
        wait_in(name, || self.all(topic))
    }

    /// The same for a queue whose first messages may be dropped.
    pub(crate) fn wait_for_left(&self, topic: &str, name: &str) -> Vec<Record> {
        wait_in(name, || self.all_left(topic))
    }
}

fn wait_in(name: &str, all: impl Fn() -> Vec<Record>) -> Vec<Record> {
    eventually(name, PATIENCE, || {
        let found = all();
        found.iter().any(|record| record.body == name.as_bytes()).then_some(found)
    })
}

/// Sends a message to the topic's queue, its name being its body; the reply if it came.
pub(crate) fn send(connection: &mut Connection, name: &str, properties: &str) -> io::Result<Frame> {
    let properties = format!("{properties}UNIQ_KEY\u{1}{name}");
    let ext = Outgoing { topic: TOPIC, queue: 0, properties: &properties, body: name.as_bytes() }.ext();
    let reply = connection.call(wire::SEND_MESSAGE_V2, &ext, name.as_bytes())?;
    assert_eq!(reply.header.code, 0, "{name}: {:?}", reply.header.remark);
    Ok(reply)
}

/// The property of a message that is to come at a time.
pub(crate) fn due_at(ms: i64) -> String {
    format!("TIMER_DELIVER_MS\u{1}{ms}\u{2}")
}

/// Does `one` for each name until the broker is gone; the last of them is then not acknowledged.
pub(crate) fn until_gone(names: &[String], mut one: impl FnMut(&str) -> io::Result<()>) -> Vec<Sent> {
    let mut sent = Vec::new();
    for name in names {
        let acknowledged = one(name).is_ok();
        sent.push(Sent { name: name.clone(), acknowledged });
        if !acknowledged {
            break;
        }
    }
    sent
}

pub(crate) fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| format!("{prefix}-{at}")).collect()
}

/// How often each name is there.
pub(crate) fn count<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        *counts.entry(String::from_utf8_lossy(&record.body).into_owned()).or_default() += 1;
    }
    counts
}

/// What was released before the broker died, and what was released by the next one.
pub(crate) struct Released {
    before: BTreeMap<String, usize>,
    after: BTreeMap<String, usize>,
}

impl Released {
    pub(crate) fn of(records: &[Record], died_ms: i64) -> Released {
        let (before, after): (Vec<_>, Vec<_>) = records.iter().partition(|record| record.stored <= died_ms);
        Released { before: count(before), after: count(after) }
    }

    /// How many had been released when the broker died.
    pub(crate) fn early(&self) -> usize {
        self.before.len()
    }

    /// Holds the copies of a kept message against the saved progress: what lies in front of it was released and does not
    /// come again, what lies behind it comes (again) once.
    pub(crate) fn holds(&self, name: &str, in_front: bool) {
        let of = |counts: &BTreeMap<String, usize>| counts.get(name).copied().unwrap_or(0);
        let (before, after) = (of(&self.before), of(&self.after));
        if in_front {
            assert_eq!((before, after), (1, 0), "{name}: its release was saved as done");
        } else {
            assert!(before <= 1, "{name} was released {before} times before the kill");
            assert_eq!(after, 1, "{name} comes once after the kill, {before} before it");
        }
    }

    pub(crate) fn never(&self, name: &str) {
        assert!(!self.before.contains_key(name) && !self.after.contains_key(name), "{name} came");
    }
}
