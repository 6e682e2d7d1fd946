//! Integers, floats and booleans, read and written as Go's `strconv` and `fmt` do.

use thiserror::Error;

use super::text::quote;

/// Why a number or boolean cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NumberErrorKind {
    /// Not written like one.
    #[error("invalid syntax")]
    Syntax,
    /// Too large for its type.
    #[error("value out of range")]
    Range,
}

/// A number or boolean that cannot be read, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("strconv.{function}: parsing {}: {kind}", quote(.text))]
pub struct NumberError {
    function: &'static str,
    text: String,
    /// Whether its form or its size is wrong.
    pub kind: NumberErrorKind,
}

/// Reads a decimal integer of 32 or 64 bits, with an optional sign.
///
/// # Errors
/// [`NumberErrorKind::Range`] if it is an integer that `T` cannot hold.
pub fn parse_int<T: TryFrom<i64>>(text: &str) -> Result<T, NumberError> {
    let error = |kind| NumberError { function: "ParseInt", text: text.to_owned(), kind };
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error(NumberErrorKind::Syntax));
    }
    let wide: i64 = text.parse().map_err(|_| error(NumberErrorKind::Range))?;
    T::try_from(wide).map_err(|_| error(NumberErrorKind::Range))
}

/// Reads a boolean: `1`, `t`, `T`, `true`, `TRUE`, `True` and their opposites.
///
/// # Errors
/// [`NumberErrorKind::Syntax`] for everything else.
pub fn parse_bool(text: &str) -> Result<bool, NumberError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(NumberError { function: "ParseBool", text: text.to_owned(), kind: NumberErrorKind::Syntax }),
    }
}

/// Reads a float: decimal or hexadecimal, with underscores between digits, `Inf` and `NaN` in any case.
///
/// # Errors
/// [`NumberErrorKind::Range`] if it is finite and larger than the largest float.
pub fn parse_float(text: &str) -> Result<f64, NumberError> {
    let error = |kind| NumberError { function: "ParseFloat", text: text.to_owned(), kind };
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let signed = |value: f64| if negative { -value } else { value };
    if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") {
        return Ok(signed(f64::INFINITY));
    }
    if text.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    let hexadecimal = unsigned.len() > 2 && unsigned[..2].eq_ignore_ascii_case("0x");
    let number = without_underscores(unsigned, hexadecimal).ok_or_else(|| error(NumberErrorKind::Syntax))?;
    let value = if hexadecimal { parse_hexadecimal(&number[2..]) } else { parse_decimal(&number) };
    let value = value.ok_or_else(|| error(NumberErrorKind::Syntax))?;
    if value.is_infinite() { Err(error(NumberErrorKind::Range)) } else { Ok(signed(value)) }
}

/// The number with its underscores taken out, or none if one of them does not stand between digits.
fn without_underscores(text: &str, hexadecimal: bool) -> Option<String> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || hexadecimal && byte.is_ascii_hexdigit();
    let bytes = text.as_bytes();
    for (index, _) in text.match_indices('_') {
        // The x of a prefix counts as a digit before its first underscore.
        let after_prefix = hexadecimal && index == 2;
        let follows = after_prefix || index > 0 && is_digit(bytes[index - 1]);
        let leads = bytes.get(index + 1).is_some_and(|byte| is_digit(*byte));
        if !follows || !leads {
            return None;
        }
    }
    Some(text.replace('_', ""))
}

fn parse_decimal(text: &str) -> Option<f64> {
    // Rust reads what Go does, and also a second sign and names of numbers.
    if !text.bytes().next()?.is_ascii_digit() && !text.starts_with('.') {
        return None;
    }
    text.parse().ok()
}

