//! The preprocessing spec of a raw picture's request, from its query string.

use api::{ErrorCode, ErrorDetail, PreprocessSpec, preprocess::DEFAULT_SIDE};
use serde::de::{DeserializeOwned, IntoDeserializer, value::Error};

/// Reads `width`, `height` or `size`, `fit`, `filter` and `background`; what is not given stays at its default.
///
/// # Errors
/// `Unprocessable` for a key that is not known or a value that cannot be, with what was expected
pub(crate) fn spec(query: &str) -> Result<PreprocessSpec, ErrorDetail> {
    let mut spec = PreprocessSpec::square(DEFAULT_SIDE);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "size" => {
                spec.width = number(&key, &value)?;
                spec.height = spec.width;
            }
            "width" => spec.width = number(&key, &value)?,
            "height" => spec.height = number(&key, &value)?,
            "fit" => spec.fit = name(&key, &value)?,
            "filter" => spec.filter = name(&key, &value)?,
            "background" => spec.background = value.parse().map_err(unprocessable)?,
            _ => {
                return Err(unprocessable(format!(
                    "the query has {key:?}; known are size, width, height, fit, filter and background"
                )));
            }
        }
    }
    spec.validate().map_err(unprocessable)?;
    Ok(spec)
}

fn number(key: &str, value: &str) -> Result<u32, ErrorDetail> {
    value.parse().map_err(|_| unprocessable(format!("{key} is {value:?}; expected a number of pixels")))
}

/// A name as the spec's JSON spells it.
fn name<T: DeserializeOwned>(key: &str, value: &str) -> Result<T, ErrorDetail> {
    T::deserialize(value.into_deserializer()).map_err(|error: Error| unprocessable(format!("{key}: {error}")))
}

fn unprocessable(message: impl Into<String>) -> ErrorDetail {
    ErrorDetail::new(ErrorCode::Unprocessable, message)
}

#[cfg(test)]
mod tests {
    use api::{Background, Filter, Fit};

    use super::*;

    #[test]
    fn what_is_not_given_stays_at_its_default() {
        assert_eq!(spec(""), Ok(PreprocessSpec::square(DEFAULT_SIDE)));
        assert_eq!(spec("size=32"), Ok(PreprocessSpec::square(32)));
        let wide = PreprocessSpec { width: 48, ..PreprocessSpec::square(DEFAULT_SIDE) };
        assert_eq!(spec("width=48"), Ok(wide));
    }

    #[test]
    fn every_field_of_the_spec_can_be_given() {
        let all = PreprocessSpec {
            width: 3,
            height: 4,
            fit: Fit::Contain,
            filter: Filter::CatmullRom,
            background: Background([0, 0x7F, 0xFF]),
            ..PreprocessSpec::square(1)
        };
        let query = "width=3&height=4&fit=contain&filter=catmull_rom&background=%23007fff";
        assert_eq!(spec(query).as_ref(), Ok(&all));
        assert_eq!(spec(&query.replace("%23", "")), Ok(all));
    }

    #[test]
    fn a_wrong_value_is_refused_with_what_was_expected() {
        for (query, sentence) in [
            ("width=-1", "width is \"-1\"; expected a number of pixels"),
            ("size=0", "width is 0; expected 1 to 1024 pixels"),
            ("height=5000", "height is 5000; expected 1 to 1024 pixels"),
            ("fit=crop", "fit: unknown variant `crop`, expected one of `stretch`, `cover`, `contain`"),
            ("background=red", "background is \"red\"; expected six hex digits like #ffffff"),
            ("side=3", "the query has \"side\"; known are size, width, height, fit, filter and background"),
        ] {
            assert_eq!(spec(query), Err(unprocessable(sentence)), "{query}");
        }
    }
}
