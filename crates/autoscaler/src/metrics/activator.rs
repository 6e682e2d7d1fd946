//! What the activator reports of one revision: at once when traffic begins, and then every second until it has been
//! idle for one.
//!
//! # Source
//! `pkg/activator/handler/concurrency_reporter.go` of Knative Serving.

use super::{RequestStats, Stat};
use crate::time::Timestamp;

/// Counts a revision's requests where they arrive. The caller sees to it that one thread uses it at a time.
#[derive(Debug, Clone, Default)]
pub struct ActivatorStats {
    entry: Option<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    stats: RequestStats,
    /// The request that was reported on its arrival and must not be reported again.
    already_reported: f64,
    in_flight: u64,
}

impl ActivatorStats {
    /// A request arrives. If traffic begins with it, returns the stat to record, and to poke with, at once.
    #[must_use = "the first stat of a burst wakes the revision"]
    pub fn request_in(&mut self, now: Timestamp) -> Option<Stat> {
        let first = self.entry.is_none();
        let entry = self.entry.get_or_insert_with(|| Entry {
            stats: RequestStats::new(now),
            already_reported: 1.0,
            in_flight: 0,
        });
        entry.in_flight += 1;
        entry.stats.request_in(now, false);
        first.then(|| Stat { concurrency: 1.0, request_count: 1.0, ..Stat::default() })
    }

    /// A request is answered or given up.
    pub fn request_out(&mut self, now: Timestamp) {
        if let Some(entry) = &mut self.entry {
            entry.stats.request_out(now, false);
            entry.in_flight = entry.in_flight.saturating_sub(1);
        }
    }

    /// Requests in flight, held ones included.
    pub fn in_flight(&self) -> u64 {
        self.entry.as_ref().map_or(0, |entry| entry.in_flight)
    }

    /// Whether there is traffic, or was since the last report: a report is due then.
    pub fn owes_report(&self) -> bool {
        self.entry.is_some()
    }

    /// What passed since the last report, if there is traffic or was until then.
    pub fn report(&mut self, now: Timestamp) -> Option<Stat> {
        let entry = self.entry.as_mut()?;
        let report = entry.stats.report(now);
        let already_reported = std::mem::take(&mut entry.already_reported);
        if report.concurrency == 0.0 && entry.in_flight == 0 {
            self.entry = None;
        }
        Some(Stat {
            concurrency: (report.concurrency - already_reported).max(0.0),
            request_count: report.request_count - already_reported,
            ..Stat::default()
        })
    }

    /// What one second of a revision comes to where no instance reports apart from the activator: the activator's
    /// report or, if there is no traffic but `scraped` instances would have said so, a zero.
    pub fn report_second(&mut self, now: Timestamp, scraped: bool) -> Option<Stat> {
        self.report(now).or(scraped.then(Stat::default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    fn stat(concurrency: f64, request_count: f64) -> Option<Stat> {
        Some(Stat { concurrency, request_count, ..Stat::default() })
    }

    #[test]
    fn the_first_request_is_reported_at_once_and_only_once() {
        let mut stats = ActivatorStats::default();
        assert_eq!(stats.request_in(at(0)), stat(1.0, 1.0));
        assert_eq!(stats.request_in(at(0)), None);
        assert_eq!(stats.report(at(1000)), stat(1.0, 1.0));
        assert_eq!(stats.report(at(2000)), stat(2.0, 0.0));
        assert_eq!(stats.in_flight(), 2);
    }

    #[test]
    fn a_short_first_request_reports_no_negative_concurrency() {
        let mut stats = ActivatorStats::default();
        assert_eq!(stats.request_in(at(0)), stat(1.0, 1.0));
        stats.request_out(at(100));
        assert_eq!(stats.report(at(1000)), stat(0.0, 0.0));
    }

    #[test]
    fn an_idle_second_is_reported_once_and_the_next_request_is_a_first_again() {
        let mut stats = ActivatorStats::default();
        assert!(stats.request_in(at(0)).is_some());
        stats.request_out(at(1));
        assert_eq!(stats.report(at(1)), stat(0.0, 0.0));
        assert_eq!(stats.report(at(2)), stat(0.0, 0.0));
        assert_eq!(stats.report(at(3)), None);
        assert_eq!(stats.request_in(at(3)), stat(1.0, 1.0));
    }

    #[test]
    fn a_request_on_the_very_instant_of_a_report_is_not_forgotten() {
        let mut stats = ActivatorStats::default();
        assert!(stats.request_in(at(0)).is_some());
        assert_eq!(stats.report(at(0)), stat(0.0, 0.0));
        assert_eq!(stats.report(at(1000)), stat(1.0, 0.0));
    }

    #[test]
    fn scraped_instances_report_idleness() {
        let mut stats = ActivatorStats::default();
        assert_eq!(stats.report_second(at(0), true), stat(0.0, 0.0));
        assert_eq!(stats.report_second(at(0), false), None);
        assert!(stats.request_in(at(0)).is_some());
        assert_eq!(stats.report_second(at(1000), true), stat(0.0, 0.0));
        assert_eq!(stats.report_second(at(2000), true), stat(1.0, 0.0));
    }
}
