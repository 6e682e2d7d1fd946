//! Windows and meters.

use std::collections::BTreeMap;
use std::time::Duration;

use autoscaler::decider::{MaxTimeWindow, MaxWindow};
use autoscaler::metrics::{
    ActivatorStats, Aggregation, Buckets, Collector, MetricSpec, Reading, RequestStats, ScalingMetric, Stat,
};
use autoscaler::time::Timestamp;
use serde_json::Value;

use crate::data::{Differences, each_vector};
use crate::parse::{after, boolean, float, int, list, seconds, text};

/// What the averages of single windows may differ by.
const AVERAGE_TOLERANCE: f64 = 1e-12;

#[test]
fn windows_average_alike() {
    each_vector("buckets", |data| {
        let mut differences = Differences::default();
        let granularity = int::<i64>(&data["granularity_s"]);
        let length = |seconds: &Value| u32::try_from((int::<i64>(seconds) + granularity - 1) / granularity).unwrap();
        let base = int::<i64>(&data["base_unix_s"]) * 1000;
        let bucket = |millis: &Value| after(base, millis).unix_seconds().div_euclid(granularity);
        let aggregation =
            if boolean(&data["weighted"]) { Aggregation::WeightedExponential } else { Aggregation::Linear };
        let mut buckets = Buckets::new(length(&data["window_s"]), aggregation);
        for (index, op) in list(&data["ops"]).iter().enumerate() {
            let what = format!("op {index} {op}");
            match text(&op[0]) {
                "record" => buckets.record(bucket(&op[1]), float(&op[2])),
                "resize" => buckets.resize(length(&op[2]), bucket(&op[1])),
                "is_empty" => differences.check(&what, buckets.is_empty(bucket(&op[1])), boolean(&op[2])),
                "average" => {
                    let average = buckets.average(bucket(&op[1]));
                    differences.check_float(&what, average, float(&op[2]), AVERAGE_TOLERANCE);
                }
                other => panic!("{other} is no operation"),
            }
        }
        differences
    });
}

#[test]
fn scale_down_is_delayed_alike() {
    each_vector("delay_window", |data| {
        let mut differences = Differences::default();
        let mut window = MaxTimeWindow::new(seconds(&data["window_s"]), int(&data["granularity_s"]));
        for record in list(&data["record_t_ms_value_then_current"]) {
            let now = after(int::<i64>(&data["base_unix_s"]) * 1000, &record[0]);
            let current = window.record(now, int(&record[1]));
            differences.check(&record.to_string(), current, int(&record[2]));
        }
        differences
    });
}

#[test]
fn sliding_maxima_are_alike() {
    each_vector("max_window", |data| {
        let mut differences = Differences::default();
        let mut window = MaxWindow::new(int(&data["size"]));
        let records = list(&data["indexes"]).iter().zip(list(&data["values"])).zip(list(&data["expect_current"]));
        for ((index, value), expected) in records {
            window.record(int(index), int(value));
            differences.check(&format!("{value} at {index}"), window.current(), Some(int(expected)));
        }
        differences
    });
}

#[test]
fn sliding_maxima_over_time_are_alike() {
    each_vector("max_time_window", |data| {
        let mut differences = Differences::default();
        let mut window = MaxTimeWindow::new(seconds(&data["window_s"]), int(&data["granularity_s"]));
        let mut current = None;
        for record in list(&data["records"]) {
            let now = after(int(&data["base_unix_ms"]), &record["t_ms"]);
            current = Some(window.record(now, int(&record["value"])));
        }
        differences.check("maximum", current, Some(int(&data["expect_current"])));
        differences
    });
}

#[test]
fn collectors_read_alike() {
    each_vector("collector", |data| {
        let mut differences = Differences::default();
        let mut collector = Collector::default();
        for (index, op) in list(&data["ops"]).iter().enumerate() {
            let what = format!("op {index} {op}");
            match text(&op[0]) {
                "create" => {
                    let spec = MetricSpec {
                        stable_window: seconds(&op[2]),
                        panic_window: seconds(&op[3]),
                        aggregation: Aggregation::Linear,
                        scraped: boolean(&data["scrape_target_set"]),
                    };
                    collector.start(&spec, after(0, &op[1]));
                }
                "delete" => collector.stop(),
                "record" => {
                    let (concurrency, proxied_concurrency) = (float(&op[2]), float(&op[3]));
                    let stat = Stat { concurrency, proxied_concurrency, ..Stat::default() };
                    collector.record(after(0, &op[1]), stat);
                }
                "get" => {
                    let (stable, panic) = (float(&op[2]), float(&op[3]));
                    let expected = match text(&op[4]) {
                        "" => Ok(Reading { stable, panic }),
                        error => Err(error.to_owned()),
                    };
                    let read = collector.read(ScalingMetric::Concurrency, after(0, &op[1]));
                    differences.check(&what, read.map_err(|error| error.to_string()), expected);
                }
                other => panic!("{other} is no operation"),
            }
        }
        differences
    });
}

#[test]
fn requests_are_metered_alike() {
    each_vector("request_stats", |data| {
        let mut differences = Differences::default();
        let mut stats = RequestStats::new(Timestamp::from_unix_millis(0));
        for event in list(&data["events"]) {
            let now = after(0, &event[0]);
            match text(&event[1]) {
                "in" => stats.request_in(now, false),
                "out" => stats.request_out(now, false),
                "pin" => stats.request_in(now, true),
                "pout" => stats.request_out(now, true),
                "report" => {
                    let expected = Stat {
                        concurrency: float(&event[2]),
                        proxied_concurrency: float(&event[3]),
                        request_count: float(&event[4]),
                        proxied_count: float(&event[5]),
                    };
                    differences.check(&event.to_string(), stats.report(now), expected);
                }
                other => panic!("{other} is no event"),
            }
        }
        differences
    });
}

#[test]
fn activators_report_alike() {
    each_vector("activator_stats", |data| {
        let mut differences = Differences::default();
        let mut revisions: BTreeMap<&str, (ActivatorStats, Vec<Stat>)> = BTreeMap::new();
        for op in list(&data["ops"]) {
            let now = Timestamp::from_unix_millis(0) + Duration::from_millis(int(&op["t_ms"]));
            match text(&op["op"]) {
                "in" => {
                    let (stats, sent) = revisions.entry(text(&op["rev"])).or_default();
                    sent.extend(stats.request_in(now));
                }
                "out" => revisions.entry(text(&op["rev"])).or_default().0.request_out(now),
                "tick" => revisions.values_mut().for_each(|(stats, sent)| sent.extend(stats.report(now))),
                other => panic!("{other} is no operation"),
            }
        }
        let sent = revisions.iter().flat_map(|(name, (_, sent))| sent.iter().map(move |stat| (*name, *stat)));
        let expected = list(&data["expect_stats_sorted_by_rev"]).iter().map(|stat| {
            let concurrency = float(&stat["average_concurrent_requests"]);
            let request_count = float(&stat["request_count"]);
            (text(&stat["rev"]), Stat { concurrency, request_count, ..Stat::default() })
        });
        differences.check("stats", sent.collect::<Vec<_>>(), expected.collect());
        differences
    });
}
