//! What every service has: a database of its own with a consume log in it, and consumers that write there.

use std::path::Path;
use std::sync::Arc;

use ringmq_client::{Consumed, NameServers, PushConsumer, PushOptions, ReceivedMessage, StartAt};
use rusqlite::Transaction;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::consume_log::{self, Outcome};
use crate::database::Database;
use crate::outbox::{self, Outbox};

/// A service changes one row at a time; more threads would only wait for each other.
const THREADS: usize = 2;

/// The broker's delay level of a message that was refused: RocketMQ's first one is a second.
const RETRY_LEVEL: u8 = 1;

#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) database: Arc<Database>,
    names: NameServers,
}

impl Service {
    /// The database is `name`.db in `folder`.
    pub(crate) fn open(folder: &Path, name: &str, names: &NameServers, schema: &[&str]) -> Result<Service> {
        let schema = [schema, &[consume_log::SCHEMA, outbox::SCHEMA]].concat();
        let database = Database::open(&folder.join(name).with_extension("db"), &schema)?;
        Ok(Service { database: Arc::new(database), names: names.clone() })
    }

    pub(crate) fn names(&self) -> NameServers {
        self.names.clone()
    }

    pub(crate) fn outbox(&self, group: &str) -> Result<Outbox> {
        Outbox::start(Arc::clone(&self.database), self.names(), group)
    }

    /// Makes for each message of these tags the change that it asks for, once, however often it comes.
    pub(crate) fn consume<Body: DeserializeOwned>(
        &self,
        group: &'static str,
        topic: &str,
        tags: &str,
        change: impl Fn(&Transaction<'_>, &str, &Body) -> Result<()> + Send + Sync + 'static,
    ) -> Result<PushConsumer> {
        let database = Arc::clone(&self.database);
        let listener = move |message: &ReceivedMessage| {
            let done = consume_log::once(&database, group, message, |transaction| {
                let body = serde_json::from_slice(&message.body)?;
                change(transaction, message.tag().unwrap_or_default(), &body)
            });
            match done {
                Ok(Outcome::Done) => Consumed::Done,
                Ok(Outcome::Refused) => Consumed::LaterAt(RETRY_LEVEL),
                Ok(Outcome::Failed) => Consumed::Later,
                Ok(Outcome::Dead) => Consumed::DeadLetter,
                Err(error) => {
                    eprintln!("{group}: the database does not take {}: {error}", message.msg_id());
                    Consumed::Later
                }
            }
        };
        let mut options = PushOptions::new(group).subscribe(topic, tags);
        options.start_at = StartAt::First;
        options.threads = THREADS;
        Ok(PushConsumer::start(options, self.names(), listener)?)
    }
}
