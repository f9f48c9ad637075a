//! A service that deducts one kind of goods when it is called, and gives back when a message says so. What orders took is
//! one row an order: `TAKEN` or `CANCELLED`.

use std::marker::PhantomData;
use std::path::Path;

use ringmq_client::{NameServers, PushConsumer};
use rusqlite::{OptionalExtension, Transaction};

use crate::Result;
use crate::goods::Goods;
use crate::messages::{CANCEL, Cancel, Order};
use crate::service::Service;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS deductions (
    order_id TEXT PRIMARY KEY,
    item TEXT NOT NULL,
    amount INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('TAKEN', 'CANCELLED')))";

#[derive(Debug)]
pub(crate) struct DeductionService<G> {
    pub(crate) service: Service,
    _consumer: PushConsumer,
    goods: PhantomData<G>,
}

struct Taken {
    item: String,
    amount: i64,
    state: String,
}

impl<G: Goods> DeductionService<G> {
    pub(crate) fn start(folder: &Path, name: &str, names: &NameServers, group: &'static str) -> Result<Self> {
        let service = Service::open(folder, name, names, &[G::SCHEMA, SCHEMA])?;
        let cancel = |transaction: &Transaction<'_>, _: &str, body: &Cancel| cancel::<G>(transaction, &body.order);
        let consumer = service.consume(group, CANCEL, "CANCEL", cancel)?;
        Ok(DeductionService { service, _consumer: consumer, goods: PhantomData })
    }

    /// The call of another service: takes what the order wants. To ask again for the same order changes nothing.
    pub(crate) fn deduct(&self, order: &Order) -> Result<()> {
        self.service.database.transaction(|transaction| {
            if let Some(known) = find(transaction, &order.id)? {
                // The cancellation has overtaken this call.
                return match known.state.as_str() {
                    "CANCELLED" => Err(format!("order {} is cancelled", order.id).into()),
                    _ => Ok(()),
                };
            }
            G::take(transaction, order)?;
            let (item, amount) = G::wanted(order);
            transaction.execute("INSERT INTO deductions VALUES (?, ?, ?, 'TAKEN')", (&order.id, item, amount))?;
            Ok(())
        })
    }
}

/// Gives back what the order took. If it took nothing yet, the row keeps the deduction that comes late from taking it.
fn cancel<G: Goods>(transaction: &Transaction<'_>, order: &str) -> Result<()> {
    match find(transaction, order)? {
        Some(taken) if taken.state == "TAKEN" => {
            G::give_back(transaction, &taken.item, taken.amount)?;
            transaction.execute("UPDATE deductions SET state = 'CANCELLED' WHERE order_id = ?", [order])?;
        }
        Some(_) => {}
        None => {
            transaction.execute("INSERT INTO deductions VALUES (?, '', 0, 'CANCELLED')", [order])?;
        }
    }
    Ok(())
}

fn find(transaction: &Transaction<'_>, order: &str) -> Result<Option<Taken>> {
    let row = transaction.query_row("SELECT item, amount, state FROM deductions WHERE order_id = ?", [order], |row| {
        Ok(Taken { item: row.get("item")?, amount: row.get("amount")?, state: row.get("state")? })
    });
    Ok(row.optional()?)
}
