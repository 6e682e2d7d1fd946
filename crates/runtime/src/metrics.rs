//! What revisions have seen, and all of it as Prometheus reads it.
//!
//! Names are those of Knative's instruments and of OpenTelemetry's conventions as Prometheus spells them; what neither
//! has begins with `fovea_`.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::functions::{RevisionStatus, Status};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Upper bounds in seconds: OpenTelemetry's for HTTP requests, and some below, where a function wakes.
const BUCKETS: [f64; 18] =
    [0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// What one revision has answered.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    durations: Mutex<BTreeMap<u16, Histogram>>,
    requests: AtomicU64,
    failures: AtomicU64,
    cold_starts: AtomicU64,
    last_cold_start_ns: AtomicU64,
}

impl Counters {
    /// A request has been answered.
    pub(crate) fn answered(&self, status: u16, took: Duration, cold_start: Option<Duration>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if status >= 500 {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(cold_start) = cold_start {
            self.cold_starts.fetch_add(1, Ordering::Relaxed);
            let nanos = u64::try_from(cold_start.as_nanos()).unwrap_or(u64::MAX);
            self.last_cold_start_ns.store(nanos.max(1), Ordering::Relaxed);
        }
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        durations.entry(status).or_insert_with(|| Histogram::new(BUCKETS)).observe(took.as_secs_f64());
    }

    /// Writes the totals into a status.
    pub(crate) fn tell(&self, status: &mut RevisionStatus) {
        status.requests = self.requests.load(Ordering::Relaxed);
        status.failures = self.failures.load(Ordering::Relaxed);
        status.cold_starts = self.cold_starts.load(Ordering::Relaxed);
        let nanos = self.last_cold_start_ns.load(Ordering::Relaxed);
        status.last_cold_start_ms = (nanos > 0).then_some(nanos as f64 / 1e6);
    }

    fn durations(&self) -> BTreeMap<u16, Histogram> {
        self.durations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Everything at one moment, to be written out.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) status: Status,
    /// Of each revision, by namespace and name.
    pub(crate) durations: BTreeMap<(String, String), BTreeMap<u16, Histogram>>,
}

impl Scrape {
    pub(crate) fn add(&mut self, namespace: &str, revision: &str, counters: &Counters) {
        self.durations.insert((namespace.to_owned(), revision.to_owned()), counters.durations());
    }

    /// As Prometheus reads it.
    pub(crate) fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

type Labels<'a> = [(&'static str, &'a str); 4];

/// A gauge of a revision: name, help, value.
type GaugeOf = (&'static str, &'static str, fn(&RevisionStatus) -> f64);

const GAUGES: [GaugeOf; 12] = [
    ("kn_revision_pods_desired", "Instances the autoscaler wants", |r| f64::from(r.desired)),
    ("kn_revision_pods_count", "Instances that take requests", |r| f64::from(r.ready)),
    ("kn_revision_pods_terminating_count", "Instances that finish their last requests", |r| f64::from(r.draining)),
    ("kn_revision_concurrency_stable", "Mean requests in flight over the stable window", |r| r.stable_concurrency),
    ("kn_revision_concurrency_panic", "Mean requests in flight over the panic window", |r| r.panic_concurrency),
    ("kn_revision_concurrency_target", "Requests in flight that an instance should have", |r| r.target_concurrency),
    ("kn_revision_panic_mode", "1 while the revision never scales down", |r| f64::from(u8::from(r.panicking))),
    ("kn_revision_capacity_excess", "Requests that would find room beyond the burst capacity", |r| {
        f64::from(r.excess_burst_capacity)
    }),
    ("kn_revision_request_concurrency", "Requests in flight", |r| (r.running + r.waiting) as f64),
    ("kn_serving_queue_depth", "Requests that wait for a place", |r| r.waiting as f64),
    ("fovea_revision_reachable", "1 if a route leads to the revision", |r| f64::from(u8::from(r.reachable))),
    ("fovea_last_cold_start_seconds", "Wait of the latest request that met no instance", |r| {
        r.last_cold_start_ms.unwrap_or_default() / 1e3
    }),
];

impl Scrape {
    fn revisions(&self) -> impl Iterator<Item = (Labels<'_>, &RevisionStatus)> {
        self.status.services.iter().flat_map(|service| {
            service.revisions.iter().map(move |revision| {
                let labels = [
                    ("k8s_namespace_name", service.namespace.as_str()),
                    ("kn_service_name", service.name.as_str()),
                    ("kn_configuration_name", service.name.as_str()),
                    ("kn_revision_name", revision.name.as_str()),
                ];
                (labels, revision)
            })
        })
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, value) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, revision) in self.revisions() {
                ConstGauge::new(value(revision)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "fovea_cold_starts",
            "Requests that met no instance",
            None,
            MetricType::Counter,
        )?;
        for (labels, revision) in self.revisions() {
            ConstCounter::new(revision.cold_starts).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "http_server_request_duration",
            "From a request's head to its answer's head",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (labels, _) in self.revisions() {
            let [(_, namespace), .., (_, revision)] = labels;
            let Some(durations) = self.durations.get(&(namespace.to_owned(), revision.to_owned())) else { continue };
            for (status, histogram) in durations {
                let status = status.to_string();
                let labels = [labels.as_slice(), &[("http_response_status_code", status.as_str())]].concat();
                histogram.encode(family.encode_family(&labels.as_slice())?)?;
            }
        }
        ConstGauge::new(self.status.resident_bytes as f64).encode(encoder.encode_descriptor(
            "process_resident_memory",
            "Resident memory",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?)
    }
}
