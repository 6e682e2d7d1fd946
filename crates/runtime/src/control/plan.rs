//! From a revision of a Knative Service to what runs here: its component, its confines, its limits.
//!
//! The image is what a cluster pulls; here the annotation `fovea.dev/component` names the component instead. Of the
//! volumes, persistent claims are mounted, read-only; what else a container may need is not for the function to see.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use activator::Timeouts;
use bytesize::ByteSize;
use http::uri::PathAndQuery;
use serving::{
    resource::{Container, RevisionSpec, Volume},
    revision::Revision,
};

use crate::{
    bake::Recipe,
    instance::Isolation,
    sandbox::{Confines, Limits, Mounted},
};

const COMPONENT: &str = "fovea.dev/component";
const ISOLATION: &str = "fovea.dev/isolation";
const MAX_REQUESTS: &str = "fovea.dev/max-requests";
const MAX_BODY: &str = "fovea.dev/max-body";
const MAX_RESPONSE: &str = "fovea.dev/max-response";
const MAX_LOG: &str = "fovea.dev/max-log";

/// Requests that a shared sandbox answers, unless its revision says otherwise.
const DEFAULT_MAX_REQUESTS: u32 = 10_000;

/// Longest request body, unless a revision says otherwise.
const DEFAULT_MAX_BODY: usize = 64 << 20;

/// Variables of a container that speak to the runtime in it, not to its function.
const RUNTIME_PREFIX: &str = "FOVEA_";

/// Where on this machine things are that a manifest names.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Folder of the components.
    pub components: PathBuf,
    /// The folders that persistent volume claims stand for.
    pub claims: BTreeMap<String, PathBuf>,
}

/// What a revision comes to on this machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    pub(crate) recipe: Recipe,
    pub(crate) isolation: Isolation,
    pub(crate) container_concurrency: u32,
    pub(crate) timeouts: Timeouts,
    pub(crate) max_body_bytes: usize,
    /// What an instance must answer with success before it counts as ready.
    pub(crate) ready: Option<PathAndQuery>,
}

/// What a manifest asks for and cannot get here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PlanError(String);

impl Plan {
    /// The plan of a revision of this Service.
    ///
    /// # Errors
    /// The first thing it asks for that cannot be had
    pub(crate) fn of(service: &str, revision: &Revision, places: &Places) -> Result<Self, PlanError> {
        let annotation = |key: &str| revision.metadata.annotations.get(key).map(String::as_str);
        let container = revision
            .spec
            .serving_container()
            .ok_or_else(|| PlanError("none of the containers has a port to serve at".to_owned()))?;
        let component = annotation(COMPONENT).ok_or_else(|| {
            PlanError(format!("the annotation {COMPONENT} is missing: it names the component that runs here"))
        })?;
        if component.is_empty() || component.contains(['/', '\\']) || component.starts_with('.') {
            return Err(PlanError(format!("{COMPONENT} is {component:?}; expected a component's name")));
        }
        let max_requests = match annotation(MAX_REQUESTS) {
            None => DEFAULT_MAX_REQUESTS,
            Some(text) => text.parse().ok().filter(|requests| *requests > 0).ok_or_else(|| {
                PlanError(format!("{MAX_REQUESTS} is {text:?}; expected a whole number of at least 1"))
            })?,
        };
        let isolation = match annotation(ISOLATION) {
            None | Some("request") => Isolation::Request,
            Some("instance") => Isolation::of(max_requests),
            Some(other) => return Err(PlanError(format!("{ISOLATION} is {other:?}; expected request or instance"))),
        };
        let defaults = Limits::default();
        let memory = container.resources.limits.get("memory").and_then(|memory| usize::try_from(memory.value()).ok());
        let limits = Limits {
            memory_bytes: memory.filter(|bytes| *bytes > 0).unwrap_or(defaults.memory_bytes),
            max_response_bytes: size(annotation(MAX_RESPONSE), MAX_RESPONSE)?.unwrap_or(defaults.max_response_bytes),
            max_log_bytes: size(annotation(MAX_LOG), MAX_LOG)?.unwrap_or(defaults.max_log_bytes),
        };
        let confines = Confines {
            name: revision.name.as_str().into(),
            env: environment(service, revision, container)?,
            mounted: mounted(&revision.spec, container, places)?,
            limits,
        };
        let probe = container.readiness_probe.as_ref().and_then(|probe| probe.http_get.as_ref());
        let ready = probe.map(|probe| {
            let path = if probe.path.is_empty() { "/" } else { &probe.path };
            path.parse().map_err(|_| PlanError(format!("the readiness probe's path {path:?} is no path")))
        });
        Ok(Self {
            recipe: Recipe { component: places.components.join(component).with_extension("wasm"), confines },
            isolation,
            container_concurrency: revision.spec.concurrency_limit(),
            timeouts: Timeouts {
                total: revision.spec.timeout().unwrap_or(Duration::from_secs(300)),
                response_start: revision.spec.response_start_timeout().unwrap_or_default(),
                idle: revision.spec.idle_timeout().unwrap_or_default(),
            },
            max_body_bytes: size(annotation(MAX_BODY), MAX_BODY)?.unwrap_or(DEFAULT_MAX_BODY),
            ready: ready.transpose()?,
        })
    }
}

