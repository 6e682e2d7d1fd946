//! Publishing a version: it is baked by a Job, then becomes part of the function's template, and so a revision, with the
//! part of the requests that was wished for. Promoting and rolling back are edits of the traffic alone.
//!
//! The wish lies in the bake Job's annotations, so it outlives whoever took it; any replica carries it out when the Job is
//! done, and deletes the Job. Two that do so at once are kept apart by the Service's resource version.

use api::{
    functions::{Phase, Publication, RevisionStatus, ServiceStatus, Stage},
    split::{Receiver, share_out},
};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    Cluster,
    error::{ClusterError, Result},
    functions::{ATTEMPTS, Functions, Look, contended},
    jobs::{Jobs, Observed},
    knative::{MODEL_VARIABLE, Service},
    names,
    outcome::{JobState, Wording},
    template::{BAKE, Particulars, Template},
};

pub(crate) const WORDING: Wording =
    Wording { who: "baking", memory: "give it more in the template (CronJob bake)", template: BAKE };

/// Publishes versions to one function of a cluster.
#[derive(Clone, Debug)]
pub struct Publisher {
    cluster: Cluster,
    functions: Functions,
    jobs: Jobs,
    function: String,
}

/// A version and what it is to get.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    model: String,
    version: u32,
    percent: u32,
}

/// How a function stands to a version.
enum Standing {
    /// This revision serves it.
    Ready(String),
    /// The present template is of it, and its revision may yet come to life.
    Coming,
    /// Neither.
    Absent,
}

impl Publisher {
    /// Publishes to the function of this name; asks the cluster nothing yet.
    pub fn new(cluster: Cluster, function: &str) -> Self {
        let jobs = Jobs::new(cluster.clone(), names::BAKE, WORDING);
        Self { functions: Functions::new(cluster.clone()), jobs, function: function.to_owned(), cluster }
    }

    /// Gives a version this part of the function's requests: at once where a revision serves it, otherwise as soon as it
    /// is baked. Wishes that are still being baked are given up for this one.
    ///
    /// # Errors
    /// If the cluster refuses, or the version has every request already and is to share them with nobody
    pub async fn publish(&self, model: &str, version: u32, percent: u32) -> Result<()> {
        let wish = Wish { model: model.to_owned(), version, percent };
        for other in self.jobs.observe().await? {
            if Wish::of(&other.job).is_some_and(|earlier| (&earlier.model, earlier.version) != (&wish.model, version)) {
                self.jobs.delete(&other.job.name_any(), other.job.uid()).await?;
            }
        }
        let edited = self
            .functions
            .edit(&self.function, |look| {
                let receiver = match look.standing(model, version) {
                    Standing::Ready(revision) => Some(revision),
                    Standing::Coming => None,
                    Standing::Absent => return Ok(None),
                };
                let receiver = receiver.as_deref().map_or(Receiver::Next, Receiver::Revision);
                let targets = share_out(&look.status, receiver, percent).ok_or_else(|| ClusterError::Unfit {
                    what: format!("{model} v{version}"),
                    problem: "gets every request already, and nothing else serves to share them with; publish another \
                              version first"
                        .to_owned(),
                })?;
                Ok(Some(json!({"spec": {"traffic": targets}})))
            })
            .await?;
        if edited { Ok(()) } else { self.bake(&wish).await }
    }

