//! Creates a topic, sends to it, finds the message again, and deletes the topic: `admin NAMESRV [TOPIC]`. Brokers without
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
    let found = admin.message_by_id(&receipt.offset_msg_id)?;
    println!("{} has key {}", found.msg_id(), found.keys().unwrap_or("none"));

    admin.delete_topic_in_cluster(None, &topic)?;
    println!("topic {topic} is gone");
    Ok(())
}
