//! Traffic, hosts and rollouts.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use serving::config::{Config, DomainConfig};
use serving::host::VISIBILITY_LABEL;
use serving::resource::{ObjectMeta, TrafficTarget};
use serving::revision::Readiness;
use serving::rollout::Rollout;
use serving::routing::{Routing, Visibility};
use serving::traffic::{ConfigurationView, Lookup, RevisionView, Traffic};
use serving::validation::{TargetContext, validate_route, validate_traffic_target};

use crate::{Data, replay, same};

#[test]
fn traffic_targets_are_refused_alike() {
    #[derive(Deserialize)]
    struct Vector {
        context: String,
        target: TrafficTarget,
        expect_error: String,
    }

    replay("validate_traffic_target", |vector: Vector| {
        let context = TargetContext {
            in_spec: vector.context.contains("spec"),
            in_status: vector.context.contains("status"),
            in_service: vector.context.contains("service"),
        };
        same("error", validate_traffic_target(&vector.target, context).to_string(), vector.expect_error)
    });
}

#[test]
fn routes_are_refused_alike() {
    #[derive(Deserialize)]
    struct Vector {
        name: String,
        annotations: Option<Data>,
        traffic: Vec<TrafficTarget>,
        expect_error: String,
    }

    replay("validate_route", |vector: Vector| {
        let metadata = ObjectMeta {
            name: vector.name,
            annotations: vector.annotations.unwrap_or_default(),
            ..ObjectMeta::default()
        };
        same("error", validate_route(&metadata, &vector.traffic).to_string(), vector.expect_error)
    });
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    name: String,
    latest_ready: String,
    ready: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Revision {
    name: String,
    config: String,
    service: String,
    ready: String,
}

struct Namespace {
    configurations: Vec<Configuration>,
    revisions: Vec<(Revision, Readiness)>,
}

impl Lookup for Namespace {
    fn configuration(&self, name: &str) -> Option<ConfigurationView<'_>> {
        let found = self.configurations.iter().find(|configuration| configuration.name == name)?;
        Some(ConfigurationView {
            latest_ready: Some(found.latest_ready.as_str()).filter(|name| !name.is_empty()),
            is_failed: found.ready == "False",
        })
    }

    fn revision(&self, name: &str) -> Option<RevisionView<'_>> {
        let (found, readiness) = self.revisions.iter().find(|(revision, _)| revision.name == name)?;
        Some(RevisionView { service: found.service.as_str().into(), configuration: &found.config, readiness })
    }
}

fn with_readiness(revision: Revision) -> (Revision, Readiness) {
    let readiness = match revision.ready.as_str() {
        "True" => Readiness::Ready,
        "False" => Readiness::Failed { message: String::new() },
        _ => Readiness::Unknown,
    };
    (revision, readiness)
}

#[test]
fn traffic_is_routed_alike() {
    #[derive(Deserialize)]
    struct Vector {
        route: String,
        route_labels: Option<Data>,
        #[serde(default)]
        cluster_local: bool,
        spec_traffic: Vec<TrafficTarget>,
        configurations: Vec<Configuration>,
        revisions: Vec<Revision>,
        tag_header_based_routing: bool,
        expect_error: String,
        expect_is_failure: Option<bool>,
        expect_rules: Option<Value>,
        expect_status_traffic: Option<Value>,
    }

    replay("traffic", |vector: Vector| {
        let (namespace, name) = vector.route.split_once('/').ok_or("no namespace")?;
        let mut route = ObjectMeta::named(namespace, name);
        route.labels = vector.route_labels.unwrap_or_default();
        let service = route.labels.get("serving.knative.dev/service").cloned();
        if vector.cluster_local {
            route.labels.insert(VISIBILITY_LABEL.to_owned(), "cluster-local".to_owned());
        }
        let mut config = Config { domain: DomainConfig::single("example.com"), ..Config::default() };
        if vector.tag_header_based_routing {
            let data = [("tag-header-based-routing".to_owned(), "enabled".to_owned())].into();
            config.set("config-features", &data).map_err(|error| error.to_string())?;
        }
        let lookup = Namespace {
            configurations: vector.configurations,
            revisions: vector.revisions.into_iter().map(with_readiness).collect(),
        };

        let resolved = Traffic::resolve(&vector.spec_traffic, service.as_deref(), &lookup);
        let error = resolved.as_ref().err();
        same("error", error.map(ToString::to_string).unwrap_or_default(), vector.expect_error)?;
        same("is_failure", error.map(|error| error.is_failure()), vector.expect_is_failure)?;
        let Ok(traffic) = resolved else { return Ok(()) };
        let rollout = traffic.rollout();
        let status = traffic.status(&rollout, &route, &config).map_err(|error| error.to_string())?;
        same("status", json!(status), vector.expect_status_traffic.unwrap_or_default())?;
        let routing = Routing::new(&route, &traffic, &rollout, &config).map_err(|error| error.to_string())?;
        same("rules", rules(&routing), flat_matches(vector.expect_rules.unwrap_or_default()))
    });
}

/// Writes a header's match as its value, also where a vector says `{"exact": value}`.
fn flat_matches(mut rules: Value) -> Value {
    for rule in rules.as_array_mut().into_iter().flatten() {
        for path in rule.get_mut("paths").and_then(Value::as_array_mut).into_iter().flatten() {
            for value in
                path.get_mut("match_headers").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
            {
                if let Some(exact) = value.as_object().and_then(|value| value.values().next().cloned()) {
                    *value = exact;
                }
            }
        }
    }
    rules
}

fn rules(routing: &Routing) -> Value {
    let rules = routing.rules().iter().map(|rule| {
        let paths = rule.paths.iter().map(|path| {
            let splits = path.splits.iter().map(|split| {
                json!({
                    "revision": split.revision,
                    "percent": split.percent,
                    "append_headers": split.append_headers,
                })
            });
            json!({
                "match_headers": path.match_headers,
                "append_headers": Some(&path.append_headers).filter(|headers| !headers.is_empty()),
                "splits": splits.collect::<Vec<_>>(),
            })
        });
        json!({
            "hosts": rule.hosts,
            "visibility": match rule.visibility {
                Visibility::ClusterLocal => "ClusterLocal",
                Visibility::ExternalIp => "ExternalIP",
            },
            "paths": paths.collect::<Vec<_>>(),
        })
    });
    rules.collect()
}

#[test]
fn rollouts_step_alike() {
    #[derive(Deserialize)]
    struct Vector {
        cur: Rollout,
        prev: Option<Rollout>,
        now_ns: i64,
        expect: Rollout,
        expect_next_step_ns: i64,
    }

    replay("rollout_step", |vector: Vector| {
        let (next, wake) = vector.cur.step(&vector.prev.unwrap_or_default(), vector.now_ns);
        same("rollout", next, vector.expect)?;
        same("next step", wake.unwrap_or(0), vector.expect_next_step_ns)
    });
}

#[test]
fn rollouts_are_planned_alike() {
    #[derive(Deserialize)]
    struct Vector {
        #[serde(rename = "in")]
        before: Rollout,
        now_ns: i64,
        duration_s: f64,
        expect: Rollout,
    }

    replay("rollout_observe_ready", |vector: Vector| {
        let mut rollout = vector.before;
        rollout.observe_ready(vector.now_ns, vector.duration_s);
        same("rollout", rollout, vector.expect)
    });
}
