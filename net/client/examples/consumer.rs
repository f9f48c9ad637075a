//! Prints what a topic holds and what comes: `consumer NAMESRV TOPIC [TAGS]`.

use std::env;
use std::ops::ControlFlow;

use ringmq_client::{ConsumerOptions, NameServers, PullConsumer, TailStart, tail};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [names, topic, tags @ ..] = &args[..] else {
        return Err("usage: consumer NAMESRV TOPIC [TAGS]".into());
    };
    let consumer = PullConsumer::new(ConsumerOptions::new("example-consumer"), NameServers::new(names)?)?;
    consumer.subscribe(topic, tags.first().map_or("*", String::as_str))?;
    tail(&consumer, topic, TailStart::Earliest, |message| {
        let text = String::from_utf8_lossy(&message.body);
        println!("{}/{} {} {text}", message.queue_id, message.queue_offset, message.msg_id());
        ControlFlow::Continue(())
    })?;
    Ok(())
}
