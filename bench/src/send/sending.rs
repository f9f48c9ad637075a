//! What a lane does that sends: its connections, the requests each has under way, and what comes back for them. In an
//! open loop it sends what is due, in a closed loop whatever its windows have room for.

use std::io;

use mio::{Registry, Token};

use super::sender::{Order, Sender, Settling, answered};
use super::then::Then;
use crate::audit::Ledger;
use crate::lane::{Signals, Span};
use crate::link::Scratch;
use crate::pace::Clock;
use crate::random::Random;
use crate::reply::ReplyScanner;
use crate::schedule::{Schedule, Share};
use crate::shape::Bodies;
use crate::tally::Tally;
use crate::wire::{Commits, End, HeaderKind, OPAQUE_BASE, OPAQUE_SPAN, SendRequest, SendTemplates, Stamp, append_end};

/// Without replies the socket is what slows a sender down: it may be behind by so many bytes.
const ONE_WAY_UNSENT: usize = 256 * 1024;

/// What the requests of a lane are.
#[derive(Debug)]
pub(crate) enum Requests {
    Sends(SendTemplates),
    Commits(Commits),
}

/// How the requests of a lane are made.
#[derive(Debug)]
pub(crate) struct Recipe<'a> {
    pub(crate) requests: Requests,
    pub(crate) then: Then,
    pub(crate) kind: HeaderKind,
    /// Of the producer.
    pub(crate) group: &'a str,
    pub(crate) share: Share,
    pub(crate) bodies: &'a Bodies,
    /// Queues of each topic.
    pub(crate) queues: u32,
    pub(crate) order: Order,
    pub(crate) keys: Option<u32>,
    pub(crate) random: Random,
    /// Set when the bodies are stamped.
    pub(crate) run: Option<u64>,
    /// Of an open loop, what was due when the time is over and found no room stays unsent.
    pub(crate) punctual: bool,
}

impl Recipe<'_> {
    fn topic_and_queue(&self, place: u32) -> (u32, u32) {
        // One topic is the plain case, and a division costs.
        if place < self.queues { (0, place) } else { (place / self.queues, place % self.queues) }
    }
}

#[derive(Debug)]
pub(crate) struct Sending<'a> {
    recipe: Recipe<'a>,
    senders: Vec<Sender>,
    span: Span,
    schedule: Option<Schedule>,
    wall_ms_at_zero: u64,
    registry: Option<Registry>,
    scratch: Scratch,
    scanner: ReplyScanner,
    tally: Tally,
    ledger: Ledger,
    /// Transactions whose halves have just been acknowledged, by their place in the window.
    ends: Vec<(u32, End)>,
    composed: u64,
    /// Requests to send at most.
    limit: u64,
    under_way: u64,
    alive: usize,
    begun: bool,
    /// When the last reply came.
    replied_ns: u64,
    /// The connection that the next message of an open loop goes to.
    turn: usize,
    /// Full windows hold back what is due; only a reply can change that.
    held_back: bool,
    unflushed: Vec<usize>,
}

