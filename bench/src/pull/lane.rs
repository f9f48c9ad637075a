//! One load thread of `pull`: its connections and the parts of queues that each of them reads, one pull a part under
//! way at a time. Every record must be the one after the last. Shares nothing while it runs.

use std::collections::VecDeque;
use std::io;

use mio::Token;

use super::records::split_record;
use crate::link::{Link, Scratch};
use crate::pace::{Clock, Pace, thread_cpu_ns};
use crate::reply::{Frame, Reply, ReplyScanner, remark};
use crate::tally::Tally;
use crate::wire::{HeaderKind, OPAQUE_BASE, OPAQUE_SPAN, encode};

const PULL_MESSAGE: u16 = 11;
const FOUND: i32 = 0;
/// The subscription is in the request; no suspension, because everything asked for is there.
const SYS_FLAG: &str = "4";

/// What all pulls of a run have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PullShape<'a> {
    pub(crate) kind: HeaderKind,
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) batch: u32,
    pub(crate) verify_crc: bool,
}

/// A stretch of one queue, read from `first` to before `end`.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) queue: u32,
    pub(crate) first: u64,
    pub(crate) end: u64,
    next: u64,
    round: u32,
    /// The opaque of the pull under way, zero without one.
    opaque: u32,
    asked_ns: u64,
}

impl Part {
    pub(crate) fn new(queue: u32, first: u64, end: u64) -> Part {
        Part { queue, first, end, next: first, round: 0, opaque: 0, asked_ns: 0 }
    }
}

/// What is wrong with what was read.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Faults {
    /// Records that are not the one after the last, or not of the queue that was asked for.
    pub(crate) misplaced: u64,
    pub(crate) wrong_crc: u64,
    pub(crate) unreadable: u64,
    /// Messages that were there before the run and were not delivered by its end.
    pub(crate) missing: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, other: &Faults) {
        self.misplaced += other.misplaced;
        self.wrong_crc += other.wrong_crc;
        self.unreadable += other.unreadable;
        self.missing += other.missing;
    }
}

#[derive(Debug)]
pub(crate) struct Reader {
    link: Link,
    parts: Vec<Part>,
    /// Parts that no pull is under way for.
    ready: VecDeque<u32>,
    under_way: u32,
    window: u32,
    alive: bool,
}

impl Reader {
    pub(crate) fn new(link: Link, parts: Vec<Part>, window: u32) -> Reader {
        let ready = (0..parts.len() as u32).collect();
        Reader { link, parts, ready, under_way: 0, window, alive: true }
    }
}

#[derive(Debug)]
pub(crate) struct Lane<'a> {
    pace: Pace,
    clock: Clock,
    shape: PullShape<'a>,
    readers: Vec<Reader>,
    /// Read again and again until then; `None`: once.
    until: Option<u64>,
    give_up_after: u64,
    scratch: Scratch,
    scanner: ReplyScanner,
    tally: Tally,
    faults: Faults,
}

impl<'a> Lane<'a> {
    pub(crate) fn new(
        mut readers: Vec<Reader>,
        shape: PullShape<'a>,
        spins: bool,
        clock: Clock,
        until: Option<u64>,
        give_up_after: u64,
    ) -> anyhow::Result<Lane<'a>> {
        let pace = Pace::new(spins)?;
        for (i, reader) in readers.iter_mut().enumerate() {
            reader.link.register(pace.poll.registry(), Token(i))?;
        }
        Ok(Lane {
            pace,
            clock,
            shape,
            readers,
            until,
            give_up_after,
            scratch: Scratch::new(),
            scanner: ReplyScanner::of_pulls(),
            tally: Tally::new()?,
            faults: Faults::default(),
        })
    }

    /// Reads to the end, or until the time is over.
    pub(crate) fn run(mut self) -> anyhow::Result<(Tally, Faults)> {
        let begun = self.clock.now_ns();
        let mut last_reply = begun;
        let mut ready = Vec::with_capacity(1024);
        (0..self.readers.len()).for_each(|i| self.refill(i));
        while self.under_way() > 0 && self.clock.now_ns() < last_reply + self.give_up_after {
            let give_up = last_reply + self.give_up_after;
            let (from, to) = self.pace.wait(&self.clock, give_up, &mut ready)?;
            self.tally.waited_ns += to - from;
            for i in &ready {
                self.serve(*i);
            }
            if !ready.is_empty() {
                last_reply = self.clock.now_ns();
            }
        }
        self.tally.thread_ns = last_reply - begun;
        self.tally.cpu_ns = thread_cpu_ns();
        self.tally.unanswered += self.under_way();
        if self.until.is_none() {
            let left = |part: &Part| part.end - part.next;
            self.faults.missing += self.readers.iter().flat_map(|r| &r.parts).map(left).sum::<u64>();
        }
        Ok((self.tally, self.faults))
    }

    fn under_way(&self) -> u64 {
        self.readers.iter().filter(|r| r.alive).map(|r| u64::from(r.under_way)).sum()
    }

    /// Starts pulls while the connection's window has room and a part is ready.
    fn refill(&mut self, i: usize) {
        let now = self.clock.now_ns();
        let reader = &mut self.readers[i];
        if !reader.alive || self.until.is_some_and(|until| now >= until) {
            return;
        }
        while reader.under_way < reader.window {
            let Some(place) = reader.ready.pop_front() else { break };
            let count = reader.parts.len() as u32;
            let part = &mut reader.parts[place as usize];
            if part.next >= part.end {
                if self.until.is_none() || part.first >= part.end {
                    continue;
                }
                part.next = part.first;
            }
            part.round = (part.round + 1) % (OPAQUE_SPAN / count);
            part.opaque = OPAQUE_BASE + part.round * count + place;
            part.asked_ns = now;
            append_pull(&self.shape, part, reader.link.outbox());
            reader.under_way += 1;
            self.tally.requests += 1;
        }
        if let Err(e) = reader.link.flush() {
            self.lose(i, &e);
        }
    }

    fn serve(&mut self, i: usize) {
        let Lane { readers, scratch, scanner, tally, faults, clock, shape, .. } = self;
        let reader = &mut readers[i];
        if !reader.alive {
            return;
        }
        let Reader { link, parts, ready, under_way, .. } = reader;
        let now = clock.now_ns();
        let read = link.read_frames(scratch, |frame| {
            let reply = scanner.scan(&frame).ok_or_else(|| io::Error::other("a header that is not RocketMQ's"))?;
            let Some((place, part)) = asked(parts, &reply) else {
                tally.stray_replies += 1;
                return Ok(());
            };
            part.opaque = 0;
            *under_way -= 1;
            if take_in(&frame, &reply, part, shape, now, tally, faults) {
                ready.push_back(place);
            }
            Ok(())
        });
        match read {
            Ok(()) => self.refill(i),
            Err(e) => self.lose(i, &e),
        }
    }

    fn lose(&mut self, i: usize, error: &io::Error) {
        let reader = &mut self.readers[i];
        reader.alive = false;
        reader.link.deregister(self.pace.poll.registry());
        self.tally.unanswered += u64::from(reader.under_way);
        self.tally.connection_lost(error);
    }
}

