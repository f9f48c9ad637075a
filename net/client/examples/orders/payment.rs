//! The payment service: decides once for each order whether it is paid or can no longer be. Whoever writes the order's row
//! first wins, the third party's callback or the end of the time to pay; the decision goes to everybody by the outbox.

use std::path::Path;
use std::sync::Arc;

use ringmq_client::{NameServers, PushConsumer};
use rusqlite::{OptionalExtension, Transaction};

use crate::Result;
use crate::database::Database;
use crate::messages::{Order, PAYMENT, Payment, UNPAID};
use crate::outbox::Outbox;
use crate::service::Service;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS payments (
    order_id TEXT PRIMARY KEY,
    result TEXT NOT NULL CHECK (result IN ('PAID', 'CLOSED')),
    cents INTEGER NOT NULL)";

#[derive(Debug)]
pub(crate) struct PaymentService {
    // First, so that nobody promises anything when the outbox ends.
    _consumer: PushConsumer,
    database: Arc<Database>,
    outbox: Arc<Outbox>,
}

impl PaymentService {
    pub(crate) fn start(folder: &Path, names: &NameServers) -> Result<PaymentService> {
        let service = Service::open(folder, "payments", names, &[SCHEMA])?;
        let outbox = Arc::new(service.outbox("payment_outbox_group")?);
        let closing = Arc::clone(&outbox);
        let close = move |transaction: &Transaction<'_>, _: &str, order: &Order| {
            let unpaid = Payment { order: order.id.clone(), user: order.user.clone(), cents: 0 };
            decide(transaction, &closing, "CLOSED", &unpaid).map(drop)
        };
        let consumer = service.consume("payment_group", UNPAID, "UNPAID", close)?;
        Ok(PaymentService { _consumer: consumer, database: service.database, outbox })
    }

    /// The third party's call: it collected the money. It asks until it is answered, so this writes two rows and is done.
    /// `CLOSED` is money that the third party gives back.
    pub(crate) fn callback(&self, payment: &Payment) -> Result<String> {
        self.database.transaction(|transaction| decide(transaction, &self.outbox, "PAID", payment))
    }
}

fn decide(transaction: &Transaction<'_>, outbox: &Outbox, result: &str, payment: &Payment) -> Result<String> {
    let Payment { order, cents, .. } = payment;
    let decided = transaction
        .query_row("SELECT result FROM payments WHERE order_id = ?", [order], |row| row.get::<_, String>(0))
        .optional()?;
    if let Some(decided) = decided {
        return Ok(decided);
    }
    transaction.execute("INSERT INTO payments VALUES (?, ?, ?)", (order, result, cents))?;
    outbox.promise(transaction, (PAYMENT, result, order), payment, 0)?;
    Ok(result.to_owned())
}
