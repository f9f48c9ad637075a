//! `kill -9` while messages are on their way around: delayed ones, timed ones, transactions, and what is sent back.
//!
//! Under SYNC_FLUSH nothing that was acknowledged is lost, nothing comes before its time, a transaction whose end was
//! acknowledged is ended once, and only what RocketMQ may repeat comes twice.
//!
//! `RINGMQ_LATER_ROUNDS` sets the number of kills (6 in CI, 2 elsewhere), `RINGMQ_LATER_SEED` repeats a run's times.
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

use std::collections::BTreeMap;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::dice::Dice;
use support::eventually;
use support::server::{Cluster, Flush, Settings, wide_segments};
use support::wire::{self, Connection, Outgoing, Record, records};

const TOPIC: &str = "later_topic";
const GROUP: &str = "later_group";
const QUEUES: i32 = 4;
const RETRY: &str = "%RETRY%later_group";
/// Of delay level 1.
const LEVEL_MS: i64 = 1000;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Level,
    Timer(i64),
    Commit,
    RollBack,
    /// Half a transaction that nobody ends.
    Open,
    SentBack,
}

/// A message, and how much of what was asked was acknowledged.
#[derive(Debug, Clone)]
struct Sent {
    name: String,
    kind: Kind,
    /// Just before it was sent.
    at_ms: i64,
    acknowledged: bool,
    /// The end of the transaction, or the way back: asked for, and acknowledged.
    asked: bool,
    done: bool,
}

fn wall_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn properties(kind: Kind, name: &str) -> String {
    let own = match kind {
        Kind::Level => "DELAY\u{1}1\u{2}".to_owned(),
        Kind::Timer(ms) => format!("TIMER_DELAY_MS\u{1}{ms}\u{2}"),
        Kind::Commit | Kind::RollBack | Kind::Open => "TRAN_MSG\u{1}true\u{2}PGROUP\u{1}wire_producer\u{2}".to_owned(),
        Kind::SentBack => String::new(),
    };
    format!("{own}UNIQ_KEY\u{1}{name}")
}

/// Sends one message after the other until the broker is gone, and remembers what it was told.
fn work(address: &str, mut dice: Dice, mark: &str) -> Vec<Sent> {
    let mut sent = Vec::new();
    let Ok(mut connection) = Connection::open(address) else { return sent };
    loop {
        let kind = match dice.below(6) {
            0 => Kind::Level,
            1 => Kind::Timer(200 + i64::try_from(dice.below(1500)).unwrap()),
            2 => Kind::Commit,
            3 => Kind::RollBack,
            4 => Kind::Open,
            _ => Kind::SentBack,
        };
        let name = format!("{mark}-{}", sent.len());
        sent.push(Sent { name, kind, at_ms: wall_ms(), acknowledged: false, asked: false, done: false });
        let queue = i32::try_from(dice.below(u64::try_from(QUEUES).unwrap())).unwrap();
        let Some(last) = sent.last_mut() else { continue };
        if one(&mut connection, queue, last).is_err() {
            return sent;
        }
    }
}

fn one(connection: &mut Connection, queue: i32, sent: &mut Sent) -> io::Result<()> {
    let properties = properties(sent.kind, &sent.name);
    let body = sent.name.as_bytes();
    let ext = Outgoing { topic: TOPIC, queue, properties: &properties, body }.ext();
    let reply = connection.call(wire::SEND_MESSAGE_V2, &ext, body)?;
    assert_eq!(reply.header.code, 0, "{sent:?}: {:?}", reply.header.remark);
    sent.acknowledged = true;
    let position = position(reply.header.field("msgId"));
    let (code, ext) = match sent.kind {
        Kind::Commit => (wire::END_TRANSACTION, end(&reply, position, 8)),
        Kind::RollBack => (wire::END_TRANSACTION, end(&reply, position, 12)),
        Kind::SentBack => (wire::SEND_BACK, back(position)),
        Kind::Level | Kind::Timer(_) | Kind::Open => return Ok(()),
    };
    sent.asked = true;
    let reply = connection.call(code, &ext, &[])?;
    assert_eq!(reply.header.code, 0, "{sent:?}: {:?}", reply.header.remark);
    sent.done = true;
    Ok(())
}

/// The position that a message id of an IPv4 broker names.
fn position(id: &str) -> i64 {
    i64::from_str_radix(&id[16..], 16).unwrap()
}

fn end(half: &wire::Frame, position: i64, how: i32) -> Vec<(&'static str, String)> {
    vec![
        ("producerGroup", "wire_producer".to_owned()),
        ("tranStateTableOffset", half.header.field("queueOffset").to_owned()),
        ("commitLogOffset", position.to_string()),
        ("commitOrRollback", how.to_string()),
        ("fromTransactionCheck", "false".to_owned()),
    ]
}

fn back(position: i64) -> Vec<(&'static str, String)> {
    vec![("offset", position.to_string()), ("group", GROUP.to_owned()), ("delayLevel", "1".to_owned())]
}