    /// Makes the Job that bakes a version, unless there is the very same already.
    async fn bake(&self, wish: &Wish) -> Result<()> {
        let look = self.functions.look_now(&self.function).await?;
        let path = pinned(&look.service, wish)?;
        let name = names::bake_job(&wish.model, wish.version);
        let observed = self.jobs.observe().await?;
        if let Some(Observed { job, state, .. }) = observed.iter().find(|observed| observed.job.name_any() == name) {
            let fails = matches!(state, JobState::Failed(_));
            let same_image = image(job) == look.service.spec.template.spec.image();
            if !fails && same_image && job.metadata.deletion_timestamp.is_none() && Wish::of(job).as_ref() == Some(wish)
            {
                return Ok(());
            }
            self.jobs.delete(&name, job.uid()).await?;
            if !self.jobs.gone(&name).await? {
                return Err(ClusterError::Contended { what: format!("the Job {name}") });
            }
        }
        let particulars = Particulars {
            name,
            component: names::BAKE,
            annotations: vec![
                (names::MODEL, wish.model.clone()),
                (names::VERSION, wish.version.to_string()),
                (names::PERCENT, wish.percent.to_string()),
            ],
            arguments: vec![],
            environment: vec![(MODEL_VARIABLE, Some(path))],
            // What is baked is what will be served.
            image: look.service.spec.template.spec.image(),
        };
        let template = Template::read(&self.cluster, BAKE).await?;
        self.jobs.create(&template.complete(&self.cluster, particulars)).await.map(drop)
    }

    /// Carries out the wishes of bake Jobs that are done. Whoever looks after the cluster calls this again and again.
    ///
    /// # Errors
    /// If the cluster refuses; what was not carried out is tried again next time
    pub async fn step(&self) -> Result<()> {
        for Observed { job, state, .. } in self.jobs.observe().await? {
            if let (JobState::Succeeded, Some(wish)) = (state, Wish::of(&job)) {
                self.carry_out(&job, &wish).await?;
            }
        }
        Ok(())
    }

    async fn carry_out(&self, job: &Job, wish: &Wish) -> Result<()> {
        let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
        for attempt in 0..ATTEMPTS {
            let look = self.functions.look_again(&self.function, attempt).await?;
            let done = look.service.template_annotation(names::BAKED_BY) == Some(&uid);
            // Looked for after the Service was: had somebody else carried it out since, the patch would conflict.
            let superseded = self.jobs.get(&name).await?.and_then(|job| job.uid()).as_ref() != Some(&uid);
            if done || superseded || self.functions.patch(&look, template_patch(&look, wish, &uid)?).await? {
                return self.jobs.delete(&name, Some(uid)).await;
            }
        }
        Err(contended(&self.function))
    }

    /// Versions that are being baked or could not be, and the one whose revision is coming to life or failed to.
    ///
    /// # Errors
    /// If the cluster does not tell
    pub async fn publications(&self) -> Result<Vec<Publication>> {
        let told = |Observed { job, state, .. }: Observed| {
            let Wish { model, version, percent } = Wish::of(&job)?;
            let (stage, reason) = match state {
                JobState::Waiting(reason) => (Stage::Baking, reason),
                JobState::Running | JobState::Succeeded => (Stage::Baking, None),
                JobState::Failed(reason) => (Stage::Failed, Some(reason)),
            };
            Some(Publication { model, version, percent, stage, reason })
        };
        let mut publications: Vec<_> = self.jobs.observe().await?.into_iter().filter_map(told).collect();
        publications.extend(self.functions.look_now(&self.function).await?.coming());
        Ok(publications)
    }

    /// Publishes the version in use where the function's template names a link and no version: a revision whose model may
    /// change under it is none. Does nothing where one is published, or is being baked.
    ///
    /// # Errors
    /// As [`Publisher::publish`]
    pub async fn pin(&self, model: &str, current: u32) -> Result<bool> {
        let look = self.functions.look_now(&self.function).await?;
        let Some((prefix, leaf)) = look.service.spec.template.spec.model_path().and_then(|path| path.rsplit_once('/'))
        else {
            return Ok(false);
        };
        let is_link = leaf.strip_prefix('v').is_none_or(|version| version.parse::<u32>().is_err());
        if !is_link || prefix.rsplit('/').next() != Some(model) || !self.jobs.observe().await?.is_empty() {
            return Ok(false);
        }
        self.bake(&Wish { model: model.to_owned(), version: current, percent: 100 }).await.map(|()| true)
    }
}

