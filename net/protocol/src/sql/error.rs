//! Why an expression is refused.

use thiserror::Error;

use super::limits::{DEPTH_MAX, LENGTH_MAX, NODES_MAX, PROPERTIES_MAX};

/// What should have stood where something else did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Wanted {
    #[error("a property, a literal or a parenthesis")]
    Operand,
    #[error("a string in single quotes")]
    Text,
    #[error("AND between the bounds of BETWEEN")]
    And,
    #[error("an opening parenthesis behind IN")]
    Open,
    #[error("a closing parenthesis")]
    Close,
    #[error("NULL or NOT NULL behind IS")]
    Null,
    #[error("BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH behind NOT")]
    Negated,
}

/// Why an expression is refused. Places are bytes from the expression's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SqlError {
    #[error("the expression is longer than {LENGTH_MAX} bytes")]
    TooLong,
    #[error("the expression nests deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("the expression has more than {NODES_MAX} operators and operands")]
    TooMany,
    #[error("the expression names more than {PROPERTIES_MAX} properties")]
    TooManyProperties,
    #[error("no word, number, string or operator begins at byte {0}")]
    Lexical(usize),
    #[error("{wanted} should stand at byte {at}")]
    Syntax { at: usize, wanted: Wanted },
    #[error("the integer at byte {0} does not fit 64 bits")]
    IntegerRange(usize),
    #[error("the decimal number at byte {0} is zero or infinite")]
    DecimalRange(usize),
    #[error("what stands before byte {0} is neither a condition nor a property")]
    NotBoolean(usize),
    #[error("what stands before byte {0} cannot be compared by size: only numbers and properties can")]
    NotComparable(usize),
    #[error("what stands before byte {0} compares with NULL: write IS NULL")]
    EqualsNull(usize),
    #[error("what stands before byte {0} compares TRUE or FALSE with another kind of literal")]
    MixedLiterals(usize),
    #[error("the lower bound of BETWEEN before byte {0} is above the upper one")]
    BoundsReversed(usize),
    #[error("IN before byte {0} has something else than a property on its left")]
    InWithoutProperty(usize),
}
