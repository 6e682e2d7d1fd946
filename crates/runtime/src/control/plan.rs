//! From a revision of a Knative Service to what runs here: its component, its confines, its limits.
//!
//! The image is what a cluster pulls; here the annotation `fovea.dev/component` names the component instead. Of the
//! volumes, persistent claims are mounted, read-only; what else a container may need is not for the function to see.
//! Where the variable [`MODEL_PATH`] names a folder of a claim, the function sees that folder, as [`MODEL_AT`], and
//! nothing else of the claim.

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

/// The variable that names the folder with a function's model, as the container sees it.
pub(crate) const MODEL_PATH: &str = "FOVEA_MODEL_PATH";

/// Where functions see their model.
pub const MODEL_AT: &str = "/model";

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
            env: environment(container)?,
            identity: identity(service, revision),
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

/// The environment that the manifest gives the function.
fn environment(container: &Container) -> Result<Vec<(String, String)>, PlanError> {
    if !container.env_from.is_empty() {
        return Err(PlanError("envFrom cannot be had here; write the variables out".to_owned()));
    }
    let variables = container.env.iter().filter(|variable| !variable.name.starts_with(RUNTIME_PREFIX));
    let variables = variables.map(|variable| match variable.value_from {
        None => Ok((variable.name.clone(), variable.value.clone())),
        Some(_) => Err(PlanError(format!("valueFrom of {} cannot be had here; write its value out", variable.name))),
    });
    variables.collect()
}

/// What Knative tells a container of its revision.
fn identity(service: &str, revision: &Revision) -> Vec<(String, String)> {
    let port = revision.spec.port().to_string();
    let own = [("K_SERVICE", service), ("K_CONFIGURATION", service), ("K_REVISION", &revision.name), ("PORT", &port)];
    own.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec()
}

/// The claims' folders that exist now; a function comes up without the others.
fn mounted(spec: &RevisionSpec, container: &Container, places: &Places) -> Result<Vec<Mounted>, PlanError> {
    let mut model = container.env.iter().find(|variable| variable.name == MODEL_PATH);
    if model.is_some_and(|model| model.value_from.is_some()) {
        return Err(PlanError(format!("valueFrom of {MODEL_PATH} cannot be had here; write its value out")));
    }
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
        let path = Path::new(&mount.sub_path);
        let held = model.take_if(|model| Path::new(&model.value).starts_with(&mount.mount_path));
        let (path, guest) = match held {
            Some(model) => {
                let below = Path::new(&model.value).strip_prefix(&mount.mount_path).unwrap_or(Path::new(""));
                (path.join(below), MODEL_AT)
            }
            None => (path.to_owned(), mount.mount_path.as_str()),
        };
        if let Some(path) = inside(folder, &path)? {
            mounted.push(Mounted { path, guest: guest.to_owned() });
        }
    }
    match model {
        Some(model) => Err(PlanError(format!("{MODEL_PATH} is {}, which no mounted volume claim holds", model.value))),
        None => Ok(mounted),
    }
}

/// The name of a persistent volume claim.
pub(crate) fn claim(volume: &Volume) -> Option<&str> {
    volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.as_str())
}

/// A folder in a claim's folder, without symbolic links; `None` while there is none.
///
/// # Errors
/// If it is a file, or if its links lead out of the claim
pub(crate) fn inside(claim: &Path, sub_path: &Path) -> Result<Option<PathBuf>, PlanError> {
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
