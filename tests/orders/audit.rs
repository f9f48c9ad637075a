//! The books: what the seven databases, the customers and the dead letters say in the end, held against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::customers::{FROZEN, Goods, Told};

const CENTS_A_POINT: i64 = 100;
const REFUSALS_MAX: i64 = 4;

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("no {column} in {row}"))
}

fn number(row: &Value, column: &str) -> i64 {
    row[column].as_i64().unwrap_or_else(|| panic!("no {column} in {row}"))
}

fn table<'a>(rows: &'a [Value], name: &str) -> impl Iterator<Item = &'a Value> {
    rows.iter().filter(move |row| row["table"] == name)
}

/// Says what is still under way, as far as the databases know.
pub(crate) fn unsettled(rows: &[Value], orders: usize) -> Option<String> {
    let one_of = |name, what: &str, open: &dyn Fn(&Value) -> bool| {
        table(rows, name).find(|row| open(row)).map(|row| format!("{what}: {row}"))
    };
    let known = table(rows, "orders").count();
    let decided = table(rows, "payments").count();
    let (confirmed, noticed) =
        (table(rows, "orders").filter(|row| row["confirmed"] == 1).count(), table(rows, "notices").count());
    one_of("orders", "in between", &|row| !["DELIVERED", "CANCELLED"].contains(&text(row, "status")))
        .or_else(|| one_of("outbox", "promised and not sent", &|row| row["sent"] == 0))
        .or_else(|| one_of("consume_log", "to be tried again", &|row| row["status"] == "FAILED"))
        .or_else(|| (known < orders).then(|| format!("{known} of {orders} orders are known")))
        .or_else(|| (decided < orders).then(|| format!("{decided} of {orders} payments are decided")))
        .or_else(|| (noticed < confirmed).then(|| format!("{noticed} notices for {confirmed} confirmed orders")))
}

/// How many messages each group has given up.
pub(crate) fn dead_by_group(rows: &[Value]) -> BTreeMap<&str, i64> {
    let mut dead = BTreeMap::new();
    for row in table(rows, "consume_log").filter(|row| row["status"] == "DEAD") {
        *dead.entry(text(row, "group_name")).or_default() += 1;
    }
    dead
}

/// Everything that is known in the end.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    /// Every row of every database.
    pub(crate) rows: Vec<Value>,
    pub(crate) told: Vec<(String, Told)>,
    /// What there was in the beginning.
    pub(crate) goods: Goods,
    /// Group and key of every dead letter.
    pub(crate) dead_letters: Vec<(String, String)>,
}

/// The figures of an audit that found nothing wrong.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    delivered: usize,
    unpaid: usize,
    refused: usize,
    dead: usize,
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Balance { delivered, unpaid, refused, dead } = self;
        write!(f, "{delivered} delivered, {unpaid} not paid in time, {refused} refused, {dead} dead letters: ")?;
        write!(f, "the books balance")
    }
}

impl Books {
    fn table<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Value> {
        table(&self.rows, name)
    }

    /// The orders that were delivered, by id.
    fn delivered(&self) -> BTreeMap<&str, &Value> {
        let delivered = self.table("orders").filter(|row| row["status"] == "DELIVERED");
        delivered.map(|row| (text(row, "id"), row)).collect()
    }

    /// The sum of `column` over the delivered orders, by the value of `by`.
    fn sold(&self, by: &str, column: &str) -> BTreeMap<&str, i64> {
        let mut sums = BTreeMap::new();
        for row in self.delivered().values() {
            *sums.entry(text(row, by)).or_default() += number(row, column);
        }
        sums
    }

