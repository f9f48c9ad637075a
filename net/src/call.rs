//! Calls to a peer on an open connection: opaque to reply, with a time limit.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use ringmq_protocol::command::{Command, EncodeError};
use ringmq_rt::sync::Event;
use thiserror::Error;

/// A peer's answer.
#[derive(Debug, Clone)]
pub struct Response {
    pub command: Command,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum CallError {
    /// The peer did not answer in time; it may have done what was asked.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The connection ended first; the peer may have done what was asked.
    #[error("the connection was closed")]
    Closed,
    /// The request cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The calls of one connection that wait for their answers.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    next: Cell<i32>,
    waiting: RefCell<HashMap<i32, Rc<Waiting>>>,
}

#[derive(Debug, Default)]
struct Waiting {
    answered: Event,
    response: RefCell<Option<Response>>,
}

impl Calls {
    /// An opaque that no waiting call uses. Never zero: some clients take a zero for "none" and choose their own.
    pub(crate) fn next_opaque(&self) -> i32 {
        let next = self.next.get().checked_add(1).unwrap_or(1);
        self.next.set(next);
        next
    }

    /// Waits for the answer to `opaque`.
    pub(crate) async fn wait(&self, opaque: i32, within: Duration) -> Result<Response, CallError> {
        let waiting = Rc::new(Waiting::default());
        self.waiting.borrow_mut().insert(opaque, Rc::clone(&waiting));
        let answered = ringmq_rt::time::timeout(within, waiting.answered.wait()).await;
        self.waiting.borrow_mut().remove(&opaque);
        match (answered, waiting.response.take()) {
            (_, Some(response)) => Ok(response),
            (Ok(()), None) => Err(CallError::Closed),
            (Err(_), None) => Err(CallError::TimedOut(within)),
        }
    }

    /// An answer arrived; one that nobody waits for any more is dropped.
    pub(crate) fn answer(&self, response: Response) {
        let waiting = self.waiting.borrow_mut().remove(&response.command.opaque);
        if let Some(waiting) = waiting {
            *waiting.response.borrow_mut() = Some(response);
            waiting.answered.notify();
        }
    }

    /// The connection is closed: nobody will be answered.
    pub(crate) fn close(&self) {
        for (_, waiting) in self.waiting.take() {
            waiting.answered.notify();
        }
    }
}
