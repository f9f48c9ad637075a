//! A RocketMQ client for Rust, for brokers and name servers of RocketMQ 4.9 and 5.x and for RingMQ. Plain threads, no
//! async runtime, no unsafe code, two dependencies besides the protocol crate.
//!
//! ```no_run
//! use ringmq_client::{
//!     Consumed, Message, NameServers, Producer, ProducerOptions, PushConsumer, PushOptions, ReceivedMessage,
//! };
//!
//! fn main() -> ringmq_client::Result<()> {
//!     let names = NameServers::new("127.0.0.1:9876")?;
//!
//!     // Shares the queues of the topic with every other consumer of the group.
//!     let options = PushOptions::new("orders-consumer").subscribe("orders", "new || changed");
//!     let consumer = PushConsumer::start(options, names.clone(), |message: &ReceivedMessage| {
//!         println!("{}", String::from_utf8_lossy(&message.body));
//!         Consumed::Done
//!     })?;
//!
//!     let producer = Producer::new(ProducerOptions::new("orders-producer"), names)?;
//!     let receipt = producer.send(&Message::builder("orders").tag("new").key("order-7").body("a cup of tea"))?;
//!     println!("{} is at offset {} of queue {}", receipt.msg_id, receipt.queue_offset, receipt.queue.queue_id);
//!
//!     // Waits for the listener, commits its offsets and leaves the group.
//!     consumer.shutdown()
//! }
//! ```
//!
//! # What there is
//!
//! Each row has a program of that name in `examples/`: `cargo run -p ringmq-client --example send -- 127.0.0.1:9876`.
//!
//! | to do | with | example |
//! |---|---|---|
//! | send and wait until it is stored | [`Producer::send`] | `send` |
//! | send and go on | [`Producer::send_async`], [`Producer::send_then`] | `async` |
//! | send and never ask | [`Producer::send_oneway`] | `oneway` |
//! | send many as one | [`Producer::send_batch`] | `batch` |
//! | send in order | [`Producer::send_ordered`], [`Producer::send_to`] | `ordered` |
//! | send what is seen later | [`MessageBuilder::delay_level`], [`MessageBuilder::deliver_at`] | `delayed` |
//! | send what depends on other work | [`TransactionProducer`] | `transaction` |
//! | ask and answer | [`Producer::request`], [`Producer::reply`] | `request_reply` |
//! | consume with a group | [`PushConsumer::start`] | `push` |
//! | consume in order | [`PushConsumer::start_orderly`] | `orderly` |
//! | get everything, whoever else does | [`Model::Broadcasting`] | `broadcast` |
//! | read queue by queue | [`PullConsumer::poll`], [`PullConsumer::seek`], [`PullConsumer::commit`] | `pull` |
//! | follow a whole topic | [`tail()`] | |
//! | create, find, reset, delete | [`Admin`] | `admin` |
//! | agree on orders and payments over several databases | all of these | `orders` |
//!
//! # What to expect
//!
//! **At least once.** A send without an answer may have been stored all the same. It is tried again, on another broker if there
//! is one, so a message can arrive twice, with the same [`ReceivedMessage::msg_id`]. A push consumer's message comes again after
//! a crash, when queues change hands, and when the listener says so or panics: to the retry topic, later each time, and at
//! last to the dead letters (`%DLQ%group`).
//!
//! **Errors** are one type, [`Error`]. [`Error::code`] is what a broker said, [`Error::is_unreachable`] that none did; its text is
//! one sentence. A running push consumer does not end because of an error: it says so by `tracing` and tries again. Name servers
//! are needed to find a topic for the first time; without them, clients go on with the routes that they have.
//!
//! **Threads.** Every client has one for heartbeats, with a few more for a moment where several brokers are told, one that keeps
//! routes fresh and one for each connection. Each connection is made by one more, which ends with that, after
//! [`Options::connect_timeout`] at the latest; the process has up to four that look up host names. A [`Producer`] has one more from
//! its first `send_async` on, a [`TransactionProducer`] one for the broker's questions. A [`PushConsumer`] has one that pulls, one
//! that keeps its place in the group, and [`PushOptions::threads`] that call the listener. Functions that wait are called on the
//! thread of the caller. All clients can be shared by threads, and dropping one ends its threads.
//!
//! **Operators** ask a running push consumer through the broker, with `mqadmin consumerStatus`, `resetOffsetByTime` and the
//! like: how far it is, what it holds and how fast it is, to read on elsewhere, to have one message consumed again now. That one goes to
//! the listener before all others; whatever becomes of it, nothing is committed and nothing comes again.
//!
//! **Limits.** [`ProducerOptions::async_max`] sends under way, then the next one waits. For each queue of a push consumer
//! [`PushOptions::queue_messages_max`] messages and [`PushOptions::queue_bytes_max`] bytes, exceeded by one pull at the most, then
//! the queue is not pulled. 64 MiB of requests for a connection that is being made, then the next caller waits for it. Bodies up to [`ProducerOptions::body_max`]; those of 4 KiB and more are sent packed by zlib. What
//! arrives may be packed by zlib, and grow to 64 MiB; a body in another packing is handed over as it is
//! ([`ReceivedMessage::packed`]).
//!
//! **Absent:** TLS, access control, message traces, pop consumption, other ways to share queues than the even one.
//!
//! # The map
//!
//! [`conn`] is one connection without I/O, [`driver`] moves its bytes, [`route`] knows name servers and queues; `session` is what
//! each client has once, `member` what a member of a group asks of brokers. [`producer`], [`consumer`], [`push`] and [`admin`] are
//! built on those. Bytes and their meaning are `ringmq-protocol`'s.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod admin;
pub mod conn;
pub mod consumer;
pub mod driver;
pub mod error;
pub mod filter;
mod heartbeat;
pub mod identity;
mod member;
pub mod message;
pub mod producer;
pub mod pull;
pub mod push;
pub mod route;
mod session;
pub mod tail;

pub use self::admin::Admin;
pub use self::consumer::{ConsumerOptions, PullConsumer};
pub use self::driver::blocking::{Options, Remoting};
pub use self::error::{Error, Result};
pub use self::filter::Filter;
pub use self::message::{Message, MessageBuilder, ReceivedMessage};
pub use self::producer::{
    Producer, ProducerOptions, SendReceipt, SendStatus, SendTicket, TransactionProducer, TransactionState,
};
pub use self::pull::{Pull, PullOutcome, PullStatus};
pub use self::push::{Consumed, Model, PushConsumer, PushOptions, StartAt};
pub use self::route::{NameServers, Route};
pub use self::tail::{TailStart, tail};
pub use ringmq_protocol::body::{MessageQueue, TopicConfig};
