//! One table row a rule, in the words of the webhook.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod container;
mod volume;

use crate::admission::default_new;
use crate::config::Config;
use crate::manifest::Manifests;
use crate::resource::Service;
use crate::validation::validate_service;

const LABEL: &str = "[a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
     alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
     validation is '[a-z]([-a-z0-9]*[a-z0-9])?')]";

fn config(features: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    let data = features.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    config.set("config-features", &data).unwrap();
    config
}

/// A Service of which `metadata` and `spec` are given in YAML.
fn service(metadata: &str, spec: &str) -> Service {
    let text = format!("{{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {metadata}, spec: {spec}}}");
    Manifests::parse("test", &text).unwrap().services.remove(0).service
}

#[track_caller]
fn check_service(config: &Config, metadata: &str, spec: &str, wanted: &[&str]) {
    let service = default_new(service(metadata, spec), config, None);
    let errors = validate_service(&service, config).to_string();
    assert_eq!(errors, wanted.join("\n").replace("$POD", "spec.template.spec").replace("$LABEL", LABEL));
}

/// Checks the spec of a template.
#[track_caller]
fn check_pod(config: &Config, pod: &str, wanted: &[&str]) {
    check_service(config, "{name: hello}", &format!("{{template: {{spec: {pod}}}}}"), wanted);
}

/// Checks the only container, without its image.
#[track_caller]
fn check_container(container: &str, wanted: &[&str]) {
    check_pod(&Config::default(), &format!("{{containers: [{{image: fn:v1, {container}}}]}}"), wanted);
}

/// Checks a volume `v` that is mounted with these further fields.
#[track_caller]
fn check_volume(features: &[(&str, &str)], volume: &str, mount: &str, wanted: &[&str]) {
    let mounts = format!("[{{name: v, {mount}}}]");
    let pod = format!("{{containers: [{{image: fn:v1, volumeMounts: {mounts}}}], volumes: [{{name: v, {volume}}}]}}");
    check_pod(&config(features), &pod, wanted);
}

#[test]
fn names_are_labels() {
    let default = Config::default();
    let pod = "{template: {spec: {containers: [{image: fn:v1}]}}}";
    check_service(&default, "{name: hello}", pod, &[]);
    check_service(&default, "{generateName: hello-}", pod, &[]);
    check_service(&default, "{}", pod, &["name or generateName is required: metadata.name"]);
    check_service(&default, "{name: Hello}", pod, &["not a DNS 1035 label: $LABEL: metadata.name"]);
    check_service(
        &default,
        "{generateName: 12-}",
        pod,
        &["not a DNS 1035 label prefix: $LABEL: metadata.generateName"],
    );
}

#[test]
fn the_name_of_a_revision_begins_with_the_services() {
    let template =
        |metadata: &str| format!("{{template: {{metadata: {metadata}, spec: {{containers: [{{image: fn:v1}}]}}}}}}");
    let check = |metadata: &str, name: &str, wanted: &[&str]| {
        check_service(&Config::default(), metadata, &template(name), wanted);
    };
    check("{name: hello}", "{name: hello-v1}", &[]);
    check(
        "{name: hello}",
        "{name: hullo-v1}",
        &["invalid value: \"hullo-v1\" must have prefix \"hello-\": spec.template.metadata.name"],
    );
    check("{generateName: hello-}", "{name: hello-v1}", &["must not set the field(s): spec.template.metadata.name"]);
    check(
        "{name: hello}",
        "{generateName: Hello-}",
        &["invalid value: not a DNS 1035 label prefix: $LABEL: spec.template.metadata.generateName"],
    );
}

#[test]
fn annotations_of_all_kinds_are_checked_where_they_belong() {
    check_service(
        &Config::default(),
        "{name: hello, annotations: {autoscaling.knative.dev/min-scale: '1', serving.knative.dev/rolloutDuration: 1ms}}",
        "{template: {metadata: {annotations: {
            autoscaling.knative.dev/min-scale: x,
            autoscaling.knative.dev/target: NaN,
            serving.knative.dev/progress-deadline: -1s,
            networking.knative.dev/ingress-class: any,
            networking.knative.dev/typo: any,
            queue.sidecar.serving.knative.dev/resourcePercentage: '101',
            queue.sidecar.serving.knative.dev/memory-resource-limit: much,
            unknown.example.com/key: any
        }}, spec: {containers: [{image: fn:v1}]}}}",
        &[
            "expected 0.1 <= 101 <= 100: spec.template.metadata.annotations.[queue.sidecar.serving.knative.dev/resourcePercentage]",
            "invalid key name \"autoscaling.knative.dev/min-scale\": metadata.annotations",
            "autoscaling annotations must be put under \"spec.template.metadata.annotations\" to work",
            "invalid key name \"networking.knative.dev/typo\": spec.template.metadata.annotations",
            "invalid value: NaN: spec.template.metadata.annotations.autoscaling.knative.dev/target",
            "must be a finite number",
            "invalid value: much: spec.template.metadata.annotations.[queue.sidecar.serving.knative.dev/memory-resource-limit]",
            "invalid value: x: spec.template.metadata.annotations.autoscaling.knative.dev/min-scale",
            "progress-deadline=-1s must be positive: spec.template.metadata.annotations.serving.knative.dev/progress-deadline",
            "rollout-duration=1ms is not at second precision: metadata.annotations.serving.knative.dev/rolloutDuration",
        ],
    );
}

