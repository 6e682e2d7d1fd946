//! Go's ways of reading and writing numbers, durations and strings, because Knative's values are written in them and
//! its error texts print them.
//!
//! Only the forms that annotations and ConfigMaps can hold; time zones, bases and complex numbers are left out.
//!
//! # Source
//! The packages `strconv` and `time` of Go's standard library.

mod duration;
mod number;
mod text;

pub use duration::{DurationError, NANOS_PER_SECOND, format_duration, parse_duration};
pub use number::{NumberError, NumberErrorKind, format_float, parse_bool, parse_float, parse_int};
pub(crate) use number::{max, min, truncate_to_i32};
pub use text::quote;
