//! Amounts such as `100m`, `64Mi` or `1.5`, read and written as Kubernetes does.
//!
//! Everything finer than a billionth is rounded up to one. Amounts beyond what fits (about 10^29) are refused, where
//! Kubernetes would cap some and compute with others.
//!
//! # Source
//! `k8s.io/apimachinery/pkg/api/resource`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

const NANOS: i128 = 1_000_000_000;
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// How an amount was written, and so how it is written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    DecimalSi,
    DecimalExponent,
    BinarySi,
}

/// An exact amount.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why an amount cannot be read, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// Not written like an amount.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The number does not fit.
    #[error("unable to parse numeric part of quantity")]
    Number,
    /// A suffix that does not exist.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// The amount in whole units, rounded up: bytes of memory, for example.
    pub fn value(&self) -> i64 {
        saturate(div_ceil(self.nanos, NANOS))
    }

    /// The amount in thousandths, rounded up: millicores of CPU, for example.
    pub fn milli_value(&self) -> i64 {
        saturate(div_ceil(self.nanos, NANOS / 1000))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let number_len = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_len);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if text.is_empty() || fraction.contains('.') || !is_suffix(suffix) {
            return Err(QuantityError::Format);
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Number);
        }
        let (scale, format) = scale_of(suffix).ok_or(QuantityError::Suffix)?;
        let digits: i128 = format!("{whole}{fraction}").parse().map_err(|_| QuantityError::Number)?;
        let exponent = i32::try_from(fraction.len()).map_err(|_| QuantityError::Number)?;
        let nanos = match scale {
            Scale::Ten(ten) => shift(digits, ten.saturating_add(9).saturating_sub(exponent)),
            Scale::Two(two) => digits
                .checked_mul(NANOS)
                .and_then(|nanos| nanos.checked_mul(1 << two))
                .and_then(|nanos| shift(nanos, -exponent)),
        }
        .ok_or(QuantityError::Number)?;
        let nanos = if text.starts_with('-') { -nanos } else { nanos };
        let format = if format == Format::BinarySi && 0 < nanos && nanos < NANOS { Format::DecimalSi } else { format };
        Ok(Self { nanos, format })
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that leaves none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANOS == 0;
        if self.format == Format::BinarySi && whole && self.nanos.abs() >= 1024 * NANOS {
            let (mut amount, mut suffix) = (self.nanos / NANOS, "");
            for (next, _) in BINARY {
                if amount % 1024 != 0 {
                    break;
                }
                (amount, suffix) = (amount / 1024, next);
            }
            return write!(f, "{amount}{suffix}");
        }
        let (mut amount, mut step) = (self.nanos, 0);
        while amount % 1000 == 0 && step + 1 < DECIMAL.len() {
            (amount, step) = (amount / 1000, step + 1);
        }
        let (suffix, exponent) = DECIMAL[step];
        match (self.format, exponent) {
            (Format::DecimalExponent, 0) => write!(f, "{amount}"),
            (Format::DecimalExponent, exponent) => write!(f, "{amount}e{exponent}"),
            _ => write!(f, "{amount}{suffix}"),
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 100m, 64Mi or 2")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.trim().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Text)
    }
}

enum Scale {
    Ten(i32),
    Two(u32),
}

fn scale_of(suffix: &str) -> Option<(Scale, Format)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Scale::Ten(*exponent), Format::DecimalSi));
    }
    if let Some((_, exponent)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((Scale::Two(*exponent), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Scale::Ten(exponent), Format::DecimalExponent))
}

/// Letters, a sign, digits: whatever the letters, so that a wrong suffix is told from a wrong form.
fn is_suffix(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Multiplies by a power of ten; what does not come out even is rounded up.
fn shift(number: i128, exponent: i32) -> Option<i128> {
    if number == 0 {
        return Some(0);
    }
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    if exponent >= 0 { number.checked_mul(power?) } else { Some(power.map_or(1, |power| div_ceil(number, power))) }
}

fn div_ceil(number: i128, divisor: i128) -> i128 {
    number.div_euclid(divisor) + i128::from(number.rem_euclid(divisor) != 0)
}

fn saturate(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[track_caller]
    fn check(text: &str, canonical: &str, value: i64) {
        let quantity: Quantity = text.parse().unwrap();
        assert_eq!((quantity.to_string().as_str(), quantity.value()), (canonical, value));
    }

    #[test]
    fn amounts_are_written_in_their_canonical_form() {
        check("0", "0", 0);
        check("1", "1", 1);
        check("+5", "5", 5);
        check("-5", "-5", -5);
        check("1000", "1k", 1000);
        check("100m", "100m", 1);
        check("1000m", "1", 1);
        check("1.5", "1500m", 2);
        check("0.5Gi", "512Mi", 512 << 20);
        check("1024Ki", "1Mi", 1 << 20);
        check("1000Ki", "1000Ki", 1000 << 10);
        check("512", "512", 512);
        check("2048Mi", "2Gi", 2 << 30);
        check("1e3", "1e3", 1000);
        check("12e-1", "1200e-3", 2);
        check("1.1Ki", "1126400m", 1127);
        check("0.1n", "1n", 1);
        check(".5", "500m", 1);
        check("5.", "5", 5);
        check("7E", "7E", 7_000_000_000_000_000_000);
    }

    #[test]
    fn milli_values_round_up() {
        assert_eq!("1500u".parse::<Quantity>().unwrap().milli_value(), 2);
        assert_eq!("0.25".parse::<Quantity>().unwrap().milli_value(), 250);
    }

    #[test]
    fn amounts_are_equal_by_value() {
        assert_eq!("1".parse::<Quantity>(), "1000m".parse());
        assert_ne!("1Ki".parse::<Quantity>(), "1k".parse());
    }

    #[track_caller]
    fn check_refused(text: &str, error: QuantityError) {
        assert_eq!(text.parse::<Quantity>(), Err(error));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        check_refused("", QuantityError::Format);
        check_refused("1 Gi", QuantityError::Format);
        check_refused("one", QuantityError::Format);
        check_refused("1.2.3", QuantityError::Format);
        check_refused("1Gib", QuantityError::Format);
        check_refused("64MI", QuantityError::Format);
        check_refused("1iK", QuantityError::Suffix);
        check_refused("1KM", QuantityError::Suffix);
        check_refused("Ki", QuantityError::Number);
        check_refused("99999999999999999999999999999999999999999", QuantityError::Number);
        check_refused("1e40", QuantityError::Number);
    }

    #[test]
    fn numbers_are_read_as_well_as_texts() {
        let read: [Quantity; 3] = serde_json::from_str(r#"["64Mi", 2, 0.5]"#).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"["64Mi","2","500m"]"#);
    }
}
