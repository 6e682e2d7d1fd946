//! Requests that ask whether something is there: they are answered here, and never forwarded or counted.
//!
//! Left out: how an instance that starts is found to be ready. Such probes are meant for containers behind a port; here
//! an instance is ready when the control plane says so.
//!
//! # Source
//! `pkg/queue/health/handler.go`, `pkg/activator/handler/probe_handler.go`, knative.dev/pkg `network/handlers/drain.go`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode, header};

use crate::failure::{error, text};

/// Asks a Knative component, by its value.
const PROBE: HeaderName = HeaderName::from_static("k-network-probe");

/// Names the network's configuration; a probe of the network gets it back.
pub(crate) const HASH: HeaderName = HeaderName::from_static("k-network-hash");

/// How user agents that probe an instance begin.
const AGENTS: [&[u8]; 3] = [b"kube-probe/", b"Knative-Activator-Probe", b"Knative-Autoscaling-Probe"];

/// What a probe finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes requests.
    Ready,
    /// It does not take requests yet.
    NotReady,
    /// It takes no more requests.
    ShuttingDown,
}

/// The answer to a probe; `None` if the request is none.
///
/// A probe is what has a probing user agent or any `K-Network-Probe`. Of these, `queue` asks for the health, `probe`
/// (from other agents) wants its `K-Network-Hash` back, `activator` (likewise) is told that this is one.
#[must_use]
pub fn answer(headers: &HeaderMap, health: Health) -> Option<Response<Bytes>> {
    answer_with(headers, || health)
}

/// As [`answer`]; the health is looked up for probes only.
pub(crate) fn answer_with(headers: &HeaderMap, health: impl FnOnce() -> Health) -> Option<Response<Bytes>> {
    let value = headers.get(PROBE).map_or(&b""[..], |value| value.as_bytes());
    let agent = headers.get(header::USER_AGENT).map_or(&b""[..], |agent| agent.as_bytes());
    let is_health_check = AGENTS.iter().any(|prefix| agent.starts_with(prefix));
    if !is_health_check && value.is_empty() {
        return None;
    }
    let health = health();
    if health == Health::ShuttingDown {
        return Some(error(StatusCode::SERVICE_UNAVAILABLE, "shutting down"));
    }
    Some(match value {
        b"queue" if health == Health::Ready => text(StatusCode::OK, Bytes::from_static(b"queue")),
        b"queue" => empty(StatusCode::SERVICE_UNAVAILABLE),
        b"probe" if !is_health_check => echo(headers),
        b"activator" if !is_health_check => text(StatusCode::OK, Bytes::from_static(b"activator")),
        _ => {
            let value = String::from_utf8_lossy(value);
            error(StatusCode::BAD_REQUEST, &format!("unexpected probe header value: {value}"))
        }
    })
}

fn echo(headers: &HeaderMap) -> Response<Bytes> {
    match headers.get(HASH) {
        Some(hash) if !hash.is_empty() => {
            let mut response = empty(StatusCode::OK);
            response.headers_mut().insert(HASH, hash.clone());
            response
        }
        _ => error(StatusCode::BAD_REQUEST, "a probe request must contain a non-empty \"K-Network-Hash\" header"),
    }
}

fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[track_caller]
    fn check(lines: &[(&'static str, &str)], health: Health, status: u16, body: &str) {
        let answer = answer(&headers(lines), health).expect("a probe is answered");
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (status, body.as_bytes()), "{lines:?} {health:?}");
    }

    #[test]
    fn requests_of_people_are_no_probes() {
        for lines in [
            &[][..],
            &[("user-agent", "curl/8.5.0")],
            &[("user-agent", "not kube-probe/1.29")],
            &[("k-network-hash", "abc")],
            &[("k-network-probe", "")],
        ] {
            for health in [Health::Ready, Health::NotReady, Health::ShuttingDown] {
                assert!(answer(&headers(lines), health).is_none(), "{lines:?} {health:?}");
            }
        }
    }

    #[test]
    fn health_checks_tell_the_health() {
        for agent in ["kube-probe/1.29", "Knative-Activator-Probe", "Knative-Autoscaling-Probe", "curl/8.5.0"] {
            let lines = [("user-agent", agent), ("k-network-probe", "queue")];
            check(&lines, Health::Ready, 200, "queue");
            check(&lines, Health::NotReady, 503, "");
            check(&lines, Health::ShuttingDown, 503, "shutting down\n");
        }
    }

    #[test]
    fn other_values_are_refused_and_named() {
        check(&[("k-network-probe", "nonsense")], Health::Ready, 400, "unexpected probe header value: nonsense\n");
        check(&[("user-agent", "kube-probe/1.29")], Health::Ready, 400, "unexpected probe header value: \n");
        let agent = ("user-agent", "Knative-Activator-Probe");
        check(&[agent, ("k-network-probe", "probe")], Health::Ready, 400, "unexpected probe header value: probe\n");
        check(&[("user-agent", "kube-probe/1.29")], Health::ShuttingDown, 503, "shutting down\n");
    }

    #[test]
    fn a_probe_of_the_network_gets_its_hash_back() {
        let lines = [("k-network-probe", "probe"), ("k-network-hash", "abc")];
        for health in [Health::Ready, Health::NotReady] {
            let answer = answer(&headers(&lines), health).unwrap();
            assert_eq!((answer.status().as_u16(), &answer.headers()["k-network-hash"]), (200, &"abc".parse().unwrap()));
            assert!(answer.body().is_empty());
        }
        check(&lines, Health::ShuttingDown, 503, "shutting down\n");
        let text = "a probe request must contain a non-empty \"K-Network-Hash\" header\n";
        check(&lines[..1], Health::Ready, 400, text);
        check(&[lines[0], ("k-network-hash", "")], Health::Ready, 400, text);
    }

    #[test]
    fn the_activator_says_its_name() {
        check(&[("k-network-probe", "activator")], Health::NotReady, 200, "activator");
    }
}
