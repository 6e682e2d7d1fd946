//! A data set that is uploaded, and training by a Job.

use api::{dataset::DatasetManifest, train::RunState};
use cluster::{
    JobState,
    trainers::{TrainerJob, Trainers},
};

use crate::{
    dataset::{self, LABELS, PER_LABEL},
    failure::{Failure, Result},
    report::Held,
    run::Run,
    wait::{Look, until},
    web::{NoAnswer, Web},
};

/// Most of a trainer's log that is told.
const LOG_BYTES: u64 = 4 << 10;

/// Uploads the pictures, and waits for the data set; its id.
///
/// # Errors
/// If none comes of it, or not one of all pictures
pub async fn upload(run: &Run, web: &Web<'_>) -> Result<(String, Held)> {
    web.reach().await?;
    let archive =
        dataset::archive().map_err(|error| Failure::new(format!("the pictures cannot be packed: {error}")))?;
    let patience = run.options.patience.train;
    let upload = until(&run.teller, "the upload", patience, async || look(web.upload(archive.clone()).await)).await?;
    let id = until(&run.teller, "the data set", patience, async || {
        let upload = match web.upload_state(&upload.id).await {
            Ok(upload) => upload,
            Err(no_answer) => return no_answer.look(),
        };
        match (upload.state.as_str(), upload.dataset) {
            ("succeeded", Some(id)) => Ok(Look::Done(id)),
            ("failed", _) => {
                let why = upload.error.map_or_else(|| "no reason told".to_owned(), |error| error.message);
                let left_out = upload.rejected.iter().map(|file| format!("{}: {}", file.name, file.message)).take(5);
                Err(Failure::new(format!("no data set came of the pictures: {why}")).seen(left_out))
            }
            _ => Ok(Look::Wait(format!("{}, {} of {}", upload.stage, upload.done, upload.total))),
        }
    });
    let id = id.await?;
    let manifest =
        until(&run.teller, "the data set's manifest", patience, async || look(web.dataset(&id).await)).await?;
    all_there(&manifest)?;
    let says =
        format!("{id}: {} pictures of {} kinds, each preprocessed by the function", manifest.pictures, LABELS.len());
    Ok((id, says.into()))
}

/// Whether every picture that was uploaded is in the data set.
fn all_there(manifest: &DatasetManifest) -> Result<()> {
    let classes: Vec<_> = manifest.classes.iter().map(|class| (class.name.as_str(), class.total())).collect();
    let expected = LABELS.map(|label| (label, PER_LABEL as u64));
    if classes == expected {
        return Ok(());
    }
    let left_out = manifest.rejected.iter().map(|file| format!("{}: {}", file.name, file.message)).take(5);
    Err(Failure::new(format!("the data set has {classes:?}; expected {expected:?}")).seen(left_out))
}

/// Trains, and waits until the Job has ended; the version that came out.
///
/// # Errors
/// If it fails, or was no Job
pub async fn train(run: &Run, web: &Web<'_>, dataset: &str, seed: u64) -> Result<(u32, Held)> {
    let patience = run.options.patience.train;
    let id = until(&run.teller, "training to begin", patience, async || look(web.train(dataset, seed).await)).await?.id;
    let trainers = Trainers::new(run.cluster.clone());
    let version = until(&run.teller, "the trainer", patience, async || {
        let training = match web.training(&id).await {
            Ok(training) => training,
            Err(no_answer) => return no_answer.look(),
        };
        match (training.status.state, training.status.version) {
            (RunState::Succeeded, Some(version)) => Ok(Look::Done((version, training.status.attempts.max(1)))),
            (RunState::Queued, _) => {
                Ok(Look::Wait(training.hindrance.unwrap_or_else(|| "it has not begun".to_owned())))
            }
            (RunState::Running, _) => Ok(Look::Wait("it works".to_owned())),
            (state, _) => {
                let why = training.status.reason.unwrap_or_else(|| format!("{state:?}, and no reason told"));
                let log = trainers
                    .log(&id, training.status.attempts.max(1), LOG_BYTES)
                    .await
                    .unwrap_or_else(|error| error.to_string());
                let log = log.lines().map(|line| format!("trainer: {line}")).collect::<Vec<_>>();
                Err(Failure::new(format!("training {id} failed: {why}")).seen(log))
            }
        }
    });
    let (version, attempt) = version.await?;
    let job = until(&run.teller, "the Job to end", patience, async || {
        let jobs = match trainers.observe().await {
            Ok(jobs) => jobs,
            Err(error) => return Look::failed(error),
        };
        match jobs.into_iter().find(|job| job.run == id && job.attempt == attempt) {
            Some(TrainerJob { state: JobState::Succeeded, .. }) => Ok(Look::Done(())),
            Some(TrainerJob { state: JobState::Failed(why), .. }) => {
                Err(Failure::new(format!("a version came out, and yet the Job failed: {why}")))
            }
            Some(_) => Ok(Look::Wait("it is still there".to_owned())),
            None => Err(Failure::new(format!("training {id} was no Job in {}", run.namespace()))),
        }
    });
    job.await?;
    Ok((version, format!("v{version} came of the Job {}", cluster::names::train_job(&id, attempt)).into()))
}

fn look<T>(answer: Result<T, NoAnswer>) -> Result<Look<T>> {
    match answer {
        Ok(answer) => Ok(Look::Done(answer)),
        Err(no_answer) => no_answer.look(),
    }
}
