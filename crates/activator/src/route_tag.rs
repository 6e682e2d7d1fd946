//! By which of a route's tags a request came.
//!
//! # Source
//! `pkg/queue/routetag_handler.go`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

const TAG: HeaderName = HeaderName::from_static("knative-serving-tag");
const DEFAULT_ROUTE: HeaderName = HeaderName::from_static("knative-serving-default-route");

/// The tag that metrics and spans name, from what the router has put into the headers: a traffic target's own, or
/// `kn:default` on the default route, `kn:undefined` if a tag was asked for that the route does not have, and
/// `kn:disabled` if tags in headers are not in use.
#[must_use]
pub fn route_tag(headers: &HeaderMap) -> Cow<'_, str> {
    let value = |name: HeaderName| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    match (value(TAG), value(DEFAULT_ROUTE)) {
        (b"", b"") => "kn:disabled".into(),
        (b"", _) => "kn:default".into(),
        (_, b"true") => "kn:undefined".into(),
        (tag, _) => String::from_utf8_lossy(tag),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(tag: Option<&'static str>, default_route: Option<&'static str>, expected: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in [(TAG, tag), (DEFAULT_ROUTE, default_route)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        }
        assert_eq!(route_tag(&headers), expected, "{tag:?} {default_route:?}");
    }

    #[test]
    fn the_headers_decide_the_tag() {
        check(None, None, "kn:disabled");
        check(Some(""), Some(""), "kn:disabled");
        check(None, Some("true"), "kn:default");
        check(None, Some("false"), "kn:default");
        check(Some("blue"), Some("true"), "kn:undefined");
        check(Some("blue"), Some("false"), "blue");
        check(Some("blue"), None, "blue");
    }
}
