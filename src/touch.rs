//! `send` and `tail`: one message there, and the messages of a topic here.

use std::io::{self, IsTerminal, Read, Write};
use std::ops::ControlFlow;

use ringmq_client::{
    ConsumerOptions, Error, Message, NameServers, Producer, ProducerOptions, PullConsumer, ReceivedMessage, SendStatus,
    TailStart, tail as follow,
};

use crate::cli::{SendArgs, TailArgs};
use crate::failure::Failure;
use crate::log;
use crate::out::line;

const LOG: &str = "warn";

/// Groups of these tools, so that they are seen for what they are in a broker's lists.
const PRODUCER_GROUP: &str = "ringmq-send";
const CONSUMER_GROUP: &str = "ringmq-tail";

pub(crate) fn send(args: &SendArgs) -> Result<(), Failure> {
    log::init(LOG)?;
    let mut builder = Message::builder(args.topic.as_str());
    if let Some(tag) = &args.tag {
        builder = builder.tag(tag);
    }
    if let Some(key) = &args.key {
        builder = builder.key(key);
    }
    let message = builder.body(body(&args.text)?);
    let producer = Producer::new(ProducerOptions::new(PRODUCER_GROUP), NameServers::new(&args.cluster.namesrv)?)?;
    let receipt = producer.send(&message)?;
    let (queue, at) = (&receipt.queue, receipt.queue_offset);
    let status = match receipt.status {
        SendStatus::Stored => "SEND_OK",
        SendStatus::FlushDiskTimeout => "FLUSH_DISK_TIMEOUT",
        SendStatus::FlushSlaveTimeout => "FLUSH_SLAVE_TIMEOUT",
        SendStatus::SlaveNotAvailable => "SLAVE_NOT_AVAILABLE",
    };
    line(format_args!("{status} {} {} queue {} offset {at}", receipt.msg_id, queue.broker_name, queue.queue_id));
    match receipt.status {
        SendStatus::Stored => Ok(()),
        _ => Err(Failure::refused("the message is stored, but not as safely as the broker is configured to")),
    }
}

fn body(text: &str) -> Result<Vec<u8>, Failure> {
    /// More than any broker takes.
    const MOST: u64 = 16 << 20;
    if text != "-" {
        return Ok(text.as_bytes().to_vec());
    }
    let mut body = Vec::new();
    let read = io::stdin().lock().take(MOST + 1).read_to_end(&mut body);
    read.map_err(|error| Failure::refused(format!("standard input cannot be read: {error}")))?;
    if body.len() as u64 > MOST { Err(Failure::usage("the body is longer than 16 MiB")) } else { Ok(body) }
}

pub(crate) fn tail(args: &TailArgs) -> Result<(), Failure> {
    log::init(LOG)?;
    let consumer = PullConsumer::new(ConsumerOptions::new(CONSUMER_GROUP), NameServers::new(&args.cluster.namesrv)?)?;
    consumer.subscribe(&args.topic, &args.tags)?;
    let start = if args.new { TailStart::Latest } else { TailStart::Earliest };
    let is_terminal = io::stdout().is_terminal();
    let mut left = args.count;
    if left == Some(0) {
        return Ok(());
    }
    let mut written = Ok(());
    follow(&consumer, &args.topic, start, |message| {
        written = print(message, args.body, is_terminal);
        if let Some(left) = &mut left {
            *left -= 1;
        }
        if written.is_err() || left == Some(0) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .map_err(|error| match error {
        Error::NoBroker { topic, .. } => Failure::refused(format!("no broker has topic {topic} yet; a send makes it")),
        other => other.into(),
    })?;
    match written {
        // Whoever read has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::refused(format!("standard output: {error}"))),
    }
}

fn print(message: &ReceivedMessage, body_only: bool, is_terminal: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !body_only {
        write!(out, "{} {:>3} {:>8}  ", message.broker_name, message.queue_id, message.queue_offset)?;
        if let Some(tag) = message.tag() {
            write!(out, "{}  ", shown(tag.as_bytes(), is_terminal))?;
        }
    }
    if is_terminal || !body_only {
        writeln!(out, "{}", shown(&message.body, is_terminal))?;
    } else {
        out.write_all(&message.body)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// Text as a terminal may see it: what a message holds must not steer it.
fn shown(bytes: &[u8], is_terminal: bool) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !is_terminal {
        return text.into_owned();
    }
    let escaped = |c: char| match c {
        '\t' => c.to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_steered() {
        assert_eq!(shown("a\x1b[2Jb\tü\n".as_bytes(), true), "a\\u{1b}[2Jb\tü\\n");
        assert_eq!(shown(b"a\x1b", false), "a\x1b");
        assert_eq!(shown(&[0xff], true), "\u{fffd}");
    }
}
