//! Durations such as `1m30s`, read and written as Go's `time` package does, as signed nanoseconds.

use thiserror::Error;

use super::text::quote_ascii;

/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Why a duration cannot be read, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// No number where one is due, or more than 292 years.
    #[error("time: invalid duration {}", quote_ascii(.0))]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {}", quote_ascii(.0))]
    MissingUnit(String),
    /// A unit that does not exist.
    #[error("time: unknown unit {} in duration {}", quote_ascii(.unit), quote_ascii(.duration))]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The whole text.
        duration: String,
    },
}

/// Reads a duration such as `90s`, `1m30s` or `-1.5h`.
///
/// # Units
/// nanoseconds
///
/// # Errors
/// See [`DurationError`].
pub fn parse_duration(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = split_digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => split_digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let number = leading_int(whole).ok_or_else(invalid)?;
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit_name, after) = after.split_at(end);
        if unit_name.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        let unit = unit_nanos(unit_name)
            .ok_or_else(|| DurationError::UnknownUnit { unit: unit_name.to_owned(), duration: text.to_owned() })?;
        let mut nanos = number.checked_mul(unit).filter(|nanos| *nanos <= LIMIT).ok_or_else(invalid)?;
        let (fraction, scale) = leading_fraction(fraction);
        nanos += (fraction as f64 * (unit as f64 / scale)) as u64;
        total = total.checked_add(nanos).filter(|total| *total <= LIMIT).ok_or_else(invalid)?;
        rest = after;
    }
    if negative {
        return Ok((total as i64).wrapping_neg());
    }
    i64::try_from(total).map_err(|_| invalid())
}

/// What the magnitude may not exceed: the negative range is one larger than the positive.
const LIMIT: u64 = 1 << 63;

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn leading_int(digits: &str) -> Option<u64> {
    if digits.is_empty() {
        return Some(0);
    }
    digits.parse().ok().filter(|number| *number <= LIMIT)
}

/// The digits after the point as a number and what to divide it by; digits too many to hold are ignored.
fn leading_fraction(digits: &str) -> (u64, f64) {
    let mut number: u64 = 0;
    let mut scale = 1.0;
    for digit in digits.bytes() {
        if number > (LIMIT - 1) / 10 {
            break;
        }
        let longer = number * 10 + u64::from(digit - b'0');
        if longer > LIMIT {
            break;
        }
        number = longer;
        scale *= 10.0;
    }
    (number, scale)
}

fn unit_nanos(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // With the micro sign or the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Writes a duration as Go prints it: `1h0m1s`, `1m1.984s`, `500ms`, `0s`.
///
/// # Units
/// nanoseconds
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    let second = NANOS_PER_SECOND.unsigned_abs();
    if magnitude == 0 {
        return "0s".to_owned();
    }
    if magnitude < second {
        let (unit, name) = match magnitude {
            ..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", decimal(magnitude, unit));
    }
    let minutes = magnitude / (60 * second);
    let seconds = decimal(magnitude % (60 * second), second);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// A count of nanoseconds in a unit, exactly, without trailing zeros.
fn decimal(nanos: u64, unit: u64) -> String {
    let (whole, fraction) = (nanos / unit, nanos % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{fraction:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[track_caller]
    fn reads(text: &str, nanos: i64) {
        assert_eq!(parse_duration(text), Ok(nanos), "{text}");
    }

    #[track_caller]
    fn refuses(text: &str, message: &str) {
        assert_eq!(parse_duration(text).unwrap_err().to_string(), message);
    }

    #[test]
    fn go_durations_are_read() {
        reads("0", 0);
        reads("-0", 0);
        reads("5s", 5_000_000_000);
        reads("+1m30s", 90_000_000_000);
        reads("-1.5m", -90_000_000_000);
        reads("0.1h", 360_000_000_000);
        reads("6s0ms", 6_000_000_000);
        reads(".5s", 500_000_000);
        reads("1.s", 1_000_000_000);
        reads("3us4µs5μs", 12_000);
        reads("9223372036854775807ns", i64::MAX);
        reads("-9223372036854775808ns", i64::MIN);
        reads("0.9223372036854775807h", 3_320_413_933_267);
        reads("0.3333333333333333333h", 1_200_000_000_000);
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        refuses("", r#"time: invalid duration """#);
        refuses("-", r#"time: invalid duration "-""#);
        refuses(".s", r#"time: invalid duration ".s""#);
        refuses("s", r#"time: invalid duration "s""#);
        refuses(" 1s", r#"time: invalid duration " 1s""#);
        refuses("90", r#"time: missing unit in duration "90""#);
        refuses("1.5", r#"time: missing unit in duration "1.5""#);
        refuses("1d", r#"time: unknown unit "d" in duration "1d""#);
        refuses("10s ", r#"time: unknown unit "s " in duration "10s ""#);
        refuses("1s-1s", r#"time: unknown unit "s-" in duration "1s-1s""#);
        refuses("9223372036854775808ns", r#"time: invalid duration "9223372036854775808ns""#);
        refuses("99999999999999999999s", r#"time: invalid duration "99999999999999999999s""#);
        refuses("2562048h", r#"time: invalid duration "2562048h""#);
    }

    #[track_caller]
    fn prints(nanos: i64, text: &str) {
        assert_eq!(format_duration(nanos), text);
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        prints(0, "0s");
        prints(1, "1ns");
        prints(1_100, "1.1µs");
        prints(500_000_000, "500ms");
        prints(6_500_000_000, "6.5s");
        prints(61_984_000_000, "1m1.984s");
        prints(-83_000_000_000, "-1m23s");
        prints(3_600_000_000_000, "1h0m0s");
        prints(i64::MAX, "2562047h47m16.854775807s");
        prints(i64::MIN, "-2562047h47m16.854775808s");
    }
}
