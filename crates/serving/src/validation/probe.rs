//! Probes. Where Knative's paths are odd, they are odd here too.

use autoscaler::{FieldError, FieldErrors};

use super::mask::disallowed;
use crate::resource::{ContainerPort, IntOrString, Probe};

const PROBE: [&str; 10] = [
    "exec",
    "httpGet",
    "tcpSocket",
    "grpc",
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
    "terminationGracePeriodSeconds",
];

/// Checks a probe of any kind. `port` is the one that takes requests; `None` for a container that takes none.
pub(super) fn validate_probe(probe: &Probe, port: Option<&ContainerPort>) -> FieldErrors {
    let mut errors = FieldErrors::from(disallowed(probe, &PROBE));
    let mut handlers = Vec::new();
    // Each kind's prefix is put before all errors so far, as the webhook does.
    if let Some(action) = &probe.http_get {
        handlers.push("httpGet");
        errors = errors.via_field("httpGet").also(validate_port(&action.port, port, "httpGet.port"));
    }
    if let Some(action) = &probe.tcp_socket {
        handlers.push("tcpSocket");
        errors = errors.via_field("tcpSocket").also(validate_port(&action.port, port, "tcpSocket.port"));
    }
    if probe.exec.is_some() {
        handlers.push("exec");
        errors = errors.via_field("exec");
    }
    if probe.grpc.is_some() {
        handlers.push("gRPC");
        errors = errors.via_field("grpc");
    }
    match handlers[..] {
        [] => errors.push(FieldError::missing_one_of(["httpGet", "tcpSocket", "exec", "grpc"])),
        [_] => {}
        _ => errors.push(FieldError::multiple_one_of(handlers)),
    }
    errors
}

fn validate_port(probed: &IntOrString, port: Option<&ContainerPort>, path: &str) -> Option<FieldError> {
    let details = match (probed, port) {
        (IntOrString::String(name), Some(port)) if !name.is_empty() && *name != port.name => {
            "Probe port must match container port"
        }
        (IntOrString::Int(0), None) => "Probe port must be specified",
        (IntOrString::String(name), None) if name.is_empty() => "Probe port must be specified",
        _ => return None,
    };
    Some(FieldError::invalid_value(probed, path).with_details(details))
}

/// Checks a readiness probe, whose numbers Knative evaluates itself.
pub(super) fn validate_readiness_probe(probe: &Probe, port: Option<&ContainerPort>) -> FieldErrors {
    let at_least = |lowest: i32, value: i32, path: &str| {
        (value < lowest).then(|| FieldError::out_of_bounds(value, lowest, i32::MAX, path))
    };
    let errors = validate_probe(probe, port)
        .also(at_least(0, probe.period_seconds, "periodSeconds"))
        .also(at_least(0, probe.initial_delay_seconds, "initialDelaySeconds"))
        .also(at_least(1, probe.success_threshold, "successThreshold"));
    if probe.period_seconds != 0 {
        return errors.also(at_least(1, probe.timeout_seconds, "timeoutSeconds")).also(at_least(
            1,
            probe.failure_threshold,
            "failureThreshold",
        ));
    }
    let without_period = |value: i32, path: &str| {
        (value != 0).then(|| FieldError::new(format!("{path} is disallowed when periodSeconds is zero"), [path]))
    };
    errors
        .also(without_period(probe.failure_threshold, "failureThreshold"))
        .also(without_period(probe.timeout_seconds, "timeoutSeconds"))
}
