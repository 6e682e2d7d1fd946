//! Long runs of the decider over its windows, under every shape of load.

use autoscaler::AutoscalerConfig;
use autoscaler::decider::Decider;
use autoscaler::metrics::{Aggregation, Collector, MetricSpec, Stat};
use autoscaler::resolve::{DEFAULT_PROGRESS_DEADLINE, Settings, aggregation_name, metric_name};
use serde_json::Value;

use crate::data::{Differences, each_trace};
use crate::parse::{self, after, annotations, boolean, decider_spec, float, int, list, reachability, seconds, text};

/// What weighted averages may differ by, for Go's power function differs in the last bits.
const WEIGHTED_TOLERANCE: f64 = 1e-9;

#[test]
fn every_tick_of_the_decider_is_alike() {
    each_trace("decider_trace", |trace| {
        let mut replay = Replay::new(trace);
        for event in list(&trace["events"]) {
            replay.event(event);
        }
        replay.differences
    });
}

/// Notes where a tick differs from the recorded `[kind, time, stable, panic, desired, excess, panicking, most]`; of a
/// tick without a decision only the state counts.
pub fn check_tick(
    differences: &mut Differences,
    event: &Value,
    decision: Option<autoscaler::decider::Decision>,
    decider: &Decider,
    aggregation: Aggregation,
) {
    let mut tick = Differences::default();
    tick.check("decides", decision.is_some(), !event[2].is_null());
    if let Some(decision) = decision.filter(|_| !event[2].is_null()) {
        let tolerance = match aggregation {
            Aggregation::Linear => 0.0,
            Aggregation::WeightedExponential => WEIGHTED_TOLERANCE,
        };
        tick.check_float("stable", decision.stable, float(&event[2]), tolerance);
        tick.check_float("panic", decision.panic, float(&event[3]), tolerance);
        tick.check("desired", decision.desired, int(&event[4]));
        tick.check("excess", decision.excess_burst_capacity, int(&event[5]));
    }
    tick.check("panicking", i64::from(decider.panic().since.is_some()), int(&event[6]));
    tick.check("most", decider.panic().max_instances, int(&event[7]));
    differences.within(&format!("tick at {}", event[1]), tick);
}

/// A stat of `[kind, time, concurrency, count]`, with what was proxied of both if there are two more.
pub fn stat(event: &Value) -> Stat {
    let proxied = |index: usize| event.get(index).map_or(0.0, float);
    Stat {
        concurrency: float(&event[2]),
        request_count: float(&event[3]),
        proxied_concurrency: proxied(4),
        proxied_count: proxied(5),
    }
}

struct Replay {
    base_unix_millis: i64,
    container_concurrency: u32,
    decider: Decider,
    collector: Collector,
    metrics: MetricSpec,
    ready: u32,
    differences: Differences,
}

impl Replay {
    fn new(trace: &Value) -> Self {
        let mut differences = Differences::default();
        let container_concurrency = int(&trace["container_concurrency"]);
        let settings = settings(trace, container_concurrency, &mut differences);
        differences.check(
            "aggregation",
            aggregation_name(&annotations(&trace["annotations"])),
            text(&trace["aggregation"]),
        );
        let base_unix_millis = int(&trace["base_unix_ms"]);
        let now = after(base_unix_millis, &Value::from(0));
        let ready = int(&trace["initial_ready"]);
        let mut collector = Collector::default();
        collector.start(&settings.metrics, now);
        Self {
            base_unix_millis,
            container_concurrency,
            decider: Decider::new(settings.decider, ready, now),
            collector,
            metrics: settings.metrics,
            ready,
            differences,
        }
    }

    fn event(&mut self, event: &Value) {
        let now = after(self.base_unix_millis, &event[1]);
        match text(&event[0]) {
            "r" => self.collector.record(now, stat(event)),
            "n" => self.ready = int(&event[2]),
            "u" => {
                let settings = settings(&event[2], self.container_concurrency, &mut self.differences);
                self.decider.set_spec(settings.decider);
                self.collector.start(&settings.metrics, now);
            }
            "t" => {
                let reading = self.collector.read(self.decider.spec().metric, now).ok();
                let decision = reading.map(|reading| self.decider.decide(now, self.ready, reading));
                check_tick(&mut self.differences, event, decision, &self.decider, self.metrics.aggregation);
            }
            other => panic!("{other} is no event"),
        }
    }
}

/// The recorded settings, and where resolving them comes to others.
fn settings(recorded: &Value, container_concurrency: u32, differences: &mut Differences) -> Settings {
    let annotations = annotations(&recorded["annotations"]);
    let config = AutoscalerConfig::from_config_map(&parse::texts(&recorded["config_autoscaler"])).unwrap();
    let reachability = reachability(&recorded["reachability"]);
    let resolved =
        Settings::resolve(&annotations, &config, container_concurrency, DEFAULT_PROGRESS_DEADLINE, reachability);
    let decider = decider_spec(&recorded["decider_spec"]);
    let metrics = MetricSpec {
        stable_window: seconds(&recorded["stable_window_s"]),
        panic_window: seconds(&recorded["panic_window_s"]),
        scraped: boolean(&recorded["scrape_target_set"]),
        ..resolved.metrics
    };
    differences.check("spec", resolved.decider, decider);
    differences.check("metric", metric_name(&annotations), text(&recorded["decider_spec"]["scaling_metric"]));
    differences.check("windows", resolved.metrics, metrics);
    Settings { decider, metrics, ..resolved }
}
