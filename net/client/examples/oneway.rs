//! Sends messages and does not ask what became of them: `oneway NAMESRV [TOPIC]`.

use ringmq_client::{Message, NameServers, Producer, ProducerOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: oneway NAMESRV [TOPIC]")?)?;
    let topic = args.next().unwrap_or_else(|| "example".to_owned());
    let producer = Producer::new(ProducerOptions::new("example-producer"), names)?;
    for i in 0..10 {
        producer.send_oneway(&Message::new(&topic, format!("metric {i}")))?;
    }
    println!("10 messages are on their way");
    Ok(())
}
