//! Numbers as Java reads them from text and compares them, which differs from Rust's: digits of other scripts count in
//! integers, blanks around a decimal do not matter, hexadecimal decimals exist, and all NaN are one and the greatest.

use std::cmp::Ordering;

/// The zero of each script's digits that `Character.digit` knows below U+10000 (Java 17).
const ZEROS: [u32; 37] = [
    0x0030, 0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0DE6,
    0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40,
    0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10,
];

fn digit(letter: char) -> Option<i64> {
    let code = u32::from(letter);
    let zero = ZEROS[..ZEROS.partition_point(|zero| *zero <= code)].last()?;
    Some(code - zero).filter(|value| *value < 10).map(i64::from)
}

/// `Long.valueOf`.
pub(super) fn long(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    // Summed up below zero, where there is one value more.
    let sum = digits.chars().try_fold(0_i64, |sum, letter| sum.checked_mul(10)?.checked_sub(digit(letter)?))?;
    if negative { Some(sum) } else { sum.checked_neg() }
}

/// `Integer.valueOf`.
pub(super) fn integer(text: &str) -> Option<i32> {
    long(text).and_then(|value| i32::try_from(value).ok())
}

/// `Double.valueOf`.
pub(super) fn double(text: &str) -> Option<f64> {
    let text = text.trim_matches(|letter| letter <= ' ');
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = match unsigned {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        _ => {
            let unsuffixed = unsigned.strip_suffix(['f', 'F', 'd', 'D']);
            match unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
                // Without an exponent the last letter is a digit, and the whole is no number.
                Some(hexadecimal) => self::hexadecimal(hexadecimal)?,
                None => decimal(unsuffixed.unwrap_or(unsigned))?,
            }
        }
    };
    Some(if negative { -value } else { value })
}

fn decimal(text: &str) -> Option<f64> {
    // Rust also takes names of infinity, and signs.
    let is_plain = |b: &u8| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    let starts = matches!(text.as_bytes().first()?, b'0'..=b'9' | b'.');
    (starts && text.as_bytes().iter().all(is_plain)).then(|| text.parse().ok())?
}

/// What follows the `0x` of a hexadecimal decimal: digits, perhaps with a point among them, `p` and an exponent of two.
fn hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    let exponent = exponent.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(exponent);
    let (below, exponent) = match exponent.as_bytes().first()? {
        b'-' => (true, &exponent[1..]),
        b'+' => (false, &exponent[1..]),
        _ => (false, exponent),
    };
    if exponent.is_empty() || !exponent.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Beyond this every value is zero or infinite, however many digits a property can hold.
    const EXPONENT_MAX: i64 = 1 << 40;
    let exponent = exponent.parse().unwrap_or(EXPONENT_MAX).min(EXPONENT_MAX);
    let mut power = if below { -exponent } else { exponent };

    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(w, f)| (w, Some(f)));
    if fraction.is_some_and(|f| f.is_empty() && whole.is_empty()) || (whole.is_empty() && fraction.is_none()) {
        return None;
    }
    let mut mantissa = 0_u64;
    for (letters, behind_point) in [(whole, false), (fraction.unwrap_or_default(), true)] {
        for letter in letters.chars() {
            let digit = u64::from(letter.to_digit(16)?);
            if mantissa >> 60 == 0 {
                mantissa = mantissa << 4 | digit;
                power -= if behind_point { 4 } else { 0 };
            } else {
                // Digits that no longer fit decide only whether it is exactly half way.
                mantissa |= u64::from(digit != 0);
                power += if behind_point { 0 } else { 4 };
            }
        }
    }
    Some(scale(mantissa, power))
}

/// `mantissa` times two to the `power`, rounded to even once.
fn scale(mantissa: u64, power: i64) -> f64 {
    const FRACTION: i64 = 52;
    const LEAST: i64 = -1074;
    const GREATEST: i64 = 1023;
    if mantissa == 0 {
        return 0.0;
    }
    let top = 63 - i64::from(mantissa.leading_zeros());
    if top + power > GREATEST {
        return f64::INFINITY;
    }
    // The power of the last bit that a double of this size holds.
    let last = (top + power - FRACTION).max(LEAST);
    let dropped = last - power;
    let kept = match dropped {
        ..=0 => mantissa << dropped.unsigned_abs(),
        65.. => 0,
        1..=64 => {
            let kept = mantissa.checked_shr(dropped.unsigned_abs() as u32).unwrap_or(0);
            let half = 1_u64 << (dropped - 1);
            let rest = mantissa & (half | (half - 1));
            kept + u64::from(rest > half || (rest == half && kept & 1 == 1))
        }
    };
    // Rounding up may carry into the next power, and there into infinity, which the bits do by themselves.
    let biased = u64::try_from(last - LEAST).unwrap_or(0);
    f64::from_bits((biased << FRACTION) + kept)
}

/// `Double.compareTo`.
pub(super) fn compare(left: f64, right: f64) -> Ordering {
    match (left.is_nan(), right.is_nan()) {
        (false, false) => left.total_cmp(&right),
        (left, right) => left.cmp(&right),
    }
}
