//! Containers, their ports, variables, rights and probes.

use super::*;

#[test]
fn a_container_needs_an_image_and_no_reserved_name() {
    let check = |container: &str, wanted: &[&str]| {
        check_pod(&Config::default(), &format!("{{containers: [{container}]}}"), wanted);
    };
    check("{}", &["missing field(s): $POD.containers[0].image"]);
    check(
        "{name: queue-proxy, image: 'a b', lifecycle: {}, stdin: true, terminationMessagePolicy: Never}",
        &[
            "\"queue-proxy\" is a reserved container name: $POD.containers[0].name",
            "Failed to parse image reference: $POD.containers[0].image",
            "image: \"a b\", error: could not parse reference: a b",
            "invalid value: Never: $POD.containers[0].terminationMessagePolicy",
            "must not set the field(s): $POD.containers[0].lifecycle, $POD.containers[0].stdin",
        ],
    );
    check_pod(&Config::default(), "{}", &["missing field(s): $POD.containers"]);
    check_pod(&Config::default(), "{containers: []}", &["missing field(s): $POD.containers"]);
}

#[test]
fn there_is_one_port_and_not_a_reserved_one() {
    check_container("ports: [{containerPort: 8080, name: h2c, protocol: TCP}]", &[]);
    check_container(
        "ports: [{containerPort: 9090, hostPort: 1, hostIP: '::'}]",
        &[
            "invalid value: 9090 is a reserved port: $POD.containers[0].ports.containerPort",
            "9090 is a reserved port, please use a different value",
            "must not set the field(s): $POD.containers[0].ports.hostIP, $POD.containers[0].ports.hostPort",
        ],
    );
    check_container(
        "ports: [{containerPort: -1}]",
        &["expected 0 <= -1 <= 65535: $POD.containers[0].ports.containerPort"],
    );
}

#[test]
fn variables_have_names_and_known_sources() {
    check_container(
        "env: [{name: A, value: a}, {value: b}, {name: PORT}, {name: B, valueFrom: {fieldRef: {fieldPath: x}}}]",
        &[
            "\"PORT\" is a reserved environment variable: $POD.containers[0].env[2].name",
            "missing field(s): $POD.containers[0].env[1].name",
            "must not set the field(s): $POD.containers[0].env[3].valueFrom.fieldRef",
        ],
    );
    check_container("env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k, optional: true}}}]", &[]);
    check_container("envFrom: [{prefix: P_, configMapRef: {name: c}}]", &[]);
    check_container(
        "envFrom: [{}, {configMapRef: {name: c}, secretRef: {name: s}}]",
        &[
            "expected exactly one, got both: $POD.containers[0].envFrom.configMapRef, $POD.containers[0].envFrom.secretRef",
            // The second entry's prefixes stand before the first one's error.
            "expected exactly one, got neither: \
             $POD.containers[0].envFrom.configMapRef[1].secretRef[1].configMapRef, \
             $POD.containers[0].envFrom.configMapRef[1].secretRef[1].secretRef",
        ],
    );
}

#[test]
fn rights_of_a_container_are_limited() {
    check_container(
        "securityContext: {privileged: false, runAsUser: 0, capabilities: {drop: [ALL]}, seccompProfile: {type: X}}",
        &[],
    );
    check_container(
        "securityContext: {privileged: true, runAsGroup: -1, capabilities: {add: [ALL]}, procMount: Default}",
        &[
            "expected 0 <= -1 <= 2147483647: $POD.containers[0].securityContext.runAsGroup",
            "must not set the field(s): $POD.containers[0].securityContext.capabilities.add, \
             $POD.containers[0].securityContext.privileged, $POD.containers[0].securityContext.procMount",
        ],
    );
    check_container(
        "resources: {limits: {memory: 64Mi}, claims: []}",
        &["must not set the field(s): $POD.containers[0].resources.claims"],
    );
}

