//! A disk that is nearly full drops messages whatever their age, those too that wait for their time: what could not be
//! stored anew is lost, counted and told of, and everything else comes when it is due. The clock is moved, so that nobody
//! waits for it.

use super::support::clock::Shifted;
use super::support::disk::{self, Disk};
use super::support::server::{Cluster, Flush, Settings};
use super::support::wire::{self, BORN_MS, Connection};
use super::support::{eventually, skip};
use super::victim::{At, PATIENCE, TOPIC, Victim, count, due_at, names, send, wall_ms};

const TIMERS: &str = "rmq_sys_wheel_timer";

const DISK_MIB: u64 = 400;
/// More of the disk than what forces, less than what refuses sends, whatever the file system takes for itself.
const BALLAST_MIB: u64 = 250;
const SEGMENT: i64 = 1 << 20;

/// Segments of a MiB, and a disk that counts as nearly full from 60% on.
const FORCED: [(&str, &str); 6] = [
    ("mappedFileSizeCommitLog", "1048576"),
    ("maxMessageSize", "65536"),
    ("cleanResourceInterval", "100"),
    ("deleteCommitLogFilesInterval", "10"),
    ("diskSpaceCleanForciblyRatio", "60"),
    ("messageDelayLevel", "1h"),
];

/// Too soon to be stored anew.
const NEAR_MS: i64 = 50_000;
const FAR_MS: i64 = 600_000;
const LEVEL_MS: i64 = 3_600_000;
const LEVEL: &str = "DELAY\u{1}1\u{2}";

/// What goes with its segment, of each kind, and what lies in the segment that is written.
const EARLY: usize = 20;
const LATE: usize = 3;

/// A half that is first asked about then. By its sender's clock it was born long ago.
fn asked_at(ms: i64) -> String {
    let seconds = (ms - BORN_MS) / 1000;
    format!("TRAN_MSG\u{1}true\u{2}PGROUP\u{1}wire_producer\u{2}CHECK_IMMUNITY_TIME_IN_SECONDS\u{1}{seconds}\u{2}")
}

fn send_all(connection: &mut Connection, prefix: &str, count: usize, properties: &str) {
    for name in names(prefix, count) {
        send(connection, &name, properties).unwrap();
    }
}

/// Sends other messages until the log is in its second segment.
fn fill(connection: &mut Connection) {
    let body = vec![b'.'; 4000];
    let ext = wire::Outgoing { topic: TOPIC, queue: 0, properties: "", body: &body }.ext();
    loop {
        let reply = connection.call(wire::SEND_MESSAGE_V2, &ext, &body).unwrap();
        if i64::from_str_radix(&reply.header.field("msgId")[16..], 16).unwrap() > SEGMENT {
            return;
        }
    }
}

fn first_timer(connection: &mut Connection) -> i64 {
    let ext = [("topic", TIMERS.to_owned()), ("queueId", "0".to_owned())];
    connection.call(wire::GET_MIN_OFFSET, &ext, &[]).unwrap().header.number("offset")
}

/// A number of the runtime info.
fn told(connection: &mut Connection, key: &str) -> usize {
    let [told] = wire::runtime_numbers(connection, [key]);
    usize::try_from(told).unwrap()
}

/// How many lines of its log say that messages were lost, of timers and of delay levels.
fn lines(victim: &Victim) -> (usize, usize) {
    let process = &victim.cluster.broker.process;
    let lines = [process.out.all(), process.err.all()].concat();
    let of = |what: &str| lines.iter().filter(|line| line.contains(what) && line.contains("dropped before")).count();
    (of("timed messages"), of("of a delay level"))
}

