//! A value of a header as it came: borrowed text whose JSON escapes are undone only when it is copied to its place.
//!
//! [`Value`] borrows the header; [`Span`] is the same without the borrow, for typed headers that outlive the borrow of
//! the receive buffer. Neither owns bytes.

use crate::scan::{Escape, find_quote_or_backslash};

/// The text of one ext field (or the remark), possibly with JSON escapes in it.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    raw: &'a str,
    /// How many bytes undoing the escapes saves; every escape is longer than what it stands for, so zero means none.
    shrink: u32,
}

impl<'a> Value<'a> {
    /// Text without escapes: a backslash in it is a backslash.
    pub const fn plain(text: &'a str) -> Value<'a> {
        Value { raw: text, shrink: 0 }
    }

    pub(crate) const fn from_scan(raw: &'a str, shrink: u32) -> Value<'a> {
        Value { raw, shrink }
    }

    /// The bytes as they stand in the header.
    pub const fn raw(&self) -> &'a str {
        self.raw
    }

    /// Whether [`raw`](Self::raw) holds escapes.
    pub const fn escaped(&self) -> bool {
        self.shrink != 0
    }

    /// The text itself when nothing in it is escaped.
    pub const fn as_plain(&self) -> Option<&'a str> {
        if self.shrink == 0 { Some(self.raw) } else { None }
    }

    pub const fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The length of the text with its escapes undone, without undoing them.
    pub const fn len_unescaped(&self) -> usize {
        self.raw.len().saturating_sub(self.shrink as usize)
    }

    /// Whether the text, escapes undone, is `other`.
    pub fn eq_str(&self, other: &str) -> bool {
        if self.shrink == 0 {
            return self.raw == other;
        }
        if self.len_unescaped() != other.len() {
            return false;
        }
        let mut rest = other.as_bytes();
        let mut equal = true;
        self.pieces(|piece| match rest.strip_prefix(piece) {
            Some(behind) => rest = behind,
            None => equal = false,
        });
        equal && rest.is_empty()
    }

    /// The decimal number in the text, as `Integer.parseInt` reads it.
    pub fn parse_i32(&self) -> Option<i32> {
        self.as_plain()?.parse().ok()
    }

    /// The decimal number in the text, as `Long.parseLong` reads it.
    pub fn parse_i64(&self) -> Option<i64> {
        self.as_plain()?.parse().ok()
    }

    /// Whether the text is "true" in any case, as `Boolean.parseBoolean` has it: everything else is false.
    pub fn parse_bool(&self) -> bool {
        self.as_plain().is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// Appends the text, escapes undone.
    pub fn write_unescaped(&self, out: &mut Vec<u8>) {
        self.pieces(|piece| out.extend_from_slice(piece));
    }

    /// Writes the text, escapes undone, to the front of `out` and returns its length.
    ///
    /// Needs [`len_unescaped`](Self::len_unescaped) bytes; what does not fit is left out.
    pub fn unescape_into(&self, out: &mut [u8]) -> usize {
        let mut written = 0;
        self.pieces(|piece| {
            let room = &mut out[written..];
            let take = piece.len().min(room.len());
            room[..take].copy_from_slice(&piece[..take]);
            written += take;
        });
        written
    }

    /// Whether the text, escapes undone, ends with the given control character (one that JSON writes as `\u00xx`).
    pub fn ends_with_control(&self, control: u8) -> bool {
        let raw = self.raw.as_bytes();
        if raw.last() == Some(&control) || self.shrink == 0 {
            return raw.last() == Some(&control);
        }
        let Some((before, tail)) = raw.split_last_chunk::<6>() else {
            return false;
        };
        // The backslash begins an escape only if it is not itself the end of one.
        let backslashes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
        backslashes % 2 == 0
            && tail[0] == b'\\'
            && Escape::read(tail).is_some_and(|escape| escape.consumed == 6 && escape.char == char::from(control))
    }

    /// Hands out the text in order, cut at its escapes.
    #[inline]
    pub(crate) fn pieces(&self, mut each: impl FnMut(&[u8])) {
        let bytes = self.raw.as_bytes();
        if self.shrink == 0 {
            return each(bytes);
        }
        let mut from = 0;
        let mut look = 0;
        while let Some(at) = find_quote_or_backslash(bytes, look) {
            // Scanned text always parses here; a span laid over other bytes may not, and is then taken literally.
            match Escape::read(&bytes[at..]).filter(|_| bytes[at] == b'\\') {
                Some(escape) => {
                    if from < at {
                        each(&bytes[from..at]);
                    }
                    let mut buffer = [0; 4];
                    each(escape.char.encode_utf8(&mut buffer).as_bytes());
                    from = at + escape.consumed;
                    look = from;
                }
                None => look = at + 1,
            }
        }
        if from < bytes.len() {
            each(&bytes[from..]);
        }
    }
}

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut result = Ok(());
        self.pieces(|piece| {
            if result.is_ok() {
                // Pieces are cut at ASCII backslashes of valid text, so each is valid text.
                result = f.write_str(std::str::from_utf8(piece).unwrap_or_default());
            }
        });
        result
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Value<'_>) -> bool {
        match (self.as_plain(), other.as_plain()) {
            (_, Some(text)) => self.eq_str(text),
            (Some(text), None) => other.eq_str(text),
            (None, None) => self.to_string() == other.to_string(),
        }
    }
}

