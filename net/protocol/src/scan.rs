//! The scanner under the JSON header reader: strings, scalars, and skipping what nobody asked for.
//!
//! It works on text whose UTF-8 was checked, returns positions instead of copies, and recurses a bounded depth only.
//! It is not a general JSON reader; bodies go through [`crate::json`].

use crate::value::{Span, Value};

/// How deep values that are skipped may nest.
const DEPTH_MAX: u32 = 32;

/// The text is not what the scanner was told to expect; the position is where it noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) usize);

#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Where the text of the last string or scalar begins.
    start: usize,
}

/// A JSON scalar of a header, as text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'a> {
    /// A string, number or boolean; numbers and booleans keep their spelling.
    Text(Value<'a>),
    /// A null, or an object or array where a scalar belongs.
    Nothing,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0, start: 0 }
    }

    /// Where the text of the last string or scalar begins.
    #[inline]
    pub(crate) fn last_start(&self) -> usize {
        self.start
    }

    /// Skips blanks and looks at the next byte.
    #[inline]
    pub(crate) fn peek(&mut self) -> Result<u8, Malformed> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(&byte) => return Ok(byte),
                None => return Err(Malformed(self.at)),
            }
        }
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek()? == byte {
            self.at += 1;
            Ok(())
        } else {
            Err(Malformed(self.at))
        }
    }

    /// Whether nothing but blanks is left.
    pub(crate) fn at_end(&mut self) -> bool {
        self.peek().is_err()
    }

    /// Whether an object or array goes on: eats a comma (true) or the closing byte (false).
    #[inline]
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, Malformed> {
        let byte = self.peek()?;
        if byte != b',' && byte != close {
            return Err(Malformed(self.at));
        }
        self.at += 1;
        Ok(byte == b',')
    }

    /// Whether a container that was just opened closes at once.
    pub(crate) fn closes(&mut self, close: u8) -> Result<bool, Malformed> {
        let closes = self.peek()? == close;
        self.at += usize::from(closes);
        Ok(closes)
    }

    /// A quoted string, its escapes checked and counted but not undone.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<Value<'a>, Malformed> {
        let span = self.string_span()?;
        let raw = self.text.get(span.start()..span.start() + span.len()).ok_or(Malformed(span.start()))?;
        Ok(Value::from_scan(raw, span.shrink()))
    }

    /// As [`string`](Self::string), but only where it lies.
    #[inline(always)]
    pub(crate) fn string_span(&mut self) -> Result<Span, Malformed> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut shrink = 0;
        let mut at = start;
        loop {
            at = find_quote_or_backslash(bytes, at).ok_or(Malformed(start))?;
            if bytes[at] == b'"' {
                break;
            }
            let escape = Escape::read(&bytes[at..]).ok_or(Malformed(at))?;
            shrink += (escape.consumed - escape.produced) as u32;
            at += escape.consumed;
        }
        self.at = at + 1;
        self.start = start;
        Ok(Span::new(start as u32, (at - start) as u32, shrink))
    }

    /// A plain integer of up to nine digits that a delimiter follows; anything else is left for [`scalar`](Self::scalar).
    #[inline]
    pub(crate) fn short_integer(&mut self) -> Result<Option<i32>, Malformed> {
        self.peek()?;
        let rest = &self.text.as_bytes()[self.at..];
        let negative = rest[0] == b'-';
        let digits = &rest[usize::from(negative)..];
        let len = digits.iter().take(10).take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&len) || !matches!(digits.get(len), Some(b',' | b'}' | b' ')) {
            return Ok(None);
        }
        let value = digits[..len].iter().fold(0, |value, digit| value * 10 + i32::from(digit - b'0'));
        self.at += len + usize::from(negative);
        Ok(Some(if negative { -value } else { value }))
    }

    /// A scalar as text, or the skipping of anything else.
    #[inline]
    pub(crate) fn scalar(&mut self) -> Result<Scalar<'a>, Malformed> {
        match self.peek()? {
            b'"' => self.string().map(Scalar::Text),
            b'{' | b'[' => self.skip(0).map(|()| Scalar::Nothing),
            _ => self.bare(),
        }
    }

    /// A number, `true`, `false` or `null`: whatever stands up to the next delimiter, then judged.
    fn bare(&mut self) -> Result<Scalar<'a>, Malformed> {
        let start = self.at;
        let len = self.text.as_bytes()[start..]
            .iter()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.'))
            .unwrap_or(self.text.len() - start);
        let word = self.text.get(start..start + len).ok_or(Malformed(start))?;
        self.at = start + len;
        self.start = start;
        match word {
            "null" => Ok(Scalar::Nothing),
            "true" | "false" => Ok(Scalar::Text(Value::plain(word))),
            _ if is_number(word.as_bytes()) => Ok(Scalar::Text(Value::plain(word))),
            _ => Err(Malformed(start)),
        }
    }

    /// Walks over one value of any kind.
    pub(crate) fn skip(&mut self, depth: u32) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed(self.at));
        }
        match self.peek()? {
            b'"' => self.string().map(|_| ()),
            open @ (b'{' | b'[') => {
                let close = if open == b'{' { b'}' } else { b']' };
                self.at += 1;
                if self.closes(close)? {
                    return Ok(());
                }
                loop {
                    if open == b'{' {
                        self.string()?;
                        self.expect(b':')?;
                    }
                    self.skip(depth + 1)?;
                    if !self.more(close)? {
                        return Ok(());
                    }
                }
            }
            _ => self.bare().map(|_| ()),
        }
    }
}

