//! Trainers as Jobs: one for each run, by a name that follows from the run's id, so that whoever starts it twice starts
//! it once.

use crate::{
    Cluster,
    error::Result,
    jobs::Jobs,
    names,
    outcome::{JobState, Wording},
    template::{Particulars, TRAIN, Template},
};

const WORDING: Wording = Wording {
    who: "the trainer",
    memory: "give it more in the template (CronJob train), or train with smaller batches or smaller pictures",
    template: TRAIN,
};

/// The trainer Jobs of a cluster.
#[derive(Clone, Debug)]
pub struct Trainers {
    cluster: Cluster,
    jobs: Jobs,
}

/// A run's Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainerJob {
    /// Id of the run.
    pub run: String,
    /// What it does.
    pub state: JobState,
}

impl Trainers {
    /// Asks the cluster nothing yet.
    pub fn new(cluster: Cluster) -> Self {
        Self { jobs: Jobs::new(cluster.clone(), names::TRAINER, WORDING), cluster }
    }

    /// Makes the Job of a run; `false` if it has one already, whoever made it.
    ///
    /// # Errors
    /// If the template is not there or unfit, or the cluster refuses the Job
    pub async fn start(&self, run: &str) -> Result<bool> {
        let template = Template::read(&self.cluster, TRAIN).await?;
        let spec = format!("--spec={}/runs/{run}/run.json", template.argument("--models")?.trim_end_matches('/'));
        let particulars = Particulars {
            name: names::train_job(run),
            component: names::TRAINER,
            annotations: vec![(names::RUN, run.to_owned())],
            // Who serves is decided by publishing, with the part of the requests that somebody chose.
            arguments: vec![spec, "--keep-current".to_owned()],
            environment: vec![],
            image: None,
        };
        self.jobs.create(&template.complete(&self.cluster, particulars)).await
    }

    /// Every Job there is, with its run. Jobs that name no run are not ours.
    ///
    /// # Errors
    /// If the cluster does not tell
    pub async fn observe(&self) -> Result<Vec<TrainerJob>> {
        let observed = self.jobs.observe().await?.into_iter();
        let named = observed.filter_map(|observed| {
            let run = observed.annotation(names::RUN)?.to_owned();
            Some(TrainerJob { run, state: observed.state })
        });
        Ok(named.collect())
    }

    /// Deletes the Job of a run; its trainer is asked to end, then killed. A run without one is no error.
    ///
    /// # Errors
    /// If the cluster refuses
    pub async fn cancel(&self, run: &str) -> Result<()> {
        self.jobs.delete(&names::train_job(run), None).await
    }

    /// The last lines that a run's trainer printed, at most so many bytes; nothing if its pod is gone.
    ///
    /// # Errors
    /// If the cluster refuses
    pub async fn log(&self, run: &str, bytes: u64) -> Result<String> {
        self.jobs.log(&names::train_job(run), i64::try_from(bytes).unwrap_or(i64::MAX)).await
    }
}
