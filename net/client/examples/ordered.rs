//! Sends the steps of three orders; those of one order come in their order: `ordered NAMESRV [TOPIC]`. Run `orderly` to
//! see them.

use ringmq_client::{Message, NameServers, Producer, ProducerOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: ordered NAMESRV [TOPIC]")?)?;
    let topic = args.next().unwrap_or_else(|| "example".to_owned());
    let producer = Producer::new(ProducerOptions::new("example-producer"), names)?;
    for step in ["created", "paid", "sent"] {
        for order in ["order-1", "order-2", "order-3"] {
            let message = Message::builder(&topic).key(order).body(format!("{order} {step}"));
            let receipt = producer.send_ordered(&message, order)?;
            println!("{order} {step}: queue {} offset {}", receipt.queue.queue_id, receipt.queue_offset);
        }
    }
    Ok(())
}
