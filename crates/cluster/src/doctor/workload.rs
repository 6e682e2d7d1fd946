//! What of Fovea is in the cluster: templates of Jobs, the web service, images, and the functions.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{ResourceExt, api::ListParams};

use super::{APPLY, Doctor, Finding, platform::is_available};
use crate::{
    error::{Action, Result},
    functions::Functions,
    template::{BAKE, TRAIN, Template},
};

const TEMPLATES: &str = "Job templates";
const WEB: &str = "web";
const IMAGES: &str = "images";
const FUNCTIONS: &str = "functions";
const VERSIONS: &str = "versions";

/// The functions that Fovea is made of.
const NAMES: [&str; 2] = ["preprocess", "inference"];

/// Why a container waits when its image is the reason.
const PULLING: [&str; 5] =
    ["ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"];

impl Doctor {
    /// Whether Jobs can be made.
    pub(super) async fn templates(&self) -> Vec<Finding> {
        for name in [TRAIN, BAKE] {
            if let Err(error) = Template::read(&self.cluster, name).await {
                return vec![match error.is(crate::error::Refusal::NotFound) {
                    true => Finding::failed(TEMPLATES, format!("there is no CronJob {name}"), APPLY),
                    false => Finding::unknown(TEMPLATES, &error),
                }];
            }
        }
        vec![Finding::ok(TEMPLATES, format!("{TRAIN} and {BAKE} are there"))]
    }

    /// Whether the web service runs, and is of this version.
    pub(super) async fn web(&self) -> Vec<Finding> {
        let namespace = self.namespace();
        let web = match self.find::<Deployment>(namespace, "deployments", "apps", WEB).await {
            Ok(Some(web)) => web,
            Ok(None) => return vec![Finding::failed(WEB, "the web service is not there", APPLY)],
            Err(error) => return vec![Finding::unknown(WEB, &error)],
        };
        let mut findings = vec![if is_available(&web) {
            Finding::ok(WEB, "it runs")
        } else {
            let mend = format!(
                "kubectl -n {namespace} describe deployment {WEB}; kubectl -n {namespace} logs deployment/{WEB}"
            );
            Finding::failed(WEB, "no pod of the web service is ready", mend)
        }];
        let pods = web.spec.and_then(|spec| spec.template.spec).unwrap_or_default();
        findings.extend(pods.containers.iter().filter_map(|c| self.of_this_version(WEB, c.image.as_deref()?)));
        findings
    }

    /// What an image's tag says of its version, where it has one.
    fn of_this_version(&self, whose: &str, image: &str) -> Option<Finding> {
        let name = image.split('@').next()?;
        let tag = name.rsplit('/').next()?.split_once(':')?.1;
        Some(if tag == self.version {
            Finding::ok(VERSIONS, format!("{whose} is {tag}, like this program"))
        } else {
            let says = format!("{whose} is {tag}, and this program is {}", self.version);
            Finding::warning(VERSIONS, says, format!("./run.sh up, or {APPLY} with images of {}", self.version))
        })
    }

    /// Whether some pod waits for an image.
    pub(super) async fn images(&self) -> Vec<Finding> {
        let pods = match self.pods().await {
            Ok(pods) => pods,
            Err(error) => return vec![Finding::unknown(IMAGES, &error)],
        };
        let waiting = pods.iter().flat_map(|pod| {
            let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            statuses.filter_map(|container| {
                let waiting = container.state.as_ref()?.waiting.as_ref()?;
                let reason = waiting.reason.as_deref().filter(|reason| PULLING.contains(reason))?;
                let message = waiting.message.as_deref().unwrap_or("no reason told");
                Some((
                    container.image.clone(),
                    format!("{} waits for {}: {reason}: {message}", pod.name_any(), container.image),
                ))
            })
        });
        let findings: Vec<_> = waiting
            .map(|(image, says)| {
                let mend = format!("cargo xtask images, then minikube image load {image}; or push it to a registry");
                Finding::failed(IMAGES, says, mend)
            })
            .collect();
        match findings.is_empty() {
            true => vec![Finding::ok(IMAGES, format!("none of {} pods waits for one", pods.len()))],
            false => findings,
        }
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        let list = Action { verb: "list", resource: "pods", group: "", name: None, namespace: self.namespace() };
        let pods = self.cluster.api::<Pod>().list(&ListParams::default()).await;
        Ok(pods.map_err(|error| list.failed(error))?.items)
    }

    /// Whether both functions are ready.
    pub(super) async fn functions(&self) -> Vec<Finding> {
        let services = match Functions::new(self.cluster.clone()).services().await {
            Ok(services) => services,
            Err(error) => return vec![Finding::unknown(FUNCTIONS, &error)],
        };
        let namespace = self.namespace();
        let mut findings = vec![];
        for name in NAMES {
            let finding = match services.iter().find(|service| service.name == name) {
                None => Finding::failed(FUNCTIONS, format!("there is no function {name}"), APPLY),
                Some(service) if service.ready => Finding::ok(FUNCTIONS, format!("{name} is ready at {}", service.url)),
                Some(service) => {
                    let reason = service.reason.as_deref().unwrap_or("no reason told");
                    let mend =
                        format!("kubectl -n {namespace} describe ksvc {name}; kubectl -n {namespace} get revisions");
                    Finding::failed(FUNCTIONS, format!("{name} is not ready: {reason}"), mend)
                }
            };
            findings.push(finding);
        }
        findings
    }
}
