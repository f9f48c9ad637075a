//! Sending: one message, a batch, or one without an answer; in turn over the queues of a topic, and to another broker
//! when one fails.
//!
//! A send that was not answered may have been stored all the same. It is tried again, as every RocketMQ producer does,
//! so a message can arrive twice, under the same unique key.
//!
//! `prepare` turns messages into requests, `sending` is one send as a call, `flights` the sends that nobody waits for,
//! `transaction` and `request` what their names say.

mod flights;
mod options;
pub(crate) mod prepare;
mod request;
pub(crate) mod sending;
mod transaction;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use ringmq_protocol::body::{HeartbeatData, MessageQueue, ProducerData};
use ringmq_protocol::code::RequestCode;
use ringmq_protocol::names::{self, GROUP_NAME_MAX_V4};

use self::flights::Flights;
pub use self::options::{ProducerOptions, SendReceipt, SendStatus};
use self::prepare::Prepared;
use self::request::Waiting;
use self::sending::{Sending, left_until, no_broker};
pub use self::transaction::{TransactionProducer, TransactionState};
use crate::conn::Received;
use crate::driver::asked::Asked;
use crate::driver::blocking::lock;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::route::NameServers;
use crate::session::Session;

/// What a broker asks about half messages, and its address.
type OnCheck = Box<dyn Fn(&str, &Received) + Send + Sync>;

/// Sends messages; any number of threads may share it. Dropping it waits for what [`send_async`](Producer::send_async)
/// has under way.
#[derive(Debug)]
pub struct Producer {
    // Before the session, so that its thread ends while there are connections.
    flights: Mutex<Option<Arc<Flights>>>,
    sending: Arc<Sending>,
    waiting: Arc<Waiting>,
}

impl Producer {
    /// No server is asked before something is sent.
    ///
    /// # Errors
    /// The name of the group, or no more threads.
    pub fn new(options: ProducerOptions, name_servers: NameServers) -> Result<Producer> {
        Producer::open(options, name_servers, None)
    }

    fn open(options: ProducerOptions, name_servers: NameServers, on_check: Option<OnCheck>) -> Result<Producer> {
        names::check_group(&options.group, GROUP_NAME_MAX_V4)?;
        let waiting = Arc::new(Waiting::default());
        let replies = Arc::clone(&waiting);
        let on_asked = move |asked: Asked| match (RequestCode(asked.received().command.code), &on_check) {
            (RequestCode::PUSH_REPLY_MESSAGE_TO_CLIENT, _) => {
                let reply = replies.take(asked.received());
                asked.answer(&reply);
            }
            (RequestCode::CHECK_TRANSACTION_STATE, Some(on_check)) => {
                on_check(asked.addr(), asked.received());
                asked.answer(&crate::conn::Reply::ok());
            }
            _ => {}
        };
        let group_name = options.group.clone();
        let content = move |client_id: String| -> Box<crate::heartbeat::Content> {
            Box::new(move || HeartbeatData {
                client_id: client_id.clone(),
                producer_data_set: vec![ProducerData { group_name: group_name.clone() }],
                ..HeartbeatData::default()
            })
        };
        let (connection, timeout) = (options.connection.clone(), options.send_timeout);
        let session = Session::open(name_servers, &connection, timeout, content, Box::new(on_asked))?;
        let sending = Arc::new(Sending::new(options, Arc::new(session)));
        Ok(Producer { flights: Mutex::default(), sending, waiting })
    }

    /// Who this client is to brokers: address, process and a number of its own.
    pub fn client_id(&self) -> &str {
        &self.sending.session.identity.client_id
    }

    /// The queues of a topic that can be sent to; of a topic that does not exist yet, those it will have.
    pub fn queues(&self, topic: &str) -> Result<Vec<MessageQueue>> {
        Ok(self.sending.route(topic)?.write_queues())
    }

    /// Sends one message and waits until the broker has stored it.
    pub fn send(&self, message: &Message) -> Result<SendReceipt> {
        self.sending.send(&self.sending.prepare(message, &[])?)
    }

    /// Sends to this queue and no other; there is no second try.
    pub fn send_to(&self, message: &Message, queue: &MessageQueue) -> Result<SendReceipt> {
        let deadline = self.sending.deadline();
        self.sending.send_to(&self.sending.prepare(message, &[])?, queue, deadline)
    }

