//! Where a request's time went, as `Server-Timing` tells it.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::time::Instant;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Names the revision that answered.
const REVISION: HeaderName = HeaderName::from_static("x-fovea-revision");

/// What an instance tells of a request, as an extension of its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// How long the sandbox took to start.
    pub(crate) sandbox: Duration,
}

/// A request's times, as far as it got.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    /// From zero instances to the first one; `None` if there was one.
    pub(crate) cold_start: Option<Duration>,
    /// Until an instance had a place for it.
    pub(crate) queue: Duration,
    /// Until its sandbox was there; `None` if it met one that was there before.
    pub(crate) sandbox: Option<Duration>,
    /// From its head to its answer's head.
    pub(crate) total: Duration,
}

impl Times {
    /// The answer's head is there: takes what its instance tells, and reports all of it.
    pub(crate) fn end<B>(&mut self, arrived: Instant, revision: &str, response: &mut Response<B>) {
        self.sandbox = response.extensions().get::<Timing>().map(|timing| timing.sandbox);
        self.total = arrived.elapsed();
        self.report(revision, response.headers_mut());
    }

    /// Adds `Server-Timing`, in milliseconds: `cold` (time from zero instances to the first) if the revision had
    /// none, `queue`, `sandbox` if one had to be started, `total`. A function's own entries come before them.
    fn report(&self, revision: &str, headers: &mut HeaderMap) {
        let mut text = String::with_capacity(96);
        let mut add = |name: &str, time: Duration| {
            let separator = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{separator}{name};dur={:.3}", time.as_secs_f64() * 1e3);
        };
        if let Some(cold_start) = self.cold_start {
            add("cold", cold_start);
        }
        add("queue", self.queue);
        if let Some(sandbox) = self.sandbox {
            add("sandbox", sandbox);
        }
        add("total", self.total);
        if let (Ok(revision), Ok(timing)) = (HeaderValue::from_str(revision), HeaderValue::from_str(&text)) {
            headers.insert(REVISION, revision);
            headers.append(SERVER_TIMING, timing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reports(times: Times, expected: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(SERVER_TIMING, HeaderValue::from_static("decode;dur=1"));
        times.report("inference-00001", &mut headers);
        let said: Vec<_> = headers.get_all(SERVER_TIMING).iter().collect();
        assert_eq!(said, ["decode;dur=1", expected]);
        assert_eq!(headers[REVISION], "inference-00001");
    }

    #[test]
    fn what_did_not_happen_is_not_reported() {
        let ms = Duration::from_millis;
        let times = Times { queue: ms(2), total: Duration::from_micros(30_250), ..Times::default() };
        reports(times, "queue;dur=2.000, total;dur=30.250");
        let times = Times { cold_start: Some(ms(1)), sandbox: Some(ms(3)), ..times };
        reports(times, "cold;dur=1.000, queue;dur=2.000, sandbox;dur=3.000, total;dur=30.250");
    }
}