    /// Panics with what is wrong, or gives the figures.
    pub(crate) fn audit(&self) -> Balance {
        self.orders_are_final();
        self.customers_were_told_the_truth();
        self.nothing_is_lost("stock", "product", "pieces", &self.goods.stock, &self.sold("product", "quantity"));
        self.nothing_is_lost("balances", "user_id", "cents", &self.goods.balances, &self.sold("user_id", "balance"));
        self.coupons_are_used_by_delivered_orders();
        self.deductions_are_those_of_delivered_orders();
        self.payments_are_those_of_delivered_orders();
        self.every_promise_is_kept();
        let dead = self.dead_messages();
        self.points_are_given_once(&dead);
        self.everything_is_logged_once();
        let count = |told| self.told.iter().filter(|(_, one)| *one == told).count();
        let balance = Balance {
            delivered: self.delivered().len(),
            unpaid: count(Told::Unpaid) + count(Told::Closed),
            refused: count(Told::Refused),
            dead: dead.len(),
        };
        let Balance { delivered, unpaid, refused, dead } = &balance;
        assert!(*delivered > 0 && *unpaid > 0 && *refused > 0 && *dead > 0, "a case never came: {balance:?}");
        balance
    }

    fn orders_are_final(&self) {
        for row in self.table("orders") {
            let status = text(row, "status");
            assert!(["DELIVERED", "CANCELLED"].contains(&status), "in between: {row}");
            assert!(status == "CANCELLED" || row["confirmed"] == 1, "delivered without a confirmation: {row}");
        }
    }

    fn customers_were_told_the_truth(&self) {
        let orders: BTreeMap<_, _> = self.table("orders").map(|row| (text(row, "id"), row)).collect();
        assert_eq!(orders.len(), self.told.len(), "as many orders as customers asked for");
        for (id, told) in &self.told {
            let row = orders.get(id.as_str()).unwrap_or_else(|| panic!("{id} is not there"));
            let expected = if *told == Told::Paid { "DELIVERED" } else { "CANCELLED" };
            assert_eq!(text(row, "status"), expected, "the customer was told {told:?}: {row}");
        }
    }

    /// What is left and what was sold is what there was.
    fn nothing_is_lost(
        &self,
        name: &str,
        key: &str,
        amount: &str,
        initial: &BTreeMap<String, i64>,
        sold: &BTreeMap<&str, i64>,
    ) {
        let left: BTreeMap<_, _> = self.table(name).map(|row| (text(row, key), number(row, amount))).collect();
        assert_eq!(left.len(), initial.len(), "{name} has other rows than in the beginning");
        for (item, initial) in initial {
            let (left, sold) = (left[item.as_str()], sold.get(item.as_str()).copied().unwrap_or(0));
            assert!(left >= 0, "{name}: {left} of {item}");
            assert_eq!(left + sold, *initial, "{name} of {item}: {left} left and {sold} sold");
        }
    }

    fn coupons_are_used_by_delivered_orders(&self) {
        let used: BTreeMap<_, _> = self
            .table("coupons")
            .filter(|row| !row["used_by"].is_null())
            .map(|row| (text(row, "used_by"), text(row, "id")))
            .collect();
        let wanted: BTreeMap<_, _> = self
            .delivered()
            .into_iter()
            .map(|(id, row)| (id, text(row, "coupon")))
            .filter(|(_, coupon)| !coupon.is_empty())
            .collect();
        assert_eq!(used, wanted, "coupons are used by the orders that were delivered");
        assert_eq!(self.table("coupons").count(), self.goods.coupons.len());
    }

    fn deductions_are_those_of_delivered_orders(&self) {
        let delivered = self.delivered();
        for row in self.table("deductions").filter(|row| row["state"] == "TAKEN") {
            assert!(delivered.contains_key(text(row, "order_id")), "taken and not given back: {row}");
        }
    }

    fn payments_are_those_of_delivered_orders(&self) {
        let paid: BTreeMap<_, _> = self
            .table("payments")
            .filter(|row| row["result"] == "PAID")
            .map(|row| (text(row, "order_id"), number(row, "cents")))
            .collect();
        let wanted: BTreeMap<_, _> =
            self.delivered().into_iter().map(|(id, row)| (id, number(row, "to_pay"))).collect();
        assert_eq!(paid, wanted, "what is paid is delivered, and nothing else");
        assert_eq!(self.table("payments").count(), self.told.len(), "every payment is decided");
    }

    fn every_promise_is_kept(&self) {
        let unsent: Vec<_> = self.table("outbox").filter(|row| row["sent"] != 1).collect();
        assert!(unsent.is_empty(), "promised and not sent: {unsent:?}");
    }

