//! An expression and, behind a zero byte, a property string: what parses is bounded, and means the same each time it is
//! parsed and asked.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_protocol::sql::{Outcome, SqlFilter, limits};

fuzz_target!(|text: &str| {
    let (expression, properties) = text.split_once('\0').unwrap_or((text, "a\u{1}5\u{2}b\u{1}abc\u{2}"));
    let Ok(filter) = SqlFilter::parse(expression) else { return };
    assert!(filter.cost() <= limits::NODES_MAX);
    let outcome = filter.evaluate(properties);
    assert_eq!(filter.matches(properties), outcome == Outcome::True);
    // What stands behind a whole expression is passed over, so not each is one in parentheses; those that are mean the
    // same. One with parentheses of its own could end in another place.
    if expression.contains(['(', ')']) {
        return;
    }
    if let Ok(inside) = SqlFilter::parse(&format!("({expression}\n)")) {
        assert_eq!(inside.evaluate(properties), outcome);
    }
});
