//! Settings of a raw picture's request: the query string's `top_k` and `include_images`.

use api::{ErrorCode, ErrorDetail, predict::DEFAULT_TOP_K};

/// What an answer shall hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Labels to rank.
    pub(crate) top_k: usize,
    /// Whether to repeat the picture as a `data:` URL.
    pub(crate) include_image: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Self { top_k: DEFAULT_TOP_K, include_image: true }
    }
}

impl Wish {
    /// Reads `top_k=3&include_images=false`; other keys are ignored.
    pub(crate) fn from_query(query: &str) -> Result<Self, ErrorDetail> {
        let mut wish = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "top_k" => wish.top_k = value.parse().map_err(|_| wrong(key, value, "a whole number"))?,
                "include_images" => {
                    wish.include_image = value.parse().map_err(|_| wrong(key, value, "true or false"))?;
                }
                _ => {}
            }
        }
        Ok(wish)
    }
}

fn wrong(key: &str, value: &str, expected: &str) -> ErrorDetail {
    ErrorDetail::new(ErrorCode::BadRequest, format!("{key} is {value:?}; expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_stays_at_its_default() {
        assert_eq!(Wish::from_query(""), Ok(Wish::default()));
        assert_eq!(Wish::from_query("x=1&&top"), Ok(Wish::default()));
        let wish = Wish::from_query("include_images=false&top_k=2");
        assert_eq!(wish, Ok(Wish { top_k: 2, include_image: false }));
    }

    #[test]
    fn a_wrong_value_is_named_with_what_was_expected() {
        for (query, message) in [
            ("top_k=-1", "top_k is \"-1\"; expected a whole number"),
            ("include_images", "include_images is \"\"; expected true or false"),
        ] {
            assert_eq!(Wish::from_query(query), Err(ErrorDetail::new(ErrorCode::BadRequest, message)));
        }
    }
}
