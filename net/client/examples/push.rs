//! Consumes a topic together with the rest of its group: `push NAMESRV [TOPIC [COUNT]]`. It ends after COUNT messages.

use std::sync::mpsc;

use ringmq_client::{Consumed, NameServers, PushConsumer, PushOptions, ReceivedMessage, StartAt};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: push NAMESRV [TOPIC [COUNT]]")?)?;
    let topic = args.next().unwrap_or_else(|| "example".to_owned());
    let count = args.next().map(|count| count.parse::<u64>()).transpose()?.unwrap_or(u64::MAX);
    let (seen, wait) = mpsc::channel();
    let listener = move |message: &ReceivedMessage| {
        println!("{} {}", message.msg_id(), String::from_utf8_lossy(&message.body));
        match seen.send(()) {
            Ok(()) => Consumed::Done,
            // The program ends; somebody else of the group gets it.
            Err(_) => Consumed::Later,
        }
    };
    let options = PushOptions { start_at: StartAt::First, ..PushOptions::new("example-consumers") };
    let consumer = PushConsumer::start(options.subscribe(topic, "*"), names, listener)?;
    for _ in 0..count {
        wait.recv()?;
    }
    consumer.shutdown()?;
    Ok(())
}
