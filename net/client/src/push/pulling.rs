//! Asking for messages: every queue that has room is asked for at once, and the brokers hold the questions until there is
//! something. One thread a consumer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use ringmq_protocol::body::MessageQueue;

use super::Shared;
use super::assigned::Assigned;
use super::listening::Work;
use crate::conn::Received;
use crate::driver::blocking::{Call, lock};
use crate::error::{Error, Result};
use crate::identity::now_ms;
use crate::pull::{Pull, PullOutcome, PullStatus};
use crate::tail::pause_after;

pub(super) enum Event {
    /// Queues came or went, were moved, or have room again.
    Look,
    /// The number of a question, and its answer.
    Answer(u64, Result<Received>),
    Stop,
}

struct Followed {
    assigned: Arc<Assigned>,
    state: State,
    failures: u32,
    broker_id: i64,
}

enum State {
    Asked {
        number: u64,
        epoch: u64,
        pull: Pull,
        call: Call,
        lost_at: Instant,
    },
    /// Asked again at that time.
    Resting(Instant),
    /// Asked again when there is room.
    Full,
}

struct Pulling<'s> {
    shared: &'s Arc<Shared>,
    followed: BTreeMap<MessageQueue, Followed>,
    next_number: u64,
}

pub(super) fn run(shared: &Arc<Shared>, events: &Receiver<Event>) {
    let mut pulling = Pulling { shared, followed: BTreeMap::new(), next_number: 0 };
    loop {
        pulling.ask_rested();
        let event = match pulling.next_time() {
            Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(Event::Look) => pulling.look(),
            Ok(Event::Answer(number, answer)) => pulling.answered(number, answer),
            Err(RecvTimeoutError::Timeout) => pulling.expire(),
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Pulling<'_> {
    /// Follows what is assigned now.
    fn look(&mut self) {
        let assigned = lock(&self.shared.assigned).clone();
        self.followed.retain(|queue, followed| {
            let stays = assigned.get(queue).is_some_and(|now| Arc::ptr_eq(now, &followed.assigned));
            if !stays {
                followed.give_up_call();
            }
            stays
        });
        for (queue, assigned) in assigned {
            let state = State::Resting(Instant::now());
            let followed = Followed { assigned, state, failures: 0, broker_id: 0 };
            self.followed.entry(queue).or_insert(followed);
        }
        for followed in self.followed.values_mut() {
            let is_stale = match &followed.state {
                State::Full => true,
                State::Asked { epoch, .. } => !followed.assigned.is_current(*epoch),
                State::Resting(_) => false,
            };
            if is_stale {
                followed.give_up_call();
                followed.state = State::Resting(Instant::now());
            }
        }
    }

    fn ask_rested(&mut self) {
        let now = Instant::now();
        for followed in self.followed.values_mut() {
            if !matches!(followed.state, State::Resting(until) if until <= now) {
                continue;
            }
            let Some((offset, epoch)) = followed.assigned.next_pull(&self.shared.options, self.shared.is_orderly)
            else {
                followed.state = State::Full;
                continue;
            };
            let pull = self.shared.options.pull(followed.assigned.queue.clone(), offset, followed.broker_id);
            self.next_number += 1;
            let (number, answers) = (self.next_number, self.shared.pulls.clone());
            let on_answer = move |answer| {
                // A consumer that has ended needs no answer.
                let _ = answers.send(Event::Answer(number, answer));
            };
            match self.shared.member.start_pull(&pull, Box::new(on_answer)) {
                Ok(call) => {
                    let lost_at = now + self.shared.member.pull_timeout(&pull);
                    followed.state = State::Asked { number, epoch, pull, call, lost_at };
                }
                Err(error) => followed.rest_after(&error, self.shared),
            }
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let time = |followed: &Followed| match followed.state {
            State::Asked { lost_at, .. } => Some(lost_at),
            State::Resting(until) => Some(until),
            State::Full => None,
        };
        self.followed.values().filter_map(time).min()
    }

    fn answered(&mut self, answered: u64, answer: Result<Received>) {
        let shared = self.shared;
        let is_it =
            |followed: &&mut Followed| matches!(followed.state, State::Asked { number, .. } if number == answered);
        let Some(followed) = self.followed.values_mut().find(is_it) else { return };
        let State::Asked { epoch, pull, call, lost_at, .. } =
            std::mem::replace(&mut followed.state, State::Resting(Instant::now()))
        else {
            return;
        };
        match answer.and_then(|received| shared.member.take_answer(&pull, call.addr(), &received)) {
            Ok(outcome) => {
                followed.failures = 0;
                followed.broker_id = outcome.suggested_broker_id;
                if !outcome.messages.is_empty() {
                    let left = lost_at.saturating_duration_since(Instant::now());
                    let took = shared.member.pull_timeout(&pull).saturating_sub(left);
                    lock(&shared.tally).pulled(&pull.queue.topic, outcome.messages.len(), took, now_ms());
                }
                hand_on(shared, &followed.assigned, epoch, outcome);
            }
            Err(error) => followed.rest_after(&error, shared),
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        for followed in self.followed.values_mut() {
            if let State::Asked { call, lost_at, .. } = &followed.state
                && *lost_at <= now
            {
                tracing::warn!(queue = ?followed.assigned.queue, "a pull was not answered, the queue is asked for again");
                call.time_out();
                followed.rest();
            }
        }
    }
}

/// Gives messages to the listener's threads.
fn hand_on(shared: &Shared, assigned: &Arc<Assigned>, epoch: u64, outcome: PullOutcome) {
    if outcome.status == PullStatus::OffsetMoved {
        tracing::warn!(queue = ?assigned.queue, next = outcome.next_offset, "the queue is read from another offset");
        if assigned.is_current(epoch) {
            assigned.move_to(outcome.next_offset);
        }
        return;
    }
    let mut messages = outcome.messages;
    if !assigned.take(epoch, &messages, outcome.next_offset) {
        return;
    }
    messages.iter_mut().for_each(crate::message::ReceivedMessage::restore_topic);
    if shared.is_orderly {
        if assigned.line_up(epoch, messages) {
            shared.pool.push(Work::Queue(Arc::clone(assigned)));
        }
    } else {
        for message in messages {
            shared.pool.push(Work::Message(Arc::clone(assigned), Box::new(message), epoch));
        }
    }
}

impl Followed {
    fn rest(&mut self) {
        self.state = State::Resting(Instant::now() + pause_after(self.failures));
        self.failures = self.failures.saturating_add(1);
    }

    fn rest_after(&mut self, error: &Error, shared: &Shared) {
        tracing::warn!(queue = ?self.assigned.queue, %error, "a queue cannot be read, it is asked for again");
        if error.is_unreachable() {
            shared.member.doubt_route(&self.assigned.queue.topic);
        }
        self.rest();
    }

    fn give_up_call(&self) {
        if let State::Asked { call, .. } = &self.state {
            call.give_up();
        }
    }
}

impl Drop for Pulling<'_> {
    fn drop(&mut self) {
        self.followed.values().for_each(Followed::give_up_call);
    }
}
