//! A part of a queue and its reading: what is asked of the broker, and what must come back. Every record must be the
//! one after the last.

use super::records::split_record;
use crate::audit::{Audit, QueueKey};
use crate::lane::Span;
use crate::reply::{Frame, Reply, cause, remark};
use crate::tally::Tally;
use crate::target::ByQueue;
use crate::wire::{Head, HeaderKind, OPAQUE_BASE, OPAQUE_SPAN, Stamp, encode};
use ringmq_protocol::sql::SqlFilter;

const PULL_MESSAGE: u16 = 11;
const FOUND: i32 = 0;
/// Nothing there yet, or not yet to be seen: ask again.
const AGAIN: [i32; 2] = [19, NONE_MATCHES];
/// The answer says from where to ask again.
const NONE_MATCHES: i32 = 20;
/// The subscription is in the request, and the broker may wait until there is something.
const SYS_FLAG: &str = "6";
/// How long a broker may wait; Java's push consumer asks for as long.
const SUSPEND_MS: &str = "15000";

/// What all pulls of a run have in common.
#[derive(Debug, Clone)]
pub(crate) struct PullShape<'a> {
    pub(crate) kind: HeaderKind,
    pub(crate) groups: Vec<String>,
    pub(crate) topics: &'a [String],
    pub(crate) batch: u32,
    pub(crate) verify_crc: bool,
    /// Bodies are stamped by a run.
    pub(crate) stamped: Option<Stamped>,
    pub(crate) filter: Option<&'a Filter>,
}

/// An SQL92 expression over the properties of messages.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) expression: String,
    pub(crate) compiled: SqlFilter,
    /// The offsets of the messages that match, once they are known; until then everything is pulled to find out.
    pub(crate) matching: Option<Audit>,
}

/// What the stamps of bodies are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamped {
    pub(crate) run: u64,
    pub(crate) since: Since,
}

/// From when on a message counts as waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// From its intended send, in nanoseconds of the run's clock.
    Sent,
    /// From the time at which it was due, in milliseconds since 1970; those due before `measure_from_ms` are left out of
    /// the figures.
    Due { measure_from_ms: u64 },
    /// It is only recognized.
    Never,
}

/// Which part of what is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) group: u32,
    pub(crate) topic: u32,
    pub(crate) queue: u32,
    /// The broker, and the queue's place in its list.
    pub(crate) place: (usize, usize),
    /// From `first` to before `end`.
    pub(crate) first: u64,
    pub(crate) end: u64,
}

impl Stretch {
    /// The end of a stretch that is read as long as messages come.
    pub(crate) const ENDLESS: u64 = u64::MAX;
}

/// A stretch of one queue with the state of its reading.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(super) stretch: Stretch,
    pub(super) next: u64,
    round: u32,
    /// The opaque of the pull under way, zero without one.
    opaque: u32,
    asked_ns: u64,
}

impl Part {
    pub(crate) fn new(stretch: Stretch) -> Part {
        Part { stretch, next: stretch.first, round: 0, opaque: 0, asked_ns: 0 }
    }

    /// Puts the pull of what comes next into `out`. `(place, count)` is the part's among those of its connection.
    pub(super) fn pull(
        &mut self,
        shape: &PullShape<'_>,
        (place, count): (u32, u32),
        intended_ns: u64,
        out: &mut Vec<u8>,
    ) {
        self.round = (self.round + 1) % (OPAQUE_SPAN / count);
        self.opaque = OPAQUE_BASE + self.round * count + place;
        self.asked_ns = intended_ns;
        append_pull(shape, self, out);
    }

    /// The queue, as audits know it.
    fn key(&self) -> QueueKey {
        let (broker, queue) = self.stretch.place;
        (broker as u16, queue as u32)
    }

    /// Messages that are still to be read; `None` while nobody has said where the end is.
    pub(super) fn left(&self, goals: Option<&ByQueue<u64>>) -> Option<u64> {
        let (broker, queue) = self.stretch.place;
        let goal = goals.and_then(|goals| goals.get(broker)?.get(queue)).copied();
        let end = goal.unwrap_or(self.stretch.end);
        (end != Stretch::ENDLESS).then(|| end.saturating_sub(self.next))
    }
}

/// What is wrong with what was read.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Faults {
    /// Records that are not the one after the last, or not of the queue that was asked for.
    pub(crate) misplaced: u64,
    pub(crate) wrong_crc: u64,
    pub(crate) unreadable: u64,
    /// Messages that were there and were not delivered by the end of the run.
    pub(crate) missing: u64,
    /// Messages that another run has sent.
    pub(crate) foreign: u64,
    /// Messages that came before they were due.
    pub(crate) early: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, other: &Faults) {
        self.misplaced += other.misplaced;
        self.wrong_crc += other.wrong_crc;
        self.unreadable += other.unreadable;
        self.missing += other.missing;
        self.foreign += other.foreign;
        self.early += other.early;
    }
}

