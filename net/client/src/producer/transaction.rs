//! Transactions: a half message that nobody sees, the sender's own work, and the word that makes the message seen or
//! drops it. A broker that has not had the word asks for it, any producer of the group, as often as it takes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

use ringmq_protocol::code::RequestCode;
use ringmq_protocol::header::{CheckTransactionState, EndTransaction};
use ringmq_protocol::id::decode_offset_msg_id;
use ringmq_protocol::message::Record;
use ringmq_protocol::names::AUTO_CREATE_TOPIC_KEY;
use ringmq_protocol::properties::{self, sys_flag};

use super::{Producer, ProducerOptions, SendReceipt, SendStatus};
use crate::conn::{Received, Request};
use crate::driver::blocking::Remoting;
use crate::error::{Error, MessageFault, Result};
use crate::heartbeat::Whom;
use crate::message::{Message, ReceivedMessage};
use crate::route::NameServers;

/// Questions of brokers that may wait; what comes beyond that is asked again by the broker (`checkRequestHoldMax`).
const QUESTIONS_MAX: usize = 2000;

/// What becomes of a half message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionState {
    /// Consumers see it.
    Commit,
    /// Nobody ever sees it.
    Rollback,
    /// Not known yet; the broker asks later.
    Unknown,
}

impl TransactionState {
    fn flag(self) -> i32 {
        match self {
            TransactionState::Commit => sys_flag::TRANSACTION_COMMIT,
            TransactionState::Rollback => sys_flag::TRANSACTION_ROLLBACK,
            TransactionState::Unknown => 0,
        }
    }
}

enum Question {
    Asked(String, Received),
    Stop,
}

/// Sends messages whose fate is decided by what the sender does besides. Any number of threads may share it.
///
/// Brokers ask for words that they have not had on one thread of this producer, one question at a time.
#[derive(Debug)]
pub struct TransactionProducer {
    producer: Producer,
    questions: SyncSender<Question>,
    thread: Option<JoinHandle<()>>,
}

impl TransactionProducer {
    /// `check` says what became of a half message of this group, which another process may have sent. It should look
    /// where the sender's work left its traces; a panic counts as [`TransactionState::Unknown`].
    ///
    /// From now on brokers can ask, before anything is sent: those that create topics by themselves, and those of
    /// [`ProducerOptions::topics`]; later also those that are sent to.
    pub fn new(
        options: ProducerOptions,
        name_servers: NameServers,
        check: impl Fn(&ReceivedMessage) -> TransactionState + Send + 'static,
    ) -> Result<TransactionProducer> {
        let (questions, asked) = mpsc::sync_channel(QUESTIONS_MAX);
        let to_thread = questions.clone();
        let on_check = move |addr: &str, received: &Received| {
            let question = Question::Asked(addr.to_owned(), received.clone());
            if let Err(TrySendError::Full(_)) = to_thread.try_send(question) {
                tracing::warn!("too many transactions are asked about at once; the broker will ask again");
            }
        };
        let producer = Producer::open(options, name_servers, Some(Box::new(on_check)))?;
        let session = &producer.sending.session;
        // As Java's producers, which keep the route of the topic that new ones are modelled on.
        session.heart.follow(AUTO_CREATE_TOPIC_KEY, Whom::Masters);
        producer.sending.options.topics.iter().for_each(|topic| session.heart.follow(topic, Whom::Masters));
        let remoting = session.remoting.clone();
        let thread = thread::Builder::new()
            .name("ringmq-check".to_owned())
            .spawn(move || answer_all(&asked, &remoting, &check))
            .map_err(Error::Thread)?;
        Ok(TransactionProducer { producer, questions, thread: Some(thread) })
    }

