//! Asks and answers: `request_reply NAMESRV [TOPIC]`. Both sides are in this program; they need not be.

use std::sync::Arc;
use std::time::Duration;

use ringmq_client::{
    Consumed, Message, NameServers, Producer, ProducerOptions, PushConsumer, PushOptions, ReceivedMessage, StartAt,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: request_reply NAMESRV [TOPIC]")?)?;
    let topic = args.next().unwrap_or_else(|| "example-requests".to_owned());
    let replier = Arc::new(Producer::new(ProducerOptions::new("example-replier"), names.clone())?);
    let answer = move |request: &ReceivedMessage| {
        let text = String::from_utf8_lossy(&request.body).to_uppercase();
        match replier.reply(request, text) {
            Ok(_) => Consumed::Done,
            Err(error) => {
                // Who asked has gone, or waits in vain; to answer again later helps nobody.
                eprintln!("no reply: {error}");
                Consumed::Done
            }
        }
    };
    let options = PushOptions { start_at: StartAt::First, ..PushOptions::new("example-repliers") };
    let consumer = PushConsumer::start(options.subscribe(&topic, "*"), names.clone(), answer)?;
    let producer = Producer::new(ProducerOptions::new("example-requester"), names)?;
    let reply = producer.request(&Message::new(topic, "what is the time?"), Duration::from_secs(30))?;
    println!("{}", String::from_utf8_lossy(&reply.body));
    consumer.shutdown()?;
    Ok(())
}
