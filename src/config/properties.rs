//! Reads Java's `.properties` text: comments, separators, continued lines, escapes; each key with its line number.
//!
//! It follows `java.util.Properties`, and repairs what blogs and word processors do to such a file: blanks that are
//! no blanks, full-width separators, blanks at the end of a value. It does not know a single key.

/// A configuration file is a page or two; more than this is another kind of file.
pub(crate) const BYTES_MAX: usize = 1 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Without blanks at either end: RocketMQ loses `true ` to them.
    pub(crate) value: String,
    /// Line of the key, counted from 1.
    pub(crate) line: u32,
    /// How many lines it takes: more than one where they are continued.
    pub(crate) lines: u32,
    /// Whether `=` or `:` stood between key and value; prose has neither.
    pub(crate) separated: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) entries: Vec<Entry>,
    pub(crate) repairs: Vec<Repair>,
}

/// Something that was read differently from how Java reads it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Repair {
    #[error("the file is not UTF-8; it was read as ISO-8859-1")]
    Latin1,
    #[error("line {line}: blanks that Java does not take for blanks (a copy from a web page?) were read as blanks")]
    Blanks { line: u32 },
    #[error("line {line}: a full-width `{separator}` was read as the separator of key and value")]
    Separator { line: u32, separator: char },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PropertiesError {
    #[error("it has {bytes} bytes, which is no configuration file (at most {BYTES_MAX})")]
    TooLong { bytes: usize },
    #[error("it is UTF-16; save it as UTF-8")]
    Utf16,
    #[error("line {line}: `\\u` takes four hexadecimal digits")]
    Escape { line: u32 },
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Document, PropertiesError> {
    if bytes.len() > BYTES_MAX {
        return Err(PropertiesError::TooLong { bytes: bytes.len() });
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(PropertiesError::Utf16);
    }
    let mut document = Document { entries: Vec::new(), repairs: Vec::new() };
    let text = decode(bytes, &mut document.repairs);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut lines = natural_lines(text).zip(1u32..);
    while let Some((first, line)) = lines.next() {
        if is_comment(first) {
            continue;
        }
        let first = plain_blanks(first, line, &mut document.repairs);
        let first = first.trim_start_matches(is_blank);
        if first.is_empty() {
            continue;
        }
        let mut logical = first.to_owned();
        let mut taken = 1;
        while is_continued(&logical) {
            logical.pop();
            let Some((next, line)) = lines.next() else { break };
            taken += 1;
            let next = plain_blanks(next, line, &mut document.repairs);
            logical.push_str(next.trim_start_matches(is_blank));
        }
        let entry = split(&logical, line, &mut document.repairs)?;
        document.entries.push(Entry { lines: taken, ..entry });
    }
    Ok(document)
}

/// The text with `key=value` in it: in the place of the last line that says exactly this key, or as a new last line,
/// which counts more than one that is misspelt. `None` if the text cannot be edited so that it says this.
pub(crate) fn with_entry(bytes: &[u8], key: &str, value: &str) -> Option<Vec<u8>> {
    let says = |entry: &&Entry| entry.key == key;
    let document = parse(bytes).ok()?;
    let line = document.entries.iter().rev().find(says).filter(|entry| entry.lines == 1).map(|entry| entry.line);
    let new = format!("{key}={value}");
    let edited = match line {
        Some(line) => with_line(bytes, line, &new),
        None => {
            let end = if bytes.is_empty() || bytes.ends_with(b"\n") { "" } else { "\n" };
            [bytes, end.as_bytes(), new.as_bytes(), b"\n"].concat()
        }
    };
    let said = parse(&edited).ok()?;
    said.entries.iter().rev().find(says).is_some_and(|entry| entry.value == value).then_some(edited)
}

fn with_line(bytes: &[u8], line: u32, new: &str) -> Vec<u8> {
    let mut edited = Vec::with_capacity(bytes.len() + new.len());
    for (old, number) in bytes.split_inclusive(|byte| *byte == b'\n').zip(1u32..) {
        if number == line {
            let end = old.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
            edited.extend_from_slice(new.as_bytes());
            edited.extend_from_slice(&old[end..]);
        } else {
            edited.extend_from_slice(old);
        }
    }
    edited
}

fn decode(bytes: &[u8], repairs: &mut Vec<Repair>) -> String {
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            repairs.push(Repair::Latin1);
            bytes.iter().copied().map(char::from).collect()
        }
    }
}

