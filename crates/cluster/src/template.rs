//! Templates of Jobs: CronJobs of the namespace that are suspended for good. Whatever sets images and resources of
//! everything else sets theirs; this program adds only what differs from Job to Job.

use k8s_openapi::api::{
    batch::v1::{CronJob, Job, JobTemplateSpec},
    core::v1::{Container, EnvVar},
};
use kube::core::ObjectMeta;

use crate::{
    Cluster,
    error::{Action, ClusterError, Result},
    names,
};

/// Template of trainer Jobs.
pub(crate) const TRAIN: &str = "train";

/// Template of bake Jobs.
pub(crate) const BAKE: &str = "bake";

/// What makes a Job of a template.
pub(crate) struct Particulars<'a> {
    pub name: String,
    pub component: &'static str,
    pub annotations: Vec<(&'static str, String)>,
    pub arguments: Vec<String>,
    /// Variables that differ from the template's; those without a value are left out.
    pub environment: Vec<(&'static str, Option<String>)>,
    /// None leaves the template's.
    pub image: Option<&'a str>,
}

/// A template as it is at this moment.
pub(crate) struct Template {
    name: &'static str,
    spec: JobTemplateSpec,
}

impl Template {
    pub(crate) async fn read(cluster: &Cluster, name: &'static str) -> Result<Self> {
        let get = Action {
            verb: "get",
            resource: "cronjobs",
            group: "batch",
            name: Some(name),
            namespace: cluster.namespace(),
        };
        let template = cluster.api::<CronJob>().get(name).await.map_err(|error| get.failed(error))?;
        let spec = template.spec.job_template;
        let template = Self { name, spec };
        template.container()?;
        Ok(template)
    }

    fn container(&self) -> Result<&Container> {
        let pod = self.spec.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        match pod.map(|pod| pod.containers.as_slice()) {
            Some([container]) => Ok(container),
            _ => Err(self.unfit("must have one container in its pods' template")),
        }
    }

    fn unfit(&self, problem: &str) -> ClusterError {
        let problem = format!("{problem}; apply the manifests of knative/ again");
        ClusterError::Unfit { what: format!("the Job template (CronJob) {}", self.name), problem }
    }

    /// The value of an argument `--flag=value` of its container.
    ///
    /// # Errors
    /// `Unfit` if there is none
    pub(crate) fn argument(&self, flag: &str) -> Result<&str> {
        let arguments = self.container()?.args.iter().flatten();
        let mut values = arguments.filter_map(|argument| argument.strip_prefix(flag)?.strip_prefix('='));
        values.next().ok_or_else(|| self.unfit(&format!("must have an argument {flag}=…")))
    }

    /// A Job of this template.
    pub(crate) fn complete(self, cluster: &Cluster, particulars: Particulars<'_>) -> Job {
        let JobTemplateSpec { metadata, mut spec } = self.spec;
        let mut metadata: ObjectMeta = metadata.unwrap_or_default();
        let labels = [(names::COMPONENT, particulars.component), names::PART_OF];
        let labels = || labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let annotations = particulars.annotations.into_iter().map(|(key, value)| (key.to_owned(), value));
        metadata.name = Some(particulars.name);
        metadata.namespace = Some(cluster.namespace().to_owned());
        metadata.annotations.get_or_insert_default().extend(annotations);
        metadata.labels.get_or_insert_default().extend(labels());
        if let Some(pods) = spec.as_mut().map(|spec| &mut spec.template) {
            pods.metadata.get_or_insert_default().labels.get_or_insert_default().extend(labels());
            let containers = pods.spec.iter_mut().flat_map(|pod| &mut pod.containers);
            for container in containers {
                container.args.get_or_insert_default().extend(particulars.arguments.iter().cloned());
                container.image = particulars.image.map(str::to_owned).or(container.image.take());
                // The last lines of what fails become part of the reason. `File` is what the API server writes where a
                // template says nothing, and no program here writes such a file.
                container.termination_message_policy = Some("FallbackToLogsOnError".to_owned());
                let variables = container.env.get_or_insert_default();
                for (name, value) in &particulars.environment {
                    variables.retain(|variable| variable.name != *name);
                    if value.is_some() {
                        let (name, value) = ((*name).to_owned(), value.clone());
                        variables.push(EnvVar { name, value, value_from: None });
                    }
                }
            }
        }
        Job { metadata, spec, status: None }
    }
}
