//! What became of each message, by group, tag and key. The row is written in the transaction of the change that the
//! message asked for, so a message that comes again finds either both or neither.

use ringmq_client::ReceivedMessage;
use rusqlite::{OptionalExtension, Transaction, params};

use crate::Result;
use crate::database::Database;

pub(crate) const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS consume_log (
    group_name TEXT NOT NULL,
    tag TEXT NOT NULL,
    message_key TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('DONE', 'FAILED', 'DEAD')),
    retries INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (group_name, tag, message_key))";

/// A message that failed is tried so many times more; then it is dead, and the broker keeps it as a dead letter.
pub(crate) const RETRIES_MAX: i32 = 3;

/// Whose message it is, and which.
struct Receipt<'a> {
    group: &'a str,
    tag: &'a str,
    key: &'a str,
}

/// Makes the change unless it has been made; false asks for the message again.
pub(crate) fn once(
    database: &Database,
    group: &str,
    message: &ReceivedMessage,
    change: impl FnOnce(&Transaction<'_>) -> Result<()>,
) -> Result<bool> {
    let (tag, key) = (message.tag().unwrap_or_default(), message.keys().unwrap_or_default());
    let receipt = Receipt { group, tag, key };
    let consumed = database.transaction(|transaction| {
        let known = find(transaction, &receipt)?;
        if let Some((status, _)) = &known
            && status != "FAILED"
        {
            return Ok(status == "DONE");
        }
        change(transaction)?;
        write(transaction, &receipt, "DONE", known.map_or(0, |(_, retries)| retries + 1), "")?;
        Ok(true)
    });
    consumed.or_else(|reason| {
        database.transaction(|transaction| {
            let retries = find(transaction, &receipt)?.map_or(0, |(_, retries)| retries + 1);
            let status = if retries < RETRIES_MAX { "FAILED" } else { "DEAD" };
            write(transaction, &receipt, status, retries, &reason.to_string())?;
            Ok(false)
        })
    })
}

/// The status, and how often the message has come again.
fn find(transaction: &Transaction<'_>, receipt: &Receipt<'_>) -> Result<Option<(String, i32)>> {
    let Receipt { group, tag, key } = receipt;
    let row = transaction.query_row(
        "SELECT status, retries FROM consume_log WHERE group_name = ? AND tag = ? AND message_key = ?",
        [group, tag, key],
        |row| Ok((row.get("status")?, row.get("retries")?)),
    );
    Ok(row.optional()?)
}

fn write(transaction: &Transaction<'_>, receipt: &Receipt<'_>, status: &str, retries: i32, reason: &str) -> Result<()> {
    let Receipt { group, tag, key } = receipt;
    transaction.execute(
        "INSERT INTO consume_log (group_name, tag, message_key, status, retries, reason) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET status = excluded.status, retries = excluded.retries, reason = excluded.reason",
        params![group, tag, key, status, retries, reason],
    )?;
    Ok(())
}
