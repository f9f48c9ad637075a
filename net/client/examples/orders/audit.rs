//! The audit: what seven databases say, held against each other. A check is a query for what is wrong, or still under way;
//! nothing found is well.

use std::path::Path;

use rusqlite::Connection;

use crate::Result;

/// The services' databases, each attached under its name.
const DATABASES: [&str; 7] = ["orders", "payments", "points", "log", "stock", "coupons", "balances"];

/// What there is to wait for, and the orders where it is missing.
const UNSETTLED: [(&str, &str); 7] = [
    ("is not final", "SELECT id FROM orders.orders WHERE status NOT IN ('DELIVERED', 'CANCELLED')"),
    ("is promised a message that is not sent", "SELECT message_key FROM outbox WHERE sent = 0"),
    ("has a message that is to be tried again", "SELECT message_key FROM consume_log WHERE status = 'FAILED'"),
    ("has no decision about its payment", "SELECT id FROM orders.orders EXCEPT SELECT order_id FROM payments.payments"),
    (
        "has not told everybody about its payment",
        "SELECT order_id FROM payments.payments p WHERE
            (SELECT count(*) FROM consume_log c WHERE c.message_key = p.order_id AND c.tag = p.result)
            < CASE result WHEN 'PAID' THEN 3 ELSE 1 END",
    ),
    (
        "has not told everybody to give back",
        "SELECT id FROM orders.orders o WHERE status = 'CANCELLED'
            AND (SELECT count(*) FROM consume_log c WHERE c.message_key = o.id AND c.tag = 'CANCEL') < 3",
    ),
    (
        "is visible without a notice",
        "SELECT id FROM orders.orders WHERE confirmed = 1 EXCEPT SELECT order_id FROM log.notices",
    ),
];

/// What must not be, and what it is wrong with.
const WRONG: [(&str, &str); 13] = [
    ("delivered and never confirmed", "SELECT id FROM orders.orders WHERE status = 'DELIVERED' AND confirmed = 0"),
    (
        "pieces left and sold are not what there was",
        "SELECT product FROM stock.stock s WHERE pieces < 0 OR initial <> pieces
            + (SELECT coalesce(sum(quantity), 0) FROM orders.orders o WHERE o.product = s.product AND status = 'DELIVERED')",
    ),
    (
        "cents left and spent are not what there was",
        "SELECT user_id FROM balances.balances b WHERE cents < 0 OR initial <> cents
            + (SELECT coalesce(sum(balance), 0) FROM orders.orders o WHERE o.user_id = b.user_id AND status = 'DELIVERED')",
    ),
    (
        "a coupon is used by what was not delivered",
        "SELECT used_by FROM coupons.coupons WHERE used_by IS NOT NULL
            EXCEPT SELECT id FROM orders.orders WHERE status = 'DELIVERED'",
    ),
    (
        "delivered and its coupon not used",
        "SELECT id FROM orders.orders WHERE status = 'DELIVERED' AND coupon IS NOT NULL
            EXCEPT SELECT o.id FROM orders.orders o JOIN coupons.coupons c ON c.id = o.coupon AND c.used_by = o.id",
    ),
    (
        "taken and neither delivered nor given back",
        "SELECT order_id FROM (SELECT * FROM stock.deductions UNION ALL SELECT * FROM coupons.deductions
            UNION ALL SELECT * FROM balances.deductions) WHERE state = 'TAKEN'
            EXCEPT SELECT id FROM orders.orders WHERE status = 'DELIVERED'",
    ),
    (
        "paid and not delivered, or not the amount that was due",
        "SELECT order_id FROM (SELECT order_id, cents FROM payments.payments WHERE result = 'PAID'
            EXCEPT SELECT id, to_pay FROM orders.orders WHERE status = 'DELIVERED')",
    ),
    (
        "delivered and not paid",
        "SELECT id FROM orders.orders WHERE status = 'DELIVERED'
            EXCEPT SELECT order_id FROM payments.payments WHERE result = 'PAID'",
    ),
    (
        "points not given once for what was paid",
        "SELECT id FROM orders.orders o WHERE (SELECT count(*) FROM points.points p
            WHERE p.order_id = o.id AND p.points = o.to_pay / 100)
            <> (status = 'DELIVERED' AND user_id <> 'frozen')",
    ),
    (
        "not once in the book of payments",
        "SELECT id FROM orders.orders o WHERE (SELECT count(*) FROM log.payment_log p
            WHERE p.order_id = o.id AND p.cents = o.to_pay) <> (status = 'DELIVERED')",
    ),
    (
        "not one notice for an order that was visible, or one for another",
        "SELECT id FROM orders.orders o WHERE (SELECT count(*) FROM log.notices n WHERE n.order_id = o.id) <> confirmed",
    ),
    (
        "given up without a reason to, or not given up",
        "SELECT message_key FROM consume_log c WHERE (status = 'DEAD') <> (group_name = 'points_group'
            AND message_key IN (SELECT id FROM orders.orders WHERE user_id = 'frozen'))",
    ),
    ("refused more often than it may be", "SELECT message_key FROM consume_log WHERE refusals > 4"),
];