    /// For everything that is no transaction: it sends under the same group.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Stores the half, runs `work`, and tells the broker what `work` said. A half that is not stored as safely as the
    /// broker is configured to is rolled back and `work` not run. The word itself may be lost on its way: then the
    /// broker asks `check`.
    pub fn send(
        &self,
        message: &Message,
        work: impl FnOnce(&SendReceipt) -> TransactionState,
    ) -> Result<(SendReceipt, TransactionState)> {
        if message.is_delayed() {
            return Err(message.fault(MessageFault::DelayedHalf));
        }
        let sending = &self.producer.sending;
        let group = sending.options.group.as_str();
        let mut half = sending.prepare(message, &[(properties::TRAN_MSG, "true"), (properties::PGROUP, group)])?;
        half.sys_flag |= sys_flag::TRANSACTION_PREPARED;
        // Brokers ask the producers that they know.
        for (_, addr) in sending.route(&message.topic)?.masters() {
            sending.session.heart.introduce_soon(addr);
        }
        let receipt = sending.send(&half)?;
        let state = match receipt.status {
            SendStatus::Stored => work(&receipt),
            _ => TransactionState::Rollback,
        };
        if state != TransactionState::Unknown
            && let Err(error) = self.end(&receipt, state)
        {
            tracing::warn!(msg_id = receipt.msg_id, %error, "the broker was not told of a transaction's end; it will ask");
        }
        Ok((receipt, state))
    }

    fn end(&self, receipt: &SendReceipt, state: TransactionState) -> Result<()> {
        let sending = &self.producer.sending;
        let none = || Error::HalfNotFound { msg_id: receipt.msg_id.clone() };
        let (_, position) = decode_offset_msg_id(&receipt.offset_msg_id).ok_or_else(none)?;
        let header = EndTransaction {
            producer_group: sending.options.group.clone(),
            tran_state_table_offset: receipt.queue_offset,
            commit_log_offset: position,
            commit_or_rollback: state.flag(),
            from_transaction_check: false,
            msg_id: Some(receipt.msg_id.clone()),
            transaction_id: receipt.transaction_id.clone(),
            topic: Some(receipt.queue.topic.clone()),
        };
        let request = Request::new(RequestCode::END_TRANSACTION).with_ext(header.to_ext());
        let route = sending.route(&receipt.queue.topic)?;
        let addr = route.master(&receipt.queue.broker_name).ok_or_else(none)?;
        sending.session.remoting.oneway(addr, &request)
    }
}

impl Drop for TransactionProducer {
    /// Ends after the questions that came before.
    fn drop(&mut self) {
        // The thread reads until it is told to stop.
        let _ = self.questions.send(Question::Stop);
        if let Some(thread) = self.thread.take() {
            // What could panic there is caught there.
            let _ = thread.join();
        }
    }
}

fn answer_all(asked: &Receiver<Question>, remoting: &Remoting, check: &dyn Fn(&ReceivedMessage) -> TransactionState) {
    while let Ok(Question::Asked(addr, received)) = asked.recv() {
        let Some(request) = answer(&received, check) else { continue };
        if let Err(error) = remoting.oneway(&addr, &request) {
            tracing::warn!(%error, "a broker's question about a transaction was not answered; it will ask again");
        }
    }
}

/// The word on a half message; `None` when there is none yet, or the question cannot be read.
fn answer(received: &Received, check: &dyn Fn(&ReceivedMessage) -> TransactionState) -> Option<Request> {
    let (header, record) = match (received.header(CheckTransactionState::decode), Record::parse(&received.body)) {
        (Ok(header), Ok((record, _))) => (header, record),
        (header, record) => {
            let (header, record) = (header.err(), record.err());
            tracing::warn!(?header, ?record, "a broker's question about a transaction cannot be read");
            return None;
        }
    };
    let message = ReceivedMessage::of(&record, header.broker_name.as_deref().unwrap_or_default());
    let state = catch_unwind(AssertUnwindSafe(|| check(&message))).unwrap_or_else(|_| {
        tracing::error!(msg_id = message.msg_id(), "the check of a transaction panicked");
        TransactionState::Unknown
    });
    if state == TransactionState::Unknown {
        return None;
    }
    let end = EndTransaction {
        producer_group: message.property(properties::PGROUP).unwrap_or_default().to_owned(),
        tran_state_table_offset: header.tran_state_table_offset,
        commit_log_offset: header.commit_log_offset,
        commit_or_rollback: state.flag(),
        from_transaction_check: true,
        msg_id: Some(message.msg_id()),
        transaction_id: header.transaction_id,
        topic: Some(message.topic.clone()),
    };
    Some(Request::new(RequestCode::END_TRANSACTION).with_ext(end.to_ext()))
}
