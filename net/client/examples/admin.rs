//! Creates a topic, sends to it, shows what its queues hold, and deletes the topic: `admin NAMESRV [TOPIC]`. Brokers without
//! access control take changes from their own host.

use ringmq_client::admin::cluster_masters;
use ringmq_client::{Admin, Message, NameServers, Producer, ProducerOptions, Remoting, TopicConfig};

/// Readable and writable.
const PERM: i32 = 6;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: admin NAMESRV [TOPIC]")?)?;
    let topic = args.next().unwrap_or_else(|| "example-admin".to_owned());
    let admin = Admin::new(Remoting::default(), names.clone());
    for (name, addr) in cluster_masters(&admin.cluster_info()?) {
        println!("broker {name} at {addr}");
    }
    let brokers = admin.create_topic_in_cluster(None, &TopicConfig::new(&topic, 4, 4, PERM))?;
    println!("topic {topic} is at {}", brokers.join(", "));

    let producer = Producer::new(ProducerOptions::new("example-producer"), names)?;
    let receipt = producer.send(&Message::builder(&topic).key("order-7").body("a cup of tea"))?;
    println!("{} is in queue {}", receipt.msg_id, receipt.queue.queue_id);
    let route = admin.topic_route(&topic)?.ok_or("the topic has no route")?;
    for (_, addr) in route.masters() {
        for (queue, offsets) in admin.topic_stats(addr, &topic)?.offset_table {
            println!("queue {}: offsets {} to {}", queue.queue_id, offsets.min_offset, offsets.max_offset);
        }
    }

    admin.delete_topic_in_cluster(None, &topic)?;
    println!("topic {topic} is gone");
    Ok(())
}
