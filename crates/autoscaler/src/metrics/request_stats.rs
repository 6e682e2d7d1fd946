//! A meter of requests in flight: their time-weighted mean since the last report.
//!
//! # Source
//! `pkg/http/stats` of knative.dev/networking.

use super::Stat;
use crate::go::NANOS_PER_SECOND;
use crate::time::Timestamp;

/// What a meter reports of the time since its last report.
pub type RequestReport = Stat;

/// Measures one stream of requests. The caller sees to it that one thread uses it at a time; every call is a few
/// additions.
#[derive(Debug, Clone)]
pub struct RequestStats {
    concurrency: f64,
    proxied_concurrency: f64,
    last_change: Timestamp,
    request_count: f64,
    proxied_count: f64,
    /// Request-seconds.
    weighted_concurrency: f64,
    weighted_proxied: f64,
    seconds: f64,
}

impl RequestStats {
    /// A meter that begins at a time.
    pub fn new(started_at: Timestamp) -> Self {
        Self {
            concurrency: 0.0,
            proxied_concurrency: 0.0,
            last_change: started_at,
            request_count: 0.0,
            proxied_count: 0.0,
            weighted_concurrency: 0.0,
            weighted_proxied: 0.0,
            seconds: 0.0,
        }
    }

    /// A request arrives; `proxied` if through an activator.
    pub fn request_in(&mut self, now: Timestamp, proxied: bool) {
        self.advance(now);
        self.concurrency += 1.0;
        self.request_count += 1.0;
        if proxied {
            self.proxied_concurrency += 1.0;
            self.proxied_count += 1.0;
        }
    }

    /// A request is done; `proxied` as at its arrival.
    pub fn request_out(&mut self, now: Timestamp, proxied: bool) {
        self.advance(now);
        self.concurrency -= 1.0;
        if proxied {
            self.proxied_concurrency -= 1.0;
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> f64 {
        self.concurrency
    }

    /// The means and counts since the last report, which they begin anew.
    pub fn report(&mut self, now: Timestamp) -> RequestReport {
        self.advance(now);
        let mean = |weighted: f64| if self.seconds > 0.0 { weighted / self.seconds } else { 0.0 };
        let report = RequestReport {
            concurrency: mean(self.weighted_concurrency),
            proxied_concurrency: mean(self.weighted_proxied),
            request_count: self.request_count,
            proxied_count: self.proxied_count,
        };
        (self.request_count, self.proxied_count) = (0.0, 0.0);
        (self.weighted_concurrency, self.weighted_proxied, self.seconds) = (0.0, 0.0, 0.0);
        report
    }

    /// Weighs the present concurrency by the time it lasted. Threads may bring their times out of order; a step back
    /// counts as none.
    fn advance(&mut self, now: Timestamp) {
        let nanos = now.unix_nanos() - self.last_change.unix_nanos();
        if nanos > 0 {
            let seconds =
                (nanos / NANOS_PER_SECOND) as f64 + (nanos % NANOS_PER_SECOND) as f64 / NANOS_PER_SECOND as f64;
            self.seconds += seconds;
            self.weighted_concurrency += self.concurrency * seconds;
            self.weighted_proxied += self.proxied_concurrency * seconds;
            self.last_change = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    #[track_caller]
    fn check(report: RequestReport, concurrency: f64, request_count: f64) {
        assert_eq!(report, Stat { concurrency, request_count, ..Stat::default() });
    }

    #[test]
    fn concurrency_is_weighted_by_time() {
        let mut stats = RequestStats::new(at(0));
        stats.request_in(at(0), false);
        stats.request_in(at(250), false);
        stats.request_out(at(500), false);
        check(stats.report(at(1000)), 1.25, 2.0);
        check(stats.report(at(2000)), 1.0, 0.0);
        assert_eq!(stats.in_flight(), 1.0);
        stats.request_out(at(2500), false);
        check(stats.report(at(3000)), 0.5, 0.0);
        check(stats.report(at(4000)), 0.0, 0.0);
    }

    #[test]
    fn proxied_requests_are_also_counted_apart() {
        let mut stats = RequestStats::new(at(0));
        stats.request_in(at(0), true);
        stats.request_in(at(500), false);
        stats.request_out(at(500), true);
        let report = stats.report(at(1000));
        let expected = Stat { concurrency: 1.0, proxied_concurrency: 0.5, request_count: 2.0, proxied_count: 1.0 };
        assert_eq!(report, expected);
    }

    #[test]
    fn a_step_back_in_time_counts_as_none() {
        let mut stats = RequestStats::new(at(500));
        stats.request_in(at(500), false);
        stats.request_in(at(400), false);
        check(stats.report(at(500)), 0.0, 2.0);
        check(stats.report(at(1000)), 2.0, 0.0);
    }
}
