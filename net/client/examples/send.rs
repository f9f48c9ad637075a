//! Sends one message and says where it is: `send NAMESRV [TOPIC]`.

use ringmq_client::{Message, NameServers, Producer, ProducerOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: send NAMESRV [TOPIC]")?)?;
    let topic = args.next().unwrap_or_else(|| "example".to_owned());
    let producer = Producer::new(ProducerOptions::new("example-producer"), names)?;
    let message = Message::builder(topic).tag("new").key("order-7").property("amount", "3").body("a cup of tea");
    let receipt = producer.send(&message)?;
    let (queue, offset) = (&receipt.queue, receipt.queue_offset);
    println!(
        "{:?} {}: offset {offset} of queue {} at {}",
        receipt.status, receipt.msg_id, queue.queue_id, queue.broker_name
    );
    Ok(())
}
