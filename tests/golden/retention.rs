//! How long messages are kept, as a client sees it: by their age and the hour, by an operator's order, and by the room that
//! is left on the disk.

use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::scenarios;
use super::scene::{Scene, Setup};
use super::support::clock::Shifted;
use super::support::disk::{self, Disk};
use super::support::server::{Cluster, Make};
use super::support::skip;
use super::support::wire::{self, Outgoing};

scenarios! {
    messages_kept_for_their_time
    messages_dropped_for_room
    queues_whose_messages_are_gone
}

/// Bytes of a file of the log.
const FILE: i64 = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than the rounds that an operator's order is good for.
const ROUNDS: Duration = Duration::from_secs(4);

/// Small files, looked at often. RingMQ's have to hold two of the largest messages.
const OFTEN: [(&str, &str); 5] = [
    ("maxMessageSize", "65536"),
    ("mappedFileSizeCommitLog", "1048576"),
    ("mappedFileSizeConsumeQueue", "2000"),
    ("cleanResourceInterval", "100"),
    ("deleteCommitLogFilesInterval", "1"),
];

const DELETE_EXPIRED: i32 = 329;
const CLEAN_QUEUES: i32 = 306;
const SEARCH_OFFSET: i32 = 29;
const EARLIEST_TIME: i32 = 32;

/// The hours of the day around the one that is so many hours from now.
fn hours(from_now: u32) -> String {
    let out = Command::new("date").arg("+%H").output().unwrap();
    let hour: u32 = String::from_utf8(out.stdout).unwrap().trim().parse().unwrap();
    // An hour may begin meanwhile.
    [23, 0, 1].map(|more| format!("{:02}", (hour + from_now + more) % 24)).join(";")
}

fn now() -> String {
    hours(0)
}

fn another() -> String {
    hours(12)
}

/// A log whose files grow old.
struct Aging {
    scene: Scene,
    shifted: Shifted,
    passed: Duration,
    /// By queue offset: where the messages of `orders` are.
    positions: Vec<i64>,
}

