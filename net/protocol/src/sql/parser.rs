//! The grammar, loosest first: OR, AND, equality and IS NULL, comparison, unary operators, operands. It decides as
//! Apache's generated parser does, so what stands behind the last expression that it understands is not looked at.

use super::compile::{Builder, Kind, Operand, SqlFilter};
use super::error::{SqlError, Wanted};
use super::evaluate::{Find, Sizes};
use super::lexer::{Lexer, Token};
use super::limits::{DEPTH_MAX, LENGTH_MAX};

pub(super) fn parse(expression: &str) -> Result<SqlFilter, SqlError> {
    if expression.len() > LENGTH_MAX {
        return Err(SqlError::TooLong);
    }
    let mut lexer = Lexer::new(expression);
    let (token, at) = lexer.next()?;
    let mut parser = Parser { lexer, token, at, depth: 0, built: Builder::default() };
    let whole = parser.or()?;
    let root = parser.built.boolean(whole, parser.at)?;
    Ok(parser.built.finish(root))
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    /// The token that is looked at, and where it begins.
    token: Token<'a>,
    at: usize,
    depth: usize,
    built: Builder<'a>,
}

impl<'a> Parser<'a> {
    fn advance(&mut self) -> Result<(), SqlError> {
        (self.token, self.at) = self.lexer.next()?;
        Ok(())
    }

    /// Steps over the token if it is this one.
    fn took(&mut self, token: Token<'_>) -> Result<bool, SqlError> {
        let found = self.token == token;
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, token: Token<'_>, wanted: Wanted) -> Result<(), SqlError> {
        if self.took(token)? { Ok(()) } else { Err(SqlError::Syntax { at: self.at, wanted }) }
    }

    fn or(&mut self) -> Result<Operand, SqlError> {
        let first = self.and()?;
        if self.token != Token::Or {
            return Ok(first);
        }
        let mut parts = vec![self.built.boolean(first, self.at)?];
        while self.took(Token::Or)? {
            let next = self.and()?;
            parts.push(self.built.boolean(next, self.at)?);
        }
        self.built.or(&parts)
    }

    fn and(&mut self) -> Result<Operand, SqlError> {
        let first = self.equality()?;
        if self.token != Token::And {
            return Ok(first);
        }
        let mut parts = vec![self.built.boolean(first, self.at)?];
        while self.took(Token::And)? {
            let next = self.equality()?;
            parts.push(self.built.boolean(next, self.at)?);
        }
        self.built.and(&parts)
    }

    fn equality(&mut self) -> Result<Operand, SqlError> {
        let mut left = self.comparison()?;
        loop {
            left = match self.token {
                Token::Equal | Token::NotEqual => {
                    let not = self.token == Token::NotEqual;
                    self.advance()?;
                    let right = self.comparison()?;
                    let equal = self.built.equal(left, right, self.at)?;
                    self.negated(equal, not)?
                }
                Token::Is => {
                    self.advance()?;
                    let not = self.took(Token::Not)?;
                    self.expect(Token::Null, Wanted::Null)?;
                    let is_null = self.built.is_null(left)?;
                    self.negated(is_null, not)?
                }
                _ => return Ok(left),
            };
        }
    }

    fn negated(&mut self, condition: Operand, not: bool) -> Result<Operand, SqlError> {
        if not { self.built.not(condition.node) } else { Ok(condition) }
    }

    fn comparison(&mut self) -> Result<Operand, SqlError> {
        let mut left = self.unary()?;
        loop {
            let sizes = match self.token {
                Token::Greater => Some(Sizes::Greater),
                Token::GreaterEqual => Some(Sizes::GreaterEqual),
                Token::Less => Some(Sizes::Less),
                Token::LessEqual => Some(Sizes::LessEqual),
                _ => None,
            };
            if let Some(sizes) = sizes {
                self.advance()?;
                let right = self.unary()?;
                left = self.built.compare(sizes, left, right, self.at)?;
                continue;
            }
            let not = self.took(Token::Not)?;
            left = match self.token {
                Token::Contains => self.find(Find::Contains, left, not)?,
                Token::StartsWith => self.find(Find::Starts, left, not)?,
                Token::EndsWith => self.find(Find::Ends, left, not)?,
                Token::Between => self.between(left, not)?,
                Token::In => self.is_in(left, not)?,
                _ if not => return Err(SqlError::Syntax { at: self.at, wanted: Wanted::Negated }),
                _ => return Ok(left),
            };
        }
    }

    fn find(&mut self, find: Find, left: Operand, not: bool) -> Result<Operand, SqlError> {
        self.advance()?;
        let text = self.text()?;
        self.built.find(find, left, text, not)
    }

    fn between(&mut self, value: Operand, not: bool) -> Result<Operand, SqlError> {
        self.advance()?;
        let low = self.unary()?;
        self.expect(Token::And, Wanted::And)?;
        let high = self.unary()?;
        self.built.between(value, low, high, not, self.at)
    }

    fn is_in(&mut self, left: Operand, not: bool) -> Result<Operand, SqlError> {
        self.advance()?;
        self.expect(Token::Open, Wanted::Open)?;
        let mut list = self.built.list();
        loop {
            let text = self.text()?;
            self.built.add(&mut list, text);
            if !self.took(Token::Comma)? {
                break;
            }
        }
        self.expect(Token::Close, Wanted::Close)?;
        self.built.is_in(left, list, not, self.at)
    }

    fn text(&mut self) -> Result<&'a str, SqlError> {
        let Token::Text(text) = self.token else {
            return Err(SqlError::Syntax { at: self.at, wanted: Wanted::Text });
        };
        self.advance()?;
        Ok(text)
    }

    /// One level further in, where the parser calls itself.
    fn deeper(&mut self, inside: impl FnOnce(&mut Self) -> Result<Operand, SqlError>) -> Result<Operand, SqlError> {
        if self.depth >= DEPTH_MAX {
            return Err(SqlError::TooDeep);
        }
        self.depth += 1;
        let found = inside(self);
        self.depth -= 1;
        found
    }

    fn unary(&mut self) -> Result<Operand, SqlError> {
        if self.took(Token::Plus)? {
            return self.deeper(Self::unary);
        }
        if self.took(Token::Minus)? {
            let operand = self.deeper(Self::unary)?;
            return self.built.minus(operand);
        }
        if self.took(Token::Not)? {
            let operand = self.deeper(Self::unary)?;
            let condition = self.built.boolean(operand, self.at)?;
            return self.built.not(condition);
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Operand, SqlError> {
        let at = self.at;
        if self.took(Token::Open)? {
            let inside = self.deeper(Self::or)?;
            self.expect(Token::Close, Wanted::Close)?;
            return Ok(inside);
        }
        let operand = match self.token {
            Token::Text(text) => self.built.text(text)?,
            Token::Integer(digits) => self.built.integer(digits, at)?,
            Token::Decimal(digits) => self.built.decimal(digits, at)?,
            Token::True => self.built.literal(Kind::Boolean, Some(true))?,
            Token::False => self.built.literal(Kind::Boolean, Some(false))?,
            Token::Null => self.built.literal(Kind::Null, None)?,
            Token::Name(name) => self.built.property(name)?,
            _ => return Err(SqlError::Syntax { at, wanted: Wanted::Operand }),
        };
        self.advance()?;
        Ok(operand)
    }
}
