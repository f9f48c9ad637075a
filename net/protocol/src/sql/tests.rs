//! What an expression means, rule by rule. That Java means the same is `tests/sql.rs`'s business, which asks it.

use proptest::prelude::*;

use super::limits::{DEPTH_MAX, LENGTH_MAX, NODES_MAX, PROPERTIES_MAX};
use super::*;

/// A message with a=5, b=abc, t=TRUE, big=5000000000 and nan=NaN.
const MESSAGE: &str = "a\u{1}5\u{2}b\u{1}abc\u{2}t\u{1}TRUE\u{2}big\u{1}5000000000\u{2}nan\u{1}NaN\u{2}";

fn outcome(expression: &str) -> Outcome {
    SqlFilter::parse(expression).unwrap_or_else(|e| panic!("{expression}: {e}")).evaluate(MESSAGE)
}

fn all(expected: Outcome, expressions: &[&str]) {
    for expression in expressions {
        assert_eq!(outcome(expression), expected, "{expression}");
        assert_eq!(SqlFilter::parse(expression).unwrap().matches(MESSAGE), expected == Outcome::True, "{expression}");
    }
}

fn refused(expression: &str) -> SqlError {
    SqlFilter::parse(expression).expect_err(expression)
}

#[test]
fn properties_are_converted_to_what_they_are_compared_with() {
    all(Outcome::True, &["a = 5", "a = '5'", "5 = a", "a > 4.5", "a BETWEEN 5 AND 6", "t = true", "big > 2147483648"]);
    all(Outcome::True, &["b = 'abc'", "b <> 'ab'", "b IN ('x', 'abc')", "b NOT IN ('x')", "nan > 1e308", "big > a"]);
    all(Outcome::False, &["a = 6", "a > 5", "b IN ('ab', 'b', 'c', 'd', 'e', 'f')", "a NOT BETWEEN 1 AND 9"]);
    all(Outcome::Raised, &["b = 5", "b > 5", "b > a", "big > 5", "a = 5 AND b > 5", "b > 5 OR a = 5", "TRUE = t"]);
}

#[test]
fn a_missing_property_is_unknown() {
    all(Outcome::Unknown, &["x = 1", "x <> 1", "x > 1", "NOT (x = 1)", "x", "x IN ('a')", "x = 1 AND a = 5", "NULL"]);
    all(Outcome::True, &["x IS NULL", "a IS NOT NULL", "x = 1 OR a = 5", "x = y", "1 <> x", "a = 5 OR b > 5"]);
    all(Outcome::False, &["x = 1 AND a = 6", "1 = x", "x NOT CONTAINS 'a'", "x IS NOT NULL", "a = 6 AND b > 5"]);
}

#[test]
fn strings_are_searched() {
    all(Outcome::True, &["b CONTAINS 'bc'", "b STARTSWITH 'ab'", "b ENDSWITH 'c'", "b NOT CONTAINS 'x'"]);
    all(
        Outcome::False,
        &["b CONTAINS ''", "b NOT STARTSWITH ''", "5 CONTAINS '5'", "b NOT ENDSWITH 'c'", "(b > 5) CONTAINS ''"],
    );
}

#[test]
fn not_binds_tighter_than_a_comparison_and_a_bare_property_is_no_truth() {
    all(Outcome::True, &["NOT a", "(NOT a) = TRUE", "NOT a = TRUE", "NOT (a = 6)", "a = 6 OR a = 5 AND b = 'abc'"]);
    all(Outcome::False, &["a", "t", "NOT a = FALSE"]);
}

#[test]
fn a_sign_hides_what_stands_behind_it() {
    all(Outcome::True, &["a > -5", "a > - - 4", "-a IS NULL", "a BETWEEN -1 AND +5", "- TRUE IS NULL"]);
    all(Outcome::False, &["a BETWEEN -1 AND -5", "TRUE = -1"]);
    assert_eq!(refused("TRUE = 1"), SqlError::MixedLiterals(8));
    assert_eq!(refused("a BETWEEN 5 AND 1"), SqlError::BoundsReversed(17));
}

#[test]
fn what_stands_behind_an_expression_is_passed_over_but_for_its_first_token() {
    all(Outcome::True, &["a = 5 b c", "a = 5)", "a = 5 -- no end of line", "a = 5 /* x */", "a <> 05 x"]);
    assert_eq!(refused("a = 5 #"), SqlError::Lexical(6));
    assert_eq!(refused("a = 5 'x"), SqlError::Lexical(6));
    assert_eq!(refused("a = 5 NOT"), SqlError::Syntax { at: 9, wanted: Wanted::Negated });
    // The string is 'x', and the third quote begins what is none.
    assert_eq!(refused("b = 'x''"), SqlError::Lexical(7));
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    assert_eq!(refused(""), SqlError::Syntax { at: 0, wanted: Wanted::Operand });
    assert_eq!(refused("5"), SqlError::NotBoolean(1));
    assert_eq!(refused("a > 'x'"), SqlError::NotComparable(7));
    assert_eq!(refused("(a = 1) > 2"), SqlError::NotComparable(11));
    assert_eq!(refused("a = NULL"), SqlError::EqualsNull(8));
    assert_eq!(refused("'a' IN ('a')"), SqlError::InWithoutProperty(12));
    assert_eq!(refused("a = 9223372036854775808"), SqlError::IntegerRange(4));
    assert_eq!(refused("a = 0.0"), SqlError::DecimalRange(4));
    assert_eq!(refused("a = 1e309"), SqlError::DecimalRange(4));
    assert_eq!(refused("a != 5"), SqlError::Lexical(2));
    // LIKE is no word, so this is the property alone.
    all(Outcome::False, &["a LIKE 'x'"]);
    assert_eq!(refused("a IN (5)").to_string(), "a string in single quotes should stand at byte 6");
}