impl Look {
    /// The version that was published and has no revision yet: its template is there, and Knative has not taken note.
    fn coming(&self) -> Option<Publication> {
        let template = RevisionStatus {
            mounted: self.service.spec.template.spec.model_path().map(str::to_owned).into_iter().collect(),
            ..RevisionStatus::default()
        };
        let (model, version) = template.model()?;
        let latest = self.status.latest_created.as_ref();
        let newest = self.status.revisions.iter().find(|revision| Some(&revision.name) == latest);
        if self.service.is_settled() && newest.is_some_and(|newest| newest.model() == Some((model, version))) {
            return None;
        }
        let latest = self.service.spec.traffic.iter().filter(|target| target.latest_revision == Some(true));
        let percent = latest.filter_map(|target| target.percent).sum();
        Some(Publication { model: model.to_owned(), version, percent, stage: Stage::Starting, reason: None })
    }

    fn standing(&self, model: &str, version: u32) -> Standing {
        let serves = |name: &str| {
            let told = self.status.revisions.iter().find(|revision| revision.name == name);
            told.filter(|revision| revision.model() == Some((model, version)))
        };
        let image = self.service.spec.template.spec.image();
        let same_image = self.revisions.iter().filter(|revision| revision.spec.image() == image);
        let mut names: Vec<_> =
            same_image.map(|revision| (revision.generation(), revision.metadata.name.as_deref())).collect();
        names.sort_unstable();
        let newest_first = names.into_iter().rev().filter_map(|(_, name)| name);
        let ready = newest_first.into_iter().find(|name| serves(name).is_some_and(|told| told.phase == Phase::Ready));
        if let Some(ready) = ready {
            return Standing::Ready(ready.to_owned());
        }
        let ServiceStatus { latest_created, .. } = &self.status;
        match latest_created.as_deref().and_then(serves) {
            Some(revision) if revision.phase == Phase::Preparing => Standing::Coming,
            _ => Standing::Absent,
        }
    }
}

impl Wish {
    fn of(job: &Job) -> Option<Self> {
        let annotation = |key: &str| job.annotations().get(key);
        Some(Self {
            model: annotation(names::MODEL)?.clone(),
            version: annotation(names::VERSION)?.parse().ok()?,
            percent: annotation(names::PERCENT)?.parse().ok()?,
        })
    }
}

fn image(job: &Job) -> Option<&str> {
    job.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.as_deref()
}

/// The folder of a version: beside the one that the template names now.
fn pinned(service: &Service, wish: &Wish) -> Result<String> {
    let models = service.spec.template.spec.model_path().and_then(|path| path.rsplit_once('/')?.0.rsplit_once('/'));
    let (models, _) = models.ok_or_else(|| ClusterError::Unfit {
        what: format!("the function {}", service.metadata.name.as_deref().unwrap_or_default()),
        problem: format!("has no {MODEL_VARIABLE} that names a model's folder; apply the manifests of knative/ again"),
    })?;
    Ok(format!("{models}/{}/v{}", wish.model, wish.version))
}

/// The template with the version in it, and the traffic, in one edit: there is no moment in which the new revision gets
/// more than it is to get.
fn template_patch(look: &Look, wish: &Wish, uid: &str) -> Result<Value> {
    let path = pinned(&look.service, wish)?;
    let everything = || share_out(&look.status, Receiver::Next, 100);
    let traffic = share_out(&look.status, Receiver::Next, wish.percent).or_else(everything);
    let mut containers = look.containers.clone();
    let variables = containers.pointer_mut("/0/env").and_then(Value::as_array_mut);
    let known =
        variables.and_then(|variables| variables.iter_mut().find(|variable| variable["name"] == MODEL_VARIABLE));
    if let Some(variable) = known {
        variable["value"] = json!(path);
    }
    Ok(json!({"spec": {
        "template": {
            // A name of its own would stand for the old template.
            "metadata": {"name": null, "annotations": {names::BAKED_BY: uid}},
            "spec": {"containers": containers},
        },
        "traffic": traffic,
    }}))
}
