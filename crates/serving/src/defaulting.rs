//! Filling in what a Service leaves open.
//!
//! # Source
//! The `SetDefaults` methods of `pkg/apis/serving/v1` of Knative Serving.

use std::collections::BTreeSet;

use crate::config::{Config, SecurePodDefaults, Template};
use crate::name::child_name;
use crate::resource::{
    Capabilities, Container, ObjectMeta, PodSecurityContext, Probe, RevisionSpec, SeccompProfile, Service,
    TcpSocketAction, TrafficTarget,
};

/// Fills in the defaults of a Service; `stored` is what it replaces.
pub(crate) fn set_defaults(service: &mut Service, stored: Option<&Service>, config: &Config) {
    let name = &service.spec.template.metadata.name;
    // A name that the author brings and keeps stands for the same revision: new defaults must not change it.
    let keeps_name = !name.is_empty() && stored.is_some_and(|stored| stored.spec.template.metadata.name == *name);
    if !keeps_name {
        let defaulting = Defaulting { config, parent: &service.metadata, is_create: stored.is_none() };
        defaulting.fill(&mut service.spec.template.spec);
    }
    set_traffic_defaults(&mut service.spec.traffic);
}

/// Fills in the defaults of the template of a Service that is not new, whatever its name.
pub(crate) fn fill_template(service: &mut Service, config: &Config) {
    let defaulting = Defaulting { config, parent: &service.metadata, is_create: false };
    defaulting.fill(&mut service.spec.template.spec);
}

fn set_traffic_defaults(traffic: &mut Vec<TrafficTarget>) {
    if traffic.is_empty() {
        traffic.push(TrafficTarget::latest(100));
    }
    for target in traffic {
        target.latest_revision = Some(target.is_latest());
        target.percent = Some(target.percent());
    }
}

struct Defaulting<'a> {
    config: &'a Config,
    parent: &'a ObjectMeta,
    is_create: bool,
}

impl Defaulting<'_> {
    fn fill(&self, spec: &mut RevisionSpec) {
        let defaults = &self.config.defaults;
        let timeout = spec.timeout_seconds.filter(|seconds| *seconds != 0).unwrap_or(defaults.revision_timeout_seconds);
        spec.timeout_seconds = Some(timeout);
        let if_shorter = |default: i64| (default != 0 && default < timeout).then_some(default);
        spec.idle_timeout_seconds =
            spec.idle_timeout_seconds.or_else(|| if_shorter(defaults.revision_idle_timeout_seconds));
        spec.response_start_timeout_seconds = spec
            .response_start_timeout_seconds
            .or_else(|| if_shorter(defaults.revision_response_start_timeout_seconds));
        spec.container_concurrency.get_or_insert(defaults.container_concurrency);

        self.name_containers(spec);
        let Some(containers) = &mut spec.containers else { return };
        if self.is_create && !containers.is_empty() && spec.enable_service_links.is_none() {
            spec.enable_service_links = defaults.enable_service_links;
        }
        let only_one = containers.len() == 1;
        let writable: BTreeSet<&str> =
            spec.volumes.iter().filter(|volume| volume.may_be_written()).map(|volume| volume.name.as_str()).collect();
        for container in containers.iter_mut() {
            self.fill_resources(container);
            fill_probes(container, only_one);
            for mount in &mut container.volume_mounts {
                mount.read_only |= !writable.contains(mount.name.as_str());
            }
        }
        let pod_context = spec.security_context.clone().unwrap_or_default();
        for container in containers.iter_mut().chain(&mut spec.init_containers) {
            self.restrict(container, &pod_context);
        }
    }

    fn name_containers(&self, spec: &mut RevisionSpec) {
        let defaults = &self.config.defaults;
        let Some(containers) = &mut spec.containers else { return };
        let taken: BTreeSet<String> =
            containers.iter().chain(&spec.init_containers).map(|container| container.name.clone()).collect();
        // A template that does not fit gives no name, which is refused later on.
        let name = |template: &Template| template.render(self.parent).unwrap_or_default();
        name_unnamed(containers, &taken, &name(&defaults.container_name_template));
        name_unnamed(&mut spec.init_containers, &taken, &name(&defaults.init_container_name_template));
    }

    fn fill_resources(&self, container: &mut Container) {
        let defaults = &self.config.defaults;
        for (target, defaults) in [
            (&mut container.resources.requests, &defaults.resource_requests),
            (&mut container.resources.limits, &defaults.resource_limits),
        ] {
            for (resource, quantity) in defaults {
                target.entry(resource.clone()).or_insert(*quantity);
            }
        }
    }

    /// Takes rights that the container does not ask for, if the cluster wants it so.
    fn restrict(&self, container: &mut Container, pod: &PodSecurityContext) {
        let mode = self.config.features.secure_pod_defaults;
        if !mode.is_on() {
            return;
        }
        let context = container.security_context.get_or_insert_default();
        context.allow_privilege_escalation.get_or_insert(false);
        if pod.seccomp_profile.as_ref().is_none_or(|profile| profile.kind.is_empty()) {
            let profile = context.seccomp_profile.get_or_insert_with(SeccompProfile::default);
            if profile.kind.is_empty() {
                profile.kind = "RuntimeDefault".to_owned();
            }
        }
        if context.capabilities.is_none() {
            let needs_low_port = container.ports.iter().any(|port| port.container_port < 1024);
            let add = if needs_low_port { vec!["NET_BIND_SERVICE".to_owned()] } else { Vec::new() };
            context.capabilities = Some(Capabilities { add, drop: vec!["ALL".to_owned()] });
        }
        if mode == SecurePodDefaults::Enabled && pod.run_as_non_root.is_none() {
            context.run_as_non_root.get_or_insert(true);
        }
    }
}

