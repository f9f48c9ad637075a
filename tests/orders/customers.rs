//! The world outside of the shop: customers who order, and the third party that collects their money. Both ask again
//! until they are answered, as people and payment providers do.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::support::eventually;

/// Customers who order at the same time.
const CUSTOMERS: usize = 4;
/// How long a customer asks for one order; a service or the broker may be started anew in between.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long one call may take before the customer asks again.
const CALL: Duration = Duration::from_secs(10);

/// The customer whose points are frozen.
pub(crate) const FROZEN: &str = "frozen";
const POOR: &str = "poor";
const RARE: &str = "rare";

/// Where the shop is called: ports that stay over a restart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doors {
    pub(crate) order: u16,
    pub(crate) payment: u16,
}

/// What the shop has in the beginning: pieces, coupons, cents.
#[derive(Debug, Clone, Default)]
pub(crate) struct Goods {
    pub(crate) stock: BTreeMap<String, i64>,
    pub(crate) coupons: BTreeMap<String, i64>,
    pub(crate) balances: BTreeMap<String, i64>,
}

impl Goods {
    /// Enough for `orders`, except where a customer is to hear a no.
    pub(crate) fn for_orders(orders: usize) -> Goods {
        let plenty = 1_000 * i64::try_from(orders).unwrap();
        let mut goods = Goods::default();
        goods.stock.extend([("common".to_owned(), plenty), (RARE.to_owned(), 3)]);
        goods.coupons.extend((0..orders).map(|number| (format!("coupon-{number}"), 1)));
        goods.balances.extend((0..CUSTOMERS).map(|number| (format!("user-{number}"), plenty)));
        goods.balances.extend([(POOR.to_owned(), 100), (FROZEN.to_owned(), plenty)]);
        goods
    }
}

/// What a customer wants.
#[derive(Debug, Clone)]
struct Wish {
    id: String,
    user: String,
    product: &'static str,
    quantity: i64,
    coupon: String,
    balance: i64,
    pays: bool,
}

impl Wish {
    /// Ten kinds of customers take turns; each step of the flow is met by at least one of them.
    fn of(round: usize, index: usize, per_round: usize) -> Wish {
        let number = round * per_round + index;
        let common = Wish {
            id: format!("order-{round}-{index}"),
            user: format!("user-{}", number % CUSTOMERS),
            product: "common",
            quantity: 2,
            coupon: format!("coupon-{number}"),
            balance: 250,
            pays: true,
        };
        match index % 10 {
            0 | 1 => common,
            2 => Wish { product: RARE, quantity: 1, coupon: String::new(), balance: 0, ..common },
            // Two want the same coupon.
            3 => common,
            4 => Wish { coupon: format!("coupon-{}", number - 1), ..common },
            5 => Wish { pays: false, ..common },
            6 => Wish { quantity: 1_000_000_000, ..common },
            7 => Wish { coupon: "void".to_owned(), ..common },
            8 => Wish { user: POOR.to_owned(), balance: 1_500, ..common },
            _ => Wish { user: FROZEN.to_owned(), ..common },
        }
    }

    fn form(&self) -> String {
        let Wish { id, user, product, quantity, coupon, balance, .. } = self;
        format!("order={id}&user={user}&product={product}&quantity={quantity}&coupon={coupon}&balance={balance}")
    }
}

/// What a customer knows in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// The order was cancelled before it could be paid.
    Refused,
    /// It was confirmed, and the customer does not pay.
    Unpaid,
    /// The payment was taken.
    Paid,
    /// The payment came too late and was not taken.
    Closed,
}

/// The customers of one round.
pub(crate) struct Customers(Vec<JoinHandle<Vec<(String, Told)>>>);

impl Customers {
    pub(crate) fn come(doors: Doors, round: usize, count: usize) -> Customers {
        let wishes: VecDeque<_> = (0..count).map(|index| Wish::of(round, index, count)).collect();
        let wishes = Arc::new(Mutex::new(wishes));
        let shop = || {
            let wishes = Arc::clone(&wishes);
            thread::spawn(move || {
                let mut told = Vec::new();
                loop {
                    let Some(wish) = wishes.lock().unwrap().pop_front() else { return told };
                    let answer = order(doors, &wish);
                    told.push((wish.id, answer));
                }
            })
        };
        Customers((0..CUSTOMERS).map(|_| shop()).collect())
    }

    /// Waits until everybody knows what became of every order, as far as somebody outside can.
    pub(crate) fn leave(self) -> Vec<(String, Told)> {
        self.0.into_iter().flat_map(|customer| customer.join().unwrap()).collect()
    }
}

fn order(doors: Doors, wish: &Wish) -> Told {
    let (status, to_pay) = eventually(&format!("{} is confirmed or refused", wish.id), PATIENCE, || {
        let answer = post(doors.order, "/create", &wish.form()).ok()?;
        (answer["status"] != "INVISIBLE").then(|| (answer["status"].clone(), answer["to_pay"].clone()))
    });
    match (status.as_str(), wish.pays) {
        ("CANCELLED", _) => return Told::Refused,
        ("CONFIRMED", false) => return Told::Unpaid,
        ("CONFIRMED", true) => {}
        _ => panic!("{} is {status} before anybody paid", wish.id),
    }
    let callback = format!("order={}&user={}&cents={to_pay}", wish.id, wish.user);
    let result = eventually(&format!("the payment of {} is answered", wish.id), PATIENCE, || {
        Some(post(doors.payment, "/callback", &callback).ok()?["result"].clone())
    });
    match result.as_str() {
        "PAID" => Told::Paid,
        "CLOSED" => Told::Closed,
        _ => panic!("the payment of {} is {result}", wish.id),
    }
}

/// Posts a form and gives the fields of the answer, as they are written. A server error counts as no answer.
fn post(port: u16, path: &str, form: &str) -> io::Result<BTreeMap<String, String>> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), CALL)?;
    stream.set_read_timeout(Some(CALL))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    // Who dies while it answers may have said a part of it.
    let length = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("Content-Length"));
    if length.and_then(|(_, length)| length.parse().ok()) != Some(body.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status.starts_with('5') {
        return Err(io::Error::other(body.to_owned()));
    }
    assert_eq!(status, "200", "{path} {form}: {body}");
    Ok(body.split('&').filter_map(|field| field.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
}
