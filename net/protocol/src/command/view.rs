//! A borrowed view of a received header, of either codec, made in one pass and without allocation.
//!
//! The pass checks the whole header, so that what the view hands out later needs no error path.

use super::{Command, FLAG_ONEWAY, FLAG_RESPONSE, HeaderError};
use crate::code::Language;
use crate::frame::Serialize;
use crate::scan::{Malformed, Scalar, Scanner};
use crate::value::{Span, Value};

/// The most ext fields a header may have. The longest known header has some thirty; the rest is garbage.
pub const EXT_FIELDS_MAX: usize = 512;

/// Room for the ext fields of a send with ACL, namespace and trace fields; more spill to the heap.
const EXT_INLINE: usize = 24;

/// A header as received. Holds positions, not copies.
#[derive(Debug)]
pub struct HeaderView<'a> {
    pub code: i32,
    pub flag: i32,
    pub opaque: i32,
    pub version: i32,
    pub language: Language,
    pub remark: Option<Value<'a>>,
    header: &'a [u8],
    /// The whole header of the JSON codec; empty for the binary one, whose numbers are not text.
    text: &'a str,
    ext_present: bool,
    ext: Fields,
}

/// One ext field: where its key and its value lie in the header.
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    key: Span,
    value: Span,
}

/// The ext fields in the order received: as many as a usual header has in place, the rest on the heap.
#[derive(Debug)]
struct Fields {
    inline: [Field; EXT_INLINE],
    inline_len: usize,
    spilled: Vec<Field>,
}

impl Fields {
    fn new() -> Fields {
        Fields { inline: [Field::default(); EXT_INLINE], inline_len: 0, spilled: Vec::new() }
    }

    #[inline]
    fn push(&mut self, field: Field) -> Result<(), HeaderError> {
        match self.inline.get_mut(self.inline_len) {
            Some(place) => {
                *place = field;
                self.inline_len += 1;
                Ok(())
            }
            None => self.spill(field),
        }
    }

    #[cold]
    fn spill(&mut self, field: Field) -> Result<(), HeaderError> {
        if self.inline_len + self.spilled.len() == EXT_FIELDS_MAX {
            return Err(HeaderError::TooManyExtFields);
        }
        self.spilled.push(field);
        Ok(())
    }

    #[inline]
    fn iter(&self) -> impl DoubleEndedIterator<Item = &Field> {
        self.inline[..self.inline_len].iter().chain(&self.spilled)
    }

    fn clear(&mut self) {
        self.inline_len = 0;
        self.spilled.clear();
    }
}

impl From<Malformed> for HeaderError {
    fn from(Malformed(at): Malformed) -> HeaderError {
        HeaderError::Malformed(at)
    }
}

impl<'a> HeaderView<'a> {
    /// Reads a header of the given codec.
    pub fn parse(serialize: Serialize, header: &'a [u8]) -> Result<HeaderView<'a>, HeaderError> {
        match serialize {
            Serialize::Json => HeaderView::parse_json(header),
            Serialize::RocketMq => HeaderView::parse_binary(header),
        }
    }

    pub const fn is_response(&self) -> bool {
        self.flag & FLAG_RESPONSE != 0
    }

    pub const fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// Whether ext fields came at all. A typed header of a command without them is all defaults, as in RocketMQ.
    pub const fn has_ext(&self) -> bool {
        self.ext_present
    }

    /// The ext fields in the order received. A key that holds JSON escapes is given as it stands.
    pub fn ext(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> + '_ {
        self.fields().map(|(key, value, _)| (key, value))
    }

    /// The ext fields with the place of each value.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'a str, Value<'a>, Span)> + '_ {
        self.ext.iter().map(|field| (self.slice(field.key), self.value(field.value), field.value))
    }