impl Eq for Value<'_> {}

/// Where a [`Value`] lies in the header's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
    shrink: u32,
}

impl Span {
    pub(crate) const fn new(start: u32, len: u32, shrink: u32) -> Span {
        Span { start, len, shrink }
    }

    pub const fn start(self) -> usize {
        self.start as usize
    }

    /// The bytes it takes in the header, escapes and all.
    pub const fn len(self) -> usize {
        self.len as usize
    }

    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    pub(crate) const fn shrink(self) -> u32 {
        self.shrink
    }

    /// Whether the bytes hold JSON escapes.
    pub const fn escaped(self) -> bool {
        self.shrink != 0
    }

    /// The length of the value with its escapes undone.
    pub const fn len_unescaped(self) -> usize {
        self.len.saturating_sub(self.shrink) as usize
    }

    /// The value, given the bytes of the header that it was parsed from.
    ///
    /// Other bytes give another value or an empty one, never a panic.
    pub fn get(self, header: &[u8]) -> Value<'_> {
        let range = self.start()..self.start().saturating_add(self.len());
        match header.get(range).map(std::str::from_utf8) {
            Some(Ok(raw)) => Value { raw, shrink: self.shrink },
            _ => Value::plain(""),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scan::Scanner;

    fn scan(json: &str) -> Value<'_> {
        Scanner::new(json).string().unwrap()
    }

    #[test]
    fn escapes_are_undone_as_java_would() {
        let cases = [
            (r#""plain""#, "plain"),
            (r#""A\u00011\u0002""#, "A\u{1}1\u{2}"),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#""\ud83d\ude00!""#, "😀!"),
            (r#""\ud83dx\ude00""#, "?x?"),
            (r#""é\u00e9""#, "éé"),
        ];
        for (json, text) in cases {
            let value = scan(json);
            assert_eq!(value.to_string(), text);
            assert_eq!(value.len_unescaped(), text.len());
            assert!(value.eq_str(text));
            assert!(!value.eq_str("something else"));
        }
    }

    #[test]
    fn the_last_byte_is_seen_through_escapes() {
        assert!(scan(r#""a\u0001b\u0002""#).ends_with_control(2));
        assert!(!scan(r#""a\\u0002""#).ends_with_control(2));
        assert!(!scan(r#""\u0002a""#).ends_with_control(2));
        assert!(!Value::plain("").ends_with_control(2));
    }

    #[test]
    fn booleans_and_numbers_read_as_java_reads_them() {
        assert!(Value::plain("TRUE").parse_bool());
        assert!(!Value::plain("1").parse_bool());
        assert_eq!(Value::plain("-12").parse_i32(), Some(-12));
        assert_eq!(Value::plain("+12").parse_i64(), Some(12));
        assert_eq!(Value::plain("1.0").parse_i32(), None);
        assert_eq!(Value::plain("2147483648").parse_i32(), None);
    }

    proptest! {
        #[test]
        fn every_string_comes_back(text: String) {
            let json = serde_json::to_string(&text).unwrap();
            let value = scan(&json);
            prop_assert_eq!(value.len_unescaped(), text.len());
            prop_assert_eq!(value.to_string(), text.clone());
            prop_assert!(value.eq_str(&text));
            let mut room = vec![0; text.len()];
            prop_assert_eq!(value.unescape_into(&mut room), text.len());
            prop_assert_eq!(room, text.as_bytes());
            prop_assert_eq!(value.ends_with_control(2), text.as_bytes().last() == Some(&2));
        }

        #[test]
        fn a_span_over_foreign_bytes_never_panics(start: u32, len in 0..40u32, shrink: u32, bytes in prop::collection::vec(any::<u8>(), 0..60), room in 0..50usize) {
            for start in [start, start % 64] {
                let value = Span::new(start, len, shrink).get(&bytes);
                let mut out = vec![0; room];
                prop_assert!(value.unescape_into(&mut out) <= room);
                value.to_string();
            }
        }
    }
}