impl<'a> Sending<'a> {
    /// Without a schedule it is a closed loop.
    pub(crate) fn new(
        recipe: Recipe<'a>,
        senders: Vec<Sender>,
        schedule: Option<Schedule>,
        clock: Clock,
        span: Span,
    ) -> anyhow::Result<Sending<'a>> {
        let (tally, scanner) = match recipe.then {
            Then::End { .. } => (span.tally()?.with_steps()?, ReplyScanner::of_halves()),
            _ => (span.tally()?, ReplyScanner::of_sends()),
        };
        Ok(Sending {
            recipe,
            span,
            alive: senders.len(),
            senders,
            schedule,
            wall_ms_at_zero: clock.wall_ms(0),
            registry: None,
            scratch: Scratch::new(),
            scanner,
            tally,
            ledger: Ledger::default(),
            ends: Vec::new(),
            composed: 0,
            limit: u64::MAX,
            under_way: 0,
            begun: false,
            replied_ns: 0,
            turn: 0,
            held_back: false,
            unflushed: Vec::new(),
        })
    }

    /// Sends so many requests and no more.
    pub(crate) fn limit(&mut self, requests: u64) {
        self.limit = requests;
    }

    pub(crate) fn links(&self) -> usize {
        self.senders.len()
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn register(&mut self, registry: &Registry, first: usize) -> io::Result<()> {
        for (i, sender) in self.senders.iter_mut().enumerate() {
            sender.link.register(registry, Token(first + i))?;
        }
        self.registry = Some(registry.try_clone()?);
        Ok(())
    }

    /// Sends what is to be sent now without an event.
    pub(crate) fn turn(&mut self, now: u64, signals: &Signals) {
        self.span.send_until = self.span.send_until.min(signals.stop_at());
        if !self.begun {
            self.replied_ns = now;
        }
        if self.composed >= self.limit {
            self.span.send_until = self.span.send_until.min(now);
        }
        if self.schedule.is_some() {
            if !self.all_sent(now) {
                self.send_due(now);
            }
        } else if !self.begun {
            (0..self.senders.len()).for_each(|i| self.refill(i, now));
        }
        self.begun = true;
    }

    pub(crate) fn is_over(&self, now: u64) -> bool {
        let quiet = || self.under_way == 0 && self.senders.iter().all(|one| !one.alive || one.link.unsent() == 0);
        self.alive == 0 || now >= self.give_up() || (self.all_sent(now) && quiet())
    }

    /// A load without a planned end is given up when nothing has come back for too long.
    fn give_up(&self) -> u64 {
        let silent = self.under_way > 0 && self.span.is_open();
        if silent { self.replied_ns.saturating_add(self.span.patience) } else { self.span.give_up() }
    }

    /// An open loop sends whatever was due in its time, even if that takes longer.
    fn all_sent(&self, now: u64) -> bool {
        match &self.schedule {
            _ if self.composed >= self.limit => true,
            Some(_) if self.recipe.punctual => now >= self.span.send_until,
            Some(schedule) => schedule.next_ns() >= self.span.send_until || now >= self.span.overtime_until(),
            None => now >= self.span.send_until,
        }
    }

    /// When there is something to do again without an event.
    pub(crate) fn wake_at(&self, now: u64) -> u64 {
        match &self.schedule {
            _ if self.all_sent(now) => self.give_up(),
            None => self.span.send_until.min(self.give_up()),
            Some(_) if self.held_back && self.recipe.punctual => self.span.send_until,
            Some(_) if self.held_back => self.span.overtime_until().min(self.give_up()),
            Some(schedule) => schedule.next_ns(),
        }
    }

    pub(crate) fn finish(mut self, now: u64) -> (Tally, Ledger) {
        self.tally.measured_ns = now.min(self.span.send_until).saturating_sub(self.span.measure_from);
        self.tally.thread_ns = self.tally.measured_ns;
        self.tally.unanswered += self.under_way;
        // What was due before the load broke off was owed; the rest was not.
        let until = if self.alive == 0 { now.min(self.span.send_until) } else { self.span.send_until };
        if self.composed < self.limit {
            self.tally.unsent = self.schedule.as_ref().map_or(0, |schedule| schedule.left_before(until));
        }
        (self.tally, self.ledger)
    }

    /// Sends what an open loop owes by now.
    fn send_due(&mut self, now: u64) {
        let Some(mut schedule) = self.schedule.take() else { return };
        let held_back = self.held_back;
        self.held_back = false;
        self.set_time(now);
        while schedule.next_ns() <= now && schedule.next_ns() < self.span.send_until && self.composed < self.limit {
            let Some(i) = self.next_free() else {
                self.held_back = true;
                break;
            };
            let due = schedule.next_ns();
            schedule.advance();
            self.compose(i, due, now);
            if !self.senders[i].composed {
                self.senders[i].composed = true;
                self.unflushed.push(i);
            }
            if !held_back && due >= self.span.measure_from {
                self.tally.lateness.saturating_record(now - due);
            }
        }
        self.schedule = Some(schedule);
        while let Some(i) = self.unflushed.pop() {
            self.senders[i].composed = false;
            self.flush(i);
        }
    }

    fn next_free(&mut self) -> Option<usize> {
        let count = self.senders.len();
        let found = (0..count).map(|k| (self.turn + k) % count).find(|i| self.is_free(&self.senders[*i]))?;
        self.turn = (found + 1) % count;
        Some(found)
    }

    fn is_free(&self, sender: &Sender) -> bool {
        sender.alive
            && match self.recipe.order {
                Order::OneWay => sender.link.unsent() < ONE_WAY_UNSENT,
                Order::Turns | Order::Keys => !sender.free.is_empty(),
            }
    }

    fn set_time(&mut self, now: u64) {
        if let Requests::Sends(templates) = &mut self.recipe.requests {
            templates.set_time(self.wall_ms_at_zero + now / 1_000_000);
        }
    }

    /// Closed loop: as many requests as the window has room for.
    fn refill(&mut self, i: usize, now: u64) {
        if now < self.span.send_until {
            self.set_time(now);
            while self.composed < self.limit && self.is_free(&self.senders[i]) {
                self.compose(i, now, now);
            }
        }
        // The ends of transactions may wait there, too.
        self.flush(i);
    }

    /// Puts one request into the outbox of a sender that is free.
    fn compose(&mut self, i: usize, intended_ns: u64, now: u64) {
        let Sending { recipe, senders, tally, ledger, span, .. } = self;
        let sender = &mut senders[i];
        let body = recipe.bodies.get(self.composed);
        let Share { lane, lanes } = recipe.share;
        let mut number = self.composed * lanes as u64 + lane as u64;
        self.composed += 1;
        let mut request = SendRequest { connection: sender.id, ..SendRequest::default() };
        let mut at = intended_ns;
        if let Then::Due(due) = recipe.then {
            request.due_ms = due.ms(number, Clock::system_ns() / 1_000_000);
            at = request.due_ms;
        }
        request.stamp = recipe.run.map(|run| Stamp { run, at, number });
        if recipe.then == Then::Commit {
            number = sender.rounds + 1;
        }
        (request.topic, request.queue) = if recipe.order == Order::OneWay {
            request.opaque = OPAQUE_BASE + (self.composed % u64::from(OPAQUE_SPAN)) as u32;
            tally.one_way += 1;
            if span.measures(now) {
                // There is no reply: what the socket has to take counts.
                tally.acknowledged(now, u64::from(body.messages));
                tally.measured_bytes += u64::from(body.stored);
            }
            let place = sender.take_turn();
            if recipe.then == Then::Commit {
                ledger.kept.record((sender.broker, place), number);
            }
            recipe.topic_and_queue(place)
        } else {
            let Some(place) = sender.free.pop_front() else { return };
            let window = sender.slots.len() as u32;
            let turn = if recipe.order == Order::Turns { Some(sender.take_turn()) } else { None };
            let slot = &mut sender.slots[place as usize];
            slot.next_opaque(place, window);
            slot.queue = turn.unwrap_or(slot.queue);
            slot.intended_ns = intended_ns;
            slot.number = number;
            slot.due_ms = request.due_ms;
            if let Then::End { roll_back } = recipe.then {
                slot.roll_back = recipe.random.unit() <= roll_back;
            }
            slot.messages = body.messages;
            slot.stored_bytes = body.stored;
            slot.under_way = true;
            self.under_way += 1;
            request.opaque = slot.opaque;
            request.key = u64::from(sender.id) * u64::from(window) + u64::from(place);
            let (topic, queue_id) = recipe.topic_and_queue(slot.queue);
            slot.queue_id = queue_id;
            (topic, queue_id)
        };
        if let Some(keys) = recipe.keys {
            request.key = recipe.random.below(u64::from(keys));
        }
        tally.requests += 1;
        tally.sent_messages += u64::from(body.messages);
        match &mut recipe.requests {
            Requests::Sends(templates) => templates.append(&request, body, sender.link.outbox()),
            Requests::Commits(commits) => {
                commits.append(request.opaque, request.queue, number, sender.link.outbox());
            }
        }
    }

    fn flush(&mut self, i: usize) {
        if self.senders[i].alive
            && let Err(e) = self.senders[i].link.flush()
        {
            self.lose(i, &e);
        }
    }

    /// A connection has something to read, or room for more.
    pub(crate) fn serve(&mut self, i: usize, clock: &Clock) {
        let Sending { senders, scratch, scanner, tally, ledger, ends, span, under_way, replied_ns, recipe, .. } = self;
        let Some(sender) = senders.get_mut(i).filter(|s| s.alive) else { return };
        let Sender { link, slots, free, broker, .. } = sender;
        let now = clock.now_ns();
        let mut settling = Settling {
            now,
            span,
            broker: *broker,
            ordered: recipe.order == Order::Keys,
            then: recipe.then,
            system_ms: if matches!(recipe.then, Then::Due(_)) { Clock::system_ns() / 1_000_000 } else { 0 },
            tally,
            ledger,
        };
        let read = link.read_frames(scratch, |frame| {
            let reply = scanner.scan(&frame).ok_or_else(|| io::Error::other("a header that is not RocketMQ's"))?;
            match answered(slots, &reply) {
                Some((place, slot)) => {
                    *replied_ns = now;
                    match settling.settle(&frame, &reply, slot) {
                        Some(end) => ends.push((place, end)),
                        None => {
                            free.push_back(place);
                            *under_way -= 1;
                        }
                    }
                }
                None => settling.tally.stray_replies += 1,
            }
            Ok(())
        });
        let window = slots.len() as u32;
        for (place, end) in ends.drain(..) {
            let slot = &mut slots[place as usize];
            slot.next_opaque(place, window);
            slot.under_way = true;
            append_end(recipe.kind, recipe.group, slot.opaque, end, link.outbox());
        }
        match read {
            Err(e) => self.lose(i, &e),
            Ok(()) if self.schedule.is_none() => self.refill(i, now),
            Ok(()) => self.flush(i),
        }
    }

    fn lose(&mut self, i: usize, error: &io::Error) {
        let sender = &mut self.senders[i];
        sender.alive = false;
        if let Some(registry) = &self.registry {
            sender.link.deregister(registry);
        }
        self.under_way -= sender.under_way();
        self.tally.unanswered += sender.under_way();
        self.tally.connection_lost(error);
        self.alive -= 1;
    }
}
