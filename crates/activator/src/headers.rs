//! What happens to the headers between a client and an instance.
//!
//! # Source
//! `pkg/activator/handler/handler.go`, `pkg/queue/handler.go`, knative.dev/networking `pkg/http/header`, and Go's
//! `net/http/httputil.ReverseProxy`, which both hops forward with.

use std::{io::Write as _, mem, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, request};

use crate::{
    forwarded::{X_FORWARDED_FOR, add_forwarded},
    pool::Hop,
    probe::HASH,
};

/// Says who passed the request on.
const PROXY: HeaderName = HeaderName::from_static("k-proxy-request");

/// The host the client asked for, while `Host` is used to route.
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("k-original-host");

/// By which an ingress tells the activator which revision it means.
const REVISION: [HeaderName; 2] =
    [HeaderName::from_static("knative-serving-revision"), HeaderName::from_static("knative-serving-namespace")];

const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Makes a client's request what the function is to see.
pub(crate) fn to_instance(head: &mut request::Parts, hop: Hop, client: Option<IpAddr>) {
    let headers = &mut head.headers;
    let takes_trailers = has_token(headers, &header::TE, "trailers");
    let upgrade = upgrade(headers);
    drop_hop_by_hop(headers);
    if takes_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
    for name in REVISION {
        headers.remove(name);
    }
    if hop == Hop::Activator {
        headers.remove(HASH);
        headers.insert(PROXY, HeaderValue::from_static("activator"));
    }
    if let Some(client) = client {
        append_client(headers, client);
    }
    add_forwarded(headers);
    restore_host(head);
}

/// Makes a function's answer what the client is to see.
pub(crate) fn to_client(status: StatusCode, headers: &mut HeaderMap) {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        drop_hop_by_hop(headers);
    }
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(tokens)
            .filter_map(|token| HeaderName::from_bytes(token).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The protocol that the client wants to change to, if it does.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return None;
    }
    headers.get(header::UPGRADE).filter(|protocol| !protocol.is_empty()).cloned()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().flat_map(tokens).any(|other| other.eq_ignore_ascii_case(token.as_bytes()))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Several headers become one.
fn append_client(headers: &mut HeaderMap, client: IpAddr) {
    let mut nodes = Vec::with_capacity(64);
    for value in headers.get_all(X_FORWARDED_FOR) {
        nodes.extend_from_slice(value.as_bytes());
        nodes.extend_from_slice(b", ");
    }
    // Writing to a vector does not fail, and an address is a valid value.
    let _ = write!(nodes, "{}", client.to_canonical());
    if let Ok(nodes) = HeaderValue::try_from(nodes) {
        headers.insert(X_FORWARDED_FOR, nodes);
    }
}