    /// The value of an ext field; of fields with the same name the last counts.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        let field = self.ext.iter().rev().find(|field| self.slice(field.key) == key)?;
        Some(self.value(field.value))
    }

    /// A copy that owns its parts, escapes undone.
    pub fn to_command(&self) -> Command {
        Command {
            code: self.code,
            flag: self.flag,
            opaque: self.opaque,
            version: self.version,
            language: self.language,
            remark: self.remark.map(|remark| remark.to_string()),
            ext: self
                .ext
                .iter()
                .map(|field| (self.value(field.key).to_string(), self.value(field.value).to_string()))
                .collect(),
        }
    }

    #[inline]
    fn slice(&self, span: Span) -> &'a str {
        let range = span.start()..span.start() + span.len();
        if self.text.is_empty() {
            let bytes = self.header.get(range).unwrap_or_default();
            return std::str::from_utf8(bytes).unwrap_or_default();
        }
        self.text.get(range).unwrap_or_default()
    }

    #[inline]
    fn value(&self, span: Span) -> Value<'a> {
        Value::from_scan(self.slice(span), span.shrink())
    }

    fn empty(header: &'a [u8], text: &'a str) -> HeaderView<'a> {
        HeaderView {
            code: 0,
            flag: 0,
            opaque: 0,
            version: 0,
            language: Language::OTHER,
            remark: None,
            header,
            text,
            ext_present: false,
            ext: Fields::new(),
        }
    }

    fn parse_json(header: &'a [u8]) -> Result<HeaderView<'a>, HeaderError> {
        let text = std::str::from_utf8(header).map_err(|_| HeaderError::Utf8)?;
        let mut view = HeaderView::empty(header, text);
        let mut scanner = Scanner::new(text);
        let mut code = None;
        scanner.expect(b'{')?;
        if !scanner.closes(b'}')? {
            loop {
                let key = scanner.string()?;
                scanner.expect(b':')?;
                match key.raw() {
                    "code" => code = Some(integer(&mut scanner, "code")?),
                    "flag" => view.flag = integer(&mut scanner, "flag")?,
                    "opaque" => view.opaque = integer(&mut scanner, "opaque")?,
                    "version" => view.version = integer(&mut scanner, "version")?,
                    "language" => view.language = language(&mut scanner)?,
                    "remark" => view.remark = text_or_none(&mut scanner)?,
                    "extFields" => view.parse_json_ext(&mut scanner)?,
                    _ => scanner.skip(0)?,
                }
                if !scanner.more(b'}')? {
                    break;
                }
            }
        }
        if !scanner.at_end() {
            return Err(HeaderError::Malformed(text.len()));
        }
        view.code = code.ok_or(HeaderError::Member("code"))?;
        Ok(view)
    }

    fn parse_json_ext(&mut self, scanner: &mut Scanner<'a>) -> Result<(), HeaderError> {
        if scanner.peek()? != b'{' {
            return match scanner.scalar()? {
                Scalar::Nothing => Ok(()),
                Scalar::Text(_) => Err(HeaderError::Member("extFields")),
            };
        }
        scanner.expect(b'{')?;
        self.ext_present = true;
        self.ext.clear();
        if scanner.closes(b'}')? {
            return Ok(());
        }
        loop {
            let key = scanner.string_span()?;
            scanner.expect(b':')?;
            if scanner.peek()? == b'"' {
                let value = scanner.string_span()?;
                self.ext.push(Field { key, value })?;
            } else if let Scalar::Text(value) = scanner.scalar()? {
                let value = Span::new(scanner.last_start() as u32, value.raw().len() as u32, 0);
                self.ext.push(Field { key, value })?;
            }
            if !scanner.more(b'}')? {
                return Ok(());
            }
        }
    }

    fn parse_binary(header: &'a [u8]) -> Result<HeaderView<'a>, HeaderError> {
        let mut reader = Reader { bytes: header, at: 0 };
        let mut view = HeaderView::empty(header, "");
        view.code = i32::from(i16::from_be_bytes(reader.array()?));
        let [language] = reader.array()?;
        view.language = Language(i32::from(language));
        view.version = i32::from(i16::from_be_bytes(reader.array()?));
        view.opaque = i32::from_be_bytes(reader.array()?);
        view.flag = i32::from_be_bytes(reader.array()?);
        let remark_len = reader.length()?;
        let remark = reader.text(remark_len)?;
        view.remark = (!remark.is_empty()).then(|| Value::plain(remark));
        let ext_len = reader.length()?;
        if ext_len != header.len() - reader.at {
            return Err(HeaderError::Truncated);
        }
        view.ext_present = ext_len > 0;
        while reader.at < header.len() {
            let key_len = usize::try_from(i16::from_be_bytes(reader.array()?)).map_err(|_| HeaderError::Truncated)?;
            let key = Span::new(reader.at as u32, key_len as u32, 0);
            reader.text(key_len)?;
            let value_len = reader.length()?;
            let span = Span::new(reader.at as u32, value_len as u32, 0);
            reader.text(value_len)?;
            // RocketMQ reads an empty string of this codec as null.
            if value_len > 0 {
                view.ext.push(Field { key, value: span })?;
            }
        }
        Ok(view)
    }
}

fn integer(scanner: &mut Scanner<'_>, member: &'static str) -> Result<i32, HeaderError> {
    if let Some(value) = scanner.short_integer()? {
        return Ok(value);
    }
    match scanner.scalar()? {
        Scalar::Text(value) => value.parse_i32().ok_or(HeaderError::Member(member)),
        Scalar::Nothing => Err(HeaderError::Member(member)),
    }
}

/// The language by name, or by number as some peers write it.
fn language(scanner: &mut Scanner<'_>) -> Result<Language, HeaderError> {
    Ok(match scanner.scalar()? {
        Scalar::Text(value) => value.parse_i32().map_or_else(|| Language::from_name(value.raw()), Language),
        Scalar::Nothing => Language::OTHER,
    })
}

fn text_or_none<'a>(scanner: &mut Scanner<'a>) -> Result<Option<Value<'a>>, HeaderError> {
    Ok(match scanner.scalar()? {
        Scalar::Text(value) => Some(value),
        Scalar::Nothing => None,
    })
}

/// Walks over a binary header, checking each length against what is left.
#[derive(Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], HeaderError> {
        let taken = self.bytes[self.at..].get(..len).ok_or(HeaderError::Truncated)?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        self.take(N)?.try_into().map_err(|_| HeaderError::Truncated)
    }

    fn length(&mut self) -> Result<usize, HeaderError> {
        usize::try_from(i32::from_be_bytes(self.array()?)).map_err(|_| HeaderError::Truncated)
    }

    fn text(&mut self, len: usize) -> Result<&'a str, HeaderError> {
        std::str::from_utf8(self.take(len)?).map_err(|_| HeaderError::Utf8)
    }
}
