//! The messages that a service has promised to send. A promise is a row, written in the transaction of the change that it
//! tells of: both are there or neither, whatever dies. A thread keeps the promises.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ringmq_client::{Message, NameServers, Producer, ProducerOptions, SendStatus};
use rusqlite::{Transaction, params};
use serde::Serialize;

use crate::Result;
use crate::database::Database;

pub(crate) const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    tag TEXT NOT NULL,
    message_key TEXT NOT NULL,
    delay_level INTEGER NOT NULL,
    body BLOB NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0)";

/// How long a broker that does not answer is left alone.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct Outbox {
    /// Taken when the outbox ends, which ends the thread.
    news: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Outbox {
    /// Sends as the producer group `group` what the database holds now, and what is promised from now on.
    pub(crate) fn start(database: Arc<Database>, names: NameServers, group: &str) -> Result<Outbox> {
        let producer = Producer::new(ProducerOptions::new(group), names)?;
        let (news, promised) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("outbox".to_owned())
            .spawn(move || keep_promises(&database, &producer, &promised))?;
        Ok(Outbox { news: Some(news), thread: Some(thread) })
    }

    /// A delay level of 0 is none; the others are the broker's `messageDelayLevel`, counted from 1.
    pub(crate) fn promise(
        &self,
        transaction: &Transaction<'_>,
        message: (&str, &str, &str),
        body: &impl Serialize,
        delay_level: u8,
    ) -> Result<()> {
        let (topic, tag, key) = message;
        transaction.execute(
            "INSERT INTO outbox (topic, tag, message_key, delay_level, body) VALUES (?, ?, ?, ?, ?)",
            params![topic, tag, key, delay_level, serde_json::to_vec(body)?],
        )?;
        // The sender has to wait for the end of this transaction before it can look. It looks now and then anyway.
        if let Some(news) = &self.news {
            let _ = news.send(());
        }
        Ok(())
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.news = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

fn keep_promises(database: &Database, producer: &Producer, promised: &Receiver<()>) {
    loop {
        if let Err(error) = send_all(database, producer) {
            eprintln!("the outbox waits: {error}");
        }
        match promised.recv_timeout(PAUSE) {
            Ok(()) => promised.try_iter().for_each(drop),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Sends in order, and marks afterwards. Who dies in between sends it again: at least once, never not at all.
fn send_all(database: &Database, producer: &Producer) -> Result<()> {
    while let Some((id, message)) = database.transaction(first_unsent)? {
        let receipt = producer.send(&message)?;
        if receipt.status != SendStatus::Stored {
            return Err(format!("the broker keeps it, but not as safely as told: {:?}", receipt.status).into());
        }
        database.transaction(|transaction| {
            transaction.execute("UPDATE outbox SET sent = 1 WHERE id = ?", [id])?;
            Ok(())
        })?;
    }
    Ok(())
}

fn first_unsent(transaction: &Transaction<'_>) -> Result<Option<(i64, Message)>> {
    let mut unsent = transaction.prepare(
        "SELECT id, topic, tag, message_key, delay_level, body FROM outbox WHERE sent = 0 ORDER BY id LIMIT 1",
    )?;
    let mut rows = unsent.query([])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let builder = Message::builder(row.get::<_, String>("topic")?)
        .tag(row.get::<_, String>("tag")?)
        .key(row.get::<_, String>("message_key")?)
        .delay_level(row.get("delay_level")?);
    Ok(Some((row.get("id")?, builder.body(row.get::<_, Vec<u8>>("body")?))))
}