/// The part that a reply belongs to; its pull is over.
pub(super) fn asked<'p>(parts: &'p mut [Part], reply: &Reply) -> Option<(u32, &'p mut Part)> {
    let place = reply.opaque.checked_sub(OPAQUE_BASE)? % u32::try_from(parts.len()).ok()?;
    let part = &mut parts[place as usize];
    if part.opaque != reply.opaque {
        return None;
    }
    part.opaque = 0;
    Some((place, part))
}

/// The parts of a lane that a reply changes while its connection is borrowed.
pub(super) struct Intake<'l> {
    pub(super) shape: &'l PullShape<'l>,
    /// The measured time; without it all of it is.
    pub(super) span: Option<&'l Span>,
    pub(super) now: u64,
    /// Now, in nanoseconds since 1970, where something is due by that.
    pub(super) system_ns: u64,
    /// What was recognized by its number.
    pub(super) seen: &'l mut Audit,
    pub(super) tally: &'l mut Tally,
    pub(super) faults: &'l mut Faults,
}

impl Intake<'_> {
    /// Checks a reply's records. False: the part cannot be read further.
    pub(super) fn take_in(&mut self, frame: &Frame<'_>, reply: &Reply, part: &mut Part) -> bool {
        let matching = self.shape.filter.and_then(|filter| filter.matching.as_ref());
        if let (Some(matching), FOUND | NONE_MATCHES) = (matching, reply.code) {
            return self.take_in_filtered(frame, reply, part, matching);
        }
        if AGAIN.contains(&reply.code) {
            return true;
        }
        if reply.code != FOUND {
            self.tally.refused(reply.code, cause(frame), || remark(frame));
            return false;
        }
        self.tally.successes += 1;
        let (mut rest, before, mut bytes) = (frame.body, part.next, 0);
        while !rest.is_empty() {
            let Some((record, after)) = split_record(rest) else {
                self.faults.unreadable += 1;
                return false;
            };
            rest = after;
            if record.queue_id != part.stretch.queue || record.queue_offset != part.next {
                self.faults.misplaced += 1;
                return false;
            }
            if self.shape.verify_crc && !record.crc_is_right() {
                self.faults.wrong_crc += 1;
            }
            if let Some(filter) = self.shape.filter
                && filter.compiled.matches(record.properties())
            {
                self.seen.record(part.key(), record.queue_offset);
            }
            if let Some(stamped) = self.shape.stamped {
                self.receive(stamped, part.key(), record.body);
            }
            part.next += 1;
            bytes += record.body.len() as u64;
        }
        if part.next == before || reply.offset != i64::try_from(part.next).ok() {
            self.faults.misplaced += 1;
            return false;
        }
        if self.span.is_none_or(|span| span.measures(self.now)) {
            self.tally.acknowledged(self.now, part.next - before);
            self.tally.measured_bytes += bytes;
        }
        if !self.times_messages() && self.span.is_none_or(|span| part.asked_ns >= span.measure_from) {
            self.tally.latency(part.asked_ns, self.now.saturating_sub(part.asked_ns));
        }
        true
    }

    /// Of a reply to a pull with a filter: it has to bring exactly the messages that match, from where the part is up to
    /// where the broker says that it goes on.
    fn take_in_filtered(&mut self, frame: &Frame<'_>, reply: &Reply, part: &mut Part, matching: &Audit) -> bool {
        let Some(end) = reply.offset.and_then(|end| u64::try_from(end).ok()).filter(|end| *end > part.next) else {
            self.faults.misplaced += 1;
            return false;
        };
        let (mut rest, mut at, mut count, mut bytes) = (frame.body, part.next, 0, 0);
        while !rest.is_empty() {
            let Some((record, after)) = split_record(rest) else {
                self.faults.unreadable += 1;
                return false;
            };
            rest = after;
            let follows = record.queue_id == part.stretch.queue && (at..end).contains(&record.queue_offset);
            if !follows || !matching.holds(part.key(), record.queue_offset) {
                self.faults.misplaced += 1;
                return false;
            }
            if self.shape.verify_crc && !record.crc_is_right() {
                self.faults.wrong_crc += 1;
            }
            at = record.queue_offset + 1;
            count += 1;
            bytes += record.body.len() as u64;
        }
        if count != matching.count_between(part.key(), part.next, end) {
            self.faults.misplaced += 1;
            return false;
        }
        part.next = end;
        self.tally.successes += 1;
        if self.span.is_none_or(|span| span.measures(self.now)) {
            self.tally.acknowledged(self.now, count);
            self.tally.measured_bytes += bytes;
        }
        if self.span.is_none_or(|span| part.asked_ns >= span.measure_from) {
            self.tally.latency(part.asked_ns, self.now.saturating_sub(part.asked_ns));
        }
        true
    }

    /// Latency is a message's own and not that of the pull that brought it.
    fn times_messages(&self) -> bool {
        self.shape.stamped.is_some_and(|stamped| stamped.since != Since::Never)
    }

    /// A message that a run has stamped: which one it is, and how long it was waited for.
    fn receive(&mut self, stamped: Stamped, key: QueueKey, body: &[u8]) {
        let Some(stamp) = Stamp::read(body).filter(|stamp| stamp.run == stamped.run) else {
            self.faults.foreign += 1;
            return;
        };
        match stamped.since {
            Since::Sent => {
                if self.span.is_none_or(|span| stamp.at >= span.measure_from) {
                    self.tally.latency(stamp.at, self.now.saturating_sub(stamp.at));
                }
                return;
            }
            Since::Due { measure_from_ms } => {
                let due_ns = stamp.at.saturating_mul(1_000_000);
                self.faults.early += u64::from(self.system_ns < due_ns);
                if stamp.at >= measure_from_ms {
                    self.tally.latency(due_ns, self.system_ns.saturating_sub(due_ns));
                }
            }
            Since::Never => {}
        }
        self.seen.record(key, stamp.number);
    }
}

