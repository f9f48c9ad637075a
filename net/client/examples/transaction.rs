//! Sends a message whose fate depends on other work: `transaction NAMESRV [TOPIC]`.

use ringmq_client::{Message, NameServers, ProducerOptions, TransactionProducer, TransactionState};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let names = NameServers::new(&args.next().ok_or("usage: transaction NAMESRV [TOPIC]")?)?;
    let topic = args.next().unwrap_or_else(|| "example".to_owned());
    // The broker asks here what became of a half message whose end it was not told of. A real program looks into its
    // database.
    let check = |message: &ringmq_client::ReceivedMessage| match message.keys() {
        Some("order-1") => TransactionState::Commit,
        _ => TransactionState::Rollback,
    };
    let producer = TransactionProducer::new(ProducerOptions::new("example-transactions"), names, check)?;
    for (key, state) in [("order-1", TransactionState::Commit), ("order-2", TransactionState::Rollback)] {
        let message = Message::builder(&topic).key(key).body(format!("{key} is paid"));
        let (receipt, state) = producer.send(&message, |_half| {
            // The work that must happen together with the message goes here.
            state
        })?;
        println!("{key} {} {state:?}", receipt.msg_id);
    }
    Ok(())
}
