//! Reads what a topic holds, queue by queue, and commits how far it has got: `pull NAMESRV [TOPIC]`.

use std::time::Duration;

use ringmq_client::{ConsumerOptions, NameServers, PullConsumer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: pull NAMESRV [TOPIC]")?)?;
    let topic = args.next().unwrap_or_else(|| "example".to_owned());
    let consumer = PullConsumer::new(ConsumerOptions::new("example-reader"), names)?;
    consumer.subscribe(&topic, "*")?;
    for queue in consumer.queues(&topic)? {
        // From the first message there still is, whatever the group has read before.
        consumer.seek(&queue, consumer.min_offset(&queue)?);
        while consumer.position(&queue)? < consumer.max_offset(&queue)? {
            for message in consumer.poll(&queue, Duration::from_secs(1))? {
                let text = String::from_utf8_lossy(&message.body);
                println!("queue {} offset {}: {text}", queue.queue_id, message.queue_offset);
            }
        }
        consumer.commit(&queue)?;
    }
    Ok(())
}
