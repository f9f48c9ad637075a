//! Filters over a message's properties: the expression type `SQL92` of RocketMQ.
//!
//! An expression is read once ([`SqlFilter::parse`]) into a compact form that is then asked of each message
//! ([`SqlFilter::matches`]), without an allocation. What is accepted and what it means is what Apache's
//! `rocketmq-filter` 5.3.3 makes of it, oddities included: what stands behind a whole expression is passed over, `NOT`
//! binds tighter than a comparison, `a > b` compares numbers only, and a property that cannot be converted ends the
//! evaluation, so that the message does not match. `docs/COMPATIBILITY.md` lists the differences.
//!
//! The map: `lexer` cuts the text into tokens, `parser` knows the grammar, `compile` the rules that operands must keep and
//! the compact form, `evaluate` what it means for a message, `number` how Java reads and compares numbers.

mod compile;
mod error;
mod evaluate;
mod lexer;
mod number;
mod parser;

pub use self::compile::SqlFilter;
pub use self::error::{SqlError, Wanted};
pub use self::evaluate::Outcome;

/// What an expression may cost. Each limit is checked before what it bounds is allocated; an expression beyond one is
/// refused.
pub mod limits {
    /// Bytes of an expression, as long as a subscription may be.
    pub const LENGTH_MAX: usize = 65_536;
    /// How deep parentheses and operators may nest, in the text and in what is made of it. Chains of AND, and of OR, are
    /// not deep.
    pub const DEPTH_MAX: usize = 128;
    /// Operators and operands. The strings of an IN list are not counted: its length hardly costs.
    pub const NODES_MAX: usize = 4096;
    /// Different properties that are named.
    pub const PROPERTIES_MAX: usize = 64;
}

#[cfg(test)]
mod tests;
