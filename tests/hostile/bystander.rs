//! A well-behaved client beside the attack: it sends a message, pulls it back, and times both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::strict;
use super::support::eventually;
use super::support::server::Broker;
use super::support::wire::{self, Connection, Outgoing, records};

pub(crate) const TOPIC: &str = "bystander_topic";

/// The Java client's own patience with a request.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) struct Bystander {
    done: Arc<AtomicUsize>,
    leave: Arc<AtomicBool>,
    work: JoinHandle<Duration>,
}

impl Bystander {
    pub(crate) fn start(broker: &Broker) -> Bystander {
        let done = Arc::new(AtomicUsize::new(0));
        let leave = Arc::new(AtomicBool::new(false));
        let connection = broker.connect();
        let (count, end) = (Arc::clone(&done), Arc::clone(&leave));
        let work = thread::spawn(move || work(connection, &count, &end));
        Bystander { done, leave, work }
    }

    /// Waits until `more` further rounds were done.
    pub(crate) fn has_done(&self, more: usize) {
        let goal = self.done.load(Ordering::Relaxed) + more;
        eventually("the bystander goes on", Duration::from_secs(60), || {
            assert!(!self.work.is_finished(), "the bystander was disturbed");
            (self.done.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    pub(crate) fn end(self) {
        self.leave.store(true, Ordering::Relaxed);
        let worst = self.work.join().unwrap();
        println!("the bystander's slowest request took {worst:?}");
        assert!(worst < PATIENCE || !strict(), "a Java client would have given up after {worst:?}");
    }
}

fn work(mut connection: Connection, done: &AtomicUsize, leave: &AtomicBool) -> Duration {
    let mut worst = Duration::ZERO;
    let mut timed = |start: Instant| worst = worst.max(start.elapsed());
    while !leave.load(Ordering::Relaxed) {
        let body = format!("round {}", done.load(Ordering::Relaxed)).into_bytes();
        let ext = Outgoing { topic: TOPIC, queue: 0, properties: "", body: &body }.ext();
        let start = Instant::now();
        let reply = connection.call(wire::SEND_MESSAGE_V2, &ext, &body).unwrap();
        timed(start);
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
        let offset = reply.header.number("queueOffset");
        let ext = wire::pull(TOPIC, 0, offset, 1, 2_000);
        let start = Instant::now();
        let reply = connection.call(wire::PULL_MESSAGE, &ext, &[]).unwrap();
        timed(start);
        assert_eq!(reply.header.code, 0, "{:?}", reply.header.remark);
        assert_eq!(records(&reply.body)[0].body, body);
        done.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(2));
    }
    worst
}
