//! Quoting, as `strconv.Quote` does. Unprintable characters beyond the control characters are left as they are.

use std::fmt::Write;

/// A string between double quotes with what needs it escaped.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if c.is_ascii_control() => drop(write!(quoted, "\\x{:02x}", u32::from(c))),
            c if c.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The quoting of `time.ParseDuration`'s errors: bytes that are not printable ASCII are shown in hexadecimal.
pub(super) fn quote_ascii(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'\x7f' => quoted.push(char::from(byte)),
            _ => drop(write!(quoted, "\\x{byte:02x}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, quoted: &str, ascii: &str) {
        assert_eq!(quote(text), quoted);
        assert_eq!(quote_ascii(text), ascii);
    }

    #[test]
    fn what_needs_it_is_escaped() {
        check("plain", r#""plain""#, r#""plain""#);
        check("a\"b\\c", r#""a\"b\\c""#, r#""a\"b\\c""#);
        check("\n\t\x01\x7f", r#""\n\t\x01\x7f""#, "\"\\x0a\\x09\\x01\x7f\"");
        check("é\u{85}", r#""é\u0085""#, r#""\xc3\xa9\xc2\x85""#);
    }
}
