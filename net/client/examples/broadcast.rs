//! Gets every message of a topic, whoever else is in the group: `broadcast NAMESRV [TOPIC [COUNT [OFFSETS]]]`. How far it
//! has got is kept in the file OFFSETS.

use std::sync::mpsc;

use ringmq_client::{Consumed, Model, NameServers, PushConsumer, PushOptions, ReceivedMessage, StartAt};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: broadcast NAMESRV [TOPIC [COUNT [OFFSETS]]]")?)?;
    let topic = args.next().unwrap_or_else(|| "example".to_owned());
    let count = args.next().map(|count| count.parse::<u64>()).transpose()?.unwrap_or(u64::MAX);
    let offsets = args.next().unwrap_or_else(|| "example-broadcast.offsets".to_owned()).into();
    let (seen, wait) = mpsc::channel();
    let listener = move |message: &ReceivedMessage| {
        println!("{} {}", message.msg_id(), String::from_utf8_lossy(&message.body));
        match seen.send(()) {
            Ok(()) => Consumed::Done,
            Err(_) => Consumed::Later,
        }
    };
    let mut options = PushOptions::new("example-broadcast");
    options.model = Model::Broadcasting { offsets };
    options.start_at = StartAt::First;
    let consumer = PushConsumer::start(options.subscribe(topic, "*"), names, listener)?;
    for _ in 0..count {
        wait.recv()?;
    }
    consumer.shutdown()?;
    Ok(())
}