fn asked<'p>(parts: &'p mut [Part], reply: &Reply) -> Option<(u32, &'p mut Part)> {
    let place = reply.opaque.checked_sub(OPAQUE_BASE)? % u32::try_from(parts.len()).ok()?;
    let part = &mut parts[place as usize];
    (part.opaque == reply.opaque).then_some((place, part))
}

/// Checks a reply's records. False: the part cannot be read further.
fn take_in(
    frame: &Frame<'_>,
    reply: &Reply,
    part: &mut Part,
    shape: &PullShape<'_>,
    now: u64,
    tally: &mut Tally,
    faults: &mut Faults,
) -> bool {
    if reply.code != FOUND {
        tally.refused(reply.code, || remark(frame));
        return false;
    }
    tally.successes += 1;
    tally.measured_replies += 1;
    tally.latency.saturating_record(now.saturating_sub(part.asked_ns));
    let mut rest = frame.body;
    let before = part.next;
    while !rest.is_empty() {
        let Some((record, after)) = split_record(rest) else {
            faults.unreadable += 1;
            return false;
        };
        rest = after;
        if record.queue_id != part.queue || record.queue_offset != part.next {
            faults.misplaced += 1;
            return false;
        }
        if shape.verify_crc && !record.crc_is_right() {
            faults.wrong_crc += 1;
        }
        part.next += 1;
        tally.measured_messages += 1;
        tally.measured_bytes += record.body.len() as u64;
    }
    if part.next == before || reply.offset != i64::try_from(part.next).ok() {
        faults.misplaced += 1;
        return false;
    }
    true
}

fn append_pull(shape: &PullShape<'_>, part: &Part, out: &mut Vec<u8>) {
    // Never beyond the part's end, so that the parts do not overlap and new messages stay out of it.
    let wanted = u64::from(shape.batch).min(part.end - part.next);
    let (queue, offset, wanted) = (part.queue.to_string(), part.next.to_string(), wanted.to_string());
    let fields = [
        ("consumerGroup", shape.group),
        ("topic", shape.topic),
        ("queueId", &queue),
        ("queueOffset", &offset),
        ("maxMsgNums", &wanted),
        ("sysFlag", SYS_FLAG),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", "0"),
        ("subscription", "*"),
        ("subVersion", "0"),
        ("expressionType", "TAG"),
    ];
    encode(shape.kind, PULL_MESSAGE, part.opaque, &fields, &[], out);
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::encode as record;
    use super::*;

    fn check(bodies: &[Vec<u8>], next_begin: i64) -> (bool, u64, Faults) {
        let shape = PullShape { kind: HeaderKind::Json, group: "G", topic: "T", batch: 32, verify_crc: true };
        let mut part = Part::new(2, 10, 100);
        let (mut tally, mut faults) = (Tally::new().unwrap(), Faults::default());
        let body = bodies.concat();
        let frame = Frame { binary: false, header: b"{}", body: &body };
        let reply = Reply { code: 0, opaque: 1, queue_id: None, offset: Some(next_begin) };
        let goes_on = take_in(&frame, &reply, &mut part, &shape, 5, &mut tally, &mut faults);
        (goes_on, tally.measured_messages, faults)
    }

    #[test]
    fn only_the_next_records_of_the_queue_will_do() {
        let (goes_on, count, _) = check(&[record(2, 10, false, b"a"), record(2, 11, false, b"b")], 12);
        assert!(goes_on && count == 2);
        for (bodies, next) in [
            (vec![record(2, 10, false, b"a"), record(2, 12, false, b"b")], 13),
            (vec![record(2, 10, false, b"a"), record(2, 10, false, b"b")], 11),
            (vec![record(3, 10, false, b"a")], 11),
            (vec![record(2, 10, false, b"a")], 12),
            (vec![], 10),
        ] {
            let (goes_on, _, faults) = check(&bodies, next);
            assert!(!goes_on && faults.misplaced == 1);
        }
    }

    #[test]
    fn a_record_with_a_wrong_checksum_or_none_at_all_is_counted() {
        let mut damaged = record(2, 10, false, b"abc");
        damaged[88] ^= 0xff;
        assert_eq!(check(&[damaged], 11).2.wrong_crc, 1);
        assert_eq!(check(&[vec![1, 2, 3]], 11).2.unreadable, 1);
    }
}