    /// Sends messages with the same order key to the same queue, where an orderly consumer gets them in the order of
    /// these calls. For as long as the topic has the same queues: order is lost while their number changes. There is no
    /// second try, which could overtake.
    pub fn send_ordered(&self, message: &Message, order_key: impl Hash) -> Result<SendReceipt> {
        let deadline = self.sending.deadline();
        let prepared = self.sending.prepare(message, &[])?;
        let mut queues = self.sending.route_by(&message.topic, deadline)?.write_queues();
        queues.sort_unstable();
        // The hasher of std without keys: the same in every process of one build.
        let mut hasher = DefaultHasher::new();
        order_key.hash(&mut hasher);
        let at = hasher.finish().checked_rem(queues.len() as u64).ok_or_else(|| no_broker(&message.topic))?;
        self.sending.send_to(&prepared, &queues[at as usize], deadline)
    }

    /// Sends messages of one topic as one, to one queue; all are stored or none.
    pub fn send_batch(&self, messages: &[Message]) -> Result<SendReceipt> {
        let prepared = Prepared::batch(messages, &self.sending.options, &self.sending.session.identity)?;
        self.sending.send(&prepared)
    }

    /// Sends and does not ask what became of it.
    pub fn send_oneway(&self, message: &Message) -> Result<()> {
        let deadline = self.sending.deadline();
        let prepared = self.sending.prepare(message, &[])?;
        let target = self.sending.target(&prepared.topic, None, deadline)?;
        let session = &self.sending.session;
        session.heart.introduce_soon(&target.addr);
        let request = prepared.request(&self.sending.options, &target.queue);
        session.remoting.oneway_within(&target.addr, &request, left_until(deadline))
    }

    /// Sends and goes on; the ticket tells what became of it. Waits only where [`ProducerOptions::async_max`] sends are
    /// under way already, at most as long as a send may take.
    pub fn send_async(&self, message: &Message) -> Result<SendTicket> {
        let (sender, receiver) = mpsc::channel();
        let flights = self.flights()?;
        let deadline = self.sending.deadline();
        let on_sent = move |result| {
            // A ticket that was thrown away needs no result.
            let _ = sender.send(result);
        };
        flights.send(self.sending.prepare(message, &[])?, Box::new(on_sent))?;
        Ok(SendTicket { receiver, deadline, teller: flights.teller(), after: self.sending.options.send_timeout })
    }

    /// As [`send_async`](Producer::send_async), with a function that is called once with the result, mostly on a thread
    /// of the producer. It holds up the other results while it runs, so it should not wait for long, and must not drop the
    /// producer. A [`SendTicket`] that it waits for tells nothing: [`SendTicket::wait`] is then [`Error::NoResult`] at once.
    pub fn send_then(
        &self,
        message: &Message,
        on_sent: impl FnOnce(Result<SendReceipt>) + Send + 'static,
    ) -> Result<()> {
        let prepared = self.sending.prepare(message, &[])?;
        self.flights()?.send(prepared, Box::new(on_sent))
    }

    /// Their thread starts with the first of them.
    fn flights(&self) -> Result<Arc<Flights>> {
        let mut flights = lock(&self.flights);
        if let Some(flights) = &*flights {
            return Ok(Arc::clone(flights));
        }
        let started = Arc::new(Flights::start(Arc::clone(&self.sending))?);
        *flights = Some(Arc::clone(&started));
        Ok(started)
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        *lock(&self.flights) = None;
        self.sending.session.leave(Some(&self.sending.options.group), None);
    }
}

/// A send under way.
#[derive(Debug)]
#[must_use = "a ticket that nobody waits for hides a failure; use send_oneway where nobody cares"]
pub struct SendTicket {
    receiver: Receiver<Result<SendReceipt>>,
    deadline: Instant,
    /// The thread that tells results.
    teller: ThreadId,
    after: Duration,
}

/// A result that is due may wait for so long behind others that are being told.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

impl SendTicket {
    /// Waits until it is known what became of the message, which is at most as long as a send may take, and a second where
    /// a function of [`Producer::send_then`] holds up the results. Then, and at once where such a function waits itself, it is
    /// [`Error::NoResult`].
    pub fn wait(self) -> Result<SendReceipt> {
        let patience = if thread::current().id() == self.teller {
            Duration::ZERO
        } else {
            left_until(self.deadline + TOLD_WITHIN)
        };
        self.receiver.recv_timeout(patience).map_err(|_| Error::NoResult { after: self.after })?
    }

    /// The result if there is one already. It is given out once.
    pub fn try_wait(&self) -> Option<Result<SendReceipt>> {
        self.receiver.try_recv().ok()
    }
}
