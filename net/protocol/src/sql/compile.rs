//! The compact form of an expression, and the rules that its operands must keep. Nodes stand in one list, operands before
//! what uses them; strings and names stand in one text.

use std::cmp::Ordering;

use super::error::SqlError;
use super::evaluate::{Find, Sizes, Value, order};
use super::limits::{DEPTH_MAX, NODES_MAX, PROPERTIES_MAX};
use super::number;
use super::parser;

/// A node's place in the list.
pub(super) type Id = u16;

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

/// Neighbours in a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run {
    first: u16,
    count: u16,
}

impl Run {
    pub(super) fn of<T>(self, list: &[T]) -> &[T] {
        let first = usize::from(self.first);
        &list[first..first + usize::from(self.count)]
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Integer(i32),
    Long(i64),
    Double(f64),
    Text(Span),
    /// The value of the property with this number.
    Property(u16),
    /// A property where a condition should stand: unknown if it is missing, else false, because its value is a string.
    Condition(u16),
    Minus(Id),
    Not(Id),
    And(Run),
    Or(Run),
    Equal(Id, Id),
    IsNull(Id),
    Compare(Sizes, Id, Id),
    Between {
        value: Id,
        low: Id,
        high: Id,
        not: bool,
    },
    /// A property among strings, which are sorted.
    In {
        property: u16,
        list: Run,
        not: bool,
    },
    Find {
        find: Find,
        value: Id,
        text: Span,
        not: bool,
    },
}

/// An expression that was read. It is small, asked from any thread, and costs nothing to ask but time.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlFilter {
    pub(super) nodes: Box<[Node]>,
    /// Operands of AND and OR.
    pub(super) operands: Box<[Id]>,
    /// Strings of IN.
    pub(super) words: Box<[Span]>,
    /// Names of properties.
    pub(super) names: Box<[Span]>,
    text: Box<str>,
    pub(super) root: Id,
}

impl SqlFilter {
    /// Reads an expression.
    ///
    /// # Errors
    /// What Apache's parser refuses, and what is beyond one of the [`limits`](super::limits).
    pub fn parse(expression: &str) -> Result<Self, SqlError> {
        parser::parse(expression)
    }

    /// Operators and operands: about what one evaluation costs, as every one is looked at once at most.
    pub fn cost(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn text(&self, span: Span) -> &str {
        &self.text[span.start as usize..][..span.len as usize]
    }
}

/// What the rules ask of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Property,
    Number,
    Text,
    /// TRUE or FALSE as it is written.
    Boolean,
    Null,
    /// What an operator makes that answers true or false.
    Condition,
    /// Behind a minus sign, which hides what it is from every rule.
    Minus,
}

/// What the parser has in hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    pub(super) node: Id,
    kind: Kind,
}

/// A filter that is being built.
#[derive(Debug, Default)]
pub(super) struct Builder<'a> {
    nodes: Vec<Node>,
    /// How deep each node is.
    depths: Vec<u8>,
    operands: Vec<Id>,
    words: Vec<Span>,
    names: Vec<&'a str>,
    text: String,
}