#[test]
fn what_a_full_disk_drops_is_counted_and_the_rest_comes_on_time() {
    let folder = tempfile::tempdir().unwrap();
    let disk = match Disk::mount(&folder.path().join("disk.img"), &Cluster::store_in(folder.path()), DISK_MIB) {
        Ok(disk) => disk,
        Err(reason) => return skip(&format!("a small disk cannot be mounted: {reason}")),
    };
    let shifted = Shifted::default();
    let properties = FORCED.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let env = vec![shifted.env(), disk::filled()];
    let settings = Settings { flush: Flush::Sync, shards: 1, properties, env };
    let mut victim = Victim::in_folder(folder, At("nothing", 1), settings);
    let mut connection = victim.connect();
    let now_ms = wall_ms();
    for (prefix, count) in [("early", EARLY), ("late", LATE)] {
        send_all(&mut connection, &format!("{prefix}-far"), count, &due_at(now_ms + FAR_MS));
        send_all(&mut connection, &format!("{prefix}-near"), count, &due_at(now_ms + NEAR_MS));
        send_all(&mut connection, &format!("{prefix}-level"), count, LEVEL);
        send_all(&mut connection, &format!("{prefix}-half"), count, &asked_at(now_ms + NEAR_MS));
        if prefix == "early" {
            fill(&mut connection);
        }
    }
    assert_eq!(told(&mut connection, "timerCongestNum"), 2 * (EARLY + LATE));
    disk.take(BALLAST_MIB);
    let early = i64::try_from(2 * EARLY).unwrap();
    eventually("the first segment is dropped", PATIENCE, || (first_timer(&mut connection) >= early).then_some(()));
    disk.give_back();
    // The far ones are stored anew, the near ones are lost.
    assert_eq!(told(&mut connection, "timerCongestNum"), EARLY + 2 * LATE);
    assert_eq!(told(&mut connection, "timerReadBehind"), 0);
    let halves =
        |connection: &mut Connection| ["ringmqHalvesOpen", "ringmqHalvesDropped"].map(|key| told(connection, key));
    assert_eq!(halves(&mut connection), [EARLY + LATE, 0], "nobody has asked for them yet");
    // Of the level's, some were in memory already.
    let lost_of_level = |connection: &mut Connection| told(connection, "ringmqDroppedDelayed") - EARLY;
    eventually("a line says so", PATIENCE, || (lines(&victim).0 > 0).then_some(()));

    let once = |found: &[wire::Record], prefix: &str, count_of: usize| {
        let found = count(found);
        names(prefix, count_of).iter().all(|name| found.get(name) == Some(&1))
    };
    let none = |found: &[wire::Record], prefix: &str| count(found).keys().all(|name| !name.starts_with(prefix));
    shifted.by(NEAR_MS + 1000);
    let found = victim.wait_for_left(TOPIC, &format!("late-near-{}", LATE - 1));
    assert!(once(&found, "late-near", LATE) && none(&found, "early-near"), "{:?}", count(&found));
    assert!(none(&found, "early-far") && none(&found, "late-far"), "before their time");
    eventually("halves that are gone are counted", PATIENCE, || {
        (halves(&mut connection) == [LATE, EARLY]).then_some(())
    });
    shifted.by(FAR_MS + 1000);
    victim.wait_for_left(TOPIC, &format!("late-far-{}", LATE - 1));
    let found = victim.wait_for_left(TOPIC, &format!("early-far-{}", EARLY - 1));
    assert!(once(&found, "early-far", EARLY) && once(&found, "late-far", LATE), "{:?}", count(&found));
    shifted.by(LEVEL_MS + 10_000);
    let found = victim.wait_for_left(TOPIC, &format!("late-level-{}", LATE - 1));
    assert!(once(&found, "late-level", LATE), "{:?}", count(&found));
    let came = count(&found).keys().filter(|name| name.starts_with("early-level")).count();
    assert_eq!(came + lost_of_level(&mut connection), EARLY, "each came or is counted");
    assert_eq!(lines(&victim), (1, usize::from(came < EARLY)), "{}", victim.cluster.broker.process.transcript());
    assert_eq!(told(&mut connection, "timerCongestNum"), 0);

    victim.again(At("nothing", 1));
    let mut connection = victim.connect();
    send(&mut connection, "last", "TIMER_DELAY_MS\u{1}500\u{2}").unwrap();
    let found = victim.wait_for_left(TOPIC, "last");
    let again = count(&found).into_iter().find(|(name, times)| !name.starts_with('.') && *times > 1);
    assert_eq!(again, None, "nothing comes a second time");
    // In this order the folder can be removed.
    victim.cluster.broker.kill();
    drop(disk);
}
