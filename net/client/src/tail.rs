//! Following a topic: every queue is asked at once and the brokers hold the questions until there is something, so one
//! thread sees all new messages as they come. Order holds within a queue.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use ringmq_protocol::body::MessageQueue;

use crate::conn::Received;
use crate::consumer::PullConsumer;
use crate::driver::blocking::{Answer, Call};
use crate::error::{Error, Result};
use crate::message::ReceivedMessage;
use crate::pull::{Pull, PullStatus};
use crate::route::ROUTE_AGE_MAX;

/// RocketMQ's consumers let brokers hold a pull for so long.
pub(crate) const HOLD: Duration = Duration::from_secs(15);

/// After a failure a queue is asked again, first soon, then less and less often.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How long a queue rests after so many failures in a row before this one.
pub(crate) fn pause_after(failures: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1 << failures.min(10)).min(RETRY_MAX)
}

/// Where to begin in each queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TailStart {
    /// With the first message there still is.
    Earliest,
    /// With what comes from now on.
    Latest,
}

/// One queue that is followed.
struct Followed {
    pull: Pull,
    state: State,
    failures: u32,
}

enum State {
    Asked {
        call: Call,
        lost_at: Instant,
    },
    /// Asked again at that time.
    Resting(Instant),
}

struct Tail<'c> {
    consumer: &'c PullConsumer,
    topic: &'c str,
    followed: Vec<Followed>,
    sender: Sender<Answer>,
    answers: Receiver<Answer>,
    routes_at: Instant,
}

/// Hands every message of the topic to `on_message` until that says to stop. A broker that cannot be reached is tried
/// again and again, and queues that appear later are followed from their first message; a refusal ends it.
pub fn tail(
    consumer: &PullConsumer,
    topic: &str,
    start: TailStart,
    mut on_message: impl FnMut(&ReceivedMessage) -> ControlFlow<()>,
) -> Result<()> {
    let (sender, answers) = mpsc::channel();
    let routes_at = Instant::now() + ROUTE_AGE_MAX;
    let mut tail = Tail { consumer, topic, followed: Vec::new(), sender, answers, routes_at };
    tail.follow_new_queues(start)?;
    loop {
        tail.ask_rested()?;
        match tail.next_answer() {
            Some((key, answer)) => {
                if tail.take(key, answer, &mut on_message)?.is_break() {
                    return Ok(());
                }
            }
            None => tail.on_time()?,
        }
    }
}

impl Tail<'_> {
    fn follow_new_queues(&mut self, start: TailStart) -> Result<()> {
        let known: BTreeMap<MessageQueue, ()> = self.followed.iter().map(|f| (f.pull.queue.clone(), ())).collect();
        for queue in self.consumer.queues(self.topic)? {
            if known.contains_key(&queue) {
                continue;
            }
            let offset = match start {
                TailStart::Earliest => self.consumer.min_offset(&queue)?.max(0),
                TailStart::Latest => self.consumer.max_offset(&queue)?,
            };
            let pull = Pull { hold: Some(HOLD), ..Pull::new(queue, offset) };
            self.followed.push(Followed { pull, state: State::Resting(Instant::now()), failures: 0 });
        }
        Ok(())
    }

    /// Asks every queue whose rest is over.
    fn ask_rested(&mut self) -> Result<()> {
        let now = Instant::now();
        for (key, followed) in self.followed.iter_mut().enumerate() {
            if !matches!(followed.state, State::Resting(until) if until <= now) {
                continue;
            }
            match self.consumer.start_pull(&followed.pull, key, self.sender.clone()) {
                Ok(call) => {
                    let lost_at = now + self.consumer.pull_timeout(&followed.pull);
                    followed.state = State::Asked { call, lost_at };
                }
                Err(error) => followed.rest_after(error)?,
            }
        }
        Ok(())
    }

    fn next_answer(&self) -> Option<Answer> {
        let next = |followed: &Followed| match followed.state {
            State::Asked { lost_at, .. } => lost_at,
            State::Resting(until) => until,
        };
        let until = self.followed.iter().map(next).chain([self.routes_at]).min().unwrap_or(self.routes_at);
        // The channel cannot end, because this struct holds a sender: an error means that the time is over.
        self.answers.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }

    fn take(
        &mut self,
        key: usize,
        answer: Result<Received>,
        on_message: &mut impl FnMut(&ReceivedMessage) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let Some(followed) = self.followed.get_mut(key) else { return Ok(ControlFlow::Continue(())) };
        // An answer that came after its call was given up is the answer to none.
        let State::Asked { call, .. } = &followed.state else { return Ok(ControlFlow::Continue(())) };
        let outcome = answer.and_then(|received| self.consumer.take_answer(&followed.pull, call.addr(), &received));
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                if error.is_unreachable() {
                    self.consumer.doubt_route(self.topic);
                }
                followed.rest_after(error)?;
                return Ok(ControlFlow::Continue(()));
            }
        };
        followed.failures = 0;
        followed.pull.offset = outcome.next_offset;
        followed.state = State::Resting(Instant::now());
        if outcome.status == PullStatus::OffsetMoved {
            tracing::warn!(queue = ?followed.pull.queue, next = outcome.next_offset, "the offset was out of range");
        }
        for message in &outcome.messages {
            if on_message(message).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Gives up on answers that are overdue, and looks for new queues from time to time.
    fn on_time(&mut self) -> Result<()> {
        let now = Instant::now();
        for followed in &mut self.followed {
            if let State::Asked { call, lost_at } = &followed.state
                && *lost_at <= now
            {
                call.time_out();
                followed.rest();
            }
        }
        if self.routes_at <= now {
            self.routes_at = now + ROUTE_AGE_MAX;
            match self.follow_new_queues(TailStart::Earliest) {
                Err(error) if passes(&error) => tracing::warn!(%error, "new queues cannot be looked for"),
                other => return other,
            }
        }
        Ok(())
    }
}

impl Followed {
    fn rest(&mut self) {
        self.state = State::Resting(Instant::now() + pause_after(self.failures));
        self.failures += 1;
    }

    /// What does not pass by itself ends the tail.
    fn rest_after(&mut self, error: Error) -> Result<()> {
        if !passes(&error) {
            return Err(error);
        }
        tracing::warn!(%error, "a queue cannot be read, it is asked again");
        self.rest();
        Ok(())
    }
}

/// A broker that is in no route at the moment may be in the next one.
fn passes(error: &Error) -> bool {
    error.is_unreachable()
        || matches!(error, Error::NoBroker { .. })
        || error.code().is_some_and(|code| PASSING.contains(&code))
}

/// Refusals of a broker that starts, stops or has too much to do.
const PASSING: [ringmq_protocol::code::ResponseCode; 5] = [
    ringmq_protocol::code::ResponseCode::SYSTEM_BUSY,
    ringmq_protocol::code::ResponseCode::SERVICE_NOT_AVAILABLE,
    ringmq_protocol::code::ResponseCode::FLOW_CONTROL,
    ringmq_protocol::code::ResponseCode::GO_AWAY,
    ringmq_protocol::code::ResponseCode::SUBSCRIPTION_NOT_LATEST,
];

impl Drop for Tail<'_> {
    fn drop(&mut self) {
        for followed in &self.followed {
            if let State::Asked { call, .. } = &followed.state {
                call.give_up();
            }
        }
    }
}