    /// Group and key of the messages that no try could consume; the broker has them as dead letters, and no others.
    fn dead_messages(&self) -> BTreeSet<(String, String)> {
        let mut dead = BTreeSet::new();
        for row in self.table("consume_log") {
            match text(row, "status") {
                "DONE" => assert!(number(row, "refusals") < REFUSALS_MAX, "{row}"),
                "DEAD" => {
                    assert_eq!(number(row, "refusals"), REFUSALS_MAX, "{row}");
                    dead.insert((text(row, "group_name").to_owned(), text(row, "message_key").to_owned()));
                }
                _ => panic!("not final: {row}"),
            }
        }
        // A kill between a dead letter and its acknowledgement may leave two of it.
        let letters: BTreeSet<_> = self.dead_letters.iter().cloned().collect();
        assert_eq!(letters, dead, "the dead letters are those that the consume logs gave up");
        dead
    }

    fn points_are_given_once(&self, dead: &BTreeSet<(String, String)>) {
        let mut given: Vec<_> =
            self.table("points").map(|row| (text(row, "order_id"), number(row, "points"))).collect();
        given.sort_unstable();
        let (frozen, others): (Vec<_>, Vec<_>) =
            self.delivered().into_iter().partition(|(_, row)| text(row, "user_id") == FROZEN);
        let wanted: Vec<_> = others.into_iter().map(|(id, row)| (id, number(row, "to_pay") / CENTS_A_POINT)).collect();
        assert_eq!(given, wanted, "points for each paid order, once");
        let frozen: BTreeSet<_> =
            frozen.into_iter().map(|(id, _)| ("points_group".to_owned(), id.to_owned())).collect();
        assert_eq!(*dead, frozen, "only the frozen customer's points fail");
    }

    fn everything_is_logged_once(&self) {
        let mut payments: Vec<_> =
            self.table("payment_log").map(|row| (text(row, "order_id"), number(row, "cents"))).collect();
        payments.sort_unstable();
        let wanted: Vec<_> = self.delivered().into_iter().map(|(id, row)| (id, number(row, "to_pay"))).collect();
        assert_eq!(payments, wanted, "each payment is logged once");

        let mut notices: Vec<_> = self.table("notices").map(|row| text(row, "order_id")).collect();
        notices.sort_unstable();
        let mut confirmed: Vec<_> =
            self.table("orders").filter(|row| row["confirmed"] == 1).map(|row| text(row, "id")).collect();
        confirmed.sort_unstable();
        assert_eq!(notices, confirmed, "a notice for each order that was ever visible, once, and for no other");
    }
}

/// The audit has to see what it is there for.
mod tests {
    use serde_json::json;

    use super::*;

    /// One order delivered, one refused, one not paid, one of the frozen customer.
    fn books() -> Books {
        let order = |id: &str, user: &str, coupon: &str, status: &str, confirmed: i64| {
            json!({"table": "orders", "id": id, "user_id": user, "product": "p", "quantity": 1, "coupon": coupon,
                "balance": 200, "to_pay": 800, "status": status, "confirmed": confirmed})
        };
        let payment = |id: &str, result: &str, cents: i64| json!({"table": "payments", "order_id": id, "result": result, "cents": cents});
        let consumed = |group: &str, id: &str, status: &str, refusals: i64| {
            json!({"table": "consume_log", "group_name": group, "tag": "PAID", "message_key": id, "status": status,
                "refusals": refusals})
        };
        let rows = vec![
            order("a", "u", "c", "DELIVERED", 1),
            order("b", "u", "c", "CANCELLED", 0),
            order("c", "u", "", "CANCELLED", 1),
            order("d", FROZEN, "", "DELIVERED", 1),
            payment("a", "PAID", 800),
            payment("b", "CLOSED", 0),
            payment("c", "CLOSED", 0),
            payment("d", "PAID", 800),
            consumed("points_group", "a", "DONE", 1),
            consumed("points_group", "d", "DEAD", 4),
            json!({"table": "stock", "product": "p", "pieces": 8}),
            json!({"table": "balances", "user_id": "u", "cents": 300}),
            json!({"table": "balances", "user_id": FROZEN, "cents": 0}),
            json!({"table": "coupons", "id": "c", "used_by": "a"}),
            json!({"table": "deductions", "order_id": "a", "state": "TAKEN"}),
            json!({"table": "outbox", "id": 1, "sent": 1}),
            json!({"table": "points", "order_id": "a", "points": 8}),
            json!({"table": "payment_log", "order_id": "a", "cents": 800}),
            json!({"table": "payment_log", "order_id": "d", "cents": 800}),
            json!({"table": "notices", "order_id": "a"}),
            json!({"table": "notices", "order_id": "c"}),
            json!({"table": "notices", "order_id": "d"}),
        ];
        let told = [("a", Told::Paid), ("b", Told::Refused), ("c", Told::Unpaid), ("d", Told::Paid)];
        let goods = Goods {
            stock: [("p".to_owned(), 10)].into(),
            coupons: [("c".to_owned(), 1)].into(),
            balances: [("u".to_owned(), 500), (FROZEN.to_owned(), 200)].into(),
        };
        Books {
            rows,
            told: told.map(|(id, told)| (id.to_owned(), told)).into(),
            goods,
            dead_letters: vec![("points_group".to_owned(), "d".to_owned())],
        }
    }

