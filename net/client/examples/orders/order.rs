//! The order service: writes an order invisibly, has stock, coupon and balance deducted by their services, makes it visible
//! or cancels it. All of that is the local transaction of the half message that tells of the new order; whoever dies on
//! the way, the broker asks later, and the order's row has the answer.

use std::path::Path;
use std::sync::Arc;

use ringmq_client::{Message, NameServers, ProducerOptions, PushConsumer, TransactionProducer, TransactionState};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::Result;
use crate::database::Database;
use crate::deduction::DeductionService;
use crate::goods::{Balances, Coupons, Stock};
use crate::messages::{CANCEL, CREATED, Cancel, Order, PAYMENT, Payment, UNPAID};
use crate::outbox::Outbox;
use crate::service::Service;

/// `INVISIBLE` becomes `CONFIRMED` or `CANCELLED`, `CONFIRMED` becomes `DELIVERED` or `CANCELLED`; each move names the
/// status that it leaves, so only one of two can win. `confirmed` stays: whether the customer has ever seen it.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    product TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    coupon TEXT,
    balance INTEGER NOT NULL,
    to_pay INTEGER NOT NULL,
    status TEXT NOT NULL,
    confirmed INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '')";

/// The time to pay, as a delay level of the broker: RocketMQ's second one is five seconds.
const UNPAID_LEVEL: u8 = 2;

/// The services that deduct.
#[derive(Debug)]
pub(crate) struct Deductions {
    pub(crate) stock: DeductionService<Stock>,
    pub(crate) coupons: DeductionService<Coupons>,
    pub(crate) balances: DeductionService<Balances>,
}

#[derive(Debug)]
pub(crate) struct OrderService {
    // First, so that nobody promises anything when the outbox ends.
    _consumer: PushConsumer,
    producer: TransactionProducer,
    database: Arc<Database>,
    outbox: Arc<Outbox>,
    deductions: Arc<Deductions>,
}

impl OrderService {
    pub(crate) fn start(folder: &Path, names: &NameServers, deductions: Arc<Deductions>) -> Result<OrderService> {
        let service = Service::open(folder, "orders", names, &[SCHEMA])?;
        let database = Arc::clone(&service.database);
        let outbox = Arc::new(service.outbox("order_outbox_group")?);
        let cancelling = Arc::clone(&outbox);
        let change = move |transaction: &Transaction<'_>, tag: &str, paid: &Payment| match tag {
            "PAID" => deliver(transaction, &paid.order),
            _ => cancel(transaction, &cancelling, &paid.order, "not paid in time", &["INVISIBLE", "CONFIRMED"]),
        };
        let consumer = service.consume("order_group", PAYMENT, "PAID || CLOSED", change)?;
        let asked = Arc::clone(&database);
        let check = move |half: &ringmq_client::ReceivedMessage| {
            state(&asked, half.keys().unwrap_or_default()).unwrap_or(TransactionState::Unknown)
        };
        let producer = TransactionProducer::new(ProducerOptions::new("order_creation_group"), service.names(), check)?;
        Ok(OrderService { _consumer: consumer, producer, database, outbox, deductions })
    }

    /// A customer's call: creates the order of this id, or does nothing if somebody has begun to. Its status.
    pub(crate) fn create(&self, order: &Order) -> Result<String> {
        order.check()?;
        if self.insert_invisible(order)? {
            let created = Message::builder(CREATED).tag("CREATED").key(&order.id).body(serde_json::to_vec(order)?);
            if let Err(error) = self.producer.send(&created, |_half| self.deduct_and_confirm(order)) {
                self.cancel_invisible(&order.id, &error.to_string())?;
            }
        }
        let status = "SELECT status FROM orders WHERE id = ?";
        self.database.transaction(|transaction| Ok(transaction.query_row(status, [&order.id], |row| row.get(0))?))
    }

    fn deduct_and_confirm(&self, order: &Order) -> TransactionState {
        let confirmed = self.deduct(order).and_then(|()| self.confirm(&order.id));
        let ended = confirmed.or_else(|reason| self.cancel_invisible(&order.id, &reason.to_string()));
        // Where its own database does not answer the service looks again when the broker asks.
        ended.and_then(|()| state(&self.database, &order.id)).unwrap_or(TransactionState::Unknown)
    }

    fn deduct(&self, order: &Order) -> Result<()> {
        self.deductions.stock.deduct(order)?;
        if order.coupon.is_some() {
            self.deductions.coupons.deduct(order)?;
        }
        if order.balance > 0 {
            self.deductions.balances.deduct(order)?;
        }
        Ok(())
    }

    /// Writes the order so that no customer sees it, and the end of its time to pay; false if it is there already.
    fn insert_invisible(&self, order: &Order) -> Result<bool> {
        let Order { id, user, product, quantity, coupon, balance } = order;
        self.database.transaction(|transaction| {
            let rows = transaction.execute(
                "INSERT INTO orders (id, user_id, product, quantity, coupon, balance, to_pay, status)
                 VALUES (?, ?, ?, ?, ?, ?, ?, 'INVISIBLE') ON CONFLICT DO NOTHING",
                params![id, user, product, quantity, coupon, balance, order.to_pay()],
            )?;
            if rows == 1 {
                self.outbox.promise(transaction, (UNPAID, "UNPAID", id), order, UNPAID_LEVEL)?;
            }
            Ok(rows == 1)
        })
    }

    /// Makes the order visible, unless it was cancelled meanwhile.
    fn confirm(&self, id: &str) -> Result<()> {
        let confirm = "UPDATE orders SET status = 'CONFIRMED', confirmed = 1 WHERE id = ? AND status = 'INVISIBLE'";
        self.database.transaction(|transaction| Ok(transaction.execute(confirm, [id]).map(drop)?))
    }

    fn cancel_invisible(&self, id: &str, reason: &str) -> Result<()> {
        self.database.transaction(|transaction| cancel(transaction, &self.outbox, id, reason, &["INVISIBLE"]))
    }
}

/// Cancels the order if it has one of these statuses, and tells all who may have taken something for it.
fn cancel(transaction: &Transaction<'_>, outbox: &Outbox, id: &str, reason: &str, from: &[&str]) -> Result<()> {
    let update = "UPDATE orders SET status = 'CANCELLED', reason = ? WHERE id = ? AND status = ?";
    for status in from {
        if transaction.execute(update, (reason, id, status))? == 1 {
            let body = Cancel { order: id.to_owned() };
            return outbox.promise(transaction, (CANCEL, "CANCEL", id), &body, 0);
        }
    }
    Ok(())
}

fn deliver(transaction: &Transaction<'_>, id: &str) -> Result<()> {
    let deliver = "UPDATE orders SET status = 'DELIVERED' WHERE id = ? AND status = 'CONFIRMED'";
    match transaction.execute(deliver, [id])? {
        1 => Ok(()),
        _ => Err(format!("order {id} was paid but waits for no payment").into()),
    }
}

/// An invisible order is still being created, or its creator is dead and its time will end.
fn state(database: &Database, id: &str) -> Result<TransactionState> {
    let row = database.transaction(|transaction| {
        let select = "SELECT status, confirmed FROM orders WHERE id = ?";
        let row = transaction.query_row(select, [id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)));
        Ok(row.optional()?)
    })?;
    Ok(match row {
        Some((_, true)) => TransactionState::Commit,
        Some((status, _)) if status == "CANCELLED" => TransactionState::Rollback,
        _ => TransactionState::Unknown,
    })
}