fn size(text: Option<&str>, key: &str) -> Result<Option<usize>, PlanError> {
    let Some(text) = text else { return Ok(None) };
    let bytes = text.parse::<ByteSize>().ok().and_then(|size| usize::try_from(size.as_u64()).ok());
    match bytes.filter(|bytes| *bytes > 0) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(PlanError(format!("{key} is {text:?}; expected a size such as 64MiB"))),
    }
}

/// The function's whole environment: what the manifest says, and what Knative says of the revision.
fn environment(service: &str, revision: &Revision, container: &Container) -> Result<Vec<(String, String)>, PlanError> {
    if !container.env_from.is_empty() {
        return Err(PlanError("envFrom cannot be had here; write the variables out".to_owned()));
    }
    let mut environment = Vec::new();
    for variable in container.env.iter().filter(|variable| !variable.name.starts_with(RUNTIME_PREFIX)) {
        if variable.value_from.is_some() {
            let name = &variable.name;
            return Err(PlanError(format!("valueFrom of {name} cannot be had here; write its value out")));
        }
        environment.push((variable.name.clone(), variable.value.clone()));
    }
    let own = [("K_SERVICE", service), ("K_CONFIGURATION", service), ("K_REVISION", &revision.name)];
    environment.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    environment.push(("PORT".to_owned(), revision.spec.port().to_string()));
    Ok(environment)
}

/// The claims' folders that exist now; a function comes up without the others.
fn mounted(spec: &RevisionSpec, container: &Container, places: &Places) -> Result<Vec<Mounted>, PlanError> {
    let mut mounted = Vec::new();
    for mount in &container.volume_mounts {
        let Some(claim) = spec.volumes.iter().find(|volume| volume.name == mount.name).and_then(claim) else {
            continue;
        };
        let folder = places.claims.get(claim).ok_or_else(|| {
            PlanError(format!(
                "the volume claim {claim} stands for no folder here; name one with --claim {claim}=FOLDER"
            ))
        })?;
        if let Some(path) = inside(folder, &mount.sub_path)? {
            mounted.push(Mounted { path, guest: mount.mount_path.clone() });
        }
    }
    Ok(mounted)
}

/// The name of a persistent volume claim.
pub(crate) fn claim(volume: &Volume) -> Option<&str> {
    volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.as_str())
}

/// A folder in a claim's folder, without symbolic links; `None` while there is none.
///
/// # Errors
/// If it is a file, or if its links lead out of the claim
pub(crate) fn inside(claim: &Path, sub_path: &str) -> Result<Option<PathBuf>, PlanError> {
    let (Ok(root), Ok(path)) = (claim.canonicalize(), claim.join(sub_path).canonicalize()) else {
        return Ok(None);
    };
    if !path.starts_with(&root) {
        return Err(PlanError(format!("{} leads out of {}", claim.join(sub_path).display(), claim.display())));
    }
    if !path.is_dir() {
        return Err(PlanError(format!("{} is not a folder", path.display())));
    }
    Ok(Some(path))
}