/// Everything that consumers can see in a topic.
fn all(address: &str, topic: &str, queues: i32) -> Vec<Record> {
    let mut connection = Connection::open(address).unwrap();
    let mut found = Vec::new();
    for queue in 0..queues {
        let mut next = 0;
        loop {
            let reply = connection.call(wire::PULL_MESSAGE, &wire::pull(topic, queue, next, 32, 0), &[]).unwrap();
            match reply.header.code {
                0 => found.extend(records(&reply.body)),
                19..=21 => break,
                code => panic!("pull of {topic} {queue} at {next}: {code} {:?}", reply.header.remark),
            }
            next = reply.header.number("nextBeginOffset");
        }
    }
    found
}

fn counts(records: &[Record]) -> BTreeMap<String, Vec<&Record>> {
    let mut found: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for record in records {
        found.entry(String::from_utf8_lossy(&record.body).into_owned()).or_default().push(record);
    }
    found
}

/// What has to come, and has not.
fn missing(sent: &[Sent], topic: &[Record], retry: &[Record]) -> Vec<String> {
    let (topic, retry) = (counts(topic), counts(retry));
    let is_missing = |one: &&Sent| match one.kind {
        Kind::Level | Kind::Timer(_) => one.acknowledged && !topic.contains_key(&one.name),
        Kind::Commit => one.done && !topic.contains_key(&one.name),
        Kind::SentBack => one.done && !retry.contains_key(&one.name),
        Kind::RollBack | Kind::Open => false,
    };
    sent.iter().filter(is_missing).map(|one| format!("{one:?}")).collect()
}

/// Holds what came against what was sent; returns how many messages came more than once.
fn audit(sent: &[Sent], topic: &[Record], retry: &[Record]) -> usize {
    let (topic, retry) = (counts(topic), counts(retry));
    let known: BTreeMap<&str, &Sent> = sent.iter().map(|one| (one.name.as_str(), one)).collect();
    for name in topic.keys().chain(retry.keys()) {
        assert!(known.contains_key(name.as_str()), "{name} was never sent");
    }
    let mut repeated = 0;
    for one in sent {
        let came = topic.get(&one.name).map_or(&[][..], Vec::as_slice);
        match one.kind {
            Kind::Level | Kind::Timer(_) => {
                let delay = if let Kind::Timer(ms) = one.kind { ms } else { LEVEL_MS };
                for record in came {
                    assert!(record.stored >= one.at_ms + delay, "{one:?} came at {}", record.stored);
                }
                repeated += usize::from(came.len() > 1);
            }
            Kind::Commit => {
                assert!(came.len() <= 1, "{one:?} came {} times", came.len());
                assert!(one.asked || came.is_empty(), "{one:?} came before it was committed");
            }
            Kind::RollBack | Kind::Open => assert!(came.is_empty(), "{one:?} came"),
            Kind::SentBack => {
                let again = retry.get(&one.name).map_or(&[][..], Vec::as_slice);
                assert!(again.iter().all(|record| record.reconsume_times == 1), "{one:?}");
                assert!(one.asked || again.is_empty(), "{one:?} came back by itself");
                repeated += usize::from(again.len() > 1);
            }
        }
    }
    repeated
}

#[test]
fn what_is_to_come_survives_kills() {
    let mut dice = Dice::from_variable("RINGMQ_LATER_SEED");
    let rounds = number("RINGMQ_LATER_ROUNDS", if support::in_ci() { 6 } else { 2 });
    let properties = vec![
        wide_segments(),
        ("messageDelayLevel", "1s 2s 3s".to_owned()),
        // Nobody answers a check here, but the halves move while they are asked about.
        ("transactionTimeOut", "500".to_owned()),
        ("transactionCheckInterval", "500".to_owned()),
        ("transactionCheckMax", "3".to_owned()),
    ];
    let mut cluster = Cluster::start(Settings { flush: Flush::Sync, properties, ..Settings::default() });
    cluster.broker.create_topic(TOPIC, u32::try_from(QUEUES).unwrap());
    let mut sent: Vec<Sent> = Vec::new();
    for round in 0..rounds {
        let workers: Vec<JoinHandle<Vec<Sent>>> = (0..4)
            .map(|worker| {
                let (address, mark) = (cluster.broker.address.clone(), format!("r{round}w{worker}"));
                let dice = Dice::seeded(dice.below(u64::MAX));
                thread::spawn(move || work(&address, dice, &mark))
            })
            .collect();
        thread::sleep(Duration::from_millis(1200 + dice.below(1800)));
        cluster.broker.kill();
        for worker in workers {
            sent.extend(worker.join().unwrap());
        }
        cluster.broker.restart();
    }
    let address = cluster.broker.address.clone();
    let patience = Instant::now() + Duration::from_secs(30);
    eventually("everything that is to come", Duration::from_secs(60), || {
        let (topic, retry) = (all(&address, TOPIC, QUEUES), all(&address, RETRY, 1));
        let missing = missing(&sent, &topic, &retry);
        assert!(missing.is_empty() || Instant::now() < patience, "{} are missing: {missing:#?}", missing.len());
        missing.is_empty().then_some(())
    });
    let (topic, retry) = (all(&address, TOPIC, QUEUES), all(&address, RETRY, 1));
    let repeated = audit(&sent, &topic, &retry);
    println!(
        "{} messages in {rounds} rounds, {} came, {repeated} more than once",
        sent.len(),
        topic.len() + retry.len()
    );
    assert!(sent.len() > 100, "a kill in the middle of nothing proves nothing");
}