fn append_pull(shape: &PullShape<'_>, part: &Part, out: &mut Vec<u8>) {
    let Stretch { group, topic, queue, end, .. } = part.stretch;
    // Never beyond the part's end, so that the parts do not overlap and new messages stay out of it.
    let wanted = u64::from(shape.batch).min(end - part.next);
    let (queue, offset, wanted) = (queue.to_string(), part.next.to_string(), wanted.to_string());
    let filter = shape.filter.filter(|filter| filter.matching.is_some());
    let (expression, kind) = filter.map_or(("*", "TAG"), |filter| (filter.expression.as_str(), "SQL92"));
    let fields = [
        ("consumerGroup", shape.groups[group as usize].as_str()),
        ("topic", &shape.topics[topic as usize]),
        ("queueId", &queue),
        ("queueOffset", &offset),
        ("maxMsgNums", &wanted),
        ("sysFlag", SYS_FLAG),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", SUSPEND_MS),
        ("subscription", expression),
        ("subVersion", "0"),
        ("expressionType", kind),
    ];
    encode(shape.kind, Head { code: PULL_MESSAGE, flag: 0, opaque: part.opaque }, &fields, out);
}

#[cfg(test)]
mod tests {
    use super::super::records::tests::encode as record;
    use super::*;

    fn check(bodies: &[Vec<u8>], next_begin: i64) -> (bool, u64, Faults) {
        let shape = PullShape {
            kind: HeaderKind::Json,
            groups: vec!["G".to_owned()],
            topics: &["T".to_owned()],
            batch: 32,
            verify_crc: true,
            stamped: None,
            filter: None,
        };
        let mut part = Part::new(Stretch { group: 0, topic: 0, queue: 2, place: (0, 0), first: 10, end: 100 });
        let (mut tally, mut faults, mut seen) = (Tally::new().unwrap(), Faults::default(), Audit::default());
        let body = bodies.concat();
        let frame = Frame { binary: false, header: b"{}", body: &body };
        let reply = Reply { code: 0, opaque: 1, queue_id: None, offset: Some(next_begin), position: None };
        let mut intake = Intake {
            shape: &shape,
            span: None,
            now: 5,
            system_ns: 0,
            seen: &mut seen,
            tally: &mut tally,
            faults: &mut faults,
        };
        let goes_on = intake.take_in(&frame, &reply, &mut part);
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

    #[test]
    fn nothing_is_missing_before_somebody_says_where_the_end_is() {
        let stretch = Stretch { group: 0, topic: 0, queue: 0, place: (0, 1), first: 5, end: Stretch::ENDLESS };
        let part = Part::new(stretch);
        assert_eq!(part.left(None), None);
        assert_eq!(part.left(Some(&Vec::new())), None, "the queue's goal is not known");
        assert_eq!(part.left(Some(&vec![vec![9, 7]])), Some(2));
        assert_eq!(Part::new(Stretch { end: 6, ..stretch }).left(None), Some(1));
    }
}
