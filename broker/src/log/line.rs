//! What waits until a log takes messages again: sends, and what else a client asks for that has the broker store a message,
//! in the order in which they came. Their number, their bytes and their time are bounded: who finds no room, or has waited for
//! too long, is refused, and nothing of it is stored. What was promised to somebody does not wait here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use ringmq_rt::sync::{Either, Event, first};
use ringmq_rt::time::{Instant, now};
use ringmq_rt::yield_now;

use super::Log;
use crate::limits::{PARKED_BYTES_MAX, PARKED_SENDS_MAX};
use crate::message::Message;
use crate::node::Node;
use crate::put::PutError;
use crate::refusal::Refusal;
use crate::send::Parked;

/// Sends that waited hold the core no longer than this before others have their turn.
const TURN: Duration = Duration::from_millis(1);

/// The line in front of one log.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiting: RefCell<VecDeque<Waiting>>,
    bytes: Cell<usize>,
    joined: Event,
    /// The first may be gone.
    left: Event,
}

#[derive(Debug)]
enum Waiting {
    /// It is tried again by the line.
    Send(Box<Parked>),
    /// It tries itself when it is the first.
    Put(Rc<Place>),
}

#[derive(Debug)]
struct Place {
    bytes: usize,
    since: Instant,
    state: Cell<State>,
    told: Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    /// It is the first, and knows it.
    Tries,
    Overdue,
    /// It is stored, or gave up.
    Gone,
}

impl Waiting {
    fn bytes(&self) -> usize {
        match self {
            Self::Send(send) => send.bytes(),
            Self::Put(place) => place.bytes,
        }
    }

    fn waited(&self, at: Instant) -> Duration {
        match self {
            Self::Send(send) => send.waited(at),
            Self::Put(place) => at.since(place.since),
        }
    }
}

/// What the line does next.
enum Next {
    /// Others have their turn first.
    Yield,
    /// The first tries itself.
    Leave,
    /// Nothing more can be done before the log has moved.
    Progress,
}

/// Leaves the line, whatever becomes of the request.
struct InLine<'a> {
    line: &'a Line,
    place: Rc<Place>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.place.state.set(State::Gone);
        self.line.left.notify();
    }
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// How many wait, and for how long the first has.
    pub(super) fn waits(&self, at: Instant) -> (usize, Duration) {
        let waiting = self.waiting.borrow();
        (waiting.len(), waiting.front().map_or(Duration::ZERO, |first| first.waited(at)))
    }

    /// Keeps a send until the log takes messages again.
    ///
    /// # Errors
    /// The send itself, and how many wait already, when those are too many.
    pub(super) fn park(&self, send: Box<Parked>) -> Result<(), (Box<Parked>, usize)> {
        match self.has_room(send.bytes()) {
            Ok(()) => {
                self.push(Waiting::Send(send));
                Ok(())
            }
            Err(waiting) => Err((send, waiting)),
        }
    }

    fn has_room(&self, bytes: usize) -> Result<(), usize> {
        let waiting = self.waiting.borrow().len();
        let full = waiting >= PARKED_SENDS_MAX || (self.bytes.get() + bytes > PARKED_BYTES_MAX && waiting > 0);
        if full { Err(waiting) } else { Ok(()) }
    }

    fn push(&self, waiting: Waiting) {
        self.bytes.set(self.bytes.get() + waiting.bytes());
        self.waiting.borrow_mut().push_back(waiting);
        self.joined.notify();
    }

    fn pop(&self) -> Option<Waiting> {
        let popped = self.waiting.borrow_mut().pop_front();
        if let Some(waiting) = &popped {
            self.bytes.set(self.bytes.get().saturating_sub(waiting.bytes()));
        }
        popped
    }

    /// Has `append` try to append the messages, at once and then whenever it is their turn and the log has moved.
    pub(super) async fn append<T>(
        &self,
        log: &Log,
        messages: &mut [Message],
        mut append: impl FnMut(&[Message]) -> Result<T, PutError>,
    ) -> Result<T, PutError> {
        if self.is_empty() {
            match append(messages) {
                Err(error) if error.is_busy() => (),
                done => return done,
            }
        }
        let bytes = messages.iter().map(Message::bytes).sum();
        self.has_room(bytes).map_err(|waiting| PutError::Busy(Refusal::no_room_to_wait(waiting)))?;
        // A small message is not to hold a whole buffer of the log while it waits.
        messages.iter_mut().for_each(Message::own_body);
        let place = Rc::new(Place { bytes, since: now(), state: Cell::new(State::Waits), told: Event::new() });
        self.push(Waiting::Put(Rc::clone(&place)));
        log.waits.notify();
        let me = InLine { line: self, place };
        me.place.told.wait().await;
        while me.place.state.get() == State::Tries {
            match append(messages) {
                // No await between the try and this wait.
                Err(error) if error.is_busy() => {
                    let (Either::Left(()) | Either::Right(())) = first(me.place.told.wait(), log.progress()).await;
                }
                done => return done,
            }
        }
        Err(PutError::Busy(Refusal::overdue(now().since(me.place.since))))
    }

    /// Has those that wait try, in order, as far as the log takes them.
    fn advance(&self, node: &Rc<Node>, log: &Rc<Log>) -> Next {
        let begun = now();
        loop {
            let place = match self.waiting.borrow().front() {
                None => return Next::Progress,
                Some(Waiting::Put(place)) => Some(Rc::clone(place)),
                Some(Waiting::Send(_)) => None,
            };
            match place {
                Some(place) if place.state.get() == State::Gone => drop(self.pop()),
                Some(place) => {
                    if place.state.replace(State::Tries) == State::Waits {
                        place.told.notify();
                    }
                    return Next::Leave;
                }
                None => {
                    let Some(Waiting::Send(send)) = self.pop() else { continue };
                    if let Some(still) = send.retry(node, log) {
                        self.bytes.set(self.bytes.get() + still.bytes());
                        self.waiting.borrow_mut().push_front(Waiting::Send(still));
                        return Next::Progress;
                    }
                }
            }
            if now().since(begun) > TURN {
                return Next::Yield;
            }
        }
    }

    /// Refuses who has waited for too long.
    pub(super) fn refuse_overdue(&self, node: &Rc<Node>, at: Instant) {
        let max = node.settings.send_wait_max;
        while self.waiting.borrow().front().is_some_and(|first| first.waited(at) >= max) {
            match self.pop() {
                Some(Waiting::Send(send)) => send.refuse_overdue(node),
                Some(Waiting::Put(place)) if place.state.get() != State::Gone => {
                    place.state.set(State::Overdue);
                    place.told.notify();
                }
                Some(Waiting::Put(_)) | None => (),
            }
        }
    }
}

/// Serves the line of a log, for ever.
pub(super) async fn serve(node: Rc<Node>, log: Rc<Log>) {
    let line = &log.line;
    loop {
        if line.is_empty() {
            line.joined.wait().await;
        }
        match line.advance(&node, &log) {
            Next::Yield => yield_now().await,
            Next::Leave => line.left.wait().await,
            Next::Progress => {
                // What may have made room since the last try wakes this.
                let mut looked = false;
                let again = || if !line.is_empty() && !std::mem::replace(&mut looked, true) { None } else { Some(()) };
                log.shard.progress().until(again).await;
            }
        }
    }
}
