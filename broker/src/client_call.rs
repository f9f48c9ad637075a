//! What the broker asks of its clients: requests that an operator sends on through it, replies of a request-reply pair, and
//! what a client is only told. A call is written where its connection lives; whoever calls waits elsewhere. Calls have a
//! deadline, and their number is bounded, so a client that does not answer costs nobody but its caller.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ringmq_net::{CallError, ConnId, Response};
use ringmq_protocol::command::{Command, EncodeError};
use thiserror::Error;

use crate::limits::CLIENT_CALLS_MAX;
use crate::mail::{Ask, Mail, Told};
use crate::node::Node;

/// A request to one client.
#[derive(Debug)]
pub struct ClientCall {
    pub conn: ConnId,
    pub command: Command,
    pub body: Vec<u8>,
    pub within: Duration,
}

/// Why a client has not answered.
#[derive(Debug, Clone, Error)]
pub enum NoAnswer {
    /// The client may have done what was asked.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The client may have done what was asked.
    #[error("its connection was closed")]
    Closed,
    /// The client does not take what was sent to it before.
    #[error("it does not read what it is sent")]
    Stuck,
    #[error("the broker waits for {CLIENT_CALLS_MAX} answers of clients already")]
    TooMany,
    #[error(transparent)]
    Unwritable(#[from] EncodeError),
    #[error("{0}")]
    Lost(String),
}

impl From<CallError> for NoAnswer {
    fn from(error: CallError) -> Self {
        match error {
            CallError::TimedOut(within) => Self::TimedOut(within),
            CallError::Closed => Self::Closed,
            CallError::Encode(error) => Self::Unwritable(error),
        }
    }
}

/// How many calls to one executor's connections wait for their answers.
#[derive(Debug, Default)]
pub struct CallsUnderWay(Cell<usize>);

struct UnderWay<'a>(&'a Cell<usize>);

impl CallsUnderWay {
    fn begin(&self) -> Result<UnderWay<'_>, NoAnswer> {
        if self.0.get() >= CLIENT_CALLS_MAX {
            return Err(NoAnswer::TooMany);
        }
        self.0.set(self.0.get() + 1);
        Ok(UnderWay(&self.0))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Calls a client, whichever shard its connection lives on.
///
/// # Errors
/// [`NoAnswer`]; a client that answers with an error has answered.
pub async fn call(node: &Rc<Node>, call: ClientCall) -> Result<Response, NoAnswer> {
    match node.ask(call.conn.shard(), Ask::Call(Box::new(call))).await {
        Told::Called(answer) => *answer,
        other => Err(NoAnswer::Lost(other.unexpected().remark)),
    }
}

/// The same, on the shard of the connection.
pub async fn call_local(node: &Node, call: ClientCall) -> Result<Response, NoAnswer> {
    let ClientCall { conn, command, body, within } = call;
    let conn = node.registry.get(conn).ok_or(NoAnswer::Closed)?;
    if conn.is_output_full() {
        return Err(NoAnswer::Stuck);
    }
    let _under_way = node.calls.begin()?;
    Ok(conn.call(command, &body, within).await?)
}

/// Tells a client something that it does not answer.
pub fn tell(node: &Rc<Node>, conn: ConnId, command: Command, body: Vec<u8>) {
    node.tell(conn.shard(), Mail::Oneway { conn, command: Box::new(command), body });
}

/// The same, on the shard of the connection.
pub fn tell_local(node: &Node, conn: ConnId, command: Command, body: &[u8]) {
    let Some(conn) = node.registry.get(conn) else { return };
    let code = command.code;
    if conn.is_output_full() {
        tracing::warn!(peer = %conn.peer(), code, "a client does not read, so it was not told");
        return;
    }
    if let Err(error) = conn.oneway(command, body) {
        tracing::warn!(peer = %conn.peer(), code, %error, "a client could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_beyond_the_bound_are_refused_until_one_ends() {
        let calls = CallsUnderWay::default();
        let mut open: Vec<_> = (0..CLIENT_CALLS_MAX).map(|_| calls.begin().unwrap()).collect();
        assert!(matches!(calls.begin(), Err(NoAnswer::TooMany)));
        open.pop();
        assert!(calls.begin().is_ok());
    }
}
