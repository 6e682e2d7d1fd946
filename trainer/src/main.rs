//! `fovea-trainer --spec run.json`: works on one run until it has a model, fails or is stopped.
//!
//! Progress goes to the run's folder and, as the same JSON lines, to standard output; everything else to standard error.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use api::train::Progress;
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use store::{Run, Volumes};
use trainer::{Job, Options, TrainerError, backbone::BACKBONES_VARIABLE, cache, checkpoint, promotion, search};

/// Trains one image classifier and publishes it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The run's `run.json`, where it lies: `<volume 2>/runs/<id>/run.json`
    #[arg(long)]
    spec: PathBuf,
    /// Root of volume 1, which holds `datasets/`
    #[arg(long, env = "FOVEA_DATA", default_value = "data")]
    datasets: PathBuf,
    /// Root of volume 2, which holds `runs/` and `models/`
    #[arg(long, env = "FOVEA_DATA", default_value = "data")]
    models: PathBuf,
    /// Leave the version in use in use; somebody else decides who serves. The first version is put into use all the same
    #[arg(long)]
    keep_current: bool,
    /// By how much a new version may be worse on the test pictures than the one in use and still take its place, 0 to 1
    #[arg(long, env = "FOVEA_PROMOTION_MARGIN", default_value_t = promotion::DEFAULT_MARGIN, value_parser = share)]
    margin: f64,
    /// How many times its budget a search may take before the clock stops it; what decides else is the same on every machine
    #[arg(long, env = "FOVEA_SEARCH_OVERRUN", default_value_t = search::DEFAULT_OVERRUN, value_parser = factor)]
    search_overrun: f64,
    /// Seconds between two checkpoints of a fit, at least
    #[arg(long, env = "FOVEA_CHECKPOINT_SECONDS", default_value_t = checkpoint::INTERVAL.as_secs_f64(), value_parser = seconds)]
    checkpoint_seconds: f64,
    /// Bytes that cached features of pictures may take
    #[arg(long, env = "FOVEA_FEATURES_CACHE_BYTES", default_value_t = cache::DEFAULT_LIMIT_BYTES)]
    features_cache_bytes: u64,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "expected a number from 0 to 86400".to_owned())
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| (1.0..=1000.0).contains(factor));
    factor.ok_or_else(|| "expected a number from 1 to 1000".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

/// What a shell makes of a program that was interrupted.
const CANCELLED: u8 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            match error.downcast_ref::<TrainerError>() {
                Some(TrainerError::Cancelled) => ExitCode::from(CANCELLED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let stopped = stop_on_signals().context("cannot listen to signals")?;
    let job = job(arguments)?;
    let version = job.work(&mut echo, &|| stopped.load(Ordering::Relaxed))?;
    eprintln!("published {} v{} at {}", version.manifest.name, version.manifest.version, version.dir.display());
    Ok(())
}

fn job(arguments: &Arguments) -> anyhow::Result<Job> {
    let volumes = Volumes::new(&arguments.datasets, &arguments.models);
    let path = std::path::absolute(&arguments.spec)?;
    let run = Run::open(path.parent().unwrap_or(Path::new("/")))?;
    let expected = volumes.runs_dir().join(run.id());
    if path.canonicalize().ok() != run.spec_path().canonicalize().ok() || !same_folder(&run.dir, &expected) {
        return Err(TrainerError::Misplaced { path, run: run.id().into(), expected }.into());
    }
    let options = Options {
        backbones: std::env::var_os(BACKBONES_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from),
        keep_current: arguments.keep_current,
        margin: arguments.margin,
        overrun: arguments.search_overrun,
        cache_bytes: arguments.features_cache_bytes,
        checkpoint_interval: Duration::from_secs_f64(arguments.checkpoint_seconds),
    };
    Ok(Job { volumes, run, options })
}

fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Sets a flag on the first signal; a second one ends the process at once.
fn stop_on_signals() -> std::io::Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, i32::from(CANCELLED), stopped.clone())?;
        signal_hook::flag::register(signal, stopped.clone())?;
    }
    Ok(stopped)
}

/// Whoever started the trainer may have gone: a closed pipe is no reason to stop training.
fn echo(progress: &Progress) {
    if let Ok(line) = serde_json::to_string(progress) {
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}