#[test]
fn only_some_fields_of_a_pod_are_allowed() {
    check_pod(
        &Config::default(),
        "{containers: [{image: fn:v1}], nodeName: node-1, hostIPC: true, hostPID: false, automountServiceAccountToken: true, \
         tolerations: [], serviceAccountName: A_b, imagePullSecrets: [{name: s}]}",
        &[
            "invalid value: A_b: $POD.serviceAccountName",
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "must not set the field(s): $POD.automountServiceAccountToken, $POD.hostIPC, $POD.nodeName, $POD.tolerations",
        ],
    );
    let flags = [("kubernetes.podspec-hostipc", "allowed"), ("kubernetes.podspec-tolerations", "enabled")];
    check_pod(
        &config(&flags),
        "{containers: [{image: fn:v1}], hostIPC: true, tolerations: [], automountServiceAccountToken: false}",
        &[],
    );
}

#[test]
fn the_pods_own_rights_stand_behind_flags() {
    let pod = |context: &str| format!("{{containers: [{{image: fn:v1}}], securityContext: {context}}}");
    let user = pod("{runAsUser: -1, supplementalGroups: [1, 2147483648]}");
    check_pod(
        &Config::default(),
        &user,
        &[
            "expected 0 <= -1 <= 2147483647: $POD.securityContext.runAsUser",
            "expected 0 <= 2147483648 <= 2147483647: $POD.securityContext.supplementalGroups[1]",
            "must not set the field(s): $POD.securityContext, $POD.securityContext.runAsUser, \
             $POD.securityContext.supplementalGroups",
        ],
    );
    let allowed = config(&[("kubernetes.podspec-securitycontext", "enabled")]);
    check_pod(&allowed, &pod("{runAsUser: 1, fsGroup: 2, seccompProfile: {type: Localhost}}"), &[]);
    check_pod(&allowed, &pod("{sysctls: []}"), &["must not set the field(s): $POD.securityContext.sysctls"]);
    let secure = config(&[("secure-pod-defaults", "enabled")]);
    check_pod(&secure, &pod("{seccompProfile: {type: Unconfined}}"), &[]);
    check_pod(
        &secure,
        &pod("{seccompProfile: {type: Localhost}}"),
        &["must not set the field(s): $POD.securityContext.seccompProfile"],
    );
}

#[test]
fn concurrency_and_timeouts_have_limits() {
    let pod = |fields: &str| format!("{{containers: [{{image: fn:v1}}], {fields}}}");
    let default = Config::default();
    check_pod(&default, &pod("containerConcurrency: 1000, timeoutSeconds: 600"), &[]);
    check_pod(
        &default,
        &pod("containerConcurrency: -1, timeoutSeconds: 601"),
        &["expected 0 <= -1 <= 1000: $POD.containerConcurrency", "expected 0 <= 601 <= 600: $POD.timeoutSeconds"],
    );
}

#[test]
fn traffic_is_split_among_clear_targets() {
    let check = |traffic: &str, wanted: &[&str]| {
        let spec = format!("{{template: {{spec: {{containers: [{{image: fn:v1}}]}}}}, traffic: {traffic}}}");
        check_service(&Config::default(), "{name: hello}", &spec, wanted);
    };
    check("[{percent: 60, tag: a}, {revisionName: hello-00001, percent: 40, tag: b}]", &[]);
    check(
        "[{percent: 101, tag: a, url: http://x}, {revisionName: 'b ar', latestRevision: true, tag: a}]",
        &[
            "Multiple definitions for \"a\": spec.traffic[0].tag, spec.traffic[1].tag",
            "Traffic targets sum to 101, want 100: spec.traffic",
            "expected 0 <= 101 <= 100: spec.traffic[0].percent",
            "invalid key name \"b ar\": spec.traffic[1].revisionName",
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
             alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
             '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "may not set revisionName \"b ar\" when latestRevision is true: spec.traffic[1].latestRevision",
            "must not set the field(s): spec.traffic[0].url",
        ],
    );
}
