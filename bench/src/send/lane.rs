//! One load thread of `send`: its connections, the requests each has under way, and the loop that keeps them so.
//! It shares nothing while it runs; its counts are merged with those of the other threads afterwards.

use std::io;

use mio::Token;

use crate::audit::Audit;
use crate::link::{Link, Scratch};
use crate::pace::{Clock, Pace, thread_cpu_ns};
use crate::reply::{Frame, Reply, ReplyScanner, remark};
use crate::schedule::Schedule;
use crate::series::Cut;
use crate::tally::Tally;
use crate::wire::{OPAQUE_BASE, OPAQUE_SPAN, SendTemplates};

/// Success, and stored although a flush or a slave was late: the message has its queue offset.
const STORED: [i32; 4] = [0, 10, 11, 12];
/// Of these, only the first is what the sender asked for.
const SUCCESS: i32 = 0;

/// When a lane sends, measures and gives up, in nanoseconds of the run's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) measure_from: u64,
    pub(crate) send_until: u64,
    /// An open loop may send until then what was due before `send_until`.
    pub(crate) overtime_until: u64,
    pub(crate) give_up: u64,
}

impl Span {
    /// The measured time, cut into intervals.
    pub(crate) fn cut(&self) -> Cut {
        Cut::new(self.measure_from, self.send_until)
    }

    /// How much of a stretch of time lies in the measured time.
    fn measured_part(&self, (from, to): (u64, u64)) -> u64 {
        to.min(self.send_until).saturating_sub(from.max(self.measure_from))
    }
}

/// A request that waits for its reply.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    opaque: u32,
    queue: u32,
    /// How often the slot was used; makes the next opaque differ from the last.
    round: u32,
    under_way: bool,
    intended_ns: u64,
}

/// One connection with its requests under way.
#[derive(Debug)]
pub(crate) struct Sender {
    link: Link,
    templates: SendTemplates,
    broker: u16,
    queues: u32,
    next_queue: u32,
    slots: Vec<Slot>,
    free: Vec<u32>,
    alive: bool,
    /// Has requests in its outbox that no flush has seen.
    composed: bool,
}

impl Sender {
    /// `first_queue` spreads the connections over the queues.
    pub(crate) fn new(
        link: Link,
        templates: SendTemplates,
        broker: u16,
        queues: u32,
        first_queue: u32,
        in_flight: u32,
    ) -> Sender {
        Sender {
            link,
            templates,
            broker,
            queues,
            next_queue: first_queue % queues,
            slots: vec![Slot::default(); in_flight as usize],
            free: (0..in_flight).rev().collect(),
            alive: true,
            composed: false,
        }
    }

    fn is_free(&self) -> bool {
        self.alive && !self.free.is_empty()
    }

    fn under_way(&self) -> u64 {
        (self.slots.len() - self.free.len()) as u64
    }

    /// Puts one request into the outbox. The caller has checked that a slot is free.
    fn compose(&mut self, intended_ns: u64) {
        let Some(place) = self.free.pop() else { return };
        let window = self.slots.len() as u32;
        let slot = &mut self.slots[place as usize];
        let rounds = OPAQUE_SPAN / window;
        slot.round = (slot.round + 1) % rounds;
        slot.opaque = OPAQUE_BASE + slot.round * window + place;
        slot.queue = self.next_queue;
        slot.intended_ns = intended_ns;
        slot.under_way = true;
        self.next_queue = if self.next_queue + 1 == self.queues { 0 } else { self.next_queue + 1 };
        self.templates.append(slot.opaque, slot.queue, self.link.outbox());
    }
}

#[derive(Debug)]
pub(crate) struct Lane {
    pace: Pace,
    clock: Clock,
    span: Span,
    senders: Vec<Sender>,
    schedule: Option<Schedule>,
    scratch: Scratch,
    scanner: ReplyScanner,
    tally: Tally,
    audit: Audit,
    under_way: u64,
    alive: usize,
    /// The connection that the next message of an open loop goes to.
    turn: usize,
    unflushed: Vec<usize>,
}

impl Lane {
    pub(crate) fn new(
        mut senders: Vec<Sender>,
        schedule: Option<Schedule>,
        spins: bool,
        clock: Clock,
        span: Span,
    ) -> anyhow::Result<Lane> {
        let pace = Pace::new(spins)?;
        for (i, sender) in senders.iter_mut().enumerate() {
            sender.link.register(pace.poll.registry(), Token(i))?;
        }
        Ok(Lane {
            pace,
            clock,
            span,
            alive: senders.len(),
            senders,
            schedule,
            scratch: Scratch::new(),
            scanner: ReplyScanner::of_sends(),
            tally: Tally::cut(span.cut())?,
            audit: Audit::default(),
            under_way: 0,
            turn: 0,
            unflushed: Vec::new(),
        })
    }

    /// Sends until the time is over, then waits for the replies that are still out.
    pub(crate) fn run(mut self) -> anyhow::Result<(Tally, Audit)> {
        let mut ready = Vec::with_capacity(1024);
        let mut windows_full = false;
        if self.schedule.is_none() {
            (0..self.senders.len()).for_each(|i| self.refill(i));
        }
        loop {
            let now = self.clock.now_ns();
            if self.alive == 0 || now >= self.span.give_up || (self.all_sent(now) && self.under_way == 0) {
                break;
            }
            if self.schedule.is_some() && !self.all_sent(now) {
                windows_full = self.send_due(now, windows_full);
            }
            let until = self.wake_at(now, windows_full);
            let waited = self.pace.wait(&self.clock, until, &mut ready)?;
            self.tally.waited_ns += self.span.measured_part(waited);
            for i in &ready {
                self.serve(*i);
            }
        }
        self.tally.thread_ns = self.span.send_until - self.span.measure_from;
        self.tally.cpu_ns = thread_cpu_ns();
        self.tally.unanswered += self.under_way;
        self.tally.unsent = self.schedule.as_ref().map_or(0, |schedule| schedule.left_before(self.span.send_until));
        Ok((self.tally, self.audit))
    }

