//! Consumes each queue in its order, trying a message again before the next one: `orderly NAMESRV [TOPIC [COUNT]]`.

use std::sync::mpsc;

use ringmq_client::{Consumed, NameServers, PushConsumer, PushOptions, ReceivedMessage, StartAt};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: orderly NAMESRV [TOPIC [COUNT]]")?)?;
    let topic = args.next().unwrap_or_else(|| "example".to_owned());
    let count = args.next().map(|count| count.parse::<u64>()).transpose()?.unwrap_or(u64::MAX);
    let (seen, wait) = mpsc::channel();
    let listener = move |message: &ReceivedMessage| {
        let text = String::from_utf8_lossy(&message.body);
        println!("queue {} offset {}: {text}", message.queue_id, message.queue_offset);
        match seen.send(()) {
            Ok(()) => Consumed::Done,
            Err(_) => Consumed::Later,
        }
    };
    let mut options = PushOptions { start_at: StartAt::First, ..PushOptions::new("example-orderly") };
    options.reconsume_max = Some(16);
    let consumer = PushConsumer::start_orderly(options.subscribe(topic, "*"), names, listener)?;
    for _ in 0..count {
        wait.recv()?;
    }
    consumer.shutdown()?;
    Ok(())
}
