//! A service's own database: SQLite, one file a service, one writing transaction at a time.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::Result;

/// How long a transaction waits for another program that has the file.
const BUSY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Database {
    connection: Mutex<Connection>,
}

impl Database {
    pub(crate) fn open(file: &Path, schema: &[&str]) -> Result<Database> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(BUSY)?;
        // What is committed must survive whatever dies.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(&schema.join(";"))?;
        Ok(Database { connection: Mutex::new(connection) })
    }

    /// All that `work` does is there in the end, or nothing of it, as `work` returns.
    pub(crate) fn transaction<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        // A panic in `work` has rolled its transaction back.
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}