const FIGURES: &str = "SELECT
    (SELECT count(*) FROM orders.orders WHERE status = 'DELIVERED'),
    (SELECT count(*) FROM orders.orders WHERE status = 'CANCELLED' AND confirmed = 1),
    (SELECT count(*) FROM orders.orders WHERE status = 'CANCELLED' AND confirmed = 0),
    (SELECT count(*) FROM consume_log WHERE status = 'DEAD')";

/// Reads all databases of a shop.
#[derive(Debug)]
pub(crate) struct Auditor {
    connection: Connection,
}

impl Auditor {
    pub(crate) fn open(folder: &Path) -> Result<Auditor> {
        let connection = Connection::open_in_memory()?;
        for name in DATABASES {
            let file = folder.join(name).with_extension("db");
            connection.execute(&format!("ATTACH ? AS {name}"), [file.to_string_lossy()])?;
        }
        for table in ["outbox", "consume_log"] {
            let all: Vec<_> = DATABASES.iter().map(|name| format!("SELECT * FROM {name}.{table}")).collect();
            // Only a temporary view may look into several databases.
            connection.execute_batch(&format!("CREATE TEMP VIEW {table} AS {}", all.join(" UNION ALL ")))?;
        }
        Ok(Auditor { connection })
    }

    /// What is still under way.
    pub(crate) fn unsettled(&self) -> Result<Option<String>> {
        for (what, query) in UNSETTLED {
            if let Some(order) = self.found(query)?.first() {
                return Ok(Some(format!("{order} {what}")));
            }
        }
        Ok(None)
    }

    /// What is wrong; nothing where the books balance.
    pub(crate) fn wrong(&self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for (what, query) in UNSETTLED {
            wrong.extend(self.found(query)?.into_iter().map(|order| format!("{order} {what}")));
        }
        for (what, query) in WRONG {
            wrong.extend(self.found(query)?.into_iter().map(|whose| format!("{whose}: {what}")));
        }
        Ok(wrong)
    }

    pub(crate) fn status(&self, order: &str) -> Result<String> {
        let select = "SELECT status FROM orders.orders WHERE id = ?";
        Ok(self.connection.query_row(select, [order], |row| row.get(0))?)
    }

    pub(crate) fn figures(&self) -> Result<String> {
        let figures = self.connection.query_row(FIGURES, [], |row| {
            let number = |at| row.get::<_, i64>(at);
            Ok((number(0)?, number(1)?, number(2)?, number(3)?))
        });
        let (delivered, unpaid, refused, dead) = figures?;
        Ok(format!("{delivered} delivered, {unpaid} not paid in time, {refused} refused, {dead} dead letters"))
    }

    fn found(&self, query: &str) -> Result<Vec<String>> {
        let mut query = self.connection.prepare(query)?;
        let found = query.query_map([], |row| row.get(0))?;
        Ok(found.collect::<std::result::Result<_, _>>()?)
    }
}