/// Gives names to containers without one: the default, numbered if there are several or the author uses it himself.
fn name_unnamed(containers: &mut [Container], taken: &BTreeSet<String>, default: &str) {
    let numbered = containers.len() > 1 || taken.contains(default);
    let mut numbers = 0..;
    for container in containers.iter_mut().filter(|container| container.name.is_empty()) {
        container.name = if numbered {
            numbers
                .by_ref()
                .map(|number: u32| child_name(default, &format!("-{number}")))
                .find(|name| !taken.contains(name))
                .unwrap_or_default()
        } else {
            default.to_owned()
        };
    }
}

fn fill_probes(container: &mut Container, only_one: bool) {
    if only_one || !container.ports.is_empty() {
        let probe = container.readiness_probe.get_or_insert_with(Probe::default);
        if probe.tcp_socket.is_none() && probe.http_get.is_none() && probe.exec.is_none() && probe.grpc.is_none() {
            probe.tcp_socket = Some(TcpSocketAction::default());
        }
    }
    let or = |value: &mut i32, default| {
        if *value == 0 {
            *value = default;
        }
    };
    if let Some(probe) = &mut container.readiness_probe {
        or(&mut probe.success_threshold, 1);
        if probe.period_seconds != 0 {
            or(&mut probe.failure_threshold, 3);
            or(&mut probe.timeout_seconds, 1);
        }
    }
    for probe in [&mut container.readiness_probe, &mut container.liveness_probe, &mut container.startup_probe] {
        if let Some(action) = probe.as_mut().and_then(|probe| probe.grpc.as_mut()) {
            action.service.get_or_insert_default();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::{Value, json};

    use super::*;
    use crate::manifest::decode;

    fn service(pod: &Value) -> Service {
        decode(json!({"metadata": {"name": "hello"}, "spec": {"template": {"spec": pod}}})).unwrap()
    }

    fn config(name: &str, data: &[(&str, &str)]) -> Config {
        let mut config = Config::default();
        config.set(name, &data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()).unwrap();
        config
    }

    /// Checks a field of a pod, by its pointer, after defaulting.
    #[track_caller]
    fn check(config: &Config, pod: Value, pointer: &str, wanted: Value) {
        let mut service = service(&pod);
        set_defaults(&mut service, None, config);
        let pod = serde_json::to_value(service.spec.template.spec).unwrap();
        assert_eq!(pod.pointer(pointer).unwrap_or(&Value::Null), &wanted);
    }

    #[test]
    fn shorter_timeouts_are_filled_in_only_if_they_are_shorter() {
        let config = config("config-defaults", &[("revision-idle-timeout-seconds", "60")]);
        check(&config, json!({}), "/timeoutSeconds", json!(300));
        check(&config, json!({}), "/idleTimeoutSeconds", json!(60));
        check(&config, json!({"timeoutSeconds": 60}), "/idleTimeoutSeconds", Value::Null);
        check(&config, json!({"timeoutSeconds": 301}), "/responseStartTimeoutSeconds", json!(300));
        check(&config, json!({"timeoutSeconds": 300}), "/responseStartTimeoutSeconds", Value::Null);
        check(&config, json!({"idleTimeoutSeconds": 0}), "/idleTimeoutSeconds", json!(0));
    }

    #[test]
    fn containers_without_a_name_get_one_that_is_free() {
        let names = |pod: Value| {
            let mut service = service(&pod);
            set_defaults(&mut service, None, &Config::default());
            let spec = service.spec.template.spec;
            spec.containers().iter().chain(&spec.init_containers).map(|c| c.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(json!({"containers": [{}]})), ["user-container"]);
        assert_eq!(
            names(json!({"containers": [{}, {"name": "user-container-1"}, {}], "initContainers": [{}]})),
            ["user-container-0", "user-container-1", "user-container-2", "init-container"]
        );
        assert_eq!(
            names(json!({"containers": [{}], "initContainers": [{"name": "user-container"}]})),
            ["user-container-0", "user-container"]
        );
        let config = config("config-defaults", &[("container-name-template", "{{.Name}}-fn")]);
        check(&config, json!({"containers": [{}]}), "/containers/0/name", json!("hello-fn"));
    }

    #[test]
    fn resources_are_added_where_none_are_asked_for() {
        let config = config("config-defaults", &[("revision-memory-limit", "64Mi"), ("revision-cpu-request", "0.1")]);
        let pod = json!({"containers": [{"resources": {"limits": {"memory": "1Gi", "cpu": 2}}}]});
        check(
            &config,
            pod,
            "/containers/0/resources",
            json!({"limits": {"memory": "1Gi", "cpu": "2"}, "requests": {"cpu": "100m"}}),
        );
    }

    #[test]
    fn the_container_that_takes_requests_gets_a_readiness_probe() {
        let default = Config::default();
        let tcp = json!({"successThreshold": 1, "tcpSocket": {"port": 0}});
        check(&default, json!({"containers": [{}]}), "/containers/0/readinessProbe", tcp.clone());
        let two = json!({"containers": [{"ports": [{"containerPort": 1}]}, {}]});
        check(&default, two.clone(), "/containers/0/readinessProbe", tcp);
        check(&default, two, "/containers/1/readinessProbe", Value::Null);
        check(
            &default,
            json!({"containers": [{"readinessProbe": {"grpc": {"port": 5}, "periodSeconds": 2}}]}),
            "/containers/0/readinessProbe",
            json!({
                "grpc": {"port": 5, "service": ""}, "periodSeconds": 2,
                "successThreshold": 1, "failureThreshold": 3, "timeoutSeconds": 1,
            }),
        );
    }

    #[test]
    fn mounts_are_read_only_unless_their_volume_may_be_written() {
        let pod = json!({
            "containers": [{"volumeMounts": [{"name": "claim"}, {"name": "secret"}]}],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {}}, {"name": "secret", "secret": {}}],
        });
        check(&Config::default(), pod.clone(), "/containers/0/volumeMounts/0/readOnly", Value::Null);
        check(&Config::default(), pod, "/containers/0/volumeMounts/1/readOnly", json!(true));
    }

    #[test]
    fn containers_get_few_rights_if_the_cluster_wants_it_so() {
        let pointer = "/containers/0/securityContext";
        let pod = json!({"containers": [{"ports": [{"containerPort": 80}]}]});
        check(&Config::default(), pod.clone(), pointer, Value::Null);
        let few = json!({
            "allowPrivilegeEscalation": false,
            "seccompProfile": {"type": "RuntimeDefault"},
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
        });
        let bounded = config("config-features", &[("secure-pod-defaults", "AllowRootBounded")]);
        check(&bounded, pod.clone(), pointer, few.clone());
        let mut fewest = few;
        fewest["runAsNonRoot"] = json!(true);
        check(&config("config-features", &[("secure-pod-defaults", "Enabled")]), pod, pointer, fewest);
    }

    #[test]
    fn service_links_are_decided_once() {
        let config = config("config-defaults", &[("enable-service-links", "true")]);
        check(&config, json!({"containers": [{}]}), "/enableServiceLinks", json!(true));
        check(&config, json!({}), "/enableServiceLinks", Value::Null);
        let stored = service(&json!({"containers": [{}]}));
        let mut changed = stored.clone();
        set_defaults(&mut changed, Some(&stored), &config);
        assert_eq!(changed.spec.template.spec.enable_service_links, None);
    }

    #[test]
    fn a_kept_name_keeps_the_template_as_it_is() {
        let mut stored = service(&json!({"containers": [{}]}));
        stored.spec.template.metadata.name = "hello-one".to_owned();
        let mut changed = stored.clone();
        set_defaults(&mut changed, Some(&stored), &Config::default());
        assert_eq!(changed.spec.template, stored.spec.template);
        assert_eq!(changed.spec.traffic, [TrafficTarget::latest(100)]);
    }

    #[test]
    fn targets_follow_the_latest_revision_unless_they_name_one() {
        let mut traffic = vec![
            TrafficTarget { percent: Some(100), ..TrafficTarget::default() },
            TrafficTarget {
                revision_name: "hello-00001".to_owned(),
                tag: "old".to_owned(),
                ..TrafficTarget::default()
            },
        ];
        set_traffic_defaults(&mut traffic);
        assert_eq!(traffic, [TrafficTarget::latest(100), TrafficTarget::pinned("hello-00001", 0).tagged("old")]);
    }
}
