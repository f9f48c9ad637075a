//! A question that a server asks of its own accord, and the way back for the answer.

use std::sync::Arc;

use ringmq_protocol::code::ResponseCode;

use super::channel::Channel;
use crate::conn::{Received, Reply};

/// What a server asks of its own accord. It can be kept and answered later, by any thread; one that is dropped without an
/// answer is answered as unknown. The answer to a one-way request is not sent.
#[derive(Debug)]
pub struct Asked {
    channel: Arc<Channel>,
    received: Received,
    is_answered: bool,
}

impl Asked {
    pub(super) fn new(channel: Arc<Channel>, received: Received) -> Asked {
        Asked { channel, received, is_answered: false }
    }

    /// The address of the server.
    pub fn addr(&self) -> &str {
        self.channel.addr()
    }

    /// What the server asks.
    pub fn received(&self) -> &Received {
        &self.received
    }

    /// Answers it. A server that wants no answer gets none; one that cannot be reached any more is passed over.
    pub fn answer(mut self, reply: &Reply) {
        self.is_answered = true;
        self.channel.answer(&self.received, reply);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if !self.is_answered {
            let unknown = "this client does not know the request";
            self.channel.answer(&self.received, &Reply::refusal(ResponseCode::REQUEST_CODE_NOT_SUPPORTED, unknown));
        }
    }
}