    /// An open loop sends whatever was due in its time, even if that takes longer.
    fn all_sent(&self, now: u64) -> bool {
        match &self.schedule {
            Some(schedule) => schedule.next_ns() >= self.span.send_until || now >= self.span.overtime_until,
            None => now >= self.span.send_until,
        }
    }

    /// When there is something to do again without an event. With every window full only a reply can change that.
    fn wake_at(&self, now: u64, windows_full: bool) -> u64 {
        match &self.schedule {
            _ if self.all_sent(now) => self.span.give_up,
            None => self.span.send_until,
            Some(_) if windows_full => self.span.overtime_until,
            Some(schedule) => schedule.next_ns(),
        }
    }

    /// Sends what an open loop owes by now. Returns whether full windows held some of it back.
    fn send_due(&mut self, now: u64, held_back: bool) -> bool {
        let Some(mut schedule) = self.schedule.take() else { return false };
        let wall_ms = self.clock.wall_ms(now);
        let mut full = false;
        while schedule.next_ns() <= now && schedule.next_ns() < self.span.send_until {
            let Some(i) = self.next_free() else {
                full = true;
                break;
            };
            let due = schedule.next_ns();
            schedule.advance();
            let sender = &mut self.senders[i];
            sender.templates.set_time(wall_ms);
            sender.compose(due);
            if !sender.composed {
                sender.composed = true;
                self.unflushed.push(i);
            }
            self.under_way += 1;
            self.tally.requests += 1;
            if !held_back && due >= self.span.measure_from {
                self.tally.lateness.saturating_record(now - due);
            }
        }
        self.schedule = Some(schedule);
        while let Some(i) = self.unflushed.pop() {
            self.senders[i].composed = false;
            self.flush(i);
        }
        full
    }

    fn next_free(&mut self) -> Option<usize> {
        let count = self.senders.len();
        let found = (0..count).map(|k| (self.turn + k) % count).find(|i| self.senders[*i].is_free())?;
        self.turn = (found + 1) % count;
        Some(found)
    }

    /// Closed loop: as many requests as the window has room for.
    fn refill(&mut self, i: usize) {
        let now = self.clock.now_ns();
        if now >= self.span.send_until {
            return;
        }
        let wall_ms = self.clock.wall_ms(now);
        let sender = &mut self.senders[i];
        sender.templates.set_time(wall_ms);
        while sender.is_free() {
            sender.compose(now);
            self.under_way += 1;
            self.tally.requests += 1;
        }
        self.flush(i);
    }

    fn flush(&mut self, i: usize) {
        if self.senders[i].alive
            && let Err(e) = self.senders[i].link.flush()
        {
            self.lose(i, &e);
        }
    }

    fn serve(&mut self, i: usize) {
        let Lane { senders, scratch, scanner, tally, audit, clock, span, under_way, .. } = self;
        let Some(sender) = senders.get_mut(i).filter(|s| s.alive) else { return };
        let Sender { link, slots, free, broker, .. } = sender;
        let now = clock.now_ns();
        let read = link.read_frames(scratch, |frame| {
            let reply = scanner.scan(&frame).ok_or_else(|| io::Error::other("a header that is not RocketMQ's"))?;
            match answered(slots, &reply) {
                Some((place, slot)) => {
                    free.push(place);
                    *under_way -= 1;
                    settle(&frame, &reply, &slot, *broker, now, span, tally, audit);
                }
                None => tally.stray_replies += 1,
            }
            Ok(())
        });
        match read {
            Err(e) => self.lose(i, &e),
            Ok(()) if self.schedule.is_none() => self.refill(i),
            Ok(()) => self.flush(i),
        }
    }

    fn lose(&mut self, i: usize, error: &io::Error) {
        let sender = &mut self.senders[i];
        sender.alive = false;
        sender.link.deregister(self.pace.poll.registry());
        self.under_way -= sender.under_way();
        self.tally.unanswered += sender.under_way();
        self.tally.connection_lost(error);
        self.alive -= 1;
    }
}

/// The request that a reply belongs to, taken out of its slot.
fn answered(slots: &mut [Slot], reply: &Reply) -> Option<(u32, Slot)> {
    let place = reply.opaque.checked_sub(OPAQUE_BASE)? % slots.len() as u32;
    let slot = &mut slots[place as usize];
    if !slot.under_way || slot.opaque != reply.opaque {
        return None;
    }
    slot.under_way = false;
    Some((place, *slot))
}

#[expect(clippy::too_many_arguments, reason = "the parts of a lane that are free while its connection is borrowed")]
fn settle(
    frame: &Frame<'_>,
    reply: &Reply,
    slot: &Slot,
    broker: u16,
    now: u64,
    span: &Span,
    tally: &mut Tally,
    audit: &mut Audit,
) {
    if STORED.contains(&reply.code) {
        match (reply.queue_id, reply.offset.and_then(|o| u64::try_from(o).ok())) {
            (Some(queue), Some(offset)) if queue == i64::from(slot.queue) => audit.record((broker, slot.queue), offset),
            _ => tally.stray_replies += 1,
        }
    }
    if reply.code != SUCCESS {
        tally.refused(reply.code, || remark(frame));
        return;
    }
    tally.successes += 1;
    if (span.measure_from..span.send_until).contains(&now) {
        tally.acknowledged(now, 1);
    }
    if slot.intended_ns >= span.measure_from {
        tally.latency(slot.intended_ns, now.saturating_sub(slot.intended_ns));
    }
}
