//! What became of each message, by group, tag and key. The row is written in the transaction of the change that the
//! message asked for, so a message that comes again finds either both or neither.

use std::error::Error;
use std::fmt;

use ringmq_client::ReceivedMessage;
use rusqlite::{OptionalExtension, Transaction, params};

use crate::Result;
use crate::database::Database;

pub(crate) const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS consume_log (
    group_name TEXT NOT NULL,
    tag TEXT NOT NULL,
    message_key TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('DONE', 'FAILED', 'DEAD')),
    refusals INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (group_name, tag, message_key))";

/// A message that was refused so often is dead, and the broker keeps it as a dead letter.
const REFUSALS_MAX: i32 = 4;

/// A no that has a reason in the message, such as a frozen account.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Refusal {}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The change is made.
    Done,
    /// It was refused, and may be taken yet.
    Refused,
    /// It failed for a reason that is not the message's, such as a full disk. That does not count.
    Failed,
    /// It was refused too often.
    Dead,
}

/// Whose message it is, and which.
struct Receipt<'a> {
    group: &'a str,
    tag: &'a str,
    key: &'a str,
}

/// Makes the change unless it has been made.
pub(crate) fn once(
    database: &Database,
    group: &str,
    message: &ReceivedMessage,
    change: impl FnOnce(&Transaction<'_>) -> Result<()>,
) -> Result<Outcome> {
    let (tag, key) = (message.tag().unwrap_or_default(), message.keys().unwrap_or_default());
    let receipt = Receipt { group, tag, key };
    let consumed = database.transaction(|transaction| {
        let known = find(transaction, &receipt)?;
        if let Some(outcome) = known.outcome {
            return Ok(outcome);
        }
        change(transaction)?;
        write(transaction, &receipt, "DONE", known.refusals, "")?;
        Ok(Outcome::Done)
    });
    consumed.or_else(|reason| database.transaction(|transaction| fail(transaction, &receipt, &*reason)))
}

fn fail(transaction: &Transaction<'_>, receipt: &Receipt<'_>, reason: &(dyn Error + 'static)) -> Result<Outcome> {
    let known = find(transaction, receipt)?;
    if let Some(outcome) = known.outcome {
        // It was looking that failed.
        return Ok(outcome);
    }
    let is_refused = reason.is::<Refusal>();
    let refusals = known.refusals + i32::from(is_refused);
    let (status, outcome) = match is_refused {
        true if refusals >= REFUSALS_MAX => ("DEAD", Outcome::Dead),
        true => ("FAILED", Outcome::Refused),
        false => ("FAILED", Outcome::Failed),
    };
    write(transaction, receipt, status, refusals, &reason.to_string())?;
    Ok(outcome)
}

/// What is written of a message.
#[derive(Debug, Default)]
struct Known {
    /// Where that is settled.
    outcome: Option<Outcome>,
    refusals: i32,
}

fn find(transaction: &Transaction<'_>, receipt: &Receipt<'_>) -> Result<Known> {
    let Receipt { group, tag, key } = receipt;
    let row = transaction.query_row(
        "SELECT status, refusals FROM consume_log WHERE group_name = ? AND tag = ? AND message_key = ?",
        [group, tag, key],
        |row| {
            let outcome = match row.get_ref("status")?.as_str()? {
                "DONE" => Some(Outcome::Done),
                "DEAD" => Some(Outcome::Dead),
                _ => None,
            };
            Ok(Known { outcome, refusals: row.get("refusals")? })
        },
    );
    Ok(row.optional()?.unwrap_or_default())
}

fn write(
    transaction: &Transaction<'_>,
    receipt: &Receipt<'_>,
    status: &str,
    refusals: i32,
    reason: &str,
) -> Result<()> {
    let Receipt { group, tag, key } = receipt;
    transaction.execute(
        "INSERT INTO consume_log (group_name, tag, message_key, status, refusals, reason) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET status = excluded.status, refusals = excluded.refusals, reason = excluded.reason",
        params![group, tag, key, status, refusals, reason],
    )?;
    Ok(())
}
