//! A RocketMQ client for Rust: producer, pull consumer and admin calls, for brokers and name servers of RocketMQ 4.9
//! and 5.x and for RingMQ.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use ringmq_client::{
//!     ConsumerOptions, Message, NameServers, Producer, ProducerOptions, PullConsumer, TailStart, tail,
//! };
//!
//! # fn main() -> ringmq_client::Result<()> {
//! let names = NameServers::new("127.0.0.1:9876")?;
//!
//! let producer = Producer::new(ProducerOptions::new("orders-producer"), names.clone())?;
//! let receipt = producer.send(&Message::new("orders", "a cup of tea").with_tag("new").with_key("order-7"))?;
//! println!("{} is at {} of queue {}", receipt.msg_id, receipt.queue_offset, receipt.queue.queue_id);
//!
//! let consumer = PullConsumer::new(ConsumerOptions::new("orders-reader"), names)?;
//! consumer.subscribe("orders", "new || changed")?;
//! tail(&consumer, "orders", TailStart::Earliest, |message| {
//!     println!("{}", String::from_utf8_lossy(&message.body));
//!     ControlFlow::Continue(())
//! })
//! # }
//! ```
//!
//! The map: [`conn`] is one connection without I/O, [`driver`] moves its bytes, [`route`] knows name servers and queues,
//! [`producer`], [`consumer`] and [`admin`] are what one can ask for, [`tail`](mod@tail) follows a whole topic. Bytes
//! and their meaning are `ringmq-protocol`'s.
//!
//! Deliberately absent: storage, an executor of its own, and any retry that the caller cannot see in an error or switch
//! off.

#![forbid(unsafe_code)]

pub mod admin;
pub mod conn;
pub mod consumer;
pub mod driver;
pub mod error;
mod heartbeat;
pub mod identity;
pub mod message;
pub mod producer;
pub mod route;
pub mod tail;

pub use self::admin::Admin;
pub use self::consumer::{ConsumerOptions, Pull, PullConsumer, PullOutcome, PullStatus};
pub use self::driver::blocking::{Options, Remoting};
pub use self::error::{Error, Result};
pub use self::message::{Message, ReceivedMessage};
pub use self::producer::{Producer, ProducerOptions, SendReceipt, SendStatus};
pub use self::route::{NameServers, Route};
pub use self::tail::{TailStart, tail};
pub use ringmq_protocol::body::{MessageQueue, TopicConfig};