fn restore_host(head: &mut request::Parts) {
    let Some(host) = head.headers.remove(ORIGINAL_HOST).filter(|host| !host.is_empty()) else { return };
    if head.uri.authority().is_some() {
        let mut parts = mem::take(&mut head.uri).into_parts();
        if let Ok(authority) = host.as_bytes().try_into() {
            parts.authority = Some(authority);
        }
        // It was one with another authority.
        head.uri = Uri::from_parts(parts).unwrap_or_default();
    }
    head.headers.insert(header::HOST, host);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use http::Request;

    use super::*;

    type Lines = &'static [(&'static str, &'static str)];

    fn head(uri: &str, lines: Lines) -> request::Parts {
        let mut head = Request::get(uri).body(()).unwrap().into_parts().0;
        for (name, value) in lines {
            head.headers.append(*name, HeaderValue::from_static(value));
        }
        head
    }

    fn sorted(headers: &HeaderMap) -> Vec<(&str, &str)> {
        let mut lines: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        lines.sort_unstable();
        lines
    }

    #[track_caller]
    fn check(hop: Hop, client: Option<&str>, before: Lines, after: Lines) {
        let mut head = head("/", before);
        to_instance(&mut head, hop, client.map(|client| client.parse().unwrap()));
        assert_eq!(sorted(&head.headers), after, "{before:?}");
    }

    #[test]
    fn what_went_through_the_activator_says_so() {
        check(Hop::Activator, None, &[], &[("k-proxy-request", "activator")]);
        check(Hop::Activator, None, &[("k-proxy-request", "me")], &[("k-proxy-request", "activator")]);
        check(Hop::QueueProxy, None, &[], &[]);
    }

    #[test]
    fn how_the_revision_was_found_is_not_told() {
        let before = &[("knative-serving-revision", "r"), ("knative-serving-namespace", "n"), ("host", "h")];
        check(Hop::QueueProxy, None, before, &[("host", "h")]);
        check(Hop::Activator, None, before, &[("host", "h"), ("k-proxy-request", "activator")]);
    }

    #[test]
    fn tags_reach_the_function() {
        let lines = &[("knative-serving-default-route", "true"), ("knative-serving-tag", "blue")];
        check(Hop::QueueProxy, None, lines, lines);
    }

    #[test]
    fn the_activator_keeps_the_network_hash() {
        let lines = &[("k-network-hash", "abc")];
        check(Hop::Activator, None, lines, &[("k-proxy-request", "activator")]);
        check(Hop::QueueProxy, None, lines, lines);
    }

    #[test]
    fn the_client_is_appended_and_forwarded() {
        check(
            Hop::QueueProxy,
            Some("10.0.0.9"),
            &[],
            &[("forwarded", "for=10.0.0.9"), ("x-forwarded-for", "10.0.0.9")],
        );
        check(
            Hop::QueueProxy,
            Some("::ffff:10.0.0.9"),
            &[("x-forwarded-for", "10.0.0.1, ::1"), ("x-forwarded-for", "10.0.0.2"), ("x-forwarded-proto", "http")],
            &[
                ("forwarded", "for=10.0.0.1;proto=http, for=\"[::1]\", for=10.0.0.2, for=10.0.0.9"),
                ("x-forwarded-for", "10.0.0.1, ::1, 10.0.0.2, 10.0.0.9"),
                ("x-forwarded-proto", "http"),
            ],
        );
        check(
            Hop::QueueProxy,
            Some("10.0.0.9"),
            &[("forwarded", "for=a")],
            &[("forwarded", "for=a"), ("x-forwarded-for", "10.0.0.9")],
        );
    }

    #[test]
    fn headers_of_the_connection_end_with_it() {
        check(
            Hop::QueueProxy,
            None,
            &[
                ("connection", "close, X-Mine"),
                ("connection", "x-other"),
                ("x-mine", "1"),
                ("x-other", "2"),
                ("x-kept", "3"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("proxy-authorization", "secret"),
                ("proxy-authenticate", "Basic"),
                ("te", "gzip"),
                ("trailer", "x-t"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
            ],
            &[("x-kept", "3")],
        );
    }

    #[test]
    fn upgrades_and_trailers_are_asked_for_anew() {
        let upgraded = &[("connection", "Upgrade"), ("upgrade", "websocket")];
        check(Hop::QueueProxy, None, &[("connection", "keep-alive, upgrade"), ("upgrade", "websocket")], upgraded);
        check(Hop::QueueProxy, None, &[("connection", "upgrade")], &[]);
        check(Hop::QueueProxy, None, &[("te", "gzip, Trailers")], &[("te", "trailers")]);
    }

    #[track_caller]
    fn check_host(uri: &str, lines: Lines, expected: (&str, Option<&str>)) {
        let mut head = head(uri, lines);
        to_instance(&mut head, Hop::QueueProxy, None);
        let host = head.headers.get(header::HOST).map(|host| host.to_str().unwrap());
        assert_eq!((head.uri.to_string().as_str(), host), expected);
        assert!(!head.headers.contains_key(ORIGINAL_HOST));
    }

    #[test]
    fn the_original_host_is_restored() {
        check_host("/a?b", &[("host", "pod"), ("k-original-host", "f.example")], ("/a?b", Some("f.example")));
        check_host("/a", &[("host", "f.example")], ("/a", Some("f.example")));
        check_host("/a", &[("host", "f.example"), ("k-original-host", "")], ("/a", Some("f.example")));
        check_host(
            "http://pod:80/a?b",
            &[("k-original-host", "f.example:8080")],
            ("http://f.example:8080/a?b", Some("f.example:8080")),
        );
        check_host("http://pod/a", &[("k-original-host", "not a host")], ("http://pod/a", Some("not a host")));
    }

    #[test]
    fn answers_lose_the_connections_headers_unless_they_switch_protocols() {
        let before = &[("connection", "close, x-mine"), ("x-mine", "1"), ("x-kept", "2"), ("upgrade", "websocket")];
        let mut headers = head("/", before).headers;
        to_client(StatusCode::OK, &mut headers);
        assert_eq!(sorted(&headers), [("x-kept", "2")]);
        let mut headers = head("/", before).headers;
        to_client(StatusCode::SWITCHING_PROTOCOLS, &mut headers);
        assert_eq!(headers.len(), 4);
    }
}