/// Reads what stands after `0x`: digits with an optional point, and an exponent of two that must be there.
fn parse_hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Beyond these every mantissa that fits in memory is zero or infinite.
    let exponent: i64 = exponent.parse().unwrap_or(if exponent.starts_with('-') { -1 << 40 } else { 1 << 40 });

    let mut mantissa: u64 = 0;
    let mut dropped_digits: i64 = 0;
    for digit in whole.chars().chain(fraction.chars()) {
        let digit = u64::from(digit.to_digit(16)?);
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | digit;
        } else {
            dropped_digits += 1;
            // Whatever lies below counts only as not nothing.
            mantissa |= u64::from(digit != 0);
        }
    }
    let fraction_digits = i64::try_from(fraction.len()).ok()?;
    Some(scale(mantissa, exponent.saturating_add(4 * (dropped_digits - fraction_digits))))
}

/// `mantissa · 2^exponent`, rounded once, to even; the lowest bit of a mantissa of 61 bits or more may stand for more
/// bits below.
fn scale(mantissa: u64, exponent: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let width = 64 - i64::from(mantissa.leading_zeros());
    // The weight of the last bit that the result can hold.
    let last = (exponent + width - 53).max(-1074);
    let drop = last - exponent;
    let kept = match drop {
        ..=0 => mantissa << (-drop),
        1..64 => {
            let (kept, rest, half) = (mantissa >> drop, mantissa & ((1 << drop) - 1), 1 << (drop - 1));
            kept + u64::from(rest > half || rest == half && kept & 1 == 1)
        }
        64 => u64::from(mantissa > 1 << 63),
        _ => 0,
    };
    if last > 1023 - 52 || last == 1023 - 52 && kept >> 53 != 0 {
        return f64::INFINITY;
    }
    // Exact: the first factor has at most 53 bits, the two others keep the product in range until the end.
    let power = |exponent: i64| 2f64.powi(exponent as i32);
    kept as f64 * power(last / 2) * power(last - last / 2)
}

/// Writes a float as Go's `%v` does: as few digits as tell it from its neighbours, with an exponent below 1e-4 and from
/// 1e6 on.
pub fn format_float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

/// Cuts a float to an integer as Go on 64-bit Intel does: towards zero, and whatever does not fit, and NaN, becomes the
/// smallest integer.
pub fn truncate_to_i32(value: f64) -> i32 {
    let truncated = value.trunc();
    if (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&truncated) { truncated as i32 } else { i32::MIN }
}

/// The larger float or, unlike [`f64::max`], NaN if one of them is and none is infinite.
pub fn max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else {
        a.max(b)
    }
}

