//! What a value may look like: from the text of a file to a typed value, and the sentence for when it is not one.
//!
//! `clean` undoes what people add to values (notes, quotes, full-width punctuation), `parse` judges the rest. Both
//! are pure; who said the value, and what is done about a fault, is the business of `load`.

use std::{borrow::Cow, net::IpAddr};

use ringmq_broker::retention::Hours;

use super::key::Kind;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Int(i64),
    Text(String),
    Ip(IpAddr),
    Addresses(Vec<String>),
    Cpus(Vec<usize>),
    Hours(Hours),
}

/// Why a text is no value of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("it is neither true nor false")]
    Bool,
    #[error("it is not a whole number")]
    Number,
    #[error("it is out of range")]
    Range,
    #[error("it is none of the choices")]
    Choice,
    #[error("it holds blanks or control characters")]
    Blanks,
    #[error("it is longer than {0} bytes")]
    Long(usize),
    #[error("it is not an IP address")]
    Ip,
    #[error("`{0}` is not host:port")]
    Address(String),
    #[error("`~` is not expanded; write the whole path")]
    Home,
    #[error("it is not a list of core numbers")]
    Cpus,
    #[error("it is neither hours from 0 to 23 with `;` between them nor `*`")]
    Hours,
    #[error("it has no value")]
    Empty,
}

/// What was changed about a text before, or a value after it was parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Change {
    #[error("the note `{0}` was taken off the value; a comment needs a line of its own")]
    Note(String),
    #[error("quotes were taken off the value")]
    Quotes,
    #[error("full-width punctuation was read as `;`, `:` or `,`")]
    FullWidth,
    #[error("`,` was read as `;` between addresses")]
    Comma,
    #[error("it was moved to the nearest bound, {0}")]
    Clamped(i64),
}

/// Takes notes, quotes and full-width punctuation off a value.
pub(crate) fn clean(kind: Kind, raw: &str) -> (String, Vec<Change>) {
    let mut changes = Vec::new();
    let mut text = Cow::Borrowed(raw);
    if !matches!(kind, Kind::Path | Kind::Text) && raw.contains(is_full_width) {
        text = Cow::Owned(raw.chars().map(half_width).collect());
        changes.push(Change::FullWidth);
    }
    if let Some(at) = note_start(&text) {
        changes.push(Change::Note(text[at..].trim().to_owned()));
        text = Cow::Owned(text[..at].trim_end().to_owned());
    }
    let quoted = ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    if let Some(inner) = quoted {
        changes.push(Change::Quotes);
        text = Cow::Owned(inner.trim().to_owned());
    }
    (text.into_owned(), changes)
}

/// A `#` starts a note only at the start or after a blank.
fn note_start(text: &str) -> Option<usize> {
    let starts = |at: usize| text[..at].chars().next_back().is_none_or(char::is_whitespace);
    text.match_indices('#').map(|(at, _)| at).find(|at| starts(*at))
}

fn is_full_width(letter: char) -> bool {
    half_width(letter) != letter
}

fn half_width(letter: char) -> char {
    match letter {
        '：' => ':',
        '；' => ';',
        '，' => ',',
        '＝' => '=',
        '“' | '”' | '＂' => '"',
        '‘' | '’' => '\'',
        '＃' => '#',
        other => other,
    }
}

pub(crate) fn parse(kind: Kind, text: &str) -> Result<(Value, Option<Change>), Fault> {
    if text.is_empty() {
        return Err(Fault::Empty);
    }
    let plain = |value| Ok((value, None));
    match kind {
        Kind::Bool => plain(Value::Bool(parse_bool(text)?)),
        Kind::Int { min, max } => {
            let number: i64 = text.parse().map_err(|_| Fault::Number)?;
            if (min..=max).contains(&number) { plain(Value::Int(number)) } else { Err(Fault::Range) }
        }
        Kind::Clamped { min, max } => Ok(clamp(text.parse().map_err(|_| Fault::Number)?, min, max)),
        Kind::Size { min, max } => {
            let bytes = parse_size(text)?;
            if (min..=max).contains(&bytes) { plain(Value::Int(bytes)) } else { Err(Fault::Range) }
        }
        Kind::Percent { min, max } => Ok(clamp(parse_percent(text)?, min, max)),
        Kind::Choice(choices) => {
            let choice = choices.iter().find(|choice| choice.eq_ignore_ascii_case(text)).ok_or(Fault::Choice)?;
            plain(Value::Text((*choice).to_owned()))
        }
        Kind::Name => word(text, 127).and_then(|word| plain(Value::Text(word))),
        Kind::Host => word(text, 253).and_then(|word| plain(Value::Text(word))),
        Kind::Ip => plain(Value::Ip(text.parse().map_err(|_| Fault::Ip)?)),
        Kind::Addresses => parse_addresses(text),
        Kind::Path if text.starts_with('~') => Err(Fault::Home),
        Kind::Path if text.len() > 4095 => Err(Fault::Long(4095)),
        Kind::Path | Kind::Text => plain(Value::Text(text.to_owned())),
        Kind::Cpus => plain(Value::Cpus(parse_cpus(text)?)),
        Kind::Hours => plain(Value::Hours(Hours::parse(text).ok_or(Fault::Hours)?)),
    }
}

