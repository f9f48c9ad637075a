//! The services that only listen: points for what is paid, and the books of payments and of notices. Their tables have no
//! key that could hide a second entry; nothing but the consume log keeps one away.

use std::path::Path;

use ringmq_client::{NameServers, PushConsumer};
use rusqlite::Transaction;

use crate::Result;
use crate::consume_log::Refusal;
use crate::messages::{CREATED, Order, PAYMENT, Payment};
use crate::service::Service;

/// The customer whose account takes no points: each message about it fails, and is a dead letter in the end.
pub(crate) const FROZEN: &str = "frozen";

const CENTS_A_POINT: i64 = 100;

const POINTS: &str = "CREATE TABLE IF NOT EXISTS points (
    id INTEGER PRIMARY KEY AUTOINCREMENT, order_id TEXT NOT NULL, user_id TEXT NOT NULL, points INTEGER NOT NULL)";
const PAYMENT_LOG: &str = "CREATE TABLE IF NOT EXISTS payment_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT, order_id TEXT NOT NULL, cents INTEGER NOT NULL)";
const NOTICES: &str = "CREATE TABLE IF NOT EXISTS notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT, order_id TEXT NOT NULL, user_id TEXT NOT NULL)";

/// Gives a point for each full unit that is paid.
pub(crate) fn points(folder: &Path, names: &NameServers) -> Result<PushConsumer> {
    let give = |transaction: &Transaction<'_>, _: &str, paid: &Payment| {
        if paid.user == FROZEN {
            return Err(Refusal(format!("the points of {FROZEN} are frozen")).into());
        }
        let row = (&paid.order, &paid.user, paid.cents / CENTS_A_POINT);
        transaction.execute("INSERT INTO points (order_id, user_id, points) VALUES (?, ?, ?)", row)?;
        Ok(())
    };
    Service::open(folder, "points", names, &[POINTS])?.consume("points_group", PAYMENT, "PAID", give)
}

/// Keeps the book of payments, and of what customers were told about new orders.
pub(crate) fn log(folder: &Path, names: &NameServers) -> Result<[PushConsumer; 2]> {
    let service = Service::open(folder, "log", names, &[PAYMENT_LOG, NOTICES])?;
    let paid = |transaction: &Transaction<'_>, _: &str, paid: &Payment| {
        transaction.execute("INSERT INTO payment_log (order_id, cents) VALUES (?, ?)", (&paid.order, paid.cents))?;
        Ok(())
    };
    let created = |transaction: &Transaction<'_>, _: &str, order: &Order| {
        transaction.execute("INSERT INTO notices (order_id, user_id) VALUES (?, ?)", (&order.id, &order.user))?;
        Ok(())
    };
    Ok([
        service.consume("payment_log_group", PAYMENT, "PAID", paid)?,
        service.consume("notice_group", CREATED, "CREATED", created)?,
    ])
}