/// JSON's number grammar, leading zeros tolerated.
fn is_number(word: &[u8]) -> bool {
    let unsigned = word.strip_prefix(b"-").unwrap_or(word);
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(unsigned);
    let mut rest = &unsigned[whole..];
    if whole == 0 {
        return false;
    }
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = match exponent {
            [b'+' | b'-', unsigned @ ..] => unsigned,
            _ => exponent,
        };
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// The high bit of each byte of `word` that equals `byte`, exact up to and including the lowest hit.
#[inline]
const fn hits(word: u64, byte: u8) -> u64 {
    let zeroed = word ^ (ONES * byte as u64);
    zeroed.wrapping_sub(ONES) & !zeroed & HIGHS
}

/// The first quote or backslash at or after `from`, eight bytes at a time.
#[inline]
pub(crate) fn find_quote_or_backslash(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let found = hits(word, b'"') | hits(word, b'\\');
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let tail = bytes.get(at..)?;
    tail.iter().position(|byte| matches!(byte, b'"' | b'\\')).map(|found| at + found)
}

/// One escape sequence: what it stands for, and how many bytes it takes before and after it is undone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escape {
    pub(crate) char: char,
    pub(crate) consumed: usize,
    pub(crate) produced: usize,
}

impl Escape {
    /// Reads the escape that `bytes` begins with (its first byte is the backslash).
    ///
    /// A lone surrogate becomes a question mark, which is what Java writes for it in UTF-8.
    #[inline]
    pub(crate) fn read(bytes: &[u8]) -> Option<Escape> {
        let char = match bytes.get(1)? {
            b'u' => return Escape::unicode(bytes),
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'\'' => '\'',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            _ => return None,
        };
        Some(Escape { char, consumed: 2, produced: 1 })
    }

    #[inline]
    fn unicode(bytes: &[u8]) -> Option<Escape> {
        let first = hex4(bytes.get(2..6)?)?;
        if let Some(char) = char::from_u32(first) {
            return Some(Escape { char, consumed: 6, produced: char.len_utf8() });
        }
        let second = match bytes.get(6..12) {
            Some([b'\\', b'u', digits @ ..]) if first < 0xDC00 => hex4(digits),
            _ => None,
        };
        let pair = second.filter(|low| (0xDC00..0xE000).contains(low));
        let joined = pair.and_then(|low| char::from_u32(0x10000 + ((first - 0xD800) << 10) + (low - 0xDC00)));
        Some(match joined {
            Some(char) => Escape { char, consumed: 12, produced: 4 },
            None => Escape { char: '?', consumed: 6, produced: 1 },
        })
    }
}

/// The value of each hex digit; 0xFF for every other byte.
const HEX_VALUES: [u8; 256] = {
    let mut values = [0xFF; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        values[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

#[inline]
fn hex4(digits: &[u8]) -> Option<u32> {
    let [a, b, c, d] = *<&[u8; 4]>::try_from(digits).ok()?;
    let [a, b, c, d] = [a, b, c, d].map(|digit| u32::from(HEX_VALUES[usize::from(digit)]));
    if (a | b | c | d) > 15 {
        return None;
    }
    Some(a << 12 | b << 8 | c << 4 | d)
}

/// The first byte at or after `from` that JSON escapes: a quote, a backslash or a control character.
#[inline]
pub(crate) fn find_escapable(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found = hits(word, b'"') | hits(word, b'\\') | control;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let tail = bytes.get(at..)?;
    tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).map(|found| at + found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_json_numbers() {
        for good in ["0", "-1", "12.5", "1e9", "1.5E-3", "007"] {
            assert!(is_number(good.as_bytes()), "{good}");
        }
        for bad in ["", "-", "1.", ".5", "1e", "1e+", "0x10", "1-2", "NaN", "+1"] {
            assert!(!is_number(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn skipping_is_bounded_in_depth() {
        let shallow = format!("{}{}", "[".repeat(20), "]".repeat(20));
        assert!(Scanner::new(&shallow).skip(0).is_ok());
        let deep = "[".repeat(100_000);
        assert!(Scanner::new(&deep).skip(0).is_err());
    }

    proptest! {
        #[test]
        fn the_wide_search_finds_what_the_narrow_one_does(bytes in prop::collection::vec(prop::sample::select(b"ab\"\\\x22\x5c\xa2\xdc\x21\x23".to_vec()), 0..60), from in 0..70usize) {
            let narrow = bytes.iter().enumerate().skip(from).find(|(_, byte)| matches!(byte, b'"' | b'\\')).map(|(at, _)| at);
            prop_assert_eq!(find_quote_or_backslash(&bytes, from), narrow);
        }

        #[test]
        fn the_wide_search_for_escapes_finds_what_the_narrow_one_does(bytes in prop::collection::vec(prop::sample::select(b"ab\"\\\x1f\x20\x00\x80\xff\xa0\x21".to_vec()), 0..60), from in 0..70usize) {
            let narrow = bytes.iter().enumerate().skip(from).find(|(_, byte)| matches!(byte, b'"' | b'\\' | 0..0x20)).map(|(at, _)| at);
            prop_assert_eq!(find_escapable(&bytes, from), narrow);
        }
    }
}