/// Java takes everything but `true` for false, which turns `treu` into a decision.
fn parse_bool(text: &str) -> Result<bool, Fault> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Ok(true),
        _ if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Fault::Bool),
    }
}

fn clamp(number: i64, min: i64, max: i64) -> (Value, Option<Change>) {
    let held = number.clamp(min, max);
    (Value::Int(held), (held != number).then_some(Change::Clamped(held)))
}

fn parse_size(text: &str) -> Result<i64, Fault> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let suffixes = [('k', 10), ('m', 20), ('g', 30)];
    let scaled = suffixes.into_iter().find_map(|(suffix, shift)| Some((lower.strip_suffix(suffix)?, shift)));
    let (digits, shift) = scaled.unwrap_or((lower, 0));
    let number: i64 = digits.trim_end().parse().map_err(|_| Fault::Number)?;
    number.checked_mul(1 << shift).ok_or(Fault::Range)
}

fn parse_percent(text: &str) -> Result<i64, Fault> {
    let text = text.strip_suffix('%').map_or(text, str::trim_end);
    match text.split_once('.') {
        None => text.parse().map_err(|_| Fault::Number),
        Some((whole @ ("" | "0" | "1"), digits))
            if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            let hundredths: String = digits.chars().chain("00".chars()).take(2).collect();
            let part: i64 = hundredths.parse().map_err(|_| Fault::Number)?;
            Ok(if whole == "1" { 100 + part } else { part })
        }
        Some(_) => Err(Fault::Number),
    }
}

fn word(text: &str, bytes_max: usize) -> Result<String, Fault> {
    if text.len() > bytes_max {
        return Err(Fault::Long(bytes_max));
    }
    if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(Fault::Blanks);
    }
    Ok(text.to_owned())
}

fn parse_addresses(text: &str) -> Result<(Value, Option<Change>), Fault> {
    let addresses: Vec<String> =
        text.split([';', ',']).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    for address in &addresses {
        let fits = address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && word(host, 253).is_ok() && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if !fits {
            return Err(Fault::Address(address.clone()));
        }
    }
    if addresses.is_empty() {
        return Err(Fault::Empty);
    }
    Ok((Value::Addresses(addresses), text.contains(',').then_some(Change::Comma)))
}

