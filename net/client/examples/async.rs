//! Sends a hundred messages without waiting for each: `async NAMESRV [TOPIC]`.

use ringmq_client::{Message, NameServers, Producer, ProducerOptions, SendTicket};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: async NAMESRV [TOPIC]")?)?;
    let topic = args.next().unwrap_or_else(|| "example".to_owned());
    let producer = Producer::new(ProducerOptions::new("example-producer"), names)?;
    let send = |i| producer.send_async(&Message::new(&topic, format!("order {i}")));
    let tickets: Vec<SendTicket> = (0..100).map(send).collect::<Result<_, _>>()?;
    for ticket in tickets {
        ticket.wait()?;
    }
    // With a function in the place of a ticket; the producer waits for it when it is dropped.
    producer.send_then(&Message::new(&topic, "the last order"), |result| match result {
        Ok(receipt) => println!("100 messages are stored, and {}", receipt.msg_id),
        Err(error) => eprintln!("the last message is not stored: {error}"),
    })?;
    Ok(())
}
