//! Containers: the one that takes requests, those beside it and those that run before.

use std::collections::BTreeMap;

use autoscaler::field_error::CURRENT_FIELD;
use autoscaler::{FieldError, FieldErrors, go};

use super::image::is_image_reference;
use super::mask::disallowed;
use super::probe::{validate_probe, validate_readiness_probe};
use super::volume::{Volumes, validate_mounts};
use crate::config::Features;
use crate::resource::{
    Capabilities, Container, ContainerPort, EnvFromSource, EnvVar, Probe, ResourceRequirements, SecurityContext,
};

const CONTAINER: [&str; 17] = [
    "name",
    "args",
    "command",
    "env",
    "workingDir",
    "envFrom",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
];
const RESERVED_NAME: &str = "queue-proxy";
const RESERVED_ENV: [&str; 3] = ["K_SERVICE", "K_CONFIGURATION", "K_REVISION"];
const RESERVED_PORTS: [i32; 6] = [8012, 8013, 8022, 9090, 9091, 8008];
const PORT_NAMES: [&str; 3] = ["", "h2c", "http1"];

/// What a container is there for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Serving,
    Sidecar,
    Init,
}

/// What is known of the pod of a container.
pub(super) struct Pod<'a> {
    pub(super) volumes: Volumes<'a>,
    pub(super) features: &'a Features,
}

impl Pod<'_> {
    /// Checks the container that takes the requests, at this port.
    pub(super) fn validate_serving(&self, container: &Container, port: &ContainerPort) -> FieldErrors {
        FieldErrors::new()
            .also(probe_errors(&container.liveness_probe, "livenessProbe", |probe| validate_probe(probe, Some(port))))
            .also(probe_errors(&container.readiness_probe, "readinessProbe", |probe| {
                validate_readiness_probe(probe, Some(port))
            }))
            .also(probe_errors(&container.startup_probe, "startupProbe", |probe| validate_probe(probe, Some(port))))
            .also(self.validate(container, Role::Serving))
    }

    /// Checks a container that takes no requests.
    pub(super) fn validate_sidecar(&self, container: &Container) -> FieldErrors {
        let probing = self.features.multi_container_probing.is_enabled();
        let any = |probe: &Probe| if probing { validate_probe(probe, None) } else { forbid_probe(probe) };
        let readiness =
            |probe: &Probe| if probing { validate_readiness_probe(probe, None) } else { forbid_probe(probe) };
        FieldErrors::new()
            .also(probe_errors(&container.liveness_probe, "livenessProbe", any))
            .also(probe_errors(&container.readiness_probe, "readinessProbe", readiness))
            .also(probe_errors(&container.startup_probe, "startupProbe", any))
            .also(self.validate(container, Role::Sidecar))
    }

    /// Checks a container that runs before the others.
    pub(super) fn validate_init(&self, container: &Container) -> FieldErrors {
        let forbidden = [
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
            ("lifecycle", container.lifecycle.is_some()),
        ];
        let errors = forbidden
            .into_iter()
            .filter(|(_, is_set)| *is_set)
            .map(|(field, _)| FieldError::new("field not allowed in an init container", [field]));
        self.validate(container, Role::Init).also(errors)
    }

    fn validate(&self, container: &Container, role: Role) -> FieldErrors {
        if *container == Container::default() {
            return FieldError::missing_field([CURRENT_FIELD]).into();
        }
        let name_error = (container.name == RESERVED_NAME)
            .then(|| FieldError::new(format!("{} is a reserved container name", go::quote(RESERVED_NAME)), ["name"]));
        let policy = &container.termination_message_policy;
        let known_policy = matches!(policy.as_str(), "" | "File" | "FallbackToLogsOnError");
        FieldErrors::from(disallowed(container, &CONTAINER))
            .also(name_error)
            .also(validate_env(&container.env, role, self.features).via_field("env"))
            .also(validate_env_from(&container.env_from).via_field("envFrom"))
            .also(validate_image(&container.image))
            .also(validate_ports(&container.ports, role).via_field("ports"))
            .also(validate_resources(&container.resources).via_field("resources"))
            .also(
                container
                    .security_context
                    .iter()
                    .flat_map(|context| validate_security_context(context, self.features).via_field("securityContext")),
            )
            .also((!known_policy).then(|| FieldError::invalid_value(policy, "terminationMessagePolicy")))
            .also(validate_mounts(&container.volume_mounts, &self.volumes, self.features).via_field("volumeMounts"))
    }
}

fn probe_errors(probe: &Option<Probe>, field: &str, check: impl Fn(&Probe) -> FieldErrors) -> FieldErrors {
    probe.as_ref().map(check).unwrap_or_default().via_field(field)
}

/// Refuses whatever a probe has set. What it does has no name of its own in the webhook's paths.
fn forbid_probe(probe: &Probe) -> FieldErrors {
    let Some(mut error) = disallowed(probe, &[]) else { return FieldErrors::new() };
    let is_handler = |path: &String| matches!(path.as_str(), "exec" | "httpGet" | "tcpSocket" | "grpc");
    if error.paths.iter().any(is_handler) {
        error.paths.retain(|path| !is_handler(path));
        error.paths.insert(0, CURRENT_FIELD.to_owned());
    }
    error.into()
}

