//! What an expression says of one message. Three-valued as Java's, with a fourth answer where Java throws; all four end
//! up as delivered or not. Every node is looked at once at most, so an evaluation's time is bounded by the expression's
//! size and the properties' length.

use std::cmp::Ordering;

use super::compile::{Id, Node, SqlFilter};
use super::limits::PROPERTIES_MAX;
use super::number;
use crate::properties;

/// What an expression says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message is wanted.
    True,
    False,
    /// Something that it depends on is missing.
    Unknown,
    /// A value could not be converted, which ends the evaluation whatever else the expression says.
    Raised,
}

/// A comparison by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sizes {
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

/// Where one string is looked for in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Find {
    Contains,
    Starts,
    Ends,
}

/// Java throws an exception here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raised;

/// What a part of an expression comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Integer(i32),
    Long(i64),
    Double(f64),
    Text(&'a str),
}

impl From<Option<bool>> for Value<'_> {
    fn from(truth: Option<bool>) -> Self {
        truth.map_or(Value::Null, Value::Bool)
    }
}

impl SqlFilter {
    /// Whether the message with these properties, encoded as in a record, is to be delivered.
    pub fn matches(&self, properties: &str) -> bool {
        self.evaluate(properties) == Outcome::True
    }

    /// What the expression says of the message with these properties.
    pub fn evaluate(&self, properties: &str) -> Outcome {
        /// Nearly every expression names fewer properties.
        const FEW: usize = 8;
        if self.names.len() <= FEW {
            self.run(&mut [None; FEW], properties)
        } else {
            self.run(&mut [None; PROPERTIES_MAX], properties)
        }
    }

    fn run<'a>(&'a self, values: &mut [Option<&'a str>], properties: &'a str) -> Outcome {
        for (name, value) in properties::iter(properties) {
            for (wanted, place) in self.names.iter().zip(values.iter_mut()) {
                if self.text(*wanted) == name {
                    *place = Some(value);
                }
            }
        }
        match (Evaluation { filter: self, values }).truth(self.root) {
            Ok(Some(true)) => Outcome::True,
            Ok(Some(false)) => Outcome::False,
            Ok(None) => Outcome::Unknown,
            Err(Raised) => Outcome::Raised,
        }
    }
}

/// One message under one expression.
struct Evaluation<'a, 'v> {
    filter: &'a SqlFilter,
    /// The values of the properties that the expression names.
    values: &'v [Option<&'a str>],
}

impl<'a> Evaluation<'a, '_> {
    fn property(&self, number: u16) -> Option<&'a str> {
        self.values[usize::from(number)]
    }

    fn truth(&self, id: Id) -> Result<Option<bool>, Raised> {
        match self.value(id)? {
            Value::Null => Ok(None),
            Value::Bool(truth) => Ok(Some(truth)),
            _ => Err(Raised),
        }
    }

    fn value(&self, id: Id) -> Result<Value<'a>, Raised> {
        let filter = self.filter;
        Ok(match filter.nodes[usize::from(id)] {
            Node::Null => Value::Null,
            Node::Bool(value) => Value::Bool(value),
            Node::Integer(value) => Value::Integer(value),
            Node::Long(value) => Value::Long(value),
            Node::Double(value) => Value::Double(value),
            Node::Text(span) => Value::Text(filter.text(span)),
            Node::Property(number) => self.property(number).map_or(Value::Null, Value::Text),
            Node::Condition(number) => self.property(number).map(|_| false).into(),
            Node::Minus(operand) => match self.value(operand)? {
                Value::Integer(value) => Value::Integer(value.wrapping_neg()),
                Value::Long(value) => Value::Long(value.wrapping_neg()),
                Value::Double(value) => Value::Double(-value),
                Value::Null | Value::Bool(_) | Value::Text(_) => Value::Null,
            },
            Node::Not(condition) => self.truth(condition)?.map(|truth| !truth).into(),
            Node::And(operands) => self.until(false, operands.of(&filter.operands))?.into(),
            Node::Or(operands) => self.until(true, operands.of(&filter.operands))?.into(),
            Node::Equal(left, right) => equal(self.value(left)?, self.value(right)?)?.into(),
            Node::IsNull(operand) => Value::Bool(self.value(operand)? == Value::Null),
            Node::Compare(sizes, left, right) => {
                let left = self.value(left)?;
                self.by_size(left, right)?.map(|order| sizes.holds(order)).into()
            }
            Node::Between { value, low, high, not } => self.between(value, low, high, not)?.into(),
            Node::In { property, list, not } => {
                let words = list.of(&filter.words);
                let among = |value| words.binary_search_by(|word| filter.text(*word).cmp(value)).is_ok();
                self.property(property).map(|value| among(value) != not).into()
            }
            Node::Find { find, value, text, not } => {
                let text = filter.text(text);
                // Java looks for an empty string nowhere, and does not even ask for the value then.
                let value = if text.is_empty() { Value::Null } else { self.value(value)? };
                match value {
                    Value::Text(value) => Value::Bool(find.finds(value, text) != not),
                    _ => Value::Bool(false),
                }
            }
        })
    }

    /// AND asks on until something is false, OR until something is true.
    fn until(&self, decisive: bool, operands: &[Id]) -> Result<Option<bool>, Raised> {
        let mut all_known = true;
        for operand in operands {
            match self.truth(*operand)? {
                Some(truth) if truth == decisive => return Ok(Some(decisive)),
                Some(_) => {}
                None => all_known = false,
            }
        }
        Ok(all_known.then_some(!decisive))
    }

    /// The right side is not looked at when the left one is missing.
    fn by_size(&self, left: Value<'_>, right: Id) -> Result<Option<Ordering>, Raised> {
        if left == Value::Null {
            return Ok(None);
        }
        Ok(match (left, self.value(right)?) {
            (_, Value::Null) => None,
            (Value::Text(left), Value::Text(right)) => Some(number::compare(double(left)?, double(right)?)),
            (left, right) => Some(order(left, right)?),
        })
    }

    /// Two comparisons, of which the first may decide.
    fn between(&self, value: Id, low: Id, high: Id, not: bool) -> Result<Option<bool>, Raised> {
        let value = self.value(value)?;
        let below = self.by_size(value, low)?.map(Ordering::is_lt);
        if below == Some(true) {
            return Ok(Some(not));
        }
        let above = self.by_size(value, high)?.map(Ordering::is_gt);
        if above == Some(true) {
            return Ok(Some(not));
        }
        Ok((below.is_some() && above.is_some()).then_some(!not))
    }
}

