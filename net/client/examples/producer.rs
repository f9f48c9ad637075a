//! Sends one message: `producer NAMESRV TOPIC TEXT [TAG]`.

use std::env;

use ringmq_client::{Message, NameServers, Producer, ProducerOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [names, topic, text, tag @ ..] = &args[..] else {
        return Err("usage: producer NAMESRV TOPIC TEXT [TAG]".into());
    };
    let producer = Producer::new(ProducerOptions::new("example-producer"), NameServers::new(names)?)?;
    let mut message = Message::new(topic, text.as_bytes());
    message.tag = tag.first().cloned();
    let receipt = producer.send(&message)?;
    println!(
        "{:?} {} at offset {} of queue {} on {}",
        receipt.status, receipt.msg_id, receipt.queue_offset, receipt.queue.queue_id, receipt.queue.broker_name
    );
    Ok(())
}
