//! The fields of a pod in a revision's spec.

use std::collections::BTreeSet;

use autoscaler::{FieldError, FieldErrors, go};

use super::container::{Pod, by_name, id_error};
use super::mask::disallowed;
use super::volume::validate_volumes;
use crate::config::Features;
use crate::name::dns_1123_subdomain_faults;
use crate::resource::{Container, ContainerPort, PodSecurityContext, RevisionSpec};

/// Checks all fields but Knative's own.
pub(super) fn validate_pod(spec: &RevisionSpec, features: &Features) -> FieldErrors {
    let containers = spec.containers();
    let mounted = spec.init_containers.iter().chain(containers).flat_map(|container| &container.volume_mounts);
    let mounted: BTreeSet<&str> = mounted.map(|mount| mount.name.as_str()).collect();
    let pod = Pod { volumes: by_name(&spec.volumes), features };
    let (port, port_error) = serving_port(containers);

    let container_errors = match containers {
        [] => FieldError::missing_field(["containers"]).into(),
        [only] => pod.validate_serving(only, &port).via_field_index("containers", 0),
        several => validate_containers(&pod, several, &port),
    };
    let account = &spec.service_account_name;
    let account_faults = if account.is_empty() { Vec::new() } else { dns_1123_subdomain_faults(account) };
    FieldErrors::from(disallowed(spec, &allowed_fields(spec, features)))
        .also(
            spec.security_context
                .iter()
                .flat_map(|context| validate_security_context(context, features).via_field("securityContext")),
        )
        .also(validate_volumes(&spec.volumes, &mounted, features).via_field("volumes"))
        .also(validate_init_containers(&pod, spec))
        .also(port_error.map(|error| error.via_field("containers[*]")))
        .also(container_errors)
        .also(
            account_faults
                .into_iter()
                .map(|fault| FieldError::invalid_value(account, "serviceAccountName").with_details(fault)),
        )
}

fn allowed_fields(spec: &RevisionSpec, features: &Features) -> Vec<&'static str> {
    let mut allowed = vec![
        "containerConcurrency",
        "timeoutSeconds",
        "responseStartTimeoutSeconds",
        "idleTimeoutSeconds",
        "serviceAccountName",
        "containers",
        "volumes",
        "imagePullSecrets",
        "enableServiceLinks",
    ];
    if spec.automount_service_account_token == Some(false) {
        allowed.push("automountServiceAccountToken");
    }
    if features.secure_pod_defaults.is_on() {
        allowed.push("securityContext");
    }
    let flagged = [
        ("affinity", features.pod_spec_affinity),
        ("topologySpreadConstraints", features.pod_spec_topology_spread_constraints),
        ("hostAliases", features.pod_spec_host_aliases),
        ("nodeSelector", features.pod_spec_node_selector),
        ("runtimeClassName", features.pod_spec_runtime_class_name),
        ("tolerations", features.pod_spec_tolerations),
        ("securityContext", features.pod_spec_security_context),
        ("shareProcessNamespace", features.pod_spec_share_process_namespace),
        ("priorityClassName", features.pod_spec_priority_class_name),
        ("schedulerName", features.pod_spec_scheduler_name),
        ("initContainers", features.pod_spec_init_containers),
        ("dnsPolicy", features.pod_spec_dns_policy),
        ("dnsConfig", features.pod_spec_dns_config),
        ("hostIPC", features.pod_spec_host_ipc),
        ("hostPID", features.pod_spec_host_pid),
        ("hostNetwork", features.pod_spec_host_network),
    ];
    allowed.extend(flagged.into_iter().filter(|(_, flag)| flag.is_allowed()).map(|(field, _)| field));
    allowed
}

/// The port that takes requests, and what is wrong with the ports of all containers together.
fn serving_port(containers: &[Container]) -> (ContainerPort, Option<FieldError>) {
    let count: usize = containers.iter().map(|container| container.ports.len()).sum();
    let mut port = containers.iter().rev().find_map(|container| container.ports.first()).cloned().unwrap_or_default();
    if port.name.is_empty() {
        port.name = "http".to_owned();
    }
    let error = match count {
        0 if containers.len() > 1 => Some(FieldError::missing_field(["ports"])),
        0 | 1 => None,
        _ => Some(
            FieldError::new("more than one container port is set", ["ports"])
                .with_details("Only a single port is allowed across all containers"),
        ),
    };
    (port, error)
}

/// A duplicate's prefix is put before all errors so far, as the webhook does.
fn validate_containers(pod: &Pod<'_>, containers: &[Container], port: &ContainerPort) -> FieldErrors {
    if !pod.features.multi_container.is_enabled() {
        let message = format!("multi-container is off, but found {} containers", containers.len());
        return FieldError::new(message, [] as [&str; 0]).into();
    }
    let mut names = BTreeSet::new();
    let mut errors = FieldErrors::new();
    for (index, container) in containers.iter().enumerate() {
        if !names.insert(&container.name) {
            errors = errors.also([duplicate_name(container)]).via_field_index("containers", index);
        }
        let found = if container.ports.is_empty() {
            pod.validate_sidecar(container)
        } else {
            pod.validate_serving(container, port)
        };
        errors.extend(found.via_field_index("containers", index));
    }
    errors
}

/// Paths say `containers` here too, as the webhook's do.
fn validate_init_containers(pod: &Pod<'_>, spec: &RevisionSpec) -> FieldErrors {
    let containers = &spec.init_containers;
    if containers.is_empty() {
        return FieldErrors::new();
    }
    if !pod.features.pod_spec_init_containers.is_enabled() {
        let message =
            format!("pod spec support for init-containers is off, but found {} init containers", containers.len());
        return FieldError::new(message, [] as [&str; 0]).into();
    }
    let mut errors = FieldErrors::new();
    for (index, container) in containers.iter().enumerate() {
        if spec.containers().iter().any(|other| other.name == container.name) {
            errors = errors.also([duplicate_name(container)]).via_field_index("containers", index);
        }
        errors.extend(pod.validate_init(container).via_field_index("containers", index));
    }
    errors
}

fn duplicate_name(container: &Container) -> FieldError {
    FieldError::new(format!("duplicate container name {}", go::quote(&container.name)), ["name"])
}

fn validate_security_context(context: &PodSecurityContext, features: &Features) -> FieldErrors {
    let mut allowed = Vec::new();
    let harmless = |kind: &str| matches!(kind, "RuntimeDefault" | "Unconfined");
    let profile = context.seccomp_profile.as_ref();
    if features.secure_pod_defaults.is_on()
        && profile.is_some_and(|profile| harmless(&profile.kind) && profile.localhost_profile.is_none())
    {
        allowed.push("seccompProfile");
    }
    if features.pod_spec_security_context.is_allowed() {
        allowed.extend(["runAsUser", "runAsGroup", "runAsNonRoot", "fsGroup", "supplementalGroups", "seccompProfile"]);
    }
    let groups = context.supplemental_groups.iter().enumerate();
    FieldErrors::from(disallowed(context, &allowed))
        .also(id_error(context.run_as_user, "runAsUser"))
        .also(id_error(context.run_as_group, "runAsGroup"))
        .also(id_error(context.fs_group, "fsGroup"))
        .also(groups.flat_map(|(index, group)| {
            FieldErrors::from(id_error(Some(*group), "")).via_field_index("supplementalGroups", index)
        }))
}
