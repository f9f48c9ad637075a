//! The world outside of the shop: customers who order, and the third party that collects their money.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::Transaction;

use crate::followers::FROZEN;
use crate::messages::{Order, Payment};
use crate::{Result, Shop};

/// Customers who order at the same time.
const CUSTOMERS: usize = 4;
const POOR: &str = "poor";
const RARE: &str = "rare";

/// How long a customer waits before asking again for an order that is still invisible.
const PAUSE: Duration = Duration::from_millis(200);

/// An order and what the customer was told of it: `PAID`, `CLOSED` (paid too late), `UNPAID`, or `REFUSED`.
pub(crate) type Told = (String, &'static str);

/// Puts enough there for `orders`, except where a customer is to hear a no.
pub(crate) fn stock_up(shop: &Shop, run: &str, orders: usize) -> Result<()> {
    let plenty = 1_000 * i64::try_from(orders)?;
    let deductions = &shop.deductions;
    deductions.stock.service.database.transaction(|transaction| {
        let more = "INSERT INTO stock VALUES (?1, ?2, ?2)
            ON CONFLICT DO UPDATE SET pieces = pieces + ?2, initial = initial + ?2";
        transaction.execute(more, ("common", plenty))?;
        transaction.execute(more, (RARE, 3))?;
        Ok(())
    })?;
    deductions.coupons.service.database.transaction(|transaction| {
        (0..orders).try_for_each(|number| {
            let coupon = format!("coupon-{run}-{number}");
            Ok(transaction.execute("INSERT INTO coupons (id) VALUES (?)", [coupon]).map(drop)?)
        })
    })?;
    deductions.balances.service.database.transaction(|transaction| {
        let pay_in = |transaction: &Transaction<'_>, user: &str, cents: i64| -> Result<()> {
            let more = "INSERT INTO balances VALUES (?1, ?2, ?2)
                ON CONFLICT DO UPDATE SET cents = cents + ?2, initial = initial + ?2";
            Ok(transaction.execute(more, (user, cents)).map(drop)?)
        };
        (0..CUSTOMERS).try_for_each(|number| pay_in(transaction, &format!("user-{number}"), plenty))?;
        pay_in(transaction, FROZEN, plenty)?;
        pay_in(transaction, POOR, 1)
    })
}

/// Ten kinds of customers take turns.
fn wish(run: &str, number: usize) -> (Order, bool) {
    let common = Order {
        id: format!("order-{run}-{number}"),
        user: format!("user-{}", number % CUSTOMERS),
        product: "common".to_owned(),
        quantity: 2,
        coupon: Some(format!("coupon-{run}-{number}")),
        balance: 250,
    };
    let order = match number % 10 {
        2 => Order { product: RARE.to_owned(), quantity: 1, coupon: None, balance: 0, ..common },
        // Two want the same coupon.
        4 => Order { coupon: Some(format!("coupon-{run}-{}", number - 1)), ..common },
        6 => Order { quantity: 1_000_000_000, ..common },
        7 => Order { coupon: Some("void".to_owned()), ..common },
        8 => Order { user: POOR.to_owned(), balance: 1_500, ..common },
        9 => Order { user: FROZEN.to_owned(), ..common },
        _ => common,
    };
    (order, number % 10 != 5)
}

/// Every customer orders and pays, and knows in the end what became of it.
pub(crate) fn come(shop: &Shop, run: &str, orders: usize) -> Result<Vec<Told>> {
    let (next, told) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let order_all = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= orders {
                return Ok(());
            }
            let (order, pays) = wish(run, number);
            let answer = buy(shop, &order, pays)?;
            println!("{}: {answer}", order.id);
            told.lock().map_err(|_| "a customer has panicked")?.push((order.id, answer));
        }
    };
    thread::scope(|scope| {
        let customers: Vec<_> = (0..CUSTOMERS).map(|_| scope.spawn(order_all)).collect();
        customers.into_iter().try_for_each(|one| one.join().map_err(|_| "a customer has panicked")?)
    })?;
    Ok(told.into_inner().map_err(|_| "a customer has panicked")?)
}

fn buy(shop: &Shop, order: &Order, pays: bool) -> Result<&'static str> {
    let status = loop {
        let status = shop.orders.create(order)?;
        if status != "INVISIBLE" {
            break status;
        }
        thread::sleep(PAUSE);
    };
    match (status.as_str(), pays) {
        ("CANCELLED", _) => return Ok("REFUSED"),
        (_, false) => return Ok("UNPAID"),
        _ => {}
    }
    let payment = Payment { order: order.id.clone(), user: order.user.clone(), cents: order.to_pay() };
    Ok(if shop.payments.callback(&payment)? == "PAID" { "PAID" } else { "CLOSED" })
}
