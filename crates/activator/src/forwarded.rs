//! `Forwarded` (RFC 7239) for functions behind proxies that speak only `X-Forwarded-*`.
//!
//! # Source
//! `pkg/queue/forwarded_shim.go`.

use http::{HeaderMap, HeaderName, HeaderValue, header};

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Adds `Forwarded` from what the `X-Forwarded-*` headers say, if it is not there.
pub(crate) fn add_forwarded(headers: &mut HeaderMap) {
    let value = |name: HeaderName| headers.get(name).map_or(&b""[..], |value| value.as_bytes());
    if !value(header::FORWARDED).is_empty() {
        return;
    }
    let (nodes, host, proto) = (value(X_FORWARDED_FOR), value(X_FORWARDED_HOST), value(X_FORWARDED_PROTO));
    if nodes.is_empty() && host.is_empty() && proto.is_empty() {
        return;
    }
    // Made of valid values, so it is one.
    if let Ok(forwarded) = HeaderValue::from_bytes(&forwarded(nodes, host, proto)) {
        headers.insert(header::FORWARDED, forwarded);
    }
}

/// Host and protocol are those the first proxy saw, so they stand with the first node. An empty first node gets no
/// semicolon after it.
fn forwarded(nodes: &[u8], host: &[u8], proto: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * nodes.len() + host.len() + proto.len() + 24);
    // What follows a final comma is no node.
    let mut rest = nodes.strip_suffix(b",").unwrap_or(nodes).split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let first = rest.next().unwrap_or_default();
    if !nodes.is_empty() {
        out.extend_from_slice(b"for=");
        push_node(&mut out, first);
    }
    if !host.is_empty() {
        out.extend_from_slice(if first.is_empty() { b"host=" } else { b";host=" });
        out.extend_from_slice(host);
    }
    if !proto.is_empty() {
        let is_alone = first.is_empty() && host.is_empty();
        out.extend_from_slice(if is_alone { b"proto=" } else { b";proto=" });
        out.extend_from_slice(proto);
    }
    for node in rest {
        out.extend_from_slice(b", for=");
        push_node(&mut out, node);
    }
    out
}

/// A node with a colon is taken for an IPv6 address.
fn push_node(out: &mut Vec<u8>, node: &[u8]) {
    let is_ipv6 = node.contains(&b':');
    if is_ipv6 {
        out.extend_from_slice(b"\"[");
    }
    out.extend_from_slice(node);
    if is_ipv6 {
        out.extend_from_slice(b"]\"");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[track_caller]
    fn check(nodes: &str, host: &str, proto: &str, expected: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in [(X_FORWARDED_FOR, nodes), (X_FORWARDED_HOST, host), (X_FORWARDED_PROTO, proto)] {
            if !value.is_empty() {
                headers.insert(name, value.parse().unwrap());
            }
        }
        add_forwarded(&mut headers);
        let forwarded = headers.get(header::FORWARDED).map_or("", |value| value.to_str().unwrap());
        assert_eq!(forwarded, expected, "{nodes:?} {host:?} {proto:?}");
    }

    #[test]
    fn the_first_node_carries_host_and_protocol() {
        check("10.0.0.1", "", "", "for=10.0.0.1");
        check(
            "10.0.0.1,10.0.0.2 , 10.0.0.3",
            "h",
            "https",
            "for=10.0.0.1;host=h;proto=https, for=10.0.0.2, for=10.0.0.3",
        );
        check("", "h", "", "host=h");
        check("", "", "", "");
    }

    #[test]
    fn addresses_with_colons_are_quoted_in_brackets() {
        check("2001:db8::1, 10.0.0.1", "", "http", "for=\"[2001:db8::1]\";proto=http, for=10.0.0.1");
    }

    #[test]
    fn empty_nodes_stay_but_for_the_one_after_the_last_comma() {
        check("10.0.0.1,", "", "", "for=10.0.0.1");
        check(",10.0.0.1", "h", "p", "for=host=h;proto=p, for=10.0.0.1");
        check(",", "", "p", "for=proto=p");
    }

    #[test]
    fn a_header_that_is_there_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(header::FORWARDED, HeaderValue::from_static("for=a"));
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("10.0.0.1"));
        add_forwarded(&mut headers);
        assert_eq!(headers[header::FORWARDED], "for=a");
    }
}