fn validate_env(variables: &[EnvVar], role: Role, features: &Features) -> FieldErrors {
    let mut sources = vec!["configMapKeyRef", "secretKeyRef"];
    if features.pod_spec_field_ref.is_allowed() {
        sources.extend(["fieldRef", "resourceFieldRef"]);
    }
    let is_reserved = |name: &str| RESERVED_ENV.contains(&name) || name == "PORT" && role == Role::Serving;
    let check = |variable: &EnvVar| {
        let name = &variable.name;
        let name_error = if name.is_empty() {
            Some(FieldError::missing_field(["name"]))
        } else if is_reserved(name) {
            let message = format!("{} is a reserved environment variable", go::quote(name));
            Some(FieldError::new(message, ["name"]))
        } else {
            None
        };
        let source_error = variable.value_from.as_ref().and_then(|source| disallowed(source, &sources));
        FieldErrors::from(name_error).also(source_error.map(|error| error.via_field("valueFrom")))
    };
    variables.iter().enumerate().flat_map(|(index, variable)| check(variable).via_index(index)).collect()
}

/// The prefixes are put before all errors so far, and an entry's own error gets none, as the webhook does.
fn validate_env_from(sources: &[EnvFromSource]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, source) in sources.iter().enumerate() {
        if source.secret_ref.is_some() {
            errors = errors.via_field_index("secretRef", index);
        }
        if source.config_map_ref.is_some() {
            errors = errors.via_field_index("configMapRef", index);
        }
        let fields = ["configMapRef", "secretRef"];
        match (source.config_map_ref.is_some(), source.secret_ref.is_some()) {
            (true, true) => errors.push(FieldError::multiple_one_of(fields)),
            (false, false) => errors.push(FieldError::missing_one_of(fields)),
            _ => {}
        }
    }
    errors
}

fn validate_image(image: &str) -> Option<FieldError> {
    if image.is_empty() {
        Some(FieldError::missing_field(["image"]))
    } else if !is_image_reference(image) {
        let details = format!("image: {}, error: could not parse reference: {image}", go::quote(image));
        Some(FieldError::new("Failed to parse image reference", ["image"]).with_details(details))
    } else {
        None
    }
}

fn validate_ports(ports: &[ContainerPort], role: Role) -> FieldErrors {
    if role == Role::Init {
        return ports.iter().flat_map(validate_port).collect();
    }
    // There may be only one, which is checked for all containers together.
    let Some(port) = ports.first() else { return FieldErrors::new() };
    let mut errors = validate_port(port);
    if !matches!(port.protocol.as_str(), "" | "TCP") {
        errors.push(FieldError::invalid_value(&port.protocol, "protocol"));
    }
    if !PORT_NAMES.contains(&port.name.as_str()) {
        errors.push(
            FieldError::new(format!("Port name {} is not allowed", port.name), [CURRENT_FIELD])
                .with_details("Name must be empty, or one of: 'h2c', 'http1'"),
        );
    }
    errors
}

fn validate_port(port: &ContainerPort) -> FieldErrors {
    let number = port.container_port;
    let reserved = RESERVED_PORTS.contains(&number).then(|| {
        FieldError::invalid_value(format!("{number} is a reserved port"), "containerPort")
            .with_details(format!("{number} is a reserved port, please use a different value"))
    });
    let out_of_bounds = !(0..=65535).contains(&number);
    FieldErrors::from(disallowed(port, &["containerPort", "name", "protocol"]))
        .also(reserved)
        .also(out_of_bounds.then(|| FieldError::out_of_bounds(number, 0, 65535, "containerPort")))
}

fn validate_resources(resources: &ResourceRequirements) -> FieldErrors {
    disallowed(resources, &["limits", "requests"]).into()
}

fn validate_security_context(context: &SecurityContext, features: &Features) -> FieldErrors {
    let mut allowed = vec![
        "capabilities",
        "readOnlyRootFilesystem",
        "runAsUser",
        "runAsGroup",
        "runAsNonRoot",
        "allowPrivilegeEscalation",
        "seccompProfile",
    ];
    if context.privileged == Some(false) {
        allowed.push("privileged");
    }
    FieldErrors::from(disallowed(context, &allowed))
        .also(
            context
                .capabilities
                .iter()
                .flat_map(|capabilities| validate_capabilities(capabilities, features).via_field("capabilities")),
        )
        .also(id_error(context.run_as_user, "runAsUser"))
        .also(id_error(context.run_as_group, "runAsGroup"))
}

fn validate_capabilities(capabilities: &Capabilities, features: &Features) -> FieldErrors {
    let low_ports_only = features.secure_pod_defaults.is_on() && capabilities.add == ["NET_BIND_SERVICE"];
    let may_add = features.container_spec_add_capabilities.is_enabled() || low_ports_only;
    disallowed(capabilities, if may_add { &["add", "drop"] } else { &["drop"] }).into()
}

/// Refuses a user or group id that Linux does not have.
pub(super) fn id_error(id: Option<i64>, path: &str) -> Option<FieldError> {
    let highest = i64::from(i32::MAX);
    id.filter(|id| !(0..=highest).contains(id)).map(|id| FieldError::out_of_bounds(id, 0, highest, path))
}

/// The volumes of a pod by their names; of several with one name the last.
pub(super) fn by_name(volumes: &[crate::resource::Volume]) -> Volumes<'_> {
    volumes.iter().map(|volume| (volume.name.as_str(), volume)).collect::<BTreeMap<_, _>>()
}
