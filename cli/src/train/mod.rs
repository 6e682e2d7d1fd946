//! `fovea train`: makes a run on the volumes and has a trainer of this machine work on it, in front of whoever asked.
//!
//! The run is one like any other: a page over the same volumes shows it while it goes on. That nobody else works on it
//! is the business of its lock.

mod settings;
mod show;
mod work;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use api::train::{RunLabel, RunState};
use clap::Args;
use store::{Run, Volumes};

use self::{
    show::{Bars, Json, Lines, Show},
    work::Trainer,
};
use crate::{installed, pick, runs, signals::StopSignals};

/// What a shell makes of a program that was interrupted.
const INTERRUPTED: u8 = 130;

/// What `fovea train` can be told.
#[derive(Args)]
pub struct Options {
    /// Dataset by its id, the beginning of its id, its name, or `latest`
    #[arg(long, value_name = "DATASET")]
    dataset: String,

    #[command(flatten)]
    settings: settings::Settings,

    /// Registry name to publish under
    #[arg(long, env = "FOVEA_MODEL", default_value = "classifier", value_name = "NAME")]
    model: String,

    /// What to call the run, one line
    #[arg(long, default_value = "", value_name = "TEXT")]
    name: String,

    /// The trainer's program [default: fovea-trainer beside this program]
    #[arg(long, env = "FOVEA_TRAINER", value_name = "PROGRAM")]
    trainer: Option<PathBuf>,

    /// Print one JSON object per line: the run, its progress, its results
    #[arg(long)]
    json: bool,
}

/// Trains; the exit code tells how the run ended.
pub fn run(options: &Options, volumes: &Volumes, out: &mut impl Write) -> Result<ExitCode> {
    let trainer = Trainer {
        program: match &options.trainer {
            Some(program) => program.clone(),
            None => installed::program(&installed::folder()?, "fovea-trainer", "trainer")?,
        },
        volumes: volumes.clone(),
        environment: installed::environment(),
    };
    // One thread is enough to wait on.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot set up a runtime")?;
    // Before there is a run, so that none is left behind by a signal.
    let mut stop = runtime.block_on(async { StopSignals::listen() })?;
    let run = create(options, volumes)?;
    let mut show: Box<dyn Show + '_> = match options.json {
        true => Box::new(Json::new(&mut *out)),
        false if io::stderr().is_terminal() => Box::new(Bars::new()),
        false => Box::new(Lines::new(io::stderr())),
    };
    show.begin(&run);
    let status = runtime.block_on(trainer.work(&run, &mut stop, &mut *show));
    let results = run.results();
    show.end(results.as_ref().ok().and_then(Option::as_ref));
    drop(show);
    let status = status?;
    match status.state {
        RunState::Succeeded if options.json => Ok(ExitCode::SUCCESS),
        RunState::Succeeded => {
            runs::describe(&run, volumes, out)?;
            Ok(ExitCode::SUCCESS)
        }
        RunState::Cancelled => {
            let _ = writeln!(io::stderr(), "run {} was cancelled", run.id());
            Ok(ExitCode::from(INTERRUPTED))
        }
        state => {
            let reason = status.reason.unwrap_or_else(|| "it does not say why".to_owned());
            bail!("run {} {}: {reason}; its log is {}", run.id(), state.name(), run.log_path().display())
        }
    }
}

/// Checks everything that can be checked before, so that no run is made that cannot begin.
fn create(options: &Options, volumes: &Volumes) -> Result<Run> {
    store::check_name("model", &options.model)?;
    let dataset = pick::dataset(volumes, &options.dataset)?;
    let spec = &dataset.manifest.preprocess;
    let hyperparameters = options.settings.hyperparameters();
    let backbones = installed::all_backbones(volumes)?;
    if let Err(wrong) = hyperparameters.resolve(&backbones, spec.width.max(spec.height)) {
        bail!("{}", wrong.join("; "));
    }
    let label = RunLabel { name: options.name.trim().to_owned(), notes: String::new() };
    let run = volumes.create_run(&dataset.manifest.id, &options.model, hyperparameters)?;
    if !label.name.is_empty()
        && let Err(error) = run.write_label(&label)
    {
        // Nobody has seen it yet.
        run.bury(RunState::Cancelled, "its name was refused")?;
        volumes.delete_run(run.id())?;
        return Err(error.into());
    }
    Ok(run)
}
