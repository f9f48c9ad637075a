//! Sends two messages that are seen later: `delayed NAMESRV [TOPIC]`.

use std::time::{Duration, SystemTime};

use ringmq_client::{Message, NameServers, Producer, ProducerOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: delayed NAMESRV [TOPIC]")?)?;
    let topic = args.next().unwrap_or_else(|| "example".to_owned());
    let producer = Producer::new(ProducerOptions::new("example-producer"), names)?;
    // Level 2 is five seconds, unless the broker's messageDelayLevel says otherwise.
    let receipt = producer.send(&Message::builder(topic.as_str()).delay_level(2).body("a reminder"))?;
    println!("{} is stored and will be seen later", receipt.msg_id);
    let at = SystemTime::now() + Duration::from_millis(2500);
    let receipt = producer.send(&Message::builder(topic).deliver_at(at).body("an alarm"))?;
    println!("{} is stored and will be seen at its time", receipt.msg_id);
    Ok(())
}
