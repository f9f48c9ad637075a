//! An expression's tokens, cut as JavaCC cuts them: always the longest, and only as far as the parser asks. What stands
//! behind the token that ends an expression is never looked at.

use super::error::SqlError;

/// What a piece of the text is. Strings keep their quotes and numbers their letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Not,
    And,
    Or,
    Between,
    In,
    True,
    False,
    Null,
    Is,
    Contains,
    StartsWith,
    EndsWith,
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Open,
    Close,
    Comma,
    Plus,
    Minus,
    /// An integer, without the `L` that may end it.
    Integer(&'a str),
    Decimal(&'a str),
    /// What stands between the quotes; a quote inside is still two.
    Text(&'a str),
    Name(&'a str),
    End,
}

const KEYWORDS: [(&str, Token<'static>); 12] = [
    ("NOT", Token::Not),
    ("AND", Token::And),
    ("OR", Token::Or),
    ("BETWEEN", Token::Between),
    ("IN", Token::In),
    ("TRUE", Token::True),
    ("FALSE", Token::False),
    ("NULL", Token::Null),
    ("IS", Token::Is),
    ("CONTAINS", Token::Contains),
    ("STARTSWITH", Token::StartsWith),
    ("ENDSWITH", Token::EndsWith),
];

/// The text, and how far it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token and the byte it begins at.
    pub(super) fn next(&mut self) -> Result<(Token<'a>, usize), SqlError> {
        self.skip_blanks();
        let start = self.at;
        let rest = &self.text[start..];
        let (token, len) = match rest.as_bytes() {
            [] => (Token::End, 0),
            [b'=', ..] => (Token::Equal, 1),
            [b'<', b'>', ..] => (Token::NotEqual, 2),
            [b'<', b'=', ..] => (Token::LessEqual, 2),
            [b'<', ..] => (Token::Less, 1),
            [b'>', b'=', ..] => (Token::GreaterEqual, 2),
            [b'>', ..] => (Token::Greater, 1),
            [b'(', ..] => (Token::Open, 1),
            [b')', ..] => (Token::Close, 1),
            [b',', ..] => (Token::Comma, 1),
            [b'+', ..] => (Token::Plus, 1),
            [b'-', ..] => (Token::Minus, 1),
            [b'\'', ..] => text(rest).ok_or(SqlError::Lexical(start))?,
            [b'0'..=b'9' | b'.', ..] => number(rest).ok_or(SqlError::Lexical(start))?,
            [first, ..] if is_name(*first) => word(rest),
            _ => return Err(SqlError::Lexical(start)),
        };
        self.at = start + len;
        Ok((token, start))
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let len = match rest {
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0C, ..] => 1,
                // A comment without the end of its line is two minus signs.
                [b'-', b'-', ..] => rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(0),
                [b'/', b'*', inside @ ..] => inside.windows(2).position(|pair| pair == b"*/").map_or(0, |end| end + 4),
                _ => 0,
            };
            if len == 0 {
                return;
            }
            self.at += len;
        }
    }
}

const fn is_name(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$')
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| b.is_ascii_digit()).count()
}

fn word(rest: &str) -> (Token<'_>, usize) {
    let len = rest.bytes().take_while(|b| is_name(*b) || b.is_ascii_digit()).count();
    let word = &rest[..len];
    let keyword = KEYWORDS.iter().find(|(keyword, _)| keyword.eq_ignore_ascii_case(word));
    (keyword.map_or(Token::Name(word), |(_, token)| *token), len)
}

/// A string ends at the first quote that is not doubled. One whose last quote is doubled and never closed ends before
/// that, because its beginning is a string as well.
fn text(rest: &str) -> Option<(Token<'_>, usize)> {
    let bytes = rest.as_bytes();
    let (mut at, mut end) = (1, None);
    while let Some(quote) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\'')) {
        at += quote + 1;
        end = Some(at);
        if bytes.get(at) != Some(&b'\'') {
            break;
        }
        at += 1;
    }
    let end = end?;
    Some((Token::Text(&rest[1..end - 1]), end))
}

fn number(rest: &str) -> Option<(Token<'_>, usize)> {
    let bytes = rest.as_bytes();
    let whole = digits(bytes);
    let fraction = match bytes.get(whole) {
        Some(b'.') => 1 + digits(&bytes[whole + 1..]),
        _ => 0,
    };
    if whole == 0 && fraction == 1 {
        return None;
    }
    let mantissa = whole + fraction;
    let exponent = exponent(&bytes[mantissa..]);
    if fraction > 0 || exponent > 0 {
        let len = mantissa + exponent;
        return Some((Token::Decimal(&rest[..len]), len));
    }
    // A leading zero stands alone: what follows it is the next number.
    if bytes[0] == b'0' {
        return Some((Token::Integer(&rest[..1]), 1));
    }
    let long = matches!(bytes.get(whole), Some(b'l' | b'L'));
    Some((Token::Integer(&rest[..whole]), whole + usize::from(long)))
}

/// Bytes of the exponent that `bytes` begin with.
fn exponent(bytes: &[u8]) -> usize {
    let digits_at = match bytes {
        [b'e' | b'E', b'+' | b'-', ..] => 2,
        [b'e' | b'E', ..] => 1,
        _ => return 0,
    };
    match digits(&bytes[digits_at..]) {
        0 => 0,
        count => digits_at + count,
    }
}