impl Sizes {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Sizes::Greater => order.is_gt(),
            Sizes::GreaterEqual => order.is_ge(),
            Sizes::Less => order.is_lt(),
            Sizes::LessEqual => order.is_le(),
        }
    }
}

impl Find {
    fn finds(self, value: &str, text: &str) -> bool {
        match self {
            Find::Contains => value.contains(text),
            Find::Starts => value.starts_with(text),
            Find::Ends => value.ends_with(text),
        }
    }
}

fn equal(left: Value<'_>, right: Value<'_>) -> Result<Option<bool>, Raised> {
    Ok(match (left, right) {
        (Value::Null, Value::Null) => Some(true),
        (Value::Null, _) => None,
        (_, Value::Null) => Some(false),
        (left, right) => Some(order(left, right)?.is_eq()),
    })
}

fn double(text: &str) -> Result<f64, Raised> {
    number::double(text).ok_or(Raised)
}

/// How two values compare once the one that is a string is converted to what the other is.
pub(super) fn order(left: Value<'_>, right: Value<'_>) -> Result<Ordering, Raised> {
    use Value::{Bool, Double, Integer, Long, Null, Text};
    Ok(match (left, right) {
        (Text(left), Text(right)) => left.cmp(right),
        // Java converts the wrong one of the two.
        (Bool(_), Text(_)) => return Err(Raised),
        (Text(left), Bool(right)) => left.eq_ignore_ascii_case("true").cmp(&right),
        (Bool(left), Bool(right)) => left.cmp(&right),
        // What cannot be compared counts as less.
        (Bool(_) | Null, _) | (_, Bool(_) | Null) => Ordering::Less,
        (Text(left), Integer(right)) => number::integer(left).ok_or(Raised)?.cmp(&right),
        (Integer(left), Text(right)) => left.cmp(&number::integer(right).ok_or(Raised)?),
        (Text(left), Long(right)) => number::long(left).ok_or(Raised)?.cmp(&right),
        (Long(left), Text(right)) => left.cmp(&number::long(right).ok_or(Raised)?),
        (Text(left), Double(right)) => number::compare(double(left)?, right),
        (Double(left), Text(right)) => number::compare(left, double(right)?),
        (Integer(left), Integer(right)) => left.cmp(&right),
        (Integer(left), Long(right)) => i64::from(left).cmp(&right),
        (Long(left), Integer(right)) => left.cmp(&i64::from(right)),
        (Long(left), Long(right)) => left.cmp(&right),
        (Integer(left), Double(right)) => number::compare(f64::from(left), right),
        (Double(left), Integer(right)) => number::compare(left, f64::from(right)),
        (Long(left), Double(right)) => number::compare(left as f64, right),
        (Double(left), Long(right)) => number::compare(left, right as f64),
        (Double(left), Double(right)) => number::compare(left, right),
    })
}
