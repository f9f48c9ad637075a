//! What the services say to each other. The key of a message is always the order's id.

use serde::{Deserialize, Serialize};

use crate::Result;

/// An order has become visible; tag `CREATED`.
pub(crate) const CREATED: &str = "order_created";
/// An order's time to pay is over; tag `UNPAID`. It comes delayed, for every order.
pub(crate) const UNPAID: &str = "order_unpaid";
/// An order is off, give back what you took for it; tag `CANCEL`.
pub(crate) const CANCEL: &str = "order_cancel";
/// What became of a payment, as the tag says: `PAID` or `CLOSED`.
pub(crate) const PAYMENT: &str = "payment_result";

pub(crate) const TOPICS: [&str; 4] = [CREATED, UNPAID, CANCEL, PAYMENT];

/// In cents.
const PRICE: i64 = 1_000;
const COUPON_WORTH: i64 = 100;

/// What a customer asks for. Money is in cents.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) user: String,
    pub(crate) product: String,
    pub(crate) quantity: i64,
    pub(crate) coupon: Option<String>,
    /// What is taken from the customer's balance.
    pub(crate) balance: i64,
}

impl Order {
    /// What the third party has to collect.
    pub(crate) fn to_pay(&self) -> i64 {
        let coupon = if self.coupon.is_some() { COUPON_WORTH } else { 0 };
        self.quantity * PRICE - coupon - self.balance
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.quantity < 1 || self.to_pay() < 1 {
            return Err("an order has at least one piece, and something is left to pay".into());
        }
        Ok(())
    }
}

/// The body of [`PAYMENT`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) order: String,
    pub(crate) user: String,
    pub(crate) cents: i64,
}

/// The body of [`CANCEL`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cancel {
    pub(crate) order: String,
}