    /// The books with one value of one row exchanged.
    fn with(name: &str, at: usize, column: &str, value: impl Into<Value>) -> Books {
        let mut books = books();
        let row = books.rows.iter_mut().filter(|row| row["table"] == name).nth(at).unwrap();
        row[column] = value.into();
        books
    }

    /// The books with one row twice.
    fn doubled(name: &str) -> Books {
        let mut books = books();
        let row = books.table(name).next().unwrap().clone();
        books.rows.push(row);
        books
    }

    #[test]
    fn good_books_pass_and_are_settled() {
        let books = books();
        books.audit();
        assert_eq!(unsettled(&books.rows, 4), None);
    }

    #[test]
    fn what_is_under_way_is_seen() {
        let seen = |books: Books, orders, what: &str| {
            let cause = unsettled(&books.rows, orders).unwrap();
            assert!(cause.contains(what), "{cause}");
        };
        seen(with("orders", 0, "status", "CONFIRMED"), 4, "in between");
        seen(with("outbox", 0, "sent", 0), 4, "promised");
        seen(with("consume_log", 1, "status", "FAILED"), 4, "tried again");
        seen(with("orders", 1, "confirmed", 1), 4, "3 notices for 4");
        seen(books(), 5, "4 of 5 orders");
    }

    macro_rules! sees {
        ($($name:ident: $books:expr, $what:literal;)*) => {
            $(#[test]
            #[should_panic(expected = $what)]
            fn $name() {
                $books.audit();
            })*
        };
    }

    sees! {
        an_order_in_between: with("orders", 2, "status", "CONFIRMED"), "in between";
        a_lie_to_a_customer: with("orders", 0, "status", "CANCELLED"), "the customer was told Paid";
        a_lost_piece: with("stock", 0, "pieces", 7), "7 left and 2 sold";
        a_lost_cent: with("balances", 0, "cents", 299), "299 left";
        a_coupon_of_a_cancelled_order: with("coupons", 0, "used_by", "b"), "coupons are used";
        a_deduction_that_was_not_given_back: with("deductions", 0, "order_id", "b"), "taken and not given back";
        a_payment_of_a_cancelled_order: with("payments", 2, "result", "PAID"), "what is paid is delivered";
        a_broken_promise: with("outbox", 0, "sent", 0), "promised and not sent";
        a_message_in_between: with("consume_log", 0, "status", "FAILED"), "not final";
        too_many_refusals: with("consume_log", 0, "refusals", 4), "\"refusals\":4";
        an_unexplained_dead_letter: with("consume_log", 1, "message_key", "a"), "the dead letters are those";
        points_given_twice: doubled("points"), "points for each paid order";
        a_payment_logged_twice: doubled("payment_log"), "logged once";
        a_notice_sent_twice: doubled("notices"), "a notice for each";
    }
}