/// The smaller float or, unlike [`f64::min`], NaN if one of them is and none is minus infinity.
pub fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[track_caller]
    fn reads(text: &str, value: f64) {
        assert_eq!(parse_float(text).map(f64::to_bits), Ok(value.to_bits()), "{text}");
    }

    #[track_caller]
    fn refuses(text: &str, kind: NumberErrorKind) {
        assert_eq!(parse_float(text).unwrap_err().kind, kind, "{text}");
    }

    #[test]
    fn go_floats_are_read() {
        reads("1", 1.0);
        reads("+7", 7.0);
        reads("-0", -0.0);
        reads(".5", 0.5);
        reads("5.", 5.0);
        reads("1e2", 100.0);
        reads("1_0", 10.0);
        reads("1_000.5_0e0_2", 100_050.0);
        reads("1e-400", 0.0);
        reads("iNf", f64::INFINITY);
        reads("-Infinity", f64::NEG_INFINITY);
        assert!(parse_float("NaN").unwrap().is_nan());
    }

    #[test]
    fn hexadecimal_floats_are_rounded_once() {
        reads("0x1p3", 8.0);
        reads("-0X_1.8P+1", -3.0);
        reads("0x.8p0", 0.5);
        reads("0x1.fffffffffffffp1023", f64::MAX);
        reads("0x1.fffffffffffff7ffp1023", f64::MAX);
        reads("0x1p-1074", f64::from_bits(1));
        reads("0x1p-1075", 0.0);
        reads("0x1.8p-1075", f64::from_bits(1));
        reads("0x1.0000000000000_8p0", 1.0);
        reads("0x1.000000000000080000000000001p0", 1.0 + f64::EPSILON);
        reads("0x1.00000000000018p0", 1.0 + 2.0 * f64::EPSILON);
        reads("0x1fffffffffffffffffffffp-85", 1.0);
        reads("0x0p99999999999999999999", 0.0);
        reads("0x1p-99999999999999999999", 0.0);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        use NumberErrorKind::{Range, Syntax};
        for text in
            ["", "-", ".", "x", "1e", "1e+", "--1", "+-1", " 1", "1 ", "+nan", "infin", "0x1", "0xp1", "0x", "1.2.3"]
        {
            refuses(text, Syntax);
        }
        for text in ["_1", "1_", "1__0", "1_.5", "1._5", "0x1_p1", "0_x1p1"] {
            refuses(text, Syntax);
        }
        for text in ["1e400", "-1e400", "0x1p1024", "0x1.fffffffffffff8p1023", "0x1p99999999999999999999"] {
            refuses(text, Range);
        }
    }

    #[test]
    fn integers_keep_to_their_type() {
        assert_eq!(parse_int("+007"), Ok(7_i32));
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        let kind = |text| parse_int::<i32>(text).unwrap_err().kind;
        assert_eq!(kind("2147483648"), NumberErrorKind::Range);
        assert_eq!(kind("99999999999999999999"), NumberErrorKind::Range);
        for text in ["", "+", "1.0", "1_0", "0x1", " 1", "+-1", "١"] {
            assert_eq!(kind(text), NumberErrorKind::Syntax, "{text}");
        }
    }

    #[test]
    fn errors_print_in_go_words() {
        assert_eq!(
            parse_float("not a float").unwrap_err().to_string(),
            r#"strconv.ParseFloat: parsing "not a float": invalid syntax"#
        );
        assert_eq!(
            parse_int::<i32>("2147483648").unwrap_err().to_string(),
            r#"strconv.ParseInt: parsing "2147483648": value out of range"#
        );
        assert_eq!(parse_bool("yes").unwrap_err().to_string(), r#"strconv.ParseBool: parsing "yes": invalid syntax"#);
    }

    #[track_caller]
    fn prints(value: f64, text: &str) {
        assert_eq!(format_float(value), text);
    }

    #[test]
    fn floats_print_as_go_prints_them() {
        prints(0.0, "0");
        prints(100.0, "100");
        prints(-5.25, "-5.25");
        prints(0.00999999, "0.00999999");
        prints(0.00001, "1e-05");
        prints(123_456.0, "123456");
        prints(1_000_000.0, "1e+06");
        prints(1.5e300, "1.5e+300");
        prints(f64::INFINITY, "+Inf");
        prints(f64::NAN, "NaN");
    }

    #[test]
    fn casts_cut_towards_zero_and_mark_what_does_not_fit() {
        assert_eq!(truncate_to_i32(2.9), 2);
        assert_eq!(truncate_to_i32(-2.9), -2);
        assert_eq!(truncate_to_i32(2_147_483_647.9), i32::MAX);
        assert_eq!(truncate_to_i32(2_147_483_648.0), i32::MIN);
        assert_eq!(truncate_to_i32(f64::NAN), i32::MIN);
        assert_eq!(truncate_to_i32(f64::INFINITY), i32::MIN);
    }

    #[test]
    fn extremes_keep_what_is_no_number() {
        assert_eq!((max(1.0, 2.0), min(1.0, 2.0)), (2.0, 1.0));
        assert!(max(f64::NAN, 1.0).is_nan() && min(1.0, f64::NAN).is_nan());
        assert_eq!(max(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert_eq!(min(f64::NEG_INFINITY, f64::NAN), f64::NEG_INFINITY);
    }
}