#[test]
fn probes_ask_the_port_that_takes_requests() {
    check_container("livenessProbe: {httpGet: {port: http}}, startupProbe: {exec: {command: [x]}}", &[]);
    check_container(
        "livenessProbe: {tcpSocket: {port: other}}, startupProbe: {}",
        &[
            "expected exactly one, got neither: $POD.containers[0].startupProbe.exec, \
             $POD.containers[0].startupProbe.grpc, $POD.containers[0].startupProbe.httpGet, \
             $POD.containers[0].startupProbe.tcpSocket",
            "invalid value: other: $POD.containers[0].livenessProbe.tcpSocket.port",
            "Probe port must match container port",
        ],
    );
    check_container(
        "readinessProbe: {periodSeconds: -1, initialDelaySeconds: -2, successThreshold: -3, httpGet: {}}",
        &[
            "expected 0 <= -1 <= 2147483647: $POD.containers[0].readinessProbe.periodSeconds",
            "expected 0 <= -2 <= 2147483647: $POD.containers[0].readinessProbe.initialDelaySeconds",
            "expected 1 <= -3 <= 2147483647: $POD.containers[0].readinessProbe.successThreshold",
        ],
    );
    check_container(
        "readinessProbe: {periodSeconds: 1, timeoutSeconds: -1, failureThreshold: -1, grpc: {port: 1}}",
        &["expected 1 <= -1 <= 2147483647: $POD.containers[0].readinessProbe.failureThreshold, \
             $POD.containers[0].readinessProbe.timeoutSeconds"],
    );
}

#[test]
fn sidecars_have_no_port_and_no_probes() {
    let two = |sidecar: &str| {
        format!("{{containers: [{{image: fn:v1, ports: [{{containerPort: 80}}]}}, {{image: fn:v1, {sidecar}}}]}}")
    };
    let default = Config::default();
    check_pod(&default, &two("env: [{name: PORT, value: '1'}]"), &[]);
    check_pod(
        &default,
        &two("livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 1}"),
        &[
            "must not set the field(s): $POD.containers[1].livenessProbe, $POD.containers[1].livenessProbe.periodSeconds",
        ],
    );
    let probing = config(&[("multi-container-probing", "enabled")]);
    check_pod(&probing, &two("livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 1}"), &[]);
    check_pod(
        &probing,
        &two("livenessProbe: {tcpSocket: {}}"),
        &["invalid value: 0: $POD.containers[1].livenessProbe.tcpSocket.port", "Probe port must be specified"],
    );
    check_pod(
        &default,
        &two("ports: [{containerPort: 81}]"),
        &[
            "more than one container port is set: $POD.containers[*].ports",
            "Only a single port is allowed across all containers",
        ],
    );
    check_pod(
        &default,
        "{containers: [{image: fn:v1, name: a}, {image: fn:v1, name: a}]}",
        &["duplicate container name \"a\": $POD.containers[1].name", "missing field(s): $POD.containers[*].ports"],
    );
    check_pod(
        &config(&[("multi-container", "disabled")]),
        &two(""),
        &["multi-container is off, but found 2 containers: "],
    );
}

#[test]
fn init_containers_stand_behind_a_flag() {
    let pod = |init: &str| format!("{{containers: [{{image: fn:v1, name: a}}], initContainers: [{init}]}}");
    check_pod(
        &Config::default(),
        &pod("{image: fn:v1}"),
        &[
            "must not set the field(s): $POD.initContainers",
            "pod spec support for init-containers is off, but found 1 init containers: ",
        ],
    );
    let enabled = config(&[("kubernetes.podspec-init-containers", "enabled")]);
    check_pod(&enabled, &pod("{image: fn:v1, env: [{name: PORT}], ports: [{name: any}, {containerPort: 8}]}"), &[]);
    check_pod(
        &enabled,
        &pod("{image: fn:v1, name: a, livenessProbe: {}, ports: [{containerPort: 8012}]}"),
        &[
            "duplicate container name \"a\": $POD.containers[0].name",
            "field not allowed in an init container: $POD.containers[0].livenessProbe",
            "invalid value: 8012 is a reserved port: $POD.containers[0].ports.containerPort",
            "8012 is a reserved port, please use a different value",
        ],
    );
}
