//! The lenient reader. It takes more than fastjson writes, but never guesses: what it takes has one meaning.

use super::{DEPTH_MAX, Json, JsonError, NODES_MAX};
use crate::scan::{Escape, find_quote_or_backslash};

/// Reads a body. A blank one is [`Json::Null`].
pub fn parse(body: &[u8]) -> Result<Json, JsonError> {
    let text = std::str::from_utf8(body).map_err(|_| JsonError::Utf8)?;
    let mut reader = Reader { text, at: 0, nodes: 0 };
    reader.blanks();
    if reader.at == text.len() {
        return Ok(Json::Null);
    }
    let json = reader.value(0)?;
    reader.blanks();
    if reader.at < text.len() { Err(JsonError::Malformed(reader.at)) } else { Ok(json) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(JsonError::TooMany);
        }
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            quote @ (b'"' | b'\'') => self.string(quote).map(Json::Str),
            _ => self.bare(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth == DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        let mut members = Vec::new();
        while !self.closes(b'}')? {
            let key = self.key(depth)?;
            self.expect(b':')?;
            let value = self.value(depth + 1)?;
            if value != Json::Null {
                members.push((key, value));
            }
            self.separator(b'}')?;
        }
        Ok(Json::Object(members))
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth == DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        let mut items = Vec::new();
        while !self.closes(b']')? {
            items.push(self.value(depth + 1)?);
            self.separator(b']')?;
        }
        Ok(Json::Array(items))
    }

    /// A key: quoted, bare (a number or a word), or an object or array, which is kept as its text.
    fn key(&mut self, depth: usize) -> Result<String, JsonError> {
        match self.peek()? {
            quote @ (b'"' | b'\'') => self.string(quote),
            b'{' | b'[' => {
                let start = self.at;
                self.value(depth + 1)?;
                Ok(self.text.get(start..self.at).unwrap_or_default().to_owned())
            }
            _ => self.word().map(str::to_owned),
        }
    }

    fn string(&mut self, quote: u8) -> Result<String, JsonError> {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut text = String::new();
        let mut from = start + 1;
        let mut look = from;
        loop {
            let at = match quote {
                b'"' => find_quote_or_backslash(bytes, look),
                _ => bytes[look..].iter().position(|byte| matches!(byte, b'\'' | b'\\')).map(|found| look + found),
            };
            let at = at.ok_or(JsonError::Malformed(start))?;
            text.push_str(self.text.get(from..at).ok_or(JsonError::Malformed(start))?);
            if bytes[at] == quote {
                self.at = at + 1;
                return Ok(text);
            }
            let escape = Escape::read(&bytes[at..]).ok_or(JsonError::Malformed(at))?;
            text.push(escape.char);
            from = at + escape.consumed;
            look = from;
        }
    }

    fn word(&mut self) -> Result<&str, JsonError> {
        let start = self.at;
        let ends = |byte: &u8| {
            matches!(byte, b',' | b':' | b'}' | b']' | b'{' | b'[' | b'"' | b'\'') || byte.is_ascii_whitespace()
        };
        let rest = &self.text.as_bytes()[start..];
        let len = rest.iter().position(ends).unwrap_or(rest.len());
        self.at += len;
        self.text.get(start..self.at).filter(|word| !word.is_empty()).ok_or(JsonError::Malformed(start))
    }

    fn bare(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        let word = self.word()?;
        match word {
            "null" | "undefined" => return Ok(Json::Null),
            "true" => return Ok(Json::Bool(true)),
            "false" => return Ok(Json::Bool(false)),
            _ => {}
        }
        // fastjson may mark the type of a number with a letter behind it.
        let digits = word.strip_suffix(['L', 'l']).unwrap_or(word);
        if let Ok(value) = digits.parse::<i64>() {
            return Ok(Json::Int(value));
        }
        let number = word.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.'));
        let value = word.strip_suffix(['D', 'F']).unwrap_or(word).parse::<f64>();
        match value {
            Ok(value) if number && value.is_finite() => Ok(Json::Float(value)),
            _ => Err(JsonError::Malformed(start)),
        }
    }

    fn blanks(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }

    fn peek(&mut self) -> Result<u8, JsonError> {
        self.blanks();
        self.text.as_bytes().get(self.at).copied().ok_or(JsonError::Malformed(self.at))
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek()? != byte {
            return Err(JsonError::Malformed(self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn closes(&mut self, close: u8) -> Result<bool, JsonError> {
        let closes = self.peek()? == close;
        self.at += usize::from(closes);
        Ok(closes)
    }

    /// Behind a member or item: a comma, or the closing byte, which is left for [`closes`](Self::closes).
    fn separator(&mut self, close: u8) -> Result<(), JsonError> {
        match self.peek()? {
            b',' => self.at += 1,
            byte if byte == close => {}
            _ => return Err(JsonError::Malformed(self.at)),
        }
        Ok(())
    }
}
