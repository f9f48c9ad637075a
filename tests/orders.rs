//! The order and payment flow of `docs/guide/orders.md`: seven services in Java on the unmodified client, each a process
//! with its own database, customers that never give up, `kill -9` of a service or of the broker exactly at a step, and
//! databases that fail for a time. In the end the books must balance.
//!
//! `RINGMQ_ORDERS_ROUNDS` says how many kills (2: the broker, then a service), `RINGMQ_ORDERS_SEED` repeats a run's,
//! `RINGMQ_ORDERS_PER_ROUND` how many orders each (17), `RINGMQ_ORDERS_CLIENT` the client's version (4.9.8).
#![expect(clippy::unwrap_used, reason = "a test says what failed by failing")]

#[expect(dead_code, reason = "each test program uses its own part of the support")]
mod support;

#[path = "orders/audit.rs"]
mod audit;
#[path = "orders/customers.rs"]
mod customers;
#[path = "orders/guide.rs"]
mod guide;
#[path = "orders/kills.rs"]
mod kills;
#[path = "orders/queues.rs"]
mod queues;
#[path = "orders/shop.rs"]
mod shop;

use std::time::Duration;

use audit::Books;
use customers::{Customers, Goods};
use kills::{Kills, Victim};
use shop::Shop;

/// How long the shop may take until nothing is under way any more: retries, the time to pay, transactions asked about.
const SETTLED: Duration = Duration::from_secs(180);

/// Fewer would leave out a kind of customer.
const PER_ROUND_MIN: usize = 10;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{variable}={text} is no number: {e}")))
}

/// The client's version that the services run on.
fn client() -> &'static str {
    let wanted = std::env::var("RINGMQ_ORDERS_CLIENT").unwrap_or_else(|_| support::java::CLIENTS[0].to_owned());
    let known = support::java::CLIENTS.into_iter().find(|known| *known == wanted);
    known.unwrap_or_else(|| panic!("RINGMQ_ORDERS_CLIENT={wanted}: one of {:?}", support::java::CLIENTS))
}

#[test]
fn the_books_balance_after_kills() {
    if let Some(reason) = support::java::missing() {
        return support::skip(&reason);
    }
    let rounds = number("RINGMQ_ORDERS_ROUNDS", 2);
    let per_round = number("RINGMQ_ORDERS_PER_ROUND", 17);
    assert!(per_round >= PER_ROUND_MIN, "RINGMQ_ORDERS_PER_ROUND: at least {PER_ROUND_MIN}");

    let goods = Goods::for_orders((rounds + 1) * per_round);
    let mut shop = Shop::open(client(), &goods);
    let mut kills = Kills::from_seed();
    let mut told = Vec::new();
    for round in 0..rounds {
        let kill = kills.next();
        println!("round {round}: {kill}");
        shop.hold(&kill);
        let customers = Customers::come(shop.doors(), round, per_round);
        shop.wait_held(&kill);
        match kill.victim {
            Victim::Service => shop.kill_service(kill.service),
            Victim::Broker => {
                shop.kill_broker();
                shop.go_on(kill.service);
            }
        }
        told.extend(customers.leave());
    }
    // While a JVM starts again every order may be refused; these meet a whole shop, so that each case comes. Two of its
    // databases fail for longer than a message may be refused.
    shop.break_databases();
    told.extend(Customers::come(shop.doors(), rounds, per_round).leave());
    shop.wait_tried_often();
    shop.mend_databases();

    shop.wait_until_settled(told.len(), SETTLED);
    let dead_letters = shop.dead_letters();
    let books = Books { rows: shop.close(), told, goods, dead_letters };
    println!("{}", books.audit());
}