/// What a limit bounds fits its number.
fn short(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

impl<'a> Builder<'a> {
    pub(super) fn finish(mut self, root: Id) -> SqlFilter {
        let names = std::mem::take(&mut self.names);
        let names = names.into_iter().map(|name| self.span(name)).collect();
        SqlFilter {
            nodes: self.nodes.into(),
            operands: self.operands.into(),
            words: self.words.into(),
            names,
            text: self.text.into(),
            root,
        }
    }

    /// Keeps a string. All together are not longer than the expression, twice where a property's name repeats a string.
    fn span(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span { start: start as u32, len: text.len() as u32 }
    }

    /// Keeps a string as it is written, with two quotes for one.
    fn unquoted(&mut self, text: &str) -> Span {
        let start = self.text.len();
        for (nth, piece) in text.split("''").enumerate() {
            if nth > 0 {
                self.text.push('\'');
            }
            self.text.push_str(piece);
        }
        Span { start: start as u32, len: (self.text.len() - start) as u32 }
    }

    fn push(&mut self, node: Node, kind: Kind, below: &[Id]) -> Result<Operand, SqlError> {
        let deepest = below.iter().map(|id| self.depths[usize::from(*id)]).max();
        let depth = deepest.map_or(0, |deepest| deepest + 1);
        if usize::from(depth) > DEPTH_MAX {
            return Err(SqlError::TooDeep);
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(SqlError::TooMany);
        }
        self.nodes.push(node);
        self.depths.push(depth);
        Ok(Operand { node: short(self.nodes.len() - 1), kind })
    }

    fn condition(&mut self, node: Node, below: &[Id]) -> Result<Operand, SqlError> {
        self.push(node, Kind::Condition, below)
    }

    pub(super) fn text(&mut self, text: &str) -> Result<Operand, SqlError> {
        let span = self.unquoted(text);
        self.push(Node::Text(span), Kind::Text, &[])
    }

    pub(super) fn integer(&mut self, digits: &str, at: usize) -> Result<Operand, SqlError> {
        let value = number::long(digits).ok_or(SqlError::IntegerRange(at))?;
        let node = i32::try_from(value).map_or(Node::Long(value), Node::Integer);
        self.push(node, Kind::Number, &[])
    }

    pub(super) fn decimal(&mut self, digits: &str, at: usize) -> Result<Operand, SqlError> {
        let value = number::double(digits).filter(|value| *value > 0.0 && value.is_finite());
        self.push(Node::Double(value.ok_or(SqlError::DecimalRange(at))?), Kind::Number, &[])
    }

    pub(super) fn literal(&mut self, kind: Kind, value: Option<bool>) -> Result<Operand, SqlError> {
        self.push(value.map_or(Node::Null, Node::Bool), kind, &[])
    }

    pub(super) fn property(&mut self, name: &'a str) -> Result<Operand, SqlError> {
        let known = self.names.iter().position(|known| *known == name);
        let number = known.unwrap_or(self.names.len());
        if number >= PROPERTIES_MAX {
            return Err(SqlError::TooManyProperties);
        }
        if known.is_none() {
            self.names.push(name);
        }
        self.push(Node::Property(short(number)), Kind::Property, &[])
    }

    /// An operand where a condition must stand.
    pub(super) fn boolean(&mut self, operand: Operand, at: usize) -> Result<Id, SqlError> {
        match (operand.kind, self.nodes[usize::from(operand.node)]) {
            (Kind::Property, Node::Property(number)) => {
                self.condition(Node::Condition(number), &[]).map(|condition| condition.node)
            }
            (Kind::Boolean | Kind::Null | Kind::Condition, _) => Ok(operand.node),
            _ => Err(SqlError::NotBoolean(at)),
        }
    }

    /// The number of a literal is turned around at once.
    pub(super) fn minus(&mut self, operand: Operand) -> Result<Operand, SqlError> {
        let place = &mut self.nodes[usize::from(operand.node)];
        let turned = match *place {
            Node::Integer(value) => Node::Integer(value.wrapping_neg()),
            Node::Long(value) => Node::Long(value.wrapping_neg()),
            Node::Double(value) => Node::Double(-value),
            _ => return self.push(Node::Minus(operand.node), Kind::Minus, &[operand.node]),
        };
        *place = turned;
        Ok(Operand { kind: Kind::Minus, ..operand })
    }

    pub(super) fn not(&mut self, condition: Id) -> Result<Operand, SqlError> {
        self.condition(Node::Not(condition), &[condition])
    }

    pub(super) fn and(&mut self, parts: &[Id]) -> Result<Operand, SqlError> {
        let run = self.run(parts);
        self.condition(Node::And(run), parts)
    }

    pub(super) fn or(&mut self, parts: &[Id]) -> Result<Operand, SqlError> {
        let run = self.run(parts);
        self.condition(Node::Or(run), parts)
    }

    fn run(&mut self, parts: &[Id]) -> Run {
        let first = short(self.operands.len());
        self.operands.extend_from_slice(parts);
        Run { first, count: short(parts.len()) }
    }

    pub(super) fn equal(&mut self, left: Operand, right: Operand, at: usize) -> Result<Operand, SqlError> {
        if left.kind == Kind::Null || right.kind == Kind::Null {
            return Err(SqlError::EqualsNull(at));
        }
        if left.kind == Kind::Boolean && matches!(right.kind, Kind::Number | Kind::Text) {
            return Err(SqlError::MixedLiterals(at));
        }
        self.condition(Node::Equal(left.node, right.node), &[left.node, right.node])
    }

    pub(super) fn is_null(&mut self, left: Operand) -> Result<Operand, SqlError> {
        self.condition(Node::IsNull(left.node), &[left.node])
    }

    pub(super) fn compare(
        &mut self,
        sizes: Sizes,
        left: Operand,
        right: Operand,
        at: usize,
    ) -> Result<Operand, SqlError> {
        comparable(&[left, right], at)?;
        self.condition(Node::Compare(sizes, left.node, right.node), &[left.node, right.node])
    }

    pub(super) fn between(
        &mut self,
        value: Operand,
        low: Operand,
        high: Operand,
        not: bool,
        at: usize,
    ) -> Result<Operand, SqlError> {
        comparable(&[value, low, high], at)?;
        if !not && low.kind == Kind::Number && high.kind == Kind::Number {
            let number = |operand: Operand| match self.nodes[usize::from(operand.node)] {
                Node::Integer(value) => Value::Integer(value),
                Node::Long(value) => Value::Long(value),
                Node::Double(value) => Value::Double(value),
                _ => Value::Null,
            };
            if order(number(high), number(low)) == Ok(Ordering::Less) {
                return Err(SqlError::BoundsReversed(at));
            }
        }
        let (value, low, high) = (value.node, low.node, high.node);
        self.condition(Node::Between { value, low, high, not }, &[value, low, high])
    }

    pub(super) fn list(&mut self) -> Run {
        Run { first: short(self.words.len()), count: 0 }
    }

    /// The list must be the last that was begun.
    pub(super) fn add(&mut self, list: &mut Run, text: &str) {
        let span = self.unquoted(text);
        self.words.push(span);
        list.count += 1;
    }

    pub(super) fn is_in(&mut self, left: Operand, list: Run, not: bool, at: usize) -> Result<Operand, SqlError> {
        let (Kind::Property, Node::Property(property)) = (left.kind, self.nodes[usize::from(left.node)]) else {
            return Err(SqlError::InWithoutProperty(at));
        };
        let text = &self.text;
        let word = |span: &Span| &text[span.start as usize..][..span.len as usize];
        self.words[usize::from(list.first)..].sort_unstable_by(|a, b| word(a).cmp(word(b)));
        self.condition(Node::In { property, list, not }, &[])
    }

    pub(super) fn find(&mut self, find: Find, left: Operand, text: &str, not: bool) -> Result<Operand, SqlError> {
        let text = self.unquoted(text);
        self.condition(Node::Find { find, value: left.node, text, not }, &[left.node])
    }
}

fn comparable(operands: &[Operand], at: usize) -> Result<(), SqlError> {
    let all = operands.iter().all(|operand| matches!(operand.kind, Kind::Number | Kind::Property | Kind::Minus));
    if all { Ok(()) } else { Err(SqlError::NotComparable(at)) }
}