impl Aging {
    fn start(setup: Setup, more: &[(&'static str, &str)]) -> Aging {
        let shifted = Shifted::default();
        let scene = setup.start_with(&[&OFTEN[..], more].concat(), vec![shifted.env()]);
        Aging::of(scene, shifted)
    }

    fn of(scene: Scene, shifted: Shifted) -> Aging {
        scene.topic("orders");
        Aging { scene, shifted, passed: Duration::ZERO, positions: Vec::new() }
    }

    /// Sends until a message lies in this file of the log.
    fn fill_to(&mut self, file: i64) {
        let body = vec![b'x'; 32 * 1024];
        let ext = Outgoing { topic: "orders", queue: 0, properties: "", body: &body }.ext();
        let ext: Vec<_> = ext.iter().map(|(key, value)| (*key, value.as_str())).collect();
        while self.positions.last().is_none_or(|position| position / FILE < file) {
            let sent = self.scene.ask(wire::SEND_MESSAGE_V2, &ext, &body);
            assert_eq!(sent.header.code, 0, "{:?}", sent.header.remark);
            self.positions.push(self.scene.position_of(sent.header.field("msgId")));
        }
        // RingMQ takes as the time of a full file's last message the one at which it is written.
        self.scene.until_maximum("orders", "0", i64::try_from(self.positions.len()).unwrap());
    }

    /// What is stored so far is so many days older: RingMQ goes by its clock and the time of the last message of a file,
    /// Apache's by the time at which the file was last written.
    fn days_pass(&mut self, days: u32) {
        match Make::under_test() {
            Make::Ours => {
                self.passed += days * DAY;
                self.shifted.by(i64::try_from(self.passed.as_millis()).unwrap());
            }
            Make::Apache(_) => {
                for entry in fs::read_dir(self.scene.cluster.broker.store().join("commitlog")).unwrap() {
                    let file = File::options().write(true).open(entry.unwrap().path()).unwrap();
                    let written = file.metadata().unwrap().modified().unwrap();
                    file.set_modified(written - days * DAY).unwrap();
                }
            }
        }
    }

    fn minimum(&mut self) -> usize {
        minimum(&mut self.scene)
    }

    /// Waits until messages are gone that are here now. Apache's broker begins to look a minute after its start.
    fn until_some_go(&mut self, then: impl FnOnce(&mut Aging)) {
        let before = self.minimum();
        then(self);
        self.scene.until("something goes", |scene| (minimum(scene) > before).then_some(()));
    }

    /// Observes where the log begins, once that has not changed for so many rounds that nothing goes any more.
    fn observe(&mut self, what: &str) {
        let mut settled = (self.minimum(), Instant::now());
        let first = self.scene.until("nothing goes any more", |scene| {
            let (first, since) = settled;
            let least = minimum(scene);
            if least != first {
                settled = (least, Instant::now());
            }
            (least == first && since.elapsed() > ROUNDS).then_some(first)
        });
        let file = self.positions[first] / FILE;
        let is_first = first == 0 || self.positions[first - 1] / FILE < file;
        self.scene.observe(what, &json!({ "first file": file, "from its first message": is_first }));
    }

    /// Observes what is answered to a pull of what is gone, and of the first that is left.
    fn observe_pulls(&mut self, what: &str) {
        let first = self.minimum();
        for (which, offset) in
            [("the first of all", 0), ("the last that is gone", first - 1), ("the first left", first)]
        {
            let offset = i64::try_from(offset).unwrap();
            let frame = self.scene.call(wire::PULL_MESSAGE, &wire::pull("orders", 0, offset, 1, 0));
            let next = usize::try_from(frame.header.number("nextBeginOffset")).unwrap();
            let next = match () {
                () if next == first => "the first left",
                () if next == first + 1 => "the one behind it",
                () => "another",
            };
            let records = wire::records(&frame.body).len();
            let header = frame.header;
            let members = json!({ "code": header.code, "remark": header.remark, "next": next, "records": records });
            self.scene.observe(&format!("{what}: {which}"), &members);
        }
    }
}

/// The offset of the first message in `orders` that is left.
fn minimum(scene: &mut Scene) -> usize {
    let least = scene.ask(wire::GET_MIN_OFFSET, &[("topic", "orders"), ("queueId", "0")], &[]).header.number("offset");
    usize::try_from(least).unwrap()
}

/// Files go when they are older than `fileReservedTime`, at the hours of `deleteWhen` or when an operator asks for it.
fn messages_kept_for_their_time(setup: Setup) -> Scene {
    let mut log = Aging::start(setup, &[("fileReservedTime", "48"), ("deleteWhen", &now())]);
    log.until_some_go(|log| {
        log.fill_to(2);
        log.days_pass(3);
        // The third file has old messages and new ones.
        log.fill_to(4);
    });
    log.observe("at its hour");
    log.observe_pulls("at its hour");
    log.scene.configure_broker("deleteWhen", &another());
    log.days_pass(3);
    log.fill_to(6);
    log.observe("at another hour");
    log.until_some_go(|log| drop(log.scene.answer("an operator asks", DELETE_EXPIRED, &[], &[])));
    log.observe("asked for");
    log.days_pass(3);
    log.fill_to(8);
    log.observe("asked for long ago");
    log.scene.configure_broker("fileReservedTime", "100");
    log.scene.configure_broker("deleteWhen", &now());
    log.observe("at its hour, but to be kept longer");
    log.until_some_go(|log| log.scene.configure_broker("fileReservedTime", "48"));
    log.observe("at its hour, and to be kept as long as before");
    log.scene
}

const DISK_MIB: u64 = 400;

/// Files go at any hour on a disk that is fuller than it should be: the old ones, then any. A full one takes no messages.
fn messages_dropped_for_room(setup: Setup) -> Option<Scene> {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::mount(&folder.path().join("image"), &Cluster::store_in(folder.path()), DISK_MIB);
    let disk = disk.inspect_err(|reason| skip(&format!("no small disk: {reason}"))).ok()?;
    let levels = [
        ("diskMaxUsedSpaceRatio", "30"),
        ("diskSpaceCleanForciblyRatio", "60"),
        ("diskSpaceWarningLevelRatio", "80"),
        ("fileReservedTime", "48"),
    ];
    let shifted = Shifted::default();
    let hours = another();
    let settings = [&OFTEN[..], &levels, &[("deleteWhen", &hours)]].concat();
    let scene = setup.start_in(folder, &settings, vec![shifted.env(), disk::filled()]);
    let mut log = Aging::of(scene, shifted);
    log.until_some_go(|log| {
        log.fill_to(2);
        log.days_pass(3);
        log.fill_to(4);
        disk.take(DISK_MIB * 40 / 100);
    });
    log.observe("fuller than it should be");
    log.scene.configure_broker("cleanFileForciblyEnable", "false");
    disk.take(DISK_MIB * 65 / 100);
    log.observe("nearly full, but nothing is to be forced");
    log.until_some_go(|log| log.scene.configure_broker("cleanFileForciblyEnable", "true"));
    log.observe("nearly full");
    log.fill_to(6);
    log.observe("nearly full, and some more");
    log.observe_pulls("nearly full");
    disk.take(DISK_MIB * 82 / 100);
    let message = Outgoing { topic: "orders", queue: 0, properties: "", body: b"m" };
    let refused = log.scene.until("a send is refused", |scene| {
        let frame = scene.send_raw(&[], &message);
        (frame.header.code != 0).then_some(frame)
    });
    log.scene.observe("full", &json!({ "code": refused.header.code }));
    log.observe_pulls("full");
    disk.give_back();
    log.scene.until("a send is taken", |scene| (scene.send_raw(&[], &message).header.code == 0).then_some(()));
    Some(log.scene)
}

/// A queue that nobody wrote to for long has no message left, but its offsets go on.
fn queues_whose_messages_are_gone(setup: Setup) -> Scene {
    let mut log = Aging::start(setup, &[("fileReservedTime", "48"), ("deleteWhen", &now())]);
    log.scene.topic("quiet");
    for group in ["billing", "shipping"] {
        log.scene.group(group, "quiet");
    }
    for body in ["a", "b", "c"] {
        log.scene.put("quiet", body, "");
    }
    let queue = [("topic", "quiet"), ("queueId", "0")];
    let commit = [&queue[..], &[("consumerGroup", "billing"), ("commitOffset", "2")]].concat();
    assert_eq!(log.scene.ask(UPDATE_CONSUMER_OFFSET, &commit, &[]).header.code, 0);
    log.until_some_go(|log| {
        log.fill_to(2);
        log.days_pass(3);
        log.fill_to(3);
    });
    log.observe("the log");
    observe_quiet(&mut log.scene, "gone");
    log.scene.answer("cleaned", CLEAN_QUEUES, &[], &[]);
    observe_quiet(&mut log.scene, "cleaned");
    let sent = log.scene.send_raw(&[], &Outgoing { topic: "quiet", queue: 0, properties: "", body: b"next" });
    log.scene.observe("sent afterwards", &json!({ "queueOffset": sent.header.field("queueOffset") }));
    log.scene
}

fn observe_quiet(scene: &mut Scene, when: &str) {
    let queue = [("topic", "quiet"), ("queueId", "0")];
    scene.answer(&format!("{when}: minimum"), wire::GET_MIN_OFFSET, &queue, &[]);
    scene.answer(&format!("{when}: maximum"), wire::GET_MAX_OFFSET, &queue, &[]);
    for offset in 0..=4 {
        let frame = scene.call(wire::PULL_MESSAGE, &wire::pull("quiet", 0, offset, 32, 0));
        scene.observe_frame(&format!("{when}: pulled at {offset}"), &frame);
    }
    scene.answer(&format!("{when}: earliest time"), EARLIEST_TIME, &queue, &[]);
    let time = [&queue[..], &[("timestamp", "1000")]].concat();
    scene.answer(&format!("{when}: searched before the log"), SEARCH_OFFSET, &time, &[]);
    for group in ["billing", "shipping"] {
        let ext = [&queue[..], &[("consumerGroup", group)]].concat();
        scene.answer(&format!("{when}: offset of {group}"), wire::QUERY_CONSUMER_OFFSET, &ext, &[]);
    }
}

const UPDATE_CONSUMER_OFFSET: i32 = 15;
