//! Sends messages of one topic as one: `batch NAMESRV [TOPIC]`.

use ringmq_client::{Message, NameServers, Producer, ProducerOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: batch NAMESRV [TOPIC]")?)?;
    let topic = args.next().unwrap_or_else(|| "example".to_owned());
    let producer = Producer::new(ProducerOptions::new("example-producer"), names)?;
    let batch: Vec<Message> =
        (0..10).map(|i| Message::builder(&topic).tag("batch").body(format!("part {i}"))).collect();
    let receipt = producer.send_batch(&batch)?;
    println!("10 messages are stored, the first at offset {}", receipt.queue_offset);
    Ok(())
}
