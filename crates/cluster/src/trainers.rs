//! Trainers as Jobs: one for each attempt at a run, by a name that follows from both, so that whoever starts it twice
//! starts it once.

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
    /// Which attempt at the run it is, from 1.
    pub attempt: u32,
    /// What it does.
    pub state: JobState,
    /// Whether it failed because something outside ended its trainer: no memory, no node, no pod.
    pub was_killed: bool,
}

impl Trainers {
    /// Asks the cluster nothing yet.
    pub fn new(cluster: Cluster) -> Self {
        Self { jobs: Jobs::new(cluster.clone(), names::TRAINER, WORDING), cluster }
    }

    /// Makes the Job of an attempt at a run, from 1; `false` if it has one already, whoever made it.
    ///
    /// # Errors
    /// If the template is not there or unfit, or the cluster refuses the Job
    pub async fn start(&self, run: &str, attempt: u32) -> Result<bool> {
        let template = Template::read(&self.cluster, TRAIN).await?;
        let spec = format!("--spec={}/runs/{run}/run.json", template.argument("--models")?.trim_end_matches('/'));
        let mut annotations = vec![(names::RUN, run.to_owned())];
        if attempt > 1 {
            annotations.push((names::ATTEMPT, attempt.to_string()));
        }
        let particulars = Particulars {
            name: names::train_job(run, attempt),
            component: names::TRAINER,
            annotations,
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
            let attempt = observed.annotation(names::ATTEMPT).and_then(|n| n.parse().ok()).unwrap_or(1);
            Some(TrainerJob { run, attempt, state: observed.state, was_killed: observed.was_killed })
        });
        Ok(named.collect())
    }

    /// Deletes the Job of an attempt at a run; its trainer is asked to end, then killed. One that is not there is no error.
    ///
    /// # Errors
    /// If the cluster refuses
    pub async fn cancel(&self, run: &str, attempt: u32) -> Result<()> {
        self.jobs.delete(&names::train_job(run, attempt), None).await
    }

    /// The last lines that an attempt's trainer printed, at most so many bytes; nothing if its pod is gone.
    ///
    /// # Errors
    /// If the cluster refuses
    pub async fn log(&self, run: &str, attempt: u32, bytes: u64) -> Result<String> {
        self.jobs.log(&names::train_job(run, attempt), i64::try_from(bytes).unwrap_or(i64::MAX)).await
    }
}