/// Lines end at `\n`, `\r` or both.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\u{c}')
}

/// No-break, ideographic and zero-width blanks, which come with text that was copied from a page.
fn is_odd_blank(letter: char) -> bool {
    matches!(letter, '\u{a0}' | '\u{3000}' | '\u{200b}' | '\u{feff}')
}

fn is_comment(line: &str) -> bool {
    line.trim_start_matches(|letter| is_blank(letter) || is_odd_blank(letter)).starts_with(['#', '!'])
}

/// Turns odd blanks into plain ones.
fn plain_blanks(line: &str, number: u32, repairs: &mut Vec<Repair>) -> String {
    if line.contains(is_odd_blank) && line.contains(|letter| !is_blank(letter) && !is_odd_blank(letter)) {
        repairs.push(Repair::Blanks { line: number });
    }
    line.chars().map(|letter| if is_odd_blank(letter) { ' ' } else { letter }).collect()
}

/// An odd number of backslashes at the end continues the line; an even number is that many escaped ones.
fn is_continued(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(logical: &str, line: u32, repairs: &mut Vec<Repair>) -> Result<Entry, PropertiesError> {
    let mut escaped = false;
    let key_end = logical
        .char_indices()
        .find(|(_, letter)| {
            let ends = !escaped && (is_blank(*letter) || is_separator(*letter));
            escaped = !escaped && *letter == '\\';
            ends
        })
        .map_or(logical.len(), |(at, _)| at);
    let (key, rest) = logical.split_at(key_end);
    let rest = rest.trim_start_matches(is_blank);
    let separator = rest.chars().next().filter(|letter| is_separator(*letter));
    if let Some(separator @ ('：' | '＝')) = separator {
        repairs.push(Repair::Separator { line, separator });
    }
    let value = separator.map_or(rest, |separator| &rest[separator.len_utf8()..]);
    Ok(Entry {
        key: unescape(key, line)?,
        value: unescape(value, line)?.trim().to_owned(),
        line,
        lines: 1,
        separated: separator.is_some(),
    })
}

fn is_separator(letter: char) -> bool {
    matches!(letter, '=' | ':' | '：' | '＝')
}

fn unescape(text: &str, line: u32) -> Result<String, PropertiesError> {
    if !text.contains('\\') {
        return Ok(text.to_owned());
    }
    // An escaped pair of surrogates is two escapes, so they have to meet as UTF-16 units.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let meant = match letter {
            '\\' => match letters.next() {
                Some('u') => {
                    units.push(unicode_escape(&mut letters).ok_or(PropertiesError::Escape { line })?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => break,
            },
            plain => plain,
        };
        units.extend_from_slice(meant.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

fn unicode_escape(letters: &mut std::str::Chars<'_>) -> Option<u16> {
    let mut unit = 0u32;
    for _ in 0..4 {
        unit = unit << 4 | letters.next()?.to_digit(16)?;
    }
    u16::try_from(unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String, u32)> {
        let document = parse(text.as_bytes()).unwrap();
        document.entries.into_iter().map(|entry| (entry.key, entry.value, entry.line)).collect()
    }

    fn check(text: &str, expect: &[(&str, &str, u32)]) {
        let expect: Vec<_> = expect.iter().map(|(k, v, l)| ((*k).to_owned(), (*v).to_owned(), *l)).collect();
        assert_eq!(pairs(text), expect, "{text:?}");
    }

    #[test]
    fn separators_and_comments() {
        check(
            "a=1\nb:2\nc 3\nd = 4\n\te\t:\t5\n",
            &[("a", "1", 1), ("b", "2", 2), ("c", "3", 3), ("d", "4", 4), ("e", "5", 5)],
        );
        check("# a=1\n! b=2\n\n  # c=3\nd=4 # not a comment here\n", &[("d", "4 # not a comment here", 5)]);
        check("a\nb=\n=c\n", &[("a", "", 1), ("b", "", 2), ("", "c", 3)]);
        check("a==1\nb= =2", &[("a", "=1", 1), ("b", "=2", 2)]);
    }

    #[test]
    fn line_ends() {
        check("a=1\r\nb=2\rc=3\n\nd=4", &[("a", "1", 1), ("b", "2", 2), ("c", "3", 3), ("d", "4", 5)]);
    }

    #[test]
    fn continued_lines_keep_the_line_of_their_key() {
        check("a=1,\\\n   2,\\\n\t3\nb=4\n", &[("a", "1,2,3", 1), ("b", "4", 4)]);
        check("a=1\\\\\nb=2\n", &[("a", "1\\", 1), ("b", "2", 2)]);
        check("a=1\\", &[("a", "1", 1)]);
        check("# a=1\\\nb=2\n", &[("b", "2", 2)]);
        check("a=1,\\\n  #2\n", &[("a", "1,#2", 1)]);
    }

    #[test]
    fn escapes() {
        check("a\\=b=c\\:d", &[("a=b", "c:d", 1)]);
        check("a=x\\ty\\u4e2d\\ud83d\\ude00", &[("a", "x\ty中😀", 1)]);
        check("a=D:\\\\store", &[("a", "D:\\store", 1)]);
        assert_eq!(parse(b"\na=\\u12"), Err(PropertiesError::Escape { line: 2 }));
        assert_eq!(parse(b"a=\\u+123"), Err(PropertiesError::Escape { line: 1 }));
    }

    #[test]
    fn values_are_trimmed() {
        check("fileReservedTime = 168 \nb=true\t\n", &[("fileReservedTime", "168", 1), ("b", "true", 2)]);
    }

    #[test]
    fn what_copies_from_web_pages_bring() {
        let document = parse("\u{feff}listenPort：10911\n\u{a0}brokerId\u{3000}=\u{a0}0\n".as_bytes()).unwrap();
        let read: Vec<_> = document.entries.iter().map(|e| (e.key.as_str(), e.value.as_str())).collect();
        assert_eq!(read, [("listenPort", "10911"), ("brokerId", "0")]);
        assert_eq!(document.repairs, [Repair::Separator { line: 1, separator: '：' }, Repair::Blanks { line: 2 }]);
        assert_eq!(parse("\u{a0}# 中文\n\u{3000}\n".as_bytes()).unwrap().repairs, []);
    }

    #[test]
    fn other_encodings() {
        let document = parse(b"a=caf\xe9\n").unwrap();
        assert_eq!((document.entries[0].value.as_str(), &document.repairs[..]), ("café", &[Repair::Latin1][..]));
        assert_eq!(pairs("a=端口\n")[0].1, "端口");
        assert_eq!(parse(b"\xff\xfea\0"), Err(PropertiesError::Utf16));
        assert_eq!(parse(&vec![b'a'; BYTES_MAX + 1]), Err(PropertiesError::TooLong { bytes: BYTES_MAX + 1 }));
    }

    #[test]
    fn one_entry_is_changed_and_the_rest_stays() {
        let edited = |text: &str| with_entry(text.as_bytes(), "k", "2").map(|bytes| String::from_utf8(bytes).unwrap());
        for (text, expected) in [
            ("", "k=2\n"),
            ("# a\r\nk = 1\r\nl=1\r\n", "# a\r\nk=2\r\nl=1\r\n"),
            ("k=1\nk=3", "k=1\nk=2"),
            ("l=1", "l=1\nk=2\n"),
            ("K=1\n#k=1\n", "K=1\n#k=1\nk=2\n"),
            ("k=1\\\n2\nl=1\n", "k=1\\\n2\nl=1\nk=2\n"),
        ] {
            assert_eq!(edited(text).as_deref(), Some(expected), "{text:?}");
        }
        // Lines that end as on old Macs, and a last line that is continued.
        assert_eq!(edited("a=1\rk=1\rb=1\n"), None);
        assert_eq!(edited("a=1\\"), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 7u64;
        let alphabet = b"a=: \\u0fd8\n\r#!\xe9\xc2\xa0\t\xef\xbc\x9a";
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..24 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                bytes.push(alphabet[(seed >> 33) as usize % alphabet.len()]);
            }
            if let Ok(document) = parse(&bytes) {
                assert!(document.entries.iter().all(|entry| entry.line >= 1 && entry.value.trim() == entry.value));
            }
        }
    }
}
