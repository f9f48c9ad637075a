//! What orders take from and give back to: pieces in stock, coupons, money that customers keep with the shop.

use rusqlite::Transaction;

use crate::Result;
use crate::messages::Order;

/// One kind of goods, in the database of its service.
pub(crate) trait Goods: Send + Sync + 'static {
    /// The table that says what is left, and what there was.
    const SCHEMA: &'static str;

    /// Which one an order wants, and how much of it.
    fn wanted(order: &Order) -> (&str, i64);

    /// Takes it; an error is a refusal that the customer is told.
    fn take(transaction: &Transaction<'_>, order: &Order) -> Result<()>;

    fn give_back(transaction: &Transaction<'_>, item: &str, amount: i64) -> Result<()>;
}

#[derive(Debug)]
pub(crate) struct Stock;

impl Goods for Stock {
    const SCHEMA: &'static str = "CREATE TABLE IF NOT EXISTS stock (
        product TEXT PRIMARY KEY, pieces INTEGER NOT NULL CHECK (pieces >= 0), initial INTEGER NOT NULL)";

    fn wanted(order: &Order) -> (&str, i64) {
        (&order.product, order.quantity)
    }

    fn take(transaction: &Transaction<'_>, order: &Order) -> Result<()> {
        let taken = transaction.execute(
            "UPDATE stock SET pieces = pieces - ?1 WHERE product = ?2 AND pieces >= ?1",
            (order.quantity, &order.product),
        )?;
        if taken == 0 { Err(format!("{} is sold out", order.product).into()) } else { Ok(()) }
    }

    fn give_back(transaction: &Transaction<'_>, product: &str, pieces: i64) -> Result<()> {
        transaction.execute("UPDATE stock SET pieces = pieces + ? WHERE product = ?", (pieces, product))?;
        Ok(())
    }
}

/// Each is good for one order.
#[derive(Debug)]
pub(crate) struct Coupons;

impl Goods for Coupons {
    const SCHEMA: &'static str = "CREATE TABLE IF NOT EXISTS coupons (id TEXT PRIMARY KEY, used_by TEXT)";

    fn wanted(order: &Order) -> (&str, i64) {
        (order.coupon.as_deref().unwrap_or_default(), 1)
    }

    fn take(transaction: &Transaction<'_>, order: &Order) -> Result<()> {
        let (coupon, _) = Coupons::wanted(order);
        let taken = transaction
            .execute("UPDATE coupons SET used_by = ? WHERE id = ? AND used_by IS NULL", (&order.id, coupon))?;
        if taken == 0 { Err(format!("coupon {coupon} cannot be used").into()) } else { Ok(()) }
    }

    fn give_back(transaction: &Transaction<'_>, coupon: &str, _one: i64) -> Result<()> {
        transaction.execute("UPDATE coupons SET used_by = NULL WHERE id = ?", [coupon])?;
        Ok(())
    }
}

/// In cents.
#[derive(Debug)]
pub(crate) struct Balances;

impl Goods for Balances {
    const SCHEMA: &'static str = "CREATE TABLE IF NOT EXISTS balances (
        user_id TEXT PRIMARY KEY, cents INTEGER NOT NULL CHECK (cents >= 0), initial INTEGER NOT NULL)";

    fn wanted(order: &Order) -> (&str, i64) {
        (&order.user, order.balance)
    }

    fn take(transaction: &Transaction<'_>, order: &Order) -> Result<()> {
        let taken = transaction.execute(
            "UPDATE balances SET cents = cents - ?1 WHERE user_id = ?2 AND cents >= ?1",
            (order.balance, &order.user),
        )?;
        if taken == 0 { Err(format!("{} does not have that much", order.user).into()) } else { Ok(()) }
    }

    fn give_back(transaction: &Transaction<'_>, user: &str, cents: i64) -> Result<()> {
        transaction.execute("UPDATE balances SET cents = cents + ? WHERE user_id = ?", (cents, user))?;
        Ok(())
    }
}