#[test]
fn each_limit_refuses_what_is_beyond_it() {
    let nested = |depth: usize| "(".repeat(depth) + "a" + &")".repeat(depth);
    assert!(SqlFilter::parse(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(refused(&nested(DEPTH_MAX + 1)), SqlError::TooDeep);
    assert_eq!(refused(&format!("a{}", " IS NULL".repeat(DEPTH_MAX + 1))), SqlError::TooDeep);
    assert_eq!(refused(&"NOT ".repeat(LENGTH_MAX / 4)), SqlError::TooDeep);
    assert_eq!(refused(&" ".repeat(LENGTH_MAX + 1)), SqlError::TooLong);
    // A term has two operands and an operator, and the chain is one more.
    let terms = |count: usize| vec!["a=1"; count].join(" OR ");
    assert!(SqlFilter::parse(&terms(NODES_MAX / 3)).is_ok());
    assert_eq!(refused(&terms(NODES_MAX / 3 + 1)), SqlError::TooMany);
    let named = |count: usize| (0..count).map(|n| format!("p{n}=p")).collect::<Vec<_>>().join(" OR ");
    assert_eq!(refused(&named(PROPERTIES_MAX)), SqlError::TooManyProperties);
    let filter = SqlFilter::parse(&named(PROPERTIES_MAX - 1)).unwrap();
    assert!(filter.matches("p62\u{1}x\u{2}p\u{1}x") && !filter.matches("p62\u{1}x\u{2}p\u{1}y\u{2}p61\u{1}x"));
}

/// Java evaluates both comparisons of a BETWEEN, so that nested ones take twice as long with each level.
#[test]
fn no_expression_takes_longer_than_its_length_says() {
    let levels = DEPTH_MAX / 2 - 1;
    let whole = format!("{}a BETWEEN 1 AND 9{}", "-(".repeat(levels), ") BETWEEN 1 AND 9".repeat(levels));
    all(Outcome::Unknown, &[&whole]);
}

#[test]
fn hexadecimal_decimals_are_rounded_once() {
    let cases = [
        ("0x1p3", 8.0),
        ("-0X1.8p1", -3.0),
        ("0x.8P0d", 0.5),
        ("0x1.fffffffffffff8p1023", f64::INFINITY),
        ("0x1p-1075", 0.0),
        ("0x1.8p-1075", 5e-324),
        ("0x1.00000000000008p0", 1.0),
        ("0x1.000000000000080000000000000001p0", 1.0 + f64::EPSILON),
        ("0x0.0000000000000000000000001p100", 1.0),
        ("0x1p99999999999999999999", f64::INFINITY),
        ("0x0p99999999999999999999", 0.0),
        (" 1.5f\t", 1.5),
        ("-Infinity", f64::NEG_INFINITY),
    ];
    for (text, value) in cases {
        assert_eq!(number::double(text), Some(value), "{text}");
    }
    for text in
        ["", " ", "0x1", "0xp1", "0x.p1", "0x1p", "0x1pf", "nan", "inf", "1_0", "1e", ".", "+-1", "\u{a0}1", "1ff"]
    {
        assert_eq!(number::double(text), None, "{text}");
    }
}

proptest! {
    /// Every double, written in hexadecimal, is read as itself.
    #[test]
    fn every_double_is_read_back(bits: u64) {
        let value = f64::from_bits(bits & !(1 << 63));
        prop_assume!(value.is_finite());
        let (exponent, fraction) = ((bits >> 52) & 0x7FF, bits & ((1 << 52) - 1));
        let (whole, power) = if exponent == 0 { (0, -1022) } else { (1, exponent.cast_signed() - 1023) };
        prop_assert_eq!(number::double(&format!("0x{whole}.{fraction:013x}p{power}")), Some(value));
    }

    /// Nothing that can be written makes the parser or the evaluation fail otherwise than by an error.
    #[test]
    fn any_text_is_an_answer(expression in "[-aANOTnotIinISs0-9.eE'()<>=,*/ +]{0,60}", properties: String) {
        if let Ok(filter) = SqlFilter::parse(&expression) {
            let _ = filter.evaluate(&properties);
        }
    }
}
