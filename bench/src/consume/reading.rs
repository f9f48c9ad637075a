//! What a lane does that reads: its connections and the parts of queues that each of them reads, one pull a part under
//! way at a time, and when it has read enough.

use std::collections::VecDeque;
use std::io;

use mio::{Registry, Token};

use super::part::{Faults, Intake, Part, PullShape, Since, asked};
use crate::audit::Audit;
use crate::lane::{Signals, Span};
use crate::link::{Link, Scratch};
use crate::pace::Clock;
use crate::reply::ReplyScanner;
use crate::schedule::Schedule;
use crate::tally::Tally;
use crate::target::ByQueue;

/// When a lane has read enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every part once.
    Once,
    /// Every part again and again, until then.
    Until(u64),
    /// What comes, until all that was acknowledged has been read.
    Follow,
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

    fn is_free(&self) -> bool {
        self.alive && self.under_way < self.window && !self.ready.is_empty()
    }
}

#[derive(Debug)]
pub(crate) struct Reading<'a> {
    shape: &'a PullShape<'a>,
    readers: Vec<Reader>,
    extent: Extent,
    span: Span,
    /// When pulls are due; without it a part is pulled again at once.
    schedule: Option<Schedule>,
    registry: Option<Registry>,
    scratch: Scratch,
    scanner: ReplyScanner,
    tally: Tally,
    faults: Faults,
    seen: Audit,
    goals: Option<ByQueue<u64>>,
    begun: bool,
    /// When something last came that brought the reading on.
    progress_ns: u64,
    turn: usize,
    held_back: bool,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(
        shape: &'a PullShape<'a>,
        readers: Vec<Reader>,
        extent: Extent,
        schedule: Option<Schedule>,
        span: Span,
    ) -> anyhow::Result<Reading<'a>> {
        Ok(Reading {
            shape,
            readers,
            extent,
            span,
            schedule,
            registry: None,
            scratch: Scratch::new(),
            scanner: ReplyScanner::of_pulls(),
            tally: span.tally()?,
            faults: Faults::default(),
            seen: Audit::default(),
            goals: None,
            begun: false,
            progress_ns: 0,
            turn: 0,
            held_back: false,
        })
    }

    pub(crate) fn register(&mut self, registry: &Registry, first: usize) -> io::Result<()> {
        for (i, reader) in self.readers.iter_mut().enumerate() {
            reader.link.register(registry, Token(first + i))?;
        }
        self.registry = Some(registry.try_clone()?);
        Ok(())
    }

    /// Pulls what is to be pulled now without an event.
    pub(crate) fn turn(&mut self, now: u64, signals: &Signals) {
        if !self.begun {
            self.begun = true;
            self.progress_ns = now;
            if self.schedule.is_none() {
                (0..self.readers.len()).for_each(|i| self.refill(i, now));
            }
        }
        if self.extent == Extent::Follow && self.goals.is_none() {
            self.goals = signals.goals().cloned();
            self.progress_ns = now;
        }
        if self.schedule.is_some() {
            self.pull_due(now);
        }
    }

    fn alive(&self) -> impl Iterator<Item = &Reader> {
        self.readers.iter().filter(|reader| reader.alive)
    }

    fn measured_span(&self) -> Option<&Span> {
        measured_span(&self.span, self.extent)
    }

    /// `None` while nobody has said how far is to be read.
    fn left(&self) -> Option<u64> {
        self.readers.iter().flat_map(|reader| &reader.parts).map(|part| part.left(self.goals.as_ref())).sum()
    }

    fn is_late(&self, now: u64) -> bool {
        now >= self.progress_ns.saturating_add(self.span.patience)
    }

    pub(crate) fn is_over(&self, now: u64) -> bool {
        match self.extent {
            Extent::Follow if self.goals.is_none() => self.alive().next().is_none(),
            Extent::Follow => self.left() == Some(0) || self.is_late(now) || self.alive().next().is_none(),
            Extent::Until(until) if now < until && self.schedule.is_some() => self.alive().next().is_none(),
            _ => self.alive().all(|reader| reader.under_way == 0) || self.is_late(now),
        }
    }

    /// When there is something to do again without an event.
    pub(crate) fn wake_at(&self) -> u64 {
        match (self.extent, &self.schedule) {
            (Extent::Follow, _) if self.goals.is_none() => u64::MAX,
            (Extent::Until(until), Some(schedule)) if schedule.next_ns() < until && !self.held_back => {
                schedule.next_ns()
            }
            _ => self.progress_ns.saturating_add(self.span.patience),
        }
    }

    /// `begun` is when the lane began.
    pub(crate) fn finish(mut self, now: u64, begun: u64) -> (Tally, Faults, Audit) {
        self.tally.measured_ns = match self.measured_span() {
            Some(span) => now.min(span.send_until).saturating_sub(span.measure_from),
            // What was waited for in vain is no reading time.
            None => self.progress_ns.saturating_sub(begun),
        };
        match self.extent {
            // Where the end was never told the connections broke before, and that is what the report says.
            Extent::Once | Extent::Follow => self.faults.missing += self.left().unwrap_or(0),
            Extent::Until(_) => {}
        }
        // A pull that waits for messages which nobody sends any more is not owed a reply.
        if self.extent != Extent::Follow {
            self.tally.unanswered += self.alive().map(|reader| u64::from(reader.under_way)).sum::<u64>();
        }
        if let (Extent::Until(until), Some(schedule)) = (self.extent, &self.schedule) {
            self.tally.unsent = schedule.left_before(until);
        }
        (self.tally, self.faults, self.seen)
    }

    /// Starts the pulls that an open loop owes by now.
    fn pull_due(&mut self, now: u64) {
        let Extent::Until(until) = self.extent else { return };
        let Some(mut schedule) = self.schedule.take() else { return };
        let held_back = self.held_back;
        self.held_back = false;
        while schedule.next_ns() <= now && schedule.next_ns() < until && now < self.span.overtime_until() {
            let count = self.readers.len();
            let free = (0..count).map(|k| (self.turn + k) % count).find(|i| self.readers[*i].is_free());
            let Some(i) = free else {
                self.held_back = true;
                break;
            };
            self.turn = (i + 1) % count;
            let due = schedule.next_ns();
            schedule.advance();
            self.pull(i, due);
            self.flush(i);
            if !held_back && due >= self.span.measure_from {
                self.tally.lateness.saturating_record(now - due);
            }
        }
        self.schedule = Some(schedule);
    }

    /// Starts pulls while the connection's window has room and a part is ready.
    fn refill(&mut self, i: usize, now: u64) {
        if matches!(self.extent, Extent::Until(until) if now >= until) {
            return;
        }
        while self.readers[i].is_free() {
            self.pull(i, now);
        }
        self.flush(i);
    }

    /// Puts the pull of the next ready part into the outbox. A part that has been read is left out, or begun again.
    fn pull(&mut self, i: usize, intended_ns: u64) {
        let reader = &mut self.readers[i];
        let Some(place) = reader.ready.pop_front() else { return };
        let count = reader.parts.len() as u32;
        let part = &mut reader.parts[place as usize];
        if part.next >= part.stretch.end {
            if !matches!(self.extent, Extent::Until(_)) {
                return;
            }
            part.next = part.stretch.first;
        }
        part.pull(self.shape, (place, count), intended_ns, reader.link.outbox());
        reader.under_way += 1;
        self.tally.requests += 1;
    }

    fn flush(&mut self, i: usize) {
        if self.readers[i].alive
            && let Err(e) = self.readers[i].link.flush()
        {
            self.lose(i, &e);
        }
    }

    /// A connection has something to read, or room for more.
    pub(crate) fn serve(&mut self, i: usize, clock: &Clock) {
        let Reading { readers, scratch, scanner, tally, faults, seen, shape, span, extent, progress_ns, .. } = self;
        let Some(reader) = readers.get_mut(i).filter(|reader| reader.alive) else { return };
        let Reader { link, parts, ready, under_way, .. } = reader;
        let now = clock.now_ns();
        let span = measured_span(span, *extent);
        let timed = shape.stamped.is_some_and(|stamped| matches!(stamped.since, Since::Due { .. }));
        let system_ns = if timed { Clock::system_ns() } else { 0 };
        let mut intake = Intake { shape, span, now, system_ns, seen, tally, faults };
        let read = link.read_frames(scratch, |frame| {
            let reply = scanner.scan(&frame).ok_or_else(|| io::Error::other("a header that is not RocketMQ's"))?;
            let Some((place, part)) = asked(parts, &reply) else {
                intake.tally.stray_replies += 1;
                return Ok(());
            };
            *under_way -= 1;
            let before = part.next;
            if intake.take_in(&frame, &reply, part) {
                ready.push_back(place);
            }
            if part.next > before {
                *progress_ns = now;
            }
            Ok(())
        });
        match read {
            Err(e) => self.lose(i, &e),
            Ok(()) if self.schedule.is_none() => self.refill(i, now),
            Ok(()) => self.flush(i),
        }
    }

    fn lose(&mut self, i: usize, error: &io::Error) {
        let reader = &mut self.readers[i];
        reader.alive = false;
        if let Some(registry) = &self.registry {
            reader.link.deregister(registry);
        }
        self.tally.unanswered += u64::from(reader.under_way);
        self.tally.connection_lost(error);
    }
}

/// Only what takes a time that is known beforehand has a warm-up; of anything else all is measured.
fn measured_span(span: &Span, extent: Extent) -> Option<&Span> {
    if span.is_open() || extent == Extent::Once { None } else { Some(span) }
}