/// `0-3,8`. Linux counts cores up to 8191 at most, so a range is bounded before it is spelled out.
pub(crate) fn parse_cpus(text: &str) -> Result<Vec<usize>, Fault> {
    const CPUS_MAX: usize = 8192;
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| Fault::Cpus)?;
        let last: usize = last.trim().parse().map_err(|_| Fault::Cpus)?;
        if first > last || last >= CPUS_MAX {
            return Err(Fault::Cpus);
        }
        cpus.extend(first..=last);
        if cpus.len() > CPUS_MAX {
            return Err(Fault::Cpus);
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

/// What a kind takes, as the end of the sentence "it takes …".
pub(crate) fn takes(kind: Kind) -> String {
    match kind {
        Kind::Bool => "true or false".into(),
        Kind::Int { min: i64::MIN, .. } => "a whole number".into(),
        Kind::Int { min, max: i64::MAX } => format!("a whole number from {min} on"),
        Kind::Int { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Clamped { min, max } => format!("a whole number, held between {min} and {max}"),
        Kind::Size { min, max } => format!("bytes from {min} to {max}, or with K, M, G"),
        Kind::Percent { min, max } => format!("percent, held between {min} and {max}"),
        Kind::Choice(choices) => choices.join(" or "),
        Kind::Name => "a word of at most 127 bytes".into(),
        Kind::Host => "a host name or an address".into(),
        Kind::Ip => "an IP address".into(),
        Kind::Addresses => "host:port;host:port".into(),
        Kind::Path => "a path".into(),
        Kind::Cpus => "a list of cores such as 0-3,8".into(),
        Kind::Hours => "hours from 0 to 23 such as 04;16, or * for all".into(),
        Kind::Text => "text".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(kind: Kind, text: &str) -> Result<i64, Fault> {
        match parse(kind, text)? {
            (Value::Int(number), _) => Ok(number),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn notes_quotes_and_punctuation_come_off() {
        let check = |kind, raw: &str, expect: &str, changes: &[Change]| {
            assert_eq!(clean(kind, raw), (expect.to_owned(), changes.to_vec()), "{raw}");
        };
        check(Kind::Host, "10.0.0.1 #change it", "10.0.0.1", &[Change::Note("#change it".into())]);
        check(Kind::Bool, "true\t# yes # no", "true", &[Change::Note("# yes # no".into())]);
        check(Kind::Host, "# set me", "", &[Change::Note("# set me".into())]);
        check(Kind::Name, "broker#1", "broker#1", &[]);
        check(Kind::Path, "/data/a", "/data/a", &[]);
        check(Kind::Name, "\"broker-a\"", "broker-a", &[Change::Quotes]);
        check(Kind::Name, "“broker-a”", "broker-a", &[Change::FullWidth, Change::Quotes]);
        check(Kind::Addresses, "a：1；b：2", "a:1;b:2", &[Change::FullWidth]);
    }

    #[test]
    fn numbers() {
        let range = Kind::Int { min: 1, max: 10 };
        assert_eq!(int(range, "+7"), Ok(7));
        assert_eq!(int(range, "04"), Ok(4));
        assert_eq!(int(range, "11"), Err(Fault::Range));
        assert_eq!(int(range, "1.5"), Err(Fault::Number));
        assert_eq!(int(range, "99999999999999999999"), Err(Fault::Number));
        assert_eq!(
            parse(Kind::Clamped { min: 1, max: 500 }, "1000"),
            Ok((Value::Int(500), Some(Change::Clamped(500))))
        );
        assert_eq!(parse(Kind::Clamped { min: 1, max: 500 }, "500"), Ok((Value::Int(500), None)));
    }

    #[test]
    fn sizes() {
        let size = Kind::Size { min: 1, max: 1 << 40 };
        for (text, bytes) in
            [("1073741824", 1 << 30), ("1G", 1 << 30), ("4 MiB", 4 << 20), ("64k", 65_536), ("10b", 10)]
        {
            assert_eq!(int(size, text), Ok(bytes), "{text}");
        }
        assert_eq!(int(size, "1024 * 1024"), Err(Fault::Number));
        assert_eq!(int(size, "9000000000000G"), Err(Fault::Range));
        assert_eq!(int(size, "G"), Err(Fault::Number));
    }

    #[test]
    fn percent_of_both_generations() {
        let percent = Kind::Percent { min: 35, max: 90 };
        for (text, expect) in
            [("85", 85), ("0.85", 85), (".8", 80), ("0.857", 85), ("85%", 85), ("95", 90), ("1.0", 90)]
        {
            assert_eq!(int(percent, text), Ok(expect), "{text}");
        }
        assert_eq!(int(percent, "2.5"), Err(Fault::Number));
        assert_eq!(int(percent, "0."), Err(Fault::Number));
    }

    #[test]
    fn words_and_choices() {
        let choice = Kind::Choice(&["ASYNC_MASTER", "SLAVE"]);
        assert_eq!(parse(choice, "slave"), Ok((Value::Text("SLAVE".into()), None)));
        assert_eq!(parse(choice, "master"), Err(Fault::Choice));
        assert_eq!(parse(Kind::Bool, "TRUE"), Ok((Value::Bool(true), None)));
        assert_eq!(parse(Kind::Bool, "yes"), Err(Fault::Bool));
        assert_eq!(parse(Kind::Name, "broker a"), Err(Fault::Blanks));
        assert_eq!(parse(Kind::Path, "~/store"), Err(Fault::Home));
        assert_eq!(parse(Kind::Text, ""), Err(Fault::Empty));
    }

    #[test]
    fn addresses() {
        let parsed = |text: &str| parse(Kind::Addresses, text);
        let list = |parts: &[&str]| Value::Addresses(parts.iter().map(|part| (*part).to_owned()).collect());
        assert_eq!(parsed("a:9876; b:9876 ;"), Ok((list(&["a:9876", "b:9876"]), None)));
        assert_eq!(parsed("a:1,b:2"), Ok((list(&["a:1", "b:2"]), Some(Change::Comma))));
        assert_eq!(parsed("[::1]:9876"), Ok((list(&["[::1]:9876"]), None)));
        assert_eq!(parsed("a:1;b"), Err(Fault::Address("b".into())));
        assert_eq!(parsed("a:0"), Err(Fault::Address("a:0".into())));
        assert_eq!(parsed(";"), Err(Fault::Empty));
    }

    #[test]
    fn cpus() {
        assert_eq!(parse_cpus("0-3, 8,2"), Ok(vec![0, 1, 2, 3, 8]));
        for text in ["", "a", "3-1", "0-99999999999", "1,", "8192"] {
            assert_eq!(parse_cpus(text), Err(Fault::Cpus), "{text}");
        }
    }
}
